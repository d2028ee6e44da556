/* One loop a kind and type, in blocks whose rows' verdicts stay in L1; nulls are put right
 * afterwards, so that the loops themselves have no branch. */
#include "operator/predicate.h"

#include <stdio.h>
#include <stdlib.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "operator/literal.h"

enum {
    BLOCK = 1024,    /* rows judged together */
    FEW = 8,         /* literals compared one by one; more go through a hash set */
    SHORT_BYTES = 8, /* of texts compared as words */
    MATCH_LIMIT = 100000,
    DEPTH_LIMIT = 10000,
    HEAP_LIMIT_KIB = 4096,
    JIT_STACK_MIN = 32 * 1024,
    JIT_STACK_MAX = 512 * 1024
};

struct weir_predicate {
    enum weir_predicate_kind kind;
    uint8_t type;
    struct weir_literal *literals; /* between: low, high */
    int32_t count;
    char *texts;   /* what string literals point into */
    uint32_t *set; /* open addressing: literal + 1; NULL for few literals */
    uint32_t set_mask;
    pcre2_code *code;
    pcre2_match_data *match_data;
    pcre2_match_context *match_context;
    pcre2_jit_stack *jit_stack;
    uint8_t *dictionary; /* verdicts of a dictionary's values */
    size_t dictionary_capacity;
    char gave_up[160];
};

bool weir_predicate_kind_parse(const char *text, enum weir_predicate_kind *kind) {
    static const char *const names[] = {"not_null", "one_of", "between", "matches"};
    for (int i = 0; i < (int)(sizeof names / sizeof names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            *kind = (enum weir_predicate_kind)i;
            return true;
        }
    }
    return false;
}

static bool is_float(uint8_t type) {
    return type == WEIR_TYPE_FLOAT || type == WEIR_TYPE_DOUBLE;
}

/* --- creation ------------------------------------------------------------------------------ */

static uint64_t hash_double(double value) {
    uint64_t bits;
    value = value == 0 ? 0 : value; /* -0.0 */
    memcpy(&bits, &value, sizeof bits);
    return XXH3_64bits(&bits, sizeof bits);
}

static uint64_t hash_literal(const struct weir_predicate *predicate,
                             const struct weir_literal *literal) {
    if (weir_type_is_bytes(predicate->type)) {
        return XXH3_64bits(literal->bytes, (size_t)literal->length);
    }
    if (is_float(predicate->type)) {
        return hash_double(literal->number);
    }
    if (predicate->type == WEIR_TYPE_DECIMAL) {
        return XXH3_64bits(&literal->decimal, sizeof literal->decimal);
    }
    return XXH3_64bits(&literal->integer, sizeof literal->integer);
}

static int make_set(struct weir_predicate *predicate, struct weir_error *err) {
    uint32_t size = 16;
    while (size < (uint32_t)predicate->count * 2) {
        size *= 2;
    }
    predicate->set = calloc(size, sizeof *predicate->set);
    if (predicate->set == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "one_of: no memory for %d values",
                              predicate->count);
    }
    predicate->set_mask = size - 1;
    for (int32_t i = 0; i < predicate->count; i++) {
        uint32_t at =
            (uint32_t)hash_literal(predicate, &predicate->literals[i]) & predicate->set_mask;
        while (predicate->set[at] != 0) {
            at = (at + 1) & predicate->set_mask;
        }
        predicate->set[at] = (uint32_t)i + 1;
    }
    return WEIR_OK;
}

static int parse_literals(struct weir_predicate *predicate, const struct weir_field *field,
                          const char *const *literals, int32_t count, struct weir_error *err) {
    size_t bytes = 1;
    for (int32_t i = 0; i < count; i++) {
        bytes += strlen(literals[i]) + 1;
    }
    predicate->literals = calloc((size_t)count + 1, sizeof *predicate->literals);
    predicate->texts = malloc(bytes);
    if (predicate->literals == NULL || predicate->texts == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "no memory for %d literals", count);
    }
    char *at = predicate->texts;
    for (int32_t i = 0; i < count; i++) {
        size_t length = strlen(literals[i]) + 1;
        memcpy(at, literals[i], length);
        int rc = weir_literal_parse(field, at, &predicate->literals[i], err);
        if (rc != WEIR_OK) {
            return rc;
        }
        at += length;
    }
    predicate->count = count;
    return WEIR_OK;
}

