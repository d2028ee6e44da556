/* The idea: a file is two byte arrays, what a reader sees now and what the disk has, and a dirty
 * mark per sector; a directory is one list of entries seen now, one on disk, and the changes
 * between them in order. A power loss applies a random part of the difference. */
#include "core/file_sim.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 512u
#define MAX_NODES 65536u

struct node {
    uint8_t *now;
    uint8_t *disk;
    uint8_t *dirty; /* per sector */
    uint64_t now_size;
    uint64_t disk_size;
    uint64_t capacity; /* of both arrays */
    bool directory;
    bool locked;
};

struct entry {
    char *path;
    struct node *node;
};

struct entries {
    struct entry *list;
    size_t count;
    size_t capacity;
};

/* A directory change not yet synced: `remove` goes, `add` appears; either may be NULL. */
struct change {
    char *remove;
    char *add;
    struct node *node;
};

struct weir_files_sim {
    struct weir_files base;
    pthread_mutex_t lock;
    bool (*power)(void *context);
    void *power_context;
    uint64_t random;
    uint64_t generation; /* power cycles; files of older ones are dead */
    uint64_t operations;
    uint64_t crash_in;
    uint64_t fail_sync_in;
    uint64_t space;
    bool crashed;
    bool short_transfers;
    struct node **nodes;
    size_t node_count;
    struct entries now;
    struct entries disk;
    struct change *changes;
    size_t change_count;
    size_t change_capacity;
};

struct sim_file {
    struct weir_file base;
    struct weir_files_sim *sim;
    struct node *node;
    uint64_t generation;
    bool writable;
    bool holds_lock;
};

