#pragma once
/* How columns become Avro: a schema derived from them, and a plan that writes rows by a schema
 * (Avro 1.11 specification, "Binary Encoding"). Private to the Avro encoder. */
#include "batch/batch.h"
#include "core/buffer.h"
#include "decode/avro/avro_type.h"

enum avro_out_put {
    AVRO_OUT_NULL, /* a field of the schema that no column fills */
    AVRO_OUT_BOOL,
    AVRO_OUT_INT,
    AVRO_OUT_FLOAT,
    AVRO_OUT_DOUBLE,
    AVRO_OUT_BYTES,
    AVRO_OUT_FIXED,
    AVRO_OUT_ENUM,
    AVRO_OUT_DECIMAL,
    AVRO_OUT_DECIMAL_FIXED,
    AVRO_OUT_LIST,
    AVRO_OUT_MAP,
    AVRO_OUT_RECORD,
};

struct avro_out {
    enum avro_out_put put;
    const struct avro_type *wire;
    const char *name;    /* of the field, for messages */
    int32_t column;      /* in a record: the child that fills it */
    int8_t null_branch;  /* of a union, -1: none */
    int8_t value_branch; /* of a union, -1: no union */
    int64_t multiply;    /* ints */
    struct avro_out *children;
    int32_t child_count;
};

/* The schema of a record of these columns as JSON text, appended: nullable ones are unions with
 * null, their default. `name` is the record's, with its namespace ("silver.pos_sale"). With
 * `bare`, of the one column that is included: its type alone. WEIR_E_CONFIG names a column whose
 * name Avro does not allow. */
int avro_out_derive(const struct weir_schema *schema, const bool *included, const char *name,
                    bool bare, struct weir_buffer *out, struct weir_error *err) WEIR_MUST_CHECK;

/* Compiles. `type` is a record (or, of one column, its type) and is borrowed for the plan's life,
 * as is `schema`. WEIR_E_CONFIG names what does not fit. */
int avro_out_compile(const struct avro_type *type, const struct weir_schema *schema,
                     const bool *included, const char *dataset, struct avro_out *out,
                     struct weir_error *err) WEIR_MUST_CHECK;
void avro_out_fini(struct avro_out *plan);

/* Appends one row. WEIR_E_DATA with err filled in for a value that the schema cannot hold. */
int avro_out_write(const struct avro_out *plan, const struct weir_batch *batch, int32_t row,
                   struct weir_buffer *out, struct weir_error *err) WEIR_MUST_CHECK;
