/* The process's one LuaJIT VM: capped allocator, private environment, embedded modules, budgets.
 * Rules never see the environment made here; the stdlib builds theirs out of it. */
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <luajit.h>

#include "core/clock.h"
#include "core/decimal.h"
#include "script/embedded.h"
#include "script/internal.h"
#include "script/watchdog.h"

#define LOADED "weir.loaded"
#define HOST_REQUIRE "weir.host_require"

static const struct weir_script_options default_options = {
    .memory_limit_bytes = (size_t)256 << 20,
    .call_budget_ns = 100000000,
    .load_budget_ns = 10000000000,
    .pattern_steps = 1000000,
};

static atomic_flag exists = ATOMIC_FLAG_INIT;

/* --- memory ----------------------------------------------------------------------------------
 * LuaJIT's own allocator, with our cap and count before it: its arena belongs to the VM alone, so
 * the loop takes no lock of the process's heap, and a collector's work does not show there. */

static void *allocate(void *context, void *block, size_t old_size, size_t new_size) {
    struct weir_script *script = context;
    if (new_size == 0) {
        script->memory_bytes -= old_size;
        return script->own_allocate(script->own_arena, block, old_size, 0);
    }
    if (new_size > old_size &&
        script->memory_bytes + (new_size - old_size) > script->options.memory_limit_bytes) {
        script->memory_refused = true;
        return NULL;
    }
    void *result = script->own_allocate(script->own_arena, block, old_size, new_size);
    if (result != NULL) {
        script->memory_bytes += new_size - old_size;
        if (script->memory_bytes > script->memory_peak_bytes) {
            script->memory_peak_bytes = script->memory_bytes;
        }
    }
    return result;
}

static int start_lua(struct weir_script *script, struct weir_error *err) {
    script->lua = luaL_newstate();
    if (script->lua != NULL) {
        script->own_allocate = lua_getallocf(script->lua, &script->own_arena);
        script->memory_bytes = ((size_t)lua_gc(script->lua, LUA_GCCOUNT, 0) << 10) +
                               (size_t)lua_gc(script->lua, LUA_GCCOUNTB, 0);
        lua_setallocf(script->lua, allocate, script);
    }
    if (script->lua == NULL || script->memory_bytes > script->options.memory_limit_bytes) {
        return weir_error_set(err, WEIR_E_NOMEM,
                              "script: cannot start Lua in %zu bytes: raise the memory cap",
                              script->options.memory_limit_bytes);
    }
    return WEIR_OK;
}

static void close_lua(struct weir_script *script) {
    if (script->lua != NULL) {
        lua_setallocf(script->lua, script->own_allocate, script->own_arena); /* frees the arena */
        lua_close(script->lua);
    }
}

struct weir_script *weir_script_of(lua_State *lua) {
    void *script;
    lua_getallocf(lua, &script);
    return script;
}

size_t weir_script_memory_bytes(const struct weir_script *script) {
    return script->memory_bytes;
}

size_t weir_script_memory_peak_bytes(const struct weir_script *script) {
    return script->memory_peak_bytes;
}

void weir_script_collect(struct weir_script *script) {
    lua_gc(script->lua, LUA_GCCOLLECT, 0);
    lua_gc(script->lua, LUA_GCCOLLECT, 0); /* what finalizers let go */
}

void weir_script_retire(struct weir_script *script) {
    luaJIT_setmode(script->lua, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_FLUSH);
}

bool weir_script_collect_some(struct weir_script *script) {
    enum { SLICE_NS = 200000 };
    int64_t until = weir_clock_mono_ns() + SLICE_NS;
    do {
        if (lua_gc(script->lua, LUA_GCSTEP, 0) != 0) {
            return true;
        }
    } while (weir_clock_mono_ns() < until);
    return false;
}

void weir_script_set_clock(int64_t now_us) {
    weir_native_set_clock(now_us);
}

void weir_script_set_seed(uint64_t seed) {
    weir_native_set_seed(seed);
}

/* --- budgets -------------------------------------------------------------------------------- */

