/* A rule's state as people read it. What was written under another version's layout is shown as
 * that version declared it. */
#include <stdlib.h>
#include <string.h>

#include "operator/rule/rule_private.h"
#include "operator/show.h"
#include "state/image.h"

static int corrupt(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_CORRUPT, "state of a key does not parse");
}

static int put_field(struct weir_image_reader *reader, const struct rule_field *field,
                     struct weir_column_builder *column) {
    uint64_t words[2] = {0, 0};
    const uint8_t *bytes;
    size_t length;
    double number;
    if (weir_type_is_bytes(field->type)) {
        return weir_image_bytes(reader, &bytes, &length) ? weir_builder_bytes(column, bytes, length)
                                                         : WEIR_E_CORRUPT;
    }
    if (!weir_image_fixed(reader, words, field->width)) {
        return WEIR_E_CORRUPT;
    }
    memcpy(&number, words, sizeof number);
    switch (field->type) {
    case WEIR_TYPE_BOOL:
        return weir_builder_bool(column, words[0] != 0);
    case WEIR_TYPE_FLOAT:
        return weir_builder_float(column, (float)number);
    case WEIR_TYPE_DOUBLE:
        return weir_builder_double(column, number);
    case WEIR_TYPE_DECIMAL:
        return weir_builder_decimal(column, words[0], (int64_t)words[1]);
    default:
        return weir_builder_int(column, (int64_t)words[0]);
    }
}

