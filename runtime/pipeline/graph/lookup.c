/* Lookups: beside each row of a stream, the row another dataset has under a key. That dataset
 * remembers its rows by key (remembered.c), which is state of the epoch's record; rows of both come
 * in the order of the schedule, so a replay finds what was found.
 *
 * What was found stands in a column of structs behind the input's, where map's third argument reads
 * it: null where there is nothing, or the default row. A null in the key finds nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch/change.h"
#include "operator/key.h"
#include "operator/literal.h"
#include "pipeline/graph/asking.h"
#include "pipeline/graph/join.h"
#include "pipeline/graph/node.h"

enum { ON_MAX = 64, AHEAD = 8 };
#define FOUND_BYTES_MAX ((size_t)1 << 30)

struct fallback { /* of a field of what is found */
    bool given;
    struct weir_literal value;
};

struct lookup {
    const struct weir_plan_lookup *plan;
    struct asking *asking; /* or NULL, and then: */
    const struct weir_dataset *dataset;
    int32_t on[ON_MAX]; /* columns of the input, by position of the key */
    struct weir_key *key;
    struct weir_keys keys;
    int32_t *children;          /* by column of the dataset: field of what is found, or -1 */
    struct fallback *fallbacks; /* by field; NULL: a row that finds nothing has null */
    int32_t tally;
    int32_t failed_tally; /* of those that ask */
};

struct lookups {
    struct lookups *next; /* of those inside, which are one each: what is found then */
    int32_t before;
    struct lookup *list;
    int32_t count;
    struct weir_schema *found; /* a column a lookup */
    struct weir_schema *wide;  /* the input's columns, then those */
    struct weir_batch_builder builder;
    bool building;
    int32_t asking_count;
    uint8_t missing[ROWS_MAX]; /* by position: 1: leaves, 2: failed */
    struct asking_row asked[ROWS_MAX];
};

/* --- life --------------------------------------------------------------------------------- */

void lookup_destroy(struct lookups *lookups) {
    if (lookups == NULL) {
        return;
    }
    lookup_destroy(lookups->next);
    for (int32_t i = 0; lookups->list != NULL && i < lookups->count; i++) {
        asking_destroy(lookups->list[i].asking);
        weir_key_destroy(lookups->list[i].key);
        weir_keys_fini(&lookups->list[i].keys);
        free(lookups->list[i].children);
        free(lookups->list[i].fallbacks);
    }
    if (lookups->building) {
        weir_batch_builder_fini(&lookups->builder);
    }
    free(lookups->list);
    weir_schema_unref(lookups->found);
    weir_schema_unref(lookups->wide);
    free(lookups);
}

