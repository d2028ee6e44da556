/* What the writer writes the reader reads, for every type, codec, encoding path and page shape.
 * For the integration tests' other readers: `--samples DIR` writes files of the same kinds, each
 * beside its rows as JSON lines taken from the batches; `--dump FILE` prints what our reader reads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "lake/parquet/dictionary.h"
#include "parquet_print.h"
#include "parquet_sample.h"

enum { POOL_BYTES = 1 << 30, BATCHES_MAX = 64 };

struct round {
    struct weir_schema *schema;
    struct weir_parquet_writer_options options;
    struct sample sample;
    int32_t batches;
    int32_t rows; /* per batch */
    bool select;  /* keep two of three rows, by selection */
    bool through_callback;
    int32_t read_rows;
};

static int32_t make_selection(int32_t *sel, int32_t rows) {
    int32_t count = 0;
    for (int32_t i = 0; i < rows; i++) {
        if (i % 3 != 1) {
            sel[count++] = i;
        }
    }
    return count;
}

static void write_round(struct weir_parquet_writer *writer, struct sample_file *file,
                        struct weir_batch **batches, const struct round *round,
                        struct weir_parquet_file_info *info) {
    struct weir_error err = {0};
    int32_t sel[WEIR_BATCH_ROWS_MAX];
    if (weir_parquet_writer_open(writer, sample_write, file, &err) != 0) {
        fail_msg("open: %s", err.message);
    }
    for (int32_t i = 0; i < round->batches; i++) {
        int32_t count = round->select ? make_selection(sel, batches[i]->rows) : batches[i]->rows;
        if (weir_parquet_writer_append(writer, batches[i], round->select ? sel : NULL, count,
                                       &err) != 0) {
            fail_msg("append: %s", err.message);
        }
    }
    if (weir_parquet_writer_finish(writer, info, &err) != 0) {
        fail_msg("finish: %s", err.message);
    }
}

static void check_round(struct weir_pool *pool, const struct sample_file *file,
                        struct weir_batch **batches, const struct round *round) {
    struct weir_error err = {0};
    struct weir_parquet_reader_options options = {.pool = pool, .batch_rows = round->read_rows};
    struct weir_parquet_reader *reader = NULL;
    struct sample_file copy = *file;
    int rc =
        round->through_callback
            ? weir_parquet_reader_open(&reader, sample_read, &copy, file->size, &options, &err)
            : weir_parquet_reader_open_memory(&reader, file->bytes, file->size, &options, &err);
    if (rc != 0) {
        fail_msg("open: %s", err.message);
    }
    struct weir_schema *schema = weir_parquet_reader_schema(reader);
    assert_int_equal(schema->count, round->schema->count);
    int32_t sel[WEIR_BATCH_ROWS_MAX];
    int32_t from = 0;
    int32_t at = 0;
    int64_t rows = 0;
    for (;;) {
        struct weir_batch *batch = NULL;
        if (weir_parquet_reader_next(reader, &batch, &err) != 0) {
            fail_msg("next: %s", err.message);
        }
        if (batch == NULL) {
            break;
        }
        for (int32_t row = 0; row < batch->rows; row++, at++, rows++) {
            int32_t count = batches[from]->rows;
            count = round->select ? make_selection(sel, count) : count;
            while (at == count) {
                at = 0;
                from++;
                assert_true(from < round->batches);
                count = batches[from]->rows;
                count = round->select ? make_selection(sel, count) : count;
            }
            int32_t origin = round->select ? sel[at] : at;
            for (int32_t c = 0; c < schema->count; c++) {
                if (!weir_column_value_equal(&batches[from]->columns[c], origin, &batch->columns[c],
                                             row)) {
                    fail_msg("column %s, row %lld differs", schema->fields[c].name,
                             (long long)rows);
                }
            }
        }
        weir_batch_unref(batch);
    }
    assert_int_equal(rows, weir_parquet_reader_rows(reader));
    weir_parquet_reader_close(reader);
}

