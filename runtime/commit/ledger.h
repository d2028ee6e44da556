#pragma once
/* Ledger: the redo log of effects, and the only commit point. One vtable, so that a ledger in an
 * object store can follow; here the one on a local directory.
 *
 *   <path>/lock                        flock'ed while open, holds the owner's pid as text
 *   <path>/lineage                     identity, 4096 bytes, published once by rename
 *   <path>/<first record, 20 digits>.seg   append-only segments
 *
 * All integers little-endian. A hash is XXH3-128 as two u64, low half first.
 *   lineage, and the header of a segment (each 4096 bytes, rest zero):
 *      0 magic 8 "WEIRLINE" / "WEIRSEGM"   8 u32 format   12 u32 min reader   16 u64 required
 * features 24 lineage 16    40 log 16    56 u32 shard count   60 u32 zero 64 u64 first record
 * (lineage: 0)   72 i64 time_us   80 previous frame's hash 16 (segment) 4080 hash 16 over bytes
 * 0..4079 frame, begins at a multiple of 4096, so that no later write touches a synced block: 0 u32
 * magic 0x4d465257 "WRFM"   4 u32 flags (0)   8 u64 record   16 u64 payload bytes 24 i64 time_us 32
 * u64 nonce of the writing incarnation   40 log 16 56 previous frame's hash 16      72 hash 16 over
 * bytes 0..71 and the payload 88 payload, zero padded to the next multiple of 4096
 *
 * Records are numbered 1, 2, 3 … across segments. Space behind the last frame is zero (filled
 * ahead, because a sync that changes no metadata takes 2/3 of the time). A frame that does not
 * verify is a *torn tail* only when no frame header of this log with a higher number follows, in
 * this segment or a later one; otherwise the ledger is corrupt and is not opened. Since a record
 * is written only after its predecessor was synced, at most the last one can be torn.
 *
 * Opening rewrites the last record with its own bytes and syncs: after a failed fsync the kernel
 * may call pages clean that never reached the disk.
 *
 * One thread at a time (the committer); readers in other threads or processes open read-only. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/error.h"
#include "core/file.h"

#define WEIR_LEDGER_FORMAT 1u
#define WEIR_LEDGER_ID_BYTES 16
#define WEIR_LEDGER_BLOCK_BYTES 4096u

struct weir_hash128 {
    uint64_t low;
    uint64_t high;
};

struct weir_ledger_identity {
    uint8_t lineage[WEIR_LEDGER_ID_BYTES]; /* everything durable is keyed by it */
    uint8_t log[WEIR_LEDGER_ID_BYTES];     /* one writer's numbered sequence of records */
    uint32_t shard_count;
    int64_t created_us;
};

struct weir_ledger;

struct weir_ledger_frame { /* a record as read back; payload borrowed until the next read */
    uint64_t number;
    int64_t time_us;
    uint64_t nonce;
    const void *payload;
    size_t size;
    struct weir_hash128 hash;
};

struct weir_ledger_cursor { /* an implementation embeds it first */
    const struct weir_ledger_ops *ops;
};

struct weir_ledger_ops {
    /* Writes record `number` (= last + 1) and returns once it is durable. Committer thread, may
     * block, not idempotent: after any failure the ledger refuses everything but close, because
     * the bytes may or may not be there; reopening decides. */
    int (*append)(struct weir_ledger *ledger, uint64_t number, int64_t time_us,
                  const struct iovec *parts, int count, struct weir_error *err);
    /* Prepares for the next append (space, next segment) while nobody waits. Same thread. */
    int (*prepare)(struct weir_ledger *ledger, struct weir_error *err);
    /* Forgets records below `keep_from` as far as whole segments allow. Same thread, idempotent;
     * failing leaves the ledger usable. */
    int (*trim)(struct weir_ledger *ledger, uint64_t keep_from, int64_t keep_since_us,
                struct weir_error *err);
    int (*cursor_open)(struct weir_ledger *ledger, uint64_t from, struct weir_ledger_cursor **out,
                       struct weir_error *err);
    int (*cursor_next)(struct weir_ledger_cursor *cursor, struct weir_ledger_frame *out, bool *end,
                       struct weir_error *err);
    void (*cursor_close)(struct weir_ledger_cursor *cursor);
    void (*close)(struct weir_ledger *ledger);
};

