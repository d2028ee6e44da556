#pragma once
/* Joins of the simulated project (PROGRAM_JOINS), and a model of them that looks at every pair of
 * rows: what their tables must hold, given the sales that are in `silver/sale`. An interval join
 * with a condition and a temporal join of what it makes, a regular join with a condition of a model
 * that changes, and the rows that have none of it. */
#include "lake/store/store.h"

/* The pipeline, its rules and landing files, below the working directory. */
void joined_write(void);
/* Fails where a table holds another row than the model says. */
void assert_joined(struct weir_store *store);
