/* The log's folder: opening it after whatever happened, new segments, and trimming. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

#include "core/clock.h"
#include "core/fault.h"
#include "core/log.h"
#include "source/http/http_log_internal.h"

static const char opening_magic[8] = "WEIRHTTP";
static const char keys_magic[8] = "WEIRKEYS";
static const char frame_magic[4] = "WHFR";

enum { FORMAT = 1, SEGMENTS_MAX = 1 << 20 };

uint32_t http_load32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

uint64_t http_load64(const uint8_t *at) {
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

void http_store32(uint8_t *at, uint32_t value) {
    memcpy(at, &value, sizeof(value));
}

void http_store64(uint8_t *at, uint64_t value) {
    memcpy(at, &value, sizeof(value));
}

void http_segment_path(const struct weir_http_log *log, uint64_t first, const char *ending,
                       char out[4096]) {
    snprintf(out, 4096, "%s/%020" PRIu64 ".%s", log->path, first, ending);
}

void http_opening_encode(const struct weir_http_log *log, uint64_t first, int64_t time_us,
                         uint8_t out[HTTP_OPENING_BYTES]) {
    memcpy(out, opening_magic, 8);
    http_store32(out + 8, FORMAT);
    http_store32(out + 12, FORMAT);
    http_store32(out + 16, 0);
    http_store32(out + 20, log->group - log->group_shift);
    memcpy(out + 24, log->id, HTTP_ID_BYTES);
    http_store64(out + 40, first);
    http_store64(out + 48, (uint64_t)time_us);
    http_store64(out + 56, XXH3_64bits(out, 56));
}

/* --- frames ------------------------------------------------------------------------------- */

int http_view_open(const struct weir_http_log *log, struct http_view *view, uint64_t first,
                   struct weir_error *err) {
    char path[4096];
    http_view_close(view);
    http_segment_path(log, first, "log", path);
    int rc = log->files->ops->open(log->files, path, WEIR_FILE_READ, &view->file);
    return rc == 0 ? WEIR_OK : weir_error_system(err, WEIR_E_IO, -rc, "open %s", path);
}

void http_view_close(struct http_view *view) {
    if (view->file != NULL) {
        view->file->ops->close(view->file);
    }
    free(view->window);
    *view = (struct http_view){0};
}

/* Bytes [offset, +size) of the file in the window; false at its end. */
static int borrow(struct http_view *view, uint64_t offset, size_t size, uint64_t limit,
                  const uint8_t **out, struct weir_error *err) {
    *out = NULL;
    if (offset > limit || size > limit - offset) {
        return WEIR_OK;
    }
    if (offset < view->at || offset + size > view->at + view->size) {
        size_t want = size > HTTP_WINDOW_BYTES ? size : HTTP_WINDOW_BYTES;
        if (want > view->capacity) {
            uint8_t *grown = realloc(view->window, want);
            if (grown == NULL) {
                return weir_error_set(err, WEIR_E_NOMEM, "no memory for a request of %zu bytes",
                                      size);
            }
            view->window = grown;
            view->capacity = want;
        }
        view->size = 0;
        view->at = offset;
        want = want > limit - offset ? (size_t)(limit - offset) : want;
        int rc = weir_file_read_all(view->file, view->window, want, offset, &view->size,
                                    "the log of HTTP requests", err);
        if (rc != WEIR_OK) {
            view->size = 0;
            return rc;
        }
    }
    if (view->size - (offset - view->at) >= size) {
        *out = view->window + (offset - view->at);
    }
    return WEIR_OK;
}

/* The payload is so many sized events. */
static bool payload_holds(const uint8_t *payload, uint32_t size, uint32_t count) {
    uint32_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (size - at < 4 || http_load32(payload + at) > size - at - 4) {
            return false;
        }
        at += 4 + http_load32(payload + at);
    }
    return at == size;
}

