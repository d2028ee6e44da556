#pragma once
/* Old files in a second, cheaper store: a table's data files, and their deletion vectors, are
 * copied there and the log names them by absolute URLs from then on, as the protocol allows; what
 * was in the table's folder goes with the next vacuum past the retention, as do copies that no
 * version names any more. Row order, statistics and partition values stay.
 *
 * The table remembers the place (property "weir.tierRoot"), and weir reads absolute paths below it
 * alone: a log cannot make it read any file. Spark reads them all; delta-rs, and what is built on
 * it, does not (docs/guide/maintaining.md). */
#include "lake/delta/commit.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_delta_tier_options {
    const char *root;  /* a folder, made when absent, or a URL of another store */
    const char *where; /* of partition columns (where.h), or NULL */
    int64_t before_ms; /* files written before go */
    weir_delta_stop *stop;
    void *stop_context;
};

struct weir_delta_tier_result {
    int64_t version;
    int64_t files;
    int64_t bytes;
    int64_t vectors; /* of files that moved before */
};

/* WEIR_E_SCHEMA: the table's old files lie in another place. What a killed run copied is written
 * again by the next. */
int weir_delta_tier(struct weir_delta_table *table, const struct weir_delta_tier_options *options,
                    struct weir_delta_tier_result *result, struct weir_error *err) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
