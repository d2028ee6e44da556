#pragma once
/* A declaration's rows and state made anew from bronze, beside the pipeline that goes on with the
 * old ones, and taken over by it (docs/adr/0020).
 *
 * A *rebuild* is a pipeline of its own, with a ledger of its own in <ledger>/rebuild/<dataset>: its
 * sources are the tables that the pipeline's sources write, its nodes those the dataset stems from
 * and those that stem from the dataset, and the tables of the latter lie in a folder inside those
 * they are to replace. A start of the pipeline with the rules it was made for brings it up to the
 * last record, appends one record with its state, and exchanges the tables: that record is the
 * swap. */
#include <jansson.h>

#include "commit/recover.h"
#include "pipeline/pipeline.h"

#define REBUILD_FOLDER "rebuild"

struct weir_rebuild_options {
    const char *path; /* as of weir_pipeline_options */
    const struct weir_script_setting *settings;
    size_t setting_count;
    const char *dataset;
    void (*message)(void *context, const char *text); /* how far it is; or NULL */
    void *context;
};

struct weir_rebuild_result {
    int64_t rows; /* of bronze, read by this call */
    int64_t took_ms;
    int64_t lag_ms; /* the last pass over what had come meanwhile: how far behind it is */
    int32_t passes;
    char ledger[1024]; /* the pipeline's */
};

/* Goes on with the rebuild of a dataset, or begins it, until it is as far as bronze is. The
 * pipeline may run meanwhile. WEIR_E_CONFIG: it cannot be made from what bronze holds, and why. */
int weir_pipeline_rebuild(const struct weir_rebuild_options *options,
                          struct weir_rebuild_result *result,
                          struct weir_error *err) WEIR_MUST_CHECK;

/* --- within the room ------------------------------------------------------------------------ */

/* What a pipeline is that rebuilds. */
struct rebuilding {
    const char *dataset;        /* NULL: only what the ledger owes to tables is done */
    const char *of;             /* the pipeline's ledger */
    const char *ledger;         /* its own */
    const char *within;         /* folder inside each table */
    struct weir_script *script; /* borrowed: a process has one; NULL: its own */
};

/* One that is taken over. */
struct rebuilt {
    char dataset[256];
    char within[64];
    char path[1500];       /* <ledger>/rebuild/<dataset> */
    json_t *declarations;  /* names: those that are made anew */
    json_t *tables;        /* datasets whose tables are */
    uint64_t record;       /* the swap; 0: not written yet */
    uint64_t snapshot_end; /* the newest snapshot there was */
};

/* rebuild_plan.c. The plan of the rebuild; the caller frees *out. */
int rebuild_document(const struct rebuilding *rebuilding, const char *plan, char **out,
                     struct weir_error *err) WEIR_MUST_CHECK;
/* The declarations that are made anew with a dataset, and the tables of theirs. */
int rebuild_names(const json_t *plan, const char *dataset, json_t **declarations, json_t **tables,
                  struct weir_error *err) WEIR_MUST_CHECK;

/* rebuild.c. A rebuild's folder under a ledger, and what its manifest says; json NULL: none. */
void rebuild_path(const char *ledger, const char *dataset, char *out, size_t size);
json_t *rebuild_manifest(const char *path);
/* Everything in and under a folder of the file system. */
void rebuild_forget(const char *path);
/* One pass over what has come. rows: what each source's table has given so far, by name. */
struct rebuild_pass {
    const char *path;
    const struct weir_script_setting *settings;
    size_t setting_count;
    struct rebuilding rebuilding;
    void (*message)(void *context, const char *text);
    void *context;
    int64_t rows;    /* read by it */
    json_t *sources; /* name: rows so far; the caller's */
};
int rebuild_run(struct rebuild_pass *pass, struct weir_error *err) WEIR_MUST_CHECK;

/* rebuild_swap.c. A rebuild begins: it knows the partitions the pipeline knows. */
int rebuild_open_partitions(struct weir_pipeline *p, struct weir_error *err) WEIR_MUST_CHECK;
/* At a start, before the ledger is opened: what was rebuilt for these rules is
 * brought up to the last record and noted to be taken over. */
int rebuild_finish(struct weir_pipeline *p, struct weir_error *err) WEIR_MUST_CHECK;
/* The ledger is open: writes the record of the swap. */
int rebuild_record(struct weir_pipeline *p, struct weir_error *err) WEIR_MUST_CHECK;
/* Images of `cell` that are older than the swap; epoch 0: of the newest snapshot. */
bool rebuild_passes(const struct weir_pipeline *p, struct weir_span cell, uint64_t epoch);
/* After what the ledger says of time was loaded: what the rebuild says of its own. */
int rebuild_load(struct weir_pipeline *p, const struct weir_recovery *recovery,
                 struct weir_error *err) WEIR_MUST_CHECK;
/* The store is open, the sinks are not. */
int rebuild_exchange(struct weir_pipeline *p, struct weir_store *store,
                     struct weir_error *err) WEIR_MUST_CHECK;
void rebuild_free(struct weir_pipeline *p);
