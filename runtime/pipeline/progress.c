/* What a pipeline says of itself: figures for the terminal, and the summary object. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/clock.h"
#include "pipeline/internal.h"
#include "pipeline/summary.h"

static int64_t resident_bytes(void) {
    FILE *file = fopen("/proc/self/statm", "r");
    long long pages = 0;
    if (file != NULL) {
        if (fscanf(file, "%*s %lld", &pages) != 1) {
            pages = 0;
        }
        fclose(file);
    }
    return pages * sysconf(_SC_PAGESIZE);
}

void weir_pipeline_progress(struct weir_pipeline *p, struct weir_pipeline_progress *out) {
    struct weir_commit_status status;
    weir_commit_status(p->commit, &status);
    struct weir_sinks_stats sinks;
    weir_sinks_stats(p->sinks, &sinks);
    memset(out, 0, sizeof(*out));
    out->seconds = (double)(weir_clock_mono_ns() - p->started_ns) / 1e9;
    out->events = p->events;
    out->epochs = status.durable;
    out->watermark_us = weir_graph_watermark(p->graph);
    out->clock_us = p->clock_us;
    out->commit_p50_us = (int64_t)status.latency_p50_us;
    out->commit_max_us = (int64_t)status.latency_max_us;
    out->seal_max_us = p->seal_max_ns / 1000;
    out->resident_bytes = resident_bytes();
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        out->resident_peak_bytes = usage.ru_maxrss * INT64_C(1024);
    }
    out->data_bytes =
        (int64_t)(weir_pool_used_bytes(p->pool) + weir_pool_used_bytes(p->source_pool));
    struct weir_cell *cells[CELLS_MAX];
    int32_t count = weir_graph_cells(p->graph, cells, CELLS_MAX);
    for (int32_t i = 0; i < count; i++) {
        out->state_bytes += (int64_t)cells[i]->ops->bytes(cells[i]->self);
        out->state_keys += (int64_t)cells[i]->ops->keys(cells[i]->self);
    }
    out->loop_cpu_ns = p->loop_cpu_ns != 0 ? p->loop_cpu_ns : weir_clock_thread_cpu_ns();
    for (int32_t s = 0; s < p->source_count; s++) {
        out->source_cpu_ns += weir_source_cpu_ns(p->sources[s].source);
    }
    out->encode_cpu_ns = sinks.encode_cpu_ns;
    out->apply_cpu_ns = sinks.apply_cpu_ns;
    out->blocked_ns = sinks.blocked_ns;
    out->mallocs = weir_pool_malloc_count(p->pool) + weir_pool_malloc_count(p->source_pool);
    out->graph = p->graph;
    out->rule_set = weir_rule_set_hash(p->rule_set);
    out->note = p->note[0] != '\0' ? p->note : NULL;
}

static json_t *tallies(const struct weir_counters *counters, bool warned) {
    json_t *object = json_object();
    for (int32_t i = 0; i < counters->tally_count; i++) {
        const struct weir_tally *tally = &counters->tallies[i];
        int64_t n = warned ? tally->warned : tally->rejected;
        if (n > 0) {
            json_object_set_new(object, tally->name, json_integer(n));
        }
    }
    return object;
}

json_t *weir_dataset_json(const struct weir_dataset *dataset) {
    const struct weir_counters *c = &dataset->counters;
    json_t *object = json_object();
    json_object_set_new(object, "in", json_integer(c->in));
    json_object_set_new(object, "out", json_integer(c->out));
    json_object_set_new(object, "rejected", tallies(c, false));
    json_object_set_new(object, "late", json_integer(c->late));
    json_object_set_new(object, "duplicates", json_integer(c->duplicates));
    json_object_set_new(object, "filtered", json_integer(c->filtered));
    json_object_set_new(object, "dropped", json_integer(c->dropped));
    json_object_set_new(object, "quarantined", json_integer(c->quarantined));
    json_object_set_new(object, "warned", tallies(c, true));
    json_object_set_new(object, "derive_errors", json_integer(c->derive_errors));
    json_object_set_new(object, "ns", json_integer(dataset->ns));
    if (dataset->breached) {
        json_object_set_new(object, "over_budget", json_string(dataset->breach_text));
    }
    return object;
}

static json_t *summary_json(struct weir_pipeline *p) {
    struct weir_pipeline_progress progress;
    weir_pipeline_progress(p, &progress);
    json_t *root = json_object();
    json_object_set_new(root, "events", json_integer(progress.events));
    json_object_set_new(root, "seconds", json_real(progress.seconds));
    json_object_set_new(root, "epochs", json_integer((json_int_t)progress.epochs));
    json_t *datasets = json_object();
    for (int32_t i = 0; i < weir_graph_dataset_count(p->graph); i++) {
        struct weir_dataset *dataset = weir_graph_dataset(p->graph, i);
        bool quarantine = strncmp(dataset->name, "quarantine.", 11) == 0;
        if (!quarantine || dataset->counters.in > 0) {
            json_object_set_new(datasets, dataset->name, weir_dataset_json(dataset));
        }
    }
    json_object_set_new(root, "datasets", datasets);
    json_object_set_new(root, "rule_set", json_string(progress.rule_set));
    json_t *figures = json_object();
    json_object_set_new(figures, "commit_p50_us", json_integer(progress.commit_p50_us));
    json_object_set_new(figures, "commit_max_us", json_integer(progress.commit_max_us));
    json_object_set_new(figures, "seal_max_us", json_integer(progress.seal_max_us));
    json_object_set_new(figures, "resident_bytes", json_integer(progress.resident_bytes));
    json_object_set_new(figures, "resident_peak_bytes", json_integer(progress.resident_peak_bytes));
    json_object_set_new(figures, "state_bytes", json_integer(progress.state_bytes));
    json_object_set_new(figures, "state_keys", json_integer(progress.state_keys));
    json_object_set_new(figures, "loop_cpu_ns", json_integer(progress.loop_cpu_ns));
    json_object_set_new(figures, "source_cpu_ns", json_integer(progress.source_cpu_ns));
    json_object_set_new(figures, "encode_cpu_ns", json_integer(progress.encode_cpu_ns));
    json_object_set_new(figures, "apply_cpu_ns", json_integer(progress.apply_cpu_ns));
    json_object_set_new(figures, "blocked_ns", json_integer(progress.blocked_ns));
    json_object_set_new(figures, "mallocs", json_integer((json_int_t)progress.mallocs));
    json_object_set_new(root, "figures", figures);
    return root;
}

int weir_pipeline_summary(struct weir_pipeline *p, struct weir_buffer *out) {
    json_t *root = summary_json(p);
    char *text = json_dumps(root, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(6));
    json_decref(root);
    if (text == NULL) {
        return WEIR_E_NOMEM;
    }
    int rc = weir_buffer_append_text(out, text);
    free(text);
    return rc;
}

enum { STATUS_EVERY_MS = 500 };

void pipeline_write_status(struct weir_pipeline *p) {
    int64_t now = weir_clock_mono_ns();
    if (now - p->last_status_ns < STATUS_EVERY_MS * INT64_C(1000000)) {
        return;
    }
    p->last_status_ns = now;
    json_t *root = summary_json(p);
    json_object_set_new(root, "pid", json_integer(getpid()));
    json_object_set_new(root, "pipeline", json_string(p->plan->pipeline));
    json_object_set_new(root, "note", p->note[0] != '\0' ? json_string(p->note) : json_null());
    int64_t watermark = weir_graph_watermark(p->graph);
    bool known = watermark != WEIR_WATERMARK_NONE && watermark != WEIR_WATERMARK_END;
    json_object_set_new(root, "watermark_us", known ? json_integer(watermark) : json_null());
    struct weir_buffer why;
    weir_buffer_init(&why, 1 << 20);
    if (weir_graph_why_waiting(p->graph, &why) == WEIR_OK && weir_buffer_text(&why) != NULL) {
        json_object_set_new(root, "why_waiting", json_string((const char *)why.data));
    }
    weir_buffer_fini(&why);
    char temporary[1300];
    char path[1200];
    snprintf(path, sizeof(path), "%s/status.json", p->ledger_path);
    snprintf(temporary, sizeof(temporary), "%s.tmp", path);
    /* Information only: a full disk must not stop the pipeline here. */
    if (json_dump_file(root, temporary, JSON_INDENT(2) | JSON_PRESERVE_ORDER) == 0) {
        if (rename(temporary, path) != 0) {
            unlink(temporary);
        }
    }
    json_decref(root);
}

bool pipeline_take_request(struct weir_pipeline *p) {
    char path[1200];
    snprintf(path, sizeof(path), "%s/rollback.request", p->ledger_path);
    return unlink(path) == 0;
}
