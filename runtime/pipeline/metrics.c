/* The run's counters for Prometheus: text format 0.0.4, families whole, names ending as their type
 * asks (prometheus.io/docs/instrumenting/exposition_formats). */
#include <inttypes.h>
#include <string.h>

#include "core/clock.h"
#include "pipeline/internal.h"
#include "state/table.h"

/* As label values go: backslash, quote and line end escaped. */
static int put_label(struct weir_buffer *out, const char *text) {
    int rc = WEIR_OK;
    for (; *text != '\0' && rc == WEIR_OK; text++) {
        rc = *text == '\n'                   ? weir_buffer_append_text(out, "\\n")
             : *text == '"' || *text == '\\' ? weir_buffer_printf(out, "\\%c", *text)
                                             : weir_buffer_append(out, text, 1);
    }
    return rc;
}

static int put_head(struct weir_buffer *out, const char *name, const char *type, const char *help) {
    return weir_buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static int put_one(struct weir_buffer *out, const char *name, const char *type, const char *help,
                   double value) {
    int rc = put_head(out, name, type, help);
    return rc == WEIR_OK ? weir_buffer_printf(out, "%s %.17g\n", name, value) : rc;
}

/* A summary as Prometheus has them: quantiles over the run, and how many rows. */
static int put_freshness(struct weir_buffer *out, const char *name, const char *help,
                         const struct freshness_of *of) {
    const struct {
        const char *quantile;
        uint64_t us;
    } rows[] = {{"0.5", of->p50}, {"0.99", of->p99}, {"0.999", of->p999}};
    int rc = put_head(out, name, "summary", help);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]) && rc == WEIR_OK; i++) {
        rc = weir_buffer_printf(out, "%s{quantile=\"%s\"} %.6f\n", name, rows[i].quantile,
                                (double)rows[i].us / 1e6);
    }
    return rc == WEIR_OK ? weir_buffer_printf(out, "%s_count %" PRIu64 "\n", name, of->rows) : rc;
}

