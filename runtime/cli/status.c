/* weir status, why-waiting, rollback: a running instance is reached through its ledger's folder,
 * where it writes status.json and looks for requests. */
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "pipeline/graph/plan.h"
#include "pipeline/rebuild.h"

/* The ledger's folder of the pipeline named (or the only one). */
static int find_ledger(struct weir_arguments *arguments, char *path, size_t size) {
    struct weir_error err = {0};
    char *file = NULL;
    int rc = arguments->positional_count > 0
                 ? weir_cli_enter_project(arguments->positionals[0], &file, &err)
                 : weir_cli_find_pipeline(&file, &err);
    if (rc == WEIR_OK && weir_cli_registered(file, path, size)) {
        free(file);
        return WEIR_EXIT_DONE;
    }
    struct weir_script *script = NULL;
    struct weir_rule_set *rule_set = NULL;
    struct weir_plan *plan = NULL;
    struct weir_script_options options = {0};
    struct weir_buffer report;
    weir_buffer_init(&report, 1 << 20);
    if (rc == WEIR_OK) {
        rc = weir_script_create(&options, &script, &err);
    }
    if (rc == WEIR_OK) {
        rc = weir_script_load(script, file, arguments->settings, arguments->setting_count,
                              &rule_set, &report, NULL, &err);
        fprintf(stderr, "%.*s", rc != WEIR_OK ? (int)report.size : 0, (const char *)report.data);
    }
    if (rc == WEIR_OK) {
        rc = weir_plan_parse(weir_rule_set_plan(rule_set, NULL), &plan, &err);
    }
    int code = WEIR_EXIT_DONE;
    if (rc == WEIR_OK) {
        weir_plan_ledger_path(plan, path, size);
    } else {
        code = weir_cli_fail(arguments, &err);
    }
    weir_plan_destroy(plan);
    weir_rule_set_unref(rule_set);
    weir_script_destroy(script);
    weir_buffer_fini(&report);
    free(file);
    return code;
}

static int64_t rows_of(const json_t *status, const char *source) {
    const json_t *dataset = json_object_get(json_object_get(status, "datasets"), source);
    return json_integer_value(json_object_get(dataset, "out"));
}

/* How far rebuilds are: rows of bronze they have read, and how many of it they have not. */
static void add_rebuilds(json_t *status, const char *ledger) {
    char path[1600];
    snprintf(path, sizeof(path), "%s/" REBUILD_FOLDER, ledger);
    DIR *directory = opendir(path);
    struct dirent *entry;
    json_t *all = json_object();
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        snprintf(path, sizeof(path), "%s/" REBUILD_FOLDER "/%s/ledger/status.json", ledger,
                 entry->d_name);
        json_t *own = entry->d_name[0] != '.' ? json_load_file(path, 0, NULL) : NULL;
        int64_t rows = 0;
        int64_t there = 0;
        const char *name;
        json_t *dataset;
        json_object_foreach(json_object_get(own, "datasets"), name, dataset) {
            if (strncmp(name, "quarantine.", 11) != 0 &&
                json_object_get(json_object_get(own, "sources"), name) != NULL) {
                rows += rows_of(own, name);
                there += rows_of(status, name);
            }
        }
        if (own != NULL) {
            json_object_set_new(all, entry->d_name,
                                json_pack("{s:I,s:I}", "rows", (json_int_t)rows, "behind",
                                          (json_int_t)(there > rows ? there - rows : 0)));
        }
        json_decref(own);
    }
    if (directory != NULL) {
        closedir(directory);
    }
    json_object_set_new(status, "rebuilds", all);
}

static int read_status(struct weir_arguments *arguments, json_t **status, bool *alive) {
    char ledger[1024];
    int code = find_ledger(arguments, ledger, sizeof(ledger));
    if (code != WEIR_EXIT_DONE) {
        return code;
    }
    char path[1100];
    snprintf(path, sizeof(path), "%s/status.json", ledger);
    *status = json_load_file(path, 0, NULL);
    if (*status == NULL) {
        struct weir_error err;
        weir_error_set(&err, WEIR_E_NOTFOUND, "no instance has run with the ledger %s", ledger);
        return weir_cli_fail(arguments, &err);
    }
    add_rebuilds(*status, ledger);
    *alive = weir_cli_alive(json_integer_value(json_object_get(*status, "pid")));
    return WEIR_EXIT_DONE;
}

