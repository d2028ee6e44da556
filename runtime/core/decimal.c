/* Decimal arithmetic of abi/native.h. Everything is exact or says so: a result that needs more than
 * 38 digits is an overflow, and only division and rescaling round, half to even. Products and
 * quotients that leave 128 bits on the way are worked out digit by digit instead. */
#include "core/decimal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCALE_MAX 38

typedef unsigned __int128 u128;

__int128 weir_decimal_power10(int32_t n) {
    static const uint64_t small[] = {1ull,
                                     10ull,
                                     100ull,
                                     1000ull,
                                     10000ull,
                                     100000ull,
                                     1000000ull,
                                     10000000ull,
                                     100000000ull,
                                     1000000000ull,
                                     10000000000ull,
                                     100000000000ull,
                                     1000000000000ull,
                                     10000000000000ull,
                                     100000000000000ull,
                                     1000000000000000ull,
                                     10000000000000000ull,
                                     100000000000000000ull,
                                     1000000000000000000ull,
                                     10000000000000000000ull};
    if (n < 20) {
        return (__int128)small[n];
    }
    return (__int128)small[19] * (__int128)small[n - 19];
}

static u128 magnitude(__int128 v) {
    return v < 0 ? -(u128)v : (u128)v;
}

static bool has_38_digits_at_most(__int128 v) {
    return magnitude(v) < (u128)weir_decimal_power10(38);
}

static int store(struct weir_decimal128 *out, __int128 value, int32_t scale) {
    if (!has_38_digits_at_most(value)) {
        return WEIR_NUMBER_OVERFLOW;
    }
    weir_decimal_set(out, value, scale);
    return WEIR_NUMBER_OK;
}

/* v * 10^n */
static int scale_up(__int128 *v, int32_t n) {
    if (n == 0 || *v == 0) {
        return WEIR_NUMBER_OK;
    }
    __int128 result;
    if (n > SCALE_MAX || __builtin_mul_overflow(*v, weir_decimal_power10(n), &result)) {
        return WEIR_NUMBER_OVERFLOW;
    }
    *v = result;
    return WEIR_NUMBER_OK;
}

/* Rounds quotient (of magnitudes) half-even, given remainder and divisor. */
static u128 round_half_even(u128 quotient, u128 remainder, u128 divisor) {
    u128 rest = divisor - remainder;
    return quotient + (remainder > rest || (remainder == rest && (quotient & 1) != 0));
}

/* v / 10^n, half-even */
static __int128 scale_down(__int128 v, int32_t n) {
    if (n > SCALE_MAX) {
        return 0; /* v < 10^38, so |v / 10^39| < 0.1 */
    }
    u128 divisor = (u128)weir_decimal_power10(n);
    u128 m = magnitude(v);
    u128 q = round_half_even(m / divisor, m % divisor, divisor);
    return v < 0 ? -(__int128)q : (__int128)q;
}

/* Both values at the larger scale. */
static int align(const struct weir_decimal128 *a, const struct weir_decimal128 *b, __int128 *x,
                 __int128 *y, int32_t *scale) {
    *x = weir_decimal_unscaled(a);
    *y = weir_decimal_unscaled(b);
    *scale = a->scale > b->scale ? a->scale : b->scale;
    int rc = scale_up(x, *scale - a->scale);
    return rc != WEIR_NUMBER_OK ? rc : scale_up(y, *scale - b->scale);
}

int weir_decimal_add(struct weir_decimal128 *out, const struct weir_decimal128 *a,
                     const struct weir_decimal128 *b) {
    __int128 x;
    __int128 y;
    int32_t scale;
    if (align(a, b, &x, &y, &scale) != WEIR_NUMBER_OK || __builtin_add_overflow(x, y, &x)) {
        return WEIR_NUMBER_OVERFLOW;
    }
    return store(out, x, scale);
}

