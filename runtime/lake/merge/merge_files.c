/* The files of a merge: which rows of the table are replaced, and the files that say so. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "lake/delta/convert.h"
#include "lake/delta/row_tracking.h"
#include "lake/delta/stats.h"
#include "lake/merge/merge_internal.h"

/* --- matching ------------------------------------------------------------------------------ */

struct matching {
    struct delta_merge *merge;
    const struct delta_prune *prune;
    int32_t *positions; /* of key columns, and the time, in the table's schema */
    int32_t columns[DELTA_MERGE_KEYS_MAX];
    int32_t position_count;
    int32_t time; /* column of the batches, or -1 */
    uint64_t *hashes;
    struct delta_touched file; /* the one being read */
};

static int add_match(struct delta_merge *merge, int64_t row, struct delta_entry *entry,
                     struct weir_error *err) {
    if (merge->match_count == merge->match_capacity) {
        size_t capacity = merge->match_capacity > 0 ? merge->match_capacity * 2 : 1024;
        struct delta_match *matches = realloc(merge->matches, capacity * sizeof(*matches));
        if (matches == NULL) {
            return delta_merge_no_memory(err);
        }
        merge->matches = matches;
        merge->match_capacity = capacity;
    }
    merge->matches[merge->match_count++] = (struct delta_match){row, entry};
    return WEIR_OK;
}

static int match_rows(void *context, struct weir_batch **batch, int64_t first_row,
                      const uint8_t *deleted, struct weir_error *err) {
    struct matching *matching = context;
    struct delta_merge *merge = matching->merge;
    const struct weir_batch *rows = *batch;
    int rc = WEIR_OK;
    delta_keys_hash(rows, matching->columns, merge->key_count, matching->hashes);
    matching->file.rows += rows->rows;
    for (int32_t i = 0; i < rows->rows && rc == WEIR_OK; i++) {
        if (deleted != NULL && weir_bit_get(deleted, first_row + i)) {
            continue;
        }
        matching->file.live++;
        struct delta_entry *entry =
            delta_keys_find(&merge->keys, rows, matching->columns, i, matching->hashes[i]);
        if (entry != NULL) {
            int64_t time;
            entry->matched = true;
            if (merge->tracked) {
                entry->row_id =
                    ((const int64_t *)rows->columns[matching->position_count].values)[i];
            }
            if (matching->time >= 0 && entry->has_time &&
                delta_int_value(&rows->columns[matching->time], i, &time) && time > entry->time) {
                entry->outdated = true;
            }
            rc = add_match(merge, first_row + i, entry, err);
        }
    }
    return rc;
}

static int match_file(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct matching *matching = context;
    struct delta_merge *merge = matching->merge;
    if (!delta_prune_may_hold(matching->prune, add)) {
        return WEIR_OK;
    }
    merge->result->files_read++;
    matching->file = (struct delta_touched){.add = delta_snapshot_find(merge->table->snapshot, add),
                                            .first = merge->match_count};
    int rc = delta_scan_file(merge->table->snapshot, add, matching->positions,
                             matching->position_count, merge->tracked ? &merge->tracking : NULL,
                             merge->options->pool, match_rows, matching, err);
    matching->file.count = merge->match_count - matching->file.first;
    if (rc != WEIR_OK || matching->file.count == 0) {
        return rc;
    }
    if (merge->touched_count == merge->touched_capacity) {
        int32_t capacity = merge->touched_capacity > 0 ? merge->touched_capacity * 2 : 64;
        struct delta_touched *touched =
            realloc(merge->touched, (size_t)capacity * sizeof(*touched));
        if (touched == NULL) {
            return delta_merge_no_memory(err);
        }
        merge->touched = touched;
        merge->touched_capacity = capacity;
    }
    merge->touched[merge->touched_count++] = matching->file;
    return WEIR_OK;
}

