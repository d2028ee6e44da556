"""Measures over the last while: `over` in a model without a window, and `sliding`, where all are. DuckDB judges the rows that count at the end."""

import random

import duckdb
import pyarrow
import pytest

from language import World, at

COLUMNS = {"id": "long!", "k": "string", "n": "int", "p": "decimal(12,2)", "x": "double", "s": "string", "at": "timestamp"}
SLOW = 'where = function(e) local x = 0 for i = 1, 15000 do x = x + i end return true end,'
MEASURES = """rows = count(), week = sum("p", { over = "10m" }), week_n = count({ over = "10m" }), low = min("n", { over = "10m" }), kinds = distinct("s", { over = "2m" }),
    mid = median("n", { over = "2m" }), newest = last("id", { over = "2m" }), dear = arg_max("id", "p", { over = "10m" }),
    big = sum("n", { over = "10m", where = function(e) return e.n ~= nil and e.n > 4 end })"""
NAMES = ("rows", "week", "week_n", "low", "kinds", "mid", "newest", "dear", "big")
SQL = """count(*), sum(p) filter (ts > w - interval 10 minute), count(*) filter (ts > w - interval 10 minute), min(n) filter (ts > w - interval 10 minute),
    count(distinct s) filter (ts > w - interval 2 minute), median(n) filter (ts > w - interval 2 minute), arg_max(id, (ts, id)) filter (ts > w - interval 2 minute),
    arg_min(id, (-p, id)) filter (ts > w - interval 10 minute and p is not null), sum(n) filter (n > 4 and ts > w - interval 10 minute)"""


