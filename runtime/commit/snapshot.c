/* Writing snapshots and keeping their directory. The bytes are laid down in snapshot.h. */
#include "commit/snapshot.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "commit/snapshot_file.h"
#include "core/fault.h"
#include "core/log.h"

#define DEFAULT_SLICE_BYTES ((uint64_t)1 << 30)
#define MAX_SNAPSHOTS 1024u

struct weir_snapshot_writer {
    struct weir_snapshots *snapshots;
    struct weir_file *file;
    char path[4096];
    uint64_t begin;
    uint64_t end; /* 0 until weir_snapshot_end */
    uint64_t offset;
    uint64_t slices;
    XXH3_state_t *hasher; /* one slice's */
    XXH3_state_t *all;    /* over the slices' hashes */
    bool failed;
};

static int system_error(struct weir_error *err, int rc, const char *verb, const char *path) {
    return weir_error_system(err, WEIR_E_IO, -rc, "%s %s", verb, path);
}

void weir_snapshot_path(const struct weir_snapshots *snapshots, uint64_t number, const char *suffix,
                        char path[4096]) {
    snprintf(path, 4096, "%s/%020" PRIu64 ".%s", snapshots->path, number, suffix);
}

struct listing {
    struct weir_snapshots *snapshots;
    struct weir_error *err;
    char leftovers[16][64];
    int leftover_count;
};

static int list_entry(void *context, const char *name) {
    struct listing *listing = context;
    struct weir_snapshots *snapshots = listing->snapshots;
    size_t length = strlen(name);
    bool numbered = length > 20 && strspn(name, "0123456789") == 20;
    if (numbered && strcmp(name + 20, ".tmp") == 0 && listing->leftover_count < 16) {
        memcpy(listing->leftovers[listing->leftover_count++], name, length + 1);
    }
    if (!numbered || strcmp(name + 20, ".snap") != 0) {
        return 0;
    }
    if (snapshots->count == MAX_SNAPSHOTS) {
        return weir_error_set(listing->err, WEIR_E_LIMIT,
                              "%s: more than %u snapshots: remove old ones", snapshots->path,
                              MAX_SNAPSHOTS);
    }
    struct weir_published *list = realloc(snapshots->list, (snapshots->count + 1) * sizeof *list);
    if (list == NULL) {
        return weir_error_set(listing->err, WEIR_E_NOMEM, "snapshots: out of memory");
    }
    snapshots->list = list;
    list[snapshots->count++] = (struct weir_published){.end = strtoull(name, NULL, 10)};
    return 0;
}

static int by_end(const void *a, const void *b) {
    uint64_t x = ((const struct weir_published *)a)->end;
    uint64_t y = ((const struct weir_published *)b)->end;
    return x < y ? -1 : x > y;
}

/* The begin of a published one, from its opening; an unreadable one needs nothing. */
static uint64_t read_begin(struct weir_snapshots *snapshots, uint64_t end) {
    char path[4096];
    uint8_t block[WEIR_BLOCK];
    size_t got = 0;
    struct weir_file *file = NULL;
    struct weir_opening opening;
    weir_snapshot_path(snapshots, end, "snap", path);
    if (snapshots->files->ops->open(snapshots->files, path, WEIR_FILE_READ, &file) != 0) {
        return UINT64_MAX;
    }
    int rc = weir_file_read_all(file, block, sizeof block, 0, &got, path, NULL);
    file->ops->close(file);
    if (rc == WEIR_OK) {
        rc = weir_opening_decode(block, got, WEIR_MAGIC_SNAPSHOT, path, &opening, NULL);
    }
    return rc == WEIR_OK ? opening.number : UINT64_MAX;
}

