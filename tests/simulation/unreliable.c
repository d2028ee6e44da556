#include "unreliable.h"

#include <string.h>

#include "machine.h"

static struct unreliable *of(struct weir_store *store) {
    return (struct unreliable *)store;
}

static bool fails(struct unreliable *u, const char *path, struct weir_error *err) {
    if (draw(&u->random) % 1000 >= u->fails) {
        return false;
    }
    u->failed++;
    (void)weir_error_set(err, WEIR_E_IO, "%s: the simulated service is gone", path);
    return true;
}

static bool is_commit(const char *path) {
    size_t length = strlen(path);
    return strstr(path, "_delta_log/") != NULL && length > 5 &&
           strcmp(path + length - 5, ".json") == 0 &&
           strstr(path, "00000000000000000000.json") == NULL; /* the first makes the table */
}

static int put_if_absent(struct weir_store *store, const char *path, const void *bytes, size_t size,
                         struct weir_error *err) {
    static const char somebody[] = "{\"commitInfo\":{\"timestamp\":1767607200000,\"operation\":"
                                   "\"SET TBLPROPERTIES\",\"operationParameters\":{},"
                                   "\"isBlindAppend\":true}}\n";
    struct unreliable *u = of(store);
    if (fails(u, path, err)) {
        return WEIR_E_IO;
    }
    bool lie = draw(&u->random) % 1000 < u->lies;
    bool overtaken = draw(&u->random) % 2 == 0;
    if (lie && overtaken && is_commit(path)) { /* somebody else was quicker */
        int first = weir_store_put_if_absent(u->store, path, somebody, sizeof(somebody) - 1, NULL);
        u->lied += first == WEIR_OK;
    }
    int rc = weir_store_put_if_absent(u->store, path, bytes, size, err);
    if (rc == WEIR_OK && lie && !overtaken) {
        u->lied++;
        return weir_error_set(err, WEIR_E_IO, "%s: the answer was lost", path);
    }
    return rc;
}

static int put(struct weir_store *store, const char *path, const void *bytes, size_t size,
               struct weir_error *err) {
    return fails(of(store), path, err) ? WEIR_E_IO
                                       : weir_store_put(of(store)->store, path, bytes, size, err);
}

static int get(struct weir_store *store, const char *path, int64_t offset, int64_t length,
               struct weir_buffer *out, struct weir_error *err) {
    return fails(of(store), path, err)
               ? WEIR_E_IO
               : weir_store_get(of(store)->store, path, offset, length, out, err);
}

static int stat_object(struct weir_store *store, const char *path, struct weir_store_info *info,
                       struct weir_error *err) {
    return fails(of(store), path, err) ? WEIR_E_IO
                                       : weir_store_stat(of(store)->store, path, info, err);
}

static int list(struct weir_store *store, const char *dir, const char *prefix,
                const char *start_after, bool dirs, weir_store_visit *visit, void *context,
                struct weir_error *err) {
    struct weir_store *inner = of(store)->store;
    return fails(of(store), dir, err)
               ? WEIR_E_IO
               : inner->ops->list(inner, dir, prefix, start_after, dirs, visit, context, err);
}

static int remove_object(struct weir_store *store, const char *path, struct weir_error *err) {
    return weir_store_remove(of(store)->store, path, err);
}

static int make_dir(struct weir_store *store, const char *dir, struct weir_error *err) {
    return weir_store_make_dir(of(store)->store, dir, err);
}

static int sync_dir(struct weir_store *store, const char *dir, struct weir_error *err) {
    return fails(of(store), dir, err) ? WEIR_E_IO : weir_store_sync_dir(of(store)->store, dir, err);
}

/* The file is the inner store's, and so is what is done with it. */
static int open_file(struct weir_store *store, const char *path, enum weir_store_open_mode mode,
                     struct weir_store_file **out, struct weir_error *err) {
    return fails(of(store), path, err) ? WEIR_E_IO
                                       : weir_store_open(of(store)->store, path, mode, out, err);
}

static int describe(struct weir_store *store, const char *path, struct weir_buffer *out) {
    struct weir_store *inner = of(store)->store;
    return inner->ops->describe(inner, path, out);
}

static void destroy(struct weir_store *store) {
    (void)store;
}

void unreliable_init(struct unreliable *u, struct weir_store *store, uint64_t seed) {
    static const struct weir_store_ops ops = {
        .name = "unreliable",
        .put_if_absent = put_if_absent,
        .put = put,
        .get = get,
        .stat = stat_object,
        .list = list,
        .remove = remove_object,
        .make_dir = make_dir,
        .sync_dir = sync_dir,
        .open = open_file,
        .describe = describe,
        .destroy = destroy,
    };
    *u = (struct unreliable){.head = {.ops = &ops}, .store = store, .random = seed};
}
