/* Which files are rewritten together, and the commit that puts the new ones in their place. */
#include "lake/upkeep/optimize.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/fault.h"
#include "lake/delta/mapping.h"
#include "lake/delta/row_tracking.h"
#include "lake/delta/text.h"
#include "lake/delta/where.h"
#include "lake/upkeep/compaction.h"

#define ACTIONS_BYTES_MAX ((size_t)1 << 30)
#define TARGET_BYTES ((int64_t)1 << 30)
#define INPUT_BYTES ((int64_t)16 << 30)
#define POOL_BYTES ((size_t)1 << 30)
#define CLASS_BYTES ((int64_t)64 << 10)
enum { LOST_RUNS_MAX = 5 };

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "optimize: out of memory");
}

/* --- the plan ------------------------------------------------------------------------------ */

/* "134217728", "128mb", "1gb": how others write delta.targetFileSize. 0 when it says nothing. */
static int64_t size_property(const struct weir_delta_metadata *metadata, const char *key) {
    const char *text = weir_delta_metadata_property(metadata, key);
    char *end = NULL;
    long long value = text != NULL ? strtoll(text, &end, 10) : 0;
    if (text == NULL || end == text || value <= 0 || value > ((long long)1 << 40)) {
        return 0;
    }
    switch (*end) {
    case 'k':
    case 'K':
        return value << 10;
    case 'm':
    case 'M':
        return value << 20;
    case 'g':
    case 'G':
        return value < 1024 ? value << 30 : 0;
    default:
        return value;
    }
}

struct choosing {
    const struct weir_delta_snapshot *snapshot;
    const struct weir_delta_compaction *compaction;
    const struct delta_where *where;
    const struct weir_delta_add **files;
    size_t count;
};

/* What is smaller is put together with others. */
static int64_t full_size(const struct weir_delta_compaction *compaction) {
    return compaction->target_bytes / 4 * 3;
}

/* A run by hand lays out large files too; in the background those of the pipeline are small. */
static bool lays_out_all(const struct weir_delta_compaction *compaction) {
    return compaction->options->direct_lake && !compaction->options->tiered;
}

/* A table a file has too little of, or dead rows in; in the background, one to put in order. */
static bool is_candidate(const struct weir_delta_compaction *compaction,
                         const struct weir_delta_add *add) {
    if (compaction->options->clustered && !compaction->options->tiered) {
        return !delta_is_in_order(compaction, add) || add->dv.storage_type != 0 ||
               add->size_bytes < full_size(compaction);
    }
    if (compaction->options->zorder_count > 0) {
        return !compaction->options->tiered ||
               (add->size_bytes >= full_size(compaction) && !delta_is_in_order(compaction, add));
    }
    if (lays_out_all(compaction) && !delta_is_in_order(compaction, add)) {
        return true;
    }
    if (add->dv.storage_type != 0) {
        int64_t rows = delta_add_rows(add);
        return !compaction->options->tiered || rows <= 0 || add->dv.cardinality * 10 >= rows;
    }
    return add->size_bytes < full_size(compaction);
}

static int choose_file(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct choosing *choosing = context;
    (void)err;
    if (is_candidate(choosing->compaction, add) && delta_where_holds(choosing->where, add)) {
        choosing->files[choosing->count++] = delta_snapshot_find(choosing->snapshot, add);
    }
    return WEIR_OK;
}

/* By partition; in it by age, so that what came together stays together and time ranges narrow. */
static int compare_files(const void *a, const void *b) {
    const struct weir_delta_add *left = *(const struct weir_delta_add *const *)a;
    const struct weir_delta_add *right = *(const struct weir_delta_add *const *)b;
    int order = delta_compare_partitions(left, right);
    if (order == 0 && left->modified_ms != right->modified_ms) {
        order = left->modified_ms < right->modified_ms ? -1 : 1;
    }
    return order != 0 ? order : strcmp(left->path, right->path);
}

