/* Files side by side. Every place is a `struct files` that is handed one file after another; the
 * list of files is the source's. A place remembers the files it has read in its own position, and
 * the list those of all places. */
#include "source/files/file_set.h"

#include <stdlib.h>
#include <string.h>

/* --- places -------------------------------------------------------------------------------------
 */

int file_set_open(struct weir_source *source, int32_t open, const struct weir_position *positions,
                  int32_t count, struct weir_error *err) {
    struct files *files = source->state;
    struct file_set *set = calloc(1, sizeof(*set));
    int32_t places = open > count ? open : count;
    if (set == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    files->set = set;
    set->places = calloc((size_t)places, sizeof(struct files *));
    set->told = calloc((size_t)places, sizeof(bool));
    if (set->places == NULL || set->told == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < places; i++) {
        struct files *place = set->places[i] = calloc(1, sizeof(*place));
        if (place == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
        }
        set->count++;
        place->in_set = true;
        place->settle_us = files->settle_us;
        place->place = files->place;
        rc = files_prepare(source, place, err);
        if (rc != WEIR_OK) {
            break;
        }
        if (i < count && positions[i].size > 0) {
            rc = files_resume(place, &positions[i], err);
        }
        set->told[i] = place->path != NULL; /* the ledger knows how far time has come in it */
        for (size_t d = 0; rc == WEIR_OK && d < place->list.done_count; d++) {
            rc = file_list_add_done(&files->list, place->list.done[d], err);
        }
        if (rc == WEIR_OK && place->path != NULL) {
            rc = file_list_add_done(&files->list, file_list_hash(place->path), err);
        }
    }
    source->partitions = set->count;
    return rc == WEIR_OK ? file_list_scan(&files->list, NULL, err) : rc;
}

void file_set_close(struct files *files) {
    struct file_set *set = files->set;
    if (set == NULL) {
        return;
    }
    for (int32_t i = 0; i < set->count; i++) {
        files_destroy(set->places[i]);
    }
    free(set->places);
    free(set->told);
    free(set);
    files->set = NULL;
}

/* Lists afresh; what is gone from the folder is forgotten by the places too. */
static int list_again(struct files *files, struct weir_error *err) {
    int rc = file_list_scan(&files->list, NULL, err);
    for (int32_t i = 0; rc == WEIR_OK && i < files->set->count; i++) {
        struct file_list *own = &files->set->places[i]->list;
        size_t kept = 0;
        for (size_t d = 0; d < own->done_count; d++) {
            if (file_list_is_done(&files->list, own->done[d])) {
                own->done[kept++] = own->done[d];
            }
        }
        own->done_count = kept;
    }
    return rc;
}

/* From now on the file is neither listed nor given to another place. */
static int give(struct files *files, struct files *place, char *path, struct weir_error *err) {
    int rc = file_list_add_done(&files->list, file_list_hash(path), err);
    if (rc != WEIR_OK) {
        free(path);
        return rc;
    }
    return files_start(place, path, err);
}

int file_set_assign(struct weir_source *source, int32_t partition, uint64_t item,
                    struct weir_error *err) {
    struct files *files = source->state;
    struct files *place = partition < files->set->count ? files->set->places[partition] : NULL;
    if (place == NULL || (place->path != NULL && file_list_hash(place->path) == item)) {
        return WEIR_OK;
    }
    for (size_t i = 0; i < files->list.path_count; i++) {
        char *path = files->list.paths[i];
        if (file_list_hash(path) == item) {
            files->list.path_count--;
            memmove(&files->list.paths[i], &files->list.paths[i + 1],
                    (files->list.path_count - i) * sizeof(char *));
            return give(files, place, path, err);
        }
    }
    return weir_error_set(err, WEIR_E_NOTFOUND,
                          "a file of %s that was read is gone; put it back to replay its rows",
                          files->list.pattern);
}

int file_set_next(struct weir_source *source, int32_t partition, int32_t max_rows,
                  struct weir_source_batch **out, struct weir_error *err) {
    struct files *files = source->state;
    if (partition >= files->set->count) {
        return WEIR_OK;
    }
    return files_next(source, files->set->places[partition], partition, max_rows, out, err);
}

/* --- turns --------------------------------------------------------------------------------------
 */

/* A batch without rows: what became of a place. False: nobody takes any more. */
static bool tell(struct weir_source *source, struct source_outlet *outlet, int32_t i, uint64_t item,
                 bool closes, bool end) {
    struct files *place = ((struct files *)source->state)->set->places[i];
    struct weir_source_batch *made = NULL;
    for (;;) {
        struct weir_batch *batch = NULL;
        if (weir_batch_builder_begin_rows(&place->builder, 1) == WEIR_OK) {
            batch = weir_batch_builder_take(&place->builder);
        }
        bool whole = batch != NULL && weir_decode_finish(batch, source->name, i) == WEIR_OK;
        made = whole ? source_batch_create(source->pool, batch, NULL, files_position_bytes(place))
                     : NULL;
        if (made != NULL) {
            break;
        }
        weir_batch_unref(batch);
        if (source_outlet_wait_for_memory(outlet)) { /* the consumer holds the memory */
            return false;
        }
    }
    files_write_position(place, source_position(made));
    made->partition = made->number = i;
    made->opens = item != 0;
    made->item = made->hash = item;
    made->closes = closes;
    made->end = end;
    return source_outlet_push(outlet, made);
}

/* Files for the places that are free, before any row of theirs: each waits for the others. */
static int fill_places(struct weir_source *source, struct source_outlet *outlet, bool *ended,
                       struct weir_error *err) {
    struct files *files = source->state;
    struct file_set *set = files->set;
    for (int32_t i = 0; !*ended && i < set->count; i++) {
        struct files *place = set->places[i];
        char *path = place->path == NULL ? file_list_take(&files->list) : NULL;
        if (path == NULL) {
            continue;
        }
        int rc = give(files, place, path, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        set->told[i] = true;
        *ended = !tell(source, outlet, i, file_list_hash(place->path), false, false);
    }
    return WEIR_OK;
}

/* Some other file that time goes by has changed later. Without one the file stays: where none is
 * left, time would stand at the least of all, though the rows of this one have long passed it. */
static bool has_younger(const struct file_set *set, int32_t i) {
    int64_t age = file_stream_age_us(set->places[i]->stream);
    for (int32_t other = 0; other < set->count; other++) {
        if (other != i && set->told[other] && set->places[other]->stream != NULL) {
            int64_t theirs = file_stream_age_us(set->places[other]->stream);
            if (theirs < age || (theirs == age && other > i)) {
                return true;
            }
        }
    }
    return false;
}

/* One batch of a place. *worked: something was delivered. */
static int serve_place(struct weir_source *source, struct source_outlet *outlet, int32_t i,
                       bool *worked, bool *ended, struct weir_error *err) {
    struct file_set *set = ((struct files *)source->state)->set;
    struct files *place = set->places[i];
    struct weir_source_batch *batch = NULL;
    int rc = files_next(source, place, i, source_wanted_rows(source), &batch, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    bool read = place->path == NULL;
    if (batch != NULL) {
        *worked = true;
        batch->closes = read;
        set->told[i] = !read;
        *ended = !source_outlet_push(outlet, batch);
        return WEIR_OK;
    }
    /* It may grow, and its rows are waited for no longer. */
    bool still = !read && set->told[i] && place->at_end && !source->until_end &&
                 file_stream_age_us(place->stream) >= place->settle_us && has_younger(set, i);
    if (read || still) {
        *worked = true;
        set->told[i] = false;
        *ended = !tell(source, outlet, i, 0, true, false);
    }
    return WEIR_OK;
}

/* A file waits and every place is taken: the one whose file has been still the longest gives way.
 */
static void make_way(struct file_set *set) {
    struct files *stillest = NULL;
    int64_t longest = -1;
    for (int32_t i = 0; i < set->count; i++) {
        struct files *place = set->places[i];
        if (place->path == NULL) {
            return;
        }
        int64_t age = place->at_end ? file_stream_age_us(place->stream) : -1;
        if (age >= place->settle_us && age > longest) {
            longest = age;
            stillest = place;
        }
    }
    if (stillest != NULL) {
        stillest->gives_way = true;
    }
}

static bool all_free(const struct file_set *set) {
    for (int32_t i = 0; i < set->count; i++) {
        if (set->places[i]->path != NULL) {
            return false;
        }
    }
    return true;
}

int file_set_serve(struct weir_source *source, struct source_outlet *outlet, bool *ended,
                   struct weir_error *err) {
    struct files *files = source->state;
    struct file_set *set = files->set;
    bool worked = false;
    int rc = fill_places(source, outlet, ended, err);
    for (int32_t i = 0; rc == WEIR_OK && !*ended && i < set->count; i++) {
        int32_t at = (set->turn + i) % set->count;
        if (set->places[at]->path == NULL) {
            continue;
        }
        rc = serve_place(source, outlet, at, &worked, ended, err);
        if (rc == WEIR_E_LIMIT) { /* backpressure by memory: it is this place's turn again */
            set->turn = at;
            *ended = source_outlet_wait_for_memory(outlet);
            return WEIR_OK;
        }
    }
    if (rc != WEIR_OK || *ended || worked) {
        return rc;
    }
    if (files->list.path_count == 0) {
        rc = list_again(files, err);
        worked = files->list.path_count > 0 && rc == WEIR_OK;
    }
    if (rc == WEIR_OK && files->list.path_count > 0) {
        make_way(set);
    }
    if (rc == WEIR_OK && source->until_end && all_free(set) && files->list.path_count == 0) {
        for (int32_t i = 0; !*ended && i < set->count; i++) {
            *ended = !tell(source, outlet, i, 0, false, true);
        }
        *ended = true;
    } else if (rc == WEIR_OK && !worked) {
        if (files->watch != NULL) {
            source_outlet_quiet(outlet);
            file_watch_wait(files->watch, POLL_MS);
        } else {
            source_outlet_quiet(outlet);
            *ended = source_outlet_wait(outlet, files->poll_ms);
        }
    }
    return rc;
}