/* Partition columns whose value follows from the key, and is spelled in one way alone. */
static int plan_prune(struct delta_merge *merge, struct delta_prune **out,
                      const struct weir_delta_column *table_columns,
                      const struct weir_schema *table_schema, struct weir_error *err) {
    const struct weir_delta_metadata *metadata = &merge->table->snapshot->metadata;
    struct delta_partition_column columns[DELTA_MERGE_KEYS_MAX];
    struct delta_prune_partition partitions[DELTA_MERGE_KEYS_MAX];
    struct weir_delta_column names[DELTA_MERGE_KEYS_MAX];
    int32_t count = 0;
    for (int32_t k = 0; k < merge->key_count; k++) {
        names[k] = table_columns[weir_schema_find(table_schema, merge->options->keys[k])];
    }
    for (int32_t i = 0; i < merge->partition_count && count < DELTA_MERGE_KEYS_MAX; i++) {
        const struct weir_delta_partition *partition = &merge->partitions[i];
        for (int32_t k = 0; k < merge->key_count; k++) {
            uint8_t type = merge->changes[0]->schema->fields[merge->key_columns[k]].type;
            bool plain = partition->transform != WEIR_DELTA_IDENTITY || type == WEIR_TYPE_STRING ||
                         type == WEIR_TYPE_DATE ||
                         (type >= WEIR_TYPE_INT8 && type <= WEIR_TYPE_INT64);
            if (plain && strcmp(partition->column, merge->options->keys[k]) == 0) {
                int32_t at = weir_schema_find(table_schema, metadata->partition_columns[i]);
                columns[count] = (struct delta_partition_column){
                    metadata->partition_columns[i], merge->key_columns[k], partition->transform};
                partitions[count] = (struct delta_prune_partition){
                    at >= 0 ? table_columns[at].physical_name : metadata->partition_columns[i],
                    &columns[count]};
                count++;
                break;
            }
        }
    }
    return delta_prune_create(out, &merge->keys, names, partitions, count, err);
}

int delta_merge_match(struct delta_merge *merge, struct weir_error *err) {
    struct weir_delta_snapshot *snapshot = merge->table->snapshot;
    struct matching matching = {.merge = merge, .time = -1};
    struct delta_prune *prune = NULL;
    int32_t positions[DELTA_MERGE_KEYS_MAX + 1];
    const struct weir_delta_column *columns;
    const struct weir_schema *schema;
    merge->match_count = 0;
    merge->touched_count = 0;
    for (int64_t i = 0; i < merge->keys.count; i++) {
        merge->keys.entries[i].outdated = false;
        merge->keys.entries[i].matched = false;
        merge->keys.entries[i].old = -1;
    }
    int rc = merge->options->truncate
                 ? WEIR_OK
                 : weir_delta_snapshot_schema(snapshot, &schema, &columns, err);
    if (rc != WEIR_OK || merge->options->truncate) {
        return rc;
    }
    for (int32_t i = 0; i < merge->key_count; i++) {
        positions[i] = weir_schema_find(schema, merge->options->keys[i]);
        matching.columns[i] = i;
    }
    matching.position_count = merge->key_count;
    if (merge->time >= 0) {
        int32_t at = weir_schema_find(schema, merge->options->time);
        if (at >= 0) {
            matching.time = matching.position_count;
            positions[matching.position_count++] = at;
        }
    }
    matching.positions = positions;
    matching.hashes = malloc((WEIR_BATCH_ROWS_MAX + 1) * sizeof(*matching.hashes));
    rc = matching.hashes != NULL ? plan_prune(merge, &prune, columns, schema, err)
                                 : delta_merge_no_memory(err);
    if (rc == WEIR_OK) {
        matching.prune = prune;
        rc = weir_delta_snapshot_each_file(snapshot, match_file, &matching, err);
    }
    delta_prune_destroy(prune);
    free(matching.hashes);
    return rc;
}

/* --- writing ------------------------------------------------------------------------------- */

