/* Builders: fixed-capacity arrays per column, taken from the pool at the start of each batch;
 * only bytes and list elements grow, by doubling, under the batch's byte cap. Undoing a row needs
 * no marks: every column is cut back to the finished rows, children to where their parents end.
 *
 * A null struct costs one bit: what its children lack is owed to them, and paid in one piece when a
 * row of theirs comes or the batch is taken. Until then they seem full, so that whoever appends
 * comes by grow_rows. They have room for what is owed, always: a struct grows with its children. */
#include "batch/builder.h"

#include <stdlib.h>
#include <string.h>

enum { BYTES_START = 32 * 1024, VALUES_SLACK = 64 };

static int init_builder(struct weir_column_builder *b, const struct weir_field *field, bool grows,
                        struct weir_column_builder *parent, struct weir_batch_builder *owner) {
    memset(b, 0, sizeof(*b));
    b->parent = parent;
    b->field = field;
    b->owner = owner;
    b->grows = grows;
    b->type = field->type;
    b->child_count = field->child_count;
    if (field->child_count > 0) {
        b->children = calloc((size_t)field->child_count, sizeof(*b->children));
        if (b->children == NULL) {
            return WEIR_E_NOMEM;
        }
        grows |= field->type != WEIR_TYPE_STRUCT;
        for (int32_t i = 0; i < field->child_count; i++) {
            int rc = init_builder(&b->children[i], &field->children[i], grows, b, owner);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
    }
    return WEIR_OK;
}

static void fini_builder(struct weir_column_builder *b) {
    for (int32_t i = 0; i < b->child_count && b->children != NULL; i++) {
        fini_builder(&b->children[i]);
    }
    free(b->children);
}

int weir_batch_builder_init(struct weir_batch_builder *builder, struct weir_pool *pool,
                            struct weir_schema *schema, int32_t rows_max, size_t bytes_max,
                            struct weir_error *err) {
    memset(builder, 0, sizeof(*builder));
    if (rows_max < 1) {
        return weir_error_set(err, WEIR_E_CONFIG, "batch builder: rows_max %d; at least 1",
                              rows_max);
    }
    builder->pool = pool;
    builder->schema = weir_schema_ref(schema);
    builder->rows_max = rows_max;
    builder->bytes_max = bytes_max < INT32_MAX ? bytes_max : INT32_MAX;
    builder->column_count = schema->count;
    builder->columns = calloc((size_t)schema->count + 1, sizeof(*builder->columns));
    int rc = builder->columns == NULL ? WEIR_E_NOMEM : WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < schema->count; i++) {
        rc = init_builder(&builder->columns[i], &schema->fields[i], false, NULL, builder);
    }
    if (rc != WEIR_OK) {
        weir_batch_builder_fini(builder);
        return weir_error_set(err, rc, "batch builder: out of memory");
    }
    return WEIR_OK;
}

void weir_batch_builder_fini(struct weir_batch_builder *builder) {
    weir_batch_unref(builder->batch);
    builder->batch = NULL;
    for (int32_t i = 0; i < builder->column_count && builder->columns != NULL; i++) {
        fini_builder(&builder->columns[i]);
    }
    free(builder->columns);
    builder->columns = NULL;
    weir_schema_unref(builder->schema);
    builder->schema = NULL;
}

static const bool *project(struct weir_column_builder *b, const bool *read) {
    b->unread = read != NULL && !*read;
    read += read != NULL;
    for (int32_t i = 0; i < b->child_count; i++) {
        read = project(&b->children[i], read);
    }
    return read;
}

void weir_batch_builder_project(struct weir_batch_builder *builder,
                                const struct weir_projection *projection) {
    const bool *read = projection != NULL ? projection->read : NULL;
    for (int32_t i = 0; i < builder->column_count; i++) {
        if (projection != NULL && read == projection->read + projection->count) {
            read = NULL;
        }
        read = project(&builder->columns[i], read);
    }
}

static size_t values_bytes(uint8_t type, int64_t rows) {
    if (type == WEIR_TYPE_BOOL) {
        return (size_t)rows / 8 + VALUES_SLACK;
    }
    return (size_t)rows * (size_t)weir_type_width(type) + VALUES_SLACK;
}

static int take_room(struct weir_column_builder *b, int64_t rows);

