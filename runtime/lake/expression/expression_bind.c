/* Names to columns, and a type for every node: casts are put in where Spark would put them; where
 * it would do something this version does not, the expression is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lake/delta/text.h"
#include "lake/expression/expression_internal.h"

struct binder {
    struct delta_expression *expression;
    const struct weir_schema *schema;
    const char *what;
    struct weir_error *err;
};

static int refuse(struct binder *b, const char *why, const char *name) {
    return weir_error_set(b->err, WEIR_E_UNSUPPORTED,
                          "%s: weir cannot evaluate it: %s %.100s; let the engine that made the "
                          "table state it otherwise, or drop it there",
                          b->what, why, name);
}

bool delta_node_type(struct delta_node *node, uint8_t type, uint8_t precision, int8_t scale) {
    static const struct {
        uint8_t kind;
        uint8_t bits;
    } kinds[] = {[WEIR_TYPE_BOOL] = {DELTA_KIND_BOOL, 0},
                 [WEIR_TYPE_INT8] = {DELTA_KIND_INT, 8},
                 [WEIR_TYPE_INT16] = {DELTA_KIND_INT, 16},
                 [WEIR_TYPE_INT32] = {DELTA_KIND_INT, 32},
                 [WEIR_TYPE_INT64] = {DELTA_KIND_INT, 64},
                 [WEIR_TYPE_FLOAT] = {DELTA_KIND_DOUBLE, 32},
                 [WEIR_TYPE_DOUBLE] = {DELTA_KIND_DOUBLE, 64},
                 [WEIR_TYPE_DECIMAL] = {DELTA_KIND_DECIMAL, 0},
                 [WEIR_TYPE_STRING] = {DELTA_KIND_STRING, 0},
                 [WEIR_TYPE_DATE] = {DELTA_KIND_DATE, 0},
                 [WEIR_TYPE_TIMESTAMP] = {DELTA_KIND_TIMESTAMP, 0},
                 [WEIR_TYPE_TIMESTAMP_NTZ] = {DELTA_KIND_NTZ, 0}};
    if (type >= sizeof(kinds) / sizeof(kinds[0]) || kinds[type].kind == DELTA_KIND_NULL) {
        return false;
    }
    node->kind = kinds[type].kind;
    node->bits = kinds[type].bits;
    node->precision = precision;
    node->scale = scale;
    return true;
}

/* --- casts --------------------------------------------------------------------------------- */

static bool is_time(uint8_t kind) {
    return kind == DELTA_KIND_DATE || kind == DELTA_KIND_TIMESTAMP || kind == DELTA_KIND_NTZ;
}

static bool is_number(uint8_t kind) {
    return kind == DELTA_KIND_INT || kind == DELTA_KIND_DOUBLE || kind == DELTA_KIND_DECIMAL;
}

static bool same_type(const struct delta_node *a, const struct delta_node *b) {
    return a->kind == b->kind &&
           (a->kind == DELTA_KIND_INT || a->kind == DELTA_KIND_DOUBLE ? a->bits == b->bits
                                                                      : true) &&
           (a->kind != DELTA_KIND_DECIMAL ||
            (a->precision == b->precision && a->scale == b->scale));
}

static bool can_cast(const struct delta_node *from, const struct delta_node *to) {
    uint8_t f = from->kind;
    uint8_t t = to->kind;
    if (f == DELTA_KIND_NULL || f == t) {
        return true;
    }
    if (t == DELTA_KIND_STRING) {
        return f != DELTA_KIND_DOUBLE; /* Spark's text of a double is its own */
    }
    if (f == DELTA_KIND_STRING) {
        return t != DELTA_KIND_BOOL;
    }
    if (is_time(t)) {
        return is_time(f) || (t == DELTA_KIND_TIMESTAMP && f == DELTA_KIND_INT);
    }
    if (t == DELTA_KIND_INT) {
        return is_number(f) || f == DELTA_KIND_BOOL ||
               (f == DELTA_KIND_TIMESTAMP && to->bits == 64);
    }
    if (t == DELTA_KIND_BOOL) {
        return f == DELTA_KIND_INT;
    }
    return t == DELTA_KIND_DECIMAL ? f == DELTA_KIND_INT : is_number(f) || f == DELTA_KIND_BOOL;
}

