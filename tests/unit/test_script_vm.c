/* The VM: what is in it, what is not, memory, budgets, several rule sets, calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "script/script.h"

static struct weir_script *script;

static int setup(void **state) {
    (void)state;
    struct weir_error err = {0};
    struct weir_script_options options = {
        .memory_limit_bytes = 64 << 20, .call_budget_ns = 200000000, .load_budget_ns = 5000000000};
    if (weir_script_create(&options, &script, &err) != WEIR_OK) {
        print_error("%s\n", err.message);
        return -1;
    }
    return 0;
}

static int teardown(void **state) {
    (void)state;
    weir_script_destroy(script);
    return 0;
}

static void run(const char *text) {
    struct weir_error err = {0};
    int rc = weir_script_run(script, text, strlen(text), "=test", NULL, &err);
    if (rc != WEIR_OK) {
        fail_msg("%s", err.message);
    }
}

static struct weir_rule_set *load(const char *text) {
    struct weir_rule_set *rule_set;
    struct weir_error err = {0};
    struct weir_buffer report;
    weir_buffer_init(&report, 1 << 20);
    int rc = weir_script_load_text(script, text, strlen(text), "@loader", &rule_set, &report, &err);
    if (rc != WEIR_OK) {
        fail_msg("%s\n%s", err.message, weir_buffer_text(&report));
    }
    weir_buffer_fini(&report);
    return rule_set;
}

/* A rule set of loops given as Lua text. */
#define RULE_SET(loops)                                                                            \
    "local ffi = require 'ffi' return { plan = '{}', hash_input = 'x', files = { 'b', 'a' }, "     \
    "code = { 'one' }, functions = { " loops " } }"

static void a_process_has_one_vm(void **state) {
    (void)state;
    struct weir_script *second;
    struct weir_error err = {0};
    assert_int_equal(weir_script_create(NULL, &second, &err), WEIR_E_EXISTS);
    assert_null(second);
}

static void the_private_environment_has_no_way_out(void **state) {
    (void)state;
    run("for _, name in ipairs { 'io', 'os', 'package', 'dofile', 'loadfile', 'module', 'newproxy' "
        "} do "
        "assert(_G[name] == nil, name) end "
        "assert(not pcall(require, 'io')) assert(not pcall(require, 'os')) "
        "assert(not pcall(require, 'weir.no.such')) assert(not pcall(require, '../x')) "
        "assert(require 'ffi' and require 'bit' == bit and require 'weir.native' == require "
        "'weir.native') "
        "assert(require 'jit.util'.funcinfo)");
}

static void every_declared_native_function_can_be_called_from_lua(void **state) {
    (void)state;
    /* Each prototype of abi/native.h and abi/call.h resolves: dlsym finds it in this binary. */
    static const char *const headers[] = {"runtime/abi/native.h", "runtime/abi/call.h"};
    int count = 0;
    for (size_t i = 0; i < 2; i++) {
        char path[512];
        snprintf(path, sizeof(path), "%s/%s", WEIR_SOURCE_DIR, headers[i]);
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        char line[512];
        while (fgets(line, sizeof(line), file) != NULL) {
            char name[128];
            const char *open = strchr(line, '(');
            const char *start = strstr(line, "weir_");
            while (start != NULL && open != NULL && start < open) {
                size_t n = strspn(start, "abcdefghijklmnopqrstuvwxyz0123456789_");
                if (start + n == open && line[0] != ' ' && line[0] != '/') {
                    char text[256];
                    snprintf(name, sizeof(name), "%.*s", (int)n, start);
                    snprintf(text, sizeof(text), "local f = require 'ffi'.C.%s assert(f)", name);
                    run(text);
                    count++;
                }
                start = strstr(start + 1, "weir_");
            }
        }
        fclose(file);
    }
    assert_int_equal(count, 78);
}

static void math_gives_the_same_bits_compiled_and_interpreted(void **state) {
    (void)state;
    run("local native = require 'weir.native' local math = native.math "
        "local function sum() local s = 0 for i = 1, 2000 do s = s + native.pow(i * 1.37, 2) + "
        "math.sin(i) + math.exp(i / 1000) + math.log(i) + math.fmod(i, 0.7) + math.atan2(i, 3) end "
        "return s end "
        "local compiled = sum() compiled = sum() jit.off(sum, true) local interpreted = sum() "
        "assert(compiled == interpreted) "
        "assert(math.sqrt(-1) ~= math.sqrt(-1) and type(math.sqrt(-1)) == 'number') "
        "assert(math.random == nil and native.pow(2, 10) == 1024) "
        "assert(not pcall(native.pow, {}, 1))");
}

