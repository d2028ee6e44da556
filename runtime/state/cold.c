/* One thread, one queue of jobs, one database. */
#include "state/cold.h"

#include <endian.h>
#include <pthread.h>
#include <rocksdb/c.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/block.h"
#include "core/thread.h"

enum {
    PART_BYTES = 1 << 18,
    LOAD_PIECES = 256, /* asked for together */
    PLACE_BYTES = 10,  /* a piece's key: run, number of the piece */
    RECORD_HEAD = 16,
    GATHERED_PARTS = 2,
    BLOCK_BYTES = 2048, /* less than a piece: each is a block */
    BUFFER_BYTES_MAX = 1 << 30
};

enum job_kind { JOB_WRITE, JOB_LOAD, JOB_SWEEP, JOB_DROP, JOB_SCAN, JOB_PART };

struct job {
    struct job *next;
    enum job_kind kind;
    uint64_t scan; /* the scan it reads a part of */
    uint64_t run;
    uint64_t count; /* runs; pieces' bits */
    struct weir_buffer records;
};

struct ask {
    uint8_t place[PLACE_BYTES];
    struct weir_cold_record record;
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
    bool sweep_done;
    struct weir_buffer swept;
    struct weir_buffer swept_next; /* of the second, while the first waits to be taken */
    bool sweep_next_done;
    uint64_t scans; /* asked for: parts of earlier ones are nobody's */
    bool part_done;
    bool part_end;
    struct weir_buffer part;
    struct weir_error failure;
    struct weir_cold_figures figures;

    /* the thread's */
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_column_family_handle_t *family;
    rocksdb_readoptions_t *read;
    rocksdb_writeoptions_t *write;
    rocksdb_writebatch_t *batch;
    rocksdb_iterator_t *scan;
};

/* --- records ------------------------------------------------------------------------------- */

static void put_head(uint8_t *at, const struct weir_cold_record *record, uint32_t value_size) {
    const uint32_t head[] = {record->tag, record->run, record->key_size, value_size};
    memcpy(at, head, RECORD_HEAD);
    memcpy(at + RECORD_HEAD, record->key, record->key_size);
}

int weir_cold_put_record(struct weir_buffer *records, const struct weir_cold_record *record,
                         const void *head, uint32_t head_size) {
    size_t key_end = RECORD_HEAD + (size_t)record->key_size;
    size_t size = key_end + head_size + record->value_size;
    int rc = weir_buffer_reserve(records, size);
    if (rc != WEIR_OK) {
        return rc;
    }
    uint8_t *at = records->data + records->size;
    put_head(at, record, head_size + record->value_size);
    if (head_size > 0) {
        memcpy(at + key_end, head, head_size);
    }
    if (record->value_size > 0) {
        memcpy(at + key_end + head_size, record->value, record->value_size);
    }
    records->size += size;
    return WEIR_OK;
}

bool weir_cold_next_record(const uint8_t **at, const uint8_t *end, struct weir_cold_record *out) {
    uint32_t head[4];
    if (end - *at < RECORD_HEAD) {
        return false;
    }
    memcpy(head, *at, RECORD_HEAD);
    size_t left = (size_t)(end - *at) - RECORD_HEAD;
    if (left < head[2] || left - head[2] < head[3]) {
        return false;
    }
    *out = (struct weir_cold_record){.tag = head[0],
                                     .run = head[1],
                                     .key = *at + RECORD_HEAD,
                                     .value = *at + RECORD_HEAD + head[2],
                                     .key_size = head[2],
                                     .value_size = head[3]};
    *at = out->value + out->value_size;
    return true;
}

static void put_place(uint8_t place[PLACE_BYTES], uint64_t run, uint32_t piece) {
    uint64_t first = htobe64(run);
    uint16_t second = htobe16((uint16_t)piece);
    memcpy(place, &first, sizeof first);
    memcpy(place + sizeof first, &second, sizeof second);
}

