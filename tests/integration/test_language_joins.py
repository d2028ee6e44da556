"""interval_join: what meets, what stays alone, what is late, judged by DuckDB; and that a crash changes nothing of it."""

import random
import signal

import duckdb
import pytest

import crash
import lake
from joins import assert_join_refused, clock, crash_tests, crash_world, row
from language import World, assert_refused, at, moment, place
from live import wait_until

COLUMNS = {"id": "long!", "side": "string", "key": "string", "n": "int", "at": "timestamp", "until": "timestamp"}
SIDES = """return {
  stream "silver.l" { from = "bronze.row", time = { field = "at", out_of_order = "@OOO@" }, where = function(e) return e.side == "l" end },
  stream "silver.r" { from = "bronze.row", time = { field = "at", out_of_order = "@OOO@" }, where = function(e) return e.side == "r" end },
}"""
KEEP = 'columns = { other = "int64" }, map = function(e, out, j) out.other = j.x and j.x.id end, keep = { "id", "key" }'


def sides(out_of_order="1h"):
    return SIDES.replace("@OOO@", out_of_order)


def joined(options, body=KEEP, name="silver.j"):
    return f'return stream "{name}" {{ from = "silver.l", join = {{ x = interval_join "silver.r" {{ on = "key", {options} }} }}, {body} }}'


def random_rows(count, seed, keys="abcdefgh"):
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        second = i * 3600 // count + rng.randrange(60)
        until = second + rng.randrange(-20, 300)
        rows.append(row(i + 1, rng.choice("lr"), rng.choice([None, *keys]), clock(second), n=rng.randrange(10),
                        until=at(clock(until)) if until >= 0 and rng.random() < 0.9 else None))
    return rows


ON = "l.key = r.key AND r.at - l.at BETWEEN INTERVAL '-30 seconds' AND INTERVAL '90 seconds'"
BETWEEN = 'between = { "-30s", "90s" }'
JUDGED = {
    "inner": (BETWEEN, f"SELECT l.id, r.id FROM l JOIN r ON {ON}"),
    "left": (BETWEEN, f"SELECT l.id, r.id FROM l LEFT JOIN r ON {ON}"),
    "right": (BETWEEN, f"SELECT l.id, r.id FROM l RIGHT JOIN r ON {ON}"),
    "full": (BETWEEN, f"SELECT l.id, r.id FROM l FULL JOIN r ON {ON}"),
    "semi": (BETWEEN, f"SELECT l.id, NULL FROM l SEMI JOIN r ON {ON}"),
    "anti": (BETWEEN, f"SELECT l.id, NULL FROM l ANTI JOIN r ON {ON}"),
    "left where": (BETWEEN + ', kind = "left", where = function(e, j) return (e.n + j.x.n) % 3 == 0 end', f"SELECT l.id, r.id FROM l LEFT JOIN r ON {ON} AND (l.n + r.n) % 3 = 0"),
    "anti where": (BETWEEN + ', kind = "anti", where = function(e, j) return e.n > 4 end', f"SELECT l.id, NULL FROM l ANTI JOIN r ON {ON} AND l.n > 4"),
    "by column": ('between = { "-5s", "until" }', "SELECT l.id, r.id FROM l JOIN r ON l.key = r.key AND r.at >= l.at - INTERVAL 5 SECOND AND r.at <= l.until"),
    "full by column": ('between = { "0s", "until" }, kind = "full"', "SELECT l.id, r.id FROM l FULL JOIN r ON l.key = r.key AND r.at >= l.at AND r.at <= l.until"),
    "before": ('between = { "-10m", "-1m" }', "SELECT l.id, r.id FROM l JOIN r ON l.key = r.key AND l.at - r.at BETWEEN INTERVAL 1 MINUTE AND INTERVAL 10 MINUTE"),
}


