#include "lake/delta/convert.h"
#include "core/decimal.h"

#include <string.h>
#include <strings.h>

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_LIMIT, "read table: out of memory");
}

static bool is_int(uint8_t type) {
    return type >= WEIR_TYPE_INT8 && type <= WEIR_TYPE_INT64;
}

/* True when the values can stay as they are under the new type. */
static bool same_layout(uint8_t from, uint8_t to) {
    if (from == to) {
        return true;
    }
    if (weir_type_is_bytes(from) && weir_type_is_bytes(to)) {
        return true;
    }
    bool from_long = from == WEIR_TYPE_INT64 || weir_type_is_timestamp(from);
    bool to_ns = to == WEIR_TYPE_TIMESTAMP_NS || to == WEIR_TYPE_TIMESTAMP_NS_NTZ;
    bool us_pair = (from == WEIR_TYPE_TIMESTAMP || from == WEIR_TYPE_TIMESTAMP_NTZ) &&
                   (to == WEIR_TYPE_TIMESTAMP || to == WEIR_TYPE_TIMESTAMP_NTZ);
    return us_pair ||
           (to_ns && from_long && from != WEIR_TYPE_TIMESTAMP && from != WEIR_TYPE_TIMESTAMP_NTZ);
}

static bool widens(const struct weir_field *from, const struct weir_field *to) {
    if (is_int(from->type)) {
        return (is_int(to->type) && to->type >= from->type) || to->type == WEIR_TYPE_DOUBLE ||
               (to->type == WEIR_TYPE_FLOAT && from->type <= WEIR_TYPE_INT16) ||
               to->type == WEIR_TYPE_DECIMAL;
    }
    /* Parquet has no 8 and 16 bit integers of its own: unannotated ones arrive as int32 */
    return (from->type == WEIR_TYPE_FLOAT && to->type == WEIR_TYPE_DOUBLE) ||
           (from->type == WEIR_TYPE_DECIMAL && to->type == WEIR_TYPE_DECIMAL) ||
           (from->type == WEIR_TYPE_DATE && to->type == WEIR_TYPE_TIMESTAMP_NTZ) ||
           ((from->type == WEIR_TYPE_TIMESTAMP_NS || from->type == WEIR_TYPE_TIMESTAMP_NS_NTZ) &&
            (to->type == WEIR_TYPE_TIMESTAMP || to->type == WEIR_TYPE_TIMESTAMP_NTZ));
}

/* Widens row by row; false when a value does not fit. */
static bool widen_values(const struct weir_field *to_field, const struct weir_field *from_field,
                         const struct weir_column *from, int64_t rows, void *values) {
    bool ok = true;
    int shift = to_field->scale - (from_field->type == WEIR_TYPE_DECIMAL ? from_field->scale : 0);
    __int128 factor = weir_decimal_power10(shift > 0 ? shift : -shift);
    for (int64_t row = 0; row < rows; row++) {
        if (weir_column_is_null(from, row)) {
            memset((uint8_t *)values + (size_t)row * (size_t)weir_type_width(to_field->type), 0,
                   (size_t)weir_type_width(to_field->type));
            continue;
        }
        switch (to_field->type) {
        case WEIR_TYPE_DOUBLE:
            ((double *)values)[row] = from_field->type == WEIR_TYPE_FLOAT
                                          ? (double)((const float *)from->values)[row]
                                          : (double)weir_column_int(from, row);
            break;
        case WEIR_TYPE_FLOAT:
            ((float *)values)[row] = (float)weir_column_int(from, row);
            break;
        case WEIR_TYPE_DECIMAL: {
            __int128 value;
            if (from_field->type == WEIR_TYPE_DECIMAL) {
                memcpy(&value, (const uint8_t *)from->values + (size_t)row * 16, sizeof(value));
            } else {
                value = weir_column_int(from, row);
            }
            if (shift >= 0) {
                ok &= !__builtin_mul_overflow(value, factor, &value);
            } else {
                ok &= value % factor == 0;
                value /= factor;
            }
            memcpy((uint8_t *)values + (size_t)row * 16, &value, sizeof(value));
            break;
        }
        case WEIR_TYPE_TIMESTAMP:
        case WEIR_TYPE_TIMESTAMP_NTZ:
            if (from_field->type == WEIR_TYPE_DATE) {
                ((int64_t *)values)[row] = weir_column_int(from, row) * 86400000000ll;
            } else {
                int64_t ns = weir_column_int(from, row);
                ((int64_t *)values)[row] = ns / 1000 - (ns % 1000 < 0);
            }
            break;
        case WEIR_TYPE_INT8: {
            int64_t value = weir_column_int(from, row);
            ok &= value >= INT8_MIN && value <= INT8_MAX;
            ((int8_t *)values)[row] = (int8_t)value;
            break;
        }
        case WEIR_TYPE_INT16: {
            int64_t value = weir_column_int(from, row);
            ok &= value >= INT16_MIN && value <= INT16_MAX;
            ((int16_t *)values)[row] = (int16_t)value;
            break;
        }
        case WEIR_TYPE_INT32:
            ((int32_t *)values)[row] = (int32_t)weir_column_int(from, row);
            break;
        default:
            ((int64_t *)values)[row] = weir_column_int(from, row);
            break;
        }
    }
    return ok;
}

