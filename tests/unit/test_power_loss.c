/* The whole pipeline, in process, on disks that forget what was not synced: the ledger's and the
 * tables' stop at one common instant, chosen by seed, and lose what the seed says; what is started
 * on the rest and runs to the end must leave the tables of an undisturbed run, row for row, every
 * bit of every double. Also syncs that fail and a disk that fills up.
 *
 * WEIR_POWER_SEEDS=n      so many seeds, however long it takes (else as many as fit in a while)
 * WEIR_POWER_SEED=s       that seed alone. Threads take turns as they like, so a seed repeats what
 *                         is lost, and only about when: run it some times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>

#include "batch/digest.h"
#include "core/clock.h"
#include "core/file_sim.h"
#include "core/log.h"
#include "lake/delta/table.h"
#include "pipeline/pipeline.h"
#include "script/script.h"

enum { SEEDS = 400, SECONDS = 40, FILES = 20, ROWS_A_FILE = 60, TABLES_MAX = 16, LIVES_MAX = 4 };

static const char pipeline_text[] =
    "return pipeline \"power\" {\n"
    "  rules = \"rules\", storage = delta { root = \"lake\" }, commit = { every = \"20ms\" },\n"
    "  ledger = { keep = \"0s\", segment = \"64KB\", snapshot_every = \"1ms\" },\n"
    "  sources = {\n"
    "    source \"bronze.sale\" { files { path = \"landing/*\" }, json { schema = "
    "\"sale.avsc\" } },\n"
    "    source \"bronze.till\" { generator { seed = 3, count = 9000, rate = 0 }, into = none },\n"
    "  },\n"
    "}\n";
static const char schema_text[] =
    "{\"type\":\"record\",\"name\":\"sale\",\"fields\":["
    "{\"name\":\"id\",\"type\":\"string\"},{\"name\":\"shop\",\"type\":\"int\"},"
    "{\"name\":\"qty\",\"type\":\"int\"},{\"name\":\"weight\",\"type\":\"double\"},"
    "{\"name\":\"at\",\"type\":{\"type\":\"long\",\"logicalType\":\"timestamp-micros\"}}]}\n";
static const char silver_text[] =
    "return stream \"silver.sale\" {\n"
    "  from = \"bronze.sale\", time = { field = \"at\", out_of_order = \"5s\" },\n"
    "  expectations = { expect \"sold something\" { function(e) return e.qty > 0 end } },\n"
    "  dedup = { by = \"id\", within = \"10m\" },\n"
    "}\n";
static const char gold_text[] =
    "return model \"gold.weight\" {\n"
    "  from = \"silver.sale\", by = { \"shop\" },\n"
    "  window = tumbling { size = \"10s\", allowed_lateness = \"2s\", late = \"quarantine.late\" "
    "},\n"
    "  measures = { weight = sum \"weight\", mean = avg \"weight\", sales = count() },\n"
    "  into = delta { partition_by = { \"shop\", date \"window_start\" } },\n"
    "}\n";
static const char till_text[] =
    "return stream \"silver.till\" {\n"
    "  from = \"bronze.till\", time = { field = \"sold_at\", out_of_order = \"5s\" },\n"
    "  dedup = { by = \"event_id\", within = \"1h\" }, into = none,\n"
    "}\n";
static const char tills_text[] =
    "return model \"gold.till\" {\n"
    "  from = \"silver.till\", by = { \"kind\" }, window = tumbling { size = \"1s\" },\n"
    "  measures = { lines = count(), pieces = sum \"qty\", dearest = max \"gross\" },\n"
    "}\n";

static uint64_t draw(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* --- the project ----------------------------------------------------------------------------- */

