/* Rows left out by bounds are rows that do not match; those that come are the file's, each at its
 * place. Checked against looking at every row, for every operator and kind of bound, with and
 * without a page index, for flat and nested columns.
 * For the integration tests: `--write FILE` writes the file that is read here, `--read FILE COLUMN
 * eq|lt|le|gt|ge LITERAL` prints the places of the rows that come of somebody else's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "parquet_sample.h"

enum { ROWS = 5000, GROUP_ROWS = 1000, PAGE_ROWS = 100, COLUMNS = 8, NULLS_FROM = 3000 };

static const char *const columns[COLUMNS][2] = {
    {"id", "int64"}, {"name", "string"}, {"price", "double"}, {"cost", "decimal(12,2)"},
    {"day", "date"}, {"flag", "bool"},   {"odd", "int32"},    {"tags", "list<int64>"}};

/* What row i holds; -1: null. Values rise with i, so that bounds tell pages apart. */
static int64_t number_at(int column, int64_t i) {
    switch (column) {
    case 5:
        return i >= 2500;
    case 6: /* mixed nulls, and from NULLS_FROM on nothing else */
        return i >= NULLS_FROM || i % 7 == 0 ? -1 : i / 3;
    default:
        return i;
    }
}

static void put_row(struct weir_column_builder *c, int64_t i) {
    char text[32];
    int size = snprintf(text, sizeof(text), "name-%06d", (int)i);
    int rc = weir_builder_int(&c[0], i);
    rc |= weir_builder_bytes(&c[1], text, (size_t)size);
    rc |= weir_builder_double(&c[2], (double)i);
    rc |= weir_builder_decimal(&c[3], (uint64_t)i, 0);
    rc |= weir_builder_int(&c[4], i);
    rc |= weir_builder_bool(&c[5], number_at(5, i) != 0);
    rc |= number_at(6, i) < 0 ? weir_builder_null(&c[6]) : weir_builder_int(&c[6], number_at(6, i));
    for (int64_t j = 0; j < i % 4; j++) {
        rc |= weir_builder_int(&c[7].children[0], i * 10 + j);
    }
    rc |= weir_builder_list(&c[7]);
    assert_int_equal(rc, 0);
}

static struct sample_file make_file(struct weir_pool *pool, bool page_index) {
    static const int32_t sorted_by[] = {5, 0};
    struct sample_file file = {.fail_after = -1};
    struct weir_error err = {0};
    struct weir_schema *schema = weir_schema_create();
    struct weir_batch_builder builder;
    struct weir_parquet_writer_options options;
    struct weir_parquet_writer *writer = NULL;
    for (int i = 0; i < COLUMNS; i++) {
        assert_int_equal(weir_schema_add_text(schema, columns[i][0], columns[i][1], true, NULL), 0);
    }
    weir_parquet_writer_options_init(&options);
    options.row_group_rows = GROUP_ROWS;
    options.page_rows = PAGE_ROWS;
    options.dictionary_bytes = 0;
    options.page_index = page_index;
    options.sorted_by = sorted_by;
    options.sorted_by_count = 2;
    assert_int_equal(weir_batch_builder_init(&builder, pool, schema, 4096, 1 << 20, NULL), 0);
    assert_int_equal(weir_parquet_writer_create(&writer, schema, &options, &err), 0);
    assert_int_equal(weir_parquet_writer_open(writer, sample_write, &file, &err), 0);
    for (int64_t i = 0; i < ROWS;) {
        assert_int_equal(weir_batch_builder_begin(&builder), 0);
        for (int j = 0; j < 4096 && i < ROWS; j++) {
            put_row(builder.columns, i++);
            weir_batch_builder_finish_row(&builder);
        }
        struct weir_batch *batch = weir_batch_builder_take(&builder);
        assert_int_equal(weir_parquet_writer_append(writer, batch, NULL, batch->rows, &err), 0);
        weir_batch_unref(batch);
    }
    assert_int_equal(weir_parquet_writer_finish(writer, NULL, &err), 0);
    weir_parquet_writer_destroy(writer);
    weir_batch_builder_fini(&builder);
    weir_schema_unref(schema);
    return file;
}

