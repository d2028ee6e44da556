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