static int read_fallbacks(struct lookup *lookup, const struct weir_field *row,
                          struct weir_error *err) {
    const char *name;
    json_t *text;
    if (lookup->plan->defaults == NULL) {
        return WEIR_OK;
    }
    lookup->fallbacks = calloc((size_t)row->child_count + 1, sizeof(*lookup->fallbacks));
    if (lookup->fallbacks == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    json_object_foreach(lookup->plan->defaults, name, text) {
        for (int32_t f = 0; f < row->child_count; f++) {
            if (strcmp(row->children[f].name, name) == 0) {
                struct fallback *fallback = &lookup->fallbacks[f];
                int rc = weir_literal_parse(&row->children[f], json_string_value(text),
                                            &fallback->value, err);
                if (rc != WEIR_OK) {
                    return weir_error_wrap(err, "default of lookup `%s`", lookup->plan->name);
                }
                fallback->given = true;
            }
        }
    }
    return WEIR_OK;
}

static int make_key(const struct weir_node *node, struct lookup *lookup, struct weir_error *err) {
    const struct weir_plan_lookup *plan = lookup->plan;
    for (int32_t i = 0; i < plan->on_count; i++) {
        lookup->on[i < ON_MAX ? i : 0] = weir_schema_find(node->input, plan->on[i]);
        if (i >= ON_MAX || lookup->on[i] < 0) {
            return weir_error_set(err, WEIR_E_BUG, "lookup by '%s': no such column", plan->on[i]);
        }
    }
    lookup->key = weir_key_create(node->input, lookup->on, plan->on_count, err);
    return lookup->key != NULL ? WEIR_OK : (err != NULL ? err->code : WEIR_E_NOMEM);
}

static int make_lookup(struct weir_node *node, struct lookups *lookups, struct lookup *lookup,
                       struct weir_error *err) {
    const struct weir_plan_lookup *plan = lookup->plan;
    const struct weir_field *row = &plan->found->fields[0];
    weir_keys_init(&lookup->keys);
    lookup->tally = dataset_tally(node->dataset, "unmatched");
    lookup->failed_tally = plan->http != NULL ? dataset_tally(node->dataset, "lookup") : 0;
    if (lookup->tally < 0 || lookup->failed_tally < 0) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    int rc = make_key(node, lookup, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (plan->http != NULL) {
        lookups->asking_count++;
        return asking_create(node, plan, lookup->on, lookup->key, &lookup->asking, err);
    }
    lookup->dataset = weir_graph_find(node->graph, plan->from);
    if (lookup->dataset == NULL || lookup->dataset->remembered == NULL) {
        return weir_error_set(err, WEIR_E_BUG, "looks up '%s', which remembers no rows",
                              plan->from);
    }
    lookup->children =
        malloc(((size_t)lookup->dataset->schema->count + 1) * sizeof(*lookup->children));
    if (lookup->children == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    for (int32_t c = 0; c < lookup->dataset->schema->count; c++) {
        lookup->children[c] = -1;
        for (int32_t f = 0; f < row->child_count; f++) {
            if (strcmp(row->children[f].name, lookup->dataset->schema->fields[c].name) == 0) {
                lookup->children[c] = f;
            }
        }
    }
    return read_fallbacks(lookup, row, err);
}

static int make(struct weir_node *node, struct lookups *lookups, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t c = 0; rc == WEIR_OK && c < node->input->count; c++) {
        rc = weir_schema_add(lookups->wide, &node->input->fields[c]);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < lookups->count; i++) {
        rc = make_lookup(node, lookups, &lookups->list[i], err);
        const struct weir_field *field = &lookups->list[i].plan->found->fields[0];
        rc = rc == WEIR_OK ? weir_schema_add(lookups->found, field) : rc;
        rc = rc == WEIR_OK ? weir_schema_add(lookups->wide, field) : rc;
    }
    if (rc == WEIR_OK) {
        rc = weir_batch_builder_init(&lookups->builder, node->graph->pool, lookups->found, ROWS_MAX,
                                     FOUND_BYTES_MAX, err);
        lookups->building = rc == WEIR_OK;
    }
    if (rc != WEIR_OK && (err == NULL || err->code == WEIR_OK)) {
        return weir_error_set(err, rc, "out of memory");
    }
    return rc;
}

/* Room for `room` lookups, none of them yet. */
static int add_lookups(struct lookups **out, int32_t before, int32_t room, struct weir_error *err) {
    struct lookups *lookups = *out = calloc(1, sizeof(*lookups));
    if (lookups != NULL) {
        lookups->before = before;
        lookups->list = calloc((size_t)room, sizeof(*lookups->list));
        lookups->found = weir_schema_create();
        lookups->wide = weir_schema_create();
    }
    return lookups != NULL && lookups->list != NULL && lookups->found != NULL &&
                   lookups->wide != NULL
               ? WEIR_OK
               : weir_error_set(err, WEIR_E_NOMEM, "out of memory");
}

int lookup_create(struct weir_node *node, int32_t before, bool inside, struct lookups **out,
                  struct weir_error *err) {
    const struct weir_plan_stream *stream = node->stream;
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < stream->lookup_count; i++) {
        const struct weir_plan_lookup *plan = &stream->lookups[i];
        if (plan->before != before || (plan->column >= 0) != inside) {
            continue;
        }
        if (*out == NULL) {
            rc = add_lookups(out, before, inside ? 1 : stream->lookup_count, err);
        }
        if (rc == WEIR_OK) {
            (*out)->list[(*out)->count++].plan = plan;
        }
        if (rc == WEIR_OK && inside) {
            rc = make(node, *out, err);
            out = &(*out)->next;
        }
    }
    return rc == WEIR_OK && !inside && *out != NULL ? make(node, *out, err) : rc;
}

/* --- rows --------------------------------------------------------------------------------- */

static int put_default(const struct weir_field *field, const struct fallback *fallback,
                       struct weir_column_builder *to) {
    return fallback->given ? weir_literal_put(field, &fallback->value, to) : weir_builder_null(to);
}

static int put_nothing(const struct lookup *lookup, struct weir_column_builder *to) {
    const struct weir_field *row = &lookup->plan->found->fields[0];
    int rc = WEIR_OK;
    if (lookup->fallbacks == NULL) {
        return weir_builder_null(to);
    }
    for (int32_t f = 0; rc == WEIR_OK && f < row->child_count; f++) {
        rc = put_default(&row->children[f], &lookup->fallbacks[f], &to->children[f]);
    }
    return rc == WEIR_OK ? weir_builder_struct(to) : rc;
}

/* A value a row of the batch, so that row numbers stay: null for those not selected. */
static int find_rows(struct lookups *lookups, struct lookup *lookup, const struct weir_flow *flow,
                     const int32_t *sel, int32_t count, struct weir_column_builder *to) {
    const struct remembered *rows = lookup->dataset->remembered;
    const struct weir_keys *keys = &lookup->keys;
    int rc = weir_key_encode(lookup->key, flow->batch, sel, count, 0, &lookup->keys);
    int32_t row = 0;
    if (rc == WEIR_OK) {
        weir_keys_hash(&lookup->keys, remembered_seed(rows));
    }
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        struct weir_span found;
        if (i + AHEAD < count) {
            remembered_prefetch(rows, keys->hashes[i + AHEAD]);
        }
        rc = weir_builder_nulls(to, sel[i] - row);
        row = sel[i] + 1;
        if (rc != WEIR_OK) {
            break;
        }
        size_t size = keys->offsets[i + 1] - keys->offsets[i];
        if (!keys->any_null[i] &&
            remembered_find(rows, keys->hashes[i], keys->bytes + keys->offsets[i], size, &found)) {
            rc = remembered_decode(rows, &found, lookup->children, to);
        } else {
            lookups->missing[i] |= lookup->plan->inner;
            rc = put_nothing(lookup, to);
        }
    }
    return rc == WEIR_OK ? weir_builder_nulls(to, flow->batch->rows - row) : rc;
}

