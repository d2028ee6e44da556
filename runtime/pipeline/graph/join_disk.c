/* Joins whose rows need not all fit memory. What comes while some are on disk is queued: of its
 * rows as many as bring in no more than is good are needed, fed when that is there, and done with
 * before the next. So the join waits where it is, and nothing that came later overtakes. */
#include <stdlib.h>

#include "pipeline/graph/join.h"
#include "pipeline/graph/kept_flow.h"
#include "state/table.h"

struct join_queued {
    struct join_queued *next;
    struct kept_flow kept;
    int side;
    int32_t at;    /* rows before it were fed */
    int32_t count; /* those from it on that were needed; 0: none were */
};

int join_queue(struct join *join, int side, const struct weir_flow *flow, struct weir_error *err) {
    struct join_queued *queued = calloc(1, sizeof(*queued));
    if (queued == NULL || flow_keep(&queued->kept, flow) != WEIR_OK) {
        free(queued);
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", join->label);
    }
    queued->side = side;
    struct join_queued **end = &join->queue;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = queued;
    return WEIR_OK;
}

static void drop_first(struct join *join) {
    struct join_queued *next = join->queue->next;
    flow_let_go(&join->queue->kept);
    free(join->queue);
    join->queue = next;
}

void join_queue_fini(struct join *join) {
    while (join->queue != NULL) {
        drop_first(join);
    }
}

static void set_waits(struct join *join, bool waits) {
    join->node->graph->held += waits - join->waits;
    join->waits = waits;
}

static struct weir_flow rest_of(const struct join_queued *queued) {
    struct weir_flow flow = queued->kept.flow;
    flow.sel += queued->at;
    flow.count -= queued->at;
    return flow;
}

/* What rows fed before needed makes room, then the next are needed. */
static int need(struct join *join, struct join_queued *queued, struct weir_error *err) {
    struct weir_flow flow = rest_of(queued);
    bool crowded;
    bool waits = false;
    int rc = join->kind->disk->make_room(join->op, &crowded, err); /* if it is, so it stays */
    rc = rc == WEIR_OK ? join->kind->disk->need(join->op, queued->side, &flow, &waits, err) : rc;
    if (rc == WEIR_OK) {
        queued->count = flow.count;
        set_waits(join, waits);
    }
    return rc;
}

static int feed(struct join *join, struct join_queued *queued, struct weir_error *err) {
    struct weir_flow flow = rest_of(queued);
    bool first = queued->at == 0;
    bool last = flow.count == queued->count;
    flow.count = queued->count;
    queued->at += queued->count;
    queued->count = 0;
    int rc = join_begin(join, queued->side, &flow, first, err);
    if (rc == WEIR_OK && last) {
        join_reach(join, queued->side, flow.watermark_us);
        drop_first(join);
    }
    return rc;
}

int join_next(struct join *join, struct weir_error *err) {
    struct join_queued *queued = join->queue;
    int rc = WEIR_OK;
    if (queued->kept.flow.batch == NULL) {
        join_reach(join, queued->side, queued->kept.flow.watermark_us);
        drop_first(join);
        return WEIR_OK;
    }
    if (queued->count == 0) {
        rc = need(join, queued, err);
    }
    return rc == WEIR_OK && !join->waits ? feed(join, queued, err) : rc;
}

/* --- of a node ---------------------------------------------------------------------------------
 */

bool join_may_wait(const struct weir_node *node, int32_t i) {
    return node->join[i].kind->disk != NULL;
}

bool join_waits(const struct weir_node *node) {
    bool waits = false;
    for (int32_t i = 0; i < node->join_count; i++) {
        waits |= node->join[i].waits;
    }
    return waits;
}

int join_bring(struct weir_node *node, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < node->join_count; i++) {
        struct join *join = &node->join[i];
        bool done = false;
        rc = join->waits ? join->kind->disk->bring(join->op, &done, err) : WEIR_OK;
        if (done) {
            set_waits(join, false);
        }
    }
    return rc;
}

/* Rows at hand are known by where they lie. */
static bool is_idle(const struct join *join) {
    return join->kind->disk != NULL && join->fed == NULL && join->queue == NULL;
}

int join_make_room(struct weir_node *node, bool *crowded, struct weir_error *err) {
    int rc = WEIR_OK;
    *crowded = false;
    for (int32_t i = 0; rc == WEIR_OK && i < node->join_count; i++) {
        const struct join *join = &node->join[i];
        bool this_one = false;
        rc = is_idle(join) ? join->kind->disk->make_room(join->op, &this_one, err) : WEIR_OK;
        *crowded |= this_one;
    }
    return rc;
}

bool join_on_disk(const struct weir_node *node, int32_t *index, const char **name,
                  struct weir_table_disk_figures *out) {
    for (int32_t i = 0; i < node->join_count; i++) {
        const struct join *join = &node->join[i];
        if (join->kind->disk != NULL && (*index)-- == 0) {
            *name = join->label;
            *out = join->kind->disk->figures(join->op);
            return true;
        }
    }
    return false;
}