int weir_decimal_sub(struct weir_decimal128 *out, const struct weir_decimal128 *a,
                     const struct weir_decimal128 *b) {
    __int128 x;
    __int128 y;
    int32_t scale;
    if (align(a, b, &x, &y, &scale) != WEIR_NUMBER_OK || __builtin_sub_overflow(x, y, &x)) {
        return WEIR_NUMBER_OVERFLOW;
    }
    return store(out, x, scale);
}

int weir_decimal_mul(struct weir_decimal128 *out, const struct weir_decimal128 *a,
                     const struct weir_decimal128 *b) {
    __int128 x = weir_decimal_unscaled(a);
    __int128 y = weir_decimal_unscaled(b);
    int32_t scale = a->scale + b->scale;
    __int128 product;
    /* Trailing zeros make room where a product would have too many digits or decimals. */
    while (scale > 0 && (scale > SCALE_MAX || __builtin_mul_overflow(x, y, &product) ||
                         !has_38_digits_at_most(product))) {
        if (x % 10 == 0) {
            x /= 10;
        } else if (y % 10 == 0) {
            y /= 10;
        } else if (x % 2 == 0 && y % 5 == 0) { /* a zero of the product only */
            x /= 2;
            y /= 5;
        } else if (x % 5 == 0 && y % 2 == 0) {
            x /= 5;
            y /= 2;
        } else {
            return WEIR_NUMBER_OVERFLOW;
        }
        scale--;
    }
    if (__builtin_mul_overflow(x, y, &product)) {
        return WEIR_NUMBER_OVERFLOW;
    }
    return store(out, product, scale);
}

/* quotient = x * 10^digits / y of magnitudes, half-even. */
static int long_divide(u128 x, u128 y, int32_t digits, u128 *quotient) {
    u128 limit = (u128)weir_decimal_power10(38);
    u128 q = x / y;
    u128 r = x % y;
    for (int32_t i = 0; i < digits; i++) {
        if (r == 0 && q == 0) {
            break;
        }
        if (q >= limit / 10) {
            return WEIR_NUMBER_OVERFLOW;
        }
        /* 10 r = ((2 (2 r) + r) 2) mod y, with its quotient digit; no step leaves 128 bits, since
         * r < y < 10^38 */
        u128 t = r;
        u128 digit = 0;
        static const bool add[] = {false, true, false};
        for (int step = 0; step < 3; step++) {
            t += t;
            digit += digit;
            if (t >= y) {
                t -= y;
                digit++;
            }
            if (add[step]) {
                t += r;
                if (t >= y) {
                    t -= y;
                    digit++;
                }
            }
        }
        q = q * 10 + digit;
        r = t;
    }
    *quotient = round_half_even(q, r, y);
    return WEIR_NUMBER_OK;
}

int weir_decimal_div(struct weir_decimal128 *out, const struct weir_decimal128 *a,
                     const struct weir_decimal128 *b) {
    __int128 x = weir_decimal_unscaled(a);
    __int128 y = weir_decimal_unscaled(b);
    if (y == 0) {
        return WEIR_NUMBER_DIVIDE;
    }
    int32_t scale = a->scale > b->scale ? a->scale : b->scale;
    scale = scale < 6 ? 6 : scale;
    int32_t digits = scale - a->scale + b->scale; /* never negative */
    u128 m = magnitude(x);
    u128 n = magnitude(y);
    u128 q;
    u128 wide;
    if (digits <= SCALE_MAX &&
        !__builtin_mul_overflow(m, (u128)weir_decimal_power10(digits), &wide)) {
        q = round_half_even(wide / n, wide % n, n);
    } else {
        int rc = long_divide(m, n, digits, &q);
        if (rc != WEIR_NUMBER_OK) {
            return rc;
        }
    }
    if (q >= (u128)weir_decimal_power10(38)) {
        return WEIR_NUMBER_OVERFLOW;
    }
    weir_decimal_set(out, (x < 0) != (y < 0) ? -(__int128)q : (__int128)q, scale);
    return WEIR_NUMBER_OK;
}

