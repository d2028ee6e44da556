#include <stdlib.h>
#include <string.h>

#include "operator/rule/match.h"
#include "operator/rule/rule_private.h"

static const char *const kinds[] = {"value", "counter", "ring", "list", "map", "set", "sketch"};

bool weir_rule_kind_parse(const char *text, enum weir_rule_kind *kind) {
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(kinds[i], text) == 0) {
            *kind = (enum weir_rule_kind)i;
            return true;
        }
    }
    return false;
}

const char *weir_rule_kind_name(enum weir_rule_kind kind) {
    return kinds[kind];
}

size_t rule_block_bytes(const struct rule_cell *cell, uint32_t capacity) {
    return sizeof(struct rule_block) + (size_t)capacity * cell->record_bytes;
}

size_t rule_text_bytes(size_t length) {
    return sizeof(int32_t) + length + 1;
}

struct rule_slot *rule_slot_of(const struct weir_rule_state *state, struct weir_slot *slot) {
    return weir_slot_value(state->table, slot);
}

void rule_record_fini(struct weir_heap *heap, const struct rule_cell *cell, uint8_t *record) {
    for (int32_t f = 0; f < cell->field_count; f++) {
        if (weir_type_is_bytes(cell->fields[f].type)) {
            struct weir_rule_text *text;
            memcpy(&text, record + cell->fields[f].offset, sizeof text);
            if (text != NULL) {
                weir_heap_give(heap, text, rule_text_bytes((size_t)text->length));
            }
        }
    }
}

void rule_slot_fini(void *context, void *value) {
    struct weir_rule_state *state = *(struct weir_rule_state **)context;
    struct rule_slot *slot = value;
    struct weir_heap *heap = weir_table_heap(state->table);
    if (slot->raw != NULL) {
        weir_heap_give(heap, slot->raw, slot->raw_bytes);
        slot->raw = NULL;
    }
    for (int32_t c = 0; c < state->cell_count; c++) {
        const struct rule_cell *cell = &state->cells[c];
        if (cell->kind == WEIR_RULE_SKETCH) {
            struct weir_part *part = slot->cells[c].sketch;
            if (part != NULL && part->capacity > 0) {
                weir_heap_give(heap, part->bytes, part->capacity);
            }
            if (part != NULL) {
                weir_heap_give(heap, part, sizeof *part);
            }
        } else if (slot->cells[c].block != NULL) {
            struct rule_block *block = slot->cells[c].block;
            for (uint32_t i = 0; i < block->count; i++) {
                rule_record_fini(heap, cell, rule_record(cell, block, i));
            }
            weir_heap_give(heap, block, rule_block_bytes(cell, block->capacity));
        }
        slot->cells[c].block = NULL;
    }
}

/* --- rows that wait --------------------------------------------------------------------------- */

struct row_value {
    int64_t time_us;
    uint8_t *bytes;
    size_t size;
};

static int row_encode(void *context, const void *value, struct weir_buffer *out) {
    const struct row_value *row = value;
    (void)context;
    int rc = weir_buffer_append(out, &row->time_us, sizeof row->time_us);
    return rc == WEIR_OK ? weir_buffer_append(out, row->bytes, row->size) : rc;
}

static void row_fini(void *context, void *value) {
    struct weir_rule_state *state = *(struct weir_rule_state **)context;
    struct row_value *row = value;
    if (row->bytes != NULL) {
        weir_heap_give(weir_table_heap(state->row_table), row->bytes, row->size);
        row->bytes = NULL;
    }
}

