#pragma once
/* Avro schemas as trees (Avro 1.11 specification, "Schema Declaration"): what is on the wire, types
 * that contain themselves included. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

struct json_t;

enum avro_kind {
    AVRO_NULL,
    AVRO_BOOLEAN,
    AVRO_INT,
    AVRO_LONG,
    AVRO_FLOAT,
    AVRO_DOUBLE,
    AVRO_BYTES,
    AVRO_STRING,
    AVRO_FIXED,
    AVRO_ENUM,
    AVRO_ARRAY,
    AVRO_MAP,
    AVRO_RECORD,
    AVRO_UNION,
};

enum avro_logical {
    AVRO_PLAIN,
    AVRO_DECIMAL,
    AVRO_DATE,
    AVRO_TIMESTAMP, /* with `unit`; local ones too */
};

struct avro_type;

struct avro_field {
    char *name;
    char **aliases;
    int32_t alias_count;
    char *default_json; /* JSON text, NULL: none */
    const struct avro_type *type;
};

struct avro_type {
    enum avro_kind kind;
    enum avro_logical logical;
    int64_t per_second; /* timestamps: units a second */
    int32_t precision;
    int32_t scale;
    int32_t size;       /* fixed: bytes */
    char *name;         /* full name of record, enum, fixed; NULL else */
    char *connect_name; /* what Kafka Connect calls the type; NULL: nothing */
    char **symbols;
    int32_t symbol_count;
    int32_t default_symbol; /* -1: none */
    struct avro_field *fields;
    int32_t field_count;
    const struct avro_type **branches; /* union; array and map: the one of items */
    int32_t branch_count;
    struct avro_type *next; /* all types of a schema, for freeing */
};

/* A parsed schema and the named types it may refer to. Zero-initialise. */
struct avro_schema {
    const struct avro_type *top;
    struct avro_type *types; /* owned */
    struct json_t *named;    /* full name → index into by_index */
    struct avro_type **by_index;
    int32_t named_count;
    int32_t named_capacity;
};

/* Adds the types of `text` to the schema and makes it the top: references are parsed first, into
 * the same schema. WEIR_E_SCHEMA says what is wrong where. */
int avro_schema_parse(struct avro_schema *schema, const char *text, size_t length,
                      const char *origin, struct weir_error *err) WEIR_MUST_CHECK;
void avro_schema_fini(struct avro_schema *schema);
const char *avro_kind_name(enum avro_kind kind);

/* The schema's CRC-64-AVRO, as a single object begins with it. False without memory, or where the
 * schema has too many names. */
bool avro_fingerprint(const struct avro_type *type, uint64_t *out) WEIR_MUST_CHECK;
