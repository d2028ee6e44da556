/* The local folder as a store. What makes it safe: a name is given by link(2), which fails when it
 * is taken and cannot tear, after the bytes were synced under a temporary name in the same
 * directory; and the directory is synced before anyone is told. delta-spark's own local store
 * renames instead, and says "testing only". */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/clock.h"
#include "core/fault.h"
#include "lake/store/local_stage.h"
#include "lake/store/store.h"

#define TEMP_PREFIX ".tmp-"
#define LIST_MAX 50000000 /* names one listing holds */
#define SYNC_THREADS 8

enum { DURABLE_FOLDERS = 1024 };

struct local_store {
    struct weir_store base;
    int root; /* directory descriptor */
    char *root_path;
    /* Folders whose names are known to be on disk, by hash; a collision costs a sync. */
    _Atomic uint64_t durable[DURABLE_FOLDERS];
};

struct local_file {
    struct weir_store_file base;
    int fd;
    bool atomic;
    char *path; /* the name it has, or takes at close */
    char *temp; /* atomic only: the name it has now */
    struct local_stage stage;
};

static struct local_store *local(struct weir_store *store) {
    return (struct local_store *)store;
}

static void count_sync(struct weir_store *store) {
    __atomic_fetch_add(&store->sync_count, 1, __ATOMIC_RELAXED);
}

static int io_error(struct weir_store *store, const char *path, const char *what,
                    struct weir_error *err) {
    int saved = errno;
    int code = saved == ENOENT ? WEIR_E_NOTFOUND : WEIR_E_IO;
    return weir_error_system(err, code, saved, "%s %s/%s", what, local(store)->root_path, path);
}

/* "a/b/c" → "a/b" (or "." for a name at the root). The caller frees. */
static char *parent_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? strndup(path, (size_t)(slash - path)) : strdup(".");
}

static int sync_directory(struct weir_store *store, const char *dir, struct weir_error *err) {
    int fd =
        openat(local(store)->root, *dir != '\0' ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return io_error(store, dir, "open directory", err);
    }
    int rc = WEIR_OK;
    count_sync(store);
    if (fsync(fd) != 0) {
        rc = io_error(store, dir, "sync directory", err);
    }
    close(fd);
    return rc;
}

/* A folder that is there may be of a process killed before it synced the parent, so the first look
 * at each syncs as making it does. */
static int local_make_dir(struct weir_store *store, const char *dir, struct weir_error *err) {
    if (*dir == '\0' || strcmp(dir, ".") == 0) {
        return WEIR_OK;
    }
    int rc = weir_store_check_path(dir, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    struct stat st;
    bool found = fstatat(local(store)->root, dir, &st, 0) == 0;
    if (found && !S_ISDIR(st.st_mode)) {
        return weir_error_set(err, WEIR_E_IO, "%s/%s is a file where a folder is needed",
                              local(store)->root_path, dir);
    }
    uint64_t hash = XXH3_64bits(dir, strlen(dir)) | 1;
    _Atomic uint64_t *slot = &local(store)->durable[hash / 2 % DURABLE_FOLDERS];
    if (found && atomic_load_explicit(slot, memory_order_acquire) == hash) {
        return WEIR_OK;
    }
    char *parent = parent_of(dir);
    if (parent == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "make directory %s: out of memory", dir);
    }
    rc = local_make_dir(store, parent, err);
    if (rc == WEIR_OK && !found && mkdirat(local(store)->root, dir, 0777) != 0 && errno != EEXIST) {
        rc = io_error(store, dir, "make directory", err);
    }
    if (rc == WEIR_OK) {
        rc = sync_directory(store, parent, err); /* the folder's own name */
    }
    if (rc == WEIR_OK) {
        atomic_store_explicit(slot, hash, memory_order_release);
    }
    free(parent);
    return rc;
}

/* A fresh name beside `path`. The caller frees. */
static char *temp_name(const char *path) {
    static uint32_t counter;
    uint32_t n = __atomic_add_fetch(&counter, 1, __ATOMIC_RELAXED);
    const char *slash = strrchr(path, '/');
    int dir = slash != NULL ? (int)(slash - path + 1) : 0;
    char *name = NULL;
    if (asprintf(&name, "%.*s" TEMP_PREFIX "%d-%lld-%u", dir, path, (int)getpid(),
                 (long long)weir_clock_wall_us(), n) < 0) {
        return NULL;
    }
    return name;
}

