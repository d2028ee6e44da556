/* Staged writes past the page cache. O_DIRECT wants memory, place and size in whole blocks: full
 * stages are, the end of a file is not and goes the usual way. */
#include "lake/store/local_stage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BLOCK_BYTES = 4096,
    STAGE_BYTES = 512 << 10,
    DIRECT_BYTES = 64 << 10, /* shorter files stay in the page cache, where readers find them */
    STAGES_MAX = 64,
};

static _Atomic int stage_count;

int local_write_all(int fd, const void *bytes, size_t size) {
    const char *at = bytes;
    while (size > 0) {
        ssize_t n = write(fd, at, size < (1u << 30) ? size : (1u << 30));
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return -1;
        }
        at += n;
        size -= (size_t)n;
    }
    return 0;
}

static int set_direct(struct local_stage *stage, int fd, bool direct) {
    if (stage->direct == direct) {
        return 0;
    }
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) != 0) {
        return -1;
    }
    stage->direct = direct;
    return 0;
}

/* Whole blocks, past the page cache where that is possible. */
static int put_blocks(struct local_stage *stage, int fd, const uint8_t *bytes, size_t size) {
    if (!stage->refused && set_direct(stage, fd, true) == 0) {
        ssize_t n = write(fd, bytes, size);
        if (n == (ssize_t)size) {
            return 0;
        }
        if (n < 0 && errno != EINVAL && errno != EINTR) {
            return -1;
        }
        size_t done = n > 0 ? (size_t)n : 0;
        bytes += done;
        size -= done;
        stage->refused = n < 0 && errno == EINVAL;
    } else {
        stage->refused = true;
    }
    return set_direct(stage, fd, false) == 0 ? local_write_all(fd, bytes, size) : -1;
}

static bool begin(struct local_stage *stage) {
    if (atomic_fetch_add_explicit(&stage_count, 1, memory_order_relaxed) >= STAGES_MAX ||
        posix_memalign((void **)&stage->bytes, BLOCK_BYTES, STAGE_BYTES) != 0) {
        atomic_fetch_sub_explicit(&stage_count, 1, memory_order_relaxed);
        stage->bytes = NULL;
        stage->refused = true; /* this file is written as usual to its end */
        return false;
    }
    return true;
}

int local_stage_write(struct local_stage *stage, int fd, const void *bytes, size_t size) {
    if (stage->bytes == NULL && (stage->refused || !begin(stage))) {
        return local_write_all(fd, bytes, size);
    }
    const uint8_t *from = bytes;
    while (size > 0) {
        size_t n = STAGE_BYTES - stage->used < size ? STAGE_BYTES - stage->used : size;
        memcpy(stage->bytes + stage->used, from, n);
        stage->used += n;
        from += n;
        size -= n;
        if (stage->used == STAGE_BYTES) {
            if (put_blocks(stage, fd, stage->bytes, STAGE_BYTES) != 0) {
                return -1;
            }
            stage->used = 0;
        }
    }
    return 0;
}

int local_stage_flush(struct local_stage *stage, int fd) {
    if (stage->bytes == NULL) {
        return 0;
    }
    size_t blocks = stage->used / BLOCK_BYTES * BLOCK_BYTES;
    blocks = stage->direct || blocks >= DIRECT_BYTES ? blocks : 0;
    int rc = blocks > 0 ? put_blocks(stage, fd, stage->bytes, blocks) : 0;
    if (rc == 0 && blocks < stage->used) {
        rc = set_direct(stage, fd, false) == 0
                 ? local_write_all(fd, stage->bytes + blocks, stage->used - blocks)
                 : -1;
        stage->refused = true;
    }
    int saved = errno;
    local_stage_fini(stage);
    errno = saved;
    return rc;
}

void local_stage_fini(struct local_stage *stage) {
    if (stage->bytes != NULL) {
        free(stage->bytes);
        stage->bytes = NULL;
        stage->used = 0;
        atomic_fetch_sub_explicit(&stage_count, 1, memory_order_relaxed);
    }
}
