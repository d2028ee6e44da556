#include "lake/store/s3.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lake/store/object.h"

enum { PART_BYTES = 8 << 20, PARTS_MAX = 10000, LINES_MAX = 12, LINE_BYTES = 4096 };

struct s3_account {
    char *scheme; /* "https://" */
    char *host;   /* with port, as in the Host header */
    char *base;   /* "" or "/bucket", encoded */
    char *region;
    char *access_key_id;
    char *secret;
    char *session_token;
    char *encryption;
    char *encryption_key;
};

static struct s3_account *account_of(struct object_store *store) {
    return store->account;
}

/* --- signature version 4 -----------------------------------------------------------------------
 */

static int canonical_request(const char *method, const char *path, const char *query,
                             const char *const *lines, int32_t count, const char *payload_hash,
                             struct weir_buffer *out) {
    int rc = weir_buffer_printf(out, "%s\n%s\n%s\n", method, path, query);
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        rc = weir_buffer_printf(out, "%s\n", lines[i]);
    }
    rc = rc != WEIR_OK ? rc : weir_buffer_append_text(out, "\n");
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        rc = weir_buffer_printf(out, "%s%.*s", i > 0 ? ";" : "",
                                (int)(strchr(lines[i], ':') - lines[i]), lines[i]);
    }
    return rc != WEIR_OK ? rc : weir_buffer_printf(out, "\n%s", payload_hash);
}

static void signing_key(const char *secret, const char *date, const char *region, uint8_t out[32]) {
    char first[256];
    int size = snprintf(first, sizeof(first), "AWS4%s", secret);
    object_hmac(first, (size_t)size, date, 8, out);
    explicit_bzero(first, sizeof(first));
    uint8_t next[32];
    object_hmac(out, 32, region, strlen(region), next);
    object_hmac(next, 32, "s3", 2, out);
    object_hmac(out, 32, "aws4_request", 12, next);
    memcpy(out, next, 32);
}

int weir_s3_authorization(const char *method, const char *path, const char *query,
                          const char *const *lines, int32_t count, const char *payload_hash,
                          const char *region, const char *time, const char *access_key_id,
                          const char *secret, struct weir_buffer *out) {
    struct weir_buffer request;
    weir_buffer_init(&request, 256 * 1024);
    int rc = canonical_request(method, path, query, lines, count, payload_hash, &request);
    uint8_t digest[32];
    char hex[65];
    if (rc == WEIR_OK) {
        object_sha256(request.data, request.size, digest);
        object_hex(digest, 32, hex);
        weir_buffer_clear(&request);
        rc = weir_buffer_printf(&request, "AWS4-HMAC-SHA256\n%s\n%.8s/%s/s3/aws4_request\n%s", time,
                                time, region, hex);
    }
    if (rc == WEIR_OK) {
        uint8_t key[32];
        signing_key(secret, time, region, key);
        object_hmac(key, 32, request.data, request.size, digest);
        explicit_bzero(key, sizeof(key));
        object_hex(digest, 32, hex);
        rc = weir_buffer_printf(out,
                                "AWS4-HMAC-SHA256 Credential=%s/%.8s/%s/s3/aws4_request,"
                                "SignedHeaders=",
                                access_key_id, time, region);
    }
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        rc = weir_buffer_printf(out, "%s%.*s", i > 0 ? ";" : "",
                                (int)(strchr(lines[i], ':') - lines[i]), lines[i]);
    }
    rc = rc != WEIR_OK ? rc : weir_buffer_printf(out, ",Signature=%s", hex);
    weir_buffer_fini(&request);
    return rc;
}

struct lines {
    char *text[LINES_MAX];
    int32_t count;
};

