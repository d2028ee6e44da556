/* The source `delta`: a table's rows, then what is appended to it. A snapshot's files are read in
 * the order they were written, then commit by commit the files each one adds. A commit that takes
 * rows away or rewrites them stops the run unless it is to be passed over (the meaning of Spark's
 * skipChangeCommits); one that only moves rows (OPTIMIZE) changes nothing. The position is a
 * version, a file of it, and a row of that (docs/formats/files.md). */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "lake/delta/maintain.h"
#include "lake/delta/state.h"
#include "lake/delta/stats.h"
#include "lake/delta/table.h"
#include "lake/store/open.h"
#include "source/delta_feed.h"

enum {
    POSITION_BYTES = 40,
    POSITION_VERSION = 1,
    POLL_MS = 200,
    FLAG_SNAPSHOT = 1, /* the files are a snapshot's, else a commit's */
    FLAG_DONE = 2,     /* nothing is left of that version */
};

struct delta_source {
    char *url;
    json_t *options;
    struct weir_store *store;
    struct weir_delta_snapshot *snapshot; /* as old as the files at hand, or newer */
    bool from_now;
    int64_t from_version; /* -1: not said */
    bool skips_changes;

    struct table_file file;
    struct delta_feed feed;       /* has keys where changes are told */
    struct weir_delta_adds files; /* of the snapshot or commit at hand, in reading order */
    int64_t version;              /* whose files they are */
    bool is_snapshot;
    int32_t at;     /* the file being read, or to be read next */
    int64_t at_row; /* where reading it begins */
    int64_t last;   /* of a bounded run: no version behind this one */
    uint64_t table_id;
    bool ended;
};

/* --- options ------------------------------------------------------------------------------ */

static int read_options(struct delta_source *delta, const char *options_json,
                        struct weir_error *err) {
    json_error_t where;
    delta->options = json_loads(options_json != NULL ? options_json : "{}", 0, &where);
    const char *path = json_string_value(json_object_get(delta->options, "path"));
    if (path == NULL) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "delta says which table: delta { path = \"lake/silver/sale\" }");
    }
    const char *start = json_string_value(json_object_get(delta->options, "start"));
    const json_t *version = json_object_get(delta->options, "from_version");
    delta->from_now = start != NULL && strcmp(start, "latest") == 0;
    delta->from_version = version != NULL ? json_integer_value(version) : -1;
    delta->skips_changes = json_is_true(json_object_get(delta->options, "skip_change_commits"));
    delta->url = strdup(path);
    bool changes = json_is_true(json_object_get(delta->options, "changes"));
    const json_t *keys = json_object_get(delta->options, "key");
    if (changes && delta->skips_changes) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "delta: changes = true reads the versions that skip_change_commits = "
                              "true passes over; keep one");
    }
    if (!changes && keys != NULL) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "delta: a key is for changes; write changes = true beside it");
    }
    int rc = changes ? delta_feed_init(&delta->feed, keys, err) : WEIR_OK;
    if (rc != WEIR_OK) {
        return rc;
    }
    if (delta->from_now && version != NULL) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "delta: start and from_version both say where to begin; keep one");
    }
    return delta->url != NULL ? WEIR_OK : weir_error_set(err, WEIR_E_NOMEM, "out of memory");
}

static int open_table(struct delta_source *delta, const struct weir_delta_at *at,
                      struct weir_error *err) {
    weir_delta_snapshot_destroy(delta->snapshot);
    delta->snapshot = NULL;
    int rc = WEIR_OK;
    if (delta->store == NULL) {
        rc = weir_store_open_url(delta->url, delta->options, false, &delta->store, err);
        if (rc == WEIR_OK && delta->file.source != NULL) {
            weir_store_set_stop(delta->store, source_stopping, delta->file.source);
        }
    }
    if (rc == WEIR_OK) {
        rc = weir_delta_snapshot_open(delta->store, "", at, &delta->snapshot, err);
    }
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "%s", delta->url);
}

static void destroy(struct delta_source *delta) {
    weir_delta_adds_fini(&delta->files);
    delta_feed_fini(&delta->feed);
    weir_delta_snapshot_destroy(delta->snapshot);
    weir_store_destroy(delta->store);
    json_decref(delta->options);
    free(delta->url);
    free(delta);
}

