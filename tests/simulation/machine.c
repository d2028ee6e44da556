#include "machine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>

#include "batch/digest.h"
#include "core/log.h"
#include "joined.h"
#include "lake/delta/table.h"
#include "pipeline/pipeline.h"

enum { FILES = 12, ROWS_A_FILE = 60, TABLES_MAX = 16 };

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
static const char shop_text[] = "return stream \"silver.shop\" {\n"
                                "  from = \"bronze.sale\", key = { \"shop\", \"qty\" }, time = { "
                                "field = \"at\", out_of_order = "
                                "\"5s\" },\n"
                                "  into = delta { mode = \"merge\" },\n"
                                "}\n";
static const char hop_text[] =
    "return model \"gold.hop\" {\n"
    "  from = \"silver.sale\", by = { \"shop\" },\n"
    "  window = hopping { size = \"10s\", every = \"2s\", allowed_lateness = \"2s\" },\n"
    "  measures = { weight = sum \"weight\", heaviest = max \"weight\" },\n"
    "}\n";
static const char session_text[] =
    "return model \"gold.session\" {\n"
    "  from = \"silver.sale\", by = { \"shop\" }, window = session { gap = \"400ms\" },\n"
    "  measures = { weight = sum \"weight\", sales = count() },\n"
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

uint64_t draw(uint64_t *state) { /* splitmix64 */
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
    write_text("rules/silver/shop.lua", shop_text);
    write_text("rules/gold/hop.lua", hop_text);
    write_text("rules/gold/session.lua", session_text);
    joined_write();
    write_landing();
}

/* --- the machine ----------------------------------------------------------------------------- */

static bool power(void *context) {
    struct machine *m = context;
    atomic_fetch_add(&m->done, 1);
    if (m->before != NULL) {
        m->before(m);
    }
    if (atomic_load(&m->off)) {
        return false;
    }
    if (atomic_load(&m->left) >= 0 && atomic_fetch_sub(&m->left, 1) <= 0) {
        atomic_store(&m->off, true);
    }
    return !atomic_load(&m->off);
}

void machine_init(struct machine *m, enum program program, uint64_t seed) {
    struct weir_error err = {0};
    memset(m, 0, sizeof(*m));
    m->program = program;
    m->files = weir_files_sim_create(seed);
    assert_non_null(m->files);
    assert_int_equal(weir_store_unsynced_create(&m->store, &err), WEIR_OK);
    atomic_store(&m->left, -1);
    weir_files_sim_set_power(m->files, power, m);
    weir_store_unsynced_set_power(m->store, power, m);
}

void machine_fini(struct machine *m) {
    weir_store_destroy(m->store);
    weir_files_sim_destroy(m->files);
}

void machine_lose_power(struct machine *m, uint64_t *state) {
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

int machine_live(struct machine *m, struct weir_error *err) {
    struct weir_pipeline_options options = {
        .path = m->program == PROGRAM_JOINS ? "pipelines/joins.lua" : "pipelines/power.lua",
        .until_end = true,
        .files = weir_files_sim_files(m->files),
        .store = m->between != NULL ? m->between : m->store,
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

char current_run[128];

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
        fail_msg("%s: table %s cannot be read: %s", current_run, directory, err.message);
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

static struct tables undisturbed[PROGRAMS];
static struct machine undisturbed_machines[PROGRAMS];

int64_t undisturbed_operations(const struct machine *m) {
    return atomic_load(&undisturbed_machines[m->program].done);
}

void assert_undisturbed_tables(const struct machine *m, const char *when) {
    const struct tables *expected = &undisturbed[m->program];
    struct tables actual;
    tables_read(&actual, m->store);
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
        fail_msg("%s: %s: tables differ (%d tables, undisturbed %d)", current_run, when, count,
                 expected->count);
    }
}

/* --- the undisturbed run ------------------------------------------------------------------------
 */

int project_set_up(void **state) {
    (void)state;
    struct weir_error err = {0};
    weir_log_set_level(WEIR_LOG_ERROR);
    make_project();
    for (enum program p = 0; p < PROGRAMS; p++) {
        struct machine *m = &undisturbed_machines[p];
        machine_init(m, p, 1);
        if (machine_live(m, &err) != WEIR_OK) {
            fail_msg("undisturbed run: %s", err.message);
        }
        tables_read(&undisturbed[p], m->store);
    }
    return 0;
}

int project_tear_down(void **state) {
    (void)state;
    for (enum program p = 0; p < PROGRAMS; p++) {
        tables_fini(&undisturbed[p]);
        machine_fini(&undisturbed_machines[p]);
    }
    char command[64];
    snprintf(command, sizeof(command), "rm -rf %s", project);
    return chdir("/") == 0 && system(command) == 0 ? 0 : -1;
}

void assert_every_kind_of_table(void) {
    static const char *const names[PROGRAMS][TABLES_MAX] = {
        {"bronze/sale", "gold/hop", "gold/session", "gold/till", "gold/weight",
         "quarantine/bronze/sale", "quarantine/late", "quarantine/silver/sale", "silver/sale",
         "silver/shop"},
        {"quarantine/bronze/sale", "silver/owed", "silver/paid", "silver/sale", "silver/unpaid"},
    };
    for (enum program p = 0; p < PROGRAMS; p++) {
        int32_t count = 0;
        for (; names[p][count] != NULL; count++) {
            assert_true(count < undisturbed[p].count);
            assert_string_equal(undisturbed[p].list[count].name, names[p][count]);
            assert_true(undisturbed[p].list[count].count > 0);
        }
        assert_int_equal(undisturbed[p].count, count);
        assert_true(undisturbed_operations(&undisturbed_machines[p]) > 250);
    }
    assert_joined(undisturbed_machines[PROGRAM_JOINS].store);
}

void machine_to_the_end(struct machine *m) {
    struct weir_error err = {0};
    int rc = machine_live(m, &err);
    if (rc != WEIR_OK) {
        fail_msg("%s: does not recover: %s", current_run, err.message);
    }
    assert_undisturbed_tables(m, "recovered");
}
