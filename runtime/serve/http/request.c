/* From a request's head to its answer. What can be refused by the head is refused before the body
 * is read: no such path, method, credentials, rate, length, type. */
#include "serve/http/request.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/clock.h"
#include "core/fault.h"
#include "core/log.h"
#include "serve/http/auth.h"

enum {
    LINGER_US = 2000000,
    RETRY_SECONDS = 1,
    DISCARD_MAX = 1 << 20, /* a refused body up to this is read, so that the connection lives on */
};

#define BODIES_MAX ((uint64_t)256 << 20)

/* --- answers ------------------------------------------------------------------------------ */

static const char *reason_of(int status) {
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {200, "OK"},
        {202, "Accepted"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
    };
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (reasons[i].status == status) {
            return reasons[i].reason;
        }
    }
    return "Internal Server Error";
}

void request_count(struct weir_http_server *server, const struct request *r, int status) {
    struct weir_http_counts *counts = r->path != NULL ? r->path->counts : &server->counts;
    atomic_fetch_add_explicit(&counts->answers[status], 1, memory_order_relaxed);
}

int request_give(struct request *r, int status, const char *type, const char *headers,
                 const void *body, size_t size) {
    static const uint8_t room[LWS_PRE] = {0};
    weir_buffer_clear(&r->answer);
    int rc = weir_buffer_append(&r->answer, room, sizeof(room));
    rc = rc != WEIR_OK ? rc
                       : weir_buffer_printf(&r->answer,
                                            "HTTP/1.1 %d %s\r\nContent-Type: %s\r\n"
                                            "Content-Length: %zu\r\n%s%s\r\n",
                                            status, reason_of(status), type, size, headers,
                                            r->closing ? "Connection: close\r\n" : "");
    rc = rc != WEIR_OK ? rc : weir_buffer_append(&r->answer, body, size);
    if (rc != WEIR_OK) {
        return -1;
    }
    r->answered = true;
    lws_callback_on_writable(r->wsi);
    return 0;
}

static void escape(const char *text, char *out, size_t size) {
    size_t used = 0;
    for (; *text != '\0' && used + 8 < size; text++) {
        uint8_t byte = (uint8_t)*text;
        if (byte == '"' || byte == '\\') {
            out[used++] = '\\';
            out[used++] = (char)byte;
        } else if (byte < 0x20 || byte >= 0x7f) {
            used += (size_t)snprintf(out + used, size - used, "?");
        } else {
            out[used++] = (char)byte;
        }
    }
    out[used] = '\0';
}

int request_refuse(struct weir_http_server *server, struct request *r, int status,
                   const char *message) {
    char text[600];
    char body[800];
    char headers[128] = "";
    escape(message, text, sizeof(text));
    int size = snprintf(body, sizeof(body), "{\"error\":{\"status\":%d,\"message\":\"%s\"}}\n",
                        status, text);
    if (status == 429 || status == 503) {
        snprintf(headers, sizeof(headers), "Retry-After: %d\r\n", RETRY_SECONDS);
    } else if (status == 401 && r->path != NULL && r->path->path->tokens != NULL) {
        snprintf(headers, sizeof(headers), "WWW-Authenticate: Bearer\r\n");
    } else if (status == 405) {
        snprintf(headers, sizeof(headers), "Allow: %s\r\n", r->path != NULL ? "POST" : "GET, HEAD");
    }
    request_count(server, r, status);
    return request_give(r, status, "application/json", headers, body, (size_t)size);
}

/* --- the head ----------------------------------------------------------------------------- */

/* A header's value; false when absent or longer than fits. */
static bool header(struct lws *wsi, enum lws_token_indexes token, char *out, size_t size) {
    out[0] = '\0';
    int length = lws_hdr_total_length(wsi, token);
    return length > 0 && (size_t)length < size && lws_hdr_copy(wsi, out, (int)size, token) > 0;
}

/* `name` in lower case with its colon. -1: longer than fits; 0: absent. */
static int custom(struct lws *wsi, const char *name, char *out, size_t size) {
    out[0] = '\0';
    int length = lws_hdr_custom_length(wsi, name, (int)strlen(name));
    if (length <= 0) {
        return 0;
    }
    if ((size_t)length >= size ||
        lws_hdr_custom_copy(wsi, out, (int)size, name, (int)strlen(name)) < 0) {
        return -1;
    }
    return 1;
}

