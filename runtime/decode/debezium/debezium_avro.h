#pragma once
/* Debezium's envelopes in Avro, as the JSON they would be: decoded by the one path there is, with
 * what the writer's schema says of its fields. Private to the Debezium decoder. */
#include "decode/debezium/debezium_schema.h"
#include "decode/decoder.h"
#include "decode/json/json_read.h"

struct debezium_avro;

/* `options`: the decoder's; `record` the table's columns, `reader` for reasons: borrowed. */
int debezium_avro_create(const struct json_t *options, const struct json_record *record,
                         struct json_reader *reader, struct debezium_avro **out,
                         struct weir_error *err) WEIR_MUST_CHECK;
void debezium_avro_destroy(struct debezium_avro *avro);

/* The message's envelope as JSON text, padded, good until the next call; *forms says of each column
 * how its values are written. WEIR_E_DATA with the reader's reason; WEIR_E_LIMIT: the registry is
 * away, the frame waits. */
int debezium_avro_text(struct debezium_avro *avro, const uint8_t *block,
                       const struct weir_frame *frame, const uint8_t **text, size_t *size,
                       const struct debezium_field **forms) WEIR_MUST_CHECK;
/* The reader's reason why the event taken last is no row, with whose schema it is by. */
void debezium_avro_name(struct debezium_avro *avro);
