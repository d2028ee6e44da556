/* What the columns of a changelog say of its rows. */
#include "batch/change.h"

#include <string.h>

bool weir_change_leaves_out(const struct weir_batch *batch, int32_t unavailable, int32_t row,
                            const char *name) {
    const struct weir_column *list = unavailable >= 0 ? &batch->columns[unavailable] : NULL;
    if (list == NULL || weir_column_is_null(list, row)) {
        return false;
    }
    for (int32_t i = list->offsets[row]; i < list->offsets[row + 1]; i++) {
        int32_t size;
        const char *left_out = weir_column_bytes(&list->children[0], i, &size);
        if (strncmp(name, left_out, (size_t)size) == 0 && name[size] == '\0') {
            return true;
        }
    }
    return false;
}
