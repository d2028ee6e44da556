#pragma once
/* Private to rule.c (rows come in, chunks are run) and rule_out.c (what leaves: emitted, refused).
 */
#include "operator/rule/rule_state.h"
#include "pipeline/graph/rule.h"

enum {
    BLOCK_ROWS = 128,  /* run together */
    CHUNK_ROWS = 1024, /* whose keys are fetched together */
    EMIT_ROWS = 2048,
    KEYS_MAX = 64,
    ITEMS_MAX = 2048
};
#define BATCH_BYTES_MAX ((size_t)1 << 30)

struct held_row {
    int64_t time_us;
    int64_t gate_us;
    uint64_t arrival;
    int32_t row;
};

struct target {
    struct weir_node *node;
    struct weir_dataset *dataset;
    struct weir_schema *schema;
    struct weir_out **outs;
    struct weir_batch *batch; /* being filled, or NULL */
    struct out_columns out;
    int64_t times[EMIT_ROWS];
    int64_t before[EMIT_ROWS];
    int32_t items[EMIT_ROWS];
};

struct offence {
    bool of_held;
    int32_t row;
    int32_t tally;
    int64_t text;
};

struct ring { /* a cell that drops its oldest entry for a new one */
    int32_t cell;
    int32_t tally;
    char *name; /* of the tally */
};

struct rule {
    struct weir_rule_state *state;
    const struct weir_plan_rule *plan;
    struct weir_schema *key_schema;
    struct weir_key *key;
    struct weir_key *whole; /* all columns, for rows that wait; NULL by arrival */
    struct weir_keys whole_bytes;
    struct weir_batch_builder builder;
    bool has_builder;
    int32_t late_tally;
    int32_t timer_tally;
    int32_t process_tally;
    int32_t reject_tally;
    int32_t version_tally;
    struct ring *rings;
    int32_t ring_count;

    /* the rows of the batch at hand that need not wait, in order */
    struct weir_flow flow;
    char *partition;
    struct held_row held[ROWS_MAX];
    int32_t held_count;
    int32_t held_at;
    struct weir_batch *held_owner; /* of what Lua sees of them */
    struct weir_column *held_in;
    struct weir_keys held_keys;

    /* the chunk at hand */
    struct weir_rule_item items[CHUNK_ROWS];
    bool of_held[CHUNK_ROWS];
    int32_t item_count;
    int32_t item_at;
    int32_t block_end;         /* the block at hand; over budget, what is left of it is refused */
    struct weir_batch *waited; /* rows of it that waited */
    struct weir_column *waited_in;
    struct weir_keys waited_keys;
    bool last; /* no row follows it */

    struct target *targets;
    struct weir_rule_target *run_targets;
    int32_t sel[EMIT_ROWS];
    struct offence offences[CHUNK_ROWS];
    int32_t offence_count;
    struct weir_buffer texts;
    int64_t clock_us;
    int64_t message; /* of the graph; positions count from its first item */
    int32_t position;
    bool advanced;
};

/* rule_chunk.c */
int rule_make_chunk(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
bool rule_row_waits(const struct weir_node *node);
/* rule_disk.c: the keys of the chunk, those of a timer */
int rule_need(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
void rule_wait(struct weir_node *node);
int rule_run_all(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
/* rule_out.c */
int rule_begin_targets(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
int rule_emit_target(struct weir_node *node, int32_t target,
                     struct weir_error *err) WEIR_MUST_CHECK;
/* The item of the chunk goes to quarantine with the chunk's other refused rows. */
int rule_offend(struct rule *rule, int32_t item, int32_t tally, const char *text) WEIR_MUST_CHECK;
int rule_refuse_timer(struct weir_node *node, int32_t timer, const char *message,
                      struct weir_error *err) WEIR_MUST_CHECK;
int rule_refuse_offences(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
/* Rings warn of what they drop too early. */
int rule_init_rings(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
void rule_fini_rings(struct rule *rule);
void rule_count_dropped(struct weir_node *node);
/* Rows the function rejected since it was last looked, and which version the last one made. */
int rule_take_rejections(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
