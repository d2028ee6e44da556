#pragma once
/* The graph: what one rule set makes of rows, as nodes over datasets. Everything here runs on the
 * loop thread; rows enter by weir_graph_push and leave through each dataset's output callback
 * (the sinks), in order.
 *
 * A *flow* is what travels an edge: a frozen batch, the rows of it still alive (`sel`, ascending),
 * and per row what event time needs. Streams never renumber rows, so a flow also still knows where
 * each row came from (`origin`: the source batch with the same row numbers; explode makes both
 * anew). */
#include "batch/batch.h"
#include "commit/record.h"
#include "core/signal.h"
#include "operator/watermark.h"
#include "pipeline/graph/plan.h"
#include "script/script.h"
#include "state/cell.h"

struct weir_flow {
    struct weir_batch *batch;
    const int32_t *sel; /* never NULL */
    int32_t count;
    const int64_t *times_us;            /* by row; NULL before any `time` was declared */
    const int64_t *watermark_before_us; /* by row; NULL likewise */
    int64_t watermark_us;               /* after these rows */
    struct weir_batch *origin; /* source batch with meta columns last; NULL for a model's rows */
    int32_t source;            /* index of the source, -1 for a model's rows */
    const char *partition;     /* "<source>/<partition>", names the watermark's partition */
};

/* Named count, one a declared expectation or reserved reason. */
struct weir_tally {
    const char *name; /* borrowed from the plan or static */
    int64_t rejected;
    int64_t warned;
};

/* How far behind the watermark late rows are: up to a second, ten, a minute, ten, an hour, a day,
 * more. */
enum { WEIR_LATE_BUCKETS = 7 };

struct weir_counters {
    int64_t in;
    int64_t out;
    int64_t filtered;
    int64_t dropped;
    int64_t quarantined;
    int64_t duplicates;
    int64_t late;
    int64_t derive_errors;
    int64_t unmatched; /* left rows of a join that have met none so far, where those do not leave */
    int64_t late_by[WEIR_LATE_BUCKETS];
    int64_t late_us; /* behind, all together */
    struct weir_tally *tallies;
    int32_t tally_count;
};
/* The upper bound of a bucket; INT64_MAX of the last. */
int64_t weir_late_bound_us(int32_t bucket);
const char *weir_late_bound_text(int32_t bucket);

struct weir_dataset {
    const char *name;
    struct weir_schema *schema;        /* one reference */
    const struct weir_plan_sink *into; /* NULL or not present: nothing is written */
    struct weir_counters counters;
    struct weir_node *writer; /* whose rows it holds; NULL of a source, and of late rows */
    int64_t watermark_us;     /* the watermark its readers heard last */
    struct weir_node **consumers;
    int32_t consumer_count;
    struct join **joins; /* of streams, that have it on their right */
    int32_t join_count;
    struct weir_delta_duties *duties; /* what rows owe the table they go to, or NULL; owned */
    int32_t *duty_tallies;            /* by what a row may fail */
    struct remembered *remembered;    /* what models that read it take back, or NULL */
    void *sink;                       /* the owner's */
    int64_t ns;                       /* time spent in its node, on the loop */
    bool follows;  /* its rows are those of one command, as they are or changed */
    bool told;     /* its rows are told to who sent it */
    bool breached; /* over budget: its rows go to quarantine, reason `budget` */
    char breach_text[256];
};

struct weir_graph_callbacks {
    void *context;
    /* Rows of a dataset that has `into`. The batch may be referenced; sel is borrowed. */
    int (*output)(void *context, struct weir_dataset *dataset, struct weir_batch *batch,
                  const int32_t *sel, int32_t count, struct weir_error *err);
    /* A budget or memory breach (function, row of the batch): for the schedule. */
    int (*breach)(void *context, const struct weir_dataset *dataset, int32_t function, int32_t row,
                  struct weir_error *err);
    /* Rows that wait out of order leave (waiting.c): for the schedule, in `WEIR_ANSWERS_ASKED`. */
    int (*answered)(void *context, const struct weir_dataset *dataset, int32_t place, int32_t count,
                    const void *rows, size_t size, struct weir_error *err);
};

