"""Files in an order: a pipeline's z_order_by and layout, and weir table optimize --layout, as deltalake, DuckDB and pyarrow see them."""

import json
import random

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lake
from test_maintain import actions, by_weir, live_files, operations, result, run_until, sold, weir

GENERATOR = """\
return pipeline "shop" {
  storage = delta { root = "lake" },
  commit  = { every = "20ms" },
  sources = {
    source "bronze.sale" { generator { seed = 1, count = 1000000000, rate = 100000 }, into = delta { target_file_size = "1MB", %s } },
  },
}
"""


def adds_of(path):
    return [a["add"] for v in range(len(operations(path))) for a in actions(path, v) if "add" in a]


def groups_of(name):
    """Per row group: rows, and the columns it says it is sorted by."""
    footer = pq.ParquetFile(name).metadata
    names = footer.schema.to_arrow_schema().names
    groups = [footer.row_group(g) for g in range(footer.num_row_groups)]
    return [(g.num_rows, [names[c.column_index] for c in g.sorting_columns]) for g in groups]


def test_a_pipeline_keeps_its_files_apart_by_the_columns_of_z_order_by(project):
    project.write("pipelines/shop.lua", GENERATOR % 'z_order_by = { "sku", "store_id" }')
    path = project.root / "lake/bronze/sale"

    def ordered():
        return path.is_dir() and any(a["commitInfo"]["operationParameters"].get("zOrderBy") == '["sku","store_id"]'
                                     for v in range(len(operations(path))) for a in actions(path, v) if "commitInfo" in a)

    code, err = run_until(project, ordered)
    assert code == 0 and "failed" not in err, err
    marked = [a for a in adds_of(path) if "ZCUBE_ID" in (a.get("tags") or {})]
    cubes = {a["tags"]["ZCUBE_ID"] for a in marked}
    assert marked and all(json.loads(a["tags"]["ZCUBE_ZORDER_BY"]) == ["sku", "store_id"] for a in marked)
    for cube in cubes:  # unlike before, no file holds the whole range of both columns
        ranges = [tuple((s["minValues"][c], s["maxValues"][c]) for c in ("sku", "store_id")) for s in
                  (json.loads(a["stats"]) for a in marked if a["tags"]["ZCUBE_ID"] == cube)]
        whole = [(min(r[c][0] for r in ranges), max(r[c][1] for r in ranges)) for c in (0, 1)]
        assert len(ranges) >= 3 and all(list(r) != whole for r in ranges), ranges
    ids = sold(path)
    assert ids == list(range(ids[0], ids[0] + len(ids)))


@pytest.fixture
def sales(tmp_path):
    path = tmp_path / "t"
    rng = random.Random(5)
    for i in range(3):
        deltalake.write_deltalake(str(path), pa.table({
            "id": pa.array(range(i * 6000, i * 6000 + 6000), pa.int64()),
            "price": pa.array([rng.random() for _ in range(6000)], pa.float64()),
            "store": pa.array([rng.choice(["Zürich", "Berlin", "Aachen", None]) for _ in range(6000)]),
            "day": pa.array([rng.randrange(20, 30) if rng.random() < 0.9 else None for _ in range(6000)], pa.int32()).cast(pa.date32()),
            "qty": pa.array([rng.randrange(-3, 4) for _ in range(6000)], pa.int8())}), mode="append")
    return path


