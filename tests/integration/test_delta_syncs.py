"""What reaches the disk before what, seen from outside: the syncs of a run under strace, thread by thread.

An epoch is durable after its data file's sync and the ledger's, one after the other; names of data files are made
durable while rows still come. The table's log entry follows: its bytes, its name, its folder."""

import os
import re
import shutil
import subprocess

import pytest

from test_cli import SCHEMA, line

SALE = """return pipeline "shop" {
  rules   = "rules",
  storage = delta { root = "lake" },
  commit  = { every = "20ms" },
  sources = {
    source "bronze.sale" { files { path = "landing/*.jsonl" }, json { schema = "schemas/sale.avsc" }, into = none },
  },
}
"""
RULE = """return stream "silver.sale" {
  from    = "bronze.sale",
  columns = { %s },
  map     = function(e, out) %s end,
}
"""
CALL = re.compile(r"^(\d+) +([\d.]+) (\w+)\((.*)\) += (-?\d+).*<([\d.]+)>$")


@pytest.fixture(scope="session")
def strace(tmp_path_factory):
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace is not installed (tools/deps test)")
    probe = tmp_path_factory.mktemp("strace") / "log"
    if subprocess.run([program, "-f", "-o", probe, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("strace cannot attach here (ptrace is not allowed)")
    return program


def prepare(project, columns="net = \"int32\"", body="out.net = 1"):
    project.write("schemas/sale.avsc", SCHEMA)
    project.write("pipelines/shop.lua", SALE)
    project.write("rules/sale.lua", RULE % (columns, body))


def traced(strace, project):
    log = project.root / "strace.log"
    # A process is traced by one: LeakSanitizer, in builds that have it, wants to be that one and fails the run.
    environment = {**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}
    subprocess.run([strace, "-f", "-y", "-ttt", "-T", "-s", "300", "-o", log, "-e", "trace=fsync,fdatasync,link,linkat,openat",
                    project.binary, "run", "pipelines/shop.lua", "--until-end"], cwd=project.root, check=True, capture_output=True,
                   timeout=120, env=environment)
    calls, halves = [], {}
    for text in log.read_text(errors="replace").splitlines():
        thread = text.split(" ", 1)[0]
        if text.endswith("<unfinished ...>"):
            halves[thread] = text.removesuffix("<unfinished ...>").rstrip()
            continue
        resumed = re.match(r"^\d+ +[\d.]+ <\.\.\. \w+ resumed>(.*)$", text)
        if resumed:
            text = halves.pop(thread) + resumed.group(1)
        match = CALL.match(text)
        if match and int(match.group(5)) >= 0:
            start = float(match.group(2))
            calls.append((start, start + float(match.group(6)), match.group(3), match.group(4)))
    return sorted(calls, key=lambda call: call[1])


def first(calls, names, pattern, after=0.0):
    for start, end, name, arguments in calls:
        if name in names and re.search(pattern, arguments) and start >= after:
            return start, end
    raise AssertionError(f"no {names} of {pattern} after {after}:\n" + "\n".join(map(str, calls)))


SYNCS = ("fsync", "fdatasync")
DATA = r"/silver/sale/part-[^/]*\.parquet>"


def test_each_step_is_durable_before_the_next_begins(strace, project):
    prepare(project)
    project.write("landing/1.jsonl", "".join(line(n) for n in range(500)))
    calls = traced(strace, project)
    _, opened = first(calls, ("openat",), r'"silver/sale/part-.*O_CREAT')
    _, named = first(calls, SYNCS, r"/silver/sale>", after=opened)
    _, data = first(calls, SYNCS, DATA)
    ledger_start, ledger = first(calls, SYNCS, r"\.seg>", after=data)
    _, entry = first(calls, SYNCS, r"/silver/sale/_delta_log/\.tmp-", after=ledger)
    _, linked = first(calls, ("link", "linkat"), r"_delta_log/0{19}1\.json", after=entry)
    first(calls, SYNCS, r"/silver/sale/_delta_log>", after=linked)
    assert named <= ledger_start


def test_at_most_three_syncs_lie_between_a_seal_and_a_durable_epoch(strace, project):
    prepare(project)
    project.write("landing/1.jsonl", "".join(line(n) for n in range(500)))
    calls = traced(strace, project)
    seal, _ = first(calls, SYNCS, DATA)  # the seal's first wait
    _, durable = first(calls, SYNCS, r"\.seg>", after=seal)
    between = [(start, end) for start, end, name, _ in calls if name in SYNCS and seal <= start and end <= durable]
    serial, free = 0, seal
    for start, end in sorted(between, key=lambda span: span[1]):  # the longest chain of waits that do not overlap
        if start >= free:
            serial, free = serial + 1, end
    assert 2 <= serial <= 3, between


def test_columns_a_rule_gains_are_added_to_the_table_at_the_next_start(project):
    import lake
    prepare(project)
    project.write("landing/1.jsonl", "".join(line(n) for n in range(50)))
    project.run("pipelines/shop.lua")
    prepare(project, columns="net = \"int32\", mark = \"string\"", body="out.net = 2 out.mark = \"new\"")
    project.write("landing/2.jsonl", "".join(line(n) for n in range(50, 80)))
    project.run("pipelines/shop.lua")
    for reader, read in lake.READERS.items():
        table = read(project.root / "lake/silver/sale")
        pairs = list(zip(table.column("net").to_pylist(), table.column("mark").to_pylist()))
        assert sorted(pairs, key=str) == [(1, None)] * 50 + [(2, "new")] * 30, reader
    project.run("pipelines/shop.lua")
    history = project.weir("table", "history", "lake/silver/sale")
    assert history.out.count("ADD COLUMNS") == 1, history
