/* Keeping the rows, and their order. */
#include "operator/top/ranks.h"

#include "operator/order.h"

enum { KEY_INLINE = 64, ROW_BYTES_MAX = 1 << 28 };

struct heads { /* first in a row's key */
    uint32_t group;
    uint32_t order;
    uint32_t tied;
};

struct ranked_group { /* a group's value */
    uint32_t root;    /* slot number of a row; 0: no rows */
    uint32_t left;    /* its window's rows have left */
};
_Static_assert(sizeof(struct ranked_group) == WEIR_RANKS_GROUP_BYTES, "as top's table has it");

struct node { /* beside a row's slot */
    uint32_t left;
    uint32_t right;
    uint32_t weight; /* rows in it and below, copies counted */
};

struct weir_ranks {
    struct weir_table *rows;
    struct weir_side nodes;
    struct weir_buffer key;
};

/* --- groups' values ----------------------------------------------------------------------------
 */

static int group_encode(void *context, const void *value, struct weir_buffer *out) {
    (void)context;
    struct ranked_group group;
    memcpy(&group, value, sizeof group);
    uint8_t left = group.left != 0;
    return weir_buffer_append(out, &left, 1);
}

static int group_decode(void *context, void *value, const uint8_t *bytes, size_t length,
                        struct weir_error *err) {
    (void)context;
    if (length != 1 || bytes[0] > 1) {
        return weir_error_set(err, WEIR_E_CORRUPT, "a group of %zu bytes", length);
    }
    struct ranked_group group = {.left = bytes[0]};
    memcpy(value, &group, sizeof group);
    return WEIR_OK;
}

static void group_fini(void *context, void *value) {
    (void)context;
    (void)value;
}

const struct weir_table_codec weir_ranks_codec = {group_encode, group_decode, group_fini};

static struct ranked_group group_of_slot(const struct weir_top *top, struct weir_slot *slot) {
    struct ranked_group group;
    memcpy(&group, weir_slot_value(top->table, slot), sizeof group);
    return group;
}

static void set_group(const struct weir_top *top, struct weir_slot *slot,
                      struct ranked_group group) {
    memcpy(weir_slot_value(top->table, slot), &group, sizeof group);
}

uint32_t weir_ranks_root(const struct weir_top *top, struct weir_slot *group) {
    return group_of_slot(top, group).root;
}

bool weir_ranks_have_left(const struct weir_top *top, struct weir_slot *group) {
    return group_of_slot(top, group).left != 0;
}

int weir_ranks_set_left(struct weir_top *top, struct weir_slot *slot, struct weir_error *err) {
    struct ranked_group group = group_of_slot(top, slot);
    if (weir_table_touch(top->table, slot) != WEIR_OK) {
        return weir_top_no_memory(top, err);
    }
    group.left = 1;
    set_group(top, slot, group);
    return WEIR_OK;
}

/* --- creation ----------------------------------------------------------------------------------
 */

struct weir_ranks *weir_ranks_create(struct weir_top *top, struct weir_error *err) {
    struct weir_ranks *ranks = calloc(1, sizeof *ranks);
    if (ranks == NULL) {
        weir_top_no_memory(top, err);
        return NULL;
    }
    weir_side_init(&ranks->nodes, sizeof(struct node));
    weir_buffer_init(&ranks->key, ROW_BYTES_MAX);
    struct weir_table_config rows = {
        .declaration = top->declaration,
        .cell = "ranked",
        .shape = top->shape,
        .value_bytes = sizeof(uint32_t),
        .key_inline_bytes = KEY_INLINE,
        .max_bytes = top->config.max_bytes,
        .option = top->config.option,
    };
    ranks->rows = weir_table_create(&rows, err);
    if (ranks->rows == NULL) {
        weir_ranks_destroy(ranks);
        return NULL;
    }
    return ranks;
}

void weir_ranks_destroy(struct weir_ranks *ranks) {
    if (ranks != NULL) {
        weir_table_destroy(ranks->rows);
        weir_side_fini(&ranks->nodes);
        weir_buffer_fini(&ranks->key);
        free(ranks);
    }
}

size_t weir_ranks_bytes(const struct weir_ranks *ranks) {
    return ranks != NULL ? weir_table_bytes(ranks->rows) + weir_side_bytes(&ranks->nodes) : 0;
}

struct weir_cell *weir_ranks_cell(struct weir_ranks *ranks) {
    return weir_table_cell(ranks->rows);
}

