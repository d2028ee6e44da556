"""Pipelines that merge: a stream with a key over files of changes becomes a table that deltalake, DuckDB and our own reader find
equal to a model of the same changes, whatever the process dies of."""

import datetime
import json
import random

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder
from language import World

START = datetime.datetime(2026, 3, 1, tzinfo=datetime.timezone.utc)
PIPELINE = """
return pipeline "shop" {
  storage = delta { root = "lake" },
  ledger  = { snapshot_every = "200ms" },
  commit  = { every = "20ms" },
  sources = {
    source "bronze.product" { files { path = "landing/*.jsonl" }, json { schema = "schemas/product.avsc" }, into = none },
  },
}
"""
STREAM = """
return stream "silver.product" {
  from = "bronze.product",
  key  = "sku",
  time = { field = "updated_at", max_ahead = "100000h" },
  drop = { "supplier" },
  into = delta { mode = "merge"%s },
}
"""
SCHEMA = {"type": "record", "name": "product", "fields": [
    {"name": "sku", "type": "string"},
    {"name": "price", "type": ["null", "double"], "default": None},
    {"name": "supplier", "type": ["null", "string"], "default": None},
    {"name": "updated_at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "_change", "type": "int"}]}
OPTIONS = {"copy": "", "vectors": ', properties = { ["delta.enableDeletionVectors"] = "true" }',
           "feed": ', properties = { ["delta.enableChangeDataFeed"] = "true" }', "partitioned": ', partition_by = { date "updated_at" }'}
TRUNCATE = 4
FAULTS = ["sink_file_written", "sink_file_synced", "ledger_after_sync", "delta_before_commit", "delta_merge_written", "delta_entry_written",
          "delta_entry_linked", "delta_after_commit", "ledger_before_sync", "epoch_collected"]


def make_changes(seed, count):
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        at = START + datetime.timedelta(seconds=i + rng.randint(-50, 50))
        rows.append({"sku": f"sku-{rng.randrange(120)}", "price": rng.choice([None, round(rng.random() * 100, 2)]), "supplier": "s",
                     "updated_at": at, "_change": rng.choice([0, 2, 2, 2, 3])})
    return rows


def final(rows):
    """One epoch or many: the newest row of a key is the table's. A delete leaves no time behind, so the model deletes only what is
    newest of all, and the test gives every key a last word."""
    table = {}
    for row in rows:
        if row["_change"] == TRUNCATE:
            table = {}
            continue
        held = table.get(row["sku"])
        if held is None or row["updated_at"] >= held["updated_at"]:
            table[row["sku"]] = row
    return sorted((r["sku"], r["price"], r["updated_at"]) for r in table.values() if r["_change"] != 3)


def last_words(rows):
    """Every key once more, newer than anything before: what the table must end with."""
    at = max(row["updated_at"] for row in rows) + datetime.timedelta(seconds=100)
    keys = sorted({row["sku"] for row in rows})
    return rows + [{"sku": key, "price": i + 0.5, "supplier": "s", "updated_at": at + datetime.timedelta(seconds=i), "_change": 3 if i % 3 == 0 else 2}
                   for i, key in enumerate(keys)]


def prepare(project, option, count=3000):
    rows = last_words(make_changes(count, count))
    middle = len(rows) // 2  # what only the rows before it say is gone
    rows[middle - 40:middle] = [{**row, "sku": f"gone-{row['sku']}", "_change": 2} for row in rows[middle - 40:middle]]
    rows[middle] = {**rows[middle], "sku": "", "price": None, "_change": TRUNCATE}
    project.write("pipelines/shop.lua", PIPELINE)
    project.write("rules/silver/product.lua", STREAM % OPTIONS[option])
    project.write("schemas/product.avsc", json.dumps(SCHEMA))
    step = 400
    for i in range(0, len(rows), step):
        lines = [json.dumps({**row, "updated_at": int(row["updated_at"].timestamp() * 1e6)}) for row in rows[i:i + step]]
        project.write(f"landing/c{i // step:03}.jsonl", "\n".join(lines) + "\n")
    return rows


def read(path):
    query = QueryBuilder().register("t", DeltaTable(str(path)))
    rows = pa.table(query.execute("select sku, price, updated_at from t").read_all()).to_pylist()
    return sorted((r["sku"], r["price"], r["updated_at"].astimezone(datetime.timezone.utc)) for r in rows)


@pytest.mark.parametrize("option", OPTIONS)
def test_a_stream_with_a_key_is_a_table(project, option):
    rows = prepare(project, option)
    project.run("pipelines/shop.lua")
    table = project.root / "lake/silver/product"
    assert read(table) == final(rows)
    names = {field.name for field in DeltaTable(str(table)).schema().fields}
    assert "_change" not in names and "supplier" not in names
    printed = project.weir("table", "cat", str(table), "--json")
    assert printed.code == 0, printed
    assert len(printed.out.splitlines()) == len(final(rows))
    if option == "feed":
        held = {}
        told = pa.table(DeltaTable(str(table)).load_cdf(starting_version=0).read_all()).to_pylist()
        for row in sorted(told, key=lambda one: (one["_commit_version"], one["_change_type"])):  # delete, insert, update_postimage, update_preimage
            if row["_change_type"] == "delete":
                del held[row["sku"]]
            elif row["_change_type"] != "update_preimage":
                held[row["sku"]] = row["price"]
        assert sorted(held.items()) == [(sku, price) for sku, price, _ in final(rows)]
    if option == "copy":
        files = [str(table / uri) for uri in DeltaTable(str(table)).file_uris()]
        held = duckdb.execute("select sku, price from read_parquet(?) order by sku", [files]).fetchall()
        assert held == [(sku, price) for sku, price, _ in final(rows)]


@pytest.mark.parametrize("option", ["copy", "vectors"])
@pytest.mark.parametrize("fault", FAULTS)
def test_killed_merging_pipelines_go_on(project, fault, option):
    rows = prepare(project, option, 1200)
    killed = 0
    for hit in (1, 2, 1):
        outcome = project.weir("run", "pipelines/shop.lua", "--until-end", "--json", env={"WEIR_FAULT": f"{fault}:{hit}:kill"})
        killed += outcome.code == -9
        if outcome.code == 0:
            break
    assert killed > 0, fault
    project.run("pipelines/shop.lua")
    assert read(project.root / "lake/silver/product") == final(rows)


def test_what_cannot_be_merged_is_refused(project):
    prepare(project, "copy", 10)
    project.write("rules/silver/product.lua", 'return stream "silver.product" { from = "bronze.product", into = delta { mode = "merge" } }')
    outcome = project.weir("check")
    assert outcome.code != 0 and "which rows are the same" in outcome.out + outcome.err and "key" in outcome.out + outcome.err, outcome
    project.write("rules/silver/product.lua", STREAM % OPTIONS["copy"])
    project.write("rules/gold/prices.lua", 'return model "gold.prices" { from = "silver.product", by = "sku", window = tumbling { size = "1m" }, '
                  'measures = { n = count() } }')
    outcome = project.weir("check")
    assert outcome.code != 0 and "the rows of silver.product change, and their event time is when they did" in outcome.out + outcome.err, outcome


def test_values_of_every_type_are_merged(project):
    """In two runs, so that the second reads what the first has written."""
    kinds = {"id": "long!", "t": "string", "i": "int", "f": "float", "d": "double", "b": "bool", "raw": "bytes", "at": "timestamp", "day": "date",
             "ns": "timestamp_ns", "price": "decimal(12,2)", "wide": "decimal(38,4)", "list": ["null", {"type": "array", "items": {
                 "type": "long", "logicalType": "timestamp-nanos"}}]}
    rule = ('return stream "silver.row" { from = "bronze.row", key = "id", columns = { small = "int8", short = "int16" }, time = { field = "at" },\n'
            '  map = function(e, out) out.small = e.i out.short = e.i end, into = delta { mode = "merge" } }')
    row = {"t": "x", "i": -7, "f": 0.5, "d": 0.1, "b": False, "raw": "AQ==", "at": "2026-03-01T00:00:00.000001Z", "day": 20459,
           "ns": "2026-03-01T00:00:00.123456789Z", "price": "1.50", "wide": "12345678901234567890.1234", "list": ["2026-03-01T00:00:00.123456789Z"]}
    nulls = {name: None for name in row if name != "at"}
    world = World(project, kinds, rule, [{"id": 1, **row}, {"id": 2, **row, **nulls}, {"id": 3, **row}]).run()
    world.feed([{"id": 2, **row}, {"id": 3, **row, **nulls}], "b.jsonl")
    rows = sorted(world.run().table("silver.row").to_pylist(), key=lambda each: each.pop("id"))
    assert world.rejected("bronze.row", "id") == [], world.reasons("bronze.row")
    assert world.counts("silver.row")["rejected"] == {} and rows[0] == rows[1] and rows[0]["ns"] == 1772323200123456789
    assert rows[0]["list"] == [1772323200123456789] and rows[0]["small"] == -7 and rows[2] == {**{name: None for name in rows[0]}, "at": rows[0]["at"]}


CHANGELOG = """
return stream "silver.product" {
  from = "bronze.product",
  key  = "sku",
  time = { field = "updated_at", max_ahead = "100000h" },
  where = function(e) return e.supplier == "s" end,
  expectations = { expect "has a price" { not_null "price" }, expect "is cheap" { function(e) return e.price < 100 end } },
  columns = { twice = "double" },
  map  = function(e, out) out.twice = e.price * 2 end,
  into = delta { mode = "merge" },
}
"""


def test_expectations_judge_what_comes_after_a_change(project):
    """A delete knows its key alone and passes; a quarantined update leaves the old row; one that `where` leaves out takes the row away."""
    prepare(project, "copy", 1)
    project.write("rules/silver/product.lua", CHANGELOG)
    for path in (project.root / "landing").iterdir():
        path.unlink()
    schema = {**SCHEMA, "fields": [{**f, "type": ["null", f["type"]]} if f["name"] == "updated_at" else f for f in SCHEMA["fields"]]}
    project.write("schemas/product.avsc", json.dumps(schema))
    at = int(START.timestamp() * 1e6)
    new = [{"sku": key, "price": 1.0, "supplier": "s", "updated_at": at, "_change": 0} for key in ("stays", "deleted", "dear", "left", "pair", "pair left")]
    then = [{"sku": "deleted", "price": None, "supplier": None, "updated_at": None, "_change": 3},
            {"sku": "dear", "price": 500.0, "supplier": "s", "updated_at": at + 1, "_change": 2},
            {"sku": "left", "price": 2.0, "supplier": "other", "updated_at": at + 1, "_change": 2},
            {"sku": "pair", "price": 1.0, "supplier": "s", "updated_at": at, "_change": 1},
            {"sku": "pair", "price": None, "supplier": "s", "updated_at": at + 1, "_change": 2},
            {"sku": "pair left", "price": 1.0, "supplier": "s", "updated_at": at, "_change": 1},
            {"sku": "pair left", "price": 1.0, "supplier": "other", "updated_at": at + 1, "_change": 2},
            {"sku": "stays", "price": 3.0, "supplier": "s", "updated_at": at + 2, "_change": 2}]
    project.write("landing/a.jsonl", "".join(json.dumps(row) + "\n" for row in new + then))
    project.run("pipelines/shop.lua")
    table = DeltaTable(str(project.root / "lake/silver/product")).to_pyarrow_table().to_pylist()
    assert sorted((r["sku"], r["price"], r["twice"]) for r in table) == [("dear", 1.0, 2.0), ("pair", 1.0, 2.0), ("stays", 3.0, 6.0)]
    refused = DeltaTable(str(project.root / "lake/quarantine/silver/product")).to_pyarrow_table().to_pylist()
    assert len(refused) == 2
