/* A table of many files: writing its checkpoint, classic and V2, and opening it from that. Each
 * step is a process of its own, so that what it holds at most is what is printed: resident bytes
 * at their peak, snapshot included. Beside it the floor of the same run: the checkpoint's bytes
 * read into memory, and what a process of this program holds when it does nothing. bench_log
 * [FILES, default 300000] [FOLDER] */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "lake/delta/commit.h"

enum { FILES_PER_COMMIT = 10000 };

static struct weir_store *store;
static struct weir_error err;
static int files;
static const char *kind = "classic"; /* and the table's folder */

/* An add as the writer makes them for the rows of the other benches: two partitions, nine columns
 * of which two are partitions' (about 600 bytes of statistics). */
static struct weir_delta_add *make_add(int n) {
    char path[160];
    char stats[1024];
    char day[16];
    struct weir_delta_pair values[] = {{"country", n % 3 == 0 ? "DE" : "FR"},
                                       {"event_time_date", day}};
    snprintf(day, sizeof(day), "2026-%02d-%02d", n / 28 % 12 + 1, n % 28 + 1);
    snprintf(path, sizeof(path),
             "country=%s/event_time_date=%s/part-%05d-%08x-1111-4222-8333-%012x.c000.zstd.parquet",
             values[0].value, day, n % 100000, (unsigned)n * 2654435761u, (unsigned)n);
    snprintf(
        stats, sizeof(stats),
        "{\"numRecords\":%d,\"minValues\":{\"event_time\":\"%sT00:00:0%d.000Z\",\"id\":%d,"
        "\"key\":\"key-%08d\",\"sku\":\"sku-%05d\",\"amount\":%d.25,\"qty\":1,\"note\":"
        "\"note of the order number %08d\"},\"maxValues\":{\"event_time\":\"%sT23:59:5%d.999Z\""
        ",\"id\":%d,\"key\":\"key-%08d\",\"sku\":\"sku-%05d\",\"amount\":%d.75,\"qty\":99,"
        "\"note\":\"note of the order number %08d\"},\"nullCount\":{\"event_time\":0,\"id\":0,"
        "\"key\":0,\"sku\":0,\"amount\":%d,\"qty\":0,\"note\":0,\"flag\":0}}",
        10000 + n % 977, day, n % 10, n * 1000, n % 10000, n % 3000, n % 500, n, day, n % 10,
        n * 1000 + 999, n % 10000 + 16000, n % 3000 + 7000, n % 500 + 90000, n + 1, n % 13);
    const struct weir_delta_add add = {.path = path,
                                       .stats = stats,
                                       .partition_values = values,
                                       .partition_count = 2,
                                       .data_change = true,
                                       .size_bytes = 1000000 + n,
                                       .modified_ms = 1790000000000 + n,
                                       .dv = {.offset = -1}};
    return weir_delta_add_dup(&add);
}

static int make(void) {
    struct weir_delta_table *table = NULL;
    struct weir_schema *schema = weir_schema_create();
    static const char *const columns[][2] = {
        {"event_time", "timestamp"}, {"id", "int64"},      {"key", "string"},
        {"sku", "string"},           {"amount", "double"}, {"qty", "int32"},
        {"note", "string"},          {"flag", "bool"},     {"country", "string"}};
    const struct weir_delta_partition by[] = {{"country", WEIR_DELTA_IDENTITY},
                                              {"event_time", WEIR_DELTA_DATE}};
    const struct weir_delta_pair policy = {"delta.checkpointPolicy", kind};
    const struct weir_delta_create_options options = {.schema = schema,
                                                      .partitions = by,
                                                      .partition_count = 2,
                                                      .properties = &policy,
                                                      .property_count = 1};
    int rc = schema != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]) && rc == WEIR_OK; i++) {
        rc = weir_schema_add_text(schema, columns[i][0], columns[i][1], true, &err);
    }
    rc = rc == WEIR_OK ? weir_delta_table_create(store, kind, &options, &table, &err) : rc;
    for (int n = 0; n < files && rc == WEIR_OK;) {
        struct weir_delta_adds adds = {NULL, 0, 0};
        for (int i = 0; i < FILES_PER_COMMIT && n < files && rc == WEIR_OK; i++) {
            rc = weir_delta_adds_push(&adds, make_add(n++));
        }
        rc =
            rc == WEIR_OK ? weir_delta_append(table, adds.items, adds.count, NULL, NULL, &err) : rc;
        weir_delta_adds_fini(&adds);
    }
    weir_delta_table_close(table);
    weir_schema_unref(schema);
    return rc;
}

