#pragma once
/* Private to the graph: what a node is, and the stages streams and models share. */
#include "commit/record.h"
#include "operator/aggregate/aggregate.h"
#include "operator/dedup.h"
#include "operator/predicate.h"
#include "operator/top/top.h"
#include "operator/window.h"
#include "pipeline/graph/graph.h"
#include "script/out.h"

enum {
    ROWS_MAX = WEIR_BATCH_ROWS_MAX,
    CHANGED_ROWS = 512,  /* of models whose rows change, a slice */
    FIRED_ROWS = 128,    /* of windows that are over, a slice */
    NULL_SITES_MAX = 63, /* of a function; site * 4 + 3 fits a byte */
    VERDICT_THREW = 4,   /* beside those of abi/call.h */
    VERDICT_BREACHED = 5
};

/* A reason noted against a row; a row's notes are a list. Texts live in graph->texts. */
struct note {
    int32_t next;  /* index of the row's next note, -1 at the end */
    int32_t tally; /* index into the dataset's tallies: its name is the reason */
    int64_t text;  /* offset of the error text in graph->texts, -1 for none */
};

/* One declared expectation, compiled. */
struct check {
    const struct weir_plan_expectation *plan;
    struct weir_predicate **predicates; /* one a data term, NULL for function terms */
    int32_t *columns;                   /* column a data term reads */
    int32_t tally;
};

struct checks {
    struct check *list;
    int32_t count;
    bool any_function;
};

struct quarantine {
    struct weir_dataset *dataset;
    struct weir_schema *input; /* the columns rows entered with */
    int32_t kept_columns;      /* of input, those without leading _ */
    int32_t *columns;
    struct weir_schema *extra_schema;
    struct weir_batch_builder extra;
    bool has_extra;
};

struct join;
struct rule;
struct over;

struct weir_node {
    struct weir_graph *graph;
    struct weir_dataset *dataset;
    const char *name;
    const struct weir_plan_stream *stream; /* one of these two */
    const struct weir_plan_model *model;
    const char *from;           /* the first */
    struct weir_dataset *reads; /* likewise */
    struct weir_union *joined;  /* reads several; NULL: one */
    struct weir_schema *input;  /* borrowed from the plan */

    /* entry */
    const struct weir_plan_time *time;
    int32_t time_column;
    struct weir_watermark *watermark;
    int64_t last_watermark;
    int32_t where;
    struct checks expectations;
    struct weir_dedup *dedup;
    struct quarantine quarantine;

    /* stream */
    struct rule *rule;       /* rule.c; NULL without */
    struct explode *explode; /* explode.c; NULL without */
    struct join *join;       /* join.c: the first of join_count; NULL without */
    int32_t join_count;
    int32_t row_base;         /* what a piece's rows are counted from in the schedule */
    struct lookups *lookups;  /* lookup.c: behind the joins; NULL without */
    struct lookups *found;    /* likewise, whose columns those are found by */
    bool waits;               /* a model, a rule: keys it needs are on disk */
    struct held *held;        /* held.c: flows that wait for answers, oldest first */
    struct waiting **waiting; /* waiting.c: by place, NULL where nobody asks; NULL: held.c does */
    struct weir_out **outs;   /* by map column, NULL for fixed width */
    bool *copied;             /* by map column: the plan says it is a copy */
    struct checks ensures;
    struct checks quality;

    /* model */
    struct weir_aggregate *aggregate; /* NULL: whole rows, by `top` */
    struct weir_top *top;             /* or NULL */
    struct weir_batch_builder ranked; /* of its output */
    bool has_ranked;
    struct weir_schema
        *fired_schema; /* by columns, bounds, measures, derives: what comes before top */
    struct weir_batch_builder fired;
    bool has_fired;
    struct over *over; /* measures over the last while; NULL: none */
    bool firing;       /* windows the watermark has closed are still to be emitted */
    bool unsaid;       /* what the rows fed last changed leaves, slice by slice */
    bool unsaid_timed;
    bool ranking;     /* measures that changed were ranked: what became of the ranks leaves */
    bool telling;     /* changes that waited for their interval leave */
    bool input_over;  /* nothing waits for an interval any more */
    bool fired_begun; /* the builder holds, or may take, rows of them */
    bool advanced;    /* the watermark moved: what reads this model hears of it after them */
    int64_t downstream_watermark;
    struct weir_dataset *late;
    int32_t *measure_columns;             /* by measure: input column, -1 */
    struct weir_schema **measure_schemas; /* one column each, for measures that are functions */
    struct weir_out ***measure_outs;
    struct weir_schema **result_schemas; /* likewise, of aggregates: what leaves of a state */
    struct model_migrate *migrate; /* model_migrate.c; NULL: it has no functions that migrate */
    struct weir_out ***result_outs;
    struct weir_schema **derive_schemas;
    struct weir_out ***derive_outs;
    uint8_t **masks; /* by measure, ROWS_MAX each, NULL without `where` */
    const struct weir_column **inputs;
    int32_t *order_columns; /* by measure: the second column, -1 */
    const struct weir_column **orders;
    int32_t *late_sel;
    struct checks tests;

