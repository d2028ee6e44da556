/* A table's epochs: each changed slot is imaged once, either when it is collected or, if it changes
 * again before that, just before the change (copy on write). Deletes leave their image at once. */
#include "state/table_private.h"

enum { PREFETCH_AHEAD = 8, HASHES_AHEAD = 32 };

void weir_table_set_layouts(struct weir_table *table, const struct weir_table_layouts *layouts) {
    table->layouts = *layouts;
    table->layouts_due = true;
}

int table_put_header(struct weir_table *table, struct weir_buffer *out) {
    size_t start = out->size;
    int rc = weir_image_put_header(out, table->shape, table->name);
    rc = rc == WEIR_OK && table->layouts.context != NULL
             ? table->layouts.put(table->layouts.context, out)
             : rc;
    out->size = rc == WEIR_OK ? out->size : start;
    return rc;
}

/* Appends the slot's put image to `out`. */
int table_put_image(struct weir_table *table, struct weir_slot *slot, struct weir_buffer *out) {
    size_t start = out->size;
    size_t fixed = 1 + sizeof slot->sequence + 2 * (size_t)WEIR_VARINT_MAX + slot->key_bytes;
    size_t raw = table->codec == NULL ? table->value_bytes : 0;
    int rc = weir_buffer_reserve(out, fixed + raw);
    if (rc != WEIR_OK) {
        return rc;
    }
    uint8_t *at = out->data + out->size;
    *at++ = WEIR_IMAGE_PUT;
    at = weir_u64_put(at, slot->sequence);
    at = weir_varint_put(at, slot->key_bytes);
    memcpy(at, weir_slot_key(table, slot), slot->key_bytes);
    at += slot->key_bytes;
    const void *value = weir_slot_value(table, slot);
    if (table->codec == NULL) {
        at = weir_varint_put(at, raw);
        memcpy(at, value, raw);
        out->size = (size_t)(at + raw - out->data);
        return WEIR_OK;
    }
    /* The length stands before the value and is known after it: two bytes are kept for it, which
     * nearly always do, and the value is moved when they do not. */
    size_t length_at = (size_t)(at - out->data);
    size_t value_at = length_at + 2;
    out->size = value_at;
    rc = table->codec->encode(table->codec_context, value, out);
    if (rc != WEIR_OK) {
        out->size = start;
        return rc;
    }
    size_t length = out->size - value_at;
    size_t varint = weir_varint_bytes(length);
    if (varint != 2) {
        rc = varint > 2 ? weir_buffer_reserve(out, varint - 2) : WEIR_OK;
        if (rc != WEIR_OK) {
            out->size = start;
            return rc;
        }
        memmove(out->data + length_at + varint, out->data + value_at, length);
        out->size = length_at + varint + length;
    }
    weir_varint_put(out->data + length_at, length);
    return WEIR_OK;
}

/* The image a sealed slot has before the open epoch changes it. */
static int copy_on_write(struct weir_table *table, struct weir_slot *slot) {
    weir_buffer_clear(&table->scratch);
    int rc = table_put_image(table, slot, &table->scratch);
    if (rc != WEIR_OK) {
        return rc;
    }
    uint8_t *at = weir_spill_append(&table->sealed_images, table->scratch.size);
    if (at == NULL) {
        return WEIR_E_NOMEM;
    }
    memcpy(at, table->scratch.data, table->scratch.size);
    slot->changed = 0;
    return WEIR_OK;
}

static inline bool waits_for_collect(const struct weir_table *table, const struct weir_slot *slot) {
    return table->sealed && slot->changed == table->sealed_generation;
}

