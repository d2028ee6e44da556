/* The operating system's file layer, and the helpers that turn its raw answers into whole
 * transfers and messages. fdatasync is enough for files: it also makes the size durable, and
 * nothing here reads times. */
#include "core/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* A long aligned write goes past the page cache, through a buffer that stays in the processor's:
 * new pages of the cache cost several times the copy. */
enum { DIRECT_MIN_BYTES = 512 * 1024, DIRECT_BYTES = 1024 * 1024, DIRECT_ALIGN = 4096 };

struct system_file {
    struct weir_file base;
    int fd;
    int direct_fd;   /* -1: not opened yet */
    bool no_direct;  /* the file system has none */
    uint8_t *direct; /* DIRECT_BYTES, aligned; NULL until used */
};

static int system_fd(const struct weir_file *file) {
    return ((const struct system_file *)(const void *)file)->fd;
}

static int system_wrap(int fd, struct weir_file **out);

static int system_open(struct weir_files *files, const char *path, enum weir_file_mode mode,
                       struct weir_file **out) {
    (void)files;
    int flags = O_CLOEXEC | (mode == WEIR_FILE_READ ? O_RDONLY : O_RDWR);
    if (mode == WEIR_FILE_CREATE) {
        flags |= O_CREAT | O_EXCL;
    }
    int fd = open(path, flags, 0644);
    return fd < 0 ? -errno : system_wrap(fd, out);
}

static void system_close(struct weir_file *file) {
    struct system_file *own = (struct system_file *)(void *)file;
    if (own->direct_fd >= 0) {
        close(own->direct_fd);
    }
    close(own->fd);
    free(own->direct);
    free(own);
}

static bool open_direct(struct system_file *file) {
    if (file->direct_fd >= 0 || file->no_direct) {
        return !file->no_direct;
    }
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd);
    file->direct_fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
    void *buffer = NULL;
    if (file->direct_fd >= 0 && posix_memalign(&buffer, DIRECT_ALIGN, DIRECT_BYTES) == 0) {
        file->direct = buffer;
    }
    file->no_direct = file->direct == NULL;
    return !file->no_direct;
}

/* The first DIRECT_BYTES of the parts, past the page cache; -EINVAL where that cannot be. */
static ssize_t write_direct(struct system_file *file, const struct iovec *parts, int count,
                            uint64_t offset) {
    size_t filled = 0;
    for (int i = 0; i < count && filled < DIRECT_BYTES; i++) {
        size_t left = DIRECT_BYTES - filled;
        size_t bytes = parts[i].iov_len < left ? parts[i].iov_len : left;
        memcpy(file->direct + filled, parts[i].iov_base, bytes);
        filled += bytes;
    }
    filled -= filled % DIRECT_ALIGN;
    ssize_t n = pwrite(file->direct_fd, file->direct, filled, (off_t)offset);
    return n < 0 ? -errno : n;
}

static bool is_long(const struct iovec *parts, int count) {
    size_t bytes = 0;
    for (int i = 0; i < count && bytes < DIRECT_MIN_BYTES; i++) {
        bytes += parts[i].iov_len;
    }
    return bytes >= DIRECT_MIN_BYTES;
}

static ssize_t system_writev(struct weir_file *file, const struct iovec *parts, int count,
                             uint64_t offset) {
    struct system_file *own = (struct system_file *)(void *)file;
    if (offset % DIRECT_ALIGN == 0 && is_long(parts, count) && open_direct(own)) {
        ssize_t written = write_direct(own, parts, count, offset);
        if (written != -EINVAL) {
            return written;
        }
        own->no_direct = true;
    }
    ssize_t n = pwritev(system_fd(file), parts, count < IOV_MAX ? count : IOV_MAX, (off_t)offset);
    return n < 0 ? -errno : n;
}

static ssize_t system_read(struct weir_file *file, void *bytes, size_t size, uint64_t offset) {
    ssize_t n = pread(system_fd(file), bytes, size, (off_t)offset);
    return n < 0 ? -errno : n;
}

static int system_size(struct weir_file *file, uint64_t *out) {
    struct stat st;
    if (fstat(system_fd(file), &st) != 0) {
        return -errno;
    }
    *out = (uint64_t)st.st_size;
    return 0;
}

static int system_truncate(struct weir_file *file, uint64_t size) {
    return ftruncate(system_fd(file), (off_t)size) != 0 ? -errno : 0;
}

static int system_sync(struct weir_file *file) {
    return fdatasync(system_fd(file)) != 0 ? -errno : 0;
}

static int system_sync_directory(struct weir_files *files, const char *path) {
    (void)files;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int rc = fsync(fd) != 0 ? -errno : 0;
    close(fd);
    return rc;
}

static int system_rename(struct weir_files *files, const char *from, const char *to) {
    (void)files;
    return rename(from, to) != 0 ? -errno : 0;
}

static int system_link(struct weir_files *files, const char *from, const char *to) {
    (void)files;
    return link(from, to) != 0 ? -errno : 0;
}

static int system_unlink(struct weir_files *files, const char *path) {
    (void)files;
    return unlink(path) != 0 ? -errno : 0;
}

static int system_make_directory(struct weir_files *files, const char *path) {
    (void)files;
    return mkdir(path, 0755) != 0 ? -errno : 0;
}

