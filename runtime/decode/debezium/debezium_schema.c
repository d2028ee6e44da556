#include "decode/debezium/debezium_schema.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum debezium_form debezium_form(const char *name) {
    static const struct {
        const char *name;
        enum debezium_form form;
    } forms[] = {
        {"org.apache.kafka.connect.data.Decimal", DEBEZIUM_DECIMAL},
        {"org.apache.kafka.connect.data.Timestamp", DEBEZIUM_MILLIS},
        {"io.debezium.time.Timestamp", DEBEZIUM_MILLIS},
        {"io.debezium.time.MicroTimestamp", DEBEZIUM_MICROS},
        {"io.debezium.time.NanoTimestamp", DEBEZIUM_NANOS},
    };
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (strcmp(name, forms[i].name) == 0) {
            return forms[i].form;
        }
    }
    return DEBEZIUM_PLAIN;
}

static void read_field(const json_t *said, struct debezium_field *field) {
    const char *name = json_string_value(json_object_get(said, "name"));
    field->form = name != NULL ? debezium_form(name) : DEBEZIUM_PLAIN;
    const char *scale =
        json_string_value(json_object_get(json_object_get(said, "parameters"), "scale"));
    char *end = NULL;
    long value = scale != NULL ? strtol(scale, &end, 10) : 0;
    bool good = scale == NULL || (end != scale && *end == '\0' && value > -1000 && value < 1000);
    field->scale = good ? (int32_t)value : DEBEZIUM_SCALE_BAD;
}

bool debezium_schema_read(const uint8_t *text, size_t length, const struct json_record *record,
                          struct debezium_field *fields) {
    memset(fields, 0, (size_t)record->count * sizeof(*fields));
    json_t *schema = json_loadb((const char *)text, length, 0, NULL);
    const json_t *members = json_object_get(schema, "fields");
    const json_t *after = NULL;
    for (size_t i = 0; i < json_array_size(members); i++) {
        const json_t *member = json_array_get(members, i);
        const char *name = json_string_value(json_object_get(member, "field"));
        if (name != NULL && strcmp(name, "after") == 0) {
            after = json_object_get(member, "fields");
        }
    }
    for (size_t i = 0; i < json_array_size(after); i++) {
        const json_t *member = json_array_get(after, i);
        const json_t *name = json_object_get(member, "field");
        int32_t field = json_is_string(name)
                            ? json_record_find(record, (const uint8_t *)json_string_value(name),
                                               json_string_length(name))
                            : -1;
        if (field >= 0) {
            read_field(member, &fields[field]);
        }
    }
    bool good = after != NULL;
    json_decref(schema);
    return good;
}
