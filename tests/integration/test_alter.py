"""Columns renamed, dropped and widened in tables that exist, and the rules that follow: deltalake reads what we say the table is, files that were written
before and after alike; rows recorded under a column's old name and not committed yet arrive under its new one. Spark judges in the long tier."""
import decimal
import json
import signal
import urllib.parse

import deltalake
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from live import wait_until
from test_maintain import actions, by_weir, operations, weir

PIPELINE = """\
return pipeline "shop" {
  storage = delta { root = "lake" },
  sources = { source "bronze.sale" { files { path = "landing/*.jsonl" }, json { schema = "schemas/sale.avsc" }, into = none } },
}
"""
RULE = """\
return stream "silver.sale" {
  from = "bronze.sale", %s
  into = delta { %s },
}
"""


def prepare(project, fields, into="", more=""):
    """`fields`: by name, the types in Avro."""
    project.write("pipelines/shop.lua", PIPELINE)
    project.write("schemas/sale.avsc", json.dumps({"type": "record", "name": "sale", "fields": [
        {"name": name, "type": ["null", kind], "default": None} for name, kind in fields.items()]}))
    project.write("rules/sale.lua", RULE % (more, into))


def land(project, name, *rows):
    project.write(f"landing/{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def by_deltalake(path):
    """The reader that knows column mapping."""
    found = deltalake.QueryBuilder().register("t", deltalake.DeltaTable(str(path))).execute("select * from t").read_all()
    return sorted(pa.table(found).to_pylist(), key=lambda row: row["id"])


def ours(project, path):
    return sorted(by_weir(project.binary, path), key=lambda row: int(row["id"]))


FIRST = {"id": "long", "day": "string", "qty": "int", "note": "string"}
SECOND = {"id": "long", "date": "string", "count": "int"}


def test_renamed_and_dropped_columns_are_those_of_old_files_too(project):
    path = project.root / "lake/silver/sale"
    prepare(project, FIRST, 'partition_by = { "day" }')
    land(project, "1", {"id": 1, "day": "mon", "qty": 5, "note": "a"}, {"id": 2, "day": None, "qty": None, "note": "b"})
    project.run("pipelines/shop.lua")
    assert "renamed" in weir(project.binary, "alter", path, "--rename", "qty=count,day=date", "--drop", "note").stdout
    assert ours(project, path) == [{"id": 1, "date": "mon", "count": 5}, {"id": 2, "date": None, "count": None}]
    assert by_deltalake(path) == ours(project, path)
    refused = project.weir("run", "pipelines/shop.lua", "--until-end")
    assert refused.code == 1 and "column day of table silver/sale was renamed to date; call it that" in refused.err
    prepare(project, SECOND, 'partition_by = { "date" }')
    land(project, "2", {"id": 3, "date": "tue", "count": 7})
    project.run("pipelines/shop.lua")
    assert ours(project, path)[2] == {"id": 3, "date": "tue", "count": 7} and by_deltalake(path) == ours(project, path)
    weir(project.binary, "optimize", path)
    assert by_deltalake(path) == ours(project, path) and len(ours(project, path)) == 3
    assert json.loads(weir(project.binary, "alter", path, "--rename", "count=qty", "--json").stdout)["version"] == len(operations(path)) - 1
    assert by_deltalake(path)[0] == {"id": 1, "date": "mon", "qty": 5} and operations(path)[-1] == "RENAME COLUMN"


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_what_was_recorded_under_an_old_name_arrives_under_the_new(project, mode):
    """Killed between the record and the table's commit; then the column is renamed and widened; then the pipeline goes on."""
    path = project.root / "lake/silver/sale"
    how = ('mode = "merge"', 'key = "id",') if mode == "merge" else ("", "")
    prepare(project, {"id": "long", "qty": "int"}, *how)
    land(project, "1", {"id": 1, "qty": 5})
    project.run("pipelines/shop.lua")
    land(project, "2", {"id": 1, "qty": 6}, {"id": 2, "qty": 7})
    killed = project.weir("run", "pipelines/shop.lua", "--until-end", env={"WEIR_FAULT": "delta_before_commit:1:kill" if mode == "append" else "delta_merge_written:1:kill"})
    assert killed.code == -signal.SIGKILL, killed.err
    weir(project.binary, "alter", path, "--rename", "qty=count", "--widen", "count=int64")
    prepare(project, {"id": "long", "count": "long"}, *how)
    project.run("pipelines/shop.lua")
    wanted = [(1, 6), (2, 7)] if mode == "merge" else [(1, 5), (1, 6), (2, 7)]
    assert sorted((row["id"], row["count"]) for row in ours(project, path)) == wanted


WIDER = [("int8", "int16", 100), ("int16", "int32", -3), ("int32", "int64", 2**31 - 1), ("int32", "double", 7), ("float", "double", 0.5),
         ("int32", "decimal(12,2)", 40), ("decimal(6,2)", "decimal(10,4)", 12.25)]


@pytest.mark.parametrize("by", ["alter", "property"])
def test_wider_types_hold_what_older_files_hold(project, by):
    path = project.root / "lake/silver/sale"
    into = 'properties = { ["delta.enableTypeWidening"] = "true" }' if by == "property" else ""

    def rule(which):
        columns = ", ".join(f'c{i} = "{each[which]}"' for i, each in enumerate(WIDER))
        values = " ".join(f"o.c{i} = {each[2]}" for i, each in enumerate(WIDER))
        prepare(project, {"id": "long"}, into, f"map = function(e, o) {values} end, columns = {{ {columns} }},")
    rule(0)
    land(project, "1", {"id": 1})
    project.run("pipelines/shop.lua")
    rule(1)
    land(project, "2", {"id": 2})
    if by == "alter":
        refused = project.weir("run", "pipelines/shop.lua", "--until-end")
        assert refused.code == 1 and "weir table alter --widen" in refused.err
        weir(project.binary, "alter", path, "--widen", ",".join(f"c{i}={each[1]}" for i, each in enumerate(WIDER)))
    project.run("pipelines/shop.lua")
    first, second = ours(project, path)
    assert {**first, "id": 2} == second and second["c2"] == 2**31 - 1 and decimal.Decimal(str(second["c6"])) == decimal.Decimal("12.25")
    metadata = [a["metaData"] for v in range(len(operations(path))) for a in actions(path, v) if "metaData" in a][-1]
    changed = {f["name"]: f["metadata"].get("delta.typeChanges") for f in json.loads(metadata["schemaString"])["fields"]}
    assert changed["c2"] == [{"fromType": "integer", "toType": "long"}] and changed["c6"] == [{"fromType": "decimal(6,2)", "toType": "decimal(10,4)"}]
    protocol = [a["protocol"] for v in range(len(operations(path))) for a in actions(path, v) if "protocol" in a][-1]
    assert "typeWidening" in protocol["readerFeatures"] and "typeWidening" in protocol["writerFeatures"]
    weir(project.binary, "optimize", path)
    assert ours(project, path) == [first, second]


@pytest.mark.parametrize("change,told", [
    (["--rename", "nothing=x"], "has no column nothing"), (["--rename", "note=id"], "has a column id already"), (["--rename", "note=a b"], "cannot be the name"),
    (["--drop", "day"], "partitioned by column day"), (["--drop", "qty"], "check constraint sold reads column qty"), (["--rename", "qty=count"], "check constraint sold reads column qty"),
    (["--widen", "qty=int16"], "not a wider one"), (["--widen", "note=int64"], "not a wider one"), (["--widen", "id=flub"], "flub")])
def test_changes_that_cannot_be_are_refused_by_name(project, change, told):
    prepare(project, FIRST, 'partition_by = { "day" }, properties = { ["delta.constraints.sold"] = "Qty > 0" }')
    land(project, "1", {"id": 1, "day": "mon", "qty": 5, "note": "a"})
    project.run("pipelines/shop.lua")
    path = project.root / "lake/silver/sale"
    assert told in weir(project.binary, "alter", path, *change, code=1).stderr and len(operations(path)) == 2


class Live:
    """The pipeline, running; rows land one file at a time, and are waited for."""

    def __init__(self, project):
        self.project, self.path, self.landed = project, project.root / "lake/silver/sale", 0
        self.process = project.start("run", "pipelines/shop.lua")

    def land(self, *rows, into=None):
        self.landed += 1
        land(self.project, f"live-{self.landed}", *rows)
        wanted = {row["id"] for row in rows}
        wait_until(lambda: wanted <= {int(row["id"]) for row in ours(self.project, self.path)} or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.communicate()

    def alter(self, *change):
        weir(self.project.binary, "alter", self.path, *change)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, out + err
        return out + err


@pytest.fixture
def live(project):
    made = []

    def start():
        made.append(Live(project))
        wait_until(lambda: made[0].path.exists() or made[0].process.poll() is not None)
        return made[0]
    yield start
    if made and made[0].process.poll() is None:  # a test that failed
        made[0].process.kill()
        made[0].process.communicate()


def by_duckdb(path, version, columns):
    """The files of a version, as DuckDB reads them together: narrower types become wider ones."""
    live = {}
    for number in range(version + 1):
        for action in actions(path, number):
            live.update({action["add"]["path"]: True} if "add" in action else {action["remove"]["path"]: False} if "remove" in action else {})
    files = [str(path / urllib.parse.unquote(name)) for name, there in live.items() if there]
    found = duckdb.sql(f"select {columns} from read_parquet({files}, union_by_name=true, hive_partitioning=false) order by id")
    return found.types, found.fetchall()


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_columns_renamed_and_widened_by_another_process_while_rows_flow(project, live, mode):
    how = ('mode = "merge"', 'key = "id",') if mode == "merge" else ('partition_by = { "day" }', "")
    prepare(project, {"id": "long", "day": "string", "qty": "int"}, *how)
    running = live()
    running.land({"id": 1, "day": "mon", "qty": 5})
    running.alter("--rename", "qty=count,day=date")
    running.land({"id": 2, "day": "tue", "qty": 6})
    wanted = [{"id": 1, "date": "mon", "count": 5}, {"id": 2, "date": "tue", "count": 6}, {"id": 3, "date": "mon", "count": 7}, {"id": 4, "date": "tue", "count": 8}]
    assert ours(project, running.path) == wanted[:2] == by_deltalake(running.path)
    running.alter("--widen", "count=int64")
    running.land({"id": 3, "day": "mon", "qty": 7})
    running.land({"id": 4, "day": "tue", "qty": 8})
    running.end()
    assert ours(project, running.path) == wanted
    types, found = by_duckdb(running.path, len(operations(running.path)) - 1, "id, qty")
    assert [str(kind) for kind in types] == ["BIGINT", "BIGINT"] and found == [(row["id"], row["count"]) for row in wanted]
    added = [action["add"] for version in range(len(operations(running.path))) for action in actions(running.path, version) if "add" in action]
    types = [pq.read_schema(running.path / urllib.parse.unquote(add["path"])).field("qty").type for add in added]
    assert types[0] == pa.int32() and types[-1] == pa.int64(), "files to come have the type the table has"
    if mode == "append":
        assert all(set(add["partitionValues"]) == {"day"} for add in added), "the name that files have"


def test_a_column_another_process_drops_stops_who_writes_it_and_no_other(project, live):
    prepare(project, {"id": "long", "note": "string", "qty": "int"})
    running = live()
    running.land({"id": 1, "note": "a", "qty": 5})
    running.alter("--drop", "note")
    land(project, "late", {"id": 2, "note": "b", "qty": 6})
    out, err = running.process.communicate(timeout=60)
    assert running.process.returncode == 1 and "removed column note of table silver/sale, which is written here" in out + err
    assert ours(project, running.path) == [{"id": 1, "qty": 5}]
    prepare(project, {"id": "long", "qty": "int"})  # what was recorded arrives; nobody writes the column from now on
    project.run("pipelines/shop.lua")
    assert ours(project, running.path) == [{"id": 1, "qty": 5}, {"id": 2, "qty": 6}] == by_deltalake(running.path)
    prepare(project, {"id": "long"})
    land(project, "later", {"id": 3})
    process = project.start("run", "pipelines/shop.lua")
    wait_until(lambda: len(ours(project, running.path)) == 3)
    weir(project.binary, "alter", running.path, "--drop", "qty")
    land(project, "last", {"id": 4})
    wait_until(lambda: len(ours(project, running.path)) == 4 or process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert ours(project, running.path) == [{"id": n} for n in range(1, 5)] == by_deltalake(running.path)


WIDE = 'map = function(e, o) o.sold = e.qty * %s end, columns = { sold = "%s" },'


@pytest.mark.parametrize("table", ["follows", "altered", "refuses"])
def test_a_reload_whose_columns_get_a_wider_type(project, live, table):
    prepare(project, {"id": "long", "qty": "int"}, 'properties = { ["delta.enableTypeWidening"] = "true" }' if table == "follows" else "", WIDE % (1, "int32"))
    running = live()
    running.land({"id": 1, "qty": 5})
    if table == "altered":
        running.alter("--widen", "sold=int64")
    project.write("rules/sale.lua", project.root.joinpath("rules/sale.lua").read_text().replace("int32", "int64").replace("* 1 ", "* 1000000000 "))
    if table == "refuses":
        wait_until(lambda: "weir table alter --widen" in (project.weir("status", "pipelines/shop.lua", "--json").json()["note"] or ""))
        running.land({"id": 2, "qty": 6})
        running.end()
        assert [row["sold"] for row in ours(project, running.path)] == [5, 6]
        return
    told = [2]

    def wide():
        running.land({"id": told[0], "qty": 6})
        told[0] += 1
        return ours(project, running.path)[-1]["sold"] == 6000000000
    wait_until(wide)
    running.end()
    rows = ours(project, running.path)
    assert rows[0] == {"id": 1, "qty": 5, "sold": 5} and {row["sold"] for row in rows[1:]} <= {6, 6000000000}
    types, found = by_duckdb(running.path, len(operations(running.path)) - 1, "id, sold")
    assert str(types[1]) == "BIGINT" and found == [(row["id"], row["sold"]) for row in rows]
    again = project.weir("run", "pipelines/shop.lua", "--until-end")
    assert again.code == 0 and ours(project, running.path) == rows, again


def test_a_schema_file_whose_types_get_wider_while_rows_flow(project, live):
    """Rows decoded a moment before are widened; bronze and silver follow."""
    properties = 'properties = { ["delta.enableTypeWidening"] = "true" }'
    prepare(project, {"id": "long", "qty": "int"}, properties)
    project.write("pipelines/shop.lua", PIPELINE.replace("into = none", "into = delta { %s }" % properties))
    running = live()
    running.land({"id": 1, "qty": 5})
    schema = project.root / "schemas/sale.avsc"
    project.write("schemas/sale.avsc", schema.read_text().replace('"int"', '"long"'))
    told = [2]

    def wide():  # until then it does not fit, and is in quarantine
        told[0] += 1
        land(project, f"wide-{told[0]}", {"id": told[0], "qty": 6000000000 + told[0]})
        land(project, f"tail-{told[0]}", {"id": 100000 + told[0], "qty": 1})
        wait_until(lambda: any(int(row["id"]) == 100000 + told[0] for row in ours(project, running.path)) or running.process.poll() is not None)
        return any(row["qty"] > 6000000000 for row in ours(project, running.path))
    wait_until(wide)
    running.end()
    rows = ours(project, running.path)
    assert rows[0] == {"id": 1, "qty": 5} and all(row["qty"] == 6000000000 + row["id"] for row in rows if 1 < row["id"] < 100000)
    bronze = by_weir(project.binary, project.root / "lake/bronze/sale")
    assert sorted(int(row["id"]) for row in bronze) == [int(row["id"]) for row in rows]


def test_spark_reads_columns_that_were_renamed_dropped_and_widened(spark, project):
    path = project.root / "lake/silver/sale"
    prepare(project, FIRST, 'partition_by = { "day" }')
    land(project, "1", {"id": 1, "day": "mon", "qty": 5, "note": "a"})
    project.run("pipelines/shop.lua")
    weir(project.binary, "alter", path, "--rename", "qty=count,day=date", "--drop", "note", "--widen", "count=int64")
    prepare(project, {"id": "long", "date": "string", "count": "long"}, 'partition_by = { "date" }')
    land(project, "2", {"id": 2, "date": "tue", "count": 9000000000})
    project.run("pipelines/shop.lua")
    assert spark.sql(f"select id, date, count from delta.`{path}` order by id") == [
        {"id": 1, "date": "mon", "count": 5}, {"id": 2, "date": "tue", "count": 9000000000}]
    spark.sql(f"insert into delta.`{path}` (id, date, count) values (3, 'wed', 10)")
    spark.sql(f"alter table delta.`{path}` rename column count to pieces")
    assert ours(project, path)[2] == {"id": 3, "date": "wed", "pieces": 10} and ours(project, path)[0]["pieces"] == 5
