/* One thread, one queue of jobs, one database. */
#include "state/cold.h"

#include <pthread.h>
#include <rocksdb/c.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/block.h"
#include "core/thread.h"

enum {
    PART_BYTES = 1 << 18,
    LOAD_KEYS = 1024, /* asked for together */
    BLOOM_BITS = 10,
    GATHERED_PARTS = 4,
    BUFFER_BYTES_MAX = 1 << 30
};

enum job_kind { JOB_WRITE, JOB_LOAD, JOB_SCAN, JOB_PART };

struct job {
    struct job *next;
    enum job_kind kind;
    uint64_t scan; /* the scan it reads a part of */
    struct weir_buffer records;
};

struct weir_cold {
    char *path;
    size_t memory_bytes;
    struct weir_signal *signal;
    pthread_t thread;
    bool running;

    pthread_mutex_t lock; /* the queue, results, failure */
    pthread_cond_t work;
    pthread_cond_t idle;
    struct job *head;
    struct job *tail;
    bool busy;
    bool stop;
    bool load_done;
    struct weir_buffer found;
    uint64_t scans; /* asked for: parts of earlier ones are nobody's */
    bool part_done;
    bool part_end;
    struct weir_buffer part;
    struct weir_error failure;
    struct weir_cold_figures figures;

    /* the thread's */
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_cache_t *cache;
    rocksdb_column_family_handle_t *family;
    rocksdb_readoptions_t *read;
    rocksdb_writeoptions_t *write;
    rocksdb_writebatch_t *batch;
    rocksdb_iterator_t *scan;
};

/* --- records ------------------------------------------------------------------------------- */

int weir_cold_put_record(struct weir_buffer *records, const void *key, uint32_t key_size,
                         const void *head, uint32_t head_size, const void *value,
                         uint32_t value_size) {
    bool gone = value_size == WEIR_COLD_GONE;
    uint32_t whole = gone ? 0 : head_size + value_size;
    int rc = weir_buffer_reserve(records, 8 + (size_t)key_size + whole);
    if (rc != WEIR_OK) {
        return rc;
    }
    uint8_t *at = records->data + records->size;
    uint32_t size = gone ? WEIR_COLD_GONE : whole;
    memcpy(at, &key_size, 4);
    memcpy(at + 4, &size, 4);
    memcpy(at + 8, key, key_size);
    if (!gone) {
        if (head_size > 0) {
            memcpy(at + 8 + key_size, head, head_size);
        }
        memcpy(at + 8 + key_size + head_size, value, value_size);
    }
    records->size += 8 + (size_t)key_size + whole;
    return WEIR_OK;
}

bool weir_cold_next_record(const uint8_t **at, const uint8_t *end, struct weir_cold_record *out) {
    if (end - *at < 8) {
        return false;
    }
    memcpy(&out->key_size, *at, 4);
    memcpy(&out->value_size, *at + 4, 4);
    out->key = *at + 8;
    out->value = out->key + out->key_size;
    *at = out->value + (out->value_size == WEIR_COLD_GONE ? 0 : out->value_size);
    return true;
}

/* --- the thread ----------------------------------------------------------------------------- */

/* Takes RocksDB's message, which may be NULL. */
static int check(struct weir_cold *cold, char *message, const char *what, struct weir_error *err) {
    if (message == NULL) {
        return WEIR_OK;
    }
    weir_error_set(err, WEIR_E_ENVIRONMENT,
                   "state that does not fit memory.state cannot be %s %s: %.300s; raise "
                   "memory.state, or make room on the disk",
                   what, cold->path, message);
    rocksdb_free(message);
    return WEIR_E_ENVIRONMENT;
}

