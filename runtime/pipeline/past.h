#pragma once
/* Private to replay.c and inspect.c: a pipeline as it was before an epoch, from its ledger and
 * snapshots, which are read only and may be a live instance's. */
#include "commit/ledger.h"
#include "commit/record.h"
#include "pipeline/graph/graph.h"
#include "pipeline/graph/plan.h"
#include "pipeline/internal.h"
#include "script/script.h"

struct past_position {
    char *key;
    uint8_t *bytes;
    size_t size;
};

/* Columns of a source that come from outside, as the ledger has them. */
struct past_columns {
    char *source;
    struct weir_schema *now;    /* of the epoch */
    struct weir_schema *before; /* those it had before these, or NULL */
};

struct past_options {
    const char *path; /* of the pipeline file; borrowed, as the settings */
    const struct weir_script_setting *settings;
    size_t setting_count;
    uint64_t epoch; /* 1 .. the last + 1; 0: that */
    struct weir_graph_callbacks callbacks;
};

struct past {
    struct past_options options;
    struct weir_script *script;
    struct weir_rule_set *rule_set;
    struct weir_plan *plan; /* of the rules on disk, with the columns of then */
    struct weir_pool *pool;
    struct weir_graph *graph;
    struct weir_ledger *ledger;
    struct weir_ledger_cursor *cursor;
    struct weir_cell *cells[CELLS_MAX];
    int32_t cell_count;
    struct past_position *positions;
    size_t position_count;
    struct past_columns *columns;
    size_t column_count;
};

/* Rules, ledger and an empty graph. Whatever comes of it, past_close. WEIR_E_NOTFOUND: the ledger
 * does not hold the epoch. */
int past_open(struct past *p, const struct past_options *options,
              struct weir_error *err) WEIR_MUST_CHECK;
/* The state; *record is that of the epoch itself, where it is *there, good until past_close. */
int past_load(struct past *p, struct weir_record_view *record, bool *there,
              struct weir_error *err) WEIR_MUST_CHECK;
void past_close(struct past *p);
/* The error that says which epochs there are. */
int past_out_of_reach(const struct past *p, struct weir_error *err);
int past_keep_position(struct past *p, const struct weir_keyed_entry *entry) WEIR_MUST_CHECK;
