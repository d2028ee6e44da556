/* A rebuild runs: pass after pass over what bronze has, each a pipeline that ends where its input
 * does, with no window closed by that. */
#include "pipeline/rebuild.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "pipeline/internal.h"

enum {
    PATH_BYTES_MAX = 1500,
    FILE_BYTES_MAX = PATH_BYTES_MAX + 32,
    PASSES_MAX = 100,
    NEAR_MS = 2000,
    PROGRESS_MS = 2000
};

/* --- its folder -------------------------------------------------------------------------------
 */

void rebuild_path(const char *ledger, const char *dataset, char *out, size_t size) {
    snprintf(out, size, "%s/" REBUILD_FOLDER "/%s", ledger, dataset);
}

json_t *rebuild_manifest(const char *path) {
    char file[FILE_BYTES_MAX];
    snprintf(file, sizeof(file), "%s/manifest.json", path);
    return json_load_file(file, 0, NULL);
}

void rebuild_forget(const char *path) {
    DIR *directory = opendir(path);
    struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        char inner[PATH_BYTES_MAX + 300];
        struct stat info;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        snprintf(inner, sizeof(inner), "%s/%s", path, entry->d_name);
        if (lstat(inner, &info) == 0 && S_ISDIR(info.st_mode)) {
            rebuild_forget(inner);
        } else {
            unlink(inner);
        }
    }
    if (directory != NULL) {
        closedir(directory);
        rmdir(path);
    }
}

static int write_manifest(const char *path, const char *dataset, const char *hash,
                          struct weir_error *err) {
    char file[FILE_BYTES_MAX];
    char temporary[FILE_BYTES_MAX];
    char within[64];
    struct weir_files *files = weir_files_system();
    snprintf(file, sizeof(file), "%s/manifest.json", path);
    snprintf(temporary, sizeof(temporary), "%s/manifest.tmp", path);
    snprintf(within, sizeof(within), "rebuild-%llx",
             (unsigned long long)weir_clock_wall_us() * 1000 + (unsigned)getpid() % 1000);
    int rc = weir_files_make_path(files, path, err);
    json_t *manifest = json_pack("{s:i,s:s,s:s,s:s}", "format", 1, "dataset", dataset, "within",
                                 within, "rule_set", hash);
    FILE *out = rc == WEIR_OK ? fopen(temporary, "w") : NULL;
    if (rc == WEIR_OK) {
        bool good = out != NULL && json_dumpf(manifest, out, JSON_COMPACT) == 0 &&
                    fflush(out) == 0 && fsync(fileno(out)) == 0;
        good = (out == NULL || fclose(out) == 0) && good && rename(temporary, file) == 0;
        rc = good ? weir_files_sync_directory(files, path, err)
                  : weir_error_system(err, WEIR_E_ENVIRONMENT, errno, "%s", file);
    }
    json_decref(manifest);
    return rc;
}

/* --- a pass -----------------------------------------------------------------------------------
 */

static void progress(void *context, const struct weir_pipeline_progress *now) {
    const struct rebuild_pass *pass = context;
    char text[200];
    if (pass->message != NULL) {
        snprintf(text, sizeof(text), "%lld rows of bronze, %.0f a second", (long long)now->events,
                 now->seconds > 0 ? (double)now->events / now->seconds : 0);
        pass->message(pass->context, text);
    }
}

int rebuild_run(struct rebuild_pass *pass, struct weir_error *err) {
    struct weir_pipeline_options options = {
        .path = pass->path,
        .settings = pass->settings,
        .setting_count = pass->setting_count,
        .until_end = true,
        .past_failed = true,
        .rebuilding = &pass->rebuilding,
        .progress_every_ms = pass->message != NULL ? PROGRESS_MS : 0,
        .progress = progress,
        .context = pass,
    };
    struct weir_buffer report;
    struct weir_pipeline *p = NULL;
    weir_buffer_init(&report, 4 << 20);
    int rc = weir_pipeline_create(&options, &p, &report, NULL, err);
    if (rc != WEIR_OK && report.size > 0) {
        rc = weir_error_set(err, WEIR_E_CONFIG, "the rules do not check: %.300s",
                            weir_buffer_text(&report));
    }
    weir_buffer_fini(&report);
    rc = rc != WEIR_OK                      ? rc
         : pass->rebuilding.dataset == NULL ? pipeline_settle(p, err)
                                            : weir_pipeline_run(p, err);
    for (int32_t s = 0; rc == WEIR_OK && s < p->plan->source_count; s++) {
        const char *name = p->plan->sources[s].name;
        const struct weir_dataset *dataset = weir_graph_find(p->graph, name);
        if (pass->sources != NULL && dataset != NULL) {
            json_object_set_new(pass->sources, name, json_integer(dataset->counters.out));
        }
    }
    pass->rows = p != NULL ? p->events : 0;
    weir_pipeline_destroy(p);
    return rc;
}

