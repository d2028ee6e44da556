#include "operator/aggregate/layout.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "operator/aggregate/measure_private.h"
#include "state/image.h"

enum { TEXT_BYTES_MAX = 4 << 20, CELLS_PRESENCE = 64 };

static int no_memory(const struct weir_aggregate *aggregate, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for a layout", aggregate->declaration);
}

/* --- written ---------------------------------------------------------------------------------- */

static int put_type(struct weir_buffer *out, const struct weir_field *field) {
    struct weir_buffer type;
    weir_buffer_init(&type, TEXT_BYTES_MAX);
    int rc = weir_field_format_type(field, &type);
    rc = rc == WEIR_OK ? weir_buffer_append_json(out, (const char *)type.data, type.size) : rc;
    weir_buffer_fini(&type);
    return rc;
}

static int put_cell(struct weir_buffer *out, const struct weir_measure_cell *cell) {
    const struct weir_measure *measure = &cell->measure;
    struct weir_field input = {
        .type = measure->type, .precision = measure->precision, .scale = measure->scale};
    int rc = weir_buffer_append_text(out, "{\"name\":");
    rc = rc == WEIR_OK ? weir_buffer_append_json(out, measure->name, strlen(measure->name)) : rc;
    rc = rc == WEIR_OK ? weir_buffer_append_text(out, ",\"kind\":\"value\",\"fields\":[[\"value\",")
                       : rc;
    rc = rc == WEIR_OK ? put_type(out, &cell->output) : rc;
    rc = rc == WEIR_OK ? weir_buffer_printf(out, "]],\"measure\":\"%s\"",
                                            weir_measure_kind_name(measure->kind))
                       : rc;
    if (rc == WEIR_OK && measure->kind != WEIR_MEASURE_AGGREGATE && measure->has_input) {
        rc = weir_buffer_append_text(out, ",\"input\":");
        rc = rc == WEIR_OK ? put_type(out, &input) : rc;
    }
    if (rc == WEIR_OK && measure->share != 0) {
        rc = weir_buffer_printf(out, ",\"share\":%.17g", measure->share);
    }
    if (rc == WEIR_OK && measure->most != 0) {
        rc = weir_buffer_printf(out, ",\"most\":%" PRId64, measure->most);
    }
    return rc == WEIR_OK ? weir_buffer_append_text(out, "}") : rc;
}

static char *make_text(const struct weir_aggregate *aggregate, int64_t version, uint64_t base,
                       bool keeps_old) {
    struct weir_buffer out;
    weir_buffer_init(&out, TEXT_BYTES_MAX);
    int rc = weir_buffer_printf(
        &out, "{\"version\":%" PRId64 ",\"base\":\"%016" PRIx64 "\",\"old\":%s,\"cells\":[",
        version, base, keeps_old ? "true" : "false");
    for (int32_t m = 0; rc == WEIR_OK && m < aggregate->measures.count; m++) {
        rc = m > 0 ? weir_buffer_append_text(&out, ",") : WEIR_OK;
        rc = rc == WEIR_OK ? put_cell(&out, &aggregate->measures.cells[m]) : rc;
    }
    rc = rc == WEIR_OK ? weir_buffer_append_text(&out, "]}") : rc;
    const char *text = rc == WEIR_OK ? weir_buffer_text(&out) : NULL;
    char *made = text != NULL ? strdup(text) : NULL;
    weir_buffer_fini(&out);
    return made;
}

/* --- read ------------------------------------------------------------------------------------- */

static void layout_destroy(struct weir_layout *layout) {
    if (layout != NULL) {
        weir_measures_fini(&layout->measures);
        free(layout->value);
        free(layout->to);
        free(layout->text);
        free(layout);
    }
}

static int corrupt(const struct weir_aggregate *aggregate, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_CORRUPT, "%s: a recorded layout of its state does not parse",
                          aggregate->declaration);
}

