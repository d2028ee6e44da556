#pragma once
/* Huge pages made before they are needed. In small pages most of a look-up among millions of keys
 * is finding the page; but the first touch of a huge one zeroes two megabytes, milliseconds where
 * the machine is virtual, which the loop is not to wait for. So a thread keeps a few made, and who
 * is about to fill memory puts them there: a matter of page tables.
 *
 * Thread-safe. Nothing here fails: where no page is at hand, the small ones that are there serve.
 */
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_AHEAD_PAGE_BYTES ((size_t)2 << 20)

/* Pages will be wanted: the thread, which the first call starts, makes some. */
void weir_ahead_start(void);
/* Puts a zeroed huge page at an address aligned to its size, of weir_region_map_aligned, in place
 * of whatever was there. Returns whether there was one at hand; if not, nothing is changed. */
int weir_ahead_put(void *at);

#ifdef __cplusplus
}
#endif
