"""Spark with delta-spark as judge of what is done to tables: merges by rewriting and by deletion vectors with and without a feed, replaced partitions, rows
laid out anew, constraints, V2 checkpoints; and Spark writing to a table while a pipeline does. For the long tier:
WEIR_SPARK=1 asks for it; without it this says that it skips."""
import json
import random
import signal

import pytest

from live import wait_until
from test_maintain import by_weir, operations, result, weir
from test_merge import MODES, apply_model, build, change_file, merge, random_changes  # noqa: F401 (build is a fixture)

PIPELINE = """\
return pipeline "shop" {
  storage = delta { root = "lake" }, commit = { every = "20ms" },
  sources = { source "bronze.sale" { files { path = "landing/*.jsonl" }, json { schema = "schemas/sale.avsc" }, into = none } },
}
"""
RULE = 'return stream "silver.%s" { from = "bronze.sale", into = delta { %s } }\n'
FIELDS = [{"name": "id", "type": "long"}, {"name": "day", "type": ["null", "string"], "default": None}, {"name": "qty", "type": "int"}]


def prepare(project, into, *rows):
    project.write("pipelines/shop.lua", PIPELINE)
    project.write("rules/sale.lua", RULE % ("sale", into))
    project.write("schemas/sale.avsc", json.dumps({"type": "record", "name": "sale", "fields": FIELDS}))
    project.write("landing/1.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return project.root / "lake/silver/sale"


@pytest.mark.parametrize("mode", MODES)
def test_merged_tables_and_their_feed(spark, binary, build, tmp_path, mode):  # noqa: F811
    rng, model, table = random.Random(f"spark {mode}"), {}, tmp_path / "t"
    for step in range(4):
        rows = random_changes(rng, 40, 30, step * 60)
        merge(build, tmp_path, "t", ["key=id", "time=at", "change=_change", "partition=region", *MODES[mode]], change_file(tmp_path / "changes.parquet", rows))
        apply_model(model, rows)
    found = spark.sql(f"select id, region, note, cast(amount as string) amount from delta.`{table}`")
    wanted = [{"id": row["id"], "region": row["region"] or None, "note": row["note"], "amount": str(row["amount"])} for row in model.values()]
    key = lambda row: row["id"]  # noqa: E731
    assert sorted(found, key=key) == sorted(wanted, key=key)
    if "feed" in mode:
        columns = ("id", "note", "_change_type", "_commit_version")
        theirs = spark.sql(f"select {', '.join(columns)} from table_changes('delta.`{table}`', 0)")
        ours = by_weir(binary, table, "--changes", "--from", "0")
        assert sorted(tuple(str(row[c]) for c in columns) for row in theirs) == sorted(tuple(str(row[c]) for c in columns) for row in ours)
    result(binary, "optimize", table, "--layout", "direct_lake")
    assert sorted(spark.sql(f"select id, region, note, cast(amount as string) amount from delta.`{table}`"), key=key) == sorted(wanted, key=key)


def test_replaced_partitions(spark, project):
    path = prepare(project, 'partition_by = { "day" }', *({"id": n, "day": "ab"[n % 2], "qty": n} for n in range(10)))
    project.run("pipelines/shop.lua")
    spark.sql(f"create table delta.`{project.root}/other` (id bigint not null, day string, qty int not null) using delta partitioned by (day)")
    spark.sql(f"insert into delta.`{project.root}/other` values (100, 'a', 1), (101, 'a', 2)")
    weir(project.binary, "replace", path, "--where", "day = 'a'", "--from", project.root / "other")
    assert [row["id"] for row in spark.sql(f"select id from delta.`{path}` order by id")] == [1, 3, 5, 7, 9, 100, 101]
    weir(project.binary, "restore", path, "--version", 1)
    assert spark.sql(f"select count(*) n, sum(id) s from delta.`{path}`") == [{"n": 10, "s": 45}]
    assert {row["operation"] for row in spark.sql(f"describe history delta.`{path}`")} >= {"WRITE", "RESTORE"}


def test_constraints_of_ours_hold_for_spark(spark, project):
    path = prepare(project, 'properties = { ["delta.constraints.sold"] = "qty > 0" }', {"id": 1, "qty": 2}, {"id": 2, "qty": -1})
    project.run("pipelines/shop.lua")
    assert spark.sql(f"select id from delta.`{path}`") == [{"id": 1}]
    with pytest.raises(Exception, match="(?i)constraint"):
        spark.sql(f"insert into delta.`{path}` values (3, null, -5)")
    spark.sql(f"insert into delta.`{path}` values (3, null, 5)")
    assert spark.sql(f"select id from delta.`{path}` order by id") == [{"id": 1}, {"id": 3}]


def test_spark_writes_while_a_pipeline_does(spark, project):
    """Inserts, an update, a delete and a compaction of Spark's, between the commits of ours: nobody's rows are lost or doubled, nobody fails."""
    project.write("pipelines/shop.lua", """\
return pipeline "shop" {
  storage = delta { root = "lake" }, commit = { every = "5s" },
  sources = { source "bronze.sale" { generator { seed = 1, count = 1000000000, rate = 500 }, into = delta { compact = false, properties = { ["delta.checkpointPolicy"] = "v2", ["delta.checkpointInterval"] = "3" } } } },
}
""")
    path = project.root / "lake/bronze/sale"
    process = project.start("run", "pipelines/shop.lua", "--json")
    try:
        wait_until(lambda: path.is_dir() and len(operations(path)) > 2)
        columns = list(spark.sql(f"select * from delta.`{path}` limit 1")[0])
        spark.sql(f"create table delta.`{project.root}/one` using delta as select * from delta.`{path}` limit 1")
        for n in range(3):  # these read nothing of the table, and commute with our appends
            own = {"event_id": f"'spark-{n}'", "_offset": f"{-1 - n}L"}
            spark.sql(f"insert into delta.`{path}` select {', '.join(own.get(c, c) for c in columns)} from delta.`{project.root}/one`")
        process.send_signal(signal.SIGSTOP)  # the others would give way to every append of ours
        spark.sql(f"update delta.`{path}` set event_id = 'changed' where _offset = -2")
        spark.sql(f"delete from delta.`{path}` where _offset = -3")
        spark.sql(f"optimize delta.`{path}`")
        process.send_signal(signal.SIGCONT)
        versions = len(operations(path))
        wait_until(lambda: len(operations(path)) > versions + 1)
    finally:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and "failed" not in err, err
    count = spark.sql(f"select count(*) n, count(distinct _offset) d, min(_offset) low, max(_offset) high from delta.`{path}`")[0]
    assert count["low"] == -2 and count["n"] == count["d"] == count["high"] + 1 + 2
    assert {row["event_id"] for row in spark.sql(f"select event_id from delta.`{path}` where _offset < 0")} == {"spark-0", "changed"}
    assert sum(name in ("WRITE", "UPDATE", "DELETE", "OPTIMIZE") for name in operations(path)) >= 6
