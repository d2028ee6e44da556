"""Appending to tables that ask more of rows than types: check constraints, invariants, generated columns, defaults. Their logs
are made by hand, as the protocol has them; every expression of the subset is compared with DuckDB's value of it, constraints
also with what deltalake says of the same rows."""
import datetime
import json
import random
import uuid

import deltalake
import duckdb
import pyarrow as pa
import pytest

import conftest
from live import wait_until

SCHEMA = """{"type": "record", "name": "row", "fields": [
  {"name": "id", "type": "long"},
  {"name": "a", "type": ["null", "int"]},
  {"name": "b", "type": ["null", "long"]},
  {"name": "x", "type": ["null", "double"]},
  {"name": "d", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}]},
  {"name": "s", "type": ["null", "string"]},
  {"name": "ok", "type": ["null", "boolean"]},
  {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}]},
  {"name": "sold", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]}]}"""
TYPES = {"id": "long", "a": "integer", "b": "long", "x": "double", "d": "decimal(10,2)", "s": "string", "ok": "boolean", "day": "date", "sold": "timestamp"}
PIPELINE = """return pipeline "shop" {
  rules   = "rules",
  storage = delta { root = "lake" },
  sources = { source "bronze.row" { files { path = "landing/*.jsonl" }, json { schema = "schemas/row.avsc" }, into = none } },
}
"""
RULE = """return stream "silver.row" { from = "bronze.row", keep = { "id", "a", "b", "x", "d", "s", "ok", "day", "sold" }, %s }
"""
BASE = datetime.datetime(2026, 11, 21, 10, 30, tzinfo=datetime.timezone.utc)


def some_rows(count, seed=1):
    rng = random.Random(seed)
    maybe = lambda value: value if rng.random() < 0.85 else None  # noqa: E731
    return [{
        "id": i, "a": maybe(rng.randrange(-50, 50)), "b": maybe(rng.randrange(-10**12, 10**12)), "x": maybe(rng.uniform(-5, 5)),
        "d": maybe(f"{rng.randrange(-10000, 10000) / 100:.2f}"), "s": maybe(rng.choice(["tea", "Tea", "a_b", "10%", " x ", "", "Über", "teapot"])),
        "ok": maybe(rng.random() < 0.5), "day": maybe((BASE.date() + datetime.timedelta(days=rng.randrange(-900, 900))).isoformat()),
        "sold": maybe((BASE + datetime.timedelta(seconds=rng.randrange(-10**8, 10**8), microseconds=rng.randrange(10**6))).strftime("%Y-%m-%dT%H:%M:%S.%fZ")),
    } for i in range(count)]


def make_table(path, generated=(), configuration=None, metadata=None, partitions=(), drop=()):
    """An empty table: the columns of SCHEMA (but `drop`), then generated ones of (name, type, expression)."""
    fields = [{"name": name, "type": type_, "nullable": True, "metadata": (metadata or {}).get(name, {})} for name, type_ in TYPES.items() if name not in drop]
    fields += [{"name": name, "type": type_, "nullable": True, "metadata": {"delta.generationExpression": expression}} for name, type_, expression in generated]
    fields += [{"name": name, "type": "string", "nullable": True, "metadata": notes} for name, notes in (metadata or {}).items() if name not in TYPES]
    features = ["appendOnly", "invariants", "checkConstraints", "generatedColumns"]
    if "CURRENT_DEFAULT" in json.dumps(fields):
        features.append("allowColumnDefaults")
    actions = [
        {"commitInfo": {"timestamp": 0, "operation": "CREATE TABLE", "operationParameters": {}}},
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": features}},
        {"metaData": {"id": str(uuid.uuid4()), "format": {"provider": "parquet", "options": {}}, "schemaString": json.dumps({"type": "struct", "fields": fields}),
                      "partitionColumns": list(partitions), "configuration": configuration or {}, "createdTime": 0}}]
    (path / "_delta_log").mkdir(parents=True)
    (path / "_delta_log" / f"{0:020d}.json").write_text("".join(json.dumps(action) + "\n" for action in actions))


