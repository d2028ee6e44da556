/* CRC-64-AVRO of a schema's Parsing Canonical Form (Avro 1.11 specification, "Parsing Canonical
 * Form for Schemas" and "Schema Fingerprints"). */
#include <stdio.h>
#include <stdlib.h>

#include "decode/avro/avro_type.h"

enum { NAMED_MAX = 4096 };

#define EMPTY UINT64_C(0xc15d213aa4d7a795)

struct print {
    uint64_t sum;
    const struct avro_type *named[NAMED_MAX]; /* written out already: by name from then on */
    int32_t named_count;
    bool full;
};

static void add(struct print *p, const char *text) {
    for (; *text != '\0'; text++) {
        uint64_t byte = (p->sum ^ (uint8_t)*text) & 0xff;
        for (int i = 0; i < 8; i++) {
            byte = byte >> 1 ^ (EMPTY & -(byte & 1));
        }
        p->sum = p->sum >> 8 ^ byte;
    }
}

static void add_quoted(struct print *p, const char *text) {
    add(p, "\"");
    add(p, text);
    add(p, "\"");
}

static void add_type(struct print *p, const struct avro_type *type);

static void add_named(struct print *p, const struct avro_type *type) {
    for (int32_t i = 0; i < p->named_count; i++) {
        if (p->named[i] == type) {
            add_quoted(p, type->name);
            return;
        }
    }
    if (p->named_count == NAMED_MAX) {
        p->full = true;
        return;
    }
    p->named[p->named_count++] = type;
    add(p, "{\"name\":");
    add_quoted(p, type->name);
    add(p, ",\"type\":");
    add_quoted(p, avro_kind_name(type->kind));
    if (type->kind == AVRO_FIXED) {
        char size[32];
        snprintf(size, sizeof(size), ",\"size\":%d", (int)type->size);
        add(p, size);
    } else if (type->kind == AVRO_ENUM) {
        add(p, ",\"symbols\":[");
        for (int32_t i = 0; i < type->symbol_count; i++) {
            add(p, i > 0 ? "," : "");
            add_quoted(p, type->symbols[i]);
        }
        add(p, "]");
    } else {
        add(p, ",\"fields\":[");
        for (int32_t i = 0; i < type->field_count; i++) {
            add(p, i > 0 ? ",{\"name\":" : "{\"name\":");
            add_quoted(p, type->fields[i].name);
            add(p, ",\"type\":");
            add_type(p, type->fields[i].type);
            add(p, "}");
        }
        add(p, "]");
    }
    add(p, "}");
}

static void add_type(struct print *p, const struct avro_type *type) {
    switch (type->kind) {
    case AVRO_RECORD:
    case AVRO_ENUM:
    case AVRO_FIXED:
        add_named(p, type);
        return;
    case AVRO_ARRAY:
    case AVRO_MAP:
        add(p, type->kind == AVRO_ARRAY ? "{\"type\":\"array\",\"items\":"
                                        : "{\"type\":\"map\",\"values\":");
        add_type(p, type->branches[0]);
        add(p, "}");
        return;
    case AVRO_UNION:
        add(p, "[");
        for (int32_t i = 0; i < type->branch_count; i++) {
            add(p, i > 0 ? "," : "");
            add_type(p, type->branches[i]);
        }
        add(p, "]");
        return;
    default:
        add_quoted(p, avro_kind_name(type->kind));
    }
}

bool avro_fingerprint(const struct avro_type *type, uint64_t *out) {
    struct print *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return false;
    }
    p->sum = EMPTY;
    add_type(p, type);
    bool whole = !p->full;
    *out = p->sum;
    free(p);
    return whole;
}
