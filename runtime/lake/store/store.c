#include "lake/store/store.h"

#include <string.h>

int weir_store_check_path(const char *path, struct weir_error *err) {
    size_t length = strlen(path);
    if (length > 4096) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "store path of %zu bytes is too long (at most 4096)", length);
    }
    const char *segment = path;
    for (;;) {
        const char *slash = strchr(segment, '/');
        size_t size = slash != NULL ? (size_t)(slash - segment) : strlen(segment);
        if (size == 0 || size > 255 || (size == 1 && segment[0] == '.') ||
            (size == 2 && segment[0] == '.' && segment[1] == '.')) {
            return weir_error_set(err, WEIR_E_CONFIG,
                                  "store path \"%.200s\" is not a plain relative path (no empty, "
                                  "\".\" or \"..\" segments, at most 255 bytes each)",
                                  path);
        }
        if (slash == NULL) {
            return WEIR_OK;
        }
        segment = slash + 1;
    }
}

int weir_store_sync_files(struct weir_store_file *const *files, int32_t count,
                          struct weir_error *err) {
    if (count > 1 && files[0]->store->ops->files_sync != NULL) {
        return files[0]->store->ops->files_sync(files, count, err);
    }
    int rc = WEIR_OK;
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        rc = weir_store_file_sync(files[i], err);
    }
    return rc;
}