static int begin_column(struct weir_column_builder *b, struct weir_batch *batch, int64_t rows) {
    b->batch = batch;
    b->length = b->null_count = 0;
    b->bytes_size = 0;
    b->flags = 0;
    b->capacity_rows = b->room_rows = rows;
    b->owed = 0;
    b->offsets = NULL;
    b->values = NULL;
    b->bytes_capacity = 0;
    b->validity = NULL;
    if (!b->unread) {
        return take_room(b, rows);
    }
    b->capacity_rows = b->room_rows = 0;
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < b->child_count; i++) {
        rc = begin_column(&b->children[i], batch, rows); /* is unread as well */
    }
    return rc;
}

static int take_room(struct weir_column_builder *b, int64_t rows) {
    struct weir_batch *batch = b->batch;
    size_t bitmap = (size_t)rows / 8 + VALUES_SLACK;
    b->validity = weir_batch_alloc(batch, bitmap);
    if (b->validity == NULL) {
        return WEIR_E_LIMIT;
    }
    memset(b->validity, 0xff, bitmap);
    if (weir_type_is_bytes(b->type) || b->type == WEIR_TYPE_LIST || b->type == WEIR_TYPE_MAP) {
        b->offsets = weir_batch_alloc(batch, ((size_t)rows + 1) * sizeof(int32_t));
        if (b->offsets == NULL) {
            return WEIR_E_LIMIT;
        }
        b->offsets[0] = 0;
    }
    if (weir_type_is_bytes(b->type)) {
        b->bytes_capacity = rows < BYTES_START / 16 ? (size_t)rows * 16 + 64 : BYTES_START;
        b->values = weir_batch_alloc(batch, b->bytes_capacity);
        if (b->values != NULL) {
            b->bytes_capacity = weir_pool_usable(b->values);
        }
    } else if (!weir_type_is_nested(b->type)) {
        b->values = weir_batch_alloc(batch, values_bytes(b->type, rows));
        if (b->values != NULL && b->type == WEIR_TYPE_BOOL) {
            memset(b->values, 0, values_bytes(b->type, rows));
        }
    }
    if (b->values == NULL && !weir_type_is_nested(b->type)) {
        return WEIR_E_LIMIT;
    }
    for (int32_t i = 0; i < b->child_count; i++) {
        int rc = begin_column(&b->children[i], batch, rows);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}

int weir_batch_builder_begin(struct weir_batch_builder *builder) {
    return weir_batch_builder_begin_rows(builder, builder->rows_max);
}

int weir_batch_builder_begin_rows(struct weir_batch_builder *builder, int32_t rows) {
    weir_batch_unref(builder->batch);
    rows = rows < 1 ? 1 : rows > builder->rows_max ? builder->rows_max : rows;
    builder->rows = 0;
    builder->bytes_grown = 0;
    builder->batch = weir_batch_create(builder->pool, builder->schema);
    int rc = builder->batch == NULL ? WEIR_E_LIMIT : WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < builder->column_count; i++) {
        rc = begin_column(&builder->columns[i], builder->batch, rows);
    }
    if (rc != WEIR_OK) {
        weir_batch_unref(builder->batch);
        builder->batch = NULL;
    }
    return rc;
}

static bool is_struct(const struct weir_column_builder *b) {
    return b->type == WEIR_TYPE_STRUCT;
}

/* A struct around it owes. */
static bool is_owed(const struct weir_column_builder *b) {
    const struct weir_column_builder *above = b->parent;
    for (; above != NULL && is_struct(above); above = above->parent) {
        if (above->owed > 0) {
            return true;
        }
    }
    return false;
}

/* What is owed something seems full, structs in structs too. */
static void show_room(struct weir_column_builder *b, bool owed) {
    if (b->unread) {
        return;
    }
    b->capacity_rows = owed ? b->length : b->room_rows;
    for (int32_t i = 0; is_struct(b) && i < b->child_count; i++) {
        show_room(&b->children[i], owed || b->owed > 0);
    }
}