/* *state: the struct of an aggregate, to be given back. */
static int read_cell(const struct weir_aggregate *aggregate, json_t *json,
                     struct weir_measure *measure, struct weir_field *state,
                     struct weir_error *err) {
    const char *kind = json_string_value(json_object_get(json, "measure"));
    const char *input = json_string_value(json_object_get(json, "input"));
    const char *type =
        json_string_value(json_array_get(json_array_get(json_object_get(json, "fields"), 0), 1));
    measure->name = json_string_value(json_object_get(json, "name"));
    measure->share = json_number_value(json_object_get(json, "share"));
    measure->most = json_integer_value(json_object_get(json, "most"));
    if (measure->name == NULL || kind == NULL || type == NULL ||
        !weir_measure_kind_parse(kind, &measure->kind)) {
        return corrupt(aggregate, err);
    }
    if (measure->kind == WEIR_MEASURE_AGGREGATE) {
        measure->has_input = true;
        measure->type = WEIR_TYPE_STRUCT;
        measure->state = state;
        return weir_field_parse_type(state, type, err);
    }
    if (input != NULL) {
        struct weir_field field = {0};
        int rc = weir_field_parse_type(&field, input, err);
        measure->has_input = true;
        measure->type = field.type;
        measure->precision = field.precision;
        measure->scale = field.scale;
        weir_field_fini(&field);
        return rc;
    }
    return WEIR_OK;
}

static int read_cells(const struct weir_aggregate *aggregate, json_t *json,
                      struct weir_layout *layout, struct weir_error *err) {
    json_t *cells = json_object_get(json, "cells");
    size_t count = json_array_size(cells);
    if (!json_is_array(cells) || count > WEIR_MEASURES_MAX) {
        return corrupt(aggregate, err);
    }
    struct weir_measure *list = calloc(count + 1, sizeof *list);
    struct weir_field *states = calloc(count + 1, sizeof *states);
    int rc = list != NULL && states != NULL ? WEIR_OK : no_memory(aggregate, err);
    for (size_t m = 0; rc == WEIR_OK && m < count; m++) {
        rc = read_cell(aggregate, json_array_get(cells, m), &list[m], &states[m], err);
    }
    if (rc == WEIR_OK) {
        uint32_t tail = aggregate->measures.value_bytes - aggregate->measures.tail_offset;
        rc = weir_measures_init(&layout->measures, list, (int32_t)count,
                                aggregate->measures.retracts,
                                json_is_true(json_object_get(json, "old")), tail, err);
        layout->measures.table = aggregate->table;
    }
    for (size_t m = 0; states != NULL && m < count; m++) {
        weir_field_fini(&states[m]);
    }
    free(states);
    free(list);
    return rc;
}

static int parse(const struct weir_aggregate *aggregate, const uint8_t *text, size_t length,
                 struct weir_layout *layout, struct weir_error *err) {
    json_t *json = json_loadb((const char *)text, length, 0, NULL);
    const char *base = json_string_value(json_object_get(json, "base"));
    int rc = base != NULL ? WEIR_OK : corrupt(aggregate, err);
    if (rc == WEIR_OK) {
        layout->base = strtoull(base, NULL, 16);
        layout->version = json_integer_value(json_object_get(json, "version"));
        layout->text = strndup((const char *)text, length);
        rc = layout->text != NULL ? read_cells(aggregate, json, layout, err)
                                  : no_memory(aggregate, err);
    }
    json_decref(json);
    if (rc == WEIR_OK) {
        layout->to = calloc((size_t)layout->measures.count + 1, sizeof *layout->to);
        layout->value = aligned_alloc(16, (layout->measures.value_bytes + 16u) & ~(size_t)15);
        rc = layout->to != NULL && layout->value != NULL ? WEIR_OK : no_memory(aggregate, err);
    }
    return rc;
}

/* --- which measures go on --------------------------------------------------------------------- */

