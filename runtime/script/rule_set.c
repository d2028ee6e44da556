/* Rule sets: what one run of the stdlib's loader left in the VM. Several may be alive (hot reload);
 * each holds registry references to its loops and nothing else, so a released one is garbage. */
#include <stdlib.h>

#include "script/internal.h"
#include "script/parser.h"

#define PLAN_BYTES_MAX ((size_t)64 << 20)
#define REPORT_ITEMS_MAX 200

struct weir_rule_set {
    int32_t references;
    struct weir_script *script;
    struct weir_buffer plan;
    char hash[40];
    int32_t function_count;
    int *functions; /* registry references */
    char **code;    /* function_count of them, each may be NULL */
    int32_t file_count;
    char **files;
};

/* What one load works on; owned by weir_script_load, so a throw leaks nothing. */
struct load {
    const char *path; /* with `text`: its chunk name */
    const char *text; /* Lua text to run instead of the stdlib's loader, or NULL */
    size_t text_length;
    const struct weir_script_setting *settings;
    size_t setting_count;
    struct weir_rule_set *rule_set;
    struct weir_buffer *report;
    struct weir_buffer *report_json;
    bool failed;               /* the loader returned nil, report */
    bool environment_at_fault; /* and the report says so */
    int rc;                    /* of a buffer */
};

/* --- report --------------------------------------------------------------------------------- */

static void keep_first(int *rc, int next) {
    if (*rc == WEIR_OK) {
        *rc = next;
    }
}

/* Field `key` of the table on top as text, pushed; NULL when absent. */
static const char *push_field(lua_State *lua, const char *key, size_t *length) {
    lua_getfield(lua, -1, key);
    if (lua_isnil(lua, -1)) {
        *length = 0;
        return NULL;
    }
    return lua_tolstring(lua, -1, length);
}

static void add_json_text(struct load *load, const char *text, size_t length) {
    keep_first(&load->rc, weir_buffer_append_json(load->report_json, text, length));
}

static void add_json_item(lua_State *lua, struct load *load, bool is_first) {
    static const struct {
        const char *name;
        bool is_number;
    } fields[] = {{"severity", false}, {"file", false},    {"line", true},
                  {"column", true},    {"message", false}, {"suggestion", false}};
    keep_first(&load->rc, weir_buffer_append_text(load->report_json, is_first ? "{" : ",{"));
    bool comma = false;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        size_t length;
        const char *text = push_field(lua, fields[i].name, &length);
        if (text != NULL) {
            keep_first(&load->rc, weir_buffer_printf(load->report_json, "%s\"%s\":",
                                                     comma ? "," : "", fields[i].name));
            comma = true;
            if (fields[i].is_number) {
                keep_first(&load->rc, weir_buffer_printf(load->report_json, "%lld",
                                                         (long long)lua_tonumber(lua, -1)));
            } else {
                add_json_text(load, text, length);
            }
        }
        lua_pop(lua, 1);
    }
    keep_first(&load->rc, weir_buffer_append(load->report_json, "}", 1));
}

/* Byte offset of a place in the whole file's text. */
static size_t offset_of(const char *source, size_t length, int64_t line, int64_t column) {
    size_t offset = 0;
    for (int64_t at = 1; at < line && offset < length; offset++) {
        bool is_crlf = source[offset] == '\r' && offset + 1 < length && source[offset + 1] == '\n';
        at += !is_crlf && (source[offset] == '\n' || source[offset] == '\r');
    }
    return offset + (column > 0 ? (size_t)column - 1 : 0);
}

/* The paragraph of the diagnostic on top. */
static void add_text_item(lua_State *lua, struct load *load) {
    struct weir_buffer *out = load->report;
    size_t length;
    lua_getfield(lua, -1, "line");
    int64_t line = (int64_t)lua_tonumber(lua, -1);
    lua_getfield(lua, -2, "column");
    int64_t column = (int64_t)lua_tonumber(lua, -1);
    lua_pop(lua, 2);

    const char *text = push_field(lua, "file", &length);
    bool has_file = text != NULL;
    keep_first(&load->rc, weir_buffer_append(out, text, length));
    lua_pop(lua, 1);
    if (line > 0) {
        keep_first(&load->rc, weir_buffer_printf(out, ":%lld", (long long)line));
        if (column > 0) {
            keep_first(&load->rc, weir_buffer_printf(out, ":%lld", (long long)column));
        }
    }
    text = push_field(lua, "severity", &length);
    keep_first(&load->rc, weir_buffer_printf(out, "%s%s: ", has_file ? ": " : "",
                                             text != NULL ? text : "error"));
    lua_pop(lua, 1);
    text = push_field(lua, "message", &length);
    keep_first(&load->rc, weir_buffer_append(out, text, length));
    lua_pop(lua, 1);
    keep_first(&load->rc, weir_buffer_append(out, "\n", 1));

    text = push_field(lua, "source", &length);
    bool is_line = text == NULL;
    if (is_line) {
        lua_pop(lua, 1);
        text = push_field(lua, "source_line", &length);
    }
    if (text != NULL && line > 0 && column > 0) {
        size_t offset = offset_of(text, length, is_line ? 1 : line, column);
        keep_first(&load->rc, weir_source_caret(out, text, length, offset));
        keep_first(&load->rc, weir_buffer_append(out, "\n", 1));
    }
    lua_pop(lua, 1);
    text = push_field(lua, "suggestion", &length);
    if (text != NULL) {
        keep_first(&load->rc, weir_buffer_append(out, text, length));
        keep_first(&load->rc, weir_buffer_append(out, "\n", 1));
    }
    lua_pop(lua, 1);
}