static int compile_pattern(struct weir_predicate *predicate, const struct weir_field *field,
                           const char *pattern, struct weir_error *err) {
    int code;
    PCRE2_SIZE offset;
    /* `$` means the end, as in SQL engines; bytes that are no UTF-8 simply do not match. */
    predicate->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                    PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_DOLLAR_ENDONLY |
                                        PCRE2_NEVER_BACKSLASH_C,
                                    &code, &offset, NULL);
    if (predicate->code == NULL) {
        PCRE2_UCHAR text[160];
        pcre2_get_error_message(code, text, sizeof text);
        return weir_error_set(err, WEIR_E_CONFIG,
                              "matches on column '%s': the pattern is wrong at character %zu: %s",
                              field->name, (size_t)offset + 1, (const char *)text);
    }
    predicate->match_data = pcre2_match_data_create(1, NULL);
    predicate->match_context = pcre2_match_context_create(NULL);
    if (predicate->match_data == NULL || predicate->match_context == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "no memory for a pattern");
    }
    pcre2_set_match_limit(predicate->match_context, MATCH_LIMIT);
    pcre2_set_depth_limit(predicate->match_context, DEPTH_LIMIT);
    pcre2_set_heap_limit(predicate->match_context, HEAP_LIMIT_KIB);
    /* Without JIT (a hardened kernel, say) the interpreter does the same, slower. */
    if (pcre2_jit_compile(predicate->code, PCRE2_JIT_COMPLETE) == 0) {
        predicate->jit_stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX, NULL);
        if (predicate->jit_stack != NULL) {
            pcre2_jit_stack_assign(predicate->match_context, NULL, predicate->jit_stack);
        }
    }
    snprintf(predicate->gave_up, sizeof predicate->gave_up,
             "the pattern on column '%.60s' gave up after %d steps: simplify it", field->name,
             MATCH_LIMIT);
    return WEIR_OK;
}

static int create_between(struct weir_predicate *predicate, const struct weir_field *field,
                          const char *const *literals, int32_t count, struct weir_error *err) {
    if (count != 2 || field->type == WEIR_TYPE_BOOL) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "between on column '%s' wants a low and a high value of an ordered "
                              "type; the column is a %s",
                              field->name, weir_type_name(field->type));
    }
    return parse_literals(predicate, field, literals, count, err);
}

struct weir_predicate *weir_predicate_create(enum weir_predicate_kind kind,
                                             const struct weir_field *field,
                                             const char *const *literals, int32_t literal_count,
                                             struct weir_error *err) {
    struct weir_predicate *predicate = calloc(1, sizeof *predicate);
    if (predicate == NULL) {
        weir_error_set(err, WEIR_E_NOMEM, "no memory for a predicate");
        return NULL;
    }
    predicate->kind = kind;
    predicate->type = field->type;
    int rc = WEIR_OK;
    switch (kind) {
    case WEIR_PREDICATE_NOT_NULL:
        break;
    case WEIR_PREDICATE_ONE_OF:
        if (literal_count < 1) {
            rc = weir_error_set(err, WEIR_E_CONFIG,
                                "one_of on column '%s' wants at least one value", field->name);
            break;
        }
        rc = parse_literals(predicate, field, literals, literal_count, err);
        if (rc == WEIR_OK && literal_count > FEW) {
            rc = make_set(predicate, err);
        }
        break;
    case WEIR_PREDICATE_BETWEEN:
        rc = create_between(predicate, field, literals, literal_count, err);
        break;
    case WEIR_PREDICATE_MATCHES:
        if (literal_count != 1 || field->type != WEIR_TYPE_STRING) {
            rc = weir_error_set(err, WEIR_E_CONFIG,
                                "matches wants one pattern and a string column; '%s' is a %s",
                                field->name, weir_type_name(field->type));
            break;
        }
        rc = compile_pattern(predicate, field, literals[0], err);
        break;
    }
    if (rc != WEIR_OK) {
        weir_predicate_destroy(predicate);
        return NULL;
    }
    return predicate;
}

