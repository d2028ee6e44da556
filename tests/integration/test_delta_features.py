"""Appending to tables other engines made: column mapping, row tracking, in-commit timestamps, clustering, defaults. Their logs
are made by hand from a plain table's, as the protocol has them; what we append is read back by us, by pyarrow from the data files
by physical name and field id, and by deltalake where it reads the feature. What we cannot do is refused by name."""
import json
import os
import pathlib
import subprocess
import time

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from deltalake import DeltaTable, QueryBuilder
from test_delta import multiset, rows_of, run, tool  # noqa: F401 (a fixture)


def read_log(table, version=0):
    path = pathlib.Path(table) / "_delta_log" / f"{version:020d}.json"
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_log(table, actions):
    path = pathlib.Path(table) / "_delta_log" / f"{0:020d}.json"
    path.write_text("".join(json.dumps(action) + "\n" for action in actions))


def action(actions, kind):
    return next(a[kind] for a in actions if kind in a)


def give_names(type_, ids, mode):
    if isinstance(type_, str):
        return
    for field in type_.get("fields", []):
        ids.append(len(ids) + 1)
        field["metadata"].update({"delta.columnMapping.id": ids[-1], "delta.columnMapping.physicalName": f"col-{ids[-1]:04d}"})
        give_names(field["type"], ids, mode)
    for inner in ("elementType", "keyType", "valueType"):
        give_names(type_.get(inner, "string"), ids, mode)


def make(tool, root, name, *, readers=(), writers=(), configuration=None, domains=(), mapping=None, change=None):
    """A table without rows that has these features."""
    run(tool, "write", root, name, 0)
    actions = read_log(root / name)
    protocol, metadata = action(actions, "protocol"), action(actions, "metaData")
    schema = json.loads(metadata["schemaString"])
    metadata["configuration"].update(configuration or {})
    if mapping:
        ids = []
        give_names(schema, ids, mapping)
        metadata["configuration"].update({"delta.columnMapping.mode": mapping, "delta.columnMapping.maxColumnId": str(len(ids))})
        readers, writers = [*readers, "columnMapping"], [*writers, "columnMapping"]
    if change:
        change(schema)
    metadata["schemaString"] = json.dumps(schema)
    protocol.update({"minReaderVersion": 3 if readers else 1, "minWriterVersion": 7, "writerFeatures": list(dict.fromkeys(["appendOnly", "invariants", *writers]))})
    if readers:
        protocol["readerFeatures"] = list(readers)
    for domain, value in domains:
        actions.append({"domainMetadata": {"domain": domain, "configuration": json.dumps(value), "removed": False}})
    write_log(root / name, actions)
    return root / name


@pytest.fixture(scope="module")
def plain(tool, tmp_path_factory):
    root = tmp_path_factory.mktemp("plain")
    run(tool, "write", root, "t", 3)
    return multiset(rows_of(tool, root, "t"))


@pytest.mark.parametrize("mode", ["name", "id"])
def test_column_mapping(tool, tmp_path, plain, mode):
    table = make(tool, tmp_path, "t", mapping=mode)
    run(tool, "write", tmp_path, "t", 3)
    assert multiset(rows_of(tool, tmp_path, "t")) == plain
    fields = json.loads(action(read_log(table), "metaData")["schemaString"])["fields"]
    names = {f["metadata"]["delta.columnMapping.physicalName"]: f["metadata"]["delta.columnMapping.id"] for f in fields}
    parts = {f["metadata"]["delta.columnMapping.physicalName"] for f in fields if f["name"] in ("part", "at_date")}
    adds = [a["add"] for version in (1, 2, 3) for a in read_log(table, version) if "add" in a]
    assert adds and len(parts) == 2
    for add in adds:
        assert set(add["partitionValues"]) == parts
        stats = json.loads(add["stats"])
        assert "col-0001" in stats["minValues"] and set(stats["nullCount"]) <= set(names)
    for file in table.rglob("part-*.parquet"):
        schema = parquet.read_schema(file)
        for field in schema:
            assert names[field.name] == int(field.metadata[b"PARQUET:field_id"])
        who = next(f for f in schema if str(f.type).startswith("struct"))
        assert all(f.name.startswith("col-") for f in who.type)
        assert all(b"PARQUET:field_id" in f.metadata for f in who.type)
    theirs = QueryBuilder().register("t", DeltaTable(str(table))).execute("select count(*) as n, sum(id) as s from t").read_all()
    assert [theirs["n"][0].as_py(), theirs["s"][0].as_py()] == [150, sum(range(150))]


