"""Models without a window, and what reads rows that change: one row a key, changelogs, taking back. One test a meaning."""

import random

import duckdb
import pyarrow
import pytest

from language import World, at

COLUMNS = {"id": "long!", "k": "string", "g": "string", "n": "int", "p": "decimal(12,2)", "x": "double", "s": "string", "at": "timestamp"}
EVERY = ("100ms", "1s")


def data(*rows):
    """rows: (key, fields)"""
    return [{"id": index, "k": key, **fields} for index, (key, fields) in enumerate(rows)]


def model(name, source, by, measures, more=""):
    by = f'by = {{ {by} }},' if by else ""
    return f'return model "{name}" {{ from = "{source}", {by} measures = {{ {measures} }}, {more} }}'


def drawn(count, seed=7):
    draw = random.Random(seed)
    return [(draw.choice("abcdefgh"), {"g": draw.choice("xyz"), "n": draw.choice([None, *range(-4, 9)]), "p": f"{draw.randrange(900) / 100:.2f}",
                                       "s": draw.choice([None, "", "tea", "jam", "a text too long to lie in a slot"])}) for _ in range(count)]


def table_of(rows):
    """The rows as a DuckDB table `t`, the independent judge."""
    base = duckdb.connect()
    columns = {"id": range(len(rows)), "k": [k for k, _ in rows], **{c: [f[c] for _, f in rows] for c in ("g", "n", "p", "s")}}
    drawn_rows = pyarrow.table({name: list(values) for name, values in columns.items()})  # noqa: F841: DuckDB finds it by name
    base.execute("create table t as select id, k, g, n::int n, p::decimal(12,2) p, s from drawn_rows")
    return base


# --- one row a key ------------------------------------------------------------------------------

MEASURES = 'rows = count(), n = sum "n", mean = avg "p", lo = min "n", hi = max "n", first_s = min "s", kinds = distinct "s"'
SQL = 'select k, count(*), sum(n), min(n), max(n), min(s), count(distinct s) from t group by k'


@pytest.mark.parametrize("every", EVERY)
def test_a_model_without_a_window_is_one_row_a_key(project, every):
    rows = drawn(6000)
    world = World(project, COLUMNS, model("gold.m", "bronze.row", '"k"', MEASURES), data(*rows), options=f' commit = {{ every = "{every}" }},').run()
    found = sorted(world.rows("gold.m", "k", "rows", "n", "lo", "hi", "first_s", "kinds"))
    assert found == sorted(table_of(rows).execute(SQL).fetchall())
    assert world.table("gold.m").column_names == ["k", "rows", "n", "mean", "lo", "hi", "first_s", "kinds"]


def test_it_goes_on_over_a_restart(project):
    rows = drawn(400)
    rule = model("gold.m", "bronze.row", '"k"', MEASURES)
    world = World(project, COLUMNS, rule, data(*rows[:200])).run()
    world.feed(data(*rows[200:]), "b.jsonl")
    found = sorted(world.run().rows("gold.m", "k", "rows", "n", "lo", "hi", "first_s", "kinds"))
    assert found == sorted(table_of(rows).execute(SQL).fetchall())


def test_a_null_key_is_a_row_of_its_own(project):
    world = World(project, COLUMNS, model("gold.m", "bronze.row", '"k"', "n = count()"), data((None, {}), ("a", {}), (None, {}))).run()
    assert sorted(world.rows("gold.m", "k", "n"), key=str) == sorted([(None, 2), ("a", 1)], key=str)


def test_readers_get_a_changelog(project):
    """+I for what is new, then -U and +U; what did not change says nothing."""
    rules = [model("gold.m", "bronze.row", '"k"', 'n = sum "n"'),
             'return stream "silver.log" { from = "gold.m", keep = { "k", "n" }, into = delta { mode = "append" } }']
    world = World(project, COLUMNS, rules, data(("a", {"n": 1}), ("b", {"n": 5})))
    world.run()
    world.feed(data(("a", {"n": 2}), ("b", {"n": None})), "b.jsonl")
    world.run()
    assert sorted(world.rows("silver.log", "k", "n", "_change")) == [("a", 1, 0), ("a", 1, 1), ("a", 3, 2), ("b", 5, 0)]


# --- gold on gold -------------------------------------------------------------------------------


@pytest.mark.parametrize("every", EVERY)
def test_a_model_of_a_model_takes_back_what_changed(project, every):
    """Per key a sum; per sum, how many keys have it, and their extremes: every update moves a key from one group to another."""
    rows = drawn(3000)
    rules = [model("gold.m", "bronze.row", '"k", "g"', 'total = sum "n", p = sum "p", text = max "s"', "into = none"),
             model("gold.by_g", "gold.m", '"g"', 'keys = count(), total = sum "total", p = avg "p", lo = min "total", hi = max "total", '
                   'text = max "text", texts = distinct "text", some = count { where = function(e) return e.total > 100 end }'),
             model("gold.by_total", "gold.m", '"total"', 'keys = count(), lo = min "k"')]
    world = World(project, COLUMNS, rules, data(*rows), options=f' commit = {{ every = "{every}" }},').run()
    judge = table_of(rows)
    judge.execute("create table m as select k, g, sum(n) total, sum(p) p, max(s) text from t group by k, g")
    found = world.rows("gold.by_g", "g", "keys", "total", "lo", "hi", "text", "texts", "some")
    assert sorted(found) == sorted(judge.execute("select g, count(*), sum(total), min(total), max(total), max(text), count(distinct text),"
                                                 " count(*) filter (total > 100) from m group by g").fetchall())
    found = world.rows("gold.by_total", "total", "keys", "lo")
    assert sorted(found) == sorted(judge.execute("select total, count(*), min(k) from m group by total").fetchall())


