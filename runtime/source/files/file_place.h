#pragma once
/* Files that are objects of a store: what a pattern in a URL names, and where to read it. Folders
 * of the machine need none of this. Private to the sources that list files; one thread. */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "lake/store/store.h"

enum { FILE_PLACE_POLL_MS = 5000 }; /* between listings, where nothing is said */

struct file_place;

/* *out stays NULL where the pattern names files of the machine. `options`: the store's. No request
 * is sent. WEIR_E_CONFIG: a pattern that cannot be listed. */
int file_place_open(const char *pattern, const json_t *options, struct file_place **out,
                    struct weir_error *err) WEIR_MUST_CHECK;
void file_place_close(struct file_place *place); /* NULL is fine */
struct weir_store *file_place_store(struct file_place *place);
/* The object's name in the store; `path` is one that was listed, or recorded. NULL: it is of
 * another place. */
const char *file_place_name(const struct file_place *place, const char *path);

typedef int file_place_visit(void *context, const char *path, int64_t modified_ms,
                             struct weir_error *err);
/* What the pattern names now, as whole URLs, in no order. */
int file_place_list(struct file_place *place, file_place_visit *visit, void *context,
                    struct weir_error *err) WEIR_MUST_CHECK;
