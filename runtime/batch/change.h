#pragma once
/* Changelogs: what a row of one does to the row of its key, in the int8 column `_change`. A −U
 * takes back the old row where it is known; the +U that follows is the new one. A source that knows
 * only the new row (Debezium) gives +U alone, which replaces by key. */
#include "batch/batch.h"

#define WEIR_CHANGE_COLUMN "_change"
/* Beside it, list<string>: the columns a +U leaves out (null in the row), which keep their value.
 */
#define WEIR_UNAVAILABLE_COLUMN "_unavailable"

enum weir_change {
    WEIR_CHANGE_INSERT = 0, /* +I */
    WEIR_CHANGE_BEFORE = 1, /* −U */
    WEIR_CHANGE_AFTER = 2,  /* +U */
    WEIR_CHANGE_DELETE = 3, /* −D; only key columns can be trusted */
    /* every row before it is gone; of the row itself nothing counts (its key is zero or empty) */
    WEIR_CHANGE_TRUNCATE = 4,
};

/* What a row of an integer column of changes says; null is an insert. */
static inline int64_t weir_change_read(const struct weir_column *column, int32_t row) {
    return weir_column_is_null(column, row) ? WEIR_CHANGE_INSERT : weir_column_int(column, row);
}

/* The row is no new one: it is not judged, and passes. */
static inline bool weir_change_takes_back(int64_t change) {
    return (change & 1) != 0 || change == WEIR_CHANGE_TRUNCATE;
}

/* Does an update say nothing of the column called `name`? unavailable: the column of those it
 * leaves out; -1: it leaves out none. */
bool weir_change_leaves_out(const struct weir_batch *batch, int32_t unavailable, int32_t row,
                            const char *name);
