/* ls, show, history and cat. */
#include "lake/delta/table.h"
#include "lake/delta/changes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "lake/delta/state.h"
#include "lake/delta/stats.h"
#include "lake/delta/text.h"

#define TEXT_BYTES_MAX ((size_t)256 << 20)
#define TABLE_ROWS_MEASURED 1000 /* rows a text table looks at before it fixes its widths */
#define CELL_CHARS_MAX 48
#define POOL_BYTES ((size_t)1 << 30)

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
}

/* --- ls ------------------------------------------------------------------------------------ */

struct found_dirs {
    char **paths;
    size_t count;
    bool is_table;
};

static int note_dir(void *context, const char *path, const struct weir_store_info *info) {
    struct found_dirs *found = context;
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    if (!info->is_dir) {
        return WEIR_OK;
    }
    if (strcmp(name, "_delta_log") == 0) {
        found->is_table = true;
    }
    if (name[0] == '_' || name[0] == '.') {
        return WEIR_OK;
    }
    char **paths = realloc(found->paths, (found->count + 1) * sizeof(*paths));
    if (paths == NULL) {
        return WEIR_E_NOMEM;
    }
    found->paths = paths;
    paths[found->count] = strdup(path);
    return paths[found->count] != NULL ? (found->count++, WEIR_OK) : WEIR_E_NOMEM;
}

int weir_delta_table_ls(struct weir_store *store, const char *dir, int depth,
                        weir_delta_visit_table *visit, void *context, struct weir_error *err) {
    struct found_dirs found = {NULL, 0, false};
    int rc = weir_store_list_dir(store, dir, note_dir, &found, err);
    if (rc == WEIR_E_NOMEM) {
        rc = no_memory(err);
    }
    if (rc == WEIR_OK && found.is_table) {
        rc = visit(context, dir);
    }
    for (size_t i = 0; i < found.count; i++) {
        if (rc == WEIR_OK && !found.is_table && depth > 0) {
            rc = weir_delta_table_ls(store, found.paths[i], depth - 1, visit, context, err);
        }
        free(found.paths[i]);
    }
    free(found.paths);
    return rc;
}

/* --- show ---------------------------------------------------------------------------------- */

/* Statistics are what others wrote: a number no file has is no number. */
static int count_rows(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    int64_t *rows = context;
    int64_t gone = add->dv.storage_type != 0 ? add->dv.cardinality : 0;
    (void)err;
    int64_t records = delta_stats_rows(add->stats);
    if (*rows < 0 || gone < 0 || records < gone ||
        __builtin_add_overflow(*rows, records - gone, rows)) {
        *rows = -1;
    }
    return WEIR_OK;
}

int weir_delta_summarize(struct weir_delta_snapshot *snapshot, struct weir_delta_summary *out,
                         struct weir_error *err) {
    memset(out, 0, sizeof(*out));
    out->version = snapshot->version;
    out->timestamp_ms = snapshot->timestamp_ms;
    out->files = weir_delta_snapshot_file_count(snapshot);
    out->bytes = snapshot->file_bytes;
    out->checkpoint_version = snapshot->checkpoint_version;
    return weir_delta_snapshot_each_file(snapshot, count_rows, &out->rows, err);
}

#define PUT(call)                                                                                  \
    do {                                                                                           \
        if (rc == WEIR_OK) {                                                                       \
            rc = (call);                                                                           \
        }                                                                                          \
    } while (0)

static int put_json_text(struct weir_buffer *out, const char *text) {
    return text != NULL ? weir_delta_json_string(out, text, strlen(text))
                        : weir_buffer_append_text(out, "null");
}

static int put_json_list(struct weir_buffer *out, char *const *items, int32_t count) {
    int rc = weir_buffer_append_text(out, "[");
    for (int32_t i = 0; i < count; i++) {
        PUT(i > 0 ? weir_buffer_append_text(out, ",") : WEIR_OK);
        PUT(put_json_text(out, items[i]));
    }
    PUT(weir_buffer_append_text(out, "]"));
    return rc;
}

/* Of the newest version; `unknown` where its entry is gone and a checkpoint is all there is. */
static int put_time(struct weir_buffer *out, int64_t ms, const char *quote, const char *unknown) {
    int rc = ms == 0 ? weir_buffer_append_text(out, unknown) : weir_buffer_append_text(out, quote);
    if (ms != 0) {
        PUT(delta_text_timestamp(out, ms, 3, true, NULL));
        PUT(weir_buffer_append_text(out, quote));
    }
    return rc;
}