static bool matches(int column, enum weir_parquet_op op, int64_t literal, int64_t row) {
    int64_t value = number_at(column, row);
    bool null = column == 6 && value < 0;
    switch (op) {
    case WEIR_PARQUET_EQ:
        return !null && value == literal;
    case WEIR_PARQUET_LT:
        return !null && value < literal;
    case WEIR_PARQUET_LE:
        return !null && value <= literal;
    case WEIR_PARQUET_GT:
        return !null && value > literal;
    case WEIR_PARQUET_GE:
        return !null && value >= literal;
    case WEIR_PARQUET_IS_NULL:
        return null;
    default:
        return !null;
    }
}

struct literal {
    uint8_t bytes[32];
    size_t size;
};

static struct literal literal_of(int column, int64_t number) {
    struct literal literal = {.size = 8};
    double real = (double)number;
    __int128 wide = number;
    switch (column) {
    case 1:
        literal.size = (size_t)snprintf((char *)literal.bytes, sizeof(literal.bytes), "name-%06d",
                                        (int)number);
        return literal;
    case 2:
        memcpy(literal.bytes, &real, sizeof(real));
        return literal;
    case 3:
        literal.size = 16;
        memcpy(literal.bytes, &wide, sizeof(wide));
        return literal;
    case 4:
    case 6:
        literal.size = 4;
        break;
    case 5:
        literal.size = 1;
        break;
    default:
        break;
    }
    memcpy(literal.bytes, &number, sizeof(number));
    return literal;
}

static void check_row(const struct weir_batch *batch, int32_t row, int64_t at) {
    int32_t size;
    char text[32];
    const struct weir_column *tags = &batch->columns[7];
    snprintf(text, sizeof(text), "name-%06d", (int)at);
    assert_int_equal(((const int64_t *)batch->columns[0].values)[row], at);
    assert_memory_equal(weir_column_bytes(&batch->columns[1], row, &size), text, 11);
    assert_int_equal(weir_column_is_null(&batch->columns[6], row), number_at(6, at) < 0);
    if (number_at(6, at) >= 0) {
        assert_int_equal(((const int32_t *)batch->columns[6].values)[row], number_at(6, at));
    }
    assert_int_equal(tags->offsets[row + 1] - tags->offsets[row], at % 4);
    if (at % 4 > 0) {
        assert_int_equal(((const int64_t *)tags->children[0].values)[tags->offsets[row]], at * 10);
    }
}

/* Reads with the predicates; rows that came. */
static int64_t read_pruned(struct weir_parquet_reader *reader,
                           const struct weir_parquet_predicate *predicates, int count, bool *seen) {
    struct weir_error err = {0};
    int64_t rows = 0;
    memset(seen, 0, ROWS * sizeof(*seen));
    assert_int_equal(weir_parquet_reader_prune(reader, predicates, count, &err), 0);
    for (;;) {
        struct weir_batch *batch = NULL;
        if (weir_parquet_reader_next(reader, &batch, &err) != WEIR_OK) {
            fail_msg("%s", err.message);
        }
        if (batch == NULL) {
            return rows;
        }
        int64_t start = weir_parquet_reader_batch_start(reader);
        for (int32_t i = 0; i < batch->rows; i++) {
            assert_false(seen[start + i]);
            seen[start + i] = true;
            check_row(batch, i, start + i);
        }
        rows += batch->rows;
        weir_batch_unref(batch);
    }
}

