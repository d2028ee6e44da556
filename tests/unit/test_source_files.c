/* The files source: every way a file may look, and resuming after every batch. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
/* cmocka wants the first four above */
#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>

#include "source/source.h"

static char folder[64];
static const char *more_options = "";
static struct weir_pool *pool;
static struct weir_schema *schema;

static int set_up(void **state) {
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/weir_files_XXXXXX");
    assert_non_null(mkdtemp(folder));
    pool = weir_pool_create(256 << 20);
    schema = weir_schema_create();
    struct weir_error err = {0};
    assert_int_equal(weir_schema_add_text(schema, "v", "int64", true, &err), 0);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof(command), "rm -r %s", folder);
    assert_int_equal(system(command), 0);
    weir_schema_unref(schema);
    assert_int_equal(weir_pool_used_bytes(pool), 0);
    weir_pool_destroy(pool);
    return 0;
}

static void write_plain(const char *name, const char *text, size_t length, const char *mode) {
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, mode);
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

/* Last changed that many seconds ago. */
static void age(const char *name, int seconds) {
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    struct timespec times[2] = {{.tv_sec = time(NULL) - seconds}, {.tv_sec = time(NULL) - seconds}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void put(const char *name, const char *text) {
    write_plain(name, text, strlen(text), "wb");
}

/* Two gzip members, or two zstd frames, cut in the middle of a line. */
static void put_compressed(const char *name, const char *text) {
    size_t length = strlen(text);
    size_t half = length / 2;
    if (strstr(name, ".gz") != NULL) {
        char path[128];
        snprintf(path, sizeof(path), "%s/%s", folder, name);
        for (int i = 0; i < 2; i++) {
            gzFile file = gzopen(path, i == 0 ? "wb" : "ab");
            assert_non_null(file);
            assert_true(gzwrite(file, text + (i == 0 ? 0 : half),
                                (unsigned)(i == 0 ? half : length - half)) > 0);
            assert_int_equal(gzclose(file), Z_OK);
        }
    } else {
        char out[65536];
        size_t first = ZSTD_compress(out, sizeof(out), text, half, 1);
        size_t second =
            ZSTD_compress(out + first, sizeof(out) - first, text + half, length - half, 1);
        write_plain(name, out, first + second, "wb");
    }
}

static struct weir_source *open_files(const char *pattern, bool until_end,
                                      const struct weir_position *position, int expect,
                                      struct weir_error *err) {
    char options[256];
    snprintf(options, sizeof(options), "{\"path\":\"%s/%s\"%s}", folder, pattern, more_options);
    struct weir_source_config config = {.name = "bronze.x",
                                        .kind = "files",
                                        .options_json = options,
                                        .decoder = "json",
                                        .schema = schema,
                                        .pool = pool,
                                        .until_end = until_end};
    struct weir_source *source = NULL;
    if (weir_source_create(&source, &config, err) != WEIR_OK) {
        fail_msg("%s", err->message);
    }
    int rc = weir_source_open(source, position, position != NULL ? 1 : 0, err);
    if (rc != expect) {
        fail_msg("open: %d %s", rc, err->message);
    }
    return source;
}

/* Reads up to `batches` batches of max_rows; appends values ("!" for rejects) to out. Keeps the
 * last position. Returns true at the end. */
enum { SHOWN = 65536 };

static bool read_some(struct weir_source *source, int32_t max_rows, int batches, char *out,
                      struct weir_buffer *position) {
    struct weir_error err = {0};
    for (int i = 0; i < batches; i++) {
        struct weir_source_batch *batch;
        if (weir_source_next(source, 0, max_rows, &batch, &err) != WEIR_OK) {
            fail_msg("%s", err.message);
        }
        if (batch == NULL) {
            return false;
        }
        int32_t rejects = batch->rejects != NULL ? batch->rejects->count : 0;
        assert_int_equal(batch->rows, batch->batch->rows + rejects);
        int32_t r = 0;
        size_t at = strlen(out);
        for (int32_t row = 0; row <= batch->batch->rows; row++) {
            for (; r < rejects && batch->rejects->rejects[r].before_row == row; r++) {
                at += (size_t)snprintf(out + at, SHOWN - at, "! ");
            }
            if (row < batch->batch->rows) {
                at +=
                    (size_t)snprintf(out + at, SHOWN - at, "%lld ",
                                     (long long)((int64_t *)batch->batch->columns[0].values)[row]);
            }
        }
        assert_int_equal(r, rejects);
        if (position != NULL) {
            weir_buffer_clear(position);
            assert_int_equal(
                weir_buffer_append(position, batch->position.bytes, batch->position.size), 0);
        }
        bool end = batch->end;
        weir_source_batch_release(batch);
        if (end) {
            return true;
        }
    }
    return false;
}

static void expect_all(const char *pattern, const char *expect) {
    struct weir_error err = {0};
    for (int32_t max_rows = 1; max_rows < 9; max_rows++) {
        /* straight through */
        char got[4096] = "";
        struct weir_source *source = open_files(pattern, true, NULL, WEIR_OK, &err);
        assert_true(read_some(source, max_rows, 1000, got, NULL));
        weir_source_destroy(source);
        assert_string_equal(got, expect);
        /* reopened after every batch */
        struct weir_buffer position;
        weir_buffer_init(&position, 1 << 16);
        got[0] = '\0';
        bool end = false;
        for (int i = 0; !end && i < 1000; i++) {
            struct weir_position at = {position.data, (uint32_t)position.size};
            source = open_files(pattern, true, &at, WEIR_OK, &err);
            end = read_some(source, max_rows, 1, got, &position);
            weir_source_destroy(source);
        }
        weir_buffer_fini(&position);
        assert_true(end);
        assert_string_equal(got, expect);
    }
}

static const char lines[] = "\xef\xbb\xbf{\"v\":1}\r\n\n{\"v\":2}\n   \r\n{\"v\":bad}\n"
                            "{\"v\":3,\"w\":\"\xc3\xa9\"}\n{\"v\":4}\r\n\r\n{\"v\":5}";

static void test_reads_bom_crlf_blank_lines_and_a_last_line_without_end(void **state) {
    (void)state;
    put("a.jsonl", lines);
    expect_all("a.jsonl", "1 2 ! 3 4 5 ");
}

static void test_reads_gzip_of_several_members(void **state) {
    (void)state;
    put_compressed("a.jsonl.gz", lines);
    expect_all("*.gz", "1 2 ! 3 4 5 ");
}

static void test_reads_zstd_of_several_frames(void **state) {
    (void)state;
    put_compressed("a.jsonl.zst", lines);
    expect_all("*.zst", "1 2 ! 3 4 5 ");
}

static void test_reads_by_name_and_skips_empty_files(void **state) {
    (void)state;
    put("b.jsonl", "{\"v\":3}");
    put("a.jsonl", "{\"v\":1}\n{\"v\":2}\n");
    put("c.jsonl", "");
    put("d.jsonl", "\n\r\n");
    put("e.jsonl", "{\"v\":4}\n");
    put("f.jsonl", "");
    expect_all("*.jsonl", "1 2 3 4 ");
}

static void test_a_pattern_without_files_ends_at_once_and_a_missing_file_is_an_error(void **state) {
    (void)state;
    expect_all("*.jsonl", "");
    struct weir_error err = {0};
    struct weir_source *source = open_files("no.jsonl", true, NULL, WEIR_E_NOTFOUND, &err);
    assert_non_null(strstr(err.message, "no.jsonl"));
    weir_source_destroy(source);
}

static void test_a_smaller_name_that_appears_later_is_read_once(void **state) {
    (void)state;
    struct weir_error err = {0};
    struct weir_buffer position;
    weir_buffer_init(&position, 1 << 16);
    put("b.jsonl", "{\"v\":1}\n{\"v\":2}\n");
    put("c.jsonl", "{\"v\":3}\n");
    char got[256] = "";
    struct weir_source *source = open_files("*.jsonl", true, NULL, WEIR_OK, &err);
    read_some(source, 1, 1, got, &position);
    weir_source_destroy(source);
    put("a.jsonl", "{\"v\":9}\n");
    struct weir_position at = {position.data, (uint32_t)position.size};
    source = open_files("*.jsonl", true, &at, WEIR_OK, &err);
    assert_true(read_some(source, 10, 100, got, &position));
    weir_source_destroy(source);
    assert_string_equal(got, "1 2 9 3 ");
    at = (struct weir_position){position.data, (uint32_t)position.size};
    source = open_files("*.jsonl", true, &at, WEIR_OK, &err);
    assert_true(read_some(source, 10, 100, got, &position));
    weir_source_destroy(source);
    assert_string_equal(got, "1 2 9 3 ");
    weir_buffer_fini(&position);
}

static void test_a_replaced_or_truncated_file_is_noticed(void **state) {
    (void)state;
    static const char *const changed[] = {"{\"v\":1}\n", "{\"v\":8}\n{\"v\":2}\n{\"v\":3}\n"};
    for (int i = 0; i < 2; i++) {
        struct weir_error err = {0};
        struct weir_buffer position;
        weir_buffer_init(&position, 1 << 16);
        put("a.jsonl", "{\"v\":1}\n{\"v\":2}\n{\"v\":3}\n");
        char got[256] = "";
        struct weir_source *source = open_files("a.jsonl", true, NULL, WEIR_OK, &err);
        read_some(source, 2, 1, got, &position);
        weir_source_destroy(source);
        put("a.jsonl", changed[i]);
        struct weir_position at = {position.data, (uint32_t)position.size};
        source = open_files("a.jsonl", true, &at, WEIR_E_STATE, &err);
        assert_non_null(strstr(err.message, "a.jsonl"));
        weir_source_destroy(source);
        weir_buffer_fini(&position);
    }
}

static void test_following_waits_for_a_whole_line_and_for_new_files(void **state) {
    (void)state;
    struct weir_error err = {0};
    put("a.jsonl", "{\"v\":1}\n{\"v\":");
    char got[256] = "";
    struct weir_source *source = open_files("*.jsonl", false, NULL, WEIR_OK, &err);
    assert_false(read_some(source, 10, 10, got, NULL));
    assert_string_equal(got, "1 ");
    write_plain("a.jsonl", "2}\n", 3, "ab");
    assert_false(read_some(source, 10, 10, got, NULL));
    assert_string_equal(got, "1 2 ");
    write_plain("a.jsonl", "{\"v\":3}", 7, "ab");
    assert_false(read_some(source, 10, 10, got, NULL));
    assert_string_equal(got, "1 2 ");
    put("b.jsonl", "{\"v\":4}\n");
    assert_false(read_some(source, 10, 10, got, NULL));
    assert_string_equal(got, "1 2 "); /* its writer may come back */
    age("a.jsonl", 10);
    assert_false(read_some(source, 10, 10, got, NULL));
    assert_string_equal(got, "1 2 3 4 ");
    weir_source_destroy(source);
}

static void test_a_cut_file_gives_its_good_rows_before_its_error(void **state) {
    (void)state;
    static const char *const names[] = {"a.jsonl.gz", "a.jsonl.zst"};
    for (int n = 0; n < 2; n++) {
        char text[4096] = "";
        for (int i = 1; i <= 100; i++) {
            snprintf(text + strlen(text), sizeof(text) - strlen(text), "{\"v\":%d}\n", i);
        }
        put_compressed(names[n], text);
        char path[128];
        snprintf(path, sizeof(path), "%s/%s", folder, names[n]);
        struct stat st;
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(truncate(path, st.st_size - 9), 0);
        struct weir_error err = {0};
        struct weir_source *source = open_files(names[n], true, NULL, WEIR_OK, &err);
        struct weir_source_batch *batch;
        int32_t rows = 0;
        int rc;
        while ((rc = weir_source_next(source, 0, 1000, &batch, &err)) == WEIR_OK) {
            assert_non_null(batch);
            assert_false(batch->end);
            rows += batch->rows;
            weir_source_batch_release(batch);
        }
        assert_int_equal(rc, WEIR_E_CORRUPT);
        assert_non_null(strstr(err.message, "ends in the middle of its compressed text"));
        assert_true(rows >= 50); /* the first member is whole */
        weir_source_destroy(source);
        assert_int_equal(unlink(path), 0);
    }
}

static void test_reads_by_time_when_asked(void **state) {
    (void)state;
    struct weir_error err = {0};
    put("a.jsonl", "{\"v\":3}\n");
    put("b.jsonl", "{\"v\":1}\n");
    put("c.jsonl", "{\"v\":2}\n");
    age("a.jsonl", 10);
    age("b.jsonl", 30);
    age("c.jsonl", 20);
    more_options = ",\"order\":\"time\"";
    struct weir_source *source = open_files("*.jsonl", true, NULL, WEIR_OK, &err);
    more_options = "";
    char got[64] = "";
    assert_true(read_some(source, 10, 10, got, NULL));
    assert_string_equal(got, "1 2 3 ");
    weir_source_destroy(source);
}

static void test_a_line_past_the_cap_is_one_reject(void **state) {
    (void)state;
    size_t length = 9 << 20;
    char *text = malloc(length);
    memset(text, 'x', length);
    memcpy(text, "{\"v\":1}\n", 8);
    memcpy(text + length - 9, "\n{\"v\":2}\n", 9);
    write_plain("a.jsonl", text, length, "wb");
    free(text);
    expect_all("a.jsonl", "1 ! 2 ");
}

static void test_threads_deliver_the_same_and_stop_when_asked(void **state) {
    (void)state;
    struct weir_error err = {0};
    char *text = malloc(1 << 20);
    size_t length = 0;
    for (int i = 0; i < 20000; i++) {
        length += (size_t)snprintf(text + length, 32, "{\"v\":%d}\n", i);
    }
    write_plain("a.jsonl", text, length, "wb");
    free(text);
    char options[256];
    snprintf(options, sizeof(options), "{\"path\":\"%s/a.jsonl\"}", folder);
    struct weir_signal signal;
    assert_int_equal(weir_signal_init(&signal, &err), 0);
    struct weir_source_config config = {.name = "x",
                                        .kind = "files",
                                        .options_json = options,
                                        .decoder = "json",
                                        .schema = schema,
                                        .pool = pool,
                                        .signal = &signal,
                                        .until_end = true,
                                        .batch_rows = 100,
                                        .queue_batches = 2};
    for (int stop_early = 0; stop_early < 2; stop_early++) {
        struct weir_source *source;
        assert_int_equal(weir_source_create(&source, &config, &err), 0);
        assert_int_equal(weir_source_open(source, NULL, 0, &err), 0);
        assert_int_equal(weir_source_start(source, &err), 0);
        int64_t next = 0;
        bool end = false;
        while (!end && !(stop_early && next > 500)) {
            struct weir_source_batch *batch = weir_source_poll(source, 0);
            if (batch == NULL) {
                weir_signal_wait(&signal, 1000);
                continue;
            }
            for (int32_t i = 0; i < batch->batch->rows; i++) {
                assert_int_equal(((int64_t *)batch->batch->columns[0].values)[i], next++);
            }
            end = batch->end;
            weir_source_batch_release(batch);
        }
        assert_int_equal(end, !stop_early);
        weir_source_destroy(source);
    }
    weir_signal_fini(&signal);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_reads_bom_crlf_blank_lines_and_a_last_line_without_end),
        TEST(test_reads_gzip_of_several_members),
        TEST(test_reads_zstd_of_several_frames),
        TEST(test_reads_by_name_and_skips_empty_files),
        TEST(test_a_pattern_without_files_ends_at_once_and_a_missing_file_is_an_error),
        TEST(test_a_smaller_name_that_appears_later_is_read_once),
        TEST(test_a_replaced_or_truncated_file_is_noticed),
        TEST(test_following_waits_for_a_whole_line_and_for_new_files),
        TEST(test_a_cut_file_gives_its_good_rows_before_its_error),
        TEST(test_reads_by_time_when_asked),
        TEST(test_a_line_past_the_cap_is_one_reject),
        TEST(test_threads_deliver_the_same_and_stop_when_asked),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
