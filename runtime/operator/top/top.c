/* Making a top, feeding it, its state. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "batch/change.h"
#include "operator/aggregate/aggregate_private.h"
#include "operator/order.h"
#include "operator/top/ranks.h"
#include "operator/top/top_private.h"

enum { ORDER_BYTES_MAX = 1 << 20, KEY_INLINE = 40, AHEAD = 12, ENTRIES = 1 << 16 };

int weir_top_no_memory(const struct weir_top *top, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for its rows", top->declaration);
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
    if (rc == WEIR_OK && top->changes) {
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
    if (config->retracts || config->updates || config->every_us > 0) {
        int64_t more[5] = {config->retracts, config->updates, config->every_us, config->cumulate,
                           config->tied_count};
        shape = XXH3_64bits_withSeed(more, sizeof more, shape);
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
    top->row_key = weir_key_create_whole(config->input, top->columns, config->column_count, err);
    top->group_key = top->row_key != NULL
                         ? weir_key_create(config->input, top->per, config->per_count, err)
                         : NULL;
    int rc = top->group_key != NULL ? make_output(top, err) : WEIR_E_CONFIG;
    if (rc != WEIR_OK) {
        return rc;
    }
    top->shape = shape_of(top);
    bool ranks = config->retracts;
    struct weir_table_config table = {
        .declaration = config->declaration,
        .cell = "top",
        .shape = top->shape,
        .value_bytes = ranks ? WEIR_RANKS_GROUP_BYTES : sizeof(struct group),
        .key_inline_bytes = KEY_INLINE,
        .max_bytes = config->max_bytes,
        .option = config->option,
        .codec = ranks ? &weir_ranks_codec : &weir_top_codec,
        .codec_context = top,
    };
    top->table = weir_table_create(&table, err);
    if (top->table == NULL || !ranks) {
        return top->table != NULL ? WEIR_OK : WEIR_E_CONFIG;
    }
    top->ranks = weir_ranks_create(top, err);
    return top->ranks != NULL ? WEIR_OK : WEIR_E_CONFIG;
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
    top->changes = !top->windowed || config->updates;
    top->config.tied_count = config->tied_count > 0 ? config->tied_count : config->by_count;
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
    weir_ranks_destroy(top->ranks);
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
    return top->capacity > 0 ? WEIR_OK : weir_top_no_memory(top, err);
}

/* The window of a row into top->bounds[at]; false: it is late. */
static bool find_window(struct weir_top *top, const struct weir_top_rows *rows, int32_t row,
                        int32_t at) {
    int64_t *bounds = top->bounds[at];
    if (!top->windowed) {
        return true;
    }
    if (!top->bounded) {
        const struct weir_column *columns = rows->batch->columns;
        bounds[0] = ((const int64_t *)columns[top->config.window_end].values)[row];
        bounds[1] = ((const int64_t *)columns[top->config.window_start].values)[row];
        return true;
    }
    int64_t time = rows->times_us[row];
    bool again = at > 0 && time >= top->bounds[at - 1][1] && time < top->bounds[at - 1][0];
    if (again) {
        memcpy(bounds, top->bounds[at - 1], sizeof top->bounds[at]);
    } else if (top->config.calendar != NULL) {
        weir_calendar_window(top->config.calendar, time, &bounds[1], &bounds[0]);
    } else {
        bounds[1] = weir_window_start(time, top->config.size_us);
        bounds[0] = weir_time_add(bounds[1], top->config.size_us);
    }
    return weir_time_add(bounds[0], top->config.lateness_us) > rows->watermark_before_us[row];
}

static int32_t windows_of_a_row(const struct weir_top *top) {
    int64_t every = top->config.every_us;
    return every > 0 ? (int32_t)((top->config.size_us + every - 1) / every) : 1;
}

/* The windows of a row that are not over into top->bounds[taken..]; returns how many, and whether
 * one was left out. */
static int32_t find_overlapping(struct weir_top *top, const struct weir_top_rows *rows, int32_t row,
                                int32_t taken, bool *late) {
    int64_t size = top->config.size_us;
    int64_t every = top->config.every_us;
    int64_t time = rows->times_us[row];
    int64_t start = weir_window_start(time, every);
    int64_t end = weir_time_add(start, every);
    int32_t found = 0;
    *late = false;
    if (top->config.cumulate) {
        start = weir_window_start(time, size);
    } else {
        start -= (int64_t)(windows_of_a_row(top) - 1) * every;
        for (; weir_time_add(start, size) <= time;) {
            start += every;
        }
        end = weir_time_add(start, size);
    }
    int64_t last = top->config.cumulate ? weir_time_add(start, size) : weir_time_add(time, size);
    for (; end <= last; end += every, start += top->config.cumulate ? 0 : every) {
        if (weir_time_add(end, top->config.lateness_us) <= rows->watermark_before_us[row]) {
            *late = true;
            continue;
        }
        top->bounds[taken + found][0] = end;
        top->bounds[taken + found][1] = start;
        top->rows[taken + found++] = row;
    }
    return found;
}

