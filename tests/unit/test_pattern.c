/* The step-limited pattern matcher against LuaJIT's own string library. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>

#include "core/clock.h"
#include "script/pattern.h"
#include "script/script.h"

static struct weir_script *script;
static lua_State *stock;

static int setup(void **state) {
    (void)state;
    struct weir_error err = {0};
    struct weir_script_options options = {.pattern_steps = 200000};
    if (weir_script_create(&options, &script, &err) != WEIR_OK) {
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

/* Runs the same text in both states; what it returns, as text, must agree. */
static void same(const char *text) {
    struct weir_error err = {0};
    struct weir_buffer ours;
    weir_buffer_init(&ours, 1 << 24);
    assert_int_equal(luaL_loadstring(stock, text), 0);
    assert_int_equal(lua_pcall(stock, 0, 1, 0), 0);
    int rc = weir_script_run(script, text, strlen(text), "=test", &ours, &err);
    if (rc != WEIR_OK) {
        fail_msg("%s\n%s", text, err.message);
    }
    if (strcmp(weir_buffer_text(&ours), lua_tostring(stock, -1)) != 0) {
        fail_msg("%s\nours:  %s\nstock: %s", text, weir_buffer_text(&ours),
                 lua_tostring(stock, -1));
    }
    lua_settop(stock, 0);
    weir_buffer_fini(&ours);
}

/* Shows values so that nil, numbers and empty strings differ; errors only as such. */
#define SHOW                                                                                       \
    "local function show(ok, ...) if not ok then return 'error' end local out = {} "               \
    "for i = 1, select('#', ...) do local v = select(i, ...) "                                     \
    "out[i] = type(v) .. ':' .. tostring(v) end return table.concat(out, ' ') end "

static void find_match_gmatch_and_gsub_agree_with_stock_on_written_cases(void **state) {
    (void)state;
    same(SHOW
         "local out = {} "
         "local cases = { {'hello world', 'o w'}, {'hello', 'l+'}, {'hello', '(h)(.)(l*)'}, "
         "{'  x  ', '^%s*(.-)%s*$'}, {'key = value', '(%w+)%s*=%s*(%w+)'}, {'abc', '()b()'}, "
         "{'THE (quick) fox', '%((%a+)%)'}, {'f(a(b)c)d', '%b()'}, {'THE quick', '%f[%a]%a+'}, "
         "{'aXb', '%u'}, {'x', ''}, {'', ''}, {'', '.*'}, {'abcabc', '(abc)%1'}, {'a.b', 'a%.b'}, "
         "{'a-b', '[a-]+'}, {'a]b', '[]]'}, {'a^b', '[%^]'}, {'^x', '[^^]'}, {'\\0a\\0', '%z'}, "
         "{'\\200\\255', '[\\128-\\255]+'}, {'caf\\195\\169', '%w+'}, {'a', '(a'}, {'a', 'a)'}, "
         "{'a', '%'}, {'a', '[a'}, {'a', '%1'}, {'a', '%b'}, {'a', '%f'}, {'abc', '.-$'}, "
         "{'$', '$'}, {'a$b', 'a$b'}, {'aaa', 'a-'}, {'aaa', 'a?a?a?a?'}, {'x=1, y=2', "
         "'(%w+)=(%w+)'}, "
         "{'0x1F', '^0[xX](%x+)$'}, {'1e5', '^[+-]?%d+%.?%d*[eE]?%d*$'}, {'!?', '%p+'}, {'\\1', "
         "'%c'}, "
         "{'a b', '%g+'}, {'ab', '[%a-z]'}, {'-', '[%a-]'}, {'abc', '((a)(b))'}, {'ab12', '%D+%d'} "
         "} "
         "for _, c in ipairs(cases) do local s, p = c[1], c[2] "
         "out[#out+1] = show(pcall(string.find, s, p)) "
         "out[#out+1] = show(pcall(string.match, s, p)) "
         "for init = -4, 5 do out[#out+1] = show(pcall(string.find, s, p, init)) "
         "out[#out+1] = show(pcall(string.match, s, p, init)) end "
         "out[#out+1] = show(pcall(string.find, s, p, 1, true)) "
         "out[#out+1] = show(pcall(string.gsub, s, p, '<%0>')) "
         "out[#out+1] = show(pcall(string.gsub, s, p, '%1%%', 2)) "
         "out[#out+1] = show(pcall(string.gsub, s, p, { a = 'A', l = false, hello = 12 })) "
         "out[#out+1] = show(pcall(string.gsub, s, p, function(...) return select('#', ...) end)) "
         "out[#out+1] = show(pcall(string.gsub, s, p, '%9')) "
         "out[#out+1] = show(pcall(string.gsub, s, p, true)) "
         "out[#out+1] = show(pcall(function() local t = {} for a, b in string.gmatch(s, p) do "
         "t[#t+1] = tostring(a) .. '/' .. tostring(b) end return table.concat(t, ';') end)) "
         "end return table.concat(out, '\\n')");
}

