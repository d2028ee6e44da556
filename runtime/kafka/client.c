/* See client.h. librdkafka's own texts say what broke; the table below adds the way out. */
#include "kafka/client.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/clock.h"
#include "core/log.h"
#include "kafka/token.h"

enum { REASON_BYTES = 512 };

const char *const weir_kafka_sasl_choices[] = {"plain", "scram-sha-256", "scram-sha-512",
                                               "oauthbearer", NULL};

/* --- what librdkafka says ------------------------------------------------------------------- */

static void keep(struct weir_kafka_client *client, int code, const char *text) {
    pthread_mutex_lock(&client->lock);
    snprintf(client->said, sizeof(client->said), "%s", text);
    client->said_code = code != 0 ? code : client->said_code;
    pthread_mutex_unlock(&client->lock);
}

static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text) {
    /* Connection attempts are repeated for ever: on_error keeps the last of them. */
    enum weir_log_level to = level <= 3 ? WEIR_LOG_WARN : WEIR_LOG_DEBUG;
    if (strcmp(facility, "FAIL") == 0 || strcmp(facility, "ERROR") == 0) {
        to = WEIR_LOG_DEBUG;
        const char *colon = strstr(text, "]: "); /* behind the thread's name */
        if (rk != NULL && rd_kafka_opaque(rk) != NULL) {
            keep(rd_kafka_opaque(rk), 0, colon != NULL ? colon + 3 : text);
        }
    }
    weir_log(to, "kafka", "%s facility=%s", text, facility);
}

static void on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque) {
    struct weir_kafka_client *client = opaque;
    (void)rk;
    atomic_store(&client->trouble_ns, weir_clock_mono_ns());
    if (code != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
        keep(client, code, reason);
    }
    weir_log_debug("kafka", "%s: %s code=%s", client->what, reason,
                   rd_kafka_err2name((rd_kafka_resp_err_t)code));
}

void weir_kafka_client_said(struct weir_kafka_client *client, char *out, size_t size) {
    pthread_mutex_lock(&client->lock);
    snprintf(out, size, "%s", client->said);
    pthread_mutex_unlock(&client->lock);
}

/* --- configuration -------------------------------------------------------------------------- */

static int set(struct weir_kafka_client *client, const char *key, const char *value,
               struct weir_error *err) {
    char reason[REASON_BYTES];
    if (rd_kafka_conf_set(client->conf, key, value, reason, sizeof(reason)) == RD_KAFKA_CONF_OK) {
        return WEIR_OK;
    }
    return weir_error_set(err, WEIR_E_CONFIG, "%s: %s", client->what, reason);
}

int weir_kafka_client_default(struct weir_kafka_client *client, const char *key, const char *value,
                              struct weir_error *err) {
    return json_object_get(client->user, key) != NULL ? WEIR_OK : set(client, key, value, err);
}

int weir_kafka_client_set(struct weir_kafka_client *client, const char *key, const char *value,
                          struct weir_error *err) {
    if (json_object_get(client->user, key) != NULL) {
        return weir_error_set(
            err, WEIR_E_CONFIG,
            "%s: options[\"%s\"] is not yours to set: what Weir promises hangs on "
            "it; leave it out",
            client->what, key);
    }
    return set(client, key, value, err);
}

static int set_secret(struct weir_kafka_client *client, const char *key, const json_t *reference,
                      struct weir_error *err) {
    char *secret = NULL;
    int rc = weir_secret_resolve(reference, &secret, err);
    if (rc != WEIR_OK) {
        return weir_error_wrap(err, "%s", client->what);
    }
    char reason[REASON_BYTES];
    if (rd_kafka_conf_set(client->conf, key, secret, reason, sizeof(reason)) != RD_KAFKA_CONF_OK) {
        rc = weir_error_set(err, WEIR_E_CONFIG, "%s: librdkafka refuses the secret for %s",
                            client->what, key);
    }
    weir_secret_free(secret);
    return rc;
}

