/* What a rule's loop does to cells (abi/rule.h). */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "operator/rule/rule_private.h"

enum { KEY_TEXT_BYTES = 64 << 10 };

static struct weir_rule_state *of(struct weir_rule_run *run) {
    return (struct weir_rule_state *)run;
}

/* --- blocks ----------------------------------------------------------------------------------- */

struct rule_block *rule_block_of(struct weir_rule_state *state, int32_t cell) {
    struct rule_slot *slot = rule_slot_read(state);
    return slot != NULL ? slot->cells[cell].block : NULL;
}

bool rule_slot_is_empty(const struct weir_rule_state *state, const struct rule_slot *value) {
    for (int32_t c = 0; c < state->cell_count; c++) {
        bool sketch = state->cells[c].kind == WEIR_RULE_SKETCH;
        if (sketch ? value->cells[c].sketch != NULL
                   : value->cells[c].block != NULL && value->cells[c].block->count > 0) {
            return false;
        }
    }
    return true;
}

/* The block of a cell with room for one more entry, if it may grow. */
static struct rule_block *room(struct weir_rule_state *state, int32_t number) {
    const struct rule_cell *cell = &state->cells[number];
    struct rule_slot *slot = rule_slot_write(state);
    if (slot == NULL) {
        return NULL;
    }
    struct rule_block *old = slot->cells[number].block;
    uint32_t count = old != NULL ? old->count : 0;
    if (old != NULL && (count < old->capacity || old->capacity == cell->max)) {
        return old;
    }
    uint32_t capacity = old == NULL ? (cell->max < 2 ? 1 : 2) : old->capacity * 2;
    capacity = capacity > cell->max ? cell->max : capacity;
    struct rule_block *block = rule_take(state, rule_block_bytes(cell, capacity));
    if (block == NULL || !rule_note(state, &slot->cells[number].block, sizeof(void *))) {
        return NULL;
    }
    memset(block, 0, rule_block_bytes(cell, capacity));
    block->capacity = capacity;
    block->count = count;
    for (uint32_t i = 0; i < count; i++) {
        memcpy(rule_record(cell, block, i), rule_record(cell, old, i), cell->record_bytes);
    }
    if (old != NULL &&
        !rule_add_part(state, &state->stale, old, rule_block_bytes(cell, old->capacity))) {
        return NULL;
    }
    slot->cells[number].block = block;
    return block;
}

static bool note_head(struct weir_rule_state *state, struct rule_block *block) {
    return rule_note(state, block, sizeof *block);
}

static void stamp(const struct weir_rule_state *state, uint8_t *record) {
    memcpy(record, &state->run.time_us, sizeof state->run.time_us);
}

int32_t weir_rule_count(struct weir_rule_run *run, int32_t cell) {
    struct rule_block *block = rule_block_of(of(run), cell);
    return block != NULL ? (int32_t)block->count : 0;
}

uint8_t *weir_rule_at(struct weir_rule_run *run, int32_t cell, int32_t index) {
    struct rule_block *block = rule_block_of(of(run), cell);
    return block != NULL && index >= 0 && (uint32_t)index < block->count
               ? rule_record(&of(run)->cells[cell], block, (uint32_t)index)
               : NULL;
}

uint8_t *weir_rule_set(struct weir_rule_run *run, int32_t number) {
    struct weir_rule_state *state = of(run);
    const struct rule_cell *cell = &state->cells[number];
    struct rule_block *block = room(state, number);
    if (block == NULL) {
        return NULL;
    }
    uint8_t *record = rule_record(cell, block, 0);
    if (!rule_note(state, record, cell->record_bytes) ||
        (block->count == 0 && !note_head(state, block))) {
        return NULL;
    }
    block->count = 1;
    stamp(state, record);
    return record;
}

/* Who looks back over a window misses an entry that made room before it was over. */
static void count_pushed_out(struct weir_rule_state *state, struct rule_cell *cell,
                             const uint8_t *oldest) {
    int64_t time;
    memcpy(&time, oldest, sizeof time);
    if (cell->window_us > 0 && state->run.time_us - time < cell->window_us) {
        cell->pushed_now++;
        state->pushes_out = true;
    }
}

