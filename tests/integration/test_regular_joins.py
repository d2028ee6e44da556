"""regular_join: what is joined is kept true as both sides change, judged by DuckDB over what they are in the end; and that a crash changes nothing of it."""

import json
import random
import signal

import duckdb
import pytest

import lake
from joins import OPTIONS, POINTS, assert_join_refused, kill
from language import World, at, schema
from live import wait_until

KINDS = {"inner": "JOIN", "left": "LEFT JOIN", "right": "RIGHT JOIN", "full": "FULL JOIN", "semi": "SEMI JOIN", "anti": "ANTI JOIN"}
# A condition of the pair, and what it is in SQL.
WHERE, HOLDS = "function(e, j) return (e.n + j.x.n) % 3 == 0 end", "(l.n + r.n) % 3 = 0"
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


def joined(kind, name="silver.j", ttl="none", more="", where=None):
    condition = f"where = {where}," if where else ""
    head = f"""return stream "{name}" {{ from = "silver.l", join = {{ x = regular_join "silver.r" {{ on = "key", kind = "{kind}", {condition} ttl = {ttl} }} }}, keep = {{ "id", "n" }}, {more}"""
    if kind in ("semi", "anti"):
        return head + ' key = "id" }'
    return head + """ columns = { rid = "int64", rn = "int32" }, key = { "id", "rid" },
      map = function(e, out, j) if j.x then out.rid, out.rn = j.x.id, j.x.n end end }"""


def columns_of(kind):
    return ["id", "n"] if kind in ("semi", "anti") else ["id", "n", "rid", "rn"]


def in_sql(kind, holds="true"):
    both = "" if kind in ("semi", "anti") else ", r.id, r.n"
    return f"SELECT l.id, l.n{both} FROM l {KINDS[kind]} r ON l.key = r.key AND {holds}"


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


CHANGES = pytest.mark.parametrize("changes", [(False, False), (False, True), (True, False), (True, True)],
                                  ids=["both come", "right changes", "left changes", "both change"])


@CHANGES
def test_the_table_is_the_join_of_what_both_sides_are(project, changes):
    world = Sides(project, changes, [joined(kind, f"silver.{kind}") for kind in KINDS]).run()
    for kind in KINDS:
        want = world.judge(in_sql(kind))
        assert world.rows(f"silver.{kind}", *columns_of(kind)) == want and len(want) > (5 if kind == "anti" else 400), kind


@CHANGES
def test_a_condition_says_which_pairs_there_are(project, changes):
    rules = [joined(kind, f"silver.{kind}", where=WHERE) for kind in KINDS]
    world = Sides(project, changes, rules, rows=600).run()
    for kind in KINDS:
        want = world.judge(in_sql(kind, HOLDS))
        assert world.rows(f"silver.{kind}", *columns_of(kind)) == want and len(want) > 5, kind


def test_a_table_by_the_left_key_where_each_row_has_one_other(project):
    """The condition leaves each left row one other at most, and an update may give it another: the old pair goes before the new one comes."""
    plain = joined("left", where="function(e, j) return j.x.id == e.n end").replace('key = { "id", "rid" }', 'key = "id"').replace('on = "key"', 'on = "all"')
    world = Sides(project, (True, True), [plain], rows=600)
    for side in "lr":
        rule = project.root / "rules/sides.lua"
        rule.write_text(rule.read_text().replace(f'from = "bronze.{side}",', f'from = "bronze.{side}", columns = {{ all = "int32" }}, map = function(e, out) out.all = 1 end,'))
    world.run()
    assert world.rows("silver.j", "id", "n", "rid") == world.judge("SELECT l.id, l.n, r.id FROM l LEFT JOIN r ON r.id = l.n")


def test_what_reads_the_join_takes_back_what_went(project):
    total = """return model "gold.t" { from = "silver.j", by = { "rid" }, measures = { rows = count(), sum = sum "n" }, into = delta { mode = "merge" } }"""
    filtered = """return stream "silver.odd" { from = "silver.j", where = function(e) return e.n % 2 == 1 end, key = { "id", "rid" }, into = delta { mode = "merge" } }"""
    world = Sides(project, (True, True), [joined("left"), total, filtered]).run()
    assert world.rows("gold.t", "rid", "rows", "sum") == world.judge("SELECT r.id, count(*), sum(l.n)::bigint FROM l LEFT JOIN r ON l.key = r.key GROUP BY ALL")
    assert world.rows("silver.odd", "id", "rid") == world.judge("SELECT l.id, r.id FROM l LEFT JOIN r ON l.key = r.key WHERE l.n % 2 = 1")