@pytest.mark.parametrize("mode", ["name", "id"])
def test_mapped_tables_are_optimized(tool, binary, tmp_path, plain, mode):
    table = make(tool, tmp_path, "t", mapping=mode)
    run(tool, "write", tmp_path, "t", 3)
    before = int(run(tool, "files", tmp_path, "t").stdout)
    subprocess.run([binary, "table", "optimize", table], check=True, capture_output=True)
    assert int(run(tool, "files", tmp_path, "t").stdout) < before
    assert multiset(rows_of(tool, tmp_path, "t")) == plain


def test_row_tracking(tool, tmp_path, plain):
    table = make(tool, tmp_path, "t", writers=["rowTracking", "domainMetadata"],
                 configuration={"delta.enableRowTracking": "true"}, domains=[("delta.rowTracking", {"rowIdHighWaterMark": 41})])
    run(tool, "write", tmp_path, "t", 3)
    assert multiset(rows_of(tool, tmp_path, "t")) == plain
    following = 42
    for version in (1, 2, 3):
        actions = read_log(table, version)
        for add in (a["add"] for a in actions if "add" in a):
            assert add["baseRowId"] == following
            assert add["defaultRowCommitVersion"] == version
            following += json.loads(add["stats"])["numRecords"]
        domain = action(actions, "domainMetadata")
        assert domain["domain"] == "delta.rowTracking"
        assert json.loads(domain["configuration"])["rowIdHighWaterMark"] == following - 1


def test_row_ids_survive_a_checkpoint(tool, tmp_path):
    table = make(tool, tmp_path, "t", writers=["rowTracking", "domainMetadata"])
    run(tool, "write", tmp_path, "t", 11)
    for version in range(10):
        (table / "_delta_log" / f"{version:020d}.json").unlink()
    run(tool, "write", tmp_path, "t", 12)
    adds = [a["add"] for a in read_log(table, 12) if "add" in a]
    assert min(add["baseRowId"] for add in adds) == 11 * 50


def test_in_commit_timestamps(tool, tmp_path, plain):
    table = make(tool, tmp_path, "t", writers=["inCommitTimestamp"], configuration={"delta.enableInCommitTimestamps": "true"})
    actions = read_log(table)
    action(actions, "commitInfo")["inCommitTimestamp"] = 33_000_000_000_000  # ahead of every clock
    write_log(table, actions)
    run(tool, "write", tmp_path, "t", 3)
    assert multiset(rows_of(tool, tmp_path, "t")) == plain
    assert [read_log(table, v)[0]["commitInfo"]["inCommitTimestamp"] for v in (1, 2, 3)] == [33_000_000_000_000 + v for v in (1, 2, 3)]


def test_clustering_columns_have_statistics(tool, tmp_path, plain):
    table = make(tool, tmp_path, "t", writers=["clustering", "domainMetadata"], configuration={"delta.dataSkippingNumIndexedCols": "1"},
                 domains=[("delta.clustering", {"clusteringColumns": [["note"], ["who", "age"]]})])
    run(tool, "write", tmp_path, "t", 3)
    assert multiset(rows_of(tool, tmp_path, "t")) == plain
    for version in (1, 2, 3):
        for add in (a["add"] for a in read_log(table, version) if "add" in a):
            assert "clusteringProvider" not in add
            counts = json.loads(add["stats"])["nullCount"]
            assert "note" in counts and "age" in counts["who"]


def metadata_of(name, **more):
    def change(schema):
        next(f for f in schema["fields"] if f["name"] == name)["metadata"].update(more)
    return change