int weir_table_touch_slow(struct weir_table *table, struct weir_slot *slot) {
    if (waits_for_collect(table, slot)) {
        int rc = copy_on_write(table, slot);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    uint8_t *number = weir_spill_append(&table->changed, sizeof slot->number);
    if (number == NULL) {
        return WEIR_E_NOMEM;
    }
    memcpy(number, &slot->number, sizeof slot->number);
    slot->changed = table->view.generation;
    return WEIR_OK;
}

int weir_table_delete(struct weir_table *table, struct weir_slot *slot, bool silent) {
    if (waits_for_collect(table, slot)) {
        int rc = copy_on_write(table, slot);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    /* A tombstone even for a slot created in this epoch: a dump may have seen it. */
    if (!silent) {
        size_t size =
            1 + sizeof slot->sequence + weir_varint_bytes(slot->key_bytes) + slot->key_bytes;
        uint8_t *at = weir_spill_append(&table->deleted, size);
        if (at == NULL) {
            return WEIR_E_NOMEM;
        }
        *at++ = WEIR_IMAGE_DELETE;
        at = weir_u64_put(at, slot->sequence);
        at = weir_varint_put(at, slot->key_bytes);
        memcpy(at, weir_slot_key(table, slot), slot->key_bytes);
    }
    weir_table_free_slot(table, slot);
    return WEIR_OK;
}

int weir_table_seal(struct weir_table *table, struct weir_error *err) {
    if (table->sealed) {
        return weir_error_set(err, WEIR_E_BUG,
                              "%s: sealed again before the epoch sealed last was collected",
                              table->name);
    }
    weir_spill_move(&table->sealed_changed, &table->changed);
    weir_spill_move(&table->sealed_deleted, &table->deleted);
    table->collect_at = 0;
    table->sealed = true;
    table->next_pending = table->sealed_changed.records > 0;
    table->sealed_next_sequence = table->next_sequence;
    table->sealed_generation = table->view.generation;
    table->view.generation++;
    if (table->view.generation == 0) {
        table->view.generation = 1; /* 0 is clean; no slot remembers an epoch older than sealed */
    }
    return WEIR_OK;
}

static int put_next(struct weir_buffer *out, uint64_t next_sequence) {
    uint8_t image[1 + sizeof next_sequence];
    image[0] = WEIR_IMAGE_NEXT;
    weir_u64_put(image + 1, next_sequence);
    return weir_buffer_append(out, image, sizeof image);
}

/* Drains whole blocks of images. */
static int collect_blocks(struct weir_spill *spill, struct weir_buffer *out, size_t *left) {
    while (spill->head != NULL && *left > 0) {
        struct weir_spill_block *block = spill->head;
        int rc = weir_buffer_append(out, block->data, block->size);
        if (rc != WEIR_OK) {
            return rc;
        }
        *left -= block->records < *left ? block->records : *left;
        weir_spill_pop(spill);
    }
    return WEIR_OK;
}

static int collect_changed(struct weir_table *table, struct weir_buffer *out, size_t *left) {
    struct weir_spill *list = &table->sealed_changed;
    while (list->head != NULL && *left > 0) {
        struct weir_spill_block *block = list->head;
        while (table->collect_at<block->size && * left> 0) {
            uint32_t number;
            uint32_t ahead = table->collect_at + PREFETCH_AHEAD * (uint32_t)sizeof number;
            if (ahead < block->size) {
                memcpy(&number, block->data + ahead, sizeof number);
                if (number != 0) {
                    const char *next = (const char *)weir_table_slot(table, number);
                    __builtin_prefetch(next);
                    __builtin_prefetch(next + 64);
                }
            }
            memcpy(&number, block->data + table->collect_at, sizeof number);
            if (number != 0) {
                struct weir_slot *slot = weir_table_slot(table, number);
                if (slot->changed == table->sealed_generation) {
                    int rc = table_put_image(table, slot, out);
                    if (rc != WEIR_OK) {
                        return rc;
                    }
                    slot->changed = 0;
                }
            }
            table->collect_at += (uint32_t)sizeof number;
            (*left)--;
        }
        if (table->collect_at == block->size) {
            weir_spill_pop(list);
            table->collect_at = 0;
        }
    }
    return WEIR_OK;
}

int weir_table_collect(struct weir_table *table, struct weir_buffer *out, size_t max_slots,
                       bool *done, struct weir_error *err) {
    size_t start = out->size;
    size_t left = max_slots > 0 ? max_slots : 1;
    int rc = WEIR_OK;
    *done = !table->sealed;
    if (*done) {
        return WEIR_OK;
    }
    size_t empty = start;
    if (table->sealed_deleted.head != NULL || table->sealed_changed.head != NULL ||
        table->sealed_images.head != NULL) {
        rc = table->layouts_due ? table_put_header(table, out)
                                : weir_image_put_header(out, table->shape, table->name);
        empty = out->size;
    }
    if (rc == WEIR_OK && table->next_pending) {
        rc = put_next(out, table->sealed_next_sequence);
        table->next_pending = rc != WEIR_OK;
    }
    if (rc == WEIR_OK) {
        rc = collect_blocks(&table->sealed_deleted, out, &left);
    }
    if (rc == WEIR_OK) {
        rc = collect_changed(table, out, &left);
    }
    if (rc == WEIR_OK) {
        rc = collect_blocks(&table->sealed_images, out, &left);
    }
    table->layouts_due = table->layouts_due && out->size == empty;
    if (rc != WEIR_OK) {
        if (out->size > empty) {
            return WEIR_OK; /* what fitted is collected; the next call goes on */
        }
        out->size = start;
        return weir_error_set(err, rc, "%s: the buffer for changed state is full at %zu bytes",
                              table->name, out->limit);
    }
    if (table->sealed_deleted.head == NULL && table->sealed_changed.head == NULL &&
        table->sealed_images.head == NULL) {
        table->sealed = false;
        table->sealed_generation = 0;
        *done = true;
    }
    return WEIR_OK;
}

int weir_table_dump(struct weir_table *table, struct weir_cell_cursor *cursor,
                    struct weir_buffer *out, size_t max_slots, bool *done, struct weir_error *err) {
    bool memory;
    *done = false;
    int rc = table_cold_dump(table, cursor, out, &memory, err);
    if (rc != WEIR_OK || !memory) {
        return rc;
    }
    uint64_t number = cursor->minor > 0 ? cursor->minor : 1;
    rc = weir_table_dump_memory(table, &number, out, max_slots, done, err);
    if (rc == WEIR_OK) {
        cursor->started = true;
        cursor->minor = number;
        table_cold_dumped(table, number, *done);
    }
    return rc;
}

int weir_table_dump_memory(struct weir_table *table, uint64_t *next, struct weir_buffer *out,
                           size_t max_slots, bool *done, struct weir_error *err) {
    size_t start = out->size;
    int rc = table_put_header(table, out);
    if (rc == WEIR_OK) {
        rc = put_next(out, table->next_sequence);
    }
    size_t empty = out->size;
    uint64_t number = *next;
    uint64_t end = number + (max_slots > 0 ? max_slots : 1);
    for (; rc == WEIR_OK && number <= table->slots && number < end; number++) {
        struct weir_slot *slot = weir_table_slot(table, (uint32_t)number);
        if (slot->sequence != 0) {
            rc = table_put_image(table, slot, out);
            if (rc != WEIR_OK) {
                break;
            }
        }
    }
    if (rc != WEIR_OK && out->size == empty) {
        out->size = start;
        return weir_error_set(err, rc, "%s: the snapshot's buffer is full at %zu bytes",
                              table->name, out->limit);
    }
    *next = number;
    *done = number > table->slots;
    return WEIR_OK;
}

/* --- recovery ------------------------------------------------------------------------------ */

/* The state of millions of keys is applied when a pipeline starts, each key somewhere else in the
 * index: keys that come soon are hashed and asked for ahead. */
struct ahead {
    struct weir_table *table;
    struct weir_image_reader reader; /* of the images to come */
    uint64_t hashes[HASHES_AHEAD];   /* of keyed images, in turn */
    uint64_t read;                   /* keyed images looked at */
    uint64_t applied;
    uint64_t shape; /* of the values that follow */
};

/* Goes on to the next image with a key; false: none, or none that can be read (apply says why). */
static bool next_key(struct weir_image_reader *reader, const uint8_t **key, size_t *length) {
    uint8_t op;
    uint64_t number;
    const uint8_t *value;
    size_t size;
    while (weir_image_u8(reader, &op)) {
        if (op == WEIR_IMAGE_PUT || op == WEIR_IMAGE_DELETE) {
            return weir_image_u64(reader, &number) && weir_image_bytes(reader, key, length) &&
                   (op == WEIR_IMAGE_DELETE || weir_image_bytes(reader, &value, &size));
        }
        if (!weir_image_skip(reader, op)) {
            return false;
        }
    }
    return false;
}

static void look_ahead(struct ahead *ahead) {
    const struct weir_table *table = ahead->table;
    const uint8_t *key;
    size_t length;
    while (ahead->read < ahead->applied + HASHES_AHEAD && next_key(&ahead->reader, &key, &length)) {
        uint64_t hash = weir_table_hash(table, key, length);
        ahead->hashes[ahead->read++ % HASHES_AHEAD] = hash;
        weir_table_prefetch(table, hash);
        if (table->old_index != NULL) {
            __builtin_prefetch(&table->old_index[hash & table->old_mask]);
        }
    }
    uint64_t slot = ahead->applied + HASHES_AHEAD / 2;
    if (slot < ahead->read) {
        weir_table_prefetch_slot(table, ahead->hashes[slot % HASHES_AHEAD]);
    }
}

/* The hash of the image's key. */
static uint64_t hash_next(struct ahead *ahead, const uint8_t *key, size_t length) {
    uint64_t number = ahead->applied++;
    return number < ahead->read ? ahead->hashes[number % HASHES_AHEAD]
                                : weir_table_hash(ahead->table, key, length);
}

static int apply_put(struct ahead *ahead, uint64_t sequence, const uint8_t *key, size_t key_length,
                     const uint8_t *value, size_t value_length, struct weir_error *err) {
    struct weir_table *table = ahead->table;
    uint64_t hash = hash_next(ahead, key, key_length);
    struct weir_slot *slot = weir_table_find(table, hash, key, key_length);
    if (slot == NULL) {
        /* No cap here: a fuzzy snapshot may for a while hold keys that never lived together. */
        slot = weir_table_create_slot(table, hash, key, key_length);
        if (slot == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for another key of %zu",
                                  table->name, table->keys);
        }
    } else if (table->codec != NULL) {
        table->codec->fini(table->codec_context, weir_slot_value(table, slot));
    }
    slot->sequence = sequence;
    slot->changed = 0;
    if (table->next_sequence <= sequence) {
        table->next_sequence = sequence + 1;
    }
    void *room = weir_slot_value(table, slot);
    if (ahead->shape != table->shape) {
        memset(room, 0, table->value_bytes);
        int rc = table->layouts.decode(table->layouts.context, ahead->shape, room, value,
                                       value_length, err);
        return rc == WEIR_OK || rc == WEIR_E_STATE ? rc : weir_error_wrap(err, "%s", table->name);
    }
    if (table->codec == NULL) {
        if (value_length != table->value_bytes) {
            return weir_error_set(err, WEIR_E_CORRUPT, "%s: a value of %zu bytes, not %u",
                                  table->name, value_length, table->value_bytes);
        }
        memcpy(room, value, value_length);
        return WEIR_OK;
    }
    memset(room, 0, table->value_bytes);
    int rc = table->codec->decode(table->codec_context, room, value, value_length, err);
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "%s", table->name);
}

