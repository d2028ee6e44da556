/* Errors, capped buffers and log lines. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/buffer.h"
#include "core/log.h"

static void a_message_is_built_from_the_outside_in(void **state) {
    (void)state;
    struct weir_error err = {0};
    assert_int_equal(weir_error_system(&err, WEIR_E_IO, ENOSPC, "put %s", "7.json"), WEIR_E_IO);
    assert_string_equal(err.message, "put 7.json: No space left on device");
    assert_int_equal(err.system_errno, ENOSPC);
    assert_int_equal(weir_error_wrap(&err, "commit %s", "gold"), WEIR_E_IO);
    assert_string_equal(err.message, "commit gold: put 7.json: No space left on device");
    assert_int_equal(weir_error_set(&err, WEIR_E_DATA, "row %d", 3), WEIR_E_DATA);
    assert_int_equal(err.system_errno, 0);
    weir_error_clear(&err);
    assert_int_equal(err.code, WEIR_OK);
    assert_string_equal(err.message, "");
}

static void nobody_need_ask_for_the_message(void **state) {
    (void)state;
    assert_int_equal(weir_error_set(NULL, WEIR_E_DATA, "x"), WEIR_E_DATA);
    assert_int_equal(weir_error_system(NULL, WEIR_E_IO, EIO, "x"), WEIR_E_IO);
    assert_int_equal(weir_error_wrap(NULL, "x"), WEIR_E_BUG);
    weir_error_clear(NULL);
}

static void a_cut_message_shows_it_and_stays_utf8(void **state) {
    (void)state;
    char text[WEIR_ERROR_MESSAGE_BYTES + 20];
    for (size_t length = WEIR_ERROR_MESSAGE_BYTES - 6; length < sizeof(text); length++) {
        for (int how = 0; how < 3; how++) {
            struct weir_error err = {0};
            for (size_t i = 0; i < length; i++) {
                text[i] = "\xe2\x82\xac"[i % 3];
            }
            text[length] = '\0';
            if (how == 0) {
                weir_error_set(&err, WEIR_E_DATA, "%s", text);
            } else if (how == 1) {
                weir_error_system(&err, WEIR_E_DATA, EIO, "%s", text);
            } else {
                weir_error_set(&err, WEIR_E_DATA, "inner");
                weir_error_wrap(&err, "%s", text);
            }
            size_t got = strlen(err.message);
            assert_true(got < WEIR_ERROR_MESSAGE_BYTES);
            if (how == 0 && length < WEIR_ERROR_MESSAGE_BYTES) {
                assert_string_equal(err.message, text);
            } else {
                assert_string_equal(err.message + got - 3, "...");
            }
            if (got >= 4 && how == 0 && length >= WEIR_ERROR_MESSAGE_BYTES) {
                assert_int_equal((got - 3) % 3, 0); /* whole characters before the dots */
            }
        }
    }
}

static void every_code_has_a_name_a_text_and_a_class(void **state) {
    (void)state;
    for (int code = WEIR_E_FIRST_ + 1; code <= WEIR_E_UNAVAILABLE; code++) {
        assert_memory_equal(weir_error_name(code), "WEIR_E_", 7);
        assert_true(strlen(weir_error_text(code)) > 3);
        assert_int_not_equal(weir_error_class(code), WEIR_CLASS_NONE);
    }
    assert_string_equal(weir_error_name(WEIR_E_LIMIT), "WEIR_E_LIMIT");
    assert_int_equal(weir_error_class(WEIR_E_CONFLICT), WEIR_CLASS_RETRY);
    assert_string_equal(weir_error_name(WEIR_OK), "WEIR_OK");
    static const int strangers[] = {-1, 1, WEIR_E_FIRST_, WEIR_E_UNAVAILABLE + 1, 1 << 30};
    for (size_t i = 0; i < sizeof(strangers) / sizeof(strangers[0]); i++) {
        assert_string_equal(weir_error_name(strangers[i]), "unknown");
        assert_string_equal(weir_error_text(strangers[i]), "unknown error code");
        assert_int_equal(weir_error_class(strangers[i]), WEIR_CLASS_NONE);
    }
}

