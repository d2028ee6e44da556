/* Fingerprints' epochs: inserts and forgets are logged as they happen and replayed in order; a dump
 * walks buckets by number and entries by number, which growth never changes. */
#include "state/fingerprint_private.h"

int weir_fingerprints_seal(struct weir_fingerprints *store, struct weir_error *err) {
    if (store->sealed) {
        return weir_error_set(err, WEIR_E_BUG,
                              "%s: sealed again before the epoch sealed last was collected",
                              store->name);
    }
    weir_spill_move(&store->sealed_operations, &store->operations);
    store->sealed = true;
    return WEIR_OK;
}

int weir_fingerprints_collect(struct weir_fingerprints *store, struct weir_buffer *out,
                              size_t max_slots, bool *done, struct weir_error *err) {
    struct weir_spill *operations = &store->sealed_operations;
    size_t start = out->size;
    *done = true;
    if (!store->sealed || operations->head == NULL) {
        store->sealed = false;
        return WEIR_OK;
    }
    int rc = weir_image_put_header(out, store->shape, store->name);
    size_t empty = out->size;
    size_t left = max_slots > 0 ? max_slots : 1;
    while (rc == WEIR_OK && operations->head != NULL && left > 0) {
        struct weir_spill_block *block = operations->head;
        rc = weir_buffer_append(out, block->data, block->size);
        if (rc == WEIR_OK) {
            left -= block->records < left ? block->records : left;
            weir_spill_pop(operations);
        }
    }
    *done = operations->head == NULL;
    store->sealed = !*done;
    if (rc != WEIR_OK && out->size == empty) {
        out->size = start;
        return weir_error_set(err, rc, "%s: the buffer for changed state is full at %zu bytes",
                              store->name, out->limit);
    }
    return WEIR_OK;
}

int weir_fingerprints_dump(struct weir_fingerprints *store, struct weir_cell_cursor *cursor,
                           struct weir_buffer *out, size_t max_slots, bool *done,
                           struct weir_error *err) {
    size_t start = out->size;
    int64_t number = cursor->started ? cursor->major : INT64_MIN;
    uint64_t at = cursor->started ? cursor->minor : 0;
    size_t left = max_slots > 0 ? max_slots : 1;
    int rc = weir_image_put_header(out, store->shape, store->name);
    size_t empty = out->size;
    uint32_t position = weir_bucket_position(store, number);
    while (rc == WEIR_OK && position < store->bucket_count && left > 0) {
        struct bucket *bucket = store->buckets[position];
        if (bucket->number != number) { /* the cursor's bucket is done or has expired */
            number = bucket->number;
            at = 0;
        }
        for (; at < bucket->used && left > 0; at++, left--) {
            const struct entry *entry = entry_of(bucket, (uint32_t)at);
            if (entry->time_high == TIME_DEAD) {
                continue;
            }
            uint8_t image[OPERATION_BYTES];
            image[0] = WEIR_IMAGE_INSERT;
            uint8_t *to = weir_u64_put(image + 1, entry->lo);
            to = weir_u64_put(to, entry->hi);
            weir_u64_put(to, (uint64_t)entry_time(store, bucket, entry));
            rc = weir_buffer_append(out, image, sizeof image);
            if (rc != WEIR_OK) {
                break;
            }
        }
        if (rc == WEIR_OK && at == bucket->used) {
            position++;
        }
    }
    *done = rc == WEIR_OK && position == store->bucket_count;
    if (rc != WEIR_OK && out->size == empty) {
        out->size = start;
        return weir_error_set(err, rc, "%s: the snapshot's buffer is full at %zu bytes",
                              store->name, out->limit);
    }
    cursor->started = true;
    cursor->major = number;
    cursor->minor = at;
    return WEIR_OK;
}

static int apply_image(void *self, uint8_t op, struct weir_image_reader *reader,
                       struct weir_error *err) {
    struct weir_fingerprints *store = self;
    struct weir_fingerprint fingerprint;
    uint64_t time_bits;
    if (op == WEIR_IMAGE_HEADER) {
        return weir_image_check_header(reader, store->shape, store->name, err);
    }
    if ((op != WEIR_IMAGE_INSERT && op != WEIR_IMAGE_FORGET) ||
        !weir_image_u64(reader, &fingerprint.lo) || !weir_image_u64(reader, &fingerprint.hi) ||
        !weir_image_u64(reader, &time_bits)) {
        return weir_error_set(err, WEIR_E_CORRUPT, "%s: damaged state image (operation %u)",
                              store->name, op);
    }
    int64_t time = (int64_t)time_bits;
    int64_t number = bucket_number(store, time);
    struct bucket *bucket = weir_bucket_find(store, number);
    if (op == WEIR_IMAGE_FORGET) {
        if (bucket != NULL) {
            weir_bucket_remove(store, bucket, fingerprint, time);
        }
        return WEIR_OK;
    }
    if (bucket == NULL) {
        bucket = weir_bucket_create(store, number);
    }
    if (bucket == NULL || (!weir_bucket_has(store, bucket, fingerprint, time, 1) &&
                           !weir_bucket_insert(store, bucket, fingerprint, time))) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for another key of %zu",
                              store->name, store->keys);
    }
    return WEIR_OK;
}

int weir_fingerprints_apply(struct weir_fingerprints *store, const uint8_t *bytes, size_t length,
                            struct weir_error *err) {
    return weir_images_apply(store->name, bytes, length, apply_image, store, err);
}

/* --- cell ---------------------------------------------------------------------------------- */

static int cell_seal(void *self, struct weir_error *err) {
    return weir_fingerprints_seal(self, err);
}

static int cell_collect(void *self, struct weir_buffer *out, size_t max_slots, bool *done,
                        struct weir_error *err) {
    return weir_fingerprints_collect(self, out, max_slots, done, err);
}

static int cell_dump(void *self, struct weir_cell_cursor *cursor, struct weir_buffer *out,
                     size_t max_slots, bool *done, struct weir_error *err) {
    return weir_fingerprints_dump(self, cursor, out, max_slots, done, err);
}

static int cell_apply(void *self, const uint8_t *bytes, size_t length, struct weir_error *err) {
    return weir_fingerprints_apply(self, bytes, length, err);
}

static size_t cell_keys(const void *self) {
    return weir_fingerprints_keys(self);
}

static size_t cell_bytes(const void *self) {
    return weir_fingerprints_bytes(self);
}

const struct weir_cell_ops weir_fingerprints_cell_ops = {
    .seal = cell_seal,
    .collect = cell_collect,
    .dump = cell_dump,
    .apply = cell_apply,
    .keys = cell_keys,
    .bytes = cell_bytes,
};

struct weir_cell *weir_fingerprints_cell(struct weir_fingerprints *store) {
    return &store->cell;
}
