/* Where running instances are found: a small file per pipeline in the user's runtime folder names
 * the ledger's folder, so that `weir status` works while the rules on disk are broken. */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "cli/cli.h"

static bool instance_file(const char *pipeline, bool make, char *out, size_t size) {
    char full[PATH_MAX];
    char folder[PATH_MAX];
    if (realpath(pipeline, full) == NULL) {
        return false;
    }
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    snprintf(folder, sizeof(folder), "%s/weir-%u", runtime != NULL ? runtime : "/tmp",
             (unsigned)getuid());
    struct stat info;
    if (make && mkdir(folder, 0700) != 0 && errno != EEXIST) {
        return false;
    }
    /* The folder may lie in /tmp: take nobody else's word for where our ledger is. */
    if (lstat(folder, &info) != 0 || !S_ISDIR(info.st_mode) || info.st_uid != getuid()) {
        return false;
    }
    int length = snprintf(out, size, "%s/%016llx", folder,
                          (unsigned long long)XXH3_64bits(full, strlen(full)));
    return length > 0 && (size_t)length < size;
}

void weir_cli_register(const char *pipeline, const char *ledger) {
    char path[PATH_MAX];
    char full[PATH_MAX];
    if (realpath(ledger, full) == NULL || !instance_file(pipeline, true, path, sizeof(path))) {
        return; /* only a convenience is lost */
    }
    FILE *file = fopen(path, "w");
    if (file != NULL) {
        fprintf(file, "%s\n", full);
        fclose(file);
    }
}

bool weir_cli_registered(const char *pipeline, char *ledger, size_t size) {
    char path[PATH_MAX];
    FILE *file = instance_file(pipeline, false, path, sizeof(path)) ? fopen(path, "r") : NULL;
    if (file == NULL) {
        return false;
    }
    bool found = fgets(ledger, (int)size, file) != NULL;
    fclose(file);
    if (found) {
        ledger[strcspn(ledger, "\n")] = '\0';
    }
    return found && access(ledger, F_OK) == 0;
}

bool weir_cli_alive(long long pid) {
    return pid > 0 && (kill((pid_t)pid, 0) == 0 || errno == EPERM);
}