static double cpu_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int checkpoint(void) {
    struct weir_delta_table *table = NULL;
    int rc = weir_delta_table_open(store, kind, &table, &err);
    double start = cpu_s();
    rc = rc == WEIR_OK ? weir_delta_checkpoint(table, &err) : rc;
    printf("log %s checkpoint of %d files: %.3f s of CPU", kind, files, cpu_s() - start);
    weir_delta_table_close(table);
    return rc;
}

static int replay(void) {
    struct weir_delta_snapshot *snapshot = NULL;
    double start = cpu_s();
    int rc = weir_delta_snapshot_open(store, kind, NULL, &snapshot, &err);
    double seconds = cpu_s() - start;
    if (rc == WEIR_OK && weir_delta_snapshot_file_count(snapshot) != files) {
        rc = weir_error_set(&err, WEIR_E_CORRUPT, "the table opened with other files");
    }
    printf("log replay of a %s checkpoint of %d files: %.3f s of CPU", kind, files, seconds);
    weir_delta_snapshot_destroy(snapshot);
    return rc;
}

static int floor_read(void) {
    struct weir_buffer bytes;
    char name[64];
    int commits = (files + FILES_PER_COMMIT - 1) / FILES_PER_COMMIT;
    weir_buffer_init(&bytes, (size_t)1 << 30);
    snprintf(name, sizeof(name), "classic/_delta_log/%020d.checkpoint.parquet", commits);
    double start = cpu_s();
    int rc = weir_store_get(store, name, 0, -1, &bytes, &err);
    printf("log floor, its %.1f MB read: %.3f s of CPU", (double)bytes.size / 1e6, cpu_s() - start);
    weir_buffer_fini(&bytes);
    return rc;
}

static int nothing(void) {
    printf("log floor, nothing done:");
    return WEIR_OK;
}

/* Runs one step in a child and prints the child's peak. */
static int step(int (*work)(void), bool print) {
    struct rusage usage;
    int status = 1;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int rc = work();
        if (rc != WEIR_OK) {
            fprintf(stderr, "\nbench_log: %s\n", err.message);
        }
        fflush(stdout);
        _exit(rc != WEIR_OK);
    }
    if (child < 0 || wait4(child, &status, 0, &usage) != child || status != 0) {
        return 1;
    }
    if (print) {
        printf(", %.1f MB resident at most\n", (double)usage.ru_maxrss / 1024);
    }
    return 0;
}

int main(int argc, char **argv) {
    char root[256];
    char command[300];
    files = argc > 1 ? atoi(argv[1]) : 300000;
    snprintf(root, sizeof(root), "%s/weir-bench-XXXXXX", argc > 2 ? argv[2] : "/tmp");
    if (files < 1 || files > 10000000 || mkdtemp(root) == NULL ||
        weir_store_local_open(root, &store, &err) != WEIR_OK) {
        fprintf(stderr, "bench_log: cannot start (at least 1 file, a writable folder)\n");
        return 1;
    }
    int bad = 0;
    for (int v2 = 0; v2 <= 1 && !bad; v2++) {
        kind = v2 ? "v2" : "classic";
        bad = bad || step(make, false);
        bad = bad || step(checkpoint, true);
        bad = bad || step(replay, true);
    }
    bad = bad || step(floor_read, true);
    bad = bad || step(nothing, true);
    weir_store_destroy(store);
    snprintf(command, sizeof(command), "rm -rf '%s'", root);
    return system(command) != 0 || bad;
}