int weir_snapshots_open(const struct weir_snapshots_options *options, struct weir_snapshots **out,
                        struct weir_error *err) {
    *out = NULL;
    struct weir_snapshots *snapshots = calloc(1, sizeof *snapshots);
    if (snapshots == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "snapshots: out of memory");
    }
    struct listing listing = {.snapshots = snapshots, .err = err};
    snapshots->files = options->files != NULL ? options->files : weir_files_system();
    snapshots->identity = options->identity;
    snapshots->max_slice_bytes =
        options->max_slice_bytes != 0 ? options->max_slice_bytes : DEFAULT_SLICE_BYTES;
    snapshots->keep = options->keep != 0 ? options->keep : 2;
    int length = snprintf(snapshots->path, sizeof snapshots->path, "%s", options->path);
    int rc = WEIR_OK;
    if (length <= 0 || (size_t)length >= sizeof snapshots->path) {
        rc = weir_error_set(err, WEIR_E_CONFIG, "snapshot path '%.64s' is empty or too long",
                            options->path);
        goto out;
    }
    rc =
        options->read_only ? WEIR_OK : weir_files_make_path(snapshots->files, snapshots->path, err);
    if (rc != WEIR_OK) {
        goto out;
    }
    rc = snapshots->files->ops->list(snapshots->files, snapshots->path, list_entry, &listing);
    if (rc == -ENOENT && options->read_only) {
        rc = 0; /* none yet */
    }
    if (rc != 0) {
        rc = rc < 0 ? system_error(err, rc, "list", snapshots->path) : rc;
        goto out;
    }
    for (int i = 0; i < listing.leftover_count && !options->read_only; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", snapshots->path, listing.leftovers[i]);
        snapshots->files->ops->unlink(snapshots->files, path);
    }
    if (snapshots->count > 1) {
        qsort(snapshots->list, snapshots->count, sizeof *snapshots->list, by_end);
    }
    for (size_t i = 0; i < snapshots->count; i++) {
        snapshots->list[i].begin = read_begin(snapshots, snapshots->list[i].end);
    }
out:
    if (rc != WEIR_OK) {
        weir_snapshots_close(snapshots);
        return rc;
    }
    *out = snapshots;
    return WEIR_OK;
}

void weir_snapshots_close(struct weir_snapshots *snapshots) {
    if (snapshots != NULL) {
        free(snapshots->list);
        free(snapshots);
    }
}

uint64_t weir_snapshots_oldest_begin(const struct weir_snapshots *snapshots) {
    uint64_t begin = UINT64_MAX;
    for (size_t i = 0; i < snapshots->count; i++) {
        begin = snapshots->list[i].begin < begin ? snapshots->list[i].begin : begin;
    }
    return begin == UINT64_MAX ? 1 : begin;
}

uint64_t weir_snapshots_newest_end(const struct weir_snapshots *snapshots) {
    return snapshots->count == 0 ? 0 : snapshots->list[snapshots->count - 1].end;
}

static void writer_free(struct weir_snapshot_writer *writer) {
    if (writer->file != NULL) {
        writer->file->ops->close(writer->file);
    }
    XXH3_freeState(writer->hasher);
    XXH3_freeState(writer->all);
    free(writer);
}

void weir_snapshot_abandon(struct weir_snapshot_writer *writer) {
    if (writer != NULL) {
        struct weir_files *files = writer->snapshots->files;
        files->ops->unlink(files, writer->path);
        writer_free(writer);
    }
}

int weir_snapshot_begin(struct weir_snapshots *snapshots, uint64_t epoch, int64_t time_us,
                        struct weir_snapshot_writer **out, struct weir_error *err) {
    uint8_t block[WEIR_BLOCK];
    *out = NULL;
    struct weir_snapshot_writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "snapshot: out of memory");
    }
    writer->snapshots = snapshots;
    writer->begin = epoch;
    writer->hasher = XXH3_createState();
    writer->all = XXH3_createState();
    weir_snapshot_path(snapshots, epoch, "tmp", writer->path);
    if (writer->hasher == NULL || writer->all == NULL) {
        writer_free(writer);
        return weir_error_set(err, WEIR_E_NOMEM, "snapshot: out of memory");
    }
    XXH3_128bits_reset(writer->all);
    snapshots->files->ops->unlink(snapshots->files, writer->path);
    int rc = snapshots->files->ops->open(snapshots->files, writer->path, WEIR_FILE_CREATE,
                                         &writer->file);
    if (rc != 0) {
        rc = system_error(err, rc, "create", writer->path);
        writer_free(writer);
        return rc;
    }
    struct weir_opening opening = {
        .format = WEIR_SNAPSHOT_FORMAT,
        .min_reader = WEIR_SNAPSHOT_FORMAT,
        .shard_count = snapshots->identity.shard_count,
        .number = epoch,
        .time_us = time_us,
    };
    memcpy(opening.lineage, snapshots->identity.lineage, sizeof opening.lineage);
    memcpy(opening.log, snapshots->identity.log, sizeof opening.log);
    weir_opening_encode(&opening, WEIR_MAGIC_SNAPSHOT, block);
    struct iovec part = {block, sizeof block};
    rc = weir_file_write_all(writer->file, &part, 1, 0, writer->path, err);
    if (rc != WEIR_OK) {
        weir_snapshot_abandon(writer);
        return rc;
    }
    writer->offset = WEIR_BLOCK;
    *out = writer;
    return WEIR_OK;
}