static void write_text(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* Rows in about the order of time: some twice, some late, some refused, some not even JSON. */
static void write_landing(void) {
    uint64_t state = 5;
    char lines[ROWS_A_FILE * 256];
    for (int f = 0; f < FILES; f++) {
        size_t used = 0;
        for (int i = 0; i < ROWS_A_FILE; i++) {
            int64_t n = f * ROWS_A_FILE + i;
            uint64_t roll = draw(&state) % 100;
            int64_t id = roll < 10 && n > 50 ? n - (int64_t)(draw(&state) % 50) : n;
            int64_t at = INT64_C(1767607200000000) + n * 100000;
            at -= roll >= 90 ? (int64_t)(draw(&state) % 25000000) : 0;
            if (roll == 50) {
                used += (size_t)snprintf(lines + used, sizeof(lines) - used, "no sale %d\n", i);
                continue;
            }
            used += (size_t)snprintf(
                lines + used, sizeof(lines) - used,
                "{\"id\":\"%lld\",\"shop\":%d,\"qty\":%d,\"weight\":%.17g,\"at\":%lld}\n",
                (long long)id, (int)(draw(&state) % 3), roll % 20 == 7 ? 0 : 1,
                (double)(draw(&state) >> 11) / (double)(1 + draw(&state) % 100000000),
                (long long)at);
        }
        char path[64];
        snprintf(path, sizeof(path), "landing/%03d.jsonl%s", f, f % 3 == 1 ? ".gz" : "");
        gzFile out = gzopen(path, f % 3 == 1 ? "wb" : "wbT");
        assert_non_null(out);
        assert_int_equal(gzwrite(out, lines, (unsigned)used), (int)used);
        assert_int_equal(gzclose(out), Z_OK);
    }
}

static char project[] = "/tmp/weir-power-XXXXXX";

static void make_project(void) {
    assert_non_null(mkdtemp(project));
    assert_int_equal(chdir(project), 0);
    static const char *const folders[] = {"pipelines", "landing", "rules", "rules/silver",
                                          "rules/gold"};
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        assert_int_equal(mkdir(folders[i], 0777), 0);
    }
    write_text("pipelines/power.lua", pipeline_text);
    write_text("sale.avsc", schema_text);
    write_text("rules/silver/sale.lua", silver_text);
    write_text("rules/silver/till.lua", till_text);
    write_text("rules/gold/weight.lua", gold_text);
    write_text("rules/gold/till.lua", tills_text);
    write_landing();
}

/* --- the machine ----------------------------------------------------------------------------- */

struct machine {
    struct weir_files_sim *files;
    struct weir_store *store;
    atomic_int_fast64_t left; /* changing operations until the power goes; negative: never */
    atomic_int_fast64_t done;
    atomic_bool off;
};

static bool power(void *context) {
    struct machine *m = context;
    atomic_fetch_add(&m->done, 1);
    if (atomic_load(&m->off)) {
        return false;
    }
    if (atomic_load(&m->left) >= 0 && atomic_fetch_sub(&m->left, 1) <= 0) {
        atomic_store(&m->off, true);
    }
    return !atomic_load(&m->off);
}

static void machine_init(struct machine *m, uint64_t seed) {
    struct weir_error err = {0};
    memset(m, 0, sizeof(*m));
    m->files = weir_files_sim_create(seed);
    assert_non_null(m->files);
    assert_int_equal(weir_store_unsynced_create(&m->store, &err), WEIR_OK);
    atomic_store(&m->left, -1);
    weir_files_sim_set_power(m->files, power, m);
    weir_store_unsynced_set_power(m->store, power, m);
}

static void machine_fini(struct machine *m) {
    weir_store_destroy(m->store);
    weir_files_sim_destroy(m->files);
}

/* The power goes, or only the process is killed, and what it wrote is lost by the next power loss
 * unless somebody syncs it. */
static void lose_power(struct machine *m, uint64_t *state) {
    if (draw(state) % 4 == 0) {
        weir_files_sim_process_loss(m->files);
        weir_store_unsynced_process_loss(m->store);
    } else {
        weir_files_sim_power_loss(m->files);
        weir_store_unsynced_power_loss(m->store, draw(state));
    }
    atomic_store(&m->left, -1);
    atomic_store(&m->off, false);
}