int weir_cold_put_ask(struct weir_buffer *asks, uint64_t run, uint32_t bits,
                      const struct weir_cold_record *record) {
    uint8_t place[PLACE_BYTES];
    put_place(place, run, weir_cold_piece(record->tag, bits));
    return weir_cold_put_record(asks, record, place, PLACE_BYTES);
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
    size_t gathered = cold->memory_bytes / GATHERED_PARTS;
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    /* What is loaded lives in the slots then; to put its block into a cache costs as much as to
     * read it from the system's. */
    rocksdb_block_based_options_set_no_block_cache(table, 1);
    rocksdb_block_based_options_set_block_size(table, BLOCK_BYTES);
    cold->options = rocksdb_options_create();
    rocksdb_options_set_block_based_table_factory(cold->options, table);
    rocksdb_block_based_options_destroy(table);
    rocksdb_options_set_create_if_missing(cold->options, 1);
    rocksdb_options_set_write_buffer_size(cold->options, gathered);
    rocksdb_options_set_max_write_buffer_number(cold->options, GATHERED_PARTS);
    /* Files of ever higher runs: they go down the levels as they are. */
    rocksdb_options_set_level0_slowdown_writes_trigger(cold->options, 64);
    rocksdb_options_set_level0_stop_writes_trigger(cold->options, 128);
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
    }
}

static int flush_batch(struct weir_cold *cold, struct weir_error *err) {
    char *message = NULL;
    rocksdb_write(cold->db, cold->write, cold->batch, &message);
    rocksdb_writebatch_clear(cold->batch);
    return check(cold, message, "written to", err);
}

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "cold state: out of memory");
}

static void put_piece(struct weir_cold *cold, uint64_t run, uint32_t piece,
                      struct weir_buffer *bytes) {
    uint8_t place[PLACE_BYTES];
    put_place(place, run, piece);
    if (bytes->size > 0) {
        rocksdb_writebatch_put(cold->batch, (const char *)place, PLACE_BYTES,
                               (const char *)bytes->data, bytes->size);
    }
    weir_buffer_clear(bytes);
}

/* Records by piece: starts[p]..starts[p + 1] of `list`. */
static const uint8_t **by_piece(const struct weir_buffer *records, uint32_t bits, uint32_t *starts,
                                uint64_t *count) {
    const uint8_t *at = records->data;
    const uint8_t *end = at + records->size;
    struct weir_cold_record record;
    uint32_t pieces = UINT32_C(1) << bits;
    memset(starts, 0, ((size_t)pieces + 2) * sizeof *starts);
    for (*count = 0; weir_cold_next_record(&at, end, &record); ++*count) {
        starts[weir_cold_piece(record.tag, bits) + 2]++;
    }
    for (uint32_t p = 2; p < pieces + 2; p++) {
        starts[p] += starts[p - 1];
    }
    const uint8_t **list = weir_block_take((*count + 1) * sizeof *list);
    const uint8_t *from = at = records->data;
    for (; list != NULL && weir_cold_next_record(&at, end, &record); from = at) {
        list[starts[weir_cold_piece(record.tag, bits) + 1]++] = from;
    }
    return list;
}

static int write_run(struct weir_cold *cold, const struct job *job, struct weir_error *err) {
    uint32_t bits = (uint32_t)job->count;
    uint64_t count = 0;
    struct weir_buffer piece;
    weir_buffer_init(&piece, BUFFER_BYTES_MAX);
    uint32_t *starts = weir_block_take((((size_t)1 << bits) + 2) * sizeof *starts);
    const uint8_t **list = starts != NULL ? by_piece(&job->records, bits, starts, &count) : NULL;
    int rc = list != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (uint32_t p = 0; rc == WEIR_OK && p < UINT32_C(1) << bits; p++) {
        for (uint32_t i = starts[p]; rc == WEIR_OK && i < starts[p + 1]; i++) {
            const uint8_t *at = list[i];
            struct weir_cold_record record;
            (void)weir_cold_next_record(&at, job->records.data + job->records.size, &record);
            rc = weir_buffer_append(&piece, list[i], (size_t)(at - list[i]));
        }
        put_piece(cold, job->run, p, &piece);
    }
    rc = rc == WEIR_OK ? rc : no_memory(err);
    weir_block_give(list);
    weir_block_give(starts);
    weir_buffer_fini(&piece);
    rc = rc == WEIR_OK ? flush_batch(cold, err) : rc;
    pthread_mutex_lock(&cold->lock);
    cold->figures.written += count;
    pthread_mutex_unlock(&cold->lock);
    return rc;
}

