#pragma once
/* Private to pipeline.c, intake.c, seal.c, recovery.c, snapshotter.c and reload.c. */
#include <pthread.h>
#include <stdatomic.h>

#include "commit/epoch.h"
#include "commit/ledger.h"
#include "commit/recover.h"
#include "commit/snapshot.h"
#include "core/signal.h"
#include "pipeline/graph/plan.h"
#include "pipeline/graph/slice.h"
#include "pipeline/pipeline.h"
#include "sink/sinks.h"
#include "source/source.h"
#include "state/replies.h"

enum { POSITION_TOLD_MAX = 320, CELLS_MAX = 512 };

struct partition_state {
    char name[256];    /* "<source>/<partition>" */
    uint8_t *position; /* after the last batch taken; a weir_block */
    uint32_t position_size;
    uint32_t told_size;
    uint8_t told[POSITION_TOLD_MAX]; /* at the seal of told_epoch */
    bool ended;
};

struct source_state {
    struct weir_source *source;
    struct partition_state *partitions;
    int32_t partition_count;
    double row_ns; /* CPU of the loop a row, lately */
    bool ahead;    /* rows are looked up in what comes of it: it is read before others */
    bool started;
    /* Others are further behind in event time than its alignment (align.c): */
    bool waits;
    int32_t waits_for;
    int64_t waits_us;
};

/* The batch being taken in: over several turns when it closes windows or much of it is refused. */
enum intake_stage { INTAKE_REJECTS, INTAKE_POSITION, INTAKE_END, INTAKE_END_ALL, INTAKE_DONE };
struct intake {
    struct weir_source_batch *batch; /* NULL: none */
    int32_t source;
    enum intake_stage stage;
    bool ahead;      /* some sources are read first, and the others not started */
    int32_t rejects; /* of the batch, quarantined so far */
    /* whose turn it is next */
    int32_t turn_source;
    int32_t turn_lane;
};

struct schedule_text {
    struct schedule_text *next;
    size_t size;
    char bytes[];
};

/* What the loop did since the last seal, for the record's schedule. */
struct schedule {
    struct weir_message *messages;
    size_t count;
    size_t capacity;
    struct schedule_text *texts; /* what messages borrow that is nobody else's */
};

/* Images of the sealed epoch on their way into its record. */
struct collection {
    bool active;
    uint64_t epoch;
    struct weir_cell *cells[CELLS_MAX];
    int32_t cell_count;
    int32_t at;
    bool cell_done; /* the one looked at last */
};

struct weir_command;
struct rebuilt;
struct snapshotter;
struct status_writer;
struct reload;

struct sink_route { /* the commit room's callbacks, one a sink */
    struct weir_pipeline *pipeline;
    int32_t sink;
};

struct weir_pipeline {
    struct weir_pipeline_options options;
    struct weir_script *script;
    struct weir_rule_set *rule_set;
    struct weir_plan *plan;
    struct weir_graph *graph;
    struct weir_pool *pool;
    struct weir_pool *source_pool;
    struct weir_signal signal;
    struct source_state *sources;
    int32_t source_count;
    struct weir_store *remote; /* the object store tables lie in; NULL: a folder */
    struct weir_sinks *sinks;
    struct weir_ledger *ledger;
    struct weir_snapshots *snapshots;
    struct weir_commit *commit;
    struct snapshotter *snapshotter;
    struct status_writer *status_writer;
    struct schedule schedule;
    struct collection collection;
    struct intake intake;
    struct freshness freshness;
    struct weir_replies **replies; /* by source; NULL of those that do not reply */
    int32_t reply_count;           /* sources */
    struct weir_command *command;  /* NULL: none replies */
    int64_t commands;
    int64_t commands_open; /* in the open epoch */
    struct slices slices;
    char application_id[96];
    char lineage[33]; /* of the ledger, as hex */
    char log[33];
    char ledger_path[1024];
    char snapshot_path[1100];

