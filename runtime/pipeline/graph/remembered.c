/* Rows of a dataset by key: what lookups find, and what models take back of a table by key. A keyed
 * stream over changes that do not carry the old rows (a database's, an upsert's) remembers the row
 * of each key that it let through last, if a model reads it: the model gets −U with that row before
 * each +U, and −D with it; a delete of a key that was never let through says nothing to it. Sinks
 * get the changes as they came. A dataset that streams look rows up in (lookup.c) remembers those
 * likewise, of its key or what a model groups by.
 *
 * State: cell "remembered", by key: u8 has time, i64 event time, u32 layout, then the columns of
 * the row in the bytes of operator/key.h, one after the other. Which columns those are the layout
 * says, an entry of its own under a key no row has (ff, the layout): u8 2, then of each column u8
 * type, u16 bytes of its name, the name, u16 bytes of its type's text, the text. So rows remembered
 * before the dataset gained a column, or lost one, are read by those after. */
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "batch/change.h"
#include "operator/key.h"
#include "operator/show.h"
#include "pipeline/graph/node.h"
#include "state/table.h"

enum { KEYS_MAX = 64, TIME_BYTES = 9, HEAD_BYTES = 13 };
enum {
    LAYOUT_KEY = 0xff,
    LAYOUT_KEY_BYTES = 5,
    LAYOUT_MARK = 2,
    LAYOUT_BYTES_MAX = 1 << 24,
    FORMAT = 2
};
#define BATCH_BYTES_MAX ((size_t)1 << 30)

struct entry {
    uint8_t *bytes; /* of the table's heap */
    size_t size;
};

struct remembered {
    struct weir_schema *schema; /* the rows' */
    bool emits;                 /* models take rows back */
    int32_t change;             /* columns of it, or -1 */
    int32_t unavailable;        /* or -1 */
    struct weir_key *key;
    struct weir_keys keys;
    struct weir_key **columns; /* by column of the schema, NULL for those that are not remembered */
    struct weir_keys *values;  /* likewise: those of the batch at hand */
    struct weir_table *table;
    uint32_t layout;
    struct weir_buffer layout_text;
    bool described;                /* the state has the layout */
    struct weir_buffer row;        /* an entry under construction */
    struct weir_buffer *converted; /* one of another layout, as it is in this */
    struct weir_batch_builder builder;
    bool building;
    int64_t times[ROWS_MAX];
    int64_t before[ROWS_MAX];
    int32_t sel[ROWS_MAX];
};

/* --- state -------------------------------------------------------------------------------- */

static int entry_encode(void *context, const void *value, struct weir_buffer *out) {
    const struct entry *entry = value;
    (void)context;
    return weir_buffer_append(out, entry->bytes, entry->size);
}

static void entry_fini(void *context, void *value) {
    struct remembered *r = context;
    struct entry *entry = value;
    if (entry->bytes != NULL) {
        weir_heap_give(weir_table_heap(r->table), entry->bytes, entry->size);
    }
    entry->bytes = NULL;
    entry->size = 0;
}

