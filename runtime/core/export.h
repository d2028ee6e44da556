#pragma once
/* Marks a function that LuaJIT's FFI (or a test through dlopen) finds by name; the rest is hidden.
 */
#define WEIR_EXPORT __attribute__((visibility("default")))
