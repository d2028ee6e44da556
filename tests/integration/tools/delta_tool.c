/* Drives the lake room from the integration tests:
 *   delta_tool cat ROOT TABLE [VERSION]     rows as NDJSON
 *   delta_tool show ROOT TABLE              the table as one JSON object
 *   delta_tool files ROOT TABLE             the number of live files
 *   delta_tool write ROOT TABLE COMMITS     every type, nulls and nesting; partitioned by a text
 * and a derived date; a checkpoint when due delta_tool append ROOT TABLE APP VERSION  one commit of
 * one row with a txn The first lines of stderr say what went wrong; exit 1. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "batch/builder.h"
#include "core/fault.h"
#include "lake/delta/table.h"
#include "lake/delta/writer.h"

static int print(void *context, const char *text, size_t length) {
    (void)context;
    return fwrite(text, 1, length, stdout) == length ? WEIR_OK : WEIR_E_IO;
}

static const char *const fields[][2] = {
    {"id", "int64"},
    {"flag", "bool"},
    {"tiny", "int8"},
    {"small", "int16"},
    {"medium", "int32"},
    {"ratio", "float"},
    {"amount", "double"},
    {"price", "decimal(12,2)"},
    {"huge", "decimal(38,9)"},
    {"note", "string"},
    {"raw", "binary"},
    {"day", "date"},
    {"at", "timestamp"},
    {"at_ns", "timestamp_ns"},
    {"tags", "list<string>"},
    {"who", "struct<name: string, age: int32>"},
    {"counts", "map<string, int64>"},
    {"part", "string"},
};
#define FIELDS ((int32_t)(sizeof(fields) / sizeof(fields[0])))

static const char *const ugly[] = {"a/b=c d%e:f#g?",
                                   "plain",
                                   "",
                                   "\xC3\xA4\xE2\x82\xAC \"q\" 'x'",
                                   "tab\there",
                                   "__HIVE_DEFAULT_PARTITION__",
                                   "a+b&c;d",
                                   "x{y}[z]^~|\\"};

/* Row n of the test data: nulls in every column in turn, the rest from n. */
static int put_row(struct weir_batch_builder *b, int64_t n) {
    struct weir_column_builder *c = b->columns;
    char text[64];
    int rc = weir_builder_int(&c[0], n);
    for (int32_t i = 1; i < FIELDS && rc == WEIR_OK; i++) {
        if (n % 23 == i) {
            rc = weir_builder_null(&c[i]);
            continue;
        }
        switch (i) {
        case 1:
            rc = weir_builder_bool(&c[i], n % 2 == 0);
            break;
        case 2:
            rc = weir_builder_int(&c[i], n % 256 - 128);
            break;
        case 3:
            rc = weir_builder_int(&c[i], n % 65536 - 32768);
            break;
        case 4:
            rc = weir_builder_int(&c[i], n * 7 - 1000);
            break;
        case 5:
            rc = weir_builder_float(&c[i], (float)n / 4);
            break;
        case 6:
            rc = weir_builder_double(&c[i], (double)n / 3);
            break;
        case 7:
            rc = weir_builder_decimal(&c[i], (uint64_t)(n * 101 - 5000),
                                      n * 101 - 5000 < 0 ? -1 : 0);
            break;
        case 8: {
            __int128 value = (__int128)n * 1000000007 * 1000000007 * (n % 2 ? -1 : 1);
            rc = weir_builder_decimal(&c[i], (uint64_t)value, (int64_t)(value >> 64));
            break;
        }
        case 9:
            snprintf(text, sizeof(text), "note %" PRId64 " \xE2\x9C\x93", n);
            rc = weir_builder_bytes(&c[i], text, strlen(text));
            break;
        case 10:
            text[0] = (char)n;
            text[1] = 0;
            rc = weir_builder_bytes(&c[i], text, 2);
            break;
        case 11:
            rc = weir_builder_int(&c[i], 19000 + n % 400 - 20000 * (n % 5 == 0));
            break;
        case 12:
            rc = weir_builder_int(&c[i], 1700000000123456 + n * 3600000001ll);
            break;
        case 13:
            rc = weir_builder_int(&c[i], 1700000000123456789 + n);
            break;
        case 14:
            for (int64_t k = 0; k < n % 4 && rc == WEIR_OK; k++) {
                rc = k == 2 ? weir_builder_null(&c[i].children[0])
                            : weir_builder_bytes(&c[i].children[0], "tag", (size_t)k + 1);
            }
            rc = rc == WEIR_OK ? weir_builder_list(&c[i]) : rc;
            break;
        case 15:
            rc = n % 3 == 0 ? weir_builder_null(&c[i].children[0])
                            : weir_builder_bytes(&c[i].children[0], "name", 4);
            rc = rc == WEIR_OK ? weir_builder_int(&c[i].children[1], n % 100) : rc;
            rc = rc == WEIR_OK ? weir_builder_struct(&c[i]) : rc;
            break;
        case 16:
            if (n % 2 == 0) {
                rc = weir_builder_bytes(&c[i].children[0], "k", 1);
                rc = rc == WEIR_OK ? weir_builder_int(&c[i].children[1], n) : rc;
            }
            rc = rc == WEIR_OK ? weir_builder_list(&c[i]) : rc;
            break;
        default: {
            const char *value = ugly[n % 8];
            rc = weir_builder_bytes(&c[i], value, strlen(value));
            break;
        }
        }
    }
    if (rc == WEIR_OK) {
        weir_batch_builder_finish_row(b);
    }
    return rc;
}

