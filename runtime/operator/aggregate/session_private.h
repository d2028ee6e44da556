#pragma once
/* The inside of sessions, shared by session.c and session_moments.c. */
#include "operator/aggregate/session.h"
#include "state/side.h"

struct span { /* after the measures in a slot's value, and how many rows it has where rows change */
    int64_t first;
    int64_t last;
};

/* A session's end as it was when it was put here; it is brought up to date when it comes to the
 * top. A session whose end came nearer stands here again. */
struct closing {
    int64_t end;
    uint64_t sequence;
    uint32_t number;
};

struct weir_moments;

struct weir_sessions {
    int64_t gap;
    struct weir_table *groups;
    struct closing *closing; /* a heap: earliest end, then sequence, first */
    size_t closing_count;
    size_t closing_capacity;
    uint64_t *hashes; /* of groups, by position of the rows fed */
    int32_t hash_capacity;
    struct weir_moments *moments; /* rows may be taken back; else NULL */
};

struct span weir_session_span(const struct weir_aggregate *aggregate, struct weir_slot *slot);
void weir_session_set_span(const struct weir_aggregate *aggregate, struct weir_slot *slot,
                           struct span span);
int64_t weir_session_rows(const struct weir_aggregate *aggregate, struct weir_slot *slot);
void weir_session_set_rows(const struct weir_aggregate *aggregate, struct weir_slot *slot,
                           int64_t rows);
bool weir_session_is_open(const struct weir_aggregate *aggregate, struct weir_slot *slot,
                          int64_t watermark);
/* The earliest made session the row reaches, and whether it reaches more. */
struct weir_slot *weir_session_find(const struct weir_aggregate *aggregate,
                                    const struct weir_slot *group, int64_t time, int64_t watermark,
                                    bool *more);
/* A new one for the row at a position of the keys. */
struct weir_slot *weir_session_create(struct weir_aggregate *aggregate, int32_t position,
                                      int64_t time, struct weir_error *err);
int weir_session_join(struct weir_aggregate *aggregate, struct weir_slot *group,
                      struct weir_slot *into, int64_t time, int64_t watermark,
                      struct weir_error *err) WEIR_MUST_CHECK;
int weir_session_extend(struct weir_aggregate *aggregate, struct weir_slot *slot, int64_t time,
                        struct weir_error *err) WEIR_MUST_CHECK;
int weir_session_unlink(struct weir_aggregate *aggregate, struct weir_slot *group,
                        const struct weir_slot *slot, struct weir_error *err) WEIR_MUST_CHECK;
bool weir_session_closes(struct weir_sessions *sessions, struct closing entry);
/* What the session was is noted where rows leave as changes; then it has `by` rows more. */
int weir_session_count(struct weir_aggregate *aggregate, struct weir_slot *slot, int64_t time,
                       int64_t by, struct weir_error *err) WEIR_MUST_CHECK;

/* --- session_moments.c -------------------------------------------------------------------------
 * Sessions of rows that may be taken back. A session that loses a row may begin later, end earlier,
 * fall in two or be gone, so what it is made of is kept: the measures of each of its moments (rows
 * of one time), a slot each, from which those of a session are put together again after each feed
 * that changed it. Cell "moment", by time and key; of a session its moments are a list. */

struct weir_moments *weir_moments_create(struct weir_aggregate *aggregate,
                                         const struct weir_aggregate_config *config,
                                         struct weir_error *err);
void weir_moments_destroy(struct weir_moments *moments);
size_t weir_moments_bytes(const struct weir_moments *moments);
struct weir_cell *weir_moments_cell(struct weir_moments *moments);
int weir_moments_feed(struct weir_aggregate *aggregate, const struct weir_feed *feed,
                      int32_t *late_sel, int32_t *late_count,
                      struct weir_error *err) WEIR_MUST_CHECK;
/* Those of `from` are those of `into` from here on. */
int weir_moments_join(struct weir_aggregate *aggregate, struct weir_slot *into,
                      struct weir_slot *from, struct weir_error *err) WEIR_MUST_CHECK;
/* The session is over. *work: how many went. */
int weir_moments_forget(struct weir_aggregate *aggregate, struct weir_slot *session, int32_t *work,
                        struct weir_error *err) WEIR_MUST_CHECK;
/* After the sessions. */
int weir_moments_restore(struct weir_aggregate *aggregate, struct weir_error *err) WEIR_MUST_CHECK;
