/* Slots as records on disk, and back. Slots of a group are found in the order of their numbers:
 * they are noted, and sorted by group, so that what leaves memory together lies together. */
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/block.h"
#include "state/table_cold.h"

enum { SEQUENCE_BYTES = 8, SIZE_BYTES = 4, VALUE_BYTES_MAX = 256 << 20 };

void table_records_init(struct table_records *records, uint32_t group_from, uint64_t group_seed) {
    records->group_from = group_from;
    records->group_seed = group_seed;
    weir_buffer_init(&records->value, VALUE_BYTES_MAX);
}

void table_records_fini(struct table_records *records) {
    weir_buffer_fini(&records->value);
    table_records_forget(records);
    free(records->noted);
    free(records->key);
}

/* --- what is there, while images are applied ------------------------------------------------- */

/* Two bits of a sixteenth of the budget: of ten times as many slots as that holds one in forty is
 * taken to be there. */
void table_records_watch(struct table_records *records, size_t budget) {
    uint32_t bits = 10;
    while (bits < 40 && ((size_t)1 << (bits + 1)) <= budget / 2) {
        bits++;
    }
    records->seen = weir_block_take(((size_t)1 << bits) / 8);
    records->seen_bits = bits;
    if (records->seen != NULL) {
        memset(records->seen, 0, ((size_t)1 << bits) / 8);
    }
}

static void places_of(const struct table_records *records, uint64_t sequence, uint64_t places[2]) {
    uint64_t hash = XXH3_64bits(&sequence, sizeof sequence);
    places[0] = hash >> (64 - records->seen_bits);
    places[1] = hash & ((UINT64_C(1) << records->seen_bits) - 1);
}

void table_records_see(struct table_records *records, uint64_t sequence) {
    uint64_t places[2];
    if (records->seen != NULL) {
        places_of(records, sequence, places);
        records->seen[places[0] / 64] |= UINT64_C(1) << places[0] % 64;
        records->seen[places[1] / 64] |= UINT64_C(1) << places[1] % 64;
    }
}

bool table_records_may_have(const struct table_records *records, uint64_t sequence) {
    uint64_t places[2];
    if (records->seen == NULL) {
        return true;
    }
    places_of(records, sequence, places);
    return (records->seen[places[0] / 64] >> places[0] % 64 &
            records->seen[places[1] / 64] >> places[1] % 64 & 1) != 0;
}

void table_records_forget(struct table_records *records) {
    weir_block_give(records->seen);
    records->seen = NULL;
}

/* --- out ------------------------------------------------------------------------------------ */

struct weir_cold_key table_record_key(const struct table_records *records, uint64_t hash,
                                      const uint8_t *key, uint32_t length) {
    uint32_t from = records->group_from < length ? records->group_from : length;
    if (from == 0) {
        return (struct weir_cold_key){hash, key, length};
    }
    return (struct weir_cold_key){
        XXH3_64bits_withSeed(key + from, length - from, records->group_seed), key + from,
        length - from};
}

int table_note_slot(const struct weir_table *table, struct table_records *records,
                    const struct weir_slot *slot) {
    if (records->noted == NULL) {
        records->noted = malloc(TABLE_NOTED_MAX * sizeof *records->noted);
        if (records->noted == NULL) {
            return WEIR_E_NOMEM;
        }
    }
    struct weir_cold_key key =
        table_record_key(records, slot->hash, weir_slot_key(table, slot), slot->key_bytes);
    records->noted[records->count++] = (struct table_noted){key.hash, slot->number};
    return WEIR_OK;
}

static int by_group(const void *a, const void *b) {
    const struct table_noted *x = a;
    const struct table_noted *y = b;
    return x->hash != y->hash       ? (x->hash < y->hash ? -1 : 1)
           : x->number != y->number ? (x->number < y->number ? -1 : 1)
                                    : 0;
}

void table_sort_noted(struct table_records *records) {
    if (records->count > 1) {
        qsort(records->noted, records->count, sizeof *records->noted, by_group);
    }
}