static int add_line(struct lines *lines, const char *name, const char *value) {
    if (lines->count == LINES_MAX ||
        asprintf(&lines->text[lines->count], "%s:%s", name, value) < 0) {
        return WEIR_E_NOMEM;
    }
    lines->count++;
    return WEIR_OK;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Every header we send is signed. */
static int signed_lines(struct s3_account *account, const struct object_call *call,
                        const char *payload_hash, const char *stamp, struct lines *lines) {
    int rc = add_line(lines, "host", account->host);
    rc = rc != WEIR_OK ? rc : add_line(lines, "x-amz-content-sha256", payload_hash);
    rc = rc != WEIR_OK ? rc : add_line(lines, "x-amz-date", stamp);
    if (rc == WEIR_OK && account->session_token != NULL) {
        rc = add_line(lines, "x-amz-security-token", account->session_token);
    }
    for (int32_t i = 0; i < call->header_count && rc == WEIR_OK; i++) {
        rc = add_line(lines, call->headers[i].name, call->headers[i].value);
    }
    qsort(lines->text, (size_t)lines->count, sizeof(*lines->text), by_text);
    return rc;
}

static int send_lines(const struct lines *lines, struct curl_slist **headers) {
    for (int32_t i = 0; i < lines->count; i++) {
        if (strncmp(lines->text[i], "host:", 5) == 0) {
            continue; /* curl's own */
        }
        struct curl_slist *longer = curl_slist_append(*headers, lines->text[i]);
        if (longer == NULL) {
            return WEIR_E_NOMEM;
        }
        *headers = longer;
    }
    return WEIR_OK;
}

static int canonical_query(const struct object_call *call, struct weir_buffer *out) {
    int rc = WEIR_OK;
    for (int32_t i = 0; i < call->query_count && rc == WEIR_OK; i++) {
        rc = weir_buffer_printf(out, "%s%s=", i > 0 ? "&" : "", call->query[i].name);
        rc = rc != WEIR_OK ? rc : weir_http_encode(out, call->query[i].value, false);
    }
    return rc;
}

static int sign_parts(struct s3_account *account, const struct object_call *call,
                      struct weir_buffer *path, struct weir_buffer *query,
                      struct weir_buffer *value, struct curl_slist **headers) {
    char stamp[32];
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm);
    uint8_t digest[32];
    char payload[65];
    object_sha256(call->body, call->size, digest);
    object_hex(digest, 32, payload);
    struct lines lines = {0};
    int rc = signed_lines(account, call, payload, stamp, &lines);
    const char *path_text = weir_buffer_text(path);
    const char *query_text = weir_buffer_text(query);
    if (rc == WEIR_OK && account->access_key_id != NULL) {
        rc = path_text == NULL || query_text == NULL
                 ? WEIR_E_NOMEM
                 : weir_buffer_append_text(value, "Authorization: ");
        rc = rc != WEIR_OK ? rc
                           : weir_s3_authorization(call->method, path_text, query_text,
                                                   (const char *const *)lines.text, lines.count,
                                                   payload, account->region, stamp,
                                                   account->access_key_id, account->secret, value);
    }
    rc = rc != WEIR_OK ? rc : send_lines(&lines, headers);
    for (int32_t i = 0; i < lines.count; i++) {
        free(lines.text[i]);
    }
    return rc;
}

static int sign(struct object_store *store, const struct object_call *call, struct weir_buffer *url,
                struct curl_slist **headers, struct weir_error *err) {
    struct s3_account *account = account_of(store);
    struct weir_buffer path;
    struct weir_buffer query;
    struct weir_buffer value;
    weir_buffer_init(&path, 16 * 1024);
    weir_buffer_init(&query, 16 * 1024);
    weir_buffer_init(&value, 16 * 1024);
    int rc = weir_buffer_printf(&path, "%s/", account->base);
    if (rc == WEIR_OK && call->key != NULL) {
        rc = weir_http_encode(&path, call->key, true);
    }
    rc = rc != WEIR_OK ? rc : canonical_query(call, &query);
    rc = rc != WEIR_OK ? rc : sign_parts(account, call, &path, &query, &value, headers);
    if (rc == WEIR_OK && value.size > 0) {
        const char *line = weir_buffer_text(&value);
        struct curl_slist *longer = line != NULL ? curl_slist_append(*headers, line) : NULL;
        *headers = longer != NULL ? longer : *headers;
        rc = longer != NULL ? WEIR_OK : WEIR_E_NOMEM;
    }
    if (rc == WEIR_OK) {
        struct curl_slist *longer = curl_slist_append(*headers, "Expect:");
        *headers = longer != NULL ? longer : *headers;
        rc =
            weir_buffer_printf(url, "%s%s%.*s%s%.*s", account->scheme, account->host,
                               (int)path.size, (const char *)path.data, query.size > 0 ? "?" : "",
                               (int)query.size, query.data != NULL ? (const char *)query.data : "");
    }
    weir_buffer_fini(&path);
    weir_buffer_fini(&query);
    weir_buffer_fini(&value);
    return rc != WEIR_OK ? weir_error_set(err, rc, "%s: the request is too large", store->url)
                         : WEIR_OK;
}

