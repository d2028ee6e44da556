#pragma once
/* What the schema beside a Debezium payload says of its fields: the scale of decimals and the unit
 * of times, which the payload's numbers do not tell. Private to the Debezium decoder. */
#include "decode/json/json_plan.h"

enum debezium_form {
    DEBEZIUM_PLAIN,   /* as the column's type says */
    DEBEZIUM_DECIMAL, /* base64 of the unscaled value */
    DEBEZIUM_MILLIS,
    DEBEZIUM_MICROS,
    DEBEZIUM_NANOS,
};

struct debezium_field {
    enum debezium_form form;
    int32_t scale; /* or DEBEZIUM_SCALE_BAD */
};

enum { DEBEZIUM_SCALE_BAD = 1000 }; /* no decimal has it */

/* By the name a field's type has in Kafka Connect. */
enum debezium_form debezium_form(const char *name);

/* Reads the schema's text for the fields of `after`, one to a field of the record; those it does
 * not name are plain. False when it is not a schema of an envelope. */
bool debezium_schema_read(const uint8_t *text, size_t length, const struct json_record *record,
                          struct debezium_field *fields);
