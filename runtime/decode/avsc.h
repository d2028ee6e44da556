#pragma once
/* .avsc files (Avro 1.11 schema JSON) as the language reader schemas are written in. Only the
 * declaration language is Avro's; the data may be JSON. The top level is a record.
 *
 *   Avro                                          column
 *   boolean int long float double string bytes    bool int32 int64 float double string binary
 *   int, "weir": "int8" | "int16"                 int8, int16 (Avro has no such types)
 *   bytes or fixed, logicalType decimal           decimal(precision, scale); in JSON a number or a
 * string int, date                                     date long, timestamp-millis |
 * timestamp-micros     timestamp; JSON integers count the named unit long, local-timestamp-millis |
 * -micros        timestamp_ntz; likewise long, timestamp-nanos | local-timestamp-nanos
 * timestamp_ns, timestamp_ns_ntz string, uuid                                  string enum string;
 * other symbols are rejected fixed                                         binary of exactly `size`
 * bytes
 *   ["null", T]                                   T, nullable
 *   array, map, record                            list, map<string, …>, struct
 *
 * A "default" is kept as JSON text; "aliases" are other names of the field in data. Other unions,
 * recursion, and logical types on the wrong base are errors (an unknown logical type is ignored, as
 * Avro asks). Spec: https://avro.apache.org/docs/1.11.1/specification/ */
#include "batch/schema.h"
#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What JSON needs to know of a field beyond its column type; shaped like the field tree. */
struct weir_avsc_hint {
    bool epoch_millis;    /* timestamps: integers are milliseconds */
    int32_t fixed_bytes;  /* binary: exact length, 0 for any */
    int32_t symbol_count; /* string: enum symbols, 0 for any text */
    int32_t child_count;
    char **symbols; /* owned */
    char **aliases; /* owned; names the field also goes by in data */
    int32_t alias_count;
    struct weir_avsc_hint *children; /* owned; as weir_field.children */
};

struct weir_avsc {
    struct weir_schema *schema;   /* one reference */
    struct weir_avsc_hint *hints; /* schema->count of them */
    char *name;                   /* the record's name */
    char *doc;                    /* or NULL */
};

/* Errors name the file, line and column (JSON syntax) or the path inside the schema
 * ("fields[3] \"price\": …"), and the way out: WEIR_E_NOTFOUND, WEIR_E_SYNTAX, WEIR_E_SCHEMA. */
int weir_avsc_load(const char *path, struct weir_avsc *out, struct weir_error *err) WEIR_MUST_CHECK;
/* `origin` names the text in errors. */
int weir_avsc_parse(const char *origin, const char *text, size_t length, struct weir_avsc *out,
                    struct weir_error *err) WEIR_MUST_CHECK;
void weir_avsc_fini(struct weir_avsc *avsc);

#ifdef __cplusplus
}
#endif