static int compare_sizes(const void *a, const void *b) {
    const struct weir_delta_add *left = *(const struct weir_delta_add *const *)a;
    const struct weir_delta_add *right = *(const struct weir_delta_add *const *)b;
    return left->size_bytes != right->size_bytes ? (left->size_bytes < right->size_bytes ? -1 : 1)
                                                 : strcmp(left->path, right->path);
}

int delta_compaction_add(struct weir_delta_compaction *compaction,
                         const struct weir_delta_add **files, size_t count,
                         struct weir_error *err) {
    struct delta_group *groups =
        realloc(compaction->groups, (size_t)(compaction->group_count + 1) * sizeof(*groups));
    if (groups == NULL) {
        return no_memory(err);
    }
    compaction->groups = groups;
    struct delta_group *group = &groups[compaction->group_count++];
    *group = (struct delta_group){.first = compaction->inputs.count};
    for (size_t i = 0; i < count; i++) {
        struct weir_delta_add bare = *files[i];
        bare.stats = NULL; /* packed, and of no use for what is rewritten */
        bare.stats_template = 0;
        struct weir_delta_add *copy = weir_delta_add_dup(&bare);
        if (copy == NULL || weir_delta_adds_push(&compaction->inputs, copy) != WEIR_OK) {
            free(copy);
            return no_memory(err);
        }
        group->count++;
        group->bytes += files[i]->size_bytes;
    }
    compaction->bytes += group->bytes;
    return WEIR_OK;
}

/* Files are put together with others of their size alone, so that a byte is written again once a
 * size class (of sixteen), not once a run. */
static int32_t size_class(const struct weir_delta_add *add) {
    int32_t class = 0;
    while (class < 12 && add->size_bytes > CLASS_BYTES << (4 * class)) {
        class ++;
    }
    return class;
}

/* A file that is rewritten even where no other goes with it. */
static bool is_due(const struct weir_delta_compaction *compaction,
                   const struct weir_delta_add *add) {
    return add->dv.storage_type != 0 ||
           (lays_out_all(compaction) && !delta_is_in_order(compaction, add));
}

/* Groups of these candidates, oldest first, as many as the input's bound lets in. */
static int pack(struct weir_delta_compaction *compaction, const struct weir_delta_add **files,
                size_t count, struct weir_error *err) {
    const struct weir_delta_optimize_options *options = compaction->options;
    int64_t max_bytes = options->max_bytes > 0 ? options->max_bytes : INPUT_BYTES;
    size_t due = 0; /* also alone */
    for (size_t i = 0; i < count; i++) {
        due += is_due(compaction, files[i]);
    }
    if (count < (size_t)(options->min_files > 0 ? options->min_files : 2) && due == 0) {
        return WEIR_OK;
    }
    int rc = WEIR_OK;
    for (size_t i = 0; i < count && rc == WEIR_OK && compaction->bytes < max_bytes;) {
        size_t end = i + 1;
        int64_t bytes = files[i]->size_bytes;
        bool has_due = is_due(compaction, files[i]);
        while (end < count && bytes + files[end]->size_bytes <= compaction->target_bytes &&
               compaction->bytes + bytes < max_bytes) {
            bytes += files[end]->size_bytes;
            has_due = has_due || is_due(compaction, files[end]);
            end++;
        }
        if (end - i > 1 || has_due) {
            rc = delta_compaction_add(compaction, &files[i], end - i, err);
        }
        i = end;
    }
    return rc;
}

/* As many as the input's bound lets in, where there are enough to order. */
static int order_partition(struct weir_delta_compaction *compaction,
                           const struct weir_delta_add **files, size_t count,
                           struct weir_error *err) {
    const struct weir_delta_optimize_options *options = compaction->options;
    if (options->clustered && count == 1 && delta_is_in_order(compaction, files[0]) &&
        files[0]->dv.storage_type == 0) {
        return WEIR_OK; /* what is left over waits for more */
    }
    if (options->max_bytes == 0) {
        return delta_compaction_add(compaction, files, count, err);
    }
    size_t end = 0;
    for (int64_t bytes = compaction->bytes; end < count && bytes < options->max_bytes; end++) {
        bytes += files[end]->size_bytes;
    }
    return end > 0 && end >= (size_t)options->min_files
               ? delta_compaction_add(compaction, files, end, err)
               : WEIR_OK;
}