static void set_options(struct weir_cold *cold) {
    size_t gathered = cold->memory_bytes / (2 * GATHERED_PARTS);
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    cold->cache = rocksdb_cache_create_lru(cold->memory_bytes / 2);
    rocksdb_block_based_options_set_block_cache(table, cold->cache);
    rocksdb_block_based_options_set_filter_policy(
        table, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS));
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1);
    cold->options = rocksdb_options_create();
    rocksdb_options_set_block_based_table_factory(cold->options, table);
    rocksdb_block_based_options_destroy(table);
    rocksdb_options_set_create_if_missing(cold->options, 1);
    rocksdb_options_set_write_buffer_size(cold->options, gathered);
    /* Writing never waits for a sync of what was gathered before, unless the disk is far behind. */
    rocksdb_options_set_max_write_buffer_number(cold->options, GATHERED_PARTS);
    rocksdb_options_set_level0_file_num_compaction_trigger(cold->options, 8);
    rocksdb_options_set_level0_slowdown_writes_trigger(cold->options, 64);
    rocksdb_options_set_level0_stop_writes_trigger(cold->options, 128);
    rocksdb_options_set_target_file_size_base(cold->options, 32 << 20);
    rocksdb_options_set_compression(cold->options, rocksdb_no_compression);
    rocksdb_options_set_max_background_jobs(cold->options, 2);
    rocksdb_options_set_max_open_files(cold->options, 512);
    rocksdb_options_set_info_log_level(cold->options, 4);
    rocksdb_options_set_keep_log_file_num(cold->options, 1);
    cold->read = rocksdb_readoptions_create();
    rocksdb_readoptions_set_verify_checksums(cold->read, 1);
    cold->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(cold->write, 1);
    cold->batch = rocksdb_writebatch_create();
}

static int open_store(struct weir_cold *cold, struct weir_error *err) {
    if (cold->db != NULL) {
        return WEIR_OK;
    }
    char *message = NULL;
    char *slash = strrchr(cold->path, '/');
    if (slash != NULL && slash != cold->path) {
        *slash = '\0';
        (void)mkdir(cold->path, 0755); /* what is wrong with it RocksDB says */
        *slash = '/';
    }
    set_options(cold);
    rocksdb_destroy_db(cold->options, cold->path, &message); /* of a process that died */
    rocksdb_free(message);
    message = NULL;
    const char *names[] = {"default"};
    const rocksdb_options_t *options[] = {cold->options};
    cold->db = rocksdb_open_column_families(cold->options, cold->path, 1, names, options,
                                            &cold->family, &message);
    return check(cold, message, "kept in", err);
}

static void close_store(struct weir_cold *cold) {
    if (cold->scan != NULL) {
        rocksdb_iter_destroy(cold->scan);
    }
    if (cold->db != NULL) {
        rocksdb_column_family_handle_destroy(cold->family);
        rocksdb_close(cold->db);
    }
    if (cold->options != NULL) {
        char *message = NULL;
        rocksdb_destroy_db(cold->options, cold->path, &message);
        rocksdb_free(message);
        rocksdb_writebatch_destroy(cold->batch);
        rocksdb_writeoptions_destroy(cold->write);
        rocksdb_readoptions_destroy(cold->read);
        rocksdb_options_destroy(cold->options);
        rocksdb_cache_destroy(cold->cache);
    }
}

static int flush_batch(struct weir_cold *cold, struct weir_error *err) {
    char *message = NULL;
    rocksdb_write(cold->db, cold->write, cold->batch, &message);
    rocksdb_writebatch_clear(cold->batch);
    return check(cold, message, "written to", err);
}

static int by_key(const void *a, const void *b) {
    const struct weir_cold_record *left = a;
    const struct weir_cold_record *right = b;
    uint32_t shorter = left->key_size < right->key_size ? left->key_size : right->key_size;
    int order = memcmp(left->key, right->key, shorter);
    if (order != 0) {
        return order;
    }
    if (left->key_size != right->key_size) {
        return left->key_size < right->key_size ? -1 : 1;
    }
    return (left->key > right->key) - (left->key < right->key); /* as they came */
}

/* In the order of keys, which RocksDB takes and finds far faster. A weir_block, NULL without
 * memory. */
static struct weir_cold_record *in_order(const struct weir_buffer *records, size_t *count) {
    const uint8_t *at = records->data;
    const uint8_t *end = at + records->size;
    struct weir_cold_record record;
    *count = 0;
    while (weir_cold_next_record(&at, end, &record)) {
        ++*count;
    }
    struct weir_cold_record *list = weir_block_take((*count + 1) * sizeof(*list));
    at = records->data;
    for (size_t i = 0; list != NULL && weir_cold_next_record(&at, end, &record); i++) {
        list[i] = record;
    }
    if (list != NULL) {
        qsort(list, *count, sizeof(*list), by_key);
    }
    return list;
}

