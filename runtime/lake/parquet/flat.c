/* Columns without nesting, which most are: levels come as runs, values go from the page into the
 * batch's own buffers, and nothing is staged. Values are decoded dense and spread out where there
 * are nulls. */
#include <string.h>

#include "lake/parquet/file.h"

struct flat {
    struct parquet_column *column;
    struct weir_batch *batch;
    struct weir_column *out;
    struct weir_error *err;
    struct parquet_text text;
    int32_t rows; /* wanted */
    int32_t at;   /* done */
    int32_t width;
};

static int no_room(const struct flat *flat) {
    return weir_error_set(flat->err, WEIR_E_LIMIT,
                          "parquet column %s: the batch passes the pool's limit",
                          flat->column->node->name);
}

static int failed(const struct flat *flat, int rc) {
    if (rc == WEIR_E_CORRUPT) {
        return parquet_corrupt(flat->column, flat->err, "page values");
    }
    return rc == WEIR_E_LIMIT || rc == WEIR_E_NOMEM ? no_room(flat) : rc;
}

/* --- bits --------------------------------------------------------------------------------- */

/* n bytes of 0 and 1 to bits, from bit `at` on; the bits there are 0. */
static void put_bits(uint8_t *bits, int32_t at, const uint8_t *bytes, int32_t n) {
    int32_t i = 0;
    for (; i < n && (at + i) % 8 != 0; i++) {
        bits[(at + i) / 8] |= (uint8_t)(bytes[i] << ((at + i) & 7));
    }
    for (; i + 8 <= n; i += 8) { /* one multiplication gathers eight */
        uint64_t word;
        memcpy(&word, bytes + i, sizeof(word));
        bits[(at + i) / 8] = (uint8_t)(word * 0x0102040810204080u >> 56);
    }
    for (; i < n; i++) {
        bits[(at + i) / 8] |= (uint8_t)(bytes[i] << ((at + i) & 7));
    }
}

static void set_bits(uint8_t *bits, int32_t at, int32_t n) {
    for (; n > 0 && at % 8 != 0; n--, at++) {
        weir_bit_set(bits, at);
    }
    memset(bits + at / 8, 255, (size_t)n / 8);
    for (int32_t i = n & ~7; i < n; i++) {
        weir_bit_set(bits, at + i);
    }
}

/* From here on the column has nulls. */
static int need_validity(struct flat *flat) {
    if (flat->out->validity != NULL) {
        return WEIR_OK;
    }
    size_t size = (size_t)flat->rows / 8 + 1;
    flat->out->validity = weir_batch_alloc(flat->batch, size);
    if (flat->out->validity == NULL) {
        return no_room(flat);
    }
    memset(flat->out->validity, 0, size);
    set_bits(flat->out->validity, 0, flat->at);
    return WEIR_OK;
}

/* --- values ------------------------------------------------------------------------------- */

static int take_bools(struct flat *flat, const uint8_t *levels, int32_t n, int32_t present) {
    uint8_t dense[PARQUET_BLOCK];
    uint8_t wide[PARQUET_BLOCK];
    struct parquet_values *values = &flat->column->values;
    uint8_t *bits = flat->out->values;
    if (levels == NULL && values->encoding == PARQUET_PLAIN && values->bit % 8 == 0 &&
        flat->at % 8 == 0 && n % 8 == 0) {
        if (values->end - values->at < values->bit / 8 + n / 8) {
            return failed(flat, WEIR_E_CORRUPT);
        }
        memcpy(bits + flat->at / 8, values->at + values->bit / 8, (size_t)n / 8);
        values->bit += n;
        return WEIR_OK;
    }
    for (int32_t at = 0; at < n; at += PARQUET_BLOCK) {
        int32_t count = n - at < PARQUET_BLOCK ? n - at : (int32_t)PARQUET_BLOCK;
        int32_t decoded = levels == NULL ? count : present; /* levels come a block at a time */
        int rc = decoded > 0 ? parquet_values_next(values, decoded, dense, NULL) : WEIR_OK;
        if (rc != WEIR_OK) {
            return failed(flat, rc);
        }
        const uint8_t *from = dense;
        for (int32_t i = 0; levels != NULL && i < count; i++) {
            wide[i] = levels[i] != 0 ? *from++ : 0;
        }
        put_bits(bits, flat->at + at, levels == NULL ? dense : wide, count);
    }
    return WEIR_OK;
}

