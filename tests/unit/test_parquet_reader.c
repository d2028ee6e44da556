/* Hostile and foreign files: cut, flipped, lying about sizes; and parquet-testing's collection
 * where it lies beside the checkout (WEIR_CONFORMANCE names another place). Values of foreign files
 * are compared in tests/integration/test_parquet.py. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "parquet_sample.h"

enum { POOL_BYTES = 256 << 20, READER_BYTES = 64 << 20 };

/* Reads everything; 0 or the error's code. Batches must be whole and sane. */
static int read_all(const void *bytes, size_t size, size_t memory, int64_t *rows,
                    struct weir_error *err) {
    struct weir_pool *pool = weir_pool_create(POOL_BYTES);
    struct weir_parquet_reader_options options = {.pool = pool, .memory_bytes = memory};
    struct weir_parquet_reader *reader = NULL;
    *rows = 0;
    int rc = weir_parquet_reader_open_memory(&reader, bytes, size, &options, err);
    for (struct weir_batch *batch = NULL; rc == 0;) {
        rc = weir_parquet_reader_next(reader, &batch, err);
        if (batch == NULL) {
            break;
        }
        for (int32_t c = 0; c < batch->column_count; c++) {
            assert_int_equal(batch->columns[c].length, batch->rows);
            for (int32_t row = 0; row < batch->rows; row++) {
                assert_true(
                    weir_column_value_equal(&batch->columns[c], row, &batch->columns[c], row));
            }
        }
        *rows += batch->rows;
        weir_batch_unref(batch);
    }
    weir_parquet_reader_close(reader);
    assert_int_equal(weir_pool_used_bytes(pool), 0);
    weir_pool_destroy(pool);
    return rc;
}

static struct sample_file write_sample(enum weir_parquet_codec codec, bool crc) {
    struct weir_error err = {0};
    struct weir_pool *pool = weir_pool_create(POOL_BYTES);
    struct weir_schema *schema = sample_schema(true);
    struct sample sample = {.seed = 21, .null_percent = 15};
    struct weir_batch *batch = sample_batch(pool, schema, &sample, 60);
    struct weir_parquet_writer_options options;
    weir_parquet_writer_options_init(&options);
    options.codec = codec;
    options.page_crc = crc;
    options.page_index = !crc; /* has no checksums */
    options.page_rows = 25;
    struct weir_parquet_writer *writer = NULL;
    struct sample_file file = {.fail_after = -1};
    int rc = weir_parquet_writer_create(&writer, schema, &options, &err);
    rc = rc != 0 ? rc : weir_parquet_writer_open(writer, sample_write, &file, &err);
    rc = rc != 0 ? rc : weir_parquet_writer_append(writer, batch, NULL, batch->rows, &err);
    rc = rc != 0 ? rc : weir_parquet_writer_finish(writer, NULL, &err);
    assert_int_equal(rc, 0);
    weir_parquet_writer_destroy(writer);
    weir_batch_unref(batch);
    weir_schema_unref(schema);
    weir_pool_destroy(pool);
    return file;
}

static void every_cut_is_refused(void **state) {
    (void)state;
    struct sample_file file = write_sample(WEIR_PARQUET_SNAPPY, false);
    for (size_t size = 0; size < file.size; size += 1 + size / 97) {
        struct weir_error err = {0};
        int64_t rows;
        uint8_t *cut = malloc(size + 1); /* exact, so that sanitizers see every overrun */
        memcpy(cut, file.bytes, size);
        assert_int_equal(read_all(cut, size, READER_BYTES, &rows, &err), WEIR_E_CORRUPT);
        assert_true(err.message[0] != 0);
        free(cut);
    }
    free(file.bytes);
}

