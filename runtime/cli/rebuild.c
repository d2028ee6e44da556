/* weir rebuild: makes a dataset anew from bronze, and has the running instance take it over. */
#include "pipeline/rebuild.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cli/cli.h"
#include "core/clock.h"
#include "core/log.h"

enum { TAKEOVER_S = 600, LOOK_NS = 20000000 };

static void say(void *context, const char *text) {
    (void)context;
    weir_log_text(text);
    weir_log_text("\n");
}

static bool runs(const char *ledger) {
    char path[1100];
    snprintf(path, sizeof(path), "%s/status.json", ledger);
    json_t *status = json_load_file(path, 0, NULL);
    long long pid = json_integer_value(json_object_get(status, "pid"));
    json_decref(status);
    return weir_cli_alive(pid);
}

static bool is_there(const char *ledger, const char *dataset) {
    char path[1500];
    struct stat info;
    snprintf(path, sizeof(path), "%s/" REBUILD_FOLDER "/%s/ledger", ledger, dataset);
    return stat(path, &info) == 0;
}

/* The instance ends its epoch, takes it over, and goes on. */
static int hand_over(const char *ledger, const char *dataset, int64_t *took_ms,
                     struct weir_error *err) {
    char path[1100];
    snprintf(path, sizeof(path), "%s/takeover.request", ledger);
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        return weir_error_system(err, WEIR_E_ENVIRONMENT, errno, "%s", path);
    }
    fclose(file);
    int64_t began = weir_clock_mono_ns();
    int64_t end = began + TAKEOVER_S * INT64_C(1000000000);
    while (is_there(ledger, dataset) && runs(ledger) && weir_clock_mono_ns() < end) {
        (void)nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
    }
    *took_ms = (weir_clock_mono_ns() - began) / 1000000;
    return is_there(ledger, dataset)
               ? weir_error_set(err, WEIR_E_ENVIRONMENT,
                                "the running instance did not take the rebuilt %s over; its "
                                "output says why. It does so when it is started again",
                                dataset)
               : WEIR_OK;
}

int weir_cli_rebuild(struct weir_arguments *arguments) {
    struct weir_error err = {0};
    char *path = NULL;
    if (arguments->positional_count != 1) {
        return weir_cli_usage(arguments, "rebuild wants the name of a dataset");
    }
    int rc = arguments->pipeline != NULL ? weir_cli_enter_project(arguments->pipeline, &path, &err)
                                         : weir_cli_find_pipeline(&path, &err);
    struct weir_rebuild_result result = {0};
    const char *dataset = arguments->positionals[0];
    if (rc == WEIR_OK) {
        const struct weir_rebuild_options options = {
            .path = path,
            .settings = arguments->settings,
            .setting_count = arguments->setting_count,
            .dataset = dataset,
            .message = arguments->quiet || arguments->json ? NULL : say,
        };
        rc = weir_pipeline_rebuild(&options, &result, &err);
    }
    free(path);
    bool running = rc == WEIR_OK && runs(result.ledger);
    int64_t took_ms = 0;
    if (running) {
        rc = hand_over(result.ledger, dataset, &took_ms, &err);
    }
    if (rc != WEIR_OK) {
        return weir_cli_fail(arguments, &err);
    }
    if (arguments->json) {
        printf("{\"dataset\":\"%s\",\"rows\":%lld,\"seconds\":%.3f,\"passes\":%d,\"lag_seconds\":"
               "%.3f,\"taken_over\":%s,\"takeover_seconds\":%.3f}\n",
               dataset, (long long)result.rows, (double)result.took_ms / 1000, result.passes,
               (double)result.lag_ms / 1000, running ? "true" : "false", (double)took_ms / 1000);
    } else {
        printf("%s: %lld rows of bronze in %.1f s; %s\n", dataset, (long long)result.rows,
               (double)result.took_ms / 1000,
               running ? "the running instance has taken it over"
                       : "the pipeline takes it over when it starts");
    }
    return WEIR_EXIT_DONE;
}
