#pragma once
/* What the files of a rule's state share. */
#include "operator/rule/rule_state.h"
#include "operator/sketch.h"
#include "state/heap.h"
#include "state/side.h"

enum {
    RULE_FIELDS_MAX = 32,
    RULE_CELLS_MAX = 64,
    RULE_UNDO_BYTES_MAX = 64 << 20,
    RULE_AHEAD = 512,          /* items */
    RULE_ITEM_EMITS_MAX = 1024 /* rows one item may emit to a dataset */
};

struct rule_field {
    uint8_t type; /* enum weir_type */
    uint8_t width;
    uint32_t offset; /* in a record */
};

struct rule_cell {
    char *name;
    enum weir_rule_kind kind;
    uint32_t max;
    uint32_t record_bytes;
    int32_t field_count;
    struct rule_field fields[RULE_FIELDS_MAX];
    struct weir_schema *schema;
    struct rule_block *key; /* one record: that of the next get, put or remove */
    int64_t window_us;      /* the longest anybody looked back over its entries */
    int64_t pushed_out;     /* of a ring: entries younger than that which made room */
    int64_t pushed_now;     /* by the item at hand */
};

/* Records of a cell, in the table's heap. */
struct rule_block {
    uint32_t count;
    uint32_t head;
    uint32_t capacity;
    uint32_t pad;
    uint8_t records[];
};

struct rule_slot { /* the value of a key */
    uint64_t layout;
    int64_t changed_us; /* time of its last change */
    uint8_t *raw;       /* under another layout: its image, in the table's heap */
    uint32_t raw_bytes;
    uint32_t expires; /* in the heap of those that expire */
    union {
        struct rule_block *block;
        struct weir_part *sketch;
    } cells[];
};

struct rule_due { /* of a timer, a key that may expire, a row that waits */
    int64_t at_us;
    uint64_t order; /* breaks ties */
    uint32_t slot;
    uint64_t sequence;
};

struct rule_heap {
    struct rule_due *list;
    size_t count;
    size_t capacity;
};

struct rule_timer { /* the value of a timer's slot */
    int64_t at_us;
    uint8_t clock;
};

struct rule_queued { /* beside a timer's slot: its entry of a heap; one put off stays where it is */
    uint64_t sequence;
    int64_t at_us;
    bool clock;
};

struct rule_pending { /* set by the item at hand */
    int32_t timer;
    int64_t at_us;
    bool clock;
    bool cancel;
};

struct rule_part { /* given back when the item is kept, or undone */
    void *part;
    size_t size;
};

struct rule_parts {
    struct rule_part *list;
    size_t count;
    size_t capacity;
};

struct rule_rejected {
    int32_t item;
    size_t why; /* in reasons */
    int64_t actual;
};

struct weir_rule_state {
    struct weir_rule_run run;           /* first */
    struct weir_rule_state **owner;     /* what the codec of keys is told; goes with the table */
    struct weir_rule_state **row_owner; /* and of rows that wait */
    char *declaration;
    int64_t version;
    uint64_t layout;
    char *layout_text; /* of this version, one JSON object */
    int64_t *steps;    /* versions migrate has functions for */
    int32_t step_count;
    struct rule_old *olds;           /* layouts that some key may still have */
    struct weir_rule_state *retired; /* handed its keys on; what it sealed is being collected */
    struct rule_cell *cells;
    int32_t cell_count;
    char **timers;
    int32_t timer_count;
    int64_t ttl_us;
    bool ttl_by_clock;
    const struct weir_key *key;
    const struct weir_key *whole; /* all columns of a row, to show those that wait; or NULL */
    struct weir_table *table;
    struct weir_table *timer_table;
    struct weir_table *row_table;
    struct weir_side queued; /* struct rule_queued, by the slots of timers */
    struct rule_heap event_timers;
    struct rule_heap clock_timers;
    struct rule_heap expiry;
    struct rule_heap rows;
    uint64_t arrival;

    /* keys on disk */
    bool on_disk;                 /* they may be */
    bool waits;                   /* the run, for keys of timers */
    int64_t over_us;              /* keys that expired before it are gone */
    size_t expiry_left;           /* entries of `expiry` whose keys went to disk */
    struct rule_heap expiry_anew; /* being made without them */
    uint32_t expiry_walk;         /* of slots, while it is; or 0 */

