#pragma once
/* Private to top: the rows of groups where some may be taken back. The nth may come to be among the
 * first when one before it goes, so all are kept, each in a slot of its own: an epoch logs the rows
 * that came and went, not the groups. Beside the slots lies the order, a treap a group that knows
 * how many rows are below each (randomized search trees, Seidel and Aragon 1996): a row's place is
 * found, and a row put in or out, in a number of steps that grows with the logarithm of the group.
 * It is made again from the slots after a restart.
 *
 * Rows of a group go by their order, then by their columns as bytes: two that are the same are one
 * slot with a count, so what a group comes to is no matter of when rows came.
 *
 * State: cell "top", a slot a group as top's (its value: one byte, 1, once its window's rows have
 * left); cell "ranked", a slot a row: u32 bytes of the group's key, u32 of the order, u32 of the
 * order's part in which rows are equal, the three, the columns (operator/key.h); its value u32 how
 * many there are. */
#include "operator/show.h"
#include "operator/top/top_private.h"

enum { WEIR_RANKS_GROUP_BYTES = 8 };
extern const struct weir_table_codec weir_ranks_codec; /* of groups */

struct weir_ranks *weir_ranks_create(struct weir_top *top, struct weir_error *err);
void weir_ranks_destroy(struct weir_ranks *ranks);
size_t weir_ranks_bytes(const struct weir_ranks *ranks); /* NULL: none */
struct weir_cell *weir_ranks_cell(struct weir_ranks *ranks);
int32_t weir_ranks_shows(struct weir_top *top, struct weir_show *shows, int32_t capacity);
int weir_ranks_restore(struct weir_top *top, struct weir_error *err) WEIR_MUST_CHECK;

/* top->rows[0..taken), whose groups are top->slots. */
int weir_ranks_feed(struct weir_top *top, const struct weir_top_rows *rows, int32_t taken,
                    struct weir_error *err) WEIR_MUST_CHECK;
/* What became of a group since it was noted: all of it, or nothing and *full. A group without rows
 * goes, but with its window where it has one. */
int weir_ranks_leave(struct weir_top *top, const struct touched *touched, struct weir_slot *slot,
                     struct weir_batch_builder *out, int32_t max_rows, int64_t *times_us,
                     bool *full, struct weir_error *err) WEIR_MUST_CHECK;
/* The first rows of a group whose window is over leave, unless they have as changes; then it is
 * forgotten, *work rows of it. *gone: with its slot; else come again with a builder that is empty.
 */
int weir_ranks_fire(struct weir_top *top, struct weir_slot *slot, struct weir_batch_builder *out,
                    int32_t max_rows, int32_t *work, bool *gone,
                    struct weir_error *err) WEIR_MUST_CHECK;

/* --- of ranks.c, for ranks_leave.c --------------------------------------------------------------
 */

struct weir_ranked { /* a row, in its slot */
    const uint8_t *order;
    const uint8_t *columns;
    uint32_t order_bytes;
    uint32_t tied_bytes; /* first of the order */
    uint32_t column_bytes;
    uint32_t copies;
};

struct weir_ranked weir_ranks_row(const struct weir_ranks *ranks, uint32_t number);
uint32_t weir_ranks_root(const struct weir_top *top, struct weir_slot *group);
void weir_ranks_below(const struct weir_ranks *ranks, uint32_t number, uint32_t *left,
                      uint32_t *right);
/* Up to *work rows of the group go. */
int weir_ranks_empty(struct weir_top *top, struct weir_slot *group, int32_t *work,
                     struct weir_error *err) WEIR_MUST_CHECK;
bool weir_ranks_have_left(const struct weir_top *top, struct weir_slot *group);
int weir_ranks_set_left(struct weir_top *top, struct weir_slot *group,
                        struct weir_error *err) WEIR_MUST_CHECK;
/* Appends the first rows of a group, as they are, to a buffer (struct shown of ranks_leave.c). */
int weir_ranks_draw(struct weir_top *top, uint32_t root, struct weir_buffer *out, int32_t *count,
                    struct weir_error *err) WEIR_MUST_CHECK;
