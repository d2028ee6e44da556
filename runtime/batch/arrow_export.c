/* Export: the structs and buffer pointer arrays of a whole tree are one allocation each per node;
 * the data is borrowed from the batch. Every node holds a reference on it, because a consumer may
 * move a child out and release it after the root ("Moving an array", "child arrays"). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch/arrow.h"

struct schema_private {
    char format[32];
    char *name;
    struct ArrowSchema *children; /* child_count */
    struct ArrowSchema **child_pointers;
    struct ArrowSchema *dictionary;
};

static void release_schema(struct ArrowSchema *schema) {
    struct schema_private *p = schema->private_data;
    for (int64_t i = 0; i < schema->n_children; i++) {
        if (p->children[i].release != NULL) {
            p->children[i].release(&p->children[i]);
        }
    }
    if (p->dictionary != NULL && p->dictionary->release != NULL) {
        p->dictionary->release(p->dictionary);
    }
    free(p->dictionary);
    free(p->children);
    free(p->child_pointers);
    free(p->name);
    free(p);
    schema->release = NULL;
}

static const char *simple_format(uint8_t type) {
    switch (type) {
    case WEIR_TYPE_BOOL:
        return "b";
    case WEIR_TYPE_INT8:
        return "c";
    case WEIR_TYPE_INT16:
        return "s";
    case WEIR_TYPE_INT32:
        return "i";
    case WEIR_TYPE_INT64:
        return "l";
    case WEIR_TYPE_FLOAT:
        return "f";
    case WEIR_TYPE_DOUBLE:
        return "g";
    case WEIR_TYPE_STRING:
        return "u";
    case WEIR_TYPE_BINARY:
        return "z";
    case WEIR_TYPE_DATE:
        return "tdD";
    case WEIR_TYPE_TIMESTAMP:
        return "tsu:UTC";
    case WEIR_TYPE_TIMESTAMP_NTZ:
        return "tsu:";
    case WEIR_TYPE_TIMESTAMP_NS:
        return "tsn:UTC";
    case WEIR_TYPE_TIMESTAMP_NS_NTZ:
        return "tsn:";
    case WEIR_TYPE_LIST:
        return "+l";
    case WEIR_TYPE_STRUCT:
        return "+s";
    case WEIR_TYPE_MAP:
        return "+m";
    default:
        return "n";
    }
}

static int allocate_children(struct schema_private *p, int64_t count) {
    p->children = calloc((size_t)count + 1, sizeof(*p->children));
    p->child_pointers = calloc((size_t)count + 1, sizeof(*p->child_pointers));
    if (p->children == NULL || p->child_pointers == NULL) {
        return WEIR_E_NOMEM;
    }
    for (int64_t i = 0; i < count; i++) {
        p->child_pointers[i] = &p->children[i];
    }
    return WEIR_OK;
}

static int export_field(const struct weir_field *field, const struct weir_column *column,
                        struct ArrowSchema *out) {
    memset(out, 0, sizeof(*out));
    struct schema_private *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return WEIR_E_NOMEM;
    }
    out->private_data = p;
    out->release = release_schema;
    out->format = p->format;
    out->flags = field->nullable ? ARROW_FLAG_NULLABLE : 0;
    p->name = strdup(field->name != NULL ? field->name : "");
    out->name = p->name;
    if (p->name == NULL) {
        return WEIR_E_NOMEM;
    }
    if (field->type == WEIR_TYPE_DECIMAL) {
        snprintf(p->format, sizeof(p->format), "d:%d,%d", field->precision, field->scale);
    } else {
        snprintf(p->format, sizeof(p->format), "%s", simple_format(field->type));
    }
    if (column != NULL && column->codes != NULL) {
        p->dictionary = calloc(1, sizeof(*p->dictionary));
        if (p->dictionary == NULL) {
            return WEIR_E_NOMEM;
        }
        int rc = export_field(field, NULL, p->dictionary);
        out->dictionary = p->dictionary;
        snprintf(p->format, sizeof(p->format), "i");
        return rc;
    }
    if (field->type == WEIR_TYPE_MAP) { /* Arrow: map<entries: struct<key, value>> */
        int rc = allocate_children(p, 1);
        if (rc != WEIR_OK) {
            return rc;
        }
        out->n_children = 1;
        out->children = p->child_pointers;
        char entries_name[] = "entries";
        struct weir_field entries = {.name = entries_name,
                                     .type = WEIR_TYPE_STRUCT,
                                     .children = field->children,
                                     .child_count = field->child_count};
        return export_field(&entries, column, &p->children[0]); /* the same children */
    }
    if (field->child_count > 0) {
        int rc = allocate_children(p, field->child_count);
        if (rc != WEIR_OK) {
            return rc;
        }
        out->n_children = field->child_count;
        out->children = p->child_pointers;
        for (int32_t i = 0; i < field->child_count; i++) {
            rc = export_field(&field->children[i], column != NULL ? &column->children[i] : NULL,
                              &p->children[i]);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
    }
    return WEIR_OK;
}

