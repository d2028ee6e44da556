/* What the loop of a `pattern` calls (operator/rule/match.c). A pattern is a rule whose state are its runs, the partial matches of a
 * key. Its cells: 0 "runs" (step, count, since, start, last, gap), 1 "taken" (the number of the last row a run took), 2 "paths"
 * (by run: which rows each step took), 3 "rows" (what is kept of them, by number), where anything is.
 *
 * For each row that may matter weir_match_row is called with the conditions that hold of the row alone. It ends with what is to
 * be done next; where a condition looks at what a run took, it is asked run by run, and weir_match_answer goes on. */

struct weir_match_step {
    const char *name;
    int32_t name_bytes;
    int32_t condition;   /* its bit in masks; -1: any row fits */
    int32_t sees;        /* 1: it looks at the run, and is asked */
    int32_t min;
    int32_t max;
    int32_t strict;
    int32_t any;
    int32_t consecutive;
    int32_t reach;       /* the last place a run may go to from here without taking anything in between */
    int32_t ends;        /* 1: nothing more has to come */
    int32_t waits;       /* 1: something may come later */
    int32_t first_guard; /* what must not come behind it: of `guards` */
    int32_t guard_count;
};

enum weir_match_skip {
    WEIR_MATCH_PAST_LAST = 0,
    WEIR_MATCH_NEXT = 1,
    WEIR_MATCH_NONE = 2,
    WEIR_MATCH_TO_FIRST = 3,
    WEIR_MATCH_TO_LAST = 4
};

struct weir_match {
    struct weir_match_step *places; /* the steps that take rows */
    struct weir_match_step *guards;
    int32_t place_count;
    int32_t begin_reach;            /* the last place a match may begin with */
    int64_t within_us;              /* 0: for ever */
    int32_t skip;                   /* enum weir_match_skip */
    int32_t skip_place;
    int32_t timer;                  /* that of the end of within; -1: no step must not come last */
    int32_t gaps;                   /* 1: it matters whether a row was let pass */
    int32_t paths;                  /* 1: it matters which rows were taken */
    int32_t keeps;                  /* 1: of rows taken something is kept */
    int32_t asked;                  /* told: the condition to be asked */
    int32_t taken_count;            /* told: of the run asked about, or the match found */
    int32_t *taken_places;          /* -1: a step that is gone */
    int32_t *taken_rows;            /* in the cell "rows"; -1: the row at hand; -2: not there */
    int64_t since_us;
    int64_t ended_us;
    int64_t id;                     /* of the row at hand */
};

enum weir_match_next {
    WEIR_MATCH_FAILED = -1, /* weir_rule_error */
    WEIR_MATCH_DONE = 0,
    WEIR_MATCH_KEEP = 1,    /* the row at hand is pushed to "rows" as number `id`; no more */
    WEIR_MATCH_ASK = 2,     /* condition `asked`, of the run */
    WEIR_MATCH_FOUND = 3    /* matches: weir_match_found tells them, then weir_match_end */
};

int32_t weir_match_row(struct weir_rule_run *run, struct weir_match *match, uint32_t mask);
int32_t weir_match_answer(struct weir_rule_run *run, struct weir_match *match, int32_t yes);
/* The end of within: at_us is its last moment. */
int32_t weir_match_over(struct weir_rule_run *run, struct weir_match *match, int64_t at_us);
/* What the run asked about took, into the fields that are told; which of the key's runs it is, or -1 on errors. */
int32_t weir_match_taken(struct weir_rule_run *run, struct weir_match *match);
/* The next match; 0: no more; -1 on errors. */
int32_t weir_match_found(struct weir_rule_run *run, struct weir_match *match);
int32_t weir_match_end(struct weir_rule_run *run, struct weir_match *match);