static int show_json(struct weir_delta_snapshot *snapshot, const struct weir_delta_summary *summary,
                     const struct weir_schema *schema, struct weir_buffer *out) {
    const struct weir_delta_metadata *metadata = &snapshot->metadata;
    const struct weir_delta_protocol *protocol = &snapshot->protocol;
    int rc = weir_buffer_append_text(out, "{\"table\":");
    PUT(put_json_text(
        out, delta_described(snapshot->store, snapshot->dir, &(struct delta_shown){.text = ""})));
    PUT(weir_buffer_append_text(out, ",\"id\":"));
    PUT(put_json_text(out, metadata->id));
    PUT(weir_buffer_append_text(out, ",\"description\":"));
    PUT(put_json_text(out, metadata->description));
    PUT(weir_buffer_printf(out, ",\"version\":%" PRId64 ",\"timestamp\":", summary->version));
    PUT(put_time(out, summary->timestamp_ms, "\"", "null"));
    PUT(weir_buffer_printf(out,
                           ",\"protocol\":{\"minReaderVersion\":%d,\"minWriterVersion\":%d,"
                           "\"readerFeatures\":",
                           protocol->reader_version, protocol->writer_version));
    PUT(put_json_list(out, protocol->reader_features, protocol->reader_feature_count));
    PUT(weir_buffer_append_text(out, ",\"writerFeatures\":"));
    PUT(put_json_list(out, protocol->writer_features, protocol->writer_feature_count));
    PUT(weir_buffer_append_text(out, "},\"columns\":["));
    for (int32_t i = 0; i < schema->count; i++) {
        struct weir_buffer type;
        weir_buffer_init(&type, 1u << 20);
        PUT(weir_buffer_append_text(out, i > 0 ? ",{\"name\":" : "{\"name\":"));
        PUT(put_json_text(out, schema->fields[i].name));
        PUT(weir_buffer_append_text(out, ",\"type\":"));
        PUT(weir_field_format_type(&schema->fields[i], &type));
        PUT(weir_delta_json_string(out, (const char *)type.data, type.size));
        PUT(weir_buffer_printf(out, ",\"nullable\":%s}",
                               schema->fields[i].nullable ? "true" : "false"));
        weir_buffer_fini(&type);
    }
    PUT(weir_buffer_append_text(out, "],\"partitionColumns\":"));
    PUT(put_json_list(out, metadata->partition_columns, metadata->partition_count));
    PUT(weir_buffer_append_text(out, ",\"properties\":{"));
    for (int32_t i = 0; i < metadata->configuration_count; i++) {
        PUT(i > 0 ? weir_buffer_append_text(out, ",") : WEIR_OK);
        PUT(put_json_text(out, metadata->configuration[i].key));
        PUT(weir_buffer_append_text(out, ":"));
        PUT(put_json_text(out, metadata->configuration[i].value));
    }
    PUT(weir_buffer_printf(out, "},\"files\":%" PRId64 ",\"bytes\":%" PRId64 ",\"rows\":",
                           summary->files, summary->bytes));
    PUT(summary->rows >= 0 ? weir_buffer_printf(out, "%" PRId64, summary->rows)
                           : weir_buffer_append_text(out, "null"));
    PUT(weir_buffer_append_text(out, ",\"transactions\":{"));
    for (int32_t i = 0; i < snapshot->txn_count; i++) {
        PUT(i > 0 ? weir_buffer_append_text(out, ",") : WEIR_OK);
        PUT(put_json_text(out, snapshot->txns[i].app_id));
        PUT(weir_buffer_printf(out, ":%" PRId64, snapshot->txns[i].version));
    }
    PUT(weir_buffer_append_text(out, "}}\n"));
    return rc;
}

