#include "lake/upkeep/order_key.h"

#include <string.h>

static uint64_t signed_key(int64_t value) {
    return (uint64_t)value ^ ((uint64_t)1 << 63);
}

static uint64_t double_key(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits >> 63 != 0 ? ~bits : bits | (uint64_t)1 << 63;
}

static uint64_t decimal_key(const uint8_t *value) {
    int64_t words[2];
    memcpy(words, value, sizeof(words));
    bool fits = words[1] == words[0] >> 63;
    return fits ? signed_key(words[0]) : words[1] < 0 ? 0 : UINT64_MAX;
}

uint64_t delta_order_key(enum weir_type type, const struct weir_column *column, int64_t row) {
    const void *values = column->values;
    if (weir_column_is_null(column, row)) {
        return 0;
    }
    switch (type) {
    case WEIR_TYPE_BOOL:
        return signed_key(weir_bit_get(values, row));
    case WEIR_TYPE_INT8:
        return signed_key(((const int8_t *)values)[row]);
    case WEIR_TYPE_INT16:
        return signed_key(((const int16_t *)values)[row]);
    case WEIR_TYPE_INT32:
    case WEIR_TYPE_DATE:
        return signed_key(((const int32_t *)values)[row]);
    case WEIR_TYPE_FLOAT:
        return double_key(((const float *)values)[row]);
    case WEIR_TYPE_DOUBLE:
        return double_key(((const double *)values)[row]);
    case WEIR_TYPE_DECIMAL:
        return decimal_key((const uint8_t *)values + (size_t)row * 16);
    default:
        return signed_key(((const int64_t *)values)[row]);
    }
}