/* Options of ours that are a property of librdkafka's as they stand. */
static int set_plain(struct weir_kafka_client *client, const json_t *options,
                     struct weir_error *err) {
    static const struct {
        const char *option;
        const char *key;
    } plain[] = {
        {"brokers", "bootstrap.servers"},
        {"ca", "ssl.ca.location"},
        {"certificate", "ssl.certificate.location"},
        {"key_file", "ssl.key.location"},
        {"username", "sasl.username"},
    };
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
        const char *value = json_string_value(json_object_get(options, plain[i].option));
        int rc = value != NULL ? set(client, plain[i].key, value, err) : WEIR_OK;
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}

static int set_security(struct weir_kafka_client *client, const json_t *options,
                        struct weir_error *err) {
    const char *sasl = json_string_value(json_object_get(options, "sasl"));
    bool files =
        json_object_get(options, "ca") != NULL || json_object_get(options, "certificate") != NULL;
    const json_t *flag = json_object_get(options, "tls");
    bool tls = flag != NULL ? json_is_true(flag) : files;
    const json_t *key_password = json_object_get(options, "key_password");
    const json_t *password = json_object_get(options, "password");
    if (!tls && files) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "%s: tls = false, yet certificates are named; leave one out",
                              client->what);
    }
    if (sasl == NULL && (password != NULL || json_object_get(options, "username") != NULL)) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "%s: a username or password without a way to log in; add sasl = "
                              "\"plain\" or \"scram-sha-512\"",
                              client->what);
    }
    int rc = weir_kafka_client_default(
        client, "security.protocol",
        sasl != NULL ? (tls ? "sasl_ssl" : "sasl_plaintext") : (tls ? "ssl" : "plaintext"), err);
    if (rc == WEIR_OK && sasl != NULL) {
        char mechanism[32];
        size_t i = 0;
        for (; sasl[i] != '\0' && i + 1 < sizeof(mechanism); i++) {
            mechanism[i] = (char)(sasl[i] >= 'a' && sasl[i] <= 'z' ? sasl[i] - 32 : sasl[i]);
        }
        mechanism[i] = '\0';
        client->scram = strncmp(mechanism, "SCRAM", 5) == 0;
        rc = set(client, "sasl.mechanism", mechanism, err);
    }
    if (rc == WEIR_OK && key_password != NULL) {
        rc = set_secret(client, "ssl.key.password", key_password, err);
    }
    if (rc == WEIR_OK && password != NULL) {
        rc = set_secret(client, "sasl.password", password, err);
    }
    if (rc == WEIR_OK && sasl != NULL && strcmp(sasl, "oauthbearer") == 0) {
        rc = weir_kafka_token_create(client, options, &client->token, err);
    }
    return rc;
}

int weir_kafka_client_init(struct weir_kafka_client *client, const char *what,
                           const json_t *options, struct weir_error *err) {
    memset(client, 0, sizeof(*client));
    pthread_mutex_init(&client->lock, NULL);
    const char *brokers = json_string_value(json_object_get(options, "brokers"));
    client->what = strdup(what);
    client->brokers = strdup(brokers != NULL ? brokers : "");
    client->conf = rd_kafka_conf_new();
    client->user = json_deep_copy(json_object_get(options, "options"));
    if (client->what == NULL || client->brokers == NULL || client->conf == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", what);
    }
    rd_kafka_conf_set_opaque(client->conf, client);
    rd_kafka_conf_set_log_cb(client->conf, on_log);
    rd_kafka_conf_set_error_cb(client->conf, on_error);
    /* 2.0.2 writes a note to its log for every property the other type of client has. */
    int rc = set(client, "log.connection.close", "false", err);
    if (rc == WEIR_OK) {
        rc = set_plain(client, options, err);
    }
    if (rc == WEIR_OK) {
        rc = set_security(client, options, err);
    }
    const char *key;
    json_t *value;
    json_object_foreach(client->user, key, value) {
        const char *text = json_string_value(value);
        if (rc == WEIR_OK && text != NULL) {
            rc = set(client, key, text, err);
        }
    }
    return rc;
}

