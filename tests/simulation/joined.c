#include "joined.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "batch/batch.h"
#include "lake/delta/table.h"
#include "machine.h"

enum { PAYS = 240, FILES = 6, SALES_MAX = 1000, LINES_MAX = 4000, LINE = 96, EACH_US = 300000 };
static const int64_t START_US = INT64_C(1767607200000000); /* of the sales, one in 100 ms */
enum { SALE_US = 100000, BEFORE_US = 2000000, AFTER_US = 8000000, DEAR = 60 };

static const char pipeline_text[] =
    "return pipeline \"joins\" {\n"
    "  rules = \"joined\", storage = delta { root = \"lake\" }, commit = { every = \"20ms\" },\n"
    "  ledger = { keep = \"0s\", segment = \"64KB\", snapshot_every = \"1ms\" },\n"
    "  sources = {\n"
    "    source \"bronze.sale\" { files { path = \"landing/*\" }, json { schema = "
    "\"sale.avsc\" }, into = none },\n"
    "    source \"bronze.pay\" { files { path = \"paid/*\" }, json { schema = \"pay.avsc\" }, "
    "into = none },\n"
    "  },\n"
    "}\n";
static const char sale_text[] =
    "return stream \"silver.sale\" {\n"
    "  from = \"bronze.sale\", time = { field = \"at\", out_of_order = \"5s\" },\n"
    "  where = function(e) return e.qty > 0 end, dedup = { by = \"id\", within = \"10m\" },\n"
    "}\n";
static const char schema_text[] =
    "{\"type\":\"record\",\"name\":\"pay\",\"fields\":["
    "{\"name\":\"pay\",\"type\":\"int\"},{\"name\":\"sale\",\"type\":\"string\"},"
    "{\"name\":\"shop\",\"type\":\"int\"},{\"name\":\"amount\",\"type\":\"int\"},"
    "{\"name\":\"at\",\"type\":{\"type\":\"long\",\"logicalType\":\"timestamp-micros\"}}]}\n";
static const char sides_text[] =
    "return {\n"
    "  stream \"silver.pay\" { from = \"bronze.pay\", time = { field = \"at\", out_of_order = "
    "\"5s\" }, into = none },\n"
    "  stream \"silver.tariff\" { from = \"bronze.pay\", where = function(e) return e.pay % 5 == 0 "
    "end, key = \"shop\", time = { field = \"at\", out_of_order = \"5s\" }, into = none },\n"
    "  model \"gold.due\" { from = \"bronze.pay\", by = { \"sale\" }, measures = { paid = sum "
    "\"amount\" }, into = none },\n"
    "}\n";
static const char paid_text[] =
    "return stream \"silver.paid\" {\n"
    "  from = \"silver.sale\",\n"
    "  join = {\n"
    "    pay = interval_join \"silver.pay\" { on = { id = \"sale\" }, between = { \"-2s\", \"8s\" "
    "}, kind = \"full\", allowed_lateness = \"1m\",\n"
    "      where = function(e, j) return (e.shop + j.pay.amount) % 4 ~= 0 end },\n"
    "    tariff = temporal_join \"silver.tariff\" { on = \"shop\", kind = \"left\" },\n"
    "  },\n"
    "  columns = { pay = \"int32\", amount = \"int32\", rate = \"int32\" },\n"
    "  map = function(e, out, j)\n"
    "    if j.pay then out.pay, out.amount = j.pay.pay, j.pay.amount end\n"
    "    if j.tariff then out.rate = j.tariff.amount end\n"
    "  end,\n"
    "  keep = { \"id\", \"shop\" },\n"
    "}\n";