struct delta_node *delta_node_cast(struct delta_expression *expression, struct delta_node *node,
                                   const struct delta_node *type) {
    if (same_type(node, type)) {
        return node;
    }
    struct delta_node *cast = can_cast(node, type) ? delta_node_new(expression, OP_CAST, 1) : NULL;
    if (cast != NULL) {
        cast->kind = type->kind;
        cast->bits = type->bits;
        cast->precision = type->precision;
        cast->scale = type->scale;
        cast->args[0] = node;
        cast->bound = true;
    }
    return cast;
}

static int cast_arg(struct binder *b, struct delta_node *node, int32_t arg, uint8_t kind,
                    const char *name) {
    struct delta_node type = {.kind = kind, .bits = kind == DELTA_KIND_INT ? 64 : 0};
    if (node->args[arg]->kind == kind) {
        return WEIR_OK;
    }
    struct delta_node *cast = delta_node_cast(b->expression, node->args[arg], &type);
    if (cast == NULL) {
        return refuse(b, "a value of another type where it takes", name);
    }
    node->args[arg] = cast;
    return WEIR_OK;
}

/* The type in which both can be compared or returned. */
static bool common_type(const struct delta_node *a, const struct delta_node *c,
                        struct delta_node *out) {
    memset(out, 0, sizeof(*out));
    if (a->kind == DELTA_KIND_NULL || c->kind == DELTA_KIND_NULL) {
        *out = a->kind == DELTA_KIND_NULL ? *c : *a;
        return true;
    }
    if (a->kind == c->kind) {
        *out = *a;
        out->bits = a->bits > c->bits ? a->bits : c->bits;
        if (a->kind == DELTA_KIND_DECIMAL) {
            int scale = a->scale > c->scale ? a->scale : c->scale;
            int whole = a->precision - a->scale > c->precision - c->scale ? a->precision - a->scale
                                                                          : c->precision - c->scale;
            out->scale = (int8_t)scale;
            out->precision = (uint8_t)(whole + scale > 38 ? 38 : whole + scale);
            return whole + scale <= 38;
        }
        return true;
    }
    if (is_number(a->kind) && is_number(c->kind)) {
        if (a->kind == DELTA_KIND_DOUBLE || c->kind == DELTA_KIND_DOUBLE) {
            out->kind = DELTA_KIND_DOUBLE;
            out->bits = 64;
            return true;
        }
        struct delta_node wide = {.kind = DELTA_KIND_DECIMAL, .precision = 19}; /* of any integer */
        return common_type(a->kind == DELTA_KIND_DECIMAL ? a : &wide,
                           c->kind == DELTA_KIND_DECIMAL ? c : &wide, out);
    }
    if (is_time(a->kind) && is_time(c->kind)) {
        out->kind = a->kind == DELTA_KIND_DATE ? c->kind : a->kind;
        return a->kind == DELTA_KIND_DATE || c->kind == DELTA_KIND_DATE;
    }
    if ((a->kind == DELTA_KIND_STRING && is_time(c->kind)) ||
        (c->kind == DELTA_KIND_STRING && is_time(a->kind))) {
        *out = a->kind == DELTA_KIND_STRING ? *c : *a; /* as Spark: the text becomes a time */
        return true;
    }
    return false;
}

static int unify(struct binder *b, struct delta_node *node, int32_t from, int32_t step,
                 struct delta_node *type) {
    *type = *node->args[from];
    for (int32_t i = from; i < node->arg_count; i += step) {
        struct delta_node common;
        if (!common_type(type, node->args[i], &common)) {
            return refuse(b, "values of types that do not go together", "");
        }
        *type = common;
    }
    for (int32_t i = from; i < node->arg_count; i += step) {
        struct delta_node *cast = delta_node_cast(b->expression, node->args[i], type);
        if (cast == NULL) {
            return refuse(b, "values of types that do not go together", "");
        }
        node->args[i] = cast;
    }
    return WEIR_OK;
}

