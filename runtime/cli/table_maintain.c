/* weir table optimize | vacuum | restore | replace */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/table.h"
#include "core/clock.h"
#include "lake/store/open.h"
#include "lake/upkeep/optimize.h"
#include "lake/upkeep/replace.h"
#include "lake/upkeep/restore.h"
#include "lake/upkeep/tier.h"
#include "lake/upkeep/vacuum.h"

#define LAYOUT_BYTES ((size_t)512 << 20)
enum { COLUMNS_MAX = 8 };

struct telling {
    bool json;
    bool on_terminal;
    bool dry;
    int64_t shown_ns;
};

/* --- words --------------------------------------------------------------------------------- */

/* "7d", "168h", "30m", "0" (hours without a unit); false when it is no time. */
static bool parse_duration(const char *text, int64_t *ms) {
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"", 3600000}, {"h", 3600000}, {"d", 86400000}, {"m", 60000}, {"s", 1000}};
    char *end;
    long long count = strtoll(text, &end, 10);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (end != text && count >= 0 && count < 1000000000 && strcmp(end, units[i].unit) == 0) {
            *ms = count * units[i].ms;
            return true;
        }
    }
    return false;
}

static bool parse_size(const char *text, int64_t *bytes) {
    static const char *const units[] = {"", "k", "m", "g"};
    char *end;
    long long count = strtoll(text, &end, 10);
    for (int i = 0; i < 4; i++) {
        size_t length = strlen(units[i]);
        bool same = strncasecmp(end, units[i], length) == 0 &&
                    (end[length] == '\0' || (length > 0 && strcasecmp(end + length, "b") == 0) ||
                     (length > 0 && strcasecmp(end + length, "ib") == 0));
        if (end != text && count > 0 && count < 1 << 30 && same) {
            *bytes = count << (10 * i);
            return true;
        }
    }
    return false;
}

/* "a,b" in place; how many, or -1 when they are too many. */
static int split_names(char *text, const char **names) {
    int count = 0;
    for (char *at = text; at != NULL;) {
        char *comma = strchr(at, ',');
        if (comma != NULL) {
            *comma++ = '\0';
        }
        if (count == COLUMNS_MAX) {
            return -1;
        }
        names[count++] = at;
        at = comma;
    }
    return count;
}

static void show_progress(void *context, int64_t done, int64_t total) {
    struct telling *telling = context;
    int64_t now = weir_clock_mono_ns();
    if (telling->on_terminal && (done >= total || now - telling->shown_ns > 200000000)) {
        telling->shown_ns = now;
        fprintf(stderr, "\r%3d %%  %" PRId64 " of %" PRId64 " MB",
                (int)(total > 0 ? done * 100 / total : 100), done >> 20, total >> 20);
        if (done >= total) {
            fputc('\n', stderr);
        }
    }
}

/* --- the commands -------------------------------------------------------------------------- */

static int optimize(struct weir_arguments *arguments, struct weir_delta_table *table,
                    struct telling *telling) {
    const char *names[COLUMNS_MAX];
    char *zorder = arguments->zorder != NULL ? strdup(arguments->zorder) : NULL;
    struct weir_delta_optimize_options options = {
        .where = arguments->where, .progress = show_progress, .context = telling};
    struct weir_delta_optimize_result result;
    struct weir_error err = {0};
    int code = WEIR_EXIT_DONE;
    if (arguments->target_size != NULL &&
        !parse_size(arguments->target_size, &options.target_file_bytes)) {
        code = weir_cli_usage(arguments, "--target-size wants a size such as 256mb");
    }
    if (zorder != NULL) {
        options.zorder_count = split_names(zorder, names);
        options.zorder = names;
        if (options.zorder_count < 0) {
            code = weir_cli_usage(arguments, "--zorder takes at most %d columns", COLUMNS_MAX);
        }
    }
    if (arguments->layout != NULL) {
        options.direct_lake = true;
        options.memory_bytes = LAYOUT_BYTES;
        if (strcmp(arguments->layout, "direct_lake") != 0 || zorder != NULL) {
            code = weir_cli_usage(arguments, "--layout is direct_lake, and goes without --zorder");
        }
    }
    if (code == WEIR_EXIT_DONE && weir_delta_optimize(table, &options, &result, &err) != WEIR_OK) {
        code = weir_cli_fail(arguments, &err);
    } else if (code == WEIR_EXIT_DONE && arguments->json) {
        printf("{\"version\":%" PRId64 ",\"filesRemoved\":%" PRId64 ",\"filesAdded\":%" PRId64
               ",\"bytesRemoved\":%" PRId64 ",\"bytesAdded\":%" PRId64 ",\"rows\":%" PRId64
               ",\"deletedRows\":%" PRId64 ",\"partitions\":%" PRId64
               ",\"commits\":%d,\"groupsLost\":%d}\n",
               result.version, result.files_removed, result.files_added, result.bytes_removed,
               result.bytes_added, result.rows, result.deleted_rows, result.partitions,
               result.commits, result.groups_lost);
    } else if (code == WEIR_EXIT_DONE && result.commits == 0 && result.groups_lost == 0) {
        printf("nothing to do at version %" PRId64 "\n", result.version);
    } else if (code == WEIR_EXIT_DONE) {
        printf("version %" PRId64 ": %" PRId64 " files became %" PRId64 ", %" PRId64 " rows\n",
               result.version, result.files_removed, result.files_added, result.rows);
        if (result.deleted_rows > 0) {
            printf("%" PRId64 " deleted rows are gone from the files\n", result.deleted_rows);
        }
    }
    if (code == WEIR_EXIT_DONE && result.groups_lost > 0 && !arguments->json) {
        fprintf(stderr,
                "weir: %d groups of files were changed by other writers meanwhile and done again "
                "or left as they are; run it again when they rest\n",
                result.groups_lost);
    }
    free(zorder);
    return code;
}

