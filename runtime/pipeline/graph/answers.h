#pragma once
/* What an asynchronous lookup was told, by key: the JSON text as it came and until when it holds,
 * in the images of the epoch in which it came. So what is committed is never asked twice, and a
 * replay takes the answers from the record.
 *
 * An answer holds for `cache` of the recorded clock, and in any case to the end of the epoch it
 * came in; which answers go when there are too many is by their age. All of that is a function of
 * the state alone. Loop thread. */
#include "state/table.h"

enum answer_status {
    ANSWER_PENDING = 0,
    ANSWER_FOUND = 'f',
    ANSWER_NOTHING = 'n',
    ANSWER_FAILED = 'e'
};

struct answer {
    uint8_t *text; /* of the table's heap; of ANSWER_FAILED: why */
    size_t size;
    int64_t until_us;
    uint8_t status;
};

struct answers { /* stays where it is when a reload hands it on: the table's codec points to it */
    struct weir_table *table;
};

/* Answers to `lookup` of a declaration, by keys of a shape; another shape is another cell, since
 * answers are only a cache. */
int answers_create(const char *declaration, const char *lookup, uint64_t shape, size_t max_bytes,
                   struct answers **out, struct weir_error *err) WEIR_MUST_CHECK;
void answers_destroy(struct answers *answers); /* NULL is fine */
/* An answer's image, whose text is borrowed; false: it is none. */
bool answers_read(const uint8_t *bytes, size_t length, struct answer *out);
/* Copies the text. The slot was touched. */
int answers_set(struct answers *answers, struct answer *answer, enum answer_status status,
                int64_t until_us, const void *text, size_t size,
                struct weir_error *err) WEIR_MUST_CHECK;
bool answers_hold(const struct answers *answers, struct weir_slot *slot, int64_t clock_us);
/* Above `most` and an eighth: those that hold no more go, then the oldest, never one of this
 * epoch. WEIR_E_NOMEM. */
int answers_make_room(struct answers *answers, int64_t clock_us, int64_t most) WEIR_MUST_CHECK;
