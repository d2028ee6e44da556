#include "kafka/token.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/http.h"
#include "core/log.h"

enum { BODY_BYTES_MAX = 64 * 1024, ANSWER_BYTES_MAX = 256 * 1024, FETCH_MS = 20000 };

struct weir_kafka_token {
    struct weir_kafka_client *client;
    struct weir_http_client *http;
    char *url;
    char *id;
    char *scope;
    json_t *secret; /* a reference: resolved at each fetch, so that it may be renewed */
    atomic_bool stopping;
};

static bool stopping(void *context) {
    return atomic_load(&((struct weir_kafka_token *)context)->stopping);
}

static int prepare(void *context, struct weir_buffer *url, struct curl_slist **headers,
                   struct weir_error *err) {
    const struct weir_kafka_token *token = context;
    int rc = weir_buffer_append_text(url, token->url);
    struct curl_slist *list =
        curl_slist_append(*headers, "Content-Type: application/x-www-form-urlencoded");
    if (list != NULL) {
        *headers = list;
        list = curl_slist_append(*headers, "Accept: application/json");
    }
    if (rc != WEIR_OK || list == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    *headers = list;
    return WEIR_OK;
}

static int field(struct weir_buffer *body, const char *name, const char *value) {
    int rc = value == NULL || body->size == 0 ? WEIR_OK : weir_buffer_append(body, "&", 1);
    if (rc == WEIR_OK && value != NULL) {
        rc = weir_buffer_append_text(body, name);
    }
    if (rc == WEIR_OK && value != NULL) {
        rc = weir_buffer_append(body, "=", 1);
    }
    return rc == WEIR_OK && value != NULL ? weir_http_encode(body, value, false) : rc;
}

static int form(const struct weir_kafka_token *token, struct weir_buffer *body,
                struct weir_error *err) {
    char *secret = NULL;
    int rc = weir_secret_resolve(token->secret, &secret, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    rc = field(body, "grant_type", "client_credentials");
    rc = rc == WEIR_OK ? field(body, "client_id", token->id) : rc;
    rc = rc == WEIR_OK ? field(body, "client_secret", secret) : rc;
    rc = rc == WEIR_OK ? field(body, "scope", token->scope) : rc;
    weir_secret_free(secret);
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "the request for a token is too long");
}

/* {"access_token": …, "expires_in": seconds} */
static int hand_over(const struct weir_kafka_token *token, rd_kafka_t *rk,
                     const struct weir_buffer *answer, struct weir_error *err) {
    char reason[256] = "";
    json_t *json = json_loadb((const char *)answer->data, answer->size, 0, NULL);
    const char *text = json_string_value(json_object_get(json, "access_token"));
    const json_t *seconds = json_object_get(json, "expires_in");
    int64_t life_s = json_is_integer(seconds) ? json_integer_value(seconds) : 300;
    int rc = WEIR_OK;
    if (text == NULL) {
        rc = weir_error_set(err, WEIR_E_ENVIRONMENT, "the answer of %s has no access_token",
                            token->url);
    } else if (rd_kafka_oauthbearer_set_token(rk, text, weir_clock_wall_us() / 1000 + life_s * 1000,
                                              token->id, NULL, 0, reason,
                                              sizeof(reason)) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        rc = weir_error_set(err, WEIR_E_ENVIRONMENT, "the token of %s: %s", token->url, reason);
    }
    json_decref(json);
    return rc;
}

static int fetch(struct weir_kafka_token *token, rd_kafka_t *rk, struct weir_error *err) {
    struct weir_buffer body;
    struct weir_buffer answer;
    weir_buffer_init(&body, BODY_BYTES_MAX);
    weir_buffer_init(&answer, ANSWER_BYTES_MAX);
    int rc = form(token, &body, err);
    if (rc == WEIR_OK) {
        struct weir_http_request request = {
            .method = "POST",
            .body = body.data,
            .size = body.size,
            .prepare = prepare,
            .context = token,
            .out = &answer,
            .what = "a token",
        };
        struct weir_http_response response = {0};
        rc = weir_http_call(token->http, &request, &response, err);
        if (rc == WEIR_OK && response.status / 100 != 2) {
            rc = weir_error_set(err, WEIR_E_ENVIRONMENT,
                                "%s answers %ld%s%s; check client_id, client_secret and scope",
                                token->url, response.status,
                                response.message[0] != '\0' ? ": " : "", response.message);
        }
    }
    if (rc == WEIR_OK) {
        rc = hand_over(token, rk, &answer, err);
    }
    weir_buffer_wipe(&body);
    weir_buffer_wipe(&answer);
    return rc;
}

static void refresh(rd_kafka_t *rk, const char *config, void *opaque) {
    struct weir_kafka_client *client = opaque;
    struct weir_error err = {0};
    (void)config;
    if (fetch(client->token, rk, &err) != WEIR_OK) {
        pthread_mutex_lock(&client->lock);
        snprintf(client->said, sizeof(client->said), "%.*s", (int)sizeof(client->said) - 1,
                 err.message);
        pthread_mutex_unlock(&client->lock);
        weir_log_warn("kafka", "%s: %s", client->what, err.message);
        rd_kafka_oauthbearer_set_token_failure(rk, err.message);
    }
}

static char *copy(const json_t *options, const char *name) {
    const char *text = json_string_value(json_object_get(options, name));
    return text != NULL ? strdup(text) : NULL;
}

int weir_kafka_token_create(struct weir_kafka_client *client, const json_t *options,
                            struct weir_kafka_token **out, struct weir_error *err) {
    const json_t *secret = json_object_get(options, "client_secret");
    bool has_url = json_object_get(options, "token_url") != NULL;
    *out = NULL;
    if (!has_url &&
        (json_object_get(client->user, "sasl.oauthbearer.method") != NULL ||
         json_object_get(client->user, "enable.sasl.oauthbearer.unsecure.jwt") != NULL)) {
        return WEIR_OK;
    }
    if (!has_url || secret == NULL || json_object_get(options, "client_id") == NULL) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "%s: sasl = \"oauthbearer\" wants token_url, client_id and "
                              "client_secret",
                              client->what);
    }
    struct weir_kafka_token *token = calloc(1, sizeof(*token));
    if (token == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", client->what);
    }
    token->client = client;
    token->url = copy(options, "token_url");
    token->id = copy(options, "client_id");
    token->scope = copy(options, "scope");
    token->secret = json_deep_copy(secret);
    struct weir_http_options http = {
        .retry_for_ms = FETCH_MS,
        .ca_file = json_string_value(json_object_get(options, "ca")),
        .stop = stopping,
        .stop_context = token,
    };
    int rc = token->url == NULL || token->id == NULL || token->secret == NULL
                 ? weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", client->what)
                 : weir_http_client_create(&http, &token->http, err);
    if (rc != WEIR_OK) {
        weir_kafka_token_destroy(token);
        return rc;
    }
    rd_kafka_conf_set_oauthbearer_token_refresh_cb(client->conf, refresh);
    rd_kafka_conf_enable_sasl_queue(client->conf, 1);
    *out = token;
    return WEIR_OK;
}

int weir_kafka_token_start(struct weir_kafka_token *token, struct weir_error *err) {
    rd_kafka_error_t *error = rd_kafka_sasl_background_callbacks_enable(token->client->rk);
    if (error == NULL) {
        return WEIR_OK;
    }
    int rc = weir_error_set(err, WEIR_E_BUG, "%s: %s", token->client->what,
                            rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
    return rc;
}

void weir_kafka_token_stop(struct weir_kafka_token *token) {
    if (token != NULL) {
        atomic_store(&token->stopping, true);
    }
}

void weir_kafka_token_destroy(struct weir_kafka_token *token) {
    if (token == NULL) {
        return;
    }
    weir_http_client_destroy(token->http);
    json_decref(token->secret);
    free(token->url);
    free(token->id);
    free(token->scope);
    free(token);
}
