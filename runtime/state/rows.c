/* The index has 256 parts by the upper bits of the hash. A part that is full doubles at once, which
 * is a few hundred entries' work even with millions of keys, and each is full at another load, so
 * that they do not double together. */
#include "state/rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "core/block.h"
#include "state/rows_private.h"

enum { PART_ENTRIES_FIRST = 8, LOAD_LEAST = 50, LOAD_SPREAD = 30 };

struct weir_rows *weir_rows_create(const struct weir_rows_config *config, struct weir_error *err) {
    struct weir_rows *rows = calloc(1, sizeof *rows);
    if (rows == NULL) {
        weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for state '%s'", config->declaration,
                       config->cell);
        return NULL;
    }
    rows->bucket_us = config->bucket_us > 0 ? config->bucket_us : 1;
    rows->shape = config->shape;
    rows->timed = config->timed;
    rows->max_bytes = config->max_bytes != 0 ? config->max_bytes : SIZE_MAX;
    rows->next_sequence = rows->sealed_sequence = 1;
    rows->generation = 1;
    rows->bytes = sizeof *rows;
    rows->name = weir_cell_name(config->declaration, config->cell);
    rows->declaration = strdup(config->declaration);
    rows->option = strdup(config->option != NULL ? config->option : "its memory cap");
    rows->seed = config->seed;
    if (rows->seed == 0 &&
        getrandom(&rows->seed, sizeof rows->seed, GRND_NONBLOCK) != sizeof rows->seed) {
        rows->seed = (uint64_t)(uintptr_t)rows; /* early boot: ASLR must do */
    }
    if (rows->name == NULL || rows->declaration == NULL || rows->option == NULL) {
        weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for state '%s'", config->declaration,
                       config->cell);
        weir_rows_destroy(rows);
        return NULL;
    }
    rows->cell = (struct weir_cell){.name = rows->name, .ops = &weir_rows_cell_ops, .self = rows};
    return rows;
}

static void bucket_destroy(struct weir_rows *rows, struct rows_bucket *bucket) {
    while (bucket->head != NULL) {
        struct rows_chunk *chunk = bucket->head;
        bucket->head = chunk->next;
        rows->bytes -= sizeof *chunk + chunk->capacity;
        weir_block_give(chunk);
    }
    rows->bytes -= sizeof *bucket;
    weir_block_give(bucket);
}

void weir_rows_destroy(struct weir_rows *rows) {
    if (rows == NULL) {
        return;
    }
    for (uint32_t i = 0; i < rows->bucket_count; i++) {
        bucket_destroy(rows, rows->buckets[i]);
    }
    for (int i = 0; i < ROWS_PARTS; i++) {
        weir_block_give(rows->parts[i].entries);
    }
    weir_block_give(rows->buckets);
    weir_block_give(rows->due);
    weir_block_give(rows->seen);
    weir_spill_fini(&rows->marks);
    weir_spill_fini(&rows->sealed_marks);
    free(rows->name);
    free(rows->declaration);
    free(rows->option);
    free(rows);
}

uint64_t weir_rows_seed(const struct weir_rows *rows) {
    return rows->seed;
}

size_t weir_rows_count(const struct weir_rows *rows) {
    return rows->count;
}

size_t weir_rows_bytes(const struct weir_rows *rows) {
    return rows->bytes + rows->marks.reserved_bytes + rows->sealed_marks.reserved_bytes;
}

struct weir_cell *weir_rows_cell(struct weir_rows *rows) {
    return &rows->cell;
}

/* --- index -------------------------------------------------------------------------------------
 */

static inline const struct rows_part *part_of(const struct weir_rows *rows, uint64_t hash) {
    return &rows->parts[hash >> 56];
}

static inline bool key_is(const struct weir_row *row, const void *key, size_t key_bytes) {
    return row->key_bytes == key_bytes && memcmp(row->data, key, key_bytes) == 0;
}

/* The key's entry, or NULL. */
static inline struct rows_entry *entry_of(const struct weir_rows *rows, uint64_t hash,
                                          const void *key, size_t key_bytes) {
    const struct rows_part *part = part_of(rows, hash);
    if (part->entries == NULL) {
        return NULL;
    }
    for (uint64_t at = hash & part->mask;; at = (at + 1) & part->mask) {
        struct rows_entry *entry = &part->entries[at];
        if (entry->newest == NULL) {
            return NULL;
        }
        if (entry->hash == hash && key_is(entry->newest, key, key_bytes)) {
            return entry;
        }
    }
}

struct weir_row *weir_rows_newest(const struct weir_rows *rows, uint64_t hash, const void *key,
                                  size_t key_bytes) {
    const struct rows_entry *entry = entry_of(rows, hash, key, key_bytes);
    return entry != NULL ? entry->newest : NULL;
}

