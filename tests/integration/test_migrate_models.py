"""A model's groups go on when its measures change: live, at a restart, in windows, on disk, back again, and not at all when a function throws."""

import json

import crash
import lake
import pytest
from language import World
from live import Live, wait_until
from test_migrate import KEYS, OPTIONS, ROW, replay_all, rows

MODEL = """return model "gold.sums" {
  %s from = "bronze.row", %s by = { "k" }, @WINDOW@ into = delta { @MODE@ },
}
"""
ONE = MODEL % ("", 'measures = { gone = count(), rows = count(), total = sum "v", names = collect "v", low = min "k" },')
TWO = MODEL % ("version = 2, @MIGRATE@", """measures = { most = max "v", low = min "k", list = collect "v", fresh = count(), mean = avg "v", rows = count(), total = sum "v",
    dear = arg_max("k", "v") },""")
MIGRATE = """migrate = { [1] = { list = "names", function(old, m)
    m.most = old.total * 2
    m.mean = { sum = old.total, count = old.rows }
    m.dear = { value = old.low, by = -1 }
  end } },"""


def model(text, migrate=MIGRATE, window="", mode='mode = "merge"'):
    return text.replace("@MIGRATE@", migrate).replace("@WINDOW@", window).replace("@MODE@", mode)


def two(values, switched):
    """What version 2 says of a group of these rows, of which those before `switched` were version 1's."""
    old, new = [v for v in values if v < switched], [v for v in values if v >= switched]
    return {"most": max([sum(old) * 2] * bool(old) + new), "low": f"k{values[0] % KEYS}", "list": values, "fresh": len(new), "rows": len(values),
            "mean": round(sum(values) / len(values), 5), "total": sum(values), "dear": f"k{values[0] % KEYS}"}


def shown(row):
    return {name: round(float(row[name]), 5) if name == "mean" else row[name] for name in ("most", "low", "list", "fresh", "rows", "mean", "total", "dear")}


def expected(until, switched):
    """Of keys that version 2 has met."""
    return {f"k{key}": two(list(range(key, until, KEYS)), switched) for key in range(KEYS) if max(range(key, until, KEYS)) >= switched}


def table(world):
    return lake.by_deltalake(world.project.root / "lake/gold/sums").to_pylist()


def found(world):
    return {row["k"]: shown(row) for row in table(world) if row["rows"] is not None and row["most"] is not None}


def groups(project):
    return {line["key"]["k"]: line["value"] for line in map(json.loads, project.weir("state", "export", "gold.sums/window").out.splitlines())}


class Sums(Live):
    def __init__(self, world, count=None, **options):
        super().__init__(world, **options)
        if count is not None:
            self.rows_in(count)

    def rows_in(self, count):
        wait_until(lambda: sum(row["rows"] or 0 for row in table(self.world)) == count)


@pytest.fixture
def live(project):
    running = Sums(World(project, ROW, model(ONE), rows(0, 200), options=OPTIONS), 200)
    yield running
    if not running.dead():
        running.stop()


def test_a_reload_migrates_groups_as_they_are_met_and_the_rest_waits(live):
    live.save(model(TWO))
    live.wait_for("is live from epoch")
    before = groups(live.project)
    assert len(before) == KEYS and all(value["_version"] == 1 and value["rows"] == 5 and len(value["list"]) == 5 and value["most"] is None for value in before.values())
    live.world.feed(rows(200, 30), "b.jsonl")  # 30 of the 40 keys
    live.rows_in(230)
    assert found(live.world) == expected(230, 200)
    assert all(row["gone"] is None for row in table(live.world) if row["most"] is not None) and sum(row["gone"] or 0 for row in table(live.world)) == 50
    assert sum("_version" in value for value in groups(live.project).values()) == 10
    live.stop()
    live.world.feed(rows(230, 40), "c.jsonl")  # the others are met after a restart
    live.world.run()
    assert found(live.world) == expected(270, 200)
    assert not any("_version" in value for value in groups(live.project).values())
    assert replay_all(live.project) == 70


def test_a_restart_migrates_and_a_kill_in_between_changes_nothing(live):
    live.kill()
    live.project.write("rules/r0.lua", model(TWO))
    live.world.feed(rows(200, 20), "b.jsonl")
    second = Sums(live.world, 220)
    second.kill()
    live.world.feed(rows(220, 60), "c.jsonl")
    live.world.run()
    assert found(live.world) == expected(280, 200)


POINTS = [point for point in crash.fault_points() if point.startswith(("reload_", "epoch_", "ledger_", "snapshot_", "delta_", "sink_", "checkpoint_"))]


