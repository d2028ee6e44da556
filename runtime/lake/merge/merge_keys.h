#pragma once
/* The keys of a merge: one entry a key, found by the key columns of any batch. */
#include "batch/batch.h"

/* Where the value of a column comes from that its row leaves out. */
enum { DELTA_PART_TABLE = -1, DELTA_PART_NOWHERE = -2 };
struct delta_part {
    int32_t column; /* of the changes */
    int32_t batch;  /* an earlier change, or DELTA_PART_… */
    int32_t row;
};

struct delta_entry {
    uint64_t hash;
    int64_t time;
    int32_t batch; /* which of the changes holds the row that counts */
    int32_t row;
    int32_t part_count; /* columns the row leaves out */
    int64_t first_part;
    int64_t row_id; /* of the table's row, where it tracks them */
    int32_t old;    /* which batch of the merge's old rows holds the table's row, or -1 */
    int32_t old_row;
    bool has_time;
    bool is_delete;
    bool is_before; /* a delete that holds the row as it was */
    bool outdated;  /* the table holds something newer */
    bool matched;   /* the table holds the key */
};

struct delta_keys {
    struct weir_batch *const *changes; /* borrowed */
    const int32_t *columns;            /* key columns of the changes; borrowed */
    int32_t column_count;
    int32_t time;        /* column of the changes, or -1 */
    int32_t unavailable; /* likewise: names of the columns a row leaves out */
    struct delta_entry *entries;
    struct delta_part *parts;
    int64_t part_count;
    int64_t part_capacity;
    uint32_t *slots; /* entry + 1; a power of two of them */
    uint64_t mask;
    int64_t count;
};

/* Reduces the changes to one a key. `change` is the column that says what each row is, or -1;
 * `unavailable` the list of the columns it leaves out, which keep the value they had, or -1. */
int delta_keys_init(struct delta_keys *keys, struct weir_batch *const *changes,
                    int32_t change_count, const int32_t *columns, int32_t column_count,
                    int32_t time, int32_t change, int32_t unavailable,
                    struct weir_error *err) WEIR_MUST_CHECK;
void delta_keys_fini(struct delta_keys *keys);

/* Hashes of the key of every row of a batch, whose key columns are `columns`. */
void delta_keys_hash(const struct weir_batch *batch, const int32_t *columns, int32_t column_count,
                     uint64_t *hashes);
/* The entry of this row's key, or NULL. */
struct delta_entry *delta_keys_find(const struct delta_keys *keys, const struct weir_batch *batch,
                                    const int32_t *columns, int32_t row, uint64_t hash);
/* Value of an integer, date or timestamp column; false for null. */
bool delta_int_value(const struct weir_column *column, int32_t row, int64_t *value);
/* May a column of this type be a key? */
bool delta_key_type(uint8_t type);
