#pragma once
/* Which files a pattern names, and which of them have been read. Private to the sources of files. A
 * file is known by its path; read paths are kept as 64-bit hashes, and forgotten once they are gone
 * from the folder, so the list is no longer than the folder. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "source/files/file_place.h"

#define FILE_LIST_DONE_MAX 7000 /* fits a position */

struct file_list {
    char *pattern;
    struct file_place *place; /* owned; NULL: files of the machine */
    char **paths;             /* matched and not read, by bytes of the name; owned */
    size_t path_count;
    uint64_t *done; /* hashes, ascending */
    size_t done_count;
    size_t matches; /* of the last scan */
    bool by_time;   /* `paths` go by the time of their last change, then by name */
};

uint64_t file_list_hash(const char *path);
void file_list_fini(struct file_list *list);
/* Lists afresh: paths not done, without `current` (may be NULL). */
int file_list_scan(struct file_list *list, const char *current,
                   struct weir_error *err) WEIR_MUST_CHECK;
/* Takes the first path; the caller frees. NULL when there is none. */
char *file_list_take(struct file_list *list);
int file_list_add_done(struct file_list *list, uint64_t hash,
                       struct weir_error *err) WEIR_MUST_CHECK;
bool file_list_is_done(const struct file_list *list, uint64_t hash);