int weir_kafka_client_open(struct weir_kafka_client *client, rd_kafka_type_t type,
                           struct weir_error *err) {
    char reason[REASON_BYTES];
    client->rk = rd_kafka_new(type, client->conf, reason, sizeof(reason));
    if (client->rk == NULL) {
        return weir_error_set(err, WEIR_E_CONFIG, "%s: %s", client->what, reason);
    }
    client->conf = NULL; /* librdkafka's now */
    return client->token != NULL ? weir_kafka_token_start(client->token, err) : WEIR_OK;
}

void weir_kafka_client_close(struct weir_kafka_client *client) {
    if (client->what == NULL && client->conf == NULL && client->rk == NULL) {
        return;
    }
    weir_kafka_token_stop(client->token);
    if (client->rk != NULL) {
        rd_kafka_destroy(client->rk);
    }
    if (client->conf != NULL) {
        rd_kafka_conf_destroy(client->conf);
    }
    weir_kafka_token_destroy(client->token);
    json_decref(client->user);
    free(client->what);
    free(client->brokers);
    pthread_mutex_destroy(&client->lock);
    memset(client, 0, sizeof(*client));
}

/* --- errors --------------------------------------------------------------------------------- */

static const struct advice {
    rd_kafka_resp_err_t code;
    int error;
    const char *way_out;
} advices[] = {
    {RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, WEIR_E_CONFIG,
     "it does not exist there; create it (kafka-topics.sh --create) or correct the name"},
    {RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC, WEIR_E_CONFIG,
     "it does not exist there; create it (kafka-topics.sh --create) or correct the name"},
    {RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION, WEIR_E_CONFIG,
     "the topic has fewer partitions than that; correct the number or add partitions"},
    {RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION, WEIR_E_CONFIG,
     "a topic's name is letters, digits, . _ - and at most 249 of them"},
    {RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, WEIR_E_ENVIRONMENT,
     "the brokers do not let this user; grant it (kafka-acls.sh --add --topic …) or log in as "
     "another (username)"},
    {RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, WEIR_E_ENVIRONMENT,
     "the brokers do not let this user use the group; grant it (kafka-acls.sh --add --group … "
     "--operation Read)"},
    {RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED, WEIR_E_ENVIRONMENT,
     "the brokers do not let this user write in transactions; grant it (kafka-acls.sh --add "
     "--transactional-id … --operation Write) or say delivery = \"at_least_once\""},
    {RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED, WEIR_E_ENVIRONMENT,
     "the brokers do not let this user; grant it on the cluster (kafka-acls.sh --add --cluster …)"},
    {RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, WEIR_E_CONFIG,
     "a message is larger than is allowed; raise options[\"message.max.bytes\"] here and "
     "max.message.bytes of the topic, or make the rows smaller"},
    {RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE, WEIR_E_CONFIG,
     "a batch of messages is larger than the topic allows; raise max.message.bytes of the topic, "
     "or lower options[\"batch.size\"]"},
    {RD_KAFKA_RESP_ERR__AUTHENTICATION, WEIR_E_ENVIRONMENT,
     "the brokers refused the login; check sasl, username and password"},
    {RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED, WEIR_E_ENVIRONMENT,
     "the brokers refused the login; check sasl, username and password"},
    {RD_KAFKA_RESP_ERR__SSL, WEIR_E_ENVIRONMENT,
     "check ca, certificate and key_file, and that this port speaks TLS"},
    {RD_KAFKA_RESP_ERR__RESOLVE, WEIR_E_ENVIRONMENT, "check the names in `brokers`"},
    {RD_KAFKA_RESP_ERR__TRANSPORT, WEIR_E_ENVIRONMENT,
     "check `brokers`, and tls and sasl if they listen"},
    {RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, WEIR_E_ENVIRONMENT,
     "check `brokers`, and tls and sasl if they listen"},
    {RD_KAFKA_RESP_ERR__TIMED_OUT, WEIR_E_ENVIRONMENT,
     "check `brokers`, and tls and sasl if they listen"},
    {RD_KAFKA_RESP_ERR_POLICY_VIOLATION, WEIR_E_ENVIRONMENT,
     "a policy of the brokers forbids it; ask those who run them"},
    {RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR, WEIR_E_CONFIG,
     "there are fewer brokers than replicas wanted; lower it"},
    {RD_KAFKA_RESP_ERR__FENCED, WEIR_E_LOCKED,
     "another process took over; leave this one stopped, or stop the other"},
    {RD_KAFKA_RESP_ERR_PRODUCER_FENCED, WEIR_E_LOCKED,
     "another process took over; leave this one stopped, or stop the other"},
};

