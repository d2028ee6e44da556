/* Reads the plan document. Every accessor names the path it wanted, so that a disagreement between
 * the script room and this one is found at once. */
#include "pipeline/graph/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Parsing state: the first error sticks, so that callers check once per object. */
struct reader {
    struct weir_error *err;
    int rc;
    const char *where; /* name of the declaration being read */
};

static void fail(struct reader *r, const char *key, const char *want) {
    if (r->rc == WEIR_OK) {
        r->rc =
            weir_error_set(r->err, WEIR_E_BUG, "plan: %s: '%s' should be %s", r->where, key, want);
    }
}

static json_t *member(const json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static const char *text(struct reader *r, const json_t *object, const char *key, bool required) {
    json_t *value = member(object, key);
    if (value == NULL && !required) {
        return NULL;
    }
    if (!json_is_string(value)) {
        fail(r, key, "a string");
        return "";
    }
    return json_string_value(value);
}

static int64_t integer(struct reader *r, const json_t *object, const char *key, int64_t fallback) {
    json_t *value = member(object, key);
    if (value == NULL) {
        return fallback;
    }
    if (!json_is_number(value)) {
        fail(r, key, "a number");
        return fallback;
    }
    return json_is_integer(value) ? json_integer_value(value) : (int64_t)json_real_value(value);
}

static void *list(struct reader *r, const json_t *object, const char *key, size_t item,
                  int32_t *count) {
    json_t *value = member(object, key);
    *count = 0;
    /* An empty Lua table may arrive as {}: both are "none". */
    if (value == NULL || (json_is_object(value) && json_object_size(value) == 0)) {
        return NULL;
    }
    if (!json_is_array(value)) {
        fail(r, key, "a list");
        return NULL;
    }
    *count = (int32_t)json_array_size(value);
    void *items = calloc((size_t)*count + 1, item);
    if (items == NULL) {
        *count = 0;
        r->rc = weir_error_set(r->err, WEIR_E_NOMEM, "plan: out of memory");
    }
    return items;
}

static const char **text_list(struct reader *r, const json_t *object, const char *key,
                              int32_t *count) {
    const char **items = list(r, object, key, sizeof(*items), count);
    for (int32_t i = 0; items != NULL && i < *count; i++) {
        json_t *value = json_array_get(member(object, key), (size_t)i);
        if (json_is_boolean(value)) {
            items[i] = json_is_true(value) ? "true" : "false";
        } else if (json_is_string(value)) {
            items[i] = json_string_value(value);
        } else {
            fail(r, key, "a list of strings");
            items[i] = "";
        }
    }
    return items;
}

static int64_t *integer_list(struct reader *r, const json_t *object, const char *key,
                             int32_t *count) {
    int64_t *items = list(r, object, key, sizeof(*items), count);
    for (int32_t i = 0; i < *count; i++) {
        items[i] = json_integer_value(json_array_get(member(object, key), (size_t)i));
    }
    return items;
}

static struct weir_schema *schema(struct reader *r, const json_t *object, const char *key) {
    struct weir_schema *out = weir_schema_create();
    json_t *fields = member(object, key);
    if (out == NULL) {
        r->rc = weir_error_set(r->err, WEIR_E_NOMEM, "plan: out of memory");
        return NULL;
    }
    size_t i;
    json_t *value;
    json_array_foreach(fields, i, value) {
        struct weir_field field = {0};
        json_t *nullable = member(value, "nullable");
        const char *name = text(r, value, "name", true);
        const char *type = text(r, value, "type", true);
        if (r->rc == WEIR_OK) {
            r->rc = weir_field_parse_type(&field, type, r->err);
        }
        if (r->rc == WEIR_OK) {
            field.nullable = nullable == NULL || json_is_true(nullable);
            field.name = strdup(name);
            const char *fallback = text(r, value, "default", false);
            field.default_json = fallback != NULL ? strdup(fallback) : NULL;
            r->rc = field.name == NULL ? WEIR_E_NOMEM : weir_schema_add(out, &field);
        }
        weir_field_fini(&field);
        if (r->rc != WEIR_OK) {
            break;
        }
    }
    return out;
}

static void read_merge(struct reader *r, const json_t *into, struct weir_plan_sink *sink) {
    sink->keys = text_list(r, into, "key", &sink->key_count);
    sink->time = text(r, into, "time", false);
    if (r->rc == WEIR_OK && sink->key_count == 0) {
        fail(r, "key", "at least one column");
    }
}

/* `key`: "into", or "quarantine" with kind "none" for nowhere. */
static void read_sink(struct reader *r, const json_t *object, const char *key,
                      struct weir_plan_sink *sink) {
    json_t *into = member(object, key);
    if (into == NULL) {
        return;
    }
    sink->given = true;
    sink->kind = text(r, into, "kind", true);
    if (r->rc != WEIR_OK || strcmp(sink->kind, "none") == 0) {
        return;
    }
    sink->present = true;
    if (strcmp(sink->kind, "delta") != 0) {
        json_t *options = member(into, "options");
        sink->options_json =
            options != NULL ? json_dumps(options, JSON_COMPACT | JSON_SORT_KEYS) : strdup("{}");
        if (sink->options_json == NULL) {
            r->rc = weir_error_set(r->err, WEIR_E_NOMEM, "plan: out of memory");
        }
        return;
    }
    const char *mode = text(r, into, "mode", false);
    bool merges = mode != NULL && strcmp(mode, "merge") == 0;
    if (mode != NULL && !merges && strcmp(mode, "append") != 0) {
        fail(r, key, "delta append or merge");
        return;
    }
    if (merges) {
        read_merge(r, into, sink);
    }
    json_t *properties = member(into, "properties");
    sink->properties = calloc(json_object_size(properties) + 1, sizeof(*sink->properties));
    const char *property;
    json_t *value;
    if (sink->properties == NULL) {
        r->rc = weir_error_set(r->err, WEIR_E_NOMEM, "plan: out of memory");
        return;
    }
    json_object_foreach(properties, property, value) {
        sink->properties[sink->property_count++] =
            (struct weir_plan_property){property, json_string_value(value)};
    }
    sink->overwrite = text(r, into, "overwrite", false);
    sink->compact = member(into, "compact") != json_false();
    sink->vacuum = member(into, "vacuum") != json_false();
    sink->target_bytes = integer(r, into, "target_bytes", 0);
    sink->keep_us = integer(r, into, "keep_us", 0);
    sink->keep_by = text(r, into, "keep_by", sink->keep_us > 0);
    sink->tier_root = text(r, into, "tier_to", false);
    sink->tier_us = integer(r, into, "tier_us", 0);
    sink->zorder = text_list(r, into, "z_order_by", &sink->zorder_count);
    sink->direct_lake = text(r, into, "layout", false) != NULL;
    sink->partition_by =
        list(r, into, "partition_by", sizeof(*sink->partition_by), &sink->partition_count);
    for (int32_t i = 0; i < sink->partition_count; i++) {
        json_t *item = json_array_get(member(into, "partition_by"), (size_t)i);
        struct weir_plan_partition *partition = &sink->partition_by[i];
        if (member(item, "date") != NULL) {
            partition->kind = WEIR_PARTITION_DATE;
            partition->column = text(r, item, "date", true);
        } else if (member(item, "hour") != NULL) {
            partition->kind = WEIR_PARTITION_HOUR;
            partition->column = text(r, item, "hour", true);
        } else {
            partition->kind = WEIR_PARTITION_COLUMN;
            partition->column = text(r, item, "column", true);
        }
    }
}

static void read_time(struct reader *r, const json_t *object, struct weir_plan_time *time) {
    json_t *value = member(object, "time");
    if (value == NULL) {
        return;
    }
    time->present = true;
    time->field = text(r, value, "field", true);
    time->out_of_order_us = integer(r, value, "out_of_order_us", 0);
    time->idle_us = integer(r, value, "idle_us", 0);
    time->max_ahead_us = integer(r, value, "max_ahead_us", INT64_C(3600000000));
}

static void read_term(struct reader *r, const json_t *value, struct weir_plan_term *term) {
    static const char *const kinds[] = {"not_null", "one_of", "between", "matches", "function"};
    const char *kind = text(r, value, "kind", true);
    int found = -1;
    for (int i = 0; i < 5; i++) {
        if (strcmp(kind, kinds[i]) == 0) {
            found = i;
        }
    }
    if (found < 0) {
        fail(r, "kind", "a predicate kind");
        return;
    }
    term->kind = (unsigned)found;
    term->function = (int32_t)integer(r, value, "function", -1);
    if (term->kind == WEIR_TERM_FUNCTION) {
        return;
    }
    term->column = text(r, value, "column", true);
    if (term->kind == WEIR_TERM_ONE_OF) {
        term->literals = text_list(r, value, "values", &term->literal_count);
    } else if (term->kind != WEIR_TERM_NOT_NULL) {
        term->literals = calloc(2, sizeof(char *));
        if (term->literals == NULL) {
            fail(r, "values", "allocatable");
        } else if (term->kind == WEIR_TERM_MATCHES) {
            term->literals[0] = text(r, value, "pattern", true);
            term->literal_count = 1;
        } else {
            term->literals[0] = text(r, value, "low", true);
            term->literals[1] = text(r, value, "high", true);
            term->literal_count = 2;
        }
    }
}

static void read_expectation(struct reader *r, const json_t *value,
                             struct weir_plan_expectation *e) {
    static const char *const actions[] = {"warn", "drop", "quarantine", "fail"};
    e->name = text(r, value, "name", true);
    e->because = text(r, value, "because", false);
    e->file = text(r, value, "file", false);
    e->line = json_integer_value(json_object_get(value, "line"));
    const char *action = text(r, value, "action", false);
    e->action = WEIR_ACTION_QUARANTINE;
    for (int i = 0; action != NULL && i < 4; i++) {
        if (strcmp(action, actions[i]) == 0) {
            e->action = (enum weir_action)i;
        }
    }
    e->terms = list(r, value, "terms", sizeof(*e->terms), &e->term_count);
    for (int32_t t = 0; t < e->term_count; t++) {
        read_term(r, json_array_get(member(value, "terms"), (size_t)t), &e->terms[t]);
    }
}

static void read_expectations(struct reader *r, const json_t *object, const char *key,
                              struct weir_plan_expectations *out) {
    out->list = list(r, object, key, sizeof(*out->list), &out->count);
    for (int32_t i = 0; i < out->count; i++) {
        read_expectation(r, json_array_get(member(object, key), (size_t)i), &out->list[i]);
    }
}

static void read_nulls(struct reader *r, const json_t *function, struct weir_plan_nulls *nulls) {
    nulls->sites = list(r, function, "nulls", sizeof(*nulls->sites), &nulls->count);
    for (int32_t i = 0; r->rc == WEIR_OK && i < nulls->count; i++) {
        const json_t *site = json_array_get(member(function, "nulls"), (size_t)i);
        for (size_t k = 0; k < 2; k++) {
            const json_t *column = json_array_get(site, k);
            if (!json_is_integer(column)) {
                fail(r, "nulls", "pairs of columns");
                return;
            }
            nulls->sites[i][k] = (int32_t)json_integer_value(column);
        }
    }
}

static void read_path(struct reader *r, const json_t *steps, struct weir_plan_path *path) {
    path->count = (int32_t)json_array_size(steps);
    if (path->count < 1 || path->count > WEIR_PLAN_PATH_MAX) {
        fail(r, "copies", "paths of a column");
        return;
    }
    for (int32_t i = 0; i < path->count; i++) {
        path->steps[i] = (int32_t)json_integer_value(json_array_get(steps, (size_t)i));
    }
}

static void read_copies(struct reader *r, const json_t *function, struct weir_plan_copies *copies) {
    const json_t *object = member(function, "copies");
    if (object == NULL) {
        return;
    }
    copies->all = json_is_true(member(object, "all"));
    copies->columns = list(r, object, "columns", sizeof(*copies->columns), &copies->count);
    for (int32_t i = 0; r->rc == WEIR_OK && i < copies->count; i++) {
        const json_t *column = json_array_get(member(object, "columns"), (size_t)i);
        read_path(r, member(column, "path"), &copies->columns[i]);
        copies->columns[i].map = (int32_t)integer(r, column, "map", 0);
    }
    copies->through = list(r, object, "through", sizeof(*copies->through), &copies->through_count);
    for (int32_t i = 0; r->rc == WEIR_OK && i < copies->through_count; i++) {
        read_path(r, json_array_get(member(object, "through"), (size_t)i), &copies->through[i]);
    }
}

static void read_dedup(struct reader *r, const json_t *object, struct weir_plan_dedup *dedup) {
    json_t *value = member(object, "dedup");
    if (value != NULL) {
        dedup->present = true;
        dedup->by = text_list(r, value, "by", &dedup->by_count);
        dedup->within_us = integer(r, value, "within_us", 0);
    }
}

static const char *read_from(struct reader *r, const json_t *object, const char ***all_from,
                             int32_t *count) {
    *all_from = text_list(r, object, "from", count);
    if (r->rc == WEIR_OK && *count == 0) {
        fail(r, "from", "a dataset");
    }
    return r->rc == WEIR_OK ? (*all_from)[0] : "";
}

enum { PATH_MAX_STEPS = 64 };

/* Paths of names. */
static void read_decoded(struct reader *r, const json_t *list, struct weir_plan_source *source) {
    size_t i;
    size_t k;
    json_t *path;
    json_t *step;
    if (list == NULL || r->rc != WEIR_OK) {
        return;
    }
    source->decoded = weir_projection_create(source->schema);
    if (source->decoded == NULL) {
        r->rc = weir_error_set(r->err, WEIR_E_NOMEM, "plan: out of memory");
        return;
    }
    json_array_foreach(list, i, path) {
        const char *steps[PATH_MAX_STEPS];
        int32_t count = 0;
        json_array_foreach(path, k, step) {
            if (count < PATH_MAX_STEPS && json_is_string(step)) {
                steps[count++] = json_string_value(step);
            }
        }
        if (r->rc == WEIR_OK) {
            r->rc = weir_projection_add(source->decoded, source->schema, steps, count, r->err);
        }
    }
}

static void read_source(struct reader *r, const json_t *value, struct weir_plan_source *source) {
    source->name = text(r, value, "name", true);
    r->where = source->name;
    source->file = text(r, value, "file", false);
    json_t *connector = member(value, "connector");
    source->connector = text(r, connector, "kind", true);
    source->connector_options = member(connector, "options");
    json_t *decoder = member(value, "decoder");
    if (decoder != NULL) {
        source->decoder = text(r, decoder, "kind", true);
        source->decoder_options = member(decoder, "options");
    }
    source->schema = schema(r, value, "schema");
    source->full_schema = r->rc == WEIR_OK ? weir_decode_full_schema(source->schema) : NULL;
    if (r->rc == WEIR_OK && source->full_schema == NULL) {
        r->rc = weir_error_set(r->err, WEIR_E_NOMEM, "plan: out of memory");
    }
    read_decoded(r, member(value, "decoded"), source);
    read_sink(r, value, "into", &source->into);
    read_sink(r, value, "quarantine", &source->quarantine);
    source->alignment_us = integer(r, value, "alignment_us", WEIR_ALIGNMENT_UNSAID);
}

static void read_explode(struct reader *r, const json_t *object,
                         struct weir_plan_explode *explode) {
    json_t *value = member(object, "explode");
    if (value != NULL) {
        explode->present = true;
        explode->index = json_is_true(member(value, "index"));
        explode->keep_empty = json_is_true(member(value, "keep_empty"));
        explode->column = (int32_t)integer(r, value, "column", -1);
        explode->function = (int32_t)integer(r, value, "function", -1);
        explode->first = (int32_t)integer(r, value, "first", -1);
        explode->made = schema(r, value, "made");
    }
}

static void read_lookup(struct reader *r, const json_t *value, struct weir_plan_lookup *lookup) {
    lookup->name = text(r, value, "name", true);
    lookup->http = member(value, "http");
    lookup->from = text(r, value, "from", lookup->http == NULL);
    lookup->on = text_list(r, value, "on", &lookup->on_count);
    lookup->inner = json_is_true(member(value, "inner"));
    lookup->quarantine = json_is_true(member(value, "quarantine"));
    lookup->defaults = member(value, "defaults");
    lookup->found = schema(r, value, "found");
    lookup->before = (int32_t)integer(r, value, "before", 0);
    lookup->column = (int32_t)integer(r, value, "column", -1);
    lookup->beside = (int32_t)integer(r, value, "beside", -1);
    if (r->rc == WEIR_OK && lookup->found->count != 1) {
        fail(r, "found", "one column");
    }
}

static void read_lookups(struct reader *r, const json_t *value, struct weir_plan_stream *stream) {
    stream->lookups = list(r, value, "lookups", sizeof(*stream->lookups), &stream->lookup_count);
    for (int32_t i = 0; r->rc == WEIR_OK && i < stream->lookup_count; i++) {
        read_lookup(r, json_array_get(member(value, "lookups"), (size_t)i), &stream->lookups[i]);
    }
    stream->lookup_key = text_list(r, value, "lookup_key", &stream->lookup_key_count);
}

static void read_join(struct reader *r, const json_t *value, struct weir_plan_join *join) {
    join->name = text(r, value, "name", true);
    join->what = text(r, value, "what", true);
    join->from = text(r, value, "from", true);
    join->kind = text(r, value, "kind", true);
    join->left_on = text_list(r, value, "left_on", &join->on_count);
    join->right_on = text_list(r, value, "right_on", &join->right_on_count);
    join->left = text_list(r, value, "left", &join->left_count);
    join->column = (int32_t)integer(r, value, "column", -1);
    join->beside = (int32_t)integer(r, value, "beside", -1);
    join->low_us = integer(r, value, "low_us", 0);
    join->high_us = integer(r, value, "high_us", 0);
    join->high_column = text(r, value, "high_column", false);
    join->window_us = integer(r, value, "window_us", 0);
    join->every_us = integer(r, value, "every_us", 0);
    join->bounds = (int32_t)integer(r, value, "bounds", -1);
    join->as_of = text(r, value, "as_of", false);
    join->wait_us = integer(r, value, "wait_us", -1);
    join->quarantine = json_is_true(member(value, "quarantine"));
    join->ttl_us[0] = integer(r, value, "left_ttl_us", -1);
    join->ttl_us[1] = integer(r, value, "right_ttl_us", -1);
    join->change = (int32_t)integer(r, value, "change", -1);
    join->left_changes = json_is_true(member(value, "left_changes"));
    join->by_clock = json_is_true(member(value, "by_clock"));
    join->lateness_us = integer(r, value, "lateness_us", 0);
    join->where = (int32_t)integer(r, value, "where", -1);
    join->condition = text(r, value, "condition", false);
    join->late_left = text(r, value, "late_left", false);
    join->late_right = text(r, value, "late_right", false);
    if (strcmp(join->what, "regular") == 0 && (join->where >= 0) != (join->condition != NULL)) {
        fail(r, "joins.condition", "what `where` says");
    }
    if (join->on_count != join->right_on_count || join->on_count == 0) {
        fail(r, "joins.right_on", "as many columns as left_on");
    }
}

static void read_joins(struct reader *r, const json_t *value, struct weir_plan_stream *stream) {
    int32_t columns = stream->input != NULL ? stream->input->count : 0;
    stream->entered = (int32_t)integer(r, value, "entered", columns);
    stream->joins = list(r, value, "joins", sizeof(*stream->joins), &stream->join_count);
    for (int32_t i = 0; r->rc == WEIR_OK && i < stream->join_count; i++) {
        read_join(r, json_array_get(member(value, "joins"), (size_t)i), &stream->joins[i]);
    }
}

static void read_rule(struct reader *r, const json_t *value, struct weir_plan_stream *stream) {
    json_t *object = json_object_get(value, "rule");
    if (!json_is_object(object) || r->rc != WEIR_OK) {
        return;
    }
    struct weir_plan_rule *rule = calloc(1, sizeof(*rule));
    if (rule == NULL) {
        r->rc = weir_error_set(r->err, WEIR_E_NOMEM, "plan: out of memory");
        return;
    }
    stream->rule = rule;
    rule->key = text_list(r, object, "key", &rule->key_count);
    rule->by_arrival = json_is_true(member(object, "by_arrival"));
    rule->timed = json_is_true(member(object, "timed"));
    rule->versioned = json_is_true(json_object_get(object, "versioned"));
    rule->function = (int32_t)integer(r, object, "function", -1);
    rule->timers = text_list(r, object, "timers", &rule->timer_count);
    rule->span = (int32_t)integer(r, object, "span", 0);
    rule->version = integer(r, object, "version", 1);
    rule->ttl_us = integer(r, object, "ttl_us", 0);
    rule->ttl_by_clock = json_is_true(member(object, "ttl_by_clock"));
    rule->migrates = integer_list(r, object, "migrates", &rule->migrate_count);
    rule->cells = list(r, object, "state", sizeof(*rule->cells), &rule->cell_count);
    for (int32_t i = 0; i < rule->cell_count; i++) {
        json_t *cell = json_array_get(member(object, "state"), (size_t)i);
        rule->cells[i].name = text(r, cell, "name", true);
        rule->cells[i].kind = text(r, cell, "kind", true);
        rule->cells[i].max = integer(r, cell, "max", 1);
        rule->cells[i].fields = schema(r, cell, "fields");
    }
    rule->emits = list(r, object, "emits", sizeof(*rule->emits), &rule->emit_count);
    for (int32_t i = 0; i < rule->emit_count; i++) {
        json_t *emit = json_array_get(member(object, "emits"), (size_t)i);
        rule->emits[i].name = text(r, emit, "name", true);
        rule->emits[i].schema = schema(r, emit, "columns");
        read_sink(r, emit, "into", &rule->emits[i].into);
    }
}

static void read_stream(struct reader *r, const json_t *value, struct weir_plan_stream *stream) {
    stream->name = text(r, value, "name", true);
    stream->changes_whole = json_is_true(member(value, "changes_whole"));
    stream->remember = text_list(r, value, "remember", &stream->remember_count);
    r->where = stream->name;
    stream->from = read_from(r, value, &stream->all_from, &stream->from_count);
    stream->input = schema(r, value, "input");
    read_time(r, value, &stream->time);
    stream->where = (int32_t)integer(r, value, "where", -1);
    read_explode(r, value, &stream->explode);
    read_expectations(r, value, "expectations", &stream->expectations);
    read_dedup(r, value, &stream->dedup);
    read_lookups(r, value, stream);
    read_joins(r, value, stream);
    json_t *map = member(value, "map");
    stream->map = map != NULL ? (int32_t)integer(r, map, "function", -1) : -1;
    stream->map_out = schema(r, map, "out");
    stream->output = schema(r, value, "columns");
    int32_t count;
    stream->out_columns = list(r, value, "columns", sizeof(*stream->out_columns), &count);
    for (int32_t i = 0; i < count; i++) {
        json_t *column = json_array_get(member(value, "columns"), (size_t)i);
        stream->out_columns[i].input = (int32_t)integer(r, column, "input", -1);
        stream->out_columns[i].map = (int32_t)integer(r, column, "map", -1);
        stream->out_columns[i].child = (int32_t)integer(r, column, "child", -1);
    }
    read_expectations(r, value, "ensures", &stream->ensures);
    read_expectations(r, value, "quality", &stream->quality);
    read_sink(r, value, "into", &stream->into);
    read_sink(r, value, "quarantine", &stream->quarantine);
    read_rule(r, value, stream);
}

static void read_type(struct reader *r, const json_t *value, const char *key,
                      struct weir_field *field) {
    const char *type = text(r, value, key, false);
    field->nullable = true;
    if (type != NULL && r->rc == WEIR_OK) {
        r->rc = weir_field_parse_type(field, type, r->err);
    }
}

static void read_window(struct reader *r, const json_t *window, const char *emit,
                        struct weir_plan_model *model) {
    static const char *const kinds[] = {"tumbling", "hopping", "cumulate",
                                        "session",  "count",   "calendar"};
    bool known = false;
    if (window == NULL) {
        model->unwindowed = true;
        return;
    }
    const char *kind = text(r, window, "kind", true);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        known |= strcmp(kind, kinds[i]) == 0;
    }
    if (!known) {
        fail(r, "window", "a tumbling, hopping, cumulate, session, count or calendar window");
        return;
    }
    model->updates = emit != NULL && strcmp(emit, "on_update") == 0;
    model->window_cumulates = strcmp(kind, "cumulate") == 0;
    model->window_every_us = integer(r, window, "every_us", 0);
    model->window_size_us = integer(r, window, "size_us", 0);
    model->window_gap_us = integer(r, window, "gap_us", 0);
    model->window_rows = integer(r, window, "rows", 0);
    model->allowed_lateness_us = integer(r, window, "allowed_lateness_us", 0);
    model->late = text(r, window, "late", false);
    if (strcmp(kind, "calendar") == 0) {
        model->calendar_unit = text(r, window, "unit", true);
        model->calendar_zone = text(r, window, "time_zone", true);
        model->calendar_week_start = (int32_t)integer(r, window, "week_start", 0);
    }
}

