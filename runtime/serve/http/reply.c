/* Commands: requests that wait, after they are durable, for what the pipeline made of them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "serve/http/request.h"
#include "state/replies.h"

const int64_t http_reply_bounds_us[WEIR_HTTP_REPLY_TIMES] = {
    1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000, 1000000, 5000000, INT64_MAX,
};

static void note_time(const struct request *r) {
    struct weir_http_counts *counts = r->path->counts;
    int64_t us = (weir_clock_mono_ns() - r->complete_ns) / 1000;
    int at = 0;
    while (us > http_reply_bounds_us[at]) {
        at++;
    }
    atomic_fetch_add_explicit(&counts->reply_times[at], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&counts->reply_us, (uint64_t)us, memory_order_relaxed);
}

static int forgotten(struct weir_http_server *server, struct request *r) {
    char message[256];
    snprintf(message, sizeof(message),
             "the reply to event %" PRIu64 " is not kept any more; what it led to is in the "
             "tables of the pipeline",
             r->number);
    return request_refuse(server, r, 410, message);
}

/* -1: the connection is to be closed. *answered: there was something to answer with. */
static int look(struct weir_http_server *server, struct request *r, bool *answered) {
    struct weir_buffer body;
    enum weir_reply found;
    int status = 0;
    weir_buffer_init(&body, WEIR_REPLY_BYTES_MAX);
    int rc = weir_replies_find(r->path->replies, r->number, &found, &status, &body);
    *answered = rc != WEIR_OK || found != WEIR_REPLY_NONE;
    if (rc != WEIR_OK) {
        rc = request_refuse(server, r, 503, "out of memory");
    } else if (found == WEIR_REPLY_FOUND) {
        request_count(server, r, status);
        rc = request_give(r, status, "application/json", "", body.data, body.size);
    } else if (found == WEIR_REPLY_FORGOTTEN) {
        rc = forgotten(server, r);
    }
    weir_buffer_fini(&body);
    return rc;
}

int request_reply_await(struct weir_http_server *server, struct request *r) {
    bool answered;
    int rc = look(server, r, &answered);
    if (answered) { /* it came before this request was settled, or with an earlier one */
        note_time(r);
        return rc;
    }
    r->awaits_reply = true;
    request_wait(server, r);
    lws_set_timer_usecs(r->wsi, r->path->path->reply_timeout_us);
    return 0;
}

void request_reply_look(struct weir_http_server *server) {
    for (struct request *r = server->waiting.next; r != &server->waiting;) {
        struct request *next = r->next;
        bool answered = false;
        if (r->awaits_reply && look(server, r, &answered) != 0) {
            lws_set_timeout(r->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
        }
        if (answered) {
            request_leave(r);
            note_time(r);
        }
        r = next;
    }
}

int request_reply_timeout(struct weir_http_server *server, struct request *r) {
    char message[400];
    snprintf(message, sizeof(message),
             "the command is recorded as event %" PRIu64 " of %s and will be carried out; its "
             "reply did not come in time: GET %s/%" PRIu64 " or send it again with its "
             "idempotency key; `weir status` and `weir why-waiting` say what holds it up",
             r->number, r->path->path->source, r->path->path->path, r->number);
    request_leave(r);
    r->awaits_reply = false;
    return request_refuse(server, r, 504, message);
}

struct server_path *request_reply_path(struct weir_http_server *server, const char *uri,
                                       size_t size, uint64_t *number) {
    size_t digits = 0;
    while (digits < size && digits < 19 && uri[size - digits - 1] >= '0' &&
           uri[size - digits - 1] <= '9') {
        digits++;
    }
    if (digits == 0 || digits + 1 >= size || uri[size - digits - 1] != '/') {
        return NULL;
    }
    size_t prefix = size - digits - 1;
    for (int i = 0; i < server->path_count; i++) {
        struct server_path *path = &server->paths[i];
        if (path->replies != NULL && strlen(path->path->path) == prefix &&
            memcmp(path->path->path, uri, prefix) == 0) {
            *number = strtoull(uri + prefix + 1, NULL, 10);
            return path;
        }
    }
    return NULL;
}

int request_reply_tell(struct weir_http_server *server, struct request *r) {
    bool answered;
    int rc = look(server, r, &answered);
    if (answered) {
        return rc;
    }
    if (r->number == 0 || r->number >= weir_http_log_end(r->path->path->log)) {
        return request_refuse(server, r, 404, "there is no such event");
    }
    char body[64];
    int size = snprintf(body, sizeof(body), "{\"event\":%" PRIu64 "}\n", r->number);
    request_count(server, r, 202);
    return request_give(r, 202, "application/json", "", body, (size_t)size);
}