/* The same of answers from outside, which are there. */
static int find_answers(struct lookups *lookups, struct lookup *lookup,
                        const struct weir_flow *flow, const int32_t *sel, int32_t count,
                        struct weir_column_builder *to) {
    int rc = asking_find(lookup->asking, flow->batch, sel, count, to, lookups->asked);
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        enum asking_outcome outcome = lookups->asked[i].outcome;
        lookups->missing[i] =
            outcome == ASKING_FAILED ? 2 : outcome == ASKING_NOTHING && lookup->plan->inner;
    }
    return rc;
}

static int find(struct lookups *lookups, struct lookup *lookup, const struct weir_flow *flow,
                const int32_t *sel, int32_t count, struct weir_column_builder *to) {
    return lookup->asking != NULL ? find_answers(lookups, lookup, flow, sel, count, to)
                                  : find_rows(lookups, lookup, flow, sel, count, to);
}

/* Rows that find nothing and may not go on. */
static int leave(struct weir_node *node, int32_t *sel, int32_t *count, const struct lookup *lookup,
                 struct lookups *lookups) {
    struct weir_counters *counters = &node->dataset->counters;
    int32_t kept = 0;
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < *count; i++) {
        if (!lookups->missing[i]) {
            sel[kept++] = sel[i];
        } else if (lookups->missing[i] == 2) {
            char text[600];
            snprintf(text, sizeof(text), "%s: %.*s", lookup->plan->name, lookups->asked[i].why_size,
                     lookups->asked[i].why);
            rc = node_reject(node, sel[i], lookup->failed_tally, text);
        } else if (lookup->plan->quarantine) {
            char text[512];
            snprintf(text, sizeof(text), "%s has no row of this key",
                     lookup->asking != NULL ? lookup->plan->name : lookup->plan->from);
            rc = node_reject(node, sel[i], lookup->tally, text);
        } else {
            counters->dropped++;
            counters->tallies[lookup->tally].rejected++;
        }
        lookups->missing[i] = 0;
    }
    *count = kept;
    return rc;
}

int lookup_apply(struct weir_node *node, const struct weir_flow *flow, int32_t *sel, int32_t *count,
                 struct weir_batch **out, struct weir_error *err) {
    struct lookups *lookups = node->lookups;
    struct weir_batch *found = NULL;
    struct weir_batch *wide = weir_batch_create(node->graph->pool, lookups->wide);
    int32_t inputs = flow->batch->column_count;
    int rc = wide != NULL ? weir_batch_builder_begin(&lookups->builder) : WEIR_E_LIMIT;
    for (int32_t i = 0; rc == WEIR_OK && i < lookups->count; i++) {
        struct lookup *lookup = &lookups->list[i];
        rc = find(lookups, lookup, flow, sel, *count, &lookups->builder.columns[i]);
        rc = rc == WEIR_OK ? leave(node, sel, count, lookup, lookups) : rc;
    }
    if (rc == WEIR_OK) {
        lookups->builder.rows = flow->batch->rows; /* each column has got one value a row */
        found = weir_batch_builder_take(&lookups->builder);
        wide->rows = flow->batch->rows;
    }
    for (int32_t c = 0; rc == WEIR_OK && c < inputs + lookups->count; c++) {
        rc = c < inputs ? weir_batch_borrow(wide, c, flow->batch, c)
                        : weir_batch_borrow(wide, c, found, c - inputs);
    }
    weir_batch_unref(found);
    if (rc != WEIR_OK) {
        weir_batch_unref(wide);
        return err != NULL && err->code != WEIR_OK
                   ? rc
                   : weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
    }
    *out = wide;
    return WEIR_OK;
}

