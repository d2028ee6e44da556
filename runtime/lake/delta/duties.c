#include "lake/delta/duties.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "core/clock.h"
#include "lake/delta/schema_json.h"
#include "lake/expression/expression.h"

#define CONSTRAINT "delta.constraints."
#define GENERATED "delta.generationExpression"
#define DEFAULT "CURRENT_DEFAULT"
#define INVARIANT "delta.invariants"

enum { CHECKS_MAX = 250, FILLED_MAX = 1000, TEXT_BYTES = 64 << 20 };

struct check {
    char *name;
    struct delta_expression *expression; /* NULL: `filled` failed to have a value */
    int32_t column;                      /* whose value the expression's must be; -1: it is true */
    int32_t filled;
};

/* A column rows lack. */
struct filled {
    struct delta_expression *expression; /* NULL: null */
    int32_t check;                       /* that tells of rows without a value; -1 */
    uint8_t failed[WEIR_BATCH_ROWS_MAX];
};

/* Those with defaults and those that stay null; then generated ones, which may be made of them. */
struct group {
    struct weir_schema *schema;
    struct weir_batch_builder builder;
    struct weir_pool *pool; /* the builder's; NULL before the first batch */
    int32_t first;          /* of filled */
};

struct weir_delta_duties {
    struct weir_schema *schema;
    int32_t given; /* columns of it that rows have */
    struct check checks[CHECKS_MAX];
    int32_t check_count;
    struct filled **filled;
    int32_t filled_count;
    struct group groups[2];
};

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "constraints of the table: out of memory");
}

/* --- making -------------------------------------------------------------------------------- */

static const char *note(const json_t *field, const char *key) {
    return json_string_value(json_object_get(json_object_get(field, "metadata"), key));
}

static const json_t *field_of(const json_t *fields, const char *name) {
    for (size_t i = 0; i < json_array_size(fields); i++) {
        const json_t *field = json_array_get(fields, i);
        const char *own = json_string_value(json_object_get(field, "name"));
        if (own != NULL && strcasecmp(own, name) == 0) {
            return field;
        }
    }
    return NULL;
}

bool weir_delta_fills(const struct weir_delta_metadata *metadata, const char *column) {
    json_t *root = json_loads(metadata->schema_string, 0, NULL);
    const json_t *field = field_of(json_object_get(root, "fields"), column);
    bool fills = note(field, GENERATED) != NULL || note(field, DEFAULT) != NULL;
    json_decref(root);
    return fills;
}

static int add_check(struct weir_delta_duties *duties, const char *before, const char *name,
                     const char *text, struct check **out, struct weir_error *err) {
    char what[256];
    if (duties->check_count == CHECKS_MAX) {
        return weir_error_set(err, WEIR_E_LIMIT, "the table has more than %d constraints",
                              CHECKS_MAX);
    }
    struct check *check = &duties->checks[duties->check_count];
    *check = (struct check){.column = -1, .filled = -1};
    if (asprintf(&check->name, "%s%s", before, name) < 0) {
        check->name = NULL;
        return no_memory(err);
    }
    duties->check_count++;
    *out = check;
    snprintf(what, sizeof(what), "%s%.200s", before[0] != '\0' ? "" : "check constraint ",
             check->name);
    return text != NULL
               ? delta_expression_compile(text, duties->schema, what, &check->expression, err)
               : WEIR_OK;
}

/* A constraint that is no condition would never be true. */
static int want_condition(const struct check *check, struct weir_error *err) {
    enum delta_kind kind = delta_expression_kind(check->expression);
    return kind == DELTA_KIND_BOOL || kind == DELTA_KIND_NULL
               ? WEIR_OK
               : weir_error_set(err, WEIR_E_UNSUPPORTED, "%s of the table is no condition",
                                check->name);
}

