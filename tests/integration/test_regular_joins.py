"""regular_join: what is joined is kept true as both sides change, judged by DuckDB over what they are in the end; and that a crash changes nothing of it."""

import json
import random

import duckdb
import pytest

import lake
from joins import OPTIONS, POINTS, assert_join_refused, kill
from language import World, at, schema

KINDS = {"inner": "JOIN", "left": "LEFT JOIN", "right": "RIGHT JOIN", "full": "FULL JOIN"}
PIPELINE = """return pipeline "p" {
  rules = "rules", storage = delta { root = "lake" }, commit = { every = "20ms" },
  sources = {
    source "bronze.l" { files { path = "landing/l/*.jsonl" }, json { schema = "schemas/l.avsc" }, into = none },
    source "bronze.r" { files { path = "landing/r/*.jsonl" }, json { schema = "schemas/r.avsc" }, into = none },
  },
}
"""
COLUMNS = {"id": "long!", "key": "string", "n": "int", "at": "timestamp"}


def table(side, changes, body=""):
    more = 'key = "id", into = delta { mode = "merge" }' if changes else ""
    return f'stream "silver.{side}" {{ from = "bronze.{side}", time = {{ field = "at", out_of_order = "1h" }}, {body} {more} }}'


def joined(kind, name="silver.j", ttl="none", more=""):
    return f"""return stream "{name}" {{ from = "silver.l", join = {{ x = regular_join "silver.r" {{ on = "key", kind = "{kind}", ttl = {ttl} }} }},
      columns = {{ rid = "int64", rn = "int32" }}, map = function(e, out, j) if j.x then out.rid, out.rn = j.x.id, j.x.n end end,
      keep = {{ "id", "n" }}, key = {{ "id", "rid" }}, {more} }}"""


