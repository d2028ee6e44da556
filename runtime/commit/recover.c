/* Recovery. The keyed sections of snapshot and records are merged into one sorted list a section;
 * the latest wins, nil removes. */
#include "commit/recover.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAX_KEYS ((size_t)1 << 24)

struct keyed {
    struct weir_keyed_entry *list; /* by key; key and body owned */
    size_t count;
    size_t capacity;
};

struct weir_recovery {
    struct weir_ledger *ledger;
    uint64_t last;
    int64_t sealed_at_us;
    uint64_t snapshot_end;
    uint64_t applied;
    uint32_t damaged;
    uint8_t *rule_set;
    size_t rule_set_size;
    struct keyed keyed[WEIR_SECTION_COUNT_];
};

static void entry_free(struct weir_keyed_entry *entry) {
    free((void *)(uintptr_t)entry->key.data);
    free((void *)(uintptr_t)entry->body.data);
}

void weir_recovery_destroy(struct weir_recovery *recovery) {
    if (recovery == NULL) {
        return;
    }
    for (int s = 0; s < WEIR_SECTION_COUNT_; s++) {
        for (size_t i = 0; i < recovery->keyed[s].count; i++) {
            entry_free(&recovery->keyed[s].list[i]);
        }
        free(recovery->keyed[s].list);
    }
    free(recovery->rule_set);
    free(recovery);
}

static int compare(struct weir_span a, const void *key, size_t size) {
    int order = memcmp(a.data, key, a.size < size ? a.size : size);
    return order != 0 ? order : a.size < size ? -1 : a.size > size;
}

