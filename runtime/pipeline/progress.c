/* What a pipeline says of itself: figures for the terminal, and the summary object. The loop writes
 * it as it runs, so it is put together without a JSON library's many allocations. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/clock.h"
#include "pipeline/internal.h"
#include "pipeline/summary.h"

enum { HELD_TOLD_US = 500000 };

static int64_t resident_bytes(void) {
    char text[128] = "";
    long long pages = 0;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t size = read(fd, text, sizeof(text) - 1);
        text[size > 0 ? size : 0] = '\0';
        close(fd);
        if (sscanf(text, "%*s %lld", &pages) != 1) {
            pages = 0;
        }
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
    out->applied = freshness_read(&p->freshness, false);
    out->committed = freshness_read(&p->freshness, true);
    out->seal_max_us = p->slices.max_ns[SLICE_SEAL] / 1000;
    out->seal_max_cpu_us = p->seal_max_cpu_ns / 1000;
    out->turn_max_us = p->slices.turn_max_ns / 1000;
    out->turn_max_cpu_us = p->slices.turn_max_cpu_ns / 1000;
    out->turn_max_in = slice_name(p->slices.turn_max_in);
    out->resident_bytes = resident_bytes();
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        out->resident_peak_bytes = usage.ru_maxrss * INT64_C(1024);
    }
    out->data_bytes =
        (int64_t)(weir_pool_used_bytes(p->pool) + weir_pool_used_bytes(p->source_pool));
    struct weir_cell *cells[CELLS_MAX];
    int32_t count = pipeline_cells(p, cells, CELLS_MAX);
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
    out->blocked_ns = sinks.blocked_ns + p->blocked_ns;
    out->mallocs = weir_pool_made_count(p->pool) + weir_pool_made_count(p->source_pool);
    out->upkeep = sinks.upkeep;
    out->graph = p->graph;
    out->rule_set = weir_rule_set_hash(p->rule_set);
    out->note = p->note[0] != '\0' ? p->note : NULL;
}

/* Text that is put together piece by piece: the first failure stays. */
struct text {
    struct weir_buffer *out;
    int rc;
};

static void keep(struct text *text, int rc) {
    text->rc = text->rc == WEIR_OK ? rc : text->rc;
}

static void put(struct text *text, const char *literal) {
    keep(text, weir_buffer_append_text(text->out, literal));
}

static void put_text(struct text *text, const char *value) {
    keep(text, weir_buffer_append_json(text->out, value, strlen(value)));
}

static void put_int(struct text *text, const char *name, int64_t value) {
    keep(text, weir_buffer_printf(text->out, "\"%s\":%lld,", name, (long long)value));
}

/* The comma after the last member becomes the end. */
static void put_end(struct text *text) {
    if (text->rc == WEIR_OK && text->out->data[text->out->size - 1] == ',') {
        text->out->size--;
    }
    put(text, "}");
}

static void put_tallies(struct text *text, const char *name, const struct weir_counters *counters,
                        bool warned) {
    keep(text, weir_buffer_printf(text->out, "\"%s\":{", name));
    for (int32_t i = 0; i < counters->tally_count; i++) {
        const struct weir_tally *tally = &counters->tallies[i];
        int64_t n = warned ? tally->warned : tally->rejected;
        if (n > 0) {
            put_text(text, tally->name);
            keep(text, weir_buffer_printf(text->out, ":%lld,", (long long)n));
        }
    }
    put_end(text);
    put(text, ",");
}

static void put_dataset(struct text *text, const struct weir_dataset *dataset) {
    const struct weir_counters *c = &dataset->counters;
    put(text, "{");
    put_int(text, "in", c->in);
    put_int(text, "out", c->out);
    put_tallies(text, "rejected", c, false);
    put_int(text, "late", c->late);
    if (c->late > 0) { /* how far behind the watermark */
        put(text, "\"late_by\":{");
        for (int32_t b = 0; b < WEIR_LATE_BUCKETS; b++) {
            put_int(text, weir_late_bound_text(b), c->late_by[b]);
        }
        put_end(text);
        put(text, ",");
    }
    put_int(text, "duplicates", c->duplicates);
    put_int(text, "filtered", c->filtered);
    put_int(text, "dropped", c->dropped);
    put_int(text, "quarantined", c->quarantined);
    put_tallies(text, "warned", c, true);
    put_int(text, "derive_errors", c->derive_errors);
    put_int(text, "unmatched", c->unmatched);
    put_int(text, "ns", dataset->ns);
    if (dataset->breached) {
        put(text, "\"over_budget\":");
        put_text(text, dataset->breach_text);
    }
    put_end(text);
}

