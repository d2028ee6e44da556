/* quantile, median, top_k, collect; and first, last, arg_max, arg_min whose rows may be taken back:
 * the values themselves, in bags (bag.h). */
#include <math.h>
#include <stdlib.h>

#include "operator/aggregate/measure_private.h"
#include "operator/order.h"

enum { TOP_CANDIDATES = 4096 };

bool weir_measure_bags(const struct weir_measure_cell *cell) {
    switch (cell->measure.kind) {
    case WEIR_MEASURE_QUANTILE:
    case WEIR_MEASURE_MEDIAN:
    case WEIR_MEASURE_TOP_K:
    case WEIR_MEASURE_COLLECT:
        return true;
    default:
        return cell->takes_back && weir_measure_chooses(cell->measure.kind);
    }
}

static struct weir_bag_rules rules_of(const struct weir_measure_cell *cell) {
    struct weir_bag_rules rules = {.equals = WEIR_BAG_ONE};
    switch (cell->measure.kind) {
    case WEIR_MEASURE_TOP_K:
        rules.candidates = cell->takes_back ? 0 : TOP_CANDIDATES;
        break;
    case WEIR_MEASURE_COLLECT:
        rules.equals = WEIR_BAG_FIRST;
        rules.most = (uint64_t)cell->measure.most;
        break;
    default:
        if (weir_measure_chooses(cell->measure.kind)) {
            rules.equals = cell->measure.kind == WEIR_MEASURE_LAST ? WEIR_BAG_LAST : WEIR_BAG_FIRST;
        }
    }
    return rules;
}

/* The row's place among the others of its group. */
static int append_order(const struct weir_measure_cell *cell, const struct weir_measure_rows *rows,
                        const struct weir_column *input, int32_t row, struct weir_buffer *out) {
    int64_t time = rows->times_us != NULL ? rows->times_us[row] : 0;
    int rc = WEIR_OK;
    switch (cell->measure.kind) {
    case WEIR_MEASURE_ARG_MAX:
    case WEIR_MEASURE_ARG_MIN:
        rc = weir_order_int128(weir_chosen_order(rows->order, row),
                               cell->measure.kind == WEIR_MEASURE_ARG_MAX, out);
        return rc; /* what takes a row back may have another event time than the row had */
    case WEIR_MEASURE_COLLECT:
        return cell->takes_back ? weir_order_value(input, row, false, out)
                                : weir_order_int64(time, false, out);
    case WEIR_MEASURE_FIRST:
    case WEIR_MEASURE_LAST:
        return weir_order_int64(time, cell->measure.kind == WEIR_MEASURE_LAST, out);
    default:
        return weir_order_value(input, row, false, out);
    }
}

int weir_bag_failed(const struct weir_measure_cell *cell, int rc, struct weir_error *err) {
    if (rc != WEIR_E_LIMIT) {
        return weir_error_set(err, rc, "measure '%s': no memory", cell->measure.name);
    }
    const char *instead = cell->measure.kind == WEIR_MEASURE_COLLECT ? "say max = …"
                          : cell->measure.share > 0                  ? "use approx_quantile"
                                                    : "group by more, or use a shorter window";
    return weir_error_set(err, rc, "measure '%s': the values of one group pass %u MiB; %s",
                          cell->measure.name, WEIR_BAG_BYTES_MAX >> 20, instead);
}

static int put(struct weir_measures *measures, int32_t m, uint8_t *value,
               const struct weir_bag_rules *rules, const struct weir_bag_item *item,
               struct weir_error *err) {
    const struct weir_measure_cell *cell = &measures->cells[m];
    struct weir_part part;
    memcpy(&part, value + cell->offset, sizeof part);
    uint32_t capacity = part.capacity;
    int rc = weir_bag_add(&part, weir_table_heap(measures->table), rules, measures->bags, item);
    memcpy(value + cell->offset, &part, sizeof part);
    set_present(value, m);
    if (rc != WEIR_OK) {
        return weir_bag_failed(cell, rc, err);
    }
    return part.capacity > capacity ? weir_table_check_room(measures->table, 0, err) : WEIR_OK;
}