static int entry_set(struct remembered *r, struct entry *entry, const void *bytes, size_t size,
                     struct weir_error *err) {
    int rc = weir_table_check_room(r->table, size, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    uint8_t *own = weir_heap_take(weir_table_heap(r->table), size);
    if (own == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", weir_table_name(r->table));
    }
    memcpy(own, bytes, size);
    entry_fini(r, entry);
    entry->bytes = own;
    entry->size = size;
    return WEIR_OK;
}

static uint32_t layout_of(const uint8_t *bytes) {
    uint32_t layout;
    memcpy(&layout, bytes + TIME_BYTES, sizeof(layout));
    return layout;
}

static int entry_decode(void *context, void *value, const uint8_t *bytes, size_t length,
                        struct weir_error *err) {
    struct remembered *r = context;
    size_t at = HEAD_BYTES;
    bool is_layout = length > 0 && bytes[0] == LAYOUT_MARK;
    bool good = is_layout || length >= HEAD_BYTES;
    bool is_other = is_layout || (good && layout_of(bytes) != r->layout); /* looked at when read */
    at = is_other ? length : at;
    for (int32_t c = 0; good && !is_other && c < r->schema->count; c++) {
        if (r->columns[c] != NULL) {
            size_t size = weir_key_value_bytes(r->schema->fields[c].type, bytes + at, length - at);
            good = size > 0;
            at += size;
        }
    }
    if (!good || at != length) {
        return weir_error_set(err, WEIR_E_CORRUPT, "a remembered row does not parse");
    }
    return entry_set(r, value, bytes, length, err);
}

static const struct weir_table_codec codec = {entry_encode, entry_decode, entry_fini};

/* --- life --------------------------------------------------------------------------------- */

void remembered_destroy(struct remembered *r) {
    if (r == NULL) {
        return;
    }
    weir_table_destroy(r->table);
    weir_key_destroy(r->key);
    weir_keys_fini(&r->keys);
    for (int32_t c = 0; r->columns != NULL && r->values != NULL && c < r->schema->count; c++) {
        weir_key_destroy(r->columns[c]);
        weir_keys_fini(&r->values[c]);
    }
    if (r->building) {
        weir_batch_builder_fini(&r->builder);
    }
    weir_buffer_fini(&r->row);
    weir_buffer_fini(&r->layout_text);
    if (r->converted != NULL) {
        weir_buffer_fini(r->converted);
    }
    free(r->converted);
    free(r->columns);
    free(r->values);
    weir_schema_unref(r->schema);
    free(r);
}

/* --- layouts ------------------------------------------------------------------------------ */

static int put_u16_text(struct weir_buffer *out, const void *text, size_t length) {
    uint16_t size = (uint16_t)length;
    int rc = length <= UINT16_MAX ? weir_buffer_append(out, &size, sizeof(size)) : WEIR_E_LIMIT;
    return rc == WEIR_OK ? weir_buffer_append(out, text, length) : rc;
}

/* What columns rows have, as text and as a number. */
static int make_layout(struct remembered *r) {
    struct weir_buffer type;
    uint8_t mark = LAYOUT_MARK;
    weir_buffer_init(&type, UINT16_MAX);
    int rc = weir_buffer_append(&r->layout_text, &mark, 1);
    for (int32_t c = 0; rc == WEIR_OK && c < r->schema->count; c++) {
        const struct weir_field *field = &r->schema->fields[c];
        if (r->columns[c] == NULL) {
            continue;
        }
        weir_buffer_clear(&type);
        rc = weir_field_format_type(field, &type);
        rc = rc == WEIR_OK ? weir_buffer_append(&r->layout_text, &field->type, 1) : rc;
        rc = rc == WEIR_OK ? put_u16_text(&r->layout_text, field->name, strlen(field->name)) : rc;
        rc = rc == WEIR_OK ? put_u16_text(&r->layout_text, type.data, type.size) : rc;
    }
    weir_buffer_fini(&type);
    r->layout = (uint32_t)XXH3_64bits(r->layout_text.data, r->layout_text.size);
    return rc;
}

static struct weir_slot *find_layout(const struct remembered *r, uint32_t layout,
                                     uint8_t key[LAYOUT_KEY_BYTES]) {
    key[0] = LAYOUT_KEY;
    memcpy(key + 1, &layout, sizeof(layout));
    return weir_table_find(r->table, weir_table_hash(r->table, key, LAYOUT_KEY_BYTES), key,
                           LAYOUT_KEY_BYTES);
}

/* Before the first row of a layout is remembered. */
static int describe(struct remembered *r, struct weir_error *err) {
    uint8_t key[LAYOUT_KEY_BYTES];
    bool created;
    if (r->described || find_layout(r, r->layout, key) != NULL) {
        r->described = true;
        return WEIR_OK;
    }
    struct weir_slot *slot = weir_table_get(r->table, weir_table_hash(r->table, key, sizeof(key)),
                                            key, sizeof(key), &created, err);
    if (slot == NULL) {
        return err != NULL && err->code != WEIR_OK ? err->code : WEIR_E_LIMIT;
    }
    r->described = true;
    return entry_set(r, weir_slot_value(r->table, slot), r->layout_text.data, r->layout_text.size,
                     err);
}

struct layout_column {
    uint8_t type;
    const uint8_t *name;
    const uint8_t *text;
    uint16_t name_bytes;
    uint16_t text_bytes;
};

static bool next_text(const struct entry *layout, size_t *at, const uint8_t **text,
                      uint16_t *bytes) {
    if (layout->size - *at < sizeof(*bytes)) {
        return false;
    }
    memcpy(bytes, layout->bytes + *at, sizeof(*bytes));
    *at += sizeof(*bytes);
    *text = layout->bytes + *at;
    if (layout->size - *at < *bytes) {
        return false;
    }
    *at += *bytes;
    return true;
}

static bool next_column(const struct entry *layout, size_t *at, struct layout_column *column) {
    if (*at >= layout->size) {
        return false;
    }
    column->type = layout->bytes[(*at)++];
    return next_text(layout, at, &column->name, &column->name_bytes) &&
           next_text(layout, at, &column->text, &column->text_bytes);
}

/* The value column `c` has in a row of another layout; null where that lacks it. False: the row
 * does not parse. */
static bool find_value(const struct remembered *r, const struct entry *layout, int32_t c,
                       const struct weir_span *row, struct weir_span *value) {
    static const uint8_t null[1];
    const struct weir_field *field = &r->schema->fields[c];
    const uint8_t *bytes = row->data;
    struct layout_column column;
    struct weir_buffer type;
    size_t at = HEAD_BYTES;
    size_t from = 1;
    bool found = false;
    *value = (struct weir_span){null, sizeof(null)};
    weir_buffer_init(&type, UINT16_MAX);
    bool good = weir_field_format_type(field, &type) == WEIR_OK;
    while (good && !found && next_column(layout, &from, &column)) {
        size_t size = weir_key_value_bytes(column.type, bytes + at, row->size - at);
        good = size > 0;
        found = column.name_bytes == strlen(field->name) &&
                memcmp(column.name, field->name, column.name_bytes) == 0 &&
                column.text_bytes == type.size && memcmp(column.text, type.data, type.size) == 0;
        if (good && found) {
            *value = (struct weir_span){bytes + at, size};
        }
        at += size;
    }
    weir_buffer_fini(&type);
    return good;
}

/* A row as it is in this layout; *out is good until the next call. */
static int convert(const struct remembered *r, struct weir_span row, struct weir_span *out) {
    uint8_t key[LAYOUT_KEY_BYTES];
    *out = row;
    if (layout_of(row.data) == r->layout) {
        return WEIR_OK;
    }
    struct weir_slot *slot = find_layout(r, layout_of(row.data), key);
    if (slot == NULL) {
        return WEIR_E_CORRUPT;
    }
    const struct entry *layout = weir_slot_value(r->table, slot);
    weir_buffer_clear(r->converted);
    int rc = weir_buffer_append(r->converted, row.data, TIME_BYTES);
    rc = rc == WEIR_OK ? weir_buffer_append(r->converted, &r->layout, sizeof(r->layout)) : rc;
    for (int32_t c = 0; rc == WEIR_OK && c < r->schema->count; c++) {
        struct weir_span value;
        if (r->columns[c] != NULL) {
            rc = find_value(r, layout, c, &row, &value)
                     ? weir_buffer_append(r->converted, value.data, value.size)
                     : WEIR_E_CORRUPT;
        }
    }
    *out = (struct weir_span){r->converted->data, r->converted->size};
    return rc;
}

static int make(struct weir_node *node, struct remembered *r, struct weir_error *err) {
    const struct weir_plan_stream *stream = node->stream;
    const char **names = stream != NULL ? stream->lookup_key : node->model->lookup_key;
    int32_t count = stream != NULL ? stream->lookup_key_count : node->model->lookup_key_count;
    int32_t keys[KEYS_MAX];
    r->emits = stream != NULL && stream->remember_count > 0;
    r->schema = weir_schema_ref(stream != NULL ? stream->output : node->model->output);
    r->change = weir_schema_find(r->schema, WEIR_CHANGE_COLUMN);
    r->unavailable = weir_schema_find(r->schema, WEIR_UNAVAILABLE_COLUMN);
    weir_keys_init(&r->keys);
    weir_buffer_init(&r->row, BATCH_BYTES_MAX);
    weir_buffer_init(&r->layout_text, LAYOUT_BYTES_MAX);
    r->converted = calloc(1, sizeof(*r->converted));
    if (r->converted != NULL) {
        weir_buffer_init(r->converted, BATCH_BYTES_MAX);
    }
    r->columns = calloc((size_t)r->schema->count + 1, sizeof(struct weir_key *));
    r->values = calloc((size_t)r->schema->count + 1, sizeof(*r->values));
    if (r->columns == NULL || r->values == NULL || r->converted == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", node->name);
    }
    for (int32_t c = 0; c < r->schema->count; c++) {
        weir_keys_init(&r->values[c]);
        bool nested = weir_type_is_nested(r->schema->fields[c].type);
        if (c != r->change && c != r->unavailable && (r->emits || !nested)) {
            r->columns[c] = weir_key_create(r->schema, &c, 1, err);
            if (r->columns[c] == NULL) {
                return weir_error_wrap(err, "%s: a model reads it", node->name);
            }
        }
    }
    if (make_layout(r) != WEIR_OK) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", node->name);
    }
    if (count == 0) {
        names = stream->remember;
        count = stream->remember_count;
    }
    for (int32_t i = 0; i < count; i++) {
        keys[i] = weir_schema_find(r->schema, names[i]);
    }
    r->key = weir_key_create(r->schema, keys, count, err);
    int rc = r->key != NULL ? weir_batch_builder_init(&r->builder, node->graph->pool, r->schema,
                                                      ROWS_MAX, BATCH_BYTES_MAX, err)
                            : WEIR_E_NOMEM;
    if (rc != WEIR_OK) {
        return rc;
    }
    r->building = true;
    struct weir_table_config config = {
        .declaration = node->name,
        .cell = "remembered",
        .shape = weir_key_shape(r->key) + FORMAT,
        .value_bytes = sizeof(struct entry),
        .max_bytes = (size_t)node->graph->plan->state_bytes,
        .option = "memory.state",
        .codec = &codec,
        .codec_context = r,
    };
    r->table = weir_table_create(&config, err);
    return r->table != NULL ? WEIR_OK : (err != NULL ? err->code : WEIR_E_NOMEM);
}

