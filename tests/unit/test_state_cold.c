/* A table with more keys than its budget against one that keeps them all: the same values, images
 * and dumps, whatever is where. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/signal.h"
#include "random.h"
#include "state/cold.h"
#include "state/cold_index.h"
#include "state/cold_keys.h"
#include "state/table.h"

enum { KEYS = 12000, BATCH = 200, BATCHES = 400, EPOCH = 7 };

struct value {
    uint64_t count;
    uint64_t sum;
    uint64_t more[6];
};

static struct weir_signal brought;
static char folder[] = "/tmp/weir-cold-XXXXXX";

static struct weir_table *make(bool disk) {
    struct weir_error err = {0};
    struct weir_table_config config = {.declaration = "gold.test",
                                       .cell = "window",
                                       .shape = 7,
                                       .value_bytes = sizeof(struct value),
                                       .max_bytes = 512 << 10,
                                       .option = "memory.state"};
    config.max_bytes = disk ? config.max_bytes : 0;
    struct weir_table *table = weir_table_create(&config, &err);
    assert_non_null(table);
    if (disk) {
        const struct weir_table_disk where = {.path = folder, .signal = &brought};
        assert_int_equal(weir_table_allow_disk(table, &where, &err), WEIR_OK);
    }
    return table;
}

/* All of these keys are in memory when it returns. */
static void bring(struct weir_table *table, const uint64_t *keys, int32_t count) {
    uint32_t offsets[BATCH + 1];
    uint64_t hashes[BATCH];
    struct weir_error err = {0};
    bool waits;
    for (int32_t i = 0; i < count; i++) {
        offsets[i] = (uint32_t)i * 8;
        hashes[i] = weir_table_hash(table, &keys[i], 8);
    }
    offsets[count] = (uint32_t)count * 8;
    assert_int_equal(
        weir_table_need(table, (const uint8_t *)keys, offsets, hashes, count, &waits, &err),
        WEIR_OK);
    for (bool done = !waits; !done;) {
        weir_signal_wait(&brought, 1000);
        assert_int_equal(weir_table_bring(table, &done, &err), WEIR_OK);
    }
}

static void change(struct weir_table *table, uint64_t key, uint64_t by) {
    struct weir_error err = {0};
    bool created;
    struct weir_slot *slot =
        weir_table_get(table, weir_table_hash(table, &key, 8), &key, 8, &created, &err);
    assert_non_null(slot);
    assert_true(created || weir_table_touch(table, slot) == WEIR_OK);
    struct value *value = weir_slot_value(table, slot);
    value->count++;
    value->sum += by;
    if (by % 97 == 0) { /* now and then a key goes */
        assert_int_equal(weir_table_delete(table, slot, false), WEIR_OK);
    }
}

static void end_epoch(struct weir_table *table, struct weir_buffer *records) {
    struct weir_error err = {0};
    bool done = false;
    assert_int_equal(weir_table_seal(table, &err), WEIR_OK);
    while (!done) {
        assert_int_equal(weir_table_collect(table, records, 100, &done, &err), WEIR_OK);
    }
}

static void make_room(struct weir_table *table) {
    struct weir_error err = {0};
    bool crowded;
    assert_int_equal(weir_table_make_room(table, &crowded, &err), WEIR_OK);
}

static void same(struct weir_table *table, struct weir_table *truth) {
    for (uint64_t from = 0; from < KEYS; from += BATCH) {
        uint64_t keys[BATCH];
        for (int32_t i = 0; i < BATCH; i++) {
            keys[i] = from + (uint64_t)i;
        }
        bring(table, keys, BATCH);
        for (int32_t i = 0; i < BATCH; i++) {
            struct weir_slot *is =
                weir_table_find(table, weir_table_hash(table, &keys[i], 8), &keys[i], 8);
            struct weir_slot *must =
                weir_table_find(truth, weir_table_hash(truth, &keys[i], 8), &keys[i], 8);
            assert_int_equal(is != NULL, must != NULL);
            if (is != NULL) {
                assert_memory_equal(weir_slot_value(table, is), weir_slot_value(truth, must),
                                    sizeof(struct value));
                assert_int_equal(is->sequence, must->sequence);
            }
        }
        make_room(table);
    }
}

