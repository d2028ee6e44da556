/* Rows that wait for answers from outside within a stream: as they entered it, one an element where
 * it explodes, or behind one of its joins. So what is found before is there to be asked by, and
 * what comes after finds all answered.
 *
 * In order, the flows of a place wait in a queue, and the loop takes in nothing else. Out of order
 * (`ordered = false` of all that are asked there) rows leave as they are answered, while more come:
 * never behind a watermark they came before, since that waits for them. Which rows left when is
 * recorded, each release a message of the schedule: a replay lets the same go at the same point.
 * Either way no epoch ends while any wait. */
#include <stdlib.h>
#include <string.h>

#include "pipeline/graph/asking.h"
#include "pipeline/graph/join.h"
#include "pipeline/graph/kept_flow.h"
#include "pipeline/graph/node.h"
#include "state/image.h"

enum { ASKERS_MAX = 64, RELEASE_ROWS = 512, RELEASE_BYTES = 1 << 16 };

struct parked {
    struct parked *next;
    struct kept_flow kept;
    int32_t left;     /* rows that still wait: kept.sel[0..left) */
    uint32_t slots[]; /* by asker, left a row: where its answer will be; 0: nobody is asked */
};

struct waiting {
    struct weir_node *node;
    int32_t place; /* 0: as they entered; k: behind the k-th join */
    struct lookups *inside;
    struct lookups *behind;
    struct asking *askers[ASKERS_MAX];
    int32_t asker_count;
    bool unordered;
    bool fresh; /* some may be ready: rows came, or answers */
    struct parked *first;
    struct parked **end; /* where the next one goes */
    int64_t passed;      /* the watermark that went on */
    int64_t told;        /* answers that were looked at */
    uint8_t message[RELEASE_BYTES];
};

/* --- life --------------------------------------------------------------------------------- */

/* The first one leaves the queue. */
static struct parked *take_first(struct waiting *w) {
    struct parked *parked = w->first;
    w->first = parked->next;
    w->end = w->first != NULL ? w->end : &w->first;
    return parked;
}

static void parked_free(struct parked *parked) {
    flow_let_go(&parked->kept);
    free(parked);
}

void waiting_fini(struct weir_node *node) {
    for (int32_t p = 0; node->waiting != NULL && p <= node->join_count; p++) {
        struct waiting *w = node->waiting[p];
        while (w != NULL && w->first != NULL) {
            parked_free(take_first(w));
        }
        free(w);
    }
    free(node->waiting);
}

static int make(struct weir_node *node, int32_t place, struct lookups *inside,
                struct lookups *behind, struct weir_error *err) {
    struct asking *asker;
    if (lookup_asker(inside, 0) == NULL && lookup_asker(behind, 0) == NULL) {
        return WEIR_OK;
    }
    struct waiting *w = node->waiting[place] = calloc(1, sizeof(*w));
    if (w == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", node->name);
    }
    w->node = node;
    w->place = place;
    w->inside = inside;
    w->behind = behind;
    w->passed = WEIR_WATERMARK_NONE;
    w->end = &w->first;
    w->unordered = true;
    for (int32_t side = 0; side < 2; side++) {
        struct lookups *lookups = side == 0 ? inside : behind;
        for (int32_t k = 0; (asker = lookup_asker(lookups, k)) != NULL; k++) {
            if (w->asker_count == ASKERS_MAX) {
                return weir_error_set(err, WEIR_E_CONFIG, "%s asks more than %d services",
                                      node->name, ASKERS_MAX);
            }
            w->unordered &= asking_unordered(asker);
            w->askers[w->asker_count++] = asker;
        }
    }
    return WEIR_OK;
}

/* A stream that asks as rows come and does nothing else before map holds them itself (held.c), with
 * what its changes were. */
static bool needed(const struct weir_node *node) {
    bool asks = false;
    bool here = node->explode != NULL || node->join_count > 0;
    struct asking *asker;
    for (int32_t k = 0; (asker = lookup_asking(node, k)) != NULL; k++) {
        asks = true;
        here |= asking_unordered(asker);
    }
    return asks && (here || lookup_asker(node->found, 0) != NULL);
}

int waiting_init(struct weir_node *node, struct weir_error *err) {
    int32_t last = node->join_count;
    if (!needed(node)) {
        return WEIR_OK;
    }
    node->waiting = calloc((size_t)last + 1, sizeof(*node->waiting));
    int rc = node->waiting != NULL ? WEIR_OK : weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    for (int32_t p = 0; rc == WEIR_OK && p <= last; p++) {
        rc = make(node, p, p < last ? join_lookups(node, p) : node->found,
                  p < last ? NULL : node->lookups, err);
    }
    return rc;
}

