/* From the file's schema elements to weir fields and slots: levels, legacy lists and maps, logical
 * and converted types. (apache/parquet-format LogicalTypes.md, "Backward-compatibility rules") */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lake/parquet/file.h"

static int corrupt_schema(struct weir_error *err, const char *name, const char *what) {
    return weir_error_set(err, WEIR_E_CORRUPT, "parquet schema: element %s: %s", name, what);
}

/* Links parents and computes levels; returns the index after the subtree, or -1. */
static int32_t link_node(struct weir_parquet_reader *reader, int32_t index, int32_t parent,
                         int depth) {
    struct weir_parquet_node *node = &reader->nodes[index];
    node->parent = parent;
    node->leaf = -1;
    if (parent >= 0) {
        const struct weir_parquet_node *above = &reader->nodes[parent];
        node->definition = (uint8_t)(above->definition + (node->repetition != PARQUET_REQUIRED));
        node->repetition_level =
            (uint8_t)(above->repetition_level + (node->repetition == PARQUET_REPEATED));
    }
    if (depth > PARQUET_DEPTH_MAX || node->child_count < 0 ||
        (node->child_count == 0) != (node->physical >= 0 && parent >= 0)) {
        return -1;
    }
    int32_t next = index + 1;
    if (node->child_count == 0) {
        node->leaf = reader->leaf_count;
        reader->leaf_nodes[reader->leaf_count++] = index;
    }
    node->physical = node->child_count == 0 ? node->physical : -1;
    for (int32_t i = 0; i < node->child_count; i++) {
        if (next < 0 || next >= reader->node_count) {
            return -1;
        }
        next = link_node(reader, next, index, depth + 1);
    }
    return next;
}

static int32_t next_sibling(const struct weir_parquet_reader *reader, int32_t index) {
    int32_t pending = 1;
    while (pending > 0) {
        pending += reader->nodes[index].child_count - 1;
        index++;
    }
    return index;
}

/* --- leaves ------------------------------------------------------------------------------ */

static void set_type(struct weir_field *field, struct parquet_slot *slot, enum weir_type type,
                     enum parquet_convert convert) {
    field->type = (uint8_t)type;
    slot->convert = convert;
}

static int set_decimal(const struct weir_parquet_node *node, struct weir_field *field,
                       struct parquet_slot *slot, struct weir_error *err) {
    if (node->precision < 1 || node->precision > 38 || node->scale < 0 ||
        node->scale > node->precision) {
        if (node->precision > 38 && node->scale >= 0 && node->scale <= node->precision) {
            return weir_error_set(err, WEIR_E_UNSUPPORTED,
                                  "parquet column %s: decimal(%d,%d) has more than 38 digits",
                                  node->name, node->precision, node->scale);
        }
        return corrupt_schema(err, node->name, "precision and scale do not fit together");
    }
    field->precision = (uint8_t)node->precision;
    field->scale = (int8_t)node->scale;
    set_type(field, slot, WEIR_TYPE_DECIMAL,
             node->physical == PARQUET_INT32   ? PARQUET_CONVERT_DECIMAL32
             : node->physical == PARQUET_INT64 ? PARQUET_CONVERT_DECIMAL64
                                               : PARQUET_CONVERT_DECIMAL_BYTES);
    return WEIR_OK;
}

/* Width of an annotated integer, negative when unsigned, 0 when not annotated. */
static int integer_bits(const struct weir_parquet_node *node) {
    if (node->logical == PARQUET_LOGICAL_INTEGER) {
        return node->is_signed ? node->bits : -node->bits;
    }
    if (node->converted >= PARQUET_UINT_8 && node->converted <= PARQUET_UINT_64) {
        return -(8 << (node->converted - PARQUET_UINT_8));
    }
    if (node->converted >= PARQUET_INT_8 && node->converted <= PARQUET_INT_64) {
        return 8 << (node->converted - PARQUET_INT_8);
    }
    return 0;
}

static void set_int32(const struct weir_parquet_node *node, struct weir_field *field,
                      struct parquet_slot *slot) {
    if (node->logical == PARQUET_LOGICAL_DATE || node->converted == PARQUET_DATE) {
        set_type(field, slot, WEIR_TYPE_DATE, PARQUET_CONVERT_SAME32);
        return;
    }
    switch (integer_bits(node)) {
    case 8:
        set_type(field, slot, WEIR_TYPE_INT8, PARQUET_CONVERT_I8);
        break;
    case 16:
        set_type(field, slot, WEIR_TYPE_INT16, PARQUET_CONVERT_I16);
        break;
    case -8:
        set_type(field, slot, WEIR_TYPE_INT16, PARQUET_CONVERT_U8);
        break;
    case -16:
        set_type(field, slot, WEIR_TYPE_INT32, PARQUET_CONVERT_U16);
        break;
    case -32:
        set_type(field, slot, WEIR_TYPE_INT64, PARQUET_CONVERT_U32);
        break;
    default:
        set_type(field, slot, WEIR_TYPE_INT32, PARQUET_CONVERT_SAME32);
        break;
    }
}

