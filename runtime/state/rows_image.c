/* Epochs of kept rows: PUT of each row added (key; value: u8 mark, i64 time, i64 until, the row's
 * bytes; a row in no list has the mark's second bit), FORGET of the sequence of an older row that
 * was marked, NEXT. A dump walks buckets by number and their bytes in order, which growth never
 * changes. */
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/block.h"
#include "state/rows_private.h"

enum { VALUE_HEAD = 17, MARKED = 1, KEYLESS = 2 };

static int cell_seal(void *self, struct weir_error *err) {
    struct weir_rows *rows = self;
    if (rows->sealed) {
        return weir_error_set(err, WEIR_E_BUG,
                              "%s: sealed again before the epoch sealed last was collected",
                              rows->name);
    }
    weir_spill_move(&rows->sealed_marks, &rows->marks);
    rows->sealed_sequence = rows->next_sequence;
    rows->generation++;
    rows->sealed = true;
    rows->told_next = false;
    return WEIR_OK;
}

static int put_row(struct weir_buffer *out, const struct weir_row *row, bool marked) {
    bool keyless = row->key_bytes == WEIR_ROW_NO_KEY;
    size_t key = keyless ? 0 : row->key_bytes;
    size_t value = VALUE_HEAD + (size_t)row->row_bytes;
    int rc = weir_buffer_reserve(out, 1 + 8 + 2 * WEIR_VARINT_MAX + key + value);
    if (rc != WEIR_OK) {
        return rc;
    }
    uint8_t *at = out->data + out->size;
    *at++ = WEIR_IMAGE_PUT;
    at = weir_u64_put(at, row->sequence);
    at = weir_varint_put(at, key);
    memcpy(at, row->data, key);
    at = weir_varint_put(at + key, value);
    *at++ = (uint8_t)((marked ? MARKED : 0) | (keyless ? KEYLESS : 0));
    at = weir_u64_put(at, (uint64_t)row->time_us);
    at = weir_u64_put(at, (uint64_t)row->until_us);
    memcpy(at, weir_row_bytes(row), row->row_bytes);
    out->size = (size_t)(at + row->row_bytes - out->data);
    return WEIR_OK;
}

static int put_next(struct weir_buffer *out, uint64_t sequence) {
    uint8_t image[9] = {WEIR_IMAGE_NEXT};
    weir_u64_put(image + 1, sequence);
    return weir_buffer_append(out, image, sizeof image);
}

static int put_marks(struct weir_rows *rows, struct weir_buffer *out, size_t *left) {
    struct weir_spill *marks = &rows->sealed_marks;
    while (marks->head != NULL && *left > 0) {
        const struct weir_spill_block *block = marks->head;
        int rc = weir_buffer_reserve(out, (size_t)block->records * 25);
        if (rc != WEIR_OK) {
            return rc;
        }
        for (uint32_t i = 0; i < block->records; i++) {
            uint8_t *at = out->data + out->size;
            *at++ = WEIR_IMAGE_FORGET;
            memcpy(at, block->data + (size_t)i * 8, 8);
            memset(at + 8, 0, 16);
            out->size += 25;
        }
        *left -= block->records < *left ? block->records : *left;
        weir_spill_pop(marks);
    }
    return WEIR_OK;
}

/* Rows of a bucket that the sealed epoch added. */
static int put_bucket(struct weir_rows *rows, struct rows_bucket *bucket, struct weir_buffer *out,
                      size_t *left) {
    while (*left > 0 && rows_place_settle(&bucket->collected)) {
        const struct weir_row *row = rows_at(&bucket->collected);
        if (row->sequence >= rows->sealed_sequence) {
            break;
        }
        int rc = put_row(out, row, row->marked != 0 && row->marked < rows->generation);
        if (rc != WEIR_OK) {
            return rc;
        }
        bucket->collected.at += (uint32_t)rows_row_size(row);
        (*left)--;
    }
    return WEIR_OK;
}

static int finish(const struct weir_rows *rows, struct weir_buffer *out, size_t start, size_t empty,
                  int rc, const char *what, struct weir_error *err) {
    if (rc != WEIR_OK && out->size == empty) {
        out->size = start;
        return weir_error_set(err, rc, "%s: the buffer for %s is full at %zu bytes", rows->name,
                              what, out->limit);
    }
    return WEIR_OK;
}

static int cell_collect(void *self, struct weir_buffer *out, size_t max_slots, bool *done,
                        struct weir_error *err) {
    struct weir_rows *rows = self;
    size_t start = out->size;
    size_t left = max_slots > 0 ? max_slots : 1;
    *done = true;
    if (!rows->sealed) {
        return WEIR_OK;
    }
    int rc = weir_image_put_header(out, rows->shape, rows->name);
    if (rc == WEIR_OK && !rows->told_next) { /* once, so that an epoch's images tell no slices */
        rc = put_next(out, rows->sealed_sequence);
        rows->told_next = rc == WEIR_OK;
    }
    size_t empty = out->size;
    /* Rows before marks of them: those lie in later records, or were added before. */
    bool whole = rc == WEIR_OK;
    for (uint32_t i = 0; rc == WEIR_OK && i < rows->bucket_count && whole; i++) {
        struct rows_bucket *bucket = rows->buckets[i];
        rc = put_bucket(rows, bucket, out, &left);
        whole = rc == WEIR_OK && !(rows_place_settle(&bucket->collected) &&
                                   rows_at(&bucket->collected)->sequence < rows->sealed_sequence);
    }
    if (whole) {
        rc = put_marks(rows, out, &left);
    }
    *done = whole && rc == WEIR_OK && rows->sealed_marks.head == NULL;
    rows->sealed = !*done;
    if (*done && out->size == empty) {
        out->size = start; /* nothing changed */
    }
    return finish(rows, out, start, empty, rc, "changed state", err);
}