@pytest.mark.parametrize("case", JUDGED)
def test_a_join_gives_what_duckdb_computes(project, case):
    options, sql = JUDGED[case]
    if "kind" not in options:
        options += f', kind = "{case if case in ("left", "right", "full", "semi", "anti") else "inner"}"'
    nothing = "semi" in options or "anti" in options
    body = 'keep = { "id", "key" }' if nothing else KEEP
    world = World(project, COLUMNS, [sides("1m"), joined(options, body)], random_rows(3000, 5)).run()
    database = duckdb.connect()
    for side in "lr":
        database.register(side, world.table(f"silver.{side}"))
    want = sorted(database.sql(sql).fetchall(), key=repr)
    got = sorted([(id, None) for id in world.rows("silver.j", "id")] if nothing else world.rows("silver.j", "id", "other"), key=repr)
    assert got == want and len(want) > 100
    counts = world.counts("silver.j")
    assert counts["late"] == 0 and counts["out"] == len(want)
    left = len(world.rows("silver.l", "id"))
    met = len({pair[0] for pair in want})
    assert counts["unmatched"] == (left - met if " kind" not in options or '"inner"' in options or '"semi"' in options else 0)


def test_the_first_rows_of_all_may_have_null_keys(project):
    rows = [row(1, "l", None, "10:00:00"), row(2, "r", None, "10:00:01"), row(3, "l", "a", "10:00:02"), row(4, "r", "a", "10:00:03")]
    world = World(project, COLUMNS, [sides(), joined(BETWEEN)])
    world.feed(rows[:2], "0.jsonl")
    world.feed(rows[2:], "1.jsonl")
    assert world.run().rows("silver.j", "id", "other") == [(3, 4)]


def test_null_keys_meet_nothing_and_leave_alone_when_their_time_is_over(project):
    rows = [row(1, "l", None, "10:00:00"), row(2, "r", None, "10:00:00"), row(3, "l", "a", "10:00:01")]
    world = World(project, COLUMNS, [sides(), joined('between = { "-1h", "1h" }, kind = "full"')], rows).run()
    assert sorted(world.rows("silver.j", "id", "key", "other"), key=repr) == [(1, None, None), (3, "a", None), (None, None, 2)]


def test_a_row_after_its_own_watermark_is_late_and_goes_to_the_dataset_named(project):
    rows = [row(1, "l", "a", "10:00:00"), row(2, "r", "a", "10:00:00"), row(3, "l", "a", "10:05:00"), row(4, "r", "a", "10:03:00"),
            row(5, "l", "a", "10:03:59"), row(6, "r", "a", "10:04:00")]
    options = 'between = { "-10m", "10m" }, late = "quarantine.late_r"'
    world = World(project, COLUMNS, [sides("1m"), joined(options, KEEP + ', late = "quarantine.late_l"')], rows).run()
    assert sorted(world.rows("silver.j", "id", "other")) == [(1, 2), (1, 6), (3, 2), (3, 6)]
    assert world.rows("quarantine.late_l", "id") == [5] and world.rows("quarantine.late_r", "id") == [4]
    assert world.counts("silver.j")["late"] == 2


def test_copy_adds_the_columns_the_left_side_does_not_have(project):
    left = 'stream "silver.l" { from = "bronze.row", time = { field = "at" }, where = function(e) return e.side == "l" end, keep = { "id", "key", "at" } }'
    right = """stream "silver.r" { from = "bronze.row", time = { field = "at" }, where = function(e) return e.side == "r" end,
      columns = { rid = "int64" }, map = function(e, out) out.rid = e.id end, keep = { "key", "n", "until" } }"""
    body = 'columns = { twice = "int32" }, map = function(e, out, j) copy(out, j.x) out.twice = j.x and j.x.n * 2 end'
    only = 'map = function(e, out, j) copy(out, j.x) end'
    rows = [row(1, "l", "a", "10:00:00"), row(2, "r", "a", "10:00:05", n=4, until=at("11:00:00")), row(3, "l", "b", "10:00:06")]
    world = World(project, COLUMNS, [f"return {{ {left}, {right} }}", joined('between = { "0s", "10s" }, kind = "left"', body),
                                     joined('between = { "0s", "10s" }, kind = "left"', only, "silver.k")], rows).run()
    assert world.table("silver.j").schema.names == ["id", "key", "at", "twice", "n", "until", "rid"]
    assert sorted(world.rows("silver.j", "id", "n", "until", "rid", "twice")) == [(1, 4, moment("11:00:00"), 2, 8), (3, None, None, None, None)]
    assert world.table("silver.k").schema.names == ["id", "key", "at", "n", "until", "rid"]
    assert sorted(world.rows("silver.k", "id", "n", "rid")) == [(1, 4, 2), (3, None, None)]


