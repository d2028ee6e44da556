"""Measures that keep the values themselves: quantile, median, top_k, collect; and first, last, arg_max and arg_min of rows that change. DuckDB judges."""

import random

import duckdb
import pyarrow
import pytest

from language import World, moment
from test_language_measures import COLUMNS, WINDOWS, assert_same, drawn

MEASURES = """mid_n = median "n", mid_p = median "p", mid_x = median "x", q_n = quantile("n", 0.25), q_s = quantile("s", 0.9), q_at = quantile("at", 0.5),
    q_p = quantile("p", 1), top_s = top_k("s", 2), top_n = top_k("n", 3), ids = collect "id", some = collect("s", { max = 3 }),
    big = collect("n", { where = function(e) return e.n ~= nil and e.n > 2 end }) """
NAMES = ("mid_n", "mid_p", "mid_x", "q_n", "q_s", "q_at", "q_p", "top_s", "top_n", "ids", "some", "big")
# DuckDB's median and quantile_disc; the most frequent by a list of (-count, value), sorted.
SQL = """median(n)::decimal(38,6), median(p::double), median(x), quantile_disc(n, 0.25), quantile_disc(s, 0.9), quantile_disc(ts, 0.5), max(p),
    list_sort(list_transform(map_entries(histogram(s)), lambda e: {{'c': -e.value::bigint, 'v': e.key}}))[1:2],
    list_sort(list_transform(map_entries(histogram(n)), lambda e: {{'c': -e.value::bigint, 'v': e.key}}))[1:3],
    list(id order by ts, id), list(s order by ts, id) filter (s is not null)[1:3], list(n order by ts, id) filter (n > 2)"""


def judge(rows, windows):
    base = duckdb.connect()
    names = ("id", "k", "n", "big", "p", "x", "s", "b", "at")
    table = pyarrow.table({name: [row[name] for row in rows] for name in names})  # noqa: F841: DuckDB finds it by name
    base.execute("create table t as select id, k, n::int n, p::decimal(12,2) p, x::double x, s, \"at\"::timestamp ts from \"table\"")
    return [tidy(row) for row in base.execute(f"select k, w, {SQL.format()} from ({windows}) group by k, w").fetchall()]


def tidy(row):
    """Lists of structs as tuples, numbers as floats: what both sides can say."""
    out = []
    for value in row:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = [(entry.get("count", -entry.get("c", 0)), entry.get("value", entry.get("v"))) for entry in value]
        elif hasattr(value, "as_tuple"):
            value = float(value)
        elif hasattr(value, "tzinfo") and value.tzinfo is not None:
            value = value.replace(tzinfo=None)
        out.append(value)
    return tuple(out)


@pytest.mark.parametrize("window", WINDOWS)
def test_windows_keep_values_as_duckdb_does(project, window):
    rows = drawn(2500)
    rule = (f'return model "gold.m" {{ from = "bronze.row", time = {{ field = "at", out_of_order = "5s" }}, by = {{ "k" }}, window = {window}, '
            f'measures = {{ {MEASURES} }} }}')
    world = World(project, COLUMNS, rule, rows, options=' commit = { every = "100ms" },').run()
    assert world.counts("gold.m")["late"] == 0
    midnight = moment("00:00:00")
    found = [tidy((row[0], (row[1] - midnight).total_seconds(), *row[2:])) for row in world.rows("gold.m", "k", "window_start", *NAMES)]
    wanted = [(row[0], (row[1] - midnight.replace(tzinfo=None)).total_seconds(), *row[2:]) for row in judge(rows, WINDOWS[window])]
    assert_same(found, wanted)


def test_without_a_window_and_in_sessions_they_do_too(project):
    rows = drawn(2500)
    rules = [f'return model "gold.m" {{ from = "bronze.row", time = {{ field = "at" }}, by = {{ "k" }}, measures = {{ {MEASURES} }} }}',
             f'''return model "gold.s" {{ from = "bronze.row", time = {{ field = "at", out_of_order = "5s" }}, by = {{ "k" }}, window = session {{ gap = "12h" }},
                measures = {{ {MEASURES} }} }}''']
    world = World(project, COLUMNS, rules, rows, options=' commit = { every = "100ms" },').run()
    wanted = judge(rows, "select *, 0 w from t")
    for name in ("gold.m", "gold.s"):
        assert_same([tidy((row[0], 0, *row[1:])) for row in world.rows(name, "k", *NAMES)], wanted)


