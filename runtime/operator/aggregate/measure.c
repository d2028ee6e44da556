#include "operator/aggregate/measure_private.h"

#include <stdlib.h>

#include "operator/key.h"

enum { DECIMAL_DIGITS = 38, AVERAGE_SCALE = 6, NARROW_DIGITS = 18 };

_Static_assert(sizeof(struct weir_part) == 16, "bytes cell");
_Static_assert(sizeof(struct weir_distinct_cell) == 16, "distinct cell");

static const char *const names[] = {
    "count",    "sum",     "avg",     "min",      "max",      "distinct",        "first",
    "last",     "arg_max", "arg_min", "variance", "stddev",   "approx_distinct", "approx_quantile",
    "quantile", "median",  "top_k",   "collect",  "aggregate"};

bool weir_measure_kind_parse(const char *text, enum weir_measure_kind *kind) {
    for (int i = 0; i < (int)(sizeof names / sizeof names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            *kind = (enum weir_measure_kind)i;
            return true;
        }
    }
    return false;
}

const char *weir_measure_kind_name(enum weir_measure_kind kind) {
    return names[kind];
}

/* list<T>, or of top_k list<struct<value: T, count: int64>>. */
static int list_output(const struct weir_measure *measure, struct weir_field *field,
                       struct weir_error *err) {
    struct weir_field element = {
        .type = measure->type, .precision = measure->precision, .scale = measure->scale};
    struct weir_buffer text;
    weir_buffer_init(&text, 256);
    bool top = measure->kind == WEIR_MEASURE_TOP_K;
    int rc = weir_buffer_append_text(&text, top ? "list<struct<value: " : "list<");
    rc = rc == WEIR_OK ? weir_field_format_type(&element, &text) : rc;
    rc = rc == WEIR_OK ? weir_buffer_append_text(&text, top ? ", count: int64>>" : ">") : rc;
    const char *type = rc == WEIR_OK ? weir_buffer_text(&text) : NULL;
    rc = type != NULL ? weir_field_parse_type(field, type, err) : WEIR_E_NOMEM;
    weir_buffer_fini(&text);
    return rc;
}

int weir_measure_output(const struct weir_measure *measure, struct weir_field *field,
                        struct weir_error *err) {
    bool summable =
        is_int(measure->type) || is_float(measure->type) || measure->type == WEIR_TYPE_DECIMAL;
    field->precision = 0;
    field->scale = 0;
    field->nullable = true;
    if (measure->kind == WEIR_MEASURE_COUNT) {
        field->type = WEIR_TYPE_INT64;
        field->nullable = false;
        return WEIR_OK;
    }
    if (!measure->has_input) {
        return weir_error_set(err, WEIR_E_CONFIG, "measure '%s': only count works without a column",
                              measure->name);
    }
    switch (measure->kind) {
    case WEIR_MEASURE_COUNT:
    case WEIR_MEASURE_DISTINCT:
        field->type = WEIR_TYPE_INT64;
        field->nullable = false;
        if (weir_type_is_nested(measure->type)) {
            break;
        }
        return WEIR_OK;
    case WEIR_MEASURE_SUM:
        if (!summable) {
            break;
        }
        field->type = is_int(measure->type)     ? WEIR_TYPE_INT64
                      : is_float(measure->type) ? WEIR_TYPE_DOUBLE
                                                : WEIR_TYPE_DECIMAL;
        if (field->type == WEIR_TYPE_DECIMAL) {
            field->precision = DECIMAL_DIGITS;
            field->scale = measure->scale;
        }
        return WEIR_OK;
    case WEIR_MEASURE_AVG:
    case WEIR_MEASURE_MEDIAN:
        if (!summable) {
            break;
        }
        if (is_float(measure->type)) {
            field->type = WEIR_TYPE_DOUBLE;
            return WEIR_OK;
        }
        field->type = WEIR_TYPE_DECIMAL;
        field->precision = DECIMAL_DIGITS;
        field->scale = is_int(measure->type) || measure->scale < AVERAGE_SCALE ? AVERAGE_SCALE
                                                                               : measure->scale;
        return WEIR_OK;
    case WEIR_MEASURE_APPROX_DISTINCT:
        field->type = WEIR_TYPE_INT64;
        field->nullable = false;
        if (weir_type_is_nested(measure->type)) {
            break;
        }
        return WEIR_OK;
    case WEIR_MEASURE_VARIANCE:
    case WEIR_MEASURE_STDDEV:
    case WEIR_MEASURE_APPROX_QUANTILE:
        if (!summable) {
            break;
        }
        field->type = WEIR_TYPE_DOUBLE;
        return WEIR_OK;
    case WEIR_MEASURE_MIN:
    case WEIR_MEASURE_MAX:
    case WEIR_MEASURE_FIRST:
    case WEIR_MEASURE_LAST:
    case WEIR_MEASURE_ARG_MAX:
    case WEIR_MEASURE_ARG_MIN:
    case WEIR_MEASURE_QUANTILE:
        if (weir_type_is_nested(measure->type)) {
            break;
        }
        field->type = measure->type;
        field->precision = measure->precision;
        field->scale = measure->scale;
        return WEIR_OK;
    case WEIR_MEASURE_AGGREGATE:
        return measure->state != NULL && weir_field_copy(field, measure->state) == WEIR_OK
                   ? WEIR_OK
                   : weir_error_set(err, WEIR_E_NOMEM, "measure '%s': no memory", measure->name);
    case WEIR_MEASURE_TOP_K:
    case WEIR_MEASURE_COLLECT:
        if (weir_type_is_nested(measure->type)) {
            break;
        }
        return list_output(measure, field, err);
    }
    return weir_error_set(err, WEIR_E_CONFIG, "measure '%s': %s does not take a %s column",
                          measure->name, names[measure->kind], weir_type_name(measure->type));
}

