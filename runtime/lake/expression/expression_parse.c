/* The text of an expression to a tree. Precedence climbing over a small lexer; keywords and
 * function names are compared without case, as Spark does. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lake/delta/text.h"
#include "lake/expression/expression_internal.h"

enum token { T_END, T_WORD, T_QUOTED, T_NUMBER, T_STRING, T_SIGN };

struct parser {
    struct delta_expression *expression;
    const char *what;
    const char *text;
    const char *at;    /* after the token */
    const char *start; /* of the token */
    enum token token;
    struct weir_buffer value; /* of the token */
    int32_t depth;
    struct weir_error *err;
    int rc;
};

struct delta_node *delta_node_new(struct delta_expression *expression, enum delta_op op,
                                  int32_t arg_count) {
    if (expression->node_count++ >= DELTA_NODES_MAX) {
        return NULL;
    }
    struct delta_node *node = calloc(1, sizeof(*node));
    if (node == NULL) {
        return NULL;
    }
    node->op = (uint8_t)op;
    node->args = calloc((size_t)arg_count + 1, sizeof(*node->args));
    if (node->args == NULL) {
        free(node);
        return NULL;
    }
    node->arg_count = arg_count;
    node->next = expression->nodes;
    expression->nodes = node;
    return node;
}

static struct delta_node *fail(struct parser *p, const char *why) {
    if (p->rc == WEIR_OK) {
        p->rc = weir_error_set(p->err, WEIR_E_UNSUPPORTED,
                               "%s: weir cannot evaluate `%.300s`: %s at `%.40s`; let the engine "
                               "that made the table state it otherwise, or drop it there",
                               p->what, p->text, why, p->start);
    }
    return NULL;
}

static struct delta_node *make(struct parser *p, enum delta_op op, struct delta_node *a,
                               struct delta_node *b) {
    int32_t count = (a != NULL) + (b != NULL);
    struct delta_node *node = p->rc == WEIR_OK ? delta_node_new(p->expression, op, count) : NULL;
    if (node == NULL) {
        return fail(p, "it is too long");
    }
    node->args[0] = a;
    node->args[count > 0 ? count - 1 : 0] = count > 1 ? b : a;
    return node;
}

/* --- words --------------------------------------------------------------------------------- */

static void put(struct parser *p, const char *bytes, size_t size) {
    if (weir_buffer_append(&p->value, bytes, size) != WEIR_OK) {
        fail(p, "it is too long");
    }
}

static void read_string(struct parser *p, char quote) {
    p->token = T_STRING;
    for (p->at++; *p->at != '\0' && *p->at != quote; p->at++) {
        if (*p->at != '\\') {
            put(p, p->at, 1);
            continue;
        }
        static const char from[] = "ntr0\\'\"%_";
        static const char to[] = "\n\t\r\0\\'\"";
#ifdef WEIR_PLANT_BUG /* tools/fuzz.py proves that the fuzzer would find this */
        const char *found = strchr(from, p->at[1]);
#else
        const char *found = p->at[1] != '\0' ? strchr(from, p->at[1]) : NULL;
#endif
        if (found == NULL) {
            fail(p, "an escape that is not known");
            return;
        }
        if (found - from >= 7) { /* of LIKE: stays escaped */
            put(p, p->at, 2);
        } else {
            put(p, to + (found - from), 1);
        }
        p->at++;
    }
    if (*p->at != quote) {
        fail(p, "a text without end");
        return;
    }
    p->at++;
}

static void read_sign(struct parser *p) {
    static const char *const signs[] = {"<=>", "==", "<>", "!=", "<=", ">=", "||", "::"};
    p->token = T_SIGN;
    for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++) {
        size_t length = strlen(signs[i]);
        if (strncmp(p->at, signs[i], length) == 0) {
            put(p, p->at, length);
            p->at += length;
            return;
        }
    }
    put(p, p->at++, 1);
}