static uint64_t next_random(struct weir_files_sim *sim) { /* splitmix64 */
    uint64_t z = sim->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static struct weir_files_sim *sim_of(struct weir_files *files) {
    return (struct weir_files_sim *)(void *)files;
}

static struct sim_file *file_of(struct weir_file *file) {
    return (struct sim_file *)(void *)file;
}

/* Counts a changing operation. 0: go on; 1: this is the one that dies half way; -EIO: dead. */
static int step(struct weir_files_sim *sim) {
    if (sim->crashed) {
        return -EIO;
    }
    sim->operations++;
    bool off = sim->power != NULL && !sim->power(sim->power_context);
    if (off || (sim->crash_in > 0 && --sim->crash_in == 0)) {
        sim->crashed = true;
        return 1;
    }
    return 0;
}

static struct entry *find(struct entries *entries, const char *path) {
    for (size_t i = 0; i < entries->count; i++) {
        if (strcmp(entries->list[i].path, path) == 0) {
            return &entries->list[i];
        }
    }
    return NULL;
}

static void entry_remove(struct entries *entries, const char *path) {
    struct entry *found = find(entries, path);
    if (found != NULL) {
        free(found->path);
        *found = entries->list[--entries->count];
    }
}

static int entry_set(struct entries *entries, const char *path, struct node *node) {
    struct entry *found = find(entries, path);
    if (found != NULL) {
        found->node = node;
        return 0;
    }
    if (entries->count == entries->capacity) {
        size_t capacity = entries->capacity == 0 ? 16 : entries->capacity * 2;
        struct entry *list = realloc(entries->list, capacity * sizeof *list);
        if (list == NULL) {
            return -ENOMEM;
        }
        entries->list = list;
        entries->capacity = capacity;
    }
    char *copy = strdup(path);
    if (copy == NULL) {
        return -ENOMEM;
    }
    entries->list[entries->count++] = (struct entry){copy, node};
    return 0;
}

static int apply_change(struct entries *entries, const char *remove, const char *add,
                        struct node *node) {
    if (remove != NULL) {
        entry_remove(entries, remove);
    }
    return add != NULL ? entry_set(entries, add, node) : 0;
}

/* The change happens for readers now; for the disk, later. */
static int change(struct weir_files_sim *sim, const char *remove, const char *add,
                  struct node *node) {
    if (sim->change_count == sim->change_capacity) {
        size_t capacity = sim->change_capacity == 0 ? 16 : sim->change_capacity * 2;
        struct change *changes = realloc(sim->changes, capacity * sizeof *changes);
        if (changes == NULL) {
            return -ENOMEM;
        }
        sim->changes = changes;
        sim->change_capacity = capacity;
    }
    struct change made = {remove != NULL ? strdup(remove) : NULL, add != NULL ? strdup(add) : NULL,
                          node};
    if ((remove != NULL && made.remove == NULL) || (add != NULL && made.add == NULL)) {
        free(made.remove);
        free(made.add);
        return -ENOMEM;
    }
    sim->changes[sim->change_count++] = made;
    return apply_change(&sim->now, remove, add, node);
}

static void change_fini(struct change *made) {
    free(made->remove);
    free(made->add);
}

static struct node *node_create(struct weir_files_sim *sim, bool directory) {
    struct node **nodes = sim->node_count < MAX_NODES
                              ? realloc(sim->nodes, (sim->node_count + 1) * sizeof *nodes)
                              : NULL;
    if (nodes == NULL) {
        return NULL;
    }
    sim->nodes = nodes;
    struct node *node = calloc(1, sizeof *node);
    if (node != NULL) {
        node->directory = directory;
        sim->nodes[sim->node_count++] = node;
    }
    return node;
}

static int node_grow(struct node *node, uint64_t size) {
    if (size <= node->capacity) {
        return 0;
    }
    uint64_t capacity = node->capacity == 0 ? 8 * SECTOR : node->capacity;
    while (capacity < size) {
        capacity *= 2;
    }
    uint8_t *now = realloc(node->now, capacity);
    if (now != NULL) {
        node->now = now;
        memset(now + node->capacity, 0, capacity - node->capacity);
    }
    uint8_t *disk = realloc(node->disk, capacity);
    if (disk != NULL) {
        node->disk = disk;
        memset(disk + node->capacity, 0, capacity - node->capacity);
    }
    uint8_t *dirty = realloc(node->dirty, capacity / SECTOR);
    if (dirty != NULL) {
        node->dirty = dirty;
        memset(dirty + node->capacity / SECTOR, 0, (capacity - node->capacity) / SECTOR);
    }
    if (now == NULL || disk == NULL || dirty == NULL) {
        return -ENOMEM;
    }
    node->capacity = capacity;
    return 0;
}

static void mark_dirty(struct node *node, uint64_t from, uint64_t to) {
    if (from < to) {
        memset(node->dirty + from / SECTOR, 1, (size_t)((to - 1) / SECTOR - from / SECTOR + 1));
    }
}

static bool parent_exists(struct entries *entries, const char *path) {
    const char *slash = strrchr(path, '/');
    if (slash == NULL || slash == path) {
        return true;
    }
    char parent[4096];
    snprintf(parent, sizeof parent, "%.*s", (int)(slash - path), path);
    const struct entry *found = find(entries, parent);
    return found != NULL && found->node->directory;
}

static int sim_handle(struct weir_files_sim *sim, struct node *node, bool writable,
                      struct weir_file **out) {
    struct sim_file *file = calloc(1, sizeof *file);
    if (file == NULL) {
        return -ENOMEM;
    }
    file->base.ops = sim->base.ops;
    file->sim = sim;
    file->node = node;
    file->generation = sim->generation;
    file->writable = writable;
    *out = &file->base;
    return 0;
}

static int sim_open(struct weir_files *files, const char *path, enum weir_file_mode mode,
                    struct weir_file **out) {
    struct weir_files_sim *sim = sim_of(files);
    if (sim->crashed) {
        return -EIO;
    }
    struct entry *found = find(&sim->now, path);
    if (mode != WEIR_FILE_CREATE) {
        if (found == NULL) {
            return -ENOENT;
        }
        return found->node->directory ? -EISDIR
                                      : sim_handle(sim, found->node, mode == WEIR_FILE_WRITE, out);
    }
    if (found != NULL) {
        return -EEXIST;
    }
    int died = step(sim);
    if (died < 0 || !parent_exists(&sim->now, path)) {
        return died < 0 ? died : -ENOENT;
    }
    struct node *node = node_create(sim, false);
    if (node == NULL) {
        return -ENOMEM;
    }
    int rc = change(sim, NULL, path, node);
    if (rc == 0 && died != 0) {
        rc = -EIO;
    }
    return rc != 0 ? rc : sim_handle(sim, node, true, out);
}

static void sim_close(struct weir_file *base) {
    struct sim_file *file = file_of(base);
    if (file->holds_lock && file->generation == file->sim->generation) {
        file->node->locked = false;
    }
    free(file);
}

static bool dead(const struct sim_file *file) {
    return file->sim->crashed || file->generation != file->sim->generation;
}

static ssize_t sim_writev(struct weir_file *base, const struct iovec *parts, int count,
                          uint64_t offset) {
    struct sim_file *file = file_of(base);
    struct weir_files_sim *sim = file->sim;
    struct node *node = file->node;
    uint64_t total = 0;
    if (dead(file) || !file->writable) {
        return dead(file) ? -EIO : -EBADF;
    }
    int died = step(sim);
    if (died < 0) {
        return died;
    }
    for (int i = 0; i < count; i++) {
        total += parts[i].iov_len;
    }
    if (sim->short_transfers && next_random(sim) % 8 == 0) {
        return -EINTR;
    }
    if (total > 1 && (died != 0 || (sim->short_transfers && next_random(sim) % 3 == 0))) {
        total = 1 + next_random(sim) % (total - 1);
    }
    if (offset + total > node->now_size) {
        uint64_t more = offset + total - node->now_size;
        if (more > sim->space) {
            if (total - (more - sim->space) == 0 || more - sim->space >= total) {
                return -ENOSPC;
            }
            total -= more - sim->space; /* what fits is written, as pwrite does */
            more = sim->space;
        }
        if (sim->space != UINT64_MAX) {
            sim->space -= more;
        }
    }
    if (node_grow(node, offset + total) != 0) {
        return -ENOMEM;
    }
    uint64_t left = total;
    uint64_t at = offset;
    for (int i = 0; i < count && left > 0; i++) {
        size_t n = parts[i].iov_len < left ? parts[i].iov_len : (size_t)left;
        memcpy(node->now + at, parts[i].iov_base, n);
        at += n;
        left -= n;
    }
    mark_dirty(node, offset, at);
    if (at > node->now_size) {
        node->now_size = at;
    }
    return died != 0 ? -EIO : (ssize_t)total;
}

static ssize_t sim_read(struct weir_file *base, void *bytes, size_t size, uint64_t offset) {
    struct sim_file *file = file_of(base);
    if (dead(file)) {
        return -EIO;
    }
    if (offset >= file->node->now_size) {
        return 0;
    }
    uint64_t left = file->node->now_size - offset;
    size_t n = size < left ? size : (size_t)left;
    if (n > 1 && file->sim->short_transfers && next_random(file->sim) % 3 == 0) {
        n = 1 + (size_t)(next_random(file->sim) % (n - 1));
    }
    memcpy(bytes, file->node->now + offset, n);
    return (ssize_t)n;
}

static int sim_size(struct weir_file *base, uint64_t *out) {
    struct sim_file *file = file_of(base);
    *out = file->node->now_size;
    return dead(file) ? -EIO : 0;
}

static int sim_truncate(struct weir_file *base, uint64_t size) {
    struct sim_file *file = file_of(base);
    struct node *node = file->node;
    if (dead(file)) {
        return -EIO;
    }
    int died = step(file->sim);
    if (died != 0) {
        return -EIO;
    }
    int rc = node_grow(node, size);
    if (rc == 0) {
        if (size < node->now_size) {
            memset(node->now + size, 0, node->now_size - size);
            mark_dirty(node, size, node->now_size);
        }
        node->now_size = size;
    }
    return rc;
}

static int sim_sync(struct weir_file *base) {
    struct sim_file *file = file_of(base);
    struct node *node = file->node;
    if (dead(file)) {
        return -EIO;
    }
    if (step(file->sim) != 0) {
        return -EIO;
    }
    uint64_t sectors = node->capacity / SECTOR;
    bool fails = file->sim->fail_sync_in > 0 && --file->sim->fail_sync_in == 0;
    for (uint64_t i = 0; i < sectors; i++) {
        if (node->dirty[i] && (!fails || next_random(file->sim) % 2 == 0)) {
            memcpy(node->disk + i * SECTOR, node->now + i * SECTOR, SECTOR);
        }
        node->dirty[i] = 0; /* clean, whether it reached the disk or not */
    }
    if (!fails) {
        node->disk_size = node->now_size;
    }
    return fails ? -EIO : 0;
}

static bool is_child(const char *directory, const char *path) {
    size_t n = strlen(directory);
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return strcmp(directory, ".") == 0;
    }
    if (slash == path) {
        return strcmp(directory, "/") == 0;
    }
    return (size_t)(slash - path) == n && strncmp(directory, path, n) == 0;
}