/* One process: recovers, runs to the end of the input or until something fails. */
static int live(struct machine *m, struct weir_error *err) {
    struct weir_pipeline_options options = {
        .path = "pipelines/power.lua",
        .until_end = true,
        .files = weir_files_sim_files(m->files),
        .store = m->store,
        .commit_every_us = 1,
    };
    struct weir_buffer report;
    weir_buffer_init(&report, 1 << 20);
    struct weir_pipeline *pipeline = NULL;
    int rc = weir_pipeline_create(&options, &pipeline, &report, NULL, err);
    if (report.size > 0) {
        fail_msg("the rules: %.*s", (int)report.size, (const char *)report.data);
    }
    weir_buffer_fini(&report);
    if (rc == WEIR_OK) {
        rc = weir_pipeline_run(pipeline, err);
        weir_pipeline_destroy(pipeline);
    }
    return rc;
}

static uint64_t current_seed; /* for messages */

/* --- tables as multisets of rows -------------------------------------------------------------- */

struct table {
    char name[128];
    uint64_t *rows; /* digests, sorted */
    size_t count;
    size_t capacity;
};

struct tables {
    struct weir_store *store;
    struct table list[TABLES_MAX];
    int32_t count;
};

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* What a row says of itself; not when and by which epoch it was written. */
static bool counts(const char *column) {
    return column[0] != '_' || strcmp(column, "_raw") == 0;
}

static int visit_batch(void *context, struct weir_batch *batch, struct weir_error *err) {
    struct table *table = context;
    (void)err;
    struct weir_column columns[64];
    struct weir_batch view = *batch;
    view.columns = columns;
    view.column_count = 0;
    for (int32_t c = 0; c < batch->column_count; c++) {
        if (counts(batch->schema->fields[c].name)) {
            assert_true(view.column_count < 64);
            columns[view.column_count++] = batch->columns[c];
        }
    }
    for (int32_t row = 0; row < batch->rows; row++) {
        if (table->count == table->capacity) {
            table->capacity = table->capacity * 2 + 1024;
            table->rows = realloc(table->rows, table->capacity * sizeof(*table->rows));
            assert_non_null(table->rows);
        }
        table->rows[table->count++] = weir_batch_digest(&view, &row, 1, 0);
    }
    return WEIR_OK;
}

static int visit_table(void *context, const char *directory) {
    struct tables *tables = context;
    struct weir_error err = {0};
    assert_true(tables->count < TABLES_MAX);
    struct table *table = &tables->list[tables->count++];
    snprintf(table->name, sizeof(table->name), "%s", directory);
    struct weir_delta_at at = {.kind = WEIR_DELTA_LATEST};
    struct weir_delta_snapshot *snapshot = NULL;
    struct weir_pool *pool = weir_pool_create((size_t)256 << 20);
    int rc = weir_delta_snapshot_open(tables->store, directory, &at, &snapshot, &err);
    if (rc == WEIR_OK) {
        rc = weir_delta_scan(snapshot, pool, visit_batch, table, &err);
    }
    weir_delta_snapshot_destroy(snapshot);
    weir_pool_destroy(pool);
    if (rc != WEIR_OK) {
        fail_msg("WEIR_POWER_SEED=%llu: table %s cannot be read: %s",
                 (unsigned long long)current_seed, directory, err.message);
    }
    if (table->count > 0) {
        qsort(table->rows, table->count, sizeof(*table->rows), ascending);
    }
    return WEIR_OK;
}

static void tables_read(struct tables *tables, struct weir_store *store) {
    struct weir_error err = {0};
    memset(tables, 0, sizeof(*tables));
    tables->store = store;
    int rc = weir_delta_table_ls(store, "", 8, visit_table, tables, &err);
    if (rc != WEIR_OK) {
        fail_msg("tables cannot be listed: %s", err.message);
    }
}

