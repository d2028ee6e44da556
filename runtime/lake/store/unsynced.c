/* A store whose disk forgets. What the process sees is the page cache; what a power loss leaves is
 * decided, page by page and name by name, by a seed, for everything that was not synced. It finds
 * the missing sync that killing a process never shows, since a killed process's page cache lives
 * on. Tests only; the memory it holds is theirs. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "lake/store/store.h"

#define PAGE_BYTES 512
#define NAMES_MAX 1000000

/* The bytes of a file or the existence of a directory, apart from its names. */
struct inode {
    uint8_t *now; /* what the process sees */
    size_t now_size;
    uint8_t *disk; /* what was last synced */
    size_t disk_size;
    int64_t modified_ms;
    bool is_dir;
};

/* One name: where it points in the page cache and on disk (NULL: nowhere). */
struct name {
    char *path;
    struct inode *now;
    struct inode *disk;
};

struct unsynced_store {
    struct weir_store base;
    pthread_mutex_t lock;
    struct name *names; /* sorted by path */
    size_t count;
    size_t capacity;
    struct inode **inodes; /* all ever made; freed with the store */
    size_t inode_count;
    uint64_t generation; /* power losses so far: files opened before are dead */
    uint64_t stop_after; /* changes still allowed, plus one; 0: no limit */
    uint64_t temp_count;
    bool (*power)(void *context);
    void *power_context;
};

struct unsynced_file {
    struct weir_store_file base;
    struct inode *inode;
    char *path;
    char *temp; /* atomic: its name until closed */
    uint64_t generation;
};

static struct unsynced_store *unsynced(struct weir_store *store) {
    return (struct unsynced_store *)store;
}

/* --- names --------------------------------------------------------------------------------- */

