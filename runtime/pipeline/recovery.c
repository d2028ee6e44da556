/* Start: state from the newest snapshot and the records after it, positions for the sources, and
 * what each sink still owes the ledger. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/block.h"
#include "core/clock.h"
#include "core/log.h"
#include "lake/store/open.h"
#include "pipeline/internal.h"
#include "pipeline/only.h"
#include "pipeline/rebuild.h"

/* Effects that are durable and not applied stay in memory: messages for Kafka are long. */
enum { ORPHANS_MAX = 32, LAG_BYTES_MAX = 64 << 20 };

struct recovering {
    struct weir_pipeline *p;
    struct weir_cell *cells[CELLS_MAX];
    int32_t cell_count;
    struct written { /* sinks that occur in records */
        char *name;
        struct weir_plan_sink into; /* as the newest effect says */
        uint64_t last;              /* the newest record with an effect */
    } written[WEIR_COMMIT_MAX_SINKS + ORPHANS_MAX];
    int32_t written_count;
    int32_t sink; /* whose effects are being queued */
    bool dropped_state;
};

/* epoch: of the record; 0: of the snapshot. */
static int apply_image(struct recovering *r, struct weir_span table, struct weir_span bytes,
                       uint64_t epoch, struct weir_error *err) {
    if (rebuild_passes(r->p, table, epoch)) {
        return WEIR_OK;
    }
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
    return apply_image(context, table, bytes, 0, err);
}

static struct written *find_written(struct recovering *r, struct weir_span name) {
    for (int32_t i = 0; i < r->written_count; i++) {
        if (strlen(r->written[i].name) == name.size &&
            memcmp(r->written[i].name, name.data, name.size) == 0) {
            return &r->written[i];
        }
    }
    if (r->written_count == WEIR_COMMIT_MAX_SINKS + ORPHANS_MAX) {
        return NULL;
    }
    struct written *written = &r->written[r->written_count];
    written->name = strndup((const char *)name.data, name.size);
    r->written_count += written->name != NULL;
    return written->name != NULL ? written : NULL;
}

/* An effect for Kafka says itself how to reach its topic; a table is found by its name. */
static int remember_sink(struct recovering *r, uint64_t record, const struct weir_named_blob *blob,
                         struct weir_error *err) {
    struct written *written = find_written(r, blob->name);
    if (written == NULL) {
        return weir_error_set(err, WEIR_E_LIMIT, "recovery: too many sinks in the ledger");
    }
    written->last = record;
    written->into.kind = blob->kind == WEIR_SINK_EFFECT_WEBHOOK ? "webhook" : NULL;
    if (blob->kind != WEIR_SINK_EFFECT_KAFKA || blob->body.size <= WEIR_SINK_HEAD_BYTES) {
        return WEIR_OK;
    }
    const char *options;
    size_t size;
    int rc = weir_sink_kafka_options(blob->body.data + WEIR_SINK_HEAD_BYTES,
                                     blob->body.size - WEIR_SINK_HEAD_BYTES, &options, &size, err);
    if (rc == WEIR_OK) {
        free(written->into.options_json);
        written->into.kind = "kafka";
        written->into.options_json = strndup(options, size);
        if (written->into.options_json == NULL) {
            rc = weir_error_set(err, WEIR_E_NOMEM, "recovery: out of memory");
        }
    }
    return rc;
}

