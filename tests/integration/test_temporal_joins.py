"""temporal_join: each row beside the version valid at its time, judged by DuckDB; and that a crash changes nothing of it."""

import json
import random
import signal

import duckdb
import pytest

import lake
from joins import assert_join_refused, clock, crash_tests, crash_world, row
from language import World, at, schema
from live import wait_until

COLUMNS = {"id": "long!", "side": "string", "key": "string", "n": "int", "at": "timestamp", "asked": "timestamp"}
SIDES = """return {
  stream "silver.l" { from = "bronze.row", time = { field = "at", out_of_order = "@OOO@" }, where = function(e) return e.side == "l" end },
  stream "silver.v" { from = "bronze.row", time = { field = "at", out_of_order = "@OOO@" }, where = function(e) return e.side == "v" end, key = "key" },
}"""
KEEP = 'columns = { other = "int64" }, map = function(e, out, j) out.other = j.x and j.x.id end, keep = { "id", "key" }'


def sides(out_of_order="1m"):
    return SIDES.replace("@OOO@", out_of_order)


def joined(options="", body=KEEP, name="silver.j"):
    return f'return stream "{name}" {{ from = "silver.l", join = {{ x = temporal_join "silver.v" {{ on = "key", {options} }} }}, {body} }}'


def random_rows(count, seed, keys="abcdefgh", versions=0.3):
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        second = i * 3600 // count + rng.randrange(60)
        asked = second + rng.randrange(-600, 60)
        rows.append(row(i + 1, "v" if rng.random() < versions else "l", rng.choice([None, *keys]), clock(second), n=rng.randrange(10),
                        asked=at(clock(asked)) if asked >= 0 else None))
    return rows


def one_by_one(world, rows):
    """A file a row, so that both sides see the rows of each other in this order."""
    for index, each in enumerate(rows):
        world.feed([each], f"{index:03d}.jsonl")
    return world.run()


# A version replaces another of its key and time.
VERSIONS = 'v AS (SELECT * FROM all_v WHERE key IS NOT NULL QUALIFY row_number() OVER (PARTITION BY key, "at" ORDER BY id DESC) = 1)'
JUDGED = {
    "inner": ("", f"WITH {VERSIONS} SELECT l.id, v.id FROM l ASOF JOIN v ON l.key = v.key AND l.at >= v.at"),
    "left": ('kind = "left"', f"WITH {VERSIONS} SELECT l.id, v.id FROM l ASOF LEFT JOIN v ON l.key = v.key AND l.at >= v.at"),
    "as of a column": ('kind = "left", as_of = "asked", allowed_lateness = "1h"',
                       f"WITH {VERSIONS} SELECT l.id, v.id FROM l ASOF LEFT JOIN v ON l.key = v.key AND l.asked >= v.at"),
    "waiting for a while": ('kind = "left", wait = "2h"', f"WITH {VERSIONS} SELECT l.id, v.id FROM l ASOF LEFT JOIN v ON l.key = v.key AND l.at >= v.at"),
}


def judge(world, sql):
    database = duckdb.connect()
    database.register("l", world.table("silver.l"))
    database.register("all_v", world.table("silver.v"))
    return sorted(database.sql(sql).fetchall(), key=repr)


@pytest.mark.parametrize("case", JUDGED)
def test_a_row_meets_the_version_duckdb_finds(project, case):
    options, sql = JUDGED[case]
    world = World(project, COLUMNS, [sides(), joined(options)], random_rows(3000, 5)).run()
    want = judge(world, sql)
    assert sorted(world.rows("silver.j", "id", "other"), key=repr) == want and len(want) > 1000
    counts = world.counts("silver.j")
    assert counts["late"] == 0 and counts["out"] == len(want)
    assert counts["unmatched"] == (len(world.rows("silver.l", "id")) - len(want) if case == "inner" else 0)