    uint64_t epoch; /* the open one */
    int64_t clock_us;
    int64_t sealed_at_ns; /* monotonic, of the last seal */
    int64_t last_tick_ns;
    uint64_t told_epoch; /* once it is durable, sources hear of it; 0: none waits */
    bool dirty;          /* something happened since the last seal */
    uint64_t images_since_snapshot;
    int64_t snapshot_at_ns;
    _Atomic int64_t snapshots_published;
    _Atomic int64_t snapshot_published_ns; /* monotonic, of the newest; 0: none by this process */
    _Atomic int64_t snapshot_took_ns;
    int64_t recovered_ns; /* what the start took to have state and positions again */
    uint64_t recovered_records;
    int64_t events;
    int64_t columns_changed; /* sources whose columns grew while they ran */
    int64_t columns_told;    /* and one: the ledger holds those after that many changes */
    int64_t started_ns;
    uint64_t rules_stamp; /* of the rule files before they were read */
    int64_t last_progress_ns;
    int64_t last_status_ns;
    int64_t loop_cpu_ns;
    int64_t seal_max_cpu_ns;
    int64_t blocked_since_ns; /* sinks have no room for more rows; 0: they have */
    int64_t blocked_ns;
    int64_t held_since_us; /* recorded clock: nothing is taken in since; 0: it is */
    atomic_bool stop;
    atomic_bool rollback;
    bool restarts;           /* the run is to begin again with the rules on disk */
    struct rebuilt *rebuilt; /* taken over by this start */
    int32_t rebuilt_count;
    atomic_bool failed; /* a thread failed; failure says why */
    struct weir_error failure;
    pthread_mutex_t failure_lock;     /* guards failure becoming set */
    struct weir_error source_failure; /* code not 0: the run ends with it once all is sealed */
    struct reload *reload;
    struct sink_route routes[WEIR_COMMIT_MAX_SINKS];
    char *orphans[WEIR_COMMIT_MAX_SINKS]; /* names of sinks only old records know; owned */
    int32_t orphan_count;
    char note[512];
    char url[128]; /* where the process listens, or "" */
};

/* seal.c */
int schedule_add(struct weir_pipeline *p, const struct weir_message *message) WEIR_MUST_CHECK;
/* The same with a copy of its reason. */
int schedule_add_copy(struct weir_pipeline *p, struct weir_message *message) WEIR_MUST_CHECK;
void schedule_clear(struct weir_pipeline *p);
/* The epoch before is collected, and nothing is half taken in. */
int pipeline_seal(struct weir_pipeline *p, struct weir_error *err) WEIR_MUST_CHECK;
/* Up to budget_ns of collecting; all of it when budget_ns < 0. */
int pipeline_collect(struct weir_pipeline *p, int64_t budget_ns,
                     struct weir_error *err) WEIR_MUST_CHECK;
/* Sources that tell others how far they are hear of what became durable. */
void pipeline_note_positions(struct weir_pipeline *p, uint64_t epoch);
void pipeline_tell_sources(struct weir_pipeline *p);
void pipeline_fail(struct weir_pipeline *p, const struct weir_error *err);

/* intake.c */
void pipeline_move_clock(struct weir_pipeline *p);
/* Goes on with what was begun, then takes more if it may, for about half a millisecond. */
/* align.c: which sources wait for others, from now on; and who tells. */
int align_sources(struct weir_pipeline *p, struct weir_error *err) WEIR_MUST_CHECK;
int align_why(const struct weir_pipeline *p, struct weir_buffer *out) WEIR_MUST_CHECK;
int intake_step(struct weir_pipeline *p, bool may_take, bool *worked,
                struct weir_error *err) WEIR_MUST_CHECK;
/* Rows are half taken in or windows half emitted; or rows wait while others come: no epoch may end
 * here, and time does not move while it is half of the first. */
bool intake_half(const struct weir_pipeline *p);
bool intake_busy(const struct weir_pipeline *p);
/* Bounded sources have given all they have. */
bool intake_ended(const struct weir_pipeline *p);
/* Starts the sources: those rows are looked up in first, the others once these came to an end. */
int intake_start(struct weir_pipeline *p, struct weir_error *err) WEIR_MUST_CHECK;
void intake_fini(struct weir_pipeline *p);

