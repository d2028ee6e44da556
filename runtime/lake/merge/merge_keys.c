/* Hashing goes column by column over a whole batch, a dictionary's values once; probing then
 * touches the slots alone until a hash agrees. */
#include "lake/merge/merge_keys.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

bool delta_key_type(uint8_t type) {
    return type != WEIR_TYPE_NONE && !weir_type_is_nested(type);
}

bool delta_int_value(const struct weir_column *column, int32_t row, int64_t *value) {
    if (weir_column_is_null(column, row)) {
        return false;
    }
    if (column->codes != NULL) {
        row = column->codes[row];
        column = column->dictionary;
    }
    switch (weir_type_width(column->type)) {
    case 1:
        *value = ((const int8_t *)column->values)[row];
        return true;
    case 2:
        *value = ((const int16_t *)column->values)[row];
        return true;
    case 4:
        *value = ((const int32_t *)column->values)[row];
        return true;
    case 8:
        *value = ((const int64_t *)column->values)[row];
        return true;
    default:
        return false;
    }
}

static inline uint64_t mix(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * 0x9E3779B97F4A7C15u;
    return hash ^ (hash >> 29);
}

#define NULL_HASH 0x6E756C6C6B657931u

/* Of a plain column. */
static uint64_t value_hash(const struct weir_column *column, int64_t row) {
    if (weir_type_is_bytes(column->type)) {
        int32_t start = column->offsets[row];
        return XXH3_64bits((const char *)column->values + start,
                           (size_t)(column->offsets[row + 1] - start));
    }
    if (column->type == WEIR_TYPE_BOOL) {
        return weir_bit_get(column->values, row);
    }
    if (column->type == WEIR_TYPE_FLOAT || column->type == WEIR_TYPE_DOUBLE) {
        double value = column->type == WEIR_TYPE_FLOAT ? ((const float *)column->values)[row]
                                                       : ((const double *)column->values)[row];
        uint64_t bits;
        value = isnan(value) ? (double)NAN : value + 0.0; /* -0 is 0 */
        memcpy(&bits, &value, sizeof(bits));
        return bits;
    }
    if (column->type == WEIR_TYPE_DECIMAL) {
        return XXH64((const uint8_t *)column->values + row * 16, 16, 0);
    }
    int64_t value = 0;
    delta_int_value(column, (int32_t)row, &value);
    return (uint64_t)value;
}

static void hash_column(const struct weir_column *column, int32_t rows, uint64_t *hashes) {
    uint64_t known[256];
    bool by_code = column->codes != NULL && column->dictionary->length <= 256;
    for (int64_t i = 0; by_code && i < column->dictionary->length; i++) {
        known[i] = value_hash(column->dictionary, i);
    }
    if (column->type == WEIR_TYPE_INT64 && column->validity == NULL &&
        column->codes == NULL) { /* the common key */
        const int64_t *values = column->values;
        for (int32_t i = 0; i < rows; i++) {
            hashes[i] = mix(hashes[i], (uint64_t)values[i]);
        }
        return;
    }
    for (int32_t i = 0; i < rows; i++) {
        uint64_t value;
        if (weir_column_is_null(column, i)) {
            value = NULL_HASH;
        } else if (column->codes != NULL) {
            value = by_code ? known[column->codes[i]]
                            : value_hash(column->dictionary, column->codes[i]);
        } else {
            value = value_hash(column, i);
        }
        hashes[i] = mix(hashes[i], value);
    }
}

void delta_keys_hash(const struct weir_batch *batch, const int32_t *columns, int32_t column_count,
                     uint64_t *hashes) {
    for (int32_t i = 0; i < batch->rows; i++) {
        hashes[i] = 0x5765697221u;
    }
    for (int32_t c = 0; c < column_count; c++) {
        hash_column(&batch->columns[columns[c]], batch->rows, hashes);
    }
}

static bool same_key(const struct delta_keys *keys, const struct delta_entry *entry,
                     const struct weir_batch *batch, const int32_t *columns, int32_t row) {
    const struct weir_batch *own = keys->changes[entry->batch];
    for (int32_t c = 0; c < keys->column_count; c++) {
        const struct weir_column *a = &own->columns[keys->columns[c]];
        const struct weir_column *b = &batch->columns[columns[c]];
        if (!weir_column_value_equal(a, entry->row, b, row)) {
            return false;
        }
    }
    return true;
}

struct delta_entry *delta_keys_find(const struct delta_keys *keys, const struct weir_batch *batch,
                                    const int32_t *columns, int32_t row, uint64_t hash) {
    for (uint64_t at = hash & keys->mask; keys->slots[at] != 0; at = (at + 1) & keys->mask) {
        struct delta_entry *entry = &keys->entries[keys->slots[at] - 1];
        if (entry->hash == hash && same_key(keys, entry, batch, columns, row)) {
            return entry;
        }
    }
    return NULL;
}

static void insert(struct delta_keys *keys, const struct delta_entry *entry) {
    uint64_t at = entry->hash & keys->mask;
    while (keys->slots[at] != 0) {
        at = (at + 1) & keys->mask;
    }
    keys->entries[keys->count] = *entry;
    keys->slots[at] = (uint32_t)++keys->count;
}

static struct delta_part *find_part(const struct delta_keys *keys, const struct delta_entry *entry,
                                    int32_t column) {
    for (int32_t i = 0; i < entry->part_count; i++) {
        if (keys->parts[entry->first_part + i].column == column) {
            return &keys->parts[entry->first_part + i];
        }
    }
    return NULL;
}