    /* scratch, ROWS_MAX each */
    int32_t *sel;
    int32_t *sel2;
    int32_t change_column; /* of a stream's input that is a changelog, or -1 */
    bool change_whole; /* its −U and −D are whole rows, judged and mapped as the others are */
    uint8_t *exempt;   /* by row of the batch: not judged; see change.c */
    int8_t *signs;     /* of a model that takes rows back, by row: -1 */
    bool leaving;      /* some rows of the batch leave as deletes */
    struct withheld *withheld; /* of a keyed stream over a changelog that leaves columns out */
    int32_t *rejected;
    uint8_t *verdict;
    uint8_t *term_verdict;
    uint8_t *worst; /* by row: gravest action of a failed expectation + 1; 0 passes */
    uint8_t *duplicate;
    uint8_t *flags;
    int64_t *times;
    int64_t *wm_before;
    struct weir_column *in; /* canonical view of the columns for Lua */
    int32_t in_capacity;
    struct note *notes; /* reused; note_head and note_tail by row, -1 where there is none */
    int32_t note_count;
    int32_t note_capacity;
    int32_t *note_head;
    int32_t *note_tail;
    int32_t *noted_rows; /* rows with notes, to reset them */
    int32_t noted_count;
    int32_t rejected_count;            /* rejected[0..): rows to quarantine */
    struct weir_tally *tallies_before; /* room for a batch's mark, reused */
    int32_t tallies_room;
};

/* nulls.c: rows a function certainly throws on */
struct nulls {
    const struct weir_plan *plan;
    char ***texts; /* by function, by site * 4 + which operands are null; NULL: not heard yet */
    /* The call at hand, by position: site * 4 + which operands are null; 0: to be run. */
    uint8_t kinds[ROWS_MAX];
    /* The rows of it that Lua gets. */
    int32_t sel[ROWS_MAX];
    int32_t positions[ROWS_MAX];
    uint8_t verdict[ROWS_MAX];
};

enum { EXPECTED_BREACHES_MAX = 64 };
struct expected_breach { /* as recorded, for replay */
    int32_t function;
    int32_t row;
    char text[256];
};

struct weir_graph {
    const struct weir_plan *plan;
    struct weir_rule_set *rule_set;
    struct weir_pool *pool;
    struct weir_graph_callbacks callbacks;
    bool past_failed;
    bool output_all;
    int64_t clock_us;
    int64_t epoch;
    char rule_set_hash[40];         /* goes to `_rule_set` */
    struct weir_dataset **datasets; /* stable addresses */
    int32_t dataset_count;
    struct weir_node **nodes; /* the plan's order: topological */
    int32_t node_count;
    struct quarantine *source_quarantines; /* one a source */
    struct weir_buffer texts;              /* error texts of the batch at hand */
    struct nulls *nulls;
    struct expected_breach expected[EXPECTED_BREACHES_MAX];
    int32_t expected_count;
    int64_t downstream_ns;    /* spent in datasets downstream of the one being processed */
    int32_t firing;           /* models and rules that are */
    int64_t message;          /* counts pushes and ticks */
    int32_t partitions;       /* of the source whose rows were pushed last */
    int32_t held;             /* flows that wait for answers; rules that wait for keys */
    int64_t parked;           /* rows that do while more come */
    struct weir_node *awaits; /* what fires goes on when keys on disk are in; or NULL */
    enum weir_answers answers;
    struct weir_signal *answers_signal;
    struct weir_command *command; /* NULL: nobody waits for replies */
    const char *disk;             /* borrowed while the graph is made; NULL: all state in memory */
};

/* Tallies every dataset has, in this order; expectations follow. */
enum {
    TALLY_DECODE,
    TALLY_TIME,
    TALLY_MAP,
    TALLY_WHERE,
    TALLY_BUDGET,
    TALLY_FUTURE,
    TALLY_UNAVAILABLE,
    TALLY_TRUNCATE,
    TALLY_RESERVED
};

