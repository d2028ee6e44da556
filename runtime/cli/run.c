/* weir run */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "core/log.h"
#include "pipeline/graph/plan.h"
#include "pipeline/pipeline.h"
#include "serve/http/server.h"

static struct weir_pipeline *running; /* for the signal handler */
static volatile sig_atomic_t stopped; /* also between two runs */

static void on_stop(int signal_number) {
    (void)signal_number;
    stopped = 1;
    if (running != NULL) {
        weir_pipeline_stop(running);
    }
}

struct view {
    bool terminal;
    int64_t last_events;
    double last_seconds;
    bool line_open;
    struct weir_http_server *server; /* NULL where the process does not listen */
    struct weir_buffer metrics;
};

static void append_rejects(char *line, size_t size, size_t *used,
                           const struct weir_pipeline_progress *p) {
    for (int32_t i = 0; i < weir_graph_dataset_count(p->graph); i++) {
        const struct weir_counters *c = &weir_graph_dataset(p->graph, i)->counters;
        for (int32_t t = 0; t < c->tally_count; t++) {
            if (c->tallies[t].rejected > 0 && *used < size) {
                *used += (size_t)snprintf(line + *used, size - *used, " %s=%lld",
                                          c->tallies[t].name, (long long)c->tallies[t].rejected);
            }
        }
    }
}

/* How far behind now; for old data, where in time it is. */
static int append_watermark(char *out, size_t size, const struct weir_pipeline_progress *p) {
    double lag = (double)(p->clock_us - p->watermark_us) / 1e6;
    if (lag < 86400) {
        return snprintf(out, size, "  watermark lag %.1f s", lag);
    }
    time_t seconds = (time_t)(p->watermark_us / 1000000);
    struct tm when;
    char text[32] = "";
    if (gmtime_r(&seconds, &when) != NULL) {
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &when);
    }
    return snprintf(out, size, "  watermark at %s", text);
}

/* events/s, rows a dataset, rejects by reason, watermark lag, commit latency, memory. */
static void show(void *context, const struct weir_pipeline_progress *p) {
    struct view *view = context;
    char line[2048];
    double span = p->seconds - view->last_seconds;
    double rate = span > 0 ? (double)(p->events - view->last_events) / span : 0;
    view->last_events = p->events;
    view->last_seconds = p->seconds;
    size_t used =
        (size_t)snprintf(line, sizeof(line), "%5.0f s  %9.0f events/s ", p->seconds, rate);
    for (int32_t i = 0; i < weir_graph_dataset_count(p->graph); i++) {
        struct weir_dataset *dataset = weir_graph_dataset(p->graph, i);
        if (strncmp(dataset->name, "quarantine.", 11) != 0 && used < sizeof(line)) {
            used += (size_t)snprintf(line + used, sizeof(line) - used, " %s=%lld", dataset->name,
                                     (long long)dataset->counters.out);
        }
    }
    if (used < sizeof(line)) {
        used += (size_t)snprintf(line + used, sizeof(line) - used, "  rejects:");
    }
    append_rejects(line, sizeof(line), &used, p);
    if (used < sizeof(line) && p->watermark_us != INT64_MIN && p->watermark_us != INT64_MAX) {
        used += (size_t)append_watermark(line + used, sizeof(line) - used, p);
    }
    if (used < sizeof(line)) {
        snprintf(line + used, sizeof(line) - used, "  commit %.1f ms  %lld MB",
                 (double)p->commit_p50_us / 1000, (long long)(p->resident_bytes >> 20));
    }
    char shown[sizeof(line) + 8];
    snprintf(shown, sizeof(shown), view->terminal ? "\r\033[K%s" : "%s\n", line);
    view->line_open = view->terminal;
    weir_log_text(shown);
}

static void say(void *context, const char *text) {
    struct view *view = context;
    weir_log_text(view->line_open ? "\r\033[K" : "");
    weir_log_text(text);
    weir_log_text("\n");
    view->line_open = false;
}

static void print_summary(struct weir_pipeline *pipeline) {
    struct weir_pipeline_progress p;
    weir_pipeline_progress(pipeline, &p);
    printf("%lld events in %.1f s (%.0f/s), %llu epochs, commit p50 %.1f ms, %lld MB\n",
           (long long)p.events, p.seconds, p.seconds > 0 ? (double)p.events / p.seconds : 0,
           (unsigned long long)p.epochs, (double)p.commit_p50_us / 1000,
           (long long)(p.resident_bytes >> 20));
    for (int32_t i = 0; i < weir_graph_dataset_count(p.graph); i++) {
        const struct weir_dataset *dataset = weir_graph_dataset(p.graph, i);
        const struct weir_counters *c = &dataset->counters;
        if (c->in == 0 && strncmp(dataset->name, "quarantine.", 11) == 0) {
            continue;
        }
        printf("  %-34s in %10lld  out %10lld", dataset->name, (long long)c->in, (long long)c->out);
        for (int32_t t = 0; t < c->tally_count; t++) {
            if (c->tallies[t].rejected > 0) {
                printf("  %s %lld", c->tallies[t].name, (long long)c->tallies[t].rejected);
            }
        }
        if (c->duplicates > 0) {
            printf("  (duplicates %lld)", (long long)c->duplicates);
        }
        if (c->late > 0) {
            printf("  (late %lld)", (long long)c->late);
        }
        putchar('\n');
    }
}

