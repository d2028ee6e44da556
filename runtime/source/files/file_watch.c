#include "source/files/file_watch.h"

#include <errno.h>
#include <glob.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

enum { CHANGES = IN_CREATE | IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_TO | IN_ATTRIB };

struct file_watch {
    char *pattern;
    int changes; /* inotify; -1: none to be had */
    int wake;
};

/* Watching a folder twice is the same as once. */
static void add_folders(struct file_watch *watch) {
    size_t length = strlen(watch->pattern);
    for (size_t i = length; i > 0; i--) {
        if (watch->pattern[i - 1] != '/') {
            continue;
        }
        char *folder = strndup(watch->pattern, i);
        glob_t found;
        if (folder != NULL && glob(folder, GLOB_BRACE | GLOB_NOSORT, NULL, &found) == 0) {
            for (size_t n = 0; n < found.gl_pathc; n++) {
                (void)inotify_add_watch(watch->changes, found.gl_pathv[n], CHANGES | IN_ONLYDIR);
            }
            globfree(&found);
        }
        bool has_wildcards = folder != NULL && strpbrk(folder, "*?[{") != NULL;
        free(folder);
        if (!has_wildcards) {
            return; /* what lies above is fixed */
        }
    }
}

int file_watch_create(struct file_watch **out, const char *pattern, struct weir_error *err) {
    *out = NULL;
    struct file_watch *watch = calloc(1, sizeof(*watch));
    if (watch == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    watch->changes = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    watch->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    watch->pattern = strdup(pattern);
    if (watch->wake < 0 || watch->pattern == NULL) {
        int rc = weir_error_system(err, WEIR_E_ENVIRONMENT, errno, "cannot wait for files");
        file_watch_destroy(watch);
        return rc;
    }
    if (watch->changes >= 0) {
        add_folders(watch);
    }
    *out = watch;
    return WEIR_OK;
}

void file_watch_destroy(struct file_watch *watch) {
    if (watch != NULL) {
        if (watch->changes >= 0) {
            close(watch->changes);
        }
        if (watch->wake >= 0) {
            close(watch->wake);
        }
        free(watch->pattern);
        free(watch);
    }
}

void file_watch_wait(struct file_watch *watch, int timeout_ms) {
    struct pollfd fds[2] = {{.fd = watch->wake, .events = POLLIN},
                            {.fd = watch->changes, .events = POLLIN}};
    if (poll(fds, watch->changes >= 0 ? 2 : 1, timeout_ms) <= 0 || fds[1].revents == 0) {
        return;
    }
    char events[4096];
    while (read(watch->changes, events, sizeof(events)) > 0) {
    }
    add_folders(watch); /* a new one may be among the changes */
}

void file_watch_wake(struct file_watch *watch) {
    uint64_t one = 1;
    ssize_t written = write(watch->wake, &one, sizeof(one));
    (void)written; /* full: it is awake already */
}