static int cell_dump(void *self, struct weir_cell_cursor *cursor, struct weir_buffer *out,
                     size_t max_slots, bool *done, struct weir_error *err) {
    struct weir_rows *rows = self;
    size_t start = out->size;
    size_t left = max_slots > 0 ? max_slots : 1;
    int64_t number = cursor->started ? cursor->major : INT64_MIN;
    uint32_t chunks = cursor->started ? (uint32_t)(cursor->minor >> 32) : 0; /* passed already */
    uint32_t at = cursor->started ? (uint32_t)cursor->minor : 0;
    int rc = weir_image_put_header(out, rows->shape, rows->name);
    rc = rc == WEIR_OK ? put_next(out, rows->next_sequence) : rc;
    size_t empty = out->size;
    uint32_t position = rows_bucket_position(rows, number);
    while (rc == WEIR_OK && position < rows->bucket_count && left > 0) {
        struct rows_bucket *bucket = rows->buckets[position];
        if (bucket->number != number) { /* the cursor's bucket is done or has expired */
            number = bucket->number;
            chunks = at = 0;
        }
        struct rows_place place = {bucket->head, at};
        for (uint32_t i = 0; i < chunks; i++) {
            place.chunk = place.chunk->next;
        }
        bool more = true;
        while (rc == WEIR_OK && left > 0) {
            if (place.at == place.chunk->used) {
                more = place.chunk->next != NULL;
                if (!more) {
                    break;
                }
                place = (struct rows_place){place.chunk->next, 0};
                chunks++;
                continue;
            }
            const struct weir_row *row = rows_at(&place);
            rc = put_row(out, row, row->marked != 0);
            if (rc == WEIR_OK) {
                place.at += (uint32_t)rows_row_size(row);
                left--;
            }
        }
        at = place.at;
        position += !more;
        if (!more && position < rows->bucket_count) {
            number = rows->buckets[position]->number;
            chunks = at = 0;
        }
    }
    *done = rc == WEIR_OK && position == rows->bucket_count;
    cursor->started = true;
    cursor->major = number;
    cursor->minor = (uint64_t)chunks << 32 | at;
    return finish(rows, out, start, empty, rc, "the snapshot", err);
}

/* --- apply -------------------------------------------------------------------------------------
 */

static size_t seen_at(const struct weir_rows *rows, uint64_t sequence) {
    size_t at = (sequence * UINT64_C(0x9E3779B97F4A7C15)) >> 20 & rows->seen_mask;
    while (rows->seen[at] != NULL && rows->seen[at]->sequence != sequence) {
        at = (at + 1) & rows->seen_mask;
    }
    return at;
}

static int seen_room(struct weir_rows *rows) {
    if (rows->seen != NULL && (rows->count + 1) * 2 <= rows->seen_mask) {
        return WEIR_OK;
    }
    struct weir_row **old = rows->seen;
    size_t old_entries = old != NULL ? rows->seen_mask + 1 : 0;
    size_t entries = old != NULL ? old_entries * 2 : 1024;
    struct weir_row **grown = weir_block_take_zeroed(entries * sizeof(struct weir_row *));
    if (grown == NULL) {
        return WEIR_E_NOMEM;
    }
    rows->seen = grown;
    rows->seen_mask = entries - 1;
    for (size_t i = 0; i < old_entries; i++) {
        if (old[i] != NULL) {
            grown[seen_at(rows, old[i]->sequence)] = old[i];
        }
    }
    weir_block_give(old);
    return WEIR_OK;
}

bool weir_row_image_read(const uint8_t *value, size_t length, struct weir_row_image *out) {
    if (length < VALUE_HEAD || (value[0] & ~(MARKED | KEYLESS)) != 0) {
        return false;
    }
    *out = (struct weir_row_image){
        .marked = (value[0] & MARKED) != 0,
        .keyless = (value[0] & KEYLESS) != 0,
        .bytes = value + VALUE_HEAD,
        .size = length - VALUE_HEAD,
    };
    memcpy(&out->time_us, value + 1, sizeof out->time_us);
    memcpy(&out->until_us, value + 9, sizeof out->until_us);
    return true;
}