void weir_predicate_destroy(struct weir_predicate *predicate) {
    if (predicate == NULL) {
        return;
    }
    free(predicate->literals);
    free(predicate->texts);
    free(predicate->set);
    free(predicate->dictionary);
    pcre2_jit_stack_free(predicate->jit_stack);
    pcre2_match_context_free(predicate->match_context);
    pcre2_match_data_free(predicate->match_data);
    pcre2_code_free(predicate->code);
    free(predicate);
}

const char *weir_predicate_gave_up(const struct weir_predicate *predicate) {
    return predicate->gave_up;
}

/* --- judging ------------------------------------------------------------------------------- */

/* Judges rows of a plain column: row sel[i], or first + i. Null rows get any verdict. */
struct rows {
    const struct weir_column *column;
    const int32_t *sel;
    int64_t first;
    int32_t count;
};

#define EACH_ROW(test)                                                                             \
    if (rows->sel == NULL) {                                                                       \
        for (int32_t i = 0; i < rows->count; i++) {                                                \
            int64_t row = rows->first + i;                                                         \
            verdict[i] = (uint8_t)(test);                                                          \
        }                                                                                          \
    } else {                                                                                       \
        for (int32_t i = 0; i < rows->count; i++) {                                                \
            int64_t row = rows->sel[i];                                                            \
            verdict[i] = (uint8_t)(test);                                                          \
        }                                                                                          \
    }

static inline weir_int128 decimal_at(const void *values, int64_t row) {
    return weir_int128_load((const uint8_t *)values + row * 16);
}

static int compare_bytes(const char *a, int32_t a_length, const struct weir_literal *b) {
    int32_t common = a_length < b->length ? a_length : b->length;
    int order = common > 0 ? memcmp(a, b->bytes, (size_t)common) : 0;
    return order != 0 ? order : (a_length > b->length) - (a_length < b->length);
}

static bool bytes_between(const struct weir_column *column, int64_t row,
                          const struct weir_literal *bounds) {
    int32_t length;
    const char *bytes = weir_column_bytes(column, row, &length);
    return compare_bytes(bytes, length, &bounds[0]) >= 0 &&
           compare_bytes(bytes, length, &bounds[1]) <= 0;
}

#define BETWEEN(load, low, high) EACH_ROW((load >= low) & (load <= high))

static void judge_between(const struct weir_predicate *predicate, const struct rows *rows,
                          uint8_t *verdict) {
    const struct weir_literal *bounds = predicate->literals;
    const void *in = rows->column->values;
    int64_t low = bounds[0].integer;
    int64_t high = bounds[1].integer;
    double number_low = bounds[0].number;
    double number_high = bounds[1].number;
    switch (predicate->type) {
    case WEIR_TYPE_INT8:
        BETWEEN(((const int8_t *)in)[row], (int8_t)low, (int8_t)high)
        break;
    case WEIR_TYPE_INT16:
        BETWEEN(((const int16_t *)in)[row], (int16_t)low, (int16_t)high)
        break;
    case WEIR_TYPE_INT32:
    case WEIR_TYPE_DATE:
        BETWEEN(((const int32_t *)in)[row], (int32_t)low, (int32_t)high)
        break;
    case WEIR_TYPE_FLOAT:
        BETWEEN((double)((const float *)in)[row], number_low, number_high)
        break;
    case WEIR_TYPE_DOUBLE:
        BETWEEN(((const double *)in)[row], number_low, number_high)
        break;
    case WEIR_TYPE_DECIMAL:
        EACH_ROW((decimal_at(in, row) >= bounds[0].decimal) &
                 (decimal_at(in, row) <= bounds[1].decimal))
        break;
    case WEIR_TYPE_STRING:
    case WEIR_TYPE_BINARY:
        EACH_ROW(bytes_between(rows->column, row, bounds))
        break;
    default:
        BETWEEN(((const int64_t *)in)[row], low, high)
    }
}

