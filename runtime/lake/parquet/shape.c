/* From a weir schema to Parquet's tree: levels, physical types, 3-level lists and maps, and both
 * logical and converted annotations, so that old readers understand too. */
#include <stdlib.h>
#include <string.h>

#include "lake/parquet/format.h"
#include "lake/parquet/leaf.h"
#include "lake/parquet/thrift.h"

enum { BUFFER_MAX = INT32_MAX };

struct build {
    struct weir_parquet_writer *writer;
    const char *path[PARQUET_DEPTH_MAX];
    const char *info_path[PARQUET_DEPTH_MAX];
    int32_t path_count;
    int32_t info_path_count;
    int32_t definition;
    int32_t repetition;
    int32_t leaf_next;
    int32_t field_next; /* pre-order number, for field ids */
    const struct weir_parquet_writer_options *options;
    struct weir_error *err;
};

/* Bytes a two's complement decimal of this precision needs. */
static int32_t decimal_width(int precision) {
    double bits = 1.0;
    for (int i = 0; i < precision; i++) {
        bits += 3.3219280948873626; /* log2(10) */
    }
    return (int32_t)(bits / 8.0) + 1;
}

static void set_storage(struct parquet_leaf *leaf) {
    const struct weir_field *field = leaf->field;
    leaf->store = PARQUET_STORE_I64;
    leaf->physical = PARQUET_INT64;
    leaf->width = 8;
    switch (field->type) {
    case WEIR_TYPE_BOOL:
        leaf->store = PARQUET_STORE_BOOL;
        leaf->physical = PARQUET_BOOLEAN;
        leaf->width = 1;
        break;
    case WEIR_TYPE_INT8:
    case WEIR_TYPE_INT16:
    case WEIR_TYPE_INT32:
    case WEIR_TYPE_DATE:
        leaf->store = PARQUET_STORE_I32;
        leaf->physical = PARQUET_INT32;
        leaf->width = 4;
        break;
    case WEIR_TYPE_FLOAT:
        leaf->store = PARQUET_STORE_F32;
        leaf->physical = PARQUET_FLOAT;
        leaf->width = 4;
        break;
    case WEIR_TYPE_DOUBLE:
        leaf->store = PARQUET_STORE_F64;
        leaf->physical = PARQUET_DOUBLE;
        break;
    case WEIR_TYPE_DECIMAL:
        if (field->precision <= 9) {
            leaf->store = PARQUET_STORE_I32;
            leaf->physical = PARQUET_INT32;
            leaf->width = 4;
        } else if (field->precision > 18) {
            leaf->store = PARQUET_STORE_FIXED;
            leaf->physical = PARQUET_FIXED;
            leaf->width = decimal_width(field->precision);
        }
        break;
    case WEIR_TYPE_STRING:
    case WEIR_TYPE_BINARY:
        leaf->store = PARQUET_STORE_BYTES;
        leaf->physical = PARQUET_BYTE_ARRAY;
        leaf->width = 0;
        break;
    default: /* int64 and timestamps */
        break;
    }
}

static const char **copy_path(const char *const *path, int32_t count) {
    const char **copy = calloc((size_t)count, sizeof(*copy));
    if (copy != NULL) {
        memcpy(copy, path, (size_t)count * sizeof(*copy));
    }
    return copy;
}

