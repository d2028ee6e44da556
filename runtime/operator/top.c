#include "operator/top.h"

#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "batch/change.h"
#include "operator/key.h"
#include "operator/top_order.h"
#include "operator/window.h"
#include "state/side.h"
#include "state/table.h"

enum {
    BOUNDS_BYTES = 16, /* window end and start, first in a key */
    SUFFIX_BYTES = 16, /* time and arrival, last in an order */
    ORDER_BYTES_MAX = 1 << 20,
    GROUP_BYTES_MAX = 1 << 26,
    ALL_FACTOR = 4,
    KEY_INLINE = 40,
    AHEAD = 12
};

struct group { /* a slot's value */
    uint8_t *rows;
    uint32_t bytes;
    uint32_t capacity;
    uint64_t arrivals;
    uint32_t count;
    uint32_t last; /* where the last row kept begins */
};

struct entry {      /* then its order, then its columns */
    uint32_t bytes; /* all in */
    uint32_t order;
};

struct touched {
    uint32_t number;
    size_t before; /* in top->before; as many bytes as the group had */
    uint32_t before_bytes;
};

struct weir_top {
    char *declaration;
    struct weir_top_config config; /* pointers: own copies, or NULL */
    int32_t *columns;
    int32_t *per;
    struct weir_top_order *by;
    struct weir_calendar calendar;
    bool windowed; /* of any kind */
    bool bounded;  /* window bounds are columns of ours */
    struct weir_key *row_key;
    struct weir_key *group_key;
    struct weir_schema *output;
    struct weir_table *table;
    struct weir_windows windows; /* by end */
    uint64_t shape;
    struct weir_keys row_keys;
    struct weir_keys group_keys;
    struct weir_buffer orders;
    /* of a feed, by row that is not late */
    int32_t capacity;
    int32_t *rows;
    int64_t (*bounds)[2]; /* end, start */
    struct weir_slot **slots;
    /* Changes of the batch. */
    struct touched *touched;
    size_t touched_count;
    size_t touched_capacity;
    size_t left;
    struct weir_side marks; /* by slot number: 1 + place in touched, a uint32_t */
    struct weir_buffer before;
};

static int no_memory(const struct weir_top *top, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for its rows", top->declaration);
}

/* --- the value of a slot --------------------------------------------------------------------- */

static int codec_encode(void *context, const void *value, struct weir_buffer *out) {
    (void)context;
    struct group group;
    memcpy(&group, value, sizeof group);
    int rc = weir_buffer_append(out, &group.arrivals, sizeof group.arrivals);
    return rc == WEIR_OK ? weir_buffer_append(out, group.rows, group.bytes) : rc;
}

static bool parse(struct group *group, const uint8_t *bytes, size_t length) {
    size_t at = 0;
    while (at < length) {
        struct entry entry;
        if (length - at < sizeof entry) {
            return false;
        }
        memcpy(&entry, bytes + at, sizeof entry);
        if (entry.bytes > length - at || entry.order < SUFFIX_BYTES ||
            entry.order > entry.bytes - sizeof entry || entry.bytes < sizeof entry) {
            return false;
        }
        group->last = (uint32_t)at;
        group->count++;
        at += entry.bytes;
    }
    return true;
}

static int codec_decode(void *context, void *value, const uint8_t *bytes, size_t length,
                        struct weir_error *err) {
    const struct weir_top *top = context;
    struct group group = {0};
    if (length < sizeof group.arrivals || length > GROUP_BYTES_MAX) {
        return weir_error_set(err, WEIR_E_CORRUPT, "a group of %zu bytes", length);
    }
    memcpy(&group.arrivals, bytes, sizeof group.arrivals);
    bytes += sizeof group.arrivals;
    length -= sizeof group.arrivals;
    if (!parse(&group, bytes, length)) {
        return weir_error_set(err, WEIR_E_CORRUPT, "a group's rows do not parse");
    }
    if (length > 0) {
        group.rows = weir_heap_take(weir_table_heap(top->table), length);
        if (group.rows == NULL) {
            return no_memory(top, err);
        }
        memcpy(group.rows, bytes, length);
        group.bytes = group.capacity = (uint32_t)length;
    }
    memcpy(value, &group, sizeof group);
    return WEIR_OK;
}

