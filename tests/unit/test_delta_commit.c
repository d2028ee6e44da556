/* Commits: exactly once, over races, power losses and long logs; and what the log's texts say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "batch/builder.h"
#include "core/fault.h"
#include "lake/delta/alter.h"
#include "lake/delta/alter_schema.h"
#include "lake/delta/table.h"
#include "lake/delta/writer.h"

static struct weir_schema *make_schema(void) {
    struct weir_schema *schema = weir_schema_create();
    assert_int_equal(weir_schema_add_text(schema, "id", "int64", false, NULL), WEIR_OK);
    assert_int_equal(weir_schema_add_text(schema, "name", "string", true, NULL), WEIR_OK);
    assert_int_equal(weir_schema_add_text(schema, "at", "timestamp", true, NULL), WEIR_OK);
    return schema;
}

static struct weir_store *make_store(void) {
    struct weir_store *store;
    assert_int_equal(weir_store_unsynced_create(&store, NULL), WEIR_OK);
    return store;
}

static struct weir_delta_table *make_table(struct weir_store *store, struct weir_schema *schema) {
    const struct weir_delta_create_options options = {.schema = schema};
    struct weir_delta_table *table;
    assert_int_equal(weir_delta_table_create(store, "t", &options, &table, NULL), WEIR_OK);
    return table;
}

static struct weir_delta_add *make_add(const char *path) {
    const struct weir_delta_add add = {
        .path = path, .stats = "{\"numRecords\":3}", .size_bytes = 10, .data_change = true};
    return weir_delta_add_dup(&add);
}

static int append(struct weir_delta_table *table, const char *path, int64_t version,
                  struct weir_delta_commit_result *result) {
    const struct weir_delta_commit_options options = {.txn = {"app", version, 0}};
    struct weir_delta_add *add = make_add(path);
    int rc = weir_delta_append(table, &add, 1, &options, result, NULL);
    free(add);
    return rc;
}

static void a_txn_seen_before_is_skipped(void **state) {
    (void)state;
    struct weir_store *store = make_store();
    struct weir_schema *schema = make_schema();
    struct weir_delta_table *table = make_table(store, schema);
    struct weir_delta_commit_result result;
    assert_int_equal(append(table, "a", 7, &result), WEIR_OK);
    assert_false(result.skipped);
    assert_int_equal(result.version, 1);
    assert_int_equal(append(table, "b", 7, &result), WEIR_OK);
    assert_true(result.skipped);
    assert_int_equal(append(table, "c", 6, &result), WEIR_OK);
    assert_true(result.skipped);
    assert_int_equal(weir_delta_snapshot_file_count(weir_delta_table_snapshot(table)), 1);
    weir_delta_table_close(table);
    weir_schema_unref(schema);
    weir_store_destroy(store);
}

static void the_loser_of_a_race_rebases_and_sees_the_winners_txn(void **state) {
    (void)state;
    struct weir_store *store = make_store();
    struct weir_schema *schema = make_schema();
    struct weir_delta_table *one = make_table(store, schema);
    struct weir_delta_table *two;
    struct weir_delta_commit_result result;
    assert_int_equal(weir_delta_table_open(store, "t", &two, NULL), WEIR_OK);
    assert_int_equal(append(one, "a", 1, &result), WEIR_OK);
    assert_int_equal(append(two, "b", 2, &result), WEIR_OK);
    assert_int_equal(result.version, 2);
    assert_int_equal(result.attempts, 2);
    assert_int_equal(append(one, "c", 2, &result), WEIR_OK);
    assert_true(result.skipped);
    assert_int_equal(weir_delta_snapshot_file_count(weir_delta_table_snapshot(one)), 2);
    weir_delta_table_close(one);
    weir_delta_table_close(two);
    weir_schema_unref(schema);
    weir_store_destroy(store);
}

static void a_table_made_anew_is_refused(void **state) {
    (void)state;
    struct weir_store *store = make_store();
    struct weir_schema *schema = make_schema();
    struct weir_delta_table *table = make_table(store, schema);
    struct weir_delta_commit_result result;
    struct weir_error err;
    assert_int_equal(weir_store_remove(store, "t/_delta_log/00000000000000000000.json", NULL),
                     WEIR_OK);
    weir_delta_table_close(make_table(store, schema));
    struct weir_delta_table *other;
    assert_int_equal(weir_delta_table_open(store, "t", &other, NULL), WEIR_OK);
    /* the other table's metadata comes by as a commit this one must read */
    const struct weir_field added = {
        .name = (char[]){"x"}, .type = WEIR_TYPE_INT64, .nullable = true};
    assert_int_equal(weir_delta_add_columns(other, &added, 1, NULL, NULL, NULL), WEIR_OK);
    const struct weir_delta_commit_options options = {.txn = {"app", 1, 0}};
    assert_int_equal(weir_delta_append(table, NULL, 0, &options, &result, &err), WEIR_E_SCHEMA);
    assert_non_null(strstr(err.message, "dropped and made anew"));
    weir_delta_table_close(other);
    weir_delta_table_close(table);
    weir_schema_unref(schema);
    weir_store_destroy(store);
}

