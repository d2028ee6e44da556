/* Values that came with refused rows. An update of a database may leave out a value kept outside
 * its row (batch/change.h, `_unavailable`): what the table holds of it stays. That is wrong when
 * the row that brought the value was refused, for then the table never got it. So a keyed stream
 * remembers the long values of refused rows by key, and gives them to the next row that leaves them
 * out, before it is judged; a row that is accepted, or a delete, ends it. What cannot be
 * remembered, or never was sent (a changed key comes as a new row without them), makes the row that
 * leaves it out one to refuse as well: nothing is made up.
 *
 * State: cell "withheld", by key. A value is items of: u8 kind (0 unknown, 1 bytes), u32 length of
 * the column's name, u32 length of the bytes, name, bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch/change.h"
#include "operator/key.h"
#include "operator/show.h"
#include "pipeline/graph/node.h"
#include "state/table.h"

enum { KIND_UNKNOWN = 0, KIND_BYTES = 1 };
/* FROM_VERDICT: it hangs on what becomes of a row before it, which is not judged yet. */
enum origin { FROM_TABLE, FROM_STATE, FROM_NOWHERE, FROM_VERDICT };
/* PostgreSQL keeps no value outside its row that is not longer than the pointer to it. */
enum { INLINE_BYTES = 24, HEAD_BYTES = 9, KEYS_MAX = 64, BUCKETS = 2 * ROWS_MAX };
#define COLUMN_BYTES_MAX ((size_t)1 << 30)

struct fill {
    int32_t position; /* in the part's sel */
    int32_t column;
    enum origin from;
    const uint8_t *bytes;
    uint32_t size;
};

struct entry {
    uint8_t *bytes; /* of the table's heap */
    size_t size;
};

struct withheld {
    struct weir_key *key;
    struct weir_keys keys;
    struct weir_table *table;
    struct weir_schema *input;
    bool *is_key; /* by column */
    int32_t unavailable;
    bool encoded;               /* keys are those of the flow at hand */
    int32_t base;               /* where in it the part at hand begins */
    int32_t previous[ROWS_MAX]; /* row of the flow before it that may have its key, or -1 */
    int32_t last[BUCKETS];
    struct fill *fills;
    int32_t fill_count;
    int32_t fill_capacity;
    struct weir_buffer made; /* an entry under construction */
};

/* --- state -------------------------------------------------------------------------------- */

static int entry_encode(void *context, const void *value, struct weir_buffer *out) {
    const struct entry *entry = value;
    (void)context;
    return weir_buffer_append(out, entry->bytes, entry->size);
}

static void entry_fini(void *context, void *value) {
    struct withheld *w = context;
    struct entry *entry = value;
    if (entry->bytes != NULL) {
        weir_heap_give(weir_table_heap(w->table), entry->bytes, entry->size);
    }
    entry->bytes = NULL;
    entry->size = 0;
}

