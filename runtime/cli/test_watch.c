/* weir test --watch: the specs once more, in a process of their own, whenever a file they may
 * depend on changes. Files are looked at five times a second: it holds for editors that rename and
 * for folders of a network as well. */
#include <ftw.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "cli/cli.h"

extern char **environ;

enum { OPEN_FOLDERS_MAX = 16, LOOK_MS = 200 };

/* The folders of a project that rules and specs come from; tables and ledgers lie elsewhere. */
static const char *const folders[] = {"rules", "lib", "spec", "schemas", "pipelines"};

/* What nftw() found: it takes no argument of ours. One thread only. */
static uint64_t seen;

static int see(const char *path, const struct stat *info, int kind, struct FTW *at) {
    const char *name = path + at->base;
    if (name[0] == '.' && at->level > 0) { /* an editor's, or a version control's */
        return kind == FTW_D ? FTW_SKIP_SUBTREE : FTW_CONTINUE;
    }
    const int64_t state[] = {info->st_mtim.tv_sec, info->st_mtim.tv_nsec, info->st_size,
                             (int64_t)info->st_ino};
    if (kind == FTW_F) { /* in whatever order they come */
        seen += XXH3_64bits_withSeed(state, sizeof(state), XXH3_64bits(path, strlen(path)));
    }
    return FTW_CONTINUE;
}

static uint64_t look(const struct weir_arguments *arguments) {
    seen = 0;
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        (void)nftw(folders[i], see, OPEN_FOLDERS_MAX, FTW_ACTIONRETVAL); /* absent: no files */
    }
    for (int i = 0; i < arguments->positional_count; i++) {
        (void)nftw(arguments->positionals[i], see, OPEN_FOLDERS_MAX, FTW_ACTIONRETVAL);
    }
    return seen;
}

static void pause_ms(int64_t ms) {
    const struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&time, NULL);
}

/* Until something is other than `before`, and has been the same for one look: a save may touch
 * several files. */
static void wait_for_change(const struct weir_arguments *arguments, uint64_t before) {
    uint64_t last = before;
    for (;;) {
        pause_ms(LOOK_MS);
        uint64_t now = look(arguments);
        if (now != before && now == last) {
            return;
        }
        last = now;
    }
}

/* Failing specs are what one waits to see pass: done. */
static int run_once(const struct weir_arguments *arguments) {
    const char *argv[WEIR_POSITIONALS_MAX + 8] = {arguments->self, "test"};
    int count = 2;
    if (arguments->json) {
        argv[count++] = "--json";
    }
    if (arguments->output != NULL) {
        argv[count++] = "--output";
        argv[count++] = arguments->output;
    }
    for (int i = 0; i < arguments->positional_count; i++) {
        argv[count++] = arguments->positionals[i];
    }
    pid_t child;
    int status = 0;
    int rc =
        posix_spawn(&child, arguments->self, NULL, NULL, (char *const *)(uintptr_t)argv, environ);
    if (rc != 0) {
        fprintf(stderr, "weir: cannot run the specs: %s\n", strerror(rc));
        return WEIR_EXIT_ENVIRONMENT;
    }
    if (waitpid(child, &status, 0) == child && WIFEXITED(status) &&
        WEXITSTATUS(status) >= WEIR_EXIT_USAGE) {
        return WEXITSTATUS(status); /* no change of a file mends that */
    }
    return WEIR_EXIT_DONE;
}

int weir_cli_test_watch(const struct weir_arguments *arguments) {
    for (;;) {
        uint64_t before = look(arguments);
        int code = run_once(arguments);
        if (code != WEIR_EXIT_DONE) {
            return code;
        }
        fprintf(stderr, "\nwaiting for a change (Ctrl-C ends)\n");
        wait_for_change(arguments, before);
    }
}
