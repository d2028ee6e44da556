/* The local ledger: opening (lock, identity, finding the end, cutting a torn tail) and reading. */
#include "commit/ledger_local.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "commit/segment.h"
#include "core/log.h"

#define DEFAULT_SEGMENT_BYTES ((uint64_t)64 << 20)
#define DEFAULT_FILL_BYTES ((uint64_t)4 << 20)
#define DEFAULT_RECORD_BYTES ((uint64_t)2 << 30)

static struct weir_ledger_local *local(struct weir_ledger *base) {
    return (struct weir_ledger_local *)(void *)base;
}

static void local_close(struct weir_ledger *base) {
    struct weir_ledger_local *ledger = local(base);
    if (ledger->file != NULL) {
        ledger->file->ops->close(ledger->file);
    }
    if (ledger->lock != NULL) {
        ledger->lock->ops->close(ledger->lock);
    }
    XXH3_freeState(ledger->hasher);
    free(ledger->segments);
    free(ledger->iovecs);
    free(ledger->zeros);
    free(ledger);
}

static void path_in(const struct weir_ledger_local *ledger, const char *name, char path[4096]) {
    snprintf(path, 4096, "%s/%s", ledger->path, name);
}

static int take_lock(struct weir_ledger_local *ledger, struct weir_error *err) {
    char path[4096];
    char text[32] = {0};
    size_t got = 0;
    path_in(ledger, "lock", path);
    int rc = ledger->files->ops->lock(ledger->files, path, &ledger->lock);
    if (rc == -EWOULDBLOCK) {
        if (weir_file_read_all(ledger->lock, text, sizeof text - 1, 0, &got, path, NULL) !=
            WEIR_OK) {
            got = 0;
        }
        text[strspn(text, "0123456789")] = '\0';
        return weir_error_set(err, WEIR_E_LOCKED,
                              "ledger %s is in use by process %s: stop that one (kill %s), or give "
                              "this pipeline a ledger of its own: ledger = { path = … }",
                              ledger->path, got > 0 ? text : "unknown", got > 0 ? text : "its pid");
    }
    if (rc != 0) {
        return weir_error_system(err, WEIR_E_ENVIRONMENT, -rc, "lock %s", path);
    }
    int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    struct iovec part = {text, (size_t)length};
    rc = ledger->lock->ops->truncate(ledger->lock, 0);
    if (rc != 0) {
        return weir_error_system(err, WEIR_E_IO, -rc, "write %s", path);
    }
    return weir_file_write_all(ledger->lock, &part, 1, 0, path, err);
}

static int random_bytes(void *bytes, size_t size, struct weir_error *err) {
    return getrandom(bytes, size, 0) == (ssize_t)size
               ? WEIR_OK
               : weir_error_system(err, WEIR_E_ENVIRONMENT, errno, "getrandom");
}

