/* Commit cost as the log grows: p50 over many commits of seal (one data file's sync) and append
 * (the log entry's sync and its folder's), first and last fifth, beside what the disk takes in the
 * same run: one write and fdatasync; and a bare put-if-absent.
 *   bench_delta [COMMITS] [FOLDER] */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "batch/builder.h"
#include "core/clock.h"
#include "lake/delta/commit.h"
#include "lake/delta/writer.h"

static int compare(const void *a, const void *b) {
    const int64_t *x = a;
    const int64_t *y = b;
    return (*x > *y) - (*x < *y);
}

static double p50_us(int64_t *ns, int count) {
    qsort(ns, (size_t)count, sizeof(*ns), compare);
    return (double)ns[count / 2] / 1000;
}

/* One bare put-if-absent of `size` bytes in the current folder. */
static int bare_put(int dir, int n, const void *bytes, size_t size) {
    char name[32];
    snprintf(name, sizeof(name), "floor-%d", n);
    int fd = openat(dir, ".tmp-floor", O_WRONLY | O_CREAT | O_EXCL, 0666);
    int rc = fd < 0 || write(fd, bytes, size) != (ssize_t)size || fdatasync(fd) != 0;
    close(fd);
    rc |= linkat(dir, ".tmp-floor", dir, name, 0) != 0 || unlinkat(dir, ".tmp-floor", 0) != 0;
    return rc | (fsync(dir) != 0);
}

/* One bare write and fdatasync of `size` bytes at the end of a file. */
static int bare_sync(int fd, const void *bytes, size_t size) {
    return write(fd, bytes, size) != (ssize_t)size || fdatasync(fd) != 0;
}

static struct weir_batch *make_batch(struct weir_pool *pool, struct weir_schema *schema) {
    struct weir_batch_builder builder;
    if (pool == NULL ||
        weir_batch_builder_init(&builder, pool, schema, 1000, 4096, NULL) != WEIR_OK) {
        return NULL;
    }
    int rc = weir_batch_builder_begin(&builder);
    for (int i = 0; i < 1000 && rc == WEIR_OK; i++) {
        rc = weir_builder_int(&builder.columns[0], i * 7919);
        weir_batch_builder_finish_row(&builder);
    }
    struct weir_batch *batch = rc == WEIR_OK ? weir_batch_builder_take(&builder) : NULL;
    weir_batch_builder_fini(&builder);
    return batch;
}

struct run {
    int64_t *seal;
    int64_t *commit;
    int64_t *whole;
    int64_t *put;
    int64_t *sync;
    double checkpoint_ms;
};

static int commit_one(struct weir_delta_table *table, struct weir_delta_writer *writer,
                      struct weir_batch *batch, int n, struct run *run, struct weir_error *err) {
    const struct weir_delta_commit_options how = {.txn = {"bench", n, 0}};
    struct weir_delta_adds adds = {NULL, 0, 0};
    int rc = weir_delta_writer_append(writer, batch, NULL, batch->rows, err);
    int64_t start = weir_clock_mono_ns();
    rc = rc == WEIR_OK ? weir_delta_writer_seal(writer, &adds, err) : rc;
    int64_t sealed = weir_clock_mono_ns();
    rc = rc == WEIR_OK ? weir_delta_append(table, adds.items, adds.count, &how, NULL, err) : rc;
    int64_t committed = weir_clock_mono_ns();
    run->seal[n] = sealed - start;
    run->commit[n] = committed - sealed;
    run->whole[n] = committed - start;
    weir_delta_adds_fini(&adds);
    if (rc == WEIR_OK && weir_delta_checkpoint_due(table)) {
        start = weir_clock_mono_ns();
        rc = weir_delta_checkpoint(table, err);
        run->checkpoint_ms = (double)(weir_clock_mono_ns() - start) / 1e6;
    }
    return rc;
}

