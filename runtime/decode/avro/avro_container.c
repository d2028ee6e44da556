#include "decode/avro/avro_container.h"

#include <snappy-c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "decode/avro/avro_plan.h"
#include "decode/decoder.h"

enum {
    MAGIC_BYTES = 4,
    BLOCK_BYTES_MAX = 64 << 20, /* on disk, and out of the codec */
    BAD_BYTES_MAX = 64 << 10,   /* kept of what cannot be read */
    COUNT_BYTES_MAX = 20,       /* a block's count and size */
    HEADER_BYTES_MAX = 4 << 20,
    COUNT_MAX = 1 << 24,
};

static const uint8_t magic[MAGIC_BYTES] = {'O', 'b', 'j', 1};

enum codec { CODEC_NULL, CODEC_DEFLATE, CODEC_SNAPPY, CODEC_ZSTD };

struct avro_container {
    bool has_header;
    bool lost; /* looking for the next sync marker */
    enum codec codec;
    uint8_t sync[AVRO_CONTAINER_SYNC_BYTES];
    uint64_t offset; /* in the file */
    struct avro_schema schema;
    struct weir_buffer plain; /* a block out of its codec */
    struct weir_buffer bad;   /* the beginning of what is being passed over */
    uint64_t bad_offset;
    const char *bad_reason;
};

struct avro_container *avro_container_create(void) {
    struct avro_container *c = calloc(1, sizeof(*c));
    if (c != NULL) {
        weir_buffer_init(&c->plain, BLOCK_BYTES_MAX);
        weir_buffer_init(&c->bad, BAD_BYTES_MAX);
    }
    return c;
}

void avro_container_destroy(struct avro_container *c) {
    if (c != NULL) {
        avro_schema_fini(&c->schema);
        weir_buffer_fini(&c->plain);
        weir_buffer_fini(&c->bad);
        free(c);
    }
}

/* --- header ------------------------------------------------------------------------------------
 */

struct header {
    const uint8_t *schema;
    size_t schema_bytes;
    const uint8_t *codec;
    size_t codec_bytes;
    const uint8_t *sync;
    size_t length;
};

static int not_one(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_CORRUPT,
                          "not an Avro container: it does not begin with Obj, 1 and a header");
}

/* The entries of the header's map. False: cut, or broken. */
static bool read_entries(struct avro_in *in, struct header *out) {
    int64_t count;
    while (avro_block(in, &count)) {
        if (count == 0) {
            return true;
        }
        for (; count > 0; count--) {
            const uint8_t *key;
            const uint8_t *value;
            size_t key_bytes;
            size_t bytes;
            if (!avro_bytes(in, &key, &key_bytes) || !avro_bytes(in, &value, &bytes)) {
                return false;
            }
            if (key_bytes == 11 && memcmp(key, "avro.schema", 11) == 0) {
                out->schema = value;
                out->schema_bytes = bytes;
            } else if (key_bytes == 10 && memcmp(key, "avro.codec", 10) == 0) {
                out->codec = value;
                out->codec_bytes = bytes;
            }
        }
    }
    return false;
}

/* length 0: not whole yet. */
static int read_header(const uint8_t *bytes, size_t size, struct header *out,
                       struct weir_error *err) {
    struct avro_in in = {.begin = bytes, .p = bytes + MAGIC_BYTES, .end = bytes + size};
    memset(out, 0, sizeof(*out));
    if (memcmp(bytes, magic, size < MAGIC_BYTES ? size : MAGIC_BYTES) != 0) {
        return not_one(err);
    }
    if (size < MAGIC_BYTES || !read_entries(&in, out) ||
        in.end - in.p < AVRO_CONTAINER_SYNC_BYTES) {
        return size < HEADER_BYTES_MAX ? WEIR_OK : not_one(err);
    }
    out->sync = in.p;
    out->length = (size_t)(in.p - bytes) + AVRO_CONTAINER_SYNC_BYTES;
    return out->schema != NULL
               ? WEIR_OK
               : weir_error_set(err, WEIR_E_CORRUPT, "the container's header has no schema");
}

int avro_container_header(const uint8_t *bytes, size_t size, size_t *length, const uint8_t **schema,
                          size_t *schema_bytes, struct weir_error *err) {
    struct header header;
    int rc = read_header(bytes, size, &header, err);
    *length = header.length;
    *schema = header.schema;
    *schema_bytes = header.schema_bytes;
    return rc;
}

