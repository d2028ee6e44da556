"""Several joins in one stream: each takes the rows of the one before it, as written; judged by DuckDB over the same rows, and killed and run again."""

import os
import random
import signal

import duckdb
import pytest

from joins import clock, crash_tests, crash_world
from language import World, assert_refused, at, place
from live import wait_until

COLUMNS = {"id": "long!", "side": "string", "key": "string", "k2": "string", "n": "int", "at": "timestamp"}


def side(name, more=""):
    return f'stream "silver.{name}" {{ from = "bronze.row", time = {{ field = "at", out_of_order = "1m" }}, where = function(e) return e.side == "{name}" end, {more} }}'


# What each side is when it is wanted: rows that come (l, r, s), and a table with versions (v).
SIDES = "return {\n" + ",\n".join([side("l"), side("r"), side("s"), side("v", 'key = "key"')]) + " }"


def random_rows(count, seed, keys="abcdefgh", sides="lrsv"):
    rng = random.Random(seed)
    return [{"id": i + 1, "side": rng.choice(sides), "key": rng.choice([None, *keys]), "k2": rng.choice([None, *keys]), "n": rng.randrange(10),
             "at": at(clock(i * 3600 // count + rng.randrange(60)))} for i in range(count)]


def stream(joins, columns, assigns, more="", name="silver.j"):
    return f"""return stream "{name}" {{
  from = "silver.l",
  join = {{
    {joins}
  }},
  columns = {{ {columns} }},
  map = function(e, out, j) {assigns} end,
  keep = {{ "id" }}, {more}
}}"""


INTERVAL = 'on = { key = "key" }, between = { "-30s", "90s" }'
ON = "l.key = r.key AND r.at - l.at BETWEEN INTERVAL '-30 seconds' AND INTERVAL '90 seconds'"
IDS = 'a = "int64", b = "int64"'
BOTH = "out.a = j.a and j.a.id out.b = j.b and j.b.id"
VERSIONS = "(SELECT *, lead(v.at) OVER (PARTITION BY v.key ORDER BY v.at, v.id) AS until FROM v WHERE key IS NOT NULL)"
MINUTE, TWO = "INTERVAL '1 minute'", "INTERVAL '2 minutes'"

JUDGED = {
    # The key of the second is a column of the first, null where a left join found nothing.
    "interval by interval": (
        f'a = interval_join "silver.r" {{ {INTERVAL}, kind = "left" }}, b = interval_join "silver.s" {{ on = {{ ["a.k2"] = "key" }}, between = {{ "-60s", "60s" }}, kind = "left" }}',
        f"SELECT l.id, r.id, s.id FROM l LEFT JOIN r ON {ON} LEFT JOIN s ON r.k2 = s.key AND s.at - l.at BETWEEN -{MINUTE} AND {MINUTE}"),
    "inner, anti": (
        f'a = interval_join "silver.r" {{ {INTERVAL} }}, b = interval_join "silver.s" {{ on = {{ ["a.k2"] = "key" }}, between = {{ "-5s", "5s" }}, kind = "anti" }}',
        f"SELECT l.id, r.id, NULL FROM l JOIN r ON {ON} WHERE NOT EXISTS (SELECT 1 FROM s WHERE s.key = r.k2 AND s.at - l.at BETWEEN INTERVAL '-5 seconds' AND INTERVAL '5 seconds')"),
    "condition over both": (
        f'a = interval_join "silver.r" {{ {INTERVAL} }}, b = interval_join "silver.s" {{ on = "k2", between = {{ "-60s", "60s" }}, where = function(e, j) return (e.n + j.a.n + j.b.n) % 2 == 0 end }}',
        f"SELECT l.id, r.id, s.id FROM l JOIN r ON {ON} JOIN s ON l.k2 = s.k2 AND s.at - l.at BETWEEN -{MINUTE} AND {MINUTE} AND (l.n + r.n + s.n) % 2 = 0"),
    "version, then window": (
        'a = temporal_join "silver.v" { on = "key", kind = "left", allowed_lateness = "2h" }, b = window_join "silver.s" { on = { ["a.k2"] = "key" }, window = tumbling "2m", kind = "left" }',
        f"""SELECT l.id, w.id, s.id FROM l LEFT JOIN {VERSIONS} w ON l.key = w.key AND w.at <= l.at AND (w.until IS NULL OR l.at < w.until)
            LEFT JOIN s ON w.k2 = s.key AND time_bucket({TWO}, s.at) = time_bucket({TWO}, l.at)"""),
    "window, then version of what it met": (
        'a = window_join "silver.s" { on = "key", window = tumbling "2m" }, b = temporal_join "silver.v" { on = { ["a.k2"] = "key" }, as_of = "a.at", kind = "left", allowed_lateness = "2h" }',
        f"""SELECT l.id, s.id, w.id FROM l JOIN s ON l.key = s.key AND time_bucket({TWO}, s.at) = time_bucket({TWO}, l.at)
            LEFT JOIN {VERSIONS} w ON s.k2 = w.key AND w.at <= s.at AND (w.until IS NULL OR s.at < w.until)"""),
    "window, then full": (
        f'a = window_join "silver.s" {{ on = "key", window = tumbling "2m" }}, b = interval_join "silver.r" {{ on = {{ ["a.k2"] = "key" }}, between = {{ "-60s", "60s" }}, kind = "full" }}',
        f"""SELECT l.id, l.sid, r.id FROM (SELECT l.id, s.id AS sid, s.k2, time_bucket({TWO}, l.at) + {TWO} - INTERVAL '1 microsecond' AS at
            FROM l JOIN s ON l.key = s.key AND time_bucket({TWO}, s.at) = time_bucket({TWO}, l.at)) l
            FULL JOIN r ON l.k2 = r.key AND r.at - l.at BETWEEN -{MINUTE} AND {MINUTE}"""),
    "right, then left": (
        f'a = interval_join "silver.r" {{ {INTERVAL}, kind = "right" }}, b = interval_join "silver.s" {{ on = {{ ["a.k2"] = "key" }}, between = {{ "-10s", "10s" }}, kind = "left" }}',
        f"""SELECT l.id, r.id, s.id FROM l RIGHT JOIN r ON {ON} LEFT JOIN s ON r.k2 = s.key AND s.at - coalesce(l.at, r.at) BETWEEN INTERVAL '-10 seconds' AND INTERVAL '10 seconds'"""),
}


def assert_same(got, want, least=100):
    """Few of what differs, where anything does."""
    got, want = sorted(got, key=repr), sorted(want, key=repr)
    assert len(want) > least
    if got != want:
        lost, more = sorted(set(want) - set(got), key=repr), sorted(set(got) - set(want), key=repr)
        assert (lost[:5], more[:5], len(got)) == ([], [], len(want))


def database_of(world, names="lrsv"):
    database = duckdb.connect()
    for name in names:
        database.register(name, world.table(f"silver.{name}"))
    return database


@pytest.mark.parametrize("case", JUDGED)
def test_several_joins_give_what_duckdb_computes(project, case):
    joins, sql = JUDGED[case]
    body = BOTH if '"anti"' not in joins else "out.a = j.a.id"
    # A table by key of `v` would keep the last version alone: its rows are written beside.
    world = World(project, COLUMNS, [SIDES.replace('key = "key" }', 'key = "key", into = none }'), side_of_versions(), stream(joins, IDS, body)], random_rows(2400, 7)).run()
    database = database_of(world, "lrs")
    database.register("v", world.table("silver.vs"))
    assert_same(world.rows("silver.j", "id", "a", "b"), database.sql(sql).fetchall())
    assert world.counts("silver.j")["late"] == 0


def side_of_versions():
    return 'return ' + side("v").replace('"silver.v"', '"silver.vs"')


def test_three_joins_and_what_they_found_leave_with_copy(project):
    rule = """return stream "silver.j" {
      from = "silver.l",
      join = {
        a = interval_join "silver.r" { on = "key", between = { "-30s", "90s" }, kind = "left" },
        b = temporal_join "silver.v2" { on = "k2", kind = "left", allowed_lateness = "2h" },
        c = interval_join "silver.s2" { on = { wanted = "key" }, between = { "-20s", "20s" }, kind = "full" },
      },
      columns = { c_id = "int64", a_id = "int64" },
      map = function(e, out, j) copy(out, j.b) out.c_id = j.c and j.c.s_id out.a_id = j.a and j.a.id end, keep = { "id" },
    }"""
    v2 = 'return stream "silver.v2" { from = "silver.vs", columns = { wanted = "string", v_id = "int64", since = "timestamp" }, map = function(e, out) out.wanted, out.v_id, out.since = e.key, e.id, e.at end, keep = { "k2" }, key = "k2", into = none }'
    s2 = 'return stream "silver.s2" { from = "silver.s", columns = { s_id = "int64" }, map = function(e, out) out.s_id = e.id end, drop = { "id" }, into = none }'
    world = World(project, COLUMNS, [SIDES, side_of_versions(), v2, s2, rule], random_rows(2400, 9)).run()
    database = database_of(world, "lrs")
    database.register("v", world.table("silver.vs"))
    want = database.sql(f"""SELECT l.id, s.id, r.id, w.k2, w.key, w.id FROM l LEFT JOIN r ON {ON}
        LEFT JOIN (SELECT *, lead(v.at) OVER (PARTITION BY v.k2 ORDER BY v.at, v.id) AS until FROM v WHERE k2 IS NOT NULL) w ON l.k2 = w.k2 AND w.at <= l.at AND (w.until IS NULL OR l.at < w.until)
        FULL JOIN s ON w.key = s.key AND s.at - l.at BETWEEN INTERVAL '-20 seconds' AND INTERVAL '20 seconds'""").fetchall()
    assert_same(world.rows("silver.j", "id", "c_id", "a_id", "k2", "wanted", "v_id"), want)


def test_what_is_looked_up_is_a_key_of_what_is_written_behind_it(project):
    rule = stream('a = lookup "silver.v" { on = "key", kind = "left" }, b = interval_join "silver.s" { on = { ["a.k2"] = "key" }, between = { "-60s", "60s" }, kind = "left" }, '
                  'c = lookup "silver.v" { on = { ["b.k2"] = "key" }, kind = "left" }, d = lookup "silver.v" { on = { ["c.k2"] = "key" } }',
                  'a = "int64", b = "int64", c = "int64", d = "int64"', BOTH + " out.c = j.c and j.c.id out.d = j.d.id")
    rows = random_rows(1500, 4)
    for each in rows:
        each["at"] = at("10:00:00") if each["side"] == "v" else each["at"]
    world = World(project, COLUMNS, [SIDES, rule])
    # All that is looked up is there before.
    world.feed([row for row in rows if row["side"] == "v"], "0.jsonl")
    world.feed([row for row in rows if row["side"] != "v"], "1.jsonl")
    world.run()
    last = "(SELECT * FROM v WHERE key IS NOT NULL QUALIFY row_number() OVER (PARTITION BY v.key ORDER BY v.id DESC) = 1)"
    want = database_of(world).sql(f"""SELECT l.id, a.id, s.id, c.id, d.id FROM l LEFT JOIN {last} a ON l.key = a.key
        LEFT JOIN s ON a.k2 = s.key AND s.at - l.at BETWEEN -{MINUTE} AND {MINUTE} LEFT JOIN {last} c ON s.k2 = c.key JOIN {last} d ON c.k2 = d.key""").fetchall()
    assert_same(world.rows("silver.j", "id", "a", "b", "c", "d"), want)


HOLDS = "where = function(e, j) return (e.n or 0) ~= j.@.n end"
CHANGED = {
    "left, full": ("left", "full", "", "SELECT l.id, r.id, s.id FROM l LEFT JOIN r ON l.key = r.key FULL JOIN s ON r.k2 = s.key"),
    "conditions": ("left", "full", HOLDS, """SELECT l.id, r.id, s.id FROM l LEFT JOIN r ON l.key = r.key AND l.n <> r.n
        FULL JOIN s ON r.k2 = s.key AND coalesce(l.n, 0) <> s.n"""),
    "inner, anti": ("inner", "anti", HOLDS, """SELECT l.id, r.id, NULL::BIGINT FROM l JOIN r ON l.key = r.key AND l.n <> r.n
        WHERE NOT EXISTS (SELECT 1 FROM s WHERE r.k2 = s.key AND l.n <> s.n)"""),
    "right, semi": ("right", "semi", HOLDS, """SELECT l.id, r.id, NULL::BIGINT FROM l RIGHT JOIN r ON l.key = r.key AND l.n <> r.n
        WHERE EXISTS (SELECT 1 FROM s WHERE r.k2 = s.key AND coalesce(l.n, 0) <> s.n)"""),
}


@pytest.mark.parametrize("case", CHANGED)
def test_changes_go_through_several_regular_joins(project, case):
    first, second, holds, sql = CHANGED[case]
    body, key = (BOTH, 'key = { "id", "a", "b" },') if second == "full" else ("out.a = j.a and j.a.id", 'key = { "id", "a" },')
    rule = stream(f'a = regular_join "silver.r" {{ on = "key", kind = "{first}", {holds.replace("@", "a")}{"," if holds else ""} ttl = none }}, '
                  f'b = regular_join "silver.s" {{ on = {{ ["a.k2"] = "key" }}, kind = "{second}", {holds.replace("@", "b")}{"," if holds else ""} ttl = none }}', IDS, body, key)
    total = 'return model "gold.t" { from = "silver.j", by = { "b" }, measures = { rows = count() }, into = delta { mode = "merge" } }'
    changing = SIDES.replace('end,  }', 'end, key = "id", into = delta { mode = "merge" } }')
    rows, alive = [], {}
    rng = random.Random(5)
    for row in sorted(random_rows(700, 5, "abcdefghijklmnop", "lrs"), key=lambda row: row["at"]): # the newest of a key is the last to come
        mine = alive.setdefault(row["side"], [])
        if len(mine) > 5 and rng.random() < 0.4:
            row["id"], row["_change"] = rng.choice(mine), rng.choice([2, 2, 3])
            if row["_change"] == 3:
                mine.remove(row["id"])
        else:
            row["_change"] = 0
            mine.append(row["id"])
        rows.append(row)
    world = World(project, {**COLUMNS, "_change": "int"}, [changing, rule, total], rows).run()
    want = database_of(world, "lrs").sql(sql).fetchall()
    assert_same(world.rows("silver.j", "id", "a", "b"), want, 20)
    groups = database_of(world, "lrs").sql(f"SELECT column2, count(*) FROM ({sql}) t(column0, column1, column2) GROUP BY ALL").fetchall()
    assert_same(world.rows("gold.t", "b", "rows"), groups, 0)


A = 'a = interval_join "silver.r" { on = "key", between = { "0s", "1m" } }, '
REFUSED = {
    "a column that two have": (A + 'b = interval_join "silver.s" { on = "k2", between = { "0s", "1m" } }, c = interval_join "silver.r" { on = { other = "key" }, between = { "0s", "1m" } }',
                               "", "", '"key" }, between', ["`other` is a column of `a`, line", "and of `b`, line", '"a.other"']),
    "a column none has": (A + 'b = interval_join "silver.s" { on = { ["a.nothing"] = "key" }, between = { "0s", "1m" } }', "", "", '"key" }, between',
                          ["has no column `a.nothing`"]),
    "two that copy the same": (A + 'b = interval_join "silver.s" { on = "k2", between = { "0s", "1m" } }', "", "copy(out, j.a) copy(out, j.b)", "copy(out, j.b)",
                               ["`other` leaves twice: b has it, and a"]),
    "a stream join behind changes": ('a = regular_join "silver.r" { on = "key", ttl = none }, b = interval_join "silver.s" { on = "k2", between = { "0s", "1m" } }', "", "",
                                     "interval_join", ["the rows of the regular_join `a` change", "write it before the regular_join"]),
    "a lookup behind changes": ('a = regular_join "silver.r" { on = "key", ttl = none }, b = lookup "silver.v" { on = "key" }', "", "", "b = lookup",
                                ["a lookup for the rows of the regular_join `a`", "write it before the regular_join"]),
    "windows twice": ('a = window_join "silver.r" { on = "key", window = tumbling "1m" }, b = window_join "silver.s" { on = "k2", window = tumbling "1m" }', "", "",
                      'window_join "silver.s"', ["has a column `window_start`, which a window join adds"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_follow_is_refused_at_its_place(project, case):
    joins, columns, assigns, marked, wanted = REFUSED[case]
    body = f"map = function(e, out, j) {assigns} end," if assigns else ""
    rule = f'return stream "silver.j" {{\n  from = "silver.l",\n  join = {{ {joins} }}, {body} key = "id", into = none }}'
    world = World(project, {**COLUMNS, "other": "string"}, [rule, SIDES.replace("where", 'drop = @, where', 1).replace("@", '{ "other" }')])
    assert_refused(world, place(rule, marked), *wanted, line=marked)


def test_explain_and_state_tell_each_join(project):
    joins, _ = JUDGED["interval by interval"]
    world = World(project, COLUMNS, [SIDES, stream(joins, IDS, BOTH)], random_rows(300, 2)).run()
    text = world.project.weir("explain", "silver.j").out
    assert "a: left interval_join of silver.r on key" in text and "b: left interval_join of silver.s on a.k2 = key" in text
    cells = world.project.weir("state", "ls").out
    assert all(name in cells for name in ("silver.j/left", "silver.j/right", "silver.j/b/left", "silver.j/b/right"))
    assert "silver.j: join b: about" in world.check().out


# --- chains at random ---------------------------------------------------------------------------

SEEDS = int(os.environ.get("WEIR_JOIN_SEEDS", "6"))
OUTER = {"inner": "JOIN", "left": "LEFT JOIN", "right": "RIGHT JOIN", "full": "FULL JOIN"}
ALL = [*OUTER, "semi", "anti"]


class Chain:
    """Two or three joins drawn from a seed: what a stream says of them, and what DuckDB is asked. What is done so far is `SELECT … FROM` self.sql, a row's time
    its t_at, what the join x found x_id, x_key, ….
    """

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.items, self.found, self.changes, self.windowed = [], [], False, False
        self.sql = "(SELECT l.*, l.at AS t_at FROM l)"
        for name in "abc"[:self.random.choice([2, 2, 3])]:
            self.add(name)

    def add(self, name):
        draw = self.random
        what = "regular" if self.changes else draw.choice(["interval", "interval", "temporal", "regular", *([] if self.windowed else ["window"])])
        kind = draw.choice(["inner", "left"] if what == "temporal" else ALL)
        left = draw.choice(["key", "k2", *(f"{x}.k2" for x in self.found)])
        side = "v" if what == "temporal" else draw.choice("rs")
        options = [f'on = {{ ["{left}"] = "key" }}', f'kind = "{kind}"', getattr(self, what)()]
        on = [f"t.{left.replace('.', '_')} = r.key", self.when]
        if draw.random() < 0.5:
            options.append(f"where = function(e, j) return ((e.n or 0) + j.{name}.n) % 3 ~= 0 end")
            on.append("(coalesce(t.n, 0) + r.n) % 3 <> 0")
        self.items.append(f'{name} = {what}_join "silver.{side}" {{ {", ".join(filter(None, options))} }}')
        self.step(name, kind, "w" if what == "temporal" else side, " AND ".join(filter(None, on)))

    def interval(self):
        low, high = sorted(self.random.randrange(-400, 400) for _ in range(2))
        self.when, self.time = f"r.at - t.t_at BETWEEN INTERVAL '{low} seconds' AND INTERVAL '{high} seconds'", "{}"
        return f'between = {{ "{low}s", "{high}s" }}'

    def window(self):
        self.windowed = True
        self.when, self.time = f"time_bucket({TWO}, r.at) = time_bucket({TWO}, t.t_at)", f"time_bucket({TWO}, {{}}) + {TWO} - INTERVAL '1 microsecond'"
        return 'window = tumbling "2m"'

    def temporal(self):
        self.when, self.time = "r.at <= t.t_at AND (r.until IS NULL OR t.t_at < r.until)", "{}"
        return 'allowed_lateness = "2h"'

    def regular(self):
        self.changes = True
        self.when, self.time = "", "{}"
        return "ttl = none"

    def step(self, name, kind, right, on):
        if kind in OUTER:
            self.sql = f"""(SELECT t.* REPLACE ({self.time.format("coalesce(t.t_at, r.at)")} AS t_at), r.id AS {name}_id, r.k2 AS {name}_k2
                FROM {self.sql} t {OUTER[kind]} {right} r ON {on})"""
            self.found.append(name)
        else:
            self.sql = f"""(SELECT t.* REPLACE ({self.time.format("t.t_at")} AS t_at) FROM {self.sql} t
                WHERE {"NOT" if kind == "anti" else ""} EXISTS (SELECT 1 FROM {right} r WHERE {on}))"""

    def rule(self):
        columns = ", ".join(f'{x}_id = "int64"' for x in self.found)
        assigns = " ".join(f"out.{x}_id = j.{x} and j.{x}.id" for x in self.found)
        body = f"columns = {{ {columns} }}, map = function(e, out, j) {assigns} end," if self.found else ""
        key = "key = { " + ", ".join(f'"{name}"' for name in self.columns()) + " }," if self.changes else ""
        return f'return stream "silver.j" {{ from = "silver.l", join = {{ {", ".join(self.items)} }}, {body} keep = {{ "id" }}, {key} }}'

    def columns(self):
        return ["id", *(f"{x}_id" for x in self.found)]


@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_joins_drawn_at_random_give_what_duckdb_computes(project, seed):
    """More of them: WEIR_JOIN_SEEDS=200."""
    chain = Chain(seed)
    rows = random_rows(900, seed, [f"key {i}" for i in range(40)])
    world = World(project, COLUMNS, [SIDES.replace('key = "key" }', 'key = "key", into = none }'), side_of_versions(), chain.rule()], rows).run()
    database = database_of(world, "lrs")
    database.register("v", world.table("silver.vs"))
    database.execute(f"CREATE VIEW w AS {VERSIONS[1:-1]}")
    want = database.sql(f"SELECT {', '.join(chain.columns())} FROM {chain.sql}").fetchall()
    got = [row if isinstance(row, tuple) else (row,) for row in world.rows("silver.j", *chain.columns())] if want else []
    assert_same(got, want, -1)
    assert world.counts("silver.j")["late"] == 0, chain.rule()


# --- reload -------------------------------------------------------------------------------------

def test_a_second_join_is_added_while_it_runs_and_the_first_keeps_its_rows(project):
    first = 'a = interval_join "silver.r" { on = "key", between = { "0s", "1h" } }'
    one = stream(first, IDS, "out.a = j.a.id")
    two = stream(first + ', b = interval_join "silver.s" { on = "key", between = { "-1h", "1h" }, kind = "left" }', IDS, "out.a = j.a.id out.b = j.b and j.b.id")
    world = World(project, COLUMNS, [SIDES, one], [row(1, "l"), row(2, "r")], options='\n  commit = { every = "20ms" },')
    process = project.start("run", "pipelines/p.lua")

    def found():
        return sorted(world.rows("silver.j", "id", "a", "b"), key=repr) if (project.root / "lake/silver/j/_delta_log").exists() else []
    try:
        wait_until(lambda: found() == [(1, 2, None)])
        project.write("rules/r1.lua", two)
        number = 2

        def live():  # the left row was there before the second join was
            nonlocal number
            number += 2
            world.feed([row(number, "s"), row(number + 1, "r")], f"b{number:05d}.jsonl")
            return any(id == 1 and b for id, _, b in found())
        wait_until(live)
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


def row(id, side):
    return {"id": id, "side": side, "key": "a", "k2": "a", "n": 1, "at": at("10:00:00")}


# --- crashes ------------------------------------------------------------------------------------

def crashing(project):
    rules = [side_of_versions()]
    for number, case in enumerate(["interval by interval", "version, then window", "right, then left"]):
        rules.append(stream(JUDGED[case][0], IDS, BOTH, name=f"silver.j{number}"))
    return crash_world(project, COLUMNS, SIDES.replace('key = "key" }', 'key = "key", into = none }'), rules, random_rows(5000, 21, [f"key {i}" for i in range(200)]))


undisturbed, test_killed_and_started_again_it_joins_the_same = crash_tests(crashing, ("silver/j0", "silver/j1", "silver/j2"))