def test_what_changed_is_taken_back(project):
    rows = drawn(1500)
    rules = ['return model "gold.m" { from = "bronze.row", by = { "k", "n" }, measures = { p = sum "p", rows = count() }, into = none }',
             '''return model "gold.s" { from = "gold.m", by = { "k" }, measures = { mid = median "rows", q = quantile("p", 0.5), most = arg_max("n", "rows"),
                least = arg_min("n", "p"), top = top_k("rows", 1), all = collect "rows" } }''']
    world = World(project, COLUMNS, rules, rows, options=' commit = { every = "100ms" },').run()
    base = duckdb.connect()
    table = pyarrow.table({name: [row[name] for row in rows] for name in ("k", "n", "p")})  # noqa: F841
    base.execute('create table g as select k, n::int n, sum(p::decimal(12,2)) p, count(*) rows from "table" group by k, n')
    wanted = base.execute("""select k, 0, median(rows), quantile_disc(p, 0.5), arg_min(n, p) filter (n is not null),
        list_sort(list_transform(map_entries(histogram(rows)), lambda e: {'c': -e.value::bigint, 'v': e.key}))[1:1], list_sort(list(rows)) from g group by k""").fetchall()
    found = world.rows("gold.s", "k", "mid", "q", "least", "top", "all")
    assert_same([tidy((row[0], 0, *row[1:])) for row in found], [tidy(row) for row in wanted])
    most = {key: {n for n, in base.execute("select n from g where k = ? and n is not null and rows = (select max(rows) from g where k = ? and n is not null)",
                                           [key, key]).fetchall()} for key in "abc"}
    assert all(n in most[key] for key, n in world.rows("gold.s", "k", "most"))


def test_first_and_last_take_back_what_is_no_longer_first_or_last(project):
    """A group's row moves on in time with every row of it; the old one, which was first or last, is no longer there."""
    rows = [{**row, "n": row["id"] % 7} for row in drawn(900)]
    rules = ['return model "gold.m" { from = "bronze.row", by = { "k", "n" }, measures = { moved = max "at", id = max "id" }, into = none }',
             """return model "gold.s" { from = "gold.m", time = { field = "moved", out_of_order = "1h" }, by = { "k" },
                measures = { rows = count(), one = first "id", other = last "id" } }"""]
    world = World(project, COLUMNS, rules, rows, options=' commit = { every = "100ms" },').run()
    base = duckdb.connect()
    table = pyarrow.table({name: [row[name] for row in rows] for name in ("k", "n", "at", "id")})  # noqa: F841
    base.execute('create table g as select k, n, max("at") moved, max(id) id from "table" group by k, n')
    groups = {key: sorted((moved, identity) for moved, identity in base.execute("select moved, id from g where k = ?", [key]).fetchall()) for key in "abc"}
    found = world.rows("gold.s", "k", "rows", "one", "other")
    assert sorted(row[0] for row in found) == sorted(groups)
    for key, count, one, other in found:
        assert count == len(groups[key]) == 7
        assert (groups[key][0][0], one) in groups[key] and (groups[key][-1][0], other) in groups[key]


def test_counts_of_frequent_values_stay_within_their_error(project):
    """More different values than are kept apart: what is far more frequent than its share is found, its count a little low at most."""
    draw = random.Random(3)
    names = [f"common {i}" for i in range(5) for _ in range(400 - 40 * i)] + [f"rare {i}" for i in range(12000)]
    draw.shuffle(names)
    rows = [{"id": i, "k": "a", "s": name, "at": "2026-01-05T10:00:00Z"} for i, name in enumerate(names)]
    rule = 'return model "gold.m" { from = "bronze.row", time = { field = "at" }, window = tumbling "1h", measures = { rows = count(), top = top_k("s", 5) } }'
    world = World(project, COLUMNS, rule, rows).run()
    (count, top), = world.rows("gold.m", "rows", "top")
    assert count == len(names) and [entry["value"] for entry in top] == [f"common {i}" for i in range(5)]
    for i, entry in enumerate(top):
        assert 400 - 40 * i - len(names) / 4097 <= entry["count"] <= 400 - 40 * i


@pytest.mark.parametrize("measure, text", [
    ('quantile("n", 0)', "above 0"), ('median "s"', "needs a number"), ('top_k "s"', "how many values"), ('top_k("s", 1.5)', "how many values"),
    ('collect("s", { max = 0 })', "max is how many"), ('collect("s", { most = 3 })', "no option `most`")])
def test_measures_that_cannot_be_are_refused(project, measure, text):
    outcome = World(project, COLUMNS, f'return model "gold.m" {{ from = "bronze.row", by = {{ "k" }}, measures = {{ m = {measure} }} }}').check()
    assert outcome.code == 1 and text in outcome.out + outcome.err, outcome


@pytest.mark.parametrize("measure, text", [
    ('approx_distinct "rows"', "use distinct"), ('collect("rows", { max = 3 })', "leave max out"), ('first "rows"', "use arg_max")])
def test_what_cannot_be_taken_back_is_refused(project, measure, text):
    rules = ['return model "gold.m" { from = "bronze.row", time = { field = "at" }, by = { "k", "n" }, measures = { rows = count() }, into = none }',
             f'return model "gold.s" {{ from = "gold.m", by = {{ "k" }}, measures = {{ m = {measure} }} }}']
    outcome = World(project, COLUMNS, rules).check()
    assert outcome.code == 1 and text in outcome.out + outcome.err, outcome
