#pragma once
/* Stores: where tables live: a local folder, Azure Blob, S3 (open.h opens any of them by URL). A
 * store is flat: objects named by '/'-separated paths relative to its root, no "..", no leading
 * '/'. What a commit protocol needs is put_if_absent: exactly one of any number of racing writers
 * wins a name, and the winner's bytes are whole and durable when it returns.
 *
 * Durability is explicit: bytes of an open file are durable after weir_store_file_sync, its name
 * after weir_store_sync_dir of its directory. put_if_absent and put do both themselves. A process
 * killed at any instant leaves at most temporary objects (last path segment starts with ".tmp-"),
 * which list never shows and nothing refers to.
 *
 * Threads: a store may be shared; every function may block on the disk or network, and none may be
 * called from the pipeline's loop. A file belongs to one thread at a time. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buffer.h"
#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_store;
struct weir_store_file;

struct weir_store_info {
    int64_t size_bytes;
    int64_t modified_ms; /* milliseconds since epoch */
    bool is_dir;         /* only from weir_store_list_dir */
};

/* Called per object, in byte order of names; `path` is relative to the store's root. A non-zero
 * return stops the listing and becomes its result. */
typedef int weir_store_visit(void *context, const char *path, const struct weir_store_info *info);

enum weir_store_open_mode {
    WEIR_STORE_CREATE, /* a new file; WEIR_E_EXISTS when the name is taken */
    WEIR_STORE_ATOMIC, /* written beside; takes the name, replacing, only at a successful close */
};

struct weir_store_ops {
    const char *name;
    /* Creates `path` with these bytes, durable on return; WEIR_E_CONFLICT when the name is taken
     * (nothing written). Blocks. Not idempotent: after any other error the outcome may be unknown
     * (class RETRY or FATAL); the caller reads the object back to learn whose bytes it holds. */
    int (*put_if_absent)(struct weir_store *store, const char *path, const void *bytes, size_t size,
                         struct weir_error *err);
    /* Creates or replaces whole, durable on return; readers see the old or the new bytes, never a
     * mixture. Blocks; may be repeated. */
    int (*put)(struct weir_store *store, const char *path, const void *bytes, size_t size,
               struct weir_error *err);
    /* Appends `length` bytes from `offset` to `out` (whose cap applies: WEIR_E_LIMIT); length < 0
     * means to the end. WEIR_E_NOTFOUND; fewer bytes than asked is WEIR_E_CORRUPT. Blocks;
     * idempotent. */
    int (*get)(struct weir_store *store, const char *path, int64_t offset, int64_t length,
               struct weir_buffer *out, struct weir_error *err);
    /* WEIR_E_NOTFOUND when there is no such object. Blocks; idempotent. */
    int (*stat)(struct weir_store *store, const char *path, struct weir_store_info *info,
                struct weir_error *err);
    /* Objects directly in directory `dir` ("" is the root; directories too when `dirs`), names
     * beginning with `prefix` and sorting after `start_after` (either may be NULL), sorted. A
     * missing directory lists nothing. Blocks; idempotent. */
    int (*list)(struct weir_store *store, const char *dir, const char *prefix,
                const char *start_after, bool dirs, weir_store_visit *visit, void *context,
                struct weir_error *err);
    /* Removes an object; a missing one is success (so it may be repeated). Blocks. Not durable
     * until sync_dir. */
    int (*remove)(struct weir_store *store, const char *path, struct weir_error *err);
    /* Removes temporary objects in `dir` that nobody has written to for `age_ms`: a killed process
     * left them. A missing directory holds none. NULL: the store leaves none. Blocks; idempotent.
     */
    int (*sweep)(struct weir_store *store, const char *dir, int64_t age_ms, struct weir_error *err);
    /* Makes directory `dir` and its parents exist, durably. Blocks; idempotent. Object stores,
     * which have no directories, do nothing. */
    int (*make_dir)(struct weir_store *store, const char *dir, struct weir_error *err);
    /* Makes the names in `dir` durable. Blocks; idempotent. */
    int (*sync_dir)(struct weir_store *store, const char *dir, struct weir_error *err);
    /* Opens for writing from the start; makes directories as needed. Blocks. */
    int (*open)(struct weir_store *store, const char *path, enum weir_store_open_mode mode,
                struct weir_store_file **out, struct weir_error *err);
    /* Appends; all or an error (after which only close with keep = false makes sense). Blocks. */
    int (*file_write)(struct weir_store_file *file, const void *bytes, size_t size,
                      struct weir_error *err);
    /* All written bytes are durable on return. Blocks; idempotent. Split from write so that the
     * caller counts and groups its syncs. */
    int (*file_sync)(struct weir_store_file *file, struct weir_error *err);
    /* file_sync of several files, whose waits overlap; NULL: one after another. Blocks until all
     * are durable or some failed. */
    int (*files_sync)(struct weir_store_file *const *files, int32_t count, struct weir_error *err);
    /* Frees the file. keep = false removes what was written. */
    int (*file_close)(struct weir_store_file *file, bool keep, struct weir_error *err);
    /* An absolute name a user can open elsewhere, appended to `out` ("/data/lake/silver/x"). */
    int (*describe)(struct weir_store *store, const char *path, struct weir_buffer *out);
    /* From now on `stop` is asked while the store waits for a service to come back; true: give up
     * with WEIR_E_CLOSED. NULL: the store waits for none. */
    void (*set_stop)(struct weir_store *store, bool (*stop)(void *context), void *context);
    void (*destroy)(struct weir_store *store);
};

