#include "commit/segment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_BYTES ((size_t)1 << 20)

static struct weir_hash128 frame_hash(XXH3_state_t *hasher, const uint8_t *head,
                                      const uint8_t *payload, size_t size) {
    XXH3_128bits_reset(hasher);
    XXH3_128bits_update(hasher, head, WEIR_FRAME_HASHED_BYTES);
    XXH3_128bits_update(hasher, payload, size);
    XXH128_hash_t hash = XXH3_128bits_digest(hasher);
    return (struct weir_hash128){hash.low64, hash.high64};
}

void weir_segment_name(uint64_t first, char name[32]) {
    snprintf(name, 32, "%020llu.seg", (unsigned long long)first);
}

bool weir_segment_parse_name(const char *name, uint64_t *first) {
    if (strlen(name) != 24 || strcmp(name + 20, ".seg") != 0) {
        return false;
    }
    *first = 0;
    for (int i = 0; i < 20; i++) {
        if (name[i] < '0' || name[i] > '9' || *first > (UINT64_MAX - 9) / 10) {
            return false;
        }
        *first = *first * 10 + (uint64_t)(name[i] - '0');
    }
    return *first > 0;
}

/* Borrows bytes [offset, +*got) of the file, *got <= size. One buffer, refilled a window at a
 * time, so that small records cost no system call each. */
static int borrow(struct weir_segment_reader *reader, uint64_t offset, size_t size, uint8_t **out,
                  size_t *got, struct weir_error *err) {
    if (offset >= reader->size) {
        static uint8_t nothing[1];
        *got = 0;
        *out = nothing;
        return WEIR_OK;
    }
    if (size > reader->size - offset) {
        size = (size_t)(reader->size - offset);
    }
    if (offset < reader->window_at ||
        offset + size > reader->window_at + (uint64_t)reader->window_size) {
        size_t want = size > WINDOW_BYTES ? size : WINDOW_BYTES;
        if (want > reader->window_capacity) {
            uint8_t *window = realloc(reader->window, want);
            if (window == NULL) {
                return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for a record of %zu bytes",
                                      reader->path, size);
            }
            reader->window = window;
            reader->window_capacity = want;
        }
        reader->window_size = 0;
        reader->window_at = offset;
        int rc = weir_file_read_all(reader->file, reader->window, want, offset,
                                    &reader->window_size, reader->path, err);
        if (rc != WEIR_OK) {
            reader->window_size = 0;
            return rc;
        }
        if (size > reader->window_size) {
            size = reader->window_size; /* shrank under a read-only reader */
        }
    }
    *out = reader->window + (offset - reader->window_at);
    *got = size;
    return WEIR_OK;
}

int weir_segment_open(struct weir_segment_reader *reader, struct weir_files *files,
                      const char *directory, const char *name, uint64_t max_record_bytes,
                      struct weir_error *err) {
    *reader = (struct weir_segment_reader){.max_record_bytes = max_record_bytes};
    int length = snprintf(reader->path, sizeof reader->path, "%s/%s", directory, name);
    if (length < 0 || (size_t)length >= sizeof reader->path) {
        return weir_error_set(err, WEIR_E_CONFIG, "%.64s…/%s: path too long", directory, name);
    }
    reader->hasher = XXH3_createState();
    if (reader->hasher == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", reader->path);
    }
    int rc = files->ops->open(files, reader->path, WEIR_FILE_READ, &reader->file);
    if (rc == 0) {
        rc = reader->file->ops->size(reader->file, &reader->size);
    }
    if (rc != 0) {
        return weir_error_system(err, WEIR_E_IO, -rc, "open %s", reader->path);
    }
    uint8_t *block;
    size_t got;
    rc = borrow(reader, 0, WEIR_BLOCK, &block, &got, err);
    return rc != WEIR_OK ? rc
                         : weir_opening_decode(block, got, WEIR_MAGIC_SEGMENT, reader->path,
                                               &reader->opening, err);
}

void weir_segment_fini(struct weir_segment_reader *reader) {
    if (reader->file != NULL) {
        reader->file->ops->close(reader->file);
    }
    free(reader->window);
    XXH3_freeState(reader->hasher);
    *reader = (struct weir_segment_reader){0};
}