static void run_round(struct round *round) {
    struct weir_error err = {0};
    struct weir_pool *pool = weir_pool_create(POOL_BYTES);
    struct weir_batch *batches[BATCHES_MAX];
    int64_t rows = 0;
    int32_t sel[WEIR_BATCH_ROWS_MAX];
    for (int32_t i = 0; i < round->batches; i++) {
        batches[i] = sample_batch(pool, round->schema, &round->sample, round->rows);
        assert_non_null(batches[i]);
        rows += round->select ? make_selection(sel, round->rows) : round->rows;
    }
    struct weir_parquet_writer *writer = NULL;
    if (weir_parquet_writer_create(&writer, round->schema, &round->options, &err) != 0) {
        fail_msg("create: %s", err.message);
    }
    for (int again = 0; again < 2; again++) { /* the writer is reused file after file */
        struct sample_file file = {.fail_after = -1};
        struct weir_parquet_file_info info;
        write_round(writer, &file, batches, round, &info);
        assert_int_equal(info.rows, rows);
        assert_int_equal(info.bytes, file.size);
        check_round(pool, &file, batches, round);
        free(file.bytes);
    }
    weir_parquet_writer_destroy(writer);
    for (int32_t i = 0; i < round->batches; i++) {
        weir_batch_unref(batches[i]);
    }
    assert_int_equal(weir_pool_used_bytes(pool), 0);
    weir_pool_destroy(pool);
    weir_schema_unref(round->schema);
}

static struct round make_round(bool nullable) {
    struct round round = {.schema = sample_schema(nullable),
                          .sample = {.seed = 7, .null_percent = 20},
                          .batches = 3,
                          .rows = 700};
    weir_parquet_writer_options_init(&round.options);
    return round;
}

static void every_type_comes_back_with_nulls(void **state) {
    (void)state;
    struct round round = make_round(true);
    run_round(&round);
}

static void every_type_comes_back_when_required(void **state) {
    (void)state;
    struct round round = make_round(false);
    run_round(&round);
}

static void columns_of_nulls_only_come_back(void **state) {
    (void)state;
    struct round round = make_round(true);
    round.sample.shape = SAMPLE_ALL_NULL;
    run_round(&round);
}

static void repeating_and_unique_values_come_back(void **state) {
    (void)state;
    struct round round = make_round(true);
    round.sample.shape = SAMPLE_REPEATING;
    run_round(&round);
    round = make_round(true);
    round.sample.shape = SAMPLE_UNIQUE;
    round.batches = 4;
    round.rows = 2000;
    run_round(&round);
}

static void neighbours_sharing_beginnings_come_back(void **state) {
    (void)state;
    for (int page_rows = 50; page_rows <= 5000; page_rows *= 10) {
        struct round round = make_round(true);
        round.sample.shape = SAMPLE_NEIGHBOURS;
        round.options.page_rows = page_rows;
        round.batches = 6;
        round.rows = 2000;
        run_round(&round);
    }
}

static void a_file_without_rows_comes_back(void **state) {
    (void)state;
    struct round round = make_round(true);
    round.batches = 0;
    run_round(&round);
}

static void selected_rows_come_back(void **state) {
    (void)state;
    struct round round = make_round(true);
    round.select = true;
    run_round(&round);
    round = make_round(false);
    round.select = true;
    run_round(&round);
}

static void many_small_pages_and_row_groups_come_back(void **state) {
    (void)state;
    struct round round = make_round(true);
    round.options.page_rows = 37;
    round.options.row_group_rows = 333;
    round.options.page_crc = true;
    round.read_rows = 100;
    round.through_callback = true;
    run_round(&round);
    round = make_round(true);
    round.sample.shape = SAMPLE_REPEATING;
    round.options.page_rows = 100;
    round.options.page_bytes = 200;
    round.options.memory_bytes = 3000;
    run_round(&round);
}

static void dictionaries_that_overflow_in_the_middle_come_back(void **state) {
    (void)state;
    struct round round = make_round(true);
    round.options.dictionary_values = 12;
    round.options.page_rows = 64;
    run_round(&round);
    round = make_round(false);
    round.sample.shape = SAMPLE_REPEATING;
    round.options.dictionary_bytes = 60;
    round.options.page_rows = 64;
    run_round(&round);
    round = make_round(true);
    round.options.dictionary_bytes = 0;
    run_round(&round);
}

enum { TEXTS = 6000, TEXT_MAX = 40 };

/* Few bytes and many lengths: values that differ in one byte, in their length or in zeros behind
 * them alone. */
