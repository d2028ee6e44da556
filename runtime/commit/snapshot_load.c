/* Reading snapshots: verified from end to end before any of it is used, because a state half
 * loaded from a file that turns out damaged could not be taken back. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "commit/snapshot_file.h"
#include "core/log.h"

struct weir_snapshot {
    struct weir_file *file;
    char path[4096];
    uint64_t max_slice_bytes;
    uint64_t size;
    uint64_t begin;
    uint64_t end;
    uint64_t slices;
    uint64_t next;   /* slices handed out */
    uint64_t offset; /* of the next slice */
    uint8_t *buffer; /* the slice at hand */
    size_t capacity;
    uint8_t *state_bytes;
    size_t state_size;
    struct weir_record_view state;
};

void weir_snapshot_close(struct weir_snapshot *snapshot) {
    if (snapshot != NULL) {
        if (snapshot->file != NULL) {
            snapshot->file->ops->close(snapshot->file);
        }
        free(snapshot->buffer);
        free(snapshot->state_bytes);
        free(snapshot);
    }
}

static int damaged_at(const struct weir_snapshot *snapshot, struct weir_error *err,
                      const char *what) {
    return weir_error_set(err, WEIR_E_CORRUPT, "%s: %s at byte %" PRIu64, snapshot->path, what,
                          snapshot->offset);
}

