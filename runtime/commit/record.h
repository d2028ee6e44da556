#pragma once
/* Record: what one epoch did, as the bytes the ledger makes durable (docs/formats/ledger.md).
 *
 *   payload = msgpack map, keys are strings, in this order, absent when empty:
 *     "epoch"      uint     equals the frame's record number
 *     "sealed_at"  int      recorded clock, microseconds
 *     "requires"   [str]    sections a reader must understand; unknown name = refuse
 *     "rule_set"   bin      hash of the rule set that was live
 *     "positions"  {partition: bin | nil}      opaque to this room
 *     "watermarks" {partition or dataset: int | nil}
 *     "counters"   {dataset: bin | nil}        cumulative, opaque
 *     "digests"    {dataset: bin | nil}        of this epoch's output
 *     "markers"    {sink: uint | nil}          highest record known done per sink
 *                  {sink held: uint | nil}     the newest of these that had effects for it
 *     "schedule"   [[kind, clock_us, subject, partition, rows, hash, version, row, reason]]
 *     "images"     [[table, bin]]              opaque, applied in order
 *     "effects"    [[sink, kind, bin]]         opaque, applied in order
 *
 * The five maps are *keyed sections*: a record holds the keys that changed, nil removes one, and a
 * snapshot holds all keys; so a reader merges records over a snapshot, the latest wins, and a
 * writer may repeat unchanged keys. A message of the schedule leaves off trailing fields that are
 * 0 or empty. Unknown sections and further array elements are skipped unless "requires" names
 * them.
 *
 * Large blobs are never copied: the builder keeps them by reference and hands the ledger an iovec
 * list. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/uio.h>

#include "core/error.h"

struct weir_span { /* borrowed bytes */
    const uint8_t *data;
    size_t size;
};

/* Bytes with an owner. release(owner) is called exactly once by whoever holds the blob last;
 * NULL = nothing to do. */
struct weir_blob {
    const void *data;
    size_t size;
    void (*release)(void *owner);
    void *owner;
};

void weir_blob_release(struct weir_blob *blob); /* idempotent: clears it */

enum weir_section { /* the keyed ones */
                    WEIR_SECTION_POSITIONS,
                    WEIR_SECTION_WATERMARKS,
                    WEIR_SECTION_COUNTERS,
                    WEIR_SECTION_DIGESTS,
                    WEIR_SECTION_MARKERS,
                    WEIR_SECTION_COUNT_
};

enum weir_message_kind { /* recorded: append only */
                         WEIR_MESSAGE_BATCH = 1,
                         WEIR_MESSAGE_TICK,
                         WEIR_MESSAGE_IDLE, /* rows = microseconds in which nothing was taken; with
                                               a subject: that partition is blocked (1) or not */
                         WEIR_MESSAGE_TIMER,
                         WEIR_MESSAGE_ADMIN,
                         WEIR_MESSAGE_RULE_SET,  /* hash = first 8 bytes of the new hash, reason =
                                                    all of it */
                         WEIR_MESSAGE_VERDICT,   /* subject = declaration; version, row, reason */
                         WEIR_MESSAGE_PARAMETER, /* subject = name, reason = value */
                         WEIR_MESSAGE_REPLY,     /* from outside */
                         WEIR_MESSAGE_END,       /* a bounded partition is exhausted */
                         WEIR_MESSAGE_ANSWERED,  /* rows that waited out of order left: subject =
                                                    stream, partition = place, reason = which */
};

/* One message to the loop, in the total order. Units: clock_us as recorded by the loop. */
struct weir_message {
    uint8_t kind;
    int64_t clock_us;
    const char *subject; /* source, declaration or name; may be NULL when subject_size is 0 */
    size_t subject_size;
    uint32_t partition;
    uint64_t rows;
    uint64_t hash;
    uint64_t version;
    int64_t row;
    const char *reason;
    size_t reason_size;
};

/* ---- Builder: one thread at a time; create, fill, finish, iovecs valid until destroy. ---- */
struct weir_record;

struct weir_record_limits {
    size_t inline_bytes;  /* all that is copied; 0 = 64 MiB */
    uint64_t total_bytes; /* copied and referenced; 0 = 2 GiB */
};

int weir_record_create(uint64_t epoch, const struct weir_record_limits *limits,
                       struct weir_record **out, struct weir_error *err) WEIR_MUST_CHECK;
