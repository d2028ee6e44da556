#include "operator/show.h"

#include <string.h>

#include "lake/delta/table.h"
#include "lake/delta/text.h"

enum { OBJECT_BYTES_MAX = 1 << 30 };

void weir_shown_init(struct weir_shown *shown, struct weir_pool *pool) {
    *shown = (struct weir_shown){.pool = pool};
    weir_buffer_init(&shown->key, OBJECT_BYTES_MAX);
    weir_buffer_init(&shown->value, OBJECT_BYTES_MAX);
}

void weir_shown_fini(struct weir_shown *shown) {
    weir_buffer_fini(&shown->key);
    weir_buffer_fini(&shown->value);
    for (int32_t i = 0; i < shown->builder_count; i++) {
        weir_batch_builder_fini(&shown->builders[i]);
    }
    shown->builder_count = 0;
}

void weir_shown_clear(struct weir_shown *shown) {
    weir_buffer_clear(&shown->key);
    weir_buffer_clear(&shown->value);
}

/* The brace, or the comma behind the member before; and the name. */
static int begin_member(struct weir_buffer *object, const char *name) {
    if (object->size > 0) {
        object->data[object->size - 1] = ',';
    }
    int rc = object->size == 0 ? weir_buffer_append_text(object, "{") : WEIR_OK;
    rc = rc == WEIR_OK ? weir_buffer_append_json(object, name, strlen(name)) : rc;
    return rc == WEIR_OK ? weir_buffer_append_text(object, ":") : rc;
}

int weir_shown_json(struct weir_buffer *object, const char *name, const void *json, size_t length) {
    int rc = begin_member(object, name);
    rc = rc == WEIR_OK ? weir_buffer_append(object, json, length) : rc;
    return rc == WEIR_OK ? weir_buffer_append_text(object, "}") : rc;
}

int weir_shown_int(struct weir_buffer *object, const char *name, int64_t value) {
    int rc = begin_member(object, name);
    return rc == WEIR_OK ? weir_buffer_printf(object, "%lld}", (long long)value) : rc;
}

int weir_shown_text(struct weir_buffer *object, const char *name, const void *bytes,
                    size_t length) {
    int rc = begin_member(object, name);
    rc = rc == WEIR_OK ? weir_buffer_append_json(object, bytes, length) : rc;
    return rc == WEIR_OK ? weir_buffer_append_text(object, "}") : rc;
}

int weir_shown_time(struct weir_buffer *object, const char *name, int64_t us) {
    int rc = begin_member(object, name);
    rc = rc == WEIR_OK ? weir_buffer_append_text(object, "\"") : rc;
    rc = rc == WEIR_OK ? delta_text_timestamp(object, us, 6, true, NULL) : rc; /* as columns are */
    return rc == WEIR_OK ? weir_buffer_append_text(object, "\"}") : rc;
}

struct weir_batch_builder *weir_shown_row(struct weir_shown *shown, struct weir_schema *schema) {
    struct weir_batch_builder *builder = NULL;
    for (int32_t i = 0; builder == NULL && i < shown->builder_count; i++) {
        builder = shown->builders[i].schema == schema ? &shown->builders[i] : NULL;
    }
    if (builder == NULL) {
        if (shown->builder_count == WEIR_SHOWN_BUILDERS) { /* the first are needed no more */
            weir_batch_builder_fini(&shown->builders[--shown->builder_count]);
        }
        builder = &shown->builders[shown->builder_count];
        if (weir_batch_builder_init(builder, shown->pool, schema, 1, OBJECT_BYTES_MAX, NULL) !=
            WEIR_OK) {
            return NULL;
        }
        shown->builder_count++;
    }
    return weir_batch_builder_begin_rows(builder, 1) == WEIR_OK ? builder : NULL;
}

int weir_shown_columns(const struct weir_batch *row, int32_t first, int32_t count,
                       struct weir_buffer *object) {
    if (count == 0) {
        return object->size == 0 ? weir_buffer_append_text(object, "{}") : WEIR_OK;
    }
    size_t at = object->size;
    int rc =
        weir_delta_fields_json(row->columns + first, row->schema->fields + first, count, 0, object);
    if (rc == WEIR_OK && at > 0) { /* one object with what was there */
        object->data[at - 1] = ',';
        memmove(object->data + at, object->data + at + 1, object->size - at - 1);
        object->size--;
    }
    return rc;
}

int weir_shown_key(struct weir_shown *shown, const struct weir_key *key, const uint8_t *bytes,
                   size_t length, struct weir_buffer *object, struct weir_error *err) {
    struct weir_schema *schema = weir_key_schema(key);
    if (schema->count == 0) {
        return weir_buffer_append_text(object, "{}");
    }
    struct weir_batch_builder *builder = weir_shown_row(shown, schema);
    if (builder == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    int rc = weir_key_decode(key, bytes, length, builder->columns);
    if (rc != WEIR_OK) {
        weir_batch_unref(weir_batch_builder_take(builder));
        return weir_error_set(err, rc, "a key does not parse");
    }
    weir_batch_builder_finish_row(builder);
    struct weir_batch *row = weir_batch_builder_take(builder);
    rc = weir_shown_columns(row, 0, schema->count, object);
    weir_batch_unref(row);
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "out of memory");
}