def test_direct_lake_writes_large_row_groups_sorted_by_columns_of_few_values(binary, sales):
    columns = ["id", "price", "store", "day", "qty"]
    before = lake.rows_of(deltalake.DeltaTable(str(sales)).to_pyarrow_table(), columns)
    loose = sum(a["size"] for a in adds_of(sales))
    done = result(binary, "optimize", sales, "--layout", "direct_lake")
    assert (done["filesRemoved"], done["filesAdded"], done["rows"]) == (3, 1, 18_000)
    (name,) = live_files(sales)
    assert groups_of(name) == [(18_000, ["store", "qty", "day"])]
    for reader in (lake.by_deltalake, lake.by_duckdb, lake.by_pyarrow):
        lake.assert_same_rows(lake.rows_of(reader(sales), columns), before, columns, reader.__name__)
    rows = [(r["store"], r["qty"], r["day"]) for r in pq.ParquetFile(name).read(columns=["store", "qty", "day"]).to_pylist()]
    assert rows == sorted(rows, key=lambda r: tuple((v is not None, (v.encode() if isinstance(v, str) else v) if v is not None else 0) for v in r))
    ids = {}
    for row in pq.ParquetFile(name).read().to_pylist():  # equal rows keep their order
        ids.setdefault((row["store"], row["qty"], row["day"]), []).append(row["id"])
    assert all(each == sorted(each) for each in ids.values())
    assert adds_of(sales)[-1]["size"] < loose
    assert "nothing to do" in weir(binary, "optimize", sales, "--layout", "direct_lake").stdout
    assert "goes without --zorder" in weir(binary, "optimize", sales, "--layout", "direct_lake", "--zorder", "id", code=2).stderr


def test_rows_of_every_type_keep_their_values_when_they_are_sorted(binary, tmp_path):
    path = tmp_path / "t"
    rng = random.Random(6)
    table = pa.table({
        "k": pa.array([rng.randrange(3) for _ in range(9000)], pa.int32()),
        "flag": pa.array([rng.choice([True, False, None]) for _ in range(9000)]),
        "bytes": pa.array([bytes([rng.randrange(256)]) * rng.randrange(4) for _ in range(9000)], pa.binary()),
        "list": pa.array([[rng.randrange(9) for _ in range(rng.randrange(3))] if rng.random() < 0.9 else None for _ in range(9000)], pa.list_(pa.int64())),
        "struct": pa.array([{"a": rng.choice(["x", None]), "b": rng.randrange(5)} for _ in range(9000)], pa.struct([("a", pa.string()), ("b", pa.int32())])),
        "money": pa.array([rng.randrange(-10**6, 10**6) for _ in range(9000)], pa.int64()).cast(pa.decimal128(21, 0)).cast(pa.decimal128(23, 2)),
        "text": pa.array(["é" * rng.randrange(3) for _ in range(9000)])})
    for start in (0, 5000):
        deltalake.write_deltalake(str(path), table.slice(start, 5000), mode="append")
    dead = deltalake.DeltaTable(str(path))
    dead.delete("k = 2")
    before = lake.rows_of(lake.by_deltalake(path), table.column_names)
    assert result(binary, "optimize", path, "--layout", "direct_lake")["filesAdded"] == 1
    for reader in (lake.by_deltalake, lake.by_duckdb, lake.by_pyarrow):
        lake.assert_same_rows(lake.rows_of(reader(path), table.column_names), before, table.column_names, reader.__name__)
    assert len(by_weir(binary, path)) == len(before)


def test_a_pipeline_lays_out_what_it_puts_together(project):
    project.write("pipelines/shop.lua", GENERATOR % 'layout = "direct_lake"')
    path = project.root / "lake/bronze/sale"
    code, err = run_until(project, lambda: path.is_dir() and operations(path).count("OPTIMIZE") >= 2)
    assert code == 0 and "failed" not in err, err
    laid = [a for a in adds_of(path) if (a.get("tags") or {}).get("weir.layout") == "direct_lake"]
    assert laid and all(by for a in laid for _, by in groups_of(path / a["path"]))
    ids = sold(path)
    assert ids == list(range(ids[0], ids[0] + len(ids)))


@pytest.mark.parametrize("options,told", [
    ('layout = "star"', 'no layout is called "star"'), ('layout = "direct_lake", z_order_by = "sku"', "has an order of its own"),
    ('z_order_by = "skew"', "skew"), ('z_order_by = "sku", partition_by = { "sku" }', "files are apart by it already"),
    ('z_order_by = "sku", compact = false', "where files are put together")])
def test_orders_that_cannot_be_are_refused(project, options, told):
    project.write("pipelines/shop.lua", GENERATOR % options)
    refused = project.weir("check")
    assert refused.code == 1 and told in refused.out + refused.err, refused
