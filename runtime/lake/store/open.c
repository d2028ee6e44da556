#include "lake/store/open.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lake/store/azure.h"
#include "lake/store/s3.h"

#define IDENTITY_ENDPOINT "http://169.254.169.254/metadata/identity/oauth2/token"

const struct weir_option weir_store_options[] = {WEIR_STORE_OPTIONS, {0}};

enum { SECRETS_MAX = 4, TEXTS_MAX = 8 };

/* What was read for one opening: texts it owns. */
struct reading {
    const json_t *options;
    char *secrets[SECRETS_MAX];
    int secret_count;
    char *texts[TEXTS_MAX];
    int text_count;
    int rc;
    struct weir_error *err;
};

static const char *environment(const char *const *names) {
    for (; *names != NULL; names++) {
        const char *text = getenv(*names);
        if (text != NULL && *text != '\0') {
            return text;
        }
    }
    return NULL;
}

/* The option, or the first of the variables that is set, or NULL. */
static const char *text(struct reading *r, const char *name, const char *const *variables) {
    const char *value = json_string_value(json_object_get(r->options, name));
    return value != NULL ? value : environment(variables);
}

static const char *secret(struct reading *r, const char *name, const char *const *variables) {
    const json_t *reference = json_object_get(r->options, name);
    if (reference == NULL || r->rc != WEIR_OK) {
        return environment(variables);
    }
    char **out = &r->secrets[r->secret_count];
    r->rc = weir_secret_resolve(reference, out, r->err);
    if (r->rc != WEIR_OK) {
        weir_error_wrap(r->err, "storage.%s", name);
        return NULL;
    }
    r->secret_count++;
    return *out;
}

#define VARIABLES(...)                                                                             \
    (const char *const[]) {                                                                        \
        __VA_ARGS__ NULL                                                                           \
    }

static char *keep(struct reading *r, char *owned) {
    static char nothing[1];
    if (owned == NULL && r->rc == WEIR_OK) {
        r->rc = weir_error_set(r->err, WEIR_E_NOMEM, "store: out of memory");
    } else if (owned != NULL) {
        r->texts[r->text_count++] = owned;
    }
    return owned != NULL ? owned : nothing;
}

static char *formatted(struct reading *r, const char *format, ...) WEIR_PRINTF(2, 3);
static char *formatted(struct reading *r, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char *out = NULL;
    int used = vasprintf(&out, format, arguments);
    va_end(arguments);
    return keep(r, used < 0 ? NULL : out);
}

static bool starts(const char *url, const char *scheme) {
    return strncmp(url, scheme, strlen(scheme)) == 0;
}

static bool is_azure(const char *url) {
    const char *host = strstr(url, "://");
    return starts(url, "abfss://") || starts(url, "abfs://") || starts(url, "az://") ||
           starts(url, "wasbs://") ||
           (starts(url, "https://") && host != NULL && strstr(host, ".blob.") != NULL);
}

static bool is_s3(const char *url) {
    return starts(url, "s3://") || starts(url, "s3a://");
}

bool weir_store_is_remote(const char *url) {
    return is_azure(url) || is_s3(url);
}

static struct weir_http_options http_options(const struct reading *r) {
    return (struct weir_http_options){
        .retry_for_ms = json_integer_value(json_object_get(r->options, "retry_for")) / 1000,
        .ca_file = json_string_value(json_object_get(r->options, "ca_file")),
    };
}

/* --- Azure -------------------------------------------------------------------------------------
 */

/* "container@account.dfs.core.windows.net/folder" and the forms beside it. */
static void azure_address(struct reading *r, const char *url, struct weir_azure_config *config) {
    const char *rest = strstr(url, "://") + 3;
    const char *slash = rest + strcspn(rest, "/");
    const char *at = memchr(rest, '@', (size_t)(slash - rest));
    config->account =
        text(r, "account", VARIABLES("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT", ));
    config->root = *slash == '/' ? slash + 1 : "";
    if (at != NULL) {
        const char *host = at + 1;
        size_t host_size = (size_t)(slash - host);
        config->container = formatted(r, "%.*s", (int)(at - rest), rest);
        config->account = formatted(r, "%.*s", (int)strcspn(host, "."), host);
        char *name = formatted(r, "%.*s", (int)host_size, host);
        char *dfs = strstr(name, ".dfs."); /* the blob endpoint serves such accounts too */
        if (dfs != NULL) {
            config->endpoint =
                formatted(r, "https://%.*s.blob.%s", (int)(dfs - name), name, dfs + 5);
        } else {
            config->endpoint = formatted(r, "https://%s", name);
        }
    } else if (starts(url, "https://")) {
        config->endpoint = formatted(r, "https://%.*s", (int)(slash - rest), rest);
        config->account = formatted(r, "%.*s", (int)strcspn(rest, "."), rest);
        const char *container = *slash == '/' ? slash + 1 : "";
        size_t size = strcspn(container, "/");
        config->container = formatted(r, "%.*s", (int)size, container);
        config->root = container[size] == '/' ? container + size + 1 : "";
    } else {
        config->container = formatted(r, "%.*s", (int)(slash - rest), rest);
    }
}