static int mismatch(const struct weir_field *to, const struct weir_field *from,
                    struct weir_error *err) {
    return weir_error_set(
        err, WEIR_E_UNSUPPORTED, "column %s is %s in the table but %s in the data file", to->name,
        weir_type_name((enum weir_type)to->type), weir_type_name((enum weir_type)from->type));
}

static int convert_struct(const struct weir_field *to_field,
                          const struct weir_delta_column *to_names,
                          const struct weir_field *from_field, const struct weir_column *from,
                          int64_t rows, struct weir_batch *batch, struct weir_column *out,
                          struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; i < to_field->child_count && rc == WEIR_OK; i++) {
        const char *name = to_names->children[i].physical_name;
        int32_t at = 0;
        while (at < from_field->child_count && strcmp(from_field->children[at].name, name) != 0) {
            at++;
        }
        for (int32_t j = 0; at == from_field->child_count && j < from_field->child_count; j++) {
            if (strcasecmp(from_field->children[j].name, name) == 0) {
                at = j;
                break;
            }
        }
        bool found = at < from_field->child_count;
        rc = delta_convert_column(&to_field->children[i], &to_names->children[i],
                                  found ? &from_field->children[at] : NULL,
                                  found ? &from->children[at] : NULL, rows, batch,
                                  &out->children[i], err);
    }
    return rc;
}

int delta_convert_column(const struct weir_field *to_field,
                         const struct weir_delta_column *to_names,
                         const struct weir_field *from_field, const struct weir_column *from,
                         int64_t rows, struct weir_batch *batch, struct weir_column *out,
                         struct weir_error *err) {
    if (from == NULL) {
        return weir_column_nulls(out, to_field, rows, batch) == WEIR_OK ? WEIR_OK : no_memory(err);
    }
    if (weir_type_is_nested(to_field->type)) {
        if (from_field->type != to_field->type ||
            weir_column_init(out, to_field, batch) != WEIR_OK) {
            return from_field->type != to_field->type ? mismatch(to_field, from_field, err)
                                                      : no_memory(err);
        }
        out->length = from->length;
        out->null_count = from->null_count;
        out->validity = from->validity;
        out->offsets = from->offsets;
        if (to_field->type == WEIR_TYPE_STRUCT) {
            return convert_struct(to_field, to_names, from_field, from, rows, batch, out, err);
        }
        int rc = WEIR_OK;
        for (int32_t i = 0; i < to_field->child_count && rc == WEIR_OK; i++) {
            rc = delta_convert_column(&to_field->children[i], &to_names->children[i],
                                      &from_field->children[i], &from->children[i],
                                      from->children[i].length, batch, &out->children[i], err);
        }
        return rc;
    }
    bool same_scale = to_field->type != WEIR_TYPE_DECIMAL || (from_field->scale == to_field->scale);
    if (same_layout(from_field->type, to_field->type) && same_scale) {
        *out = *from;
        out->type = to_field->type;
        out->precision = to_field->precision;
        out->scale = to_field->scale;
        return WEIR_OK;
    }
    bool narrows = from_field->type == WEIR_TYPE_INT32 &&
                   (to_field->type == WEIR_TYPE_INT8 || to_field->type == WEIR_TYPE_INT16);
    if (!narrows && !widens(from_field, to_field)) {
        return mismatch(to_field, from_field, err);
    }
    if (weir_column_init(out, to_field, batch) != WEIR_OK) {
        return no_memory(err);
    }
    out->length = from->length;
    out->null_count = from->null_count;
    out->validity = from->validity;
    out->values =
        weir_batch_alloc(batch, (size_t)rows * (size_t)weir_type_width(to_field->type) + 8);
    if (out->values == NULL) {
        return no_memory(err);
    }
    return widen_values(to_field, from_field, from, rows, out->values)
               ? WEIR_OK
               : mismatch(to_field, from_field, err);
}
