#include "lake/merge/merge_prune.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "lake/delta/text.h"

enum { COLUMNS_MAX = 16, VALUES_MAX = 4096, TEXT_BYTES_MAX = 4096 };

/* The sorted values a key column takes in the changes. */
struct values {
    const char *name;
    uint8_t type;
    int64_t *numbers; /* integers, dates, timestamps; else NULL */
    struct text {
        const char *bytes;
        int32_t size;
    } * texts; /* strings; else NULL */
    int64_t count;
    bool has_null;
};

/* The distinct values of a partition column in the changes. */
struct parts {
    const char *name;
    char **texts; /* sorted */
    int32_t count;
    bool has_null;
};

struct delta_prune {
    struct values columns[COLUMNS_MAX];
    int32_t column_count;
    struct parts parts[COLUMNS_MAX];
    int32_t part_count;
};

static int compare_numbers(const void *a, const void *b) {
    int64_t left = *(const int64_t *)a;
    int64_t right = *(const int64_t *)b;
    return left < right ? -1 : left > right;
}

static int compare_bytes(const char *a, int32_t a_size, const char *b, int32_t b_size) {
    int order = memcmp(a, b, (size_t)(a_size < b_size ? a_size : b_size));
    return order != 0 ? order : a_size - b_size;
}

static int compare_texts(const void *a, const void *b) {
    const struct text *left = a;
    const struct text *right = b;
    return compare_bytes(left->bytes, left->size, right->bytes, right->size);
}

static int compare_parts(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool number_type(uint8_t type) {
    return (type >= WEIR_TYPE_INT8 && type <= WEIR_TYPE_INT64) || type == WEIR_TYPE_DATE ||
           type == WEIR_TYPE_TIMESTAMP || type == WEIR_TYPE_TIMESTAMP_NTZ;
}

static int gather_values(struct values *values, const struct delta_keys *keys, int32_t key) {
    size_t room = (size_t)keys->count + 1;
    bool numbers = number_type(values->type);
    values->numbers = numbers ? malloc(room * sizeof(*values->numbers)) : NULL;
    values->texts = numbers ? NULL : malloc(room * sizeof(*values->texts));
    if (values->numbers == NULL && values->texts == NULL) {
        return WEIR_E_NOMEM;
    }
    for (int64_t i = 0; i < keys->count; i++) {
        const struct delta_entry *entry = &keys->entries[i];
        const struct weir_column *column =
            &keys->changes[entry->batch]->columns[keys->columns[key]];
        if (weir_column_is_null(column, entry->row)) {
            values->has_null = true;
        } else if (numbers) {
            values->count += delta_int_value(column, entry->row, &values->numbers[values->count]);
        } else {
            struct text *text = &values->texts[values->count++];
            text->bytes = weir_column_bytes(column, entry->row, &text->size);
        }
    }
    if (numbers) {
        qsort(values->numbers, (size_t)values->count, sizeof(*values->numbers), compare_numbers);
    } else {
        qsort(values->texts, (size_t)values->count, sizeof(*values->texts), compare_texts);
    }
    return WEIR_OK;
}

/* More values than pay for the search: the column does not prune then (count -1). */
static int gather_parts(struct parts *parts, const struct delta_keys *keys,
                        const struct delta_partition_column *column, struct weir_error *err) {
    struct weir_buffer text;
    weir_buffer_init(&text, TEXT_BYTES_MAX);
    int rc = WEIR_OK;
    parts->texts = calloc(VALUES_MAX, sizeof(*parts->texts));
    if (parts->texts == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "merge: out of memory");
    }
    for (int64_t i = 0; i < keys->count && rc == WEIR_OK; i++) {
        const struct delta_entry *entry = &keys->entries[i];
        bool is_null;
        weir_buffer_clear(&text);
        rc = delta_partition_text(column, keys->changes[entry->batch], entry->row, &text, &is_null,
                                  err);
        if (rc != WEIR_OK || is_null) {
            parts->has_null = parts->has_null || rc == WEIR_OK;
            continue;
        }
        const char *value = weir_buffer_text(&text);
        bool known =
            value != NULL && parts->count > 0 && strcmp(parts->texts[parts->count - 1], value) == 0;
        if (known) {
            continue;
        }
        char *copy = value != NULL ? strdup(value) : NULL;
        if (copy == NULL) {
            rc = weir_error_set(err, WEIR_E_NOMEM, "merge: out of memory");
            break;
        }
        parts->texts[parts->count++] = copy;
        if (parts->count == VALUES_MAX) { /* leave each value once, and see whether that helps */
            qsort(parts->texts, VALUES_MAX, sizeof(*parts->texts), compare_parts);
            int32_t kept = 0;
            for (int32_t k = 0; k < VALUES_MAX; k++) {
                if (kept > 0 && strcmp(parts->texts[kept - 1], parts->texts[k]) == 0) {
                    free(parts->texts[k]);
                } else {
                    parts->texts[kept++] = parts->texts[k];
                }
            }
            parts->count = kept;
            if (kept > VALUES_MAX / 2) {
                while (parts->count > 0) {
                    free(parts->texts[--parts->count]);
                }
                parts->count = -1;
                break;
            }
        }
    }
    if (parts->count > 0) {
        qsort(parts->texts, (size_t)parts->count, sizeof(*parts->texts), compare_parts);
    }
    weir_buffer_fini(&text);
    return rc;
}