static int set_codec(struct avro_container *c, const struct header *header,
                     struct weir_error *err) {
    static const char *const names[] = {"null", "deflate", "snappy", "zstandard"};
    if (header->codec == NULL) {
        return WEIR_OK;
    }
    for (int i = 0; i < 4; i++) {
        if (strlen(names[i]) == header->codec_bytes &&
            memcmp(names[i], header->codec, header->codec_bytes) == 0) {
            c->codec = (enum codec)i;
            return WEIR_OK;
        }
    }
    return weir_error_set(err, WEIR_E_CORRUPT,
                          "the container's codec is %.*s; null, deflate, snappy and zstandard are "
                          "read",
                          (int)(header->codec_bytes < 40 ? header->codec_bytes : 40),
                          (const char *)header->codec);
}

static int take_header(struct avro_container *c, const uint8_t *raw, size_t size, size_t *used,
                       struct weir_buffer *text, struct weir_error *err) {
    struct header header;
    int rc = read_header(raw, size, &header, err);
    if (rc != WEIR_OK || header.length == 0) {
        return rc;
    }
    rc = set_codec(c, &header, err);
    rc = rc == WEIR_OK ? avro_schema_parse(&c->schema, (const char *)header.schema,
                                           header.schema_bytes, "the container's schema", err)
                       : rc;
    rc = rc == WEIR_OK ? weir_buffer_append(text, raw, header.length) : rc;
    if (rc == WEIR_OK) {
        memcpy(c->sync, header.sync, sizeof(c->sync));
        c->has_header = true;
        *used = header.length;
    }
    return rc == WEIR_E_SCHEMA && err != NULL ? (err->code = WEIR_E_CORRUPT) : rc;
}

/* --- codecs ------------------------------------------------------------------------------------
 */

static const char *inflate_block(struct avro_container *c, const uint8_t *from, size_t size) {
    z_stream z = {.next_in = (uint8_t *)(uintptr_t)from, .avail_in = (uInt)size};
    if (inflateInit2(&z, -15) != Z_OK) {
        return "no memory to inflate it";
    }
    int result = Z_OK;
    int rc = WEIR_OK;
    while (result == Z_OK && rc == WEIR_OK) {
        rc = weir_buffer_reserve(&c->plain, 64 << 10);
        if (rc == WEIR_OK) {
            z.next_out = c->plain.data + c->plain.size;
            z.avail_out = (uInt)(c->plain.capacity - c->plain.size);
            size_t room = z.avail_out;
            result = inflate(&z, Z_NO_FLUSH);
            c->plain.size += room - z.avail_out;
        }
    }
    inflateEnd(&z);
    return rc != WEIR_OK            ? "it is too large"
           : result != Z_STREAM_END ? "it does not inflate"
                                    : NULL;
}

static const char *unsnappy_block(struct avro_container *c, const uint8_t *from, size_t size) {
    size_t length;
    if (size < 4 ||
        snappy_uncompressed_length((const char *)from, size - 4, &length) != SNAPPY_OK) {
        return "it is not snappy";
    }
    if (weir_buffer_reserve(&c->plain, length) != WEIR_OK) {
        return "it is too large";
    }
    if (snappy_uncompress((const char *)from, size - 4, (char *)c->plain.data, &length) !=
        SNAPPY_OK) {
        return "it is not snappy";
    }
    c->plain.size = length;
    const uint8_t *sum = from + size - 4;
    uint32_t want =
        (uint32_t)sum[0] << 24 | (uint32_t)sum[1] << 16 | (uint32_t)sum[2] << 8 | sum[3];
    return (uint32_t)crc32(0, c->plain.data, (uInt)length) == want ? NULL : "its checksum is wrong";
}

static const char *unzstd_block(struct avro_container *c, const uint8_t *from, size_t size) {
    ZSTD_DStream *stream = ZSTD_createDStream();
    ZSTD_inBuffer in = {.src = from, .size = size};
    const char *why = stream != NULL ? NULL : "no memory for zstd";
    size_t result = 1;
    while (why == NULL && result != 0) {
        if (weir_buffer_reserve(&c->plain, 64 << 10) != WEIR_OK) {
            why = "it is too large";
            break;
        }
        ZSTD_outBuffer out = {.dst = c->plain.data + c->plain.size,
                              .size = c->plain.capacity - c->plain.size};
        result = ZSTD_decompressStream(stream, &out, &in);
        c->plain.size += out.pos;
        why = ZSTD_isError(result) || (in.pos == in.size && result != 0 && out.pos < out.size)
                  ? "it is not zstd"
                  : NULL;
    }
    ZSTD_freeDStream(stream);
    return why;
}