def test_streams_between_models_judge_and_map_old_rows_as_they_do_new_ones(project):
    rows = drawn(2000)
    rules = [model("gold.m", "bronze.row", '"k", "g"', 'total = sum "n"', "into = none"),
             '''return stream "silver.some" { from = "gold.m", where = function(e) return e.total % 2 == 0 end, columns = { half = "int64" },
                map = function(e, out) out.half = e.total / 2 end, key = { "k", "g" }, into = delta { mode = "merge" } }''',
             model("gold.by_g", "silver.some", '"g"', 'keys = count(), half = sum "half"')]
    world = World(project, COLUMNS, rules, data(*rows)).run()
    judge = table_of(rows)
    judge.execute("create table m as select k, g, sum(n) total from t group by k, g having sum(n) % 2 = 0")
    assert sorted(world.rows("gold.by_g", "g", "keys", "half")) == sorted(
        judge.execute("select g, count(*), (sum(total / 2))::bigint from m group by g").fetchall())
    assert sorted(world.rows("silver.some", "k", "g", "total")) == sorted(judge.execute("select k, g, total from m").fetchall())


def test_having_keeps_the_rows_it_is_true_for(project):
    rows = drawn(2000)
    rules = [model("gold.m", "bronze.row", '"k", "g"', 'total = sum "n"', "having = function(m) return m.total > 150 end"),
             model("gold.n", "gold.m", "", 'keys = count(), total = sum "total"', "into = none"),
             'return stream "silver.log" { from = "gold.n", into = delta { mode = "append" } }']
    world = World(project, COLUMNS, rules, data(*rows), options=' commit = { every = "20ms" },').run()
    judge = table_of(rows)
    judge.execute("create table m as select k, g, sum(n) total from t group by k, g having sum(n) > 150")
    found = world.rows("gold.m", "k", "g", "total")
    assert found and sorted(found) == sorted(judge.execute("from m").fetchall())
    state = {}
    for keys, total, change in sorted(world.rows("silver.log", "keys", "total", "_change"), key=lambda row: row[0]):
        state[(keys, total)] = state.get((keys, total), 0) + (-1 if change % 2 else 1)
    assert [row for row, count in state.items() if count] == judge.execute("select count(*), sum(total)::bigint from m").fetchall()


def test_having_of_a_window(project):
    rule = '''return model "gold.m" { from = "bronze.row", time = { field = "at" }, by = { "k" }, window = tumbling "1m", measures = { n = count() },
              having = function(m) return m.n > 1 end }'''
    rows = data(("a", {"at": at("10:00:00")}), ("b", {"at": at("10:00:01")}), ("a", {"at": at("10:00:02")}))
    world = World(project, COLUMNS, rule, rows).run()
    assert world.rows("gold.m", "k", "n") == [("a", 2)] and world.counts("gold.m")["filtered"] == 1


def test_a_window_over_a_model_takes_back_what_changed(project):
    rules = [model("gold.m", "bronze.row", '"k"', 'total = sum "n", day = min "at"', 'into = none, time = { field = "at" }'),
             '''return model "gold.w" { from = "gold.m", time = { field = "day" }, by = { "total" }, window = tumbling "1h", measures = { keys = count() } }''']
    rows = data(("a", {"n": 1, "at": at("10:00:00")}), ("b", {"n": 1, "at": at("10:00:01")}), ("a", {"n": 4, "at": at("10:00:02")}))
    world = World(project, COLUMNS, rules, rows)
    world.run()
    assert sorted(world.rows("gold.w", "total", "keys")) == [(1, 1), (5, 1)]


# --- what cannot be -----------------------------------------------------------------------------

OVER = model("gold.m", "bronze.row", '"k"', 'x = sum "x", n = sum "n"', 'into = none')


@pytest.mark.parametrize("rules, text", [
    ([model("gold.m", "bronze.row", '"k"', "n = count()", 'emit = "on_close"')], "never closed"),
    ([model("gold.m", "bronze.row", "", "n = count()")], "which are the same"),
    ([OVER, model("gold.n", "gold.m", '"n"', 'x = sum "x"')], "cannot take back"),
    ([OVER, model("gold.n", "gold.m", '"_change"', "n = count()")], "grouped by it"),
    ([model("gold.m", "bronze.row", '"k"', "_change = count()")], "what became of a row"),
    ([model("gold.m", "bronze.row", '"k"', "n = count()", 'tests = { expect "some" { between("n", 1, 9) } }')], "takes some out"),
])
def test_what_cannot_change_is_refused(project, rules, text):
    outcome = World(project, COLUMNS, rules).check()
    assert outcome.code == 1 and text in outcome.out + outcome.err, outcome
