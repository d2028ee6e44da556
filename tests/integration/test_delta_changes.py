"""The change data feed, read: `weir table cat --changes` against deltalake's reader, on tables deltalake made and on ours."""
import collections
import json
import subprocess

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from deltalake import DeltaTable, write_deltalake
from test_delta import tool  # noqa: F401 (a fixture)

FEED = {"delta.enableChangeDataFeed": "true"}


def changes(binary, table, *more):
    out = subprocess.run([binary, "table", "cat", table, "--changes", "--json", *map(str, more)], capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def counted(rows, columns):
    return collections.Counter(tuple(str(row[c]) for c in [*columns, "_change_type", "_commit_version"]) for row in rows)


def theirs(table, first, last=None):
    return pa.table(DeltaTable(str(table)).load_cdf(starting_version=first, ending_version=last).read_all()).to_pylist()


@pytest.fixture
def made_by_deltalake(tmp_path):
    table = tmp_path / "t"
    for part in "ab":
        write_deltalake(table, pa.table({"id": [1, 2, 3], "part": [part] * 3, "note": ["x", None, "z"]}), mode="append", partition_by=["part"], configuration=FEED)
    DeltaTable(str(table)).update(updates={"note": "'new'"}, predicate="id = 2")
    DeltaTable(str(table)).delete("part = 'a'")
    DeltaTable(str(table)).delete("id = 3")
    return table


def test_changes_are_those_deltalake_tells(binary, made_by_deltalake):
    for first, last in ((0, None), (1, 3), (4, 4)):
        more = ["--from", first] + (["--to", last] if last is not None else [])
        ours = changes(binary, made_by_deltalake, *more)
        assert counted(ours, ["id", "part", "note"]) == counted(theirs(made_by_deltalake, first, last), ["id", "part", "note"])
        assert ours and all(row["_commit_timestamp"].endswith("Z") for row in ours)
    assert {row["_change_type"] for row in changes(binary, made_by_deltalake, "--from", 0)} == {"insert", "update_preimage", "update_postimage", "delete"}


def test_changes_need_the_feed(binary, tmp_path):
    table = tmp_path / "t"
    write_deltalake(table, pa.table({"id": [1]}))
    refused = subprocess.run([binary, "table", "cat", table, "--changes", "--from", "0"], capture_output=True, text=True, check=False)
    assert refused.returncode != 0 and "the change data feed was not on at version 0" in refused.stderr and refused.stdout.count("\n") <= 1
    late = subprocess.run([binary, "table", "cat", table, "--changes", "--from", "7"], capture_output=True, text=True, check=False)
    assert late.returncode != 0 and "give a version from 0 to 0" in late.stderr
    bare = subprocess.run([binary, "table", "cat", table, "--changes"], capture_output=True, text=True, check=False)
    assert bare.returncode != 0 and "wants --from V" in bare.stderr


@pytest.mark.parametrize("vectors", [False, True])
def test_changes_of_a_merge_with_and_without_change_files(binary, tool, tmp_path, vectors):  # noqa: F811
    """Without change files the same follows from the files added and removed, or from their deletion vectors."""
    properties = ["property=delta.enableChangeDataFeed=true"] + (["property=delta.enableDeletionVectors=true"] if vectors else [])

    def merge(name, rows):
        parquet.write_table(pa.Table.from_pylist(rows, pa.schema([("id", pa.int64()), ("note", pa.string()), ("_change", pa.int8())])), tmp_path / name)
        subprocess.run([tool.parent / "merge_tool", tmp_path, "t", "key=id", "change=_change", *properties, tmp_path / name], check=True, capture_output=True)
    merge("a", [{"id": n, "note": f"first {n}", "_change": 0} for n in range(6)])
    merge("b", [{"id": 1, "note": "second", "_change": 2}, {"id": 2, "note": None, "_change": 3}, {"id": 9, "note": "new", "_change": 0}])
    table = tmp_path / "t"
    last = DeltaTable(str(table)).version() if not vectors else 2
    wanted = [(1, "first 1", "update_preimage"), (1, "second", "update_postimage"), (2, "first 2", "delete"), (9, "new", "insert")]
    assert sorted((int(r["id"]), r["note"], r["_change_type"]) for r in changes(binary, table, "--from", last)) == sorted(wanted)
    log = table / "_delta_log" / f"{last:020d}.json"
    lines = [line for line in log.read_text().splitlines() if not line.startswith('{"cdc"')]
    log.write_text("".join(line + "\n" for line in lines))
    derived = sorted((int(r["id"]), r["note"], r["_change_type"]) for r in changes(binary, table, "--from", last))
    if vectors:
        assert derived == sorted([(1, "first 1", "delete"), (1, "second", "insert"), (2, "first 2", "delete"), (9, "new", "insert")])
    else:  # the whole file, before and after
        kept = [(n, f"first {n}", kind) for n in (0, 3, 4, 5) for kind in ("delete", "insert")]
        assert derived == sorted([(1, "first 1", "delete"), (1, "second", "insert"), (2, "first 2", "delete"), (9, "new", "insert"), *kept])