int weir_dataset_json(const struct weir_dataset *dataset, struct weir_buffer *out) {
    struct text text = {out, WEIR_OK};
    put_dataset(&text, dataset);
    return text.rc;
}

static void put_freshness(struct text *text, const char *name, const struct freshness_of *of) {
    put(text, "\"");
    put(text, name);
    put(text, "\":{");
    put_int(text, "p50_us", (int64_t)of->p50);
    put_int(text, "p99_us", (int64_t)of->p99);
    put_int(text, "p999_us", (int64_t)of->p999);
    put_int(text, "max_us", (int64_t)of->max);
    put_end(text);
    put(text, ",");
}

static void put_figures(struct text *text, const struct weir_pipeline_progress *progress) {
    put(text, "\"figures\":{");
    put_int(text, "commit_p50_us", progress->commit_p50_us);
    put_int(text, "commit_max_us", progress->commit_max_us);
    put_freshness(text, "rows_to_state", &progress->applied);
    put_freshness(text, "rows_to_tables", &progress->committed);
    put_int(text, "seal_max_us", progress->seal_max_us);
    put_int(text, "seal_max_cpu_us", progress->seal_max_cpu_us);
    put_int(text, "turn_max_us", progress->turn_max_us);
    put_int(text, "turn_max_cpu_us", progress->turn_max_cpu_us);
    put(text, "\"turn_max_in\":");
    put_text(text, progress->turn_max_in);
    put(text, ",");
    put_int(text, "resident_bytes", progress->resident_bytes);
    put_int(text, "resident_peak_bytes", progress->resident_peak_bytes);
    put_int(text, "state_bytes", progress->state_bytes);
    put_int(text, "state_keys", progress->state_keys);
    put_int(text, "loop_cpu_ns", progress->loop_cpu_ns);
    put_int(text, "source_cpu_ns", progress->source_cpu_ns);
    put_int(text, "encode_cpu_ns", progress->encode_cpu_ns);
    put_int(text, "apply_cpu_ns", progress->apply_cpu_ns);
    put_int(text, "blocked_ns", progress->blocked_ns);
    put_int(text, "files_compacted", progress->upkeep.files_removed);
    put_int(text, "files_expired", progress->upkeep.files_expired);
    put_int(text, "files_vacuumed", progress->upkeep.files_vacuumed);
    put_int(text, "files_tiered", progress->upkeep.files_tiered);
    put_int(text, "checkpoints", progress->upkeep.checkpoints);
    put_int(text, "alerts_sent", progress->upkeep.alerts_sent);
    put_int(text, "alerts_failed", progress->upkeep.alerts_failed);
    put_int(text, "upkeep_cpu_ns", progress->upkeep.cpu_ns);
    put_int(text, "mallocs", (int64_t)progress->mallocs);
    put_end(text);
}

/* What holds rows back, then what holds time back. */
static int pipeline_why_waiting(struct weir_pipeline *p, struct weir_buffer *why) {
    int64_t wall = weir_clock_wall_us();
    int rc = WEIR_OK;
    if (p->held_since_us != 0 && wall - p->held_since_us >= HELD_TOLD_US) {
        rc = weir_buffer_printf(
            why, "no rows are taken in for %.1f s: %s\n", (double)(wall - p->held_since_us) / 1e6,
            p->blocked_since_ns != 0 ? "the sinks have no room for more, or lag behind the commits"
                                     : "the epochs before wait for their records");
    }
    rc = rc == WEIR_OK ? align_why(p, why) : rc;
    return rc == WEIR_OK ? weir_graph_why_waiting(p->graph, why) : rc;
}