uint8_t *weir_rule_push(struct weir_rule_run *run, int32_t number) {
    struct weir_rule_state *state = of(run);
    struct rule_cell *cell = &state->cells[number];
    struct rule_block *block = room(state, number);
    if (block == NULL || !note_head(state, block)) {
        return NULL;
    }
    if (block->count == cell->max && cell->kind != WEIR_RULE_RING) {
        rule_refuse(state, "state %s: its %u entries are full; take some out, or declare it larger",
                    cell->name, cell->max);
        return NULL;
    }
    if (block->count == cell->max) { /* the oldest makes room */
        uint8_t *oldest = rule_record(cell, block, 0);
        count_pushed_out(state, cell, oldest);
        if (!rule_drop_texts(state, cell, oldest)) {
            return NULL;
        }
        block->head = block->head + 1 == block->capacity ? 0 : block->head + 1;
        block->count--;
    }
    uint8_t *record = rule_record(cell, block, block->count);
    if (!rule_note(state, record, cell->record_bytes)) {
        return NULL;
    }
    memset(record, 0, cell->record_bytes);
    block->count++;
    stamp(state, record);
    return record;
}

/* --- keys of maps and sets -------------------------------------------------------------------- */

uint8_t *weir_rule_key(struct weir_rule_run *run, int32_t number) {
    struct weir_rule_state *state = of(run);
    struct rule_cell *cell = &state->cells[number];
    weir_buffer_clear(&state->key_texts);
    memset(cell->key->records, 0, cell->record_bytes);
    state->key_cell = number;
    return cell->key->records;
}

/* Of a map the first field, of a set all. */
static int32_t key_fields(const struct rule_cell *cell) {
    return cell->kind == WEIR_RULE_MAP ? 1 : cell->field_count;
}

static int64_t find(const struct rule_cell *cell, struct rule_block *block) {
    int32_t fields = key_fields(cell);
    for (uint32_t i = 0; block != NULL && i < block->count; i++) {
        const uint8_t *record = rule_record(cell, block, i);
        int32_t f = 0;
        while (f < fields &&
               rule_field_there(record, f) == rule_field_there(cell->key->records, f) &&
               rule_field_same(&cell->fields[f], record, cell->key->records)) {
            f++;
        }
        if (f == fields) {
            return i;
        }
    }
    return -1;
}

uint8_t *weir_rule_get(struct weir_rule_run *run, int32_t number) {
    const struct rule_cell *cell = &of(run)->cells[number];
    struct rule_block *block = rule_block_of(of(run), number);
    int64_t at = find(cell, block);
    return at >= 0 ? rule_record(cell, block, (uint32_t)at) : NULL;
}

uint8_t *weir_rule_put(struct weir_rule_run *run, int32_t number) {
    struct weir_rule_state *state = of(run);
    const struct rule_cell *cell = &state->cells[number];
    int64_t at = find(cell, rule_block_of(state, number));
    if (at >= 0) {
        if (rule_slot_write(state) == NULL) {
            return NULL;
        }
        uint8_t *record = rule_record(cell, rule_block_of(state, number), (uint32_t)at);
        if (!rule_note(state, record, cell->record_bytes)) {
            return NULL;
        }
        stamp(state, record);
        return record;
    }
    uint8_t *record = weir_rule_push(run, number);
    for (int32_t f = 0; record != NULL && f < key_fields(cell); f++) {
        const struct rule_field *field = &cell->fields[f];
        const uint8_t *key = cell->key->records;
        record[8 + f] = key[8 + f];
        if (!weir_type_is_bytes(field->type)) {
            memcpy(record + field->offset, key + field->offset, field->width);
        } else if (key[8 + f] != 0) {
            const struct weir_rule_text *text;
            memcpy(&text, key + field->offset, sizeof text);
            if (weir_rule_set_text(run, record + field->offset, text->bytes, text->length) != 0) {
                return NULL;
            }
        }
    }
    return record;
}

