#pragma once
/* What the files of measures share: bits of presence, parts outside the slot, loops over rows. */
#include <string.h>

#include "operator/aggregate/measure.h"
#include "operator/sketch.h"
#include "operator/wide.h"

static inline bool is_int(uint8_t type) {
    return type >= WEIR_TYPE_INT8 && type <= WEIR_TYPE_INT64;
}

static inline bool is_float(uint8_t type) {
    return type == WEIR_TYPE_FLOAT || type == WEIR_TYPE_DOUBLE;
}

static inline bool is_present(const uint8_t *value, int32_t m) {
    uint64_t word;
    memcpy(&word, value + (m >> 6) * 8, sizeof word);
    return (word >> (m & 63)) & 1;
}

/* Returns whether it was present before. */
static inline bool set_present(uint8_t *value, int32_t m) {
    uint64_t word;
    memcpy(&word, value + (m >> 6) * 8, sizeof word);
    bool before = (word >> (m & 63)) & 1;
    word |= UINT64_C(1) << (m & 63);
    memcpy(value + (m >> 6) * 8, &word, sizeof word);
    return before;
}

static inline void clear_present(uint8_t *value, int32_t m) {
    uint64_t word;
    memcpy(&word, value + (m >> 6) * 8, sizeof word);
    word &= ~(UINT64_C(1) << (m & 63));
    memcpy(value + (m >> 6) * 8, &word, sizeof word);
}

static inline void add_u64(uint8_t *at, uint64_t by) {
    uint64_t count;
    memcpy(&count, at, sizeof count);
    count += by;
    memcpy(at, &count, sizeof count);
}

/* Runs `body` with `row` and `value` (the slot's) for each row that counts and is not null. */
#define FOR_EACH_VALUE(body)                                                                       \
    for (int32_t k = 0; k < rows->count; k++) {                                                    \
        int32_t row = rows->rows[k];                                                               \
        uint8_t *value = rows->values[k];                                                          \
        if ((mask != NULL && mask[rows->positions[k]] != 1) ||                                     \
            (input != NULL && weir_column_is_null(input, row))) {                                  \
            continue;                                                                              \
        }                                                                                          \
        body                                                                                       \
    }

/* The part holds these bytes. WEIR_E_LIMIT, WEIR_E_NOMEM. */
int weir_measure_hold(struct weir_measures *measures, struct weir_part *held, const char *bytes,
                      uint32_t length, struct weir_error *err) WEIR_MUST_CHECK;

int weir_measure_decimal(struct weir_column_builder *out, weir_int128 value) WEIR_MUST_CHECK;

/* The result does not fit its type: WEIR_E_DATA, said. */
int weir_measure_out_of_range(const struct weir_measure_cell *cell, struct weir_error *err);

/* --- measure_image.c ------------------------------------------------------------------------ */

/* Does the cell have a part outside the slot? Where it lies in the value. */
bool weir_measure_has_part(const struct weir_measure_cell *cell);
uint32_t weir_measure_part_offset(const struct weir_measure_cell *cell);
/* A length up to INT32_MAX. */
bool weir_measure_take_varint(const uint8_t **at, const uint8_t *end, uint32_t *value);

/* --- measure_sum.c: count, sum, avg --------------------------------------------------------- */

uint32_t weir_sum_bytes(const struct weir_measure_cell *cell); /* without its count */
void weir_count_add(const struct weir_measure_cell *cell, const struct weir_measure_rows *rows,
                    const struct weir_column *input, const uint8_t *mask);
void weir_sum_add(const struct weir_measure_cell *cell, int32_t m,
                  const struct weir_measure_rows *rows, const struct weir_column *input,
                  const uint8_t *mask);
void weir_sum_merge(const struct weir_measure_cell *cell, int32_t m, uint8_t *into,
                    const uint8_t *from);
int weir_sum_emit(const struct weir_measure_cell *cell, int32_t m, const uint8_t *value,
                  struct weir_column_builder *out, struct weir_error *err) WEIR_MUST_CHECK;
int weir_average_emit(const struct weir_measure_cell *cell, const uint8_t *value,
                      struct weir_column_builder *out, struct weir_error *err) WEIR_MUST_CHECK;

/* --- measure_extreme.c: min, max ------------------------------------------------------------- */

uint32_t weir_extreme_bytes(uint8_t type); /* of the best value */
int weir_extreme_add(struct weir_measures *measures, int32_t m,
                     const struct weir_measure_rows *rows, const struct weir_column *input,
                     const uint8_t *mask, struct weir_error *err) WEIR_MUST_CHECK;
/* Is `from` to be taken over `into`? Equals stay: the earlier one is kept. */
bool weir_extreme_is_better(const struct weir_measure_cell *cell, const uint8_t *into,
                            const uint8_t *from);
int weir_extreme_emit(const struct weir_measure_cell *cell, const uint8_t *value,
                      struct weir_column_builder *out) WEIR_MUST_CHECK;

