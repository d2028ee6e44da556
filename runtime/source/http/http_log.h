#pragma once
/* What came in by HTTP, kept: a source that cannot be read again is a numbered log beside the
 * ledger. Events are appended by the door (any thread), written and synced in groups by the log's
 * own thread, and read back like a file. An event is acknowledged once its group is synced.
 *
 * A folder of segments `<first number, 20 digits>.log`, little-endian:
 *
 *   opening   0 "WEIRHTTP"  8 u32 format (1)  12 u32 least reader (1)  16 u32 required features
 *            20 u32 group of its first frame
 *            24 log id, 16 random bytes  40 u64 first event  48 i64 time_us
 *            56 u64 XXH3-64 of bytes 0..55
 *   frame     0 u64 XXH3-64 of the frame's bytes from 8 on, seed: the log id's first 8 bytes
 *             8 "WHFR"  12 u32 payload bytes  16 u64 first event  24 u32 events  28 u32 group
 *            32 i64 time_us  40 idempotency key as XXH3-128 seeded likewise (0: none)
 *            56 u64 XXH3-64 of the request's body
 *            64 payload: u32 size and the bytes, once an event
 *
 * One frame a request: all its events are there or none. A frame that does not verify is a torn
 * tail when nothing of a later group follows it, and is cut off; else the log is damaged. Keys of
 * segments already trimmed live on in `<first number>.keys` for as long as they are remembered:
 *
 *   keys      0 "WEIRKEYS"  8 u32 format  12 u32 entries  16 u64 XXH3-64 of the entries
 *            24 i64 newest time_us  32 entries of 48 bytes: key, u64 first event, u64 body hash,
 *               i64 time_us, u32 events, u32 0 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/file.h"
#include "core/signal.h"

struct weir_http_log;

struct weir_http_log_options {
    const char *path;         /* the folder; made where it is missing */
    struct weir_files *files; /* NULL: the system's */
    bool read_only;           /* nothing is repaired or written; no thread */
    uint64_t segment_bytes;   /* 0: 64 MB */
    int64_t keep_us;          /* segments whose events are committed are kept that long */
    int64_t remember_us;      /* idempotency keys; 0: none are */
    uint64_t keys_max;        /* 0: 4 million (200 MB) */
    uint64_t unread_max;      /* bytes not read back yet; 0: 256 MB */
};

int weir_http_log_open(struct weir_http_log **out, const struct weir_http_log_options *options,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* Writes what is pending, ends the thread. */
void weir_http_log_close(struct weir_http_log *log);

/* --- appending, any thread ---------------------------------------------------------------- */

struct weir_http_event {
    const uint8_t *bytes;
    uint32_t size;
};

struct weir_http_append {
    const struct weir_http_event *events;
    uint32_t count;
    const char *key; /* idempotency key; NULL: none */
    size_t key_size;
    uint64_t body_hash;
    int64_t time_us;
};

struct weir_http_ticket {
    uint64_t first; /* number of the first event */
    uint32_t count;
    uint32_t group; /* settled when the listener hears of it; meaningless when durable */
    bool durable;   /* a repeat of what is durable already */
    bool repeated;
};

/* WEIR_E_LIMIT: too much is not read yet (try again later). WEIR_E_CONFLICT: the key came with
 * another body. WEIR_E_ENVIRONMENT: too many keys remembered, or no memory. WEIR_E_CLOSED: a sync
 * failed; the log takes nothing until it is opened anew. */
int weir_http_log_append(struct weir_http_log *log, const struct weir_http_append *append,
                         struct weir_http_ticket *ticket, struct weir_error *err) WEIR_MUST_CHECK;
/* `settled` hears of every group, in order, on the log's thread: WEIR_OK when it is durable, else
 * nothing of it is kept. Set and unset (NULL) with no append under way; unset waits for a call
 * that is running. */
typedef void weir_http_settled(void *context, uint32_t group, int code, const char *why);
void weir_http_log_listen(struct weir_http_log *log, weir_http_settled *settled, void *context);

/* --- reading, one thread ------------------------------------------------------------------ */

struct weir_http_frame {
    uint64_t first;
    uint32_t count;
    int64_t time_us;
    const uint8_t *payload; /* borrowed until the next call */
    uint32_t payload_size;
};

/* From event `number` on: the frame that holds it comes first, whole. 0: the oldest there is.
 * WEIR_E_NOTFOUND: it is not there any more. */
int weir_http_log_seek(struct weir_http_log *log, uint64_t number,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* The next durable frame; out->count 0 when there is none yet. */
int weir_http_log_read(struct weir_http_log *log, struct weir_http_frame *out,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* The reader is done with the frame it read last: it counts as read. */
void weir_http_log_done(struct weir_http_log *log);
/* Raised when more is durable. */
struct weir_signal *weir_http_log_signal(struct weir_http_log *log);

/* --- any thread --------------------------------------------------------------------------- */

/* Events below `number` are in the ledger. */
void weir_http_log_committed(struct weir_http_log *log, uint64_t number);
uint64_t weir_http_log_end(struct weir_http_log *log);            /* the next durable number */
uint64_t weir_http_log_first(struct weir_http_log *log);          /* the oldest kept */
const uint8_t *weir_http_log_id(const struct weir_http_log *log); /* 16 bytes */

struct weir_http_log_figures {
    uint64_t unread_bytes;
    uint64_t kept_bytes;
    uint64_t keys;
    uint64_t groups; /* synced */
    uint64_t events; /* appended by this process */
    int64_t sync_max_us;
};
void weir_http_log_figures(struct weir_http_log *log, struct weir_http_log_figures *out);
