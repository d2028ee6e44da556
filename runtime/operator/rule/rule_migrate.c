/* State of another layout, key by key as it is met. Cells that are declared as they were are
 * carried over here, with fields and room added; what becomes of the others, functions of the rule
 * say (`migrate`), which the loop calls before the item's own, with the old image at hand. All of
 * it is the item's doing: undone with it, kept with it. */
#include <stdlib.h>
#include <string.h>

#include "operator/rule/rule_private.h"
#include "state/image.h"

void rule_olds_destroy(struct rule_old *olds) {
    while (olds != NULL) {
        struct rule_old *next = olds->next;
        rule_layout_destroy(olds->layout);
        free(olds);
        olds = next;
    }
}

/* --- which cells go on as they are ------------------------------------------------------------ */

static bool same_type(const struct weir_field *old, const struct weir_field *new) {
    return old->type == new->type &&
           (old->type != WEIR_TYPE_DECIMAL ||
            (old->scale == new->scale && old->precision <= new->precision));
}

/* Every field has its place in the new cell; *fields says where. */
static bool takes(const struct rule_cell *new, const struct rule_cell *old, uint8_t *fields) {
    bool ring = old->kind == WEIR_RULE_RING;
    if (old->kind != new->kind || (!ring && old->max > new->max)) {
        return false;
    }
    for (int32_t f = 0; f < old->field_count; f++) {
        int32_t at = weir_schema_find(new->schema, old->schema->fields[f].name);
        if (at < 0 || !same_type(&old->schema->fields[f], &new->schema->fields[at])) {
            return false;
        }
        fields[f] = (uint8_t)at;
    }
    /* What is looked for by all fields, or by the first, stays so. */
    return old->kind != WEIR_RULE_SET || old->field_count == new->field_count;
}

/* Is there a step from `version` towards the state's own? */
static bool has_step(const struct weir_rule_state *state, int64_t version) {
    for (int32_t i = 0; i < state->step_count; i++) {
        int64_t step = state->steps[i];
        if (version < state->version ? step >= version && step < state->version
                                     : step < 0 && -step <= version && -step > state->version) {
            return true;
        }
    }
    return false;
}

static int refuse(const struct weir_rule_state *state, const struct rule_layout *layout,
                  const struct rule_cell *lost, struct weir_error *err) {
    long long version = layout->version;
    if (layout->version == state->version) {
        return weir_error_set(err, WEIR_E_STATE,
                              "%s: state `%s` is gone, or declared otherwise, and what it holds "
                              "would be lost; put it back, or raise version to %lld and say what "
                              "becomes of it: migrate = { [%lld] = function(old, s) … end }",
                              state->declaration, lost->name, version + 1, version);
    }
    bool back = layout->version > state->version;
    return weir_error_set(err, WEIR_E_STATE,
                          "%s: state `%s` of version %lld is gone in version %lld, or declared "
                          "otherwise, and what it holds would be lost; say what becomes of it: "
                          "migrate = { [%s%lld] = function(old, s) … end }",
                          state->declaration, lost->name, version, (long long)state->version,
                          back ? "-" : "", version);
}