@pytest.mark.parametrize("point", POINTS)
def test_killed_around_the_switch_the_tables_are_those_of_an_undisturbed_run(project, point):
    """Rows come before the switch and after it, none while it goes on; the process dies at its next step of that name."""
    world = World(project, ROW, model(ONE), rows(0, 200), options=OPTIONS)
    Sums(world, 200).stop()
    status = project.root / "lake/_weir/p/ledger/status.json"
    status.unlink()
    first = Sums(world, env={"WEIR_FAULT": f"{point}:1:kill"})
    wait_until(lambda: first.dead() or status.exists())
    first.save(model(TWO))
    wait_until(lambda: first.dead() or "is live from epoch" in first.note())
    world.feed(rows(200, 30), "b.jsonl")
    wait_until(lambda: first.dead() or sum(row["rows"] or 0 for row in table(world)) == 230)
    first.kill()
    world.run()
    assert found(world) == expected(230, 200)
    world.feed(rows(230, 40), "c.jsonl")
    world.run()
    assert found(world) == expected(270, 200)


@pytest.mark.parametrize("again", ["live", "restart"])
def test_windows_that_are_open_migrate_as_they_leave(project, again):
    window = 'time = { field = "at" }, window = tumbling { size = "10m", allowed_lateness = "1m" },'
    world = World(project, ROW, model(ONE, window=window, mode=""), rows(0, 900), options=OPTIONS)  # to 10:14:59
    first = Sums(world, 600)
    if again == "restart":
        first.stop()
        project.write("rules/r0.lua", model(TWO, window=window, mode=""))
        first = Sums(world)
    else:
        first.save(model(TWO, window=window, mode=""))
        first.wait_for("is live from epoch")
    world.feed(rows(900, 400), "b.jsonl")  # to 10:21:39
    first.rows_in(1200)
    first.stop()
    world.run("--until-end")
    got = {(row["window_start"].minute, row["k"]): row for row in table(world)}
    assert len(got) == 3 * KEYS
    for (minute, k), row in got.items():
        values = [v for v in range(int(k[1:]), 1300, KEYS) if minute * 60 <= v < minute * 60 + 600]
        if minute == 0:
            assert row["most"] is None and row["gone"] == row["rows"] == len(values)
        else:
            assert shown(row) == two(values, 900), (minute, k)


def test_a_function_that_throws_on_one_group_leaves_the_old_rules_running(live):
    live.save(model(TWO, 'migrate = { [1] = function(old, m) if old.low == "k13" then error("no way") end end },'))
    live.wait_for("does not migrate")
    note = live.note()
    assert 'reload refused, the old rules go on: gold.sums: state of {"k":"k13"} does not migrate' in note and "migrate[1]" in note and "no way" in note
    live.save(model(TWO, "migrate = { [1] = function(old, m) m.rows = 1 end },"))
    live.wait_for("goes on as it was")
    live.world.feed(rows(200, 40), "b.jsonl")
    live.rows_in(240)
    live.save(model(TWO))
    live.wait_for("is live from epoch")
    live.world.feed(rows(240, 40), "c.jsonl")
    live.rows_in(280)
    assert found(live.world) == expected(280, 240)


def test_what_would_count_from_the_middle_is_refused_with_what_to_write(live):
    live.save(model(TWO, "").replace("version = 2, ", ""))
    live.wait_for("measure `most` is new")
    note = live.note()
    assert "raise version to 2" in note and "migrate = { [1] = function(old, m)" in note and "weir rebuild gold.sums" in note
    live.save(model(TWO, ""))
    live.wait_for("or say where it begins")
    live.save(model(TWO, 'migrate = { [1] = { list = "names" } },'))
    live.wait_for("measure `most` is new, or")
    live.stop()
    live.project.write("rules/r0.lua", model(TWO, ""))
    done = live.project.weir("run", "pipelines/p.lua", "--until-end")
    assert done.code == 1 and "measure `most` is new" in done.err and "migrate = { [1] = function(old, m)" in done.err, done
    live.project.write("rules/r0.lua", model(TWO))
    live.world.feed(rows(200, 40), "b.jsonl")
    live.world.run()
    assert found(live.world) == expected(240, 200)


def test_measures_leave_and_change_places_without_a_word_and_a_rollback_asks_where_they_begin(live):
    live.save(model(MODEL % ("", 'measures = { low = min "k", rows = count(), names = collect "v" },')))
    live.wait_for("is live from epoch")
    assert all(value == {"low": k, "rows": 5, "names": list(range(int(k[1:]), 200, KEYS))} for k, value in groups(live.project).items())
    live.world.feed(rows(200, 40), "b.jsonl")
    live.rows_in(240)
    assert all(row["gone"] is None and row["total"] is None and row["rows"] == 6 and len(row["names"]) == 6 for row in table(live.world))
    live.project.weir("rollback")
    live.wait_for("measure `gone` is new")
    assert "raise version to 2" in live.note()


