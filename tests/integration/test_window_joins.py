"""window_join: rows of both sides in the same window with the same key, judged by DuckDB; and that a crash changes nothing of it."""

import duckdb
import pytest

import lake
from joins import assert_join_refused, crash_tests, crash_world, row
from language import World, moment
from test_language_joins import COLUMNS, KINDS, random_rows, sides

KEEP = 'columns = { other = "int64" }, map = function(e, out, j) out.other = j.x and j.x.id end, keep = { "id", "key", "window_start", "window_end" }'
ALONE = 'keep = { "id", "key", "window_start", "window_end" }'
WINDOWS = {
    "tumbling": ('tumbling "2m"', "SELECT *, to_timestamp(floor(epoch(\"at\") / 120) * 120) AS s FROM {0}", 120),
    "hopping": ('hopping { size = "3m", every = "1m" }',
                "SELECT *, to_timestamp((floor(epoch(\"at\") / 60) - hop) * 60) AS s FROM {0}, range(3) AS hops(hop)", 180),
    "hopping unevenly": ('hopping { size = "150s", every = "1m" }',
                         "SELECT * FROM (SELECT *, to_timestamp((floor(epoch(\"at\") / 60) - hop) * 60) AS s FROM {0}, range(3) AS hops(hop)) WHERE epoch(\"at\") < epoch(s) + 150", 150),
}
JOINS = {"inner": "JOIN", "left": "LEFT JOIN", "right": "RIGHT JOIN", "full": "FULL JOIN", "semi": "SEMI JOIN", "anti": "ANTI JOIN"}


def joined(options, body=KEEP, name="silver.j"):
    return f'return stream "{name}" {{ from = "silver.l", join = {{ x = window_join "silver.r" {{ on = "key", {options} }} }}, {body} }}'


def of_kind(kind, window, name="silver.j", more=""):
    return joined(f'window = {window}, kind = "{kind}"{more}', ALONE if kind in ("semi", "anti") else KEEP, name)


def judge(world, kind, rows, size, more=""):
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    for side in "lr":
        database.register(f"all_{side}", world.table(f"silver.{side}"))
    other = "NULL" if kind in ("semi", "anti") else "r.id"
    start = "l.s" if kind in ("semi", "anti") else "coalesce(l.s, r.s)"
    sql = f"""WITH l AS ({rows.format("all_l")}), r AS ({rows.format("all_r")})
        SELECT l.id, {other}, {start}, {start} + INTERVAL {size} SECOND FROM l {JOINS[kind]} r ON l.key = r.key AND l.s = r.s{more}"""
    return sorted(([id, other, *map(lake.normal, times)] for id, other, *times in database.sql(sql).fetchall()), key=repr)


def got(world, kind, name="silver.j"):
    columns = ("id", "window_start", "window_end") if kind in ("semi", "anti") else ("id", "other", "window_start", "window_end")
    rows = world.rows(name, *columns)
    rows = [(row[0], None, *row[1:]) for row in rows] if kind in ("semi", "anti") else rows
    return sorted(([id, other, *map(lake.normal, times)] for id, other, *times in rows), key=repr)


@pytest.mark.parametrize("window", WINDOWS)
def test_a_window_join_gives_what_duckdb_computes(project, window):
    text, rows, size = WINDOWS[window]
    rules = [of_kind(kind, text, f"silver.{kind}") for kind in KINDS]
    where = ', where = function(e, j) return (e.n + j.x.n) % 3 == 0 end'
    world = World(project, COLUMNS, [sides("1m"), *rules, of_kind("full", text, "silver.judged", where)], random_rows(2000, 5)).run()
    for kind in KINDS:
        want = judge(world, kind, rows, size)
        assert got(world, kind, f"silver.{kind}") == want and len(want) > 100, kind
        counts = world.counts(f"silver.{kind}")
        assert counts["late"] == 0 and counts["out"] == len(want)
    assert got(world, "full", "silver.judged") == judge(world, "full", rows, size, " AND (l.n + r.n) % 3 = 0")


def test_a_row_counts_in_the_windows_that_are_open_and_is_late_once(project):
    rows = [row(1, "l", "a", "10:00:30"), row(2, "r", "a", "10:00:40"), row(3, "l", "a", "10:03:10"), row(4, "r", "a", "10:01:50"), row(5, "r", "a", "10:00:50")]
    rule = joined('window = hopping { size = "2m", every = "1m" }, late = "quarantine.late_r"')
    world = World(project, COLUMNS, [sides("1m"), rule], rows).run()
    assert sorted(world.rows("silver.j", "id", "other", "window_start")) == [(1, 2, moment("09:59:00")), (1, 2, moment("10:00:00"))]
    assert world.rows("quarantine.late_r", "id") == [5] and world.counts("silver.j")["late"] == 1


def test_its_rows_are_as_old_as_the_window_and_the_next_window_counts_them(project):
    count = """return model "gold.c" { from = "silver.j", by = { "key" }, window = tumbling "2m", measures = { pairs = count() } }"""
    world = World(project, COLUMNS, [sides("1m"), joined('window = tumbling "2m", kind = "left"'), count], random_rows(2000, 8)).run()
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    database.register("j", world.table("silver.j"))
    want = database.sql("SELECT key, window_start, count(*) FROM j GROUP BY ALL").fetchall()
    rows = world.rows("gold.c", "key", "window_start", "pairs")
    assert world.counts("gold.c")["late"] == 0
    assert sorted(map(lake.normal, map(list, rows)), key=repr) == sorted(map(lake.normal, map(list, want)), key=repr)


REFUSED = {
    "no window": ('window_join "silver.r" { on = "key" }', "window_join", ["in which windows its rows meet"]),
    "a session": ('window_join "silver.r" { on = "key", window = session "1m" }', 'session', ["tumbling and hopping windows, not in session ones"]),
    "no key": ('window_join "silver.r" { window = tumbling "1m" }', "window_join", ["a join says by which columns"]),
    "too many windows": ('window_join "silver.r" { on = "key", window = hopping { size = "1d", every = "1s" } }', "hopping", ["a row would be in 86400 windows"]),
    "bounds": ('window_join "silver.r" { on = "key", window = tumbling "1m", between = { "0s", "1s" } }', "between", ["no option `between`"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_joined_is_refused_at_its_place(project, case):
    assert_join_refused(project, COLUMNS, sides(), REFUSED[case])


# --- crashes ------------------------------------------------------------------------------------

def crashing(project):
    rules = [of_kind(kind, 'hopping { size = "2m", every = "1m" }', f"silver.{kind}") for kind in ("inner", "full", "anti")]
    return crash_world(project, COLUMNS, sides("1m"), rules, random_rows(12000, 21, [f"key {i}" for i in range(300)]))


undisturbed, test_killed_and_started_again_it_joins_the_same = crash_tests(crashing, ("silver/inner", "silver/full", "silver/anti"))