def test_what_map_and_expectations_refuse_goes_to_quarantine_as_the_left_row(project):
    body = """columns = { sum = "int32" }, map = function(e, out, j) if j.x.n == 3 then error("three", 0) end out.sum = e.n + j.x.n end,
      ensures = { expect "small" { between("sum", 0, 10) } }, keep = { "id" }"""
    rows = [row(1, "l", "a", "10:00:00", n=1), row(2, "r", "a", "10:00:00", n=3), row(3, "r", "a", "10:00:01", n=5), row(4, "r", "a", "10:00:02", n=50)]
    world = World(project, COLUMNS, [sides(), joined('between = { "0s", "10s" }', body)], rows).run()
    assert world.rows("silver.j", "id", "sum") == [(1, 6)]
    assert sorted(world.rejected("silver.j", "id", "key", "n")) == [(1, "a", 1, ["map"]), (1, "a", 1, ["small"])]


def test_a_condition_that_throws_rejects_the_pair(project):
    options = 'between = { "0s", "10s" }, kind = "left", where = function(e, j) if j.x.n == 3 then error("three", 0) end return j.x.n > 4 end'
    rows = [row(1, "l", "a", "10:00:00", n=1), row(2, "r", "a", "10:00:00", n=3), row(3, "r", "a", "10:00:01", n=5), row(4, "l", "b", "10:00:02")]
    world = World(project, COLUMNS, [sides(), joined(options)], rows).run()
    assert sorted(world.rows("silver.j", "id", "other")) == [(1, 3), (4, None)]
    assert world.rejected("silver.j", "id") == [(1, ["where"])]


def test_windows_over_a_join_count_every_pair(project):
    count = """return model "gold.c" { from = "silver.j", by = { "key" }, window = tumbling "1m", measures = { pairs = count(), alone = count { where = function(e) return e.other == nil end } } }"""
    body = 'columns = { other = "int64" }, map = function(e, out, j) out.other = j.x and j.x.id end, keep = { "id", "key", "at" }'
    world = World(project, COLUMNS, [sides("1m"), joined(BETWEEN + ', kind = "left"', body), count], random_rows(3000, 8)).run()
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    for side in "lr":
        database.register(side, world.table(f"silver.{side}"))
    want = database.sql(f"""SELECT l.key, date_trunc('minute', l.at), count(*), count(*) FILTER (r.id IS NULL)
        FROM l LEFT JOIN r ON {ON} GROUP BY ALL""").fetchall()
    got = world.rows("gold.c", "key", "window_start", "pairs", "alone")
    assert world.counts("gold.c")["late"] == 0
    assert sorted(map(lake.normal, map(list, got)), key=repr) == sorted(map(lake.normal, map(list, want)), key=repr)


def test_dedup_comes_before_the_join(project):
    body = KEEP + ', time = { field = "at", out_of_order = "1h" }, dedup = { by = "id", within = "1h" }'
    rows = [row(1, "l", "a", "10:00:00"), row(1, "l", "a", "10:00:00"), row(2, "r", "a", "10:00:00")]
    world = World(project, COLUMNS, [sides(), joined('between = { "0s", "10s" }', body)], rows).run()
    assert world.rows("silver.j", "id", "other") == [(1, 2)] and world.counts("silver.j")["duplicates"] == 1


