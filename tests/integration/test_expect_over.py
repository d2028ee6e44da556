"""`expect_over` of quality files: what must hold of a dataset over windows, and how far it may be behind the clock. Python counts the same windows."""

import collections
import datetime
import random
import time

import pytest

from language import World, at

COLUMNS = {"id": "int!", "store": "int!", "loyalty": "string", "at": "timestamp"}
STREAM = 'return stream "silver.sale" { from = "bronze.row", time = { field = "at", out_of_order = "5m" }, into = none }'
START = datetime.datetime(2026, 1, 5, 10, tzinfo=datetime.timezone.utc)


def quality(*entries):
    return 'return quality "silver.sale" {\n  ' + ",\n  ".join(entries) + ",\n}\n"


def drawn(count, seed="quality"):
    draw = random.Random(seed)
    clock, rows = 0, []
    for index in range(count):
        clock += draw.randrange(40)
        share = 0.15 if clock // 300 % 3 else 0.6
        moment = START + datetime.timedelta(seconds=clock - draw.randrange(60))
        rows.append({"id": index, "store": draw.randrange(3), "loyalty": None if draw.random() < share else "L1", "at": moment.isoformat().replace("+00:00", "Z")})
    return rows


def by_window(rows, *keys):
    windows = collections.defaultdict(list)
    for row in rows:
        moment = datetime.datetime.fromisoformat(row["at"])
        windows[(*(row[key] for key in keys), moment - datetime.timedelta(seconds=(moment - START).total_seconds() % 300))].append(row)
    return windows


def test_windows_with_too_many_nulls_are_rows_of_a_dataset(project):
    rows = drawn(600)
    rule = quality('expect_over "few null loyalty ids" { tumbling "5m", max_null_ratio("loyalty", 0.40), alert = "teams:retail-data" }')
    world = World(project, COLUMNS, [STREAM, rule], rows).run()
    wanted = {}
    for (start,), window in by_window(rows).items():
        nulls = sum(row["loyalty"] is None for row in window)
        if nulls / len(window) > 0.4:
            wanted[start] = (len(window), len(window) - nulls, nulls / len(window), "teams:retail-data")
    name = "quality.silver.sale.few_null_loyalty_ids"
    found = {start: rest for start, *rest in world.rows(name, "window_start", "rows", "loyalty_present", "loyalty_null_ratio", "alert")}
    assert {start: tuple(rest) for start, rest in found.items()} == wanted and len(wanted) > 5
    assert world.summary["datasets"][name]["warned"] == {"few null loyalty ids": len(wanted)}
    assert world.summary["datasets"]["silver.sale"]["out"] == len(rows) # nothing is held back


def test_groups_and_functions_of_measures_are_judged_too(project):
    rows = drawn(500)
    rule = quality('expect "has an id" { not_null "id" }',
                   'expect_over "each store sells" { tumbling "5m", by = "store", where = function(e) return e.loyalty ~= nil end,\n'
                   '    measures = { n = count(), top = max "id" }, function(m) return m.n >= 3 end, function(m) return m.top % 2 == 0 end }')
    world = World(project, COLUMNS, [STREAM, rule], rows).run()
    wanted = {(store, start, len(window), max(row["id"] for row in window))
              for (store, start), window in by_window([row for row in rows if row["loyalty"]], "store").items()
              if len(window) < 3 or max(row["id"] for row in window) % 2 == 1}
    assert set(world.rows("quality.silver.sale.each_store_sells", "store", "window_start", "n", "top")) == wanted and len(wanted) > 20


def test_one_that_stops_the_run(project):
    rows = [{"id": 1, "store": 1, "loyalty": None, "at": at("10:00:00")}]
    rule = quality('expect_over "nulls" { tumbling "5m", max_null_ratio("loyalty", 0.5), on_violation = "fail" }')
    World(project, COLUMNS, [STREAM, rule], rows)
    outcome = project.weir("run", "pipelines/p.lua", "--until-end")
    assert outcome.code == 1 and "nulls" in outcome.err and "quality.silver.sale.nulls" in outcome.err, outcome