/* Headers libwebsockets knows are not found among the custom ones. */
static int any_header(struct lws *wsi, const char *name, char *out, size_t size) {
    for (int token = 0; token < WSI_TOKEN_COUNT; token++) {
        const unsigned char *known = lws_token_to_string((enum lws_token_indexes)token);
        if (known != NULL && strcasecmp((const char *)known, name) == 0) {
            int length = lws_hdr_total_length(wsi, (enum lws_token_indexes)token);
            return length <= 0 ? 0 : header(wsi, (enum lws_token_indexes)token, out, size) ? 1 : -1;
        }
    }
    return custom(wsi, name, out, size);
}

static void lower_type(char *type) {
    char *end = type + strcspn(type, "; \t");
    *end = '\0';
    for (char *p = type; *p != '\0'; p++) {
        *p = (char)tolower((unsigned char)*p);
    }
}

/* CloudEvents' attributes known by the specification, and a few extensions. */
static int read_attributes(struct request *r, struct lws *wsi) {
    static const char *const names[] = {
        "specversion", "id",          "source",       "type",          "subject",  "time",
        "dataschema",  "traceparent", "tracestate",   "partitionkey",  "sequence", "sequencetype",
        "sampledrate", "dataref",     "recordedtime", "correlationid", NULL};
    char value[1024];
    char name[64];
    if (any_header(wsi, "ce-specversion:", value, sizeof(value)) == 0) {
        return 0;
    }
    if (r->attributes == NULL) {
        r->attributes = calloc(HTTP_ATTRIBUTES_MAX, sizeof(*r->attributes));
    }
    for (int i = 0; names[i] != NULL && r->attributes != NULL; i++) {
        snprintf(name, sizeof(name), "ce-%s:", names[i]);
        int found = any_header(wsi, name, value, sizeof(value));
        if (found < 0) {
            snprintf(r->message, sizeof(r->message), "ce-%s is longer than 1023 bytes", names[i]);
            return 400;
        }
        if (found > 0) {
            struct http_attribute *attribute = &r->attributes[r->attribute_count++];
            snprintf(attribute->name, sizeof(attribute->name), "%s", names[i]);
            snprintf(attribute->value, sizeof(attribute->value), "%s", value);
        }
    }
    return r->attributes == NULL ? 503 : 0;
}

static bool within_rate(struct server_path *path) {
    const struct weir_http_path *p = path->path;
    if (p->rate == 0) {
        return true;
    }
    int64_t now = weir_clock_mono_ns();
    double most = p->burst > 0 ? (double)p->burst : 1;
    path->tokens += (double)(now - path->filled_ns) / 1e9 * (double)p->rate;
    path->tokens = path->tokens > most ? most : path->tokens;
    path->filled_ns = now;
    if (path->tokens < 1) {
        return false;
    }
    path->tokens -= 1;
    return true;
}

/* How long the body will be. 0, or a status. */
static int read_length(struct request *r, struct lws *wsi) {
    char text[64];
    bool coded = lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0;
    bool sized = lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH) > 0;
    if (coded) {
        header(wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING, text, sizeof(text));
        r->chunked = true;
        r->closing = true; /* libwebsockets does not see where the body ends */
        if (strcasecmp(text, "chunked") != 0 || sized) {
            snprintf(r->message, sizeof(r->message),
                     sized ? "both Content-Length and Transfer-Encoding"
                           : "the only Transfer-Encoding read here is chunked");
            return 400;
        }
        return 0;
    }
    if (!sized) {
        snprintf(r->message, sizeof(r->message), "Content-Length is missing");
        r->closing = true;
        return 411;
    }
    if (!header(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH, text, sizeof(text)) ||
        strspn(text, "0123456789") != strlen(text) || strlen(text) > 18) {
        snprintf(r->message, sizeof(r->message), "Content-Length is no number");
        r->closing = true;
        return 400;
    }
    r->expected = strtoull(text, NULL, 10);
    return 0;
}