static void read_top(struct reader *r, const json_t *value, struct weir_plan_top *top) {
    if (value == NULL) {
        return;
    }
    top->present = true;
    top->n = (int32_t)integer(r, value, "n", 1);
    top->tied_count = (int32_t)integer(r, value, "tied", 0);
    top->ties = text(r, value, "ties", true);
    top->rank = text(r, value, "rank", false);
    top->columns = text_list(r, value, "columns", &top->column_count);
    top->per = text_list(r, value, "per", &top->per_count);
    top->by = list(r, value, "by", sizeof(*top->by), &top->by_count);
    for (int32_t i = 0; i < top->by_count; i++) {
        json_t *item = json_array_get(member(value, "by"), (size_t)i);
        top->by[i].column = text(r, item, "column", true);
        top->by[i].descending = json_is_true(member(item, "descending"));
    }
}

static void read_model_versions(struct reader *r, const json_t *value,
                                struct weir_plan_model *model) {
    model->version = integer(r, value, "state_version", 1);
    model->migrate = (int32_t)integer(r, value, "migrate", -1);
    model->migrates = integer_list(r, value, "migrates", &model->migrate_count);
    model->renamed = list(r, value, "renamed", sizeof(*model->renamed), &model->renamed_count);
    for (int32_t i = 0; i < model->renamed_count; i++) {
        json_t *item = json_array_get(member(value, "renamed"), (size_t)i);
        model->renamed[i] = (struct weir_renamed){
            integer(r, item, "version", 0), text(r, item, "from", true), text(r, item, "to", true)};
    }
}