static const char owed_text[] =
    "return {\n"
    "  stream \"silver.owed\" {\n"
    "    from = \"gold.due\",\n"
    "    join = { s = regular_join \"silver.sale\" { on = { sale = \"id\" }, kind = \"full\", ttl "
    "= none,\n"
    "      where = function(e, j) return (e.paid + j.s.shop) % 3 ~= 0 end } },\n"
    "    columns = { id = \"string\", shop = \"int32\" },\n"
    "    map = function(e, out, j) if j.s then out.id, out.shop = j.s.id, j.s.shop end end,\n"
    "    keep = { \"sale\", \"paid\" }, key = { \"sale\", \"id\" },\n"
    "  },\n"
    "  stream \"silver.unpaid\" {\n"
    "    from = \"silver.sale\",\n"
    "    join = { due = regular_join \"gold.due\" { on = { id = \"sale\" }, kind = \"anti\", ttl = "
    "none,\n"
    "      where = function(e, j) return j.due.paid >= 60 end } },\n"
    "    keep = { \"id\" }, key = \"id\",\n"
    "  },\n"
    "}\n";

struct sale {
    char id[16];
    int shop;
    int64_t at;
};

struct pay {
    char sale[16];
    int shop;
    int amount;
    int64_t at;
};

struct lines { /* rows as texts */
    char (*list)[LINE];
    size_t count;
};

static struct pay pays[PAYS];
static struct sale sales[SALES_MAX];
static int sale_count;

/* --- the project ------------------------------------------------------------------------------ */

static void write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* Most are of a sale about their time, some of one there is not; no two have the same time. */
static void draw_pays(void) {
    uint64_t state = 11;
    for (int n = 0; n < PAYS; n++) {
        struct pay *pay = &pays[n];
        int64_t at = (int64_t)n * EACH_US + (int64_t)(draw(&state) % 2000000);
        int64_t of = at / SALE_US + (int64_t)(draw(&state) % 120) - 80;
        at = START_US + at / 1000 * 1000 + n;
        snprintf(pay->sale, sizeof pay->sale, "%lld", (long long)(of > 0 ? of : 0));
        pay->shop = (int)(draw(&state) % 3);
        pay->amount = (int)(draw(&state) % 100);
        pay->at = at;
        if (n > 10 && draw(&state) % 3 == 0) { /* in parts: what is due of it changes */
            memcpy(pay->sale, pays[n - 3].sale, sizeof pay->sale);
        }
    }
}

void joined_write(void) {
    draw_pays();
    assert_int_equal(mkdir("paid", 0777), 0);
    assert_int_equal(mkdir("joined", 0777), 0);
    for (int f = 0; f < FILES; f++) {
        char text[PAYS * 128 / FILES];
        char path[64];
        size_t used = 0;
        for (int n = f * PAYS / FILES; n < (f + 1) * PAYS / FILES; n++) {
            used += (size_t)snprintf(
                text + used, sizeof text - used,
                "{\"pay\":%d,\"sale\":\"%s\",\"shop\":%d,\"amount\":%d,\"at\":%lld}\n", n,
                pays[n].sale, pays[n].shop, pays[n].amount, (long long)pays[n].at);
            assert_true(used < sizeof text);
        }
        snprintf(path, sizeof path, "paid/%d.jsonl", f);
        write_file(path, text);
    }
    write_file("pay.avsc", schema_text);
    write_file("pipelines/joins.lua", pipeline_text);
    write_file("joined/sale.lua", sale_text);
    write_file("joined/pay.lua", sides_text);
    write_file("joined/paid.lua", paid_text);
    write_file("joined/owed.lua", owed_text);
}

/* --- tables ----------------------------------------------------------------------------------- */

static void scan(struct weir_store *store, const char *directory,
                 int (*visit)(void *, struct weir_batch *, struct weir_error *), void *context) {
    struct weir_error err = {0};
    struct weir_delta_at at = {.kind = WEIR_DELTA_LATEST};
    struct weir_delta_snapshot *snapshot = NULL;
    struct weir_pool *pool = weir_pool_create((size_t)64 << 20);
    int rc = weir_delta_snapshot_open(store, directory, &at, &snapshot, &err);
    rc = rc == WEIR_OK ? weir_delta_scan(snapshot, pool, visit, context, &err) : rc;
    weir_delta_snapshot_destroy(snapshot);
    weir_pool_destroy(pool);
    if (rc != WEIR_OK) {
        fail_msg("%s cannot be read: %s", directory, err.message);
    }
}

