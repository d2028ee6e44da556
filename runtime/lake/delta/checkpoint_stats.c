#include "lake/delta/checkpoint_stats.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lake/delta/text.h"

enum { EXACT_DIGITS = 15, DEPTH_MAX = 64 }; /* decimals in JSON are doubles */

void delta_parsed_init(struct delta_parsed *parsed, const struct weir_delta_metadata *metadata) {
    const char *json = weir_delta_metadata_property(metadata, "delta.checkpoint.writeStatsAsJson");
    const char *as_struct =
        weir_delta_metadata_property(metadata, "delta.checkpoint.writeStatsAsStruct");
    *parsed = (struct delta_parsed){
        .as_struct = as_struct != NULL && strcasecmp(as_struct, "true") == 0,
        .without_json = json != NULL && strcasecmp(json, "false") == 0,
        .has_partitions = metadata->partition_count > 0,
    };
}

/* --- columns ------------------------------------------------------------------------------- */

/* A child at the end, named, of no type yet; NULL without memory. */
static struct weir_field *add_child(struct weir_field *parent, const char *name, uint8_t type) {
    struct weir_field *children =
        realloc(parent->children, ((size_t)parent->child_count + 1) * sizeof(*children));
    char *copy = strdup(name);
    parent->children = children != NULL ? children : parent->children;
    if (children == NULL || copy == NULL) {
        free(copy);
        return NULL;
    }
    struct weir_field *child = &children[parent->child_count++];
    *child = (struct weir_field){.name = copy, .type = type, .nullable = true};
    return child;
}

static void drop_last(struct weir_field *parent) {
    weir_field_fini(&parent->children[--parent->child_count]);
}

static bool has_bounds(const struct weir_field *field) {
    switch (field->type) {
    case WEIR_TYPE_BOOL:
    case WEIR_TYPE_BINARY:
    case WEIR_TYPE_LIST:
    case WEIR_TYPE_MAP:
        return false;
    case WEIR_TYPE_DECIMAL:
        return field->precision <= EXACT_DIGITS;
    default:
        return true;
    }
}

/* As the table's types say it: nanoseconds are longs there. */
static void set_type(struct weir_field *to, const struct weir_field *from) {
    bool ns = from->type == WEIR_TYPE_TIMESTAMP_NS || from->type == WEIR_TYPE_TIMESTAMP_NS_NTZ;
    to->type = ns ? WEIR_TYPE_INT64 : from->type;
    to->precision = from->precision;
    to->scale = from->scale;
}

/* What bounds, or counts of nulls, of these columns are; false without memory. */
static bool add_shape(struct weir_field *to, const struct weir_field *fields,
                      const struct weir_delta_column *columns, int32_t count, bool counts) {
    for (int32_t i = 0; i < count; i++) {
        const struct weir_field *from = &fields[i];
        bool is_struct = from->type == WEIR_TYPE_STRUCT;
        if (!is_struct && (counts ? weir_type_is_nested(from->type) : !has_bounds(from))) {
            continue;
        }
        struct weir_field *child = add_child(to, columns[i].physical_name, WEIR_TYPE_STRUCT);
        if (child == NULL || (is_struct && !add_shape(child, from->children, columns[i].children,
                                                      from->child_count, counts))) {
            return false;
        }
        if (is_struct && child->child_count == 0) {
            drop_last(to);
        } else if (!is_struct && counts) {
            child->type = WEIR_TYPE_INT64;
        } else if (!is_struct) {
            set_type(child, from);
        }
    }
    return true;
}

