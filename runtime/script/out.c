/* Growing output columns for map loops (out.h). Offsets are written as rows come; `filled` is the
 * first row whose offset is not known yet, so a skipped row costs one store when the next comes. */
#include "script/out.h"

#include <stdlib.h>

#include "script/nested.h"

struct weir_out {
    struct weir_nested *nested; /* list, struct, map: then all but `rows` and `type` is unused */
    struct weir_buffer bytes;
    int32_t *offsets; /* rows + 1 */
    uint8_t *validity;
    int32_t rows;
    int32_t capacity; /* rows the arrays have room for */
    int32_t filled;   /* offsets[0..filled] are final, but for a second assignment */
    uint8_t type;
};

struct weir_out *weir_out_create(uint8_t type, size_t limit_bytes) {
    struct weir_out *out = calloc(1, sizeof(*out));
    if (out != NULL) {
        out->type = type;
        weir_buffer_init(&out->bytes, limit_bytes < INT32_MAX ? limit_bytes : INT32_MAX);
    }
    return out;
}

struct weir_out *weir_out_create_nested(const struct weir_field *field, size_t limit_bytes) {
    struct weir_out *out = weir_out_create(field->type, limit_bytes);
    if (out != NULL && (out->nested = weir_nested_create(field, limit_bytes)) == NULL) {
        weir_out_destroy(out);
        out = NULL;
    }
    return out;
}

void weir_out_destroy(struct weir_out *out) {
    if (out != NULL) {
        weir_nested_destroy(out->nested);
        weir_buffer_fini(&out->bytes);
        free(out->offsets);
        free(out->validity);
        free(out);
    }
}

int weir_out_begin(struct weir_out *out, int32_t rows) {
    if (out->nested != NULL) {
        weir_nested_cut(out->nested, 0);
        out->rows = rows;
        return WEIR_OK;
    }
    if (out->offsets == NULL || rows > out->capacity) {
        int32_t capacity = rows > WEIR_BATCH_ROWS_MAX ? rows : WEIR_BATCH_ROWS_MAX;
        int32_t *offsets = realloc(out->offsets, sizeof(*offsets) * ((size_t)capacity + 1));
        if (offsets == NULL) {
            return WEIR_E_NOMEM;
        }
        out->offsets = offsets;
        uint8_t *validity = realloc(out->validity, (size_t)capacity / 8 + 1);
        if (validity == NULL) {
            return WEIR_E_NOMEM;
        }
        out->validity = validity;
        out->capacity = capacity;
    }
    weir_buffer_clear(&out->bytes);
    memset(out->validity, 0, (size_t)rows / 8 + 1);
    out->offsets[0] = 0;
    out->rows = rows;
    out->filled = 0;
    return WEIR_OK;
}

/* Makes `row` the next to be written; what it held is dropped. */
static int seek(struct weir_out *out, int32_t row) {
    if (row < 0 || row >= out->rows || row < out->filled - 1) {
        return WEIR_E_BUG;
    }
    if (row == out->filled - 1) {
        out->filled--;
        out->bytes.size = (size_t)out->offsets[row];
        weir_bit_clear(out->validity, row);
        return WEIR_OK;
    }
    for (int32_t i = out->filled; i < row; i++) {
        out->offsets[i + 1] = out->offsets[i];
    }
    out->filled = row;
    return WEIR_OK;
}

/* ASCII goes eight bytes at a time. */
bool weir_out_is_utf8(const char *bytes, int64_t n) {
    const uint8_t *s = (const uint8_t *)bytes;
    int64_t i = 0;
    while (i < n) {
        uint64_t word;
        if (n - i >= 8) {
            memcpy(&word, s + i, 8);
            if ((word & 0x8080808080808080u) == 0) {
                i += 8;
                continue;
            }
        }
        uint8_t c = s[i];
        if (c < 0x80) {
            i++;
            continue;
        }
        int64_t length = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
        if (c < 0xc2 || c > 0xf4 || n - i < length) {
            return false;
        }
        for (int64_t k = 1; k < length; k++) {
            if ((s[i + k] & 0xc0) != 0x80) {
                return false;
            }
        }
        if ((c == 0xe0 && s[i + 1] < 0xa0) || (c == 0xed && s[i + 1] > 0x9f) ||
            (c == 0xf0 && s[i + 1] < 0x90) || (c == 0xf4 && s[i + 1] > 0x8f)) {
            return false;
        }
        i += length;
    }
    return true;
}

