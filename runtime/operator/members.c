#include "operator/members.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    INDEX_AHEAD = 24,
    SLOT_AHEAD = 12,
    REAP_MEMBERS = 2048 /* members of emitted windows freed a call */
};

int weir_members_add(struct weir_aggregate *aggregate, int32_t m, int32_t from, int32_t to,
                     const struct weir_column *input, const uint8_t *mask, struct weir_error *err) {
    int32_t count = to - from;
    struct weir_slot *const *slots = aggregate->slots + from;
    uint8_t *const *values = aggregate->values + from;
    const int32_t *positions = aggregate->positions + from;
    const struct weir_measure_cell *cell = &aggregate->measures.cells[m];
    struct weir_keys *keys = &aggregate->member_keys;
    struct weir_table *members = aggregate->members;
    int rc = weir_key_encode_columns(cell->member_key, &input, aggregate->rows + from, count,
                                     MEMBER_BYTES, keys);
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: no memory for the keys of %d rows",
                              weir_table_name(members), count);
    }
    uint16_t measure = (uint16_t)m;
    for (int32_t i = 0; i < count; i++) {
        uint8_t *at = keys->bytes + keys->offsets[i];
        memcpy(at, &slots[i]->sequence, sizeof(uint64_t));
        memcpy(at + sizeof(uint64_t), &measure, sizeof measure);
    }
    weir_keys_hash(keys, weir_table_view(members)->seed);
    for (int32_t i = 0; i < count; i++) {
        if (i + INDEX_AHEAD < count) {
            weir_table_prefetch(members, keys->hashes[i + INDEX_AHEAD]);
        }
        if (i + SLOT_AHEAD < count) {
            weir_table_prefetch_slot(members, keys->hashes[i + SLOT_AHEAD]);
        }
        if (keys->any_null[i] || (mask != NULL && mask[positions[i]] != 1)) {
            continue;
        }
        bool created;
        struct weir_slot *member =
            weir_table_get(members, keys->hashes[i], keys->bytes + keys->offsets[i],
                           keys->offsets[i + 1] - keys->offsets[i], &created, err);
        if (member == NULL) {
            return err != NULL ? err->code : WEIR_E_LIMIT;
        }
        if (created) {
            struct weir_distinct_cell distinct;
            memcpy(&distinct, values[i] + cell->offset, sizeof distinct);
            member->link = distinct.head;
            distinct.head = member->number;
            distinct.count++;
            memcpy(values[i] + cell->offset, &distinct, sizeof distinct);
        }
    }
    return WEIR_OK;
}

int weir_members_move(struct weir_aggregate *aggregate, struct weir_slot *into,
                      struct weir_slot *from, struct weir_error *err) {
    struct weir_table *members = aggregate->members;
    for (int32_t m = 0; m < aggregate->measures.count; m++) {
        const struct weir_measure_cell *cell = &aggregate->measures.cells[m];
        if (cell->measure.kind != WEIR_MEASURE_DISTINCT) {
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
        if (cell->measure.kind != WEIR_MEASURE_DISTINCT) {
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
    if (m >= aggregate->measures.count ||
        aggregate->measures.cells[m].measure.kind != WEIR_MEASURE_DISTINCT) {
        return weir_error_set(err, WEIR_E_CORRUPT, "%s: a key in the state does not parse",
                              weir_table_name(aggregate->members));
    }
    const struct weir_ordered_slot *owner =
        bsearch(&wanted, owners, owner_count, sizeof *owners, weir_compare_sequence);
    if (owner == NULL) {
        return weir_table_delete(aggregate->members, member, true);
    }
    uint8_t *value =
        weir_slot_value(aggregate->table, weir_table_slot(aggregate->table, owner->number));
    struct weir_distinct_cell distinct;
    uint8_t *at = value + aggregate->measures.cells[m].offset;
    memcpy(&distinct, at, sizeof distinct);
    member->link = distinct.head;
    distinct.head = member->number;
    distinct.unused++; /* counts members for weir_members_check; cleared there */
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
            if (distinct.count != distinct.unused) {
                return weir_error_set(err, WEIR_E_CORRUPT,
                                      "%s: measure '%s' counts %" PRIu64 " members, %u are there",
                                      weir_table_name(aggregate->members), cell->measure.name,
                                      distinct.count, distinct.unused);
            }
            distinct.unused = 0;
            memcpy(value + cell->offset, &distinct, sizeof distinct);
        }
    }
    return WEIR_OK;
}
