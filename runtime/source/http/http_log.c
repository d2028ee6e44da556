/* The log at work: many append, one thread writes what has gathered with one write and one sync,
 * one reads back. While a group is synced the next gathers, so the more requests come the more
 * share a sync. A group that finds no room on the disk is taken back whole and refused; after a
 * sync that failed nobody knows what is on the disk, so the log refuses everything until it is
 * opened anew. */
#include "source/http/http_log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

#include "core/clock.h"
#include "core/fault.h"
#include "core/log.h"
#include "core/thread.h"
#include "source/http/http_log_internal.h"

enum { TRIM_EVERY_MS = 1000 };

#define SEGMENT_BYTES ((uint64_t)64 << 20)
#define UNREAD_MAX ((uint64_t)256 << 20)
#define PENDING_MAX ((size_t)128 << 20)
#define KEYS_MAX ((uint64_t)4 << 20)

/* --- appending ---------------------------------------------------------------------------- */

static void hash_key(const struct weir_http_log *log, const struct weir_http_append *append,
                     uint64_t out[2]) {
    XXH128_hash_t hash = XXH3_128bits_withSeed(append->key, append->key_size, log->seed);
    out[0] = hash.low64 | 1; /* never the empty slot's */
    out[1] = hash.high64;
}

static uint64_t unread(const struct weir_http_log *log) {
    return log->stored_unread + log->writing_bytes + log->pending.size;
}

/* Room in the group was made already. */
static void put_frame(struct weir_http_log *log, const struct weir_http_append *append,
                      const uint64_t key[2], size_t payload) {
    uint8_t *frame = log->pending.data + log->pending.size;
    memcpy(frame + 8, "WHFR", 4);
    http_store32(frame + 12, (uint32_t)payload);
    http_store64(frame + 16, log->next);
    http_store32(frame + 24, append->count);
    http_store32(frame + 28, log->group - log->group_shift);
    http_store64(frame + 32, (uint64_t)append->time_us);
    http_store64(frame + 40, key[0]);
    http_store64(frame + 48, key[1]);
    http_store64(frame + 56, append->body_hash);
    uint8_t *to = frame + HTTP_FRAME_BYTES;
    for (uint32_t i = 0; i < append->count; i++) {
        http_store32(to, append->events[i].size);
        memcpy(to + 4, append->events[i].bytes, append->events[i].size);
        to += 4 + append->events[i].size;
    }
    http_store64(frame, XXH3_64bits_withSeed(frame + 8, HTTP_FRAME_BYTES - 8 + payload, log->seed));
    log->pending.size += HTTP_FRAME_BYTES + payload;
}

static int repeat(const struct weir_http_log *log, const struct http_key *known,
                  const struct weir_http_append *append, struct weir_http_ticket *ticket,
                  struct weir_error *err) {
    if (known->body_hash != append->body_hash) {
        return weir_error_set(err, WEIR_E_CONFLICT,
                              "this idempotency key came before with another body");
    }
    ticket->first = known->first;
    ticket->count = known->count;
    ticket->repeated = true;
    ticket->durable = known->first < log->durable;
    /* Not durable: in the group being written, or in the pending one. */
    bool writing = known->first < log->writing_end;
    ticket->group = writing ? log->group - 1 : log->group;
    return WEIR_OK;
}

static int append_locked(struct weir_http_log *log, const struct weir_http_append *append,
                         size_t payload, const uint64_t key[2], struct weir_http_ticket *ticket,
                         struct weir_error *err) {
    if (log->broken) {
        return weir_error_set(err, WEIR_E_CLOSED, "the log takes nothing more: %s", log->why);
    }
    const struct http_key *known =
        key[0] != 0 ? http_keys_find(&log->keys, key, append->time_us) : NULL;
    if (known != NULL) {
        return repeat(log, known, append, ticket, err);
    }
    if (unread(log) > 0 && unread(log) + payload > log->options.unread_max) {
        return weir_error_set(err, WEIR_E_LIMIT,
                              "%" PRIu64 " MB wait to be read; the pipeline is behind",
                              unread(log) >> 20);
    }
    if (weir_buffer_reserve(&log->pending, HTTP_FRAME_BYTES + payload) != WEIR_OK) {
        return weir_error_set(err, WEIR_E_LIMIT, "too much waits to be written");
    }
    struct http_key entry = {.hash = {key[0], key[1]},
                             .first = log->next,
                             .body_hash = append->body_hash,
                             .time_us = append->time_us,
                             .count = append->count};
    if (key[0] != 0 && !http_keys_put(&log->keys, &entry, append->time_us)) {
        return weir_error_set(err, WEIR_E_ENVIRONMENT,
                              "%" PRIu64 " idempotency keys are remembered, the most there may be",
                              log->keys.used);
    }
    put_frame(log, append, key, payload);
    *ticket = (struct weir_http_ticket){log->next, append->count, log->group, false, false};
    log->next += append->count;
    log->pending_time = append->time_us > log->pending_time ? append->time_us : log->pending_time;
    pthread_cond_signal(&log->work);
    return WEIR_OK;
}

