/* Azure Blob storage, and ADLS Gen2 accounts through their blob endpoint: what a Delta log needs,
 * put-if-absent, is there, and it is the same for accounts with a hierarchical namespace.
 * Authorization: learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key. */
#include <ctype.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lake/store/azure.h"
#include "lake/store/object.h"

#define API_VERSION "2021-12-02" /* old enough for every emulator, new enough for conditions */

enum { PART_BYTES = 8 << 20, PARTS_MAX = 50000 };

struct azure_account {
    char *endpoint; /* "https://account.blob.core.windows.net", no slash at its end */
    char *name;
    char *container;
    uint8_t key[128];
    size_t key_size; /* 0: none */
    char *sas;       /* without '?'; NULL: none */
    char *encryption_scope;
    struct token_source *token;
};

static struct azure_account *account_of(struct object_store *store) {
    return store->account;
}

/* --- shared key ------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct object_pair *)a)->name, ((const struct object_pair *)b)->name);
}

static const char *header_of(const struct object_call *call, const char *name) {
    for (int32_t i = 0; i < call->header_count; i++) {
        if (strcmp(call->headers[i].name, name) == 0) {
            return call->headers[i].value;
        }
    }
    return "";
}

/* `path` is the URL's path as sent (percent-encoded). */
static int string_to_sign(struct azure_account *account, const struct object_call *call,
                          const char *date, const char *path, struct weir_buffer *out) {
    char length[24] = "";
    if (call->size > 0) {
        snprintf(length, sizeof(length), "%zu", call->size);
    }
    struct object_pair signed_headers[OBJECT_HEADERS_MAX + 2];
    int32_t count = 0;
    for (int32_t i = 0; i < call->header_count; i++) {
        if (strncmp(call->headers[i].name, "x-ms-", 5) == 0) {
            signed_headers[count++] = call->headers[i];
        }
    }
    signed_headers[count++] = (struct object_pair){"x-ms-date", date};
    signed_headers[count++] = (struct object_pair){"x-ms-version", API_VERSION};
    qsort(signed_headers, (size_t)count, sizeof(*signed_headers), by_name);
    int rc = weir_buffer_printf(out, "%s\n\n\n%s\n\n%s\n\n\n\n%s\n\n%s\n", call->method, length,
                                header_of(call, "content-type"), header_of(call, "if-none-match"),
                                header_of(call, "range"));
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        rc = weir_buffer_printf(out, "%s:%s\n", signed_headers[i].name, signed_headers[i].value);
    }
    if (rc == WEIR_OK) {
        rc = weir_buffer_printf(out, "/%s%s", account->name, path);
    }
    for (int32_t i = 0; i < call->query_count && rc == WEIR_OK; i++) {
        rc = weir_buffer_printf(out, "\n%s:%s", call->query[i].name, call->query[i].value);
    }
    return rc;
}

static int add_header(struct curl_slist **headers, const char *name, const char *value) {
    char line[4096];
    int used = snprintf(line, sizeof(line), "%s: %s", name, value);
    if (used < 0 || (size_t)used >= sizeof(line)) {
        return WEIR_E_LIMIT;
    }
    struct curl_slist *longer = curl_slist_append(*headers, line);
    if (longer == NULL) {
        return WEIR_E_NOMEM;
    }
    *headers = longer;
    return WEIR_OK;
}

static int sign_with_key(struct azure_account *account, const struct object_call *call,
                         const char *date, const char *path, struct curl_slist **headers) {
    struct weir_buffer text;
    weir_buffer_init(&text, 64 * 1024);
    int rc = string_to_sign(account, call, date, path, &text);
    if (rc == WEIR_OK) {
        uint8_t digest[32];
        char signature[64];
        char value[256];
        object_hmac(account->key, account->key_size, text.data, text.size, digest);
        EVP_EncodeBlock((unsigned char *)signature, digest, sizeof(digest));
        snprintf(value, sizeof(value), "SharedKey %s:%s", account->name, signature);
        rc = add_header(headers, "Authorization", value);
    }
    weir_buffer_fini(&text);
    return rc;
}