/* Who sends, and how often. */
static int check_sender(struct request *r, struct lws *wsi) {
    const struct weir_http_path *path = r->path->path;
    char text[4096];
    if (path->tokens != NULL) {
        header(wsi, WSI_TOKEN_HTTP_AUTHORIZATION, text, sizeof(text));
        bool good = http_bearer_matches(text, path->tokens);
        explicit_bzero(text, sizeof(text));
        if (!good) {
            snprintf(r->message, sizeof(r->message), "a valid bearer token is needed");
            return 401;
        }
    }
    if (path->signature.secret != NULL &&
        any_header(wsi, path->signature.header, r->signature, sizeof(r->signature)) <= 0) {
        snprintf(r->message, sizeof(r->message), "the request is not signed: %.*s is missing",
                 (int)strlen(path->signature.header) - 1, path->signature.header);
        return 401;
    }
    if (!within_rate(r->path)) {
        snprintf(r->message, sizeof(r->message), "more than %" PRIu64 " requests a second",
                 path->rate);
        return 429;
    }
    return 0;
}

static int check_head(struct weir_http_server *server, struct request *r, struct lws *wsi) {
    const struct weir_http_path *path = r->path->path;
    int status = check_sender(r, wsi);
    if (status != 0) {
        return status;
    }
    if (r->expected > path->max_body_bytes) {
        snprintf(r->message, sizeof(r->message), "the body is longer than %" PRIu64 " bytes",
                 path->max_body_bytes);
        return 413;
    }
    if (server->body_bytes + r->expected > BODIES_MAX) {
        snprintf(r->message, sizeof(r->message), "too many bodies are being read");
        return 503;
    }
    header(wsi, WSI_TOKEN_HTTP_CONTENT_TYPE, r->content_type, sizeof(r->content_type));
    lower_type(r->content_type);
    header(wsi, WSI_TOKEN_HTTP_CONTENT_ENCODING, r->content_encoding, sizeof(r->content_encoding));
    status = read_attributes(r, wsi);
    if (status == 0) {
        struct http_body body = {.path = path,
                                 .content_type = r->content_type,
                                 .content_encoding = r->content_encoding,
                                 .attributes = r->attributes,
                                 .attribute_count = r->attribute_count};
        status = http_body_type(&body, r->message, sizeof(r->message));
    }
    if (status == 0 && path->key_header != NULL) {
        int found = any_header(wsi, path->key_header, r->key, sizeof(r->key));
        r->has_key = found > 0;
        if (found < 0) {
            snprintf(r->message, sizeof(r->message), "the idempotency key is longer than %d bytes",
                     HTTP_KEY_MAX);
            status = 400;
        }
    }
    return status;
}

static struct server_path *find_path(struct weir_http_server *server, const char *uri,
                                     size_t size) {
    for (int i = 0; i < server->path_count; i++) {
        const char *path = server->paths[i].path->path;
        if (strlen(path) == size && memcmp(path, uri, size) == 0) {
            return &server->paths[i];
        }
    }
    return NULL;
}

static bool is(const char *uri, size_t size, const char *path) {
    return size == strlen(path) && memcmp(uri, path, size) == 0;
}

static int tell_health(struct weir_http_server *server, struct request *r) {
    bool alive = http_is_alive(server);
    char body[256];
    int size = snprintf(body, sizeof(body), "{\"status\":\"%s\",\"pipeline\":\"%s\"}\n",
                        alive ? "ok" : "stalled", server->pipeline);
    request_count(server, r, alive ? 200 : 503);
    return request_give(r, alive ? 200 : 503, "application/json", "", body, (size_t)size);
}

static int tell_metrics(struct weir_http_server *server, struct request *r) {
    struct weir_buffer text;
    weir_buffer_init(&text, 32 << 20);
    int rc = http_metrics(server, &text) == WEIR_OK ? 0 : -1;
    if (rc == 0) {
        request_count(server, r, 200);
        rc = request_give(r, 200, "text/plain; version=0.0.4; charset=utf-8", "", text.data,
                          text.size);
    } else {
        rc = request_refuse(server, r, 503, "out of memory");
    }
    weir_buffer_fini(&text);
    return rc;
}

static void reset(struct weir_http_server *server, struct request *r, struct lws *wsi) {
    request_end(server, r);
    if (r->answer.limit == 0) {
        weir_buffer_init(&r->answer, 64 << 20);
    }
    r->wsi = wsi;
    r->active = true;
}