/* Reads the slice at `offset` whole and checks its hash. */
static int read_slice(struct weir_snapshot *snapshot, struct weir_span *table,
                      struct weir_span *bytes, uint8_t hash_out[16], struct weir_error *err) {
    uint8_t head[WEIR_SLICE_HEADER_BYTES];
    size_t got;
    int rc = weir_file_read_all(snapshot->file, head, sizeof head, snapshot->offset, &got,
                                snapshot->path, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    uint64_t left = snapshot->size - snapshot->offset;
    uint32_t name_size = weir_load_u32(head + 4);
    uint64_t size = weir_load_u64(head + 8);
    if (got < sizeof head || weir_load_u32(head) != WEIR_SLICE_MAGIC ||
        name_size > WEIR_SLICE_NAME_BYTES || size > snapshot->max_slice_bytes ||
        weir_slice_stored_bytes(name_size, size) > left) {
        return damaged_at(snapshot, err, "no whole slice");
    }
    size_t want = (size_t)(16 + name_size + size);
    if (want > snapshot->capacity) {
        uint8_t *buffer = realloc(snapshot->buffer, want);
        if (buffer == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for a slice of %" PRIu64,
                                  snapshot->path, size);
        }
        snapshot->buffer = buffer;
        snapshot->capacity = want;
    }
    memcpy(snapshot->buffer, head, 16); /* hashed in one go with what follows */
    rc = weir_file_read_all(snapshot->file, snapshot->buffer + 16, want - 16,
                            snapshot->offset + sizeof head, &got, snapshot->path, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (got < want - 16 ||
        !weir_hash_equal(weir_hash_bytes(snapshot->buffer, want), weir_load_hash(head + 16))) {
        return damaged_at(snapshot, err, "a slice whose hash does not match");
    }
    memcpy(hash_out, head + 16, 16);
    *table = (struct weir_span){snapshot->buffer + 16, name_size};
    *bytes = (struct weir_span){snapshot->buffer + 16 + name_size, (size_t)size};
    snapshot->offset += weir_slice_stored_bytes(name_size, size);
    return WEIR_OK;
}

static int read_trailer(struct weir_snapshot *snapshot, uint8_t trailer[WEIR_TRAILER_BYTES],
                        struct weir_error *err) {
    size_t got;
    snapshot->offset =
        snapshot->size < WEIR_BLOCK + WEIR_TRAILER_BYTES ? 0 : snapshot->size - WEIR_TRAILER_BYTES;
    if (snapshot->offset == 0) {
        return damaged_at(snapshot, err, "cut off");
    }
    int rc = weir_file_read_all(snapshot->file, trailer, WEIR_TRAILER_BYTES, snapshot->offset, &got,
                                snapshot->path, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (got < WEIR_TRAILER_BYTES || memcmp(trailer, WEIR_MAGIC_SNAPSHOT_END, 8) != 0 ||
        weir_load_u64(trailer + 32) != snapshot->offset) {
        return damaged_at(snapshot, err, "no trailer");
    }
    snapshot->begin = weir_load_u64(trailer + 8);
    snapshot->end = weir_load_u64(trailer + 16);
    snapshot->slices = weir_load_u64(trailer + 24);
    snapshot->size = snapshot->offset; /* slices end here */
    return WEIR_OK;
}

static int take_state(struct weir_snapshot *snapshot, struct weir_span table,
                      struct weir_span bytes, struct weir_error *err) {
    if (table.size != 0) {
        return damaged_at(snapshot, err, "a table's slice where the footer should be");
    }
    snapshot->state_bytes = malloc(bytes.size > 0 ? bytes.size : 1);
    if (snapshot->state_bytes == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", snapshot->path);
    }
    memcpy(snapshot->state_bytes, bytes.data, bytes.size);
    snapshot->state_size = bytes.size;
    int rc = weir_record_parse(snapshot->state_bytes, bytes.size, &snapshot->state, err);
    if (rc != WEIR_OK) {
        weir_error_wrap(err, "%s", snapshot->path);
        return rc;
    }
    return snapshot->state.epoch == snapshot->end && snapshot->begin <= snapshot->end
               ? WEIR_OK
               : damaged_at(snapshot, err, "a footer of another epoch");
}

static int verify(struct weir_snapshot *snapshot, const struct weir_ledger_identity *identity,
                  struct weir_error *err) {
    uint8_t block[WEIR_BLOCK];
    uint8_t trailer[WEIR_TRAILER_BYTES];
    uint8_t hash[16];
    struct weir_opening opening;
    size_t got;
    int rc = weir_file_read_all(snapshot->file, block, sizeof block, 0, &got, snapshot->path, err);
    if (rc == WEIR_OK) {
        rc = weir_opening_decode(block, got, WEIR_MAGIC_SNAPSHOT, snapshot->path, &opening, err);
    }
    if (rc == WEIR_OK && (memcmp(opening.lineage, identity->lineage, sizeof opening.lineage) != 0 ||
                          memcmp(opening.log, identity->log, sizeof opening.log) != 0)) {
        rc =
            weir_error_set(err, WEIR_E_CORRUPT,
                           "%s: belongs to another ledger (lineage or log id differ): files of two "
                           "pipelines were mixed; restore the directory",
                           snapshot->path);
    }
    if (rc == WEIR_OK) {
        rc = read_trailer(snapshot, trailer, err);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    XXH3_state_t *all = XXH3_createState();
    if (all == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", snapshot->path);
    }
    XXH3_128bits_reset(all);
    snapshot->offset = WEIR_BLOCK;
    for (uint64_t i = 0; rc == WEIR_OK && i <= snapshot->slices; i++) {
        struct weir_span table;
        struct weir_span bytes;
        rc = read_slice(snapshot, &table, &bytes, hash, err);
        if (rc == WEIR_OK) {
            XXH3_128bits_update(all, hash, sizeof hash);
            rc = i == snapshot->slices ? take_state(snapshot, table, bytes, err) : WEIR_OK;
        }
    }
    XXH3_128bits_update(all, trailer, 48);
    XXH128_hash_t whole = XXH3_128bits_digest(all);
    XXH3_freeState(all);
    if (rc == WEIR_OK && (snapshot->offset != snapshot->size || opening.number != snapshot->begin ||
                          !weir_hash_equal((struct weir_hash128){whole.low64, whole.high64},
                                           weir_load_hash(trailer + 48)))) {
        rc = damaged_at(snapshot, err, "slices that do not match the trailer");
    }
    snapshot->offset = WEIR_BLOCK;
    return rc;
}

int weir_snapshot_open_file(struct weir_files *files, const char *path,
                            const struct weir_ledger_identity *identity, uint64_t max_slice_bytes,
                            struct weir_snapshot **out, struct weir_error *err) {
    struct weir_snapshot *snapshot = calloc(1, sizeof *snapshot);
    if (snapshot == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "snapshot: out of memory");
    }
    snprintf(snapshot->path, sizeof snapshot->path, "%s", path);
    snapshot->max_slice_bytes = max_slice_bytes;
    int rc = files->ops->open(files, path, WEIR_FILE_READ, &snapshot->file);
    if (rc == 0) {
        rc = snapshot->file->ops->size(snapshot->file, &snapshot->size);
    }
    rc = rc != 0 ? weir_error_system(err, WEIR_E_IO, -rc, "open %s", path)
                 : verify(snapshot, identity, err);
    if (rc != WEIR_OK) {
        weir_snapshot_close(snapshot);
        return rc;
    }
    *out = snapshot;
    return WEIR_OK;
}

static int open_one(struct weir_snapshots *snapshots, uint64_t end, struct weir_snapshot **out,
                    struct weir_error *err) {
    char path[4096];
    weir_snapshot_path(snapshots, end, "snap", path);
    int rc = weir_snapshot_open_file(snapshots->files, path, &snapshots->identity,
                                     snapshots->max_slice_bytes, out, err);
    if (rc == WEIR_OK && (*out)->end != end) {
        rc = weir_error_set(err, WEIR_E_CORRUPT, "%s: ends at %" PRIu64 ", unlike its name", path,
                            (*out)->end);
        weir_snapshot_close(*out);
        *out = NULL;
    }
    return rc;
}

int weir_snapshot_load(struct weir_snapshots *snapshots, uint64_t last_record,
                       struct weir_snapshot **out, uint32_t *damaged, struct weir_error *err) {
    size_t newest = snapshots->count;
    if (newest > 0 && snapshots->list[newest - 1].end > last_record) {
        *out = NULL;
        *damaged = 0;
        return weir_error_set(
            err, WEIR_E_CORRUPT,
            "%s holds a snapshot of epoch %" PRIu64 ", but the ledger ends at record %" PRIu64
            ": the ledger lost its end; restore it from a copy, or start anew from a savepoint",
            snapshots->path, snapshots->list[newest - 1].end, last_record);
    }
    return weir_snapshot_load_at(snapshots, last_record, out, damaged, err);
}

int weir_snapshot_load_at(struct weir_snapshots *snapshots, uint64_t record,
                          struct weir_snapshot **out, uint32_t *damaged, struct weir_error *err) {
    *out = NULL;
    *damaged = 0;
    for (size_t i = snapshots->count; i > 0; i--) {
        struct weir_published *published = &snapshots->list[i - 1];
        if (published->end > record) {
            continue;
        }
        struct weir_error cause = {0};
        int rc = open_one(snapshots, published->end, out, &cause);
        if (rc == WEIR_OK) {
            return WEIR_OK;
        }
        if (rc != WEIR_E_CORRUPT && rc != WEIR_E_IO) {
            if (err != NULL) {
                *err = cause;
            }
            return rc;
        }
        weir_log_error("commit", "damaged snapshot, trying the one before error=\"%s\"",
                       cause.message);
        published->begin = UINT64_MAX;
        (*damaged)++;
    }
    return WEIR_OK;
}

uint64_t weir_snapshot_view_begin(const struct weir_snapshot *snapshot) {
    return snapshot->begin;
}

uint64_t weir_snapshot_view_end(const struct weir_snapshot *snapshot) {
    return snapshot->end;
}

const struct weir_record_view *weir_snapshot_view_state(const struct weir_snapshot *snapshot) {
    return &snapshot->state;
}

struct weir_span weir_snapshot_view_state_bytes(const struct weir_snapshot *snapshot) {
    return (struct weir_span){snapshot->state_bytes, snapshot->state_size};
}

int weir_snapshot_next(struct weir_snapshot *snapshot, struct weir_span *table,
                       struct weir_span *bytes, bool *end, struct weir_error *err) {
    uint8_t hash[16];
    *end = snapshot->next == snapshot->slices;
    if (*end) {
        return WEIR_OK;
    }
    snapshot->next++;
    return read_slice(snapshot, table, bytes, hash, err);
}
