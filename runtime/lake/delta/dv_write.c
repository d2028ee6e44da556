/* Deletion vectors from one bit a row: per 65,536 rows an array of positions or a bitmap, whichever
 * is smaller (Roaring's portable format without runs, which every reader takes). */
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#include "lake/delta/dv.h"
#include "lake/delta/table_state.h"

#define DV_FILE_BYTES_MAX ((size_t)1 << 30)
#define MAGIC 1681511377u
#define COOKIE 12346u
#define CHUNK_ROWS 65536
#define ARRAY_MAX 4096

static int put(struct weir_buffer *out, uint64_t value, int count) {
    uint8_t bytes[8];
    for (int i = 0; i < count; i++) {
        bytes[i] = (uint8_t)(value >> (8 * i));
    }
    return weir_buffer_append(out, bytes, (size_t)count);
}

static void put_big_endian(uint8_t *at, uint32_t value) {
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t)(value >> (24 - 8 * i));
    }
}

static void z85_encode(const uint8_t *bytes, size_t size, char *out) {
    static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  ".-:+=^!/*?&<>()[]{}@%$#";
    for (size_t i = 0; i < size; i += 4) {
        uint32_t word = (uint32_t)bytes[i] << 24 | (uint32_t)bytes[i + 1] << 16 |
                        (uint32_t)bytes[i + 2] << 8 | bytes[i + 3];
        for (int j = 4; j >= 0; j--) {
            out[j] = letters[word % 85];
            word /= 85;
        }
        out += 5;
    }
    *out = '\0';
}

int delta_dv_writer_init(struct delta_dv_writer *writer, const char *dir, struct weir_error *err) {
    char uuid[DELTA_UUID_BYTES];
    uint8_t id[16];
    memset(writer, 0, sizeof(*writer));
    weir_buffer_init(&writer->bytes, DV_FILE_BYTES_MAX);
    int rc = delta_uuid(uuid, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    const char *at = uuid;
    for (int i = 0; i < 16; i++) {
        at += *at == '-';
        char digits[3] = {at[0], at[1], '\0'};
        id[i] = (uint8_t)strtoul(digits, NULL, 16);
        at += 2;
    }
    z85_encode(id, sizeof(id), writer->name);
    if (asprintf(&writer->path, "%s%sdeletion_vector_%s.bin", dir, *dir != '\0' ? "/" : "", uuid) <
        0) {
        writer->path = NULL;
        return weir_error_set(err, WEIR_E_NOMEM, "deletion vector: out of memory");
    }
    rc = put(&writer->bytes, 1, 1); /* version */
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "deletion vector: out of memory");
}

void delta_dv_writer_fini(struct delta_dv_writer *writer) {
    weir_buffer_fini(&writer->bytes);
    free(writer->path);
    writer->path = NULL;
}

static int64_t count_chunk(const uint8_t *bits, int64_t first, int64_t rows) {
    int64_t end = first + CHUNK_ROWS < rows ? first + CHUNK_ROWS : rows;
    int64_t count = 0;
    for (int64_t i = first; i < end; i++) {
        count += (bits[i >> 3] >> (i & 7)) & 1;
    }
    return count;
}

static int put_chunk(struct weir_buffer *out, const uint8_t *bits, int64_t first, int64_t rows,
                     int64_t count) {
    int64_t end = first + CHUNK_ROWS < rows ? first + CHUNK_ROWS : rows;
    int rc = WEIR_OK;
    if (count > ARRAY_MAX) {
        size_t bytes = (size_t)(end - first + 7) / 8;
        static const uint8_t zeros[CHUNK_ROWS / 8];
        rc = weir_buffer_append(out, bits + first / 8, bytes);
        if (rc == WEIR_OK && (end & 7) != 0) { /* bits after the last row are not rows */
            out->data[out->size - 1] &= (uint8_t)((1u << (end & 7)) - 1);
        }
        return rc == WEIR_OK ? weir_buffer_append(out, zeros, sizeof(zeros) - bytes) : rc;
    }
    for (int64_t i = first; i < end && rc == WEIR_OK; i++) {
        if ((bits[i >> 3] >> (i & 7)) & 1) {
            rc = put(out, (uint64_t)(i - first), 2);
        }
    }
    return rc;
}

