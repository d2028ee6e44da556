#include "operator/sketch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    REGISTER_BITS = 12,
    REGISTERS = 1 << REGISTER_BITS,
    SPARSE_BYTES = 3,    /* u16 register, u8 value */
    SPARSE_MAX = 1000,   /* registers */
    MANTISSA_SHIFT = 46, /* of a double's 52 bits six stay */
    BUCKET_BYTES = 12,   /* i32 bucket, u64 count */
    BUCKETS_MAX = 1024
};

/* Room for `bytes`, owned; what is there is kept. */
bool weir_part_reserve(struct weir_part *part, struct weir_heap *heap, uint32_t bytes) {
    if (part->capacity >= bytes && part->capacity > 0) {
        return true;
    }
    uint32_t capacity = bytes < 16 ? 16 : bytes + bytes / 2;
    uint8_t *room = weir_heap_take(heap, capacity);
    if (room == NULL) {
        return false;
    }
    if (part->length > 0) {
        memcpy(room, part->bytes, part->length);
    }
    if (part->capacity > 0) {
        weir_heap_give(heap, part->bytes, part->capacity);
    }
    part->bytes = room;
    part->capacity = capacity;
    return true;
}

/* --- distinct --------------------------------------------------------------------------------- */

static uint16_t register_at(const uint8_t *bytes, uint32_t at) {
    uint16_t number;
    memcpy(&number, bytes + (size_t)at * SPARSE_BYTES, sizeof number);
    return number;
}

static bool is_dense(const struct weir_part *part) {
    return part->length == REGISTERS;
}

static bool make_dense(struct weir_part *part, struct weir_heap *heap) {
    uint8_t *room = weir_heap_take(heap, REGISTERS);
    if (room == NULL) {
        return false;
    }
    memset(room, 0, REGISTERS);
    for (uint32_t i = 0; i < part->length / SPARSE_BYTES; i++) {
        room[register_at(part->bytes, i)] = part->bytes[i * SPARSE_BYTES + 2];
    }
    if (part->capacity > 0) {
        weir_heap_give(heap, part->bytes, part->capacity);
    }
    *part = (struct weir_part){room, REGISTERS, REGISTERS};
    return true;
}

