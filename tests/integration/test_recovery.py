"""Ledgers and tables found in a bad state: what can be repaired is, anything else is said with the place and the way out."""

import json
import os
import shutil
import signal
import subprocess
import time

import pytest

import conftest
import crash

ENVIRONMENT = 3


@pytest.fixture(scope="module")
def landing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("landing")
    crash.write_landing(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(binary, landing, tmp_path_factory):
    project = conftest.Project(binary, tmp_path_factory.mktemp("undisturbed"))
    crash.prepare(project, landing)
    crash.finish(project)
    return crash.tables(project)


def killed(project, landing, point, hit, *options):
    crash.prepare(project, landing)
    reached, outcome = crash.run_with_fault(project, point, hit, "kill", *options)
    assert reached, outcome
    return project


def refused(project, *words, code=ENVIRONMENT):
    outcome = project.run(crash.PIPELINE, *crash.OPTIONS, code=code)
    for word in words:
        assert word in outcome.err, outcome


def test_a_second_instance_is_refused_and_names_the_first(project, landing, undisturbed):
    crash.prepare(project, landing)
    first = project.start("run", crash.PIPELINE, "--until-end", "--json", *crash.OPTIONS, "--set", "sources.bronze.till.rate=15000")
    try:
        while not (project.root / "lake/_weir/standard/ledger/status.json").exists():
            assert first.poll() is None, first.communicate()
            time.sleep(0.02)
        refused(project, "in use by process", str(first.pid))
    finally:
        out, err = first.communicate(timeout=60)
    assert first.returncode == 0, out + err
    crash.assert_same_tables(crash.tables(project), undisturbed, "beside a second instance")


def last_record(project):
    """Segment and end of the newest record."""
    segment = crash.ledger_files(project)[0][-1]
    data = segment.read_bytes()
    return segment, len(data.rstrip(b"\0"))


@pytest.mark.parametrize("damage", ["cut", "zeros", "garbage"])
def test_a_torn_last_record_is_cut_off_and_done_again(project, landing, undisturbed, damage):
    killed(project, landing, "ledger_before_sync", 5)
    segment, end = last_record(project)
    with open(segment, "r+b") as file:
        if damage == "cut":
            file.truncate(end - 100)
        else:
            file.seek(end - 100)
            file.write(bytes(60) if damage == "zeros" else os.urandom(60))
    crash.finish(project)
    crash.assert_same_tables(crash.tables(project), undisturbed, damage)


def test_a_damaged_record_in_the_middle_is_refused_with_its_place(project, landing):
    killed(project, landing, "ledger_after_sync", 6, "--set", "ledger.keep=1h", "--set", "ledger.snapshot_every=1h")
    segment = crash.ledger_files(project)[0][0]
    with open(segment, "r+b") as file:
        file.seek(8192)
        byte = file.read(1)
        file.seek(8192)
        file.write(bytes([byte[0] ^ 1]))
    refused(project, segment.name)


def test_a_missing_segment_in_the_middle_is_refused(project, landing):
    killed(project, landing, "ledger_after_sync", 6, "--set", "ledger.keep=1h", "--set", "ledger.snapshot_every=1h")
    segments = crash.ledger_files(project)[0]
    assert len(segments) >= 3, segments
    segments[1].unlink()
    refused(project, "ledger")


def named_by_log(table):
    names = set()
    for entry in sorted((table / "_delta_log").glob("*.json")):
        for line in entry.read_text(encoding="utf-8").splitlines():
            action = json.loads(line)
            if "add" in action:
                names.add(action["add"]["path"])
    return names


def test_a_data_file_that_a_record_names_and_is_gone_is_said(project, landing):
    table, pending = project.root / "lake/silver/sale", []
    for _ in range(5):  # in a slow run the record may be of an epoch that wrote nothing
        killed(project, landing, "ledger_after_sync", 4)
        pending = [path for path in table.rglob("*.parquet")
                   if "_delta_log" not in path.parts and str(path.relative_to(table)) not in named_by_log(table)]
        if pending:
            break
    assert pending, "no file waits for its commit"
    for path in pending:
        path.unlink()
    refused(project, "silver.sale", ".parquet")


def test_a_table_that_was_replaced_is_not_written_again(project, landing):
    killed(project, landing, "ledger_after_sync", 6)
    shutil.rmtree(project.root / "lake/silver/sale")
    refused(project, "silver.sale", "replaced or rolled back", code=1)


def test_a_ledger_without_its_lineage_is_not_taken_for_a_new_one(project, landing):
    killed(project, landing, "ledger_after_sync", 6)
    (project.root / "lake/_weir/standard/ledger/lineage").unlink()
    refused(project, "lineage")


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "weir", folder], capture_output=True).returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("what", ["storage.root", "ledger.path"])
def test_a_full_disk_stops_the_run_and_space_lets_it_go_on(project, landing, undisturbed, small_disk, what):
    crash.prepare(project, landing)
    (project.root / "lake").mkdir()
    if what == "storage.root":
        for name in ("silver", "_weir"):
            (small_disk / name).mkdir()
            (project.root / "lake" / name).symlink_to(small_disk / name)
    else:
        (small_disk / "ledger").mkdir()
        (project.root / "lake/_weir/standard").mkdir(parents=True)
        (project.root / "lake/_weir/standard/ledger").symlink_to(small_disk / "ledger")
    full = project.run(crash.PIPELINE, *crash.OPTIONS, "--set", "ledger.keep=1h", code=ENVIRONMENT)
    assert "No space left" in full.err, full
    subprocess.run(["mount", "-o", "remount,size=200m", small_disk], check=True)
    crash.finish(project)
    crash.assert_same_tables(crash.tables(project), undisturbed, what)


def test_a_run_that_was_told_to_stop_goes_on_where_it_was(project, landing, undisturbed):
    crash.prepare(project, landing)
    process = project.start("run", crash.PIPELINE, "--until-end", "--json", *crash.OPTIONS, "--set", "sources.bronze.till.rate=30000")
    while not (project.root / "lake/_weir/standard/ledger/status.json").exists():
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    crash.finish(project)
    crash.assert_same_tables(crash.tables(project), undisturbed, "stopped and started")
