#pragma once
/* What a local file takes before the disk does: a block of aligned memory that goes out past the
 * page cache when it is full. A data file is written once and read later, if at all, by somebody
 * else; a copy of it in the page cache costs more time than its compression does where the kernel
 * first has to find the memory. Private to the local store; one thread a stage. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct local_stage {
    uint8_t *bytes; /* NULL: nothing staged yet, or no room for another stage */
    size_t used;
    bool direct;  /* the descriptor is in O_DIRECT now */
    bool refused; /* the file system has no O_DIRECT */
};

/* Both are 0, or -1 with errno set, after which the file is not to be used. */
int local_stage_write(struct local_stage *stage, int fd, const void *bytes, size_t size);
/* Everything taken so far is in the file. Staging may go on only while what it holds is a whole
 * number of blocks; after a flush of anything else the file is written as usual. */
int local_stage_flush(struct local_stage *stage, int fd);
void local_stage_fini(struct local_stage *stage);

/* write(2) until all is written. */
int local_write_all(int fd, const void *bytes, size_t size);