static void tell_file(void *context, const char *path, int64_t bytes) {
    const struct telling *telling = context;
    if (!telling->dry && !telling->json) {
        return;
    }
    if (telling->json) {
        struct weir_buffer text;
        weir_buffer_init(&text, 1 << 16);
        if (weir_buffer_append_json(&text, path, strlen(path)) == WEIR_OK) {
            printf("{\"file\":%.*s,\"bytes\":%" PRId64 "}\n", (int)text.size,
                   (const char *)text.data, bytes);
        }
        weir_buffer_fini(&text);
    } else {
        printf("%s\n", path);
    }
}

static int vacuum(struct weir_arguments *arguments, struct weir_delta_table *table,
                  struct telling *telling) {
    struct weir_delta_vacuum_options options = {.retention_ms = -1,
                                                .allow_short = arguments->allow_short_retention,
                                                .ignore_pending = arguments->ignore_pending,
                                                .dry_run = arguments->dry_run,
                                                .tell = tell_file,
                                                .context = telling};
    struct weir_delta_vacuum_result result;
    struct weir_error err = {0};
    telling->dry = arguments->dry_run;
    if (arguments->retain != NULL && !parse_duration(arguments->retain, &options.retention_ms)) {
        return weir_cli_usage(arguments, "--retain wants a time such as 168h or 7d");
    }
    if (weir_delta_vacuum(table, &options, &result, &err) != WEIR_OK) {
        return weir_cli_fail(arguments, &err);
    }
    if (arguments->json) {
        printf("{\"files\":%" PRId64 ",\"bytes\":%" PRId64 ",\"pending\":%" PRId64
               ",\"retentionMs\":%" PRId64 ",\"dryRun\":%s}\n",
               result.files, result.bytes, result.pending, result.retention_ms,
               arguments->dry_run ? "true" : "false");
        return WEIR_EXIT_DONE;
    }
    printf("%s%" PRId64 " files, %" PRId64 " bytes\n",
           arguments->dry_run ? "would delete " : "deleted ", result.files, result.bytes);
    if (result.pending > 0) {
        printf("kept %" PRId64
               " unnamed files newer than the last commits of pipelines, whose ledgers may still "
               "name them\n",
               result.pending);
    }
    return WEIR_EXIT_DONE;
}

static int restore(struct weir_arguments *arguments, struct weir_delta_table *table) {
    struct weir_delta_restore_options options = {.dry_run = arguments->dry_run};
    struct weir_delta_restore_result result;
    struct weir_error err = {0};
    if (arguments->version == NULL && arguments->as_of == NULL) {
        return weir_cli_usage(arguments, "table restore wants --version N or --as-of T");
    }
    int rc = weir_delta_at_parse(arguments->version, arguments->as_of, &options.at, &err);
    if (rc == WEIR_OK) {
        rc = weir_delta_restore(table, &options, &result, &err);
    }
    if (rc != WEIR_OK) {
        int code = weir_cli_fail(arguments, &err);
        return rc == WEIR_E_NOTFOUND ? WEIR_EXIT_USER : code;
    }
    if (arguments->json) {
        printf("{\"version\":%" PRId64 ",\"restored\":%" PRId64 ",\"changed\":%s,"
               "\"filesRestored\":%" PRId64 ",\"filesRemoved\":%" PRId64
               ",\"bytesRestored\":%" PRId64 ",\"bytesRemoved\":%" PRId64 ",\"dryRun\":%s}\n",
               result.version, result.restored, result.changed ? "true" : "false",
               result.files_restored, result.files_removed, result.bytes_restored,
               result.bytes_removed, arguments->dry_run ? "true" : "false");
    } else if (!result.changed) {
        printf("version %" PRId64 " is as version %" PRId64 " was\n", result.version,
               result.restored);
    } else {
        printf("%s %" PRId64 " as version %" PRId64 " was: %" PRId64 " files come back, %" PRId64
               " go\n",
               arguments->dry_run ? "would follow version" : "version", result.version,
               result.restored, result.files_restored, result.files_removed);
    }
    return WEIR_EXIT_DONE;
}

