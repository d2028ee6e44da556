#include "lake/upkeep/tier.h"
#include "lake/delta/place.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "lake/delta/dv.h"
#include "lake/delta/maintain.h"
#include "lake/delta/partition.h"
#include "lake/delta/where.h"
#include "lake/store/open.h"

#define ACTIONS_BYTES_MAX ((size_t)256 << 20)
#define CHUNK_BYTES ((int64_t)4 << 20)
#define COMMIT_BYTES ((int64_t)16 << 30) /* copied before each commit, about */
enum { COMMIT_FILES = 10000, ROOT_BYTES = 4096 };

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "tier: out of memory");
}

/* --- the copy ------------------------------------------------------------------------------ */

struct tiering {
    struct weir_delta_table *table;
    const struct weir_delta_tier_options *options;
    struct weir_delta_tier_result *result;
    struct delta_where *where;
    struct weir_store *cold;
    char root[ROOT_BYTES];      /* as the log says it */
    struct weir_delta_adds old; /* copies, with their statistics */
    char **paths;               /* of the new files, as the log says them; old.count of them */
    char **vectors;             /* of their deletion vectors' files, shared; NULL: none moves */
    struct copied {
        char *from;
        char *logged;
    } * copies; /* of deletion vectors' files: one holds those of many data files */
    int32_t copy_count;
    int64_t bytes;
};

/* A folder by its absolute name, since readers have other working directories. */
static int name_root(struct tiering *tiering, struct weir_error *err) {
    const char *url = tiering->options->root;
    struct weir_buffer text;
    weir_buffer_init(&text, ROOT_BYTES);
    int rc = WEIR_OK;
    if (weir_store_is_remote(url)) {
        rc = weir_buffer_append_text(&text, url);
    } else {
        rc = weir_buffer_append_text(&text, "file://");
        rc = rc == WEIR_OK ? tiering->cold->ops->describe(tiering->cold, "", &text) : rc;
    }
    size_t size = text.size;
    while (size > 0 && text.data[size - 1] == '/') {
        size--;
    }
    if (rc == WEIR_OK && size + 1 < sizeof(tiering->root)) {
        snprintf(tiering->root, sizeof(tiering->root), "%.*s", (int)size, (const char *)text.data);
    } else {
        rc = weir_error_set(err, WEIR_E_LIMIT, "tier: the place has too long a name");
    }
    weir_buffer_fini(&text);
    const char *held =
        weir_delta_metadata_property(&tiering->table->snapshot->metadata, DELTA_TIER_ROOT);
    if (rc == WEIR_OK && held != NULL && strcmp(held, tiering->root) != 0) {
        rc = weir_error_set(err, WEIR_E_SCHEMA,
                            "the table's old files are in %s; a table has one such place", held);
    }
    return rc;
}

static bool is_tiered(const struct tiering *tiering, const char *logged) {
    return delta_is_tiered(&tiering->table->snapshot->metadata, logged);
}

static int choose(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct tiering *tiering = context;
    if (add->modified_ms >= tiering->options->before_ms ||
        !delta_where_holds(tiering->where, add) ||
        (is_tiered(tiering, add->path) && add->dv.storage_type != 'u')) {
        return WEIR_OK;
    }
    if (tiering->old.count >= COMMIT_FILES || tiering->bytes >= COMMIT_BYTES) {
        return WEIR_OK; /* the next round's */
    }
    struct weir_delta_add *copy = weir_delta_add_dup(add);
    if (copy == NULL || weir_delta_adds_push(&tiering->old, copy) != WEIR_OK) {
        free(copy);
        return no_memory(err);
    }
    tiering->bytes += is_tiered(tiering, add->path) ? 0 : add->size_bytes;
    return WEIR_OK;
}

static int copy_bytes(struct tiering *tiering, const char *from, struct weir_store_file *to,
                      int64_t size, struct weir_error *err) {
    struct weir_buffer chunk;
    weir_buffer_init(&chunk, (size_t)CHUNK_BYTES * 2);
    int rc = WEIR_OK;
    for (int64_t at = 0; at < size && rc == WEIR_OK; at += CHUNK_BYTES) {
        int64_t length = size - at < CHUNK_BYTES ? size - at : CHUNK_BYTES;
        weir_buffer_clear(&chunk);
        rc = weir_store_get(tiering->table->store, from, at, length, &chunk, err);
        rc = rc == WEIR_OK ? weir_store_file_write(to, chunk.data, chunk.size, err) : rc;
        if (rc == WEIR_OK && tiering->options->stop != NULL &&
            tiering->options->stop(tiering->options->stop_context)) {
            rc = weir_error_set(err, WEIR_E_CLOSED, "tier: stopped");
        }
    }
    weir_buffer_fini(&chunk);
    return rc;
}