/* Opens a new file, making its directory when that is missing. */
static int create_exclusive(struct weir_store *store, const char *path, int *fd,
                            struct weir_error *err) {
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
    *fd = openat(local(store)->root, path, flags, 0666);
    if (*fd < 0 && errno == ENOENT) {
        char *parent = parent_of(path);
        int rc = parent != NULL
                     ? local_make_dir(store, parent, err)
                     : weir_error_set(err, WEIR_E_NOMEM, "create %s: out of memory", path);
        free(parent);
        if (rc != WEIR_OK) {
            return rc;
        }
        *fd = openat(local(store)->root, path, flags, 0666);
    }
    if (*fd < 0) {
        if (errno == EEXIST) {
            return weir_error_set(err, WEIR_E_EXISTS, "%s/%s already exists",
                                  local(store)->root_path, path);
        }
        int rc = io_error(store, path, "create", err);
        return rc == WEIR_E_NOTFOUND ? WEIR_E_IO : rc;
    }
    return WEIR_OK;
}

/* Writes and syncs a temporary file beside `path`; `*temp` is the caller's to unlink and free,
 * also after an error. */
static int write_temp(struct weir_store *store, const char *path, const void *bytes, size_t size,
                      char **temp, struct weir_error *err) {
    int fd = -1;
    int rc = weir_store_check_path(path, err);
    *temp = NULL;
    if (rc != WEIR_OK) {
        return rc;
    }
    *temp = temp_name(path);
    if (*temp == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "write %s: out of memory", path);
    }
    rc = create_exclusive(store, *temp, &fd, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (local_write_all(fd, bytes, size) != 0) {
        rc = io_error(store, *temp, "write", err);
    } else {
        count_sync(store);
        if (fdatasync(fd) != 0) {
            rc = io_error(store, *temp, "sync", err);
        }
    }
    if (close(fd) != 0 && rc == WEIR_OK) {
        rc = io_error(store, *temp, "close", err);
    }
    return rc;
}

static int sync_parent(struct weir_store *store, const char *path, struct weir_error *err) {
    char *parent = parent_of(path);
    int rc = parent != NULL ? sync_directory(store, parent, err)
                            : weir_error_set(err, WEIR_E_NOMEM, "sync %s: out of memory", path);
    free(parent);
    return rc;
}

static int local_put_if_absent(struct weir_store *store, const char *path, const void *bytes,
                               size_t size, struct weir_error *err) {
    char *temp;
    int root = local(store)->root;
    int rc = write_temp(store, path, bytes, size, &temp, err);
    if (rc == WEIR_OK && WEIR_FAULT(delta_entry_written)) {
        rc = weir_error_set(err, WEIR_E_FAULT, "put %s: injected fault before link", path);
    }
    if (rc == WEIR_OK && linkat(root, temp, root, path, 0) != 0) {
        rc = errno == EEXIST
                 ? weir_error_set(err, WEIR_E_CONFLICT, "%s/%s was taken by another writer",
                                  local(store)->root_path, path)
                 : io_error(store, path, "link", err);
    }
    bool linked = rc == WEIR_OK;
    if (linked && WEIR_FAULT(delta_entry_linked)) {
        rc = weir_error_set(err, WEIR_E_FAULT, "put %s: injected fault after link", path);
    }
    if (temp != NULL) {
        unlinkat(root, temp, 0);
    }
    if (rc == WEIR_OK) {
        rc = sync_parent(store, path, err);
    }
    free(temp);
    return rc;
}

static int local_put(struct weir_store *store, const char *path, const void *bytes, size_t size,
                     struct weir_error *err) {
    char *temp;
    int root = local(store)->root;
    int rc = write_temp(store, path, bytes, size, &temp, err);
    if (rc == WEIR_OK && renameat(root, temp, root, path) != 0) {
        rc = io_error(store, path, "rename", err);
    }
    if (rc == WEIR_OK) {
        rc = sync_parent(store, path, err);
    } else if (temp != NULL) {
        unlinkat(root, temp, 0);
    }
    free(temp);
    return rc;
}

