"""Regular joins larger than their memory: rows wait on disk and come back, and nothing tells but the figures. Judged by DuckDB over what both sides are in the
end, and by a run with memory enough."""

import collections
import json
import random

import disk
import duckdb
import lake
import pytest
from joins import OPTIONS, kill
from language import schema

KINDS = {"inner": "JOIN", "left": "LEFT JOIN", "right": "RIGHT JOIN", "full": "FULL JOIN", "semi": "SEMI JOIN", "anti": "ANTI JOIN"}
WHERE, HOLDS = "function(e, j) return (e.n + j.x.n) % 3 == 0 end", "(l.n + r.n) % 3 = 0"
BASE = 1767600000_000000
COLUMNS = {"id": "long!", "side": "string", "key": "long", "n": "int", "text": "string", "at": "timestamp"}
TIMED = 'stream "silver.row" { from = "bronze.row", time = { field = "at", out_of_order = "1m" }, into = none }'
SIDE = """model "silver.@" { from = "silver.row", where = function(e) return e.side == "@" end, by = { "id" }, measures = { key = last "key", n = last "n", text = last "text" }, into = delta { mode = "merge" } }"""
ONLY_COMES = 'stream "silver.@" { from = "silver.row", where = function(e) return e.side == "@" end, key = "id", into = delta { mode = "merge" } }'


def joined(kind, name=None, ttl="none", where=None):
    condition = f"where = {where}," if where else ""
    head = f"""return stream "silver.{name or kind}" {{ from = "silver.l", join = {{ x = regular_join "silver.r" {{ on = "key", kind = "{kind}", {condition} ttl = {ttl} }} }}, keep = {{ "id", "n", "text" }},"""
    if kind in ("semi", "anti"):
        return head + ' key = "id" }'
    return head + f""" columns = {{ rid = "int64", rn = "int32", rtext = "string" }}, key = {{ "id", "rid" }},
      map = function(e, out, j) if j.x then out.rid, out.rn, out.rtext = j.x.id, j.x.n, j.x.text end end }}"""


