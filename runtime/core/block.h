#pragma once
/* Recycled memory for what is small, uneven and passes between threads: buffers that grow, parts of
 * records, state's blocks. Sizes are powers of two; a block given back waits for the next of its
 * size, and new ones are cut from address space taken once, so that steady state does not call
 * malloc. One store a process, thread-safe; of large blocks that wait beyond WEIR_BLOCK_KEEP_BYTES
 * only the address space is kept. (Columns come from a weir_pool, which has a cap.) */
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_BLOCK_KEEP_BYTES ((size_t)64 << 20)

/* At least `bytes`, 16-byte aligned, contents undefined. NULL when out of memory. */
void *weir_block_take(size_t bytes);
void *weir_block_take_zeroed(size_t bytes);
/* As realloc: its contents in a block of at least `bytes`; NULL: out of memory, `block` stays. */
void *weir_block_regrow(void *block, size_t bytes);
void weir_block_give(void *block); /* NULL is ignored */
size_t weir_block_usable(const void *block);

#ifdef __cplusplus
}
#endif