static void read_model(struct reader *r, const json_t *value, struct weir_plan_model *model) {
    model->name = text(r, value, "name", true);
    r->where = model->name;
    model->from = read_from(r, value, &model->all_from, &model->from_count);
    model->input = schema(r, value, "input");
    read_time(r, value, &model->time);
    model->where = (int32_t)integer(r, value, "where", -1);
    read_expectations(r, value, "expectations", &model->expectations);
    read_dedup(r, value, &model->dedup);
    model->by = text_list(r, value, "by", &model->by_count);
    read_window(r, member(value, "window"), text(r, value, "emit", false), model);
    model->refires = json_is_true(member(value, "refires"));
    model->updates = model->updates || model->refires;
    model->emit_every_us = integer(r, value, "emit_every_us", 0);
    read_top(r, member(value, "top"), &model->top);
    model->late = model->late != NULL ? model->late : text(r, value, "late", false);
    model->retracts = json_is_true(member(value, "retracts"));
    model->lookup_key = text_list(r, value, "lookup_key", &model->lookup_key_count);
    model->having = (int32_t)integer(r, value, "having", -1);
    model->measures = list(r, value, "measures", sizeof(*model->measures), &model->measure_count);
    for (int32_t i = 0; i < model->measure_count; i++) {
        json_t *item = json_array_get(member(value, "measures"), (size_t)i);
        struct weir_plan_measure *measure = &model->measures[i];
        measure->name = text(r, item, "name", true);
        measure->kind = text(r, item, "kind", true);
        measure->column = text(r, item, "column", false);
        measure->order = text(r, item, "order", false);
        measure->share = json_number_value(member(item, "share"));
        measure->most = integer(r, item, "most", 0);
        measure->over_us = integer(r, item, "over_us", 0);
        model->forgets = model->forgets || measure->over_us > 0;
        measure->function = (int32_t)integer(r, item, "function", -1);
        measure->start = text(r, item, "start", false);
        measure->merge = (int32_t)integer(r, item, "merge", -1);
        measure->finish = (int32_t)integer(r, item, "finish", -1);
        measure->where = (int32_t)integer(r, item, "where", -1);
        read_type(r, item, "input_type", &measure->input);
        read_type(r, item, "type", &measure->result);
    }
    model->output = schema(r, value, "columns");
    model->derives = list(r, value, "derive", sizeof(*model->derives), &model->derive_count);
    for (int32_t i = 0; i < model->derive_count; i++) {
        json_t *item = json_array_get(member(value, "derive"), (size_t)i);
        model->derives[i].name = text(r, item, "name", true);
        model->derives[i].function = (int32_t)integer(r, item, "function", -1);
    }
    int32_t count;
    struct weir_plan_expectation *tests = list(r, value, "tests", sizeof(*tests), &count);
    model->tests.list = tests;
    for (int32_t i = 0; i < count; i++) {
        json_t *item = json_array_get(member(value, "tests"), (size_t)i);
        const char *kind = text(r, item, "kind", false);
        if (kind != NULL && strcmp(kind, "unique") == 0) {
            free(model->unique);
            model->unique = text_list(r, item, "columns", &model->unique_count);
        } else {
            read_expectation(r, item, &tests[model->tests.count++]);
        }
    }
    read_model_versions(r, value, model);
    read_sink(r, value, "into", &model->into);
    read_sink(r, value, "quarantine", &model->quarantine);
}

