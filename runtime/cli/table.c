/* weir table ls | show | history | cat, and the way to the others */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/table.h"
#include "lake/store/open.h"
#include "script/script.h"

static bool is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* Where the tables of the project around us lie: as its one pipeline says; where there is none, or
 * it does not load, under LAKE or data/lake. */
static void find_root(char *out, size_t size) {
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
        }
        json_decref(plan);
    }
    weir_buffer_fini(&report);
    weir_rule_set_unref(rule_set);
    weir_script_destroy(script);
    free(pipeline);
}

/* A dataset's name (silver.pos_sale), a folder or a URL. */
static void resolve(const char *given, char *out, size_t size) {
    if (is_folder(given) || given[0] == '/' || given[0] == '.' || strstr(given, "://") != NULL) {
        snprintf(out, size, "%s", given);
        return;
    }
    char root[2048];
    find_root(root, sizeof(root));
    snprintf(out, size, "%s/%s", root, given);
    for (char *c = out + strlen(out) - strlen(given); *c != '\0'; c++) {
        if (*c == '.') {
            *c = '/';
        }
    }
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

static int show(struct weir_arguments *arguments, const char *what, const char *path) {
    struct weir_error err = {0};
    struct weir_store *store = NULL;
    struct weir_delta_snapshot *snapshot = NULL;
    struct weir_buffer out;
    weir_buffer_init(&out, (size_t)1 << 30);
    struct weir_delta_at at;
    int64_t limit = arguments->limit != NULL ? strtoll(arguments->limit, NULL, 10) : -1;
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
        rc = weir_store_open_url(path, NULL, false, &store, &err);
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
        if (rc == WEIR_E_NOTFOUND) {
            struct weir_error cause = err;
            bool told = strstr(cause.message, "`weir table ls`") != NULL;
            weir_error_set(&err, rc, "%s: %s%s", path, cause.message,
                           told ? "" : "; `weir table ls` shows the tables there are");
        }
        code = weir_cli_fail(arguments, &err);
        code = rc == WEIR_E_NOTFOUND ? WEIR_EXIT_USER : code;
    }
    weir_buffer_fini(&out);
    weir_delta_snapshot_destroy(snapshot);
    weir_store_destroy(store);
    return code;
}

static int list(struct weir_arguments *arguments, const char *root) {
    struct weir_error err = {0};
    struct weir_store *store;
    int rc = weir_store_open_url(root, NULL, false, &store, &err);
    if (rc != WEIR_OK) {
        return weir_cli_fail(arguments, &err);
    }
    rc = weir_delta_table_ls(store, "", 8, visit_table, arguments, &err);
    weir_store_destroy(store);
    return rc == WEIR_OK ? WEIR_EXIT_DONE : weir_cli_fail(arguments, &err);
}

int weir_cli_table(struct weir_arguments *arguments) {
    if (arguments->positional_count < 1) {
        return weir_cli_usage(arguments, "table wants ls, show, history, cat, optimize, vacuum, "
                                         "restore, replace, alter or tier");
    }
    const char *what = arguments->positionals[0];
    const char *name = arguments->positional_count > 1 ? arguments->positionals[1] : NULL;
    if (strcmp(what, "ls") == 0) {
        char root[2048];
        find_root(root, sizeof(root));
        return list(arguments, name != NULL ? name : root);
    }
    bool compares = strcmp(what, "diff") == 0;
    bool maintains = strcmp(what, "optimize") == 0 || strcmp(what, "vacuum") == 0 ||
                     strcmp(what, "restore") == 0 || strcmp(what, "replace") == 0 ||
                     strcmp(what, "alter") == 0 || strcmp(what, "tier") == 0;
    if (!maintains && !compares && strcmp(what, "show") != 0 && strcmp(what, "history") != 0 &&
        strcmp(what, "cat") != 0) {
        return weir_cli_usage(arguments, "there is no 'table %s'", what);
    }
    if (name == NULL) {
        return weir_cli_usage(arguments, "table %s wants a dataset's name or a folder", what);
    }
    char path[4096];
    resolve(name, path, sizeof(path));
    if (compares) {
        return weir_cli_table_diff(arguments, path);
    }
    return maintains ? weir_cli_table_maintain(arguments, what, path) : show(arguments, what, path);
}
