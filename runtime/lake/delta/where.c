/* Predicates on partition columns: parsed once, asked per file. */
#include "lake/delta/where.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lake/delta/schema_json.h"
#include "lake/delta/text.h"

enum { TERMS_MAX = 32, VALUES_MAX = 1000, WORD_BYTES_MAX = 1024 };

enum op { OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE, OP_IN, OP_NULL, OP_NOT_NULL };

struct value {
    char *text; /* owned */
    int64_t integer;
    double number;
    __int128 decimal;
};

struct term {
    char *name; /* in partitionValues; owned */
    uint8_t type;
    int scale;
    enum op op;
    struct value *values;
    int32_t count;
};

struct delta_where {
    struct term terms[TERMS_MAX];
    int32_t count;
};

struct parser {
    const char *text;
    const char *at;
    struct weir_error *err;
    char word[WORD_BYTES_MAX];
    bool quoted;
};

/* --- values -------------------------------------------------------------------------------- */

/* What the text means as the column's type; false when it is no such value. */
static bool read_value(const struct term *term, const char *text, struct value *out) {
    char *end = NULL;
    int32_t days;
    switch (term->type) {
    case WEIR_TYPE_BOOL:
        out->integer = strcasecmp(text, "true") == 0;
        return out->integer == 1 || strcasecmp(text, "false") == 0;
    case WEIR_TYPE_INT8:
    case WEIR_TYPE_INT16:
    case WEIR_TYPE_INT32:
    case WEIR_TYPE_INT64:
        out->integer = strtoll(text, &end, 10);
        return end != text && *end == '\0';
    case WEIR_TYPE_FLOAT:
    case WEIR_TYPE_DOUBLE:
        out->number = strtod(text, &end);
        return end != text && *end == '\0';
    case WEIR_TYPE_DECIMAL:
        return delta_parse_decimal(text, 38, term->scale, &out->decimal);
    case WEIR_TYPE_DATE:
        if (!delta_parse_date(text, &days)) {
            return false;
        }
        out->integer = days;
        return true;
    case WEIR_TYPE_TIMESTAMP:
    case WEIR_TYPE_TIMESTAMP_NTZ:
        return delta_parse_timestamp(text, &out->integer);
    default:
        return true; /* text is compared as it is */
    }
}

static int compare_values(const struct term *term, const struct value *a, const struct value *b) {
    switch (term->type) {
    case WEIR_TYPE_FLOAT:
    case WEIR_TYPE_DOUBLE:
        return (a->number > b->number) - (a->number < b->number);
    case WEIR_TYPE_DECIMAL:
        return (a->decimal > b->decimal) - (a->decimal < b->decimal);
    case WEIR_TYPE_STRING:
    case WEIR_TYPE_BINARY:
        return strcmp(a->text, b->text);
    default:
        return (a->integer > b->integer) - (a->integer < b->integer);
    }
}

/* --- parsing ------------------------------------------------------------------------------- */

static int wrong(struct parser *parser, const char *wanted) {
    return weir_error_set(parser->err, WEIR_E_USAGE,
                          "--where: %s expected at \"%.40s\"; write for example \"event_date >= "
                          "'2026-11-01' and country in ('DE', 'FR')\"",
                          wanted, *parser->at != '\0' ? parser->at : "the end");
}

static void skip_blanks(struct parser *parser) {
    while (isspace((unsigned char)*parser->at)) {
        parser->at++;
    }
}

