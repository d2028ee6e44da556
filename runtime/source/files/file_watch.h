#pragma once
/* Waiting for folders to change: inotify where the system has it, else (a network's file system, no
 * watch left) the wait simply runs out and the folder is listed again. Private to the files source.
 * One thread waits; any may wake it. */
#include "core/error.h"

struct file_watch;

/* Watches the folders in which files of the pattern lie now, and those above its wildcards. */
int file_watch_create(struct file_watch **out, const char *pattern,
                      struct weir_error *err) WEIR_MUST_CHECK;
void file_watch_destroy(struct file_watch *watch); /* NULL is fine */
/* Until something changed since the last wait, somebody wakes it, or the time is over. */
void file_watch_wait(struct file_watch *watch, int timeout_ms);
void file_watch_wake(struct file_watch *watch);
