#include "operator/aggregate/members.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    INDEX_AHEAD = 24,
    SLOT_AHEAD = 12,
    REAP_MEMBERS = 1024, /* members of emitted windows freed a call */
    DEAD_MAX = 64        /* members no row has, beside as many as some row has */
};

static struct weir_distinct_cell load(const uint8_t *value, const struct weir_measure_cell *cell) {
    struct weir_distinct_cell distinct;
    memcpy(&distinct, value + cell->offset, sizeof distinct);
    return distinct;
}

static void store(uint8_t *value, const struct weir_measure_cell *cell,
                  struct weir_distinct_cell distinct) {
    memcpy(value + cell->offset, &distinct, sizeof distinct);
}

static int64_t rows_of(const struct weir_aggregate *aggregate, struct weir_slot *member) {
    int64_t rows = 1;
    if (aggregate->measures.retracts) {
        memcpy(&rows, weir_slot_value(aggregate->members, member), sizeof rows);
    }
    return rows;
}

static void set_rows(const struct weir_aggregate *aggregate, struct weir_slot *member,
                     int64_t rows) {
    memcpy(weir_slot_value(aggregate->members, member), &rows, sizeof rows);
}

static int no_memory(const struct weir_aggregate *aggregate, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory to note a change",
                          weir_table_name(aggregate->members));
}

static bool is_extreme(const struct weir_measure_cell *cell) {
    return cell->measure.kind != WEIR_MEASURE_DISTINCT;
}

static int set_extreme(struct weir_aggregate *aggregate, int32_t m, uint8_t *value,
                       const struct weir_slot *member, struct weir_error *err) {
    const uint8_t *key = member != NULL ? weir_slot_key(aggregate->members, member) : NULL;
    return weir_extreme_set(&aggregate->measures, m, value, key != NULL ? key + MEMBER_BYTES : NULL,
                            member != NULL ? member->key_bytes - MEMBER_BYTES : 0, err);
}

static int compare_extreme(const struct weir_aggregate *aggregate,
                           const struct weir_measure_cell *cell, const uint8_t *value,
                           const struct weir_slot *member) {
    return weir_extreme_compare(cell, value,
                                weir_slot_key(aggregate->members, member) + MEMBER_BYTES,
                                member->key_bytes - MEMBER_BYTES);
}

/* Drops the members no row has, and finds the best of the others. */
static int go_through(struct weir_aggregate *aggregate, int32_t m, uint8_t *value,
                      struct weir_error *err) {
    const struct weir_measure_cell *cell = &aggregate->measures.cells[m];
    struct weir_distinct_cell distinct = load(value, cell);
    uint32_t *at = &distinct.head;
    int rc = is_extreme(cell) ? set_extreme(aggregate, m, value, NULL, err) : WEIR_OK;
    bool any = false;
    while (*at != 0 && rc == WEIR_OK) {
        struct weir_slot *member = weir_table_slot(aggregate->members, *at);
        if (rows_of(aggregate, member) > 0) {
            if (is_extreme(cell) && (!any || compare_extreme(aggregate, cell, value, member) > 0)) {
                rc = set_extreme(aggregate, m, value, member, err);
            }
            any = true;
            at = &member->link;
            continue;
        }
        *at = member->link;
        if (weir_table_delete(aggregate->members, member, false) != WEIR_OK) {
            rc = no_memory(aggregate, err);
        }
    }
    distinct.dead = 0;
    store(value, cell, distinct);
    return rc;
}

static int add_row(struct weir_aggregate *aggregate, int32_t m, uint8_t *value,
                   struct weir_slot *member, bool created, struct weir_error *err) {
    const struct weir_measure_cell *cell = &aggregate->measures.cells[m];
    struct weir_distinct_cell distinct = load(value, cell);
    if (created) {
        member->link = distinct.head;
        distinct.head = member->number;
    }
    if (!aggregate->measures.retracts) {
        distinct.count += created;
        store(value, cell, distinct);
        return WEIR_OK;
    }
    if (weir_table_touch(aggregate->members, member) != WEIR_OK) {
        return no_memory(aggregate, err);
    }
    int64_t rows = rows_of(aggregate, member);
    set_rows(aggregate, member, rows + 1);
    if (rows > 0) {
        return WEIR_OK;
    }
    distinct.count++;
    distinct.dead -= !created;
    store(value, cell, distinct);
    if (is_extreme(cell) &&
        (distinct.count == 1 || compare_extreme(aggregate, cell, value, member) > 0)) {
        return set_extreme(aggregate, m, value, member, err);
    }
    return WEIR_OK;
}