int remembered_create(struct weir_node *node, struct weir_error *err) {
    const struct weir_plan_stream *stream = node->stream;
    int32_t looked_up = stream != NULL ? stream->lookup_key_count : node->model->lookup_key_count;
    int32_t taken_back = stream != NULL ? stream->remember_count : 0;
    if (looked_up > KEYS_MAX || taken_back > KEYS_MAX) {
        return weir_error_set(err, WEIR_E_CONFIG, "%s: a key of more than %d columns", node->name,
                              KEYS_MAX);
    }
    if (looked_up == 0 && taken_back == 0) {
        return WEIR_OK;
    }
    struct remembered *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", node->name);
    }
    node->dataset->remembered = r;
    return make(node, r, err);
}

struct weir_cell *remembered_cell(struct remembered *r) {
    return weir_table_cell(r->table);
}

static int show_row(void *owner, const struct weir_show_entry *entry, struct weir_shown *out,
                    struct weir_error *err) {
    const struct remembered *r = owner;
    size_t at = HEAD_BYTES;
    int64_t time_us;
    struct weir_span row = {entry->value, entry->value_bytes};
    if (entry->key_bytes > 0 && entry->key[0] == LAYOUT_KEY) {
        return WEIR_OK; /* nobody wants to see it */
    }
    int rc = convert(r, row, &row);
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "a remembered row does not parse");
    }
    const uint8_t *value = row.data;
    rc = weir_shown_key(out, r->key, entry->key, entry->key_bytes, &out->key, err);
    for (int32_t c = 0; rc == WEIR_OK && c < r->schema->count; c++) {
        if (r->columns[c] == NULL) {
            continue;
        }
        size_t size = weir_key_value_bytes(r->schema->fields[c].type, value + at, row.size - at);
        rc = weir_shown_key(out, r->columns[c], value + at, size, &out->value, err);
        at += size;
    }
    if (rc == WEIR_OK && value[0] != 0) {
        memcpy(&time_us, value + 1, sizeof(time_us));
        rc = weir_shown_time(&out->value, "_time", time_us);
    }
    return rc;
}