def test_a_rollback_goes_back_to_fewer_measures_and_to_groups_nobody_met(live):
    live.save(model(MODEL % ("version = 2, migrate = { [1] = function(old, m) m.most = old.total end },",
                             'measures = { gone = count(), rows = count(), total = sum "v", names = collect "v", low = min "k", most = max "v" },')))
    live.wait_for("is live from epoch")
    live.world.feed(rows(200, 10), "b.jsonl")
    live.rows_in(210)
    assert sum(value["most"] is not None for value in groups(live.project).values()) == 10
    before = live.note()
    live.project.weir("rollback")
    wait_until(lambda: live.note() != before and "is live from epoch" in live.note())
    live.world.feed(rows(210, 30), "c.jsonl")
    live.rows_in(240)
    rows_of = table(live.world)
    assert all(row["rows"] == 6 and row["gone"] == 6 and row["total"] == sum(range(int(row["k"][1:]), 240, KEYS)) and (row["most"] is None) == (int(row["k"][1:]) >= 10) for row in rows_of)


def test_steps_are_chained_and_what_one_returns_is_old_to_the_next(live):
    live.save(model(TWO.replace("version = 2", "version = 3"), MIGRATE.replace("migrate = { [1] = { list", "migrate = { [1] = function(old, m) return { total = old.total, rows = old.rows, low = old.low } end, [2] = { list")))
    live.wait_for("is live from epoch")
    live.world.feed(rows(200, 40), "b.jsonl")
    live.rows_in(240)
    assert found(live.world) == expected(240, 200)


def test_groups_on_disk_migrate_as_they_come_back(project):
    options = OPTIONS + ' memory = { state = "1MB" },'
    keys = 30000
    lines = [{"k": f"k{n}", "v": n, "at": "2026-01-05T10:00:00Z"} for n in range(keys)]
    world = World(project, ROW, model(MODEL % ("", 'measures = { rows = count(), total = sum "v" },')), lines, options=options)
    first = Sums(world, keys)
    first.save(model(MODEL % ("version = 2, migrate = { [1] = function(old, m) m.most = old.total * 2 end },", 'measures = { total = sum "v", most = max "v", rows = count() },')))
    first.wait_for("is live from epoch")
    world.feed(lines, "b.jsonl")
    first.rows_in(2 * keys)
    first.stop()
    assert {row["k"]: (row["rows"], row["total"], row["most"]) for row in table(world)} == {f"k{n}": (2, 2 * n, 2 * n) for n in range(keys)}


def test_mistakes_are_told(project):
    for migrate, text in [("migrate = { [0] = function(old, m) end },", "by the version it leads from"),
                          ('migrate = { [1] = "total" },', "is a function, or says what measures were called"),
                          ('migrate = { [1] = { lst = "names" } },', "the model has no measure `lst`"),
                          ("migrate = { [1] = function(old, m) m.list = old.names end },", "where `list` begins cannot be told"),
                          ("migrate = { [1] = function(old, m) m.totl = 1 end },", "the model has no measure `totl`")]:
        outcome = World(project, ROW, model(TWO, migrate), []).check()
        assert outcome.code == 1 and "rules/r0.lua:2:" in outcome.out + outcome.err and text in outcome.out + outcome.err, outcome


@pytest.mark.parametrize("window, text", [('time = { field = "at" }, window = session { gap = "10s" },', "its windows are sessions"),
                                          ('time = { field = "at" }, window = hopping { size = "10m", every = "1m" },', "put together from panes")])
def test_other_windows_say_that_they_cannot(project, window, text):
    world = World(project, ROW, model(MODEL % ("version = 2, migrate = { [1] = function(old, m) end },", "measures = { rows = count() },"), window=window, mode=""))
    told = world.check()
    assert told.code == 1 and "is not built yet" in told.err and "weir rebuild gold.sums" in told.err, told
    world = World(project, ROW, model(MODEL % ("", 'measures = { rows = count() },'), window=window, mode=""), rows(0, 200), options=OPTIONS)
    first = Sums(world)
    wait_until(lambda: project.weir("state", "ls").code == 0)
    first.save(model(MODEL % ("", 'measures = { rows = count(), total = sum "v" },'), window=window, mode=""))
    first.wait_for(text)
    assert "weir rebuild gold.sums" in first.note()
    first.stop()