/* Writes one slice of the parts, all of it hashed. `parts` has two free entries in front. */
static int write_slice(struct weir_snapshot_writer *writer, const char *table, size_t table_size,
                       const struct iovec *payload, int count, uint64_t size,
                       struct weir_error *err) {
    static const uint8_t padding[8];
    uint8_t head[WEIR_SLICE_HEADER_BYTES] = {0};
    if (writer->failed || writer->end != 0) {
        return weir_error_set(err, WEIR_E_BUG, "%s: a slice after %s", writer->path,
                              writer->failed ? "a failure" : "the end");
    }
    if (size > writer->snapshots->max_slice_bytes || table_size > WEIR_SLICE_NAME_BYTES) {
        return weir_error_set(
            err, WEIR_E_LIMIT,
            "snapshot: a slice of %" PRIu64 " bytes (cap %" PRIu64 ") of table %.*s", size,
            writer->snapshots->max_slice_bytes, (int)(table_size < 128 ? table_size : 128), table);
    }
    struct iovec *parts = calloc((size_t)count + 3, sizeof *parts);
    if (parts == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "snapshot: out of memory");
    }
    weir_store_u32(head, WEIR_SLICE_MAGIC);
    weir_store_u32(head + 4, (uint32_t)table_size);
    weir_store_u64(head + 8, size);
    parts[0] = (struct iovec){head, sizeof head};
    parts[1] = (struct iovec){(void *)(uintptr_t)table, table_size};
    XXH3_128bits_reset(writer->hasher);
    XXH3_128bits_update(writer->hasher, head, 16);
    XXH3_128bits_update(writer->hasher, table, table_size);
    for (int i = 0; i < count; i++) {
        parts[i + 2] = payload[i];
        XXH3_128bits_update(writer->hasher, payload[i].iov_base, payload[i].iov_len);
    }
    XXH128_hash_t hash = XXH3_128bits_digest(writer->hasher);
    weir_store_hash(head + 16, (struct weir_hash128){hash.low64, hash.high64});
    XXH3_128bits_update(writer->all, head + 16, 16);
    uint64_t bytes = weir_slice_stored_bytes(table_size, size);
    parts[count + 2] = (struct iovec){
        (void *)(uintptr_t)padding, (size_t)(bytes - WEIR_SLICE_HEADER_BYTES - table_size - size)};
    int rc = weir_file_write_all(writer->file, parts, count + 3, writer->offset, writer->path, err);
    free(parts);
    if (rc != WEIR_OK) {
        writer->failed = true;
        return rc;
    }
    writer->offset += bytes;
    return WEIR_OK;
}