void remembered_show(struct remembered *r, struct weir_show *show) {
    *show = (struct weir_show){remembered_cell(r), "rows by key, for lookups and models", r,
                               show_row, false};
}

bool remembered_emits(const struct remembered *r) {
    return r->emits;
}

uint64_t remembered_shape(const struct remembered *r) {
    return weir_key_shape(r->key) * 31 + r->layout;
}

/* --- rows --------------------------------------------------------------------------------- */

/* The row as it is now, into r->row: what it leaves out is as it was. */
static int make_row(struct remembered *r, const struct weir_flow *flow, int32_t position,
                    const struct weir_span *old) {
    int32_t row = flow->sel[position];
    const uint8_t *old_bytes = old != NULL ? old->data : NULL;
    uint8_t head[HEAD_BYTES] = {flow->times_us != NULL};
    size_t at = HEAD_BYTES;
    if (flow->times_us != NULL) {
        memcpy(head + 1, &flow->times_us[row], sizeof(int64_t));
    }
    memcpy(head + TIME_BYTES, &r->layout, sizeof(r->layout));
    weir_buffer_clear(&r->row);
    int rc = weir_buffer_append(&r->row, head, sizeof(head));
    for (int32_t c = 0; rc == WEIR_OK && c < r->schema->count; c++) {
        if (r->columns[c] == NULL) {
            continue;
        }
        const struct weir_keys *values = &r->values[c];
        const uint8_t *bytes = values->bytes + values->offsets[position];
        size_t size = values->offsets[position + 1] - values->offsets[position];
        size_t old_size = old != NULL ? weir_key_value_bytes(r->schema->fields[c].type,
                                                             old_bytes + at, old->size - at)
                                      : 0;
        bool keeps = old_size > 0 && weir_change_leaves_out(flow->batch, r->unavailable, row,
                                                            r->schema->fields[c].name);
        rc = weir_buffer_append(&r->row, keeps ? old_bytes + at : bytes, keeps ? old_size : size);
        at += old_size;
    }
    return rc;
}

