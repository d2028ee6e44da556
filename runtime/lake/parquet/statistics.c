/* Bounds are kept in registers over a page and written back once. */
#include "lake/parquet/statistics.h"

#include <math.h>
#include <string.h>

void parquet_statistics_init(struct parquet_statistics *statistics) {
    memset(statistics, 0, sizeof(*statistics));
    weir_buffer_init(&statistics->min_bytes, PARQUET_STAT_BYTES_MAX);
    weir_buffer_init(&statistics->max_bytes, PARQUET_STAT_BYTES_MAX);
}

void parquet_statistics_fini(struct parquet_statistics *statistics) {
    weir_buffer_fini(&statistics->min_bytes);
    weir_buffer_fini(&statistics->max_bytes);
}

void parquet_statistics_clear(struct parquet_statistics *statistics) {
    statistics->value_count = 0;
    statistics->null_count = 0;
    statistics->set = false;
    statistics->has_nan = false;
    statistics->too_long = false;
}

__int128 parquet_load_be(const uint8_t *bytes, int32_t width) {
    __int128 value = width > 0 && bytes[0] >= 128 ? -1 : 0;
    for (int32_t i = 0; i < width; i++) {
        value = (__int128)((unsigned __int128)value << 8 | bytes[i]);
    }
    return value;
}

void parquet_store_be(uint8_t *bytes, int32_t width, __int128 value) {
    for (int32_t i = width - 1; i >= 0; i--) {
        bytes[i] = (uint8_t)value;
        value >>= 8;
    }
}

static void take_ints(struct parquet_statistics *statistics, int64_t minimum, int64_t maximum) {
    if (!statistics->set || minimum < statistics->min_int) {
        statistics->min_int = minimum;
    }
    if (!statistics->set || maximum > statistics->max_int) {
        statistics->max_int = maximum;
    }
    statistics->set = true;
}

static void take_doubles(struct parquet_statistics *statistics, double minimum, double maximum) {
    if (!statistics->set || minimum < statistics->min_double) {
        statistics->min_double = minimum;
    }
    if (!statistics->set || maximum > statistics->max_double) {
        statistics->max_double = maximum;
    }
    statistics->set = true;
    if (statistics->min_double == 0.0) {
        statistics->min_double = -0.0;
    }
    if (statistics->max_double == 0.0) {
        statistics->max_double = 0.0;
    }
}

static void take_wide(struct parquet_statistics *statistics, __int128 minimum, __int128 maximum) {
    if (!statistics->set || minimum < statistics->min_wide) {
        statistics->min_wide = minimum;
    }
    if (!statistics->set || maximum > statistics->max_wide) {
        statistics->max_wide = maximum;
    }
    statistics->set = true;
}

/* Comparisons with NaN are false, so NaN never becomes a bound; the sum of x != x counts it. */
#define FLOAT_BOUNDS(type, values, n)                                                              \
    do {                                                                                           \
        const type *v = (values);                                                                  \
        type low = (type)INFINITY;                                                                 \
        type high = (type)-INFINITY;                                                               \
        int64_t nans = 0;                                                                          \
        for (int64_t i = 0; i < (n); i++) {                                                        \
            low = v[i] < low ? v[i] : low;                                                         \
            high = v[i] > high ? v[i] : high;                                                      \
            nans += v[i] != v[i];                                                                  \
        }                                                                                          \
        statistics->has_nan = statistics->has_nan || nans > 0;                                     \
        if (nans < (n)) {                                                                          \
            take_doubles(statistics, (double)low, (double)high);                                   \
        }                                                                                          \
    } while (0)

#define INT_BOUNDS(type, values, n)                                                                \
    do {                                                                                           \
        const type *v = (values);                                                                  \
        type low = v[0];                                                                           \
        type high = v[0];                                                                          \
        for (int64_t i = 1; i < (n); i++) {                                                        \
            low = v[i] < low ? v[i] : low;                                                         \
            high = v[i] > high ? v[i] : high;                                                      \
        }                                                                                          \
        take_ints(statistics, low, high);                                                          \
    } while (0)

void parquet_statistics_add_fixed(struct parquet_statistics *statistics, enum parquet_store store,
                                  int32_t width, const void *values, int64_t n) {
    if (n == 0) {
        return;
    }
    switch (store) {
    case PARQUET_STORE_BOOL:
        INT_BOUNDS(uint8_t, values, n);
        break;
    case PARQUET_STORE_I32:
        INT_BOUNDS(int32_t, values, n);
        break;
    case PARQUET_STORE_I64:
        INT_BOUNDS(int64_t, values, n);
        break;
    case PARQUET_STORE_F32:
        FLOAT_BOUNDS(float, values, n);
        break;
    case PARQUET_STORE_F64:
        FLOAT_BOUNDS(double, values, n);
        break;
    default:
        for (int64_t i = 0; i < n; i++) {
            __int128 value = parquet_load_be((const uint8_t *)values + i * width, width);
            take_wide(statistics, value, value);
        }
        break;
    }
}