def test_a_version_holds_from_its_time_on_until_the_next(project):
    rows = [row(1, "v", "a", "10:00:00"), row(2, "v", "a", "10:10:00"), row(3, "v", "a", "10:10:00"), row(4, "v", "b", "10:00:00")]
    rows += [row(11, "l", "a", "09:59:59"), row(12, "l", "a", "10:00:00"), row(13, "l", "a", "10:09:59"), row(14, "l", "a", "10:10:00"),
             row(15, "l", None, "10:11:00"), row(16, "l", "zz", "10:11:00")]
    world = World(project, COLUMNS, [sides("1h"), joined('kind = "left"')], rows).run()
    assert sorted(world.rows("silver.j", "id", "other")) == [(11, None), (12, 1), (13, 1), (14, 3), (15, None), (16, None)]


def test_rows_without_a_version_are_counted_or_go_to_quarantine(project):
    rows = [row(1, "v", "a", "10:00:00"), row(2, "l", "a", "10:00:01"), row(3, "l", "b", "10:00:02", n=7)]
    world = World(project, COLUMNS, [sides(), joined(), joined('unmatched = "quarantine"', name="silver.q")], rows).run()
    assert world.rows("silver.j", "id", "other") == world.rows("silver.q", "id", "other") == [(2, 1)]
    assert world.counts("silver.j")["unmatched"] == 1
    assert world.rejected("silver.q", "id", "key", "n") == [(3, "b", 7, ["unmatched"])]
    assert world.reasons("silver.q")[0]["error"] == "silver.v had no version of this key at that time"


@pytest.mark.parametrize("kind", ["inner", "left"])
def test_a_version_the_condition_does_not_hold_for_is_none(project, kind):
    condition = f'kind = "{kind}", where = function(e, j) if e.n == 9 then error("nine", 0) end return (e.n + j.x.n) % 2 == 0 end'
    body = 'columns = { other = "int64" }, map = function(e, out, j) out.other = j.x and j.x.id copy(out, j.x) end, keep = { "id", "key" }'
    rules = [sides().replace('key = "key" }', 'key = "key", columns = { vn = "int32" }, map = function(e, out) out.vn = e.n end }'), joined(condition, body)]
    world = World(project, COLUMNS, rules, random_rows(2000, 6)).run()
    want = judge(world, f"""WITH {VERSIONS}, m AS (SELECT l.id, l.n, v.id AS vid, v.n AS vn FROM l ASOF LEFT JOIN v ON l.key = v.key AND l.at >= v.at)
        SELECT id, CASE WHEN (n + vn) % 2 = 0 THEN vid END AS other, CASE WHEN (n + vn) % 2 = 0 THEN vn END FROM m
        WHERE (n <> 9 OR vid IS NULL) AND ({kind == "left"} OR (n + vn) % 2 = 0)""")
    assert sorted(world.rows("silver.j", "id", "other", "vn"), key=repr) == want and len(want) > 300
    assert {reason["error"] for reason in world.reasons("silver.j")} == {"nine"}


def test_a_late_version_holds_for_the_rows_that_have_not_left(project):
    rows = [row(1, "v", "a", "10:00:00"), row(2, "l", "a", "10:01:00"), row(3, "l", "a", "10:03:00"), row(4, "v", "b", "10:02:00"),
            row(5, "v", "a", "10:00:30"), row(6, "l", "a", "10:01:30"), row(7, "v", "b", "10:05:00")]
    world = one_by_one(World(project, COLUMNS, [sides("0s"), joined()]), rows)
    assert sorted(world.rows("silver.j", "id", "other")) == [(2, 1), (3, 5), (6, 5)]
    assert world.counts("silver.j")["late"] == 2  # the rows of both sides move both watermarks


