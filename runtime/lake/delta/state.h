#pragma once
/* The inside of a snapshot, shared by the files of this directory that build it (log.c), read a
 * checkpoint into it (checkpoint_read.c) and write it out (checkpoint.c). */
#include "lake/delta/packed.h"
#include "lake/delta/schema_json.h"
#include "lake/delta/snapshot.h"

/* An open-addressing set of file entries keyed by (path, deletion vector). Entries are whole
 * allocations: adds, or tombstones. */
struct delta_files {
    struct delta_file_slot {
        uint64_t hash; /* 0: empty */
        void *item;    /* NULL with a hash: deleted */
    } * slots;
    size_t capacity; /* power of two, or 0 */
    size_t live;
    size_t used; /* live and deleted */
};

/* A removed file, kept for checkpoints until it expires. */
struct delta_tombstone {
    int64_t deletion_ms;
    bool data_change;
    struct weir_delta_dv dv;
    const char *path;
};

struct delta_txn {
    char *app_id;
    uint64_t hash;
    int64_t version;
    int64_t last_updated_ms;
};

struct delta_domain {
    char *name;
    char *configuration;
};

struct weir_delta_snapshot {
    struct weir_store *store; /* borrowed */
    char *dir;
    struct weir_store *tier; /* the second one, once a file was read from it (tier.h) */
    char *tier_root;
    int64_t version;
    int64_t timestamp_ms;
    int64_t checkpoint_version;
    int64_t checksum_version; /* whose .crc this writer has seen to */
    int64_t checked_ns;       /* monotonic: when the log was last listed */
    bool has_protocol;
    bool has_metadata;
    struct weir_delta_protocol protocol;
    struct weir_delta_metadata metadata;
    struct weir_schema *schema; /* parsed on demand */
    struct weir_delta_column *columns;
    struct delta_files files;      /* struct weir_delta_add, statistics packed */
    struct delta_files tombstones; /* struct delta_tombstone */
    struct delta_templates templates;
    struct weir_buffer packing; /* scratch */
    int64_t file_bytes;
    struct delta_txn *txns; /* sorted by hash, then app_id */
    int32_t txn_count;
    int32_t txn_capacity;
    struct delta_domain *domains;
    int32_t domain_count;
};

#define DELTA_COMMIT_BYTES_MAX (2048u << 20) /* one commit's JSON */
#define DELTA_TXNS_MAX 10000000
#define DELTA_DOMAINS_MAX 10000

/* Applies single actions; used through a visitor by every reader of the log. */
int delta_apply_protocol(void *snapshot, const struct weir_delta_protocol *protocol,
                         struct weir_error *err);
int delta_apply_metadata(void *snapshot, const struct weir_delta_metadata *metadata,
                         struct weir_error *err);
int delta_apply_add(void *snapshot, const struct weir_delta_add *add, struct weir_error *err);
int delta_apply_remove(void *snapshot, const struct weir_delta_remove *remove,
                       struct weir_error *err);
int delta_apply_txn(void *snapshot, const struct weir_delta_txn *txn, struct weir_error *err);
int delta_apply_domain(void *snapshot, const struct weir_delta_domain *domain,
                       struct weir_error *err);
/* Forgets everything but store and directory. */
void delta_snapshot_reset(struct weir_delta_snapshot *snapshot);
void delta_files_each(const struct delta_files *files, int (*visit)(void *context, void *item),
                      void *context, int *rc);
/* The live file with this one's path and deletion vector, or NULL. Borrowed, and as the snapshot
 * holds it: its statistics are read with delta_snapshot_stats. */
const struct weir_delta_add *delta_snapshot_find(const struct weir_delta_snapshot *snapshot,
                                                 const struct weir_delta_add *add);
/* The statistics of a file the snapshot holds, NUL-terminated in `out` (initialised by the caller);
 * NULL when it has none, or without memory (*rc says). */
const char *delta_snapshot_stats(const struct weir_delta_snapshot *snapshot,
                                 const struct weir_delta_add *held, struct weir_buffer *out,
                                 int *rc);
/* Drops tombstones deleted before `limit_ms`. */
void delta_tombstones_expire(struct weir_delta_snapshot *snapshot, int64_t limit_ms);

/* What a message calls the table: its folder, or where the store lies when that is the table. The
 * text lives in the caller's block. */
struct delta_shown {
    char text[512];
};
const char *delta_shown(struct weir_store *store, const char *dir, struct delta_shown *out);
/* Its whole path or URL. */
const char *delta_described(struct weir_store *store, const char *dir, struct delta_shown *out);
#define DELTA_SHOWN(store, dir) delta_shown(store, dir, &(struct delta_shown){.text = ""})
/* "<dir>/_delta_log/<name>", the caller frees; NULL without memory. */
char *delta_log_path(const char *dir, const char *format, ...) WEIR_PRINTF(2, 3);
/* "<dir>/<path>" with the dir possibly empty. */
char *delta_join(const char *dir, const char *path);
/* Decodes %XX; the caller frees. */
char *delta_uri_decode(const char *text);
/* The store path of a data file, given its path as logged. WEIR_E_UNSUPPORTED for absolute ones
 * outside of the table. The caller frees. */
int delta_file_path(struct weir_store *store, const char *dir, const char *logged, char **out,
                    struct weir_error *err) WEIR_MUST_CHECK;

/* One file of a checkpoint, found by listing. */
struct delta_checkpoint {
    int64_t version;
    int32_t part; /* 1-based; 0: not a multi-part one */
    int32_t parts;
    bool is_json; /* V2 */
    char *name;   /* file name in _delta_log */
};

/* Replays one checkpoint (all its parts or sidecars) into the snapshot, which was reset. */
int delta_checkpoint_read(struct weir_delta_snapshot *snapshot,
                          const struct delta_checkpoint *files, int32_t count,
                          struct weir_error *err) WEIR_MUST_CHECK;

/* The names of the sidecars a V2 checkpoint has; each and the array are the caller's. */
int delta_checkpoint_sidecars(struct weir_store *store, const char *dir,
                              const struct delta_checkpoint *file, char ***names, int32_t *count,
                              struct weir_error *err) WEIR_MUST_CHECK;

/* What a listing of _delta_log found. */
struct delta_listing {
    int64_t *commits;   /* ascending */
    int64_t *commit_ms; /* modification times */
    size_t commit_count;
    size_t commit_capacity;
    struct delta_checkpoint *checkpoints; /* ascending by version */
    size_t checkpoint_count;
    size_t checkpoint_capacity;
};

/* `start_after`: a name in _delta_log, or NULL. */
int delta_list_log(struct weir_store *store, const char *dir, const char *start_after,
                   struct delta_listing *out, struct weir_error *err) WEIR_MUST_CHECK;
void delta_listing_fini(struct delta_listing *listing);
/* "interval 7 days", "interval 1 week 2 hours" → ms; `fallback` when absent or unreadable. */
int64_t delta_interval_ms(const char *text, int64_t fallback);