static void advance(struct parser *p) {
    weir_buffer_clear(&p->value);
    while (isspace((unsigned char)*p->at)) {
        p->at++;
    }
    p->start = p->at;
    if (*p->at == '\0') {
        p->token = T_END;
    } else if (isalpha((unsigned char)*p->at) || *p->at == '_') {
        p->token = T_WORD;
        while (isalnum((unsigned char)*p->at) || *p->at == '_') {
            put(p, p->at++, 1);
        }
    } else if (*p->at == '`') {
        p->token = T_QUOTED;
        for (p->at++; *p->at != '\0' && (*p->at != '`' || p->at[1] == '`'); p->at++) {
            put(p, p->at, 1);
            p->at += *p->at == '`';
        }
        if (*p->at == '\0') {
            fail(p, "a name without end");
            return;
        }
        p->at++;
    } else if (isdigit((unsigned char)*p->at) ||
               (*p->at == '.' && isdigit((unsigned char)p->at[1]))) {
        p->token = T_NUMBER;
        while (isalnum((unsigned char)*p->at) || *p->at == '.' ||
               ((*p->at == '-' || *p->at == '+') && (p->at[-1] == 'e' || p->at[-1] == 'E'))) {
            put(p, p->at++, 1);
        }
    } else if (*p->at == '\'' || *p->at == '"') {
        read_string(p, *p->at);
    } else {
        read_sign(p);
    }
}

static const char *value(struct parser *p) {
    const char *text = weir_buffer_text(&p->value);
    return text != NULL ? text : "";
}

static bool is_word(struct parser *p, const char *word) {
    return p->token == T_WORD && strcasecmp(value(p), word) == 0;
}

static bool take_word(struct parser *p, const char *word) {
    bool found = is_word(p, word);
    if (found) {
        advance(p);
    }
    return found;
}

static bool is_sign(struct parser *p, const char *sign) {
    return p->token == T_SIGN && strcmp(value(p), sign) == 0;
}

static bool take_sign(struct parser *p, const char *sign) {
    bool found = is_sign(p, sign);
    if (found) {
        advance(p);
    }
    return found;
}

static void want_sign(struct parser *p, const char *sign) {
    if (!take_sign(p, sign)) {
        char why[32];
        snprintf(why, sizeof(why), "no `%s`", sign);
        fail(p, why);
    }
}

/* --- primaries ----------------------------------------------------------------------------- */

static struct delta_node *parse_or(struct parser *p);

static struct delta_node *literal(struct parser *p, enum delta_kind kind) {
    struct delta_node *node = make(p, OP_LITERAL, NULL, NULL);
    if (node != NULL) {
        node->kind = (uint8_t)kind;
        node->bits = 64;
        node->value.is_null = kind == DELTA_KIND_NULL;
    }
    return node;
}

static struct delta_node *text_literal(struct parser *p) {
    struct delta_node *node = literal(p, DELTA_KIND_STRING);
    if (node == NULL) {
        return NULL;
    }
    node->text = strndup(value(p), p->value.size);
    if (node->text == NULL) {
        return fail(p, "out of memory");
    }
    node->value.text.bytes = node->text;
    node->value.text.length = (int32_t)p->value.size;
    advance(p);
    return node;
}