static void a_table_on_disk_is_one_in_memory(void **state) {
    struct weir_table *table = make(true);
    struct weir_table *truth = make(false);
    struct weir_buffer records; /* of epochs since the dump began */
    struct weir_buffer ignored;
    struct weir_buffer dump;
    struct weir_cell_cursor cursor = {0};
    struct weir_error err = {0};
    bool dumped = false;
    (void)state;
    weir_buffer_init(&records, 256 << 20);
    weir_buffer_init(&ignored, 256 << 20);
    weir_buffer_init(&dump, 256 << 20);
    for (int b = 0; b < BATCHES; b++) {
        uint64_t keys[BATCH];
        for (int32_t i = 0; i < BATCH; i++) {
            keys[i] = below(2) == 0 ? below(KEYS) : below(KEYS / 20);
        }
        bring(table, keys, BATCH);
        for (int32_t i = 0; i < BATCH; i++) {
            uint64_t by = below(1000);
            change(table, keys[i], by);
            change(truth, keys[i], by);
        }
        make_room(table);
        bool dumping = b >= BATCHES / 2;
        if (dumping && !dumped) { /* while all goes on */
            assert_int_equal(weir_table_dump(table, &cursor, &dump, 300, &dumped, &err), WEIR_OK);
        }
        if (b % EPOCH == EPOCH - 1) {
            weir_buffer_clear(&ignored);
            end_epoch(table, dumping ? &records : &ignored);
            end_epoch(truth, &ignored);
        }
    }
    struct weir_table_disk_figures figures = weir_table_disk_figures(table);
    assert_true(figures.keys > 0 && figures.found > 1000);
    while (!dumped) {
        assert_int_equal(weir_table_dump(table, &cursor, &dump, 300, &dumped, &err), WEIR_OK);
    }
    end_epoch(table, &records);
    same(table, truth);
    /* and what a crash leaves makes it again, on disk and in memory */
    for (int disk = 0; disk < 2; disk++) {
        struct weir_table *again = make(disk == 1);
        assert_int_equal(weir_table_apply(again, dump.data, dump.size, &err), WEIR_OK);
        assert_int_equal(weir_table_apply(again, records.data, records.size, &err), WEIR_OK);
        same(again, truth);
        weir_table_destroy(again);
    }
    weir_table_destroy(table);
    weir_table_destroy(truth);
    weir_buffer_fini(&records);
    weir_buffer_fini(&ignored);
    weir_buffer_fini(&dump);
}

/* More goes to disk before its turn than a slice may hold by itself. */
static void a_dump_that_waits_holds_what_went_to_disk(void **state) {
    enum { SLICE_BYTES = 640 << 10 };
    struct weir_table *table = make(true);
    struct weir_table *truth = make(false);
    struct weir_buffer records;
    struct weir_buffer dump;
    struct weir_cell_cursor cursor = {0};
    struct weir_error err = {0};
    bool dumped = false;
    size_t largest = 0;
    (void)state;
    weir_buffer_init(&records, 256 << 20);
    weir_buffer_init(&dump, 256 << 20);
    for (int b = 0; b < BATCHES / 2; b++) {
        uint64_t keys[BATCH];
        for (int32_t i = 0; i < BATCH; i++) {
            keys[i] = below(KEYS);
        }
        bring(table, keys, BATCH);
        for (int32_t i = 0; i < BATCH; i++) {
            change(table, keys[i], 1);
            change(truth, keys[i], 1);
        }
        make_room(table);
        if (b == 60) { /* it begins, and the disk it is written to is slow from here on */
            weir_buffer_clear(&records);
            assert_int_equal(weir_table_dump(table, &cursor, &dump, 1, &dumped, &err), WEIR_OK);
        }
        end_epoch(table, &records);
        struct weir_buffer ignored;
        weir_buffer_init(&ignored, 1 << 20);
        end_epoch(truth, &ignored);
        weir_buffer_fini(&ignored);
    }
    while (!dumped) {
        struct weir_buffer slice;
        weir_buffer_init(&slice, SLICE_BYTES);
        assert_int_equal(weir_table_dump(table, &cursor, &slice, 300, &dumped, &err), WEIR_OK);
        assert_int_equal(weir_buffer_append(&dump, slice.data, slice.size), WEIR_OK);
        largest = slice.size > largest ? slice.size : largest;
        weir_buffer_fini(&slice);
    }
    assert_true(largest > SLICE_BYTES);
    struct weir_table *again = make(false);
    assert_int_equal(weir_table_apply(again, dump.data, dump.size, &err), WEIR_OK);
    assert_int_equal(weir_table_apply(again, records.data, records.size, &err), WEIR_OK);
    same(table, again);
    weir_table_destroy(again);
    weir_table_destroy(table);
    weir_table_destroy(truth);
    weir_buffer_fini(&records);
    weir_buffer_fini(&dump);
}