int http_view_frame(const struct weir_http_log *log, struct http_view *view, uint64_t offset,
                    uint64_t limit, uint64_t number, struct http_frame *out, bool *good,
                    struct weir_error *err) {
    const uint8_t *bytes;
    *good = false;
    int rc = borrow(view, offset, HTTP_FRAME_BYTES, limit, &bytes, err);
    if (rc != WEIR_OK || bytes == NULL || memcmp(bytes + 8, frame_magic, 4) != 0) {
        return rc;
    }
    out->payload_size = http_load32(bytes + 12);
    if (out->payload_size > HTTP_FRAME_PAYLOAD_MAX) {
        return WEIR_OK;
    }
    size_t size = HTTP_FRAME_BYTES + out->payload_size;
    rc = borrow(view, offset, size, limit, &bytes, err);
    if (rc != WEIR_OK || bytes == NULL ||
        XXH3_64bits_withSeed(bytes + 8, size - 8, log->seed) != http_load64(bytes)) {
        return rc;
    }
    out->first = http_load64(bytes + 16);
    out->count = http_load32(bytes + 24);
    out->group = http_load32(bytes + 28);
    out->time_us = (int64_t)http_load64(bytes + 32);
    out->key[0] = http_load64(bytes + 40);
    out->key[1] = http_load64(bytes + 48);
    out->body_hash = http_load64(bytes + 56);
    out->bytes = bytes;
    *good = (number == 0 || out->first == number) && out->count > 0 &&
            payload_holds(bytes + HTTP_FRAME_BYTES, out->payload_size, out->count);
    return WEIR_OK;
}

/* --- recovery ----------------------------------------------------------------------------- */

static int add_segment(struct weir_http_log *log, const struct http_segment *segment,
                       struct weir_error *err) {
    if (log->segment_count == log->segment_capacity) {
        int32_t capacity = log->segment_capacity == 0 ? 16 : 2 * log->segment_capacity;
        struct http_segment *grown =
            capacity > SEGMENTS_MAX ? NULL
                                    : realloc(log->segments, (size_t)capacity * sizeof(*grown));
        if (grown == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for more segments", log->path);
        }
        log->segments = grown;
        log->segment_capacity = capacity;
    }
    log->segments[log->segment_count++] = *segment;
    return WEIR_OK;
}

