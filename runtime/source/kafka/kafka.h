#pragma once
/* What the files of the Kafka source share. Private to the room.
 *
 * Weir numbers the partitions of all topics of a source from 0 in the order it met them; a
 * position carries topic and partition, so that the numbers stay over restarts. Partitions are
 * spread over a few lanes: a lane is one thread with one queue of librdkafka, which feeds it from
 * all of them. A partition's state belongs to its lane's thread; only the list of those that are
 * new is shared. */
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <regex.h>
#include <stdatomic.h>

#include "kafka/client.h"
#include "source/internal.h"

enum { KAFKA_LANES_MAX = 16 };
enum kafka_extra_column { KAFKA_EXTRA_KEY, KAFKA_EXTRA_HEADERS, KAFKA_EXTRA_COUNT };
struct kafka_extra;

struct kafka_topic {
    struct kafka_topic *next;
    rd_kafka_topic_t *handle;
    char *name;
    struct kafka_part **parts; /* by Kafka's number; NULL where not met yet */
    int32_t part_count;
};

struct kafka_part {
    struct kafka_topic *topic;
    struct kafka_part *next_new; /* in its lane's list of new ones */
    int32_t number;              /* Kafka's */
    int32_t index;               /* Weir's */
    int64_t next;                /* offset of the next message to deliver */
    int64_t end;                 /* bounded: where it ends; else INT64_MAX */
    bool has_input;              /* there was something to read when it was met */
    bool is_known;               /* the ledger had a position */
    bool reading;                /* librdkafka fetches it */
    bool ended;
    int64_t durable; /* under kafka->lock: rows before this offset are safe */
    int64_t told;    /* of these the group has heard */
};

struct kafka_group {
    struct weir_kafka_client client; /* of its own: what it assigns is not read */
    char id[256];
    char client_id[64]; /* tells a pipeline's own earlier run from somebody else */
    int64_t told_ns;
    bool joined;    /* asked to be a member */
    bool is_member; /* and is one, or needs not be one to tell offsets */
    bool listed;    /* the brokers name us among its members */
    bool look;      /* somebody may have joined */
    bool failed_said;
    atomic_bool failed;      /* lanes stop with: */
    struct weir_error error; /* under kafka->lock */
};

struct kafka_lane {
    struct weir_source *source;
    rd_kafka_queue_t *queue;
    struct weir_decoder *decoder;
    struct weir_batch_builder builder;
    bool has_builder;
    struct source_leaving leaving;
    uint32_t columns_seen;        /* of source->columns_changed */
    struct kafka_extra *extra;    /* NULL: neither keys nor headers */
    struct source_outlet *outlet; /* NULL in pull mode */

    struct kafka_part *fresh;    /* under kafka->lock */
    struct kafka_part **buckets; /* those read, by topic and number; open addressing */
    uint32_t bucket_count;
    int32_t part_count;
    int32_t ended_count;

    /* Messages of one partition on their way into a batch. */
    struct kafka_part *part;
    uint8_t *block;
    size_t block_size;
    size_t block_capacity;
    size_t block_expected; /* of one that stays with its batch */
    bool block_pooled;     /* it may */
    struct weir_frame *frames;
    int64_t *timestamps_us;
    int32_t frame_count;
    int32_t frames_done; /* decoded already */
    int32_t frames_max;  /* before the messages so far must go */
    bool finishing;      /* pull mode: the partition ends behind them */
    bool drained;        /* pull mode: nothing more for now */

    struct weir_error error; /* meaningful while rc is not 0 */
    int rc;
    bool closed;                 /* nobody takes batches any more */
    int64_t served;              /* messages so far */
    _Atomic uint64_t tombstones; /* messages without a value, passed over */
    int32_t longest_queue;       /* since librdkafka was last reminded */
};

struct kafka {
    struct kafka *left; /* see kafka.c's `left` */
    struct weir_kafka_client client;
    struct kafka_topic *topics;
    struct kafka_part *parts[WEIR_SOURCE_PARTITIONS_MAX]; /* by Weir's number; NULL: free */
    int32_t part_count;
    pthread_mutex_t lock; /* guards the lanes' lists of new partitions */

    /* options */
    struct json_t *options; /* as written; secrets are references */
    char **names;           /* topics by name */
    int32_t name_count;
    regex_t pattern;
    bool has_pattern;
    char *start;            /* "earliest", "latest", an offset, a time; NULL: earliest */
    struct json_t *offsets; /* { "topic/partition": text } or NULL */
    bool lost_is_earliest;
    int64_t discover_ms;
    int64_t open_ms; /* how long brokers may be away at the start */
    bool resumed;    /* the ledger knows this source: what is new is read from its beginning */

