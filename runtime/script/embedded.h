#pragma once
/* The stdlib's Lua files ("weir.lua", "internal/codegen.lua", …) and the shared headers
 * ("abi/column.h", …), embedded at build by tools/embed.lua. */
#include <stddef.h>

struct weir_embedded_file {
    const char *name;
    const char *text;  /* NUL-terminated */
    size_t length;     /* bytes without the NUL */
    const char *chunk; /* of a Lua file: compiled by the LuaJIT of the build; else NULL */
    size_t chunk_length;
};

extern const struct weir_embedded_file weir_embedded_files[];
extern const int weir_embedded_file_count;
