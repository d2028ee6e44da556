"""A rule's state goes on when its cells change: live, at a restart, back again, and not at all when a function that migrates throws."""

import json

import lake
import pytest
from language import World
from live import Live, wait_until

ROW = {"k": "string!", "v": "long!", "at": "timestamp!"}
OPTIONS = ' commit = { every = "20ms" }, ledger = { keep = "1h", snapshot_every = "100ms" },'
HEAD = """return rule "fraud.seen" {
  %s on = "bronze.row", key = "k", order = "arrival", emits = { ["gold.seen"] = { k = "string", seen = "int64", total = "decimal(12,2)", last = "string", keys = "int64" } },
"""
ONE = HEAD % "version = 1," + """
  state = { seen = counter(), sum = value "int64", last = ring(4, "int64"), tags = set "int64", about = sketch "int64", gone = value { a = "int64", b = "string" } },
  process = function(e, s, p, emit)
    s.seen:add()
    s.sum:set((s.sum:get() or 0) + e.v)
    s.last:push(e.v)
    s.tags:add(e.v % 3)
    s.about:add(e.v)
    s.gone:set { a = e.v, b = "x" .. tostring(e.v) }
    emit("gold.seen", { k = e.k, seen = s.seen:get(), keys = s.tags:count() })
  end,
}
"""
TWO = HEAD % "version = 2, @MIGRATE@" + """
  state = { seen = counter(), total = value "decimal(12,2)", last = ring(8, { value = "int64", odd = "bool" }), tags = set(2000, "int64"), about = sketch "int64", text = value "string" },
  process = function(e, s, p, emit)
    s.seen:add()
    s.total:set((s.total:get() or decimal "0.00") + e.v)
    s.last:push(e.v, e.v % 2 == 1)
    s.tags:add(e.v % 3)
    local sum = s.last:sum("value")
    emit("gold.seen", { k = e.k, seen = s.seen:get(), total = s.total:get(), last = tostring(sum) .. " " .. (s.text:get() or "none"), keys = s.tags:count() })
  end,
}
"""
MIGRATE = """migrate = { [1] = function(old, s)
    s.total:set(old.sum * 2)
    if old.gone then s.text:set(old.gone.b .. "/" .. tostring(old.gone.a) .. "/" .. #old.last .. "/" .. tostring(old.last[1])) end
  end },"""
FORWARD = TWO.replace("@MIGRATE@", MIGRATE)
KEYS = 40


def rows(first, count):
    return [{"k": f"k{n % KEYS}", "v": n, "at": f"2026-01-05T10:{n // 60 % 60:02d}:{n % 60:02d}Z"} for n in range(first, first + count)]


def expected(until, switched, doubled=True):
    """By key, what version 2 emits last when rows from `switched` on were its own."""
    out = {}
    for key in range(KEYS):
        values = list(range(key, until, KEYS))
        old, new = [v for v in values if v < switched], [v for v in values if v >= switched]
        if new and old:
            out[f"k{key}"] = (len(values), sum(old) * (2 if doubled else 1) + sum(new), f"{sum(old[-4:]) + sum(new)} x{old[-1]}/{old[-1]}/{len(old[-4:])}/{old[-4:][0]}",
                              len({v % 3 for v in values}))
    return out


def found(world):
    last = {}
    for row in lake.by_deltalake(world.project.root / "lake/gold/seen").to_pylist():
        if row["total"] is not None and (row["k"] not in last or last[row["k"]]["seen"] < row["seen"]):
            last[row["k"]] = row
    return {key: (row["seen"], row["total"], row["last"], row["keys"]) for key, row in last.items()}


class Seen(Live):
    def rows_in(self, count):
        wait_until(lambda: lake.by_deltalake(self.project.root / "lake/gold/seen").num_rows >= count)


@pytest.fixture
def live(project):
    running = Seen(World(project, ROW, ONE, rows(0, 200), options=OPTIONS))
    running.rows_in(200)
    yield running
    if not running.dead():
        running.stop()


def replay_all(project):
    """Every epoch from where the present rules are live: the same outputs and state."""
    last = project.weir("state", "ls", "--json").out.splitlines()[0]
    same = 0
    for epoch in range(2, json.loads(last)["epoch"] + 1):
        done = project.weir("replay", "pipelines/p.lua", "--epoch", str(epoch), "--json")
        if done.code == 0 and done.json()["same_rules"]:
            same += done.json()["rows"]
        assert done.code == 0 or not json.loads(done.out.splitlines()[-1])["same_rules"], done
    return same


def test_a_reload_migrates_keys_as_they_are_met_and_the_rest_waits(live):
    live.save(FORWARD)
    live.wait_for("is live from epoch")
    before = live.project.weir("state", "export", "fraud.seen/state").out.splitlines()
    assert len(before) == KEYS and all(json.loads(line)["value"]["_version"] == 1 for line in before)
    live.world.feed(rows(200, 30), "b.jsonl")  # 30 of the 40 keys
    live.rows_in(230)
    assert found(live.world) == expected(230, 200)
    entries = [json.loads(line)["value"] for line in live.project.weir("state", "export", "fraud.seen/state").out.splitlines()]
    assert sum("_version" in entry for entry in entries) == 10 and sum("total" in entry for entry in entries) == 30
    live.stop()
    live.world.feed(rows(230, 40), "c.jsonl")  # the others are met after a restart
    live.world.run()
    assert found(live.world) == expected(270, 200)
    entries = [json.loads(line)["value"] for line in live.project.weir("state", "export", "fraud.seen/state").out.splitlines()]
    assert not any("_version" in entry for entry in entries)
    assert replay_all(live.project) == 70