def test_a_row_too_late_for_the_versions_kept_goes_to_the_dataset_named(project):
    rows = [row(1, "v", "a", "10:00:00"), row(2, "v", "a", "10:10:00"), row(3, "l", "a", "10:20:00"), row(4, "l", "a", "10:09:00"),
            row(5, "l", "a", "10:04:59"), row(6, "l", "a", "10:05:00"), row(7, "v", "a", "10:30:00")]
    world = World(project, COLUMNS, [sides("0s"), joined('kind = "left", allowed_lateness = "15m"', KEEP + ', late = "quarantine.late"'), joined(name="silver.k")])
    one_by_one(world, rows)
    assert sorted(world.rows("silver.j", "id", "other")) == [(3, 2), (4, 1), (6, 1)]
    assert world.rows("quarantine.late", "id") == [5] and world.counts("silver.j")["late"] == 1
    assert sorted(world.rows("silver.k", "id", "other")) == [(3, 2), (4, 1), (5, 1), (6, 1)]


def test_copy_adds_the_columns_the_left_side_does_not_have(project):
    right = """stream "silver.v" { from = "bronze.row", time = { field = "at" }, where = function(e) return e.side == "v" end, key = "key",
      columns = { vid = "int64", label = "string" }, map = function(e, out) out.vid, out.label = e.id, "version " .. e.id end, drop = { "id", "side" } }"""
    rules = [f'return {{ stream "silver.l" {{ from = "bronze.row", time = {{ field = "at" }}, where = function(e) return e.side == "l" end, keep = {{ "id", "key", "at" }} }}, {right} }}',
             joined("", "map = function(e, out, j) copy(out, j.x) end")]
    world = World(project, COLUMNS, rules, [row(1, "v", "a", "10:00:00", n=4), row(2, "l", "a", "10:00:05")]).run()
    assert world.table("silver.j").schema.names == ["id", "key", "at", "n", "asked", "vid", "label"]
    assert world.rows("silver.j", "id", "n", "vid", "label") == [(2, 4, 1, "version 1")]


def test_windows_over_a_temporal_join_count_every_row(project):
    count = """return model "gold.c" { from = "silver.j", by = { "key" }, window = tumbling "1m", measures = { rows = count(), sum = sum "n" } }"""
    body = 'columns = { n = "int32" }, map = function(e, out, j) out.n = j.x and j.x.n end, keep = { "id", "key", "at" }'
    world = World(project, COLUMNS, [sides(), joined('kind = "left"', body), count], random_rows(3000, 8)).run()
    want = judge(world, f"""WITH {VERSIONS} SELECT l.key, date_trunc('minute', l.at AT TIME ZONE 'UTC') AS m, count(*), sum(v.n)::bigint
        FROM l ASOF LEFT JOIN v ON l.key = v.key AND l.at >= v.at GROUP BY ALL""")
    got = [(key, start.replace(tzinfo=None), rows, total) for key, start, rows, total in world.rows("gold.c", "key", "window_start", "rows", "sum")]
    assert world.counts("gold.c")["late"] == 0 and sorted(got, key=repr) == want


# --- tables that change -------------------------------------------------------------------------

PIPELINE = """return pipeline "p" {
  rules = "rules", storage = delta { root = "lake" }, commit = { every = "20ms" },
  sources = {
    source "bronze.sale" { files { path = "landing/sale/*.jsonl" }, json { schema = "schemas/sale.avsc" }, into = none },
    source "bronze.price" { files { path = "landing/price/*.jsonl" }, json { schema = "schemas/price.avsc" }, into = none },
  },
}
"""
TABLE = """return { stream "silver.price" { from = "bronze.price", key = "sku", time = { field = "at", out_of_order = "1m" }, into = none },
  stream "silver.timed" { from = "bronze.sale", time = { field = "at", out_of_order = "1m" }, into = none } }"""
SALE = """return stream "silver.sale" { from = "silver.timed", join = { p = temporal_join "silver.price" { kind = "left" } },
  columns = { price = "int64" }, map = function(e, out, j) out.price = j.p and j.p.price end }"""