/* A quoted text ('' is a quote in it), a `name`, or a bare word; false when there is none. */
static bool read_word(struct parser *parser) {
    size_t length = 0;
    skip_blanks(parser);
    char quote = *parser->at;
    parser->quoted = quote == '\'' || quote == '"' || quote == '`';
    if (parser->quoted) {
        parser->at++;
        for (;; parser->at++) {
            if (*parser->at == '\0' || length + 1 >= WORD_BYTES_MAX) {
                return false;
            }
            if (*parser->at == quote) {
                if (parser->at[1] != quote) {
                    break;
                }
                parser->at++;
            }
            parser->word[length++] = *parser->at;
        }
        parser->at++;
    } else {
        while (*parser->at != '\0' && !isspace((unsigned char)*parser->at) &&
               strchr("=<>!(),'\"`", *parser->at) == NULL && length + 1 < WORD_BYTES_MAX) {
            parser->word[length++] = *parser->at++;
        }
    }
    parser->word[length] = '\0';
    return parser->quoted || length > 0;
}

/* Takes this keyword when it comes next. */
static bool take_keyword(struct parser *parser, const char *keyword) {
    size_t length = strlen(keyword);
    skip_blanks(parser);
    if (strncasecmp(parser->at, keyword, length) != 0 ||
        isalnum((unsigned char)parser->at[length]) || parser->at[length] == '_') {
        return false;
    }
    parser->at += length;
    return true;
}

static bool take_symbol(struct parser *parser, const char *symbol) {
    size_t length = strlen(symbol);
    skip_blanks(parser);
    if (strncmp(parser->at, symbol, length) != 0) {
        return false;
    }
    parser->at += length;
    return true;
}

static int parse_value(struct parser *parser, struct term *term) {
    if (!read_word(parser)) {
        return wrong(parser, "a value");
    }
    struct value *values = term->count < VALUES_MAX
                               ? realloc(term->values, (size_t)(term->count + 1) * sizeof(*values))
                               : NULL;
    if (values == NULL) {
        return weir_error_set(parser->err, WEIR_E_LIMIT, "--where: more than %d values",
                              VALUES_MAX);
    }
    term->values = values;
    memset(&values[term->count], 0, sizeof(*values));
    values[term->count].text = strdup(parser->word);
    if (values[term->count].text == NULL) {
        return weir_error_set(parser->err, WEIR_E_NOMEM, "--where: out of memory");
    }
    term->count++;
    if (!read_value(term, parser->word, &values[term->count - 1])) {
        return weir_error_set(parser->err, WEIR_E_USAGE, "--where: \"%.100s\" is no %s",
                              parser->word, weir_type_name((enum weir_type)term->type));
    }
    return WEIR_OK;
}

static int parse_op(struct parser *parser, struct term *term) {
    static const struct {
        const char *symbol;
        enum op op;
    } symbols[] = {{"!=", OP_NE}, {"<>", OP_NE}, {"<=", OP_LE}, {">=", OP_GE},
                   {"==", OP_EQ}, {"=", OP_EQ},  {"<", OP_LT},  {">", OP_GT}};
    if (take_keyword(parser, "is")) {
        term->op = take_keyword(parser, "not") ? OP_NOT_NULL : OP_NULL;
        return take_keyword(parser, "null") ? WEIR_OK : wrong(parser, "NULL");
    }
    if (take_keyword(parser, "in")) {
        term->op = OP_IN;
        if (!take_symbol(parser, "(")) {
            return wrong(parser, "(");
        }
        int rc = WEIR_OK;
        do {
            rc = parse_value(parser, term);
        } while (rc == WEIR_OK && take_symbol(parser, ","));
        return rc != WEIR_OK || take_symbol(parser, ")") ? rc : wrong(parser, ")");
    }
    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        if (take_symbol(parser, symbols[i].symbol)) {
            term->op = symbols[i].op;
            return parse_value(parser, term);
        }
    }
    return wrong(parser, "a comparison");
}