static int take_row(struct weir_aggregate *aggregate, int32_t m, uint8_t *value,
                    struct weir_slot *member, struct weir_error *err) {
    const struct weir_measure_cell *cell = &aggregate->measures.cells[m];
    int64_t rows = member != NULL ? rows_of(aggregate, member) : 0;
    if (rows <= 0) {
        return WEIR_OK; /* it was never added */
    }
    if (weir_table_touch(aggregate->members, member) != WEIR_OK) {
        return no_memory(aggregate, err);
    }
    set_rows(aggregate, member, rows - 1);
    if (rows > 1) {
        return WEIR_OK;
    }
    struct weir_distinct_cell distinct = load(value, cell);
    distinct.count--;
    distinct.dead++;
    store(value, cell, distinct);
    bool best = is_extreme(cell) && compare_extreme(aggregate, cell, value, member) == 0;
    return best || distinct.dead > distinct.count + DEAD_MAX ? go_through(aggregate, m, value, err)
                                                             : WEIR_OK;
}

static int encode(struct weir_aggregate *aggregate, int32_t m, int32_t from, int32_t count,
                  const struct weir_column *input, struct weir_error *err) {
    struct weir_keys *keys = &aggregate->member_keys;
    int rc = weir_key_encode_columns(aggregate->measures.cells[m].member_key, &input,
                                     aggregate->rows + from, count, MEMBER_BYTES, keys);
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: no memory for the keys of %d rows",
                              weir_table_name(aggregate->members), count);
    }
    uint16_t measure = (uint16_t)m;
    for (int32_t i = 0; i < count; i++) {
        uint8_t *at = keys->bytes + keys->offsets[i];
        memcpy(at, &aggregate->slots[from + i]->sequence, sizeof(uint64_t));
        memcpy(at + sizeof(uint64_t), &measure, sizeof measure);
    }
    weir_keys_hash(keys, weir_table_view(aggregate->members)->seed);
    return WEIR_OK;
}

int weir_members_add(struct weir_aggregate *aggregate, int32_t m, int32_t from, int32_t to,
                     const struct weir_column *input, const uint8_t *mask, bool take_back,
                     struct weir_error *err) {
    const struct weir_keys *keys = &aggregate->member_keys;
    struct weir_table *members = aggregate->members;
    int32_t count = to - from;
    int rc = encode(aggregate, m, from, count, input, err);
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        if (i + INDEX_AHEAD < count) {
            weir_table_prefetch(members, keys->hashes[i + INDEX_AHEAD]);
        }
        if (i + SLOT_AHEAD < count) {
            weir_table_prefetch_slot(members, keys->hashes[i + SLOT_AHEAD]);
        }
        if (keys->any_null[i] || (mask != NULL && mask[aggregate->positions[from + i]] != 1)) {
            continue;
        }
        const uint8_t *key = keys->bytes + keys->offsets[i];
        size_t length = keys->offsets[i + 1] - keys->offsets[i];
        uint8_t *value = aggregate->values[from + i];
        if (take_back) {
            rc = take_row(aggregate, m, value,
                          weir_table_find(members, keys->hashes[i], key, length), err);
            continue;
        }
        bool created;
        struct weir_slot *member =
            weir_table_get(members, keys->hashes[i], key, length, &created, err);
        if (member == NULL) {
            return err != NULL ? err->code : WEIR_E_LIMIT;
        }
        rc = add_row(aggregate, m, value, member, created, err);
    }
    return rc;
}

int weir_members_move(struct weir_aggregate *aggregate, struct weir_slot *into,
                      struct weir_slot *from, struct weir_error *err) {
    struct weir_table *members = aggregate->members;
    for (int32_t m = 0; m < aggregate->measures.count; m++) {
        const struct weir_measure_cell *cell = &aggregate->measures.cells[m];
        if (!cell->of_members) {
            continue;
        }
        uint8_t *at = (uint8_t *)weir_slot_value(aggregate->table, into) + cell->offset;
        struct weir_distinct_cell distinct;
        struct weir_distinct_cell other;
        memcpy(&distinct, at, sizeof distinct);
        memcpy(&other, (uint8_t *)weir_slot_value(aggregate->table, from) + cell->offset,
               sizeof other);
        for (uint32_t n = other.head; n != 0; n = weir_table_slot(members, n)->link) {
            const struct weir_slot *member = weir_table_slot(members, n);
            struct weir_buffer *key = &aggregate->moved_key;
            weir_buffer_clear(key);
            int rc = weir_buffer_append(key, &into->sequence, sizeof into->sequence);
            if (rc == WEIR_OK) {
                rc = weir_buffer_append(key, weir_slot_key(members, member) + sizeof into->sequence,
                                        member->key_bytes - sizeof into->sequence);
            }
            if (rc != WEIR_OK) {
                return weir_error_set(err, rc, "%s: no memory to join two windows",
                                      weir_table_name(members));
            }
            bool created;
            struct weir_slot *moved =
                weir_table_get(members, weir_table_hash(members, key->data, key->size), key->data,
                               key->size, &created, err);
            if (moved == NULL) {
                return err != NULL ? err->code : WEIR_E_LIMIT;
            }
            if (created) {
                moved->link = distinct.head;
                distinct.head = moved->number;
                distinct.count++;
            }
        }
        memcpy(at, &distinct, sizeof distinct);
    }
    return WEIR_OK;
}

