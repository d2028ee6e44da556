#pragma once
/* Table schemas as Spark's JSON (Delta protocol, "Schema Serialization Format") and back.
 *
 * Nanosecond timestamps have no Delta type. They are stored as `long`, and the nearest enclosing
 * field's metadata says so: "weir.type": "timestamp_ns" (or "timestamp_ns_ntz") for the field
 * itself, "weir.type.element", "weir.type.key", "weir.type.value" and their dotted combinations for
 * what lies inside lists and maps. Other readers see integers: nanoseconds since the epoch. */
#include "batch/schema.h"
#include "lake/delta/snapshot.h"

/* Appends the schema's JSON text. */
int weir_delta_schema_format(const struct weir_schema *schema, struct weir_buffer *out,
                             struct weir_error *err) WEIR_MUST_CHECK;
/* Appends one field to the schema in `schema_string`, keeping all that is there. */
int weir_delta_schema_append(const char *schema_string, const struct weir_field *fields,
                             int32_t count, struct weir_buffer *out,
                             struct weir_error *err) WEIR_MUST_CHECK;
/* Fields of the schema text that may be null among `fields` may be null in it from then on. */
int weir_delta_schema_relax(struct weir_buffer *text, const struct weir_field *fields,
                            int32_t count, struct weir_error *err) WEIR_MUST_CHECK;
/* `*columns` has schema->count entries, freed by weir_delta_columns_free. */
int weir_delta_schema_parse(const char *schema_string, struct weir_schema **schema,
                            struct weir_delta_column **columns,
                            struct weir_error *err) WEIR_MUST_CHECK;
void weir_delta_columns_free(struct weir_delta_column *columns, int32_t count);
/* Name of the first field whose metadata has `key` (at any depth), copied into `name`. */
bool weir_delta_schema_has_metadata(const char *schema_string, const char *key, char *name,
                                    size_t name_size);
struct json_t;
/* The same of a schema or type parsed already. */
bool delta_schema_notes(const struct json_t *type, const char *key, char *name, size_t name_size);
/* One field; NULL without memory, or for a type Delta has none of. */
struct json_t *delta_field_json(const struct weir_field *field, struct weir_error *err);
/* Deepest timestamp type without zone in the schema? (needs the feature timestampNtz) */
bool weir_delta_schema_has_ntz(const struct weir_schema *schema);
