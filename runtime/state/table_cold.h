#pragma once
/* Private to the keys of a table that wait on disk: table_cold.c moves them, table_record.c knows
 * what they are there.
 *
 * Without groups a record is a slot: its key; u64 sequence, the value as its image has it. Of a
 * group it is those of its slots that left memory together, under what their keys have in common;
 * of each: u64 sequence, the other bytes of its key, u32 size and value. */
#include "state/cold_keys.h"
#include "state/table_private.h"

enum { TABLE_NOTED_MAX = 16384 };

struct table_noted { /* a slot that is to leave */
    uint64_t hash;   /* of the record it will be in */
    uint32_t number;
};

struct table_records {
    uint32_t group_from; /* 0: no groups */
    uint64_t group_seed;
    struct weir_buffer value; /* of the record made last */
    uint8_t *key;             /* of the member read last */
    size_t key_room;
    struct table_noted *noted;
    size_t count;
    uint64_t *seen; /* while images are applied: a filter of the sequences on disk; or NULL */
    uint32_t seen_bits;
};

struct table_cold {
    struct weir_cold_keys *keys;
    struct weir_table_owner owner;
    uint32_t hand; /* slot looked at next */
    struct table_records records;
    /* a dump under way */
    enum { DUMP_NONE, DUMP_GOES_ON, DUMP_LOST } dump; /* lost: nobody went on with it */
    uint64_t dumped;                                  /* slots below it are in the dump */
    struct weir_buffer spilled; /* images of slots that went to disk before their turn */
};

void table_records_init(struct table_records *records, uint32_t group_from, uint64_t group_seed);
void table_records_fini(struct table_records *records);

/* Whoever applies the image of a slot of a group has to know whether that slot is on disk: not
 * needing all of the group to find out, a start takes no more memory than the budget. From before
 * the first leaves, until table_records_forget; without memory every slot may be there. */
void table_records_watch(struct table_records *records, size_t budget);
void table_records_see(struct table_records *records, uint64_t sequence);
bool table_records_may_have(const struct table_records *records, uint64_t sequence);
void table_records_forget(struct table_records *records);

/* TABLE_NOTED_MAX at most. WEIR_E_NOMEM. */
int table_note_slot(const struct weir_table *table, struct table_records *records,
                    const struct weir_slot *slot) WEIR_MUST_CHECK;
/* Then those of one group stand together, by age: [from, end). */
void table_sort_noted(struct table_records *records);
size_t table_group_end(const struct weir_table *table, const struct table_records *records,
                       size_t from);

struct table_record { /* good until the next is made, or a slot of it changes */
    struct weir_cold_key key;
    const void *head;
    const void *value;
    uint32_t head_size;
    uint32_t value_size;
};
int table_make_record(const struct weir_table *table, struct table_records *records,
                      const struct table_noted *noted, size_t count,
                      struct table_record *out) WEIR_MUST_CHECK;
/* What the record of a slot's key is found by. */
struct weir_cold_key table_record_key(const struct table_records *records, uint64_t hash,
                                      const uint8_t *key, uint32_t length);

struct table_member { /* a slot of a record */
    uint64_t sequence;
    const uint8_t *own; /* its key before the group's */
    const uint8_t *value;
    size_t size;
};
/* Goes on at *at, which begins with 0; false: no more, and *at is the record's end, or damaged. */
bool table_next_member(const struct table_records *records, const struct weir_cold_record *record,
                       size_t *at, struct table_member *out);
/* Its whole key, good until the next is asked for. NULL: no memory. */
size_t table_member_key(struct table_records *records, const struct weir_cold_record *record,
                        const struct table_member *member, const uint8_t **key);