static void columns_are_added_once(void **state) {
    (void)state;
    struct weir_store *store = make_store();
    struct weir_schema *schema = make_schema();
    struct weir_delta_table *table = make_table(store, schema);
    struct weir_delta_commit_result result;
    const struct weir_schema *now;
    const struct weir_field fields[] = {
        {.name = (char[]){"id"}, .type = WEIR_TYPE_INT64},
        {.name = (char[]){"local"}, .type = WEIR_TYPE_TIMESTAMP_NTZ, .nullable = true}};
    assert_int_equal(weir_delta_add_columns(table, fields, 2, NULL, &result, NULL), WEIR_OK);
    assert_int_equal(result.version, 1);
    assert_int_equal(weir_delta_add_columns(table, fields, 2, NULL, &result, NULL), WEIR_OK);
    assert_true(result.skipped);
    assert_int_equal(result.version, 1);
    struct weir_delta_snapshot *snapshot = weir_delta_table_snapshot(table);
    assert_int_equal(weir_delta_snapshot_schema(snapshot, &now, NULL, NULL), WEIR_OK);
    assert_int_equal(weir_schema_find(now, "local"), 3);
    assert_int_equal(weir_delta_snapshot_protocol(snapshot)->reader_version, 3);
    const struct weir_field wrong = {.name = (char[]){"ID"}, .type = WEIR_TYPE_STRING};
    assert_int_equal(weir_delta_add_columns(table, &wrong, 1, NULL, &result, NULL), WEIR_E_SCHEMA);
    weir_delta_table_close(table);
    weir_schema_unref(schema);
    weir_store_destroy(store);
}

/* A table that another engine made: its protocol's features and configuration. */
static struct weir_delta_table *open_made(struct weir_store *store, const char *features,
                                          const char *configuration) {
    char log[2048];
    struct weir_delta_table *table;
    int length = snprintf(
        log, sizeof(log),
        "{\"protocol\":{\"minReaderVersion\":3,\"minWriterVersion\":7,\"readerFeatures\":"
        "[\"typeWidening\"],\"writerFeatures\":[\"typeWidening\",%s]}}\n"
        "{\"metaData\":{\"id\":\"x\",\"format\":{\"provider\":\"parquet\"},\"schemaString\":"
        "\"{\\\"type\\\":\\\"struct\\\",\\\"fields\\\":[{\\\"name\\\":\\\"id\\\","
        "\\\"type\\\":\\\"integer\\\",\\\"nullable\\\":true,\\\"metadata\\\":{}}]}\","
        "\"partitionColumns\":[],\"configuration\":{%s}}}\n",
        features, configuration);
    assert_int_equal(
        weir_store_put(store, "t/_delta_log/00000000000000000000.json", log, (size_t)length, NULL),
        WEIR_OK);
    assert_int_equal(weir_delta_table_open(store, "t", &table, NULL), WEIR_OK);
    return table;
}

