/* Start: state from the newest snapshot and the records after it, positions for the sources, and
 * what each sink still owes the ledger. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "lake/store/open.h"
#include "pipeline/internal.h"

enum { ORPHANS_MAX = 32 };

struct recovering {
    struct weir_pipeline *p;
    struct weir_cell *cells[CELLS_MAX];
    int32_t cell_count;
    char *effect_names[WEIR_COMMIT_MAX_SINKS + ORPHANS_MAX]; /* sinks that occur in records */
    int32_t effect_name_count;
    int32_t sink; /* whose effects are being queued */
    bool dropped_state;
};

static int apply_image(struct recovering *r, struct weir_span table, struct weir_span bytes,
                       struct weir_error *err) {
    for (int32_t i = 0; i < r->cell_count; i++) {
        struct weir_cell *cell = r->cells[i];
        if (strlen(cell->name) == table.size && memcmp(cell->name, table.data, table.size) == 0) {
            return cell->ops->apply(cell->self, bytes.data, bytes.size, err);
        }
    }
    if (!r->dropped_state) {
        r->dropped_state = true;
        weir_log_warn("pipeline",
                      "recorded state of %.*s belongs to no declaration any more and "
                      "is dropped",
                      (int)table.size, (const char *)table.data);
    }
    return WEIR_OK;
}

static int slice(void *context, struct weir_span table, struct weir_span bytes,
                 struct weir_error *err) {
    return apply_image(context, table, bytes, err);
}

static int remember_sink(struct recovering *r, struct weir_span name) {
    for (int32_t i = 0; i < r->effect_name_count; i++) {
        if (strlen(r->effect_names[i]) == name.size &&
            memcmp(r->effect_names[i], name.data, name.size) == 0) {
            return WEIR_OK;
        }
    }
    if (r->effect_name_count == WEIR_COMMIT_MAX_SINKS + ORPHANS_MAX) {
        return WEIR_E_LIMIT;
    }
    char *copy = strndup((const char *)name.data, name.size);
    if (copy == NULL) {
        return WEIR_E_NOMEM;
    }
    r->effect_names[r->effect_name_count++] = copy;
    return WEIR_OK;
}