static int sign_with_token(struct azure_account *account, struct curl_slist **headers,
                           struct weir_error *err) {
    struct weir_buffer value;
    weir_buffer_init(&value, 16 * 1024);
    int rc = token_source_get(account->token, &value, err);
    const char *text = rc == WEIR_OK ? weir_buffer_text(&value) : NULL;
    struct weir_buffer line;
    weir_buffer_init(&line, 32 * 1024);
    if (rc == WEIR_OK) {
        rc = text == NULL ? WEIR_E_NOMEM : weir_buffer_printf(&line, "Authorization: %s", text);
    }
    const char *header = rc == WEIR_OK ? weir_buffer_text(&line) : NULL;
    if (header != NULL) {
        struct curl_slist *longer = curl_slist_append(*headers, header);
        *headers = longer != NULL ? longer : *headers;
        rc = longer != NULL ? WEIR_OK : WEIR_E_NOMEM;
    }
    weir_buffer_fini(&line);
    weir_buffer_fini(&value);
    return rc;
}

static int append_url(struct azure_account *account, const struct object_call *call,
                      struct weir_buffer *url, size_t *path_at, size_t *path_end) {
    int rc = weir_buffer_append_text(url, account->endpoint);
    const char *host = strstr(account->endpoint, "://");
    const char *path = host != NULL ? strchr(host + 3, '/') : NULL;
    *path_at = path != NULL ? (size_t)(path - account->endpoint) : strlen(account->endpoint);
    rc = rc != WEIR_OK ? rc : weir_buffer_printf(url, "/%s", account->container);
    if (rc == WEIR_OK && call->key != NULL) {
        rc = weir_buffer_append_text(url, "/");
        rc = rc != WEIR_OK ? rc : weir_http_encode(url, call->key, true);
    }
    *path_end = url->size;
    for (int32_t i = 0; i < call->query_count && rc == WEIR_OK; i++) {
        rc = weir_buffer_printf(url, "%c%s=", i == 0 ? '?' : '&', call->query[i].name);
        rc = rc != WEIR_OK ? rc : weir_http_encode(url, call->query[i].value, false);
    }
    if (rc == WEIR_OK && account->sas != NULL) {
        rc = weir_buffer_printf(url, "%c%s", call->query_count == 0 ? '?' : '&', account->sas);
    }
    return rc;
}

static int sign(struct object_store *store, const struct object_call *call, struct weir_buffer *url,
                struct curl_slist **headers, struct weir_error *err) {
    struct azure_account *account = account_of(store);
    size_t path_at;
    size_t path_end;
    int rc = append_url(account, call, url, &path_at, &path_end);
    char date[64];
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
    for (int32_t i = 0; i < call->header_count && rc == WEIR_OK; i++) {
        rc = add_header(headers, call->headers[i].name, call->headers[i].value);
    }
    rc = rc != WEIR_OK ? rc : add_header(headers, "x-ms-version", API_VERSION);
    rc = rc != WEIR_OK ? rc : add_header(headers, "x-ms-date", date);
    rc = rc != WEIR_OK ? rc : add_header(headers, "Expect", ""); /* no wait for 100 */
    if (rc == WEIR_OK && account->key_size > 0) {
        char *path = strndup((char *)url->data + path_at, path_end - path_at);
        rc = path == NULL ? WEIR_E_NOMEM : sign_with_key(account, call, date, path, headers);
        free(path);
    } else if (rc == WEIR_OK && account->token != NULL) {
        return sign_with_token(account, headers, err);
    }
    return rc != WEIR_OK ? weir_error_set(err, rc, "%s: the request is too large", store->url)
                         : WEIR_OK;
}

/* --- operations ------------------------------------------------------------------------------- */

static void put(struct object_call *call, bool absent) {
    object_header(call, "x-ms-blob-type", "BlockBlob");
    object_header(call, "content-type", "application/octet-stream");
    if (absent) {
        object_header(call, "if-none-match", "*");
    }
}

static void encryption(struct object_store *store, struct object_call *call) {
    if (account_of(store)->encryption_scope != NULL) {
        object_header(call, "x-ms-encryption-scope", account_of(store)->encryption_scope);
    }
}