/* One partition's candidates, by age. */
static int group_partition(struct weir_delta_compaction *compaction,
                           const struct weir_delta_add **files, size_t count,
                           struct weir_error *err) {
    const struct weir_delta_optimize_options *options = compaction->options;
    if (options->zorder_count > 0) {
        return order_partition(compaction, files, count, err);
    }
    if (!options->tiered) {
        return pack(compaction, files, count, err);
    }
    qsort((void *)files, count, sizeof(*files), compare_sizes);
    int rc = WEIR_OK;
    for (size_t i = 0; i < count && rc == WEIR_OK;) {
        size_t end = i + 1;
        while (end < count && size_class(files[end]) == size_class(files[i])) {
            end++;
        }
        qsort((void *)&files[i], end - i, sizeof(*files), compare_files);
        rc = pack(compaction, &files[i], end - i, err);
        i = end;
    }
    return rc;
}

static int check_zorder(struct weir_delta_compaction *compaction, struct weir_error *err) {
    const struct weir_delta_optimize_options *options = compaction->options;
    const struct weir_delta_metadata *metadata = &compaction->head->metadata;
    const struct weir_schema *schema;
    int rc = weir_delta_snapshot_schema(compaction->head, &schema, NULL, err);
    if (rc == WEIR_OK && options->zorder_count > DELTA_ZORDER_COLUMNS_MAX) {
        rc = weir_error_set(err, WEIR_E_USAGE, "--zorder takes at most %d columns",
                            DELTA_ZORDER_COLUMNS_MAX);
    }
    for (int32_t i = 0; i < options->zorder_count && rc == WEIR_OK; i++) {
        int32_t at = weir_schema_find(schema, options->zorder[i]);
        bool is_partition = false;
        for (int32_t p = 0; p < metadata->partition_count; p++) {
            is_partition =
                is_partition || strcmp(metadata->partition_columns[p], options->zorder[i]) == 0;
        }
        if (at < 0 || is_partition || weir_type_is_nested(schema->fields[at].type) ||
            schema->fields[at].type == WEIR_TYPE_BOOL) {
            rc = weir_error_set(err, at < 0 ? WEIR_E_SCHEMA : WEIR_E_UNSUPPORTED,
                                "--zorder: %.100s %s", options->zorder[i],
                                at < 0 ? "is no column of the table"
                                : is_partition
                                    ? "is a partition column, by which files are apart already"
                                    : "is of a type that has no statistics to skip files by");
        }
    }
    return rc;
}

static int plan_groups(struct weir_delta_compaction *compaction, struct weir_delta_table *table,
                       struct weir_error *err) {
    struct weir_delta_snapshot *snapshot = table->snapshot;
    struct choosing choosing = {.snapshot = snapshot, .compaction = compaction};
    struct delta_where *where = NULL;
    int rc = compaction->options->where != NULL
                 ? delta_where_parse(compaction->options->where, snapshot, &where, err)
                 : WEIR_OK;
    choosing.where = where;
    choosing.files = calloc(snapshot->files.live + 1, sizeof(*choosing.files));
    if (rc == WEIR_OK && choosing.files == NULL) {
        rc = no_memory(err);
    }
    if (rc == WEIR_OK) {
        rc = weir_delta_snapshot_each_file(snapshot, choose_file, &choosing, err);
    }
    if (rc == WEIR_OK) {
        qsort((void *)choosing.files, choosing.count, sizeof(*choosing.files), compare_files);
    }
    for (size_t i = 0; i < choosing.count && rc == WEIR_OK;) {
        size_t end = i + 1;
        while (end < choosing.count &&
               delta_compare_partitions(choosing.files[i], choosing.files[end]) == 0) {
            end++;
        }
        rc = group_partition(compaction, &choosing.files[i], end - i, err);
        i = end;
    }
    free((void *)choosing.files);
    delta_where_destroy(where);
    return rc;
}