static void check_predicates(struct weir_parquet_reader *reader, bool page_index) {
    static const int64_t literals[] = {-5, 0, 1, 99, 100, 101, 999, 1000, 2499, 2500, 4999, 5000};
    static bool seen[ROWS];
    int64_t slack = page_index ? 2 * PAGE_ROWS : 2 * GROUP_ROWS;
    for (int column = 0; column < COLUMNS - 1; column++) {
        for (int op = 0; op <= WEIR_PARQUET_NOT_NULL; op++) {
            for (size_t i = 0; i < sizeof(literals) / sizeof(literals[0]); i++) {
                if (column == 5 && (literals[i] < 0 || literals[i] > 1)) {
                    continue;
                }
                if (column == 1 && literals[i] < 0) {
                    continue;
                }
                struct literal literal = literal_of(column, literals[i]);
                struct weir_parquet_predicate predicate = {column, (enum weir_parquet_op)op,
                                                           literal.bytes, literal.size};
                int64_t rows = read_pruned(reader, &predicate, 1, seen);
                int64_t wanted = 0;
                for (int64_t row = 0; row < ROWS; row++) {
                    bool match = matches(column, predicate.op, literals[i], row);
                    wanted += match;
                    assert_true(seen[row] || !match);
                }
                bool in_order = column < 5 && op < WEIR_PARQUET_IS_NULL;
                bool real = column == 2 && (op == WEIR_PARQUET_GT || op == WEIR_PARQUET_GE);
                if (in_order && !real) { /* doubles may hide NaN above their bound */
                    assert_true(rows <= wanted + slack);
                }
            }
        }
    }
}

static void only_rows_that_cannot_match_are_left_out(void **state) {
    (void)state;
    struct weir_pool *pool = weir_pool_create(256 << 20);
    for (int page_index = 0; page_index < 2; page_index++) {
        struct sample_file file = make_file(pool, page_index != 0);
        for (int through = 0; through < 2; through++) {
            struct weir_parquet_reader_options options = {.pool = pool,
                                                          .batch_rows = through ? 64 : 0};
            struct weir_parquet_reader *reader = NULL;
            struct weir_error err = {0};
            int rc = through ? weir_parquet_reader_open(&reader, sample_read, &file, file.size,
                                                        &options, &err)
                             : weir_parquet_reader_open_memory(&reader, file.bytes, file.size,
                                                               &options, &err);
            assert_int_equal(rc, WEIR_OK);
            check_predicates(reader, page_index != 0);
            weir_parquet_reader_close(reader);
        }
        free(file.bytes);
    }
    weir_pool_destroy(pool);
}

static void predicates_narrow_each_other_and_can_be_taken_back(void **state) {
    (void)state;
    static bool seen[ROWS];
    struct weir_pool *pool = weir_pool_create(256 << 20);
    struct sample_file file = make_file(pool, true);
    struct weir_parquet_reader_options options = {.pool = pool};
    struct weir_parquet_reader *reader = NULL;
    struct weir_error err = {0};
    assert_int_equal(
        weir_parquet_reader_open_memory(&reader, file.bytes, file.size, &options, &err), 0);
    struct literal low = literal_of(0, 1450);
    struct literal high = literal_of(1, 1620);
    struct weir_parquet_predicate both[] = {{0, WEIR_PARQUET_GE, low.bytes, low.size},
                                            {1, WEIR_PARQUET_LT, high.bytes, high.size}};
    int64_t rows = read_pruned(reader, both, 2, seen);
    assert_true(rows >= 170 && rows <= 300);
    struct literal never = literal_of(0, 70);
    struct weir_parquet_predicate none[] = {both[0], {0, WEIR_PARQUET_LT, never.bytes, never.size}};
    assert_int_equal(read_pruned(reader, none, 2, seen), 0);
    assert_int_equal(read_pruned(reader, NULL, 0, seen), ROWS);
    /* a column in a list rules nothing out; a literal of the wrong size is a mistake */
    struct weir_parquet_predicate nested = {7, WEIR_PARQUET_EQ, low.bytes, low.size};
    assert_int_equal(read_pruned(reader, &nested, 1, seen), ROWS);
    struct weir_parquet_predicate wrong = {0, WEIR_PARQUET_EQ, low.bytes, 4};
    assert_int_equal(weir_parquet_reader_prune(reader, &wrong, 1, &err), WEIR_E_BUG);
    weir_parquet_reader_close(reader);
    free(file.bytes);
    weir_pool_destroy(pool);
}