/* Rows of a batch of the table's, in the order of the matches, that go to the feed. */
int delta_merge_feed(struct delta_merge *merge, struct weir_batch *batch, const int32_t *sel,
                     int32_t count, const char *kind, struct weir_error *err) {
    if (!merge->feed || count == 0) {
        return WEIR_OK;
    }
    struct weir_batch *rows = weir_batch_create(merge->options->pool, merge->feed_schema);
    if (rows == NULL) {
        return weir_error_set(err, WEIR_E_LIMIT, "merge: out of memory");
    }
    int rc = WEIR_OK;
    int32_t last = merge->column_count;
    size_t length = strlen(kind);
    rows->rows = batch->rows;
    for (int32_t i = 0; i < last && rc == WEIR_OK; i++) {
        rc = weir_batch_borrow(rows, i, batch, i);
    }
    struct weir_column *column = &rows->columns[last];
    if (rc == WEIR_OK) {
        rc = weir_column_init(column, &merge->feed_schema->fields[last], rows);
    }
    column->offsets = weir_batch_alloc(rows, ((size_t)batch->rows + 1) * sizeof(int32_t));
    column->values = weir_batch_alloc(rows, length * (size_t)batch->rows + 1);
    if (rc != WEIR_OK || column->offsets == NULL || column->values == NULL) {
        weir_batch_unref(rows);
        return weir_error_set(err, WEIR_E_LIMIT, "merge: out of memory");
    }
    for (int32_t i = 0; i < batch->rows; i++) {
        column->offsets[i] = (int32_t)length * i;
        memcpy((char *)column->values + length * (size_t)i, kind, length);
    }
    column->offsets[batch->rows] = (int32_t)length * batch->rows;
    column->length = batch->rows;
    rc = weir_delta_writer_append(merge->feed_writer, rows, sel, count, err);
    weir_batch_unref(rows);
    return rc;
}

struct rewriting {
    struct delta_merge *merge;
    const struct delta_match *match; /* the next of the file's */
    const struct delta_match *end;
    bool keep; /* copy-on-write: rows that stay go to the new file */
};

static int rewrite_rows(void *context, struct weir_batch **batch, int64_t first_row,
                        const uint8_t *deleted, struct weir_error *err) {
    struct rewriting *rewriting = context;
    struct delta_merge *merge = rewriting->merge;
    int32_t kept[WEIR_BATCH_ROWS_MAX];
    int32_t updated[WEIR_BATCH_ROWS_MAX];
    int32_t removed[WEIR_BATCH_ROWS_MAX];
    struct delta_entry *replaced[WEIR_BATCH_ROWS_MAX];
    int32_t kept_count = 0;
    int32_t updated_count = 0;
    int32_t removed_count = 0;
    int rc = WEIR_OK;
    for (int32_t i = 0; i < (*batch)->rows; i++) {
        struct delta_entry *entry = NULL;
        if (rewriting->match < rewriting->end && rewriting->match->row == first_row + i) {
            entry = rewriting->match++->entry;
        }
        if (deleted != NULL && weir_bit_get(deleted, first_row + i)) {
            continue;
        }
        if (entry == NULL || entry->outdated) {
            kept[kept_count++] = i;
        } else if (entry->is_delete) {
            removed[removed_count++] = i;
        } else {
            replaced[updated_count] = entry;
            updated[updated_count++] = i;
        }
    }
    if (rewriting->keep && kept_count > 0) {
        rc = weir_delta_writer_append(merge->writer, *batch, kept, kept_count, err);
    }
    if (rc == WEIR_OK) {
        rc = delta_merge_feed(merge, *batch, updated, updated_count, "update_preimage", err);
    }
    if (rc == WEIR_OK && merge->keys.part_count > 0) {
        rc = delta_parts_keep(merge, *batch, updated, replaced, updated_count, err);
    }
    return rc == WEIR_OK ? delta_merge_feed(merge, *batch, removed, removed_count, "delete", err)
                         : rc;
}

