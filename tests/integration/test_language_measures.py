"""Measures beyond sums: chosen values, spread. In every kind of window, against DuckDB over the same rows."""

import math
import random

import duckdb
import pyarrow
import pytest

from language import World, at, moment

COLUMNS = {"id": "long!", "k": "string", "n": "int", "big": "long", "p": "decimal(12,2)", "x": "double", "s": "string", "b": "bool", "at": "timestamp"}


def drawn(count, seed=5):
    draw = random.Random(seed)
    rows, clock = [], 36000.0
    for index in range(count):
        clock += draw.choice([0, 0.5, 1, 3])
        seconds = clock - draw.choice([0, 0, 2, 4])
        text = f"{int(seconds) // 3600:02}:{int(seconds) % 3600 // 60:02}:{seconds % 60:09.6f}"
        rows.append({"id": index, "k": draw.choice("abc"), "n": draw.choice([None, *range(-3, 5)]), "big": draw.choice([None, 10**18 + draw.randrange(9)]),
                     "p": draw.choice([None, f"{draw.randrange(90000) / 100:.2f}"]), "x": draw.choice([None, draw.uniform(-9, 9)]),
                     "s": draw.choice([None, "", "tea", "a text too long to lie in a slot"]), "b": draw.choice([None, True, False]), "at": at(text)})
    return rows


MEASURES = """first_s = first "s", last_s = last "s", first_n = first "n", dearest = arg_max("s", "p"), cheapest = arg_min("n", "p"), lowest = arg_min("id", "x"),
    any_b = any "b", all_b = all "b", var_n = variance "n", dev_n = stddev "n", var_p = variance "p", dev_x = stddev "x", dev_big = stddev "big" """
NAMES = ("first_s", "last_s", "first_n", "dearest", "cheapest", "lowest", "any_b", "all_b", "var_n", "dev_n", "var_p", "dev_x", "dev_big")
SQL = """arg_min(s, (ts, id)) filter (s is not null), arg_max(s, (ts, id)) filter (s is not null), arg_min(n, (ts, id)) filter (n is not null),
    arg_min(s, (-p, ts, id)) filter (s is not null and p is not null), arg_min(n, (p, ts, id)) filter (n is not null and p is not null),
    arg_min(id, (x, ts, id)) filter (x is not null), bool_or(b), bool_and(b), var_samp(n), stddev_samp(n), var_samp(p::double), stddev_samp(x),
    stddev_samp(big - 1000000000000000000)"""


def judge(rows, windows):
    """The measures by DuckDB; windows: SQL that joins each row with its window starts, as column w."""
    base = duckdb.connect()
    names = ("id", "k", "n", "big", "p", "x", "s", "b", "at")
    table = pyarrow.table({name: [row[name] for row in rows] for name in names})  # noqa: F841: DuckDB finds it by name
    base.execute("create table t as select id, k, n::int n, big::bigint big, p::decimal(12,2) p, x::double x, s, b::bool b, \"at\"::timestamp ts from \"table\"")
    return base.execute(f"select k, w, {SQL} from ({windows}) group by k, w").fetchall()


def same(found, wanted):
    if isinstance(wanted, float) and isinstance(found, float):
        return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9)
    return found == wanted


def assert_same(found, wanted):
    found, wanted = sorted(found, key=lambda row: str(row[:2])), sorted(wanted, key=lambda row: str(row[:2]))
    assert [row[:2] for row in found] == [row[:2] for row in wanted]
    for got, want in zip(found, wanted):
        assert not [(a, b) for a, b in zip(got, want) if not same(a, b)], got[:2]


WINDOWS = {
    'tumbling { size = "1m" }': "select *, date_trunc('minute', ts) w from t",
    'hopping { size = "2m", every = "30s" }':
        "select *, time_bucket(interval '30 seconds', ts) - to_seconds(30 * h) w from t, range(4) r(h)",
}


@pytest.mark.parametrize("window", WINDOWS)
def test_windows_choose_and_spread_as_duckdb_does(project, window):
    rows = drawn(2500)
    rule = (f'return model "gold.m" {{ from = "bronze.row", time = {{ field = "at", out_of_order = "5s" }}, by = {{ "k" }}, window = {window}, '
            f'measures = {{ {MEASURES} }} }}')
    world = World(project, COLUMNS, rule, rows, options=' commit = { every = "100ms" },').run()
    assert world.counts("gold.m")["late"] == 0
    midnight = moment("00:00:00")
    found = [(row[0], (row[1] - midnight).total_seconds(), *row[2:]) for row in world.rows("gold.m", "k", "window_start", *NAMES)]
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
        assert_same([(row[0], 0, *row[1:]) for row in world.rows(name, "k", *NAMES)], wanted)