static int apply_record(void *context, const struct weir_record_view *record,
                        struct weir_error *err) {
    struct recovering *r = context;
    struct weir_named_blob blob;
    struct weir_section_iterator images = weir_section_iterate(record->images);
    while (weir_image_next(&images, &blob)) {
        int rc = apply_image(r, blob.name, blob.body, record->epoch, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    struct weir_section_iterator effects = weir_section_iterate(record->effects);
    while (weir_effect_next(&effects, &blob)) {
        int rc = remember_sink(r, record->epoch, &blob, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}

/* An effect that a sink of another kind wrote under this dataset's name. */
static int other_kind(struct recovering *r, uint64_t record, uint64_t kind,
                      struct weir_error *err) {
    if (kind != WEIR_SINK_EFFECT_DELTA_APPEND && kind != WEIR_SINK_EFFECT_KAFKA &&
        kind != WEIR_SINK_EFFECT_WEBHOOK) {
        return weir_error_set(err, WEIR_E_VERSION,
                              "record %llu holds an effect of kind %llu that this version does "
                              "not know; start the newer version",
                              (unsigned long long)record, (unsigned long long)kind);
    }
    return weir_error_set(err, WEIR_E_STATE,
                          "record %llu owes rows of %s to where it was written before (`into` was "
                          "changed); start once with `into` as it was, then change it",
                          (unsigned long long)record, weir_sinks_name(r->p->sinks, r->sink));
}

static int queue_effect(void *context, uint64_t record, uint64_t kind, struct weir_span body,
                        struct weir_error *err) {
    struct recovering *r = context;
    if (kind != (uint64_t)weir_sinks_effect_kind(r->p->sinks, r->sink)) {
        return other_kind(r, record, kind, err);
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

#define QUARANTINE "quarantine."
#define TYPE_WIDENING "delta.enableTypeWidening"

static bool stopping(void *context) {
    struct weir_pipeline *p = context;
    return atomic_load(&p->failed);
}

static bool draining(void *context) {
    struct weir_pipeline *p = context;
    return atomic_load(&p->stop);
}

/* A quarantine has the columns of what it is for, and its table gets wider types with that one's.
 */
static bool widens_with(struct weir_graph *graph, const char *name) {
    const struct weir_dataset *of =
        graph != NULL && strncmp(name, QUARANTINE, sizeof(QUARANTINE) - 1) == 0
            ? weir_graph_find(graph, name + sizeof(QUARANTINE) - 1)
            : NULL;
    for (int32_t i = 0; of != NULL && of->into != NULL && i < of->into->property_count; i++) {
        if (strcmp(of->into->properties[i].name, TYPE_WIDENING) == 0 &&
            strcmp(of->into->properties[i].value, "true") == 0) {
            return true;
        }
    }
    return false;
}

static int add_sink(struct weir_pipeline *p, struct weir_graph *graph, const char *name,
                    struct weir_schema *schema, const struct weir_plan_sink *into,
                    struct weir_error *err) {
    struct weir_sink_partition partitions[16];
    int32_t count = into != NULL ? into->partition_count : 0;
    for (int32_t i = 0; i < count && i < 16; i++) {
        partitions[i].column = into->partition_by[i].column;
        partitions[i].kind = (unsigned)into->partition_by[i].kind;
    }
    struct weir_sink_property properties[16];
    int32_t property_count = into != NULL ? into->property_count : 0;
    for (int32_t i = 0; i < property_count && i < 16; i++) {
        properties[i].name = into->properties[i].name;
        properties[i].value = into->properties[i].value;
    }
    if (property_count == 0 && widens_with(graph, name)) {
        properties[property_count++] = (struct weir_sink_property){TYPE_WIDENING, "true"};
    }
    struct weir_sink_config config = {
        .kind = into != NULL && into->kind != NULL ? into->kind : "delta",
        .options_json = into != NULL ? into->options_json : NULL,
        .name = name,
        .root = p->plan->storage_root != NULL ? p->plan->storage_root : "",
        .within = p->options.rebuilding != NULL ? p->options.rebuilding->within : NULL,
        .store = p->remote != NULL ? p->remote : p->options.store,
        .application_id = p->application_id,
        .pipeline = p->plan->pipeline,
        .lineage = p->lineage,
        .log = p->log,
        .folder = p->ledger_path,
        .schema = schema,
        .partitions = partitions,
        .partition_count = count,
        .keys = into != NULL ? into->keys : NULL,
        .key_count = into != NULL ? into->key_count : 0,
        .time = into != NULL ? into->time : NULL,
        .properties = properties,
        .property_count = property_count,
        .overwrite = into != NULL ? into->overwrite : NULL,
        .compact = into == NULL || into->compact,
        .vacuum = into == NULL || into->vacuum,
        .target_bytes = into != NULL ? into->target_bytes : 0,
        .keep_us = into != NULL ? into->keep_us : 0,
        .keep_by = into != NULL ? into->keep_by : NULL,
        .tier_root = into != NULL ? into->tier_root : NULL,
        .tier_us = into != NULL ? into->tier_us : 0,
        .zorder = into != NULL ? into->zorder : NULL,
        .zorder_count = into != NULL ? into->zorder_count : 0,
        .direct_lake = into != NULL && into->direct_lake,
        .together = p->command != NULL,
        .lazy = strncmp(name, QUARANTINE, sizeof(QUARANTINE) - 1) == 0,
        .memory_bytes = (size_t)48 << 20,
        .stop = stopping,
        .draining = draining,
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
            int rc = add_sink(p, graph, dataset->name, dataset->schema, dataset->into, err);
            if (rc != WEIR_OK) {
                return rc;
            }
            found = weir_sinks_count(p->sinks) - 1;
        }
        dataset->sink = (void *)((uintptr_t)found + 1); /* number + 1; NULL means none */
    }
    return WEIR_OK;
}

int pipeline_bind_duties(struct weir_pipeline *p, struct weir_graph *graph,
                         struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; i < weir_graph_dataset_count(graph) && rc == WEIR_OK; i++) {
        struct weir_dataset *dataset = weir_graph_dataset(graph, i);
        struct weir_delta_duties *duties = NULL;
        if (dataset->sink != NULL) {
            rc = weir_sinks_duties(p->sinks, (int32_t)((uintptr_t)dataset->sink - 1),
                                   dataset->schema, &duties, err);
        }
        rc = rc == WEIR_OK ? weir_dataset_set_duties(dataset, duties, err) : rc;
    }
    return rc;
}

static void sink_room(void *context) {
    struct weir_pipeline *p = context;
    weir_signal_raise(&p->signal);
}

static void sink_failed(void *context, const struct weir_error *err) {
    struct weir_pipeline *p = context;
    pipeline_fail(p, err);
    if (p->commit != NULL) {
        weir_commit_fail(p->commit, err);
    }
}

/* Worker: post to the commit room. */
static void sink_sealed(void *context, int32_t sink, uint64_t epoch,
                        const struct weir_sink_effect *effect) {
    struct weir_pipeline *p = context;
    struct weir_error err = {0};
    int rc = WEIR_OK;
    if (effect->size > 0) {
        struct weir_blob blob = {effect->data, effect->size, effect->release, effect->owner};
        rc = weir_commit_post_effect(p->commit, epoch, (uint32_t)sink,
                                     weir_sinks_effect_kind(p->sinks, sink), &blob, &err);
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
    freshness_committed(&p->freshness, sink, weir_sinks_count(p->sinks), epoch);
    weir_signal_raise(&p->signal);
}

static void commit_failed(void *context, const struct weir_error *err) {
    pipeline_fail(context, err);
}

static void commit_durable(void *context, uint64_t epoch) {
    struct weir_pipeline *p = context;
    replying_durable(p, epoch);
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
    if (p->options.files == NULL && only_check(p->plan, p->ledger_path, err) != WEIR_OK) {
        return err->code;
    }
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
    weir_id_format(p->ledger->identity.lineage, p->lineage);
    weir_id_format(p->ledger->identity.log, p->log);
    snprintf(p->application_id, sizeof(p->application_id), "weir/%s/%s", p->plan->pipeline,
             p->lineage);
    return weir_snapshots_open(&snapshot_options, &p->snapshots, err);
}

/* Where partitions of the source were left: positions[i] of partition i, *known of them. */
static void find_positions(const struct weir_recovery *recovery, const char *source,
                           struct weir_position *positions, int32_t *known) {
    *known = 0;
    for (int32_t i = 0; i < WEIR_SOURCE_PARTITIONS_MAX; i++) {
        struct weir_keyed_entry entry;
        char key[256];
        snprintf(key, sizeof(key), "%s/%d", source, i);
        if (weir_recovery_find(recovery, WEIR_SECTION_POSITIONS, key, strlen(key), &entry)) {
            positions[i].bytes = entry.body.data;
            positions[i].size = (uint32_t)entry.body.size;
            *known = i + 1;
        }
    }
}

static int keep_positions(struct source_state *source, const char *name,
                          const struct weir_position *positions, int32_t known,
                          struct weir_error *err) {
    source->partition_count = weir_source_partitions(source->source);
    source->partitions = calloc((size_t)source->partition_count + 1, sizeof(*source->partitions));
    if (source->partitions == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    for (int32_t i = 0; i < source->partition_count; i++) {
        struct partition_state *partition = &source->partitions[i];
        snprintf(partition->name, sizeof(partition->name), "%s/%d", name, i);
        if (i < known && positions[i].size > 0) {
            partition->position = weir_block_take(positions[i].size);
            if (partition->position == NULL) {
                return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
            }
            memcpy(partition->position, positions[i].bytes, positions[i].size);
            partition->position_size = positions[i].size;
        }
    }
    return WEIR_OK;
}

static int open_sources(struct weir_pipeline *p, struct weir_recovery *recovery,
                        struct weir_error *err) {
    char lineage[33];
    weir_id_format(p->ledger->identity.lineage, lineage);
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
        char log_path[1400]; /* of sources that cannot be read again */
        snprintf(log_path, sizeof(log_path), "%s/http/%s", p->ledger_path, plan->name);
        struct weir_source_config config = {
            .name = plan->name,
            .log_path = log_path,
            .keep_us = p->plan->ledger_keep_us,
            .pipeline = p->plan->pipeline,
            .instance = lineage,
            .kind = plan->connector,
            .options_json = options,
            .decoder = plan->decoder,
            .decoder_options_json = decoder_options,
            .schema = plan->schema,
            .pool = p->source_pool,
            .signal = &p->signal,
            .until_end = p->options.until_end,
            .again = p->options.rebuilding != NULL,
        };
        struct source_state *source = &p->sources[s];
        int rc = weir_source_create(&source->source, &config, err);
        free(options);
        free(decoder_options);
        if (rc != WEIR_OK) {
            return weir_error_wrap(err, "source %s", plan->name);
        }
        weir_source_project(source->source, plan->decoded);
        struct weir_position *positions = calloc(WEIR_SOURCE_PARTITIONS_MAX, sizeof(*positions));
        if (positions == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
        }
        int32_t known;
        find_positions(recovery, plan->name, positions, &known);
        rc = weir_source_open(source->source, positions, known, err);
        if (rc != WEIR_OK) {
            weir_error_wrap(err, "source %s", plan->name);
        } else {
            rc = keep_positions(source, plan->name, positions, known, err);
        }
        free(positions);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}

/* Datasets the rules no longer write may still be owed effects of old records. */
static int add_orphans(struct weir_pipeline *p, struct recovering *r,
                       const struct weir_recovery *recovery, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0;
         rc == WEIR_OK && i < r->written_count && p->orphan_count < WEIR_COMMIT_MAX_SINKS; i++) {
        struct written *written = &r->written[i];
        bool known = weir_recovery_held(recovery, written->name) >= written->last;
        for (int32_t s = 0; s < weir_sinks_count(p->sinks); s++) {
            known |= strcmp(weir_sinks_name(p->sinks, s), written->name) == 0;
        }
        if (!known) {
            p->orphans[p->orphan_count++] = written->name;
            rc = add_sink(p, NULL, written->name, NULL, &written->into, err);
            written->name = NULL;
        }
    }
    return rc;
}

static int start_sinks(struct weir_pipeline *p, struct recovering *r,
                       struct weir_recovery *recovery, struct weir_error *err) {
    struct weir_sinks_options sink_options = {
        .hooks = {.context = p,
                  .sealed = sink_sealed,
                  .applied = sink_applied,
                  .room = sink_room,
                  .failed = sink_failed},
    };
    int rc = WEIR_OK;
    if (p->options.store == NULL && p->plan->storage_root != NULL &&
        weir_store_is_remote(p->plan->storage_root)) {
        rc = weir_store_open_url(p->plan->storage_root, p->plan->storage_options, true, &p->remote,
                                 err);
    }
    if (rc == WEIR_OK && p->remote != NULL) {
        weir_store_set_stop(p->remote, stopping, p);
    }
    if (rc == WEIR_OK && p->rebuilt_count > 0) {
        rc = rebuild_exchange(p, p->remote != NULL ? p->remote : p->options.store, err);
    }
    if (rc == WEIR_OK) {
        rc = weir_sinks_create(&sink_options, &p->sinks, err);
    }
    if (rc == WEIR_OK) {
        rc = pipeline_bind_sinks(p, p->graph, err);
    }
    if (rc == WEIR_OK) {
        rc = add_orphans(p, r, recovery, err);
    }
    struct weir_commit_options commit_options = {
        .ledger = p->ledger,
        .max_lag_bytes = LAG_BYTES_MAX,
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
    if (rc == WEIR_OK) {
        rc = pipeline_bind_duties(p, p->graph, err);
    }
    int32_t count = rc == WEIR_OK ? weir_sinks_count(p->sinks) : 0;
    for (int32_t s = 0; rc == WEIR_OK && s < count; s++) {
        p->routes[s] = (struct sink_route){p, s};
        uint64_t done = 0;
        if (markers[s] == WEIR_SINK_NO_MARKER) {
            markers[s] = weir_recovery_held(recovery, weir_sinks_name(p->sinks, s));
        }
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
    struct recovering r = {.p = p, .dropped_state = p->options.rebuilding != NULL};
    struct weir_recovery *recovery = NULL;
    int rc = open_durable(p, err);
    rc = rc == WEIR_OK ? rebuild_record(p, err) : rc;
    if (rc != WEIR_OK) {
        return rc;
    }
    r.cell_count = pipeline_cells(p, r.cells, CELLS_MAX);
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
    if (rc == WEIR_OK && p->rebuilt_count > 0) {
        rc = rebuild_load(p, recovery, err);
    }
    if (rc == WEIR_OK) {
        p->epoch = weir_recovery_last(recovery) + 1;
        replying_restored(p);
        int64_t sealed_at = weir_recovery_sealed_at_us(recovery);
        p->clock_us = sealed_at > p->clock_us ? sealed_at : p->clock_us;
        p->held_since_us = p->epoch > 1 ? sealed_at : 0; /* while it did not run, none was idle */
        rc = start_sinks(p, &r, recovery, err);
    }
    if (rc == WEIR_OK &&
        (p->options.rebuilding == NULL || p->options.rebuilding->dataset != NULL)) {
        rc = open_sources(p, recovery, err);
    }
    if (rc == WEIR_OK && p->epoch > 1) {
        weir_log_info("pipeline", "recovered at epoch %llu: %llu records in %.0f ms",
                      (unsigned long long)p->epoch - 1,
                      (unsigned long long)weir_recovery_records_applied(recovery),
                      (double)(weir_clock_mono_ns() - start) / 1e6);
    }
    p->recovered_ns = weir_clock_mono_ns() - start;
    p->recovered_records = rc == WEIR_OK ? weir_recovery_records_applied(recovery) : 0;
    weir_recovery_destroy(recovery);
    for (int32_t i = 0; i < r.written_count; i++) {
        free(r.written[i].name);
        free(r.written[i].into.options_json);
    }
    return rc;
}
