#pragma once
/* The file layer under ledger and snapshots: what they may ask of a file system, as a vtable, so
 * that a test can put a simulated disk there which forgets whatever was not synced (file_sim.h).
 * Every operation returns 0 (or a count) or -errno; nothing is retried here: the callers in
 * file.c's helpers own retries, short transfers and messages. Any thread, but one at a time per
 * file. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "core/error.h"

struct weir_file; /* an open file; owned by whoever opened it, until close */

enum weir_file_mode {
    WEIR_FILE_READ,
    WEIR_FILE_WRITE,  /* read and write, must exist */
    WEIR_FILE_CREATE, /* read and write, must not exist (-EEXIST) */
};

struct weir_files;

struct weir_files_ops {
    int (*open)(struct weir_files *files, const char *path, enum weir_file_mode mode,
                struct weir_file **out);
    void (*close)(struct weir_file *file);
    /* Both may transfer fewer bytes than asked; read returns 0 at the end of the file. */
    ssize_t (*writev)(struct weir_file *file, const struct iovec *parts, int count,
                      uint64_t offset);
    ssize_t (*read)(struct weir_file *file, void *bytes, size_t size, uint64_t offset);
    int (*size)(struct weir_file *file, uint64_t *out);
    int (*truncate)(struct weir_file *file, uint64_t size);
    /* Makes bytes and size durable. After an error the bytes are in an unknown state for good. */
    int (*sync)(struct weir_file *file);
    int (*sync_directory)(struct weir_files *files, const char *path);
    int (*rename)(struct weir_files *files, const char *from, const char *to); /* replaces */
    int (*link)(struct weir_files *files, const char *from, const char *to);   /* -EEXIST */
    int (*unlink)(struct weir_files *files, const char *path);
    int (*make_directory)(struct weir_files *files, const char *path); /* -EEXIST */
    /* Calls back once per entry, in no order, without "." and ".."; stops on a nonzero answer and
     * returns it. */
    int (*list)(struct weir_files *files, const char *path,
                int (*entry)(void *context, const char *name), void *context);
    /* Opens (creating) and takes an exclusive lock that dies with the process: -EWOULDBLOCK when
     * another open file holds it, and then *out is still opened, for reading who. */
    int (*lock)(struct weir_files *files, const char *path, struct weir_file **out);
};

struct weir_files {
    const struct weir_files_ops *ops;
};

struct weir_file {
    const struct weir_files_ops *ops;
};

/* The operating system's. Immutable, shared by all threads. */
struct weir_files *weir_files_system(void);

/* Writes all parts or fails: retries short transfers and EINTR. `parts` is used up (advanced). */
int weir_file_write_all(struct weir_file *file, struct iovec *parts, int count, uint64_t offset,
                        const char *path, struct weir_error *err) WEIR_MUST_CHECK;
/* Reads up to `size` bytes; *got < size only at the end of the file. */
int weir_file_read_all(struct weir_file *file, void *bytes, size_t size, uint64_t offset,
                       size_t *got, const char *path, struct weir_error *err) WEIR_MUST_CHECK;
/* Makes `path` and missing parents; all of it is durable on return, whoever made it. */
int weir_files_make_path(struct weir_files *files, const char *path,
                         struct weir_error *err) WEIR_MUST_CHECK;
int weir_files_sync_directory(struct weir_files *files, const char *path,
                              struct weir_error *err) WEIR_MUST_CHECK;