/* Whether a literal equal to `value` is in the set; `same` compares literal l with it. */
#define IN_SET(hash, same)                                                                         \
    do {                                                                                           \
        for (uint32_t at = (uint32_t)(hash)&predicate->set_mask; predicate->set[at] != 0;          \
             at = (at + 1) & predicate->set_mask) {                                                \
            const struct weir_literal *l = &predicate->literals[predicate->set[at] - 1];           \
            if (same) {                                                                            \
                return true;                                                                       \
            }                                                                                      \
        }                                                                                          \
        return false;                                                                              \
    } while (0)

static bool set_has_int(const struct weir_predicate *predicate, int64_t value) {
    IN_SET(XXH3_64bits(&value, sizeof value), l->integer == value);
}

static bool set_has_double(const struct weir_predicate *predicate, double value) {
    IN_SET(hash_double(value), l->number == value);
}

static bool set_has_decimal(const struct weir_predicate *predicate, weir_int128 value) {
    IN_SET(XXH3_64bits(&value, sizeof value), l->decimal == value);
}

static bool set_has_bytes(const struct weir_predicate *predicate, const char *bytes,
                          int32_t length) {
    IN_SET(XXH3_64bits(bytes, (size_t)length),
           l->length == length && memcmp(l->bytes, bytes, (size_t)length) == 0);
}

static bool bytes_one_of(const struct weir_predicate *predicate, const struct weir_column *column,
                         int64_t row) {
    int32_t length;
    const char *bytes = weir_column_bytes(column, row, &length);
    if (predicate->set != NULL) {
        return set_has_bytes(predicate, bytes, length);
    }
    for (int32_t l = 0; l < predicate->count; l++) {
        if (predicate->literals[l].length == length &&
            memcmp(predicate->literals[l].bytes, bytes, (size_t)length) == 0) {
            return true;
        }
    }
    return false;
}

/* Up to eight bytes as a word; of the same length, equal words are equal bytes. */
static inline uint64_t short_word(const char *bytes, int32_t length) {
    if (length >= 4) {
        uint32_t first;
        uint32_t last;
        memcpy(&first, bytes, sizeof first);
        memcpy(&last, bytes + length - 4, sizeof last);
        return first | (uint64_t)last << 32;
    }
    return length <= 0 ? 0
                       : (uint64_t)(uint8_t)bytes[0] | (uint64_t)(uint8_t)bytes[length >> 1] << 8 |
                             (uint64_t)(uint8_t)bytes[length - 1] << 16;
}

static inline bool short_one_of(const int32_t lengths[FEW / 2], const uint64_t words[FEW / 2],
                                const struct weir_column *column, int64_t row) {
    int32_t length;
    const char *bytes = weir_column_bytes(column, row, &length);
    uint64_t word = short_word(bytes, length <= SHORT_BYTES ? length : 0);
    bool found = false;
    for (int32_t l = 0; l < FEW / 2; l++) {
        found |= (length == lengths[l]) & (word == words[l]);
    }
    return found;
}

/* Codes and the like: few and short, compared all at once, because which one it is cannot be
 * foreseen. False when they are not. */
static bool judge_short(const struct weir_predicate *predicate, const struct rows *rows,
                        uint8_t *verdict) {
    int32_t lengths[FEW / 2];
    uint64_t words[FEW / 2];
    bool fits = predicate->set == NULL && predicate->count > 0 && predicate->count <= FEW / 2;
    for (int32_t l = 0; fits && l < FEW / 2; l++) {
        const struct weir_literal *one = &predicate->literals[l < predicate->count ? l : 0];
        fits = one->length <= SHORT_BYTES;
        lengths[l] = (int32_t)one->length;
        words[l] = fits ? short_word(one->bytes, lengths[l]) : 0;
    }
    if (fits) {
        EACH_ROW(short_one_of(lengths, words, rows->column, row))
    }
    return fits;
}

