#pragma once
/* A field plan: how the bytes of one writer's schema become a reader's columns (Avro 1.11
 * specification, "Schema Resolution"), compiled once a pair and walked a message. Private to the
 * Avro decoder. */
#include "decode/avro/avro_type.h"
#include "decode/row.h"

enum avro_put {
    AVRO_PUT_REFUSE, /* a value of this branch cannot be read: node->reason */
    AVRO_PUT_SKIP,
    AVRO_PUT_NULL,
    AVRO_PUT_BOOL,
    AVRO_PUT_INT, /* any whole number into an int column, a date or a timestamp */
    AVRO_PUT_REAL_OF_INT,
    AVRO_PUT_REAL_OF_FLOAT,
    AVRO_PUT_REAL_OF_DOUBLE,
    AVRO_PUT_BYTES,
    AVRO_PUT_TEXT,
    AVRO_PUT_FIXED,
    AVRO_PUT_DECIMAL,
    AVRO_PUT_ENUM,
    AVRO_PUT_LIST,
    AVRO_PUT_MAP,
    AVRO_PUT_STRUCT,
    AVRO_PUT_UNION,
};

/* What avro_fast.c does next with a top record. */
enum avro_take {
    AVRO_TAKE_END,
    AVRO_TAKE_ANY,      /* the field as its node says */
    AVRO_TAKE_NULLABLE, /* the branch of a union with null; the next step is for the other one */
    AVRO_TAKE_INT32,
    AVRO_TAKE_INT64,
    AVRO_TAKE_SCALED, /* int64, times `multiply` */
    AVRO_TAKE_BOOL,
    AVRO_TAKE_DOUBLE,
    AVRO_TAKE_TEXT,
    AVRO_TAKE_BYTES,
    AVRO_TAKE_DECIMAL, /* in magnitude below `multiply` */
    AVRO_TAKE_COUNT,
};

struct avro_step {
    uint8_t take;
    uint8_t null_branch; /* NULLABLE: as its byte */
    bool is_nullable;    /* a byte for the branch is before the value */
    int32_t field;       /* of the writer's */
    int32_t column;
    int64_t multiply;
};

struct avro_node {
    enum avro_put put;
    const struct avro_type *wire;
    const char *name; /* of the writer's field, for paths */
    int32_t column;   /* in a struct: the child it fills; -1: none */
    int32_t width;    /* of ints, bytes */
    int32_t exponent; /* decimals: digits to add to the scale */
    int64_t multiply; /* ints */
    int64_t divide;   /* ints: what must divide the value */
    int64_t low;      /* ints: range of the column, after both */
    int64_t high;
    int32_t *symbols; /* enum: index of the text by the writer's; -1: refused; -2: `reason` */
    struct avro_node *children; /* fields of a struct, branches of a union, items */
    int32_t child_count;
    struct json_field *fields; /* struct: the reader's, for defaults */
    int32_t field_count;
    uint64_t *absent;        /* struct: bit i: the writer has no field i */
    char *reason;            /* why a branch is refused; an enum's default symbol */
    struct avro_step *steps; /* the top record */
    bool has_absent;         /* there: `absent` has a bit */
};

struct avro_in {
    const uint8_t *begin;
    const uint8_t *p;
    const uint8_t *end;
};

/* Compiles. `reader` is the reader's own Avro schema (aliases, default symbols), NULL where only
 * columns are known. WEIR_E_SCHEMA names the field that cannot be resolved. */
int avro_plan_compile(const struct avro_type *writer, const struct avro_type *reader,
                      struct json_record *columns, struct avro_node *out,
                      struct weir_error *err) WEIR_MUST_CHECK;
void avro_plan_fini(struct avro_node *node);

/* Reads one datum of the top record into columns[0..], all of `row` values and at least `room`;
 * what the reader has no column for is added to r->rescued as JSON. WEIR_E_DATA with r's reason,
 * path and position (from in->begin). */
int avro_plan_read(const struct avro_node *plan, struct json_reader *r, struct avro_in *in,
                   struct weir_column_builder *columns, int64_t row, int64_t room) WEIR_MUST_CHECK;

/* --- between avro_read.c and avro_fast.c ------------------------------------------------------ */

/* False without memory. */
bool avro_steps_compile(struct avro_node *plan) WEIR_MUST_CHECK;
/* The fields of a top record into row `row`, which every column has room for. */
int avro_steps_read(const struct avro_node *plan, struct json_reader *r, struct avro_in *in,
                    struct weir_column_builder *columns, int64_t row) WEIR_MUST_CHECK;
/* One of them, whatever it is. */
int avro_read_field(const struct avro_node *plan, int32_t index, struct json_reader *r,
                    struct avro_in *in, struct weir_column_builder *columns) WEIR_MUST_CHECK;

/* --- avro_skip.c ------------------------------------------------------------------------------ */

/* Zig-zag varint of at most 10 bytes; false at the end of the input or past 64 bits. */
static inline bool avro_varint(struct avro_in *in, int64_t *out) {
    uint64_t value = 0;
    for (int shift = 0; shift < 70 && in->p < in->end; shift += 7) {
        uint8_t byte = *in->p++;
        value |= shift < 64 ? (uint64_t)(byte & 0x7f) << shift : 0;
        if (byte < 0x80) {
            *out = (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
            return shift < 63 || byte <= 1;
        }
    }
    return false;
}

/* A length and that many bytes. */
static inline bool avro_bytes(struct avro_in *in, const uint8_t **bytes, size_t *length) {
    int64_t size;
    if (!avro_varint(in, &size) || size < 0) {
        return false;
    }
#ifdef WEIR_PLANT_BUG /* tools/fuzz.py proves that the fuzzer would find this */
    if (size > in->end - in->p + 4096) {
#else
    if (size > in->end - in->p) {
#endif
        return false;
    }
    *bytes = in->p;
    *length = (size_t)size;
    in->p += size;
    return true;
}

/* The count of the next block of an array or map; 0 ends it. */
bool avro_block(struct avro_in *in, int64_t *count);
/* Steps over a datum; false when it is cut or nested too deep. */
bool avro_skip(struct avro_in *in, const struct avro_type *type, int depth);
/* The datum as JSON text: bytes as base64, unions without their branch's name. */
int avro_rescue(struct avro_in *in, const struct avro_type *type, struct weir_buffer *out,
                int depth) WEIR_MUST_CHECK;