static void tables_fini(struct tables *tables) {
    for (int32_t i = 0; i < tables->count; i++) {
        free(tables->list[i].rows);
    }
}

/* Everything is said of every table that differs. */
static void assert_same_tables(const struct tables *expected, struct weir_store *store,
                               uint64_t seed, const char *when) {
    struct tables actual;
    tables_read(&actual, store);
    bool same = actual.count == expected->count;
    for (int32_t t = 0; t < expected->count && t < actual.count; t++) {
        const struct table *a = &actual.list[t];
        const struct table *e = &expected->list[t];
        size_t lost = 0;
        size_t doubled = 0;
        for (size_t i = 0, j = 0; i < e->count || j < a->count;) {
            if (j == a->count || (i < e->count && e->rows[i] < a->rows[j])) {
                lost++;
                i++;
            } else if (i == e->count || a->rows[j] < e->rows[i]) {
                doubled++;
                j++;
            } else {
                i++;
                j++;
            }
        }
        if (strcmp(a->name, e->name) != 0 || lost > 0 || doubled > 0) {
            same = false;
            print_error("%s (undisturbed %s): %zu rows, undisturbed %zu; %zu lost, %zu too many\n",
                        a->name, e->name, a->count, e->count, lost, doubled);
        }
    }
    int32_t count = actual.count;
    tables_fini(&actual);
    if (!same) {
        fail_msg("WEIR_POWER_SEED=%llu: %s: tables differ (%d tables, undisturbed %d)",
                 (unsigned long long)seed, when, count, expected->count);
    }
}

/* --- tests ------------------------------------------------------------------------------------ */

static struct tables undisturbed;
static struct machine undisturbed_machine;
static int64_t undisturbed_operations;

static int set_up(void **state) {
    (void)state;
    struct weir_error err = {0};
    weir_log_set_level(WEIR_LOG_ERROR);
    make_project();
    machine_init(&undisturbed_machine, 1);
    int rc = live(&undisturbed_machine, &err);
    if (rc != WEIR_OK) {
        fail_msg("undisturbed run: %s", err.message);
    }
    undisturbed_operations = atomic_load(&undisturbed_machine.done);
    tables_read(&undisturbed, undisturbed_machine.store);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    tables_fini(&undisturbed);
    machine_fini(&undisturbed_machine);
    char command[64];
    snprintf(command, sizeof(command), "rm -rf %s", project);
    return chdir("/") == 0 && system(command) == 0 ? 0 : -1;
}

static void the_undisturbed_run_has_every_kind_of_table(void **state) {
    (void)state;
    static const char *const names[] = {"bronze/sale",     "gold/till",
                                        "gold/weight",     "quarantine/bronze/sale",
                                        "quarantine/late", "quarantine/silver/sale",
                                        "silver/sale"};
    assert_int_equal(undisturbed.count, (int)(sizeof(names) / sizeof(names[0])));
    for (int32_t i = 0; i < undisturbed.count; i++) {
        assert_string_equal(undisturbed.list[i].name, names[i]);
        assert_true(undisturbed.list[i].count > 0);
    }
    assert_true(undisturbed_operations > 500);
}

static void to_the_end(struct machine *m, uint64_t seed) {
    struct weir_error err = {0};
    int rc = live(m, &err);
    if (rc != WEIR_OK) {
        fail_msg("WEIR_POWER_SEED=%llu: does not recover: %s", (unsigned long long)seed,
                 err.message);
    }
    assert_same_tables(&undisturbed, m->store, seed, "recovered");
}