static int put_run(struct weir_pipeline *p, struct weir_buffer *out) {
    struct weir_pipeline_progress g;
    weir_pipeline_progress(p, &g);
    const struct {
        const char *name;
        const char *type;
        const char *help;
        double value;
    } rows[] = {
        {"weir_events_total", "counter", "Rows taken from all sources by this process.",
         (double)g.events},
        {"weir_epochs_total", "counter", "Epochs durable in the ledger.", (double)g.epochs},
        {"weir_uptime_seconds", "gauge", "Since this process began its run.", g.seconds},
        {"weir_commit_latency_seconds", "gauge", "Seal to durable, median of the last epochs.",
         (double)g.commit_p50_us / 1e6},
        {"weir_seal_pause_max_seconds", "gauge", "Longest pause of the loop at a seal.",
         (double)g.seal_max_us / 1e6},
        {"weir_loop_turn_max_seconds", "gauge", "Longest the loop was away from its duties.",
         (double)g.turn_max_us / 1e6},
        {"weir_loop_turn_max_cpu_seconds", "gauge", "Most CPU the loop took for one turn.",
         (double)g.turn_max_cpu_us / 1e6},
        {"weir_resident_bytes", "gauge", "Resident memory.", (double)g.resident_bytes},
        {"weir_data_bytes", "gauge", "Batches in flight.", (double)g.data_bytes},
        {"weir_state_bytes", "gauge", "Keyed state.", (double)g.state_bytes},
        {"weir_state_keys", "gauge", "Keys in state.", (double)g.state_keys},
        {"weir_loop_cpu_seconds_total", "counter", "CPU of the loop.", (double)g.loop_cpu_ns / 1e9},
        {"weir_source_cpu_seconds_total", "counter", "CPU of sources and decoders.",
         (double)g.source_cpu_ns / 1e9},
        {"weir_encode_cpu_seconds_total", "counter", "CPU of encoding for sinks.",
         (double)g.encode_cpu_ns / 1e9},
        {"weir_apply_cpu_seconds_total", "counter", "CPU of applying epochs to sinks.",
         (double)g.apply_cpu_ns / 1e9},
        {"weir_blocked_seconds_total", "counter", "Time the loop waited for sinks.",
         (double)g.blocked_ns / 1e9},
        {"weir_columns_changed_total", "counter",
         "Times a source's columns grew while the pipeline ran.", (double)p->columns_changed},
        {"weir_files_compacted_total", "counter", "Small files of tables put together with others.",
         (double)g.upkeep.files_removed},
        {"weir_files_written_total", "counter", "Files they, and old rows, left in their place.",
         (double)g.upkeep.files_added},
        {"weir_upkeep_bytes_total", "counter", "Bytes written anew for that.",
         (double)g.upkeep.bytes_written},
        {"weir_files_expired_total", "counter",
         "Files dropped or rewritten for rows past their age.", (double)g.upkeep.files_expired},
        {"weir_files_tiered_total", "counter", "Old files moved to a table's second store.",
         (double)g.upkeep.files_tiered},
        {"weir_files_vacuumed_total", "counter", "Files deleted that no version needs.",
         (double)g.upkeep.files_vacuumed},
        {"weir_checkpoints_total", "counter", "Checkpoints written beside the commits.",
         (double)g.upkeep.checkpoints},
        {"weir_alerts_sent_total", "counter", "Rows that webhooks took.",
         (double)g.upkeep.alerts_sent},
        {"weir_alerts_failed_total", "counter",
         "Rows that webhooks did not take and that were given up.", (double)g.upkeep.alerts_failed},
        {"weir_upkeep_cpu_seconds_total", "counter", "CPU of keeping tables in order.",
         (double)g.upkeep.cpu_ns / 1e9},
    };
    int rc = WEIR_OK;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]) && rc == WEIR_OK; i++) {
        rc = put_one(out, rows[i].name, rows[i].type, rows[i].help, rows[i].value);
    }
    rc = rc == WEIR_OK ? put_freshness(out, "weir_row_to_state_seconds",
                                       "Age of rows when what they change is in state.", &g.applied)
                       : rc;
    rc = rc == WEIR_OK
             ? put_freshness(out, "weir_row_to_tables_seconds",
                             "Age of rows when what they change is in every table.", &g.committed)
             : rc;
    if (rc == WEIR_OK && g.watermark_us != WEIR_WATERMARK_NONE &&
        g.watermark_us != WEIR_WATERMARK_END) {
        rc = put_one(out, "weir_watermark_seconds", "gauge", "Event time the pipeline has reached.",
                     (double)g.watermark_us / 1e6);
    }
    if (rc == WEIR_OK) {
        rc = put_head(out, "weir_info", "gauge", "The pipeline, its rule set and version.");
    }
    rc = rc == WEIR_OK ? weir_buffer_append_text(out, "weir_info{pipeline=\"") : rc;
    rc = rc == WEIR_OK ? put_label(out, p->plan->pipeline) : rc;
    return rc == WEIR_OK ? weir_buffer_printf(out, "\",rule_set=\"%s\",version=\"%s\"} 1\n",
                                              g.rule_set, WEIR_VERSION)
                         : rc;
}

static const struct family {
    const char *name;
    const char *help;
    size_t offset; /* in struct weir_counters */
} families[] = {
    {"weir_rows_in_total", "Rows a dataset read.", offsetof(struct weir_counters, in)},
    {"weir_rows_out_total", "Rows that left it.", offsetof(struct weir_counters, out)},
    {"weir_rows_filtered_total", "Rows `where` passed over.",
     offsetof(struct weir_counters, filtered)},
    {"weir_rows_dropped_total", "Rows an expectation dropped.",
     offsetof(struct weir_counters, dropped)},
    {"weir_rows_quarantined_total", "Rows in quarantine.",
     offsetof(struct weir_counters, quarantined)},
    {"weir_rows_duplicate_total", "Rows `dedup` left out.",
     offsetof(struct weir_counters, duplicates)},
    {"weir_rows_late_total", "Rows too late for their window.",
     offsetof(struct weir_counters, late)},
};

static int put_row(struct weir_buffer *out, const char *family, const char *dataset,
                   const char *reason, int64_t value) {
    int rc = weir_buffer_printf(out, "%s{dataset=\"", family);
    rc = rc == WEIR_OK ? put_label(out, dataset) : rc;
    if (rc == WEIR_OK && reason != NULL) {
        rc = weir_buffer_append_text(out, "\",reason=\"");
        rc = rc == WEIR_OK ? put_label(out, reason) : rc;
    }
    return rc == WEIR_OK ? weir_buffer_printf(out, "\"} %" PRId64 "\n", value) : rc;
}

static int put_family(struct weir_pipeline *p, const struct family *family,
                      struct weir_buffer *out) {
    int rc = put_head(out, family->name, "counter", family->help);
    for (int32_t i = 0; i < weir_graph_dataset_count(p->graph) && rc == WEIR_OK; i++) {
        const struct weir_dataset *dataset = weir_graph_dataset(p->graph, i);
        int64_t value;
        memcpy(&value, (const char *)&dataset->counters + family->offset, sizeof(value));
        rc = put_row(out, family->name, dataset->name, NULL, value);
    }
    return rc;
}

