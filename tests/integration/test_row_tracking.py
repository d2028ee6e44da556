"""Tables that track rows: through merges, by rewriting and by deletion vectors, through compaction, Z-ORDER, replacing and restoring, every row
keeps its id, and the version in which it last changed, as a model has them. Spark says the same in the long tier."""
import json
import random
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from test_delta import tool  # noqa: F401 (a fixture)
from test_delta_features import action, read_log, write_log
from test_maintain import result, weir

ID, VERSION = "_row-id-col-7", "_row-commit-version-col-7"
SCHEMA = pa.schema([("id", pa.int64()), ("day", pa.string()), ("note", pa.string()), ("_change", pa.int8())])
INSERT, AFTER, DELETE = 0, 2, 3


def merge(tool, root, rows, *options):
    path = root / "changes.parquet"
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)
    subprocess.run([tool.parent / "merge_tool", root, "t", "key=id", "change=_change", "partition=day", *options, path], check=True, capture_output=True)


def make_tracking(tool, root, vectors, mapped=False):
    """A table without rows, whose only commit says that it tracks them."""
    merge(tool, root, [{"id": 0, "day": "a", "note": "x", "_change": DELETE}], *(["property=delta.enableDeletionVectors=true"] if vectors else []))
    table = root / "t"
    for path in sorted((table / "_delta_log").glob("*.json"))[1:]:
        path.unlink()
    actions = read_log(table)
    features = (["deletionVectors"] if vectors else []) + (["columnMapping"] if mapped else [])
    action(actions, "protocol").update({"minReaderVersion": 3 if features else 1, "minWriterVersion": 7, "writerFeatures": [*features, "rowTracking", "domainMetadata"]})
    if features:
        action(actions, "protocol")["readerFeatures"] = features
    metadata = action(actions, "metaData")
    metadata["partitionColumns"] = ["day"]
    metadata["configuration"].update({
        "delta.enableRowTracking": "true", "delta.rowTracking.materializedRowIdColumnName": ID, "delta.rowTracking.materializedRowCommitVersionColumnName": VERSION})
    actions.append({"domainMetadata": {"domain": "delta.rowTracking", "configuration": json.dumps({"rowIdHighWaterMark": 99}), "removed": False}})
    write_log(table, actions)
    return table


def live_adds(table):
    live = {}
    for version in range(len(list((table / "_delta_log").glob("*.json")))):
        actions = read_log(table, version)
        for gone in (a["remove"] for a in actions if "remove" in a):
            live.pop(gone["path"], None)
        live.update({a["add"]["path"]: a["add"] for a in actions if "add" in a})
    return live.values()


def tracked(table):
    """By key: id and version of its row, from what the files and the log say. Deletion vectors must be gone."""
    found, ids = {}, []
    for add in live_adds(table):
        assert "deletionVector" not in add
        for i, row in enumerate(pq.ParquetFile(table / add["path"]).read().to_pylist()):
            at, version = row.get(ID), row.get(VERSION)
            found[row["id"]] = (add["baseRowId"] + i if at is None else at, add["defaultRowCommitVersion"] if version is None else version)
            ids.append(found[row["id"]][0])
    assert len(ids) == len(set(ids))
    return found


def newest(table):
    return len(list((table / "_delta_log").glob("*.json"))) - 1


def high_water_mark(table):
    domains = [a["domainMetadata"] for v in range(newest(table) + 1) for a in read_log(table, v) if "domainMetadata" in a]
    return json.loads(domains[-1]["configuration"])["rowIdHighWaterMark"]


def check(table, model, had):
    """`model`: by key its id and version; an id of None is a new one, none of those had."""
    found = tracked(table)
    assert found.keys() == model.keys()
    for key, (row_id, version) in model.items():
        assert found[key][1] == version, key
        assert found[key][0] == row_id if row_id is not None else found[key][0] not in had, key
    mark = high_water_mark(table)
    for key, (row_id, _) in found.items():
        assert row_id <= mark
        model[key] = found[key]
        had.add(row_id)
    for add in live_adds(table):  # statistics are of the table's columns
        assert not set(json.loads(add["stats"])["nullCount"]) & {ID, VERSION}