static void report(struct run *run, int commits) {
    int fifth = commits / 5;
    double first = p50_us(run->whole, fifth);
    double last = p50_us(run->whole + commits - fifth, fifth);
    double first_put = p50_us(run->put, fifth);
    double last_put = p50_us(run->put + commits - fifth, fifth);
    double log_last = p50_us(run->commit + commits - fifth, fifth);
    double whole = p50_us(run->whole, commits);
    double sync = p50_us(run->sync, commits);
    printf("delta seal + commit p50: %.0f us (seal %.0f, log %.0f); first %d %.0f, last %d of %d "
           "%.0f, ratio %.2f; last checkpoint %.1f ms\n",
           whole, p50_us(run->seal, commits), p50_us(run->commit, commits), fifth, first, fifth,
           commits, last, last / first, run->checkpoint_ms);
    printf("delta log entry p50 of the last %d: %.0f us; bare put-if-absent of the first %d %.0f "
           "us, of "
           "the last %.0f us\n",
           fifth, log_last, fifth, first_put, last_put);
    printf("delta floor p50: write and fdatasync %.0f us, bare put-if-absent %.0f us; commit / "
           "(3 x sync + 300 us) = %.2f\n",
           sync, p50_us(run->put, commits), whole / (3 * sync + 300));
}

int main(int argc, char **argv) {
    int commits = argc > 1 ? atoi(argv[1]) : 10000;
    char root[256];
    char command[300];
    char block[4096];
    struct weir_store *store = NULL;
    struct weir_delta_table *table = NULL;
    struct weir_delta_writer *writer = NULL;
    struct weir_error err;
    snprintf(root, sizeof(root), "%s/weir-bench-XXXXXX", argc > 2 ? argv[2] : "/tmp");
    memset(block, 'x', sizeof(block));
    if (commits < 10 || commits > 1000000 || mkdtemp(root) == NULL) {
        fprintf(stderr, "bench_delta: cannot start (at least 10 commits, a writable folder)\n");
        return 1;
    }
    size_t size = (size_t)commits * sizeof(int64_t);
    struct run run = {calloc(1, size), calloc(1, size), calloc(1, size),
                      calloc(1, size), calloc(1, size), 0};
    struct weir_schema *schema = weir_schema_create();
    struct weir_pool *pool = weir_pool_create((size_t)64 << 20);
    const struct weir_delta_create_options options = {.schema = schema};
    int rc =
        schema != NULL ? weir_schema_add_text(schema, "id", "int64", true, &err) : WEIR_E_NOMEM;
    struct weir_batch *batch = rc == WEIR_OK ? make_batch(pool, schema) : NULL;
    int dir = open(root, O_RDONLY | O_DIRECTORY);
    int file = openat(dir, "sync", O_WRONLY | O_CREAT | O_EXCL, 0666);
    if (batch == NULL || dir < 0 || file < 0 || run.seal == NULL || run.commit == NULL ||
        run.whole == NULL || run.put == NULL || run.sync == NULL) {
        rc = weir_error_set(&err, WEIR_E_NOMEM, "cannot start");
    }
    rc = rc == WEIR_OK ? weir_store_local_open(root, &store, &err) : rc;
    rc = rc == WEIR_OK ? weir_delta_table_create(store, "t", &options, &table, &err) : rc;
    rc = rc == WEIR_OK ? weir_delta_writer_create(table, schema, NULL, 0, NULL, &writer, &err) : rc;
    for (int n = 0; n < commits && rc == WEIR_OK; n++) {
        rc = commit_one(table, writer, batch, n, &run, &err);
        int64_t start = weir_clock_mono_ns();
        int bad = bare_put(dir, n, block, 700);
        run.put[n] = weir_clock_mono_ns() - start;
        start = weir_clock_mono_ns();
        bad |= bare_sync(file, block, sizeof(block));
        run.sync[n] = weir_clock_mono_ns() - start;
        if (rc == WEIR_OK && bad != 0) {
            rc = weir_error_set(&err, WEIR_E_IO, "the bare writes failed");
        }
    }
    if (rc == WEIR_OK) {
        report(&run, commits);
    } else {
        fprintf(stderr, "bench_delta: %s\n", err.message);
    }
    weir_delta_writer_destroy(writer);
    weir_delta_table_close(table);
    weir_store_destroy(store);
    weir_batch_unref(batch);
    weir_schema_unref(schema);
    weir_pool_destroy(pool);
    close(file);
    close(dir);
    free(run.seal);
    free(run.commit);
    free(run.whole);
    free(run.put);
    free(run.sync);
    snprintf(command, sizeof(command), "rm -rf '%s'", root);
    return system(command) != 0 || rc != WEIR_OK;
}
