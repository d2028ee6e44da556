/* An exchange is one commit: removes, adds under the folder's name, and the other table's metadata
 * under this one's id. */
#include "lake/upkeep/exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "lake/delta/dv.h"
#include "lake/delta/maintain.h"
#include "lake/delta/mapping.h"

#define ACTIONS_BYTES_MAX ((size_t)1 << 30)
enum { PATH_BYTES_MAX = 4096, PARTITIONS_MAX = 64 };

struct exchanging {
    struct weir_delta_table *table;
    struct weir_delta_snapshot *from;
    const char *within;
    struct weir_delta_exchange_result *result;
    struct weir_buffer *actions;
    int64_t now_ms;
    int64_t rows;
    int64_t bytes;
};

static int too_large(struct weir_error *err, int rc) {
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "the commit grows past 1 GiB");
}

static int line(struct exchanging *e, int rc, struct weir_error *err) {
    return too_large(err, rc == WEIR_OK ? weir_buffer_append(e->actions, "\n", 1) : rc);
}

static int remove_old(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct exchanging *e = context;
    e->result->files_removed++;
    return too_large(err, weir_delta_remove_format(add, e->now_ms, true, e->actions));
}

static int add_new(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct exchanging *e = context;
    char path[PATH_BYTES_MAX];
    char vector[PATH_BYTES_MAX];
    struct weir_delta_add moved = *add;
    moved.data_change = true;
    moved.path = path;
    bool fits = snprintf(path, sizeof(path), "%s/%s", e->within, add->path) < (int)sizeof(path);
    bool outside =
        strstr(add->path, ":/") != NULL || add->path[0] == '/' || add->dv.storage_type == 'p';
    if (!fits || outside) {
        return weir_error_set(err, WEIR_E_UNSUPPORTED, "file %.200s lies outside its table",
                              add->path);
    }
    if (add->dv.storage_type == 'u') { /* its name may be led by a folder */
        const char *text = add->dv.path_or_inline;
        bool led = strlen(text) > 20;
        snprintf(vector, sizeof(vector), "%s%s%s", e->within, led ? "/" : "", text);
        moved.dv.path_or_inline = vector;
    }
    int64_t rows = delta_add_rows(add);
    e->rows += rows > 0 ? rows : 0;
    e->bytes += add->size_bytes;
    e->result->files_added++;
    return line(e, weir_delta_add_format(&moved, e->actions), err);
}

/* Whoever may write under `a` may write what `b` asks for. */
static bool covers(const struct weir_delta_protocol *a, const struct weir_delta_protocol *b) {
    bool all = a->reader_version >= b->reader_version && a->writer_version >= b->writer_version;
    for (int32_t i = 0; all && i < b->writer_feature_count; i++) {
        all =
            delta_lists_feature(a->writer_features, a->writer_feature_count, b->writer_features[i]);
    }
    for (int32_t i = 0; all && i < b->reader_feature_count; i++) {
        all =
            delta_lists_feature(a->reader_features, a->reader_feature_count, b->reader_features[i]);
    }
    return all;
}

static int check(const struct exchanging *e, struct weir_error *err) {
    static const char *const unfit[] = {"delta.columnMapping.mode", "delta.enableRowTracking"};
    const struct weir_delta_snapshot *both[] = {e->table->snapshot, e->from};
    for (size_t i = 0; i < 4; i++) {
        const char *value = weir_delta_metadata_property(&both[i / 2]->metadata, unfit[i % 2]);
        if (value != NULL && strcmp(value, "none") != 0 && strcmp(value, "false") != 0) {
            return weir_error_set(err, WEIR_E_UNSUPPORTED,
                                  "the table has %s = %s, under which files of another table "
                                  "cannot take the place of its own; write the new form into "
                                  "another dataset",
                                  unfit[i % 2], value);
        }
    }
    if (!covers(&e->table->snapshot->protocol, &e->from->protocol) &&
        !covers(&e->from->protocol, &e->table->snapshot->protocol)) {
        return weir_error_set(err, WEIR_E_UNSUPPORTED,
                              "the table has other features than one made anew; give it the "
                              "properties that `into` says, or write into another dataset");
    }
    int rc = delta_check_may_remove(e->table, "exchange", err);
    return rc == WEIR_OK ? delta_check_maintainable(e->table, "exchange", err) : rc;
}