int32_t weir_rule_remove_at(struct weir_rule_run *run, int32_t number, int32_t index) {
    struct weir_rule_state *state = of(run);
    const struct rule_cell *cell = &state->cells[number];
    struct rule_block *old = rule_block_of(state, number);
    if (old == NULL || index < 0 || (uint32_t)index >= old->count) {
        return 0;
    }
    struct rule_slot *slot = rule_slot_write(state);
    struct rule_block *block = slot != NULL ? slot->cells[number].block : NULL;
    if (block == NULL || !rule_note(state, block, rule_block_bytes(cell, block->capacity)) ||
        !rule_drop_texts(state, cell, rule_record(cell, block, (uint32_t)index))) {
        return -1;
    }
    for (uint32_t i = (uint32_t)index; i + 1 < block->count; i++) {
        memcpy(rule_record(cell, block, i), rule_record(cell, block, i + 1), cell->record_bytes);
    }
    block->count--;
    memset(rule_record(cell, block, block->count), 0, cell->record_bytes);
    return 1;
}

int32_t weir_rule_remove(struct weir_rule_run *run, int32_t number) {
    int64_t at = find(&of(run)->cells[number], rule_block_of(of(run), number));
    return at < 0 ? 0 : weir_rule_remove_at(run, number, (int32_t)at);
}

int32_t weir_rule_set_text(struct weir_rule_run *run, uint8_t *field, const char *bytes,
                           int64_t length) {
    struct weir_rule_state *state = of(run);
    const struct rule_cell *cell = state->key_cell >= 0 ? &state->cells[state->key_cell] : NULL;
    bool of_key = cell != NULL && field >= cell->key->records &&
                  field < cell->key->records + cell->record_bytes;
    struct weir_rule_text *text = NULL;
    if (length > (of_key ? KEY_TEXT_BYTES / 2 : 1 << 24)) {
        rule_refuse(state, "a text of %lld bytes is too long for state", (long long)length);
        return WEIR_E_DATA;
    }
    if (of_key) {
        size_t size = (rule_text_bytes((size_t)(length < 0 ? 0 : length)) + 7) & ~(size_t)7;
        if (weir_buffer_reserve(&state->key_texts, KEY_TEXT_BYTES) != WEIR_OK ||
            state->key_texts.size + size > KEY_TEXT_BYTES) {
            rule_refuse(state, "the texts of a key are too long for state");
            return WEIR_E_DATA;
        }
        text = (struct weir_rule_text *)(void *)(state->key_texts.data + state->key_texts.size);
        state->key_texts.size += size;
    } else {
        struct weir_rule_text *old;
        memcpy(&old, field, sizeof old);
        if (old != NULL &&
            !rule_add_part(state, &state->stale, old, rule_text_bytes((size_t)old->length))) {
            return WEIR_E_NOMEM;
        }
        if (length >= 0 && (text = rule_take(state, rule_text_bytes((size_t)length))) == NULL) {
            return WEIR_E_NOMEM;
        }
    }
    if (text != NULL && length >= 0) {
        text->length = (int32_t)length;
        memcpy(text->bytes, bytes, (size_t)length);
    }
    memcpy(field, &text, sizeof text);
    return WEIR_OK;
}

/* --- clearing --------------------------------------------------------------------------------- */

static bool clear_cell(struct weir_rule_state *state, struct rule_slot *slot, int32_t number) {
    const struct rule_cell *cell = &state->cells[number];
    if (slot->cells[number].block == NULL) {
        return true;
    }
    if (!rule_note(state, &slot->cells[number].block, sizeof(void *))) {
        return false;
    }
    if (cell->kind == WEIR_RULE_SKETCH) {
        struct weir_part *part = slot->cells[number].sketch;
        slot->cells[number].sketch = NULL;
        return rule_add_part(state, &state->stale, part->bytes, part->capacity) &&
               rule_add_part(state, &state->stale, part, sizeof *part);
    }
    struct rule_block *block = slot->cells[number].block;
    slot->cells[number].block = NULL;
    bool good = true;
    for (uint32_t i = 0; good && i < block->count; i++) {
        good = rule_drop_texts(state, cell, rule_record(cell, block, i));
    }
    return good &&
           rule_add_part(state, &state->stale, block, rule_block_bytes(cell, block->capacity));
}

int32_t weir_rule_clear(struct weir_rule_run *run, int32_t cell) {
    struct weir_rule_state *state = of(run);
    if (rule_slot_read(state) == NULL) {
        return WEIR_OK;
    }
    struct rule_slot *slot = rule_slot_write(state);
    bool good = slot != NULL;
    for (int32_t c = 0; good && c < state->cell_count; c++) {
        good = cell >= 0 && c != cell ? true : clear_cell(state, slot, c);
    }
    return good ? WEIR_OK : WEIR_E_NOMEM;
}