REFUSED = {
    "a dataset nobody writes": ('interval_join "silver.q" { on = "key", between = { "0s", "1s" } }', "interval_join", ["no dataset is called `silver.q`"]),
    "no key": ('interval_join "silver.r" { between = { "0s", "1s" } }', "interval_join", ["a join says by which columns"]),
    "a key that is no column": ('interval_join "silver.r" { on = "kye", between = { "0s", "1s" } }', '"kye"', ["no column `kye`", "did you mean `key`"]),
    "keys of two types": ('interval_join "silver.r" { on = { id = "key" }, between = { "0s", "1s" } }', '"key"', ["`id` of silver.l is int64 and `key` of silver.r is string"]),
    "no bounds": ('interval_join "silver.r" { on = "key" }', "interval_join", ["how far apart its rows may be"]),
    "bounds the wrong way round": ('interval_join "silver.r" { on = "key", between = { "2s", "1s" } }', '{ "2s"', ["nothing would ever be joined"]),
    "one bound": ('interval_join "silver.r" { on = "key", between = { "2s" } }', '{ "2s"', ["between takes two bounds"]),
    "a bound that is no time": ('interval_join "silver.r" { on = "key", between = { "0s", "n" } }', '"n"', ["the bound is a time; `n` is int32"]),
    "a kind there is not": ('interval_join "silver.r" { on = "key", between = { "0s", "1s" }, kind = "outer" }', '"outer"', ['no kind of join is called "outer"']),
    "an option there is not": ('interval_join "silver.r" { on = "key", between = { "0s", "1s" }, within = "1s" }', "within", ["no option `within`"]),
    "a column the right row has not": ('interval_join "silver.r" { on = "key", between = { "0s", "1s" }, where = function(e, j) return j.x.nn == 1 end }', "nn ==", ["silver.r has no column `nn`"]),
    "a join of another name": ('interval_join "silver.r" { on = "key", between = { "0s", "1s" }, where = function(e, j) return j.y ~= nil end }', "y ~=", ["silver.j joins nothing called `y`"]),
    "a dataset without a time": ('interval_join "bronze.row" { on = "key", between = { "0s", "1s" } }', "interval_join", ["nothing declares that of bronze.row"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_joined_is_refused_at_its_place(project, case):
    assert_join_refused(project, COLUMNS, sides(), REFUSED[case])


def test_anti_has_no_columns_of_the_other_side(project):
    rule = joined('between = { "0s", "1s" }, kind = "anti"', 'columns = { v = "int64" }, map = function(e, out, j) out.v = j.x.id end')
    assert_refused(World(project, COLUMNS, [rule, sides()]), place(rule, "id end"), "there is only whether one was met")


def test_a_reload_keeps_the_rows_and_refuses_another_join(project):
    body = 'columns = { other = "int64", version = "int32" }, map = function(e, out, j) out.other, out.version = j.x.id, @VERSION@ end, keep = { "id" }'
    rule = joined('between = { "0s", "10m" }', body)
    world = World(project, COLUMNS, [sides(), rule.replace("@VERSION@", "1")], [row(1, "l", "a", "10:00:00"), row(2, "r", "a", "10:00:01")],
                  options='\n  commit = { every = "20ms" },')
    process = project.start("run", "pipelines/p.lua")

    def pairs():
        return sorted(world.rows("silver.j", "id", "other", "version")) if (project.root / "lake/silver/j/_delta_log").exists() else []

    def note():
        return project.weir("status", "pipelines/p.lua", "--json").json()["note"] or ""

    try:
        wait_until(lambda: pairs() == [(1, 2, 1)])
        project.write("rules/r1.lua", rule.replace("@VERSION@", "2"))
        number = 2

        def live():  # every right row meets the one left row there is
            nonlocal number
            number += 1
            world.feed([row(number, "r", "a", "10:00:02")], f"b{number:05d}.jsonl")
            return any(version == 2 for _, _, version in pairs())
        wait_until(live)
        project.write("rules/r1.lua", rule.replace("@VERSION@", "3").replace("10m", "11m"))
        wait_until(lambda: "silver.j: its join `" in note())
        wait_until(lambda: len(pairs()) == number - 1)
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert [other for _, other, _ in sorted(pairs(), key=lambda pair: pair[1])] == list(range(2, number + 1))


# --- crashes ------------------------------------------------------------------------------------

KINDS = ("inner", "left", "right", "full", "semi", "anti")


def crashing(project):
    rules = []
    for kind in KINDS:
        body = 'keep = { "id", "key" }' if kind in ("semi", "anti") else KEEP
        rules.append(joined(f'between = {{ "-60s", "90s" }}, kind = "{kind}"', body, f"silver.{kind}"))
    rules.append(joined('between = { "0s", "until" }, kind = "left"', KEEP, "silver.column"))
    rules.append("""return model "gold.pairs" { from = "silver.timed", by = { "key" }, window = tumbling "1m", measures = { pairs = count() } }""")
    rules.append(joined(BETWEEN, 'keep = { "key", "at" }', "silver.timed").replace("keep =", "into = none, keep ="))
    return crash_world(project, COLUMNS, sides("1m"), rules, random_rows(12000, 21, [f"key {i}" for i in range(300)]))


def meets_none(summary):
    assert summary["datasets"]["silver.inner"]["unmatched"] > 0


undisturbed, test_killed_and_started_again_it_joins_the_same = crash_tests(crashing, ("silver/l", *(f"silver/{kind}" for kind in KINDS), "silver/column", "gold/pairs"), meets_none)
