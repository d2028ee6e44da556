/* Trees of growing columns for list, struct and map values of map loops. Buffers double and are
 * kept from batch to batch, so steady state does not malloc. */
#include "script/nested.h"

#include <stdlib.h>

#include "script/out.h"

enum { FIRST_VALUES = 1024 };

struct weir_nested {
    uint8_t type;
    uint8_t precision;
    int8_t scale;
    bool has_offsets;
    int32_t child_count;
    int32_t width; /* of a value; 0: bits, bytes or children */
    struct weir_nested *children;
    int64_t length;
    int64_t capacity;     /* values the arrays have room for, a multiple of 8 */
    int64_t capacity_max; /* by the cap */
    uint8_t *validity;
    uint8_t *values;
    int32_t *offsets; /* capacity + 1 */
    struct weir_buffer bytes;
};

static int init(struct weir_nested *node, const struct weir_field *field, size_t limit_bytes) {
    node->type = field->type;
    node->precision = field->precision;
    node->scale = field->scale;
    node->width = weir_type_width(field->type);
    node->has_offsets = weir_type_is_bytes(field->type) || field->type == WEIR_TYPE_LIST ||
                        field->type == WEIR_TYPE_MAP;
    size_t limit = limit_bytes < INT32_MAX ? limit_bytes : INT32_MAX;
    weir_buffer_init(&node->bytes, limit);
    int32_t each = node->has_offsets ? 4 : node->width > 0 ? node->width : 1;
    node->capacity_max = (int64_t)(limit / (size_t)each) & ~INT64_C(7);
    if (field->child_count == 0) {
        return WEIR_OK;
    }
    node->children = calloc((size_t)field->child_count, sizeof(*node->children));
    if (node->children == NULL) {
        return WEIR_E_NOMEM;
    }
    for (int32_t c = 0; c < field->child_count; c++) {
        node->child_count++;
        if (init(&node->children[c], &field->children[c], limit_bytes) != WEIR_OK) {
            return WEIR_E_NOMEM;
        }
    }
    return WEIR_OK;
}

static void fini(struct weir_nested *node) {
    for (int32_t c = 0; c < node->child_count; c++) {
        fini(&node->children[c]);
    }
    free(node->children);
    free(node->validity);
    free(node->values);
    free(node->offsets);
    weir_buffer_fini(&node->bytes);
}

struct weir_nested *weir_nested_create(const struct weir_field *field, size_t limit_bytes) {
    struct weir_nested *node = calloc(1, sizeof(*node));
    if (node != NULL && init(node, field, limit_bytes) != WEIR_OK) {
        weir_nested_destroy(node);
        node = NULL;
    }
    return node;
}

void weir_nested_destroy(struct weir_nested *node) {
    if (node != NULL) {
        fini(node);
        free(node);
    }
}

int64_t weir_nested_length(const struct weir_nested *node) {
    return node->length;
}

void weir_nested_cut(struct weir_nested *node, int64_t length) {
    if (length < node->length) {
        node->length = length;
    }
    int64_t below = node->length;
    if (node->has_offsets) {
        below = node->offsets != NULL ? node->offsets[node->length] : 0;
        node->bytes.size = weir_type_is_bytes(node->type) ? (size_t)below : 0;
    }
    for (int32_t c = 0; c < node->child_count; c++) {
        weir_nested_cut(&node->children[c], below);
    }
}

static int grow_array(void **array, size_t bytes) {
    void *grown = realloc(*array, bytes);
    if (grown == NULL) {
        return WEIR_E_NOMEM;
    }
    *array = grown;
    return WEIR_OK;
}

static int grow(struct weir_nested *node) {
    int64_t capacity = node->capacity == 0 ? FIRST_VALUES : node->capacity * 2;
    capacity = capacity < node->capacity_max ? capacity : node->capacity_max;
    if (capacity <= node->capacity) {
        return WEIR_E_LIMIT;
    }
    int rc = grow_array((void **)&node->validity, (size_t)capacity / 8);
    if (rc == WEIR_OK && node->has_offsets) {
        bool first = node->offsets == NULL;
        rc = grow_array((void **)&node->offsets, ((size_t)capacity + 1) * sizeof(int32_t));
        if (rc == WEIR_OK && first) {
            node->offsets[0] = 0;
        }
    }
    if (rc == WEIR_OK && node->width > 0) {
        rc = grow_array((void **)&node->values, (size_t)capacity * (size_t)node->width);
    } else if (rc == WEIR_OK && node->type == WEIR_TYPE_BOOL) {
        rc = grow_array((void **)&node->values, (size_t)capacity / 8);
    }
    if (rc == WEIR_OK) {
        node->capacity = capacity;
    }
    return rc;
}

