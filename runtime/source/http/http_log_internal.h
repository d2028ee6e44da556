#pragma once
/* Shared by http_log.c (append, sync, read, trim) and http_log_open.c (what is on disk). */
#include <pthread.h>
#include <stdatomic.h>

#include "core/buffer.h"
#include "source/http/http_keys.h"
#include "source/http/http_log.h"

enum {
    HTTP_OPENING_BYTES = 64,
    HTTP_FRAME_BYTES = 64,
    HTTP_KEYS_HEADER_BYTES = 32,
    HTTP_WINDOW_BYTES = 1 << 20,
    HTTP_ID_BYTES = 16,
};
#define HTTP_FRAME_PAYLOAD_MAX (1u << 30)

struct http_segment {
    uint64_t first; /* event */
    uint64_t end;   /* the event after its last durable one */
    uint64_t bytes; /* durable, with the opening */
    int64_t newest_us;
};

struct http_keys_file {
    uint64_t first;
    int64_t newest_us;
};

/* Reads a segment through a window. */
struct http_view {
    struct weir_file *file;
    uint8_t *window;
    size_t capacity;
    size_t size;
    uint64_t at; /* of the window in the file */
};

struct weir_http_log {
    struct weir_http_log_options options;
    char *path;
    struct weir_files *files;
    uint8_t id[HTTP_ID_BYTES];
    uint64_t seed;

    pthread_mutex_t lock; /* all below, but what says otherwise */
    pthread_cond_t work;
    pthread_cond_t quiet; /* the listener's call is over */
    struct http_segment *segments;
    int32_t segment_count;
    int32_t segment_capacity;
    struct http_keys_file *keys_files; /* the log's thread */
    int32_t keys_file_count;
    struct http_keys keys;
    uint64_t next;        /* number of the next event appended */
    uint64_t durable;     /* number after the last durable one */
    int64_t pending_time; /* newest of the pending */
    struct weir_buffer pending;
    uint64_t writing_bytes; /* of the group being written */
    uint64_t writing_end;   /* number after its last event */
    uint32_t group;         /* the pending one's number; wraps */
    uint32_t group_shift;   /* groups that failed: numbers on disk have no gaps */
    bool stopping;
    bool broken; /* a sync failed */
    char why[1024];
    weir_http_settled *settled;
    void *settled_context;
    bool telling;
    uint64_t stored_unread; /* not read yet, on disk */
    uint64_t groups;
    uint64_t events;
    int64_t sync_max_us;
    uint64_t committed;

    pthread_t thread;
    bool running;
    struct weir_file *file; /* the newest segment, for writing; the log's thread */
    struct weir_buffer writing;
    struct weir_signal signal;
    bool has_signal;

    /* the reader's own */
    struct http_view view;
    uint64_t view_first;  /* segment in view; 0: none */
    uint64_t view_offset; /* of the next frame */
    uint64_t read_next;   /* first event of the next frame */
    uint64_t read_after;  /* the number after the frame given last */
    uint32_t frame_bytes; /* of the one given last, not done yet */
};

uint32_t http_load32(const uint8_t *at);
uint64_t http_load64(const uint8_t *at);
void http_store32(uint8_t *at, uint32_t value);
void http_store64(uint8_t *at, uint64_t value);

struct http_frame {
    uint64_t first;
    uint32_t count;
    uint32_t group;
    uint32_t payload_size;
    int64_t time_us;
    uint64_t key[2];
    uint64_t body_hash;
    const uint8_t *bytes; /* whole frame, in the view's window */
};

void http_segment_path(const struct weir_http_log *log, uint64_t first, const char *ending,
                       char out[4096]);
void http_opening_encode(const struct weir_http_log *log, uint64_t first, int64_t time_us,
                         uint8_t out[HTTP_OPENING_BYTES]);
int http_view_open(const struct weir_http_log *log, struct http_view *view, uint64_t first,
                   struct weir_error *err) WEIR_MUST_CHECK;
void http_view_close(struct http_view *view);
/* *good false: no frame that verifies begins at `offset` below `limit`. `number`: its first event,
 * 0 where any will do. */
int http_view_frame(const struct weir_http_log *log, struct http_view *view, uint64_t offset,
                    uint64_t limit, uint64_t number, struct http_frame *out, bool *good,
                    struct weir_error *err) WEIR_MUST_CHECK;
/* Reads the folder: segments, keys, where the log ends; repairs a torn tail. */
int http_log_recover(struct weir_http_log *log, struct weir_error *err) WEIR_MUST_CHECK;
/* A new, empty segment that begins with event `first`; open for writing. */
int http_segment_create(struct weir_http_log *log, uint64_t first, int64_t time_us,
                        struct weir_error *err) WEIR_MUST_CHECK;
/* The log's thread: drops segments that are committed and old, and keys expired. */
int http_log_trim(struct weir_http_log *log, int64_t now_us,
                  struct weir_error *err) WEIR_MUST_CHECK;
