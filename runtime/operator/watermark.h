#pragma once
/* Event time by row, never by batch. Before row n a partition's watermark is max(time of its rows
 * before n) - out_of_order; the dataset's is the minimum over the partitions that are neither idle
 * nor finished, and never goes back (a partition that wakes up behind it brings late rows). A
 * partition without a row yet holds everything back until it is idle.
 *
 * Microseconds since epoch throughout; nanosecond columns round down. Clock values are the
 * recorded clock's: idleness is a function of the schedule. One thread (the loop). */
#include "batch/batch.h"
#include "core/buffer.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_WATERMARK_NONE                                                                        \
    INT64_MIN                        /* nothing is known yet: no window closes, nothing is late    \
                                      */
#define WEIR_WATERMARK_END INT64_MAX /* all input has been seen: everything closes */

enum weir_time_flag {
    WEIR_TIME_OK = 0,
    WEIR_TIME_NULL = 1,  /* quarantine, reason `time` */
    WEIR_TIME_FUTURE = 2 /* beyond clock + max_ahead: quarantine, reason `future` */
};

struct weir_watermark;

struct weir_watermark_config {
    const char *dataset;     /* copied; for `why` */
    int64_t out_of_order_us; /* >= 0 */
    int64_t idle_us;         /* 0: partitions never go idle */
    int64_t max_ahead_us;    /* < 0: no limit */
};

struct weir_watermark *weir_watermark_create(const struct weir_watermark_config *config,
                                             struct weir_error *err);
void weir_watermark_destroy(struct weir_watermark *watermark);

/* The partition's number: found by name, or added (state restored from bytes keeps names, so
 * numbers after a restart may differ). clock_us starts its idle time. -1 without memory. */
int32_t weir_watermark_partition(struct weir_watermark *watermark, const char *name,
                                 int64_t clock_us);

/* The number of one that is known, or -1. */
int32_t weir_watermark_find(const struct weir_watermark *watermark, const char *name);

/* Takes rows 0..rows of a batch of one partition, in order: all rows that have a time move the
 * watermark (before `where`). time: a timestamp or date column. By row: times_us[] (0 for null),
 * watermark_before_us[] (the dataset's), flags[] (enum weir_time_flag).
 * WEIR_E_BUG for a column of another type or dictionary-encoded. */
int weir_watermark_feed(struct weir_watermark *watermark, int32_t partition, int64_t clock_us,
                        const struct weir_column *time, int32_t rows, int64_t *times_us,
                        int64_t *watermark_before_us, uint8_t *flags) WEIR_MUST_CHECK;
/* As feed, for times already read (models that read another dataset's event time). */
void weir_watermark_feed_times(struct weir_watermark *watermark, int32_t partition,
                               int64_t clock_us, const int64_t *times_us, int32_t rows,
                               int64_t *watermark_before_us, uint8_t *flags);
/* Reads a timestamp or date column into microseconds; null_flags[i] = 1 for null. */
int weir_time_read(const struct weir_column *time, int32_t rows, int64_t *times_us,
                   uint8_t *null_flags) WEIR_MUST_CHECK;

/* Recorded clock moves: partitions go idle. True when the dataset's watermark moved. */
bool weir_watermark_tick(struct weir_watermark *watermark, int64_t clock_us);
/* No row to come is older than this, of no partition: true when the dataset's watermark moved. */
bool weir_watermark_reach(struct weir_watermark *watermark, int64_t time_us);
/* A partition the runtime itself holds back (alignment) is not getting idle. */
void weir_watermark_block(struct weir_watermark *watermark, int32_t partition, bool blocked,
                          int64_t clock_us);
/* Nothing was taken from anybody for the last held_us (backpressure, a restart): that is nobody's
 * idleness. None is blocked any more. */
void weir_watermark_held(struct weir_watermark *watermark, int64_t held_us, int64_t clock_us);
/* The partition has ended: it holds nothing back any more. */
void weir_watermark_finish(struct weir_watermark *watermark, int32_t partition);

/* The partition begins anew: it holds everything back until it has a row. */
void weir_watermark_renew(struct weir_watermark *watermark, int32_t partition, int64_t clock_us);

/* Some partition is neither idle nor finished, or none is known yet. */
bool weir_watermark_waits(const struct weir_watermark *watermark);
int64_t weir_watermark_now(const struct weir_watermark *watermark); /* the dataset's */
bool weir_watermark_is_idle(const struct weir_watermark *watermark, int32_t partition);
int64_t weir_watermark_of(const struct weir_watermark *watermark, int32_t partition);
/* One sentence: which partition holds the dataset's watermark, at what time, since when. */
int weir_watermark_why(const struct weir_watermark *watermark, int64_t clock_us,
                       struct weir_buffer *out) WEIR_MUST_CHECK;

/* All partitions, for the ledger record (docs/formats/state.md). load replaces what was there;
 * WEIR_E_CORRUPT when damaged. */
int weir_watermark_save(const struct weir_watermark *watermark,
                        struct weir_buffer *out) WEIR_MUST_CHECK;
int weir_watermark_load(struct weir_watermark *watermark, const uint8_t *bytes, size_t length,
                        struct weir_error *err) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
