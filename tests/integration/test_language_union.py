"""Several datasets read as one: `from = { "a", "b" }`. One test a meaning; DuckDB counts again."""

import random

import duckdb
import pyarrow
import pytest

from language import World, at, moment

COLUMNS = {"id": "long!", "k": "string", "n": "int", "p": "decimal(12,2)", "at": "timestamp"}
ODD = 'return stream "silver.odd" { from = "bronze.row", @TIME@ where = function(e) return e.id % 2 == 1 end, drop = { "p" }, into = none }'
EVEN = 'return stream "silver.even" { from = "bronze.row", @TIME@ where = function(e) return e.id % 2 == 0 end, drop = { "n" }, columns = { also = "string" },' \
       ' map = function(e, out) out.also = "even " .. e.k end, into = none }'
TIME = 'time = { field = "at", out_of_order = "1m" },'


def rules(rule, time=""):
    return [ODD.replace("@TIME@", time), EVEN.replace("@TIME@", time), rule]


def data(count, seed=2):
    draw = random.Random(seed)
    rows = []
    for i in range(count):
        second = max(0, i * 1800 // count - draw.choice((0, 0, 20, 50)))
        rows.append({"id": i, "k": draw.choice("abc"), "n": draw.randrange(100), "p": f"{draw.randrange(900) / 100:.2f}",
                     "at": at(f"10:{second // 60:02}:{second % 60:02}")})
    return rows


def recount(rows, sql):
    base = duckdb.connect()
    base.execute("set time zone 'UTC'")
    t = pyarrow.table({name: [row[name] for row in rows] for name in ("id", "k", "n")} |  # noqa: F841: DuckDB finds it by name
                      {"time": [moment(row["at"][11:19]) for row in rows]})
    return sorted(base.execute(sql).fetchall(), key=str)


def test_columns_go_by_name_and_what_a_dataset_lacks_is_null(project):
    rule = '''return stream "silver.all" { from = { "silver.odd", "silver.even" }, columns = { source = "string" }, map = function(e, out) out.source = e._from end }'''
    world = World(project, COLUMNS, rules(rule), data(3)).run()
    assert world.table("silver.all").column_names == ["id", "k", "n", "at", "p", "also", "source"]
    rows = {row["id"]: row for row in world.table("silver.all").to_pylist()}
    assert (rows[1]["n"] is None, rows[1]["p"], rows[1]["also"], rows[1]["source"]) == (False, None, None, "silver.odd")
    assert (rows[2]["n"], rows[2]["p"] is None, rows[2]["also"][:5], rows[2]["source"]) == (None, False, "even ", "silver.even")


@pytest.mark.parametrize("every", ["100ms", "1s"])
@pytest.mark.parametrize("where", ["in each", "in the union"])
def test_a_model_of_a_union_counts_them_all_and_none_is_late(project, every, where):
    own = TIME if where == "in the union" else ""
    rule = f'''return model "gold.m" {{ from = {{ "silver.odd", "silver.even" }}, {own} by = {{ "k" }}, window = tumbling "1m",
        measures = {{ rows = count(), odd = count "n", even = count("also"), n = sum "n" }} }}'''
    rows = data(9000)
    world = World(project, COLUMNS, rules(rule, "" if own else TIME), rows, options=f' commit = {{ every = "{every}" }},').run()
    assert world.counts("gold.m")["late"] == 0
    found = sorted(world.rows("gold.m", "k", "window_start", "rows", "odd", "even", "n"), key=str)
    assert found == recount(rows, """select k, time_bucket(interval 1 minute, time) w, count(*), count(*) filter (id % 2 = 1), count(*) filter (id % 2 = 0),
        sum(n) filter (id % 2 = 1) from t group by all""")


TWO = '''return pipeline "p" { rules = "rules", storage = delta { root = "lake" },
  sources = {
    source "bronze.row" { files { path = "landing/*.jsonl" }, json { schema = "schemas/row.avsc" }, into = none },
    source "bronze.other" { files { path = "other/*.jsonl" }, json { schema = "schemas/row.avsc" }, into = none },
  } }'''


@pytest.mark.parametrize("own", [True, False])
def test_time_waits_for_the_slower_of_two_sources_and_not_for_one_that_has_ended(project, own):
    """The watermark is the least: a source two hours behind makes no late rows, whichever is read first."""
    each = TIME if not own else ""
    rule = [f'return stream "silver.a" {{ from = "bronze.row", {each} into = none }}', f'return stream "silver.b" {{ from = "bronze.other", {each} into = none }}',
            f'''return model "gold.m" {{ from = {{ "silver.a", "silver.b" }}, {TIME if own else ""} by = {{ "_from" }}, window = tumbling "1h", measures = {{ rows = count(), n = sum "n" }} }}''']
    world = World(project, COLUMNS, rule)
    project.write("pipelines/p.lua", TWO)
    early = [{"id": i, "k": "a", "n": i, "at": at(f"08:{i % 60:02}:00")} for i in range(6000)]
    late = [{"id": i, "k": "b", "n": 1, "at": at(f"{10 + i // 3000}:{i % 60:02}:00")} for i in range(6000)]
    world.feed(sorted(late, key=lambda row: row["at"]))
    lines = "".join(__import__("json").dumps(row) + "\n" for row in sorted(early, key=lambda row: row["at"]))
    project.write("other/a.jsonl", lines)
    world.run()
    assert sorted(world.rows("gold.m", "_from", "window_start", "rows", "n")) == [
        ("silver.a", moment("10:00:00"), 3000, 3000), ("silver.a", moment("11:00:00"), 3000, 3000), ("silver.b", moment("08:00:00"), 6000, sum(range(6000)))]


def test_changelogs_are_read_as_one(project):
    one = 'return model "gold.a" { from = "silver.odd", by = { "k" }, measures = { n = count() }, into = none }'
    two = 'return model "gold.b" { from = "silver.even", by = { "k" }, measures = { n = count() }, into = none }'
    rule = 'return model "gold.m" { from = { "gold.a", "gold.b" }, by = { "k" }, measures = { n = sum "n", most = max "n", parts = count() } }'
    rows = data(4000)
    world = World(project, COLUMNS, [*rules(rule), one, two], rows).run()
    inner = "select k, id % 2 p, count(*) c from t group by all"
    assert sorted(world.rows("gold.m", "k", "n", "most", "parts"), key=str) == recount(rows, f"select k, sum(c), max(c), count(*) from ({inner}) group by all")


@pytest.mark.parametrize("rule, text", [
    ('return stream "silver.x" { from = { "silver.odd", "silver.odd" } }', "read twice"),
    ('return stream "silver.x" { from = { "silver.odd", "silver.evn" } }', "no dataset is called"),
    ('return { model "gold.a" { from = "silver.odd", by = { "k" }, measures = { n = count() } }, stream "silver.x" { from = { "silver.even", "gold.a" } } }', "change"),
    ('return { stream "silver.t" { from = "silver.odd", columns = { n = "string" }, map = function(e, out) out.n = "x" end }, stream "silver.x" { from = { "silver.odd", "silver.t" } } }',
     "is string here and int32"),
])
def test_what_cannot_be_read_as_one_is_refused(project, rule, text):
    outcome = World(project, COLUMNS, rules(rule)).check()
    assert outcome.code == 1 and text in outcome.out + outcome.err, outcome


# A rule's output and a join with a time of its own beside the stream they stem from: each tells its own watermark, and a restart tells the same.
RESTARTED = [
    'return stream "silver.row" { from = "bronze.row", time = { field = "at", out_of_order = "10s" }, where = function(e) local x = 0 for i = 1, 15000 do x = x + i end return true end,'
    ' into = none }',
    '''return rule "gold.seen" { on = "silver.row", key = "k", emits = { ["gold.sight"] = { k = "string", n = "int32", at = "timestamp" } }, state = { n = counter() },
       process = function(e, s, p, emit) s.n:add() emit("gold.sight", { k = e.k, n = e.n, at = e.at }) end }''',
    'return stream "silver.pair" { from = "silver.row", time = { field = "at", out_of_order = "10s" }, join = { o = interval_join "silver.slow" { on = "id", between = { "0s", "0s" } } },'
    ' keep = { "id", "k", "n", "at" }, into = none }',
    'return stream "silver.slow" { from = "bronze.row", time = { field = "at", out_of_order = "5m" }, into = none }',
    '''return model "gold.m" { from = { "silver.row", "gold.sight" }, by = { "k", "_from" }, window = tumbling { size = "20s", late = "quarantine.m" },
       measures = { rows = count(), n = sum "n" } }''',
    '''return model "gold.p" { from = { "silver.row", "silver.pair" }, by = { "k", "_from" }, window = tumbling { size = "20s", late = "quarantine.p" },
       measures = { rows = count(), n = sum "n" } }''',
]


def restarted_world(project):
    world = World(project, COLUMNS, RESTARTED, options=' commit = { every = "20ms" },')
    draw, rows = random.Random(4), []
    for i in range(8000):
        second = max(0, i * 1800 // 8000 - draw.choice((0, 0, 5, 300)))  # in time, or far too late for any batch
        rows.append({"id": i, "k": draw.choice("abc"), "n": draw.randrange(100), "p": "1.00", "at": at(f"10:{second // 60:02}:{second % 60:02}")})
    for part in range(80):
        world.feed(rows[part * 100:(part + 1) * 100], f"{part:02d}.jsonl")
    return world


def restarted_tables(world):
    return {name: sorted(world.rows(name, "k", "_from", "window_start", "rows", "n"), key=str) for name in ("gold.m", "gold.p")} | \
        {name: sorted(world.rows(name, "id")) for name in ("quarantine.p",)} | {"quarantine.m": sorted(world.rows("quarantine.m", "k", "n"), key=str)}


def test_a_union_tells_the_same_time_after_a_restart(binary, tmp_path):
    from conftest import Project
    whole = restarted_world(Project(binary, tmp_path / "whole")).run()
    wanted = restarted_tables(whole)
    assert wanted["gold.m"] and wanted["gold.p"] and wanted["quarantine.m"] and not wanted["quarantine.p"]
    for hit in (2, 5):
        world = restarted_world(Project(binary, tmp_path / f"killed {hit}"))
        process = world.project.start("run", "pipelines/p.lua", "--until-end", "--json", env={"WEIR_FAULT": f"ledger_after_sync:{hit}:kill"})
        _, errors = process.communicate(timeout=120)
        assert process.returncode == -9, errors
        world.run()
        found = restarted_tables(world)
        for name, rows in wanted.items():
            assert found[name] == rows, name
