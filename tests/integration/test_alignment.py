"""Sources read in step by event time: state stays small however files are cut, and who waits for whom is told."""

import datetime
import json
import time
import urllib.request

import pytest

import language
from live import wait_until

COLUMNS = {"id": "long!", "k": "string!", "at": "timestamp!"}
PIPELINE = """return pipeline "p" {
  storage = delta { root = "lake" }, memory = { state = "@STATE@" }, commit = { every = "100ms" },@OPTIONS@
  sources = {
    source "bronze.a" { files { path = "a/*.jsonl" }, json { schema = "schemas/row.avsc" }, into = none@ALIGNMENT@ },
    source "bronze.b" { files { path = "b/*.jsonl" }, json { schema = "schemas/row.avsc" }, into = none@ALIGNMENT@ },
  },
}
"""
RULES = """return {
  stream "silver.a" { from = "bronze.a", time = { field = "at", idle = "@IDLE@" }, into = none },
  stream "silver.b" { from = "bronze.b", time = { field = "at", idle = "@IDLE@" }, into = none },
  model "gold.both" { from = { "silver.a", "silver.b" }, by = { "k" }, window = tumbling "1m", measures = { n = count(), ids = distinct "id" } },
}
"""
START = datetime.datetime(2026, 1, 5, 10, tzinfo=datetime.timezone.utc)


def rows(count, seconds, first=0):
    """So many rows of so many seconds, each a key of its own."""
    for i in range(count):
        at = START + datetime.timedelta(seconds=first + i * seconds / count)
        yield json.dumps({"id": i, "k": f"key {i}", "at": at.isoformat().replace("+00:00", "Z")})


def write(project, alignment="", state="1GB", options="", idle="1h"):
    project.write("schemas/row.avsc", language.schema(COLUMNS))
    project.write("pipelines/p.lua", PIPELINE.replace("@STATE@", state).replace("@ALIGNMENT@", alignment).replace("@OPTIONS@", options))
    project.write("rules/r.lua", RULES.replace("@IDLE@", idle))


def feed(project, name, lines):
    project.write(name, "\n".join(lines).encode() + b"\n")


def counted(project):
    return language.World.rows(Reader(project), "gold.both", "n")


class Reader(language.World):
    def __init__(self, project):
        self.project = project


def test_sources_that_end_are_read_in_step_so_that_state_stays_small(project):
    """As many rows each, of a day and of an hour: unaligned, the windows of a day wait for the other's end."""
    feed(project, "a/1.jsonl", rows(90_000, 90_000))
    feed(project, "b/1.jsonl", rows(90_000, 3_600))
    write(project, state="8MB")
    summary = project.run("pipelines/p.lua")
    assert sum(counted(project)) == 180_000 and summary["datasets"]["gold.both"]["late"] == 0
    (project.root / "lake").rename(project.root / "lake-before")
    write(project, state="8MB", alignment=", alignment = none")
    outcome = project.weir("run", "pipelines/p.lua", "--until-end")
    assert outcome.code != 0 and "memory.state" in outcome.err, outcome


def test_a_source_far_ahead_waits_and_says_for_whom(project):
    """Live, by request: the one that is behind gets its rows later."""
    feed(project, "a/1.jsonl", rows(30_000, 36_000))
    feed(project, "b/1.jsonl", rows(10, 1))
    write(project, alignment=', alignment = "1m"', options=' serve = { http = { port = 0 } },', idle="1h")
    process = project.start("run", "pipelines/p.lua")
    try:
        wait_until(lambda: "source bronze.a waits for bronze.b: it is " in project.weir("why-waiting", "pipelines/p.lua").out)
        status = json.loads(project.weir("status", "pipelines/p.lua", "--json").out)
        taken = status["datasets"]["silver.a"]["in"]
        assert 0 < taken < 30_000, status
        with urllib.request.urlopen(status["serve"] + "/metrics", timeout=30) as answer:
            text = answer.read().decode()
        assert 'weir_source_waits{source="bronze.a"} 1' in text and 'weir_source_waits{source="bronze.b"} 0' in text
        feed(project, "b/2.jsonl", rows(10, 1, first=40_000))
        wait_until(lambda: json.loads(project.weir("status", "pipelines/p.lua", "--json").out)["datasets"]["silver.a"]["in"] == 30_000)
        assert "source bronze.a waits" not in project.weir("why-waiting", "pipelines/p.lua").out
        process.terminate()
        process.communicate(timeout=60)
    finally:
        process.kill()


def test_last_years_file_closes_its_windows(project):
    """Bounded replay: what is read long after it happened makes no row late and leaves no window open."""
    feed(project, "a/1.jsonl", rows(2_000, 3_600))
    feed(project, "b/1.jsonl", rows(2_000, 3_600, first=86_400 * 300))
    write(project, idle="1s")
    summary = project.run("pipelines/p.lua")
    for epoch in range(1, summary["epochs"] + 1):  # who waited is recorded: a replay tells the same
        outcome = project.weir("replay", "pipelines/p.lua", "--epoch", str(epoch))
        assert outcome.code == 0, outcome
    assert sum(counted(project)) == 4_000 and len(counted(project)) == 4_000
    assert summary["datasets"]["gold.both"]["late"] == 0


@pytest.mark.parametrize("alignment, text", [("1", "a duration"), ('"soon"', "a duration")])
def test_an_alignment_that_is_none_is_refused(project, alignment, text):
    write(project, alignment=f", alignment = {alignment}")
    outcome = project.weir("check")
    assert outcome.code == 1 and text in outcome.out + outcome.err, outcome