static int build_leaf(struct build *build, struct parquet_shape *shape) {
    const struct weir_parquet_writer_options *options = build->options;
    struct parquet_leaf *leaf = &build->writer->leaves[build->leaf_next++];
    build->writer->leaf_count = build->leaf_next;
    leaf->field = shape->field;
    set_storage(leaf);
    leaf->max_definition = (uint8_t)build->definition;
    leaf->max_repetition = (uint8_t)build->repetition;
    leaf->dictionary_allowed = options->dictionary_bytes > 0 && leaf->store != PARQUET_STORE_BOOL;
    leaf->path_count = build->path_count;
    leaf->info_path_count = build->info_path_count;
    leaf->path = copy_path(build->path, build->path_count);
    leaf->info_path = copy_path(build->info_path, build->info_path_count);
    weir_buffer_init(&leaf->definition, BUFFER_MAX);
    weir_buffer_init(&leaf->repetition, BUFFER_MAX);
    weir_buffer_init(&leaf->values, BUFFER_MAX);
    weir_buffer_init(&leaf->lengths, BUFFER_MAX);
    weir_buffer_init(&leaf->codes, BUFFER_MAX);
    weir_buffer_init(&leaf->indices, BUFFER_MAX);
    weir_buffer_init(&leaf->held, (size_t)8 * BUFFER_MAX);
    weir_buffer_init(&leaf->pages, BUFFER_MAX);
    weir_buffer_init(&leaf->bounds, BUFFER_MAX);
    parquet_statistics_init(&leaf->page);
    parquet_statistics_init(&leaf->chunk);
    parquet_statistics_init(&leaf->file);
    parquet_dictionary_init(&leaf->dictionary, leaf->width, (size_t)options->dictionary_bytes,
                            (uint32_t)options->dictionary_values);
    /* Room before the values for levels (and lengths), so that most pages are compressed in place.
     */
    leaf->headroom = 1024 + (size_t)options->page_rows / 4;
    if (leaf->store == PARQUET_STORE_BYTES) {
        leaf->headroom += (size_t)options->page_rows * 5;
    }
    leaf->headroom = (leaf->headroom + 63) & ~(size_t)63; /* values stay aligned */
    parquet_leaf_clear_chunk(leaf);
    if (leaf->path == NULL || leaf->info_path == NULL ||
        weir_buffer_reserve(&leaf->values, leaf->headroom + PARQUET_SLACK) != WEIR_OK) {
        return weir_error_set(build->err, WEIR_E_NOMEM, "parquet writer: out of memory");
    }
    return WEIR_OK;
}

static int build_node(struct build *build, struct parquet_shape *shape,
                      const struct weir_field *field, const char *name, bool optional) {
    shape->field = field;
    shape->optional = optional;
    shape->leaf_first = build->leaf_next;
    shape->field_id = -1;
    if (build->options->field_ids != NULL && build->field_next < build->options->field_id_count) {
        shape->field_id = build->options->field_ids[build->field_next];
    }
    build->field_next++;
    if (build->path_count + 2 > PARQUET_DEPTH_MAX) {
        return weir_error_set(build->err, WEIR_E_SCHEMA,
                              "parquet column %s: nested deeper than %d levels",
                              build->info_path[0], PARQUET_DEPTH_MAX);
    }
    int32_t definition = build->definition;
    int32_t repetition = build->repetition;
    int32_t path_count = build->path_count;
    shape->repetition_level = (uint8_t)repetition;
    build->path[build->path_count++] = name;
    build->info_path[build->info_path_count++] = name;
    build->definition += optional ? 1 : 0;
    shape->kind = PARQUET_NODE_LEAF;
    int rc = WEIR_OK;
    if (weir_type_is_nested(field->type)) {
        bool is_list = field->type == WEIR_TYPE_LIST;
        bool is_map = field->type == WEIR_TYPE_MAP;
        shape->kind = is_list ? PARQUET_NODE_LIST : is_map ? PARQUET_NODE_MAP : PARQUET_NODE_STRUCT;
        if (field->child_count == 0) {
            rc = weir_error_set(build->err, WEIR_E_SCHEMA,
                                "parquet column %s: struct %s has no fields, which a file cannot "
                                "hold",
                                build->info_path[0], name);
            goto out;
        }
        if (is_list || is_map) {
            build->path[build->path_count++] = is_list ? "list" : "key_value";
            build->definition++;
            build->repetition++;
        }
        shape->children = calloc((size_t)field->child_count, sizeof(*shape->children));
        if (shape->children == NULL) {
            rc = weir_error_set(build->err, WEIR_E_NOMEM, "parquet writer: out of memory");
            goto out;
        }
        shape->child_count = field->child_count;
        for (int32_t i = 0; i < field->child_count && rc == WEIR_OK; i++) {
            const char *child = is_list  ? "element"
                                : is_map ? (i == 0 ? "key" : "value")
                                         : field->children[i].name;
            bool is_key = is_map && i == 0; /* keys are required whatever the field says */
            rc = build_node(build, &shape->children[i], &field->children[i], child,
                            !is_key && field->children[i].nullable);
        }
    } else {
        rc = build_leaf(build, shape);
    }
    shape->leaf_count = build->leaf_next - shape->leaf_first;
out:
    build->definition = definition;
    build->repetition = repetition;
    build->path_count = path_count;
    build->info_path_count--;
    return rc;
}

