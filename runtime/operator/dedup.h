#pragma once
/* dedup = { by = …, within = … }: keys of a batch, looked up in a fingerprint store
 * (state/fingerprint.h holds the exact meaning). A row with a null in its key is never a duplicate
 * and never remembered. One thread (the loop). */
#include "operator/key.h"
#include "state/fingerprint.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_dedup;

struct weir_dedup_config {
    const char *declaration; /* copied */
    const struct weir_schema *input;
    const int32_t *by;
    int32_t by_count;
    int64_t within_us;
    uint32_t state_version;
    size_t max_keys;    /* 0: none */
    size_t max_bytes;   /* 0: none */
    const char *option; /* that raises the cap */
};

struct weir_dedup *weir_dedup_create(const struct weir_dedup_config *config,
                                     struct weir_error *err);
void weir_dedup_destroy(struct weir_dedup *dedup);

/* Judges rows sel[0..count) in order; times and watermarks by row. duplicate[i] by position.
 * WEIR_E_LIMIT, WEIR_E_NOMEM: stop and recover. */
int weir_dedup_feed(struct weir_dedup *dedup, const struct weir_batch *batch, const int32_t *sel,
                    int32_t count, const int64_t *times_us, const int64_t *watermark_before_us,
                    uint8_t *duplicate, struct weir_error *err) WEIR_MUST_CHECK;
/* What happens after dedup may reject a row (map, ensures); it is then not remembered, and rows of
 * the same key later in the batch must be judged as if it had never come. So, after a feed:
 *   evaluate the rows that are no duplicates; rejected[position] = 1 or 0
 *   while (settle gives fresh_count > 0): evaluate the rows at fresh[], set their rejected[]
 * settle corrects duplicate[] (either way) and the store; fresh[] (room for count) gets, ascending,
 * the positions that are no duplicates any more and were never evaluated. At the end a row leaves
 * iff !duplicate && !rejected, and exactly those are remembered. A row that has become a duplicate
 * is one, whatever its evaluation said. Free when nothing was rejected. */
int weir_dedup_settle(struct weir_dedup *dedup, const uint8_t *rejected, uint8_t *duplicate,
                      int32_t *fresh, int32_t *fresh_count, struct weir_error *err) WEIR_MUST_CHECK;
/* At a batch's end, with the dataset's watermark. */
void weir_dedup_expire(struct weir_dedup *dedup, int64_t watermark_us);

size_t weir_dedup_keys(const struct weir_dedup *dedup);
size_t weir_dedup_bytes(const struct weir_dedup *dedup);
uint64_t weir_dedup_shape(const struct weir_dedup *dedup);
/* Rows to come have the columns `as` was made for, which is of the same shape and is not used
 * again. */
void weir_dedup_follow(struct weir_dedup *dedup, struct weir_dedup *as);
struct weir_show;
void weir_dedup_show(struct weir_dedup *dedup, struct weir_show *show);
/* The key's columns, and the fingerprint of the key in a batch of one row of them. */
struct weir_schema *weir_dedup_schema(const struct weir_dedup *dedup);
int weir_dedup_fingerprint(struct weir_dedup *dedup, const struct weir_batch *row,
                           struct weir_fingerprint *out) WEIR_MUST_CHECK;
struct weir_cell *weir_dedup_cell(struct weir_dedup *dedup);

#ifdef __cplusplus
}
#endif
