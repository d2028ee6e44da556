#include "decode/row.h"

#include <stdio.h>
#include <string.h>

#include "decode/json/json_text.h"

enum { REASON_BYTES = 1024, TYPE_BYTES_MAX = 16 << 20 };

/* --- plans -------------------------------------------------------------------------------- */

int decode_plan_load(struct decode_plan *plan, const char *path, struct weir_error *err) {
    return weir_avsc_load(path, &plan->avsc, err);
}

void decode_plan_fini(struct decode_plan *plan) {
    json_record_fini(&plan->record);
    json_reader_fini(&plan->reader);
    weir_avsc_fini(&plan->avsc);
    weir_schema_unref(plan->schema);
}

static int check_default(struct decode_plan *plan, struct weir_batch_builder *builder, int32_t i,
                         struct weir_error *err) {
    struct json_field *f = &plan->record.fields[i];
    int rc = f->default_.text == NULL ? WEIR_OK
                                      : json_read_default(&plan->reader, f, &builder->columns[i]);
    if (rc == WEIR_E_DATA) {
        rc = weir_error_set(err, WEIR_E_SCHEMA, "field \"%s\": its default does not fit: %s",
                            f->field->name, plan->reader.reason);
    }
    return rc;
}

static int check_defaults(struct decode_plan *plan, const char *kind, struct weir_error *err) {
    struct weir_pool *pool = weir_pool_create(64 << 20);
    struct weir_batch_builder builder;
    memset(&builder, 0, sizeof(builder));
    int rc = pool == NULL ? weir_error_set(err, WEIR_E_NOMEM, "%s decoder: out of memory", kind)
                          : weir_batch_builder_init(&builder, pool, plan->schema, 1, 1 << 20, err);
    if (rc == WEIR_OK) {
        rc = weir_batch_builder_begin(&builder);
        for (int32_t i = 0; rc == WEIR_OK && i < plan->record.count; i++) {
            rc = check_default(plan, &builder, i, err);
        }
        weir_batch_builder_fini(&builder);
    }
    weir_pool_destroy(pool);
    return rc;
}

/* Do both say the same columns? Type texts, as a plan has them, do not tell which nested fields
 * may be null. */
static bool same_columns(const struct weir_schema *a, const struct weir_schema *b) {
    struct weir_buffer left;
    struct weir_buffer right;
    weir_buffer_init(&left, TYPE_BYTES_MAX);
    weir_buffer_init(&right, TYPE_BYTES_MAX);
    bool same = a->count == b->count;
    for (int32_t i = 0; same && i < a->count; i++) {
        const struct weir_field *x = &a->fields[i];
        const struct weir_field *y = &b->fields[i];
        weir_buffer_clear(&left);
        weir_buffer_clear(&right);
        same = strcmp(x->name, y->name) == 0 && x->nullable == y->nullable &&
               weir_field_format_type(x, &left) == WEIR_OK &&
               weir_field_format_type(y, &right) == WEIR_OK && left.size == right.size &&
               memcmp(left.data, right.data, left.size) == 0;
    }
    weir_buffer_fini(&left);
    weir_buffer_fini(&right);
    return same;
}

int decode_plan_settle(struct decode_plan *plan, const char *kind, struct weir_schema *given,
                       int32_t count, struct weir_error *err) {
    json_reader_init(&plan->reader);
    if (plan->avsc.schema == NULL && given == NULL) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "%s needs a schema; write %s { schema = \"schemas/x.avsc\" }", kind,
                              kind);
    }
    if (plan->avsc.schema != NULL && given != NULL && !same_columns(plan->avsc.schema, given)) {
        return weir_error_set(err, WEIR_E_SCHEMA,
                              "%s: the schema file is no longer the one the rules were checked "
                              "against; run `weir check` again",
                              kind);
    }
    /* The file's own schema carries what column types do not: symbols, epoch units. */
    plan->schema = weir_schema_ref(plan->avsc.schema != NULL ? plan->avsc.schema : given);
    int rc = weir_decode_check_schema(plan->schema, err);
    if (rc == WEIR_OK) {
        rc = json_record_init(&plan->record, plan->schema->fields, plan->avsc.hints,
                              count < 0 ? plan->schema->count : count, err);
    }
    return rc == WEIR_OK ? check_defaults(plan, kind, err) : rc;
}

/* --- rejects ------------------------------------------------------------------------------ */

/* Names of the frame's own may be cut within a character. */
static void mend_utf8(char *text) {
    size_t length = strlen(text);
    int64_t bad;
    while ((bad = json_find_bad_utf8((const uint8_t *)text, length)) >= 0) {
        text[bad] = '?';
    }
}

int decode_reject(struct weir_batch_builder *builder, struct weir_reject_batch **rejects,
                  const uint8_t *block, const struct weir_frame *frame, const char *field,
                  const char *reason, int64_t position) {
    if (*rejects == NULL) {
        *rejects = weir_reject_batch_create(builder->pool);
        if (*rejects == NULL) {
            return WEIR_E_LIMIT;
        }
    }
    char text[REASON_BYTES];
    char where[REASON_BYTES];
    int used = snprintf(text, sizeof(text), "%s", reason);
    if (position >= 0 && used > 0 && (size_t)used < sizeof(text)) {
        snprintf(text + used, sizeof(text) - (size_t)used, ", at byte %lld", (long long)position);
    }
    snprintf(where, sizeof(where), "%s", field);
    mend_utf8(text);
    mend_utf8(where);
    return weir_reject_batch_add(*rejects, builder->rows, frame->offset, block + frame->start,
                                 frame->length, text, where, (int32_t)position);
}

/* --- rows --------------------------------------------------------------------------------- */

int decode_finish_row(struct weir_batch_builder *builder, int32_t user, int64_t offset,
                      const struct weir_buffer *rescued) {
    struct weir_column_builder *meta = builder->columns + user;
    int64_t row = builder->rows;
    ((int64_t *)meta[WEIR_META_OFFSET].values)[row] = offset;
    meta[WEIR_META_OFFSET].length = row + 1;
    int rc = rescued->size == 0
                 ? weir_builder_null(&meta[WEIR_META_RESCUED])
                 : weir_builder_bytes(&meta[WEIR_META_RESCUED], rescued->data, rescued->size);
    if (rc == WEIR_OK) {
        builder->rows++;
    }
    return rc;
}

int decode_rescue(struct weir_buffer *rescued, const void *name, size_t name_length,
                  const void *text, size_t length) {
    int rc = weir_buffer_append(rescued, rescued->size == 0 ? "{" : ",", 1);
    rc = rc == WEIR_OK ? weir_buffer_append_json(rescued, name, name_length) : rc;
    rc = rc == WEIR_OK ? weir_buffer_append(rescued, ":", 1) : rc;
    return rc == WEIR_OK ? weir_buffer_append_json(rescued, text, length) : rc;
}