static void set_type(struct delta_node *node, const struct delta_node *type) {
    node->kind = type->kind;
    node->bits = type->bits;
    node->precision = type->precision;
    node->scale = type->scale;
}

/* --- nodes --------------------------------------------------------------------------------- */

static int bind_column(struct binder *b, struct delta_node *node) {
    const struct weir_field *fields = b->schema->fields;
    int32_t count = b->schema->count;
    const struct weir_field *field = NULL;
    for (int32_t i = 0; i < node->path_length; i++) {
        int32_t found = -1;
        for (int32_t f = 0; f < count && found < 0; f++) {
            found = strcasecmp(fields[f].name, node->names[i]) == 0 ? f : -1;
        }
        if (found < 0) {
            return weir_error_set(b->err, WEIR_E_SCHEMA,
                                  "%s: it reads column %s, which the stream does not have; give "
                                  "the stream that column",
                                  b->what, node->names[i]);
        }
        node->path[i] = found;
        field = &fields[found];
        fields = field->children;
        count = field->type == WEIR_TYPE_STRUCT ? field->child_count : 0;
    }
    return field != NULL && delta_node_type(node, field->type, field->precision, field->scale)
               ? WEIR_OK
               : refuse(b, "it reads a column of type",
                        field != NULL ? weir_type_name((enum weir_type)field->type) : "none");
}

static int bind_arithmetic(struct binder *b, struct delta_node *node) {
    struct delta_node *left = node->args[0];
    struct delta_node *right = node->args[node->arg_count - 1];
    struct delta_node type;
    if (is_time(left->kind) || is_time(right->kind)) {
        return refuse(b, "arithmetic of times (date_add, date_sub and datediff are known)", "");
    }
    if (!common_type(left, right, &type) || !is_number(type.kind)) {
        return refuse(b, "arithmetic of values that are no numbers", "");
    }
    if (type.kind == DELTA_KIND_DECIMAL &&
        (node->op == OP_DIVIDE || node->op == OP_MODULO || node->op == OP_DIV)) {
        return refuse(b, "division of decimals", "");
    }
    if (node->op == OP_DIVIDE) {
        type = (struct delta_node){.kind = DELTA_KIND_DOUBLE, .bits = 64};
    }
    if (node->op == OP_DIV) {
        if (type.kind != DELTA_KIND_INT) {
            return refuse(b, "DIV of numbers that are not whole", "");
        }
        type.bits = 64;
    }
    for (int32_t i = 0; i < node->arg_count; i++) {
        struct delta_node to = type;
        if (node->op == OP_MULTIPLY && type.kind == DELTA_KIND_DECIMAL &&
            node->args[i]->kind == DELTA_KIND_DECIMAL) {
            continue; /* scales add up */
        }
        if (node->op == OP_MULTIPLY && type.kind == DELTA_KIND_DECIMAL) {
            to.precision = 19;
            to.scale = 0;
        }
        node->args[i] = delta_node_cast(b->expression, node->args[i], &to);
        if (node->args[i] == NULL) {
            return refuse(b, "arithmetic of values that are no numbers", "");
        }
    }
    set_type(node, &type);
    if (type.kind == DELTA_KIND_DECIMAL) {
        int scale = node->op == OP_MULTIPLY ? node->args[0]->scale + node->args[1]->scale
                                            : node->args[0]->scale;
        if (scale > 38) {
            return refuse(b, "decimals with more than 38 digits", "");
        }
        node->scale = (int8_t)scale;
        node->precision = 38;
    }
    return WEIR_OK;
}

/* A text that must be written out, since it decides what the function does. */
static const char *constant_text(const struct delta_node *node) {
    return node->op == OP_LITERAL && node->kind == DELTA_KIND_STRING ? node->text : NULL;
}