@pytest.mark.parametrize("mapping", [None, "name"])
def test_listed_columns_alone_have_statistics(tool, tmp_path, plain, mapping):
    """However far behind they are; a struct's name lists all in it, backticks keep a dot in a name."""
    table = make(tool, tmp_path, "t", mapping=mapping, configuration={"delta.dataSkippingStatsColumns": "ID, who.`age`,day , `no.such`", "delta.dataSkippingNumIndexedCols": "1"})
    run(tool, "write", tmp_path, "t", 1)
    schema = json.loads(action(read_log(table), "metaData")["schemaString"])
    names = {f["metadata"].get("delta.columnMapping.physicalName", f["name"]): f["name"] for f in schema["fields"]}
    for add in (a["add"] for a in read_log(table, 1) if "add" in a):
        stats = json.loads(add["stats"])
        assert {names[name] for name in stats["nullCount"]} == {"id", "who", "day"}
        assert all(len(value) == 1 for value in stats["nullCount"].values() if isinstance(value, dict))
    assert len(rows_of(tool, tmp_path, "t")) == 50


def test_a_default_is_owed_to_columns_left_out_alone(tool, tmp_path, plain):
    make(tool, tmp_path, "t", writers=["allowColumnDefaults"], change=metadata_of("note", CURRENT_DEFAULT="'none'"))
    run(tool, "write", tmp_path, "t", 3)
    assert multiset(rows_of(tool, tmp_path, "t")) == plain

    def more(schema):
        schema["fields"].append({"name": "extra", "type": "string", "nullable": True, "metadata": {"CURRENT_DEFAULT": "'none'"}})
    make(tool, tmp_path, "u", writers=["allowColumnDefaults"], change=more)
    run(tool, "write", tmp_path, "u", 3)
    assert {row["extra"] for row in rows_of(tool, tmp_path, "u")} == {"none"}


@pytest.mark.parametrize(("what", "told"), [
    (dict(writers=["checkConstraints"], configuration={"delta.constraints.positive": "id < 0"}), "violates positive"),
    (dict(writers=["checkConstraints"], configuration={"delta.constraints.odd": "regexp(note, 'x')"}), "check constraint odd: weir cannot evaluate"),
    (dict(writers=["invariants"], change=metadata_of("id", **{"delta.invariants": '{"expression":{"expression":"id > 30000"}}'})), "violates invariant of id"),
    (dict(writers=["identityColumns"], change=metadata_of("id", **{"delta.identity.start": 1, "delta.identity.step": 1})), "column id of the table is an identity column"),
    (dict(readers=["variantType"], writers=["variantType"]), '"variantType"'),
    (dict(readers=["catalogManaged"], writers=["catalogManaged"]), '"catalogManaged"'),
    (dict(writers=["icebergCompatV2"]), '"icebergCompatV2"'),
])
def test_what_cannot_be_kept_is_refused_by_name(tool, tmp_path, what, told):
    make(tool, tmp_path, "t", **what)
    refused = run(tool, "write", tmp_path, "t", 1, check=False)
    assert refused.returncode == 1 and told in refused.stderr
    assert not (tmp_path / "t/_delta_log/00000000000000000001.json").exists()


