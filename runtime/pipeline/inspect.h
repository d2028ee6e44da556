#pragma once
/* State of a pipeline as people read it: entry by entry as JSON, after any epoch the ledger still
 * holds. Reads snapshots and records only, so the pipeline may be running or stopped. Types are
 * those of the rules on disk. */
#include "commit/record.h"
#include "core/error.h"
#include "script/script.h"

struct weir_inspect_options {
    const char *path;
    const struct weir_script_setting *settings;
    size_t setting_count;
    uint64_t epoch; /* the state after it; 0: after the last */
};

struct weir_inspection;

int weir_inspect(const struct weir_inspect_options *options, struct weir_inspection **out,
                 struct weir_error *err) WEIR_MUST_CHECK;
void weir_inspection_close(struct weir_inspection *inspection);
uint64_t weir_inspection_epoch(const struct weir_inspection *inspection);

struct weir_inspected {
    const char *name; /* "<dataset>/<cell>" */
    const char *what; /* NULL: of use to the runtime only, and not shown */
    size_t keys;
    size_t bytes; /* in memory */
};
/* The index-th cell; false: there are no more. */
bool weir_inspection_cell(const struct weir_inspection *inspection, int32_t index,
                          struct weir_inspected *out);
/* Is the cell the one asked for, or of the dataset asked for? NULL asks for all. */
bool weir_inspection_wanted(const char *cell, const char *asked);

/* An entry; key and value are JSON objects, borrowed. A code other than WEIR_OK ends it. */
typedef int weir_inspect_entry(void *context, const char *cell, struct weir_span key,
                               struct weir_span value, struct weir_error *err);
/* Every entry of a dataset ("gold.x"), a cell ("gold.x/window") or all (NULL). */
int weir_inspection_each(struct weir_inspection *inspection, const char *asked,
                         weir_inspect_entry *entry, void *context,
                         struct weir_error *err) WEIR_MUST_CHECK;
/* What a dedup keeps of a key, whose columns' values are given as text. WEIR_E_NOTFOUND: the
 * dataset has no dedup, or one by another number of columns. */
int weir_inspection_fingerprint(struct weir_inspection *inspection, const char *dataset,
                                const char *const *values, int32_t count, char out[33],
                                struct weir_error *err) WEIR_MUST_CHECK;