/* The list of diagnostics on top of the stack (or nil). */
static void add_report(lua_State *lua, struct load *load) {
    if (load->report_json != NULL) {
        keep_first(&load->rc, weir_buffer_append(load->report_json, "[", 1));
    }
    size_t count = lua_istable(lua, -1) ? lua_objlen(lua, -1) : 0;
    size_t shown = count < REPORT_ITEMS_MAX ? count : REPORT_ITEMS_MAX;
    for (size_t i = 1; i <= shown; i++) {
        lua_rawgeti(lua, -1, (int)i);
        if (lua_istable(lua, -1)) {
            add_text_item(lua, load);
            if (load->report_json != NULL) {
                add_json_item(lua, load, i == 1);
            }
        }
        lua_pop(lua, 1);
    }
    if (shown < count) {
        keep_first(&load->rc, weir_buffer_printf(load->report, "… and %zu more\n", count - shown));
    }
    if (load->report_json != NULL) {
        keep_first(&load->rc, weir_buffer_append(load->report_json, "]", 1));
    }
}

/* --- load ----------------------------------------------------------------------------------- */

static void push_request(lua_State *lua, const struct load *load) {
    lua_createtable(lua, 0, 2);
    lua_pushstring(lua, load->path);
    lua_setfield(lua, -2, "path");
    lua_createtable(lua, (int)load->setting_count, 0);
    for (size_t i = 0; i < load->setting_count; i++) {
        lua_createtable(lua, 2, 0);
        lua_pushstring(lua, load->settings[i].key);
        lua_rawseti(lua, -2, 1);
        lua_pushstring(lua, load->settings[i].value);
        lua_rawseti(lua, -2, 2);
        lua_rawseti(lua, -2, (int)i + 1);
    }
    lua_setfield(lua, -2, "settings");
}

/* A list of strings in field `key` of the table on top, copied; NULL entries where it has none. */
static char **take_texts(lua_State *lua, const char *key, int32_t count) {
    char **texts = calloc(count > 0 ? (size_t)count : 1, sizeof(*texts));
    lua_getfield(lua, -1, key);
    for (int32_t i = 0; texts != NULL && lua_istable(lua, -1) && i < count; i++) {
        lua_rawgeti(lua, -1, i + 1);
        if (lua_type(lua, -1) == LUA_TSTRING) {
            texts[i] = strdup(lua_tostring(lua, -1));
        }
        lua_pop(lua, 1);
    }
    lua_pop(lua, 1);
    return texts;
}

static void take_functions(lua_State *lua, struct weir_rule_set *rule_set) {
    lua_getfield(lua, -1, "functions");
    luaL_checktype(lua, -1, LUA_TTABLE);
    int32_t count = (int32_t)lua_objlen(lua, -1);
    rule_set->functions = calloc(count > 0 ? (size_t)count : 1, sizeof(int));
    if (rule_set->functions == NULL) {
        luaL_error(lua, "out of memory");
        return;
    }
    for (int32_t i = 0; i < count; i++) {
        lua_rawgeti(lua, -1, i + 1);
        luaL_checktype(lua, -1, LUA_TFUNCTION);
        rule_set->functions[i] = luaL_ref(lua, LUA_REGISTRYINDEX);
        rule_set->function_count = i + 1;
    }
    lua_pop(lua, 1);
}