def prepare(project, rows, options="", name="1"):
    project.write("schemas/row.avsc", SCHEMA)
    project.write("pipelines/shop.lua", PIPELINE)
    project.write("rules/row.lua", RULE % options)
    project.write(f"landing/{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def read(path):
    return deltalake.DeltaTable(str(path)).to_pyarrow_table()


def in_duckdb(**tables):
    """Times without a zone, as UTC: DuckDB needs an extension for others."""
    connection = duckdb.connect()
    for name, table in tables.items():
        for i, field in enumerate(table.schema):
            if pa.types.is_timestamp(field.type):
                table = table.set_column(i, field.name, table.column(i).cast(pa.timestamp("us")))
        connection.register(name, table)
    return connection


# What Spark calls it, the type it gives, and what DuckDB calls it where that differs.
EXPRESSIONS = [
    ("a + 1", "integer", None), ("a - b", "long", None), ("a * 2 - -a", "integer", None), ("b % 7", "long", None), ("b DIV 7", "long", "CAST(b AS BIGINT) // 7"),
    ("a / 4", "double", None), ("x * 2 + a", "double", None), ("d + 1.25", "decimal(38,2)", None), ("d * 1.5", "decimal(38,3)", None), ("-d", "decimal(10,2)", None),
    ("abs(a)", "integer", None), ("CAST(sold AS DATE)", "date", None), ("to_date(sold)", "date", "CAST(sold AS DATE)"), ("YEAR(sold)", "integer", None), ("month(day)", "integer", None),
    ("day(sold)", "integer", None), ("dayofmonth(day)", "integer", "day(day)"), ("HOUR(sold)", "integer", None), ("minute(sold)", "integer", None), ("second(sold)", "integer", None),
    ("quarter(day)", "integer", None), ("dayofyear(day)", "integer", None), ("dayofweek(day)", "integer", "dayofweek(day) + 1"), ("weekday(day)", "integer", "isodow(day) - 1"),
    ("weekofyear(day)", "integer", None), ("date_trunc('HOUR', sold)", "timestamp", None), ("date_trunc('week', sold)", "timestamp", None), ("DATE_TRUNC('MONTH', sold)", "timestamp", None),
    ("trunc(day, 'quarter')", "date", "CAST(date_trunc('quarter', day) AS DATE)"), ("date_format(sold, 'yyyy-MM-dd HH')", "string", "strftime(sold, '%Y-%m-%d %H')"),
    ("date_format(sold, 'yyyyMM')", "string", "strftime(sold, '%Y%m')"), ("date_add(day, 3)", "date", "CAST(day + 3 AS DATE)"), ("date_sub(day, a)", "date", "CAST(day - a AS DATE)"),
    ("datediff(CAST(sold AS DATE), day)", "integer", "CAST(sold AS DATE) - day"), ("last_day(day)", "date", None), ("length(s)", "integer", None), ("upper(CAST(ok AS STRING))", "string", "upper(CAST(ok AS VARCHAR))"), ("substring(s, 1, 1) = 't'", "boolean", None),
    ("trim(s)", "string", None), ("substr(s, -2)", "string", None), ("concat(s, '-', CAST(a AS STRING))", "string", "s || '-' || CAST(a AS VARCHAR)"), ("s || '!'", "string", None),
    ("coalesce(s, CAST(id AS STRING), 'none')", "string", "coalesce(s, CAST(id AS VARCHAR), 'none')"), ("if(a > 0, 'up', 'down')", "string", None),
    ("CASE WHEN a > 10 THEN 'big' WHEN a > 0 THEN 'small' ELSE NULL END", "string", None), ("CASE s WHEN 'tea' THEN 1 ELSE 2 END", "integer", None),
    ("a > 3 AND b < 0 OR ok", "boolean", None), ("NOT (a = 3 OR x >= 1.5)", "boolean", None), ("a <=> b", "boolean", "a IS NOT DISTINCT FROM b"), ("s IN ('tea', 'a_b')", "boolean", None),
    ("a NOT IN (1, 2, NULL)", "boolean", None), ("d BETWEEN -10 AND 50.5", "boolean", None), ("s LIKE 't%'", "boolean", None), ("s NOT LIKE '%\\\\_%'", "boolean", "s NOT LIKE '%\\_%' ESCAPE '\\'"),
    ("s LIKE '_ea%'", "boolean", None), ("s IS NULL", "boolean", None), ("ok IS NOT TRUE", "boolean", None), ("sold >= '2026-01-01'", "boolean", None),
    ("day < DATE '2026-06-01'", "boolean", None), ("CAST(x AS INT)", "integer", "CAST(trunc(x) AS INT)"), ("CAST(a AS DECIMAL(12,3))", "decimal(12,3)", None), ("CAST(d AS DOUBLE)", "double", None),
    ("startswith(s, 'te')", "boolean", "starts_with(s, 'te')"), ("contains(s, 'ea')", "boolean", None), ("s == 'tea'", "boolean", None), ("a <> 7", "boolean", None),
    ("timestamp_seconds(id)", "timestamp", "TIMESTAMP '1970-01-01' + id * INTERVAL 1 SECOND"), ("CAST(day AS TIMESTAMP)", "timestamp", None),
]


def test_generated_columns_are_what_their_expressions_say(project):
    rows = some_rows(400)
    generated = [(f"g{i}", type_, spark) for i, (spark, type_, _) in enumerate(EXPRESSIONS)]
    make_table(project.root / "lake/silver/row", generated)
    prepare(project, rows)
    project.run("pipelines/shop.lua")
    table = read(project.root / "lake/silver/row")
    assert sorted(table.column("id").to_pylist()) == list(range(400))
    connection = in_duckdb(t=table)
    wrong = []
    for i, (spark, _, own) in enumerate(EXPRESSIONS):
        expected = f"({own or spark})"
        if pa.types.is_floating(table.schema.field(f"g{i}").type):
            different = f"abs(g{i} - {expected}) > 1e-9 OR (g{i} IS NULL) <> ({expected} IS NULL)"
        else:
            different = f"g{i} IS DISTINCT FROM {expected}"
        wrong += [(spark, row) for row in connection.execute(f"SELECT g{i}, {expected}, a, b, d, s, sold, day FROM t WHERE {different} LIMIT 2").fetchall()]
    assert not wrong


CONSTRAINTS = {"positive": "a > 0", "known": "s IN ('tea', 'Tea') OR s IS NULL", "young": "year(sold) >= 2026 AND day IS NOT NULL", "cheap": "d <= 50"}


def test_rows_that_violate_a_constraint_go_to_quarantine_with_its_name(project):
    rows = some_rows(500, seed=2)
    path = project.root / "lake/silver/row"
    make_table(path, configuration={f"delta.constraints.{name}": text for name, text in CONSTRAINTS.items()},
               metadata={"x": {"delta.invariants": json.dumps({"expression": {"expression": "x < 4"}})}})
    prepare(project, rows)
    project.run("pipelines/shop.lua")
    kept = read(path)
    refused = read(project.root / "lake/quarantine/silver/row")
    conditions = {**CONSTRAINTS, "invariant of x": "x < 4"}
    connection = in_duckdb(kept=kept, refused=refused)
    whole = " AND ".join(f"({text}) IS TRUE" for text in conditions.values())
    assert connection.execute(f"SELECT count(*) FROM kept WHERE NOT ({whole})").fetchone() == (0,)
    assert connection.execute(f"SELECT count(*) FROM refused WHERE {whole}").fetchone() == (0,)
    assert sorted(kept.column("id").to_pylist() + refused.column("id").to_pylist()) == list(range(500)) and kept.num_rows > 10
    for row in connection.execute("SELECT _reasons[1].expectation, id FROM refused").fetchall():
        assert connection.execute(f"SELECT ({conditions[row[0]]}) IS TRUE FROM refused WHERE id = {row[1]}").fetchone() == (False,), row
    assert {row[0] for row in connection.execute("SELECT _reasons[1].expectation FROM refused").fetchall()} >= {"positive", "known", "young"}


def test_a_constraint_of_ours_is_one_for_others(project):
    """Asked for as a table property: a source's rows are judged by it too, and deltalake refuses what we would."""
    project.write("schemas/row.avsc", SCHEMA)
    project.write("pipelines/shop.lua", PIPELINE.replace('  rules   = "rules",\n', "").replace("into = none", 'into = delta { properties = { ["delta.constraints.positive"] = "a > 0" } }'))
    project.write("landing/1.jsonl", "".join(json.dumps(row) + "\n" for row in some_rows(100)))
    project.run("pipelines/shop.lua")
    path = project.root / "lake/bronze/row"
    assert min(read(path).column("a").to_pylist()) > 0
    refused = read(project.root / "lake/quarantine/bronze/row").to_pylist()
    assert read(path).num_rows + len(refused) == 100 and refused
    assert all(row["_reasons"] == [{"expectation": "positive", "error": None}] and not (json.loads(row["_raw"])["a"] or 0) > 0 and row["_offset"] is not None for row in refused)
    table = deltalake.DeltaTable(str(path))
    assert table.protocol().min_writer_version == 3
    bad = read(path).slice(0, 1).set_column(1, "a", pa.array([-1], pa.int32()))
    with pytest.raises(Exception, match="failed validation"):
        deltalake.write_deltalake(table, bad, mode="append")


def test_columns_left_out_get_their_default(project):
    path = project.root / "lake/silver/row"
    make_table(path, [("label", "string", "concat(origin, ':', CAST(id AS STRING))")], metadata={
        "origin": {"CURRENT_DEFAULT": "'by weir'"}, "empty": {"CURRENT_DEFAULT": "NULL"}})
    prepare(project, some_rows(20))
    project.run("pipelines/shop.lua")
    rows = read(path).to_pylist()
    assert len(rows) == 20 and all(row["origin"] == "by weir" and row["empty"] is None and row["label"] == f"by weir:{row['id']}" for row in rows)


def test_a_table_partitioned_by_a_generated_column(project):
    path = project.root / "lake/silver/row"
    rows = [row for row in some_rows(200) if row["sold"]]
    make_table(path, [("month", "date", "CAST(date_trunc('MONTH', sold) AS DATE)")], partitions=["month"])
    prepare(project, rows)
    project.run("pipelines/shop.lua")
    table = read(path)
    assert table.num_rows == len(rows) and all(row["month"] == row["sold"].date().replace(day=1) for row in table.to_pylist())
    assert deltalake.DeltaTable(str(path)).metadata().partition_columns == ["month"]


def test_a_generated_column_the_rows_have_must_be_right(project):
    path = project.root / "lake/silver/row"
    make_table(path, metadata={"b": {"delta.generationExpression": "CAST(a AS BIGINT) * 2"}})
    rows = [{**row, "b": row["a"] * 2 if row["a"] is not None and row["id"] % 3 else row["b"]} for row in some_rows(90)]
    prepare(project, rows)
    project.run("pipelines/shop.lua")
    right = {row["id"] for row in rows if row["b"] == (None if row["a"] is None else row["a"] * 2)}
    assert set(read(path).column("id").to_pylist()) == right
    refused = read(project.root / "lake/quarantine/silver/row").to_pylist()
    assert {row["id"] for row in refused} == {row["id"] for row in rows} - right and refused[0]["_reasons"][0]["expectation"] == "generated column b"


@pytest.mark.parametrize("text, told", [
    ("regexp_like(s, 'x')", "the function regexp_like is not known"), ("d / 3 > 1", "division of decimals"), ("a > (SELECT 1)", "check constraint odd"),
    ("sold + INTERVAL 1 DAY > sold", "intervals are not known"), ("nothing > 1", "it reads column nothing, which the stream does not have"), ("s > 5", "types that do not go together"),
    ("date_format(sold, 'EEE') = 'Mon'", "date_format with a pattern that is not known"), ("a +", "something is missing"), ("a > 1 b", "something that is not known"), ("a + 1", "is no condition"),
    ("(" * 200 + "a" + ")" * 200 + " > 1", "it is nested too deep")])
def test_what_cannot_be_evaluated_is_refused_by_name(project, text, told):
    make_table(project.root / "lake/silver/row", configuration={"delta.constraints.odd": text})
    prepare(project, some_rows(3))
    done = project.weir("run", "pipelines/shop.lua", "--until-end")
    assert done.code != 0 and told in done.err and "odd" in done.err, done.err


def test_an_identity_column_is_refused_by_name(project):
    make_table(project.root / "lake/silver/row", metadata={"b": {"delta.identity.start": 1, "delta.identity.step": 1}})
    prepare(project, some_rows(3))
    done = project.weir("run", "pipelines/shop.lua", "--until-end")
    assert done.code != 0 and "column b of the table is an identity column" in done.err


def test_values_that_cannot_be_are_rows_that_fail(project):
    """Overflow, division by zero: Spark stops the write, we put the row away."""
    path = project.root / "lake/silver/row"
    make_table(path, [("g", "integer", "CAST(b / a AS INT)")])
    rows = [{**some_rows(1)[0], "id": i, "a": a, "b": b} for i, (a, b) in enumerate([(2, 10), (0, 1), (1, 10**12), (None, 3), (-4, 9)])]
    prepare(project, rows)
    project.run("pipelines/shop.lua")
    assert {row["id"]: row["g"] for row in read(path).to_pylist()} == {0: 5, 3: None, 4: -2}
    refused = read(project.root / "lake/quarantine/silver/row").to_pylist()
    assert [row["_reasons"][0]["expectation"] for row in refused] == ["generated column g"] * 2


def test_columns_that_may_not_be_null_are_a_feature_where_features_are_listed(project):
    """Spark refuses to open the table otherwise."""
    project.write("schemas/row.avsc", json.dumps({"type": "record", "name": "row", "fields": [{"name": "id", "type": "long"}]}))
    project.write("pipelines/shop.lua", """return pipeline "shop" { storage = delta { root = "lake" }, sources = { source "bronze.row" {
      files { path = "landing/*.jsonl" }, json { schema = "schemas/row.avsc" }, into = delta { properties = { ["delta.checkpointPolicy"] = "v2" } } } } }\n""")
    project.write("landing/1.jsonl", '{"id": 1}\n')
    project.run("pipelines/shop.lua")
    assert set(deltalake.DeltaTable(str(project.root / "lake/bronze/row")).protocol().writer_features) == {"v2Checkpoint", "invariants"}


def test_a_value_that_cannot_be_found_is_not_null(project):
    """The minus in front of a call that fails fails as well."""
    path = project.root / "lake/silver/row"
    make_table(path, [("g", "integer", "-length(upper(s))"), ("h", "integer", "abs(length(lower(s)))")])
    prepare(project, [{**some_rows(1)[0], "id": i, "s": s} for i, s in enumerate(["tea", "é", None])])
    project.run("pipelines/shop.lua")
    assert {row["id"]: (row["g"], row["h"]) for row in read(path).to_pylist()} == {0: (-3, 3), 2: (None, None)}
    assert [row["_reasons"][0]["expectation"] for row in read(project.root / "lake/quarantine/silver/row").to_pylist()] == ["generated column g"]


def test_a_constraint_that_comes_while_a_pipeline_runs_stops_it(project):
    """Rows on their way were not judged by it; from the restart on they are."""
    path = project.root / "lake/silver/row"
    make_table(path, configuration={"delta.constraints.whole": "id >= 0"})
    prepare(project, some_rows(10))
    process = project.start("run", "pipelines/shop.lua")
    try:
        wait_until(lambda: read(path).num_rows == 10)
        deltalake.DeltaTable(str(path)).alter.add_constraint({"small": "id < 1000"})
        project.write("landing/2.jsonl", "".join(json.dumps({**row, "id": row["id"] + 100}) + "\n" for row in some_rows(10)))
        _, err = process.communicate(timeout=conftest.TIMEOUT_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode != 0 and "another writer changed what rows of table silver/row must hold" in err and "small" in err, err
    project.write("landing/3.jsonl", "".join(json.dumps({**row, "id": row["id"] + 995}) + "\n" for row in some_rows(10)))
    project.run("pipelines/shop.lua")
    assert sorted(read(path).column("id").to_pylist()) == [*range(10), *range(100, 110), *range(995, 1000)]
    refused = read(project.root / "lake/quarantine/silver/row").to_pylist()
    assert [row["_reasons"][0]["expectation"] for row in refused] == ["small"] * 5


def test_rows_that_are_merged_get_their_generated_columns_and_defaults(project):
    """Inserted and updated ones alike, partition columns too."""
    path = project.root / "lake/silver/row"
    make_table(path, [("g", "integer", "a * 2"), ("half", "string", "if(id > 2, 'upper', 'lower')")], metadata={"s": {"CURRENT_DEFAULT": "'none'"}}, partitions=["half"])
    project.write("schemas/row.avsc", json.dumps({"type": "record", "name": "row", "fields": [
        {"name": "id", "type": "long"}, {"name": "a", "type": ["null", "int"], "default": None}, {"name": "_change", "type": "int", "default": 0}]}))
    project.write("pipelines/shop.lua", PIPELINE)
    project.write("rules/row.lua", 'return stream "silver.row" { from = "bronze.row", key = "id", into = delta { mode = "merge" } }\n')
    project.write("landing/1.jsonl", "".join(json.dumps({"id": i, "a": a}) + "\n" for i, a in [(1, 5), (2, None), (3, 7), (4, 2**30)]))
    project.run("pipelines/shop.lua")
    assert {r["id"]: (r["g"], r["s"], r["half"]) for r in read(path).to_pylist()} == {1: (10, "none", "lower"), 2: (None, "none", "lower"), 3: (14, "none", "upper")}
    assert [r["_reasons"][0]["expectation"] for r in read(project.root / "lake/quarantine/silver/row").to_pylist()] == ["generated column g"]
    project.write("landing/2.jsonl", "".join(json.dumps(row) + "\n" for row in [{"id": 1, "a": 6, "_change": 2}, {"id": 3, "_change": 3}, {"id": 9, "a": 1}]))
    project.run("pipelines/shop.lua")
    assert {r["id"]: (r["g"], r["s"]) for r in read(path).to_pylist()} == {1: (12, "none"), 2: (None, "none"), 9: (2, "none")}
