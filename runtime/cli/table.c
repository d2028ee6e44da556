/* weir table ls | show | history | cat, and the way to the others */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/table.h"
#include "lake/store/open.h"
#include "script/script.h"
#include "sink/sink.h"

enum { LOOK_RETRY_US = 20000000, WRITE_RETRY_US = 120000000 };

static bool is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* Where the tables of the project around us lie: as its one pipeline says; where there is none, or
 * it does not load, under LAKE or data/lake. */
static void find_root(char *out, size_t size, json_t **storage_options) {
    const char *lake = getenv("LAKE");
    snprintf(out, size, "%s", lake != NULL && *lake != '\0' ? lake : "data/lake");
    char *pipeline = NULL;
    struct weir_script *script = NULL;
    struct weir_rule_set *rule_set = NULL;
    struct weir_script_options options = {0};
    struct weir_buffer report;
    weir_buffer_init(&report, 4 << 20);
    if (weir_cli_find_pipeline(&pipeline, NULL) == WEIR_OK &&
        weir_script_create(&options, &script, NULL) == WEIR_OK &&
        weir_script_load(script, pipeline, NULL, 0, &rule_set, &report, NULL, NULL) == WEIR_OK) {
        json_t *plan = json_loads(weir_rule_set_plan(rule_set, NULL), 0, NULL);
        json_t *storage = json_object_get(json_object_get(plan, "pipeline"), "storage");
        const char *root = json_string_value(json_object_get(storage, "root"));
        if (root != NULL) {
            snprintf(out, size, "%s", root);
            *storage_options = json_incref(json_object_get(storage, "options"));
        }
        json_decref(plan);
    }
    weir_buffer_fini(&report);
    weir_rule_set_unref(rule_set);
    weir_script_destroy(script);
    free(pipeline);
}

/* A dataset's name (silver.pos_sale), a folder or a URL. */
static int resolve(const char *given, struct weir_cli_place *out, struct weir_error *err) {
    struct stat info;
    *out = (struct weir_cli_place){.options = NULL};
    if (stat(given, &info) == 0 && !S_ISDIR(info.st_mode)) {
        return weir_error_set(err, WEIR_E_USAGE,
                              "%s is a file; a table is a folder, or a dataset's name", given);
    }
    if (is_folder(given) || given[0] == '/' || given[0] == '.' || strstr(given, "://") != NULL) {
        snprintf(out->path, sizeof(out->path), "%s", given);
        return WEIR_OK;
    }
    char root[2048];
    find_root(root, sizeof(root), &out->options);
    out->dataset = given;
    int used = snprintf(out->path, sizeof(out->path), "%s/", root);
    return weir_sink_folder(given, out->path + used, sizeof(out->path) - (size_t)used, err);
}

int weir_cli_place_open(const struct weir_cli_place *place, bool writes, struct weir_store **out,
                        struct weir_error *err) {
    json_t *options = place->options != NULL ? json_copy(place->options) : json_object();
    if (options == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "open %s: out of memory", place->path);
    }
    /* Somebody waits: a store that does not answer is told of sooner than to a pipeline. */
    if (json_object_get(options, "retry_for") == NULL &&
        json_object_set_new(options, "retry_for",
                            json_integer(writes ? WRITE_RETRY_US : LOOK_RETRY_US)) != 0) {
        json_decref(options);
        return weir_error_set(err, WEIR_E_NOMEM, "open %s: out of memory", place->path);
    }
    int rc = weir_store_open_url(place->path, options, false, out, err);
    json_decref(options);
    if (rc == WEIR_E_NOTFOUND) {
        weir_error_set(err, rc,
                       "there is no folder %s%s%s%s; `weir table ls` shows the tables there are",
                       place->path, place->dataset != NULL ? ", where the dataset " : "",
                       place->dataset != NULL ? place->dataset : "",
                       place->dataset != NULL ? " would be, nor one of that name" : "");
    }
    return rc;
}

static int visit_table(void *context, const char *directory) {
    const struct weir_arguments *arguments = context;
    if (arguments->json) {
        struct weir_buffer text;
        weir_buffer_init(&text, 1 << 16);
        if (weir_delta_json_string(&text, directory, strlen(directory)) == WEIR_OK) {
            printf("{\"table\":%.*s}\n", (int)text.size, (const char *)text.data);
        }
        weir_buffer_fini(&text);
    } else {
        printf("%s\n", directory);
    }
    return WEIR_OK;
}

static int write_text(void *context, const char *text, size_t length) {
    (void)context;
    return fwrite(text, 1, length, stdout) == length ? WEIR_OK : WEIR_E_IO;
}

