#pragma once
/* Changelogs: what a row of one does to the row of its key, in the int8 column `_change`. A −U
 * takes back the old row where it is known; the +U that follows is the new one. A source that knows
 * only the new row (Debezium) gives +U alone, which replaces by key. */
#define WEIR_CHANGE_COLUMN "_change"
/* Beside it, list<string>: the columns a +U leaves out (null in the row), which keep their value.
 */
#define WEIR_UNAVAILABLE_COLUMN "_unavailable"

enum weir_change {
    WEIR_CHANGE_INSERT = 0, /* +I */
    WEIR_CHANGE_BEFORE = 1, /* −U */
    WEIR_CHANGE_AFTER = 2,  /* +U */
    WEIR_CHANGE_DELETE = 3, /* −D; only key columns can be trusted */
};
