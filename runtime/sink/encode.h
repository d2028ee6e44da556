#pragma once
/* Encoders: a row of a batch as the bytes of one message. A sink that writes messages (Kafka, HTTP)
 * makes one by its `format` and asks it row by row; each encoder is used by one worker.
 *
 * Adding one: a file with a struct weir_encoder_ops and a line in encode.c. */
#include <stdbool.h>
#include <stdint.h>

#include "batch/batch.h"
#include "core/buffer.h"
#include "core/error.h"

struct weir_encoder_config {
    const char *name;         /* dataset, in messages; borrowed for the encoder's life */
    const char *options_json; /* of the sink, as written; borrowed for `create` */
    const char *subject;      /* topic or the like, for registries; borrowed for `create` */
    struct weir_schema
        *schema; /* of all rows to come; the encoder takes a reference if it keeps it */
    /* Which columns belong to the message (headers and change marks do not); schema->count of
     * them, borrowed for `create`. */
    const bool *included;
    bool key;                        /* they are the message's key: none of them is null */
    bool (*stop)(void *context);     /* true: give up retrying */
    bool (*draining)(void *context); /* true: the pipeline ends and waits for this; may be NULL */
    void *stop_context;
};

struct weir_encoder_ops {
    const char *kind; /* `format = "json"` */
    /* Caller's thread, no I/O. */
    int (*create)(const struct weir_encoder_config *config, void **self, struct weir_error *err);
    /* Caller's thread, before the first row: may connect (a registry). May be NULL. */
    int (*start)(void *self, struct weir_error *err);
    /* Worker: rows of this batch follow. The batch is borrowed until the next begin. */
    int (*begin)(void *self, const struct weir_batch *batch, struct weir_error *err);
    /* Worker: appends the message of one row. WEIR_E_LIMIT or WEIR_E_NOMEM of the buffer, or an
     * error of the row (WEIR_E_DATA) with err filled in. */
    int (*row)(void *self, int32_t row, struct weir_buffer *out, struct weir_error *err);
    void (*destroy)(void *self); /* NULL is fine */
};

/* NULL when there is no such format. */
const struct weir_encoder_ops *weir_encoder_find(const char *format);

extern const struct weir_encoder_ops weir_encoder_json;
extern const struct weir_encoder_ops weir_encoder_raw;
extern const struct weir_encoder_ops weir_encoder_avro;

/* A value as text without quotes, as JSON has it: what a key or header of one column is. Bytes and
 * strings as they are; WEIR_E_DATA for lists, structs and maps, whose text is JSON. Null appends
 * nothing. */
int weir_encode_plain(const struct weir_column *column, int32_t row,
                      struct weir_buffer *out) WEIR_MUST_CHECK;
/* A value as JSON. */
int weir_encode_json_value(const struct weir_column *column, const struct weir_field *field,
                           int32_t row, struct weir_buffer *out) WEIR_MUST_CHECK;
/* A name as a JSON string, quotes included. */
int weir_encode_json_text(const char *text, size_t length, struct weir_buffer *out) WEIR_MUST_CHECK;
