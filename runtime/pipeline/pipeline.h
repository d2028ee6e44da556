#pragma once
/* A running pipeline: one instance of one rule set in this process, from recovery to stop. The
 * thread that calls weir_pipeline_run is the loop. */
#include <stdint.h>

#include "core/error.h"
#include "pipeline/freshness.h"
#include "pipeline/graph/graph.h"
#include "script/script.h"
#include "sink/sink.h"

struct weir_pipeline;
struct rebuilding;
struct weir_files;
struct weir_store;

struct weir_pipeline_progress { /* a moment of a run, for the terminal and metrics */
    double seconds;
    int64_t events;
    uint64_t epochs;      /* durable */
    int64_t watermark_us; /* WEIR_WATERMARK_NONE before the first */
    int64_t clock_us;
    int64_t commit_p50_us; /* seal to durable */
    int64_t commit_max_us;
    struct freshness_of applied;   /* rows until what they change is in state */
    struct freshness_of committed; /* until it is in every table */
    int64_t seal_max_us;           /* longest pause of the loop at a seal */
    int64_t seal_max_cpu_us; /* of its own doing: what the machine did meanwhile is left out */
    int64_t turn_max_us;     /* longest it was away from its duties */
    int64_t turn_max_cpu_us; /* of its own doing */
    const char *turn_max_in; /* what took most of the longest */
    int64_t resident_bytes;
    int64_t resident_peak_bytes;
    int64_t data_bytes; /* batches in flight */
    int64_t state_bytes;
    int64_t state_keys;
    int64_t loop_cpu_ns;
    int64_t source_cpu_ns;
    int64_t encode_cpu_ns;
    int64_t apply_cpu_ns;
    int64_t blocked_ns;             /* the loop waited for sinks */
    struct weir_sink_upkeep upkeep; /* of the tables, by this process */
    uint64_t mallocs;               /* pool misses */
    struct weir_graph *graph;       /* its datasets and counters */
    const char *rule_set;
    const char *note; /* last reload's outcome, or NULL */
};

struct weir_pipeline_options {
    const char *path; /* pipeline file; relative paths in it start at the working directory */
    const struct weir_script_setting *settings;
    size_t setting_count;
    bool until_end;
    bool past_failed;
    bool watch;                /* reload rules when their files change */
    const char *self_path;     /* this binary, for the child that checks a reload; NULL: no specs */
    int64_t progress_every_ms; /* 0: never */
    void (*progress)(void *context, const struct weir_pipeline_progress *progress);
    void (*message)(void *context,
                    const char *text); /* reload outcomes and the like; may be NULL */
    /* Twice a second, on the loop: for metrics. May be NULL. */
    void (*observe)(void *context, struct weir_pipeline *pipeline);
    void *context;
    /* For tests that cut the power: disks other than the system's (borrowed, NULL: the system's),
     * and epochs shorter than a rule set may ask for (0: its own). */
    struct weir_files *files; /* of ledger and snapshots */
    struct weir_store *store; /* of tables */
    int64_t commit_every_us;
    const struct rebuilding *rebuilding; /* this one makes a dataset anew (rebuild.h); else NULL */
};

/* Loads and checks the rules, opens the ledger, recovers. On WEIR_E_CONFIG from the rules `report`
 * holds the diagnostics. */
int weir_pipeline_create(const struct weir_pipeline_options *options, struct weir_pipeline **out,
                         struct weir_buffer *report, struct weir_buffer *report_json,
                         struct weir_error *err) WEIR_MUST_CHECK;
/* The loop, until bounded sources end or weir_pipeline_stop. Everything sealed is durable and
 * visible on return. WEIR_E_DATA: an expectation with action `fail`. */
int weir_pipeline_run(struct weir_pipeline *pipeline, struct weir_error *err) WEIR_MUST_CHECK;
/* Any thread or signal handler: ends the run after a seal. */
void weir_pipeline_stop(struct weir_pipeline *pipeline);
/* Any thread or signal handler: goes back to the rule set before the last reload at the next seal.
 */
void weir_pipeline_rollback(struct weir_pipeline *pipeline);
/* The run ended because somebody asked for it to begin again with the rules on disk. */
bool weir_pipeline_restarts(const struct weir_pipeline *pipeline);
void weir_pipeline_progress(struct weir_pipeline *pipeline, struct weir_pipeline_progress *out);
const struct weir_plan *weir_pipeline_plan(const struct weir_pipeline *pipeline);
/* An open source, until the pipeline is destroyed. */
/* What commands of that source were answered; NULL where it does not reply. */
struct weir_replies;
struct weir_replies *weir_pipeline_replies(const struct weir_pipeline *pipeline, int32_t source);
struct weir_source *weir_pipeline_source(const struct weir_pipeline *pipeline, int32_t index);
/* Before the run: where the process listens, for status. */
void weir_pipeline_set_url(struct weir_pipeline *pipeline, const char *url);
/* In Prometheus' text format; loop thread (observe). */
int weir_pipeline_metrics(struct weir_pipeline *pipeline, struct weir_buffer *out) WEIR_MUST_CHECK;
/* The one JSON object `weir run --until-end --json` ends with. */
int weir_pipeline_summary(struct weir_pipeline *pipeline, struct weir_buffer *out) WEIR_MUST_CHECK;
void weir_pipeline_destroy(struct weir_pipeline *pipeline);