int weir_measure_bag_add(struct weir_measures *measures, int32_t m,
                         const struct weir_measure_rows *rows, const struct weir_column *input,
                         const uint8_t *mask, struct weir_error *err) {
    const struct weir_measure_cell *cell = &measures->cells[m];
    struct weir_bag_rules rules = rules_of(cell);
    struct weir_keys *keys = rules.equals != WEIR_BAG_ONE ? &measures->keys : NULL;
    if (keys != NULL && weir_key_encode_columns(cell->member_key, &input, rows->rows, rows->count,
                                                0, keys) != WEIR_OK) {
        return weir_bag_failed(cell, WEIR_E_NOMEM, err);
    }
    FOR_EACH_VALUE({
        struct weir_bag_item item = {0};
        if (rows->order != NULL && weir_column_is_null(rows->order, row)) {
            continue;
        }
        weir_buffer_clear(&measures->order);
        int rc = append_order(cell, rows, input, row, &measures->order);
        item.order = measures->order.data;
        item.order_bytes = (uint32_t)measures->order.size;
        item.count = rows->take_back ? -1 : 1;
        if (keys != NULL) {
            item.value = keys->bytes + keys->offsets[k];
            item.value_bytes = keys->offsets[k + 1] - keys->offsets[k];
        }
        rc = rc == WEIR_OK ? put(measures, m, value, &rules, &item, err)
                           : weir_bag_failed(cell, rc, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    })
    return WEIR_OK;
}

int weir_measure_bag_merge(const struct weir_measure_cell *cell, struct weir_heap *heap,
                           struct weir_bag_scratch *scratch, struct weir_part *into,
                           const struct weir_part *from) {
    struct weir_bag_rules rules = rules_of(cell);
    return weir_bag_merge(into, heap, &rules, scratch, from);
}

/* --- results ---------------------------------------------------------------------------------- */

/* The item with the rank-th value, from 1. */
static const struct weir_bag_item *item_of_rank(const struct weir_bag_item *items, int64_t rank) {
    while (rank > items->count) {
        rank -= items->count;
        items++;
    }
    return items;
}

static int emit_quantile(const struct weir_measure_cell *cell, const struct weir_bag_item *items,
                         int64_t all, struct weir_column_builder *out) {
    int64_t rank = (int64_t)ceil(cell->measure.share * (double)all);
    const struct weir_bag_item *item = item_of_rank(items, rank < 1 ? 1 : rank > all ? all : rank);
    return weir_order_decode(item->order, item->order_bytes, out);
}

static bool read_number(const struct weir_measure_cell *cell, const struct weir_bag_item *item,
                        weir_int128 *value) {
    int64_t whole;
    if (cell->measure.type == WEIR_TYPE_DECIMAL) {
        return weir_order_read_int128(item->order, item->order_bytes, value);
    }
    bool done = weir_order_read_int64(item->order, item->order_bytes, &whole);
    *value = whole;
    return done;
}

/* The middle value, or what lies halfway between the two middle ones. */
static int emit_median(const struct weir_measure_cell *cell, const struct weir_bag_item *items,
                       int64_t all, struct weir_column_builder *out, struct weir_error *err) {
    const struct weir_bag_item *low = item_of_rank(items, (all + 1) / 2);
    const struct weir_bag_item *high = item_of_rank(items, all / 2 + 1);
    if (is_float(cell->measure.type)) {
        double a;
        double b;
        return weir_order_read_double(low->order, low->order_bytes, &a) &&
                       weir_order_read_double(high->order, high->order_bytes, &b)
                   ? weir_builder_double(out, low == high ? a : a / 2 + b / 2)
                   : WEIR_E_CORRUPT;
    }
    weir_int128 a;
    weir_int128 b;
    weir_int128 middle;
    if (!read_number(cell, low, &a) || !read_number(cell, high, &b)) {
        return WEIR_E_CORRUPT;
    }
    struct weir_wide sum = weir_wide_from(a);
    weir_wide_add(&sum, b);
    int scale = is_int(cell->measure.type) ? 0 : cell->measure.scale;
    return weir_wide_average(&sum, 2, cell->output.scale - scale, &middle)
               ? weir_measure_decimal(out, middle)
               : weir_measure_out_of_range(cell, err);
}

static int compare_frequency(const void *a, const void *b) {
    const struct weir_bag_item *x = a;
    const struct weir_bag_item *y = b;
    return x->count != y->count ? (x->count < y->count) - (x->count > y->count)
                                : (x->place > y->place) - (x->place < y->place);
}

/* The most frequent first; of as frequent ones the least value. */
static int emit_top(const struct weir_measure_cell *cell, struct weir_bag_item *items, size_t count,
                    struct weir_column_builder *out) {
    for (size_t i = 0; i < count; i++) {
        items[i].place = (uint32_t)i;
    }
    qsort(items, count, sizeof *items, compare_frequency);
    struct weir_column_builder *element = &out->children[0];
    int rc = WEIR_OK;
    for (size_t i = 0; i < count && i < (size_t)cell->measure.most && rc == WEIR_OK; i++) {
        rc = weir_order_decode(items[i].order, items[i].order_bytes, &element->children[0]);
        rc = rc == WEIR_OK ? weir_builder_int(&element->children[1], items[i].count) : rc;
        rc = rc == WEIR_OK ? weir_builder_struct(element) : rc;
    }
    return rc == WEIR_OK ? weir_builder_list(out) : rc;
}

static int emit_list(const struct weir_measure_cell *cell, const struct weir_bag_item *items,
                     size_t count, struct weir_column_builder *out) {
    int rc = WEIR_OK;
    for (size_t i = 0; i < count; i++) {
        for (int64_t n = 0; n < items[i].count && rc == WEIR_OK; n++) {
            rc = weir_key_decode(cell->member_key, items[i].value, items[i].value_bytes,
                                 &out->children[0]);
        }
    }
    return rc == WEIR_OK ? weir_builder_list(out) : rc;
}

int weir_measure_bag_emit(const struct weir_measures *measures, int32_t m, const uint8_t *value,
                          struct weir_column_builder *out, struct weir_error *err) {
    const struct weir_measure_cell *cell = &measures->cells[m];
    struct weir_bag_rules rules = rules_of(cell);
    struct weir_part part;
    size_t count = 0;
    memcpy(&part, value + cell->offset, sizeof part);
    int rc = is_present(value, m) ? weir_bag_items(&part, &rules, measures->bags, &count) : WEIR_OK;
    if (rc != WEIR_OK) {
        return weir_bag_failed(cell, rc, err);
    }
    struct weir_bag_item *items = measures->bags->items;
    int64_t all = 0;
    for (size_t i = 0; i < count; i++) {
        all += items[i].count;
    }
    if (all == 0) {
        return weir_builder_null(out);
    }
    switch (cell->measure.kind) {
    case WEIR_MEASURE_QUANTILE:
        rc = emit_quantile(cell, items, all, out);
        break;
    case WEIR_MEASURE_MEDIAN:
        rc = emit_median(cell, items, all, out, err);
        break;
    case WEIR_MEASURE_TOP_K:
        rc = emit_top(cell, items, count, out);
        break;
    case WEIR_MEASURE_COLLECT:
        rc = emit_list(cell, items, count, out);
        break;
    default:
        rc = weir_key_decode(cell->member_key, items[0].value, items[0].value_bytes, out);
    }
    return rc == WEIR_E_CORRUPT ? weir_error_set(err, rc, "measure '%s': its values do not parse",
                                                 cell->measure.name)
                                : rc;
}