/* On the loop: for those who ask the server. */
static void observe(void *context, struct weir_pipeline *pipeline) {
    struct view *view = context;
    if (view->server == NULL) {
        return;
    }
    weir_buffer_clear(&view->metrics);
    if (weir_pipeline_metrics(pipeline, &view->metrics) == WEIR_OK) {
        weir_http_server_publish(view->server, (const char *)view->metrics.data,
                                 view->metrics.size);
    }
}

static int start_server(struct view *view, struct weir_pipeline *pipeline, bool until_end,
                        struct weir_error *err) {
    const struct weir_plan *plan = weir_pipeline_plan(pipeline);
    if (!plan->http.present || until_end) { /* bounded: what the logs hold, no more */
        return WEIR_OK;
    }
    struct weir_source **sources = calloc((size_t)plan->source_count + 1, sizeof(*sources));
    struct weir_replies **replies =
        calloc((size_t)plan->source_count + 1, sizeof(struct weir_replies *));
    if (sources == NULL || replies == NULL) {
        free(sources);
        free(replies);
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    for (int32_t i = 0; i < plan->source_count; i++) {
        replies[i] = weir_pipeline_replies(pipeline, i);
        sources[i] = weir_pipeline_source(pipeline, i);
    }
    struct weir_http_server_options options = {
        .pipeline = plan->pipeline,
        .address = plan->http.address,
        .port = (int)plan->http.port,
        .certificate = plan->http.certificate,
        .key = plan->http.key,
        .client_authority = plan->http.client_authority,
        .connections_max = (int)plan->http.connections,
        .timeout_us = plan->http.timeout_us,
        .idle_us = plan->http.idle_us,
        .sources = sources,
        .source_count = plan->source_count,
        .replies = replies,
    };
    int rc = weir_http_server_create(&view->server, &options, err);
    free(sources);
    free(replies);
    if (rc == WEIR_OK) {
        weir_pipeline_set_url(pipeline, weir_http_server_url(view->server));
    }
    return rc;
}

/* One run; *again: it is to begin once more with the rules on disk. */
static int run_once(struct weir_arguments *arguments, const char *path, bool *again) {
    struct weir_error err = {0};
    *again = false;
    struct view view = {.terminal = isatty(STDERR_FILENO)};
    weir_buffer_init(&view.metrics, 16 << 20);
    struct weir_pipeline_options options = {
        .path = path,
        .settings = arguments->settings,
        .setting_count = arguments->setting_count,
        .until_end = arguments->until_end,
        .past_failed = arguments->past_failed,
        .watch = !arguments->no_reload,
        .self_path = arguments->self,
        .progress_every_ms = arguments->quiet ? 0
                             : view.terminal  ? 500
                                              : 5000,
        .progress = show,
        .message = say,
        .observe = observe,
        .context = &view,
    };
    struct weir_buffer report;
    weir_buffer_init(&report, 4 << 20);
    struct weir_pipeline *pipeline;
    int rc = weir_pipeline_create(&options, &pipeline, &report, NULL, &err);
    if (report.size > 0) {
        fprintf(stderr, "%.*s", (int)report.size, (const char *)report.data);
    }
    if (rc != WEIR_OK) {
        int code = report.size > 0 && rc == WEIR_E_CONFIG && !arguments->json
                       ? WEIR_EXIT_USER
                       : weir_cli_fail(arguments, &err);
        weir_buffer_fini(&report);
        return code;
    }
    weir_buffer_fini(&report);
    char ledger[1024];
    weir_plan_ledger_path(weir_pipeline_plan(pipeline), ledger, sizeof(ledger));
    weir_cli_register(path, ledger);
    running = pipeline;
    if (stopped) {
        weir_pipeline_stop(pipeline);
    }
    struct sigaction action = {.sa_handler = on_stop, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    rc = start_server(&view, pipeline, arguments->until_end, &err);
    if (rc == WEIR_OK) {
        rc = weir_pipeline_run(pipeline, &err);
    }
    weir_http_server_destroy(view.server);
    weir_buffer_fini(&view.metrics);
    if (view.line_open) {
        fputc('\n', stderr);
    }
    int code = WEIR_EXIT_DONE;
    if (rc != WEIR_OK) {
        code = weir_cli_fail(arguments, &err);
    }
    if (arguments->json && arguments->until_end && (rc == WEIR_OK || rc == WEIR_E_DATA)) {
        struct weir_buffer summary;
        weir_buffer_init(&summary, 16 << 20);
        if (weir_pipeline_summary(pipeline, &summary) == WEIR_OK) {
            printf("%.*s\n", (int)summary.size, (const char *)summary.data);
        }
        weir_buffer_fini(&summary);
    } else if (rc == WEIR_OK && !arguments->json) {
        print_summary(pipeline);
    }
    running = NULL;
    *again = rc == WEIR_OK && weir_pipeline_restarts(pipeline) && !stopped;
    weir_pipeline_destroy(pipeline);
    return code;
}

int weir_cli_run(struct weir_arguments *arguments) {
    struct weir_error err = {0};
    if (arguments->positional_count != 1) {
        return weir_cli_usage(arguments, "run wants one pipeline file");
    }
    char *path;
    if (weir_cli_enter_project(arguments->positionals[0], &path, &err) != WEIR_OK) {
        return weir_cli_fail(arguments, &err);
    }
    bool again = true;
    int code = WEIR_EXIT_DONE;
    while (again) {
        code = run_once(arguments, path, &again);
    }
    free(path);
    return code;
}
