"""Old files in a second store: the rows, their statistics and everything done to the table afterwards are the same; a log cannot make us read files from
anywhere else. Spark reads such tables (the long tier); deltalake does not, which is asserted so that the docs stay true."""
import json
import random
import shutil
import time

import deltalake
import pytest

from test_maintain import actions, by_weir, disk_files, operations, result, rows, run_until, small_files, weir
from test_merge import MODES, apply_model, build, change_file, merge, random_changes  # noqa: F401 (build is a fixture)
from test_stores import s3  # noqa: F401 (a fixture)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "t"
    small_files(path, 4, partition_by=["day", "country"])
    return path


def age(path, days):
    """As if the newest version's files had been written long ago."""
    entry = sorted((path / "_delta_log").glob("*.json"))[-1]
    lines = [json.loads(line) for line in entry.read_text().splitlines()]
    for line in lines:
        if "add" in line:
            line["add"]["modificationTime"] = int((time.time() - days * 86400) * 1000)
    entry.write_text("".join(json.dumps(line) + "\n" for line in lines))


def everything(binary, path):
    return sorted(by_weir(binary, path), key=lambda row: row["id"])


def test_rows_are_where_they_were_and_only_old_files_move(binary, tmp_path, table):
    before = everything(binary, table)
    age(table, 40)
    old = [a["add"] for a in actions(table, 3) if "add" in a]
    done = result(binary, "tier", table, "--to", tmp_path / "cold", "--older", "30d")
    assert (done["files"], done["version"]) == (len(old), 4) and everything(binary, table) == before
    moved = [a["add"] for a in actions(table, 4) if "add" in a]
    assert {a["path"].split("/part-")[1] for a in moved} == {a["path"].split("/part-")[1] for a in old} and all(a["path"].startswith(f"file://{tmp_path}/cold/") for a in moved)
    assert sorted(a["stats"] for a in moved) == sorted(a["stats"] for a in old) and not any(a["dataChange"] for a in moved)
    again = result(binary, "tier", table, "--to", tmp_path / "cold", "--older", "30d")
    assert again["files"] == 0 and operations(table)[-1] == "TIER" and len(operations(table)) == 5
    everywhere = disk_files(table)
    weir(binary, "vacuum", table, "--retain", "0h", "--allow-short-retention")
    assert len(everywhere) - len(disk_files(table)) == len(old) and everything(binary, table) == before
    assert "has one such place" in weir(binary, "tier", table, "--to", tmp_path / "other", "--older", "0s", code=1).stderr


def test_what_is_done_afterwards_reaches_the_old_files_too(binary, tmp_path, table):
    result(binary, "tier", table, "--to", tmp_path / "cold", "--older", "0s", "--where", "country is null")
    left = everything(binary, table)
    result(binary, "tier", table, "--to", tmp_path / "cold", "--older", "0s")
    assert everything(binary, table) == left and len(left) == 800
    deltalake.write_deltalake(str(table), rows(__import__("random").Random(1), 5000, 10), mode="append")
    with_new = everything(binary, table)
    assert len(with_new) == 810
    done = result(binary, "optimize", table)  # puts them together in the table's own folder
    assert done["filesRemoved"] > 4 and everything(binary, table) == with_new
    result(binary, "restore", table, "--version", operations(table).index("TIER") + 1)
    assert everything(binary, table) == left
    for v in range(len(operations(table))):  # from a checkpoint, too
        assert weir(binary, "cat", table, "--version", v, "--json").stdout.count("\n") in (200, 400, 600, 800, 810)


def test_a_copy_that_is_gone_is_told_and_a_log_names_no_other_place(binary, tmp_path, table):
    result(binary, "tier", table, "--to", tmp_path / "cold", "--older", "0s")
    shutil.move(tmp_path / "cold", tmp_path / "moved")
    assert "cold" in weir(binary, "cat", table, code=3).stderr
    shutil.move(tmp_path / "moved", tmp_path / "cold")
    entry = sorted((table / "_delta_log").glob("*.json"))[-1]
    entry.write_text(entry.read_text().replace('"weir.tierRoot":"file://', '"weir.tierRoot":"file:///elsewhere'))
    assert "outside of its folder" in weir(binary, "cat", table, code=1).stderr
    entry.write_text(entry.read_text().replace("file:///elsewhere", "file://").replace("/cold/", "/cold/../cold/"))
    assert weir(binary, "cat", table, code=1).stderr


