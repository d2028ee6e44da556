/* native.string: the string library rules get. find, match, gmatch and gsub run on the step-limited
 * matcher (pattern.c), rep is bounded, dump is gone; the rest is stock. The string metatable points
 * here too, in every environment, and cannot be replaced. */
#include "script/internal.h"
#include "script/pattern.h"

#define REP_BYTES_MAX (16u << 20)
#define SHOWN_PATTERN 60

struct subject {
    const char *text;
    size_t length;
    const char *pattern;
    size_t pattern_length;
    int64_t budget;
};

/* A NUL ends a pattern, as in LuaJIT. A long text earns more steps: linear work is no bomb. */
static void start(lua_State *lua, struct weir_pattern *m, struct subject *subject, int text,
                  int pattern) {
    subject->text = luaL_checklstring(lua, text, &subject->length);
    subject->pattern = luaL_checklstring(lua, pattern, &subject->pattern_length);
    m->text = subject->text;
    m->text_end = subject->text + subject->length;
    m->end = subject->pattern + strlen(subject->pattern);
    m->error = NULL;
    m->captures = 0;
    subject->budget = weir_script_of(lua)->options.pattern_steps + (int64_t)subject->length * 32;
    m->steps = subject->budget;
}

/* One attempt at s; throws what the matcher reports. */
static const char *try_match(lua_State *lua, struct weir_pattern *m, const struct subject *subject,
                             const char *s, const char *pattern) {
    const char *end = weir_pattern_match(m, s, pattern);
    if (m->steps < 0) {
        char shown[SHOWN_PATTERN + 1];
        size_t n = strlen(subject->pattern);
        n = n < SHOWN_PATTERN ? n : SHOWN_PATTERN;
        memcpy(shown, subject->pattern, n);
        shown[n] = '\0';
        luaL_error(lua, "pattern \"%s%s\" took too many steps (%d) on a text of %d bytes", shown,
                   n < SHOWN_PATTERN ? "" : "…", (int)subject->budget, (int)subject->length);
    }
    if (m->error != NULL) {
        luaL_error(lua, "%s", m->error);
    }
    return end;
}

static void push_capture(lua_State *lua, const struct weir_pattern *m, int i, const char *s,
                         const char *end) {
    if (i >= m->captures) {
        if (i != 0) {
            luaL_error(lua, "invalid capture index");
        }
        lua_pushlstring(lua, s, (size_t)(end - s));
    } else if (m->capture[i].length == WEIR_CAPTURE_POSITION) {
        lua_pushinteger(lua, m->capture[i].start - m->text + 1);
    } else if (m->capture[i].length == WEIR_CAPTURE_OPEN) {
        luaL_error(lua, "unfinished capture");
    } else {
        lua_pushlstring(lua, m->capture[i].start, (size_t)m->capture[i].length);
    }
}

/* All captures; the whole match when there is none and `whole`. */
static int push_captures(lua_State *lua, const struct weir_pattern *m, const char *s,
                         const char *end, bool whole) {
    int count = m->captures == 0 && whole ? 1 : m->captures;
    luaL_checkstack(lua, count, "too many captures");
    for (int i = 0; i < count; i++) {
        push_capture(lua, m, i, s, end);
    }
    return count;
}

/* Start offset from the optional argument `index`: from 1, negative from the end, clamped. */
static size_t start_offset(lua_State *lua, int index, size_t length) {
    lua_Integer init = luaL_optinteger(lua, index, 1);
    if (init < 0) {
        init += (lua_Integer)length;
    } else if (init > 0) {
        init--;
    }
    if (init < 0) {
        return 0;
    }
    return (size_t)init < length ? (size_t)init : length;
}