struct waiting *waiting_at(const struct weir_node *node, int32_t place) {
    return node->waiting != NULL ? node->waiting[place] : NULL;
}

/* --- going on ----------------------------------------------------------------------------- */

static int reach(struct waiting *w, int64_t watermark_us, struct weir_error *err) {
    struct weir_node *node = w->node;
    w->passed = watermark_us > w->passed ? watermark_us : w->passed;
    return w->place < node->join_count
               ? join_advance(join_at(node, w->place), WEIR_LEFT, watermark_us, err)
               : node_advance(node, watermark_us, err);
}

static int pass_on(struct waiting *w, const struct weir_flow *flow, struct weir_error *err) {
    struct weir_node *node = w->node;
    if (flow->count == 0) {
        return reach(w, flow->watermark_us, err);
    }
    w->passed = flow->watermark_us > w->passed ? flow->watermark_us : w->passed;
    return w->place == 0                 ? stream_entered(node, flow, err)
           : w->place < node->join_count ? join_enter(join_at(node, w->place), flow, err)
                                         : stream_joined(node, flow, err);
}

/* --- rows come ---------------------------------------------------------------------------- */

static struct parked *park(struct waiting *w, const struct weir_flow *flow) {
    size_t askers = w->unordered ? (size_t)w->asker_count : 0;
    size_t slots = askers * (size_t)flow->count;
    struct parked *parked = calloc(1, sizeof(*parked) + slots * sizeof(*parked->slots));
    if (parked == NULL || flow_keep(&parked->kept, flow) != WEIR_OK) {
        free(parked);
        return NULL;
    }
    parked->left = flow->count;
    *w->end = parked;
    w->end = &parked->next;
    return parked;
}

/* Where what its rows ask the k-th asker for is noted. */
static uint32_t *slots_of(struct parked *parked, int32_t k) {
    return parked->slots + (size_t)k * (size_t)parked->kept.flow.count;
}

static bool any_waits(const struct waiting *w) {
    for (int32_t k = 0; k < w->asker_count; k++) {
        if (asking_waits(w->askers[k])) {
            return true;
        }
    }
    return false;
}

static int come_unordered(struct waiting *w, const struct weir_flow *flow, struct weir_error *err) {
    struct weir_graph *graph = w->node->graph;
    int rc = WEIR_OK;
    if (graph->answers == WEIR_ANSWERS_GIVEN) { /* all are there */
        for (int32_t k = 0; rc == WEIR_OK && k < w->asker_count; k++) {
            rc = asking_begin(w->askers[k], flow->batch, flow->sel, flow->count, NULL, err);
        }
        return rc == WEIR_OK ? pass_on(w, flow, err) : rc;
    }
    struct parked *parked = park(w, flow);
    if (parked == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", w->node->name);
    }
    if (parked == w->first) { /* all before went on */
        int64_t gone = w->place == 0 ? w->node->last_watermark : flow->watermark_us;
        w->passed = gone > w->passed ? gone : w->passed;
    }
    for (int32_t k = 0; rc == WEIR_OK && k < w->asker_count; k++) {
        rc = asking_begin(w->askers[k], flow->batch, flow->sel, flow->count, slots_of(parked, k),
                          err);
    }
    graph->parked += flow->count;
    w->fresh = true;
    return rc;
}

int waiting_come(struct waiting *w, const struct weir_flow *flow, struct weir_error *err) {
    if (flow->count == 0) {
        return waiting_advance(w, flow->watermark_us, err);
    } else if (w->unordered) {
        return come_unordered(w, flow, err);
    }
    int rc = lookup_ask(w->node, w->inside, w->behind, flow, err);
    if (rc != WEIR_OK || (w->first == NULL && !any_waits(w))) {
        return rc == WEIR_OK ? pass_on(w, flow, err) : rc;
    }
    w->node->graph->held++;
    return park(w, flow) != NULL
               ? WEIR_OK
               : weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", w->node->name);
}

int waiting_advance(struct waiting *w, int64_t watermark_us, struct weir_error *err) {
    struct weir_flow flow = {.watermark_us = watermark_us};
    if (w->first == NULL) {
        return reach(w, watermark_us, err);
    }
    w->node->graph->held += !w->unordered;
    return park(w, &flow) != NULL
               ? WEIR_OK
               : weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", w->node->name);
}

/* --- in order ----------------------------------------------------------------------------- */

static int take(struct waiting *w, struct weir_error *err) {
    int64_t told = 0;
    int rc = WEIR_OK;
    for (int32_t k = 0; rc == WEIR_OK && k < w->asker_count; k++) {
        rc = asking_take(w->askers[k], err);
        told += asking_told(w->askers[k]);
    }
    w->fresh |= told != w->told;
    w->told = told;
    return rc;
}