int delta_compaction_create(struct weir_delta_table *table, const char *what,
                            const struct weir_delta_optimize_options *options,
                            struct weir_delta_compaction **out, struct weir_error *err) {
    struct weir_delta_compaction *compaction = NULL;
    int rc = delta_check_maintainable(table, what, err);
    if (rc == WEIR_OK) {
        compaction = calloc(1, sizeof(*compaction));
        rc = compaction != NULL ? WEIR_OK : no_memory(err);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    int64_t target = options->target_file_bytes > 0
                         ? options->target_file_bytes
                         : size_property(&table->snapshot->metadata, "delta.targetFileSize");
    compaction->options = options;
    compaction->target_bytes = target > 0 ? target : TARGET_BYTES;
    compaction->pool = weir_pool_create(POOL_BYTES);
    rc = compaction->pool != NULL ? delta_snapshot_head(table->snapshot, &compaction->head, err)
                                  : no_memory(err);
    if (rc == WEIR_OK) { /* the names live in what it holds of its own */
        rc = delta_tracking_of(compaction->head, &compaction->tracking, &compaction->tracked, err);
    }
    if (rc != WEIR_OK) {
        weir_delta_compaction_destroy(compaction);
        return rc;
    }
    *out = compaction;
    return WEIR_OK;
}

int weir_delta_compaction_plan(struct weir_delta_table *table,
                               const struct weir_delta_optimize_options *options,
                               struct weir_delta_compaction **out, struct weir_error *err) {
    struct weir_delta_compaction *compaction = NULL;
    *out = NULL;
    int rc = delta_compaction_create(table, "optimize", options, &compaction, err);
    if (rc == WEIR_OK && options->clustered) {
        rc = delta_clustering_order(compaction, table->snapshot, err);
        compaction->own = *options;
        compaction->own.zorder = (const char *const *)compaction->order;
        compaction->own.zorder_count = compaction->order_count;
        compaction->own.clustered = compaction->order_count > 0;
        compaction->options = &compaction->own;
        if (rc != WEIR_OK || (compaction->order_count == 0 && options->tiered)) {
            weir_delta_compaction_destroy(compaction);
            return rc;
        }
    }
    if (rc == WEIR_OK) {
        rc = check_zorder(compaction, err);
    }
    if (rc == WEIR_OK) {
        rc = delta_make_tags(compaction, err);
    }
    if (rc == WEIR_OK) {
        rc = plan_groups(compaction, table, err);
    }
    if (rc != WEIR_OK || compaction->group_count == 0) {
        weir_delta_compaction_destroy(compaction);
        return rc;
    }
    *out = compaction;
    return WEIR_OK;
}

int64_t weir_delta_compaction_bytes(const struct weir_delta_compaction *compaction) {
    return compaction->bytes;
}

void weir_delta_compaction_destroy(struct weir_delta_compaction *compaction) {
    if (compaction == NULL) {
        return;
    }
    for (int32_t i = 0; i < compaction->group_count; i++) {
        struct weir_delta_adds *outputs = &compaction->groups[i].outputs;
        if (!compaction->keep_outputs) {
            delta_remove_files(compaction->head->store, compaction->head->dir, outputs);
        }
        weir_delta_adds_fini(outputs);
    }
    free(compaction->groups);
    weir_delta_adds_fini(&compaction->inputs);
    weir_delta_snapshot_destroy(compaction->head);
    weir_schema_unref(compaction->schema);
    free(compaction->positions);
    free(compaction->tags);
    for (int32_t i = 0; i < compaction->order_count; i++) {
        free(compaction->order[i]);
    }
    if (compaction->pool != NULL) {
        weir_pool_destroy(compaction->pool);
    }
    free(compaction);
}

/* --- the commit ---------------------------------------------------------------------------- */

/* All inputs are live as they were read. */
static bool still_there(const struct weir_delta_compaction *compaction,
                        const struct delta_group *group,
                        const struct weir_delta_snapshot *snapshot) {
    for (int32_t i = 0; i < group->count; i++) {
        if (delta_snapshot_find(snapshot, compaction->inputs.items[group->first + i]) == NULL) {
            return false;
        }
    }
    return true;
}

static int put_group(struct weir_delta_compaction *compaction, const struct delta_group *group,
                     struct weir_delta_optimize_result *result, struct weir_buffer *actions) {
    int64_t now_ms = weir_clock_wall_us() / 1000;
    int rc = WEIR_OK;
    for (int32_t i = 0; i < group->count && rc == WEIR_OK; i++) {
        const struct weir_delta_add *add = compaction->inputs.items[group->first + i];
        rc = weir_delta_remove_format(add, now_ms, compaction->expire_column != NULL, actions);
        result->bytes_removed += add->size_bytes;
        result->deleted_rows += add->dv.storage_type != 0 ? add->dv.cardinality : 0;
    }
    for (int32_t i = 0; i < group->outputs.count && rc == WEIR_OK; i++) {
        struct weir_delta_add *add = group->outputs.items[i];
        add->data_change = compaction->expire_column != NULL;
        add->clustering_provider = compaction->options->clustered ? "weir" : NULL;
        rc = weir_delta_add_format(add, actions);
        add->clustering_provider = NULL; /* of its own memory it has none */
        rc = rc == WEIR_OK ? weir_buffer_append(actions, "\n", 1) : rc;
        result->bytes_added += add->size_bytes;
        result->rows += delta_add_rows(add);
    }
    result->files_removed += group->count;
    result->files_added += group->outputs.count;
    return rc;
}

int delta_put_names(struct weir_buffer *out, const char *const *names, int32_t count) {
    struct weir_buffer list;
    weir_buffer_init(&list, 1u << 16);
    int rc = weir_buffer_append_text(&list, "[");
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        rc = i > 0 ? weir_buffer_append_text(&list, ",") : rc;
        rc = rc == WEIR_OK ? weir_delta_json_string(&list, names[i], strlen(names[i])) : rc;
    }
    rc = rc == WEIR_OK ? weir_buffer_append_text(&list, "]") : rc;
    rc = rc == WEIR_OK ? weir_delta_json_string(out, (const char *)list.data, list.size) : rc;
    weir_buffer_fini(&list);
    return rc;
}

