/* Values of expressions, row by row. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/time.h"
#include "lake/delta/text.h"
#include "lake/expression/expression_internal.h"

struct row {
    struct delta_expression *expression;
    const struct weir_batch *batch;
    int32_t row;
};

static bool evaluate(struct row *at, const struct delta_node *node, struct delta_value *out);

static bool failed(struct row *at, const char *why) {
    at->expression->failure = why;
    return false;
}

bool delta_keep_text(struct delta_expression *expression, const void *bytes, size_t size,
                     struct delta_value *out) {
    if (expression->texts == NULL) {
        expression->texts = malloc(DELTA_TEXTS_BYTES);
    }
    if (expression->texts == NULL || size > DELTA_TEXTS_BYTES - expression->texts_used) {
        expression->failure = "a text too long";
        return false;
    }
    char *to = expression->texts + expression->texts_used;
    if (size > 0) {
        memcpy(to, bytes, size);
    }
    expression->texts_used += size;
    out->is_null = false;
    out->text.bytes = to;
    out->text.length = (int32_t)size;
    return true;
}

/* --- columns ------------------------------------------------------------------------------- */

static bool cell_value(const struct weir_column *column, int64_t row, struct delta_value *out) {
    out->is_null = weir_column_is_null(column, row);
    if (out->is_null) {
        return true;
    }
    switch (column->type) {
    case WEIR_TYPE_BOOL:
        out->integer = weir_bit_get(column->values, row);
        return true;
    case WEIR_TYPE_FLOAT:
        out->real = (double)((const float *)column->values)[row];
        return true;
    case WEIR_TYPE_DOUBLE:
        out->real = ((const double *)column->values)[row];
        return true;
    case WEIR_TYPE_DECIMAL:
        memcpy(&out->decimal, (const uint8_t *)column->values + (size_t)row * 16, 16);
        return true;
    case WEIR_TYPE_STRING:
        out->text.bytes = weir_column_bytes(column, row, &out->text.length);
        return true;
    default:
        out->integer = weir_column_int(column, row);
        return true;
    }
}

static bool column_value(struct row *at, const struct delta_node *node, struct delta_value *out) {
    const struct weir_column *column = &at->batch->columns[node->path[0]];
    for (int32_t i = 1; i < node->path_length; i++) {
        if (weir_column_is_null(column, at->row)) {
            break;
        }
        column = &column->children[node->path[i]];
    }
    return cell_value(column, at->row, out);
}

/* --- comparing ----------------------------------------------------------------------------- */

static int compare_real(double a, double b) { /* NaN equals NaN and is the greatest */
    if (isnan(a) || isnan(b)) {
        return isnan(a) - isnan(b);
    }
    return (a > b) - (a < b);
}

static int compare(enum delta_kind kind, const struct delta_value *a, const struct delta_value *b) {
    switch (kind) {
    case DELTA_KIND_DOUBLE:
        return compare_real(a->real, b->real);
    case DELTA_KIND_DECIMAL:
        return (a->decimal > b->decimal) - (a->decimal < b->decimal);
    case DELTA_KIND_STRING: {
        int32_t least = a->text.length < b->text.length ? a->text.length : b->text.length;
        int order = least > 0 ? memcmp(a->text.bytes, b->text.bytes, (size_t)least) : 0;
        return order != 0 ? order
                          : (a->text.length > b->text.length) - (a->text.length < b->text.length);
    }
    default:
        return (a->integer > b->integer) - (a->integer < b->integer);
    }
}

static bool truth(struct delta_value *out, bool value) {
    out->is_null = false;
    out->integer = value;
    return true;
}

static bool comparison(struct row *at, const struct delta_node *node, struct delta_value *out) {
    struct delta_value a;
    struct delta_value b;
    if (!evaluate(at, node->args[0], &a) || !evaluate(at, node->args[1], &b)) {
        return false;
    }
    if (a.is_null || b.is_null) {
        out->is_null = node->op != OP_SAFE_EQ;
        out->integer = a.is_null && b.is_null;
        return true;
    }
    int order = compare(node->args[0]->kind, &a, &b);
    return truth(out, node->op == OP_NE   ? order != 0
                      : node->op == OP_LT ? order < 0
                      : node->op == OP_LE ? order <= 0
                      : node->op == OP_GT ? order > 0
                      : node->op == OP_GE ? order >= 0
                                          : order == 0);
}

