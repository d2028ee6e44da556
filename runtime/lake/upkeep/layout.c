/* layout = "direct_lake": readers that load whole columns into memory (Power BI's Direct Lake, and
 * any that keep dictionary codes) want few row groups of millions of rows, in which equal values
 * stand together. Rows are gathered up to a bound of memory, sorted by their columns of few values,
 * fewest first, and written as one row group; equal rows keep their order.
 *
 * A column's values are counted, put in order and numbered; a row's key is the mixed-radix number
 * of its columns' numbers, which a stable radix sort orders (Knuth, TAOCP 3, 5.2.5). */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "batch/builder.h"
#include "lake/upkeep/compaction.h"
#include "lake/upkeep/order_key.h"

#define KEYS_MAX                                                                                   \
    (UINT64_C(1) << 40) /* of one choice of columns; what comes later may have more                \
                         */
#define BUILDER_BYTES ((size_t)1 << 20)
enum { VALUES_MAX = 65536, RUN_ROWS = 8, TABLE_FIRST = 1024, DIGIT_BITS = 16, ROW_BITS = 12 };
_Static_assert(WEIR_BATCH_ROWS_MAX == 1 << ROW_BITS, "a row's place is its batch and its row");

/* The distinct values of one column, found by their numbers or the hashes of their texts. */
struct values {
    int32_t column;
    enum weir_type type;
    struct value {
        uint64_t key;
        uint32_t at; /* a row that has it */
        uint32_t number;
    } * items;
    uint32_t count;
    uint32_t *table; /* item + 1 by key; a power of two */
    uint32_t table_size;
};

struct row {
    uint64_t key;
    uint32_t at; /* batch << ROW_BITS | row */
};

struct delta_layout {
    struct weir_delta_compaction *compaction;
    struct delta_group *group;
    struct weir_delta_writer *writer;
    size_t memory_bytes;
    struct weir_batch **batches;
    int32_t batch_count;
    int32_t batch_capacity;
    struct row *rows;
    size_t row_count;
    size_t row_capacity;
    size_t held_bytes;
    int32_t sorted_by[DELTA_SORTED_BY_MAX];
    int32_t sorted_by_count;
};

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "layout: out of memory");
}

/* --- values -------------------------------------------------------------------------------- */

static bool can_sort(enum weir_type type) {
    return !weir_type_is_nested(type) && type != WEIR_TYPE_FLOAT && type != WEIR_TYPE_DOUBLE &&
           type != WEIR_TYPE_DECIMAL && type != WEIR_TYPE_BINARY;
}

static const struct weir_column *column_at(const struct delta_layout *layout, int32_t column,
                                           uint32_t at) {
    return &layout->batches[at >> ROW_BITS]->columns[column];
}

static int32_t row_at(uint32_t at) {
    return (int32_t)(at & ((1u << ROW_BITS) - 1));
}

static const char *text_at(const struct delta_layout *layout, const struct values *values,
                           uint32_t at, int32_t *length) {
    return weir_column_bytes(column_at(layout, values->column, at), row_at(at), length);
}

static uint64_t key_at(const struct delta_layout *layout, const struct values *values,
                       uint32_t at) {
    if (values->type != WEIR_TYPE_STRING) {
        return delta_order_key(values->type, column_at(layout, values->column, at), row_at(at));
    }
    int32_t length;
    const char *text = text_at(layout, values, at, &length);
    return XXH3_64bits(text, (size_t)length);
}

static bool same_text(const struct delta_layout *layout, const struct values *values, uint32_t a,
                      uint32_t b) {
    int32_t left_length;
    int32_t right_length;
    const char *left = text_at(layout, values, a, &left_length);
    const char *right = text_at(layout, values, b, &right_length);
    return left_length == right_length && memcmp(left, right, (size_t)left_length) == 0;
}

/* The item of the value at `at`, or where in the table it belongs. */
static uint32_t find(const struct delta_layout *layout, const struct values *values, uint64_t key,
                     uint32_t at) {
    uint32_t mask = values->table_size - 1;
    uint32_t place = (uint32_t)(key * UINT64_C(0x9E3779B97F4A7C15) >> 32) & mask;
    for (;; place = (place + 1) & mask) {
        uint32_t item = values->table[place];
        if (item == 0 || (values->items[item - 1].key == key &&
                          (values->type != WEIR_TYPE_STRING ||
                           same_text(layout, values, values->items[item - 1].at, at)))) {
            return place;
        }
    }
}