static int bind_call(struct binder *b, struct delta_node *node) {
    enum delta_function function = node->function;
    int rc = WEIR_OK;
    struct delta_node type = {.kind = DELTA_KIND_INT, .bits = 32};
    struct delta_node *first = node->arg_count > 0 ? node->args[0] : NULL;
    switch (function) {
    case FN_HOUR:
    case FN_MINUTE:
    case FN_SECOND:
        rc = first->kind == DELTA_KIND_NTZ ? WEIR_OK
                                           : cast_arg(b, node, 0, DELTA_KIND_TIMESTAMP, "a time");
        break;
    case FN_DATE:
        type.kind = DELTA_KIND_DATE;
        rc = cast_arg(b, node, 0, DELTA_KIND_DATE, "a date");
        break;
    case FN_DATE_ADD:
    case FN_DATE_SUB:
        type.kind = DELTA_KIND_DATE;
        rc = cast_arg(b, node, 0, DELTA_KIND_DATE, "a date");
        rc = rc == WEIR_OK ? cast_arg(b, node, 1, DELTA_KIND_INT, "days") : rc;
        break;
    case FN_DATE_DIFF:
        rc = cast_arg(b, node, 0, DELTA_KIND_DATE, "a date");
        rc = rc == WEIR_OK ? cast_arg(b, node, 1, DELTA_KIND_DATE, "a date") : rc;
        break;
    case FN_DATE_TRUNC:
        if (constant_text(first) == NULL || !delta_date_unit(first->text, false, &node->unit)) {
            return refuse(b, "date_trunc to a unit that is not known", "");
        }
        type.kind = node->args[1]->kind == DELTA_KIND_NTZ ? DELTA_KIND_NTZ : DELTA_KIND_TIMESTAMP;
        rc = cast_arg(b, node, 1, type.kind, "a time");
        break;
    case FN_TRUNC:
        if (constant_text(node->args[1]) == NULL ||
            !delta_date_unit(node->args[1]->text, true, &node->unit)) {
            return refuse(b, "trunc to a unit that is not known", "");
        }
        type.kind = DELTA_KIND_DATE;
        rc = cast_arg(b, node, 0, DELTA_KIND_DATE, "a date");
        break;
    case FN_DATE_FORMAT:
        if (constant_text(node->args[1]) == NULL ||
            !delta_date_pattern_known(node->args[1]->text)) {
            return refuse(b, "date_format with a pattern that is not known", "");
        }
        type.kind = DELTA_KIND_STRING;
        rc = first->kind == DELTA_KIND_NTZ ? WEIR_OK
                                           : cast_arg(b, node, 0, DELTA_KIND_TIMESTAMP, "a time");
        break;
    case FN_TIMESTAMP_SECONDS:
    case FN_TIMESTAMP_MILLIS:
    case FN_TIMESTAMP_MICROS:
        type.kind = DELTA_KIND_TIMESTAMP;
        rc = first->kind == DELTA_KIND_INT || first->kind == DELTA_KIND_NULL
                 ? cast_arg(b, node, 0, DELTA_KIND_INT, "a number")
                 : refuse(b, "a time of a number that is not whole", "");
        break;
    case FN_NOW:
        type.kind = DELTA_KIND_TIMESTAMP;
        break;
    case FN_TODAY:
        type.kind = DELTA_KIND_DATE;
        break;
    case FN_LENGTH:
        rc = cast_arg(b, node, 0, DELTA_KIND_STRING, "a text");
        break;
    case FN_UPPER:
    case FN_LOWER:
    case FN_TRIM:
    case FN_SUBSTRING:
    case FN_CONCAT:
    case FN_STARTS_WITH:
    case FN_ENDS_WITH:
    case FN_CONTAINS: {
        bool judges = function != FN_CONCAT && function >= FN_STARTS_WITH;
        type.kind = judges ? DELTA_KIND_BOOL : DELTA_KIND_STRING;
        for (int32_t i = 0; i < node->arg_count && rc == WEIR_OK; i++) {
            rc = function == FN_SUBSTRING && i > 0
                     ? cast_arg(b, node, i, DELTA_KIND_INT, "a place")
                     : cast_arg(b, node, i, DELTA_KIND_STRING, "a text");
        }
        break;
    }
    case FN_COALESCE:
        rc = unify(b, node, 0, 1, &type);
        break;
    case FN_IF: {
        rc = cast_arg(b, node, 0, DELTA_KIND_BOOL, "a condition");
        rc = rc == WEIR_OK ? unify(b, node, 1, 1, &type) : rc;
        break;
    }
    case FN_ABS:
        if (!is_number(first->kind)) {
            return refuse(b, "abs of what is no number", "");
        }
        set_type(&type, first);
        break;
    case FN_LAST_DAY:
        type.kind = DELTA_KIND_DATE;
        rc = cast_arg(b, node, 0, DELTA_KIND_DATE, "a date");
        break;
    default: /* parts of a date */
        rc = cast_arg(b, node, 0, DELTA_KIND_DATE, "a date");
        break;
    }
    set_type(node, &type);
    return rc;
}