static bool in_list(struct row *at, const struct delta_node *node, struct delta_value *out) {
    struct delta_value value;
    struct delta_value other;
    bool unknown = false;
    if (!evaluate(at, node->args[0], &value)) {
        return false;
    }
    for (int32_t i = 1; i < node->arg_count && !value.is_null; i++) {
        if (!evaluate(at, node->args[i], &other)) {
            return false;
        }
        unknown |= other.is_null;
        if (!other.is_null && compare(node->args[0]->kind, &value, &other) == 0) {
            return truth(out, true);
        }
    }
    truth(out, false);
    out->is_null = value.is_null || unknown;
    return true;
}

/* Three-valued: what is false (AND) or true (OR) decides by itself. */
static bool junction(struct row *at, const struct delta_node *node, struct delta_value *out) {
    struct delta_value b;
    bool decides = node->op == OP_OR;
    if (!evaluate(at, node->args[0], out)) {
        return false;
    }
    if (!out->is_null && (out->integer != 0) == decides) {
        return true;
    }
    if (!evaluate(at, node->args[1], &b)) {
        return false;
    }
    if (!b.is_null && (b.integer != 0) == decides) {
        return truth(out, decides);
    }
    out->is_null |= b.is_null;
    return true;
}

static size_t step(const char *at, const char *end) {
    size_t length = delta_text_utf8_length((const unsigned char *)at, (size_t)(end - at));
    return length > 0 ? length : 1;
}

/* LIKE with `\` as escape; goes back to the last % only, so its cost is bounded by the product. */
static bool like(const char *text, const char *text_end, const char *pattern,
                 const char *pattern_end) {
    const char *star = NULL;
    const char *resume = NULL;
    while (text < text_end) {
        bool escaped = pattern < pattern_end && *pattern == '\\' && pattern + 1 < pattern_end;
        const char *literal = escaped ? pattern + 1 : pattern;
        if (!escaped && pattern < pattern_end && *pattern == '%') {
            star = ++pattern;
            resume = text;
        } else if (!escaped && pattern < pattern_end && *pattern == '_') {
            text += step(text, text_end);
            pattern++;
        } else if (pattern < pattern_end && *literal == *text) {
            text++;
            pattern = literal + 1;
        } else if (star != NULL) {
            resume += step(resume, text_end);
            text = resume;
            pattern = star;
        } else {
            return false;
        }
    }
    while (pattern < pattern_end && *pattern == '%') {
        pattern++;
    }
    return pattern == pattern_end;
}

/* --- arithmetic ---------------------------------------------------------------------------- */

static bool integers(struct row *at, const struct delta_node *node, int64_t a, int64_t b,
                     struct delta_value *out) {
    int64_t *to = &out->integer;
    bool over = false;
    if ((node->op == OP_MODULO || node->op == OP_DIV) && b == 0) {
        return failed(at, "division by zero");
    }
    switch (node->op) {
    case OP_ADD:
        over = __builtin_add_overflow(a, b, to);
        break;
    case OP_SUBTRACT:
        over = __builtin_sub_overflow(a, b, to);
        break;
    case OP_MULTIPLY:
        over = __builtin_mul_overflow(a, b, to);
        break;
    case OP_MODULO:
        *to = b == -1 ? 0 : a % b;
        break;
    default:
        over = b == -1 ? __builtin_sub_overflow(0, a, to) : (*to = a / b, false);
        break;
    }
    return over || !delta_in_bits(*to, node->bits) ? failed(at, "a number out of range") : true;
}

static bool decimals(struct row *at, const struct delta_node *node, __int128 a, __int128 b,
                     struct delta_value *out) {
    bool over = node->op == OP_ADD        ? __builtin_add_overflow(a, b, &out->decimal)
                : node->op == OP_SUBTRACT ? __builtin_sub_overflow(a, b, &out->decimal)
                                          : __builtin_mul_overflow(a, b, &out->decimal);
    return over || !delta_in_digits(out->decimal, 38) ? failed(at, "a number out of range") : true;
}