static int put(struct remembered *r, enum weir_change kind, const uint8_t *bytes, size_t size,
               const struct weir_flow *flow, int32_t position) {
    size_t at = HEAD_BYTES;
    int32_t row = flow->sel[position];
    int rc = WEIR_OK;
    for (int32_t c = 0; rc == WEIR_OK && c < r->schema->count; c++) {
        struct weir_column_builder *to = &r->builder.columns[c];
        if (r->columns[c] == NULL) {
            rc = c == r->change ? weir_builder_int(to, kind) : weir_builder_null(to);
            continue;
        }
        size_t length = weir_key_value_bytes(r->schema->fields[c].type, bytes + at, size - at);
        rc = weir_key_decode(r->columns[c], bytes + at, length, to);
        at += length;
    }
    if (rc == WEIR_OK) {
        int32_t made = r->builder.rows;
        r->sel[made] = made;
        r->times[made] = flow->times_us != NULL ? flow->times_us[row] : 0;
        r->before[made] = flow->watermark_before_us != NULL ? flow->watermark_before_us[row]
                                                            : WEIR_WATERMARK_NONE;
        weir_batch_builder_finish_row(&r->builder);
    }
    return rc;
}

static int flush(struct remembered *r, const struct weir_flow *flow, int64_t watermark,
                 const struct remembered_target *target, struct weir_error *err) {
    int32_t rows = r->builder.rows;
    struct weir_batch *batch = weir_batch_builder_take(&r->builder);
    struct weir_flow next = {
        .batch = batch,
        .sel = r->sel,
        .count = rows,
        .times_us = flow->times_us != NULL ? r->times : NULL,
        .watermark_before_us = flow->watermark_before_us != NULL ? r->before : NULL,
        .watermark_us = watermark,
        .source = -1,
        .partition = flow->partition,
    };
    int rc = batch != NULL ? target->pass(target->context, &next, err) : WEIR_E_LIMIT;
    weir_batch_unref(batch);
    return rc;
}

/* Takes what a batch may still need: two rows more. */
static int make_room(struct remembered *r, const struct weir_flow *flow, int32_t position,
                     const struct remembered_target *target, struct weir_error *err) {
    if (!r->emits || r->builder.rows + 2 <= ROWS_MAX) {
        return WEIR_OK;
    }
    int64_t watermark = flow->watermark_before_us != NULL
                            ? flow->watermark_before_us[flow->sel[position]]
                            : flow->watermark_us;
    int rc = flush(r, flow, watermark, target, err);
    return rc == WEIR_OK ? weir_batch_builder_begin(&r->builder) : rc;
}