static bool raise(struct weir_part *part, struct weir_heap *heap, uint16_t number, uint8_t value) {
    if (is_dense(part)) {
        if (part->bytes[number] < value) {
            if (!weir_part_reserve(part, heap, REGISTERS)) {
                return false;
            }
            part->bytes[number] = value;
        }
        return true;
    }
    uint32_t low = 0;
    uint32_t high = part->length / SPARSE_BYTES;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (register_at(part->bytes, middle) < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    uint32_t at = low * SPARSE_BYTES;
    bool is_there = at < part->length && register_at(part->bytes, low) == number;
    if (is_there && part->bytes[at + 2] >= value) {
        return true;
    }
    if (!is_there && part->length / SPARSE_BYTES >= SPARSE_MAX) {
        return make_dense(part, heap) && raise(part, heap, number, value);
    }
    if (!weir_part_reserve(part, heap, part->length + SPARSE_BYTES)) {
        return false;
    }
    if (!is_there) {
        memmove(part->bytes + at + SPARSE_BYTES, part->bytes + at, part->length - at);
        part->length += SPARSE_BYTES;
        memcpy(part->bytes + at, &number, sizeof number);
    }
    part->bytes[at + 2] = value;
    return true;
}

bool weir_distinct_sketch_add(struct weir_part *part, struct weir_heap *heap, uint64_t hash) {
    uint16_t number = (uint16_t)(hash & (REGISTERS - 1));
    uint64_t rest = hash >> REGISTER_BITS;
    int zeros = rest == 0 ? 64 - REGISTER_BITS : __builtin_ctzll(rest);
    return raise(part, heap, number, (uint8_t)(zeros + 1));
}

bool weir_distinct_sketch_merge(struct weir_part *into, struct weir_heap *heap,
                                const struct weir_part *from) {
    bool done = true;
    if (is_dense(from) && !is_dense(into)) {
        done = make_dense(into, heap);
    }
    for (uint32_t i = 0; done && is_dense(from) && i < REGISTERS; i++) {
        done = from->bytes[i] == 0 || raise(into, heap, (uint16_t)i, from->bytes[i]);
    }
    for (uint32_t i = 0; done && !is_dense(from) && i < from->length / SPARSE_BYTES; i++) {
        done = raise(into, heap, register_at(from->bytes, i), from->bytes[i * SPARSE_BYTES + 2]);
    }
    return done;
}

int64_t weir_distinct_sketch_count(const struct weir_part *part) {
    double sum = 0;
    int32_t zeros = REGISTERS;
    if (is_dense(part)) {
        zeros = 0;
        for (int i = 0; i < REGISTERS; i++) {
            sum += ldexp(1.0, -part->bytes[i]);
            zeros += part->bytes[i] == 0;
        }
    } else {
        uint32_t there = part->length / SPARSE_BYTES;
        zeros -= (int32_t)there;
        sum = zeros;
        for (uint32_t i = 0; i < there; i++) {
            sum += ldexp(1.0, -part->bytes[i * SPARSE_BYTES + 2]);
        }
    }
    double count = 0.7213 / (1 + 1.079 / REGISTERS) * REGISTERS * REGISTERS / sum;
    if (zeros > 0 && count <= 2.5 * REGISTERS) { /* linear counting is better there */
        count = REGISTERS * log((double)REGISTERS / zeros);
    }
    return (int64_t)llround(count);
}

bool weir_distinct_sketch_check(const uint8_t *bytes, size_t length) {
    if (length == REGISTERS) {
        return true;
    }
    if (length % SPARSE_BYTES != 0 || length / SPARSE_BYTES > SPARSE_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < length / SPARSE_BYTES; i++) {
        uint16_t number = register_at(bytes, i);
        if (number >= REGISTERS || (i > 0 && number <= register_at(bytes, i - 1))) {
            return false;
        }
    }
    return true;
}

/* --- quantiles -------------------------------------------------------------------------------- */

/* Buckets in the order of their values; NaN above all. */
static int32_t bucket_of(double value) {
    uint64_t bits;
    value = isnan(value) ? (double)NAN : value + 0.0;
    memcpy(&bits, &value, sizeof bits);
    if (isnan(value)) {
        return INT32_MAX;
    }
    int32_t size = (int32_t)((bits & ~(UINT64_C(1) << 63)) >> MANTISSA_SHIFT);
    return (bits >> 63) != 0 ? -size - 1 : size;
}

/* The middle of a bucket; whole for buckets of whole numbers below 128. */
static double value_of(int32_t bucket) {
    if (bucket == INT32_MAX) {
        return (double)NAN;
    }
    uint64_t size = (uint64_t)(bucket < 0 ? -(int64_t)bucket - 1 : bucket);
    uint64_t low_bits = size << MANTISSA_SHIFT;
    uint64_t high_bits = (size + 1) << MANTISSA_SHIFT;
    double low;
    double high;
    memcpy(&low, &low_bits, sizeof low);
    memcpy(&high, &high_bits, sizeof high);
    double middle = size == 0 ? 0 : isinf(high) || isinf(low) ? low : low + (high - low) / 2;
    return bucket < 0 ? -middle : middle;
}

static int32_t bucket_at(const struct weir_part *part, uint32_t at) {
    int32_t bucket;
    memcpy(&bucket, part->bytes + (size_t)at * BUCKET_BYTES, sizeof bucket);
    return bucket;
}

static int64_t count_at(const struct weir_part *part, uint32_t at) {
    int64_t count;
    memcpy(&count, part->bytes + (size_t)at * BUCKET_BYTES + 4, sizeof count);
    return count;
}

static void set_count(struct weir_part *part, uint32_t at, int64_t count) {
    memcpy(part->bytes + (size_t)at * BUCKET_BYTES + 4, &count, sizeof count);
}

static void remove_at(struct weir_part *part, uint32_t at) {
    uint8_t *here = part->bytes + (size_t)at * BUCKET_BYTES;
    part->length -= BUCKET_BYTES;
    memmove(here, here + BUCKET_BYTES, part->length - (size_t)at * BUCKET_BYTES);
}

static bool count_bucket(struct weir_part *part, struct weir_heap *heap, int32_t bucket,
                         int64_t by) {
    uint32_t low = 0;
    uint32_t high = part->length / BUCKET_BYTES;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (bucket_at(part, middle) < bucket) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool is_there = low < part->length / BUCKET_BYTES && bucket_at(part, low) == bucket;
    if (!weir_part_reserve(part, heap, part->length + (is_there ? 0 : BUCKET_BYTES))) {
        return false;
    }
    if (is_there) {
        set_count(part, low, count_at(part, low) + by);
        if (count_at(part, low) <= 0) {
            remove_at(part, low);
        }
        return true;
    }
    if (by <= 0) { /* it was counted with the lowest, or never */
        if (low == 0 && part->length > 0) {
            set_count(part, 0, count_at(part, 0) + by);
            if (count_at(part, 0) <= 0) {
                remove_at(part, 0);
            }
        }
        return true;
    }
    uint8_t *here = part->bytes + (size_t)low * BUCKET_BYTES;
    memmove(here + BUCKET_BYTES, here, part->length - (size_t)low * BUCKET_BYTES);
    part->length += BUCKET_BYTES;
    memcpy(here, &bucket, sizeof bucket);
    set_count(part, low, by);
    if (part->length / BUCKET_BYTES > BUCKETS_MAX) { /* the highest that many stay apart */
        set_count(part, 1, count_at(part, 1) + count_at(part, 0));
        remove_at(part, 0);
    }
    return true;
}

bool weir_quantile_sketch_add(struct weir_part *part, struct weir_heap *heap, double value,
                              int64_t count) {
    return count_bucket(part, heap, bucket_of(value), count);
}

bool weir_quantile_sketch_merge(struct weir_part *into, struct weir_heap *heap,
                                const struct weir_part *from) {
    bool done = true;
    for (uint32_t i = 0; done && i < from->length / BUCKET_BYTES; i++) {
        done = count_bucket(into, heap, bucket_at(from, i), count_at(from, i));
    }
    return done;
}

bool weir_quantile_sketch_value(const struct weir_part *part, double share, double *value) {
    int64_t all = 0;
    for (uint32_t i = 0; i < part->length / BUCKET_BYTES; i++) {
        all += count_at(part, i);
    }
    if (all == 0) {
        return false;
    }
    int64_t rank = (int64_t)ceil(share * (double)all);
    rank = rank < 1 ? 1 : rank > all ? all : rank;
    uint32_t at = 0;
    for (int64_t seen = count_at(part, 0); seen < rank; seen += count_at(part, ++at)) {
    }
    *value = value_of(bucket_at(part, at));
    return true;
}

bool weir_quantile_sketch_check(const uint8_t *bytes, size_t length) {
    struct weir_part part = {.bytes = (uint8_t *)(uintptr_t)bytes, .length = (uint32_t)length};
    if (length % BUCKET_BYTES != 0 || length / BUCKET_BYTES > BUCKETS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < length / BUCKET_BYTES; i++) {
        if (count_at(&part, i) <= 0 || (i > 0 && bucket_at(&part, i) <= bucket_at(&part, i - 1))) {
            return false;
        }
    }
    return true;
}
