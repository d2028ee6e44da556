#pragma once
/* Private to the regular join: regular.c feeds rows and tells what changes, regular_disk.c brings
 * in what those need that wait on disk. */
#include "operator/join/regular.h"
#include "operator/key.h"

enum { REGULAR_FED_MOST = 1 << 15 }; /* rows needed at a time */

struct side {
    struct weir_key *on;
    struct weir_key *kept;
    struct weir_chains *rows;
    int64_t ttl_us;
    int32_t change;
    bool counted;    /* its rows leave by themselves, as they have others or not */
    bool with_other; /* while they have some; else while they have none */
    uint32_t hand;
};

/* A verdict: the other row is one for the row at `at` of the batch. */
struct asked {
    int32_t at;
    uint32_t other;
    bool before; /* with the row as it was */
    bool after;
};

/* What the row at hand does. */
enum act { ACT_NOTHING, ACT_ADD, ACT_REMOVE, ACT_UPDATE };

/* What is told of it next: of its others, what it was by itself, others that come with an update,
 * what it is. */
enum stage { STAGE_MEET, STAGE_GO, STAGE_COME, STAGE_DONE };

struct row {
    enum act act;
    int32_t new_at; /* position of the row that comes; of an update the one behind */
    bool keyless;
};

struct weir_regular {
    struct side sides[2];
    uint64_t shape;
    int64_t forgotten;
    char *declaration;
    /* The batch fed last. */
    int fed;
    const struct weir_batch *batch;
    int32_t *sel;
    int64_t *times; /* by position */
    int32_t count;
    int32_t capacity;
    struct weir_keys keys;
    struct weir_keys payloads;
    int32_t at;
    /* The row at hand, once begun. */
    bool begun;
    struct row row;
    enum stage stage;
    uint32_t own;    /* the link that came; 0: none */
    uint32_t met;    /* the other to be told next; 0: there are no more */
    uint32_t had;    /* how many it had */
    uint32_t others; /* and has */
    uint32_t *come;  /* others an update brings */
    size_t come_count;
    size_t come_capacity;
    size_t come_at;
    bool pairs; /* they leave */
    /* Verdicts; NULL: there is no condition. */
    struct asked *asked;
    int32_t asked_count;
    int32_t asked_at;
    int32_t ask_at; /* the row asked for next */
    bool ask_begun;
    struct row ask_row;
    uint32_t ask_met;
    /* Rows on disk. */
    bool on_disk;
    bool prepared;   /* the batch at hand was needed, and is yet to be fed */
    int32_t at_once; /* rows needed at a time, going by what they brought */
    size_t brought;  /* for those needed last */
};

static inline size_t span_of(const struct weir_keys *keys, int32_t i) {
    return keys->offsets[i + 1] - keys->offsets[i];
}

/* The batch is at hand, as far as its rows are bytes. */
int regular_prepare(struct weir_regular *r, int side, const struct weir_batch *batch,
                    const int32_t *sel, int32_t count, struct weir_error *err) WEIR_MUST_CHECK;
void regular_prefetch(const struct weir_regular *r, int32_t i);
/* As far as the batch says. */
struct row regular_classify(const struct weir_regular *r, int32_t i);
/* Whether its others say what it does, or hear of it. */
bool regular_asks_others(const struct weir_regular *r, const struct row *row);