static int go_on(struct waiting *w, struct weir_error *err) {
    int rc = take(w, err);
    while (rc == WEIR_OK && w->first != NULL && !any_waits(w)) {
        const struct weir_flow *flow = &w->first->kept.flow;
        if (flow->batch != NULL) { /* what was answered may be what others are asked by */
            rc = lookup_ask(w->node, w->inside, w->behind, flow, err);
        }
        if (rc != WEIR_OK || any_waits(w)) {
            break;
        }
        struct parked *parked = take_first(w);
        w->node->graph->held--;
        rc = pass_on(w, flow, err); /* one without rows is the watermark alone */
        parked_free(parked);
    }
    return rc;
}

int waiting_go_on(struct weir_node *node, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t p = 0; rc == WEIR_OK && node->waiting != NULL && p <= node->join_count; p++) {
        struct waiting *w = node->waiting[p];
        rc = w != NULL && !w->unordered && w->first != NULL ? go_on(w, err) : rc;
    }
    return rc;
}

/* --- out of order ------------------------------------------------------------------------- */

/* A release, as recorded: varints; for each flow with rows that go its place in the queue, how many
 * of the rows that still wait go (0: all), and which: positions among them, each from the one
 * before. */

static bool is_ready(const struct waiting *w, struct parked *parked, int32_t i) {
    for (int32_t k = 0; k < w->asker_count; k++) {
        uint32_t slot = slots_of(parked, k)[i];
        if (slot != 0 && asking_pending(w->askers[k], slot)) {
            return false;
        }
    }
    return true;
}

/* The rows of one flow that are ready, at most `most`. */
static uint8_t *put_ready(struct waiting *w, struct parked *parked, int32_t ordinal, int32_t most,
                          int32_t *put, uint8_t *at) {
    int32_t ready[RELEASE_ROWS];
    int32_t count = 0;
    int32_t i = 0;
    for (; i < parked->left && count < most; i++) {
        if (is_ready(w, parked, i)) {
            ready[count++] = i;
        }
    }
    bool all = count == parked->left;
    *put = count;
    if (count == 0) {
        return at;
    }
    at = weir_varint_put(at, (uint64_t)ordinal);
    at = weir_varint_put(at, all ? 0 : (uint64_t)count);
    for (int32_t k = 0, before = 0; !all && k < count; k++) {
        at = weir_varint_put(at, (uint64_t)(ready[k] - before));
        before = ready[k];
    }
    return at;
}

/* What may go, as a message; its size. */
static size_t find_ready(struct waiting *w, int32_t *count) {
    uint8_t *at = w->message;
    int32_t rows = 0;
    int32_t ordinal = 0;
    /* A row takes three bytes at most, a flow another eight. */
    for (struct parked *p = w->first; p != NULL; p = p->next, ordinal++) {
        int32_t put;
        if (rows == RELEASE_ROWS || at - w->message > RELEASE_BYTES - 4 * RELEASE_ROWS) {
            break;
        }
        at = put_ready(w, p, ordinal, RELEASE_ROWS - rows, &put, at);
        rows += put;
    }
    w->fresh = rows > 0; /* there may be more */
    *count = rows;
    return (size_t)(at - w->message);
}

static void move_row(struct waiting *w, struct parked *parked, int32_t from, int32_t to) {
    parked->kept.sel[to] = parked->kept.sel[from];
    for (int32_t k = 0; k < w->asker_count; k++) {
        slots_of(parked, k)[to] = slots_of(parked, k)[from];
    }
}

/* Takes the rows at these positions out of those that wait, into `gone`. */
static bool take_out(struct waiting *w, struct parked *parked, uint64_t count,
                     struct weir_image_reader *in, int32_t *gone) {
    uint64_t at = 0;
    int32_t kept = 0;
    int32_t i = 0;
    if (count > (uint64_t)parked->left) {
        return false;
    }
    for (uint64_t k = 0; k < count; k++) {
        uint64_t delta;
        if (!weir_image_varint(in, &delta) || (k > 0 && delta == 0) ||
            delta >= (uint64_t)parked->left - at) {
            return false;
        }
        at += delta;
        for (; i < (int32_t)at; i++) {
            move_row(w, parked, i, kept++);
        }
        gone[k] = parked->kept.sel[i++];
    }
    for (; i < parked->left; i++) {
        move_row(w, parked, i, kept++);
    }
    parked->left = kept;
    return true;
}

