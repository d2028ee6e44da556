"""Two writers at once, a test a cell of the conflict matrix: our commit is held with its entry written and not yet named, another
writer (deltalake, or another process of ours) takes the version, ours goes on. What must commute does, what must not is told,
and nobody's rows are undone."""
import json
import os
import signal

import deltalake
import duckdb
import pyarrow as pa
import pytest

import conftest
from live import wait_until
from test_maintain import by_weir, weir

PIPELINE = """return pipeline "%s" {
  rules   = "rules",
  storage = delta { root = "%s" },
  sources = { source "bronze.row" { files { path = "landing/*.jsonl" }, json { schema = "row.avsc" }, into = none } },
}
"""
ROW = '{"type": "record", "name": "row", "fields": [{"name": "id", "type": "long"}, {"name": "note", "type": "string"}]}'
RULE = """return stream "silver.row" { from = "bronze.row", keep = { "id", "note" }, key = "id", into = delta { mode = "%s", compact = false, vacuum = false } }
"""
SCHEMA = pa.schema([("id", pa.int64()), ("note", pa.string())])
BASE = {i: "old" for i in range(10)}
OURS = {1: "ours", 3: "ours", 100: "ours"}


def landed(project, rows, name):
    project.write(f"landing/{name}.jsonl", "".join(json.dumps({"id": i, "note": note}) + "\n" for i, note in rows.items()))


def prepare(project, mode):
    project.write("row.avsc", ROW)
    project.write("pipelines/shop.lua", PIPELINE % ("shop", "lake"))
    project.write("rules/row.lua", RULE % mode)
    landed(project, BASE, "1")
    project.run("pipelines/shop.lua")
    deltalake.write_deltalake(str(project.root / "lake/silver/row"), pa.Table.from_pylist([{"id": 10, "note": "old"}], SCHEMA), mode="append")
    return project.root / "lake/silver/row"


def read(binary, path):
    table = deltalake.DeltaTable(str(path))
    found = sorted((row["id"], row["note"]) for row in table.to_pyarrow_table(columns=["id", "note"]).to_pylist())
    assert sorted((int(row["id"]), row["note"]) for row in by_weir(binary, path)) == found
    assert sorted(duckdb.execute("SELECT id, note FROM read_parquet(?, union_by_name = true)", [table.file_uris()]).fetchall()) == found
    return found


