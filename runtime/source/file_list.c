#include "source/file_list.h"

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

static int by_bytes(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static struct timespec time_of(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 ? st.st_mtim : (struct timespec){0};
}

static int by_time(const void *a, const void *b) {
    struct timespec x = time_of(*(char *const *)a);
    struct timespec y = time_of(*(char *const *)b);
    if (x.tv_sec != y.tv_sec) {
        return x.tv_sec < y.tv_sec ? -1 : 1;
    }
    return x.tv_nsec != y.tv_nsec ? (x.tv_nsec < y.tv_nsec ? -1 : 1) : by_bytes(a, b);
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Forgets files that were read and are gone. */
static int forget_gone(struct file_list *list, const glob_t *found, struct weir_error *err) {
    uint64_t *hashes = malloc((found->gl_pathc + 1) * sizeof(*hashes));
    if (hashes == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < found->gl_pathc; i++) {
        hashes[i] = file_list_hash(found->gl_pathv[i]);
    }
    qsort(hashes, found->gl_pathc, sizeof(*hashes), by_value);
    size_t kept = 0;
    for (size_t i = 0; i < list->done_count; i++) {
        if (bsearch(&list->done[i], hashes, found->gl_pathc, sizeof(*hashes), by_value) != NULL) {
            list->done[kept++] = list->done[i];
        }
    }
    list->done_count = kept;
    free(hashes);
    return WEIR_OK;
}

int file_list_scan(struct file_list *list, const char *current, struct weir_error *err) {
    glob_t found;
    int result = glob(list->pattern, GLOB_BRACE | GLOB_MARK | GLOB_NOSORT, NULL, &found);
    if (result != 0 && result != GLOB_NOMATCH) {
        return weir_error_system(err, WEIR_E_ENVIRONMENT, errno, "cannot list %s", list->pattern);
    }
    clear_paths(list);
    if (result == GLOB_NOMATCH) {
        globfree(&found);
        list->matches = 0;
        list->done_count = 0;
        return WEIR_OK;
    }
    int rc = forget_gone(list, &found, err);
    list->paths = calloc(found.gl_pathc + 1, sizeof(*list->paths));
    if (rc == WEIR_OK && list->paths == NULL) {
        rc = weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    list->matches = 0;
    for (size_t i = 0; rc == WEIR_OK && i < found.gl_pathc; i++) {
        const char *path = found.gl_pathv[i];
        if (path[0] == '\0' || path[strlen(path) - 1] == '/') {
            continue; /* folders */
        }
        list->matches++;
        if ((current != NULL && strcmp(path, current) == 0) ||
            file_list_is_done(list, file_list_hash(path))) {
            continue;
        }
        list->paths[list->path_count] = strdup(path);
        if (list->paths[list->path_count] == NULL) {
            rc = weir_error_set(err, WEIR_E_NOMEM, "out of memory");
        } else {
            list->path_count++;
        }
    }
    globfree(&found);
    if (list->path_count > 1) {
        qsort(list->paths, list->path_count, sizeof(*list->paths),
              list->by_time ? by_time : by_bytes);
    }
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
