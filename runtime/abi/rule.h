/* What the generated loop of a `rule` calls (operator/rule/rule_state.c, operator/rule/rule_run.c). A run is one call: rows and timers
 * come one after the other from weir_rule_next; what the rule does to the state of the item's key, the timers it sets and the
 * rows it emits are kept when the next item is asked for, and undone when the call ends in a throw.
 *
 * A record of a cell: i64 event time of the row that wrote it; one byte a field, 1 when it is not null, padded to 8;
 * then the fields: 8 bytes an integer (bool, date, times too) or double, 16 a decimal, 8 a text (pointer to weir_rule_text). */

struct weir_rule_run {
    struct weir_column *in;      /* columns of the item's row */
    struct weir_column *key;     /* of a timer: the key's columns, one row */
    int64_t time_us;             /* event time of the item; of a clock timer: how far event time is */
    int64_t at_us;               /* of a timer: when it was set for */
    int64_t lo;                  /* results of weir_rule_fold */
    int64_t hi;
    double number;
    int32_t row;                 /* of `in` */
    int32_t position;            /* items so far */
    const uint8_t *old;          /* the image of the key's state, of an older layout, with migrates */
    const char *old_layout;      /* that layout, JSON */
    int64_t old_version;
    int32_t migrates;            /* 1: the item's state was written by another version, and its functions are to run */
};

struct weir_rule_text {
    int32_t length;
    char bytes[4];               /* length of them */
};

enum weir_rule_fold_kind {
    WEIR_RULE_FOLD_COUNT = 0,
    WEIR_RULE_FOLD_SUM = 1,
    WEIR_RULE_FOLD_MIN = 2,
    WEIR_RULE_FOLD_MAX = 3,
    WEIR_RULE_FOLD_DISTINCT = 4
};

/* 0: no more; 1: a row; 2 + n: timer n is due; -1: a key whose state is to be migrated, no more. */
int32_t weir_rule_next(struct weir_rule_run *run);
/* Why the last call returned NULL, -1 or an error code. */
const char *weir_rule_error(struct weir_rule_run *run);
int32_t weir_rule_count(struct weir_rule_run *run, int32_t cell);
/* Entry from 0, the oldest; NULL: none. */
uint8_t *weir_rule_at(struct weir_rule_run *run, int32_t cell, int32_t index);
/* A value's or counter's record, to be written; its texts are the old ones. NULL on errors. */
uint8_t *weir_rule_set(struct weir_rule_run *run, int32_t cell);
/* A ring's or list's new record, all null. */
uint8_t *weir_rule_push(struct weir_rule_run *run, int32_t cell);
/* Where the key of the next get, put or remove is written. */
uint8_t *weir_rule_key(struct weir_rule_run *run, int32_t cell);
uint8_t *weir_rule_get(struct weir_rule_run *run, int32_t cell);
uint8_t *weir_rule_put(struct weir_rule_run *run, int32_t cell);
int32_t weir_rule_remove(struct weir_rule_run *run, int32_t cell);   /* by key: 1 there was one, -1 error */
int32_t weir_rule_remove_at(struct weir_rule_run *run, int32_t cell, int32_t index);
/* Into a field of a record to be written, or of a key. */
int32_t weir_rule_set_text(struct weir_rule_run *run, uint8_t *field, const char *bytes, int64_t length);
int32_t weir_rule_clear(struct weir_rule_run *run, int32_t cell);    /* -1: all of the key */
/* The value in weir_rule_key's record counts. */
int32_t weir_rule_sketch_add(struct weir_rule_run *run, int32_t cell);
double weir_rule_sketch_count(struct weir_rule_run *run, int32_t cell);
/* Entries whose event time is less than window_us before the item's (window_us < 0: all). 0: of nothing; 1: in lo, hi or number;
 * 2: MIN, MAX of a text, lo is its address; -1: out of range. */
int32_t weir_rule_fold(struct weir_rule_run *run, int32_t cell, int32_t field, int32_t kind, int64_t window_us);
int32_t weir_rule_timer(struct weir_rule_run *run, int32_t timer, int64_t at_us, int32_t clock);
int32_t weir_rule_cancel(struct weir_rule_run *run, int32_t timer);
/* Row of the target's columns to be filled; -1 on errors. */
int32_t weir_rule_emit(struct weir_rule_run *run, int32_t target);
/* The row is refused, and why: what was done for it is undone. actual >= 0: of another version than it expected. */
int32_t weir_rule_reject(struct weir_rule_run *run, const char *why, int64_t length, int64_t actual);
/* The version the row made. */
void weir_rule_version(struct weir_rule_run *run, int64_t version);
struct weir_call *weir_rule_target(struct weir_rule_run *run, int32_t target);
