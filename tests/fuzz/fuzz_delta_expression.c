/* Expressions of tables others made: whatever text a table's log holds as a constraint is compiled
 * or refused, and what compiles is evaluated, without a crash, a leak or undefined arithmetic.
 *
 * fuzz:
 *   runtime/lake/expression/expression_parse.c
 *   runtime/lake/expression/expression_bind.c
 *   runtime/lake/expression/expression_cast.c
 *   runtime/lake/expression/expression_eval.c
 *   runtime/lake/expression/expression_time.c */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lake/expression/expression.h"

enum { ROWS = 6 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct weir_pool *pool;
static struct weir_schema *schema;
static struct weir_batch *batch;

static int put(struct weir_batch_builder *builder, int row) {
    static const int64_t numbers[ROWS] = {0, 1, -1, INT64_MAX, INT64_MIN, 1790000000000000};
    static const char *const texts[ROWS] = {"", "tea", "2026-11-21", "\xc3\x9c_%", "12.5", "-7"};
    struct weir_column_builder *c = builder->columns;
    int rc = weir_builder_int(&c[0], (int32_t)numbers[row]);
    rc = rc != WEIR_OK ? rc : weir_builder_int(&c[1], numbers[row]);
    rc = rc != WEIR_OK ? rc : weir_builder_double(&c[2], (double)numbers[row] / 3);
    rc = rc != WEIR_OK ? rc
                       : weir_builder_decimal(&c[3], (uint64_t)(numbers[row] % 1000000),
                                              numbers[row] < 0 ? -1 : 0);
    rc = rc != WEIR_OK ? rc : weir_builder_bytes(&c[4], texts[row], strlen(texts[row]));
    rc = rc != WEIR_OK ? rc : weir_builder_bool(&c[5], row % 2 == 0);
    rc = rc != WEIR_OK ? rc : weir_builder_int(&c[6], (int32_t)numbers[row]);
    rc = rc != WEIR_OK ? rc : weir_builder_int(&c[7], numbers[row]);
    return rc;
}

static void make_rows(void) {
    static const char *const columns[][2] = {
        {"a", "int32"},  {"b", "int64"}, {"x", "double"}, {"d", "decimal(10,2)"},
        {"s", "string"}, {"ok", "bool"}, {"day", "date"}, {"sold", "timestamp"}};
    struct weir_batch_builder builder;
    pool = weir_pool_create((size_t)64 << 20);
    schema = weir_schema_create();
    int rc = pool != NULL && schema != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]) && rc == WEIR_OK; i++) {
        rc = weir_schema_add_text(schema, columns[i][0], columns[i][1], true, NULL);
    }
    rc = rc != WEIR_OK ? rc
                       : weir_batch_builder_init(&builder, pool, schema, ROWS + 1, 1 << 20, NULL);
    rc = rc != WEIR_OK ? rc : weir_batch_builder_begin(&builder);
    for (int row = 0; row <= ROWS && rc == WEIR_OK; row++) {
        for (int c = 0; row == ROWS && c < builder.column_count && rc == WEIR_OK; c++) {
            rc = weir_builder_null(&builder.columns[c]);
        }
        rc = rc != WEIR_OK || row == ROWS ? rc : put(&builder, row);
        weir_batch_builder_finish_row(&builder);
    }
    if (rc != WEIR_OK) {
        abort();
    }
    batch = weir_batch_builder_take(&builder);
    weir_batch_builder_fini(&builder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct delta_expression *expression = NULL;
    struct weir_error err;
    if (batch == NULL) {
        make_rows();
    }
    char *text = strndup((const char *)data, size);
    if (text != NULL &&
        delta_expression_compile(text, schema, "fuzz", &expression, &err) == WEIR_OK) {
        for (int32_t row = 0; row <= ROWS; row++) {
            struct delta_value value;
            const char *why =
                delta_expression_evaluate(expression, batch, row, 1790000000000000, &value);
            if (why == NULL && !value.is_null &&
                delta_expression_kind(expression) == DELTA_KIND_STRING && value.text.length < 0) {
                abort();
            }
        }
    }
    delta_expression_destroy(expression);
    free(text);
    return 0;
}
