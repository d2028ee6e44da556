/* The Avro schema of columns, as JSON text. */
#include <stdio.h>
#include <string.h>

#include "sink/encode_avro.h"

enum { PATH_BYTES = 480 };

struct derive {
    struct weir_buffer *out;
    const char *dataset;
    struct weir_error *err;
    char path[PATH_BYTES]; /* of the field, joined by `_`: names of nested records are unique */
};

static bool is_name(const char *text) {
    for (const char *c = text; *c != '\0'; c++) {
        bool letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || *c == '_';
        if (!letter && (c == text || *c < '0' || *c > '9')) {
            return false;
        }
    }
    return text[0] != '\0';
}

static int put_type(struct derive *d, const struct weir_field *field);

static int put_fields(struct derive *d, const struct weir_field *fields, int32_t count,
                      const bool *included) {
    size_t depth = strlen(d->path);
    int rc = weir_buffer_append_text(d->out, "\"fields\":[");
    const char *comma = "";
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        const struct weir_field *field = &fields[i];
        if (included != NULL && !included[i]) {
            continue;
        }
        if (!is_name(field->name)) {
            return weir_error_set(d->err, WEIR_E_CONFIG,
                                  "%s: Avro has no field called `%s` (letters, digits and _ are "
                                  "allowed); rename the column, or write format = \"json\"",
                                  d->dataset, field->name);
        }
        size_t room = PATH_BYTES - depth;
        if ((size_t)snprintf(d->path + depth, room, "_%s", field->name) >= room) {
            return weir_error_set(d->err, WEIR_E_CONFIG, "%s: the name of %s is too long",
                                  d->dataset, field->name);
        }
        rc = weir_buffer_printf(d->out, "%s{\"name\":\"%s\",\"type\":", comma, field->name);
        rc = rc == WEIR_OK ? put_type(d, field) : rc;
        if (rc == WEIR_OK) {
            rc = weir_buffer_append_text(d->out, field->nullable ? ",\"default\":null}" : "}");
        }
        comma = ",";
    }
    d->path[depth] = '\0';
    return rc == WEIR_OK ? weir_buffer_append_text(d->out, "]") : rc;
}

static int put_nested(struct derive *d, const struct weir_field *field) {
    struct weir_buffer *out = d->out;
    int rc;
    switch (field->type) {
    case WEIR_TYPE_LIST:
        rc = weir_buffer_append_text(out, "{\"type\":\"array\",\"items\":");
        rc = rc == WEIR_OK ? put_type(d, &field->children[0]) : rc;
        return rc == WEIR_OK ? weir_buffer_append_text(out, "}") : rc;
    case WEIR_TYPE_MAP:
        if (field->children[0].type != WEIR_TYPE_STRING) {
            return weir_error_set(d->err, WEIR_E_CONFIG,
                                  "%s: keys of Avro maps are texts, those of `%s` are not; make it "
                                  "a list of structs, or write format = \"json\"",
                                  d->dataset, field->name);
        }
        rc = weir_buffer_append_text(out, "{\"type\":\"map\",\"values\":");
        rc = rc == WEIR_OK ? put_type(d, &field->children[1]) : rc;
        return rc == WEIR_OK ? weir_buffer_append_text(out, "}") : rc;
    default:
        rc = weir_buffer_printf(out, "{\"type\":\"record\",\"name\":\"%s\",", d->path + 1);
        rc = rc == WEIR_OK ? put_fields(d, field->children, field->child_count, NULL) : rc;
        return rc == WEIR_OK ? weir_buffer_append_text(out, "}") : rc;
    }
}

