/* The positioned Lua parser: verdicts against LuaJIT's parser, positions, scopes, carets, limits,
 * and the instrumented text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>

#include "script/parser.h"
#include "script/script.h"

static lua_State *stock;
static struct weir_script *script;

static int setup(void **state) {
    (void)state;
    struct weir_error err = {0};
    if (weir_script_create(NULL, &script, &err) != WEIR_OK) {
        print_error("%s\n", err.message);
        return -1;
    }
    stock = luaL_newstate();
    luaL_openlibs(stock);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    weir_script_destroy(script);
    lua_close(stock);
    return 0;
}

/* Runs Lua assertions with native at hand. */
static void run(const char *text) {
    struct weir_error err = {0};
    int rc = weir_script_run(script, text, strlen(text), "=test", NULL, &err);
    if (rc != WEIR_OK) {
        fail_msg("%s", err.message);
    }
}

#define PRELUDE                                                                                    \
    "local native = require 'weir.native' "                                                        \
    "local function eq(a, b) if a ~= b then error(tostring(a) .. ' ~= ' .. tostring(b), 2) end "   \
    "end "

static bool luajit_accepts(const char *text, size_t length) {
    int rc = luaL_loadbufferx(stock, text, length, "=x", "t");
    lua_settop(stock, 0);
    return rc == 0;
}

static bool we_accept(const char *text, size_t length, struct weir_lua_syntax_error *syntax) {
    struct weir_lua_ast *ast;
    int rc = weir_lua_parse(text, length, &ast, syntax);
    weir_lua_ast_destroy(ast);
    assert_true(rc == WEIR_OK || rc == WEIR_E_SYNTAX || rc == WEIR_E_LIMIT);
    return rc == WEIR_OK;
}

static void same_verdict(const char *text, size_t length) {
    struct weir_lua_syntax_error syntax;
    bool ours = we_accept(text, length, &syntax);
    bool theirs = luajit_accepts(text, length);
    if (ours != theirs) {
        fail_msg("LuaJIT %s, we %s (%s): %.*s", theirs ? "accepts" : "refuses",
                 ours ? "accept" : "refuse", syntax.message, (int)length, text);
    }
}

