#include "source/files/file_place.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "lake/store/open.h"

struct file_place {
    struct weir_store *store;
    char *root; /* URL up to and with the last slash before a wildcard */
    char *rest; /* of the pattern, behind it */
};

/* What one listing of a folder found. */
struct entry {
    char *path;
    int64_t modified_ms;
    bool is_dir;
};

struct entries {
    struct entry *items;
    size_t count;
    size_t capacity;
};

struct listing {
    struct file_place *place;
    file_place_visit *visit;
    void *context;
    struct weir_buffer path;
};

enum { PATH_BYTES_MAX = 8192, DEPTH_MAX = 64 };

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "out of memory for a listing");
}

int file_place_open(const char *pattern, const json_t *options, struct file_place **out,
                    struct weir_error *err) {
    *out = NULL;
    if (!weir_store_is_remote(pattern)) {
        return WEIR_OK;
    }
    const char *host = strstr(pattern, "://") + 3;
    size_t fixed = strcspn(host, "*?[");
    while (fixed > 0 && host[fixed - 1] != '/') {
        fixed--;
    }
    if (strchr(pattern, '{') != NULL || fixed == 0 || host[fixed] == '\0') {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "%s names no objects: write a bucket or container, folders and a "
                              "name, of which all but the first may have * ? and […], as in "
                              "\"s3://bucket/landing/*.jsonl\"",
                              pattern);
    }
    struct file_place *place = calloc(1, sizeof(*place));
    if (place == NULL) {
        return no_memory(err);
    }
    *out = place;
    place->root = strndup(pattern, (size_t)(host - pattern) + fixed);
    place->rest = strdup(host + fixed);
    if (place->root == NULL || place->rest == NULL) {
        return no_memory(err);
    }
    return weir_store_open_url(place->root, options, false, &place->store, err);
}

void file_place_close(struct file_place *place) {
    if (place != NULL) {
        weir_store_destroy(place->store);
        free(place->root);
        free(place->rest);
        free(place);
    }
}

struct weir_store *file_place_store(struct file_place *place) {
    return place->store;
}

const char *file_place_name(const struct file_place *place, const char *path) {
    size_t length = strlen(place->root);
    return strncmp(path, place->root, length) == 0 ? path + length : NULL;
}

/* --- listing ------------------------------------------------------------------------------ */

static void forget(struct entries *entries) {
    for (size_t i = 0; i < entries->count; i++) {
        free(entries->items[i].path);
    }
    free(entries->items);
}

static int keep(void *context, const char *path, const struct weir_store_info *info) {
    struct entries *entries = context;
    if (entries->count == entries->capacity) {
        size_t capacity = entries->capacity > 0 ? entries->capacity * 2 : 64;
        struct entry *items = realloc(entries->items, capacity * sizeof(*items));
        if (items == NULL) {
            return WEIR_E_NOMEM;
        }
        entries->items = items;
        entries->capacity = capacity;
    }
    struct entry *entry = &entries->items[entries->count];
    *entry = (struct entry){strdup(path), info->modified_ms, info->is_dir};
    entries->count += entry->path != NULL;
    return entry->path != NULL ? WEIR_OK : WEIR_E_NOMEM;
}

static int tell(struct listing *listing, const struct entry *entry, struct weir_error *err) {
    weir_buffer_clear(&listing->path);
    int rc = weir_buffer_append_text(&listing->path, listing->place->root);
    rc = rc == WEIR_OK ? weir_buffer_append_text(&listing->path, entry->path) : rc;
    const char *path = rc == WEIR_OK ? weir_buffer_text(&listing->path) : NULL;
    return path != NULL ? listing->visit(listing->context, path, entry->modified_ms, err)
                        : no_memory(err);
}

/* What `pattern`, relative to `dir`, names. */
static int walk(struct listing *listing, const char *dir, const char *pattern, int depth,
                struct weir_error *err) {
    struct entries entries = {0};
    size_t length = strcspn(pattern, "/");
    bool is_last = pattern[length] == '\0';
    char *segment = strndup(pattern, length);
    if (segment == NULL) {
        return no_memory(err);
    }
    if (depth > DEPTH_MAX) {
        free(segment);
        return weir_error_set(err, WEIR_E_CONFIG, "a pattern of more than %d folders", DEPTH_MAX);
    }
    struct weir_store *store = listing->place->store;
    int rc = is_last ? weir_store_list(store, dir, NULL, NULL, keep, &entries, err)
                     : weir_store_list_dir(store, dir, keep, &entries, err);
    if (rc == WEIR_E_NOMEM) {
        no_memory(err);
    }
    for (size_t i = 0; rc == WEIR_OK && i < entries.count; i++) {
        struct entry *entry = &entries.items[i];
        size_t end = strlen(entry->path);
        if (end > 0 && entry->path[end - 1] == '/') {
            entry->path[end - 1] = '\0';
        }
        const char *slash = strrchr(entry->path, '/');
        const char *name = slash != NULL ? slash + 1 : entry->path;
        if (entry->is_dir == is_last || fnmatch(segment, name, FNM_PERIOD) != 0) {
            continue;
        }
        rc = is_last ? tell(listing, entry, err)
                     : walk(listing, entry->path, pattern + length + 1, depth + 1, err);
    }
    forget(&entries);
    free(segment);
    return rc;
}

int file_place_list(struct file_place *place, file_place_visit *visit, void *context,
                    struct weir_error *err) {
    struct listing listing = {.place = place, .visit = visit, .context = context};
    weir_buffer_init(&listing.path, PATH_BYTES_MAX);
    int rc = walk(&listing, "", place->rest, 0, err);
    weir_buffer_fini(&listing.path);
    return rc;
}