static int apply_put(struct weir_rows *rows, struct weir_image_reader *reader,
                     struct weir_error *err) {
    uint64_t sequence;
    const uint8_t *key;
    const uint8_t *value;
    size_t key_bytes;
    size_t value_bytes;
    struct weir_row_image image;
    if (!weir_image_u64(reader, &sequence) || !weir_image_bytes(reader, &key, &key_bytes) ||
        !weir_image_bytes(reader, &value, &value_bytes) || sequence == 0 ||
        key_bytes >= INT32_MAX || value_bytes >= INT32_MAX ||
        !weir_row_image_read(value, value_bytes, &image)) {
        return weir_error_set(err, WEIR_E_CORRUPT, "%s: damaged state image of a row", rows->name);
    }
    int rc = seen_room(rows);
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: no memory for another row of %zu", rows->name,
                              rows->count);
    }
    size_t at = seen_at(rows, sequence);
    if (rows->seen[at] != NULL) { /* the snapshot has it, perhaps marked since */
        rows->seen[at]->marked |= image.marked;
        return WEIR_OK;
    }
    struct weir_row *row =
        rows_place_row(rows, image.until_us, image.time_us,
                       image.keyless ? WEIR_ROW_NO_KEY : (uint32_t)key_bytes, (uint32_t)image.size);
    if (row == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for another row of %zu", rows->name,
                              rows->count);
    }
    row->sequence = sequence;
    row->marked = image.marked;
    if (!image.keyless) {
        memcpy(row->data, key, key_bytes);
    }
    memcpy(row->data + (image.keyless ? 0 : key_bytes), image.bytes, image.size);
    rows->seen[at] = row;
    rows->next_sequence = sequence >= rows->next_sequence ? sequence + 1 : rows->next_sequence;
    return WEIR_OK;
}

static int apply_image(void *self, uint8_t op, struct weir_image_reader *reader,
                       struct weir_error *err) {
    struct weir_rows *rows = self;
    uint64_t a;
    uint64_t b;
    uint64_t c;
    switch (op) {
    case WEIR_IMAGE_HEADER:
        return weir_image_check_header(reader, rows->shape, rows->name, err);
    case WEIR_IMAGE_PUT:
        return apply_put(rows, reader, err);
    case WEIR_IMAGE_NEXT:
        if (weir_image_u64(reader, &a)) {
            rows->next_sequence = a > rows->next_sequence ? a : rows->next_sequence;
            return WEIR_OK;
        }
        break;
    case WEIR_IMAGE_FORGET:
        if (weir_image_u64(reader, &a) && weir_image_u64(reader, &b) &&
            weir_image_u64(reader, &c)) {
            size_t at = rows->seen != NULL ? seen_at(rows, a) : 0;
            if (rows->seen != NULL && rows->seen[at] != NULL) { /* else it has expired */
                rows->seen[at]->marked = 1;
            }
            return WEIR_OK;
        }
        break;
    default:
        break;
    }
    return weir_error_set(err, WEIR_E_CORRUPT, "%s: damaged state image (operation %u)", rows->name,
                          op);
}

static int cell_apply(void *self, const uint8_t *bytes, size_t length, struct weir_error *err) {
    struct weir_rows *rows = self;
    return weir_images_apply(rows->name, bytes, length, apply_image, rows, err);
}

static int by_sequence(const void *a, const void *b) {
    const struct weir_row *const *left = a;
    const struct weir_row *const *right = b;
    return ((*left)->sequence > (*right)->sequence) - ((*left)->sequence < (*right)->sequence);
}

int weir_rows_restore(struct weir_rows *rows, struct weir_error *err) {
    size_t count = 0;
    int rc = WEIR_OK;
    for (size_t i = 0; rows->seen != NULL && i <= rows->seen_mask; i++) {
        if (rows->seen[i] != NULL) {
            rows->seen[count++] = rows->seen[i];
        }
    }
    if (count > 1) {
        qsort(rows->seen, count, sizeof(struct weir_row *), by_sequence);
    }
    for (size_t i = 0; rc == WEIR_OK && i < count; i++) {
        struct weir_row *row = rows->seen[i];
        row->hash = row->key_bytes == WEIR_ROW_NO_KEY
                        ? 0
                        : XXH3_64bits_withSeed(row->data, row->key_bytes, rows->seed);
        rc = rows_link(rows, row);
        rc = rc == WEIR_OK && rows->timed ? rows_due_push(rows, row) : rc;
    }
    weir_block_give(rows->seen);
    rows->seen = NULL;
    rows->sealed_sequence = rows->next_sequence;
    for (uint32_t i = 0; i < rows->bucket_count; i++) { /* they are in records already */
        struct rows_bucket *bucket = rows->buckets[i];
        bucket->collected = (struct rows_place){bucket->tail, bucket->tail->used};
    }
    return rc == WEIR_OK ? rc
                         : weir_error_set(err, rc, "%s: no memory for the rows kept", rows->name);
}

static size_t cell_keys(const void *self) {
    return weir_rows_count(self);
}

static size_t cell_bytes(const void *self) {
    return weir_rows_bytes(self);
}

const struct weir_cell_ops weir_rows_cell_ops = {
    .seal = cell_seal,
    .collect = cell_collect,
    .dump = cell_dump,
    .apply = cell_apply,
    .keys = cell_keys,
    .bytes = cell_bytes,
};