static int format_remove(struct delta_merge *merge, const struct weir_delta_add *add,
                         struct weir_error *err) {
    int rc = weir_delta_remove_format(add, weir_clock_wall_us() / 1000, true, &merge->actions);
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "merge: the commit grows past 1 GiB");
}

/* Statistics of a file some of whose rows are deleted: the same bounds, no longer tight. */
static int loosen(const char *stats, int64_t rows, struct weir_buffer *out) {
    static const char tight[] = "true";
    const char *at = delta_stats_member(stats, "tightBounds");
    if (at != NULL && strncmp(at, tight, sizeof(tight) - 1) == 0) {
        return weir_buffer_printf(out, "%.*sfalse%s", (int)(at - stats), stats,
                                  at + sizeof(tight) - 1);
    }
    if (at != NULL) {
        return weir_buffer_append_text(out, stats);
    }
    if (delta_stats_rows(stats) >= 0) {
        return weir_buffer_printf(out, "{\"tightBounds\":false,%s", strchr(stats, '{') + 1);
    }
    return weir_buffer_printf(out, "{\"numRecords\":%" PRId64 ",\"tightBounds\":false}", rows);
}

static int put_vector(struct delta_merge *merge, const struct delta_touched *touched,
                      struct weir_error *err) {
    const struct weir_delta_table *table = merge->table;
    struct weir_delta_add add = *touched->add;
    struct weir_buffer stats;
    struct weir_buffer held_stats;
    uint8_t *bits = NULL;
    int rc = WEIR_OK;
    weir_buffer_init(&stats, 64u << 20);
    weir_buffer_init(&held_stats, 64u << 20);
    if (touched->add->dv.storage_type != 0) {
        rc = delta_dv_read(table->snapshot, &touched->add->dv, touched->rows, &bits, err);
    } else {
        bits = calloc((size_t)touched->rows / 8 + 1, 1);
        rc = bits != NULL ? WEIR_OK : delta_merge_no_memory(err);
    }
    for (size_t i = 0; rc == WEIR_OK && i < touched->count; i++) {
        const struct delta_match *match = &merge->matches[touched->first + i];
        if (!match->entry->outdated) {
            weir_bit_set(bits, match->row);
        }
    }
    if (rc == WEIR_OK && !merge->has_vectors) {
        rc = delta_dv_writer_init(&merge->vectors, table->dir, err);
        merge->has_vectors = rc == WEIR_OK;
    }
    if (rc == WEIR_OK) {
        rc = delta_dv_writer_add(&merge->vectors, bits, touched->rows, &add.dv, err);
    }
    if (rc == WEIR_OK) {
        const char *held = delta_snapshot_stats(table->snapshot, touched->add, &held_stats, &rc);
        rc = rc == WEIR_OK ? loosen(held, touched->rows, &stats) : rc;
        add.stats = rc == WEIR_OK ? weir_buffer_text(&stats) : NULL;
        add.stats_template = 0;
        add.data_change = true;
        rc = add.stats != NULL ? weir_delta_add_format(&add, &merge->actions) : WEIR_E_NOMEM;
        rc = rc == WEIR_OK ? weir_buffer_append(&merge->actions, "\n", 1) : rc;
        if (rc != WEIR_OK) {
            weir_error_set(err, rc, "merge: the commit grows past 1 GiB");
        }
    }
    weir_buffer_fini(&held_stats);
    weir_buffer_fini(&stats);
    free(bits);
    return rc;
}

/* Reads a touched file again, whole, for the rows it keeps and those the feed tells. */
static int rewrite_file(struct delta_merge *merge, const struct delta_touched *touched, bool keep,
                        struct weir_error *err) {
    struct rewriting rewriting = {.merge = merge,
                                  .match = &merge->matches[touched->first],
                                  .end = &merge->matches[touched->first + touched->count],
                                  .keep = keep};
    return delta_scan_file(merge->table->snapshot, touched->add, merge->positions,
                           merge->column_count, merge->tracked ? &merge->tracking : NULL,
                           merge->options->pool, rewrite_rows, &rewriting, err);
}