int weir_out_set_bytes(struct weir_out *out, int32_t row, const char *bytes, int64_t length) {
    if (length < 0) {
        return WEIR_E_BUG;
    }
    if (out->type == WEIR_TYPE_STRING && !weir_out_is_utf8(bytes, length)) {
        return WEIR_E_DATA;
    }
    int rc = seek(out, row);
    if (rc == WEIR_OK) {
        rc = weir_buffer_append(&out->bytes, bytes, (size_t)length);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    out->offsets[row + 1] = (int32_t)out->bytes.size;
    weir_bit_set(out->validity, row);
    out->filled = row + 1;
    return WEIR_OK;
}

struct weir_nested *weir_out_nested(struct weir_out *out, int32_t row) {
    if (row < 0 || row >= out->rows || row < weir_nested_length(out->nested) - 1) {
        return NULL;
    }
    weir_nested_cut(out->nested, row);
    return weir_nested_pad(out->nested, row) == WEIR_OK ? out->nested : NULL;
}

int weir_out_set_null(struct weir_out *out, int32_t row) {
    if (out->nested != NULL) {
        return weir_out_nested(out, row) != NULL ? weir_nested_null(out->nested) : WEIR_E_LIMIT;
    }
    int rc = seek(out, row);
    if (rc == WEIR_OK) {
        out->offsets[row + 1] = out->offsets[row];
        out->filled = row + 1;
    }
    return rc;
}

void weir_out_rewind(struct weir_out *out, int32_t row) {
    if (out->nested != NULL) {
        weir_nested_cut(out->nested, row);
        return;
    }
    while (out->filled > row) {
        out->filled--;
        weir_bit_clear(out->validity, out->filled);
    }
    out->bytes.size = (size_t)out->offsets[out->filled];
}

const char *weir_out_get(const struct weir_out *out, int32_t row, int32_t *length) {
    if (row < 0 || row >= out->filled || !weir_bit_get(out->validity, row)) {
        *length = 0;
        return NULL;
    }
    *length = out->offsets[row + 1] - out->offsets[row];
    /* An empty value of a column without bytes is not null. */
    return out->bytes.data != NULL ? (const char *)out->bytes.data + out->offsets[row] : "";
}

int weir_out_finish(struct weir_out *out, struct weir_batch *batch, struct weir_column *column) {
    if (out->nested != NULL) {
        weir_nested_cut(out->nested, out->rows);
        int rc = weir_nested_pad(out->nested, out->rows);
        return rc == WEIR_OK ? weir_nested_finish(out->nested, batch, column) : rc;
    }
    for (; out->filled < out->rows; out->filled++) {
        out->offsets[out->filled + 1] = out->offsets[out->filled];
    }
    size_t rows = (size_t)out->rows;
    int64_t valid = 0;
    for (size_t i = 0; i < (rows + 7) / 8; i++) {
        valid += __builtin_popcount(out->validity[i]);
    }
    int32_t *offsets = weir_batch_alloc(batch, (rows + 1) * sizeof(*offsets));
    char *values = weir_batch_alloc(batch, out->bytes.size > 0 ? out->bytes.size : 1);
    if (offsets == NULL || values == NULL) {
        return WEIR_E_LIMIT;
    }
    memcpy(offsets, out->offsets, (rows + 1) * sizeof(*offsets));
    if (out->bytes.size > 0) {
        memcpy(values, out->bytes.data, out->bytes.size);
    }
    uint8_t *validity = NULL;
    if (valid < out->rows) {
        validity = weir_batch_alloc(batch, (rows + 7) / 8);
        if (validity == NULL) {
            return WEIR_E_LIMIT;
        }
        memcpy(validity, out->validity, (rows + 7) / 8);
    }
    column->length = out->rows;
    column->null_count = out->rows - valid;
    column->validity = validity;
    column->offsets = offsets;
    column->values = values;
    column->codes = NULL;
    column->dictionary = NULL;
    column->type = out->type;
    return WEIR_OK;
}
