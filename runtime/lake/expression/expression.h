#pragma once
/* SQL expressions that tables of others carry: check constraints, invariants, generated columns and
 * defaults. A useful subset of Spark's SQL, bound to a schema once and then evaluated row by row
 * over batches of it; what is outside the subset is refused by name when it is compiled, never
 * guessed at. Dates and times are UTC's (Spark: those of the session's time zone).
 *
 * Values follow Spark under ANSI mode: what would be an error there (overflow, division by zero, a
 * text that is no date) is an error of the row here.
 *
 * Grammar, loosest first: OR · AND · NOT · = == <=> <> != < <= > >= IS [NOT] NULL|TRUE|FALSE [NOT]
 * IN BETWEEN LIKE · + - || · * / % DIV · unary - · literals, columns (`a b`.c), CAST, CASE,
 * functions.
 *
 * Threads: one at a time per expression. */
#include "batch/batch.h"
#include "batch/builder.h"
#include "core/error.h"

struct delta_expression;

enum delta_kind {
    DELTA_KIND_NULL,
    DELTA_KIND_BOOL,
    DELTA_KIND_INT,
    DELTA_KIND_DOUBLE,
    DELTA_KIND_DECIMAL,
    DELTA_KIND_STRING,
    DELTA_KIND_DATE,      /* integer: days */
    DELTA_KIND_TIMESTAMP, /* integer: microseconds, UTC */
    DELTA_KIND_NTZ,       /* integer: microseconds, no zone */
};

struct delta_value {
    bool is_null;
    union {
        int64_t integer; /* booleans too */
        double real;
        __int128 decimal; /* unscaled */
        struct {
            const char *bytes;
            int32_t length;
        } text; /* valid until the next evaluation */
    };
};

/* `what` names the place in errors ("check constraint positive", "column day"). WEIR_E_UNSUPPORTED
 * says what is outside the subset; WEIR_E_SCHEMA that a column is not in `schema`. */
int delta_expression_compile(const char *text, const struct weir_schema *schema, const char *what,
                             struct delta_expression **out, struct weir_error *err) WEIR_MUST_CHECK;
void delta_expression_destroy(struct delta_expression *expression);
enum delta_kind delta_expression_kind(const struct delta_expression *expression);
/* As the field's column would hold it: casts the expression to the field's type. WEIR_E_UNSUPPORTED
 * where no such cast is known. */
int delta_expression_cast(struct delta_expression *expression, const struct weir_field *field,
                          const char *what, struct weir_error *err) WEIR_MUST_CHECK;
/* NULL, or why the row has no value. `now_us` is what current_timestamp() is. */
const char *delta_expression_evaluate(struct delta_expression *expression,
                                      const struct weir_batch *batch, int32_t row, int64_t now_us,
                                      struct delta_value *out);
/* Appends a value of an expression that was cast to the builder's field. */
int delta_value_append(const struct delta_expression *expression, const struct delta_value *value,
                       struct weir_column_builder *to) WEIR_MUST_CHECK;
/* A row of a column holds the value of an expression that was cast to its field; nulls equal. */
bool delta_value_equals(const struct delta_expression *expression, const struct delta_value *value,
                        const struct weir_column *column, int32_t row);
