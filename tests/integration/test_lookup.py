"""lookup: beside each row, the row another dataset has under a key."""

import json
import signal
import time

import lake
import language
import pytest
from language import D, at, place

SALE = {"id": "long!", "item": "string", "shop": "int", "at": "timestamp"}
PRODUCT = {"sku": "string", "category": "string", "price": "decimal(10,2)", "weight": "double", "kinds": ["null", {"type": "array", "items": "string"}],
           "updated_at": "timestamp", "gone": "bool"}
PIPELINE = """return pipeline "p" {
  rules = "rules", storage = delta { root = "lake" }, commit = { every = "20ms" }, ledger = { keep = "1h", snapshot_every = "40ms" },
  sources = {
    source "bronze.sale" { files { path = "landing/sale/*.jsonl" }, json { schema = "schemas/sale.avsc" }, into = none },
    source "bronze.product" { files { path = "landing/product/*.jsonl" }, json { schema = "schemas/product.avsc" }, into = none },
  },
}
"""
TABLE = 'return stream "silver.product" { from = "bronze.product", key = "sku", time = { field = "updated_at", out_of_order = "1h" }, into = none }'
JOIN = 'product = lookup "silver.product" { on = { item = "sku" }, %s }'
MAP = 'columns = { category = "string", price = "decimal(10,2)" }, map = function(e, out, j) if j.product then out.category, out.price = j.product.category, j.product.price end end'


def sale(join=JOIN % 'kind = "left"', body=MAP):
    return f'return stream "silver.sale" {{ from = "bronze.sale", join = {{ {join} }}, {body} }}'


class Shop:
    def __init__(self, project, rules, sales=(), products=()):
        self.project = project
        project.write("schemas/sale.avsc", language.schema(SALE))
        project.write("schemas/product.avsc", language.schema(PRODUCT))
        project.write("pipelines/p.lua", PIPELINE)
        for index, rule in enumerate(rules):
            project.write(f"rules/r{index}.lua", rule)
        self.feed("product", products)
        self.feed("sale", sales)

    def feed(self, kind, rows, name="a.jsonl"):
        self.project.write(f"landing/{kind}/{name}", "".join(json.dumps(row) + "\n" for row in rows))

    def run(self, *arguments):
        self.summary = self.project.run("pipelines/p.lua", *arguments)
        return self

    def rows(self, name, *columns):
        return lake.rows_of(lake.by_deltalake(self.project.root / "lake" / name.replace(".", "/")), columns)

    def counts(self, name):
        return self.summary["datasets"][name]


SALES = [{"id": 1, "item": "a"}, {"id": 2, "item": "b"}, {"id": 3, "item": "zz"}, {"id": 4}]
PRODUCTS = [{"sku": "a", "category": "fruit", "price": "1.50", "updated_at": at("10:00:00")}, {"sku": "b", "category": None, "price": "2.00", "updated_at": at("10:00:00")}]


def test_left_keeps_rows_that_find_nothing(project):
    shop = Shop(project, [TABLE, sale()], SALES, PRODUCTS).run()
    assert shop.rows("silver.sale", "id", "category", "price") == [(1, "fruit", D("1.50")), (2, None, D("2.00")), (3, None, None), (4, None, None)]


def test_a_default_row(project):
    join = JOIN % 'kind = "left", default = { category = "unknown", price = "0.10", weight = 2, gone = true, updated_at = "2026-01-05T00:00:00Z" }'
    body = 'columns = { category = "string", price = "decimal(10,2)", weight = "double", known = "bool", since = "timestamp" }, map = function(e, out, j) ' \
        'local p = j.product out.category, out.price, out.weight, out.known, out.since = p.category, p.price, p.weight, not p.gone, p.updated_at end'
    shop = Shop(project, [TABLE, sale(join, body)], SALES, PRODUCTS).run()
    moment, since = language.moment("10:00:00"), language.moment("00:00:00")
    assert shop.rows("silver.sale", "category", "price", "weight", "known", "since") == [
        ("fruit", D("1.50"), None, True, moment), (None, D("2.00"), None, True, moment)] + [("unknown", D("0.10"), 2.0, False, since)] * 2


def test_inner_counts_or_quarantines_rows_that_find_nothing(project):
    shop = Shop(project, [TABLE, sale(JOIN % "")], SALES, PRODUCTS).run()
    counts = shop.counts("silver.sale")
    assert [row[0] for row in shop.rows("silver.sale", "id")] == [1, 2]
    assert (counts["in"], counts["out"], counts["dropped"], counts["rejected"]) == (4, 2, 2, {"unmatched": 2})


