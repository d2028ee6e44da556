/* Groups whose keys need not all fit memory. Those without a window are found by key alone. Those
 * of windows stand in their window's list as well: a slot that goes to disk leaves it, and the
 * window remembers in which runs its keys are. When such a window is over its groups leave in the
 * order in which they were made, as any window's: what each run holds of it is listed by sequence,
 * lists are merged, and a chunk of groups after the other is loaded and emitted. */
#include <stdlib.h>
#include <string.h>

#include "operator/aggregate/aggregate_private.h"
#include "operator/aggregate/delayed.h"
#include "state/cold_keys.h"
#include "state/side.h"

enum {
    CHUNK = 512,   /* groups loaded together */
    LISTED = 2048, /* slots listed a call */
    RUNS_FIRST = 8,
    SEQUENCE_BYTES = 8
};

/* A group of the window that leaves. */
struct entry {
    uint64_t sequence;
    uint32_t number; /* slot; of one on disk its tag */
    uint32_t run;    /* 0: in memory */
};

/* Entries from..to, by sequence; from is the next to leave. */
struct section {
    size_t from;
    size_t to;
};

enum stage { STAGE_NONE, STAGE_RUNS, STAGE_SLOTS, STAGE_CHUNK, STAGE_LOAD, STAGE_EMIT };

struct leaving {
    enum stage stage;
    int64_t start_us;
    uint32_t run_at;  /* of the window's runs */
    bool reads;       /* one of them is being read */
    uint32_t slot_at; /* of the window's list, to be listed next */
    struct entry *entries;
    size_t count;
    size_t room;
    struct section *sections; /* a heap by the next sequence, once all are listed */
    size_t section_count;
    size_t section_room;
    struct entry chunk[CHUNK];
    int32_t chunk_count;
    int32_t chunk_at;
    struct entry loaded[CHUNK];
    int32_t loaded_count;
};

struct aggregate_disk {
    struct weir_aggregate *aggregate;
    struct weir_side before; /* in the window's list, by slot number */
    bool linked;             /* windows know their slots */
    struct leaving leaving;
};

static int no_memory(const struct weir_aggregate *aggregate, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for windows on disk",
                          aggregate->declaration);
}

/* --- lists of windows ------------------------------------------------------------------------ */

int aggregate_disk_linked(struct weir_aggregate *aggregate, const struct weir_slot *slot,
                          uint32_t before, struct weir_error *err) {
    struct aggregate_disk *disk = aggregate->disk;
    if (disk == NULL) {
        return WEIR_OK;
    }
    if (!weir_side_reach(&disk->before, slot->number)) {
        return no_memory(aggregate, err);
    }
    memcpy(weir_side_at(&disk->before, slot->number), &before, sizeof before);
    disk->linked = true;
    return WEIR_OK;
}

void aggregate_disk_headed(struct weir_aggregate *aggregate, uint32_t head) {
    static const uint32_t none;
    if (aggregate->disk != NULL && head != 0) {
        memcpy(weir_side_at(&aggregate->disk->before, head), &none, sizeof none);
    }
}

static int64_t start_of(const uint8_t *key) {
    int64_t start;
    memcpy(&start, key, sizeof start);
    return start;
}

static int note_run(const struct weir_aggregate *aggregate, struct weir_window *window,
                    uint64_t run, struct weir_error *err) {
    if (window->run_count > 0 && window->runs[window->run_count - 1] >= run) {
        return WEIR_OK;
    }
    if (window->run_count == window->run_room) {
        uint32_t room = window->run_room == 0 ? RUNS_FIRST : window->run_room * 2;
        uint64_t *runs = realloc(window->runs, room * sizeof *runs);
        if (runs == NULL) {
            return no_memory(aggregate, err);
        }
        window->runs = runs;
        window->run_room = room;
    }
    window->runs[window->run_count++] = run;
    return WEIR_OK;
}

