/* Writing to object stores. Small objects go in one request; larger ones in parts that worker
 * threads send while the writer fills the next. An object appears whole, at sync, or never. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/thread.h"
#include "lake/store/object.h"

enum { UPLOAD_THREADS = 4, PARTS_IN_FLIGHT = 4, UPLOAD_ID_BYTES = 1024 };

/* --- the threads ----------------------------------------------------------------------------- */

struct upload {
    struct upload *next;
    struct object_file *file;
    uint8_t *bytes;
    size_t size;
    int32_t number;
};

struct upload_pool {
    pthread_mutex_t lock;
    pthread_cond_t work;
    pthread_cond_t done;
    struct upload *first;
    struct upload *last;
    pthread_t threads[UPLOAD_THREADS];
    int32_t started;
    bool stop;
};

struct object_file {
    struct weir_store_file base;
    char *key;
    bool absent;
    bool complete; /* the object exists */
    uint8_t *part; /* being filled */
    size_t part_size;
    char upload[UPLOAD_ID_BYTES]; /* begun when the second part starts */
    bool begun;
    struct object_part *parts;
    int32_t part_count;
    int32_t in_flight; /* under the pool's lock, as are the next two */
    int rc;
    struct weir_error error;
};

static struct object_store *store_of(struct object_file *file) {
    return (struct object_store *)file->base.store;
}

static void send_part(struct upload_pool *pool, struct upload *job) {
    struct object_file *file = job->file;
    struct object_store *store = store_of(file);
    struct weir_error err = {0};
    struct object_part part;
    int rc = store->provider->part(store, file->key, file->upload, job->number, job->bytes,
                                   job->size, &part, &err);
    pthread_mutex_lock(&pool->lock);
    if (rc == WEIR_OK) {
        file->parts[job->number] = part;
    } else if (file->rc == WEIR_OK) {
        file->rc = rc;
        file->error = err;
    }
    file->in_flight--;
    pthread_cond_broadcast(&pool->done);
    pthread_mutex_unlock(&pool->lock);
    free(job->bytes);
    free(job);
}

static void *upload_main(void *user) {
    struct upload_pool *pool = user;
    weir_thread_name("upload", -1);
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->first == NULL && !pool->stop) {
            pthread_cond_wait(&pool->work, &pool->lock);
        }
        struct upload *job = pool->first;
        if (job == NULL) {
            break;
        }
        pool->first = job->next;
        pool->last = pool->first != NULL ? pool->last : NULL;
        pthread_mutex_unlock(&pool->lock);
        send_part(pool, job);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

int upload_pool_create(struct upload_pool **out, struct weir_error *err) {
    struct upload_pool *pool = calloc(1, sizeof(*pool));
    if (pool == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "uploads: out of memory");
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);
    *out = pool;
    return WEIR_OK;
}

void upload_pool_destroy(struct upload_pool *pool) {
    if (pool == NULL) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->stop = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (int32_t i = 0; i < pool->started; i++) {
        pthread_join(pool->threads[i], NULL);
    }
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->done);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

/* Under the lock. A store that only ever writes small objects starts no thread. */
static int ensure_threads(struct upload_pool *pool, struct weir_error *err) {
    while (pool->started < UPLOAD_THREADS) {
        int failed = weir_thread_start(&pool->threads[pool->started], upload_main, pool);
        if (failed != 0) {
            return pool->started > 0 ? WEIR_OK
                                     : weir_error_system(err, WEIR_E_ENVIRONMENT, failed,
                                                         "start an upload thread");
        }
        pool->started++;
    }
    return WEIR_OK;
}

/* --- whole objects ---------------------------------------------------------------------------- */

/* The name may hold our own bytes, of a request whose answer was lost. */
static int is_ours(struct object_store *store, const char *key, const void *bytes, size_t size,
                   bool *ours, struct weir_error *err) {
    struct weir_buffer there;
    weir_buffer_init(&there, size + 4096);
    struct object_call call = {.method = "GET", .key = key};
    struct weir_http_response response;
    int rc = object_call(store, &call, &there, &response, err);
    *ours = rc == WEIR_OK && response.status == 200 && there.size == size &&
            memcmp(there.data, bytes, size) == 0;
    weir_buffer_fini(&there);
    return rc == WEIR_E_LIMIT ? WEIR_OK : rc; /* larger than ours: not ours */
}

