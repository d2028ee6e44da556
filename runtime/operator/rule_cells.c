/* What a rule's loop does to cells (abi/rule.h). Every write is preceded by a note of the bytes as
 * they were; memory a write makes needless is given back when the item is kept, memory it took when
 * the item is undone. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/decimal.h"
#include "operator/rule_private.h"

enum { KEY_TEXT_BYTES = 64 << 10 };

static struct weir_rule_state *of(struct weir_rule_run *run) {
    return (struct weir_rule_state *)run;
}

/* The item's fault: the loop throws it. */
__attribute__((format(printf, 2, 3))) static void refuse(struct weir_rule_state *state,
                                                         const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(state->message, sizeof state->message, format, arguments);
    va_end(arguments);
}

static void no_memory(struct weir_rule_state *state) {
    if (state->failure.code == WEIR_OK) {
        weir_error_set(&state->failure, WEIR_E_NOMEM, "%s: out of memory", state->declaration);
    }
    refuse(state, "%s", state->failure.message);
}

const char *weir_rule_error(struct weir_rule_run *run) {
    return of(run)->message;
}

/* --- undoing ---------------------------------------------------------------------------------- */

struct trailer {
    void *at;
    size_t size;
};

static bool note(struct weir_rule_state *state, void *at, size_t size) {
    struct trailer trailer = {at, size};
    if (weir_buffer_append(&state->undo, at, size) != WEIR_OK ||
        weir_buffer_append(&state->undo, &trailer, sizeof trailer) != WEIR_OK) {
        no_memory(state);
        return false;
    }
    return true;
}

static bool add_part(struct weir_rule_state *state, struct rule_parts *parts, void *part,
                     size_t size) {
    if (parts->count == parts->capacity) {
        size_t capacity = parts->capacity == 0 ? 64 : parts->capacity * 2;
        struct rule_part *list = realloc(parts->list, capacity * sizeof *list);
        if (list == NULL) {
            no_memory(state);
            return false;
        }
        parts->list = list;
        parts->capacity = capacity;
    }
    parts->list[parts->count++] = (struct rule_part){part, size};
    return true;
}

static void give_parts(struct weir_rule_state *state, struct rule_parts *parts) {
    for (size_t i = 0; i < parts->count; i++) {
        weir_heap_give(weir_table_heap(state->table), parts->list[i].part, parts->list[i].size);
    }
    parts->count = 0;
}

static void *take(struct weir_rule_state *state, size_t size) {
    if (weir_table_check_room(state->table, size, &state->failure) != WEIR_OK) {
        no_memory(state);
        return NULL;
    }
    void *part = weir_heap_take(weir_table_heap(state->table), size);
    if (part == NULL) {
        no_memory(state);
        return NULL;
    }
    return add_part(state, &state->fresh, part, size) ? part : NULL;
}

static bool drop_texts(struct weir_rule_state *state, const struct rule_cell *cell,
                       const uint8_t *record) {
    for (int32_t f = 0; f < cell->field_count; f++) {
        if (weir_type_is_bytes(cell->fields[f].type)) {
            struct weir_rule_text *text;
            memcpy(&text, record + cell->fields[f].offset, sizeof text);
            if (text != NULL &&
                !add_part(state, &state->stale, text, rule_text_bytes((size_t)text->length))) {
                return false;
            }
        }
    }
    return true;
}

/* --- slots ------------------------------------------------------------------------------------ */

struct rule_slot *rule_slot_read(struct weir_rule_state *state) {
    if (!state->looked) {
        state->looked = true;
        state->key_hash = weir_table_hash(state->table, state->key_bytes, state->key_size);
        state->slot =
            weir_table_find(state->table, state->key_hash, state->key_bytes, state->key_size);
    }
    return state->slot != NULL ? rule_slot_of(state, state->slot) : NULL;
}