/* The block's data in *bytes; NULL, or why not. */
static const char *decompress(struct avro_container *c, const uint8_t *from, size_t size,
                              const uint8_t **bytes, size_t *length) {
    const char *why = NULL;
    weir_buffer_clear(&c->plain);
    switch (c->codec) {
    case CODEC_NULL:
        *bytes = from;
        *length = size;
        return NULL;
    case CODEC_DEFLATE:
        why = inflate_block(c, from, size);
        break;
    case CODEC_SNAPPY:
        why = unsnappy_block(c, from, size);
        break;
    case CODEC_ZSTD:
        why = unzstd_block(c, from, size);
        break;
    }
    *bytes = c->plain.data;
    *length = c->plain.size;
    return why;
}

/* --- blocks ------------------------------------------------------------------------------------
 */

static int put_u32(struct weir_buffer *text, uint8_t kind, size_t value) {
    uint8_t head[AVRO_CONTAINER_HEAD_BYTES] = {kind, (uint8_t)value, (uint8_t)(value >> 8),
                                               (uint8_t)(value >> 16), (uint8_t)(value >> 24)};
    return weir_buffer_append(text, head, sizeof(head));
}

static int put_bad(struct weir_buffer *text, uint64_t offset, const char *why, const uint8_t *bytes,
                   size_t size) {
    char reason[160];
    int length = snprintf(reason, sizeof(reason), "the block at byte %llu of the container: %s",
                          (unsigned long long)offset, why);
    size = size < BAD_BYTES_MAX ? size : BAD_BYTES_MAX;
    uint8_t two[2] = {(uint8_t)length, (uint8_t)(length >> 8)};
    int rc = put_u32(text, AVRO_CONTAINER_BAD, sizeof(two) + (size_t)length + size);
    rc = rc == WEIR_OK ? weir_buffer_append(text, two, sizeof(two)) : rc;
    rc = rc == WEIR_OK ? weir_buffer_append(text, reason, (size_t)length) : rc;
    return rc == WEIR_OK ? weir_buffer_append(text, bytes, size) : rc;
}

static int put_data(struct avro_container *c, int64_t count, const uint8_t *bytes, size_t length,
                    struct weir_buffer *text) {
    struct avro_in in = {.begin = bytes, .p = bytes, .end = bytes + length};
    int rc = WEIR_OK;
    for (int64_t i = 0; rc == WEIR_OK && i < count; i++) {
        const uint8_t *datum = in.p;
        if (!avro_skip(&in, c->schema.top, 0)) {
            return put_bad(text, c->offset, "a datum is not what the schema says", datum,
                           (size_t)(in.end - datum));
        }
        size_t size = (size_t)(in.p - datum);
        if (size > WEIR_SPLIT_BYTES_MAX - AVRO_CONTAINER_HEAD_BYTES) {
            rc = put_bad(text, c->offset, "a datum of more than 4 MB", datum, size);
            continue;
        }
        rc = put_u32(text, AVRO_CONTAINER_DATUM, size);
        rc = rc == WEIR_OK ? weir_buffer_append(text, datum, size) : rc;
    }
    return rc == WEIR_OK && in.p != in.end ? put_bad(text, c->offset, "bytes behind its last datum",
                                                     in.p, (size_t)(in.end - in.p))
                                           : rc;
}

/* Passes over bytes up to the next marker, or as far as there can be none. */
static int seek_sync(struct avro_container *c, const uint8_t *raw, size_t size, size_t *used,
                     struct weir_buffer *text) {
    const uint8_t *found = memmem(raw, size, c->sync, sizeof(c->sync));
    size_t pass = found != NULL             ? (size_t)(found - raw)
                  : size >= sizeof(c->sync) ? size - sizeof(c->sync) + 1
                                            : 0;
    size_t room = BAD_BYTES_MAX - c->bad.size;
    int rc = weir_buffer_append(&c->bad, raw, pass < room ? pass : room);
    *used = pass;
    if (rc == WEIR_OK && found != NULL) {
        *used += sizeof(c->sync);
        c->lost = false;
        rc = put_bad(text, c->bad_offset, c->bad_reason, c->bad.data, c->bad.size);
    }
    return rc;
}