static void files_that_come_with_columns_have_row_ids_and_counts(void **state) {
    (void)state;
    struct weir_store *store = make_store();
    struct weir_delta_table *table = open_made(store, "\"rowTracking\",\"domainMetadata\"",
                                               "\"delta.enableRowTracking\":\"true\"");
    const struct weir_field field = {
        .name = (char[]){"more"}, .type = WEIR_TYPE_STRING, .nullable = true};
    struct weir_delta_commit_result result;
    struct weir_delta_add *adds[2] = {make_add("a"), make_add("b")};
    assert_int_equal(weir_delta_append_columns(table, &field, 1, adds, 2, NULL, &result, NULL),
                     WEIR_OK);
    struct weir_buffer log;
    weir_buffer_init(&log, 1 << 20);
    assert_int_equal(
        weir_store_get(store, "t/_delta_log/00000000000000000001.json", 0, -1, &log, NULL),
        WEIR_OK);
    const char *text = weir_buffer_text(&log);
    assert_non_null(strstr(text, "\"baseRowId\":0,"));
    assert_non_null(strstr(text, "\"baseRowId\":3,"));
    assert_non_null(strstr(text, "\\\"rowIdHighWaterMark\\\":5}"));
    assert_non_null(strstr(text, "\"numOutputRows\":\"6\""));
    assert_int_equal(append(table, "c", 1, &result), WEIR_OK); /* goes on behind them */
    weir_buffer_clear(&log);
    assert_int_equal(
        weir_store_get(store, "t/_delta_log/00000000000000000002.json", 0, -1, &log, NULL),
        WEIR_OK);
    assert_non_null(strstr(weir_buffer_text(&log), "\"baseRowId\":6,"));
    weir_buffer_fini(&log);
    free(adds[0]);
    free(adds[1]);
    weir_delta_table_close(table);
    weir_store_destroy(store);
}

static void a_wider_column_has_the_very_name(void **state) {
    (void)state;
    struct weir_store *store = make_store();
    struct weir_delta_table *table =
        open_made(store, "\"appendOnly\"", "\"delta.enableTypeWidening\":\"true\"");
    struct weir_field field = {.name = (char[]){"ID"}, .type = WEIR_TYPE_INT64, .nullable = true};
    struct weir_delta_commit_result result;
    struct weir_error err = {0};
    assert_int_equal(weir_delta_add_columns(table, &field, 1, NULL, &result, &err), WEIR_E_SCHEMA);
    assert_non_null(strstr(err.message, "it has id of type int32"));
    field.name = (char[]){"id"};
    assert_int_equal(weir_delta_add_columns(table, &field, 1, NULL, &result, &err), WEIR_OK);
    assert_int_equal(result.version, 1);
    weir_delta_table_close(table);
    weir_store_destroy(store);
}

static void what_names_a_column_goes_with_it(void **state) {
    (void)state;
    struct weir_store *store = make_store();
    static const char clustering[] =
        "{\"domainMetadata\":{\"domain\":\"delta.clustering\",\"configuration\":"
        "\"{\\\"clusteringColumns\\\":[[\\\"id\\\"]]}\",\"removed\":false}}\n";
    weir_delta_table_close(open_made(
        store, "\"clustering\",\"domainMetadata\"",
        "\"delta.dataSkippingStatsColumns\":\" `id`, b.id,more , `ID`.c\",\"other\":\"id\""));
    assert_int_equal(weir_store_put(store, "t/_delta_log/00000000000000000001.json", clustering,
                                    sizeof(clustering) - 1, NULL),
                     WEIR_OK);
    struct weir_delta_table *table;
    struct weir_error err = {0};
    assert_int_equal(weir_delta_table_open(store, "t", &table, NULL), WEIR_OK);
    const struct weir_field fields[] = {
        {.name = (char[]){"more"}, .type = WEIR_TYPE_STRING, .nullable = true},
        {.name = (char[]){"last"}, .type = WEIR_TYPE_STRING, .nullable = true}};
    assert_int_equal(weir_delta_add_columns(table, fields, 2, NULL, NULL, &err), WEIR_OK);
    const struct weir_delta_rename rename = {"id", "nr"};
    struct weir_delta_alter_options options = {.renames = &rename, .rename_count = 1};
    assert_int_equal(weir_delta_alter(table, &options, &err), WEIR_OK);
    const struct weir_delta_metadata *metadata =
        weir_delta_snapshot_metadata(weir_delta_table_snapshot(table));
    assert_string_equal(weir_delta_metadata_property(metadata, "delta.dataSkippingStatsColumns"),
                        "nr,b.id,more ,nr.c");
    assert_string_equal(weir_delta_metadata_property(metadata, "other"), "id");
    const char *const drops[] = {"more", "nr"};
    options = (struct weir_delta_alter_options){.drops = drops, .drop_count = 1};
    assert_int_equal(weir_delta_alter(table, &options, &err), WEIR_OK);
    metadata = weir_delta_snapshot_metadata(weir_delta_table_snapshot(table));
    assert_string_equal(weir_delta_metadata_property(metadata, "delta.dataSkippingStatsColumns"),
                        "nr,b.id,nr.c");
    options.drops = drops + 1; /* its files call it id, and so does the clustering */
    assert_int_equal(weir_delta_alter(table, &options, &err), WEIR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "clustered by column nr"));
    weir_delta_table_close(table);
    weir_store_destroy(store);
}

