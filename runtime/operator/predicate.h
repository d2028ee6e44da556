#pragma once
/* Data predicates over one column: not_null, one_of, between, matches. Evaluated in C, a loop a
 * type; a dictionary is judged once per distinct value. null passes all but not_null (as SQL's
 * CHECK does). Literals come as the text the analyst wrote and are read at the column's exact type:
 * nothing is rounded, a literal that does not fit is an error naming it. Immutable after create
 * but for scratch: one thread. */
#include "batch/batch.h"

#ifdef __cplusplus
extern "C" {
#endif

enum weir_predicate_kind {
    WEIR_PREDICATE_NOT_NULL, /* no literals; any type */
    WEIR_PREDICATE_ONE_OF,   /* 1.. literals; not nested */
    WEIR_PREDICATE_BETWEEN,  /* low, high, both inclusive; not bool, not nested */
    WEIR_PREDICATE_MATCHES   /* one PCRE2 pattern, UTF; string */
};

enum weir_verdict {
    WEIR_VERDICT_VIOLATION = 0,
    WEIR_VERDICT_PASS = 1,
    /* matches only: the match limit was reached; a violation, weir_predicate_gave_up is its text */
    WEIR_VERDICT_GAVE_UP = 4
};

struct weir_predicate;

/* "not_null" -> kind; false when there is no such predicate. */
bool weir_predicate_kind_parse(const char *text, enum weir_predicate_kind *kind);
/* NULL with WEIR_E_CONFIG: names the column, the literal, what would fit. */
struct weir_predicate *weir_predicate_create(enum weir_predicate_kind kind,
                                             const struct weir_field *field,
                                             const char *const *literals, int32_t literal_count,
                                             struct weir_error *err);
void weir_predicate_destroy(struct weir_predicate *predicate);

/* verdict[i] for row sel[i] (sel NULL: row i), i < count. The column is of the field's type.
 * Never fails: scratch is taken at creation. */
void weir_predicate_evaluate(struct weir_predicate *predicate, const struct weir_column *column,
                             const int32_t *sel, int32_t count, uint8_t *verdict);
/* As above, but verdict[i] is only ever made worse: for expectations of several terms. */
void weir_predicate_restrict(struct weir_predicate *predicate, const struct weir_column *column,
                             const int32_t *sel, int32_t count, uint8_t *verdict);
const char *weir_predicate_gave_up(const struct weir_predicate *predicate);

#ifdef __cplusplus
}
#endif