/* To <root>/<id of the table>/<the file's own path>; durable on return. */
static int copy_to(struct tiering *tiering, const char *from, const char *relative, int64_t size,
                   char **logged, struct weir_error *err) {
    char *to = NULL;
    struct weir_store_file *file = NULL;
    struct weir_buffer url;
    weir_buffer_init(&url, 1u << 20);
    int rc = asprintf(&to, "%s/%s", tiering->table->snapshot->metadata.id, relative) >= 0
                 ? WEIR_OK
                 : no_memory(err);
    to = rc == WEIR_OK ? to : NULL;
    rc = rc == WEIR_OK ? weir_store_open(tiering->cold, to, WEIR_STORE_ATOMIC, &file, err) : rc;
    rc = rc == WEIR_OK ? copy_bytes(tiering, from, file, size, err) : rc;
    rc = rc == WEIR_OK ? weir_store_file_sync(file, err) : rc;
    if (file != NULL) {
        int closed = weir_store_file_close(file, rc == WEIR_OK, rc == WEIR_OK ? err : NULL);
        rc = rc == WEIR_OK ? closed : rc;
    }
    if (rc == WEIR_OK) {
        char *slash = strrchr(to, '/');
        *slash = '\0';
        rc = weir_store_sync_dir(tiering->cold, to, err);
        *slash = '/';
    }
    if (rc == WEIR_OK) {
        bool good = weir_buffer_printf(&url, "%s/", tiering->root) == WEIR_OK &&
                    delta_uri_encode(to, &url) == WEIR_OK;
        const char *text = good ? weir_buffer_text(&url) : NULL;
        *logged = text != NULL ? strdup(text) : NULL;
        rc = *logged != NULL ? WEIR_OK : no_memory(err);
    }
    weir_buffer_fini(&url);
    free(to);
    return rc;
}

static int copy_file(struct tiering *tiering, const struct weir_delta_add *add, char **logged,
                     struct weir_error *err) {
    const struct weir_delta_table *table = tiering->table;
    char *from = NULL;
    if (is_tiered(tiering, add->path)) { /* its vector moves after it */
        *logged = strdup(add->path);
        return *logged != NULL ? WEIR_OK : no_memory(err);
    }
    char *relative = delta_uri_decode(add->path);
    int rc = relative != NULL ? delta_file_path(table->store, table->dir, add->path, &from, err)
                              : no_memory(err);
    rc = rc == WEIR_OK ? copy_to(tiering, from, relative, add->size_bytes, logged, err) : rc;
    free(relative);
    free(from);
    return rc;
}

/* The file a deletion vector lies in, once: it holds those of other files as well. */
static int copy_vector(struct tiering *tiering, const struct weir_delta_add *add, char **logged,
                       struct weir_error *err) {
    const struct weir_delta_table *table = tiering->table;
    struct weir_store_info info;
    char *from = add->dv.storage_type == 'u' ? delta_dv_path(table->dir, &add->dv) : NULL;
    if (add->dv.storage_type != 'u') {
        return WEIR_OK;
    }
    for (int32_t i = 0; from != NULL && i < tiering->copy_count; i++) {
        if (strcmp(tiering->copies[i].from, from) == 0) {
            *logged = tiering->copies[i].logged;
            free(from);
            return WEIR_OK;
        }
    }
    struct copied *copies =
        realloc(tiering->copies, ((size_t)tiering->copy_count + 1) * sizeof(*copies));
    tiering->copies = copies != NULL ? copies : tiering->copies;
    if (from == NULL || copies == NULL) {
        free(from);
        return no_memory(err);
    }
    size_t skip = *table->dir != '\0' ? strlen(table->dir) + 1 : 0;
    struct copied *copy = &copies[tiering->copy_count];
    *copy = (struct copied){.from = from};
    int rc = weir_store_stat(table->store, from, &info, err);
    rc = rc == WEIR_OK ? copy_to(tiering, from, from + skip, info.size_bytes, &copy->logged, err)
                       : rc;
    if (rc != WEIR_OK) {
        free(from);
        return rc;
    }
    tiering->copy_count++;
    *logged = copy->logged;
    return WEIR_OK;
}

/* --- the commit ---------------------------------------------------------------------------- */

/* The table's metadata with the place, where it lacks it. */
static int put_root(const struct tiering *tiering, struct weir_buffer *actions) {
    const struct weir_delta_metadata *now = &tiering->table->snapshot->metadata;
    if (weir_delta_metadata_property(now, DELTA_TIER_ROOT) != NULL) {
        return WEIR_OK;
    }
    struct weir_delta_metadata next = *now;
    next.configuration = delta_pairs_copy(now->configuration, now->configuration_count, 1);
    if (next.configuration == NULL) {
        return WEIR_E_NOMEM;
    }
    next.configuration[next.configuration_count++] =
        (struct weir_delta_pair){DELTA_TIER_ROOT, tiering->root};
    int rc = weir_delta_metadata_format(&next, actions);
    free(next.configuration);
    return rc == WEIR_OK ? weir_buffer_append(actions, "\n", 1) : rc;
}

