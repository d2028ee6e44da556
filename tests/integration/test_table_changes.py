"""Changes of a Delta table as a source: what commits do to rows, by key, makes the same table elsewhere."""

import decimal
import random
import time

import deltalake
import lake
from test_columnar_sources import pipeline, result, rows

FEED = {"delta.enableChangeDataFeed": "true"}
MIRROR = """return stream "silver.t" { from = "bronze.t", key = "id", %sinto = delta { mode = "merge" } }"""
COUNTED = """return model "gold.days" { from = "silver.t", by = "day", measures = { n = count(), total = sum "price" }, into = delta { mode = "merge" } }"""


def changes(project, where="", more="", source="delta { path = \"in\", changes = true, key = \"id\"%s }"):
    pipeline(project, source % more)
    project.write("rules/t.lua", MIRROR % (where + 'drop = { "tags" }, '))
    project.write("rules/days.lua", COUNTED)


def read_input(project):
    return lake.by_deltalake(project.root / "in")


def expect_mirror(project):
    """What was merged, and what was counted of it, is the table as it is."""
    columns = ["id", "name", "at", "price", "day"]
    wanted = sorted(lake.rows_of(read_input(project), columns), key=lambda row: row[0])
    assert sorted(lake.rows_of(result(project, "silver/t"), columns), key=lambda row: row[0]) == wanted
    days = {}
    for row in wanted:
        n, total = days.get(row[4], (0, 0))
        days[row[4]] = (n + 1, total + (row[3] or 0))
    got = {day: (n, total or 0) for day, n, total in lake.rows_of(result(project, "gold/days"), ["day", "n", "total"])}
    assert got == days


def change_at_random(path, rng, key):
    """One commit of deltalake's: rows come, go, change, and change their key."""
    held = deltalake.DeltaTable(path)
    kind = rng.randrange(5)
    low = rng.randrange(300)
    if kind == 0:
        deltalake.write_deltalake(path, rows(key, key + rng.randrange(1, 60)), mode="append")
    elif kind == 1:
        held.update(predicate=f"id >= {low} and id < {low + 40}", updates={"price": "price + 1", "name": f"'u{key}'"})
    elif kind == 2:
        held.delete(f"id >= {low} and id < {low + 15}")
    elif kind == 3:
        held.update(predicate=f"id >= {low} and id < {low + 5}", updates={"id": f"id + {key}"})
    else:
        source = rows(low, low + 30)
        held.merge(source, "t.id = s.id", source_alias="s", target_alias="t").when_matched_update_all().when_not_matched_insert_all().execute()
    return key + 1000


def test_a_tables_changes_make_the_same_table_elsewhere(project):
    path, rng, key = str(project.root / "in"), random.Random(5), 1000
    deltalake.write_deltalake(path, rows(0, 300), configuration=FEED)
    changes(project)
    for _ in range(6):
        for _ in range(rng.randrange(1, 4)):
            key = change_at_random(path, rng, key)
        project.run("pipelines/p.lua")
        expect_mirror(project)
    told = result(project)
    assert set(told.column("_change").to_pylist()) == {0, 2, 3}
    newest = deltalake.DeltaTable(path).version()
    assert max(told.column("_commit_version").to_pylist()) <= newest and None not in told.column("_commit_timestamp").to_pylist()


def test_changes_followed_through_kills(project):
    path, rng, key = str(project.root / "in"), random.Random(9), 1000
    deltalake.write_deltalake(path, rows(0, 300), configuration=FEED)
    changes(project)
    for _ in range(3):
        process = project.start("run", "pipelines/p.lua")
        for _ in range(4):
            key = change_at_random(path, rng, key)
        time.sleep(rng.random())  # anywhere between reading, sealing and merging
        process.kill()
        process.communicate()
    project.run("pipelines/p.lua")
    expect_mirror(project)


