/* `aggregate`: states of the analyst's own, merged by a function of theirs. A cell is a state as
 * abi/call.h has it: a byte a field, 1 when it is not null, padded to 8; then the fields. */
#include <stdlib.h>

#include "operator/aggregate/measure_private.h"

struct weir_merging {
    weir_merge_states *merge;
    void *context;
    struct weir_error failure; /* of a merge whose caller cannot tell */
    uint8_t *states;           /* of a batch's rows */
    uint8_t **into;
    uint8_t **from;
    size_t state_bytes; /* there is room for: of one */
    int32_t capacity;   /* rows */
};

struct weir_merging *weir_merging_create(weir_merge_states *merge, void *context) {
    struct weir_merging *merging = calloc(1, sizeof *merging);
    if (merging != NULL) {
        merging->merge = merge;
        merging->context = context;
    }
    return merging;
}

void weir_merging_call_with(struct weir_merging *merging, void *context) {
    if (merging != NULL) {
        merging->context = context;
    }
}

void weir_merging_destroy(struct weir_merging *merging) {
    if (merging != NULL) {
        free(merging->states);
        free((void *)merging->into);
        free((void *)merging->from);
        free(merging);
    }
}

int weir_merging_failed(struct weir_merging *merging, struct weir_error *err) {
    int code = merging != NULL ? merging->failure.code : WEIR_OK;
    return code != WEIR_OK ? weir_error_set(err, code, "%s", merging->failure.message) : WEIR_OK;
}

static uint32_t presence_bytes(const struct weir_field *state) {
    return ((uint32_t)state->child_count + 7) / 8 * 8;
}

static uint32_t field_bytes(const struct weir_field *field) {
    return field->type == WEIR_TYPE_DECIMAL ? 16 : 8;
}

uint32_t weir_state_bytes(const struct weir_field *state) {
    uint32_t bytes = presence_bytes(state);
    for (int32_t f = 0; f < state->child_count; f++) {
        bytes += field_bytes(&state->children[f]);
    }
    return bytes;
}

/* A row of columns as a state. */
static void pack(const struct weir_field *state, const struct weir_column *column, int32_t row,
                 uint8_t *into) {
    uint32_t at = presence_bytes(state);
    memset(into, 0, weir_state_bytes(state));
    for (int32_t f = 0; f < state->child_count; f++) {
        const struct weir_column *field = &column->children[f];
        if (!weir_column_is_null(field, row)) {
            into[f] = 1;
            if (field->type == WEIR_TYPE_DECIMAL) {
                memcpy(into + at, (const uint8_t *)field->values + (size_t)row * 16, 16);
            } else if (is_float(field->type)) {
                double number = field->type == WEIR_TYPE_FLOAT
                                    ? (double)((const float *)field->values)[row]
                                    : ((const double *)field->values)[row];
                memcpy(into + at, &number, sizeof number);
            } else {
                int64_t number = field->type == WEIR_TYPE_BOOL ? weir_bit_get(field->values, row)
                                                               : weir_column_int(field, row);
                memcpy(into + at, &number, sizeof number);
            }
        }
        at += field_bytes(&state->children[f]);
    }
}

static bool reserve(struct weir_merging *merging, int32_t rows, size_t state_bytes) {
    if (rows <= merging->capacity && state_bytes <= merging->state_bytes) {
        return true;
    }
    int32_t capacity = rows > merging->capacity ? rows : merging->capacity;
    size_t bytes = state_bytes > merging->state_bytes ? state_bytes : merging->state_bytes;
    free(merging->states);
    free((void *)merging->into);
    free((void *)merging->from);
    merging->states = malloc((size_t)capacity * bytes + 1);
    merging->into = malloc(((size_t)capacity + 1) * sizeof *merging->into);
    merging->from = malloc(((size_t)capacity + 1) * sizeof *merging->from);
    bool made = merging->states != NULL && merging->into != NULL && merging->from != NULL;
    merging->capacity = made ? capacity : 0;
    merging->state_bytes = made ? bytes : 0;
    return made;
}

int weir_state_add(struct weir_measures *measures, int32_t m, const struct weir_measure_rows *rows,
                   const struct weir_column *input, const uint8_t *mask, struct weir_error *err) {
    const struct weir_measure_cell *cell = &measures->cells[m];
    struct weir_merging *merging = measures->merging;
    uint32_t bytes = weir_state_bytes(&cell->output);
    int32_t count = 0;
    if (!reserve(merging, rows->count, bytes)) {
        return weir_error_set(err, WEIR_E_NOMEM, "measure '%s': no memory for %d states",
                              cell->measure.name, rows->count);
    }
    /* A group's first state is put there; the others are merged with it in the order of rows. */
    FOR_EACH_VALUE({
        if (set_present(value, m)) {
            uint8_t *state = merging->states + (size_t)count * bytes;
            pack(&cell->output, input, row, state);
            merging->into[count] = value + cell->offset;
            merging->from[count++] = state;
        } else {
            pack(&cell->output, input, row, value + cell->offset);
        }
    })
    return count > 0 ? merging->merge(merging->context, m, merging->into, merging->from, count, err)
                     : WEIR_OK;
}

int weir_state_merge(const struct weir_measures *measures, int32_t m, uint8_t *into,
                     const uint8_t *from) {
    const struct weir_measure_cell *cell = &measures->cells[m];
    struct weir_merging *merging = measures->merging;
    if (!is_present(from, m)) {
        return WEIR_OK;
    }
    if (!set_present(into, m)) {
        memcpy(into + cell->offset, from + cell->offset, weir_state_bytes(&cell->output));
        return WEIR_OK;
    }
    uint8_t *first = into + cell->offset;
    uint8_t *second = (uint8_t *)(uintptr_t)from + cell->offset; /* the function only reads it */
    struct weir_error thrown = {0};
    int rc = merging->merge(merging->context, m, &first, &second, 1, &thrown);
    if (rc != WEIR_OK && merging->failure.code == WEIR_OK) {
        merging->failure = thrown;
    }
    return rc;
}

int weir_state_emit(const struct weir_measure_cell *cell, const uint8_t *value,
                    struct weir_column_builder *out) {
    const struct weir_field *state = &cell->output;
    const uint8_t *from = value + cell->offset;
    uint32_t at = presence_bytes(state);
    int rc = WEIR_OK;
    for (int32_t f = 0; f < state->child_count && rc == WEIR_OK; f++) {
        struct weir_column_builder *field = &out->children[f];
        uint8_t type = state->children[f].type;
        uint64_t words[2] = {0};
        double number;
        memcpy(words, from + at, field_bytes(&state->children[f]));
        memcpy(&number, words, sizeof number);
        at += field_bytes(&state->children[f]);
        rc = from[f] == 0                ? weir_builder_null(field)
             : type == WEIR_TYPE_DECIMAL ? weir_builder_decimal(field, words[0], (int64_t)words[1])
             : type == WEIR_TYPE_DOUBLE  ? weir_builder_double(field, number)
             : type == WEIR_TYPE_FLOAT   ? weir_builder_float(field, (float)number)
             : type == WEIR_TYPE_BOOL    ? weir_builder_bool(field, words[0] != 0)
                                         : weir_builder_int(field, (int64_t)words[0]);
    }
    return rc == WEIR_OK ? weir_builder_struct(out) : rc;
}