static const struct weir_column *column_of(const struct weir_batch *batch, const char *name) {
    int32_t c = weir_schema_find(batch->schema, name);
    if (c < 0) {
        fail_msg("there is no column %s", name);
    }
    return &batch->columns[c];
}

static void put_value(char *line, const struct weir_column *column, int32_t row) {
    size_t used = strlen(line);
    int32_t length = 0;
    if (weir_column_is_null(column, row)) {
        snprintf(line + used, LINE - used, "-|");
    } else if (column->type == WEIR_TYPE_STRING) {
        const char *bytes = weir_column_bytes(column, row, &length);
        snprintf(line + used, LINE - used, "%.*s|", (int)length, bytes);
    } else {
        snprintf(line + used, LINE - used, "%lld|", (long long)weir_column_int(column, row));
    }
}

static int visit_sales(void *context, struct weir_batch *batch, struct weir_error *err) {
    (void)context;
    (void)err;
    for (int32_t row = 0; row < batch->rows; row++) {
        assert_true(sale_count < SALES_MAX);
        struct sale *sale = &sales[sale_count++];
        int32_t length = 0;
        const char *id = weir_column_bytes(column_of(batch, "id"), row, &length);
        snprintf(sale->id, sizeof sale->id, "%.*s", (int)length, id);
        sale->shop = (int)weir_column_int(column_of(batch, "shop"), row);
        sale->at = weir_column_int(column_of(batch, "at"), row);
    }
    return WEIR_OK;
}

static char *next_line(struct lines *lines) {
    assert_true(lines->count < LINES_MAX);
    char *line = lines->list[lines->count++];
    line[0] = '\0';
    return line;
}

struct reading {
    struct lines *lines;
    const char *const *columns; /* up to NULL */
};

static int visit_lines(void *context, struct weir_batch *batch, struct weir_error *err) {
    struct reading *reading = context;
    (void)err;
    for (int32_t row = 0; row < batch->rows; row++) {
        char *line = next_line(reading->lines);
        for (int c = 0; reading->columns[c] != NULL; c++) {
            put_value(line, column_of(batch, reading->columns[c]), row);
        }
    }
    return WEIR_OK;
}

/* --- the model -------------------------------------------------------------------------------- */

/* Appends the pair of what leaves the interval join, with the tariff of its shop at that time. */
static void put_paid(struct lines *want, const struct sale *sale, int pay, int64_t time) {
    char *line = next_line(want);
    int rate = -1;
    for (int n = 0; sale != NULL && n < PAYS; n += 5) {
        bool known = pays[n].shop == sale->shop && pays[n].at <= time;
        rate = known && (rate < 0 || pays[rate].at < pays[n].at) ? n : rate;
    }
    size_t used = sale != NULL ? (size_t)snprintf(line, LINE, "%s|%d|", sale->id, sale->shop)
                               : (size_t)snprintf(line, LINE, "-|-|");
    used += pay >= 0 ? (size_t)snprintf(line + used, LINE - used, "%d|%d|", pay, pays[pay].amount)
                     : (size_t)snprintf(line + used, LINE - used, "-|-|");
    if (rate >= 0) {
        snprintf(line + used, LINE - used, "%d|", pays[rate].amount);
    } else {
        snprintf(line + used, LINE - used, "-|");
    }
}

