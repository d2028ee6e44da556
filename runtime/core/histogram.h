#pragma once
/* Latencies in microseconds at 1/8 precision, constant memory. The caller locks. */
#include <stdint.h>
#include <string.h>

#define WEIR_HISTOGRAM_BUCKETS 512

struct weir_histogram {
    uint64_t counts[WEIR_HISTOGRAM_BUCKETS];
    uint64_t total;
    uint64_t max;
};

static inline unsigned weir_histogram_bucket(uint64_t value) {
    if (value < 8) {
        return (unsigned)value;
    }
    unsigned shift = 60u - (unsigned)__builtin_clzll(value); /* keeps the top 4 bits */
    return 8 * shift + (unsigned)(value >> shift);
}

/* The largest value of a bucket. */
static inline uint64_t weir_histogram_limit(unsigned bucket) {
    if (bucket < 16) {
        return bucket;
    }
    unsigned shift = bucket / 8 - 1;
    return (((uint64_t)(bucket % 8) + 8 + 1) << shift) - 1;
}

static inline void weir_histogram_add_many(struct weir_histogram *histogram, uint64_t value,
                                           uint64_t times) {
    histogram->counts[weir_histogram_bucket(value)] += times;
    histogram->total += times;
    if (times > 0 && value > histogram->max) {
        histogram->max = value;
    }
}

static inline void weir_histogram_add(struct weir_histogram *histogram, uint64_t value) {
    weir_histogram_add_many(histogram, value, 1);
}

/* A value that `percent` of the values do not exceed; 0 when there are none. */
static inline uint64_t weir_histogram_percentile(const struct weir_histogram *histogram,
                                                 double percent) {
    uint64_t want = (uint64_t)((double)histogram->total * percent / 100.0 + 0.999999);
    uint64_t seen = 0;
    for (unsigned i = 0; i < WEIR_HISTOGRAM_BUCKETS; i++) {
        seen += histogram->counts[i];
        if (seen >= want && seen > 0) {
            uint64_t limit = weir_histogram_limit(i);
            return limit < histogram->max ? limit : histogram->max;
        }
    }
    return histogram->max;
}