static size_t position(const struct unsynced_store *store, const char *path, bool *found) {
    size_t low = 0;
    size_t high = store->count;
    *found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(store->names[middle].path, path);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct inode *lookup(const struct unsynced_store *store, const char *path) {
    bool found;
    size_t at = position(store, path, &found);
    return found ? store->names[at].now : NULL;
}

static int no_memory(const char *path, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", path);
}

/* The name, made when absent (pointing nowhere). NULL without memory. */
static struct name *name_of(struct unsynced_store *store, const char *path) {
    bool found;
    size_t at = position(store, path, &found);
    if (found) {
        return &store->names[at];
    }
    if (store->count == store->capacity) {
        size_t capacity = store->capacity > 0 ? store->capacity * 2 : 64;
        struct name *names =
            capacity <= NAMES_MAX ? realloc(store->names, capacity * sizeof(*names)) : NULL;
        if (names == NULL) {
            return NULL;
        }
        store->names = names;
        store->capacity = capacity;
    }
    char *copy = strdup(path);
    if (copy == NULL) {
        return NULL;
    }
    memmove(&store->names[at + 1], &store->names[at], (store->count - at) * sizeof(*store->names));
    store->names[at] = (struct name){copy, NULL, NULL};
    store->count++;
    return &store->names[at];
}

static struct inode *make_inode(struct unsynced_store *store, bool is_dir) {
    struct inode *inode = calloc(1, sizeof(*inode));
    struct inode **inodes =
        inode != NULL ? realloc(store->inodes, (store->inode_count + 1) * sizeof(*inodes)) : NULL;
    if (inodes == NULL) {
        free(inode);
        return NULL;
    }
    store->inodes = inodes;
    inodes[store->inode_count++] = inode;
    inode->is_dir = is_dir;
    inode->modified_ms = weir_clock_wall_us() / 1000;
    return inode;
}

/* Counts one change; fails when the machine is to have stopped by now. */
static int change(struct unsynced_store *store, const char *path, struct weir_error *err) {
    if (store->stop_after != 1 && store->power != NULL && !store->power(store->power_context)) {
        store->stop_after = 1;
    }
    if (store->stop_after == 1) {
        return weir_error_set(err, WEIR_E_IO, "%s: the machine has stopped", path);
    }
    store->stop_after -= store->stop_after > 1;
    return WEIR_OK;
}

static void count_sync(struct unsynced_store *store) {
    __atomic_fetch_add(&store->base.sync_count, 1, __ATOMIC_RELAXED);
}

static bool is_child(const char *path, const char *dir) {
    size_t length = strlen(dir);
    if (length > 0 && (strncmp(path, dir, length) != 0 || path[length] != '/')) {
        return false;
    }
    return strchr(path + (length > 0 ? length + 1 : 0), '/') == NULL;
}

static void sync_names(struct unsynced_store *store, const char *dir) {
    count_sync(store);
    for (size_t i = 0; i < store->count; i++) {
        if (is_child(store->names[i].path, dir)) {
            store->names[i].disk = store->names[i].now;
        }
    }
}

static int sync_bytes(struct unsynced_store *store, struct inode *inode) {
    count_sync(store);
    uint8_t *disk = realloc(inode->disk, inode->now_size + 1);
    if (disk == NULL) {
        return WEIR_E_NOMEM;
    }
    if (inode->now_size > 0) {
        memcpy(disk, inode->now, inode->now_size);
    }
    inode->disk = disk;
    inode->disk_size = inode->now_size;
    return WEIR_OK;
}

static int write_bytes(struct inode *inode, const void *bytes, size_t size) {
    uint8_t *now = realloc(inode->now, inode->now_size + size + 1);
    if (now == NULL) {
        return WEIR_E_NOMEM;
    }
    if (size > 0) {
        memcpy(now + inode->now_size, bytes, size);
    }
    inode->now = now;
    inode->now_size += size;
    inode->modified_ms = weir_clock_wall_us() / 1000;
    return WEIR_OK;
}

/* Directories above `path`, each synced into its parent, as the local store does. */
static int make_parents(struct unsynced_store *store, const char *path, bool itself,
                        struct weir_error *err) {
    for (const char *slash = strchr(path, '/');; slash = strchr(slash + 1, '/')) {
        if (slash == NULL && !itself) {
            return WEIR_OK;
        }
        size_t length = slash != NULL ? (size_t)(slash - path) : strlen(path);
        char *dir = strndup(path, length);
        struct name *name = dir != NULL ? name_of(store, dir) : NULL;
        if (name == NULL || (name->now == NULL && (name->now = make_inode(store, true)) == NULL)) {
            free(dir);
            return no_memory(path, err);
        }
        name->disk = name->now;
        free(dir);
        if (slash == NULL) {
            return WEIR_OK;
        }
    }
}

/* --- the vtable ---------------------------------------------------------------------------- */

static int begin(struct weir_store *base, const char *path, struct weir_error *err) {
    int rc = *path != '\0' ? weir_store_check_path(path, err) : WEIR_OK;
    if (rc == WEIR_OK) {
        pthread_mutex_lock(&unsynced(base)->lock);
    }
    return rc;
}

static int end(struct weir_store *base, int rc) {
    pthread_mutex_unlock(&unsynced(base)->lock);
    return rc;
}

static char *parent_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? strndup(path, (size_t)(slash - path)) : strdup("");
}

/* put and put_if_absent, step by step as on a real disk: the machine may stop between any two. */
static int put_bytes(struct unsynced_store *store, const char *path, const void *bytes, size_t size,
                     bool replace, struct weir_error *err) {
    char *parent = parent_of(path);
    struct inode *inode = make_inode(store, false);
    int rc = parent != NULL && inode != NULL ? make_parents(store, path, false, err)
                                             : no_memory(path, err);
    if (rc == WEIR_OK) {
        rc = change(store, path, err); /* write the temporary file */
    }
    if (rc == WEIR_OK && (write_bytes(inode, bytes, size) != WEIR_OK)) {
        rc = no_memory(path, err);
    }
    if (rc == WEIR_OK) {
        rc = change(store, path, err); /* sync it */
    }
    if (rc == WEIR_OK && sync_bytes(store, inode) != WEIR_OK) {
        rc = no_memory(path, err);
    }
    if (rc == WEIR_OK) {
        rc = change(store, path, err); /* link or rename */
    }
    if (rc == WEIR_OK) {
        struct name *name = name_of(store, path);
        if (name == NULL) {
            rc = no_memory(path, err);
        } else if (name->now != NULL && !replace) {
            rc = weir_error_set(err, WEIR_E_CONFLICT, "%s was taken by another writer", path);
        } else {
            name->now = inode;
        }
    }
    if (rc == WEIR_OK) {
        rc = change(store, path, err); /* sync the directory */
    }
    if (rc == WEIR_OK) {
        sync_names(store, parent);
    }
    free(parent);
    return rc;
}