    struct kafka_group group;
    struct kafka_lane *lanes; /* threads'; in pull mode one a partition */
    int32_t lane_count;
    bool pulls;
    pthread_t watcher; /* looks for new partitions, reminds librdkafka */
    bool watching;
    atomic_bool stopping;
    atomic_bool remind;
    struct weir_signal wake;
    bool has_wake;
};

/* --- kafka_topics.c -------------------------------------------------------------------------- */

/* Asks the brokers for the topics' partitions and adds those not met yet, with the offset to read
 * from. `wait_ms`: how long brokers may take to answer. */
int kafka_discover(struct weir_source *source, int64_t wait_ms,
                   struct weir_error *err) WEIR_MUST_CHECK;
/* The partition a position names, added where it is new; at Weir's number `index`. */
int kafka_restore(struct weir_source *source, const struct weir_position *position, int32_t index,
                  struct weir_error *err) WEIR_MUST_CHECK;
/* Offsets at which restored partitions go on: still there? Bounded: where do they end? */
int kafka_check_restored(struct weir_source *source, int64_t wait_ms,
                         struct weir_error *err) WEIR_MUST_CHECK;
/* The messages from `part->next` on are gone: an error that says what to do, or the offset to go on
 * from in part->next, as the declaration has it. */
int kafka_lost(struct kafka *kafka, struct kafka_part *part, int64_t low, int64_t high,
               struct weir_error *err) WEIR_MUST_CHECK;
void kafka_topics_free(struct kafka *kafka);
/* Topic, partition and offset. */
uint32_t kafka_position_bytes(const struct kafka_part *part);
/* -1 where it is none of Kafka's. */
int64_t kafka_position_offset(const struct weir_position *position);
void kafka_write_position(const struct kafka_part *part, int64_t next, uint8_t *out);
int kafka_describe(const struct weir_position *position, struct weir_buffer *out);

/* --- kafka_group.c: thread of the watcher, but join ------------------------------------------- */

/* Joins the consumer group; WEIR_E_LOCKED when somebody else reads in it. */
int kafka_group_join(struct weir_source *source, struct weir_error *err) WEIR_MUST_CHECK;
/* Serves it: rebalances, offsets that became durable. Does not block for long. */
void kafka_group_step(struct kafka *kafka);
/* Any thread: what lies before `next` in this partition is safe. */
void kafka_group_note(struct kafka *kafka, int32_t partition, int64_t next);
/* False: its client could not be closed and lives on, with `kafka->group` as its memory. */
bool kafka_group_leave(struct kafka *kafka) WEIR_MUST_CHECK;

/* --- kafka_extra.c: keys and headers ---------------------------------------------------------- */

bool kafka_extra_wanted(const struct json_t *options, enum kafka_extra_column column);
/* `decoded` and the columns the options ask for: the vtable's slot. */
int kafka_extra_columns(const char *options_json, struct weir_schema *decoded,
                        struct weir_schema **out, struct weir_error *err) WEIR_MUST_CHECK;
int kafka_extra_create(struct weir_source *source, struct kafka_extra **out,
                       struct weir_error *err) WEIR_MUST_CHECK;
void kafka_extra_destroy(struct kafka_extra *extra); /* NULL is fine; also after a failed create */
/* The decoder's columns, and those with what every source adds. Borrowed. */
struct weir_schema *kafka_extra_decoded(const struct kafka_extra *extra);
struct weir_schema *kafka_extra_decoded_full(const struct kafka_extra *extra);
/* Frame 0 forgets the frames before. */
int kafka_extra_keep(struct kafka_extra *extra, int32_t frame,
                     const rd_kafka_message_t *message) WEIR_MUST_CHECK;
/* `decoded`, whose first frame is lane->frames[from], with the columns added; NULL at the pool's
 * cap. */
struct weir_batch *kafka_extra_join(struct kafka_lane *lane, int32_t from,
                                    struct weir_batch *decoded);

/* --- kafka_lane.c ---------------------------------------------------------------------------- */

int kafka_lane_init(struct kafka_lane *lane, struct weir_source *source,
                    struct weir_error *err) WEIR_MUST_CHECK;
void kafka_lane_fini(struct kafka_lane *lane);
/* Any thread: the lane reads this partition from now on. */
void kafka_lane_give(struct kafka *kafka, struct kafka_lane *lane, struct kafka_part *part);
/* Messages for a tenth of a second at most, delivered through the outlet. */
int kafka_lane_serve(struct kafka_lane *lane, struct source_outlet *outlet, bool *ended,
                     struct weir_error *err) WEIR_MUST_CHECK;
/* Pull mode: one batch of at most max_rows messages; NULL when there is nothing now. */
int kafka_lane_next(struct kafka_lane *lane, int32_t max_rows, struct weir_source_batch **out,
                    struct weir_error *err) WEIR_MUST_CHECK;