static int open_azure(struct reading *r, const char *url, struct weir_store **out) {
    struct weir_azure_config config = {0};
    azure_address(r, url, &config);
    config.account_key =
        secret(r, "account_key", VARIABLES("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY", ));
    config.sas = secret(r, "sas", VARIABLES("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY", ));
    config.tenant = text(r, "tenant", VARIABLES("AZURE_TENANT_ID", "AZURE_STORAGE_TENANT_ID", ));
    config.client_id =
        text(r, "client_id", VARIABLES("AZURE_CLIENT_ID", "AZURE_STORAGE_CLIENT_ID", ));
    config.client_secret = secret(
        r, "client_secret", VARIABLES("AZURE_CLIENT_SECRET", "AZURE_STORAGE_CLIENT_SECRET", ));
    config.authority = text(r, "authority", VARIABLES("AZURE_AUTHORITY_HOST", ));
    config.encryption_scope = text(r, "encryption_scope", VARIABLES());
    const char *endpoint = text(r, "endpoint", VARIABLES("AZURE_STORAGE_ENDPOINT", ));
    if (r->rc != WEIR_OK) {
        return r->rc;
    }
    if (config.account == NULL) {
        return weir_error_set(r->err, WEIR_E_CONFIG,
                              "%s does not say its account; write "
                              "abfss://container@account.dfs.core.windows.net/folder, or set "
                              "storage.account",
                              url);
    }
    if (config.client_secret != NULL && (config.tenant == NULL || config.client_id == NULL)) {
        return weir_error_set(r->err, WEIR_E_CONFIG,
                              "storage: client_secret needs tenant and client_id beside it");
    }
    if (config.authority == NULL) {
        config.authority = "https://login.microsoftonline.com";
    }
    if (json_is_true(json_object_get(r->options, "managed_identity"))) {
        const char *identity = environment(VARIABLES("WEIR_IDENTITY_ENDPOINT", ));
        config.identity_endpoint = identity != NULL ? identity : IDENTITY_ENDPOINT;
    }
    if (endpoint != NULL) {
        config.endpoint = endpoint;
    } else if (config.endpoint == NULL) {
        config.endpoint = formatted(r, "https://%s.blob.core.windows.net", config.account);
    }
    struct weir_http_options http = http_options(r);
    return r->rc != WEIR_OK ? r->rc : weir_store_azure_create(url, &config, &http, out, r->err);
}

/* --- S3 ----------------------------------------------------------------------------------------
 */

static int open_s3(struct reading *r, const char *url, struct weir_store **out) {
    const char *rest = strstr(url, "://") + 3;
    size_t bucket = strcspn(rest, "/");
    struct weir_s3_config config = {
        .bucket = formatted(r, "%.*s", (int)bucket, rest),
        .root = rest[bucket] == '/' ? rest + bucket + 1 : "",
        .region = text(r, "region", VARIABLES("AWS_REGION", "AWS_DEFAULT_REGION", )),
        .endpoint = text(r, "endpoint", VARIABLES("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", )),
        .access_key_id = text(r, "access_key_id", VARIABLES("AWS_ACCESS_KEY_ID", )),
        .secret_access_key = secret(r, "secret_access_key", VARIABLES("AWS_SECRET_ACCESS_KEY", )),
        .session_token = secret(r, "session_token", VARIABLES("AWS_SESSION_TOKEN", )),
        .encryption = text(r, "encryption", VARIABLES()),
        .encryption_key = text(r, "encryption_key", VARIABLES()),
    };
    if (r->rc != WEIR_OK) {
        return r->rc;
    }
    if (bucket == 0) {
        return weir_error_set(r->err, WEIR_E_CONFIG, "%s names no bucket; write s3://bucket/folder",
                              url);
    }
    if (config.access_key_id != NULL && config.secret_access_key == NULL) {
        return weir_error_set(r->err, WEIR_E_ENVIRONMENT,
                              "s3: an access key without its secret; set secret_access_key or "
                              "AWS_SECRET_ACCESS_KEY");
    }
    if (config.region == NULL) {
        config.region = "us-east-1";
    }
    const json_t *style = json_object_get(r->options, "path_style");
    config.path_style = style != NULL ? json_is_true(style) : config.endpoint != NULL;
    if (config.endpoint == NULL) {
        config.endpoint = formatted(r, "https://s3.%s.amazonaws.com", config.region);
    }
    struct weir_http_options http = http_options(r);
    return r->rc != WEIR_OK ? r->rc : weir_store_s3_create(url, &config, &http, out, r->err);
}

int weir_store_open_url(const char *url, const struct json_t *options, bool make,
                        struct weir_store **out, struct weir_error *err) {
    struct weir_error own;
    struct reading r = {.options = options, .err = err != NULL ? err : &own};
    *out = NULL;
    if (is_azure(url)) {
        r.rc = open_azure(&r, url, out);
    } else if (is_s3(url)) {
        r.rc = open_s3(&r, url, out);
    } else if (strstr(url, "://") != NULL && !starts(url, "file://")) {
        r.rc = weir_error_set(err, WEIR_E_CONFIG,
                              "no store speaks %.*s; there are folders, abfss://, az:// and s3://",
                              (int)(strstr(url, "://") + 3 - url), url);
    } else {
        const char *folder = starts(url, "file://") ? url + 7 : url;
        r.rc = make ? weir_store_local_create(folder, out, err)
                    : weir_store_local_open(folder, out, err);
    }
    for (int i = 0; i < r.secret_count; i++) {
        weir_secret_free(r.secrets[i]);
    }
    for (int i = 0; i < r.text_count; i++) {
        free(r.texts[i]);
    }
    return r.rc;
}
