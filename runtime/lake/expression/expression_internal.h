#pragma once
/* The tree of an expression, between its parser, its binder and its evaluator. */
#include "core/buffer.h"
#include "lake/expression/expression.h"

enum delta_op {
    OP_LITERAL,
    OP_COLUMN,
    OP_OR,
    OP_AND,
    OP_NOT,
    OP_EQ,
    OP_SAFE_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IS_NULL,
    OP_IS_TRUE,
    OP_IS_FALSE,
    OP_IN, /* args[0] in the others */
    OP_LIKE,
    OP_ADD,
    OP_SUBTRACT,
    OP_MULTIPLY,
    OP_DIVIDE,
    OP_MODULO,
    OP_DIV,
    OP_CONCAT,
    OP_NEGATE,
    OP_CAST, /* to the node's own type */
    OP_CASE, /* when, then, …, else */
    OP_CALL,
};

enum delta_function {
    FN_YEAR,
    FN_QUARTER,
    FN_MONTH,
    FN_DAY,
    FN_DAY_OF_YEAR,
    FN_DAY_OF_WEEK,
    FN_WEEKDAY,
    FN_WEEK_OF_YEAR,
    FN_HOUR,
    FN_MINUTE,
    FN_SECOND,
    FN_DATE,
    FN_DATE_TRUNC,
    FN_TRUNC,
    FN_DATE_FORMAT,
    FN_DATE_ADD,
    FN_DATE_SUB,
    FN_DATE_DIFF,
    FN_LAST_DAY,
    FN_TIMESTAMP_SECONDS,
    FN_TIMESTAMP_MILLIS,
    FN_TIMESTAMP_MICROS,
    FN_NOW,
    FN_TODAY,
    FN_LENGTH,
    FN_UPPER,
    FN_LOWER,
    FN_TRIM,
    FN_SUBSTRING,
    FN_STARTS_WITH,
    FN_ENDS_WITH,
    FN_CONTAINS,
    FN_CONCAT,
    FN_COALESCE,
    FN_IF,
    FN_ABS,
};

struct delta_function_form {
    const char *name;
    uint8_t function;
    int8_t least; /* arguments */
    int8_t most;
};
/* Compared without case; NULL: not known. */
const struct delta_function_form *delta_function_find(const char *name);

enum {
    DELTA_PATH_MAX = 8,
    DELTA_NODES_MAX = 4000,
    DELTA_DEPTH_MAX = 64,
    DELTA_EXPRESSION_BYTES_MAX = 64 << 10,
    DELTA_TEXTS_BYTES = 1 << 20 /* made for one row */
};

struct delta_node {
    uint8_t op;
    uint8_t function;
    uint8_t kind; /* enum delta_kind, set by the binder; casts: by the parser */
    uint8_t bits; /* integers: 8 to 64; reals: 32 or 64 */
    uint8_t precision;
    int8_t scale;
    uint8_t unit; /* of date_trunc and trunc, set by the binder */
    bool bound;
    struct delta_node **args; /* in the expression's list, as the node itself */
    int32_t arg_count;
    struct delta_value value;     /* of literals */
    char *text;                   /* of literals and, unbound, columns' first name; owned */
    char *names[DELTA_PATH_MAX];  /* of columns; owned */
    int32_t path[DELTA_PATH_MAX]; /* of columns: index in the schema, then of children */
    int32_t path_length;
    struct delta_node *next; /* of all nodes */
};

struct delta_expression {
    struct delta_node *root;
    struct delta_node *nodes;
    int32_t node_count;
    uint8_t field_type;
    struct weir_buffer scratch; /* of the text being made */
    char *texts;                /* made while evaluating a row; never moves */
    size_t texts_used;
    int64_t now_us;
    const char *failure;
};

struct delta_node *delta_node_new(struct delta_expression *expression, enum delta_op op,
                                  int32_t arg_count);
int delta_expression_parse(struct delta_expression *expression, const char *text, const char *what,
                           struct weir_error *err) WEIR_MUST_CHECK;
int delta_expression_bind(struct delta_expression *expression, const struct weir_schema *schema,
                          const char *what, struct weir_error *err) WEIR_MUST_CHECK;
/* The node itself when it is of that type already; NULL when there is no such cast. */
struct delta_node *delta_node_cast(struct delta_expression *expression, struct delta_node *node,
                                   const struct delta_node *type);
/* The type a column of this type has in expressions; false: none. */
bool delta_node_type(struct delta_node *node, uint8_t type, uint8_t precision, int8_t scale);
/* expression_cast.c. Casts a value that is not null to the node's type. */
bool delta_cast_value(struct delta_expression *expression, const struct delta_node *node,
                      struct delta_value *out);
bool delta_in_bits(int64_t value, int bits);
bool delta_in_digits(__int128 value, int precision);
/* Copies a text that was made, for as long as the row is evaluated. */
bool delta_keep_text(struct delta_expression *expression, const void *bytes, size_t size,
                     struct delta_value *out);
/* expression_time.c: false, with the failure set, when there is no value. */
bool delta_call_time(struct delta_expression *expression, const struct delta_node *node,
                     const struct delta_value *args, struct delta_value *out);
/* Texts of a cast to string, appended to the scratch; kinds of times alone. */
int delta_text_of_time(struct weir_buffer *out, enum delta_kind kind,
                       int64_t value) WEIR_MUST_CHECK;
/* The date_format patterns and units this version knows; checked when they are bound. */
bool delta_date_pattern_known(const char *pattern);
bool delta_date_unit(const char *name, bool of_date, uint8_t *unit);