/* Where asynchronous lookups have their answers from: specs give them, a replay takes those of the
 * record, a run asks. */
enum weir_answers { WEIR_ANSWERS_GIVEN, WEIR_ANSWERS_RECORDED, WEIR_ANSWERS_ASKED };

struct weir_graph_options {
    const struct weir_plan *plan;   /* outlives the graph */
    struct weir_rule_set *rule_set; /* one reference taken */
    struct weir_pool *pool;
    struct weir_graph_callbacks callbacks;
    bool past_failed; /* `fail` quarantines instead of stopping */
    enum weir_answers answers;
    struct weir_signal *signal;   /* raised when an answer came; or NULL */
    bool output_all;              /* specs: datasets without `into` are output too */
    struct weir_command *command; /* told what rows lead to while it is open; or NULL */
    const char *disk;             /* folder for state that does not fit; NULL: it must */
};

struct weir_graph;
struct weir_command;
struct weir_delta_duties;

/* An asynchronous lookup's figures. */
struct weir_asked {
    const char *name; /* "<stream>/<lookup>" */
    int64_t keys;     /* asked for */
    int64_t requests; /* answered or failed */
    int64_t failed;   /* keys without a good answer */
    int64_t retries;
    int64_t cached; /* answers held */
    int64_t in_flight;
    int64_t waiting; /* rows of the stream that wait while others come */
    int64_t open;    /* 1: the circuit breaker is */
};
/* Of the index-th there is; false: there are no more. */
bool weir_graph_asked(struct weir_graph *graph, int32_t index, struct weir_asked *out);
/* All of them as members of a JSON object. */
int weir_graph_asked_status(struct weir_graph *graph, struct weir_buffer *out) WEIR_MUST_CHECK;

int weir_graph_create(const struct weir_graph_options *options, struct weir_graph **out,
                      struct weir_error *err) WEIR_MUST_CHECK;
void weir_graph_destroy(struct weir_graph *graph);

/* Recorded clock and open epoch, before each push or tick. */
void weir_graph_set_moment(struct weir_graph *graph, int64_t clock_us, int64_t epoch);
/* Of the source whose rows are pushed next, as far as they are known; 1 when nothing is said. */
void weir_graph_set_partitions(struct weir_graph *graph, int32_t partitions);
/* In replay: a breach recorded for the next push or tick, added to those expected; `text` is why,
 * copied. Several declarations may breach in one batch. */
void weir_graph_expect_breach(struct weir_graph *graph, int32_t function, int32_t row,
                              const char *text, size_t length);
void weir_graph_expect_none(struct weir_graph *graph);

/* In replay: the hash rows go to quarantine under, as recorded; `length` <= 39 bytes are copied. */
void weir_graph_set_rule_set_hash(struct weir_graph *graph, const char *hash, size_t length);

/* The calls below take rows and time in. Windows that time closes are emitted afterwards, in
 * slices: call this until *done before the next of them, and before a seal. budget_ns: about how
 * long it may take; < 0: all at once. Where slices end changes nothing of what comes out. */
int weir_graph_fire(struct weir_graph *graph, int64_t budget_ns, bool *done,
                    struct weir_error *err) WEIR_MUST_CHECK;
/* Windows wait to be emitted. */
bool weir_graph_firing(const struct weir_graph *graph);

/* Rows of the dataset that do not hold what its table asks of them go to quarantine. Takes the
 * duties (or NULL), also on failure. */
int weir_dataset_set_duties(struct weir_dataset *dataset, struct weir_delta_duties *duties,
                            struct weir_error *err) WEIR_MUST_CHECK;
/* Rows wait for answers from outside: nothing else may come in, and no epoch end, until
 * weir_graph_go_on, called whenever answers may have come, has let them all through. */