static const char *const snippets[] = {
    "",
    ";",
    "x=1;",
    "return",
    "return;",
    "return 1,2,3",
    "return 1 x=2",
    "break",
    "while true do break end",
    "while true do break x=1 end",
    "for i=1,2 do end",
    "for i=1,2,3 do local x=i end",
    "for i=1 do end",
    "for k,v in pairs(t) do end",
    "for k in t end",
    "repeat local x=1 until x",
    "if a then elseif b then else end",
    "if a then else elseif b end",
    "local function f(a,...) return ... end",
    "function a.b.c:d(x) return self end",
    "function a:b.c() end",
    "local a,b=1",
    "local",
    "local x <const> = 1",
    "a,b=b,a",
    "a.b[c],d=1,2",
    "f()=1",
    "(a)=1",
    "(a).b=1",
    "f{1,2;3,a=1,[2]=3}",
    "f'x' \"y\" [[z]]",
    "f\n(x)",
    "local x = f\n'x'",
    "goto x ::x::",
    "goto x",
    "do goto x end ::x::",
    "::x:: ::x::",
    "::x:: do ::x:: end",
    "goto x local a ::x:: print(a)",
    "goto x local a ::x::",
    "do goto x local a ::x:: end",
    "repeat goto x local a ::x:: until a",
    "goto = 1",
    "goto.x = 1",
    "local goto = 1",
    "goto(1)",
    "::goto::",
    "x = goto",
    "return ...",
    "function f() return ... end",
    "local x = function(...) end",
    "x = 0x10 + 0X1p4 + 1e10 + 1E-2 + .5 + 5. + 0b101 + 5LL + 5ULL + 0x5ull + 2i + 1.5i + 0b11LL",
    "x = 1e",
    "x = 0x",
    "x = 5L",
    "x = 5LLU",
    "x = 1.5LL",
    "x = 1..2",
    "x = 1...2",
    "x = 3x",
    "x=0b2",
    "x=0b",
    "x = 1e5LL",
    "x=0x1.8",
    "x = 'a\\n\\065\\x41\\z  \n b\\u{20AC}'",
    "x = '\\q'",
    "x='\\300'",
    "x='\\xZZ'",
    "x='\\u{110000}'",
    "x='\\u{D800}'",
    "x = 'a\nb'",
    "x = 'a\\\nb'",
    "x = \"",
    "x = [==[ ]] ]==]",
    "x = [=x",
    "x = [=[",
    "--[[",
    "--[==[ ]] ]==] x=1",
    "-- c",
    "#!shebang\nx=1",
    "\xef\xbb\xbfx=1",
    "x = a.b:c'd'{e}[f].g()",
    "x = -2^-3^#a..not b",
    "x = a<b<c==d~=e and f or g",
    "x = {f(),...}",
    "x = {,}",
    "x = {a=}",
    "x = {[1]2}",
    "x = {1 2}",
    "x = {['a']=1,}",
    "x = (1)(2)",
    "x = 1(2)",
    "x = 'a':b()",
    "x = ('a'):b()",
    "x = {}.y",
    "x = #{}",
    "x = - - 1",
    "x = not not 1",
    "x = a b",
    "x",
    "x.y",
    "x()",
    "x:y",
    "x:y()",
    "x.1",
    "x = y = z",
    "local x, = 1",
    "f(a,)",
    "f(,)",
    "end",
    "do end end",
    "do",
    "function f( end",
    "function f(a b) end",
    "function f(a,) end",
    "function f(...,a) end",
    "local function f.x() end",
    "return function() end",
    "x=@",
    "x=`",
    "x=a?b",
    "x = a != b",
    "x = 1 // 2",
    "x = 1 & 2",
    "x = ~1",
    "caf\xc3\xa9 = 1",
    "x = y\xff",
    "a = b and c\nd = e",
    "local s = [[\nx]]",
    "x = 1 --[[c]] y = 2",
    "\0",
    "x=1\0",
    "if x then goto c end do end ::c::",
    "while x do if y then goto c end local z ::c:: end",
    "local a <close> = 1",
    "x = function() return 1 end()",
    "x = (function() return 1 end)()",
    "return;;",
    ";;",
    "x=1;;y=2",
    "do return end x=1",
};

static void verdicts_agree_with_luajit_on_written_snippets(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(snippets) / sizeof(snippets[0]); i++) {
        same_verdict(snippets[i], strlen(snippets[i]));
    }
}

static uint64_t random_state = 88172645463325252u;

static uint32_t random_below(uint32_t n) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 33) % n;
}

static void verdicts_agree_with_luajit_on_shuffled_tokens(void **state) {
    (void)state;
    static const char *const tokens[] = {
        "a",      "b",     "f",     "=",        ",",     "(",      ")",   "{",    "}",      "[",
        "]",      ".",     ":",     ";",        "1",     "2.5",    "'s'", "..",   "...",    "==",
        "+",      "-",     "^",     "not",      "#",     "do",     "end", "if",   "then",   "else",
        "while",  "for",   "in",    "function", "local", "return", "nil", "true", "goto x", "::x::",
        "repeat", "until", "break", "and",      "or",    "elseif", "\n",
    };
    char text[512];
    for (int round = 0; round < 200000; round++) {
        size_t n = 0;
        uint32_t count = 1 + random_below(12);
        for (uint32_t i = 0; i < count; i++) {
            n += (size_t)snprintf(text + n, sizeof(text) - n, "%s ",
                                  tokens[random_below(sizeof(tokens) / sizeof(tokens[0]))]);
        }
        same_verdict(text, n);
    }
}