/* --- sketches --------------------------------------------------------------------------------- */

int32_t weir_rule_sketch_add(struct weir_rule_run *run, int32_t number) {
    struct weir_rule_state *state = of(run);
    const struct rule_cell *cell = &state->cells[number];
    struct rule_slot *slot = rule_slot_write(state);
    if (slot == NULL || !rule_note(state, &slot->cells[number].sketch, sizeof(void *))) {
        return WEIR_E_NOMEM;
    }
    /* A sketch changes in place; the item works on a copy. */
    const struct weir_part *old = slot->cells[number].sketch;
    struct weir_part *part = rule_take(state, sizeof *part);
    uint32_t length = old != NULL ? old->length : 0;
    struct weir_part made = {0};
    if (part == NULL) {
        return WEIR_E_NOMEM;
    }
    struct weir_heap *heap = weir_table_heap(state->table);
    if (length > 0) {
        made.bytes = weir_heap_take(heap, length);
        made.length = made.capacity = made.bytes != NULL ? length : 0;
        if (made.bytes == NULL) {
            rule_no_memory(state);
            return WEIR_E_NOMEM;
        }
        memcpy(made.bytes, old->bytes, length);
    }
    size_t size;
    const uint8_t *bytes = rule_field_bytes(&cell->fields[0], cell->key->records, &size);
    uint64_t hash = XXH3_64bits(bytes, size);
    bool good = weir_distinct_sketch_add(&made, heap, hash);
    if (made.capacity > 0 && !rule_add_part(state, &state->fresh, made.bytes, made.capacity)) {
        return WEIR_E_NOMEM;
    }
    if (!good) {
        rule_no_memory(state);
        return WEIR_E_NOMEM;
    }
    *part = made;
    if (old != NULL &&
        (!rule_add_part(state, &state->stale, old->bytes, old->capacity) ||
         !rule_add_part(state, &state->stale, slot->cells[number].sketch, sizeof *old))) {
        return WEIR_E_NOMEM;
    }
    slot->cells[number].sketch = part;
    return WEIR_OK;
}

double weir_rule_sketch_count(struct weir_rule_run *run, int32_t cell) {
    const struct rule_slot *slot = rule_slot_read(of(run));
    return slot != NULL && slot->cells[cell].sketch != NULL
               ? (double)weir_distinct_sketch_count(slot->cells[cell].sketch)
               : 0;
}

/* --- timers and emits ------------------------------------------------------------------------- */

static int32_t add_pending(struct weir_rule_state *state, const struct rule_pending *pending) {
    if (state->pending_count == state->pending_room) {
        size_t capacity = state->pending_room == 0 ? 16 : state->pending_room * 2;
        struct rule_pending *list = realloc(state->pending, capacity * sizeof *list);
        if (list == NULL) {
            rule_no_memory(state);
            return WEIR_E_NOMEM;
        }
        state->pending = list;
        state->pending_room = capacity;
    }
    state->pending[state->pending_count++] = *pending;
    return WEIR_OK;
}

int32_t weir_rule_timer(struct weir_rule_run *run, int32_t timer, int64_t at_us, int32_t clock) {
    struct rule_pending pending = {timer, at_us, clock != 0, false};
    return add_pending(of(run), &pending);
}

int32_t weir_rule_cancel(struct weir_rule_run *run, int32_t timer) {
    struct rule_pending pending = {timer, 0, false, true};
    return add_pending(of(run), &pending);
}

int32_t weir_rule_emit(struct weir_rule_run *run, int32_t number) {
    struct weir_rule_state *state = of(run);
    struct weir_rule_target *target = &state->span.targets[number];
    if (target->count - state->emitted[number] >= RULE_ITEM_EMITS_MAX ||
        target->count >= target->call.rows) {
        rule_refuse(state, "a row emits more than %d rows", RULE_ITEM_EMITS_MAX);
        return -1;
    }
    target->times[target->count] = run->time_us;
    target->before[target->count] = state->item_gate;
    if (target->items != NULL) {
        target->items[target->count] = state->item;
    }
    return target->count++;
}

struct weir_call *weir_rule_target(struct weir_rule_run *run, int32_t target) {
    return &of(run)->span.targets[target].call;
}
