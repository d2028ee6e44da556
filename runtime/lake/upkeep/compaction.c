/* The writing of a compaction: the live rows of a group's files, in their order, into one file. */
#include "lake/upkeep/compaction.h"

#include <stdlib.h>
#include <string.h>

#define MEMORY_BYTES ((size_t)256 << 20)

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "optimize: out of memory");
}

int delta_compaction_pace(struct weir_delta_compaction *compaction, int64_t bytes,
                          struct weir_error *err) {
    const struct weir_delta_optimize_options *options = compaction->options;
    if (options->pace != NULL && !options->pace(options->context, bytes)) {
        return weir_error_set(err, WEIR_E_CLOSED, "optimize: stopped");
    }
    return WEIR_OK;
}

void delta_compaction_advance(struct weir_delta_compaction *compaction, int64_t bytes) {
    const struct weir_delta_optimize_options *options = compaction->options;
    compaction->done_bytes += bytes;
    if (options->progress != NULL) {
        options->progress(options->context, compaction->done_bytes, compaction->bytes);
    }
}

/* A group was chosen to fit the target: a file is cut only where that went wrong by far, since what
 * a writer expects of its size is a guess before pages are full. */
size_t delta_group_file_bytes(const struct weir_delta_compaction *compaction) {
    return (size_t)compaction->target_bytes * 4;
}

int delta_group_scan(struct weir_delta_compaction *compaction, const struct weir_delta_add *add,
                     delta_visit_rows *visit, void *context, struct weir_error *err) {
    return delta_scan_file(compaction->head, add, compaction->positions, compaction->column_count,
                           compaction->tracked ? &compaction->tracking : NULL, compaction->pool,
                           visit, context, err);
}

int delta_group_writer(struct weir_delta_compaction *compaction, const struct delta_group *group,
                       struct weir_delta_writer_options *options, struct weir_delta_writer **out,
                       struct weir_error *err) {
    struct weir_delta_table settings = {.store = compaction->head->store,
                                        .dir = compaction->head->dir,
                                        .snapshot = compaction->head};
    char *folder = delta_add_folder(compaction->inputs.items[group->first]);
    options->folder = folder;
    options->hidden_columns = compaction->tracked ? DELTA_TRACKING_COLUMNS : 0;
    int rc = folder != NULL ? weir_delta_writer_create(&settings, compaction->schema, NULL, 0,
                                                       options, out, err)
                            : no_memory(err);
    options->folder = NULL;
    free(folder);
    return rc;
}

int delta_group_seal(struct weir_delta_compaction *compaction, struct delta_group *group,
                     struct weir_delta_writer *writer, struct weir_error *err) {
    const struct weir_delta_add *like = compaction->inputs.items[group->first];
    struct weir_delta_adds adds = {0};
    int rc = weir_delta_writer_seal(writer, &adds, err);
    for (int32_t i = 0; i < adds.count && rc == WEIR_OK; i++) {
        struct weir_delta_add add = *adds.items[i];
        add.partition_values = like->partition_values;
        add.partition_count = like->partition_count;
        add.data_change = false;
        add.tags_json = compaction->tags;
        struct weir_delta_add *copy = weir_delta_add_dup(&add);
        rc = copy != NULL ? weir_delta_adds_push(&group->outputs, copy) : WEIR_E_NOMEM;
        rc = rc == WEIR_OK ? rc : no_memory(err);
    }
    weir_delta_adds_fini(&adds);
    return rc;
}

struct copying {
    struct weir_delta_compaction *compaction;
    struct weir_delta_writer *writer;
    struct delta_layout *layout; /* instead of it, where rows are laid out */
    int32_t time;                /* column by which rows are too old, or -1 */
};

static bool is_old(const struct copying *copying, const struct weir_batch *batch, int32_t row) {
    const struct weir_column *column = &batch->columns[copying->time];
    if (weir_column_is_null(column, row)) {
        return false;
    }
    int64_t at = copying->compaction->schema->fields[copying->time].type == WEIR_TYPE_DATE
                     ? ((const int32_t *)column->values)[row] * INT64_C(86400000000)
                     : ((const int64_t *)column->values)[row];
    return at < copying->compaction->expire_before_us;
}

static int put_rows(const struct copying *copying, struct weir_batch *batch, const int32_t *sel,
                    int32_t count, struct weir_error *err) {
    return copying->layout != NULL
               ? delta_layout_append(copying->layout, batch, sel, count, err)
               : weir_delta_writer_append(copying->writer, batch, sel, count, err);
}