static int take_header(struct ahead *ahead, struct weir_image_reader *reader,
                       struct weir_error *err) {
    struct weir_table *table = ahead->table;
    const struct weir_table_layouts *layouts = &table->layouts;
    int rc = weir_image_read_header(reader, table->name, &ahead->shape, err);
    if (rc != WEIR_OK || ahead->shape == table->shape) {
        return rc;
    }
    return layouts->context != NULL /* what tells how to read it follows */
               ? WEIR_OK
               : weir_image_other_shape(table->name, ahead->shape, table->shape, err);
}

static int apply_image(void *self, uint8_t op, struct weir_image_reader *reader,
                       struct weir_error *err) {
    struct ahead *ahead = self;
    struct weir_table *table = ahead->table;
    uint64_t sequence;
    const uint8_t *key;
    size_t key_length;
    const uint8_t *value;
    size_t value_length;
    switch (op) {
    case WEIR_IMAGE_HEADER:
        return take_header(ahead, reader, err);
    case WEIR_IMAGE_LAYOUT:
        if (!weir_image_u64(reader, &sequence) ||
            !weir_image_bytes(reader, &value, &value_length)) {
            break;
        }
        return table->layouts.context == NULL
                   ? WEIR_OK
                   : table->layouts.learn(table->layouts.context, sequence, value, value_length,
                                          err);
    case WEIR_IMAGE_NEXT:
        if (!weir_image_u64(reader, &sequence)) {
            break;
        }
        if (table->next_sequence < sequence) {
            table->next_sequence = sequence;
        }
        return WEIR_OK;
    case WEIR_IMAGE_PUT:
        if (!weir_image_u64(reader, &sequence) || sequence == 0 || sequence == UINT64_MAX ||
            !weir_image_bytes(reader, &key, &key_length) ||
            !weir_image_bytes(reader, &value, &value_length) || key_length > WEIR_TABLE_KEY_MAX) {
            break;
        }
        look_ahead(ahead);
        return apply_put(ahead, sequence, key, key_length, value, value_length, err);
    case WEIR_IMAGE_DELETE: {
        if (!weir_image_u64(reader, &sequence) || !weir_image_bytes(reader, &key, &key_length)) {
            break;
        }
        look_ahead(ahead);
        uint64_t hash = hash_next(ahead, key, key_length);
        struct weir_slot *slot = weir_table_find(table, hash, key, key_length);
        /* A later life of the key, from a snapshot taken after this tombstone, stays. */
        if (slot != NULL && slot->sequence <= sequence) {
            weir_table_free_slot(table, slot);
        }
        if (table->next_sequence <= sequence && sequence != UINT64_MAX) {
            table->next_sequence = sequence + 1;
        }
        return WEIR_OK;
    }
    default:
        break;
    }
    return weir_error_set(err, WEIR_E_CORRUPT, "%s: damaged state image (operation %u)",
                          table->name, op);
}

