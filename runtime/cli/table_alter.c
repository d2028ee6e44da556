/* weir table alter: columns renamed, dropped, of wider types */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/table.h"
#include "lake/delta/alter.h"

enum { CHANGES_MAX = 64 };

/* "a=b,c=decimal(10,2)" in place, cut at commas outside parentheses; how many, -1: too many. */
static int split(char *text, char **parts) {
    int count = 0;
    int depth = 0;
    for (char *at = text; at != NULL && *at != '\0';) {
        char *end = at;
        for (; *end != '\0' && (*end != ',' || depth > 0); end++) {
            depth += (*end == '(') - (*end == ')');
        }
        if (count == CHANGES_MAX) {
            return -1;
        }
        parts[count++] = at;
        at = *end == ',' ? end + 1 : NULL;
        *end = '\0';
    }
    return count;
}

/* Cuts each part at its "="; false where one has none. */
static bool cut(char **parts, int count, char **right) {
    for (int i = 0; i < count; i++) {
        right[i] = strchr(parts[i], '=');
        if (right[i] == NULL || right[i] == parts[i] || right[i][1] == '\0') {
            return false;
        }
        *right[i]++ = '\0';
    }
    return true;
}

struct texts {
    char *parts[CHANGES_MAX];
    char *right[CHANGES_MAX];
    char *text;
    int count;
};

/* What one option says. */
static bool read_option(const char *option, bool pairs, struct texts *out) {
    out->text = option != NULL ? strdup(option) : NULL;
    out->count = out->text != NULL ? split(out->text, out->parts) : 0;
    return out->count >= 0 && (!pairs || cut(out->parts, out->count, out->right));
}

int weir_cli_table_alter(struct weir_arguments *arguments, struct weir_delta_table *table) {
    struct texts renames = {.text = NULL};
    struct texts drops = {.text = NULL};
    struct texts widenings = {.text = NULL};
    struct weir_delta_rename rename[CHANGES_MAX];
    struct weir_delta_widening widening[CHANGES_MAX];
    struct weir_error err = {0};
    bool good = read_option(arguments->rename, true, &renames);
    good = read_option(arguments->drop, false, &drops) && good;
    good = read_option(arguments->widen, true, &widenings) && good;
    int code = WEIR_EXIT_DONE;
    if (!good || renames.count + drops.count + widenings.count == 0) {
        code = weir_cli_usage(arguments,
                              "table alter wants --rename old=new, --drop column or --widen "
                              "column=type, several of one kind joined by commas, %d at most",
                              CHANGES_MAX);
    } else {
        for (int i = 0; i < renames.count; i++) {
            rename[i] = (struct weir_delta_rename){renames.parts[i], renames.right[i]};
        }
        for (int i = 0; i < widenings.count; i++) {
            widening[i] = (struct weir_delta_widening){widenings.parts[i], widenings.right[i]};
        }
        const struct weir_delta_alter_options options = {.renames = rename,
                                                         .rename_count = renames.count,
                                                         .drops = (const char *const *)drops.parts,
                                                         .drop_count = drops.count,
                                                         .widenings = widening,
                                                         .widening_count = widenings.count};
        int rc = weir_delta_alter(table, &options, &err);
        code = rc == WEIR_OK ? WEIR_EXIT_DONE : weir_cli_fail(arguments, &err);
    }
    int64_t version = weir_delta_snapshot_version(weir_delta_table_snapshot(table));
    if (code == WEIR_EXIT_DONE && arguments->json) {
        printf("{\"version\":%" PRId64 "}\n", version);
    } else if (code == WEIR_EXIT_DONE) {
        printf("version %" PRId64 ": %d columns renamed, %d dropped, %d of a wider type\n", version,
               renames.count, drops.count, widenings.count);
    }
    free(renames.text);
    free(drops.text);
    free(widenings.text);
    return code;
}
