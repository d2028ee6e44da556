/* Object stores: calls, races, reading. */
#include "lake/store/object.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct object_store *object(struct weir_store *store) {
    return (struct object_store *)store;
}

char *object_key(const struct object_store *store, const char *path) {
    char *key = NULL;
    const char *slash = store->root[0] != '\0' && path[0] != '\0' ? "/" : "";
    return asprintf(&key, "%s%s%s", store->root, slash, path) < 0 ? NULL : key;
}

/* --- calls ---------------------------------------------------------------------------------- */

struct signing {
    struct object_store *store;
    const struct object_call *call;
};

static int prepare(void *context, struct weir_buffer *url, struct curl_slist **headers,
                   struct weir_error *err) {
    struct signing *signing = context;
    return signing->store->provider->sign(signing->store, signing->call, url, headers, err);
}

int object_call(struct object_store *store, const struct object_call *call, struct weir_buffer *out,
                struct weir_http_response *response, struct weir_error *err) {
    struct signing signing = {store, call};
    char what[512];
    snprintf(what, sizeof(what), "%s %s: %s", call->method, store->url,
             call->key != NULL ? call->key : "listing");
    struct weir_http_request request = {
        .method = call->method,
        .body = call->body,
        .size = call->size,
        .prepare = prepare,
        .passing = store->provider->passing,
        .context = &signing,
        .out = out,
        .what = what,
    };
    return weir_http_call(store->http, &request, response, err);
}

int object_refused(struct object_store *store, const char *what, const char *key,
                   const struct weir_http_response *response, struct weir_error *err) {
    const char *way_out = "";
    int code = WEIR_E_IO;
    if (response->status == 401 || response->status == 403) {
        way_out = "; look at the credentials and the rights they have";
        code = WEIR_E_ENVIRONMENT;
    } else if (response->status == 404) {
        way_out = key == NULL ? "; the container or bucket must exist" : "";
        code = WEIR_E_NOTFOUND;
    }
    return weir_error_set(err, code, "%s %s: %s: HTTP %ld %s %s%s", what, store->url,
                          key != NULL ? key : "", response->status, response->error_code,
                          response->message, way_out);
}

/* --- the vtable ------------------------------------------------------------------------------ */

static int with_key(struct weir_store *store, const char *path, char **key,
                    struct weir_error *err) {
    int rc = weir_store_check_path(path, err);
    if (rc == WEIR_OK) {
        *key = object_key(object(store), path);
        if (*key == NULL) {
            rc = weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", path);
        }
    }
    return rc;
}

static int put_if_absent(struct weir_store *store, const char *path, const void *bytes, size_t size,
                         struct weir_error *err) {
    char *key = NULL;
    int rc = with_key(store, path, &key, err);
    if (rc == WEIR_OK) {
        rc = object_put_whole(object(store), key, bytes, size, true, err);
    }
    free(key);
    return rc == WEIR_E_EXISTS
               ? weir_error_set(err, WEIR_E_CONFLICT, "%s/%s exists", object(store)->url, path)
               : rc;
}

static int put(struct weir_store *store, const char *path, const void *bytes, size_t size,
               struct weir_error *err) {
    char *key = NULL;
    int rc = with_key(store, path, &key, err);
    if (rc == WEIR_OK) {
        rc = object_put_whole(object(store), key, bytes, size, false, err);
    }
    free(key);
    return rc;
}

static int get(struct weir_store *store, const char *path, int64_t offset, int64_t length,
               struct weir_buffer *out, struct weir_error *err) {
    char *key = NULL;
    int rc = with_key(store, path, &key, err);
    if (rc != WEIR_OK || length == 0) {
        free(key);
        return rc;
    }
    char range[64];
    struct object_call call = {.method = "GET", .key = key};
    if (length > 0) {
        snprintf(range, sizeof(range), "bytes=%" PRId64 "-%" PRId64, offset, offset + length - 1);
        object_header(&call, "range", range);
    } else if (offset > 0) {
        snprintf(range, sizeof(range), "bytes=%" PRId64 "-", offset);
        object_header(&call, "range", range);
    }
    size_t before = out->size;
    struct weir_http_response response;
    rc = object_call(object(store), &call, out, &response, err);
    if (rc == WEIR_OK && response.status == 416 && length < 0) {
        response.status = 206; /* "from the end on": nothing */
    } else if (rc == WEIR_OK && response.status != 200 && response.status != 206) {
        rc = response.status == 416
                 ? weir_error_set(err, WEIR_E_CORRUPT, "%s/%s ends before byte %" PRId64,
                                  object(store)->url, path, offset + length)
                 : object_refused(object(store), "get", key, &response, err);
    }
    if (rc == WEIR_OK && length > 0 && (int64_t)(out->size - before) != length) {
        rc = weir_error_set(err, WEIR_E_CORRUPT,
                            "%s/%s: %zu bytes came where %" PRId64 " were asked for",
                            object(store)->url, path, out->size - before, length);
    }
    free(key);
    return rc;
}