static int row_decode(void *context, void *value, const uint8_t *bytes, size_t length,
                      struct weir_error *err) {
    struct weir_rule_state *state = *(struct weir_rule_state **)context;
    struct row_value *row = value;
    if (length < sizeof row->time_us) {
        return weir_error_set(err, WEIR_E_CORRUPT, "a row that waits does not parse");
    }
    size_t size = length - sizeof row->time_us;
    uint8_t *own = weir_heap_take(weir_table_heap(state->row_table), size + 1);
    if (own == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    row_fini(context, value);
    memcpy(&row->time_us, bytes, sizeof row->time_us);
    memcpy(own, bytes + sizeof row->time_us, size);
    row->bytes = own;
    row->size = size;
    return WEIR_OK;
}

static const struct weir_table_codec row_codec = {row_encode, row_decode, row_fini};

uint64_t weir_rule_state_arrival(struct weir_rule_state *state) {
    return state->arrival++;
}

int weir_rule_state_park(struct weir_rule_state *state, const struct weir_rule_parked *row,
                         struct weir_error *err) {
    struct weir_table *table = state->row_table;
    int rc = weir_table_check_room(table, row->size, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    bool created;
    uint8_t *own = weir_heap_take(weir_table_heap(table), row->size);
    struct weir_slot *slot =
        own == NULL
            ? NULL
            : weir_table_get(table, weir_table_hash(table, &row->arrival, sizeof row->arrival),
                             &row->arrival, sizeof row->arrival, &created, err);
    if (slot == NULL) {
        if (own != NULL) {
            weir_heap_give(weir_table_heap(table), own, row->size);
        }
        return err != NULL && err->code != WEIR_OK
                   ? err->code
                   : weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", state->declaration);
    }
    memcpy(own, row->bytes, row->size);
    struct row_value *value = weir_slot_value(table, slot);
    *value = (struct row_value){row->time_us, own, row->size};
    struct rule_due due = {row->time_us, row->arrival, slot->number, slot->sequence};
    return rule_heap_push(&state->rows, &due)
               ? WEIR_OK
               : weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", state->declaration);
}

bool weir_rule_state_first(struct weir_rule_state *state, struct weir_rule_parked *row) {
    if (state->rows.count == 0) {
        return false;
    }
    const struct rule_due *due = &state->rows.list[0];
    struct row_value *value =
        weir_slot_value(state->row_table, weir_table_slot(state->row_table, due->slot));
    *row = (struct weir_rule_parked){due->at_us, due->order, value->bytes, value->size};
    return true;
}

bool weir_rule_state_first_time(const struct weir_rule_state *state, int64_t *time_us) {
    if (state->rows.count == 0) {
        return false;
    }
    *time_us = state->rows.list[0].at_us;
    return true;
}

/* Rows that wait lie scattered: the slots of those that may be next but one are asked for now, and
 * the bytes of the next. */
static void look_ahead(struct weir_rule_state *state) {
    const struct rule_heap *heap = &state->rows;
    for (size_t i = 1; i < 5 && i < heap->count; i++) {
        const struct weir_slot *slot = weir_table_slot(state->row_table, heap->list[i].slot);
        __builtin_prefetch(slot);
        __builtin_prefetch((const char *)slot + 64);
    }
    if (heap->count > 0) {
        struct weir_slot *slot = weir_table_slot(state->row_table, heap->list[0].slot);
        const struct row_value *value = weir_slot_value(state->row_table, slot);
        __builtin_prefetch(value->bytes);
        __builtin_prefetch(value->bytes + 64);
    }
}

int weir_rule_state_drop_first(struct weir_rule_state *state) {
    struct weir_slot *slot = weir_table_slot(state->row_table, state->rows.list[0].slot);
    int rc = weir_table_delete(state->row_table, slot, false);
    if (rc == WEIR_OK) {
        rule_heap_pop(&state->rows);
        look_ahead(state);
    }
    return rc;
}

/* --- life ------------------------------------------------------------------------------------- */

static struct weir_table *make_table(const struct weir_rule_config *config, const char *cell,
                                     uint64_t shape, size_t value_bytes,
                                     const struct weir_table_codec *codec, void *context,
                                     struct weir_error *err) {
    struct weir_table_config table = {
        .declaration = config->declaration,
        .cell = cell,
        .shape = shape,
        .value_bytes = (uint32_t)value_bytes,
        .max_bytes = config->max_bytes,
        .option = config->option,
        .codec = codec,
        .codec_context = context,
    };
    return weir_table_create(&table, err);
}

struct weir_rule_state *weir_rule_state_create(const struct weir_rule_config *config,
                                               struct weir_error *err) {
    struct weir_rule_state *state = calloc(1, sizeof *state);
    if (state == NULL) {
        weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", config->declaration);
        return NULL;
    }
    weir_side_init(&state->queued, sizeof(struct rule_queued));
    int rc = WEIR_OK;
    state->owner = malloc(sizeof(struct weir_rule_state *));
    state->row_owner = malloc(sizeof(struct weir_rule_state *));
    state->declaration = strdup(config->declaration);
    state->version = config->version;
    state->steps = calloc((size_t)config->step_count + 1, sizeof *state->steps);
    if (state->steps != NULL && config->step_count > 0) {
        memcpy(state->steps, config->steps, (size_t)config->step_count * sizeof *state->steps);
        state->step_count = config->step_count;
    }
    state->key = config->key;
    state->key_cell = -1;
    state->ttl_us = config->ttl_us;
    state->ttl_by_clock = config->ttl_by_clock;
    state->over_us = INT64_MIN;
    state->cells = calloc((size_t)config->cell_count + 1, sizeof *state->cells);
    state->timers = calloc((size_t)config->timer_count + 1, sizeof(char *));
    weir_buffer_init(&state->undo, RULE_UNDO_BYTES_MAX);
    weir_buffer_init(&state->timer_key, 1 << 20);
    weir_buffer_init(&state->key_texts, 1 << 20);
    weir_buffer_init(&state->fired_key, 1 << 20);
    weir_buffer_init(&state->reasons, 16 << 20);
    if (state->owner == NULL || state->declaration == NULL || state->cells == NULL ||
        state->timers == NULL || state->row_owner == NULL || state->steps == NULL) {
        rc = weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", config->declaration);
    } else if (config->cell_count > RULE_CELLS_MAX) {
        rc = weir_error_set(err, WEIR_E_CONFIG, "%s: more than %d state cells", config->declaration,
                            RULE_CELLS_MAX);
    }
    if (rc == WEIR_OK) {
        *state->owner = *state->row_owner = state;
    }
    for (int32_t c = 0; rc == WEIR_OK && c < config->cell_count; c++) {
        state->cell_count = c + 1;
        rc = rule_cell_init(&state->cells[c], &config->cells[c], err);
    }
    for (int32_t t = 0; rc == WEIR_OK && t < config->timer_count; t++) {
        state->timer_count = t + 1;
        state->timers[t] = strdup(config->timers[t]);
        rc =
            state->timers[t] == NULL ? weir_error_set(err, WEIR_E_NOMEM, "out of memory") : WEIR_OK;
    }
    if (rc == WEIR_OK) {
        rc = rule_layout_make(state, config->key_schema, err);
    }
    if (rc == WEIR_OK) {
        rc = weir_batch_builder_init(&state->key_builder, config->pool, config->key_schema, 1,
                                     1 << 20, err);
        state->has_builder = rc == WEIR_OK;
    }
    uint64_t shape = weir_key_shape(config->key);
    if (rc == WEIR_OK) {
        size_t slot = sizeof(struct rule_slot) + (size_t)config->cell_count * sizeof(void *);
        state->table =
            make_table(config, "state", shape, slot, &rule_codec, (void *)state->owner, err);
        state->timer_table =
            make_table(config, "timers", shape, sizeof(struct rule_timer), NULL, NULL, err);
        state->row_table = make_table(config, "rows", 1, sizeof(struct row_value), &row_codec,
                                      (void *)state->row_owner, err);
        rc = state->table == NULL || state->timer_table == NULL || state->row_table == NULL
                 ? WEIR_E_NOMEM
                 : rule_disk_allow(state, config, err);
    }
    if (rc != WEIR_OK) {
        weir_rule_state_destroy(state);
        return NULL;
    }
    return state;
}

void weir_rule_state_destroy(struct weir_rule_state *state) {
    if (state == NULL) {
        return;
    }
    weir_table_destroy(state->table);
    weir_table_destroy(state->timer_table);
    weir_table_destroy(state->row_table);
    for (int32_t c = 0; c < state->cell_count; c++) {
        rule_cell_fini(&state->cells[c]);
    }
    for (int32_t t = 0; t < state->timer_count; t++) {
        free(state->timers[t]);
    }
    weir_side_fini(&state->queued);
    rule_heap_fini(&state->event_timers);
    rule_heap_fini(&state->clock_timers);
    rule_heap_fini(&state->expiry);
    rule_heap_fini(&state->expiry_anew);
    rule_heap_fini(&state->rows);
    weir_buffer_fini(&state->undo);
    weir_buffer_fini(&state->timer_key);
    weir_buffer_fini(&state->key_texts);
    weir_buffer_fini(&state->fired_key);
    weir_buffer_fini(&state->reasons);
    free(state->rejections);
    rule_match_destroy(state->match);
    if (state->has_builder) {
        weir_batch_builder_fini(&state->key_builder);
    }
    weir_batch_unref(state->key_batch);
    free(state->fresh.list);
    free(state->stale.list);
    free(state->pending);
    free(state->emitted);
    free(state->fold_index);
    free(state->layout_text);
    free(state->cells);
    free(state->timers);
    free((void *)state->owner);
    free((void *)state->row_owner);
    free(state->steps);
    rule_olds_destroy(state->olds);
    weir_rule_state_destroy(state->retired);
    free(state->declaration);
    free(state);
}

int32_t weir_rule_state_cells(struct weir_rule_state *state, struct weir_cell **cells,
                              int32_t capacity) {
    if (capacity < 3) {
        return 0;
    }
    cells[0] = weir_table_cell(state->table);
    cells[1] = weir_table_cell(state->timer_table);
    cells[2] = weir_table_cell(state->row_table);
    return 3;
}

size_t weir_rule_state_estimate(const struct weir_rule_state *state) {
    size_t bytes = sizeof(struct weir_slot) + 32 + sizeof(struct rule_slot);
    for (int32_t c = 0; c < state->cell_count; c++) {
        const struct rule_cell *cell = &state->cells[c];
        bytes += sizeof(void *) +
                 weir_heap_usable(rule_block_bytes(cell, cell->max < 4 ? cell->max : 4));
    }
    return bytes;
}

/* --- restore ---------------------------------------------------------------------------------- */

static int rows_restore(struct weir_rule_state *state, struct weir_error *err) {
    state->rows.count = 0;
    state->arrival = 0;
    for (uint32_t n = 1; n <= weir_table_slots(state->row_table); n++) {
        struct weir_slot *slot = weir_table_slot(state->row_table, n);
        if (slot->sequence == 0) {
            continue;
        }
        const struct row_value *value = weir_slot_value(state->row_table, slot);
        struct rule_due due = {value->time_us, 0, n, slot->sequence};
        if (slot->key_bytes != sizeof due.order) {
            return weir_error_set(err, WEIR_E_CORRUPT, "%s: a row that waits has no number",
                                  state->declaration);
        }
        memcpy(&due.order, weir_slot_key(state->row_table, slot), sizeof due.order);
        state->arrival = due.order >= state->arrival ? due.order + 1 : state->arrival;
        if (!rule_heap_push(&state->rows, &due)) {
            return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", state->declaration);
        }
    }
    return WEIR_OK;
}

/* Every key that can expire; and whether what another layout wrote goes on here. */
int rule_slots_restore(struct weir_rule_state *state, struct weir_error *err) {
    state->expiry.count = state->expiry_anew.count = 0;
    state->expiry_left = 0;
    state->expiry_walk = 0;
    for (uint32_t n = 1; n <= weir_table_slots(state->table); n++) {
        struct weir_slot *slot = weir_table_slot(state->table, n);
        if (slot->sequence == 0 || slot->key_bytes == 0) {
            continue;
        }
        struct rule_slot *value = rule_slot_of(state, slot);
        value->expires = 0;
        if (value->raw != NULL) {
            const struct rule_old *old;
            int rc = rule_old_of(state, value->layout, &old, err);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
        if (state->ttl_us > 0 && !rule_expiry_push(state, slot)) {
            return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", state->declaration);
        }
    }
    return rule_disk_restore(state, err);
}

int weir_rule_state_restore(struct weir_rule_state *state, struct weir_error *err) {
    int rc = rows_restore(state, err);
    rc = rc == WEIR_OK ? rule_slots_restore(state, err) : rc;
    return rc == WEIR_OK ? rule_timers_restore(state, err) : rc;
}