/* graph_build.c */
extern const char *const reserved_tally_names[TALLY_RESERVED];
struct weir_dataset *graph_add_dataset(struct weir_graph *graph, const char *name,
                                       struct weir_schema *schema,
                                       const struct weir_plan_sink *into, struct weir_error *err);
int32_t dataset_tally(struct weir_dataset *dataset, const char *name); /* found or added; -1 */

/* graph.c */
struct weir_node *graph_node(struct weir_graph *graph, const char *name); /* NULL: none */
/* weir_dataset.writer, by name. */
struct weir_node *graph_writer(struct weir_graph *graph, const char *name);
int graph_emit(struct weir_graph *graph, struct weir_dataset *dataset, const struct weir_flow *flow,
               struct weir_error *err) WEIR_MUST_CHECK;
/* The watermark of a dataset, or of a node, moved without rows. */
int dataset_advance(struct weir_dataset *dataset, int64_t watermark_us,
                    struct weir_error *err) WEIR_MUST_CHECK;
int node_advance(struct weir_node *node, int64_t watermark_us,
                 struct weir_error *err) WEIR_MUST_CHECK;
/* A watermark for a node that has no time of its own, or whose own moved. */
int node_reach(struct weir_node *node, int64_t watermark_us,
               struct weir_error *err) WEIR_MUST_CHECK;
/* Unions whose least watermark has moved; `*moved` is set where one has. */
int graph_look_at_unions(struct weir_graph *graph, bool *moved,
                         struct weir_error *err) WEIR_MUST_CHECK;

/* graph_time.c. The node whose `time` a dataset's rows carry: its own or the nearest upstream. */
struct weir_node *graph_timed_node(struct weir_graph *graph, const char *name);

/* change.c. Rows of a changelog that are not judged are split off before judging and joined with
 * those that passed after it, in order; `sel` holds the rows, the count is returned. */
struct change_split {
    int32_t rows[ROWS_MAX];
    int32_t count;
};

int change_init(struct weir_node *node) WEIR_MUST_CHECK;
/* enum weir_change, of a row of the input */
int64_t change_kind(const struct weir_node *node, const struct weir_batch *batch, int32_t row);
void change_begin(struct weir_node *node, const struct weir_flow *flow);
/* A truncate of a table whose rows come by several ways has no place among them. */
int change_refuse(struct weir_node *node, const struct weir_flow *flow, int32_t *sel,
                  int32_t *count, struct weir_error *err) WEIR_MUST_CHECK;
/* Old rows in front of their updates go: of a rule, which has state for what was. */
void change_after(struct weir_node *node, const struct weir_flow *flow, int32_t *sel,
                  int32_t *count);
/* `where` leaves the row out; true: it goes on, as the delete of what it updates. */
bool change_leaves(struct weir_node *node, const struct weir_flow *flow, int32_t row);
int32_t change_split(const struct weir_node *node, int32_t *sel, int32_t count,
                     struct change_split *split);
int32_t change_join(const struct weir_node *node, const struct weir_flow *flow,
                    const struct change_split *split, int32_t *sel, int32_t count);
/* Says of rows that leave that they do, in the output's own copy of the column. */
int change_mark(const struct weir_node *node, struct weir_batch *out) WEIR_MUST_CHECK;

/* Of a model: -1 for rows that take something back, by row, into node->signs. */
void change_signs(struct weir_node *node, const struct weir_flow *flow);
/* Which rows of a model's output leave, by what `having` says of each (1: it does): an update whose
 * old row had not left is an insert, one whose new row does not leave is a delete. The batch gets a
 * change column of its own. sel gets the rows, *count how many. */
int change_having(struct weir_batch *out, const uint8_t *verdict, int32_t *sel,
                  int32_t *count) WEIR_MUST_CHECK;

