#pragma once
/* Named fault points (fault.def). Always compiled in: an unarmed point is one predictable branch
 * on a cold path. Armed from the environment before threads start:
 *   WEIR_FAULT=name:hit:action   action = kill (SIGKILL self) | stop (SIGSTOP self, and on when
 *                                somebody continues it) | error (the call site fails)
 * Every point counts its hits; WEIR_FAULT_REPORT=path writes "name hits" lines at a clean exit. */
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum weir_fault_point {
#define X(name, where) WEIR_FAULT_##name,
#include "core/fault.def"
#undef X
    WEIR_FAULT_COUNT_
};

/* Reads WEIR_FAULT; returns false and prints to stderr when it names no point. */
bool weir_fault_init(void);
/* True when the armed action is "error" and this is the hit. Never returns when it is "kill". */
bool weir_fault_hit(enum weir_fault_point point);
uint64_t weir_fault_hits(enum weir_fault_point point);
const char *weir_fault_name(enum weir_fault_point point);
void weir_fault_report(void);
/* Tests arm in process: hit 0 disarms. */
void weir_fault_arm(enum weir_fault_point point, uint64_t hit, bool kill_process);

#define WEIR_FAULT(name) weir_fault_hit(WEIR_FAULT_##name)

#ifdef __cplusplus
}
#endif
