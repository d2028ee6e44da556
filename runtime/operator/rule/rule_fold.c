/* Values in entries of cells: compared, and looked back over: count, sum, extremes and how many are
 * different. */
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/decimal.h"
#include "operator/rule/rule_private.h"

static struct weir_rule_state *of(struct weir_rule_run *run) {
    return (struct weir_rule_state *)run;
}

bool rule_field_same(const struct rule_field *field, const uint8_t *a, const uint8_t *b) {
    if (!weir_type_is_bytes(field->type)) {
        return memcmp(a + field->offset, b + field->offset, field->width) == 0;
    }
    const struct weir_rule_text *left;
    const struct weir_rule_text *right;
    memcpy(&left, a + field->offset, sizeof left);
    memcpy(&right, b + field->offset, sizeof right);
    return left == right || (left != NULL && right != NULL && left->length == right->length &&
                             memcmp(left->bytes, right->bytes, (size_t)left->length) == 0);
}

struct window {
    const struct rule_cell *cell;
    struct rule_block *block;
    const struct rule_field *field;
    int32_t number;
    int64_t after_us; /* event times above it */
};

static const uint8_t *inside(const struct window *w, uint32_t index) {
    const uint8_t *record = rule_record(w->cell, w->block, index);
    int64_t time;
    memcpy(&time, record, sizeof time);
    return time > w->after_us && (w->number < 0 || rule_field_there(record, w->number)) ? record
                                                                                        : NULL;
}

static int32_t distinct(struct weir_rule_state *state, const struct window *w) {
    size_t size = 16;
    while (size < (size_t)w->block->count * 2) {
        size *= 2;
    }
    if (state->fold_room < size) {
        uint32_t *grown = realloc(state->fold_index, size * sizeof *grown);
        if (grown == NULL) {
            rule_no_memory(state);
            return -1;
        }
        state->fold_index = grown;
        state->fold_room = size;
    }
    memset(state->fold_index, 0, size * sizeof *state->fold_index);
    int64_t found = 0;
    for (uint32_t i = 0; i < w->block->count; i++) {
        const uint8_t *record = inside(w, i);
        if (record == NULL) {
            continue;
        }
        size_t length;
        const uint8_t *bytes = rule_field_bytes(w->field, record, &length);
        size_t at = XXH3_64bits(bytes, length) & (size - 1);
        while (state->fold_index[at] != 0 &&
               !rule_field_same(w->field, record,
                                rule_record(w->cell, w->block, state->fold_index[at] - 1))) {
            at = (at + 1) & (size - 1);
        }
        found += state->fold_index[at] == 0;
        state->fold_index[at] = state->fold_index[at] == 0 ? i + 1 : state->fold_index[at];
    }
    state->run.lo = found;
    return 1;
}

static __int128 whole(const struct rule_field *field, const uint8_t *record) {
    int64_t words[2];
    memcpy(words, record + field->offset, field->width);
    if (field->width == 8) {
        return words[0];
    }
    return (__int128)(((unsigned __int128)(uint64_t)words[1] << 64) | (uint64_t)words[0]);
}

static bool floats(const struct rule_field *field) {
    return field->type == WEIR_TYPE_DOUBLE || field->type == WEIR_TYPE_FLOAT;
}

static int32_t sum(struct weir_rule_state *state, const struct window *w) {
    __int128 total = 0;
    double number = 0;
    int64_t found = 0;
    for (uint32_t i = 0; i < w->block->count; i++) {
        const uint8_t *record = inside(w, i);
        double value;
        if (record == NULL) {
            continue;
        }
        found++;
        if (floats(w->field)) {
            memcpy(&value, record + w->field->offset, sizeof value);
            number += value;
        } else if (__builtin_add_overflow(total, whole(w->field, record), &total)) {
            rule_refuse(state, "state %s: the sum is out of range", w->cell->name);
            return -1;
        }
    }
    __int128 limit = weir_decimal_power10(38);
    if (w->field->width == 8 ? total != (int64_t)total : total >= limit || total <= -limit) {
        rule_refuse(state, "state %s: the sum is out of range", w->cell->name);
        return -1;
    }
    state->run.lo = (int64_t)total;
    state->run.hi = (int64_t)(total >> 64);
    state->run.number = number;
    return found > 0;
}

static int compare(const struct rule_field *field, const uint8_t *a, const uint8_t *b) {
    if (weir_type_is_bytes(field->type)) {
        const struct weir_rule_text *left;
        const struct weir_rule_text *right;
        memcpy(&left, a + field->offset, sizeof left);
        memcpy(&right, b + field->offset, sizeof right);
        int32_t shorter = left->length < right->length ? left->length : right->length;
        int by = memcmp(left->bytes, right->bytes, (size_t)shorter);
        return by != 0 ? by : left->length - right->length;
    }
    if (floats(field)) {
        double left;
        double right;
        memcpy(&left, a + field->offset, sizeof left);
        memcpy(&right, b + field->offset, sizeof right);
        return (left > right) - (left < right);
    }
    __int128 left = whole(field, a);
    __int128 right = whole(field, b);
    return (left > right) - (left < right);
}

static int32_t extreme(struct weir_rule_state *state, const struct window *w, bool greatest) {
    const uint8_t *best = NULL;
    for (uint32_t i = 0; i < w->block->count; i++) {
        const uint8_t *record = inside(w, i);
        if (record != NULL && (best == NULL || (greatest ? compare(w->field, record, best) > 0
                                                         : compare(w->field, record, best) < 0))) {
            best = record;
        }
    }
    if (best == NULL) {
        return 0;
    }
    memcpy(&state->run.lo, best + w->field->offset, sizeof state->run.lo);
    memcpy(&state->run.number, best + w->field->offset, sizeof state->run.number);
    if (w->field->width == 16) {
        memcpy(&state->run.hi, best + w->field->offset + 8, sizeof state->run.hi);
    }
    return weir_type_is_bytes(w->field->type) ? 2 : 1;
}

int32_t weir_rule_fold(struct weir_rule_run *run, int32_t number, int32_t field, int32_t kind,
                       int64_t window_us) {
    struct weir_rule_state *state = of(run);
    struct rule_cell *cell = &state->cells[number];
    struct window w = {.cell = cell, .block = rule_block_of(state, number), .number = field};
    cell->window_us = window_us > cell->window_us ? window_us : cell->window_us;
    w.field = field >= 0 ? &cell->fields[field] : NULL;
    w.after_us = INT64_MIN;
    if (window_us >= 0) {
        w.after_us = run->time_us - window_us;
    }
    run->lo = run->hi = 0;
    run->number = 0;
    if (w.block == NULL || w.block->count == 0) {
        return kind == WEIR_RULE_FOLD_COUNT || kind == WEIR_RULE_FOLD_DISTINCT;
    }
    switch (kind) {
    case WEIR_RULE_FOLD_SUM:
        return sum(state, &w);
    case WEIR_RULE_FOLD_MIN:
    case WEIR_RULE_FOLD_MAX:
        return extreme(state, &w, kind == WEIR_RULE_FOLD_MAX);
    case WEIR_RULE_FOLD_DISTINCT:
        return distinct(state, &w);
    default:
        for (uint32_t i = 0; i < w.block->count; i++) {
            run->lo += inside(&w, i) != NULL;
        }
        return 1;
    }
}