    /* the run */
    struct weir_rule_span span;
    int32_t next_item;
    bool stopped;
    bool finished;
    int32_t first_position;
    int64_t item_gate;
    bool in_item;
    int32_t item; /* of the span, or -1 - timer */
    const uint8_t *key_bytes;
    uint32_t key_size;
    uint64_t key_hash;
    bool hashed;                /* key_hash is the item's */
    uint64_t ahead[RULE_AHEAD]; /* hashes of the span's first items */
    int32_t ahead_count;
    struct weir_slot *slot; /* NULL: the key has none yet */
    bool looked;
    bool touched;
    bool created;
    bool moved; /* its state was of another layout */
    bool layout_written;
    int32_t key_cell; /* whose key weir_rule_key gave last, or -1 */
    int32_t *emitted; /* by target: rows before the item */
    int32_t emitted_room;
    struct weir_buffer undo;
    struct rule_parts fresh;
    struct rule_parts stale;
    struct rule_pending *pending;
    size_t pending_count;
    size_t pending_room;
    struct weir_buffer timer_key; /* of the timer that fires */
    struct weir_buffer key_texts; /* texts of keys to look for */
    struct weir_buffer fired_key;
    struct weir_batch_builder key_builder;
    bool has_builder;
    struct weir_batch *key_batch;
    uint32_t *fold_index;
    size_t fold_room;
    struct rule_rejected *rejections;
    int32_t rejection_count;
    int32_t rejection_room;
    struct weir_buffer reasons;
    bool pushes_out;           /* the item at hand, of a ring */
    bool rejected;             /* the item at hand */
    int64_t made_version;      /* by the item at hand; -1: none */
    struct weir_error failure; /* code WEIR_OK: none */
    char message[256];         /* for weir_rule_error */
    struct rule_match *match;  /* of a pattern, once it was called; or NULL */
};

/* rule_state.c */
int rule_slots_restore(struct weir_rule_state *state, struct weir_error *err) WEIR_MUST_CHECK;
struct rule_slot *rule_slot_of(const struct weir_rule_state *state, struct weir_slot *slot);
void rule_slot_fini(void *context, void *value);
static inline uint8_t *rule_record(const struct rule_cell *cell, struct rule_block *block,
                                   uint32_t index) {
    uint32_t at = block->head + index;
    at = at >= block->capacity ? at - block->capacity : at;
    return block->records + (size_t)at * cell->record_bytes;
}
static inline bool rule_field_there(const uint8_t *record, int32_t field) {
    return record[8 + field] != 0;
}
/* Gives back the texts of a record. */
void rule_record_fini(struct weir_heap *heap, const struct rule_cell *cell, uint8_t *record);
size_t rule_block_bytes(const struct rule_cell *cell, uint32_t capacity);
size_t rule_text_bytes(size_t length);

/* rule_image.c */
extern const struct weir_table_codec rule_codec;

/* rule_layout.c */
struct rule_layout { /* of another version */
    uint64_t number;
    int64_t version;
    char *text; /* as JSON */
    struct rule_cell *cells;
    int32_t cell_count;
};
int rule_cell_init(struct rule_cell *to, const struct weir_rule_cell *from,
                   struct weir_error *err) WEIR_MUST_CHECK;
void rule_cell_fini(struct rule_cell *cell);
/* Of those recorded; the caller's to destroy. WEIR_E_CORRUPT: there is none of this number. */
int rule_layout_parse(const char *text, size_t length, uint64_t number, struct rule_layout **out,
                      struct weir_error *err) WEIR_MUST_CHECK;
int rule_layout_find(const struct weir_rule_state *state, uint64_t number, struct rule_layout **out,
                     struct weir_error *err) WEIR_MUST_CHECK;
void rule_layout_destroy(struct rule_layout *layout);
int rule_layout_make(struct weir_rule_state *state, const struct weir_schema *key_schema,
                     struct weir_error *err) WEIR_MUST_CHECK;

/* rule_timer.c */
bool rule_heap_push(struct rule_heap *heap, const struct rule_due *due);
void rule_heap_pop(struct rule_heap *heap);
void rule_heap_fini(struct rule_heap *heap);
/* The first that still stands; NULL: none. */
const struct rule_due *rule_timer_first(struct weir_rule_state *state, bool clock);
const struct rule_due *rule_expiry_first(struct weir_rule_state *state);
int rule_timer_apply(struct weir_rule_state *state, const struct rule_pending *pending,
                     struct weir_error *err) WEIR_MUST_CHECK;