/* One 32-bit bitmap: rows [first, end). */
static int put_bitmap(struct weir_buffer *out, const uint8_t *bits, int64_t first, int64_t end) {
    uint32_t chunks = 0;
    for (int64_t at = first; at < end; at += CHUNK_ROWS) {
        chunks += count_chunk(bits, at, end) > 0;
    }
    int rc = put(out, COOKIE, 4);
    rc = rc == WEIR_OK ? put(out, chunks, 4) : rc;
    for (int64_t at = first; at < end && rc == WEIR_OK; at += CHUNK_ROWS) {
        int64_t count = count_chunk(bits, at, end);
        if (count > 0) {
            rc = put(out, (uint64_t)(at - first) / CHUNK_ROWS | (uint64_t)(count - 1) << 16, 4);
        }
    }
    uint64_t offset = 8 + (uint64_t)chunks * 8;
    for (int64_t at = first; at < end && rc == WEIR_OK; at += CHUNK_ROWS) {
        int64_t count = count_chunk(bits, at, end);
        if (count > 0) {
            rc = put(out, offset, 4);
            offset += count > ARRAY_MAX ? CHUNK_ROWS / 8 : (uint64_t)count * 2;
        }
    }
    for (int64_t at = first; at < end && rc == WEIR_OK; at += CHUNK_ROWS) {
        int64_t count = count_chunk(bits, at, end);
        rc = count > 0 ? put_chunk(out, bits, at, end, count) : WEIR_OK;
    }
    return rc;
}

int delta_dv_writer_add(struct delta_dv_writer *writer, const uint8_t *bits, int64_t rows,
                        struct weir_delta_dv *dv, struct weir_error *err) {
    static const int64_t bitmap_rows = (int64_t)1 << 32;
    struct weir_buffer *out = &writer->bytes;
    size_t start = out->size;
    int64_t buckets = (rows + bitmap_rows - 1) / bitmap_rows;
    int64_t cardinality = 0;
    for (int64_t at = 0; at < rows; at += CHUNK_ROWS) {
        cardinality += count_chunk(bits, at, rows);
    }
    int rc = put(out, 0, 4); /* the size, once known */
    rc = rc == WEIR_OK ? put(out, MAGIC, 4) : rc;
    rc = rc == WEIR_OK ? put(out, (uint64_t)buckets, 8) : rc;
    for (int64_t i = 0; i < buckets && rc == WEIR_OK; i++) {
        int64_t end = (i + 1) * bitmap_rows;
        rc = put(out, (uint64_t)i, 4);
        rc = rc == WEIR_OK ? put_bitmap(out, bits, i * bitmap_rows, end < rows ? end : rows) : rc;
    }
    rc = rc == WEIR_OK ? put(out, 0, 4) : rc; /* the checksum */
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "deletion vectors of one commit: more than 1 GiB");
    }
    uint32_t size = (uint32_t)(out->size - start - 8);
    put_big_endian(out->data + start, size);
    put_big_endian(out->data + out->size - 4,
                   (uint32_t)crc32(0, out->data + start + 4, (uInt)size));
    *dv = (struct weir_delta_dv){.storage_type = 'u',
                                 .path_or_inline = writer->name,
                                 .offset = (int32_t)start,
                                 .size_bytes = (int32_t)size,
                                 .cardinality = cardinality};
    return WEIR_OK;
}

int delta_dv_writer_finish(struct delta_dv_writer *writer, struct weir_store *store,
                           const char *dir, struct weir_error *err) {
    struct weir_store_file *file = NULL;
    int rc = weir_store_open(store, writer->path, WEIR_STORE_CREATE, &file, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    rc = weir_store_file_write(file, writer->bytes.data, writer->bytes.size, err);
    if (rc == WEIR_OK) {
        rc = weir_store_file_sync(file, err);
    }
    struct weir_error *close_err = rc == WEIR_OK ? err : NULL;
    int closed = weir_store_file_close(file, rc == WEIR_OK, close_err);
    rc = rc == WEIR_OK ? closed : rc;
    return rc == WEIR_OK ? weir_store_sync_dir(store, dir, err) : rc;
}