static void unlink_slot(struct weir_aggregate *aggregate, struct weir_window *window,
                        const struct weir_slot *slot) {
    struct aggregate_disk *disk = aggregate->disk;
    uint32_t before;
    memcpy(&before, weir_side_at(&disk->before, slot->number), sizeof before);
    if (before != 0) {
        weir_table_slot(aggregate->table, before)->link = slot->link;
    } else {
        window->head = slot->link;
    }
    if (slot->link != 0) {
        memcpy(weir_side_at(&disk->before, slot->link), &before, sizeof before);
    } else {
        window->tail = before;
    }
    window->slots--;
}

static int slot_leaves(void *context, struct weir_slot *slot, uint64_t run,
                       struct weir_error *err) {
    struct aggregate_disk *disk = context;
    struct weir_aggregate *aggregate = disk->aggregate;
    if (!disk->linked) {
        return WEIR_OK;
    }
    struct weir_window *window =
        weir_windows_find(&aggregate->windows, start_of(weir_slot_key(aggregate->table, slot)));
    unlink_slot(aggregate, window, slot);
    window->cold++;
    return note_run(aggregate, window, run, err);
}

static int slot_comes(void *context, struct weir_slot *slot, struct weir_error *err) {
    struct aggregate_disk *disk = context;
    struct weir_aggregate *aggregate = disk->aggregate;
    struct leaving *leaving = &disk->leaving;
    if (!disk->linked) {
        return WEIR_OK;
    }
    int64_t start = start_of(weir_slot_key(aggregate->table, slot));
    struct weir_window *window = weir_windows_find(&aggregate->windows, start);
    if (window == NULL || window->cold == 0) {
        return weir_error_set(err, WEIR_E_BUG, "%s: a key on disk is of no window",
                              aggregate->declaration);
    }
    window->cold--;
    if (leaving->stage == STAGE_LOAD) {
        leaving->loaded[leaving->loaded_count++] =
            (struct entry){.sequence = slot->sequence, .number = slot->number};
        return WEIR_OK;
    }
    window->mixed = true;
    return weir_aggregate_join_window(aggregate, slot, start, err);
}

static int record_moves(void *context, const struct weir_cold_record *record,
                        struct weir_error *err) {
    struct aggregate_disk *disk = context;
    struct weir_aggregate *aggregate = disk->aggregate;
    struct weir_window *window =
        disk->linked ? weir_windows_find(&aggregate->windows, start_of(record->key)) : NULL;
    return window == NULL
               ? WEIR_OK
               : note_run(aggregate, window,
                          weir_cold_keys_run(weir_table_cold_keys(aggregate->table)), err);
}

/* What waits to be told is looked for in memory. */
static bool slot_stays(void *context, const struct weir_slot *slot) {
    const struct aggregate_disk *disk = context;
    return weir_delayed_holds(disk->aggregate, slot);
}

int aggregate_disk_allow(struct weir_aggregate *aggregate,
                         const struct weir_aggregate_config *config, struct weir_error *err) {
    struct weir_table_disk disk = {.path = config->disk, .signal = config->disk_signal};
    aggregate->disk = calloc(1, sizeof *aggregate->disk);
    if (aggregate->disk == NULL) {
        return no_memory(aggregate, err);
    }
    aggregate->disk->aggregate = aggregate;
    weir_side_init(&aggregate->disk->before, sizeof(uint32_t));
    if (!config->unwindowed) {
        disk.owner = (struct weir_table_owner){.context = aggregate->disk,
                                               .leaves = slot_leaves,
                                               .comes = slot_comes,
                                               .moves = record_moves};
    }
    if (config->delays) {
        disk.owner.context = aggregate->disk;
        disk.owner.stays = slot_stays;
    }
    return weir_table_allow_disk(aggregate->table, &disk, err);
}

void aggregate_disk_destroy(struct aggregate_disk *disk) {
    if (disk != NULL) {
        weir_side_fini(&disk->before);
        free(disk->leaving.entries);
        free(disk->leaving.sections);
        free(disk);
    }
}

struct restored {
    struct weir_aggregate *aggregate;
    struct weir_cold_keys *keys;
};