static int sim_sync_directory(struct weir_files *files, const char *path) {
    struct weir_files_sim *sim = sim_of(files);
    if (step(sim) != 0) {
        return -EIO;
    }
    size_t kept = 0;
    for (size_t i = 0; i < sim->change_count; i++) {
        struct change *made = &sim->changes[i];
        if (is_child(path, made->add != NULL ? made->add : made->remove)) {
            int rc = apply_change(&sim->disk, made->remove, made->add, made->node);
            if (rc != 0) {
                return rc;
            }
            change_fini(made);
        } else {
            sim->changes[kept++] = *made;
        }
    }
    sim->change_count = kept;
    return 0;
}

static int sim_move(struct weir_files *files, const char *from, const char *to, bool keep,
                    bool replace) {
    struct weir_files_sim *sim = sim_of(files);
    int died = step(sim);
    if (died < 0) {
        return died;
    }
    struct entry *found = find(&sim->now, from);
    if (found == NULL) {
        return -ENOENT;
    }
    if (!replace && find(&sim->now, to) != NULL) {
        return -EEXIST;
    }
    int rc = change(sim, keep ? NULL : from, to, found->node);
    return died != 0 ? -EIO : rc;
}

static int sim_unlink(struct weir_files *files, const char *path) {
    struct weir_files_sim *sim = sim_of(files);
    int died = step(sim);
    if (died < 0) {
        return died;
    }
    if (find(&sim->now, path) == NULL) {
        return -ENOENT;
    }
    int rc = change(sim, path, NULL, NULL);
    return died != 0 ? -EIO : rc;
}