def test_what_reads_a_semi_or_anti_join_takes_back_what_went(project):
    rules = [joined(kind, f"silver.{kind}", where=WHERE, more="into = none,") for kind in ("semi", "anti")]
    rules += [f"""return model "gold.{kind}" {{ from = "silver.{kind}", by = {{ "n" }}, measures = {{ rows = count(), sum = sum "id" }}, into = delta {{ mode = "merge" }} }}"""
              for kind in ("semi", "anti")]
    world = Sides(project, (True, True), rules, keys=400).run()
    for kind in ("semi", "anti"):
        want = world.judge(f"SELECT n, count(*), sum(id)::bigint FROM ({in_sql(kind, HOLDS)}) GROUP BY ALL")
        assert world.rows(f"gold.{kind}", "n", "rows", "sum") == want and len(want) == 5, kind


def test_an_update_of_the_other_side_that_changes_no_verdict_leaves_no_trace(project):
    columns = {"id": "long!", "key": "string", "n": "int", "at": "timestamp"}
    for side, changes in (("l", {}), ("r", {"_change": "int"})):
        project.write(f"schemas/{side}.avsc", schema({**columns, **changes}))
    project.write("pipelines/p.lua", PIPELINE)
    project.write("rules/sides.lua", f"return {{ {table('l', False)}, {table('r', True)} }}")
    project.write("rules/r0.lua", joined("semi", "silver.semi", where=WHERE, more="into = none,"))
    project.write("rules/r1.lua", 'return model "gold.log" { from = "silver.semi", by = { "id" }, measures = { rows = count() }, into = delta { mode = "merge" } }')
    project.write("landing/l/0.jsonl", json.dumps({"id": 1, "key": "a", "n": 0, "at": at("10:00:00")}) + "\n")
    project.write("landing/r/0.jsonl", "".join(json.dumps({"id": 2, "key": "a", "n": n, "at": at("10:00:00"), "_change": 0 if n == 0 else 2}) + "\n" for n in (0, 3, 6)))
    summary = project.run("pipelines/p.lua")
    assert summary["datasets"]["gold.log"]["in"] == 1


def test_what_the_condition_throws_for_is_told_once(project):
    """A pair it throws for is none, and a row in quarantine; when the row goes nobody is told again."""
    raises = "function(e, j) if j.x.n == 2 then error('two') end return (e.n + j.x.n) % 3 == 0 end"
    rules = [joined(kind, f"silver.{kind}", where=raises) for kind in ("left", "anti")]
    world = Sides(project, (False, True), rules, rows=400).run()
    for kind in ("left", "anti"):
        want = world.judge(in_sql(kind, f"r.n <> 2 AND {HOLDS}"))
        assert world.rows(f"silver.{kind}", *columns_of(kind)) == want, kind
        refused = lake.by_deltalake(project.root / f"lake/quarantine/silver/{kind}")
        assert refused.num_rows == world.summary["datasets"][f"silver.{kind}"]["quarantined"] > 100
        assert all("two" in str(row) for row in refused.to_pylist()[:5])
    # Every pair with a row of n = 2 came once for each time one of both came.
    alone = Sides.lines(random.Random(3), 400, 60, False)
    came = [line for line in Sides.lines(random.Random(4), 400, 60, True) if line["_change"] != 3 and line["n"] == 2]
    most = sum(a["key"] is not None and a["key"] == b["key"] for a in alone for b in came)
    assert refused.num_rows <= most


def test_models_that_change_are_joined(project):
    counts = 'model "gold.n" { from = "silver.l", by = { "key" }, measures = { rows = count() }, into = none }'
    sums = 'model "gold.s" { from = "silver.r", by = { "key" }, measures = { sum = sum "n" }, into = none }'
    both = """stream "gold.both" { from = "gold.n", join = { s = regular_join "gold.s" { on = "key", kind = "full", ttl = none } },
      columns = { key = "string", sum = "int64" }, map = function(e, out, j) if j.s then out.key, out.sum = j.s.key, j.s.sum end end, key = "key" }"""
    world = Sides(project, (True, False), [f"return {{ {counts}, {sums}, {both} }}"]).run()
    want = world.judge("""SELECT coalesce(a.key, b.key), rows, sum::bigint FROM (SELECT key, count(*) AS rows FROM l GROUP BY ALL) a
        FULL JOIN (SELECT key, sum(n) AS sum FROM r GROUP BY ALL) b ON a.key = b.key WHERE coalesce(a.key, b.key) IS NOT NULL""")
    assert [row for row in world.rows("gold.both", "key", "rows", "sum") if row[0] is not None] == want


def test_sides_without_a_table_are_remembered_by_their_key(project):
    quiet = [f'return stream "silver.{side}{side}" {{ from = "bronze.{side}", time = {{ field = "at", out_of_order = "1h" }}, key = "id", into = none }}' for side in "lr"]
    rules = [joined("full").replace('"silver.l"', '"silver.ll"').replace('"silver.r"', '"silver.rr"'),
             'return model "gold.t" { from = "silver.ll", by = { "n" }, measures = { rows = count() }, into = delta { mode = "merge" } }']
    world = Sides(project, (True, True), rules + quiet).run()
    assert world.rows("silver.j", *columns_of("full")) == world.judge(in_sql("full"))
    assert world.rows("gold.t", "n", "rows") == world.judge("SELECT n, count(*) FROM l GROUP BY ALL")


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