FRESH = quality('expect_over "fresh" { max_lag "2m", alert = "teams:on-call" }')
SPEC = """local testing = require "weir.testing"
describe("fresh", function()
  it("tells once that nothing comes, and again when that happens again", function()
    local watch = testing.load("quality.silver.sale.fresh.watch", { upstream = true })
    local row = testing.record { id = 1, store = 1, at = "2126-01-05T10:00:00Z" }
    local first = { newest = "2126-01-05T10:00:00Z", known = "2126-01-05T10:02:00Z", alert = "teams:on-call" }
    local second = { newest = "2126-01-05T10:04:00Z", known = "2126-01-05T10:06:00Z", alert = "teams:on-call" }
    watch:feed(row {})
    watch:clock "+1m"
    watch:feed(row { _at = "-30s" })
    assert.same({}, watch:emitted())
    watch:clock "+2m"
    assert.same({ first }, watch:emitted())
    watch:feed(row { _at = "+1s" })
    watch:clock "+1m"
    assert.same({ first }, watch:emitted())
    watch:feed(row { _at = "+3m" }, row { _at = "+4m" })
    watch:clock "+119s"
    assert.same({ first }, watch:emitted())
    watch:clock "+1m"
    assert.same({ first, second }, watch:emitted())
  end)
end)
"""


def test_a_dataset_behind_the_clock_is_told_once(project):
    World(project, COLUMNS, [STREAM, FRESH])
    project.write("spec/fresh_spec.lua", SPEC)
    outcome = project.weir("test")
    assert outcome.code == 0, outcome


def test_a_pipeline_that_hears_nothing_tells_so_by_the_clock(project):
    now = datetime.datetime.now(datetime.timezone.utc)
    row = {"id": 1, "store": 1, "loyalty": None, "at": now.isoformat().replace("+00:00", "Z")}
    world = World(project, COLUMNS, [STREAM, FRESH.replace('"2m"', '"1s"')], [row])
    process = project.start("run", "pipelines/p.lua", "--json", "--set", "commit.every=20ms")
    try:
        deadline = time.monotonic() + 60
        while not any((project.root / "lake").glob("quality/silver/sale/fresh/_delta_log/*[1-9].json")):
            assert time.monotonic() < deadline and process.poll() is None, process.communicate()
            time.sleep(0.05)
    finally:
        process.kill()
        process.communicate()
    assert world.rows("quality.silver.sale.fresh", "newest", "known", "alert") == [(now, now + datetime.timedelta(seconds=1), "teams:on-call")]


@pytest.mark.parametrize("entry, texts", [
    ('expect_over "x" { max_null_ratio("loyalty", 0.4) }', ["does not say over what"]),
    ('expect_over "x" { tumbling "5m" }', ["says nothing to hold"]),
    ('expect_over "x" { tumbling "5m", max_lag "2m" }', ["an expect_over of its own"]),
    ('expect_over "x" { max_lag() }', ["max_lag takes a duration"]),
    ('expect_over "x" { max_lag "2m", on_violation = "fail" }', ["no reason to stop"]),
    ('expect_over "x" { tumbling "5m", max_null_ratio("loyalty", 40) }', ["how many of its values may be null"]),
    ('expect_over "x" { tumbling "5m", max_null_ratio("loyalti", 0.4) }', ["has no column `loyalti`", "loyalty"]),
    ('expect_over "x" { tumbling "5m", max_null_ratio("loyalty", 0.4), on_violation = "quarantine" }', ["have left when it is judged"]),
    ('expect_over "x" { tumbling "5m", max_null_ratio("loyalty", 0.4), alarm = "a" }', ["has no option `alarm`", "alert"]),
    ('expect_over "x" { sliding "5m", max_null_ratio("loyalty", 0.4) }', ["sliding windows is not built yet"]),
    ('expect_over "x" { max_lag "1m" },\n  expect_over "X" { max_lag "2m" }', ["declared twice"]),
])
def test_what_is_wrong_is_said_at_its_place(project, entry, texts):
    world = World(project, COLUMNS, [STREAM, quality(entry)])
    outcome = world.check()
    said = outcome.out + outcome.err
    assert outcome.code == 1 and "rules/r1.lua:" in said and all(text in said for text in texts), outcome