/* --- operations ---------------------------------------------------------------------------------
 */

static void put(struct object_call *call, bool absent) {
    if (absent) {
        object_header(call, "if-none-match", "*");
    }
}

static void encryption(struct object_store *store, struct object_call *call) {
    struct s3_account *account = account_of(store);
    if (account->encryption != NULL) {
        object_header(call, "x-amz-server-side-encryption", account->encryption);
    }
    if (account->encryption_key != NULL) {
        object_header(call, "x-amz-server-side-encryption-aws-kms-key-id", account->encryption_key);
    }
}

static int begin(struct object_store *store, const char *key, char *upload, size_t size,
                 struct weir_error *err) {
    struct object_call call = {.method = "POST", .key = key};
    object_query(&call, "uploads", "");
    encryption(store, &call);
    struct weir_buffer answer;
    weir_buffer_init(&answer, 64 * 1024);
    struct weir_http_response response;
    int rc = object_call(store, &call, &answer, &response, err);
    if (rc == WEIR_OK && response.status != 200) {
        rc = object_refused(store, "begin the upload of", key, &response, err);
    }
    const char *text = rc == WEIR_OK ? weir_buffer_text(&answer) : NULL;
    const char *from = text != NULL ? strstr(text, "<UploadId>") : NULL;
    const char *to = from != NULL ? strstr(from, "</UploadId>") : NULL;
    if (rc == WEIR_OK && (to == NULL || (size_t)(to - from) - 10 >= size)) {
        rc = weir_error_set(err, WEIR_E_CORRUPT, "%s: no upload id for %s", store->url, key);
    }
    if (rc == WEIR_OK) {
        snprintf(upload, size, "%.*s", (int)(to - from) - 10, from + 10);
    }
    weir_buffer_fini(&answer);
    return rc;
}

static int part(struct object_store *store, const char *key, const char *upload, int32_t number,
                const void *bytes, size_t size, struct object_part *out, struct weir_error *err) {
    char digits[16];
    snprintf(digits, sizeof(digits), "%d", (int)number + 1);
    struct object_call call = {.method = "PUT", .key = key, .body = bytes, .size = size};
    object_query(&call, "partNumber", digits);
    object_query(&call, "uploadId", upload);
    struct weir_http_response response;
    int rc = object_call(store, &call, NULL, &response, err);
    if (rc == WEIR_OK && response.status != 200) {
        return object_refused(store, "upload a part of", key, &response, err);
    }
    snprintf(out->token, sizeof(out->token), "%s", response.etag);
    return rc;
}

static int complete(struct object_store *store, const char *key, const char *upload,
                    const struct object_part *parts, int32_t count, bool absent,
                    struct weir_http_response *response, struct weir_error *err) {
    struct weir_buffer body;
    weir_buffer_init(&body, 4 << 20);
    int rc = weir_buffer_append_text(&body, "<CompleteMultipartUpload>");
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        rc = weir_buffer_printf(&body, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>",
                                (int)i + 1, parts[i].token);
    }
    rc = rc != WEIR_OK ? rc : weir_buffer_append_text(&body, "</CompleteMultipartUpload>");
    if (rc != WEIR_OK) {
        weir_buffer_fini(&body);
        return weir_error_set(err, rc, "part list of %s", key);
    }
    struct object_call call = {.method = "POST", .key = key, .body = body.data, .size = body.size};
    object_query(&call, "uploadId", upload);
    if (absent) {
        object_header(&call, "if-none-match", "*");
    }
    struct weir_buffer answer;
    weir_buffer_init(&answer, 64 * 1024);
    rc = object_call(store, &call, &answer, response, err);
    /* A 200 whose body is an error: the service began to answer before it knew. */
    const char *text = rc == WEIR_OK ? weir_buffer_text(&answer) : NULL;
    if (text != NULL && strstr(text, "<Error>") != NULL) {
        rc = weir_error_set(err, WEIR_E_UNAVAILABLE, "%s: completing %s failed: %.200s", store->url,
                            key, text);
    }
    weir_buffer_fini(&answer);
    weir_buffer_fini(&body);
    return rc;
}