bool weir_graph_holds(const struct weir_graph *graph);
int weir_graph_go_on(struct weir_graph *graph, struct weir_error *err) WEIR_MUST_CHECK;
/* Rows wait out of order, while others may come; so many that none should. Those of a place that
 * are answered leave (*some), told by the callback; or, in replay, those that left then. */
bool weir_graph_parks(const struct weir_graph *graph);
bool weir_graph_parks_enough(const struct weir_graph *graph);
int weir_graph_let_go(struct weir_graph *graph, bool *some, struct weir_error *err) WEIR_MUST_CHECK;
int weir_graph_released(struct weir_graph *graph, struct weir_span name, int32_t place,
                        struct weir_span rows, struct weir_error *err) WEIR_MUST_CHECK;
/* In replay: an image of the epoch's record, whose answers are taken in place of new ones. */
int weir_graph_record_answers(struct weir_graph *graph, struct weir_span cell,
                              struct weir_span bytes, struct weir_error *err) WEIR_MUST_CHECK;
/* In specs: what lookup `lookup` of a stream answers for a key {"column": value}, as JSON; with
 * `fails`, why it does not. */
int weir_graph_give_answer(struct weir_graph *graph, const char *stream, const char *lookup,
                           const char *key, const char *answer, bool fails,
                           struct weir_error *err) WEIR_MUST_CHECK;

/* Between batches: state beyond memory.state goes to disk, some of it a call. *crowded: it cannot
 * before the epoch has ended. */
int weir_graph_make_room(struct weir_graph *graph, bool *crowded,
                         struct weir_error *err) WEIR_MUST_CHECK;
/* Of the index-th declaration whose state may go there. */
struct weir_table_disk_figures;
bool weir_graph_on_disk(struct weir_graph *graph, int32_t index, const char **name,
                        struct weir_table_disk_figures *out);
/* Rows of source `source` (index in the plan), good rows only, in the source's full schema.
 * WEIR_E_DATA: an expectation with action `fail` (or a sum out of range): stop at the last whole
 * epoch. */
int weir_graph_push(struct weir_graph *graph, int32_t source, const char *partition,
                    struct weir_batch *batch, struct weir_error *err) WEIR_MUST_CHECK;
/* Rows that count as having left a stream or model: specs feed from the middle. */
int weir_graph_inject(struct weir_graph *graph, struct weir_dataset *dataset, const char *partition,
                      struct weir_batch *batch, struct weir_error *err) WEIR_MUST_CHECK;
/* Row `index` of what a decoder refused: to quarantine.<source>. */
int weir_graph_reject_of(struct weir_graph *graph, int32_t source, int32_t partition,
                         const struct weir_reject_batch *rejects, int32_t index,
                         struct weir_error *err) WEIR_MUST_CHECK;
/* Writes out decode rejects gathered so far; after the rejects of each source batch. */
int weir_graph_flush_rejects(struct weir_graph *graph, struct weir_error *err) WEIR_MUST_CHECK;
/* The clock moved: idle partitions, windows that close by it. *moved: some time did, so that this
 * belongs to the schedule. */
int weir_graph_tick(struct weir_graph *graph, bool *moved, struct weir_error *err) WEIR_MUST_CHECK;
/* Nothing was taken in for the last held_us of the clock: no partition was idle meanwhile. */
void weir_graph_held(struct weir_graph *graph, int64_t held_us);
/* A partition is held back by the runtime from now on, or no more: it is not idle meanwhile. */
/* Some dataset that stems from the source declares event time. */
bool weir_graph_timed(struct weir_graph *graph, int32_t source);
/* How far in event time a partition of it has come; WEIR_WATERMARK_NONE: it has brought no rows.
 * *counts: it is known and not idle. */
int64_t weir_graph_time_of(struct weir_graph *graph, int32_t source, const char *partition,
                           bool *counts);
int weir_graph_block(struct weir_graph *graph, int32_t source, const char *partition, bool blocked,
                     struct weir_error *err) WEIR_MUST_CHECK;