static int put_reasons(struct weir_pipeline *p, bool warned, struct weir_buffer *out) {
    const char *name = warned ? "weir_rows_warned_total" : "weir_rows_rejected_total";
    int rc = put_head(out, name, "counter",
                      warned ? "Rows that failed a warning expectation."
                             : "Rows rejected, by each expectation or reason they failed.");
    for (int32_t i = 0; i < weir_graph_dataset_count(p->graph) && rc == WEIR_OK; i++) {
        const struct weir_dataset *dataset = weir_graph_dataset(p->graph, i);
        const struct weir_counters *c = &dataset->counters;
        for (int32_t t = 0; t < c->tally_count && rc == WEIR_OK; t++) {
            int64_t value = warned ? c->tallies[t].warned : c->tallies[t].rejected;
            if (value > 0) {
                rc = put_row(out, name, dataset->name, c->tallies[t].name, value);
            }
        }
    }
    return rc;
}

static int put_sinks(struct weir_pipeline *p, struct weir_buffer *out) {
    static const struct {
        const char *name;
        const char *help;
        size_t offset; /* in struct weir_sink_figures */
    } rows[] = {
        {"weir_sink_rows_total", "Rows written to a sink.",
         offsetof(struct weir_sink_figures, rows)},
        {"weir_sink_record_bytes_total", "Bytes of a sink's effects in the ledger.",
         offsetof(struct weir_sink_figures, record_bytes)},
        {"weir_sink_commits_total", "Commits of a sink that are visible outside.",
         offsetof(struct weir_sink_figures, commits)},
    };
    int rc = WEIR_OK;
    for (size_t f = 0; f < sizeof(rows) / sizeof(rows[0]) && rc == WEIR_OK; f++) {
        rc = put_head(out, rows[f].name, "counter", rows[f].help);
        for (int32_t i = 0; i < weir_sinks_count(p->sinks) && rc == WEIR_OK; i++) {
            struct weir_sink_figures figures = weir_sinks_figures(p->sinks, i);
            uint64_t value;
            memcpy(&value, (const char *)&figures + rows[f].offset, sizeof(value));
            rc = put_row(out, rows[f].name, weir_sinks_name(p->sinks, i), NULL, (int64_t)value);
        }
    }
    return rc;
}

static int put_disk(struct weir_pipeline *p, struct weir_buffer *out) {
    static const struct {
        const char *name;
        const char *kind;
        const char *help;
        size_t offset; /* in struct weir_table_disk_figures */
    } rows[] = {
        {"weir_state_disk_keys", "gauge", "Keys that wait on disk.",
         offsetof(struct weir_table_disk_figures, keys)},
        {"weir_state_disk_written_total", "counter", "Keys written there.",
         offsetof(struct weir_table_disk_figures, written)},
        {"weir_state_disk_asked_total", "counter", "Keys looked for there.",
         offsetof(struct weir_table_disk_figures, asked)},
        {"weir_state_disk_found_total", "counter", "Keys brought back.",
         offsetof(struct weir_table_disk_figures, found)},
        {"weir_state_disk_forgotten_total", "counter",
         "Keys forgotten there, unread, as their `ttl` was over.",
         offsetof(struct weir_table_disk_figures, forgotten)},
    };
    struct weir_table_disk_figures figures;
    const char *name;
    int rc = WEIR_OK;
    for (size_t f = 0; f < sizeof(rows) / sizeof(rows[0]) && rc == WEIR_OK; f++) {
        rc = weir_graph_on_disk(p->graph, 0, &name, &figures)
                 ? put_head(out, rows[f].name, rows[f].kind, rows[f].help)
                 : WEIR_OK;
        for (int32_t i = 0; rc == WEIR_OK && weir_graph_on_disk(p->graph, i, &name, &figures);
             i++) {
            uint64_t value;
            memcpy(&value, (const char *)&figures + rows[f].offset, sizeof(value));
            rc = put_row(out, rows[f].name, name, NULL, (int64_t)value);
        }
    }
    return rc;
}

/* How old what a restart begins from is, what the last restart took, and how far what readers see
 * is behind what is recorded. */
