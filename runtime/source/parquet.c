/* The source `parquet`: the rows of the files a pattern names, file after file, each once. Which
 * files those are, and which were read, is the list the source `files` uses. The position is a file
 * and a row of it, and the hashes of the files read (docs/formats/files.md). */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "decode/avsc.h"
#include "lake/store/open.h"
#include "source/files/file_list.h"
#include "source/table_file.h"

enum {
    POSITION_VERSION = 1,
    POSITION_FIXED_BYTES = 32,
    PATH_BYTES_MAX = 4096,
    POLL_MS = 200, /* of folders */
    SETTLE_US = 1000000,
};

struct parquet_source {
    struct file_list list;
    char *schema_path; /* NULL: the columns are the first file's */
    int64_t settle_us;
    struct weir_store *store; /* the list's, or the whole file system */
    bool owns_store;
    int poll_ms;
    struct table_file file;
    char *path;        /* the file at hand; NULL between files */
    uint64_t identity; /* of the file at hand, to notice that it was replaced */
    bool ended;
};

/* --- options ------------------------------------------------------------------------------ */

static int read_options(struct parquet_source *parquet, const char *options_json,
                        struct weir_error *err) {
    json_error_t where;
    json_t *options = json_loads(options_json != NULL ? options_json : "{}", 0, &where);
    const char *path = json_string_value(json_object_get(options, "path"));
    const char *order = json_string_value(json_object_get(options, "order"));
    const char *schema = json_string_value(json_object_get(options, "schema"));
    const json_t *settle = json_object_get(options, "settle");
    int rc = WEIR_OK;
    if (path == NULL || *path == '\0' || strlen(path) >= PATH_BYTES_MAX) {
        rc = weir_error_set(err, WEIR_E_CONFIG,
                            "parquet says which files: parquet { path = \"landing/*.parquet\" }");
    } else {
        parquet->list.pattern = strdup(path);
        parquet->list.by_time = order != NULL && strcmp(order, "time") == 0;
        parquet->settle_us = json_is_integer(settle) ? json_integer_value(settle) : SETTLE_US;
        parquet->schema_path = schema != NULL ? strdup(schema) : NULL;
        if (parquet->list.pattern == NULL || (schema != NULL && parquet->schema_path == NULL)) {
            rc = weir_error_set(err, WEIR_E_NOMEM, "out of memory");
        }
    }
    const json_t *poll = json_object_get(options, "poll");
    if (rc == WEIR_OK) {
        rc = file_place_open(path, options, &parquet->list.place, err);
    }
    parquet->poll_ms = parquet->list.place == NULL ? POLL_MS
                       : json_is_integer(poll)     ? (int)(json_integer_value(poll) / 1000)
                                                   : FILE_PLACE_POLL_MS;
    json_decref(options);
    return rc;
}

static void destroy(struct parquet_source *parquet) {
    if (parquet->owns_store) {
        weir_store_destroy(parquet->store);
    }
    file_list_fini(&parquet->list);
    free(parquet->schema_path);
    free(parquet->path);
    free(parquet);
}

static int open_store(struct parquet_source *parquet, struct weir_error *err) {
    if (parquet->list.place != NULL) {
        parquet->store = file_place_store(parquet->list.place);
        return WEIR_OK;
    }
    parquet->owns_store = true;
    return weir_store_local_open("/", &parquet->store, err);
}

/* --- columns ------------------------------------------------------------------------------ */

/* Opens by the name the store has for it, which starts at its root and has no "..". */
static int open_footer(struct parquet_source *parquet, const char *path, struct weir_pool *pool,
                       struct delta_parquet_file *file, struct weir_error *err) {
    if (parquet->list.place != NULL) {
        const char *name = file_place_name(parquet->list.place, path);
        return name != NULL ? delta_parquet_open(file, parquet->store, name, -1, pool, err)
                            : weir_error_set(err, WEIR_E_STATE, "%s is of another place", path);
    }
    char *absolute = realpath(path, NULL);
    if (absolute == NULL) {
        return weir_error_system(err, errno == ENOENT ? WEIR_E_NOTFOUND : WEIR_E_ENVIRONMENT, errno,
                                 "cannot open %s", path);
    }
    int rc = delta_parquet_open(file, parquet->store, absolute + 1, -1, pool, err);
    free(absolute);
    return rc;
}