/* What one finds goes into its columns of `batch`. count_stays: no row leaves on that account. */
static int join_one(struct weir_node *node, struct lookups *lookups, const struct weir_flow *flow,
                    int32_t *sel, int32_t *count, bool count_stays, struct weir_batch *batch) {
    struct lookup *lookup = &lookups->list[0];
    int32_t column = lookup->plan->column;
    int rc = weir_batch_builder_begin(&lookups->builder);
    rc =
        rc == WEIR_OK ? find(lookups, lookup, flow, sel, *count, &lookups->builder.columns[0]) : rc;
    if (rc == WEIR_OK && count_stays) {
        memset(lookups->missing, 0, (size_t)*count);
    } else if (rc == WEIR_OK) {
        rc = leave(node, sel, count, lookup, lookups);
    }
    if (rc == WEIR_OK) {
        lookups->builder.rows = flow->batch->rows;
        struct weir_batch *found = weir_batch_builder_take(&lookups->builder);
        rc = found != NULL ? weir_batch_borrow(batch, column, found, 0) : WEIR_E_LIMIT;
        weir_batch_unref(found);
    }
    return rc == WEIR_OK ? beside_spread(node, column, lookup->plan->beside, batch) : rc;
}

/* The rows as the first of `lookups` meets them. NULL without memory. */
static struct weir_batch *begin_found(struct weir_node *node, const struct lookups *lookups,
                                      const struct weir_flow *flow) {
    struct weir_batch *batch = weir_batch_create(node->graph->pool, node->input);
    int rc = batch != NULL ? WEIR_OK : WEIR_E_LIMIT;
    int32_t there = lookups->before > 0 ? node->input->count : node->stream->entered;
    for (int32_t c = 0; rc == WEIR_OK && c < node->input->count; c++) {
        rc = c < there ? weir_batch_borrow(batch, c, flow->batch, c)
                       : column_all_null(batch, &batch->columns[c], flow->batch->rows);
    }
    if (rc != WEIR_OK) {
        weir_batch_unref(batch);
        return NULL;
    }
    batch->rows = flow->batch->rows;
    return batch;
}

int lookup_join(struct weir_node *node, struct lookups *lookups, const struct weir_flow *flow,
                int32_t *sel, int32_t *count, struct weir_batch **out, struct weir_error *err) {
    struct weir_batch *batch = begin_found(node, lookups, flow);
    int rc = batch != NULL ? WEIR_OK : WEIR_E_LIMIT;
    struct weir_flow found = *flow;
    found.batch = batch;
    for (; rc == WEIR_OK && lookups != NULL; lookups = lookups->next) {
        rc = join_one(node, lookups, &found, sel, count, false, batch);
    }
    if (rc != WEIR_OK) {
        weir_batch_unref(batch);
        return err != NULL && err->code != WEIR_OK
                   ? err->code
                   : weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
    }
    *out = batch;
    return WEIR_OK;
}

/* --- answers from outside ----------------------------------------------------------------- */

bool lookup_asks(const struct weir_node *node) {
    return node->lookups != NULL && node->lookups->asking_count > 0;
}

static struct asking *asker_of(struct lookups *lookups, int32_t *k) {
    for (; lookups != NULL; lookups = lookups->next) {
        for (int32_t i = 0; i < lookups->count; i++) {
            if (lookups->list[i].asking != NULL && (*k)-- == 0) {
                return lookups->list[i].asking;
            }
        }
    }
    return NULL;
}

struct asking *lookup_asker(struct lookups *lookups, int32_t k) {
    return asker_of(lookups, &k);
}

struct asking *lookup_asking(const struct weir_node *node, int32_t k) {
    struct asking *asking = asker_of(node->lookups, &k);
    for (int32_t i = 0; asking == NULL && i < node->join_count; i++) {
        asking = asker_of(join_lookups(node, i), &k);
    }
    return asking != NULL ? asking : asker_of(node->found, &k);
}

bool lookup_waits(const struct weir_node *node) {
    struct asking *asking;
    for (int32_t k = 0; (asking = lookup_asking(node, k)) != NULL; k++) {
        if (asking_waits(asking)) {
            return true;
        }
    }
    return false;
}

