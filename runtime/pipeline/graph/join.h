#pragma once
/* Private to the joins of streams: what all kinds share (join.c) and what each does
 * (join_interval.c, join_temporal.c, join_regular.c). */
#include <string.h>

#include "operator/join/join.h"
#include "pipeline/graph/node.h"

enum { JOIN_PIECE_ROWS = 2048, JOIN_ALONE_ROWS = 512, JOIN_EXPIRE_LEAST = 1024 };

struct join;
struct join_queued;

/* A kind of join. `op` is its operator. Steps go on where they stopped until *done, about a piece
 * each; a kind sends what leaves on by join_go_on. */
struct join_kind {
    int (*make)(struct join *join, const int32_t *left_on, const int32_t *right_on,
                struct weir_error *err);
    void (*destroy)(void *op);
    /* Rows come, to be kept in join->fed while they are worked on; watermarks follow. */
    int (*feed)(struct join *join, int side, const struct weir_flow *flow, struct weir_error *err);
    int (*step)(struct join *join, bool *done, struct weir_error *err);
    int64_t (*watermark)(const struct join *join);
    void (*set_watermarks)(void *op, int64_t left_us, int64_t right_us);
    struct weir_cell *(*cell)(void *op, int side);
    int (*restore)(void *op, struct weir_error *err);
    uint64_t (*shape)(const void *op);
    void (*follow)(void *op, void *as); /* operator/join/join.h */
    size_t (*estimate)(const void *op, int side);
    void (*show)(void *op, int side, struct weir_show *show);
    const struct join_disk *disk; /* NULL: all of it stays in memory */
};

/* Of a kind whose rows may wait on disk; op as above. */
struct join_disk {
    bool (*uses)(const void *op);
    /* What the rows of a flow need that are fed next, flow->count lessened to them. */
    int (*need)(void *op, int side, struct weir_flow *flow, bool *waits, struct weir_error *err);
    int (*bring)(void *op, bool *done, struct weir_error *err);
    int (*make_room)(void *op, bool *crowded, struct weir_error *err);
    struct weir_table_disk_figures (*figures)(const void *op);
};

extern const struct join_kind join_interval; /* and window */
extern const struct join_kind join_temporal;
extern const struct join_kind join_regular;

struct join {
    struct weir_node *node;
    struct join *next; /* its rows are the left ones of that; NULL: they go to map */
    const struct join_kind *kind;
    const struct weir_plan_join *plan;
    char *label; /* what its state and errors go by: the stream, of a later one and it */
    struct lookups *lookups; /* for its left rows, before they meet any; or NULL */
    bool firing;             /* some of what was begun is left */
    void *op;
    struct weir_dataset *right;
    struct weir_dataset *late[2];
    int32_t *kept[2]; /* columns of the left input and of the right dataset */
    int32_t kept_count[2];
    struct weir_schema *schemas[2]; /* of the kept left columns; of the struct alone */
    struct weir_schema *flat;       /* of the kept right columns */
    struct weir_batch_builder builders[2];
    bool has_builder[2];
    bool counts_unmatched;
    bool settled;    /* the operator knows the watermarks that were recorded */
    int64_t emitted; /* watermark passed on */
    /* What is being done. */
    struct weir_batch *fed;
    int fed_side;
    int32_t fed_rows;
    int64_t ahead[2];          /* watermarks, once the rows fed are done with */
    void *work;                /* the kind's own */
    struct join_queued *queue; /* join_disk.c: what came and is not fed yet */
    bool waits;                /* for rows on disk that it needs */
    struct weir_row *rows[JOIN_PIECE_ROWS];
    int32_t sel[ROWS_MAX];
    int64_t times[ROWS_MAX];
    int64_t before[ROWS_MAX];
};

static inline enum weir_join_kind join_rows_of(const struct weir_plan_join *plan) {
    static const char *const kinds[] = {"inner", "left", "right", "full", "semi", "anti"};
    int kind = 0;
    while (kind < WEIR_JOIN_ANTI && strcmp(plan->kind, kinds[kind]) != 0) {
        kind++;
    }
    return (enum weir_join_kind)kind;
}

/* Sets the error of a full pool or builder. */
int join_full(const struct join *join, int rc, struct weir_error *err);
/* Rows of a side that came too late, to where they go. */
int join_late(struct join *join, int side, struct weir_batch *batch, const int32_t *sel,
              int32_t count, struct weir_error *err) WEIR_MUST_CHECK;
/* A batch of the stream's columns, all of them null but those of `side` (-1: of both), which are
 * still to be put in. NULL without memory. */
struct weir_batch *join_batch(struct join *join, int side, int32_t count);
/* join->sel[0..count) of the batch fed, as columns of `out`. */
int join_put_fed(struct join *join, struct weir_batch *out, int32_t count) WEIR_MUST_CHECK;
/* The builder of a side's kept columns begins, and what it has become columns of `out`. In between
 * append to *columns and finish each row. */
int join_begin_kept(struct join *join, int side, int32_t count,
                    struct weir_column_builder **columns) WEIR_MUST_CHECK;
int join_finish_row(struct join *join, int side, int rc) WEIR_MUST_CHECK;
int join_end_kept(struct join *join, struct weir_batch *out, int side, int rc) WEIR_MUST_CHECK;
/* join_beside.c. The struct in a column into the plain columns from `beside` on (-1: there are
 * none), and the structs of all that is written before a join out of theirs. */
int beside_spread(struct weir_node *node, int32_t column, int32_t beside,
                  struct weir_batch *batch) WEIR_MUST_CHECK;
void beside_gather(const struct join *join, struct weir_batch *batch);
/* join_disk.c. Something comes: rows, or (batch NULL) a watermark. Then, when nothing fed is left,
 * the next of it is fed: what it takes at once. */
int join_queue(struct join *join, int side, const struct weir_flow *flow,
               struct weir_error *err) WEIR_MUST_CHECK;
int join_next(struct join *join, struct weir_error *err) WEIR_MUST_CHECK;
void join_queue_fini(struct join *join);
/* join.c. What join_feed and join_advance do when nothing is in the way. first: else the rows go on
 * with a batch. */
int join_begin(struct join *join, int side, const struct weir_flow *flow, bool first,
               struct weir_error *err) WEIR_MUST_CHECK;
void join_reach(struct join *join, int side, int64_t watermark_us);
/* The batch fed is done with. */
void join_fed_done(struct join *join);
/* join->sel[0..count) of `out`, rows of the times and the watermarks before in join, go on to the
 * next join, or to map. */
int join_go_on(struct join *join, struct weir_batch *out, int32_t count,
               struct weir_error *err) WEIR_MUST_CHECK;
