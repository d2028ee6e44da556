/* What became of a key's runs, written over those kept: a run that went on takes the place of the
 * one it was. */
#include <stdlib.h>
#include <string.h>

#include "operator/rule/match_private.h"

static struct rule_cell *cell_of(struct rule_match *match, int32_t number) {
    return &match->state->cells[number];
}

static uint8_t *record_of(struct rule_match *match, int32_t cell, int32_t index) {
    return rule_record(cell_of(match, cell), rule_block_of(match->state, cell), (uint32_t)index);
}

static void put(const struct rule_cell *cell, uint8_t *record, int32_t field, const void *value) {
    memcpy(record + cell->fields[field].offset, value, 8);
    record[8 + field] = 1;
}

static bool put_step(struct rule_match *match, uint8_t *record, const struct match_run *run) {
    const struct weir_match_step *step = &match->spec->places[run->place];
    uint8_t *field = record + cell_of(match, MATCH_RUNS)->fields[RUN_STEP].offset;
    const struct weir_rule_text *old;
    memcpy(&old, field, sizeof old);
    if (old != NULL && old->length == step->name_bytes &&
        memcmp(old->bytes, step->name, (size_t)step->name_bytes) == 0) {
        return true;
    }
    record[8 + RUN_STEP] = 1;
    return weir_rule_set_text(&match->state->run, field, step->name, step->name_bytes) == WEIR_OK;
}

static bool put_path(struct rule_match *match, int32_t slot, const struct match_run *run) {
    uint8_t *record = record_of(match, MATCH_PATHS, slot);
    uint8_t *field = record + cell_of(match, MATCH_PATHS)->fields[0].offset;
    size_t size = match->spec->paths ? match_path_write(match, run, NULL) : 0;
    const struct weir_rule_text *old;
    memcpy(&old, field, sizeof old);
    if (size == 0 && old != NULL && old->length == 0) {
        return true;
    }
    if (!rule_note(match->state, record, cell_of(match, MATCH_PATHS)->record_bytes)) {
        return false;
    }
    record[8] = 1;
    if (size > 1 << 24) {
        rule_refuse(match->state, "a partial match of %d rows; say within, or how often at most",
                    match->path.count);
        return false;
    }
    if (old != NULL && !rule_add_part(match->state, &match->state->stale, (void *)(uintptr_t)old,
                                      rule_text_bytes((size_t)old->length))) {
        return false;
    }
    struct weir_rule_text *text = rule_take(match->state, rule_text_bytes(size));
    if (text == NULL) {
        return false;
    }
    text->length = (int32_t)size;
    if (match->spec->paths) {
        match_path_write(match, run, text->bytes);
    }
    memcpy(field, &text, sizeof text);
    return true;
}

static bool put_run(struct rule_match *match, int32_t slot, const struct match_run *run) {
    const struct rule_cell *cell = cell_of(match, MATCH_RUNS);
    uint8_t *record = record_of(match, MATCH_RUNS, slot);
    int64_t count = run->count;
    int64_t gap = run->gap;
    double start = (double)run->start;
    double last = (double)run->last;
    if (!rule_note(match->state, record, cell->record_bytes)) {
        return false;
    }
    memcpy(record, &match->state->run.time_us, 8);
    put(cell, record, RUN_COUNT, &count);
    put(cell, record, RUN_SINCE, &run->since_us);
    put(cell, record, RUN_START, &start);
    put(cell, record, RUN_LAST, &last);
    put(cell, record, RUN_GAP, &gap);
    return run->slot >= 0 || (put_step(match, record, run) && put_path(match, slot, run));
}

static bool push_run(struct rule_match *match, const struct match_run *run) {
    struct weir_rule_run *of = &match->state->run;
    if (weir_rule_push(of, MATCH_RUNS) == NULL || weir_rule_push(of, MATCH_PATHS) == NULL) {
        return false;
    }
    return put_run(match, (int32_t)rule_block_of(match->state, MATCH_RUNS)->count - 1, run);
}

/* --- those that are gone ---------------------------------------------------------------------- */

/* The last entry takes the place of one that is gone. */
static bool drop_entry(struct rule_match *match, int32_t number, int32_t slot) {
    struct rule_cell *cell = cell_of(match, number);
    struct rule_block *block = rule_block_of(match->state, number);
    uint8_t *record = rule_record(cell, block, (uint32_t)slot);
    const uint8_t *last = rule_record(cell, block, block->count - 1);
    if (!rule_drop_texts(match->state, cell, record) ||
        !rule_note(match->state, block, sizeof *block) ||
        !rule_note(match->state, record, cell->record_bytes)) {
        return false;
    }
    if (last != record) {
        memcpy(record, last, cell->record_bytes);
    }
    block->count--;
    return true;
}

