/* weir try FILE < events.jsonl: one rule file on sample events, through the harness specs use. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "abi/abi.h"
#include "cli/cli.h"
#include "pipeline/graph/plan.h"
#include "pipeline/harness.h"

enum { INPUT_BYTES_MAX = 256 << 20 };

static int read_all(FILE *file, struct weir_buffer *out) {
    char chunk[65536];
    size_t got;
    int rc = WEIR_OK;
    while (rc == WEIR_OK && (got = fread(chunk, 1, sizeof(chunk), file)) > 0) {
        rc = weir_buffer_append(out, chunk, got);
    }
    return rc;
}

/* The dataset a rule file declares, from the plan. */
static int find_dataset(struct weir_script *script, const char *pipeline, const char *file,
                        char *name, size_t size, struct weir_error *err) {
    struct weir_rule_set *rule_set = NULL;
    struct weir_plan *plan = NULL;
    struct weir_buffer report;
    weir_buffer_init(&report, 1 << 20);
    int rc = weir_script_load(script, pipeline, NULL, 0, &rule_set, &report, NULL, err);
    if (rc != WEIR_OK && report.size > 0) {
        fprintf(stderr, "%.*s", (int)report.size, (const char *)report.data);
    }
    if (rc == WEIR_OK) {
        rc = weir_plan_parse(weir_rule_set_plan(rule_set, NULL), &plan, err);
    }
    name[0] = '\0';
    static const char *const kinds[] = {"streams", "models"};
    for (size_t k = 0; rc == WEIR_OK && k < 2; k++) {
        size_t i;
        json_t *item;
        json_array_foreach(json_object_get(plan->root, kinds[k]), i, item) {
            const char *where = json_string_value(json_object_get(item, "file"));
            if (where != NULL && strcmp(where, file) == 0 && name[0] == '\0') {
                snprintf(name, size, "%s", json_string_value(json_object_get(item, "name")));
            }
        }
    }
    if (rc == WEIR_OK && name[0] == '\0') {
        rc = weir_error_set(err, WEIR_E_USAGE, "%s declares no stream or model of %s", file,
                            pipeline);
    }
    weir_plan_destroy(plan);
    weir_rule_set_unref(rule_set);
    weir_buffer_fini(&report);
    return rc;
}

static void print_rows(const struct weir_arguments *arguments, struct weir_harness *harness,
                       const char *title, const char *dataset) {
    const char *rows = weir_harness_rows(harness, dataset);
    if (rows == NULL || *rows == '\0') {
        return;
    }
    if (!arguments->json) {
        printf("-- %s: %s\n%s", title, dataset, rows);
        return;
    }
    while (*rows != '\0') {
        const char *newline = strchr(rows, '\n');
        printf("{\"dataset\":\"%s\",\"row\":%.*s}\n", dataset, (int)(newline - rows), rows);
        rows = newline + 1;
    }
}

int weir_cli_try(struct weir_arguments *arguments) {
    struct weir_error err = {0};
    if (arguments->positional_count != 1) {
        return weir_cli_usage(arguments, "try wants one rule file, and events on standard input");
    }
    char *file = NULL;
    char *pipeline = NULL;
    struct weir_script *script = NULL;
    struct weir_harness *harness = NULL;
    struct weir_script_options options = {0};
    struct weir_buffer input;
    char name[256];
    weir_buffer_init(&input, INPUT_BYTES_MAX);
    int rc = weir_cli_enter_project(arguments->positionals[0], &file, &err);
    if (rc == WEIR_OK) {
        rc = weir_cli_find_pipeline(&pipeline, &err);
    }
    if (rc == WEIR_OK) {
        rc = weir_script_create(&options, &script, &err);
    }
    if (rc == WEIR_OK) {
        rc = find_dataset(script, pipeline, file, name, sizeof(name), &err);
    }
    if (rc == WEIR_OK) {
        rc = read_all(stdin, &input);
        if (rc != WEIR_OK) {
            weir_error_set(&err, rc, "try takes at most %d MB of events", INPUT_BYTES_MAX >> 20);
        }
    }
    int code = WEIR_EXIT_DONE;
    if (rc == WEIR_OK) {
        weir_harness_use(script);
        harness = weir_harness_open(pipeline, "");
        const char *reads = harness != NULL ? weir_harness_input(harness, name) : NULL;
        bool ok =
            reads != NULL &&
            weir_harness_feed(harness, reads, (const char *)input.data, (int64_t)input.size) >= 0 &&
            weir_harness_finish(harness) == 0;
        if (!ok) {
            weir_error_set(&err, WEIR_E_DATA, "%s", weir_harness_error());
            rc = err.code;
        } else {
            char rejects[300];
            snprintf(rejects, sizeof(rejects), "quarantine.%s", name);
            print_rows(arguments, harness, "passes", name);
            print_rows(arguments, harness, "rejected", rejects);
            snprintf(rejects, sizeof(rejects), "quarantine.%s", reads);
            print_rows(arguments, harness, "not decoded", rejects);
            if (!arguments->json) {
                printf("-- %s\n", weir_harness_counters(harness, name));
            }
        }
    }
    if (rc != WEIR_OK) {
        code = weir_cli_fail(arguments, &err);
    }
    weir_harness_close(harness);
    weir_script_destroy(script);
    weir_buffer_fini(&input);
    free(file);
    free(pipeline);
    return code;
}