static void flipped_bytes_are_refused_or_harmless(void **state) {
    (void)state;
    uint64_t seed = 99;
    struct sample_file file = write_sample(WEIR_PARQUET_NONE, false);
    int refused = 0;
    for (int i = 0; i < 3000; i++) {
        size_t at = sample_random(&seed) % file.size;
        uint8_t before = file.bytes[at];
        file.bytes[at] ^= (uint8_t)(1u << (sample_random(&seed) & 7));
        struct weir_error err = {0};
        int64_t rows;
        int rc = read_all(file.bytes, file.size, READER_BYTES, &rows, &err);
        if (rc != WEIR_OK) {
            refused++;
            assert_true(rc == WEIR_E_CORRUPT || rc == WEIR_E_UNSUPPORTED || rc == WEIR_E_LIMIT);
            assert_true(err.message[0] != 0);
        }
        file.bytes[at] = before;
    }
    assert_true(refused > 100);
    free(file.bytes);
}

static void a_checksum_finds_any_flip_in_a_page(void **state) {
    (void)state;
    struct sample_file file = write_sample(WEIR_PARQUET_NONE, true);
    struct weir_error err = {0};
    int64_t rows;
    assert_int_equal(read_all(file.bytes, file.size, READER_BYTES, &rows, &err), 0);
    assert_int_equal(rows, 60);
    uint32_t footer;
    memcpy(&footer, file.bytes + file.size - 8, sizeof(footer));
    size_t data_end = file.size - 8 - footer;
    int found = 0;
    int tried = 0;
    for (size_t at = 4; at < data_end; at += 7, tried++) {
        file.bytes[at] ^= 1;
        int rc = read_all(file.bytes, file.size, READER_BYTES, &rows, &err);
        found += rc != WEIR_OK;
        file.bytes[at] ^= 1;
    }
    /* the rest are header fields that change nothing that is read, such as an unused encoding */
    assert_true(found > tried / 20 * 19);
    free(file.bytes);
}

static void other_files_are_refused_by_name(void **state) {
    (void)state;
    struct weir_error err = {0};
    int64_t rows;
    static const char text[] = "this is a text file, longer than a footer";
    assert_int_equal(read_all(text, sizeof(text), READER_BYTES, &rows, &err), WEIR_E_CORRUPT);
    assert_non_null(strstr(err.message, "not a Parquet file"));
    static const char sealed[] = "PARE\1\0\0\0\0\0\0\0\4\0\0\0PARE";
    assert_int_equal(read_all(sealed, sizeof(sealed) - 1, READER_BYTES, &rows, &err),
                     WEIR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "encrypted"));
    static const char lying[] = "PAR1\1\0\0\0\0\0\0\0\xff\xff\xff\x7fPAR1";
    assert_int_equal(read_all(lying, sizeof(lying) - 1, READER_BYTES, &rows, &err), WEIR_E_CORRUPT);
    assert_non_null(strstr(err.message, "footer"));
}

static void the_memory_limit_holds(void **state) {
    (void)state;
    struct sample_file file = write_sample(WEIR_PARQUET_ZSTD, false);
    struct weir_error err = {0};
    int64_t rows;
    assert_int_equal(read_all(file.bytes, file.size, 4096, &rows, &err), WEIR_E_LIMIT);
    assert_non_null(strstr(err.message, "memory limit"));
    free(file.bytes);
}