static int grow_values(struct delta_layout *layout, struct values *values) {
    uint32_t size = values->table_size > 0 ? values->table_size * 4 : TABLE_FIRST;
    struct value *items = realloc(values->items, size / 2 * sizeof(*items));
    if (items != NULL) {
        values->items = items;
    }
    uint32_t *table = items != NULL ? calloc(size, sizeof(*table)) : NULL;
    if (table == NULL) {
        return WEIR_E_NOMEM;
    }
    free(values->table);
    values->table = table;
    values->table_size = size;
    for (uint32_t i = 0; i < values->count; i++) {
        table[find(layout, values, items[i].key, items[i].at)] = i + 1;
    }
    return WEIR_OK;
}

/* WEIR_E_LIMIT: there are more than `max`. */
static int add_value(struct delta_layout *layout, struct values *values, uint32_t at,
                     uint32_t max) {
    if (weir_column_is_null(column_at(layout, values->column, at), row_at(at))) {
        return WEIR_OK;
    }
    if (values->count * 2 >= values->table_size && grow_values(layout, values) != WEIR_OK) {
        return WEIR_E_NOMEM;
    }
    uint64_t key = key_at(layout, values, at);
    uint32_t place = find(layout, values, key, at);
    if (values->table[place] == 0) {
        if (values->count == max) {
            return WEIR_E_LIMIT;
        }
        values->items[values->count++] = (struct value){.key = key, .at = at};
        values->table[place] = values->count;
    }
    return WEIR_OK;
}

struct ordering {
    const struct delta_layout *layout;
    const struct values *values;
};

static int compare_values(const void *a, const void *b, void *context) {
    const struct ordering *ordering = context;
    const struct value *left = &ordering->values->items[*(const uint32_t *)a];
    const struct value *right = &ordering->values->items[*(const uint32_t *)b];
    if (ordering->values->type != WEIR_TYPE_STRING) {
        return left->key < right->key ? -1 : left->key > right->key;
    }
    int32_t left_length;
    int32_t right_length;
    const char *x = text_at(ordering->layout, ordering->values, left->at, &left_length);
    const char *y = text_at(ordering->layout, ordering->values, right->at, &right_length);
    int32_t shorter = left_length < right_length ? left_length : right_length;
    int order = memcmp(x, y, (size_t)shorter);
    return order != 0 ? order : left_length - right_length;
}

/* Numbers from 1 in the values' order; null is 0. */
static int number_values(struct delta_layout *layout, struct values *values) {
    struct ordering ordering = {layout, values};
    uint32_t *order = malloc(((size_t)values->count + 1) * sizeof(*order));
    if (order == NULL) {
        return WEIR_E_NOMEM;
    }
    for (uint32_t i = 0; i < values->count; i++) {
        order[i] = i;
    }
    qsort_r(order, values->count, sizeof(*order), compare_values, &ordering);
    for (uint32_t i = 0; i < values->count; i++) {
        values->items[order[i]].number = i + 1;
    }
    free(order);
    return WEIR_OK;
}

static int count_values(struct delta_layout *layout, struct values *values, uint32_t max) {
    int rc = WEIR_OK;
    for (size_t i = 0; i < layout->row_count && rc == WEIR_OK; i++) {
        rc = add_value(layout, values, layout->rows[i].at, max);
    }
    return rc;
}

static void fini_values(struct values *values, int32_t count) {
    for (int32_t i = 0; values != NULL && i < count; i++) {
        free(values[i].items);
        free(values[i].table);
    }
    free(values);
}

/* --- which columns ------------------------------------------------------------------------- */

static int compare_counts(const void *a, const void *b) {
    const struct values *left = a;
    const struct values *right = b;
    return left->count != right->count ? (left->count < right->count ? -1 : 1)
                                       : left->column - right->column;
}

/* What is sorted by must come in runs to be worth it. */
static uint32_t few_values(const struct delta_layout *layout) {
    size_t most = layout->row_count / RUN_ROWS;
    return most < VALUES_MAX ? (uint32_t)most : VALUES_MAX;
}