/* Blocks belong to the name, not to an upload; the upload's id keeps two writers' blocks apart. */
static int begin(struct object_store *store, const char *key, char *upload, size_t size,
                 struct weir_error *err) {
    (void)store, (void)key, (void)err;
    static _Atomic uint32_t counter;
    snprintf(upload, size, "%08x%08x", (unsigned)time(NULL) ^ (unsigned)(uintptr_t)store,
             (unsigned)atomic_fetch_add(&counter, 1));
    return WEIR_OK;
}

static int part(struct object_store *store, const char *key, const char *upload, int32_t number,
                const void *bytes, size_t size, struct object_part *out, struct weir_error *err) {
    char id[64];
    snprintf(id, sizeof(id), "%.16s%08d", upload, (int)number);
    EVP_EncodeBlock((unsigned char *)out->token, (const unsigned char *)id, (int)strlen(id));
    struct object_call call = {.method = "PUT", .key = key, .body = bytes, .size = size};
    object_query(&call, "blockid", out->token);
    object_query(&call, "comp", "block");
    encryption(store, &call);
    object_header(&call, "content-type", "application/octet-stream");
    struct weir_http_response response;
    int rc = object_call(store, &call, NULL, &response, err);
    return rc == WEIR_OK && response.status != 201
               ? object_refused(store, "put block of", key, &response, err)
               : rc;
}

static int complete(struct object_store *store, const char *key, const char *upload,
                    const struct object_part *parts, int32_t count, bool absent,
                    struct weir_http_response *response, struct weir_error *err) {
    (void)upload;
    struct weir_buffer list;
    weir_buffer_init(&list, 16 << 20);
    int rc =
        weir_buffer_append_text(&list, "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        rc = weir_buffer_printf(&list, "<Latest>%s</Latest>", parts[i].token);
    }
    rc = rc != WEIR_OK ? rc : weir_buffer_append_text(&list, "</BlockList>");
    if (rc != WEIR_OK) {
        weir_buffer_fini(&list);
        return weir_error_set(err, rc, "block list of %s", key);
    }
    struct object_call call = {.method = "PUT", .key = key, .body = list.data, .size = list.size};
    object_query(&call, "comp", "blocklist");
    encryption(store, &call);
    object_header(&call, "content-type", "application/xml");
    if (absent) {
        object_header(&call, "if-none-match", "*");
    }
    rc = object_call(store, &call, NULL, response, err);
    weir_buffer_fini(&list);
    return rc;
}

static void list(struct object_call *call, const char *prefix, const char *after,
                 const struct object_cursor *cursor) {
    (void)after; /* no such parameter in this version: names up to it are passed over */
    object_query(call, "comp", "list");
    object_query(call, "delimiter", "/");
    if (cursor->token[0] != '\0') {
        object_query(call, "marker", cursor->token);
    }
    if (prefix[0] != '\0') {
        object_query(call, "prefix", prefix);
    }
    object_query(call, "restype", "container");
}

static void fini(struct object_store *store) {
    struct azure_account *account = account_of(store);
    token_source_destroy(account->token);
    free(account->endpoint);
    free(account->name);
    free(account->container);
    free(account->encryption_scope);
    weir_secret_free(account->sas);
    explicit_bzero(account->key, sizeof(account->key));
    free(account);
}

static const struct object_provider azure = {
    .name = "azure",
    .part_bytes = PART_BYTES,
    .parts_max = PARTS_MAX,
    .sign = sign,
    .put = put,
    .encryption = encryption,
    .begin = begin,
    .part = part,
    .complete = complete,
    .list = list,
    .fini = fini,
};

/* --- opening ---------------------------------------------------------------------------------- */

static int set_key(struct azure_account *account, const char *key, struct weir_error *err) {
    size_t length = strlen(key);
    uint8_t decoded[192];
    int size = length > 0 && length <= 170
                   ? EVP_DecodeBlock(decoded, (const unsigned char *)key, (int)length)
                   : -1;
    for (size_t i = length; size > 0 && i > 0 && key[i - 1] == '='; i--) {
        size--; /* EVP_DecodeBlock counts the padding */
    }
    if (size <= 0 || (size_t)size > sizeof(account->key)) {
        return weir_error_set(err, WEIR_E_ENVIRONMENT,
                              "azure: the account key is not base64 of at most 128 bytes");
    }
    memcpy(account->key, decoded, (size_t)size);
    account->key_size = (size_t)size;
    explicit_bzero(decoded, sizeof(decoded));
    return WEIR_OK;
}