static void random_patterns_agree_with_stock(void **state) {
    (void)state;
    /* The same generator in both states: a small linear congruence, no math.random. */
    for (int seed = 1; seed <= 40; seed++) {
        char text[4096];
        snprintf(text, sizeof(text),
                 SHOW
                 "local seed = %d local function r(n) seed = (seed * 16807) %% 2147483647 "
                 "return seed %% n + 1 end "
                 "local pieces = { 'a', 'b', '.', '%%a', '%%d', '%%W', '[ab]', '[^a]', '[%%d-b]', "
                 "'(', ')', "
                 "'()', '*', '+', '-', '?', '%%1', '%%2', '%%b()', '%%f[a]', '^', '$', '1', "
                 "'[a-c]', '%%.', "
                 "'[]a]', '[^]1]', '%%', '[' } "
                 "local letters = { 'a', 'b', 'c', '1', '(', ')', '.', ']', '' } "
                 "local out = {} for i = 1, 250 do local p, s = {}, {} "
                 "for j = 1, r(7) do p[j] = pieces[r(#pieces)] end "
                 "for j = 1, r(10) do s[j] = letters[r(#letters)] end "
                 "p, s = table.concat(p), table.concat(s) "
                 "out[#out+1] = p .. ' on ' .. s .. ': ' .. show(pcall(string.find, s, p)) .. ' ' "
                 ".. show(pcall(string.match, s, p, 2)) .. ' ' "
                 ".. show(pcall(string.gsub, s, p, '[%%0]')) .. ' ' "
                 ".. show(pcall(string.gsub, s, p, '%%1', 1)) end return table.concat(out, '\\n')",
                 seed);
        same(text);
    }
}

static void methods_of_strings_are_the_safe_ones(void **state) {
    (void)state;
    struct weir_error err = {0};
    const char *text = "local native = require 'weir.native' "
                       "assert(getmetatable('') == 'string') "
                       "assert(string == native.string and string.dump == nil) "
                       "assert((''):match('x') == nil and ('').match == native.string.match) "
                       "assert(not pcall(setmetatable, '', {}))";
    assert_int_equal(weir_script_run(script, text, strlen(text), "=test", NULL, &err), WEIR_OK);
}

static void a_pattern_bomb_stops_within_milliseconds_and_is_named(void **state) {
    (void)state;
    static const char *const bombs[] = {
        "return ('a'):rep(30):match(('a?'):rep(30) .. ('a'):rep(30))",
        "return ('a'):rep(400):match('(.-)(.-)(.-)(.-)(.-)x')",
        "return ('a'):rep(400):find('.*.*.*.*.*x')",
        "return ('('):rep(5000):find('%b()')",
        "return (('x'):rep(3000):gsub('(.-)(.-)(.-)y', ''))",
        "for w in ('x'):rep(3000):gmatch('.-.-.-.-y') do end",
    };
    for (size_t i = 0; i < sizeof(bombs) / sizeof(bombs[0]); i++) {
        struct weir_error err = {0};
        int64_t began = weir_clock_thread_cpu_ns();
        int rc = weir_script_run(script, bombs[i], strlen(bombs[i]), "=bomb", NULL, &err);
        int64_t took = weir_clock_thread_cpu_ns() - began;
        assert_int_equal(rc, WEIR_E_SCRIPT);
        assert_non_null(strstr(err.message, "took too many steps"));
        assert_non_null(strstr(err.message, "pattern \""));
        assert_true(took < 100000000);
    }
}

static void linear_work_on_a_long_text_is_no_bomb(void **state) {
    (void)state;
    struct weir_error err = {0};
    const char *text = "local s = ('word '):rep(200000) local n = select(2, s:gsub('%w+', 'x')) "
                       "assert(n == 200000) assert(#s:match('^.*$') == #s)";
    int rc = weir_script_run(script, text, strlen(text), "=test", NULL, &err);
    if (rc != WEIR_OK) {
        fail_msg("%s", err.message);
    }
}

static void rep_is_bounded(void **state) {
    (void)state;
    struct weir_error err = {0};
    const char *text = "assert(('ab'):rep(3) == 'ababab' and ('a'):rep(3, ',') == 'a,a,a' "
                       "and ('a'):rep(-1) == '') return ('x'):rep(2^40)";
    assert_int_equal(weir_script_run(script, text, strlen(text), "=test", NULL, &err),
                     WEIR_E_SCRIPT);
    assert_non_null(strstr(err.message, "string.rep would make more than 16 MiB"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(find_match_gmatch_and_gsub_agree_with_stock_on_written_cases),
        cmocka_unit_test(random_patterns_agree_with_stock),
        cmocka_unit_test(methods_of_strings_are_the_safe_ones),
        cmocka_unit_test(a_pattern_bomb_stops_within_milliseconds_and_is_named),
        cmocka_unit_test(linear_work_on_a_long_text_is_no_bomb),
        cmocka_unit_test(rep_is_bounded),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
