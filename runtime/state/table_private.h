#pragma once
/* What table.c (index and slots) and table_image.c (epochs, snapshots, recovery) share. */
#include "state/image.h"
#include "state/table.h"

#define WEIR_TABLE_KEY_MAX ((1 << 30) - 1) /* bytes */

struct weir_table {
    struct weir_table_view view; /* first: weir_table_view */
    uint64_t *old_index;         /* being emptied, or NULL */
    uint64_t old_mask;
    uint64_t migrate_at;
    uint64_t migrate_gap;  /* the last empty place passed: nothing before it is looked for after */
    uint64_t old_dropped;  /* places whose pages are given back */
    uint64_t *next_index;  /* of twice the size, its pages being touched, or NULL */
    uint64_t next_touched; /* entries */
    bool filling;          /* from images: growth need not go in small steps */
    size_t keys;
    uint32_t slots;
    uint32_t free_head;
    uint32_t chunk_count;
    uint32_t chunk_capacity;
    uint32_t ahead_from; /* the slot with which the next huge page is put */
    uint64_t next_sequence;
    uint32_t value_bytes;
    size_t max_keys;
    size_t max_bytes;
    uint64_t shape;
    const struct weir_table_codec *codec;
    void *codec_context;
    struct weir_heap heap;
    struct weir_table_layouts layouts; /* context NULL: values are of one shape */
    bool layouts_due;                  /* its texts have not been collected yet */
    /* epochs */
    bool sealed;
    bool next_pending; /* the sealed epoch's next-sequence image is still to be collected */
    uint64_t sealed_next_sequence;
    uint32_t sealed_generation;
    struct weir_spill changed; /* slot numbers changed in the open epoch */
    struct weir_spill deleted; /* tombstones of the open epoch */
    struct weir_spill sealed_changed;
    struct weir_spill sealed_deleted;
    struct weir_spill sealed_images; /* copies on write of sealed slots */
    uint32_t collect_at;             /* bytes of sealed_changed's first block done */
    struct weir_buffer scratch;      /* one image */
    struct table_cold *cold;         /* table_cold.c; NULL: all keys stay in memory */
    char *name;
    char *declaration;
    char *option;
    struct weir_cell cell;
};

/* table_cold.c: keys that went to disk. All of these do nothing where there are none. */
void table_cold_destroy(struct weir_table *table);
bool table_cold_used(const struct weir_table *table);
size_t table_cold_keys(const struct weir_table *table);
/* Images are to be applied: those of their keys that are on disk are brought in, blocking. */
int table_cold_fetch(struct weir_table *table, const uint8_t *bytes, size_t length,
                     struct weir_error *err);
/* After images were applied: what is too much goes, blocking. */
int table_cold_settle(struct weir_table *table, struct weir_error *err);
/* What is on disk comes first in a dump, what went there while it waits in slices of its own.
 * *done: it is all there, memory may be dumped. */
int table_cold_dump(struct weir_table *table, struct weir_cell_cursor *cursor,
                    struct weir_buffer *out, bool *done, struct weir_error *err);
/* Memory was dumped up to slot number `next`; done: all of it. */
void table_cold_dumped(struct weir_table *table, uint64_t next, bool done);
/* The header of a slice of a dump, with the texts of layouts. */
int table_put_header(struct weir_table *table, struct weir_buffer *out);
int table_put_image(struct weir_table *table, struct weir_slot *slot, struct weir_buffer *out);

extern const struct weir_cell_ops weir_table_cell_ops;

/* A zeroed slot with its key and place in the index, in no epoch, without a sequence; no cap is
 * looked at. NULL without memory. */
struct weir_slot *weir_table_create_slot(struct weir_table *table, uint64_t hash, const void *key,
                                         size_t length);
/* Out of the index, parts released, number free for reuse. */
void weir_table_free_slot(struct weir_table *table, struct weir_slot *slot);
