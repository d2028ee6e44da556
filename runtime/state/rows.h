#pragma once
/* Rows kept for a while: bytes under a key, with an event time and the time until which they are
 * needed. Rows of a key form a list, newest first, behind an open-addressing index; their memory
 * lies in buckets by `until`, which are given back whole, so that expiry writes nothing and frees
 * nothing row by row. A row may be marked once, and rows not marked can be had in the order in
 * which their time runs out (`timed`).
 *
 * A cell (cell.h): rows are immutable but for the mark, so an epoch's images are the rows added
 * since the last seal, read from where they lie, and the marks of older ones. Expired rows get no
 * tombstone: whoever restores expires again, by the watermark of the same record.
 *
 * One thread (the loop). A row stays where it is until it expires. */
#include "state/cell.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_row {
    struct weir_row *older; /* of the same key; NULL: none */
    struct weir_row *newer;
    uint64_t hash;
    uint64_t sequence; /* order of arrival, from 1 */
    int64_t time_us;
    int64_t until_us;   /* the last moment at which it is needed */
    uint32_t key_bytes; /* WEIR_ROW_NO_KEY: it is in no list */
    uint32_t row_bytes;
    uint32_t marked; /* 0: not */
    uint32_t unused;
    uint8_t data[]; /* the key, then the row */
};
#define WEIR_ROW_NO_KEY UINT32_MAX

struct weir_rows;

struct weir_rows_config {
    const char *declaration; /* copied */
    const char *cell;        /* copied */
    uint64_t shape;
    uint64_t seed;     /* of the caller's hashes; 0: a random one */
    int64_t bucket_us; /* >= 1: how finely expiry is cut */
    bool timed;        /* weir_rows_due is wanted */
    size_t max_bytes;  /* 0: none */
    const char *option;
};

struct weir_rows *weir_rows_create(const struct weir_rows_config *config, struct weir_error *err);
void weir_rows_destroy(struct weir_rows *rows);

/* For weir_keys_hash. */
uint64_t weir_rows_seed(const struct weir_rows *rows);

/* Copies key and row. key NULL: the row is in no list. NULL: WEIR_E_LIMIT at the cap,
 * WEIR_E_NOMEM; nothing happened. */
struct weir_row *weir_rows_add(struct weir_rows *rows, uint64_t hash, const void *key,
                               size_t key_bytes, const void *row, size_t row_bytes, int64_t time_us,
                               int64_t until_us, struct weir_error *err);
/* The newest row of the key, or NULL. */
struct weir_row *weir_rows_newest(const struct weir_rows *rows, uint64_t hash, const void *key,
                                  size_t key_bytes);
/* Two-stage prefetch for batches of lookups. */
void weir_rows_prefetch(const struct weir_rows *rows, uint64_t hash);
void weir_rows_prefetch_row(const struct weir_rows *rows, uint64_t hash);

static inline const uint8_t *weir_row_bytes(const struct weir_row *row) {
    return row->data + (row->key_bytes == WEIR_ROW_NO_KEY ? 0 : row->key_bytes);
}

/* Once a row; a second time does nothing. WEIR_E_NOMEM. */
int weir_rows_mark(struct weir_rows *rows, struct weir_row *row) WEIR_MUST_CHECK;
/* Of a timed store: the next row, by (until, sequence), that is not marked and whose `until` lies
 * before the watermark; NULL: none is left. Each row is given once. */
struct weir_row *weir_rows_due(struct weir_rows *rows, int64_t watermark_us);
/* The same row again, without taking it. */
const struct weir_row *weir_rows_peek(struct weir_rows *rows, int64_t watermark_us);
/* Drops about max_rows rows at most that are needed until before the watermark; those of a timed
 * store only once they are not due any more. */
void weir_rows_expire(struct weir_rows *rows, int64_t watermark_us, size_t max_rows);
/* No kept row is earlier; INT64_MAX: there are none. */
int64_t weir_rows_lowest_time(const struct weir_rows *rows);

/* The value of a row's image. */
struct weir_row_image {
    bool marked;
    bool keyless;
    int64_t time_us;
    int64_t until_us;
    const uint8_t *bytes; /* borrowed */
    size_t size;
};
bool weir_row_image_read(const uint8_t *value, size_t length, struct weir_row_image *out);

size_t weir_rows_count(const struct weir_rows *rows);
size_t weir_rows_bytes(const struct weir_rows *rows);
struct weir_cell *weir_rows_cell(struct weir_rows *rows);
/* After all images were applied, before the first row. */
int weir_rows_restore(struct weir_rows *rows, struct weir_error *err) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