/* The columns the table has now. */
static int own_schema(const char *options_json, struct weir_schema **out, struct weir_error *err) {
    const struct weir_delta_at latest = {.kind = WEIR_DELTA_LATEST};
    const struct weir_schema *schema;
    const struct weir_delta_column *columns;
    struct delta_source *delta = calloc(1, sizeof(*delta));
    if (delta == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    int rc = read_options(delta, options_json, err);
    if (rc == WEIR_OK) {
        rc = open_table(delta, &latest, err);
    }
    if (rc == WEIR_OK) {
        rc = weir_delta_snapshot_schema(delta->snapshot, &schema, &columns, err);
    }
    if (rc == WEIR_OK) {
        rc = table_file_columns(schema, false, out, err);
    }
    if (rc == WEIR_OK && delta->feed.keys != NULL) {
        struct weir_schema *table = *out;
        *out = NULL;
        rc = delta_feed_columns(&delta->feed, table, out, err);
        weir_schema_unref(table);
    }
    destroy(delta);
    return rc;
}

/* --- which files -------------------------------------------------------------------------- */

static int keep_add(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct delta_source *delta = context;
    struct weir_delta_add *copy = weir_delta_add_dup(add);
    int rc = copy != NULL ? weir_delta_adds_push(&delta->files, copy) : WEIR_E_NOMEM;
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "out of memory");
}

static int by_age(const void *a, const void *b) {
    const struct weir_delta_add *x = *(struct weir_delta_add *const *)a;
    const struct weir_delta_add *y = *(struct weir_delta_add *const *)b;
    if (x->modified_ms != y->modified_ms) {
        return x->modified_ms < y->modified_ms ? -1 : 1;
    }
    return strcmp(x->path, y->path);
}

/* The smallest `_ingested_at` its statistics tell, as text that sorts; NULL: they do not. */
static const char *ingested_at(const struct weir_delta_add *add) {
    const char *least = delta_stats_member(add->stats, "minValues");
    const char *at = delta_stats_member(least, "_ingested_at");
    return at != NULL && *at == '"' ? at + 1 : NULL;
}

/* As they came in, whatever put files together since. */
static int by_coming(const void *a, const void *b) {
    const char *x = ingested_at(*(struct weir_delta_add *const *)a);
    const char *y = ingested_at(*(struct weir_delta_add *const *)b);
    size_t length = x != NULL ? strcspn(x, "\"") : 0;
    int order = y != NULL && length == strcspn(y, "\"") ? strncmp(x, y, length) : 0;
    return order != 0 ? order : by_age(a, b);
}

/* To be read, of the snapshot or commit at hand. */
static int32_t part_count(const struct delta_source *delta) {
    return delta->feed.keys != NULL ? delta->feed.part_count : delta->files.count;
}

static void forget_files(struct delta_source *delta) {
    delta_feed_clear(&delta->feed);
    weir_delta_adds_fini(&delta->files);
    memset(&delta->files, 0, sizeof(delta->files));
    delta->at = 0;
    delta->at_row = 0;
}

/* The snapshot's files are to be read. */
static int take_snapshot(struct delta_source *delta, struct weir_error *err) {
    forget_files(delta);
    delta->is_snapshot = true;
    delta->version = weir_delta_snapshot_version(delta->snapshot);
    int rc = weir_delta_snapshot_each_file(delta->snapshot, keep_add, delta, err);
    if (rc == WEIR_OK && delta->files.count > 1) {
        qsort(delta->files.items, (size_t)delta->files.count, sizeof(delta->files.items[0]),
              delta->file.source->again ? by_coming : by_age);
    }
    if (rc == WEIR_OK && delta->feed.keys != NULL) {
        rc = delta_feed_take_files(&delta->feed, delta->snapshot, &delta->files, err);
    }
    return rc;
}

/* What one commit does. */
struct commit_reading {
    struct delta_source *delta;
    bool has_metadata;
    bool takes_rows; /* or rewrites them */
};

static int see_add(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct commit_reading *reading = context;
    return add->data_change ? keep_add(reading->delta, add, err) : WEIR_OK;
}