static void natives_of_the_host_answer_or_say_why_not(void **state) {
    (void)state;
    run("local native = require 'weir.native' "
        "local text, message = native.read_file('/nonexistent/x') "
        "assert(text == nil and message == '/nonexistent/x: No such file or directory', message) "
        "text, message = native.read_file('/') assert(message == '/: not a file') "
        "assert(native.hash 'a' ~= native.hash 'b' and #native.hash '' == 32) "
        "assert(native.json_quote('a\"\\n\\1\\255\\195\\169') == "
        "'\"a\\\\\"\\\\n\\\\u0001\\239\\191\\189\\195\\169\"') "
        "local v = assert(native.json_decode "
        "'{\"b\":[1,null,2.5,\"x\"],\"a\":{},\"n\":9007199254740993}') "
        "assert(v.b[2] == native.null and v.b[3] == 2.5 and v.n == '9007199254740993') "
        "assert(table.concat(native.json_keys(v), ',') == 'b,a,n') "
        "assert(native.json_is_array(v.b) and not native.json_is_array(v.a)) "
        "v, message = native.json_decode '{\"a\":1,\"a\":2}' assert(v == nil and message:find "
        "'duplicate') "
        "assert(native.getenv 'PATH' and native.getenv 'WEIR_NOT_SET_ANYWHERE' == nil)");
    char text[512];
    snprintf(text, sizeof(text),
             "local native = require 'weir.native' "
             "local files = assert(native.list_files('%s/runtime/abi', '.h')) "
             "assert(#files >= 5 and files[1]:find 'abi/abi.h$' and native.file_exists(files[1])) "
             "assert(native.list_files('/nonexistent') == nil)",
             WEIR_SOURCE_DIR);
    run(text);
}

static void now_and_random_come_from_the_runtime(void **state) {
    (void)state;
    weir_script_set_clock(1767607200000001);
    weir_script_set_seed(7);
    run("local C = require 'ffi'.C assert(C.weir_native_now_us() == 1767607200000001LL) "
        "first = { C.weir_native_random(), C.weir_native_random() } "
        "assert(first[1] ~= first[2] and first[1] >= 0 and first[1] < 1)");
    weir_script_set_seed(7);
    run("local C = require 'ffi'.C assert(C.weir_native_random() == first[1] "
        "and C.weir_native_random() == first[2])");
}

static void a_loop_is_called_and_a_throw_comes_back_with_its_row(void **state) {
    (void)state;
    struct weir_rule_set *rule_set = load(
        RULE_SET("function(call) local sel, verdict = call.sel, call.verdict "
                 "for i = call.begin, call['end'] - 1 do call.cursor = i "
                 "if sel[i] == 13 then error('row thirteen') end verdict[i] = sel[i] % 2 end end, "
                 "function() error({}) end"));
    int32_t sel[20];
    uint8_t verdict[20] = {0};
    struct weir_call call = {.sel = sel, .begin = 0, .end = 10, .rows = 20, .verdict = verdict};
    struct weir_error err = {0};
    for (int i = 0; i < 20; i++) {
        sel[i] = i;
    }
    assert_int_equal(weir_rule_set_function_count(rule_set), 2);
    assert_string_equal(weir_rule_set_code(rule_set, 0), "one");
    assert_null(weir_rule_set_code(rule_set, 1));
    assert_null(weir_rule_set_code(rule_set, 2));
    assert_int_equal(weir_rule_set_file_count(rule_set), 2);
    assert_string_equal(weir_rule_set_file(rule_set, 0), "a");
    assert_int_equal(strlen(weir_rule_set_hash(rule_set)), 32);
    assert_int_equal(weir_rule_set_call(rule_set, 0, &call, &err), WEIR_OK);
    assert_int_equal(call.cursor, 9);
    assert_int_equal(verdict[3], 1);
    call.end = 20;
    assert_int_equal(weir_rule_set_call(rule_set, 0, &call, &err), WEIR_E_SCRIPT);
    assert_int_equal(call.cursor, 13);
    assert_string_equal(err.message, "loader:1: row thirteen");
    assert_int_equal(weir_rule_set_call(rule_set, 1, &call, &err), WEIR_E_SCRIPT);
    assert_string_equal(err.message, "error object is a table");
    assert_int_equal(weir_rule_set_call(rule_set, 2, &call, &err), WEIR_E_BUG);
    weir_rule_set_unref(rule_set);
}

