#pragma once
/* The plan document (docs/formats/plan.md) as C structs: what the script room decided, read once
 * when a rule set is loaded. Immutable afterwards; the graph points into it. */
#include <jansson.h>

#include "batch/projection.h"
#include "core/error.h"
#include "decode/decoder.h"
#include "operator/aggregate/aggregate.h"

struct weir_plan_sink {
    bool present;       /* false: into = none */
    bool given;         /* declared, be it as none */
    const char *kind;   /* "delta", "kafka"; NULL: delta */
    char *options_json; /* of other kinds than delta; owned */
    struct weir_plan_partition {
        const char *column; /* source column */
        enum { WEIR_PARTITION_COLUMN, WEIR_PARTITION_DATE, WEIR_PARTITION_HOUR } kind;
    } * partition_by;
    int32_t partition_count;
    const char **keys; /* rows are merged by them; none: appended */
    int32_t key_count;
    const char *time; /* the newest by it wins; or NULL */
    struct weir_plan_property {
        const char *name;
        const char *value;
    } * properties;
    int32_t property_count;
    const char *overwrite; /* partitions that the first commit takes away; or NULL */
    bool compact;          /* what keeps a table in order while the pipeline runs */
    bool vacuum;
    int64_t target_bytes;  /* 0: as the sink thinks best */
    int64_t keep_us;       /* 0: for ever */
    const char *keep_by;   /* the column that tells a row's age */
    const char *tier_root; /* old files go there; or NULL */
    int64_t tier_us;       /* after so long */
    const char **zorder;   /* columns by which files are kept apart */
    int32_t zorder_count;
    bool direct_lake; /* files of large sorted row groups */
};

struct weir_plan_time {
    bool present;
    const char *field;
    int64_t out_of_order_us;
    int64_t idle_us; /* 0: never idle */
    int64_t max_ahead_us;
};

enum weir_action { /* ascending gravity */
                   WEIR_ACTION_WARN,
                   WEIR_ACTION_DROP,
                   WEIR_ACTION_QUARANTINE,
                   WEIR_ACTION_FAIL,
};

struct weir_plan_term {
    enum {
        WEIR_TERM_NOT_NULL,
        WEIR_TERM_ONE_OF,
        WEIR_TERM_BETWEEN,
        WEIR_TERM_MATCHES,
        WEIR_TERM_FUNCTION,
    } kind;
    const char *column;
    const char **literals; /* one_of: values; between: low, high; matches: pattern */
    int32_t literal_count;
    int32_t function;
};

struct weir_plan_expectation {
    const char *name;
    const char *because; /* or NULL */
    const char *file;    /* where it is declared */
    int64_t line;
    enum weir_action action;
    struct weir_plan_term *terms;
    int32_t term_count;
};

struct weir_plan_expectations {
    struct weir_plan_expectation *list;
    int32_t count;
};

struct weir_plan_dedup {
    bool present;
    const char **by;
    int32_t by_count;
    int64_t within_us;
};

struct weir_plan_source {
    const char *name;
    const char *file;
    const char *connector; /* "files", "generator" */
    json_t *connector_options;
    const char *decoder; /* "json" or NULL */
    json_t *decoder_options;
    struct weir_schema *schema;      /* user columns */
    struct weir_schema *full_schema; /* user columns, then meta columns */
    struct weir_projection *decoded; /* what is read of `schema`; NULL: all */
    struct weir_plan_sink into;
    struct weir_plan_sink quarantine; /* where not given: the pipeline's */
    int64_t alignment_us;             /* -1: none; WEIR_ALIGNMENT_UNSAID */
};
#define WEIR_ALIGNMENT_UNSAID INT64_MIN
/* Its rows are commands, whose senders wait for a reply. */
bool weir_plan_replies(const struct weir_plan_source *source);

struct weir_plan_out_column {
    int32_t input; /* index in input, or -1 */
    int32_t map;   /* index in map_out, or -1 */
    int32_t child; /* of the struct `input` is: that field of it; or -1 */
};

struct weir_plan_explode {
    bool present;
    bool index;               /* a column behind the element's has its place, from 1 */
    bool keep_empty;          /* a null or empty list leaves one row, without an element */
    int32_t column;           /* of input: the list; -1 when a function makes it */
    int32_t function;         /* or -1 */
    int32_t first;            /* column of input that takes the element */
    struct weir_schema *made; /* one column: what the function makes */
};

/* Rows of a dataset by key, one beside each row of the stream. */
struct weir_plan_lookup {
    const char *name; /* as row functions call it */
    const char *from; /* the dataset: it has a lookup_key */
    const char **on;  /* columns of input, in the order of the key */
    int32_t on_count;
    bool inner;                /* a row that finds nothing leaves */
    bool quarantine;           /* to quarantine, not just counted */
    json_t *http;              /* who is asked, in place of `from`; or NULL */
    json_t *defaults;          /* column: literal, of what is found in place of nothing; or NULL */
    struct weir_schema *found; /* one column: a struct of what is kept of the row found */
    int32_t before; /* the join whose left rows it is for; the number of joins: for map */
    int32_t column; /* of those before a join: of input, as of a join */
    int32_t beside;
};