def drawn(rows, keys, seed=1, changes=True):
    """Rows of both sides, and changed ones (which models tell as updates); a few have no key. A tenth of the keys has half of the rows."""
    draw = random.Random(seed)
    there, lines = {"l": [], "r": []}, []
    for i in range(rows):
        side = draw.choice("lr")
        key = None if draw.random() < 0.02 else draw.randrange(keys // 10 if draw.random() < 0.5 else keys)
        row = {"id": i, "side": side, "key": key, "n": draw.randrange(6), "text": f"a text of {i} " + "x" * draw.randrange(60), "at": BASE + i * 20_000}
        if changes and there[side] and draw.random() < 0.3:
            row["id"] = draw.choice(there[side])
            row["key"] = key if draw.random() < 0.5 else draw.randrange(keys)
        else:
            there[side].append(i)
        lines.append(row)
    return lines


def write(project, lines, rules, files=8, memory="1MB", every="100ms", snapshot="1s", changes=True, more=""):
    project.write("schemas/row.avsc", schema(COLUMNS))
    disk.write_pipeline(project, memory, every, snapshot, more)
    side = SIDE if changes else ONLY_COMES
    project.write("rules/sides.lua", f"return {{ {TIMED}, {side.replace('@', 'l')}, {side.replace('@', 'r')} }}")
    for index, rule in enumerate(rules):
        project.write(f"rules/r{index}.lua", rule)
    feed(project, lines, files)


def feed(project, lines, files, first=0):
    """A file has rows of one side: what comes of it hangs on no batch."""
    part = (len(lines) + files - 1) // files
    for f in range(files):
        for s, side in enumerate("lr"):
            some = [line for line in lines[f * part:(f + 1) * part] if line["side"] == side]
            project.write(f"in/{first + f:03d}{s}.jsonl", "".join(json.dumps(line) + "\n" for line in some))


def rows_of(project, name, columns):
    return sorted(lake.rows_of(lake.by_deltalake(project.root / "lake/silver" / name), columns), key=repr)


def columns_of(kind):
    return ("id", "n", "text") if kind in ("semi", "anti") else ("id", "n", "text", "rid", "rn", "rtext")


def both_sides(project):
    """A database whose tables are l and r."""
    database = duckdb.connect()
    for side in "lr":
        database.register(side, lake.by_deltalake(project.root / "lake/silver" / side))
    return database


def judge(project, kind, holds="true"):
    both = "" if kind in ("semi", "anti") else ", r.id, r.n, r.text"
    return sorted(both_sides(project).sql(f"SELECT l.id, l.n, l.text{both} FROM l {KINDS[kind]} r ON l.key = r.key AND {holds}").fetchall(), key=repr)


def spilled(project):
    return disk.used(project) and disk.is_empty(project)


@pytest.mark.parametrize("condition", [False, True], ids=["by key", "with a condition"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_table_is_the_join_of_what_both_sides_are(project, kind, condition):
    write(project, drawn(24000, 6000), [joined(kind, where=WHERE if condition else None)])
    project.run("pipelines/p.lua")
    want = judge(project, kind, HOLDS if condition else "true")
    assert rows_of(project, kind, columns_of(kind)) == want and len(want) > 500
    assert spilled(project), "so many rows do not fit, and nothing of them is left behind"


@pytest.mark.parametrize("ttl", ["none", '{ left = "60s", right = "90s" }'], ids=["for ever", "for a while"])
def test_what_leaves_is_as_with_memory_enough(new_project, ttl):
    """A replay has all of it in memory, and has to say the same of every epoch."""
    made = []
    for memory in ("1MB", "1GB"):
        project = new_project(memory)
        write(project, drawn(24000, 6000, seed=2, changes=False), [joined("inner", ttl=ttl)], memory=memory, changes=False, files=20)
        project.write("pipelines/p.lua", (project.root / "pipelines/p.lua").read_text().replace("ledger = {", 'ledger = { keep = "1h",'))
        summary = project.run("pipelines/p.lua")
        made.append(rows_of(project, "inner", columns_of("inner")))
        assert spilled(project) == (memory == "1MB")
        for epoch in range(1, summary["epochs"] + 1, 3) if memory == "1MB" else ():
            outcome = project.weir("replay", "pipelines/p.lua", "--epoch", str(epoch))
            assert outcome.code == 0 and "the same outputs and state" in outcome.out, outcome
    assert len(made[0]) > 2000
    assert made[0] == made[1]


@pytest.mark.parametrize("ttl", [False, True], ids=["for ever", "for a while"])
def test_killed_again_and_again_it_goes_on_from_records_and_snapshots(new_project, ttl):
    """With a ttl rows meet by their times alone, so a run that nobody disturbed says what there is."""
    lines = drawn(24000, 6000, seed=3, changes=not ttl)
    rules = [joined("full" if not ttl else "inner", "j", ttl='"60s"' if ttl else "none")]
    project = new_project("killed")
    write(project, lines, rules, every="50ms", snapshot="300ms", changes=not ttl, files=20)
    disk.kill_again_and_again(project, 5, 0.3)
    project.run("pipelines/p.lua")
    found = rows_of(project, "j", columns_of("full"))
    if not ttl:
        assert found == judge(project, "full")
        return
    undisturbed = new_project("undisturbed")
    write(undisturbed, lines, rules, memory="1GB", changes=False, files=20)
    undisturbed.run("pipelines/p.lua")
    assert found == rows_of(undisturbed, "j", columns_of("full")) and len(found) > 2000


@pytest.mark.parametrize("point", ["ledger_torn_write:6", "ledger_after_sync:9", "delta_after_commit:7", "snapshot_after_publish:2", "snapshot_begin:3"])
def test_killed_at_a_fault_point_it_joins_the_same(project, point):
    write(project, drawn(16000, 4000, seed=4), [joined("full"), joined("semi", where=WHERE)], files=30)
    kill(project, point)
    project.run("pipelines/p.lua", *OPTIONS)
    assert rows_of(project, "full", columns_of("full")) == judge(project, "full")
    assert rows_of(project, "semi", columns_of("semi")) == judge(project, "semi", HOLDS)


def test_a_start_takes_over_what_does_not_fit(project):
    """Its snapshot and records are of more rows than its memory holds; what comes then meets them."""
    lines = drawn(24000, 6000, seed=5)
    write(project, lines[:16000], [joined("full")], snapshot="300ms")
    project.run("pipelines/p.lua")
    feed(project, lines[16000:], 4, first=100)
    project.run("pipelines/p.lua")
    assert rows_of(project, "full", columns_of("full")) == judge(project, "full")


def test_a_start_takes_no_more_memory_than_the_budget(project):
    """Each slice of a snapshot has rows of every key, whose others are on disk by then and stay there."""
    write(project, drawn(32000, 400, seed=10, changes=False), [joined("semi")], memory="2MB", changes=False, files=4)
    project.run("pipelines/p.lua")
    assert spilled(project)
    summary = project.run("pipelines/p.lua")
    assert summary["events"] == 0 and summary["figures"]["state_bytes"] < 5 << 20, summary["figures"]


def test_weir_state_shows_rows_that_are_on_disk(project):
    write(project, drawn(16000, 4000, seed=6), [joined("left")], snapshot="300ms")
    project.run("pipelines/p.lua")
    lines = [json.loads(line) for line in project.weir("state", "export", "silver.left").out.splitlines()]
    database = both_sides(project)
    met = dict(database.sql("SELECT l.id, count(r.id) FROM l LEFT JOIN r ON l.key = r.key WHERE l.key IS NOT NULL GROUP BY ALL").fetchall())
    assert {line["value"]["id"]: line["value"]["_met"] for line in lines if line["state"] == "silver.left/left"} == met
    right = collections.Counter(line["value"]["id"] for line in lines if line["state"] == "silver.left/right")
    assert right == collections.Counter(id for id, in database.sql("SELECT id FROM r WHERE key IS NOT NULL").fetchall())


def test_a_join_of_a_join_waits_in_its_turn(project):
    """Both are larger than memory, and the second reads the same rows as the first."""
    again = """return stream "silver.both" { from = "silver.l", keep = { "id", "n" }, columns = { rid = "int64", sid = "int64" }, key = { "id", "rid", "sid" },
      join = { x = regular_join "silver.r" { on = "key", ttl = none }, y = regular_join "silver.r" { on = "key", kind = "left", ttl = none, where = function(e, j) return e.n == j.y.n end } },
      map = function(e, out, j) out.rid = j.x.id if j.y then out.sid = j.y.id end end }"""
    write(project, drawn(12000, 6000, seed=7), [again])
    project.run("pipelines/p.lua")
    want = both_sides(project).sql("SELECT l.id, l.n, r.id, s.id FROM l JOIN r ON l.key = r.key LEFT JOIN r s ON l.key = s.key AND l.n = s.n").fetchall()
    assert rows_of(project, "both", ("id", "n", "rid", "sid")) == sorted(want, key=repr) and len(want) > 3000


def test_rows_that_expire_on_disk_are_forgotten_there(project):
    """Keys of the first half are never met again."""
    lines = drawn(16000, 4000, seed=8, changes=False) + [{**line, "key": None if line["key"] is None else line["key"] + 10000, "id": line["id"] + 100000, "at": line["at"] + 900_000_000}
                                                         for line in drawn(32000, 8000, seed=9, changes=False)]
    write(project, lines, [joined("inner", ttl='"60s"')], changes=False, snapshot="300ms", more=" serve = { http = { port = 0 } },")
    figures = disk.run_until_forgotten(project, "silver.inner", 2000)
    assert figures["written_total"] > 4000 and figures["found_total"] > 0