/* --- the order ---------------------------------------------------------------------------------
 */

static struct node *node_at(const struct weir_ranks *ranks, uint32_t number) {
    return weir_side_at(&ranks->nodes, number);
}

static uint32_t weight_of(const struct weir_ranks *ranks, uint32_t number) {
    return number != 0 ? node_at(ranks, number)->weight : 0;
}

static uint32_t copies_of(const struct weir_ranks *ranks, uint32_t number) {
    uint32_t copies;
    memcpy(&copies, weir_slot_value(ranks->rows, weir_table_slot(ranks->rows, number)),
           sizeof copies);
    return copies;
}

static void weigh(const struct weir_ranks *ranks, uint32_t number) {
    struct node *node = node_at(ranks, number);
    node->weight =
        weight_of(ranks, node->left) + weight_of(ranks, node->right) + copies_of(ranks, number);
}

void weir_ranks_below(const struct weir_ranks *ranks, uint32_t number, uint32_t *left,
                      uint32_t *right) {
    *left = node_at(ranks, number)->left;
    *right = node_at(ranks, number)->right;
}

/* The same for a number whenever it is asked for: murmur3's finalizer. */
static uint32_t priority(uint32_t number) {
    number = (number ^ (number >> 16)) * 0x85ebca6bu;
    number = (number ^ (number >> 13)) * 0xc2b2ae35u;
    return number ^ (number >> 16);
}

static struct weir_ranked parse_row(const uint8_t *key, size_t bytes) {
    struct heads heads;
    memcpy(&heads, key, sizeof heads);
    size_t at = sizeof heads + heads.group;
    return (struct weir_ranked){
        .order = key + at,
        .columns = key + at + heads.order,
        .order_bytes = heads.order,
        .tied_bytes = heads.tied,
        .column_bytes = (uint32_t)(bytes - at - heads.order),
    };
}

struct weir_ranked weir_ranks_row(const struct weir_ranks *ranks, uint32_t number) {
    struct weir_slot *slot = weir_table_slot(ranks->rows, number);
    struct weir_ranked row = parse_row(weir_slot_key(ranks->rows, slot), slot->key_bytes);
    row.copies = copies_of(ranks, number);
    return row;
}

static int compare(const struct weir_ranked *a, const struct weir_ranked *b) {
    int order = weir_top_compare(a->order, a->order_bytes, b->order, b->order_bytes);
    return order != 0 ? order
                      : weir_top_compare(a->columns, a->column_bytes, b->columns, b->column_bytes);
}

/* Rows of `root` before `row` into *low, the others into *high. */
static void split(const struct weir_ranks *ranks, uint32_t root, const struct weir_ranked *row,
                  uint32_t *low, uint32_t *high) {
    if (root == 0) {
        *low = *high = 0;
        return;
    }
    struct node *node = node_at(ranks, root);
    struct weir_ranked own = weir_ranks_row(ranks, root);
    if (compare(&own, row) < 0) {
        *low = root;
        split(ranks, node->right, row, &node->right, high);
    } else {
        *high = root;
        split(ranks, node->left, row, low, &node->left);
    }
    weigh(ranks, root);
}

static uint32_t merge(const struct weir_ranks *ranks, uint32_t low, uint32_t high) {
    if (low == 0 || high == 0) {
        return low != 0 ? low : high;
    }
    uint32_t root = priority(low) > priority(high) ? low : high;
    struct node *node = node_at(ranks, root);
    if (root == low) {
        node->right = merge(ranks, node->right, high);
    } else {
        node->left = merge(ranks, low, node->left);
    }
    weigh(ranks, root);
    return root;
}

static uint32_t put_in(const struct weir_ranks *ranks, uint32_t root, uint32_t number,
                       const struct weir_ranked *row) {
    if (root == 0 || priority(number) > priority(root)) {
        struct node *node = node_at(ranks, number);
        split(ranks, root, row, &node->left, &node->right);
        weigh(ranks, number);
        return number;
    }
    struct node *node = node_at(ranks, root);
    struct weir_ranked own = weir_ranks_row(ranks, root);
    uint32_t *side = compare(row, &own) < 0 ? &node->left : &node->right;
    *side = put_in(ranks, *side, number, row);
    weigh(ranks, root);
    return root;
}