def held(project, arguments, winner):
    """Our command, with `winner` done while its entry has no name yet: (code, stderr)."""
    process = project.start(*arguments, env={"WEIR_FAULT": "delta_entry_written:1:stop"})
    try:
        wait_until(lambda: process.poll() is not None or open(f"/proc/{process.pid}/stat", encoding="utf-8").read().rsplit(")", 1)[1].split()[0] == "T")
        assert process.poll() is None, process.communicate()
        winner()
        process.send_signal(signal.SIGCONT)
        _, err = process.communicate(timeout=conftest.TIMEOUT_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return process.returncode, err


# Winners: what they do to the table, and to the model of its rows.

def append(project, path):
    deltalake.write_deltalake(str(path), pa.Table.from_pylist([{"id": 900, "note": "theirs"}], SCHEMA), mode="append")


def our_append(project, path):
    other = conftest.Project(project.binary, project.root / "other")
    other.write("row.avsc", ROW)
    other.write("pipelines/other.lua", PIPELINE % ("other", project.root / "lake"))
    other.write("rules/row.lua", RULE % "append")
    landed(other, {900: "theirs"}, "1")
    other.run("pipelines/other.lua")


def delete(project, path):
    deltalake.DeltaTable(str(path)).delete("id = 3")


def compact(project, path):
    assert deltalake.DeltaTable(str(path)).optimize.compact()["numFilesRemoved"] >= 2


def our_compact(project, path):
    weir(project.binary, "optimize", path)


def add_column(project, path):
    deltalake.DeltaTable(str(path)).alter.add_columns(deltalake.Field("extra", "string"))


def add_constraint(project, path):
    deltalake.DeltaTable(str(path)).alter.add_constraint({"small": "id < 1000"})


def change_property(project, path):
    deltalake.DeltaTable(str(path)).alter.set_table_properties({"delta.logRetentionDuration": "interval 60 days"})


def transaction(project, path):
    """Another process with our own identity has done this epoch: ours is to be skipped."""
    entries = [json.loads(line) for entry in sorted((path / "_delta_log").glob("*.json")) for line in entry.read_text().splitlines()]
    ours = [entry["txn"] for entry in entries if "txn" in entry][-1]
    properties = deltalake.CommitProperties(app_transactions=[deltalake.Transaction(ours["appId"], ours["version"] + 1000)])
    deltalake.write_deltalake(str(path), pa.Table.from_pylist([{"id": 900, "note": "theirs"}], SCHEMA), mode="append", commit_properties=properties)


THEIRS = {append: {900: "theirs"}, our_append: {900: "theirs"}, transaction: {900: "theirs"}}
WINNERS = [append, our_append, delete, compact, our_compact, add_column, change_property]


def after(winner, rows):
    rows = {**rows, **THEIRS.get(winner, {})}
    return {key: value for key, value in rows.items() if not (winner is delete and key == 3)}


def name(value):
    return getattr(value, "__name__", None)


@pytest.mark.parametrize("winner", WINNERS, ids=name)
def test_an_append_commutes_with(project, winner):
    path = prepare(project, "append")
    landed(project, {100: "ours", 101: "ours"}, "2")
    code, err = held(project, ["run", "pipelines/shop.lua", "--until-end"], lambda: winner(project, path))
    assert code == 0, err
    assert read(project.binary, path) == sorted({**after(winner, {**BASE, 10: "old"}), 100: "ours", 101: "ours"}.items())


@pytest.mark.parametrize("winner", WINNERS, ids=name)
def test_a_merge_is_derived_again_after(project, winner):
    path = prepare(project, "merge")
    landed(project, OURS, "2")
    code, err = held(project, ["run", "pipelines/shop.lua", "--until-end"], lambda: winner(project, path))
    assert code == 0, err
    assert read(project.binary, path) == sorted({**after(winner, {**BASE, 10: "old"}), **OURS}.items())


@pytest.mark.parametrize("winner", WINNERS, ids=name)
def test_a_compaction_gives_way_to(project, winner):
    path = prepare(project, "append")
    code, err = held(project, ["table", "optimize", str(path)], lambda: winner(project, path))
    assert code == 0, err
    assert read(project.binary, path) == sorted(after(winner, {**BASE, 10: "old"}).items())


@pytest.mark.parametrize("winner", WINNERS, ids=name)
def test_a_restore_is_derived_again_after(project, winner):
    path = prepare(project, "append")
    code, err = held(project, ["table", "restore", str(path), "--version", "1"], lambda: winner(project, path))
    assert code == 0, err
    assert read(project.binary, path) == sorted(BASE.items())


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_an_epoch_somebody_did_already_is_skipped(project, mode):
    path = prepare(project, mode)
    landed(project, {100: "ours"}, "2")
    code, err = held(project, ["run", "pipelines/shop.lua", "--until-end"], lambda: transaction(project, path))
    assert code == 0, err
    assert read(project.binary, path) == sorted({**BASE, 10: "old", 900: "theirs"}.items())


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_a_constraint_that_comes_first_is_told(project, mode):
    path = prepare(project, mode)
    landed(project, {100: "ours"}, "2")
    code, err = held(project, ["run", "pipelines/shop.lua", "--until-end"], lambda: add_constraint(project, path))
    assert code != 0 and "another writer changed what rows of table silver/row must hold" in err, err
    assert read(project.binary, path) == sorted({**BASE, 10: "old"}.items())
    project.run("pipelines/shop.lua")
    assert read(project.binary, path) == sorted({**BASE, 10: "old", 100: "ours"}.items())


@pytest.mark.parametrize("feature", ["variantType", "icebergCompatV1"])
def test_a_protocol_we_do_not_write_is_told_by_name(project, feature):
    path = prepare(project, "append")
    landed(project, {100: "ours"}, "2")

    def raise_protocol():
        version = deltalake.DeltaTable(str(path)).version() + 1
        protocol = {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["appendOnly", "invariants", feature]}
        if feature == "variantType":
            protocol.update(minReaderVersion=3, readerFeatures=[feature])
        (path / "_delta_log" / f"{version:020}.json").write_text(json.dumps({"commitInfo": {"timestamp": 0, "operation": "UPGRADE"}}) + "\n" + json.dumps({"protocol": protocol}) + "\n")
    before = deltalake.DeltaTable(str(path)).version()
    code, err = held(project, ["run", "pipelines/shop.lua", "--until-end"], raise_protocol)
    assert code != 0 and feature in err, err
    assert not os.path.exists(path / "_delta_log" / f"{before + 2:020}.json")
