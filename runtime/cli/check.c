/* weir check and weir explain: what the script room and the plan say, without running. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "pipeline/graph/graph.h"
#include "pipeline/graph/plan.h"
#include "source/source.h"

/* Loads the project around `file` (or the current folder). The exit code says what happened.
 * *loaded (NULL: not wanted) is the pipeline file, the caller's to free. */
static int load(struct weir_arguments *arguments, const char *file, struct weir_script **script,
                struct weir_rule_set **rule_set, struct weir_buffer *report_json, char **loaded) {
    struct weir_error err = {0};
    char *path = NULL;
    int rc = file != NULL ? weir_cli_enter_project(file, &path, &err)
                          : weir_cli_find_pipeline(&path, &err);
    if (rc == WEIR_OK) {
        struct weir_script_options options = {0};
        rc = weir_script_create(&options, script, &err);
    }
    if (rc != WEIR_OK) {
        free(path);
        return weir_cli_fail(arguments, &err);
    }
    struct weir_buffer report;
    weir_buffer_init(&report, 4 << 20);
    rc = weir_script_load(*script, path, arguments->settings, arguments->setting_count, rule_set,
                          &report, report_json, &err);
    int code = WEIR_EXIT_DONE;
    if (!arguments->json && report.size > 0) {
        fprintf(stderr, "%.*s", (int)report.size, (const char *)report.data);
    }
    if (rc != WEIR_OK) {
        bool told = report.size > 0 && rc == WEIR_E_CONFIG;
        code = told ? WEIR_EXIT_USER : weir_cli_fail(arguments, &err);
    }
    weir_buffer_fini(&report);
    if (loaded != NULL) {
        *loaded = path;
    } else {
        free(path);
    }
    return code;
}

/* Building the graph finds what only C knows (types of aggregates, patterns, literals). */
static int try_graph(struct weir_arguments *arguments, struct weir_rule_set *rule_set,
                     const struct weir_plan *plan) {
    struct weir_error err = {0};
    struct weir_pool *pool = weir_pool_create((size_t)64 << 20);
    struct weir_graph_options options = {.plan = plan, .rule_set = rule_set, .pool = pool};
    struct weir_graph *graph;
    int code = WEIR_EXIT_DONE;
    if (weir_graph_create(&options, &graph, &err) != WEIR_OK) {
        code = weir_cli_fail(arguments, &err);
    } else {
        if (!arguments->json) {
            struct weir_buffer estimates;
            weir_buffer_init(&estimates, 1 << 20);
            if (weir_graph_estimates(graph, &estimates) == WEIR_OK && estimates.size > 0) {
                printf("%.*s", (int)estimates.size, (const char *)estimates.data);
            }
            weir_buffer_fini(&estimates);
        }
        weir_graph_destroy(graph);
    }
    weir_pool_destroy(pool);
    return code;
}

/* Making the sources, unopened, finds what their decoders say of schemas and options. */
static int try_sources(struct weir_arguments *arguments, const struct weir_plan *plan) {
    struct weir_pool *pool = weir_pool_create((size_t)64 << 20);
    int code = WEIR_EXIT_DONE;
    for (int32_t i = 0; code == WEIR_EXIT_DONE && i < plan->source_count; i++) {
        const struct weir_plan_source *declared = &plan->sources[i];
        char *options = declared->connector_options != NULL
                            ? json_dumps(declared->connector_options, JSON_COMPACT)
                            : NULL;
        char *decoder_options = declared->decoder_options != NULL
                                    ? json_dumps(declared->decoder_options, JSON_COMPACT)
                                    : NULL;
        struct weir_source_config config = {
            .name = declared->name,
            .kind = declared->connector,
            .options_json = options,
            .decoder = declared->decoder,
            .decoder_options_json = decoder_options,
            .schema = declared->schema,
            .pool = pool,
        };
        struct weir_source *source = NULL;
        struct weir_error err = {0};
        if (weir_source_create(&source, &config, &err) != WEIR_OK) {
            weir_error_wrap(&err, "%s: source %s", declared->file, declared->name);
            code = weir_cli_fail(arguments, &err);
        }
        weir_source_destroy(source);
        free(options);
        free(decoder_options);
    }
    weir_pool_destroy(pool);
    return code;
}

int weir_cli_check(struct weir_arguments *arguments) {
    struct weir_script *script = NULL;
    struct weir_rule_set *rule_set = NULL;
    struct weir_buffer report_json;
    weir_buffer_init(&report_json, 4 << 20);
    int code = WEIR_EXIT_DONE;
    for (int i = 1; code == WEIR_EXIT_DONE && i < arguments->positional_count; i++) {
        if (access(arguments->positionals[i], R_OK) != 0) { /* of the project the first is in */
            code = weir_cli_usage(arguments, "%s: %s", arguments->positionals[i], strerror(errno));
        }
    }
    if (code == WEIR_EXIT_DONE) {
        code = load(arguments, arguments->positional_count > 0 ? arguments->positionals[0] : NULL,
                    &script, &rule_set, &report_json, NULL);
    }
    struct weir_plan *plan = NULL;
    struct weir_error err = {0};
    if (code == WEIR_EXIT_DONE) {
        if (weir_plan_parse(weir_rule_set_plan(rule_set, NULL), &plan, &err) != WEIR_OK) {
            code = weir_cli_fail(arguments, &err);
        } else {
            code = try_sources(arguments, plan);
            code = code == WEIR_EXIT_DONE ? try_graph(arguments, rule_set, plan) : code;
        }
    }
    if (arguments->json) {
        printf("{\"ok\":%s,\"diagnostics\":%.*s}\n", code == WEIR_EXIT_DONE ? "true" : "false",
               report_json.size > 0 ? (int)report_json.size : 2,
               report_json.size > 0 ? (const char *)report_json.data : "[]");
    } else if (code == WEIR_EXIT_DONE) {
        printf("ok: %d sources, %d streams, %d models; rule set %s\n", plan->source_count,
               plan->stream_count, plan->model_count, weir_rule_set_hash(rule_set));
    }
    weir_buffer_fini(&report_json);
    weir_plan_destroy(plan);
    weir_rule_set_unref(rule_set);
    weir_script_destroy(script);
    return code;
}

