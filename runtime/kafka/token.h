#pragma once
/* OAUTHBEARER tokens by client credentials (RFC 6749, 4.4), fetched by us, because librdkafka is
 * often built without its own OIDC client. librdkafka asks on its background thread when a token
 * nears its end; a failed fetch is told to it and tried again ten seconds later. */
#include "kafka/client.h"

/* Reads token_url, client_id, client_secret, scope, ca. *out stays NULL where the user configured
 * librdkafka's own ways under `options` (unsecured tokens, sasl.oauthbearer.method = oidc). */
int weir_kafka_token_create(struct weir_kafka_client *client, const struct json_t *options,
                            struct weir_kafka_token **out, struct weir_error *err) WEIR_MUST_CHECK;
/* After rd_kafka_new: from here on callbacks come. */
int weir_kafka_token_start(struct weir_kafka_token *token, struct weir_error *err) WEIR_MUST_CHECK;
/* Before rd_kafka_destroy: a fetch under way gives up. */
void weir_kafka_token_stop(struct weir_kafka_token *token);
/* After rd_kafka_destroy; NULL is fine. */
void weir_kafka_token_destroy(struct weir_kafka_token *token);
