#pragma once
/* Dedup's memory: 128-bit fingerprints of kept rows with their event time, in buckets of width
 * `within`, dropped whole as they expire. 30 bytes a remembered key (16 fingerprint, 6 time, 4
 * chain, 4 head) plus about 2 % slack; growth is by linear hashing, one chain at a time, so no
 * insert ever rehashes.
 *
 * The meaning, exactly. Let w = within and b(t) = floor(t / w). Rows are judged strictly in order.
 *   1. A row (key, t) is a duplicate iff a kept row with that key and time k is *remembered for
 *      it* and |t - k| < w. Duplicates change nothing.
 *   2. A row with watermark_before m is answered only by buckets b with m < (b + 2) * w. A bucket
 *      beyond that could match only rows older than the watermark; it is as if it were gone
 *      already, whatever the memory still holds, so nothing depends on when batches end.
 *   3. A kept row is remembered in bucket b(t) unless rule 2 hides that bucket from it already.
 * weir_fingerprints_expire drops the memory of buckets hidden from every later row; call it at
 * batch ends. Watermarks never go back (operator/watermark.h), so what is hidden stays hidden.
 *
 * Times and w in microseconds. One thread (the loop). Images: docs/formats/state.md. */
#include "state/cell.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_fingerprint {
    uint64_t lo;
    uint64_t hi;
};

struct weir_fingerprints;

struct weir_fingerprints_config {
    const char *declaration; /* copied */
    const char *cell;        /* "dedup"; copied */
    uint64_t shape;          /* hash of key types; `within` is added by the store */
    int64_t within_us;       /* 1 us .. 3,000 days */
    size_t max_keys;         /* 0: 2^31 a bucket */
    size_t max_bytes;        /* 0: none */
    const char *option;      /* the option that raises the cap; copied */
};

struct weir_fingerprints *weir_fingerprints_create(const struct weir_fingerprints_config *config,
                                                   struct weir_error *err);
void weir_fingerprints_destroy(struct weir_fingerprints *store);

/* Judges rows 0..count in order: duplicate[i] = 1 or 0; kept ones are remembered. On WEIR_E_LIMIT
 * or WEIR_E_NOMEM *judged says how many rows were judged (and remembered); state and duplicate[]
 * are right for those. */
int weir_fingerprints_feed(struct weir_fingerprints *store, int32_t count,
                           const struct weir_fingerprint *fingerprints, const int64_t *time_us,
                           const int64_t *watermark_before_us, uint8_t *duplicate, int32_t *judged,
                           struct weir_error *err) WEIR_MUST_CHECK;
/* A kept row that was rejected later: its corrected resend passes. Unknown: nothing happens. */
int weir_fingerprints_forget(struct weir_fingerprints *store, struct weir_fingerprint fingerprint,
                             int64_t time_us) WEIR_MUST_CHECK;
/* Drops buckets hidden from every row whose watermark_before is at least `watermark_us`. */
void weir_fingerprints_expire(struct weir_fingerprints *store, int64_t watermark_us);

size_t weir_fingerprints_keys(const struct weir_fingerprints *store);
size_t weir_fingerprints_bytes(const struct weir_fingerprints *store); /* resident, all in */

/* See cell.h. The epoch's images are its inserts and forgets, in order. */
int weir_fingerprints_seal(struct weir_fingerprints *store, struct weir_error *err) WEIR_MUST_CHECK;
int weir_fingerprints_collect(struct weir_fingerprints *store, struct weir_buffer *out,
                              size_t max_slots, bool *done, struct weir_error *err) WEIR_MUST_CHECK;
int weir_fingerprints_dump(struct weir_fingerprints *store, struct weir_cell_cursor *cursor,
                           struct weir_buffer *out, size_t max_slots, bool *done,
                           struct weir_error *err) WEIR_MUST_CHECK;
int weir_fingerprints_apply(struct weir_fingerprints *store, const uint8_t *bytes, size_t length,
                            struct weir_error *err) WEIR_MUST_CHECK;
struct weir_cell *weir_fingerprints_cell(struct weir_fingerprints *store);

#ifdef __cplusplus
}
#endif