/* --- the whole --------------------------------------------------------------------------------
 */

struct loaded {
    struct weir_script *script;
    struct weir_rule_set *rule_set;
    struct weir_plan *plan;
};

static int load(const struct weir_rebuild_options *options, struct loaded *l,
                struct weir_error *err) {
    struct weir_script_options script_options = {0};
    struct weir_buffer report;
    weir_buffer_init(&report, 4 << 20);
    int rc = weir_script_create(&script_options, &l->script, err);
    if (rc == WEIR_OK) {
        rc = weir_script_load(l->script, options->path, options->settings, options->setting_count,
                              &l->rule_set, &report, NULL, err);
        if (rc != WEIR_OK && report.size > 0) {
            rc = weir_error_set(err, WEIR_E_CONFIG, "the rules do not check:\n%.700s",
                                weir_buffer_text(&report));
        }
    }
    weir_buffer_fini(&report);
    return rc == WEIR_OK ? weir_plan_parse(weir_rule_set_plan(l->rule_set, NULL), &l->plan, err)
                         : rc;
}

/* The manifest of a rebuild under these rules, begun anew where the last was under others. */
static int begin(const struct weir_rebuild_options *options, const struct loaded *l,
                 const char *path, json_t **manifest, struct weir_error *err) {
    const char *hash = weir_rule_set_hash(l->rule_set);
    *manifest = rebuild_manifest(path);
    const char *before = json_string_value(json_object_get(*manifest, "rule_set"));
    char inner[FILE_BYTES_MAX];
    struct stat info;
    snprintf(inner, sizeof(inner), "%s/ledger", path);
    /* without a ledger of its own it was taken over, or never ran */
    if (before != NULL && strcmp(before, hash) == 0 && stat(inner, &info) == 0) {
        return WEIR_OK;
    }
    json_decref(*manifest);
    rebuild_forget(inner);
    int rc = write_manifest(path, options->dataset, hash, err);
    *manifest = rc == WEIR_OK ? rebuild_manifest(path) : NULL;
    return rc == WEIR_OK && *manifest == NULL
               ? weir_error_set(err, WEIR_E_ENVIRONMENT, "%s: no manifest", path)
               : rc;
}

static int passes(const struct weir_rebuild_options *options, const char *path, const char *within,
                  struct weir_rebuild_result *result, struct weir_error *err) {
    char inner[FILE_BYTES_MAX];
    snprintf(inner, sizeof(inner), "%s/ledger", path);
    struct rebuild_pass pass = {
        .path = options->path,
        .settings = options->settings,
        .setting_count = options->setting_count,
        .rebuilding = {options->dataset, result->ledger, inner, within, NULL},
        .message = options->message,
        .context = options->context,
    };
    int64_t began = weir_clock_mono_ns();
    int rc = WEIR_OK;
    result->lag_ms = INT64_MAX;
    while (rc == WEIR_OK && result->lag_ms > NEAR_MS && result->passes < PASSES_MAX) {
        int64_t then = weir_clock_mono_ns();
        rc = rebuild_run(&pass, err);
        result->lag_ms = (weir_clock_mono_ns() - then) / 1000000;
        result->rows += pass.rows;
        result->passes++;
    }
    result->took_ms = (weir_clock_mono_ns() - began) / 1000000;
    return rc;
}

int weir_pipeline_rebuild(const struct weir_rebuild_options *options,
                          struct weir_rebuild_result *result, struct weir_error *err) {
    struct loaded l = {0};
    json_t *manifest = NULL;
    char path[PATH_BYTES_MAX];
    char *narrowed = NULL;
    memset(result, 0, sizeof(*result));
    int rc = load(options, &l, err);
    if (rc == WEIR_OK) {
        weir_plan_ledger_path(l.plan, result->ledger, sizeof(result->ledger));
        rebuild_path(result->ledger, options->dataset, path, sizeof(path));
        const struct rebuilding rebuilding = {options->dataset, result->ledger, path, "", NULL};
        rc = rebuild_document(&rebuilding, weir_rule_set_plan(l.rule_set, NULL), &narrowed, err);
    }
    free(narrowed);
    rc = rc == WEIR_OK ? begin(options, &l, path, &manifest, err) : rc;
    weir_plan_destroy(l.plan);
    weir_rule_set_unref(l.rule_set);
    weir_script_destroy(l.script);
    if (rc == WEIR_OK) {
        rc = passes(options, path, json_string_value(json_object_get(manifest, "within")), result,
                    err);
    }
    json_decref(manifest);
    return rc;
}