void weir_rows_prefetch(const struct weir_rows *rows, uint64_t hash) {
    const struct rows_part *part = part_of(rows, hash);
    if (part->entries != NULL) {
        __builtin_prefetch(&part->entries[hash & part->mask]);
    }
}

void weir_rows_prefetch_row(const struct weir_rows *rows, uint64_t hash) {
    const struct rows_part *part = part_of(rows, hash);
    if (part->entries != NULL) {
        const char *row = (const char *)part->entries[hash & part->mask].newest;
        if (row != NULL) {
            __builtin_prefetch(row);
            __builtin_prefetch(row + 64);
        }
    }
}

static void entry_place(struct rows_part *part, uint64_t hash, struct weir_row *newest) {
    uint64_t at = hash & part->mask;
    while (part->entries[at].newest != NULL) {
        at = (at + 1) & part->mask;
    }
    part->entries[at] = (struct rows_entry){hash, newest};
}

static int part_grow(struct weir_rows *rows, struct rows_part *part) {
    uint32_t entries = part->entries == NULL ? PART_ENTRIES_FIRST : (part->mask + 1) * 2;
    struct rows_part grown = {
        .entries = weir_block_take_zeroed((size_t)entries * sizeof(struct rows_entry)),
        .mask = entries - 1,
        .used = part->used,
    };
    if (grown.entries == NULL) {
        return WEIR_E_NOMEM;
    }
    for (uint32_t i = 0; part->entries != NULL && i <= part->mask; i++) {
        if (part->entries[i].newest != NULL) {
            entry_place(&grown, part->entries[i].hash, part->entries[i].newest);
        }
    }
    size_t before = part->entries == NULL ? 0 : (size_t)part->mask + 1;
    rows->bytes += ((size_t)entries - before) * sizeof(struct rows_entry);
    weir_block_give(part->entries);
    *part = grown;
    return WEIR_OK;
}