static int by_place(const void *a, const void *b) {
    return memcmp(((const struct ask *)a)->place, ((const struct ask *)b)->place, PLACE_BYTES);
}

static int by_place_and_tag(const void *a, const void *b) {
    uint32_t x = ((const struct ask *)a)->record.tag;
    uint32_t y = ((const struct ask *)b)->record.tag;
    int place = by_place(a, b);
    return place != 0 ? place : (x > y) - (x < y);
}

/* The key asked for before, again: rows of one batch have keys in common. */
static bool is_asked_again(const struct ask *ask, const struct ask *before) {
    const struct weir_cold_record *a = &ask->record;
    const struct weir_cold_record *b = &before->record;
    return a->tag == b->tag && a->key_size == b->key_size &&
           memcmp(a->key, b->key, a->key_size) == 0;
}

/* In the order of their places, which RocksDB finds far faster. A weir_block. */
static struct ask *in_order(const struct weir_buffer *asks, size_t *count) {
    const uint8_t *at = asks->data;
    const uint8_t *end = at + asks->size;
    struct weir_cold_record record;
    *count = 0;
    while (weir_cold_next_record(&at, end, &record)) {
        ++*count;
    }
    struct ask *list = weir_block_take((*count + 1) * sizeof(*list));
    at = asks->data;
    for (size_t i = 0; list != NULL && weir_cold_next_record(&at, end, &record); i++) {
        list[i].record = record;
        memcpy(list[i].place, record.value, PLACE_BYTES);
    }
    if (list != NULL) {
        qsort(list, *count, sizeof(*list), by_place_and_tag);
    }
    return list;
}

/* The asked key's record of the piece is handed out, if it is that key's. */
static int pick(const struct ask *ask, const uint8_t *at, size_t size, struct weir_buffer *found,
                uint64_t *hits) {
    const uint8_t *end = at + size;
    const uint8_t *from = at;
    struct weir_cold_record record;
    for (; weir_cold_next_record(&at, end, &record); from = at) {
        bool any = ask->record.key_size == 0; /* tag and run name it */
        if (record.tag == ask->record.tag &&
            (any || (record.key_size == ask->record.key_size &&
                     memcmp(record.key, ask->record.key, record.key_size) == 0))) {
            ++*hits;
            return weir_buffer_append(found, from, (size_t)(at - from));
        }
    }
    return WEIR_OK;
}