int weir_arrow_export_schema(const struct weir_schema *schema, const struct weir_batch *batch,
                             struct ArrowSchema *out, struct weir_error *err) {
    memset(out, 0, sizeof(*out));
    struct schema_private *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "arrow export: out of memory");
    }
    out->private_data = p;
    out->release = release_schema;
    snprintf(p->format, sizeof(p->format), "+s");
    out->format = p->format;
    p->name = strdup("");
    out->name = p->name;
    int rc = p->name == NULL ? WEIR_E_NOMEM : allocate_children(p, schema->count);
    if (rc == WEIR_OK) {
        out->n_children = schema->count;
        out->children = p->child_pointers;
    }
    for (int32_t i = 0; rc == WEIR_OK && i < schema->count; i++) {
        rc = export_field(&schema->fields[i], batch != NULL ? &batch->columns[i] : NULL,
                          &p->children[i]);
    }
    if (rc != WEIR_OK) {
        out->release(out);
        return weir_error_set(err, rc, "arrow export: out of memory");
    }
    return WEIR_OK;
}

struct array_private {
    const void *buffers[3];
    struct ArrowArray *children;
    struct ArrowArray **child_pointers;
    struct ArrowArray *dictionary;
    struct weir_batch *batch; /* one reference */
};

/* Stands for buffers that a batch without rows may lack: one offset, or no values. */
static const int64_t no_values[2];

static void release_array(struct ArrowArray *array) {
    struct array_private *p = array->private_data;
    for (int64_t i = 0; i < array->n_children; i++) {
        if (p->children[i].release != NULL) {
            p->children[i].release(&p->children[i]);
        }
    }
    if (p->dictionary != NULL && p->dictionary->release != NULL) {
        p->dictionary->release(p->dictionary);
    }
    free(p->dictionary);
    free(p->children);
    free(p->child_pointers);
    weir_batch_unref(p->batch);
    free(p);
    array->release = NULL;
}

static struct array_private *start_array(struct ArrowArray *out, struct weir_batch *batch,
                                         int64_t length, int64_t null_count, int64_t children) {
    memset(out, 0, sizeof(*out));
    struct array_private *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return NULL;
    }
    p->batch = weir_batch_ref(batch);
    out->private_data = p;
    out->release = release_array;
    out->length = length;
    out->null_count = null_count;
    out->buffers = p->buffers;
    p->children = calloc((size_t)children + 1, sizeof(*p->children));
    p->child_pointers = calloc((size_t)children + 1, sizeof(*p->child_pointers));
    if (p->children == NULL || p->child_pointers == NULL) {
        out->release(out);
        return NULL;
    }
    for (int64_t i = 0; i < children; i++) {
        p->child_pointers[i] = &p->children[i];
    }
    out->n_children = children;
    out->children = children > 0 ? p->child_pointers : NULL;
    return p;
}

static const void *buffer_or_none(const void *buffer) {
    return buffer != NULL ? buffer : no_values;
}

static int export_column(struct weir_batch *batch, const struct weir_column *column,
                         struct ArrowArray *out) {
    bool map = column->type == WEIR_TYPE_MAP;
    int64_t children = column->codes != NULL ? 0 : map ? 1 : column->child_count;
    struct array_private *p = start_array(out, batch, column->length, column->null_count, children);
    if (p == NULL) {
        return WEIR_E_NOMEM;
    }
    p->buffers[0] = column->validity;
    if (column->codes != NULL) {
        out->n_buffers = 2;
        p->buffers[1] = buffer_or_none(column->codes);
        p->dictionary = calloc(1, sizeof(*p->dictionary));
        if (p->dictionary == NULL) {
            return WEIR_E_NOMEM;
        }
        out->dictionary = p->dictionary;
        return export_column(batch, column->dictionary, p->dictionary);
    }
    if (column->type == WEIR_TYPE_STRUCT) {
        out->n_buffers = 1;
    } else if (column->type == WEIR_TYPE_LIST || map) {
        out->n_buffers = 2;
        p->buffers[1] = buffer_or_none(column->offsets);
    } else if (weir_type_is_bytes(column->type)) {
        out->n_buffers = 3;
        p->buffers[1] = buffer_or_none(column->offsets);
        p->buffers[2] = buffer_or_none(column->values);
    } else {
        out->n_buffers = 2;
        p->buffers[1] = buffer_or_none(column->values);
    }
    if (map) {
        int64_t entries = column->children[0].length;
        struct array_private *inner =
            start_array(&p->children[0], batch, entries, 0, column->child_count);
        if (inner == NULL) {
            return WEIR_E_NOMEM;
        }
        p->children[0].n_buffers = 1;
        out = &p->children[0];
        p = inner;
    }
    for (int32_t i = 0; i < column->child_count; i++) {
        int rc = export_column(batch, &column->children[i], &p->children[i]);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}

int weir_arrow_export_batch(struct weir_batch *batch, struct ArrowArray *out,
                            struct weir_error *err) {
    struct array_private *p = start_array(out, batch, batch->rows, 0, batch->column_count);
    if (p == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "arrow export: out of memory");
    }
    out->n_buffers = 1;
    for (int32_t i = 0; i < batch->column_count; i++) {
        int rc = export_column(batch, &batch->columns[i], &p->children[i]);
        if (rc != WEIR_OK) {
            out->release(out);
            return weir_error_set(err, rc, "arrow export: out of memory");
        }
    }
    return WEIR_OK;
}