/* Index of the key, or where it belongs. */
static size_t locate(const struct keyed *keyed, const void *key, size_t size, bool *found) {
    size_t low = 0;
    size_t high = keyed->count;
    *found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare(keyed->list[middle].key, key, size);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool copy_span(struct weir_span from, struct weir_span *out) {
    uint8_t *bytes = malloc(from.size > 0 ? from.size : 1);
    if (bytes != NULL && from.size > 0) {
        memcpy(bytes, from.data, from.size);
    }
    *out = (struct weir_span){bytes, from.size};
    return bytes != NULL;
}

static int make_room(struct keyed *keyed) {
    if (keyed->count < keyed->capacity) {
        return WEIR_OK;
    }
    size_t capacity = keyed->capacity == 0 ? 16 : keyed->capacity * 2;
    if (capacity > MAX_KEYS) {
        return WEIR_E_LIMIT;
    }
    struct weir_keyed_entry *list = realloc(keyed->list, capacity * sizeof *list);
    if (list == NULL) {
        return WEIR_E_NOMEM;
    }
    keyed->list = list;
    keyed->capacity = capacity;
    return WEIR_OK;
}

static int merge_one(struct keyed *keyed, const struct weir_keyed_entry *entry) {
    bool found;
    size_t at = locate(keyed, entry->key.data, entry->key.size, &found);
    if (entry->removed) {
        if (found) {
            entry_free(&keyed->list[at]);
            keyed->count--;
            memmove(keyed->list + at, keyed->list + at + 1,
                    (keyed->count - at) * sizeof *keyed->list);
        }
        return WEIR_OK;
    }
    struct weir_keyed_entry copy = *entry;
    int rc = found ? WEIR_OK : make_room(keyed);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (!copy_span(entry->body, &copy.body)) {
        return WEIR_E_NOMEM;
    }
    if (found) {
        copy.key = keyed->list[at].key;
        free((void *)(uintptr_t)keyed->list[at].body.data);
    } else {
        if (!copy_span(entry->key, &copy.key)) {
            free((void *)(uintptr_t)copy.body.data);
            return WEIR_E_NOMEM;
        }
        memmove(keyed->list + at + 1, keyed->list + at, (keyed->count - at) * sizeof *keyed->list);
        keyed->count++;
    }
    keyed->list[at] = copy;
    return WEIR_OK;
}

static int merge(struct weir_recovery *recovery, const struct weir_record_view *record,
                 struct weir_error *err) {
    for (int s = 0; s < WEIR_SECTION_COUNT_; s++) {
        struct weir_section_iterator it = weir_section_iterate(record->keyed[s]);
        struct weir_keyed_entry entry;
        while (weir_keyed_next(&it, &entry)) {
            int rc = merge_one(&recovery->keyed[s], &entry);
            if (rc != WEIR_OK) {
                return weir_error_set(err, rc, "recovery: %s of record %" PRIu64 ": %s",
                                      weir_section_name((enum weir_section)s), record->epoch,
                                      weir_error_text(rc));
            }
        }
    }
    if (record->rule_set.size > 0) {
        struct weir_span copy;
        if (!copy_span(record->rule_set, &copy)) {
            return weir_error_set(err, WEIR_E_NOMEM, "recovery: out of memory");
        }
        free(recovery->rule_set);
        recovery->rule_set = (uint8_t *)(uintptr_t)copy.data;
        recovery->rule_set_size = copy.size;
    }
    return WEIR_OK;
}

static int load_snapshot(struct weir_recovery *recovery, struct weir_snapshots *snapshots,
                         const struct weir_recovery_hooks *hooks, uint64_t *from,
                         struct weir_error *err) {
    struct weir_snapshot *snapshot = NULL;
    int rc = weir_snapshot_load(snapshots, recovery->last, &snapshot, &recovery->damaged, err);
    if (rc != WEIR_OK || snapshot == NULL) {
        return rc;
    }
    *from = weir_snapshot_view_begin(snapshot);
    recovery->snapshot_end = weir_snapshot_view_end(snapshot);
    rc = merge(recovery, weir_snapshot_view_state(snapshot), err);
    while (rc == WEIR_OK && hooks->slice != NULL) {
        struct weir_span table;
        struct weir_span bytes;
        bool end;
        rc = weir_snapshot_next(snapshot, &table, &bytes, &end, err);
        if (rc != WEIR_OK || end) {
            break;
        }
        rc = hooks->slice(hooks->context, table, bytes, err);
    }
    weir_snapshot_close(snapshot);
    return rc;
}

static int parse_frame(const struct weir_ledger_frame *frame, struct weir_record_view *view,
                       struct weir_error *err) {
    int rc = weir_record_parse(frame->payload, frame->size, view, err);
    if (rc == WEIR_OK && view->epoch != frame->number) {
        rc = weir_error_set(err, WEIR_E_CORRUPT, "its record says epoch %" PRIu64, view->epoch);
    }
    if (rc != WEIR_OK) {
        weir_error_wrap(err, "record %" PRIu64, frame->number);
    }
    return rc;
}

static int apply_records(struct weir_recovery *recovery, const struct weir_recovery_hooks *hooks,
                         uint64_t from, struct weir_error *err) {
    struct weir_ledger_cursor *cursor = NULL;
    int rc = weir_ledger_cursor_open(recovery->ledger, from, &cursor, err);
    while (rc == WEIR_OK) {
        struct weir_ledger_frame frame;
        struct weir_record_view view;
        bool end;
        rc = weir_ledger_cursor_next(cursor, &frame, &end, err);
        if (rc != WEIR_OK || end) {
            break;
        }
        rc = parse_frame(&frame, &view, err);
        if (rc == WEIR_OK) {
            rc = merge(recovery, &view, err);
        }
        if (rc == WEIR_OK && hooks->apply != NULL) {
            rc = hooks->apply(hooks->context, &view, err);
        }
        recovery->applied += rc == WEIR_OK ? 1 : 0;
        recovery->sealed_at_us = view.sealed_at_us;
    }
    weir_ledger_cursor_close(cursor);
    return rc;
}

int weir_recover(struct weir_ledger *ledger, struct weir_snapshots *snapshots,
                 const struct weir_recovery_hooks *hooks, struct weir_recovery **out,
                 struct weir_error *err) {
    *out = NULL;
    struct weir_recovery *recovery = calloc(1, sizeof *recovery);
    uint64_t from = 1;
    if (recovery == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "recovery: out of memory");
    }
    recovery->ledger = ledger;
    recovery->last = ledger->last;
    int rc = snapshots != NULL ? load_snapshot(recovery, snapshots, hooks, &from, err) : WEIR_OK;
    if (rc == WEIR_OK && from < ledger->first) {
        rc = weir_error_set(err, WEIR_E_CORRUPT,
                            "recovery needs record %" PRIu64 ", but the ledger begins at %" PRIu64
                            " and %u snapshots are damaged or missing: restore the snapshot "
                            "directory from a copy, or start anew from a savepoint",
                            from, ledger->first, recovery->damaged);
    }
    if (rc == WEIR_OK && recovery->last > 0) {
        rc = apply_records(recovery, hooks, from, err);
    }
    if (rc != WEIR_OK) {
        weir_recovery_destroy(recovery);
        return rc;
    }
    *out = recovery;
    return WEIR_OK;
}

uint64_t weir_recovery_last(const struct weir_recovery *recovery) {
    return recovery->last;
}

int64_t weir_recovery_sealed_at_us(const struct weir_recovery *recovery) {
    return recovery->sealed_at_us;
}

struct weir_span weir_recovery_rule_set(const struct weir_recovery *recovery) {
    return (struct weir_span){recovery->rule_set, recovery->rule_set_size};
}

uint64_t weir_recovery_snapshot_end(const struct weir_recovery *recovery) {
    return recovery->snapshot_end;
}

uint32_t weir_recovery_damaged_snapshots(const struct weir_recovery *recovery) {
    return recovery->damaged;
}

uint64_t weir_recovery_records_applied(const struct weir_recovery *recovery) {
    return recovery->applied;
}

bool weir_recovery_find(const struct weir_recovery *recovery, enum weir_section section,
                        const char *key, size_t key_size, struct weir_keyed_entry *out) {
    bool found;
    size_t at = locate(&recovery->keyed[section], key, key_size, &found);
    if (found) {
        *out = recovery->keyed[section].list[at];
    }
    return found;
}

size_t weir_recovery_count(const struct weir_recovery *recovery, enum weir_section section) {
    return recovery->keyed[section].count;
}

