"""kill -9 at the entry of each system call that changes anything on disk, of a write with its commit and checkpoint, a merge by
copying and by deletion vectors, a compaction, a Z-ORDER, a restore, a replacing, an altering and a vacuum: no row is lost or doubled, deltalake opens the
table, and doing it again ends as if nothing had happened. WEIR_SYSCALLS=all takes every call, else a sample."""

import collections
import os
import pathlib
import random
import re
import shutil
import subprocess

import deltalake
import pyarrow as pa
import pytest

from test_delta_syncs import strace  # noqa: F401 (a fixture)
from test_maintain import by_weir, weir
from test_merge import build, change_file, merge, random_changes  # noqa: F401 (a fixture)

CHANGING = "write,pwrite64,writev,pwritev,fsync,fdatasync,link,linkat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,ftruncate,fallocate"
SAMPLE = os.environ.get("WEIR_SYSCALLS", "7")
COPY = ["key=id", "time=at", "change=_change", "partition=region", "txn=job"]
VECTORS = [*COPY, "property=delta.enableDeletionVectors=true"]


class Case:
    def __init__(self, binary, build, root):  # noqa: F811
        self.binary, self.build, self.root, self.base = binary, build, root, root / "base"
        rng = random.Random(5)
        self.changes = [str(change_file(root / f"{i}.parquet", random_changes(rng, 60, 80, i * 60))) for i in range(10)]

    def prepare(self, merges, options=COPY):
        self.base.mkdir()
        merge(self.build, self.base, "t", options, *self.changes[:merges])

    def merging(self, count, options=COPY):
        return lambda place: [str(self.build / "merge_tool"), str(place), "t", *options, *self.changes[:count]]

    def table(self, *arguments):
        return lambda place: [str(self.binary), "table", arguments[0], str(place / "t"), *arguments[1:]]


def write_and_checkpoint(case):
    case.prepare(9)  # version 10 gets a checkpoint
    return case.merging(10)


def merge_by_copying(case):
    case.prepare(3)
    return case.merging(4)


def merge_by_vectors(case):
    case.prepare(3, VECTORS)
    return case.merging(4, VECTORS)


def compaction(case):
    case.prepare(6, VECTORS)
    return case.table("optimize")


def zorder(case):
    case.prepare(6)
    return case.table("optimize", "--zorder", "id,at", "--target-size", "2kb")


def restore(case):
    case.prepare(6, VECTORS)
    return case.table("restore", "--version", "3")


def replace(case):
    case.prepare(3)
    (case.root / "new").mkdir()
    rows = [{**row, "region": "north", "_change": 0} for row in random_changes(random.Random(8), 30, 30, 0)]
    merge(case.build, case.root / "new", "t", COPY, change_file(case.root / "new.parquet", rows))
    return case.table("replace", "--where", "region = 'north'", "--from", str(case.root / "new/t"))


def alter(case):
    case.prepare(3)
    return case.table("alter", "--rename", "note=remark,amount=price")


def vacuum(case):
    case.prepare(6, VECTORS)
    weir(case.binary, "optimize", case.base / "t")
    return case.table("vacuum", "--retain", "0h", "--allow-short-retention", "--ignore-pending")


def rows(binary, path):
    """Ours, after deltalake has opened the table and read as many by the same keys."""
    mine = by_weir(binary, path)
    found = pa.table(deltalake.QueryBuilder().register("t", deltalake.DeltaTable(str(path))).execute("SELECT id FROM t ORDER BY id").read_all())
    assert sorted(row["id"] for row in mine) == found.column("id").to_pylist()
    return sorted(mine, key=str)


def calls(strace, command, log):  # noqa: F811
    """The system calls of the command's run, in order: (name, which of its name and thread, the line), as strace counts."""
    done = subprocess.run([strace, "-f", "-o", str(log), "-e", f"trace={CHANGING}", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    counts, seen = collections.Counter(), []
    for found in re.finditer(r"^(\d+) +(([a-z0-9]+)\(.*)$", log.read_text(), re.MULTILINE):
        counts[found[1], found[3]] += 1
        seen.append((found[3], counts[found[1], found[3]], found[2][:120]))
    return seen


@pytest.mark.parametrize("prepare", [write_and_checkpoint, merge_by_copying, merge_by_vectors, compaction, zorder, restore, replace, alter, vacuum], ids=lambda case: case.__name__)
def test_a_kill_at_any_system_call_loses_and_doubles_nothing(binary, build, strace, tmp_path, prepare):  # noqa: F811
    case = Case(binary, build, tmp_path)
    command = prepare(case)
    before = rows(binary, case.base / "t")
    whole = tmp_path / "whole"
    shutil.copytree(case.base, whole)
    seen = calls(strace, command(whole), tmp_path / "log")
    after = rows(binary, whole / "t")
    assert len(seen) > 5, seen
    points = range(1, len(seen) + 1)
    if SAMPLE != "all":
        points = sorted(random.Random(prepare.__name__).sample(points, min(int(SAMPLE), len(seen))))
    kills = 0
    for point in points:
        place = tmp_path / "place"
        shutil.copytree(case.base, place)
        what = f"{prepare.__name__}: killed at call {point} of {len(seen)}, {seen[point - 1][2]}"
        name, which, _ = seen[point - 1]
        killed = subprocess.run([strace, "-f", "-o", os.devnull, "-e", f"trace={CHANGING}", "-e", f"inject={name}:signal=SIGKILL:when={which}",
                                 *command(place)], capture_output=True, text=True)
        # files are synced side by side: in another run a thread may have one call fewer
        assert killed.returncode in (-9, 137, 0), f"{what}: exit {killed.returncode} {killed.stderr}"
        kills += killed.returncode != 0
        held = rows(binary, place / "t")
        assert held in ((before, after) if killed.returncode != 0 else (after,)), f"{what}: {len(held)} rows, {len(before)} before and {len(after)} after"
        again = subprocess.run(command(place), capture_output=True, text=True)
        assert again.returncode == 0, f"{what}: then {again.stderr}"
        assert rows(binary, place / "t") == after, f"{what}: done again"
        assert pathlib.Path(place / "t/_delta_log").is_dir()
        shutil.rmtree(place)
    assert kills >= len(points) * 2 // 3, (kills, len(points))