struct weir_plan_join {
    const char *name; /* as row functions call it */
    const char *what; /* "interval", "window", "temporal", "regular" */
    const char *from; /* the right dataset */
    const char *kind; /* "inner", "left", "right", "full", "semi", "anti" */
    const char **left_on;
    int32_t on_count;
    const char **right_on;
    int32_t right_on_count;
    const char **left; /* columns kept of left rows */
    int32_t left_count;
    int32_t column; /* of input: a struct of what is kept of right rows */
    int32_t beside; /* of input: the same as plain columns, for joins behind it; or -1 */
    int64_t low_us;
    int64_t high_us;
    const char *high_column; /* of left, in place of high_us; or NULL */
    int64_t window_us;       /* of a window join; else 0 */
    int64_t every_us;
    int32_t bounds;    /* of input: its window_start, and then window_end; or -1 */
    const char *as_of; /* of left, of a temporal join; NULL: event time */
    int64_t wait_us;   /* likewise; -1: for the right watermark */
    bool quarantine;   /* likewise: what rows do that find nothing and must */
    int64_t ttl_us[2]; /* of a regular join's sides; -1: none */
    int32_t change;    /* likewise: column of input that says what becomes of a row; or -1 */
    bool left_changes; /* likewise: left rows bring it */
    bool by_clock;     /* likewise: a side has no event time */
    int64_t lateness_us;
    int32_t where;         /* function of the pair, or -1 */
    const char *condition; /* of a regular join: what it says, hashed; else NULL */
    const char *late_left; /* datasets of rows too late; or NULL */
    const char *late_right;
};

struct weir_plan_rule { /* rows of a stream go through a function with keyed state */
    const char **key;
    int32_t key_count;
    bool by_arrival; /* else a key's rows in order of event time */
    bool timed;      /* its rows have event time */
    bool versioned;  /* rows may say which version of their key they expect */
    int32_t function;
    struct weir_plan_cell {
        const char *name;
        const char *kind;
        int64_t max;
        struct weir_schema *fields;
    } * cells;
    int32_t cell_count;
    const char **timers;
    int32_t timer_count;
    struct weir_plan_emit {
        const char *name;
        struct weir_schema *schema;
        struct weir_plan_sink into;
    } * emits;
    int32_t emit_count;
    int32_t span; /* most items of one call; 0: as many as fit */
    int64_t version;
    int64_t ttl_us;
    bool ttl_by_clock;
    int64_t *migrates; /* versions it has functions for; < 0: ways back */
    int32_t migrate_count;
};

struct weir_plan_stream {
    struct weir_plan_rule *rule; /* or NULL */
    const char *name;
    const char *from;      /* the first of */
    const char **all_from; /* those read */
    int32_t from_count;
    struct weir_schema *input;
    struct weir_plan_time time;
    int32_t where; /* function or -1 */
    struct weir_plan_explode explode;
    struct weir_plan_expectations expectations;
    struct weir_plan_dedup dedup;
    struct weir_plan_lookup *lookups;
    int32_t lookup_count;
    const char **lookup_key; /* others look its rows up by these; or none */
    int32_t lookup_key_count;
    struct weir_plan_join *joins;
    int32_t join_count;
    int32_t entered; /* of a stream with joins: columns of input before all that they make */
    /* The key of what it remembers: a model or join reads it that takes rows back, and its changes
     * do not carry them. Count 0: it does not. */
    const char **remember;
    int32_t remember_count;
    bool changes_whole; /* what it reads is a changelog in which −U and −D are whole rows */
    int32_t map;        /* function or -1 */
    struct weir_schema *map_out;
    struct weir_schema *output;
    struct weir_plan_out_column *out_columns; /* one per output column */
    struct weir_plan_expectations ensures;
    struct weir_plan_expectations quality;
    struct weir_plan_sink into;
    struct weir_plan_sink quarantine;
};

struct weir_plan_measure {
    const char *name;
    const char *kind;
    const char *column; /* or NULL */
    const char *order;  /* arg_max, arg_min: the column it is chosen by; or NULL */
    double share;       /* quantiles: 0 .. 1 */
    int64_t most;       /* top_k, collect: values; 0: all */
    int64_t over_us;    /* of the last while only; 0: of all rows */
    int32_t function;   /* value function or -1; of an aggregate what adds a row */
    const char *start;  /* type of what says where it begins (migrate); NULL: that is not said */
    int32_t merge;      /* functions of an aggregate; else -1 */
    int32_t finish;
    struct weir_field input; /* type of the aggregated value; type NONE for count of rows; of an
                                aggregate its state */
    struct weir_field result;
    int32_t where; /* function or -1 */
};

struct weir_plan_derive {
    const char *name;
    int32_t function;
};

struct weir_plan_top {
    bool present;
    int32_t n;
    const char *ties;     /* "first", "last", "all" */
    const char *rank;     /* or NULL */
    const char **columns; /* kept of each row */
    int32_t column_count;
    const char **per;
    int32_t per_count;
    struct weir_plan_order {
        const char *column;
        bool descending;
    } * by;
    int32_t by_count;
    int32_t tied_count; /* rows equal in so many of them are equal; 0: in all */
};

