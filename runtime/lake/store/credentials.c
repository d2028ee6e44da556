/* Bearer tokens of OAuth 2.0 token endpoints and of managed identities, kept until shortly before
 * they end. */
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/option.h"
#include "lake/store/object.h"

enum { EARLY_S = 300, ANSWER_BYTES_MAX = 64 * 1024 };

struct token_source {
    pthread_mutex_t lock;
    struct weir_http_client *http; /* borrowed */
    char *url;
    char *body;
    char *headers[2];
    char *token;
    int64_t ends_ns; /* monotonic, when to ask again */
};

static char *copy(const char *text) {
    return text != NULL ? strdup(text) : NULL;
}

int token_source_create(const struct token_request *request, struct weir_http_client *http,
                        struct token_source **out, struct weir_error *err) {
    struct token_source *source = calloc(1, sizeof(*source));
    if (source == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "token: out of memory");
    }
    pthread_mutex_init(&source->lock, NULL);
    source->http = http;
    source->url = copy(request->url);
    source->body = copy(request->body);
    source->headers[0] = copy(request->header);
    source->headers[1] = copy(request->header_2);
    *out = source;
    return WEIR_OK;
}

void token_source_destroy(struct token_source *source) {
    if (source == NULL) {
        return;
    }
    pthread_mutex_destroy(&source->lock);
    weir_secret_free(source->token);
    weir_secret_free(source->body);
    weir_secret_free(source->headers[0]);
    weir_secret_free(source->headers[1]);
    free(source->url);
    free(source);
}

static int prepare(void *context, struct weir_buffer *url, struct curl_slist **headers,
                   struct weir_error *err) {
    struct token_source *source = context;
    for (int i = 0; i < 2; i++) {
        struct curl_slist *longer =
            source->headers[i] != NULL ? curl_slist_append(*headers, source->headers[i]) : *headers;
        if (source->headers[i] != NULL && longer == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "token: out of memory");
        }
        *headers = longer;
    }
    int rc = weir_buffer_append_text(url, source->url);
    return rc != WEIR_OK ? weir_error_set(err, rc, "token: out of memory") : WEIR_OK;
}

static int take_token(struct token_source *source, const struct weir_buffer *answer,
                      struct weir_error *err) {
    json_t *root = json_loadb((const char *)answer->data, answer->size, 0, NULL);
    const char *token = json_string_value(json_object_get(root, "access_token"));
    const json_t *life = json_object_get(root, "expires_in");
    int64_t seconds = json_is_string(life) ? strtoll(json_string_value(life), NULL, 10)
                                           : json_integer_value(life);
    int rc = WEIR_OK;
    if (token == NULL) {
        rc = weir_error_set(err, WEIR_E_ENVIRONMENT, "%s answered without an access_token",
                            source->url);
    } else {
        weir_secret_free(source->token);
        source->token = strdup(token);
        int64_t early = seconds > 2 * EARLY_S ? EARLY_S : seconds / 2;
        source->ends_ns = weir_clock_mono_ns() + (seconds - early) * INT64_C(1000000000);
        rc = source->token == NULL ? weir_error_set(err, WEIR_E_NOMEM, "token: out of memory") : rc;
    }
    json_decref(root);
    return rc;
}

static int fetch(struct token_source *source, struct weir_error *err) {
    struct weir_buffer answer;
    weir_buffer_init(&answer, ANSWER_BYTES_MAX);
    struct weir_http_request request = {
        .method = source->body != NULL ? "POST" : "GET",
        .body = source->body,
        .size = source->body != NULL ? strlen(source->body) : 0,
        .prepare = prepare,
        .context = source,
        .out = &answer,
        .what = source->url,
    };
    struct weir_http_response response;
    int rc = weir_http_call(source->http, &request, &response, err);
    if (rc == WEIR_OK && response.status != 200) {
        rc = weir_error_set(err, WEIR_E_ENVIRONMENT,
                            "%s gave no token: HTTP %ld %s; look at tenant, client and secret",
                            source->url, response.status, response.message);
    }
    if (rc == WEIR_OK) {
        rc = take_token(source, &answer, err);
    }
    weir_buffer_wipe(&answer);
    return rc;
}

int token_source_get(struct token_source *source, struct weir_buffer *out, struct weir_error *err) {
    pthread_mutex_lock(&source->lock);
    int rc = source->token == NULL || weir_clock_mono_ns() >= source->ends_ns ? fetch(source, err)
                                                                              : WEIR_OK;
    if (rc == WEIR_OK) {
        rc = weir_buffer_printf(out, "Bearer %s", source->token);
        rc = rc != WEIR_OK ? weir_error_set(err, rc, "token: too long") : rc;
    }
    pthread_mutex_unlock(&source->lock);
    return rc;
}