static int stat_object(struct weir_store *store, const char *path, struct weir_store_info *info,
                       struct weir_error *err) {
    char *key = NULL;
    int rc = with_key(store, path, &key, err);
    struct weir_http_response response = {0};
    if (rc == WEIR_OK) {
        struct object_call call = {.method = "HEAD", .key = key};
        rc = object_call(object(store), &call, NULL, &response, err);
    }
    if (rc == WEIR_OK && response.status != 200) {
        rc = object_refused(object(store), "stat", key, &response, err);
    }
    if (rc == WEIR_OK) {
        *info = (struct weir_store_info){.size_bytes = response.length,
                                         .modified_ms = response.modified_ms};
    }
    free(key);
    return rc;
}

static int remove_object(struct weir_store *store, const char *path, struct weir_error *err) {
    char *key = NULL;
    int rc = with_key(store, path, &key, err);
    struct weir_http_response response = {0};
    if (rc == WEIR_OK) {
        struct object_call call = {.method = "DELETE", .key = key};
        rc = object_call(object(store), &call, NULL, &response, err);
    }
    if (rc == WEIR_OK && response.status / 100 != 2 && response.status != 404) {
        rc = object_refused(object(store), "delete", key, &response, err);
    }
    free(key);
    return rc;
}

static int nothing(struct weir_store *store, const char *dir, struct weir_error *err) {
    (void)store, (void)dir, (void)err;
    return WEIR_OK;
}

static int describe(struct weir_store *store, const char *path, struct weir_buffer *out) {
    return weir_buffer_printf(out, "%s%s%s", object(store)->url, *path != '\0' ? "/" : "", path);
}

static void destroy(struct weir_store *base) {
    struct object_store *store = object(base);
    upload_pool_destroy(store->uploads);
    if (store->account != NULL) {
        store->provider->fini(store);
    }
    weir_http_client_destroy(store->http);
    free(store->url);
    free(store->root);
    free(store);
}

static void set_stop(struct weir_store *store, bool (*stop)(void *context), void *context) {
    weir_http_client_set_stop(object(store)->http, stop, context);
}

static const struct weir_store_ops ops = {
    .name = "object",
    .put_if_absent = put_if_absent,
    .put = put,
    .get = get,
    .stat = stat_object,
    .list = object_list,
    .remove = remove_object,
    .make_dir = nothing,
    .sync_dir = nothing,
    .open = object_open,
    .file_write = object_file_write,
    .file_sync = object_file_sync,
    .file_close = object_file_close,
    .describe = describe,
    .set_stop = set_stop,
    .destroy = destroy,
};

static char *trimmed(const char *root) {
    while (*root == '/') {
        root++;
    }
    char *out = strdup(root);
    for (size_t n = out != NULL ? strlen(out) : 0; n > 0 && out[n - 1] == '/'; n--) {
        out[n - 1] = '\0';
    }
    return out;
}

int object_store_create(const struct object_provider *provider, const char *url, const char *root,
                        void *account, const struct weir_http_options *http,
                        struct weir_store **out, struct weir_error *err) {
    struct object_store *store = calloc(1, sizeof(*store));
    if (store == NULL) {
        struct object_store shell = {.account = account};
        provider->fini(&shell);
        return weir_error_set(err, WEIR_E_NOMEM, "store %s: out of memory", url);
    }
    store->base.ops = &ops;
    store->provider = provider;
    store->account = account;
    store->url = trimmed(url);
    store->root = trimmed(root);
    int rc = store->url == NULL || store->root == NULL
                 ? weir_error_set(err, WEIR_E_NOMEM, "store %s: out of memory", url)
                 : weir_http_client_create(http, &store->http, err);
    if (rc == WEIR_OK) {
        rc = upload_pool_create(&store->uploads, err);
    }
    if (rc == WEIR_OK && store->root[0] != '\0') {
        rc = weir_store_check_path(store->root, err);
    }
    if (rc != WEIR_OK) {
        destroy(&store->base);
        return rc;
    }
    *out = &store->base;
    return WEIR_OK;
}

/* --- digests --------------------------------------------------------------------------------- */

void object_hmac(const void *key, size_t key_size, const void *data, size_t size, uint8_t out[32]) {
    unsigned int length = 32;
    HMAC(EVP_sha256(), key, (int)key_size, data, size, out, &length);
}

void object_sha256(const void *data, size_t size, uint8_t out[32]) {
    unsigned int length = 32;
    EVP_Digest(data != NULL ? data : "", size, out, &length, EVP_sha256(), NULL);
}

void object_hex(const uint8_t *bytes, size_t size, char *out) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < size; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * size] = '\0';
}
