#pragma once
/* Shared by the Parquet unit tests: a growing file in memory, and batches of pseudo-random values
 * for any schema (nulls, empties, extremes), reproducible by seed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch/builder.h"
#include "lake/parquet/reader.h"
#include "lake/parquet/writer.h"

struct sample_file {
    uint8_t *bytes;
    size_t size;
    size_t capacity;
    int64_t fail_after; /* bytes; < 0: never */
};

static inline int sample_write(void *ctx, const void *bytes, size_t size, struct weir_error *err) {
    struct sample_file *file = ctx;
    if (file->fail_after >= 0 && (int64_t)(file->size + size) > file->fail_after) {
        return weir_error_set(err, WEIR_E_IO, "disk full");
    }
    if (file->size + size > file->capacity) {
        file->capacity = (file->size + size) * 2;
        file->bytes = realloc(file->bytes, file->capacity);
        if (file->bytes == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "test file");
        }
    }
    memcpy(file->bytes + file->size, bytes, size);
    file->size += size;
    return WEIR_OK;
}

static inline int sample_read(void *ctx, uint64_t offset, void *bytes, size_t size,
                              struct weir_error *err) {
    const struct sample_file *file = ctx;
    if (offset > file->size || size > file->size - offset) {
        return weir_error_set(err, WEIR_E_IO, "read past the end");
    }
    memcpy(bytes, file->bytes + offset, size);
    return WEIR_OK;
}