int weir_http_log_append(struct weir_http_log *log, const struct weir_http_append *append,
                         struct weir_http_ticket *ticket, struct weir_error *err) {
    uint64_t key[2] = {0, 0};
    size_t payload = 0;
    for (uint32_t i = 0; i < append->count; i++) {
        payload += 4 + (size_t)append->events[i].size;
    }
    *ticket = (struct weir_http_ticket){0};
    if (append->count == 0 || payload > HTTP_FRAME_PAYLOAD_MAX) {
        return weir_error_set(err, WEIR_E_BUG, "a request of %u events, %zu bytes", append->count,
                              payload);
    }
    if (append->key != NULL && log->keys.remember_us > 0) {
        hash_key(log, append, key);
    }
    pthread_mutex_lock(&log->lock);
    int rc = append_locked(log, append, payload, key, ticket, err);
    pthread_mutex_unlock(&log->lock);
    return rc;
}

void weir_http_log_listen(struct weir_http_log *log, weir_http_settled *settled, void *context) {
    pthread_mutex_lock(&log->lock);
    log->settled = settled;
    log->settled_context = context;
    while (settled == NULL && log->telling) {
        pthread_cond_wait(&log->quiet, &log->lock);
    }
    pthread_mutex_unlock(&log->lock);
}

/* --- the log's thread --------------------------------------------------------------------- */

static void tell(struct weir_http_log *log, uint32_t group, int code, const char *why) {
    pthread_mutex_lock(&log->lock);
    weir_http_settled *settled = log->settled;
    void *context = log->settled_context;
    log->telling = settled != NULL;
    pthread_mutex_unlock(&log->lock);
    if (settled != NULL) {
        settled(context, group, code, why);
        pthread_mutex_lock(&log->lock);
        log->telling = false;
        pthread_cond_broadcast(&log->quiet);
        pthread_mutex_unlock(&log->lock);
    }
}

