/* Joining what two slots, panes or sessions hold. */
#include <stddef.h>

#include "operator/aggregate/measure_private.h"

static void merge_cell(const struct weir_measures *measures, int32_t m, uint8_t *into,
                       const uint8_t *from) {
    const struct weir_measure_cell *cell = &measures->cells[m];
    uint8_t *a = into + cell->offset;
    const uint8_t *b = from + cell->offset;
    uint64_t count;
    switch (cell->measure.kind) {
    case WEIR_MEASURE_COUNT:
        memcpy(&count, b, sizeof count);
        add_u64(a, count);
        break;
    case WEIR_MEASURE_SUM:
    case WEIR_MEASURE_AVG:
        weir_sum_merge(cell, m, into, from);
        break;
    case WEIR_MEASURE_MIN:
    case WEIR_MEASURE_MAX:
        if (is_present(from, m) && (!set_present(into, m) || weir_extreme_is_better(cell, a, b))) {
            memcpy(a, b, weir_extreme_bytes(cell->measure.type));
        }
        break;
    case WEIR_MEASURE_FIRST:
    case WEIR_MEASURE_LAST:
    case WEIR_MEASURE_ARG_MAX:
    case WEIR_MEASURE_ARG_MIN:
        if (is_present(from, m) && (!set_present(into, m) || weir_chosen_is_better(cell, a, b))) {
            memcpy(a, b, sizeof(struct weir_chosen));
        }
        break;
    case WEIR_MEASURE_VARIANCE:
    case WEIR_MEASURE_STDDEV:
        weir_variance_merge(cell, a, b);
        break;
    case WEIR_MEASURE_APPROX_DISTINCT:
    case WEIR_MEASURE_APPROX_QUANTILE:
    case WEIR_MEASURE_QUANTILE:
    case WEIR_MEASURE_MEDIAN:
    case WEIR_MEASURE_TOP_K:
    case WEIR_MEASURE_COLLECT:
        break; /* weir_growing_merge, which needs a heap */
    case WEIR_MEASURE_AGGREGATE:
        break; /* weir_state_merge, which may fail */
    case WEIR_MEASURE_DISTINCT:
        break;
    }
}

int weir_measures_merge(const struct weir_measures *measures, struct weir_heap *heap, uint8_t *into,
                        const uint8_t *from) {
    int rc = WEIR_OK;
    for (int32_t m = 0; m < measures->count; m++) {
        const struct weir_measure_cell *cell = &measures->cells[m];
        if (cell->measure.kind == WEIR_MEASURE_AGGREGATE) {
            int merged = weir_state_merge(measures, m, into, from);
            rc = rc == WEIR_OK ? merged : rc;
        } else if (!weir_measure_grows(cell)) {
            merge_cell(measures, m, into, from);
        } else if (is_present(from, m)) {
            int merged = weir_growing_merge(measures, m, heap, into, from);
            set_present(into, m);
            rc = rc == WEIR_OK ? merged : rc;
        }
    }
    return rc;
}

void weir_measures_borrow(const struct weir_measures *measures, uint8_t *into,
                          const uint8_t *from) {
    memcpy(into, from, measures->value_bytes);
    for (int32_t m = 0; m < measures->count && measures->has_growing; m++) {
        if (weir_measure_grows(&measures->cells[m])) {
            memset(into + measures->cells[m].offset + offsetof(struct weir_part, capacity), 0,
                   sizeof(uint32_t));
        }
    }
}

void weir_measures_give_back(const struct weir_measures *measures, struct weir_heap *heap,
                             uint8_t *value) {
    for (int32_t m = 0; m < measures->count && measures->has_growing; m++) {
        struct weir_part part;
        uint8_t *at = value + measures->cells[m].offset;
        memcpy(&part, at, sizeof part);
        if (weir_measure_grows(&measures->cells[m]) && part.capacity > 0) {
            weir_heap_give(heap, part.bytes, part.capacity);
            memset(at, 0, sizeof part);
        }
    }
}

void weir_measures_move(const struct weir_measures *measures, uint8_t *into, uint8_t *from) {
    memcpy(into, from, measures->value_bytes);
    for (int32_t m = 0; m < measures->count && measures->has_parts; m++) {
        const struct weir_measure_cell *cell = &measures->cells[m];
        if (cell->of_members) {
            memset(into + cell->offset, 0, sizeof(struct weir_distinct_cell));
        }
        if (weir_measure_has_part(cell)) {
            memset(from + weir_measure_part_offset(cell), 0, sizeof(struct weir_part));
        }
    }
}

int weir_measures_absorb(struct weir_measures *measures, uint8_t *into, const uint8_t *from,
                         struct weir_error *err) {
    for (int32_t m = 0; m < measures->count; m++) {
        const struct weir_measure_cell *cell = &measures->cells[m];
        if (cell->measure.kind == WEIR_MEASURE_AGGREGATE) {
            int merged = weir_state_merge(measures, m, into, from);
            if (merged != WEIR_OK) {
                (void)weir_measures_failed(measures, err);
                return merged;
            }
            continue;
        }
        if (!weir_measure_has_part(cell)) {
            merge_cell(measures, m, into, from);
            continue;
        }
        if (weir_measure_grows(cell)) {
            int merged =
                !is_present(from, m)
                    ? WEIR_OK
                    : weir_growing_merge(measures, m, weir_table_heap(measures->table), into, from);
            if (merged != WEIR_OK) {
                return weir_bag_failed(cell, merged, err);
            }
            is_present(from, m) ? (void)set_present(into, m) : (void)0;
            continue;
        }
        bool chooses = weir_measure_chooses(cell->measure.kind);
        const uint8_t *b = from + cell->offset;
        uint8_t *a = into + cell->offset;
        if (!is_present(from, m) ||
            (is_present(into, m) &&
             !(chooses ? weir_chosen_is_better(cell, a, b) : weir_extreme_is_better(cell, a, b)))) {
            continue;
        }
        struct weir_part held;
        struct weir_part other;
        uint8_t *at = into + weir_measure_part_offset(cell);
        memcpy(&held, at, sizeof held);
        memcpy(&other, from + weir_measure_part_offset(cell), sizeof other);
        int rc = weir_measure_hold(measures, &held, (const char *)other.bytes, other.length, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        memcpy(a, b, weir_measure_part_offset(cell) - cell->offset);
        memcpy(at, &held, sizeof held);
        set_present(into, m);
    }
    return WEIR_OK;
}
