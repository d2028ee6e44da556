"""What a table should not be, and is: `weir table` names the thing and the way out, as text and as JSON."""

import json
import math
import os
import subprocess

import deltalake
import pyarrow as pa
import pyarrow.parquet
import pytest


def table(binary, *args, cwd=None, env=None, timeout=100):
    run = subprocess.run([binary, "table", *map(str, args)], capture_output=True, text=True, timeout=timeout, check=False, cwd=cwd, env={**os.environ, **(env or {})})
    return run.returncode, run.stdout, run.stderr


def commit(path, version, *actions):
    (path / "_delta_log" / f"{version:020d}.json").write_text("".join(json.dumps(action) + "\n" for action in actions))


def add(path, name, stats):
    return {"add": {"path": name, "partitionValues": {}, "size": (path / name).stat().st_size, "modificationTime": 1, "dataChange": True, "stats": json.dumps(stats)}}


@pytest.fixture
def two(tmp_path):
    for i in range(2):
        deltalake.write_deltalake(tmp_path / "two", pa.table({"a": [i]}), mode="append")
    return tmp_path / "two"


def test_a_file_that_is_gone_is_named_with_the_version_and_the_way_out(binary, two):
    gone = sorted(two.glob("*.parquet"))[0]
    gone.unlink()
    for command in ("cat", "optimize"):
        code, out, err = table(binary, command, two, "--json")
        assert code != 0 and gone.name in err, err
        assert "which the table names at version" in err and "weir table restore" in err and "weir table ls" not in err
        assert json.loads(out.splitlines()[-1])["code"] == "WEIR_E_NOTFOUND"


@pytest.mark.parametrize("command", [["restore", "--version", "77"], ["alter", "--drop", "zzz"], ["replace", "--where", "a = 1", "--from", "."]])
def test_a_table_given_by_its_folder_is_called_so(binary, two, command):
    code, _, err = table(binary, command[0], ".", *command[1:], cwd=two)
    assert code != 0 and str(two) in err and "table .:" not in err, err


@pytest.mark.parametrize("command", ["show", "history", "cat", "optimize", "vacuum", "diff"])
def test_what_is_no_table_is_called_by_its_path(binary, tmp_path, command):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("x")
    more = ["--from", "0"] if command == "diff" else []
    code, _, err = table(binary, command, "empty", *more, cwd=tmp_path)
    assert code == 1 and f"{tmp_path}/empty is not a Delta table" in err
    code, _, err = table(binary, command, "file.txt", *more, cwd=tmp_path)
    assert code == 2 and "file.txt is a file" in err


@pytest.mark.parametrize("command", ["show", "history", "cat", "optimize", "vacuum", "diff"])
def test_a_name_that_is_nothing_is_told_with_the_places_looked_at(binary, tmp_path, command):
    more = ["--from", "0"] if command == "diff" else []
    code, _, err = table(binary, command, "silver.nope", *more, cwd=tmp_path)
    told = "weir: there is no folder data/lake/silver/nope, where the dataset silver.nope would be, nor one of that name"
    assert code == 1 and err == told + "; `weir table ls` shows the tables there are\n"
    code, _, err = table(binary, command, tmp_path / "nope", *more)
    assert code == 1 and err == f"weir: there is no folder {tmp_path}/nope; `weir table ls` shows the tables there are\n"


@pytest.mark.parametrize("args", [["cat"], ["frob"], [], ["cat", "x", "--limit", "-1"], ["cat", "x", "--limit", "many"], ["cat", "x", "--bogus"], ["restore", "{two}"]])
def test_wrong_usage_is_json_too(binary, two, args):
    code, out, err = table(binary, *[arg.replace("{two}", str(two)) for arg in args], "--json")
    assert code == 2 and err.startswith("weir: ")
    told = json.loads(out)
    assert told["code"] == "WEIR_E_USAGE" and told["error"] in err


def test_show_names_the_table_in_json(binary, two):
    assert json.loads(table(binary, "show", two, "--json")[1])["table"] == str(two)


def test_columns_called_like_members_of_statistics(binary, tmp_path):
    """Others may write statistics in any order and with blanks; a column's bounds are not the file's count."""
    path = tmp_path / "t"
    deltalake.write_deltalake(path, pa.table({"numRecords": pa.array([], pa.int64()), "tightBounds": pa.array([], pa.int64())}))
    pa.parquet.write_table(pa.table({"numRecords": [500, 7], "tightBounds": [1, 1]}), path / "x.parquet")
    bounds = {"numRecords": 7, "tightBounds": 1}
    stats = {"minValues": bounds, "maxValues": {"numRecords": 500, "tightBounds": 1}, "nullCount": {"numRecords": 0, "tightBounds": 0}, "numRecords": 2}
    commit(path, 1, add(path, "x.parquet", stats))
    assert json.loads(table(binary, "show", path, "--json")[1])["rows"] == 2


def test_years_before_the_first_have_four_digits(binary, tmp_path):
    path = tmp_path / "t"
    deltalake.write_deltalake(path, pa.table({"d": pa.array([], pa.date32())}))
    days = [-719529, -719528, -4371953, 2932896, 2932897]
    pa.parquet.write_table(pa.table({"d": pa.array(days, pa.int32()).cast(pa.date32())}), path / "x.parquet")
    commit(path, 1, add(path, "x.parquet", {"numRecords": len(days)}))
    rows = [json.loads(line)["d"] for line in table(binary, "cat", path, "--json")[1].splitlines()]
    assert rows == ["-0001-12-31", "0000-01-01", "-10000-01-01", "9999-12-31", "+10000-01-01"]


def test_a_store_that_does_not_answer_is_told_of_while_one_waits(binary):
    env = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    code, out, err = table(binary, "show", "s3://bucket/t", "--json", env=env)
    assert code == 3 and "127.0.0.1 port 9" in err and json.loads(out)["code"] == "WEIR_E_UNAVAILABLE", err


PIPELINE = """
return pipeline "p" {
  storage = delta { root = "lake" },
  sources = { source "bronze.s" { files { path = "in/*.jsonl" }, json { schema = "s.avsc" }, into = delta { partition_by = { "d" } } } },
}
"""


def test_tables_are_partitioned_by_doubles(binary, project):
    values = [1.5, -0.0, 1e300, 5e-324, 0.1, None, math.pi, 1e16]
    project.write("in/1.jsonl", "".join(json.dumps({"d": value, "i": i}) + "\n" for i, value in enumerate(values)))
    project.write("s.avsc", json.dumps({"type": "record", "name": "s", "fields": [{"name": "d", "type": ["null", "double"], "default": None}, {"name": "i", "type": "long"}]}))
    project.write("p.lua", PIPELINE)
    project.run("p.lua")
    lake = project.root / "lake/bronze/s"
    expected = sorted((str(value), i) for i, value in enumerate(values))
    rows = [json.loads(line) for line in table(binary, "cat", lake, "--json")[1].splitlines()]
    assert sorted((str(row["d"]), row["i"]) for row in rows) == expected
    theirs = deltalake.DeltaTable(lake).to_pyarrow_table().select(["d", "i"]).to_pylist()
    assert sorted((str(row["d"]), row["i"]) for row in theirs) == expected