/* The columns of few values come first in *out (owned, of `*out_count`), those of fewest first. */
static int choose_columns(struct delta_layout *layout, struct values **out, int32_t *out_count) {
    const struct weir_schema *schema = layout->compaction->schema;
    struct values *all = calloc((size_t)schema->count + 1, sizeof(*all));
    int32_t count = 0;
    int rc = all != NULL ? WEIR_OK : WEIR_E_NOMEM;
    *out = all;
    *out_count = all != NULL ? schema->count : 0;
    for (int32_t c = 0; c < layout->compaction->column_count && rc == WEIR_OK; c++) {
        struct values *values = &all[count];
        values->column = c;
        values->type = (enum weir_type)schema->fields[c].type;
        if (!can_sort(values->type)) {
            continue;
        }
        rc = count_values(layout, values, few_values(layout));
        count += rc == WEIR_OK && values->count > 0;
        if (rc == WEIR_E_LIMIT || (rc == WEIR_OK && values->count == 0)) {
            free(values->items);
            free(values->table);
            memset(values, 0, sizeof(*values));
            rc = WEIR_OK;
        }
    }
    if (rc == WEIR_OK) {
        qsort(all, (size_t)count, sizeof(*all), compare_counts);
    }
    layout->sorted_by_count = 0;
    uint64_t keys = 1;
    for (int32_t i = 0; i < count && i < DELTA_SORTED_BY_MAX && rc == WEIR_OK; i++) {
        keys *= (uint64_t)all[i].count + 1;
        if (keys > KEYS_MAX) {
            break;
        }
        layout->sorted_by[layout->sorted_by_count++] = all[i].column;
        rc = number_values(layout, &all[i]);
    }
    return rc;
}

/* The values of the columns chosen before. WEIR_E_LIMIT: their keys would not fit. */
static int count_chosen(struct delta_layout *layout, struct values **out, int32_t *out_count) {
    struct values *all = calloc((size_t)layout->sorted_by_count + 1, sizeof(*all));
    const struct weir_schema *schema = layout->compaction->schema;
    unsigned __int128 keys = 1;
    int rc = all != NULL ? WEIR_OK : WEIR_E_NOMEM;
    *out = all;
    *out_count = all != NULL ? layout->sorted_by_count : 0;
    for (int32_t i = 0; i < layout->sorted_by_count && rc == WEIR_OK; i++) {
        all[i].column = layout->sorted_by[i];
        all[i].type = (enum weir_type)schema->fields[all[i].column].type;
        rc = count_values(layout, &all[i], UINT32_MAX / 4);
        keys *= (uint64_t)all[i].count + 1;
        rc = rc == WEIR_OK && keys > UINT64_MAX ? WEIR_E_LIMIT : rc;
        rc = rc == WEIR_OK ? number_values(layout, &all[i]) : rc;
    }
    return rc;
}

/* --- the order ----------------------------------------------------------------------------- */

static uint64_t number_at(const struct delta_layout *layout, const struct values *values,
                          uint32_t at) {
    if (weir_column_is_null(column_at(layout, values->column, at), row_at(at)) ||
        values->table_size == 0) {
        return 0;
    }
    uint32_t place = find(layout, values, key_at(layout, values, at), at);
    return values->items[values->table[place] - 1].number;
}

/* Least digit first; `rows` end up where they were. */
static int sort_rows(struct delta_layout *layout, uint64_t greatest) {
    enum { DIGITS = 1 << DIGIT_BITS };
    struct row *other = malloc((layout->row_count + 1) * sizeof(*other));
    size_t *starts = malloc(DIGITS * sizeof(*starts));
    struct row *from = layout->rows;
    struct row *to = other;
    int rc = other != NULL && starts != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (int32_t shift = 0; rc == WEIR_OK && shift < 64 && greatest >> shift != 0;
         shift += DIGIT_BITS) {
        memset(starts, 0, DIGITS * sizeof(*starts));
        for (size_t i = 0; i < layout->row_count; i++) {
            starts[from[i].key >> shift & (DIGITS - 1)]++;
        }
        size_t next = 0;
        for (int32_t d = 0; d < DIGITS; d++) {
            size_t count = starts[d];
            starts[d] = next;
            next += count;
        }
        for (size_t i = 0; i < layout->row_count; i++) {
            to[starts[from[i].key >> shift & (DIGITS - 1)]++] = from[i];
        }
        struct row *swapped = from;
        from = to;
        to = swapped;
    }
    if (rc == WEIR_OK && from != layout->rows) {
        memcpy(layout->rows, from, layout->row_count * sizeof(*from));
    }
    free(other);
    free(starts);
    return rc;
}