/* 12, 12L, 1.5 (a decimal), 1.5D, 1e3 (a double). */
static struct delta_node *number(struct parser *p) {
    char digits[80];
    snprintf(digits, sizeof(digits), "%s", value(p));
    size_t length = strlen(digits);
    char suffix = length > 0 ? (char)toupper((unsigned char)digits[length - 1]) : '\0';
    bool point = strchr(digits, '.') != NULL;
    bool exponent = strpbrk(digits, "eE") != NULL;
    char *end;
    if (length > 0 && isalpha((unsigned char)suffix)) {
        digits[length - 1] = '\0';
    }
    struct delta_node *node;
    if (suffix == 'D' || suffix == 'F' || (exponent && !isalpha((unsigned char)suffix))) {
        node = literal(p, DELTA_KIND_DOUBLE);
        if (node != NULL) {
            node->value.real = strtod(digits, &end);
        }
    } else if (point && !isalpha((unsigned char)suffix)) {
        const char *dot = strchr(digits, '.');
        int scale = (int)strlen(dot + 1);
        node = literal(p, DELTA_KIND_DECIMAL);
        if (node != NULL &&
            (length > 38 || !delta_parse_decimal(digits, 38, scale, &node->value.decimal))) {
            return fail(p, "a number that is not known");
        }
        if (node != NULL) {
            node->precision = (uint8_t)(length - 1);
            node->scale = (int8_t)scale;
        }
        end = digits + strlen(digits);
    } else {
        node = literal(p, DELTA_KIND_INT);
        if (node != NULL) {
            unsigned long long number = strtoull(digits, &end, 10);
            bool small = suffix == 'S' || suffix == 'Y';
            if (number > INT64_MAX || length > 19 ||
                (isalpha((unsigned char)suffix) && suffix != 'L' && !small)) {
                return fail(p, "a number that is not known");
            }
            node->value.integer = (int64_t)number;
            node->bits = suffix == 'L' || number > INT32_MAX ? 64 : 32;
        }
    }
    if (node != NULL && *end != '\0') {
        return fail(p, "a number that is not known");
    }
    advance(p);
    return node;
}

static bool read_type(struct parser *p, struct delta_node *to) {
    static const struct {
        const char *name;
        uint8_t kind;
        uint8_t bits;
    } types[] = {{"boolean", DELTA_KIND_BOOL, 0},     {"tinyint", DELTA_KIND_INT, 8},
                 {"byte", DELTA_KIND_INT, 8},         {"smallint", DELTA_KIND_INT, 16},
                 {"short", DELTA_KIND_INT, 16},       {"int", DELTA_KIND_INT, 32},
                 {"integer", DELTA_KIND_INT, 32},     {"bigint", DELTA_KIND_INT, 64},
                 {"long", DELTA_KIND_INT, 64},        {"float", DELTA_KIND_DOUBLE, 32},
                 {"real", DELTA_KIND_DOUBLE, 32},     {"double", DELTA_KIND_DOUBLE, 64},
                 {"decimal", DELTA_KIND_DECIMAL, 0},  {"dec", DELTA_KIND_DECIMAL, 0},
                 {"numeric", DELTA_KIND_DECIMAL, 0},  {"string", DELTA_KIND_STRING, 0},
                 {"date", DELTA_KIND_DATE, 0},        {"timestamp", DELTA_KIND_TIMESTAMP, 0},
                 {"timestamp_ntz", DELTA_KIND_NTZ, 0}};
    for (size_t i = 0; p->token == T_WORD && i < sizeof(types) / sizeof(types[0]); i++) {
        if (strcasecmp(value(p), types[i].name) != 0) {
            continue;
        }
        to->kind = types[i].kind;
        to->bits = types[i].bits;
        to->precision = 10;
        to->scale = 0;
        advance(p);
        if (to->kind == DELTA_KIND_DECIMAL && take_sign(p, "(")) {
            to->precision = p->token == T_NUMBER ? (uint8_t)strtoul(value(p), NULL, 10) : 0;
            advance(p);
            if (take_sign(p, ",")) {
                to->scale = p->token == T_NUMBER ? (int8_t)strtol(value(p), NULL, 10) : -1;
                advance(p);
            }
            want_sign(p, ")");
        }
        return to->kind != DELTA_KIND_DECIMAL || (to->precision >= 1 && to->precision <= 38 &&
                                                  to->scale >= 0 && to->scale <= to->precision);
    }
    return false;
}