static void abort_upload(struct object_store *store, const char *key, const char *upload) {
    struct object_call call = {.method = "DELETE", .key = key};
    object_query(&call, "uploadId", upload);
    struct weir_http_response response;
    struct weir_error err;
    (void)!object_call(store, &call, NULL, &response, &err); /* a lifecycle rule sweeps the rest */
}

static void list(struct object_call *call, const char *prefix, const char *after,
                 const struct object_cursor *cursor) {
    if (cursor->token[0] != '\0') {
        object_query(call, "continuation-token", cursor->token);
    }
    object_query(call, "delimiter", "/");
    object_query(call, "list-type", "2");
    if (prefix[0] != '\0') {
        object_query(call, "prefix", prefix);
    }
    if (after != NULL && cursor->token[0] == '\0') {
        object_query(call, "start-after", after);
    }
}

static bool passing(long status, const char *error_code) {
    return (status == 409 && strcmp(error_code, "ConditionalRequestConflict") == 0) ||
           (status == 400 && strcmp(error_code, "RequestTimeout") == 0);
}

static void fini(struct object_store *store) {
    struct s3_account *account = account_of(store);
    free(account->scheme);
    free(account->host);
    free(account->base);
    free(account->region);
    free(account->access_key_id);
    weir_secret_free(account->secret);
    weir_secret_free(account->session_token);
    free(account->encryption);
    free(account->encryption_key);
    free(account);
}

static const struct object_provider s3 = {
    .name = "s3",
    .part_bytes = PART_BYTES,
    .parts_max = PARTS_MAX,
    .sign = sign,
    .put = put,
    .encryption = encryption,
    .begin = begin,
    .part = part,
    .complete = complete,
    .abort = abort_upload,
    .list = list,
    .passing = passing,
    .fini = fini,
};

static int copy(char **out, const char *text) {
    *out = text != NULL ? strdup(text) : NULL;
    return text != NULL && *out == NULL ? WEIR_E_NOMEM : WEIR_OK;
}

static int address(struct s3_account *account, const struct weir_s3_config *config) {
    const char *colon = strstr(config->endpoint, "://");
    const char *host = colon != NULL ? colon + 3 : config->endpoint;
    size_t length = strcspn(host, "/");
    bool failed;
    account->scheme = colon != NULL ? strndup(config->endpoint, (size_t)(host - config->endpoint))
                                    : strdup("https://");
    if (config->path_style) {
        failed = asprintf(&account->host, "%.*s", (int)length, host) < 0 ||
                 asprintf(&account->base, "/%s", config->bucket) < 0;
    } else {
        failed = asprintf(&account->host, "%s.%.*s", config->bucket, (int)length, host) < 0 ||
                 asprintf(&account->base, "%s", "") < 0;
    }
    return failed || account->scheme == NULL ? WEIR_E_NOMEM : WEIR_OK;
}

int weir_store_s3_create(const char *url, const struct weir_s3_config *config,
                         const struct weir_http_options *http, struct weir_store **out,
                         struct weir_error *err) {
    struct s3_account *account = calloc(1, sizeof(*account));
    if (account == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "s3: out of memory");
    }
    int rc = address(account, config);
    rc = rc != WEIR_OK ? rc : copy(&account->region, config->region);
    rc = rc != WEIR_OK ? rc : copy(&account->access_key_id, config->access_key_id);
    rc = rc != WEIR_OK ? rc : copy(&account->secret, config->secret_access_key);
    rc = rc != WEIR_OK ? rc : copy(&account->session_token, config->session_token);
    rc = rc != WEIR_OK ? rc : copy(&account->encryption, config->encryption);
    rc = rc != WEIR_OK ? rc : copy(&account->encryption_key, config->encryption_key);
    if (rc != WEIR_OK) {
        struct object_store shell = {.account = account};
        fini(&shell);
        return weir_error_set(err, rc, "s3: out of memory");
    }
    return object_store_create(&s3, url, config->root, account, http, out, err);
}
