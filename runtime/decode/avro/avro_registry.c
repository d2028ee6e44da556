#include "decode/avro/avro_registry.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/option.h"

enum { ANSWER_BYTES_MAX = 16 << 20, REFERENCES_DEPTH = 16, RETRY_MS = 3000, QUIET_MS = 5000 };

struct avro_registry {
    struct weir_http_client *http;
    char *url;           /* without a slash at its end */
    char *authorization; /* a header line, or NULL */
};

struct asked {
    struct avro_registry *registry;
    const char *path;
    bool sends;
};

/* Frees the list where it cannot grow. */
static struct curl_slist *with(struct curl_slist *list, const char *line) {
    struct curl_slist *longer = list != NULL ? curl_slist_append(list, line) : NULL;
    if (list != NULL && longer == NULL) {
        curl_slist_free_all(list);
    }
    return longer;
}

static int prepare(void *context, struct weir_buffer *url, struct curl_slist **headers,
                   struct weir_error *err) {
    const struct asked *asked = context;
    struct curl_slist *list =
        curl_slist_append(NULL, "Accept: application/vnd.schemaregistry.v1+json, application/json");
    if (asked->registry->authorization != NULL) {
        list = with(list, asked->registry->authorization);
    }
    if (asked->sends) {
        list = with(list, "Content-Type: application/vnd.schemaregistry.v1+json");
    }
    *headers = list;
    int rc = list == NULL ? WEIR_E_NOMEM
                          : weir_buffer_printf(url, "%s%s", asked->registry->url, asked->path);
    return rc != WEIR_OK ? weir_error_set(err, rc, "registry: out of memory") : WEIR_OK;
}

int avro_registry_call(struct avro_registry *registry, const char *method, const char *path,
                       const char *body, json_t **out, struct weir_error *err) {
    struct weir_buffer answer;
    struct asked asked = {registry, path, body != NULL};
    char what[512];
    snprintf(what, sizeof(what), "registry %s%s", registry->url, path);
    weir_buffer_init(&answer, ANSWER_BYTES_MAX);
    struct weir_http_request request = {
        .method = method,
        .body = body,
        .size = body != NULL ? strlen(body) : 0,
        .prepare = prepare,
        .context = &asked,
        .out = &answer,
        .what = what,
    };
    struct weir_http_response response;
    *out = NULL;
    int rc = weir_http_call(registry->http, &request, &response, err);
    if (rc == WEIR_OK && response.status == 404) {
        rc = weir_error_set(err, WEIR_E_NOTFOUND, "%s: not there", what);
    } else if (rc == WEIR_OK && (response.status == 409 || response.status == 422)) {
        rc = weir_error_set(err, response.status == 409 ? WEIR_E_CONFLICT : WEIR_E_SCHEMA, "%s: %s",
                            what, response.message);
    } else if (rc == WEIR_OK && response.status != 200) {
        rc = weir_error_set(err, WEIR_E_ENVIRONMENT, "%s: HTTP %ld %s%s", what, response.status,
                            response.message,
                            response.status == 401 || response.status == 403
                                ? "; look at username, password or token"
                                : "");
    }
    if (rc == WEIR_OK) {
        *out = json_loadb((const char *)answer.data, answer.size, 0, NULL);
        if (*out == NULL) {
            rc = weir_error_set(err, WEIR_E_ENVIRONMENT,
                                "%s answered no JSON; is it a schema registry?", what);
        }
    }
    weir_buffer_fini(&answer);
    return rc;
}

static int ask(struct avro_registry *registry, const char *path, json_t **out,
               struct weir_error *err) {
    int rc = avro_registry_call(registry, "GET", path, NULL, out, err);
    if (rc == WEIR_OK && !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        rc = weir_error_set(err, WEIR_E_ENVIRONMENT,
                            "registry %s%s answered no JSON object; is it a schema registry?",
                            registry->url, path);
    }
    return rc;
}

/* --- schemas -----------------------------------------------------------------------------------
 */

static int add(struct avro_registry *registry, const json_t *answer, struct avro_schema *schema,
               int depth, struct weir_error *err);