/* What the one has counted, the other would have, bit by bit. */
static bool goes_on(const struct weir_measure_cell *old, const struct weir_measure_cell *new) {
    const struct weir_measure *a = &old->measure;
    const struct weir_measure *b = &new->measure;
    if (a->kind != b->kind || a->has_input != b->has_input || a->share != b->share ||
        a->most != b->most) {
        return false;
    }
    if (a->kind == WEIR_MEASURE_AGGREGATE) {
        return weir_field_same_type(&old->output, &new->output);
    }
    bool same = a->type == b->type && a->precision == b->precision && a->scale == b->scale;
    bool grown = a->type == WEIR_TYPE_DECIMAL && b->type == WEIR_TYPE_DECIMAL &&
                 a->scale == b->scale && a->precision <= b->precision && old->wide == new->wide;
    switch (a->kind) {
    case WEIR_MEASURE_COUNT:
        return true;
    case WEIR_MEASURE_SUM:
    case WEIR_MEASURE_AVG:
        return same || grown || (is_int(a->type) && is_int(b->type)) ||
               (is_float(a->type) && is_float(b->type));
    case WEIR_MEASURE_MIN:
    case WEIR_MEASURE_MAX:
        return same || (!old->of_members &&
                        (grown || (is_int(a->type) && is_int(b->type) && a->type <= b->type)));
    default:
        return same;
    }
}

/* What measure `name` was called in that version. */
static const char *name_in(const struct weir_layouts *layouts, const char *name, int64_t version) {
    bool forward = version < layouts->version;
    for (int64_t at = layouts->version; at != version;) {
        int64_t step = forward ? at - 1 : -(at + 1); /* that led to `at` */
        for (int32_t i = 0; i < layouts->renamed_count; i++) {
            if (layouts->renamed[i].version == step && strcmp(layouts->renamed[i].to, name) == 0) {
                name = layouts->renamed[i].from;
                break;
            }
        }
        at += forward ? -1 : 1;
    }
    return name;
}

static bool has_step(const struct weir_layouts *layouts, int64_t version) {
    for (int32_t i = 0; i < layouts->step_count; i++) {
        int64_t step = layouts->steps[i];
        if (version < layouts->version ? step >= version && step < layouts->version
                                       : step < 0 && -step <= version && -step > layouts->version) {
            return true;
        }
    }
    return false;
}

static void relate(const struct weir_layouts *layouts, struct weir_layout *layout) {
    const struct weir_measures *now = &layouts->aggregate->measures;
    layout->lost = -1;
    layout->stepped = has_step(layouts, layout->version);
    for (int32_t o = 0; o < layout->measures.count; o++) {
        layout->to[o] = -1;
    }
    for (int32_t m = 0; m < now->count; m++) {
        const char *name = name_in(layouts, now->cells[m].measure.name, layout->version);
        bool found = false;
        for (int32_t o = 0; o < layout->measures.count && !found; o++) {
            const struct weir_measure_cell *old = &layout->measures.cells[o];
            found = layout->to[o] < 0 && strcmp(old->measure.name, name) == 0 &&
                    goes_on(old, &now->cells[m]);
            layout->to[o] = found ? m : layout->to[o];
        }
        layout->lost = !found && layout->lost < 0 ? m : layout->lost;
    }
}

bool weir_layouts_carried(const struct weir_layout *layout, int32_t m) {
    for (int32_t o = 0; o < layout->measures.count; o++) {
        if (layout->to[o] == m) {
            return true;
        }
    }
    return false;
}

int weir_layouts_allow(struct weir_layouts *layouts, const struct weir_layout *layout,
                       struct weir_error *err) {
    const struct weir_aggregate *aggregate = layouts->aggregate;
    const char *declaration = aggregate->declaration;
    if (layout->base != layouts->base) {
        return weir_error_set(err, WEIR_E_STATE,
                              "%s: the shape of its windows changed, and what it has counted so "
                              "far would be lost; make it anew from bronze (weir rebuild %s), or "
                              "give the new form another name beside it",
                              declaration, declaration);
    }
    if (layout->lost < 0) {
        return WEIR_OK;
    }
    const char *name = aggregate->measures.cells[layout->lost].measure.name;
    if (aggregate->measures.retracts) {
        return weir_error_set(err, WEIR_E_STATE,
                              "%s: measure `%s` is new, or declared otherwise; rows that were "
                              "counted before may be taken back, and it could not give back what "
                              "it was not given: make the model anew from bronze (weir rebuild %s)",
                              declaration, name, declaration);
    }
    if (layout->stepped) {
        return WEIR_OK;
    }
    long long from = layout->version;
    bool raised = layout->version != layouts->version;
    bool back = layout->version > layouts->version;
    char first[64] = "";
    if (!raised) {
        snprintf(first, sizeof first, "raise version to %lld and ", from + 1);
    }
    return weir_error_set(err, WEIR_E_STATE,
                          "%s: measure `%s` is new, or declared otherwise, and knows nothing of "
                          "the rows counted so far; make the model anew from bronze (weir rebuild "
                          "%s), or %ssay where it begins: migrate = { [%s%lld] = function(old, m) "
                          "… end }",
                          declaration, name, declaration, first, back ? "-" : "", from);
}