static int push_part(struct delta_keys *keys, struct delta_entry *entry, struct delta_part part) {
    if (keys->part_count == keys->part_capacity) {
        int64_t capacity = keys->part_capacity > 0 ? keys->part_capacity * 2 : 64;
        struct delta_part *parts = realloc(keys->parts, (size_t)capacity * sizeof(*parts));
        if (parts == NULL) {
            return WEIR_E_NOMEM;
        }
        keys->parts = parts;
        keys->part_capacity = capacity;
    }
    entry->part_count++;
    keys->parts[keys->part_count++] = part;
    return WEIR_OK;
}

static int32_t find_column(const struct weir_schema *schema, const char *name, size_t length) {
    for (int32_t i = 0; i < schema->count; i++) {
        const char *own = schema->fields[i].name;
        if (strncmp(own, name, length) == 0 && own[length] == '\0') {
            return i;
        }
    }
    return -1;
}

/* Says of each column the entry's row leaves out who has its value: the change before it that has
 * one, else the table. `known` is what came before of the key, or NULL. */
static int take_parts(struct delta_keys *keys, struct delta_entry *entry,
                      const struct delta_entry *known) {
    const struct weir_batch *batch = keys->changes[entry->batch];
    const struct weir_column *list =
        keys->unavailable >= 0 ? &batch->columns[keys->unavailable] : NULL;
    int rc = WEIR_OK;
    entry->first_part = keys->part_count;
    if (list == NULL || entry->is_delete || weir_column_is_null(list, entry->row)) {
        return rc;
    }
    for (int32_t i = list->offsets[entry->row]; rc == WEIR_OK && i < list->offsets[entry->row + 1];
         i++) {
        int32_t length;
        const char *name = weir_column_bytes(&list->children[0], i, &length);
        struct delta_part part = {.column = find_column(batch->schema, name, (size_t)length),
                                  .batch = DELTA_PART_TABLE};
        const struct delta_part *before =
            known != NULL ? find_part(keys, known, part.column) : NULL;
        if (known != NULL && known->is_delete && !known->is_before) {
            part.batch = DELTA_PART_NOWHERE;
        } else if (before != NULL) {
            part = *before;
        } else if (known != NULL) {
            part.batch = known->batch;
            part.row = known->row;
        }
        rc = part.column >= 0 ? push_part(keys, entry, part) : WEIR_OK;
    }
    return rc;
}

/* Takes row `row` of change `index` in: a new key, or in place of what is known of it. */
static int take_row(struct delta_keys *keys, int32_t index, int32_t row, uint64_t hash,
                    int32_t change) {
    const struct weir_batch *batch = keys->changes[index];
    struct delta_entry entry = {.hash = hash, .batch = index, .row = row, .old = -1};
    int64_t kind = 0;
    entry.has_time =
        keys->time >= 0 && delta_int_value(&batch->columns[keys->time], row, &entry.time);
    entry.is_delete =
        change >= 0 && delta_int_value(&batch->columns[change], row, &kind) && (kind & 1) != 0;
    entry.is_before = kind == 1;
    struct delta_entry *known = delta_keys_find(keys, batch, keys->columns, row, hash);
    if (known != NULL && known->has_time && entry.has_time && entry.time < known->time) {
        return WEIR_OK;
    }
    int rc = take_parts(keys, &entry, known);
    if (rc == WEIR_OK && known == NULL) {
        insert(keys, &entry);
    } else if (rc == WEIR_OK) {
        *known = entry;
    }
    return rc;
}

int delta_keys_init(struct delta_keys *keys, struct weir_batch *const *changes,
                    int32_t change_count, const int32_t *columns, int32_t column_count,
                    int32_t time, int32_t change, int32_t unavailable, struct weir_error *err) {
    int64_t rows = 0;
    int rc = WEIR_OK;
    int32_t most = 0;
    for (int32_t i = 0; i < change_count; i++) {
        rows += changes[i]->rows;
        most = changes[i]->rows > most ? changes[i]->rows : most;
    }
    memset(keys, 0, sizeof(*keys));
    keys->changes = changes;
    keys->columns = columns;
    keys->column_count = column_count;
    keys->time = time;
    keys->unavailable = unavailable;
    if (rows >= INT32_MAX) {
        return weir_error_set(err, WEIR_E_LIMIT, "merge: more than 2^31 changes at once");
    }
    uint64_t capacity = 64;
    while (capacity < (uint64_t)rows * 2) {
        capacity *= 2;
    }
    keys->mask = capacity - 1;
    keys->entries = malloc(((size_t)rows + 1) * sizeof(*keys->entries));
    keys->slots = calloc(capacity, sizeof(*keys->slots));
    uint64_t *hashes = malloc(((size_t)most + 1) * sizeof(*hashes));
    if (keys->entries == NULL || keys->slots == NULL || hashes == NULL) {
        free(hashes);
        delta_keys_fini(keys);
        return weir_error_set(err, WEIR_E_NOMEM, "merge: out of memory for %lld keys",
                              (long long)rows);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < change_count; i++) {
        delta_keys_hash(changes[i], columns, column_count, hashes);
        for (int32_t row = 0; rc == WEIR_OK && row < changes[i]->rows; row++) {
            rc = take_row(keys, i, row, hashes[row], change);
        }
    }
    free(hashes);
    if (rc != WEIR_OK) {
        delta_keys_fini(keys);
        weir_error_set(err, rc, "merge: out of memory for the columns that changes leave out");
    }
    return rc;
}

void delta_keys_fini(struct delta_keys *keys) {
    free(keys->entries);
    free(keys->slots);
    free(keys->parts);
    keys->parts = NULL;
    keys->entries = NULL;
    keys->slots = NULL;
}