/* A GET, or what is not meant for a source. */
static int tell(struct weir_http_server *server, struct request *r, const char *uri, size_t size,
                bool get) {
    bool health = is(uri, size, "/health");
    if (!health && !is(uri, size, "/metrics")) {
        return request_refuse(server, r, 404, "there is nothing at this path");
    }
    if (!get) {
        return request_refuse(server, r, 405, "only GET is answered here");
    }
    return health ? tell_health(server, r) : tell_metrics(server, r);
}

/* The body is refused by its head: read and thrown away where it is short, else cut off. */
static int refuse_early(struct weir_http_server *server, struct request *r, int status,
                        bool awaits) {
    bool drains =
        !r->chunked && r->expected > 0 && r->expected <= DISCARD_MAX && !awaits && !r->closing;
    if (drains) {
        r->refused = status;
        return 0;
    }
    bool has_body = r->chunked || r->expected > 0;
    r->closing = r->closing || has_body;
    return request_refuse(server, r, status, r->message);
}

int request_begin(struct weir_http_server *server, struct request *r, struct lws *wsi,
                  const char *uri, size_t uri_size) {
    reset(server, r, wsi);
    bool post = lws_hdr_total_length(wsi, WSI_TOKEN_POST_URI) > 0;
    bool get = lws_hdr_total_length(wsi, WSI_TOKEN_GET_URI) > 0 ||
               lws_hdr_total_length(wsi, WSI_TOKEN_HEAD_URI) > 0;
    lws_set_timer_usecs(wsi, server->timeout_us);
    r->path = find_path(server, uri, uri_size);
    int status = 0;
    if (get && r->path == NULL &&
        (r->path = request_reply_path(server, uri, uri_size, &r->number)) != NULL) {
        status = check_sender(r, wsi);
        return status != 0 ? request_refuse(server, r, status, r->message)
                           : request_reply_tell(server, r);
    }
    if (get && r->path == NULL) {
        return tell(server, r, uri, uri_size, true);
    }
    if (get) {
        return request_refuse(server, r, 405, "send events with POST");
    }
    if (post) {
        status = read_length(r, wsi);
    } else {
        r->closing = true; /* a body, if any, is not ours to read */
    }
    if (r->path == NULL) {
        bool known = is(uri, uri_size, "/health") || is(uri, uri_size, "/metrics");
        status = known ? 405 : 404;
        snprintf(r->message, sizeof(r->message), "%s",
                 known ? "only GET is answered here" : "there is nothing at this path");
    } else if (!post) {
        status = 405;
        snprintf(r->message, sizeof(r->message), "send events with POST");
    } else if (status == 0) {
        status = check_head(server, r, wsi);
    }
    char expects[64];
    bool awaits = any_header(wsi, "expect:", expects, sizeof(expects)) > 0;
    if (status == 0 && awaits && strcasecmp(expects, "100-continue") != 0) {
        status = 417;
        snprintf(r->message, sizeof(r->message), "the only Expect met here is 100-continue");
    }
    if (status != 0) {
        return refuse_early(server, r, status, awaits);
    }
    weir_buffer_init(&r->body, r->path->path->max_body_bytes);
    if (awaits && (r->chunked || r->expected > 0)) {
        uint8_t go_on[LWS_PRE + 32];
        static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
        memcpy(go_on + LWS_PRE, line, sizeof(line) - 1);
        if (lws_write(wsi, go_on + LWS_PRE, sizeof(line) - 1, LWS_WRITE_HTTP_HEADERS_CONTINUATION) <
            0) {
            return -1;
        }
    }
    return 0;
}

/* --- the body ----------------------------------------------------------------------------- */

static int too_large(struct weir_http_server *server, struct request *r) {
    char message[128];
    r->closing = true;
    snprintf(message, sizeof(message), "the body is longer than %" PRIu64 " bytes",
             r->path->path->max_body_bytes);
    return request_refuse(server, r, 413, message);
}

static int take(struct weir_http_server *server, struct request *r, const uint8_t *bytes,
                size_t size) {
    if (r->body.size + size > r->path->path->max_body_bytes) {
        return too_large(server, r);
    }
    if (server->body_bytes + size > BODIES_MAX ||
        weir_buffer_append(&r->body, bytes, size) != WEIR_OK) {
        r->closing = true;
        return request_refuse(server, r, 503, "too many bodies are being read");
    }
    server->body_bytes += size;
    return 0;
}