/* Protected: runs the loader and takes over what it returns. */
static int run_load(lua_State *lua) {
    struct load *load = lua_touserdata(lua, 1);
    struct weir_rule_set *rule_set = load->rule_set;
    if (load->text != NULL) {
        if (luaL_loadbufferx(lua, load->text, load->text_length, load->path, "t") != 0) {
            return lua_error(lua);
        }
    } else {
        lua_getglobal(lua, "require");
        lua_pushstring(lua, "weir.internal.load");
        lua_call(lua, 1, 1);
    }
    push_request(lua, load);
    lua_call(lua, 1, 2);
    if (!lua_istable(lua, -2)) {
        load->failed = true;
        if (lua_istable(lua, -1)) {
            lua_getfield(lua, -1, "environment");
            load->environment_at_fault = lua_toboolean(lua, -1);
            lua_pop(lua, 1);
        }
        add_report(lua, load);
        return 0;
    }
    lua_pop(lua, 1);
    size_t length;
    const char *text = push_field(lua, "plan", &length);
    if (text == NULL) {
        return luaL_error(lua, "internal/load.lua returned no plan");
    }
    keep_first(&load->rc, weir_buffer_append(&rule_set->plan, text, length));
    lua_pop(lua, 1);
    lua_getglobal(lua, "require");
    lua_pushstring(lua, "weir.native");
    lua_call(lua, 1, 1);
    lua_getfield(lua, -1, "hash");
    lua_remove(lua, -2);
    lua_getfield(lua, -2, "hash_input");
    lua_call(lua, 1, 1);
    snprintf(rule_set->hash, sizeof(rule_set->hash), "%s", lua_tostring(lua, -1));
    lua_pop(lua, 1);
    take_functions(lua, rule_set);
    rule_set->code = take_texts(lua, "code", rule_set->function_count);
    lua_getfield(lua, -1, "files");
    rule_set->file_count = lua_istable(lua, -1) ? (int32_t)lua_objlen(lua, -1) : 0;
    lua_pop(lua, 1);
    rule_set->files = take_texts(lua, "files", rule_set->file_count);
    lua_getfield(lua, -1, "report");
    add_report(lua, load);
    return 0;
}

static int compare_files(const void *a, const void *b) {
    const char *left = *(char *const *)a;
    const char *right = *(char *const *)b;
    return strcmp(left != NULL ? left : "", right != NULL ? right : "");
}

static int load_into(struct weir_script *script, struct load *load, struct weir_rule_set **out,
                     struct weir_error *err) {
    const char *path = load->path;
    *out = NULL;
    struct weir_rule_set *rule_set = calloc(1, sizeof(*rule_set));
    if (rule_set == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "load %s: out of memory", path);
    }
    rule_set->references = 1;
    rule_set->script = script;
    script->rule_sets++;
    weir_buffer_init(&rule_set->plan, PLAN_BYTES_MAX);
    load->rule_set = rule_set;
    lua_pushcfunction(script->lua, run_load);
    lua_pushlightuserdata(script->lua, load);
    int rc = weir_script_protected(script, 1, 0, script->options.load_budget_ns, true, err);
    if (rc != WEIR_OK) {
        weir_error_wrap(err, "load %s", path);
        goto out;
    }
    if (load->failed) {
        rc = weir_error_set(err, load->environment_at_fault ? WEIR_E_ENVIRONMENT : WEIR_E_CONFIG,
                            "%s: see the report", path);
        goto out;
    }
    rc = load->rc;
    if (rc == WEIR_OK && (rule_set->code == NULL || rule_set->files == NULL ||
                          weir_buffer_text(&rule_set->plan) == NULL)) {
        rc = WEIR_E_NOMEM;
    }
    if (rc != WEIR_OK) {
        weir_error_set(err, rc, "load %s: %s", path, weir_error_text(rc));
        goto out;
    }
    qsort(rule_set->files, (size_t)rule_set->file_count, sizeof(*rule_set->files), compare_files);
    *out = rule_set;
    return WEIR_OK;
out:
    weir_rule_set_unref(rule_set);
    return rc;
}

int weir_script_load(struct weir_script *script, const char *path,
                     const struct weir_script_setting *settings, size_t setting_count,
                     struct weir_rule_set **out, struct weir_buffer *report,
                     struct weir_buffer *report_json, struct weir_error *err) {
    struct load load = {.path = path,
                        .settings = settings,
                        .setting_count = setting_count,
                        .report = report,
                        .report_json = report_json};
    return load_into(script, &load, out, err);
}

int weir_script_load_text(struct weir_script *script, const char *text, size_t length,
                          const char *chunkname, struct weir_rule_set **out,
                          struct weir_buffer *report, struct weir_error *err) {
    struct load load = {.path = chunkname, .text = text, .text_length = length, .report = report};
    return load_into(script, &load, out, err);
}