/* Published by rename: it is there whole, or not at all. */
static int create_identity(struct weir_ledger_local *ledger, int64_t now_us,
                           struct weir_error *err) {
    char temporary[4096];
    char path[4096];
    uint8_t block[WEIR_BLOCK];
    struct weir_file *file = NULL;
    struct weir_opening opening = {.format = WEIR_LEDGER_FORMAT,
                                   .min_reader = WEIR_LEDGER_FORMAT,
                                   .shard_count = 1,
                                   .time_us = now_us};
    path_in(ledger, "lineage.tmp", temporary);
    path_in(ledger, "lineage", path);
    int rc = random_bytes(opening.lineage, sizeof opening.lineage, err);
    if (rc == WEIR_OK) {
        rc = random_bytes(opening.log, sizeof opening.log, err);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    weir_opening_encode(&opening, WEIR_MAGIC_LINEAGE, block);
    ledger->files->ops->unlink(ledger->files, temporary); /* of a start that died */
    rc = ledger->files->ops->open(ledger->files, temporary, WEIR_FILE_CREATE, &file);
    if (rc != 0) {
        return weir_error_system(err, WEIR_E_IO, -rc, "create %s", temporary);
    }
    struct iovec part = {block, sizeof block};
    rc = weir_file_write_all(file, &part, 1, 0, temporary, err);
    if (rc == WEIR_OK) {
        int failed = file->ops->sync(file);
        if (failed != 0) {
            rc = weir_error_system(err, WEIR_E_IO, -failed, "sync %s", temporary);
        }
    }
    file->ops->close(file);
    if (rc == WEIR_OK) {
        int failed = ledger->files->ops->rename(ledger->files, temporary, path);
        rc = failed != 0 ? weir_error_system(err, WEIR_E_IO, -failed, "rename %s", temporary)
                         : weir_files_sync_directory(ledger->files, ledger->path, err);
    }
    return rc;
}

static int read_identity(struct weir_ledger_local *ledger, bool *found, struct weir_error *err) {
    char path[4096];
    uint8_t block[WEIR_BLOCK];
    size_t got;
    struct weir_file *file = NULL;
    struct weir_opening opening;
    path_in(ledger, "lineage", path);
    int rc = ledger->files->ops->open(ledger->files, path, WEIR_FILE_READ, &file);
    *found = rc == 0;
    if (rc == -ENOENT || rc == -ENOTDIR) {
        return WEIR_OK;
    }
    if (rc != 0) {
        return weir_error_system(err, WEIR_E_IO, -rc, "open %s", path);
    }
    rc = weir_file_read_all(file, block, sizeof block, 0, &got, path, err);
    file->ops->close(file);
    if (rc == WEIR_OK) {
        rc = weir_opening_decode(block, got, WEIR_MAGIC_LINEAGE, path, &opening, err);
    }
    if (rc == WEIR_OK && opening.shard_count != 1) {
        rc = weir_error_set(err, WEIR_E_VERSION, "%s: %u shards; this binary runs one", path,
                            opening.shard_count);
    }
    if (rc == WEIR_OK) {
        struct weir_ledger_identity *identity = &ledger->base.identity;
        memcpy(identity->lineage, opening.lineage, sizeof identity->lineage);
        memcpy(identity->log, opening.log, sizeof identity->log);
        identity->shard_count = opening.shard_count;
        identity->created_us = opening.time_us;
    }
    return rc;
}

struct listing {
    struct weir_ledger_local *ledger;
    struct weir_error *err;
};

static int list_entry(void *context, const char *name) {
    struct listing *listing = context;
    uint64_t first;
    if (!weir_segment_parse_name(name, &first)) {
        return 0;
    }
    return weir_local_add_segment(listing->ledger, (struct weir_local_segment){.first = first},
                                  listing->err);
}

static int by_first(const void *a, const void *b) {
    uint64_t x = ((const struct weir_local_segment *)a)->first;
    uint64_t y = ((const struct weir_local_segment *)b)->first;
    return x < y ? -1 : x > y;
}

static int list_segments(struct weir_ledger_local *ledger, struct weir_error *err) {
    struct listing listing = {ledger, err};
    int rc = ledger->files->ops->list(ledger->files, ledger->path, list_entry, &listing);
    if (rc < 0) {
        return weir_error_system(err, WEIR_E_IO, -rc, "list %s", ledger->path);
    }
    if (rc == WEIR_OK && ledger->segment_count > 1) {
        qsort(ledger->segments, ledger->segment_count, sizeof *ledger->segments, by_first);
    }
    return rc;
}

static int other_lineage(const struct weir_segment_reader *reader, struct weir_error *err) {
    return weir_error_set(
        err, WEIR_E_CORRUPT,
        "%s: belongs to another ledger (lineage or log id differ from the lineage "
        "file beside it): files of two ledgers were mixed; restore the directory",
        reader->path);
}

static bool same_log(const struct weir_ledger_local *ledger, const struct weir_opening *opening) {
    return memcmp(opening->lineage, ledger->base.identity.lineage, WEIR_LEDGER_ID_BYTES) == 0 &&
           memcmp(opening->log, ledger->base.identity.log, WEIR_LEDGER_ID_BYTES) == 0;
}

/* What scanning the last segment found. */
struct tail {
    bool unborn;      /* its opening never became durable: as if it were not there */
    uint64_t last;    /* newest good record */
    uint64_t end;     /* where the next frame goes */
    uint64_t last_at; /* where the last frame is; 0 = no frame */
    bool dirty;       /* bytes that are not zero follow */
    struct weir_hash128 hash;
    int64_t time_us;
};

static int judge_tail(struct weir_ledger_local *ledger, struct weir_segment_reader *reader,
                      struct tail *tail, const char *why, struct weir_error *err) {
    uint64_t found;
    bool zero;
    int rc = weir_segment_follows(reader, tail->end, tail->last + 1, ledger->base.identity.log,
                                  &found, &zero, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (found != 0) {
        return weir_error_set(
            err, WEIR_E_CORRUPT,
            "%s: record %llu at byte %llu is damaged (%s) and a later record "
            "follows at byte %llu, so this is no torn tail: restore the file from "
            "a copy, or start anew from a savepoint",
            reader->path, (unsigned long long)(tail->last + 1), (unsigned long long)tail->end, why,
            (unsigned long long)found);
    }
    tail->dirty = !zero;
    ledger->base.stats.torn_bytes = zero ? 0 : reader->size - tail->end;
    return WEIR_OK;
}

static int scan_tail(struct weir_ledger_local *ledger, struct weir_segment_reader *reader,
                     struct weir_local_segment *segment, struct tail *tail,
                     struct weir_error *err) {
    char name[32];
    weir_segment_name(segment->first, name);
    int rc = weir_segment_open(reader, ledger->files, ledger->path, name,
                               ledger->base.max_record_bytes, err);
    *tail = (struct tail){.last = segment->first - 1, .end = WEIR_BLOCK};
    segment->stored_bytes = reader->size;
    if (rc == WEIR_E_CORRUPT && reader->file != NULL) {
        /* Its opening is synced before its first frame is written, so without frames this is a
         * rotation that died. */
        uint64_t found;
        bool zero;
        int again = weir_segment_follows(reader, WEIR_BLOCK, segment->first - 1,
                                         ledger->base.identity.log, &found, &zero, err);
        tail->unborn = again == WEIR_OK && found == 0;
        return again != WEIR_OK || found == 0 ? again : rc;
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    if (!same_log(ledger, &reader->opening) || reader->opening.number != segment->first) {
        return other_lineage(reader, err);
    }
    segment->time_us = reader->opening.time_us;
    tail->hash = reader->opening.previous;
    tail->time_us = reader->opening.time_us;
    for (;;) {
        enum weir_frame_verdict verdict;
        struct weir_ledger_frame frame;
        const char *why;
        rc = weir_segment_frame(reader, tail->end, tail->last + 1, ledger->base.identity.log,
                                tail->hash, &verdict, &frame, &why, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        if (verdict == WEIR_FRAME_NEWER) {
            return weir_error_set(err, WEIR_E_VERSION,
                                  "%s: record %llu was written by a newer binary: run that one",
                                  reader->path, (unsigned long long)(tail->last + 1));
        }
        if (verdict != WEIR_FRAME_GOOD) {
            return judge_tail(ledger, reader, tail, why, err);
        }
        tail->last = frame.number;
        tail->last_at = tail->end;
        tail->hash = frame.hash;
        tail->time_us = frame.time_us;
        tail->end += weir_frame_stored_bytes(frame.size);
    }
}

/* Makes what was found durable for certain: see "Opening rewrites" in ledger.h. */
static int repair(struct weir_ledger_local *ledger, struct weir_segment_reader *reader,
                  const struct tail *tail, struct weir_error *err) {
    int rc = ledger->files->ops->open(ledger->files, reader->path, WEIR_FILE_WRITE, &ledger->file);
    if (rc != 0) {
        return weir_error_system(err, WEIR_E_IO, -rc, "open %s", reader->path);
    }
    memcpy(ledger->file_path, reader->path, sizeof ledger->file_path);
    if (tail->dirty || reader->size < tail->end) {
        weir_log_info("commit", "torn tail cut off file=%s byte=%llu bytes=%llu", reader->path,
                      (unsigned long long)tail->end,
                      (unsigned long long)ledger->base.stats.torn_bytes);
        rc = ledger->file->ops->truncate(ledger->file, tail->end);
        if (rc != 0) {
            return weir_error_system(err, WEIR_E_IO, -rc, "truncate %s", reader->path);
        }
    }
    uint64_t from = tail->last_at;
    uint64_t to = from == 0 ? WEIR_BLOCK : tail->end;
    uint8_t *chunk = malloc((size_t)1 << 20);
    if (chunk == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "ledger %s: out of memory", ledger->path);
    }
    rc = WEIR_OK;
    while (rc == WEIR_OK && from < to) {
        size_t got;
        uint64_t want = to - from < ((uint64_t)1 << 20) ? to - from : (uint64_t)1 << 20;
        rc = weir_file_read_all(ledger->file, chunk, (size_t)want, from, &got, reader->path, err);
        if (rc == WEIR_OK && got == 0) {
            rc = weir_error_set(err, WEIR_E_IO, "%s: shrank while it was opened", reader->path);
        }
        if (rc == WEIR_OK) {
            struct iovec part = {chunk, got};
            rc = weir_file_write_all(ledger->file, &part, 1, from, reader->path, err);
            from += got;
        }
    }
    free(chunk);
    if (rc == WEIR_OK) {
        int failed = ledger->file->ops->sync(ledger->file);
        rc = failed != 0 ? weir_error_system(err, WEIR_E_IO, -failed, "sync %s", reader->path)
                         : weir_files_sync_directory(ledger->files, ledger->path, err);
    }
    ledger->base.stats.other_syncs += 2;
    return rc;
}

static int drop_unborn(struct weir_ledger_local *ledger, struct weir_error *err) {
    struct weir_local_segment *last = &ledger->segments[ledger->segment_count - 1];
    char name[32];
    char path[4096];
    weir_segment_name(last->first, name);
    path_in(ledger, name, path);
    ledger->base.stats.stored_bytes = 0; /* counted after the scan */
    ledger->segment_count--;
    if (ledger->read_only) {
        return WEIR_OK;
    }
    weir_log_info("commit", "segment without an opening removed file=%s", path);
    int rc = ledger->files->ops->unlink(ledger->files, path);
    if (rc != 0) {
        return weir_error_system(err, WEIR_E_IO, -rc, "remove %s", path);
    }
    return weir_files_sync_directory(ledger->files, ledger->path, err);
}

/* Sizes and times of the segments before the last: their openings say both. */
static int read_openings(struct weir_ledger_local *ledger, struct weir_error *err) {
    for (size_t i = 0; i + 1 < ledger->segment_count; i++) {
        struct weir_segment_reader reader;
        char name[32];
        weir_segment_name(ledger->segments[i].first, name);
        int rc = weir_segment_open(&reader, ledger->files, ledger->path, name,
                                   ledger->base.max_record_bytes, err);
        if (rc == WEIR_OK && !same_log(ledger, &reader.opening)) {
            rc = other_lineage(&reader, err);
        }
        ledger->segments[i].stored_bytes = reader.size;
        ledger->segments[i].time_us = reader.opening.time_us;
        weir_segment_fini(&reader);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}

static int find_end(struct weir_ledger_local *ledger, struct weir_error *err) {
    struct weir_segment_reader reader = {0};
    struct tail tail;
    ledger->base.first = 1;
    while (ledger->segment_count > 0) {
        int rc =
            scan_tail(ledger, &reader, &ledger->segments[ledger->segment_count - 1], &tail, err);
        if (rc == WEIR_OK && !tail.unborn && !ledger->read_only) {
            rc = repair(ledger, &reader, &tail, err);
        }
        uint64_t size = reader.size;
        weir_segment_fini(&reader);
        if (rc == WEIR_OK && tail.unborn) {
            rc = drop_unborn(ledger, err);
            if (rc == WEIR_OK) {
                continue;
            }
        }
        if (rc != WEIR_OK) {
            return rc;
        }
        ledger->base.first = ledger->segments[0].first;
        ledger->base.last = tail.last;
        ledger->offset = tail.end;
        ledger->filled = tail.dirty || size < tail.end ? tail.end : size;
        ledger->last_hash = tail.hash;
        ledger->last_time_us = tail.time_us;
        ledger->segments[ledger->segment_count - 1].stored_bytes = ledger->filled;
        break;
    }
    int rc = read_openings(ledger, err);
    ledger->base.stats.stored_bytes = 0;
    for (size_t i = 0; i < ledger->segment_count; i++) {
        ledger->base.stats.stored_bytes += ledger->segments[i].stored_bytes;
    }
    ledger->base.stats.segments = ledger->segment_count;
    return rc;
}

static int open_local(struct weir_ledger_local *ledger, const struct weir_ledger_options *options,
                      struct weir_error *err) {
    bool found = false;
    int rc = WEIR_OK;
    if (options->create && !options->read_only) {
        rc = weir_files_make_path(ledger->files, ledger->path, err);
    } else {
        rc = read_identity(ledger, &found, err);
        if (rc == WEIR_OK && !found) {
            rc = weir_error_set(err, WEIR_E_NOTFOUND, "no ledger in %s (no lineage file)",
                                ledger->path);
        }
    }
    if (rc == WEIR_OK && !options->read_only) {
        rc = take_lock(ledger, err);
    }
    if (rc == WEIR_OK) {
        rc = read_identity(ledger, &found, err);
    }
    if (rc == WEIR_OK) {
        rc = list_segments(ledger, err);
    }
    if (rc == WEIR_OK && !found) {
        if (ledger->segment_count > 0) {
            return weir_error_set(err, WEIR_E_CORRUPT,
                                  "ledger %s has segments but no lineage file: restore that file "
                                  "from a copy, or move the directory away to start anew",
                                  ledger->path);
        }
        rc = create_identity(ledger, options->now_us, err);
        if (rc == WEIR_OK) {
            rc = read_identity(ledger, &found, err);
        }
    }
    return rc == WEIR_OK ? find_end(ledger, err) : rc;
}

int weir_ledger_open(const struct weir_ledger_options *options, struct weir_ledger **out,
                     struct weir_error *err) {
    *out = NULL;
    struct weir_ledger_local *ledger = calloc(1, sizeof *ledger);
    if (ledger == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "ledger %s: out of memory", options->path);
    }
    ledger->base.ops = &weir_ledger_local_ops;
    ledger->base.max_record_bytes =
        options->max_record_bytes != 0 ? options->max_record_bytes : DEFAULT_RECORD_BYTES;
    ledger->files = options->files != NULL ? options->files : weir_files_system();
    ledger->read_only = options->read_only;
    ledger->segment_bytes =
        options->segment_bytes != 0 ? options->segment_bytes : DEFAULT_SEGMENT_BYTES;
    ledger->fill_bytes = options->fill_bytes != 0 ? options->fill_bytes : DEFAULT_FILL_BYTES;
    if (ledger->fill_bytes > ledger->segment_bytes) {
        ledger->fill_bytes = ledger->segment_bytes;
    }
    ledger->hasher = XXH3_createState();
    ledger->zeros = options->read_only ? NULL : calloc(1, ledger->fill_bytes);
    int length = snprintf(ledger->path, sizeof ledger->path, "%s", options->path);
    int rc = WEIR_OK;
    if (ledger->hasher == NULL || (ledger->zeros == NULL && !options->read_only)) {
        rc = weir_error_set(err, WEIR_E_NOMEM, "ledger %s: out of memory", options->path);
    } else if (length <= 0 || (size_t)length >= sizeof ledger->path) {
        rc = weir_error_set(err, WEIR_E_CONFIG, "ledger path '%.64s' is empty or too long",
                            options->path);
    }
    if (rc == WEIR_OK) {
        rc = random_bytes(&ledger->nonce, sizeof ledger->nonce, err);
    }
    if (rc == WEIR_OK) {
        rc = open_local(ledger, options, err);
    }
    if (rc != WEIR_OK) {
        local_close(&ledger->base);
        return rc;
    }
    *out = &ledger->base;
    return WEIR_OK;
}

struct local_cursor {
    struct weir_ledger_cursor base;
    struct weir_ledger_local *ledger;
    uint64_t *firsts; /* of the segments from the one that holds `next` on */
    size_t count;
    size_t at; /* in firsts */
    uint64_t next;
    uint64_t last;
    uint64_t from;
    uint64_t offset;
    struct weir_hash128 previous;
    struct weir_segment_reader reader;
};

static int enter_segment(struct local_cursor *cursor, bool check, struct weir_error *err) {
    char name[32];
    uint64_t first = cursor->firsts[cursor->at];
    weir_segment_fini(&cursor->reader);
    weir_segment_name(first, name);
    int rc = weir_segment_open(&cursor->reader, cursor->ledger->files, cursor->ledger->path, name,
                               cursor->ledger->base.max_record_bytes, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (!same_log(cursor->ledger, &cursor->reader.opening) ||
        cursor->reader.opening.number != first) {
        return other_lineage(&cursor->reader, err);
    }
    if (check && !weir_hash_equal(cursor->reader.opening.previous, cursor->previous)) {
        return weir_error_set(
            err, WEIR_E_CORRUPT,
            "%s: does not follow record %llu (previous hash differs): restore the "
            "directory from one copy",
            cursor->reader.path, (unsigned long long)(first - 1));
    }
    cursor->previous = cursor->reader.opening.previous;
    cursor->next = first;
    cursor->offset = WEIR_BLOCK;
    return WEIR_OK;
}

static void local_cursor_close(struct weir_ledger_cursor *base) {
    struct local_cursor *cursor = (struct local_cursor *)(void *)base;
    weir_segment_fini(&cursor->reader);
    free(cursor->firsts);
    free(cursor);
}

static int local_cursor_open(struct weir_ledger *base, uint64_t from,
                             struct weir_ledger_cursor **out, struct weir_error *err) {
    struct weir_ledger_local *ledger = local(base);
    size_t start = ledger->segment_count;
    while (start > 0 && ledger->segments[start - 1].first > from) {
        start--;
    }
    start = start > 0 ? start - 1 : 0;
    struct local_cursor *cursor = calloc(1, sizeof *cursor);
    uint64_t *firsts = calloc(ledger->segment_count + 1, sizeof *firsts);
    if (cursor == NULL || firsts == NULL) {
        free(cursor);
        free(firsts);
        return weir_error_set(err, WEIR_E_NOMEM, "ledger %s: out of memory", ledger->path);
    }
    cursor->base.ops = &weir_ledger_local_ops;
    cursor->ledger = ledger;
    cursor->firsts = firsts;
    cursor->last = base->last;
    cursor->from = from;
    cursor->next = from;
    for (size_t i = start; i < ledger->segment_count; i++) {
        firsts[cursor->count++] = ledger->segments[i].first;
    }
    int rc = cursor->count > 0 ? enter_segment(cursor, false, err) : WEIR_OK;
    if (rc != WEIR_OK) {
        local_cursor_close(&cursor->base);
        return rc;
    }
    *out = &cursor->base;
    return WEIR_OK;
}

static int local_cursor_next(struct weir_ledger_cursor *base, struct weir_ledger_frame *out,
                             bool *end, struct weir_error *err) {
    struct local_cursor *cursor = (struct local_cursor *)(void *)base;
    *end = false;
    for (;;) {
        if (cursor->next > cursor->last) {
            *end = true;
            return WEIR_OK;
        }
        if (cursor->at + 1 < cursor->count && cursor->firsts[cursor->at + 1] == cursor->next) {
            cursor->at++;
            int rc = enter_segment(cursor, true, err);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
        enum weir_frame_verdict verdict;
        const char *why;
        int rc = weir_segment_frame(&cursor->reader, cursor->offset, cursor->next,
                                    cursor->ledger->base.identity.log, cursor->previous, &verdict,
                                    out, &why, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        if (verdict == WEIR_FRAME_NEWER) {
            return weir_error_set(err, WEIR_E_VERSION,
                                  "%s: record %llu was written by a newer binary: run that one",
                                  cursor->reader.path, (unsigned long long)cursor->next);
        }
        if (verdict != WEIR_FRAME_GOOD) {
            return weir_error_set(
                err, WEIR_E_CORRUPT,
                "%s: record %llu at byte %llu is damaged (%s) and the ledger goes "
                "on to record %llu: restore the file from a copy, or start anew "
                "from a savepoint",
                cursor->reader.path, (unsigned long long)cursor->next,
                (unsigned long long)cursor->offset,
                verdict == WEIR_FRAME_NONE ? "it is missing" : why,
                (unsigned long long)cursor->last);
        }
        cursor->next++;
        cursor->previous = out->hash;
        cursor->offset += weir_frame_stored_bytes(out->size);
        if (out->number >= cursor->from) {
            return WEIR_OK;
        }
    }
}

const struct weir_ledger_ops weir_ledger_local_ops = {
    .append = weir_local_append,
    .prepare = weir_local_prepare,
    .trim = weir_local_trim,
    .cursor_open = local_cursor_open,
    .cursor_next = local_cursor_next,
    .cursor_close = local_cursor_close,
    .close = local_close,
};