int weir_table_apply(struct weir_table *table, const uint8_t *bytes, size_t length,
                     struct weir_error *err) {
    struct ahead ahead = {.table = table, .reader = {bytes, bytes + length}, .shape = table->shape};
    table->filling = true;
    int rc = table_cold_fetch(table, bytes, length, err);
    rc = rc == WEIR_OK ? weir_images_apply(table->name, bytes, length, apply_image, &ahead, err)
                       : rc;
    table->filling = false;
    return rc == WEIR_OK ? table_cold_settle(table, err) : rc;
}

/* --- cell ---------------------------------------------------------------------------------- */

static int cell_seal(void *self, struct weir_error *err) {
    return weir_table_seal(self, err);
}

static int cell_collect(void *self, struct weir_buffer *out, size_t max_slots, bool *done,
                        struct weir_error *err) {
    return weir_table_collect(self, out, max_slots, done, err);
}

static int cell_dump(void *self, struct weir_cell_cursor *cursor, struct weir_buffer *out,
                     size_t max_slots, bool *done, struct weir_error *err) {
    return weir_table_dump(self, cursor, out, max_slots, done, err);
}

static int cell_apply(void *self, const uint8_t *bytes, size_t length, struct weir_error *err) {
    return weir_table_apply(self, bytes, length, err);
}

static size_t cell_keys(const void *self) {
    return weir_table_keys(self) + table_cold_keys(self);
}

static size_t cell_bytes(const void *self) {
    return weir_table_bytes(self);
}

const struct weir_cell_ops weir_table_cell_ops = {
    .seal = cell_seal,
    .collect = cell_collect,
    .dump = cell_dump,
    .apply = cell_apply,
    .keys = cell_keys,
    .bytes = cell_bytes,
};

struct weir_cell *weir_table_cell(struct weir_table *table) {
    return &table->cell;
}