def drawn(count, seed=5):
    draw = random.Random(seed)
    rows, clock = [], 36000.0
    for index in range(count):
        clock += draw.choice([0, 0.5, 1, 3])
        seconds = clock - draw.choice([0, 0, 2, 4])
        text = f"{int(seconds) // 3600:02}:{int(seconds) % 3600 // 60:02}:{seconds % 60:09.6f}"
        rows.append({"id": index, "k": draw.choice("abc" if index < count // 2 else "ab"), "n": draw.choice([None, *range(-3, 9)]),
                     "p": draw.choice([None, f"{draw.randrange(90000) / 100:.2f}"]), "x": draw.uniform(-9, 9),
                     "s": draw.choice([None, "", "tea", "a text too long to lie in a slot"]), "at": at(text)})
    return rows


def judge(rows, sql):
    """With the watermark as `w`: five seconds before the newest row."""
    base = duckdb.connect()
    table = pyarrow.table({name: [row[name] for row in rows] for name in ("id", "k", "n", "p", "s", "at")})  # noqa: F841: DuckDB finds it by name
    base.execute("""create table t as select id, k, n::int n, p::decimal(12,2) p, s, "at"::timestamp ts from "table" """)
    base.execute("create table r as select *, (select max(ts) from t) - interval 5 second w from t")
    return sorted(base.execute(sql).fetchall(), key=str)


def tidy(rows):
    return sorted((tuple(float(value) if hasattr(value, "as_tuple") else value for value in row) for row in rows), key=str)


TIME = 'time = { field = "at", out_of_order = "5s" },'


def over(name="gold.m", more=""):
    return f'return model "{name}" {{ from = "bronze.row", {TIME} {SLOW} by = {{ "k" }}, measures = {{ {MEASURES} }} {more} }}'


def test_only_the_last_while_counts(project):
    rows = drawn(4000)
    world = World(project, COLUMNS, over(), rows, options=' commit = { every = "20ms" },').run()
    found = tidy(world.rows("gold.m", "k", *NAMES))
    assert found == tidy(judge(rows, f"select k, {SQL} from r group by k")) and len(found) == 3
    outcome = project.weir("replay", "pipelines/p.lua", "--epoch", "1")
    assert outcome.code == 0, outcome


def test_a_sliding_window_is_the_last_while_and_forgets_groups_without_rows(project):
    rows = drawn(4000)
    rule = f'return model "gold.m" {{ from = "bronze.row", {TIME} {SLOW} by = {{ "k" }}, window = sliding "10m", measures = {{ rows = count(), p = sum "p", ids = collect "id" }} }}'
    world = World(project, COLUMNS, rule, rows, options=' commit = { every = "20ms" },').run()
    found = tidy(world.rows("gold.m", "k", "rows", "p", "ids"))
    assert found == tidy(judge(rows, "select k, count(*), sum(p), list(id order by id) from r where ts > w - interval 10 minute group by k"))
    assert [row[0] for row in found] == ["a", "b"]  # c came an hour ago


def test_models_that_read_them_take_back_what_left(project):
    rows = drawn(3000)
    rules = [over(more=', into = none'),
             'return model "gold.all" { from = "gold.m", by = { "low" }, measures = { keys = count(), rows = sum "rows", week = sum "week", week_n = sum "week_n" } }']
    world = World(project, COLUMNS, rules, rows, options=' commit = { every = "20ms" },').run()
    wanted = judge(rows, f"""select low, count(*), sum(rows), sum(week), sum(week_n) from (select k, {SQL} from r group by k)
        as g(k, rows, week, week_n, low, kinds, mid, newest, dear, big) group by low""")
    assert tidy(world.rows("gold.all", "low", "keys", "rows", "week", "week_n")) == tidy(wanted)


@pytest.mark.parametrize("point", ["ledger_after_sync:3", "ledger_after_sync:7", "snapshot_after_publish:2"])
def test_killed_and_started_again_it_comes_to_the_same(project, point):
    rows = drawn(4000)
    world = World(project, COLUMNS, over(), options=' commit = { every = "20ms" }, ledger = { snapshot_every = "30ms", keep = "0s" },')
    for part in range(20):
        world.feed(rows[part * 200:(part + 1) * 200], f"{part:02d}.jsonl")
    process = project.start("run", "pipelines/p.lua", "--until-end", "--json", env={"WEIR_FAULT": f"{point}:kill"})
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -9, errors
    world.run()
    assert tidy(world.rows("gold.m", "k", *NAMES)) == tidy(judge(rows, f"select k, {SQL} from r group by k"))


def test_a_row_too_late_for_a_while_counts_in_the_longer_ones(project):
    rows = [{"id": 1, "k": "a", "n": 1, "at": at("10:30:05")}, {"id": 2, "k": "a", "n": 2, "at": at("10:25:00")}, {"id": 3, "k": "a", "n": 4, "at": at("09:00:00")}]
    world = World(project, COLUMNS, over(), rows).run()
    assert world.rows("gold.m", "rows", "week_n", "kinds", "mid") == [(3, 2, 0, 1)]
    assert world.counts("gold.m")["late"] == 0


def test_a_row_too_late_for_a_sliding_window_is_late(project):
    rows = [{"id": 1, "k": "a", "n": 1, "at": at("10:30:05")}, {"id": 2, "k": "a", "n": 2, "at": at("10:20:00")}, {"id": 3, "k": "a", "n": 4, "at": at("10:20:00.000001")}]
    rule = f'return model "gold.m" {{ from = "bronze.row", {TIME} by = {{ "k" }}, window = sliding {{ size = "10m", late = "quarantine.late" }}, measures = {{ n = sum "n" }} }}'
    world = World(project, COLUMNS, rule, rows).run()
    assert world.rows("gold.m", "n") == [5] and world.rows("quarantine.late", "id") == [2] and world.counts("gold.m")["late"] == 1


@pytest.mark.parametrize("body, text", [
    ('measures = { m = sum("x", { over = "1h" }) }', "make the column a decimal"), ('window = sliding "1h", measures = { m = approx_distinct "n" }', "use distinct"),
    ('window = tumbling "1h", measures = { m = sum("n", { over = "1h" }) }', "for models without one"), ('measures = { m = sum("n", { over = "0s" }) }', "longer than nothing"),
    ('window = sliding "1h", emit = "on_close", measures = { m = count() }', "never closed"), ('window = sliding { size = "1h", allowed_lateness = "1m" }, measures = { m = count() }', "allowed_lateness")])
def test_what_cannot_be_is_refused(project, body, text):
    outcome = World(project, COLUMNS, f'return model "gold.m" {{ from = "bronze.row", {TIME} by = {{ "k" }}, {body} }}').check()
    assert outcome.code == 1 and text in outcome.out + outcome.err, outcome