struct weir_ledger_stats {
    uint64_t appends;
    uint64_t payload_bytes;
    uint64_t record_syncs; /* exactly one an append */
    uint64_t other_syncs;  /* segments, directories, preparation */
    uint64_t segments;     /* on disk now */
    uint64_t stored_bytes; /* on disk now, zero-filled space included */
    uint64_t torn_bytes;   /* cut off when it was opened */
};

struct weir_ledger {
    const struct weir_ledger_ops *ops;
    struct weir_ledger_identity identity;
    uint64_t first; /* oldest record held, last + 1 when there is none */
    uint64_t last;  /* newest durable record, 0 = none ever */
    uint64_t max_record_bytes;
    struct weir_ledger_stats stats;
    bool failed;
    struct weir_error failure;
};

struct weir_ledger_options {
    const char *path;          /* directory */
    struct weir_files *files;  /* NULL = the operating system's */
    bool create;               /* make it when it does not exist */
    bool read_only;            /* no lock, no repair: a torn tail is left and not read */
    uint64_t segment_bytes;    /* rotate when reached; 0 = 64 MiB */
    uint64_t fill_bytes;       /* zero-filled ahead; 0 = 4 MiB, at most a segment */
    uint64_t max_record_bytes; /* 0 = 2 GiB */
    int64_t now_us;            /* recorded clock, for the identity when created */
};

/* WEIR_E_LOCKED names the holder's pid; WEIR_E_CORRUPT file and offset; WEIR_E_VERSION a newer
 * format; WEIR_E_NOTFOUND when absent and !create. */
int weir_ledger_open(const struct weir_ledger_options *options, struct weir_ledger **out,
                     struct weir_error *err) WEIR_MUST_CHECK;
void weir_ledger_close(struct weir_ledger *ledger);

int weir_ledger_append(struct weir_ledger *ledger, uint64_t number, int64_t time_us,
                       const struct iovec *parts, int count,
                       struct weir_error *err) WEIR_MUST_CHECK;
int weir_ledger_prepare(struct weir_ledger *ledger, struct weir_error *err) WEIR_MUST_CHECK;
/* keep_from: lowest record still needed = min over sinks of marker + 1 and begin of the oldest
 * kept snapshot; keep_since_us: records not older than this stay too (recorded clock - keep). */
int weir_ledger_trim(struct weir_ledger *ledger, uint64_t keep_from, int64_t keep_since_us,
                     struct weir_error *err) WEIR_MUST_CHECK;

/* Reads from record `from` (>= first, else WEIR_E_NOTFOUND) to the last one durable when the
 * cursor was opened, checking hashes and chain. */
int weir_ledger_cursor_open(struct weir_ledger *ledger, uint64_t from,
                            struct weir_ledger_cursor **out,
                            struct weir_error *err) WEIR_MUST_CHECK;
int weir_ledger_cursor_next(struct weir_ledger_cursor *cursor, struct weir_ledger_frame *out,
                            bool *end, struct weir_error *err) WEIR_MUST_CHECK;
void weir_ledger_cursor_close(struct weir_ledger_cursor *cursor);

void weir_id_format(const uint8_t id[WEIR_LEDGER_ID_BYTES], char text[33]);

/* `weir dump`: JSON lines for a lineage, segment or snapshot file, or a directory of them; `line`
 * is called with each (no newline), stops on a nonzero answer and returns it. Damage is printed
 * as a line with "error" and the dump goes on where it can. */
int weir_ledger_dump(const char *path, int (*line)(void *context, const char *json), void *context,
                     struct weir_error *err) WEIR_MUST_CHECK;