static inline uint64_t sample_random(uint64_t *seed) {
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

enum sample_shape {
    SAMPLE_MIXED,
    SAMPLE_REPEATING,
    SAMPLE_UNIQUE,
    SAMPLE_NEIGHBOURS, /* unique, and like the value before from the start */
    SAMPLE_ALL_NULL
};

struct sample {
    uint64_t seed;
    enum sample_shape shape;
    int null_percent;
    int64_t serial; /* SAMPLE_NEIGHBOURS */
};

static inline int sample_bytes(struct sample *sample, struct weir_column_builder *column) {
    static const char *const special[] = {
        "", "a", "\xf0\x9f\x8c\x8a wave", "nul\0inside", "zz", "\xc3\xa9t\xc3\xa9"};
    uint64_t random = sample_random(&sample->seed);
    char text[400];
    size_t size;
    if (sample->shape == SAMPLE_REPEATING) {
        size = (size_t)snprintf(text, sizeof(text), "value-%d", (int)(random % 17));
    } else if (sample->shape == SAMPLE_UNIQUE) {
        size = (size_t)snprintf(text, sizeof(text), "%016llx%016llx", (unsigned long long)random,
                                (unsigned long long)sample_random(&sample->seed));
    } else if (sample->shape == SAMPLE_NEIGHBOURS) {
        int long_run = sample->serial / 700 % 2 ? 90 : 3; /* some beginnings pass one word */
        size = (size_t)snprintf(text, sizeof(text), "%0*lld/%x", long_run,
                                (long long)sample->serial++, (unsigned)(random % 4096));
        size = random >> 32 & 255 ? size : size / 3; /* now and then a beginning alone */
    } else if (random % 8 < 6) {
        const char *chosen = special[random % 6];
        size = random % 6 == 3 ? 10 : strlen(chosen);
        memcpy(text, chosen, size);
    } else {
        size = random >> 8 & 255;
        memset(text, 'a' + (int)(random >> 16 & 15), size);
        if (random >> 20 & 1) {
            memcpy(text + size, "\xe2\x82\xac", 3);
            size += 3;
        }
    }
    return weir_builder_bytes(column, text, size);
}

static inline int64_t sample_int(struct sample *sample, int bits) {
    uint64_t random = sample_random(&sample->seed);
    int64_t low = bits == 64 ? INT64_MIN : -((int64_t)1 << (bits - 1));
    int64_t high = bits == 64 ? INT64_MAX : ((int64_t)1 << (bits - 1)) - 1;
    if (sample->shape == SAMPLE_REPEATING) {
        return (int64_t)(random % 11) - 5;
    }
    switch (random % 8) {
    case 0:
        return low;
    case 1:
        return high;
    case 2:
        return 0;
    default:
        return (int64_t)(random << (64 - bits)) >> (64 - bits);
    }
}

static inline double sample_double(struct sample *sample) {
    static const double special[] = {0.0,     -0.0,     1.5,    -1e308, 1e-310,
                                     1.0 / 3, 12345.75, -42.25, 0.1,    1e10};
    uint64_t random = sample_random(&sample->seed);
    return sample->shape == SAMPLE_UNIQUE ? (double)random / 7.0 : special[random % 10];
}

/* Within the precision: up to 10^precision - 1 either way. */
static inline int sample_decimal(struct sample *sample, struct weir_column_builder *column) {
    __int128 bound = 1;
    for (int i = 0; i < column->field->precision; i++) {
        bound *= 10;
    }
    uint64_t random = sample_random(&sample->seed);
    __int128 value = (__int128)((unsigned __int128)sample_random(&sample->seed) << 64 | random);
    value %= bound;
    if (sample->shape == SAMPLE_REPEATING) {
        value = (__int128)(random % 5) - 2;
        value = value % bound;
    } else if (random % 8 == 0) {
        value = bound - 1;
    } else if (random % 8 == 1) {
        value = 1 - bound;
    }
    return weir_builder_decimal(column, (uint64_t)value, (int64_t)(value >> 64));
}

static inline int sample_value(struct sample *sample, struct weir_column_builder *column) {
    const struct weir_field *field = column->field;
    uint64_t random = sample_random(&sample->seed);
    if (field->nullable &&
        (sample->shape == SAMPLE_ALL_NULL || (int)(random % 100) < sample->null_percent)) {
        return weir_builder_null(column);
    }
    int rc = 0;
    switch (field->type) {
    case WEIR_TYPE_BOOL:
        return weir_builder_bool(column, random >> 32 & 1);
    case WEIR_TYPE_INT8:
        return weir_builder_int(column, sample_int(sample, 8));
    case WEIR_TYPE_INT16:
        return weir_builder_int(column, sample_int(sample, 16));
    case WEIR_TYPE_INT32:
    case WEIR_TYPE_DATE:
        return weir_builder_int(column, sample_int(sample, 32));
    case WEIR_TYPE_FLOAT:
        return weir_builder_float(column, (float)sample_double(sample));
    case WEIR_TYPE_DOUBLE:
        return weir_builder_double(column, sample_double(sample));
    case WEIR_TYPE_DECIMAL:
        return sample_decimal(sample, column);
    case WEIR_TYPE_STRING:
    case WEIR_TYPE_BINARY:
        return sample_bytes(sample, column);
    case WEIR_TYPE_LIST:
        for (uint64_t n = random >> 32 & 3; n > 0 && rc == 0; n--) {
            rc = sample_value(sample, &column->children[0]);
        }
        return rc != 0 ? rc : weir_builder_list(column);
    case WEIR_TYPE_MAP:
        for (uint64_t n = random >> 32 & 3; n > 0 && rc == 0; n--) {
            char key[32]; /* unique within the map */
            int size = snprintf(key, sizeof(key), "%d-%d", (int)n, (int)(random >> 40 & 15));
            rc = weir_builder_bytes(&column->children[0], key, (size_t)size);
            rc = rc != 0 ? rc : sample_value(sample, &column->children[1]);
        }
        return rc != 0 ? rc : weir_builder_list(column);
    case WEIR_TYPE_STRUCT:
        for (int32_t i = 0; i < column->child_count && rc == 0; i++) {
            rc = sample_value(sample, &column->children[i]);
        }
        return rc != 0 ? rc : weir_builder_struct(column);
    default:
        return weir_builder_int(column, sample_int(sample, 64));
    }
}

/* A batch of `rows` rows; NULL on failure. */
static inline struct weir_batch *sample_batch(struct weir_pool *pool, struct weir_schema *schema,
                                              struct sample *sample, int32_t rows) {
    struct weir_batch_builder builder;
    if (weir_batch_builder_init(&builder, pool, schema, rows, 16 << 20, NULL) != 0) {
        return NULL;
    }
    int rc = weir_batch_builder_begin(&builder);
    for (int32_t i = 0; i < rows && rc == 0; i++) {
        for (int32_t c = 0; c < builder.column_count && rc == 0; c++) {
            rc = sample_value(sample, &builder.columns[c]);
        }
        if (rc == 0) {
            weir_batch_builder_finish_row(&builder);
        }
    }
    struct weir_batch *batch = rc == 0 ? weir_batch_builder_take(&builder) : NULL;
    weir_batch_builder_fini(&builder);
    return batch;
}

/* Every type there is; `nullable` as given. */
static inline struct weir_schema *sample_schema(bool nullable) {
    static const char *const columns[][2] = {
        {"flag", "bool"},
        {"i8", "int8"},
        {"i16", "int16"},
        {"i32", "int32"},
        {"i64", "int64"},
        {"f32", "float"},
        {"f64", "double"},
        {"d5", "decimal(5,2)"},
        {"d9", "decimal(9,0)"},
        {"d10", "decimal(10,3)"},
        {"d18", "decimal(18,6)"},
        {"d19", "decimal(19,4)"},
        {"d29", "decimal(29,10)"},
        {"d38", "decimal(38,12)"},
        {"s", "string"},
        {"b", "binary"},
        {"day", "date"},
        {"ts", "timestamp"},
        {"ntz", "timestamp_ntz"},
        {"ns", "timestamp_ns"},
        {"ns_ntz", "timestamp_ns_ntz"},
        {"list", "list<int32>"},
        {"texts", "list<string>"},
        {"deep", "list<list<struct<a: int64, b: list<string>>>>"},
        {"pair", "struct<x: double, y: struct<z: string, w: decimal(20,2)>>"},
        {"dict", "map<string, int64>"},
        {"wild", "map<string, list<map<string, bool>>>"},
    };
    struct weir_schema *schema = weir_schema_create();
    for (size_t i = 0; schema != NULL && i < sizeof(columns) / sizeof(columns[0]); i++) {
        if (weir_schema_add_text(schema, columns[i][0], columns[i][1], nullable, NULL) != 0) {
            weir_schema_unref(schema);
            return NULL;
        }
    }
    return schema;
}