int weir_decimal_mod(struct weir_decimal128 *out, const struct weir_decimal128 *a,
                     const struct weir_decimal128 *b) {
    __int128 x;
    __int128 y;
    int32_t scale;
    if (weir_decimal_unscaled(b) == 0) {
        return WEIR_NUMBER_DIVIDE;
    }
    if (align(a, b, &x, &y, &scale) != WEIR_NUMBER_OK) {
        return WEIR_NUMBER_OVERFLOW;
    }
    __int128 r = x % y;
    if (r != 0 && (r < 0) != (y < 0)) {
        r += y;
    }
    return store(out, r, scale);
}

int weir_decimal_idiv(struct weir_decimal128 *out, const struct weir_decimal128 *a,
                      const struct weir_decimal128 *b) {
    __int128 x;
    __int128 y;
    int32_t scale;
    if (weir_decimal_unscaled(b) == 0) {
        return WEIR_NUMBER_DIVIDE;
    }
    if (align(a, b, &x, &y, &scale) != WEIR_NUMBER_OK) {
        return WEIR_NUMBER_OVERFLOW;
    }
    return store(out, x / y, 0);
}

void weir_decimal_negate(struct weir_decimal128 *out, const struct weir_decimal128 *a) {
    weir_decimal_set(out, -weir_decimal_unscaled(a), a->scale);
}

int weir_decimal_rescale(struct weir_decimal128 *out, const struct weir_decimal128 *a,
                         int32_t scale) {
    if (scale < 0 || scale > SCALE_MAX) {
        return WEIR_NUMBER_RANGE;
    }
    __int128 v = weir_decimal_unscaled(a);
    if (scale < a->scale) {
        v = scale_down(v, a->scale - scale);
    } else if (scale_up(&v, scale - a->scale) != WEIR_NUMBER_OK) {
        return WEIR_NUMBER_OVERFLOW;
    }
    return store(out, v, scale);
}

int weir_decimal_round(struct weir_decimal128 *out, const struct weir_decimal128 *a,
                       int32_t digits) {
    if (digits >= a->scale) {
        *out = *a;
        return WEIR_NUMBER_OK;
    }
    if (digits >= 0) {
        return weir_decimal_rescale(out, a, digits);
    }
    if (digits < -SCALE_MAX) {
        weir_decimal_set(out, 0, 0);
        return WEIR_NUMBER_OK;
    }
    __int128 v = scale_down(weir_decimal_unscaled(a), a->scale - digits);
    return scale_up(&v, -digits) != WEIR_NUMBER_OK ? WEIR_NUMBER_OVERFLOW : store(out, v, 0);
}

int weir_decimal_compare(const struct weir_decimal128 *a, const struct weir_decimal128 *b) {
    __int128 x = weir_decimal_unscaled(a);
    __int128 y = weir_decimal_unscaled(b);
    /* A value that cannot be scaled up is larger than anything the other side can hold. */
    if (a->scale < b->scale && scale_up(&x, b->scale - a->scale) != WEIR_NUMBER_OK) {
        return x < 0 ? -1 : 1;
    }
    if (b->scale < a->scale && scale_up(&y, a->scale - b->scale) != WEIR_NUMBER_OK) {
        return y < 0 ? 1 : -1;
    }
    return (x > y) - (x < y);
}

/* --- against doubles ------------------------------------------------------------------------ */

/* Just wide enough: a decimal with the same nearest double as d has both sides under 2^384. */
#define LIMBS 6

struct wide {
    uint64_t limb[LIMBS]; /* low first */
};

static void wide_set(struct wide *w, u128 value) {
    memset(w, 0, sizeof(*w));
    w->limb[0] = (uint64_t)value;
    w->limb[1] = (uint64_t)(value >> 64);
}