def vectors(path):
    """Of live files: how, and where."""
    found = {}
    for version in range(len(operations(path))):
        for action in actions(path, version):
            if "add" in action:
                found[action["add"]["path"]] = action["add"].get("deletionVector")
            elif "remove" in action and found.get(action["remove"]["path"]) == action["remove"].get("deletionVector"):
                del found[action["remove"]["path"]]
    return {name: vector for name, vector in found.items() if vector}


def test_deletion_vectors_move_with_their_files_and_after_them(binary, build, tmp_path):  # noqa: F811
    rng, model, path, cold = random.Random("tier"), {}, tmp_path / "t", tmp_path / "cold"

    def change(step):
        rows = random_changes(rng, 40, 30, step * 60)
        merge(build, tmp_path, "t", ["key=id", "time=at", "change=_change", "partition=region", *MODES["vectors"]], change_file(tmp_path / "changes.parquet", rows))
        apply_model(model, rows)

    def same():
        assert {int(row["id"]): row["note"] for row in by_weir(binary, path)} == {row["id"]: row["note"] for row in model.values()}
    for step in range(3):
        change(step)
    count = len(vectors(path))
    assert count > 1 and {vector["storageType"] for vector in vectors(path).values()} == {"u"}
    result(binary, "tier", path, "--to", cold, "--older", "0s")
    assert len(vectors(path)) == count and all(v["storageType"] == "p" and v["pathOrInlineDv"].startswith(f"file://{cold}/") for v in vectors(path).values())
    weir(binary, "vacuum", path, "--retain", "0h", "--allow-short-retention")
    assert not [name for name in path.rglob("*") if name.suffix in (".bin", ".parquet") and "_delta_log" not in name.parts]
    same()
    change(3)  # of files in the second store: a vector beside the table, until it moves
    same()
    assert "u" in {vector["storageType"] for vector in vectors(path).values()}
    done = result(binary, "tier", path, "--to", cold, "--older", "0s")
    assert done["vectors"] > 0 and {vector["storageType"] for vector in vectors(path).values()} == {"p"}
    same()
    before = len(operations(path)) - 1
    result(binary, "optimize", path)
    assert not vectors(path)
    same()
    weir(binary, "restore", path, "--version", before)  # the copies are there
    same()


def test_copies_that_no_version_needs_are_vacuumed(binary, tmp_path, table):
    cold = tmp_path / "cold"
    result(binary, "tier", table, "--to", cold, "--older", "0s")
    copies = set(cold.rglob("*.parquet"))
    other = cold / "another" / "part-1.parquet"  # of another table: not ours to touch
    other.parent.mkdir()
    shutil.copy(next(iter(copies)), other)
    weir(binary, "vacuum", table, "--retain", "0h", "--allow-short-retention")
    assert set(cold.rglob("*.parquet")) == copies | {other}, "what the table names stays"
    before = everything(binary, table)
    deltalake.write_deltalake(str(table), rows(__import__("random").Random(1), 5000, 10), mode="append")
    tiered = len(operations(table)) - 1
    result(binary, "optimize", table)
    weir(binary, "vacuum", table)
    assert set(cold.rglob("*.parquet")) == copies | {other}, "within the retention"
    told = weir(binary, "vacuum", table, "--retain", "0h", "--allow-short-retention", "--dry-run").stdout
    assert sum(name.name in told for name in copies) > 4 and set(cold.rglob("*.parquet")) == copies | {other}
    weir(binary, "vacuum", table, "--retain", "0h", "--allow-short-retention")
    left = set(cold.rglob("*.parquet")) - {other}
    assert len(left) < len(copies) and other.exists() and len(everything(binary, table)) == len(before) + 10
    assert "was vacuumed" in weir(binary, "restore", table, "--version", tiered, code=1).stderr


