/* Merges the rows of Parquet files into a Delta table, for the integration tests and the bench:
 *   merge_tool ROOT TABLE [option=value …] CHANGES.parquet …     one merge a file
 * Options: key=a,b  time=c  change=_change  partition=column|date:column|hour:column (repeated)
 *   property=name=value (repeated; the table is made with them when absent)  txn=app (versions 1…)
 * Prints one JSON object a merge. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/fault.h"
#include "lake/delta/parquet_file.h"
#include "lake/merge/merge.h"

enum { ITEMS_MAX = 16 };

struct arguments {
    const char *keys[ITEMS_MAX];
    int32_t key_count;
    const char *time;
    const char *change;
    const char *txn;
    struct weir_delta_partition partitions[ITEMS_MAX];
    int32_t partition_count;
    struct weir_delta_pair properties[ITEMS_MAX];
    int32_t property_count;
    struct weir_pool *pool;
};

static void read_option(struct arguments *arguments, char *option) {
    char *value = strchr(option, '=');
    *value++ = '\0';
    if (strcmp(option, "key") == 0) {
        while (value != NULL && arguments->key_count < ITEMS_MAX) {
            arguments->keys[arguments->key_count++] = value;
            value = strchr(value, ',');
            if (value != NULL) {
                *value++ = '\0';
            }
        }
    } else if (strcmp(option, "time") == 0) {
        arguments->time = value;
    } else if (strcmp(option, "change") == 0) {
        arguments->change = value;
    } else if (strcmp(option, "txn") == 0) {
        arguments->txn = value;
    } else if (strcmp(option, "partition") == 0) {
        struct weir_delta_partition *to = &arguments->partitions[arguments->partition_count++];
        to->transform = strncmp(value, "date:", 5) == 0   ? WEIR_DELTA_DATE
                        : strncmp(value, "hour:", 5) == 0 ? WEIR_DELTA_HOUR
                                                          : WEIR_DELTA_IDENTITY;
        to->column = value + (to->transform == WEIR_DELTA_IDENTITY ? 0 : 5);
    } else if (strcmp(option, "property") == 0) {
        char *equals = strchr(value, '=');
        *equals = '\0';
        arguments->properties[arguments->property_count++] =
            (struct weir_delta_pair){value, equals + 1};
    }
}

static int create_table(struct weir_store *store, const char *dir,
                        const struct arguments *arguments, const struct weir_schema *changes,
                        struct weir_delta_table **table, struct weir_error *err) {
    struct weir_schema *schema = weir_schema_create();
    int rc = WEIR_OK;
    for (int32_t i = 0; i < changes->count && rc == WEIR_OK; i++) {
        bool change =
            arguments->change != NULL && strcmp(changes->fields[i].name, arguments->change) == 0;
        rc = change ? WEIR_OK : weir_schema_add(schema, &changes->fields[i]);
    }
    struct weir_delta_create_options options = {
        .schema = schema,
        .partitions = arguments->partitions,
        .partition_count = arguments->partition_count,
        .properties = arguments->properties,
        .property_count = arguments->property_count,
    };
    rc = rc == WEIR_OK ? weir_delta_table_create(store, dir, &options, table, err) : rc;
    weir_schema_unref(schema);
    return rc;
}

static int read_changes(struct weir_store *files, const char *path, struct weir_pool *pool,
                        struct weir_batch ***out, int32_t *count, struct weir_error *err) {
    struct delta_parquet_file file;
    int rc = delta_parquet_open(&file, files, path, -1, pool, err);
    *out = NULL;
    *count = 0;
    while (rc == WEIR_OK) {
        struct weir_batch *batch = NULL;
        rc = weir_parquet_reader_next(file.reader, &batch, err);
        if (rc != WEIR_OK || batch == NULL) {
            break;
        }
        *out = realloc(*out, ((size_t)*count + 1) * sizeof(**out));
        (*out)[(*count)++] = batch;
    }
    delta_parquet_close(&file);
    return rc;
}

static int merge_file(struct weir_store *store, struct weir_store *files, const char *dir,
                      const struct arguments *arguments, const char *path, int64_t number,
                      struct weir_delta_table **table, struct weir_error *err) {
    struct weir_batch **changes;
    int32_t count;
    int rc = read_changes(files, path, arguments->pool, &changes, &count, err);
    struct weir_delta_merge_options options = {
        .commit = {.txn = {arguments->txn, number, 0}},
        .keys = arguments->keys,
        .key_count = arguments->key_count,
        .time = arguments->time,
        .change = arguments->change,
        .partitions = arguments->partitions,
        .partition_count = arguments->partition_count,
        .pool = arguments->pool,
    };
    struct weir_delta_merge_result result = {0};
    int64_t cpu = 0;
    int64_t wall = 0;
    if (rc == WEIR_OK && *table == NULL && count > 0) {
        rc = weir_delta_table_open(store, dir, table, err);
        rc = rc == WEIR_E_NOTFOUND
                 ? create_table(store, dir, arguments, changes[0]->schema, table, err)
                 : rc;
    }
    if (rc == WEIR_OK && *table != NULL) {
        cpu = weir_clock_thread_cpu_ns();
        wall = weir_clock_mono_ns();
        rc = weir_delta_merge(*table, changes, count, &options, &result, err);
        cpu = weir_clock_thread_cpu_ns() - cpu;
        wall = weir_clock_mono_ns() - wall;
    }
    for (int32_t i = 0; i < count; i++) {
        weir_batch_unref(changes[i]);
    }
    free(changes);
    if (rc == WEIR_OK) {
        printf("{\"version\":%" PRId64 ",\"skipped\":%s,\"attempts\":%d,\"inserted\":%" PRId64
               ",\"updated\":%" PRId64 ",\"deleted\":%" PRId64 ",\"outdated\":%" PRId64
               ",\"files_read\":%" PRId64 ",\"files_changed\":%" PRId64 ",\"cpu_ms\":%" PRId64
               ",\"wall_ms\":%" PRId64 "}\n",
               result.commit.version, result.commit.skipped ? "true" : "false",
               result.commit.attempts, result.inserted, result.updated, result.deleted,
               result.outdated, result.files_read, result.files_changed, cpu / 1000000,
               wall / 1000000);
        if (*table != NULL && weir_delta_checkpoint_due(*table)) {
            rc = weir_delta_checkpoint(*table, err);
        }
    }
    return rc;
}

int main(int argc, char **argv) {
    struct arguments arguments = {.pool = weir_pool_create((size_t)1 << 30)};
    struct weir_store *store = NULL;
    struct weir_store *files = NULL;
    struct weir_delta_table *table = NULL;
    struct weir_error err;
    int64_t number = 0;
    weir_error_clear(&err);
    if (argc < 4 || !weir_fault_init()) {
        fprintf(stderr, "usage: merge_tool ROOT TABLE [option=value …] CHANGES.parquet …\n");
        return 2;
    }
    int rc = weir_store_local_create(argv[1], &store, &err);
    rc = rc == WEIR_OK ? weir_store_local_create("/", &files, &err) : rc;
    for (int i = 3; i < argc && rc == WEIR_OK; i++) {
        if (strchr(argv[i], '=') != NULL && argv[i][0] != '/') {
            read_option(&arguments, argv[i]);
        } else {
            rc = merge_file(store, files, argv[2], &arguments, argv[i] + 1, ++number, &table, &err);
        }
    }
    if (rc != WEIR_OK) {
        fprintf(stderr, "%s: %s\n", weir_error_name(rc), err.message);
    }
    weir_delta_table_close(table);
    weir_store_destroy(store);
    weir_store_destroy(files);
    weir_pool_destroy(arguments.pool);
    return rc == WEIR_OK ? 0 : 1;
}