/* --- what tables ask for ---------------------------------------------------------------------- */

struct weir_layout *weir_layouts_find(struct weir_layouts *layouts, uint64_t shape) {
    struct weir_layout *layout = layouts->list;
    while (layout != NULL && layout->shape != shape) {
        layout = layout->next;
    }
    return layout;
}

int weir_layouts_learn(struct weir_layouts *layouts, uint64_t shape, const uint8_t *text,
                       size_t length, struct weir_error *err) {
    struct weir_aggregate *aggregate = layouts->aggregate;
    struct weir_layout *known = weir_layouts_find(layouts, shape);
    if (shape == aggregate->shape || (known != NULL && !known->assumed)) {
        return WEIR_OK;
    }
    struct weir_layout *layout = calloc(1, sizeof *layout);
    int rc =
        layout != NULL ? parse(aggregate, text, length, layout, err) : no_memory(aggregate, err);
    if (rc != WEIR_OK) {
        layout_destroy(layout);
        return rc;
    }
    if (known != NULL) {
        struct weir_layout **at = &layouts->list;
        while (*at != known) {
            at = &(*at)->next;
        }
        *at = known->next;
        layout_destroy(known);
    }
    layout->shape = shape;
    layout->next = layouts->list;
    layouts->list = layout;
    relate(layouts, layout);
    return WEIR_OK;
}

static int learn(void *context, uint64_t shape, const uint8_t *text, size_t length,
                 struct weir_error *err) {
    return weir_layouts_learn(context, shape, text, length, err);
}

static int put(void *context, struct weir_buffer *out) {
    const struct weir_layouts *layouts = context;
    int rc =
        weir_image_put_layout(out, layouts->aggregate->shape, layouts->text, strlen(layouts->text));
    for (const struct weir_layout *layout = layouts->list; rc == WEIR_OK && layout != NULL;
         layout = layout->next) {
        rc = layout->assumed
                 ? rc
                 : weir_image_put_layout(out, layout->shape, layout->text, strlen(layout->text));
    }
    return rc;
}

/* What an older one wrote may have been written anew since: whether it goes on is asked of those
 * that wait when all is read. Without a place to wait in it has to. */
static int check(void *context, uint64_t shape, struct weir_error *err) {
    struct weir_layouts *layouts = context;
    const struct weir_layout *layout = weir_layouts_find(layouts, shape);
    if (layout == NULL) {
        return weir_image_other_shape(weir_table_name(layouts->aggregate->table), shape,
                                      layouts->aggregate->shape, err);
    }
    bool waits = layouts->aggregate->measures.old_offset > 0 && layout->base == layouts->base &&
                 !layouts->aggregate->measures.retracts;
    return waits ? WEIR_OK : weir_layouts_allow(layouts, layout, err);
}

static int read_value(struct weir_measures *measures, uint8_t *value, const uint8_t *bytes,
                      size_t length, struct weir_error *err) {
    memset(value, 0, measures->value_bytes);
    if (measures->has_parts) {
        return weir_measures_codec.decode(measures, value, bytes, length, err);
    }
    if (length != measures->value_bytes) {
        return weir_error_set(err, WEIR_E_CORRUPT, "a value of %zu bytes, not %u", length,
                              measures->value_bytes);
    }
    memcpy(value, bytes, length);
    return WEIR_OK;
}