static void what_reader_version_two_stands_for_is_listed(void **state) {
    char *features[] = {(char[]){"columnMapping"}, (char[]){"appendOnly"}};
    static const char *const more[] = {"deletionVectors"};
    const struct weir_delta_protocol now[] = {
        {.reader_version = 2,
         .writer_version = 7,
         .writer_features = features,
         .writer_feature_count = 2},
        {.reader_version = 2, .writer_version = 5},
    };
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct weir_buffer out;
        weir_buffer_init(&out, 1 << 16);
        assert_int_equal(delta_protocol_add(&now[i], more, 1, &out), WEIR_OK);
        assert_non_null(strstr(weir_buffer_text(&out),
                               "\"readerFeatures\":[\"columnMapping\",\"deletionVectors\"]"));
        weir_buffer_fini(&out);
    }
    const struct weir_delta_protocol plain = {.reader_version = 1, .writer_version = 6};
    struct weir_buffer out;
    weir_buffer_init(&out, 1 << 16);
    assert_int_equal(delta_protocol_add(&plain, more, 1, &out), WEIR_OK);
    assert_non_null(strstr(weir_buffer_text(&out), "\"readerFeatures\":[\"deletionVectors\"]"));
    weir_buffer_fini(&out);
}

static bool give_up(void *context) {
    return ++*(int *)context >= 1;
}

static void stopping_ends_the_retries(void **state) {
    (void)state;
    struct weir_store *store = make_store();
    struct weir_schema *schema = make_schema();
    struct weir_delta_table *one = make_table(store, schema);
    struct weir_delta_table *two;
    struct weir_delta_commit_result result;
    int asked = 0;
    assert_int_equal(weir_delta_table_open(store, "t", &two, NULL), WEIR_OK);
    assert_int_equal(append(one, "a", 1, &result), WEIR_OK);
    const struct weir_delta_commit_options options = {
        .txn = {"other", 1, 0}, .stop = give_up, .stop_context = &asked};
    assert_int_equal(weir_delta_append(two, NULL, 0, &options, &result, NULL), WEIR_E_CLOSED);
    assert_int_equal(asked, 1);
    weir_delta_table_close(one);
    weir_delta_table_close(two);
    weir_schema_unref(schema);
    weir_store_destroy(store);
}

/* Writes rows [first, first + 10) through the data file writer and commits them with checkpoints;
 * whatever fails is left as it is. */