static void set_int64(const struct weir_parquet_node *node, struct weir_field *field,
                      struct parquet_slot *slot) {
    if (node->logical == PARQUET_LOGICAL_TIMESTAMP) {
        bool nanos = node->unit == PARQUET_UNIT_NANOS;
        enum weir_type type =
            nanos ? (node->utc ? WEIR_TYPE_TIMESTAMP_NS : WEIR_TYPE_TIMESTAMP_NS_NTZ)
                  : (node->utc ? WEIR_TYPE_TIMESTAMP : WEIR_TYPE_TIMESTAMP_NTZ);
        set_type(field, slot, type,
                 node->unit == PARQUET_UNIT_MILLIS ? PARQUET_CONVERT_MILLIS
                                                   : PARQUET_CONVERT_SAME64);
    } else if (node->converted == PARQUET_TIMESTAMP_MILLIS) {
        set_type(field, slot, WEIR_TYPE_TIMESTAMP, PARQUET_CONVERT_MILLIS);
    } else if (node->converted == PARQUET_TIMESTAMP_MICROS) {
        set_type(field, slot, WEIR_TYPE_TIMESTAMP, PARQUET_CONVERT_SAME64);
    } else if (integer_bits(node) == -64) {
        field->precision = 20;
        set_type(field, slot, WEIR_TYPE_DECIMAL, PARQUET_CONVERT_U64);
    } else {
        set_type(field, slot, WEIR_TYPE_INT64, PARQUET_CONVERT_SAME64);
    }
}

static int set_leaf_type(const struct weir_parquet_node *node, struct weir_field *field,
                         struct parquet_slot *slot, struct weir_error *err) {
    bool is_decimal =
        node->logical == PARQUET_LOGICAL_DECIMAL || node->converted == PARQUET_DECIMAL;
    if (node->physical == PARQUET_FIXED && (node->type_length < 1 || node->type_length > 1 << 20)) {
        return corrupt_schema(err, node->name, "length of the fixed type");
    }
    switch (node->physical) {
    case PARQUET_BOOLEAN:
        set_type(field, slot, WEIR_TYPE_BOOL, PARQUET_CONVERT_BOOL);
        return WEIR_OK;
    case PARQUET_INT32:
        if (is_decimal) {
            return set_decimal(node, field, slot, err);
        }
        set_int32(node, field, slot);
        return WEIR_OK;
    case PARQUET_INT64:
        if (is_decimal) {
            return set_decimal(node, field, slot, err);
        }
        set_int64(node, field, slot);
        return WEIR_OK;
    case PARQUET_INT96:
        set_type(field, slot, WEIR_TYPE_TIMESTAMP, PARQUET_CONVERT_INT96);
        return WEIR_OK;
    case PARQUET_FLOAT:
        set_type(field, slot, WEIR_TYPE_FLOAT, PARQUET_CONVERT_SAME32);
        return WEIR_OK;
    case PARQUET_DOUBLE:
        set_type(field, slot, WEIR_TYPE_DOUBLE, PARQUET_CONVERT_SAME64);
        return WEIR_OK;
    default:
        break;
    }
    if (is_decimal) {
        return set_decimal(node, field, slot, err);
    }
    if (node->logical == PARQUET_LOGICAL_FLOAT16 && node->physical == PARQUET_FIXED &&
        node->type_length == 2) {
        set_type(field, slot, WEIR_TYPE_FLOAT, PARQUET_CONVERT_FLOAT16);
        return WEIR_OK;
    }
    bool is_text =
        node->physical == PARQUET_BYTE_ARRAY &&
        (node->logical == PARQUET_LOGICAL_STRING || node->logical == PARQUET_LOGICAL_ENUM ||
         node->logical == PARQUET_LOGICAL_JSON || node->converted == PARQUET_UTF8 ||
         node->converted == PARQUET_ENUM || node->converted == PARQUET_JSON);
    set_type(field, slot, is_text ? WEIR_TYPE_STRING : WEIR_TYPE_BINARY, PARQUET_CONVERT_BYTES);
    return WEIR_OK;
}

/* --- groups ------------------------------------------------------------------------------ */

static int build_value(struct weir_parquet_reader *reader, int32_t index, struct weir_field *field,
                       struct parquet_slot *slot, struct weir_error *err);