/* Cells that go on, parts and all; the rest stays with the old value. */
static void carry_over(struct weir_aggregate *aggregate, const struct weir_layout *layout,
                       uint8_t *value) {
    const struct weir_measures *old = &layout->measures;
    const struct weir_measures *now = &aggregate->measures;
    for (int32_t o = 0; o < old->count; o++) {
        int32_t m = layout->to[o];
        if (m < 0) {
            continue;
        }
        uint32_t bytes = weir_measure_cell_bytes(old, o);
        memcpy(value + now->cells[m].offset, layout->value + old->cells[o].offset, bytes);
        if (weir_measure_has_part(&old->cells[o])) {
            memset(layout->value + weir_measure_part_offset(&old->cells[o]), 0,
                   sizeof(struct weir_part));
        }
        if (is_present(layout->value, o)) {
            set_present(value, m);
        }
    }
    memcpy(value + now->tail_offset, layout->value + old->tail_offset,
           now->value_bytes - now->tail_offset);
}

static int decode(void *context, uint64_t shape, void *value, const uint8_t *bytes, size_t length,
                  struct weir_error *err) {
    struct weir_layouts *layouts = context;
    struct weir_aggregate *aggregate = layouts->aggregate;
    if (shape == aggregate->shape) {
        return read_value(&aggregate->measures, value, bytes, length, err);
    }
    int rc = check(layouts, shape, err);
    struct weir_layout *layout = rc == WEIR_OK ? weir_layouts_find(layouts, shape) : NULL;
    if (layout == NULL) {
        return rc;
    }
    rc = read_value(&layout->measures, layout->value, bytes, length, err);
    uint32_t kept_bytes = 0;
    const uint8_t *kept =
        rc == WEIR_OK ? weir_measures_old(&layout->measures, layout->value, &kept_bytes) : NULL;
    if (kept != NULL) { /* nobody has met it since an older version wrote it: that counts */
        uint64_t older;
        uint8_t *own = kept_bytes >= OLD_HEAD ? malloc(kept_bytes) : NULL;
        if (own == NULL) {
            rc = kept_bytes >= OLD_HEAD ? no_memory(aggregate, err) : corrupt(aggregate, err);
        } else {
            memcpy(own, kept, kept_bytes);
            memcpy(&older, own, sizeof older);
            weir_measures_codec.fini(&layout->measures, layout->value);
            rc = older == shape
                     ? corrupt(aggregate, err)
                     : decode(context, older, value, own + OLD_HEAD, kept_bytes - OLD_HEAD, err);
            free(own);
            return rc;
        }
    }
    if (rc == WEIR_OK) {
        carry_over(aggregate, layout, value);
        if (aggregate->measures.old_offset > 0 && (layout->stepped || layout->lost >= 0)) {
            uint8_t *old = malloc(length + OLD_HEAD);
            rc = old != NULL ? WEIR_OK : no_memory(aggregate, err);
            if (rc == WEIR_OK) {
                memcpy(old, &shape, OLD_HEAD);
                memcpy(old + OLD_HEAD, bytes, length);
                rc = weir_measures_set_old(&aggregate->measures, value, old, length + OLD_HEAD);
                rc = rc == WEIR_OK ? rc : no_memory(aggregate, err);
            }
            free(old);
        }
    }
    if (layout->measures.has_parts) {
        weir_measures_codec.fini(&layout->measures, layout->value);
    }
    return rc;
}

/* --- life ------------------------------------------------------------------------------------- */

/* Why the measures of such an aggregate do not change: state beside its groups goes by them, or by
 * the slots they are in. NULL: they may. */
static const char *why_fixed(const struct weir_aggregate_config *config) {
    bool values = false;
    bool over = false;
    for (int32_t m = 0; m < config->measure_count; m++) {
        enum weir_measure_kind kind = config->measures[m].kind;
        values |= kind == WEIR_MEASURE_DISTINCT ||
                  (config->retracts && (kind == WEIR_MEASURE_MIN || kind == WEIR_MEASURE_MAX));
        over |= config->over_us != NULL && config->over_us[m] != 0;
    }
    bool panes = config->every_us != 0 && !config->updates && !config->retracts;
    return over                  ? "it measures the last while (`over`, `sliding`)"
           : panes               ? "its windows are put together from panes"
           : config->gap_us != 0 ? "its windows are sessions"
           : config->rows != 0   ? "its windows are of so many rows"
           : config->delays      ? "its rows leave every so often"
           : values ? "it keeps single values (`distinct`, or min and max of rows that change)"
                    : NULL;
}

