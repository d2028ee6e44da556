#pragma once
/* What the tests of joins share: rows of id and key on both sides, of which key and id are kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "batch/builder.h"

static struct weir_pool *pool;
static struct weir_error err;
static struct weir_schema *schema; /* id int64, key string, then what main adds */

static const int32_t join_on[] = {1};
static const int32_t join_kept[] = {1, 0};

/* For main: id and key. */
static inline int join_begin_schema(void) {
    pool = weir_pool_create((size_t)256 << 20);
    schema = weir_schema_create();
    int rc = weir_schema_add_text(schema, "id", "int64", true, &err);
    return rc == WEIR_OK ? weir_schema_add_text(schema, "key", "string", true, &err) : rc;
}

static inline void join_begin(struct weir_batch_builder *builder, struct weir_schema *of,
                              int rows) {
    assert_int_equal(weir_batch_builder_init(builder, pool, of, rows, 1 << 20, &err), 0);
    assert_int_equal(weir_batch_builder_begin(builder), 0);
}

static inline struct weir_batch *join_end(struct weir_batch_builder *builder) {
    struct weir_batch *batch = weir_batch_builder_take(builder);
    weir_batch_builder_fini(builder);
    return batch;
}

/* Keys below 0 are null; some are too long to lie in a slot. */
static inline void join_put(struct weir_batch_builder *builder, int id, int number) {
    char key[40];
    int length =
        snprintf(key, sizeof key, "%s%d", number % 3 ? "k" : "a key too long for a slot ", number);
    int rc = weir_builder_int(&builder->columns[0], id);
    rc |= number < 0 ? weir_builder_null(&builder->columns[1])
                     : weir_builder_bytes(&builder->columns[1], key, (size_t)length);
    assert_int_equal(rc, 0);
}

/* Decoding what is kept: into the columns join_begin_kept gives; the id it was made with. */
static inline struct weir_column_builder *join_begin_kept(struct weir_batch_builder *builder) {
    static struct weir_schema *kept;
    if (kept == NULL) {
        kept = weir_schema_create();
        assert_int_equal(weir_schema_add_text(kept, "key", "string", true, &err), 0);
        assert_int_equal(weir_schema_add_text(kept, "id", "int64", true, &err), 0);
    }
    join_begin(builder, kept, 1);
    return builder->columns;
}

static inline int join_end_kept(struct weir_batch_builder *builder) {
    weir_batch_builder_finish_row(builder);
    struct weir_batch *batch = join_end(builder);
    int id = (int)((const int64_t *)batch->columns[1].values)[0];
    weir_batch_unref(batch);
    return id;
}