static int local_get(struct weir_store *store, const char *path, int64_t offset, int64_t length,
                     struct weir_buffer *out, struct weir_error *err) {
    int rc = weir_store_check_path(path, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    int fd = openat(local(store)->root, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return io_error(store, path, "open", err);
    }
    struct stat st;
    if (fstat(fd, &st) != 0) {
        rc = io_error(store, path, "stat", err);
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        rc = weir_error_set(err, WEIR_E_IO, "%s/%s is not a plain file", local(store)->root_path,
                            path);
        goto out;
    }
    if (length < 0) {
        length = st.st_size > offset ? st.st_size - offset : 0;
    }
    if (offset < 0 || offset > st.st_size || length > st.st_size - offset) {
        rc = weir_error_set(err, WEIR_E_CORRUPT,
                            "%s/%s ends at byte %lld, but bytes %lld to %lld were expected",
                            local(store)->root_path, path, (long long)st.st_size, (long long)offset,
                            (long long)(offset + length));
        goto out;
    }
    rc = weir_buffer_reserve(out, (size_t)length);
    if (rc != WEIR_OK) {
        rc = weir_error_set(err, rc, "read %lld bytes of %s/%s: %s (at most %zu bytes)",
                            (long long)length, local(store)->root_path, path, weir_error_text(rc),
                            out->limit);
        goto out;
    }
    while (length > 0) {
        ssize_t n = pread(fd, out->data + out->size, (size_t)length, offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            rc = n < 0 ? io_error(store, path, "read", err)
                       : weir_error_set(err, WEIR_E_CORRUPT, "%s/%s shrank while being read",
                                        local(store)->root_path, path);
            goto out;
        }
        out->size += (size_t)n;
        offset += n;
        length -= n;
    }
out:
    close(fd);
    return rc;
}

static void fill_info(struct weir_store_info *info, const struct stat *st) {
    info->size_bytes = st->st_size;
    info->modified_ms = (int64_t)st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000;
    info->is_dir = S_ISDIR(st->st_mode);
}

static int local_stat(struct weir_store *store, const char *path, struct weir_store_info *info,
                      struct weir_error *err) {
    struct stat st;
    int rc = weir_store_check_path(path, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (fstatat(local(store)->root, path, &st, 0) != 0) {
        return io_error(store, path, "stat", err);
    }
    fill_info(info, &st);
    return WEIR_OK;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int local_list(struct weir_store *store, const char *dir, const char *prefix,
                      const char *start_after, bool dirs, weir_store_visit *visit, void *context,
                      struct weir_error *err) {
    char **names = NULL;
    size_t count = 0;
    size_t capacity = 0;
    size_t prefix_length = prefix != NULL ? strlen(prefix) : 0;
    int rc = *dir != '\0' ? weir_store_check_path(dir, err) : WEIR_OK;
    if (rc != WEIR_OK) {
        return rc;
    }
    int fd =
        openat(local(store)->root, *dir != '\0' ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT || errno == ENOTDIR ? WEIR_OK : io_error(store, dir, "list", err);
    }
    DIR *stream = fdopendir(fd);
    if (stream == NULL) {
        rc = io_error(store, dir, "list", err);
        close(fd);
        return rc;
    }
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(stream);
        if (entry == NULL) {
            if (errno != 0) {
                rc = io_error(store, dir, "list", err);
            }
            break;
        }
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
            strncmp(name, TEMP_PREFIX, sizeof(TEMP_PREFIX) - 1) == 0 ||
            (prefix_length > 0 && strncmp(name, prefix, prefix_length) != 0) ||
            (start_after != NULL && strcmp(name, start_after) <= 0)) {
            continue;
        }
        if (count == capacity) {
            size_t wanted = capacity > 0 ? capacity * 2 : 64;
            char **grown = wanted <= LIST_MAX ? realloc(names, wanted * sizeof(*names)) : NULL;
            if (grown == NULL) {
                rc = weir_error_set(err, WEIR_E_NOMEM, "list %s/%s: too many names for memory",
                                    local(store)->root_path, dir);
                break;
            }
            names = grown;
            capacity = wanted;
        }
        names[count] = strdup(name);
        if (names[count] == NULL) {
            rc = weir_error_set(err, WEIR_E_NOMEM, "list %s: out of memory", dir);
            break;
        }
        count++;
    }
    if (rc == WEIR_OK && count > 0) {
        qsort(names, count, sizeof(*names), compare_names);
    }
    for (size_t i = 0; i < count && rc == WEIR_OK; i++) {
        char path[PATH_MAX];
        struct stat st;
        struct weir_store_info info;
        int n = snprintf(path, sizeof(path), "%s%s%s", dir, *dir != '\0' ? "/" : "", names[i]);
        if (n < 0 || (size_t)n >= sizeof(path) || fstatat(dirfd(stream), names[i], &st, 0) != 0) {
            continue; /* removed meanwhile */
        }
        fill_info(&info, &st);
        if (S_ISREG(st.st_mode) || (dirs && info.is_dir)) {
            rc = visit(context, path, &info);
        }
    }
    for (size_t i = 0; i < count; i++) {
        free(names[i]);
    }
    free(names);
    closedir(stream);
    return rc;
}

static int local_remove(struct weir_store *store, const char *path, struct weir_error *err) {
    int rc = weir_store_check_path(path, err);
    if (rc == WEIR_OK && unlinkat(local(store)->root, path, 0) != 0 && errno != ENOENT) {
        rc = io_error(store, path, "remove", err);
    }
    return rc;
}

static int local_sweep(struct weir_store *store, const char *dir, int64_t age_ms,
                       struct weir_error *err) {
    int rc = *dir != '\0' ? weir_store_check_path(dir, err) : WEIR_OK;
    if (rc != WEIR_OK) {
        return rc;
    }
    int fd =
        openat(local(store)->root, *dir != '\0' ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? WEIR_OK : io_error(store, dir, "open directory", err);
    }
    DIR *stream = fdopendir(fd);
    if (stream == NULL) {
        rc = io_error(store, dir, "list", err);
        close(fd);
        return rc;
    }
    int64_t before_ms = weir_clock_wall_us() / 1000 - age_ms;
    for (struct dirent *entry; (entry = readdir(stream)) != NULL;) {
        struct stat st;
        struct weir_store_info info;
        if (strncmp(entry->d_name, TEMP_PREFIX, sizeof(TEMP_PREFIX) - 1) != 0 ||
            fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode)) {
            continue;
        }
        fill_info(&info, &st);
        if (info.modified_ms < before_ms && unlinkat(fd, entry->d_name, 0) != 0 &&
            errno != ENOENT) {
            rc = io_error(store, entry->d_name, "remove", err);
            break;
        }
    }
    closedir(stream);
    return rc;
}