@pytest.mark.parametrize("vectors", [False, True])
def test_rows_keep_their_ids_whatever_moves_them(binary, tool, tmp_path, vectors):  # noqa: F811
    table = make_tracking(tool, tmp_path, vectors)
    rng, model, had = random.Random(vectors), {}, set()
    for step in range(6):
        rows = [{"id": n, "day": "ab"[n % 2], "note": f"{step}-{n}", "_change": rng.choice([AFTER, AFTER, AFTER, DELETE])} for n in rng.sample(range(60), 25)]
        merge(tool, tmp_path, rows)
        for row in rows:
            held = model.pop(row["id"], (None,))
            if row["_change"] != DELETE:
                model[row["id"]] = (held[0], newest(table))
        if vectors or step % 2:
            done = result(binary, "optimize", table, *rng.choice([[], ["--zorder", "note"], ["--layout", "direct_lake"]]))
            assert done["filesRemoved"] > 0
            if vectors and any("deletionVector" in add for add in live_adds(table)):
                result(binary, "optimize", table)
        check(table, model, had)


def test_replacing_gives_new_ids_and_restoring_the_old_ones(binary, tool, tmp_path):  # noqa: F811
    table = make_tracking(tool, tmp_path, False)
    merge(tool, tmp_path, [{"id": n, "day": "ab"[n % 2], "note": "x", "_change": INSERT} for n in range(10)])
    model, had = {n: (None, 1) for n in range(10)}, set()
    check(table, model, had)
    before, then = dict(model), newest(table)
    (tmp_path / "other").mkdir()
    merge(tool, tmp_path / "other", [{"id": n, "day": "a", "note": "y", "_change": INSERT} for n in range(0, 10, 2)])
    weir(binary, "replace", table, "--where", "day = 'a'", "--from", tmp_path / "other/t")
    model.update({n: (None, newest(table)) for n in range(0, 10, 2)})
    check(table, model, had)
    mark = high_water_mark(table)
    weir(binary, "restore", table, "--version", then)
    assert tracked(table) == before and high_water_mark(table) == mark
    merge(tool, tmp_path, [{"id": 77, "day": "a", "note": "z", "_change": INSERT}])
    check(table, {**before, 77: (None, newest(table))}, had)


def test_tables_that_do_not_name_the_columns_are_refused_by_name(binary, tool, tmp_path):  # noqa: F811
    table = make_tracking(tool, tmp_path, False)
    merge(tool, tmp_path, [{"id": 1, "day": "a", "note": "x", "_change": INSERT}])
    actions = read_log(table)
    for key in [k for k in action(actions, "metaData")["configuration"] if "materialized" in k]:
        del action(actions, "metaData")["configuration"][key]
    write_log(table, actions)
    assert "materializedRowIdColumnName" in weir(binary, "optimize", table, code=1).stderr


@pytest.mark.parametrize("vectors", [False, True])
def test_spark_says_the_same_of_ids_and_versions(spark, binary, tool, tmp_path, vectors):  # noqa: F811
    table = make_tracking(tool, tmp_path, vectors)
    ids = lambda: {r["id"]: (r["row_id"], r["v"]) for r in spark.sql(  # noqa: E731
        f"select id, _metadata.row_id row_id, _metadata.row_commit_version v from delta.`{table}`")}
    merge(tool, tmp_path, [{"id": n, "day": "ab"[n % 2], "note": "x", "_change": INSERT} for n in range(20)])
    first = ids()
    assert {v for _, v in first.values()} == {1} and len({i for i, _ in first.values()}) == 20
    merge(tool, tmp_path, [{"id": n, "day": "ab"[n % 2], "note": "y", "_change": AFTER if n < 8 else DELETE} for n in range(10)])
    second = ids()
    assert second == {n: (first[n][0], 2 if n < 8 else 1) for n in range(20) if n not in (8, 9)}
    result(binary, "optimize", table)
    assert ids() == second
    spark.sql(f"update delta.`{table}` set note = 'spark' where id = 3")
    spark.sql(f"insert into delta.`{table}` values (500, 'a', 'spark')")
    third = ids()
    assert third[3][0] == first[3][0] and third[3][1] > 2 and third[500][0] not in {i for i, _ in first.values()}
    result(binary, "optimize", table)
    assert ids() == third