/* Before 2.6.1 (its pull request 4895) the last message of a SCRAM login repeats the client's
 * nonce, which 3.8.1 and 3.9 let pass, and brokers from 4.0 on do not. */
static const char *old_scram(const struct weir_kafka_client *client, rd_kafka_resp_err_t code) {
    bool refused = code == RD_KAFKA_RESP_ERR__AUTHENTICATION ||
                   code == RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED;
    return refused && client->scram && rd_kafka_version() < 0x020601ff
               ? "brokers from Kafka 4.0 on refuse SCRAM of librdkafka before 2.6.1, which this "
                 "is; "
                 "install a newer one, or log in with sasl = \"plain\" over TLS"
               : NULL;
}

int weir_kafka_error(struct weir_error *err, struct weir_kafka_client *client,
                     rd_kafka_resp_err_t code, const char *reason, const char *what,
                     const char *thing) {
    int error = WEIR_E_ENVIRONMENT;
    const char *way_out = NULL;
    bool unreached = code == RD_KAFKA_RESP_ERR__TIMED_OUT || code == RD_KAFKA_RESP_ERR__TRANSPORT ||
                     code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN;
    char said[sizeof(client->said)] = "";
    if (unreached) {
        if (client->rk != NULL && !client->events) {
            rd_kafka_poll(client->rk, 0); /* what on_error is told waits there */
        }
        pthread_mutex_lock(&client->lock);
        memcpy(said, client->said, sizeof(said));
        code = client->said_code != 0 ? (rd_kafka_resp_err_t)client->said_code : code;
        pthread_mutex_unlock(&client->lock);
    }
    for (size_t i = 0; i < sizeof(advices) / sizeof(advices[0]); i++) {
        if (advices[i].code == code) {
            error = advices[i].error;
            way_out = advices[i].way_out;
        }
    }
    way_out = old_scram(client, code) != NULL ? old_scram(client, code) : way_out;
    return weir_error_set(err, error, "%s: %s%s%s on %s: %s%s%s%s%s%s", client->what, what,
                          thing != NULL ? " " : "", thing != NULL ? thing : "", client->brokers,
                          reason != NULL ? reason : rd_kafka_err2str(code),
                          said[0] != '\0' ? " (" : "", said, said[0] != '\0' ? ")" : "",
                          way_out != NULL ? "; " : "", way_out != NULL ? way_out : "");
}

bool weir_kafka_passing(rd_kafka_resp_err_t code) {
    switch (code) {
    case RD_KAFKA_RESP_ERR__TRANSPORT:
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE:
    case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT:
    case RD_KAFKA_RESP_ERR__RETRY:
    case RD_KAFKA_RESP_ERR__WAIT_COORD:
    case RD_KAFKA_RESP_ERR__WAIT_CACHE:
    case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION:
    case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
    case RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION:
    case RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS:
    case RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_NOT_COORDINATOR:
    case RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS:
    case RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND:
    case RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR:
    case RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS:
    case RD_KAFKA_RESP_ERR_NOT_CONTROLLER:
    case RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT:
        return true;
    default:
        return false;
    }
}