/* --- measure_chosen.c: first, last, arg_max, arg_min ------------------------------------------ */

/* A value and what it was chosen by. */
struct weir_chosen {
    uint64_t order[2]; /* i128 */
    int64_t time;
    struct weir_part value; /* key bytes (operator/key.h) */
};

bool weir_measure_chooses(enum weir_measure_kind kind);
/* What arg_max and arg_min go by, as a number that compares as it does. */
weir_int128 weir_chosen_order(const struct weir_column *column, int32_t row);
int weir_chosen_add(struct weir_measures *measures, int32_t m, const struct weir_measure_rows *rows,
                    const struct weir_column *input, const uint8_t *mask,
                    struct weir_error *err) WEIR_MUST_CHECK;
/* Is `from` to be taken over `into`? Both are present. */
bool weir_chosen_is_better(const struct weir_measure_cell *cell, const uint8_t *into,
                           const uint8_t *from);
int weir_chosen_emit(const struct weir_measure_cell *cell, const uint8_t *value,
                     struct weir_column_builder *out, struct weir_error *err) WEIR_MUST_CHECK;

/* --- measure_variance.c: variance, stddev -------------------------------------------------------
 */

uint32_t weir_variance_bytes(const struct weir_measure *measure);
void weir_variance_add(const struct weir_measure_cell *cell, const struct weir_measure_rows *rows,
                       const struct weir_column *input, const uint8_t *mask);
void weir_variance_merge(const struct weir_measure_cell *cell, uint8_t *into, const uint8_t *from);
int weir_variance_emit(const struct weir_measure_cell *cell, const uint8_t *value,
                       struct weir_column_builder *out) WEIR_MUST_CHECK;

/* --- measure_sketch.c: approx_distinct, approx_quantile -----------------------------------------
 */

bool weir_measure_sketches(enum weir_measure_kind kind);
/* Sketches and bags: parts that take others up. */
bool weir_measure_grows(const struct weir_measure_cell *cell);
int weir_sketch_add(struct weir_measures *measures, int32_t m, const struct weir_measure_rows *rows,
                    const struct weir_column *input, const uint8_t *mask,
                    struct weir_error *err) WEIR_MUST_CHECK;
/* Of cells that grow. into's part may be another's (capacity 0): then it gets one of its own in
 * `heap`. WEIR_E_NOMEM, WEIR_E_LIMIT. */
int weir_growing_merge(const struct weir_measures *measures, int32_t m, struct weir_heap *heap,
                       uint8_t *into, const uint8_t *from) WEIR_MUST_CHECK;
bool weir_growing_check(const struct weir_measure_cell *cell, const uint8_t *bytes, size_t length);
int weir_sketch_emit(const struct weir_measure_cell *cell, const uint8_t *value,
                     struct weir_column_builder *out) WEIR_MUST_CHECK;

/* --- measure_aggregate.c: states of the analyst's own -------------------------------------------
 */

struct weir_merging *weir_merging_create(weir_merge_states *merge, void *context);
/* Merges are called with another context from here on. NULL is allowed. */
void weir_merging_call_with(struct weir_merging *merging, void *context);
void weir_merging_destroy(struct weir_merging *merging);
int weir_merging_failed(struct weir_merging *merging, struct weir_error *err);
uint32_t weir_state_bytes(const struct weir_field *state);
int weir_state_add(struct weir_measures *measures, int32_t m, const struct weir_measure_rows *rows,
                   const struct weir_column *input, const uint8_t *mask,
                   struct weir_error *err) WEIR_MUST_CHECK;
/* Errors: weir_merging_failed tells. */
int weir_state_merge(const struct weir_measures *measures, int32_t m, uint8_t *into,
                     const uint8_t *from) WEIR_MUST_CHECK;
int weir_state_emit(const struct weir_measure_cell *cell, const uint8_t *value,
                    struct weir_column_builder *out) WEIR_MUST_CHECK;

/* --- measure_bag.c: quantile, median, top_k, collect; chosen values that may be taken back
 * --------
 */

bool weir_measure_bags(const struct weir_measure_cell *cell);
int weir_measure_bag_add(struct weir_measures *measures, int32_t m,
                         const struct weir_measure_rows *rows, const struct weir_column *input,
                         const uint8_t *mask, struct weir_error *err) WEIR_MUST_CHECK;
int weir_measure_bag_merge(const struct weir_measure_cell *cell, struct weir_heap *heap,
                           struct weir_bag_scratch *scratch, struct weir_part *into,
                           const struct weir_part *from) WEIR_MUST_CHECK;
int weir_measure_bag_emit(const struct weir_measures *measures, int32_t m, const uint8_t *value,
                          struct weir_column_builder *out, struct weir_error *err) WEIR_MUST_CHECK;
/* Says why: WEIR_E_LIMIT, WEIR_E_NOMEM. */
int weir_bag_failed(const struct weir_measure_cell *cell, int rc, struct weir_error *err);
