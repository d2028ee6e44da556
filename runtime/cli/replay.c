/* weir replay PIPELINE --epoch N */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "pipeline/replay.h"

static void print_difference(void *context, const char *text) {
    const struct weir_arguments *arguments = context;
    if (!arguments->json) {
        printf("differs: %s\n", text);
    }
}

int weir_cli_replay(struct weir_arguments *arguments) {
    struct weir_error err = {0};
    if (arguments->positional_count != 1 || arguments->epoch == NULL) {
        return weir_cli_usage(arguments, "replay wants a pipeline and --epoch N");
    }
    char *end;
    unsigned long long epoch = strtoull(arguments->epoch, &end, 10);
    if (*end != '\0' || epoch == 0) {
        return weir_cli_usage(arguments, "--epoch %s: epochs are numbered from 1",
                              arguments->epoch);
    }
    char *path = NULL;
    struct weir_replay_result result = {0};
    int rc = weir_cli_enter_project(arguments->positionals[0], &path, &err);
    if (rc == WEIR_OK) {
        struct weir_replay_options options = {
            .path = path,
            .settings = arguments->settings,
            .setting_count = arguments->setting_count,
            .epoch = epoch,
            .difference = print_difference,
            .context = arguments,
        };
        rc = weir_pipeline_replay(&options, &result, &err);
    }
    free(path);
    if (rc != WEIR_OK) {
        return weir_cli_fail(arguments, &err);
    }
    if (arguments->json) {
        printf("{\"epoch\":%llu,\"batches\":%lld,\"rows\":%lld,\"differences\":%d,"
               "\"same_rules\":%s}\n",
               epoch, (long long)result.batches, (long long)result.rows, result.differences,
               result.same_rules ? "true" : "false");
    } else {
        printf("epoch %llu: %lld batches, %lld rows, %s%s\n", epoch, (long long)result.batches,
               (long long)result.rows,
               result.differences == 0 ? "the same outputs and state" : "see above",
               result.same_rules ? "" : " (under other rules or settings than then)");
    }
    return result.differences == 0 ? WEIR_EXIT_DONE : WEIR_EXIT_USER;
}