static int bind_case(struct binder *b, struct delta_node *node) {
    int rc = WEIR_OK;
    struct delta_node type = *node->args[node->arg_count - 1];
    for (int32_t i = 0; i + 1 < node->arg_count && rc == WEIR_OK; i += 2) {
        struct delta_node common;
        rc = cast_arg(b, node, i, DELTA_KIND_BOOL, "a condition");
        if (rc == WEIR_OK && !common_type(&type, node->args[i + 1], &common)) {
            return refuse(b, "branches of CASE of types that do not go together", "");
        }
        type = common;
    }
    for (int32_t i = 1; i <= node->arg_count && rc == WEIR_OK; i += 2) {
        int32_t at = i < node->arg_count ? i : node->arg_count - 1;
        node->args[at] = delta_node_cast(b->expression, node->args[at], &type);
        rc = node->args[at] != NULL ? WEIR_OK : refuse(b, "branches of CASE", "");
    }
    set_type(node, &type);
    return rc;
}

static int bind(struct binder *b, struct delta_node *node) {
    int rc = WEIR_OK;
    struct delta_node type;
    if (node->bound) {
        return WEIR_OK;
    }
    node->bound = true;
    for (int32_t i = 0; i < node->arg_count && rc == WEIR_OK; i++) {
        rc = bind(b, node->args[i]);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    switch (node->op) {
    case OP_LITERAL:
        return WEIR_OK;
    case OP_COLUMN:
        return bind_column(b, node);
    case OP_OR:
    case OP_AND:
    case OP_NOT:
    case OP_IS_TRUE:
    case OP_IS_FALSE:
        for (int32_t i = 0; i < node->arg_count && rc == WEIR_OK; i++) {
            rc = cast_arg(b, node, i, DELTA_KIND_BOOL, "a condition");
        }
        break;
    case OP_IS_NULL:
        break;
    case OP_LIKE:
    case OP_CONCAT:
        rc = cast_arg(b, node, 0, DELTA_KIND_STRING, "a text");
        rc = rc == WEIR_OK ? cast_arg(b, node, 1, DELTA_KIND_STRING, "a text") : rc;
        if (node->op == OP_CONCAT) {
            node->kind = DELTA_KIND_STRING;
            return rc;
        }
        break;
    case OP_CAST:
        return can_cast(node->args[0], node) ? WEIR_OK : refuse(b, "a cast between types", "");
    case OP_CASE:
        return bind_case(b, node);
    case OP_CALL:
        return bind_call(b, node);
    case OP_NEGATE:
        if (!is_number(node->args[0]->kind)) {
            return refuse(b, "a minus before what is no number", "");
        }
        set_type(node, node->args[0]);
        return WEIR_OK;
    case OP_ADD:
    case OP_SUBTRACT:
    case OP_MULTIPLY:
    case OP_DIVIDE:
    case OP_MODULO:
    case OP_DIV:
        return bind_arithmetic(b, node);
    default:
        rc = unify(b, node, 0, 1, &type);
        break;
    }
    node->kind = DELTA_KIND_BOOL;
    return rc;
}

int delta_expression_bind(struct delta_expression *expression, const struct weir_schema *schema,
                          const char *what, struct weir_error *err) {
    struct binder b = {expression, schema, what, err};
    return bind(&b, expression->root);
}
