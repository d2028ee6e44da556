#include "batch/projection.h"

#include <stdlib.h>
#include <string.h>

int32_t weir_field_span(const struct weir_field *field) {
    int32_t span = 1;
    for (int32_t i = 0; i < field->child_count; i++) {
        span += weir_field_span(&field->children[i]);
    }
    return span;
}

static int32_t span_of(const struct weir_field *fields, int32_t count) {
    int32_t span = 0;
    for (int32_t i = 0; i < count; i++) {
        span += weir_field_span(&fields[i]);
    }
    return span;
}

struct weir_projection *weir_projection_create(const struct weir_schema *schema) {
    int32_t count = span_of(schema->fields, schema->count);
    struct weir_projection *made = calloc(1, sizeof(*made) + (size_t)count * sizeof(made->read[0]));
    if (made != NULL) {
        made->references = 1;
        made->count = made->unread = count;
    }
    return made;
}

static void mark(struct weir_projection *projection, int32_t from, int32_t count) {
    for (int32_t i = from; i < from + count; i++) {
        projection->unread -= !projection->read[i];
        projection->read[i] = true;
    }
}

int weir_projection_add(struct weir_projection *projection, const struct weir_schema *schema,
                        const char *const *path, int32_t count, struct weir_error *err) {
    const struct weir_field *fields = schema->fields;
    int32_t field_count = schema->count;
    int32_t at = 0;
    for (int32_t step = 0; step < count; step++) {
        int32_t i = 0;
        while (i < field_count && strcmp(fields[i].name, path[step]) != 0) {
            at += weir_field_span(&fields[i++]);
        }
        if (i == field_count) {
            return weir_error_set(err, WEIR_E_CONFIG, "there is no field '%s' to read", path[step]);
        }
        mark(projection, at, step + 1 == count ? weir_field_span(&fields[i]) : 1);
        at++;
        field_count = fields[i].child_count;
        fields = fields[i].children;
    }
    return WEIR_OK;
}

struct weir_projection *weir_projection_ref(struct weir_projection *projection) {
    if (projection != NULL) {
        __atomic_add_fetch(&projection->references, 1, __ATOMIC_RELAXED);
    }
    return projection;
}

void weir_projection_unref(struct weir_projection *projection) {
    if (projection != NULL &&
        __atomic_sub_fetch(&projection->references, 1, __ATOMIC_ACQ_REL) == 0) {
        free(projection);
    }
}

bool weir_projection_equal(const struct weir_projection *a, const struct weir_projection *b) {
    if (a == NULL || b == NULL) {
        return a == b;
    }
    return a->count == b->count &&
           memcmp(a->read, b->read, (size_t)a->count * sizeof(a->read[0])) == 0;
}
