#pragma once
/* C's view of the shared headers. LuaJIT reads the same files verbatim (embedded at build), so a
 * layout change is one edit; tests/abi compares every offset from both sides. */
#include <stddef.h>
#include <stdint.h>

#define WEIR_ABI_VERSION 3

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default) /* LuaJIT finds the functions by name in the binary */
/* LuaJIT finds these by name in the running binary, so they alone are visible outside it. */
#pragma GCC visibility push(default)
#include "abi/column.h"
#include "abi/value.h"
#include "abi/call.h"
#include "abi/rule.h"
#include "abi/match.h"
#include "abi/native.h"
#include "abi/harness.h"
#include "abi/harness.h"
#pragma GCC visibility pop
#pragma GCC visibility pop
#ifdef __cplusplus
}
#define WEIR_STATIC_ASSERT(condition, text) static_assert(condition, text)
#else
#define WEIR_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#endif

WEIR_STATIC_ASSERT(sizeof(struct weir_column) == 72, "weir_column is part of the Lua ABI");
WEIR_STATIC_ASSERT(sizeof(struct weir_call) == 96, "weir_call is part of the Lua ABI");
WEIR_STATIC_ASSERT(sizeof(struct weir_decimal) == 16, "weir_decimal is part of the Lua ABI");
WEIR_STATIC_ASSERT(sizeof(struct weir_decimal128) == 24, "weir_decimal128 is part of the Lua ABI");