static void wide_multiply(struct wide *w, uint64_t factor) {
    uint64_t carry = 0;
    for (int i = 0; i < LIMBS; i++) {
        u128 t = (u128)w->limb[i] * factor + carry;
        w->limb[i] = (uint64_t)t;
        carry = (uint64_t)(t >> 64);
    }
}

static void wide_shift(struct wide *w, int bits) {
    for (; bits >= 32; bits -= 32) {
        wide_multiply(w, 1ull << 32);
    }
    wide_multiply(w, 1ull << bits);
}

static int wide_compare(const struct wide *a, const struct wide *b) {
    for (int i = LIMBS - 1; i >= 0; i--) {
        if (a->limb[i] != b->limb[i]) {
            return a->limb[i] < b->limb[i] ? -1 : 1;
        }
    }
    return 0;
}

int weir_decimal_compare_double(const struct weir_decimal128 *a, double b) {
    if (isnan(b)) {
        return -1;
    }
    double near = weir_decimal_to_double(a);
    if (near != b) {
        return near < b ? -1 : 1; /* rounding never changes the order against a double */
    }
    if (b == 0) {
        return 0;
    }
    int exponent;
    double fraction = frexp(fabs(b), &exponent);
    struct wide left;
    struct wide right;
    wide_set(&left, magnitude(weir_decimal_unscaled(a)));
    wide_set(&right, (u128)ldexp(fraction, 53));
    exponent -= 53;
    for (int32_t i = 0; i < a->scale; i++) {
        wide_multiply(&right, 10);
    }
    wide_shift(exponent < 0 ? &left : &right, exponent < 0 ? -exponent : exponent);
    int order = wide_compare(&left, &right);
    return b < 0 ? -order : order;
}