/* --- the store itself ------------------------------------------------------------------------ */

static struct weir_cold *make_store(const char *path) {
    const struct weir_cold_options options = {.path = path, .memory_bytes = 1 << 20};
    struct weir_cold *cold = weir_cold_create(&options);
    assert_non_null(cold);
    return cold;
}

enum { RUN_BITS = 6 };

/* A run of `count` keys from `from` on. */
static void put_keys(struct weir_buffer *records, uint64_t run, uint32_t from, uint32_t count,
                     bool ask) {
    static const uint8_t value[1024];
    for (uint32_t i = from; i < from + count; i++) {
        const struct weir_cold_record record = {.tag = i * UINT32_C(2654435769),
                                                .run = (uint32_t)run,
                                                .key = (const uint8_t *)&i,
                                                .key_size = 4,
                                                .value = value,
                                                .value_size = ask ? 0 : sizeof(value)};
        assert_int_equal(ask ? weir_cold_put_ask(records, run, RUN_BITS, &record)
                             : weir_cold_put_record(records, &record, NULL, 0),
                         WEIR_OK);
    }
}

static void write_keys(struct weir_cold *cold, uint64_t run, uint32_t from, uint32_t count) {
    struct weir_buffer records;
    weir_buffer_init(&records, 256 << 20);
    put_keys(&records, run, from, count, false);
    assert_int_equal(weir_cold_write(cold, run, RUN_BITS, &records), WEIR_OK);
    weir_buffer_fini(&records);
}

static void a_new_scan_has_no_part_of_the_one_before(void **state) {
    char path[256];
    struct weir_buffer part;
    bool end;
    bool *seen = calloc(33000, sizeof(*seen));
    uint32_t count = 0;
    (void)state;
    assert_non_null(seen);
    snprintf(path, sizeof(path), "%s/scan", folder);
    struct weir_cold *cold = make_store(path);
    write_keys(cold, 0, 0, 2000);
    assert_int_equal(weir_cold_scan(cold), WEIR_OK);
    weir_cold_wait(cold);
    /* The next part is read while what follows it keeps the new scan from its turn. */
    write_keys(cold, 1, 2000, 15000);
    assert_true(weir_cold_scanned(cold, &part, &end)); /* asks for it */
    assert_false(end);
    weir_buffer_fini(&part);
    write_keys(cold, 2, 17000, 16000);
    assert_int_equal(weir_cold_scan(cold), WEIR_OK);
    for (end = false; !end;) {
        if (!weir_cold_scanned(cold, &part, &end)) {
            continue;
        }
        const uint8_t *at = part.data;
        struct weir_cold_record record;
        while (weir_cold_next_record(&at, part.data + part.size, &record)) {
            uint32_t key;
            memcpy(&key, record.key, 4);
            assert_true(key < 33000 && !seen[key]);
            seen[key] = true;
            count++;
        }
        weir_buffer_fini(&part);
    }
    assert_int_equal(count, 33000);
    free(seen);
    weir_cold_destroy(cold);
}

/* Every byte of the table files is another one. */
static int damage(const char *path) {
    int damaged = 0;
    DIR *entries = opendir(path);
    assert_non_null(entries);
    for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
        char file[512];
        struct stat about;
        snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
        if (strstr(entry->d_name, ".sst") == NULL || stat(file, &about) != 0) {
            continue;
        }
        int fd = open(file, O_WRONLY);
        static const uint8_t other[4096];
        for (off_t at = 0; fd >= 0 && at < about.st_size; at += (off_t)sizeof(other)) {
            assert_true(pwrite(fd, other, sizeof(other), at) == (ssize_t)sizeof(other));
            damaged++;
        }
        close(fd);
    }
    closedir(entries);
    return damaged;
}