static struct delta_node *cast(struct parser *p) {
    want_sign(p, "(");
    struct delta_node *node = make(p, OP_CAST, parse_or(p), NULL);
    if (node == NULL) {
        return NULL;
    }
    if (!take_word(p, "as") || !read_type(p, node)) {
        return fail(p, "a type that is not known");
    }
    want_sign(p, ")");
    return node;
}

static bool push(struct parser *p, struct delta_node *node, struct delta_node *arg) {
    struct delta_node **args =
        realloc(node->args, ((size_t)node->arg_count + 2) * sizeof(struct delta_node *));
    if (args == NULL || arg == NULL) {
        node->args = args != NULL ? args : node->args;
        fail(p, "out of memory");
        return false;
    }
    node->args = args;
    node->args[node->arg_count++] = arg;
    return true;
}

/* CASE [x] WHEN a THEN b … [ELSE c] END */
static struct delta_node *parse_case(struct parser *p) {
    struct delta_node *node = make(p, OP_CASE, NULL, NULL);
    struct delta_node *subject = !is_word(p, "when") ? parse_or(p) : NULL;
    while (p->rc == WEIR_OK && take_word(p, "when")) {
        struct delta_node *when = parse_or(p);
        when = subject != NULL ? make(p, OP_EQ, subject, when) : when;
        if (!take_word(p, "then")) {
            return fail(p, "no THEN");
        }
        if (!push(p, node, when) || !push(p, node, parse_or(p))) {
            return NULL;
        }
    }
    if (p->rc != WEIR_OK || node == NULL || node->arg_count == 0) {
        return fail(p, "no WHEN");
    }
    struct delta_node *otherwise = take_word(p, "else") ? parse_or(p) : literal(p, DELTA_KIND_NULL);
    if (!push(p, node, otherwise)) {
        return NULL;
    }
    return take_word(p, "end") ? node : fail(p, "no END");
}

static struct delta_node *call(struct parser *p, const char *name) {
    struct delta_node *node = make(p, OP_CALL, NULL, NULL);
    const struct delta_function_form *form = delta_function_find(name);
    if (form == NULL || node == NULL) {
        char why[128];
        snprintf(why, sizeof(why), "the function %.60s is not known", name);
        return fail(p, why);
    }
    node->function = form->function;
    if (take_sign(p, "(") && !take_sign(p, ")")) {
        do {
            if (!push(p, node, parse_or(p))) {
                return NULL;
            }
        } while (p->rc == WEIR_OK && take_sign(p, ","));
        want_sign(p, ")");
    }
    if (node->arg_count < form->least || node->arg_count > form->most) {
        char why[128];
        snprintf(why, sizeof(why), "%.60s does not take %d arguments here", name, node->arg_count);
        return fail(p, why);
    }
    return node;
}

static struct delta_node *column(struct parser *p, const char *first) {
    struct delta_node *node = make(p, OP_COLUMN, NULL, NULL);
    if (node == NULL) {
        return NULL;
    }
    node->names[node->path_length++] = strdup(first);
    while (take_sign(p, ".")) {
        if ((p->token != T_WORD && p->token != T_QUOTED) || node->path_length == DELTA_PATH_MAX) {
            return fail(p, "a field that is not known");
        }
        node->names[node->path_length++] = strdup(value(p));
        advance(p);
    }
    for (int32_t i = 0; i < node->path_length; i++) {
        if (node->names[i] == NULL) {
            return fail(p, "out of memory");
        }
    }
    return node;
}

/* DATE '…', TIMESTAMP '…': as a cast of the text. */
static struct delta_node *typed_literal(struct parser *p, enum delta_kind kind) {
    struct delta_node *node = make(p, OP_CAST, text_literal(p), NULL);
    if (node != NULL) {
        node->kind = (uint8_t)kind;
    }
    return node;
}