static uint32_t take_out(const struct weir_ranks *ranks, uint32_t root, uint32_t number,
                         const struct weir_ranked *row) {
    struct node *node = node_at(ranks, root);
    if (root == number) {
        return merge(ranks, node->left, node->right);
    }
    struct weir_ranked own = weir_ranks_row(ranks, root);
    uint32_t *side = compare(row, &own) < 0 ? &node->left : &node->right;
    *side = take_out(ranks, *side, number, row);
    weigh(ranks, root);
    return root;
}

/* How many rows are before it. With `by`: and its copies, and those of the rows above it weigh so
 * much more. */
static uint32_t find_place(const struct weir_ranks *ranks, uint32_t root,
                           const struct weir_ranked *row, int32_t by) {
    uint32_t before = 0;
    while (root != 0) {
        struct node *node = node_at(ranks, root);
        struct weir_ranked own = weir_ranks_row(ranks, root);
        int order = compare(row, &own);
        node->weight += (uint32_t)by;
        if (order == 0) {
            return before + weight_of(ranks, node->left);
        }
        before += order > 0 ? weight_of(ranks, node->left) + own.copies : 0;
        root = order < 0 ? node->left : node->right;
    }
    return before;
}

/* The row at a place, which there is. */
static uint32_t row_at(const struct weir_ranks *ranks, uint32_t root, uint32_t place) {
    for (;;) {
        const struct node *node = node_at(ranks, root);
        uint32_t left = weight_of(ranks, node->left);
        if (place < left) {
            root = node->left;
            continue;
        }
        place -= left;
        uint32_t copies = copies_of(ranks, root);
        if (place < copies) {
            return root;
        }
        place -= copies;
        root = node->right;
    }
}

/* --- feeding -----------------------------------------------------------------------------------
 */

/* Is a row at this place, now or in a moment, one of those that are shown? */
static bool is_shown(const struct weir_top *top, uint32_t root, const struct weir_ranked *row,
                     uint32_t place) {
    uint32_t n = (uint32_t)top->config.n;
    if (place < n || top->config.ties != WEIR_TOP_ALL) {
        return place < n;
    }
    struct weir_ranked last = weir_ranks_row(top->ranks, row_at(top->ranks, root, n - 1));
    return last.tied_bytes == row->tied_bytes &&
           memcmp(last.order, row->order, row->tied_bytes) == 0;
}

static int note(struct weir_top *top, struct weir_slot *group, uint32_t root, int64_t time_us,
                struct weir_error *err) {
    bool first;
    int32_t count;
    int rc = weir_top_note(top, group, time_us, &first, err);
    if (rc != WEIR_OK || !first) {
        return rc;
    }
    rc = weir_ranks_draw(top, root, &top->before, &count, err);
    struct touched *touched = &top->touched[top->touched_count - 1];
    touched->before_bytes = (uint32_t)(top->before.size - touched->before);
    return rc;
}

static int make_key(struct weir_top *top, const struct weir_top_rows *rows, int32_t i,
                    struct weir_error *err) {
    struct weir_buffer *key = &top->ranks->key;
    const struct weir_keys *groups = &top->group_keys;
    const struct weir_keys *columns = &top->row_keys;
    int32_t row = top->rows[i];
    struct heads heads = {.group = groups->offsets[i + 1] - groups->offsets[i]};
    weir_buffer_clear(&top->orders);
    int rc = weir_top_append_order(top, rows->batch, row, 0, top->config.tied_count);
    heads.tied = (uint32_t)top->orders.size;
    rc = rc == WEIR_OK ? weir_top_append_order(top, rows->batch, row, top->config.tied_count,
                                               top->config.by_count)
                       : rc;
    heads.order = (uint32_t)top->orders.size;
    weir_buffer_clear(key);
    rc = rc == WEIR_OK ? weir_buffer_append(key, &heads, sizeof heads) : rc;
    rc = rc == WEIR_OK ? weir_buffer_append(key, groups->bytes + groups->offsets[i], heads.group)
                       : rc;
    rc = rc == WEIR_OK ? weir_buffer_append(key, top->orders.data, top->orders.size) : rc;
    rc = rc == WEIR_OK ? weir_buffer_append(key, columns->bytes + columns->offsets[i],
                                            columns->offsets[i + 1] - columns->offsets[i])
                       : rc;
    return rc == WEIR_OK ? rc : weir_top_no_memory(top, err);
}

