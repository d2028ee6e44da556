#pragma once
/* The process's one HTTP server: takes requests in for every HTTP source, and tells health and
 * metrics. A thread of its own runs libwebsockets' loop; everything about a connection happens
 * there. Requests are answered once the log of their source has synced them. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

struct weir_http_server;
struct weir_source;
struct weir_replies;

struct weir_http_server_options {
    const char *pipeline;
    const char *address;     /* an IP address; NULL: 127.0.0.1 */
    int port;                /* 0: one the system picks */
    const char *certificate; /* PEM files; NULL: no TLS */
    const char *key;
    const char *client_authority; /* clients must show a certificate of its; NULL: none asked for */
    int connections_max;          /* 0: 1000 */
    int64_t timeout_us;           /* for a request to arrive; 0: 30 s */
    int64_t idle_us;              /* between requests of a connection; 0: 60 s */
    struct weir_source *const *sources; /* open; those of other kinds are passed over */
    int32_t source_count;
    struct weir_replies *const *replies; /* by source; NULL where it does not reply */
};

/* Listens when it returns. The sources must outlive the server. */
int weir_http_server_create(struct weir_http_server **out,
                            const struct weir_http_server_options *options,
                            struct weir_error *err) WEIR_MUST_CHECK;
/* Requests not answered yet are cut off: their senders ask again. */
void weir_http_server_destroy(struct weir_http_server *server);
/* "http://127.0.0.1:8080" */
const char *weir_http_server_url(const struct weir_http_server *server);
/* Any thread: what /metrics says of the pipeline, in Prometheus' text format, and a sign of life
 * for /health. */
void weir_http_server_publish(struct weir_http_server *server, const char *text, size_t size);
