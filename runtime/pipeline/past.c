/* The newest snapshot that ends before the epoch, then the records up to it. */
#include "pipeline/past.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commit/snapshot.h"
#include "pipeline/evolve.h"

#define STATE_BYTES (INT64_C(1) << 50) /* nothing has to wait on disk */

int past_out_of_reach(const struct past *p, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOTFOUND,
                          "the ledger holds epochs %" PRIu64 " to %" PRIu64
                          "; `ledger = { keep = … }` says how far back it goes",
                          p->ledger->first, p->ledger->last);
}

/* --- what is applied -------------------------------------------------------------------------- */

static int apply_image(struct past *p, struct weir_span table, struct weir_span bytes,
                       struct weir_error *err) {
    for (int32_t i = 0; i < p->cell_count; i++) {
        if (strlen(p->cells[i]->name) == table.size &&
            memcmp(p->cells[i]->name, table.data, table.size) == 0) {
            return p->cells[i]->ops->apply(p->cells[i]->self, bytes.data, bytes.size, err);
        }
    }
    return WEIR_OK;
}

int past_keep_position(struct past *p, const struct weir_keyed_entry *entry) {
    for (size_t i = 0; i < p->position_count; i++) {
        struct past_position *at = &p->positions[i];
        if (strlen(at->key) == entry->key.size &&
            memcmp(at->key, entry->key.data, entry->key.size) == 0) {
            uint8_t *bytes = realloc(at->bytes, entry->body.size + 1);
            if (bytes == NULL) {
                return WEIR_E_NOMEM;
            }
            memcpy(bytes, entry->body.data, entry->body.size);
            at->bytes = bytes;
            at->size = entry->body.size;
            return WEIR_OK;
        }
    }
    struct past_position *positions =
        realloc(p->positions, (p->position_count + 1) * sizeof(*positions));
    if (positions == NULL) {
        return WEIR_E_NOMEM;
    }
    p->positions = positions;
    struct past_position *added = &positions[p->position_count];
    added->key = strndup((const char *)entry->key.data, entry->key.size);
    added->bytes = malloc(entry->body.size + 1);
    if (added->key == NULL || added->bytes == NULL) {
        return WEIR_E_NOMEM;
    }
    memcpy(added->bytes, entry->body.data, entry->body.size);
    added->size = entry->body.size;
    p->position_count++;
    return WEIR_OK;
}

static int keep_columns(struct past *p, const struct weir_record_view *record,
                        struct weir_error *err) {
    static const char prefix[] = EVOLVE_KEY;
    struct weir_keyed_entry entry;
    struct weir_section_iterator counters =
        weir_section_iterate(record->keyed[WEIR_SECTION_COUNTERS]);
    int rc = WEIR_OK;
    while (rc == WEIR_OK && weir_keyed_next(&counters, &entry)) {
        size_t skip = sizeof(prefix) - 1;
        if (entry.removed || entry.is_int || entry.key.size <= skip ||
            memcmp(entry.key.data, prefix, skip) != 0) {
            continue;
        }
        const char *name = (const char *)entry.key.data + skip;
        size_t length = entry.key.size - skip;
        struct past_columns *found = NULL;
        for (size_t i = 0; i < p->column_count; i++) {
            bool same = strlen(p->columns[i].source) == length &&
                        memcmp(p->columns[i].source, name, length) == 0;
            found = same ? &p->columns[i] : found;
        }
        if (found == NULL) {
            struct past_columns *grown =
                realloc(p->columns, (p->column_count + 1) * sizeof(*grown));
            p->columns = grown != NULL ? grown : p->columns;
            char *copy = grown != NULL ? strndup(name, length) : NULL;
            if (copy == NULL) {
                return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
            }
            found = &p->columns[p->column_count++];
            *found = (struct past_columns){.source = copy};
        }
        struct weir_schema *schema;
        rc = evolve_parse(entry.body.data, entry.body.size, &schema, err);
        if (rc == WEIR_OK && found->now != NULL && weir_schema_equal(found->now, schema)) {
            weir_schema_unref(schema);
        } else if (rc == WEIR_OK) {
            weir_schema_unref(found->before);
            found->before = found->now;
            found->now = schema;
        }
    }
    return rc;
}

