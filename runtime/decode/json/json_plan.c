#include "decode/json/json_plan.h"

#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "decode/decoder.h"
#include "decode/json/json_index.h"

enum { FIELDS_MAX = 16384, DEPTH_MAX = 32 };

static const struct weir_avsc_hint no_hint;

static int init_field(struct json_field *f, const struct weir_field *field,
                      const struct weir_avsc_hint *hint, int depth, struct weir_error *err);

static int out_of_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "json decoder: out of memory");
}

int json_field_default(struct json_field *f, const char *json, struct weir_error *err) {
    if (json == NULL || f->default_.text != NULL) {
        return WEIR_OK;
    }
    size_t length = strlen(json);
    struct weir_json_index *index = weir_json_index_create();
    f->default_.text = calloc(1, length + 2 * WEIR_DECODE_PADDING);
    int rc = index == NULL || f->default_.text == NULL ? out_of_memory(err) : WEIR_OK;
    if (rc == WEIR_OK) {
        memcpy(f->default_.text, json, length);
        uint32_t *positions = NULL;
        uint32_t count = 0;
        if (weir_json_index_run(index, f->default_.text, length, &positions, &count) !=
            WEIR_JSON_INDEXED) {
            rc = weir_error_set(err, WEIR_E_SCHEMA, "field \"%s\": its default %s is not JSON",
                                f->field->name, json);
        } else {
            size_t bytes = ((size_t)count + 1) * sizeof(uint32_t);
            f->default_.positions = malloc(bytes);
            if (f->default_.positions == NULL) {
                rc = out_of_memory(err);
            } else {
                memcpy(f->default_.positions, positions, bytes);
            }
        }
    }
    weir_json_index_destroy(index);
    return rc;
}

/* Keys that JSON must escape are found by the slow lookup only. */
static bool is_plain(const char *name) {
    for (const char *p = name; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == '"' || *p == '\\') {
            return false;
        }
    }
    return true;
}

static int init_match(struct json_field *f, struct weir_error *err) {
    size_t length = strlen(f->field->name) + 1;
    f->match = calloc(1, length + JSON_FAST_BYTES);
    if (f->match == NULL) {
        return out_of_memory(err);
    }
    memcpy(f->match, f->field->name, length - 1);
    f->match[length - 1] = '"';
    f->match_length = (uint32_t)length;
    if (!is_plain(f->field->name)) {
        f->match[0] = 0xff; /* no UTF-8 text has this byte */
    } else if (length + 2 < JSON_FAST_BYTES) {
        f->expected_length = (uint32_t)length + 2;
        f->expected[0] = '"';
        memcpy(f->expected + 1, f->match, length);
        f->expected[length + 1] = ':';
    }
    return WEIR_OK;
}

static void init_times(struct json_field *f) {
    bool nanos =
        f->field->type == WEIR_TYPE_TIMESTAMP_NS || f->field->type == WEIR_TYPE_TIMESTAMP_NS_NTZ;
    f->per_second = nanos ? 1000000000 : 1000000;
    f->epoch_factor = f->hint->epoch_millis ? f->per_second / 1000 : 1;
}