/* The layout this version writes is known to whoever reads the state. */
static bool write_layout(struct weir_rule_state *state) {
    char line_start[20];
    bool created;
    uint64_t hash = weir_table_hash(state->table, "", 0);
    snprintf(line_start, sizeof line_start, "%016llx ", (unsigned long long)state->layout);
    struct weir_slot *slot = weir_table_find(state->table, hash, "", 0);
    struct rule_slot *value = slot != NULL ? rule_slot_of(state, slot) : NULL;
    if (value != NULL && memmem(value->raw, value->raw_bytes, line_start, 17) != NULL) {
        return true;
    }
    if (slot == NULL) {
        slot = weir_table_get(state->table, hash, "", 0, &created, &state->failure);
        value = slot != NULL ? rule_slot_of(state, slot) : NULL;
    } else if (weir_table_touch(state->table, slot) != WEIR_OK) {
        value = NULL;
    }
    uint8_t head[16] = {0};
    size_t old = value != NULL && value->raw != NULL ? value->raw_bytes : sizeof head;
    size_t size = old + 17 + strlen(state->layout_text) + 1;
    uint8_t *text = value != NULL ? weir_heap_take(weir_table_heap(state->table), size) : NULL;
    if (text == NULL) {
        no_memory(state);
        return false;
    }
    memcpy(text, value->raw != NULL ? value->raw : head, old);
    memcpy(text + old, line_start, 17);
    memcpy(text + old + 17, state->layout_text, size - old - 18);
    text[size - 1] = '\n';
    if (value->raw != NULL) {
        weir_heap_give(weir_table_heap(state->table), value->raw, value->raw_bytes);
    }
    value->raw = text;
    value->raw_bytes = (uint32_t)size;
    return true;
}

/* The item's slot, about to be written. */
static struct rule_slot *writable(struct weir_rule_state *state) {
    struct rule_slot *value = rule_slot_read(state);
    if (state->touched) {
        return value;
    }
    if (value == NULL) {
        if (!state->layout_written && !(state->layout_written = write_layout(state))) {
            return NULL;
        }
        state->slot = weir_table_get(state->table, state->key_hash, state->key_bytes,
                                     state->key_size, &state->created, &state->failure);
        if (state->slot == NULL) {
            no_memory(state);
            return NULL;
        }
        value = rule_slot_of(state, state->slot);
        value->layout = state->layout;
    } else if (weir_table_touch(state->table, state->slot) != WEIR_OK) {
        no_memory(state);
        return NULL;
    }
    if (!note(state, &value->changed_us, sizeof value->changed_us)) {
        return NULL;
    }
    value->changed_us = state->ttl_by_clock ? state->span.clock_us : state->run.time_us;
    state->touched = true;
    return value;
}

static bool is_empty(const struct weir_rule_state *state, const struct rule_slot *value) {
    for (int32_t c = 0; c < state->cell_count; c++) {
        bool sketch = state->cells[c].kind == WEIR_RULE_SKETCH;
        if (sketch ? value->cells[c].sketch != NULL
                   : value->cells[c].block != NULL && value->cells[c].block->count > 0) {
            return false;
        }
    }
    return true;
}

void rule_item_keep(struct weir_rule_state *state) {
    give_parts(state, &state->stale);
    state->fresh.count = 0;
    weir_buffer_clear(&state->undo);
    for (size_t i = 0; i < state->pending_count && state->failure.code == WEIR_OK; i++) {
        if (rule_timer_apply(state, &state->pending[i], &state->failure) != WEIR_OK &&
            state->failure.code == WEIR_OK) {
            no_memory(state);
        }
    }
    state->pending_count = 0;
    if (state->touched) {
        struct rule_slot *value = rule_slot_of(state, state->slot);
        if (is_empty(state, value)) {
            if (weir_table_delete(state->table, state->slot, false) != WEIR_OK) {
                no_memory(state);
            }
        } else if (state->ttl_us > 0 && !value->expires) {
            struct rule_due due = {value->changed_us + state->ttl_us, state->slot->sequence,
                                   state->slot->number, state->slot->sequence};
            value->expires = 1;
            if (!rule_heap_push(&state->expiry, &due)) {
                no_memory(state);
            }
        }
    }
    state->in_item = false;
}

void rule_item_undo(struct weir_rule_state *state) {
    while (state->undo.size > 0) {
        struct trailer trailer;
        state->undo.size -= sizeof trailer;
        memcpy(&trailer, state->undo.data + state->undo.size, sizeof trailer);
        state->undo.size -= trailer.size;
        memcpy(trailer.at, state->undo.data + state->undo.size, trailer.size);
    }
    give_parts(state, &state->fresh);
    state->stale.count = 0;
    state->pending_count = 0;
    if (state->created && weir_table_delete(state->table, state->slot, false) != WEIR_OK) {
        no_memory(state);
    }
    for (int32_t t = 0; t < state->span.target_count; t++) {
        struct weir_rule_target *target = &state->span.targets[t];
        while (target->count > state->emitted[t]) {
            target->clear(target->context, --target->count);
        }
    }
    state->in_item = false;
}

/* --- blocks ----------------------------------------------------------------------------------- */

static struct rule_block *block_of(struct weir_rule_state *state, int32_t cell) {
    struct rule_slot *slot = rule_slot_read(state);
    return slot != NULL ? slot->cells[cell].block : NULL;
}

