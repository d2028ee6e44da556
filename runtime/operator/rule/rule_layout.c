/* The layouts a rule's state was written under: of each a line of text, by number, under the empty
 * key, so that what is there can be read, and moved on, without the rule that wrote it. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "operator/rule/rule_private.h"

enum { LINE_HEAD = 17 }; /* 16 hex digits and a space */

/* FNV-1a: a layout's number is written to disk. */
static uint64_t number_of(const char *text, size_t length) {
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ (uint8_t)text[i]) * UINT64_C(1099511628211);
    }
    return hash;
}

/* --- cells ------------------------------------------------------------------------------------ */

int rule_cell_init(struct rule_cell *to, const struct weir_rule_cell *from,
                   struct weir_error *err) {
    if (from->fields->count > RULE_FIELDS_MAX) {
        return weir_error_set(err, WEIR_E_CONFIG, "state %s: more than %d fields", from->name,
                              RULE_FIELDS_MAX);
    }
    to->name = strdup(from->name);
    to->kind = from->kind;
    to->max = from->max;
    to->schema = weir_schema_ref(from->fields);
    to->field_count = from->fields->count;
    uint32_t at = 8 + ((uint32_t)to->field_count + 7) / 8 * 8;
    for (int32_t f = 0; f < to->field_count; f++) {
        uint8_t type = from->fields->fields[f].type;
        if (weir_type_is_nested(type)) {
            return weir_error_set(err, WEIR_E_CONFIG, "state %s: nested fields are not kept",
                                  from->name);
        }
        to->fields[f].type = type;
        to->fields[f].width = type == WEIR_TYPE_DECIMAL ? 16 : 8;
        to->fields[f].offset = at;
        at += to->fields[f].width;
    }
    to->record_bytes = at;
    to->key = calloc(1, rule_block_bytes(to, 1));
    return to->name == NULL || to->key == NULL ? weir_error_set(err, WEIR_E_NOMEM, "out of memory")
                                               : WEIR_OK;
}

void rule_cell_fini(struct rule_cell *cell) {
    free(cell->name);
    free(cell->key);
    weir_schema_unref(cell->schema);
}

/* --- written ---------------------------------------------------------------------------------- */

static int put_fields(struct weir_buffer *out, const struct weir_schema *schema) {
    int rc = weir_buffer_append_text(out, "[");
    for (int32_t f = 0; rc == WEIR_OK && f < schema->count; f++) {
        struct weir_buffer type;
        weir_buffer_init(&type, 4096);
        rc = weir_field_format_type(&schema->fields[f], &type);
        if (rc == WEIR_OK) {
            rc = weir_buffer_append_text(out, f > 0 ? ",[" : "[");
        }
        if (rc == WEIR_OK) {
            rc = weir_buffer_append_json(out, schema->fields[f].name,
                                         strlen(schema->fields[f].name));
        }
        if (rc == WEIR_OK) {
            rc = weir_buffer_append_text(out, ",\"");
        }
        if (rc == WEIR_OK) {
            rc = weir_buffer_append(out, type.data, type.size);
        }
        if (rc == WEIR_OK) {
            rc = weir_buffer_append_text(out, "\"]");
        }
        weir_buffer_fini(&type);
    }
    return rc == WEIR_OK ? weir_buffer_append_text(out, "]") : rc;
}

int rule_layout_make(struct weir_rule_state *state, const struct weir_schema *key_schema,
                     struct weir_error *err) {
    struct weir_buffer out;
    weir_buffer_init(&out, 1 << 20);
    int rc = weir_buffer_printf(&out, "{\"version\":%lld,\"key\":", (long long)state->version);
    rc = rc == WEIR_OK ? put_fields(&out, key_schema) : rc;
    rc = rc == WEIR_OK ? weir_buffer_append_text(&out, ",\"cells\":[") : rc;
    for (int32_t c = 0; rc == WEIR_OK && c < state->cell_count; c++) {
        const struct rule_cell *cell = &state->cells[c];
        rc = weir_buffer_printf(
            &out, "%s{\"name\":\"%s\",\"kind\":\"%s\",\"max\":%u,\"fields\":", c > 0 ? "," : "",
            cell->name, weir_rule_kind_name(cell->kind), cell->max);
        rc = rc == WEIR_OK ? put_fields(&out, cell->schema) : rc;
        rc = rc == WEIR_OK ? weir_buffer_append_text(&out, "}") : rc;
    }
    /* When a key was written last is told by either time, which is not exchanged for the other. */
    rc = rc == WEIR_OK
             ? weir_buffer_append_text(&out, state->ttl_by_clock ? "],\"ttl\":\"clock\"}" : "]}")
             : rc;
    const char *text = rc == WEIR_OK ? weir_buffer_text(&out) : NULL;
    if (text != NULL) {
        state->layout = number_of(text, out.size);
        state->layout_text = strdup(text);
    }
    weir_buffer_fini(&out);
    return state->layout_text != NULL ? WEIR_OK
                                      : weir_error_set(err, WEIR_E_NOMEM, "out of memory");
}

