/* Keyed state four times as large as its budget: CPU of all threads and time a row, by how keys are
 * drawn, beside the floor: the same batches of keys through RocksDB alone (MultiGet, then a
 * WriteBatch), which has the whole budget as its cache. One line a figure.
 * Arguments: directory (default "."), keys (default 1000000). */
#include <math.h>
#include <rocksdb/c.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/signal.h"
#include "state/table.h"

enum { BATCH = 4096, EPOCH = 50, VALUE = 40, KEY = 8 };

static struct weir_signal brought;
static uint64_t seed = 88172645463325252u;

static uint64_t draw(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static double cpu_s(void) {
    struct timespec at;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void check(int rc, const struct weir_error *err) {
    if (rc != WEIR_OK) {
        fprintf(stderr, "bench_cold: %s\n", err->message);
        exit(1);
    }
}

static void *take(size_t bytes) {
    void *room = calloc(1, bytes);
    if (room == NULL) {
        fprintf(stderr, "bench_cold: out of memory\n");
        exit(1);
    }
    return room;
}

/* Ranks as YCSB draws them (Gray et al., "Quickly generating billion-record synthetic databases"),
 * scattered over the keys. */
static void draw_zipf(uint64_t *keys, int64_t rows, uint64_t count, double s) {
    double zeta = 0;
    for (uint64_t i = 1; i <= count; i++) {
        zeta += 1 / pow((double)i, s);
    }
    double alpha = 1 / (1 - s);
    double two = 1 + pow(0.5, s);
    double eta = (1 - pow(2.0 / (double)count, 1 - s)) / (1 - two / zeta);
    for (int64_t i = 0; i < rows; i++) {
        double u = (double)(draw() >> 11) / (double)(1ull << 53);
        double rank = u * zeta < 1     ? 0
                      : u * zeta < two ? 1
                                       : (double)count * pow(eta * u - eta + 1, alpha);
        uint64_t at = rank < (double)count ? (uint64_t)rank : count - 1;
        keys[i] = at * 11400714819323198485u % count;
    }
}

static struct weir_table *make_table(const char *path, size_t max_bytes) {
    struct weir_error err = {0};
    struct weir_table_config config = {.declaration = "gold.bench",
                                       .cell = "group",
                                       .shape = 1,
                                       .value_bytes = VALUE,
                                       .max_bytes = max_bytes,
                                       .option = "memory.state"};
    struct weir_table *table = weir_table_create(&config, &err);
    check(table != NULL ? WEIR_OK : err.code, &err);
    if (path != NULL) {
        const struct weir_table_disk disk = {.path = path, .signal = &brought};
        check(weir_table_allow_disk(table, &disk, &err), &err);
    }
    return table;
}

static void end_epoch(struct weir_table *table, struct weir_buffer *records) {
    struct weir_error err = {0};
    bool done = false;
    check(weir_table_seal(table, &err), &err);
    while (!done) {
        check(weir_table_collect(table, records, 4096, &done, &err), &err);
        weir_buffer_clear(records);
    }
}

static void feed(struct weir_table *table, const uint64_t *keys, int64_t rows) {
    static uint32_t offsets[BATCH + 1];
    static uint64_t hashes[BATCH];
    struct weir_error err = {0};
    struct weir_buffer records;
    int batches = 0;
    weir_buffer_init(&records, 1 << 30);
    for (int64_t at = 0; at < rows; at += BATCH) {
        int32_t count = (int32_t)(rows - at < BATCH ? rows - at : BATCH);
        for (int32_t i = 0; i < count; i++) {
            offsets[i] = (uint32_t)i * KEY;
            hashes[i] = weir_table_hash(table, &keys[at + i], KEY);
        }
        offsets[count] = (uint32_t)count * KEY;
        bool crowded = false;
        bool waits;
        check(weir_table_make_room(table, &crowded, &err), &err);
        if (crowded || ++batches == EPOCH) {
            end_epoch(table, &records);
            batches = 0;
            check(weir_table_make_room(table, &crowded, &err), &err);
        }
        check(weir_table_need(table, (const uint8_t *)&keys[at], offsets, hashes, count, &waits,
                              &err),
              &err);
        for (bool done = !waits; !done;) {
            weir_signal_wait(&brought, 1000);
            check(weir_table_bring(table, &done, &err), &err);
        }
        for (int32_t i = 0; i < count; i++) {
            bool created;
            struct weir_slot *slot =
                weir_table_get(table, hashes[i], &keys[at + i], KEY, &created, &err);
            check(slot != NULL ? weir_table_touch(table, slot) : err.code, &err);
            ++*(uint64_t *)weir_slot_value(table, slot);
        }
    }
    end_epoch(table, &records);
    weir_buffer_fini(&records);
}

static void stop(char *message) {
    if (message != NULL) {
        fprintf(stderr, "bench_cold: %s\n", message);
        exit(1);
    }
}

struct bare {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_cache_t *cache;
    rocksdb_readoptions_t *read;
    rocksdb_writeoptions_t *write;
    rocksdb_writebatch_t *batch;
    rocksdb_column_family_handle_t *family;
};

static void bare_open(struct bare *bare, const char *path, size_t memory) {
    char *message = NULL;
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    bare->cache = rocksdb_cache_create_lru(memory - memory / 4);
    rocksdb_block_based_options_set_block_cache(table, bare->cache);
    rocksdb_block_based_options_set_filter_policy(table,
                                                  rocksdb_filterpolicy_create_bloom_full(10));
    bare->options = rocksdb_options_create();
    rocksdb_options_set_block_based_table_factory(bare->options, table);
    rocksdb_block_based_options_destroy(table);
    rocksdb_options_set_create_if_missing(bare->options, 1);
    rocksdb_options_set_write_buffer_size(bare->options, memory / 8);
    rocksdb_options_set_max_background_jobs(bare->options, 2);
    rocksdb_options_set_compression(bare->options, rocksdb_no_compression);
    bare->read = rocksdb_readoptions_create();
    bare->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(bare->write, 1);
    bare->batch = rocksdb_writebatch_create();
    const char *names[] = {"default"};
    const rocksdb_options_t *options[] = {bare->options};
    bare->db = rocksdb_open_column_families(bare->options, path, 1, names, options, &bare->family,
                                            &message);
    stop(message);
}

static int by_bytes(const void *a, const void *b) {
    return memcmp(a, b, KEY);
}

static void bare_feed(struct bare *bare, const uint64_t *keys, int64_t rows) {
    static uint64_t sorted[BATCH];
    static const char *pointers[BATCH];
    static size_t sizes[BATCH];
    static rocksdb_pinnableslice_t *values[BATCH];
    static char *messages[BATCH];
    for (int64_t at = 0; at < rows; at += BATCH) {
        size_t count = (size_t)(rows - at < BATCH ? rows - at : BATCH);
        memcpy(sorted, &keys[at], count * KEY);
        qsort(sorted, count, KEY, by_bytes);
        size_t different = 0;
        for (size_t i = 0; i < count; i++) {
            if (i == 0 || sorted[i] != sorted[i - 1]) {
                sorted[different] = sorted[i];
                pointers[different] = (const char *)&sorted[different];
                sizes[different++] = KEY;
            }
        }
        rocksdb_batched_multi_get_cf(bare->db, bare->read, bare->family, different, pointers, sizes,
                                     values, messages, true);
        for (size_t i = 0; i < different; i++) {
            uint8_t value[8 + VALUE] = {0};
            stop(messages[i]);
            size_t size = 0;
            const char *found =
                values[i] != NULL ? rocksdb_pinnableslice_value(values[i], &size) : NULL;
            if (found != NULL) {
                memcpy(value, found, size < sizeof value ? size : sizeof value);
            }
            value[0]++;
            rocksdb_writebatch_put(bare->batch, pointers[i], KEY, (const char *)value,
                                   sizeof value);
            rocksdb_pinnableslice_destroy(values[i]);
        }
        char *message = NULL;
        rocksdb_write(bare->db, bare->write, bare->batch, &message);
        rocksdb_writebatch_clear(bare->batch);
        stop(message);
    }
}

static void bare_close(struct bare *bare, const char *path) {
    char *message = NULL;
    rocksdb_column_family_handle_destroy(bare->family);
    rocksdb_close(bare->db);
    rocksdb_destroy_db(bare->options, path, &message);
    stop(message);
    rocksdb_writebatch_destroy(bare->batch);
    rocksdb_writeoptions_destroy(bare->write);
    rocksdb_readoptions_destroy(bare->read);
    rocksdb_options_destroy(bare->options);
    rocksdb_cache_destroy(bare->cache);
}

struct cost {
    double cpu;
    double wall;
};

static struct cost now(void) {
    return (struct cost){cpu_s(), (double)weir_clock_mono_ns() / 1e9};
}

static struct cost since(struct cost start, int64_t rows) {
    struct cost end = now();
    return (struct cost){(end.cpu - start.cpu) / (double)rows * 1e9,
                         (end.wall - start.wall) / (double)rows * 1e9};
}

static void one(const char *name, const char *directory, const uint64_t *all, const uint64_t *drawn,
                int64_t keys) {
    char path[1024];
    struct weir_table *table = make_table(NULL, 0);
    feed(table, all, keys);
    size_t whole = weir_table_bytes(table);
    struct cost start = now();
    feed(table, drawn, keys);
    struct cost memory = since(start, keys);
    weir_table_destroy(table);

    snprintf(path, sizeof path, "%s/bench_cold.%ld", directory, (long)getpid());
    table = make_table(path, whole / 4);
    feed(table, all, keys);
    struct weir_table_disk_figures before = weir_table_disk_figures(table);
    start = now();
    feed(table, drawn, keys);
    struct cost cold = since(start, keys);
    struct weir_table_disk_figures after = weir_table_disk_figures(table);
    weir_table_destroy(table);

    struct bare bare;
    bare_open(&bare, path, whole / 4);
    bare_feed(&bare, all, keys);
    start = now();
    bare_feed(&bare, drawn, keys);
    struct cost floor = since(start, keys);
    bare_close(&bare, path);
    printf("cold/%-8s %lld keys, budget a quarter of them (%zu MB): %.0f ns of CPU a row, took "
           "%.0f; %.1f%% of rows asked the disk, %.2f of its writes a row; floor (RocksDB alone) "
           "%.0f ns, took %.0f; all in memory %.0f ns\n",
           name, (long long)keys, whole / 4 >> 20, cold.cpu, cold.wall,
           100.0 * (double)(after.asked - before.asked) / (double)keys,
           (double)(after.written - before.written) / (double)keys, floor.cpu, floor.wall,
           memory.cpu);
    fflush(stdout);
}

int main(int argc, char **argv) {
    const char *directory = argc > 1 ? argv[1] : ".";
    int64_t keys = argc > 2 ? atoll(argv[2]) : 1000000;
    struct weir_error err = {0};
    check(weir_signal_init(&brought, &err), &err);
    uint64_t *all = take((size_t)keys * KEY);
    uint64_t *drawn = take((size_t)keys * KEY);
    for (int64_t i = 0; i < keys; i++) {
        all[i] = (uint64_t)i;
    }
    draw_zipf(drawn, keys, (uint64_t)keys, 0.99);
    one("zipf", directory, all, drawn, keys);
    for (int64_t i = 0; i < keys; i++) {
        drawn[i] = draw() % (uint64_t)keys;
    }
    one("uniform", directory, all, drawn, keys);
    free(all);
    free(drawn);
    weir_signal_fini(&brought);
    return 0;
}