static int order_rows(struct delta_layout *layout, const struct values *chosen) {
    uint64_t greatest = 0;
    for (size_t i = 0; i < layout->row_count; i++) {
        struct row *row = &layout->rows[i];
        row->key = 0;
        for (int32_t c = 0; c < layout->sorted_by_count; c++) {
            row->key =
                row->key * ((uint64_t)chosen[c].count + 1) + number_at(layout, &chosen[c], row->at);
        }
        greatest = row->key > greatest ? row->key : greatest;
    }
    return sort_rows(layout, greatest);
}

/* --- writing ------------------------------------------------------------------------------- */

static int write_batch(struct delta_layout *layout, struct weir_batch_builder *builder,
                       struct weir_error *err) {
    struct weir_batch *batch = weir_batch_builder_take(builder);
    int rc = batch != NULL && batch->rows > 0
                 ? weir_delta_writer_append(layout->writer, batch, NULL, batch->rows, err)
                 : WEIR_OK;
    weir_batch_unref(batch);
    return rc;
}

static int copy_row(const struct delta_layout *layout, struct weir_batch_builder *builder,
                    uint32_t at) {
    int rc = WEIR_OK;
    for (int32_t c = 0; c < builder->column_count && rc == WEIR_OK; c++) {
        rc = weir_builder_copy(&builder->columns[c], column_at(layout, c, at), row_at(at));
    }
    return rc;
}

