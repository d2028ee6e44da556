"""Merging changes into Delta tables: every table we write by merge is read by deltalake, DuckDB and
pyarrow and compared with a model that applies the same changes, row by row.

The room is driven through tools/merge_tool of the build directory; WEIR_BUILD names that directory
(default build/release)."""
import datetime
import decimal
import json
import os
import pathlib
import random
import subprocess

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake

SOURCE = pathlib.Path(__file__).resolve().parents[2]
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
INSERT, BEFORE, AFTER, DELETE = range(4)
VECTORS = "property=delta.enableDeletionVectors=true"
FEED = "property=delta.enableChangeDataFeed=true"
MODES = {"copy": [], "vectors": [VECTORS], "feed": [FEED], "vectors and feed": [VECTORS, FEED]}

SCHEMA = pa.schema([("id", pa.int64()), ("region", pa.string()), ("at", pa.timestamp("us", "UTC")),
                    ("amount", pa.decimal128(12, 2)), ("note", pa.string()), ("_change", pa.int8())])


@pytest.fixture(scope="session")
def build():
    path = pathlib.Path(os.environ.get("WEIR_BUILD", SOURCE / "build/release")) / "tools"
    if not (path / "merge_tool").exists():
        pytest.skip(f"{path}/merge_tool is not built (make build, or set WEIR_BUILD)")
    return path


def merge(build, root, table, options, *files, env=None, check=True):
    result = subprocess.run([str(build / "merge_tool"), str(root), table, *options, *map(str, files)],
                            capture_output=True, text=True, env={**os.environ, **(env or {})})
    if check:
        assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()] if check else result


def change_file(path, rows):
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)
    return path


def random_changes(rng, count, keys, tick):
    """`tick` moves on, so that most changes are newer than what the table holds."""
    rows = []
    for _ in range(count):
        at = START + datetime.timedelta(seconds=tick + rng.randint(-40, 40))
        key = rng.randrange(keys)
        rows.append({"id": key, "region": rng.choice(["north", "so/uth=1", "", None]), "at": at,
                     "amount": rng.randint(-10**6, 10**6) / 100, "note": f"note {rng.randrange(9)}",
                     "_change": rng.choice([INSERT, AFTER, AFTER, AFTER, DELETE, BEFORE])})
    return [{**row, "amount": decimal.Decimal(f"{row['amount']:.2f}")} for row in rows]


def apply_model(model, rows):
    """One epoch: the newest change of a key (the last to come at equal times) against the table."""
    net = {}
    for row in rows:
        known = net.get(row["id"])
        if known is None or row["at"] >= known["at"]:
            net[row["id"]] = row
    for key, row in net.items():
        held = model.get(key)
        if held is not None and held["at"] > row["at"]:
            continue
        if row["_change"] in (DELETE, BEFORE):
            model.pop(key, None)
        else:
            model[key] = row
    return net


def canonical(rows):
    return sorted((row["id"], row["region"] or None, row["at"].astimezone(datetime.timezone.utc),
                   row["amount"], row["note"]) for row in rows)


def read_by_deltalake(path):
    return DeltaTable(str(path)).to_pyarrow_table().to_pylist()


def read_by_duckdb(path):
    """The files that the log names; DuckDB's own reader of the log is a download."""
    files = [str(pathlib.Path(path) / uri) for uri in DeltaTable(str(path)).file_uris()]
    if not files:
        return []
    rows = duckdb.execute(
        'select id, region, epoch_us("at") as us, amount, note '
        "from read_parquet(?, hive_partitioning=false)", [files]).fetchall()
    return [{"id": i, "region": region, "at": EPOCH + datetime.timedelta(microseconds=us),
             "amount": amount, "note": note} for i, region, us, amount, note in rows]


def read_by_pyarrow(path):
    files = [str(pathlib.Path(path) / uri) for uri in DeltaTable(str(path)).file_uris()]
    return pa.concat_tables([pq.read_table(f, partitioning=None) for f in files]).to_pylist()


