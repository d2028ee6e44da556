#include "pipeline/only.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Whether "a+b" has this name. */
static bool has_name(const char *names, const char *name) {
    size_t length = strlen(name);
    for (const char *at = names; at != NULL; at = strchr(at, '+')) {
        at += at != names;
        if (strncmp(at, name, length) == 0 && (at[length] == '\0' || at[length] == '+')) {
            return true;
        }
    }
    return false;
}

static bool overlaps(const struct weir_plan *plan, const char *names) {
    bool any = plan->only_count == 0;
    for (int32_t i = 0; i < plan->only_count; i++) {
        any |= has_name(names, plan->only[i]);
    }
    return any;
}

int only_check(const struct weir_plan *plan, const char *ledger, struct weir_error *err) {
    char folder[1100];
    const char *whole = plan->whole_ledger != NULL ? plan->whole_ledger : ledger;
    const char *own = plan->only_count > 0 ? strrchr(ledger, '/') + 1 : "";
    if (plan->only_count > 0 && access(whole, F_OK) == 0) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "--only: the whole pipeline has run here and its ledger, %s, goes on "
                              "from what it wrote; run into a lake of its own: --set "
                              "storage.root=DIR",
                              whole);
    }
    snprintf(folder, sizeof(folder), "%s-only", whole);
    DIR *directory = opendir(folder);
    const struct dirent *entry;
    int rc = WEIR_OK;
    while (directory != NULL && rc == WEIR_OK && (entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] == '.' || strcmp(entry->d_name, own) == 0 ||
            !overlaps(plan, entry->d_name)) {
            continue;
        }
        rc = weir_error_set(err, WEIR_E_CONFIG,
                            "a run with --only has written tables here, and its ledger, %s/%s, "
                            "goes on from that; use another lake, --set storage.root=DIR, or "
                            "remove that folder and the tables it wrote",
                            folder, entry->d_name);
    }
    if (directory != NULL) {
        closedir(directory);
    }
    return rc;
}