static int put_upkeep(struct weir_pipeline *p, struct weir_buffer *out) {
    int64_t newest = atomic_load(&p->snapshot_published_ns);
    int64_t now = weir_clock_mono_ns();
    int rc = put_one(out, "weir_snapshots_total", "counter", "Snapshots of state published.",
                     (double)atomic_load(&p->snapshots_published));
    if (rc == WEIR_OK && newest > 0) {
        rc = put_one(out, "weir_snapshot_age_seconds", "gauge", "Since the newest was published.",
                     (double)(now - newest) / 1e9);
        rc = rc == WEIR_OK
                 ? put_one(out, "weir_snapshot_seconds", "gauge", "What it took to write.",
                           (double)atomic_load(&p->snapshot_took_ns) / 1e9)
                 : rc;
    }
    if (rc == WEIR_OK) {
        rc = put_one(out, "weir_recovery_seconds", "gauge",
                     "What the start took to have state and positions again.",
                     (double)p->recovered_ns / 1e9);
    }
    rc = rc == WEIR_OK ? put_one(out, "weir_recovery_records", "gauge", "Records it went through.",
                                 (double)p->recovered_records)
                       : rc;
    for (int f = 0; f < 2 && rc == WEIR_OK; f++) {
        const char *name = f == 0 ? "weir_sink_lag_epochs" : "weir_sink_lag_seconds";
        rc = put_head(out, name, "gauge",
                      f == 0 ? "Durable epochs a sink has not shown yet."
                             : "How long the oldest of them has been durable.");
        for (int32_t i = 0; i < weir_sinks_count(p->sinks) && rc == WEIR_OK; i++) {
            struct weir_commit_lag lag = weir_commit_sink_lag(p->commit, (uint32_t)i);
            rc = weir_buffer_printf(out, "%s{dataset=\"%s\"} %.6f\n", name,
                                    weir_sinks_name(p->sinks, i),
                                    f == 0 ? (double)lag.epochs : (double)lag.ns / 1e9);
        }
    }
    return rc;
}

static int put_refused(struct weir_pipeline *p, struct weir_buffer *out) {
    static const char name[] = "weir_schemas_refused_total";
    int rc =
        put_head(out, name, "counter", "Writers' schemas that cannot become a source's columns.");
    for (int32_t s = 0; s < p->source_count && rc == WEIR_OK; s++) {
        rc = put_row(out, name, p->plan->sources[s].name, NULL,
                     weir_source_news(p->sources[s].source).refused);
    }
    return rc;
}

/* How far behind the watermark late rows are, as a histogram. */
static int put_late(struct weir_pipeline *p, struct weir_buffer *out) {
    static const char name[] = "weir_rows_late_behind_seconds";
    int rc = put_head(out, name, "histogram", "How far behind the watermark late rows are.");
    for (int32_t i = 0; i < weir_graph_dataset_count(p->graph) && rc == WEIR_OK; i++) {
        const struct weir_dataset *dataset = weir_graph_dataset(p->graph, i);
        const struct weir_counters *c = &dataset->counters;
        int64_t below = 0;
        for (int32_t b = 0; b < WEIR_LATE_BUCKETS && rc == WEIR_OK && c->late > 0; b++) {
            int64_t bound = weir_late_bound_us(b);
            char le[32];
            snprintf(le, sizeof(le), "%lld", (long long)(bound / 1000000));
            below += c->late_by[b];
            rc = weir_buffer_printf(out, "%s_bucket{dataset=\"%s\",le=\"%s\"} %lld\n", name,
                                    dataset->name, bound == INT64_MAX ? "+Inf" : le,
                                    (long long)below);
        }
        if (rc == WEIR_OK && c->late > 0) {
            rc = weir_buffer_printf(
                out, "%s_sum{dataset=\"%s\"} %.6f\n%s_count{dataset=\"%s\"} %lld\n", name,
                dataset->name, (double)c->late_us / 1e6, name, dataset->name, (long long)below);
        }
    }
    return rc;
}

