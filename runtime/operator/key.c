/* Two passes over each column: lengths first, then bytes at the cursors, so that each inner loop
 * knows one type. */
#include "operator/key.h"

#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/block.h"
#include "operator/key_nested.h"

enum { KEYS_BYTES_MAX = 1 << 30, STRING_ESTIMATE = 12 };

struct key_column {
    int32_t column;
    uint8_t type;
    uint8_t precision;
    int8_t scale;
    uint8_t width; /* bytes of a value; 0: string, binary, nested */
};

struct weir_key {
    int32_t count;
    bool whole; /* rows, not keys: nested columns too, and every bit of a value */
    const struct weir_column **scratch; /* count of them */
    struct weir_schema *schema;
    struct key_column columns[];
};

void weir_key_destroy(struct weir_key *key) {
    if (key != NULL) {
        weir_schema_unref(key->schema);
        free(key->scratch);
        free(key);
    }
}

struct weir_schema *weir_key_schema(const struct weir_key *key) {
    return key->schema;
}

static struct weir_key *create(const struct weir_schema *schema, const int32_t *columns,
                               int32_t count, bool whole, struct weir_error *err) {
    struct weir_key *key = calloc(1, sizeof *key + (size_t)count * sizeof key->columns[0]);
    const struct weir_column **scratch =
        calloc((size_t)count + 1, sizeof(const struct weir_column *));
    struct weir_schema *own = weir_schema_create();
    if (key == NULL || scratch == NULL || own == NULL) {
        free(key);
        free(scratch);
        weir_schema_unref(own);
        weir_error_set(err, WEIR_E_NOMEM, "no memory for a key of %d columns", count);
        return NULL;
    }
    key->count = count;
    key->whole = whole;
    key->scratch = scratch;
    key->schema = own;
    for (int32_t c = 0; c < count; c++) {
        const struct weir_field *field = &schema->fields[columns[c]];
        if ((!whole && weir_type_is_nested(field->type)) || field->type == WEIR_TYPE_NONE) {
            weir_error_set(err, WEIR_E_CONFIG,
                           "column '%s' is a %s and cannot be part of a key: use one of its fields",
                           field->name, weir_type_name(field->type));
            weir_key_destroy(key);
            return NULL;
        }
        if (weir_schema_add(own, field) != WEIR_OK) {
            weir_error_set(err, WEIR_E_NOMEM, "no memory for a key of %d columns", count);
            weir_key_destroy(key);
            return NULL;
        }
        key->columns[c] = (struct key_column){
            .column = columns[c],
            .type = field->type,
            .precision = field->precision,
            .scale = field->scale,
            .width = field->type == WEIR_TYPE_BOOL ? 1 : (uint8_t)weir_type_width(field->type),
        };
    }
    return key;
}

struct weir_key *weir_key_create(const struct weir_schema *schema, const int32_t *columns,
                                 int32_t count, struct weir_error *err) {
    return create(schema, columns, count, false, err);
}

struct weir_key *weir_key_create_whole(const struct weir_schema *schema, const int32_t *columns,
                                       int32_t count, struct weir_error *err) {
    return create(schema, columns, count, true, err);
}

/* A nested type is told by its text. */
static uint64_t nested_shape(const struct weir_field *field, uint64_t shape) {
    struct weir_buffer text;
    weir_buffer_init(&text, 1u << 20);
    if (weir_field_format_type(field, &text) == WEIR_OK) {
        shape = XXH3_64bits_withSeed(text.data, text.size, shape);
    }
    weir_buffer_fini(&text);
    return shape;
}

uint64_t weir_key_shape(const struct weir_key *key) {
    uint64_t shape = XXH3_64bits(&key->count, sizeof key->count);
    for (int32_t c = 0; c < key->count; c++) {
        const struct key_column *column = &key->columns[c];
        /* A decimal's precision may grow without changing any key. */
        uint8_t part[2] = {column->type, (uint8_t)column->scale};
        const char *name = key->schema->fields[c].name;
        shape = XXH3_64bits_withSeed(part, sizeof part, shape);
        shape = XXH3_64bits_withSeed(name, strlen(name), shape);
        if (weir_type_is_nested(column->type)) {
            shape = nested_shape(&key->schema->fields[c], shape);
        }
    }
    return shape;
}