static bool all_zero(const uint8_t *bytes, size_t size) {
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

int weir_segment_frame(struct weir_segment_reader *reader, uint64_t offset, uint64_t number,
                       const uint8_t log[WEIR_LEDGER_ID_BYTES], struct weir_hash128 previous,
                       enum weir_frame_verdict *verdict, struct weir_ledger_frame *out,
                       const char **why, struct weir_error *err) {
    uint8_t *bytes;
    size_t got;
    struct weir_frame_header header;
    *why = "";
    int rc = borrow(reader, offset, WEIR_BLOCK, &bytes, &got, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (all_zero(bytes, got)) {
        *verdict = WEIR_FRAME_NONE;
        return WEIR_OK;
    }
    *verdict = WEIR_FRAME_BAD;
    if (got < WEIR_FRAME_HEADER_BYTES || !weir_frame_decode(bytes, &header)) {
        *why = "no frame begins here";
    } else if (memcmp(header.log, log, WEIR_LEDGER_ID_BYTES) != 0) {
        *why = "the frame is of another log";
    } else if (header.number != number) {
        *why = "the frame has another record number";
    } else if (header.size > reader->max_record_bytes ||
               header.size > reader->size - offset - WEIR_FRAME_HEADER_BYTES) {
        *why = "the frame is longer than its segment or the cap on records";
    } else if (!weir_hash_equal(header.previous, previous)) {
        *why = "the frame does not follow its predecessor (previous hash)";
    } else {
        rc = borrow(reader, offset, (size_t)(WEIR_FRAME_HEADER_BYTES + header.size), &bytes, &got,
                    err);
        if (rc != WEIR_OK) {
            return rc;
        }
        if (got < WEIR_FRAME_HEADER_BYTES || got - WEIR_FRAME_HEADER_BYTES < header.size) {
            *why = "the frame is cut off";
            return WEIR_OK;
        }
        struct weir_hash128 hash =
            frame_hash(reader->hasher, bytes, bytes + WEIR_FRAME_HEADER_BYTES, (size_t)header.size);
        if (!weir_hash_equal(hash, header.hash)) {
            *why = "the frame's hash does not match its bytes";
            return WEIR_OK;
        }
        *verdict = header.flags == 0 ? WEIR_FRAME_GOOD : WEIR_FRAME_NEWER;
        *out = (struct weir_ledger_frame){
            .number = header.number,
            .time_us = header.time_us,
            .nonce = header.nonce,
            .payload = bytes + WEIR_FRAME_HEADER_BYTES,
            .size = (size_t)header.size,
            .hash = header.hash,
        };
    }
    return WEIR_OK;
}

int weir_segment_follows(struct weir_segment_reader *reader, uint64_t offset, uint64_t number,
                         const uint8_t log[WEIR_LEDGER_ID_BYTES], uint64_t *found, bool *zero,
                         struct weir_error *err) {
    *found = 0;
    *zero = true;
    for (; offset < reader->size; offset += WEIR_BLOCK) {
        uint8_t *bytes;
        size_t got;
        struct weir_frame_header header;
        int rc = borrow(reader, offset, WEIR_BLOCK, &bytes, &got, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        if (all_zero(bytes, got)) {
            continue;
        }
        *zero = false;
        if (got >= WEIR_FRAME_HEADER_BYTES && weir_frame_decode(bytes, &header) &&
            header.number > number && memcmp(header.log, log, WEIR_LEDGER_ID_BYTES) == 0) {
            *found = offset;
            return WEIR_OK;
        }
    }
    return WEIR_OK;
}

int weir_segment_resume(struct weir_segment_reader *reader, uint64_t offset, uint64_t *number,
                        struct weir_hash128 *previous, struct weir_error *err) {
    uint8_t *bytes;
    size_t got;
    struct weir_frame_header header;
    int rc = borrow(reader, offset, WEIR_FRAME_HEADER_BYTES, &bytes, &got, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (got < WEIR_FRAME_HEADER_BYTES || !weir_frame_decode(bytes, &header)) {
        return weir_error_set(err, WEIR_E_CORRUPT, "%s: no frame at byte %llu", reader->path,
                              (unsigned long long)offset);
    }
    *number = header.number;
    *previous = header.previous;
    return WEIR_OK;
}
