#pragma once
/* Members of the objects around a Debezium event's rows. Private to the Debezium decoder. */
#include "decode/json/json_read.h"

/* The key at r->next, borrowed, and where it stands. */
int debezium_key(struct json_reader *r, uint32_t *at, const uint8_t **key,
                 size_t *length) WEIR_MUST_CHECK;
/* Walks the object at r->next: where the values of `names` are, NULL for those it has not. */
int debezium_scan(struct json_reader *r, const char *const *names, int32_t count,
                  const uint32_t **found) WEIR_MUST_CHECK;
bool debezium_is_null(const struct json_reader *r, const uint32_t *value);
bool debezium_whole(const struct json_reader *r, const uint32_t *value, int64_t *out);
/* transaction.id is "txid:lsn", and its second half differs from event to event. */
bool debezium_transaction(struct json_reader *r, const uint32_t *transaction, int64_t *txid);