@pytest.mark.parametrize("vectors", [False, True])
@pytest.mark.parametrize("mode", ["name", "id"])
def test_mapped_tables_are_merged(tool, tmp_path, mode, vectors):
    """Updates, deletes and inserts by key into a mapped table, with copy-on-write and with deletion vectors."""
    merge_tool = tool.parent / "merge_tool"

    def changes(name, rows):
        parquet.write_table(pa.Table.from_pylist(rows, pa.schema([("id", pa.int64()), ("day", pa.string()), ("note", pa.string()), ("_change", pa.int8())])), tmp_path / name)
        return tmp_path / name

    def merge(name, rows, *options):
        return subprocess.run([merge_tool, tmp_path, "t", "key=id", "change=_change", "partition=day", *options, changes(name, rows)],
                              check=True, capture_output=True, text=True)
    properties = ["property=delta.enableDeletionVectors=true"] if vectors else []
    merge("empty.parquet", [{"id": 0, "day": "a", "note": "x", "_change": 3}], *properties)
    table = tmp_path / "t"
    for path in sorted((table / "_delta_log").glob("*.json"))[1:]:
        path.unlink()
    actions = read_log(table)
    protocol, metadata = action(actions, "protocol"), action(actions, "metaData")
    schema, ids = json.loads(metadata["schemaString"]), []
    give_names(schema, ids, mode)
    metadata["schemaString"] = json.dumps(schema)
    metadata["partitionColumns"] = ["day"]
    metadata["configuration"].update({"delta.columnMapping.mode": mode, "delta.columnMapping.maxColumnId": str(len(ids))})
    features = ["columnMapping"] + (["deletionVectors"] if vectors else [])
    protocol.update({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features})
    write_log(table, actions)
    merge("a.parquet", [{"id": n, "day": "ab"[n % 2], "note": f"first {n}", "_change": 0} for n in range(20)])
    merge("b.parquet", [{"id": 3, "day": "b", "note": "second", "_change": 2}, {"id": 4, "day": "a", "note": None, "_change": 3},
                        {"id": 99, "day": "c", "note": "new", "_change": 0}])
    wanted = {n: f"first {n}" for n in range(20) if n != 4} | {3: "second", 99: "new"}
    assert {int(row["id"]): row["note"] for row in rows_of(tool, tmp_path, "t")} == wanted
    theirs = QueryBuilder().register("t", DeltaTable(str(table))).execute("select id, note from t").read_all()
    assert {i.as_py(): n.as_py() for i, n in zip(theirs["id"], theirs["note"])} == wanted


def age(table, days):
    then = time.time() - days * 86400
    for path in (table / "_delta_log").rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def sidecars_named(table, version):
    rows = parquet.read_table(table / "_delta_log" / f"{version:020d}.checkpoint.parquet").to_pylist()
    assert [row["checkpointMetadata"]["version"] for row in rows if row["checkpointMetadata"]] == [version]
    assert "add" not in rows[0] and "remove" not in rows[0]
    return [row["sidecar"] for row in rows if row["sidecar"]]


def test_v2_checkpoints_with_sidecars(tool, tmp_path):
    table = make(tool, tmp_path, "t", readers=["v2Checkpoint"], writers=["v2Checkpoint"], configuration={"delta.checkpointPolicy": "v2"})
    run(tool, "write", tmp_path, "t", 12)
    (sidecar,) = sidecars_named(table, 10)
    path = table / "_delta_log/_sidecars" / sidecar["path"]
    assert path.stat().st_size == sidecar["sizeInBytes"]
    files = parquet.read_table(path).to_pylist()
    assert sum(1 for row in files if row["add"]) == json.loads((table / "_delta_log/_last_checkpoint").read_text())["numOfAddFiles"]
    for version in range(10):
        (table / "_delta_log" / f"{version:020d}.json").unlink()
    assert sorted(int(row["id"]) for row in rows_of(tool, tmp_path, "t")) == list(range(600))
    theirs = QueryBuilder().register("t", DeltaTable(str(table))).execute("select count(*) as n, sum(id) as s from t").read_all()
    assert [theirs["n"][0].as_py(), theirs["s"][0].as_py()] == [600, sum(range(600))]


def test_sidecars_go_with_the_last_checkpoint_that_names_them(tool, tmp_path):
    table = make(tool, tmp_path, "t", readers=["v2Checkpoint"], writers=["v2Checkpoint"], configuration={"delta.checkpointPolicy": "v2"})
    run(tool, "write", tmp_path, "t", 12)
    first = {s["path"] for s in sidecars_named(table, 10)}
    age(table, 40)
    run(tool, "write", tmp_path, "t", 22)
    second = {s["path"] for s in sidecars_named(table, 20)}
    age(table, 40)
    run(tool, "write", tmp_path, "t", 32)
    third = {s["path"] for s in sidecars_named(table, 30)}
    assert not (table / "_delta_log" / f"{10:020d}.checkpoint.parquet").exists()
    assert {p.name for p in (table / "_delta_log/_sidecars").iterdir()} == second | third and not first & second
    assert len(rows_of(tool, tmp_path, "t", 21)) == 21 * 50
    assert len(rows_of(tool, tmp_path, "t")) == 32 * 50