/* --- use ------------------------------------------------------------------------------------ */

struct weir_rule_set *weir_rule_set_ref(struct weir_rule_set *rule_set) {
    rule_set->references++;
    return rule_set;
}

static void free_texts(char **texts, int32_t count) {
    for (int32_t i = 0; texts != NULL && i < count; i++) {
        free(texts[i]);
    }
    free(texts);
}

void weir_rule_set_unref(struct weir_rule_set *rule_set) {
    if (rule_set == NULL || --rule_set->references > 0) {
        return;
    }
    for (int32_t i = 0; i < rule_set->function_count; i++) {
        luaL_unref(rule_set->script->lua, LUA_REGISTRYINDEX, rule_set->functions[i]);
    }
    free(rule_set->functions);
    free_texts(rule_set->code, rule_set->function_count);
    free_texts(rule_set->files, rule_set->file_count);
    weir_buffer_fini(&rule_set->plan);
    rule_set->script->rule_sets--;
    free(rule_set);
}

const char *weir_rule_set_plan(const struct weir_rule_set *rule_set, size_t *length) {
    if (length != NULL) {
        *length = rule_set->plan.size;
    }
    return (const char *)rule_set->plan.data;
}

const char *weir_rule_set_hash(const struct weir_rule_set *rule_set) {
    return rule_set->hash;
}

int32_t weir_rule_set_file_count(const struct weir_rule_set *rule_set) {
    return rule_set->file_count;
}

const char *weir_rule_set_file(const struct weir_rule_set *rule_set, int32_t index) {
    return index >= 0 && index < rule_set->file_count ? rule_set->files[index] : NULL;
}

int32_t weir_rule_set_function_count(const struct weir_rule_set *rule_set) {
    return rule_set->function_count;
}

const char *weir_rule_set_code(const struct weir_rule_set *rule_set, int32_t function_index) {
    return function_index >= 0 && function_index < rule_set->function_count
               ? rule_set->code[function_index]
               : NULL;
}

int weir_rule_set_call(struct weir_rule_set *rule_set, int32_t function_index,
                       struct weir_call *call, struct weir_error *err) {
    struct weir_script *script = rule_set->script;
    if (function_index < 0 || function_index >= rule_set->function_count) {
        return weir_error_set(err, WEIR_E_BUG, "rule set %s has no function %d", rule_set->hash,
                              function_index);
    }
    *script->call = *call;
    lua_rawgeti(script->lua, LUA_REGISTRYINDEX, rule_set->functions[function_index]);
    lua_rawgeti(script->lua, LUA_REGISTRYINDEX, script->call_object);
    int rc = weir_script_protected(script, 1, 0, script->options.call_budget_ns, false, err);
    call->cursor = script->call->cursor;
    memset(script->call, 0, sizeof(*script->call)); /* a view kept past the call meets NULL */
    return rc;
}

/* --- other Lua text --------------------------------------------------------------------------- */

struct run {
    const char *text;
    size_t length;
    const char *chunkname;
    struct weir_buffer *out;
    int rc;
};

static int run_text(lua_State *lua) {
    struct run *run = lua_touserdata(lua, 1);
    lua_settop(lua, 0);
    if (luaL_loadbufferx(lua, run->text, run->length, run->chunkname, "t") != 0) {
        return lua_error(lua);
    }
    lua_call(lua, 0, LUA_MULTRET);
    int count = lua_gettop(lua);
    for (int i = 1; run->out != NULL && i <= count; i++) {
        size_t length;
        lua_getglobal(lua, "tostring");
        lua_pushvalue(lua, i);
        lua_call(lua, 1, 1);
        const char *text = lua_tolstring(lua, -1, &length);
        if (i > 1) {
            keep_first(&run->rc, weir_buffer_append(run->out, "\t", 1));
        }
        keep_first(&run->rc, weir_buffer_append(run->out, text, length));
        lua_pop(lua, 1);
    }
    return 0;
}

int weir_script_run(struct weir_script *script, const char *text, size_t length,
                    const char *chunkname, struct weir_buffer *out, struct weir_error *err) {
    struct run run = {.text = text, .length = length, .chunkname = chunkname, .out = out};
    lua_pushcfunction(script->lua, run_text);
    lua_pushlightuserdata(script->lua, &run);
    int rc = weir_script_protected(script, 1, 0, script->options.load_budget_ns, true, err);
    if (rc == WEIR_OK && run.rc != WEIR_OK) {
        rc = weir_error_set(err, run.rc, "%s: %s", chunkname, weir_error_text(run.rc));
    }
    return rc;
}
