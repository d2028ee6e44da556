#pragma once
/* Changes to a table's schema in its JSON form, and to its protocol, that alter.c and create.c
 * make.
 */
#include "lake/delta/table_state.h"

struct json_t;

/* Column mapping is turned on for files that exist: every field gets an id above *max, and its name
 * stays the one the files have. */
int delta_mapping_keep_names(struct json_t *schema, int64_t *max,
                             struct weir_error *err) WEIR_MUST_CHECK;
/* A top-level field of this type from now on; its metadata remembers what it was, as readers of
 * older files want. WEIR_E_SCHEMA where the type is not wider. */
int delta_schema_widen_field(struct json_t *field, const char *type,
                             struct weir_error *err) WEIR_MUST_CHECK;
/* The same of every field of a schema text that is wider among `fields` than in `have`. */
int delta_schema_widen(struct weir_buffer *text, const struct weir_schema *have,
                       const struct weir_field *fields, int32_t count,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* Rows of `want` can lie in the column `have`, once members that its structs lack were added, which
 * *grows then says (it is never cleared); those they have more are null. */
bool delta_meets(const struct weir_field *have, const struct weir_field *want, bool *grows);
/* Structs of a schema text gain the members they lack among `fields`, by name; null is allowed. */
int delta_schema_grow(struct weir_buffer *text, const struct weir_field *fields, int32_t count,
                      struct weir_error *err) WEIR_MUST_CHECK;
/* A protocol action that adds features which readers and writers must know to what the table has.
 * Raising an old protocol to 3/7 lists every feature the old version implied. */
int delta_protocol_add(const struct weir_delta_protocol *now, const char *const *features,
                       int32_t count, struct weir_buffer *out) WEIR_MUST_CHECK;