static void a_load_that_fails_is_not_handed_out(void **state) {
    char path[256];
    struct weir_buffer keys;
    struct weir_buffer found;
    struct weir_error err = {0};
    (void)state;
    snprintf(path, sizeof(path), "%s/damaged", folder);
    struct weir_cold *cold = make_store(path);
    for (uint32_t i = 0; i < 7; i++) { /* more than may be gathered before a file is written */
        write_keys(cold, i, i * 200, 200);
    }
    weir_cold_wait(cold);
    assert_true(damage(path) > 0);
    weir_buffer_init(&keys, 1 << 20);
    put_keys(&keys, 0, 0, 200, true);
    assert_int_equal(weir_cold_load(cold, &keys), WEIR_OK);
    weir_cold_wait(cold);
    assert_int_equal(weir_cold_failure(cold, &err), WEIR_E_ENVIRONMENT);
    assert_non_null(strstr(err.message, path));
    assert_false(weir_cold_loaded(cold, &found));
    weir_buffer_fini(&keys);
    weir_cold_destroy(cold);
}

/* --- where keys are -------------------------------------------------------------------------- */

static void the_index_knows_each_pair_of_tag_and_run(void **state) {
    enum { PAIRS = 30000, RUNS = 5 };
    struct weir_cold_index index = {0};
    static uint8_t in[PAIRS][RUNS + 1];
    uint64_t count = 0;
    (void)state;
    for (int step = 0; step < 400000; step++) {
        uint32_t pair = (uint32_t)below(step < 200000 ? PAIRS : PAIRS / 50);
        uint32_t tag = pair * UINT32_C(2654435769);
        uint16_t run = (uint16_t)(1 + below(RUNS));
        assert_int_equal(weir_cold_index_has(&index, tag, run), in[pair][run]);
        if (in[pair][run]) {
            assert_true(weir_cold_index_remove(&index, tag, run));
            count--;
        } else if (below(3) > 0) {
            assert_false(weir_cold_index_remove(&index, tag, run));
            assert_true(weir_cold_index_add(&index, tag, run));
            count++;
            in[pair][run] = 2;
        }
        in[pair][run] = in[pair][run] == 2;
        assert_int_equal(index.count, count);
        uint32_t at = 0;
        int runs = 0;
        for (uint16_t next; (next = weir_cold_index_next(&index, tag, &at)) != 0; runs++) {
            assert_int_equal(in[pair][next], 1);
        }
        for (int r = 1; r <= RUNS; r++) {
            runs -= in[pair][r];
        }
        assert_int_equal(runs, 0);
    }
    for (uint32_t pair = 0; pair < PAIRS; pair++) { /* and it gives back what it took */
        for (uint16_t run = 1; run <= RUNS; run++) {
            assert_int_equal(weir_cold_index_remove(&index, pair * UINT32_C(2654435769), run),
                             in[pair][run]);
        }
    }
    assert_true(index.count == 0 && index.bytes < 64 << 10);
    weir_cold_index_fini(&index);
}

static int count_one(void *context, const struct weir_cold_record *record, struct weir_error *err) {
    (void)err;
    assert_int_equal(record->key_size, 8);
    ++*(uint64_t *)context;
    return WEIR_OK;
}