static int sim_make_directory(struct weir_files *files, const char *path) {
    struct weir_files_sim *sim = sim_of(files);
    if (sim->crashed) {
        return -EIO;
    }
    if (find(&sim->now, path) != NULL) {
        return -EEXIST;
    }
    int died = step(sim);
    if (died < 0 || !parent_exists(&sim->now, path)) {
        return died < 0 ? died : -ENOENT;
    }
    struct node *node = node_create(sim, true);
    int rc = node == NULL ? -ENOMEM : change(sim, NULL, path, node);
    return died != 0 ? -EIO : rc;
}

static int sim_list(struct weir_files *files, const char *path,
                    int (*entry)(void *context, const char *name), void *context) {
    struct weir_files_sim *sim = sim_of(files);
    if (sim->crashed) {
        return -EIO;
    }
    if (find(&sim->now, path) == NULL) {
        return -ENOENT;
    }
    int rc = 0;
    for (size_t i = 0; i < sim->now.count && rc == 0; i++) {
        if (is_child(path, sim->now.list[i].path)) {
            rc = entry(context, strrchr(sim->now.list[i].path, '/') + 1);
        }
    }
    return rc;
}

static int sim_lock(struct weir_files *files, const char *path, struct weir_file **out) {
    struct weir_files_sim *sim = sim_of(files);
    int rc = sim_open(files, path, WEIR_FILE_WRITE, out);
    if (rc == -ENOENT) {
        rc = sim_open(files, path, WEIR_FILE_CREATE, out);
    }
    if (rc != 0) {
        return rc;
    }
    struct sim_file *file = file_of(*out);
    if (file->node->locked) {
        return -EWOULDBLOCK;
    }
    file->node->locked = true;
    file->holds_lock = true;
    return sim->crashed ? -EIO : 0;
}

/* --- one operation at a time --------------------------------------------------------------- */