static bool arithmetic(struct row *at, const struct delta_node *node, struct delta_value *out) {
    struct delta_value a;
    struct delta_value b;
    if (!evaluate(at, node->args[0], &a) || !evaluate(at, node->args[1], &b)) {
        return false;
    }
    out->is_null = a.is_null || b.is_null;
    if (out->is_null) {
        return true;
    }
    if (node->kind == DELTA_KIND_INT) {
        return integers(at, node, a.integer, b.integer, out);
    }
    if (node->kind == DELTA_KIND_DECIMAL) {
        return decimals(at, node, a.decimal, b.decimal, out);
    }
    if ((node->op == OP_DIVIDE || node->op == OP_MODULO) && b.real == 0) {
        return failed(at, "division by zero");
    }
    out->real = node->op == OP_ADD        ? a.real + b.real
                : node->op == OP_SUBTRACT ? a.real - b.real
                : node->op == OP_MULTIPLY ? a.real * b.real
                : node->op == OP_DIVIDE   ? a.real / b.real
                                          : fmod(a.real, b.real);
    return true;
}

static bool negate(struct row *at, const struct delta_node *node, struct delta_value *out,
                   bool only_below_zero) {
    if (!evaluate(at, node->args[0], out)) {
        return false;
    }
    if (out->is_null) {
        return true;
    }
    if (node->kind == DELTA_KIND_DOUBLE) {
        out->real = only_below_zero ? fabs(out->real) : -out->real;
    } else if (node->kind == DELTA_KIND_DECIMAL) {
        out->decimal = only_below_zero && out->decimal > 0 ? out->decimal : -out->decimal;
    } else if (!only_below_zero || out->integer < 0) {
        if (__builtin_sub_overflow(0, out->integer, &out->integer) ||
            !delta_in_bits(out->integer, node->bits)) {
            return failed(at, "a number out of range");
        }
    }
    return true;
}

/* --- calls --------------------------------------------------------------------------------- */

/* By characters; positions from 1, below 0 from the end, as Spark's. */
static void substring(const struct delta_value *args, int32_t count, struct delta_value *out) {
    const char *end = args[0].text.bytes + args[0].text.length;
    int64_t characters = 0;
    for (const char *at = args[0].text.bytes; at < end; at += step(at, end)) {
        characters++;
    }
    int64_t first = args[1].integer > 0   ? args[1].integer - 1
                    : args[1].integer < 0 ? characters + args[1].integer
                                          : 0;
    int64_t want = count > 2 ? args[2].integer : INT32_MAX;
    int64_t last = want > INT32_MAX ? INT32_MAX : first + want;
    const char *from = args[0].text.bytes;
    int64_t at = 0;
    for (; from < end && at < first; at++) {
        from += step(from, end);
    }
    const char *to = from;
    for (; to < end && at < last; at++) {
        to += step(to, end);
    }
    out->is_null = false;
    out->text.bytes = from;
    out->text.length = (int32_t)(to - from);
}

static bool change_case(struct row *at, const struct delta_value *arg, bool upper,
                        struct delta_value *out) {
    if (!delta_keep_text(at->expression, arg->text.bytes, (size_t)arg->text.length, out)) {
        return false;
    }
    char *text = at->expression->texts + at->expression->texts_used - out->text.length;
    for (int32_t i = 0; i < out->text.length; i++) {
        if ((unsigned char)text[i] >= 0x80) {
            return failed(at, "upper or lower case beyond ASCII");
        }
        text[i] = (char)(upper && text[i] >= 'a' && text[i] <= 'z'    ? text[i] - 32
                         : !upper && text[i] >= 'A' && text[i] <= 'Z' ? text[i] + 32
                                                                      : text[i]);
    }
    return true;
}

static bool concat(struct row *at, const struct delta_value *args, int32_t count,
                   struct delta_value *out) {
    struct weir_buffer *scratch = &at->expression->scratch;
    weir_buffer_clear(scratch);
    for (int32_t i = 0; i < count; i++) {
        if (weir_buffer_append(scratch, args[i].text.bytes, (size_t)args[i].text.length) !=
            WEIR_OK) {
            return failed(at, "a text too long");
        }
    }
    return delta_keep_text(at->expression, scratch->data, scratch->size, out);
}

