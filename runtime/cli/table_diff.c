/* weir table diff */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/table.h"
#include "lake/store/open.h"
#include "lake/upkeep/diff.h"

enum { KEYS_MAX = 16 };

struct printing {
    bool json;
    int64_t left; /* rows still shown; negative: all */
    struct weir_buffer text;
};

static int print_row(void *context, enum weir_delta_diff_kind kind, bool changed,
                     const struct weir_batch *batch, int32_t row, struct weir_error *err) {
    static const char *const names[2][2] = {{"delete", "update_preimage"},
                                            {"insert", "update_postimage"}};
    struct printing *printing = context;
    if (printing->left == 0) {
        return WEIR_OK;
    }
    printing->left -= printing->left > 0;
    weir_buffer_clear(&printing->text);
    int rc = weir_delta_row_json(batch, row, &printing->text);
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "a row too large to print");
    }
    if (printing->json) {
        printf("{\"change\":\"%s\",\"row\":%.*s}\n", names[kind][changed], (int)printing->text.size,
               (const char *)printing->text.data);
    } else {
        printf("%s %.*s\n", kind == WEIR_DELTA_DIFF_OLD ? "-" : "+", (int)printing->text.size,
               (const char *)printing->text.data);
    }
    return WEIR_OK;
}

static int print_schema(void *context, const char *line, struct weir_error *err) {
    struct printing *printing = context;
    if (!printing->json) {
        printf("~ %s\n", line);
        return WEIR_OK;
    }
    weir_buffer_clear(&printing->text);
    int rc = weir_buffer_append_json(&printing->text, line, strlen(line));
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "out of memory");
    }
    printf("{\"change\":\"schema\",\"what\":%.*s}\n", (int)printing->text.size,
           (const char *)printing->text.data);
    return WEIR_OK;
}

static void print_result(const struct printing *printing, int64_t from, int64_t to,
                         const struct weir_delta_diff_result *result) {
    if (printing->json) {
        printf("{\"from\":%" PRId64 ",\"to\":%" PRId64 ",\"removed\":%" PRId64 ",\"added\":%" PRId64
               ",\"changed\":%" PRId64 ",\"schemaChanges\":%d,\"filesRead\":%" PRId64
               ",\"filesSame\":%" PRId64 "}\n",
               from, to, result->removed, result->added, result->changed, result->schema_changes,
               result->files_read, result->files_same);
    } else {
        printf("version %" PRId64 " to %" PRId64 ": %" PRId64 " rows removed, %" PRId64
               " added, %" PRId64 " changed\n",
               from, to, result->removed, result->added, result->changed);
    }
}

int weir_cli_table_diff(struct weir_arguments *arguments, const struct weir_cli_place *place) {
    struct printing printing = {.json = arguments->json, .left = -1};
    struct weir_delta_diff_options options = {
        .row = print_row, .schema = print_schema, .context = &printing};
    struct weir_delta_diff_result result;
    struct weir_delta_snapshot *from = NULL;
    struct weir_delta_snapshot *to = NULL;
    struct weir_store *store = NULL;
    struct weir_error err = {0};
    struct weir_delta_at at;
    const char *names[KEYS_MAX];
    if (arguments->from == NULL) {
        return weir_cli_usage(arguments, "table diff wants --from V, and maybe --to V");
    }
    long long limit;
    if (!weir_cli_read_limit(arguments, -1, &limit)) {
        return weir_cli_usage(arguments, "--limit wants a number");
    }
    char *keys = arguments->keys != NULL ? strdup(arguments->keys) : NULL;
    for (char *at_key = keys; at_key != NULL && options.key_count < KEYS_MAX;) {
        char *comma = strchr(at_key, ',');
        if (comma != NULL) {
            *comma++ = '\0';
        }
        names[options.key_count++] = at_key;
        at_key = comma;
    }
    options.keys = names;
    printing.left = limit;
    weir_buffer_init(&printing.text, (size_t)256 << 20);
    int rc = weir_cli_place_open(place, false, &store, &err);
    if (rc == WEIR_OK) {
        rc = weir_delta_at_parse(arguments->from, NULL, &at, &err);
    }
    if (rc == WEIR_OK) {
        rc = weir_delta_snapshot_open(store, "", &at, &from, &err);
    }
    if (rc == WEIR_OK) {
        rc = weir_delta_at_parse(arguments->to, NULL, &at, &err);
    }
    if (rc == WEIR_OK) {
        rc = weir_delta_snapshot_open(store, "", &at, &to, &err);
    }
    if (rc == WEIR_OK) {
        rc = weir_delta_diff(from, to, &options, &result, &err);
    }
    int code = WEIR_EXIT_DONE;
    if (rc == WEIR_OK) {
        print_result(&printing, weir_delta_snapshot_version(from), weir_delta_snapshot_version(to),
                     &result);
    } else {
        code = weir_cli_fail(arguments, &err);
        code = rc == WEIR_E_NOTFOUND ? WEIR_EXIT_USER : code;
    }
    weir_delta_snapshot_destroy(from);
    weir_delta_snapshot_destroy(to);
    weir_store_destroy(store);
    weir_buffer_fini(&printing.text);
    free(keys);
    return code;
}