def test_a_refused_update_leaves_the_row_it_had(project):
    path = str(project.root / "in")
    deltalake.write_deltalake(path, rows(0, 3), configuration=FEED)
    deltalake.DeltaTable(path).update(predicate="id = 1", updates={"price": "-1"})
    deltalake.DeltaTable(path).update(predicate="id = 2", updates={"price": "9"})
    changes(project, where='expectations = { expect "not owed" { function(e) return e.price >= 0 end } }, ', more=", from_version = 0")
    project.run("pipelines/p.lua")
    assert sorted(lake.rows_of(result(project, "silver/t"), ["id", "price"])) == [
        (0, decimal.Decimal("0.00")), (1, decimal.Decimal("0.01")), (2, decimal.Decimal("9.00"))]


def test_a_change_file_that_was_vacuumed_is_told_not_waited_for(project):
    path = project.root / "in"
    deltalake.write_deltalake(str(path), rows(0, 10), configuration=FEED)
    deltalake.DeltaTable(str(path)).update(predicate="id < 3", updates={"name": "'new'"})
    changes(project, more=", from_version = 0")
    for file in (path / "_change_data").rglob("*.parquet"):
        file.unlink()
    outcome = project.weir("run", "pipelines/p.lua", "--until-end")
    assert outcome.code != 0 and "bronze.t: in: a change file of version 1 was vacuumed before it was read" in outcome.err, outcome
    assert "delta.deletedFileRetentionDuration" in outcome.err, outcome


def test_changes_from_a_version_on_and_of_vectors_of_ours(project, new_project):
    """A table of Weir's with deletion vectors and a feed is mirrored by another pipeline; a truncate, which has no change files, too."""
    source = new_project("source")
    source.write("landing/a.jsonl", "".join(f'{{"id": {i}, "v": "{i}", "_change": 0}}\n' for i in range(100)))
    source.write("landing/b.jsonl", "".join(f'{{"id": {i}, "v": "b", "_change": {3 if i % 3 else 2}}}\n' for i in range(50)))
    source.write("schemas/s.avsc", '{"type": "record", "name": "s", "fields": [{"name": "id", "type": "long"}, {"name": "v", "type": "string"}, '
                 '{"name": "_change", "type": "int"}]}')
    source.write("pipelines/p.lua", """return pipeline "source" { storage = delta { root = "lake" }, commit = { every = "20ms" },
  sources = { source "bronze.s" { files { path = "landing/*.jsonl" }, json { schema = "schemas/s.avsc" }, into = none } } }""")
    source.write("rules/s.lua", """return stream "silver.s" { from = "bronze.s", key = "id", into = delta { mode = "merge",
  properties = { ["delta.enableChangeDataFeed"] = "true", ["delta.enableDeletionVectors"] = "true" } } }""")
    source.run("pipelines/p.lua")
    pipeline(project, f'delta {{ path = "{source.root}/lake/silver/s", from_version = 0, changes = true, key = "id" }}')
    project.write("rules/t.lua", MIRROR % "")

    def expect_same():
        project.run("pipelines/p.lua")
        printed = source.weir("table", "cat", str(source.root / "lake/silver/s"), "--columns", "id,v", "--json").out
        assert sorted(printed.splitlines()) == sorted(project.weir("table", "cat", str(project.root / "lake/silver/t"), "--columns", "id,v", "--json").out.splitlines())
        return len(printed.splitlines())
    assert expect_same() == 67
    source.write("landing/c.jsonl", '{"id": 0, "v": "", "_change": 4}\n{"id": 7, "v": "after", "_change": 0}\n')
    source.run("pipelines/p.lua")
    assert expect_same() == 1


def test_changes_that_cannot_be_told_are_refused(project):
    path = str(project.root / "in")
    deltalake.write_deltalake(path, rows(0, 10))
    changes(project)
    assert "delta.enableChangeDataFeed" in project.weir("run", "pipelines/p.lua", "--until-end").err
    for more, said in [(", skip_change_commits = true", "keep one"), (', key = "nope"', "no column of the table"), (', key = "tags"', "nested")]:
        changes(project, source='delta { path = "in", changes = true' + more + (', key = "id" }' if "key" not in more else " }") + "%s")
        outcome = project.weir("check", "pipelines/p.lua")
        assert outcome.code != 0 and said in outcome.out + outcome.err, outcome
    changes(project, source='delta { path = "in", changes = true }%s')
    outcome = project.weir("check", "pipelines/p.lua")
    assert outcome.code != 0 and "told by key" in outcome.out + outcome.err, outcome
