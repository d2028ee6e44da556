/* Where a measure begins that did not see the rows before: with nothing, or as a function says that
 * knows what was counted then. What it says is a row that counts as all of them. */
#include "operator/aggregate/measure_private.h"

void weir_measures_clear(struct weir_measures *measures, int32_t m, uint8_t *value) {
    const struct weir_measure_cell *cell = &measures->cells[m];
    if (weir_measure_has_part(cell)) {
        struct weir_part held;
        memcpy(&held, value + weir_measure_part_offset(cell), sizeof held);
        weir_heap_give(weir_table_heap(measures->table), held.bytes, held.capacity);
    }
    memset(value + cell->offset, 0, weir_measure_cell_bytes(measures, m));
    clear_present(value, m);
}

static int lacks(const struct weir_measure_cell *cell, const char *what, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_DATA, "measure '%s' begins without %s", cell->measure.name,
                          what);
}

static int start_count(const struct weir_measure_cell *cell, uint8_t *at, int64_t count,
                       struct weir_error *err) {
    if (count < 0) {
        return weir_error_set(err, WEIR_E_DATA, "measure '%s' begins with a count below 0",
                              cell->measure.name);
    }
    memcpy(at, &count, sizeof count);
    return WEIR_OK;
}

/* The sum is of the type it comes out with. */
static void start_sum(const struct weir_measure_cell *cell, int32_t m,
                      const struct weir_measure_rows *rows, const struct weir_column *sum) {
    struct weir_measure_cell as = *cell;
    as.measure.type = sum->type;
    weir_sum_add(&as, m, rows, sum, NULL);
}

int weir_measures_start(struct weir_measures *measures, int32_t m, uint8_t *value,
                        const struct weir_column *column, int32_t row, struct weir_error *err) {
    const struct weir_measure_cell *cell = &measures->cells[m];
    const int32_t position = 0;
    struct weir_measure_rows rows = {
        .rows = &row, .positions = &position, .values = &value, .count = 1};
    weir_measures_clear(measures, m, value);
    if (weir_column_is_null(column, row)) {
        return WEIR_OK;
    }
    const struct weir_column *first = column->children;
    const struct weir_column *second = first + 1;
    switch (cell->measure.kind) {
    case WEIR_MEASURE_COUNT:
        return start_count(cell, value + cell->offset, weir_column_int(column, row), err);
    case WEIR_MEASURE_SUM:
        start_sum(cell, m, &rows, column);
        return WEIR_OK;
    case WEIR_MEASURE_AVG:
        if (weir_column_is_null(second, row) || weir_column_is_null(first, row)) {
            return lacks(cell, "`sum` or `count`", err);
        }
        start_sum(cell, m, &rows, first);
        return start_count(cell, value + cell->count_offset, weir_column_int(second, row), err);
    case WEIR_MEASURE_MIN:
    case WEIR_MEASURE_MAX:
        return weir_extreme_add(measures, m, &rows, column, NULL, err);
    case WEIR_MEASURE_FIRST:
    case WEIR_MEASURE_LAST:
        if (weir_column_is_null(second, row)) {
            return lacks(cell, "`at`", err);
        }
        rows.times_us = second->values;
        return weir_chosen_add(measures, m, &rows, first, NULL, err);
    case WEIR_MEASURE_ARG_MAX:
    case WEIR_MEASURE_ARG_MIN:
        if (weir_column_is_null(second, row)) {
            return lacks(cell, "`by`", err);
        }
        rows.order = second;
        return weir_chosen_add(measures, m, &rows, first, NULL, err);
    default:
        return weir_error_set(err, WEIR_E_BUG, "measure '%s' begins with nothing",
                              cell->measure.name);
    }
}