size_t weir_key_estimate_bytes(const struct weir_key *key) {
    size_t bytes = 0;
    for (int32_t c = 0; c < key->count; c++) {
        bytes += 1 + (key->columns[c].width != 0 ? key->columns[c].width : STRING_ESTIMATE);
    }
    return bytes;
}

void weir_keys_init(struct weir_keys *keys) {
    memset(keys, 0, sizeof *keys);
}

void weir_keys_fini(struct weir_keys *keys) {
    weir_block_give(keys->bytes);
    free(keys->offsets);
    free(keys->hashes);
    free(keys->fingerprints);
    free(keys->any_null);
    free(keys->cursors);
    memset(keys, 0, sizeof *keys);
}

static int keys_reserve_rows(struct weir_keys *keys, int32_t count) {
    if (count <= keys->capacity && keys->capacity > 0) { /* none is a count, too */
        return WEIR_OK;
    }
    size_t rows = (size_t)(count < WEIR_BATCH_ROWS_MAX ? WEIR_BATCH_ROWS_MAX : count);
    struct weir_keys old = *keys;
    keys->offsets = malloc((rows + 1) * sizeof *keys->offsets);
    keys->hashes = malloc(rows * sizeof *keys->hashes);
    keys->fingerprints = malloc(rows * sizeof *keys->fingerprints);
    keys->any_null = malloc(rows);
    keys->cursors = malloc(rows * sizeof *keys->cursors);
    free(old.offsets);
    free(old.hashes);
    free(old.fingerprints);
    free(old.any_null);
    free(old.cursors);
    keys->capacity = 0;
    if (keys->offsets == NULL || keys->hashes == NULL || keys->fingerprints == NULL ||
        keys->any_null == NULL || keys->cursors == NULL) {
        return WEIR_E_NOMEM;
    }
    keys->capacity = (int32_t)rows;
    return WEIR_OK;
}

static int keys_reserve_bytes(struct weir_keys *keys, size_t bytes) {
    bytes += WEIR_KEY_SLACK;
    if (bytes <= keys->bytes_capacity) {
        return WEIR_OK;
    }
    size_t capacity = bytes + bytes / 2;
    uint8_t *room = weir_block_take(capacity);
    if (room == NULL) {
        return WEIR_E_NOMEM;
    }
    weir_block_give(keys->bytes);
    keys->bytes = room;
    keys->bytes_capacity = capacity;
    return WEIR_OK;
}

static inline int64_t row_of(const int32_t *sel, int32_t i) {
    return sel != NULL ? sel[i] : i;
}

/* cursors[i] += bytes of this column in key i. */
static void add_lengths(const struct weir_key *key, int32_t c, const struct weir_column *column,
                        const int32_t *sel, int32_t count, struct weir_keys *keys) {
    const struct key_column *kind = &key->columns[c];
    uint32_t *lengths = keys->cursors;
    if (kind->width != 0 && column->validity == NULL) {
        for (int32_t i = 0; i < count; i++) {
            lengths[i] += 1 + (uint32_t)kind->width;
        }
        return;
    }
    for (int32_t i = 0; i < count; i++) {
        int64_t row = row_of(sel, i);
        if (weir_column_is_null(column, row)) {
            lengths[i] += 1;
            keys->any_null[i] = 1;
        } else if (weir_type_is_nested(kind->type)) {
            size_t bytes = key_nested_bytes(&key->schema->fields[c], column, row);
            lengths[i] =
                bytes < KEYS_BYTES_MAX - lengths[i] ? lengths[i] + (uint32_t)bytes : KEYS_BYTES_MAX;
        } else if (kind->width != 0) {
            lengths[i] += 1 + (uint32_t)kind->width;
        } else {
            int32_t length;
            weir_column_bytes(column, row, &length);
            lengths[i] += 1 + (uint32_t)weir_varint_bytes((uint32_t)length) + (uint32_t)length;
        }
    }
}