/* Takes the timer out; its key goes to state->timer_key, its number is returned, or -1: no timer
 * is called that any more. */
int32_t rule_timer_take(struct weir_rule_state *state, bool clock, int64_t *at_us);
int rule_timers_restore(struct weir_rule_state *state, struct weir_error *err) WEIR_MUST_CHECK;

/* rule_disk.c */
int rule_disk_allow(struct weir_rule_state *state, const struct weir_rule_config *config,
                    struct weir_error *err) WEIR_MUST_CHECK;
/* The key expires when it may; false: no memory. */
bool rule_expiry_push(struct weir_rule_state *state, struct weir_slot *slot);
/* What expired before the gate was dealt with. */
void rule_disk_passed(struct weir_rule_state *state, int64_t gate_us);
/* The key of the timer that is due is not in memory: it is asked for, with those of timers that
 * come soon, and state->waits. */
void rule_disk_look(struct weir_rule_state *state, bool clock);
/* Whether what another layout wrote and is on disk goes on here. */
int rule_disk_restore(struct weir_rule_state *state, struct weir_error *err) WEIR_MUST_CHECK;

/* rule_item.c */
/* Looks the item's key up. */
struct rule_slot *rule_slot_read(struct weir_rule_state *state);
/* The item's slot, about to be written; made if there is none. NULL: state->failure. */
struct rule_slot *rule_slot_write(struct weir_rule_state *state);
bool rule_layout_write(struct weir_rule_state *state);
void rule_item_keep(struct weir_rule_state *state);
void rule_item_undo(struct weir_rule_state *state);
/* The item's fault: the loop throws it. */
void rule_refuse(struct weir_rule_state *state, const char *format, ...) WEIR_PRINTF(2, 3);
void rule_no_memory(struct weir_rule_state *state);
/* The bytes as they are, to be put back if the item is undone. */
bool rule_note(struct weir_rule_state *state, void *at, size_t size);
bool rule_add_part(struct weir_rule_state *state, struct rule_parts *parts, void *part,
                   size_t size);
/* Memory of the item's. NULL: state->failure. */
void *rule_take(struct weir_rule_state *state, size_t size);
bool rule_drop_texts(struct weir_rule_state *state, const struct rule_cell *cell,
                     const uint8_t *record);

/* rule_cells.c */
struct rule_block *rule_block_of(struct weir_rule_state *state, int32_t cell);
bool rule_slot_is_empty(const struct weir_rule_state *state, const struct rule_slot *value);
/* The bytes of a field that is not null. */
static inline const uint8_t *rule_field_bytes(const struct rule_field *field, const uint8_t *record,
                                              size_t *size) {
    const uint8_t *bytes = record + field->offset;
    *size = field->width;
    if (weir_type_is_bytes(field->type)) {
        const struct weir_rule_text *text;
        memcpy(&text, bytes, sizeof text);
        bytes = (const uint8_t *)text->bytes;
        *size = (size_t)text->length;
    }
    return bytes;
}

/* rule_fold.c */
bool rule_field_same(const struct rule_field *field, const uint8_t *a, const uint8_t *b);

/* rule_migrate.c */
struct rule_old { /* another layout, and how its cells go on in this one's */
    struct rule_old *next;
    struct rule_layout *layout;
    bool steps;                    /* functions are to run */
    int32_t cells[RULE_CELLS_MAX]; /* by its cells: the one here that takes it, or -1 */
    uint8_t fields[RULE_CELLS_MAX][RULE_FIELDS_MAX];
};
void rule_olds_destroy(struct rule_old *olds);
/* The layout as this state goes on from it. WEIR_E_STATE: it cannot, and why. */
int rule_old_of(struct weir_rule_state *state, uint64_t number, const struct rule_old **out,
                struct weir_error *err) WEIR_MUST_CHECK;
/* The same of a layout given as text. *out NULL: it is the state's own. */
int rule_old_add(struct weir_rule_state *state, const char *text, uint64_t number,
                 const struct rule_old **out, struct weir_error *err) WEIR_MUST_CHECK;
/* The item's state, if it is of another layout, becomes of this one. false: state->failure. */
bool rule_migrate(struct weir_rule_state *state);

/* rule_take.c */
/* Gives back the state keys were taken from, once nothing of it is to be recorded any more. */
void rule_retire(struct weir_rule_state *state);

/* rule_reject.c: keeps what the item did, or undoes it where it was rejected */
void rule_item_end(struct weir_rule_state *state);