double weir_decimal_to_double(const struct weir_decimal128 *a) {
    static const double exact[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                   1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                   1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    __int128 v = weir_decimal_unscaled(a);
    if (magnitude(v) <= (u128)1 << 53 && a->scale <= 22) {
        return (double)v / exact[a->scale]; /* both exact, one rounding */
    }
    char text[64];
    struct weir_decimal128 whole = *a;
    whole.scale = 0;
    int n = weir_decimal_to_text(&whole, text);
    snprintf(text + n, sizeof(text) - (size_t)n, "e-%d", a->scale);
    return strtod(text, NULL);
}

/* --- text ----------------------------------------------------------------------------------- */

int weir_decimal_fits(const struct weir_decimal128 *a, int32_t precision) {
    return precision >= 38 || (precision >= 0 && magnitude(weir_decimal_unscaled(a)) <
                                                     (u128)weir_decimal_power10(precision));
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

int weir_decimal_from_text(struct weir_decimal128 *out, const char *text, int64_t length) {
    u128 limit = (u128)weir_decimal_power10(38);
    u128 value = 0;
    int64_t i = 0;
    int64_t scale = 0;
    int64_t digits = 0;
    bool is_negative = length > 0 && text[0] == '-';
    bool has_point = false;
    bool is_too_long = false;
    if (length > 0 && (text[0] == '-' || text[0] == '+')) {
        i++;
    }
    for (; i < length && (is_digit(text[i]) || (text[i] == '.' && !has_point)); i++) {
        if (text[i] == '.') {
            has_point = true;
            continue;
        }
        digits++;
        scale += has_point;
        if (value >= limit / 10) {
            is_too_long = true;
        } else {
            value = value * 10 + (u128)(text[i] - '0');
        }
    }
    if (digits == 0) {
        return WEIR_NUMBER_SYNTAX;
    }
    if (i < length && (text[i] == 'e' || text[i] == 'E')) {
        i++;
        bool is_down = i < length && text[i] == '-';
        if (i < length && (text[i] == '-' || text[i] == '+')) {
            i++;
        }
        int64_t exponent = 0;
        int64_t start = i;
        for (; i < length && is_digit(text[i]); i++) {
            exponent = exponent < 100000 ? exponent * 10 + (text[i] - '0') : exponent;
        }
        if (i == start) {
            return WEIR_NUMBER_SYNTAX;
        }
        scale += is_down ? exponent : -exponent;
    }
    if (i != length) {
        return WEIR_NUMBER_SYNTAX;
    }
    if (is_too_long) {
        return WEIR_NUMBER_OVERFLOW;
    }
    if (scale > SCALE_MAX) {
        return WEIR_NUMBER_RANGE;
    }
    __int128 result = (__int128)value;
    if (scale < 0) {
        if (result != 0 && (scale < -SCALE_MAX || scale_up(&result, (int32_t)-scale) != 0)) {
            return WEIR_NUMBER_OVERFLOW;
        }
        scale = 0;
    }
    return store(out, is_negative ? -result : result, (int32_t)scale);
}

int weir_decimal_from_double(struct weir_decimal128 *out, double value) {
    if (!isfinite(value)) {
        return WEIR_NUMBER_RANGE;
    }
    /* Up to 15 digits only one decimal reads back as this double, so the first that does is it. */
    static const double powers[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6};
    for (int32_t scale = 0; scale < 7; scale++) {
        double whole = rint(value * powers[scale]);
        if (fabs(whole) < 1e15 && whole / powers[scale] == value) {
            weir_decimal_set(out, (__int128)whole, scale);
            return WEIR_NUMBER_OK;
        }
    }
    char text[40];
    int n = 0;
    for (int digits = 15; digits <= 17; digits++) {
        n = snprintf(text, sizeof(text), "%.*e", digits - 1, value);
        if (strtod(text, NULL) == value) {
            break;
        }
    }
    /* Zeros before the exponent are no digits of the shortest text. */
    char *exponent = strchr(text, 'e');
    char *end = exponent;
    while (end > text && end[-1] == '0') {
        end--;
    }
    if (end > text && end[-1] == '.') {
        end--;
    }
    memmove(end, exponent, strlen(exponent) + 1);
    n = (int)strlen(text);
    return weir_decimal_from_text(out, text, n);
}

void weir_decimal_from_int64(struct weir_decimal128 *out, int64_t value) {
    weir_decimal_set(out, value, 0);
}

int weir_decimal_to_int64(int64_t *out, const struct weir_decimal128 *a) {
    __int128 divisor = weir_decimal_power10(a->scale);
    __int128 v = weir_decimal_unscaled(a);
    if (v % divisor != 0) {
        return WEIR_NUMBER_RANGE;
    }
    v /= divisor;
    if (v < INT64_MIN || v > INT64_MAX) {
        return WEIR_NUMBER_OVERFLOW;
    }
    *out = (int64_t)v;
    return WEIR_NUMBER_OK;
}

int weir_decimal_to_text(const struct weir_decimal128 *a, char *buffer) {
    char digits[44];
    int count = 0;
    __int128 v = weir_decimal_unscaled(a);
    u128 m = magnitude(v);
    /* Nineteen digits a 128-bit division. */
    while (m > UINT64_MAX) {
        uint64_t low = (uint64_t)(m % 10000000000000000000ull);
        m /= 10000000000000000000ull;
        for (int i = 0; i < 19; i++) {
            digits[count++] = (char)('0' + low % 10);
            low /= 10;
        }
    }
    for (uint64_t low = (uint64_t)m; low > 0 || count == 0; low /= 10) {
        digits[count++] = (char)('0' + low % 10);
    }
    while (count <= a->scale) {
        digits[count++] = '0';
    }
    int n = 0;
    if (v < 0) {
        buffer[n++] = '-';
    }
    while (count > 0) {
        if (count == a->scale) {
            buffer[n++] = '.';
        }
        buffer[n++] = digits[--count];
    }
    buffer[n] = '\0';
    return n;
}