static int bad_chunk(struct weir_http_server *server, struct request *r) {
    r->closing = true;
    return request_refuse(server, r, 400, "the chunked coding is broken");
}

static int take_chunks(struct weir_http_server *server, struct request *r, const uint8_t *bytes,
                       size_t size) {
    for (size_t at = 0; at < size && !r->answered && r->chunk != CHUNK_DONE;) {
        if (r->chunk != CHUNK_DATA) {
            if (!request_chunk_byte(r, bytes[at++])) {
                return bad_chunk(server, r);
            }
            continue;
        }
        size_t part = size - at < r->chunk_left ? size - at : (size_t)r->chunk_left;
        int rc = take(server, r, bytes + at, part);
        if (rc != 0 || r->answered) {
            return rc;
        }
        at += part;
        r->chunk_left -= part;
        if (r->chunk_left == 0) {
            r->chunk = CHUNK_END;
        }
    }
    return r->chunk == CHUNK_DONE && !r->answered && !r->waiting ? request_complete(server, r) : 0;
}

int request_body(struct weir_http_server *server, struct request *r, const uint8_t *bytes,
                 size_t size) {
    if (r->answered || r->refused != 0 || r->waiting) {
        return 0; /* thrown away */
    }
    return r->chunked ? take_chunks(server, r, bytes, size) : take(server, r, bytes, size);
}

/* --- into the log ------------------------------------------------------------------------- */

void request_wait(struct weir_http_server *server, struct request *r) {
    if (r->waiting) {
        return;
    }
    r->waiting = true;
    r->next = &server->waiting;
    r->previous = server->waiting.previous;
    r->previous->next = r;
    server->waiting.previous = r;
}

void request_leave(struct request *r) {
    if (r->waiting) {
        r->previous->next = r->next;
        r->next->previous = r->previous;
        r->waiting = false;
    }
}

/* Its events are durable. */
static int accepted(struct weir_http_server *server, struct request *r) {
    if (r->path->replies != NULL) {
        return request_reply_await(server, r);
    }
    request_count(server, r, 202);
    return request_give(r, 202, "application/json", "", r->message, strlen(r->message));
}

/* The answer is made now and sent when its group is durable. */
static int append(struct weir_http_server *server, struct request *r) {
    const struct weir_http_path *path = r->path->path;
    struct weir_error err = {0};
    struct weir_http_ticket ticket;
    struct weir_http_append what = {.events = server->events.list,
                                    .count = server->events.count,
                                    .key = r->has_key ? r->key : NULL,
                                    .key_size = strlen(r->key),
                                    .body_hash = XXH3_64bits(r->body.data, r->body.size),
                                    .time_us = weir_clock_wall_us()};
    int rc = weir_http_log_append(path->log, &what, &ticket, &err);
    if (rc != WEIR_OK) {
        int status = rc == WEIR_E_LIMIT ? 429 : rc == WEIR_E_CONFLICT ? 422 : 503;
        return request_refuse(server, r, status, err.message);
    }
    if (ticket.repeated) {
        atomic_fetch_add_explicit(&r->path->counts->repeats, 1, memory_order_relaxed);
    }
    atomic_fetch_add_explicit(&r->path->counts->body_bytes, r->body.size, memory_order_relaxed);
    snprintf(r->message, sizeof(r->message), "{\"accepted\":%u,\"first\":%" PRIu64 "}\n",
             ticket.count, ticket.first);
    r->number = ticket.first;
    if (ticket.durable) {
        return accepted(server, r);
    }
    r->group = ticket.group;
    request_wait(server, r);
    return 0;
}

