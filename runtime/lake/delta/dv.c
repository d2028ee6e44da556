/* The bitmap is decoded straight into one bit per row of the file; nothing of the Roaring form
 * outlives the call. All numbers are little-endian but the two of the file's frame. */
#include "lake/delta/dv.h"

#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#include "lake/delta/place.h"
#include "lake/delta/state.h"

#define DV_BYTES_MAX (512u << 20)
#define ROWS_MAX ((int64_t)1 << 36)
#define MAGIC 1681511377u

struct bytes {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
};

static uint64_t take(struct bytes *in, int count) {
    if (in->end - in->at < count) {
        in->failed = true;
        in->at = in->end;
        return 0;
    }
    uint64_t value = 0;
    for (int i = 0; i < count; i++) {
        value |= (uint64_t)in->at[i] << (8 * i);
    }
    in->at += count;
    return value;
}

struct target {
    uint8_t *bits;
    int64_t rows;
    int64_t count;
    bool outside;
};

static void mark(struct target *target, uint64_t row) {
    if (row >= (uint64_t)target->rows) {
        target->outside = true;
        return;
    }
    target->count += !((target->bits[row >> 3] >> (row & 7)) & 1);
    target->bits[row >> 3] |= (uint8_t)(1u << (row & 7));
}

/* One 32-bit Roaring bitmap, in the portable format: cookie, descriptions, offsets, containers. */
static void read_roaring(struct bytes *in, uint64_t high, struct target *target) {
    const uint8_t *runs = NULL;
    uint64_t cookie = take(in, 4);
    uint32_t count;
    bool offsets;
    if ((cookie & 0xFFFF) == 12347) {
        count = (uint32_t)(cookie >> 16) + 1;
        runs = in->at;
        if ((size_t)(in->end - in->at) < (count + 7) / 8) {
            in->failed = true;
            return;
        }
        in->at += (count + 7) / 8;
        offsets = count >= 4;
    } else if (cookie == 12346) {
        count = (uint32_t)take(in, 4);
        offsets = true;
    } else {
        in->failed = true;
        return;
    }
    const uint8_t *heads = in->at;
    size_t skip = (size_t)count * (offsets ? 8 : 4);
    if (count > 65536 || (size_t)(in->end - in->at) < skip) {
        in->failed = true;
        return;
    }
    in->at += skip;
    for (uint32_t i = 0; i < count && !in->failed; i++) {
        uint64_t base = high << 32 | (uint64_t)(heads[i * 4] | heads[i * 4 + 1] << 8) << 16;
        uint32_t cardinality = (uint32_t)(heads[i * 4 + 2] | heads[i * 4 + 3] << 8) + 1;
        if (runs != NULL && (runs[i / 8] >> (i % 8) & 1)) {
            uint32_t run_count = (uint32_t)take(in, 2);
            for (uint32_t r = 0; r < run_count && !in->failed; r++) {
                uint64_t start = take(in, 2);
                uint64_t length = take(in, 2);
                for (uint64_t v = start; v <= start + length && v <= 0xFFFF; v++) {
                    mark(target, base | v);
                }
            }
        } else if (cardinality <= 4096) {
            for (uint32_t v = 0; v < cardinality && !in->failed; v++) {
                uint64_t low = take(in, 2);
                if (!in->failed) {
                    mark(target, base | low);
                }
            }
        } else {
            for (uint32_t word = 0; word < 1024 && !in->failed; word++) {
                for (uint64_t bits = take(in, 8); bits != 0; bits &= bits - 1) {
                    mark(target, base | (word * 64 + (uint32_t)__builtin_ctzll(bits)));
                }
            }
        }
    }
}

/* ZeroMQ's Z85: five letters a word of four bytes. False on a letter outside of it. */
static bool z85_decode(const char *text, size_t length, uint8_t *out) {
    static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  ".-:+=^!/*?&<>()[]{}@%$#";
    if (length % 5 != 0) {
        return false;
    }
    for (size_t i = 0; i < length; i += 5) {
        uint64_t word = 0;
        for (size_t j = 0; j < 5; j++) {
            const char *found = text[i + j] != '\0' ? strchr(letters, text[i + j]) : NULL;
            if (found == NULL) {
                return false;
            }
            word = word * 85 + (uint64_t)(found - letters);
        }
        for (size_t j = 0; j < 4; j++) {
            *out++ = (uint8_t)(word >> (24 - 8 * j));
        }
    }
    return true;
}

static int damaged(const struct weir_delta_dv *dv, const char *why, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_CORRUPT, "deletion vector %.80s is damaged: %s",
                          dv->path_or_inline, why);
}