struct weir_plan_model {
    const char *name;
    const char *from;      /* the first of */
    const char **all_from; /* those read */
    int32_t from_count;
    struct weir_schema *input;
    struct weir_plan_time time;
    int32_t where;
    struct weir_plan_expectations expectations;
    struct weir_plan_dedup dedup;
    const char **by;
    int32_t by_count;
    bool unwindowed;       /* one row a key, that changes */
    bool refires;          /* updates, once their window has ended */
    bool updates;          /* rows of windows leave as they change */
    int64_t emit_every_us; /* of rows that change: how often they leave; 0: as they do */
    bool forgets;          /* some measure is of the last while only */
    bool retracts;  /* what it reads is a changelog with old rows: −U, −D are taken back */
    int32_t having; /* function over what leaves, or -1 */
    const char **lookup_key; /* others look its rows up by these; or none */
    int32_t lookup_key_count;
    int64_t window_size_us;    /* 0: session, calendar, none */
    int64_t window_every_us;   /* hopping, cumulate; 0: tumbling */
    int64_t window_gap_us;     /* session */
    int64_t window_rows;       /* count */
    const char *calendar_unit; /* calendar: "day" .. "year"; NULL: other windows */
    const char *calendar_zone;
    int32_t calendar_week_start; /* 0: Monday */
    bool window_cumulates;
    int64_t allowed_lateness_us;
    const char *late; /* dataset name or NULL */
    struct weir_plan_top top;
    struct weir_plan_measure *measures; /* none: whole rows, by `top` */
    int32_t measure_count;
    struct weir_schema *output; /* by, window_start, window_end, measures, derives */
    struct weir_plan_derive *derives;
    int32_t derive_count;
    struct weir_plan_expectations tests;
    const char **unique; /* columns of a `unique` test, or none */
    int32_t unique_count;
    struct weir_plan_sink into;
    struct weir_plan_sink quarantine;
    int64_t version;
    int32_t migrate;   /* function that calls those by version, or -1 */
    int64_t *migrates; /* versions it has one for; < 0: ways back */
    int32_t migrate_count;
    struct weir_renamed *renamed; /* measures, by version */
    int32_t renamed_count;
};

enum { WEIR_PLAN_PATH_MAX = 8 };

/* Operators of a row function that certainly throw on a null operand, as they are reached. */
struct weir_plan_nulls {
    int32_t (*sites)[2]; /* input columns; -1: never null */
    int32_t count;
};

/* A column of the input, or a field of a struct in it. */
struct weir_plan_path {
    int32_t steps[WEIR_PLAN_PATH_MAX]; /* the column, then fields */
    int32_t count;
    int32_t map; /* of a copy: the output column it becomes */
};

/* What a map function only hands on, wherever no struct on the way is null. */
struct weir_plan_copies {
    struct weir_plan_path *columns;
    int32_t count;
    struct weir_plan_path *through; /* structs that must not be null */
    int32_t through_count;
    bool all; /* the function does nothing else */
};

struct weir_plan {
    json_t *root; /* owns every string */
    const char *pipeline;
    const char *storage_root;         /* NULL: no tables, and then ledger_path is set */
    struct weir_plan_sink quarantine; /* of datasets that do not say; and late rows */
    json_t *storage_options;          /* borrowed from root; NULL: none */
    const char *ledger_path;          /* or NULL: derived from the storage root */
    const char
        *whole_ledger; /* of a run of some datasets (`only`): where that of all is; or NULL */
    const char **only; /* their names */
    int32_t only_count;
    int64_t commit_every_us;
    int64_t ledger_keep_us;
    int64_t ledger_segment_bytes;
    int64_t snapshot_every_us;
    struct weir_plan_http { /* where the process listens */
        bool present;
        const char *address;
        int64_t port;
        const char *certificate; /* or NULL: no TLS */
        const char *key;
        const char *client_authority; /* or NULL */
        int64_t connections;
        int64_t timeout_us;
        int64_t idle_us;
    } http;
    int64_t data_bytes;
    int64_t state_bytes;
    struct weir_plan_source *sources;
    int32_t source_count;
    struct weir_plan_stream *streams;
    int32_t stream_count;
    struct weir_plan_model *models;
    int32_t model_count;
    struct weir_plan_nulls *nulls;   /* by function */
    struct weir_plan_copies *copies; /* by function */
    int32_t function_count;
};

/* Parses the document. A malformed plan is a bug of the script room: WEIR_E_BUG naming the place.
 */
int weir_plan_parse(const char *json, struct weir_plan **out,
                    struct weir_error *err) WEIR_MUST_CHECK;
void weir_plan_destroy(struct weir_plan *plan);
/* Where the ledger lies: as declared, else <storage root>/_weir/<pipeline>/ledger. */
void weir_plan_ledger_path(const struct weir_plan *plan, char *out, size_t size);