/* Two groups of one hash would be told apart by nobody who asks for one: the second waits. */
size_t table_group_end(const struct weir_table *table, const struct table_records *records,
                       size_t from) {
    const struct table_noted *noted = records->noted;
    const struct weir_slot *first = weir_table_slot(table, noted[from].number);
    const uint8_t *key = weir_slot_key(table, first) + records->group_from;
    size_t length = first->key_bytes - records->group_from;
    size_t end = from + 1;
    while (end < records->count && noted[end].hash == noted[from].hash) {
        const struct weir_slot *slot = weir_table_slot(table, noted[end].number);
        if (slot->key_bytes != first->key_bytes ||
            memcmp(weir_slot_key(table, slot) + records->group_from, key, length) != 0) {
            break;
        }
        end++;
    }
    return end;
}

static int put_value(const struct weir_table *table, struct weir_slot *slot,
                     struct weir_buffer *out) {
    const void *value = weir_slot_value(table, slot);
    return table->codec != NULL ? table->codec->encode(table->codec_context, value, out)
                                : weir_buffer_append(out, value, table->value_bytes);
}

static int put_member(const struct weir_table *table, struct table_records *records,
                      struct weir_slot *slot) {
    struct weir_buffer *out = &records->value;
    static const uint8_t none[SIZE_BYTES];
    int rc = weir_buffer_append(out, &slot->sequence, SEQUENCE_BYTES);
    rc = rc == WEIR_OK ? weir_buffer_append(out, weir_slot_key(table, slot), records->group_from)
                       : rc;
    rc = rc == WEIR_OK ? weir_buffer_append(out, none, SIZE_BYTES) : rc;
    size_t from = out->size;
    rc = rc == WEIR_OK ? put_value(table, slot, out) : rc;
    if (rc == WEIR_OK) {
        uint32_t size = (uint32_t)(out->size - from);
        memcpy(out->data + from - SIZE_BYTES, &size, SIZE_BYTES);
    }
    return rc;
}

int table_make_record(const struct weir_table *table, struct table_records *records,
                      const struct table_noted *noted, size_t count, struct table_record *out) {
    struct weir_slot *slot = weir_table_slot(table, noted[0].number);
    int rc = WEIR_OK;
    weir_buffer_clear(&records->value);
    out->key = table_record_key(records, slot->hash, weir_slot_key(table, slot), slot->key_bytes);
    if (records->group_from == 0) {
        bool plain = table->codec == NULL;
        rc = plain ? WEIR_OK : put_value(table, slot, &records->value);
        out->head = &slot->sequence;
        out->head_size = SEQUENCE_BYTES;
        out->value = plain ? weir_slot_value(table, slot) : records->value.data;
        out->value_size = plain ? table->value_bytes : (uint32_t)records->value.size;
        return rc;
    }
    for (size_t i = 0; rc == WEIR_OK && i < count; i++) {
        rc = put_member(table, records, weir_table_slot(table, noted[i].number));
    }
    out->head = NULL;
    out->head_size = 0;
    out->value = records->value.data;
    out->value_size = (uint32_t)records->value.size;
    return rc;
}

/* --- and back ------------------------------------------------------------------------------- */

bool table_next_member(const struct table_records *records, const struct weir_cold_record *record,
                       size_t *at, struct table_member *out) {
    const uint8_t *from = record->value + *at;
    size_t left = record->value_size - *at;
    size_t head = SEQUENCE_BYTES + records->group_from;
    uint32_t size;
    if (left < head) {
        return false;
    }
    memcpy(&out->sequence, from, SEQUENCE_BYTES);
    out->own = from + SEQUENCE_BYTES;
    if (records->group_from == 0) {
        out->value = from + head;
        out->size = left - head;
        *at = record->value_size;
        return true;
    }
    if (left < head + SIZE_BYTES) {
        return false;
    }
    memcpy(&size, from + head, SIZE_BYTES);
    head += SIZE_BYTES;
    if (left - head < size) {
        return false;
    }
    out->value = from + head;
    out->size = size;
    *at += head + size;
    return true;
}

size_t table_member_key(struct table_records *records, const struct weir_cold_record *record,
                        const struct table_member *member, const uint8_t **key) {
    size_t length = records->group_from + record->key_size;
    *key = record->key;
    if (records->group_from == 0) {
        return length;
    }
    if (length > records->key_room) {
        uint8_t *grown = realloc(records->key, length * 2);
        if (grown == NULL) {
            *key = NULL;
            return 0;
        }
        records->key = grown;
        records->key_room = length * 2;
    }
    memcpy(records->key, member->own, records->group_from);
    memcpy(records->key + records->group_from, record->key, record->key_size);
    *key = records->key;
    return length;
}