/* Does any time of the graph go on without a partition that is idle? */
bool weir_graph_idles(const struct weir_graph *graph);
/* Rows will come from this partition: time waits for it from now on. anew: what it had before is
 * nothing to them. */
int weir_graph_open_partition(struct weir_graph *graph, int32_t source, const char *partition,
                              bool anew, struct weir_error *err) WEIR_MUST_CHECK;
/* Rows are looked up in what comes of this source: it is read before others. */
bool weir_graph_looked_up(struct weir_graph *graph, int32_t source);
/* No more rows will come from this partition. */
int weir_graph_finish(struct weir_graph *graph, int32_t source, const char *partition,
                      struct weir_error *err) WEIR_MUST_CHECK;

/* As if a row of this event time had come from the partition, in every dataset with a time. */
int weir_graph_move_watermark(struct weir_graph *graph, const char *partition, int64_t time_us,
                              struct weir_error *err) WEIR_MUST_CHECK;
/* No more rows from anywhere. */
int weir_graph_finish_all(struct weir_graph *graph, struct weir_error *err) WEIR_MUST_CHECK;

int32_t weir_graph_dataset_count(const struct weir_graph *graph);
struct weir_dataset *weir_graph_dataset(struct weir_graph *graph, int32_t index);
struct weir_dataset *weir_graph_find(struct weir_graph *graph, const char *name);
/* All state, for seals, snapshots and recovery. Order is the plan's. */
int32_t weir_graph_cells(struct weir_graph *graph, struct weir_cell **cells, int32_t capacity);
/* Can `from`'s state go on in `to`? WEIR_E_STATE names the declaration whose shape changed or which
 * is gone, and the way out. Declarations that are new start empty. */
int weir_graph_check_state(struct weir_graph *to, struct weir_graph *from,
                           struct weir_error *err) WEIR_MUST_CHECK;
/* A new version of the rules starts with a clean slate. */
void weir_graph_clear_breaches(struct weir_graph *graph);
/* After all cells were applied. */
int weir_graph_restore(struct weir_graph *graph, struct weir_error *err) WEIR_MUST_CHECK;
/* Watermarks and counters as msgpack, for the record; load takes what save wrote, by name. */
int weir_graph_save(struct weir_graph *graph, struct weir_buffer *out) WEIR_MUST_CHECK;
int weir_graph_load(struct weir_graph *graph, const uint8_t *bytes, size_t length,
                    struct weir_error *err) WEIR_MUST_CHECK;
/* The same of some datasets only. */
int weir_graph_load_of(struct weir_graph *graph, const uint8_t *bytes, size_t length,
                       bool (*wanted)(const void *context, const char *name), const void *context,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* Moves state from `from` into `to` (weir_graph_check_state said yes): hot reload. */
/* `to` is made for this alone: the functions that migrate state are tried on keys of `from`, some
 * hundred a call, and nothing stays of it. WEIR_E_STATE: what one of them threw, and of which key.
 */
struct weir_graph_trial {
    int32_t node;
    struct weir_cell_cursor cursor;
};
bool weir_graph_wants_trial(struct weir_graph *to, struct weir_graph *from);
int weir_graph_try_state(struct weir_graph *to, struct weir_graph *from,
                         struct weir_graph_trial *trial, bool *done,
                         struct weir_error *err) WEIR_MUST_CHECK;
int weir_graph_take_state(struct weir_graph *to, struct weir_graph *from,
                          struct weir_error *err) WEIR_MUST_CHECK;
/* The lowest watermark of any declared time, WEIR_WATERMARK_NONE before the first. */
int64_t weir_graph_watermark(const struct weir_graph *graph);
/* What state costs, one line a stateful declaration: for `weir check`. */
int weir_graph_estimates(struct weir_graph *graph, struct weir_buffer *out) WEIR_MUST_CHECK;
/* Which partition holds each dataset's watermark, one line each. */
int weir_graph_why_waiting(struct weir_graph *graph, struct weir_buffer *out) WEIR_MUST_CHECK;
