#pragma once
/* Stops Lua code that runs past its deadline. Internal to the script room. */
#include <lua.h>
#include <stdint.h>

#include "core/error.h"

struct weir_watchdog;

/* The calling thread becomes the one whose Lua code is watched. One at a time in a process. */
int weir_watchdog_create(lua_State *lua, struct weir_watchdog **out,
                         struct weir_error *err) WEIR_MUST_CHECK;
void weir_watchdog_destroy(struct weir_watchdog *watchdog);
/* Both ignore NULL. */
void weir_watchdog_arm(struct weir_watchdog *watchdog, int64_t budget_ns);
/* After lua_pcall has returned. True when the deadline was hit meanwhile. */
bool weir_watchdog_disarm(struct weir_watchdog *watchdog);
