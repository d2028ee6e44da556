#pragma once
/* Snapshots of state, fuzzy: slices are dumped while epochs go on, noting the epoch open at the
 * first slice (begin) and at the last (end); with records begin..end redone over it, it is the
 * state at end. Published only once record `end` is durable; the previous one stays until then,
 * and its records with it.
 *
 *   <path>/<end, 20 digits>.snap     published; <path>/<begin, 20 digits>.tmp while written
 *   header 4096 bytes: 0 magic "WEIRSNAP"  8 u32 format  12 u32 min reader  16 u64 required
 *     features  24 lineage 16  40 log 16  56 u64 begin  64 i64 time_us  4080 hash 16 over 0..4079
 *   slice: 0 u32 magic 0x4c535257 "WRSL"  4 u32 table name bytes  8 u64 payload bytes
 *     16 hash 16 over bytes 0..15, name and payload   32 name, payload, zero padded to 8
 *   footer: one slice with the empty name, whose payload is a record (record.h) with epoch = end
 *     and all keys of the keyed sections; then trailer 64 bytes:
 *      0 magic "WEIRSEND"  8 u64 begin  16 u64 end  24 u64 slices (footer not counted)
 *     32 u64 bytes before the trailer  40 u64 zero  48 hash 16 over all slice hashes in order
 *        (each 16 bytes as stored) and bytes 0..47 of the trailer
 *
 * One writer thread; a loader may run in any thread. */
#include <stdbool.h>
#include <stdint.h>

#include "commit/ledger.h"
#include "commit/record.h"
#include "core/error.h"
#include "core/file.h"

#define WEIR_SNAPSHOT_FORMAT 1u

struct weir_snapshots; /* a directory of them */

struct weir_snapshots_options {
    const char *path;
    struct weir_files *files; /* NULL = the operating system's */
    struct weir_ledger_identity identity;
    uint64_t max_slice_bytes; /* 0 = 1 GiB */
    uint32_t keep;            /* published ones to keep; 0 = 2 */
    bool read_only;           /* nothing is made and nothing deleted: the writer may be at work */
};

/* Makes the directory, deletes leftovers of unfinished writes. */
int weir_snapshots_open(const struct weir_snapshots_options *options, struct weir_snapshots **out,
                        struct weir_error *err) WEIR_MUST_CHECK;
void weir_snapshots_close(struct weir_snapshots *snapshots);
/* Begin of the oldest snapshot kept: records from there on are needed. 1 while there is none, so
 * that nothing is trimmed. */
uint64_t weir_snapshots_oldest_begin(const struct weir_snapshots *snapshots);
uint64_t weir_snapshots_newest_end(const struct weir_snapshots *snapshots); /* 0 = none */

struct weir_snapshot_writer;

int weir_snapshot_begin(struct weir_snapshots *snapshots, uint64_t epoch, int64_t time_us,
                        struct weir_snapshot_writer **out, struct weir_error *err) WEIR_MUST_CHECK;
/* Written to the file before it returns (not synced). */
int weir_snapshot_append(struct weir_snapshot_writer *writer, const char *table, size_t table_size,
                         const void *bytes, size_t size, struct weir_error *err) WEIR_MUST_CHECK;
/* `epoch` was open when the last slice was taken; `state` (filled by the caller, epoch = that one,
 * not finished) carries positions, watermarks, counters and markers, all keys. Syncs. The record
 * is not taken. */
int weir_snapshot_end(struct weir_snapshot_writer *writer, struct weir_record *state,
                      struct weir_error *err) WEIR_MUST_CHECK;
/* Needs durable_epoch >= end (WEIR_E_USAGE else; try again later). Renames, syncs the directory,
 * deletes snapshots beyond `keep`. The writer is used up on success. */
int weir_snapshot_publish(struct weir_snapshot_writer *writer, uint64_t durable_epoch,
                          struct weir_error *err) WEIR_MUST_CHECK;
uint64_t weir_snapshot_end_epoch(const struct weir_snapshot_writer *writer); /* 0 before end */
void weir_snapshot_abandon(struct weir_snapshot_writer *writer);             /* deletes the file */

/* A published snapshot, completely verified when opened. */
struct weir_snapshot;
/* The newest with end <= last_record that verifies; falls back to older ones, counting them in
 * *damaged (each logged with its error). *out = NULL and WEIR_OK when there is none. */
int weir_snapshot_load(struct weir_snapshots *snapshots, uint64_t last_record,
                       struct weir_snapshot **out, uint32_t *damaged,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* Of those with end <= record, for who looks back: later ones are passed over, where the former
 * takes them as a sign that the ledger lost its end. */
int weir_snapshot_load_at(struct weir_snapshots *snapshots, uint64_t record,
                          struct weir_snapshot **out, uint32_t *damaged,
                          struct weir_error *err) WEIR_MUST_CHECK;
uint64_t weir_snapshot_view_begin(const struct weir_snapshot *snapshot);
uint64_t weir_snapshot_view_end(const struct weir_snapshot *snapshot);
/* Valid until close. */
const struct weir_record_view *weir_snapshot_view_state(const struct weir_snapshot *snapshot);
/* Slices in the order written; spans are valid until the next call. */
int weir_snapshot_next(struct weir_snapshot *snapshot, struct weir_span *table,
                       struct weir_span *bytes, bool *end, struct weir_error *err) WEIR_MUST_CHECK;
void weir_snapshot_close(struct weir_snapshot *snapshot);