def make_large(tool, root, files, removed):
    """A table whose log names so many files, none of which is there, and says that the first of them were removed again; then a checkpoint of it."""
    table = make(tool, root, "t", readers=["v2Checkpoint"], writers=["v2Checkpoint"],
                 configuration={"delta.checkpointPolicy": "v2", "delta.checkpointInterval": "1"})
    values = {"part": "p", "at_date": "2026-01-01"}
    paths = [f"part=p/at_date=2026-01-01/part-{n:05d}-0.c000.zstd.parquet" for n in range(files)]
    stats = json.dumps({"numRecords": 1, "minValues": {"id": 1}, "maxValues": {"id": 9}, "nullCount": {"id": 0}})
    adds = [{"add": {"path": path, "partitionValues": values, "size": 1, "modificationTime": 1, "dataChange": True, "stats": stats}} for path in paths]
    removes = [{"remove": {"path": path, "deletionTimestamp": int(time.time() * 1000), "dataChange": True}} for path in paths[:removed]]
    for version, actions in enumerate((adds, removes), start=1):
        (table / "_delta_log" / f"{version:020d}.json").write_text("".join(json.dumps(a) + "\n" for a in actions))
    run(tool, "write", root, "t", 1)
    return table, set(paths[:removed]), set(paths[removed:])


def test_a_large_table_has_several_sidecars(tool, tmp_path):
    """No file of a checkpoint grows with the table, each action is in one of them, and others find the same files."""
    table, removed, live = make_large(tool, tmp_path, 150_000, 40_000)
    sidecars = sidecars_named(table, 3)
    read = [parquet.ParquetFile(table / "_delta_log/_sidecars" / sidecar["path"]) for sidecar in sidecars]
    assert [file.metadata.num_rows for file in read[:-1]] == [65_536] * 2 and len(read) == 3
    assert [sidecar["sizeInBytes"] for sidecar in sidecars] == [(table / "_delta_log/_sidecars" / s["path"]).stat().st_size for s in sidecars]
    rows = [row for file in read for row in file.read(columns=["add.path", "remove.path"]).to_pylist()]
    added = [row["add"]["path"] for row in rows if row["add"]]
    gone = [row["remove"]["path"] for row in rows if row["remove"]]
    assert len(added) == len(set(added)) and set(added) > live and set(gone) == removed and len(gone) == len(removed)
    hint = json.loads((table / "_delta_log/_last_checkpoint").read_text())
    assert hint["numOfAddFiles"] == len(added) and hint["sizeInBytes"] > sum(s["sizeInBytes"] for s in sidecars)
    for version in range(4):
        (table / "_delta_log" / f"{version:020d}.json").unlink()
    assert int(run(tool, "files", tmp_path, "t").stdout) == len(added)
    assert len(DeltaTable(str(table)).file_uris()) == len(added)


def test_version_checksums(tool, tmp_path):
    run(tool, "write", tmp_path, "t", 2)
    table = tmp_path / "t"
    path = table / "_delta_log" / f"{2:020d}.crc"
    checksum = json.loads(path.read_text())
    add_actions = pa.table(DeltaTable(str(table)).get_add_actions(flatten=True)).to_pylist()
    assert checksum["numFiles"] == len(add_actions)
    assert checksum["tableSizeBytes"] == sum(add["size_bytes"] for add in add_actions)
    assert (checksum["numMetadata"], checksum["numProtocol"]) == (1, 1)
    assert checksum["metadata"] == action(read_log(table), "metaData")
    assert checksum["protocol"] == action(read_log(table), "protocol")
    path.write_text("not ours")
    run(tool, "write", tmp_path, "t", 2)
    assert path.read_text() == "not ours"