static int init_children(struct json_field *f, int depth, struct weir_error *err) {
    const struct weir_field *field = f->field;
    f->children = calloc((size_t)field->child_count, sizeof(*f->children));
    if (f->children == NULL) {
        return out_of_memory(err);
    }
    for (int32_t i = 0; i < field->child_count; i++) {
        const struct weir_avsc_hint *hint =
            i < f->hint->child_count ? &f->hint->children[i] : &no_hint;
        f->children[i].is_element = true;
        int rc = init_field(&f->children[i], &field->children[i], hint, depth + 1, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}

static int init_record(struct json_record *record, const struct weir_field *fields,
                       const struct weir_avsc_hint *hints, int32_t count, int depth,
                       struct weir_error *err);

static int init_field(struct json_field *f, const struct weir_field *field,
                      const struct weir_avsc_hint *hint, int depth, struct weir_error *err) {
    f->field = field;
    f->hint = hint;
    if (depth > DEPTH_MAX) {
        return weir_error_set(err, WEIR_E_SCHEMA,
                              "field \"%s\" is nested deeper than %d levels; flatten the schema",
                              field->name, DEPTH_MAX);
    }
    init_times(f);
    int rc = init_match(f, err);
    if (rc == WEIR_OK) {
        rc = json_field_default(f, f->field->default_json, err);
    }
    if (rc == WEIR_OK && field->type == WEIR_TYPE_STRUCT) {
        f->record = calloc(1, sizeof(*f->record));
        rc = f->record == NULL ? out_of_memory(err)
                               : init_record(f->record, field->children,
                                             hint->child_count > 0 ? hint->children : NULL,
                                             field->child_count, depth + 1, err);
    } else if (rc == WEIR_OK && field->child_count > 0) {
        rc = init_children(f, depth, err);
    }
    return rc;
}

static void fini_field(struct json_field *f) {
    free(f->match);
    free(f->default_.text);
    free(f->default_.positions);
    if (f->children != NULL) {
        for (int32_t i = 0; i < f->field->child_count; i++) {
            fini_field(&f->children[i]);
        }
        free(f->children);
    }
    if (f->record != NULL) {
        json_record_fini(f->record);
        free(f->record);
    }
}

static void add_name(struct json_record *record, int32_t at, const char *text, int32_t field) {
    uint32_t slot = (uint32_t)XXH3_64bits(text, strlen(text)) & record->slot_mask;
    while (record->slots[slot] != 0) {
        slot = (slot + 1) & record->slot_mask;
    }
    record->names[at] = (struct json_name){.text = text, .field = (uint16_t)field};
    record->slots[slot] = (uint16_t)(at + 1);
}

static int init_names(struct json_record *record, struct weir_error *err) {
    int64_t names = record->count;
    for (int32_t i = 0; i < record->count; i++) {
        names += record->fields[i].hint->alias_count;
    }
    if (names > FIELDS_MAX) {
        return weir_error_set(err, WEIR_E_LIMIT, "%lld names and aliases in a record; at most %d",
                              (long long)names, FIELDS_MAX);
    }
    uint32_t size = 8;
    while (size < (uint32_t)names * 2) {
        size *= 2;
    }
    record->slot_mask = size - 1;
    record->slots = calloc(size, sizeof(*record->slots));
    record->names = calloc((size_t)names + 1, sizeof(*record->names));
    if (record->slots == NULL || record->names == NULL) {
        return out_of_memory(err);
    }
    for (int32_t i = 0; i < record->count; i++) {
        const char *name = record->fields[i].field->name;
        if (json_record_find(record, (const uint8_t *)name, strlen(name)) >= 0) {
            return weir_error_set(err, WEIR_E_SCHEMA, "field \"%s\" is declared twice", name);
        }
        add_name(record, i, name, i);
    }
    int32_t at = record->count;
    for (int32_t i = 0; i < record->count; i++) {
        const struct weir_avsc_hint *hint = record->fields[i].hint;
        for (int32_t k = 0; k < hint->alias_count; k++) {
            const char *alias = hint->aliases[k];
            if (json_record_meant(record, (const uint8_t *)alias, strlen(alias)) < 0) {
                add_name(record, at++, alias, i);
            }
        }
    }
    return WEIR_OK;
}

static int init_record(struct json_record *record, const struct weir_field *fields,
                       const struct weir_avsc_hint *hints, int32_t count, int depth,
                       struct weir_error *err) {
    memset(record, 0, sizeof(*record));
    if (count > FIELDS_MAX) {
        return weir_error_set(err, WEIR_E_LIMIT, "%d fields in a record; at most %d", count,
                              FIELDS_MAX);
    }
    record->words = count / 64 + 1;
    record->fields = calloc((size_t)count + 1, sizeof(*record->fields));
    record->after = calloc((size_t)count + 1, sizeof(*record->after));
    record->seen = calloc((size_t)record->words, sizeof(*record->seen));
    if (record->fields == NULL || record->after == NULL || record->seen == NULL) {
        return out_of_memory(err);
    }
    record->count = count;
    for (int32_t i = 0; i < count; i++) {
        record->after[i] = (uint16_t)i; /* at first: the schema's order */
        record->fields[i].field = &fields[i];
    }
    for (int32_t i = 0; i < count; i++) {
        int rc = init_field(&record->fields[i], &fields[i], hints == NULL ? &no_hint : &hints[i],
                            depth, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return init_names(record, err);
}

int json_record_init(struct json_record *record, const struct weir_field *fields,
                     const struct weir_avsc_hint *hints, int32_t count, struct weir_error *err) {
    return init_record(record, fields, hints, count, 0, err);
}

void json_record_fini(struct json_record *record) {
    for (int32_t i = 0; i < record->count; i++) {
        fini_field(&record->fields[i]);
    }
    free(record->fields);
    free(record->after);
    free(record->seen);
    free(record->slots);
    free(record->names);
    memset(record, 0, sizeof(*record));
}

/* Index in `names`. */
static int32_t find_name(const struct json_record *record, const uint8_t *name, size_t length) {
    uint32_t slot = (uint32_t)XXH3_64bits(name, length) & record->slot_mask;
    for (; record->slots[slot] != 0; slot = (slot + 1) & record->slot_mask) {
        const char *candidate = record->names[record->slots[slot] - 1].text;
        if (strlen(candidate) == length && memcmp(candidate, name, length) == 0) {
            return record->slots[slot] - 1;
        }
    }
    return -1;
}

int32_t json_record_find(const struct json_record *record, const uint8_t *name, size_t length) {
    int32_t at = find_name(record, name, length);
    return at < record->count ? at : -1;
}

int32_t json_record_meant(const struct json_record *record, const uint8_t *name, size_t length) {
    int32_t at = find_name(record, name, length);
    return at >= 0 ? record->names[at].field : -1;
}