/* The block of a cell with room for one more entry, if it may grow. */
static struct rule_block *room(struct weir_rule_state *state, int32_t number) {
    const struct rule_cell *cell = &state->cells[number];
    struct rule_slot *slot = writable(state);
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
    struct rule_block *block = take(state, rule_block_bytes(cell, capacity));
    if (block == NULL || !note(state, &slot->cells[number].block, sizeof(void *))) {
        return NULL;
    }
    memset(block, 0, rule_block_bytes(cell, capacity));
    block->capacity = capacity;
    block->count = count;
    for (uint32_t i = 0; i < count; i++) {
        memcpy(rule_record(cell, block, i), rule_record(cell, old, i), cell->record_bytes);
    }
    if (old != NULL &&
        !add_part(state, &state->stale, old, rule_block_bytes(cell, old->capacity))) {
        return NULL;
    }
    slot->cells[number].block = block;
    return block;
}

static bool note_head(struct weir_rule_state *state, struct rule_block *block) {
    return note(state, block, sizeof *block);
}

static void stamp(const struct weir_rule_state *state, uint8_t *record) {
    memcpy(record, &state->run.time_us, sizeof state->run.time_us);
}

int32_t weir_rule_count(struct weir_rule_run *run, int32_t cell) {
    struct rule_block *block = block_of(of(run), cell);
    return block != NULL ? (int32_t)block->count : 0;
}

uint8_t *weir_rule_at(struct weir_rule_run *run, int32_t cell, int32_t index) {
    struct rule_block *block = block_of(of(run), cell);
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
    if (!note(state, record, cell->record_bytes) ||
        (block->count == 0 && !note_head(state, block))) {
        return NULL;
    }
    block->count = 1;
    stamp(state, record);
    return record;
}