static void a_memory_breach_is_a_budget_error_and_the_vm_lives(void **state) {
    (void)state;
    struct weir_rule_set *rule_set =
        load(RULE_SET("function() local t = {} for i = 1, 1e9 do t[i] = { i } end end, "
                      "function() while true do pcall(function() local s = ('x'):rep(2^20) "
                      "local t = {} for i = 1, 1e9 do t[i] = s .. i end end) break end end, "
                      "function(call) call.cursor = 7 end"));
    struct weir_call call = {0};
    for (int round = 0; round < 5; round++) {
        struct weir_error err = {0};
        for (int i = 0; i < 2; i++) {
            assert_int_equal(weir_rule_set_call(rule_set, i, &call, &err), WEIR_E_BUDGET);
            if (strstr(err.message, "memory") == NULL && strstr(err.message, "budget") == NULL) {
                fail_msg("%s", err.message);
            }
        }
        assert_int_equal(weir_rule_set_call(rule_set, 2, &call, &err), WEIR_OK);
        assert_int_equal(call.cursor, 7);
        assert_true(weir_script_memory_bytes(script) < 8 << 20);
    }
    weir_rule_set_unref(rule_set);
}

static void a_view_kept_past_the_call_is_dead(void **state) {
    (void)state;
    struct weir_rule_set *rule_set =
        load(RULE_SET("function(call) kept = call end, function() assert(kept.sel == nil) end"));
    int32_t sel[1] = {0};
    struct weir_call call = {.sel = sel, .end = 1};
    struct weir_error err = {0};
    assert_int_equal(weir_rule_set_call(rule_set, 0, &call, &err), WEIR_OK);
    struct weir_call empty = {0};
    assert_int_equal(weir_rule_set_call(rule_set, 1, &empty, &err), WEIR_OK);
    weir_rule_set_unref(rule_set);
}

static void a_thousand_loads_leave_memory_flat(void **state) {
    (void)state;
    const char *text = RULE_SET("loadstring('local n = ... return function(call) for i = 0, 100 do "
                                "call.cursor = i end end')()");
    struct weir_rule_set *live = load(text);
    size_t after_warm_up = 0;
    for (int i = 0; i < 1000; i++) {
        struct weir_rule_set *next = load(text);
        struct weir_call call = {0};
        struct weir_error err = {0};
        assert_int_equal(weir_rule_set_call(next, 0, &call, &err), WEIR_OK);
        assert_int_equal(weir_rule_set_call(live, 0, &call, &err), WEIR_OK);
        weir_rule_set_unref(live);
        live = next;
        if (i == 100 || i == 999) {
            weir_script_collect(script);
            if (i == 100) {
                after_warm_up = weir_script_memory_bytes(script);
            }
        }
    }
    size_t at_end = weir_script_memory_bytes(script);
    if (at_end > after_warm_up + after_warm_up / 20) {
        fail_msg("grew from %zu to %zu bytes", after_warm_up, at_end);
    }
    weir_rule_set_unref(live);
}

static void a_failing_loader_reports_with_carets_and_json(void **state) {
    (void)state;
    struct weir_rule_set *rule_set;
    struct weir_error err = {0};
    struct weir_buffer report;
    weir_buffer_init(&report, 1 << 20);
    const char *text = "return nil, { { severity = 'error', file = 'rules/a.lua', line = 2, column "
                       "= 3, message = 'no \"x\"', "
                       "suggestion = 'did you mean y?', source = 'a\\nb x\\n' }, { file = 'b.lua', "
                       "message = 'bad' } }";
    int rc = weir_script_load_text(script, text, strlen(text), "@loader", &rule_set, &report, &err);
    assert_int_equal(rc, WEIR_E_CONFIG);
    assert_null(rule_set);
    assert_string_equal(weir_buffer_text(&report),
                        "rules/a.lua:2:3: error: no \"x\"\nb x\n  ^\ndid you mean y?\n"
                        "b.lua: error: bad\n");
    weir_buffer_fini(&report);
    weir_buffer_init(&report, 1 << 20);
    text = "error 'loader broke'";
    rc = weir_script_load_text(script, text, strlen(text), "@loader", &rule_set, &report, &err);
    assert_int_equal(rc, WEIR_E_SCRIPT);
    assert_non_null(strstr(err.message, "loader:1: loader broke"));
    weir_buffer_fini(&report);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_process_has_one_vm),
        cmocka_unit_test(the_private_environment_has_no_way_out),
        cmocka_unit_test(every_declared_native_function_can_be_called_from_lua),
        cmocka_unit_test(math_gives_the_same_bits_compiled_and_interpreted),
        cmocka_unit_test(natives_of_the_host_answer_or_say_why_not),
        cmocka_unit_test(now_and_random_come_from_the_runtime),
        cmocka_unit_test(a_loop_is_called_and_a_throw_comes_back_with_its_row),
        cmocka_unit_test(a_memory_breach_is_a_budget_error_and_the_vm_lives),
        cmocka_unit_test(a_view_kept_past_the_call_is_dead),
        cmocka_unit_test(a_thousand_loads_leave_memory_flat),
        cmocka_unit_test(a_failing_loader_reports_with_carets_and_json),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