static int set_copies(struct weir_top *top, struct weir_slot *slot, uint32_t copies,
                      struct weir_error *err) {
    if (weir_table_touch(top->ranks->rows, slot) != WEIR_OK) {
        return weir_top_no_memory(top, err);
    }
    memcpy(weir_slot_value(top->ranks->rows, slot), &copies, sizeof copies);
    return WEIR_OK;
}

static int add(struct weir_top *top, struct weir_slot *group_slot, uint64_t hash,
               const struct weir_ranked *row, uint32_t copies, struct weir_error *err) {
    struct weir_ranks *ranks = top->ranks;
    struct ranked_group group = group_of_slot(top, group_slot);
    bool created;
    struct weir_slot *slot =
        weir_table_get(ranks->rows, hash, ranks->key.data, ranks->key.size, &created, err);
    if (slot == NULL) {
        return err != NULL ? err->code : WEIR_E_LIMIT;
    }
    int rc = set_copies(top, slot, copies + 1, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (!created) {
        find_place(ranks, group.root, row, 1);
        return WEIR_OK;
    }
    if (!weir_side_reach(&ranks->nodes, slot->number)) {
        return weir_top_no_memory(top, err);
    }
    *node_at(ranks, slot->number) = (struct node){0};
    group.root = put_in(ranks, group.root, slot->number, row);
    set_group(top, group_slot, group);
    return WEIR_OK;
}

static int take_back(struct weir_top *top, struct weir_slot *group_slot, struct weir_slot *slot,
                     const struct weir_ranked *row, uint32_t copies, struct weir_error *err) {
    struct weir_ranks *ranks = top->ranks;
    struct ranked_group group = group_of_slot(top, group_slot);
    if (copies > 1) {
        find_place(ranks, group.root, row, -1);
        return set_copies(top, slot, copies - 1, err);
    }
    group.root = take_out(ranks, group.root, slot->number, row);
    set_group(top, group_slot, group);
    return weir_table_delete(ranks->rows, slot, false) == WEIR_OK ? WEIR_OK
                                                                  : weir_top_no_memory(top, err);
}

static int feed_row(struct weir_top *top, const struct weir_top_rows *rows, int32_t i,
                    struct weir_error *err) {
    struct weir_ranks *ranks = top->ranks;
    struct weir_slot *group = top->slots[i];
    int32_t at = top->rows[i];
    bool back = rows->signs != NULL && rows->signs[at] < 0;
    int64_t time_us = rows->times_us != NULL ? rows->times_us[at] : INT64_MIN;
    int rc = make_key(top, rows, i, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    uint64_t hash = weir_table_hash(ranks->rows, ranks->key.data, ranks->key.size);
    struct weir_slot *slot = weir_table_find(ranks->rows, hash, ranks->key.data, ranks->key.size);
    if (back && slot == NULL) {
        return WEIR_OK; /* it was never let through: `where`, say, was another then */
    }
    struct weir_ranked row = parse_row(ranks->key.data, ranks->key.size);
    uint32_t root = weir_ranks_root(top, group);
    uint32_t copies = slot != NULL ? copies_of(ranks, slot->number) : 0;
    uint32_t place = top->changes ? find_place(ranks, root, &row, 0) + copies - back : 0;
    if (top->changes && is_shown(top, root, &row, place)) {
        rc = note(top, group, root, time_us, err);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    return back ? take_back(top, group, slot, &row, copies, err)
                : add(top, group, hash, &row, copies, err);
}

int weir_ranks_feed(struct weir_top *top, const struct weir_top_rows *rows, int32_t taken,
                    struct weir_error *err) {
    int rc = weir_key_encode(top->row_key, rows->batch, top->rows, taken, 0, &top->row_keys);
    if (rc != WEIR_OK) {
        return weir_top_no_memory(top, err);
    }
    for (int32_t i = 0; i < taken && rc == WEIR_OK; i++) {
        rc = feed_row(top, rows, i, err);
    }
    return rc;
}

int weir_ranks_empty(struct weir_top *top, struct weir_slot *slot, int32_t *work,
                     struct weir_error *err) {
    struct weir_ranks *ranks = top->ranks;
    struct ranked_group group = group_of_slot(top, slot);
    int rc = WEIR_OK;
    while (rc == WEIR_OK && group.root != 0 && (*work)-- > 0) {
        uint32_t number = group.root;
        const struct node *node = node_at(ranks, number);
        group.root = merge(ranks, node->left, node->right);
        rc = weir_table_delete(ranks->rows, weir_table_slot(ranks->rows, number), false);
    }
    set_group(top, slot, group);
    return rc == WEIR_OK ? rc : weir_top_no_memory(top, err);
}

/* --- state -------------------------------------------------------------------------------------
 */

static bool parses(const uint8_t *key, size_t bytes) {
    struct heads heads;
    if (bytes < sizeof heads) {
        return false;
    }
    memcpy(&heads, key, sizeof heads);
    uint64_t parts = (uint64_t)heads.group + heads.order;
    return parts <= bytes - sizeof heads && heads.tied <= heads.order;
}

static int restore_row(struct weir_top *top, uint32_t number, struct weir_error *err) {
    struct weir_ranks *ranks = top->ranks;
    struct weir_slot *slot = weir_table_slot(ranks->rows, number);
    const uint8_t *key = weir_slot_key(ranks->rows, slot);
    struct heads heads;
    struct weir_slot *group = NULL;
    if (parses(key, slot->key_bytes)) {
        memcpy(&heads, key, sizeof heads);
        key += sizeof heads;
        group = weir_table_find(top->table, weir_table_hash(top->table, key, heads.group), key,
                                heads.group);
    }
    if (group == NULL || copies_of(ranks, number) == 0) {
        return weir_error_set(err, WEIR_E_CORRUPT, "%s: a row in the state does not parse",
                              weir_table_name(ranks->rows));
    }
    if (!weir_side_reach(&ranks->nodes, number)) {
        return weir_top_no_memory(top, err);
    }
    struct weir_ranked row = weir_ranks_row(ranks, number);
    struct ranked_group value = group_of_slot(top, group);
    value.root = put_in(ranks, value.root, number, &row);
    set_group(top, group, value);
    return WEIR_OK;
}

int weir_ranks_restore(struct weir_top *top, struct weir_error *err) {
    struct weir_ranks *ranks = top->ranks;
    weir_side_clear(&ranks->nodes);
    for (uint32_t n = 1; n <= weir_table_slots(top->table); n++) {
        struct weir_slot *slot = weir_table_slot(top->table, n);
        if (slot->sequence != 0) {
            struct ranked_group group = group_of_slot(top, slot);
            group.root = 0;
            set_group(top, slot, group);
        }
    }
    int rc = WEIR_OK;
    for (uint32_t n = 1; n <= weir_table_slots(ranks->rows) && rc == WEIR_OK; n++) {
        if (weir_table_slot(ranks->rows, n)->sequence != 0) {
            rc = restore_row(top, n, err);
        }
    }
    return rc;
}

/* --- to people ---------------------------------------------------------------------------------
 */

static int show_row(void *owner, const struct weir_show_entry *entry, struct weir_shown *out,
                    struct weir_error *err) {
    struct weir_top *top = owner;
    uint32_t copies;
    struct heads heads;
    if (!parses(entry->key, entry->key_bytes) || entry->value_bytes != sizeof copies) {
        return weir_error_set(err, WEIR_E_CORRUPT, "a row does not parse");
    }
    memcpy(&copies, entry->value, sizeof copies);
    memcpy(&heads, entry->key, sizeof heads);
    struct weir_ranked row = parse_row(entry->key, entry->key_bytes);
    int rc = weir_top_show_key(top, entry->key + sizeof heads, heads.group, out, err);
    rc = rc == WEIR_OK
             ? weir_shown_key(out, top->row_key, row.columns, row.column_bytes, &out->value, err)
             : rc;
    return rc == WEIR_OK && copies > 1 ? weir_shown_int(&out->value, "_copies", copies) : rc;
}

static int show_group(void *owner, const struct weir_show_entry *entry, struct weir_shown *out,
                      struct weir_error *err) {
    return weir_top_show_key(owner, entry->key, entry->key_bytes, out, err);
}

int32_t weir_ranks_shows(struct weir_top *top, struct weir_show *shows, int32_t capacity) {
    int32_t count = 0;
    if (count < capacity) {
        shows[count++] = (struct weir_show){weir_ranks_cell(top->ranks),
                                            "the rows of groups, of which the first are shown", top,
                                            show_row, false};
    }
    if (count < capacity) {
        shows[count++] = (struct weir_show){weir_table_cell(top->table), "groups that have rows",
                                            top, show_group, true};
    }
    return count;
}