static int add_keys_file(struct weir_http_log *log, uint64_t first, int64_t newest_us) {
    struct http_keys_file *grown =
        realloc(log->keys_files, ((size_t)log->keys_file_count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return WEIR_E_NOMEM;
    }
    log->keys_files = grown;
    grown[log->keys_file_count++] = (struct http_keys_file){first, newest_us};
    return WEIR_OK;
}

static bool parse_name(const char *name, const char *ending, uint64_t *first) {
    if (strlen(name) != 21 + strlen(ending) || name[20] != '.' || strcmp(name + 21, ending) != 0 ||
        strspn(name, "0123456789") != 20) {
        return false;
    }
    *first = strtoull(name, NULL, 10);
    return *first > 0;
}

enum { LEFTOVERS_MAX = 16 };

struct listing {
    struct weir_http_log *log;
    struct weir_error *err;
    char leftovers[LEFTOVERS_MAX][64]; /* of a process that died while it wrote them */
    int leftover_count;
};

static int see(void *context, const char *name) {
    struct listing *listing = context;
    struct weir_http_log *log = listing->log;
    uint64_t first;
    if (parse_name(name, "log", &first)) {
        return add_segment(log, &(struct http_segment){.first = first, .end = first}, listing->err);
    }
    if (parse_name(name, "keys", &first) && add_keys_file(log, first, 0) != WEIR_OK) {
        return weir_error_set(listing->err, WEIR_E_NOMEM, "out of memory");
    }
    size_t length = strlen(name);
    if (length > 4 && length < sizeof(listing->leftovers[0]) &&
        strcmp(name + length - 4, ".tmp") == 0 && listing->leftover_count < LEFTOVERS_MAX) {
        memcpy(listing->leftovers[listing->leftover_count++], name, length + 1);
    }
    return 0;
}

static int by_first(const void *a, const void *b) {
    uint64_t x = ((const struct http_segment *)a)->first;
    uint64_t y = ((const struct http_segment *)b)->first;
    return x < y ? -1 : x > y;
}

static int remember(struct weir_http_log *log, const struct http_frame *frame,
                    struct weir_error *err) {
    int64_t now_us = weir_clock_wall_us();
    if (log->keys.remember_us == 0 || (frame->key[0] | frame->key[1]) == 0 ||
        now_us - frame->time_us >= log->keys.remember_us) {
        return WEIR_OK;
    }
    struct http_key key = {.hash = {frame->key[0], frame->key[1]},
                           .first = frame->first,
                           .body_hash = frame->body_hash,
                           .time_us = frame->time_us,
                           .count = frame->count};
    return http_keys_put(&log->keys, &key, now_us)
               ? WEIR_OK
               : weir_error_set(err, WEIR_E_LIMIT,
                                "%s holds more idempotency keys than fit; shorten `remember`",
                                log->path);
}

static int read_opening(struct weir_http_log *log, struct http_view *view, uint64_t first,
                        uint64_t size, bool adopt, uint32_t *group, struct weir_error *err) {
    const uint8_t *bytes = NULL;
    int rc = borrow(view, 0, HTTP_OPENING_BYTES, size, &bytes, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (bytes == NULL || memcmp(bytes, opening_magic, 8) != 0 ||
        http_load64(bytes + 56) != XXH3_64bits(bytes, 56) || http_load64(bytes + 40) != first) {
        return weir_error_set(err, WEIR_E_CORRUPT,
                              "%s/%020" PRIu64 ".log is no segment of a log of requests", log->path,
                              first);
    }
    if (http_load32(bytes + 12) > FORMAT || http_load32(bytes + 16) != 0) {
        return weir_error_set(err, WEIR_E_VERSION,
                              "%s was written by a newer version of Weir; start that", log->path);
    }
    *group = http_load32(bytes + 20);
    if (adopt) {
        memcpy(log->id, bytes + 24, HTTP_ID_BYTES);
        log->seed = http_load64(log->id);
    } else if (memcmp(log->id, bytes + 24, HTTP_ID_BYTES) != 0) {
        return weir_error_set(err, WEIR_E_CORRUPT,
                              "%s/%020" PRIu64 ".log belongs to another log; remove it from there",
                              log->path, first);
    }
    return WEIR_OK;
}

/* Whether a frame of a group after `group` lies behind `offset`. */
static int follows(struct weir_http_log *log, struct http_view *view, uint64_t offset,
                   uint64_t size, uint32_t group, bool *found, struct weir_error *err) {
    *found = false;
    for (uint64_t at = offset + 1; at + HTTP_FRAME_BYTES <= size && !*found; at++) {
        const uint8_t *bytes;
        int rc = borrow(view, at, HTTP_FRAME_BYTES, size, &bytes, err);
        if (rc != WEIR_OK || bytes == NULL) {
            return rc;
        }
        if (bytes[8] != 'W' || memcmp(bytes + 8, frame_magic, 4) != 0) {
            continue;
        }
        struct http_frame frame;
        bool good;
        rc = http_view_frame(log, view, at, size, 0, &frame, &good, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        *found = good && (int32_t)(frame.group - group) > 0;
    }
    return WEIR_OK;
}

/* Cuts off what a crash left of the last group. */
static int cut_tail(struct weir_http_log *log, const struct http_segment *segment, uint64_t size,
                    struct weir_error *err) {
    char path[4096];
    struct weir_file *file = NULL;
    http_segment_path(log, segment->first, "log", path);
    weir_log_info("source", "%s: %" PRIu64 " bytes that were never acknowledged are cut off", path,
                  size - segment->bytes);
    int rc = log->files->ops->open(log->files, path, WEIR_FILE_WRITE, &file);
    rc = rc == 0 ? file->ops->truncate(file, segment->bytes) : rc;
    rc = rc == 0 ? file->ops->sync(file) : rc;
    if (file != NULL) {
        file->ops->close(file);
    }
    return rc == 0 ? WEIR_OK
                   : weir_error_system(err, WEIR_E_IO, -rc, "cut the torn end of %s", path);
}

/* Walks a segment; the last one may end in the middle of a frame. */
static int scan(struct weir_http_log *log, int32_t index, struct weir_error *err) {
    struct http_segment *segment = &log->segments[index];
    bool last = index + 1 == log->segment_count;
    struct http_view view = {0};
    uint64_t size = 0;
    uint32_t group = 0; /* the one a torn frame would be of, at most */
    int rc = http_view_open(log, &view, segment->first, err);
    if (rc == WEIR_OK) {
        int failed = view.file->ops->size(view.file, &size);
        rc = failed == 0 ? WEIR_OK : weir_error_system(err, WEIR_E_IO, -failed, "%s", log->path);
    }
    if (rc == WEIR_OK) {
        rc = read_opening(log, &view, segment->first, size, index == 0, &group, err);
    }
    segment->bytes = HTTP_OPENING_BYTES;
    while (rc == WEIR_OK && segment->bytes < size) {
        struct http_frame frame;
        bool good;
        rc = http_view_frame(log, &view, segment->bytes, size, segment->end, &frame, &good, err);
        if (rc != WEIR_OK || !good) {
            break;
        }
        segment->bytes += HTTP_FRAME_BYTES + frame.payload_size;
        segment->end += frame.count;
        segment->newest_us =
            frame.time_us > segment->newest_us ? frame.time_us : segment->newest_us;
        group = frame.group + 1;
        rc = remember(log, &frame, err);
    }
    if (rc == WEIR_OK && segment->bytes < size) {
        bool more = !last;
        if (last) {
            rc = follows(log, &view, segment->bytes, size, group, &more, err);
        }
        if (rc == WEIR_OK && more) {
            rc = weir_error_set(err, WEIR_E_CORRUPT,
                                "%s/%020" PRIu64 ".log is damaged at byte %" PRIu64
                                ", before events that were acknowledged; restore it from a copy",
                                log->path, segment->first, segment->bytes);
        }
        if (rc == WEIR_OK && !log->options.read_only) {
            rc = cut_tail(log, segment, size, err);
        }
    }
    log->group = group;
    http_view_close(&view);
    return rc;
}

static int load_keys(struct weir_http_log *log, struct http_keys_file *from,
                     struct weir_error *err) {
    char path[4096];
    http_segment_path(log, from->first, "keys", path);
    struct weir_file *file = NULL;
    uint64_t size = 0;
    uint8_t *bytes = NULL;
    size_t got = 0;
    int failed = log->files->ops->open(log->files, path, WEIR_FILE_READ, &file);
    failed = failed == 0 ? file->ops->size(file, &size) : failed;
    int rc = failed == 0 ? WEIR_OK : weir_error_system(err, WEIR_E_IO, -failed, "open %s", path);
    if (rc == WEIR_OK) {
        bytes = malloc(size + 1);
        rc = bytes == NULL ? weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", path)
                           : weir_file_read_all(file, bytes, size, 0, &got, path, err);
    }
    if (rc == WEIR_OK) {
        uint64_t count = got >= HTTP_KEYS_HEADER_BYTES ? http_load32(bytes + 12) : 0;
        if (got < HTTP_KEYS_HEADER_BYTES || memcmp(bytes, keys_magic, 8) != 0 ||
            got != HTTP_KEYS_HEADER_BYTES + count * sizeof(struct http_key) ||
            XXH3_64bits(bytes + HTTP_KEYS_HEADER_BYTES, got - HTTP_KEYS_HEADER_BYTES) !=
                http_load64(bytes + 16)) {
            rc = weir_error_set(err, WEIR_E_CORRUPT,
                                "%s is damaged; without it requests sent again may count twice: "
                                "restore it from a copy, or remove it",
                                path);
        }
        from->newest_us = rc == WEIR_OK ? (int64_t)http_load64(bytes + 24) : 0;
        for (uint64_t i = 0; rc == WEIR_OK && i < count; i++) {
            struct http_key key;
            memcpy(&key, bytes + HTTP_KEYS_HEADER_BYTES + i * sizeof(key), sizeof(key));
            struct http_frame frame = {.first = key.first,
                                       .count = key.count,
                                       .time_us = key.time_us,
                                       .key = {key.hash[0], key.hash[1]},
                                       .body_hash = key.body_hash};
            rc = remember(log, &frame, err);
        }
    }
    if (file != NULL) {
        file->ops->close(file);
    }
    free(bytes);
    return rc;
}

static int open_newest(struct weir_http_log *log, struct weir_error *err) {
    char path[4096];
    http_segment_path(log, log->segments[log->segment_count - 1].first, "log", path);
    int rc = log->files->ops->open(log->files, path, WEIR_FILE_WRITE, &log->file);
    return rc == 0 ? WEIR_OK : weir_error_system(err, WEIR_E_IO, -rc, "open %s", path);
}

static void remove_leftovers(const struct listing *listing) {
    const struct weir_http_log *log = listing->log;
    for (int i = 0; i < listing->leftover_count && !log->options.read_only; i++) {
        char path[4096];
        snprintf(path, sizeof(path), "%s/%s", log->path, listing->leftovers[i]);
        (void)log->files->ops->unlink(log->files, path);
    }
}

int http_log_recover(struct weir_http_log *log, struct weir_error *err) {
    struct listing listing = {.log = log, .err = err};
    log->group = 1;
    int rc = WEIR_OK;
    if (!log->options.read_only) {
        rc = weir_files_make_path(log->files, log->path, err);
    }
    if (rc == WEIR_OK) {
        int failed = log->files->ops->list(log->files, log->path, see, &listing);
        if (failed == -ENOENT && log->options.read_only) {
            failed = 0;
        }
        rc =
            failed >= 0 ? failed : weir_error_system(err, WEIR_E_IO, -failed, "list %s", log->path);
    }
    remove_leftovers(&listing);
    if (rc == WEIR_OK && log->segment_count > 0) {
        qsort(log->segments, (size_t)log->segment_count, sizeof(*log->segments), by_first);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < log->keys_file_count; i++) {
        rc = load_keys(log, &log->keys_files[i], err);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < log->segment_count; i++) {
        rc = scan(log, i, err);
        if (rc == WEIR_OK && i + 1 < log->segment_count &&
            log->segments[i].end != log->segments[i + 1].first) {
            rc = weir_error_set(err, WEIR_E_CORRUPT,
                                "%s: events %" PRIu64 " to %" PRIu64
                                " are missing; restore their segment from a copy",
                                log->path, log->segments[i].end, log->segments[i + 1].first - 1);
        }
    }
    if (rc == WEIR_OK && log->segment_count == 0 && !log->options.read_only) {
        if (getrandom(log->id, sizeof(log->id), 0) != (ssize_t)sizeof(log->id)) {
            return weir_error_set(err, WEIR_E_ENVIRONMENT, "the system gives no random bytes");
        }
        log->seed = http_load64(log->id);
        rc = http_segment_create(log, 1, weir_clock_wall_us(), err);
    } else if (rc == WEIR_OK && !log->options.read_only) {
        rc = open_newest(log, err);
    }
    if (rc == WEIR_OK) {
        log->durable = log->next =
            log->segment_count > 0 ? log->segments[log->segment_count - 1].end : 1;
    }
    return rc;
}

/* --- new segments, old segments ----------------------------------------------------------- */

/* Written whole, then named: a file of this name is complete. */
static int publish(struct weir_http_log *log, uint64_t first, const char *ending, void *head,
                   size_t head_size, void *body, size_t body_size, struct weir_file **keep,
                   struct weir_error *err) {
    char path[4096];
    char temporary[4096 + 8];
    struct weir_file *file = NULL;
    http_segment_path(log, first, ending, path);
    snprintf(temporary, sizeof(temporary), "%s.tmp", path);
    (void)log->files->ops->unlink(log->files, temporary);
    int failed = log->files->ops->open(log->files, temporary, WEIR_FILE_CREATE, &file);
    if (failed != 0) {
        return weir_error_system(err, failed == -ENOSPC ? WEIR_E_ENVIRONMENT : WEIR_E_IO, -failed,
                                 "create %s", temporary);
    }
    struct iovec parts[] = {{head, head_size}, {body, body_size}};
    int rc = weir_file_write_all(file, parts, 2, 0, temporary, err);
    if (rc == WEIR_OK) {
        failed = file->ops->sync(file);
        if (failed == 0 && strcmp(ending, "log") == 0 && WEIR_FAULT(http_log_rotate)) {
            failed = -EIO;
        }
        failed = failed == 0 ? log->files->ops->rename(log->files, temporary, path) : failed;
        rc = failed == 0
                 ? weir_files_sync_directory(log->files, log->path, err)
                 : weir_error_system(err, failed == -ENOSPC ? WEIR_E_ENVIRONMENT : WEIR_E_IO,
                                     -failed, "%s", path);
    }
    if (rc != WEIR_OK || keep == NULL) {
        file->ops->close(file);
    } else {
        *keep = file;
    }
    return rc;
}

int http_segment_create(struct weir_http_log *log, uint64_t first, int64_t time_us,
                        struct weir_error *err) {
    uint8_t opening[HTTP_OPENING_BYTES];
    struct weir_file *file = NULL;
    http_opening_encode(log, first, time_us, opening);
    int rc = publish(log, first, "log", opening, sizeof(opening), NULL, 0, &file, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    pthread_mutex_lock(&log->lock);
    rc = add_segment(log, &(struct http_segment){first, first, HTTP_OPENING_BYTES, time_us}, err);
    pthread_mutex_unlock(&log->lock);
    if (rc != WEIR_OK) {
        file->ops->close(file);
        return rc;
    }
    if (log->file != NULL) {
        log->file->ops->close(log->file);
    }
    log->file = file;
    return WEIR_OK;
}

/* Keys of a segment that goes, where some are still remembered. */
static int keep_keys(struct weir_http_log *log, const struct http_segment *segment, int64_t now_us,
                     struct weir_error *err) {
    size_t count = 0;
    int64_t newest_us = 0;
    pthread_mutex_lock(&log->lock);
    struct http_key *kept = malloc((log->keys.used + 1) * sizeof(*kept));
    for (uint64_t i = 0; kept != NULL && i < log->keys.capacity; i++) {
        const struct http_key *key = &log->keys.slots[i];
        if ((key->hash[0] | key->hash[1]) != 0 && key->first >= segment->first &&
            key->first < segment->end && now_us - key->time_us < log->keys.remember_us) {
            kept[count++] = *key;
            newest_us = key->time_us > newest_us ? key->time_us : newest_us;
        }
    }
    pthread_mutex_unlock(&log->lock);
    if (kept == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", log->path);
    }
    int rc = WEIR_OK;
    if (count > 0) {
        uint8_t head[HTTP_KEYS_HEADER_BYTES];
        memcpy(head, keys_magic, 8);
        http_store32(head + 8, FORMAT);
        http_store32(head + 12, (uint32_t)count);
        http_store64(head + 16, XXH3_64bits(kept, count * sizeof(*kept)));
        http_store64(head + 24, (uint64_t)newest_us);
        rc = publish(log, segment->first, "keys", head, sizeof(head), kept, count * sizeof(*kept),
                     NULL, err);
        if (rc == WEIR_OK && add_keys_file(log, segment->first, newest_us) != WEIR_OK) {
            rc = weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", log->path);
        }
    }
    free(kept);
    return rc;
}

static int unlink_file(struct weir_http_log *log, uint64_t first, const char *ending,
                       struct weir_error *err) {
    char path[4096];
    http_segment_path(log, first, ending, path);
    int failed = log->files->ops->unlink(log->files, path);
    return failed == 0 || failed == -ENOENT
               ? WEIR_OK
               : weir_error_system(err, WEIR_E_IO, -failed, "remove %s", path);
}

static bool oldest_to_go(struct weir_http_log *log, int64_t now_us, struct http_segment *out) {
    pthread_mutex_lock(&log->lock);
    bool go = log->segment_count > 1 && log->segments[0].end <= log->committed &&
              now_us - log->segments[0].newest_us >= log->options.keep_us;
    *out = log->segments[0];
    pthread_mutex_unlock(&log->lock);
    return go;
}

int http_log_trim(struct weir_http_log *log, int64_t now_us, struct weir_error *err) {
    struct http_segment oldest;
    int rc = WEIR_OK;
    while (rc == WEIR_OK && oldest_to_go(log, now_us, &oldest)) {
        rc = log->keys.remember_us > 0 ? keep_keys(log, &oldest, now_us, err) : WEIR_OK;
        if (rc == WEIR_OK && WEIR_FAULT(http_log_trim)) {
            rc = weir_error_set(err, WEIR_E_FAULT, "injected at http_log_trim");
        }
        if (rc == WEIR_OK) {
            rc = unlink_file(log, oldest.first, "log", err);
        }
        if (rc == WEIR_OK) {
            pthread_mutex_lock(&log->lock);
            memmove(log->segments, log->segments + 1,
                    (size_t)--log->segment_count * sizeof(*log->segments));
            pthread_mutex_unlock(&log->lock);
        }
    }
    for (int32_t i = 0; rc == WEIR_OK && i < log->keys_file_count; i++) {
        struct http_keys_file *file = &log->keys_files[i];
        if (now_us - file->newest_us >= log->keys.remember_us) {
            rc = unlink_file(log, file->first, "keys", err);
            *file = log->keys_files[--log->keys_file_count];
            i--;
        }
    }
    return rc;
}