static int fail_with_message(struct weir_script *script, int code, struct weir_error *err) {
    lua_State *lua = script->lua;
    size_t length = 0;
    /* Only strings: a conversion could throw here, outside any protection. */
    const char *text = lua_type(lua, -1) == LUA_TSTRING ? lua_tolstring(lua, -1, &length) : NULL;
    if (text != NULL) {
        weir_error_set(err, code, "%.*s", (int)(length < 900 ? length : 900), text);
    } else {
        weir_error_set(err, code, "error object is a %s", luaL_typename(lua, -1));
    }
    return code;
}

int weir_script_protected(struct weir_script *script, int arguments, int results, int64_t budget_ns,
                          bool with_trace, struct weir_error *err) {
    lua_State *lua = script->lua;
    int base = lua_gettop(lua) - arguments; /* the function */
    int handler = 0;
    if (with_trace) {
        lua_rawgeti(lua, LUA_REGISTRYINDEX, script->traceback);
        lua_insert(lua, base);
        handler = base++;
    }
    script->memory_refused = false;
    weir_watchdog_arm(script->watchdog, budget_ns);
    int status = lua_pcall(lua, arguments, results, handler);
    bool late = weir_watchdog_disarm(script->watchdog);
    int code = WEIR_OK;
    if (script->memory_refused || status == LUA_ERRMEM) {
        /* Also when a pcall in the rule swallowed it: the result would depend on the heap. */
        code =
            weir_error_set(err, WEIR_E_BUDGET, "used more memory than the script's cap of %zu MiB",
                           script->options.memory_limit_bytes >> 20);
    } else if (late) {
        code = weir_error_set(err, WEIR_E_BUDGET, "ran longer than its budget of %g ms",
                              (double)budget_ns / 1e6);
    } else if (status != 0) {
        code = fail_with_message(script, WEIR_E_SCRIPT, err);
    }
    if (code != WEIR_OK) {
        lua_settop(lua, base - 1);
    }
    if (handler != 0) {
        lua_remove(lua, handler);
    }
    if (code == WEIR_E_BUDGET) {
        weir_script_collect(script);
    } else if (script->memory_bytes > script->options.memory_limit_bytes / 4 * 3) {
        lua_gc(lua, LUA_GCCOLLECT, 0); /* garbage must not be taken for a breach */
    }
    return code;
}

/* --- modules -------------------------------------------------------------------------------- */

static const struct weir_embedded_file *find_embedded(const char *name) {
    for (int i = 0; i < weir_embedded_file_count; i++) {
        if (strcmp(weir_embedded_files[i].name, name) == 0) {
            return &weir_embedded_files[i];
        }
    }
    return NULL;
}

/* "weir.internal.load" -> "internal/load.lua", "weir" -> "weir.lua" */
static const struct weir_embedded_file *find_module(const char *name) {
    char path[128];
    if (strcmp(name, "weir") == 0) {
        return find_embedded("weir.lua");
    }
    size_t length = strlen(name);
    if (strncmp(name, "weir.", 5) != 0 || length > sizeof(path) - 8) {
        return NULL;
    }
    size_t n = 0;
    for (const char *c = name + 5; *c != '\0'; c++) {
        path[n++] = *c == '.' ? '/' : *c;
    }
    memcpy(path + n, ".lua", 5);
    return find_embedded(path);
}

/* Pushes the file's function. Compiled ones load in a tenth of the time; a LuaJIT that is not the
 * build's may not know them (their format has a version), and compiles the text. */
static int load_embedded(lua_State *lua, const struct weir_embedded_file *file) {
    char name[160];
    snprintf(name, sizeof(name), "@weir/%s", file->name);
    if (luaL_loadbufferx(lua, file->chunk, file->chunk_length, name, "b") == 0) {
        return 0;
    }
    lua_pop(lua, 1);
    return luaL_loadbufferx(lua, file->text, file->length, name, "t");
}