/* Few literals are compared all at once, without branches; a short list repeats its first. */
#define IS(load, l) (int)((load) == few[l])
#define ONE_OF(type, load, field, set_has)                                                         \
    if (predicate->set != NULL) {                                                                  \
        EACH_ROW(set_has(predicate, load))                                                         \
    } else {                                                                                       \
        type few[FEW];                                                                             \
        for (int32_t l = 0; l < FEW; l++) {                                                        \
            few[l] = (type)predicate->literals[l < predicate->count ? l : 0].field;                \
        }                                                                                          \
        if (predicate->count <= FEW / 2) {                                                         \
            EACH_ROW(IS(load, 0) | IS(load, 1) | IS(load, 2) | IS(load, 3))                        \
        } else {                                                                                   \
            EACH_ROW(IS(load, 0) | IS(load, 1) | IS(load, 2) | IS(load, 3) | IS(load, 4) |         \
                     IS(load, 5) | IS(load, 6) | IS(load, 7))                                      \
        }                                                                                          \
    }

static void judge_one_of(const struct weir_predicate *predicate, const struct rows *rows,
                         uint8_t *verdict) {
    const void *in = rows->column->values;
    switch (predicate->type) {
    case WEIR_TYPE_BOOL:
        ONE_OF(bool, weir_bit_get(in, row), integer, set_has_int)
        break;
    case WEIR_TYPE_INT8:
        ONE_OF(int8_t, ((const int8_t *)in)[row], integer, set_has_int)
        break;
    case WEIR_TYPE_INT16:
        ONE_OF(int16_t, ((const int16_t *)in)[row], integer, set_has_int)
        break;
    case WEIR_TYPE_INT32:
    case WEIR_TYPE_DATE:
        ONE_OF(int32_t, ((const int32_t *)in)[row], integer, set_has_int)
        break;
    case WEIR_TYPE_FLOAT:
        ONE_OF(double, (double)((const float *)in)[row], number, set_has_double)
        break;
    case WEIR_TYPE_DOUBLE:
        ONE_OF(double, ((const double *)in)[row], number, set_has_double)
        break;
    case WEIR_TYPE_DECIMAL:
        ONE_OF(weir_int128, decimal_at(in, row), decimal, set_has_decimal)
        break;
    case WEIR_TYPE_STRING:
    case WEIR_TYPE_BINARY:
        if (!judge_short(predicate, rows, verdict)) {
            EACH_ROW(bytes_one_of(predicate, rows->column, row))
        }
        break;
    default:
        ONE_OF(int64_t, ((const int64_t *)in)[row], integer, set_has_int)
    }
}

static uint8_t matches(struct weir_predicate *predicate, const struct weir_column *column,
                       int64_t row) {
    if (weir_column_is_null(column, row)) {
        return WEIR_VERDICT_PASS;
    }
    int32_t length;
    const char *bytes = weir_column_bytes(column, row, &length);
    int rc = pcre2_match(predicate->code, (PCRE2_SPTR)bytes, (PCRE2_SIZE)length, 0, 0,
                         predicate->match_data, predicate->match_context);
    if (rc >= 0) {
        return WEIR_VERDICT_PASS;
    }
    return rc == PCRE2_ERROR_NOMATCH ? WEIR_VERDICT_VIOLATION : WEIR_VERDICT_GAVE_UP;
}

static void judge_not_null(const struct rows *rows, uint8_t *verdict) {
    const uint8_t *validity = rows->column->validity;
    if (validity == NULL) {
        memset(verdict, WEIR_VERDICT_PASS, (size_t)rows->count);
        return;
    }
    EACH_ROW(weir_bit_get(validity, row))
}