def read_by_us(build, root, table):
    out = subprocess.run([str(build / "delta_tool"), "cat", str(root), table], capture_output=True,
                         text=True, check=True).stdout
    rows = [json.loads(line, parse_float=decimal.Decimal) for line in out.splitlines()]
    for row in rows:
        row["at"] = datetime.datetime.fromisoformat(row["at"].replace("Z", "+00:00"))
        row["amount"] = decimal.Decimal(row["amount"]).quantize(
            decimal.Decimal("0.01"))
    return rows


def read_by_deltalake_sql(path):
    """deltalake's other reader, which knows deletion vectors."""
    query = QueryBuilder().register("t", DeltaTable(str(path)))
    return pa.table(query.execute("select id, region, at, amount, note from t").read_all()).to_pylist()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("partition", ["none", "region", "date"])
def test_random_changes_leave_what_a_model_says(build, tmp_path, mode, partition):
    rng = random.Random(f"{mode} {partition}")
    options = ["key=id", "time=at", "change=_change", "txn=test", *MODES[mode]]
    options += {"none": [], "region": ["partition=region"], "date": ["partition=date:at"]}[partition]
    model, files, models = {}, [], []
    for step in range(12):
        rows = random_changes(rng, rng.choice([1, 40, 300]), 200, step * 60)
        files.append(change_file(tmp_path / f"changes{step}.parquet", rows))
        apply_model(model, rows)
        models.append(dict(model))
    done = merge(build, tmp_path, "t", options, *files)
    assert [d["version"] for d in done] == list(range(1, 13))
    table = tmp_path / "t"
    assert canonical(read_by_us(build, tmp_path, "t")) == canonical(model.values())
    assert canonical(read_by_deltalake_sql(table)) == canonical(model.values())
    if "vectors" not in mode:
        assert canonical(read_by_deltalake(table)) == canonical(model.values())
        if partition == "none":
            assert canonical(read_by_duckdb(table)) == canonical(model.values())
            assert canonical(read_by_pyarrow(table)) == canonical(model.values())


def test_a_merge_is_done_once(build, tmp_path):
    rows = random_changes(random.Random(1), 50, 30, 0)
    changes = change_file(tmp_path / "c.parquet", rows)
    options = ["key=id", "time=at", "change=_change", "txn=job"]
    first = merge(build, tmp_path, "t", options, changes)
    again = merge(build, tmp_path, "t", options, changes)
    assert not first[0]["skipped"] and again[0]["skipped"]
    assert again[0]["version"] == first[0]["version"]


def test_change_feed_tells_every_row(build, tmp_path):
    rng = random.Random(7)
    options = ["key=id", "time=at", "change=_change", FEED]
    files = [change_file(tmp_path / f"c{i}.parquet", random_changes(rng, 100, 40, i * 60))
             for i in range(6)]
    merge(build, tmp_path, "t", options, *files)
    table = DeltaTable(str(tmp_path / "t"))
    feed = pa.table(table.load_cdf(starting_version=1).read_all()).to_pylist()
    state = {}
    order = {"update_preimage": 0, "delete": 0, "insert": 1, "update_postimage": 1}
    feed.sort(key=lambda row: (row["_commit_version"], order[row["_change_type"]]))
    for row in feed:
        if order[row["_change_type"]] == 0:
            held = state.pop(row["id"])
            assert held["note"] == row["note"] and held["at"] == row["at"]
        else:
            assert row["id"] not in state
            state[row["id"]] = row
    assert canonical(state.values()) == canonical(read_by_deltalake(tmp_path / "t"))


