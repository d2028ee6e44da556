/* weir check and weir explain: what the script room and the plan say, without running. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "pipeline/graph.h"
#include "pipeline/plan.h"

/* Loads the project around `file` (or the current folder). The exit code says what happened. */
static int load(struct weir_arguments *arguments, const char *file, struct weir_script **script,
                struct weir_rule_set **rule_set, struct weir_buffer *report_json) {
    struct weir_error err = {0};
    char *path = NULL;
    int rc = file != NULL ? weir_cli_enter_project(file, &path, &err)
                          : weir_cli_find_pipeline(&path, &err);
    if (rc == WEIR_OK && strncmp(path, "pipelines/", 10) != 0 && strchr(path, '/') != NULL) {
        /* A rule file: it is judged within its pipeline, which knows its columns. */
        char *pipeline;
        if (weir_cli_find_pipeline(&pipeline, NULL) == WEIR_OK) {
            free(path);
            path = pipeline;
        }
    }
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
    free(path);
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

int weir_cli_check(struct weir_arguments *arguments) {
    struct weir_script *script = NULL;
    struct weir_rule_set *rule_set = NULL;
    struct weir_buffer report_json;
    weir_buffer_init(&report_json, 4 << 20);
    int code = load(arguments, arguments->positional_count > 0 ? arguments->positionals[0] : NULL,
                    &script, &rule_set, &report_json);
    struct weir_plan *plan = NULL;
    struct weir_error err = {0};
    if (code == WEIR_EXIT_DONE) {
        if (weir_plan_parse(weir_rule_set_plan(rule_set, NULL), &plan, &err) != WEIR_OK) {
            code = weir_cli_fail(arguments, &err);
        } else {
            code = try_graph(arguments, rule_set, plan);
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

static void print_code(const struct weir_rule_set *rule_set, const struct weir_plan *plan,
                       const char *name) {
    json_t *functions = json_object_get(plan->root, "functions");
    for (int32_t i = 0; i < weir_rule_set_function_count(rule_set); i++) {
        json_t *function = json_array_get(functions, (size_t)i);
        const char *of = json_string_value(json_object_get(function, "of"));
        const char *what = json_string_value(json_object_get(function, "what"));
        const char *code = weir_rule_set_code(rule_set, i);
        if (code == NULL || (name != NULL && of != NULL && strcmp(of, name) != 0)) {
            continue;
        }
        printf("-- %s: %s\n%s\n", of != NULL ? of : "", what != NULL ? what : "", code);
    }
}

static void print_columns(const struct weir_schema *schema) {
    struct weir_buffer type;
    weir_buffer_init(&type, 1 << 16);
    for (int32_t i = 0; i < schema->count; i++) {
        weir_buffer_clear(&type);
        if (weir_field_format_type(&schema->fields[i], &type) == WEIR_OK) {
            printf("      %-24s %.*s\n", schema->fields[i].name, (int)type.size,
                   (const char *)type.data);
        }
    }
    weir_buffer_fini(&type);
}

static void print_expectations(const char *title, const struct weir_plan_expectations *list) {
    static const char *const actions[] = {"warn", "drop", "quarantine", "fail"};
    for (int32_t i = 0; i < list->count; i++) {
        printf("    %s '%s' -> %s\n", title, list->list[i].name, actions[list->list[i].action]);
    }
}

static bool wanted(const char *name, const char *only) {
    return only == NULL || strcmp(name, only) == 0;
}

static void print_plan(const struct weir_plan *plan, const char *only) {
    for (int32_t i = 0; i < plan->source_count; i++) {
        const struct weir_plan_source *s = &plan->sources[i];
        if (wanted(s->name, only)) {
            printf("source %s  (%s%s%s)\n    %s\n", s->name, s->connector,
                   s->decoder != NULL ? ", " : "", s->decoder != NULL ? s->decoder : "",
                   s->into.present ? "exactly once into Delta" : "memory only");
            print_columns(s->schema);
        }
    }
    for (int32_t i = 0; i < plan->stream_count; i++) {
        const struct weir_plan_stream *s = &plan->streams[i];
        if (!wanted(s->name, only)) {
            continue;
        }
        printf("stream %s  from %s\n", s->name, s->from);
        if (s->time.present) {
            printf("    time %s, out of order by %.3f s\n", s->time.field,
                   (double)s->time.out_of_order_us / 1e6);
        }
        print_expectations("expect", &s->expectations);
        if (s->dedup.present) {
            printf("    dedup within %.0f s\n", (double)s->dedup.within_us / 1e6);
        }
        print_expectations("ensure", &s->ensures);
        print_expectations("quality", &s->quality);
        printf("    %s\n", s->into.present ? "exactly once into Delta" : "memory only");
        print_columns(s->output);
    }
    for (int32_t i = 0; i < plan->model_count; i++) {
        const struct weir_plan_model *m = &plan->models[i];
        if (!wanted(m->name, only)) {
            continue;
        }
        printf("model %s  from %s\n    tumbling %.0f s, allowed lateness %.0f s, late rows %s\n",
               m->name, m->from, (double)m->window_size_us / 1e6,
               (double)m->allowed_lateness_us / 1e6,
               m->late != NULL ? m->late : "counted only (name a `late` dataset to keep them)");
        print_expectations("test", &m->tests);
        printf("    %s\n", m->into.present ? "exactly once into Delta" : "memory only");
        print_columns(m->output);
    }
}

static bool plan_has(const struct weir_plan *plan, const char *name) {
    bool found = false;
    for (int32_t i = 0; i < plan->source_count; i++) {
        found |= strcmp(plan->sources[i].name, name) == 0;
    }
    for (int32_t i = 0; i < plan->stream_count; i++) {
        found |= strcmp(plan->streams[i].name, name) == 0;
    }
    for (int32_t i = 0; i < plan->model_count; i++) {
        found |= strcmp(plan->models[i].name, name) == 0;
    }
    return found;
}

int weir_cli_explain(struct weir_arguments *arguments) {
    struct weir_script *script = NULL;
    struct weir_rule_set *rule_set = NULL;
    const char *name = arguments->positional_count > 0 ? arguments->positionals[0] : NULL;
    bool is_file = name != NULL && strlen(name) > 4 && strcmp(name + strlen(name) - 4, ".lua") == 0;
    int code = load(arguments, is_file ? name : NULL, &script, &rule_set, NULL);
    struct weir_plan *plan = NULL;
    struct weir_error err = {0};
    if (code == WEIR_EXIT_DONE &&
        weir_plan_parse(weir_rule_set_plan(rule_set, NULL), &plan, &err) != WEIR_OK) {
        code = weir_cli_fail(arguments, &err);
    }
    if (code == WEIR_EXIT_DONE) {
        const char *only = is_file ? NULL : name;
        if (only != NULL && !plan_has(plan, only)) {
            code = weir_cli_usage(arguments, "nothing here is named '%s'", only);
        } else if (arguments->json) {
            printf("%s\n", weir_rule_set_plan(rule_set, NULL));
        } else if (arguments->code) {
            print_code(rule_set, plan, only);
        } else {
            print_plan(plan, only);
        }
    }
    weir_plan_destroy(plan);
    weir_rule_set_unref(rule_set);
    weir_script_destroy(script);
    return code;
}
