"""Windows with more groups than fit memory: groups wait on disk, and what leaves is what leaves with memory enough, in the same order."""

import datetime
import json
import random
import signal
import time

import disk
import lake
import language
import pyarrow.parquet
import pytest

COLUMNS = {"k": "long!", "v": "long!", "at": "timestamp!"}
MODEL = """return model "gold.sum" {
  from = "bronze.row", by = { "k" }, time = { field = "at", out_of_order = "@LATE@" },
  window = @WINDOW@, measures = { n = count(), total = sum "v", low = min "v" }, into = delta {},
}
"""
KEYS, ROWS, FILES = 20000, 80000, 8
START = datetime.datetime(2026, 1, 5, tzinfo=datetime.timezone.utc)
# all keys in one window; some thousand keys in each of many that stay open for long; days of a calendar, most of which close on the way
KINDS = {
    "one": ('tumbling { size = "1d" }', "1h", 86400, 3600),
    "many": ('tumbling { size = "1m", allowed_lateness = "30m" }', "1m", 60, 3600),
    "days": ('calendar { "day", time_zone = "UTC" }', "24h", 86400, 10 * 86400),
}


def write(project, kind, memory="1MB"):
    window, late, size, span = KINDS[kind]
    rng = random.Random(1)
    project.write("schemas/row.avsc", language.schema(COLUMNS))
    disk.write_pipeline(project, memory)
    project.write("rules/sum.lua", MODEL.replace("@WINDOW@", window).replace("@LATE@", late))
    expected = {}
    for f in range(FILES):
        lines = []
        for n in range(ROWS // FILES):
            seconds = span * (f * (ROWS // FILES) + n) // ROWS + rng.randrange(50)
            k, v = rng.randrange(KEYS), rng.randrange(-1000, 1000)
            lines.append('{"k":%d,"v":%d,"at":"%s"}' % (k, v, (START + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")))
            group = expected.setdefault((seconds // size, k), [0, 0, 1 << 60])
            group[0], group[1], group[2] = group[0] + 1, group[1] + v, min(group[2], v)
        project.write(f"in/{f:02d}.jsonl", "\n".join(lines) + "\n")
    return {key: tuple(group) for key, group in expected.items()}


def left(project):
    """All rows in the order in which they were committed."""
    table = project.root / "lake/gold/sum"
    rows = []
    for version in sorted((table / "_delta_log").glob("*.json")):
        adds = [json.loads(line)["add"]["path"] for line in version.read_text().splitlines() if '"add"' in line]
        for path in sorted(adds):
            rows += pyarrow.parquet.read_table(table / path).to_pylist()
    return rows


def groups(rows, kind):
    size = KINDS[kind][2]
    made = {(int((row["window_start"] - START).total_seconds()) // size, row["k"]): (row["n"], row["total"], row["low"]) for row in rows}
    assert len(made) == len(rows)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_windows_that_do_not_fit_leave_as_those_that_do(project, new_project, kind):
    other_project = new_project("other")
    expected = write(project, kind)
    write(other_project, kind, memory="1GB")
    project.run("pipelines/p.lua")
    other_project.run("pipelines/p.lua")
    assert disk.used(project) and not disk.used(other_project)
    rows = left(project)
    assert groups(rows, kind) == expected
    assert rows == left(other_project), "and in the same order"


def test_killed_while_windows_go_to_disk_it_goes_on_from_records_and_snapshots(project):
    expected = write(project, "days")
    disk.kill_again_and_again(project, 4, 0.4)
    project.run("pipelines/p.lua")
    assert groups(left(project), "days") == expected


# windows whose rows leave as they change: seconds of a window, of the step from one to the next, and when those of a moment begin
UPDATING = {
    "tumbling": ('tumbling { size = "10m" }', 600, lambda at: [at // 600 * 600]),
    "hopping": ('hopping { size = "20m", every = "5m" }', 1200, lambda at: [start for start in range(at // 300 * 300 - 900, at // 300 * 300 + 1, 300)]),
    "cumulate": ('cumulate { size = "20m", step = "5m" }', None, lambda at: list(range(at // 300 * 300 + 300, at // 1200 * 1200 + 1201, 300))),
}


def write_updating(project, kind, memory="1MB"):
    """As `write`, of fewer rows; what is expected is known by where a window begins, of cumulate by where it ends."""
    window, _, starts = UPDATING[kind]
    rng, rows, span = random.Random(2), 24000, 7200
    project.write("schemas/row.avsc", language.schema(COLUMNS))
    disk.write_pipeline(project, memory, snapshot="500ms")
    project.write("rules/sum.lua", MODEL.replace("@WINDOW@", window + ', emit = "on_update"').replace("@LATE@", "1m").replace("delta {}", 'delta { mode = "merge" }'))
    expected = {}
    for f in range(FILES):
        lines = []
        for n in range(rows // FILES):
            seconds = span * (f * (rows // FILES) + n) // rows + rng.randrange(50)
            k, v = rng.randrange(6000), rng.randrange(-1000, 1000)
            lines.append('{"k":%d,"v":%d,"at":"%s"}' % (k, v, (START + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")))
            for start in starts(seconds):
                group = expected.setdefault((start, k), [0, 0, 1 << 60])
                group[0], group[1], group[2] = group[0] + 1, group[1] + v, min(group[2], v)
        project.write(f"in/{f:02d}.jsonl", "\n".join(lines) + "\n")
    return {key: tuple(group) for key, group in expected.items()}


def updated(project, kind):
    rows = lake.by_deltalake(project.root / "lake/gold/sum").to_pylist()
    column = "window_end" if kind == "cumulate" else "window_start"
    made = {(int((row[column] - START).total_seconds()), row["k"]): (row["n"], row["total"], row["low"]) for row in rows}
    assert len(made) == len(rows)
    return made


@pytest.mark.parametrize("kind", UPDATING)
def test_windows_that_update_wait_on_disk(project, kind):
    expected = write_updating(project, kind)
    project.run("pipelines/p.lua")
    assert updated(project, kind) == expected
    assert disk.used(project)


def test_windows_that_update_are_killed_and_go_on(project):
    kind = "hopping"
    expected = write_updating(project, kind)
    disk.kill_again_and_again(project, 3, 0.4)
    project.run("pipelines/p.lua")
    assert updated(project, kind) == expected
    assert disk.used(project)


def wait_until(condition):
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_what_waits_on_disk_is_shown_and_replayed(project):
    expected = write(project, "one")
    process = project.start("run", "pipelines/p.lua", "--quiet")

    def entries():
        done = project.weir("state", "export", "gold.sum")
        lines = [json.loads(line) for line in done.out.splitlines()] if done.code == 0 else []
        return {(0, line["key"]["k"]): (line["value"]["n"], line["value"]["total"], line["value"]["low"]) for line in lines}
    try:
        wait_until(lambda: sum(n for n, _, _ in entries().values()) == ROWS)
        assert disk.used(project) and not disk.is_empty(project)
        assert entries() == expected, "all of it is shown, wherever it lies"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    epoch = json.loads((project.root / "lake/_weir/p/ledger/status.json").read_text())["epochs"]
    outcome = project.weir("replay", "pipelines/p.lua", "--epoch", str(epoch - 1))
    assert outcome.code == 0, outcome


def test_a_disk_that_fails_stops_windows_and_names_the_way_out(project):
    expected = write(project, "one")
    disk.folder(project).parent.mkdir(parents=True)
    disk.folder(project).write_text("in the way")
    outcome = project.weir("run", "pipelines/p.lua", "--until-end", "--quiet")
    assert outcome.code == 3 and "memory.state" in outcome.err, outcome
    disk.folder(project).unlink()
    project.run("pipelines/p.lua")
    assert groups(left(project), "one") == expected
