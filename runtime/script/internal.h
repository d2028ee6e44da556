#pragma once
/* What the files of the script room share. The only headers of the project that include lua.h are
 * this one and string_lib.h's users. */
#include <lauxlib.h>
#include <lua.h>
#include <luajit.h>
#include <lualib.h>

#include "script/script.h"

struct weir_watchdog;

struct weir_script {
    lua_State *lua;
    struct weir_watchdog *watchdog;
    struct weir_script_options options;
    lua_Alloc own_allocate; /* LuaJIT's, and its arena */
    void *own_arena;
    size_t memory_bytes; /* heap in use, the allocator's count */
    size_t memory_peak_bytes;
    bool memory_refused; /* an allocation hit the cap since the call began */
    int environment;     /* registry references */
    int traceback;
    int call_object;        /* the one struct weir_call cdata loops get */
    struct weir_call *call; /* its bytes */
    int32_t rule_sets;      /* alive */
    struct script_columns {
        char *source;
        struct weir_schema *schema;
    } * columns; /* weir_script_set_columns */
    int32_t column_count;
    struct weir_script_jit jit;
};

/* The script of a state (the allocator's user data). */
struct weir_script *weir_script_of(lua_State *lua);

void weir_script_free_columns(struct weir_script *script); /* schema_lib.c */

/* Each leaves its functions in the table on top of the stack. */
void weir_script_open_source(lua_State *lua);     /* source_lib.c: parse, instrument, caret, load */
void weir_script_open_host(lua_State *lua);       /* host_lib.c: files, environment, hash, json */
void weir_script_open_schemas(lua_State *lua);    /* schema_lib.c: source_ and decoder_columns */
void weir_script_open_connectors(lua_State *lua); /* connector_lib.c: connectors */
void weir_script_open_strings(lua_State *lua);    /* string_lib.c: native.string */

/* Calls the function below its arguments under a time budget and the memory cap. 0 with `results`
 * values on the stack, or WEIR_E_SCRIPT / WEIR_E_BUDGET with err filled in and nothing left. */
int weir_script_protected(struct weir_script *script, int arguments, int results, int64_t budget_ns,
                          bool with_trace, struct weir_error *err) WEIR_MUST_CHECK;