static void model_paid(struct lines *want) {
    bool met[PAYS] = {false};
    for (int i = 0; i < sale_count; i++) {
        const struct sale *sale = &sales[i];
        bool any = false;
        for (int n = 0; n < PAYS; n++) {
            int64_t apart = pays[n].at - sale->at;
            if (strcmp(pays[n].sale, sale->id) == 0 && apart >= -BEFORE_US && apart <= AFTER_US &&
                (sale->shop + pays[n].amount) % 4 != 0) {
                put_paid(want, sale, n, sale->at);
                any = met[n] = true;
            }
        }
        if (!any) {
            put_paid(want, sale, -1, sale->at);
        }
    }
    for (int n = 0; n < PAYS; n++) {
        if (!met[n]) {
            put_paid(want, NULL, n, pays[n].at);
        }
    }
}

/* What is due of the pay's sale, once for all its pays; -1: told already. */
static int due_of(int n) {
    int paid = 0;
    for (int k = 0; k < PAYS; k++) {
        if (strcmp(pays[k].sale, pays[n].sale) == 0) {
            if (k < n) {
                return -1;
            }
            paid += pays[k].amount;
        }
    }
    return paid;
}

static void model_owed(struct lines *want) {
    bool met[SALES_MAX] = {false};
    for (int n = 0; n < PAYS; n++) {
        int due = due_of(n);
        bool any = false;
        for (int i = 0; due >= 0 && i < sale_count; i++) {
            if (strcmp(sales[i].id, pays[n].sale) == 0 && (due + sales[i].shop) % 3 != 0) {
                snprintf(next_line(want), LINE, "%.15s|%d|%.15s|%d|", pays[n].sale, due,
                         sales[i].id, sales[i].shop);
                any = met[i] = true;
            }
        }
        if (due >= 0 && !any) {
            snprintf(next_line(want), LINE, "%.15s|%d|-|-|", pays[n].sale, due);
        }
    }
    for (int i = 0; i < sale_count; i++) {
        if (!met[i]) {
            snprintf(next_line(want), LINE, "-|-|%.15s|%d|", sales[i].id, sales[i].shop);
        }
    }
}

static void model_unpaid(struct lines *want) {
    for (int i = 0; i < sale_count; i++) {
        bool paid = false;
        for (int n = 0; n < PAYS; n++) {
            paid |= strcmp(sales[i].id, pays[n].sale) == 0 && due_of(n) >= DEAR;
        }
        if (!paid) {
            snprintf(next_line(want), LINE, "%.15s|", sales[i].id);
        }
    }
}

static int by_text(const void *a, const void *b) {
    return strcmp(a, b);
}

static void assert_table(struct weir_store *store, const char *directory,
                         const char *const *columns, void (*model)(struct lines *want)) {
    static char got_lines[LINES_MAX][LINE];
    static char want_lines[LINES_MAX][LINE];
    struct lines got = {got_lines, 0};
    struct lines want = {want_lines, 0};
    struct reading reading = {&got, columns};
    scan(store, directory, visit_lines, &reading);
    model(&want);
    qsort(got.list, got.count, LINE, by_text);
    qsort(want.list, want.count, LINE, by_text);
    for (size_t i = 0; i < got.count && i < want.count; i++) {
        if (strcmp(got.list[i], want.list[i]) != 0) {
            fail_msg("%s: row %zu of %zu is %s, of the model's %zu %s", directory, i, got.count,
                     got.list[i], want.count, want.list[i]);
        }
    }
    assert_int_equal(got.count, want.count);
    assert_true(want.count > 50);
}

void assert_joined(struct weir_store *store) {
    static const char *const paid[] = {"id", "shop", "pay", "amount", "rate", NULL};
    static const char *const owed[] = {"sale", "paid", "id", "shop", NULL};
    static const char *const unpaid[] = {"id", NULL};
    sale_count = 0;
    scan(store, "silver/sale", visit_sales, NULL);
    assert_table(store, "silver/paid", paid, model_paid);
    assert_table(store, "silver/owed", owed, model_owed);
    assert_table(store, "silver/unpaid", unpaid, model_unpaid);
}
