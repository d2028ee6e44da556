/* Changes that leave columns out: an update of a database that did not touch a value kept outside
 * its row does not say it. Such a column keeps the value it had: that of the change before it, or
 * of the table's row, which is read with the file that loses it. */
#include <stdlib.h>

#include "batch/builder.h"
#include "lake/merge/merge_internal.h"

#define PATCH_BYTES_MAX ((size_t)16 << 20)
enum { PATCH_ROWS = 64 };

static bool wants_old(const struct delta_merge *merge, const struct delta_entry *entry) {
    for (int32_t i = 0; i < entry->part_count; i++) {
        if (merge->keys.parts[entry->first_part + i].batch == DELTA_PART_TABLE) {
            return true;
        }
    }
    return false;
}

bool delta_parts_in(const struct delta_merge *merge, const struct delta_touched *touched) {
    for (size_t i = 0; merge->keys.part_count > 0 && i < touched->count; i++) {
        const struct delta_entry *entry = merge->matches[touched->first + i].entry;
        if (!entry->outdated && wants_old(merge, entry)) {
            return true;
        }
    }
    return false;
}

int delta_parts_keep(struct delta_merge *merge, struct weir_batch *batch, int32_t *rows,
                     struct delta_entry **entries, int32_t count, struct weir_error *err) {
    int32_t kept = 0;
    for (int32_t i = 0; i < count; i++) {
        if (wants_old(merge, entries[i])) {
            entries[kept] = entries[i];
            rows[kept++] = rows[i];
        }
    }
    if (kept == 0) {
        return WEIR_OK;
    }
    if (merge->old_count == merge->old_capacity) {
        int32_t capacity = merge->old_capacity > 0 ? merge->old_capacity * 2 : 64;
        struct weir_batch **old =
            realloc(merge->old, (size_t)capacity * sizeof(struct weir_batch *));
        if (old == NULL) {
            return delta_merge_no_memory(err);
        }
        merge->old = old;
        merge->old_capacity = capacity;
    }
    struct weir_batch *own = weir_batch_gather(batch, rows, kept);
    if (own == NULL) {
        return weir_error_set(err, WEIR_E_LIMIT, "merge: out of memory");
    }
    for (int32_t i = 0; i < kept; i++) {
        entries[i]->old = merge->old_count;
        entries[i]->old_row = i;
    }
    merge->old[merge->old_count++] = own;
    return WEIR_OK;
}

void delta_parts_forget(struct delta_merge *merge) {
    for (int32_t i = 0; i < merge->old_count; i++) {
        weir_batch_unref(merge->old[i]);
    }
    merge->old_count = 0;
}

/* Column c of the table's row, whoever has its value. */
static int put_column(struct delta_merge *merge, const struct delta_entry *entry, int32_t c,
                      struct weir_column_builder *to) {
    if (c >= merge->column_count) {
        return c == merge->column_count && entry->matched ? weir_builder_int(to, entry->row_id)
                                                          : weir_builder_null(to);
    }
    int32_t source = merge->sources[c];
    struct delta_part part = {.batch = entry->batch, .row = entry->row};
    if (source < 0) {
        return weir_builder_null(to);
    }
    for (int32_t i = 0; i < entry->part_count; i++) {
        const struct delta_part *said = &merge->keys.parts[entry->first_part + i];
        part = said->column == source ? *said : part;
    }
    if (part.batch >= 0) {
        return weir_builder_copy(to, &merge->changes[part.batch]->columns[source], part.row);
    }
    if (part.batch == DELTA_PART_TABLE && entry->old >= 0) {
        return weir_builder_copy(to, &merge->old[entry->old]->columns[c], entry->old_row);
    }
    merge->result->unknown++;
    return weir_builder_null(to);
}

static int put_row(struct delta_merge *merge, const struct delta_entry *entry,
                   struct weir_batch_builder *builder) {
    int64_t unknown = merge->result->unknown;
    int rc = WEIR_OK;
    for (int32_t c = 0; rc == WEIR_OK && c < merge->schema->count; c++) {
        rc = put_column(merge, entry, c, &builder->columns[c]);
    }
    if (rc == WEIR_OK) {
        weir_batch_builder_finish_row(builder);
    } else {
        weir_batch_builder_undo_row(builder);
        merge->result->unknown = unknown;
    }
    return rc;
}

/* Rows of a batch under construction, and which of them the table had. */
struct patch {
    struct weir_batch_builder builder;
    int32_t inserted[WEIR_BATCH_ROWS_MAX];
    int32_t updated[WEIR_BATCH_ROWS_MAX];
    int32_t inserted_count;
    int32_t updated_count;
};

static int flush(struct delta_merge *merge, struct patch *patch, struct weir_error *err) {
    int32_t rows = patch->builder.rows;
    struct weir_batch *batch = weir_batch_builder_take(&patch->builder);
    int rc = WEIR_OK;
    if (batch != NULL && rows > 0) {
        rc = weir_delta_writer_append(merge->writer, batch, NULL, rows, err);
        if (rc == WEIR_OK) {
            rc = delta_merge_feed(merge, batch, patch->inserted, patch->inserted_count, "insert",
                                  err);
        }
        if (rc == WEIR_OK) {
            rc = delta_merge_feed(merge, batch, patch->updated, patch->updated_count,
                                  "update_postimage", err);
        }
    }
    weir_batch_unref(batch);
    merge->result->inserted += patch->inserted_count;
    merge->result->updated += patch->updated_count;
    patch->inserted_count = 0;
    patch->updated_count = 0;
    return rc;
}

static int put_entry(struct delta_merge *merge, const struct delta_entry *entry,
                     struct patch *patch, struct weir_error *err) {
    int rc = put_row(merge, entry, &patch->builder);
    if (rc == WEIR_E_LIMIT) { /* the batch is full */
        rc = flush(merge, patch, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        rc = weir_batch_builder_begin_rows(&patch->builder, PATCH_ROWS);
        rc = rc == WEIR_OK ? put_row(merge, entry, &patch->builder) : rc;
    }
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "merge: out of memory");
    }
    int32_t row = patch->builder.rows - 1;
    if (entry->matched) {
        patch->updated[patch->updated_count++] = row;
    } else {
        patch->inserted[patch->inserted_count++] = row;
    }
    return WEIR_OK;
}

int delta_parts_write(struct delta_merge *merge, struct delta_entry *const *entries, int64_t count,
                      struct weir_error *err) {
    struct patch *patch = calloc(1, sizeof(*patch));
    if (patch == NULL) {
        return delta_merge_no_memory(err);
    }
    int rc = weir_batch_builder_init(&patch->builder, merge->options->pool, merge->schema,
                                     WEIR_BATCH_ROWS_MAX, PATCH_BYTES_MAX, err);
    if (rc != WEIR_OK) {
        free(patch);
        return rc;
    }
    rc = weir_batch_builder_begin_rows(&patch->builder, PATCH_ROWS);
    rc = rc == WEIR_OK ? rc : weir_error_set(err, rc, "merge: out of memory");
    for (int64_t i = 0; rc == WEIR_OK && i < count; i++) {
        if (entries[i]->part_count > 0 && !entries[i]->outdated) {
            rc = put_entry(merge, entries[i], patch, err);
        }
    }
    rc = rc == WEIR_OK ? flush(merge, patch, err) : rc;
    weir_batch_builder_fini(&patch->builder);
    free(patch);
    return rc;
}