static int lose(struct avro_container *c, const char *why, const uint8_t *raw, size_t size,
                size_t *used, struct weir_buffer *text) {
    c->lost = true;
    c->bad_offset = c->offset;
    c->bad_reason = why;
    weir_buffer_clear(&c->bad);
    return seek_sync(c, raw, size, used, text);
}

static int take_block(struct avro_container *c, const uint8_t *raw, size_t size, size_t *used,
                      struct weir_buffer *text) {
    struct avro_in in = {.begin = raw, .p = raw, .end = raw + size};
    int64_t count;
    int64_t bytes;
    if (!avro_varint(&in, &count) || !avro_varint(&in, &bytes)) {
        return size < COUNT_BYTES_MAX ? WEIR_OK
                                      : lose(c, "no count and size", raw, size, used, text);
    }
    /* Data that take no bytes (null) are possible, a billion of them are not meant. */
    if (count < 0 || count > COUNT_MAX || bytes < 0 || bytes > BLOCK_BYTES_MAX) {
        return lose(c, "no count and size", raw, size, used, text);
    }
    const uint8_t *data = in.p;
    if (in.end - in.p < bytes + AVRO_CONTAINER_SYNC_BYTES) {
        return WEIR_OK;
    }
    if (memcmp(data + bytes, c->sync, sizeof(c->sync)) != 0) {
        return lose(c, "no sync marker at its end", raw, size, used, text);
    }
    const uint8_t *plain;
    size_t length;
    const char *why = decompress(c, data, (size_t)bytes, &plain, &length);
    *used = (size_t)(data - raw) + (size_t)bytes + sizeof(c->sync);
    return why != NULL ? put_bad(text, c->offset, why, raw, *used)
                       : put_data(c, count, plain, length, text);
}

static int told(int rc, struct weir_error *err) {
    return rc == WEIR_E_LIMIT || rc == WEIR_E_NOMEM
               ? weir_error_set(err, WEIR_E_NOMEM, "out of memory for a block of an Avro container")
               : rc;
}

int avro_container_stuck(struct avro_container *c, const uint8_t *raw, size_t size, size_t *used,
                         struct weir_buffer *text, struct weir_error *err) {
    *used = 0;
    if (!c->has_header || c->lost || memmem(raw, size, c->sync, sizeof(c->sync)) == NULL) {
        return WEIR_OK;
    }
    int rc = lose(c, "its size is wrong", raw, size, used, text);
    c->offset += *used;
    return told(rc, err);
}

int avro_container_read(struct avro_container *c, const uint8_t *raw, size_t size, size_t *used,
                        struct weir_buffer *text, struct weir_error *err) {
    *used = 0;
    if (size == 0) {
        return WEIR_OK;
    }
    int rc = !c->has_header ? take_header(c, raw, size, used, text, err)
             : c->lost      ? seek_sync(c, raw, size, used, text)
                            : take_block(c, raw, size, used, text);
    c->offset += *used;
    return told(rc, err);
}

int avro_container_split(struct weir_split *work, struct weir_error *err) {
    const uint8_t *p = work->bytes;
    const uint8_t *end = p + work->size;
    while (work->count < work->max && end - p >= AVRO_CONTAINER_HEAD_BYTES) {
        uint32_t length;
        memcpy(&length, p + 1, sizeof(length));
        if (length > (size_t)(end - p) - AVRO_CONTAINER_HEAD_BYTES) {
            break;
        }
        struct weir_frame *frame = &work->frames[work->count++];
        frame->start = (uint32_t)(p - work->bytes);
        frame->length = AVRO_CONTAINER_HEAD_BYTES + length;
        frame->offset = (int64_t)(work->offset + frame->start);
        p += frame->length;
    }
    work->used = (size_t)(p - work->bytes);
    return work->last && p < end && work->count < work->max
               ? weir_error_set(err, WEIR_E_CORRUPT, "an Avro container's text is cut")
               : WEIR_OK;
}

bool avro_container_datum(const uint8_t *block, const struct weir_frame *frame,
                          const uint8_t **begin, const uint8_t **end, char *reason, size_t size) {
    const uint8_t *p = block + frame->start;
    bool is_bad = p[0] == AVRO_CONTAINER_BAD;
    *end = p + frame->length;
    p += AVRO_CONTAINER_HEAD_BYTES;
    if (is_bad) {
        uint32_t length = (uint32_t)(p[0] | p[1] << 8);
        snprintf(reason, size, "%.*s", (int)length, (const char *)p + 2);
        p += 2 + length;
    }
    *begin = p;
    return is_bad;
}