static int write_epoch(struct weir_store *store, struct weir_schema *schema, struct weir_pool *pool,
                       int64_t epoch) {
    const struct weir_delta_partition by[] = {{"name", WEIR_DELTA_IDENTITY}};
    const struct weir_delta_create_options options = {
        .schema = schema, .partitions = by, .partition_count = 1};
    struct weir_delta_table *table = NULL;
    struct weir_delta_writer *writer = NULL;
    struct weir_delta_adds adds = {NULL, 0, 0};
    struct weir_batch_builder builder;
    assert_int_equal(weir_batch_builder_init(&builder, pool, schema, 16, 4096, NULL), WEIR_OK);
    assert_int_equal(weir_batch_builder_begin(&builder), WEIR_OK);
    for (int64_t i = 0; i < 10; i++) {
        assert_int_equal(weir_builder_int(&builder.columns[0], epoch * 10 + i), WEIR_OK);
        assert_int_equal(
            weir_builder_bytes(&builder.columns[1], i % 2 ? "odd" : "even", 3 + (i % 2 == 0)),
            WEIR_OK);
        assert_int_equal(weir_builder_null(&builder.columns[2]), WEIR_OK);
        weir_batch_builder_finish_row(&builder);
    }
    struct weir_batch *batch = weir_batch_builder_take(&builder);
    int rc = weir_delta_table_open_or_create(store, "t", &options, false, &table, NULL);
    if (rc == WEIR_OK) {
        rc = weir_delta_writer_create(table, schema, by, 1, NULL, &writer, NULL);
    }
    if (rc == WEIR_OK) {
        rc = weir_delta_writer_append(writer, batch, NULL, batch->rows, NULL);
    }
    if (rc == WEIR_OK) {
        rc = weir_delta_writer_seal(writer, &adds, NULL);
    }
    if (rc == WEIR_OK) {
        const struct weir_delta_commit_options how = {.txn = {"app", epoch, 0}};
        rc = weir_delta_append(table, adds.items, adds.count, &how, NULL, NULL);
    }
    if (rc == WEIR_OK && weir_delta_checkpoint_due(table)) {
        rc = weir_delta_checkpoint(table, NULL);
    }
    weir_delta_adds_fini(&adds);
    weir_delta_writer_destroy(writer);
    weir_delta_table_close(table);
    weir_batch_unref(batch);
    weir_batch_builder_fini(&builder);
    return rc;
}

struct tally {
    int64_t rows;
    int64_t sum;
};

static int tally_batch(void *context, struct weir_batch *batch, struct weir_error *err) {
    struct tally *tally = context;
    (void)err;
    for (int32_t i = 0; i < batch->rows; i++) {
        tally->rows++;
        tally->sum += ((const int64_t *)batch->columns[0].values)[i];
    }
    return WEIR_OK;
}

/* The machine stops after a random number of changes and loses what was not synced, again and
 * again; what a caller was told is there must be there, once. */
static void no_power_loss_loses_or_doubles_a_commit(void **state) {
    (void)state;
    struct weir_schema *schema = make_schema();
    struct weir_pool *pool = weir_pool_create(256u << 20);
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct weir_store *store = make_store();
        int64_t epoch = 0;
        uint64_t losses = 0;
        while (epoch < 14) {
            weir_store_unsynced_stop_after(store, 2 + (seed * 7 + losses * 13) % 300);
            int rc = WEIR_OK;
            while (epoch < 14 && rc == WEIR_OK) {
                rc = write_epoch(store, schema, pool, epoch);
                epoch += rc == WEIR_OK;
            }
            weir_store_unsynced_power_loss(store, seed * 1000 + losses++);
        }
        struct weir_delta_snapshot *snapshot;
        struct tally tally = {0, 0};
        struct weir_error err;
        assert_int_equal(weir_delta_snapshot_open(store, "t", NULL, &snapshot, &err), WEIR_OK);
        assert_int_equal(weir_delta_snapshot_txn(snapshot, "app"), 13);
        assert_int_equal(weir_delta_scan(snapshot, pool, tally_batch, &tally, &err), WEIR_OK);
        assert_int_equal(tally.rows, 140);
        assert_int_equal(tally.sum, 139 * 140 / 2);
        weir_delta_snapshot_destroy(snapshot);
        weir_store_destroy(store);
    }
    weir_pool_destroy(pool);
    weir_schema_unref(schema);
}

static void an_add_survives_its_json(void **state) {
    (void)state;
    const struct weir_delta_pair values[] = {{"p", "a\"b\\\n\xC3\xA4"}, {"q", NULL}};
    const struct weir_delta_add add = {.path = "p=a%2520/part.parquet",
                                       .stats = "{\"numRecords\":9223372036854775807}",
                                       .partition_values = values,
                                       .partition_count = 2,
                                       .size_bytes = INT64_MAX,
                                       .modified_ms = 5,
                                       .data_change = true,
                                       .dv = {'u', "ab^-aqEH.-t@S}K{vb[*k^", 4, 36, 2}};
    struct weir_buffer text;
    struct weir_delta_add *back;
    weir_buffer_init(&text, 4096);
    assert_int_equal(weir_delta_add_format(&add, &text), WEIR_OK);
    assert_int_equal(weir_delta_add_parse((const char *)text.data, text.size, &back, NULL),
                     WEIR_OK);
    assert_string_equal(back->path, add.path);
    assert_string_equal(back->stats, add.stats);
    assert_string_equal(back->partition_values[0].value, values[0].value);
    assert_null(back->partition_values[1].value);
    assert_int_equal(back->size_bytes, INT64_MAX);
    assert_string_equal(back->dv.path_or_inline, add.dv.path_or_inline);
    free(back);
    weir_buffer_fini(&text);
}

