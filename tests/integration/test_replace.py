"""weir table replace: the partitions a predicate picks out hold another table's rows, in one commit; for every reader, beside other
writers, and not at all where it would undo what somebody else did."""
import datetime
import json
import os
import signal
import subprocess

import deltalake
import duckdb
import pyarrow as pa
import pytest

from live import wait_until
from test_maintain import by_weir, result, weir

SCHEMA = pa.schema([("id", pa.int64()), ("day", pa.date32()), ("country", pa.string()), ("note", pa.string())])
DAYS = [datetime.date(2026, 11, day) for day in (1, 2, 3)]


def rows(first, days, note):
    return pa.Table.from_pylist([{"id": first + i, "day": days[i % len(days)], "country": [None, "DE", "a/b c%"][i // 3 % 3], "note": note} for i in range(30)], SCHEMA)


def make(path, table):
    deltalake.write_deltalake(str(path), table, partition_by=["day", "country"], mode="append")
    return path


@pytest.fixture
def tables(tmp_path):
    table = make(tmp_path / "t", rows(0, DAYS, "old"))
    make(table, rows(100, DAYS, "old too"))
    return table, make(tmp_path / "new", rows(1000, DAYS[1:2], "new"))


def notes(table):
    return sorted((row["id"], row["note"]) for row in table.to_pylist())


def expected(table):
    return sorted([(row["id"], row["note"]) for source in (rows(0, DAYS, "old"), rows(100, DAYS, "old too")) for row in source.to_pylist() if row["day"] != DAYS[1]]
                  + [(1000 + i, "new") for i in range(30)])


def test_rows_of_the_partitions_are_the_new_ones_for_every_reader(binary, tables):
    path, new = tables
    told = result(binary, "replace", path, "--where", "day = '2026-11-02'", "--from", new)
    assert told["changed"] and told["version"] == 2 and told["rows"] == 30 and told["filesRemoved"] == 6 and told["filesAdded"] == 3
    assert notes(deltalake.DeltaTable(str(path)).to_pyarrow_table()) == expected(path)
    assert sorted((int(row["id"]), row["note"]) for row in by_weir(binary, path)) == expected(path)
    files = deltalake.DeltaTable(str(path)).file_uris()
    assert sorted(duckdb.execute("SELECT id, note FROM read_parquet(?)", [files]).fetchall()) == expected(path)
    history = deltalake.DeltaTable(str(path)).history(1)[0]
    assert history["operation"] == "WRITE" and history["operationParameters"] == {"mode": "Overwrite", "predicate": "day = '2026-11-02'"}
    # the version before is there still, and what it replaced comes back
    weir(binary, "restore", path, "--version", "1")
    assert notes(deltalake.DeltaTable(str(path)).to_pyarrow_table()) == notes(pa.concat_tables([rows(0, DAYS, "old"), rows(100, DAYS, "old too")]))


def test_deltalake_does_the_same(binary, tables, tmp_path):
    path, new = tables
    other = tmp_path / "by-deltalake"
    make(other, rows(0, DAYS, "old"))
    make(other, rows(100, DAYS, "old too"))
    deltalake.write_deltalake(str(other), rows(1000, DAYS[1:2], "new"), mode="overwrite", predicate="day = '2026-11-02'")
    weir(binary, "replace", path, "--where", "day = '2026-11-02'", "--from", new)
    assert notes(deltalake.DeltaTable(str(path)).to_pyarrow_table()) == notes(deltalake.DeltaTable(str(other)).to_pyarrow_table())


def test_rows_outside_of_the_predicate_are_refused_and_leave_nothing(binary, tables):
    path, new = tables
    before = sorted(p.name for p in path.rglob("*.parquet"))
    done = weir(binary, "replace", path, "--where", "day = '2026-11-03'", "--from", new, code=1)
    assert "new rows lie outside of `day = '2026-11-03'`" in done.stderr
    assert sorted(p.name for p in path.rglob("*.parquet")) == before and deltalake.DeltaTable(str(path)).version() == 1
    told = result(binary, "replace", path, "--where", "day = '2026-11-02'", "--from", new, "--dry-run")
    assert not told["changed"] and told["rows"] == 30 and sorted(p.name for p in path.rglob("*.parquet")) == before


def test_what_does_not_fit_is_refused_by_name(binary, tables, tmp_path):
    path, new = tables
    other = tmp_path / "other"
    deltalake.write_deltalake(str(other), rows(0, DAYS[:1], "x").append_column("more", pa.array(range(30), pa.int64())))
    assert "column more of type int64" in weir(binary, "replace", path, "--where", "day = '2026-11-01'", "--from", other, code=1).stderr
    assert "note" in weir(binary, "replace", path, "--where", "note = 'x'", "--from", new, code=1).stderr
    deltalake.DeltaTable(str(path)).alter.add_constraint({"short": "id < 500"})
    assert "violates short" in weir(binary, "replace", path, "--where", "day = '2026-11-02'", "--from", new, code=1).stderr
    assert notes(deltalake.DeltaTable(str(path)).to_pyarrow_table()) == notes(pa.concat_tables([rows(0, DAYS, "old"), rows(100, DAYS, "old too")]))


@pytest.mark.parametrize("fault", ["delta_entry_written:1", "delta_entry_linked:1"])
def test_a_kill_leaves_the_old_rows_or_the_new_ones(binary, tables, fault):
    path, new = tables
    weir(binary, "replace", path, "--where", "day = '2026-11-02'", "--from", new, code=-signal.SIGKILL, env={"WEIR_FAULT": f"{fault}:kill"})
    done = notes(deltalake.DeltaTable(str(path)).to_pyarrow_table())
    assert done == (expected(path) if "linked" in fault else notes(pa.concat_tables([rows(0, DAYS, "old"), rows(100, DAYS, "old too")])))
    weir(binary, "replace", path, "--where", "day = '2026-11-02'", "--from", new)
    assert notes(deltalake.DeltaTable(str(path)).to_pyarrow_table()) == expected(path)


def held(binary, path, new, meanwhile):
    """The command, held just before its commit while `meanwhile` is done."""
    process = subprocess.Popen([str(binary), "table", "replace", str(path), "--where", "day = '2026-11-02'", "--from", str(new), "--json"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env={**os.environ, "WEIR_FAULT": "delta_entry_written:1:stop"})
    try:
        wait_until(lambda: process.poll() is not None or open(f"/proc/{process.pid}/stat").read().rsplit(")", 1)[1].split()[0] == "T")
        assert process.poll() is None, process.communicate()
        meanwhile()
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return process.returncode, out, err


@pytest.mark.parametrize("winner, conflicts", [
    (lambda path: make(path, rows(500, DAYS[:1], "other")), False), (lambda path: make(path, rows(500, DAYS[1:2], "other")), True),
    (lambda path: deltalake.DeltaTable(str(path)).delete("day = '2026-11-02' and id < 20"), True), (lambda path: deltalake.DeltaTable(str(path)).delete("day = '2026-11-03'"), False),
    (lambda path: deltalake.DeltaTable(str(path)).optimize.compact(), True), (lambda path: deltalake.DeltaTable(str(path)).alter.add_columns(deltalake.Field("extra", "string")), True),
], ids=["append elsewhere", "append there", "delete there", "delete elsewhere", "compaction there", "metadata"])
def test_beside_another_writer(binary, tables, winner, conflicts):
    """A winner that touched the partitions, or the table's columns, is not undone unseen; any other is committed after."""
    path, new = tables
    code, out, err = held(binary, path, new, lambda: winner(path))
    table = deltalake.DeltaTable(str(path))
    kept = notes(table.to_pyarrow_table())
    if conflicts:
        assert code != 0 and "run it again" in err and table.version() == 2 and not any(note == "new" for _, note in kept), err
    else:
        assert code == 0 and json.loads(out)["version"] == 3 and sum(note == "new" for _, note in kept) == 30, err
        assert not [row for row in table.to_pyarrow_table().to_pylist() if row["day"] == DAYS[1] and row["note"] != "new"]
