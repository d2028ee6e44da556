"""files { partitions = "file" }: files read side by side, each with an event time of its own."""

import datetime
import json
import signal

import pytest
from language import World, assert_refused, moment, place
from live import wait_until

COLUMNS = {"id": "long!", "n": "int", "at": "timestamp"}
PIPELINE = """return pipeline "p" {
  rules = "rules", storage = delta { root = "lake" }, commit = { every = "50ms" }, ledger = { keep = "1h" },
  sources = { source "bronze.row" { files { path = "landing/*.jsonl", @FILES@ }, json { schema = "schemas/row.avsc" }, into = none } },
}
"""
RULES = [
    'return stream "silver.x" { from = "bronze.row", time = { field = "at", out_of_order = "10s" } }',
    """return model "gold.m" { from = "silver.x", by = { "n" }, window = tumbling { size = "1m", allowed_lateness = "30s", late = "quarantine.late" },
         measures = { rows = count(), ids = sum "id" } }""",
]
BASE = datetime.datetime(2026, 1, 5, 10, tzinfo=datetime.timezone.utc)


def world(project, files, options='partitions = "file"'):
    made = World(project, COLUMNS, RULES)
    (project.root / "landing/a.jsonl").unlink()
    project.write("pipelines/p.lua", PIPELINE.replace("@FILES@", options))
    for name, rows in files.items():
        made.feed(rows, name)
    return made


def row(number, seconds, n=1):
    return {"id": number, "n": n, "at": None if seconds is None else (BASE + datetime.timedelta(seconds=seconds)).isoformat()}


def day(first, step=10, rows=60, n=1):
    return [row(first + k, k * step, n) for k in range(rows)]


def oracle(files, open_files):
    """(late ids, {(n, window): (rows, ids)}): places take files in name order, a round gives each its whole file, time is the least of what is open."""
    names, places, now = sorted(files), {}, None
    late, windows = [], {}
    while names or any(places.values()):
        for at in range(open_files):
            if not places.get(at) and names:
                places[at] = [names.pop(0), None]
        for at in range(open_files):
            if not places.get(at):
                continue
            for each in files[places[at][0]]:
                if each["at"] is None:
                    continue
                others = [greatest for other, (_, greatest) in ((k, v) for k, v in places.items() if v) if other != at]
                marks = [None if greatest is None else greatest - datetime.timedelta(seconds=10) for greatest in [*others, places[at][1]]]
                if all(mark is not None for mark in marks):
                    now = min(marks) if now is None else max(now, min(marks))
                moment_of = datetime.datetime.fromisoformat(each["at"])
                start = moment_of.replace(second=0, microsecond=0)
                if now is not None and start + datetime.timedelta(seconds=90) <= now:
                    late.append(each["id"])
                else:
                    count, total = windows.get((each["n"], start), (0, 0))
                    windows[each["n"], start] = (count + 1, total + each["id"])
                places[at][1] = max(moment_of, places[at][1] or moment_of)
            places[at] = None
    return sorted(late), windows


def assert_equal(made, files, open_files):
    late, windows = oracle(files, open_files)
    assert sorted(made.rows("quarantine.late", "id")) == late
    assert {(n, start): (rows, ids) for n, start, rows, ids in made.rows("gold.m", "n", "window_start", "rows", "ids")} == windows
    return late


def test_files_do_not_make_each_others_rows_late(project):
    files = {f"store{k}.jsonl": day(k * 1000, n=k) for k in range(5)}
    made = world(project, files).run()
    assert made.counts("gold.m")["late"] == 0 and assert_equal(made, files, 16) == []
    assert len(made.rows("gold.m", "n")) == 50


def test_one_after_the_other_they_do(project):
    made = world(project, {f"store{k}.jsonl": day(k * 1000, n=k) for k in range(2)}, 'partitions = "one"').run()
    assert made.counts("gold.m")["late"] > 0


@pytest.mark.parametrize("open_files", [1, 2, 3, 16])
def test_lateness_at_the_exact_bound_is_judged_by_what_is_open(project, open_files):
    """The window of 10:00 is late from 10:01:40 on: ten seconds out of order, thirty of lateness."""
    files = {
        "a.jsonl": [row(1, 0), row(2, 99.999999), row(3, 59), row(4, 100), row(5, 59.999999), row(6, 60)],
        "b.jsonl": [row(11, 40), row(12, 100), row(13, 0), row(14, None), row(15, 61), row(16, 3600), row(17, 3499), row(18, 3509)],
        "c.jsonl": [],
        "d.jsonl": [row(21, 0), row(22, 3510), row(23, 3480), row(24, 3600)],
        "e.jsonl": [row(31, 3600), row(32, 100), row(33, 3550)],
    }
    made = world(project, files, f'partitions = "file", open = {open_files}').run()
    late = assert_equal(made, files, open_files)
    assert late, "the bound is met"
    assert sorted(made.rows("silver.x", "id")) == sorted(each["id"] for rows in files.values() for each in rows if each["at"])
    assert made.rejected("silver.x", "id") == [(14, ["time"])]
    for epoch in range(1, made.summary["epochs"] + 1):
        outcome = project.weir("replay", "pipelines/p.lua", "--epoch", str(epoch))
        assert outcome.code == 0, outcome