void weir_record_destroy(struct weir_record *record); /* releases what it still owns */

void weir_record_set_sealed_at(struct weir_record *record, int64_t clock_us);
/* Up to 64 bytes, copied. */
int weir_record_set_rule_set(struct weir_record *record, const void *hash, size_t size,
                             struct weir_error *err) WEIR_MUST_CHECK;
/* Key and value are copied. Positions, counters, digests. A key may be given once. */
int weir_record_put_bytes(struct weir_record *record, enum weir_section section, const char *key,
                          size_t key_size, const void *value, size_t size,
                          struct weir_error *err) WEIR_MUST_CHECK;
/* Key of WEIR_SECTION_MARKERS for the newest record *with effects* a sink has done, which is what
 * the sink's own transaction holds: "<sink> held". Returns its bytes; names longer are cut. */
#define WEIR_MARKER_KEY_BYTES 320
static inline size_t weir_marker_held_key(const char *sink, char key[WEIR_MARKER_KEY_BYTES]) {
    int length = snprintf(key, WEIR_MARKER_KEY_BYTES, "%.300s held", sink);
    return length > 0 ? (size_t)length : 0;
}

/* Watermarks, markers. */
int weir_record_put_int(struct weir_record *record, enum weir_section section, const char *key,
                        size_t key_size, int64_t value, struct weir_error *err) WEIR_MUST_CHECK;
int weir_record_remove(struct weir_record *record, enum weir_section section, const char *key,
                       size_t key_size, struct weir_error *err) WEIR_MUST_CHECK;
int weir_record_add_message(struct weir_record *record, const struct weir_message *message,
                            struct weir_error *err) WEIR_MUST_CHECK;
/* After-images of `table`. The blob is taken in every case (released on failure too). */
int weir_record_take_image(struct weir_record *record, const char *table, size_t table_size,
                           struct weir_blob *blob, struct weir_error *err) WEIR_MUST_CHECK;
/* An effect of `sink`. The blob is borrowed and must outlive the record. */
int weir_record_add_effect(struct weir_record *record, const char *sink, size_t sink_size,
                           uint64_t kind, struct weir_span body,
                           struct weir_error *err) WEIR_MUST_CHECK;
/* Lays the payload out. No additions afterwards. */
int weir_record_finish(struct weir_record *record, const struct iovec **parts, int *count,
                       uint64_t *size_bytes, struct weir_error *err) WEIR_MUST_CHECK;
uint64_t weir_record_epoch(const struct weir_record *record);
uint64_t weir_record_size_bytes(const struct weir_record *record); /* so far */

/* ---- Reader: borrows the payload; bounds-checked, allocates nothing. ---- */
struct weir_record_view {
    uint64_t epoch;
    int64_t sealed_at_us;
    struct weir_span rule_set;
    struct weir_span keyed[WEIR_SECTION_COUNT_]; /* the raw msgpack maps; empty when absent */
    struct weir_span schedule;
    struct weir_span images;
    struct weir_span effects;
};

/* Checks all of it, so that the iterators below cannot meet malformed bytes. WEIR_E_CORRUPT, or
 * WEIR_E_VERSION when it requires what this reader does not know. */
int weir_record_parse(const void *payload, size_t size, struct weir_record_view *out,
                      struct weir_error *err) WEIR_MUST_CHECK;

struct weir_section_iterator {
    struct weir_span rest;
    uint64_t left;
};
struct weir_section_iterator weir_section_iterate(struct weir_span section);

struct weir_keyed_entry {
    struct weir_span key;
    bool removed;
    bool is_int;
    int64_t number;        /* when is_int */
    struct weir_span body; /* else */
};
bool weir_keyed_next(struct weir_section_iterator *it, struct weir_keyed_entry *out);
bool weir_message_next(struct weir_section_iterator *it, struct weir_message *out);
/* Images: name = table, kind = 0. Effects: name = sink. */
struct weir_named_blob {
    struct weir_span name;
    uint64_t kind;
    struct weir_span body;
};
bool weir_image_next(struct weir_section_iterator *it, struct weir_named_blob *out);
bool weir_effect_next(struct weir_section_iterator *it, struct weir_named_blob *out);

const char *weir_section_name(enum weir_section section);   /* "positions" */
const char *weir_message_name(enum weir_message_kind kind); /* "batch"; "unknown" */