/* Slots of runs that do not go on as they were, in order; -1: no memory. */
static int32_t free_slots(struct rule_match *match) {
    if (!match_room(match, (void **)&match->free_slots, &match->free_room, match->held,
                    sizeof *match->free_slots)) {
        return -1;
    }
    int32_t *slots = match->free_slots;
    int32_t next = 0; /* of those that stay, which are in order of their slots */
    int32_t count = 0;
    for (int32_t slot = 0; slot < match->held; slot++) {
        while (next < match->on.count && match->on.list[next].slot < slot &&
               match->on.list[next].slot >= 0) {
            next++;
        }
        bool stays = next < match->on.count && match->on.list[next].slot == slot;
        if (!stays) {
            slots[count++] = slot;
        }
    }
    return count;
}

static bool write_runs(struct rule_match *match) {
    int32_t gone = free_slots(match);
    int32_t reused = 0;
    if (gone < 0 || rule_slot_write(match->state) == NULL) {
        return false;
    }
    for (int32_t i = 0; i < match->on.count; i++) {
        const struct match_run *run = &match->on.list[i];
        if (run->slot >= 0 && run->changed) {
            if (!put_run(match, run->slot, run)) {
                return false;
            }
        } else if (run->slot < 0) {
            bool good = reused < gone ? put_run(match, match->free_slots[reused++], run)
                                      : push_run(match, run);
            if (!good) {
                return false;
            }
        }
    }
    for (int32_t i = gone - 1; i >= reused; i--) {
        if (!drop_entry(match, MATCH_RUNS, match->free_slots[i]) ||
            !drop_entry(match, MATCH_PATHS, match->free_slots[i])) {
            return false;
        }
    }
    return true;
}

/* --- rows ------------------------------------------------------------------------------------- */

/* Rows before the first that some run took go. */
static bool drop_rows(struct rule_match *match, int64_t first) {
    const struct rule_cell *cell = cell_of(match, MATCH_ROWS);
    struct rule_block *block = rule_block_of(match->state, MATCH_ROWS);
    bool noted = false;
    while (block != NULL && block->count > 0) {
        const uint8_t *record = rule_record(cell, block, 0);
        int64_t number;
        memcpy(&number, record + cell->fields[0].offset, sizeof number);
        if (number >= first) {
            break;
        }
        if ((!noted && !rule_note(match->state, block, sizeof *block)) ||
            !rule_drop_texts(match->state, cell, record)) {
            return false;
        }
        noted = true;
        block->head = block->head + 1 == block->capacity ? 0 : block->head + 1;
        block->count--;
    }
    return true;
}

static bool set_taken(struct rule_match *match) {
    const struct rule_cell *cell = cell_of(match, MATCH_TAKEN);
    uint8_t *record = weir_rule_set(&match->state->run, MATCH_TAKEN);
    if (record != NULL) {
        put(cell, record, 0, &match->spec->id);
    }
    return record != NULL;
}

/* Nothing has begun any more. */
static int32_t clear(struct rule_match *match) {
    struct weir_rule_run *run = &match->state->run;
    bool good = weir_rule_clear(run, -1) == WEIR_OK;
    if (good && match->spec->timer >= 0) {
        good = weir_rule_cancel(run, match->spec->timer) == WEIR_OK;
    }
    return good ? WEIR_MATCH_DONE : WEIR_MATCH_FAILED;
}

int32_t match_write(struct rule_match *match) {
    const struct weir_match *spec = match->spec;
    bool row = match->of_row && match->took.count > 0;
    if (match->on.count == 0) {
        return clear(match);
    }
    if (match->on.count > MATCH_RUNS_MAX) {
        rule_refuse(match->state,
                    "more than %d partial matches of a key; say within, or a narrower first step",
                    MATCH_RUNS_MAX);
        return WEIR_MATCH_FAILED;
    }
    int64_t oldest = INT64_MAX;
    int64_t first = INT64_MAX;
    bool needed = false;
    for (int32_t i = 0; i < match->on.count; i++) {
        const struct match_run *run = &match->on.list[i];
        oldest = run->since_us < oldest ? run->since_us : oldest;
        first = run->start < first ? run->start : first;
        needed = needed || (row && run->last == spec->id);
    }
    if (!write_runs(match) || (row && !set_taken(match)) ||
        (spec->keeps && !drop_rows(match, first))) {
        return WEIR_MATCH_FAILED;
    }
    needed = needed && spec->keeps;
    const struct rule_block *rows = needed ? rule_block_of(match->state, MATCH_ROWS) : NULL;
    if (rows != NULL && rows->count >= MATCH_ROWS_MAX) {
        rule_refuse(match->state,
                    "more than %d rows of partial matches; say within, or a narrower first step",
                    MATCH_ROWS_MAX);
        return WEIR_MATCH_FAILED;
    }
    if (spec->timer >= 0 && weir_rule_timer(&match->state->run, spec->timer,
                                            oldest + spec->within_us - 1, 0) != WEIR_OK) {
        return WEIR_MATCH_FAILED;
    }
    return needed ? WEIR_MATCH_KEEP : WEIR_MATCH_DONE;
}