def test_unmatched_rows_in_quarantine_say_why(project):
    shop = Shop(project, [TABLE, sale(JOIN % 'unmatched = "quarantine"')], SALES, PRODUCTS).run()
    rejected = lake.by_deltalake(project.root / "lake/quarantine/silver/sale").to_pylist()
    assert [(row["id"], row["item"], row["_reasons"]) for row in rejected] == [
        (3, "zz", [{"expectation": "unmatched", "error": "silver.product has no row of this key"}]), (4, None, rejected[0]["_reasons"])]
    assert shop.counts("silver.sale")["quarantined"] == 2


def test_the_newest_by_time_answers(project):
    products = [PRODUCTS[0], {**PRODUCTS[0], "category": "new", "updated_at": at("11:00:00")}, {**PRODUCTS[0], "category": "old", "updated_at": at("10:30:00")},
                {**PRODUCTS[1], "category": "first"}, {**PRODUCTS[1], "category": "last to come"}]
    shop = Shop(project, [TABLE, sale()], SALES, products).run()
    assert [row[0] for row in shop.rows("silver.sale", "category")] == ["new", "last to come", None, None]


def test_without_a_map_the_left_columns_pass(project):
    shop = Shop(project, [TABLE, sale(JOIN % "", "")], SALES, PRODUCTS).run()
    assert shop.rows("silver.sale", "id", "item") == [(1, "a"), (2, "b")]
    assert lake.by_deltalake(project.root / "lake/silver/sale").schema.names == list(SALE)


def test_a_model_and_a_key_of_two_columns(project):
    """What a model says of a group when the row comes: models are read in the order of the rows."""
    totals = 'return model "gold.seen" { from = "bronze.product", by = { "sku", "gone" }, measures = { n = count(), dearest = max "price" }, into = none }'
    keyed = 'return stream "silver.flagged" { from = "bronze.sale", columns = { flag = "bool" }, map = function(e, out) out.flag = e.shop == 1 end, into = none }'
    rule = 'return stream "silver.sale" { from = "silver.flagged", join = { seen = lookup "gold.seen" { on = { "gone", "item" }, kind = "left" } } }'
    joined = rule.replace('{ "gone", "item" }', '{ flag = "gone", item = "sku" }').replace(
        "} } }", '} }, columns = { n = "int64" }, map = function(e, out, j) out.n = j.seen and j.seen.n end }')
    products = [{"sku": "a", "gone": flag} for flag in (True, False, True, True)] + [{"sku": "b", "gone": False}]
    sales = [{"id": 1, "item": "a", "shop": 1}, {"id": 2, "item": "a", "shop": 2}, {"id": 3, "item": "b", "shop": 1}, {"id": 4, "item": "b", "shop": 3}]
    shop = Shop(project, [totals, keyed, joined], sales, products).run()
    assert shop.rows("silver.sale", "id", "n") == [(1, 3), (2, 1), (3, None), (4, 1)]


def test_several_lookups_and_dedup(project):
    join = JOIN % 'kind = "left"' + ', second = lookup "silver.product" { on = { item = "sku" } }'
    body = 'time = { field = "at" }, dedup = { by = "item", within = "1h" }, columns = { both = "string" }, ' \
        'map = function(e, out, j) out.both = j.product.category .. "/" .. j.second.category end'
    sales = [{"id": n, "item": item, "at": at(f"10:00:0{n}")} for n, item in enumerate(["zz", "a", "zz", "a"])]
    shop = Shop(project, [TABLE, sale(join, body)], sales, PRODUCTS).run()
    assert shop.rows("silver.sale", "id", "both") == [(1, "fruit/fruit")]
    counts = shop.counts("silver.sale")  # a row that found nothing is not remembered by dedup
    assert (counts["duplicates"], counts["dropped"]) == (1, 2)


def test_what_is_looked_up_is_read_first(project):
    """However much of it there is, and however little of the rows that ask."""
    products = [{"sku": str(n), "category": "x" * 50, "updated_at": at("10:00:00")} for n in range(60_000)]
    sales = [{"id": n, "item": str(59_999 - n)} for n in range(100)]
    shop = Shop(project, [TABLE, sale(JOIN % "")], sales, products).run()
    assert shop.counts("silver.sale")["out"] == 100