static int decode_fixed(struct flat *flat, int32_t n, uint8_t *to) {
    struct parquet_values *values = &flat->column->values;
    enum parquet_convert convert = flat->column->slot->convert;
    if (convert == PARQUET_CONVERT_SAME32 || convert == PARQUET_CONVERT_SAME64) {
        int rc = parquet_values_next(values, n, to, NULL);
        return rc == WEIR_OK ? rc : failed(flat, rc);
    }
    _Alignas(8) uint8_t fixed[PARQUET_BLOCK * 8];
    struct parquet_slice slices[PARQUET_BLOCK];
    bool sliced = parquet_values_sliced(values->physical);
    for (int32_t at = 0; at < n; at += PARQUET_BLOCK) {
        int32_t count = n - at < PARQUET_BLOCK ? n - at : (int32_t)PARQUET_BLOCK;
        int rc = parquet_values_next(values, count, sliced ? NULL : fixed, sliced ? slices : NULL);
        if (rc != WEIR_OK) {
            return failed(flat, rc);
        }
        if (!parquet_convert(convert, fixed, sliced ? slices : NULL, count,
                             to + (size_t)at * (size_t)flat->width)) {
            return parquet_corrupt(flat->column, flat->err,
                                   "a value is beyond the range of its type");
        }
    }
    return WEIR_OK;
}

static int take_fixed(struct flat *flat, const uint8_t *levels, int32_t n, int32_t present) {
    size_t width = (size_t)flat->width;
    uint8_t *to = (uint8_t *)flat->out->values + (size_t)flat->at * width;
    int rc = present > 0 ? decode_fixed(flat, present, to) : WEIR_OK;
    if (rc != WEIR_OK) {
        return rc;
    }
    for (int32_t i = n - 1, dense = present; levels != NULL && i >= 0 && i >= dense; i--) {
        if (levels[i] != 0) { /* spread out from the back */
            dense--;
            memcpy(to + (size_t)i * width, to + (size_t)dense * width, width);
        } else {
            memset(to + (size_t)i * width, 0, width);
        }
    }
    return WEIR_OK;
}

static int take_text(struct flat *flat, const uint8_t *levels, int32_t n, int32_t present) {
    int32_t *ends = flat->out->offsets + 1 + flat->at;
    int32_t before = (int32_t)flat->text.size;
    int rc = present > 0 ? parquet_values_text(&flat->column->values, present, &flat->text, ends)
                         : WEIR_OK;
    if (rc != WEIR_OK) {
        return failed(flat, rc);
    }
    for (int32_t i = n - 1, dense = present; levels != NULL && i >= dense && i >= 0; i--) {
        ends[i] = dense > 0 ? ends[dense - 1] : before;
        dense -= levels[i] != 0;
    }
    return WEIR_OK;
}

/* n rows, of which `present` have a value; levels (1 present, 0 null) only where some have not. */
static int take(struct flat *flat, const uint8_t *levels, int32_t n, int32_t present) {
    int rc;
    if (present < n) {
        rc = need_validity(flat);
        if (rc != WEIR_OK) {
            return rc;
        }
        flat->out->null_count += n - present;
        put_bits(flat->out->validity, flat->at, levels, n);
    } else {
        levels = NULL;
        if (flat->out->validity != NULL) {
            set_bits(flat->out->validity, flat->at, n);
        }
    }
    if (flat->out->type == WEIR_TYPE_BOOL) {
        rc = take_bools(flat, levels, n, present);
    } else if (flat->column->slot->convert == PARQUET_CONVERT_BYTES) {
        rc = take_text(flat, levels, n, present);
    } else {
        rc = take_fixed(flat, levels, n, present);
    }
    flat->at += n;
    return rc;
}

/* --- levels ------------------------------------------------------------------------------- */