/* One record as JSON: the value itself, or an object. */
static int put_record(struct weir_image_reader *reader, const struct rule_cell *cell,
                      struct weir_shown *out, struct weir_buffer *json, struct weir_error *err) {
    struct weir_batch_builder *builder = weir_shown_row(out, cell->schema);
    int64_t time_us;
    uint8_t there[RULE_FIELDS_MAX];
    if (builder == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    int rc = weir_image_fixed(reader, &time_us, sizeof time_us) &&
                     weir_image_fixed(reader, there, (size_t)cell->field_count)
                 ? WEIR_OK
                 : WEIR_E_CORRUPT;
    for (int32_t f = 0; rc == WEIR_OK && f < cell->field_count; f++) {
        rc = there[f] != 0 ? put_field(reader, &cell->fields[f], &builder->columns[f])
                           : weir_builder_null(&builder->columns[f]);
    }
    if (rc == WEIR_OK) {
        weir_batch_builder_finish_row(builder);
    }
    struct weir_batch *row = weir_batch_builder_take(builder);
    struct weir_buffer object;
    weir_buffer_init(&object, 1 << 30);
    if (rc == WEIR_OK && (cell->kind == WEIR_RULE_RING || cell->kind == WEIR_RULE_LIST)) {
        rc = weir_shown_time(&object, "_time", time_us);
    }
    rc = rc == WEIR_OK ? weir_shown_columns(row, 0, cell->field_count, &object) : rc;
    static const char plain[] = "{\"value\":";
    size_t skip = sizeof plain - 1;
    bool bare =
        cell->field_count == 1 && object.size > skip + 1 && memcmp(object.data, plain, skip) == 0;
    if (rc == WEIR_OK) {
        rc = bare ? weir_buffer_append(json, object.data + skip, object.size - skip - 1)
                  : weir_buffer_append(json, object.data, object.size);
    }
    weir_buffer_fini(&object);
    weir_batch_unref(row);
    return rc == WEIR_E_CORRUPT ? corrupt(err) : rc;
}

static int put_sketch(struct weir_image_reader *reader, struct weir_buffer *json,
                      struct weir_error *err) {
    const uint8_t *bytes;
    size_t length;
    if (!weir_image_bytes(reader, &bytes, &length) ||
        (length > 0 && !weir_distinct_sketch_check(bytes, length))) {
        return corrupt(err);
    }
    struct weir_part part = {.bytes = (uint8_t *)(uintptr_t)bytes,
                             .length = (uint32_t)length,
                             .capacity = (uint32_t)length};
    double count = length > 0 ? (double)weir_distinct_sketch_count(&part) : 0;
    return weir_buffer_printf(json, "{\"approx_distinct\":%.0f}", count);
}

static int put_cell(struct weir_image_reader *reader, const struct rule_cell *cell,
                    struct weir_shown *out, struct weir_buffer *json, struct weir_error *err) {
    uint64_t count;
    if (cell->kind == WEIR_RULE_SKETCH) {
        return put_sketch(reader, json, err);
    }
    if (!weir_image_varint(reader, &count) || count > cell->max) {
        return corrupt(err);
    }
    bool one = cell->kind == WEIR_RULE_VALUE || cell->kind == WEIR_RULE_COUNTER;
    if (one && count == 0) {
        return weir_buffer_append_text(json, cell->kind == WEIR_RULE_COUNTER ? "0" : "null");
    }
    int rc = one ? WEIR_OK : weir_buffer_append_text(json, "[");
    for (uint64_t i = 0; rc == WEIR_OK && i < count; i++) {
        rc = i > 0 ? weir_buffer_append_text(json, ",") : WEIR_OK;
        rc = rc == WEIR_OK ? put_record(reader, cell, out, json, err) : rc;
    }
    return rc == WEIR_OK && !one ? weir_buffer_append_text(json, "]") : rc;
}

static int put_cells(struct weir_image_reader *reader, const struct rule_cell *cells,
                     int32_t cell_count, struct weir_shown *out, struct weir_error *err) {
    struct weir_buffer json;
    weir_buffer_init(&json, 1 << 30);
    int rc = WEIR_OK;
    for (int32_t c = 0; rc == WEIR_OK && c < cell_count; c++) {
        weir_buffer_clear(&json);
        rc = put_cell(reader, &cells[c], out, &json, err);
        rc = rc == WEIR_OK ? weir_shown_json(&out->value, cells[c].name, json.data, json.size) : rc;
    }
    weir_buffer_fini(&json);
    return rc;
}

static int show_state(void *owner, const struct weir_show_entry *entry, struct weir_shown *out,
                      struct weir_error *err) {
    struct weir_rule_state *state = owner;
    struct weir_image_reader reader = {entry->value, entry->value + entry->value_bytes};
    uint64_t number;
    int64_t changed_us;
    struct rule_layout *old = NULL;
    if (entry->key_bytes == 0) {
        return WEIR_OK; /* the layouts */
    }
    if (!weir_image_fixed(&reader, &number, sizeof number) ||
        !weir_image_fixed(&reader, &changed_us, sizeof changed_us)) {
        return corrupt(err);
    }
    int rc = number != state->layout ? rule_layout_find(state, number, &old, err) : WEIR_OK;
    rc = rc == WEIR_OK
             ? weir_shown_key(out, state->key, entry->key, entry->key_bytes, &out->key, err)
             : rc;
    rc = rc == WEIR_OK ? put_cells(&reader, old != NULL ? old->cells : state->cells,
                                   old != NULL ? old->cell_count : state->cell_count, out, err)
                       : rc;
    rc = rc == WEIR_OK ? weir_shown_time(&out->value, "_changed", changed_us) : rc;
    if (rc == WEIR_OK && old != NULL) {
        rc = weir_shown_int(&out->value, "_version", old->version);
    }
    rule_layout_destroy(old);
    return rc;
}

static int show_timer(void *owner, const struct weir_show_entry *entry, struct weir_shown *out,
                      struct weir_error *err) {
    struct weir_rule_state *state = owner;
    struct rule_timer timer;
    if (entry->key_bytes < 1 || entry->key[0] >= entry->key_bytes ||
        entry->value_bytes != sizeof timer) {
        return weir_error_set(err, WEIR_E_CORRUPT, "a timer does not parse");
    }
    size_t name = entry->key[0];
    memcpy(&timer, entry->value, sizeof timer);
    int rc = weir_shown_key(out, state->key, entry->key + 1 + name, entry->key_bytes - 1 - name,
                            &out->key, err);
    rc = rc == WEIR_OK ? weir_shown_text(&out->key, "_timer", entry->key + 1, name) : rc;
    rc = rc == WEIR_OK ? weir_shown_time(&out->value, "at", timer.at_us) : rc;
    return rc == WEIR_OK ? weir_shown_json(&out->value, "clock", timer.clock ? "true" : "false",
                                           timer.clock ? 4 : 5)
                         : rc;
}

static int show_row(void *owner, const struct weir_show_entry *entry, struct weir_shown *out,
                    struct weir_error *err) {
    struct weir_rule_state *state = owner;
    uint64_t arrival;
    int64_t time_us;
    if (entry->key_bytes != sizeof arrival || entry->value_bytes < sizeof time_us ||
        state->whole == NULL) {
        return weir_error_set(err, WEIR_E_CORRUPT, "a row that waits does not parse");
    }
    memcpy(&arrival, entry->key, sizeof arrival);
    memcpy(&time_us, entry->value, sizeof time_us);
    int rc = weir_shown_int(&out->key, "_arrival", (int64_t)arrival);
    rc = rc == WEIR_OK ? weir_shown_key(out, state->whole, entry->value + sizeof time_us,
                                        entry->value_bytes - sizeof time_us, &out->value, err)
                       : rc;
    return rc == WEIR_OK ? weir_shown_time(&out->value, "_time", time_us) : rc;
}

int32_t weir_rule_state_shows(struct weir_rule_state *state, const struct weir_key *whole,
                              struct weir_show *shows, int32_t capacity) {
    if (capacity < 3) {
        return 0;
    }
    state->whole = whole;
    shows[0] =
        (struct weir_show){weir_table_cell(state->table), "state by key", state, show_state, false};
    shows[1] =
        (struct weir_show){weir_table_cell(state->timer_table), "timers", state, show_timer, false};
    shows[2] = (struct weir_show){weir_table_cell(state->row_table),
                                  "rows that wait for the watermark", state, show_row, false};
    return 3;
}
