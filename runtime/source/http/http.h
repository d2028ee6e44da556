#pragma once
/* The HTTP source: what `http { … }` says of one path, shared with the door (serve/http), which
 * takes requests in and appends them to the log this source reads. */
#include <stdatomic.h>

#include "decode/decoder.h"
#include "source/http/http_log.h"

struct weir_source;

enum weir_http_digest { WEIR_HTTP_SHA256, WEIR_HTTP_SHA1, WEIR_HTTP_SHA512 };

struct weir_http_signature {
    char *secret;          /* NULL: requests are not signed */
    char *previous_secret; /* also good while senders change over; or NULL */
    char *header;
    char *prefix; /* "sha256=" */
    enum weir_http_digest digest;
    bool base64; /* else hex */
};

struct weir_http_path {  /* immutable once the source is open */
    const char *source;  /* dataset */
    const char *decoder; /* "json", "avro", …: what bodies must hold */
    char *path;
    uint64_t max_body_bytes;
    char *tokens; /* bearer tokens, apart by white space or commas; NULL: none is asked for */
    struct weir_http_signature signature;
    uint64_t rate; /* requests a second; 0: no limit */
    uint64_t burst;
    char *key_header; /* idempotency key; NULL: none is looked for */
    bool replies;     /* a request is one command, and waits for what it leads to */
    int64_t reply_timeout_us;
    bool cloud_data;             /* of a CloudEvent only `data` is the event */
    struct weir_decoder *cutter; /* the door's own, where a body may hold several events; or NULL */
    struct weir_http_log *log;
};

enum { WEIR_HTTP_CODES = 600, WEIR_HTTP_REPLY_TIMES = 12 };

struct weir_http_counts { /* the door's thread writes, others read */
    _Atomic uint64_t answers[WEIR_HTTP_CODES];
    _Atomic uint64_t body_bytes; /* of requests accepted, as they came */
    _Atomic uint64_t repeats;    /* answered as before, for their idempotency key */
    _Atomic uint64_t reply_times[WEIR_HTTP_REPLY_TIMES]; /* from the whole request to its reply */
    _Atomic uint64_t reply_us;
};

/* The path of an open source that takes requests; NULL when it is of another kind or only read. */
const struct weir_http_path *weir_source_http_path(const struct weir_source *source);
struct weir_http_counts *weir_source_http_counts(struct weir_source *source);