static int write_records(struct weir_cold *cold, const struct weir_buffer *records,
                         struct weir_error *err) {
    size_t count;
    struct weir_cold_record *list = in_order(records, &count);
    if (list == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "cold state: out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        const struct weir_cold_record *record = &list[i];
        if (record->value_size == WEIR_COLD_GONE) {
            rocksdb_writebatch_delete(cold->batch, (const char *)record->key, record->key_size);
        } else {
            rocksdb_writebatch_put(cold->batch, (const char *)record->key, record->key_size,
                                   (const char *)record->value, record->value_size);
        }
    }
    weir_block_give(list);
    int rc = flush_batch(cold, err);
    pthread_mutex_lock(&cold->lock);
    cold->figures.written += count;
    pthread_mutex_unlock(&cold->lock);
    return rc;
}

static int load_some(struct weir_cold *cold, const char *const *keys, const size_t *sizes,
                     size_t count, struct weir_buffer *found, uint64_t *hits,
                     struct weir_error *err) {
    rocksdb_pinnableslice_t *values[LOAD_KEYS];
    char *messages[LOAD_KEYS];
    int rc = WEIR_OK;
    rocksdb_batched_multi_get_cf(cold->db, cold->read, cold->family, count, keys, sizes, values,
                                 messages, true);
    for (size_t i = 0; i < count; i++) {
        int checked = check(cold, messages[i], "read from", rc == WEIR_OK ? err : NULL);
        rc = rc == WEIR_OK ? checked : rc;
        if (values[i] == NULL) {
            continue;
        }
        size_t size;
        const char *value = rocksdb_pinnableslice_value(values[i], &size);
        if (rc == WEIR_OK && value != NULL) {
            rc = weir_cold_put_record(found, keys[i], (uint32_t)sizes[i], NULL, 0, value,
                                      (uint32_t)size);
            rc = rc == WEIR_OK ? rc : weir_error_set(err, rc, "cold state: out of memory");
            rocksdb_writebatch_delete(cold->batch, keys[i], sizes[i]);
            ++*hits;
        }
        rocksdb_pinnableslice_destroy(values[i]);
    }
    return rc;
}

static bool same_key(const struct weir_cold_record *a, const struct weir_cold_record *b) {
    return a->key_size == b->key_size && memcmp(a->key, b->key, a->key_size) == 0;
}

static int load_records(struct weir_cold *cold, const struct weir_buffer *records,
                        struct weir_buffer *found, struct weir_error *err) {
    const char *keys[LOAD_KEYS];
    size_t sizes[LOAD_KEYS];
    size_t all;
    uint64_t hits = 0;
    uint64_t asked = 0;
    struct weir_cold_record *list = in_order(records, &all);
    int rc =
        list != NULL ? WEIR_OK : weir_error_set(err, WEIR_E_NOMEM, "cold state: out of memory");
    for (size_t i = 0; rc == WEIR_OK && i < all;) {
        size_t count = 0;
        for (; i < all && count < LOAD_KEYS; i++) {
            if (i == 0 || !same_key(&list[i - 1], &list[i])) {
                keys[count] = (const char *)list[i].key;
                sizes[count++] = list[i].key_size;
            }
        }
        asked += count;
        rc = load_some(cold, keys, sizes, count, found, &hits, err);
    }
    weir_block_give(list);
    if (rc == WEIR_OK && hits > 0) {
        rc = flush_batch(cold, err); /* they live in memory now */
    }
    pthread_mutex_lock(&cold->lock);
    cold->figures.asked += asked;
    cold->figures.found += hits;
    pthread_mutex_unlock(&cold->lock);
    return rc;
}

static int read_part(struct weir_cold *cold, struct weir_buffer *part, bool *end,
                     struct weir_error *err) {
    int rc = WEIR_OK;
    if (cold->scan == NULL) { /* it came to its end */
        *end = true;
        return WEIR_OK;
    }
    while (rc == WEIR_OK && part->size < PART_BYTES && rocksdb_iter_valid(cold->scan)) {
        size_t key_size;
        size_t size;
        const char *key = rocksdb_iter_key(cold->scan, &key_size);
        const char *value = rocksdb_iter_value(cold->scan, &size);
        rc = weir_cold_put_record(part, key, (uint32_t)key_size, NULL, 0, value, (uint32_t)size);
        rocksdb_iter_next(cold->scan);
    }
    *end = !rocksdb_iter_valid(cold->scan);
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "cold state: out of memory");
    }
    char *message = NULL;
    rocksdb_iter_get_error(cold->scan, &message);
    if (*end) {
        rocksdb_iter_destroy(cold->scan);
        cold->scan = NULL;
    }
    return check(cold, message, "read from", err);
}

