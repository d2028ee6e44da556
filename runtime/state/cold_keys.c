/* Runs are written in turn and swept in the same turn: what of the oldest ones still lives goes
 * into the next run, so that what may be dropped is always what comes first. */
#include "state/cold_keys.h"

#include <stdlib.h>
#include <string.h>

#include "state/cold_index.h"

enum {
    PIECE_BYTES = 4096,
    RUNS_MAX = 65535,      /* an entry of the index tells them apart */
    RUNS_FULL = 60000,     /* so many: the oldest are swept whatever lives in them */
    SWEEP_RECORDS = 16384, /* at once */
    DEAD_FOR_LIVE = 2,     /* on disk; sweeping copies the less the more dead are allowed */
    DROP_EVERY = 16,       /* runs */
    PURGE_EVERY = 32,      /* calls: then it is looked whether it is worth it */
    PURGE_WORTH = 16,      /* so many keys are gone through for one that is forgotten */
    RECORDS_BYTES_MAX = 1 << 30
};

struct run {
    uint32_t live;
    uint32_t all;
    uint32_t bits;  /* of its pieces */
    bool over;      /* of what it holds nothing is worth anything, and some of it is still known */
    int64_t latest; /* time of a record */
};

struct weir_cold_keys {
    const char *name;
    struct weir_cold *store;
    size_t memory_bytes;
    struct weir_cold_index index;
    struct run *runs; /* a ring: run r at r & (run_room - 1) */
    uint64_t run_room;
    uint64_t first; /* runs first..next; `next` is being gathered */
    uint64_t next;
    uint64_t dropped; /* runs before it */
    uint64_t records; /* in runs first..next, dead ones too */
    struct weir_buffer out;
    struct weir_buffer asks;
    bool waits;
    bool sweeping;
    bool reading;
    bool scanning;
    uint64_t scan_from;     /* `next` when the scan began */
    weir_cold_time time_of; /* NULL: they have no time */
    void *time_context;
    int64_t before;      /* records of an earlier time are worth nothing */
    int64_t over_before; /* no run is, as long as `before` is not later */
    bool purging;
    uint32_t purge_at; /* segment of the index */
    uint32_t purge_calls;
    uint64_t forgotten;
};

static uint16_t number_of(uint64_t run) {
    return (uint16_t)(run % RUNS_MAX + 1);
}

/* The run of the number, among those there are. */
static uint64_t run_of(const struct weir_cold_keys *keys, uint32_t number) {
    uint64_t behind = (number - 1 + RUNS_MAX - keys->first % RUNS_MAX) % RUNS_MAX;
    return keys->first + behind;
}

static struct run *at_run(const struct weir_cold_keys *keys, uint64_t run) {
    return &keys->runs[run & (keys->run_room - 1)];
}

static uint32_t tag_of(uint64_t hash) {
    return (uint32_t)(hash >> 32);
}

static int no_memory(const struct weir_cold_keys *keys, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory for keys on disk", keys->name);
}

struct weir_cold_keys *weir_cold_keys_create(const char *name,
                                             const struct weir_cold_options *options) {
    struct weir_cold_keys *keys = calloc(1, sizeof *keys);
    if (keys == NULL) {
        return NULL;
    }
    keys->name = name;
    keys->memory_bytes = options->memory_bytes;
    keys->store = weir_cold_create(options);
    keys->run_room = 64;
    keys->runs = calloc(keys->run_room, sizeof *keys->runs);
    keys->before = INT64_MIN;
    keys->over_before = INT64_MAX;
    weir_buffer_init(&keys->out, RECORDS_BYTES_MAX);
    weir_buffer_init(&keys->asks, RECORDS_BYTES_MAX);
    if (keys->store == NULL || keys->runs == NULL) {
        weir_cold_keys_destroy(keys);
        return NULL;
    }
    return keys;
}

void weir_cold_keys_destroy(struct weir_cold_keys *keys) {
    if (keys == NULL) {
        return;
    }
    weir_cold_destroy(keys->store);
    weir_cold_index_fini(&keys->index);
    weir_buffer_fini(&keys->out);
    weir_buffer_fini(&keys->asks);
    free(keys->runs);
    free(keys);
}