def test_a_restart_migrates_and_a_kill_in_between_changes_nothing(live):
    live.kill()
    live.project.write("rules/r0.lua", FORWARD)
    live.world.feed(rows(200, 20), "b.jsonl")
    second = Seen(live.world)
    second.rows_in(220)
    second.kill()
    live.world.feed(rows(220, 60), "c.jsonl")
    live.world.run()
    assert found(live.world) == expected(280, 200)


def test_a_function_that_throws_on_one_key_leaves_the_old_rules_running(live):
    live.save(TWO.replace("@MIGRATE@", 'migrate = { [1] = function(old, s) if old.gone.b == "x173" then error("no way") end end },'))
    live.wait_for("does not migrate")
    note = live.note()
    assert 'reload refused, the old rules go on: fraud.seen: state of {"k":"k13"} does not migrate' in note and "migrate[1]" in note and "no way" in note
    live.world.feed(rows(200, 40), "b.jsonl")
    live.rows_in(240)
    assert found(live.world) == {}, "version 1 says no total"
    live.save(FORWARD)
    live.wait_for("is live from epoch")
    live.world.feed(rows(240, 40), "c.jsonl")
    live.rows_in(280)
    assert found(live.world) == expected(280, 240)


def test_what_would_be_lost_is_refused_with_what_to_write(live):
    live.save(TWO.replace("@MIGRATE@", ""))
    live.wait_for("would be lost")
    note = live.note()
    assert "state `gone` of version 1 is gone in version 2" in note and "migrate = { [1] = function(old, s)" in note
    live.save(TWO.replace("version = 2, @MIGRATE@", "version = 1,"))
    live.wait_for("raise version to 2")
    live.stop()
    live.project.write("rules/r0.lua", TWO.replace("@MIGRATE@", ""))
    done = live.project.weir("run", "pipelines/p.lua", "--until-end")
    assert done.code == 1 and "state `gone` of version 1 is gone in version 2" in done.err
    live.project.write("rules/r0.lua", FORWARD)
    live.world.feed(rows(200, 40), "b.jsonl")
    live.world.run()
    assert found(live.world) == expected(240, 200)


def test_cells_and_fields_and_room_may_be_added_without_a_word(live):
    more = ONE.replace("seen = counter(), sum", 'more = list(10, "string"), seen = counter(), sum').replace('ring(4, "int64")', 'ring(9, { value = "int64", why = "string" })') \
        .replace('{ a = "int64", b = "string" }', '{ a = "int64", z = "double", b = "string" }').replace("last:push(e.v)", 'last:push(e.v, "now")')
    live.save(more)
    live.wait_for("is live from epoch")
    live.world.feed(rows(200, 40), "b.jsonl")
    live.rows_in(240)
    state = {json.loads(line)["key"]["k"]: json.loads(line)["value"] for line in live.project.weir("state", "export", "fraud.seen/state").out.splitlines()}
    for key in range(KEYS):
        values = list(range(key, 240, KEYS))
        value = state[f"k{key}"]
        assert value["seen"] == len(values) and value["sum"] == sum(values) and value["more"] == [] and sorted(value["tags"]) == sorted({v % 3 for v in values})
        assert [(entry["value"], entry["why"]) for entry in value["last"]] == [(v, None) for v in values[:-1][-4:]] + [(values[-1], "now")]
        assert value["gone"] == {"a": values[-1], "z": None, "b": f"x{values[-1]}"}
        assert value["about"]["approx_distinct"] == len(values)


def test_a_rollback_takes_the_way_back_or_is_refused(live):
    live.save(FORWARD)
    live.wait_for("is live from epoch")
    live.project.weir("rollback")
    live.wait_for("would be lost")
    assert "migrate = { [-2] = function(old, s)" in live.note()
    live.stop()


def test_steps_are_chained_and_what_one_returns_is_old_to_the_next(live):
    three = FORWARD.replace("version = 2", "version = 3").replace("old.sum * 2", "old.sum").replace(
        "migrate = { [1] = function(old, s)", "migrate = { [1] = function(old, s) return { sum = old.sum * 2, gone = old.gone, last = old.last } end, [2] = function(old, s)")
    live.save(three)
    live.wait_for("is live from epoch")
    live.world.feed(rows(200, 40), "b.jsonl")
    live.rows_in(240)
    assert found(live.world) == expected(240, 200)


def test_mistakes_are_told(project):
    for migrate, place, text in [("migrate = { [0] = function(old, s) end },", "rules/r0.lua:2:", "by the version it leads from"),
                                 ("migrate = { [1] = function(old, s) s.totl:set(1) end },", "rules/r0.lua:2:", "the rule has no state `totl`")]:
        world = World(project, ROW, TWO.replace("@MIGRATE@", migrate), [])
        outcome = world.check()
        assert outcome.code == 1 and place in outcome.out + outcome.err and text in outcome.out + outcome.err, outcome