static void verdicts_agree_with_luajit_on_damaged_programs(void **state) {
    (void)state;
    char text[600];
    for (size_t i = 0; i < sizeof(snippets) / sizeof(snippets[0]); i++) {
        size_t length = strlen(snippets[i]);
        for (int round = 0; length > 0 && round < 300; round++) {
            memcpy(text, snippets[i], length);
            size_t at = random_below((uint32_t)length);
            size_t n = length;
            switch (random_below(3)) {
            case 0:
                memmove(text + at, text + at + 1, --n - at);
                break;
            case 1:
                text[at] = snippets[i][random_below((uint32_t)length)];
                break;
            default:
                memcpy(text + n, snippets[random_below(sizeof(snippets) / sizeof(snippets[0]))], 1);
                n++;
            }
            same_verdict(text, n);
        }
    }
}

static void an_error_names_line_column_and_token_with_a_caret(void **state) {
    (void)state;
    run(PRELUDE "local ast, p = native.parse('local x = 1\\n\\tlocal y = = 2\\n', '@rules/a.lua') "
                "eq(ast, nil) eq(p.line, 2) eq(p.column, 12) eq(p.offset, 24) "
                "eq(p.message, \"unexpected symbol near '='\") "
                "eq(p.text, \"rules/a.lua:2:12: unexpected symbol near '='\\n\\tlocal y = = "
                "2\\n\\t          ^\") "
                "ast, p = native.parse('stream \"x\" {\\n  a = 1\\n', 'f') "
                "eq(p.message, \"'}' expected (to close '{' at line 1) near the end of the file\") "
                "ast, p = native.parse('x = \"abc', 'f') eq(p.column, 5) eq(p.message, 'unfinished "
                "string') "
                "eq(native.caret('ab\\ncd\\r\\nef', 2, 2), 'cd\\n ^') "
                "eq(native.caret('caf\\195\\169 x', 7), 'caf\\195\\169 x\\n     ^') ");
}

static void every_node_has_its_place(void **state) {
    (void)state;
    run(PRELUDE
        "local src = 'return stream \"silver.x\" {\\n  from = \"b\", [1 + 2] = f.g.h:m{},\\n  { -x "
        "^ 2 },\\n}' "
        "local ast = assert(native.parse(src)) eq(ast.tag, 'Chunk') "
        "local ret = ast.body[1] eq(ret.tag, 'Return') eq(src:sub(ret.first, ret.last), src) "
        "local call = ret.values[1] eq(call.tag, 'Call') eq(call.sugar, 'table') eq(call.line, 1) "
        "eq(call.col, 8) "
        "local inner = call.func eq(inner.sugar, 'string') eq(inner.args[1].value, 'silver.x') "
        "eq(src:sub(inner.first, inner.last), 'stream \"silver.x\"') eq(inner.func.scope, "
        "'global') "
        "local t = call.args[1] eq(t.id, 1) eq(#t.fields, 3) "
        "local f = t.fields[1] eq(f.kind, 'named') eq(f.key, 'from') eq(f.key_line, 2) "
        "eq(f.key_col, 3) eq(f.value.col, 10) "
        "f = t.fields[2] eq(f.kind, 'indexed') eq(f.key.op, '+') eq(f.key_col, 16) eq(f.value.tag, "
        "'MethodCall') "
        "eq(f.value.method, 'm') eq(f.value.object.key.value, 'h') eq(f.value.object.dot, true) "
        "eq(f.value.args[1].id, 2) "
        "f = t.fields[3] eq(f.kind, 'positional') eq(f.value.id, 3) local u = "
        "f.value.fields[1].value "
        "eq(u.tag, 'Unop') eq(u.operand.op, '^') eq(src:sub(u.operand.first, u.operand.last), 'x ^ "
        "2') eq(u.line, 3) ");
    run(PRELUDE "local ast = native.parse 'for i = 1, 2, 3 do end for a, b in c do end if x then "
                "else end repeat until y goto e ::e:: a.b = 5LL' "
                "local b = ast.body eq(b[1].var.name, 'i') eq(b[1].step.value, 3) "
                "eq(b[2].names[2].name, 'b') eq(b[2].values[1].name, 'c') "
                "eq(#b[3].clauses, 1) eq(b[3].orelse.tag, 'Block') eq(b[4].cond.name, 'y') "
                "eq(b[5].label, 'e') eq(b[6].tag, 'Label') "
                "eq(b[7].values[1].suffix, 'LL') eq(b[7].values[1].value, nil) "
                "eq(b[7].values[1].text, '5LL') ");
}

