#pragma once
/* The local ledger's insides, shared by ledger_local.c (open, cursor) and ledger_append.c (write,
 * rotate, trim). Private to the room. */
#include <xxhash.h>

#include "commit/ledger.h"
#include "commit/ledger_format.h"

struct weir_local_segment {
    uint64_t first;
    int64_t time_us; /* no record before it is younger */
    uint64_t stored_bytes;
};

struct weir_ledger_local {
    struct weir_ledger base;
    struct weir_files *files;
    char path[3072];
    bool read_only;
    uint64_t segment_bytes;
    uint64_t fill_bytes;
    uint64_t nonce;
    struct weir_file *lock;
    struct weir_local_segment *segments; /* ascending; the last one is open for writing */
    size_t segment_count;
    size_t segment_capacity;
    struct weir_file *file; /* the last segment; NULL when there is none or read_only */
    char file_path[4096];
    uint64_t offset; /* where the next frame goes */
    uint64_t filled; /* the file's size: zeros from offset on */
    int64_t last_time_us;
    uint64_t last_frame_bytes;
    struct weir_hash128 last_hash;
    XXH3_state_t *hasher;
    struct iovec *iovecs; /* scratch, used up by writes */
    size_t iovec_capacity;
    uint8_t *zeros; /* fill_bytes of them */
};

extern const struct weir_ledger_ops weir_ledger_local_ops;

int weir_local_add_segment(struct weir_ledger_local *ledger, struct weir_local_segment segment,
                           struct weir_error *err);
/* The next record's segment, durable with its directory entry, becomes the open one. */
int weir_local_rotate(struct weir_ledger_local *ledger, struct weir_error *err);
int weir_local_append(struct weir_ledger *base, uint64_t number, int64_t time_us,
                      const struct iovec *parts, int count, struct weir_error *err);
int weir_local_prepare(struct weir_ledger *base, struct weir_error *err);
int weir_local_trim(struct weir_ledger *base, uint64_t keep_from, int64_t keep_since_us,
                    struct weir_error *err);
