#pragma once
/* Predicates on partition columns, as maintenance commands take them:
 *   event_date >= '2026-11-01' and country in ('DE', 'FR') and shop is not null
 * Comparisons =, !=, <>, <, <=, >, >=, IN, IS NULL, IS NOT NULL, joined by AND. Values are quoted
 * or bare; they are compared as the column's type, and a comparison with null is false. */
#include "lake/delta/snapshot.h"

struct delta_where;

/* WEIR_E_USAGE says where the text goes wrong; WEIR_E_SCHEMA names a column that is none of the
 * table's partitions. */
int delta_where_parse(const char *text, struct weir_delta_snapshot *snapshot,
                      struct delta_where **out, struct weir_error *err) WEIR_MUST_CHECK;
void delta_where_destroy(struct delta_where *where);
/* Do the file's partition values satisfy it? NULL: all do. */
bool delta_where_holds(const struct delta_where *where, const struct weir_delta_add *add);