static int show_text(struct weir_delta_snapshot *snapshot, const struct weir_delta_summary *summary,
                     const struct weir_schema *schema, struct weir_buffer *out) {
    const struct weir_delta_metadata *metadata = &snapshot->metadata;
    const struct weir_delta_protocol *protocol = &snapshot->protocol;
    int rc = weir_buffer_append_text(out, "table       ");
    PUT(snapshot->store->ops->describe(snapshot->store, snapshot->dir, out));
    PUT(weir_buffer_printf(out, "\nversion     %" PRId64 "  ", summary->version));
    PUT(put_time(out, summary->timestamp_ms, "", "at a time its log no longer tells"));
    PUT(weir_buffer_printf(out, "\nprotocol    reader %d, writer %d", protocol->reader_version,
                           protocol->writer_version));
    for (int32_t i = 0; i < protocol->writer_feature_count; i++) {
        PUT(weir_buffer_printf(out, "%s%s", i > 0 ? ", " : "  ", protocol->writer_features[i]));
    }
    PUT(weir_buffer_printf(out, "\nfiles       %" PRId64 ", %" PRId64 " bytes\nrows        ",
                           summary->files, summary->bytes));
    PUT(summary->rows >= 0 ? weir_buffer_printf(out, "%" PRId64, summary->rows)
                           : weir_buffer_append_text(out, "unknown (files without statistics)"));
    PUT(weir_buffer_append_text(out, "\npartitions  "));
    for (int32_t i = 0; i < metadata->partition_count; i++) {
        PUT(weir_buffer_printf(out, "%s%s", i > 0 ? ", " : "", metadata->partition_columns[i]));
    }
    PUT(metadata->partition_count == 0 ? weir_buffer_append_text(out, "none") : WEIR_OK);
    PUT(weir_buffer_append_text(out, "\n"));
    for (int32_t i = 0; i < metadata->configuration_count; i++) {
        const char *value = metadata->configuration[i].value;
        PUT(weir_buffer_printf(out, "property    %s = %s\n", metadata->configuration[i].key,
                               value != NULL ? value : "null"));
    }
    PUT(weir_buffer_append_text(out, "columns\n"));
    int widest = 0;
    for (int32_t i = 0; i < schema->count; i++) {
        int length = (int)strlen(schema->fields[i].name);
        widest = length > widest ? length : widest;
    }
    for (int32_t i = 0; i < schema->count; i++) {
        PUT(weir_buffer_printf(out, "  %-*s  ", widest, schema->fields[i].name));
        PUT(weir_field_format_type(&schema->fields[i], out));
        PUT(weir_buffer_append_text(out, schema->fields[i].nullable ? "\n" : "  not null\n"));
    }
    return rc;
}

int weir_delta_show(struct weir_delta_snapshot *snapshot, bool json, struct weir_buffer *out,
                    struct weir_error *err) {
    struct weir_delta_summary summary;
    const struct weir_schema *schema;
    int rc = weir_delta_summarize(snapshot, &summary, err);
    PUT(weir_delta_snapshot_schema(snapshot, &schema, NULL, err));
    if (rc != WEIR_OK) {
        return rc;
    }
    rc = json ? show_json(snapshot, &summary, schema, out)
              : show_text(snapshot, &summary, schema, out);
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "show table: %s", weir_error_text(rc));
}

/* --- history ------------------------------------------------------------------------------- */

struct one_commit {
    weir_delta_visit_commit *visit;
    void *context;
    int64_t version;
    int64_t modified_ms;
    bool seen;
};

static int visit_info(void *context, const struct weir_delta_commit_info *info,
                      struct weir_error *err) {
    struct one_commit *commit = context;
    (void)err;
    commit->seen = true;
    int64_t at = info->in_commit_timestamp_ms != 0 ? info->in_commit_timestamp_ms
                 : info->timestamp_ms != 0         ? info->timestamp_ms
                                                   : commit->modified_ms;
    return commit->visit(commit->context, commit->version, at, info);
}

