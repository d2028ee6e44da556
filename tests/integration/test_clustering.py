"""Clustered tables: rows are put in the order of the columns the table is clustered by, by hand and in the background, each file once; others read the same
rows. Spark judges in the long tier."""
import json
import random

import deltalake
import pyarrow as pa
import pytest

from live import wait_until
from test_maintain import actions, by_weir, operations, result, weir


def append(path, rng, first, count):
    deltalake.write_deltalake(str(path), pa.table({
        "id": pa.array(range(first, first + count), pa.int64()), "x": pa.array([rng.randrange(10**6) for _ in range(count)], pa.int32()),
        "sku": pa.array([f"S{rng.randrange(1000):04}" for _ in range(count)]), "note": pa.array(["%030x" % rng.getrandbits(120) for _ in range(count)])}), mode="append")


def cluster(path, columns):
    """Says in version 0 that the table is clustered, as CLUSTER BY does."""
    entry = path / "_delta_log" / f"{0:020}.json"
    lines = [json.loads(line) for line in entry.read_text().splitlines()]
    for line in lines:
        if "protocol" in line:
            line["protocol"] = {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["appendOnly", "invariants", "clustering", "domainMetadata"]}
    lines.append({"domainMetadata": {"domain": "delta.clustering", "configuration": json.dumps({"clusteringColumns": [[c] for c in columns]}), "removed": False}})
    entry.write_text("".join(json.dumps(line) + "\n" for line in lines))


def live(path):
    found = {}
    for version in range(len(operations(path))):
        for action in actions(path, version):
            if "add" in action:
                found[action["add"]["path"]] = action["add"]
            elif "remove" in action:
                del found[action["remove"]["path"]]
    return found


def read(files, column, value):
    """How many files a reader that asks for the value must read."""
    bounds = [json.loads(add["stats"]) for add in files]
    return sum(b["minValues"][column] <= value <= b["maxValues"][column] for b in bounds)


@pytest.fixture
def table(tmp_path):
    path, rng = tmp_path / "t", random.Random(3)
    append(path, rng, 0, 3000)
    cluster(path, ["x", "sku"])
    return path, rng


def add_rows(path, rng, first, files=6, count=3000):
    for n in range(files):
        # deltalake does not write to clustered tables: files of its making, named by a commit of ours
        side = path.parent / f"side-{first}-{n}"
        append(side, rng, first + n * count, count)
        add = next(a["add"] for a in actions(side, 0) if "add" in a)
        (path / add["path"]).write_bytes((side / add["path"]).read_bytes())
        version = len(operations(path))
        info = {"commitInfo": {"timestamp": add["modificationTime"], "operation": "WRITE", "operationParameters": {}}}
        (path / "_delta_log" / f"{version:020}.json").write_text(json.dumps(info) + "\n" + json.dumps({"add": add}) + "\n")