static int add_invariant(struct weir_delta_duties *duties, const char *column, const char *json,
                         struct weir_error *err) {
    json_t *root = json_loads(json, 0, NULL);
    const char *text =
        json_string_value(json_object_get(json_object_get(root, "expression"), "expression"));
    struct check *check = NULL;
    int rc = text != NULL ? add_check(duties, "invariant of ", column, text, &check, err)
                          : weir_error_set(err, WEIR_E_UNSUPPORTED,
                                           "column %s of the table has an invariant of a form weir "
                                           "does not know: %.200s",
                                           column, json);
    rc = rc == WEIR_OK ? want_condition(check, err) : rc;
    json_decref(root);
    return rc;
}

static int fill(struct weir_delta_duties *duties, struct group *group,
                const struct weir_field *field, const char *text, const char *what,
                struct weir_error *err) {
    struct filled *filled = calloc(1, sizeof(*filled));
    if (filled == NULL || duties->filled_count == FILLED_MAX) {
        free(filled);
        return no_memory(err);
    }
    duties->filled[duties->filled_count++] = filled;
    filled->check = -1;
    int rc = weir_schema_add(group->schema, field);
    if (rc != WEIR_OK) {
        return no_memory(err);
    }
    group->schema->fields[group->schema->count - 1].nullable = true;
    if (text != NULL) {
        rc = delta_expression_compile(text, duties->schema, what, &filled->expression, err);
        rc = rc == WEIR_OK ? delta_expression_cast(filled->expression, field, what, err) : rc;
    }
    if (rc == WEIR_OK) {
        rc = weir_schema_add(duties->schema, field);
    }
    return rc;
}

/* Columns rows lack: those with a default and those that stay null first, since generated ones may
 * be made of them. */
static int add_filled(struct weir_delta_duties *duties, const struct weir_schema *table,
                      const struct weir_delta_metadata *metadata, const json_t *fields,
                      bool generated, struct weir_error *err) {
    struct group *group = &duties->groups[generated];
    int rc = WEIR_OK;
    group->first = duties->filled_count;
    group->schema = weir_schema_create();
    if (group->schema == NULL) {
        return no_memory(err);
    }
    for (int32_t i = 0; i < table->count && rc == WEIR_OK; i++) {
        const struct weir_field *field = &table->fields[i];
        const json_t *json = field_of(fields, field->name);
        const char *expression = note(json, GENERATED);
        const char *value = note(json, DEFAULT);
        char what[256];
        int32_t at = -1;
        for (int32_t c = 0; c < duties->given; c++) {
            at = strcasecmp(duties->schema->fields[c].name, field->name) == 0 ? c : at;
        }
        bool partition = false;
        for (int32_t p = 0; p < metadata->partition_count; p++) {
            partition |= strcmp(metadata->partition_columns[p], field->name) == 0;
        }
        snprintf(what, sizeof(what), "%s %.200s",
                 expression != NULL ? "generated column" : "default of column", field->name);
        if ((expression != NULL) != generated) {
            continue;
        }
        struct check *check = NULL;
        if (at < 0 && (expression != NULL || value != NULL || !partition)) {
            rc = fill(duties, group, field, expression != NULL ? expression : value, what, err);
            if (rc == WEIR_OK && (expression != NULL || value != NULL)) {
                rc = add_check(duties, what, "", NULL, &check, err);
                duties->filled[duties->filled_count - 1]->check = duties->check_count - 1;
            }
            if (rc == WEIR_OK && check != NULL) {
                check->filled = duties->filled_count - 1;
            }
        } else if (at >= 0 && expression != NULL) {
            rc = add_check(duties, "generated column ", field->name, expression, &check, err);
            rc = rc == WEIR_OK ? delta_expression_cast(check->expression,
                                                       &duties->schema->fields[at], what, err)
                               : rc;
            if (rc == WEIR_OK) {
                check->column = at;
            }
        }
    }
    return rc;
}

