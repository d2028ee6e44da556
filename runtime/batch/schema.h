#pragma once
/* Schemas: ordered, named, typed fields. Immutable once shared; reference-counted. The text forms
 * ("decimal(12,2)", "list<string>", "struct<a: int64, b: string>", "map<string, int32>") are the
 * ones analysts write in `columns`. */
#include <stdbool.h>
#include <stdint.h>

#include "abi/abi.h"
#include "core/buffer.h"
#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_field {
    char *name;         /* owned */
    char *default_json; /* owned; JSON text of the default an absent field takes, or NULL */
    struct weir_field *children; /* owned; list: "element"; struct: fields; map: "key", "value" */
    int32_t child_count;
    uint8_t type; /* enum weir_type */
    uint8_t precision;
    int8_t scale;
    bool nullable;
};

struct weir_schema {
    int32_t references; /* atomic */
    int32_t count;
    struct weir_field *fields;
};

struct weir_schema *weir_schema_create(void); /* empty, one reference; NULL without memory */
struct weir_schema *weir_schema_ref(struct weir_schema *schema);
void weir_schema_unref(struct weir_schema *schema);

/* Appends a deep copy of `field`. Only before the schema is shared. */
int weir_schema_add(struct weir_schema *schema, const struct weir_field *field) WEIR_MUST_CHECK;
/* Appends a field of the given type text. */
int weir_schema_add_text(struct weir_schema *schema, const char *name, const char *type,
                         bool nullable, struct weir_error *err) WEIR_MUST_CHECK;
/* Index of the first field of that name, or -1. */
int32_t weir_schema_find(const struct weir_schema *schema, const char *name);
bool weir_schema_equal(const struct weir_schema *a, const struct weir_schema *b);
/* Of the first `count` fields, which both have. */
bool weir_schema_begins_equal(const struct weir_schema *a, const struct weir_schema *b,
                              int32_t count);
uint64_t weir_schema_hash(const struct weir_schema *schema);

/* Parses a type text into `field`, which has no children yet; name, default and nullable stay as
 * they are. On failure the field is left without a type and without children. */
int weir_field_parse_type(struct weir_field *field, const char *text,
                          struct weir_error *err) WEIR_MUST_CHECK;
int weir_field_format_type(const struct weir_field *field, struct weir_buffer *out) WEIR_MUST_CHECK;
int weir_field_copy(struct weir_field *to, const struct weir_field *from) WEIR_MUST_CHECK;
void weir_field_fini(struct weir_field *field);

/* Index of the child of that name, or -1. */
int32_t weir_field_find(const struct weir_field *field, const char *name);
/* Values of `from` are values of `to`: the same type, where structs, wherever they are in it, may
 * have members more, which may be null, in any order. */
bool weir_field_holds(const struct weir_field *to, const struct weir_field *from);
/* The same type, members of structs in the same order; whether they may be null does not matter. */
bool weir_field_same_type(const struct weir_field *a, const struct weir_field *b);

/* "int64", "string", … without parameters. */
const char *weir_type_name(enum weir_type type);
/* Bytes of one value; 0 for bool (bits), string, binary, list, struct, map. */
static inline int32_t weir_type_width(uint8_t type) {
    switch (type) {
    case WEIR_TYPE_INT8:
        return 1;
    case WEIR_TYPE_INT16:
        return 2;
    case WEIR_TYPE_INT32:
    case WEIR_TYPE_FLOAT:
    case WEIR_TYPE_DATE:
        return 4;
    case WEIR_TYPE_INT64:
    case WEIR_TYPE_DOUBLE:
    case WEIR_TYPE_TIMESTAMP:
    case WEIR_TYPE_TIMESTAMP_NTZ:
    case WEIR_TYPE_TIMESTAMP_NS:
    case WEIR_TYPE_TIMESTAMP_NS_NTZ:
        return 8;
    case WEIR_TYPE_DECIMAL:
        return 16;
    default:
        return 0;
    }
}

static inline bool weir_type_is_bytes(uint8_t type) {
    return type == WEIR_TYPE_STRING || type == WEIR_TYPE_BINARY;
}

static inline bool weir_type_is_nested(uint8_t type) {
    return type == WEIR_TYPE_LIST || type == WEIR_TYPE_STRUCT || type == WEIR_TYPE_MAP;
}

static inline bool weir_type_is_timestamp(uint8_t type) {
    return type >= WEIR_TYPE_TIMESTAMP && type <= WEIR_TYPE_TIMESTAMP_NS_NTZ;
}

#ifdef __cplusplus
}
#endif