/* Every column of the first file, each of which may be null in another. */
static int columns_of_first(struct parquet_source *parquet, struct weir_schema **out,
                            struct weir_error *err) {
    struct delta_parquet_file file = {0};
    struct weir_pool *pool = NULL;
    int rc = file_list_scan(&parquet->list, NULL, err);
    char *path = rc == WEIR_OK ? file_list_take(&parquet->list) : NULL;
    if (rc == WEIR_OK && path == NULL) {
        return weir_error_set(err, WEIR_E_NOTFOUND,
                              "no file is named %s, to say what the columns are; put the first "
                              "one there, or say schema = \"schemas/sale.avsc\"",
                              parquet->list.pattern);
    }
    if (rc == WEIR_OK) {
        pool = weir_pool_create(64 << 20);
        rc = pool != NULL ? open_footer(parquet, path, pool, &file, err)
                          : weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    if (rc == WEIR_OK) {
        rc = table_file_columns(weir_parquet_reader_schema(file.reader), true, out, err);
        delta_parquet_close(&file);
    }
    weir_pool_destroy(pool);
    free(path);
    return rc;
}

static int own_schema(const char *options_json, struct weir_schema **out, struct weir_error *err) {
    struct parquet_source *parquet = calloc(1, sizeof(*parquet));
    if (parquet == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    int rc = read_options(parquet, options_json, err);
    if (rc == WEIR_OK && parquet->schema_path != NULL) {
        struct weir_avsc avsc;
        rc = weir_avsc_load(parquet->schema_path, &avsc, err);
        if (rc == WEIR_OK) {
            *out = weir_schema_ref(avsc.schema);
            weir_avsc_fini(&avsc);
        }
    } else if (rc == WEIR_OK) {
        rc = open_store(parquet, err);
        rc = rc == WEIR_OK ? columns_of_first(parquet, out, err) : rc;
    }
    destroy(parquet);
    return rc;
}

/* --- positions ---------------------------------------------------------------------------- */

/* 0 'p' · 1 version · 2 flags (1: a file is open) · 4 u32 files read · 8 u64 row · 16 u64 identity
 * · 24 u32 path bytes · 32 path · hashes of the files read */
struct parquet_position {
    const uint8_t *path;
    const uint8_t *done;
    int64_t row;
    uint64_t identity;
    uint32_t done_count;
    uint32_t path_bytes;
};

static bool parse_position(const struct weir_position *position, struct parquet_position *out) {
    const uint8_t *p = position->bytes;
    if (position->size < POSITION_FIXED_BYTES || p[0] != 'p' || p[1] != POSITION_VERSION) {
        return false;
    }
    memcpy(&out->done_count, p + 4, 4);
    memcpy(&out->row, p + 8, 8);
    memcpy(&out->identity, p + 16, 8);
    memcpy(&out->path_bytes, p + 24, 4);
    out->path = p + POSITION_FIXED_BYTES;
    out->done = out->path + (out->path_bytes <= PATH_BYTES_MAX ? out->path_bytes : 0);
    return out->path_bytes <= PATH_BYTES_MAX && out->done_count <= FILE_LIST_DONE_MAX &&
           out->row >= 0 &&
           position->size == POSITION_FIXED_BYTES + out->path_bytes + 8 * (size_t)out->done_count;
}

static uint32_t position_bytes(const struct parquet_source *parquet) {
    size_t path = parquet->path != NULL ? strlen(parquet->path) : 0;
    return (uint32_t)(POSITION_FIXED_BYTES + path + 8 * parquet->list.done_count);
}

static void write_position(const struct parquet_source *parquet, struct weir_source_batch *batch) {
    uint8_t *p = source_position(batch);
    uint32_t path = parquet->path != NULL ? (uint32_t)strlen(parquet->path) : 0;
    uint32_t done = (uint32_t)parquet->list.done_count;
    int64_t row = parquet->path != NULL ? parquet->file.next_row : 0;
    uint64_t identity = parquet->path != NULL ? parquet->identity : 0;
    memset(p, 0, POSITION_FIXED_BYTES);
    p[0] = 'p';
    p[1] = POSITION_VERSION;
    p[2] = parquet->path != NULL;
    memcpy(p + 4, &done, 4);
    memcpy(p + 8, &row, 8);
    memcpy(p + 16, &identity, 8);
    memcpy(p + 24, &path, 4);
    if (path > 0) {
        memcpy(p + POSITION_FIXED_BYTES, parquet->path, path);
    }
    if (done > 0) {
        memcpy(p + POSITION_FIXED_BYTES + path, parquet->list.done, 8 * (size_t)done);
    }
}

static int describe(const struct weir_position *position, struct weir_buffer *out) {
    struct parquet_position at;
    if (!parse_position(position, &at)) {
        return weir_buffer_printf(out, "not a parquet position");
    }
    if (at.path_bytes == 0) {
        return weir_buffer_printf(out, "between files, %u files read", at.done_count);
    }
    return weir_buffer_printf(out, "%.*s at row %lld, %u files read", (int)at.path_bytes,
                              (const char *)at.path, (long long)at.row, at.done_count);
}

/* --- files -------------------------------------------------------------------------------- */

static void leave_file(struct parquet_source *parquet) {
    table_file_close(&parquet->file);
    free(parquet->path);
    parquet->path = NULL;
}

/* Row groups and their rows: enough to notice that a file was written anew under its name. */
static uint64_t identify(const struct weir_parquet_reader *reader) {
    uint64_t identity = 0;
    for (int32_t i = 0; i < weir_parquet_reader_row_groups(reader); i++) {
        int64_t rows = weir_parquet_reader_row_group_rows(reader, i);
        identity = XXH3_64bits_withSeed(&rows, sizeof(rows), identity);
    }
    return identity;
}

/* Opens `path` (stolen) at a row. */
static int open_file(struct parquet_source *parquet, char *path, int64_t row,
                     const uint64_t *identity, struct weir_error *err) {
    struct delta_cursor *cursor = &parquet->file.cursor;
    struct weir_source *source = parquet->file.source;
    parquet->path = path;
    /* Its own columns decide what nobody planned, so the footer is read before the cursor opens. */
    struct delta_parquet_file footer = {0};
    int rc = open_footer(parquet, path, source->pool, &footer, err);
    char *name = rc == WEIR_OK ? strdup(footer.path) : NULL;
    if (rc == WEIR_OK) {
        parquet->identity = identify(footer.reader);
        rc = name == NULL ? weir_error_set(err, WEIR_E_NOMEM, "out of memory")
                          : table_file_expect(&parquet->file,
                                              weir_parquet_reader_schema(footer.reader), NULL, err);
    }
    delta_parquet_close(&footer);
    if (rc == WEIR_OK && identity != NULL && *identity != parquet->identity) {
        rc = weir_error_set(err, WEIR_E_STATE,
                            "%s is not the file that was being read (%lld rows of it are in the "
                            "tables); put the old one back, or give the new one another name",
                            path, (long long)row);
    }
    if (rc == WEIR_OK) {
        rc = delta_cursor_open_file(cursor, parquet->store, name, parquet->file.schema,
                                    parquet->file.columns, source->pool, err);
        if (rc == WEIR_OK) {
            rc = table_file_begin(&parquet->file, path, row, err);
        } else {
            delta_cursor_close(cursor);
        }
    }
    free(name);
    return rc;
}

/* A file that does not open may still be in the making. */
static bool may_settle(const struct parquet_source *parquet) {
    struct stat info;
    struct timespec now;
    if (parquet->list.place != NULL) {
        return false; /* objects appear whole */
    }
    clock_gettime(CLOCK_REALTIME, &now);
    if (stat(parquet->path, &info) != 0) {
        return errno == ENOENT;
    }
    int64_t age_us =
        (now.tv_sec - info.st_mtim.tv_sec) * 1000000 + (now.tv_nsec - info.st_mtim.tv_nsec) / 1000;
    return age_us < parquet->settle_us;
}

/* The next file; none: path stays NULL. */
static int enter_next(struct parquet_source *parquet, bool follows, struct weir_error *err) {
    if (parquet->list.path_count == 0 && follows) {
        int rc = file_list_scan(&parquet->list, NULL, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    char *path = file_list_take(&parquet->list);
    if (path == NULL) {
        return WEIR_OK;
    }
    int rc = open_file(parquet, path, 0, NULL, err);
    if (rc == WEIR_E_CORRUPT && follows && may_settle(parquet)) {
        leave_file(parquet); /* found again by a later scan */
        return WEIR_OK;
    }
    if (rc == WEIR_E_CORRUPT) {
        weir_error_wrap(err, "put a whole file in its place, or take it away");
    }
    return rc;
}

/* --- life --------------------------------------------------------------------------------- */

static int init(struct weir_source *source, const char *options_json, struct weir_error *err) {
    struct parquet_source *parquet = calloc(1, sizeof(*parquet));
    if (parquet == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    source->state = parquet;
    int rc = read_options(parquet, options_json, err);
    if (rc == WEIR_OK) {
        rc = open_store(parquet, err);
    }
    if (rc == WEIR_OK) {
        weir_store_set_stop(parquet->store, source_stopping, source);
    }
    return rc == WEIR_OK ? table_file_init(&parquet->file, source, err) : rc;
}

static void fini(struct weir_source *source) {
    struct parquet_source *parquet = source->state;
    if (parquet != NULL) {
        if (parquet->file.source != NULL) {
            table_file_fini(&parquet->file);
        }
        destroy(parquet);
        source->state = NULL;
    }
}

static int resume(struct parquet_source *parquet, const struct weir_position *position,
                  struct weir_error *err) {
    struct parquet_position at;
    if (!parse_position(position, &at)) {
        return weir_error_set(err, WEIR_E_VERSION,
                              "the recorded position is not one of parquet; was the source "
                              "changed? Start a new ledger");
    }
    int rc = WEIR_OK;
    for (uint32_t i = 0; rc == WEIR_OK && i < at.done_count; i++) {
        uint64_t hash;
        memcpy(&hash, at.done + 8 * (size_t)i, 8);
        rc = file_list_add_done(&parquet->list, hash, err);
    }
    if (rc == WEIR_OK && at.path_bytes > 0) {
        char *path = strndup((const char *)at.path, at.path_bytes);
        rc = path != NULL ? open_file(parquet, path, at.row, &at.identity, err)
                          : weir_error_set(err, WEIR_E_NOMEM, "out of memory");
        if (rc != WEIR_OK) {
            weir_error_wrap(err, "the file being read when the run stopped");
        }
    }
    return rc;
}

static int open_source(struct weir_source *source, const struct weir_position *positions,
                       int32_t count, struct weir_error *err) {
    struct parquet_source *parquet = source->state;
    source->partitions = 1;
    int rc = count > 0 && positions[0].size > 0 ? resume(parquet, &positions[0], err) : WEIR_OK;
    return rc == WEIR_OK ? file_list_scan(&parquet->list, parquet->path, err) : rc;
}

static int next(struct weir_source *source, int32_t partition, int32_t max_rows,
                struct weir_source_batch **out, struct weir_error *err) {
    struct parquet_source *parquet = source->state;
    *out = NULL;
    int rc = WEIR_OK;
    while (rc == WEIR_OK && *out == NULL && !parquet->ended) {
        if (parquet->path == NULL) {
            rc = enter_next(parquet, !source->until_end, err);
        }
        if (rc != WEIR_OK || (parquet->path == NULL && !source->until_end)) {
            return rc; /* nothing for now */
        }
        if (parquet->path == NULL) {
            rc = table_file_last(&parquet->file, partition, position_bytes(parquet), out);
            parquet->ended = rc == WEIR_OK;
            break;
        }
        rc =
            table_file_next(&parquet->file, partition, max_rows, position_bytes(parquet), out, err);
        if (rc == WEIR_OK && *out == NULL) {
            rc = file_list_add_done(&parquet->list, file_list_hash(parquet->path), err);
            leave_file(parquet);
        }
    }
    if (rc == WEIR_OK && *out != NULL) {
        write_position(parquet, *out);
    }
    return rc;
}

static int wait_ms(struct weir_source *source, int32_t partition) {
    (void)partition;
    return ((const struct parquet_source *)source->state)->poll_ms;
}

static const char *const orders[] = {"name", "time", NULL};

static const struct weir_option options[] = {
    {.name = "path",
     .form = WEIR_OPTION_PATH,
     .required = true,
     .example = "\"landing/*.parquet\""},
    {.name = "schema", .form = WEIR_OPTION_FILE, .example = "\"schemas/sale.avsc\""},
    {.name = "order", .form = WEIR_OPTION_TEXT, .example = "\"time\"", .choices = orders},
    {.name = "settle", .form = WEIR_OPTION_DURATION, .example = "\"5s\""},
    {.name = "poll", .form = WEIR_OPTION_DURATION, .example = "\"30s\""},
    WEIR_STORE_OPTIONS,
    {0},
};

const struct weir_source_vtable weir_source_parquet = {
    .name = "parquet",
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
