#pragma once
/* The script room: the process's one Lua VM, and the rule sets loaded into it.
 *
 * Everything here belongs to the loop thread: the thread that calls weir_script_create calls all
 * the rest. The one C -> Lua crossing of the data plane is weir_rule_set_call: one lua_pcall a
 * declaration and batch. A throw never passes C: it comes back as WEIR_E_SCRIPT (the Lua message,
 * position kept), a time or memory breach as WEIR_E_BUDGET, and the VM is usable afterwards.
 * Runaway code is stopped by the watchdog (watchdog.c), memory by the allocator's cap (vm.c). */
#include <stddef.h>
#include <stdint.h>

#include "abi/abi.h"
#include "core/buffer.h"
#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_script;
struct weir_schema;
struct weir_rule_set;

struct weir_script_options {
    size_t memory_limit_bytes; /* cap of the VM's heap; 0: 256 MiB */
    int64_t call_budget_ns;    /* CPU time of one weir_rule_set_call; 0: 100 ms */
    int64_t load_budget_ns;    /* CPU time of one weir_script_load; 0: 10 s */
    int64_t pattern_steps;     /* steps one string.find/match/gsub may take; 0: 1,000,000 */
    bool jit_off;              /* interpreter only: for differential tests */
    bool host_libraries;       /* io, os, package for the private environment: `weir test` only,
                                  which runs busted; rules never see them */
    /* Count traces. Only for tests and explain: LuaJIT crashes when its trace callback runs on a
     * stack that a rule's recursion has filled. */
    bool jit_figures;
    bool no_watchdog; /* time budgets are not enforced: to measure what enforcing them costs */
};

struct weir_script_setting {
    const char *key; /* "commit.every" */
    const char *value;
};

/* Blocks the watchdog's signal in the calling thread and in every thread it starts later. Call
 * first in main: only the loop thread, by weir_script_create, opens it. */
void weir_script_block_signals(void);

/* Starts the VM and the watchdog thread. One at a time in a process: WEIR_E_EXISTS otherwise.
 * WEIR_E_BUG when the embedded stdlib does not match this binary's ABI. */
int weir_script_create(const struct weir_script_options *options, struct weir_script **out,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* All rule sets must have been released. */
void weir_script_destroy(struct weir_script *script);

size_t weir_script_memory_bytes(const struct weir_script *script);
size_t weir_script_memory_peak_bytes(const struct weir_script *script);
/* Full garbage collection; for tests and idle moments. */
void weir_script_collect(struct weir_script *script);
/* A rule set goes: its machine code does at once, what it left behind by weir_script_collect_some.
 * LuaJIT keeps traces of the library's own functions that were specialised while it was loaded, a
 * hundred kilobytes or more a rule set, and would until its room for code is full. */
void weir_script_retire(struct weir_script *script);
/* Some hundred microseconds of collecting garbage; true at the end of a cycle. */
bool weir_script_collect_some(struct weir_script *script);
/* What now() answers and random() continues from. Process-wide, loop thread. */
void weir_script_set_clock(int64_t now_us);
void weir_script_set_seed(uint64_t seed);

/* Runs the stdlib's loader (internal/load.lua, see NATIVE.md) on a pipeline file or a single rule
 * file. On success *out has one reference. On failure WEIR_E_CONFIG and `report` holds what to
 * print: the diagnostics, one a paragraph, file:line:column first, caret under the source line. On
 * success `report` holds the lints (often nothing). report_json, unless NULL, gets the same as one
 * JSON array [{"severity","file","line","column","message","suggestion"}…]. */
int weir_script_load(struct weir_script *script, const char *path,
                     const struct weir_script_setting *settings, size_t setting_count,
                     struct weir_rule_set **out, struct weir_buffer *report,
                     struct weir_buffer *report_json, struct weir_error *err) WEIR_MUST_CHECK;

/* The columns of a source in loads to come, instead of asking whoever holds them (a registry, whose
 * answer the loop cannot wait for; replay, which wants those of then). NULL: ask again. */
int weir_script_set_columns(struct weir_script *script, const char *source,
                            struct weir_schema *columns, struct weir_error *err) WEIR_MUST_CHECK;

/* As above, but Lua text in the private environment stands in for internal/load.lua: it gets the
 * same request and returns the same table. For benches and tests of the loops alone. */
int weir_script_load_text(struct weir_script *script, const char *text, size_t length,
                          const char *chunkname, struct weir_rule_set **out,
                          struct weir_buffer *report, struct weir_error *err) WEIR_MUST_CHECK;

struct weir_rule_set *weir_rule_set_ref(struct weir_rule_set *rule_set);
/* The last one lets its Lua values be collected. Must come before weir_script_destroy. */
void weir_rule_set_unref(struct weir_rule_set *rule_set);

/* The plan document (docs/formats/plan.md), NUL-terminated; lives as long as the rule set. */
const char *weir_rule_set_plan(const struct weir_rule_set *rule_set, size_t *length);
/* Hash of file closure and resolved values, 32 lower-case hex digits. */
const char *weir_rule_set_hash(const struct weir_rule_set *rule_set);
/* Files the rule set was read from (watch these), sorted. */
int32_t weir_rule_set_file_count(const struct weir_rule_set *rule_set);
const char *weir_rule_set_file(const struct weir_rule_set *rule_set, int32_t index);
int32_t weir_rule_set_function_count(const struct weir_rule_set *rule_set);
/* The generated Lua source of one loop, for `weir explain --code`; NULL when the index is out of
 * range or the loader kept none. */
const char *weir_rule_set_code(const struct weir_rule_set *rule_set, int32_t function_index);

/* Runs one generated loop over call->sel[begin..end). Function indexes start at 0, as in the plan.
 * WEIR_E_SCRIPT: a throw, err holds the message, call->cursor the position in sel being evaluated.
 * WEIR_E_BUDGET: too long or too much memory, cursor likewise. */
int weir_rule_set_call(struct weir_rule_set *rule_set, int32_t function_index,
                       struct weir_call *call, struct weir_error *err) WEIR_MUST_CHECK;

/* Runs any Lua text against the private environment (stdlib, natives, no sandbox) and appends what
 * it returns, as text, to `out` (may be NULL). For `weir test`, specs and tests of this room; the
 * load budget applies. chunkname as Lua wants it: "@file" or "=name". */
int weir_script_run(struct weir_script *script, const char *text, size_t length,
                    const char *chunkname, struct weir_buffer *out,
                    struct weir_error *err) WEIR_MUST_CHECK;

/* JIT figures since create; zeros without options.jit_figures. */
struct weir_script_jit {
    int64_t traces;  /* compiled */
    int64_t aborts;  /* recordings given up */
    int64_t flushes; /* times all traces were thrown away: maxtrace or maxmcode is too small */
};
void weir_script_jit_figures(const struct weir_script *script, struct weir_script_jit *out);

#ifdef __cplusplus
}
#endif