static struct delta_node *word(struct parser *p) {
    char name[256];
    snprintf(name, sizeof(name), "%s", value(p));
    bool quoted = p->token == T_QUOTED;
    advance(p);
    if (!quoted) {
        if (strcasecmp(name, "true") == 0 || strcasecmp(name, "false") == 0) {
            struct delta_node *node = literal(p, DELTA_KIND_BOOL);
            if (node != NULL) {
                node->value.integer = strcasecmp(name, "true") == 0;
            }
            return node;
        }
        if (strcasecmp(name, "null") == 0) {
            return literal(p, DELTA_KIND_NULL);
        }
        if (strcasecmp(name, "cast") == 0) {
            return cast(p);
        }
        if (strcasecmp(name, "case") == 0) {
            return parse_case(p);
        }
        if (p->token == T_STRING && strcasecmp(name, "date") == 0) {
            return typed_literal(p, DELTA_KIND_DATE);
        }
        if (p->token == T_STRING && strcasecmp(name, "timestamp") == 0) {
            return typed_literal(p, DELTA_KIND_TIMESTAMP);
        }
        if (strcasecmp(name, "interval") == 0 && p->token != T_END && p->token != T_SIGN) {
            return fail(p, "intervals are not known");
        }
        bool bare =
            strcasecmp(name, "current_timestamp") == 0 || strcasecmp(name, "current_date") == 0;
        if (is_sign(p, "(") || bare) {
            return call(p, name);
        }
    }
    return column(p, name);
}

static struct delta_node *primary(struct parser *p) {
    switch (p->token) {
    case T_NUMBER:
        return number(p);
    case T_STRING:
        return text_literal(p);
    case T_WORD:
    case T_QUOTED:
        return word(p);
    case T_SIGN:
        if (take_sign(p, "(")) {
            struct delta_node *node = parse_or(p);
            want_sign(p, ")");
            return node;
        }
        return fail(p, "a sign that is not known");
    default:
        return fail(p, "something is missing");
    }
}

/* --- operators ----------------------------------------------------------------------------- */

static struct delta_node *unary(struct parser *p) {
    if (take_sign(p, "-")) {
        if (++p->depth > DELTA_DEPTH_MAX) {
            return fail(p, "it is nested too deep");
        }
        struct delta_node *node = make(p, OP_NEGATE, unary(p), NULL);
        p->depth--;
        return node;
    }
    if (is_sign(p, "+")) {
        advance(p);
    }
    return primary(p);
}

static struct delta_node *product(struct parser *p) {
    struct delta_node *left = unary(p);
    while (p->rc == WEIR_OK) {
        enum delta_op op;
        if (take_sign(p, "*")) {
            op = OP_MULTIPLY;
        } else if (take_sign(p, "/")) {
            op = OP_DIVIDE;
        } else if (take_sign(p, "%")) {
            op = OP_MODULO;
        } else if (take_word(p, "div")) {
            op = OP_DIV;
        } else {
            break;
        }
        left = make(p, op, left, unary(p));
    }
    return left;
}

static struct delta_node *sum(struct parser *p) {
    struct delta_node *left = product(p);
    while (p->rc == WEIR_OK) {
        enum delta_op op;
        if (take_sign(p, "+")) {
            op = OP_ADD;
        } else if (take_sign(p, "-")) {
            op = OP_SUBTRACT;
        } else if (take_sign(p, "||")) {
            op = OP_CONCAT;
        } else {
            break;
        }
        left = make(p, op, left, product(p));
    }
    return left;
}

static struct delta_node *in_list(struct parser *p, struct delta_node *left) {
    struct delta_node *node = make(p, OP_IN, left, NULL);
    want_sign(p, "(");
    do {
        if (node == NULL || !push(p, node, parse_or(p))) {
            return NULL;
        }
    } while (p->rc == WEIR_OK && take_sign(p, ","));
    want_sign(p, ")");
    return node;
}

