/* Where the text of a JSON value ends, whatever stands in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/json_scan.h"

/* The value is what stands before the '#', which is not there when it is looked for. */
static void ends_at(const char *text) {
    char room[256];
    size_t length = strcspn(text, "#");
    size_t size = strlen(text) - (text[length] == '#');
    memcpy(room, text, length);
    memcpy(room + length, text + strlen(text) - (size - length), size - length);
    const char *end = weir_json_value_end(room, room + size);
    if (end != room + length) {
        fail_msg("%s: ends after %td bytes", text, end - room);
    }
}

static void a_value_ends_at_what_follows_it(void **state) {
    (void)state;
    ends_at("12#, 13]");
    ends_at("null#]");
    ends_at("true#}");
    ends_at("[1, [2, 3], {\"a\": 4}]#, 5");
    ends_at("{\"a\": [1, 2], \"b\": {}}#]");
    ends_at(" {} #, 1");
    ends_at("#, 1");
    ends_at("#");
    ends_at("1.5");
}

static void quotes_and_brackets_in_texts_end_nothing(void **state) {
    (void)state;
    ends_at("\"a, b\"#, 1");
    ends_at("\"]}\"#]");
    ends_at("\"a \\\" b, c\"#, 1");
    ends_at("\"\\\"\"#, 1");
    ends_at("\"\\\\\"#, \"1\"");
    ends_at("\"\\\\\\\"\"#, \"1\"");
    ends_at("{\"a \\\"}\": \"\\\\\"}#, \"b\": 1");
}

static void a_text_that_is_cut_off_ends_with_it(void **state) {
    (void)state;
    ends_at("\"a, b");
    ends_at("\"a\\");
    ends_at("\"a\\\"");
    ends_at("[1, 2");
    ends_at("[1, {");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_ends_at_what_follows_it),
        cmocka_unit_test(quotes_and_brackets_in_texts_end_nothing),
        cmocka_unit_test(a_text_that_is_cut_off_ends_with_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
