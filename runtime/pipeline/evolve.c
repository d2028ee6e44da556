#include "pipeline/evolve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "decode/decoder.h"
#include "lake/delta/alter.h"
#include "lake/delta/convert.h"

enum { PAD_TEXT = 3, BATCH_BYTES_MAX = 16 << 20 };

/* --- what comes from outside -------------------------------------------------------------------
 */

static bool is_outside(const struct weir_plan_source *source) {
    return source->decoder != NULL &&
           json_object_get(source->decoder_options, "registry") != NULL &&
           json_object_get(source->decoder_options, "schema") == NULL;
}

bool evolve_any_outside(const struct weir_plan *plan) {
    bool any = false;
    for (int32_t i = 0; i < plan->source_count; i++) {
        any |= is_outside(&plan->sources[i]);
    }
    return any;
}

static char *dump(const json_t *options) {
    return options != NULL ? json_dumps(options, JSON_COMPACT) : strdup("{}");
}

int evolve_outside_of(const struct weir_plan *plan, struct evolve_outside **out, int32_t *count,
                      struct weir_error *err) {
    struct evolve_outside *list = calloc((size_t)plan->source_count + 1, sizeof(*list));
    *count = 0;
    *out = list;
    bool good = list != NULL;
    for (int32_t i = 0; good && i < plan->source_count; i++) {
        const struct weir_plan_source *source = &plan->sources[i];
        if (is_outside(source)) {
            struct evolve_outside *one = &list[(*count)++];
            one->name = strdup(source->name);
            one->kind = strdup(source->connector);
            one->options = dump(source->connector_options);
            one->decoder = strdup(source->decoder);
            one->decoder_options = dump(source->decoder_options);
            one->known = weir_schema_ref(source->schema);
            good = one->name != NULL && one->kind != NULL && one->options != NULL &&
                   one->decoder != NULL && one->decoder_options != NULL;
        }
    }
    return good ? WEIR_OK : weir_error_set(err, WEIR_E_NOMEM, "columns: out of memory");
}

void evolve_outside_free(struct evolve_outside *list, int32_t count) {
    for (int32_t i = 0; list != NULL && i < count; i++) {
        free(list[i].name);
        free(list[i].kind);
        free(list[i].options);
        free(list[i].decoder);
        free(list[i].decoder_options);
        weir_schema_unref(list[i].known);
        weir_schema_unref(list[i].fresh);
    }
    free(list);
}

/* What the newest schema dropped from inside a type stays and is null from then on; what it added
 * comes behind what is there, so that columns only grow. `to` is of the newest type. */
static int keep_members(struct weir_field *to, const struct weir_field *known) {
    int rc = WEIR_OK;
    if (to->type != known->type || !weir_type_is_nested(to->type)) {
        return WEIR_OK;
    }
    if (to->type != WEIR_TYPE_STRUCT) {
        for (int32_t i = 0; rc == WEIR_OK && i < to->child_count; i++) {
            rc = keep_members(&to->children[i], &known->children[i]);
        }
        return rc;
    }
    struct weir_field all = {0};
    all.children =
        calloc((size_t)to->child_count + (size_t)known->child_count + 1, sizeof(*all.children));
    rc = all.children != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (int32_t i = 0; rc == WEIR_OK && i < known->child_count; i++) {
        int32_t at = weir_field_find(to, known->children[i].name);
        struct weir_field *child = &all.children[i];
        rc = weir_field_copy(child, at >= 0 ? &to->children[at] : &known->children[i]);
        all.child_count += rc == WEIR_OK;
        rc = rc == WEIR_OK && at >= 0 ? keep_members(child, &known->children[i]) : rc;
    }
    for (int32_t i = 0; rc == WEIR_OK && i < to->child_count; i++) {
        if (weir_field_find(known, to->children[i].name) < 0) {
            rc = weir_field_copy(&all.children[all.child_count], &to->children[i]);
            all.child_count += rc == WEIR_OK;
        }
    }
    struct weir_field *before = to->children;
    int32_t count = to->child_count;
    if (rc == WEIR_OK) {
        to->children = all.children;
        to->child_count = all.child_count;
        all.children = before;
        all.child_count = count;
    }
    weir_field_fini(&all);
    return rc;
}

/* Newer rows have null, or its default, where the newest schema dropped a column. */
static int keep_dropped(struct evolve_outside *one, struct weir_schema *newest,
                        struct weir_error *err) {
    struct weir_schema *all = weir_schema_create();
    int rc = all != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (int32_t i = 0; rc == WEIR_OK && i < newest->count; i++) {
        rc = weir_schema_add(all, &newest->fields[i]);
        int32_t at = weir_schema_find(one->known, newest->fields[i].name);
        rc = rc == WEIR_OK && at >= 0 ? keep_members(&all->fields[i], &one->known->fields[at]) : rc;
    }
    for (int32_t i = 0; rc == WEIR_OK && i < one->known->count; i++) {
        if (weir_schema_find(newest, one->known->fields[i].name) < 0) {
            rc = weir_schema_add(all, &one->known->fields[i]);
        }
    }
    if (rc != WEIR_OK) {
        weir_schema_unref(all);
        return weir_error_set(err, rc, "columns: out of memory");
    }
    weir_schema_unref(one->fresh);
    one->fresh = all;
    return WEIR_OK;
}

