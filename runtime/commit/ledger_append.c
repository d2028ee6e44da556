/* The local ledger's writing side. The idea: everything that takes time besides the one sync a
 * record needs (zero-filling, new segments, trimming) happens in prepare and trim, when nobody
 * waits. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commit/ledger_local.h"
#include "commit/segment.h"
#include "core/fault.h"

#define MAX_SEGMENTS ((size_t)1 << 20)

/* From here on the bytes on disk are unknown: keep the reason, refuse everything. */
static int fail(struct weir_ledger_local *ledger, struct weir_error *cause,
                struct weir_error *err) {
    weir_error_wrap(cause, "ledger %s", ledger->path);
    ledger->base.failed = true;
    ledger->base.failure = *cause;
    if (err != NULL) {
        *err = *cause;
    }
    return cause->code;
}

static int injected(struct weir_error *cause, enum weir_fault_point point) {
    return weir_error_set(cause, WEIR_E_FAULT, "fault point %s", weir_fault_name(point));
}

static int sync_file(struct weir_ledger_local *ledger, struct weir_error *err) {
    int rc = ledger->file->ops->sync(ledger->file);
    return rc == 0 ? WEIR_OK
                   : weir_error_system(err, WEIR_E_IO, -rc,
                                       "sync %s (check the disk; restart, recovery decides what "
                                       "is durable)",
                                       ledger->file_path);
}

int weir_local_add_segment(struct weir_ledger_local *ledger, struct weir_local_segment segment,
                           struct weir_error *err) {
    if (ledger->segment_count == ledger->segment_capacity) {
        size_t capacity = ledger->segment_capacity == 0 ? 16 : ledger->segment_capacity * 2;
        struct weir_local_segment *segments =
            capacity > MAX_SEGMENTS ? NULL : realloc(ledger->segments, capacity * sizeof *segments);
        if (segments == NULL) {
            return weir_error_set(err, WEIR_E_LIMIT, "ledger %s: more than %zu segments",
                                  ledger->path, ledger->segment_count);
        }
        ledger->segments = segments;
        ledger->segment_capacity = capacity;
    }
    ledger->segments[ledger->segment_count++] = segment;
    ledger->base.stats.segments = ledger->segment_count;
    ledger->base.stats.stored_bytes += segment.stored_bytes;
    return WEIR_OK;
}

static void set_stored(struct weir_ledger_local *ledger, uint64_t bytes) {
    struct weir_local_segment *last = &ledger->segments[ledger->segment_count - 1];
    ledger->base.stats.stored_bytes += bytes - last->stored_bytes;
    last->stored_bytes = bytes;
}

static int rotate(struct weir_ledger_local *ledger, struct weir_error *err) {
    char path[sizeof ledger->file_path];
    char name[32];
    uint8_t block[WEIR_BLOCK];
    uint64_t first = ledger->base.last + 1;
    struct weir_file *file = NULL;

    weir_segment_name(first, name);
    snprintf(path, sizeof path, "%s/%s", ledger->path, name);
    int rc = ledger->files->ops->open(ledger->files, path, WEIR_FILE_CREATE, &file);
    if (rc != 0) {
        return weir_error_system(err, WEIR_E_IO, -rc, "create %s", path);
    }
    if (ledger->file != NULL) {
        /* Zeros filled ahead are of no use any more; losing this in a crash only leaves them. */
        if (ledger->filled > ledger->offset &&
            ledger->file->ops->truncate(ledger->file, ledger->offset) == 0) {
            set_stored(ledger, ledger->offset);
        }
        ledger->file->ops->close(ledger->file);
    }
    ledger->file = file;
    memcpy(ledger->file_path, path, sizeof path);
    ledger->offset = WEIR_BLOCK;
    ledger->filled = WEIR_BLOCK;

    if (WEIR_FAULT(ledger_rotate)) {
        return injected(err, WEIR_FAULT_ledger_rotate);
    }
    struct weir_opening opening = {
        .format = WEIR_LEDGER_FORMAT,
        .min_reader = WEIR_LEDGER_FORMAT,
        .shard_count = ledger->base.identity.shard_count,
        .number = first,
        .time_us = ledger->last_time_us,
        .previous = ledger->last_hash,
    };
    memcpy(opening.lineage, ledger->base.identity.lineage, sizeof opening.lineage);
    memcpy(opening.log, ledger->base.identity.log, sizeof opening.log);
    weir_opening_encode(&opening, WEIR_MAGIC_SEGMENT, block);
    struct iovec part = {block, sizeof block};
    rc = weir_file_write_all(file, &part, 1, 0, path, err);
    if (rc == WEIR_OK) {
        rc = sync_file(ledger, err);
    }
    if (rc == WEIR_OK) {
        rc = weir_files_sync_directory(ledger->files, ledger->path, err);
    }
    ledger->base.stats.other_syncs += 2;
    if (rc != WEIR_OK) {
        return rc;
    }
    return weir_local_add_segment(
        ledger, (struct weir_local_segment){first, ledger->last_time_us, WEIR_BLOCK}, err);
}