/* Keys of one tag are told apart by their bytes, and go out one a run. */
static void keys_of_one_hash_are_kept_apart(void **state) {
    char path[256];
    struct weir_error err = {0};
    uint64_t found = 0;
    bool taken;
    (void)state;
    snprintf(path, sizeof(path), "%s/twins", folder);
    const struct weir_cold_options options = {
        .path = path, .memory_bytes = 1 << 20, .signal = &brought};
    struct weir_cold_keys *keys = weir_cold_keys_create("gold.twins", &options);
    assert_non_null(keys);
    for (uint64_t i = 0; i < 5; i++) {
        const struct weir_cold_key key = {42, &i, 8};
        assert_int_equal(weir_cold_keys_put(keys, &key, NULL, 0, &i, 8, &taken, &err), WEIR_OK);
        assert_true(taken);
        assert_int_equal(weir_cold_keys_put(keys, &key, NULL, 0, &i, 8, &taken, &err), WEIR_OK);
        assert_false(taken);
        if (i < 4) {
            assert_int_equal(weir_cold_keys_flush(keys, &err), WEIR_OK);
        }
    }
    for (uint64_t i = 0; i < 6; i++) { /* the last is nowhere */
        const struct weir_cold_key key = {42, &i, 8};
        bool done;
        assert_int_equal(weir_cold_keys_want(keys, &key, &err), WEIR_OK);
        assert_int_equal(weir_cold_keys_want(keys, &key, &err), WEIR_OK);
        assert_int_equal(weir_cold_keys_load(keys, &done, &err), WEIR_OK);
        weir_cold_keys_wait(keys);
        assert_int_equal(weir_cold_keys_bring(keys, count_one, &found, &done, &err), WEIR_OK);
        assert_true(done);
        assert_int_equal(found, i < 5 ? i + 1 : 5);
    }
    assert_int_equal(weir_cold_keys_count(keys), 0);
    weir_cold_keys_destroy(keys);
}

/* However often keys go out and come in, disk and memory hold some times what lives at most. */
static void what_is_gone_is_swept(void **state) {
    enum { ALL = 20000, PART = 1000 };
    char path[256];
    struct weir_error err = {0};
    bool taken;
    bool done;
    (void)state;
    snprintf(path, sizeof(path), "%s/swept", folder);
    const struct weir_cold_options options = {.path = path, .memory_bytes = 1 << 20};
    struct weir_cold_keys *keys = weir_cold_keys_create("gold.swept", &options);
    assert_non_null(keys);
    static uint8_t value[100];
    static bool out[ALL];
    for (int round = 0; round < 400; round++) {
        uint64_t found = 0;
        uint64_t asked = 0;
        for (int i = 0; i < PART; i++) {
            uint64_t at = below(ALL);
            const struct weir_cold_key key = {at * UINT64_C(11400714819323198485), &at, 8};
            if (!out[at]) {
                assert_int_equal(
                    weir_cold_keys_put(keys, &key, NULL, 0, value, sizeof(value), &taken, &err),
                    WEIR_OK);
                out[at] = taken;
            } else {
                out[at] = false;
                asked++;
                assert_int_equal(weir_cold_keys_want(keys, &key, &err), WEIR_OK);
                /* it may not go out again before it is in */
                assert_int_equal(weir_cold_keys_load(keys, &done, &err), WEIR_OK);
                weir_cold_keys_wait(keys);
                assert_int_equal(weir_cold_keys_bring(keys, count_one, &found, &done, &err),
                                 WEIR_OK);
            }
        }
        assert_int_equal(found, asked);
        assert_int_equal(weir_cold_keys_flush(keys, &err), WEIR_OK);
        weir_cold_keys_wait(keys);
        assert_int_equal(weir_cold_keys_tend(keys, NULL, NULL, &err), WEIR_OK);
    }
    uint64_t live = 0;
    for (int i = 0; i < ALL; i++) {
        live += out[i];
    }
    assert_int_equal(weir_cold_keys_count(keys), live);
    struct weir_cold_figures figures = weir_cold_keys_figures(keys);
    assert_true(figures.written > figures.found + live); /* some were written anew */
    assert_true(weir_cold_keys_records(keys) < 6 * live);
    uint64_t seen = 0;
    assert_int_equal(weir_cold_keys_scan(keys, &err), WEIR_OK);
    for (done = false; !done;) {
        assert_int_equal(weir_cold_keys_scanned(keys, count_one, &seen, &done, &err), WEIR_OK);
    }
    assert_int_equal(seen, live);
    weir_cold_keys_destroy(keys);
}

static int64_t first_of_value(void *context, const struct weir_cold_record *record) {
    int64_t time;
    (void)context;
    memcpy(&time, record->value, sizeof(time));
    return time;
}

static int only_younger(void *context, const struct weir_cold_record *record,
                        struct weir_error *err) {
    (void)err;
    assert_true(first_of_value(NULL, record) >= *(const int64_t *)context);
    return WEIR_OK;
}