static void a_dictionary_tells_texts_of_every_length_apart(void **state) {
    (void)state;
    static uint8_t bytes[TEXTS * TEXT_MAX];
    static int32_t offsets[TEXTS + 1];
    static int32_t backwards[TEXTS];
    static uint32_t codes[TEXTS];
    uint64_t seed = 7;
    for (int32_t i = 0; i < TEXTS; i++) {
        int32_t size = i % (TEXT_MAX + 1);
        for (int32_t j = 0; j < size; j++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            bytes[offsets[i] + j] = (seed >> 60) > 0 ? 0 : 0xff;
        }
        offsets[i + 1] = offsets[i] + size;
        backwards[i] = TEXTS - 1 - i;
    }
    struct parquet_dictionary dictionary;
    parquet_dictionary_init(&dictionary, 0, 1 << 20, 1 << 20);
    assert_int_equal(parquet_dictionary_add_bytes(&dictionary, bytes, offsets, NULL, TEXTS, codes),
                     TEXTS);
    uint32_t known = 0;
    for (int32_t i = 0; i < TEXTS; i++) {
        uint32_t size;
        const uint8_t *value = parquet_dictionary_get(&dictionary, codes[i], &size);
        assert_int_equal(size, offsets[i + 1] - offsets[i]);
        assert_memory_equal(value, bytes + offsets[i], size);
        assert_true(codes[i] <= known); /* codes rise as values come */
        known += codes[i] == known;
        assert_int_equal(parquet_dictionary_add(&dictionary, bytes + offsets[i], size), codes[i]);
    }
    assert_int_equal(dictionary.count, known);
    for (uint32_t a = 0; a < known; a++) { /* and no value has two */
        uint32_t size;
        const uint8_t *value = parquet_dictionary_get(&dictionary, a, &size);
        for (uint32_t b = 0; b < a; b++) {
            uint32_t other;
            const uint8_t *before = parquet_dictionary_get(&dictionary, b, &other);
            assert_false(size == other && memcmp(value, before, size) == 0);
        }
    }
    static uint32_t again[TEXTS];
    assert_int_equal(
        parquet_dictionary_add_bytes(&dictionary, bytes, offsets, backwards, TEXTS, again), TEXTS);
    for (int32_t i = 0; i < TEXTS; i++) {
        assert_int_equal(again[i], codes[TEXTS - 1 - i]);
    }
    assert_int_equal(dictionary.count, known);
    parquet_dictionary_fini(&dictionary);
}

static void every_codec_comes_back(void **state) {
    (void)state;
    static const enum weir_parquet_codec codecs[] = {WEIR_PARQUET_NONE, WEIR_PARQUET_SNAPPY,
                                                     WEIR_PARQUET_GZIP, WEIR_PARQUET_ZSTD,
                                                     WEIR_PARQUET_LZ4_RAW};
    for (size_t i = 0; i < sizeof(codecs) / sizeof(codecs[0]); i++) {
        struct round round = make_round(true);
        round.options.codec = codecs[i];
        round.options.page_rows = 500;
        round.sample.shape = i % 2 ? SAMPLE_UNIQUE : SAMPLE_MIXED; /* unique: stored pages too */
        round.batches = 5;
        run_round(&round);
    }
}

static void the_compat_profile_comes_back(void **state) {
    (void)state;
    struct round round = make_round(true);
    round.options.compat = true;
    round.options.codec = WEIR_PARQUET_SNAPPY;
    round.options.nanos_annotated = true;
    run_round(&round);
    round = make_round(true);
    round.options.compat = true;
    round.sample.shape = SAMPLE_UNIQUE;
    run_round(&round);
}

/* --- judged elsewhere ----------------------------------------------------------------------- */

static int write_sample(const char *directory, const char *name, struct round *round) {
    char path[1024];
    snprintf(path, sizeof(path), "%s/%s.jsonl", directory, name);
    FILE *rows = fopen(path, "wb");
    if (rows == NULL) {
        perror(path);
        return 1;
    }
    snprintf(path, sizeof(path), "%s/%s.parquet", directory, name);
    struct weir_error err = {0};
    struct weir_pool *pool = weir_pool_create(POOL_BYTES);
    struct weir_parquet_writer *writer = NULL;
    struct sample_file file = {.fail_after = -1};
    int rc = weir_parquet_writer_create(&writer, round->schema, &round->options, &err);
    rc = rc != 0 ? rc : weir_parquet_writer_open(writer, sample_write, &file, &err);
    for (int32_t i = 0; i < round->batches && rc == 0; i++) {
        struct weir_batch *batch = sample_batch(pool, round->schema, &round->sample, round->rows);
        rc = weir_parquet_writer_append(writer, batch, NULL, round->rows, &err);
        print_batch(rows, batch);
        weir_batch_unref(batch);
    }
    rc = fclose(rows) != 0 ? 1 : rc;
    rc = rc != 0 ? rc : weir_parquet_writer_finish(writer, NULL, &err);
    FILE *out = fopen(path, "wb");
    if (rc != 0 || out == NULL || fwrite(file.bytes, 1, file.size, out) != file.size) {
        fprintf(stderr, "%s: %s\n", path, err.message);
        rc = 1;
    }
    if (out != NULL && fclose(out) != 0) {
        rc = 1;
    }
    free(file.bytes);
    weir_parquet_writer_destroy(writer);
    weir_pool_destroy(pool);
    weir_schema_unref(round->schema);
    return rc;
}