int weir_local_rotate(struct weir_ledger_local *ledger, struct weir_error *err) {
    struct weir_error cause = {0};
    return rotate(ledger, &cause) == WEIR_OK ? WEIR_OK : fail(ledger, &cause, err);
}

static bool segment_has_frames(const struct weir_ledger_local *ledger) {
    return ledger->file != NULL && ledger->offset > WEIR_BLOCK;
}

/* Cuts [from, to) bytes out of the frame's parts into the scratch list. */
static int slice_parts(const struct iovec *parts, size_t count, uint64_t from, uint64_t to,
                       struct iovec *out) {
    int n = 0;
    uint64_t at = 0;
    for (size_t i = 0; i < count && at < to; i++) {
        uint64_t end = at + parts[i].iov_len;
        uint64_t low = from > at ? from : at;
        uint64_t high = to < end ? to : end;
        if (low < high) {
            out[n++] = (struct iovec){(char *)parts[i].iov_base + (low - at), (size_t)(high - low)};
        }
        at = end;
    }
    return n;
}

/* Two writes, so that a crash test can stop between them. */
static int write_frame(struct weir_ledger_local *ledger, const struct iovec *parts, size_t count,
                       uint64_t bytes, struct weir_error *err) {
    uint64_t half = bytes / 2;
    if (half > WEIR_BLOCK) { /* long writes must begin where a block does */
        half -= half % WEIR_BLOCK;
    }
    struct iovec *scratch = ledger->iovecs + count;
    int n = slice_parts(parts, count, 0, half, scratch);
    int rc = weir_file_write_all(ledger->file, scratch, n, ledger->offset, ledger->file_path, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (WEIR_FAULT(ledger_torn_write)) {
        return injected(err, WEIR_FAULT_ledger_torn_write);
    }
    n = slice_parts(parts, count, half, bytes, scratch);
    return weir_file_write_all(ledger->file, scratch, n, ledger->offset + half, ledger->file_path,
                               err);
}

int weir_local_append(struct weir_ledger *base, uint64_t number, int64_t time_us,
                      const struct iovec *parts, int count, struct weir_error *err) {
    struct weir_ledger_local *ledger = (struct weir_ledger_local *)(void *)base;
    static const uint8_t padding[WEIR_BLOCK];
    uint8_t head[WEIR_FRAME_HEADER_BYTES];
    struct weir_error cause = {0};
    struct weir_frame_header header = {
        .number = number,
        .time_us = time_us,
        .nonce = ledger->nonce,
        .previous = ledger->last_hash,
    };
    int rc;

    if (ledger->read_only) {
        return weir_error_set(err, WEIR_E_BUG, "ledger %s: append to a read-only ledger",
                              ledger->path);
    }
    memcpy(header.log, base->identity.log, sizeof header.log);
    for (int i = 0; i < count; i++) {
        header.size += parts[i].iov_len;
    }
    if (header.size > base->max_record_bytes) {
        return weir_error_set(err, WEIR_E_LIMIT,
                              "ledger %s: record %llu has %llu bytes, cap %llu: seal epochs more "
                              "often (commit.every)",
                              ledger->path, (unsigned long long)number,
                              (unsigned long long)header.size,
                              (unsigned long long)base->max_record_bytes);
    }
    size_t total = (size_t)count + 2;
    if (2 * total > ledger->iovec_capacity) {
        struct iovec *iovecs = realloc(ledger->iovecs, 2 * total * sizeof *iovecs);
        if (iovecs == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "ledger %s: no memory for %d parts",
                                  ledger->path, count);
        }
        ledger->iovecs = iovecs;
        ledger->iovec_capacity = 2 * total;
    }
    uint64_t stored = weir_frame_stored_bytes(header.size);
    if (!segment_has_frames(ledger) && ledger->file == NULL) {
        rc = weir_local_rotate(ledger, err);
    } else if (segment_has_frames(ledger) && ledger->offset + stored > ledger->segment_bytes) {
        rc = weir_local_rotate(ledger, err);
    } else {
        rc = WEIR_OK;
    }
    if (rc != WEIR_OK) {
        return rc;
    }

    weir_frame_encode(&header, head);
    XXH3_128bits_reset(ledger->hasher);
    XXH3_128bits_update(ledger->hasher, head, WEIR_FRAME_HASHED_BYTES);
    ledger->iovecs[0] = (struct iovec){head, sizeof head};
    for (int i = 0; i < count; i++) {
        XXH3_128bits_update(ledger->hasher, parts[i].iov_base, parts[i].iov_len);
        ledger->iovecs[i + 1] = parts[i];
    }
    XXH128_hash_t digest = XXH3_128bits_digest(ledger->hasher);
    header.hash = (struct weir_hash128){digest.low64, digest.high64};
    weir_frame_set_hash(head, header.hash);
    ledger->iovecs[count + 1] = (struct iovec){
        (void *)(uintptr_t)padding, (size_t)(stored - header.size - WEIR_FRAME_HEADER_BYTES)};

    if (WEIR_FAULT(ledger_before_write)) {
        injected(&cause, WEIR_FAULT_ledger_before_write);
        return fail(ledger, &cause, err);
    }
    rc = write_frame(ledger, ledger->iovecs, total, stored, &cause);
    if (rc == WEIR_OK && WEIR_FAULT(ledger_before_sync)) {
        rc = injected(&cause, WEIR_FAULT_ledger_before_sync);
    }
    if (rc == WEIR_OK) {
        rc = sync_file(ledger, &cause);
        base->stats.record_syncs++;
    }
    if (rc == WEIR_OK && WEIR_FAULT(ledger_after_sync)) {
        rc = injected(&cause, WEIR_FAULT_ledger_after_sync);
    }
    if (rc != WEIR_OK) {
        return fail(ledger, &cause, err);
    }
    ledger->offset += stored;
    if (ledger->offset > ledger->filled) {
        ledger->filled = ledger->offset;
        set_stored(ledger, ledger->filled);
    }
    ledger->last_hash = header.hash;
    ledger->last_time_us = time_us;
    ledger->last_frame_bytes = stored;
    base->last = number;
    base->stats.appends++;
    base->stats.payload_bytes += header.size;
    return WEIR_OK;
}