uint64_t weir_cold_keys_count(const struct weir_cold_keys *keys) {
    return keys->index.count;
}

uint64_t weir_cold_keys_records(const struct weir_cold_keys *keys) {
    return keys->records;
}

size_t weir_cold_keys_bytes(const struct weir_cold_keys *keys) {
    return keys->memory_bytes + keys->index.bytes + keys->run_room * sizeof *keys->runs;
}

struct weir_cold_figures weir_cold_keys_figures(const struct weir_cold_keys *keys) {
    struct weir_cold_figures figures = weir_cold_figures(keys->store);
    figures.forgotten = keys->forgotten;
    return figures;
}

int weir_cold_keys_failure(const struct weir_cold_keys *keys, struct weir_error *err) {
    return weir_cold_failure(keys->store, err);
}

/* --- out ------------------------------------------------------------------------------------ */

static bool grow_runs(struct weir_cold_keys *keys) {
    uint64_t room = keys->run_room * 2;
    struct run *runs = calloc(room, sizeof *runs);
    if (runs == NULL) {
        return false;
    }
    for (uint64_t run = keys->first; run <= keys->next; run++) {
        runs[run & (room - 1)] = *at_run(keys, run);
    }
    free(keys->runs);
    keys->runs = runs;
    keys->run_room = room;
    return true;
}

/* The record goes into the run being gathered. */
static int gather(struct weir_cold_keys *keys, struct weir_cold_record *record, const void *head,
                  uint32_t head_size, struct weir_error *err) {
    struct run *run = at_run(keys, keys->next);
    record->run = number_of(keys->next);
    size_t size = keys->out.size;
    if (weir_cold_put_record(&keys->out, record, head, head_size) != WEIR_OK) {
        return no_memory(keys, err);
    }
    if (!weir_cold_index_add(&keys->index, record->tag, (uint16_t)record->run)) {
        keys->out.size = size;
        return no_memory(keys, err);
    }
    if (keys->time_of != NULL) {
        const uint8_t *at = keys->out.data + size;
        struct weir_cold_record written;
        int64_t time = weir_cold_next_record(&at, keys->out.data + keys->out.size, &written)
                           ? keys->time_of(keys->time_context, &written)
                           : INT64_MAX;
        run->latest = run->all == 0 || time > run->latest ? time : run->latest;
    }
    run->live++;
    run->all++;
    keys->records++;
    return WEIR_OK;
}

int weir_cold_keys_put(struct weir_cold_keys *keys, const struct weir_cold_key *key,
                       const void *head, uint32_t head_size, const void *value, uint32_t value_size,
                       bool *taken, struct weir_error *err) {
    struct weir_cold_record record = {.tag = tag_of(key->hash),
                                      .key = key->bytes,
                                      .key_size = key->size,
                                      .value = value,
                                      .value_size = value_size};
    *taken = !weir_cold_index_has(&keys->index, record.tag, number_of(keys->next));
    return *taken ? gather(keys, &record, head, head_size, err) : WEIR_OK;
}

int weir_cold_keys_flush(struct weir_cold_keys *keys, struct weir_error *err) {
    int rc = weir_cold_failure(keys->store, err);
    struct run *run = at_run(keys, keys->next);
    if (rc != WEIR_OK || keys->out.size == 0) {
        return rc;
    }
    if (keys->next + 1 - keys->first >= RUNS_MAX - 1) {
        return weir_error_set(err, WEIR_E_LIMIT,
                              "%s: more runs of keys on disk than %d; raise "
                              "memory.state",
                              keys->name, RUNS_MAX);
    }
    while (run->bits < WEIR_COLD_PIECE_BITS_MAX &&
           keys->out.size >> run->bits > PIECE_BYTES + PIECE_BYTES / 2) {
        run->bits++;
    }
    if ((keys->next + 1 - keys->first >= keys->run_room && !grow_runs(keys)) ||
        weir_cold_write(keys->store, keys->next, at_run(keys, keys->next)->bits, &keys->out) !=
            WEIR_OK) {
        return no_memory(keys, err);
    }
    int64_t latest = at_run(keys, keys->next)->latest; /* where it lies since they grew */
    keys->over_before = latest < keys->over_before ? latest : keys->over_before;
    keys->next++;
    *at_run(keys, keys->next) = (struct run){0};
    return WEIR_OK;
}