def test_only_files_that_may_hold_the_keys_are_read(build, tmp_path):
    schema = pa.schema([f for f in SCHEMA if f.name != "_change"])
    for start in range(0, 1000, 100):
        rows = [{**row, "id": start + i} for i, row in
                enumerate(random_changes(random.Random(start), 100, 1, 0))]
        write_deltalake(str(tmp_path / "t"), pa.Table.from_pylist(rows, schema=schema), mode="append")
    changes = change_file(tmp_path / "c.parquet", [
        {**row, "id": key, "_change": AFTER} for key, row in
        zip([110, 150, 720, 5000], random_changes(random.Random(2), 4, 1, 1000))])
    done = merge(build, tmp_path, "t", ["key=id", "time=at", "change=_change"], changes)
    assert done[0] == {**done[0], "files_read": 2, "files_changed": 2, "updated": 3, "inserted": 1}
    assert len(read_by_deltalake(tmp_path / "t")) == 1001


def test_two_writers_lose_nothing(build, tmp_path):
    """Two processes merge into one table at once; each key is written by one of them."""
    options = ["key=id", "time=at", "change=_change"]
    merge(build, tmp_path, "t", options, change_file(tmp_path / "first.parquet", [
        {**random_changes(random.Random(0), 1, 1, 0)[0], "id": -1, "_change": INSERT}]))
    processes, expected = [], {-1}
    for writer in range(2):
        files = []
        for i in range(10):
            keys = [writer * 1000 + i * 10 + k for k in range(10)]
            expected.update(keys)
            rows = [{**random_changes(random.Random(k), 1, 1, 0)[0], "id": k, "_change": AFTER}
                    for k in keys]
            files.append(change_file(tmp_path / f"w{writer}_{i}.parquet", rows))
        processes.append(subprocess.Popen([str(build / "merge_tool"), str(tmp_path), "t", *options,
                                           f"txn=writer{writer}", *map(str, files)],
                                          stdout=subprocess.PIPE))
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert {row["id"] for row in read_by_deltalake(tmp_path / "t")} == expected
    assert DeltaTable(str(tmp_path / "t")).version() == 21


@pytest.mark.parametrize("mode", ["copy", "vectors and feed"])
@pytest.mark.parametrize("fault", ["sink_file_written", "sink_file_synced", "delta_merge_written",
                                   "delta_entry_written", "delta_entry_linked"])
def test_killed_merges_are_repeated(build, tmp_path, fault, mode):
    rng = random.Random(fault)
    options = ["key=id", "time=at", "change=_change", "txn=job", *MODES[mode]]
    model, files = {}, []
    for i in range(4):
        rows = random_changes(rng, 60, 50, i * 60)
        apply_model(model, rows)
        files.append(change_file(tmp_path / f"c{i}.parquet", rows))
    killed = 0
    for hit in (1, 2, 3):
        result = merge(build, tmp_path, "t", options, *files, check=False,
                       env={"WEIR_FAULT": f"{fault}:{hit}:kill"})
        killed += result.returncode == -9
    assert killed > 0
    merge(build, tmp_path, "t", options, *files)
    assert canonical(read_by_us(build, tmp_path, "t")) == canonical(model.values())
    assert canonical(read_by_deltalake_sql(tmp_path / "t")) == canonical(model.values())


def test_refusals_name_the_thing(build, tmp_path):
    changes = change_file(tmp_path / "c.parquet", random_changes(random.Random(1), 5, 5, 0))
    for options, words in [(["key=nope"], "there is no key column nope"),
                           (["key=id", "time=note"], "note, which is no column of times"),
                           (["key=id", "change=note"], "no integer column note")]:
        result = merge(build, tmp_path, "t", options, changes, check=False)
        assert result.returncode == 1 and words in result.stderr
    write_deltalake(str(tmp_path / "a"), pa.table({"id": pa.array([1], pa.int64())}),
                    configuration={"delta.appendOnly": "true"})
    result = merge(build, tmp_path, "a", ["key=id"], changes, check=False)
    assert result.returncode == 1 and "append-only" in result.stderr