static int show(struct weir_arguments *arguments, const char *what,
                const struct weir_cli_place *place) {
    struct weir_error err = {0};
    struct weir_store *store = NULL;
    struct weir_delta_snapshot *snapshot = NULL;
    struct weir_buffer out;
    weir_buffer_init(&out, (size_t)1 << 30);
    struct weir_delta_at at;
    long long limit;
    if (!weir_cli_read_limit(arguments, -1, &limit)) {
        return weir_cli_usage(arguments, "--limit wants a number");
    }
    bool changes = arguments->changes && strcmp(what, "cat") == 0;
    char *end = NULL;
    int64_t from = changes && arguments->from != NULL ? strtoll(arguments->from, &end, 10) : -1;
    if (arguments->changes && (end == NULL || *end != '\0' || from < 0 ||
                               arguments->columns != NULL || arguments->version != NULL)) {
        return weir_cli_usage(arguments, "table cat --changes wants --from V, a version, and takes "
                                         "--to V and --limit N");
    }
    int rc = weir_delta_at_parse(changes ? arguments->to : arguments->version, arguments->as_of,
                                 &at, &err);
    if (rc == WEIR_OK) {
        rc = weir_cli_place_open(place, false, &store, &err);
    }
    if (rc == WEIR_OK && strcmp(what, "history") == 0) {
        rc = weir_delta_history_text(store, "", limit > 0 ? limit : 0, arguments->json, &out, &err);
    } else if (rc == WEIR_OK) {
        rc = weir_delta_snapshot_open(store, "", &at, &snapshot, &err);
        if (rc == WEIR_OK && strcmp(what, "show") == 0) {
            rc = weir_delta_show(snapshot, arguments->json, &out, &err);
        } else if (rc == WEIR_OK && changes) {
            rc = weir_delta_cat_changes(snapshot, from, limit, arguments->json, write_text, NULL,
                                        &err);
        } else if (rc == WEIR_OK) {
            rc = weir_delta_cat(snapshot, arguments->columns, limit, arguments->json, write_text,
                                NULL, &err);
        }
    }
    if (rc == WEIR_OK && out.size > 0) {
        fwrite(out.data, 1, out.size, stdout);
        if (out.data[out.size - 1] != '\n') {
            putchar('\n');
        }
    }
    int code = WEIR_EXIT_DONE;
    if (rc != WEIR_OK) {
        bool absent = rc == WEIR_E_NOTFOUND && snapshot == NULL;
        if (absent) {
            struct weir_error cause = err;
            bool told = strstr(cause.message, "`weir table ls`") != NULL;
            bool named = strstr(cause.message, place->path) != NULL;
            weir_error_set(&err, rc, "%s%s%s%s", named ? "" : place->path, named ? "" : ": ",
                           cause.message,
                           told ? "" : "; `weir table ls` shows the tables there are");
        }
        code = weir_cli_fail(arguments, &err);
        code = absent ? WEIR_EXIT_USER : code;
    }
    weir_buffer_fini(&out);
    weir_delta_snapshot_destroy(snapshot);
    weir_store_destroy(store);
    return code;
}

static int list(struct weir_arguments *arguments, const struct weir_cli_place *root) {
    struct weir_error err = {0};
    struct weir_store *store;
    int rc = weir_cli_place_open(root, false, &store, &err);
    if (rc != WEIR_OK) {
        return weir_cli_fail(arguments, &err);
    }
    rc = weir_delta_table_ls(store, "", 8, visit_table, arguments, &err);
    weir_store_destroy(store);
    return rc == WEIR_OK ? WEIR_EXIT_DONE : weir_cli_fail(arguments, &err);
}

int weir_cli_table(struct weir_arguments *arguments) {
    if (arguments->positional_count < 1) {
        return weir_cli_usage(arguments, "table wants ls, show, history, cat, diff, optimize, "
                                         "vacuum, restore, replace, alter or tier");
    }
    const char *what = arguments->positionals[0];
    const char *name = arguments->positional_count > 1 ? arguments->positionals[1] : NULL;
    struct weir_cli_place place = {.options = NULL};
    if (strcmp(what, "ls") == 0) {
        find_root(place.path, sizeof(place.path), &place.options);
        if (name != NULL) {
            snprintf(place.path, sizeof(place.path), "%s", name);
        }
        int listed = list(arguments, &place);
        json_decref(place.options);
        return listed;
    }
    bool compares = strcmp(what, "diff") == 0;
    bool maintains = strcmp(what, "optimize") == 0 || strcmp(what, "vacuum") == 0 ||
                     strcmp(what, "restore") == 0 || strcmp(what, "replace") == 0 ||
                     strcmp(what, "alter") == 0 || strcmp(what, "tier") == 0;
    if (!maintains && !compares && strcmp(what, "show") != 0 && strcmp(what, "history") != 0 &&
        strcmp(what, "cat") != 0) {
        return weir_cli_usage(
            arguments,
            "there is no 'table %s'; there are ls, show, history, cat, diff, optimize, "
            "vacuum, restore, replace, alter and tier",
            what);
    }
    if (name == NULL) {
        return weir_cli_usage(arguments, "table %s wants a dataset's name or a folder", what);
    }
    struct weir_error err = {0};
    if (resolve(name, &place, &err) != WEIR_OK) {
        return weir_cli_fail(arguments, &err);
    }
    int code = compares    ? weir_cli_table_diff(arguments, &place)
               : maintains ? weir_cli_table_maintain(arguments, what, &place)
                           : show(arguments, what, &place);
    json_decref(place.options);
    return code;
}