def test_deltalake_does_not_read_absolute_paths(tmp_path, binary, table):
    """As docs/guide/maintaining.md says; when this fails, say so there."""
    result(binary, "tier", table, "--to", tmp_path / "cold", "--older", "0s")
    with pytest.raises(Exception, match="not found"):
        deltalake.DeltaTable(str(table)).to_pyarrow_table()


def test_into_an_object_store(binary, s3, table):  # noqa: F811
    before = everything(binary, table)
    url, env = f"{s3.url}/cold-{time.time_ns()}", s3.environment()
    assert json.loads(weir(binary, "tier", table, "--to", url, "--older", "0s", "--json", env=env).stdout)["files"] > 0
    weir(binary, "vacuum", table, "--retain", "0h", "--allow-short-retention", env=env)
    copies = lambda: len([*(s3.folder / "root").rglob("cold-*/**/*.parquet")])  # noqa: E731
    assert copies() > 0 and sorted((json.loads(line) for line in weir(binary, "cat", table, "--json", env=env).stdout.splitlines()), key=lambda row: row["id"]) == before
    weir(binary, "optimize", table, env=env)
    told = weir(binary, "vacuum", table, "--retain", "0h", "--allow-short-retention", env={**env, "AWS_SECRET_ACCESS_KEY": "wrong"}).stderr
    assert "second store" in told and copies() > 0, "the table's own folder is vacuumed all the same"
    weir(binary, "vacuum", table, "--retain", "0h", "--allow-short-retention", env=env)
    assert copies() == 0 and everything(binary, table) == before


PIPELINE = """\
return pipeline "shop" {
  storage = delta { root = "lake" }, commit = { every = "20ms" },
  sources = { source "bronze.sale" { generator { seed = 1, count = 1000000000, rate = 5000 }, into = delta { %s } } },
}
"""


def test_a_pipeline_moves_its_old_files_while_it_goes_on(project):
    project.write("pipelines/shop.lua", PIPELINE % 'compact = false')
    path = project.root / "lake/bronze/sale"
    code, err = run_until(project, lambda: len(operations(path)) > 5)
    assert code == 0, err
    project.write("pipelines/shop.lua", PIPELINE % 'compact = false, tier_to = "cold", tier_after = "0s"')
    code, err = run_until(project, lambda: "TIER" in operations(path) and operations(path)[-1] == "STREAMING UPDATE")
    assert code == 0 and "failed" not in err, err
    ids = sorted(int(row["_offset"]) for row in by_weir(project.binary, path))
    assert ids == list(range(ids[0], ids[0] + len(ids))) and list((project.root / "cold").rglob("*.parquet"))
    project.write("pipelines/shop.lua", PIPELINE % 'tier_to = "cold"')
    refused = project.weir("check")
    assert refused.code == 1 and "go together" in refused.out + refused.err


def test_spark_reads_old_files_where_they_are(spark, binary, tmp_path, table):
    result(binary, "tier", table, "--to", tmp_path / "cold", "--older", "0s")
    weir(binary, "vacuum", table, "--retain", "0h", "--allow-short-retention")
    assert spark.sql(f"select count(*) n, sum(id) s from delta.`{table}`") == [{"n": 800, "s": sum(range(800))}]
    spark.sql(f"delete from delta.`{table}` where id < 10")
    assert [int(row["id"]) for row in everything(binary, table)] == list(range(10, 800))


def test_spark_reads_deletion_vectors_in_the_second_store(spark, binary, build, tmp_path):  # noqa: F811
    rng, model, path = random.Random("tier"), {}, tmp_path / "t"
    for step in range(3):
        changes = random_changes(rng, 40, 30, step * 60)
        merge(build, tmp_path, "t", ["key=id", "time=at", "change=_change", "partition=region", *MODES["vectors"]], change_file(tmp_path / "changes.parquet", changes))
        apply_model(model, changes)
    result(binary, "tier", path, "--to", tmp_path / "cold", "--older", "0s")
    weir(binary, "vacuum", path, "--retain", "0h", "--allow-short-retention")
    assert {vector["storageType"] for vector in vectors(path).values()} == {"p"}
    assert {row["id"]: row["note"] for row in spark.sql(f"select id, note from delta.`{path}`")} == {row["id"]: row["note"] for row in model.values()}