/* The store path of the file that a 'u' vector lies in. */
char *delta_dv_path(const char *dir, const struct weir_delta_dv *dv) {
    size_t length = strlen(dv->path_or_inline);
    uint8_t id[16];
    if (length < 20 || !z85_decode(dv->path_or_inline + length - 20, 20, id)) {
        return NULL;
    }
    char name[64];
    char *at = name;
    for (int i = 0; i < 16; i++) {
        at += snprintf(at, 4, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", id[i]);
    }
    size_t prefix = length - 20;
    char *out = NULL;
    if (asprintf(&out, "%s%s%.*s%sdeletion_vector_%s.bin", dir, *dir != '\0' ? "/" : "",
                 (int)prefix, dv->path_or_inline, prefix > 0 ? "/" : "", name) < 0) {
        return NULL;
    }
    return out;
}

static int read_file(struct weir_delta_snapshot *snapshot, const struct weir_delta_dv *dv,
                     struct weir_buffer *out, struct weir_error *err) {
    struct weir_store *store = snapshot->store;
    char *path = NULL;
    int rc = WEIR_OK;
    if (dv->storage_type == 'u') {
        path = delta_dv_path(snapshot->dir, dv);
        rc = path != NULL ? WEIR_OK : damaged(dv, "its name is no identifier", err);
    } else {
        rc = delta_file_place(snapshot, dv->path_or_inline, &store, &path, err);
    }
    if (rc == WEIR_OK) {
        /* size, bitmap, checksum */
        rc = weir_store_get(store, path, dv->offset >= 0 ? dv->offset : 1,
                            (int64_t)dv->size_bytes + 8, out, err);
    }
    if (rc == WEIR_OK) {
        const uint8_t *at = out->data;
        uint32_t size =
            (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
        at += 4 + dv->size_bytes;
        uint32_t sum = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
        if (size != (uint32_t)dv->size_bytes) {
            rc = damaged(dv, "its size differs from the log's", err);
        } else if (crc32(0, out->data + 4, (uInt)dv->size_bytes) != sum) {
            rc = damaged(dv, "its checksum does not match", err);
        }
    }
    free(path);
    return rc;
}

int delta_dv_read(struct weir_delta_snapshot *snapshot, const struct weir_delta_dv *dv,
                  int64_t rows, uint8_t **bits, struct weir_error *err) {
    struct weir_buffer data;
    struct target target = {NULL, rows, 0, false};
    weir_buffer_init(&data, DV_BYTES_MAX);
    *bits = NULL;
    int rc = WEIR_OK;
    const uint8_t *start = NULL;
    if (dv->size_bytes <= 0 || (uint32_t)dv->size_bytes > DV_BYTES_MAX - 8 || rows < 0 ||
        rows > ROWS_MAX) {
        rc = damaged(dv, "an impossible size", err);
        goto out;
    }
    if (dv->storage_type == 'i') {
        size_t length = strlen(dv->path_or_inline);
        rc = weir_buffer_reserve(&data, length / 5 * 4 + 4);
        if (rc != WEIR_OK || !z85_decode(dv->path_or_inline, length, data.data) ||
            length / 5 * 4 < (size_t)dv->size_bytes) {
            rc = damaged(dv, "its inline text is no Z85 of its size", err);
            goto out;
        }
        start = data.data;
    } else {
        rc = read_file(snapshot, dv, &data, err);
        if (rc != WEIR_OK) {
            goto out;
        }
        start = data.data + 4;
    }
    target.bits = calloc((size_t)rows / 8 + 1, 1);
    if (target.bits == NULL) {
        rc = weir_error_set(err, WEIR_E_NOMEM, "deletion vector: out of memory");
        goto out;
    }
    struct bytes in = {start, start + dv->size_bytes, false};
    if (take(&in, 4) != MAGIC) {
        rc = damaged(dv, "not a Roaring bitmap", err);
        goto out;
    }
    uint64_t buckets = take(&in, 8);
    for (uint64_t i = 0; i < buckets && !in.failed; i++) {
        uint64_t high = take(&in, 4);
        read_roaring(&in, high, &target);
    }
    if (in.failed || target.outside || target.count != dv->cardinality) {
        rc = damaged(dv,
                     in.failed        ? "it ends early"
                     : target.outside ? "it names rows the file does not have"
                                      : "its count of rows differs from the log's",
                     err);
        goto out;
    }
    *bits = target.bits;
    target.bits = NULL;
out:
    free(target.bits);
    weir_buffer_fini(&data);
    return rc;
}
