#pragma once
/* The rows the lake's benches share: batches of 4096 retail events in nine columns. Sequential time
 * and id, two keys of 16 thousand and 10 thousand values, an amount in random cents, a quantity, a
 * unique text, a flag, a country. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "batch/builder.h"

enum { SALE_COLUMNS = 9, SALE_DISTINCT_BATCHES = 256 };

static const char *const sale_columns[SALE_COLUMNS][2] = {
    {"event_time", "timestamp"}, {"id", "int64"},      {"key", "string"},
    {"sku", "string"},           {"amount", "double"}, {"qty", "int32"},
    {"note", "string"},          {"flag", "bool"},     {"country", "string"}};

static inline double sale_cpu(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static inline double sale_least(double a, double b) {
    return a < b ? a : b;
}

static inline struct weir_schema *sale_schema(void) {
    struct weir_schema *schema = weir_schema_create();
    for (int i = 0; schema != NULL && i < SALE_COLUMNS; i++) {
        if (weir_schema_add_text(schema, sale_columns[i][0], sale_columns[i][1], true, NULL) !=
            WEIR_OK) {
            return NULL;
        }
    }
    return schema;
}

static inline uint64_t sale_draw(uint64_t *seed) {
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline int sale_text(struct weir_column_builder *column, const char *prefix, int digits,
                            int n) {
    char text[64];
    int size = snprintf(text, sizeof(text), "%s%0*d", prefix, digits, n);
    return weir_builder_bytes(column, text, (size_t)size);
}

static inline int sale_row(struct weir_column_builder *c, uint64_t *seed, int64_t row,
                           int64_t *time_us) {
    static const char *const countries[] = {"DE", "FR", "NL", "PL", "IT", "ES", "AT",
                                            "SE", "BE", "CZ", "DK", "FI", "GR", "HU",
                                            "IE", "LT", "LV", "PT", "RO", "SK"};
    char note[64];
    uint64_t r = sale_draw(seed);
    uint64_t skewed = (r >> 14 & 1023) * (r >> 24 & 1023);
    *time_us += (int64_t)(r >> 34 & 8191);
    int rc = weir_builder_int(&c[0], *time_us);
    rc |= weir_builder_int(&c[1], row);
    rc |= sale_text(&c[2], "cust-", 7, (int)(r & 16383));
    rc |= sale_text(&c[3], "SKU-", 5, (int)(skewed / 105));
    rc |= weir_builder_double(&c[4], (double)(sale_draw(seed) % 1000000) / 100.0);
    rc |= weir_builder_int(&c[5], (int64_t)(r >> 47) % 12);
    int size = snprintf(note, sizeof(note), "note %07lld %016llx", (long long)row,
                        (unsigned long long)sale_draw(seed));
    rc |= weir_builder_bytes(&c[6], note, (size_t)size);
    rc |= weir_builder_bool(&c[7], r >> 58 == 0);
    return rc | weir_builder_bytes(&c[8], countries[(r >> 50) % 20], 2);
}

/* Fills `batches` with `count` batches; false when there is no memory. */
static inline bool sale_batches(struct weir_pool *pool, struct weir_schema *schema,
                                struct weir_batch **batches, int count) {
    struct weir_batch_builder builder;
    if (weir_batch_builder_init(&builder, pool, schema, WEIR_BATCH_ROWS_MAX, 1 << 20, NULL) !=
        WEIR_OK) {
        return false;
    }
    uint64_t seed = 42;
    int64_t row = 0;
    int64_t time_us = 1700000000000000;
    int made = 0;
    int rc = WEIR_OK;
    for (; made < count && rc == WEIR_OK; made++) {
        rc = weir_batch_builder_begin(&builder);
        for (int i = 0; i < WEIR_BATCH_ROWS_MAX && rc == WEIR_OK; i++) {
            rc = sale_row(builder.columns, &seed, row++, &time_us);
            weir_batch_builder_finish_row(&builder);
        }
        batches[made] = rc == WEIR_OK ? weir_batch_builder_take(&builder) : NULL;
        rc = batches[made] != NULL ? rc : WEIR_E_NOMEM;
    }
    weir_batch_builder_fini(&builder);
    return rc == WEIR_OK;
}

/* Bytes of one column, offsets included, copied to `to`. */
static inline size_t sale_copy_column(const struct weir_column *column, uint8_t *to) {
    size_t bytes = column->offsets != NULL ? (size_t)column->offsets[column->length]
                   : column->type == WEIR_TYPE_BOOL
                       ? (size_t)column->length / 8
                       : (size_t)column->length * (size_t)weir_type_width(column->type);
    memcpy(to, column->values, bytes);
    if (column->offsets != NULL) {
        memcpy(to + bytes, column->offsets, (size_t)column->length * sizeof(int32_t));
        bytes += (size_t)column->length * sizeof(int32_t);
    }
    return bytes;
}
