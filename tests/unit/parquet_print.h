#pragma once
/* Rows as JSON lines in exact form, for comparison with other readers: bytes and strings as hex,
 * decimals as unscaled integers in text, times as integers, floats as their bits in hex (NaN as
 * "nan"), maps as lists of pairs. */
#include <stdio.h>
#include <string.h>

#include "batch/batch.h"

static inline void print_wide(FILE *out, __int128 value) {
    char digits[64];
    int at = 63;
    bool negative = value < 0;
    unsigned __int128 left = negative ? -(unsigned __int128)value : (unsigned __int128)value;
    digits[at] = 0;
    do {
        digits[--at] = (char)('0' + (int)(left % 10));
        left /= 10;
    } while (left > 0);
    fprintf(out, "\"%s%s\"", negative ? "-" : "", digits + at);
}

static inline void print_value(FILE *out, const struct weir_column *column, int64_t row) {
    if (weir_column_is_null(column, row)) {
        fprintf(out, "null");
        return;
    }
    uint64_t bits = 0;
    switch (column->type) {
    case WEIR_TYPE_BOOL:
        fprintf(out, weir_bit_get(column->values, row) ? "true" : "false");
        return;
    case WEIR_TYPE_INT8:
        fprintf(out, "%d", ((const int8_t *)column->values)[row]);
        return;
    case WEIR_TYPE_INT16:
        fprintf(out, "%d", ((const int16_t *)column->values)[row]);
        return;
    case WEIR_TYPE_INT32:
    case WEIR_TYPE_DATE:
        fprintf(out, "%d", ((const int32_t *)column->values)[row]);
        return;
    case WEIR_TYPE_FLOAT:
    case WEIR_TYPE_DOUBLE: {
        bool wide = column->type == WEIR_TYPE_DOUBLE;
        double value = wide ? ((const double *)column->values)[row]
                            : (double)((const float *)column->values)[row];
        memcpy(&bits, &value, sizeof(bits)); /* floats as the double they equal */
        fprintf(out, value != value ? "\"nan\"" : "\"%016llx\"", (unsigned long long)bits);
        return;
    }
    case WEIR_TYPE_DECIMAL: {
        __int128 value;
        memcpy(&value, (const uint8_t *)column->values + (size_t)row * 16, sizeof(value));
        print_wide(out, value);
        return;
    }
    case WEIR_TYPE_STRING:
    case WEIR_TYPE_BINARY: {
        int32_t size;
        const char *bytes = weir_column_bytes(column, row, &size);
        fputc('"', out);
        for (int32_t i = 0; i < size; i++) {
            fprintf(out, "%02x", (unsigned char)bytes[i]);
        }
        fputc('"', out);
        return;
    }
    case WEIR_TYPE_LIST:
    case WEIR_TYPE_MAP:
        fputc('[', out);
        for (int32_t i = column->offsets[row]; i < column->offsets[row + 1]; i++) {
            fputs(i == column->offsets[row] ? "" : ",", out);
            if (column->type == WEIR_TYPE_MAP) {
                fputc('[', out);
            }
            for (int32_t c = 0; c < column->child_count; c++) {
                fputs(c == 0 ? "" : ",", out);
                print_value(out, &column->children[c], i);
            }
            if (column->type == WEIR_TYPE_MAP) {
                fputc(']', out);
            }
        }
        fputc(']', out);
        return;
    case WEIR_TYPE_STRUCT:
        fputc('[', out);
        for (int32_t c = 0; c < column->child_count; c++) {
            fputs(c == 0 ? "" : ",", out);
            print_value(out, &column->children[c], row);
        }
        fputc(']', out);
        return;
    default:
        fprintf(out, "%lld", (long long)((const int64_t *)column->values)[row]);
        return;
    }
}

static inline void print_batch(FILE *out, const struct weir_batch *batch) {
    for (int32_t row = 0; row < batch->rows; row++) {
        fputc('[', out);
        for (int32_t c = 0; c < batch->column_count; c++) {
            fputs(c == 0 ? "" : ",", out);
            print_value(out, &batch->columns[c], row);
        }
        fputs("]\n", out);
    }
}