static const char *const plain[] = {
    [WEIR_TYPE_BOOL] = "\"boolean\"",
    [WEIR_TYPE_INT8] = "{\"type\":\"int\",\"weir\":\"int8\"}",
    [WEIR_TYPE_INT16] = "{\"type\":\"int\",\"weir\":\"int16\"}",
    [WEIR_TYPE_INT32] = "\"int\"",
    [WEIR_TYPE_INT64] = "\"long\"",
    [WEIR_TYPE_FLOAT] = "\"float\"",
    [WEIR_TYPE_DOUBLE] = "\"double\"",
    [WEIR_TYPE_STRING] = "\"string\"",
    [WEIR_TYPE_BINARY] = "\"bytes\"",
    [WEIR_TYPE_DATE] = "{\"type\":\"int\",\"logicalType\":\"date\"}",
    [WEIR_TYPE_TIMESTAMP] = "{\"type\":\"long\",\"logicalType\":\"timestamp-micros\"}",
    [WEIR_TYPE_TIMESTAMP_NTZ] = "{\"type\":\"long\",\"logicalType\":\"local-timestamp-micros\"}",
    [WEIR_TYPE_TIMESTAMP_NS] = "{\"type\":\"long\",\"logicalType\":\"timestamp-nanos\"}",
    [WEIR_TYPE_TIMESTAMP_NS_NTZ] = "{\"type\":\"long\",\"logicalType\":\"local-timestamp-nanos\"}",
};

static int put_type(struct derive *d, const struct weir_field *field) {
    int rc = field->nullable ? weir_buffer_append_text(d->out, "[\"null\",") : WEIR_OK;
    if (rc != WEIR_OK) {
        return rc;
    }
    if (weir_type_is_nested(field->type)) {
        rc = put_nested(d, field);
    } else if (field->type == WEIR_TYPE_DECIMAL) {
        rc = weir_buffer_printf(d->out,
                                "{\"type\":\"bytes\",\"logicalType\":\"decimal\",\"precision\":%d,"
                                "\"scale\":%d}",
                                (int)field->precision, (int)field->scale);
    } else {
        rc = weir_buffer_append_text(d->out, plain[field->type]);
    }
    return rc == WEIR_OK && field->nullable ? weir_buffer_append_text(d->out, "]") : rc;
}

static int put_record(struct derive *d, const struct weir_schema *schema, const bool *included,
                      const char *name) {
    const char *dot = strrchr(name, '.');
    const char *last = dot != NULL ? dot + 1 : name;
    if (!is_name(last)) {
        return weir_error_set(d->err, WEIR_E_CONFIG,
                              "%s: Avro has no record called `%s`; give it a name: "
                              "record = \"shop.sale\"",
                              d->dataset, last);
    }
    snprintf(d->path, sizeof(d->path), "_%s", last);
    int rc = weir_buffer_printf(d->out, "{\"type\":\"record\",\"name\":\"%s\",", last);
    if (rc == WEIR_OK && dot != NULL) {
        rc = weir_buffer_printf(d->out, "\"namespace\":\"%.*s\",", (int)(dot - name), name);
    }
    rc = rc == WEIR_OK ? put_fields(d, schema->fields, schema->count, included) : rc;
    return rc == WEIR_OK ? weir_buffer_append_text(d->out, "}") : rc;
}

int avro_out_derive(const struct weir_schema *schema, const bool *included, const char *name,
                    bool bare, struct weir_buffer *out, struct weir_error *err) {
    struct derive d = {.out = out, .dataset = name, .err = err};
    int rc = WEIR_OK;
    if (!bare) {
        rc = put_record(&d, schema, included, name);
    }
    for (int32_t i = 0; bare && rc == WEIR_OK && i < schema->count; i++) {
        if (included[i]) {
            struct weir_field field = schema->fields[i];
            field.nullable = false; /* a null key is no key at all */
            rc = put_type(&d, &field);
        }
    }
    if ((rc == WEIR_E_NOMEM || rc == WEIR_E_LIMIT) && (err == NULL || err->code == WEIR_OK)) {
        return weir_error_set(err, rc, "%s: its Avro schema does not fit", name);
    }
    return rc;
}