static int see_remove(void *context, const struct weir_delta_remove *remove,
                      struct weir_error *err) {
    (void)err;
    struct commit_reading *reading = context;
    reading->takes_rows = reading->takes_rows || remove->data_change;
    return WEIR_OK;
}

static int see_metadata(void *context, const struct weir_delta_metadata *metadata,
                        struct weir_error *err) {
    (void)metadata;
    (void)err;
    ((struct commit_reading *)context)->has_metadata = true;
    return WEIR_OK;
}

/* The text of a commit. */
static int get_commit(struct delta_source *delta, int64_t version, struct weir_buffer *bytes,
                      struct weir_error *err) {
    char *path = delta_log_path("", "%020" PRId64 ".json", version);
    int rc = path != NULL ? weir_store_get(delta->store, path, 0, -1, bytes, err)
                          : weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    free(path);
    return rc;
}

static int expect_columns(struct delta_source *delta, struct weir_error *err) {
    const struct weir_schema *schema;
    const struct weir_delta_column *columns;
    int rc = weir_delta_snapshot_schema(delta->snapshot, &schema, &columns, err);
    if (rc == WEIR_OK) {
        rc = table_file_expect(&delta->file, schema, columns, err);
    }
    uint64_t id = XXH3_64bits(delta->snapshot->metadata.id, strlen(delta->snapshot->metadata.id));
    if (rc == WEIR_OK && delta->table_id != 0 && delta->table_id != id) {
        rc = weir_error_set(err, WEIR_E_STATE,
                            "%s is another table than the one that was being read; read it under "
                            "another source's name, or start a new ledger",
                            delta->url);
    }
    delta->table_id = id;
    return rc;
}

/* No file is open. */
static int refresh(struct delta_source *delta, struct weir_error *err) {
    int64_t before = weir_delta_snapshot_version(delta->snapshot);
    int rc = weir_delta_snapshot_refresh(delta->snapshot, err);
    bool moved = weir_delta_snapshot_version(delta->snapshot) != before;
    return rc == WEIR_OK && moved ? expect_columns(delta, err) : rc;
}

/* Rows that version `version` adds, in the order it names them. */
static int read_appended(struct delta_source *delta, int64_t version, bool *has_metadata,
                         struct weir_error *err) {
    struct weir_buffer bytes;
    struct commit_reading reading = {.delta = delta};
    const struct weir_delta_action_visitor visitor = {
        .context = &reading, .add = see_add, .remove = see_remove, .metadata = see_metadata};
    weir_buffer_init(&bytes, DELTA_COMMIT_BYTES_MAX);
    int rc = get_commit(delta, version, &bytes, err);
    if (rc == WEIR_OK) {
        rc = weir_delta_actions_parse((const char *)bytes.data, bytes.size, delta->url, &visitor,
                                      err);
    }
    if (rc == WEIR_OK && reading.takes_rows) {
        if (delta->skips_changes) {
            forget_files(delta);
        } else {
            rc = weir_error_set(
                err, WEIR_E_STATE,
                "%s: version %" PRId64 " deletes or rewrites rows, which cannot be taken back from "
                "those who read them; changes = true, key = … tells what became of rows, "
                "skip_change_commits = true passes over such versions",
                delta->url, version);
        }
    }
    *has_metadata = reading.has_metadata;
    weir_buffer_fini(&bytes);
    return rc;
}

static int read_changes(struct delta_source *delta, int64_t version, bool *has_metadata,
                        struct weir_error *err) {
    int rc = delta_feed_take(&delta->feed, delta->snapshot, version, delta->file.source->pool, err);
    *has_metadata = delta->feed.commit.has_metadata;
    return rc == WEIR_OK || rc == WEIR_E_NOTFOUND ? rc : weir_error_wrap(err, "%s", delta->url);
}

/* The log has it: a commit that is not there yet, or not any more? */
static bool is_there(struct delta_source *delta, int64_t version) {
    struct weir_store_info info;
    char *path = delta_log_path("", "%020" PRId64 ".json", version);
    int rc = path != NULL ? weir_store_stat(delta->store, path, &info, NULL) : WEIR_E_NOMEM;
    free(path);
    return rc != WEIR_E_NOTFOUND;
}