static void judge_plain(struct weir_predicate *predicate, const struct rows *rows,
                        uint8_t *verdict) {
    switch (predicate->kind) {
    case WEIR_PREDICATE_NOT_NULL:
        judge_not_null(rows, verdict);
        return;
    case WEIR_PREDICATE_ONE_OF:
        judge_one_of(predicate, rows, verdict);
        break;
    case WEIR_PREDICATE_BETWEEN:
        judge_between(predicate, rows, verdict);
        break;
    case WEIR_PREDICATE_MATCHES:
        EACH_ROW(matches(predicate, rows->column, row))
        break;
    }
    const uint8_t *validity = rows->column->validity;
    if (validity != NULL) {
        EACH_ROW(weir_bit_get(validity, row) ? verdict[i] : WEIR_VERDICT_PASS)
    }
}

/* Verdicts of all values of a dictionary, or NULL when it is not worth it or there is no room. */
static const uint8_t *judge_dictionary(struct weir_predicate *predicate,
                                       const struct weir_column *dictionary, int32_t rows) {
    if (dictionary->length > rows || dictionary->length > INT32_MAX) {
        return NULL;
    }
    size_t length = (size_t)dictionary->length;
    if (length > predicate->dictionary_capacity) {
        uint8_t *room = realloc(predicate->dictionary, length);
        if (room == NULL) {
            return NULL;
        }
        predicate->dictionary = room;
        predicate->dictionary_capacity = length;
    }
    struct rows all = {.column = dictionary, .count = (int32_t)length};
    judge_plain(predicate, &all, predicate->dictionary);
    return predicate->dictionary;
}

/* One block of a dictionary-encoded column. */
static void judge_coded(struct weir_predicate *predicate, const struct rows *rows,
                        const uint8_t *judged, uint8_t *verdict) {
    const int32_t *codes = rows->column->codes;
    const uint8_t *validity = rows->column->validity;
    int32_t values[BLOCK];
    if (predicate->kind == WEIR_PREDICATE_NOT_NULL) {
        judge_not_null(rows, verdict);
        return;
    }
    for (int32_t i = 0; i < rows->count; i++) {
        int64_t row = rows->sel != NULL ? rows->sel[i] : rows->first + i;
        bool valid = validity == NULL || weir_bit_get(validity, row);
        values[i] = valid ? codes[row] : -1; /* the code of a null may be anything */
    }
    for (int32_t i = 0; i < rows->count; i++) {
        if (values[i] < 0) {
            verdict[i] = WEIR_VERDICT_PASS;
        } else if (judged != NULL) {
            verdict[i] = judged[values[i]];
        } else {
            struct rows one = {.column = rows->column->dictionary, .first = values[i], .count = 1};
            judge_plain(predicate, &one, &verdict[i]);
        }
    }
}

static void judge(struct weir_predicate *predicate, const struct weir_column *column,
                  const int32_t *sel, int32_t count, uint8_t *verdict, bool restrict_only) {
    uint8_t fresh[BLOCK];
    const uint8_t *judged = NULL;
    if (column->codes != NULL && predicate->kind != WEIR_PREDICATE_NOT_NULL) {
        judged = judge_dictionary(predicate, column->dictionary, count);
    }
    for (int32_t start = 0; start < count; start += BLOCK) {
        struct rows rows = {
            .column = column,
            .sel = sel != NULL ? sel + start : NULL,
            .first = start,
            .count = count - start < BLOCK ? count - start : BLOCK,
        };
        uint8_t *to = restrict_only ? fresh : verdict + start;
        if (column->codes != NULL) {
            judge_coded(predicate, &rows, judged, to);
        } else {
            judge_plain(predicate, &rows, to);
        }
        if (restrict_only) {
            uint8_t *kept = verdict + start;
            for (int32_t i = 0; i < rows.count; i++) {
                kept[i] = kept[i] == WEIR_VERDICT_PASS ? fresh[i] : kept[i];
            }
        }
    }
}

void weir_predicate_evaluate(struct weir_predicate *predicate, const struct weir_column *column,
                             const int32_t *sel, int32_t count, uint8_t *verdict) {
    judge(predicate, column, sel, count, verdict, false);
}

void weir_predicate_restrict(struct weir_predicate *predicate, const struct weir_column *column,
                             const int32_t *sel, int32_t count, uint8_t *verdict) {
    judge(predicate, column, sel, count, verdict, true);
}
