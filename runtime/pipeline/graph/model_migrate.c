/* What functions of a model say of groups that another version wrote: where measures begin that did
 * not see the rows before. They get what the old measures came to, in the form in which those of
 * rules get a key's cells (docs/formats/state.md), and assign columns, a measure each. */
#include <stdlib.h>
#include <string.h>

#include "operator/show.h"
#include "pipeline/graph/node.h"
#include "state/image.h"

enum {
    TRY_KEY_BYTES = 1 << 16,
    OLD_BYTES_MAX = 256 << 20,
    IMAGE_HEAD = 16, /* where a rule's has the layout and the time */
    OLD_ROWS = 256
};

struct model_migrate {
    struct weir_schema *schema; /* of starts */
    struct weir_out **outs;
    int32_t *measures; /* by column */
};

/* Before an image: what the loop finds it by (abi/call.h, from). */
struct old_head {
    int64_t version;
    const char *text;
};

static int no_memory(const struct weir_node *node, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", node->name);
}

int model_migrate_init(struct weir_node *node, struct weir_error *err) {
    const struct weir_plan_model *model = node->model;
    struct model_migrate *migrate = node->migrate = calloc(1, sizeof(*migrate));
    if (migrate == NULL) {
        return no_memory(node, err);
    }
    migrate->schema = weir_schema_create();
    migrate->measures = calloc((size_t)model->measure_count + 1, sizeof(*migrate->measures));
    int rc = migrate->schema != NULL && migrate->measures != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (int32_t m = 0; rc == WEIR_OK && m < model->measure_count; m++) {
        if (model->measures[m].start != NULL) {
            migrate->measures[migrate->schema->count] = m;
            rc = weir_schema_add_text(migrate->schema, model->measures[m].name,
                                      model->measures[m].start, true, err);
        }
    }
    return rc == WEIR_OK ? outs_create(migrate->schema, &migrate->outs, err) : rc;
}

void model_migrate_fini(struct weir_node *node) {
    struct model_migrate *migrate = node->migrate;
    if (migrate != NULL) {
        outs_destroy(migrate->outs, migrate->schema != NULL ? migrate->schema->count : 0);
        weir_schema_unref(migrate->schema);
        free(migrate->measures);
        free(migrate);
    }
}

/* --- what was ---------------------------------------------------------------------------------
 */

static int put_text(struct weir_buffer *out, const struct weir_column *column, int32_t row) {
    uint8_t varint[WEIR_VARINT_MAX];
    int32_t length;
    const char *bytes = weir_column_bytes(column, row, &length);
    int rc = weir_buffer_append(out, varint,
                                (size_t)(weir_varint_put(varint, (uint64_t)length) - varint));
    return rc == WEIR_OK ? weir_buffer_append(out, bytes, (size_t)length) : rc;
}

static int put_value(struct weir_buffer *out, const struct weir_column *column, int32_t row) {
    double number;
    int64_t whole;
    switch (column->type) {
    case WEIR_TYPE_STRING:
    case WEIR_TYPE_BINARY:
        return put_text(out, column, row);
    case WEIR_TYPE_DECIMAL:
        return weir_buffer_append(out, (const uint8_t *)column->values + (size_t)row * 16, 16);
    case WEIR_TYPE_FLOAT:
        number = (double)((const float *)column->values)[row];
        return weir_buffer_append(out, &number, sizeof(number));
    case WEIR_TYPE_DOUBLE:
        return weir_buffer_append(out, (const double *)column->values + row, sizeof(number));
    case WEIR_TYPE_BOOL:
        whole = weir_bit_get(column->values, row);
        return weir_buffer_append(out, &whole, sizeof(whole));
    default:
        whole = weir_column_int(column, row);
        return weir_buffer_append(out, &whole, sizeof(whole));
    }
}

/* One entry of a rule's cell, or none: null, or a list or struct, which functions do not see. */
static int put_cell(struct weir_buffer *out, const struct weir_column *column, int32_t row) {
    static const uint8_t none[1] = {0};
    static const uint8_t one[1 + 8 + 1] = {1, [9] = 1}; /* of time 0, there */
    if (weir_column_is_null(column, row) || weir_type_is_nested(column->type)) {
        return weir_buffer_append(out, none, sizeof(none));
    }
    int rc = weir_buffer_append(out, one, sizeof(one));
    return rc == WEIR_OK ? put_value(out, column, row) : rc;
}

static int put_group(struct weir_buffer *out, const struct weir_migration *migration,
                     const struct weir_batch *rows, int32_t row) {
    static const uint8_t nothing[IMAGE_HEAD];
    struct old_head head = {weir_migration_version(migration), weir_migration_text(migration)};
    int rc = weir_buffer_append(out, &head, sizeof(head));
    rc = rc == WEIR_OK ? weir_buffer_append(out, nothing, sizeof(nothing)) : rc;
    for (int32_t m = 0; rc == WEIR_OK && m < rows->schema->count; m++) {
        rc = put_cell(out, &rows->columns[m], row);
    }
    while (rc == WEIR_OK && out->size % 8 != 0) {
        rc = weir_buffer_append(out, nothing, 1);
    }
    return rc;
}