static bool lost_race(const struct weir_http_response *response) {
    return response->status == 409 || response->status == 412;
}

int object_put_whole(struct object_store *store, const char *key, const void *bytes, size_t size,
                     bool absent, struct weir_error *err) {
    struct object_call call = {.method = "PUT", .key = key, .body = bytes, .size = size};
    store->provider->put(&call, absent);
    if (store->provider->encryption != NULL) {
        store->provider->encryption(store, &call);
    }
    struct weir_http_response response;
    int rc = object_call(store, &call, NULL, &response, err);
    if (rc != WEIR_OK || response.status / 100 == 2) {
        return rc;
    }
    if (!absent || !lost_race(&response)) {
        return object_refused(store, "put", key, &response, err);
    }
    bool ours = false;
    rc = is_ours(store, key, bytes, size, &ours, err);
    if (rc == WEIR_OK && !ours) {
        rc = weir_error_set(err, WEIR_E_EXISTS, "%s: %s exists", store->url, key);
    }
    return rc;
}

/* --- files ------------------------------------------------------------------------------------ */

int object_open(struct weir_store *base, const char *path, enum weir_store_open_mode mode,
                struct weir_store_file **out, struct weir_error *err) {
    struct object_store *store = (struct object_store *)base;
    int rc = weir_store_check_path(path, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    struct object_file *file = calloc(1, sizeof(*file));
    if (file != NULL) {
        file->base.store = base;
        file->absent = mode == WEIR_STORE_CREATE;
        file->key = object_key(store, path);
        file->part = malloc(store->provider->part_bytes);
    }
    if (file == NULL || file->key == NULL || file->part == NULL) {
        if (file != NULL) {
            free(file->key);
            free(file->part);
        }
        free(file);
        return weir_error_set(err, WEIR_E_NOMEM, "open %s: out of memory", path);
    }
    *out = &file->base;
    return WEIR_OK;
}

static int room_for_part(struct object_file *file, struct weir_error *err) {
    struct object_store *store = store_of(file);
    if (file->part_count >= store->provider->parts_max) {
        return weir_error_set(err, WEIR_E_LIMIT,
                              "%s: %s has more than %d parts; write smaller files", store->url,
                              file->key, (int)store->provider->parts_max);
    }
    if ((file->part_count & (file->part_count - 1)) == 0) { /* room doubles at powers of two */
        size_t capacity = file->part_count == 0 ? 1 : (size_t)file->part_count * 2;
        struct object_part *parts = realloc(file->parts, capacity * sizeof(*parts));
        if (parts == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", file->key);
        }
        file->parts = parts;
    }
    return WEIR_OK;
}

/* Waits until fewer than `most` parts are on their way. */
static int wait_parts(struct object_file *file, int32_t most, struct weir_error *err) {
    struct upload_pool *pool = store_of(file)->uploads;
    pthread_mutex_lock(&pool->lock);
    while (file->in_flight >= most) {
        pthread_cond_wait(&pool->done, &pool->lock);
    }
    int rc = file->rc;
    if (rc != WEIR_OK && err != NULL) {
        *err = file->error;
    }
    pthread_mutex_unlock(&pool->lock);
    return rc;
}

/* Hands the filled part to the threads and takes a fresh one. */
static int flush_part(struct object_file *file, struct weir_error *err) {
    struct object_store *store = store_of(file);
    struct upload_pool *pool = store->uploads;
    int rc = wait_parts(file, PARTS_IN_FLIGHT, err);
    if (rc == WEIR_OK && !file->begun) {
        rc = store->provider->begin(store, file->key, file->upload, sizeof(file->upload), err);
        file->begun = rc == WEIR_OK;
    }
    if (rc == WEIR_OK) {
        /* Parts in flight write into file->parts: it may move only between them. */
        bool grows = (file->part_count & (file->part_count - 1)) == 0;
        rc = grows ? wait_parts(file, 1, err) : WEIR_OK;
    }
    if (rc == WEIR_OK) {
        rc = room_for_part(file, err);
    }
    struct upload *job = rc == WEIR_OK ? calloc(1, sizeof(*job)) : NULL;
    uint8_t *fresh = rc == WEIR_OK ? malloc(store->provider->part_bytes) : NULL;
    if (rc == WEIR_OK && (job == NULL || fresh == NULL)) {
        rc = weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", file->key);
    }
    if (rc != WEIR_OK) {
        free(job);
        free(fresh);
        return rc;
    }
    *job = (struct upload){
        .file = file, .bytes = file->part, .size = file->part_size, .number = file->part_count};
    pthread_mutex_lock(&pool->lock);
    rc = ensure_threads(pool, err);
    if (rc == WEIR_OK) {
        if (pool->last != NULL) {
            pool->last->next = job;
        } else {
            pool->first = job;
        }
        pool->last = job;
        file->in_flight++;
        pthread_cond_signal(&pool->work);
    }
    pthread_mutex_unlock(&pool->lock);
    if (rc != WEIR_OK) {
        free(job);
        free(fresh);
        return rc;
    }
    file->part_count++;
    file->part = fresh;
    file->part_size = 0;
    return WEIR_OK;
}

int object_file_write(struct weir_store_file *base, const void *bytes, size_t size,
                      struct weir_error *err) {
    struct object_file *file = (struct object_file *)base;
    size_t part_bytes = store_of(file)->provider->part_bytes;
    const uint8_t *from = bytes;
    if (file->complete) {
        return weir_error_set(err, WEIR_E_BUG, "%s: written after its sync", file->key);
    }
    while (size > 0) {
        int rc = file->part_size == part_bytes ? flush_part(file, err) : WEIR_OK;
        if (rc != WEIR_OK) {
            return rc;
        }
        size_t take = part_bytes - file->part_size;
        take = take < size ? take : size;
        memcpy(file->part + file->part_size, from, take);
        file->part_size += take;
        file->base.size_bytes += (int64_t)take;
        from += take;
        size -= take;
    }
    return WEIR_OK;
}

static int complete_parts(struct object_file *file, struct weir_error *err) {
    struct object_store *store = store_of(file);
    int rc = file->part_size > 0 ? flush_part(file, err) : WEIR_OK;
    if (rc == WEIR_OK) {
        rc = wait_parts(file, 1, err);
    }
    struct weir_http_response response = {0};
    if (rc == WEIR_OK) {
        rc = store->provider->complete(store, file->key, file->upload, file->parts,
                                       file->part_count, file->absent, &response, err);
    }
    if (rc != WEIR_OK || response.status / 100 == 2) {
        return rc;
    }
    /* A lost answer to a completion that took effect: the upload is gone or the name is taken, by
     * an object of our size. Names of data files are random, so no one else's. */
    if (lost_race(&response) || response.status == 404) {
        struct object_call call = {.method = "HEAD", .key = file->key};
        struct weir_http_response there;
        rc = object_call(store, &call, NULL, &there, err);
        if (rc != WEIR_OK || (there.status == 200 && there.length == file->base.size_bytes)) {
            return rc;
        }
    }
    return file->absent && lost_race(&response)
               ? weir_error_set(err, WEIR_E_EXISTS, "%s: %s exists", store->url, file->key)
               : object_refused(store, "complete", file->key, &response, err);
}

int object_file_sync(struct weir_store_file *base, struct weir_error *err) {
    struct object_file *file = (struct object_file *)base;
    if (file->complete) {
        return WEIR_OK;
    }
    int rc = file->begun ? complete_parts(file, err)
                         : object_put_whole(store_of(file), file->key, file->part, file->part_size,
                                            file->absent, err);
    if (rc == WEIR_OK) {
        file->complete = true;
        __atomic_fetch_add(&base->store->sync_count, 1, __ATOMIC_RELAXED);
    }
    return rc;
}

int object_file_close(struct weir_store_file *base, bool keep, struct weir_error *err) {
    struct object_file *file = (struct object_file *)base;
    struct object_store *store = store_of(file);
    int rc = keep ? object_file_sync(base, err) : WEIR_OK;
    (void)wait_parts(file, 1, NULL);
    if (!keep && file->complete) {
        struct object_call call = {.method = "DELETE", .key = file->key};
        struct weir_http_response response;
        rc = object_call(store, &call, NULL, &response, err);
    } else if (!file->complete && file->begun && store->provider->abort != NULL) {
        store->provider->abort(store, file->key, file->upload);
    }
    free(file->key);
    free(file->part);
    free(file->parts);
    free(file);
    return rc;
}