static bool text_call(struct row *at, const struct delta_node *node, const struct delta_value *args,
                      struct delta_value *out) {
    const char *text = args[0].text.bytes;
    int32_t length = args[0].text.length;
    int32_t other = node->arg_count > 1 ? args[1].text.length : 0;
    *out = args[0];
    switch (node->function) {
    case FN_LENGTH:
        out->integer = 0;
        for (const char *c = text; c < text + length; c += step(c, text + length)) {
            out->integer++;
        }
        return true;
    case FN_TRIM:
        for (; length > 0 && *text == ' '; text++) {
            length--;
        }
        for (; length > 0 && text[length - 1] == ' '; length--) {
        }
        out->text.bytes = text;
        out->text.length = length;
        return true;
    case FN_SUBSTRING:
        substring(args, node->arg_count, out);
        return true;
    case FN_UPPER:
    case FN_LOWER:
        return change_case(at, &args[0], node->function == FN_UPPER, out);
    case FN_STARTS_WITH:
        return truth(out, other <= length && memcmp(text, args[1].text.bytes, (size_t)other) == 0);
    case FN_ENDS_WITH:
        return truth(out, other <= length && memcmp(text + length - other, args[1].text.bytes,
                                                    (size_t)other) == 0);
    case FN_CONTAINS:
        return truth(out, memmem(text, (size_t)length, args[1].text.bytes, (size_t)other) != NULL);
    default:
        return concat(at, args, node->arg_count, out);
    }
}

static bool branch(struct row *at, const struct delta_node *node, struct delta_value *out) {
    int32_t i = 0;
    for (; i + 1 < node->arg_count; i += 2) {
        if (!evaluate(at, node->args[i], out)) {
            return false;
        }
        if (!out->is_null && out->integer != 0) {
            return evaluate(at, node->args[i + 1], out);
        }
    }
    return evaluate(at, node->args[node->arg_count - 1], out);
}

static bool call(struct row *at, const struct delta_node *node, struct delta_value *out) {
    struct delta_value args[64];                     /* as many as the call has are set, */
    args[0] = (struct delta_value){.is_null = true}; /* of none: now and today */
    if (node->function == FN_IF) {
        return branch(at, node, out);
    }
    if (node->function == FN_ABS) {
        return negate(at, node, out, true);
    }
    for (int32_t i = 0; i < node->arg_count; i++) {
        if (!evaluate(at, node->args[i], &args[i])) {
            return false;
        }
        bool coalesce = node->function == FN_COALESCE;
        if (coalesce ? !args[i].is_null || i + 1 == node->arg_count : args[i].is_null) {
            *out = args[i];
            return true;
        }
    }
    return node->function >= FN_LENGTH ? text_call(at, node, args, out)
                                       : delta_call_time(at->expression, node, args, out);
}

static bool evaluate(struct row *at, const struct delta_node *node, struct delta_value *out) {
    struct delta_value other;
    switch (node->op) {
    case OP_LITERAL:
        *out = node->value;
        return true;
    case OP_COLUMN:
        return column_value(at, node, out);
    case OP_OR:
    case OP_AND:
        return junction(at, node, out);
    case OP_NOT:
        if (!evaluate(at, node->args[0], out)) {
            return false;
        }
        out->integer = out->integer == 0;
        return true;
    case OP_IS_NULL:
        return evaluate(at, node->args[0], out) && truth(out, out->is_null);
    case OP_IS_TRUE:
        return evaluate(at, node->args[0], out) && truth(out, !out->is_null && out->integer != 0);
    case OP_IS_FALSE:
        return evaluate(at, node->args[0], out) && truth(out, !out->is_null && out->integer == 0);
    case OP_IN:
        return in_list(at, node, out);
    case OP_LIKE:
        if (!evaluate(at, node->args[0], out) || !evaluate(at, node->args[1], &other)) {
            return false;
        }
        if (out->is_null || other.is_null) {
            out->is_null = true;
            return true;
        }
        return truth(out, like(out->text.bytes, out->text.bytes + out->text.length,
                               other.text.bytes, other.text.bytes + other.text.length));
    case OP_CONCAT: {
        struct delta_value both[2];
        if (!evaluate(at, node->args[0], &both[0]) || !evaluate(at, node->args[1], &both[1])) {
            return false;
        }
        out->is_null = both[0].is_null || both[1].is_null;
        return out->is_null ? true : concat(at, both, 2, out);
    }
    case OP_NEGATE:
        return negate(at, node, out, false);
    case OP_CAST:
        return evaluate(at, node->args[0], out) &&
               (out->is_null || delta_cast_value(at->expression, node, out));
    case OP_CASE:
        return branch(at, node, out);
    case OP_CALL:
        return call(at, node, out);
    case OP_ADD:
    case OP_SUBTRACT:
    case OP_MULTIPLY:
    case OP_DIVIDE:
    case OP_MODULO:
    case OP_DIV:
        return arithmetic(at, node, out);
    default:
        return comparison(at, node, out);
    }
}

