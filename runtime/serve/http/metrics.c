/* /metrics: what the pipeline last published, then the door's own counters, as they are now. */
#include <inttypes.h>

#include "core/clock.h"
#include "serve/http/request.h"

#define STALLED_NS INT64_C(10000000000)

bool http_is_alive(struct weir_http_server *server) {
    return weir_clock_mono_ns() - atomic_load(&server->alive_ns) < STALLED_NS;
}

static int put_codes(struct weir_buffer *out, const struct weir_http_counts *counts,
                     const char *source) {
    int rc = WEIR_OK;
    for (int code = 0; code < WEIR_HTTP_CODES && rc == WEIR_OK; code++) {
        uint64_t count = atomic_load_explicit(&counts->answers[code], memory_order_relaxed);
        if (count > 0) {
            rc = weir_buffer_printf(
                out, "weir_http_requests_total{source=\"%s\",code=\"%d\"} %" PRIu64 "\n", source,
                code, count);
        }
    }
    return rc;
}

static int put_requests(struct weir_http_server *server, struct weir_buffer *out) {
    int rc = weir_buffer_append_text(
        out, "# HELP weir_http_requests_total Requests answered, by source and status.\n"
             "# TYPE weir_http_requests_total counter\n");
    for (int i = 0; i < server->path_count && rc == WEIR_OK; i++) {
        rc = put_codes(out, server->paths[i].counts, server->paths[i].path->source);
    }
    return rc == WEIR_OK ? put_codes(out, &server->counts, "") : rc;
}

enum figure { BODY_BYTES, REPEATS, EVENTS, LAG, LOG_BYTES, KEYS, SYNCS, FIGURES };

static const struct {
    const char *name;
    const char *type;
    const char *help;
} figures[FIGURES] = {
    {"weir_http_body_bytes_total", "counter", "Bytes of accepted bodies, as they came."},
    {"weir_http_repeats_total", "counter",
     "Requests answered as before because of their idempotency key."},
    {"weir_http_events_total", "counter", "Events appended to the log."},
    {"weir_http_lag_bytes", "gauge", "Bytes of the log the pipeline has not read yet."},
    {"weir_http_log_bytes", "gauge", "Bytes of the log on disk."},
    {"weir_http_keys", "gauge", "Idempotency keys remembered."},
    {"weir_http_syncs_total", "counter", "Groups of requests written and synced."},
};

static uint64_t value_of(const struct server_path *path, enum figure figure) {
    struct weir_http_log_figures log;
    weir_http_log_figures(path->path->log, &log);
    switch (figure) {
    case BODY_BYTES:
        return atomic_load(&path->counts->body_bytes);
    case REPEATS:
        return atomic_load(&path->counts->repeats);
    case EVENTS:
        return log.events;
    case LAG:
        return log.unread_bytes;
    case LOG_BYTES:
        return log.kept_bytes;
    case KEYS:
        return log.keys;
    default:
        return log.groups;
    }
}

static int put_paths(struct weir_http_server *server, struct weir_buffer *out) {
    int rc = WEIR_OK;
    for (int f = 0; f < FIGURES && rc == WEIR_OK && server->path_count > 0; f++) {
        rc = weir_buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", figures[f].name,
                                figures[f].help, figures[f].name, figures[f].type);
        for (int i = 0; i < server->path_count && rc == WEIR_OK; i++) {
            rc = weir_buffer_printf(out, "%s{source=\"%s\"} %" PRIu64 "\n", figures[f].name,
                                    server->paths[i].path->source,
                                    value_of(&server->paths[i], (enum figure)f));
        }
    }
    return rc;
}

/* From the whole request to its reply. */
static int put_replies(struct weir_http_server *server, struct weir_buffer *out) {
    static const char name[] = "weir_reply_seconds";
    bool headed = false;
    int rc = WEIR_OK;
    for (int i = 0; i < server->path_count && rc == WEIR_OK; i++) {
        const struct server_path *path = &server->paths[i];
        uint64_t below = 0;
        if (path->replies != NULL && !headed) {
            headed = true;
            rc = weir_buffer_printf(out,
                                    "# HELP %s Time to reply to a command.\n# TYPE %s "
                                    "histogram\n",
                                    name, name);
        }
        for (int b = 0; b < WEIR_HTTP_REPLY_TIMES && rc == WEIR_OK && path->replies != NULL; b++) {
            char le[32];
            snprintf(le, sizeof(le), "%g", (double)http_reply_bounds_us[b] / 1e6);
            below += atomic_load(&path->counts->reply_times[b]);
            rc = weir_buffer_printf(out, "%s_bucket{source=\"%s\",le=\"%s\"} %" PRIu64 "\n", name,
                                    path->path->source,
                                    b == WEIR_HTTP_REPLY_TIMES - 1 ? "+Inf" : le, below);
        }
        if (rc == WEIR_OK && path->replies != NULL) {
            rc = weir_buffer_printf(
                out, "%s_sum{source=\"%s\"} %.6f\n%s_count{source=\"%s\"} %" PRIu64 "\n", name,
                path->path->source, (double)atomic_load(&path->counts->reply_us) / 1e6, name,
                path->path->source, below);
        }
    }
    return rc;
}

int http_metrics(struct weir_http_server *server, struct weir_buffer *out) {
    pthread_mutex_lock(&server->lock);
    int rc = weir_buffer_append(out, server->metrics.data, server->metrics.size);
    pthread_mutex_unlock(&server->lock);
    rc = rc == WEIR_OK ? put_requests(server, out) : rc;
    rc = rc == WEIR_OK ? put_paths(server, out) : rc;
    rc = rc == WEIR_OK ? put_replies(server, out) : rc;
    return rc != WEIR_OK
               ? rc
               : weir_buffer_printf(
                     out,
                     "# HELP weir_http_connections Open connections.\n"
                     "# TYPE weir_http_connections gauge\nweir_http_connections %d\n"
                     "# HELP weir_http_connections_refused_total Connections over the cap.\n"
                     "# TYPE weir_http_connections_refused_total counter\n"
                     "weir_http_connections_refused_total %" PRIu64 "\n",
                     server->connections, server->refused_connections);
}