static int find_or_match(lua_State *lua, bool find) {
    struct weir_pattern m;
    struct subject subject;
    start(lua, &m, &subject, 1, 2);
    size_t init = start_offset(lua, 3, subject.length);
    const char *s = subject.text + init;
    if (find &&
        (lua_toboolean(lua, 4) || weir_pattern_is_plain(subject.pattern, subject.pattern_length))) {
        const char *hit = memmem(s, subject.length - init, subject.pattern, subject.pattern_length);
        if (subject.pattern_length == 0) {
            hit = s;
        }
        if (hit == NULL) {
            lua_pushnil(lua);
            return 1;
        }
        lua_pushinteger(lua, hit - subject.text + 1);
        lua_pushinteger(lua, hit - subject.text + (ptrdiff_t)subject.pattern_length);
        return 2;
    }
    bool is_anchored = *subject.pattern == '^';
    const char *pattern = subject.pattern + is_anchored;
    do {
        const char *end = try_match(lua, &m, &subject, s, pattern);
        if (end != NULL) {
            if (!find) {
                return push_captures(lua, &m, s, end, true);
            }
            lua_pushinteger(lua, s - subject.text + 1);
            lua_pushinteger(lua, end - subject.text);
            return 2 + push_captures(lua, &m, s, end, false);
        }
    } while (s++ < m.text_end && !is_anchored);
    lua_pushnil(lua);
    return 1;
}

static int string_find(lua_State *lua) {
    return find_or_match(lua, true);
}

static int string_match(lua_State *lua) {
    return find_or_match(lua, false);
}

/* Upvalues: text, pattern, where to go on. */
static int gmatch_next(lua_State *lua) {
    struct weir_pattern m;
    struct subject subject;
    start(lua, &m, &subject, lua_upvalueindex(1), lua_upvalueindex(2));
    const char *s = subject.text + lua_tointeger(lua, lua_upvalueindex(3));
    for (; s <= m.text_end; s++) {
        const char *end = try_match(lua, &m, &subject, s, subject.pattern);
        if (end != NULL) {
            lua_pushinteger(lua, end - subject.text + (end == s));
            lua_replace(lua, lua_upvalueindex(3));
            return push_captures(lua, &m, s, end, true);
        }
    }
    return 0;
}

static int string_gmatch(lua_State *lua) {
    luaL_checkstring(lua, 1);
    luaL_checkstring(lua, 2);
    lua_settop(lua, 2);
    lua_pushinteger(lua, 0);
    lua_pushcclosure(lua, gmatch_next, 3);
    return 1;
}

static void add_template(lua_State *lua, luaL_Buffer *out, const struct weir_pattern *m,
                         const char *s, const char *end) {
    size_t length;
    const char *text = lua_tolstring(lua, 3, &length);
    for (size_t i = 0; i < length; i++) {
        if (text[i] != '%') {
            luaL_addchar(out, text[i]);
            continue;
        }
        char c = text[++i]; /* the NUL after a trailing % is what LuaJIT adds, too */
        if (c == '0') {
            luaL_addlstring(out, s, (size_t)(end - s));
        } else if (c >= '1' && c <= '9') {
            push_capture(lua, m, c - '1', s, end);
            luaL_addvalue(out);
        } else {
            luaL_addchar(out, c);
        }
    }
}

static void add_replacement(lua_State *lua, luaL_Buffer *out, const struct weir_pattern *m,
                            const char *s, const char *end) {
    switch (lua_type(lua, 3)) {
    case LUA_TFUNCTION: {
        lua_pushvalue(lua, 3);
        int count = push_captures(lua, m, s, end, true);
        lua_call(lua, count, 1);
        break;
    }
    case LUA_TTABLE:
        push_capture(lua, m, 0, s, end);
        lua_gettable(lua, 3);
        break;
    default:
        add_template(lua, out, m, s, end);
        return;
    }
    if (!lua_toboolean(lua, -1)) {
        lua_pop(lua, 1);
        lua_pushlstring(lua, s, (size_t)(end - s));
    } else if (!lua_isstring(lua, -1)) {
        luaL_error(lua, "invalid replacement value (a %s)", luaL_typename(lua, -1));
    }
    luaL_addvalue(out);
}

