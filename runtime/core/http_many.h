#pragma once
/* Many small HTTP requests at once, over libcurl's multi interface on one thread of its own: so
 * many in flight at most, so many a second, each tried again with a back-off that doubles
 * (Retry-After respected) while its failure may pass: no connection, time-outs, 408, 429, 5xx.
 *
 * A circuit breaker: after so many requests in a row that failed for good, requests fail at once
 * for a while; then one is let through, and its fate decides. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/signal.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_http_many;

struct weir_http_many_options {
    int64_t timeout_ms; /* of an attempt */
    int32_t attempts;   /* at least 1 */
    int64_t backoff_ms; /* before the second */
    int32_t in_flight;
    double rate;                /* requests a second; 0: as they come */
    int32_t breaker;            /* failures in a row; 0: none */
    int64_t pause_ms;           /* how long the breaker stays open */
    const char *authority;      /* PEM of the authorities to trust; NULL: the system's */
    const char *const *headers; /* "Name: value", NULL-ended; copied. May hold secrets. */
    size_t answer_bytes_max;
    struct weir_signal *signal; /* borrowed; raised when an answer waits; may be NULL */
};

struct weir_http_many_answer {
    struct weir_http_many_answer *next;
    uint64_t id;
    long status;     /* 0: none came */
    char error[200]; /* why not, without the URL; "" where one came */
    size_t size;
    char body[];
};

struct weir_http_many_figures {
    int64_t asked;   /* requests, each once */
    int64_t failed;  /* for good */
    int64_t retries; /* attempts beyond the first */
    int32_t in_flight;
    bool open; /* the breaker */
};

/* Starts the thread. */
int weir_http_many_create(const struct weir_http_many_options *options, struct weir_http_many **out,
                          struct weir_error *err) WEIR_MUST_CHECK;
/* Joins it; what is under way is given up. */
void weir_http_many_destroy(struct weir_http_many *many);
/* Copies url and body (NULL: GET; else POST of JSON). Does not block. WEIR_E_NOMEM. */
int weir_http_many_ask(struct weir_http_many *many, uint64_t id, const char *url, const char *body,
                       size_t size) WEIR_MUST_CHECK;
/* All answers that wait, as a list the caller frees one by one; NULL: none. Each id once. */
struct weir_http_many_answer *weir_http_many_take(struct weir_http_many *many);
void weir_http_many_figures(struct weir_http_many *many, struct weir_http_many_figures *out);

#ifdef __cplusplus
}
#endif