static void misuse_is_reported(void **state) {
    (void)state;
    struct sample_file file = write_sample(WEIR_PARQUET_ZSTD, false);
    struct weir_error err = {0};
    struct weir_pool *pool = weir_pool_create(POOL_BYTES);
    struct weir_parquet_reader_options options = {.pool = pool};
    struct weir_parquet_reader *reader = NULL;
    struct weir_batch *batch = NULL;
    assert_int_equal(
        weir_parquet_reader_open_memory(&reader, file.bytes, file.size, &options, &err), 0);
    int32_t twice[] = {3, 3};
    int32_t beyond = 1000;
    assert_int_equal(weir_parquet_reader_select(reader, twice, 2, &err), WEIR_E_BUG);
    assert_int_equal(weir_parquet_reader_next(reader, &batch, &err), WEIR_E_BUG);
    assert_int_equal(weir_parquet_reader_select(reader, &beyond, 1, &err), WEIR_E_BUG);
    assert_int_equal(weir_parquet_reader_seek(reader, 7, &err), WEIR_E_BUG);
    int32_t order[] = {5, 2}; /* any order */
    assert_int_equal(weir_parquet_reader_select(reader, order, 2, &err), 0);
    assert_string_equal(weir_parquet_reader_batch_schema(reader)->fields[0].name, "f32");
    for (int again = 0; again < 2; again++) {
        assert_int_equal(weir_parquet_reader_seek(reader, 0, &err), 0);
        assert_int_equal(weir_parquet_reader_next(reader, &batch, &err), 0);
        assert_int_equal(batch->rows, weir_parquet_reader_row_group_rows(reader, 0));
        weir_batch_unref(batch);
    }
    assert_int_equal(weir_parquet_reader_row_groups(reader), 1);
    assert_non_null(strstr(weir_parquet_reader_created_by(reader), "weir"));
    weir_parquet_reader_close(reader);
    weir_pool_destroy(pool);
    free(file.bytes);
}

/* --- parquet-testing ------------------------------------------------------------------------ */

static struct sample_file load(const char *path) {
    struct sample_file file = {.fail_after = -1};
    struct weir_error err = {0};
    char block[65536];
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    for (size_t n; (n = fread(block, 1, sizeof(block), in)) > 0;) {
        assert_int_equal(sample_write(&file, block, n, &err), 0);
    }
    fclose(in);
    return file;
}

/* Reads every file of a folder; returns how many were read and how many refused. */
static bool sweep(const char *folder, int *read, int *refused) {
    char path[4096];
    const char *base = getenv("WEIR_CONFORMANCE");
    snprintf(path, sizeof(path), "%s/parquet-testing/%s",
             base != NULL ? base : WEIR_SOURCE_DIR "/../shared/conformance", folder);
    size_t length = strlen(path);
    DIR *directory = opendir(path);
    if (directory == NULL) {
        print_message("SKIPPED: no %s\n", path);
        return false;
    }
    *read = 0;
    *refused = 0;
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (strstr(entry->d_name, ".parquet") == NULL) {
            continue;
        }
        snprintf(path + length, sizeof(path) - length, "/%s", entry->d_name);
        struct sample_file file = load(path);
        struct weir_error err = {0};
        int64_t rows;
        int rc = read_all(file.bytes, file.size, 0, &rows, &err);
        assert_true(rc == WEIR_OK || rc == WEIR_E_CORRUPT || rc == WEIR_E_UNSUPPORTED ||
                    rc == WEIR_E_LIMIT);
        *read += rc == WEIR_OK;
        *refused += rc != WEIR_OK;
        free(file.bytes);
    }
    closedir(directory);
    return true;
}

static void foreign_files_are_read(void **state) {
    (void)state;
    int read;
    int refused;
    if (!sweep("data", &read, &refused)) {
        skip();
    }
    /* refused: one value of 2 GiB, two wrong checksums, seven encrypted */
    assert_true(read >= 60);
    assert_true(refused <= 12);
}

static void damaged_foreign_files_are_refused(void **state) {
    (void)state;
    int read;
    int refused;
    if (!sweep("bad_data", &read, &refused)) {
        skip();
    }
    assert_true(read <= 1); /* one is only odd: indices of no bits */
    assert_true(refused >= 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(flipped_bytes_are_refused_or_harmless),
        cmocka_unit_test(a_checksum_finds_any_flip_in_a_page),
        cmocka_unit_test(other_files_are_refused_by_name),
        cmocka_unit_test(the_memory_limit_holds),
        cmocka_unit_test(misuse_is_reported),
        cmocka_unit_test(foreign_files_are_read),
        cmocka_unit_test(damaged_foreign_files_are_refused),
    };
    return cmocka_run_group_tests_name("parquet_reader", tests, NULL, NULL);
}
