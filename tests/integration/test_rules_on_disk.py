"""What rules remember, larger than its memory: keys wait on disk and come back, and nothing tells but the figures."""

import collections
import heapq
import json
import random

import disk
import lake
import language
import pyarrow.parquet
import pytest

COLUMNS = {"k": "long!", "v": "long!", "at": "timestamp!"}
KEYS = 8000
BASE = 1767600000_000000
STREAM = """return stream "silver.row" { from = "bronze.row", time = { field = "at", out_of_order = "30s" }, into = none }"""
# Every kind of cell, a timer that is put off, and rows that throw after they wrote.
RULE = """return rule "shop.seen" {
  on = "silver.row", key = "k", order = "@ORDER@",
  emits = { ["gold.seen"] = { k = "int64", what = "string", n = "int64", total = "int64", most = "int64", kinds = "int64", far = "int64", text = "string" } },
  state = {
    last = value { v = "int64", text = "string" }, n = counter(), recent = ring(4, "int64"), notes = list(3, "string"),
    by = map(8, "int64", "int64"), kinds = set(8, "int64"), far = sketch "int64",@TTL@
  },
  process = function(e, s, p, emit)
    local n = s.n:add()
    s.recent:push(e.v)
    if s.notes:count() < 3 then s.notes:push("note " .. tostring(e.v)) end
    s.by:set(e.v % 4, e.v)
    s.kinds:add(e.v % 8)
    s.far:add(e.v)
    s.last:set { v = e.v, text = "text of " .. tostring(e.v) }
    if e.v % 50 == 7 then error("no") end
    s:timer("quiet", e.at + seconds(20))
    emit("gold.seen", { k = e.k, what = s.notes:first(), n = n, total = s.recent:sum(), most = s.by:get(e.v % 4), kinds = s.kinds:count(), far = s.far:count(),
                        text = s.last:get().text })
  end,
  timers = {
    quiet = function(key, s, p, emit)
      emit("gold.seen", { k = key, what = "quiet", n = s.n:get(), total = s.recent:sum(), far = s.far:count() })
      if s.n:get() % 3 == 0 then s:clear() end
    end,
  },
}
"""


def drawn(rows, seed=1, keys=KEYS):
    """A second of event time is fifty rows; each lies up to ten seconds beside it."""
    draw = random.Random(seed)
    return [{"k": draw.randrange(keys), "v": draw.randrange(1000), "at": BASE + i * 20_000 + draw.randrange(10_000_000)} for i in range(rows)]


def write(project, rows, files=6, memory="1MB", every="100ms", snapshot="1s", order="time", ttl="", rule=RULE, more=""):
    project.write("schemas/row.avsc", language.schema(COLUMNS))
    disk.write_pipeline(project, memory, every, snapshot, more)
    project.write("rules/row.lua", STREAM)
    project.write("rules/seen.lua", rule.replace("@ORDER@", order).replace("@TTL@", ttl))
    part = (len(rows) + files - 1) // files
    for f in range(files):
        project.write(f"in/{f:02d}.jsonl", "".join(json.dumps(row) + "\n" for row in rows[f * part:(f + 1) * part]))


def model(rows, ttl=None, order="time"):
    """What the rule says, in plain Python. By time, then arrival; a timer comes after the rows of its time; a key is there for all of its last moment."""
    def fire(before):
        while timers and timers[0][0] < before:
            when, key = heapq.heappop(timers)
            if wanted.get(key) == when:
                del wanted[key]
                entry = look(key, when)
                n, recent, far = (entry["n"], entry["recent"], entry["far"]) if entry else (0, [], set())
                out.append((key, "quiet", n, sum(recent), None, None))
                if n % 3 == 0:
                    held.pop(key, None)

    def look(key, now):
        entry = held.get(key)
        if entry and ttl and now - entry["changed"] > ttl:
            del held[key]
            entry = None
        return entry

    held, timers, wanted, out, watermark = {}, [], {}, [], -1 << 60
    for row in sorted(rows, key=lambda row: row["at"]) if order == "time" else rows:
        gate = row["at"] if order == "time" else watermark
        watermark = max(watermark, row["at"] - 30_000_000)
        fire(gate)
        entry = look(row["k"], gate)
        if row["v"] % 50 == 7:
            continue
        entry = held.setdefault(row["k"], entry or {"n": 0, "recent": [], "notes": [], "by": {}, "kinds": set(), "far": set()})
        v = row["v"]
        entry["n"] += 1
        entry["recent"] = [*entry["recent"], v][-4:]
        entry["notes"] = entry["notes"] if len(entry["notes"]) == 3 else [*entry["notes"], f"note {v}"]
        entry["by"][v % 4] = v
        entry["kinds"].add(v % 8)
        entry["changed"] = max(entry.get("changed", 0), row["at"])
        when = row["at"] + 20_000_000
        if wanted.get(row["k"]) != when:
            wanted[row["k"]] = when
            heapq.heappush(timers, (when, row["k"]))
        out.append((row["k"], entry["notes"][0], entry["n"], sum(entry["recent"]), len(entry["kinds"]), f"text of {v}"))
    fire(1 << 62)
    return out