int evolve_ask(struct evolve_outside *list, int32_t count, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        struct evolve_outside *one = &list[i];
        struct weir_schema *decoded;
        struct weir_schema *user = NULL;
        rc = weir_decoder_columns(one->decoder, one->decoder_options, one->kind, one->options,
                                  &decoded, err);
        if (rc == WEIR_OK) {
            rc = weir_source_columns(one->kind, one->options, decoded, &user, err);
        }
        rc = rc == WEIR_OK ? keep_dropped(one, user, err) : rc;
        weir_schema_unref(user);
        if (rc != WEIR_OK) {
            weir_error_wrap(err, "columns of %s", one->name);
        }
    }
    return rc;
}

/* --- what may change ---------------------------------------------------------------------------
 */

/* Columns of `before` are in `after` as they were, of a wider type, with more members, or may be
 * null now; *wider says whether one is wider. Rows a source reads keep all of them. */
static int check_growth(const char *name, const struct weir_schema *before,
                        const struct weir_schema *after, bool may_lose, bool *wider,
                        struct weir_error *err) {
    *wider = false;
    for (int32_t i = 0; i < before->count; i++) {
        const struct weir_field *old = &before->fields[i];
        int32_t at = weir_schema_find(after, old->name);
        if (at < 0 && may_lose) {
            continue;
        }
        if (at < 0) {
            return weir_error_set(err, WEIR_E_CONFIG,
                                  "%s loses column `%s`; restart the pipeline to let it go", name,
                                  old->name);
        }
        bool holds = weir_field_holds(&after->fields[at], old);
        *wider = *wider || !holds;
        if (!holds && !weir_delta_widens(old, &after->fields[at])) {
            struct weir_buffer type;
            weir_buffer_init(&type, 4096);
            const char *text = weir_field_format_type(&after->fields[at], &type) == WEIR_OK
                                   ? weir_buffer_text(&type)
                                   : NULL;
            int rc = weir_error_set(err, WEIR_E_CONFIG,
                                    "column `%s` of %s would become %s; columns are added, and get "
                                    "wider types, while the pipeline runs; other types are for a "
                                    "restart",
                                    old->name, name, text != NULL ? text : "another type");
            weir_buffer_fini(&type);
            return rc;
        }
        if (old->nullable && !after->fields[at].nullable) {
            return weir_error_set(err, WEIR_E_CONFIG,
                                  "column `%s` of %s may not be null any more; restart the "
                                  "pipeline to change that",
                                  old->name, name);
        }
    }
    return WEIR_OK;
}

int evolve_check_source(struct weir_source *source, const struct weir_plan_source *before,
                        const struct weir_plan_source *after, struct weir_error *err) {
    if (weir_schema_equal(before->schema, after->schema)) {
        return WEIR_OK;
    }
    if (!weir_source_columns_change(source)) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "the columns of source %s changed; restart to read them",
                              after->name);
    }
    bool wider;
    int rc = check_growth(after->name, before->schema, after->schema, false, &wider, err);
    for (int32_t i = 0; rc == WEIR_OK && i < after->schema->count; i++) {
        const struct weir_field *field = &after->schema->fields[i];
        if (!field->nullable && field->default_json == NULL &&
            weir_schema_find(before->schema, field->name) < 0) {
            rc = weir_error_set(err, WEIR_E_CONFIG,
                                "the new column `%s` of %s has no default and may not be null; "
                                "give it one of both in the schema",
                                field->name, after->name);
        }
    }
    return rc;
}

int evolve_check_dataset(struct weir_pipeline *p, const struct weir_dataset *before,
                         const struct weir_dataset *after, struct weir_error *err) {
    if (weir_schema_equal(before->schema, after->schema)) {
        return WEIR_OK;
    }
    bool wider;
    int rc = check_growth(after->name, before->schema, after->schema, true, &wider, err);
    return rc == WEIR_OK ? weir_sinks_takes(p->sinks, (int32_t)((uintptr_t)before->sink - 1),
                                            after->schema, wider, err)
                         : rc;
}

/* --- the change --------------------------------------------------------------------------------
 */