/* Rows from *next on into top->rows and bounds, as far as there is room. */
static int32_t find_windows(struct weir_top *top, const struct weir_top_rows *rows, int32_t *next,
                            int32_t *late_sel, int32_t *late_count) {
    int32_t windows = windows_of_a_row(top);
    int32_t taken = 0;
    for (; *next < rows->count && taken + windows <= top->capacity; (*next)++) {
        int32_t row = rows->sel != NULL ? rows->sel[*next] : *next;
        bool late;
        if (windows > 1) {
            taken += find_overlapping(top, rows, row, taken, &late);
        } else {
            late = !find_window(top, rows, row, taken);
            top->rows[taken] = row;
            taken += !late;
        }
        if (late) {
            late_sel[(*late_count)++] = row;
        }
    }
    return taken;
}

static int join_window(struct weir_top *top, struct weir_slot *slot, int64_t end,
                       struct weir_error *err) {
    struct weir_window *window = weir_windows_get(&top->windows, end);
    if (window == NULL) {
        return weir_top_no_memory(top, err);
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
        return weir_top_no_memory(top, err);
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
            rc = weir_top_no_memory(top, err);
        }
    }
    return rc;
}

int weir_top_note(struct weir_top *top, const struct weir_slot *slot, int64_t time_us, bool *first,
                  struct weir_error *err) {
    *first = false;
    if (!weir_side_reach(&top->marks, slot->number)) {
        return weir_top_no_memory(top, err);
    }
    uint32_t *mark = weir_side_at(&top->marks, slot->number);
    if (*mark != 0) {
        top->touched[*mark - 1].time_us = time_us;
        return WEIR_OK;
    }
    if (top->touched_count == top->touched_capacity) {
        size_t capacity = top->touched_capacity == 0 ? 256 : top->touched_capacity * 2;
        struct touched *touched = realloc(top->touched, capacity * sizeof *touched);
        if (touched == NULL) {
            return weir_top_no_memory(top, err);
        }
        top->touched = touched;
        top->touched_capacity = capacity;
    }
    top->touched[top->touched_count++] =
        (struct touched){.number = slot->number, .time_us = time_us, .before = top->before.size};
    *mark = (uint32_t)top->touched_count;
    *first = true;
    return WEIR_OK;
}

/* The group as it is before it changes. */
static int note(struct weir_top *top, const struct weir_slot *slot, const struct group *group,
                struct weir_error *err) {
    bool first;
    int rc = weir_top_note(top, slot, 0, &first, err);
    if (rc != WEIR_OK || !first) {
        return rc;
    }
    top->touched[top->touched_count - 1].before_bytes = group->bytes;
    return weir_buffer_append(&top->before, group->rows, group->bytes) == WEIR_OK
               ? WEIR_OK
               : weir_top_no_memory(top, err);
}

/* The row's place: a column after the other, null last. */
int weir_top_append_order(struct weir_top *top, const struct weir_batch *batch, int32_t row,
                          int32_t from, int32_t to) {
    enum { PRESENT = 1, ABSENT = 2 };
    int rc = WEIR_OK;
    for (int32_t i = from; i < to && rc == WEIR_OK; i++) {
        const struct weir_column *column = &batch->columns[top->by[i].column];
        uint8_t mark = weir_column_is_null(column, row) ? ABSENT : PRESENT;
        rc = weir_buffer_append(&top->orders, &mark, 1);
        if (rc == WEIR_OK && mark == PRESENT) {
            rc = weir_order_value(column, row, top->by[i].descending, &top->orders);
        }
    }
    return rc;
}

static int make_order(struct weir_top *top, const struct weir_batch *batch, int32_t row,
                      int64_t time, uint64_t arrival, struct weir_error *err) {
    bool last = top->config.ties == WEIR_TOP_LAST;
    weir_buffer_clear(&top->orders);
    int rc = weir_top_append_order(top, batch, row, 0, top->config.by_count);
    if (rc == WEIR_OK) {
        rc = weir_order_int64(time, last, &top->orders);
    }
    if (rc == WEIR_OK) {
        rc = weir_order_int64((int64_t)arrival, last, &top->orders);
    }
    return rc == WEIR_OK ? rc : weir_top_no_memory(top, err);
}