/* Files that others removed or changed meanwhile are left out: their copies are garbage. */
static int derive(struct tiering *tiering, struct weir_delta_tier_result *round,
                  struct weir_buffer *actions, struct weir_error *err) {
    int64_t now_ms = weir_clock_wall_us() / 1000;
    weir_buffer_clear(actions);
    memset(round, 0, sizeof(*round));
    int rc = put_root(tiering, actions);
    for (int32_t i = 0; i < tiering->old.count && rc == WEIR_OK; i++) {
        const struct weir_delta_add *old = tiering->old.items[i];
        if (delta_snapshot_find(tiering->table->snapshot, old) == NULL) {
            continue;
        }
        struct weir_delta_add moved = *old;
        bool whole = !is_tiered(tiering, old->path);
        moved.path = tiering->paths[i];
        moved.data_change = false;
        if (tiering->vectors[i] != NULL) {
            moved.dv.storage_type = 'p';
            moved.dv.path_or_inline = tiering->vectors[i];
        }
        rc = weir_delta_remove_format(old, now_ms, false, actions);
        rc = rc == WEIR_OK ? weir_delta_add_format(&moved, actions) : rc;
        rc = rc == WEIR_OK ? weir_buffer_append(actions, "\n", 1) : rc;
        round->files += whole;
        round->vectors += !whole;
        round->bytes += whole ? old->size_bytes : 0;
    }
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "tier: %s", weir_error_text(rc));
}

static int commit(struct tiering *tiering, struct weir_error *err) {
    const struct weir_delta_commit_options retry = {.stop = tiering->options->stop,
                                                    .stop_context = tiering->options->stop_context};
    struct weir_delta_tier_result round = {0};
    struct weir_buffer actions;
    weir_buffer_init(&actions, ACTIONS_BYTES_MAX);
    struct delta_commit_body body = {
        .operation = "TIER", .parameters_json = "{}", .actions = &actions};
    int rc = WEIR_OK;
    for (int32_t attempt = 1; rc == WEIR_OK; attempt++) {
        rc = derive(tiering, &round, &actions, err);
        if (rc != WEIR_OK || round.files + round.vectors == 0) {
            break;
        }
        rc = delta_commit_actions(tiering->table, &body, err);
        if (rc != WEIR_E_CONFLICT) {
            break;
        }
        rc = delta_commit_rebase(tiering->table, attempt, &retry, err);
    }
    if (rc == WEIR_OK) {
        tiering->result->files += round.files;
        tiering->result->bytes += round.bytes;
        tiering->result->vectors += round.vectors;
    }
    weir_buffer_fini(&actions);
    return rc;
}

static void forget(struct tiering *tiering) {
    for (int32_t i = 0; tiering->paths != NULL && i < tiering->old.count; i++) {
        free(tiering->paths[i]);
    }
    for (int32_t i = 0; i < tiering->copy_count; i++) {
        free(tiering->copies[i].from);
        free(tiering->copies[i].logged);
    }
    free(tiering->copies);
    free((void *)tiering->paths);
    free((void *)tiering->vectors);
    tiering->copies = NULL;
    tiering->copy_count = 0;
    tiering->vectors = NULL;
    tiering->paths = NULL;
    weir_delta_adds_fini(&tiering->old);
    memset(&tiering->old, 0, sizeof(tiering->old));
    tiering->bytes = 0;
}

/* One commit's files; *more when there were any. */
static int move_some(struct tiering *tiering, bool *more, struct weir_error *err) {
    int rc = weir_delta_snapshot_each_file(tiering->table->snapshot, choose, tiering, err);
    *more = rc == WEIR_OK && tiering->old.count > 0;
    if (*more) {
        tiering->paths = calloc((size_t)tiering->old.count, sizeof(char *));
        tiering->vectors = calloc((size_t)tiering->old.count, sizeof(char *));
        rc = tiering->paths != NULL && tiering->vectors != NULL ? WEIR_OK : no_memory(err);
    }
    for (int32_t i = 0; i < tiering->old.count && rc == WEIR_OK; i++) {
        rc = copy_file(tiering, tiering->old.items[i], &tiering->paths[i], err);
        rc = rc == WEIR_OK ? copy_vector(tiering, tiering->old.items[i], &tiering->vectors[i], err)
                           : rc;
    }
    rc = rc == WEIR_OK && *more ? commit(tiering, err) : rc;
    forget(tiering);
    return rc;
}

int weir_delta_tier(struct weir_delta_table *table, const struct weir_delta_tier_options *options,
                    struct weir_delta_tier_result *result, struct weir_error *err) {
    struct tiering tiering = {.table = table, .options = options, .result = result};
    memset(result, 0, sizeof(*result));
    int rc = delta_check_maintainable(table, "tier", err);
    if (rc == WEIR_OK && options->where != NULL) {
        rc = delta_where_parse(options->where, table->snapshot, &tiering.where, err);
    }
    rc = rc == WEIR_OK ? weir_store_open_url(options->root, NULL, true, &tiering.cold, err) : rc;
    rc = rc == WEIR_OK ? name_root(&tiering, err) : rc;
    for (bool more = true; more && rc == WEIR_OK;) {
        rc = move_some(&tiering, &more, err);
    }
    result->version = table->snapshot->version;
    delta_where_destroy(tiering.where);
    weir_store_destroy(tiering.cold);
    return rc == WEIR_OK
               ? rc
               : weir_error_wrap(err, "tier table %s", DELTA_SHOWN(table->store, table->dir));
}