/* require(name) of the private environment; upvalue 1: that environment. */
static int private_require(lua_State *lua) {
    const char *name = luaL_checkstring(lua, 1);
    lua_settop(lua, 1);
    lua_getfield(lua, LUA_REGISTRYINDEX, LOADED);
    lua_getfield(lua, 2, name);
    if (lua_isboolean(lua, 3)) {
        return luaL_error(lua, "module '%s' requires itself", name);
    }
    if (!lua_isnil(lua, 3)) {
        return 1;
    }
    lua_pop(lua, 1);
    const struct weir_embedded_file *file = find_module(name);
    if (file != NULL) {
        if (load_embedded(lua, file) != 0) {
            return lua_error(lua);
        }
        lua_pushvalue(lua, lua_upvalueindex(1));
        lua_setfenv(lua, -2);
    } else {
        /* LuaJIT's own, registered but not opened: jit.util, jit.profile */
        lua_getfield(lua, LUA_REGISTRYINDEX, "_PRELOAD");
        if (lua_istable(lua, -1)) {
            lua_getfield(lua, -1, name);
        }
        if (!lua_isfunction(lua, -1)) {
            lua_getfield(lua, LUA_REGISTRYINDEX, HOST_REQUIRE);
            if (!lua_isfunction(lua, -1)) {
                return luaL_error(lua, "no module '%s' in this binary", name);
            }
            lua_pushvalue(lua, 1);
            lua_call(lua, 1, 1);
            return 1;
        }
    }
    lua_pushboolean(lua, false);
    lua_setfield(lua, 2, name);
    lua_pushvalue(lua, 1);
    lua_call(lua, 1, 1);
    if (lua_isnil(lua, -1)) {
        lua_pop(lua, 1);
        lua_newtable(lua);
    }
    lua_pushvalue(lua, -1);
    lua_setfield(lua, 2, name);
    return 1;
}

/* --- start ---------------------------------------------------------------------------------- */

static int on_trace(lua_State *lua) {
    struct weir_script *script = weir_script_of(lua);
    const char *what = lua_tostring(lua, 1);
    if (what != NULL) {
        script->jit.traces += strcmp(what, "stop") == 0;
        script->jit.aborts += strcmp(what, "abort") == 0;
        script->jit.flushes += strcmp(what, "flush") == 0;
    }
    return 0;
}

static const char prelude[] =
    "local native, abi, on_trace, jit_off = ...\n"
    "local ffi = require 'ffi'\n"
    "ffi.cdef(abi)\n"
    "local C, math = ffi.C, math\n"
    "local safe = {}\n"
    "for _, name in ipairs { 'floor', 'ceil', 'abs', 'min', 'max', 'huge', 'pi', 'modf', 'ldexp',\n"
    "    'frexp', 'deg', 'rad' } do safe[name] = math[name] end\n"
    "for _, name in ipairs { 'sin', 'cos', 'tan', 'asin', 'acos', 'atan', 'sinh', 'cosh', 'tanh',\n"
    "    'exp', 'log', 'log10', 'sqrt' } do\n"
    "    local call = C['weir_math_' .. name]\n"
    "    safe[name] = function(x) return call(x) end\n"
    "end\n"
    "function safe.atan2(y, x) return C.weir_math_atan2(y, x) end\n"
    "function safe.fmod(x, y) return C.weir_math_fmod(x, y) end\n"
    "function safe.pow(x, y) return C.weir_math_pow(x, y) end\n"
    "native.math = safe\n"
    "native.pow = safe.pow\n"
    "if jit_off then jit.off() else\n"
    "    jit.opt.start('maxtrace=16000', 'maxrecord=16000', 'maxirconst=4000', 'maxside=400',\n"
    "        'maxsnap=2000', 'sizemcode=256', 'maxmcode=32768')\n"
    "end\n"
    "if on_trace then jit.attach(on_trace, 'trace') end\n"
    "return ffi.new 'struct weir_call'\n";

static void open_library(lua_State *lua, lua_CFunction open, const char *name) {
    lua_pushcfunction(lua, open);
    lua_pushstring(lua, name);
    lua_call(lua, 1, 0);
}

/* Keeps a library found as global `name` for require, too. */
static void keep_loaded(lua_State *lua, const char *name) {
    lua_getfield(lua, LUA_REGISTRYINDEX, LOADED);
    lua_getglobal(lua, name);
    lua_setfield(lua, -2, name);
    lua_pop(lua, 1);
}

