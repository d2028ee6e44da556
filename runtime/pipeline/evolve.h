#pragma once
/* Columns that change while the pipeline runs. A writer of a registry brings fields the columns
 * lack, or a schema file gains some: the rule set is loaded anew (reload.c) with the wider columns
 * and takes over at a seal. Batches that lanes decoded before are widened here. Sources only grow
 * live: columns are added, may be null, or get a wider type where their table takes it; what rules
 * make may lose columns too, which their table keeps. The table's new columns travel with the first
 * files that hold them. */
#include "pipeline/internal.h"

/* Columns that come from outside the files: those a registry holds. */
struct evolve_outside {
    char *name; /* of the source */
    char *kind;
    char *options;
    char *decoder;
    char *decoder_options;
    struct weir_schema *known; /* those that run */
    struct weir_schema *fresh; /* what evolve_ask found, or NULL */
};

bool evolve_any_outside(const struct weir_plan *plan);
int evolve_outside_of(const struct weir_plan *plan, struct evolve_outside **out, int32_t *count,
                      struct weir_error *err) WEIR_MUST_CHECK;
void evolve_outside_free(struct evolve_outside *list, int32_t count);
/* Any thread; blocks on the registry. A column that the newest schema has no more stays. */
int evolve_ask(struct evolve_outside *list, int32_t count, struct weir_error *err) WEIR_MUST_CHECK;

/* Loop: whether the sources, or the columns of a written dataset, may change so while they run. */
int evolve_check_source(struct weir_source *source, const struct weir_plan_source *before,
                        const struct weir_plan_source *after,
                        struct weir_error *err) WEIR_MUST_CHECK;
int evolve_check_dataset(struct weir_pipeline *p, const struct weir_dataset *before,
                         const struct weir_dataset *after, struct weir_error *err) WEIR_MUST_CHECK;
/* Loop, right after a seal, sinks bound: what `after` and its plan have more goes to sinks and
 * sources. */
int evolve_apply(struct weir_pipeline *p, struct weir_graph *after, const struct weir_plan *plan,
                 struct weir_error *err) WEIR_MUST_CHECK;
/* A batch decoded into fewer columns than the source has gets the others, by default or null, and
 * those of a narrower type are widened. */
int evolve_batch(struct weir_pool *pool, const struct weir_plan_source *source,
                 struct weir_batch **batch, struct weir_error *err) WEIR_MUST_CHECK;

/* What the ledger keeps of columns from outside, so that an epoch can be replayed under those it
 * had: in the counters, under EVOLVE_KEY and the source's name, a JSON array of columns. Loop. */
#define EVOLVE_KEY "columns/"
int evolve_put(struct weir_pipeline *p, struct weir_record *record,
               struct weir_error *err) WEIR_MUST_CHECK;
/* One reference for the caller. */
int evolve_parse(const void *text, size_t size, struct weir_schema **out,
                 struct weir_error *err) WEIR_MUST_CHECK;