bool weir_layouts_keep_old(const struct weir_aggregate_config *config) {
    return why_fixed(config) == NULL &&
           (config->version > 1 || config->step_count > 0 || config->renamed_count > 0);
}

static bool copy_names(struct weir_layouts *layouts, const struct weir_aggregate_config *config) {
    layouts->steps = calloc((size_t)config->step_count + 1, sizeof *layouts->steps);
    layouts->renamed = calloc((size_t)config->renamed_count + 1, sizeof *layouts->renamed);
    bool good = layouts->steps != NULL && layouts->renamed != NULL;
    if (good && config->step_count > 0) {
        memcpy(layouts->steps, config->steps, (size_t)config->step_count * sizeof *config->steps);
        layouts->step_count = config->step_count;
    }
    for (int32_t i = 0; good && i < config->renamed_count; i++) {
        layouts->renamed[i] =
            (struct weir_renamed){config->renamed[i].version, strdup(config->renamed[i].from),
                                  strdup(config->renamed[i].to)};
        layouts->renamed_count = i + 1;
        good = layouts->renamed[i].from != NULL && layouts->renamed[i].to != NULL;
    }
    return good;
}

int weir_layouts_create(struct weir_aggregate *aggregate,
                        const struct weir_aggregate_config *config, uint64_t base, uint64_t before,
                        struct weir_error *err) {
    aggregate->fixed = why_fixed(config);
    if (aggregate->fixed != NULL) {
        return WEIR_OK;
    }
    struct weir_layouts *layouts = calloc(1, sizeof *layouts);
    if (layouts == NULL) {
        return no_memory(aggregate, err);
    }
    bool keeps_old = weir_layouts_keep_old(config);
    aggregate->layouts = layouts;
    layouts->aggregate = aggregate;
    layouts->base = base;
    layouts->version = config->version > 0 ? config->version : 1;
    layouts->migrate = config->migrate;
    layouts->migrate_context = config->migrate_context;
    layouts->text = make_text(aggregate, layouts->version, base, keeps_old);
    if (layouts->text == NULL || !copy_names(layouts, config)) {
        return no_memory(aggregate, err);
    }
    const struct weir_table_layouts ops = {layouts, put, learn, decode};
    weir_table_set_layouts(aggregate->table, &ops);
    if (!keeps_old) {
        return WEIR_OK;
    }
    char *text = make_text(aggregate, layouts->version, base, false);
    int rc = text != NULL
                 ? weir_layouts_learn(layouts, before, (const uint8_t *)text, strlen(text), err)
                 : no_memory(aggregate, err);
    free(text);
    if (rc == WEIR_OK && layouts->list != NULL) {
        layouts->list->assumed = true;
    }
    return rc;
}

static void free_names(struct weir_layouts *layouts) {
    for (int32_t i = 0; i < layouts->renamed_count; i++) {
        free((void *)(uintptr_t)layouts->renamed[i].from);
        free((void *)(uintptr_t)layouts->renamed[i].to);
    }
    free(layouts->renamed);
    free(layouts->steps);
}

void weir_layouts_destroy(struct weir_layouts *layouts) {
    if (layouts == NULL) {
        return;
    }
    while (layouts->list != NULL) {
        struct weir_layout *next = layouts->list->next;
        layout_destroy(layouts->list);
        layouts->list = next;
    }
    free_names(layouts);
    free(layouts->text);
    free(layouts);
}

void weir_layouts_follow(struct weir_aggregate *aggregate, struct weir_aggregate *as) {
    struct weir_layouts *mine = aggregate->layouts;
    struct weir_layouts *theirs = as->layouts;
    if (mine == NULL || theirs == NULL) {
        return;
    }
    struct weir_layouts before = *mine;
    mine->steps = theirs->steps;
    mine->step_count = theirs->step_count;
    mine->renamed = theirs->renamed;
    mine->renamed_count = theirs->renamed_count;
    theirs->steps = before.steps;
    theirs->step_count = before.step_count;
    theirs->renamed = before.renamed;
    theirs->renamed_count = before.renamed_count;
    for (struct weir_layout *layout = mine->list; layout != NULL; layout = layout->next) {
        relate(mine, layout);
    }
}