static int set_name(struct weir_field *field, const char *name, struct weir_error *err) {
    free(field->name);
    field->name = strdup(name);
    return field->name != NULL ? WEIR_OK
                               : weir_error_set(err, WEIR_E_NOMEM, "parquet: out of memory");
}

static int make_children(struct weir_parquet_reader *reader, struct weir_field *field,
                         struct parquet_slot *slot, int32_t count, struct weir_error *err) {
    field->children = calloc((size_t)count, sizeof(*field->children));
    slot->children = parquet_arena_take(&reader->arena, (size_t)count * sizeof(*slot->children));
    if (field->children == NULL || slot->children == NULL) {
        return weir_error_set(err, WEIR_E_LIMIT,
                              "parquet: metadata passes the reader's memory limit");
    }
    field->child_count = count;
    slot->child_count = count;
    return WEIR_OK;
}

/* The slot of what a repeated node repeats. */
static void set_element_levels(const struct weir_parquet_node *repeated, struct parquet_slot *list,
                               struct parquet_slot *element) {
    list->repeated_definition = repeated->definition;
    element->slot_definition = repeated->definition;
    element->valid_definition = repeated->definition;
    element->repetition = repeated->repetition_level;
}

/* A list whose element is the repeated node itself: the 2-level form, or a bare repeated field. */
static int build_repeated_element(struct weir_parquet_reader *reader, int32_t index,
                                  struct weir_field *field, struct parquet_slot *slot,
                                  struct weir_error *err) {
    int rc = make_children(reader, field, slot, 1, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    field->type = WEIR_TYPE_LIST;
    set_element_levels(&reader->nodes[index], slot, &slot->children[0]);
    rc = build_value(reader, index, &field->children[0], &slot->children[0], err);
    if (rc == WEIR_OK) {
        rc = set_name(&field->children[0], "element", err);
    }
    slot->leaf = slot->children[0].leaf;
    return rc;
}

/* A field as its parent sees it: optional, required, or (bare) repeated. */
static int build_field(struct weir_parquet_reader *reader, int32_t index, struct weir_field *field,
                       struct parquet_slot *slot, struct weir_error *err) {
    const struct weir_parquet_node *node = &reader->nodes[index];
    slot->node = index;
    int rc = set_name(field, node->name, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (node->repetition == PARQUET_REPEATED) {
        slot->valid_definition = (uint8_t)(node->definition - 1);
        return build_repeated_element(reader, index, field, slot, err);
    }
    field->nullable = node->repetition == PARQUET_OPTIONAL;
    slot->valid_definition = node->definition;
    return build_value(reader, index, field, slot, err);
}

static int build_children(struct weir_parquet_reader *reader, int32_t index,
                          struct weir_field *field, struct parquet_slot *slot,
                          struct weir_error *err) {
    int32_t count = reader->nodes[index].child_count;
    int rc = make_children(reader, field, slot, count, err);
    int32_t child = index + 1;
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        slot->children[i].slot_definition = slot->slot_definition;
        slot->children[i].repetition = slot->repetition;
        rc = build_field(reader, child, &field->children[i], &slot->children[i], err);
        child = next_sibling(reader, child);
    }
    return rc;
}

static int build_list(struct weir_parquet_reader *reader, int32_t index, struct weir_field *field,
                      struct parquet_slot *slot, struct weir_error *err) {
    const struct weir_parquet_node *node = &reader->nodes[index];
    const struct weir_parquet_node *repeated = node + 1;
    if (node->child_count != 1 || repeated->repetition != PARQUET_REPEATED) {
        return corrupt_schema(err, node->name, "a list needs one repeated child");
    }
    char tuple[256];
    snprintf(tuple, sizeof(tuple), "%s_tuple", node->name);
    bool two_level = repeated->child_count != 1 || strcmp(repeated->name, "array") == 0 ||
                     strcmp(repeated->name, tuple) == 0 ||
                     repeated[1].repetition == PARQUET_REPEATED;
    if (two_level) {
        return build_repeated_element(reader, index + 1, field, slot, err);
    }
    field->type = WEIR_TYPE_LIST;
    int rc = make_children(reader, field, slot, 1, err);
    if (rc == WEIR_OK) {
        set_element_levels(repeated, slot, &slot->children[0]);
        rc = build_field(reader, index + 2, &field->children[0], &slot->children[0], err);
    }
    return rc == WEIR_OK ? set_name(&field->children[0], "element", err) : rc;
}

static int build_map(struct weir_parquet_reader *reader, int32_t index, struct weir_field *field,
                     struct parquet_slot *slot, struct weir_error *err) {
    const struct weir_parquet_node *node = &reader->nodes[index];
    const struct weir_parquet_node *repeated = node + 1;
    if (node->child_count != 1 || repeated->repetition != PARQUET_REPEATED ||
        repeated->child_count < 1 || repeated->child_count > 2) {
        return corrupt_schema(err, node->name, "a map needs repeated pairs of key and value");
    }
    bool has_values = repeated->child_count == 2;
    int rc = make_children(reader, field, slot, has_values ? 2 : 1, err);
    field->type = has_values ? WEIR_TYPE_MAP : WEIR_TYPE_LIST;
    int32_t child = index + 2;
    for (int32_t i = 0; i < slot->child_count && rc == WEIR_OK; i++) {
        set_element_levels(repeated, slot, &slot->children[i]);
        rc = build_field(reader, child, &field->children[i], &slot->children[i], err);
        if (rc == WEIR_OK) {
            rc = set_name(&field->children[i],
                          !has_values ? "element"
                          : i == 0    ? "key"
                                      : "value",
                          err);
        }
        child = next_sibling(reader, child);
    }
    return rc;
}

/* What a node holds, its own repetition already dealt with. */
static int build_value(struct weir_parquet_reader *reader, int32_t index, struct weir_field *field,
                       struct parquet_slot *slot, struct weir_error *err) {
    const struct weir_parquet_node *node = &reader->nodes[index];
    slot->node = index;
    if (node->leaf >= 0) {
        slot->leaf = node->leaf;
        return set_leaf_type(node, field, slot, err);
    }
    bool is_list = node->logical == PARQUET_LOGICAL_LIST || node->converted == PARQUET_LIST;
    bool is_map = node->logical == PARQUET_LOGICAL_MAP || node->converted == PARQUET_MAP ||
                  node->converted == PARQUET_MAP_KEY_VALUE;
    bool repeats = node->child_count == 1 && node[1].repetition == PARQUET_REPEATED;
    int rc;
    if (is_list) {
        rc = build_list(reader, index, field, slot, err);
    } else if (is_map && repeats && node[1].child_count > 0) {
        rc = build_map(reader, index, field, slot, err);
    } else {
        field->type = WEIR_TYPE_STRUCT;
        rc = build_children(reader, index, field, slot, err);
    }
    if (rc == WEIR_OK) {
        slot->leaf = slot->children[0].leaf;
    }
    return rc;
}

/* Slots point at the schema's own fields, which exist only once the column was added. */
static void link_fields(struct parquet_slot *slot, const struct weir_field *field) {
    slot->field = field;
    for (int32_t i = 0; i < slot->child_count; i++) {
        link_fields(&slot->children[i], &field->children[i]);
    }
}

int parquet_build_tree(struct weir_parquet_reader *reader, struct weir_error *err) {
    reader->leaf_nodes =
        parquet_arena_take(&reader->arena, (size_t)reader->node_count * sizeof(int32_t));
    reader->leaf_count = 0;
    reader->nodes[0].repetition = PARQUET_REQUIRED;
    if (reader->leaf_nodes == NULL) {
        return weir_error_set(err, WEIR_E_LIMIT,
                              "parquet: metadata passes the reader's memory limit");
    }
    if (link_node(reader, 0, -1, 0) != reader->node_count || reader->leaf_count == 0) {
        return weir_error_set(err, WEIR_E_CORRUPT, "parquet: the schema is not a tree of fields");
    }
    int32_t columns = reader->nodes[0].child_count;
    reader->schema = weir_schema_create();
    reader->slots = parquet_arena_take(&reader->arena, (size_t)columns * sizeof(*reader->slots));
    reader->column_nodes =
        parquet_arena_take(&reader->arena, (size_t)columns * sizeof(*reader->column_nodes));
    if (reader->schema == NULL || reader->slots == NULL || reader->column_nodes == NULL) {
        return weir_error_set(err, WEIR_E_LIMIT,
                              "parquet: metadata passes the reader's memory limit");
    }
    int32_t index = 1;
    for (int32_t i = 0; i < columns; i++) {
        struct weir_field field = {0};
        int rc = build_field(reader, index, &field, &reader->slots[i], err);
        if (rc == WEIR_OK && weir_schema_add(reader->schema, &field) != WEIR_OK) {
            rc = weir_error_set(err, WEIR_E_NOMEM, "parquet: out of memory");
        }
        weir_field_fini(&field);
        if (rc != WEIR_OK) {
            return rc;
        }
        reader->column_nodes[i] = index;
        index = next_sibling(reader, index);
    }
    for (int32_t i = 0; i < columns; i++) {
        link_fields(&reader->slots[i], &reader->schema->fields[i]);
    }
    return WEIR_OK;
}