static int write_rows(struct delta_layout *layout, struct weir_error *err) {
    struct weir_batch_builder builder;
    struct weir_delta_compaction *compaction = layout->compaction;
    int rc = weir_batch_builder_init(&builder, compaction->pool, compaction->schema,
                                     WEIR_BATCH_ROWS_MAX, BUILDER_BYTES, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    bool begun = false;
    for (size_t i = 0; i < layout->row_count && rc == WEIR_OK; i++) {
        if (!begun) {
            rc = delta_compaction_pace(compaction, 0, err);
            if (rc == WEIR_OK && weir_batch_builder_begin(&builder) != WEIR_OK) {
                rc = no_memory(err);
            }
            begun = rc == WEIR_OK;
        }
        if (rc != WEIR_OK) {
            break;
        }
        if (copy_row(layout, &builder, layout->rows[i].at) != WEIR_OK) {
            weir_batch_builder_undo_row(&builder);
            rc = builder.rows > 0 ? write_batch(layout, &builder, err) : no_memory(err);
            begun = false;
            i--; /* in a batch of its own */
            continue;
        }
        weir_batch_builder_finish_row(&builder);
        if (builder.rows == WEIR_BATCH_ROWS_MAX) {
            rc = write_batch(layout, &builder, err);
            begun = false;
        }
    }
    rc = rc == WEIR_OK && begun ? write_batch(layout, &builder, err) : rc;
    weir_batch_builder_fini(&builder);
    return rc == WEIR_OK ? weir_delta_writer_end_group(layout->writer, err) : rc;
}

static void forget_rows(struct delta_layout *layout) {
    for (int32_t i = 0; i < layout->batch_count; i++) {
        weir_batch_unref(layout->batches[i]);
    }
    layout->batch_count = 0;
    layout->row_count = 0;
    layout->held_bytes = 0;
}

/* The files so far become the group's. */
static int seal_writer(struct delta_layout *layout, struct weir_error *err) {
    return layout->writer != NULL
               ? delta_group_seal(layout->compaction, layout->group, layout->writer, err)
               : WEIR_OK;
}

/* A writer of files in the order just chosen. */
static int open_writer(struct delta_layout *layout, struct weir_error *err) {
    struct weir_delta_writer_options options = {.memory_bytes = layout->memory_bytes / 2,
                                                .target_file_bytes =
                                                    delta_group_file_bytes(layout->compaction),
                                                .large_groups = true,
                                                .sorted_by = layout->sorted_by,
                                                .sorted_by_count = layout->sorted_by_count};
    int rc = seal_writer(layout, err);
    weir_delta_writer_destroy(layout->writer);
    layout->writer = NULL;
    if (rc != WEIR_OK) {
        return rc;
    }
    return delta_group_writer(layout->compaction, layout->group, &options, &layout->writer, err);
}

static int flush(struct delta_layout *layout, struct weir_error *err) {
    struct values *chosen = NULL;
    int32_t count = 0;
    int rc = layout->writer != NULL ? count_chosen(layout, &chosen, &count) : WEIR_E_LIMIT;
    if (rc == WEIR_E_LIMIT) {
        fini_values(chosen, count);
        rc = choose_columns(layout, &chosen, &count);
        rc = rc == WEIR_OK ? open_writer(layout, err) : no_memory(err);
    } else if (rc != WEIR_OK) {
        rc = no_memory(err);
    }
    if (rc == WEIR_OK && order_rows(layout, chosen) != WEIR_OK) {
        rc = no_memory(err);
    }
    fini_values(chosen, count);
    rc = rc == WEIR_OK ? write_rows(layout, err) : rc;
    forget_rows(layout);
    return rc;
}

/* --- life ---------------------------------------------------------------------------------- */

int delta_layout_create(struct weir_delta_compaction *compaction, struct delta_group *group,
                        size_t memory_bytes, struct delta_layout **out, struct weir_error *err) {
    struct delta_layout *layout = calloc(1, sizeof(*layout));
    if (layout == NULL) {
        return no_memory(err);
    }
    layout->compaction = compaction;
    layout->group = group;
    layout->memory_bytes = memory_bytes;
    *out = layout;
    return WEIR_OK;
}

void delta_layout_destroy(struct delta_layout *layout) {
    if (layout == NULL) {
        return;
    }
    forget_rows(layout);
    weir_delta_writer_destroy(layout->writer);
    free((void *)layout->batches);
    free(layout->rows);
    free(layout);
}

static int keep_batch(struct delta_layout *layout, struct weir_batch *batch) {
    if (layout->batch_count == layout->batch_capacity) {
        int32_t capacity = layout->batch_capacity > 0 ? layout->batch_capacity * 2 : 64;
        struct weir_batch **batches =
            realloc((void *)layout->batches, (size_t)capacity * sizeof(struct weir_batch *));
        if (batches == NULL) {
            return WEIR_E_NOMEM;
        }
        layout->batches = batches;
        layout->batch_capacity = capacity;
    }
    if (layout->row_count + (size_t)batch->rows > layout->row_capacity) {
        size_t capacity = layout->row_capacity > 0 ? layout->row_capacity * 2 : 1 << 16;
        struct row *rows = realloc(layout->rows, capacity * sizeof(*rows));
        if (rows == NULL) {
            return WEIR_E_NOMEM;
        }
        layout->rows = rows;
        layout->row_capacity = capacity;
    }
    layout->batches[layout->batch_count++] = weir_batch_ref(batch);
    layout->held_bytes += weir_batch_held_bytes(batch);
    return WEIR_OK;
}

int delta_layout_append(struct delta_layout *layout, struct weir_batch *batch, const int32_t *sel,
                        int32_t count, struct weir_error *err) {
    if (count == 0) {
        return WEIR_OK;
    }
    if (keep_batch(layout, batch) != WEIR_OK) {
        return no_memory(err);
    }
    uint32_t first = (uint32_t)(layout->batch_count - 1) << ROW_BITS;
    for (int32_t i = 0; i < count; i++) {
        layout->rows[layout->row_count++].at = first | (uint32_t)(sel != NULL ? sel[i] : i);
    }
    size_t held = layout->held_bytes + layout->row_count * 2 * sizeof(*layout->rows);
    bool full = held >= layout->memory_bytes / 2 || layout->row_count >= (size_t)8 << 20;
    return full ? flush(layout, err) : WEIR_OK;
}

int delta_layout_seal(struct delta_layout *layout, struct weir_error *err) {
    int rc = layout->row_count > 0 ? flush(layout, err) : WEIR_OK;
    return rc == WEIR_OK ? seal_writer(layout, err) : rc;
}