static void numbers_of_rows_no_table_has_are_not_known(void **state) {
    (void)state;
    static const char head[] =
        "{\"protocol\":{\"minReaderVersion\":1,\"minWriterVersion\":2}}\n"
        "{\"metaData\":{\"id\":\"x\",\"format\":{\"provider\":\"parquet\"},\"schemaString\":"
        "\"{\\\"type\\\":\\\"struct\\\",\\\"fields\\\":[]}\",\"partitionColumns\":[]}}\n";
    static const char *const counts[][2] = {
        {"48", "9223372036854775807"}, {"48", "-9"}, {"99999999999999999999", "48"}};
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct weir_store *store = make_store();
        struct weir_delta_snapshot *snapshot;
        struct weir_delta_summary summary;
        char log[2048];
        int length = snprintf(log, sizeof(log), "%s", head);
        for (int file = 0; file < 2; file++) {
            length += snprintf(log + length, sizeof(log) - (size_t)length,
                               "{\"add\":{\"path\":\"%d\",\"partitionValues\":{},\"size\":1,"
                               "\"modificationTime\":1,\"dataChange\":true,\"stats\":"
                               "\"{\\\"numRecords\\\":%s}\"}}\n",
                               file, counts[i][file]);
        }
        assert_int_equal(weir_store_put(store, "t/_delta_log/00000000000000000000.json", log,
                                        (size_t)length, NULL),
                         WEIR_OK);
        assert_int_equal(weir_delta_snapshot_open(store, "t", NULL, &snapshot, NULL), WEIR_OK);
        assert_int_equal(weir_delta_summarize(snapshot, &summary, NULL), WEIR_OK);
        assert_int_equal(summary.files, 2);
        assert_int_equal(summary.rows, -1);
        weir_delta_snapshot_destroy(snapshot);
        weir_store_destroy(store);
    }
}

static void unknown_features_are_refused_by_name(void **state) {
    (void)state;
    static const char log[] =
        "{\"protocol\":{\"minReaderVersion\":3,\"minWriterVersion\":7,\"readerFeatures\":"
        "[\"teleport\"],\"writerFeatures\":[\"teleport\"]}}\n"
        "{\"metaData\":{\"id\":\"x\",\"format\":{\"provider\":\"parquet\"},\"schemaString\":"
        "\"{\\\"type\\\":\\\"struct\\\",\\\"fields\\\":[]}\",\"partitionColumns\":[]}}\n";
    struct weir_store *store = make_store();
    struct weir_delta_snapshot *snapshot;
    struct weir_error err;
    assert_int_equal(
        weir_store_put(store, "t/_delta_log/00000000000000000000.json", log, sizeof(log) - 1, NULL),
        WEIR_OK);
    assert_int_equal(weir_delta_snapshot_open(store, "t", NULL, &snapshot, &err),
                     WEIR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "teleport"));
    weir_store_destroy(store);
}

static void an_existing_table_of_another_schema_is_refused_by_column(void **state) {
    (void)state;
    struct weir_store *store = make_store();
    struct weir_schema *schema = make_schema();
    weir_delta_table_close(make_table(store, schema));
    struct weir_schema *other = weir_schema_create();
    assert_int_equal(weir_schema_add_text(other, "id", "int64", false, NULL), WEIR_OK);
    assert_int_equal(weir_schema_add_text(other, "name", "int64", true, NULL), WEIR_OK);
    const struct weir_delta_create_options options = {.schema = other};
    struct weir_delta_table *table;
    struct weir_error err;
    assert_int_equal(weir_delta_table_open_or_create(store, "t", &options, false, &table, &err),
                     WEIR_E_SCHEMA);
    assert_non_null(strstr(err.message, "column name"));
    weir_schema_unref(other);
    weir_schema_unref(schema);
    weir_store_destroy(store);
}

