#pragma once
/* Whether files are as they were: a number of what the system tells of each (name, inode, size,
 * time of its last change), which differs once one was written, renamed over, added or removed. */
#include <stdint.h>

/* One file, behind those in `hash`; of one that is not there as well. */
uint64_t weir_stamp_of_file(const char *path, uint64_t hash);
/* The files below a folder whose names end so (NULL: all), in whatever order they are listed;
 * names with a dot in front are an editor's. 0 where there are none. */
uint64_t weir_stamp_of_folder(const char *path, const char *ending);