/* What the next version brings. *none: there is none yet. */
static int take_commit(struct delta_source *delta, bool *none, struct weir_error *err) {
    bool has_metadata = false;
    int64_t version = delta->version + 1;
    forget_files(delta);
    int rc = delta->feed.keys != NULL ? read_changes(delta, version, &has_metadata, err)
                                      : read_appended(delta, version, &has_metadata, err);
    *none = rc == WEIR_E_NOTFOUND;
    if (rc == WEIR_E_NOTFOUND) {
        forget_files(delta);
        rc = refresh(delta, err);
        if (rc == WEIR_OK && weir_delta_snapshot_version(delta->snapshot) >= version &&
            !is_there(delta, version)) {
            rc = weir_error_set(err, WEIR_E_STATE,
                                "%s: version %" PRId64 ", the next to be read, is gone from its "
                                "log; raise delta.logRetentionDuration of the table, and start "
                                "again with a new ledger or under another source's name",
                                delta->url, version);
        }
        return rc;
    }
    if (rc == WEIR_OK && has_metadata) {
        rc = refresh(delta, err);
    }
    if (rc == WEIR_OK) {
        delta->version = version;
        delta->is_snapshot = false;
    }
    return rc;
}

/* --- positions ---------------------------------------------------------------------------- */

/* 0 'd' · 1 version · 2 flags · 8 i64 table version · 16 u64 file · 24 u64 row · 32 u64 XXH3 of
 * the table's id */
struct delta_position {
    bool is_snapshot;
    bool is_done;
    int64_t version;
    int64_t file;
    int64_t row;
    uint64_t table_id;
};

static bool parse_position(const struct weir_position *position, struct delta_position *out) {
    const uint8_t *p = position->bytes;
    if (position->size != POSITION_BYTES || p[0] != 'd' || p[1] != POSITION_VERSION) {
        return false;
    }
    out->is_snapshot = (p[2] & FLAG_SNAPSHOT) != 0;
    out->is_done = (p[2] & FLAG_DONE) != 0;
    memcpy(&out->version, p + 8, 8);
    memcpy(&out->file, p + 16, 8);
    memcpy(&out->row, p + 24, 8);
    memcpy(&out->table_id, p + 32, 8);
    return out->version >= -1 && out->file >= 0 && out->file <= INT32_MAX && out->row >= 0;
}

static void write_position(const struct delta_source *delta, struct weir_source_batch *batch) {
    uint8_t *p = source_position(batch);
    int64_t file = delta->at;
    int64_t row = delta->file.is_open ? delta->file.next_row : delta->at_row;
    memset(p, 0, POSITION_BYTES);
    p[0] = 'd';
    p[1] = POSITION_VERSION;
    p[2] = (uint8_t)((delta->is_snapshot ? FLAG_SNAPSHOT : 0) |
                     (delta->at >= part_count(delta) ? FLAG_DONE : 0));
    memcpy(p + 8, &delta->version, 8);
    memcpy(p + 16, &file, 8);
    memcpy(p + 24, &row, 8);
    memcpy(p + 32, &delta->table_id, 8);
}

static int describe(const struct weir_position *position, struct weir_buffer *out) {
    struct delta_position at;
    if (!parse_position(position, &at)) {
        return weir_buffer_printf(out, "not a delta position");
    }
    return weir_buffer_printf(out, "%s version %" PRId64 ", file %" PRId64 " of it, row %" PRId64,
                              at.is_snapshot ? "snapshot of" : "commit of", at.version, at.file,
                              at.row);
}

/* --- life --------------------------------------------------------------------------------- */