/* Up to some power losses in a row, so that recoveries are cut short as well. */
static int power_losses(uint64_t seed) {
    uint64_t state = seed;
    struct machine m;
    machine_init(&m, draw(&state));
    int lives = 1 + (int)(draw(&state) % LIVES_MAX);
    int losses = 0;
    for (int i = 0; i < lives; i++) {
        struct weir_error err = {0};
        uint64_t span = (uint64_t)undisturbed_operations;
        span = draw(&state) % 3 == 0 ? span / 20 : span; /* often while it recovers */
        atomic_store(&m.left, (int_fast64_t)(draw(&state) % span));
        int rc = live(&m, &err);
        bool off = atomic_load(&m.off);
        if (rc != WEIR_OK && !off) {
            fail_msg("WEIR_POWER_SEED=%llu: stops with power on: %s", (unsigned long long)seed,
                     err.message);
        }
        losses += off;
        lose_power(&m, &state);
        if (rc == WEIR_OK) { /* all of it was said to be durable and visible */
            assert_same_tables(&undisturbed, m.store, seed, "said to be done");
        }
    }
    to_the_end(&m, seed);
    machine_fini(&m);
    return losses;
}

static int failed_sync(uint64_t seed) {
    uint64_t state = seed;
    struct machine m;
    struct weir_error err = {0};
    machine_init(&m, draw(&state));
    weir_files_sim_fail_sync(m.files, 1 + draw(&state) % 100);
    int rc = live(&m, &err);
    weir_files_sim_fail_sync(m.files, 0);
    if (draw(&state) % 2 == 0) {
        lose_power(&m, &state);
    }
    to_the_end(&m, seed);
    machine_fini(&m);
    return rc != WEIR_OK;
}

static int no_space(uint64_t seed) {
    uint64_t state = seed;
    struct machine m;
    struct weir_error err = {0};
    machine_init(&m, draw(&state));
    weir_files_sim_set_space(m.files, draw(&state) % (1u << 20));
    int rc = live(&m, &err);
    weir_files_sim_set_space(m.files, UINT64_MAX);
    to_the_end(&m, seed);
    machine_fini(&m);
    return rc != WEIR_OK;
}

/* Runs `one` over seeds; what share of time it may take is `percent`. */
static void over_seeds(int (*one)(uint64_t seed), const char *what, int percent) {
    const char *only = getenv("WEIR_POWER_SEED");
    const char *many = getenv("WEIR_POWER_SEEDS");
    uint64_t count = many != NULL ? strtoull(many, NULL, 10) : SEEDS;
    count = (count * (uint64_t)percent + 99) / 100;
    int64_t until = weir_clock_mono_ns() + INT64_C(10000000) * SECONDS * percent;
    uint64_t seeds = 0;
    int hits = 0;
    if (only != NULL) {
        current_seed = strtoull(only, NULL, 10);
        hits = one(current_seed);
        seeds = 1;
    }
    for (uint64_t seed = 1; only == NULL && seed <= count; seed++) {
        if (many == NULL && weir_clock_mono_ns() > until) {
            break;
        }
        current_seed = seed;
        hits += one(seed);
        seeds++;
    }
    print_message("%s: %llu seeds, %d hits\n", what, (unsigned long long)seeds, hits);
    assert_true(hits > 0 || only != NULL);
}

static void a_power_loss_loses_and_doubles_nothing(void **state) {
    (void)state;
    over_seeds(power_losses, "power losses", 80);
}

static void a_sync_that_fails_stops_the_run_and_loses_nothing(void **state) {
    (void)state;
    over_seeds(failed_sync, "failed syncs", 10);
}

static void a_full_disk_stops_the_run_and_loses_nothing(void **state) {
    (void)state;
    over_seeds(no_space, "full disks", 10);
}

int main(void) {
    weir_script_block_signals();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_undisturbed_run_has_every_kind_of_table),
        cmocka_unit_test(a_power_loss_loses_and_doubles_nothing),
        cmocka_unit_test(a_sync_that_fails_stops_the_run_and_loses_nothing),
        cmocka_unit_test(a_full_disk_stops_the_run_and_loses_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
