"""Every way a run ends: asked to, by a failure at each fault point, killed. It ends soon, tells why, and the next start goes on.

Under a sanitizer's build this is where leaks at exit, orders of shutdown and waits for nobody show: a report there is an exit code.
"""

import os
import pathlib
import signal
import time

import pytest

import conftest
import crash
import end_to_end
import events
import standard
from live import wait_until
from test_reload import RULE, rows, save, start, feed

PIPELINE = "pipelines/standard.lua"
POINTS = crash.POINTS
HITS = [int(hit) for hit in os.environ.get("WEIR_STOP_HITS", "2").split(",")]
STOPS = int(os.environ.get("WEIR_STOPS", "4"))
OPTIONS = ("--set", "commit.every=20ms", "--set", "ledger.segment=64KB", "--set", "ledger.snapshot_every=50ms", "--set", "ledger.keep=0s")
PLAIN_EVENTS = 150_000 if conftest.LONG else 30_000
SOON_S = 20  # a sanitizer's build on a busy machine; else well under one


@pytest.fixture(scope="module")
def landing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("landing")
    events.Events(seed=12, rows=2000).write(folder)
    end_to_end.write_events(folder / "zzz-plain.jsonl", PLAIN_EVENTS)
    return folder


@pytest.fixture
def standing(project, landing):
    standard.write(project)
    (project.root / "landing").symlink_to(landing)
    return project


@pytest.mark.parametrize("hit", HITS)
@pytest.mark.parametrize("point", POINTS)
def test_a_failure_ends_the_run_and_the_next_start_goes_on(standing, point, hit):
    report = standing.root / "hits"
    outcome = standing.weir("run", PIPELINE, "--until-end", "--json", *OPTIONS,
                            env={"WEIR_FAULT": f"{point}:{hit}:error", "WEIR_FAULT_REPORT": str(report)})
    reached = dict(line.split() for line in report.read_text().splitlines())[point]
    assert "Sanitizer" not in outcome.err and outcome.code >= 0, outcome
    assert outcome.code == 0 or outcome.json()["code"] == "WEIR_E_FAULT", outcome
    standing.run(PIPELINE, *OPTIONS)
    if int(reached) < hit:
        pytest.skip(f"{point} is reached fewer than {hit} times in a run")


@pytest.mark.parametrize("part", range(1, STOPS + 1))
def test_a_stop_request_ends_the_run_well_whenever_it_comes(standing, part):
    """By the files in the lake, not by time: a sanitizer's build takes its own."""
    process = standing.start("run", PIPELINE, "--until-end", *OPTIONS)
    log = standing.root / "lake/silver/sale/_delta_log"
    try:
        # A quick machine may be through before it has made so many commits.
        wait_until(lambda: process.poll() is not None or log.is_dir() and len(list(log.glob("*.json"))) > 2 * part)
    finally:
        process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        out, err = process.communicate(timeout=conftest.TIMEOUT_S)
    assert process.returncode == 0, out + err
    assert time.monotonic() - asked < SOON_S
    standing.run(PIPELINE, *OPTIONS)


def children(pid):
    return [int(child) for task in pathlib.Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]


def is_running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_stop_does_not_wait_for_the_check_of_a_reload(project, how):
    process = start(project)
    try:
        feed(project, 0, 10)
        wait_until(lambda: len(rows(project)) == 10)
        project.write("spec/endless_spec.lua", "while true do end\n")
        save(project, 2, RULE % 2)
        found = []

        def tested():
            found[:] = [child for child in children(process.pid)
                        if b"test" in pathlib.Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")]
            return found
        wait_until(tested)
    finally:
        asked = time.monotonic()
        process.send_signal(how)
        out, err = process.communicate(timeout=conftest.TIMEOUT_S)
    assert process.returncode == (0 if how == signal.SIGTERM else -how), out + err
    assert time.monotonic() - asked < SOON_S
    wait_until(lambda: not any(is_running(child) for child in found))