/* replying.c */
int replying_create(struct weir_pipeline *p, struct weir_error *err) WEIR_MUST_CHECK;
void replying_destroy(struct weir_pipeline *p);
/* All state: the graph's, and replies. */
int32_t pipeline_cells(struct weir_pipeline *p, struct weir_cell **cells, int32_t capacity);
/* Around a batch of a source that replies: one row. */
void replying_begin(struct weir_pipeline *p, int32_t source, const struct weir_source_batch *batch);
int replying_end(struct weir_pipeline *p, int32_t source, struct weir_error *err) WEIR_MUST_CHECK;
/* Somebody waits for the open epoch, and the last seal is long enough ago. */
bool replying_due(const struct weir_pipeline *p);
/* Committer's thread. */
void replying_durable(struct weir_pipeline *p, uint64_t epoch);
void replying_restored(struct weir_pipeline *p);

/* pipeline.c */
/* What the ledger owes to tables is done; nothing is read. Instead of a run. */
int pipeline_settle(struct weir_pipeline *p, struct weir_error *err) WEIR_MUST_CHECK;
int pipeline_make_graph(struct weir_pipeline *p, const struct weir_plan *plan,
                        struct weir_rule_set *rule_set, struct weir_graph **out,
                        struct weir_error *err) WEIR_MUST_CHECK;

/* progress.c */
int pipeline_status_text(struct weir_pipeline *p, struct weir_buffer *out) WEIR_MUST_CHECK;

/* status.c */
int status_writer_create(struct weir_pipeline *p, struct status_writer **out,
                         struct weir_error *err) WEIR_MUST_CHECK;
void status_writer_destroy(struct status_writer *w);
/* <ledger>/status.json for `weir status`, and the request file `weir rollback` leaves. */
void pipeline_write_status(struct weir_pipeline *p);
/* What a run came to, to be read when it is over; nothing is written after it. */
void pipeline_end_status(struct weir_pipeline *p);
bool pipeline_take_request(struct weir_pipeline *p, const char *name);

/* recovery.c */
/* Gives every written dataset of `graph` its sink, adding those that are new (before the start). */
int pipeline_bind_sinks(struct weir_pipeline *p, struct weir_graph *graph,
                        struct weir_error *err) WEIR_MUST_CHECK;
/* What rows of each dataset owe its table, once sinks have started and columns are known. */
int pipeline_bind_duties(struct weir_pipeline *p, struct weir_graph *graph,
                         struct weir_error *err) WEIR_MUST_CHECK;
int pipeline_recover(struct weir_pipeline *p, struct weir_error *err) WEIR_MUST_CHECK;

/* snapshotter.c: dumps cells slice by slice on the loop, writes and syncs on a thread of its own */
int snapshotter_create(struct weir_pipeline *p, struct snapshotter **out,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* Loop thread: begins one when it is due, dumps a slice when one is under way. */
int snapshotter_step(struct weir_pipeline *p, struct weir_error *err) WEIR_MUST_CHECK;
/* Keyed sections of the record, positions first: what a snapshot's state needs. */
int pipeline_put_keyed(struct weir_pipeline *p, struct weir_record *record,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* A dump is under way: cells must stay where they are. */
bool snapshotter_dumping(const struct snapshotter *snapshotter);
void snapshotter_destroy(struct snapshotter *snapshotter);

/* reload.c */
/* Which rule files there are, and which versions of them: the same while nobody saves one. */
uint64_t reload_rules_stamp(void);
int reload_create(struct weir_pipeline *p, struct reload **out,
                  struct weir_error *err) WEIR_MUST_CHECK;
/* Loop thread, between batches: looks for changed files, stages, checks. */
int reload_step(struct weir_pipeline *p, struct weir_error *err) WEIR_MUST_CHECK;
/* Loop thread, right after a seal: swaps what is staged, or rolls back. */
int reload_at_seal(struct weir_pipeline *p, struct weir_error *err) WEIR_MUST_CHECK;
void reload_destroy(struct reload *reload);