const struct weir_keyed_entry *weir_recovery_entry(const struct weir_recovery *recovery,
                                                   enum weir_section section, size_t i) {
    return i < recovery->keyed[section].count ? &recovery->keyed[section].list[i] : NULL;
}

int weir_recovery_put_all(const struct weir_recovery *recovery, struct weir_record *record,
                          struct weir_error *err) {
    for (int s = 0; s < WEIR_SECTION_COUNT_; s++) {
        enum weir_section section = (enum weir_section)s;
        for (size_t i = 0; i < recovery->keyed[s].count && section != WEIR_SECTION_DIGESTS; i++) {
            const struct weir_keyed_entry *entry = &recovery->keyed[s].list[i];
            const char *key = (const char *)entry->key.data;
            int rc = entry->is_int ? weir_record_put_int(record, section, key, entry->key.size,
                                                         entry->number, err)
                                   : weir_record_put_bytes(record, section, key, entry->key.size,
                                                           entry->body.data, entry->body.size, err);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
    }
    return WEIR_OK;
}

/* Whether this marker can be the continuation of what the ledger knows. */
static int check_marker(const struct weir_recovery *recovery, const char *sink, uint64_t marker,
                        uint64_t *from, struct weir_error *err) {
    struct weir_keyed_entry known;
    bool has_known = weir_recovery_find(recovery, WEIR_SECTION_MARKERS, sink, strlen(sink), &known);
    uint64_t done = has_known && known.is_int ? (uint64_t)known.number : 0;
    char key[WEIR_MARKER_KEY_BYTES];
    size_t key_size = weir_marker_held_key(sink, key);
    uint64_t held = done; /* done without effects leaves no marker in the sink */
    if (weir_recovery_find(recovery, WEIR_SECTION_MARKERS, key, key_size, &known) && known.is_int) {
        held = (uint64_t)known.number;
    }
    if (marker > recovery->last) {
        return weir_error_set(err, WEIR_E_STATE,
                              "sink %s has applied record %" PRIu64 ", but the ledger ends at "
                              "%" PRIu64 ": the ledger lost its end or is not this sink's; restore "
                              "it from a copy, or write into a new table",
                              sink, marker, recovery->last);
    }
    if (marker < held) {
        return weir_error_set(err, WEIR_E_STATE,
                              "sink %s holds marker %" PRIu64 ", but the ledger knows %" PRIu64
                              " as done: the table was replaced or rolled back; restore it, or "
                              "start a new lineage that says what becomes of its outputs",
                              sink, marker, held);
    }
    *from = (marker > done ? marker : done) + 1;
    if (*from < recovery->ledger->first && !has_known) {
        *from = recovery->ledger->first; /* new, or written again: no older record can owe it */
        return WEIR_OK;
    }
    if (*from < recovery->ledger->first) {
        return weir_error_set(err, WEIR_E_STATE,
                              "sink %s needs record %" PRIu64 ", but the ledger begins at %" PRIu64
                              ": restore the older segments, or write into a new table",
                              sink, *from, recovery->ledger->first);
    }
    return WEIR_OK;
}

uint64_t weir_recovery_held(const struct weir_recovery *recovery, const char *sink) {
    struct weir_keyed_entry known;
    char key[WEIR_MARKER_KEY_BYTES];
    size_t key_size = weir_marker_held_key(sink, key);
    bool found = weir_recovery_find(recovery, WEIR_SECTION_MARKERS, key, key_size, &known);
    return found && known.is_int ? (uint64_t)known.number : 0;
}

int weir_recovery_done(const struct weir_recovery *recovery, const char *sink, uint64_t marker,
                       uint64_t *done, struct weir_error *err) {
    uint64_t from = 1;
    int rc = check_marker(recovery, sink, marker, &from, err);
    *done = from - 1;
    return rc;
}

int weir_recovery_effects(struct weir_recovery *recovery, const char *sink, uint64_t marker,
                          int (*effect)(void *context, uint64_t record, uint64_t kind,
                                        struct weir_span body, struct weir_error *err),
                          void *context, struct weir_error *err) {
    struct weir_ledger_cursor *cursor = NULL;
    size_t sink_size = strlen(sink);
    uint64_t from = 0;
    int rc = check_marker(recovery, sink, marker, &from, err);
    if (rc == WEIR_OK) {
        rc = weir_ledger_cursor_open(recovery->ledger, from, &cursor, err);
    }
    while (rc == WEIR_OK) {
        struct weir_ledger_frame frame;
        struct weir_record_view view;
        struct weir_named_blob blob;
        bool end;
        rc = weir_ledger_cursor_next(cursor, &frame, &end, err);
        if (rc != WEIR_OK || end) {
            break;
        }
        rc = parse_frame(&frame, &view, err);
        struct weir_section_iterator it = weir_section_iterate(view.effects);
        while (rc == WEIR_OK && weir_effect_next(&it, &blob)) {
            if (blob.name.size == sink_size && memcmp(blob.name.data, sink, sink_size) == 0) {
                rc = effect(context, frame.number, blob.kind, blob.body, err);
            }
        }
    }
    weir_ledger_cursor_close(cursor);
    return rc;
}
