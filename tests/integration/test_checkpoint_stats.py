"""Statistics as structs of a checkpoint: what is written says what the log says, what is read back is what was written, and tables of others that have nothing
else keep their statistics."""
import datetime
import decimal
import glob
import json
import subprocess

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from test_delta import run, tool  # noqa: F401 (a fixture)
from test_delta_features import make, read_log

AS_STRUCT = {"delta.checkpoint.writeStatsAsStruct": "true", "delta.checkpoint.writeStatsAsJson": "false"}


def checkpoint(table, version):
    """Its add actions, by path, from the checkpoint itself or its sidecar."""
    rows = pq.read_table(table / "_delta_log" / f"{version:020d}.checkpoint.parquet").to_pylist()
    sidecars = [row["sidecar"]["path"] for row in rows if row.get("sidecar")]
    for name in sidecars:
        rows += pq.read_table(table / "_delta_log/_sidecars" / name).to_pylist()
    return {row["add"]["path"]: row["add"] for row in rows if row.get("add")}


def as_json(value):
    """As statistics in the log have a value."""
    if isinstance(value, dict):
        return {key: as_json(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, datetime.datetime):
        text = value.replace(tzinfo=None).isoformat(timespec="milliseconds")
        return text + "Z" if value.tzinfo else text
    if isinstance(value, datetime.date):
        return value.isoformat()
    return float(value) if isinstance(value, decimal.Decimal) else value


def from_log(table, versions):
    return {a["add"]["path"]: a["add"] for version in versions for a in read_log(table, version) if "add" in a}


@pytest.mark.parametrize("mapping", [None, "name"])
@pytest.mark.parametrize("policy", ["classic", "v2"])
def test_they_say_what_the_log_says_and_are_read_back(tool, tmp_path, mapping, policy):  # noqa: F811
    features = {"readers": ["v2Checkpoint"], "writers": ["v2Checkpoint"]} if policy == "v2" else {}
    table = make(tool, tmp_path, "t", mapping=mapping, configuration={**AS_STRUCT, "delta.checkpointPolicy": policy}, **features)
    run(tool, "write", tmp_path, "t", 12)
    fields = json.loads(next(a["metaData"] for a in read_log(table) if "metaData" in a)["schemaString"])["fields"]
    huge = next(field["metadata"].get("delta.columnMapping.physicalName", "huge") for field in fields if field["name"] == "huge")
    logged = from_log(table, range(1, 11))
    adds = checkpoint(table, 10)
    assert set(adds) == set(logged) and len(adds) >= 10
    for path, add in adds.items():
        wanted = json.loads(logged[path]["stats"])
        found = as_json(add["stats_parsed"])
        assert add["stats"] is None and found["numRecords"] == wanted["numRecords"] and found["nullCount"] == wanted["nullCount"]
        for bounds in (wanted["minValues"], wanted["maxValues"]):
            bounds.pop(huge, None)  # of more digits than JSON's numbers keep
        assert found["minValues"] == wanted["minValues"] and found["maxValues"] == wanted["maxValues"], "nothing lost, nothing made up"
        values = {key: None if value == "" else value for key, value in logged[path]["partitionValues"].items()}
        assert {key: None if value is None else str(value) for key, value in add["partitionValues_parsed"].items()} == values
    before = run(tool, "cat", tmp_path, "t").stdout
    for version in range(10):
        (table / "_delta_log" / f"{version:020d}.json").unlink()  # from the checkpoint on
    assert sorted(run(tool, "cat", tmp_path, "t").stdout.splitlines()) == sorted(before.splitlines())
    run(tool, "write", tmp_path, "t", 22)  # a checkpoint of a snapshot that was read from one
    again = checkpoint(table, 20)
    assert all(again[path]["stats_parsed"] == adds[path]["stats_parsed"] for path in adds)


def test_others_read_them(tool, tmp_path):  # noqa: F811
    table = make(tool, tmp_path, "t", configuration=AS_STRUCT)
    run(tool, "write", tmp_path, "t", 12)
    for version in range(10):
        (table / "_delta_log" / f"{version:020d}.json").unlink()
    read = deltalake.DeltaTable(str(table))
    found = pa.table(deltalake.QueryBuilder().register("t", read).execute("select count(*) n, sum(id) s from t where id between 120 and 180").read_all()).to_pylist()
    assert found == [{"n": 61, "s": sum(range(120, 181))}]
    assert sum(row["num_records"] or 0 for row in pa.table(read.get_add_actions(flatten=True)).to_pylist()) == 600


def test_tags_stay(tool, binary, tmp_path):  # noqa: F811
    """They say what is in order; a checkpoint that forgot them would have it all put in order again."""
    table = make(tool, tmp_path, "t", configuration={"delta.checkpointInterval": "1"})
    run(tool, "write", tmp_path, "t", 2)
    done = subprocess.run([str(binary), "table", "optimize", str(table), "--zorder", "id"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run(tool, "write", tmp_path, "t", 3)
    newest = max(int(name.rsplit("/", 1)[1][:20]) for name in glob.glob(f"{table}/_delta_log/*.checkpoint.parquet"))
    tagged = [dict(add["tags"]) for add in checkpoint(table, newest).values() if add["tags"]]
    assert tagged and all(tags["ZCUBE_ZORDER_BY"] == '["id"]' for tags in tagged)