static void functions_list_upvalues_and_globals_with_assignments(void **state) {
    (void)state;
    run(PRELUDE "local ast = native.parse([[local a, b, c = 1, 2, 3\n"
                "return function(e, ...)\n"
                "  local d = a\n"
                "  b = d\n"
                "  counter = print(e.x)\n"
                "  return function() c = c + 1; local a; a = 1; return d, print end\n"
                "end]]) "
                "local f = ast.body[2].values[1] eq(f.tag, 'FunctionExpr') eq(f.vararg, true) "
                "eq(#f.params, 1) eq(f.params[1].name, 'e') "
                "local up = {} for _, u in ipairs(f.upvalues) do up[#up+1] = u.name .. (u.assigned "
                "and '=' or '') .. u.line end "
                "eq(table.concat(up, ' '), 'a3 b=4 c=6') "
                "local gl = {} for _, u in ipairs(f.globals) do gl[#gl+1] = u.name .. (u.assigned "
                "and '=' or '') .. u.line .. ':' .. u.col end "
                "eq(table.concat(gl, ' '), 'counter=5:3 print5:13') ");
    run(PRELUDE "local ast = native.parse 'local x = x; do local x = 1; y = x end return x, "
                "function() return function() return x end end' "
                "local f = ast.body[3].values[2] eq(#f.upvalues, 1) eq(f.upvalues[1].name, 'x') "
                "eq(#ast.upvalues, 0) "
                "eq(ast.globals[1].name, 'x') eq(ast.body[1].values[1].scope, 'global') "
                "eq(ast.body[3].values[1].scope, 'local') "
                "eq(f.body[1].values[1].body[1].values[1].scope, 'upvalue') ");
}

static void instrumented_text_records_constructors_and_powers(void **state) {
    (void)state;
    run(PRELUDE "local src = 'local t = { 1, { a = 2 ^ 3 ^ 2 } }\\nreturn f{ t },g \"x\" {}, "
                "function() return { 2 ^ 2 } end, h:m{}' "
                "local text, ast, tables = native.instrument(src, '@x') "
                "eq(text, 'local t =  __weir_table(1,{ 1,  __weir_table(2,{ a =  __weir_pow(2 ,  "
                "__weir_pow(3 , 2)) }) })\\n' .. "
                "'return f( __weir_table(3,{ t })),g \"x\"(  __weir_table(4,{})), function() "
                "return {  __weir_pow(2 , 2) } end, h:m( __weir_table(5,{}))') "
                "eq(#tables, 5) eq(tables[2].fields[1].key, 'a') eq(tables[3].line, 2) "
                "local seen = {} local env = { __weir_table = function(id, t) seen[#seen + 1] = id "
                "return t end, __weir_pow = native.pow, "
                "f = function(t) return t[1] end, g = function() return function(t) return t end "
                "end, h = { m = function(_, t) return t end } } "
                "local a, b, c, d = assert(native.load(text, '@x', env))() "
                "eq(table.concat(seen, ','), '2,1,3,4,5') eq(a[2].a, 512) eq(c()[1], 4) ");
    run(PRELUDE "local src = 'return f \"x\" -- named\\n{ a = 1 }, h:m\\n\\n{}' local seen = {} "
                "local text = native.instrument(src) local env = { __weir_table = function(id, t) "
                "seen[id] = t return t end, "
                "f = function(n) return function(t) return t end end, h = { m = function(_, t) "
                "return t end } } "
                "local a, b = assert(native.load(text, '=x', env))() eq(a, seen[1]) eq(b, seen[2]) "
                "eq(a.a, 1) ");
    run(PRELUDE "local src = 'return(2)^(3)' local text = native.instrument(src) "
                "eq(assert(native.load(text, '=x', { __weir_pow = native.pow }))(), 8) "
                "local ok, message = native.load('\\27LJ', '=x', {}) eq(ok, nil) "
                "assert(message:find('only text', 1, true)) ");
}