static int describe_expiry(const struct weir_delta_compaction *compaction,
                           const struct weir_delta_optimize_result *one,
                           struct weir_buffer *parameters, struct weir_buffer *metrics) {
    struct weir_buffer text;
    weir_buffer_init(&text, 1u << 16);
    int rc = weir_buffer_printf(&text, "[\"%s < ", compaction->expire_column);
    rc = rc == WEIR_OK ? delta_text_timestamp(&text, compaction->expire_before_us, 6, true, NULL)
                       : rc;
    rc = rc == WEIR_OK ? weir_buffer_append_text(&text, "\"]") : rc;
    rc = rc == WEIR_OK ? weir_buffer_append_text(parameters, "{\"predicate\":") : rc;
    rc =
        rc == WEIR_OK ? weir_delta_json_string(parameters, (const char *)text.data, text.size) : rc;
    rc = rc == WEIR_OK ? weir_buffer_append_text(parameters, "}") : rc;
    weir_buffer_fini(&text);
    return rc == WEIR_OK ? weir_buffer_printf(metrics,
                                              "{\"numRemovedFiles\":\"%" PRId64
                                              "\",\"numAddedFiles\":\"%" PRId64
                                              "\",\"numCopiedRows\":\"%" PRId64 "\"}",
                                              one->files_removed, one->files_added, one->rows)
                         : rc;
}