static int32_t count_leaves(const struct weir_field *field) {
    int32_t count = field->child_count == 0;
    for (int32_t i = 0; i < field->child_count; i++) {
        count += count_leaves(&field->children[i]);
    }
    return count;
}

static int32_t count_fields(const struct weir_field *field) {
    int32_t count = 1;
    for (int32_t i = 0; i < field->child_count; i++) {
        count += count_fields(&field->children[i]);
    }
    return count;
}

int parquet_shape_build(struct weir_parquet_writer *writer,
                        const struct weir_parquet_writer_options *options, struct weir_error *err) {
    const struct weir_schema *schema = writer->schema;
    struct build build = {.writer = writer, .options = options, .err = err};
    int32_t leaves = 0;
    for (int32_t i = 0; i < schema->count; i++) {
        leaves += count_leaves(&schema->fields[i]);
    }
    writer->columns = calloc((size_t)schema->count + 1, sizeof(*writer->columns));
    writer->leaves = calloc((size_t)leaves + 1, sizeof(*writer->leaves));
    writer->infos = calloc((size_t)leaves + 1, sizeof(*writer->infos));
    if (writer->columns == NULL || writer->leaves == NULL || writer->infos == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "parquet writer: out of memory");
    }
    for (int32_t i = 0; i < schema->count; i++) {
        if (options->excluded != NULL && options->excluded[i]) {
            writer->columns[i].excluded = true;
            build.field_next += count_fields(&schema->fields[i]);
            continue;
        }
        int rc = build_node(&build, &writer->columns[i], &schema->fields[i], schema->fields[i].name,
                            schema->fields[i].nullable);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    if (writer->leaf_count == 0) {
        return weir_error_set(err, WEIR_E_SCHEMA,
                              "parquet writer: no column left to write; a table needs at least one "
                              "that is not a partition column");
    }
    return WEIR_OK;
}

static void destroy_node(struct parquet_shape *shape) {
    for (int32_t i = 0; i < shape->child_count; i++) {
        destroy_node(&shape->children[i]);
    }
    free(shape->children);
}

void parquet_shape_destroy(struct weir_parquet_writer *writer) {
    for (int32_t i = 0; writer->columns != NULL && i < writer->schema->count; i++) {
        destroy_node(&writer->columns[i]);
    }
    for (int32_t i = 0; i < writer->leaf_count; i++) {
        struct parquet_leaf *leaf = &writer->leaves[i];
        free(leaf->path);
        free(leaf->info_path);
        weir_buffer_fini(&leaf->definition);
        weir_buffer_fini(&leaf->repetition);
        weir_buffer_fini(&leaf->values);
        weir_buffer_fini(&leaf->lengths);
        weir_buffer_fini(&leaf->codes);
        weir_buffer_fini(&leaf->indices);
        weir_buffer_fini(&leaf->held);
        weir_buffer_fini(&leaf->pages);
        parquet_statistics_fini(&leaf->page);
        parquet_statistics_fini(&leaf->chunk);
        weir_buffer_fini(&leaf->bounds);
        parquet_statistics_fini(&leaf->file);
        parquet_dictionary_fini(&leaf->dictionary);
    }
    free(writer->columns);
    free(writer->leaves);
    free(writer->infos);
}