static int feed_row(struct weir_top *top, const struct weir_batch *batch, int32_t i, int64_t time,
                    struct weir_error *err) {
    struct weir_slot *slot = top->slots[i];
    struct group group = group_of(top, slot);
    int rc = make_order(top, batch, top->rows[i], time, group.arrivals++, err);
    memcpy(weir_slot_value(top->table, slot), &group, sizeof group);
    if (rc != WEIR_OK ||
        !weir_top_is_kept(top, &group, top->orders.data, (uint32_t)top->orders.size)) {
        return rc;
    }
    rc = top->changes ? note(top, slot, &group, err) : WEIR_OK;
    if (rc == WEIR_OK &&
        weir_key_encode(top->row_key, batch, &top->rows[i], 1, 0, &top->row_keys) != WEIR_OK) {
        rc = weir_top_no_memory(top, err);
    }
    if (rc == WEIR_OK) {
        rc = weir_top_keep(top, &group, top->orders.data, (uint32_t)top->orders.size,
                           top->row_keys.bytes, top->row_keys.offsets[1], err);
        memcpy(weir_slot_value(top->table, slot), &group, sizeof group);
    }
    return rc;
}

/* What was told is forgotten; what waits to be goes on. */
static void forget_told(struct weir_top *top) {
    if (top->left < top->touched_count) {
        return;
    }
    for (size_t i = 0; i < top->touched_count; i++) {
        *(uint32_t *)weir_side_at(&top->marks, top->touched[i].number) = 0;
    }
    top->touched_count = top->left = 0;
    weir_buffer_clear(&top->before);
}

static int feed_taken(struct weir_top *top, const struct weir_top_rows *rows, int32_t taken,
                      struct weir_error *err) {
    int rc = find_groups(top, rows->batch, taken, err);
    if (rc == WEIR_OK && top->ranks != NULL) {
        return weir_ranks_feed(top, rows, taken, err);
    }
    for (int32_t i = 0; i < taken && rc == WEIR_OK; i++) {
        rc = feed_row(top, rows->batch, i,
                      rows->times_us != NULL ? rows->times_us[top->rows[i]] : 0, err);
    }
    return rc;
}

int weir_top_feed(struct weir_top *top, const struct weir_top_rows *rows, int32_t *late_sel,
                  int32_t *late_count, struct weir_error *err) {
    int64_t entries = (int64_t)rows->count * windows_of_a_row(top);
    *late_count = 0;
    forget_told(top);
    int rc = reserve_scratch(top, entries < ENTRIES ? (int32_t)entries : ENTRIES, err);
    for (int32_t next = 0; next < rows->count && rc == WEIR_OK;) {
        int32_t taken = find_windows(top, rows, &next, late_sel, late_count);
        rc = taken > 0 ? feed_taken(top, rows, taken, err) : WEIR_OK;
    }
    return rc;
}

/* --- state ------------------------------------------------------------------------------------ */

size_t weir_top_bytes(const struct weir_top *top) {
    return weir_table_bytes(top->table) + weir_windows_bytes(&top->windows) +
           weir_ranks_bytes(top->ranks);
}

uint64_t weir_top_shape(const struct weir_top *top) {
    return top->shape;
}

int32_t weir_top_cells(struct weir_top *top, struct weir_cell **cells, int32_t capacity) {
    int32_t count = 0;
    if (count < capacity) {
        cells[count++] = weir_table_cell(top->table);
    }
    if (top->ranks != NULL && count < capacity) {
        cells[count++] = weir_ranks_cell(top->ranks);
    }
    return count;
}

int32_t weir_top_shows(struct weir_top *top, struct weir_show *shows, int32_t capacity) {
    return top->ranks != NULL ? weir_ranks_shows(top, shows, capacity)
                              : weir_top_group_shows(top, shows, capacity);
}

static int restore_windows(struct weir_top *top, struct weir_error *err) {
    weir_windows_clear(&top->windows);
    if (!top->windowed) {
        return WEIR_OK;
    }
    size_t count;
    struct weir_ordered_slot *order = weir_slots_in_order(top->table, &count);
    if (order == NULL) {
        return weir_top_no_memory(top, err);
    }
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

int weir_top_restore(struct weir_top *top, struct weir_error *err) {
    int rc = restore_windows(top, err);
    return rc == WEIR_OK && top->ranks != NULL ? weir_ranks_restore(top, err) : rc;
}