static void begin_scan(struct weir_cold *cold) {
    if (cold->scan != NULL) {
        rocksdb_iter_destroy(cold->scan);
    }
    cold->scan = rocksdb_create_iterator(cold->db, cold->read);
    rocksdb_iter_seek_to_first(cold->scan);
}

static void swap(struct weir_buffer *a, struct weir_buffer *b) {
    struct weir_buffer kept = *a;
    *a = *b;
    *b = kept;
}

static int run_job(struct weir_cold *cold, struct job *job, struct weir_error *err) {
    struct weir_buffer out;
    bool end = false;
    weir_buffer_init(&out, BUFFER_BYTES_MAX);
    int rc = open_store(cold, err);
    if (rc == WEIR_OK && job->kind == JOB_WRITE) {
        return write_records(cold, &job->records, err);
    }
    if (rc == WEIR_OK && job->kind == JOB_LOAD) {
        rc = load_records(cold, &job->records, &out, err);
    } else if (rc == WEIR_OK) {
        if (job->kind == JOB_SCAN) {
            begin_scan(cold);
        }
        rc = read_part(cold, &out, &end, err);
    }
    if (rc != WEIR_OK) { /* half of it is not what was asked for */
        weir_buffer_fini(&out);
        return rc;
    }
    pthread_mutex_lock(&cold->lock);
    if (job->kind == JOB_LOAD) {
        swap(&cold->found, &out);
        cold->load_done = true;
    } else if (job->scan == cold->scans) {
        swap(&cold->part, &out);
        cold->part_done = true;
        cold->part_end = end;
    }
    pthread_mutex_unlock(&cold->lock);
    weir_buffer_fini(&out);
    if (cold->signal != NULL) {
        weir_signal_raise(cold->signal);
    }
    return rc;
}

static void *work(void *context) {
    struct weir_cold *cold = context;
    weir_thread_name("cold", -1);
    pthread_mutex_lock(&cold->lock);
    for (;;) {
        while (cold->head == NULL && !cold->stop) {
            pthread_cond_wait(&cold->work, &cold->lock);
        }
        struct job *job = cold->stop ? NULL : cold->head;
        if (job == NULL) {
            break;
        }
        cold->head = job->next;
        cold->busy = true;
        bool failed = cold->failure.code != WEIR_OK;
        pthread_mutex_unlock(&cold->lock);
        struct weir_error err = {0};
        int rc = failed ? WEIR_OK : run_job(cold, job, &err);
        weir_buffer_fini(&job->records);
        weir_block_give(job);
        pthread_mutex_lock(&cold->lock);
        cold->busy = false;
        if (rc != WEIR_OK) {
            cold->failure = err;
            if (cold->signal != NULL) {
                weir_signal_raise(cold->signal);
            }
        }
        if (cold->head == NULL) {
            pthread_cond_broadcast(&cold->idle);
        }
    }
    pthread_mutex_unlock(&cold->lock);
    close_store(cold);
    return NULL;
}

/* --- the loop's side ------------------------------------------------------------------------ */

struct weir_cold *weir_cold_create(const struct weir_cold_options *options) {
    struct weir_cold *cold = calloc(1, sizeof(*cold));
    if (cold == NULL || (cold->path = strdup(options->path)) == NULL) {
        free(cold);
        return NULL;
    }
    cold->memory_bytes = options->memory_bytes;
    cold->signal = options->signal;
    pthread_mutex_init(&cold->lock, NULL);
    pthread_cond_init(&cold->work, NULL);
    pthread_cond_init(&cold->idle, NULL);
    weir_buffer_init(&cold->found, BUFFER_BYTES_MAX);
    weir_buffer_init(&cold->part, BUFFER_BYTES_MAX);
    return cold;
}