int weir_cli_status(struct weir_arguments *arguments) {
    json_t *status;
    bool alive;
    int code = read_status(arguments, &status, &alive);
    if (code != WEIR_EXIT_DONE) {
        return code;
    }
    json_object_set_new(status, "running", json_boolean(alive));
    if (arguments->json) {
        json_dumpf(status, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
        putchar('\n');
        json_decref(status);
        return WEIR_EXIT_DONE;
    }
    printf("%s: %s (pid %lld), rule set %s\n",
           json_string_value(json_object_get(status, "pipeline")),
           alive ? "running" : "not running",
           (long long)json_integer_value(json_object_get(status, "pid")),
           json_string_value(json_object_get(status, "rule_set")));
    printf("%lld events, %lld epochs\n",
           (long long)json_integer_value(json_object_get(status, "events")),
           (long long)json_integer_value(json_object_get(status, "epochs")));
    const char *name;
    json_t *dataset;
    json_object_foreach(json_object_get(status, "datasets"), name, dataset) {
        printf("  %-34s in %10lld  out %10lld", name,
               (long long)json_integer_value(json_object_get(dataset, "in")),
               (long long)json_integer_value(json_object_get(dataset, "out")));
        const char *breach = json_string_value(json_object_get(dataset, "over_budget"));
        printf("%s%s\n", breach != NULL ? "  OVER BUDGET: " : "", breach != NULL ? breach : "");
    }
    json_object_foreach(json_object_get(status, "rebuilds"), name, dataset) {
        printf("  rebuild of %s: %lld rows, %lld behind\n", name,
               (long long)json_integer_value(json_object_get(dataset, "rows")),
               (long long)json_integer_value(json_object_get(dataset, "behind")));
    }
    const char *note = json_string_value(json_object_get(status, "note"));
    if (note != NULL) {
        printf("last reload: %s\n", note);
    }
    json_decref(status);
    return WEIR_EXIT_DONE;
}

int weir_cli_why_waiting(struct weir_arguments *arguments) {
    json_t *status;
    bool alive;
    int code = read_status(arguments, &status, &alive);
    if (code != WEIR_EXIT_DONE) {
        return code;
    }
    const char *why = json_string_value(json_object_get(status, "why_waiting"));
    if (arguments->json) {
        json_t *answer = json_pack("{s:b,s:s?}", "running", alive, "why_waiting", why);
        json_dumpf(answer, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(answer);
    } else {
        printf("%s%s", alive ? "" : "(not running)\n", why != NULL ? why : "");
    }
    json_decref(status);
    return WEIR_EXIT_DONE;
}

int weir_cli_rollback(struct weir_arguments *arguments) {
    json_t *status;
    bool alive;
    int code = read_status(arguments, &status, &alive);
    if (code != WEIR_EXIT_DONE) {
        return code;
    }
    json_decref(status);
    struct weir_error err;
    if (!alive) {
        weir_error_set(&err, WEIR_E_ENVIRONMENT, "no instance is running");
        return weir_cli_fail(arguments, &err);
    }
    char ledger[1024];
    char path[1100];
    code = find_ledger(arguments, ledger, sizeof(ledger));
    snprintf(path, sizeof(path), "%s/rollback.request", ledger);
    if (code != WEIR_EXIT_DONE) {
        return code;
    }
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        weir_error_system(&err, WEIR_E_ENVIRONMENT, errno, "%s", path);
        return weir_cli_fail(arguments, &err);
    }
    fclose(file);
    printf("%s\n", arguments->json ? "{\"requested\":true}"
                                   : "requested; `weir status` shows when it is live");
    return WEIR_EXIT_DONE;
}