static int change_file(struct delta_merge *merge, const struct delta_touched *touched,
                       struct weir_error *err) {
    int64_t gone = 0;
    for (size_t i = 0; i < touched->count; i++) {
        gone += !merge->matches[touched->first + i].entry->outdated;
    }
    if (gone == 0) {
        return WEIR_OK;
    }
    merge->result->files_changed++;
    int rc = format_remove(merge, touched->add, err);
    bool whole = gone == touched->live;
    bool keep = !merge->use_vectors && !whole;
    if (rc == WEIR_OK && merge->use_vectors && !whole) {
        rc = put_vector(merge, touched, err);
    }
    if (rc == WEIR_OK && (keep || merge->feed || delta_parts_in(merge, touched))) {
        rc = rewrite_file(merge, touched, keep, err);
    }
    return rc;
}

/* Rows that the table had keep their ids; their version is that of the commit, as for new rows. */
static int put_row_ids(const struct delta_merge *merge, struct weir_batch *batch,
                       struct delta_entry *const *entries, int64_t count) {
    size_t bits = (size_t)batch->rows / 8 + 1;
    for (int32_t c = 0; c < DELTA_TRACKING_COLUMNS; c++) {
        struct weir_column *column = &batch->columns[merge->column_count + c];
        column->values = weir_batch_alloc(batch, ((size_t)batch->rows + 1) * sizeof(int64_t));
        column->validity = weir_batch_alloc(batch, bits);
        if (column->values == NULL || column->validity == NULL) {
            return WEIR_E_LIMIT;
        }
        memset(column->values, 0, (size_t)batch->rows * sizeof(int64_t));
        memset(column->validity, 0, bits);
        column->length = batch->rows;
        column->null_count = batch->rows;
    }
    struct weir_column *ids = &batch->columns[merge->column_count];
    for (int64_t i = 0; i < count; i++) {
        if (entries[i]->matched) {
            ((int64_t *)ids->values)[entries[i]->row] = entries[i]->row_id;
            weir_bit_set(ids->validity, entries[i]->row);
            ids->null_count--;
        }
    }
    return WEIR_OK;
}

/* A batch of changes with the columns data files are written from. */
static struct weir_batch *shape_changes(const struct delta_merge *merge, struct weir_batch *from,
                                        struct delta_entry *const *entries, int64_t count) {
    struct weir_batch *batch = weir_batch_create(merge->options->pool, merge->schema);
    int rc = batch != NULL ? WEIR_OK : WEIR_E_LIMIT;
    if (batch != NULL) {
        batch->rows = from->rows;
    }
    for (int32_t i = 0; rc == WEIR_OK && i < merge->column_count; i++) {
        struct weir_column *column = &batch->columns[i];
        if (merge->sources[i] >= 0) {
            rc = weir_batch_borrow(batch, i, from, merge->sources[i]);
            continue;
        }
        struct weir_delta_column none = {.physical_name = merge->schema->fields[i].name};
        rc = delta_convert_column(&merge->schema->fields[i], &none, NULL, NULL, from->rows, batch,
                                  column, NULL);
    }
    if (rc == WEIR_OK && merge->tracked) {
        rc = put_row_ids(merge, batch, entries, count);
    }
    if (rc != WEIR_OK && batch != NULL) {
        weir_batch_unref(batch);
        return NULL;
    }
    return batch;
}