def test_a_clustered_table_is_put_in_its_order_file_by_file(binary, table):
    path, rng = table
    add_rows(path, rng, 3000)
    before = sorted(by_weir(binary, path), key=lambda row: row["id"])
    size = sum(add["size"] for add in live(path).values())
    target = ["--target-size", f"{size // 8 // 1024}kb"]
    result(binary, "optimize", path, *target)
    first = live(path)
    info = actions(path, len(operations(path)) - 1)[0]["commitInfo"]
    assert info["operation"] == "OPTIMIZE" and info["operationParameters"]["clusterBy"] == '["x","sku"]' and info["operationParameters"]["zOrderBy"] == "[]"
    assert {add["clusteringProvider"] for add in first.values()} == {"weir"} and {add["tags"]["ZCUBE_ZORDER_BY"] for add in first.values()} == {'["x","sku"]'}
    assert len(first) >= 7 and sorted(by_weir(binary, path), key=lambda row: row["id"]) == before
    for column, value in (("x", 500000), ("sku", "S0500")):
        assert read(first.values(), column, value) <= len(first) * 2 // 3
    version = len(operations(path))
    result(binary, "optimize", path, *target)
    result(binary, "optimize", path, *target)
    assert len(operations(path)) <= version + 1, "what is in order stays"
    ordered = {name for name, add in live(path).items() if add["size"] >= size // 8 * 3 // 4}
    add_rows(path, rng, 100000, files=3)
    result(binary, "optimize", path, *target)
    assert ordered <= set(live(path)) and len(ordered) > 3, "files that were in order are not written again"
    assert all(add.get("clusteringProvider") == "weir" for add in live(path).values())
    assert len(by_weir(binary, path)) == len(before) + 9000
    assert weir(binary, "optimize", path, "--zorder", "note").returncode == 0, "by other columns, when asked"


def test_columns_that_cannot_order_are_passed_over(binary, tmp_path):
    path, rng = tmp_path / "t", random.Random(3)
    append(path, rng, 0, 300)
    cluster(path, ["gone"])
    add_rows(path, rng, 3000, files=3, count=100)
    result(binary, "optimize", path)
    assert len(live(path)) == 1 and len(by_weir(binary, path)) == 600


def test_a_pipeline_orders_the_clustered_table_it_writes(project):
    """Files that have become large are put in order with those that came when they did, and not again."""
    project.write("pipelines/shop.lua", """\
return pipeline "shop" {
  storage = delta { root = "lake" }, commit = { every = "20ms" },
  sources = { source "bronze.sale" { generator { seed = 1, count = %s, rate = %s }, into = delta { target_file_size = "1MB" } } },
}
""" % (1000, 1000000))
    path = project.root / "lake/bronze/sale"
    project.run("pipelines/shop.lua")
    cluster(path, ["sku"])
    pipeline = project.root / "pipelines/shop.lua"
    pipeline.write_text(pipeline.read_text().replace("count = 1000,", "count = 1000000000,").replace("rate = 1000000", "rate = 100000"))
    process = project.start("run", "pipelines/shop.lua")
    try:
        wait_until(lambda: process.poll() is not None or sum(add.get("clusteringProvider") == "weir" for add in live(path).values()) > 3, 100)
    finally:
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "failed" not in err, err
    ordered = [add for add in live(path).values() if add.get("clusteringProvider") == "weir"]
    cubes = {}
    for add in ordered:
        cubes.setdefault(add["tags"]["ZCUBE_ID"], []).append(add)
    largest = max(cubes.values(), key=len)
    assert len(largest) > 1 and read(largest, "sku", json.loads(largest[0]["stats"])["minValues"]["sku"]) < len(largest)
    offsets = [int(row["_offset"]) for row in by_weir(project.binary, path, "--columns", "_offset")]
    assert len(set(offsets)) == len(offsets) == max(offsets) + 1


def test_spark_orders_and_reads_what_is_clustered(spark, binary, tmp_path):
    path, rng = tmp_path / "t", random.Random(3)
    spark.sql(f"create table delta.`{path}` (id bigint, x int, sku string, note string) using delta cluster by (x, sku)")
    for first in range(0, 3000, 1000):
        side = tmp_path / f"side-{first}"
        append(side, rng, first, 1000)
        spark.sql(f"insert into delta.`{path}` select * from delta.`{side}`")
    wanted = [{"n": 3000, "s": sum(range(3000))}]
    assert result(binary, "optimize", path)["filesRemoved"] == 3
    assert spark.sql(f"select count(*) n, sum(id) s from delta.`{path}`") == wanted
    spark.sql(f"insert into delta.`{path}` values (3000, 1, 'S', 'n')")
    spark.sql(f"optimize delta.`{path}`")
    assert spark.sql(f"select count(*) n from delta.`{path}`") == [{"n": 3001}] and len(by_weir(binary, path)) == 3001
    result(binary, "optimize", path)  # what either put in order is small, and goes together
    assert len(live(path)) == 1 and spark.sql(f"select count(*) n from delta.`{path}`") == [{"n": 3001}]
    version = len(operations(path))
    result(binary, "optimize", path)
    assert len(operations(path)) == version, "what is in order stays"