/* Whatever the source, the rewritten one parses again and has as many lines. */
static void instrumented_text_always_parses_with_the_same_lines(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(snippets) / sizeof(snippets[0]); i++) {
        struct weir_lua_ast *ast;
        struct weir_lua_syntax_error syntax;
        size_t length = strlen(snippets[i]);
        if (weir_lua_parse(snippets[i], length, &ast, &syntax) != WEIR_OK) {
            continue;
        }
        struct weir_buffer text;
        weir_buffer_init(&text, 1 << 20);
        assert_int_equal(weir_lua_instrument(ast, &text), WEIR_OK);
        weir_lua_ast_destroy(ast);
        if (!we_accept((const char *)text.data, text.size, &syntax)) {
            fail_msg("%s: %.*s", syntax.message, (int)text.size, text.data);
        }
        int lines = 0;
        for (size_t k = 0; k < text.size; k++) {
            lines += text.data[k] == '\n';
        }
        for (size_t k = 0; k < length; k++) {
            lines -= snippets[i][k] == '\n';
        }
        assert_int_equal(lines, 0);
        weir_buffer_fini(&text);
    }
}

static void repeat_text(struct weir_buffer *out, const char *text, int times) {
    for (int i = 0; i < times; i++) {
        assert_int_equal(weir_buffer_append_text(out, text), WEIR_OK);
    }
}

static void hostile_depth_and_size_are_refused(void **state) {
    (void)state;
    static const char *const pieces[] = {
        "(",    "{",          "f{",  "do ", "function() return ", "a.b[", "-",
        "not ", "if x then ", "x..", "2^",  "return function() ", "[[",   "a("};
    struct weir_lua_syntax_error syntax;
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        struct weir_buffer text;
        weir_buffer_init(&text, 8 << 20);
        repeat_text(&text, "x = ", 1);
        repeat_text(&text, pieces[i], 100000);
        assert_false(we_accept((const char *)text.data, text.size, &syntax));
        weir_buffer_fini(&text);
    }
    static const char *const chains[] = {".a", "()", "+1", "[1]", ":m()"};
    for (size_t i = 0; i < sizeof(chains) / sizeof(chains[0]); i++) {
        struct weir_buffer text;
        weir_buffer_init(&text, 8 << 20);
        repeat_text(&text, "return x", 1);
        repeat_text(&text, chains[i], 100000);
        assert_false(we_accept((const char *)text.data, text.size, &syntax));
        assert_non_null(strstr(syntax.message, "too long"));
        weir_buffer_fini(&text);
    }
    struct weir_buffer big;
    weir_buffer_init(&big, 8 << 20);
    repeat_text(&big, "        ", WEIR_LUA_SOURCE_BYTES_MAX / 8 + 1);
    assert_false(we_accept((const char *)big.data, big.size, &syntax));
    weir_buffer_fini(&big);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verdicts_agree_with_luajit_on_written_snippets),
        cmocka_unit_test(verdicts_agree_with_luajit_on_shuffled_tokens),
        cmocka_unit_test(verdicts_agree_with_luajit_on_damaged_programs),
        cmocka_unit_test(an_error_names_line_column_and_token_with_a_caret),
        cmocka_unit_test(every_node_has_its_place),
        cmocka_unit_test(functions_list_upvalues_and_globals_with_assignments),
        cmocka_unit_test(instrumented_text_records_constructors_and_powers),
        cmocka_unit_test(instrumented_text_always_parses_with_the_same_lines),
        cmocka_unit_test(hostile_depth_and_size_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