static void cut_back(struct weir_column_builder *b, int64_t length) {
    if (b->unread) {
        return;
    }
    for (int64_t i = length; i < b->length; i++) {
        b->null_count -= !weir_bit_get(b->validity, i);
        weir_bit_set(b->validity, i);
        if (b->type == WEIR_TYPE_BOOL) {
            weir_bit_clear(b->values, i);
        }
    }
    /* A parent may be short of the row while its children have it: they are cut all the same. */
    if (length > b->length) {
        length = b->length;
    }
    int64_t gone = b->length - length;
    bool owes = b->owed > 0;
    b->owed = gone < b->owed ? b->owed - gone : 0;
    b->length = length;
    if (weir_type_is_bytes(b->type)) {
        b->bytes_size = (size_t)b->offsets[length];
    }
    for (int32_t i = 0; i < b->child_count; i++) {
        cut_back(&b->children[i], b->offsets != NULL ? b->offsets[length] : length);
    }
    if (owes) {
        show_room(b, is_owed(b));
    }
}

void weir_batch_builder_undo_row(struct weir_batch_builder *builder) {
    for (int32_t i = 0; builder->batch != NULL && i < builder->column_count; i++) {
        cut_back(&builder->columns[i], builder->rows);
    }
}

/* Appends as many nulls as there is room for. */
static void put_nulls(struct weir_column_builder *b, int64_t count);

/* Gives the children of a struct what it owes them. */
static void pay(struct weir_column_builder *b) {
    int64_t owed = b->owed;
    if (owed > 0) {
        b->owed = 0;
        for (int32_t i = 0; i < b->child_count; i++) {
            if (!b->children[i].unread) {
                put_nulls(&b->children[i], owed);
                show_room(&b->children[i], false);
            }
        }
    }
}

/* The structs around it, from the outermost. */
static void pay_above(struct weir_column_builder *b) {
    if (b->parent != NULL && is_struct(b->parent)) {
        pay_above(b->parent);
        pay(b->parent);
    }
}

/* What nobody reads is null, and looks the same everywhere. */
static void freeze_unread(const struct weir_column_builder *b, struct weir_column *column,
                          int64_t rows) {
    static uint64_t zeros[(WEIR_BATCH_ROWS_MAX + 1) * 2 + VALUES_SLACK];
    bool nested = weir_type_is_nested(b->type);
    bool plain = b->type == WEIR_TYPE_STRUCT;
    column->length = column->null_count = rows;
    column->validity = rows > 0 ? (uint8_t *)zeros : NULL;
    column->values = nested ? NULL : zeros;
    column->offsets = !plain && (nested || weir_type_is_bytes(b->type)) ? (int32_t *)zeros : NULL;
    for (int32_t i = 0; i < b->child_count; i++) {
        freeze_unread(&b->children[i], &column->children[i], plain ? rows : 0);
    }
}

static void freeze(struct weir_column_builder *b, struct weir_column *column, int64_t rows) {
    if (b->unread) {
        freeze_unread(b, column, rows);
        return;
    }
    pay(b);
    column->length = b->length;
    column->null_count = b->null_count;
    column->validity = b->null_count > 0 ? b->validity : NULL;
    column->values = b->values;
    column->offsets = b->offsets;
    column->flags = b->flags;
    for (int32_t i = 0; i < b->child_count; i++) {
        freeze(&b->children[i], &column->children[i], b->length);
    }
}

struct weir_batch *weir_batch_builder_take(struct weir_batch_builder *builder) {
    struct weir_batch *batch = builder->batch;
    if (batch == NULL) {
        return NULL;
    }
    weir_batch_builder_undo_row(builder);
    for (int32_t i = 0; i < builder->column_count; i++) {
        freeze(&builder->columns[i], &batch->columns[i], builder->rows);
    }
    batch->rows = builder->rows;
    builder->batch = NULL;
    return batch;
}

/* --- values ------------------------------------------------------------------------------ */

/* Accounts for `more` bytes of growth; the first row may have what the pool has. */
static bool may_grow(struct weir_column_builder *b, size_t more) {
    struct weir_batch_builder *owner = b->owner;
    if (owner->rows > 0 &&
        (more > owner->bytes_max || owner->bytes_grown > owner->bytes_max - more)) {
        return false;
    }
    owner->bytes_grown += more;
    return true;
}

/* Elements of lists grow under the byte cap; rows of a batch that began small grow to rows_max. On
 * failure some buffers are wider than need be, which nobody sees. */