static int add_checks(struct weir_delta_duties *duties, const struct weir_delta_metadata *metadata,
                      const json_t *fields, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; i < metadata->configuration_count && rc == WEIR_OK; i++) {
        const struct weir_delta_pair *pair = &metadata->configuration[i];
        struct check *check = NULL;
        if (strncmp(pair->key, CONSTRAINT, strlen(CONSTRAINT)) == 0) {
            rc = add_check(duties, "", pair->key + strlen(CONSTRAINT), pair->value, &check, err);
            rc = rc == WEIR_OK ? want_condition(check, err) : rc;
        }
    }
    for (size_t i = 0; i < json_array_size(fields) && rc == WEIR_OK; i++) {
        const json_t *field = json_array_get(fields, i);
        const char *name = json_string_value(json_object_get(field, "name"));
        const char *invariant = note(field, INVARIANT);
        char deeper[128];
        if (invariant != NULL && name != NULL) {
            rc = add_invariant(duties, name, invariant, err);
        }
        if (rc == WEIR_OK &&
            delta_schema_notes(json_object_get(field, "type"), INVARIANT, deeper, sizeof(deeper))) {
            rc = weir_error_set(err, WEIR_E_UNSUPPORTED,
                                "field %s inside column %s of the table has an invariant, which "
                                "weir does not check; state it as a check constraint",
                                deeper, name);
        }
    }
    return rc;
}

static bool owes(const struct weir_delta_metadata *metadata, const struct weir_schema *schema,
                 const json_t *root) {
    const json_t *fields = json_object_get(root, "fields");
    char name[128];
    if (delta_schema_notes(root, INVARIANT, name, sizeof(name)) ||
        delta_schema_notes(root, GENERATED, name, sizeof(name))) {
        return true;
    }
    for (int32_t i = 0; i < metadata->configuration_count; i++) {
        if (strncmp(metadata->configuration[i].key, CONSTRAINT, strlen(CONSTRAINT)) == 0) {
            return true;
        }
    }
    for (size_t i = 0; i < json_array_size(fields); i++) {
        const json_t *field = json_array_get(fields, i);
        const char *own = json_string_value(json_object_get(field, "name"));
        if (own != NULL && note(field, DEFAULT) != NULL && weir_schema_find(schema, own) < 0) {
            return true;
        }
    }
    return false;
}