int evolve_apply(struct weir_pipeline *p, struct weir_graph *after, const struct weir_plan *plan,
                 struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < weir_graph_dataset_count(after); i++) {
        struct weir_dataset *dataset = weir_graph_dataset(after, i);
        const struct weir_dataset *old = weir_graph_find(p->graph, dataset->name);
        if (dataset->sink != NULL && old != NULL &&
            !weir_schema_equal(old->schema, dataset->schema)) {
            rc = weir_sinks_evolve(p->sinks, (int32_t)((uintptr_t)dataset->sink - 1),
                                   dataset->schema, err);
        }
    }
    for (int32_t s = 0; rc == WEIR_OK && s < p->source_count; s++) {
        if (!weir_schema_equal(p->plan->sources[s].schema, plan->sources[s].schema)) {
            rc = weir_source_set_columns(p->sources[s].source, plan->sources[s].schema, err);
            p->columns_changed++;
            weir_log_info("pipeline", "source=%s has %d columns from epoch %llu on",
                          plan->sources[s].name, (int)plan->sources[s].schema->count,
                          (unsigned long long)p->epoch);
        }
        if (rc == WEIR_OK) {
            weir_source_project(p->sources[s].source, plan->sources[s].decoded);
        }
    }
    return rc;
}

/* As many rows of these columns, each its default: what a JSON text without any of them gives. */
static int make_pad(struct weir_pool *pool, struct weir_schema *missing, int32_t rows,
                    struct weir_batch **out, struct weir_error *err) {
    struct weir_schema *full = weir_decode_full_schema(missing);
    struct weir_decoder *decoder = NULL;
    struct weir_batch_builder builder;
    struct weir_reject_batch *rejects = NULL;
    size_t size = (size_t)rows * PAD_TEXT;
    uint8_t *text = calloc(1, size + WEIR_DECODE_PADDING);
    struct weir_frame *frames = calloc((size_t)rows, sizeof(*frames));
    int32_t consumed = 0;
    *out = NULL;
    int rc = full == NULL || text == NULL || frames == NULL
                 ? weir_error_set(err, WEIR_E_NOMEM, "columns: out of memory")
                 : weir_decoder_create(&decoder, "json", "{}", missing, err);
    for (int32_t i = 0; rc == WEIR_OK && i < rows; i++) {
        memcpy(text + (size_t)i * PAD_TEXT, "{}\n", PAD_TEXT);
        frames[i] = (struct weir_frame){.start = (uint32_t)(i * PAD_TEXT), .length = 2};
    }
    bool begun = rc == WEIR_OK && weir_batch_builder_init(&builder, pool, full, rows,
                                                          BATCH_BYTES_MAX, err) == WEIR_OK;
    rc = rc == WEIR_OK && !begun ? WEIR_E_NOMEM : rc;
    rc = rc == WEIR_OK ? weir_batch_builder_begin(&builder) : rc;
    if (rc == WEIR_OK) {
        rc = weir_decoder_decode(decoder, text, frames, rows, &builder, &rejects, &consumed);
    }
    if (rc == WEIR_OK && (consumed < rows || rejects != NULL)) {
        rc = weir_error_set(err, WEIR_E_BUG, "columns without a default were added");
    }
    if (rc == WEIR_OK) {
        *out = weir_batch_builder_take(&builder);
        rc = *out == NULL ? WEIR_E_LIMIT : WEIR_OK;
    }
    if (begun) {
        weir_batch_builder_fini(&builder);
    }
    weir_reject_batch_destroy(rejects);
    weir_decoder_destroy(decoder);
    weir_schema_unref(full);
    free(frames);
    free(text);
    return rc;
}

static int take_column(struct weir_batch *made, int32_t i, struct weir_batch *parent, int32_t at,
                       struct weir_error *err) {
    const struct weir_field *to = &made->schema->fields[i];
    const struct weir_field *from = &parent->schema->fields[at];
    const struct weir_delta_column plain = {.physical_name = from->name, .field_id = -1};
    int rc = weir_batch_borrow(made, i, parent, at);
    if (rc != WEIR_OK || weir_field_same_type(to, from)) {
        return rc;
    }
    if (weir_type_is_nested(to->type)) {
        return weir_column_grow(&made->columns[i], to, &parent->columns[at], from, parent->rows,
                                made);
    }
    return delta_convert_column(to, &plain, from, &parent->columns[at], parent->rows, made,
                                &made->columns[i], err);
}