static void codec_fini(void *context, void *value) {
    const struct weir_top *top = context;
    struct group group;
    memcpy(&group, value, sizeof group);
    weir_heap_give(weir_table_heap(top->table), group.rows, group.capacity);
}

static const struct weir_table_codec codec = {
    .encode = codec_encode, .decode = codec_decode, .fini = codec_fini};

static struct group group_of(const struct weir_top *top, struct weir_slot *slot) {
    struct group group;
    memcpy(&group, weir_slot_value(top->table, slot), sizeof group);
    return group;
}

static struct entry entry_at(const uint8_t *rows, uint32_t at) {
    struct entry entry;
    memcpy(&entry, rows + at, sizeof entry);
    return entry;
}

/* --- creation -------------------------------------------------------------------------------- */

static int make_output(struct weir_top *top, struct weir_error *err) {
    const struct weir_top_config *config = &top->config;
    top->output = weir_schema_create();
    int rc = top->output != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (int32_t i = 0; i < config->column_count && rc == WEIR_OK; i++) {
        rc = weir_schema_add(top->output, &config->input->fields[config->columns[i]]);
    }
    if (rc == WEIR_OK && top->bounded) {
        rc = weir_schema_add_text(top->output, "window_start", "timestamp", false, err);
        if (rc == WEIR_OK) {
            rc = weir_schema_add_text(top->output, "window_end", "timestamp", false, err);
        }
    }
    if (rc == WEIR_OK && config->rank != NULL) {
        rc = weir_schema_add_text(top->output, config->rank, "int64", false, err);
    }
    if (rc == WEIR_OK && !top->windowed) {
        rc = weir_schema_add_text(top->output, WEIR_CHANGE_COLUMN, "int8", false, err);
    }
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "cannot make the output's schema");
}

static uint64_t shape_of(const struct weir_top *top) {
    const struct weir_top_config *config = &top->config;
    int64_t fixed[8] = {(int64_t)weir_key_shape(top->row_key),
                        (int64_t)weir_key_shape(top->group_key),
                        config->n,
                        config->ties,
                        config->size_us,
                        top->windowed,
                        top->calendar.unit,
                        top->calendar.week_start};
    uint64_t shape = XXH3_64bits(fixed, sizeof fixed);
    for (int32_t i = 0; i < config->by_count; i++) {
        int32_t by[2] = {config->by[i].column, config->by[i].descending};
        shape = XXH3_64bits_withSeed(by, sizeof by, shape);
    }
    return shape;
}

static int make(struct weir_top *top, const struct weir_top_config *config,
                struct weir_error *err) {
    top->declaration = strdup(config->declaration);
    top->columns = malloc(((size_t)config->column_count + 1) * sizeof *top->columns);
    top->per = malloc(((size_t)config->per_count + 1) * sizeof *top->per);
    top->by = malloc(((size_t)config->by_count + 1) * sizeof *top->by);
    if (top->declaration == NULL || top->columns == NULL || top->per == NULL || top->by == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "no memory");
    }
    memcpy(top->columns, config->columns, (size_t)config->column_count * sizeof *top->columns);
    memcpy(top->per, config->per, (size_t)config->per_count * sizeof *top->per);
    memcpy(top->by, config->by, (size_t)config->by_count * sizeof *top->by);
    top->config.columns = top->columns;
    top->config.per = top->per;
    top->config.by = top->by;
    if (config->n < 1 || config->n > WEIR_TOP_ROWS_MAX) {
        return weir_error_set(err, WEIR_E_CONFIG, "the top %d: 1 to %d rows of a group can be kept",
                              config->n, WEIR_TOP_ROWS_MAX);
    }
    top->row_key = weir_key_create(config->input, top->columns, config->column_count, err);
    top->group_key = top->row_key != NULL
                         ? weir_key_create(config->input, top->per, config->per_count, err)
                         : NULL;
    int rc = top->group_key != NULL ? make_output(top, err) : WEIR_E_CONFIG;
    if (rc != WEIR_OK) {
        return rc;
    }
    top->shape = shape_of(top);
    struct weir_table_config table = {
        .declaration = config->declaration,
        .cell = "top",
        .shape = top->shape,
        .value_bytes = sizeof(struct group),
        .key_inline_bytes = KEY_INLINE,
        .max_bytes = config->max_bytes,
        .option = config->option,
        .codec = &codec,
        .codec_context = top,
    };
    top->table = weir_table_create(&table, err);
    return top->table != NULL ? WEIR_OK : WEIR_E_CONFIG;
}

