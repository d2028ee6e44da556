"""kill -9 at every fault point (proved reached) and at random instants: nothing lost, nothing doubled.

WEIR_CRASH_HITS=1,2,7 chooses which times a point is reached; WEIR_RANDOM_KILLS how many random instants; WEIR_CRASH_SEED repeats a run.
"""

import os
import random
import time

import pytest

import conftest
import crash
import end_to_end
import events
import standard

PIPELINE = "pipelines/standard.lua"
# Reached only when a rule file is saved while the pipeline runs: tests of reload arm these.
BY_RELOAD = {"reload_staged", "reload_swapped"}
POINTS = [point for point in crash.fault_points(conftest.ROOT) if point not in BY_RELOAD]
HITS = [int(hit) for hit in os.environ.get("WEIR_CRASH_HITS", "1").split(",")]
KILLS = int(os.environ.get("WEIR_RANDOM_KILLS", "20"))
SEED = int(os.environ.get("WEIR_CRASH_SEED", random.SystemRandom().randrange(1 << 31)))
# Small epochs and segments and frequent snapshots, so that a run of half a second passes every point.
OPTIONS = ("--set", "commit.every=20ms", "--set", "ledger.segment=64KB", "--set", "ledger.snapshot_every=50ms", "--set", "ledger.keep=0s")
PLAIN_EVENTS = 400_000


@pytest.fixture(scope="module")
def landing(tmp_path_factory):
    """Nasty events, then enough plain ones that a run takes many epochs."""
    folder = tmp_path_factory.mktemp("landing")
    events.Events(seed=11, rows=6000).write(folder)
    end_to_end.write_events(folder / "zzz-plain.jsonl", PLAIN_EVENTS)
    return folder


def prepare(project, landing):
    standard.write(project)
    (project.root / "landing").symlink_to(landing)


@pytest.fixture(scope="module")
def undisturbed(binary, landing, tmp_path_factory):
    project = conftest.Project(binary, tmp_path_factory.mktemp("undisturbed"))
    prepare(project, landing)
    started = time.monotonic()
    crash.finish(project, PIPELINE, *OPTIONS)
    return crash.tables(project), time.monotonic() - started


@pytest.mark.parametrize("hit", HITS)
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_fault_point_and_started_again(project, landing, undisturbed, point, hit):
    expected, _ = undisturbed
    prepare(project, landing)
    reached = crash.kill_at(project, PIPELINE, point, hit, *OPTIONS)
    assert reached or hit > 1, f"{point} was never reached"
    crash.finish(project, PIPELINE, *OPTIONS)
    crash.assert_same_tables(crash.tables(project), expected, f"{point}:{hit}")
    if not reached:
        pytest.skip(f"{point} is reached fewer than {hit} times in a run")


def test_killed_at_random_instants_and_started_again(new_project, landing, undisturbed):
    expected, whole_run_s = undisturbed
    print(f"WEIR_CRASH_SEED={SEED}")
    rng = random.Random(SEED)
    killed = 0
    round_number = 0
    while killed < KILLS:
        round_number += 1
        assert round_number <= 4 * KILLS, "runs end before they can be killed"
        project = new_project(f"round-{round_number}")
        prepare(project, landing)
        killed += crash.random_kills(project, PIPELINE, min(4, KILLS - killed), rng.randrange(1 << 31), whole_run_s, *OPTIONS)
        crash.assert_same_tables(crash.tables(project), expected, f"seed {SEED}, round {round_number}")