static int take_nulls(struct flat *flat, int32_t n) {
    static const uint8_t none[PARQUET_BLOCK];
    int rc = WEIR_OK;
    for (int32_t at = 0; at < n && rc == WEIR_OK; at += PARQUET_BLOCK) {
        rc = take(flat, none, n - at < PARQUET_BLOCK ? n - at : (int32_t)PARQUET_BLOCK, 0);
    }
    return rc;
}

/* Levels of 0 and 1 one by one, `n` of them at most. */
static int take_levels(struct flat *flat, int32_t n, int32_t *taken) {
    uint8_t levels[PARQUET_BLOCK];
    n = n < PARQUET_BLOCK ? n : (int32_t)PARQUET_BLOCK;
    if (parquet_rle_next_u8(&flat->column->definition, levels, n) < n) {
        return parquet_corrupt(flat->column, flat->err, "definition levels end early");
    }
    int32_t present = 0;
    uint8_t any = 0;
    for (int32_t i = 0; i < n; i++) {
        present += levels[i];
        any |= levels[i];
    }
    if (any > 1) {
        return parquet_corrupt(flat->column, flat->err, "definition level");
    }
    *taken = n;
    return take(flat, levels, n, present);
}

static int take_page(struct flat *flat) {
    struct parquet_column *column = flat->column;
    int32_t n = flat->rows - flat->at;
    n = n < column->page_left ? n : (int32_t)column->page_left;
    uint32_t level = 1;
    int32_t taken = n;
    int rc;
    if (column->node->definition == 0) {
        rc = take(flat, NULL, n, n);
    } else {
        taken = parquet_rle_run(&column->definition, n, &level);
        if (level > 1) {
            return parquet_corrupt(column, flat->err, "definition level");
        }
        rc = taken == 0   ? take_levels(flat, n, &taken)
             : level == 1 ? take(flat, NULL, taken, taken)
                          : take_nulls(flat, taken);
    }
    column->page_left -= taken;
    return rc;
}

/* --- the batch ---------------------------------------------------------------------------- */

static int make_room(struct flat *flat) {
    struct weir_column *out = flat->out;
    size_t rows = (size_t)flat->rows;
    if (flat->column->slot->convert == PARQUET_CONVERT_BYTES) {
        out->offsets = weir_batch_alloc(flat->batch, (rows + 1) * sizeof(int32_t));
        if (out->offsets == NULL) {
            return no_room(flat);
        }
        out->offsets[0] = 0;
        return parquet_text_reserve(&flat->text, flat->column->text_bytes) == WEIR_OK
                   ? WEIR_OK
                   : no_room(flat);
    }
    bool is_bool = out->type == WEIR_TYPE_BOOL;
    size_t size = is_bool ? rows / 8 + 1 : rows * (size_t)flat->width + 1;
    out->values = weir_batch_alloc(flat->batch, size);
    if (out->values == NULL) {
        return no_room(flat);
    }
    if (is_bool) {
        memset(out->values, 0, size);
    }
    return WEIR_OK;
}

int parquet_flat_read(struct parquet_column *column, int32_t rows, struct weir_batch *batch,
                      struct weir_column *out, struct weir_error *err) {
    struct flat flat = {.column = column,
                        .batch = batch,
                        .out = out,
                        .err = err,
                        .text = {.batch = batch},
                        .rows = rows,
                        .width = weir_type_width(out->type)};
    out->length = rows;
    out->null_count = 0;
    if (out->type == WEIR_TYPE_FLOAT || out->type == WEIR_TYPE_DOUBLE) {
        out->flags = WEIR_COLUMN_MAY_HAVE_NAN;
    }
    int rc = make_room(&flat);
    while (rc == WEIR_OK && flat.at < rows) {
        rc = parquet_column_load_page(column, err);
        rc = rc == WEIR_OK ? take_page(&flat) : rc;
    }
    if (rc == WEIR_OK && column->slot->convert == PARQUET_CONVERT_BYTES) {
        out->values = flat.text.bytes;
        column->text_bytes = flat.text.size + flat.text.size / 16;
    }
    return rc;
}