static int put_asked(struct weir_pipeline *p, struct weir_buffer *out) {
    static const struct {
        const char *name;
        const char *kind;
        const char *help;
        size_t offset; /* in struct weir_asked */
    } rows[] = {
        {"weir_lookup_keys_total", "counter", "Keys a service was asked for.",
         offsetof(struct weir_asked, keys)},
        {"weir_lookup_requests_total", "counter", "Requests to a service that are over.",
         offsetof(struct weir_asked, requests)},
        {"weir_lookup_failed_total", "counter", "Keys without a good answer.",
         offsetof(struct weir_asked, failed)},
        {"weir_lookup_retries_total", "counter", "Requests that were tried again.",
         offsetof(struct weir_asked, retries)},
        {"weir_lookup_cached", "gauge", "Answers held.", offsetof(struct weir_asked, cached)},
        {"weir_lookup_rows_waiting", "gauge", "Rows of the stream that wait while others come.",
         offsetof(struct weir_asked, waiting)},
        {"weir_lookup_circuit_open", "gauge", "1 while a service is not asked after failures.",
         offsetof(struct weir_asked, open)},
    };
    struct weir_asked asked;
    int rc = WEIR_OK;
    for (size_t f = 0; f < sizeof(rows) / sizeof(rows[0]) && rc == WEIR_OK; f++) {
        rc = weir_graph_asked(p->graph, 0, &asked)
                 ? put_head(out, rows[f].name, rows[f].kind, rows[f].help)
                 : WEIR_OK;
        for (int32_t i = 0; rc == WEIR_OK && weir_graph_asked(p->graph, i, &asked); i++) {
            int64_t value;
            memcpy(&value, (const char *)&asked + rows[f].offset, sizeof(value));
            rc = put_row(out, rows[f].name, asked.name, NULL, value);
        }
    }
    return rc;
}

static int put_replies(struct weir_pipeline *p, struct weir_buffer *out) {
    static const struct {
        const char *name;
        const char *kind;
        const char *help;
        size_t offset; /* in struct weir_replies_figures */
    } rows[] = {
        {"weir_replies_kept", "gauge", "Replies to commands that are kept for repeats.",
         offsetof(struct weir_replies_figures, kept)},
        {"weir_replies_bytes", "gauge", "Bytes of them.",
         offsetof(struct weir_replies_figures, bytes)},
        {"weir_replies_forgotten_total", "counter", "Replies dropped for their age or room.",
         offsetof(struct weir_replies_figures, forgotten)},
    };
    if (p->command == NULL) {
        return WEIR_OK;
    }
    int rc = put_one(out, "weir_commands_total", "counter", "Commands carried out or rejected.",
                     (double)p->commands);
    for (size_t f = 0; f < sizeof(rows) / sizeof(rows[0]) && rc == WEIR_OK; f++) {
        rc = put_head(out, rows[f].name, rows[f].kind, rows[f].help);
        for (int32_t s = 0; s < p->reply_count && rc == WEIR_OK; s++) {
            struct weir_replies_figures figures;
            uint64_t value;
            if (p->replies[s] != NULL) {
                weir_replies_figures(p->replies[s], &figures);
                memcpy(&value, (const char *)&figures + rows[f].offset, sizeof(value));
                rc = put_row(out, rows[f].name, p->plan->sources[s].name, NULL, (int64_t)value);
            }
        }
    }
    return rc;
}

static int put_waits(struct weir_pipeline *p, struct weir_buffer *out) {
    const char *name = "weir_source_waits";
    int rc = p->source_count > 1
                 ? put_head(out, name, "gauge",
                            "1 while others are further behind in event time than its alignment.")
                 : WEIR_OK;
    for (int32_t s = 0; s < p->source_count && p->source_count > 1 && rc == WEIR_OK; s++) {
        rc = weir_buffer_printf(out, "%s{source=\"", name);
        rc = rc == WEIR_OK ? put_label(out, p->plan->sources[s].name) : rc;
        rc = rc == WEIR_OK ? weir_buffer_printf(out, "\"} %d\n", p->sources[s].waits) : rc;
    }
    return rc;
}

int weir_pipeline_metrics(struct weir_pipeline *p, struct weir_buffer *out) {
    int rc = put_run(p, out);
    rc = rc == WEIR_OK ? put_waits(p, out) : rc;
    rc = rc == WEIR_OK ? put_refused(p, out) : rc;
    rc = rc == WEIR_OK ? put_sinks(p, out) : rc;
    rc = rc == WEIR_OK ? put_asked(p, out) : rc;
    rc = rc == WEIR_OK ? put_replies(p, out) : rc;
    rc = rc == WEIR_OK ? put_upkeep(p, out) : rc;
    rc = rc == WEIR_OK ? put_disk(p, out) : rc;
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]) && rc == WEIR_OK; i++) {
        rc = put_family(p, &families[i], out);
    }
    rc = rc == WEIR_OK ? put_late(p, out) : rc;
    rc = rc == WEIR_OK ? put_reasons(p, false, out) : rc;
    return rc == WEIR_OK ? put_reasons(p, true, out) : rc;
}

struct weir_source *weir_pipeline_source(const struct weir_pipeline *p, int32_t index) {
    return index < p->source_count ? p->sources[index].source : NULL;
}

void weir_pipeline_set_url(struct weir_pipeline *p, const char *url) {
    snprintf(p->url, sizeof(p->url), "%s", url);
}