int weir_snapshot_append(struct weir_snapshot_writer *writer, const char *table, size_t table_size,
                         const void *bytes, size_t size, struct weir_error *err) {
    struct iovec payload = {(void *)(uintptr_t)bytes, size};
    if (table_size == 0) {
        return weir_error_set(err, WEIR_E_BUG, "snapshot: a slice without a table name");
    }
    int rc = write_slice(writer, table, table_size, &payload, 1, size, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (writer->slices++ == 0 && WEIR_FAULT(snapshot_begin)) {
        writer->failed = true;
        return weir_error_set(err, WEIR_E_FAULT, "fault point snapshot_begin");
    }
    return WEIR_OK;
}

int weir_snapshot_end(struct weir_snapshot_writer *writer, struct weir_record *state,
                      struct weir_error *err) {
    const struct iovec *parts;
    int count;
    uint64_t size;
    uint8_t trailer[WEIR_TRAILER_BYTES] = {0};
    uint64_t end = weir_record_epoch(state);
    if (end < writer->begin) {
        return weir_error_set(err, WEIR_E_BUG,
                              "snapshot: ends at %" PRIu64 ", before its begin %" PRIu64, end,
                              writer->begin);
    }
    int rc = weir_record_finish(state, &parts, &count, &size, err);
    if (rc == WEIR_OK) {
        rc = write_slice(writer, "", 0, parts, count, size, err);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    memcpy(trailer, WEIR_MAGIC_SNAPSHOT_END, 8);
    weir_store_u64(trailer + 8, writer->begin);
    weir_store_u64(trailer + 16, end);
    weir_store_u64(trailer + 24, writer->slices);
    weir_store_u64(trailer + 32, writer->offset);
    XXH3_128bits_update(writer->all, trailer, 48);
    XXH128_hash_t hash = XXH3_128bits_digest(writer->all);
    weir_store_hash(trailer + 48, (struct weir_hash128){hash.low64, hash.high64});
    struct iovec part = {trailer, sizeof trailer};
    rc = weir_file_write_all(writer->file, &part, 1, writer->offset, writer->path, err);
    if (rc == WEIR_OK) {
        int failed = writer->file->ops->sync(writer->file);
        rc = failed != 0 ? system_error(err, failed, "sync", writer->path) : WEIR_OK;
    }
    if (rc != WEIR_OK) {
        writer->failed = true;
        return rc;
    }
    writer->end = end;
    return WEIR_OK;
}

uint64_t weir_snapshot_end_epoch(const struct weir_snapshot_writer *writer) {
    return writer->end;
}

/* Newest last; a second one with the same end replaces the first. */
static int note_published(struct weir_snapshots *snapshots, uint64_t begin, uint64_t end,
                          struct weir_error *err) {
    for (size_t i = 0; i < snapshots->count; i++) {
        if (snapshots->list[i].end == end) {
            snapshots->list[i].begin = begin;
            return WEIR_OK;
        }
    }
    struct weir_published *list = realloc(snapshots->list, (snapshots->count + 1) * sizeof *list);
    if (list == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "snapshots: out of memory");
    }
    snapshots->list = list;
    list[snapshots->count++] = (struct weir_published){begin, end};
    qsort(list, snapshots->count, sizeof *list, by_end);
    return WEIR_OK;
}

static void delete_old(struct weir_snapshots *snapshots) {
    while (snapshots->count > snapshots->keep) {
        char path[4096];
        weir_snapshot_path(snapshots, snapshots->list[0].end, "snap", path);
        int rc = snapshots->files->ops->unlink(snapshots->files, path);
        if (rc != 0 && rc != -ENOENT) {
            weir_log_warn("commit", "old snapshot not deleted file=%s error=\"%s\"", path,
                          strerror(-rc));
            return;
        }
        snapshots->count--;
        memmove(snapshots->list, snapshots->list + 1, snapshots->count * sizeof *snapshots->list);
    }
}

int weir_snapshot_publish(struct weir_snapshot_writer *writer, uint64_t durable_epoch,
                          struct weir_error *err) {
    struct weir_snapshots *snapshots = writer->snapshots;
    char path[4096];
    if (writer->end == 0 || durable_epoch < writer->end) {
        return weir_error_set(err, WEIR_E_USAGE,
                              "snapshot from %" PRIu64 ": published before its end is durable "
                              "(%" PRIu64 " of %" PRIu64 ")",
                              writer->begin, durable_epoch, writer->end);
    }
    if (WEIR_FAULT(snapshot_before_publish)) {
        return weir_error_set(err, WEIR_E_FAULT, "fault point snapshot_before_publish");
    }
    weir_snapshot_path(snapshots, writer->end, "snap", path);
    int rc = snapshots->files->ops->rename(snapshots->files, writer->path, path);
    if (rc != 0) {
        return system_error(err, rc, "rename", writer->path);
    }
    rc = weir_files_sync_directory(snapshots->files, snapshots->path, err);
    if (rc == WEIR_OK) {
        rc = note_published(snapshots, writer->begin, writer->end, err);
    }
    if (rc == WEIR_OK && WEIR_FAULT(snapshot_after_publish)) {
        rc = weir_error_set(err, WEIR_E_FAULT, "fault point snapshot_after_publish");
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    delete_old(snapshots);
    writer_free(writer);
    return WEIR_OK;
}