static int add_reference(struct avro_registry *registry, const json_t *reference,
                         struct avro_schema *schema, int depth, struct weir_error *err) {
    const char *subject = json_string_value(json_object_get(reference, "subject"));
    struct weir_buffer path;
    weir_buffer_init(&path, 8192);
    int rc = subject == NULL || depth > REFERENCES_DEPTH
                 ? weir_error_set(err, WEIR_E_SCHEMA, "references run in a circle or name nothing")
                 : weir_buffer_append_text(&path, "/subjects/");
    rc = rc == WEIR_OK ? weir_http_encode(&path, subject, false) : rc;
    rc = rc == WEIR_OK ? weir_buffer_printf(
                             &path, "/versions/%lld",
                             (long long)json_integer_value(json_object_get(reference, "version")))
                       : rc;
    json_t *answer = NULL;
    const char *text = rc == WEIR_OK ? weir_buffer_text(&path) : NULL;
    if (rc == WEIR_OK) {
        rc = text != NULL ? ask(registry, text, &answer, err) : WEIR_E_NOMEM;
    }
    if (rc == WEIR_OK) {
        rc = add(registry, answer, schema, depth + 1, err);
    }
    json_decref(answer);
    weir_buffer_fini(&path);
    return rc;
}

/* What it refers to first, so that their names are known. */
static int add(struct avro_registry *registry, const json_t *answer, struct avro_schema *schema,
               int depth, struct weir_error *err) {
    const json_t *references = json_object_get(answer, "references");
    const json_t *text = json_object_get(answer, "schema");
    const char *type = json_string_value(json_object_get(answer, "schemaType"));
    int rc = WEIR_OK;
    if (type != NULL && strcmp(type, "AVRO") != 0) {
        return weir_error_set(err, WEIR_E_SCHEMA, "the registry's schema is %s, not Avro", type);
    }
    if (!json_is_string(text)) { /* it may come to itself, so its messages wait */
        return weir_error_set(err, WEIR_E_ENVIRONMENT,
                              "registry %s answered without a schema; is it a schema registry?",
                              registry->url);
    }
    for (size_t i = 0; rc == WEIR_OK && i < json_array_size(references); i++) {
        rc = add_reference(registry, json_array_get(references, i), schema, depth, err);
    }
    return rc == WEIR_OK ? avro_schema_parse(schema, json_string_value(text),
                                             json_string_length(text), "the registry's schema", err)
                         : rc;
}

int avro_registry_by_id(struct avro_registry *registry, int32_t id, struct avro_schema *schema,
                        struct weir_error *err) {
    char path[64];
    snprintf(path, sizeof(path), "/schemas/ids/%d", (int)id);
    json_t *answer;
    int rc = ask(registry, path, &answer, err);
    if (rc == WEIR_OK) {
        rc = add(registry, answer, schema, 0, err);
    }
    json_decref(answer);
    return rc;
}

int avro_registry_version(struct avro_registry *registry, const char *subject, const char *version,
                          struct avro_version *out, struct weir_error *err) {
    struct weir_buffer path;
    weir_buffer_init(&path, 8192);
    memset(out, 0, sizeof(*out));
    int rc = weir_buffer_append_text(&path, "/subjects/");
    rc = rc == WEIR_OK ? weir_http_encode(&path, subject, false) : rc;
    rc = rc == WEIR_OK ? weir_buffer_append_text(&path, "/versions/") : rc;
    rc = rc == WEIR_OK ? weir_http_encode(&path, version, false) : rc;
    json_t *answer = NULL;
    const char *where = rc == WEIR_OK ? weir_buffer_text(&path) : NULL;
    rc = where != NULL ? ask(registry, where, &answer, err)
                       : weir_error_set(err, WEIR_E_NOMEM, "registry: out of memory");
    if (rc == WEIR_OK) {
        out->id = (int32_t)json_integer_value(json_object_get(answer, "id"));
        out->version = (int32_t)json_integer_value(json_object_get(answer, "version"));
        rc = add(registry, answer, &out->schema, 0, err);
    }
    if (rc != WEIR_OK) {
        avro_schema_fini(&out->schema);
    }
    json_decref(answer);
    weir_buffer_fini(&path);
    return rc;
}