/* The rows that count of one batch of changes. `order` lists the entries by batch and row. */
static int put_changes(struct delta_merge *merge, struct weir_batch *from,
                       struct delta_entry *const *entries, int64_t count, struct weir_error *err) {
    int32_t *rows = malloc(((size_t)count * 3 + 3) * sizeof(*rows));
    struct weir_batch *batch = shape_changes(merge, from, entries, count);
    int32_t *inserted = rows + count + 1;
    int32_t *updated = inserted + count + 1;
    int32_t row_count = 0;
    int32_t inserted_count = 0;
    int32_t updated_count = 0;
    int rc = rows != NULL && batch != NULL ? WEIR_OK : delta_merge_no_memory(err);
    for (int64_t i = 0; i < count && rc == WEIR_OK; i++) {
        const struct delta_entry *entry = entries[i];
        merge->result->outdated += entry->outdated;
        if (entry->outdated) {
            continue;
        }
        if (entry->is_delete) {
            merge->result->deleted += entry->matched;
            continue;
        }
        if (entry->part_count > 0) {
            continue; /* delta_parts_write's */
        }
        rows[row_count++] = entry->row;
        if (entry->matched) {
            updated[updated_count++] = entry->row;
        } else {
            inserted[inserted_count++] = entry->row;
        }
    }
    merge->result->inserted += inserted_count;
    merge->result->updated += updated_count;
    if (rc == WEIR_OK && row_count > 0) {
        rc = weir_delta_writer_append(merge->writer, batch, rows, row_count, err);
    }
    if (rc == WEIR_OK) {
        rc = delta_merge_feed(merge, batch, inserted, inserted_count, "insert", err);
    }
    if (rc == WEIR_OK) {
        rc = delta_merge_feed(merge, batch, updated, updated_count, "update_postimage", err);
    }
    if (batch != NULL) {
        weir_batch_unref(batch);
    }
    free(rows);
    return rc;
}

static int compare_entries(const void *a, const void *b) {
    const struct delta_entry *left = *(struct delta_entry *const *)a;
    const struct delta_entry *right = *(struct delta_entry *const *)b;
    if (left->batch != right->batch) {
        return left->batch < right->batch ? -1 : 1;
    }
    return left->row < right->row ? -1 : left->row > right->row;
}

static int put_all_changes(struct delta_merge *merge, struct weir_error *err) {
    int64_t count = merge->keys.count;
    struct delta_entry **entries = malloc(((size_t)count + 1) * sizeof(*entries));
    if (entries == NULL) {
        return delta_merge_no_memory(err);
    }
    for (int64_t i = 0; i < count; i++) {
        entries[i] = &merge->keys.entries[i];
    }
    qsort(entries, (size_t)count, sizeof(*entries), compare_entries);
    int rc = WEIR_OK;
    for (int64_t i = 0; i < count && rc == WEIR_OK;) {
        int64_t end = i;
        while (end < count && entries[end]->batch == entries[i]->batch) {
            end++;
        }
        rc = put_changes(merge, merge->changes[entries[i]->batch], &entries[i], end - i, err);
        i = end;
    }
    if (rc == WEIR_OK && merge->keys.part_count > 0) {
        rc = delta_parts_write(merge, entries, count, err);
    }
    free(entries);
    return rc;
}

static int open_writers(struct delta_merge *merge, struct weir_error *err) {
    struct weir_delta_writer_options options = {0};
    int rc = WEIR_OK;
    if (merge->options->writer != NULL) {
        options = *merge->options->writer;
    }
    options.as_is = true;
    options.hidden_columns = merge->tracked ? DELTA_TRACKING_COLUMNS : 0;
    if (merge->writer == NULL) {
        rc = weir_delta_writer_create(merge->table, merge->schema, merge->partitions,
                                      merge->partition_count, &options, &merge->writer, err);
    }
    if (rc != WEIR_OK || !merge->feed || merge->feed_writer != NULL) {
        return rc;
    }
    merge->feed_schema = weir_schema_create();
    rc = merge->feed_schema != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (int32_t i = 0; rc == WEIR_OK && i < merge->column_count; i++) {
        rc = weir_schema_add(merge->feed_schema, &merge->schema->fields[i]);
    }
    if (rc == WEIR_OK) {
        rc = weir_schema_add_text(merge->feed_schema, "_change_type", "string", true, NULL);
    }
    if (rc != WEIR_OK) {
        return delta_merge_no_memory(err);
    }
    options.folder = "_change_data/";
    options.hidden_columns = 0;
    return weir_delta_writer_create(merge->table, merge->feed_schema, merge->partitions,
                                    merge->partition_count, &options, &merge->feed_writer, err);
}