static int widen(struct weir_column_builder *b) {
    int64_t capacity = b->room_rows * 2;
    int64_t most = b->grows ? INT32_MAX / 2 : b->owner->rows_max;
    if (capacity > most && !b->grows) {
        capacity = most;
    }
    if (capacity > most || capacity <= b->room_rows) {
        return WEIR_E_LIMIT;
    }
    for (int32_t i = 0; is_struct(b) && i < b->child_count; i++) {
        while (!b->children[i].unread && b->children[i].room_rows < capacity) {
            int rc = widen(&b->children[i]);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
    }
    size_t item = b->offsets != NULL ? sizeof(int32_t) : (size_t)weir_type_width(b->type);
    size_t more = (size_t)b->room_rows * item + (size_t)b->room_rows / 8;
    if (b->grows && !may_grow(b, more)) {
        return WEIR_E_LIMIT;
    }
    size_t bitmap = (size_t)capacity / 8 + VALUES_SLACK;
    size_t used = (size_t)(b->length + 7) / 8;
    uint8_t *validity = weir_batch_regrow(b->batch, b->validity, used, bitmap);
    if (validity == NULL) {
        return WEIR_E_LIMIT;
    }
    memset(validity + used, 0xff, bitmap - used);
    b->validity = validity;
    if (b->offsets != NULL) {
        size_t keep = ((size_t)b->length + 1) * sizeof(int32_t);
        int32_t *offsets =
            weir_batch_regrow(b->batch, b->offsets, keep, ((size_t)capacity + 1) * sizeof(int32_t));
        if (offsets == NULL) {
            return WEIR_E_LIMIT;
        }
        b->offsets = offsets;
    } else if (!weir_type_is_nested(b->type)) {
        size_t keep =
            b->type == WEIR_TYPE_BOOL ? used : (size_t)b->length * (size_t)weir_type_width(b->type);
        size_t bytes = values_bytes(b->type, capacity);
        uint8_t *values = weir_batch_regrow(b->batch, b->values, keep, bytes);
        if (values == NULL) {
            return WEIR_E_LIMIT;
        }
        if (b->type == WEIR_TYPE_BOOL) {
            memset(values + keep, 0, bytes - keep);
        }
        b->values = values;
    }
    b->room_rows = capacity;
    b->capacity_rows = is_owed(b) ? b->length : capacity;
    return WEIR_OK;
}

static int grow_rows(struct weir_column_builder *b) {
    if (is_owed(b)) {
        pay_above(b);
        if (b->length < b->room_rows) {
            return WEIR_OK;
        }
    }
    return widen(b);
}

static inline int room_for_row(struct weir_column_builder *b) {
    return b->length < b->capacity_rows ? WEIR_OK : grow_rows(b);
}

int weir_builder_null(struct weir_column_builder *b) {
    int rc = room_for_row(b);
    if (rc != WEIR_OK) {
        return rc;
    }
    int64_t row = b->length++;
    weir_bit_clear(b->validity, row);
    b->null_count++;
    if (b->offsets != NULL) {
        b->offsets[row + 1] = b->offsets[row];
    } else if (is_struct(b)) {
        if (b->owed++ == 0) {
            show_room(b, false);
        }
    } else if (b->type != WEIR_TYPE_BOOL) {
        size_t width = (size_t)weir_type_width(b->type);
        memset((uint8_t *)b->values + (size_t)row * width, 0, width);
    }
    return rc;
}

static void clear_bits(uint8_t *bits, int64_t from, int64_t to) {
    for (; from < to && (from & 7) != 0; from++) {
        weir_bit_clear(bits, from);
    }
    memset(bits + from / 8, 0, (size_t)(to - from) / 8);
    for (from += (to - from) / 8 * 8; from < to; from++) {
        weir_bit_clear(bits, from);
    }
}

int weir_builder_nulls(struct weir_column_builder *b, int64_t count) {
    while (b->capacity_rows - b->length < count) {
        int rc = grow_rows(b);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    if (count > 0) {
        put_nulls(b, count);
    }
    return WEIR_OK;
}

static void put_nulls(struct weir_column_builder *b, int64_t count) {
    int64_t from = b->length;
    b->length += count;
    b->null_count += count;
    clear_bits(b->validity, from, b->length);
    if (b->offsets != NULL) {
        for (int64_t row = from; row < b->length; row++) {
            b->offsets[row + 1] = b->offsets[from];
        }
    } else if (is_struct(b)) {
        b->owed += count;
        show_room(b, false);
    } else if (b->type != WEIR_TYPE_BOOL) {
        size_t width = (size_t)weir_type_width(b->type);
        memset((uint8_t *)b->values + (size_t)from * width, 0, (size_t)count * width);
    }
}

int weir_builder_bool(struct weir_column_builder *b, bool value) {
    int rc = room_for_row(b);
    if (rc == WEIR_OK) {
        if (value) {
            weir_bit_set(b->values, b->length);
        }
        b->length++;
    }
    return rc;
}

int weir_builder_int(struct weir_column_builder *b, int64_t value) {
    int rc = room_for_row(b);
    if (rc != WEIR_OK) {
        return rc;
    }
    int64_t row = b->length++;
    switch (weir_type_width(b->type)) {
    case 1:
        ((int8_t *)b->values)[row] = (int8_t)value;
        break;
    case 2:
        ((int16_t *)b->values)[row] = (int16_t)value;
        break;
    case 4:
        ((int32_t *)b->values)[row] = (int32_t)value;
        break;
    default:
        ((int64_t *)b->values)[row] = value;
        break;
    }
    return WEIR_OK;
}

int weir_builder_float(struct weir_column_builder *b, float value) {
    int rc = room_for_row(b);
    if (rc == WEIR_OK) {
        if (value != value) {
            b->flags |= WEIR_COLUMN_MAY_HAVE_NAN;
        }
        ((float *)b->values)[b->length++] = value;
    }
    return rc;
}

int weir_builder_double(struct weir_column_builder *b, double value) {
    int rc = room_for_row(b);
    if (rc == WEIR_OK) {
        if (value != value) {
            b->flags |= WEIR_COLUMN_MAY_HAVE_NAN;
        }
        ((double *)b->values)[b->length++] = value;
    }
    return rc;
}

int weir_builder_decimal(struct weir_column_builder *b, uint64_t lo, int64_t hi) {
    int rc = room_for_row(b);
    if (rc == WEIR_OK) {
        uint64_t *pair = (uint64_t *)b->values + 2 * b->length++;
        pair[0] = lo;
        pair[1] = (uint64_t)hi;
    }
    return rc;
}

int weir_builder_scratch(struct weir_column_builder *b) {
    int rc = b->validity != NULL ? WEIR_OK : take_room(b, 1);
    if (rc == WEIR_OK) {
        b->length = b->null_count = 0;
        b->bytes_size = 0;
        b->capacity_rows = b->room_rows = 1;
        weir_bit_set(b->validity, 0);
    }
    return rc;
}

static int grow_bytes(struct weir_column_builder *b, size_t need) {
    size_t capacity = b->bytes_capacity;
    if (need > INT32_MAX / 2) {
        return WEIR_E_LIMIT;
    }
    while (capacity < need) {
        capacity *= 2;
    }
    void *values = may_grow(b, capacity - b->bytes_capacity)
                       ? weir_batch_regrow(b->batch, b->values, b->bytes_size, capacity)
                       : NULL;
    if (values == NULL) {
        return WEIR_E_LIMIT;
    }
    b->values = values;
    b->bytes_capacity = capacity;
    return WEIR_OK;
}

int weir_builder_bytes(struct weir_column_builder *b, const void *bytes, size_t length) {
    int rc = room_for_row(b);
    if (rc == WEIR_OK && b->bytes_capacity - b->bytes_size < length) {
        rc = length > INT32_MAX / 2 ? WEIR_E_LIMIT : grow_bytes(b, b->bytes_size + length);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    if (length > 0) {
        memcpy((uint8_t *)b->values + b->bytes_size, bytes, length);
    }
    b->bytes_size += length;
    b->offsets[++b->length] = (int32_t)b->bytes_size;
    return WEIR_OK;
}

int weir_builder_list(struct weir_column_builder *b) {
    int rc = room_for_row(b);
    if (rc == WEIR_OK) {
        b->offsets[++b->length] = (int32_t)b->children[0].length;
    }
    return rc;
}

int weir_builder_struct(struct weir_column_builder *b) {
    int rc = room_for_row(b);
    if (rc == WEIR_OK) {
        b->length++;
    }
    return rc;
}
