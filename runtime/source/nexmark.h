#pragma once
/* Events of the Nexmark benchmark (Tucker et al., "NEXMark: A Benchmark for Queries over Data
 * Streams", with the proportions of Apache Beam's and Flink's generators): of 50 events 1 is a new
 * person, 3 are new auctions, 46 are bids. Half of the bids go to a hot auction, three of four
 * come from a hot bidder; a hundred auctions are open and a thousand persons active at a time.
 * Event n of a seed is a pure function of both. */
#include "batch/builder.h"
#include "batch/schema.h"

struct nexmark_settings {
    uint64_t seed;
    int64_t start_us;
    double per_second; /* events a second of event time */
    uint64_t late;     /* of 2^32: share of events that are late */
    int64_t late_us;   /* by up to so much */
};

/* event_type (0 person, 1 auction, 2 bid), the three as structs of which one is not null, and
 * dateTime. One reference; NULL without memory. */
struct weir_schema *nexmark_schema(void);
/* Appends events n to n + rows - 1 to the first columns. WEIR_E_LIMIT when the batch is full: then
 * it is of no use. */
int nexmark_put(struct weir_column_builder *columns, const struct nexmark_settings *settings,
                uint64_t n, int32_t rows) WEIR_MUST_CHECK;