/* The group is in log->writing. *unknown: what is on the disk now is anyone's guess. */
static int write_group(struct weir_http_log *log, uint64_t first, bool *unknown,
                       struct weir_error *err) {
    struct http_segment *segment = &log->segments[log->segment_count - 1];
    int rc = WEIR_OK;
    if (segment->bytes > HTTP_OPENING_BYTES &&
        segment->bytes + log->writing.size > log->options.segment_bytes) {
        rc = http_segment_create(log, first, weir_clock_wall_us(), err);
        segment = &log->segments[log->segment_count - 1];
    }
    if (rc == WEIR_OK && WEIR_FAULT(http_log_before_write)) {
        rc = weir_error_set(err, WEIR_E_FAULT, "injected at http_log_before_write");
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    size_t half = log->writing.size / 2;
    struct iovec parts[] = {{log->writing.data, half},
                            {log->writing.data + half, log->writing.size - half}};
    rc = weir_file_write_all(log->file, parts, 1, segment->bytes, log->path, err);
    if (rc == WEIR_OK && WEIR_FAULT(http_log_torn_write)) {
        rc = weir_error_set(err, WEIR_E_FAULT, "injected at http_log_torn_write");
    }
    if (rc == WEIR_OK) {
        rc = weir_file_write_all(log->file, parts + 1, 1, segment->bytes + half, log->path, err);
    }
    if (rc != WEIR_OK) { /* taken back: what comes next is written in its place */
        *unknown = log->file->ops->truncate(log->file, segment->bytes) != 0;
        return rc;
    }
    int failed = WEIR_FAULT(http_log_before_sync) ? -EIO : log->file->ops->sync(log->file);
    if (failed != 0) {
        *unknown = true;
        return weir_error_system(err, WEIR_E_IO, -failed, "sync %s", log->path);
    }
    (void)WEIR_FAULT(http_log_after_sync);
    return WEIR_OK;
}

/* What was appended and is not on the disk never was. */
static void take_back(struct weir_http_log *log, bool unknown, const struct weir_error *err) {
    weir_buffer_clear(&log->pending);
    http_keys_forget(&log->keys, log->durable);
    log->next = log->writing_end = log->durable;
    log->group_shift += 2;
    log->group++;
    if (unknown) {
        log->broken = true;
        snprintf(log->why, sizeof(log->why), "%s", err->message);
    }
}

static void settle(struct weir_http_log *log, uint32_t group, int64_t time_us) {
    bool unknown = false;
    struct weir_error err = {0};
    int64_t start = weir_clock_mono_ns();
    int rc = write_group(log, log->durable, &unknown, &err);
    int64_t took_us = (weir_clock_mono_ns() - start) / 1000;
    pthread_mutex_lock(&log->lock);
    struct http_segment *segment = &log->segments[log->segment_count - 1];
    if (rc == WEIR_OK) {
        log->events += log->writing_end - log->durable;
        log->durable = log->writing_end;
        segment->end = log->durable;
        segment->bytes += log->writing.size;
        segment->newest_us = time_us > segment->newest_us ? time_us : segment->newest_us;
        log->stored_unread += log->writing.size;
        log->groups++;
        log->sync_max_us = took_us > log->sync_max_us ? took_us : log->sync_max_us;
    } else {
        take_back(log, unknown, &err);
    }
    log->writing_bytes = 0;
    pthread_mutex_unlock(&log->lock);
    if (rc == WEIR_OK) {
        weir_signal_raise(&log->signal);
    } else {
        weir_log_error("source", "%s%s", err.message,
                       unknown ? "; the log of requests takes nothing more" : "");
    }
    tell(log, group, rc, err.message);
    if (rc != WEIR_OK) {
        tell(log, group + 1, rc, err.message); /* what had gathered behind it */
    }
}

static void trim(struct weir_http_log *log) {
    struct weir_error err = {0};
    if (http_log_trim(log, weir_clock_wall_us(), &err) != WEIR_OK) {
        weir_log_warn("source", "trimming the log of requests: %s", err.message);
    }
}

static void *run(void *argument) {
    struct weir_http_log *log = argument;
    weir_thread_name("http-log", -1);
    int64_t trimmed_ns = weir_clock_mono_ns();
    pthread_mutex_lock(&log->lock);
    while (!log->stopping || log->pending.size > 0) {
        if (log->pending.size == 0) {
            struct timespec until;
            clock_gettime(CLOCK_MONOTONIC, &until);
            until.tv_sec += TRIM_EVERY_MS / 1000;
            pthread_cond_timedwait(&log->work, &log->lock, &until);
        }
        if (log->pending.size > 0) {
            struct weir_buffer spare = log->writing;
            log->writing = log->pending;
            log->pending = spare;
            weir_buffer_clear(&log->pending);
            log->writing_bytes = log->writing.size;
            log->writing_end = log->next;
            uint32_t group = log->group++;
            int64_t time_us = log->pending_time;
            pthread_mutex_unlock(&log->lock);
            settle(log, group, time_us);
            pthread_mutex_lock(&log->lock);
        }
        if (weir_clock_mono_ns() - trimmed_ns >= TRIM_EVERY_MS * INT64_C(1000000)) {
            trimmed_ns = weir_clock_mono_ns();
            pthread_mutex_unlock(&log->lock);
            trim(log);
            pthread_mutex_lock(&log->lock);
        }
    }
    pthread_mutex_unlock(&log->lock);
    return NULL;
}

/* --- reading ------------------------------------------------------------------------------ */

/* Bytes behind the reader, counted once when it begins. */
static void count_unread(struct weir_http_log *log) {
    uint64_t bytes = 0;
    for (int32_t i = 0; i < log->segment_count; i++) {
        const struct http_segment *segment = &log->segments[i];
        if (segment->first > log->view_first) {
            bytes += segment->bytes - HTTP_OPENING_BYTES;
        } else if (segment->first == log->view_first) {
            bytes += segment->bytes - log->view_offset;
        }
    }
    log->stored_unread = bytes;
}

/* The segment that holds `number`, or begins with it; NULL when none does. */
static const struct http_segment *segment_of(const struct weir_http_log *log, uint64_t number) {
    for (int32_t i = log->segment_count; i-- > 0;) {
        if (log->segments[i].first <= number) {
            return &log->segments[i];
        }
    }
    return NULL;
}

int weir_http_log_seek(struct weir_http_log *log, uint64_t number, struct weir_error *err) {
    pthread_mutex_lock(&log->lock);
    uint64_t oldest = log->segment_count > 0 ? log->segments[0].first : 1;
    number = number == 0 ? oldest : number;
    const struct http_segment *found = segment_of(log, number);
    struct http_segment segment = found != NULL ? *found : (struct http_segment){.first = 0};
    bool beyond = number > log->durable;
    pthread_mutex_unlock(&log->lock);
    log->read_next = number;
    log->view_first = 0;
    log->frame_bytes = 0;
    if (number < oldest || beyond) {
        return weir_error_set(err, WEIR_E_NOTFOUND,
                              "%s holds events %" PRIu64 " to %" PRIu64 ", not %" PRIu64, log->path,
                              oldest, weir_http_log_end(log) - 1, number);
    }
    if (found == NULL) { /* read-only, and there is none yet */
        return WEIR_OK;
    }
    int rc = http_view_open(log, &log->view, segment.first, err);
    log->view_first = segment.first;
    log->view_offset = HTTP_OPENING_BYTES;
    log->read_next = segment.first;
    while (rc == WEIR_OK && log->view_offset < segment.bytes) {
        struct http_frame frame;
        bool good;
        rc = http_view_frame(log, &log->view, log->view_offset, segment.bytes, log->read_next,
                             &frame, &good, err);
        if (rc == WEIR_OK && !good) {
            rc = weir_error_set(err, WEIR_E_CORRUPT,
                                "%s: segment %" PRIu64 " is damaged at byte "
                                "%" PRIu64,
                                log->path, segment.first, log->view_offset);
        }
        if (rc == WEIR_OK && frame.first + frame.count > number) {
            break;
        }
        if (rc == WEIR_OK) {
            log->view_offset += HTTP_FRAME_BYTES + frame.payload_size;
            log->read_next += frame.count;
        }
    }
    pthread_mutex_lock(&log->lock);
    count_unread(log);
    pthread_mutex_unlock(&log->lock);
    return rc;
}

/* *limit: durable bytes of the segment in view; moves on to the next one at its end. */
static int look(struct weir_http_log *log, uint64_t *limit, bool *more, struct weir_error *err) {
    pthread_mutex_lock(&log->lock);
    *more = log->read_next < log->durable;
    bool broken = log->broken;
    uint64_t next_first = 0;
    for (int32_t i = 0; *more && i < log->segment_count; i++) {
        const struct http_segment *segment = &log->segments[i];
        if (segment->first == log->view_first && log->read_next < segment->end) {
            *limit = segment->bytes;
            next_first = 0;
            break;
        }
        if (segment->first == log->read_next && segment->end > segment->first) {
            next_first = segment->first;
            *limit = segment->bytes;
        }
    }
    if (broken && !*more) {
        int rc = weir_error_set(err, WEIR_E_IO, "%s", log->why);
        pthread_mutex_unlock(&log->lock);
        return rc;
    }
    pthread_mutex_unlock(&log->lock);
    if (next_first == 0) {
        return WEIR_OK;
    }
    int rc = http_view_open(log, &log->view, next_first, err);
    log->view_first = next_first;
    log->view_offset = HTTP_OPENING_BYTES;
    return rc;
}

int weir_http_log_read(struct weir_http_log *log, struct weir_http_frame *out,
                       struct weir_error *err) {
    uint64_t limit = 0;
    bool more;
    bool good;
    struct http_frame frame;
    *out = (struct weir_http_frame){0};
    int rc = look(log, &limit, &more, err);
    if (rc != WEIR_OK || !more) {
        return rc;
    }
    rc = http_view_frame(log, &log->view, log->view_offset, limit, log->read_next, &frame, &good,
                         err);
    if (rc == WEIR_OK && !good) {
        rc = weir_error_set(err, WEIR_E_CORRUPT,
                            "%s: segment %" PRIu64 " is damaged at byte %" PRIu64, log->path,
                            log->view_first, log->view_offset);
    }
    if (rc == WEIR_OK) {
        log->frame_bytes = HTTP_FRAME_BYTES + frame.payload_size;
        log->read_after = frame.first + frame.count;
        *out = (struct weir_http_frame){frame.first, frame.count, frame.time_us,
                                        frame.bytes + HTTP_FRAME_BYTES, frame.payload_size};
    }
    return rc;
}

void weir_http_log_done(struct weir_http_log *log) {
    if (log->frame_bytes == 0) {
        return;
    }
    log->view_offset += log->frame_bytes;
    log->read_next = log->read_after;
    pthread_mutex_lock(&log->lock);
    log->stored_unread -=
        log->frame_bytes < log->stored_unread ? log->frame_bytes : log->stored_unread;
    pthread_mutex_unlock(&log->lock);
    log->frame_bytes = 0;
}

struct weir_signal *weir_http_log_signal(struct weir_http_log *log) {
    return &log->signal;
}

/* --- life, figures ------------------------------------------------------------------------ */

int weir_http_log_open(struct weir_http_log **out, const struct weir_http_log_options *options,
                       struct weir_error *err) {
    struct weir_http_log *log = calloc(1, sizeof(*log));
    *out = NULL;
    if (log == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    log->options = *options;
    log->options.segment_bytes =
        options->segment_bytes != 0 ? options->segment_bytes : SEGMENT_BYTES;
    log->options.unread_max = options->unread_max != 0 ? options->unread_max : UNREAD_MAX;
    log->files = options->files != NULL ? options->files : weir_files_system();
    log->keys.max = options->keys_max != 0 ? options->keys_max : KEYS_MAX;
    log->keys.remember_us = options->remember_us;
    log->path = strdup(options->path);
    weir_buffer_init(&log->pending, PENDING_MAX);
    weir_buffer_init(&log->writing, PENDING_MAX);
    pthread_mutex_init(&log->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&log->work, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_cond_init(&log->quiet, NULL);
    int rc = log->path == NULL ? weir_error_set(err, WEIR_E_NOMEM, "out of memory")
                               : weir_signal_init(&log->signal, err);
    log->has_signal = rc == WEIR_OK;
    if (rc == WEIR_OK) {
        rc = http_log_recover(log, err);
    }
    if (rc == WEIR_OK && !options->read_only) {
        int failed = weir_thread_start(&log->thread, run, log);
        log->running = failed == 0;
        rc = failed == 0
                 ? WEIR_OK
                 : weir_error_system(err, WEIR_E_ENVIRONMENT, failed, "cannot start a thread");
    }
    if (rc != WEIR_OK) {
        weir_http_log_close(log);
        return rc;
    }
    *out = log;
    return WEIR_OK;
}

void weir_http_log_close(struct weir_http_log *log) {
    if (log == NULL) {
        return;
    }
    if (log->running) {
        pthread_mutex_lock(&log->lock);
        log->stopping = true;
        pthread_cond_signal(&log->work);
        pthread_mutex_unlock(&log->lock);
        pthread_join(log->thread, NULL);
    }
    http_view_close(&log->view);
    if (log->file != NULL) {
        log->file->ops->close(log->file);
    }
    if (log->has_signal) {
        weir_signal_fini(&log->signal);
    }
    http_keys_fini(&log->keys);
    weir_buffer_fini(&log->pending);
    weir_buffer_fini(&log->writing);
    pthread_cond_destroy(&log->work);
    pthread_cond_destroy(&log->quiet);
    pthread_mutex_destroy(&log->lock);
    free(log->segments);
    free(log->keys_files);
    free(log->path);
    free(log);
}

void weir_http_log_committed(struct weir_http_log *log, uint64_t number) {
    pthread_mutex_lock(&log->lock);
    log->committed = number > log->committed ? number : log->committed;
    pthread_mutex_unlock(&log->lock);
}

uint64_t weir_http_log_end(struct weir_http_log *log) {
    pthread_mutex_lock(&log->lock);
    uint64_t end = log->durable;
    pthread_mutex_unlock(&log->lock);
    return end;
}

uint64_t weir_http_log_first(struct weir_http_log *log) {
    pthread_mutex_lock(&log->lock);
    uint64_t first = log->segment_count > 0 ? log->segments[0].first : 1;
    pthread_mutex_unlock(&log->lock);
    return first;
}

const uint8_t *weir_http_log_id(const struct weir_http_log *log) {
    return log->id;
}

void weir_http_log_figures(struct weir_http_log *log, struct weir_http_log_figures *out) {
    pthread_mutex_lock(&log->lock);
    *out = (struct weir_http_log_figures){.unread_bytes = unread(log),
                                          .keys = log->keys.used,
                                          .groups = log->groups,
                                          .events = log->events,
                                          .sync_max_us = log->sync_max_us};
    for (int32_t i = 0; i < log->segment_count; i++) {
        out->kept_bytes += log->segments[i].bytes;
    }
    pthread_mutex_unlock(&log->lock);
}