int weir_members_bury(struct weir_aggregate *aggregate, const uint8_t *value,
                      struct weir_error *err) {
    for (int32_t m = 0; m < aggregate->measures.count; m++) {
        const struct weir_measure_cell *cell = &aggregate->measures.cells[m];
        struct weir_distinct_cell distinct;
        if (!cell->of_members) {
            continue;
        }
        memcpy(&distinct, value + cell->offset, sizeof distinct);
        if (distinct.head == 0) {
            continue;
        }
        if (aggregate->grave_count == aggregate->grave_capacity) {
            size_t capacity = aggregate->grave_capacity == 0 ? 64 : aggregate->grave_capacity * 2;
            uint32_t *graves = realloc(aggregate->graves, capacity * sizeof *graves);
            if (graves == NULL) {
                return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory to delete",
                                      weir_table_name(aggregate->members));
            }
            aggregate->graves = graves;
            aggregate->grave_capacity = capacity;
        }
        aggregate->graves[aggregate->grave_count++] = distinct.head;
    }
    return WEIR_OK;
}

int weir_members_reap(struct weir_aggregate *aggregate, struct weir_error *err) {
    for (int left = REAP_MEMBERS; left > 0 && aggregate->grave_count > 0; left--) {
        uint32_t *head = &aggregate->graves[aggregate->grave_count - 1];
        struct weir_slot *member = weir_table_slot(aggregate->members, *head);
        uint32_t next = member->link;
        int rc = weir_table_delete(aggregate->members, member, true);
        if (rc != WEIR_OK) {
            return weir_error_set(err, rc, "%s: no memory to delete",
                                  weir_table_name(aggregate->members));
        }
        *head = next;
        aggregate->grave_count -= next == 0;
    }
    return WEIR_OK;
}

int weir_members_restore(struct weir_aggregate *aggregate, struct weir_slot *member,
                         const struct weir_ordered_slot *owners, size_t owner_count,
                         struct weir_error *err) {
    const uint8_t *key = weir_slot_key(aggregate->members, member);
    struct weir_ordered_slot wanted = {0};
    uint16_t m = UINT16_MAX;
    if (member->key_bytes > MEMBER_BYTES) {
        memcpy(&wanted.sequence, key, sizeof wanted.sequence);
        memcpy(&m, key + sizeof wanted.sequence, sizeof m);
    }
    if (m >= aggregate->measures.count || !aggregate->measures.cells[m].of_members) {
        return weir_error_set(err, WEIR_E_CORRUPT, "%s: a key in the state does not parse",
                              weir_table_name(aggregate->members));
    }
    const struct weir_ordered_slot *owner =
        bsearch(&wanted, owners, owner_count, sizeof *owners, weir_compare_sequence);
    if (owner == NULL || rows_of(aggregate, member) <= 0) {
        return weir_table_delete(aggregate->members, member, true);
    }
    uint8_t *value =
        weir_slot_value(aggregate->table, weir_table_slot(aggregate->table, owner->number));
    struct weir_distinct_cell distinct;
    uint8_t *at = value + aggregate->measures.cells[m].offset;
    memcpy(&distinct, at, sizeof distinct);
    member->link = distinct.head;
    distinct.head = member->number;
    distinct.dead++; /* counts members for weir_members_check; cleared there */
    memcpy(at, &distinct, sizeof distinct);
    return WEIR_OK;
}

int weir_members_check(struct weir_aggregate *aggregate, const struct weir_ordered_slot *owners,
                       size_t owner_count, struct weir_error *err) {
    for (size_t i = 0; i < owner_count; i++) {
        uint8_t *value =
            weir_slot_value(aggregate->table, weir_table_slot(aggregate->table, owners[i].number));
        for (int32_t m = 0; m < aggregate->measures.count; m++) {
            const struct weir_measure_cell *cell = &aggregate->measures.cells[m];
            struct weir_distinct_cell distinct;
            if (cell->measure.kind != WEIR_MEASURE_DISTINCT) {
                continue;
            }
            memcpy(&distinct, value + cell->offset, sizeof distinct);
            if (distinct.count != distinct.dead) {
                return weir_error_set(err, WEIR_E_CORRUPT,
                                      "%s: measure '%s' counts %" PRIu64 " members, %u are there",
                                      weir_table_name(aggregate->members), cell->measure.name,
                                      distinct.count, distinct.dead);
            }
            distinct.dead = 0;
            memcpy(value + cell->offset, &distinct, sizeof distinct);
        }
    }
    return WEIR_OK;
}