static int local_open(struct weir_store *store, const char *path, enum weir_store_open_mode mode,
                      struct weir_store_file **out, struct weir_error *err) {
    int rc = weir_store_check_path(path, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    struct local_file *file = calloc(1, sizeof(*file));
    if (file == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "open %s: out of memory", path);
    }
    file->base.store = store;
    file->fd = -1;
    file->atomic = mode == WEIR_STORE_ATOMIC;
    file->path = strdup(path);
    file->temp = file->atomic ? temp_name(path) : NULL;
    if (file->path == NULL || (file->atomic && file->temp == NULL)) {
        rc = weir_error_set(err, WEIR_E_NOMEM, "open %s: out of memory", path);
        goto out;
    }
    rc = create_exclusive(store, file->atomic ? file->temp : file->path, &file->fd, err);
out:
    if (rc != WEIR_OK) {
        free(file->path);
        free(file->temp);
        free(file);
        return rc;
    }
    *out = &file->base;
    return WEIR_OK;
}

static int local_file_write(struct weir_store_file *base, const void *bytes, size_t size,
                            struct weir_error *err) {
    struct local_file *file = (struct local_file *)base;
    if (local_stage_write(&file->stage, file->fd, bytes, size) != 0) {
        return io_error(base->store, file->path, "write", err);
    }
    base->size_bytes += (int64_t)size;
    return WEIR_OK;
}

static int local_file_sync(struct weir_store_file *base, struct weir_error *err) {
    struct local_file *file = (struct local_file *)base;
    if (local_stage_flush(&file->stage, file->fd) != 0) {
        return io_error(base->store, file->path, "write", err);
    }
    count_sync(base->store);
    if (fdatasync(file->fd) != 0) {
        return io_error(base->store, file->path, "sync", err);
    }
    return WEIR_OK;
}

/* One thread's share of a sync of many files: the next one nobody has taken. */
struct sync_share {
    struct weir_store_file *const *files;
    int32_t count;
    int32_t *next; /* atomic, shared */
    int rc;
    struct weir_error err;
};

static void *sync_next(void *context) {
    struct sync_share *share = context;
    for (;;) {
        int32_t i = __atomic_fetch_add(share->next, 1, __ATOMIC_RELAXED);
        if (i >= share->count || share->rc != WEIR_OK) {
            return NULL;
        }
        share->rc = local_file_sync(share->files[i], &share->err);
    }
}

/* A sync is waiting, not work, and the file system joins syncs that wait together: threads of the
 * moment cost microseconds beside it. A thread that does not start leaves more to the others. */
