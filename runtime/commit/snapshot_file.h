#pragma once
/* What the writing and the reading of snapshots share. Private to the room. */
#include "commit/ledger_format.h"
#include "commit/snapshot.h"

#define WEIR_SLICE_MAGIC 0x4c535257u
#define WEIR_SLICE_HEADER_BYTES 32u
#define WEIR_SLICE_NAME_BYTES 4096u
#define WEIR_TRAILER_BYTES 64u
#define WEIR_MAGIC_SNAPSHOT_END "WEIRSEND"

struct weir_published {
    uint64_t begin; /* UINT64_MAX: its opening is unreadable */
    uint64_t end;
};

struct weir_snapshots {
    struct weir_files *files;
    char path[3072];
    struct weir_ledger_identity identity;
    uint64_t max_slice_bytes;
    uint32_t keep;
    struct weir_published *list; /* by end, ascending */
    size_t count;
};

void weir_snapshot_path(const struct weir_snapshots *snapshots, uint64_t number, const char *suffix,
                        char path[4096]);

static inline uint64_t weir_slice_stored_bytes(uint64_t name_bytes, uint64_t payload_bytes) {
    return (WEIR_SLICE_HEADER_BYTES + name_bytes + payload_bytes + 7) / 8 * 8;
}

/* Opens one file, verified whole, wherever it lies. */
int weir_snapshot_open_file(struct weir_files *files, const char *path,
                            const struct weir_ledger_identity *identity, uint64_t max_slice_bytes,
                            struct weir_snapshot **out, struct weir_error *err);
/* The footer's record. */
struct weir_span weir_snapshot_view_state_bytes(const struct weir_snapshot *snapshot);