static int restore_record(void *context, const struct weir_cold_record *record,
                          struct weir_error *err) {
    const struct restored *restored = context;
    struct weir_aggregate *aggregate = restored->aggregate;
    if (record->key_size < WINDOW_BYTES) {
        return weir_error_set(err, WEIR_E_CORRUPT, "%s: a key in the state does not parse",
                              aggregate->declaration);
    }
    struct weir_window *window = weir_windows_get(&aggregate->windows, start_of(record->key));
    if (window == NULL) {
        return no_memory(aggregate, err);
    }
    window->cold++;
    return note_run(aggregate, window, weir_cold_keys_run_of(restored->keys, record->run), err);
}

int aggregate_disk_restore(struct weir_aggregate *aggregate, struct weir_error *err) {
    struct weir_cold_keys *keys =
        aggregate->disk != NULL ? weir_table_cold_keys(aggregate->table) : NULL;
    if (keys == NULL) {
        return WEIR_OK;
    }
    if (aggregate->unwindowed) {
        return aggregate->delayed != NULL ? weir_delayed_bring(aggregate, err) : WEIR_OK;
    }
    struct restored restored = {aggregate, keys};
    aggregate->disk->linked = true;
    int rc = WEIR_OK;
    if (weir_cold_keys_count(keys) > 0) {
        bool end = false;
        rc = weir_cold_keys_scan(keys, err);
        while (rc == WEIR_OK && !end) {
            weir_cold_keys_wait(keys);
            rc = weir_cold_keys_scanned(keys, restore_record, &restored, &end, err);
        }
    }
    return rc == WEIR_OK && aggregate->delayed != NULL ? weir_delayed_bring(aggregate, err) : rc;
}

/* --- feeding --------------------------------------------------------------------------------- */

bool weir_aggregate_may_wait(const struct weir_aggregate *aggregate) {
    return aggregate->disk != NULL;
}

/* Of windows that overlap, a row is in several: the n-th of each row's, until no row has one. */
static int need_overlapping(struct weir_aggregate *aggregate, const int32_t *sel, int32_t count,
                            const int64_t *times_us, struct weir_error *err) {
    struct weir_keys *keys = &aggregate->keys;
    bool more = true;
    int rc = WEIR_OK;
    for (int64_t n = 0; rc == WEIR_OK && more; n++) {
        more = false;
        for (int32_t i = 0; i < count; i++) {
            int64_t id;
            if (weir_overlap_nth(aggregate, times_us[sel != NULL ? sel[i] : i], n, &id)) {
                memcpy(keys->bytes + keys->offsets[i], &id, WINDOW_BYTES);
                more = true;
            } /* else the one before again: it is there, or asked for */
        }
        if (more) {
            weir_keys_hash(keys, weir_table_view(aggregate->table)->seed);
            rc = weir_table_want_all(aggregate->table, keys->bytes, keys->offsets, keys->hashes,
                                     count, err);
        }
    }
    return rc;
}

int weir_aggregate_need(struct weir_aggregate *aggregate, const struct weir_batch *batch,
                        const int32_t *sel, int32_t count, const int64_t *times_us, bool *waits,
                        struct weir_error *err) {
    struct weir_keys *keys = &aggregate->keys;
    *waits = false;
    if (count == 0 || weir_table_disk_figures(aggregate->table).keys == 0 ||
        (!aggregate->unwindowed && times_us == NULL)) {
        return WEIR_OK;
    }
    int rc = weir_key_encode(aggregate->key, batch, sel, count, aggregate->prefix_bytes, keys);
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: no memory for %d keys", aggregate->declaration, count);
    }
    if (aggregate->every != 0) {
        rc = need_overlapping(aggregate, sel, count, times_us, err);
        return rc == WEIR_OK ? weir_table_load(aggregate->table, waits, err) : rc;
    }
    int64_t start = 0;
    int64_t end = 0;
    for (int32_t i = 0; i < count && !aggregate->unwindowed; i++) {
        int64_t time = times_us[sel != NULL ? sel[i] : i];
        if (time < start || time >= end) {
            weir_aggregate_window_of(aggregate, time, &start, &end);
        }
        memcpy(keys->bytes + keys->offsets[i], &start, WINDOW_BYTES);
    }
    weir_keys_hash(keys, weir_table_view(aggregate->table)->seed);
    return weir_table_need(aggregate->table, keys->bytes, keys->offsets, keys->hashes, count, waits,
                           err);
}