static void put_entry(struct weir_store *store, int version, int64_t timestamp_ms,
                      const char *more) {
    char path[64];
    char text[1024];
    snprintf(path, sizeof(path), "t/_delta_log/%020d.json", version);
    int size = snprintf(text, sizeof(text),
                        "{\"commitInfo\":{\"inCommitTimestamp\":%lld,\"timestamp\":7}}\n%s",
                        (long long)timestamp_ms, more);
    assert_int_equal(weir_store_put(store, path, text, (size_t)size, NULL), WEIR_OK);
}

static int64_t version_at(struct weir_store *store, int64_t timestamp_ms) {
    const struct weir_delta_at at = {.kind = WEIR_DELTA_TIMESTAMP, .timestamp_ms = timestamp_ms};
    struct weir_delta_snapshot *snapshot;
    int rc = weir_delta_snapshot_open(store, "t", &at, &snapshot, NULL);
    if (rc != WEIR_OK) {
        assert_int_equal(rc, WEIR_E_NOTFOUND);
        return -1;
    }
    int64_t version = weir_delta_snapshot_version(snapshot);
    weir_delta_snapshot_destroy(snapshot);
    return version;
}

/* The last commit lies in the future, as another machine's clock may have put it. */
static void in_commit_timestamps_ascend_and_time_travel_goes_by_them(void **state) {
    (void)state;
    enum { FUTURE_MS = 1000 };
    const int64_t future = 4102444800000 + FUTURE_MS;
    struct weir_store *store = make_store();
    struct weir_delta_table *table;
    put_entry(store, 0, 1000,
              "{\"protocol\":{\"minReaderVersion\":1,\"minWriterVersion\":7,\"writerFeatures\":"
              "[\"inCommitTimestamp\"]}}\n{\"metaData\":{\"id\":\"x\",\"format\":{\"provider\":"
              "\"parquet\"},\"schemaString\":\"{\\\"type\\\":\\\"struct\\\",\\\"fields\\\":[]}\","
              "\"partitionColumns\":[],\"configuration\":{\"delta.enableInCommitTimestamps\":"
              "\"true\"}}}\n");
    put_entry(store, 1, 2000, "");
    put_entry(store, 2, future, "");
    assert_int_equal(version_at(store, 999), -1);
    assert_int_equal(version_at(store, 1000), 0);
    assert_int_equal(version_at(store, 2999), 1);
    assert_int_equal(weir_delta_table_open(store, "t", &table, NULL), WEIR_OK);
    assert_int_equal(append(table, "a", 1, NULL), WEIR_OK);
    assert_int_equal(weir_delta_snapshot_timestamp_ms(weir_delta_table_snapshot(table)),
                     future + 1);
    assert_int_equal(version_at(store, future), 2);
    assert_int_equal(version_at(store, future + 1), 3);
    weir_delta_table_close(table);
    weir_store_destroy(store);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_txn_seen_before_is_skipped),
        cmocka_unit_test(the_loser_of_a_race_rebases_and_sees_the_winners_txn),
        cmocka_unit_test(a_table_made_anew_is_refused),
        cmocka_unit_test(columns_are_added_once),
        cmocka_unit_test(files_that_come_with_columns_have_row_ids_and_counts),
        cmocka_unit_test(a_wider_column_has_the_very_name),
        cmocka_unit_test(what_names_a_column_goes_with_it),
        cmocka_unit_test(what_reader_version_two_stands_for_is_listed),
        cmocka_unit_test(stopping_ends_the_retries),
        cmocka_unit_test(no_power_loss_loses_or_doubles_a_commit),
        cmocka_unit_test(an_add_survives_its_json),
        cmocka_unit_test(numbers_of_rows_no_table_has_are_not_known),
        cmocka_unit_test(unknown_features_are_refused_by_name),
        cmocka_unit_test(in_commit_timestamps_ascend_and_time_travel_goes_by_them),
        cmocka_unit_test(an_existing_table_of_another_schema_is_refused_by_column),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
