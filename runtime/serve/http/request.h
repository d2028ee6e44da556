#pragma once
/* One request on its way through the door. Private to the room; the server's thread. */
#include <libwebsockets.h>
#include <pthread.h>
#include <stdatomic.h>

#include "serve/http/body.h"
#include "serve/http/server.h"

enum {
    HTTP_PATHS_MAX = 256,
    HTTP_ATTRIBUTES_MAX = 32,
    HTTP_KEY_MAX = 255,
    HTTP_HEADERS_BYTES = 8192,
    HTTP_SETTLED_MAX = 64,
};

struct server_path {
    struct weir_http_server *server;
    const struct weir_http_path *path;
    struct weir_http_counts *counts;
    struct weir_replies *replies; /* NULL: its requests are answered once they are durable */
    double tokens;                /* of the rate limit */
    int64_t filled_ns;
    struct settled {    /* what the log has done, in order, for the server's thread */
        uint32_t group; /* and all before it */
        int code;
    } settled[HTTP_SETTLED_MAX];
    int settled_count;
};

struct request {
    struct request *next; /* those that wait for a group */
    struct request *previous;
    struct lws *wsi;
    struct server_path *path; /* NULL: health, metrics, or none */
    struct weir_buffer body;
    uint64_t body_limit;
    uint64_t expected; /* Content-Length */
    char content_type[128];
    char content_encoding[32];
    char key[HTTP_KEY_MAX + 1];
    char signature[300];
    struct http_attribute *attributes;
    int attribute_count;
    bool has_key;
    bool chunked;
    bool active;    /* a request is under way on the connection */
    bool complete;  /* all of the body is here */
    bool waiting;   /* for its group */
    bool answered;  /* the answer is on its way, or gone */
    bool closing;   /* the connection ends with the answer */
    bool lingering; /* answered early; what still comes is thrown away */
    uint32_t group;
    bool awaits_reply; /* its group is durable */
    uint64_t number;   /* of its first event */
    int64_t complete_ns;
    /* chunked coding */
    enum { CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_DATA, CHUNK_END, CHUNK_TRAILER, CHUNK_DONE } chunk;
    uint64_t chunk_left;
    int chunk_digits;
    bool line_empty;
    /* the answer */
    int refused; /* status settled before the body was read; 0 */
    char message[512];
    struct weir_buffer answer; /* head and body, LWS_PRE bytes in front */
};

struct weir_http_server {
    struct lws_context *context;
    struct lws_vhost *vhost;
    pthread_t thread;
    bool running;
    atomic_bool stopping;
    char url[128];
    bool tls;
    char *pipeline;
    int64_t timeout_us;
    int connections;
    int connections_max;
    uint64_t refused_connections;
    uint64_t body_bytes; /* held by requests being read */
    struct server_path paths[HTTP_PATHS_MAX];
    int path_count;
    struct http_events events;
    struct request waiting;         /* head of the list */
    struct weir_http_counts counts; /* of requests for no path of a source */
    pthread_mutex_t lock;           /* settled groups, and what is below */
    pthread_cond_t taken;           /* settled groups were */
    struct weir_buffer metrics;
    _Atomic int64_t alive_ns;
};

/* Begins with a request's head. 0 to go on, -1 to close the connection. */
int request_begin(struct weir_http_server *server, struct request *request, struct lws *wsi,
                  const char *uri, size_t uri_size);
int request_body(struct weir_http_server *server, struct request *request, const uint8_t *bytes,
                 size_t size);
int request_complete(struct weir_http_server *server, struct request *request);
/* Its time is up. */
int request_timeout(struct weir_http_server *server, struct request *request);
int request_write(struct weir_http_server *server, struct request *request);
void request_end(struct weir_http_server *server, struct request *request);
/* Answers those that waited for the groups settled. */
void request_settle(struct weir_http_server *server);

/* Within the room: an answer. 0, or -1 to close the connection. */
int request_give(struct request *request, int status, const char *type, const char *headers,
                 const void *body, size_t size);
int request_refuse(struct weir_http_server *server, struct request *request, int status,
                   const char *message);
void request_count(struct weir_http_server *server, const struct request *request, int status);
/* On the list of those that wait, and off it. */
void request_wait(struct weir_http_server *server, struct request *request);
void request_leave(struct request *request);

/* reply.c. Answers with the reply where it is there, else waits for it. */
int request_reply_await(struct weir_http_server *server, struct request *request);
/* Replies came: answers those that waited for them. */
void request_reply_look(struct weir_http_server *server);
int request_reply_timeout(struct weir_http_server *server, struct request *request);
/* Is it <path of commands>/<number>? Else NULL. */
struct server_path *request_reply_path(struct weir_http_server *server, const char *uri,
                                       size_t size, uint64_t *number);
int request_reply_tell(struct weir_http_server *server, struct request *request);
extern const int64_t http_reply_bounds_us[WEIR_HTTP_REPLY_TIMES];

/* chunk.c: a byte of the framing of a chunked body; false when it does not fit. */
bool request_chunk_byte(struct request *request, uint8_t byte);

/* metrics.c */
int http_metrics(struct weir_http_server *server, struct weir_buffer *out);
bool http_is_alive(struct weir_http_server *server);
