#pragma once
/* A Kafka client: one rd_kafka_t with the options, security and error texts that source and sink
 * have in common. What `kafka { … }` takes for it is WEIR_KAFKA_CLIENT_OPTIONS; secrets are
 * resolved when the client is made and live in librdkafka's memory alone.
 *
 *   init(options) → default/set of what the caller needs → open(type) → … → close
 *
 * One thread at a time for what is declared here, but weir_kafka_client_said, any thread. */
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "core/error.h"
#include "core/option.h"

struct json_t;
struct weir_kafka_token;

/* Rows of a connector's table of options. */
#define WEIR_KAFKA_CLIENT_OPTIONS                                                                  \
    {.name = "brokers", .form = WEIR_OPTION_TEXT, .required = true, .example = "\"broker:9092\""}, \
        WEIR_KAFKA_SECURITY_OPTIONS, {                                                             \
        .name = "options", .form = WEIR_OPTION_SETTINGS,                                           \
        .example = "{ [\"socket.keepalive.enable\"] = true }"                                      \
    }

#define WEIR_KAFKA_SECURITY_OPTIONS                                                                \
    {.name = "tls", .form = WEIR_OPTION_FLAG, .example = "true"},                                  \
        {.name = "ca", .form = WEIR_OPTION_PATH, .example = "\"certs/ca.pem\""},                   \
        {.name = "certificate", .form = WEIR_OPTION_PATH, .example = "\"certs/client.pem\""},      \
        {.name = "key_file", .form = WEIR_OPTION_PATH, .example = "\"certs/client.key\""},         \
        {.name = "key_password", .form = WEIR_OPTION_SECRET},                                      \
        {.name = "sasl",                                                                           \
         .form = WEIR_OPTION_TEXT,                                                                 \
         .example = "\"scram-sha-512\"",                                                           \
         .choices = weir_kafka_sasl_choices},                                                      \
        {.name = "username", .form = WEIR_OPTION_TEXT},                                            \
        {.name = "password", .form = WEIR_OPTION_SECRET},                                          \
        {.name = "token_url", .form = WEIR_OPTION_TEXT},                                           \
        {.name = "client_id", .form = WEIR_OPTION_TEXT},                                           \
        {.name = "client_secret", .form = WEIR_OPTION_SECRET}, {                                   \
        .name = "scope", .form = WEIR_OPTION_TEXT                                                  \
    }

/* "plain", "scram-sha-256", "scram-sha-512", "oauthbearer"; ends with NULL. */
extern const char *const weir_kafka_sasl_choices[];

struct weir_kafka_client {
    rd_kafka_t *rk;        /* NULL until open */
    rd_kafka_conf_t *conf; /* NULL from open on */
    void *owner;           /* the caller's, for its own callbacks: opaque is the client */
    char *what;            /* "sink gold.sales", in messages and logs */
    char *brokers;
    struct json_t *user; /* `options`, as written */
    bool scram;
    bool events; /* delivery reports are events: the caller takes them, rd_kafka_poll must not */
    struct weir_kafka_token *token;
    pthread_mutex_t lock;       /* guards said */
    char said[256];             /* the last trouble librdkafka reported, "" when none */
    int said_code;              /* and its code, 0 when unknown */
    _Atomic int64_t trouble_ns; /* when a connection was last lost or refused, 0 never */
};

/* `options` as WEIR_KAFKA_CLIENT_OPTIONS describes them; borrowed for the call. WEIR_E_CONFIG,
 * WEIR_E_ENVIRONMENT (a secret that is absent). */
int weir_kafka_client_init(struct weir_kafka_client *client, const char *what,
                           const struct json_t *options, struct weir_error *err) WEIR_MUST_CHECK;
/* A librdkafka property, unless the user gave it under `options`. */
int weir_kafka_client_default(struct weir_kafka_client *client, const char *key, const char *value,
                              struct weir_error *err) WEIR_MUST_CHECK;
/* A property that is not the user's to choose: refused when given under `options`. */
int weir_kafka_client_set(struct weir_kafka_client *client, const char *key, const char *value,
                          struct weir_error *err) WEIR_MUST_CHECK;
int weir_kafka_client_open(struct weir_kafka_client *client, rd_kafka_type_t type,
                           struct weir_error *err) WEIR_MUST_CHECK;
/* Destroys the handle; waits for librdkafka's threads. Idempotent, also after a failed init. */
void weir_kafka_client_close(struct weir_kafka_client *client);

/* The last trouble with brokers ("… Connection refused"), "" when there was none. */
void weir_kafka_client_said(struct weir_kafka_client *client, char *out, size_t size);

/* Sets an error from librdkafka's code: what failed, on which thing ("topic pos"; NULL), why, and
 * the way out. `reason` is librdkafka's own text or NULL. Returns the code set. */
int weir_kafka_error(struct weir_error *err, struct weir_kafka_client *client,
                     rd_kafka_resp_err_t code, const char *reason, const char *what,
                     const char *thing);
/* Trying again later may help: brokers away, leaders moving, coordinators loading. */
bool weir_kafka_passing(rd_kafka_resp_err_t code);
