#pragma once
/* HTTP requests to services (object stores, schema registries, token endpoints) over libcurl:
 * connections kept and reused, each attempt signed anew, retried with jittered back-off (a quarter
 * second doubling to 20 s, Retry-After respected) while the failure may pass: no connection,
 * time-outs, 408, 429, 500, 502, 503, 504. Any number of threads may call at once. Never from the
 * pipeline's loop. */
#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buffer.h"
#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_http_client;

struct weir_http_options {
    int64_t retry_for_ms;        /* how long one call is tried again; 0: 10 minutes */
    int64_t attempt_timeout_ms;  /* without any byte moving; 0: 30 s */
    const char *ca_file;         /* PEM of the authorities to trust; NULL: the system's */
    bool (*stop)(void *context); /* true: give up at once; may be NULL */
    void *stop_context;
};

/* libcurl, once a process; whoever uses it without a client calls this. Any thread. */
void weir_http_set_up(void);

int weir_http_client_create(const struct weir_http_options *options, struct weir_http_client **out,
                            struct weir_error *err) WEIR_MUST_CHECK;
void weir_http_client_destroy(struct weir_http_client *client);
void weir_http_client_set_stop(struct weir_http_client *client, bool (*stop)(void *context),
                               void *context);

struct weir_http_request {
    const char *method; /* GET HEAD PUT POST DELETE */
    const void *body;   /* borrowed */
    size_t size;
    /* Called before every attempt: the URL into `url`, the headers into *headers. */
    int (*prepare)(void *context, struct weir_buffer *url, struct curl_slist **headers,
                   struct weir_error *err);
    /* True for an answer of a status not above that will pass (S3's 409 of two conditional writes
     * at once). NULL: none. */
    bool (*passing)(long status, const char *error_code);
    void *context;
    struct weir_buffer *out; /* the body of a 2xx answer is appended; NULL: dropped */
    const char *what;        /* "get s3://lake/a.parquet", in messages */
};

struct weir_http_response {
    long status;
    int64_t length;      /* Content-Length; -1 unknown */
    int64_t modified_ms; /* Last-Modified; 0 unknown */
    char etag[128];      /* with its quotes */
    char error_code[64]; /* the service's own name for what went wrong ("BlobAlreadyExists") */
    char message[256];   /* and its text */
    int32_t attempts;
};

/* A request may have taken effect more than once before the answer came: an answer is lost, and
 * libcurl itself sends again where a kept connection died under a request.
 *
 * 0 when an answer came, whatever its status but those that were tried again in vain:
 * WEIR_E_UNAVAILABLE then. WEIR_E_CLOSED when told to stop. */
int weir_http_call(struct weir_http_client *client, const struct weir_http_request *request,
                   struct weir_http_response *response, struct weir_error *err) WEIR_MUST_CHECK;

/* Requests that were tried again so far, all threads: for status. */
uint64_t weir_http_client_retries(const struct weir_http_client *client);

/* Appends `text` percent-encoded (RFC 3986 unreserved bytes stay); '/' stays where `path`. */
int weir_http_encode(struct weir_buffer *out, const char *text, bool path) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
