"""`on_close` into a table that merges: a window's row leaves as the window ends, and is put right until lateness is over."""

import pytest

from language import World, moment
from test_language_updates import COLUMNS, COUNTED, MEASURES, OVERLAPPING, data, drawn, recount

SLOW = "where = function(e) local x = 0 for i = 1, 15000 do x = x + i end return true end,"


def model(window='tumbling { size = "1m", allowed_lateness = "2m", late = "quarantine.late" }', measures=MEASURES, out_of_order="5s", more=""):
    return f'''return model "gold.m" {{ from = "bronze.row", time = {{ field = "at", out_of_order = "{out_of_order}" }}, {more} by = {{ "k" }},
        window = {window}, measures = {{ {measures} }}, into = delta {{ mode = "merge" }} }}'''


LOG = 'return stream "silver.log" { from = "gold.m", keep = { "k", "n" }, into = delta { mode = "append" } }'


def test_a_row_leaves_as_its_window_ends_and_again_as_late_rows_change_it(project):
    rows = data(("a", "10:00:30", {"n": 1}), ("a", "10:00:31", {"n": 1}), ("b", "10:01:10", {"n": 7}), ("a", "10:00:40", {"n": 2}), ("c", "10:00:50", {"n": 9}),
                ("b", "10:02:59", {"n": 7}), ("a", "10:00:41", {"n": 4}), ("b", "10:03:00", {"n": 7}), ("a", "10:00:42", {"n": 8}))
    world = World(project, COLUMNS, [model(measures='n = sum "n"', out_of_order="0s"), LOG])
    for index, row in enumerate(rows):  # a batch each
        world.feed([row], f"{index}.jsonl")
    world.run()
    changes = [(row["k"], row["n"], row["_change"]) for row in world.table("silver.log").to_pylist()]
    of_a = [(n, change) for k, n, change in changes if k == "a"]
    assert sorted(of_a) == sorted([(2, 0), (2, 1), (4, 2), (4, 1), (8, 2)]) and ("c", 9, 0) in changes
    assert sorted(world.rows("gold.m", "k", "window_start", "n")) == [
        ("a", moment("10:00:00"), 8), ("b", moment("10:01:00"), 7), ("b", moment("10:02:00"), 7), ("b", moment("10:03:00"), 7), ("c", moment("10:00:00"), 9)]
    assert world.rows("quarantine.late", "n") == [8]


@pytest.mark.parametrize("window", ['tumbling { size = "1m", allowed_lateness = "1h" }', *OVERLAPPING])
def test_the_table_comes_to_what_all_rows_come_to(project, window):
    rows = drawn(4000)
    world = World(project, COLUMNS, model(window), data(*rows), options=' commit = { every = "50ms" },').run()
    assert world.counts("gold.m")["late"] == 0
    windows = OVERLAPPING.get(window, "select *, time_bucket(interval 1 minute, time) w, w + interval 1 minute e from t")
    found = sorted(world.rows("gold.m", "k", "window_start", "window_end", "rows", "n", "hi", "kinds", "first_s"), key=str)
    assert found == recount(rows, f"select k, w, e, {COUNTED} from ({windows}) group by all")
    outcome = project.weir("replay", "pipelines/p.lua", "--epoch", "1")
    assert outcome.code == 0, outcome


def test_a_model_of_it_takes_back_what_changed(project):
    rows = drawn(3000, seed=5)
    over = 'return model "gold.all" { from = "gold.m", by = { "window_start" }, measures = { keys = count(), rows = sum "rows", n = sum "n", most = max "rows" } }'
    window = 'tumbling { size = "1m", allowed_lateness = "1h" }'
    world = World(project, COLUMNS, [model(window), over], data(*rows), options=' commit = { every = "50ms" },').run()
    found = sorted(world.rows("gold.all", "window_start", "keys", "rows", "n", "most"), key=str)
    inner = "select k, time_bucket(interval 1 minute, time) w, count(*) c, sum(n) n from t group by all"
    assert found == recount(rows, f"select w, count(*), sum(c), sum(n), max(c) from ({inner}) group by all")


@pytest.mark.parametrize("point", ["ledger_after_sync:3", "snapshot_after_publish:2"])
def test_killed_and_started_again_it_comes_to_the_same(project, point):
    rows = drawn(4000)
    window = 'hopping { size = "5m", every = "1m", allowed_lateness = "1h" }'
    over = 'return model "gold.all" { from = "gold.m", by = { "window_start" }, measures = { keys = count(), rows = sum "rows" } }'
    world = World(project, COLUMNS, [model(window, more=SLOW), over], options=' commit = { every = "20ms" }, ledger = { snapshot_every = "30ms", keep = "0s" },')
    lines = data(*rows)
    for part in range(20):
        world.feed(lines[part * 200:(part + 1) * 200], f"{part:02d}.jsonl")
    process = project.start("run", "pipelines/p.lua", "--until-end", "--json", env={"WEIR_FAULT": f"{point}:kill"})
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -9, errors
    world.run()
    found = sorted(world.rows("gold.all", "window_start", "keys", "rows"), key=str)
    assert found == recount(rows, f"select w, count(*), sum(c) from (select k, w, count(*) c from ({OVERLAPPING[window]}) group by all) group by all")