int avro_registry_latest(struct avro_registry *registry, const char *subject,
                         struct weir_buffer *text, struct weir_error *err) {
    struct weir_buffer path;
    weir_buffer_init(&path, 8192);
    int rc = weir_buffer_append_text(&path, "/subjects/");
    rc = rc == WEIR_OK ? weir_http_encode(&path, subject, false) : rc;
    rc = rc == WEIR_OK ? weir_buffer_append_text(&path, "/versions/latest") : rc;
    json_t *answer = NULL;
    const char *where = rc == WEIR_OK ? weir_buffer_text(&path) : NULL;
    rc = where != NULL ? ask(registry, where, &answer, err) : WEIR_E_NOMEM;
    const char *found = json_string_value(json_object_get(answer, "schema"));
    if (rc == WEIR_OK && json_array_size(json_object_get(answer, "references")) > 0) {
        rc = weir_error_set(err, WEIR_E_UNSUPPORTED,
                            "the newest schema of %s refers to others; give the columns in a file: "
                            "avro { registry = …, schema = \"schemas/x.avsc\" }",
                            subject);
    } else if (rc == WEIR_OK) {
        rc = found != NULL ? weir_buffer_append_text(text, found)
                           : weir_error_set(err, WEIR_E_ENVIRONMENT, "%s has no schema", subject);
    }
    json_decref(answer);
    weir_buffer_fini(&path);
    return rc;
}

/* --- life --------------------------------------------------------------------------------------
 */

static int basic_header(const char *user, const char *password, char **out,
                        struct weir_error *err) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t length = strlen(user) + 1 + strlen(password);
    uint8_t *plain = malloc(length + 3);
    char *line = malloc(length * 2 + 64);
    if (plain == NULL || line == NULL) {
        free(plain);
        free(line);
        return weir_error_set(err, WEIR_E_NOMEM, "registry: out of memory");
    }
    snprintf((char *)plain, length + 1, "%s:%s", user, password);
    int at = snprintf(line, 64, "Authorization: Basic ");
    for (size_t i = 0; i < length; i += 3) {
        uint32_t bits = (uint32_t)plain[i] << 16;
        bits |= i + 1 < length ? (uint32_t)plain[i + 1] << 8 : 0;
        bits |= i + 2 < length ? (uint32_t)plain[i + 2] : 0;
        line[at++] = digits[bits >> 18 & 63];
        line[at++] = digits[bits >> 12 & 63];
        line[at++] = i + 1 < length ? digits[bits >> 6 & 63] : '=';
        line[at++] = i + 2 < length ? digits[bits & 63] : '=';
    }
    line[at] = '\0';
    explicit_bzero(plain, length);
    free(plain);
    *out = line;
    return WEIR_OK;
}

static int set_authorization(struct avro_registry *registry, const json_t *options,
                             struct weir_error *err) {
    const char *user = json_string_value(json_object_get(options, "username"));
    const json_t *password = json_object_get(options, "password");
    const json_t *token = json_object_get(options, "token");
    char *secret = NULL;
    int rc = WEIR_OK;
    if (user != NULL && password != NULL) {
        rc = weir_secret_resolve(password, &secret, err);
        rc = rc == WEIR_OK ? basic_header(user, secret, &registry->authorization, err) : rc;
    } else if (token != NULL) {
        rc = weir_secret_resolve(token, &secret, err);
        if (rc == WEIR_OK &&
            asprintf(&registry->authorization, "Authorization: Bearer %s", secret) < 0) {
            registry->authorization = NULL;
            rc = weir_error_set(err, WEIR_E_NOMEM, "registry: out of memory");
        }
    }
    weir_secret_free(secret);
    return rc;
}

int avro_registry_create(const struct json_t *options, struct avro_registry **out,
                         struct weir_error *err) {
    const char *url = json_string_value(json_object_get(options, "registry"));
    struct avro_registry *registry = calloc(1, sizeof(*registry));
    struct weir_http_options http = {
        .retry_for_ms = RETRY_MS,
        .attempt_timeout_ms = QUIET_MS,
        .ca_file = json_string_value(json_object_get(options, "ca_file")),
    };
    if (registry == NULL || (registry->url = strdup(url)) == NULL) {
        free(registry);
        return weir_error_set(err, WEIR_E_NOMEM, "registry: out of memory");
    }
    for (size_t n = strlen(registry->url); n > 0 && registry->url[n - 1] == '/'; n--) {
        registry->url[n - 1] = '\0';
    }
    int rc = weir_http_client_create(&http, &registry->http, err);
    rc = rc == WEIR_OK ? set_authorization(registry, options, err) : rc;
    if (rc != WEIR_OK) {
        avro_registry_destroy(registry);
        return rc;
    }
    *out = registry;
    return WEIR_OK;
}

void avro_registry_set_stop(struct avro_registry *registry, bool (*stop)(void *context),
                            void *context) {
    weir_http_client_set_stop(registry->http, stop, context);
}

void avro_registry_destroy(struct avro_registry *registry) {
    if (registry == NULL) {
        return;
    }
    weir_http_client_destroy(registry->http);
    weir_secret_free(registry->authorization);
    free(registry->url);
    free(registry);
}