static bool is_partition(const struct weir_delta_metadata *metadata, const char *name) {
    for (int32_t i = 0; i < metadata->partition_count; i++) {
        if (strcmp(metadata->partition_columns[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static bool add_part(struct weir_field *stats, const char *name,
                     const struct weir_delta_metadata *metadata, const struct weir_schema *schema,
                     const struct weir_delta_column *columns, bool counts) {
    struct weir_field *part = add_child(stats, name, WEIR_TYPE_STRUCT);
    bool good = part != NULL;
    for (int32_t i = 0; good && i < schema->count; i++) {
        good = is_partition(metadata, schema->fields[i].name) ||
               add_shape(part, &schema->fields[i], &columns[i], 1, counts);
    }
    if (good && part->child_count == 0) {
        drop_last(stats);
    }
    return good;
}

static bool add_partitions(struct weir_field *add, const struct weir_delta_metadata *metadata,
                           const struct weir_schema *schema,
                           const struct weir_delta_column *columns) {
    struct weir_field *parsed = add_child(add, "partitionValues_parsed", WEIR_TYPE_STRUCT);
    for (int32_t i = 0; parsed != NULL && i < schema->count; i++) {
        if (is_partition(metadata, schema->fields[i].name)) {
            struct weir_field *child = add_child(parsed, columns[i].physical_name, 0);
            if (child == NULL) {
                return false;
            }
            set_type(child, &schema->fields[i]);
        }
    }
    return parsed != NULL;
}

int delta_parsed_fields(struct weir_delta_snapshot *snapshot, const struct delta_parsed *parsed,
                        struct weir_field *add, struct weir_error *err) {
    const struct weir_delta_metadata *metadata = &snapshot->metadata;
    const struct weir_schema *schema;
    const struct weir_delta_column *columns;
    int rc = weir_delta_snapshot_schema(snapshot, &schema, &columns, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    struct weir_field *stats = add_child(add, "stats_parsed", WEIR_TYPE_STRUCT);
    bool good = stats != NULL && add_child(stats, "numRecords", WEIR_TYPE_INT64) != NULL &&
                add_child(stats, "tightBounds", WEIR_TYPE_BOOL) != NULL &&
                add_part(stats, "minValues", metadata, schema, columns, false) &&
                add_part(stats, "maxValues", metadata, schema, columns, false) &&
                add_part(stats, "nullCount", metadata, schema, columns, true);
    good = good && (!parsed->has_partitions || add_partitions(add, metadata, schema, columns));
    return good ? WEIR_OK : weir_error_set(err, WEIR_E_NOMEM, "checkpoint: out of memory");
}

/* --- rows ---------------------------------------------------------------------------------- */

static int put_decimal(struct weir_column_builder *column, const struct weir_field *field,
                       const char *text) {
    __int128 value;
    if (!delta_parse_decimal(text, field->precision, field->scale, &value)) {
        return weir_builder_null(column);
    }
    return weir_builder_decimal(column, (uint64_t)value, (int64_t)(value >> 64));
}

/* A value from its text, as partition values and JSON's texts have it. */
static int put_text(struct weir_column_builder *column, const struct weir_field *field,
                    const char *text) {
    int32_t days;
    int64_t us;
    char *end;
    switch (field->type) {
    case WEIR_TYPE_STRING:
    case WEIR_TYPE_BINARY:
        return weir_builder_bytes(column, text, strlen(text));
    case WEIR_TYPE_DATE:
        return delta_parse_date(text, &days) ? weir_builder_int(column, days)
                                             : weir_builder_null(column);
    case WEIR_TYPE_TIMESTAMP:
    case WEIR_TYPE_TIMESTAMP_NTZ:
        return delta_parse_timestamp(text, &us) ? weir_builder_int(column, us)
                                                : weir_builder_null(column);
    case WEIR_TYPE_DECIMAL:
        return put_decimal(column, field, text);
    case WEIR_TYPE_BOOL:
        return weir_builder_bool(column, strcasecmp(text, "true") == 0);
    case WEIR_TYPE_FLOAT:
        return weir_builder_float(column, strtof(text, NULL));
    case WEIR_TYPE_DOUBLE:
        return weir_builder_double(column, strtod(text, NULL));
    default:
        us = strtoll(text, &end, 10);
        return end != text && *end == '\0' ? weir_builder_int(column, us)
                                           : weir_builder_null(column);
    }
}

static int put_number(struct weir_column_builder *column, const struct weir_field *field,
                      const json_t *json) {
    char text[64];
    switch (field->type) {
    case WEIR_TYPE_FLOAT:
        return weir_builder_float(column, (float)json_number_value(json));
    case WEIR_TYPE_DOUBLE:
        return weir_builder_double(column, json_number_value(json));
    case WEIR_TYPE_DECIMAL:
        if (json_is_integer(json)) {
            snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT, json_integer_value(json));
        } else {
            snprintf(text, sizeof(text), "%.*f", field->scale, json_real_value(json));
        }
        return put_decimal(column, field, text);
    default:
        return json_is_integer(json) ? weir_builder_int(column, json_integer_value(json))
                                     : weir_builder_null(column);
    }
}

/* What is not as the column's type wants it is null: a bound that is not known. */
static int put_json(struct weir_column_builder *column, const struct weir_field *field,
                    const json_t *json) {
    if (field->type == WEIR_TYPE_STRUCT && json_is_object(json)) {
        int rc = WEIR_OK;
        for (int32_t i = 0; i < field->child_count && rc == WEIR_OK; i++) {
            rc = put_json(&column->children[i], &field->children[i],
                          json_object_get(json, field->children[i].name));
        }
        return rc == WEIR_OK ? weir_builder_struct(column) : rc;
    }
    bool number = field->type != WEIR_TYPE_STRING && field->type != WEIR_TYPE_DATE &&
                  !weir_type_is_timestamp(field->type) && field->type != WEIR_TYPE_STRUCT;
    if (json_is_boolean(json) && field->type == WEIR_TYPE_BOOL) {
        return weir_builder_bool(column, json_is_true(json));
    }
    if (json_is_number(json) && number) {
        return put_number(column, field, json);
    }
    if (json_is_string(json) && !number && field->type != WEIR_TYPE_STRUCT) {
        return put_text(column, field, json_string_value(json));
    }
    return weir_builder_null(column);
}

int delta_parsed_put_stats(struct weir_column_builder *column, const struct weir_field *field,
                           const char *stats) {
    json_t *json = stats != NULL ? json_loads(stats, 0, NULL) : NULL;
    int rc = put_json(column, field, json);
    json_decref(json);
    return rc;
}

int delta_parsed_put_partitions(struct weir_column_builder *column, const struct weir_field *field,
                                const struct weir_delta_add *add) {
    int rc = WEIR_OK;
    for (int32_t i = 0; i < field->child_count && rc == WEIR_OK; i++) {
        const char *value = NULL;
        for (int32_t p = 0; p < add->partition_count; p++) {
            if (strcmp(add->partition_values[p].key, field->children[i].name) == 0) {
                value = add->partition_values[p].value;
            }
        }
        rc = value != NULL && *value != '\0' /* the empty text is null, too */
                 ? put_text(&column->children[i], &field->children[i], value)
                 : weir_builder_null(&column->children[i]);
    }
    return rc == WEIR_OK ? weir_builder_struct(column) : rc;
}

/* --- reading ------------------------------------------------------------------------------- */

static int text_of_double(struct weir_buffer *out, double value, bool is_float) {
    return isfinite(value) ? delta_text_double(out, value, is_float) : WEIR_E_NOTFOUND;
}

static int quoted_time(struct delta_view view, int64_t row, struct weir_buffer *out) {
    bool plain = true;
    int rc = weir_buffer_append(out, "\"", 1);
    if (rc == WEIR_OK && view.field->type == WEIR_TYPE_DATE) {
        rc = delta_text_date(out, weir_column_int(view.column, row), &plain);
    } else if (rc == WEIR_OK) {
        rc = delta_text_timestamp(out, weir_column_int(view.column, row), 6,
                                  view.field->type == WEIR_TYPE_TIMESTAMP, &plain);
    }
    rc = rc == WEIR_OK ? weir_buffer_append(out, "\"", 1) : rc;
    return rc == WEIR_OK && !plain ? WEIR_E_NOTFOUND : rc;
}

static int text_of(struct delta_view view, int64_t row, int depth, struct weir_buffer *out);

/* Members that are null, or have no text, are left out. */
static int text_of_struct(struct delta_view view, int64_t row, int depth, struct weir_buffer *out) {
    int rc = weir_buffer_append(out, "{", 1);
    size_t start = out->size;
    for (int32_t i = 0; i < view.field->child_count && rc == WEIR_OK; i++) {
        struct delta_view child = {&view.field->children[i], &view.column->children[i]};
        size_t before = out->size;
        if (!delta_view_has(child, row)) {
            continue;
        }
        rc = before > start ? weir_buffer_append(out, ",", 1) : WEIR_OK;
        rc = rc == WEIR_OK
                 ? weir_delta_json_string(out, child.field->name, strlen(child.field->name))
                 : rc;
        rc = rc == WEIR_OK ? weir_buffer_append(out, ":", 1) : rc;
        rc = rc == WEIR_OK ? text_of(child, row, depth + 1, out) : rc;
        if (rc == WEIR_E_NOTFOUND) {
            out->size = before;
            rc = WEIR_OK;
        }
    }
    return rc == WEIR_OK ? weir_buffer_append(out, "}", 1) : rc;
}

/* WEIR_E_NOTFOUND: a value that statistics have no text for. */
static int text_of(struct delta_view view, int64_t row, int depth, struct weir_buffer *out) {
    int32_t length;
    uint64_t parts[2];
    switch (view.field->type) {
    case WEIR_TYPE_STRUCT:
        return depth < DEPTH_MAX ? text_of_struct(view, row, depth, out) : WEIR_E_NOTFOUND;
    case WEIR_TYPE_BOOL:
        return weir_buffer_append_text(out,
                                       weir_bit_get(view.column->values, row) ? "true" : "false");
    case WEIR_TYPE_STRING: {
        const char *bytes = weir_column_bytes(view.column, row, &length);
        return weir_delta_json_string(out, bytes, (size_t)length);
    }
    case WEIR_TYPE_DATE:
    case WEIR_TYPE_TIMESTAMP:
    case WEIR_TYPE_TIMESTAMP_NTZ:
        return quoted_time(view, row, out);
    case WEIR_TYPE_FLOAT:
        return text_of_double(out, (double)((const float *)view.column->values)[row], true);
    case WEIR_TYPE_DOUBLE:
        return text_of_double(out, ((const double *)view.column->values)[row], false);
    case WEIR_TYPE_DECIMAL:
        memcpy(parts, (const uint8_t *)view.column->values + (size_t)row * 16, sizeof(parts));
        return delta_text_decimal(out, parts[0], (int64_t)parts[1], view.field->scale);
    case WEIR_TYPE_INT8:
    case WEIR_TYPE_INT16:
    case WEIR_TYPE_INT32:
    case WEIR_TYPE_INT64:
        return weir_buffer_printf(out, "%" PRId64, weir_column_int(view.column, row));
    default:
        return WEIR_E_NOTFOUND;
    }
}

int delta_parsed_stats_text(struct delta_view view, int64_t row, struct weir_buffer *out) {
    return text_of(view, row, 0, out);
}