bool weir_measure_retracts(const struct weir_measure *measure) {
    bool floats = measure->type == WEIR_TYPE_FLOAT || measure->type == WEIR_TYPE_DOUBLE;
    bool wide = measure->type == WEIR_TYPE_DECIMAL && measure->precision > 18;
    switch (measure->kind) {
    case WEIR_MEASURE_SUM:
    case WEIR_MEASURE_AVG:
        return !floats;
    case WEIR_MEASURE_VARIANCE:
    case WEIR_MEASURE_STDDEV:
        return !floats && !wide;
    case WEIR_MEASURE_COLLECT: /* what was cut off would be missed */
        return measure->most == 0;
    case WEIR_MEASURE_APPROX_DISTINCT:
    case WEIR_MEASURE_AGGREGATE:
        return false;
    default:
        return true;
    }
}

static int make_member_key(struct weir_measure_cell *cell, struct weir_error *err) {
    const struct weir_measure *measure = &cell->measure;
    char name[] = "value"; /* as it is shown */
    struct weir_field field = {.name = name,
                               .type = measure->type,
                               .precision = measure->precision,
                               .scale = measure->scale};
    struct weir_schema schema = {.references = 1, .count = 1, .fields = &field};
    int32_t column = 0;
    cell->member_key = weir_key_create(&schema, &column, 1, err);
    return cell->member_key != NULL ? WEIR_OK : weir_error_wrap(err, "measure '%s'", measure->name);
}

static int make_bags(struct weir_measures *measures, struct weir_error *err) {
    if (measures->bags == NULL) {
        measures->bags = calloc(1, sizeof *measures->bags);
    }
    return measures->bags != NULL ? WEIR_OK : weir_error_set(err, WEIR_E_NOMEM, "no memory");
}

