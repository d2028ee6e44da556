#pragma once
/* Random batches beside a naive model of them: every value goes into a builder and, as text, into
 * the model. What a batch holds after any operation is shown as the same text by a reader that
 * shares no code with the operations under test. Reproducible by seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "batch/builder.h"

enum { MODEL_POOL_BYTES = 64 << 20, MODEL_TEXT_BYTES = 64 << 20 };

/* Every type, and nesting of each kind. */
static const char *const model_types[] = {
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "float",
    "double",
    "decimal(5,2)",
    "decimal(38,9)",
    "string",
    "binary",
    "date",
    "timestamp",
    "timestamp_ntz",
    "timestamp_ns",
    "timestamp_ns_ntz",
    "list<bool>",
    "list<string>",
    "list<list<int16>>",
    "struct<a: bool, b: string, c: list<double>>",
    "map<string, int64>",
    "map<int32, struct<x: decimal(20,2), y: list<bool>>>",
    "list<struct<k: binary, v: map<string, bool>>>",
    "struct<a: struct<b: string, c: struct<d: int8, e: bool>>, f: list<int16>>",
};
#define MODEL_COLUMNS ((int32_t)(sizeof(model_types) / sizeof(model_types[0])))

static inline uint64_t model_random(uint64_t *seed) { /* splitmix64, by its published constants */
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

struct model {
    struct weir_pool *pool;
    struct weir_schema *schema;
    struct weir_buffer text;
    size_t *cells; /* where row r of column c begins: [r * MODEL_COLUMNS + c] */
    int32_t rows;
    uint64_t seed;
    uint64_t state;
    int null_percent;
};

static inline struct weir_schema *model_schema(void) {
    struct weir_schema *schema = weir_schema_create();
    assert_non_null(schema);
    for (int32_t i = 0; i < MODEL_COLUMNS; i++) {
        char name[16];
        snprintf(name, sizeof(name), "c%d", i);
        assert_int_equal(weir_schema_add_text(schema, name, model_types[i], true, NULL), WEIR_OK);
    }
    return schema;
}

static inline void model_hex(struct weir_buffer *out, const void *bytes, size_t size) {
    assert_int_equal(weir_buffer_printf(out, "'"), WEIR_OK);
    for (size_t i = 0; i < size; i++) {
        assert_int_equal(weir_buffer_printf(out, "%02x", ((const uint8_t *)bytes)[i]), WEIR_OK);
    }
    assert_int_equal(weir_buffer_printf(out, "'"), WEIR_OK);
}

/* One random value into the builder and into the text. */
static inline int model_put(struct model *m, struct weir_column_builder *b, bool may_be_null,
                            struct weir_buffer *out) {
    uint64_t r = model_random(&m->state);
    uint64_t v = model_random(&m->state);
    if (may_be_null && (int)(r % 100) < m->null_percent) {
        assert_int_equal(weir_buffer_printf(out, "null"), WEIR_OK);
        return weir_builder_null(b);
    }
    int64_t number = (int64_t)v >> (v & 63);
    int width = weir_type_width(b->type);
    int rc = WEIR_OK;
    switch (b->type) {
    case WEIR_TYPE_BOOL:
        assert_int_equal(weir_buffer_printf(out, "%d", (int)(v & 1)), WEIR_OK);
        return weir_builder_bool(b, v & 1);
    case WEIR_TYPE_FLOAT: {
        float f = (float)number / 8;
        model_hex(out, &f, sizeof(f));
        return weir_builder_float(b, f);
    }
    case WEIR_TYPE_DOUBLE: {
        double d = v % 7 == 0 ? -0.0 : (double)number / 1024;
        model_hex(out, &d, sizeof(d));
        return weir_builder_double(b, d);
    }
    case WEIR_TYPE_DECIMAL: {
        uint64_t halves[2] = {v, (uint64_t)(number >> 3)};
        model_hex(out, halves, sizeof(halves));
        return weir_builder_decimal(b, halves[0], (int64_t)halves[1]);
    }
    case WEIR_TYPE_STRING:
    case WEIR_TYPE_BINARY: {
        uint8_t bytes[600];
        size_t size = r >> 32 & 7;
        size = size < 6 ? size * 3 : r >> 40 & 511;
        for (size_t i = 0; i < size; i++) {
            bytes[i] = (uint8_t)('a' + (v + i * i) % 26);
        }
        model_hex(out, bytes, size);
        return weir_builder_bytes(b, bytes, size);
    }
    case WEIR_TYPE_LIST:
    case WEIR_TYPE_MAP: {
        int count = (r >> 32 & 31) == 0 ? 70 : (int)(r >> 40 & 3);
        assert_int_equal(weir_buffer_printf(out, "["), WEIR_OK);
        for (int i = 0; rc == WEIR_OK && i < count; i++) {
            for (int32_t c = 0; rc == WEIR_OK && c < b->child_count; c++) {
                rc = model_put(m, &b->children[c], b->field->children[c].nullable, out);
            }
            assert_int_equal(weir_buffer_printf(out, ";"), WEIR_OK);
        }
        assert_int_equal(weir_buffer_printf(out, "]"), WEIR_OK);
        return rc == WEIR_OK ? weir_builder_list(b) : rc;
    }
    case WEIR_TYPE_STRUCT:
        assert_int_equal(weir_buffer_printf(out, "{"), WEIR_OK);
        for (int32_t c = 0; rc == WEIR_OK && c < b->child_count; c++) {
            rc = model_put(m, &b->children[c], true, out);
        }
        assert_int_equal(weir_buffer_printf(out, "}"), WEIR_OK);
        return rc == WEIR_OK ? weir_builder_struct(b) : rc;
    default:
        number = (int64_t)((uint64_t)number << (64 - width * 8)) >> (64 - width * 8);
        assert_int_equal(weir_buffer_printf(out, "%lld", (long long)number), WEIR_OK);
        return weir_builder_int(b, number);
    }
}

/* Value `row` of a column as the same text, read straight from the Arrow layout. */
static inline void model_show(const struct weir_column *column, int64_t row,
                              struct weir_buffer *out) {
    if (column->validity != NULL && (column->validity[row / 8] >> (row % 8) & 1) == 0) {
        assert_int_equal(weir_buffer_printf(out, "null"), WEIR_OK);
        return;
    }
    if (column->codes != NULL) {
        model_show(column->dictionary, column->codes[row], out);
        return;
    }
    const uint8_t *values = column->values;
    int width = weir_type_width(column->type);
    switch (column->type) {
    case WEIR_TYPE_BOOL:
        assert_int_equal(weir_buffer_printf(out, "%d", values[row / 8] >> (row % 8) & 1), WEIR_OK);
        return;
    case WEIR_TYPE_FLOAT:
    case WEIR_TYPE_DOUBLE:
    case WEIR_TYPE_DECIMAL:
        model_hex(out, values + row * width, (size_t)width);
        return;
    case WEIR_TYPE_STRING:
    case WEIR_TYPE_BINARY:
        model_hex(out, values + column->offsets[row],
                  (size_t)(column->offsets[row + 1] - column->offsets[row]));
        return;
    case WEIR_TYPE_LIST:
    case WEIR_TYPE_MAP:
        assert_int_equal(weir_buffer_printf(out, "["), WEIR_OK);
        for (int32_t i = column->offsets[row]; i < column->offsets[row + 1]; i++) {
            for (int32_t c = 0; c < column->child_count; c++) {
                model_show(&column->children[c], i, out);
            }
            assert_int_equal(weir_buffer_printf(out, ";"), WEIR_OK);
        }
        assert_int_equal(weir_buffer_printf(out, "]"), WEIR_OK);
        return;
    case WEIR_TYPE_STRUCT:
        assert_int_equal(weir_buffer_printf(out, "{"), WEIR_OK);
        for (int32_t c = 0; c < column->child_count; c++) {
            model_show(&column->children[c], row, out);
        }
        assert_int_equal(weir_buffer_printf(out, "}"), WEIR_OK);
        return;
    default: {
        int64_t number = 0;
        memcpy(&number, values + row * width, (size_t)width);
        number = (int64_t)((uint64_t)number << (64 - width * 8)) >> (64 - width * 8);
        assert_int_equal(weir_buffer_printf(out, "%lld", (long long)number), WEIR_OK);
    }
    }
}

static inline const char *model_cell(struct model *m, int32_t row, int32_t column) {
    return (const char *)m->text.data + m->cells[(size_t)row * MODEL_COLUMNS + (size_t)column];
}

static inline void model_init(struct model *m, uint64_t seed, int null_percent) {
    memset(m, 0, sizeof(*m));
    m->seed = m->state = seed;
    m->null_percent = null_percent;
    m->pool = weir_pool_create(MODEL_POOL_BYTES);
    assert_non_null(m->pool);
    m->schema = model_schema();
    weir_buffer_init(&m->text, MODEL_TEXT_BYTES);
}

/* `rows` rows, `undo_percent` of them appended in part, or whole, and undone before. */
static inline struct weir_batch *model_batch(struct model *m, int32_t rows, int undo_percent) {
    struct weir_batch_builder builder;
    assert_int_equal(
        weir_batch_builder_init(&builder, m->pool, m->schema, rows > 0 ? rows : 1, SIZE_MAX, NULL),
        WEIR_OK);
    int32_t first = m->seed % 3 == 0 ? 2 : rows; /* that there is room for at first */
    assert_int_equal(weir_batch_builder_begin_rows(&builder, first), WEIR_OK);
    struct weir_buffer scratch;
    weir_buffer_init(&scratch, MODEL_TEXT_BYTES);
    m->cells = realloc(m->cells, (size_t)(rows + 1) * MODEL_COLUMNS * sizeof(*m->cells));
    assert_non_null(m->cells);
    for (int32_t r = 0; r < rows; r++) {
        while ((int)(model_random(&m->state) % 100) < undo_percent) {
            int32_t columns = (int32_t)(model_random(&m->state) % (MODEL_COLUMNS + 1));
            for (int32_t c = 0; c < columns; c++) {
                assert_int_equal(model_put(m, &builder.columns[c], true, &scratch), WEIR_OK);
            }
            struct weir_column_builder *list =
                &builder.columns[18]; /* elements without their list */
            if (columns < 18 && model_random(&m->state) % 2 == 0) {
                assert_int_equal(model_put(m, &list->children[0], true, &scratch), WEIR_OK);
            }
            weir_batch_builder_undo_row(&builder);
        }
        for (int32_t c = 0; c < MODEL_COLUMNS; c++) {
            m->cells[(size_t)r * MODEL_COLUMNS + (size_t)c] = m->text.size;
            assert_int_equal(model_put(m, &builder.columns[c], true, &m->text), WEIR_OK);
            assert_int_equal(weir_buffer_append(&m->text, "", 1), WEIR_OK);
        }
        weir_batch_builder_finish_row(&builder);
    }
    m->rows = rows;
    struct weir_batch *batch = weir_batch_builder_take(&builder);
    assert_non_null(batch);
    weir_batch_builder_fini(&builder);
    weir_buffer_fini(&scratch);
    return batch;
}

static inline int64_t model_nulls(const struct weir_column *column) {
    int64_t nulls = 0;
    for (int64_t i = 0; column->validity != NULL && i < column->length; i++) {
        nulls += (column->validity[i / 8] >> (i % 8) & 1) == 0;
    }
    return nulls;
}

static inline void model_check_nulls(const struct weir_column *column) {
    assert_int_equal(column->null_count, model_nulls(column));
    assert_true((column->null_count == 0) == (column->validity == NULL));
    for (int32_t c = 0; column->codes == NULL && c < column->child_count; c++) {
        model_check_nulls(&column->children[c]);
    }
}

/* Row i of the batch is row sel[i] (start + i when sel is NULL) of the model, in every column; null
 * counts are exact at every depth. */
static inline void model_check(struct model *m, const struct weir_batch *batch, const int32_t *sel,
                               int32_t start) {
    struct weir_buffer shown;
    weir_buffer_init(&shown, MODEL_TEXT_BYTES);
    assert_int_equal(batch->column_count, MODEL_COLUMNS);
    for (int32_t c = 0; c < MODEL_COLUMNS; c++) {
        assert_int_equal(batch->columns[c].length, batch->rows);
        model_check_nulls(&batch->columns[c]);
        for (int32_t r = 0; r < batch->rows; r++) {
            weir_buffer_clear(&shown);
            model_show(&batch->columns[c], r, &shown);
            const char *want = model_cell(m, sel != NULL ? sel[r] : start + r, c);
            if (strcmp(weir_buffer_text(&shown), want) != 0) {
                fail_msg("seed %llu: row %d of %s is %.200s, not %.200s",
                         (unsigned long long)m->seed, r, model_types[c], weir_buffer_text(&shown),
                         want);
            }
        }
    }
    weir_buffer_fini(&shown);
}

/* Every buffer is back in the pool. */
static inline void model_fini(struct model *m) {
    assert_int_equal(weir_pool_used_bytes(m->pool), 0);
    weir_pool_destroy(m->pool);
    weir_schema_unref(m->schema);
    weir_buffer_fini(&m->text);
    free(m->cells);
}

/* The text column of `batch` as a dictionary-encoded one; null rows hold a code out of range. */
static inline void model_encode(struct weir_batch *batch, struct weir_column *column) {
    struct weir_column *dictionary = weir_batch_alloc(batch, sizeof(*dictionary));
    int32_t *codes = weir_batch_alloc(batch, ((size_t)column->length + 1) * sizeof(*codes));
    assert_non_null(dictionary);
    assert_non_null(codes);
    for (int64_t i = 0; i < column->length; i++) {
        bool null = weir_column_is_null(column, i);
        codes[i] = null ? INT32_MAX : (int32_t)(column->length - 1 - i);
    }
    /* The dictionary: the same values in reverse, found through a gather of this column alone. */
    int64_t rows = column->length;
    *dictionary = *column;
    dictionary->validity = NULL;
    dictionary->null_count = 0;
    size_t width = (size_t)weir_type_width(column->type);
    if (weir_type_is_bytes(column->type)) {
        int32_t *offsets = weir_batch_alloc(batch, ((size_t)rows + 1) * sizeof(*offsets));
        size_t total = (size_t)(column->offsets[rows] - column->offsets[0]);
        uint8_t *bytes = weir_batch_alloc(batch, total + 1);
        assert_non_null(offsets);
        assert_non_null(bytes);
        offsets[0] = 0;
        for (int64_t i = 0; i < rows; i++) {
            int64_t from = rows - 1 - i;
            int32_t size = column->offsets[from + 1] - column->offsets[from];
            memcpy(bytes + offsets[i], (const uint8_t *)column->values + column->offsets[from],
                   (size_t)size);
            offsets[i + 1] = offsets[i] + size;
        }
        dictionary->offsets = offsets;
        dictionary->values = bytes;
    } else {
        uint8_t *values = weir_batch_alloc(batch, (size_t)rows * width + 1);
        assert_non_null(values);
        for (int64_t i = 0; i < rows; i++) {
            memcpy(values + (size_t)i * width,
                   (const uint8_t *)column->values + (size_t)(rows - 1 - i) * width, width);
        }
        dictionary->values = values;
    }
    column->codes = codes;
    column->dictionary = dictionary;
    column->offsets = NULL;
    column->values = NULL;
}