/* operationParameters and operationMetrics, as Spark names them. */
static int describe(const struct weir_delta_compaction *compaction,
                    const struct weir_delta_optimize_result *one, struct weir_buffer *parameters,
                    struct weir_buffer *metrics) {
    const struct weir_delta_optimize_options *options = compaction->options;
    if (compaction->expire_column != NULL) {
        return describe_expiry(compaction, one, parameters, metrics);
    }
    int rc = weir_buffer_append_text(parameters, "{\"predicate\":");
    rc = rc == WEIR_OK ? delta_put_names(parameters, &options->where, options->where != NULL) : rc;
    rc = rc == WEIR_OK
             ? weir_buffer_append_text(parameters, options->clustered
                                                       ? ",\"zOrderBy\":\"[]\",\"clusterBy\":"
                                                       : ",\"zOrderBy\":")
             : rc;
    rc = rc == WEIR_OK ? delta_put_names(parameters, options->zorder, options->zorder_count) : rc;
    rc = rc == WEIR_OK ? weir_buffer_printf(parameters, ",\"auto\":\"%s\"}",
                                            options->tiered ? "true" : "false")
                       : rc;
    return rc == WEIR_OK
               ? weir_buffer_printf(
                     metrics,
                     "{\"numRemovedFiles\":\"%" PRId64 "\",\"numAddedFiles\":\"%" PRId64
                     "\",\"numRemovedBytes\":\"%" PRId64 "\",\"numAddedBytes\":\"%" PRId64
                     "\",\"numOutputRows\":\"%" PRId64 "\",\"numDeletedRows\":\"%" PRId64 "\"}",
                     one->files_removed, one->files_added, one->bytes_removed, one->bytes_added,
                     one->rows, one->deleted_rows)
               : rc;
}

/* Ids for what the files' rows do not bring along: all files of the commit go on from one mark. */
static int track_rows(const struct weir_delta_compaction *compaction,
                      const struct weir_delta_table *table, const bool *chosen,
                      struct weir_buffer *actions, struct weir_error *err) {
    int32_t count = 0;
    for (int32_t i = 0; i < compaction->group_count; i++) {
        count += chosen[i] ? compaction->groups[i].outputs.count : 0;
    }
    struct weir_delta_add **adds = calloc((size_t)count + 1, sizeof(struct weir_delta_add *));
    if (adds == NULL) {
        return no_memory(err);
    }
    int32_t next = 0;
    for (int32_t i = 0; i < compaction->group_count; i++) {
        const struct weir_delta_adds *outputs = &compaction->groups[i].outputs;
        for (int32_t o = 0; chosen[i] && o < outputs->count; o++) {
            adds[next++] = outputs->items[o];
        }
    }
    int rc = delta_track_rows(table->snapshot, adds, count, actions, err);
    free((void *)adds);
    return rc;
}

/* One try at the table's next version with the groups that still stand. */
static int commit_once(struct weir_delta_compaction *compaction, struct weir_delta_table *table,
                       bool *chosen, struct weir_delta_optimize_result *one,
                       struct weir_error *err) {
    struct weir_buffer actions;
    struct weir_buffer parameters;
    struct weir_buffer metrics;
    bool same = delta_same_table(compaction->head, table->snapshot);
    const struct weir_delta_add *last = NULL;
    int rc = WEIR_OK;
    memset(one, 0, sizeof(*one));
    weir_buffer_init(&actions, ACTIONS_BYTES_MAX);
    weir_buffer_init(&parameters, 1u << 20);
    weir_buffer_init(&metrics, 4096);
    for (int32_t i = 0; i < compaction->group_count; i++) {
        chosen[i] = same && still_there(compaction, &compaction->groups[i], table->snapshot);
        one->groups_lost += !chosen[i];
    }
    rc = track_rows(compaction, table, chosen, &actions, err);
    for (int32_t i = 0; i < compaction->group_count && rc == WEIR_OK; i++) {
        struct delta_group *group = &compaction->groups[i];
        const struct weir_delta_add *first = compaction->inputs.items[group->first];
        if (chosen[i]) {
            rc = put_group(compaction, group, one, &actions);
            one->partitions += last == NULL || delta_compare_partitions(last, first) != 0;
            last = first;
        }
    }
    rc = rc == WEIR_OK ? describe(compaction, one, &parameters, &metrics) : rc;
    struct delta_commit_body body = {.operation =
                                         compaction->expire_column != NULL ? "DELETE" : "OPTIMIZE",
                                     .parameters_json = weir_buffer_text(&parameters),
                                     .metrics_json = weir_buffer_text(&metrics),
                                     .actions = &actions};
    if (rc != WEIR_OK) {
        weir_error_set(err, rc, "optimize: the commit does not fit: %s", weir_error_text(rc));
    } else if (actions.size > 0) {
        rc = delta_commit_actions(table, &body, err);
        one->commits = rc == WEIR_OK;
        compaction->keep_outputs = rc != WEIR_OK && rc != WEIR_E_CONFLICT;
    }
    weir_buffer_fini(&actions);
    weir_buffer_fini(&parameters);
    weir_buffer_fini(&metrics);
    return rc;
}