static int unsynced_put_if_absent(struct weir_store *base, const char *path, const void *bytes,
                                  size_t size, struct weir_error *err) {
    int rc = begin(base, path, err);
    return rc == WEIR_OK ? end(base, put_bytes(unsynced(base), path, bytes, size, false, err)) : rc;
}

static int unsynced_put(struct weir_store *base, const char *path, const void *bytes, size_t size,
                        struct weir_error *err) {
    int rc = begin(base, path, err);
    return rc == WEIR_OK ? end(base, put_bytes(unsynced(base), path, bytes, size, true, err)) : rc;
}

static int missing(const char *path, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOTFOUND, "%s: no such object", path);
}

static int unsynced_get(struct weir_store *base, const char *path, int64_t offset, int64_t length,
                        struct weir_buffer *out, struct weir_error *err) {
    int rc = begin(base, path, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    const struct inode *inode = lookup(unsynced(base), path);
    if (inode == NULL || inode->is_dir) {
        return end(base, missing(path, err));
    }
    int64_t size = (int64_t)inode->now_size;
    if (length < 0) {
        length = size > offset ? size - offset : 0;
    }
    if (offset < 0 || offset > size || length > size - offset) {
        rc = weir_error_set(err, WEIR_E_CORRUPT, "%s ends at byte %lld", path, (long long)size);
    } else if (length > 0) {
        rc = weir_buffer_append(out, inode->now + offset, (size_t)length);
        if (rc != WEIR_OK) {
            weir_error_set(err, rc, "%s: %s", path, weir_error_text(rc));
        }
    }
    return end(base, rc);
}

static void fill_info(const struct inode *inode, struct weir_store_info *info) {
    info->size_bytes = (int64_t)inode->now_size;
    info->modified_ms = inode->modified_ms;
    info->is_dir = inode->is_dir;
}

static int unsynced_stat(struct weir_store *base, const char *path, struct weir_store_info *info,
                         struct weir_error *err) {
    int rc = begin(base, path, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    const struct inode *inode = lookup(unsynced(base), path);
    if (inode != NULL) {
        fill_info(inode, info);
    }
    return end(base, inode != NULL ? WEIR_OK : missing(path, err));
}

/* Names are copied first, so that the visitor may use the store. */
static int unsynced_list(struct weir_store *base, const char *dir, const char *prefix,
                         const char *start_after, bool dirs, weir_store_visit *visit, void *context,
                         struct weir_error *err) {
    struct unsynced_store *store = unsynced(base);
    int rc = begin(base, dir, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    char **paths = calloc(store->count + 1, sizeof(*paths));
    struct weir_store_info *infos = calloc(store->count + 1, sizeof(*infos));
    size_t count = 0;
    size_t skip = *dir != '\0' ? strlen(dir) + 1 : 0;
    if (paths == NULL || infos == NULL) {
        rc = no_memory(dir, err);
    }
    for (size_t i = 0; i < store->count && rc == WEIR_OK; i++) {
        const struct name *name = &store->names[i];
        if (name->now == NULL || !is_child(name->path, dir) || (name->now->is_dir && !dirs)) {
            continue;
        }
        const char *last = name->path + skip;
        if (strncmp(last, ".tmp-", 5) == 0 ||
            (prefix != NULL && strncmp(last, prefix, strlen(prefix)) != 0) ||
            (start_after != NULL && strcmp(last, start_after) <= 0)) {
            continue;
        }
        fill_info(name->now, &infos[count]);
        paths[count] = strdup(name->path);
        rc = paths[count++] != NULL ? WEIR_OK : no_memory(dir, err);
    }
    rc = end(base, rc);
    for (size_t i = 0; i < count; i++) {
        if (rc == WEIR_OK) {
            rc = visit(context, paths[i], &infos[i]);
        }
        free(paths[i]);
    }
    free(paths);
    free(infos);
    return rc;
}

static int unsynced_remove(struct weir_store *base, const char *path, struct weir_error *err) {
    int rc = begin(base, path, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    rc = change(unsynced(base), path, err);
    if (rc == WEIR_OK && lookup(unsynced(base), path) != NULL) {
        bool found;
        unsynced(base)->names[position(unsynced(base), path, &found)].now = NULL;
    }
    return end(base, rc);
}

static int unsynced_make_dir(struct weir_store *base, const char *dir, struct weir_error *err) {
    int rc = begin(base, dir, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    return end(base, *dir != '\0' ? make_parents(unsynced(base), dir, true, err) : WEIR_OK);
}

static int unsynced_sync_dir(struct weir_store *base, const char *dir, struct weir_error *err) {
    int rc = begin(base, dir, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    rc = change(unsynced(base), dir, err);
    if (rc == WEIR_OK) {
        sync_names(unsynced(base), dir);
    }
    return end(base, rc);
}

static int unsynced_open(struct weir_store *base, const char *path, enum weir_store_open_mode mode,
                         struct weir_store_file **out, struct weir_error *err) {
    struct unsynced_store *store = unsynced(base);
    struct unsynced_file *file = calloc(1, sizeof(*file));
    struct name *name = NULL;
    int rc = file != NULL ? begin(base, path, err) : no_memory(path, err);
    if (rc != WEIR_OK) {
        free(file);
        return rc;
    }
    file->base.store = base;
    file->generation = store->generation;
    file->path = strdup(path);
    rc = change(store, path, err);
    if (rc == WEIR_OK) {
        rc = make_parents(store, path, false, err);
    }
    if (rc == WEIR_OK && mode == WEIR_STORE_ATOMIC &&
        asprintf(&file->temp, ".tmp-%llu", (unsigned long long)++store->temp_count) < 0) {
        file->temp = NULL;
        rc = no_memory(path, err);
    }
    if (rc == WEIR_OK) {
        name = name_of(store, file->temp != NULL ? file->temp : path);
        file->inode = make_inode(store, false);
        rc = name != NULL && file->inode != NULL && file->path != NULL ? WEIR_OK
                                                                       : no_memory(path, err);
    }
    if (rc == WEIR_OK && name->now != NULL) {
        rc = weir_error_set(err, WEIR_E_EXISTS, "%s already exists", path);
    }
    if (rc == WEIR_OK) {
        name->now = file->inode;
        *out = &file->base;
    } else {
        free(file->temp);
        free(file->path);
        free(file);
    }
    return end(base, rc);
}

static int alive(const struct unsynced_file *file, struct weir_error *err) {
    struct unsynced_store *store = unsynced(file->base.store);
    if (file->generation != store->generation) {
        return weir_error_set(err, WEIR_E_IO, "%s: opened before the power loss", file->path);
    }
    return change(store, file->path, err);
}

static int unsynced_file_write(struct weir_store_file *base, const void *bytes, size_t size,
                               struct weir_error *err) {
    struct unsynced_file *file = (struct unsynced_file *)base;
    pthread_mutex_lock(&unsynced(base->store)->lock);
    int rc = alive(file, err);
    if (rc == WEIR_OK && write_bytes(file->inode, bytes, size) != WEIR_OK) {
        rc = no_memory(file->path, err);
    }
    if (rc == WEIR_OK) {
        base->size_bytes += (int64_t)size;
    }
    return end(base->store, rc);
}

static int unsynced_file_sync(struct weir_store_file *base, struct weir_error *err) {
    struct unsynced_file *file = (struct unsynced_file *)base;
    pthread_mutex_lock(&unsynced(base->store)->lock);
    int rc = alive(file, err);
    if (rc == WEIR_OK && sync_bytes(unsynced(base->store), file->inode) != WEIR_OK) {
        rc = no_memory(file->path, err);
    }
    return end(base->store, rc);
}

static int unsynced_file_close(struct weir_store_file *base, bool keep, struct weir_error *err) {
    struct unsynced_file *file = (struct unsynced_file *)base;
    struct weir_store *owner = base->store;
    struct unsynced_store *store = unsynced(owner);
    pthread_mutex_lock(&store->lock);
    int rc = keep && file->temp != NULL ? alive(file, err) : WEIR_OK;
    bool found;
    if (rc == WEIR_OK && file->temp != NULL && keep) {
        struct name *name = name_of(store, file->path);
        if (name != NULL) {
            name->now = file->inode;
        } else {
            rc = no_memory(file->path, err);
        }
    }
    size_t at = position(store, file->temp != NULL ? file->temp : file->path, &found);
    if (found && store->names[at].now == file->inode && (file->temp != NULL || !keep) &&
        store->stop_after != 1) {
        store->names[at].now = NULL;
    }
    free(file->path);
    free(file->temp);
    free(file);
    return end(owner, rc);
}

static int unsynced_describe(struct weir_store *base, const char *path, struct weir_buffer *out) {
    (void)base;
    return weir_buffer_printf(out, "/memory%s%s", *path != '\0' ? "/" : "", path);
}

static void unsynced_destroy(struct weir_store *base) {
    struct unsynced_store *store = unsynced(base);
    for (size_t i = 0; i < store->count; i++) {
        free(store->names[i].path);
    }
    for (size_t i = 0; i < store->inode_count; i++) {
        free(store->inodes[i]->now);
        free(store->inodes[i]->disk);
        free(store->inodes[i]);
    }
    free(store->names);
    free(store->inodes);
    pthread_mutex_destroy(&store->lock);
    free(store);
}

static const struct weir_store_ops unsynced_ops = {
    .name = "unsynced",
    .put_if_absent = unsynced_put_if_absent,
    .put = unsynced_put,
    .get = unsynced_get,
    .stat = unsynced_stat,
    .list = unsynced_list,
    .remove = unsynced_remove,
    .make_dir = unsynced_make_dir,
    .sync_dir = unsynced_sync_dir,
    .open = unsynced_open,
    .file_write = unsynced_file_write,
    .file_sync = unsynced_file_sync,
    .file_close = unsynced_file_close,
    .describe = unsynced_describe,
    .destroy = unsynced_destroy,
};

int weir_store_unsynced_create(struct weir_store **out, struct weir_error *err) {
    struct unsynced_store *store = calloc(1, sizeof(*store));
    if (store == NULL) {
        return no_memory("unsynced store", err);
    }
    store->base.ops = &unsynced_ops;
    pthread_mutex_init(&store->lock, NULL);
    *out = &store->base;
    return WEIR_OK;
}

/* --- power loss ---------------------------------------------------------------------------- */

/* splitmix64: every decision takes the next number of the seed. */
static uint64_t next_random(uint64_t *seed) {
    uint64_t z = (*seed += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Of the bytes not synced: a random length survives, and within it each page did or did not reach
 * the disk (zeros where it did not). */
static void lose_bytes(struct inode *inode, uint64_t *seed) {
    if (inode->is_dir || inode->now_size <= inode->disk_size) {
        return;
    }
    size_t extra = inode->now_size - inode->disk_size;
    size_t kept = inode->disk_size + next_random(seed) % (extra + 1);
    for (size_t at = inode->disk_size; at < kept; at += PAGE_BYTES) {
        size_t size = kept - at < PAGE_BYTES ? kept - at : PAGE_BYTES;
        if (next_random(seed) & 1) {
            memset(inode->now + at, 0, size);
        }
    }
    inode->now_size = kept;
}

void weir_store_unsynced_power_loss(struct weir_store *base, uint64_t seed) {
    struct unsynced_store *store = unsynced(base);
    pthread_mutex_lock(&store->lock);
    for (size_t i = 0; i < store->count; i++) {
        struct name *name = &store->names[i];
        if (name->now != name->disk && (next_random(&seed) & 1)) {
            name->now = name->disk;
        }
        name->disk = name->now;
    }
    for (size_t i = 0; i < store->inode_count; i++) {
        lose_bytes(store->inodes[i], &seed);
        if (sync_bytes(store, store->inodes[i]) != WEIR_OK) {
            continue; /* the bytes then merely stay volatile for the next loss */
        }
    }
    store->generation++;
    store->stop_after = 0;
    pthread_mutex_unlock(&store->lock);
}

void weir_store_unsynced_process_loss(struct weir_store *base) {
    pthread_mutex_lock(&unsynced(base)->lock);
    unsynced(base)->generation++;
    unsynced(base)->stop_after = 0;
    pthread_mutex_unlock(&unsynced(base)->lock);
}

void weir_store_unsynced_stop_after(struct weir_store *base, uint64_t operations) {
    pthread_mutex_lock(&unsynced(base)->lock);
    unsynced(base)->stop_after = operations;
    pthread_mutex_unlock(&unsynced(base)->lock);
}

void weir_store_unsynced_set_power(struct weir_store *base, bool (*on)(void *context),
                                   void *context) {
    pthread_mutex_lock(&unsynced(base)->lock);
    unsynced(base)->power = on;
    unsynced(base)->power_context = context;
    pthread_mutex_unlock(&unsynced(base)->lock);
}