int delta_prune_create(struct delta_prune **out, const struct delta_keys *keys,
                       const struct weir_delta_column *key_names,
                       const struct delta_prune_partition *partitions, int32_t partition_count,
                       struct weir_error *err) {
    struct delta_prune *prune = calloc(1, sizeof(*prune));
    if (prune == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "merge: out of memory");
    }
    int rc = WEIR_OK;
    for (int32_t i = 0; i < partition_count && prune->part_count < COLUMNS_MAX && rc == WEIR_OK;
         i++) {
        struct parts *parts = &prune->parts[prune->part_count++];
        parts->name = partitions[i].name;
        rc = gather_parts(parts, keys, partitions[i].column, err);
    }
    for (int32_t i = 0;
         i < keys->column_count && prune->column_count < COLUMNS_MAX && rc == WEIR_OK; i++) {
        uint8_t type = keys->count > 0
                           ? keys->changes[keys->entries[0].batch]->columns[keys->columns[i]].type
                           : WEIR_TYPE_NONE;
        if (!number_type(type) && type != WEIR_TYPE_STRING) {
            continue;
        }
        struct values *values = &prune->columns[prune->column_count++];
        values->name = key_names[i].physical_name;
        values->type = type;
        if (gather_values(values, keys, i) != WEIR_OK) {
            rc = weir_error_set(err, WEIR_E_NOMEM, "merge: out of memory");
        }
    }
    if (rc != WEIR_OK) {
        delta_prune_destroy(prune);
        return rc;
    }
    *out = prune;
    return WEIR_OK;
}

void delta_prune_destroy(struct delta_prune *prune) {
    if (prune == NULL) {
        return;
    }
    for (int32_t i = 0; i < prune->column_count; i++) {
        free(prune->columns[i].numbers);
        free(prune->columns[i].texts);
    }
    for (int32_t i = 0; i < prune->part_count; i++) {
        for (int32_t k = 0; k < prune->parts[i].count; k++) {
            free(prune->parts[i].texts[k]);
        }
        free(prune->parts[i].texts);
    }
    free(prune);
}

static bool in_partition(const struct parts *parts, const struct weir_delta_add *add) {
    if (parts->count < 0) {
        return true;
    }
    for (int32_t i = 0; i < add->partition_count; i++) {
        const char *value = add->partition_values[i].value;
        if (strcmp(add->partition_values[i].key, parts->name) == 0) {
            if (value == NULL || *value == '\0') {
                return parts->has_null;
            }
            return parts->count > 0 && bsearch(&value, parts->texts, (size_t)parts->count,
                                               sizeof(*parts->texts), compare_parts) != NULL;
        }
    }
    return true;
}

/* A bound as the log spells it; false when it says nothing. */
static bool read_bound(const json_t *bound, uint8_t type, bool is_max, int64_t *out) {
    if (json_is_integer(bound)) {
        *out = json_integer_value(bound);
        return true;
    }
    const char *text = json_string_value(bound);
    if (text == NULL) {
        return false;
    }
    if (type == WEIR_TYPE_DATE) {
        int32_t days;
        if (!delta_parse_date(text, &days)) {
            return false;
        }
        *out = days;
        return true;
    }
    if (!delta_parse_timestamp(text, out)) {
        return false;
    }
    *out += is_max ? 1000 : -1000; /* others cut to milliseconds */
    return true;
}

static bool numbers_overlap(const struct values *values, const json_t *min, const json_t *max) {
    int64_t low;
    int64_t high;
    if (!read_bound(min, values->type, false, &low) ||
        !read_bound(max, values->type, true, &high)) {
        return true;
    }
    int64_t from = 0;
    int64_t to = values->count;
    while (from < to) { /* the first value not below the minimum */
        int64_t middle = from + (to - from) / 2;
        if (values->numbers[middle] < low) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return from < values->count && values->numbers[from] <= high;
}

static bool texts_overlap(const struct values *values, const json_t *min, const json_t *max) {
    const char *low = json_string_value(min);
    const char *high = json_string_value(max);
    if (low == NULL || high == NULL) {
        return true;
    }
    int32_t low_size = (int32_t)json_string_length(min);
    int32_t high_size = (int32_t)json_string_length(max);
    int64_t from = 0;
    int64_t to = values->count;
    while (from < to) {
        int64_t middle = from + (to - from) / 2;
        const struct text *text = &values->texts[middle];
        if (compare_bytes(text->bytes, text->size, low, low_size) < 0) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return from < values->count &&
           compare_bytes(values->texts[from].bytes, values->texts[from].size, high, high_size) <= 0;
}

bool delta_prune_may_hold(const struct delta_prune *prune, const struct weir_delta_add *add) {
    bool may = true;
    for (int32_t i = 0; i < prune->part_count && may; i++) {
        may = in_partition(&prune->parts[i], add);
    }
    if (!may || add->stats == NULL || prune->column_count == 0) {
        return may;
    }
    json_t *stats = json_loads(add->stats, 0, NULL);
    const json_t *mins = json_object_get(stats, "minValues");
    const json_t *maxs = json_object_get(stats, "maxValues");
    for (int32_t i = 0; i < prune->column_count && may; i++) {
        const struct values *values = &prune->columns[i];
        const json_t *min = json_object_get(mins, values->name);
        const json_t *max = json_object_get(maxs, values->name);
        if (values->has_null || min == NULL || max == NULL) {
            continue;
        }
        may = values->numbers != NULL ? numbers_overlap(values, min, max)
                                      : texts_overlap(values, min, max);
    }
    json_decref(stats);
    return may;
}