#define LOCKED(sim, type, call)                                                                    \
    pthread_mutex_lock(&(sim)->lock);                                                              \
    type locked_result = (call);                                                                   \
    pthread_mutex_unlock(&(sim)->lock);                                                            \
    return locked_result

static int locked_open(struct weir_files *files, const char *path, enum weir_file_mode mode,
                       struct weir_file **out) {
    LOCKED(sim_of(files), int, sim_open(files, path, mode, out));
}

static void locked_close(struct weir_file *file) {
    struct weir_files_sim *sim = file_of(file)->sim;
    pthread_mutex_lock(&sim->lock);
    sim_close(file);
    pthread_mutex_unlock(&sim->lock);
}

static ssize_t locked_writev(struct weir_file *file, const struct iovec *parts, int count,
                             uint64_t offset) {
    LOCKED(file_of(file)->sim, ssize_t, sim_writev(file, parts, count, offset));
}

static ssize_t locked_read(struct weir_file *file, void *bytes, size_t size, uint64_t offset) {
    LOCKED(file_of(file)->sim, ssize_t, sim_read(file, bytes, size, offset));
}

static int locked_size(struct weir_file *file, uint64_t *out) {
    LOCKED(file_of(file)->sim, int, sim_size(file, out));
}

static int locked_truncate(struct weir_file *file, uint64_t size) {
    LOCKED(file_of(file)->sim, int, sim_truncate(file, size));
}

static int locked_sync(struct weir_file *file) {
    LOCKED(file_of(file)->sim, int, sim_sync(file));
}

static int locked_sync_directory(struct weir_files *files, const char *path) {
    LOCKED(sim_of(files), int, sim_sync_directory(files, path));
}

static int locked_rename(struct weir_files *files, const char *from, const char *to) {
    LOCKED(sim_of(files), int, sim_move(files, from, to, false, true));
}

static int locked_link(struct weir_files *files, const char *from, const char *to) {
    LOCKED(sim_of(files), int, sim_move(files, from, to, true, false));
}

static int locked_unlink(struct weir_files *files, const char *path) {
    LOCKED(sim_of(files), int, sim_unlink(files, path));
}

static int locked_make_directory(struct weir_files *files, const char *path) {
    LOCKED(sim_of(files), int, sim_make_directory(files, path));
}

static int locked_list(struct weir_files *files, const char *path,
                       int (*entry)(void *context, const char *name), void *context) {
    LOCKED(sim_of(files), int, sim_list(files, path, entry, context));
}

static int locked_lock(struct weir_files *files, const char *path, struct weir_file **out) {
    LOCKED(sim_of(files), int, sim_lock(files, path, out));
}

static const struct weir_files_ops sim_ops = {
    .open = locked_open,
    .close = locked_close,
    .writev = locked_writev,
    .read = locked_read,
    .size = locked_size,
    .truncate = locked_truncate,
    .sync = locked_sync,
    .sync_directory = locked_sync_directory,
    .rename = locked_rename,
    .link = locked_link,
    .unlink = locked_unlink,
    .make_directory = locked_make_directory,
    .list = locked_list,
    .lock = locked_lock,
};

struct weir_files_sim *weir_files_sim_create(uint64_t seed) {
    struct weir_files_sim *sim = calloc(1, sizeof *sim);
    if (sim != NULL) {
        sim->base.ops = &sim_ops;
        pthread_mutex_init(&sim->lock, NULL);
        sim->random = seed;
        sim->space = UINT64_MAX;
    }
    return sim;
}

static void entries_fini(struct entries *entries) {
    for (size_t i = 0; i < entries->count; i++) {
        free(entries->list[i].path);
    }
    free(entries->list);
}

void weir_files_sim_destroy(struct weir_files_sim *sim) {
    if (sim == NULL) {
        return;
    }
    for (size_t i = 0; i < sim->node_count; i++) {
        free(sim->nodes[i]->now);
        free(sim->nodes[i]->disk);
        free(sim->nodes[i]->dirty);
        free(sim->nodes[i]);
    }
    for (size_t i = 0; i < sim->change_count; i++) {
        change_fini(&sim->changes[i]);
    }
    free(sim->nodes);
    free(sim->changes);
    entries_fini(&sim->now);
    entries_fini(&sim->disk);
    pthread_mutex_destroy(&sim->lock);
    free(sim);
}