static void push_abi_text(lua_State *lua) {
    static const char *const names[] = {"abi/column.h", "abi/value.h", "abi/call.h",
                                        "abi/rule.h",   "abi/match.h", "abi/native.h",
                                        "abi/harness.h"};
    luaL_Buffer text;
    luaL_buffinit(lua, &text);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct weir_embedded_file *file = find_embedded(names[i]);
        if (file == NULL) {
            luaL_error(lua, "%s is not embedded in this binary", names[i]);
            return;
        }
        luaL_addlstring(&text, file->text, file->length);
    }
    luaL_pushresult(&text);
}

static void check_abi(lua_State *lua) {
    lua_getglobal(lua, "require");
    lua_pushstring(lua, "weir.internal.abi");
    lua_call(lua, 1, 1);
    if (lua_tonumber(lua, -1) != WEIR_ABI_VERSION) {
        luaL_error(lua,
                   "the embedded stdlib was written for ABI %s, this binary has ABI %d: rebuild",
                   lua_isnumber(lua, -1) ? lua_tostring(lua, -1) : "unknown", WEIR_ABI_VERSION);
    }
    lua_pop(lua, 1);
}

static int start(lua_State *lua) {
    static const struct {
        const char *name;
        lua_CFunction open;
    } libraries[] = {
        {"", luaopen_base},
        {LUA_STRLIBNAME, luaopen_string},
        {LUA_TABLIBNAME, luaopen_table},
        {LUA_MATHLIBNAME, luaopen_math},
        {LUA_BITLIBNAME, luaopen_bit},
        {LUA_DBLIBNAME, luaopen_debug},
        {LUA_JITLIBNAME, luaopen_jit},
    };
    static const char *const removed[] = {"dofile", "loadfile", "module", "package", "newproxy"};
    struct weir_script *script = lua_touserdata(lua, 1);
    lua_newtable(lua);
    lua_setfield(lua, LUA_REGISTRYINDEX, LOADED);
    for (size_t i = 0; i < sizeof(libraries) / sizeof(libraries[0]); i++) {
        open_library(lua, libraries[i].open, libraries[i].name);
        if (libraries[i].name[0] != '\0') {
            keep_loaded(lua, libraries[i].name);
        }
    }
    lua_pushcfunction(lua, luaopen_ffi);
    lua_pushstring(lua, LUA_FFILIBNAME);
    lua_call(lua, 1, 1);
    lua_getfield(lua, LUA_REGISTRYINDEX, LOADED);
    lua_insert(lua, -2);
    lua_setfield(lua, -2, LUA_FFILIBNAME);
    lua_pop(lua, 1);
    if (script->options.host_libraries) {
        open_library(lua, luaopen_package, LUA_LOADLIBNAME);
        open_library(lua, luaopen_io, LUA_IOLIBNAME);
        open_library(lua, luaopen_os, LUA_OSLIBNAME);
        lua_getglobal(lua, "require");
        lua_setfield(lua, LUA_REGISTRYINDEX, HOST_REQUIRE);
    }
    for (size_t i = 0; !script->options.host_libraries && i < sizeof(removed) / sizeof(removed[0]);
         i++) {
        lua_pushnil(lua);
        lua_setglobal(lua, removed[i]);
    }
    lua_pushvalue(lua, LUA_GLOBALSINDEX);
    script->environment = luaL_ref(lua, LUA_REGISTRYINDEX);
    lua_pushvalue(lua, LUA_GLOBALSINDEX);
    lua_pushcclosure(lua, private_require, 1);
    lua_setglobal(lua, "require");
    lua_getglobal(lua, "debug");
    lua_getfield(lua, -1, "traceback");
    script->traceback = luaL_ref(lua, LUA_REGISTRYINDEX);
    lua_pop(lua, 1);

    lua_newtable(lua); /* native */
    lua_pushinteger(lua, WEIR_ABI_VERSION);
    lua_setfield(lua, -2, "abi_version");
    weir_script_open_host(lua);
    weir_script_open_schemas(lua);
    weir_script_open_connectors(lua);
    weir_script_open_source(lua);
    weir_script_open_strings(lua);
    int native = lua_gettop(lua);
    lua_getfield(lua, LUA_REGISTRYINDEX, LOADED);
    lua_pushvalue(lua, native);
    lua_setfield(lua, -2, "weir.native");
    lua_pop(lua, 1);

    if (luaL_loadbufferx(lua, prelude, sizeof(prelude) - 1, "=prelude", "t") != 0) {
        return lua_error(lua);
    }
    lua_pushvalue(lua, native);
    push_abi_text(lua);
    if (script->options.jit_figures) {
        lua_pushcfunction(lua, on_trace);
    } else {
        lua_pushnil(lua);
    }
    lua_pushboolean(lua, script->options.jit_off);
    lua_call(lua, 4, 1);
    /* The cdata's bytes stay where they are: LuaJIT's collector does not move. */
    script->call = (struct weir_call *)(uintptr_t)lua_topointer(lua, -1);
    script->call_object = luaL_ref(lua, LUA_REGISTRYINDEX);
    check_abi(lua);
    return 0;
}