int weir_local_prepare(struct weir_ledger *base, struct weir_error *err) {
    struct weir_ledger_local *ledger = (struct weir_ledger_local *)(void *)base;
    struct weir_error cause = {0};
    if (ledger->read_only) {
        return WEIR_OK;
    }
    if (ledger->file == NULL ||
        (segment_has_frames(ledger) &&
         ledger->offset + ledger->last_frame_bytes > ledger->segment_bytes)) {
        int rc = weir_local_rotate(ledger, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    /* Room for another record like the last one. One larger than a fill is not worth writing its
     * length twice. */
    uint64_t want = ledger->last_frame_bytes > ledger->fill_bytes / 2 ? ledger->last_frame_bytes
                                                                      : ledger->fill_bytes / 2;
    if (ledger->last_frame_bytes > ledger->fill_bytes || ledger->filled - ledger->offset >= want ||
        ledger->filled >= ledger->segment_bytes) {
        return WEIR_OK;
    }
    uint64_t room = ledger->segment_bytes - ledger->filled;
    struct iovec part = {ledger->zeros,
                         (size_t)(room < ledger->fill_bytes ? room : ledger->fill_bytes)};
    uint64_t size = part.iov_len;
    int rc = weir_file_write_all(ledger->file, &part, 1, ledger->filled, ledger->file_path, &cause);
    if (rc != WEIR_OK) {
        /* Zeros that did not fit cost nothing: an append will say whether it fits itself. */
        if (err != NULL) {
            *err = cause;
        }
        return rc;
    }
    base->stats.other_syncs++;
    rc = sync_file(ledger, &cause);
    if (rc != WEIR_OK) {
        return fail(ledger, &cause, err);
    }
    ledger->filled += size;
    set_stored(ledger, ledger->filled);
    return WEIR_OK;
}

int weir_local_trim(struct weir_ledger *base, uint64_t keep_from, int64_t keep_since_us,
                    struct weir_error *err) {
    struct weir_ledger_local *ledger = (struct weir_ledger_local *)(void *)base;
    size_t gone = 0;
    int rc = WEIR_OK;
    if (ledger->read_only) {
        return weir_error_set(err, WEIR_E_BUG, "ledger %s: trim of a read-only ledger",
                              ledger->path);
    }
    /* Oldest first and each durably gone before the next: a crash never leaves a gap. */
    while (gone + 1 < ledger->segment_count && ledger->segments[gone + 1].first <= keep_from &&
           ledger->segments[gone + 1].time_us < keep_since_us) {
        char name[32];
        char path[sizeof ledger->file_path];
        weir_segment_name(ledger->segments[gone].first, name);
        snprintf(path, sizeof path, "%s/%s", ledger->path, name);
        if (WEIR_FAULT(ledger_trim)) {
            rc = injected(err, WEIR_FAULT_ledger_trim);
            break;
        }
        int failed = ledger->files->ops->unlink(ledger->files, path);
        if (failed != 0 && failed != -ENOENT) {
            rc = weir_error_system(err, WEIR_E_IO, -failed, "ledger %s: trim %s", ledger->path,
                                   name);
            break;
        }
        rc = weir_files_sync_directory(ledger->files, ledger->path, err);
        base->stats.other_syncs++;
        if (rc != WEIR_OK) {
            break;
        }
        base->stats.stored_bytes -= ledger->segments[gone].stored_bytes;
        gone++;
    }
    if (gone > 0) {
        ledger->segment_count -= gone;
        memmove(ledger->segments, ledger->segments + gone,
                ledger->segment_count * sizeof *ledger->segments);
        base->first = ledger->segments[0].first;
        base->stats.segments = ledger->segment_count;
    }
    return rc;
}