static void a_buffer_grows_to_its_cap_and_no_further(void **state) {
    (void)state;
    struct weir_buffer buffer;
    weir_buffer_init(&buffer, 1000);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(weir_buffer_append(&buffer, "x", 1), WEIR_OK);
    }
    assert_int_equal(weir_buffer_append(&buffer, "x", 1), WEIR_E_LIMIT);
    assert_int_equal(weir_buffer_append(&buffer, NULL, 0), WEIR_OK);
    assert_int_equal(weir_buffer_reserve(&buffer, SIZE_MAX), WEIR_E_LIMIT);
    assert_int_equal(weir_buffer_printf(&buffer, "%d", 1), WEIR_E_LIMIT);
    assert_null(weir_buffer_text(&buffer)); /* no room for the NUL */
    assert_int_equal(buffer.size, 1000);
    assert_true(buffer.capacity <= 1000);
    weir_buffer_clear(&buffer);
    assert_int_equal(weir_buffer_printf(&buffer, "%s-%d", "a", 7), WEIR_OK);
    assert_int_equal(buffer.size, 3);
    assert_string_equal(weir_buffer_text(&buffer), "a-7");
    weir_buffer_fini(&buffer);
    weir_buffer_fini(&buffer);
}

/* What one call writes to stderr. */
static void logged(enum weir_log_level level, const char *message, char *out, size_t size) {
    char path[] = "/tmp/weir-test-log-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    unlink(path);
    int saved = dup(STDERR_FILENO);
    dup2(file, STDERR_FILENO);
    weir_log(level, "core", "%s", message);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    ssize_t got = pread(file, out, size - 1, 0);
    close(file);
    assert_true(got >= 0);
    out[got] = '\0';
}

static void lines_name_level_and_room(void **state) {
    (void)state;
    char out[16384];
    logged(WEIR_LOG_WARN, "slow disk ms=40", out, sizeof(out));
    assert_string_equal(out, "weir: warn: core: slow disk ms=40\n");
    logged(WEIR_LOG_DEBUG, "x", out, sizeof(out));
    assert_string_equal(out, "");
    weir_log_set_level(WEIR_LOG_DEBUG);
    logged(WEIR_LOG_DEBUG, "x", out, sizeof(out));
    assert_string_equal(out, "weir: debug: core: x\n");
    weir_log_set_level(WEIR_LOG_INFO);
}

static void json_lines_are_json_whatever_the_message(void **state) {
    (void)state;
    static const char *const messages[][2] = {
        {"a \"b\" \\ c", "a \\\"b\\\" \\\\ c"},
        {"line\nline\ttab\x01\x7f", "line\\u000aline\\u0009tab\\u0001\\u007f"},
        {"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x8c\x8a", "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x8c\x8a"},
        {"\xff\xc0\xaf", "\\ufffd\\ufffd\\ufffd"},            /* never UTF-8, overlong */
        {"\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd"},            /* a surrogate */
        {"\xf4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd"}, /* past U+10FFFF */
        {"cut \xe2\x82", "cut \\ufffd\\ufffd"},               /* ends early */
        {"\xe2\x82"
         "A",
         "\\ufffd\\ufffdA"},
    };
    weir_log_set_json(true);
    for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
        char out[16384];
        char want[512];
        logged(WEIR_LOG_INFO, messages[i][0], out, sizeof(out));
        snprintf(want, sizeof(want), "{\"level\":\"info\",\"room\":\"core\",\"message\":\"%s\"}\n",
                 messages[i][1]);
        assert_string_equal(out, want);
    }
    char longest[4000]; /* every byte becomes six */
    memset(longest, '\x02', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    char out[16384];
    logged(WEIR_LOG_INFO, longest, out, sizeof(out));
    assert_string_equal(out + strlen(out) - 9, "\\u0002\"}\n");
    weir_log_set_json(false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_is_built_from_the_outside_in),
        cmocka_unit_test(nobody_need_ask_for_the_message),
        cmocka_unit_test(a_cut_message_shows_it_and_stays_utf8),
        cmocka_unit_test(every_code_has_a_name_a_text_and_a_class),
        cmocka_unit_test(a_buffer_grows_to_its_cap_and_no_further),
        cmocka_unit_test(lines_name_level_and_room),
        cmocka_unit_test(json_lines_are_json_whatever_the_message),
    };
    return cmocka_run_group_tests_name("errors, buffers, logs", tests, NULL, NULL);
}
