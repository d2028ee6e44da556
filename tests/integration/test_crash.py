"""kill -9 and injected errors at every fault point (proved reached), kill -9 at random instants: nothing lost, nothing doubled.

WEIR_CRASH_HITS=1,2,7 chooses which times a point is reached; WEIR_RANDOM_KILLS how many random instants; WEIR_CRASH_SEED repeats a run;
WEIR_CRASH_EVENTS how many events a run has, WEIR_CRASH_EVERY how long its epochs are.
"""

import os
import random
import time

import pytest

import conftest
import crash
import standard

POINTS = crash.POINTS
# An error there is told and the run goes on: what it was about is done again another time.
SURVIVED = {"checkpoint_before_rename", "checkpoint_before_hint", "ledger_trim", "reload_staged"}
HITS = [int(hit) for hit in os.environ.get("WEIR_CRASH_HITS", "1").split(",")]
KILLS = int(os.environ.get("WEIR_RANDOM_KILLS", "12"))
SEED = int(os.environ.get("WEIR_CRASH_SEED", random.SystemRandom().randrange(1 << 31)))
# What a start reaches again while it recovers, after a first kill: the same points from the other side.
RECOVERING = ["delta_before_commit", "delta_entry_written", "delta_entry_linked", "delta_after_commit", "ledger_before_write",
              "ledger_torn_write", "sink_file_written"]
FIRST = ["ledger_after_sync:3", "snapshot_after_publish:1"]
TWICE = [(first, second) for n, second in enumerate(RECOVERING) for first in (FIRST if conftest.LONG else [FIRST[n % 2]])]


@pytest.fixture(scope="module")
def landing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("landing")
    crash.write_landing(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(binary, landing, tmp_path_factory):
    project = conftest.Project(binary, tmp_path_factory.mktemp("undisturbed"))
    crash.prepare(project, landing)
    started = time.monotonic()
    crash.finish(project)
    seconds = time.monotonic() - started
    tables = crash.tables(project)
    assert all(table.num_rows > 0 for table in tables.values()), {name: table.num_rows for name, table in tables.items()}
    return tables, seconds


def test_each_point_this_pipeline_does_not_reach_is_killed_at_by_a_test_of_its_own():
    texts = {path.name: path.read_text(encoding="utf-8") for path in (conftest.ROOT / "tests/integration").glob("test_*.py")}
    elsewhere = [point for point in crash.fault_points() if point.startswith(crash.ELSEWHERE)]
    assert elsewhere and "crash.fault_points() if point.startswith(\"kafka_\")" in texts["test_kafka_sink.py"]
    for point in elsewhere:
        assert point.startswith("kafka_") or any(point in text for text in texts.values()), f"no test kills at {point}"


@pytest.mark.parametrize("hit", HITS)
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_fault_point_and_started_again(project, landing, undisturbed, point, hit):
    crash.prepare(project, landing)
    reached, _ = crash.run_with_fault(project, point, hit, "kill")
    assert reached or hit > 1, f"{point} was never reached"
    crash.finish(project)
    crash.assert_same_tables(crash.tables(project), undisturbed[0], f"{point}:{hit}:kill")
    if not reached:
        pytest.skip(f"{point} is reached fewer than {hit} times in a run")


@pytest.mark.parametrize("point", POINTS)
def test_an_error_at_a_fault_point_ends_the_run_and_loses_nothing(project, landing, undisturbed, point):
    crash.prepare(project, landing)
    reached, outcome = crash.run_with_fault(project, point, 1, "error")
    assert reached, f"{point} was never reached: {outcome}"
    if point in SURVIVED:
        assert outcome.code == 0, outcome
    else:
        assert outcome.code == 70 and "WEIR_E_FAULT" in outcome.out, outcome
    crash.finish(project)
    crash.assert_same_tables(crash.tables(project), undisturbed[0], f"{point}:1:error")


@pytest.mark.parametrize("first, second", TWICE)
def test_killed_again_while_it_recovers(project, landing, undisturbed, first, second):
    crash.prepare(project, landing)
    point, hit = first.split(":")
    assert crash.run_with_fault(project, point, int(hit), "kill")[0], f"{first} was not reached"
    assert crash.run_with_fault(project, second, 1, "kill")[0], f"{second} was not reached after a restart"
    crash.finish(project)
    crash.assert_same_tables(crash.tables(project), undisturbed[0], f"{first}, then {second}")


@pytest.mark.parametrize("action", ["kill", "error"])
@pytest.mark.parametrize("point", crash.BY_RELOAD)
def test_a_fault_during_a_reload_loses_nothing(project, landing, undisturbed, point, action):
    """The saved file says the same in other words, so the tables must not tell when it came."""
    crash.prepare(project, landing)

    def save(process):
        while not (project.root / "lake/_weir/standard/ledger/status.json").exists():
            assert process.poll() is None, "the run ended before a rule could be saved"
            time.sleep(0.05)
        fresh = project.write("rules/silver/.sale.lua.tmp", standard.SILVER_RULE.replace('"has a store"', '"has its store"'))
        os.replace(fresh, project.root / "rules/silver/sale.lua")

    # Events of the second source come at a rate, so that the run is still on when the file is saved and checked, also by a busy machine.
    slow = ("--set", f"sources.bronze.till.rate={crash.TILL_EVENTS // 30}")
    reached, outcome = crash.run_with_fault(project, point, 1, action, *slow, meanwhile=save)
    assert reached, f"{point} was never reached: {outcome}"
    assert action == "kill" or (outcome.code == 0) == (point in SURVIVED), outcome
    crash.finish(project)
    crash.assert_same_tables(crash.tables(project), undisturbed[0], f"{point}:{action}")


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
        crash.prepare(project, landing)
        killed += crash.random_kills(project, min(4, KILLS - killed), rng.randrange(1 << 31), whole_run_s)
        crash.assert_same_tables(crash.tables(project), expected, f"seed {SEED}, round {round_number}")
    print(f"{killed} kills over {round_number} rounds")
