#pragma once
/* What Azure Blob and S3 stores share: objects over HTTP behind struct weir_store. Private to the
 * room. A provider says how a request is addressed and signed and how the few operations are named;
 * everything else (retries, races, uploads in parts, listings) is here once. */
#include <stdatomic.h>

#include "core/http.h"
#include "lake/store/store.h"

#define OBJECT_QUERY_MAX 6
#define OBJECT_HEADERS_MAX 8

struct object_pair {
    const char *name;
    const char *value;
};

/* One operation, before it is addressed and signed. */
struct object_call {
    const char *method;
    const char *key; /* below the container or bucket, root included; NULL: the container itself */
    struct object_pair query[OBJECT_QUERY_MAX]; /* not encoded, names ascending */
    int32_t query_count;
    struct object_pair headers[OBJECT_HEADERS_MAX]; /* lower case; signed where the scheme does */
    int32_t header_count;
    const void *body;
    size_t size;
};

/* Part `number` (from 0) of an upload; `token` identifies it at completion. */
struct object_part {
    char token[128];
};

/* Where a listing goes on; empty: at its end. */
struct object_cursor {
    char token[2048];
};

struct object_store;

struct object_provider {
    const char *name;
    size_t part_bytes;
    int32_t parts_max;
    /* The URL and the signed headers of `call`, anew for each attempt. */
    int (*sign)(struct object_store *store, const struct object_call *call, struct weir_buffer *url,
                struct curl_slist **headers, struct weir_error *err);
    /* Whole object; `absent`: only where the name is free. */
    void (*put)(struct object_call *call, bool absent);
    /* Headers that say how a new object is encrypted; NULL: none. */
    void (*encryption)(struct object_store *store, struct object_call *call);
    /* Uploads in parts. begin may leave `upload` empty. */
    int (*begin)(struct object_store *store, const char *key, char *upload, size_t size,
                 struct weir_error *err);
    int (*part)(struct object_store *store, const char *key, const char *upload, int32_t number,
                const void *bytes, size_t size, struct object_part *out, struct weir_error *err);
    int (*complete)(struct object_store *store, const char *key, const char *upload,
                    const struct object_part *parts, int32_t count, bool absent,
                    struct weir_http_response *response, struct weir_error *err);
    void (*abort)(struct object_store *store, const char *key, const char *upload);
    /* One page of names below `prefix`. `after` (a whole key) is a hint: names up to it may come.
     */
    void (*list)(struct object_call *call, const char *prefix, const char *after,
                 const struct object_cursor *cursor);
    /* A failure that passes although its status does not say so. */
    bool (*passing)(long status, const char *error_code);
    void (*fini)(struct object_store *store);
};

struct object_store {
    struct weir_store base;
    const struct object_provider *provider;
    struct weir_http_client *http;
    char *url;     /* as the user wrote it, for messages: "s3://lake/retail" */
    char *root;    /* key prefix without slashes at its ends; "" at the container's root */
    void *account; /* the provider's: addresses and credentials */
    struct upload_pool *uploads;
};

/* Signs and performs one call; *response as weir_http_call. `out` may be NULL. */
int object_call(struct object_store *store, const struct object_call *call, struct weir_buffer *out,
                struct weir_http_response *response, struct weir_error *err) WEIR_MUST_CHECK;
/* An answer that was none of those expected, as an error naming what to look at. */
int object_refused(struct object_store *store, const char *what, const char *key,
                   const struct weir_http_response *response, struct weir_error *err);

static inline void object_query(struct object_call *call, const char *name, const char *value) {
    call->query[call->query_count++] = (struct object_pair){name, value};
}
static inline void object_header(struct object_call *call, const char *name, const char *value) {
    call->headers[call->header_count++] = (struct object_pair){name, value};
}

/* "root/path"; the caller frees. NULL without memory. */
char *object_key(const struct object_store *store, const char *path);

/* Takes ownership of account (freed by provider->fini, also on failure). */
int object_store_create(const struct object_provider *provider, const char *url, const char *root,
                        void *account, const struct weir_http_options *http,
                        struct weir_store **out, struct weir_error *err) WEIR_MUST_CHECK;

/* --- listings (object_list.c) -------------------------------------------------------------- */

struct object_entry {
    char *key;
    int64_t size_bytes;
    int64_t modified_ms;
    bool is_dir;
};

struct object_listing {
    struct object_entry *entries;
    size_t count;
    size_t capacity;
    struct object_cursor next;
};

/* One page of S3's ListBucketResult or Azure's EnumerationResults, appended. */
int object_listing_parse(struct object_listing *listing, const void *xml, size_t size,
                         struct weir_error *err) WEIR_MUST_CHECK;
void object_listing_fini(struct object_listing *listing);
int object_list(struct weir_store *store, const char *dir, const char *prefix,
                const char *start_after, bool dirs, weir_store_visit *visit, void *context,
                struct weir_error *err) WEIR_MUST_CHECK;

/* --- writing (object_file.c) --------------------------------------------------------------- */

struct upload_pool;
int upload_pool_create(struct upload_pool **out, struct weir_error *err) WEIR_MUST_CHECK;
void upload_pool_destroy(struct upload_pool *pool);
/* Whole objects, small or in parts. WEIR_E_EXISTS when `absent` and the name is taken by others'
 * bytes. */
int object_put_whole(struct object_store *store, const char *key, const void *bytes, size_t size,
                     bool absent, struct weir_error *err) WEIR_MUST_CHECK;
int object_open(struct weir_store *store, const char *path, enum weir_store_open_mode mode,
                struct weir_store_file **out, struct weir_error *err);
int object_file_write(struct weir_store_file *file, const void *bytes, size_t size,
                      struct weir_error *err);
int object_file_sync(struct weir_store_file *file, struct weir_error *err);
int object_file_close(struct weir_store_file *file, bool keep, struct weir_error *err);

/* --- credentials (credentials.c) ----------------------------------------------------------- */

/* A bearer token that is fetched again before it ends. Thread-safe. */
struct token_source;
struct token_request {
    const char *url;
    const char *body;   /* form to POST; NULL: GET */
    const char *header; /* "Metadata: true"; NULL for none */
    const char *header_2;
};
int token_source_create(const struct token_request *request, struct weir_http_client *http,
                        struct token_source **out, struct weir_error *err) WEIR_MUST_CHECK;
/* Appends "Bearer …". */
int token_source_get(struct token_source *source, struct weir_buffer *out,
                     struct weir_error *err) WEIR_MUST_CHECK;
void token_source_destroy(struct token_source *source);

/* HMAC-SHA256 and SHA-256, raw. */
void object_hmac(const void *key, size_t key_size, const void *data, size_t size, uint8_t out[32]);
void object_sha256(const void *data, size_t size, uint8_t out[32]);
void object_hex(const uint8_t *bytes, size_t size, char *out); /* 2 × size + 1 */
