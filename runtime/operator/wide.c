#include "operator/wide.h"
#include "core/decimal.h"

bool weir_int128_fits(weir_int128 value, int digits) {
    weir_int128 limit = weir_decimal_power10(digits);
    return value < limit && value > -limit;
}

bool weir_wide_average(const struct weir_wide *sum, uint64_t count, int shift,
                       weir_int128 *average) {
    struct weir_wide magnitude = *sum;
    bool negative = (int64_t)sum->limbs[2] < 0;
    if (negative) {
        uint64_t carry = 1;
        for (int i = 0; i < 3; i++) {
            magnitude.limbs[i] = ~magnitude.limbs[i] + carry;
            carry = carry && magnitude.limbs[i] == 0;
        }
    }
    uint64_t quotient[3];
    uint64_t remainder = 0;
    for (int i = 2; i >= 0; i--) {
        weir_uint128 part = ((weir_uint128)remainder << 64) | magnitude.limbs[i];
        quotient[i] = (uint64_t)(part / count);
        remainder = (uint64_t)(part % count);
    }
    weir_uint128 whole = ((weir_uint128)quotient[1] << 64) | quotient[0];
    weir_int128 power = weir_decimal_power10(shift);
    weir_uint128 limit = (weir_uint128)weir_decimal_power10(38);
    if (quotient[2] != 0 || whole > limit / (weir_uint128)power) {
        return false;
    }
    weir_uint128 rest = (weir_uint128)remainder * (weir_uint128)power;
    weir_uint128 result = whole * (weir_uint128)power + rest / count;
    weir_uint128 twice = rest % count * 2;
    if (twice > count || (twice == count && (result & 1) != 0)) {
        result++;
    }
    if (result >= limit) {
        return false;
    }
    *average = negative ? -(weir_int128)result : (weir_int128)result;
    return true;
}
