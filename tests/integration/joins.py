"""What the tests of joins share: rows of two sides, refusals at their place, and runs that are killed."""

import signal

import pytest

import lake
from conftest import Project
from language import World, assert_refused, at, place

OPTIONS = ("--set", "commit.every=20ms", "--set", "ledger.segment=64KB", "--set", "ledger.snapshot_every=30ms", "--set", "ledger.keep=0s")
POINTS = ["ledger_before_write:2", "ledger_torn_write:3", "ledger_after_sync:4", "sink_file_written:5", "delta_after_commit:3",
          "snapshot_after_publish:1", "snapshot_begin:1"]


def row(id, side, key, time, **more):
    return {"id": id, "side": side, "key": key, "at": at(time), **more}


def clock(second):
    return f"{10 + second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"


def assert_join_refused(project, columns, sides, case, more=""):
    """case: the join, what of it is marked, what is said."""
    text, marked, wanted = case
    rule = f'return stream "silver.j" {{\n  from = "silver.l",\n  join = {{ x = {text} }},{more}\n}}'
    assert_refused(World(project, columns, [rule, sides]), place(rule, marked), *wanted, line=marked)


def crash_world(project, columns, sides, rules, rows):
    # Many epochs on any machine: a fast one would read all of it in two or three.
    slow = sides.replace("function(e) ", "function(e) local x = 0 for i = 1, 15000 do x = x + i end ")
    world = World(project, columns, [slow, *rules])
    for part in range(20):
        world.feed(rows[part * len(rows) // 20:(part + 1) * len(rows) // 20], f"{part:02d}.jsonl")
    return world


def kill(project, point):
    process = project.start("run", "pipelines/p.lua", "--until-end", "--json", *OPTIONS, env={"WEIR_FAULT": f"{point}:kill"})
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, f"{point} was not reached: {errors}"


def crash_tests(crashing, names, check=lambda summary: None):
    """The fixture and the test of a module: `crashing(project)` makes the world, tables called *names* are those of a run nobody disturbed. For
    `undisturbed, test_… = crash_tests(…)`.
    """
    def tables(project):
        found = {}
        for name in names:
            table = lake.by_deltalake(project.root / "lake" / name)
            found[name] = table.select([column for column in table.column_names if not column.startswith("_")])
        return found

    @pytest.fixture(scope="module")
    def undisturbed(binary, tmp_path_factory):
        project = Project(binary, tmp_path_factory.mktemp("undisturbed") / "p")
        crashing(project).run(*OPTIONS)
        return tables(project)

    @pytest.mark.parametrize("point", POINTS)
    def killed_and_run_again(project, undisturbed, point):
        crashing(project)
        kill(project, point)
        summary = project.run("pipelines/p.lua", *OPTIONS)
        for name, table in tables(project).items():
            lost, doubled = lake.exact_differences(table, undisturbed[name])
            assert not lost and not doubled, f"{point}: {name}: {table.num_rows} rows, undisturbed {undisturbed[name].num_rows}"
        check(summary)
    return undisturbed, killed_and_run_again