int weir_delta_duties_create(struct weir_delta_snapshot *snapshot, struct weir_schema *schema,
                             struct weir_delta_duties **out, struct weir_error *err) {
    const struct weir_delta_metadata *metadata = weir_delta_snapshot_metadata(snapshot);
    const struct weir_schema *table;
    struct weir_delta_duties *duties = NULL;
    *out = NULL;
    int rc = weir_delta_snapshot_schema(snapshot, &table, NULL, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    json_t *root = json_loads(metadata->schema_string, 0, NULL);
    const json_t *fields = json_object_get(root, "fields");
    if (!owes(metadata, schema, root)) {
        json_decref(root);
        return WEIR_OK;
    }
    duties = calloc(1, sizeof(*duties));
    if (duties != NULL) {
        duties->filled = calloc(FILLED_MAX, sizeof(*duties->filled));
        duties->schema = weir_schema_create();
        duties->given = schema->count;
    }
    rc = duties != NULL && duties->filled != NULL && duties->schema != NULL ? WEIR_OK
                                                                            : no_memory(err);
    for (int32_t i = 0; i < schema->count && rc == WEIR_OK; i++) {
        rc = weir_schema_add(duties->schema, &schema->fields[i]) == WEIR_OK ? rc : no_memory(err);
    }
    rc = rc == WEIR_OK ? add_filled(duties, table, metadata, fields, false, err) : rc;
    rc = rc == WEIR_OK ? add_filled(duties, table, metadata, fields, true, err) : rc;
    rc = rc == WEIR_OK ? add_checks(duties, metadata, fields, err) : rc;
    json_decref(root);
    if (rc != WEIR_OK) {
        weir_delta_duties_destroy(duties);
        return rc;
    }
    *out = duties;
    return WEIR_OK;
}

void weir_delta_duties_destroy(struct weir_delta_duties *duties) {
    if (duties == NULL) {
        return;
    }
    for (int32_t i = 0; i < duties->check_count; i++) {
        free(duties->checks[i].name);
        delta_expression_destroy(duties->checks[i].expression);
    }
    for (int32_t i = 0; i < duties->filled_count; i++) {
        struct filled *filled = duties->filled[i];
        delta_expression_destroy(filled->expression);
        free(filled);
    }
    for (int32_t i = 0; i < 2; i++) {
        if (duties->groups[i].pool != NULL) {
            weir_batch_builder_fini(&duties->groups[i].builder);
        }
        weir_schema_unref(duties->groups[i].schema);
    }
    free(duties->filled);
    weir_schema_unref(duties->schema);
    free(duties);
}

struct weir_schema *weir_delta_duties_schema(struct weir_delta_duties *duties) {
    return duties->schema;
}

int32_t weir_delta_duties_count(const struct weir_delta_duties *duties) {
    return duties->check_count;
}

const char *weir_delta_duties_name(const struct weir_delta_duties *duties, int32_t check) {
    return duties->checks[check].name;
}

/* --- rows ---------------------------------------------------------------------------------- */

static int build_row(struct weir_delta_duties *duties, struct group *group,
                     const struct weir_batch *batch, int32_t row, bool wanted, int64_t now_us) {
    int rc = WEIR_OK;
    for (int32_t c = 0; c < group->schema->count && rc == WEIR_OK; c++) {
        struct filled *filled = duties->filled[group->first + c];
        struct delta_value value = {.is_null = true};
        filled->failed[row] =
            wanted && filled->expression != NULL &&
            delta_expression_evaluate(filled->expression, batch, row, now_us, &value) != NULL;
        rc = value.is_null || filled->failed[row] != 0
                 ? weir_builder_null(&group->builder.columns[c])
                 : delta_value_append(filled->expression, &value, &group->builder.columns[c]);
    }
    if (rc == WEIR_OK) {
        weir_batch_builder_finish_row(&group->builder);
    }
    return rc;
}

/* The group's columns of rows [0, rows) of `batch`: values for those of sel, else null. */
static int build(struct weir_delta_duties *duties, struct group *group, struct weir_batch *batch,
                 const int32_t *sel, int32_t count, int64_t now_us, struct weir_batch **out,
                 struct weir_error *err) {
    int32_t next = 0;
    if (group->pool != batch->pool) {
        if (group->pool != NULL) {
            weir_batch_builder_fini(&group->builder);
        }
        group->pool = NULL;
        int rc = weir_batch_builder_init(&group->builder, batch->pool, group->schema,
                                         WEIR_BATCH_ROWS_MAX, TEXT_BYTES, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        group->pool = batch->pool;
    }
    int rc = weir_batch_builder_begin_rows(&group->builder, batch->rows > 0 ? batch->rows : 1);
    for (int32_t row = 0; row < batch->rows && rc == WEIR_OK; row++) {
        bool wanted = sel == NULL ? row < count : next < count && sel[next] == row;
        next += wanted;
        rc = build_row(duties, group, batch, row, wanted, now_us);
    }
    *out = weir_batch_builder_take(&group->builder);
    if (rc != WEIR_OK) {
        weir_batch_unref(*out);
        *out = NULL;
        return weir_error_set(err, rc, "columns the table fills in: %s", weir_error_text(rc));
    }
    return WEIR_OK;
}

static int extend(struct weir_delta_duties *duties, struct weir_batch *batch, const int32_t *sel,
                  int32_t count, struct weir_batch **out, struct weir_error *err) {
    int64_t now_us = weir_clock_wall_us();
    struct weir_batch *full = weir_batch_create(batch->pool, duties->schema);
    int rc = full != NULL ? WEIR_OK : WEIR_E_LIMIT;
    for (int32_t i = 0; i < duties->given && rc == WEIR_OK; i++) {
        rc = weir_batch_borrow(full, i, batch, i);
    }
    if (rc != WEIR_OK) {
        weir_batch_unref(full);
        return weir_error_set(err, rc, "columns the table fills in: the memory cap is reached");
    }
    full->rows = batch->rows;
    for (int32_t g = 0; g < 2 && rc == WEIR_OK; g++) {
        struct group *group = &duties->groups[g];
        struct weir_batch *made = NULL;
        if (group->schema->count == 0) {
            continue;
        }
        rc = build(duties, group, full, sel, count, now_us, &made, err);
        for (int32_t c = 0; rc == WEIR_OK && c < group->schema->count; c++) {
            rc = weir_batch_borrow(full, duties->given + group->first + c, made, c);
            rc = rc == WEIR_OK ? rc : no_memory(err);
        }
        weir_batch_unref(made);
    }
    if (rc != WEIR_OK) {
        weir_batch_unref(full);
        return rc;
    }
    *out = full;
    return WEIR_OK;
}

static bool passes(struct weir_delta_duties *duties, const struct check *check,
                   const struct weir_batch *batch, int32_t row, int64_t now_us) {
    struct delta_value value;
    if (check->filled >= 0) {
        return duties->filled[check->filled]->failed[row] == 0;
    }
    if (delta_expression_evaluate(check->expression, batch, row, now_us, &value) != NULL) {
        return false;
    }
    return check->column >= 0
               ? delta_value_equals(check->expression, &value, &batch->columns[check->column], row)
               : !value.is_null && value.integer != 0;
}

int weir_delta_duties_judge(struct weir_delta_duties *duties, struct weir_batch *batch,
                            const int32_t *sel, int32_t count, uint8_t *verdict,
                            struct weir_error *err) {
    struct weir_batch *full = NULL;
    int64_t now_us = weir_clock_wall_us();
    int rc = duties->filled_count > 0 ? extend(duties, batch, sel, count, &full, err) : WEIR_OK;
    if (rc != WEIR_OK) {
        return rc;
    }
    const struct weir_batch *rows = full != NULL ? full : batch;
    for (int32_t i = 0; i < count; i++) {
        verdict[i] = 0;
        for (int32_t c = 0; c < duties->check_count && verdict[i] == 0; c++) {
            if (!passes(duties, &duties->checks[c], rows, sel != NULL ? sel[i] : i, now_us)) {
                verdict[i] = (uint8_t)(c + 1);
            }
        }
    }
    weir_batch_unref(full);
    return WEIR_OK;
}

int weir_delta_duties_complete(struct weir_delta_duties *duties, struct weir_batch *batch,
                               const int32_t *sel, int32_t count, struct weir_batch **out,
                               struct weir_error *err) {
    if (duties->filled_count == 0) {
        *out = weir_batch_ref(batch);
        return WEIR_OK;
    }
    int rc = extend(duties, batch, sel, count, out, err);
    for (int32_t i = 0; i < duties->filled_count && rc == WEIR_OK; i++) {
        const struct filled *filled = duties->filled[i];
        if (memchr(filled->failed, 1, (size_t)batch->rows) != NULL) {
            weir_batch_unref(*out);
            *out = NULL;
            rc = weir_error_set(err, WEIR_E_DATA, "a row has no value for the %s",
                                duties->checks[filled->check].name);
        }
    }
    return rc;
}

/* --- changes ------------------------------------------------------------------------------- */

char *weir_delta_duties_text(const struct weir_delta_metadata *metadata) {
    json_t *root = json_loads(metadata->schema_string, 0, NULL);
    const json_t *fields = json_object_get(root, "fields");
    json_t *all = json_object();
    for (int32_t i = 0; i < metadata->configuration_count; i++) {
        const struct weir_delta_pair *pair = &metadata->configuration[i];
        if (strncmp(pair->key, CONSTRAINT, strlen(CONSTRAINT)) == 0) {
            json_object_set_new(all, pair->key, json_string(pair->value));
        }
    }
    for (size_t i = 0; i < json_array_size(fields); i++) {
        static const char *const keys[] = {GENERATED, INVARIANT};
        const json_t *field = json_array_get(fields, i);
        const char *name = json_string_value(json_object_get(field, "name"));
        for (size_t k = 0; k < 2 && name != NULL; k++) {
            char key[300];
            snprintf(key, sizeof(key), "%.200s %s", name, keys[k]);
            if (note(field, keys[k]) != NULL) {
                json_object_set_new(all, key, json_string(note(field, keys[k])));
            }
        }
    }
    char *text = json_dumps(all, JSON_SORT_KEYS | JSON_COMPACT);
    json_decref(all);
    json_decref(root);
    return text;
}
