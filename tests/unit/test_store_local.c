/* The store contract, on the local folder and on the store that forgets. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "lake/store/store.h"

static char root[64];

static struct weir_store *open_local(void) {
    struct weir_store *store = NULL;
    snprintf(root, sizeof(root), "/tmp/weir-store-XXXXXX");
    assert_non_null(mkdtemp(root));
    assert_int_equal(weir_store_local_create(root, &store, NULL), WEIR_OK);
    return store;
}

static void remove_local(struct weir_store *store) {
    char command[128];
    weir_store_destroy(store);
    snprintf(command, sizeof(command), "rm -rf %s", root);
    assert_int_equal(system(command), 0);
}

static void expect_content(struct weir_store *store, const char *path, const char *text) {
    struct weir_buffer out;
    weir_buffer_init(&out, 4096);
    assert_int_equal(weir_store_get(store, path, 0, -1, &out, NULL), WEIR_OK);
    assert_int_equal(out.size, strlen(text));
    assert_memory_equal(out.data, text, out.size);
    weir_buffer_fini(&out);
}

static int collect(void *context, const char *path, const struct weir_store_info *info) {
    (void)info;
    return weir_buffer_printf(context, "%s ", path);
}

static void check_contract(struct weir_store *store) {
    struct weir_store_file *file;
    struct weir_store_info info;
    struct weir_buffer out;
    struct weir_buffer names;
    weir_buffer_init(&names, 256);
    assert_int_equal(weir_store_put_if_absent(store, "log/1", "one", 3, NULL), WEIR_OK);
    assert_int_equal(weir_store_put_if_absent(store, "log/1", "two", 3, NULL), WEIR_E_CONFLICT);
    expect_content(store, "log/1", "one");
    assert_int_equal(weir_store_put(store, "log/hint", "a", 1, NULL), WEIR_OK);
    assert_int_equal(weir_store_put(store, "log/hint", "bc", 2, NULL), WEIR_OK);
    expect_content(store, "log/hint", "bc");
    assert_int_equal(weir_store_open(store, "log/2", WEIR_STORE_ATOMIC, &file, NULL), WEIR_OK);
    assert_int_equal(weir_store_file_write(file, "xyz", 3, NULL), WEIR_OK);
    assert_int_equal(weir_store_stat(store, "log/2", &info, NULL), WEIR_E_NOTFOUND);
    assert_int_equal(weir_store_file_close(file, true, NULL), WEIR_OK);
    expect_content(store, "log/2", "xyz");
    assert_int_equal(weir_store_open(store, "log/3", WEIR_STORE_CREATE, &file, NULL), WEIR_OK);
    assert_int_equal(weir_store_file_close(file, false, NULL), WEIR_OK);
    assert_int_equal(weir_store_stat(store, "log/3", &info, NULL), WEIR_E_NOTFOUND);
    assert_int_equal(weir_store_open(store, "log/2", WEIR_STORE_CREATE, &file, NULL),
                     WEIR_E_EXISTS);
    assert_int_equal(weir_store_list(store, "log", NULL, "1", collect, &names, NULL), WEIR_OK);
    assert_string_equal(weir_buffer_text(&names), "log/2 log/hint ");
    weir_buffer_clear(&names);
    assert_int_equal(weir_store_list_dir(store, "", collect, &names, NULL), WEIR_OK);
    assert_string_equal(weir_buffer_text(&names), "log ");
    assert_int_equal(weir_store_list(store, "nowhere", NULL, NULL, collect, &names, NULL), WEIR_OK);
    weir_buffer_fini(&names);
    weir_buffer_init(&out, 2);
    assert_int_equal(weir_store_get(store, "log/2", 1, 2, &out, NULL), WEIR_OK);
    assert_memory_equal(out.data, "yz", 2);
    assert_int_equal(weir_store_get(store, "log/2", 0, 3, &out, NULL), WEIR_E_LIMIT);
    assert_int_equal(weir_store_get(store, "log/2", 2, 5, &out, NULL), WEIR_E_CORRUPT);
    weir_buffer_fini(&out);
    assert_int_equal(weir_store_remove(store, "log/2", NULL), WEIR_OK);
    assert_int_equal(weir_store_remove(store, "log/2", NULL), WEIR_OK);
    static const char *const refused[] = {"../x", "/etc/passwd", "a//b", "a/../b", ""};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        assert_int_equal(weir_store_check_path(refused[i], NULL), WEIR_E_CONFIG);
    }
}

static void local_store_keeps_the_contract(void **state) {
    (void)state;
    struct weir_store *store = open_local();
    check_contract(store);
    remove_local(store);
}

static void unsynced_store_keeps_the_contract(void **state) {
    (void)state;
    struct weir_store *store;
    assert_int_equal(weir_store_unsynced_create(&store, NULL), WEIR_OK);
    check_contract(store);
    weir_store_destroy(store);
}

static void local_store_syncs_file_and_directory_once_a_put(void **state) {
    (void)state;
    struct weir_store *store = open_local();
    assert_int_equal(weir_store_make_dir(store, "log", NULL), WEIR_OK);
    uint64_t before = store->sync_count;
    assert_int_equal(weir_store_put_if_absent(store, "log/1", "one", 3, NULL), WEIR_OK);
    assert_int_equal(store->sync_count - before, 2);
    remove_local(store);
}

/* Without a sync some seeds lose the name and some the bytes; with both synced no seed may. */
static void power_loss_takes_what_was_not_synced_and_nothing_else(void **state) {
    (void)state;
    int lost_name = 0;
    int lost_bytes = 0;
    for (uint64_t seed = 1; seed <= 64; seed++) {
        struct weir_store *store;
        struct weir_store_file *file;
        struct weir_store_info info;
        struct weir_buffer out;
        char data[2048];
        memset(data, 'x', sizeof(data));
        assert_int_equal(weir_store_unsynced_create(&store, NULL), WEIR_OK);
        assert_int_equal(weir_store_make_dir(store, "d", NULL), WEIR_OK);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(weir_store_open(store, i == 0 ? "d/kept" : "d/risky",
                                             WEIR_STORE_CREATE, &file, NULL),
                             WEIR_OK);
            assert_int_equal(weir_store_file_write(file, data, sizeof(data), NULL), WEIR_OK);
            if (i == 0) {
                assert_int_equal(weir_store_file_sync(file, NULL), WEIR_OK);
                assert_int_equal(weir_store_sync_dir(store, "d", NULL), WEIR_OK);
            }
            assert_int_equal(weir_store_file_close(file, true, NULL), WEIR_OK);
        }
        weir_store_unsynced_power_loss(store, seed);
        weir_buffer_init(&out, 8192);
        assert_int_equal(weir_store_get(store, "d/kept", 0, -1, &out, NULL), WEIR_OK);
        assert_int_equal(out.size, sizeof(data));
        assert_memory_equal(out.data, data, sizeof(data));
        weir_buffer_clear(&out);
        if (weir_store_stat(store, "d/risky", &info, NULL) == WEIR_E_NOTFOUND) {
            lost_name++;
        } else {
            assert_int_equal(weir_store_get(store, "d/risky", 0, -1, &out, NULL), WEIR_OK);
            lost_bytes += out.size < sizeof(data) || memcmp(out.data, data, sizeof(data)) != 0;
        }
        weir_buffer_fini(&out);
        weir_store_destroy(store);
    }
    assert_true(lost_name > 8);
    assert_true(lost_bytes > 8);
}