static int format_adds(struct delta_merge *merge, struct weir_error *err) {
    int rc = delta_track_rows(merge->table->snapshot, merge->adds.items, merge->adds.count,
                              &merge->actions, err);
    for (int32_t i = 0; i < merge->adds.count && rc == WEIR_OK; i++) {
        rc = weir_delta_add_format(merge->adds.items[i], &merge->actions);
        rc = rc == WEIR_OK ? weir_buffer_append(&merge->actions, "\n", 1) : rc;
    }
    /* without a removed file readers take the feed from the adds themselves */
    for (int32_t i = 0; i < merge->cdc.count && rc == WEIR_OK; i++) {
        rc = weir_delta_cdc_format(merge->cdc.items[i], &merge->actions);
    }
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "merge: the commit grows past 1 GiB");
}

static int truncate_file(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct delta_merge *merge = context;
    merge->result->files_changed++;
    return format_remove(merge, delta_snapshot_find(merge->table->snapshot, add), err);
}

int delta_merge_write(struct delta_merge *merge, struct weir_error *err) {
    struct weir_delta_table *table = merge->table;
    weir_buffer_clear(&merge->actions);
    int rc = open_writers(merge, err);
    if (rc == WEIR_OK && merge->options->truncate) {
        rc = weir_delta_snapshot_each_file(table->snapshot, truncate_file, merge, err);
    }
    for (int32_t i = 0; i < merge->touched_count && rc == WEIR_OK; i++) {
        rc = change_file(merge, &merge->touched[i], err);
    }
    if (rc == WEIR_OK) {
        rc = put_all_changes(merge, err);
    }
    if (rc == WEIR_OK) {
        rc = weir_delta_writer_seal(merge->writer, &merge->adds, err);
    }
    if (rc == WEIR_OK && merge->feed) {
        rc = weir_delta_writer_seal(merge->feed_writer, &merge->cdc, err);
    }
    if (rc == WEIR_OK && merge->has_vectors) {
        rc = delta_dv_writer_finish(&merge->vectors, table->store, table->dir, err);
    }
    return rc == WEIR_OK ? format_adds(merge, err) : rc;
}

static void remove_adds(struct delta_merge *merge, struct weir_delta_adds *adds,
                        bool remove_files) {
    const struct weir_delta_table *table = merge->table;
    for (int32_t i = 0; remove_files && i < adds->count; i++) {
        char *path = NULL;
        /* best effort: what stays is a file no commit names */
        if (delta_file_path(table->store, table->dir, adds->items[i]->path, &path, NULL) ==
                WEIR_OK &&
            weir_store_remove(table->store, path, NULL) != WEIR_OK) {
            remove_files = false;
        }
        free(path);
    }
    weir_delta_adds_fini(adds);
    memset(adds, 0, sizeof(*adds));
}

void delta_merge_discard(struct delta_merge *merge, bool remove_files) {
    remove_adds(merge, &merge->adds, remove_files);
    remove_adds(merge, &merge->cdc, remove_files);
    if (merge->has_vectors) {
        if (remove_files &&
            weir_store_remove(merge->table->store, merge->vectors.path, NULL) != WEIR_OK) {
            remove_files = false;
        }
        delta_dv_writer_fini(&merge->vectors);
        merge->has_vectors = false;
    }
    delta_parts_forget(merge);
    merge->match_count = 0;
    merge->touched_count = 0;
}