static int write_file(const char *path) {
    struct weir_pool *pool = weir_pool_create(256 << 20);
    struct sample_file file = make_file(pool, true);
    FILE *to = fopen(path, "wb");
    bool good = to != NULL && fwrite(file.bytes, 1, file.size, to) == file.size;
    good = to != NULL && fclose(to) == 0 && good;
    free(file.bytes);
    weir_pool_destroy(pool);
    return good ? 0 : 1;
}

static struct weir_parquet_predicate parse_predicate(const struct weir_parquet_reader *reader,
                                                     char **words, struct literal *literal) {
    static const char *const ops[] = {"eq", "lt", "le", "gt", "ge"};
    struct weir_parquet_predicate predicate = {.column = atoi(words[0])};
    const struct weir_schema *schema = weir_parquet_reader_schema(reader);
    int64_t number = atoll(words[2]);
    double real = atof(words[2]);
    while (strcmp(ops[predicate.op], words[1]) != 0) {
        predicate.op++;
    }
    literal->size = 8;
    if (weir_type_is_bytes(schema->fields[predicate.column].type)) {
        literal->size =
            (size_t)snprintf((char *)literal->bytes, sizeof(literal->bytes), "%s", words[2]);
    } else if (schema->fields[predicate.column].type == WEIR_TYPE_DOUBLE) {
        memcpy(literal->bytes, &real, sizeof(real));
    } else {
        memcpy(literal->bytes, &number, sizeof(number));
    }
    predicate.value = literal->bytes;
    predicate.size = literal->size;
    return predicate;
}

static int read_foreign(const char *path, char **words) {
    struct sample_file file = {.fail_after = -1};
    struct weir_error err = {0};
    char block[65536];
    FILE *in = fopen(path, "rb");
    for (size_t n; in != NULL && (n = fread(block, 1, sizeof(block), in)) > 0;) {
        assert_int_equal(sample_write(&file, block, n, &err), 0);
    }
    assert_non_null(in);
    fclose(in);
    struct weir_pool *pool = weir_pool_create(256 << 20);
    struct weir_parquet_reader_options options = {.pool = pool, .batch_rows = 100};
    struct weir_parquet_reader *reader = NULL;
    struct literal literal = {.size = 0};
    int rc = weir_parquet_reader_open(&reader, sample_read, &file, file.size, &options, &err);
    if (rc == WEIR_OK) {
        struct weir_parquet_predicate predicate = parse_predicate(reader, words, &literal);
        rc = weir_parquet_reader_prune(reader, &predicate, 1, &err);
    }
    for (struct weir_batch *batch = NULL; rc == WEIR_OK;) {
        rc = weir_parquet_reader_next(reader, &batch, &err);
        if (rc != WEIR_OK || batch == NULL) {
            break;
        }
        for (int32_t i = 0; i < batch->rows; i++) { /* the first column numbers the rows */
            int64_t row = weir_parquet_reader_batch_start(reader) + i;
            assert_int_equal(((const int64_t *)batch->columns[0].values)[i], row);
            printf("%lld\n", (long long)row);
        }
        weir_batch_unref(batch);
    }
    fprintf(stderr, "%s", rc == WEIR_OK ? "" : err.message);
    weir_parquet_reader_close(reader);
    weir_pool_destroy(pool);
    free(file.bytes);
    return rc != WEIR_OK;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--write") == 0) {
        return write_file(argv[2]);
    }
    if (argc == 6 && strcmp(argv[1], "--read") == 0) {
        return read_foreign(argv[2], argv + 3);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_rows_that_cannot_match_are_left_out),
        cmocka_unit_test(predicates_narrow_each_other_and_can_be_taken_back),
    };
    return cmocka_run_group_tests_name("parquet_prune", tests, NULL, NULL);
}
