/* The Delta log reader on hostile bytes: the files of a log (each after a line "@@NAME") read
 * through the store that tests use, at every version and by time. Whatever comes must be applied or
 * refused, never crash, leak or run away.
 *
 * fuzz:
 *   runtime/lake/delta/actions_parse.c
 *   runtime/lake/delta/schema_json.c
 *   runtime/lake/delta/snapshot.c
 *   runtime/lake/delta/log.c
 *   runtime/lake/delta/listing.c
 *   runtime/lake/delta/features.c
 *   runtime/lake/delta/checkpoint_read.c */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "lake/delta/commit.h"
#include "lake/delta/schema_json.h"
#include "lake/delta/state.h"
#include "lake/delta/table.h"
#include "lake/delta/writer.h"

enum { FILES_MAX = 32, VERSIONS_MAX = 6, COLUMNS_MAX = 20, NAME_MAX_BYTES = 120 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t seen; /* keeps what was read alive */

static const uint8_t *next_file(const uint8_t *at, const uint8_t *end) {
    const uint8_t *mark = at < end ? memmem(at, (size_t)(end - at), "\n@@", 3) : NULL;
    return mark != NULL ? mark : end;
}

static void put_files(struct weir_store *store, const uint8_t *data, size_t size) {
    const uint8_t *end = data + size;
    const uint8_t *at = next_file(data, end);
    for (int i = 0; i < FILES_MAX && at < end; i++) {
        const uint8_t *name = at + 3;
        const uint8_t *line = memchr(name, '\n', (size_t)(end - name));
        at = next_file(name, end);
        if (line == NULL || line - name > NAME_MAX_BYTES || line >= at) {
            continue;
        }
        char path[NAME_MAX_BYTES + 16];
        snprintf(path, sizeof(path), "_delta_log/%.*s", (int)(line - name), (const char *)name);
        if (weir_store_put(store, path, line + 1, (size_t)(at - line - 1), NULL) != WEIR_OK) {
            continue; /* not a name a store takes */
        }
    }
}

static int visit_add(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct weir_buffer text;
    struct weir_delta_add *back = NULL;
    (void)err;
    weir_buffer_init(&text, 1u << 24);
    if (delta_snapshot_find(context, add) == NULL) {
        __builtin_trap(); /* it was handed out as one of its files */
    }
    if (weir_delta_add_format(add, &text) != WEIR_OK ||
        weir_delta_add_parse((const char *)text.data, text.size, &back, NULL) != WEIR_OK ||
        strcmp(back->path, add->path) != 0 || back->partition_count != add->partition_count) {
        __builtin_trap(); /* an effect in the ledger is this text */
    }
    free(back);
    weir_buffer_fini(&text);
    return WEIR_OK;
}

static int visit_commit(void *context, int64_t version, int64_t timestamp_ms,
                        const struct weir_delta_commit_info *info) {
    (void)context;
    seen += (uint64_t)version + (uint64_t)timestamp_ms + (info != NULL);
    return WEIR_OK;
}

/* The columns written as we would, read again, and once more without a NOT NULL. */
static void write_schema(struct weir_delta_snapshot *snapshot) {
    const struct weir_schema *schema;
    struct weir_schema *back = NULL;
    struct weir_delta_column *columns = NULL;
    struct weir_buffer text;
    weir_buffer_init(&text, 1u << 24);
    if (weir_delta_snapshot_schema(snapshot, &schema, NULL, NULL) == WEIR_OK &&
        weir_delta_schema_format(schema, &text, NULL) == WEIR_OK &&
        weir_delta_schema_relax(&text, schema->fields, schema->count, NULL) == WEIR_OK &&
        weir_buffer_append(&text, "", 1) == WEIR_OK) {
        if (weir_delta_schema_parse((const char *)text.data, &back, &columns, NULL) == WEIR_OK) {
            seen += (uint64_t)back->count;
            weir_delta_columns_free(columns, back->count);
        }
        weir_schema_unref(back);
    }
    weir_buffer_fini(&text);
}

/* What cleaning up asks of every checkpoint there is. */
static void list_sidecars(struct weir_store *store) {
    struct delta_listing listing;
    if (delta_list_log(store, "", NULL, &listing, NULL) != WEIR_OK) {
        return;
    }
    for (size_t i = 0; i < listing.checkpoint_count; i++) {
        char **names = NULL;
        int32_t count = 0;
        if (delta_checkpoint_sidecars(store, "", &listing.checkpoints[i], &names, &count, NULL) ==
            WEIR_OK) {
            seen += (uint64_t)count;
        }
        for (int32_t n = 0; n < count; n++) {
            free(names[n]);
        }
        free(names);
    }
    delta_listing_fini(&listing);
}

static int64_t look(struct weir_store *store, const struct weir_delta_at *at) {
    struct weir_delta_snapshot *snapshot;
    struct weir_buffer text;
    if (weir_delta_snapshot_open(store, "", at, &snapshot, NULL) != WEIR_OK) {
        return -1;
    }
    int64_t version = weir_delta_snapshot_version(snapshot);
    weir_buffer_init(&text, 1u << 24);
    write_schema(snapshot);
    if (weir_delta_show(snapshot, true, &text, NULL) == WEIR_OK &&
        weir_delta_snapshot_each_file(snapshot, visit_add, snapshot, NULL) == WEIR_OK &&
        weir_delta_snapshot_refresh(snapshot, NULL) == WEIR_OK) {
        seen += text.size + (uint64_t)weir_delta_snapshot_file_bytes(snapshot) +
                (uint64_t)weir_delta_snapshot_txn(snapshot, "a") +
                (uint64_t)weir_delta_snapshot_timestamp_ms(snapshot) +
                (uint64_t)weir_delta_snapshot_checkpoint_version(snapshot) +
                (uint64_t)weir_delta_snapshot_protocol(snapshot)->writer_version +
                (uint64_t)weir_delta_snapshot_metadata(snapshot)->configuration_count;
    }
    weir_buffer_fini(&text);
    weir_delta_snapshot_destroy(snapshot);
    return version;
}

static int visit_exists(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct weir_delta_add *one = weir_delta_add_dup(add);
    (void)err;
    if (one != NULL) {
        seen += (uint64_t)weir_delta_adds_exist(context, &one, 1, NULL);
    }
    free(one);
    return WEIR_OK;
}

/* The read columns once more under other names. */
static int add_columns(struct weir_delta_table *table) {
    const struct weir_schema *schema;
    struct weir_schema *own = weir_schema_create();
    int rc = weir_delta_snapshot_schema(weir_delta_table_snapshot(table), &schema, NULL, NULL);
    for (int32_t i = 0; own != NULL && rc == WEIR_OK && i < schema->count && i < COLUMNS_MAX; i++) {
        char name[16];
        struct weir_field field = schema->fields[i];
        snprintf(name, sizeof(name), "z%02d", (int)i);
        field.name = name;
        rc = weir_schema_add(own, &field);
    }
    if (own != NULL && rc == WEIR_OK) {
        rc = weir_delta_add_columns(table, own->fields, own->count, NULL, NULL, NULL);
    }
    weir_schema_unref(own);
    return rc;
}

static void write_on(struct weir_store *store) {
    struct weir_delta_table *table;
    struct weir_delta_snapshot *again;
    const struct weir_delta_add add = {.path = "new%20file", .size_bytes = 1, .data_change = true};
    if (weir_delta_table_open(store, "", &table, NULL) != WEIR_OK) {
        return;
    }
    struct weir_delta_snapshot *snapshot = weir_delta_table_snapshot(table);
    struct weir_delta_add *one = weir_delta_add_dup(&add);
    const struct weir_delta_commit_options how = {.txn = {"fuzz", 1, 0}};
    int rc = weir_delta_snapshot_each_file(snapshot, visit_exists, table, NULL);
    rc = rc == WEIR_OK ? weir_delta_append(table, &one, 1, &how, NULL, NULL) : rc;
    rc = rc == WEIR_OK ? add_columns(table) : rc;
    rc = rc == WEIR_OK ? weir_delta_checkpoint(table, NULL) : rc;
    if (rc == WEIR_OK) {
        snapshot = weir_delta_table_snapshot(table);
        if (weir_delta_snapshot_open(store, "", NULL, &again, NULL) != WEIR_OK) {
            __builtin_trap();
        }
        if (weir_delta_snapshot_file_count(again) != weir_delta_snapshot_file_count(snapshot) ||
            weir_delta_snapshot_file_bytes(again) != weir_delta_snapshot_file_bytes(snapshot)) {
            __builtin_trap();
        }
        weir_delta_snapshot_destroy(again);
    }
    free(one);
    weir_delta_table_close(table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct weir_store *store;
    if (size > 1u << 20 || weir_store_unsynced_create(&store, NULL) != WEIR_OK) {
        return 0;
    }
    weir_log_set_level(WEIR_LOG_ERROR);
    put_files(store, data, size);
    int64_t last = look(store, NULL);
    for (int64_t v = 0; v <= last && v < VERSIONS_MAX; v++) {
        const struct weir_delta_at at = {.kind = WEIR_DELTA_VERSION, .version = v};
        seen += (uint64_t)look(store, &at);
    }
    const struct weir_delta_at time = {.kind = WEIR_DELTA_TIMESTAMP,
                                       .timestamp_ms = size % 2 == 0 ? 1800000000000 : 5};
    seen += (uint64_t)look(store, &time);
    if (weir_delta_history(store, "", 10, visit_commit, NULL, NULL) == WEIR_OK) {
        seen++;
    }
    list_sidecars(store);
    write_on(store);
    weir_store_destroy(store);
    return 0;
}