struct weir_top *weir_top_create(const struct weir_top_config *config, struct weir_error *err) {
    struct weir_top *top = calloc(1, sizeof *top);
    if (top == NULL) {
        weir_error_set(err, WEIR_E_NOMEM, "%s: no memory", config->declaration);
        return NULL;
    }
    weir_side_init(&top->marks, sizeof(uint32_t));
    top->config = *config;
    if (config->calendar != NULL) {
        top->calendar = *config->calendar;
        top->config.calendar = &top->calendar;
    }
    top->bounded = config->size_us > 0 || config->calendar != NULL;
    top->windowed = top->bounded || config->windowed;
    weir_windows_init(&top->windows);
    weir_keys_init(&top->row_keys);
    weir_keys_init(&top->group_keys);
    weir_buffer_init(&top->orders, (size_t)WEIR_BATCH_ROWS_MAX * ORDER_BYTES_MAX);
    weir_buffer_init(&top->before, (size_t)WEIR_BATCH_ROWS_MAX * GROUP_BYTES_MAX);
    if (make(top, config, err) != WEIR_OK) {
        weir_error_wrap(err, "%s", config->declaration);
        weir_top_destroy(top);
        return NULL;
    }
    return top;
}

void weir_top_destroy(struct weir_top *top) {
    if (top == NULL) {
        return;
    }
    weir_table_destroy(top->table);
    weir_key_destroy(top->row_key);
    weir_key_destroy(top->group_key);
    weir_schema_unref(top->output);
    weir_windows_fini(&top->windows);
    weir_keys_fini(&top->row_keys);
    weir_keys_fini(&top->group_keys);
    weir_buffer_fini(&top->orders);
    weir_buffer_fini(&top->before);
    free(top->declaration);
    free(top->columns);
    free(top->per);
    free(top->by);
    free(top->rows);
    free(top->bounds);
    free(top->slots);
    free(top->touched);
    weir_side_fini(&top->marks);
    free(top);
}

struct weir_schema *weir_top_output(const struct weir_top *top) {
    return top->output;
}

/* --- keeping a row ---------------------------------------------------------------------------- */