/* Asks of at most LOAD_PIECES pieces; returns where the next ones begin. */
static size_t load_some(struct weir_cold *cold, const struct ask *asks, size_t count,
                        struct weir_buffer *found, uint64_t *read, uint64_t *hits, int *rc,
                        struct weir_error *err) {
    rocksdb_pinnableslice_t *values[LOAD_PIECES];
    char *messages[LOAD_PIECES];
    const char *keys[LOAD_PIECES];
    size_t sizes[LOAD_PIECES];
    size_t firsts[LOAD_PIECES + 1];
    size_t pieces = 0;
    size_t all = 0;
    for (; all < count; all++) {
        if (all == 0 || by_place(&asks[all - 1], &asks[all]) != 0) {
            if (pieces == LOAD_PIECES) {
                break;
            }
            keys[pieces] = (const char *)asks[all].place;
            sizes[pieces] = PLACE_BYTES;
            firsts[pieces++] = all;
        }
    }
    firsts[pieces] = all;
    rocksdb_batched_multi_get_cf(cold->db, cold->read, cold->family, pieces, keys, sizes, values,
                                 messages, true);
    *read += pieces;
    for (size_t i = 0; i < pieces; i++) {
        int checked = check(cold, messages[i], "read from", *rc == WEIR_OK ? err : NULL);
        *rc = *rc == WEIR_OK ? checked : *rc;
        size_t size = 0;
        const char *value =
            values[i] != NULL ? rocksdb_pinnableslice_value(values[i], &size) : NULL;
        for (size_t a = firsts[i]; *rc == WEIR_OK && value != NULL && a < firsts[i + 1]; a++) {
            bool again = a > firsts[i] && is_asked_again(&asks[a], &asks[a - 1]);
            *rc = again ? WEIR_OK : pick(&asks[a], (const uint8_t *)value, size, found, hits);
            *rc = *rc == WEIR_OK ? WEIR_OK : no_memory(err);
        }
        if (values[i] != NULL) {
            rocksdb_pinnableslice_destroy(values[i]);
        }
    }
    return all;
}

static int load_records(struct weir_cold *cold, const struct weir_buffer *asked,
                        struct weir_buffer *found, struct weir_error *err) {
    size_t all;
    uint64_t hits = 0;
    uint64_t read = 0;
    struct ask *asks = in_order(asked, &all);
    int rc = asks != NULL ? WEIR_OK : no_memory(err);
    for (size_t i = 0; rc == WEIR_OK && i < all;) {
        i += load_some(cold, asks + i, all - i, found, &read, &hits, &rc, err);
    }
    weir_block_give(asks);
    pthread_mutex_lock(&cold->lock);
    cold->figures.asked += all;
    cold->figures.read += read;
    cold->figures.found += hits;
    pthread_mutex_unlock(&cold->lock);
    return rc;
}

/* Whole pieces from the iterator's place on, until the bound or the end. */
static int read_pieces(struct weir_cold *cold, rocksdb_iterator_t *pieces, const uint8_t *before,
                       size_t bytes, struct weir_buffer *out, bool *end, struct weir_error *err) {
    int rc = WEIR_OK;
    *end = true;
    while (rc == WEIR_OK && rocksdb_iter_valid(pieces)) {
        size_t size;
        const char *place = rocksdb_iter_key(pieces, &size);
        if (before != NULL && memcmp(place, before, PLACE_BYTES) >= 0) {
            break;
        }
        if (out->size >= bytes) {
            *end = false;
            break;
        }
        const char *value = rocksdb_iter_value(pieces, &size);
        rc = weir_buffer_append(out, value, size);
        rocksdb_iter_next(pieces);
    }
    if (rc != WEIR_OK) {
        return no_memory(err);
    }
    char *message = NULL;
    rocksdb_iter_get_error(pieces, &message);
    return check(cold, message, "read from", err);
}

static int sweep(struct weir_cold *cold, const struct job *job, struct weir_buffer *out,
                 struct weir_error *err) {
    uint8_t first[PLACE_BYTES];
    uint8_t before[PLACE_BYTES];
    bool end;
    put_place(first, job->run, 0);
    put_place(before, job->run + job->count, 0);
    rocksdb_iterator_t *pieces = rocksdb_create_iterator(cold->db, cold->read);
    rocksdb_iter_seek(pieces, (const char *)first, PLACE_BYTES);
    int rc = read_pieces(cold, pieces, before, SIZE_MAX, out, &end, err);
    rocksdb_iter_destroy(pieces);
    return rc;
}

/* Files of dropped runs alone go as they are. */
static int drop(struct weir_cold *cold, uint64_t run, struct weir_error *err) {
    uint8_t first[PLACE_BYTES];
    uint8_t before[PLACE_BYTES];
    char *message = NULL;
    put_place(first, 0, 0);
    put_place(before, run, 0);
    rocksdb_delete_file_in_range(cold->db, (const char *)first, PLACE_BYTES, (const char *)before,
                                 PLACE_BYTES, &message);
    return check(cold, message, "taken out of", err);
}