static int by_key(const void *a, const void *b, void *context) {
    const struct weir_table *table = context;
    const struct weir_slot *x = weir_table_slot(table, *(const uint32_t *)a);
    const struct weir_slot *y = weir_table_slot(table, *(const uint32_t *)b);
    size_t shorter = x->key_bytes < y->key_bytes ? x->key_bytes : y->key_bytes;
    int order = memcmp(weir_slot_key(table, x), weir_slot_key(table, y), shorter);
    return order != 0 ? order : (x->key_bytes > y->key_bytes) - (x->key_bytes < y->key_bytes);
}

/* A truncate takes every row back, in the order of keys, which a restart does not change. */
static int take_all(struct remembered *r, const struct weir_flow *flow, int32_t position,
                    const struct remembered_target *target, struct weir_error *err) {
    uint32_t slots = weir_table_slots(r->table);
    uint32_t *numbers = malloc(((size_t)slots + 1) * sizeof(*numbers));
    uint32_t count = 0;
    int rc = numbers != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (uint32_t i = 1; rc == WEIR_OK && i <= slots; i++) {
        const struct weir_slot *slot = weir_table_slot(r->table, i);
        if (slot->sequence != 0 && weir_slot_key(r->table, slot)[0] != LAYOUT_KEY) {
            numbers[count++] = i;
        }
    }
    if (rc == WEIR_OK && r->emits) {
        qsort_r(numbers, count, sizeof(*numbers), by_key, r->table);
    }
    for (uint32_t i = 0; rc == WEIR_OK && i < count; i++) {
        struct weir_slot *slot = weir_table_slot(r->table, numbers[i]);
        const struct entry *entry = weir_slot_value(r->table, slot);
        struct weir_span old;
        if (r->emits) {
            rc = make_room(r, flow, position, target, err);
            rc = rc == WEIR_OK ? convert(r, (struct weir_span){entry->bytes, entry->size}, &old)
                               : rc;
            rc =
                rc == WEIR_OK ? put(r, WEIR_CHANGE_DELETE, old.data, old.size, flow, position) : rc;
        }
        rc = rc == WEIR_OK ? weir_table_delete(r->table, slot, false) : rc;
    }
    free(numbers);
    return rc;
}

/* One row: what it takes back, and what it is now. */
static int take(struct remembered *r, const struct weir_flow *flow, int32_t position,
                struct weir_error *err) {
    const struct weir_keys *keys = &r->keys;
    int32_t row = flow->sel[position];
    int64_t kind = r->change >= 0 ? weir_change_read(&flow->batch->columns[r->change], row)
                                  : (int64_t)WEIR_CHANGE_AFTER;
    if (kind == WEIR_CHANGE_BEFORE) {
        return WEIR_OK; /* the state knows */
    }
    const uint8_t *key = keys->bytes + keys->offsets[position];
    size_t key_size = keys->offsets[position + 1] - keys->offsets[position];
    struct weir_slot *slot = weir_table_find(r->table, keys->hashes[position], key, key_size);
    const struct entry *held = slot != NULL ? weir_slot_value(r->table, slot) : NULL;
    struct weir_span old = {0};
    int64_t time = 0;
    int rc = held != NULL ? convert(r, (struct weir_span){held->bytes, held->size}, &old) : WEIR_OK;
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: a remembered row does not parse",
                              weir_table_name(r->table));
    }
    const struct weir_span *entry = held != NULL ? &old : NULL;
    if (kind == WEIR_CHANGE_DELETE) {
        if (entry != NULL) {
            rc = r->emits ? put(r, WEIR_CHANGE_DELETE, entry->data, entry->size, flow, position)
                          : WEIR_OK;
            rc = rc == WEIR_OK ? weir_table_delete(r->table, slot, false) : rc;
        }
        return rc;
    }
    if (entry != NULL) {
        const uint8_t *bytes = entry->data;
        memcpy(&time, bytes + 1, sizeof(time));
        if (flow->times_us != NULL && bytes[0] && flow->times_us[row] < time) {
            return WEIR_OK; /* older than what the table has */
        }
        rc = r->emits ? put(r, WEIR_CHANGE_BEFORE, entry->data, entry->size, flow, position)
                      : WEIR_OK;
    }
    rc = rc == WEIR_OK ? make_row(r, flow, position, entry) : rc;
    if (rc == WEIR_OK && r->emits) {
        rc = put(r, entry != NULL ? WEIR_CHANGE_AFTER : WEIR_CHANGE_INSERT, r->row.data,
                 r->row.size, flow, position);
    }
    if (rc == WEIR_OK && slot == NULL) {
        bool created;
        slot = weir_table_get(r->table, keys->hashes[position], key, key_size, &created, err);
        rc = slot != NULL ? WEIR_OK : (err != NULL ? err->code : WEIR_E_LIMIT);
    } else if (rc == WEIR_OK) {
        rc = weir_table_touch(r->table, slot);
    }
    return rc == WEIR_OK
               ? entry_set(r, weir_slot_value(r->table, slot), r->row.data, r->row.size, err)
               : rc;
}