/* Room for one more value, whose validity is set; its number is node->length. */
static inline int append(struct weir_nested *node, bool valid) {
    if (node->length == node->capacity) {
        int rc = grow(node);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    if (valid) {
        weir_bit_set(node->validity, node->length);
    } else {
        weir_bit_clear(node->validity, node->length);
    }
    return WEIR_OK;
}

int weir_nested_null(struct weir_nested *node) {
    int rc = append(node, false);
    if (rc != WEIR_OK) {
        return rc;
    }
    int64_t at = node->length;
    if (node->has_offsets) {
        node->offsets[at + 1] = node->offsets[at];
    } else if (node->width > 0) {
        memset(node->values + at * node->width, 0, (size_t)node->width);
    } else if (node->type == WEIR_TYPE_BOOL) {
        weir_bit_clear(node->values, at);
    } else { /* a struct's children are as long as it is */
        for (int32_t c = 0; c < node->child_count; c++) {
            weir_nested_cut(&node->children[c], at);
            rc = weir_nested_null(&node->children[c]);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
    }
    node->length++;
    return WEIR_OK;
}

int weir_nested_int(struct weir_nested *node, int64_t value) {
    int rc = append(node, true);
    if (rc != WEIR_OK) {
        return rc;
    }
    memcpy(node->values + node->length * node->width, &value, (size_t)node->width); /* low bytes */
    node->length++;
    return WEIR_OK;
}

int weir_nested_double(struct weir_nested *node, double value) {
    int rc = append(node, true);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (node->type == WEIR_TYPE_FLOAT) {
        ((float *)(void *)node->values)[node->length] = (float)value;
    } else {
        ((double *)(void *)node->values)[node->length] = value;
    }
    node->length++;
    return WEIR_OK;
}

int weir_nested_bool(struct weir_nested *node, int32_t value) {
    int rc = append(node, true);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (value != 0) {
        weir_bit_set(node->values, node->length);
    } else {
        weir_bit_clear(node->values, node->length);
    }
    node->length++;
    return WEIR_OK;
}

int weir_nested_decimal(struct weir_nested *node, int64_t lo, int64_t hi) {
    int rc = append(node, true);
    if (rc != WEIR_OK) {
        return rc;
    }
    int64_t words[2] = {lo, hi};
    memcpy(node->values + node->length * 16, words, sizeof(words));
    node->length++;
    return WEIR_OK;
}

int weir_nested_bytes(struct weir_nested *node, const char *bytes, int64_t length) {
    if (node->type == WEIR_TYPE_STRING && !weir_out_is_utf8(bytes, length)) {
        return WEIR_E_DATA;
    }
    int rc = append(node, true);
    if (rc == WEIR_OK) {
        rc = weir_buffer_append(&node->bytes, bytes, (size_t)length);
    }
    if (rc == WEIR_OK) {
        node->offsets[node->length + 1] = (int32_t)node->bytes.size;
        node->length++;
    }
    return rc;
}

int weir_nested_end(struct weir_nested *node) {
    int rc = append(node, true);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (node->has_offsets) {
        node->offsets[node->length + 1] = (int32_t)node->children[0].length;
    }
    node->length++;
    return WEIR_OK;
}

struct weir_nested *weir_nested_child(struct weir_nested *node, int32_t child) {
    return &node->children[child];
}

int weir_nested_pad(struct weir_nested *node, int64_t length) {
    while (node->length < length) {
        int rc = weir_nested_null(node);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}

static void *copied(struct weir_batch *batch, const void *from, size_t bytes) {
    void *to = weir_batch_alloc(batch, bytes + 8);
    if (to != NULL && bytes > 0) {
        memcpy(to, from, bytes);
    }
    return to;
}

int weir_nested_finish(const struct weir_nested *node, struct weir_batch *batch,
                       struct weir_column *column) {
    size_t length = (size_t)node->length;
    int64_t nulls = 0;
    for (size_t i = 0; i < length; i++) {
        nulls += !weir_bit_get(node->validity, (int64_t)i);
    }
    *column = (struct weir_column){
        .length = node->length,
        .null_count = nulls,
        .child_count = node->child_count,
        .type = node->type,
        .precision = node->precision,
        .scale = node->scale,
    };
    static const int32_t none[1] = {0};
    if (nulls > 0 && (column->validity = copied(batch, node->validity, (length + 7) / 8)) == NULL) {
        return WEIR_E_LIMIT;
    }
    if (node->has_offsets) {
        const int32_t *offsets = node->offsets != NULL ? node->offsets : none;
        column->offsets = copied(batch, offsets, (length + 1) * sizeof(*offsets));
        if (column->offsets == NULL) {
            return WEIR_E_LIMIT;
        }
    }
    if (!weir_type_is_nested(node->type)) {
        size_t bytes = weir_type_is_bytes(node->type) ? node->bytes.size
                       : node->width > 0              ? length * (size_t)node->width
                                                      : (length + 7) / 8;
        const void *from = weir_type_is_bytes(node->type) ? (const void *)node->bytes.data
                                                          : (const void *)node->values;
        if ((column->values = copied(batch, from, bytes)) == NULL) {
            return WEIR_E_LIMIT;
        }
        return WEIR_OK;
    }
    column->children =
        weir_batch_alloc(batch, (size_t)node->child_count * sizeof(*column->children));
    if (column->children == NULL) {
        return WEIR_E_LIMIT;
    }
    for (int32_t c = 0; c < node->child_count; c++) {
        int rc = weir_nested_finish(&node->children[c], batch, &column->children[c]);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}
