#include "source/files/file_list.h"

#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t file_list_hash(const char *path) {
    return XXH3_64bits(path, strlen(path));
}

static void clear_paths(struct file_list *list) {
    for (size_t i = 0; i < list->path_count; i++) {
        free(list->paths[i]);
    }
    free(list->paths);
    list->paths = NULL;
    list->path_count = 0;
}

void file_list_fini(struct file_list *list) {
    clear_paths(list);
    file_place_close(list->place);
    free(list->pattern);
    free(list->done);
    memset(list, 0, sizeof(*list));
}

static size_t lower_bound(const struct file_list *list, uint64_t hash) {
    size_t low = 0;
    size_t high = list->done_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (list->done[middle] < hash) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

bool file_list_is_done(const struct file_list *list, uint64_t hash) {
    size_t at = lower_bound(list, hash);
    return at < list->done_count && list->done[at] == hash;
}

int file_list_add_done(struct file_list *list, uint64_t hash, struct weir_error *err) {
    if (list->done == NULL) {
        list->done = malloc(FILE_LIST_DONE_MAX * sizeof(*list->done));
        if (list->done == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
        }
    }
    size_t at = lower_bound(list, hash);
    if (at < list->done_count && list->done[at] == hash) {
        return WEIR_OK;
    }
    if (list->done_count == FILE_LIST_DONE_MAX) {
        return weir_error_set(err, WEIR_E_LIMIT,
                              "%s matches more than %d files; move files that were read out of the "
                              "folder, or narrow the pattern",
                              list->pattern, FILE_LIST_DONE_MAX);
    }
    memmove(&list->done[at + 1], &list->done[at], (list->done_count - at) * sizeof(*list->done));
    list->done[at] = hash;
    list->done_count++;
    return WEIR_OK;
}

/* Named by the pattern. */
struct found {
    char *path;
    int64_t changed_ns; /* of a list by time */
};

struct finding {
    const struct file_list *list;
    struct found *items;
    size_t count;
    size_t capacity;
};

static int by_bytes(const void *a, const void *b) {
    return strcmp(((const struct found *)a)->path, ((const struct found *)b)->path);
}

static int by_time(const void *a, const void *b) {
    int64_t x = ((const struct found *)a)->changed_ns;
    int64_t y = ((const struct found *)b)->changed_ns;
    return x != y ? (x < y ? -1 : 1) : by_bytes(a, b);
}

static int put(struct finding *finding, const char *path, int64_t changed_ns,
               struct weir_error *err) {
    if (finding->count == finding->capacity) {
        size_t capacity = finding->capacity > 0 ? finding->capacity * 2 : 256;
        struct found *items = realloc(finding->items, capacity * sizeof(*items));
        if (items == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
        }
        finding->items = items;
        finding->capacity = capacity;
    }
    char *copy = strdup(path);
    if (copy == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    finding->items[finding->count++] = (struct found){copy, changed_ns};
    return WEIR_OK;
}

static int put_object(void *context, const char *path, int64_t modified_ms,
                      struct weir_error *err) {
    return put(context, path, modified_ms * 1000000, err);
}

static int find_local(struct finding *finding, struct weir_error *err) {
    glob_t found;
    int result = glob(finding->list->pattern, GLOB_BRACE | GLOB_MARK | GLOB_NOSORT, NULL, &found);
    if (result == GLOB_NOMATCH) {
        globfree(&found);
        return WEIR_OK;
    }
    if (result != 0) {
        return weir_error_system(err, WEIR_E_ENVIRONMENT, errno, "cannot list %s",
                                 finding->list->pattern);
    }
    int rc = WEIR_OK;
    for (size_t i = 0; rc == WEIR_OK && i < found.gl_pathc; i++) {
        const char *path = found.gl_pathv[i];
        struct stat st = {0};
        if (path[0] == '\0' || path[strlen(path) - 1] == '/') {
            continue; /* folders */
        }
        if (finding->list->by_time && stat(path, &st) != 0) {
            continue; /* gone again */
        }
        rc = put(finding, path, st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec, err);
    }
    globfree(&found);
    return rc;
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Forgets files that were read and are gone. */
static int forget_gone(struct file_list *list, const struct finding *finding,
                       struct weir_error *err) {
    uint64_t *hashes = malloc((finding->count + 1) * sizeof(*hashes));
    if (hashes == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < finding->count; i++) {
        hashes[i] = file_list_hash(finding->items[i].path);
    }
    qsort(hashes, finding->count, sizeof(*hashes), by_value);
    size_t kept = 0;
    for (size_t i = 0; i < list->done_count; i++) {
        if (bsearch(&list->done[i], hashes, finding->count, sizeof(*hashes), by_value) != NULL) {
            list->done[kept++] = list->done[i];
        }
    }
    list->done_count = kept;
    free(hashes);
    return WEIR_OK;
}

int file_list_scan(struct file_list *list, const char *current, struct weir_error *err) {
    struct finding finding = {.list = list};
    int rc = list->place != NULL ? file_place_list(list->place, put_object, &finding, err)
                                 : find_local(&finding, err);
    clear_paths(list);
    list->matches = rc == WEIR_OK ? finding.count : 0;
    rc = rc == WEIR_OK ? forget_gone(list, &finding, err) : rc;
    list->paths = rc == WEIR_OK ? calloc(finding.count + 1, sizeof(*list->paths)) : NULL;
    if (rc == WEIR_OK && list->paths == NULL) {
        rc = weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    if (finding.count > 1) {
        qsort(finding.items, finding.count, sizeof(*finding.items),
              list->by_time ? by_time : by_bytes);
    }
    for (size_t i = 0; i < finding.count; i++) {
        char *path = finding.items[i].path;
        if (rc != WEIR_OK || (current != NULL && strcmp(path, current) == 0) ||
            file_list_is_done(list, file_list_hash(path))) {
            free(path);
        } else {
            list->paths[list->path_count++] = path;
        }
    }
    free(finding.items);
    return rc;
}

char *file_list_take(struct file_list *list) {
    if (list->path_count == 0) {
        return NULL;
    }
    char *first = list->paths[0];
    list->path_count--;
    memmove(list->paths, list->paths + 1, list->path_count * sizeof(*list->paths));
    return first;
}
