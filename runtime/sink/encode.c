/* The encoders there are, and the one for rows that already are messages. */
#include "sink/encode.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const struct weir_encoder_ops *const registry[] = {
    &weir_encoder_json,
    &weir_encoder_raw,
    &weir_encoder_avro,
};

const struct weir_encoder_ops *weir_encoder_find(const char *format) {
    for (size_t i = 0; i < sizeof(registry) / sizeof(registry[0]); i++) {
        if (strcmp(registry[i]->kind, format) == 0) {
            return registry[i];
        }
    }
    return NULL;
}

/* --- raw: one column's bytes ------------------------------------------------------------------ */

struct raw {
    int32_t column;
    const struct weir_column *values;
};

static int find_column(const struct weir_encoder_config *config, int32_t *out,
                       struct weir_error *err) {
    *out = -1;
    for (int32_t i = 0; i < config->schema->count; i++) {
        if (!config->included[i]) {
            continue;
        }
        if (*out >= 0) {
            return weir_error_set(
                err, WEIR_E_CONFIG,
                "%s: a raw message is one column, yet `%s` and `%s` are left; keep "
                "one of them (key and headers do not count)",
                config->name, config->schema->fields[*out].name, config->schema->fields[i].name);
        }
        *out = i;
    }
    if (*out < 0 || !weir_type_is_bytes(config->schema->fields[*out].type)) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "%s: a raw message is one column of type string or binary",
                              config->name);
    }
    return WEIR_OK;
}

static int raw_create(const struct weir_encoder_config *config, void **self,
                      struct weir_error *err) {
    struct raw *raw = calloc(1, sizeof(*raw));
    if (raw == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", config->name);
    }
    int rc = find_column(config, &raw->column, err);
    if (rc != WEIR_OK) {
        free(raw);
        return rc;
    }
    *self = raw;
    return WEIR_OK;
}

static int raw_begin(void *self, const struct weir_batch *batch, struct weir_error *err) {
    struct raw *raw = self;
    (void)err;
    raw->values = &batch->columns[raw->column];
    return WEIR_OK;
}

static int raw_row(void *self, int32_t row, struct weir_buffer *out, struct weir_error *err) {
    const struct raw *raw = self;
    (void)err;
    return weir_encode_plain(raw->values, row, out);
}

const struct weir_encoder_ops weir_encoder_raw = {
    .kind = "raw",
    .create = raw_create,
    .begin = raw_begin,
    .row = raw_row,
    .destroy = free,
};