static int read_part(struct weir_cold *cold, struct weir_buffer *part, bool *end,
                     struct weir_error *err) {
    *end = true;
    if (cold->scan == NULL) { /* given up for one that came later */
        return WEIR_OK;
    }
    int rc = read_pieces(cold, cold->scan, NULL, PART_BYTES, part, end, err);
    if (*end) {
        rocksdb_iter_destroy(cold->scan);
        cold->scan = NULL;
    }
    return rc;
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
        return write_run(cold, job, err);
    }
    if (rc == WEIR_OK && job->kind == JOB_DROP) {
        return drop(cold, job->run, err);
    }
    if (rc == WEIR_OK && job->kind == JOB_LOAD) {
        rc = load_records(cold, &job->records, &out, err);
    } else if (rc == WEIR_OK && job->kind == JOB_SWEEP) {
        rc = sweep(cold, job, &out, err);
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
    } else if (job->kind == JOB_SWEEP) {
        bool second = cold->sweep_done;
        swap(second ? &cold->swept_next : &cold->swept, &out);
        *(second ? &cold->sweep_next_done : &cold->sweep_done) = true;
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
    weir_buffer_init(&cold->swept, BUFFER_BYTES_MAX);
    weir_buffer_init(&cold->swept_next, BUFFER_BYTES_MAX);
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
    weir_buffer_fini(&cold->swept);
    weir_buffer_fini(&cold->swept_next);
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

static int ask(struct weir_cold *cold, enum job_kind kind, uint64_t run, uint64_t count,
               struct weir_buffer *records) {
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
    job->run = run;
    job->count = count;
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

int weir_cold_write(struct weir_cold *cold, uint64_t run, uint32_t bits,
                    struct weir_buffer *records) {
    return ask(cold, JOB_WRITE, run, bits, records);
}

int weir_cold_load(struct weir_cold *cold, struct weir_buffer *asks) {
    return ask(cold, JOB_LOAD, 0, 0, asks);
}

int weir_cold_sweep(struct weir_cold *cold, uint64_t run, uint64_t count) {
    return ask(cold, JOB_SWEEP, run, count, NULL);
}

int weir_cold_drop(struct weir_cold *cold, uint64_t run) {
    return ask(cold, JOB_DROP, run, 0, NULL);
}

static bool take(struct weir_cold *cold, bool *flag, struct weir_buffer *result,
                 struct weir_buffer *out) {
    pthread_mutex_lock(&cold->lock);
    bool done = *flag;
    if (done) {
        *out = *result;
        weir_buffer_init(result, BUFFER_BYTES_MAX);
        *flag = false;
    }
    pthread_mutex_unlock(&cold->lock);
    return done;
}

bool weir_cold_loaded(struct weir_cold *cold, struct weir_buffer *found) {
    return take(cold, &cold->load_done, &cold->found, found);
}

bool weir_cold_arrived(struct weir_cold *cold) {
    pthread_mutex_lock(&cold->lock);
    bool arrived = cold->load_done || cold->sweep_done;
    pthread_mutex_unlock(&cold->lock);
    return arrived;
}

bool weir_cold_swept(struct weir_cold *cold, struct weir_buffer *records) {
    bool taken = take(cold, &cold->sweep_done, &cold->swept, records);
    pthread_mutex_lock(&cold->lock);
    if (taken && cold->sweep_next_done) {
        swap(&cold->swept, &cold->swept_next);
        cold->sweep_done = true;
        cold->sweep_next_done = false;
    }
    pthread_mutex_unlock(&cold->lock);
    return taken;
}

int weir_cold_scan(struct weir_cold *cold) {
    return ask(cold, JOB_SCAN, 0, 0, NULL);
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
    if (done && !*end && ask(cold, JOB_PART, 0, 0, NULL) != WEIR_OK) {
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