static int system_list(struct weir_files *files, const char *path,
                       int (*entry)(void *context, const char *name), void *context) {
    (void)files;
    DIR *directory = opendir(path);
    if (directory == NULL) {
        return -errno;
    }
    int rc = 0;
    while (rc == 0) {
        errno = 0;
        const struct dirent *found = readdir(directory);
        if (found == NULL) {
            rc = -errno;
            break;
        }
        if (strcmp(found->d_name, ".") != 0 && strcmp(found->d_name, "..") != 0) {
            rc = entry(context, found->d_name);
        }
    }
    closedir(directory);
    return rc;
}

static int system_lock(struct weir_files *files, const char *path, struct weir_file **out) {
    (void)files;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        return -errno;
    }
    int locked = flock(fd, LOCK_EX | LOCK_NB) != 0 ? -errno : 0;
    int rc = system_wrap(fd, out);
    return rc != 0 ? rc : locked;
}

static const struct weir_files_ops system_ops = {
    .open = system_open,
    .close = system_close,
    .writev = system_writev,
    .read = system_read,
    .size = system_size,
    .truncate = system_truncate,
    .sync = system_sync,
    .sync_directory = system_sync_directory,
    .rename = system_rename,
    .link = system_link,
    .unlink = system_unlink,
    .make_directory = system_make_directory,
    .list = system_list,
    .lock = system_lock,
};

static int system_wrap(int fd, struct weir_file **out) {
    struct system_file *file = calloc(1, sizeof *file);
    if (file == NULL) {
        close(fd);
        return -ENOMEM;
    }
    file->base.ops = &system_ops;
    file->fd = fd;
    file->direct_fd = -1;
    *out = &file->base;
    return 0;
}

struct weir_files *weir_files_system(void) {
    static struct weir_files files = {.ops = &system_ops};
    return &files;
}

int weir_file_write_all(struct weir_file *file, struct iovec *parts, int count, uint64_t offset,
                        const char *path, struct weir_error *err) {
    while (count > 0) {
        if (parts->iov_len == 0) {
            parts++;
            count--;
            continue;
        }
        ssize_t n = file->ops->writev(file, parts, count, offset);
        if (n == -EINTR) {
            continue;
        }
        if (n == 0) {
            n = -EIO; /* no progress and no reason given: never loop on it */
        }
        if (n < 0) {
            int code = n == -ENOSPC || n == -EDQUOT ? WEIR_E_ENVIRONMENT : WEIR_E_IO;
            return weir_error_system(err, code, (int)-n, "write %s at byte %llu%s", path,
                                     (unsigned long long)offset,
                                     code == WEIR_E_ENVIRONMENT ? " (free some space)" : "");
        }
        offset += (uint64_t)n;
        size_t done = (size_t)n;
        while (count > 0 && done >= parts->iov_len) {
            done -= parts->iov_len;
            parts++;
            count--;
        }
        if (count > 0) {
            parts->iov_base = (char *)parts->iov_base + done;
            parts->iov_len -= done;
        }
    }
    return WEIR_OK;
}

int weir_file_read_all(struct weir_file *file, void *bytes, size_t size, uint64_t offset,
                       size_t *got, const char *path, struct weir_error *err) {
    *got = 0;
    while (*got < size) {
        ssize_t n = file->ops->read(file, (uint8_t *)bytes + *got, size - *got, offset + *got);
        if (n == -EINTR) {
            continue;
        }
        if (n < 0) {
            return weir_error_system(err, WEIR_E_IO, (int)-n, "read %s at byte %llu", path,
                                     (unsigned long long)(offset + *got));
        }
        if (n == 0) {
            break;
        }
        *got += (size_t)n;
    }
    return WEIR_OK;
}

int weir_files_sync_directory(struct weir_files *files, const char *path, struct weir_error *err) {
    int rc = files->ops->sync_directory(files, path);
    return rc == 0 ? WEIR_OK : weir_error_system(err, WEIR_E_IO, -rc, "sync directory %s", path);
}

/* The directory an entry lives in: "a/b" -> "a", "a" -> ".", "/a" -> "/". */
static void parent_of(const char *path, char *out, size_t size) {
    snprintf(out, size, "%s", path);
    char *slash = strrchr(out, '/');
    if (slash == NULL) {
        snprintf(out, size, ".");
    } else {
        slash[slash == out ? 1 : 0] = '\0';
    }
}

int weir_files_make_path(struct weir_files *files, const char *path, struct weir_error *err) {
    char made[PATH_MAX];
    char parent[PATH_MAX];
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') {
        length--;
    }
    if (length == 0 || length >= sizeof made) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "directory '%.64s': the path is empty or too long", path);
    }
    for (size_t i = 1; i <= length; i++) {
        if (i < length && path[i] != '/') {
            continue;
        }
        memcpy(made, path, i);
        made[i] = '\0';
        int made_rc = files->ops->make_directory(files, made);
        if (made_rc != 0 && made_rc != -EEXIST) {
            return weir_error_system(err, WEIR_E_ENVIRONMENT, -made_rc, "make directory %s", made);
        }
        /* One that is there may be of a process killed before it synced the parent. What lies so
         * far up that it is not ours to open was there before. */
        parent_of(made, parent, sizeof parent);
        int rc = files->ops->sync_directory(files, parent);
        bool foreign =
            made_rc == -EEXIST && (rc == -EACCES || rc == -EPERM || rc == -EROFS || rc == -EINVAL);
        if (rc != 0 && !foreign) {
            return weir_error_system(err, WEIR_E_IO, -rc, "sync directory %s", parent);
        }
    }
    return WEIR_OK;
}
