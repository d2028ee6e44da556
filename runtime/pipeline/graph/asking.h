#pragma once
/* Private to lookup.c, held.c and the graph: one asynchronous lookup of a stream (asking.c). All on
 * the loop thread; requests go through core/http_many. */
#include "batch/builder.h"
#include "commit/record.h"
#include "pipeline/graph/graph.h"

struct asking;
struct weir_key;
struct weir_node;

enum asking_outcome { ASKING_FOUND, ASKING_NOTHING, ASKING_FAILED };

struct asking_row {
    enum asking_outcome outcome;
    const char *why; /* of a failure; borrowed until the next answers */
    int why_size;
};

/* All borrowed; `on` are the input's columns by position of the key. */
int asking_create(struct weir_node *node, const struct weir_plan_lookup *plan, const int32_t *on,
                  const struct weir_key *key, struct asking **out,
                  struct weir_error *err) WEIR_MUST_CHECK;
void asking_destroy(struct asking *asking);
struct weir_cell *asking_cell(struct asking *asking);
struct weir_show;
void asking_show(struct asking *asking, struct weir_show *show);
/* The answers `from` has go on in `to`, where the same is asked of the same service. */
void asking_take_state(struct asking *to, struct asking *from);
/* Asks for the keys of these rows that have no answer; those there are are taken at once in replay
 * and specs. slots (or NULL): by row, where its answer is, good while any is waited for; 0: none
 * is asked for. */
int asking_begin(struct asking *asking, const struct weir_batch *batch, const int32_t *sel,
                 int32_t count, uint32_t *slots, struct weir_error *err) WEIR_MUST_CHECK;
/* Of a slot: whether its answer is still to come. How many answers came at all. */
bool asking_pending(struct asking *asking, uint32_t slot);
int64_t asking_told(const struct asking *asking);
bool asking_unordered(const struct asking *asking); /* the rules say so */
/* Takes the answers that came. */
int asking_take(struct asking *asking, struct weir_error *err) WEIR_MUST_CHECK;
bool asking_waits(const struct asking *asking);
/* Appends what was answered, a value a row of the batch; rows by position of sel. Only after
 * asking_begin for these rows, with nothing waited for. */
int asking_find(struct asking *asking, const struct weir_batch *batch, const int32_t *sel,
                int32_t count, struct weir_column_builder *to,
                struct asking_row *rows) WEIR_MUST_CHECK;
/* For replay: images of the epoch's record, of any cell. */
int asking_record(struct asking *asking, struct weir_span cell, struct weir_span bytes,
                  struct weir_error *err) WEIR_MUST_CHECK;
/* For specs: what is answered for a key, as JSON; with `fails` the reason instead. */
int asking_give(struct asking *asking, const char *key, const char *answer, bool fails,
                struct weir_error *err) WEIR_MUST_CHECK;
void asking_figures(struct asking *asking, struct weir_asked *out);