/* --- from outside -------------------------------------------------------------------------- */

int delta_expression_compile(const char *text, const struct weir_schema *schema, const char *what,
                             struct delta_expression **out, struct weir_error *err) {
    struct delta_expression *expression = calloc(1, sizeof(*expression));
    if (expression == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", what);
    }
    weir_buffer_init(&expression->scratch, DELTA_TEXTS_BYTES);
    int rc = delta_expression_parse(expression, text, what, err);
    rc = rc == WEIR_OK ? delta_expression_bind(expression, schema, what, err) : rc;
    if (rc != WEIR_OK) {
        delta_expression_destroy(expression);
        return rc;
    }
    *out = expression;
    return WEIR_OK;
}

void delta_expression_destroy(struct delta_expression *expression) {
    if (expression == NULL) {
        return;
    }
    for (struct delta_node *node = expression->nodes; node != NULL;) {
        struct delta_node *next = node->next;
        for (int32_t i = 0; i < DELTA_PATH_MAX; i++) {
            free(node->names[i]);
        }
        free(node->text);
        free(node->args);
        free(node);
        node = next;
    }
    weir_buffer_fini(&expression->scratch);
    free(expression->texts);
    free(expression);
}

enum delta_kind delta_expression_kind(const struct delta_expression *expression) {
    return expression->root->kind;
}

int delta_expression_cast(struct delta_expression *expression, const struct weir_field *field,
                          const char *what, struct weir_error *err) {
    struct delta_node type = {0};
    struct delta_node *root = delta_node_type(&type, field->type, field->precision, field->scale)
                                  ? delta_node_cast(expression, expression->root, &type)
                                  : NULL;
    if (root == NULL) {
        return weir_error_set(err, WEIR_E_UNSUPPORTED,
                              "%s: weir cannot make a value of type %s of it; give the stream that "
                              "column",
                              what, weir_type_name((enum weir_type)field->type));
    }
    expression->root = root;
    expression->field_type = field->type;
    return WEIR_OK;
}

const char *delta_expression_evaluate(struct delta_expression *expression,
                                      const struct weir_batch *batch, int32_t row, int64_t now_us,
                                      struct delta_value *out) {
    struct row at = {expression, batch, row};
    expression->texts_used = 0;
    expression->now_us = now_us;
    expression->failure = NULL;
    out->is_null = true;
    return evaluate(&at, expression->root, out) ? NULL
           : expression->failure != NULL        ? expression->failure
                                                : "no value";
}

int delta_value_append(const struct delta_expression *expression, const struct delta_value *value,
                       struct weir_column_builder *to) {
    if (value->is_null) {
        return weir_builder_null(to);
    }
    switch (expression->field_type) {
    case WEIR_TYPE_BOOL:
        return weir_builder_bool(to, value->integer != 0);
    case WEIR_TYPE_FLOAT:
        return weir_builder_float(to, (float)value->real);
    case WEIR_TYPE_DOUBLE:
        return weir_builder_double(to, value->real);
    case WEIR_TYPE_DECIMAL:
        return weir_builder_decimal(to, (uint64_t)value->decimal, (int64_t)(value->decimal >> 64));
    case WEIR_TYPE_STRING:
        return weir_builder_bytes(to, value->text.bytes, (size_t)value->text.length);
    default:
        return weir_builder_int(to, value->integer);
    }
}

bool delta_value_equals(const struct delta_expression *expression, const struct delta_value *value,
                        const struct weir_column *column, int32_t row) {
    struct delta_value held;
    if (!cell_value(column, row, &held) || held.is_null || value->is_null) {
        return held.is_null && value->is_null;
    }
    return compare(expression->root->kind, &held, value) == 0;
}
