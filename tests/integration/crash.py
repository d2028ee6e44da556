"""Kills a run and starts it again: the tables must be those of an undisturbed run, to the last bit of every double sum."""

import os
import pathlib
import random
import re
import signal
import subprocess

import lake

TABLES = ("bronze/sale", "silver/sale", "gold/velocity", "quarantine/silver/sale", "quarantine/bronze/sale", "quarantine/late_sale")


def fault_points(root):
    text = (pathlib.Path(root) / "runtime/core/fault.def").read_text(encoding="utf-8")
    return re.findall(r"^X\((\w+)", text, re.MULTILINE)


def columns_of(name, table):
    # What a table says about when and by whom a row was written differs from run to run; what it says about the row does not.
    return ["_raw"] if name == "quarantine/bronze/sale" else [column for column in table.column_names if not column.startswith("_")]


def tables(project):
    found = {}
    for name in TABLES:
        table = lake.by_deltalake(project.root / "lake" / name)
        found[name] = table.select(columns_of(name, table))
    return found


def assert_same_tables(actual, expected, what):
    for name in TABLES:
        lost, doubled = lake.exact_differences(actual[name], expected[name])
        assert not lost and not doubled, (
            f"{what}: {name}: {actual[name].num_rows} rows, undisturbed {expected[name].num_rows}\nonly undisturbed: {lost}\nonly here: {doubled}")


def finish(project, pipeline, *options):
    project.run(pipeline, *options)


def kill_at(project, pipeline, point, hit, *options):
    """Runs until the point's hit; True when it was reached (and the process killed itself there)."""
    outcome = project.weir("run", pipeline, "--until-end", "--json", *options, env={"WEIR_FAULT": f"{point}:{hit}:kill"})
    reached = f"fault point {point} reached, hit {hit}" in outcome.err
    assert reached == (outcome.code == -signal.SIGKILL), outcome
    assert reached or outcome.code == 0, outcome
    return reached


def kill_after(project, pipeline, seconds, *options):
    """Starts a run and kills it after a time; True when it was still running."""
    process = subprocess.Popen([project.binary, "run", pipeline, "--until-end", "--json", *options], cwd=project.root, env=os.environ,
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True
    assert process.returncode == 0, errors
    return False


def random_kills(project, pipeline, count, seed, whole_run_s, *options):
    """Kills at `count` random instants over as many starts as it takes, then runs to the end. Returns the number killed."""
    rng = random.Random(seed)
    killed = 0
    for _ in range(count):
        if not kill_after(project, pipeline, rng.uniform(0, whole_run_s), *options):
            break
        killed += 1
    finish(project, pipeline, *options)
    return killed