int lookup_take(struct weir_node *node, struct weir_error *err) {
    struct asking *asking;
    int rc = WEIR_OK;
    for (int32_t k = 0; rc == WEIR_OK && (asking = lookup_asking(node, k)) != NULL; k++) {
        rc = asking_take(asking, err);
    }
    return rc;
}

/* Of rows that are no deletes, those `where` keeps. It runs again when they go on: it is pure. */
static int wanted(struct weir_node *node, const struct weir_flow *flow, int32_t *sel,
                  int32_t *count, struct weir_error *err) {
    uint8_t verdict[ROWS_MAX];
    int32_t kept = 0;
    for (int32_t i = 0; i < flow->count; i++) {
        int32_t row = flow->sel[i];
        bool judged =
            node->change_column < 0 || !weir_change_takes_back(change_kind(node, flow->batch, row));
        sel[kept] = row;
        kept += judged;
    }
    *count = kept;
    if (node->where < 0 || kept == 0 || node->dataset->breached) {
        return WEIR_OK;
    }
    struct weir_batch *owner = weir_batch_create(node->graph->pool, node->input);
    int rc = owner == NULL
                 ? weir_error_set(err, WEIR_E_LIMIT, "%s: the memory cap is reached", node->name)
                 : node_view(node, flow->batch, owner, err);
    rc = rc == WEIR_OK ? node_predicate(node, node->where, flow->batch, sel, kept, verdict, -1, err)
                       : rc;
    *count = 0;
    for (int32_t i = 0; rc == WEIR_OK && i < kept; i++) {
        if (verdict[i] == 1) {
            sel[(*count)++] = sel[i];
        }
    }
    weir_batch_unref(owner);
    return rc;
}

int lookup_begin(struct weir_node *node, const struct weir_flow *flow, struct weir_error *err) {
    int32_t sel[ROWS_MAX];
    int32_t count;
    struct asking *asking;
    int rc = wanted(node, flow, sel, &count, err);
    for (int32_t k = 0; rc == WEIR_OK && (asking = lookup_asking(node, k)) != NULL; k++) {
        rc = asking_begin(asking, flow->batch, sel, count, NULL, err);
    }
    return rc;
}

/* Whether the key is something that is found at this place, from column `first` on. */
static bool by_found(const struct lookup *lookup, int32_t first) {
    for (int32_t i = 0; i < lookup->plan->on_count; i++) {
        if (first >= 0 && lookup->on[i] >= first) {
            return true;
        }
    }
    return false;
}

/* Those inside, as far as their answers are there: what one finds is what the next may ask by. */
static int ask_inside(struct weir_node *node, struct lookups *inside, struct weir_flow *flow,
                      bool *waits, struct weir_error *err) {
    int32_t first = inside->list[0].plan->beside;
    int32_t sel[ROWS_MAX];
    int32_t count = flow->count;
    int rc = WEIR_OK;
    *waits = false;
    memcpy(sel, flow->sel, (size_t)count * sizeof(*sel));
    for (; rc == WEIR_OK && inside != NULL; inside = inside->next) {
        struct asking *asking = inside->list[0].asking;
        if (asking != NULL && (!*waits || !by_found(&inside->list[0], first))) {
            rc = asking_begin(asking, flow->batch, sel, count, NULL, err);
            *waits |= asking_waits(asking);
        }
        if (rc == WEIR_OK && !*waits) {
            rc = join_one(node, inside, flow, sel, &count, true, flow->batch);
        }
    }
    return rc;
}

int lookup_ask(struct weir_node *node, struct lookups *inside, struct lookups *behind,
               const struct weir_flow *flow, struct weir_error *err) {
    struct weir_flow found = *flow;
    struct asking *asking;
    bool waits = false;
    int rc = WEIR_OK;
    if (inside != NULL) {
        found.batch = begin_found(node, inside, flow);
        rc = found.batch != NULL ? ask_inside(node, inside, &found, &waits, err) : WEIR_E_LIMIT;
    }
    for (int32_t i = 0; rc == WEIR_OK && behind != NULL && i < behind->count; i++) {
        asking = behind->list[i].asking;
        bool later = waits && by_found(&behind->list[i], inside->list[0].plan->beside);
        if (asking != NULL && !later) {
            rc = asking_begin(asking, found.batch, flow->sel, flow->count, NULL, err);
        }
    }
    if (inside != NULL) {
        weir_batch_unref(found.batch);
    }
    return rc == WEIR_OK || (err != NULL && err->code != WEIR_OK)
               ? rc
               : weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
}