def test_places_remember_what_they_read(project):
    made = world(project, {f"{k}.jsonl": day(k * 100, rows=40, n=k) for k in range(5)}, 'partitions = "file", open = 2').run()
    assert made.counts("silver.x")["out"] == 200
    made.feed(day(900, rows=7), "00new.jsonl")
    made.run()
    assert sorted(made.rows("silver.x", "id"))[-7:] == list(range(900, 907))
    made.run()
    assert len(made.rows("silver.x", "id")) == 207
    project.write("pipelines/p.lua", PIPELINE.replace("@FILES@", 'partitions = "one"'))
    outcome = project.weir("run", "pipelines/p.lua", "--until-end")
    assert outcome.code == 1 and "side by side" in outcome.err


@pytest.mark.parametrize("fault", ["epoch_collected:1:kill", "ledger_after_sync:1:kill", "delta_before_commit:1:kill"])
def test_after_a_kill_every_row_is_there_once(project, fault):
    files = {f"{k}.jsonl": day(k * 10000, step=1, rows=3000, n=k) for k in range(6)}
    made = world(project, files, 'partitions = "file", open = 3')
    pipeline = PIPELINE.replace("@FILES@", 'partitions = "file", open = 3').replace("50ms", "20ms")
    project.write("pipelines/p.lua", pipeline)
    outcome = project.weir("run", "pipelines/p.lua", "--until-end", env={"WEIR_FAULT": fault})
    assert outcome.code == -signal.SIGKILL, outcome
    made.run()
    assert sorted(made.rows("silver.x", "id")) == sorted(each["id"] for rows in files.values() for each in rows)


def test_followed_files_grow_and_leave_time_when_they_are_still(project):
    made = world(project, {"a.jsonl": day(0, rows=5), "b.jsonl": day(100, rows=5)}, 'partitions = "file", open = 2, settle = "100ms"')
    with project.start("run", "pipelines/p.lua", "--no-reload") as process:
        wait_until(lambda: made.exists("silver.x") and len(made.rows("silver.x", "id")) == 10)
        with (project.root / "landing/a.jsonl").open("a") as file:  # b is still: it does not hold back what a brings
            for each in day(10, step=60, rows=10):
                file.write(json.dumps(each) + "\n")
        wait_until(lambda: made.exists("gold.m") and moment("10:06:00") in made.rows("gold.m", "window_start"))
        made.feed(day(200, rows=3), "c.jsonl")  # both places are taken: a still file gives way
        wait_until(lambda: len(made.rows("silver.x", "id")) == 23)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    made.feed(day(300, rows=4), "d.jsonl")
    made.run()
    assert sorted(made.rows("silver.x", "id")) == sorted([*range(5), *range(10, 20), *range(100, 105), *range(200, 203), *range(300, 304)])


@pytest.mark.parametrize("options, marked, text", [
    ('partitions = "files"', '"files"', "did you mean `file`?"), ('partitions = 3', "3 }", "partitions"), ('partitions = "file", open = "x"', '"x"', "open"),
])
def test_wrong_options_are_refused_with_their_place(project, options, marked, text):
    made = world(project, {}, options)
    pipeline = PIPELINE.replace("@FILES@", options)
    assert_refused(made, place(pipeline, marked, "pipelines/p.lua"), text)


def test_partitions_of_a_source_are_told_where_they_belong(project):
    made = world(project, {})
    pipeline = PIPELINE.replace("@FILES@", 'order = "name"').replace("into = none", 'partitions = "file", into = none')
    project.write("pipelines/p.lua", pipeline)
    assert_refused(made, place(pipeline, "partitions", "pipelines/p.lua"), "an option of files", 'files { path = "…", partitions = "file" }')


@pytest.mark.parametrize("options", ['partitions = "file", open = 257', "open = 4"])
def test_how_many_are_open_is_bounded(project, options):
    outcome = world(project, {}, options).check()
    assert outcome.code == 1 and "1 to 256" in outcome.err