@pytest.mark.parametrize("rule, message, where", [
    (sale(JOIN.replace("silver.product", "silver.prodct") % ""), "no dataset is called `silver.prodct`", "lookup"),
    (sale(JOIN.replace("silver.product", "bronze.product") % ""), "is a source: its rows have no key", "lookup"),
    (sale(JOIN.replace('"sku"', '"category"') % ""), "found by its key, `sku`, not by `category`", '"category"'),
    (sale(JOIN.replace("item", "shop") % ""), "they are never equal", '"sku"'),
    (sale(JOIN.replace("item", "itm") % ""), "no column `itm`", '"sku"'),
    (sale(JOIN % 'kind = "full"'), 'a lookup is not "full"', '"full"'),
    (sale(JOIN % 'kind = "left", default = { colour = "red" }'), "silver.product has no column `colour`", "colour"),
    (sale(JOIN % 'kind = "left", default = { price = true }'), "its default cannot be this", "true"),
    (sale(JOIN % 'default = { price = 1 }'), "rows that find nothing leave", "default"),
    (sale(JOIN % 'unmatched = "fail"'), 'rows that find nothing are not "fail"', '"fail"'),
    (sale(JOIN % "ttl = 1"), "has no option `ttl`", "ttl"),
    (sale(body=MAP.replace("j.product.price", "j.product.prise")), "silver.product has no column `prise`", "prise"),
    (sale(body=MAP.replace("j.product.price", "j.prod.price")), "joins nothing called `prod`", "prod.price"),
    (sale(JOIN.replace("silver.product", "silver.sale") % ""), "looks its own rows up", "lookup"),
    (sale('"x"'), "join names what it finds", '"x"'),
])
def test_refused(project, rule, message, where):
    Shop(project, [TABLE, rule])
    outcome = project.weir("check", "pipelines/p.lua")
    assert outcome.code == 1 and message in outcome.err + outcome.out, outcome
    assert f"{place(rule, where, 'rules/r1.lua')}: error: " in outcome.err + outcome.out, outcome


SALES_A_ROUND = 4_000


def many(shop, rounds=30):
    """Products that change, and sales that ask for them, side by side."""
    for n in range(rounds):
        shop.feed("product", [{"sku": str(k), "category": f"{n}", "price": f"{n}.25", "updated_at": at(f"10:{n:02}:00")} for k in range(n % 7, 400, 7)], f"{n:03}.jsonl")
        shop.feed("sale", [{"id": n * SALES_A_ROUND + k, "item": str(k % 500)} for k in range(SALES_A_ROUND)], f"{n:03}.jsonl")


def test_replay_agrees_epoch_by_epoch(project):
    shop = Shop(project, [TABLE, sale()])
    many(shop)
    shop.run()
    replay = project.weir("replay", "pipelines/p.lua", "--epoch", str(shop.summary["epochs"]))
    assert replay.code == 0 and "the same outputs and state" in replay.out, replay
    for epoch in range(1, shop.summary["epochs"]):
        outcome = project.weir("replay", "pipelines/p.lua", "--epoch", str(epoch))
        gone = "is gone" in outcome.err  # no snapshot before it is kept, and records below the oldest are trimmed
        assert gone or outcome.code == 0, outcome


# Several epochs and a snapshot on any machine: a fast one would read all of it in one.
SLOW_MAP = MAP.replace("function(e, out, j) ", "function(e, out, j) local x = 0 for i = 1, 2500 do x = x + i end ")


@pytest.mark.parametrize("point, hit", [("epoch_collected", 2), ("ledger_after_sync", 3), ("snapshot_after_publish", 1), ("ledger_torn_write", 4)])
def test_killed_and_started_again_finds_the_same(new_project, point, hit):
    tables = []
    for name in ("undisturbed", "killed"):
        shop = Shop(new_project(name), [TABLE, sale(body=SLOW_MAP)])
        many(shop)
        if name == "killed":
            outcome = shop.project.weir("run", "pipelines/p.lua", "--until-end", env={"WEIR_FAULT": f"{point}:{hit}:kill"})
            assert outcome.code == -signal.SIGKILL, outcome
        shop.run()
        tables.append(sorted(shop.rows("silver.sale", "id", "category", "price")))
    assert len(tables[0]) == 30 * SALES_A_ROUND and tables[0] == tables[1]


def test_a_rule_that_changes_keeps_what_was_remembered(project):
    shop = Shop(project, [TABLE, sale()], [{"id": 1, "item": "a"}], PRODUCTS)
    process = project.start("run", "pipelines/p.lua")
    try:
        wait_for(lambda: shop.rows("silver.sale", "category"), [("fruit",)])
        project.write("rules/r1.lua", sale().replace("j.product.category, ", 'j.product.category .. "!", '))
        time.sleep(0.1)
        wait_for(lambda: process.poll() is None and "rule_set" in project.weir("status", "pipelines/p.lua", "--json").out, True)
        deadline = time.monotonic() + 60
        number = 2
        while ("fruit!",) not in shop.rows("silver.sale", "category"):
            assert time.monotonic() < deadline
            shop.feed("sale", [{"id": number, "item": "a"}], f"b{number}.jsonl")
            number += 1
            time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0


def wait_for(what, wanted, timeout=60):
    deadline = time.monotonic() + timeout
    while True:
        try:
            got = what()
        except Exception as error:  # the table is not there yet
            got = error
        if got == wanted:
            return
        assert time.monotonic() < deadline, got
        time.sleep(0.05)