static int compare_orders(const uint8_t *a, uint32_t a_bytes, const uint8_t *b, uint32_t b_bytes) {
    uint32_t common = a_bytes < b_bytes ? a_bytes : b_bytes;
    int order = memcmp(a, b, common);
    return order != 0 ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

/* Are two rows equal in the order? */
static bool same_place(const uint8_t *rows, uint32_t a, uint32_t b) {
    struct entry x = entry_at(rows, a);
    struct entry y = entry_at(rows, b);
    return x.order == y.order &&
           memcmp(rows + a + sizeof x, rows + b + sizeof y, x.order - SUFFIX_BYTES) == 0;
}

/* Could a row of this order be among the first? */
static bool is_kept(const struct weir_top *top, const struct group *group, const uint8_t *order,
                    uint32_t bytes) {
    if (group->count < (uint32_t)top->config.n) {
        return true;
    }
    struct entry last = entry_at(group->rows, group->last);
    const uint8_t *other = group->rows + group->last + sizeof last;
    if (top->config.ties == WEIR_TOP_ALL) {
        return compare_orders(order, bytes - SUFFIX_BYTES, other, last.order - SUFFIX_BYTES) <= 0;
    }
    return compare_orders(order, bytes, other, last.order) < 0;
}

static int reserve_group(struct weir_top *top, struct group *group, size_t bytes,
                         struct weir_error *err) {
    if (bytes <= group->capacity) {
        return WEIR_OK;
    }
    if (bytes > GROUP_BYTES_MAX) {
        return weir_error_set(err, WEIR_E_LIMIT, "%s: the rows kept of one group pass %d MiB",
                              top->declaration, GROUP_BYTES_MAX >> 20);
    }
    size_t capacity = bytes + bytes / 4;
    int rc = weir_table_check_room(top->table, capacity - group->capacity, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    struct weir_heap *heap = weir_table_heap(top->table);
    uint8_t *rows = weir_heap_take(heap, capacity);
    if (rows == NULL) {
        return no_memory(top, err);
    }
    if (group->bytes > 0) {
        memcpy(rows, group->rows, group->bytes);
    }
    weir_heap_give(heap, group->rows, group->capacity);
    group->rows = rows;
    group->capacity = (uint32_t)capacity;
    return WEIR_OK;
}

/* Drops rows behind the nth; with `all`, those not equal to it. */
static void trim(const struct weir_top *top, struct group *group) {
    uint32_t at = 0;
    uint32_t nth = 0;
    uint32_t before = 0;
    uint32_t count = 0;
    while (at < group->bytes) {
        bool beyond = count >= (uint32_t)top->config.n;
        if (beyond && (top->config.ties != WEIR_TOP_ALL || !same_place(group->rows, nth, at))) {
            break;
        }
        nth = beyond ? nth : at;
        before = at;
        at += entry_at(group->rows, at).bytes;
        count++;
    }
    group->bytes = at;
    group->count = count;
    group->last = before;
}

static int keep(struct weir_top *top, struct group *group, const uint8_t *order,
                uint32_t order_bytes, const uint8_t *row, uint32_t row_bytes,
                struct weir_error *err) {
    struct entry entry = {(uint32_t)sizeof entry + order_bytes + row_bytes, order_bytes};
    int rc = reserve_group(top, group, (size_t)group->bytes + entry.bytes, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    uint32_t at = 0;
    while (at < group->bytes) {
        struct entry other = entry_at(group->rows, at);
        if (compare_orders(order, order_bytes, group->rows + at + sizeof other, other.order) < 0) {
            break;
        }
        at += other.bytes;
    }
    uint8_t *into = group->rows + at;
    memmove(into + entry.bytes, into, group->bytes - at);
    memcpy(into, &entry, sizeof entry);
    memcpy(into + sizeof entry, order, order_bytes);
    memcpy(into + sizeof entry + order_bytes, row, row_bytes);
    group->bytes += entry.bytes;
    group->count++;
    trim(top, group);
    if (group->count > WEIR_TOP_ROWS_MAX * ALL_FACTOR) {
        return weir_error_set(err, WEIR_E_LIMIT, "%s: more than %d rows of one group are equal",
                              top->declaration, WEIR_TOP_ROWS_MAX * ALL_FACTOR);
    }
    return WEIR_OK;
}

/* --- feeding --------------------------------------------------------------------------------- */

static int reserve_scratch(struct weir_top *top, int32_t count, struct weir_error *err) {
    if (count <= top->capacity) {
        return WEIR_OK;
    }
    free(top->rows);
    free(top->bounds);
    free(top->slots);
    top->rows = malloc((size_t)count * sizeof *top->rows);
    top->bounds = malloc((size_t)count * sizeof *top->bounds);
    top->slots = malloc((size_t)count * sizeof *top->slots);
    top->capacity = top->rows != NULL && top->bounds != NULL && top->slots != NULL ? count : 0;
    return top->capacity > 0 ? WEIR_OK : no_memory(top, err);
}

/* The window of a row into top->bounds[at]; false: it is late. */
static bool find_window(struct weir_top *top, const struct weir_batch *batch, int32_t row,
                        int32_t at, const int64_t *times, const int64_t *watermarks) {
    int64_t *bounds = top->bounds[at];
    if (!top->windowed) {
        return true;
    }
    if (!top->bounded) {
        bounds[0] = ((const int64_t *)batch->columns[top->config.window_end].values)[row];
        bounds[1] = ((const int64_t *)batch->columns[top->config.window_start].values)[row];
        return true;
    }
    bool again =
        at > 0 && times[row] >= top->bounds[at - 1][1] && times[row] < top->bounds[at - 1][0];
    if (again) {
        memcpy(bounds, top->bounds[at - 1], sizeof top->bounds[at]);
    } else if (top->config.calendar != NULL) {
        weir_calendar_window(&top->calendar, times[row], &bounds[1], &bounds[0]);
    } else {
        bounds[1] = weir_window_start(times[row], top->config.size_us);
        bounds[0] = weir_time_add(bounds[1], top->config.size_us);
    }
    return weir_time_add(bounds[0], top->config.lateness_us) > watermarks[row];
}

static int join_window(struct weir_top *top, struct weir_slot *slot, int64_t end,
                       struct weir_error *err) {
    struct weir_window *window = weir_windows_get(&top->windows, end);
    if (window == NULL) {
        return no_memory(top, err);
    }
    slot->link = 0;
    if (window->tail == 0) {
        window->head = slot->number;
    } else {
        weir_table_slot(top->table, window->tail)->link = slot->number;
    }
    window->tail = slot->number;
    window->slots++;
    return WEIR_OK;
}

static int find_groups(struct weir_top *top, const struct weir_batch *batch, int32_t count,
                       struct weir_error *err) {
    struct weir_keys *keys = &top->group_keys;
    uint32_t prefix = top->windowed ? BOUNDS_BYTES : 0;
    int rc = weir_key_encode(top->group_key, batch, top->rows, count, prefix, keys);
    if (rc != WEIR_OK) {
        return no_memory(top, err);
    }
    for (int32_t i = 0; i < count && prefix > 0; i++) {
        memcpy(keys->bytes + keys->offsets[i], top->bounds[i], BOUNDS_BYTES);
    }
    weir_keys_hash(keys, weir_table_view(top->table)->seed);
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        if (i + AHEAD * 2 < count) {
            weir_table_prefetch(top->table, keys->hashes[i + AHEAD * 2]);
        }
        if (i + AHEAD < count) {
            weir_table_prefetch_slot(top->table, keys->hashes[i + AHEAD]);
        }
        bool created;
        struct weir_slot *slot =
            weir_table_get(top->table, keys->hashes[i], keys->bytes + keys->offsets[i],
                           keys->offsets[i + 1] - keys->offsets[i], &created, err);
        if (slot == NULL) {
            return err != NULL ? err->code : WEIR_E_LIMIT;
        }
        top->slots[i] = slot;
        if (created && top->windowed) {
            rc = join_window(top, slot, top->bounds[i][0], err);
        } else if (!created && weir_table_touch(top->table, slot) != WEIR_OK) {
            rc = no_memory(top, err);
        }
    }
    return rc;
}

/* Without a window: the group as it is before the batch changes it. */
static int note(struct weir_top *top, const struct weir_slot *slot, const struct group *group,
                struct weir_error *err) {
    if (!weir_side_reach(&top->marks, slot->number)) {
        return no_memory(top, err);
    }
    uint32_t *mark = weir_side_at(&top->marks, slot->number);
    if (*mark != 0) {
        return WEIR_OK;
    }
    if (top->touched_count == top->touched_capacity) {
        size_t capacity = top->touched_capacity == 0 ? 256 : top->touched_capacity * 2;
        struct touched *touched = realloc(top->touched, capacity * sizeof *touched);
        if (touched == NULL) {
            return no_memory(top, err);
        }
        top->touched = touched;
        top->touched_capacity = capacity;
    }
    top->touched[top->touched_count++] =
        (struct touched){slot->number, top->before.size, group->bytes};
    *mark = (uint32_t)top->touched_count;
    return weir_buffer_append(&top->before, group->rows, group->bytes) == WEIR_OK
               ? WEIR_OK
               : no_memory(top, err);
}

static int make_order(struct weir_top *top, const struct weir_batch *batch, int32_t row,
                      int64_t time, uint64_t arrival, struct weir_error *err) {
    bool last = top->config.ties == WEIR_TOP_LAST;
    weir_buffer_clear(&top->orders);
    int rc = weir_top_order_append(top->config.by, top->config.by_count, batch, row, &top->orders);
    if (rc == WEIR_OK) {
        rc = weir_top_order_int64(time, last, &top->orders);
    }
    if (rc == WEIR_OK) {
        rc = weir_top_order_int64((int64_t)arrival, last, &top->orders);
    }
    return rc == WEIR_OK ? rc : no_memory(top, err);
}

static int feed_row(struct weir_top *top, const struct weir_batch *batch, int32_t i, int64_t time,
                    struct weir_error *err) {
    struct weir_slot *slot = top->slots[i];
    struct group group = group_of(top, slot);
    int rc = make_order(top, batch, top->rows[i], time, group.arrivals++, err);
    memcpy(weir_slot_value(top->table, slot), &group, sizeof group);
    if (rc != WEIR_OK || !is_kept(top, &group, top->orders.data, (uint32_t)top->orders.size)) {
        return rc;
    }
    rc = top->windowed ? WEIR_OK : note(top, slot, &group, err);
    if (rc == WEIR_OK &&
        weir_key_encode(top->row_key, batch, &top->rows[i], 1, 0, &top->row_keys) != WEIR_OK) {
        rc = no_memory(top, err);
    }
    if (rc == WEIR_OK) {
        rc = keep(top, &group, top->orders.data, (uint32_t)top->orders.size, top->row_keys.bytes,
                  top->row_keys.offsets[1], err);
        memcpy(weir_slot_value(top->table, slot), &group, sizeof group);
    }
    return rc;
}

int weir_top_feed(struct weir_top *top, const struct weir_batch *batch, const int32_t *sel,
                  int32_t count, const int64_t *times_us, const int64_t *watermark_before_us,
                  int32_t *late_sel, int32_t *late_count, struct weir_error *err) {
    int32_t taken = 0;
    int32_t late = 0;
    for (size_t i = 0; i < top->touched_count; i++) {
        *(uint32_t *)weir_side_at(&top->marks, top->touched[i].number) = 0;
    }
    top->touched_count = top->left = 0;
    weir_buffer_clear(&top->before);
    int rc = reserve_scratch(top, count, err);
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        int32_t row = sel != NULL ? sel[i] : i;
        if (!find_window(top, batch, row, taken, times_us, watermark_before_us)) {
            late_sel[late++] = row;
            continue;
        }
        top->rows[taken++] = row;
    }
    *late_count = late;
    if (rc == WEIR_OK && taken > 0) {
        rc = find_groups(top, batch, taken, err);
    }
    for (int32_t i = 0; i < taken && rc == WEIR_OK; i++) {
        rc = feed_row(top, batch, i, times_us != NULL ? times_us[top->rows[i]] : 0, err);
    }
    return rc;
}

/* --- leaving --------------------------------------------------------------------------------- */

static int64_t time_of(const struct weir_top *top, const uint8_t *rows, uint32_t at) {
    struct entry entry = entry_at(rows, at);
    uint64_t word;
    memcpy(&word, rows + at + sizeof entry + entry.order - SUFFIX_BYTES, sizeof word);
    word = top->config.ties == WEIR_TOP_LAST ? ~word : word;
    return (int64_t)(__builtin_bswap64(word) ^ (UINT64_C(1) << 63));
}

struct leaving {
    const uint8_t *rows;
    uint32_t at;
    int64_t rank;          /* from 0 */
    const int64_t *bounds; /* end, start; NULL: no columns of them */
    int change;
};

static int append(struct weir_top *top, const struct leaving *row, struct weir_batch_builder *out,
                  int64_t *times_us, struct weir_error *err) {
    struct entry entry = entry_at(row->rows, row->at);
    uint32_t head = (uint32_t)sizeof entry + entry.order;
    struct weir_column_builder *column = out->columns + top->config.column_count;
    int rc =
        weir_key_decode(top->row_key, row->rows + row->at + head, entry.bytes - head, out->columns);
    if (rc == WEIR_OK && top->bounded) {
        rc = weir_builder_int(column++, row->bounds[1]);
        if (rc == WEIR_OK) {
            rc = weir_builder_int(column++, row->bounds[0]);
        }
    }
    if (rc == WEIR_OK && top->config.rank != NULL) {
        rc = weir_builder_int(column++, row->rank + 1);
    }
    if (rc == WEIR_OK && !top->windowed) {
        rc = weir_builder_int(column, row->change);
    }
    if (rc != WEIR_OK) {
        weir_batch_builder_undo_row(out);
        return weir_error_set(err, rc, "%s: no room for one row of output", top->declaration);
    }
    if (times_us != NULL) {
        times_us[out->rows] = time_of(top, row->rows, row->at);
    }
    weir_batch_builder_finish_row(out);
    return WEIR_OK;
}

/* A place in a group's rows, with its rank. */
struct place {
    const uint8_t *rows;
    uint32_t bytes;
    uint32_t at;
    uint32_t before; /* the row in front of it */
    int64_t index;
    int64_t rank;
};

static void move_on(const struct weir_top *top, struct place *place) {
    place->before = place->at;
    place->at += entry_at(place->rows, place->at).bytes;
    place->index++;
    bool tied = top->config.ties == WEIR_TOP_ALL && place->at < place->bytes &&
                same_place(place->rows, place->before, place->at);
    place->rank = tied ? place->rank : place->index;
}

static bool is_over(const struct place *place) {
    return place->at >= place->bytes;
}

static int leave(struct weir_top *top, const struct place *place, int change,
                 struct weir_batch_builder *out, int64_t *times_us, struct weir_error *err) {
    struct leaving row = {place->rows, place->at, place->rank, NULL, change};
    return append(top, &row, out, times_us, err);
}

/* By rank: what stands at each place now and what stood there. */
static int leave_ranked(struct weir_top *top, struct place was, struct place is,
                        struct weir_batch_builder *out, int64_t *times_us, struct weir_error *err) {
    int rc = WEIR_OK;
    while (rc == WEIR_OK && (!is_over(&was) || !is_over(&is))) {
        if (is_over(&was)) {
            rc = leave(top, &is, WEIR_CHANGE_INSERT, out, times_us, err);
        } else if (is_over(&is)) {
            rc = leave(top, &was, WEIR_CHANGE_DELETE, out, times_us, err);
        } else {
            struct entry a = entry_at(was.rows, was.at);
            struct entry b = entry_at(is.rows, is.at);
            if (was.rank != is.rank || a.bytes != b.bytes ||
                memcmp(was.rows + was.at, is.rows + is.at, a.bytes) != 0) {
                rc = leave(top, &was, WEIR_CHANGE_BEFORE, out, times_us, err);
                if (rc == WEIR_OK) {
                    rc = leave(top, &is, WEIR_CHANGE_AFTER, out, times_us, err);
                }
            }
        }
        if (!is_over(&was)) {
            move_on(top, &was);
        }
        if (!is_over(&is)) {
            move_on(top, &is);
        }
    }
    return rc;
}

/* As sets: both are in order, and no two rows have one arrival. */
static int leave_unranked(struct weir_top *top, struct place was, struct place is,
                          struct weir_batch_builder *out, int64_t *times_us,
                          struct weir_error *err) {
    int rc = WEIR_OK;
    while (rc == WEIR_OK && (!is_over(&was) || !is_over(&is))) {
        int order = 1;
        if (!is_over(&was) && !is_over(&is)) {
            struct entry a = entry_at(was.rows, was.at);
            struct entry b = entry_at(is.rows, is.at);
            order = compare_orders(was.rows + was.at + sizeof a, a.order,
                                   is.rows + is.at + sizeof b, b.order);
        } else if (is_over(&is)) {
            order = -1;
        }
        if (order < 0) {
            rc = leave(top, &was, WEIR_CHANGE_DELETE, out, times_us, err);
        } else if (order > 0) {
            rc = leave(top, &is, WEIR_CHANGE_INSERT, out, times_us, err);
        } else if (top->config.rank != NULL && was.rank != is.rank) {
            rc = leave(top, &was, WEIR_CHANGE_BEFORE, out, times_us, err);
            if (rc == WEIR_OK) {
                rc = leave(top, &is, WEIR_CHANGE_AFTER, out, times_us, err);
            }
        }
        if (order <= 0) {
            move_on(top, &was);
        }
        if (order >= 0) {
            move_on(top, &is);
        }
    }
    return rc;
}

int weir_top_changes(struct weir_top *top, struct weir_batch_builder *out, int64_t *times_us,
                     bool *done, struct weir_error *err) {
    *done = false;
    while (top->left < top->touched_count) {
        const struct touched *touched = &top->touched[top->left];
        struct group group = group_of(top, weir_table_slot(top->table, touched->number));
        struct place was = {.rows = top->before.data + touched->before,
                            .bytes = touched->before_bytes};
        struct place is = {.rows = group.rows, .bytes = group.bytes};
        /* All of a group's changes or none: an update is not cut in two. */
        if (out->rows > 0 && out->rows + 2 * (int32_t)group.count +
                                     (int32_t)(touched->before_bytes / sizeof(struct entry)) >
                                 out->rows_max) {
            return WEIR_OK;
        }
        bool ranked = top->config.rank != NULL || top->config.n == 1;
        int rc = (ranked && top->config.ties != WEIR_TOP_ALL ? leave_ranked : leave_unranked)(
            top, was, is, out, times_us, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        top->left++;
    }
    *done = true;
    return WEIR_OK;
}

bool weir_top_ready(const struct weir_top *top, int64_t watermark_us) {
    const struct weir_windows *windows = &top->windows;
    return windows->count > 0 && weir_time_add(windows->windows[windows->heap[0]].start_us,
                                               top->config.lateness_us) <= watermark_us;
}

static int fire_group(struct weir_top *top, struct weir_slot *slot, struct weir_batch_builder *out,
                      struct weir_error *err) {
    struct group group = group_of(top, slot);
    int64_t bounds[2];
    memcpy(bounds, weir_slot_key(top->table, slot), sizeof bounds);
    struct place place = {.rows = group.rows, .bytes = group.bytes};
    int rc = WEIR_OK;
    for (; rc == WEIR_OK && !is_over(&place); move_on(top, &place)) {
        struct leaving row = {place.rows, place.at, place.rank, bounds, 0};
        rc = append(top, &row, out, NULL, err);
    }
    if (rc == WEIR_OK && weir_table_delete(top->table, slot, false) != WEIR_OK) {
        rc = no_memory(top, err);
    }
    return rc;
}

int weir_top_fire(struct weir_top *top, int64_t watermark_us, struct weir_batch_builder *out,
                  bool *done, struct weir_error *err) {
    *done = false;
    while (weir_top_ready(top, watermark_us)) {
        struct weir_window *window = weir_windows_first(&top->windows);
        struct weir_slot *slot = weir_table_slot(top->table, window->head);
        struct group group = group_of(top, slot);
        if (out->rows > 0 && out->rows + (int32_t)group.count > out->rows_max) {
            return WEIR_OK;
        }
        uint32_t next = slot->link;
        int rc = fire_group(top, slot, out, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        window->head = next;
        if (next == 0) {
            weir_windows_remove_first(&top->windows);
        }
    }
    *done = true;
    return WEIR_OK;
}

/* --- state ------------------------------------------------------------------------------------ */

size_t weir_top_bytes(const struct weir_top *top) {
    return weir_table_bytes(top->table) + weir_windows_bytes(&top->windows);
}

uint64_t weir_top_shape(const struct weir_top *top) {
    return top->shape;
}

struct weir_cell *weir_top_cell(struct weir_top *top) {
    return weir_table_cell(top->table);
}

struct ordered {
    uint64_t sequence;
    uint32_t number;
};

static int by_sequence(const void *a, const void *b) {
    const struct ordered *x = a;
    const struct ordered *y = b;
    return (x->sequence > y->sequence) - (x->sequence < y->sequence);
}

int weir_top_restore(struct weir_top *top, struct weir_error *err) {
    weir_windows_clear(&top->windows);
    if (!top->windowed) {
        return WEIR_OK;
    }
    size_t count = 0;
    struct ordered *order = malloc((weir_table_keys(top->table) + 1) * sizeof *order);
    if (order == NULL) {
        return no_memory(top, err);
    }
    for (uint32_t n = 1; n <= weir_table_slots(top->table); n++) {
        const struct weir_slot *slot = weir_table_slot(top->table, n);
        if (slot->sequence != 0) {
            order[count++] = (struct ordered){slot->sequence, n};
        }
    }
    qsort(order, count, sizeof *order, by_sequence);
    int rc = WEIR_OK;
    for (size_t i = 0; i < count && rc == WEIR_OK; i++) {
        struct weir_slot *slot = weir_table_slot(top->table, order[i].number);
        int64_t end;
        if (slot->key_bytes < BOUNDS_BYTES) {
            rc = weir_error_set(err, WEIR_E_CORRUPT, "%s: a key in the state does not parse",
                                weir_table_name(top->table));
            break;
        }
        memcpy(&end, weir_slot_key(top->table, slot), sizeof end);
        rc = join_window(top, slot, end, err);
    }
    free(order);
    return rc;
}