static int widen(struct weir_pool *pool, struct weir_schema *full, struct weir_batch *from,
                 struct weir_batch **out, struct weir_error *err) {
    struct weir_schema *missing = weir_schema_create();
    struct weir_batch *pad = NULL;
    struct weir_batch *made = NULL;
    int rc = missing != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (int32_t i = 0; rc == WEIR_OK && i < full->count; i++) {
        if (weir_schema_find(from->schema, full->fields[i].name) < 0) {
            rc = weir_schema_add(missing, &full->fields[i]);
        }
    }
    rc = rc == WEIR_OK && missing->count > 0 ? make_pad(pool, missing, from->rows, &pad, err) : rc;
    if (rc == WEIR_OK) {
        made = weir_batch_create(pool, full);
        rc = made != NULL ? WEIR_OK : WEIR_E_LIMIT;
    }
    for (int32_t i = 0; rc == WEIR_OK && i < full->count; i++) {
        int32_t at = weir_schema_find(from->schema, full->fields[i].name);
        struct weir_batch *parent = at >= 0 ? from : pad;
        at = at >= 0 ? at : weir_schema_find(missing, full->fields[i].name);
        rc = take_column(made, i, parent, at, err);
    }
    if (rc == WEIR_OK) {
        made->rows = from->rows;
        *out = made;
    } else {
        weir_batch_unref(made);
    }
    weir_batch_unref(pad);
    weir_schema_unref(missing);
    return rc;
}

/* Columns are only added, get wider or more members, or may be null: as many, of the same types,
 * are the same. */
static bool is_of(const struct weir_batch *batch, const struct weir_schema *full) {
    bool same = batch->schema->count >= full->count;
    for (int32_t i = 0; same && i < full->count; i++) {
        same = batch->schema == full ||
               weir_field_same_type(&batch->schema->fields[i], &full->fields[i]);
    }
    return same;
}

int evolve_batch(struct weir_pool *pool, const struct weir_plan_source *source,
                 struct weir_batch **batch, struct weir_error *err) {
    struct weir_schema *full = source->full_schema;
    struct weir_batch *wide = NULL;
    if ((*batch)->rows == 0 || is_of(*batch, full)) {
        return WEIR_OK;
    }
    int rc = widen(pool, full, *batch, &wide, err);
    if (rc != WEIR_OK) {
        return weir_error_wrap(err, "add columns to rows of %s", source->name);
    }
    weir_batch_unref(*batch);
    *batch = wide;
    return WEIR_OK;
}

/* --- in the ledger -----------------------------------------------------------------------------
 */

static json_t *columns_json(const struct weir_schema *schema) {
    json_t *list = json_array();
    struct weir_buffer type;
    weir_buffer_init(&type, 16 << 20);
    for (int32_t i = 0; list != NULL && i < schema->count; i++) {
        const struct weir_field *field = &schema->fields[i];
        weir_buffer_clear(&type);
        const char *text =
            weir_field_format_type(field, &type) == WEIR_OK ? weir_buffer_text(&type) : NULL;
        json_t *one = text == NULL
                          ? NULL
                          : json_pack("{s:s,s:s,s:b,s:s*}", "name", field->name, "type", text,
                                      "nullable", field->nullable, "default", field->default_json);
        if (one == NULL || json_array_append_new(list, one) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    weir_buffer_fini(&type);
    return list;
}

int evolve_put(struct weir_pipeline *p, struct weir_record *record, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < p->plan->source_count; i++) {
        const struct weir_plan_source *source = &p->plan->sources[i];
        if (!is_outside(source)) {
            continue;
        }
        char key[512];
        snprintf(key, sizeof(key), EVOLVE_KEY "%s", source->name);
        json_t *list = columns_json(source->schema);
        char *text = list != NULL ? json_dumps(list, JSON_COMPACT) : NULL;
        rc = text == NULL ? weir_error_set(err, WEIR_E_NOMEM, "columns: out of memory")
                          : weir_record_put_bytes(record, WEIR_SECTION_COUNTERS, key, strlen(key),
                                                  text, strlen(text), err);
        free(text);
        json_decref(list);
    }
    return rc;
}

int evolve_parse(const void *text, size_t size, struct weir_schema **out, struct weir_error *err) {
    json_t *list = json_loadb(text, size, 0, NULL);
    struct weir_schema *schema = weir_schema_create();
    int rc = schema != NULL && json_is_array(list)
                 ? WEIR_OK
                 : weir_error_set(err, WEIR_E_CORRUPT, "a record's columns cannot be read");
    size_t i;
    json_t *one;
    json_array_foreach(list, i, one) {
        const char *name = json_string_value(json_object_get(one, "name"));
        const char *type = json_string_value(json_object_get(one, "type"));
        const char *otherwise = json_string_value(json_object_get(one, "default"));
        if (rc == WEIR_OK) {
            rc = name == NULL || type == NULL
                     ? weir_error_set(err, WEIR_E_CORRUPT, "a record's columns cannot be read")
                     : weir_schema_add_text(schema, name, type,
                                            json_is_true(json_object_get(one, "nullable")), err);
        }
        if (rc == WEIR_OK && otherwise != NULL) {
            schema->fields[schema->count - 1].default_json = strdup(otherwise);
        }
    }
    json_decref(list);
    if (rc != WEIR_OK) {
        weir_schema_unref(schema);
        return rc;
    }
    *out = schema;
    return WEIR_OK;
}