/* A Lua string literal, every byte as \ddd. */
static int quote(struct weir_buffer *out, const char *text) {
    int rc = weir_buffer_append_text(out, "\"");
    for (const char *c = text; rc == WEIR_OK && *c != '\0'; c++) {
        rc = weir_buffer_printf(out, "\\%03d", (unsigned char)*c);
    }
    return rc == WEIR_OK ? weir_buffer_append_text(out, "\"") : rc;
}

/* The script room's own account of a dataset: it knows what was written and what it became. */
static int explain(struct weir_arguments *arguments, struct weir_script *script, const char *path,
                   const char *name) {
    struct weir_buffer chunk;
    struct weir_buffer text;
    struct weir_error err = {0};
    weir_buffer_init(&chunk, 1 << 20);
    weir_buffer_init(&text, 64 << 20);
    int rc = weir_buffer_append_text(&chunk, "return assert(require('weir').explain(");
    rc = rc == WEIR_OK ? quote(&chunk, path) : rc;
    rc = rc == WEIR_OK ? weir_buffer_append_text(&chunk, ", ") : rc;
    if (rc == WEIR_OK) {
        rc = name != NULL ? quote(&chunk, name) : weir_buffer_append_text(&chunk, "nil");
    }
    if (rc == WEIR_OK) {
        rc = weir_buffer_printf(&chunk, ", { code = %s, json = %s, settings = {",
                                arguments->code ? "true" : "false",
                                arguments->json ? "true" : "false");
    }
    for (size_t i = 0; rc == WEIR_OK && i < arguments->setting_count; i++) {
        rc = weir_buffer_append_text(&chunk, "{");
        rc = rc == WEIR_OK ? quote(&chunk, arguments->settings[i].key) : rc;
        rc = rc == WEIR_OK ? weir_buffer_append_text(&chunk, ", ") : rc;
        rc = rc == WEIR_OK ? quote(&chunk, arguments->settings[i].value) : rc;
        rc = rc == WEIR_OK ? weir_buffer_append_text(&chunk, "},") : rc;
    }
    rc = rc == WEIR_OK ? weir_buffer_append_text(&chunk, "} }))") : rc;
    if (rc == WEIR_OK) {
        rc = weir_script_run(script, (const char *)chunk.data, chunk.size, "=explain", &text, &err);
    } else {
        weir_error_set(&err, rc, "explain: out of memory");
    }
    int code = WEIR_EXIT_DONE;
    if (rc == WEIR_OK) {
        printf("%.*s%s", (int)text.size, (const char *)text.data, arguments->json ? "\n" : "");
    } else {
        code = weir_cli_fail(arguments, &err);
    }
    weir_buffer_fini(&chunk);
    weir_buffer_fini(&text);
    return code;
}

enum { KNOWN_MAX = 1000 };

int weir_cli_explain(struct weir_arguments *arguments) {
    struct weir_script *script = NULL;
    struct weir_rule_set *rule_set = NULL;
    const char *name = arguments->positional_count > 0 ? arguments->positionals[0] : NULL;
    bool is_file = name != NULL && strlen(name) > 4 && strcmp(name + strlen(name) - 4, ".lua") == 0;
    char *path = NULL;
    int code = load(arguments, is_file ? name : NULL, &script, &rule_set, NULL, &path);
    if (code == WEIR_EXIT_DONE) {
        json_t *plan = json_loads(weir_rule_set_plan(rule_set, NULL), 0, NULL);
        const char *only = is_file ? NULL : name;
        bool found = only == NULL;
        const char *names[KNOWN_MAX];
        size_t count = 0;
        static const char *const kinds[] = {"sources", "streams", "models"};
        for (size_t k = 0; k < 3; k++) {
            size_t i;
            json_t *item;
            json_array_foreach(json_object_get(plan, kinds[k]), i, item) {
                const char *known = json_string_value(json_object_get(item, "name"));
                found |= only != NULL && known != NULL && strcmp(known, only) == 0;
                if (known != NULL && count < KNOWN_MAX) {
                    names[count++] = known;
                }
            }
        }
        if (!found) {
            const char *meant = weir_cli_nearest(only, names, count);
            code = weir_cli_usage(arguments,
                                  "nothing here is named '%s'; %s%s%s`weir explain` shows all",
                                  only, meant != NULL ? "did you mean `" : "",
                                  meant != NULL ? meant : "", meant != NULL ? "`? " : "");
        } else if (arguments->json && only == NULL) {
            printf("%s\n", weir_rule_set_plan(rule_set, NULL));
        } else {
            code = explain(arguments, script, path, only);
        }
        json_decref(plan);
    }
    weir_rule_set_unref(rule_set);
    weir_script_destroy(script);
    free(path);
    return code;
}