static int init(struct weir_source *source, const char *options_json, struct weir_error *err) {
    struct delta_source *delta = calloc(1, sizeof(*delta));
    if (delta == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    source->state = delta;
    delta->last = INT64_MAX;
    int rc = read_options(delta, options_json, err);
    return rc == WEIR_OK ? table_file_init(&delta->file, source, err) : rc;
}

static void fini(struct weir_source *source) {
    struct delta_source *delta = source->state;
    if (delta != NULL) {
        if (delta->file.source != NULL) {
            table_file_fini(&delta->file);
        }
        destroy(delta);
        source->state = NULL;
    }
}

/* Changes are told of versions at which the table keeps them. */
static int check_feed(struct delta_source *delta, struct weir_error *err) {
    const struct weir_delta_at at = {.kind = WEIR_DELTA_VERSION, .version = delta->from_version};
    struct weir_delta_snapshot *first = NULL;
    if (delta->feed.keys == NULL) {
        return WEIR_OK;
    }
    int64_t newest = weir_delta_snapshot_version(delta->snapshot);
    bool on = delta_property_is_true(&delta->snapshot->metadata, DELTA_FEED_PROPERTY);
    int rc = WEIR_OK;
    if (on && delta->from_version >= 0 && delta->from_version < newest) {
        rc = weir_delta_snapshot_open(delta->store, "", &at, &first, err);
        on = rc == WEIR_OK && delta_property_is_true(&first->metadata, DELTA_FEED_PROPERTY);
        newest = delta->from_version;
        weir_delta_snapshot_destroy(first);
    }
    if (rc != WEIR_OK || on) {
        return rc;
    }
    (void)delta_feed_is_off(newest, err);
    return weir_error_wrap(err, "%s: set the property delta.enableChangeDataFeed = true",
                           delta->url);
}

/* Where a source without a position begins. */
static int begin_anew(struct delta_source *delta, struct weir_error *err) {
    int64_t newest = weir_delta_snapshot_version(delta->snapshot);
    int rc = expect_columns(delta, err);
    if (rc == WEIR_OK && delta->from_version > newest + 1) {
        rc = weir_error_set(err, WEIR_E_CONFIG,
                            "%s: from_version = %" PRId64 ", but its newest version is %" PRId64,
                            delta->url, delta->from_version, newest);
    }
    rc = rc == WEIR_OK ? check_feed(delta, err) : rc;
    if (rc != WEIR_OK) {
        return rc;
    }
    if (delta->from_now || delta->from_version >= 0) {
        delta->version = delta->from_now ? newest : delta->from_version - 1;
        return WEIR_OK;
    }
    return take_snapshot(delta, err);
}

static int resume(struct delta_source *delta, const struct weir_position *position,
                  struct weir_error *err) {
    struct delta_position at;
    if (!parse_position(position, &at)) {
        return weir_error_set(err, WEIR_E_VERSION,
                              "the recorded position is not one of delta; was the source changed? "
                              "Start a new ledger");
    }
    int rc = WEIR_OK;
    delta->table_id = at.table_id;
    if (at.is_done) {
        delta->version = at.version;
        return expect_columns(delta, err);
    }
    if (at.is_snapshot) {
        const struct weir_delta_at then = {.kind = WEIR_DELTA_VERSION, .version = at.version};
        rc = open_table(delta, &then, err);
        if (rc == WEIR_E_NOTFOUND) {
            rc = weir_error_wrap(err, "the snapshot being read is gone; raise "
                                      "delta.logRetentionDuration, or start a new ledger");
        }
    }
    if (rc == WEIR_OK) {
        rc = expect_columns(delta, err);
    }
    if (rc == WEIR_OK && at.is_snapshot) {
        rc = take_snapshot(delta, err);
    } else if (rc == WEIR_OK) {
        bool none = false;
        delta->version = at.version - 1;
        rc = take_commit(delta, &none, err);
    }
    if (rc == WEIR_OK && at.file >= part_count(delta)) {
        rc = weir_error_set(err, WEIR_E_STATE,
                            "%s: version %" PRId64 " has %d files, and %" PRId64 " of them were "
                            "read; was its log rewritten? Start a new ledger",
                            delta->url, at.version, (int)part_count(delta), at.file);
    }
    delta->at = rc == WEIR_OK ? (int32_t)at.file : 0;
    delta->at_row = at.row;
    return rc;
}

static int open_source(struct weir_source *source, const struct weir_position *positions,
                       int32_t count, struct weir_error *err) {
    struct delta_source *delta = source->state;
    const struct weir_delta_at latest = {.kind = WEIR_DELTA_LATEST};
    source->partitions = 1;
    int rc = open_table(delta, &latest, err);
    if (rc == WEIR_OK && source->until_end) {
        delta->last = weir_delta_snapshot_version(delta->snapshot);
    }
    if (rc == WEIR_OK) {
        rc = count > 0 && positions[0].size > 0 ? resume(delta, &positions[0], err)
                                                : begin_anew(delta, err);
    }
    return rc;
}

/* --- reading ------------------------------------------------------------------------------ */

static int open_file(struct delta_source *delta, struct weir_error *err) {
    int rc = delta->feed.keys != NULL
                 ? delta_feed_open(&delta->feed, delta->at, &delta->file, delta->snapshot, err)
                 : delta_cursor_open(&delta->file.cursor, delta->snapshot,
                                     delta->files.items[delta->at], delta->file.schema,
                                     delta->file.columns, delta->file.source->pool, err);
    if (rc != WEIR_OK) {
        delta_cursor_close(&delta->file.cursor);
        if (rc == WEIR_E_NOTFOUND) {
            weir_error_wrap(err,
                            "a file of version %" PRId64 " was vacuumed before it was read; "
                            "raise delta.deletedFileRetentionDuration",
                            delta->version);
        }
        return weir_error_wrap(err, "%s", delta->url);
    }
    return table_file_begin(&delta->file, delta->url, delta->at_row, err);
}

static void leave_file(struct delta_source *delta) {
    table_file_close(&delta->file);
    delta->at++;
    delta->at_row = 0;
}

/* A batch of the files at hand; NULL when they are read. */
static int read_files(struct delta_source *delta, int32_t partition, int32_t max_rows,
                      struct weir_source_batch **out, struct weir_error *err) {
    int rc = WEIR_OK;
    while (rc == WEIR_OK && *out == NULL && delta->at < part_count(delta)) {
        if (!delta->file.is_open) {
            rc = open_file(delta, err);
        }
        if (rc == WEIR_OK) {
            rc = table_file_next(&delta->file, partition, max_rows, POSITION_BYTES, out, err);
            if (rc != WEIR_OK && rc != WEIR_E_LIMIT) {
                weir_error_wrap(err, "file %s", delta->file.cursor.file.path);
            }
        }
        if (rc == WEIR_OK && *out == NULL) {
            leave_file(delta);
        }
    }
    return rc;
}

static int next(struct weir_source *source, int32_t partition, int32_t max_rows,
                struct weir_source_batch **out, struct weir_error *err) {
    struct delta_source *delta = source->state;
    bool none = false;
    *out = NULL;
    int rc = delta->ended ? WEIR_OK : read_files(delta, partition, max_rows, out, err);
    while (rc == WEIR_OK && *out == NULL && !none && !delta->ended) {
        if (delta->version >= delta->last) {
            rc = table_file_last(&delta->file, partition, POSITION_BYTES, out);
            delta->ended = rc == WEIR_OK;
            break;
        }
        rc = take_commit(delta, &none, err);
        if (rc == WEIR_OK && !none) {
            rc = read_files(delta, partition, max_rows, out, err);
        }
    }
    if (rc == WEIR_OK && *out != NULL) {
        write_position(delta, *out);
    }
    return rc;
}

static int wait_ms(struct weir_source *source, int32_t partition) {
    (void)source;
    (void)partition;
    return POLL_MS;
}

static const char *const starts[] = {"snapshot", "latest", NULL};

static const struct weir_option options[] = {
    {.name = "path", .form = WEIR_OPTION_PATH, .required = true, .example = "\"lake/silver/sale\""},
    {.name = "start", .form = WEIR_OPTION_TEXT, .example = "\"latest\"", .choices = starts},
    {.name = "from_version", .form = WEIR_OPTION_COUNT, .example = "12"},
    {.name = "skip_change_commits", .form = WEIR_OPTION_FLAG},
    {.name = "changes", .form = WEIR_OPTION_FLAG},
    {.name = "key", .form = WEIR_OPTION_TEXTS, .example = "\"id\""},
    WEIR_STORE_OPTIONS,
    {0},
};

const struct weir_source_vtable weir_source_delta = {
    .name = "delta",
    .options = options,
    .needs_decoder = false,
    .own_schema = own_schema,
    .init = init,
    .open = open_source,
    .next = next,
    .wait_ms = wait_ms,
    .fini = fini,
    .describe = describe,
};