static int local_files_sync(struct weir_store_file *const *files, int32_t count,
                            struct weir_error *err) {
    struct sync_share shares[SYNC_THREADS];
    pthread_t threads[SYNC_THREADS];
    int32_t next = 0;
    int32_t wanted = count < SYNC_THREADS ? count : SYNC_THREADS;
    int32_t started = 0;
    for (int32_t i = 0; i < wanted; i++) {
        shares[i] = (struct sync_share){.files = files, .count = count, .next = &next};
    }
    while (started + 1 < wanted &&
           pthread_create(&threads[started], NULL, sync_next, &shares[started]) == 0) {
        started++;
    }
    sync_next(&shares[started]);
    for (int32_t i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    for (int32_t i = 0; i <= started; i++) {
        if (shares[i].rc != WEIR_OK) {
            if (err != NULL) {
                *err = shares[i].err;
            }
            return shares[i].rc;
        }
    }
    return WEIR_OK;
}

static int local_file_close(struct weir_store_file *base, bool keep, struct weir_error *err) {
    struct local_file *file = (struct local_file *)base;
    int root = local(base->store)->root;
    int rc = WEIR_OK;
    if (keep && local_stage_flush(&file->stage, file->fd) != 0) {
        rc = io_error(base->store, file->path, "write", err);
    }
    local_stage_fini(&file->stage);
    if (close(file->fd) != 0 && keep && rc == WEIR_OK) {
        rc = io_error(base->store, file->path, "close", err);
    }
    if (keep && rc == WEIR_OK && file->atomic &&
        renameat(root, file->temp, root, file->path) != 0) {
        rc = io_error(base->store, file->path, "rename", err);
    }
    if (!keep || rc != WEIR_OK) {
        unlinkat(root, file->atomic ? file->temp : file->path, 0);
    }
    free(file->path);
    free(file->temp);
    free(file);
    return rc;
}

static int local_describe(struct weir_store *store, const char *path, struct weir_buffer *out) {
    int rc = weir_buffer_append_text(out, local(store)->root_path);
    if (rc == WEIR_OK && *path != '\0') {
        rc = weir_buffer_append_text(out, "/");
    }
    return rc == WEIR_OK ? weir_buffer_append_text(out, path) : rc;
}

static void local_destroy(struct weir_store *store) {
    if (local(store)->root >= 0) {
        close(local(store)->root);
    }
    free(local(store)->root_path);
    free(store);
}

static const struct weir_store_ops local_ops = {
    .name = "local",
    .put_if_absent = local_put_if_absent,
    .put = local_put,
    .get = local_get,
    .stat = local_stat,
    .list = local_list,
    .remove = local_remove,
    .sweep = local_sweep,
    .make_dir = local_make_dir,
    .sync_dir = sync_directory,
    .open = local_open,
    .file_write = local_file_write,
    .file_sync = local_file_sync,
    .files_sync = local_files_sync,
    .file_close = local_file_close,
    .describe = local_describe,
    .destroy = local_destroy,
};

/* mkdir -p, each new name synced into its parent. */
static int make_root(const char *root, struct weir_error *err) {
    struct stat st;
    if (stat(root, &st) == 0) {
        return WEIR_OK; /* the open that follows says when it is not a folder */
    }
    char *copy = strdup(root);
    if (copy == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "make folder %s: out of memory", root);
    }
    size_t length = strlen(copy);
    while (length > 1 && copy[length - 1] == '/') {
        copy[--length] = '\0';
    }
    char *slash = strrchr(copy, '/');
    const char *parent = ".";
    if (slash == copy) {
        parent = "/";
    } else if (slash != NULL) {
        *slash = '\0';
        parent = copy;
    }
    int rc = make_root(parent, err);
    if (rc == WEIR_OK && mkdir(root, 0777) != 0 && errno != EEXIST) {
        rc = weir_error_system(err, WEIR_E_IO, errno, "make folder %s", root);
    }
    if (rc == WEIR_OK) {
        int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fsync(fd) != 0) {
            rc = weir_error_system(err, WEIR_E_IO, errno, "sync folder %s", parent);
        }
        if (fd >= 0) {
            close(fd);
        }
    }
    free(copy);
    return rc;
}

int weir_store_local_open(const char *root, struct weir_store **out, struct weir_error *err) {
    int rc = WEIR_OK;
    struct local_store *store = calloc(1, sizeof(*store));
    if (store == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "open folder %s: out of memory", root);
    }
    store->base.ops = &local_ops;
    store->root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (store->root < 0) {
        int code = errno == ENOENT ? WEIR_E_NOTFOUND : WEIR_E_IO;
        rc = weir_error_system(err, code, errno, "open folder %s", root);
        goto out;
    }
    store->root_path = realpath(root, NULL);
    if (store->root_path == NULL) {
        rc = weir_error_system(err, WEIR_E_IO, errno, "resolve folder %s", root);
    }
out:
    if (rc != WEIR_OK) {
        local_destroy(&store->base);
        return rc;
    }
    *out = &store->base;
    return WEIR_OK;
}

int weir_store_local_create(const char *root, struct weir_store **out, struct weir_error *err) {
    int rc = make_root(root, err);
    return rc == WEIR_OK ? weir_store_local_open(root, out, err) : rc;
}