def test_a_ttl_holds_for_a_semi_join_as_well(project):
    """What a row met stays as it is when that is forgotten, and what is forgotten is met by nobody."""
    rows = [{"id": id, "side": side, "key": key, "at": at(time)} for id, side, key, time in
            [(1, "l", "a", "10:00:00"), (2, "r", "a", "10:05:00"), (3, "l", "b", "10:00:00"), (4, "r", "b", "10:30:00"),
             (5, "r", "c", "10:31:00"), (6, "l", "c", "11:31:01"), (7, "l", "c", "11:30:00")]]
    world = World(project, ROW, [SIDES, *(joined(kind, f"silver.{kind}", ttl='{ left = "10m", right = "1h" }').replace('"id", "n"', '"id"') for kind in ("semi", "anti"))])
    for index, row in enumerate(rows):
        world.feed([row], f"{index}.jsonl")
    world.run()
    assert sorted(world.rows("silver.semi", "id")) == [1, 7]
    assert sorted(world.rows("silver.anti", "id")) == [3, 6]


REFUSED = {
    "no ttl": ('regular_join "silver.r" { on = "key" }', "regular_join", ["says for how long it keeps rows", "ttl = none"]),
    "a ttl that is none": ('regular_join "silver.r" { on = "key", ttl = "soon" }', '"soon"', ["ttl takes how long rows are kept"]),
    "half a ttl": ('regular_join "silver.r" { on = "key", ttl = { left = "1h" } }', "{ left", ["ttl says nothing of the right side"]),
    "a kind there is not": ('regular_join "silver.r" { on = "key", kind = "outer", ttl = none }', '"outer"', ['no kind of join is called "outer"']),
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


# --- reloads ------------------------------------------------------------------------------------

LIMIT = """local LIMIT = @LIMIT@
local function near(a, b) return math.abs(a - b) <= LIMIT end
"""


def test_a_condition_that_says_something_else_is_another_join(project):
    """Pairs that are there are known by it. A comment, a space, and `map` may change; a constant of it may not."""
    rule = LIMIT + joined("left", where="function(e, j) return near(e.n, j.x.n) end", more="--[[@COMMENT@]]")
    def written(limit, comment, factor):
        return rule.replace("@LIMIT@", limit).replace("@COMMENT@", comment).replace("j.x.id, j.x.n", f"j.x.id, j.x.n * {factor}")
    world = Sides(project, (False, False), [written("1", "", 1)], rows=40, keys=3, files=1)
    process = project.start("run", "pipelines/p.lua", "--json", *OPTIONS)
    number = 1000

    def found():
        try:
            return lake.rows_of(world.table("silver.j"), ("id", "rid", "rn"))
        except Exception:
            return []

    def live(factor):
        nonlocal number
        number += 2
        for side, id in (("l", number), ("r", number + 1)):
            project.write(f"landing/{side}/z{number}.jsonl", json.dumps({"id": id, "key": f"new {number}", "n": 2, "at": at("12:00:00")}) + "\n")
        return any(rn == 2 * factor for id, _, rn in found() if id >= 1000)

    def note():
        return project.weir("status", "pipelines/p.lua", "--json").json()["note"] or ""
    try:
        wait_until(lambda: live(1))
        project.write("rules/r0.lua", written("1", "it is near", 10).replace("return near(e.n, j.x.n)", "return near( e.n,   j.x.n ) --[[ so ]]"))
        wait_until(lambda: live(10))
        project.write("rules/r0.lua", written("2", "", 100))
        wait_until(lambda: "silver.j: its join `x`" in note())
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert not any(rn == 200 for id, _, rn in found() if id >= 1000)


# --- crashes ------------------------------------------------------------------------------------

@pytest.mark.parametrize("point", POINTS)
def test_killed_and_started_again_it_joins_the_same(project, point):
    rules = [joined(kind, f"silver.{kind}") for kind in ("inner", "full", "semi")]
    rules += [joined(kind, f"silver.{kind}_where", where=WHERE) for kind in ("left", "anti")]
    world = Sides(project, (True, True), rules, rows=2500, files=25, slow=True)
    kill(project, point)
    world.run(*OPTIONS)
    for kind in ("inner", "full", "semi"):
        assert world.rows(f"silver.{kind}", *columns_of(kind)) == world.judge(in_sql(kind)), f"{point}: {kind}"
    for kind in ("left", "anti"):
        assert world.rows(f"silver.{kind}_where", *columns_of(kind)) == world.judge(in_sql(kind, HOLDS)), f"{point}: {kind}"
