#pragma once
/* How old rows are when what follows from them can be read: in state, once the loop is through with
 * their batch, and in tables, once every sink is through with their epoch. Rows count from when
 * they could have been read (weir_source_batch.due_ns), so that a loop that falls behind does not
 * hide the rows that waited for it ("coordinated omission"). Loop and sinks' threads. */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/histogram.h"

enum { FRESHNESS_EPOCHS = 256, FRESHNESS_SINKS_MAX = 64 };

struct freshness {
    pthread_mutex_t lock;
    struct weir_histogram applied; /* rows, microseconds */
    struct weir_histogram committed;
    struct freshness_epoch {
        uint64_t epoch;
        int64_t first_due_ns;
        int64_t last_due_ns;
        uint64_t rows;
    } epochs[FRESHNESS_EPOCHS]; /* by number; one that is met again before it was told is not told
                                 */
    uint64_t told;              /* epochs up to this are in every table */
    uint64_t done[FRESHNESS_SINKS_MAX];
};

struct freshness_of { /* microseconds */
    uint64_t p50, p99, p999, max;
    uint64_t rows;
};

void freshness_init(struct freshness *f);
void freshness_fini(struct freshness *f);
/* The loop is through with a batch of the open epoch. Loop thread. */
void freshness_applied(struct freshness *f, uint64_t epoch, int64_t due_ns, int32_t rows);
/* The sink, one of `count`, is through with the epoch and those before it. Any thread. */
void freshness_committed(struct freshness *f, int32_t sink, int32_t count, uint64_t epoch);
/* Any thread. */
struct freshness_of freshness_read(struct freshness *f, bool committed);