int weir_delta_compaction_commit(struct weir_delta_compaction *compaction,
                                 struct weir_delta_table *table,
                                 struct weir_delta_optimize_result *result,
                                 struct weir_error *err) {
    const struct weir_delta_commit_options retry = {.stop = compaction->options->stop,
                                                    .stop_context = compaction->options->context};
    struct weir_delta_optimize_result one;
    bool *chosen = calloc((size_t)compaction->group_count + 1, sizeof(*chosen));
    int rc = chosen != NULL ? WEIR_OK : no_memory(err);
    if (rc == WEIR_OK && WEIR_FAULT(delta_compaction_written)) {
        rc = weir_error_set(err, WEIR_E_FAULT, "injected at delta_compaction_written");
    }
    for (int32_t attempt = 1; rc == WEIR_OK; attempt++) {
        rc = commit_once(compaction, table, chosen, &one, err);
        if (rc != WEIR_E_CONFLICT) {
            break;
        }
        rc = delta_commit_rebase(table, attempt, &retry, err);
    }
    if (rc == WEIR_OK) {
        for (int32_t i = 0; i < compaction->group_count; i++) {
            if (chosen[i]) { /* the table's now */
                weir_delta_adds_fini(&compaction->groups[i].outputs);
                memset(&compaction->groups[i].outputs, 0, sizeof(struct weir_delta_adds));
            }
        }
        result->version = table->snapshot->version;
        result->files_removed += one.files_removed;
        result->files_added += one.files_added;
        result->bytes_removed += one.bytes_removed;
        result->bytes_added += one.bytes_added;
        result->rows += one.rows;
        result->deleted_rows += one.deleted_rows;
        result->partitions += one.partitions;
        result->commits += one.commits;
        result->groups_lost += one.groups_lost;
    }
    free(chosen);
    return rc == WEIR_OK
               ? rc
               : weir_error_wrap(err, "optimize table %s", DELTA_SHOWN(table->store, table->dir));
}

int weir_delta_optimize(struct weir_delta_table *table,
                        const struct weir_delta_optimize_options *options,
                        struct weir_delta_optimize_result *result, struct weir_error *err) {
    int32_t lost_runs = 0;
    struct weir_delta_optimize_options clustered = *options;
    json_t *paths;
    memset(result, 0, sizeof(*result));
    result->version = table->snapshot->version;
    int rc = delta_clustering_paths(table->snapshot, &paths, err);
    if (rc == WEIR_OK && json_array_size(paths) > 0 && options->zorder_count == 0 &&
        !options->direct_lake) {
        clustered.clustered = true;
        options = &clustered;
    }
    json_decref(paths);
    if (rc != WEIR_OK) {
        return rc;
    }
    for (;;) {
        struct weir_delta_compaction *compaction;
        rc = weir_delta_compaction_plan(table, options, &compaction, err);
        if (rc != WEIR_OK || compaction == NULL) {
            break;
        }
        struct weir_delta_optimize_result before = *result;
        rc = weir_delta_compaction_write(compaction, err);
        if (rc == WEIR_OK) {
            rc = weir_delta_compaction_commit(compaction, table, result, err);
        }
        weir_delta_compaction_destroy(compaction);
        bool lost = result->groups_lost > before.groups_lost;
        bool fewer = result->files_removed - before.files_removed >
                         result->files_added - before.files_added ||
                     result->deleted_rows > before.deleted_rows;
        lost_runs += lost;
        /* ordering is done once, but for what was lost; and a run that gains nothing is the last */
        if (rc != WEIR_OK || lost_runs == LOST_RUNS_MAX ||
            (!lost &&
             (options->zorder_count > 0 || options->clustered || options->direct_lake || !fewer))) {
            break;
        }
    }
    return rc;
}
