#pragma once
/* What rows.c and rows_image.c share. */
#include "state/image.h"
#include "state/rows.h"

enum { ROWS_PARTS = 256, ROWS_CHUNK_BYTES = 64 * 1024 - 16, ROWS_CHUNK_FIRST = 1024 - 16 };

struct rows_chunk {
    struct rows_chunk *next;
    uint32_t used;
    uint32_t capacity;
    uint8_t data[]; /* rows, each at a multiple of 8 */
};

struct rows_place { /* of the next row to look at */
    struct rows_chunk *chunk;
    uint32_t at;
};

struct rows_bucket {
    int64_t number; /* of until_us / bucket_us */
    struct rows_chunk *head;
    struct rows_chunk *tail;
    struct rows_place collected;
    struct rows_place dropped;
    int64_t lowest_time;
};

struct rows_entry { /* of a part of the index; row NULL: free */
    uint64_t hash;
    struct weir_row *newest;
};

struct rows_part { /* parts grow on their own, and not all at once */
    struct rows_entry *entries;
    uint32_t mask;
    uint32_t used;
};

struct rows_due {
    int64_t until_us;
    uint64_t sequence;
    struct weir_row *row;
};

struct weir_rows {
    struct rows_part parts[ROWS_PARTS];
    struct rows_bucket **buckets; /* by number */
    uint32_t bucket_count;
    uint32_t bucket_room;
    struct rows_bucket *last; /* that a row was added to */
    struct rows_due *due;     /* a heap */
    size_t due_count;
    size_t due_room;
    int64_t bucket_us;
    uint64_t seed;
    uint64_t shape;
    uint64_t next_sequence;
    uint64_t sealed_sequence; /* rows from here on are of the open epoch */
    uint32_t generation;      /* of the open epoch */
    bool timed;
    bool sealed;
    bool told_next;          /* of the sealed epoch: its images say which sequence comes next */
    struct weir_spill marks; /* sequences of older rows that were marked */
    struct weir_spill sealed_marks;
    size_t count;
    size_t bytes;
    size_t max_bytes;
    struct weir_row **seen; /* while images are applied: by sequence */
    size_t seen_mask;
    char *name;
    char *declaration;
    char *option;
    struct weir_cell cell;
};

extern const struct weir_cell_ops weir_rows_cell_ops;

static inline size_t rows_row_size(const struct weir_row *row) {
    size_t key = row->key_bytes == WEIR_ROW_NO_KEY ? 0 : row->key_bytes;
    return (sizeof *row + key + row->row_bytes + 7) & ~(size_t)7;
}

static inline struct weir_row *rows_at(const struct rows_place *place) {
    return (struct weir_row *)(void *)(place->chunk->data + place->at);
}

/* Moves on to where a row is, chunk by chunk; false: the bucket has no more. */
static inline bool rows_place_settle(struct rows_place *place) {
    while (place->chunk != NULL && place->at == place->chunk->used && place->chunk->next != NULL) {
        place->chunk = place->chunk->next;
        place->at = 0;
    }
    return place->chunk != NULL && place->at < place->chunk->used;
}

/* Position of the first bucket whose number is not below. */
uint32_t rows_bucket_position(const struct weir_rows *rows, int64_t number);
/* A row that is in no list yet; NULL without memory. */
struct weir_row *rows_place_row(struct weir_rows *rows, int64_t until_us, int64_t time_us,
                                uint32_t key_bytes, uint32_t row_bytes);
int rows_link(struct weir_rows *rows, struct weir_row *row);
int rows_due_push(struct weir_rows *rows, struct weir_row *row);