static int string_gsub(lua_State *lua) {
    struct weir_pattern m;
    struct subject subject;
    start(lua, &m, &subject, 1, 2);
    int kind = lua_type(lua, 3);
    luaL_argcheck(lua,
                  kind == LUA_TNUMBER || kind == LUA_TSTRING || kind == LUA_TFUNCTION ||
                      kind == LUA_TTABLE,
                  3, "string/function/table expected");
    if (kind == LUA_TNUMBER) {
        lua_tostring(lua, 3); /* in place, before the buffer uses the stack */
    }
    lua_Integer limit = luaL_optinteger(lua, 4, (lua_Integer)subject.length + 1);
    bool is_anchored = *subject.pattern == '^';
    const char *pattern = subject.pattern + is_anchored;
    const char *s = subject.text;
    lua_Integer count = 0;
    luaL_Buffer out;
    luaL_buffinit(lua, &out);
    while (count < limit) {
        const char *end = try_match(lua, &m, &subject, s, pattern);
        if (end != NULL) {
            count++;
            add_replacement(lua, &out, &m, s, end);
        }
        if (end != NULL && end > s) {
            s = end;
        } else if (s < m.text_end) {
            luaL_addchar(&out, *s++);
        } else {
            break;
        }
        if (is_anchored) {
            break;
        }
    }
    luaL_addlstring(&out, s, (size_t)(m.text_end - s));
    luaL_pushresult(&out);
    lua_pushinteger(lua, count);
    return 2;
}

/* Upvalue: the stock function. */
static int string_rep(lua_State *lua) {
    size_t length;
    size_t separator = 0;
    luaL_checklstring(lua, 1, &length);
    lua_Number times = luaL_checknumber(lua, 2);
    if (!lua_isnoneornil(lua, 3)) {
        luaL_checklstring(lua, 3, &separator);
    }
    if (times > 0 && (lua_Number)(length + separator) * times > REP_BYTES_MAX) {
        return luaL_error(lua, "string.rep would make more than %d MiB", REP_BYTES_MAX >> 20);
    }
    int arguments = lua_gettop(lua);
    lua_pushvalue(lua, lua_upvalueindex(1));
    lua_insert(lua, 1);
    lua_call(lua, arguments, 1);
    return 1;
}

/* With native on top of the stack and the stock library as global `string`. */
void weir_script_open_strings(lua_State *lua) {
    static const luaL_Reg functions[] = {{"find", string_find},
                                         {"match", string_match},
                                         {"gmatch", string_gmatch},
                                         {"gsub", string_gsub},
                                         {NULL, NULL}};
    static const char *const stock[] = {"byte",  "char",    "format", "len",
                                        "lower", "reverse", "sub",    "upper"};
    lua_getglobal(lua, "string");
    lua_newtable(lua);
    for (const luaL_Reg *f = functions; f->name != NULL; f++) {
        lua_pushcfunction(lua, f->func);
        lua_setfield(lua, -2, f->name);
    }
    for (size_t i = 0; i < sizeof(stock) / sizeof(stock[0]); i++) {
        lua_getfield(lua, -2, stock[i]);
        lua_setfield(lua, -2, stock[i]);
    }
    lua_getfield(lua, -2, "rep");
    lua_pushcclosure(lua, string_rep, 1);
    lua_setfield(lua, -2, "rep");

    lua_pushliteral(lua, "");
    lua_getmetatable(lua, -1);
    lua_pushvalue(lua, -3);
    lua_setfield(lua, -2, "__index");
    lua_pushliteral(lua, "string");
    lua_setfield(lua, -2, "__metatable");
    lua_pop(lua, 2);

    lua_pushvalue(lua, -1);
    lua_setglobal(lua, "string");
    lua_setfield(lua, -3, "string"); /* native.string */
    lua_pop(lua, 1);
}
