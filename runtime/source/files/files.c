/* Lines of files. One partition reads the files a pattern names in order of their names; a file
 * that appears later with a smaller name is read next. The position is a file, the byte of the next
 * line in its uncompressed text, a hash of its first bytes (to notice that it was replaced), and
 * the hashes of the files read (docs/formats/files.md). */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/log.h"
#include "lake/store/open.h"
#include "source/files/file_set.h"

/* --- life --------------------------------------------------------------------------------- */

static int read_options(struct files *files, const char *options_json, struct weir_error *err) {
    json_error_t where;
    json_t *options = json_loads(options_json != NULL ? options_json : "{}", 0, &where);
    int rc = json_is_object(options)
                 ? WEIR_OK
                 : weir_error_set(err, WEIR_E_CONFIG, "files: options are not an object");
    const char *key;
    json_t *value;
    bool by_file = false;
    json_int_t open = 0;
    json_object_foreach(options, key, value) {
        if (rc == WEIR_OK && strcmp(key, "path") == 0 && json_is_string(value) &&
            json_string_length(value) > 0 && json_string_length(value) < PATH_BYTES_MAX) {
            free(files->list.pattern);
            files->list.pattern = strdup(json_string_value(value));
            rc = files->list.pattern != NULL ? WEIR_OK
                                             : weir_error_set(err, WEIR_E_NOMEM, "out of memory");
        } else if (strcmp(key, "order") == 0) {
            files->list.by_time = strcmp(json_string_value(value), "time") == 0;
        } else if (strcmp(key, "settle") == 0) {
            files->settle_us = json_integer_value(value);
        } else if (strcmp(key, "partitions") == 0) {
            by_file = strcmp(json_string_value(value), "file") == 0;
        } else if (strcmp(key, "open") == 0) {
            open = json_integer_value(value);
        } else if (strcmp(key, "poll") == 0) {
            files->poll_ms = (int)(json_integer_value(value) / 1000);
        }
    }
    if (rc == WEIR_OK && files->list.pattern != NULL) {
        rc = file_place_open(files->list.pattern, options, &files->list.place, err);
        files->place = files->list.place;
    }
    json_decref(options);
    if (rc == WEIR_OK && (open < 0 || open > OPEN_FILES_MAX || (open > 0 && !by_file))) {
        rc = weir_error_set(err, WEIR_E_CONFIG,
                            "files: open = %lld: how many files are read side by side, 1 to %d, "
                            "with partitions = \"file\"",
                            (long long)open, OPEN_FILES_MAX);
    }
    files->open = by_file ? (open > 0 ? (int32_t)open : OPEN_FILES) : 0;
    if (rc == WEIR_OK && files->list.pattern == NULL) {
        rc = weir_error_set(err, WEIR_E_CONFIG,
                            "files says which: files { path = \"landing/*.jsonl\" }");
    }
    return rc;
}

int files_prepare(struct weir_source *source, struct files *files, struct weir_error *err) {
    int rc = weir_decoder_create(&files->decoder, source->decoder_kind, source->decoder_options,
                                 source->user_schema, err);
    if (rc == WEIR_OK) {
        rc = weir_batch_builder_init(&files->builder, source->pool, source->full_schema,
                                     source->batch_rows, BATCH_BYTES_MAX, err);
        files->has_builder = rc == WEIR_OK;
    }
    if (rc == WEIR_OK) {
        files->capacity = READ_BYTES * 2;
        files->data = malloc(files->capacity + WEIR_DECODE_PADDING);
        files->frames = malloc(FRAMES * sizeof(*files->frames));
        if (files->data == NULL || files->frames == NULL) {
            rc = weir_error_set(err, WEIR_E_NOMEM, "out of memory");
        }
    }
    return rc;
}