/* The head of every store; implementations put it first in their own struct. */
struct weir_store {
    const struct weir_store_ops *ops;
    uint64_t sync_count; /* fdatasync and fsync calls so far, atomic; for tests and benches */
};

struct weir_store_file {
    struct weir_store *store;
    int64_t size_bytes; /* written so far */
};

/* A folder, made when absent. Local file systems need hard links and working fsync. */
int weir_store_local_create(const char *root, struct weir_store **out,
                            struct weir_error *err) WEIR_MUST_CHECK;
/* As above, for an existing folder: WEIR_E_NOTFOUND instead of making one (the read commands). */
int weir_store_local_open(const char *root, struct weir_store **out,
                          struct weir_error *err) WEIR_MUST_CHECK;

/* An in-memory store with a disk's bad manners, for crash tests: bytes and names that were not
 * synced are volatile. */
int weir_store_unsynced_create(struct weir_store **out, struct weir_error *err) WEIR_MUST_CHECK;
/* Pulls the plug: of every unsynced write, page by page, and of every unsynced change of a name,
 * the seed decides whether it reached the disk. Open files become dead: writes and syncs fail. */
void weir_store_unsynced_power_loss(struct weir_store *store, uint64_t seed);
/* Only the process died: what was written is still there, synced or not. Open files become dead. */
void weir_store_unsynced_process_loss(struct weir_store *store);
/* The n-th operation from now that changes anything fails as a vanished machine would (WEIR_E_IO),
 * and so does every one after it, until power_loss. 0 disarms. */
void weir_store_unsynced_stop_after(struct weir_store *store, uint64_t operations);
/* Asked before each operation that changes anything, so that several simulated disks can stop at
 * one instant; false: as after stop_after. NULL: not asked. */
void weir_store_unsynced_set_power(struct weir_store *store, bool (*on)(void *context),
                                   void *context);

static inline void weir_store_set_stop(struct weir_store *store, bool (*stop)(void *context),
                                       void *context) {
    if (store->ops->set_stop != NULL) {
        store->ops->set_stop(store, stop, context);
    }
}

static inline void weir_store_destroy(struct weir_store *store) {
    if (store != NULL) {
        store->ops->destroy(store);
    }
}