static int set_token(struct azure_account *account, const struct weir_azure_config *config,
                     struct weir_http_client *http, struct weir_error *err) {
    struct weir_buffer url;
    struct weir_buffer body;
    weir_buffer_init(&url, 8192);
    weir_buffer_init(&body, 32 * 1024);
    struct token_request request = {0};
    int rc;
    if (config->client_secret != NULL) {
        rc = weir_buffer_printf(&url, "%s/%s/oauth2/v2.0/token", config->authority, config->tenant);
        rc = rc != WEIR_OK
                 ? rc
                 : weir_buffer_append_text(&body,
                                           "grant_type=client_credentials&scope=https%3A%2F%2F"
                                           "storage.azure.com%2F.default&client_id=");
        rc = rc != WEIR_OK ? rc : weir_http_encode(&body, config->client_id, false);
        rc = rc != WEIR_OK ? rc : weir_buffer_append_text(&body, "&client_secret=");
        rc = rc != WEIR_OK ? rc : weir_http_encode(&body, config->client_secret, false);
    } else {
        rc = weir_buffer_printf(&url,
                                "%s?api-version=2018-02-01&resource=https%%3A%%2F%%2F"
                                "storage.azure.com%%2F",
                                config->identity_endpoint);
        if (rc == WEIR_OK && config->client_id != NULL) {
            rc = weir_buffer_append_text(&url, "&client_id=");
            rc = rc != WEIR_OK ? rc : weir_http_encode(&url, config->client_id, false);
        }
        request.header = "Metadata: true";
    }
    request.url = rc == WEIR_OK ? weir_buffer_text(&url) : NULL;
    request.body = body.size > 0 ? weir_buffer_text(&body) : NULL;
    rc = request.url == NULL ? weir_error_set(err, WEIR_E_NOMEM, "azure: out of memory")
                             : token_source_create(&request, http, &account->token, err);
    weir_buffer_wipe(&body);
    weir_buffer_fini(&url);
    return rc;
}

int weir_store_azure_create(const char *url, const struct weir_azure_config *config,
                            const struct weir_http_options *http, struct weir_store **out,
                            struct weir_error *err) {
    struct azure_account *account = calloc(1, sizeof(*account));
    if (account == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "azure: out of memory");
    }
    account->name = strdup(config->account);
    account->container = strdup(config->container);
    account->endpoint = strdup(config->endpoint);
    account->encryption_scope =
        config->encryption_scope != NULL ? strdup(config->encryption_scope) : NULL;
    int rc = account->name == NULL || account->container == NULL || account->endpoint == NULL
                 ? weir_error_set(err, WEIR_E_NOMEM, "azure: out of memory")
                 : WEIR_OK;
    if (rc == WEIR_OK && config->account_key != NULL) {
        rc = set_key(account, config->account_key, err);
    } else if (rc == WEIR_OK && config->sas != NULL) {
        account->sas = strdup(config->sas[0] == '?' ? config->sas + 1 : config->sas);
        rc = account->sas == NULL ? weir_error_set(err, WEIR_E_NOMEM, "azure: out of memory")
                                  : WEIR_OK;
    }
    if (rc != WEIR_OK) {
        struct object_store shell = {.account = account};
        fini(&shell);
        return rc;
    }
    rc = object_store_create(&azure, url, config->root, account, http, out, err);
    if (rc == WEIR_OK && account->key_size == 0 && account->sas == NULL &&
        (config->client_secret != NULL || config->identity_endpoint != NULL)) {
        rc = set_token(account, config, ((struct object_store *)*out)->http, err);
        if (rc != WEIR_OK) {
            weir_store_destroy(*out);
            *out = NULL;
        }
    }
    return rc;
}
