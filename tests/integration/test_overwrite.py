"""`overwrite` of a table: a pipeline's first commit takes partitions away, its later ones append, whatever crash lies between."""
import json
import signal

import deltalake
import pytest

from test_maintain import actions, by_weir, operations

PIPELINE = """\
return pipeline "%s" {
  storage = delta { root = "lake" },
  sources = { source "bronze.sale" { files { path = "%s/*.jsonl" }, json { schema = "sale.avsc" }, into = none } },
}
"""
RULE = 'return stream "silver.sale" { from = "bronze.sale", into = delta { %s } }\n'


def prepare(project, name, folder, into):
    project.write("sale.avsc", json.dumps({"type": "record", "name": "sale", "fields": [{"name": "id", "type": "long"}, {"name": "day", "type": ["null", "string"], "default": None}]}))
    project.write(f"pipelines/{name}.lua", PIPELINE % (name, folder))
    project.write("rules/sale.lua", RULE % into)


def land(project, folder, name, *rows):
    project.write(f"{folder}/{name}.jsonl", "".join(json.dumps({"id": i, "day": day}) + "\n" for i, day in rows))


def ids(project, path):
    found = sorted(row["id"] for row in by_weir(project.binary, path))
    assert sorted(deltalake.DeltaTable(str(path)).to_pyarrow_table(columns=["id"]).column("id").to_pylist()) == found
    return found


@pytest.fixture
def sales(project):
    prepare(project, "first", "landing", 'partition_by = { "day" }')
    land(project, "landing", "1", (1, "mon"), (2, "tue"), (3, None), (4, "mon"))
    project.run("pipelines/first.lua")
    prepare(project, "again", "corrected", "partition_by = { \"day\" }, overwrite = \"day = 'mon'\"")
    return project.root / "lake/silver/sale"


def test_the_first_commit_replaces_and_later_ones_append(project, sales):
    land(project, "corrected", "1", (10, "mon"))
    project.run("pipelines/again.lua")
    assert ids(project, sales) == [2, 3, 10]
    last = actions(sales, len(operations(sales)) - 1)
    assert sum("remove" in a for a in last) == 1 and sum("add" in a for a in last) == 1 and any("txn" in a for a in last) and not last[0]["commitInfo"]["isBlindAppend"]
    land(project, "corrected", "2", (11, "mon"), (12, "wed"))
    project.run("pipelines/again.lua")
    assert ids(project, sales) == [2, 3, 10, 11, 12]


@pytest.mark.parametrize("fault", ["delta_before_commit:1", "delta_entry_written:1", "delta_entry_linked:1", "delta_after_commit:1"])
def test_a_killed_run_takes_nothing_away_twice(project, sales, fault):
    land(project, "corrected", "1", (10, "mon"), (11, "tue"))
    killed = project.weir("run", "pipelines/again.lua", "--until-end", env={"WEIR_FAULT": f"{fault}:kill"})
    assert killed.code == -signal.SIGKILL, killed.err
    land(project, "corrected", "2", (12, "mon"))
    project.run("pipelines/again.lua")
    assert ids(project, sales) == [2, 3, 10, 11, 12]


def test_another_writers_rows_do_not_bring_the_old_ones_back(project, sales):
    deltalake.write_deltalake(str(sales), deltalake.DeltaTable(str(sales)).to_pyarrow_table().slice(0, 1), mode="append")
    land(project, "corrected", "1", (10, "mon"))
    project.run("pipelines/again.lua")
    assert 1 not in ids(project, sales) and 4 not in ids(project, sales) and 10 in ids(project, sales)


@pytest.mark.parametrize("into,told", [
    ("overwrite = \"day = 'mon'\"", "overwrite picks out partitions"), ('partition_by = { "day" }, overwrite = "id = 1"', "id"),
    ('partition_by = { "day" }, overwrite = "day ~ 1"', "overwrite"), ('partition_by = { "day" }, overwrite = 5', "overwrite")])
def test_predicates_that_cannot_be_are_refused_before_anything_is_done(project, sales, into, told):
    prepare(project, "again", "corrected", into)
    land(project, "corrected", "1", (10, "mon"))
    refused = project.weir("run", "pipelines/again.lua", "--until-end")
    assert refused.code in (1, 2) and told in refused.out + refused.err and ids(project, sales) == [1, 2, 3, 4]