/* Flows of which nothing waits leave the queue, and the watermark comes as far as they had. */
static int settle(struct waiting *w, struct weir_error *err) {
    int64_t reached = w->passed;
    while (w->first != NULL && w->first->left == 0) {
        struct parked *done = take_first(w);
        int64_t watermark = done->kept.flow.watermark_us;
        reached = watermark > reached ? watermark : reached;
        parked_free(done);
    }
    return reached > w->passed ? reach(w, reached, err) : WEIR_OK;
}

static int release(struct waiting *w, const uint8_t *bytes, size_t size, struct weir_error *err) {
    struct weir_image_reader in = {bytes, bytes + size};
    struct weir_node *node = w->node;
    struct parked *parked = w->first;
    uint64_t ordinal = 0;
    int32_t gone[ROWS_MAX];
    int rc = WEIR_OK;
    node->row_base = 0;
    while (rc == WEIR_OK && in.at < in.end) {
        uint64_t wanted;
        uint64_t count;
        bool good = weir_image_varint(&in, &wanted) && weir_image_varint(&in, &count);
        for (; good && parked != NULL && ordinal < wanted; ordinal++) {
            parked = parked->next;
        }
        good = good && parked != NULL && parked->left > 0;
        struct weir_flow flow = good ? parked->kept.flow : (struct weir_flow){0};
        flow.count = good ? (count > 0 ? (int32_t)count : parked->left) : 0;
        if (good && count == 0) {
            memcpy(gone, parked->kept.sel, (size_t)parked->left * sizeof(*gone));
            parked->left = 0;
        } else if (!good || !take_out(w, parked, count, &in, gone)) {
            return weir_error_set(err, WEIR_E_CORRUPT,
                                  "%s: rows left that are not there: its input or its rules are no "
                                  "longer what they were",
                                  node->name);
        }
        flow.sel = gone;
        flow.watermark_us = w->passed; /* those before may still wait */
        node->graph->parked -= flow.count;
        rc = pass_on(w, &flow, err);
        node->row_base += flow.batch->rows;
    }
    node->row_base = 0;
    return rc == WEIR_OK ? settle(w, err) : rc;
}

int64_t waiting_rows(const struct weir_node *node) {
    int64_t rows = 0;
    for (int32_t p = 0; node->waiting != NULL && p <= node->join_count; p++) {
        const struct waiting *w = node->waiting[p];
        for (struct parked *k = w != NULL && w->unordered ? w->first : NULL; k; k = k->next) {
            rows += k->left;
        }
    }
    return rows;
}

/* --- the graph's -------------------------------------------------------------------------- */

static int let_go(struct waiting *w, bool *some, struct weir_error *err) {
    struct weir_graph *graph = w->node->graph;
    int rc = take(w, err);
    int32_t count = 0;
    size_t size = rc == WEIR_OK && w->fresh ? find_ready(w, &count) : 0;
    if (rc != WEIR_OK || size == 0) {
        return rc;
    }
    *some = true;
    rc = graph->callbacks.answered(graph->callbacks.context, w->node->dataset, w->place, count,
                                   w->message, size, err);
    return rc == WEIR_OK ? release(w, w->message, size, err) : rc;
}

int weir_graph_let_go(struct weir_graph *graph, bool *some, struct weir_error *err) {
    int rc = WEIR_OK;
    *some = false;
    for (int32_t i = 0; rc == WEIR_OK && graph->parked > 0 && i < graph->node_count; i++) {
        struct weir_node *node = graph->nodes[i];
        for (int32_t p = 0; node->waiting != NULL && p <= node->join_count; p++) {
            struct waiting *w = node->waiting[p];
            if (rc == WEIR_OK && !*some && w != NULL && w->unordered && w->first != NULL) {
                rc = let_go(w, some, err);
            }
        }
    }
    return rc;
}

int weir_graph_released(struct weir_graph *graph, struct weir_span name, int32_t place,
                        struct weir_span rows, struct weir_error *err) {
    for (int32_t i = 0; i < graph->node_count; i++) {
        struct weir_node *node = graph->nodes[i];
        if (strlen(node->name) == name.size && memcmp(node->name, name.data, name.size) == 0 &&
            node->waiting != NULL && place >= 0 && place <= node->join_count &&
            node->waiting[place] != NULL && node->waiting[place]->unordered) {
            return release(node->waiting[place], rows.data, rows.size, err);
        }
    }
    return weir_error_set(err, WEIR_E_CONFIG,
                          "the epoch let rows of '%.*s' leave out of order, which asks nobody now",
                          (int)name.size, (const char *)name.data);
}

bool weir_graph_parks(const struct weir_graph *graph) {
    return graph->parked > 0;
}

bool weir_graph_parks_enough(const struct weir_graph *graph) {
    return graph->parked >= PARKED_MOST;
}