/* A run whose last time is over is forgotten unread, whatever else is written, swept and loaded; of
 * others nothing is lost. */
static void runs_that_are_over_are_forgotten(void **state) {
    enum { RUNS = 200, A_RUN = 100 };
    char path[256];
    struct weir_error err = {0};
    uint64_t found = 0;
    bool taken;
    bool done;
    (void)state;
    snprintf(path, sizeof(path), "%s/over", folder);
    const struct weir_cold_options options = {.path = path, .memory_bytes = 1 << 20};
    struct weir_cold_keys *keys = weir_cold_keys_create("gold.over", &options);
    assert_non_null(keys);
    weir_cold_keys_timed(keys, first_of_value, NULL);
    uint64_t put = 0;
    for (int run = 0; run < RUNS; run++) {
        for (int i = 0; i < A_RUN; i++) {
            uint64_t at = (uint64_t)run * A_RUN + (uint64_t)i;
            int64_t time = run + (int64_t)below(10); /* the last of a run is about run + 9 */
            const struct weir_cold_key key = {at * UINT64_C(11400714819323198485), &at, 8};
            assert_int_equal(weir_cold_keys_put(keys, &key, NULL, 0, &time, 8, &taken, &err),
                             WEIR_OK);
            put += taken;
        }
        assert_int_equal(weir_cold_keys_flush(keys, &err), WEIR_OK);
        if (run % 10 == 9) { /* some come in meanwhile */
            uint64_t at = (uint64_t)(run - 5) * A_RUN;
            const struct weir_cold_key key = {at * UINT64_C(11400714819323198485), &at, 8};
            assert_int_equal(weir_cold_keys_want(keys, &key, &err), WEIR_OK);
            assert_int_equal(weir_cold_keys_load(keys, &done, &err), WEIR_OK);
            weir_cold_keys_wait(keys);
            assert_int_equal(weir_cold_keys_bring(keys, count_one, &found, &done, &err), WEIR_OK);
        }
        weir_cold_keys_forget(keys, run - 50);
        for (int i = 0; i < 40; i++) {
            assert_int_equal(weir_cold_keys_tend(keys, NULL, NULL, &err), WEIR_OK);
        }
    }
    assert_int_equal(found, RUNS / 10);
    for (int i = 0; i < 1000; i++) {
        weir_cold_keys_wait(keys);
        assert_int_equal(weir_cold_keys_tend(keys, NULL, NULL, &err), WEIR_OK);
    }
    struct weir_cold_figures figures = weir_cold_keys_figures(keys);
    uint64_t left = weir_cold_keys_count(keys);
    assert_int_equal(figures.forgotten + left + found, put);
    /* Runs up to 140 are over, but for less than a sixteenth of what is left. */
    assert_in_range(left, 50 * A_RUN, 70 * A_RUN);
    int64_t least = RUNS - 1 - 50 - 10 - 7;
    assert_int_equal(weir_cold_keys_scan(keys, &err), WEIR_OK);
    for (done = false; !done;) {
        assert_int_equal(weir_cold_keys_scanned(keys, only_younger, &least, &done, &err), WEIR_OK);
    }
    assert_true(weir_cold_keys_records(keys) < put / 2);
    weir_cold_keys_destroy(keys);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_that_are_over_are_forgotten),
        cmocka_unit_test(a_table_on_disk_is_one_in_memory),
        cmocka_unit_test(a_dump_that_waits_holds_what_went_to_disk),
        cmocka_unit_test(a_new_scan_has_no_part_of_the_one_before),
        cmocka_unit_test(a_load_that_fails_is_not_handed_out),
        cmocka_unit_test(the_index_knows_each_pair_of_tag_and_run),
        cmocka_unit_test(keys_of_one_hash_are_kept_apart),
        cmocka_unit_test(what_is_gone_is_swept),
    };
    struct weir_error err;
    if (mkdtemp(folder) == NULL || weir_signal_init(&brought, &err) != WEIR_OK) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    weir_signal_fini(&brought);
    char sweep[64]; /* also what a failed test left */
    snprintf(sweep, sizeof(sweep), "rm -rf %s", folder);
    failed += system(sweep) != 0;
    return failed;
}
