#pragma once
/* The schema compiled for reading JSON: what each field accepts, how its key looks in the text, and
 * which key most likely follows which. Private to the JSON decoder. */
#include "batch/schema.h"
#include "decode/avsc.h"
#include "decode/json/json_fast.h"

struct json_record;

/* A default, indexed once: read by the same code as data. */
struct json_default {
    uint8_t *text; /* padded; NULL when there is none */
    uint32_t *positions;
};

struct json_field {
    const struct weir_field *field;    /* borrowed from the schema */
    const struct weir_avsc_hint *hint; /* borrowed, never NULL */
    int64_t epoch_factor;              /* timestamps: column units in one epoch integer */
    int64_t per_second;                /* timestamps: column units a second */
    struct json_fast_minute minute;    /* timestamps: of the last one read */
    uint8_t *match;                    /* name and closing quote, as in unescaped JSON; padded */
    uint32_t match_length;
    uint32_t expected_length; /* of "name": with quotes and colon; 0: never expected */
    uint8_t expected[32];
    struct json_default default_;
    struct json_field *children; /* list: element; map: key, value */
    struct json_record *record;  /* struct */
    bool is_element;             /* of a list or map: no name of its own */
};

/* What a field goes by in data. */
struct json_name {
    const char *text; /* borrowed */
    uint16_t field;
};

struct json_record {
    struct json_field *fields;
    int32_t count;
    struct json_name *names; /* of each field its own, then aliases */
    uint16_t *after; /* after[i + 1]: field that last followed field i; after[0]: came first */
    uint16_t *slots; /* hash of names: their index + 1, 0 empty */
    uint32_t slot_mask;
    uint64_t *seen; /* bits, of the object being read */
    int32_t words;
};

int json_record_init(struct json_record *record, const struct weir_field *fields,
                     const struct weir_avsc_hint *hints, int32_t count,
                     struct weir_error *err) WEIR_MUST_CHECK;
void json_record_fini(struct json_record *record);
/* The field's default from now on, where it has none yet; `json` NULL: none. */
int json_field_default(struct json_field *f, const char *json,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* Index of the field with that name (unescaped), or -1. */
int32_t json_record_find(const struct json_record *record, const uint8_t *name, size_t length);
/* The same, of a key met in data: by an alias too. A name of a field is no other's alias. */
int32_t json_record_meant(const struct json_record *record, const uint8_t *name, size_t length);