/* Takes the layout, whatever comes of it. */
static int add(struct weir_rule_state *state, struct rule_layout *layout,
               const struct rule_old **out, struct weir_error *err) {
    struct rule_old *old = calloc(1, sizeof *old);
    const struct rule_cell *lost = NULL;
    if (old == NULL) {
        rule_layout_destroy(layout);
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    old->layout = layout;
    old->steps = layout->version != state->version && has_step(state, layout->version);
    for (int32_t c = 0; c < layout->cell_count; c++) {
        old->cells[c] = -1;
        for (int32_t n = 0; n < state->cell_count; n++) {
            if (strcmp(layout->cells[c].name, state->cells[n].name) == 0 &&
                takes(&state->cells[n], &layout->cells[c], old->fields[c])) {
                old->cells[c] = n;
            }
        }
        lost = old->cells[c] < 0 ? &layout->cells[c] : lost;
    }
    bool clock = strstr(layout->text, "\"ttl\":\"clock\"") != NULL;
    int rc = WEIR_OK;
    if (clock != state->ttl_by_clock) {
        rc = weir_error_set(err, WEIR_E_STATE,
                            "%s: `ttl` and `ttl_clock` are not exchanged for each other, as keys "
                            "remember one of the two times; put it back, or give the new form of "
                            "the rule another name beside it",
                            state->declaration);
    } else if (lost != NULL && !old->steps) {
        rc = refuse(state, layout, lost, err);
    }
    if (rc != WEIR_OK) {
        rule_olds_destroy(old);
        return rc;
    }
    old->next = state->olds;
    state->olds = old;
    *out = old;
    return WEIR_OK;
}

static const struct rule_old *known(const struct weir_rule_state *state, uint64_t number) {
    const struct rule_old *old = state->olds;
    while (old != NULL && old->layout->number != number) {
        old = old->next;
    }
    return old;
}

int rule_old_add(struct weir_rule_state *state, const char *text, uint64_t number,
                 const struct rule_old **out, struct weir_error *err) {
    struct rule_layout *layout;
    *out = known(state, number);
    if (*out != NULL || number == state->layout) {
        return WEIR_OK;
    }
    int rc = rule_layout_parse(text, strlen(text), number, &layout, err);
    return rc == WEIR_OK ? add(state, layout, out, err) : rc;
}

int rule_old_of(struct weir_rule_state *state, uint64_t number, const struct rule_old **out,
                struct weir_error *err) {
    struct rule_layout *layout;
    *out = known(state, number);
    if (*out != NULL) {
        return WEIR_OK;
    }
    int rc = rule_layout_find(state, number, &layout, err);
    return rc == WEIR_OK ? add(state, layout, out, err) : rc;
}

/* --- a key ------------------------------------------------------------------------------------ */

/* A field of the image into the record, or past it where `to` is NULL. */
static bool take_field(struct weir_rule_state *state, struct weir_image_reader *reader,
                       const struct rule_field *field, uint8_t *to) {
    uint8_t passed[16];
    const uint8_t *bytes;
    size_t length;
    if (!weir_type_is_bytes(field->type)) {
        return weir_image_fixed(reader, to != NULL ? to : passed, field->width);
    }
    if (!weir_image_bytes(reader, &bytes, &length)) {
        return false;
    }
    if (to != NULL) {
        struct weir_rule_text *text = rule_take(state, rule_text_bytes(length));
        if (text == NULL) {
            return false;
        }
        text->length = (int32_t)length;
        memcpy(text->bytes, bytes, length);
        memcpy(to, &text, sizeof text);
    }
    return true;
}

/* A record of the old cell, into one of the new where there is one. */
static bool take_record(struct weir_rule_state *state, struct weir_image_reader *reader,
                        const struct rule_cell *old, const struct rule_cell *new,
                        const uint8_t *fields, uint8_t *record) {
    int64_t time_us;
    uint8_t there[RULE_FIELDS_MAX];
    bool good = weir_image_fixed(reader, &time_us, sizeof time_us) &&
                weir_image_fixed(reader, there, (size_t)old->field_count);
    if (good && record != NULL) {
        memcpy(record, &time_us, sizeof time_us);
    }
    for (int32_t f = 0; good && f < old->field_count; f++) {
        uint8_t *to = record != NULL ? record + new->fields[fields[f]].offset : NULL;
        if (record != NULL) {
            record[8 + fields[f]] = there[f];
        }
        good = there[f] == 0 || take_field(state, reader, &old->fields[f], to);
    }
    return good;
}

static bool take_entries(struct weir_rule_state *state, struct weir_image_reader *reader,
                         const struct rule_cell *old, const struct rule_cell *new,
                         const uint8_t *fields, struct rule_block **out) {
    uint64_t count;
    if (!weir_image_varint(reader, &count) || count > old->max) {
        return false;
    }
    uint64_t keep = new == NULL ? 0 : count < new->max ? count : new->max; /* a ring's newest */
    struct rule_block *block = NULL;
    if (keep > 0) {
        size_t bytes = rule_block_bytes(new, (uint32_t)keep);
        block = rule_take(state, bytes);
        if (block == NULL) {
            return false;
        }
        memset(block, 0, bytes);
        block->capacity = block->count = (uint32_t)keep;
    }
    for (uint64_t i = 0; i < count; i++) {
        uint8_t *record = i >= count - keep && block != NULL
                              ? rule_record(new, block, (uint32_t)(i - (count - keep)))
                              : NULL;
        if (!take_record(state, reader, old, new, fields, record)) {
            return false;
        }
    }
    *out = block;
    return true;
}

static bool take_sketch(struct weir_rule_state *state, struct weir_image_reader *reader, bool keep,
                        struct weir_part **out) {
    const uint8_t *bytes;
    size_t length;
    if (!weir_image_bytes(reader, &bytes, &length) ||
        (length > 0 && !weir_distinct_sketch_check(bytes, length))) {
        return false;
    }
    if (!keep || length == 0) {
        return true;
    }
    struct weir_part *part = rule_take(state, sizeof *part);
    uint8_t *own = part != NULL ? rule_take(state, length) : NULL;
    if (own == NULL) {
        return false;
    }
    memcpy(own, bytes, length);
    *part =
        (struct weir_part){.bytes = own, .length = (uint32_t)length, .capacity = (uint32_t)length};
    *out = part;
    return true;
}

static bool carry_over(struct weir_rule_state *state, const struct rule_old *old,
                       struct rule_slot *value, const uint8_t *image, uint32_t size) {
    struct weir_image_reader reader = {image + 16, image + size};
    for (int32_t c = 0; c < old->layout->cell_count; c++) {
        const struct rule_cell *cell = &old->layout->cells[c];
        int32_t n = old->cells[c];
        const struct rule_cell *new = n >= 0 ? &state->cells[n] : NULL;
        struct rule_block *none;
        struct weir_part *nothing;
        bool good =
            cell->kind == WEIR_RULE_SKETCH
                ? take_sketch(state, &reader, n >= 0, n >= 0 ? &value->cells[n].sketch : &nothing)
                : take_entries(state, &reader, cell, new, old->fields[c],
                               n >= 0 ? &value->cells[n].block : &none);
        if (!good) {
            return false;
        }
    }
    return reader.at == reader.end;
}

static void fail(struct weir_rule_state *state, const char *why) {
    if (state->failure.code == WEIR_OK) {
        weir_error_set(&state->failure, WEIR_E_CORRUPT, "%s: %s", state->declaration, why);
    }
}

bool rule_migrate(struct weir_rule_state *state) {
    struct rule_slot *value = rule_slot_read(state);
    const struct rule_old *old;
    state->run.migrates = 0;
    if (value == NULL || value->raw == NULL) {
        return true;
    }
    uint8_t *image = value->raw;
    uint32_t size = value->raw_bytes;
    if (rule_old_of(state, value->layout, &old, &state->failure) != WEIR_OK) {
        return false;
    }
    if (!state->layout_written && !(state->layout_written = rule_layout_write(state))) {
        return false;
    }
    size_t bytes = sizeof *value + (size_t)state->cell_count * sizeof value->cells[0];
    if (weir_table_touch(state->table, state->slot) != WEIR_OK || !rule_note(state, value, bytes) ||
        !rule_add_part(state, &state->stale, image, size)) {
        rule_no_memory(state);
        return false;
    }
    state->moved = true;
    value->layout = state->layout;
    value->raw = NULL;
    value->raw_bytes = 0;
    if (!carry_over(state, old, value, image, size)) {
        fail(state, "state of a key does not parse");
        return false;
    }
    state->run.old = image;
    state->run.old_layout = old->layout->text;
    state->run.old_version = old->layout->version;
    state->run.migrates = old->steps;
    return true;
}