static inline uint64_t canonical_double(uint64_t bits) {
    if ((bits & INT64_MAX) > UINT64_C(0x7FF0000000000000)) {
        return UINT64_C(0x7FF8000000000000);
    }
    return bits == UINT64_C(0x8000000000000000) ? 0 : bits;
}

static inline uint32_t canonical_float(uint32_t bits) {
    if ((bits & INT32_MAX) > UINT32_C(0x7F800000)) {
        return UINT32_C(0x7FC00000);
    }
    return bits == UINT32_C(0x80000000) ? 0 : bits;
}

/* One loop per width: `canonical` sees the value's bits. */
#define PUT_FIXED(type, canonical)                                                                 \
    for (int32_t i = 0; i < count; i++) {                                                          \
        int64_t row = row_of(sel, i);                                                              \
        uint8_t *at = keys->bytes + keys->cursors[i];                                              \
        if (weir_column_is_null(column, row)) {                                                    \
            *at = 0;                                                                               \
            keys->cursors[i] += 1;                                                                 \
            continue;                                                                              \
        }                                                                                          \
        type value;                                                                                \
        memcpy(&value, key_value_at(column, row, sizeof value), sizeof value);                     \
        value = canonical(value);                                                                  \
        *at = 1;                                                                                   \
        memcpy(at + 1, &value, sizeof value);                                                      \
        keys->cursors[i] += 1 + (uint32_t)sizeof value;                                            \
    }
#define AS_IT_IS(bits) (bits)

typedef unsigned __int128 bits128;

static void put_bytes(const struct weir_column *column, const int32_t *sel, int32_t count,
                      struct weir_keys *keys) {
    for (int32_t i = 0; i < count; i++) {
        int64_t row = row_of(sel, i);
        uint8_t *start = keys->bytes + keys->cursors[i];
        uint8_t *at = start;
        if (weir_column_is_null(column, row)) {
            *at++ = 0;
        } else {
            int32_t length;
            const char *bytes = weir_column_bytes(column, row, &length);
            *at++ = 1;
            at = weir_varint_put(at, (uint32_t)length);
            memcpy(at, bytes, (size_t)length);
            at += length;
        }
        keys->cursors[i] += (uint32_t)(at - start);
    }
}

static void put_bool(const struct weir_column *column, const int32_t *sel, int32_t count,
                     struct weir_keys *keys) {
    for (int32_t i = 0; i < count; i++) {
        int64_t row = row_of(sel, i);
        uint8_t *at = keys->bytes + keys->cursors[i];
        bool valid = !weir_column_is_null(column, row);
        *at = valid;
        if (valid) {
            at[1] = key_bool_at(column, row);
        }
        keys->cursors[i] += valid ? 2 : 1;
    }
}

static void put_nested(const struct weir_field *field, const struct weir_column *column,
                       const int32_t *sel, int32_t count, struct weir_keys *keys) {
    for (int32_t i = 0; i < count; i++) {
        uint8_t *at = keys->bytes + keys->cursors[i];
        uint8_t *end = key_nested_put(field, column, row_of(sel, i), at);
        keys->cursors[i] += (uint32_t)(end - at);
    }
}

static void put_column(const struct weir_key *key, int32_t c, const struct weir_column *column,
                       const int32_t *sel, int32_t count, struct weir_keys *keys) {
    const struct key_column *kind = &key->columns[c];
    if (weir_type_is_nested(kind->type)) {
        put_nested(&key->schema->fields[c], column, sel, count, keys);
    } else if (kind->type == WEIR_TYPE_BOOL) {
        put_bool(column, sel, count, keys);
    } else if (kind->type == WEIR_TYPE_FLOAT && !key->whole) {
        PUT_FIXED(uint32_t, canonical_float)
    } else if (kind->type == WEIR_TYPE_DOUBLE && !key->whole) {
        PUT_FIXED(uint64_t, canonical_double)
    } else {
        switch (kind->width) {
        case 1:
            PUT_FIXED(uint8_t, AS_IT_IS)
            break;
        case 2:
            PUT_FIXED(uint16_t, AS_IT_IS)
            break;
        case 4:
            PUT_FIXED(uint32_t, AS_IT_IS)
            break;
        case 8:
            PUT_FIXED(uint64_t, AS_IT_IS)
            break;
        case 16:
            PUT_FIXED(bits128, AS_IT_IS)
            break;
        default:
            put_bytes(column, sel, count, keys);
        }
    }
}

