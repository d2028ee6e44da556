/* The body of a reply: what is emitted and refused fits it, however much it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "batch/builder.h"
#include "pipeline/graph/command.h"

enum { TEXT_BYTES = 10, NAME_BYTES = 200, ROWS = 4096, TIMES = 20 };

static struct weir_batch *rows_of_text(struct weir_pool *pool) {
    struct weir_schema *schema = weir_schema_create();
    struct weir_batch_builder builder;
    char text[TEXT_BYTES];
    memset(text, 'x', sizeof(text));
    assert_int_equal(weir_schema_add_text(schema, "text", "string", false, NULL), 0);
    assert_int_equal(weir_batch_builder_init(&builder, pool, schema, ROWS, 1 << 20, NULL), 0);
    assert_int_equal(weir_batch_builder_begin(&builder), 0);
    for (int i = 0; i < ROWS; i++) {
        assert_int_equal(weir_builder_bytes(&builder.columns[0], text, TEXT_BYTES), 0);
        weir_batch_builder_finish_row(&builder);
    }
    struct weir_batch *batch = weir_batch_builder_take(&builder);
    weir_batch_builder_fini(&builder);
    weir_schema_unref(schema);
    return batch;
}

static void a_reply_full_of_rows_and_refusals_is_cut_not_failed(void **state) {
    struct weir_pool *pool = weir_pool_create(16 << 20);
    struct weir_batch *batch = rows_of_text(pool);
    struct weir_command *command = weir_command_create();
    struct weir_error err = {0};
    struct weir_span body;
    char name[NAME_BYTES + 1];
    int32_t sel[ROWS];
    int status;
    (void)state;
    for (int32_t i = 0; i < ROWS; i++) {
        sel[i] = i;
    }
    memset(name, 'n', NAME_BYTES);
    name[NAME_BYTES] = '\0';
    weir_command_begin(command, 7);
    for (int i = 0; i < TIMES; i++) {
        assert_int_equal(weir_command_emitted(command, name, batch, sel, ROWS, &err), 0);
        for (int r = 0; r < ROWS; r++) {
            assert_int_equal(weir_command_rejected(command, "b", "r", NULL, &err), 0);
        }
    }
    assert_int_equal(weir_command_end(command, &status, &body, &err), 0);
    assert_int_equal(status, 422);
    json_t *reply = json_loadb((const char *)body.data, body.size, 0, NULL);
    assert_non_null(reply);
    size_t emitted = json_array_size(json_object_get(json_object_get(reply, "emitted"), name));
    assert_in_range(emitted, ROWS, TIMES * ROWS - 1);
    assert_in_range(json_array_size(json_object_get(reply, "rejected")), ROWS, TIMES * ROWS - 1);
    assert_true(json_is_true(json_object_get(reply, "cut")));
    json_decref(reply);
    weir_command_destroy(command);
    weir_batch_unref(batch);
    weir_pool_destroy(pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reply_full_of_rows_and_refusals_is_cut_not_failed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
