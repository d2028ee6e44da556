/* Commit cost as the log grows: p50 of a one-file append over many commits, first and last fifth,
 * beside the floor measured between them: write, fdatasync, link, unlink, fsync of the directory.
 *   bench_delta [COMMITS] [FOLDER] */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/clock.h"
#include "lake/delta/commit.h"

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

int main(int argc, char **argv) {
    int commits = argc > 1 ? atoi(argv[1]) : 1000;
    char root[256];
    char command[300];
    struct weir_store *store = NULL;
    struct weir_delta_table *table = NULL;
    struct weir_error err;
    snprintf(root, sizeof(root), "%s/weir-bench-XXXXXX", argc > 2 ? argv[2] : "/tmp");
    struct weir_schema *schema = weir_schema_create();
    int64_t *ours = calloc((size_t)commits + 1, sizeof(*ours));
    int64_t *bare = calloc((size_t)commits + 1, sizeof(*bare));
    if (commits < 10 || schema == NULL || ours == NULL || bare == NULL || mkdtemp(root) == NULL) {
        fprintf(stderr, "bench_delta: cannot start (at least 10 commits, a writable folder)\n");
        return 1;
    }
    int dir = open(root, O_RDONLY | O_DIRECTORY);
    const struct weir_delta_create_options options = {.schema = schema};
    const struct weir_delta_add add = {
        .path = "part-00000-0b5b1b0a-7a0b-4b0e-8f0e-0123456789ab.c000.zstd.parquet",
        .stats = "{\"numRecords\":1000,\"minValues\":{\"id\":1},\"maxValues\":{\"id\":1000},"
                 "\"nullCount\":{\"id\":0}}",
        .size_bytes = 12345,
        .data_change = true};
    int rc = weir_schema_add_text(schema, "id", "int64", true, &err);
    rc = rc == WEIR_OK ? weir_store_local_open(root, &store, &err) : rc;
    rc = rc == WEIR_OK ? weir_delta_table_create(store, "t", &options, &table, &err) : rc;
    double checkpoint_ms = 0;
    for (int n = 0; n < commits && rc == WEIR_OK; n++) {
        char path[128];
        char block[700];
        memset(block, 'x', sizeof(block));
        snprintf(path, sizeof(path), "part-%05d.parquet", n);
        struct weir_delta_add one = add;
        one.path = path;
        struct weir_delta_add *own = weir_delta_add_dup(&one);
        const struct weir_delta_commit_options how = {.txn = {"bench", n, 0}};
        int64_t start = weir_clock_mono_ns();
        rc = weir_delta_append(table, &own, 1, &how, NULL, &err);
        ours[n] = weir_clock_mono_ns() - start;
        free(own);
        start = weir_clock_mono_ns();
        if (bare_put(dir, n, block, sizeof(block)) != 0) {
            rc = weir_error_set(&err, WEIR_E_IO, "the bare put failed");
        }
        bare[n] = weir_clock_mono_ns() - start;
        if (rc == WEIR_OK && weir_delta_checkpoint_due(table)) {
            start = weir_clock_mono_ns();
            rc = weir_delta_checkpoint(table, &err);
            checkpoint_ms = (double)(weir_clock_mono_ns() - start) / 1e6;
        }
    }
    if (rc == WEIR_OK) {
        int fifth = commits / 5;
        double first = p50_us(ours, fifth);
        double last = p50_us(ours + commits - fifth, fifth);
        printf("delta commit p50: first %d %.0f us, last %d of %d %.0f us; floor (write, "
               "fdatasync, link, fsync dir) %.0f us; last checkpoint %.1f ms\n",
               fifth, first, fifth, commits, last, p50_us(bare, commits), checkpoint_ms);
    } else {
        fprintf(stderr, "bench_delta: %s\n", err.message);
    }
    weir_delta_table_close(table);
    weir_store_destroy(store);
    weir_schema_unref(schema);
    close(dir);
    free(ours);
    free(bare);
    snprintf(command, sizeof(command), "rm -rf '%s'", root);
    return system(command) != 0 || rc != WEIR_OK;
}