int weir_aggregate_bring(struct weir_aggregate *aggregate, bool *done, struct weir_error *err) {
    return weir_table_bring(aggregate->table, done, err);
}

int weir_aggregate_make_room(struct weir_aggregate *aggregate, bool *crowded,
                             struct weir_error *err) {
    *crowded = false;
    if (aggregate->disk->leaving.stage != STAGE_NONE) {
        return WEIR_OK; /* what was listed stays where it is */
    }
    return weir_table_make_room(aggregate->table, crowded, err);
}

struct weir_table_disk_figures weir_aggregate_disk_figures(const struct weir_aggregate *aggregate) {
    return weir_table_disk_figures(aggregate->table);
}

/* --- a window that leaves -------------------------------------------------------------------- */

bool aggregate_disk_fires(const struct weir_aggregate *aggregate) {
    const struct aggregate_disk *disk = aggregate->disk;
    if (disk == NULL || aggregate->unwindowed) {
        return false;
    }
    const struct weir_windows *windows = &aggregate->windows;
    const struct weir_window *first = &windows->windows[windows->heap[0]];
    return disk->leaving.stage != STAGE_NONE || first->cold > 0 || first->mixed;
}

static int add_entry(struct weir_aggregate *aggregate, uint64_t sequence, uint32_t number,
                     uint32_t run, struct weir_error *err) {
    struct leaving *leaving = &aggregate->disk->leaving;
    if (leaving->count == leaving->room) {
        size_t room = leaving->room == 0 ? LISTED : leaving->room * 2;
        struct entry *entries = realloc(leaving->entries, room * sizeof *entries);
        if (entries == NULL) {
            return no_memory(aggregate, err);
        }
        leaving->entries = entries;
        leaving->room = room;
    }
    leaving->entries[leaving->count++] = (struct entry){sequence, number, run};
    return WEIR_OK;
}

static int by_sequence(const void *a, const void *b) {
    uint64_t x = ((const struct entry *)a)->sequence;
    uint64_t y = ((const struct entry *)b)->sequence;
    return (x > y) - (x < y);
}

static uint64_t next_of(const struct leaving *leaving, size_t section) {
    return leaving->entries[leaving->sections[section].from].sequence;
}

static void sift_down(struct leaving *leaving, size_t at) {
    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= leaving->section_count) {
            return;
        }
        child += child + 1 < leaving->section_count &&
                 next_of(leaving, child + 1) < next_of(leaving, child);
        if (next_of(leaving, at) <= next_of(leaving, child)) {
            return;
        }
        struct section kept = leaving->sections[at];
        leaving->sections[at] = leaving->sections[child];
        leaving->sections[child] = kept;
        at = child;
    }
}

/* What was listed since the last one is a section. */
static int end_section(struct weir_aggregate *aggregate, struct weir_error *err) {
    struct leaving *leaving = &aggregate->disk->leaving;
    size_t from = leaving->section_count > 0 ? leaving->sections[leaving->section_count - 1].to : 0;
    if (from == leaving->count) {
        return WEIR_OK;
    }
    if (leaving->section_count == leaving->section_room) {
        size_t room = leaving->section_room == 0 ? RUNS_FIRST : leaving->section_room * 2;
        struct section *sections = realloc(leaving->sections, room * sizeof *sections);
        if (sections == NULL) {
            return no_memory(aggregate, err);
        }
        leaving->sections = sections;
        leaving->section_room = room;
    }
    qsort(leaving->entries + from, leaving->count - from, sizeof *leaving->entries, by_sequence);
    leaving->sections[leaving->section_count++] = (struct section){from, leaving->count};
    return WEIR_OK;
}

static int list_record(void *context, const struct weir_cold_record *record,
                       struct weir_error *err) {
    struct weir_aggregate *aggregate = context;
    uint64_t sequence;
    if (record->key_size < WINDOW_BYTES || record->value_size < SEQUENCE_BYTES) {
        return weir_error_set(err, WEIR_E_CORRUPT, "%s: a key on disk is damaged",
                              aggregate->declaration);
    }
    if (start_of(record->key) != aggregate->disk->leaving.start_us) {
        return WEIR_OK;
    }
    memcpy(&sequence, record->value, sizeof sequence);
    return add_entry(aggregate, sequence, record->tag, record->run, err);
}

