/* Rows to data files. Each open partition has a Parquet writer and a store file; Parquet writers
 * are kept and reused from seal to seal, so steady state opens files and nothing else. */
#include "lake/delta/writer_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "core/clock.h"
#include "core/fault.h"
#include "lake/delta/fit.h"
#include "lake/delta/stats.h"

#define STATS_BYTES_MAX ((size_t)64 << 20)

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "write table: out of memory");
}

/* --- files --------------------------------------------------------------------------------- */

static int write_file(void *context, const void *bytes, size_t size, struct weir_error *err) {
    return weir_store_file_write(context, bytes, size, err);
}

static int open_file(struct weir_delta_writer *writer, struct writer_slot *slot,
                     struct weir_error *err) {
    char uuid[DELTA_UUID_BYTES];
    char *path = NULL;
    int rc = delta_uuid(uuid, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (slot->parquet == NULL && writer->idle_count > 0) {
        slot->parquet = writer->idle[--writer->idle_count];
    }
    if (slot->parquet == NULL) {
        rc = weir_parquet_writer_create(&slot->parquet, writer->schema, &writer->parquet, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    if (asprintf(&slot->name, "%spart-%05u-%s.c000.%sparquet", slot->folder,
                 writer->file_number++ % 100000, uuid, writer->codec_name) < 0) {
        slot->name = NULL;
        return no_memory(err);
    }
    path = delta_join(writer->dir, slot->name);
    rc = path != NULL ? weir_store_open(writer->store, path, WEIR_STORE_CREATE, &slot->file, err)
                      : no_memory(err);
    free(path);
    slot->named = false;
    writer->opened = true;
    return rc == WEIR_OK ? weir_parquet_writer_open(slot->parquet, write_file, slot->file, err)
                         : rc;
}

static int sync_folder(struct weir_delta_writer *writer, const char *folder,
                       struct weir_error *err) {
    char *path = delta_join(writer->dir, folder);
    size_t length = path != NULL ? strlen(path) : 0;
    if (length > 0 && path[length - 1] == '/') {
        path[length - 1] = '\0';
    }
    int rc = path != NULL ? weir_store_sync_dir(writer->store, path, err) : no_memory(err);
    free(path);
    return rc;
}

/* Makes the names of freshly opened files durable while rows still come, so that the seal waits for
 * their bytes alone. */
static int name_files(struct weir_delta_writer *writer, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; i < writer->slot_count && rc == WEIR_OK; i++) {
        struct writer_slot *slot = &writer->slots[i];
        if (slot->file != NULL && !slot->named) {
            rc = sync_folder(writer, slot->folder, err);
            slot->named = rc == WEIR_OK;
        }
    }
    writer->opened = rc != WEIR_OK;
    return rc;
}

static int make_add(struct weir_delta_writer *writer, struct writer_slot *slot,
                    const struct weir_parquet_file_info *info, struct weir_delta_add **out,
                    struct weir_error *err) {
    struct weir_delta_add add;
    struct weir_buffer stats;
    struct weir_buffer path;
    memset(&add, 0, sizeof(add));
    weir_buffer_init(&stats, STATS_BYTES_MAX);
    weir_buffer_init(&path, 1u << 20);
    int32_t leaves = info->column_count - writer->hidden_columns;
    leaves =
        writer->stats_leaves >= 0 && writer->stats_leaves < leaves ? writer->stats_leaves : leaves;
    int rc =
        weir_delta_stats_format(info, leaves, writer->stats_skipped, writer->stats_chars, &stats);
    if (rc == WEIR_OK) {
        rc = delta_uri_encode(slot->name, &path);
    }
    add.stats = rc == WEIR_OK ? weir_buffer_text(&stats) : NULL;
    add.path = rc == WEIR_OK ? weir_buffer_text(&path) : NULL;
    add.partition_values = slot->values;
    add.partition_count = writer->partition_count;
    add.size_bytes = slot->file->size_bytes;
    add.modified_ms = weir_clock_wall_us() / 1000;
    add.data_change = true;
    *out = add.stats != NULL && add.path != NULL ? weir_delta_add_dup(&add) : NULL;
    if (*out == NULL) {
        rc = weir_error_set(err, rc != WEIR_OK ? rc : WEIR_E_NOMEM, "describe file %s: %s",
                            slot->name, weir_error_text(rc != WEIR_OK ? rc : WEIR_E_NOMEM));
    }
    weir_buffer_fini(&stats);
    weir_buffer_fini(&path);
    return rc;
}

/* Completes the slot's file and moves it to the finished ones. The Parquet writer is kept for the
 * next file, or freed when memory is what is short. */
static int finish_file(struct weir_delta_writer *writer, struct writer_slot *slot, bool free_memory,
                       struct weir_error *err) {
    struct weir_parquet_file_info info;
    struct writer_finished done = {.named = slot->named};
    if (writer->finished_count == writer->finished_capacity) {
        int32_t capacity = writer->finished_capacity > 0 ? writer->finished_capacity * 2 : 16;
        struct writer_finished *finished =
            realloc(writer->finished, (size_t)capacity * sizeof(*finished));
        if (finished == NULL) {
            return no_memory(err);
        }
        writer->finished = finished;
        writer->finished_capacity = capacity;
    }
    int rc = weir_parquet_writer_finish(slot->parquet, &info, err);
    if (rc == WEIR_OK) {
        rc = make_add(writer, slot, &info, &done.add, err);
    }
    if (rc == WEIR_OK) {
        done.folder = strdup(slot->folder);
        rc = done.folder != NULL ? WEIR_OK : no_memory(err);
    }
    if (rc != WEIR_OK) {
        free(done.add);
        return rc;
    }
    done.file = slot->file;
    slot->file = NULL;
    free(slot->name);
    slot->name = NULL;
    writer->finished[writer->finished_count++] = done;
    if (free_memory || writer->idle_count == writer->slot_max) {
        weir_parquet_writer_destroy(slot->parquet);
    } else {
        writer->idle[writer->idle_count++] = slot->parquet;
    }
    slot->parquet = NULL;
    return WEIR_OK;
}

/* Syncs and closes one finished file ahead of the seal, so that rolled files hold no descriptor. */
static int settle(struct writer_finished *done, struct weir_error *err) {
    if (done->file == NULL) {
        return WEIR_OK;
    }
    int rc = weir_store_file_sync(done->file, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    struct weir_store_file *file = done->file;
    done->file = NULL;
    return weir_store_file_close(file, true, err);
}

static int roll(struct weir_delta_writer *writer, struct writer_slot *slot, bool free_memory,
                struct weir_error *err) {
    int rc = finish_file(writer, slot, free_memory, err);
    return rc == WEIR_OK ? settle(&writer->finished[writer->finished_count - 1], err) : rc;
}

/* --- memory -------------------------------------------------------------------------------- */

size_t weir_delta_writer_memory(const struct weir_delta_writer *writer) {
    int64_t total = 0;
    for (int32_t i = 0; i < writer->slot_count; i++) {
        if (writer->slots[i].parquet != NULL) {
            total += weir_parquet_writer_memory(writer->slots[i].parquet);
        }
    }
    for (int32_t i = 0; i < writer->idle_count; i++) {
        total += weir_parquet_writer_memory(writer->idle[i]);
    }
    return (size_t)total;
}

static int keep_budget(struct weir_delta_writer *writer, struct weir_error *err) {
    while (weir_delta_writer_memory(writer) > writer->memory_bytes) {
        if (writer->idle_count > 0) {
            weir_parquet_writer_destroy(writer->idle[--writer->idle_count]);
            continue;
        }
        struct writer_slot *largest = NULL;
        int64_t most = 0;
        int32_t open = 0;
        for (int32_t i = 0; i < writer->slot_count; i++) {
            struct writer_slot *slot = &writer->slots[i];
            if (slot->file != NULL) {
                int64_t bytes = weir_parquet_writer_memory(slot->parquet);
                open++;
                if (bytes >= most) {
                    most = bytes;
                    largest = slot;
                }
            }
        }
        if (open < 2) {
            break; /* one writer bounds itself by its row groups */
        }
        int rc = roll(writer, largest, true, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}

/* --- partitions ---------------------------------------------------------------------------- */

/* Finishes every file and forgets every partition: when there are more than may be open. */
static int clear_slots(struct weir_delta_writer *writer, bool settle_now, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; i < writer->slot_count && rc == WEIR_OK; i++) {
        struct writer_slot *slot = &writer->slots[i];
        if (slot->file != NULL) {
            rc =
                settle_now ? roll(writer, slot, false, err) : finish_file(writer, slot, false, err);
        }
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    for (int32_t i = 0; i < writer->slot_count; i++) {
        writer_slot_fini(writer, &writer->slots[i]);
    }
    writer->slot_count = 0;
    memset(writer->table, 0, ((size_t)writer->table_mask + 1) * sizeof(*writer->table));
    return WEIR_OK;
}

static int fill_slot(struct weir_delta_writer *writer, struct writer_slot *slot,
                     const struct weir_batch *batch, int32_t row, struct weir_error *err) {
    struct weir_buffer folder;
    struct weir_buffer text;
    weir_buffer_init(&folder, 1u << 20);
    weir_buffer_init(&text, WRITER_KEY_BYTES_MAX);
    int rc = WEIR_OK;
    weir_buffer_init(&slot->key, WRITER_KEY_BYTES_MAX);
    slot->values = calloc((size_t)writer->partition_count + 1, sizeof(*slot->values));
    slot->sel = malloc(WEIR_BATCH_ROWS_MAX * sizeof(*slot->sel));
    if (slot->values == NULL || slot->sel == NULL ||
        weir_buffer_append(&slot->key, writer->key.data, writer->key.size) != WEIR_OK ||
        weir_buffer_append_text(&folder, writer->folder) != WEIR_OK) {
        rc = no_memory(err);
    }
    for (int32_t i = 0; i < writer->partition_count && rc == WEIR_OK; i++) {
        bool is_null;
        weir_buffer_clear(&text);
        rc = delta_partition_text(&writer->partitions[i], batch, row, &text, &is_null, err);
        if (rc == WEIR_OK) {
            const char *value = is_null ? NULL : weir_buffer_text(&text);
            slot->values[i].key = writer->partitions[i].name;
            slot->values[i].value = value != NULL ? strdup(value) : NULL;
            rc = !is_null && slot->values[i].value == NULL
                     ? no_memory(err)
                     : delta_partition_folder(writer->partitions[i].name, value, &folder);
        }
    }
    if (rc == WEIR_OK) {
        const char *path = weir_buffer_text(&folder);
        slot->folder = path != NULL ? strdup(path) : NULL;
        rc = slot->folder != NULL ? WEIR_OK : no_memory(err);
    }
    weir_buffer_fini(&folder);
    weir_buffer_fini(&text);
    return rc;
}

/* The slot of the key in writer->key, made from this row when new. NULL with *rc set on error, or
 * with *rc == WEIR_E_LIMIT when no slot is left. */
static struct writer_slot *find_slot(struct weir_delta_writer *writer,
                                     const struct weir_batch *batch, int32_t row,
                                     struct weir_error *err, int *rc) {
    const struct weir_buffer *key = &writer->key;
    uint64_t hash = XXH64(key->size > 0 ? (const void *)key->data : "", key->size, 0);
    uint32_t at = (uint32_t)hash & writer->table_mask;
    *rc = WEIR_OK;
    for (; writer->table[at] != 0; at = (at + 1) & writer->table_mask) {
        struct writer_slot *slot = &writer->slots[writer->table[at] - 1];
        if (slot->hash == hash && slot->key.size == key->size &&
            (key->size == 0 || memcmp(slot->key.data, key->data, key->size) == 0)) {
            return slot;
        }
    }
    if (writer->slot_count == writer->slot_max) {
        *rc = WEIR_E_LIMIT;
        return NULL;
    }
    struct writer_slot *slot = &writer->slots[writer->slot_count++];
    slot->hash = hash;
    *rc = fill_slot(writer, slot, batch, row, err);
    writer->table[at] = writer->slot_count;
    return *rc == WEIR_OK ? slot : NULL;
}

static int append_slot(struct weir_delta_writer *writer, struct writer_slot *slot,
                       const struct weir_batch *batch, const int32_t *sel, int32_t count,
                       struct weir_error *err) {
    int rc = slot->file == NULL ? open_file(writer, slot, err) : WEIR_OK;
    if (rc == WEIR_OK) {
        rc = weir_parquet_writer_append(slot->parquet, batch, sel, count, err);
    }
    if (rc == WEIR_OK &&
        weir_parquet_writer_size_estimate(slot->parquet) >= (int64_t)writer->target_bytes) {
        rc = roll(writer, slot, false, err);
    }
    return rc;
}

static int flush_selections(struct weir_delta_writer *writer, const struct weir_batch *batch,
                            struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; i < writer->slot_count && rc == WEIR_OK; i++) {
        struct writer_slot *slot = &writer->slots[i];
        if (slot->sel_count > 0) {
            rc = append_slot(writer, slot, batch, slot->sel, slot->sel_count, err);
            slot->sel_count = 0;
        }
    }
    return rc;
}

static int split(struct weir_delta_writer *writer, const struct weir_batch *batch,
                 const int32_t *sel, int32_t count, struct weir_error *err) {
    struct writer_slot *last = NULL;
    int rc = WEIR_OK;
    for (int32_t i = 0; i < count; i++) {
        int32_t row = sel != NULL ? sel[i] : i;
        weir_buffer_clear(&writer->key);
        for (int32_t c = 0; c < writer->partition_count && rc == WEIR_OK; c++) {
            rc = delta_partition_key(&writer->partitions[c], batch, row, &writer->key);
        }
        if (rc != WEIR_OK) {
            return weir_error_set(err, rc, "partition value: %s", weir_error_text(rc));
        }
        if (last == NULL || last->key.size != writer->key.size ||
            memcmp(last->key.data, writer->key.data, writer->key.size) != 0) {
            last = find_slot(writer, batch, row, err, &rc);
            if (last == NULL && rc == WEIR_E_LIMIT) {
                rc = flush_selections(writer, batch, err);
                if (rc == WEIR_OK) {
                    rc = clear_slots(writer, true, err);
                }
                if (rc == WEIR_OK) {
                    last = find_slot(writer, batch, row, err, &rc);
                }
            }
            if (last == NULL || rc != WEIR_OK) {
                return rc;
            }
        }
        if (last->sel_count == WEIR_BATCH_ROWS_MAX) {
            rc = flush_selections(writer, batch, err);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
        last->sel[last->sel_count++] = row;
    }
    return flush_selections(writer, batch, err);
}

static int append_rows(struct weir_delta_writer *writer, struct weir_batch *batch,
                       const int32_t *sel, int32_t count, struct weir_error *err) {
    int rc;
    if (writer->partition_count > 0) {
        rc = split(writer, batch, sel, count, err);
    } else {
        weir_buffer_clear(&writer->key);
        struct writer_slot *slot = find_slot(writer, batch, 0, err, &rc);
        rc = slot != NULL ? append_slot(writer, slot, batch, sel, count, err) : rc;
    }
    if (rc == WEIR_OK) {
        writer->rows += count;
        rc = keep_budget(writer, err);
    }
    return rc == WEIR_OK && writer->opened ? name_files(writer, err) : rc;
}

static int check_rows(struct weir_delta_writer *writer, struct weir_batch *batch,
                      const int32_t *sel, int32_t count, struct weir_error *err) {
    int rc = weir_delta_duties_judge(writer->duties, batch, sel, count, writer->verdict, err);
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        if (writer->verdict[i] != 0) {
            rc = weir_error_set(err, WEIR_E_DATA, "a row violates %s of the table",
                                weir_delta_duties_name(writer->duties, writer->verdict[i] - 1));
        }
    }
    return rc;
}

static int append_judged(struct weir_delta_writer *writer, struct weir_batch *batch,
                         const int32_t *sel, int32_t count, struct weir_error *err) {
    struct weir_batch *full = NULL;
    if (writer->duties == NULL) {
        return append_rows(writer, batch, sel, count, err);
    }
    int rc = writer->judged ? WEIR_OK : check_rows(writer, batch, sel, count, err);
    rc = rc == WEIR_OK ? weir_delta_duties_complete(writer->duties, batch, sel, count, &full, err)
                       : rc;
    rc = rc == WEIR_OK ? append_rows(writer, full, sel, count, err) : rc;
    weir_batch_unref(full);
    return rc;
}

int weir_delta_writer_append(struct weir_delta_writer *writer, struct weir_batch *batch,
                             const int32_t *sel, int32_t count, struct weir_error *err) {
    struct weir_batch *fitted = NULL;
    if (count <= 0 || writer->fitted == NULL) {
        return count > 0 ? append_judged(writer, batch, sel, count, err) : WEIR_OK;
    }
    int rc = weir_delta_fit_batch(batch, writer->fitted, &fitted, err);
    rc = rc == WEIR_OK ? append_judged(writer, fitted, sel, count, err) : rc;
    weir_batch_unref(fitted);
    return rc;
}

int weir_delta_writer_end_group(struct weir_delta_writer *writer, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; i < writer->slot_count && rc == WEIR_OK; i++) {
        if (writer->slots[i].file != NULL) {
            rc = weir_parquet_writer_end_group(writer->slots[i].parquet, err);
        }
    }
    return rc;
}

/* --- seal ---------------------------------------------------------------------------------- */

/* Folders of files that were opened and finished within one append. */
static int sync_folders(struct weir_delta_writer *writer, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; i < writer->finished_count && rc == WEIR_OK; i++) {
        struct writer_finished *done = &writer->finished[i];
        if (!done->named) {
            rc = sync_folder(writer, done->folder, err);
        }
        for (int32_t j = i; j < writer->finished_count && rc == WEIR_OK; j++) {
            struct writer_finished *other = &writer->finished[j];
            other->named = other->named || strcmp(other->folder, done->folder) == 0;
        }
    }
    return rc;
}

/* Syncs all finished files at once, then closes them. */
static int sync_files(struct weir_delta_writer *writer, struct weir_error *err) {
    int32_t count = 0;
    if (writer->finished_count > writer->unsynced_capacity) {
        int32_t capacity = writer->finished_capacity;
        struct weir_store_file **files =
            realloc(writer->unsynced, (size_t)capacity * sizeof(struct weir_store_file *));
        if (files == NULL) {
            return no_memory(err);
        }
        writer->unsynced = files;
        writer->unsynced_capacity = capacity;
    }
    for (int32_t i = 0; i < writer->finished_count; i++) {
        if (writer->finished[i].file != NULL) {
            writer->unsynced[count++] = writer->finished[i].file;
        }
    }
    int rc = weir_store_sync_files(writer->unsynced, count, err);
    for (int32_t i = 0; i < writer->finished_count && rc == WEIR_OK; i++) {
        struct weir_store_file *file = writer->finished[i].file;
        writer->finished[i].file = NULL;
        rc = weir_store_file_close(file, true, err);
    }
    return rc;
}

int weir_delta_writer_seal(struct weir_delta_writer *writer, struct weir_delta_adds *adds,
                           struct weir_error *err) {
    int rc = clear_slots(writer, false, err);
    if (rc == WEIR_OK && writer->finished_count > 0 && WEIR_FAULT(sink_file_written)) {
        rc = weir_error_set(err, WEIR_E_FAULT, "seal: injected fault before the sync");
    }
    if (rc == WEIR_OK) {
        rc = sync_files(writer, err);
    }
    if (rc == WEIR_OK) {
        rc = sync_folders(writer, err);
    }
    if (rc == WEIR_OK && writer->finished_count > 0 && WEIR_FAULT(sink_file_synced)) {
        rc = weir_error_set(err, WEIR_E_FAULT, "seal: injected fault after the sync");
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    int32_t moved = 0;
    for (; moved < writer->finished_count && rc == WEIR_OK; moved++) {
        rc = weir_delta_adds_push(adds, writer->finished[moved].add);
        if (rc != WEIR_OK) {
            break;
        }
        free(writer->finished[moved].folder);
    }
    writer->finished_count -= moved;
    if (writer->finished_count > 0) {
        memmove(writer->finished, writer->finished + moved,
                (size_t)writer->finished_count * sizeof(*writer->finished));
    }
    writer->rows = 0;
    return rc == WEIR_OK ? rc : no_memory(err);
}

int64_t weir_delta_writer_rows(const struct weir_delta_writer *writer) {
    return writer->rows;
}

int weir_delta_adds_exist(struct weir_delta_table *table, struct weir_delta_add *const *adds,
                          int32_t count, struct weir_error *err) {
    for (int32_t i = 0; i < count; i++) {
        char *path;
        struct weir_store_info info;
        int rc = delta_file_path(table->store, table->dir, adds[i]->path, &path, err);
        if (rc == WEIR_OK) {
            rc = weir_store_stat(table->store, path, &info, err);
        }
        free(path);
        if (rc != WEIR_OK) {
            return rc;
        }
        if (info.size_bytes != adds[i]->size_bytes) {
            return weir_error_set(err, WEIR_E_CORRUPT,
                                  "data file %s of table %s has %lld bytes instead of %lld",
                                  adds[i]->path, table->dir, (long long)info.size_bytes,
                                  (long long)adds[i]->size_bytes);
        }
    }
    return WEIR_OK;
}
