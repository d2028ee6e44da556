/* Packed statistics: whatever the text, packing and unpacking give it back, and texts of one table
 * shrink. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lake/delta/packed.h"

static uint64_t seed = 42;

static uint32_t draw(uint32_t below) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % below;
}

/* Statistics of a file, some of whose columns have no bounds. */
static void make(char *out, size_t size) {
    size_t at = (size_t)snprintf(out, size, "{\"numRecords\":%u", draw(1000000));
    static const char *const kinds[] = {"minValues", "maxValues", "nullCount"};
    for (int kind = 0; kind < 3; kind++) {
        at += (size_t)snprintf(out + at, size - at, ",\"%s\":{", kinds[kind]);
        const char *comma = "";
        for (int column = 0; column < 8; column++) {
            if (draw(60) == 0) {
                continue;
            }
            at += column % 2 == 0 ? (size_t)snprintf(out + at, size - at, "%s\"column_%d\":%u",
                                                     comma, column, draw(1u << (3 * column)))
                                  : (size_t)snprintf(out + at, size - at,
                                                     "%s\"column_%d\":\"a,}\\\"\xC3\xA4%x text\"",
                                                     comma, column, draw(1u << 30));
            comma = ",";
        }
        at += (size_t)snprintf(out + at, size - at, "}");
    }
    snprintf(out + at, size - at, "}");
}

static uint8_t round_trip(struct delta_templates *templates, const char *text, size_t *size) {
    struct weir_buffer packed;
    struct weir_buffer back;
    weir_buffer_init(&packed, 1 << 20);
    weir_buffer_init(&back, 1 << 20);
    uint8_t number = delta_stats_pack(templates, text, &packed);
    const char *held = number != 0 ? (const char *)packed.data : text;
    assert_int_equal(delta_stats_unpack(templates, number, held, &back), WEIR_OK);
    assert_int_equal(back.size, strlen(text));
    assert_memory_equal(back.data, text, back.size);
    *size += strlen(held);
    weir_buffer_fini(&packed);
    weir_buffer_fini(&back);
    return number;
}

static void test_statistics_come_back_and_shrink(void **state) {
    (void)state;
    struct delta_templates templates = {{NULL}, 0};
    size_t held = 0;
    size_t plain = 0;
    for (int i = 0; i < 2000; i++) {
        char text[4096];
        make(text, sizeof(text));
        plain += strlen(text);
        round_trip(&templates, text, &held);
    }
    assert_true(held * 4 < plain * 3);
    delta_templates_fini(&templates);
}

static void test_any_text_comes_back(void **state) {
    (void)state;
    static const char alphabet[] = "{},:\"a1\x01\x02\x1f\x20\x7f\xff";
    struct delta_templates templates = {{NULL}, 0};
    size_t held = 0;
    char last[1500] = "";
    for (int i = 0; i < 5000; i++) {
        char text[1500];
        size_t size = draw(sizeof(text) - 1);
        for (size_t at = 0; at < size; at++) {
            text[at] = alphabet[draw(i % 2 == 0 ? 6 : sizeof(alphabet) - 1)];
        }
        text[size] = '\0';
        if (i % 3 != 0) { /* like the one before, but for a piece in it */
            size_t from = draw((uint32_t)strlen(last) + 1);
            memcpy(text, last, from);
            text[from + draw((uint32_t)(sizeof(text) - from - 1)) % 40] = '\0';
            strncat(text, last + from, sizeof(text) - strlen(text) - 1);
        }
        round_trip(&templates, text, &held);
        memcpy(last, text, sizeof(last));
    }
    delta_templates_fini(&templates);
}

static void test_a_long_value_is_passed_over(void **state) {
    (void)state;
    struct delta_templates templates = {{NULL}, 0};
    char first[4000];
    char second[4000];
    char filler[1500];
    size_t held = 0;
    memset(filler, 'x', sizeof(filler));
    filler[sizeof(filler) - 1] = '\0';
    snprintf(first, sizeof(first), "{\"a\":\"1%s\",\"%s\":1}", filler, filler);
    snprintf(second, sizeof(second), "{\"a\":\"2\",\"%s\":1}", filler);
    assert_int_equal(round_trip(&templates, first, &held), 0);
    assert_int_equal(round_trip(&templates, second, &held), 1);
    delta_templates_fini(&templates);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_statistics_come_back_and_shrink),
        cmocka_unit_test(test_any_text_comes_back),
        cmocka_unit_test(test_a_long_value_is_passed_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
