#pragma once
/* Following a table whose columns others change (Delta protocol, "Schema evolution"). */
#include "lake/delta/table_state.h"

/* Files to come hold these columns, by the table's names: a winner that removes one of them, or
 * gives it a type that is not a wider one, is an error. */
int delta_table_writes(struct weir_delta_table *table, const struct weir_schema *schema,
                       struct weir_error *err) WEIR_MUST_CHECK;
void delta_table_writes_fini(struct weir_delta_table *table);
/* After a refresh: the table is still the one that was opened, we may append to it, and it takes
 * what was made for it. WEIR_E_SCHEMA says what changed. */
int delta_table_follow(struct weir_delta_table *table, struct weir_error *err) WEIR_MUST_CHECK;