static int write_samples(const char *directory) {
    int rc = 0;
    for (int i = 0; i < 9 && rc == 0; i++) {
        static const char *const names[] = {"mixed", "required", "repeating", "unique",    "nulls",
                                            "small", "compat",   "empty",     "neighbours"};
        static const enum weir_parquet_codec codecs[] = {
            WEIR_PARQUET_ZSTD,   WEIR_PARQUET_SNAPPY, WEIR_PARQUET_GZIP,
            WEIR_PARQUET_ZSTD,   WEIR_PARQUET_NONE,   WEIR_PARQUET_LZ4_RAW,
            WEIR_PARQUET_SNAPPY, WEIR_PARQUET_ZSTD,   WEIR_PARQUET_ZSTD};
        struct round round = make_round(i != 1);
        round.options.codec = codecs[i];
        round.options.nanos_annotated = true;
        round.options.compat = i == 6;
        round.sample.shape = i == 2   ? SAMPLE_REPEATING
                             : i == 3 ? SAMPLE_UNIQUE
                             : i == 4 ? SAMPLE_ALL_NULL
                             : i == 8 ? SAMPLE_NEIGHBOURS
                                      : SAMPLE_MIXED;
        round.batches = i == 7 ? 0 : i == 3 || i == 8 ? 12 : 3;
        if (i == 5) {
            round.options.page_rows = 37;
            round.options.row_group_rows = 333;
            round.options.dictionary_values = 12;
            round.options.page_crc = true;
        }
        if (i == 3) {
            round.options.page_rows = 1000; /* several pages: stored ones among them */
        }
        rc = write_sample(directory, names[i], &round);
    }
    return rc;
}

/* Exit 0 and rows; 2 and a message for a file that is refused. */
static int dump(const char *path) {
    struct weir_error err = {0};
    struct sample_file file = {.fail_after = -1};
    char block[65536];
    FILE *in = fopen(path, "rb");
    if (in == NULL) {
        perror(path);
        return 1;
    }
    for (size_t n; (n = fread(block, 1, sizeof(block), in)) > 0;) {
        if (sample_write(&file, block, n, &err) != 0) {
            return 1;
        }
    }
    fclose(in);
    struct weir_pool *pool = weir_pool_create(POOL_BYTES);
    struct weir_parquet_reader_options options = {.pool = pool};
    struct weir_parquet_reader *reader = NULL;
    int rc = weir_parquet_reader_open(&reader, sample_read, &file, file.size, &options, &err);
    for (struct weir_batch *batch = NULL; rc == 0;) {
        rc = weir_parquet_reader_next(reader, &batch, &err);
        if (batch == NULL) {
            break;
        }
        print_batch(stdout, batch);
        weir_batch_unref(batch);
    }
    if (rc != 0) {
        fprintf(stderr, "%s: %s\n", weir_error_name(rc), err.message);
    }
    weir_parquet_reader_close(reader);
    weir_pool_destroy(pool);
    free(file.bytes);
    return rc == 0 ? 0 : 2;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--dump") == 0) {
        return dump(argv[2]);
    }
    if (argc == 3 && strcmp(argv[1], "--samples") == 0) {
        return write_samples(argv[2]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_comes_back_with_nulls),
        cmocka_unit_test(every_type_comes_back_when_required),
        cmocka_unit_test(columns_of_nulls_only_come_back),
        cmocka_unit_test(repeating_and_unique_values_come_back),
        cmocka_unit_test(neighbours_sharing_beginnings_come_back),
        cmocka_unit_test(a_file_without_rows_comes_back),
        cmocka_unit_test(selected_rows_come_back),
        cmocka_unit_test(many_small_pages_and_row_groups_come_back),
        cmocka_unit_test(dictionaries_that_overflow_in_the_middle_come_back),
        cmocka_unit_test(a_dictionary_tells_texts_of_every_length_apart),
        cmocka_unit_test(every_codec_comes_back),
        cmocka_unit_test(the_compat_profile_comes_back),
    };
    return cmocka_run_group_tests_name("parquet_roundtrip", tests, NULL, NULL);
}