void weir_cold_destroy(struct weir_cold *cold) {
    if (cold == NULL) {
        return;
    }
    if (cold->running) {
        pthread_mutex_lock(&cold->lock);
        cold->stop = true;
        pthread_cond_signal(&cold->work);
        pthread_mutex_unlock(&cold->lock);
        pthread_join(cold->thread, NULL);
    }
    while (cold->head != NULL) {
        struct job *job = cold->head;
        cold->head = job->next;
        weir_buffer_fini(&job->records);
        weir_block_give(job);
    }
    weir_buffer_fini(&cold->found);
    weir_buffer_fini(&cold->part);
    pthread_cond_destroy(&cold->work);
    pthread_cond_destroy(&cold->idle);
    pthread_mutex_destroy(&cold->lock);
    free(cold->path);
    free(cold);
}

int weir_cold_failure(struct weir_cold *cold, struct weir_error *err) {
    pthread_mutex_lock(&cold->lock);
    int code = cold->failure.code;
    if (code != WEIR_OK && err != NULL) {
        *err = cold->failure;
    }
    pthread_mutex_unlock(&cold->lock);
    return code;
}

static int ask(struct weir_cold *cold, enum job_kind kind, struct weir_buffer *records) {
    struct job *job = weir_block_take_zeroed(sizeof(*job));
    if (job == NULL) {
        return WEIR_E_NOMEM;
    }
    if (!cold->running) {
        if (weir_thread_start(&cold->thread, work, cold) != 0) {
            weir_block_give(job);
            return WEIR_E_NOMEM;
        }
        cold->running = true;
    }
    job->kind = kind;
    weir_buffer_init(&job->records, BUFFER_BYTES_MAX);
    if (records != NULL) {
        struct weir_buffer empty = job->records;
        job->records = *records;
        empty.limit = records->limit;
        *records = empty;
    }
    pthread_mutex_lock(&cold->lock);
    if (cold->head == NULL) {
        cold->head = job;
    } else {
        cold->tail->next = job;
    }
    cold->tail = job;
    if (kind == JOB_SCAN || kind == JOB_PART) {
        cold->scans += kind == JOB_SCAN;
        cold->part_done = false;
    }
    job->scan = cold->scans;
    pthread_cond_signal(&cold->work);
    pthread_mutex_unlock(&cold->lock);
    return WEIR_OK;
}

int weir_cold_write(struct weir_cold *cold, struct weir_buffer *records) {
    return ask(cold, JOB_WRITE, records);
}

int weir_cold_load(struct weir_cold *cold, struct weir_buffer *keys) {
    return ask(cold, JOB_LOAD, keys);
}

bool weir_cold_loaded(struct weir_cold *cold, struct weir_buffer *found) {
    pthread_mutex_lock(&cold->lock);
    bool done = cold->load_done;
    if (done) {
        *found = cold->found;
        weir_buffer_init(&cold->found, BUFFER_BYTES_MAX);
        cold->load_done = false;
    }
    pthread_mutex_unlock(&cold->lock);
    return done;
}

int weir_cold_scan(struct weir_cold *cold) {
    return ask(cold, JOB_SCAN, NULL);
}

bool weir_cold_scanned(struct weir_cold *cold, struct weir_buffer *part, bool *end) {
    pthread_mutex_lock(&cold->lock);
    bool done = cold->part_done;
    if (done) {
        *part = cold->part;
        *end = cold->part_end;
        weir_buffer_init(&cold->part, BUFFER_BYTES_MAX);
        cold->part_done = false;
    }
    pthread_mutex_unlock(&cold->lock);
    if (done && !*end && ask(cold, JOB_PART, NULL) != WEIR_OK) {
        pthread_mutex_lock(&cold->lock);
        weir_error_set(&cold->failure, WEIR_E_NOMEM, "a snapshot of cold state: out of memory");
        pthread_mutex_unlock(&cold->lock);
    }
    return done;
}

void weir_cold_wait(struct weir_cold *cold) {
    pthread_mutex_lock(&cold->lock);
    while (cold->head != NULL || cold->busy) {
        pthread_cond_wait(&cold->idle, &cold->lock);
    }
    pthread_mutex_unlock(&cold->lock);
}

struct weir_cold_figures weir_cold_figures(struct weir_cold *cold) {
    pthread_mutex_lock(&cold->lock);
    struct weir_cold_figures figures = cold->figures;
    pthread_mutex_unlock(&cold->lock);
    return figures;
}