static int entry_set(struct withheld *w, struct entry *entry, const void *bytes, size_t size,
                     struct weir_error *err) {
    int rc = weir_table_check_room(w->table, size, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    uint8_t *own = weir_heap_take(weir_table_heap(w->table), size);
    if (own == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", weir_table_name(w->table));
    }
    memcpy(own, bytes, size);
    entry_fini(w, entry);
    entry->bytes = own;
    entry->size = size;
    return WEIR_OK;
}

/* The next entry of a value; false at its end, or when it is cut. */
struct item {
    uint8_t kind;
    const char *name;
    uint32_t name_size;
    const uint8_t *bytes;
    uint32_t size;
};

static bool next_item(const uint8_t *bytes, size_t size, size_t *at, struct item *item) {
    if (size - *at < HEAD_BYTES) {
        return false;
    }
    item->kind = bytes[*at];
    memcpy(&item->name_size, bytes + *at + 1, 4);
    memcpy(&item->size, bytes + *at + 5, 4);
    if (size - *at - HEAD_BYTES < (uint64_t)item->name_size + item->size) {
        return false;
    }
    item->name = (const char *)bytes + *at + HEAD_BYTES;
    item->bytes = bytes + *at + HEAD_BYTES + item->name_size;
    *at += HEAD_BYTES + (size_t)item->name_size + item->size;
    return true;
}

static int entry_decode(void *context, void *value, const uint8_t *bytes, size_t length,
                        struct weir_error *err) {
    struct item item;
    size_t at = 0;
    while (next_item(bytes, length, &at, &item)) {
    }
    if (at != length) {
        return weir_error_set(err, WEIR_E_CORRUPT, "values withheld with a row do not parse");
    }
    return entry_set(context, value, bytes, length, err);
}

static int put_item(struct withheld *w, uint8_t kind, const char *name, const void *bytes,
                    uint32_t size) {
    uint8_t head[HEAD_BYTES] = {kind};
    uint32_t name_size = (uint32_t)strlen(name);
    memcpy(head + 1, &name_size, 4);
    memcpy(head + 5, &size, 4);
    int rc = weir_buffer_append(&w->made, head, sizeof(head));
    rc = rc == WEIR_OK ? weir_buffer_append(&w->made, name, name_size) : rc;
    return rc == WEIR_OK && size > 0 ? weir_buffer_append(&w->made, bytes, size) : rc;
}

/* --- life --------------------------------------------------------------------------------- */

void withheld_destroy(struct withheld *w) {
    if (w == NULL) {
        return;
    }
    weir_table_destroy(w->table);
    weir_key_destroy(w->key);
    weir_keys_fini(&w->keys);
    weir_buffer_fini(&w->made);
    weir_schema_unref(w->input);
    free(w->is_key);
    free(w->fills);
    free(w);
}

static const struct weir_table_codec codec = {entry_encode, entry_decode, entry_fini};

static int make(struct weir_node *node, struct withheld *w, const int32_t *columns, int32_t count,
                struct weir_error *err) {
    weir_keys_init(&w->keys);
    weir_buffer_init(&w->made, COLUMN_BYTES_MAX);
    w->input = weir_schema_ref(node->input);
    w->is_key = calloc((size_t)node->input->count + 1, sizeof(*w->is_key));
    if (w->is_key == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", node->name);
    }
    for (int32_t i = 0; i < count; i++) {
        w->is_key[columns[i]] = true;
    }
    w->key = weir_key_create(node->input, columns, count, err);
    if (w->key == NULL) {
        return err != NULL ? err->code : WEIR_E_NOMEM;
    }
    struct weir_table_config config = {
        .declaration = node->name,
        .cell = "withheld",
        .shape = weir_key_shape(w->key),
        .value_bytes = sizeof(struct entry),
        .max_bytes = (size_t)node->graph->plan->state_bytes,
        .option = "memory.state",
        .codec = &codec,
        .codec_context = w,
    };
    w->table = weir_table_create(&config, err);
    return w->table != NULL ? WEIR_OK : (err != NULL ? err->code : WEIR_E_NOMEM);
}

int withheld_create(struct weir_node *node, struct weir_error *err) {
    const struct weir_plan_stream *stream = node->stream;
    int32_t columns[KEYS_MAX];
    int32_t at = weir_schema_find(node->input, WEIR_UNAVAILABLE_COLUMN);
    if (stream == NULL || node->change_column < 0 || at < 0 || node->dedup != NULL ||
        (stream->join_count > 0 && stream->joins[0].change >= 0) || /* its rows come whole */
        stream->explode.present || node->input->fields[at].type != WEIR_TYPE_LIST ||
        node->input->fields[at].children[0].type != WEIR_TYPE_STRING ||
        stream->into.key_count < 1 || stream->into.key_count > KEYS_MAX) {
        return WEIR_OK;
    }
    for (int32_t i = 0; i < stream->into.key_count; i++) {
        columns[i] = weir_schema_find(node->input, stream->into.keys[i]);
        if (columns[i] < 0) {
            return WEIR_OK; /* a key that map makes: rows cannot be told apart here */
        }
    }
    struct withheld *w = calloc(1, sizeof(*w));
    if (w == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", node->name);
    }
    w->unavailable = at;
    node->withheld = w;
    return make(node, w, columns, stream->into.key_count, err);
}

struct weir_cell *withheld_cell(struct withheld *w) {
    return weir_table_cell(w->table);
}

static int show_values(void *owner, const struct weir_show_entry *entry, struct weir_shown *out,
                       struct weir_error *err) {
    const struct withheld *w = owner;
    struct item item;
    char name[256];
    size_t at = 0;
    int rc = weir_shown_key(out, w->key, entry->key, entry->key_bytes, &out->key, err);
    while (rc == WEIR_OK && next_item(entry->value, entry->value_bytes, &at, &item)) {
        snprintf(name, sizeof(name), "%.*s", (int)item.name_size, item.name);
        rc = item.kind == KIND_BYTES ? weir_shown_text(&out->value, name, item.bytes, item.size)
                                     : weir_shown_json(&out->value, name, "null", 4);
    }
    return rc;
}

void withheld_show(struct withheld *w, struct weir_show *show) {
    *show = (struct weir_show){withheld_cell(w), "values of refused rows", w, show_values, false};
}

uint64_t withheld_shape(const struct withheld *w) {
    return weir_key_shape(w->key);
}

/* --- filling ------------------------------------------------------------------------------ */

static int encode(struct withheld *w, const struct weir_flow *flow) {
    int rc = w->encoded ? WEIR_OK
                        : weir_key_encode(w->key, flow->batch, flow->sel - w->base,
                                          flow->count + w->base, 0, &w->keys);
    if (rc == WEIR_OK && !w->encoded) {
        weir_keys_hash(&w->keys, weir_table_view(w->table)->seed);
        w->encoded = true;
        memset(w->last, 0xff, sizeof(w->last));
        for (int32_t i = 0; i < w->keys.count; i++) {
            int32_t *last = &w->last[w->keys.hashes[i] % BUCKETS];
            w->previous[i] = *last;
            *last = i;
        }
    }
    return rc;
}

static const uint8_t *key_of(const struct withheld *w, int32_t position, uint32_t *size) {
    const struct weir_keys *keys = &w->keys;
    position += w->base;
    *size = keys->offsets[position + 1] - keys->offsets[position];
    return keys->bytes + keys->offsets[position];
}

static struct weir_slot *find_slot(const struct withheld *w, int32_t position) {
    uint32_t size;
    const uint8_t *key = key_of(w, position, &size);
    return weir_table_keys(w->table) == 0
               ? NULL
               : weir_table_find(w->table, w->keys.hashes[w->base + position], key, size);
}

static bool same_key(const struct withheld *w, int32_t a, int32_t b) {
    uint32_t a_size;
    uint32_t b_size;
    if (w->keys.hashes[w->base + a] != w->keys.hashes[w->base + b]) {
        return false;
    }
    const uint8_t *a_key = key_of(w, a, &a_size);
    const uint8_t *b_key = key_of(w, b, &b_size);
    return a_size == b_size && memcmp(a_key, b_key, a_size) == 0;
}

static int32_t column_named(const struct weir_schema *schema, const char *name, size_t size) {
    for (int32_t c = 0; c < schema->count; c++) {
        const char *own = schema->fields[c].name;
        if (strncmp(own, name, size) == 0 && own[size] == '\0') {
            return c;
        }
    }
    return -1;
}

static bool leaves_out(const struct withheld *w, const struct weir_batch *batch, int32_t row,
                       int32_t column) {
    const struct weir_column *list = &batch->columns[w->unavailable];
    const char *wanted = w->input->fields[column].name;
    size_t wanted_size = strlen(wanted);
    if (weir_column_is_null(list, row)) {
        return false;
    }
    for (int32_t i = list->offsets[row]; i < list->offsets[row + 1]; i++) {
        int32_t size;
        const char *name = weir_column_bytes(&list->children[0], i, &size);
        if ((size_t)size == wanted_size && memcmp(name, wanted, wanted_size) == 0) {
            return true;
        }
    }
    return false;
}

static struct fill *find_fill(const struct withheld *w, int32_t position, int32_t column) {
    int32_t low = 0; /* they are in the order of positions */
    for (int32_t high = w->fill_count; low < high;) {
        int32_t middle = (low + high) / 2;
        if (w->fills[middle].position < position) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for (; low < w->fill_count && w->fills[low].position == position; low++) {
        if (w->fills[low].column == column) {
            return &w->fills[low];
        }
    }
    return NULL;
}

/* What was withheld with the key's last refused row. */
static void look_up(const struct withheld *w, struct fill *fill, bool is_new) {
    struct weir_slot *slot = find_slot(w, fill->position);
    struct item item;
    size_t at = 0;
    fill->from = is_new ? FROM_NOWHERE : FROM_TABLE;
    if (slot == NULL) {
        return;
    }
    const struct entry *entry = weir_slot_value(w->table, slot);
    uint8_t type = w->input->fields[fill->column].type;
    while (next_item(entry->bytes, entry->size, &at, &item)) {
        if (column_named(w->input, item.name, item.name_size) == fill->column) {
            bool good = item.kind == KIND_BYTES && weir_type_is_bytes(type);
            fill->from = good ? FROM_STATE : FROM_NOWHERE;
            fill->bytes = item.bytes;
            fill->size = item.size;
        }
    }
}

static bool may_refuse(const struct weir_node *node) {
    return node->where >= 0 || node->watermark != NULL || node->expectations.count > 0 ||
           node->ensures.count > 0 || node->quality.count > 0 || node->stream->map >= 0;
}

/* Who has the value: as the row of the key before it says; else what was withheld; else the table.
 */
static void resolve(const struct weir_node *node, const struct weir_flow *flow, struct fill *fill) {
    const struct withheld *w = node->withheld;
    for (int32_t i = w->previous[w->base + fill->position] - w->base; i >= 0;
         i = w->previous[w->base + i] - w->base) {
        int64_t kind = change_kind(node, flow->batch, flow->sel[i]);
        if (kind == WEIR_CHANGE_BEFORE || !same_key(w, i, fill->position)) {
            continue;
        }
        enum origin before = FROM_STATE; /* it has the value, as if it were from there */
        if (kind == WEIR_CHANGE_DELETE) {
            before = FROM_NOWHERE;
        } else if (leaves_out(w, flow->batch, flow->sel[i], fill->column)) {
            const struct fill *known = find_fill(w, i, fill->column);
            before = known != NULL ? known->from : FROM_TABLE;
        }
        fill->from = before != FROM_STATE ? before : may_refuse(node) ? FROM_VERDICT : FROM_TABLE;
        return;
    }
    look_up(w, fill,
            change_kind(node, flow->batch, flow->sel[fill->position]) != WEIR_CHANGE_AFTER);
}

static int add_fill(struct withheld *w, struct fill fill) {
    if (w->fill_count == w->fill_capacity) {
        int32_t capacity = w->fill_capacity > 0 ? w->fill_capacity * 2 : 64;
        struct fill *fills = realloc(w->fills, (size_t)capacity * sizeof(*fills));
        if (fills == NULL) {
            return WEIR_E_NOMEM;
        }
        w->fills = fills;
        w->fill_capacity = capacity;
    }
    w->fills[w->fill_count++] = fill;
    return WEIR_OK;
}

/* What rows [0, *count) of the flow leave out; *count is cut before a row that has to wait. */
static int find_fills(struct weir_node *node, const struct weir_flow *flow, int32_t *count) {
    struct withheld *w = node->withheld;
    const struct weir_column *list = &flow->batch->columns[w->unavailable];
    int rc = WEIR_OK;
    for (int32_t p = 0; rc == WEIR_OK && p < *count; p++) {
        int32_t row = flow->sel[p];
        int32_t before = w->fill_count;
        int64_t kind = change_kind(node, flow->batch, row);
        if (kind == WEIR_CHANGE_TRUNCATE) { /* alone: what was withheld is gone behind it */
            *count = p > 0 ? p : 1;
            break;
        }
        if (weir_column_is_null(list, row) || weir_change_takes_back(kind)) {
            continue;
        }
        for (int32_t i = list->offsets[row]; rc == WEIR_OK && i < list->offsets[row + 1]; i++) {
            int32_t size;
            const char *name = weir_column_bytes(&list->children[0], i, &size);
            struct fill fill = {.position = p,
                                .column = column_named(w->input, name, (size_t)size)};
            if (fill.column < 0 || w->is_key[fill.column]) {
                continue;
            }
            resolve(node, flow, &fill);
            if (fill.from == FROM_VERDICT) {
                w->fill_count = before;
                *count = p;
                break;
            }
            rc = fill.from != FROM_TABLE ? add_fill(w, fill) : rc;
        }
    }
    return rc;
}

/* The columns that get values, and the list without them, as a batch of their own. */
struct patch {
    struct weir_schema *schema;
    int32_t columns[WEIR_BATCH_ROWS_MAX]; /* of the input; the list is the last */
    int32_t count;
    int32_t *by_row; /* column by column: index of the fill, or -1 */
};

static int add_column(struct patch *patch, const struct withheld *w, int32_t column, int32_t rows) {
    for (int32_t i = 0; i < patch->count; i++) {
        if (patch->columns[i] == column) {
            return WEIR_OK;
        }
    }
    size_t size = (size_t)(patch->count + 1) * (size_t)rows * sizeof(int32_t);
    int32_t *by_row = realloc(patch->by_row, size + 1);
    if (by_row == NULL || patch->count == WEIR_BATCH_ROWS_MAX) {
        patch->by_row = by_row != NULL ? by_row : patch->by_row;
        return WEIR_E_NOMEM;
    }
    patch->by_row = by_row;
    memset(by_row + (size_t)patch->count * (size_t)rows, 0xff, (size_t)rows * sizeof(int32_t));
    patch->columns[patch->count++] = column;
    return weir_schema_add(patch->schema, &w->input->fields[column]);
}

static int put_names(const struct withheld *w, const struct weir_batch *batch, int32_t row,
                     const struct patch *patch, struct weir_column_builder *to) {
    const struct weir_column *list = &batch->columns[w->unavailable];
    int32_t left = 0;
    int rc = WEIR_OK;
    for (int32_t i = weir_column_is_null(list, row) ? 0 : list->offsets[row];
         rc == WEIR_OK && !weir_column_is_null(list, row) && i < list->offsets[row + 1]; i++) {
        int32_t size;
        const char *name = weir_column_bytes(&list->children[0], i, &size);
        int32_t column = column_named(w->input, name, (size_t)size);
        bool filled = false;
        for (int32_t k = 0; k + 1 < patch->count; k++) {
            filled |= patch->columns[k] == column &&
                      patch->by_row[(size_t)k * (size_t)batch->rows + (size_t)row] >= 0;
        }
        if (!filled) {
            rc = weir_builder_bytes(&to->children[0], name, (size_t)size);
            left++;
        }
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    return left > 0 ? weir_builder_list(to) : weir_builder_null(to);
}

static int put_row(const struct withheld *w, const struct weir_batch *batch, int32_t row,
                   const struct patch *patch, struct weir_batch_builder *builder) {
    int rc = WEIR_OK;
    for (int32_t k = 0; rc == WEIR_OK && k + 1 < patch->count; k++) {
        const struct weir_column *column = &batch->columns[patch->columns[k]];
        int32_t at = patch->by_row[(size_t)k * (size_t)batch->rows + (size_t)row];
        if (at < 0) {
            rc = weir_builder_copy(&builder->columns[k], column, row);
        } else {
            rc = weir_builder_bytes(&builder->columns[k], w->fills[at].bytes, w->fills[at].size);
        }
    }
    rc = rc == WEIR_OK ? put_names(w, batch, row, patch, &builder->columns[patch->count - 1]) : rc;
    if (rc == WEIR_OK) {
        weir_batch_builder_finish_row(builder);
    }
    return rc;
}

static int build(struct weir_node *node, struct weir_batch *batch, const struct patch *patch,
                 struct weir_batch **out, struct weir_error *err) {
    struct weir_batch_builder builder;
    int rc = weir_batch_builder_init(&builder, node->graph->pool, patch->schema,
                                     batch->rows > 0 ? batch->rows : 1, COLUMN_BYTES_MAX, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    rc = weir_batch_builder_begin_rows(&builder, batch->rows);
    for (int32_t row = 0; rc == WEIR_OK && row < batch->rows; row++) {
        rc = put_row(node->withheld, batch, row, patch, &builder);
    }
    struct weir_batch *made = rc == WEIR_OK ? weir_batch_builder_take(&builder) : NULL;
    struct weir_batch *whole =
        made != NULL ? weir_batch_create(node->graph->pool, node->input) : NULL;
    rc = rc == WEIR_OK && whole == NULL ? WEIR_E_LIMIT : rc;
    for (int32_t c = 0; rc == WEIR_OK && c < node->input->count; c++) {
        int32_t k = 0;
        while (k < patch->count && patch->columns[k] != c) {
            k++;
        }
        rc = k < patch->count ? weir_batch_borrow(whole, c, made, k)
                              : weir_batch_borrow(whole, c, batch, c);
    }
    weir_batch_builder_fini(&builder);
    weir_batch_unref(made);
    if (rc != WEIR_OK) {
        weir_batch_unref(whole);
        return weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
    }
    whole->rows = batch->rows;
    *out = whole;
    return WEIR_OK;
}

static int make_patch(const struct withheld *w, const struct weir_flow *flow, struct patch *patch) {
    int32_t rows = flow->batch->rows;
    int rc = WEIR_OK;
    patch->schema = weir_schema_create();
    if (patch->schema == NULL) {
        return WEIR_E_NOMEM;
    }
    for (int32_t i = 0; rc == WEIR_OK && i < w->fill_count; i++) {
        const struct fill *fill = &w->fills[i];
        if (fill->from == FROM_STATE) {
            rc = add_column(patch, w, fill->column, rows);
        }
    }
    for (int32_t i = 0; rc == WEIR_OK && i < w->fill_count; i++) {
        const struct fill *fill = &w->fills[i];
        for (int32_t k = 0; k < patch->count && fill->from == FROM_STATE; k++) {
            if (patch->columns[k] == fill->column) {
                patch->by_row[(size_t)k * (size_t)rows + (size_t)flow->sel[fill->position]] = i;
            }
        }
    }
    return rc == WEIR_OK && patch->count > 0 ? add_column(patch, w, w->unavailable, rows) : rc;
}

int withheld_fill(struct weir_node *node, struct weir_flow *part, int32_t base,
                  struct weir_batch **out, struct weir_error *err) {
    struct withheld *w = node->withheld;
    const struct weir_column *list = &part->batch->columns[w->unavailable];
    *out = NULL;
    w->encoded = w->encoded && base > 0;
    w->base = base;
    w->fill_count = 0;
    if (part->count == 0 || list->null_count == list->length) {
        return WEIR_OK;
    }
    struct patch *patch = calloc(1, sizeof(*patch));
    int rc = patch != NULL ? encode(w, part) : WEIR_E_NOMEM;
    rc = rc == WEIR_OK ? find_fills(node, part, &part->count) : rc;
    rc = rc == WEIR_OK ? make_patch(w, part, patch) : rc;
    if (rc != WEIR_OK) {
        rc = weir_error_set(err, rc, "%s: out of memory", node->name);
    } else if (patch->count > 0) {
        rc = build(node, part->batch, patch, out, err);
    }
    if (patch != NULL) {
        weir_schema_unref(patch->schema);
        free(patch->by_row);
    }
    free(patch);
    return rc;
}

/* --- after judging ------------------------------------------------------------------------ */

int withheld_refuse(struct weir_node *node, const struct weir_flow *flow, int32_t *sel,
                    int32_t *count, struct weir_error *err) {
    const struct withheld *w = node->withheld;
    for (int32_t i = 0; i < w->fill_count; i++) {
        int32_t row = flow->sel[w->fills[i].position];
        int32_t at = 0;
        while (at < *count && sel[at] != row) {
            at++;
        }
        if (w->fills[i].from != FROM_NOWHERE || at == *count) {
            continue;
        }
        char text[320];
        snprintf(text, sizeof(text),
                 "the value of %.128s is not in the event, and no row before has it; change it "
                 "once in the database, or give the table REPLICA IDENTITY FULL",
                 w->input->fields[w->fills[i].column].name);
        int rc = node_reject(node, row, TALLY_UNAVAILABLE, text);
        if (rc != WEIR_OK) {
            return weir_error_set(err, rc, "%s: too many reasons in one batch", node->name);
        }
        memmove(&sel[at], &sel[at + 1], (size_t)(*count - at - 1) * sizeof(*sel));
        (*count)--;
    }
    return WEIR_OK;
}

/* What a refused row brings that a later one may leave out, into w->made. */
static int gather(struct withheld *w, const struct weir_batch *batch, int32_t position,
                  int32_t row) {
    int rc = WEIR_OK;
    weir_buffer_clear(&w->made);
    for (int32_t c = 0; rc == WEIR_OK && c < w->input->count; c++) {
        const struct weir_column *column = &batch->columns[c];
        const char *name = w->input->fields[c].name;
        if (w->is_key[c] || name[0] == '_') {
            continue;
        }
        if (leaves_out(w, batch, row, c)) {
            const struct fill *fill = find_fill(w, position, c);
            rc = fill != NULL && fill->from == FROM_NOWHERE
                     ? put_item(w, KIND_UNKNOWN, name, NULL, 0)
                     : rc;
            continue;
        }
        if (weir_column_is_null(column, row)) {
            continue;
        }
        if (weir_type_is_bytes(column->type)) {
            int32_t size;
            const char *bytes = weir_column_bytes(column, row, &size);
            rc = size > INLINE_BYTES ? put_item(w, KIND_BYTES, name, bytes, (uint32_t)size) : rc;
        } else if (weir_type_is_nested(column->type)) {
            rc = put_item(w, KIND_UNKNOWN, name, NULL, 0);
        }
    }
    return rc;
}

static int forget_all(struct withheld *w) {
    int rc = WEIR_OK;
    for (uint32_t i = 1; rc == WEIR_OK && i <= weir_table_slots(w->table); i++) {
        struct weir_slot *slot = weir_table_slot(w->table, i);
        rc = slot->sequence != 0 ? weir_table_delete(w->table, slot, false) : rc;
    }
    return rc;
}

static int forget(struct withheld *w, int32_t position) {
    struct weir_slot *slot = find_slot(w, position);
    return slot != NULL ? weir_table_delete(w->table, slot, false) : WEIR_OK;
}

/* Fills point into slots, which change only here, after their last use. */
static int remember(struct withheld *w, const struct weir_batch *batch, int32_t position,
                    int32_t row, struct weir_error *err) {
    uint32_t size;
    const uint8_t *key = key_of(w, position, &size);
    int rc = gather(w, batch, position, row);
    if (rc != WEIR_OK || w->made.size == 0) {
        return rc == WEIR_OK ? forget(w, position) : rc;
    }
    bool created;
    struct weir_slot *slot =
        weir_table_get(w->table, w->keys.hashes[w->base + position], key, size, &created, err);
    if (slot == NULL) {
        return err != NULL ? err->code : WEIR_E_LIMIT;
    }
    rc = weir_table_touch(w->table, slot);
    return rc == WEIR_OK
               ? entry_set(w, weir_slot_value(w->table, slot), w->made.data, w->made.size, err)
               : rc;
}

int withheld_settle(struct weir_node *node, const struct weir_flow *flow, const int32_t *alive,
                    int32_t alive_count, struct weir_error *err) {
    struct withheld *w = node->withheld;
    if (flow->count == 0 || (alive_count == flow->count && weir_table_keys(w->table) == 0)) {
        return WEIR_OK;
    }
    int32_t next = 0;
    int rc = encode(w, flow);
    for (int32_t p = 0; rc == WEIR_OK && p < flow->count; p++) {
        int32_t row = flow->sel[p];
        bool lives = next < alive_count && alive[next] == row;
        next += lives;
        int64_t kind = change_kind(node, flow->batch, row);
        if (kind == WEIR_CHANGE_BEFORE || kind == WEIR_CHANGE_TRUNCATE) {
            rc = kind == WEIR_CHANGE_TRUNCATE && lives ? forget_all(w) : rc;
            continue;
        }
        rc = lives ? forget(w, p) : remember(w, flow->batch, p, row, err);
    }
    if (rc != WEIR_OK && (err == NULL || err->code == WEIR_OK)) {
        weir_error_set(err, rc, "%s: out of memory for the values of refused rows", node->name);
    }
    return rc;
}
