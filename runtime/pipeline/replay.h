#pragma once
/* Runs one recorded epoch again: state as it was before it, the messages of its schedule in their
 * order, the sources read from its positions; then compares outputs and state with the record. */
#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "script/script.h"

struct weir_replay_options {
    const char *path;
    const struct weir_script_setting *settings;
    size_t setting_count;
    uint64_t epoch;
    void (*difference)(void *context, const char *text);
    void *context;
};

struct weir_replay_result {
    int64_t batches;
    int64_t rows;
    int differences;
    bool same_rules; /* the rule set is the one the epoch ran with */
};

/* WEIR_E_NOTFOUND: the ledger no longer (or not yet) holds the epoch or what leads to it; the
 * message names `ledger = { keep = … }`. Reads only; may run beside a live instance. */
int weir_pipeline_replay(const struct weir_replay_options *options,
                         struct weir_replay_result *result, struct weir_error *err) WEIR_MUST_CHECK;