int request_complete(struct weir_http_server *server, struct request *r) {
    if (r->complete) { /* said ahead of the answer: libwebsockets takes it for more of this body */
        r->closing = true;
        return 0;
    }
    r->complete = true;
    if (r->answered) {
        return 0;
    }
    if (r->refused != 0) {
        return request_refuse(server, r, r->refused, r->message);
    }
    if (r->path == NULL) {
        return 0;
    }
    const struct weir_http_path *path = r->path->path;
    static const uint8_t nothing[1];
    const uint8_t *bytes = r->body.data != NULL ? r->body.data : nothing;
    if (path->signature.secret != NULL &&
        !http_signature_matches(&path->signature, r->signature, bytes, r->body.size)) {
        return request_refuse(server, r, 403, "the signature does not match the body");
    }
    struct http_body body = {.path = path,
                             .content_type = r->content_type,
                             .content_encoding = r->content_encoding,
                             .attributes = r->attributes,
                             .attribute_count = r->attribute_count,
                             .bytes = bytes,
                             .size = r->body.size};
    int status = http_body_events(&body, &server->events);
    if (status == 0 && path->replies && server->events.count != 1) {
        return request_refuse(server, r, 400, "a request is one command here; send each by itself");
    }
    r->complete_ns = weir_clock_mono_ns();
    return status != 0 ? request_refuse(server, r, status, server->events.message)
                       : append(server, r);
}

int request_timeout(struct weir_http_server *server, struct request *r) {
    if (r->lingering || r->answered) {
        return -1; /* nobody takes the answer */
    }
    if (r->awaits_reply) {
        return request_reply_timeout(server, r);
    }
    if (!r->active || r->waiting) { /* idle; or the disk is slow, not the sender */
        return 0;
    }
    r->closing = true;
    return request_refuse(server, r, 408, "the request did not arrive in time");
}

/* The path's requests up to `group` are durable, or not kept. */
static void settle(struct weir_http_server *server, struct server_path *path, uint32_t group,
                   int code) {
    for (struct request *r = server->waiting.next; r != &server->waiting;) {
        struct request *next = r->next;
        if (r->path == path && !r->awaits_reply && (int32_t)(group - r->group) >= 0) {
            request_leave(r);
            int rc = code == WEIR_OK
                         ? accepted(server, r)
                         : request_refuse(server, r, 503,
                                          "the request could not be kept; send it again");
            if (rc != 0) {
                lws_set_timeout(r->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
            }
        }
        r = next;
    }
}

void request_settle(struct weir_http_server *server) {
    for (int i = 0; i < server->path_count; i++) {
        struct server_path *path = &server->paths[i];
        struct settled settled[HTTP_SETTLED_MAX];
        pthread_mutex_lock(&server->lock);
        int groups = path->settled_count;
        memcpy(settled, path->settled, sizeof(settled));
        path->settled_count = 0;
        pthread_cond_broadcast(&server->taken);
        pthread_mutex_unlock(&server->lock);
        for (int s = 0; s < groups; s++) {
            if (settled[s].code == WEIR_OK) {
                (void)WEIR_FAULT(http_before_answer);
            }
            settle(server, path, settled[s].group, settled[s].code);
        }
    }
    request_reply_look(server);
}

/* --- the end ------------------------------------------------------------------------------ */

int request_write(struct weir_http_server *server, struct request *r) {
    if (!r->answered || r->answer.size <= LWS_PRE || r->lingering) {
        return 0;
    }
    size_t size = r->answer.size - LWS_PRE;
    bool head = lws_hdr_total_length(r->wsi, WSI_TOKEN_HEAD_URI) > 0;
    if (head) { /* the answer to HEAD is that to GET without its body */
        const uint8_t *end = memmem(r->answer.data + LWS_PRE, size, "\r\n\r\n", 4);
        size = end != NULL ? (size_t)(end + 4 - (r->answer.data + LWS_PRE)) : size;
    }
    if (lws_write(r->wsi, r->answer.data + LWS_PRE, size, LWS_WRITE_HTTP_HEADERS) < 0) {
        return -1;
    }
    if (r->closing) { /* what is still on its way is read, or the answer is lost with the connection
                       */
        r->lingering = true;
        lws_set_timer_usecs(r->wsi, LINGER_US);
        return r->complete ? -1 : 0;
    }
    struct lws *wsi = r->wsi;
    request_end(server, r);
    return lws_http_transaction_completed(wsi) != 0 ? -1 : 0;
}

void request_end(struct weir_http_server *server, struct request *r) {
    request_leave(r);
    server->body_bytes -= r->body.size < server->body_bytes ? r->body.size : server->body_bytes;
    weir_buffer_fini(&r->body);
    struct weir_buffer answer = r->answer;
    free(r->attributes);
    if (answer.capacity > 65536) {
        weir_buffer_fini(&answer);
        weir_buffer_init(&answer, 64 << 20);
    }
    *r = (struct request){.answer = answer};
}