int weir_key_encode_columns(const struct weir_key *key, const struct weir_column *const *columns,
                            const int32_t *sel, int32_t count, uint32_t prefix_bytes,
                            struct weir_keys *keys) {
    keys->count = 0;
    int rc = keys_reserve_rows(keys, count);
    if (rc != WEIR_OK) {
        return rc;
    }
    memset(keys->any_null, 0, (size_t)count);
    for (int32_t i = 0; i < count; i++) {
        keys->cursors[i] = prefix_bytes;
    }
    for (int32_t c = 0; c < key->count; c++) {
        add_lengths(key, c, columns[c], sel, count, keys);
    }
    uint64_t total = 0;
    for (int32_t i = 0; i < count; i++) {
        uint32_t length = keys->cursors[i];
        keys->offsets[i] = (uint32_t)total;
        keys->cursors[i] = (uint32_t)total + prefix_bytes;
        total += length;
        if (total > KEYS_BYTES_MAX) {
            return WEIR_E_LIMIT;
        }
    }
    keys->offsets[count] = (uint32_t)total;
    rc = keys_reserve_bytes(keys, (size_t)total);
    if (rc != WEIR_OK) {
        return rc;
    }
    for (int32_t c = 0; c < key->count; c++) {
        put_column(key, c, columns[c], sel, count, keys);
    }
    keys->count = count;
    return WEIR_OK;
}

int weir_key_encode(const struct weir_key *key, const struct weir_batch *batch, const int32_t *sel,
                    int32_t count, uint32_t prefix_bytes, struct weir_keys *keys) {
    for (int32_t c = 0; c < key->count; c++) {
        key->scratch[c] = &batch->columns[key->columns[c].column];
    }
    return weir_key_encode_columns(key, key->scratch, sel, count, prefix_bytes, keys);
}

void weir_keys_hash(struct weir_keys *keys, uint64_t seed) {
    for (int32_t i = 0; i < keys->count; i++) {
        keys->hashes[i] = XXH3_64bits_withSeed(keys->bytes + keys->offsets[i],
                                               keys->offsets[i + 1] - keys->offsets[i], seed);
    }
}

void weir_keys_fingerprint(struct weir_keys *keys) {
    for (int32_t i = 0; i < keys->count; i++) {
        XXH128_hash_t hash =
            XXH3_128bits(keys->bytes + keys->offsets[i], keys->offsets[i + 1] - keys->offsets[i]);
        keys->fingerprints[i] = (struct weir_fingerprint){hash.low64, hash.high64};
    }
}

/* --- decode -------------------------------------------------------------------------------- */

int weir_key_decode(const struct weir_key *key, const uint8_t *bytes, size_t length,
                    struct weir_column_builder *columns) {
    struct weir_image_reader reader = {bytes, bytes + length};
    for (int32_t c = 0; c < key->count; c++) {
        int rc = key_nested_decode(&key->schema->fields[c], &reader, &columns[c]);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return reader.at == reader.end ? WEIR_OK : WEIR_E_CORRUPT;
}

size_t weir_key_value_bytes(uint8_t type, const uint8_t *at, size_t left) {
    if (left == 0 || at[0] > 1) {
        return 0;
    }
    if (at[0] == 0) {
        return 1;
    }
    if (weir_type_is_bytes(type) || weir_type_is_nested(type)) {
        struct weir_image_reader reader = {at + 1, at + left};
        const uint8_t *bytes;
        size_t length;
        return weir_image_bytes(&reader, &bytes, &length) ? (size_t)(reader.at - at) : 0;
    }
    size_t size = 1;
    size += type == WEIR_TYPE_BOOL      ? 1
            : type == WEIR_TYPE_DECIMAL ? 16
                                        : (size_t)weir_type_width(type);
    return size <= left ? size : 0;
}