static int copy_rows(void *context, struct weir_batch **batch, int64_t first_row,
                     const uint8_t *deleted, struct weir_error *err) {
    const struct copying *copying = context;
    int32_t sel[WEIR_BATCH_ROWS_MAX];
    int32_t count = 0;
    int rc = delta_compaction_pace(copying->compaction, (int64_t)weir_batch_bytes(*batch), err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (deleted == NULL && copying->time < 0) {
        return put_rows(copying, *batch, NULL, (*batch)->rows, err);
    }
    for (int32_t i = 0; i < (*batch)->rows; i++) {
        if (deleted != NULL && weir_bit_get(deleted, first_row + i)) {
            continue;
        }
        if (copying->time >= 0 && is_old(copying, *batch, i)) {
            copying->compaction->expired_rows++;
            continue;
        }
        sel[count++] = i;
    }
    return put_rows(copying, *batch, sel, count, err);
}

static int write_group(struct weir_delta_compaction *compaction, struct delta_group *group,
                       struct weir_error *err) {
    size_t memory = compaction->options->memory_bytes;
    struct copying copying = {.compaction = compaction, .time = -1};
    if (compaction->expire_column != NULL) {
        copying.time = weir_schema_find(compaction->schema, compaction->expire_column);
    }
    memory = memory > 0 ? memory : MEMORY_BYTES;
    struct weir_delta_writer_options options = {
        .memory_bytes = memory, .target_file_bytes = delta_group_file_bytes(compaction)};
    int rc = compaction->options->direct_lake
                 ? delta_layout_create(compaction, group, memory, &copying.layout, err)
                 : delta_group_writer(compaction, group, &options, &copying.writer, err);
    for (int32_t i = 0; i < group->count && rc == WEIR_OK; i++) {
        const struct weir_delta_add *add = compaction->inputs.items[group->first + i];
        rc = delta_group_scan(compaction, add, copy_rows, &copying, err);
        delta_compaction_advance(compaction, add->size_bytes);
    }
    if (rc == WEIR_OK) {
        rc = copying.layout != NULL ? delta_layout_seal(copying.layout, err)
                                    : delta_group_seal(compaction, group, copying.writer, err);
    }
    delta_layout_destroy(copying.layout);
    weir_delta_writer_destroy(copying.writer);
    return rc;
}

/* The columns the new files hold. */
static int plan_columns(struct weir_delta_compaction *compaction, struct weir_error *err) {
    const struct weir_delta_metadata *metadata = &compaction->head->metadata;
    const struct weir_schema *schema;
    int rc = weir_delta_snapshot_schema(compaction->head, &schema, NULL, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    compaction->schema = weir_schema_create();
    compaction->positions = calloc((size_t)schema->count + 1, sizeof(*compaction->positions));
    rc = compaction->schema != NULL && compaction->positions != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (int32_t i = 0; i < schema->count && rc == WEIR_OK; i++) {
        bool is_partition = false;
        for (int32_t p = 0; p < metadata->partition_count; p++) {
            is_partition =
                is_partition || strcmp(metadata->partition_columns[p], schema->fields[i].name) == 0;
        }
        if (!is_partition) {
            compaction->positions[compaction->schema->count] = i;
            rc = weir_schema_add(compaction->schema, &schema->fields[i]);
        }
    }
    compaction->column_count = compaction->schema != NULL ? compaction->schema->count : 0;
    if (rc == WEIR_OK && compaction->tracked) {
        rc = delta_tracking_add(&compaction->tracking, compaction->schema);
    }
    return rc == WEIR_OK ? rc : no_memory(err);
}

int weir_delta_compaction_write(struct weir_delta_compaction *compaction, struct weir_error *err) {
    int rc = plan_columns(compaction, err);
    for (int32_t i = 0; i < compaction->group_count && rc == WEIR_OK; i++) {
        if (compaction->groups[i].dropped) {
            continue;
        }
        rc = compaction->options->zorder_count > 0
                 ? delta_zorder_write(compaction, &compaction->groups[i], err)
                 : write_group(compaction, &compaction->groups[i], err);
    }
    return rc == WEIR_OK
               ? rc
               : weir_error_wrap(err, "optimize table %s",
                                 DELTA_SHOWN(compaction->head->store, compaction->head->dir));
}