static int init(struct weir_source *source, const char *options_json, struct weir_error *err) {
    struct files *files = calloc(1, sizeof(*files));
    if (files == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    source->state = files;
    files->settle_us = SETTLE_US;
    files->poll_ms = FILE_PLACE_POLL_MS;
    int rc = read_options(files, options_json, err);
    if (rc == WEIR_OK && files->place != NULL) {
        weir_store_set_stop(file_place_store(files->place), source_stopping, source);
    }
    return rc == WEIR_OK && files->open == 0 ? files_prepare(source, files, err) : rc;
}

static void close_file(struct files *files) {
    file_stream_close(files->stream);
    files->stream = NULL;
    free(files->path);
    files->path = NULL;
    files->offset = 0;
    files->head_size = 0;
    files->begin = files->end = 0;
    files->at_end = false;
    files->head_read = false;
    files->is_skipping = false;
    files->skipped = 0;
}

void files_destroy(struct files *files) {
    if (files == NULL) {
        return;
    }
    file_set_close(files);
    close_file(files);
    free(files->topic);
    file_watch_destroy(files->watch);
    file_list_fini(&files->list);
    weir_decoder_destroy(files->decoder);
    if (files->has_builder) {
        weir_batch_builder_fini(&files->builder);
    }
    free(files->frames);
    free(files->data);
    free(files);
}

static void fini(struct weir_source *source) {
    files_destroy(source->state);
    source->state = NULL;
}

/* --- reading ------------------------------------------------------------------------------ */

/* Makes room and reads once. Sets at_end when nothing came. */
static int refill(struct files *files, struct weir_error *err) {
    if (files->begin > 0) {
        memmove(files->data, files->data + files->begin, files->end - files->begin);
        files->end -= files->begin;
        files->begin = 0;
    }
    if (files->capacity - files->end < READ_BYTES) {
        size_t capacity =
            files->capacity * 2; /* one long line: at most LINE_BYTES_MAX and a read */
        uint8_t *data = realloc(files->data, capacity + WEIR_DECODE_PADDING);
        if (data == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
        }
        files->data = data;
        files->capacity = capacity;
    }
    size_t got;
    int rc = file_stream_read(files->stream, files->data + files->end, files->capacity - files->end,
                              &got, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    uint64_t text_end = files->offset + files->skipped + (files->end - files->begin);
    if (text_end == files->head_size && files->head_size < HEAD_BYTES) {
        size_t room = HEAD_BYTES - files->head_size;
        size_t part = got < room ? got : room;
        memcpy(files->head + files->head_size, files->data + files->end, part);
        files->head_size += (uint32_t)part;
    }
    files->end += got;
    files->at_end = got == 0;
    if (got == 0 && file_stream_shrank(files->stream)) {
        return weir_error_set(err, WEIR_E_CORRUPT,
                              "%s is shorter than what was read of it: it was truncated or "
                              "overwritten; write new lines to a new file instead",
                              files->path);
    }
    return WEIR_OK;
}

int files_start(struct files *files, char *path, struct weir_error *err) {
    close_file(files);
    files->path = path;
    free(files->topic);
    files->topic = strdup(path);
    if (files->topic == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    return file_stream_open(&files->stream, path, files->place,
                            files->decoder->vtable->is_container, err);
}

static bool skip_bom(struct files *files) {
    static const uint8_t bom[] = {0xef, 0xbb, 0xbf};
    bool found = !files->decoder->vtable->is_binary && files->offset == 0 &&
                 files->end - files->begin >= sizeof(bom) &&
                 memcmp(files->data + files->begin, bom, sizeof(bom)) == 0;
    if (found) {
        files->begin += sizeof(bom);
        files->offset += sizeof(bom);
    }
    return found;
}

/* Opens the file a position names, checks that it is the same one, and moves to its byte. */
static int resume_file(struct files *files, const struct files_position *at,
                       struct weir_error *err) {
    char *path = strndup((const char *)at->path, at->path_bytes);
    if (path == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    int rc = files_start(files, path, err);
    if (rc != WEIR_OK) {
        return weir_error_wrap(err, "the file being read when the run stopped");
    }
    bool whole = at->offset == 0; /* rows come after the head */
    while (rc == WEIR_OK && !whole && !files->at_end) {
        rc = refill(files, err);
        (void)skip_bom(files);
        rc = rc == WEIR_OK ? files_read_head(files, files->at_end, &whole, err) : rc;
    }
    while (rc == WEIR_OK && files->offset < at->offset && !files->at_end) {
        rc = files->begin == files->end ? refill(files, err) : WEIR_OK;
        size_t have = files->end - files->begin;
        uint64_t want = at->offset - files->offset;
        size_t step = want < have ? (size_t)want : have;
        files->begin += step;
        files->offset += step;
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    if (files->offset < at->offset || files->head_size < at->head_bytes ||
        XXH3_64bits(files->head, at->head_bytes) != at->head_hash) {
        return weir_error_set(
            err, WEIR_E_STATE,
            "%s is not the file that was being read (it was truncated or "
            "replaced; %llu bytes of it are in the tables); put the old one back, "
            "or give the new one another name",
            files->path, (unsigned long long)at->offset);
    }
    return WEIR_OK;
}

int files_resume(struct files *files, const struct weir_position *position,
                 struct weir_error *err) {
    struct files_position at;
    if (!files_parse_position(position, &at)) {
        return weir_error_set(err, WEIR_E_VERSION,
                              "the recorded position is not one of files; was the source "
                              "changed? Start a new ledger");
    }
    int rc = WEIR_OK;
    for (uint32_t i = 0; rc == WEIR_OK && i < at.done_count; i++) {
        uint64_t hash;
        memcpy(&hash, at.done + 8 * (size_t)i, 8);
        rc = file_list_add_done(&files->list, hash, err);
    }
    return rc == WEIR_OK && at.path_bytes > 0 ? resume_file(files, &at, err) : rc;
}

static int open_source(struct weir_source *source, const struct weir_position *positions,
                       int32_t count, struct weir_error *err) {
    struct files *files = source->state;
    source->partitions = 1;
    int rc;
    if (files->open > 0) {
        rc = file_set_open(source, files->open, positions, count, err);
    } else if (count > 1) {
        rc = weir_error_set(err, WEIR_E_STATE,
                            "the files were read side by side so far; keep partitions = "
                            "\"file\", or start a new ledger");
    } else {
        rc = count > 0 && positions[0].size > 0 ? files_resume(files, &positions[0], err) : WEIR_OK;
        rc = rc == WEIR_OK ? file_list_scan(&files->list, files->path, err) : rc;
    }
    if (rc == WEIR_OK && files->list.matches == 0 && files->path == NULL &&
        strpbrk(files->list.pattern, "*?[{") == NULL) {
        rc = weir_error_set(err, WEIR_E_NOTFOUND, "there is no file %s; check the path",
                            files->list.pattern);
    } else if (rc == WEIR_OK && files->list.matches == 0 && files->path == NULL &&
               files->list.done_count == 0) {
        weir_log_warn("source", "%s: no file matches %s%s", source->name, files->list.pattern,
                      source->until_end ? "; check the pattern, which starts at the project root"
                                        : " yet");
    }
    return rc;
}

/* --- batches ------------------------------------------------------------------------------ */

/* The file at hand is read to its end: notes that, and takes the next. */
static int finish_file(struct files *files, struct weir_error *err) {
    int rc = file_list_add_done(&files->list, file_list_hash(files->path), err);
    if (rc == WEIR_OK) {
        close_file(files);
    }
    return rc;
}

/* What to do when the file gave nothing more: *wait for it to grow, or its rest is its *last line.
 */
static int judge_end(struct weir_source *source, struct files *files, bool *wait, bool *last,
                     struct weir_error *err) {
    *wait = false;
    *last = true;
    if (file_stream_is_whole(files->stream)) {
        files->gives_way = false;
    } else if (!source->until_end && files->in_set) {
        *wait = !files->gives_way;
        *last = files->gives_way;
        files->gives_way = false;
        if (*wait) {
            return WEIR_OK;
        }
    } else if (!source->until_end) {
        if (files->list.path_count == 0) {
            int rc = file_list_scan(&files->list, files->path, err);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
        if (files->list.path_count == 0) {
            *wait = true; /* the newest file: it may grow */
            *last = false;
            return WEIR_OK;
        }
        /* Another file is there, but this one may still be in the making. */
        if ((files->begin < files->end || file_stream_is_cut(files->stream)) &&
            file_stream_age_us(files->stream) < files->settle_us) {
            *wait = true;
            *last = false;
            return WEIR_OK;
        }
    }
    if (file_stream_is_cut(files->stream)) {
        return weir_error_set(
            err, WEIR_E_CORRUPT,
            "%s ends in the middle of its compressed text; replace it with a whole "
            "copy",
            files->path);
    }
    return WEIR_OK;
}

/* Fills the begun batch. *file_done: the batch ends with its file. */
static int fill(struct weir_source *source, struct files *files, int32_t max_rows,
                struct batch_work *work, bool *file_done, struct weir_error *err) {
    *file_done = false;
    while (work->taken < max_rows && !work->full) {
        bool more;
        int rc = files_decode(files, max_rows, false, work, &more, err);
        if (rc != WEIR_OK || !more) {
            return rc;
        }
        bool at_start = files->offset == 0;
        rc = refill(files, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        if (!files->at_end) {
            /* A mark of one byte or two at first: wait for three. */
            while (at_start && files->end - files->begin < 3 && !files->at_end) {
                rc = refill(files, err);
                if (rc != WEIR_OK) {
                    return rc;
                }
            }
            (void)(at_start && skip_bom(files));
            continue;
        }
        bool wait;
        bool last;
        rc = judge_end(source, files, &wait, &last, err);
        if (rc != WEIR_OK || wait) {
            return rc;
        }
        rc = files_decode(files, max_rows, last, work, &more, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        if (files->begin == files->end && !files->is_skipping) {
            *file_done = true;
            return WEIR_OK;
        }
    }
    return WEIR_OK;
}

static int deliver(struct weir_source *source, struct files *files, int32_t partition,
                   struct batch_work *work, bool end, struct weir_source_batch **out) {
    struct weir_batch *batch = weir_batch_builder_take(&files->builder);
    const char *topic = files->topic != NULL ? files->topic : source->name;
    int rc = batch == NULL ? WEIR_E_LIMIT : weir_decode_finish(batch, topic, partition);
    if (rc == WEIR_OK && work->rejects != NULL) {
        rc = weir_reject_batch_set_topic(work->rejects, topic);
    }
    struct weir_source_batch *made =
        rc == WEIR_OK
            ? source_batch_create(source->pool, batch, work->rejects, files_position_bytes(files))
            : NULL;
    if (made == NULL) {
        weir_batch_unref(batch);
        return WEIR_E_NOMEM;
    }
    work->rejects = NULL;
    files_write_position(files, source_position(made));
    made->hash = XXH3_64bits_digest(work->hash);
    made->partition = made->number = partition;
    made->rows = made->batch->rows + (made->rejects != NULL ? made->rejects->count : 0);
    made->end = end;
    *out = made;
    return WEIR_OK;
}

int files_next(struct weir_source *source, struct files *files, int32_t partition, int32_t max_rows,
               struct weir_source_batch **out, struct weir_error *err) {
    XXH3_state_t hash;
    XXH3_64bits_reset(&hash);
    struct batch_work work = {.hash = &hash};
    if (files->ended) {
        return WEIR_OK;
    }
    if (files->failed != WEIR_OK) {
        if (err != NULL) {
            *err = files->failure;
        }
        return files->failed;
    }
    if (source_columns_changed(source, files->columns_seen)) {
        source_renew(source, &files->columns_seen, &files->decoder, &files->builder, NULL, NULL,
                     BATCH_BYTES_MAX);
    }
    /* Nothing is read before there is memory for it: a batch that cannot be begun loses nothing. */
    int rc = weir_batch_builder_begin_rows(&files->builder, max_rows);
    if (rc != WEIR_OK) {
        return WEIR_E_LIMIT;
    }
    bool file_done = false;
    while (rc == WEIR_OK && work.taken == 0 && !files->ended) {
        if (files->path == NULL && files->in_set) {
            break;
        }
        if (files->path == NULL) {
            if (files->list.path_count == 0 && !source->until_end) {
                rc = file_list_scan(&files->list, NULL, err);
            }
            char *path = rc == WEIR_OK ? file_list_take(&files->list) : NULL;
            if (path == NULL) {
                files->ended = rc == WEIR_OK && source->until_end;
                break;
            }
            rc = files_start(files, path, err);
        }
        if (rc == WEIR_OK) {
            rc = fill(source, files, max_rows, &work, &file_done, err);
        }
        if (rc == WEIR_OK && file_done) {
            rc = finish_file(files, err);
        } else if (work.taken == 0) {
            break; /* waiting for the file to grow */
        }
    }
    if (rc != WEIR_OK && rc != WEIR_E_LIMIT && rc != WEIR_E_NOMEM && work.taken > 0) {
        files->failed = rc; /* what is good goes first */
        files->failure = err != NULL ? *err : (struct weir_error){.code = rc};
        rc = WEIR_OK;
    }
    if (rc == WEIR_E_LIMIT && work.taken > 0) {
        rc = WEIR_OK; /* the pool is exhausted: give what there is */
    }
    if (rc == WEIR_OK && files->path == NULL && source->until_end && !files->in_set &&
        files->list.path_count == 0) {
        files->ended = true;
    }
    if (rc == WEIR_OK && (work.taken > 0 || files->ended)) {
        rc = deliver(source, files, partition, &work, files->ended, out);
        if (rc != WEIR_OK) {
            weir_error_set(err, rc,
                           "out of memory for a batch that was read; raise the memory "
                           "budget");
        }
    }
    weir_reject_batch_destroy(work.rejects);
    return rc;
}

static int next(struct weir_source *source, int32_t partition, int32_t max_rows,
                struct weir_source_batch **out, struct weir_error *err) {
    struct files *files = source->state;
    return files->set != NULL ? file_set_next(source, partition, max_rows, out, err)
                              : files_next(source, files, partition, max_rows, out, err);
}

static int assign(struct weir_source *source, int32_t partition, uint64_t item,
                  struct weir_error *err) {
    struct files *files = source->state;
    return files->set != NULL ? file_set_assign(source, partition, item, err) : WEIR_OK;
}

static int begin(struct weir_source *source, int32_t *lanes, struct weir_error *err) {
    struct files *files = source->state;
    *lanes = 1;
    return source->until_end || files->place != NULL
               ? WEIR_OK
               : file_watch_create(&files->watch, files->list.pattern, err);
}

/* One batch, or a wait for the folder to change. */
static int serve(struct weir_source *source, int32_t lane, struct source_outlet *outlet,
                 bool *ended, struct weir_error *err) {
    struct files *files = source->state;
    if (files->set != NULL) {
        return file_set_serve(source, outlet, ended, err);
    }
    struct weir_source_batch *batch = NULL;
    int rc = next(source, lane, source_wanted_rows(source), &batch, err);
    if (rc == WEIR_E_LIMIT) { /* backpressure by memory */
        *ended = source_outlet_wait_for_memory(outlet);
        return WEIR_OK;
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    if (batch != NULL) {
        bool end = batch->end;
        *ended = !source_outlet_push(outlet, batch) || end;
    } else if (files->watch != NULL) {
        source_outlet_quiet(outlet);
        /* With another file there, this one waits for its age, which no change tells. */
        file_watch_wait(files->watch, files->list.path_count > 0 ? POLL_MS : LIST_MS);
    } else {
        source_outlet_quiet(outlet);
        *ended = source_outlet_wait(outlet, files->poll_ms);
    }
    return WEIR_OK;
}

static void interrupt(struct weir_source *source) {
    struct files *files = source->state;
    if (files->watch != NULL) {
        file_watch_wake(files->watch);
    }
}

static const char *const orders[] = {"name", "time", NULL};
static const char *const partitions[] = {"file", "one", NULL};

static const struct weir_option options[] = {
    {.name = "path",
     .form = WEIR_OPTION_PATH,
     .required = true,
     .example = "\"landing/pos_sale/*.jsonl\""},
    {.name = "order", .form = WEIR_OPTION_TEXT, .example = "\"time\"", .choices = orders},
    {.name = "partitions", .form = WEIR_OPTION_TEXT, .example = "\"file\"", .choices = partitions},
    {.name = "open", .form = WEIR_OPTION_COUNT, .example = "16"},
    {.name = "settle", .form = WEIR_OPTION_DURATION, .example = "\"5s\""},
    {.name = "poll", .form = WEIR_OPTION_DURATION, .example = "\"30s\""},
    WEIR_STORE_OPTIONS,
    {0},
};

const struct weir_source_vtable weir_source_files = {
    .name = "files",
    .options = options,
    .needs_decoder = true,
    .columns_change = true,
    .has_beginnings = true,
    .init = init,
    .open = open_source,
    .next = next,
    .assign = assign,
    .begin = begin,
    .serve = serve,
    .interrupt = interrupt,
    .fini = fini,
    .describe = files_describe,
};