/* The members of the summary, the last without its comma, and no closing brace. */
static int put_summary(struct weir_pipeline *p, struct weir_buffer *out) {
    struct text text = {out, WEIR_OK};
    struct weir_pipeline_progress progress;
    weir_pipeline_progress(p, &progress);
    put(&text, "{");
    put_int(&text, "events", progress.events);
    keep(&text, weir_buffer_printf(out, "\"seconds\":%.6g,", progress.seconds));
    put_int(&text, "epochs", (int64_t)progress.epochs);
    put(&text, "\"datasets\":{");
    for (int32_t i = 0; i < weir_graph_dataset_count(p->graph); i++) {
        const struct weir_dataset *dataset = weir_graph_dataset(p->graph, i);
        bool quarantine = strncmp(dataset->name, "quarantine.", 11) == 0;
        if (!quarantine || dataset->counters.in > 0) {
            put_text(&text, dataset->name);
            put(&text, ":");
            put_dataset(&text, dataset);
            put(&text, ",");
        }
    }
    put_end(&text);
    put(&text, ",\"rule_set\":");
    put_text(&text, progress.rule_set);
    put(&text, ",");
    put_figures(&text, &progress);
    return text.rc;
}

int weir_pipeline_summary(struct weir_pipeline *p, struct weir_buffer *out) {
    int rc = put_summary(p, out);
    return rc == WEIR_OK ? weir_buffer_append_text(out, "}") : rc;
}

/* What kinds of source show of themselves. */
static void put_sources(struct text *text, struct weir_pipeline *p) {
    put(text, ",\"sources\":{");
    for (int32_t i = 0; i < p->source_count; i++) {
        put_text(text, p->plan->sources[i].name);
        put(text, ":{");
        keep(text, weir_source_figures(p->sources[i].source, text->out));
        put(text, "},");
    }
    put_end(text);
    put(text, ",\"sinks\":{");
    for (int32_t i = 0; i < weir_sinks_count(p->sinks); i++) {
        struct weir_sink_figures figures = weir_sinks_figures(p->sinks, i);
        put_text(text, weir_sinks_name(p->sinks, i));
        put(text, ":{\"kind\":");
        put_text(text, weir_sinks_kind(p->sinks, i));
        put(text, ",");
        put_int(text, "rows", (int64_t)figures.rows);
        put_int(text, "record_bytes", (int64_t)figures.record_bytes);
        put_int(text, "commits", (int64_t)figures.commits);
        put_end(text);
        put(text, ",");
    }
    put_end(text);
    if (p->url[0] != '\0') {
        put(text, ",\"serve\":");
        put_text(text, p->url);
    }
}

int pipeline_status_text(struct weir_pipeline *p, struct weir_buffer *out) {
    struct text text = {out, put_summary(p, out)};
    keep(&text, weir_buffer_printf(out, ",\"pid\":%d,\"pipeline\":", (int)getpid()));
    put_text(&text, p->plan->pipeline);
    put(&text, ",\"note\":");
    if (p->note[0] != '\0') {
        put_text(&text, p->note);
    } else {
        put(&text, "null");
    }
    int64_t watermark = weir_graph_watermark(p->graph);
    bool known = watermark != WEIR_WATERMARK_NONE && watermark != WEIR_WATERMARK_END;
    keep(&text, known ? weir_buffer_printf(out, ",\"watermark_us\":%lld", (long long)watermark)
                      : weir_buffer_append_text(out, ",\"watermark_us\":null"));
    struct weir_buffer why;
    weir_buffer_init(&why, 1 << 20);
    if (pipeline_why_waiting(p, &why) == WEIR_OK && weir_buffer_text(&why) != NULL) {
        put(&text, ",\"why_waiting\":");
        put_text(&text, (const char *)why.data);
    }
    weir_buffer_fini(&why);
    put_sources(&text, p);
    put(&text, ",\"lookups\":{");
    keep(&text, weir_graph_asked_status(p->graph, out));
    put(&text, "}}\n");
    return text.rc;
}