static int apply_record(void *context, const struct weir_record_view *record,
                        struct weir_error *err) {
    struct recovering *r = context;
    struct weir_named_blob blob;
    struct weir_section_iterator images = weir_section_iterate(record->images);
    while (weir_image_next(&images, &blob)) {
        int rc = apply_image(r, blob.name, blob.body, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    struct weir_section_iterator effects = weir_section_iterate(record->effects);
    while (weir_effect_next(&effects, &blob)) {
        int rc = remember_sink(r, blob.name);
        if (rc != WEIR_OK) {
            return weir_error_set(err, rc, "recovery: too many sinks in the ledger");
        }
    }
    return WEIR_OK;
}

static int queue_effect(void *context, uint64_t record, uint64_t kind, struct weir_span body,
                        struct weir_error *err) {
    struct recovering *r = context;
    if (kind != SINK_EFFECT_DELTA_APPEND) {
        return weir_error_set(err, WEIR_E_VERSION,
                              "record %llu holds an effect of kind %llu that this version does "
                              "not know; start the newer version",
                              (unsigned long long)record, (unsigned long long)kind);
    }
    void *copy = malloc(body.size + 1);
    if (copy == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "recovery: out of memory");
    }
    memcpy(copy, body.data, body.size);
    weir_sinks_apply(r->p->sinks, r->sink, record, copy, body.size, true, free, copy);
    return WEIR_OK;
}

/* --- sinks ------------------------------------------------------------------------------------ */

static bool stopping(void *context) {
    struct weir_pipeline *p = context;
    return atomic_load(&p->failed);
}

static int add_sink(struct weir_pipeline *p, const char *name, struct weir_schema *schema,
                    const struct weir_plan_sink *into, struct weir_error *err) {
    struct weir_sink_partition partitions[16];
    int32_t count = into != NULL ? into->partition_count : 0;
    for (int32_t i = 0; i < count && i < 16; i++) {
        partitions[i].column = into->partition_by[i].column;
        partitions[i].kind = (unsigned)into->partition_by[i].kind;
    }
    struct weir_sink_config config = {
        .kind = "delta",
        .name = name,
        .root = p->plan->storage_root,
        .store = p->remote != NULL ? p->remote : p->options.store,
        .application_id = p->application_id,
        .schema = schema,
        .partitions = partitions,
        .partition_count = count,
        .lazy = strncmp(name, "quarantine.", 11) == 0,
        .memory_bytes = (size_t)48 << 20,
        .stop = stopping,
        .stop_context = p,
    };
    return weir_sinks_add(p->sinks, &config, err);
}

int pipeline_bind_sinks(struct weir_pipeline *p, struct weir_graph *graph, struct weir_error *err) {
    for (int32_t i = 0; i < weir_graph_dataset_count(graph); i++) {
        struct weir_dataset *dataset = weir_graph_dataset(graph, i);
        dataset->sink = NULL;
        if (dataset->into == NULL || !dataset->into->present) {
            continue;
        }
        int32_t found = -1;
        for (int32_t s = 0; s < weir_sinks_count(p->sinks); s++) {
            if (strcmp(weir_sinks_name(p->sinks, s), dataset->name) == 0) {
                found = s;
            }
        }
        if (found < 0) {
            int rc = add_sink(p, dataset->name, dataset->schema, dataset->into, err);
            if (rc != WEIR_OK) {
                return rc;
            }
            found = weir_sinks_count(p->sinks) - 1;
        }
        dataset->sink = (void *)((uintptr_t)found + 1); /* number + 1; NULL means none */
    }
    return WEIR_OK;
}

static void sink_failed(void *context, const struct weir_error *err) {
    struct weir_pipeline *p = context;
    pipeline_fail(p, err);
    if (p->commit != NULL) {
        weir_commit_fail(p->commit, err);
    }
}

/* Worker: post to the commit room. */
static void sink_sealed(void *context, int32_t sink, uint64_t epoch, void *effect, size_t size) {
    struct weir_pipeline *p = context;
    struct weir_error err = {0};
    int rc = WEIR_OK;
    if (size > 0) {
        struct weir_blob blob = {effect, size, free, effect};
        rc = weir_commit_post_effect(p->commit, epoch, (uint32_t)sink, SINK_EFFECT_DELTA_APPEND,
                                     &blob, &err);
    } else {
        free(effect);
    }
    if (rc == WEIR_OK) {
        rc = weir_commit_effects_complete(p->commit, epoch, (uint32_t)sink, &err);
    }
    if (rc != WEIR_OK) {
        sink_failed(p, &err); /* the epoch will never be complete: who waits for it must hear */
    }
}

static void sink_applied(void *context, int32_t sink, uint64_t epoch) {
    struct weir_pipeline *p = context;
    weir_commit_sink_done(p->commit, (uint32_t)sink, epoch);
    weir_signal_raise(&p->signal);
}

static void commit_failed(void *context, const struct weir_error *err) {
    pipeline_fail(context, err);
}

static void commit_durable(void *context, uint64_t epoch) {
    struct weir_pipeline *p = context;
    (void)epoch;
    weir_signal_raise(&p->signal);
}

static void release_blob(void *owner) {
    struct weir_blob *blob = owner;
    weir_blob_release(blob);
    free(blob);
}

static void sink_durable(void *context, uint64_t epoch, struct weir_effect *effects, size_t count) {
    struct sink_route *route = context;
    if (count == 0) {
        weir_sinks_apply(route->pipeline->sinks, route->sink, epoch, NULL, 0, false, NULL, NULL);
        return;
    }
    /* One effect a sink and epoch; its bytes stay with the blob until applied. */
    struct weir_blob *blob = malloc(sizeof(*blob));
    if (blob == NULL) {
        struct weir_error err;
        weir_error_set(&err, WEIR_E_NOMEM, "commit: out of memory");
        weir_blob_release(&effects[0].body);
        pipeline_fail(route->pipeline, &err);
        return;
    }
    *blob = effects[0].body;
    weir_sinks_apply(route->pipeline->sinks, route->sink, epoch, blob->data, blob->size, false,
                     release_blob, blob);
}

/* --- the order of a start --------------------------------------------------------------------- */

static int open_durable(struct weir_pipeline *p, struct weir_error *err) {
    weir_plan_ledger_path(p->plan, p->ledger_path, sizeof(p->ledger_path));
    snprintf(p->snapshot_path, sizeof(p->snapshot_path), "%s/snapshots", p->ledger_path);
    struct weir_ledger_options options = {
        .path = p->ledger_path,
        .files = p->options.files,
        .create = true,
        .segment_bytes = (uint64_t)(p->plan->ledger_segment_bytes + 4095) & ~UINT64_C(4095),
        .now_us = p->clock_us,
    };
    int rc = weir_ledger_open(&options, &p->ledger, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    struct weir_snapshots_options snapshot_options = {
        .path = p->snapshot_path,
        .files = p->options.files,
        .identity = p->ledger->identity,
    };
    char lineage[33];
    weir_id_format(p->ledger->identity.lineage, lineage);
    snprintf(p->application_id, sizeof(p->application_id), "weir/%s/%s", p->plan->pipeline,
             lineage);
    return weir_snapshots_open(&snapshot_options, &p->snapshots, err);
}

static int open_sources(struct weir_pipeline *p, struct weir_recovery *recovery,
                        struct weir_error *err) {
    p->source_count = p->plan->source_count;
    p->sources = calloc((size_t)p->source_count + 1, sizeof(*p->sources));
    if (p->sources == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    for (int32_t s = 0; s < p->source_count; s++) {
        const struct weir_plan_source *plan = &p->plan->sources[s];
        char *options = plan->connector_options != NULL
                            ? json_dumps(plan->connector_options, JSON_COMPACT)
                            : NULL;
        char *decoder_options =
            plan->decoder_options != NULL ? json_dumps(plan->decoder_options, JSON_COMPACT) : NULL;
        struct weir_source_config config = {
            .name = plan->name,
            .kind = plan->connector,
            .options_json = options,
            .decoder = plan->decoder,
            .decoder_options_json = decoder_options,
            .schema = plan->schema,
            .pool = p->source_pool,
            .signal = &p->signal,
            .until_end = p->options.until_end,
        };
        struct source_state *source = &p->sources[s];
        int rc = weir_source_create(&source->source, &config, err);
        free(options);
        free(decoder_options);
        if (rc != WEIR_OK) {
            return weir_error_wrap(err, "source %s", plan->name);
        }
        struct weir_position positions[WEIR_SOURCE_PARTITIONS_MAX] = {0};
        struct weir_keyed_entry entries[WEIR_SOURCE_PARTITIONS_MAX];
        int32_t known = 0;
        for (int32_t i = 0; i < WEIR_SOURCE_PARTITIONS_MAX; i++) {
            char key[256];
            snprintf(key, sizeof(key), "%s/%d", plan->name, i);
            if (weir_recovery_find(recovery, WEIR_SECTION_POSITIONS, key, strlen(key),
                                   &entries[i])) {
                positions[i].bytes = entries[i].body.data;
                positions[i].size = (uint32_t)entries[i].body.size;
                known = i + 1;
            }
        }
        rc = weir_source_open(source->source, positions, known, err);
        if (rc != WEIR_OK) {
            return weir_error_wrap(err, "source %s", plan->name);
        }
        source->partition_count = weir_source_partitions(source->source);
        source->partitions =
            calloc((size_t)source->partition_count + 1, sizeof(*source->partitions));
        if (source->partitions == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
        }
        for (int32_t i = 0; i < source->partition_count; i++) {
            struct partition_state *partition = &source->partitions[i];
            snprintf(partition->name, sizeof(partition->name), "%s/%d", plan->name, i);
            if (i < known && positions[i].size > 0) {
                partition->position = malloc(positions[i].size);
                if (partition->position == NULL) {
                    return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
                }
                memcpy(partition->position, positions[i].bytes, positions[i].size);
                partition->position_size = positions[i].size;
            }
        }
    }
    return WEIR_OK;
}

static int start_sinks(struct weir_pipeline *p, struct recovering *r,
                       struct weir_recovery *recovery, struct weir_error *err) {
    struct weir_sinks_options sink_options = {
        .hooks = {.context = p,
                  .sealed = sink_sealed,
                  .applied = sink_applied,
                  .failed = sink_failed},
    };
    int rc = WEIR_OK;
    if (p->options.store == NULL && weir_store_is_remote(p->plan->storage_root)) {
        rc = weir_store_open_url(p->plan->storage_root, p->plan->storage_options, true, &p->remote,
                                 err);
    }
    if (rc == WEIR_OK && p->remote != NULL) {
        weir_store_set_stop(p->remote, stopping, p);
    }
    if (rc == WEIR_OK) {
        rc = weir_sinks_create(&sink_options, &p->sinks, err);
    }
    if (rc == WEIR_OK) {
        rc = pipeline_bind_sinks(p, p->graph, err);
    }
    /* Datasets the rules no longer write may still be owed effects of old records. */
    for (int32_t i = 0;
         rc == WEIR_OK && i < r->effect_name_count && p->orphan_count < WEIR_COMMIT_MAX_SINKS;
         i++) {
        bool known = false;
        for (int32_t s = 0; s < weir_sinks_count(p->sinks); s++) {
            known |= strcmp(weir_sinks_name(p->sinks, s), r->effect_names[i]) == 0;
        }
        if (!known) {
            p->orphans[p->orphan_count] = r->effect_names[i];
            r->effect_names[i] = NULL;
            rc = add_sink(p, p->orphans[p->orphan_count++], NULL, NULL, err);
        }
    }
    struct weir_commit_options commit_options = {
        .ledger = p->ledger,
        .keep_us = p->plan->ledger_keep_us,
        .context = p,
        .durable = commit_durable,
        .failed = commit_failed,
    };
    if (rc == WEIR_OK) {
        rc = weir_commit_create(&commit_options, &p->commit, err);
    }
    uint64_t markers[WEIR_COMMIT_MAX_SINKS] = {0};
    if (rc == WEIR_OK) {
        weir_commit_set_snapshot_begin(p->commit, weir_snapshots_oldest_begin(p->snapshots));

        rc = weir_sinks_start(p->sinks, markers, err);
    }
    int32_t count = rc == WEIR_OK ? weir_sinks_count(p->sinks) : 0;
    for (int32_t s = 0; rc == WEIR_OK && s < count; s++) {
        p->routes[s] = (struct sink_route){p, s};
        uint64_t done = 0;
        rc = weir_recovery_done(recovery, weir_sinks_name(p->sinks, s), markers[s], &done, err);
        if (rc != WEIR_OK) {
            break;
        }
        struct weir_commit_sink sink = {
            .name = weir_sinks_name(p->sinks, s),
            .marker = done,
            .held = markers[s],
            .context = &p->routes[s],
            .durable = sink_durable,
        };
        uint32_t index;
        rc = weir_commit_add_sink(p->commit, &sink, &index, err);
    }
    for (int32_t s = 0; rc == WEIR_OK && s < count; s++) {
        r->sink = s;
        rc = weir_recovery_effects(recovery, weir_sinks_name(p->sinks, s), markers[s], queue_effect,
                                   r, err);
    }
    return rc;
}

int pipeline_recover(struct weir_pipeline *p, struct weir_error *err) {
    struct recovering r = {.p = p};
    struct weir_recovery *recovery = NULL;
    int rc = open_durable(p, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    r.cell_count = weir_graph_cells(p->graph, r.cells, CELLS_MAX);
    struct weir_recovery_hooks hooks = {.context = &r, .slice = slice, .apply = apply_record};
    int64_t start = weir_clock_mono_ns();
    rc = weir_recover(p->ledger, p->snapshots, &hooks, &recovery, err);
    if (rc == WEIR_OK) {
        rc = weir_graph_restore(p->graph, err);
    }
    struct weir_keyed_entry saved;
    if (rc == WEIR_OK && weir_recovery_find(recovery, WEIR_SECTION_COUNTERS, "graph", 5, &saved)) {
        rc = weir_graph_load(p->graph, saved.body.data, saved.body.size, err);
    }
    if (rc == WEIR_OK) {
        p->epoch = weir_recovery_last(recovery) + 1;
        int64_t sealed_at = weir_recovery_sealed_at_us(recovery);
        p->clock_us = sealed_at > p->clock_us ? sealed_at : p->clock_us;
        rc = start_sinks(p, &r, recovery, err);
    }
    if (rc == WEIR_OK) {
        rc = open_sources(p, recovery, err);
    }
    if (rc == WEIR_OK && p->epoch > 1) {
        weir_log_info("pipeline", "recovered at epoch %llu: %llu records in %.0f ms",
                      (unsigned long long)p->epoch - 1,
                      (unsigned long long)weir_recovery_records_applied(recovery),
                      (double)(weir_clock_mono_ns() - start) / 1e6);
    }
    weir_recovery_destroy(recovery);
    for (int32_t i = 0; i < r.effect_name_count; i++) {
        free(r.effect_names[i]);
    }
    return rc;
}