int remembered_pass(struct remembered *r, const struct weir_flow *flow,
                    const struct remembered_target *target, struct weir_error *err) {
    int rc = weir_key_encode(r->key, flow->batch, flow->sel, flow->count, 0, &r->keys);
    rc = rc == WEIR_OK && flow->count > 0 ? describe(r, err) : rc;
    for (int32_t c = 0; rc == WEIR_OK && c < r->schema->count; c++) {
        if (r->columns[c] != NULL) {
            rc = weir_key_encode(r->columns[c], flow->batch, flow->sel, flow->count, 0,
                                 &r->values[c]);
        }
    }
    if (rc == WEIR_OK) {
        weir_keys_hash(&r->keys, weir_table_view(r->table)->seed);
        rc = r->emits ? weir_batch_builder_begin(&r->builder) : WEIR_OK;
    }
    for (int32_t i = 0; rc == WEIR_OK && i < flow->count; i++) {
        bool truncates = r->change >= 0 && weir_change_read(&flow->batch->columns[r->change],
                                                            flow->sel[i]) == WEIR_CHANGE_TRUNCATE;
        rc = make_room(r, flow, i, target, err);
        if (rc == WEIR_OK) {
            rc = truncates ? take_all(r, flow, i, target, err) : take(r, flow, i, err);
        }
    }
    rc = rc == WEIR_OK && r->emits ? flush(r, flow, flow->watermark_us, target, err) : rc;
    if (rc != WEIR_OK && (err == NULL || err->code == WEIR_OK)) {
        weir_error_set(err, rc, "%s: out of memory for remembered rows", weir_table_name(r->table));
    }
    return rc;
}

/* --- lookups ------------------------------------------------------------------------------ */

uint64_t remembered_seed(const struct remembered *r) {
    return weir_table_view(r->table)->seed;
}

void remembered_prefetch(const struct remembered *r, uint64_t hash) {
    weir_table_prefetch(r->table, hash);
}

bool remembered_find(const struct remembered *r, uint64_t hash, const void *key, size_t key_size,
                     struct weir_span *row) {
    struct weir_slot *slot = weir_table_find(r->table, hash, key, key_size);
    if (slot == NULL) {
        return false;
    }
    const struct entry *entry = weir_slot_value(r->table, slot);
    *row = (struct weir_span){entry->bytes, entry->size};
    return true;
}

int remembered_decode(const struct remembered *r, const struct weir_span *row,
                      const int32_t *children, struct weir_column_builder *to) {
    size_t at = HEAD_BYTES;
    struct weir_span now;
    int rc = convert(r, *row, &now);
    for (int32_t c = 0; rc == WEIR_OK && c < r->schema->count; c++) {
        if (r->columns[c] == NULL) {
            continue;
        }
        size_t size = weir_key_value_bytes(r->schema->fields[c].type, now.data + at, now.size - at);
        if (children[c] >= 0) {
            rc = weir_key_decode(r->columns[c], now.data + at, size, &to->children[children[c]]);
        }
        at += size;
    }
    return rc == WEIR_OK ? weir_builder_struct(to) : rc;
}
