/* Compact protocol: varints, zigzag, field-id deltas. */
#include "lake/parquet/thrift.h"

/* --- writer ------------------------------------------------------------------------------ */

void thrift_writer_init(struct thrift_writer *writer, struct weir_buffer *out) {
    memset(writer, 0, sizeof(*writer));
    writer->out = out;
}

static void put(struct thrift_writer *writer, const void *bytes, size_t size) {
    if (writer->rc == WEIR_OK) {
        writer->rc = weir_buffer_append(writer->out, bytes, size);
    }
}

static void put_varint(struct thrift_writer *writer, uint64_t value) {
    uint8_t bytes[10];
    size_t n = 0;
    while (value >= 128) {
        bytes[n++] = (uint8_t)(value | 128);
        value >>= 7;
    }
    bytes[n++] = (uint8_t)value;
    put(writer, bytes, n);
}

static void put_zigzag(struct thrift_writer *writer, int64_t value) {
    put_varint(writer, (uint64_t)value << 1 ^ (uint64_t)(value >> 63));
}

static void put_field(struct thrift_writer *writer, int16_t id, enum thrift_type type) {
    int delta = id - writer->last;
    if (delta > 0 && delta < 16) {
        uint8_t head = (uint8_t)(delta << 4 | (int)type);
        put(writer, &head, 1);
    } else {
        uint8_t head = (uint8_t)type;
        put(writer, &head, 1);
        put_zigzag(writer, id);
    }
    writer->last = id;
}

void thrift_write_bool(struct thrift_writer *writer, int16_t id, bool value) {
    put_field(writer, id, value ? THRIFT_TRUE : THRIFT_FALSE);
}

void thrift_write_i8(struct thrift_writer *writer, int16_t id, int8_t value) {
    put_field(writer, id, THRIFT_BYTE);
    put(writer, &value, 1);
}

void thrift_write_i32(struct thrift_writer *writer, int16_t id, int32_t value) {
    put_field(writer, id, THRIFT_I32);
    put_zigzag(writer, value);
}

void thrift_write_i64(struct thrift_writer *writer, int16_t id, int64_t value) {
    put_field(writer, id, THRIFT_I64);
    put_zigzag(writer, value);
}

void thrift_write_binary(struct thrift_writer *writer, int16_t id, const void *bytes, size_t size) {
    put_field(writer, id, THRIFT_BINARY);
    put_varint(writer, size);
    put(writer, bytes, size);
}

void thrift_write_text(struct thrift_writer *writer, int16_t id, const char *text) {
    thrift_write_binary(writer, id, text, strlen(text));
}

void thrift_write_list(struct thrift_writer *writer, int16_t id, enum thrift_type element,
                       int64_t count) {
    put_field(writer, id, THRIFT_LIST);
    if (count < 15) {
        uint8_t head = (uint8_t)(count << 4 | (int)element);
        put(writer, &head, 1);
    } else {
        uint8_t head = (uint8_t)(0xf0 | (int)element);
        put(writer, &head, 1);
        put_varint(writer, (uint64_t)count);
    }
}

void thrift_element_i32(struct thrift_writer *writer, int32_t value) {
    put_zigzag(writer, value);
}

void thrift_element_i64(struct thrift_writer *writer, int64_t value) {
    put_zigzag(writer, value);
}

void thrift_element_bool(struct thrift_writer *writer, bool value) {
    uint8_t byte = value ? THRIFT_TRUE : THRIFT_FALSE;
    put(writer, &byte, 1);
}

void thrift_element_binary(struct thrift_writer *writer, const void *bytes, size_t size) {
    put_varint(writer, size);
    put(writer, bytes, size);
}

void thrift_element_text(struct thrift_writer *writer, const char *text) {
    thrift_element_binary(writer, text, strlen(text));
}

void thrift_element_struct(struct thrift_writer *writer) {
    if (writer->depth == THRIFT_DEPTH_MAX) {
        writer->rc = WEIR_E_BUG;
        return;
    }
    writer->saved[writer->depth++] = writer->last;
    writer->last = 0;
}

void thrift_struct_begin(struct thrift_writer *writer, int16_t id) {
    put_field(writer, id, THRIFT_STRUCT);
    thrift_element_struct(writer);
}

void thrift_struct_end(struct thrift_writer *writer) {
    uint8_t stop = 0;
    put(writer, &stop, 1);
    if (writer->depth > 0) {
        writer->last = writer->saved[--writer->depth];
    }
}

/* --- reader ------------------------------------------------------------------------------ */

void thrift_reader_init(struct thrift_reader *reader, const void *bytes, size_t size) {
    memset(reader, 0, sizeof(*reader));
    static const uint8_t nothing[1];
    reader->at = bytes != NULL ? bytes : nothing;
    reader->end = reader->at + size;
}

void thrift_fail(struct thrift_reader *reader) {
    reader->failed = true;
}

static uint8_t take_byte(struct thrift_reader *reader) {
    if (reader->failed) {
        return 0;
    }
    if (reader->at == reader->end) {
        reader->failed = true;
        reader->short_input = true;
        return 0;
    }
    return *reader->at++;
}

