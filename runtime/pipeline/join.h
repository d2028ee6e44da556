#pragma once
/* Private to the joins of streams: what all kinds share (join.c) and what each does
 * (join_interval.c, join_temporal.c, join_regular.c). */
#include <string.h>

#include "operator/join.h"
#include "pipeline/node.h"

enum { JOIN_PIECE_ROWS = 2048, JOIN_ALONE_ROWS = 512, JOIN_EXPIRE_LEAST = 1024 };

struct join;

/* A kind of join. `op` is its operator. Steps go on where they stopped until *done, about a piece
 * each; a kind sends what leaves on by join_go_on. */
struct join_kind {
    int (*make)(struct weir_node *node, const int32_t *left_on, const int32_t *right_on,
                struct weir_error *err);
    void (*destroy)(void *op);
    /* Rows come, to be kept in join->fed while they are worked on; watermarks follow. */
    int (*feed)(struct weir_node *node, int side, const struct weir_flow *flow,
                struct weir_error *err);
    int (*step)(struct weir_node *node, bool *done, struct weir_error *err);
    int64_t (*watermark)(const struct join *join);
    void (*set_watermarks)(void *op, int64_t left_us, int64_t right_us);
    struct weir_cell *(*cell)(void *op, int side);
    int (*restore)(void *op, struct weir_error *err);
    uint64_t (*shape)(const void *op);
    size_t (*estimate)(const void *op, int side);
    void (*show)(void *op, int side, struct weir_show *show);
};

extern const struct join_kind join_interval; /* and window */
extern const struct join_kind join_temporal;
extern const struct join_kind join_regular;

struct join {
    const struct join_kind *kind;
    const struct weir_plan_join *plan;
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
    int64_t ahead[2]; /* watermarks, once the rows fed are done with */
    void *work;       /* the kind's own */
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
int join_full(const struct weir_node *node, int rc, struct weir_error *err);
/* Rows of a side that came too late, to where they go. */
int join_late(struct weir_node *node, int side, struct weir_batch *batch, const int32_t *sel,
              int32_t count, struct weir_error *err) WEIR_MUST_CHECK;
/* A batch of the stream's columns, all of them null but those of `side` (-1: of both), which are
 * still to be put in. NULL without memory. */
struct weir_batch *join_batch(struct weir_node *node, int side, int32_t count);
/* join->sel[0..count) of the batch fed, as columns of `out`. */
int join_put_fed(struct weir_node *node, struct weir_batch *out, int32_t count) WEIR_MUST_CHECK;
/* The builder of a side's kept columns begins, and what it has become columns of `out`. In between
 * append to *columns and finish each row. */
int join_begin_kept(struct weir_node *node, int side, int32_t count,
                    struct weir_column_builder **columns) WEIR_MUST_CHECK;
int join_finish_row(struct weir_node *node, int side, int rc) WEIR_MUST_CHECK;
int join_end_kept(struct weir_node *node, struct weir_batch *out, int side, int rc) WEIR_MUST_CHECK;
/* The batch fed is done with. */
void join_fed_done(struct weir_node *node);
/* join->sel[0..count) of `out`, rows of the times and the watermarks before in join, go on to map.
 */
int join_go_on(struct weir_node *node, struct weir_batch *out, int32_t count,
               struct weir_error *err) WEIR_MUST_CHECK;