static void read_http(struct reader *r, json_t *http, struct weir_plan_http *out) {
    if (!json_is_object(http)) {
        return;
    }
    json_t *tls = member(http, "tls");
    out->present = true;
    out->address = text(r, http, "address", true);
    out->port = integer(r, http, "port", 0);
    if (json_is_object(tls)) {
        out->certificate = text(r, tls, "cert", true);
        out->key = text(r, tls, "key", true);
        out->client_authority = text(r, tls, "client_ca", false);
    }
    out->connections = integer(r, http, "connections", 1000);
    out->timeout_us = integer(r, http, "timeout_us", INT64_C(30000000));
    out->idle_us = integer(r, http, "idle_us", INT64_C(60000000));
}

int weir_plan_parse(const char *json, struct weir_plan **out, struct weir_error *err) {
    *out = NULL;
    json_error_t parse_error;
    struct weir_plan *plan = calloc(1, sizeof(*plan));
    struct reader r = {.err = err, .rc = WEIR_OK, .where = "pipeline"};
    if (plan == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "plan: out of memory");
    }
    plan->root = json_loads(json, JSON_DECODE_ANY, &parse_error);
    if (plan->root == NULL) {
        r.rc = weir_error_set(err, WEIR_E_BUG, "plan: %s at %d:%d", parse_error.text,
                              parse_error.line, parse_error.column);
        goto out;
    }
    json_t *pipeline = member(plan->root, "pipeline");
    plan->pipeline = text(&r, pipeline, "name", true);
    json_t *storage = member(pipeline, "storage");
    plan->storage_root = storage != NULL ? text(&r, storage, "root", true) : NULL;
    read_sink(&r, pipeline, "quarantine", &plan->quarantine);
    if (!plan->quarantine.given) {
        plan->quarantine.present = storage != NULL;
    }
    plan->storage_options = storage != NULL ? member(storage, "options") : NULL;
    json_t *ledger = member(pipeline, "ledger");
    plan->ledger_path = ledger != NULL ? text(&r, ledger, "path", false) : NULL;
    plan->whole_ledger = ledger != NULL ? text(&r, ledger, "whole", false) : NULL;
    plan->only = text_list(&r, pipeline, "only", &plan->only_count);
    if (r.rc == WEIR_OK && plan->storage_root == NULL && plan->ledger_path == NULL) {
        fail(&r, "ledger.path", "a path, where there is no storage");
    }
    plan->ledger_keep_us = integer(&r, ledger, "keep_us", INT64_C(600000000));
    plan->ledger_segment_bytes = integer(&r, ledger, "segment_bytes", INT64_C(64) << 20);
    plan->snapshot_every_us = integer(&r, ledger, "snapshot_every_us", INT64_C(60000000));
    plan->commit_every_us = integer(&r, member(pipeline, "commit"), "every_us", 1000000);
    read_http(&r, member(member(pipeline, "serve"), "http"), &plan->http);
    json_t *memory = member(pipeline, "memory");
    plan->data_bytes = integer(&r, memory, "data_bytes", INT64_C(192) << 20);
    plan->state_bytes = integer(&r, memory, "state_bytes", INT64_C(1) << 30);

    plan->sources = list(&r, plan->root, "sources", sizeof(*plan->sources), &plan->source_count);
    for (int32_t i = 0; r.rc == WEIR_OK && i < plan->source_count; i++) {
        read_source(&r, json_array_get(member(plan->root, "sources"), (size_t)i),
                    &plan->sources[i]);
    }
    plan->streams = list(&r, plan->root, "streams", sizeof(*plan->streams), &plan->stream_count);
    for (int32_t i = 0; r.rc == WEIR_OK && i < plan->stream_count; i++) {
        read_stream(&r, json_array_get(member(plan->root, "streams"), (size_t)i),
                    &plan->streams[i]);
    }
    plan->models = list(&r, plan->root, "models", sizeof(*plan->models), &plan->model_count);
    for (int32_t i = 0; r.rc == WEIR_OK && i < plan->model_count; i++) {
        read_model(&r, json_array_get(member(plan->root, "models"), (size_t)i), &plan->models[i]);
    }
    plan->nulls = list(&r, plan->root, "functions", sizeof(*plan->nulls), &plan->function_count);
    plan->copies = calloc((size_t)plan->function_count + 1, sizeof(*plan->copies));
    if (plan->copies == NULL && r.rc == WEIR_OK) {
        r.rc = weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    for (int32_t i = 0; r.rc == WEIR_OK && i < plan->function_count; i++) {
        read_copies(&r, json_array_get(member(plan->root, "functions"), (size_t)i),
                    &plan->copies[i]);
        read_nulls(&r, json_array_get(member(plan->root, "functions"), (size_t)i), &plan->nulls[i]);
    }
out:
    if (r.rc != WEIR_OK) {
        weir_plan_destroy(plan);
        return r.rc;
    }
    *out = plan;
    return WEIR_OK;
}

void weir_plan_ledger_path(const struct weir_plan *plan, char *out, size_t size) {
    if (plan->ledger_path != NULL) {
        snprintf(out, size, "%s", plan->ledger_path);
    } else {
        snprintf(out, size, "%s/_weir/%s/ledger", plan->storage_root, plan->pipeline);
    }
}