static uint64_t take_varint(struct thrift_reader *reader) {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        uint8_t byte = take_byte(reader);
        value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) {
            return reader->failed ? 0 : value;
        }
    }
    thrift_fail(reader);
    return 0;
}

static int64_t take_zigzag(struct thrift_reader *reader) {
    uint64_t value = take_varint(reader);
    return (int64_t)(value >> 1 ^ (~(value & 1) + 1));
}

struct thrift_field thrift_next(struct thrift_reader *reader) {
    struct thrift_field field = {0};
    uint8_t head = take_byte(reader);
    if (reader->failed || head == 0) {
        return field;
    }
    int64_t id =
        head >> 4 != 0 ? (int64_t)reader->last + (head >> 4) : (int64_t)take_zigzag(reader);
    if (id < INT16_MIN || id > INT16_MAX || (head & 15) == THRIFT_STOP) {
        thrift_fail(reader);
    }
    if (!reader->failed) {
        field.type = head & 15;
        field.id = (int16_t)id;
        reader->last = field.id;
    }
    return field;
}

int64_t thrift_read_int(struct thrift_reader *reader, uint8_t type) {
    switch (type) {
    case THRIFT_BYTE:
        return (int8_t)take_byte(reader);
    case THRIFT_I16:
    case THRIFT_I32:
    case THRIFT_I64:
        return take_zigzag(reader);
    default:
        thrift_fail(reader);
        return 0;
    }
}

int32_t thrift_read_i32(struct thrift_reader *reader, uint8_t type) {
    int64_t value = thrift_read_int(reader, type);
    if (value < INT32_MIN || value > INT32_MAX) {
        thrift_fail(reader);
        return 0;
    }
    return (int32_t)value;
}

bool thrift_read_bool(struct thrift_reader *reader, uint8_t type) {
    if (type != THRIFT_TRUE && type != THRIFT_FALSE) {
        thrift_fail(reader);
    }
    return type == THRIFT_TRUE;
}

const uint8_t *thrift_read_binary(struct thrift_reader *reader, uint8_t type, size_t *size) {
    *size = 0;
    if (type != THRIFT_BINARY) {
        thrift_fail(reader);
        return reader->at;
    }
    uint64_t length = take_varint(reader);
    if (reader->failed || length > (uint64_t)(reader->end - reader->at)) {
        reader->short_input = reader->short_input || !reader->failed;
        thrift_fail(reader);
        return reader->at;
    }
    const uint8_t *bytes = reader->at;
    reader->at += length;
    *size = (size_t)length;
    return bytes;
}

int64_t thrift_read_list(struct thrift_reader *reader, uint8_t type, uint8_t *element) {
    *element = THRIFT_STOP;
    if (type != THRIFT_LIST && type != THRIFT_SET) {
        thrift_fail(reader);
        return 0;
    }
    uint8_t head = take_byte(reader);
    uint64_t count = head >> 4;
    if (count == 15) {
        count = take_varint(reader);
    }
    /* every element takes at least one byte */
    if (!reader->failed && count > (uint64_t)(reader->end - reader->at)) {
        reader->short_input = true;
        thrift_fail(reader);
    }
    if (reader->failed) {
        return 0;
    }
    *element = head & 15;
    return (int64_t)count;
}

int16_t thrift_enter(struct thrift_reader *reader, uint8_t type) {
    if (type != THRIFT_STRUCT || reader->depth >= THRIFT_DEPTH_MAX) {
        thrift_fail(reader);
    }
    int16_t saved = reader->last;
    reader->depth++;
    reader->last = 0;
    return saved;
}

void thrift_leave(struct thrift_reader *reader, int16_t saved) {
    reader->depth--;
    reader->last = saved;
}

void thrift_skip(struct thrift_reader *reader, uint8_t type) {
    size_t size;
    switch (type) {
    case THRIFT_TRUE:
    case THRIFT_FALSE:
        return;
    case THRIFT_BYTE:
        (void)take_byte(reader);
        return;
    case THRIFT_I16:
    case THRIFT_I32:
    case THRIFT_I64:
        (void)take_varint(reader);
        return;
    case THRIFT_DOUBLE:
        for (int i = 0; i < 8; i++) {
            (void)take_byte(reader);
        }
        return;
    case THRIFT_BINARY:
        (void)thrift_read_binary(reader, type, &size);
        return;
    case THRIFT_LIST:
    case THRIFT_SET: {
        uint8_t element;
        int64_t count = thrift_read_list(reader, type, &element);
        if (++reader->depth > THRIFT_DEPTH_MAX) {
            thrift_fail(reader);
        }
        for (int64_t i = 0; i < count && !reader->failed; i++) {
            if (element == THRIFT_TRUE || element == THRIFT_FALSE) {
                (void)take_byte(reader); /* booleans in lists take a byte each */
            } else {
                thrift_skip(reader, element);
            }
        }
        reader->depth--;
        return;
    }
    case THRIFT_STRUCT: {
        int16_t saved = thrift_enter(reader, type);
        for (;;) {
            struct thrift_field field = thrift_next(reader);
            if (field.type == THRIFT_STOP) {
                break;
            }
            thrift_skip(reader, field.type);
        }
        thrift_leave(reader, saved);
        return;
    }
    default: /* maps do not occur in Parquet metadata */
        thrift_fail(reader);
        return;
    }
}