/* --- schema elements --------------------------------------------------------------------- */

static void write_time_unit(struct thrift_writer *thrift, bool utc, bool nanos) {
    thrift_struct_begin(thrift, 10);
    thrift_struct_begin(thrift, PARQUET_LOGICAL_TIMESTAMP);
    thrift_write_bool(thrift, 1, utc);
    thrift_struct_begin(thrift, 2);
    thrift_struct_begin(thrift, nanos ? PARQUET_UNIT_NANOS : PARQUET_UNIT_MICROS);
    thrift_struct_end(thrift);
    thrift_struct_end(thrift);
    thrift_struct_end(thrift);
    thrift_struct_end(thrift);
}

static void write_empty_logical(struct thrift_writer *thrift, int16_t id) {
    thrift_struct_begin(thrift, 10);
    thrift_struct_begin(thrift, id);
    thrift_struct_end(thrift);
    thrift_struct_end(thrift);
}

static void write_field_id(struct thrift_writer *thrift, int32_t field_id) {
    if (field_id >= 0) {
        thrift_write_i32(thrift, 9, field_id);
    }
}

static void write_leaf(const struct weir_parquet_writer *writer, struct thrift_writer *thrift,
                       const struct parquet_shape *shape, const char *name) {
    const struct weir_field *field = shape->field;
    const struct parquet_leaf *leaf = &writer->leaves[shape->leaf_first];
    bool nanos = writer->options.nanos_annotated;
    thrift_element_struct(thrift);
    thrift_write_i32(thrift, 1, leaf->physical);
    if (leaf->physical == PARQUET_FIXED) {
        thrift_write_i32(thrift, 2, leaf->width);
    }
    thrift_write_i32(thrift, 3, shape->optional ? PARQUET_OPTIONAL : PARQUET_REQUIRED);
    thrift_write_text(thrift, 4, name);
    switch (field->type) {
    case WEIR_TYPE_INT8:
    case WEIR_TYPE_INT16:
        thrift_write_i32(thrift, 6, field->type == WEIR_TYPE_INT8 ? PARQUET_INT_8 : PARQUET_INT_16);
        write_field_id(thrift, shape->field_id);
        thrift_struct_begin(thrift, 10);
        thrift_struct_begin(thrift, PARQUET_LOGICAL_INTEGER);
        thrift_write_i8(thrift, 1, field->type == WEIR_TYPE_INT8 ? 8 : 16);
        thrift_write_bool(thrift, 2, true);
        thrift_struct_end(thrift);
        thrift_struct_end(thrift);
        break;
    case WEIR_TYPE_STRING:
        thrift_write_i32(thrift, 6, PARQUET_UTF8);
        write_field_id(thrift, shape->field_id);
        write_empty_logical(thrift, PARQUET_LOGICAL_STRING);
        break;
    case WEIR_TYPE_DATE:
        thrift_write_i32(thrift, 6, PARQUET_DATE);
        write_field_id(thrift, shape->field_id);
        write_empty_logical(thrift, PARQUET_LOGICAL_DATE);
        break;
    case WEIR_TYPE_DECIMAL:
        thrift_write_i32(thrift, 6, PARQUET_DECIMAL);
        thrift_write_i32(thrift, 7, field->scale);
        thrift_write_i32(thrift, 8, field->precision);
        write_field_id(thrift, shape->field_id);
        thrift_struct_begin(thrift, 10);
        thrift_struct_begin(thrift, PARQUET_LOGICAL_DECIMAL);
        thrift_write_i32(thrift, 1, field->scale);
        thrift_write_i32(thrift, 2, field->precision);
        thrift_struct_end(thrift);
        thrift_struct_end(thrift);
        break;
    case WEIR_TYPE_TIMESTAMP:
        thrift_write_i32(thrift, 6, PARQUET_TIMESTAMP_MICROS);
        write_field_id(thrift, shape->field_id);
        write_time_unit(thrift, true, false);
        break;
    case WEIR_TYPE_TIMESTAMP_NTZ: /* no converted type says "no zone" */
        write_field_id(thrift, shape->field_id);
        write_time_unit(thrift, false, false);
        break;
    case WEIR_TYPE_TIMESTAMP_NS:
    case WEIR_TYPE_TIMESTAMP_NS_NTZ:
        write_field_id(thrift, shape->field_id);
        if (nanos) {
            write_time_unit(thrift, field->type == WEIR_TYPE_TIMESTAMP_NS, true);
        }
        break;
    default:
        write_field_id(thrift, shape->field_id);
        break;
    }
    thrift_struct_end(thrift);
}