static inline WEIR_MUST_CHECK int weir_store_put_if_absent(struct weir_store *store,
                                                           const char *path, const void *bytes,
                                                           size_t size, struct weir_error *err) {
    return store->ops->put_if_absent(store, path, bytes, size, err);
}

static inline WEIR_MUST_CHECK int weir_store_put(struct weir_store *store, const char *path,
                                                 const void *bytes, size_t size,
                                                 struct weir_error *err) {
    return store->ops->put(store, path, bytes, size, err);
}

static inline WEIR_MUST_CHECK int weir_store_get(struct weir_store *store, const char *path,
                                                 int64_t offset, int64_t length,
                                                 struct weir_buffer *out, struct weir_error *err) {
    return store->ops->get(store, path, offset, length, out, err);
}

static inline WEIR_MUST_CHECK int weir_store_stat(struct weir_store *store, const char *path,
                                                  struct weir_store_info *info,
                                                  struct weir_error *err) {
    return store->ops->stat(store, path, info, err);
}

/* Objects only. */
static inline WEIR_MUST_CHECK int weir_store_list(struct weir_store *store, const char *dir,
                                                  const char *prefix, const char *start_after,
                                                  weir_store_visit *visit, void *context,
                                                  struct weir_error *err) {
    return store->ops->list(store, dir, prefix, start_after, false, visit, context, err);
}

/* Objects and directories. */
static inline WEIR_MUST_CHECK int weir_store_list_dir(struct weir_store *store, const char *dir,
                                                      weir_store_visit *visit, void *context,
                                                      struct weir_error *err) {
    return store->ops->list(store, dir, NULL, NULL, true, visit, context, err);
}

static inline WEIR_MUST_CHECK int weir_store_remove(struct weir_store *store, const char *path,
                                                    struct weir_error *err) {
    return store->ops->remove(store, path, err);
}

static inline WEIR_MUST_CHECK int weir_store_sweep(struct weir_store *store, const char *dir,
                                                   int64_t age_ms, struct weir_error *err) {
    return store->ops->sweep != NULL ? store->ops->sweep(store, dir, age_ms, err) : WEIR_OK;
}

static inline WEIR_MUST_CHECK int weir_store_make_dir(struct weir_store *store, const char *dir,
                                                      struct weir_error *err) {
    return store->ops->make_dir(store, dir, err);
}

static inline WEIR_MUST_CHECK int weir_store_sync_dir(struct weir_store *store, const char *dir,
                                                      struct weir_error *err) {
    return store->ops->sync_dir(store, dir, err);
}

static inline WEIR_MUST_CHECK int weir_store_open(struct weir_store *store, const char *path,
                                                  enum weir_store_open_mode mode,
                                                  struct weir_store_file **out,
                                                  struct weir_error *err) {
    return store->ops->open(store, path, mode, out, err);
}

static inline WEIR_MUST_CHECK int weir_store_file_write(struct weir_store_file *file,
                                                        const void *bytes, size_t size,
                                                        struct weir_error *err) {
    return file->store->ops->file_write(file, bytes, size, err);
}

static inline WEIR_MUST_CHECK int weir_store_file_sync(struct weir_store_file *file,
                                                       struct weir_error *err) {
    return file->store->ops->file_sync(file, err);
}

/* Files of one store. */
int weir_store_sync_files(struct weir_store_file *const *files, int32_t count,
                          struct weir_error *err) WEIR_MUST_CHECK;

/* `file` may be NULL. */
static inline WEIR_MUST_CHECK int weir_store_file_close(struct weir_store_file *file, bool keep,
                                                        struct weir_error *err) {
    return file != NULL ? file->store->ops->file_close(file, keep, err) : WEIR_OK;
}

/* Rejects what no store takes: absolute, empty or ".." segments, NUL, over 4096 bytes. */
int weir_store_check_path(const char *path, struct weir_error *err) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