/* The FFI finds functions through dlsym. One of each object file is named here, so that the linker
 * takes the whole file out of its archive, and a binary linked without -rdynamic says so at start
 * rather than in some rule. */
static int check_symbols(struct weir_error *err) {
    typedef void (*any_function)(void);
    static const struct {
        const char *name;
        any_function function;
    } needed[] = {
        {"weir_decimal_add", (any_function)weir_decimal_add},
        {"weir_int64_add", (any_function)weir_int64_add},
        {"weir_zone_find", (any_function)weir_zone_find},
        {"weir_time_parse_us", (any_function)weir_time_parse_us},
        {"weir_time_format", (any_function)weir_time_format},
        {"weir_out_set_bytes", (any_function)weir_out_set_bytes},
    };
    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
        if ((uintptr_t)dlsym(RTLD_DEFAULT, needed[i].name) != (uintptr_t)needed[i].function) {
            return weir_error_set(err, WEIR_E_BUG,
                                  "this executable does not export %s: link it with -rdynamic",
                                  needed[i].name);
        }
    }
    return WEIR_OK;
}

int weir_script_create(const struct weir_script_options *options, struct weir_script **out,
                       struct weir_error *err) {
    *out = NULL;
    if (atomic_flag_test_and_set(&exists)) {
        return weir_error_set(err, WEIR_E_EXISTS, "this process already has its Lua VM");
    }
    int rc = WEIR_OK;
    struct weir_script *script = calloc(1, sizeof(*script));
    if (script == NULL) {
        rc = weir_error_set(err, WEIR_E_NOMEM, "script: out of memory");
        goto out;
    }
    script->options = default_options;
    if (options != NULL) {
        struct weir_script_options *o = &script->options;
        o->memory_limit_bytes =
            options->memory_limit_bytes != 0 ? options->memory_limit_bytes : o->memory_limit_bytes;
        o->call_budget_ns =
            options->call_budget_ns != 0 ? options->call_budget_ns : o->call_budget_ns;
        o->load_budget_ns =
            options->load_budget_ns != 0 ? options->load_budget_ns : o->load_budget_ns;
        o->pattern_steps = options->pattern_steps != 0 ? options->pattern_steps : o->pattern_steps;
        o->jit_off = options->jit_off;
        o->jit_figures = options->jit_figures;
        o->no_watchdog = options->no_watchdog;
        o->host_libraries = options->host_libraries;
    }
    rc = check_symbols(err);
    if (rc != WEIR_OK) {
        goto out;
    }
    rc = start_lua(script, err);
    if (rc != WEIR_OK) {
        goto out;
    }
    if (lua_cpcall(script->lua, start, script) != 0) {
        fail_with_message(script, WEIR_E_BUG, err);
        rc = weir_error_wrap(err, "start Lua");
        goto out;
    }
    if (!script->options.no_watchdog) {
        rc = weir_watchdog_create(script->lua, &script->watchdog, err);
    }
out:
    if (rc != WEIR_OK) {
        if (script != NULL) {
            close_lua(script);
        }
        free(script);
        atomic_flag_clear(&exists);
        return rc;
    }
    *out = script;
    return WEIR_OK;
}

void weir_script_destroy(struct weir_script *script) {
    if (script == NULL) {
        return;
    }
    weir_watchdog_destroy(script->watchdog);
    close_lua(script);
    weir_script_free_columns(script);
    free(script);
    atomic_flag_clear(&exists);
}

void weir_script_jit_figures(const struct weir_script *script, struct weir_script_jit *out) {
    *out = script->jit;
}