struct weir_files *weir_files_sim_files(struct weir_files_sim *sim) {
    return &sim->base;
}

void weir_files_sim_crash_after(struct weir_files_sim *sim, uint64_t operations) {
    sim->crash_in = operations;
}

void weir_files_sim_set_power(struct weir_files_sim *sim, bool (*on)(void *context),
                              void *context) {
    sim->power = on;
    sim->power_context = context;
}

bool weir_files_sim_crashed(const struct weir_files_sim *sim) {
    return sim->crashed;
}

void weir_files_sim_fail_sync(struct weir_files_sim *sim, uint64_t nth) {
    sim->fail_sync_in = nth;
}

void weir_files_sim_set_space(struct weir_files_sim *sim, uint64_t bytes) {
    sim->space = bytes;
}

void weir_files_sim_short_transfers(struct weir_files_sim *sim, bool on) {
    sim->short_transfers = on;
}

uint64_t weir_files_sim_operations(const struct weir_files_sim *sim) {
    return sim->operations;
}

static void lose_sectors(struct weir_files_sim *sim, struct node *node) {
    for (uint64_t i = 0; i < node->capacity / SECTOR; i++) {
        if (!node->dirty[i]) {
            continue;
        }
        uint64_t fate = next_random(sim) % 16;
        size_t kept = fate < 8 ? SECTOR : fate < 15 ? 0 : (size_t)(next_random(sim) % SECTOR);
        memcpy(node->disk + i * SECTOR, node->now + i * SECTOR, kept);
        node->dirty[i] = 0;
    }
    if (node->disk_size != node->now_size) {
        uint64_t low = node->disk_size < node->now_size ? node->disk_size : node->now_size;
        uint64_t high = node->disk_size < node->now_size ? node->now_size : node->disk_size;
        uint64_t fate = next_random(sim) % 3;
        node->disk_size = fate == 0   ? low
                          : fate == 1 ? high
                                      : low + next_random(sim) % (high - low + 1);
    }
    if (node->capacity > 0) {
        memset(node->disk + node->disk_size, 0, node->capacity - node->disk_size);
        memcpy(node->now, node->disk, node->capacity);
    }
    node->now_size = node->disk_size;
}

/* What lies in a directory that is gone is gone with it. */
static void drop_unreachable(struct entries *entries) {
    for (size_t i = 0; i < entries->count;) {
        if (parent_exists(entries, entries->list[i].path)) {
            i++;
        } else {
            entry_remove(entries, entries->list[i].path);
            i = 0;
        }
    }
}

void weir_files_sim_power_loss(struct weir_files_sim *sim) {
    for (size_t i = 0; i < sim->change_count; i++) {
        struct change *made = &sim->changes[i];
        if (next_random(sim) % 2 == 0) {
            apply_change(&sim->disk, made->remove, made->add, made->node);
        }
        change_fini(made);
    }
    sim->change_count = 0;
    drop_unreachable(&sim->disk);
    while (sim->now.count > 0) {
        entry_remove(&sim->now, sim->now.list[0].path);
    }
    for (size_t i = 0; i < sim->disk.count; i++) {
        entry_set(&sim->now, sim->disk.list[i].path, sim->disk.list[i].node);
    }
    for (size_t i = 0; i < sim->node_count; i++) {
        lose_sectors(sim, sim->nodes[i]);
    }
    weir_files_sim_process_loss(sim);
}

void weir_files_sim_process_loss(struct weir_files_sim *sim) {
    for (size_t i = 0; i < sim->node_count; i++) {
        sim->nodes[i]->locked = false;
    }
    sim->generation++;
    sim->crashed = false;
    sim->crash_in = 0;
}

bool weir_files_sim_damage(struct weir_files_sim *sim, const char *path, uint64_t offset,
                           uint8_t xor_with) {
    struct entry *found = find(&sim->now, path);
    if (found == NULL || offset >= found->node->now_size) {
        return false;
    }
    found->node->now[offset] ^= xor_with;
    found->node->disk[offset] ^= xor_with;
    return true;
}