static void write_node(const struct weir_parquet_writer *writer, struct thrift_writer *thrift,
                       const struct parquet_shape *shape, const char *name) {
    if (shape->kind == PARQUET_NODE_LEAF) {
        write_leaf(writer, thrift, shape, name);
        return;
    }
    bool is_list = shape->kind == PARQUET_NODE_LIST;
    bool is_map = shape->kind == PARQUET_NODE_MAP;
    thrift_element_struct(thrift);
    thrift_write_i32(thrift, 3, shape->optional ? PARQUET_OPTIONAL : PARQUET_REQUIRED);
    thrift_write_text(thrift, 4, name);
    thrift_write_i32(thrift, 5, is_list || is_map ? 1 : shape->child_count);
    if (is_list || is_map) {
        thrift_write_i32(thrift, 6, is_list ? PARQUET_LIST : PARQUET_MAP);
    }
    write_field_id(thrift, shape->field_id);
    if (is_list || is_map) {
        write_empty_logical(thrift, is_list ? PARQUET_LOGICAL_LIST : PARQUET_LOGICAL_MAP);
    }
    thrift_struct_end(thrift);
    if (is_list || is_map) {
        thrift_element_struct(thrift);
        thrift_write_i32(thrift, 3, PARQUET_REPEATED);
        thrift_write_text(thrift, 4, is_list ? "list" : "key_value");
        thrift_write_i32(thrift, 5, shape->child_count);
        thrift_struct_end(thrift);
    }
    for (int32_t i = 0; i < shape->child_count; i++) {
        const char *child = is_list  ? "element"
                            : is_map ? (i == 0 ? "key" : "value")
                                     : shape->field->children[i].name;
        write_node(writer, thrift, &shape->children[i], child);
    }
}

static int32_t count_elements(const struct parquet_shape *shape) {
    int32_t count =
        1 + (shape->kind == PARQUET_NODE_LIST || shape->kind == PARQUET_NODE_MAP ? 1 : 0);
    for (int32_t i = 0; i < shape->child_count; i++) {
        count += count_elements(&shape->children[i]);
    }
    return count;
}

void parquet_shape_write(const struct weir_parquet_writer *writer, struct thrift_writer *thrift) {
    int32_t columns = 0;
    int32_t elements = 1;
    for (int32_t i = 0; i < writer->schema->count; i++) {
        if (!writer->columns[i].excluded) {
            columns++;
            elements += count_elements(&writer->columns[i]);
        }
    }
    thrift_write_list(thrift, 2, THRIFT_STRUCT, elements);
    thrift_element_struct(thrift);
    thrift_write_text(thrift, 4, "schema");
    thrift_write_i32(thrift, 5, columns);
    thrift_struct_end(thrift);
    for (int32_t i = 0; i < writer->schema->count; i++) {
        if (!writer->columns[i].excluded) {
            write_node(writer, thrift, &writer->columns[i], writer->schema->fields[i].name);
        }
    }
}
