/* One value of a column, appended to a builder of the same type. */
#include <string.h>

#include "batch/builder.h"

static int copy_elements(struct weir_column_builder *to, const struct weir_column *from,
                         int64_t row) {
    int rc = WEIR_OK;
    for (int64_t i = from->offsets[row]; rc == WEIR_OK && i < from->offsets[row + 1]; i++) {
        for (int32_t c = 0; rc == WEIR_OK && c < from->child_count; c++) {
            rc = weir_builder_copy(&to->children[c], &from->children[c], i);
        }
    }
    return rc == WEIR_OK ? weir_builder_list(to) : rc;
}

int weir_builder_copy(struct weir_column_builder *to, const struct weir_column *from, int64_t row) {
    uint64_t words[2];
    int32_t length;
    int rc = WEIR_OK;
    if (weir_column_is_null(from, row)) {
        return weir_builder_null(to);
    }
    if (from->codes != NULL) {
        row = from->codes[row];
        from = from->dictionary;
    }
    switch ((enum weir_type)from->type) {
    case WEIR_TYPE_BOOL:
        return weir_builder_bool(to, weir_bit_get(from->values, row));
    case WEIR_TYPE_FLOAT:
        return weir_builder_float(to, ((const float *)from->values)[row]);
    case WEIR_TYPE_DOUBLE:
        return weir_builder_double(to, ((const double *)from->values)[row]);
    case WEIR_TYPE_DECIMAL:
        memcpy(words, (const uint8_t *)from->values + row * 16, sizeof(words));
        return weir_builder_decimal(to, words[0], (int64_t)words[1]);
    case WEIR_TYPE_STRING:
    case WEIR_TYPE_BINARY: {
        const char *bytes = weir_column_bytes(from, row, &length);
        return weir_builder_bytes(to, bytes, (size_t)length);
    }
    case WEIR_TYPE_LIST:
    case WEIR_TYPE_MAP:
        return copy_elements(to, from, row);
    case WEIR_TYPE_STRUCT:
        for (int32_t c = 0; rc == WEIR_OK && c < from->child_count; c++) {
            rc = weir_builder_copy(&to->children[c], &from->children[c], row);
        }
        return rc == WEIR_OK ? weir_builder_struct(to) : rc;
    default:
        return weir_builder_int(to, weir_column_int(from, row));
    }
}