/* --- read ------------------------------------------------------------------------------------- */

void rule_layout_destroy(struct rule_layout *layout) {
    if (layout != NULL) {
        for (int32_t c = 0; c < layout->cell_count; c++) {
            rule_cell_fini(&layout->cells[c]);
        }
        free(layout->cells);
        free(layout->text);
        free(layout);
    }
}

static int read_cell(json_t *json, struct rule_cell *to, struct weir_error *err) {
    struct weir_rule_cell cell = {
        .name = json_string_value(json_object_get(json, "name")),
        .max = (uint32_t)json_integer_value(json_object_get(json, "max")),
        .fields = weir_schema_create(),
    };
    const char *kind = json_string_value(json_object_get(json, "kind"));
    int rc = cell.fields == NULL ? weir_error_set(err, WEIR_E_NOMEM, "out of memory") : WEIR_OK;
    if (rc == WEIR_OK &&
        (cell.name == NULL || kind == NULL || !weir_rule_kind_parse(kind, &cell.kind))) {
        rc = weir_error_set(err, WEIR_E_CORRUPT, "a cell of the recorded layout does not parse");
    }
    size_t f;
    json_t *field;
    json_array_foreach(json_object_get(json, "fields"), f, field) {
        const char *name = json_string_value(json_array_get(field, 0));
        const char *type = json_string_value(json_array_get(field, 1));
        if (rc == WEIR_OK) {
            rc = name != NULL && type != NULL
                     ? weir_schema_add_text(cell.fields, name, type, true, err)
                     : weir_error_set(err, WEIR_E_CORRUPT,
                                      "a field of the recorded layout does not parse");
        }
    }
    rc = rc == WEIR_OK ? rule_cell_init(to, &cell, err) : rc;
    weir_schema_unref(cell.fields);
    return rc;
}

static int parse(const char *text, size_t length, struct rule_layout *layout,
                 struct weir_error *err) {
    json_t *json = json_loadb(text, length, 0, NULL);
    json_t *cells = json_object_get(json, "cells");
    size_t count = json_array_size(cells);
    layout->version = json_integer_value(json_object_get(json, "version"));
    layout->cells = calloc(count + 1, sizeof *layout->cells);
    layout->text = strndup(text, length);
    int rc = layout->cells == NULL || layout->text == NULL
                 ? weir_error_set(err, WEIR_E_NOMEM, "out of memory")
                 : WEIR_OK;
    if (rc == WEIR_OK && (!json_is_array(cells) || count > RULE_CELLS_MAX)) {
        rc = weir_error_set(err, WEIR_E_CORRUPT, "the recorded layout of its state does not parse");
    }
    for (size_t c = 0; rc == WEIR_OK && c < count; c++) {
        layout->cell_count = (int32_t)c + 1;
        rc = read_cell(json_array_get(cells, c), &layout->cells[c], err);
    }
    json_decref(json);
    return rc;
}

int rule_layout_parse(const char *text, size_t length, uint64_t number, struct rule_layout **out,
                      struct weir_error *err) {
    struct rule_layout *layout = *out = calloc(1, sizeof *layout);
    if (layout == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    layout->number = number;
    int rc = parse(text, length, layout, err);
    if (rc != WEIR_OK) {
        rule_layout_destroy(layout);
        *out = NULL;
    }
    return rc;
}

int rule_layout_find(const struct weir_rule_state *state, uint64_t number, struct rule_layout **out,
                     struct weir_error *err) {
    *out = NULL;
    struct weir_slot *slot =
        weir_table_find(state->table, weir_table_hash(state->table, "", 0), "", 0);
    const struct rule_slot *lines = slot != NULL ? rule_slot_of(state, slot) : NULL;
    const char *text = lines != NULL ? (const char *)lines->raw : NULL;
    size_t size = text != NULL ? lines->raw_bytes : 0;
    size_t at = 16; /* zeros, in place of a layout and a time */
    while (at + LINE_HEAD < size) {
        const char *end = memchr(text + at, '\n', size - at);
        size_t length = end != NULL ? (size_t)(end - text) - at : size - at;
        char head[LINE_HEAD] = {0};
        memcpy(head, text + at, LINE_HEAD - 1);
        if (length > LINE_HEAD && strtoull(head, NULL, 16) == number) {
            return rule_layout_parse(text + at + LINE_HEAD, length - LINE_HEAD, number, out, err);
        }
        at += length + 1;
    }
    return weir_error_set(err, WEIR_E_CORRUPT,
                          "%s: state was written under a layout that is not recorded beside it",
                          state->declaration);
}