/* Of the window's runs, one after the other. *waits: one is being read. */
static int list_runs(struct weir_aggregate *aggregate, bool *waits, struct weir_error *err) {
    struct leaving *leaving = &aggregate->disk->leaving;
    struct weir_cold_keys *keys = weir_table_cold_keys(aggregate->table);
    const struct weir_window *window = weir_windows_first(&aggregate->windows);
    int rc = WEIR_OK;
    *waits = false;
    while (rc == WEIR_OK && !*waits && (leaving->reads || leaving->run_at < window->run_count)) {
        if (!leaving->reads) {
            rc = weir_cold_keys_read(keys, window->runs[leaving->run_at++], &leaving->reads, err);
            continue;
        }
        bool done;
        rc = weir_cold_keys_have_read(keys, list_record, aggregate, &done, err);
        *waits = rc == WEIR_OK && !done;
        if (rc == WEIR_OK && done) {
            leaving->reads = false;
            rc = end_section(aggregate, err);
        }
    }
    if (rc == WEIR_OK && !*waits) {
        leaving->stage = STAGE_SLOTS;
        leaving->slot_at = window->head;
    }
    return rc;
}

static int list_slots(struct weir_aggregate *aggregate, struct weir_error *err) {
    struct leaving *leaving = &aggregate->disk->leaving;
    int rc = WEIR_OK;
    for (int i = 0; rc == WEIR_OK && leaving->slot_at != 0 && i < LISTED; i++) {
        const struct weir_slot *slot = weir_table_slot(aggregate->table, leaving->slot_at);
        rc = add_entry(aggregate, slot->sequence, slot->number, 0, err);
        leaving->slot_at = slot->link;
    }
    rc = rc == WEIR_OK ? end_section(aggregate, err) : rc;
    if (rc == WEIR_OK && leaving->slot_at == 0) {
        for (size_t i = leaving->section_count / 2; i > 0; i--) {
            sift_down(leaving, i - 1);
        }
        leaving->stage = STAGE_CHUNK;
    }
    return rc;
}

static void take_chunk(struct leaving *leaving) {
    leaving->chunk_count = leaving->chunk_at = leaving->loaded_count = 0;
    while (leaving->chunk_count < CHUNK && leaving->section_count > 0) {
        struct section *first = &leaving->sections[0];
        leaving->chunk[leaving->chunk_count++] = leaving->entries[first->from++];
        if (first->from == first->to) {
            *first = leaving->sections[--leaving->section_count];
        }
        sift_down(leaving, 0);
    }
}

/* The next groups; *waits: some of them are being loaded. */
static int begin_chunk(struct weir_aggregate *aggregate, struct weir_error *err) {
    struct leaving *leaving = &aggregate->disk->leaving;
    struct weir_cold_keys *keys = weir_table_cold_keys(aggregate->table);
    int rc = WEIR_OK;
    bool waits;
    take_chunk(leaving);
    for (int32_t i = 0; rc == WEIR_OK && i < leaving->chunk_count; i++) {
        const struct entry *entry = &leaving->chunk[i];
        if (entry->run != 0) {
            rc = weir_cold_keys_want_record(keys, entry->number, entry->run, err);
        }
    }
    leaving->stage = STAGE_LOAD;
    return rc == WEIR_OK ? weir_cold_keys_load(keys, &waits, err) : rc;
}

static int load_chunk(struct weir_aggregate *aggregate, bool *waits, struct weir_error *err) {
    struct leaving *leaving = &aggregate->disk->leaving;
    bool done;
    int rc = weir_table_bring(aggregate->table, &done, err);
    *waits = rc == WEIR_OK && !done;
    if (rc != WEIR_OK || !done) {
        return rc;
    }
    qsort(leaving->loaded, (size_t)leaving->loaded_count, sizeof *leaving->loaded, by_sequence);
    int32_t at = 0;
    for (int32_t i = 0; i < leaving->chunk_count; i++) {
        struct entry *entry = &leaving->chunk[i];
        if (entry->run == 0) {
            continue;
        }
        if (at == leaving->loaded_count || leaving->loaded[at].sequence != entry->sequence) {
            return weir_error_set(err, WEIR_E_CORRUPT, "%s: a key on disk is not where it was",
                                  aggregate->declaration);
        }
        *entry = leaving->loaded[at++];
    }
    leaving->stage = STAGE_EMIT;
    return WEIR_OK;
}