/* --- bytes ------------------------------------------------------------------------------- */

static int compare_bytes(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size) {
    size_t common = a_size < b_size ? a_size : b_size;
    int order = common == 0 ? 0 : memcmp(a, b, common);
    if (order != 0) {
        return order;
    }
    return a_size < b_size ? -1 : a_size > b_size;
}

static int take_bytes(struct parquet_statistics *statistics, const uint8_t *bytes, size_t size,
                      bool minimum) {
    struct weir_buffer *bound = minimum ? &statistics->min_bytes : &statistics->max_bytes;
    if (size > PARQUET_STAT_BYTES_MAX) {
        statistics->too_long = true;
        return WEIR_OK;
    }
    weir_buffer_clear(bound);
    return weir_buffer_append(bound, bytes, size);
}

int parquet_statistics_add_one(struct parquet_statistics *statistics, const uint8_t *bytes,
                               size_t size) {
    int rc = WEIR_OK;
    if (!statistics->set ||
        compare_bytes(bytes, size, statistics->min_bytes.data, statistics->min_bytes.size) < 0) {
        rc = take_bytes(statistics, bytes, size, true);
    }
    if (rc == WEIR_OK && (!statistics->set || compare_bytes(bytes, size, statistics->max_bytes.data,
                                                            statistics->max_bytes.size) > 0)) {
        rc = take_bytes(statistics, bytes, size, false);
    }
    statistics->set = true;
    return rc;
}

/* The first eight bytes as a number that orders as the bytes do; zeros past the end are right for
 * "less or equal" tests, which is all the filter below needs. */
static inline uint64_t prefix(const uint8_t *bytes, int32_t size) {
    uint64_t word;
    memcpy(&word, bytes, sizeof(word));
    word = __builtin_bswap64(word);
    return size >= 8 ? word : size == 0 ? 0 : word & ~(UINT64_MAX >> (8 * size));
}

/* memcmp's order for two values with PARQUET_SLACK readable bytes behind them: neighbours often
 * share more than the first word, and a call costs more than the next one. */
static inline int compare_staged(const uint8_t *a, int32_t a_size, const uint8_t *b,
                                 int32_t b_size) {
    int32_t common = a_size < b_size ? a_size : b_size;
    for (int32_t at = 0; at < common; at += 8) {
        uint64_t x = prefix(a + at, common - at);
        uint64_t y = prefix(b + at, common - at);
        if (x != y) {
            return x < y ? -1 : 1;
        }
    }
    return a_size < b_size ? -1 : a_size > b_size;
}

int parquet_statistics_add_bytes(struct parquet_statistics *statistics, const uint8_t *bytes,
                                 const int32_t *lengths, int64_t n) {
    if (n == 0) {
        return WEIR_OK;
    }
    const uint8_t *low = bytes;
    const uint8_t *high = bytes;
    int32_t low_size = lengths[0];
    int32_t high_size = lengths[0];
    uint64_t low_prefix = prefix(low, low_size);
    uint64_t high_prefix = low_prefix;
    const uint8_t *at = bytes + lengths[0];
    for (int64_t i = 1; i < n; i++) {
        int32_t size = lengths[i];
        uint64_t word = prefix(at, size);
        if (word <= low_prefix &&
            (word < low_prefix || compare_staged(at, size, low, low_size) < 0)) {
            low = at;
            low_size = size;
            low_prefix = word;
        }
        if (word >= high_prefix &&
            (word > high_prefix || compare_staged(at, size, high, high_size) > 0)) {
            high = at;
            high_size = size;
            high_prefix = word;
        }
        at += size;
    }
    int rc = parquet_statistics_add_one(statistics, low, (size_t)low_size);
    return rc != WEIR_OK ? rc : parquet_statistics_add_one(statistics, high, (size_t)high_size);
}

int parquet_statistics_merge(struct parquet_statistics *into, enum parquet_store store,
                             const struct parquet_statistics *from) {
    into->value_count += from->value_count;
    into->null_count += from->null_count;
    into->has_nan = into->has_nan || from->has_nan;
    into->too_long = into->too_long || from->too_long;
    if (!from->set) {
        return WEIR_OK;
    }
    switch (store) {
    case PARQUET_STORE_F32:
    case PARQUET_STORE_F64:
        take_doubles(into, from->min_double, from->max_double);
        return WEIR_OK;
    case PARQUET_STORE_FIXED:
        take_wide(into, from->min_wide, from->max_wide);
        return WEIR_OK;
    case PARQUET_STORE_BYTES: {
        if (into->too_long) {
            return WEIR_OK;
        }
        int rc = parquet_statistics_add_one(into, from->min_bytes.data, from->min_bytes.size);
        return rc != WEIR_OK
                   ? rc
                   : parquet_statistics_add_one(into, from->max_bytes.data, from->max_bytes.size);
    }
    default:
        take_ints(into, from->min_int, from->max_int);
        return WEIR_OK;
    }
}