static int write_table(struct weir_store *store, const char *dir, int64_t commits,
                       struct weir_error *err) {
    const struct weir_delta_partition partitions[] = {{"part", WEIR_DELTA_IDENTITY},
                                                      {"at", WEIR_DELTA_DATE}};
    struct weir_delta_create_options options = {.partitions = partitions, .partition_count = 2};
    struct weir_schema *schema = weir_schema_create();
    struct weir_pool *pool = weir_pool_create(256u << 20);
    struct weir_delta_table *table = NULL;
    struct weir_delta_writer *writer = NULL;
    struct weir_batch_builder builder;
    int rc = WEIR_OK;
    for (int32_t i = 0; i < FIELDS && rc == WEIR_OK; i++) {
        rc = weir_schema_add_text(schema, fields[i][0], fields[i][1], i > 0, err);
    }
    options.schema = schema;
    rc = rc == WEIR_OK ? weir_delta_table_open_or_create(store, dir, &options, false, &table, err)
                       : rc;
    rc = rc == WEIR_OK ? weir_delta_writer_create(table, schema, partitions, 2, NULL, &writer, err)
                       : rc;
    rc = rc == WEIR_OK ? weir_batch_builder_init(&builder, pool, schema, 100, 1u << 20, err) : rc;
    for (int64_t commit = 0; commit < commits && rc == WEIR_OK; commit++) {
        struct weir_delta_adds adds = {NULL, 0, 0};
        struct weir_delta_commit_options how = {.txn = {"tool", commit, 0}};
        struct weir_delta_commit_result result;
        if (weir_delta_snapshot_txn(weir_delta_table_snapshot(table), "tool") >= commit) {
            continue;
        }
        rc = weir_batch_builder_begin(&builder);
        for (int64_t n = commit * 50; n < commit * 50 + 50 && rc == WEIR_OK; n++) {
            rc = put_row(&builder, n);
        }
        struct weir_batch *batch = weir_batch_builder_take(&builder);
        rc = rc == WEIR_OK ? weir_delta_writer_append(writer, batch, NULL, batch->rows, err) : rc;
        weir_batch_unref(batch);
        rc = rc == WEIR_OK ? weir_delta_writer_seal(writer, &adds, err) : rc;
        rc = rc == WEIR_OK ? weir_delta_append(table, adds.items, adds.count, &how, &result, err)
                           : rc;
        weir_delta_adds_fini(&adds);
        if (rc == WEIR_OK && weir_delta_checkpoint_due(table)) {
            rc = weir_delta_checkpoint(table, err);
        }
        rc = rc == WEIR_OK ? weir_delta_checksum(table, err) : rc;
    }
    if (writer != NULL) {
        weir_batch_builder_fini(&builder);
    }
    weir_delta_writer_destroy(writer);
    weir_delta_table_close(table);
    weir_schema_unref(schema);
    weir_pool_destroy(pool);
    return rc;
}

static int append_one(struct weir_store *store, const char *dir, const char *app, int64_t version,
                      struct weir_error *err) {
    struct weir_delta_commit_options how = {.txn = {app, version, 0}};
    struct weir_delta_table *table = NULL;
    int rc = weir_delta_table_open(store, dir, &table, err);
    struct weir_delta_commit_result result;
    rc = rc == WEIR_OK ? weir_delta_append(table, NULL, 0, &how, &result, err) : rc;
    if (rc == WEIR_OK) {
        printf("{\"version\":%" PRId64 ",\"skipped\":%s,\"attempts\":%d}\n", result.version,
               result.skipped ? "true" : "false", result.attempts);
    }
    weir_delta_table_close(table);
    return rc;
}

int main(int argc, char **argv) {
    struct weir_store *store = NULL;
    struct weir_delta_snapshot *snapshot = NULL;
    struct weir_delta_at at;
    struct weir_buffer text;
    struct weir_error err;
    weir_error_clear(&err);
    weir_buffer_init(&text, 64u << 20);
    if (argc < 4 || !weir_fault_init()) {
        fprintf(stderr, "usage: delta_tool cat|show|files|write|append ROOT TABLE …\n");
        return 2;
    }
    const char *dir = strcmp(argv[3], ".") == 0 ? "" : argv[3];
    bool writes = strcmp(argv[1], "write") == 0;
    int rc = writes ? weir_store_local_create(argv[2], &store, &err)
                    : weir_store_local_open(argv[2], &store, &err);
    if (rc == WEIR_OK && writes) {
        rc = write_table(store, dir, argc > 4 ? atoll(argv[4]) : 1, &err);
    } else if (rc == WEIR_OK && strcmp(argv[1], "append") == 0 && argc > 5) {
        rc = append_one(store, dir, argv[4], atoll(argv[5]), &err);
    } else if (rc == WEIR_OK) {
        rc = weir_delta_at_parse(argc > 4 ? argv[4] : NULL, NULL, &at, &err);
        rc = rc == WEIR_OK ? weir_delta_snapshot_open(store, dir, &at, &snapshot, &err) : rc;
        if (rc == WEIR_OK && strcmp(argv[1], "files") == 0) {
            printf("%" PRId64 "\n", weir_delta_snapshot_file_count(snapshot));
        } else if (rc == WEIR_OK && strcmp(argv[1], "show") == 0) {
            rc = weir_delta_show(snapshot, true, &text, &err);
            rc = rc == WEIR_OK ? print(NULL, (const char *)text.data, text.size) : rc;
        } else if (rc == WEIR_OK) {
            rc = weir_delta_cat(snapshot, NULL, -1, true, print, NULL, &err);
        }
    }
    if (rc != WEIR_OK) {
        fprintf(stderr, "%s: %s\n", weir_error_name(rc), err.message);
    }
    weir_delta_snapshot_destroy(snapshot);
    weir_store_destroy(store);
    weir_buffer_fini(&text);
    return rc == WEIR_OK ? 0 : 1;
}
