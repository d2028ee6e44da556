/* One C -> Lua call per declaration and batch. The loop fills a weir_call, the generated Lua loop
 * walks sel[begin..end). All pointers are borrowed for the duration of the call. */

struct weir_out;                 /* growing output column; opaque, see weir_out_* */
struct weir_rule_run;            /* of a rule (rule.h) */
struct weir_nested;              /* a column of list, struct or map values being built; opaque */

struct weir_call {
    struct weir_column *in;      /* input columns in schema order, NaN-canonical where Lua may load them */
    struct weir_column *out;     /* map: output columns, fixed-width values preallocated for `rows` rows, all null */
    struct weir_out **out_var;   /* map: one per output column; non-NULL for string, binary, list, struct, map */
    const int32_t *sel;          /* selected row numbers, ascending */
    int32_t begin;               /* first position in sel to evaluate */
    int32_t end;                 /* one past the last */
    int32_t cursor;              /* written by the loop before each row: position being evaluated, so that C can blame it */
    int32_t rows;                /* rows in the batch */
    uint8_t *verdict;            /* predicate: verdict[position] = 1 pass, 0 violation, 2 nil, 3 not a boolean */
    uint8_t **assigned;          /* map: assigned[column][row] = 1 once the row function assigned it */
    int32_t copied;              /* map: C fills the columns of the plan's `copies`; the loop leaves them alone */
    int32_t reserved;
    struct weir_rule_run *rule;  /* rule: what its loop asks for items (rule.h) */
    uint8_t **into;              /* merge: states, by position: a byte a field, 1 when it is not null, padded to 8; then the fields, */
    uint8_t **from;              /* 8 bytes an integer (bool, date, times too) or double, 16 a decimal. `from` is only read; migrate: i64 version, the layout's text, an image as a rule's */
};

/* Append to a variable-width output column for row `row`. Rows come in ascending order; a second
 * assignment to the same row replaces the first. Return 0, or an error code when the cap is hit. */
int weir_out_set_bytes(struct weir_out *out, int32_t row, const char *bytes, int64_t length);
int weir_out_set_null(struct weir_out *out, int32_t row);

/* The value of row `row` of a list, struct or map column is built part by part, innermost first:
 * values go to the children, then the list, struct or map is ended. NULL when the cap is hit. */
struct weir_nested *weir_out_nested(struct weir_out *out, int32_t row);
struct weir_nested *weir_nested_child(struct weir_nested *node, int32_t child); /* list: 0; struct: its fields; map: key, value */
/* Append one value; 0, or an error code: the cap is hit, or a text is not UTF-8. The caller knows the type and has
 * checked the range. */
int weir_nested_null(struct weir_nested *node);
int weir_nested_int(struct weir_nested *node, int64_t value); /* int8..64, date, timestamps */
int weir_nested_double(struct weir_nested *node, double value); /* float too */
int weir_nested_bool(struct weir_nested *node, int32_t value);
int weir_nested_decimal(struct weir_nested *node, int64_t lo, int64_t hi);
int weir_nested_bytes(struct weir_nested *node, const char *bytes, int64_t length);
int weir_nested_end(struct weir_nested *node); /* a list or map of what its children got since the last, or a struct of their last values */
