/* weir test --watch: the specs once more, in a process of their own, whenever a file they may
 * depend on changes. Files are looked at five times a second: it holds for editors that rename and
 * for folders of a network as well. */
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "core/stamp.h"

extern char **environ;

enum { LOOK_MS = 200 };

/* The folders of a project that rules and specs come from; tables and ledgers lie elsewhere. */
static const char *const folders[] = {"rules", "lib", "spec", "schemas", "pipelines"};

static uint64_t look(const struct weir_arguments *arguments) {
    uint64_t seen = 0;
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        seen += weir_stamp_of_folder(folders[i], NULL); /* absent: no files */
    }
    for (int i = 0; i < arguments->positional_count; i++) {
        uint64_t below = weir_stamp_of_folder(arguments->positionals[i], NULL);
        seen += below != 0 ? below : weir_stamp_of_file(arguments->positionals[i], 0);
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
