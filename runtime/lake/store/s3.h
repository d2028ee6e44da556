#pragma once
/* S3 and what speaks its protocol, as a store. The server must honour If-None-Match: * on PUT and
 * on CompleteMultipartUpload (Amazon S3 does since 2024): without it two writers would lose
 * commits. Texts are borrowed for the call. */
#include "core/http.h"
#include "core/option.h"
#include "lake/store/store.h"

struct weir_s3_config {
    const char *endpoint; /* "https://s3.eu-west-1.amazonaws.com" */
    bool path_style;      /* endpoint/bucket/key, not bucket.endpoint/key */
    const char *region;
    const char *bucket;
    const char *root; /* "" for the whole bucket */
    const char *access_key_id;
    const char *secret_access_key;
    const char *session_token; /* or NULL */
    const char *encryption;    /* x-amz-server-side-encryption, "aws:kms"; NULL: the bucket's own */
    const char *encryption_key; /* its key's id, or NULL */
};

int weir_store_s3_create(const char *url, const struct weir_s3_config *config,
                         const struct weir_http_options *http, struct weir_store **out,
                         struct weir_error *err) WEIR_MUST_CHECK;

/* The Authorization header's value of Signature Version 4 (docs.aws.amazon.com, "Authenticating
 * requests"), for tests with the published vectors. Headers in `lines` are "name:value", lower case
 * and sorted; `path` and `query` are encoded and canonical. Appends. */
int weir_s3_authorization(const char *method, const char *path, const char *query,
                          const char *const *lines, int32_t count, const char *payload_hash,
                          const char *region, const char *time, const char *access_key_id,
                          const char *secret, struct weir_buffer *out) WEIR_MUST_CHECK;