static int cell_init(struct weir_measures *measures, struct weir_measure_cell *cell,
                     const struct weir_measure *measure, struct weir_error *err) {
    cell->measure = *measure;
    cell->measure.name = strdup(measure->name);
    if (cell->measure.name == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "measure '%s': no memory", measure->name);
    }
    int rc = weir_measure_output(&cell->measure, &cell->output, err);
    cell->measure.state = NULL; /* the output is it */
    if (rc != WEIR_OK) {
        return rc;
    }
    cell->wide = measure->type == WEIR_TYPE_DECIMAL && measure->precision > NARROW_DIGITS;
    cell->offset = measures->value_bytes;
    bool extreme = measure->kind == WEIR_MEASURE_MIN || measure->kind == WEIR_MEASURE_MAX;
    cell->of_members = measure->kind == WEIR_MEASURE_DISTINCT || (extreme && measures->retracts);
    if (cell->of_members) {
        measures->value_bytes += sizeof(struct weir_distinct_cell);
        measures->has_parts = true;
        measures->has_members = true;
    }
    cell->takes_back = measures->retracts;
    if (cell->of_members || weir_measure_chooses(measure->kind) ||
        measure->kind == WEIR_MEASURE_COLLECT || measure->kind == WEIR_MEASURE_APPROX_DISTINCT) {
        rc = make_member_key(cell, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    if (weir_measure_grows(cell)) {
        measures->value_bytes += sizeof(struct weir_part);
        measures->has_parts = true;
        measures->has_growing = true;
        return weir_measure_bags(cell) ? make_bags(measures, err) : WEIR_OK;
    }
    switch (measure->kind) {
    case WEIR_MEASURE_COUNT:
        measures->value_bytes += 8;
        break;
    case WEIR_MEASURE_SUM:
    case WEIR_MEASURE_AVG:
        cell->counted = measure->kind == WEIR_MEASURE_AVG || measures->retracts;
        cell->count_offset = cell->offset + weir_sum_bytes(cell);
        measures->value_bytes += weir_sum_bytes(cell) + (cell->counted ? 8 : 0);
        break;
    case WEIR_MEASURE_MIN:
    case WEIR_MEASURE_MAX:
        measures->value_bytes += weir_extreme_bytes(measure->type);
        measures->has_parts |= weir_type_is_bytes(measure->type);
        break;
    case WEIR_MEASURE_FIRST:
    case WEIR_MEASURE_LAST:
    case WEIR_MEASURE_ARG_MAX:
    case WEIR_MEASURE_ARG_MIN:
        measures->value_bytes += sizeof(struct weir_chosen);
        measures->has_parts = true;
        break;
    case WEIR_MEASURE_VARIANCE:
    case WEIR_MEASURE_STDDEV:
        measures->value_bytes += weir_variance_bytes(measure);
        break;
    case WEIR_MEASURE_AGGREGATE:
        measures->value_bytes += weir_state_bytes(&cell->output);
        break;
    default: /* members, and what grows */
        break;
    }
    return WEIR_OK;
}

int weir_measures_init(struct weir_measures *measures, const struct weir_measure *list,
                       int32_t count, bool retracts, bool keeps_old, uint32_t tail_bytes,
                       struct weir_error *err) {
    memset(measures, 0, sizeof *measures);
    measures->retracts = retracts;
    weir_keys_init(&measures->keys);
    weir_buffer_init(&measures->order, WEIR_BAG_BYTES_MAX);
    if (count < 0 || count > WEIR_MEASURES_MAX) {
        return weir_error_set(err, WEIR_E_CONFIG, "%d measures: at most %d are possible", count,
                              WEIR_MEASURES_MAX);
    }
    measures->cells = calloc((size_t)count + 1, sizeof *measures->cells);
    if (measures->cells == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "no memory for %d measures", count);
    }
    measures->count = count;
    measures->value_bytes = (uint32_t)((count + 63) / 64) * 8;
    for (int32_t m = 0; m < count; m++) {
        int rc = cell_init(measures, &measures->cells[m], &list[m], err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    if (keeps_old) {
        measures->old_offset = measures->value_bytes;
        measures->value_bytes += sizeof(struct weir_part);
        measures->has_parts = true;
    }
    measures->tail_offset = measures->value_bytes;
    measures->value_bytes += tail_bytes;
    return WEIR_OK;
}

uint32_t weir_measure_cell_bytes(const struct weir_measures *measures, int32_t m) {
    uint32_t end = m + 1 < measures->count    ? measures->cells[m + 1].offset
                   : measures->old_offset > 0 ? measures->old_offset
                                              : measures->tail_offset;
    return end - measures->cells[m].offset;
}

void weir_measures_fini(struct weir_measures *measures) {
    for (int32_t m = 0; m < measures->count; m++) {
        /* The struct's names are const to its readers; this one is the copy made above. */
        free((void *)(uintptr_t)measures->cells[m].measure.name);
        weir_key_destroy(measures->cells[m].member_key);
        weir_field_fini(&measures->cells[m].output);
    }
    if (measures->bags != NULL) {
        weir_bag_scratch_fini(measures->bags);
        free(measures->bags);
    }
    weir_merging_destroy(measures->merging);
    weir_buffer_fini(&measures->order);
    weir_keys_fini(&measures->keys);
    free(measures->cells);
    memset(measures, 0, sizeof *measures);
}

int weir_measures_set_merge(struct weir_measures *measures, weir_merge_states *merge, void *context,
                            struct weir_error *err) {
    measures->merging = weir_merging_create(merge, context);
    return measures->merging != NULL ? WEIR_OK : weir_error_set(err, WEIR_E_NOMEM, "no memory");
}

void weir_measures_merge_with(struct weir_measures *measures, void *context) {
    weir_merging_call_with(measures->merging, context);
}

int weir_measures_failed(const struct weir_measures *measures, struct weir_error *err) {
    return weir_merging_failed(measures->merging, err);
}

int weir_measure_hold(struct weir_measures *measures, struct weir_part *held, const char *bytes,
                      uint32_t length, struct weir_error *err) {
    if (length > held->capacity || held->bytes == NULL) {
        int rc = weir_table_check_room(measures->table, length, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        struct weir_heap *heap = weir_table_heap(measures->table);
        uint32_t capacity = length > 0 ? length : 1;
        uint8_t *room = weir_heap_take(heap, capacity);
        if (room == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for a text of %u bytes",
                                  weir_table_name(measures->table), length);
        }
        weir_heap_give(heap, held->bytes, held->capacity);
        held->bytes = room;
        held->capacity = capacity;
    }
    if (length > 0) {
        memcpy(held->bytes, bytes, length);
    }
    held->length = length;
    return WEIR_OK;
}

int weir_measure_decimal(struct weir_column_builder *out, weir_int128 value) {
    return weir_builder_decimal(out, (uint64_t)value, (int64_t)(value >> 64));
}

int weir_measures_add(struct weir_measures *measures, int32_t m,
                      const struct weir_measure_rows *rows, const struct weir_column *input,
                      const uint8_t *mask, struct weir_error *err) {
    const struct weir_measure_cell *cell = &measures->cells[m];
    if (cell->measure.kind != WEIR_MEASURE_COUNT && input->codes != NULL &&
        !weir_type_is_bytes(cell->measure.type)) {
        return weir_error_set(err, WEIR_E_BUG, "measure '%s': its column is not plain",
                              cell->measure.name);
    }
    if (cell->of_members) {
        return weir_error_set(err, WEIR_E_BUG, "measure '%s': its members are fed by its owner",
                              cell->measure.name);
    }
    if (weir_measure_bags(cell)) {
        return weir_measure_bag_add(measures, m, rows, input, mask, err);
    }
    switch (cell->measure.kind) {
    case WEIR_MEASURE_COUNT:
        weir_count_add(cell, rows, input, mask);
        return WEIR_OK;
    case WEIR_MEASURE_SUM:
    case WEIR_MEASURE_AVG:
        weir_sum_add(cell, m, rows, input, mask);
        return WEIR_OK;
    case WEIR_MEASURE_MIN:
    case WEIR_MEASURE_MAX:
        return weir_extreme_add(measures, m, rows, input, mask, err);
    case WEIR_MEASURE_FIRST:
    case WEIR_MEASURE_LAST:
    case WEIR_MEASURE_ARG_MAX:
    case WEIR_MEASURE_ARG_MIN:
        return weir_chosen_add(measures, m, rows, input, mask, err);
    case WEIR_MEASURE_VARIANCE:
    case WEIR_MEASURE_STDDEV:
        weir_variance_add(cell, rows, input, mask);
        return WEIR_OK;
    case WEIR_MEASURE_APPROX_DISTINCT:
    case WEIR_MEASURE_APPROX_QUANTILE:
        return weir_sketch_add(measures, m, rows, input, mask, err);
    case WEIR_MEASURE_AGGREGATE:
        return weir_state_add(measures, m, rows, input, mask, err);
    default:
        return WEIR_E_BUG;
    }
}

int weir_measures_emit(const struct weir_measures *measures, int32_t m, const uint8_t *value,
                       struct weir_column_builder *out, struct weir_error *err) {
    const struct weir_measure_cell *cell = &measures->cells[m];
    if (weir_measure_bags(cell)) {
        return weir_measure_bag_emit(measures, m, value, out, err);
    }
    switch (cell->measure.kind) {
    case WEIR_MEASURE_COUNT:
    case WEIR_MEASURE_DISTINCT: {
        int64_t count;
        memcpy(&count, value + cell->offset, sizeof count);
        return weir_builder_int(out, count);
    }
    case WEIR_MEASURE_AVG:
        return weir_average_emit(cell, value, out, err);
    case WEIR_MEASURE_SUM:
        return weir_sum_emit(cell, m, value, out, err);
    case WEIR_MEASURE_MIN:
    case WEIR_MEASURE_MAX:
        return is_present(value, m) ? weir_extreme_emit(cell, value, out) : weir_builder_null(out);
    case WEIR_MEASURE_FIRST:
    case WEIR_MEASURE_LAST:
    case WEIR_MEASURE_ARG_MAX:
    case WEIR_MEASURE_ARG_MIN:
        return is_present(value, m) ? weir_chosen_emit(cell, value, out, err)
                                    : weir_builder_null(out);
    case WEIR_MEASURE_VARIANCE:
    case WEIR_MEASURE_STDDEV:
        return weir_variance_emit(cell, value, out);
    case WEIR_MEASURE_APPROX_DISTINCT:
    case WEIR_MEASURE_APPROX_QUANTILE:
        return weir_sketch_emit(cell, value, out);
    case WEIR_MEASURE_AGGREGATE:
        return is_present(value, m) ? weir_state_emit(cell, value, out) : weir_builder_null(out);
    default:
        return WEIR_E_BUG;
    }
}