int weir_delta_history(struct weir_store *store, const char *dir, int64_t limit,
                       weir_delta_visit_commit *visit, void *context, struct weir_error *err) {
    struct delta_listing listing;
    int rc = delta_list_log(store, dir, NULL, &listing, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (listing.commit_count + listing.checkpoint_count == 0) {
        rc = weir_error_set(
            err, WEIR_E_NOTFOUND,
            "%s is not a Delta table (no _delta_log in it); `weir table ls` shows the "
            "tables there are",
            delta_described(store, dir, &(struct delta_shown){.text = ""}));
    }
    for (size_t i = listing.commit_count; i-- > 0 && rc == WEIR_OK;) {
        if (limit > 0 && (int64_t)(listing.commit_count - i) > limit) {
            break;
        }
        struct one_commit commit = {visit, context, listing.commits[i], listing.commit_ms[i],
                                    false};
        const struct weir_delta_action_visitor visitor = {.context = &commit,
                                                          .commit_info = visit_info};
        struct weir_buffer bytes;
        weir_buffer_init(&bytes, DELTA_COMMIT_BYTES_MAX);
        char *path = delta_log_path(dir, "%020" PRId64 ".json", listing.commits[i]);
        rc = path != NULL ? weir_store_get(store, path, 0, -1, &bytes, err) : no_memory(err);
        PUT(weir_delta_actions_parse((const char *)bytes.data, bytes.size, path, &visitor, err));
        if (rc == WEIR_OK && !commit.seen) {
            const struct weir_delta_commit_info nothing = {.read_version = -1,
                                                           .is_blind_append = -1};
            rc = visit(context, commit.version, commit.modified_ms, &nothing);
        }
        weir_buffer_fini(&bytes);
        free(path);
    }
    delta_listing_fini(&listing);
    return rc;
}

struct history_text {
    struct weir_buffer *out;
    bool json;
};

static int history_line(void *context, int64_t version, int64_t timestamp_ms,
                        const struct weir_delta_commit_info *info) {
    struct history_text *text = context;
    struct weir_buffer *out = text->out;
    int rc;
    if (text->json) {
        rc = weir_buffer_printf(out, "{\"version\":%" PRId64 ",\"timestamp\":\"", version);
        PUT(delta_text_timestamp(out, timestamp_ms, 3, true, NULL));
        PUT(weir_buffer_append_text(out, "\",\"operation\":"));
        PUT(put_json_text(out, info->operation));
        PUT(weir_buffer_printf(
            out, ",\"operationParameters\":%s,\"operationMetrics\":%s",
            info->operation_parameters_json != NULL ? info->operation_parameters_json : "null",
            info->operation_metrics_json != NULL ? info->operation_metrics_json : "null"));
        PUT(weir_buffer_append_text(out, ",\"engineInfo\":"));
        PUT(put_json_text(out, info->engine_info));
        PUT(weir_buffer_append_text(out, "}\n"));
        return rc;
    }
    rc = weir_buffer_printf(out, "%8" PRId64 "  ", version);
    PUT(delta_text_timestamp(out, timestamp_ms, 3, true, NULL));
    PUT(weir_buffer_printf(out, "  %-18s  %s\n", info->operation != NULL ? info->operation : "-",
                           info->operation_metrics_json != NULL ? info->operation_metrics_json
                                                                : ""));
    return rc;
}

int weir_delta_history_text(struct weir_store *store, const char *dir, int64_t limit, bool json,
                            struct weir_buffer *out, struct weir_error *err) {
    struct history_text text = {out, json};
    return weir_delta_history(store, dir, limit, history_line, &text, err);
}

/* --- cat ----------------------------------------------------------------------------------- */

struct cat {
    int64_t left; /* rows still wanted; negative: all */
    weir_delta_write_text *write;
    void *context;
    struct weir_buffer text; /* json: the batch's lines; table: one line */
    /* text table: cells of the rows looked at so far, then the widths are fixed */
    const struct weir_schema *schema;
    int32_t *widths;
    struct weir_buffer cells; /* NUL-terminated, row by row */
    int64_t held_rows;
    bool widths_fixed;
};

enum { CAT_DONE = -1 }; /* stops the scan once enough rows were shown */

static int cat_json(void *context, struct weir_batch *batch, struct weir_error *err) {
    struct cat *cat = context;
    for (int32_t row = 0; row < batch->rows; row++) {
        if (cat->left == 0) {
            return CAT_DONE;
        }
        cat->left -= cat->left > 0;
        weir_buffer_clear(&cat->text);
        int rc = weir_delta_row_json(batch, row, &cat->text);
        PUT(weir_buffer_append(&cat->text, "\n", 1));
        if (rc != WEIR_OK) {
            return weir_error_set(err, rc, "a row too large to print: %s", weir_error_text(rc));
        }
        rc = cat->write(cat->context, (const char *)cat->text.data, cat->text.size);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return cat->left == 0 ? CAT_DONE : WEIR_OK;
}

static int chars_of(const char *text) {
    int chars = 0;
    for (; *text != '\0'; text++) {
        chars += ((unsigned char)*text & 0xC0) != 0x80;
    }
    return chars;
}

/* One line of the table from `count` NUL-terminated cells. */
static int write_line(struct cat *cat, const char *cells) {
    int rc = WEIR_OK;
    weir_buffer_clear(&cat->text);
    for (int32_t i = 0; i < cat->schema->count; i++) {
        int pad = cat->widths[i] - chars_of(cells);
        PUT(weir_buffer_printf(&cat->text, "%s%s", i > 0 ? "  " : "", cells));
        if (i + 1 < cat->schema->count) {
            PUT(weir_buffer_printf(&cat->text, "%*s", pad > 0 ? pad : 0, ""));
        }
        cells += strlen(cells) + 1;
    }
    PUT(weir_buffer_append(&cat->text, "\n", 1));
    PUT(cat->write(cat->context, (const char *)cat->text.data, cat->text.size));
    return rc;
}

static int put_cell(struct cat *cat, int32_t column, const char *text, size_t length) {
    size_t start = cat->cells.size;
    int chars = 0;
    size_t i = 0;
    int rc = WEIR_OK;
    for (; i < length && rc == WEIR_OK; i++) {
        chars += ((unsigned char)text[i] & 0xC0) != 0x80;
        if (chars > CELL_CHARS_MAX) {
            break;
        }
        rc = weir_buffer_append(&cat->cells, text[i] != '\0' ? text + i : " ", 1);
    }
    PUT(i < length ? weir_buffer_append_text(&cat->cells, "…") : WEIR_OK);
    PUT(weir_buffer_append(&cat->cells, "", 1));
    if (rc == WEIR_OK) {
        int width = chars_of((const char *)cat->cells.data + start);
        if (!cat->widths_fixed && width > cat->widths[column]) {
            cat->widths[column] = width;
        }
    }
    return rc;
}

/* Writes the header and the rows held, whose widths are known by now. */
static int fix_widths(struct cat *cat) {
    const char *cells = (const char *)cat->cells.data;
    int rc = WEIR_OK;
    cat->widths_fixed = true;
    for (int64_t row = 0; row <= cat->held_rows && rc == WEIR_OK; row++) {
        rc = write_line(cat, cells);
        for (int32_t i = 0; i < cat->schema->count; i++) {
            cells += strlen(cells) + 1;
        }
    }
    weir_buffer_clear(&cat->cells);
    return rc;
}

static int cat_text(void *context, struct weir_batch *batch, struct weir_error *err) {
    struct cat *cat = context;
    for (int32_t row = 0; row < batch->rows; row++) {
        int rc = WEIR_OK;
        if (cat->left == 0) {
            return CAT_DONE;
        }
        cat->left -= cat->left > 0;
        for (int32_t i = 0; i < batch->column_count; i++) {
            weir_buffer_clear(&cat->text);
            PUT(delta_cell_text(batch, i, row, &cat->text));
            PUT(put_cell(cat, i, (const char *)cat->text.data, cat->text.size));
        }
        if (rc == WEIR_OK && cat->widths_fixed) {
            rc = write_line(cat, (const char *)cat->cells.data);
            weir_buffer_clear(&cat->cells);
        } else if (rc == WEIR_OK && ++cat->held_rows == TABLE_ROWS_MEASURED) {
            rc = fix_widths(cat);
        }
        if (rc != WEIR_OK) {
            return weir_error_set(err, rc, "print rows: %s", weir_error_text(rc));
        }
    }
    return cat->left == 0 ? CAT_DONE : WEIR_OK;
}

/* "id,amount" as positions in the schema, and a schema of those alone. */
static int choose_columns(const struct weir_schema *schema, const char *names, int32_t *positions,
                          struct weir_schema *chosen, struct weir_error *err) {
    for (const char *at = names; *at != '\0' || at == names;) {
        char name[256];
        size_t length = strcspn(at, ",");
        snprintf(name, sizeof(name), "%.*s", (int)length, at);
        int32_t found = weir_schema_find(schema, name);
        if (found < 0) {
            return weir_error_set(err, WEIR_E_USAGE,
                                  "there is no column \"%s\"; weir table show lists them", name);
        }
        if (weir_schema_find(chosen, name) >= 0) {
            return weir_error_set(err, WEIR_E_USAGE, "column \"%s\" is named twice", name);
        }
        positions[chosen->count] = found;
        if (weir_schema_add(chosen, &schema->fields[found]) != WEIR_OK) {
            return no_memory(err);
        }
        at += length + (at[length] == ',');
    }
    return WEIR_OK;
}

/* `from` < 0: the rows; else the changes from that version on. */
static int cat_any(struct weir_delta_snapshot *snapshot, int64_t from, const char *columns,
                   int64_t limit, bool json, weir_delta_write_text *write, void *context,
                   struct weir_error *err) {
    struct cat cat = {.left = limit, .write = write, .context = context};
    struct weir_pool *pool = weir_pool_create(POOL_BYTES);
    struct weir_schema *chosen = weir_schema_create();
    struct weir_schema *changes = NULL;
    int32_t *positions = NULL;
    weir_buffer_init(&cat.text, TEXT_BYTES_MAX);
    weir_buffer_init(&cat.cells, TEXT_BYTES_MAX);
    int rc = pool != NULL && chosen != NULL
                 ? weir_delta_snapshot_schema(snapshot, &cat.schema, NULL, err)
                 : no_memory(err);
    if (rc == WEIR_OK && from >= 0) {
        rc = weir_delta_changes_schema(snapshot, &changes, err);
        cat.schema = changes;
    } else if (rc == WEIR_OK && columns != NULL) {
        positions = calloc((size_t)cat.schema->count + 1, sizeof(*positions));
        rc = positions != NULL ? choose_columns(cat.schema, columns, positions, chosen, err)
                               : no_memory(err);
        cat.schema = chosen;
    }
    if (rc != WEIR_OK) {
        goto out;
    }
    cat.widths = calloc((size_t)cat.schema->count + 1, sizeof(*cat.widths));
    if (cat.widths == NULL) {
        rc = no_memory(err);
        goto out;
    }
    for (int32_t i = 0; i < cat.schema->count && !json; i++) {
        PUT(put_cell(&cat, i, cat.schema->fields[i].name, strlen(cat.schema->fields[i].name)));
    }
    if (from >= 0) {
        PUT(weir_delta_changes(snapshot, from, pool, json ? cat_json : cat_text, &cat, err));
    } else {
        PUT(weir_delta_scan_columns(snapshot, positions, cat.schema->count, pool,
                                    json ? cat_json : cat_text, &cat, err));
    }
    if (rc == CAT_DONE) {
        rc = WEIR_OK;
    }
    if (rc == WEIR_OK && !json && !cat.widths_fixed) {
        rc = fix_widths(&cat);
    }
out:
    free(cat.widths);
    free(positions);
    weir_schema_unref(chosen);
    weir_schema_unref(changes);
    weir_buffer_fini(&cat.text);
    weir_buffer_fini(&cat.cells);
    if (pool != NULL) {
        weir_pool_destroy(pool);
    }
    return rc;
}

int weir_delta_cat(struct weir_delta_snapshot *snapshot, const char *columns, int64_t limit,
                   bool json, weir_delta_write_text *write, void *context, struct weir_error *err) {
    return cat_any(snapshot, -1, columns, limit, json, write, context, err);
}

int weir_delta_cat_changes(struct weir_delta_snapshot *to, int64_t from, int64_t limit, bool json,
                           weir_delta_write_text *write, void *context, struct weir_error *err) {
    return cat_any(to, from < 0 ? 0 : from, NULL, limit, json, write, context, err);
}

int weir_delta_at_parse(const char *version, const char *as_of, struct weir_delta_at *out,
                        struct weir_error *err) {
    memset(out, 0, sizeof(*out));
    out->kind = WEIR_DELTA_LATEST;
    if (version != NULL && as_of != NULL) {
        return weir_error_set(err, WEIR_E_USAGE, "give a version or a time, not both");
    }
    if (version != NULL) {
        char *end;
        out->kind = WEIR_DELTA_VERSION;
        out->version = strtoll(version, &end, 10);
        if (end == version || *end != '\0' || out->version < 0) {
            return weir_error_set(err, WEIR_E_USAGE,
                                  "\"%s\" is no version; give a number such as 12", version);
        }
    }
    if (as_of != NULL) {
        int64_t us;
        if (!delta_parse_timestamp(as_of, &us)) {
            return weir_error_set(err, WEIR_E_USAGE,
                                  "\"%s\" is no time; give one such as 2026-11-21T10:00:00Z",
                                  as_of);
        }
        out->kind = WEIR_DELTA_TIMESTAMP;
        out->timestamp_ms = us / 1000 - (us % 1000 < 0);
    }
    return WEIR_OK;
}
