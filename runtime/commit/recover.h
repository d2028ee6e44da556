#pragma once
/* Recovery: newest valid snapshot, then every record from its begin on, in order. What the keyed
 * sections say at the end is kept here for the caller (positions to seek to, counters, markers).
 * Runs in the loop's thread before it starts; nothing else may use the ledger meanwhile. */
#include <stdint.h>

#include "commit/ledger.h"
#include "commit/record.h"
#include "commit/snapshot.h"
#include "core/error.h"

struct weir_recovery_hooks {
    void *context;
    /* A slice of the snapshot; may be NULL. */
    int (*slice)(void *context, struct weir_span table, struct weir_span bytes,
                 struct weir_error *err);
    /* A record, ascending, each exactly once; may be NULL. */
    int (*apply)(void *context, const struct weir_record_view *record, struct weir_error *err);
};

struct weir_recovery;

/* snapshots may be NULL (then records from 1 must all be there). */
int weir_recover(struct weir_ledger *ledger, struct weir_snapshots *snapshots,
                 const struct weir_recovery_hooks *hooks, struct weir_recovery **out,
                 struct weir_error *err) WEIR_MUST_CHECK;
void weir_recovery_destroy(struct weir_recovery *recovery);

uint64_t weir_recovery_last(const struct weir_recovery *recovery); /* record number, 0 = none */
int64_t weir_recovery_sealed_at_us(const struct weir_recovery *recovery); /* of that record */
struct weir_span weir_recovery_rule_set(const struct weir_recovery *recovery);
uint64_t weir_recovery_snapshot_end(const struct weir_recovery *recovery); /* 0 = none used */
uint32_t weir_recovery_damaged_snapshots(const struct weir_recovery *recovery);
uint64_t weir_recovery_records_applied(const struct weir_recovery *recovery);
/* False when the key is absent. Spans live as long as the recovery. */
bool weir_recovery_find(const struct weir_recovery *recovery, enum weir_section section,
                        const char *key, size_t key_size, struct weir_keyed_entry *out);
size_t weir_recovery_count(const struct weir_recovery *recovery, enum weir_section section);
/* i in order of the key's bytes. */
const struct weir_keyed_entry *weir_recovery_entry(const struct weir_recovery *recovery,
                                                   enum weir_section section, size_t i);
/* Copies all keys of all sections but digests into `record`: what a snapshot's state needs. */
int weir_recovery_put_all(const struct weir_recovery *recovery, struct weir_record *record,
                          struct weir_error *err) WEIR_MUST_CHECK;

/* The newest record with effects that the ledger knows `sink` to have done: for sinks that keep no
 * marker themselves. 0 = none. */
uint64_t weir_recovery_held(const struct weir_recovery *recovery, const char *sink);
/* Up to which record `sink` is done, given the marker found in its own system (0 = none): that
 * marker, or what the ledger knows, since records without effects leave no marker. Fails as
 * weir_recovery_effects does. */
int weir_recovery_done(const struct weir_recovery *recovery, const char *sink, uint64_t marker,
                       uint64_t *done, struct weir_error *err) WEIR_MUST_CHECK;
/* What `sink` still owes, given the marker found in its own system (0 = none): every effect of
 * records done+1 .. last, in order. Errors: marker beyond the ledger's end or unlike the
 * ledger's "known done" (a marker that vanished: the table was replaced; never redo), records
 * already trimmed: WEIR_E_STATE with the way out. */
int weir_recovery_effects(struct weir_recovery *recovery, const char *sink, uint64_t marker,
                          int (*effect)(void *context, uint64_t record, uint64_t kind,
                                        struct weir_span body, struct weir_error *err),
                          void *context, struct weir_error *err) WEIR_MUST_CHECK;