static struct delta_node *is_test(struct parser *p, struct delta_node *left) {
    bool negate = take_word(p, "not");
    struct delta_node *node = NULL;
    if (take_word(p, "null")) {
        node = make(p, OP_IS_NULL, left, NULL);
    } else if (take_word(p, "true")) {
        node = make(p, OP_IS_TRUE, left, NULL);
    } else if (take_word(p, "false")) {
        node = make(p, OP_IS_FALSE, left, NULL);
    } else {
        return fail(p, "a test that is not known");
    }
    return negate ? make(p, OP_NOT, node, NULL) : node;
}

static struct delta_node *predicate(struct parser *p) {
    static const struct {
        const char *sign;
        enum delta_op op;
    } comparisons[] = {{"=", OP_EQ},  {"==", OP_EQ}, {"<=>", OP_SAFE_EQ},
                       {"<>", OP_NE}, {"!=", OP_NE}, {"<", OP_LT},
                       {"<=", OP_LE}, {">", OP_GT},  {">=", OP_GE}};
    struct delta_node *left = sum(p);
    while (p->rc == WEIR_OK) {
        int found = -1;
        for (size_t i = 0; i < sizeof(comparisons) / sizeof(comparisons[0]) && found < 0; i++) {
            found = take_sign(p, comparisons[i].sign) ? (int)i : -1;
        }
        if (found >= 0) {
            left = make(p, comparisons[found].op, left, sum(p));
            continue;
        }
        if (take_word(p, "is")) {
            left = is_test(p, left);
            continue;
        }
        bool negate = take_word(p, "not");
        if (take_word(p, "in")) {
            left = in_list(p, left);
        } else if (take_word(p, "between")) {
            struct delta_node *low = make(p, OP_GE, left, sum(p));
            if (!take_word(p, "and")) {
                return fail(p, "no AND of BETWEEN");
            }
            left = make(p, OP_AND, low, make(p, OP_LE, left, sum(p)));
        } else if (take_word(p, "like")) {
            left = make(p, OP_LIKE, left, sum(p));
        } else if (negate) {
            return fail(p, "an operator that is not known");
        } else {
            break;
        }
        left = negate ? make(p, OP_NOT, left, NULL) : left;
    }
    return left;
}

static struct delta_node *parse_not(struct parser *p) {
    if (!take_word(p, "not") && !take_sign(p, "!")) {
        return predicate(p);
    }
    if (++p->depth > DELTA_DEPTH_MAX) {
        return fail(p, "it is nested too deep");
    }
    struct delta_node *node = make(p, OP_NOT, parse_not(p), NULL);
    p->depth--;
    return node;
}

static struct delta_node *parse_and(struct parser *p) {
    struct delta_node *left = parse_not(p);
    while (p->rc == WEIR_OK && take_word(p, "and")) {
        left = make(p, OP_AND, left, parse_not(p));
    }
    return left;
}

static struct delta_node *parse_or(struct parser *p) {
    if (p->rc != WEIR_OK || ++p->depth > DELTA_DEPTH_MAX) {
        return fail(p, "it is nested too deep");
    }
    struct delta_node *left = parse_and(p);
    while (p->rc == WEIR_OK && take_word(p, "or")) {
        left = make(p, OP_OR, left, parse_and(p));
    }
    p->depth--;
    return left;
}

int delta_expression_parse(struct delta_expression *expression, const char *text, const char *what,
                           struct weir_error *err) {
    struct parser p = {.expression = expression,
                       .what = what,
                       .text = text,
                       .at = text,
                       .start = text,
                       .err = err};
    weir_buffer_init(&p.value, DELTA_EXPRESSION_BYTES_MAX);
    if (strlen(text) >= DELTA_EXPRESSION_BYTES_MAX) {
        fail(&p, "it is too long");
    } else {
        advance(&p);
        expression->root = parse_or(&p);
        if (p.rc == WEIR_OK && p.token != T_END) {
            fail(&p, "something that is not known");
        }
    }
    weir_buffer_fini(&p.value);
    return p.rc;
}