def shop(project, sales, prices):
    project.write("schemas/sale.avsc", schema({"id": "long!", "sku": "string", "at": "timestamp"}))
    project.write("schemas/price.avsc", schema({"sku": "string", "price": "long", "at": "timestamp", "_change": "int"}))
    project.write("pipelines/p.lua", PIPELINE)
    project.write("rules/table.lua", TABLE)
    project.write("rules/sale.lua", SALE)
    project.write("landing/sale/a.jsonl", "".join(json.dumps(line) + "\n" for line in sales))
    project.write("landing/price/a.jsonl", "".join(json.dumps(line) + "\n" for line in prices))
    summary = project.run("pipelines/p.lua")
    return dict(lake.rows_of(lake.by_deltalake(project.root / "lake/silver/sale"), ("id", "price"))), summary["datasets"]["silver.sale"]


def sale(id, sku, time):
    return {"id": id, "sku": sku, "at": at(time)}


def price(sku, value, time, change=0):
    return {"sku": sku, "price": value, "at": time and at(time), "_change": change}


def test_versions_are_read_first_in_whatever_order_they_come(project):
    """As a database's snapshot comes: by key, not by time. None of them is late for a row."""
    prices = [price(f"s{n}", n * 1000 + second // 60, clock(second)) for n in range(200) for second in random.Random(n).sample(range(0, 7200, 60), 20)]
    sales = [sale(n, f"s{n % 200}", clock(n % 7200)) for n in range(4000)]
    sales.sort(key=lambda line: line["at"])
    found, counts = shop(project, sales, prices)
    by_sku = {}
    for line in prices:
        by_sku.setdefault(line["sku"], []).append((line["at"], line["price"]))
    for line in sales:
        held = [entry for entry in by_sku[line["sku"]] if entry[0] <= line["at"]]
        assert found[line["id"]] == (max(held)[1] if held else None)
    assert len(found) == 4000


def test_a_delete_ends_a_version(project):
    """One with a time of its own then; a database's old row, or its key alone, when it is read."""
    prices = [price("own", 1, "10:00:00"), price("old row", 2, "10:00:00"), price("key", 3, "10:00:00"), price("own", None, "10:30:00", 3),
              price("clock", 0, "10:41:00"), price("old row", 2, "10:00:00", 3), price("key", None, None, 3), price("never", None, None, 3),
              price("old row", 5, "11:00:00"), price("own", 6, "11:00:00", 2), price("own", 1, "10:00:00", 1), price("own", 7, "11:10:00", 2)]
    times = ["10:00:00", "10:29:59", "10:30:00", "10:39:59", "10:40:00", "11:00:00", "11:10:00"]
    sales = [sale(i * 10 + k, sku, time) for i, time in enumerate(times) for k, sku in enumerate(("own", "old row", "key", "never"))]
    found, _ = shop(project, sales, prices)
    got = [[found[i * 10 + k] for i in range(len(times))] for k in range(4)]
    assert got == [[1, 1, None, None, None, 6, 7], [2, 2, 2, 2, None, 5, 5], [3, 3, 3, 3, None, None, None], [None] * 7]


# --- refusals -----------------------------------------------------------------------------------

REFUSED = {
    "a dataset without a key": ('temporal_join "silver.l" { on = "key" }', "temporal_join", ["`silver.l` has no versions", 'give it key = "…"']),
    "a source": ('temporal_join "bronze.row" { on = "key" }', "temporal_join", ["a source has no key", 'from = "bronze.row"']),
    "not the key": ('temporal_join "silver.v" { on = "side" }', '"side"', ["the key of `silver.v` has `key`, too"]),
    "more than the key": ('temporal_join "silver.v" { on = { "key", "side" } }', '{ "key"', ["`silver.v` has one row at a time for each key, not for each `side`"]),
    "a kind there is not": ('temporal_join "silver.v" { kind = "full" }', '"full"', ['no kind of temporal_join is called "full"']),
    "a time that is none": ('temporal_join "silver.v" { as_of = "n" }', '"n"', ["versions are asked for by a time; `n` is int32"]),
    "an end there is not": ('temporal_join "silver.v" { unmatched = "fail" }', '"fail"', ['rows that find nothing are not "fail"']),
    "quarantine of a left join": ('temporal_join "silver.v" { kind = "left", unmatched = "drop" }', "unmatched", ["rows that find nothing stay"]),
    "bounds": ('temporal_join "silver.v" { between = { "0s", "1s" } }', "between", ["no option `between`"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_joined_is_refused_at_its_place(project, case):
    assert_join_refused(project, COLUMNS, sides(), REFUSED[case])


def test_explain_says_what_is_joined_and_how_long_it_waits(project):
    World(project, COLUMNS, [sides(), joined('kind = "left", as_of = "asked", wait = "30s"')])
    text = project.weir("explain", "silver.j").out
    assert "x: left temporal_join of silver.v on key, the version of column asked, waiting for it 30s" in text


def test_what_is_kept_can_be_read(project):
    rows = [row(1, "v", "a", "10:00:00", n=4), row(2, "v", "b", "10:00:00"), row(3, "l", "a", "10:00:01")]
    World(project, COLUMNS, [sides("1h"), joined(body='columns = { n = "int32" }, map = function(e, out, j) out.n = j.x.n end, keep = { "id" }')], rows,
          options='\n  commit = { every = "20ms" },')
    process = project.start("run", "pipelines/p.lua")

    def entries(name):
        done = project.weir("state", "export", name)
        lines = [json.loads(line) for line in done.out.splitlines()] if done.code == 0 else []
        return [(entry["key"], entry["value"]) for entry in lines]
    try:
        wait_until(lambda: len(entries("silver.j/versions")) == 2 and len(entries("silver.j/left")) == 1)
        [(key, value)] = [entry for entry in entries("silver.j/versions") if entry[0]["key"] == "a"]
        assert key["_from"].startswith("2026-01-05T10:00:00") and value == {"n": 4}
        [(key, value)] = entries("silver.j/left")
        assert key["key"] == "a" and value["id"] == 3 and value["_time"].startswith("2026-01-05T10:00:01")
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def test_a_reload_keeps_versions_and_refuses_another_join(project):
    body = 'columns = { other = "int64", version = "int32" }, map = function(e, out, j) out.other, out.version = j.x.id, @VERSION@ end, keep = { "id" }'
    rule = joined('wait = "0s"', body)
    world = World(project, COLUMNS, [sides("0s"), rule.replace("@VERSION@", "1")], [row(1, "v", "a", "10:00:00")], options='\n  commit = { every = "20ms" },')
    process = project.start("run", "pipelines/p.lua")
    number = 1

    def met():
        return sorted(world.rows("silver.j", "id", "other", "version")) if (project.root / "lake/silver/j/_delta_log").exists() else []

    def live(version):
        nonlocal number
        number += 1
        world.feed([row(number, "l", "a", clock(number))], f"b{number:05d}.jsonl")
        return any(found == version for _, _, found in met())
    try:
        wait_until(lambda: live(1))
        project.write("rules/r1.lua", rule.replace("@VERSION@", "2"))
        wait_until(lambda: live(2))
        project.write("rules/r1.lua", rule.replace("@VERSION@", "3").replace('"0s"', '"1s"'))
        wait_until(lambda: "silver.j: its join `" in (project.weir("status", "pipelines/p.lua", "--json").json()["note"] or ""))
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert {other for _, other, _ in met()} == {1}


# --- crashes ------------------------------------------------------------------------------------

def crashing(project):
    rules = [joined("", KEEP, "silver.inner"), joined('kind = "left", wait = "10m"', KEEP, "silver.left"), joined('kind = "left", as_of = "asked"', KEEP, "silver.asked")]
    return crash_world(project, COLUMNS, sides("1m"), rules, random_rows(12000, 21, [f"key {i}" for i in range(300)]))


def meets_none(summary):
    assert summary["datasets"]["silver.inner"]["unmatched"] > 0


undisturbed, test_killed_and_started_again_it_joins_the_same = crash_tests(crashing, ("silver/inner", "silver/left", "silver/asked"), meets_none)