/* What all groups came to, as rows. */
static int old_rows(struct weir_node *node, struct weir_migration *migration,
                    struct weir_batch **rows, struct weir_error *err) {
    struct weir_batch_builder builder;
    int rc = weir_batch_builder_init(&builder, node->graph->pool, weir_migration_schema(migration),
                                     OLD_ROWS, OLD_BYTES_MAX, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    rc = weir_batch_builder_begin(&builder);
    for (int32_t i = 0; rc == WEIR_OK && i < weir_migration_count(migration); i++) {
        rc = weir_migration_put(migration, i, &builder, err);
    }
    *rows = weir_batch_builder_take(&builder);
    weir_batch_builder_fini(&builder);
    return rc == WEIR_E_LIMIT ? weir_error_set(err, rc, "%s: the memory cap is reached", node->name)
                              : rc;
}

/* --- what becomes of it ------------------------------------------------------------------------
 */

static int call(struct weir_node *node, struct weir_batch *owner, uint8_t **olds, int32_t count,
                struct out_columns *out, int32_t *failed, struct weir_error *err) {
    const struct model_migrate *migrate = node->migrate;
    int32_t sel[OLD_ROWS];
    for (int32_t i = 0; i < count; i++) {
        sel[i] = i;
    }
    int rc = out_begin(owner, migrate->schema, migrate->outs, count, NULL, out);
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
    }
    struct weir_error thrown = {0};
    struct weir_call c = {
        .in = node->in,
        .out = out->columns,
        .out_var = migrate->outs,
        .sel = sel,
        .end = count,
        .rows = count,
        .assigned = out->assigned,
        .from = olds,
    };
    rc = weir_rule_set_call(node->graph->rule_set, node->model->migrate, &c, &thrown);
    if (rc != WEIR_OK) {
        *failed = c.cursor;
        return weir_error_set(err, WEIR_E_DATA, "%s: a group of version %lld does not migrate: %s",
                              node->name, (long long)((struct old_head *)olds[c.cursor])->version,
                              thrown.message);
    }
    rc = out_finish(owner, migrate->outs, out);
    return rc == WEIR_OK ? rc
                         : weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
}

int model_migrate_groups(void *context, struct weir_migration *migration, int32_t *failed,
                         struct weir_error *err) {
    struct weir_node *node = context;
    const struct model_migrate *migrate = node->migrate;
    int32_t count = weir_migration_count(migration);
    size_t starts[OLD_ROWS];
    uint8_t *olds[OLD_ROWS];
    struct weir_batch *rows = NULL;
    struct weir_buffer bytes;
    struct out_columns out = {0};
    weir_buffer_init(&bytes, OLD_BYTES_MAX);
    int rc = old_rows(node, migration, &rows, err);
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        starts[i] = bytes.size;
        rc = put_group(&bytes, migration, rows, i);
        rc = rc == WEIR_OK ? rc : no_memory(node, err);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        olds[i] = bytes.data + starts[i];
    }
    rc = rc == WEIR_OK ? call(node, rows, olds, count, &out, failed, err) : rc;
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        for (int32_t c = 0; rc == WEIR_OK && c < migrate->schema->count; c++) {
            if (out.assigned[c][i] != 0) {
                rc = weir_migration_start(migration, i, migrate->measures[c], &out.columns[c], i,
                                          err);
                *failed = i;
            }
        }
    }
    weir_buffer_fini(&bytes);
    weir_batch_unref(rows);
    return rc;
}

/* --- a trial ----------------------------------------------------------------------------------
 */

/* Which group it was, for people. */
static int failed_group(struct weir_node *node, const struct weir_buffer *key, const char *why,
                        struct weir_error *err) {
    struct weir_shown shown;
    struct weir_error none = {0};
    weir_shown_init(&shown, node->graph->pool);
    int rc = weir_aggregate_show_key(node->aggregate, key->data, key->size, &shown, &none);
    const char *text = rc == WEIR_OK ? weir_buffer_text(&shown.key) : NULL;
    size_t skip = strlen(node->name) + 2; /* it is said anyway */
    weir_error_set(err, WEIR_E_STATE, "%s: state of %.300s does not migrate: %s", node->name,
                   text != NULL ? text : "a group",
                   strncmp(why, node->name, skip - 2) == 0 && strlen(why) > skip ? why + skip
                                                                                 : why);
    weir_shown_fini(&shown);
    return WEIR_E_STATE;
}

int model_try(struct weir_node *node, struct weir_node *old, struct weir_cell_cursor *cursor,
              bool *done, struct weir_error *err) {
    struct weir_buffer key;
    struct weir_error thrown = {0};
    uint64_t next = cursor->minor > 0 ? cursor->minor : 1;
    weir_buffer_init(&key, TRY_KEY_BYTES);
    int rc = weir_aggregate_try(node->aggregate, old->aggregate, &next, done, &key, &thrown);
    cursor->minor = next;
    if (rc == WEIR_E_DATA && key.size > 0) {
        rc = failed_group(node, &key, thrown.message, err);
    } else if (rc != WEIR_OK) {
        weir_error_set(err, rc, "%s", thrown.message);
    }
    weir_buffer_fini(&key);
    return rc;
}