/* withheld.c. Makes node->withheld where the stream needs it. */
int withheld_create(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
void withheld_destroy(struct withheld *withheld);
struct weir_cell *withheld_cell(struct withheld *withheld);
struct weir_show;
void withheld_show(struct withheld *withheld, struct weir_show *show);
uint64_t withheld_shape(const struct withheld *withheld);
/* When rows come, from `base` on of a flow: cuts part->count before a row that hangs on what
 * becomes of one before it. *out is the batch with the values that rows leave out and that were
 * withheld, or NULL when it may stay as it is. */
int withheld_fill(struct weir_node *node, struct weir_flow *part, int32_t base,
                  struct weir_batch **out, struct weir_error *err) WEIR_MUST_CHECK;
/* Refuses the rows that leave out what nobody knows. */
int withheld_refuse(struct weir_node *node, const struct weir_flow *flow, int32_t *sel,
                    int32_t *count, struct weir_error *err) WEIR_MUST_CHECK;
/* When it was judged: alive[0..) are the rows that go on. */
int withheld_settle(struct weir_node *node, const struct weir_flow *flow, const int32_t *alive,
                    int32_t alive_count, struct weir_error *err) WEIR_MUST_CHECK;

/* remembered.c. Makes node->dataset->remembered where the plan wants it. */
struct remembered_target {
    void *context;
    int (*pass)(void *context, const struct weir_flow *flow, struct weir_error *err);
};
int remembered_create(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
void remembered_destroy(struct remembered *remembered);
struct weir_cell *remembered_cell(struct remembered *remembered);
void remembered_show(struct remembered *remembered, struct weir_show *show);
uint64_t remembered_shape(const struct remembered *remembered);
bool remembered_emits(const struct remembered *remembered); /* models take its rows back */
/* The rows that leave, with what they take back whole, as flows of their own. */
int remembered_pass(struct remembered *remembered, const struct weir_flow *flow,
                    const struct remembered_target *target, struct weir_error *err) WEIR_MUST_CHECK;

/* For weir_keys_hash of the keys of lookups. */
uint64_t remembered_seed(const struct remembered *remembered);
void remembered_prefetch(const struct remembered *remembered, uint64_t hash);
/* The row under a key, good until the next one is remembered. */
bool remembered_find(const struct remembered *remembered, uint64_t hash, const void *key,
                     size_t key_size, struct weir_span *row);
/* Appends it as a struct: column c of the dataset as child children[c]; -1: left out. */
int remembered_decode(const struct remembered *remembered, const struct weir_span *row,
                      const int32_t *children, struct weir_column_builder *to) WEIR_MUST_CHECK;

/* lookup.c: what is found beside the rows of a stream. */
/* `before`: those for the left rows of that join; the number of joins: those behind all. `inside`:
 * those with columns of the input. */
int lookup_create(struct weir_node *node, int32_t before, bool inside, struct lookups **out,
                  struct weir_error *err) WEIR_MUST_CHECK;
void lookup_destroy(struct lookups *lookups);
/* Asynchronous ones behind all joins: asks for what `where` keeps; takes the answers that came;
 * waits for more. */
bool lookup_asks(const struct weir_node *node);
int lookup_begin(struct weir_node *node, const struct weir_flow *flow,
                 struct weir_error *err) WEIR_MUST_CHECK;
int lookup_take(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
bool lookup_waits(const struct weir_node *node);
/* The k-th of all a stream has, wherever they stand; of those alone. NULL: there are no more. */
struct asking *lookup_asking(const struct weir_node *node, int32_t k);
struct asking *lookup_asker(struct lookups *lookups, int32_t k);
/* Asks for what these rows need of those inside, in their order, then of those behind: as far as
 * the answers there are say what to ask next. Again, once these came, until none waits. */
int lookup_ask(struct weir_node *node, struct lookups *inside, struct lookups *behind,
               const struct weir_flow *flow, struct weir_error *err) WEIR_MUST_CHECK;

/* waiting.c. Of streams that ask beside explode, joins and the like, or out of order: by place, 0
 * where rows enter, k behind the k-th join. Rows come, or time alone; they go on when they may. */
enum { PARKED_MOST = 16384 }; /* rows that wait while more come */
int waiting_init(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
void waiting_fini(struct weir_node *node);
struct waiting *waiting_at(const struct weir_node *node, int32_t place); /* NULL: none */
int waiting_come(struct waiting *waiting, const struct weir_flow *flow,
                 struct weir_error *err) WEIR_MUST_CHECK;
int waiting_advance(struct waiting *waiting, int64_t watermark_us,
                    struct weir_error *err) WEIR_MUST_CHECK;
int64_t waiting_rows(const struct weir_node *node); /* out of order */
/* Those that wait in order. */
int waiting_go_on(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;

const int32_t *all_rows(void); /* 0, 1, …, ROWS_MAX − 1 */

/* held.c. *now: the flow need not wait; else it is kept (copied) until it need not. */
int held_process(struct weir_node *node, const struct weir_flow *flow, bool *now,
                 struct weir_error *err) WEIR_MUST_CHECK;
/* It waits, behind what waits already. */
int held_add(struct weir_node *node, const struct weir_flow *flow,
             struct weir_error *err) WEIR_MUST_CHECK;
int held_advance(struct weir_node *node, int64_t watermark_us,
                 struct weir_error *err) WEIR_MUST_CHECK;
void held_fini(struct weir_node *node);

/* Rows that find nothing leave sel where they may not go on. *out: the batch with what was found in
 * columns behind the input's. */
int lookup_apply(struct weir_node *node, const struct weir_flow *flow, int32_t *sel, int32_t *count,
                 struct weir_batch **out, struct weir_error *err) WEIR_MUST_CHECK;
/* The same before a join: in those columns of the input that are for it. */
int lookup_join(struct weir_node *node, struct lookups *lookups, const struct weir_flow *flow,
                int32_t *sel, int32_t *count, struct weir_batch **out,
                struct weir_error *err) WEIR_MUST_CHECK;

/* judge.c */
int checks_init(struct checks *checks, const struct weir_plan_expectations *plan,
                const struct weir_schema *schema, struct weir_dataset *dataset,
                struct weir_error *err) WEIR_MUST_CHECK;
void checks_fini(struct checks *checks);
/* Judges rows sel[0..*count) of `batch`; rows that leave are taken out of sel, with their reasons
 * noted. `fail` returns WEIR_E_DATA. */
int checks_apply(struct weir_node *node, struct checks *checks, struct weir_batch *batch,
                 const struct weir_flow *flow, int32_t *sel, int32_t *count,
                 struct weir_error *err) WEIR_MUST_CHECK;
/* Rows that do not hold what the dataset's table asks of them are taken out of sel, with the
 * constraint's name as the reason. */
int duties_apply(struct weir_node *node, struct weir_batch *batch, const struct weir_flow *flow,
                 int32_t *sel, int32_t *count, struct weir_error *err) WEIR_MUST_CHECK;
/* The same of a source's rows, which are kept as JSON. */
int duties_apply_source(struct weir_graph *graph, int32_t source, struct weir_batch *batch,
                        int32_t *sel, int32_t *count, struct weir_error *err) WEIR_MUST_CHECK;
/* Runs a predicate loop over sel[0..count): verdict by position; rows that threw are noted under
 * `tally` when it is >= 0, and get verdict 4. */
int node_predicate(struct weir_node *node, int32_t function, struct weir_batch *batch,
                   const int32_t *sel, int32_t count, uint8_t *verdict, int32_t tally,
                   struct weir_error *err) WEIR_MUST_CHECK;
/* Runs a loop, isolating offenders: each row that throws is handed to `offender`, in order, and the
 * loop goes on behind it. touched: the function ran, and may have assigned some columns. Sets
 * *breached_at to a position when the budget broke there, else to call->end. */
int node_call(struct weir_node *node, int32_t function, struct weir_call *call,
              void (*offender)(void *context, int32_t position, const char *message, bool touched),
              void *context, int32_t *breached_at, struct weir_error *err) WEIR_MUST_CHECK;
/* The batch's columns as Lua may see them: NaN made canonical. Valid until the next call; buffers
 * are owned by `owner`. */
int node_view(struct weir_node *node, struct weir_batch *batch, struct weir_batch *owner,
              struct weir_error *err) WEIR_MUST_CHECK;
int node_note(struct weir_node *node, int32_t row, int32_t tally,
              const char *error) WEIR_MUST_CHECK;
/* Notes the reason, counts it, and puts the row on the list to quarantine. */
int node_reject(struct weir_node *node, int32_t row, int32_t tally,
                const char *error) WEIR_MUST_CHECK;

/* nulls.c. Fills kinds for the rows of the call; false: no operand of the function is null. */
int nulls_create(const struct weir_plan *plan, struct nulls **out) WEIR_MUST_CHECK;
void nulls_destroy(struct nulls *nulls);
bool nulls_find(struct nulls *nulls, int32_t function, const struct weir_call *call);
/* Collects rows to run from position `from` on, in sel and positions, up to a row whose message is
 * not known: its position is returned, or call->end. */
int32_t nulls_split(struct nulls *nulls, int32_t function, const struct weir_call *call,
                    int32_t from, int32_t *count);
/* Why the row throws; NULL: it is run. */
const char *nulls_text(const struct nulls *nulls, int32_t function, int32_t position);
/* The row was run and threw this (copied), or did not (NULL). */
int nulls_learn(struct nulls *nulls, int32_t function, int32_t position,
                const char *message) WEIR_MUST_CHECK;

/* quarantine.c */
int quarantine_init(struct quarantine *quarantine, struct weir_graph *graph, const char *of,
                    struct weir_schema *input, const struct weir_plan_sink *sink,
                    struct weir_error *err) WEIR_MUST_CHECK;
void quarantine_fini(struct quarantine *quarantine);
/* Writes rows (as they entered: flow->batch) with the reasons noted on the node. */
int quarantine_rows(struct weir_node *node, const struct weir_flow *flow, const int32_t *rows,
                    int32_t count, struct weir_error *err) WEIR_MUST_CHECK;
struct raw_row { /* a row kept as bytes */
    const void *bytes;
    size_t size;
    const char *topic; /* NULL: no place is known */
    int32_t partition;
    int64_t offset;
};
/* With one reason. */
int quarantine_raw(struct weir_graph *graph, struct quarantine *quarantine,
                   const struct raw_row *raw, const char *name, const char *error,
                   struct weir_error *err) WEIR_MUST_CHECK;
/* With the reasons noted on the node against `row`. */
int quarantine_noted_raw(struct weir_node *node, int32_t row, const struct raw_row *raw,
                         struct weir_error *err) WEIR_MUST_CHECK;
/* A column of nothing but nulls, in a buffer of `batch`. */
int column_all_null(struct weir_batch *batch, struct weir_column *column,
                    int32_t rows) WEIR_MUST_CHECK;
int quarantine_flush(struct weir_graph *graph, struct quarantine *quarantine,
                     struct weir_error *err) WEIR_MUST_CHECK;

/* entry.c: what streams and models do alike before their own work */
int node_init(struct weir_node *node, struct weir_graph *graph,
              struct weir_error *err) WEIR_MUST_CHECK;
void node_fini(struct weir_node *node);
/* time, where, and, but for rows that are exploded first, expectations. On return sel[0..*count)
 * are the rows left; times and watermarks are in *times and *wm_before (NULL when no time is
 * known); quarantined rows are still noted. */
int node_enter(struct weir_node *node, const struct weir_flow *flow, int32_t *sel, int32_t *count,
               const int64_t **times, const int64_t **wm_before, int64_t *watermark,
               struct weir_error *err) WEIR_MUST_CHECK;
/* A row that `where` does not keep for another reason than that it says so. */
int node_where_failed(struct weir_node *node, int32_t row, uint8_t verdict) WEIR_MUST_CHECK;
/* Writes the rows whose reasons were noted during this batch, and forgets the notes. */
int node_leave(struct weir_node *node, const struct weir_flow *flow,
               struct weir_error *err) WEIR_MUST_CHECK;

/* outcol.c: columns that map loops fill */
struct out_columns {
    struct weir_column *columns;
    uint8_t **assigned;
    const bool *copied; /* columns that are somebody else's, or NULL */
    int32_t count;
};
int out_begin(struct weir_batch *owner, const struct weir_schema *schema, struct weir_out **outs,
              int32_t rows, const bool *copied, struct out_columns *out) WEIR_MUST_CHECK;
void out_clear_row(struct out_columns *out, struct weir_out **outs, int32_t row);
int out_finish(struct weir_batch *owner, struct weir_out **outs,
               struct out_columns *out) WEIR_MUST_CHECK;
/* Rows the row function did not assign take the input's value. */
int out_merge(struct weir_batch *owner, struct weir_column *column, const uint8_t *assigned,
              const struct weir_column *input) WEIR_MUST_CHECK;
int outs_create(const struct weir_schema *schema, struct weir_out ***outs,
                struct weir_error *err) WEIR_MUST_CHECK;
void outs_destroy(struct weir_out **outs, int32_t count);

/* union.c. Makes node->joined where it reads several. */
int union_create(struct weir_node *node, const char *const *from, int32_t count,
                 struct weir_error *err) WEIR_MUST_CHECK;
void union_destroy(struct weir_union *u);
int32_t union_count(const struct weir_union *u);
const char *union_from(const struct weir_union *u, int32_t i);
/* Of a reader with a time of its own: what it calls a partition of its i-th dataset. */
enum { UNION_PARTITION_BYTES = 768 };
void union_partition(const struct weir_union *u, int32_t i, const char *partition, char *name);
/* Its time waits for each dataset until that has rows, or partitions of it have ended. */
int union_wait(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
void union_came(struct weir_node *node, int32_t i);
/* A flow of one of them as the reader takes it: *out with a batch of its own. */
int union_take(struct weir_node *node, const struct weir_dataset *dataset,
               const struct weir_flow *flow, struct weir_flow *out,
               struct weir_error *err) WEIR_MUST_CHECK;
/* One of them told its watermark, or partitions upstream may have become idle, or ended:
 * *watermark_us becomes the reader's. True when that moved. */
bool union_look(struct weir_node *node, int64_t *watermark_us);
/* Their watermarks were restored. */
void union_restore(struct weir_node *node);

/* explode.c. `sel`: the rows `where` keeps; each piece goes to stream_entered. */
int explode_init(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
void explode_fini(struct weir_node *node);
int explode_process(struct weir_node *node, const struct weir_flow *flow,
                    struct weir_error *err) WEIR_MUST_CHECK;
/* join.c. `side`: of operator/join/join.h; flow: the rows that may meet others. */
int join_init(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
void join_fini(struct weir_node *node);
int join_feed(struct join *join, int side, const struct weir_flow *flow,
              struct weir_error *err) WEIR_MUST_CHECK;
/* Left rows, any number: what is looked up first is put beside them. */
int join_enter(struct join *join, const struct weir_flow *flow,
               struct weir_error *err) WEIR_MUST_CHECK;
/* A side's watermark moved, without rows. */
int join_advance(struct join *join, int side, int64_t watermark_us,
                 struct weir_error *err) WEIR_MUST_CHECK;
/* Its rows come with what they take back, whole; likewise of the rows of a stream that joins. */
bool join_takes_back(const struct join *join);
bool join_reads_changes(const struct weir_node *node);
int join_fire(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
/* The i-th of a node; its node; what is on its right; what row functions call it. */
struct join *join_at(const struct weir_node *node, int32_t i);
struct weir_node *join_node(const struct join *join);
const struct weir_dataset *join_right(const struct weir_node *node, int32_t i);
struct lookups *join_lookups(const struct weir_node *node, int32_t i); /* before it; or NULL */
const char *join_name(const struct weir_node *node, int32_t i);
/* For the record: of the first it is the node's downstream_watermark. */
int64_t *join_right_watermark(const struct weir_node *node, int32_t i);
int32_t join_cells(struct weir_node *node, struct weir_cell **cells, int32_t capacity);
int32_t join_shows(struct weir_node *node, struct weir_show *shows, int32_t capacity);
int join_restore(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
/* The first `count` columns are in `after` as they were, at whatever place, or not at all: what
 * reads one that is gone is no rule set. */
bool columns_agree(const struct weir_schema *before, int32_t count,
                   const struct weir_schema *after);
/* The name of a join of `old` whose state another form of the stream cannot go on with, or NULL. */
const char *join_changed(const struct weir_node *old, const struct weir_node *node);
void join_take_state(struct weir_node *node, struct weir_node *from);
void join_estimate(const struct weir_node *node, int32_t i, size_t bytes[2]); /* a row, by side */

/* join_disk.c: rows on disk. Those of the i-th may be there; some join waits for them; they are
 * looked for. */
bool join_may_wait(const struct weir_node *node, int32_t i);
bool join_waits(const struct weir_node *node);
int join_bring(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
int join_make_room(struct weir_node *node, bool *crowded, struct weir_error *err) WEIR_MUST_CHECK;
/* Of the *index-th whose rows may go there, lessened by those there are. */
struct weir_table_disk_figures;
bool join_on_disk(const struct weir_node *node, int32_t *index, const char **name,
                  struct weir_table_disk_figures *out);

/* model.c: columns computed by a function, as many as the schema has. Rows that throw are marked in
 * node->worst (by position) when `reject`. */
int model_compute(struct weir_node *node, int32_t function, struct weir_batch *owner,
                  const struct weir_schema *schema, struct weir_out **outs, const int32_t *sel,
                  int32_t count, int32_t rows, bool reject, struct weir_column *columns,
                  struct weir_error *err) WEIR_MUST_CHECK;
/* model_aggregate.c: measures of the analyst's own */
bool model_is_aggregate(const struct weir_node *node, int32_t m);
struct weir_measure;
int model_aggregate_init(struct weir_node *node, int32_t m, struct weir_measure *measure,
                         struct weir_error *err) WEIR_MUST_CHECK;
void model_aggregate_fini(struct weir_node *node);
/* Rows as states, a struct column. */
int model_add_states(struct weir_node *node, int32_t m, struct weir_batch *owner,
                     const int32_t *sel, int32_t count, int32_t rows, struct weir_column *column,
                     struct weir_error *err) WEIR_MUST_CHECK;
/* model_migrate.c: what functions of the model say of groups that another version wrote */
int model_migrate_init(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
void model_migrate_fini(struct weir_node *node);
/* A weir_migrate_groups; context: the node. */
int model_migrate_groups(void *context, struct weir_migration *migration, int32_t *failed,
                         struct weir_error *err);
/* Hot reload: `node`, of a graph that is for nothing else, tries them on some groups of `old`. */
int model_try(struct weir_node *node, struct weir_node *old, struct weir_cell_cursor *cursor,
              bool *done, struct weir_error *err) WEIR_MUST_CHECK;

/* A weir_merge_states; context: the node. */
int model_merge_states(void *context, int32_t m, uint8_t **into, uint8_t **from, int32_t count,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* States among what the aggregate made become results. */
int model_finish_states(struct weir_node *node, struct weir_batch *out, int32_t count,
                        struct weir_error *err) WEIR_MUST_CHECK;

/* model_top.c: the first n rows of a model, and how they leave */
/* Rows its top is given may be taken back. */
bool model_top_retracts(const struct weir_node *node);
int model_top_init(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
void model_top_fini(struct weir_node *node);
/* Windows are over, and none of their rows are to come. */
bool model_top_ready(const struct weir_node *node);
/* A slice of their rows. */
int model_top_fire(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
/* A slice of what the rows fed last changed. */
int model_top_changes(struct weir_node *node, bool timed, int64_t watermark_us, bool *done,
                      struct weir_error *err) WEIR_MUST_CHECK;
/* model_fire.c: what leaves. Of rows that changed a slice now, the others in turns to come. */
int model_begin_leaving(struct weir_node *node, bool timed, int64_t watermark_us,
                        struct weir_error *err) WEIR_MUST_CHECK;
int model_go_on_leaving(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
/* Rows of a model leave: tests, then the dataset. node->sel2[0..count) of them; row_times: NULL for
 * windows' rows and where no event time is known. */
int model_leave(struct weir_node *node, struct weir_batch *out, int32_t count,
                const int64_t *row_times, int64_t watermark_us,
                struct weir_error *err) WEIR_MUST_CHECK;
struct weir_calendar;
/* The model's calendar; *calendar NULL: other windows. */
int model_calendar(const struct weir_plan_model *model, struct weir_calendar *room,
                   const struct weir_calendar **calendar, struct weir_error *err) WEIR_MUST_CHECK;

/* stream.c, model.c */
/* What comes after explode, for one piece: expectations, dedup, map. */
int stream_entered(struct weir_node *node, const struct weir_flow *flow,
                   struct weir_error *err) WEIR_MUST_CHECK;
/* What comes after a join, for one piece: map. */
int stream_joined(struct weir_node *node, const struct weir_flow *flow,
                  struct weir_error *err) WEIR_MUST_CHECK;
int stream_init(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
void stream_fini(struct weir_node *node);
int stream_process(struct weir_node *node, const struct weir_flow *flow,
                   struct weir_error *err) WEIR_MUST_CHECK;
/* The same for a flow that waited. */
int stream_go_on(struct weir_node *node, const struct weir_flow *flow,
                 struct weir_error *err) WEIR_MUST_CHECK;
int model_init(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
void model_fini(struct weir_node *node);
int model_process(struct weir_node *node, const struct weir_flow *flow,
                  struct weir_error *err) WEIR_MUST_CHECK;
/* A model's watermark moved. Windows it closes are emitted by model_fire, slice by slice. */
int model_advance(struct weir_node *node, int64_t watermark_us,
                  struct weir_error *err) WEIR_MUST_CHECK;
/* model_disk.c: keys on disk. Needs those of a flow: node->waits; looks whether they are in. */
bool model_may_wait(const struct weir_node *node);
int model_need(struct weir_node *node, const struct weir_flow *flow,
               struct weir_error *err) WEIR_MUST_CHECK;
int model_bring(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
/* A slice of a model that is firing; after the last one it is not. */
/* The clock went on: what waits for an interval may leave. */
void model_tick(struct weir_node *node);
/* No more rows will come. */
void model_end(struct weir_node *node);
int model_fire(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