/* --- in ------------------------------------------------------------------------------------- */

void weir_cold_keys_prefetch(const struct weir_cold_keys *keys, uint64_t hash) {
    weir_cold_index_prefetch(&keys->index, tag_of(hash));
}

int weir_cold_keys_want(struct weir_cold_keys *keys, const struct weir_cold_key *key,
                        struct weir_error *err) {
    struct weir_cold_record ask = {
        .tag = tag_of(key->hash), .key = key->bytes, .key_size = key->size};
    uint32_t at = 0;
    while ((ask.run = weir_cold_index_next(&keys->index, ask.tag, &at)) != 0) {
        uint64_t run = run_of(keys, ask.run);
        if (run == keys->next) { /* not written yet: how many pieces it has is not known */
            int rc = weir_cold_keys_flush(keys, err);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
        if (weir_cold_put_ask(&keys->asks, run, at_run(keys, run)->bits, &ask) != WEIR_OK) {
            return no_memory(keys, err);
        }
    }
    return WEIR_OK;
}

int weir_cold_keys_load(struct weir_cold_keys *keys, bool *waits, struct weir_error *err) {
    *waits = keys->asks.size > 0;
    if (!*waits) {
        return WEIR_OK;
    }
    int rc = weir_cold_keys_flush(keys, err);
    if (rc == WEIR_OK && weir_cold_load(keys->store, &keys->asks) != WEIR_OK) {
        rc = no_memory(keys, err);
    }
    keys->waits = *waits = rc == WEIR_OK;
    return rc;
}

bool weir_cold_keys_waits(const struct weir_cold_keys *keys) {
    return keys->waits;
}

/* The run is a record less; false: it was out already. */
static bool leave(struct weir_cold_keys *keys, uint32_t tag, uint32_t number) {
    if (!weir_cold_index_remove(&keys->index, tag, (uint16_t)number)) {
        return false;
    }
    at_run(keys, run_of(keys, number))->live--;
    return true;
}

int weir_cold_keys_bring(struct weir_cold_keys *keys, weir_cold_install install, void *context,
                         bool *done, struct weir_error *err) {
    *done = !keys->waits;
    if (*done) {
        return WEIR_OK;
    }
    int rc = weir_cold_failure(keys->store, err);
    struct weir_buffer found;
    if (rc != WEIR_OK || !weir_cold_loaded(keys->store, &found)) {
        return rc;
    }
    const uint8_t *at = found.data;
    struct weir_cold_record record;
    while (rc == WEIR_OK && weir_cold_next_record(&at, found.data + found.size, &record)) {
        if (leave(keys, record.tag, record.run)) { /* else it was asked for twice */
            rc = install(context, &record, err);
        }
    }
    weir_buffer_fini(&found);
    keys->waits = false;
    *done = true;
    return rc;
}

/* --- what is gone --------------------------------------------------------------------------- */

static int take_swept(struct weir_cold_keys *keys, weir_cold_install moved, void *context,
                      struct weir_error *err) {
    struct weir_buffer records;
    int rc = weir_cold_failure(keys->store, err);
    if (rc != WEIR_OK || !weir_cold_swept(keys->store, &records)) {
        return rc;
    }
    keys->sweeping = false;
    const uint8_t *at = records.data;
    struct weir_cold_record record;
    while (rc == WEIR_OK && weir_cold_next_record(&at, records.data + records.size, &record)) {
        if (!weir_cold_index_has(&keys->index, record.tag, (uint16_t)record.run)) {
            continue;
        }
        if (weir_cold_keys_is_over(keys, &record)) {
            keys->forgotten += leave(keys, record.tag, record.run);
            continue;
        }
        if (weir_cold_index_has(&keys->index, record.tag, number_of(keys->next))) {
            rc = weir_cold_keys_flush(keys, err); /* tags of a run differ */
        }
        if (rc == WEIR_OK && leave(keys, record.tag, record.run)) {
            rc = gather(keys, &record, NULL, 0, err);
            rc = rc == WEIR_OK && moved != NULL ? moved(context, &record, err) : rc;
        }
    }
    weir_buffer_fini(&records);
    return rc;
}

static int drop_first(struct weir_cold_keys *keys, struct weir_error *err) {
    while (keys->first < keys->next && at_run(keys, keys->first)->live == 0) {
        keys->records -= at_run(keys, keys->first)->all;
        keys->first++;
    }
    if (keys->first - keys->dropped < DROP_EVERY) {
        return WEIR_OK;
    }
    keys->dropped = keys->first;
    return weir_cold_drop(keys->store, keys->first) == WEIR_OK ? WEIR_OK : no_memory(keys, err);
}

/* --- what is over ---------------------------------------------------------------------------- */

void weir_cold_keys_timed(struct weir_cold_keys *keys, weir_cold_time time_of, void *context) {
    keys->time_of = time_of;
    keys->time_context = context;
}

void weir_cold_keys_forget(struct weir_cold_keys *keys, int64_t before) {
    keys->before = before;
}

bool weir_cold_keys_is_over(const struct weir_cold_keys *keys,
                            const struct weir_cold_record *record) {
    return keys->time_of != NULL && keys->time_of(keys->time_context, record) < keys->before;
}

static bool is_gone(void *context, uint16_t number) {
    const struct weir_cold_keys *keys = context;
    uint64_t run = run_of(keys, number);
    return run < keys->next && at_run(keys, run)->over;
}

static void begin_purge(struct weir_cold_keys *keys) {
    uint64_t gone = 0;
    int64_t earliest = INT64_MAX;
    for (uint64_t r = keys->first; r < keys->next; r++) {
        const struct run *run = at_run(keys, r);
        gone += run->latest < keys->before ? run->live : 0;
        earliest = run->live > 0 && run->latest < earliest ? run->latest : earliest;
    }
    keys->over_before = earliest;
    keys->purging = gone > 0 && gone >= keys->index.count / PURGE_WORTH;
    keys->purge_at = 0;
    for (uint64_t r = keys->first; keys->purging && r < keys->next; r++) {
        struct run *run = at_run(keys, r);
        run->over = run->live > 0 && run->latest < keys->before;
    }
}

/* Runs whose last record's time is over are marked, then the index is gone through, some of it a
 * call: which keys they were need not be known. */
static void purge(struct weir_cold_keys *keys) {
    if (!keys->purging && keys->before > keys->over_before &&
        ++keys->purge_calls % PURGE_EVERY == 0) {
        begin_purge(keys);
    }
    int64_t lost =
        keys->purging ? weir_cold_index_purge(&keys->index, keys->purge_at, is_gone, keys) : -1;
    if (lost < 0) {
        return; /* or no memory now */
    }
    keys->forgotten += (uint64_t)lost;
    if (++keys->purge_at < WEIR_COLD_SEGMENTS) {
        return;
    }
    keys->purging = false;
    for (uint64_t r = keys->first; r < keys->next; r++) {
        struct run *run = at_run(keys, r);
        run->live = run->over ? 0 : run->live;
        run->over = false;
    }
}

int weir_cold_keys_tend(struct weir_cold_keys *keys, weir_cold_install moved, void *context,
                        struct weir_error *err) {
    purge(keys);
    if (keys->reading ||
        keys->scanning) { /* what is swept away before its turn would be in no part */
        return WEIR_OK;
    }
    int rc = keys->sweeping ? take_swept(keys, moved, context, err) : WEIR_OK;
    if (rc != WEIR_OK || keys->sweeping) {
        return rc;
    }
    rc = drop_first(keys, err);
    uint64_t runs = keys->next - keys->first;
    bool worth = keys->records > keys->index.count * (1 + DEAD_FOR_LIVE) || runs > RUNS_FULL;
    if (rc != WEIR_OK || runs == 0 || !worth) {
        return rc;
    }
    uint64_t count = 0;
    for (uint64_t all = 0; count < runs && all < SWEEP_RECORDS; count++) {
        all += at_run(keys, keys->first + count)->all;
    }
    keys->sweeping = weir_cold_sweep(keys->store, keys->first, count) == WEIR_OK;
    return keys->sweeping ? WEIR_OK : no_memory(keys, err);
}

void weir_cold_keys_wait(struct weir_cold_keys *keys) {
    weir_cold_wait(keys->store);
}

/* --- some of it ----------------------------------------------------------------------------- */

uint64_t weir_cold_keys_run(const struct weir_cold_keys *keys) {
    return keys->next;
}

uint64_t weir_cold_keys_run_of(const struct weir_cold_keys *keys, uint32_t number) {
    return run_of(keys, number);
}

int weir_cold_keys_read(struct weir_cold_keys *keys, uint64_t run, bool *reads,
                        struct weir_error *err) {
    int rc = run == keys->next ? weir_cold_keys_flush(keys, err) : WEIR_OK;
    *reads = rc == WEIR_OK && run >= keys->first && run < keys->next && at_run(keys, run)->live > 0;
    if (*reads) {
        rc = weir_cold_sweep(keys->store, run, 1) == WEIR_OK ? WEIR_OK : no_memory(keys, err);
        keys->reading = rc == WEIR_OK;
    }
    return rc;
}

int weir_cold_keys_have_read(struct weir_cold_keys *keys, weir_cold_install each, void *context,
                             bool *done, struct weir_error *err) {
    struct weir_buffer records;
    *done = false;
    int rc = weir_cold_failure(keys->store, err);
    if (rc != WEIR_OK || !weir_cold_swept(keys->store, &records)) {
        return rc;
    }
    if (keys->sweeping) { /* it was asked for before: these runs are swept another time */
        keys->sweeping = false;
        weir_buffer_fini(&records);
        return WEIR_OK;
    }
    const uint8_t *at = records.data;
    struct weir_cold_record record;
    while (rc == WEIR_OK && weir_cold_next_record(&at, records.data + records.size, &record)) {
        if (weir_cold_index_has(&keys->index, record.tag, (uint16_t)record.run)) {
            rc = each(context, &record, err);
        }
    }
    weir_buffer_fini(&records);
    keys->reading = false;
    *done = true;
    return rc;
}

bool weir_cold_keys_arrived(const struct weir_cold_keys *keys) {
    return weir_cold_arrived(keys->store);
}

int weir_cold_keys_want_record(struct weir_cold_keys *keys, uint32_t tag, uint32_t number,
                               struct weir_error *err) {
    struct weir_cold_record ask = {.tag = tag, .run = number, .key = (const uint8_t *)""};
    uint64_t run = run_of(keys, number);
    return weir_cold_put_ask(&keys->asks, run, at_run(keys, run)->bits, &ask) == WEIR_OK
               ? WEIR_OK
               : no_memory(keys, err);
}

/* --- all of it ------------------------------------------------------------------------------ */

int weir_cold_keys_scan(struct weir_cold_keys *keys, struct weir_error *err) {
    int rc = weir_cold_keys_flush(keys, err);
    keys->scan_from = keys->next;
    keys->scanning = true;
    if (rc == WEIR_OK && weir_cold_scan(keys->store) != WEIR_OK) {
        rc = no_memory(keys, err);
    }
    return rc;
}

int weir_cold_keys_scanned(struct weir_cold_keys *keys, weir_cold_install each, void *context,
                           bool *end, struct weir_error *err) {
    struct weir_buffer part;
    *end = false;
    int rc = weir_cold_failure(keys->store, err);
    if (rc == WEIR_OK && keys->next - keys->scan_from > RUNS_FULL) {
        return weir_error_set(err, WEIR_E_LIMIT, "%s: a scan of keys on disk took too long",
                              keys->name);
    }
    if (rc != WEIR_OK || !weir_cold_scanned(keys->store, &part, end)) {
        return rc;
    }
    keys->scanning = !*end;
    const uint8_t *at = part.data;
    struct weir_cold_record record;
    while (rc == WEIR_OK && weir_cold_next_record(&at, part.data + part.size, &record)) {
        /* What went before is no key's value any more. */
        if (weir_cold_index_has(&keys->index, record.tag, (uint16_t)record.run)) {
            rc = each(context, &record, err);
        }
    }
    weir_buffer_fini(&part);
    return rc;
}
