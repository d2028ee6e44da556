#pragma once
/* What was answered to commands, by the number of the command's event: written by the loop with the
 * epoch the command was in, seen by others once that epoch is durable. A cell of state, so that a
 * repeated command hears the same reply after a crash. The oldest are forgotten: past their age, or
 * when there are more bytes than fit.
 *
 * Image of a reply: PUT, sequence and key its number (8 bytes), value u16 status, i64 time, body.
 */
#include "state/cell.h"

struct weir_replies;

enum { WEIR_REPLY_BYTES_MAX = 1 << 20 }; /* one body */

struct weir_replies_options {
    const char *cell; /* its name; copied */
    int64_t keep_us;
    size_t bytes_max;
};

struct weir_replies *weir_replies_create(const struct weir_replies_options *options);
void weir_replies_destroy(struct weir_replies *replies);

/* --- the loop's thread ---------------------------------------------------------------------- */

struct weir_cell *weir_replies_cell(struct weir_replies *replies);
/* Numbers come in ascending order; one that is there already stays as it is. */
int weir_replies_put(struct weir_replies *replies, uint64_t number, int status, const void *body,
                     size_t size, int64_t clock_us, uint64_t epoch) WEIR_MUST_CHECK;
/* All that was applied is of durable epochs. */
void weir_replies_restored(struct weir_replies *replies, uint64_t epoch);

/* --- any thread ----------------------------------------------------------------------------- */

void weir_replies_durable(struct weir_replies *replies, uint64_t epoch);

enum weir_reply { WEIR_REPLY_NONE, WEIR_REPLY_FOUND, WEIR_REPLY_FORGOTTEN };
/* FOUND: the body is appended to `body`. NONE also while its epoch is not durable. */
int weir_replies_find(struct weir_replies *replies, uint64_t number, enum weir_reply *found,
                      int *status, struct weir_buffer *body) WEIR_MUST_CHECK;

/* `more` hears, on the committer's thread, that replies became durable; it must not block. NULL:
 * nobody; waits for a call that is running. */
void weir_replies_listen(struct weir_replies *replies, void (*more)(void *context), void *context);

struct weir_replies_figures {
    uint64_t kept;
    uint64_t bytes;
    uint64_t forgotten; /* by this process */
};
void weir_replies_figures(struct weir_replies *replies, struct weir_replies_figures *out);
