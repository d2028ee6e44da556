#include <stdlib.h>
#include <string.h>

#include "source/files/files.h"

bool files_parse_position(const struct weir_position *position, struct files_position *out) {
    const uint8_t *p = position->bytes;
    if (position->size < POSITION_FIXED_BYTES || p[0] != 'f' || p[1] != POSITION_VERSION) {
        return false;
    }
    memcpy(&out->done_count, p + 4, 4);
    memcpy(&out->offset, p + 8, 8);
    memcpy(&out->head_hash, p + 16, 8);
    memcpy(&out->head_bytes, p + 24, 4);
    memcpy(&out->path_bytes, p + 28, 4);
    out->path = p + POSITION_FIXED_BYTES;
    out->done = out->path + (out->path_bytes <= PATH_BYTES_MAX ? out->path_bytes : 0);
    return out->path_bytes <= PATH_BYTES_MAX && out->done_count <= FILE_LIST_DONE_MAX &&
           out->head_bytes <= HEAD_BYTES && out->head_bytes <= out->offset &&
           position->size == POSITION_FIXED_BYTES + out->path_bytes + 8 * (size_t)out->done_count;
}

uint32_t files_position_bytes(const struct files *files) {
    size_t path = files->path != NULL ? strlen(files->path) : 0;
    return (uint32_t)(POSITION_FIXED_BYTES + path + 8 * files->list.done_count);
}

void files_write_position(const struct files *files, uint8_t *p) {
    uint32_t path = files->path != NULL ? (uint32_t)strlen(files->path) : 0;
    uint32_t done = (uint32_t)files->list.done_count;
    uint32_t head = files->offset < files->head_size ? (uint32_t)files->offset : files->head_size;
    uint64_t hash = XXH3_64bits(files->head, head);
    uint64_t offset = files->path != NULL ? files->offset : 0;
    if (files->path == NULL) {
        head = 0;
        hash = 0;
    }
    memset(p, 0, POSITION_FIXED_BYTES);
    p[0] = 'f';
    p[1] = POSITION_VERSION;
    p[2] = files->path != NULL;
    memcpy(p + 4, &done, 4);
    memcpy(p + 8, &offset, 8);
    memcpy(p + 16, &hash, 8);
    memcpy(p + 24, &head, 4);
    memcpy(p + 28, &path, 4);
    if (path > 0) {
        memcpy(p + POSITION_FIXED_BYTES, files->path, path);
    }
    if (done > 0) {
        memcpy(p + POSITION_FIXED_BYTES + path, files->list.done, 8 * (size_t)done);
    }
}

int files_describe(const struct weir_position *position, struct weir_buffer *out) {
    struct files_position at;
    if (!files_parse_position(position, &at)) {
        return weir_buffer_printf(out, "not a files position");
    }
    if (at.path_bytes == 0) {
        return weir_buffer_printf(out, "between files, %u files read", at.done_count);
    }
    return weir_buffer_printf(out, "%.*s at byte %llu, %u files read", (int)at.path_bytes,
                              (const char *)at.path, (unsigned long long)at.offset, at.done_count);
}