static int emit_chunk(struct weir_aggregate *aggregate, struct weir_batch_builder *out,
                      int32_t max_rows, bool *full, struct weir_error *err) {
    struct leaving *leaving = &aggregate->disk->leaving;
    *full = false;
    while (leaving->chunk_at < leaving->chunk_count) {
        if (out->rows >= max_rows || out->rows == out->rows_max) {
            *full = true;
            return WEIR_OK;
        }
        struct weir_slot *slot =
            weir_table_slot(aggregate->table, leaving->chunk[leaving->chunk_at].number);
        bool empty = aggregate->changes != NULL || /* they have left already */
                     (aggregate->measures.retracts && weir_aggregate_has_no_rows(aggregate, slot));
        int rc = empty ? WEIR_OK : weir_aggregate_emit_slot(aggregate, slot, out, full, err);
        if (rc == WEIR_OK && !*full) {
            rc = weir_aggregate_delete_slot(aggregate, slot, err);
        }
        if (rc != WEIR_OK || *full) {
            return rc;
        }
        leaving->chunk_at++;
    }
    leaving->stage = STAGE_CHUNK;
    return WEIR_OK;
}

static void begin(struct weir_aggregate *aggregate) {
    struct leaving *leaving = &aggregate->disk->leaving;
    leaving->stage = STAGE_RUNS;
    leaving->start_us = weir_windows_first(&aggregate->windows)->start_us;
    leaving->run_at = 0;
    leaving->reads = false;
    leaving->count = leaving->section_count = 0;
}

static void end(struct weir_aggregate *aggregate) {
    struct leaving *leaving = &aggregate->disk->leaving;
    weir_windows_remove_first(&aggregate->windows);
    free(leaving->entries);
    leaving->entries = NULL;
    leaving->room = 0;
    leaving->stage = STAGE_NONE;
}

int aggregate_disk_fire(struct weir_aggregate *aggregate, struct weir_batch_builder *out,
                        int32_t max_rows, bool *done, enum weir_fired *fired,
                        struct weir_error *err) {
    struct leaving *leaving = &aggregate->disk->leaving;
    bool waits = false;
    bool full = false;
    int rc = WEIR_OK;
    *done = false;
    *fired = WEIR_FIRED_SOME;
    switch (leaving->stage) {
    case STAGE_NONE:
        begin(aggregate);
        break;
    case STAGE_RUNS:
        rc = list_runs(aggregate, &waits, err);
        break;
    case STAGE_SLOTS:
        rc = list_slots(aggregate, err);
        break;
    case STAGE_CHUNK:
        if (leaving->section_count == 0) {
            end(aggregate);
            *done = true;
        } else {
            rc = begin_chunk(aggregate, err);
        }
        break;
    case STAGE_LOAD:
        rc = load_chunk(aggregate, &waits, err);
        break;
    case STAGE_EMIT:
        rc = emit_chunk(aggregate, out, max_rows, &full, err);
        break;
    }
    *fired = waits ? WEIR_FIRED_WAITS : full ? WEIR_FIRED_FULL : WEIR_FIRED_SOME;
    return rc;
}

bool weir_aggregate_awaits(struct weir_aggregate *aggregate) {
    struct leaving *leaving = &aggregate->disk->leaving;
    struct weir_cold_keys *keys = weir_table_cold_keys(aggregate->table);
    if (weir_cold_keys_failure(keys, NULL) != WEIR_OK) {
        return false; /* whoever goes on hears of it */
    }
    bool waits = leaving->stage == STAGE_RUNS ? leaving->reads : leaving->stage == STAGE_LOAD;
    return waits && !weir_cold_keys_arrived(keys);
}