def test_spread_takes_back_what_changed(project):
    rows = drawn(1500)
    rules = ['return model "gold.m" { from = "bronze.row", by = { "k", "n" }, measures = { p = sum "p", rows = count() }, into = none }',
             'return model "gold.s" { from = "gold.m", by = { "k" }, measures = { dev = stddev "rows", var = variance "rows" } }']
    world = World(project, COLUMNS, rules, rows, options=' commit = { every = "100ms" },').run()
    base = duckdb.connect()
    table = pyarrow.table({name: [row[name] for row in rows] for name in ("k", "n")})  # noqa: F841
    wanted = base.execute('select k, 0, stddev_samp(rows), var_samp(rows) from (select k, n, count(*) rows from "table" group by k, n) group by k').fetchall()
    assert_same([(row[0], 0, *row[1:]) for row in world.rows("gold.s", "k", "dev", "var")], wanted)


SKETCHES = 'kinds = approx_distinct "id", few = approx_distinct "n", p50 = approx_quantile("x", 0.5), p95 = approx_quantile("p", 0.95), low = approx_quantile("n", 0.01)'
SKETCHED = ("kinds", "few", "p50", "p95", "low")


def rank_value(values, share):
    ordered = sorted(value for value in values if value is not None)
    return float(ordered[max(1, math.ceil(share * len(ordered))) - 1]) if ordered else None


@pytest.mark.parametrize("window", ["", "tumbling \"1h\"", 'hopping { size = "30m", every = "1m" }', 'session { gap = "10s", allowed_lateness = "1m" }'])
def test_sketches_stay_within_their_error(project, window):
    rows = drawn(6000)
    rules = [f"""return model "gold.m" {{ from = "bronze.row", time = {{ field = "at", out_of_order = "5s" }}, by = {{ "k" }}, {"window = " + window + "," if window else ""}
                 measures = {{ rows = count(), ids = distinct "id", {SKETCHES} }}, {"" if window else "into = delta { mode = 'merge' }"} }}"""]
    world = World(project, COLUMNS, rules, rows, options=' commit = { every = "100ms" },').run()
    bounds = ("window_start", "window_end") if window else ()
    found = world.rows("gold.m", "k", *bounds, "rows", "ids", *SKETCHED)
    assert sum(row[len(bounds) + 1] for row in found) >= len(rows) and len(found) >= 3
    for key, *rest in found:
        start, end = rest[:2] if window else (moment("00:00:00"), moment("23:59:59"))
        ids, kinds, few, *quantiles = rest[len(bounds) + 1:]
        members = [row for row in rows if row["k"] == key and str(start)[11:26] <= row["at"][11:26] < str(end)[11:26].ljust(15, "0")] \
            if not window.startswith("session") else None
        assert abs(kinds - ids) <= max(1, 0.065 * ids), (kinds, ids)  # four standard errors
        if members is None or len(members) != rest[len(bounds)]:
            continue
        assert few == len({row["n"] for row in members} - {None})
        for got, (name, share) in zip(quantiles, (("x", 0.5), ("p", 0.95), ("n", 0.01))):
            wanted = rank_value([row[name] and float(row[name]) if name == "p" else row[name] for row in members], share)
            assert (got is None) == (wanted is None)
            assert wanted is None or abs(got - wanted) <= abs(wanted) * 0.008 + 1e-12, (name, got, wanted)


def test_quantiles_take_back_what_changed(project):
    rows = drawn(1500)
    rules = ['return model "gold.m" { from = "bronze.row", by = { "k", "n" }, measures = { rows = count() }, into = none }',
             'return model "gold.q" { from = "gold.m", by = { "k" }, measures = { keys = count(), mid = approx_quantile("rows", 0.5), top = approx_quantile("rows", 1) } }']
    world = World(project, COLUMNS, rules, rows, options=' commit = { every = "100ms" },').run()
    groups = {}
    for row in rows:
        groups.setdefault(row["k"], {}).setdefault(row["n"], []).append(1)
    for key, keys, mid, most in world.rows("gold.q", "k", "keys", "mid", "top"):
        sizes = [len(ones) for ones in groups[key].values()]
        assert keys == len(sizes)
        assert abs(mid - rank_value(sizes, 0.5)) <= 0.008 * mid and abs(most - max(sizes)) <= 0.008 * most


@pytest.mark.parametrize("measure, text", [
    ('approx_quantile("n", 0)', "above 0"), ('approx_quantile "n"', "above 0"), ('approx_quantile("s", 0.5)', "needs a number"),
    ('arg_max("s")', "chosen by"), ('arg_max("s", "s")', "number or a time"), ('any "n"', "needs a bool"), ('stddev "s"', "needs a number"), ('first "s"', "event time")])
def test_measures_that_cannot_be_are_refused(project, measure, text):
    outcome = World(project, COLUMNS, f'return model "gold.m" {{ from = "bronze.row", by = {{ "k" }}, measures = {{ m = {measure} }} }}').check()
    assert outcome.code == 1 and text in outcome.out + outcome.err, outcome