class Sides:
    """Rows of two sides that come, change and go (`changes`), in files that take turns."""

    def __init__(self, project, changes, rules, rows=1500, seed=3, keys=60, files=12, slow=False):
        self.project = project
        project.write("pipelines/p.lua", PIPELINE)
        spin = "where = function(e) local x = 0 for i = 1, 20000 do x = x + i end return true end," if slow else ""
        for number, side in enumerate("lr"):
            project.write(f"schemas/{side}.avsc", schema({**COLUMNS, **({"_change": "int"} if changes[number] else {})}))
            lines = self.lines(random.Random(seed + number), rows, keys, changes[number])
            for part in range(files):
                chunk = lines[part * len(lines) // files:(part + 1) * len(lines) // files]
                project.write(f"landing/{side}/{part:02d}.jsonl", "".join(json.dumps(line) + "\n" for line in chunk))
        project.write("rules/sides.lua", f"return {{ {table('l', changes[0], spin)}, {table('r', changes[1], spin)} }}")
        for index, rule in enumerate(rules):
            project.write(f"rules/r{index}.lua", rule)

    @staticmethod
    def lines(rng, count, keys, changes):
        """What a database tells: new rows of updates alone, the key of what is deleted."""
        lines, alive = [], []
        for number in range(count):
            time = at(f"{10 + number * 3600 // count // 3600:02d}:{number * 3600 // count // 60 % 60:02d}:{number * 3600 // count % 60:02d}")
            row = {"id": number, "key": rng.choice([None, *(f"key {i}" for i in range(keys))]), "n": rng.randrange(5), "at": time}
            chance = rng.random()
            if changes and alive and chance < 0.3:
                row["id"] = rng.choice(alive)
                row["_change"] = 2
            elif changes and alive and chance < 0.45:
                row = {"id": alive.pop(rng.randrange(len(alive))), "key": None, "n": None, "at": time, "_change": 3}
            else:
                alive.append(number)
                row |= {"_change": 0} if changes else {}
            lines.append(row)
        return lines

    def run(self, *arguments):
        self.summary = self.project.run("pipelines/p.lua", *arguments)
        return self

    def table(self, name):
        return lake.by_deltalake(self.project.root / "lake" / name.replace(".", "/"))

    def rows(self, name, *columns):
        return sorted(lake.rows_of(self.table(name), columns), key=repr)

    def judge(self, sql):
        database = duckdb.connect()
        for side in "lr":
            database.register(side, self.table(f"silver.{side}"))
        return sorted(database.sql(sql).fetchall(), key=repr)


@pytest.mark.parametrize("changes", [(False, False), (False, True), (True, False), (True, True)], ids=["both come", "right changes", "left changes", "both change"])
def test_the_table_is_the_join_of_what_both_sides_are(project, changes):
    world = Sides(project, changes, [joined(kind, f"silver.{kind}") for kind in KINDS]).run()
    for kind, join in KINDS.items():
        want = world.judge(f"SELECT l.id, l.n, r.id, r.n FROM l {join} r ON l.key = r.key")
        assert world.rows(f"silver.{kind}", "id", "n", "rid", "rn") == want and len(want) > 500, kind


def test_what_reads_the_join_takes_back_what_went(project):
    total = """return model "gold.t" { from = "silver.j", by = { "rid" }, measures = { rows = count(), sum = sum "n" }, into = delta { mode = "merge" } }"""
    filtered = """return stream "silver.odd" { from = "silver.j", where = function(e) return e.n % 2 == 1 end, key = { "id", "rid" }, into = delta { mode = "merge" } }"""
    world = Sides(project, (True, True), [joined("left"), total, filtered]).run()
    assert world.rows("gold.t", "rid", "rows", "sum") == world.judge("SELECT r.id, count(*), sum(l.n)::bigint FROM l LEFT JOIN r ON l.key = r.key GROUP BY ALL")
    assert world.rows("silver.odd", "id", "rid") == world.judge("SELECT l.id, r.id FROM l LEFT JOIN r ON l.key = r.key WHERE l.n % 2 = 1")


def test_models_that_change_are_joined(project):
    counts = 'model "gold.n" { from = "silver.l", by = { "key" }, measures = { rows = count() }, into = none }'
    sums = 'model "gold.s" { from = "silver.r", by = { "key" }, measures = { sum = sum "n" }, into = none }'
    both = """stream "gold.both" { from = "gold.n", join = { s = regular_join "gold.s" { on = "key", kind = "full", ttl = none } },
      columns = { key = "string", sum = "int64" }, map = function(e, out, j) if j.s then out.key, out.sum = j.s.key, j.s.sum end end, key = "key" }"""
    world = Sides(project, (True, False), [f"return {{ {counts}, {sums}, {both} }}"]).run()
    want = world.judge("""SELECT coalesce(a.key, b.key), rows, sum::bigint FROM (SELECT key, count(*) AS rows FROM l GROUP BY ALL) a
        FULL JOIN (SELECT key, sum(n) AS sum FROM r GROUP BY ALL) b ON a.key = b.key WHERE coalesce(a.key, b.key) IS NOT NULL""")
    assert [row for row in world.rows("gold.both", "key", "rows", "sum") if row[0] is not None] == want


def test_what_is_kept_can_be_read(project):
    Sides(project, (False, True), [joined("left")], rows=200).run()
    lines = [json.loads(line) for line in project.weir("state", "export", "silver.j").out.splitlines()]
    kept = {side: [line for line in lines if line["state"] == f"silver.j/{side}"] for side in ("left", "right")}
    database = duckdb.connect()
    for side in "lr":
        database.register(side, lake.by_deltalake(project.root / f"lake/silver/{side}"))
    met = dict(database.sql("SELECT l.id, count(r.id) FROM l LEFT JOIN r ON l.key = r.key WHERE l.key IS NOT NULL GROUP BY ALL").fetchall())
    assert {line["value"]["id"]: line["value"]["_met"] for line in kept["left"]} == met
    assert sorted(line["value"]["id"] for line in kept["right"]) == sorted(id for id, in database.sql("SELECT id FROM r WHERE key IS NOT NULL").fetchall())


# --- how long rows are kept ---------------------------------------------------------------------

ROW = {"id": "long!", "side": "string", "key": "string", "n": "int", "at": "timestamp"}
SIDES = """return {
  stream "silver.l" { from = "bronze.row", time = { field = "at", out_of_order = "1m" }, where = function(e) return e.side == "l" end },
  stream "silver.r" { from = "bronze.row", time = { field = "at", out_of_order = "1m" }, where = function(e) return e.side == "r" end },
}"""


def test_a_row_is_forgotten_when_others_are_younger_by_the_ttl(project):
    rows = [{"id": id, "side": side, "key": "a", "at": at(time)} for id, side, time in
            [(1, "l", "10:00:00"), (2, "r", "10:10:00"), (3, "r", "10:10:01"), (4, "l", "10:30:00"), (5, "l", "11:10:01"), (6, "r", "11:00:00")]]
    world = World(project, ROW, [SIDES, joined("left", ttl='{ left = "10m", right = "1h" }')])
    for index, row in enumerate(rows):
        world.feed([row], f"{index}.jsonl")
    world.run()
    assert sorted(world.rows("silver.j", "id", "rid"), key=repr) == [(1, 2), (4, 2), (4, 3), (5, 3), (5, 6)]


REFUSED = {
    "no ttl": ('regular_join "silver.r" { on = "key" }', "regular_join", ["says for how long it keeps rows", "ttl = none"]),
    "a ttl that is none": ('regular_join "silver.r" { on = "key", ttl = "soon" }', '"soon"', ["ttl takes how long rows are kept"]),
    "half a ttl": ('regular_join "silver.r" { on = "key", ttl = { left = "1h" } }', "{ left", ["ttl says nothing of the right side"]),
    "a kind there is not": ('regular_join "silver.r" { on = "key", kind = "anti", ttl = none }', '"anti"', ['no kind of join is called "anti"']),
    "no key": ('regular_join "silver.r" { ttl = none }', "regular_join", ["a join says by which columns"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_joined_is_refused_at_its_place(project, case):
    assert_join_refused(project, ROW, SIDES, REFUSED[case], more=' key = "id",')


def test_rows_that_change_need_a_key_or_somebody_who_remembers(project):
    plain = 'return stream "silver.j" { from = "silver.l", join = { x = regular_join "silver.r" { on = "key", ttl = none } } }'
    text = World(project, ROW, [plain, SIDES]).check()
    assert text.code == 1 and "the rows of `silver.j` change, and a table of them needs to know which are the same" in text.out + text.err
    changing = 'return stream "silver.j" { from = "bronze.row", join = { x = regular_join "silver.l" { on = "key", ttl = none } }, into = none }'
    text = World(project, {**ROW, "_change": "int"}, [changing, SIDES]).check()
    assert text.code == 1 and "the changes of bronze.row do not carry the old rows" in text.out + text.err


# --- crashes ------------------------------------------------------------------------------------

@pytest.mark.parametrize("point", POINTS)
def test_killed_and_started_again_it_joins_the_same(project, point):
    rules = [joined(kind, f"silver.{kind}") for kind in ("inner", "full")]
    world = Sides(project, (True, True), rules, rows=2500, files=25, slow=True)
    kill(project, point)
    world.run(*OPTIONS)
    for kind in ("inner", "full"):
        want = world.judge(f"SELECT l.id, l.n, r.id, r.n FROM l {KINDS[kind]} r ON l.key = r.key")
        assert world.rows(f"silver.{kind}", "id", "n", "rid", "rn") == want, f"{point}: {kind}"