def told(project):
    rows = lake.by_deltalake(project.root / "lake/gold/seen").to_pylist()
    return [(row["k"], row["what"], row["n"], row["total"], row["kinds"], row["text"]) for row in rows]


def left(project):
    """All rows in the order in which they were committed."""
    table, rows = project.root / "lake/gold/seen", []
    for version in sorted((table / "_delta_log").glob("*.json")):
        adds = [json.loads(line)["add"] for line in version.read_text().splitlines() if '"add"' in line]
        for path in sorted(add["path"] for add in adds if add["dataChange"]):
            rows += pyarrow.parquet.read_table(table / path).to_pylist()
    return rows


def counted(rows):
    return collections.Counter(rows)


@pytest.mark.parametrize("order", ["time", "arrival"])
@pytest.mark.parametrize("ttl", [None, 120_000_000])
def test_what_a_rule_remembers_comes_back_whole(project, order, ttl):
    rows = drawn(24000)
    write(project, rows, order=order, ttl=f' ttl = "{ttl // 1_000_000}s",' if ttl else "")
    project.run("pipelines/p.lua")
    assert counted(told(project)) == counted(model(rows, ttl, order))
    assert disk.used(project), "so many keys do not fit"
    assert disk.is_empty(project), "nothing of it is left behind"


def test_what_leaves_is_as_with_memory_enough_and_in_the_same_order(new_project):
    made = []
    for memory in ("1MB", "1GB"):
        project = new_project(memory)
        write(project, drawn(24000, seed=2), memory=memory)
        project.run("pipelines/p.lua")
        made.append(left(project))
        assert disk.used(project) == (memory == "1MB")
    assert len(made[0]) > 24000
    assert made[0] == made[1]


@pytest.mark.parametrize("ttl", [None, 120_000_000])
def test_killed_again_and_again_it_goes_on_from_records_and_snapshots(project, ttl):
    rows = drawn(24000, seed=3)
    write(project, rows, every="50ms", snapshot="300ms", ttl=f' ttl = "{ttl // 1_000_000}s",' if ttl else "")
    disk.kill_again_and_again(project, 4, 0.3)
    project.run("pipelines/p.lua")
    assert counted(told(project)) == counted(model(rows, ttl))


COUNTS = """return rule "shop.seen" {
  on = "silver.row", key = "k", order = "arrival", into = none, emits = { ["gold.none"] = { k = "int64" } },
  state = { n = counter(), text = value "string",@TTL@ },
  process = function(e, s) s.n:add() s.text:set("a text that is longer than what fits beside a slot, of " .. tostring(e.k)) end,
}
"""


def state_of(project):
    lines = project.weir("state", "export", "shop.seen/state").out.splitlines()
    entries = [json.loads(line) for line in lines]
    assert len({entry["key"]["k"] for entry in entries}) == len(entries)
    return {entry["key"]["k"]: entry["value"]["n"] for entry in entries}


def test_weir_state_shows_keys_that_are_on_disk(project):
    rows = drawn(24000, seed=4)
    write(project, rows, rule=COUNTS, snapshot="300ms")
    project.run("pipelines/p.lua")
    assert disk.used(project)
    assert state_of(project) == dict(collections.Counter(row["k"] for row in rows))


def test_cells_declared_otherwise_take_what_is_on_disk_over(project):
    rows = drawn(24000, seed=5)
    write(project, rows[:16000], rule=COUNTS)
    project.run("pipelines/p.lua")
    write(project, rows[16000:], rule=COUNTS.replace("n = counter(),", "n = counter(), more = counter(),"), files=3)
    for name in range(3):
        (project.root / f"in/{name:02d}.jsonl").rename(project.root / f"in/x{name:02d}.jsonl")
    project.run("pipelines/p.lua")
    assert state_of(project) == dict(collections.Counter(row["k"] for row in rows))
    write(project, [], rule=COUNTS.replace("n = counter(),", "").replace("s.n:add() ", ""), files=1)
    outcome = project.weir("run", "pipelines/p.lua", "--until-end", "--quiet")
    assert outcome.code != 0 and "is gone" in outcome.err and "migrate" in outcome.err, outcome


def test_keys_that_expire_on_disk_are_forgotten_there(project):
    """Keys of the first half are never met again."""
    early = drawn(16000, seed=6)
    late = [{**row, "k": row["k"] + KEYS, "at": row["at"] + 600_000_000} for row in drawn(24000, seed=7)]
    write(project, early + late, rule=COUNTS, ttl=' ttl = "60s",', snapshot="300ms", more=" serve = { http = { port = 0 } },")
    disk.run_until_forgotten(project, "shop.seen", 2000)
    last = max(row["at"] for row in late)
    assert set(state_of(project)) >= {row["k"] for row in late if row["at"] > last - 30_000_000}