/* Into the list of its key, as the newest. */
int rows_link(struct weir_rows *rows, struct weir_row *row) {
    row->older = row->newer = NULL;
    if (row->key_bytes == WEIR_ROW_NO_KEY) {
        return WEIR_OK;
    }
    struct rows_entry *entry = entry_of(rows, row->hash, row->data, row->key_bytes);
    if (entry != NULL) {
        row->older = entry->newest;
        entry->newest->newer = row;
        entry->newest = row;
        return WEIR_OK;
    }
    size_t number = row->hash >> 56;
    struct rows_part *part = &rows->parts[number];
    uint64_t load = LOAD_LEAST + LOAD_SPREAD * number / ROWS_PARTS;
    if (part->entries == NULL || (uint64_t)part->used * 100 >= (uint64_t)(part->mask + 1) * load) {
        int rc = part_grow(rows, part);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    entry_place(part, row->hash, row);
    part->used++;
    return WEIR_OK;
}

/* The gap is closed by what was placed past it. */
static void entry_remove(struct rows_part *part, struct rows_entry *entry) {
    uint64_t mask = part->mask;
    uint64_t at = (uint64_t)(entry - part->entries);
    for (uint64_t next = (at + 1) & mask; part->entries[next].newest != NULL;
         next = (next + 1) & mask) {
        uint64_t home = part->entries[next].hash & mask;
        if (((next - home) & mask) >= ((next - at) & mask)) {
            part->entries[at] = part->entries[next];
            at = next;
        }
    }
    part->entries[at].newest = NULL;
    part->used--;
}

static void unlink_row(struct weir_rows *rows, struct weir_row *row) {
    if (row->key_bytes == WEIR_ROW_NO_KEY) {
        return;
    }
    if (row->older != NULL) {
        row->older->newer = row->newer;
    }
    if (row->newer != NULL) {
        row->newer->older = row->older;
        return;
    }
    struct rows_entry *entry = entry_of(rows, row->hash, row->data, row->key_bytes);
    if (row->older != NULL) {
        entry->newest = row->older;
    } else {
        entry_remove(&rows->parts[row->hash >> 56], entry);
    }
}

/* --- buckets -----------------------------------------------------------------------------------
 */

static int64_t bucket_number(const struct weir_rows *rows, int64_t until_us) {
    int64_t number = until_us / rows->bucket_us;
    return until_us % rows->bucket_us < 0 ? number - 1 : number;
}

uint32_t rows_bucket_position(const struct weir_rows *rows, int64_t number) {
    uint32_t low = 0;
    uint32_t high = rows->bucket_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (rows->buckets[middle]->number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct rows_bucket *bucket_of(struct weir_rows *rows, int64_t until_us) {
    int64_t number = bucket_number(rows, until_us);
    if (rows->last != NULL && rows->last->number == number) {
        return rows->last;
    }
    uint32_t position = rows_bucket_position(rows, number);
    if (position < rows->bucket_count && rows->buckets[position]->number == number) {
        return rows->last = rows->buckets[position];
    }
    if (rows->bucket_count == rows->bucket_room) {
        uint32_t room = rows->bucket_room > 0 ? rows->bucket_room * 2 : 16;
        struct rows_bucket **grown =
            weir_block_regrow(rows->buckets, (size_t)room * sizeof *rows->buckets);
        if (grown == NULL) {
            return NULL;
        }
        rows->bytes += (size_t)(room - rows->bucket_room) * sizeof *rows->buckets;
        rows->buckets = grown;
        rows->bucket_room = room;
    }
    struct rows_bucket *bucket = weir_block_take_zeroed(sizeof *bucket);
    if (bucket == NULL) {
        return NULL;
    }
    bucket->number = number;
    bucket->lowest_time = INT64_MAX;
    memmove(&rows->buckets[position + 1], &rows->buckets[position],
            (rows->bucket_count - position) * sizeof *rows->buckets);
    rows->buckets[position] = bucket;
    rows->bucket_count++;
    rows->bytes += sizeof *bucket;
    return rows->last = bucket;
}

/* Room for `size` bytes at the bucket's end. */
static struct rows_chunk *chunk_for(struct weir_rows *rows, struct rows_bucket *bucket,
                                    size_t size) {
    struct rows_chunk *chunk = bucket->tail;
    if (chunk != NULL && chunk->capacity - chunk->used >= size) {
        return chunk;
    }
    size_t bytes = chunk == NULL ? ROWS_CHUNK_FIRST : ROWS_CHUNK_BYTES;
    while (bytes - sizeof *chunk < size) {
        bytes = (bytes + 16) * 2 - 16;
    }
    chunk = weir_block_take(bytes);
    if (chunk == NULL) {
        return NULL;
    }
    *chunk = (struct rows_chunk){.capacity = (uint32_t)(bytes - sizeof *chunk)};
    if (bucket->tail != NULL) {
        bucket->tail->next = chunk;
    } else {
        bucket->head = chunk;
        bucket->collected = bucket->dropped = (struct rows_place){chunk, 0};
    }
    bucket->tail = chunk;
    rows->bytes += bytes;
    return chunk;
}

struct weir_row *rows_place_row(struct weir_rows *rows, int64_t until_us, int64_t time_us,
                                uint32_t key_bytes, uint32_t row_bytes) {
    struct weir_row head = {
        .time_us = time_us, .until_us = until_us, .key_bytes = key_bytes, .row_bytes = row_bytes};
    size_t size = rows_row_size(&head);
    struct rows_bucket *bucket = bucket_of(rows, until_us);
    struct rows_chunk *chunk = bucket != NULL ? chunk_for(rows, bucket, size) : NULL;
    if (chunk == NULL) {
        return NULL;
    }
    struct weir_row *row = (struct weir_row *)(void *)(chunk->data + chunk->used);
    memcpy(row, &head, sizeof head);
    chunk->used += (uint32_t)size;
    if (time_us < bucket->lowest_time) {
        bucket->lowest_time = time_us;
    }
    rows->count++;
    return row;
}

struct weir_row *weir_rows_add(struct weir_rows *rows, uint64_t hash, const void *key,
                               size_t key_bytes, const void *row_data, size_t row_bytes,
                               int64_t time_us, int64_t until_us, struct weir_error *err) {
    uint32_t key_size = key != NULL ? (uint32_t)key_bytes : WEIR_ROW_NO_KEY;
    if (weir_rows_bytes(rows) > rows->max_bytes) {
        weir_error_set(err, WEIR_E_LIMIT,
                       "%s: its state is full: %zu rows in %zu bytes. Raise %s, or keep rows for "
                       "a shorter time",
                       rows->declaration, rows->count, weir_rows_bytes(rows), rows->option);
        return NULL;
    }
    struct weir_row *row =
        key_bytes + row_bytes < INT32_MAX
            ? rows_place_row(rows, until_us, time_us, key_size, (uint32_t)row_bytes)
            : NULL;
    if (row == NULL) {
        weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for another row of %zu", rows->name,
                       rows->count);
        return NULL;
    }
    row->hash = hash;
    row->sequence = rows->next_sequence++;
    if (key != NULL) {
        memcpy(row->data, key, key_bytes);
    }
    memcpy(row->data + (key != NULL ? key_bytes : 0), row_data, row_bytes);
    if (rows_link(rows, row) != WEIR_OK || (rows->timed && rows_due_push(rows, row) != WEIR_OK)) {
        weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for another row of %zu", rows->name,
                       rows->count);
        return NULL; /* the pipeline stops at the last whole epoch */
    }
    return row;
}

int weir_rows_mark(struct weir_rows *rows, struct weir_row *row) {
    if (row->marked != 0) {
        return WEIR_OK;
    }
    if (row->sequence < rows->sealed_sequence) { /* its image says nothing of it */
        uint8_t *to = weir_spill_append(&rows->marks, sizeof row->sequence);
        if (to == NULL) {
            return WEIR_E_NOMEM;
        }
        memcpy(to, &row->sequence, sizeof row->sequence);
    }
    row->marked = rows->generation;
    return WEIR_OK;
}

/* --- time --------------------------------------------------------------------------------------
 */

static inline bool before(const struct rows_due *a, const struct rows_due *b) {
    return a->until_us != b->until_us ? a->until_us < b->until_us : a->sequence < b->sequence;
}

int rows_due_push(struct weir_rows *rows, struct weir_row *row) {
    if (rows->due_count == rows->due_room) {
        size_t room = rows->due_room > 0 ? rows->due_room * 2 : 64;
        struct rows_due *grown = weir_block_regrow(rows->due, room * sizeof *grown);
        if (grown == NULL) {
            return WEIR_E_NOMEM;
        }
        rows->bytes += (room - rows->due_room) * sizeof *grown;
        rows->due = grown;
        rows->due_room = room;
    }
    struct rows_due item = {row->until_us, row->sequence, row};
    size_t at = rows->due_count++;
    while (at > 0 && before(&item, &rows->due[(at - 1) / 2])) {
        rows->due[at] = rows->due[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    rows->due[at] = item;
    return WEIR_OK;
}

static void due_pop(struct weir_rows *rows) {
    struct rows_due item = rows->due[--rows->due_count];
    size_t at = 0;
    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= rows->due_count) {
            break;
        }
        if (child + 1 < rows->due_count && before(&rows->due[child + 1], &rows->due[child])) {
            child++;
        }
        if (!before(&rows->due[child], &item)) {
            break;
        }
        rows->due[at] = rows->due[child];
        at = child;
    }
    rows->due[at] = item;
}

const struct weir_row *weir_rows_peek(struct weir_rows *rows, int64_t watermark_us) {
    while (rows->due_count > 0 && rows->due[0].until_us < watermark_us) {
        if (rows->due[0].row->marked == 0) {
            return rows->due[0].row;
        }
        due_pop(rows);
    }
    return NULL;
}

struct weir_row *weir_rows_due(struct weir_rows *rows, int64_t watermark_us) {
    if (weir_rows_peek(rows, watermark_us) == NULL) {
        return NULL;
    }
    struct weir_row *row = rows->due[0].row;
    due_pop(rows);
    return row;
}

/* The sealed epoch's images are read from the buckets: what they are not read from yet stays. */
static bool to_be_collected(const struct weir_rows *rows, struct rows_bucket *bucket) {
    return rows->sealed && rows_place_settle(&bucket->collected) &&
           rows_at(&bucket->collected)->sequence < rows->sealed_sequence;
}

void weir_rows_expire(struct weir_rows *rows, int64_t watermark_us, size_t max_rows) {
    uint32_t gone = 0;
    for (; gone < rows->bucket_count && max_rows > 0; gone++) {
        struct rows_bucket *bucket = rows->buckets[gone];
        if (bucket->number >= bucket_number(rows, watermark_us) ||
            (rows->due_count > 0 && bucket->number >= bucket_number(rows, rows->due[0].until_us)) ||
            to_be_collected(rows, bucket)) {
            break;
        }
        while (max_rows > 0 && rows_place_settle(&bucket->dropped)) {
            struct weir_row *row = rows_at(&bucket->dropped);
            unlink_row(rows, row);
            bucket->dropped.at += (uint32_t)rows_row_size(row);
            rows->count--;
            max_rows--;
        }
        if (rows_place_settle(&bucket->dropped)) {
            break;
        }
        rows->last = rows->last == bucket ? NULL : rows->last;
        bucket_destroy(rows, bucket);
    }
    if (gone == 0) {
        return;
    }
    rows->bucket_count -= gone;
    memmove(rows->buckets, rows->buckets + gone, rows->bucket_count * sizeof *rows->buckets);
}

int64_t weir_rows_lowest_time(const struct weir_rows *rows) {
    int64_t lowest = INT64_MAX;
    for (uint32_t i = 0; i < rows->bucket_count; i++) {
        if (rows->buckets[i]->lowest_time < lowest) {
            lowest = rows->buckets[i]->lowest_time;
        }
    }
    return lowest;
}