static int apply_record(struct past *p, const struct weir_record_view *record,
                        struct weir_error *err) {
    struct weir_named_blob blob;
    struct weir_section_iterator images = weir_section_iterate(record->images);
    while (weir_image_next(&images, &blob)) {
        int rc = apply_image(p, blob.name, blob.body, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    struct weir_keyed_entry entry;
    struct weir_section_iterator positions =
        weir_section_iterate(record->keyed[WEIR_SECTION_POSITIONS]);
    while (weir_keyed_next(&positions, &entry)) {
        if (!entry.removed && past_keep_position(p, &entry) != WEIR_OK) {
            return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
        }
    }
    struct weir_section_iterator counters =
        weir_section_iterate(record->keyed[WEIR_SECTION_COUNTERS]);
    while (weir_keyed_next(&counters, &entry)) {
        if (!entry.removed && entry.key.size == 5 && memcmp(entry.key.data, "graph", 5) == 0) {
            int rc = weir_graph_load(p->graph, entry.body.data, entry.body.size, err);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
    }
    return WEIR_OK;
}

/* Before there is a graph, only what it says of columns. */
static int load_snapshot(struct past *p, uint64_t *from, struct weir_error *err) {
    char ledger_path[1024];
    char path[1100];
    weir_plan_ledger_path(p->plan, ledger_path, sizeof(ledger_path));
    snprintf(path, sizeof(path), "%s/snapshots", ledger_path);
    struct weir_snapshots_options options = {
        .path = path, .identity = p->ledger->identity, .read_only = true};
    struct weir_snapshots *snapshots;
    struct weir_snapshot *snapshot = NULL;
    uint32_t damaged = 0;
    *from = 1;
    int rc = weir_snapshots_open(&options, &snapshots, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (p->options.epoch > 1) {
        rc = weir_snapshot_load_at(snapshots, p->options.epoch - 1, &snapshot, &damaged, err);
    }
    if (rc == WEIR_OK && snapshot != NULL) {
        struct weir_span table;
        struct weir_span bytes;
        bool end = false;
        *from = weir_snapshot_view_begin(snapshot);
        const struct weir_record_view *state = weir_snapshot_view_state(snapshot);
        rc = p->graph != NULL ? apply_record(p, state, err) : keep_columns(p, state, err);
        while (rc == WEIR_OK && p->graph != NULL) {
            rc = weir_snapshot_next(snapshot, &table, &bytes, &end, err);
            if (rc != WEIR_OK || end) {
                break;
            }
            rc = apply_image(p, table, bytes, err);
        }
    }
    if (snapshot != NULL) {
        weir_snapshot_close(snapshot);
    }
    weir_snapshots_close(snapshots);
    return rc;
}

static int open_ledger(struct past *p, struct weir_error *err) {
    char path[1024];
    weir_plan_ledger_path(p->plan, path, sizeof(path));
    struct weir_ledger_options ledger_options = {.path = path, .read_only = true};
    int rc = weir_ledger_open(&ledger_options, &p->ledger, err);
    if (rc == WEIR_OK && p->options.epoch == 0) {
        p->options.epoch = p->ledger->last + 1;
    }
    uint64_t epoch = p->options.epoch;
    if (rc == WEIR_OK && (epoch < p->ledger->first || epoch > p->ledger->last + 1)) {
        rc = past_out_of_reach(p, err);
    }
    return rc;
}

/* The columns sources from outside had in the epoch, as far as the ledger goes back. */
static int learn_columns(struct past *p, struct weir_error *err) {
    struct weir_ledger_cursor *cursor = NULL;
    uint64_t from = 1;
    int rc = load_snapshot(p, &from, err);
    rc = rc == WEIR_OK ? weir_ledger_cursor_open(p->ledger, from, &cursor, err) : rc;
    if (rc == WEIR_E_NOTFOUND) {
        weir_error_wrap(err, "the state before epoch %" PRIu64 " is gone", p->options.epoch);
    }
    bool end = false;
    while (rc == WEIR_OK && !end) {
        struct weir_ledger_frame frame;
        struct weir_record_view record;
        rc = weir_ledger_cursor_next(cursor, &frame, &end, err);
        if (rc != WEIR_OK || end || frame.number > p->options.epoch) {
            break;
        }
        rc = weir_record_parse(frame.payload, frame.size, &record, err);
        rc = rc == WEIR_OK ? keep_columns(p, &record, err) : rc;
    }
    weir_ledger_cursor_close(cursor);
    return rc;
}

static int load_rules(struct past *p, struct weir_error *err) {
    struct weir_buffer report;
    weir_buffer_init(&report, 1 << 20);
    weir_plan_destroy(p->plan);
    weir_rule_set_unref(p->rule_set);
    p->plan = NULL;
    p->rule_set = NULL;
    int rc = weir_script_load(p->script, p->options.path, p->options.settings,
                              p->options.setting_count, &p->rule_set, &report, NULL, err);
    const char *told = rc != WEIR_OK && report.size > 0 ? weir_buffer_text(&report) : NULL;
    if (told != NULL) { /* rules that are broken now do not tell how to read what they wrote */
        weir_error_set(err, rc, "the rules do not load:\n%s", told);
    }
    weir_buffer_fini(&report);
    return rc == WEIR_OK ? weir_plan_parse(weir_rule_set_plan(p->rule_set, NULL), &p->plan, err)
                         : rc;
}

/* The rules as they were: with the columns of then. */
static int load_rules_of_then(struct past *p, struct weir_error *err) {
    bool changed = false;
    int rc = WEIR_OK;
    for (size_t i = 0; rc == WEIR_OK && i < p->column_count; i++) {
        for (int32_t s = 0; s < p->plan->source_count; s++) {
            changed |= strcmp(p->plan->sources[s].name, p->columns[i].source) == 0 &&
                       !weir_schema_equal(p->plan->sources[s].schema, p->columns[i].now);
        }
        rc = weir_script_set_columns(p->script, p->columns[i].source, p->columns[i].now, err);
    }
    return rc == WEIR_OK && changed ? load_rules(p, err) : rc;
}

int past_open(struct past *p, const struct past_options *past_options, struct weir_error *err) {
    struct weir_script_options script_options = {0};
    *p = (struct past){.options = *past_options};
    int rc = weir_script_create(&script_options, &p->script, err);
    rc = rc == WEIR_OK ? load_rules(p, err) : rc;
    rc = rc == WEIR_OK ? open_ledger(p, err) : rc;
    rc = rc == WEIR_OK && evolve_any_outside(p->plan) ? learn_columns(p, err) : rc;
    rc = rc == WEIR_OK ? load_rules_of_then(p, err) : rc;
    if (rc != WEIR_OK) {
        return rc;
    }
    p->pool = weir_pool_create((size_t)p->plan->data_bytes);
    if (p->pool == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    p->plan->state_bytes = STATE_BYTES;
    struct weir_graph_options options = {
        .plan = p->plan,
        .rule_set = p->rule_set,
        .pool = p->pool,
        .callbacks = p->options.callbacks,
        .past_failed = true,
        .answers = WEIR_ANSWERS_RECORDED,
    };
    rc = weir_graph_create(&options, &p->graph, err);
    if (rc == WEIR_OK) {
        p->cell_count = weir_graph_cells(p->graph, p->cells, CELLS_MAX);
    }
    return rc;
}

int past_load(struct past *p, struct weir_record_view *record, bool *there,
              struct weir_error *err) {
    uint64_t epoch = p->options.epoch;
    uint64_t from = 1;
    *there = false;
    int rc = load_snapshot(p, &from, err);
    if (rc == WEIR_OK) {
        rc = weir_ledger_cursor_open(p->ledger, from, &p->cursor, err);
        if (rc == WEIR_E_NOTFOUND) {
            weir_error_wrap(err, "the state before epoch %" PRIu64 " is gone", epoch);
        }
    }
    bool end = false;
    while (rc == WEIR_OK && !end && !*there) {
        struct weir_ledger_frame frame;
        rc = weir_ledger_cursor_next(p->cursor, &frame, &end, err);
        if (rc != WEIR_OK || end) {
            break;
        }
        rc = weir_record_parse(frame.payload, frame.size, record, err);
        *there = rc == WEIR_OK && frame.number >= epoch;
        rc = rc == WEIR_OK && !*there ? apply_record(p, record, err) : rc;
    }
    return rc == WEIR_OK ? weir_graph_restore(p->graph, err) : rc;
}

void past_close(struct past *p) {
    weir_ledger_cursor_close(p->cursor);
    for (size_t i = 0; i < p->position_count; i++) {
        free(p->positions[i].key);
        free(p->positions[i].bytes);
    }
    free(p->positions);
    for (size_t i = 0; i < p->column_count; i++) {
        free(p->columns[i].source);
        weir_schema_unref(p->columns[i].now);
        weir_schema_unref(p->columns[i].before);
    }
    free(p->columns);
    weir_graph_destroy(p->graph);
    if (p->ledger != NULL) {
        weir_ledger_close(p->ledger);
    }
    weir_plan_destroy(p->plan);
    weir_rule_set_unref(p->rule_set);
    weir_script_destroy(p->script);
    weir_pool_destroy(p->pool);
}