static int derive(struct exchanging *e, struct weir_error *err) {
    const struct weir_delta_metadata *now = &e->table->snapshot->metadata;
    weir_buffer_clear(e->actions);
    e->result->files_removed = e->result->files_added = 0;
    e->rows = e->bytes = 0;
    e->now_ms = weir_clock_wall_us() / 1000;
    struct weir_delta_metadata metadata = e->from->metadata;
    metadata.id = now->id;
    metadata.name = now->name;
    metadata.description = now->description;
    metadata.created_ms = now->created_ms;
    int rc = line(e, weir_delta_metadata_format(&metadata, e->actions), err);
    if (rc == WEIR_OK && !covers(&e->table->snapshot->protocol, &e->from->protocol)) {
        rc = line(e, weir_delta_protocol_format(&e->from->protocol, e->actions), err);
    }
    if (rc == WEIR_OK) {
        rc = weir_delta_snapshot_each_file(e->table->snapshot, remove_old, e, err);
    }
    return rc == WEIR_OK ? weir_delta_snapshot_each_file(e->from, add_new, e, err) : rc;
}

static bool is_done(struct exchanging *e, const struct weir_delta_commit_options *options) {
    e->result->version = e->table->snapshot->version;
    e->result->skipped =
        weir_delta_snapshot_txn(e->table->snapshot, options->txn.app_id) >= options->txn.version;
    return e->result->skipped;
}

static int commit(struct exchanging *e, const struct weir_delta_commit_options *options,
                  struct weir_error *err) {
    int rc = check(e, err);
    int64_t timestamp_ms;
    for (int32_t attempt = 1; rc == WEIR_OK; attempt++) {
        rc = is_done(e, options) ? WEIR_OK : derive(e, err);
        if (rc != WEIR_OK || e->result->skipped) {
            break;
        }
        struct delta_commit_body body = {.operation = "CREATE OR REPLACE TABLE AS SELECT",
                                         .actions = e->actions,
                                         .file_count = (int32_t)e->result->files_added,
                                         .row_count = e->rows,
                                         .byte_count = e->bytes};
        rc = delta_commit_try(e->table, &body, &options->txn, &timestamp_ms, err);
        if (rc == WEIR_OK) {
            e->result->version++;
            break;
        }
        if (rc == WEIR_E_CONFLICT) {
            rc = delta_commit_rebase(e->table, attempt, options, err);
        }
    }
    return rc;
}

/* Where there is none yet: empty, with the other's columns. */
static int make_table(struct weir_store *store, const char *dir, struct weir_delta_snapshot *from,
                      struct weir_delta_table **out, struct weir_error *err) {
    const struct weir_schema *schema;
    const struct weir_delta_column *columns;
    struct weir_delta_partition partitions[PARTITIONS_MAX];
    int rc = weir_delta_snapshot_schema(from, &schema, &columns, err);
    struct weir_delta_create_options options = {.schema = schema,
                                                .partitions = partitions,
                                                .partition_count = from->metadata.partition_count};
    if (rc == WEIR_OK && options.partition_count > PARTITIONS_MAX) {
        rc = weir_error_set(err, WEIR_E_LIMIT, "more than %d partition columns", PARTITIONS_MAX);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < options.partition_count; i++) {
        partitions[i] = (struct weir_delta_partition){.column = from->metadata.partition_columns[i],
                                                      .transform = WEIR_DELTA_IDENTITY};
    }
    return rc == WEIR_OK ? weir_delta_table_create(store, dir, &options, out, err) : rc;
}

int weir_delta_exchange(struct weir_store *store, const char *dir, const char *within,
                        const struct weir_delta_commit_options *options,
                        struct weir_delta_exchange_result *result, struct weir_error *err) {
    const struct weir_delta_at latest = {.kind = WEIR_DELTA_LATEST};
    struct weir_buffer actions;
    char inner[PATH_BYTES_MAX];
    struct exchanging e = {.within = within, .result = result, .actions = &actions};
    memset(result, 0, sizeof(*result));
    weir_buffer_init(&actions, ACTIONS_BYTES_MAX);
    snprintf(inner, sizeof(inner), "%s/%s", dir, within);
    int rc = weir_delta_table_open(store, dir, &e.table, err);
    if (rc == WEIR_OK && is_done(&e, options)) {
        weir_delta_table_close(e.table); /* the other may be gone */
        weir_buffer_fini(&actions);
        return WEIR_OK;
    }
    if (rc == WEIR_OK || rc == WEIR_E_NOTFOUND) {
        bool there = rc == WEIR_OK;
        rc = weir_delta_snapshot_open(store, inner, &latest, &e.from, err);
        rc = rc == WEIR_OK && !there ? make_table(store, dir, e.from, &e.table, err) : rc;
    }
    rc = rc == WEIR_OK ? commit(&e, options, err) : rc;
    if (e.table != NULL) {
        weir_delta_table_close(e.table);
    }
    weir_delta_snapshot_destroy(e.from);
    weir_buffer_fini(&actions);
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "exchange table %s", dir);
}
