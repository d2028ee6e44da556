#pragma once
/* What the files of a pattern's matcher share. Its runs are cells of a rule (abi/match.h); here
 * they are read once an item, changed, and written back where they differ. */
#include "operator/rule/rule_private.h"

enum { MATCH_RUNS_MAX = 1000, MATCH_ROWS_MAX = 10000 }; /* of a key */
enum { MATCH_RUNS, MATCH_TAKEN, MATCH_PATHS, MATCH_ROWS };
enum { RUN_STEP, RUN_COUNT, RUN_SINCE, RUN_START, RUN_LAST, RUN_GAP };

/* How the row at hand lengthens a path. */
enum match_join { JOIN_NOT, JOIN_SAME_STEP, JOIN_NEW_STEP };

struct match_run {
    int32_t place;  /* of the step it stands at */
    int32_t count;  /* rows that step took */
    int32_t slot;   /* among those kept; -1: it is not among them */
    bool gap;       /* a row was let pass since the last it took */
    bool changed;   /* otherwise than as it is kept */
    uint32_t known; /* conditions that were asked of it, and their answers */
    uint32_t yes;
    int64_t since_us;
    int64_t start; /* numbers of the first and last row it took */
    int64_t last;
    int64_t ended_us;
    const struct weir_rule_text *path; /* before the row at hand; NULL: empty */
    enum match_join join;
};

struct match_runs {
    struct match_run *list;
    int32_t count;
    int32_t room;
};

struct match_path { /* a run's, taken apart */
    int32_t *places;
    int64_t *rows; /* numbers */
    int32_t count;
    int32_t room;
};

struct rule_match { /* of the item at hand; what it allocates stays for the next */
    struct weir_rule_state *state;
    struct weir_match *spec;
    struct match_runs runs; /* as they were kept */
    struct match_runs took; /* those that took the row */
    struct match_runs on;   /* those that go on */
    struct match_runs found;
    struct match_path path;
    struct match_path other;
    int32_t *places; /* what abi/match.h is told */
    int32_t *rows;
    int32_t told_room;
    int32_t *free_slots;
    int32_t free_room;
    struct match_run fresh; /* of what begins here: it has taken nothing */
    int32_t held;           /* kept, with those whose step is gone */
    int32_t at;             /* the run whose turn it is; `runs.count`: the fresh one */
    int32_t took_before;    /* before its turn */
    int32_t told;           /* of found */
    uint32_t mask;
    bool changed; /* a run ended or let a row pass that matters */
    bool of_row;  /* else of a timer */
    bool failed;  /* no memory, where it cannot be said at once */
};

/* match_path.c */
bool match_room(struct rule_match *match, void **list, int32_t *room, int32_t count, size_t size);
const char *match_path_text(const struct match_run *run);
/* The path as bytes of a record's text, into `to`; NULL: how many they are. */
size_t match_path_write(const struct rule_match *match, const struct match_run *run, char *to);
bool match_path_read(struct rule_match *match, const struct match_run *run, struct match_path *to);
/* Which of two matches goes first: that which began first, the longer, that of earlier rows, that
 * whose earlier steps took more. */
int match_order(const void *a, const void *b, void *match);
/* The number of the first row the next match may begin with. */
int64_t match_resumes(struct rule_match *match, const struct match_run *run);
/* Of the run, into the fields of abi/match.h that are told. */
bool match_tell(struct rule_match *match, const struct match_run *run);

/* match_write.c: the runs that go on, where they differ from those kept; enum weir_match_next. */
int32_t match_write(struct rule_match *match);