static int find_column(struct parser *parser, struct weir_delta_snapshot *snapshot,
                       struct term *term) {
    const struct weir_delta_metadata *metadata = weir_delta_snapshot_metadata(snapshot);
    const struct weir_delta_column *columns;
    const struct weir_schema *schema;
    int rc = weir_delta_snapshot_schema(snapshot, &schema, &columns, parser->err);
    for (int32_t i = 0; rc == WEIR_OK && i < metadata->partition_count; i++) {
        int32_t at = weir_schema_find(schema, metadata->partition_columns[i]);
        if (at >= 0 && strcasecmp(metadata->partition_columns[i], parser->word) == 0) {
            term->name = strdup(columns[at].physical_name);
            term->type = schema->fields[at].type;
            term->scale = schema->fields[at].scale;
            return term->name != NULL
                       ? WEIR_OK
                       : weir_error_set(parser->err, WEIR_E_NOMEM, "--where: out of memory");
        }
    }
    return rc != WEIR_OK
               ? rc
               : weir_error_set(parser->err, WEIR_E_SCHEMA,
                                "--where: %.100s is no partition column of the table; `weir table "
                                "show` names them",
                                parser->word);
}

int delta_where_parse(const char *text, struct weir_delta_snapshot *snapshot,
                      struct delta_where **out, struct weir_error *err) {
    struct parser parser = {.text = text, .at = text, .err = err};
    struct delta_where *where = calloc(1, sizeof(*where));
    int rc = where != NULL ? WEIR_OK : weir_error_set(err, WEIR_E_NOMEM, "--where: out of memory");
    while (rc == WEIR_OK) {
        if (where->count == TERMS_MAX) {
            rc = weir_error_set(err, WEIR_E_LIMIT, "--where: more than %d terms", TERMS_MAX);
            break;
        }
        struct term *term = &where->terms[where->count++];
        rc = read_word(&parser) ? find_column(&parser, snapshot, term)
                                : wrong(&parser, "a partition column");
        if (rc == WEIR_OK) {
            rc = parse_op(&parser, term);
        }
        if (rc == WEIR_OK && !take_keyword(&parser, "and")) {
            skip_blanks(&parser);
            rc = *parser.at == '\0' ? WEIR_OK : wrong(&parser, "AND");
            break;
        }
    }
    if (rc != WEIR_OK) {
        delta_where_destroy(where);
        return rc;
    }
    *out = where;
    return WEIR_OK;
}

void delta_where_destroy(struct delta_where *where) {
    for (int32_t i = 0; where != NULL && i < where->count; i++) {
        for (int32_t v = 0; v < where->terms[i].count; v++) {
            free(where->terms[i].values[v].text);
        }
        free(where->terms[i].values);
        free(where->terms[i].name);
    }
    free(where);
}

/* --- asking -------------------------------------------------------------------------------- */

static bool term_holds(const struct term *term, const struct weir_delta_add *add) {
    const char *text = NULL;
    for (int32_t i = 0; i < add->partition_count; i++) {
        if (strcmp(add->partition_values[i].key, term->name) == 0) {
            text = add->partition_values[i].value;
        }
    }
    bool is_null = text == NULL || *text == '\0';
    if (term->op == OP_NULL || term->op == OP_NOT_NULL) {
        return is_null == (term->op == OP_NULL);
    }
    struct value value = {.text = (char *)(uintptr_t)text};
    if (is_null || !read_value(term, text, &value)) {
        return false;
    }
    for (int32_t i = 0; i < term->count; i++) {
        int order = compare_values(term, &value, &term->values[i]);
        bool holds = (term->op == OP_EQ || term->op == OP_IN) ? order == 0
                     : term->op == OP_NE                      ? order != 0
                     : term->op == OP_LT                      ? order < 0
                     : term->op == OP_LE                      ? order <= 0
                     : term->op == OP_GT                      ? order > 0
                                                              : order >= 0;
        if (holds) {
            return true;
        }
    }
    return false;
}

bool delta_where_holds(const struct delta_where *where, const struct weir_delta_add *add) {
    for (int32_t i = 0; where != NULL && i < where->count; i++) {
        if (!term_holds(&where->terms[i], add)) {
            return false;
        }
    }
    return true;
}