uint8_t *weir_rule_push(struct weir_rule_run *run, int32_t number) {
    struct weir_rule_state *state = of(run);
    const struct rule_cell *cell = &state->cells[number];
    struct rule_block *block = room(state, number);
    if (block == NULL || !note_head(state, block)) {
        return NULL;
    }
    if (block->count == cell->max && cell->kind != WEIR_RULE_RING) {
        refuse(state, "state %s: its %u entries are full; take some out, or declare it larger",
               cell->name, cell->max);
        return NULL;
    }
    if (block->count == cell->max) { /* the oldest makes room */
        uint8_t *oldest = rule_record(cell, block, 0);
        if (!drop_texts(state, cell, oldest)) {
            return NULL;
        }
        block->head = block->head + 1 == block->capacity ? 0 : block->head + 1;
        block->count--;
    }
    uint8_t *record = rule_record(cell, block, block->count);
    if (!note(state, record, cell->record_bytes)) {
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

static bool same(const struct rule_field *field, const uint8_t *a, const uint8_t *b) {
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

static int64_t find(const struct rule_cell *cell, struct rule_block *block) {
    int32_t fields = key_fields(cell);
    for (uint32_t i = 0; block != NULL && i < block->count; i++) {
        const uint8_t *record = rule_record(cell, block, i);
        int32_t f = 0;
        while (f < fields &&
               rule_field_there(record, f) == rule_field_there(cell->key->records, f) &&
               same(&cell->fields[f], record, cell->key->records)) {
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
    struct rule_block *block = block_of(of(run), number);
    int64_t at = find(cell, block);
    return at >= 0 ? rule_record(cell, block, (uint32_t)at) : NULL;
}

uint8_t *weir_rule_put(struct weir_rule_run *run, int32_t number) {
    struct weir_rule_state *state = of(run);
    const struct rule_cell *cell = &state->cells[number];
    int64_t at = find(cell, block_of(state, number));
    if (at >= 0) {
        if (writable(state) == NULL) {
            return NULL;
        }
        uint8_t *record = rule_record(cell, block_of(state, number), (uint32_t)at);
        if (!note(state, record, cell->record_bytes)) {
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
    struct rule_block *old = block_of(state, number);
    if (old == NULL || index < 0 || (uint32_t)index >= old->count) {
        return 0;
    }
    struct rule_slot *slot = writable(state);
    struct rule_block *block = slot != NULL ? slot->cells[number].block : NULL;
    if (block == NULL || !note(state, block, rule_block_bytes(cell, block->capacity)) ||
        !drop_texts(state, cell, rule_record(cell, block, (uint32_t)index))) {
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
    int64_t at = find(&of(run)->cells[number], block_of(of(run), number));
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
        refuse(state, "a text of %lld bytes is too long for state", (long long)length);
        return WEIR_E_DATA;
    }
    if (of_key) {
        size_t size = (rule_text_bytes((size_t)(length < 0 ? 0 : length)) + 7) & ~(size_t)7;
        if (weir_buffer_reserve(&state->key_texts, KEY_TEXT_BYTES) != WEIR_OK ||
            state->key_texts.size + size > KEY_TEXT_BYTES) {
            refuse(state, "the texts of a key are too long for state");
            return WEIR_E_DATA;
        }
        text = (struct weir_rule_text *)(void *)(state->key_texts.data + state->key_texts.size);
        state->key_texts.size += size;
    } else {
        struct weir_rule_text *old;
        memcpy(&old, field, sizeof old);
        if (old != NULL &&
            !add_part(state, &state->stale, old, rule_text_bytes((size_t)old->length))) {
            return WEIR_E_NOMEM;
        }
        if (length >= 0 && (text = take(state, rule_text_bytes((size_t)length))) == NULL) {
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
    if (!note(state, &slot->cells[number].block, sizeof(void *))) {
        return false;
    }
    if (cell->kind == WEIR_RULE_SKETCH) {
        struct weir_part *part = slot->cells[number].sketch;
        slot->cells[number].sketch = NULL;
        return add_part(state, &state->stale, part->bytes, part->capacity) &&
               add_part(state, &state->stale, part, sizeof *part);
    }
    struct rule_block *block = slot->cells[number].block;
    slot->cells[number].block = NULL;
    bool good = true;
    for (uint32_t i = 0; good && i < block->count; i++) {
        good = drop_texts(state, cell, rule_record(cell, block, i));
    }
    return good && add_part(state, &state->stale, block, rule_block_bytes(cell, block->capacity));
}

int32_t weir_rule_clear(struct weir_rule_run *run, int32_t cell) {
    struct weir_rule_state *state = of(run);
    if (rule_slot_read(state) == NULL) {
        return WEIR_OK;
    }
    struct rule_slot *slot = writable(state);
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
    struct rule_slot *slot = writable(state);
    if (slot == NULL || !note(state, &slot->cells[number].sketch, sizeof(void *))) {
        return WEIR_E_NOMEM;
    }
    /* A sketch changes in place; the item works on a copy. */
    const struct weir_part *old = slot->cells[number].sketch;
    struct weir_part *part = take(state, sizeof *part);
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
            no_memory(state);
            return WEIR_E_NOMEM;
        }
        memcpy(made.bytes, old->bytes, length);
    }
    const uint8_t *key = cell->key->records;
    uint64_t hash;
    if (weir_type_is_bytes(cell->fields[0].type)) {
        const struct weir_rule_text *text;
        memcpy(&text, key + cell->fields[0].offset, sizeof text);
        hash = XXH3_64bits(text->bytes, (size_t)text->length);
    } else {
        hash = XXH3_64bits(key + cell->fields[0].offset, cell->fields[0].width);
    }
    bool good = weir_distinct_sketch_add(&made, heap, hash);
    if (made.capacity > 0 && !add_part(state, &state->fresh, made.bytes, made.capacity)) {
        return WEIR_E_NOMEM;
    }
    if (!good) {
        no_memory(state);
        return WEIR_E_NOMEM;
    }
    *part = made;
    if (old != NULL && (!add_part(state, &state->stale, old->bytes, old->capacity) ||
                        !add_part(state, &state->stale, slot->cells[number].sketch, sizeof *old))) {
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
            no_memory(state);
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
        refuse(state, "a row emits more than %d rows", RULE_ITEM_EMITS_MAX);
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

/* --- looking back ----------------------------------------------------------------------------- */

static uint64_t hash_of(const struct rule_field *field, const uint8_t *record) {
    uint64_t hash = UINT64_C(0x9E3779B97F4A7C15);
    const uint8_t *bytes = record + field->offset;
    size_t size = field->width;
    if (weir_type_is_bytes(field->type)) {
        const struct weir_rule_text *text;
        memcpy(&text, bytes, sizeof text);
        bytes = (const uint8_t *)text->bytes;
        size = (size_t)text->length;
    }
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ bytes[i]) * UINT64_C(1099511628211);
    }
    return hash ^ (hash >> 29);
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
            no_memory(state);
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
        size_t at = hash_of(w->field, record) & (size - 1);
        while (state->fold_index[at] != 0 &&
               !same(w->field, record, rule_record(w->cell, w->block, state->fold_index[at] - 1))) {
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
            refuse(state, "state %s: the sum is out of range", w->cell->name);
            return -1;
        }
    }
    __int128 limit = weir_decimal_power10(38);
    if (w->field->width == 8 ? total != (int64_t)total : total >= limit || total <= -limit) {
        refuse(state, "state %s: the sum is out of range", w->cell->name);
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
    const struct rule_cell *cell = &state->cells[number];
    struct window w = {.cell = cell, .block = block_of(state, number), .number = field};
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