static int tell_replaced(const struct weir_arguments *arguments,
                         const struct weir_delta_replace_result *result) {
    if (arguments->json) {
        printf("{\"version\":%" PRId64 ",\"changed\":%s,\"rows\":%" PRId64
               ",\"filesRemoved\":%" PRId64 ",\"filesAdded\":%" PRId64 ",\"bytesRemoved\":%" PRId64
               ",\"bytesAdded\":%" PRId64 ",\"dryRun\":%s}\n",
               result->version, result->changed ? "true" : "false", result->rows,
               result->files_removed, result->files_added, result->bytes_removed,
               result->bytes_added, arguments->dry_run ? "true" : "false");
    } else {
        printf("%s %" PRId64 ": %" PRId64 " files gave way to %" PRId64 ", %" PRId64 " rows\n",
               result->changed ? "version" : "nothing changed at version", result->version,
               result->files_removed, result->files_added, result->rows);
    }
    return WEIR_EXIT_DONE;
}

static int replace(struct weir_arguments *arguments, struct weir_delta_table *table) {
    struct weir_delta_replace_options options = {.where = arguments->where,
                                                 .dry_run = arguments->dry_run};
    struct weir_delta_replace_result result;
    struct weir_delta_snapshot *from = NULL;
    struct weir_store *store = NULL;
    struct weir_error err = {0};
    if (arguments->where == NULL || arguments->from == NULL) {
        return weir_cli_usage(arguments, "table replace wants --where \"PREDICATE\" of partition "
                                         "columns and --from FOLDER, a table of the new rows");
    }
    int rc = weir_store_open_url(arguments->from, NULL, false, &store, &err);
    rc = rc == WEIR_OK ? weir_delta_snapshot_open(store, "", NULL, &from, &err) : rc;
    if (rc == WEIR_E_NOTFOUND) {
        weir_error_wrap(&err, "%s", arguments->from);
    }
    rc = rc == WEIR_OK ? weir_delta_replace(table, from, &options, &result, &err) : rc;
    weir_delta_snapshot_destroy(from);
    weir_store_destroy(store);
    if (rc != WEIR_OK) {
        int code = weir_cli_fail(arguments, &err);
        return rc == WEIR_E_NOTFOUND || rc == WEIR_E_DATA ? WEIR_EXIT_USER : code;
    }
    return tell_replaced(arguments, &result);
}

static int tier(struct weir_arguments *arguments, struct weir_delta_table *table) {
    struct weir_delta_tier_options options = {.root = arguments->to, .where = arguments->where};
    struct weir_delta_tier_result result;
    struct weir_error err = {0};
    int64_t age_ms;
    if (arguments->to == NULL || arguments->older == NULL ||
        !parse_duration(arguments->older, &age_ms)) {
        return weir_cli_usage(arguments, "table tier wants --to FOLDER-OR-URL and --older 30d");
    }
    options.before_ms = weir_clock_wall_us() / 1000 - age_ms;
    if (weir_delta_tier(table, &options, &result, &err) != WEIR_OK) {
        return weir_cli_fail(arguments, &err);
    }
    if (arguments->json) {
        printf("{\"version\":%" PRId64 ",\"files\":%" PRId64 ",\"bytes\":%" PRId64
               ",\"vectors\":%" PRId64 "}\n",
               result.version, result.files, result.bytes, result.vectors);
        return WEIR_EXIT_DONE;
    }
    printf("version %" PRId64 ": %" PRId64 " files, %" PRId64 " bytes moved\n", result.version,
           result.files, result.bytes);
    if (result.vectors > 0) {
        printf("moved %" PRId64 " deletion vectors after their files\n", result.vectors);
    }
    return WEIR_EXIT_DONE;
}

int weir_cli_table_maintain(struct weir_arguments *arguments, const char *what,
                            const struct weir_cli_place *place) {
    struct weir_error err = {0};
    struct weir_store *store = NULL;
    struct weir_delta_table *table = NULL;
    struct telling telling = {.json = arguments->json,
                              .on_terminal = isatty(STDERR_FILENO) == 1 && !arguments->json};
    int code = WEIR_EXIT_DONE;
    int rc = weir_cli_place_open(place, true, &store, &err);
    if (rc == WEIR_OK) {
        rc = weir_delta_table_open(store, "", &table, &err);
    }
    if (rc != WEIR_OK) {
        if (rc == WEIR_E_NOTFOUND && strstr(err.message, place->path) == NULL) {
            weir_error_wrap(&err, "%s", place->path);
        }
        code = weir_cli_fail(arguments, &err);
        code = rc == WEIR_E_NOTFOUND ? WEIR_EXIT_USER : code;
    } else if (strcmp(what, "optimize") == 0) {
        code = optimize(arguments, table, &telling);
    } else if (strcmp(what, "vacuum") == 0) {
        code = vacuum(arguments, table, &telling);
    } else if (strcmp(what, "replace") == 0) {
        code = replace(arguments, table);
    } else if (strcmp(what, "tier") == 0) {
        code = tier(arguments, table);
    } else if (strcmp(what, "alter") == 0) {
        code = weir_cli_table_alter(arguments, table);
    } else {
        code = restore(arguments, table);
    }
    weir_delta_table_close(table);
    weir_store_destroy(store);
    return code;
}