static void touch(const char *name, int64_t age_s) {
    char path[128];
    snprintf(path, sizeof(path), "%s/log/%s", root, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    const struct timespec old = {time(NULL) - age_s, 0};
    const struct timespec times[2] = {old, old};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static bool is_there(const char *name) {
    char path[128];
    snprintf(path, sizeof(path), "%s/log/%s", root, name);
    return access(path, F_OK) == 0;
}

static void a_sweep_takes_old_temporary_files_only(void **state) {
    (void)state;
    struct weir_store *store = open_local();
    assert_int_equal(weir_store_make_dir(store, "log", NULL), WEIR_OK);
    touch(".tmp-1-2-3", 7200);
    touch(".tmp-1-2-4", 1800);
    touch("part-orphan.parquet", 7200);
    assert_int_equal(weir_store_sweep(store, "log", 3600 * 1000, NULL), WEIR_OK);
    assert_int_equal(weir_store_sweep(store, "nowhere", 3600 * 1000, NULL), WEIR_OK);
    assert_false(is_there(".tmp-1-2-3"));
    assert_true(is_there(".tmp-1-2-4"));
    assert_true(is_there("part-orphan.parquet"));
    remove_local(store);
}

/* Each file is synced once, whatever the number of files and of threads. */
/* Files short, long, and ending at, before and after the places where writing changes its way. */
static void files_of_any_length_hold_every_byte(void **state) {
    (void)state;
    static const size_t sizes[] = {1,
                                   4096,
                                   65535,
                                   65536,
                                   65537,
                                   (512 << 10) - 1,
                                   512 << 10,
                                   (512 << 10) + 1,
                                   (1 << 20) + 4096,
                                   3000001};
    static const size_t pieces[] = {1 << 22, 100003, 4096, 777};
    uint8_t *bytes = malloc(3000001);
    struct weir_buffer out;
    assert_non_null(bytes);
    for (size_t i = 0; i < 3000001; i++) {
        bytes[i] = (uint8_t)(i * 2654435761u >> 13);
    }
    weir_buffer_init(&out, 4 << 20);
    struct weir_store *store = open_local();
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        for (size_t p = 0; p < sizeof(pieces) / sizeof(pieces[0]); p++) {
            struct weir_store_file *file = NULL;
            char name[32];
            snprintf(name, sizeof(name), "long/%zu-%zu", s, p);
            assert_int_equal(weir_store_open(store, name, WEIR_STORE_CREATE, &file, NULL), WEIR_OK);
            for (size_t at = 0; at < sizes[s]; at += pieces[p]) {
                size_t n = sizes[s] - at < pieces[p] ? sizes[s] - at : pieces[p];
                assert_int_equal(weir_store_file_write(file, bytes + at, n, NULL), WEIR_OK);
                if (at / pieces[p] == 5) { /* what follows a sync in the middle is kept as well */
                    assert_int_equal(weir_store_file_sync(file, NULL), WEIR_OK);
                }
            }
            if (p % 2 == 0) {
                assert_int_equal(weir_store_file_sync(file, NULL), WEIR_OK);
            }
            assert_int_equal(weir_store_file_close(file, true, NULL), WEIR_OK);
            weir_buffer_clear(&out);
            assert_int_equal(weir_store_get(store, name, 0, -1, &out, NULL), WEIR_OK);
            assert_int_equal(out.size, sizes[s]);
            assert_memory_equal(out.data, bytes, sizes[s]);
        }
    }
    weir_buffer_fini(&out);
    free(bytes);
    remove_local(store);
}

static void many_files_are_synced_together(void **state) {
    (void)state;
    struct weir_store *store = open_local();
    struct weir_store_file *files[21];
    assert_int_equal(weir_store_make_dir(store, "log", NULL), WEIR_OK);
    for (int i = 0; i < 21; i++) {
        char name[32];
        snprintf(name, sizeof(name), "log/%d", i);
        assert_int_equal(weir_store_open(store, name, WEIR_STORE_CREATE, &files[i], NULL), WEIR_OK);
        assert_int_equal(weir_store_file_write(files[i], "x", 1, NULL), WEIR_OK);
    }
    uint64_t before = store->sync_count;
    assert_int_equal(weir_store_sync_files(files, 0, NULL), WEIR_OK);
    assert_int_equal(store->sync_count, before);
    assert_int_equal(weir_store_sync_files(files, 21, NULL), WEIR_OK);
    assert_int_equal(store->sync_count, before + 21);
    for (int i = 0; i < 21; i++) {
        assert_int_equal(weir_store_file_close(files[i], true, NULL), WEIR_OK);
    }
    remove_local(store);
}

/* Its maker may have been killed before it synced the folder above. */
static void a_folder_somebody_else_made_is_made_durable_once(void **state) {
    (void)state;
    struct weir_store *store = open_local();
    char path[128];
    snprintf(path, sizeof(path), "%s/found", root);
    assert_int_equal(mkdir(path, 0777), 0);
    uint64_t before = store->sync_count;
    assert_int_equal(weir_store_make_dir(store, "found", NULL), WEIR_OK);
    assert_int_equal(store->sync_count, before + 1);
    assert_int_equal(weir_store_make_dir(store, "found", NULL), WEIR_OK);
    assert_int_equal(store->sync_count, before + 1);
    remove_local(store);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sweep_takes_old_temporary_files_only),
        cmocka_unit_test(a_folder_somebody_else_made_is_made_durable_once),
        cmocka_unit_test(many_files_are_synced_together),
        cmocka_unit_test(files_of_any_length_hold_every_byte),
        cmocka_unit_test(local_store_keeps_the_contract),
        cmocka_unit_test(unsynced_store_keeps_the_contract),
        cmocka_unit_test(local_store_syncs_file_and_directory_once_a_put),
        cmocka_unit_test(power_loss_takes_what_was_not_synced_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
