"""The lake room against independent readers and writers: tables we write, opened by deltalake,
DuckDB and pyarrow; tables deltalake writes, and the golden tables of the Delta project, read by us.

The room is driven through tools/delta_tool of the build directory; WEIR_BUILD names that directory
(default build/release)."""
import base64
import collections
import datetime
import decimal
import json
import math
import os
import pathlib
import subprocess

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

SOURCE = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = pathlib.Path(os.environ.get("WEIR_CONFORMANCE", SOURCE.parent / "shared" / "conformance"))


@pytest.fixture(scope="session")
def tool():
    path = pathlib.Path(os.environ.get("WEIR_BUILD", SOURCE / "build/release")) / "tools/delta_tool"
    if not path.exists():
        pytest.skip(f"{path} is not built (make build, or set WEIR_BUILD)")
    return path


def run(tool, *args, check=True, env=None):
    return subprocess.run([str(tool), *map(str, args)], capture_output=True, text=True, check=check,
                          env={**os.environ, **(env or {})})


def rows_of(tool, root, table, *at):
    out = run(tool, "cat", root, table, *at).stdout
    return [json.loads(line, parse_float=decimal.Decimal) for line in out.splitlines()]


def plain(value, type_=None):
    """A value of any of the judges in the form `cat` prints, floats rounded to compare."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, decimal.Decimal)):
        return decimal.Decimal(value).normalize() + 0
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return decimal.Decimal(repr(value)).normalize() + 0
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(datetime.timezone.utc)
            return value.strftime("%Y-%m-%dT%H:%M:%S.%f").rjust(26, "0") + "Z"
        return value.strftime("%Y-%m-%dT%H:%M:%S.%f").rjust(26, "0")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        if value and isinstance(value[0], tuple):
            return [{"key": plain(k), "value": plain(v)} for k, v in value]
        return [plain(inner) for inner in value]
    return value


def frozen(value):
    if isinstance(value, dict):
        return tuple((key, frozen(inner)) for key, inner in value.items())
    if isinstance(value, list):
        return tuple(frozen(inner) for inner in value)
    return value


def multiset(rows):
    return collections.Counter(frozen(plain(row)) for row in rows)


@pytest.fixture(scope="session")
def written(tool, tmp_path_factory):
    root = tmp_path_factory.mktemp("lake")
    run(tool, "write", root, "t", 25)
    return root


def test_deltalake_reads_what_we_write(tool, written):
    ours = rows_of(tool, written, "t")
    table = DeltaTable(str(written / "t"))
    assert table.version() == 25
    theirs = table.to_pyarrow_table().to_pylist()
    assert len(ours) == 25 * 50
    for row in theirs:
        for key, value in row.items():
            if isinstance(value, int) and key == "at_ns":
                at = datetime.datetime.fromtimestamp(value // 10**9, datetime.timezone.utc)
                row[key] = at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value % 10**9:09d}Z"
    assert multiset(ours) == multiset(theirs)


def test_duckdb_reads_the_files_of_a_snapshot(written):
    files = DeltaTable(str(written / "t")).file_uris()
    count, total = duckdb.sql(
        "select count(*), sum(price) from read_parquet($files)", params={"files": files}).fetchall()[0]
    assert count == 25 * 50
    expected = sum(decimal.Decimal(n * 101 - 5000) / 100 for n in range(25 * 50) if n % 23 != 7)
    assert total == expected


def test_statistics_enclose_the_data(written):
    adds = pa.table(DeltaTable(str(written / "t")).get_add_actions(flatten=True)).to_pylist()
    assert sum(add["num_records"] for add in adds) == 25 * 50
    for add in adds:
        assert add["min.id"] <= add["max.id"]


def test_a_checkpoint_alone_carries_the_table(tool, written, tmp_path):
    import shutil
    copy = tmp_path / "t"
    shutil.copytree(written / "t", copy)
    before = multiset(rows_of(tool, tmp_path, "t"))
    for version in range(20):
        (copy / "_delta_log" / f"{version:020d}.json").unlink()
    assert multiset(rows_of(tool, tmp_path, "t")) == before
    assert DeltaTable(str(copy)).to_pyarrow_table().num_rows == 25 * 50
    (copy / "_delta_log" / "_last_checkpoint").write_text("{not json")
    assert multiset(rows_of(tool, tmp_path, "t")) == before
    (copy / "_delta_log" / "_last_checkpoint").write_text('{"version":999999}')
    assert multiset(rows_of(tool, tmp_path, "t")) == before


def test_leftovers_of_a_kill_are_harmless(tool, written, tmp_path):
    import shutil
    copy = tmp_path / "t"
    shutil.copytree(written / "t", copy)
    log = copy / "_delta_log"
    (log / ".tmp-1-2-3").write_bytes(b"half of an ent")
    (log / f"{999:020d}.checkpoint.{1:010d}.{2:010d}.parquet").write_bytes(b"PAR1")
    (copy / "part-orphan.c000.zstd.parquet").write_bytes(b"PAR1")
    (log / f"{20:020d}.checkpoint.parquet").write_bytes(b"torn")
    assert len(rows_of(tool, tmp_path, "t")) == 25 * 50


@pytest.mark.parametrize("point", ["sink_file_written", "sink_file_synced", "delta_entry_written",
                                   "delta_entry_linked", "checkpoint_before_rename",
                                   "checkpoint_before_hint"])
def test_killed_at_a_fault_point_and_run_again_gives_the_same_table(tool, tmp_path, point):
    killed = run(tool, "write", tmp_path, "t", 12, check=False,
                 env={"WEIR_FAULT": f"{point}:1:kill"})
    assert killed.returncode == -9
    run(tool, "write", tmp_path, "t", 12)
    rows = rows_of(tool, tmp_path, "t")
    assert sorted(int(row["id"]) for row in rows) == list(range(12 * 50))
    assert DeltaTable(str(tmp_path / "t")).to_pyarrow_table().num_rows == 12 * 50


def test_we_read_what_deltalake_writes(tool, tmp_path):
    utc = datetime.timezone.utc
    data = pa.table({
        "id": pa.array(range(100), pa.int64()),
        "text": pa.array([None if n % 7 == 0 else f"text {n} ü" for n in range(100)]),
        "number": pa.array([n / 7 for n in range(100)], pa.float64()),
        "price": pa.array([decimal.Decimal(n) / 100 for n in range(100)], pa.decimal128(20, 2)),
        "at": pa.array([datetime.datetime(2024, 1, 1, tzinfo=utc)
                        + datetime.timedelta(microseconds=n * 1234567) for n in range(100)],
                       pa.timestamp("us", tz="UTC")),
        "day": pa.array([datetime.date(1969, 12, 30) + datetime.timedelta(days=n)
                         for n in range(100)]),
        "list": pa.array([None if n % 5 == 0 else list(range(n % 4)) for n in range(100)],
                         pa.list_(pa.int32())),
        "part": pa.array([["a b", "c/d", "ü%", None][n % 4] for n in range(100)]),
    })
    path = str(tmp_path / "d")
    for start in range(0, 100, 10):
        write_deltalake(path, data.slice(start, 10), mode="append", partition_by=["part"])
    table = DeltaTable(path)
    table.create_checkpoint()
    table.delete("id % 10 = 3")
    ours = rows_of(tool, tmp_path, "d")
    assert multiset(ours) == multiset(DeltaTable(path).to_pyarrow_table().to_pylist())
    assert len(rows_of(tool, tmp_path, "d", 9)) == 100
    appended = json.loads(run(tool, "append", tmp_path, "d", "app", 5).stdout)
    assert appended["skipped"] is False
    again = json.loads(run(tool, "append", tmp_path, "d", "app", 5).stdout)
    assert again["skipped"] is True
    assert DeltaTable(path).transaction_version("app") == 5


def test_many_writers_at_once_lose_nothing(tool, written, tmp_path):
    import shutil
    shutil.copytree(written / "t", tmp_path / "t")
    script = f'for i in $(seq 20); do "{tool}" append "{tmp_path}" t app$0 $i >/dev/null || exit 1; done'
    workers = [subprocess.Popen(["bash", "-c", script, str(n)]) for n in range(4)]
    assert [worker.wait() for worker in workers] == [0] * 4
    table = DeltaTable(str(tmp_path / "t"))
    assert table.version() == 25 + 4 * 20
    assert [table.transaction_version(f"app{n}") for n in range(4)] == [20] * 4


# --- golden tables ------------------------------------------------------------------------------

def golden_names():
    folder = GOLDEN / "expected" / "golden"
    return sorted(path.stem for path in folder.glob("*.json")) if folder.is_dir() else []


# Spark 4.0 reads these; we refuse them by the name of the feature they need.
REFUSED = {"collations-preview-table": None, "collations-table": None,
           "spark-variant-checkpoint": "variantType"}


def golden_key(key):
    """Map keys are texts there: numbers by value, and Java object names for nested ones."""
    if isinstance(key, (dict, list)) or str(key).startswith("org.apache."):
        return "nested"
    try:
        return f"{float(key):.7g}"
    except ValueError:
        return key


def golden_value(value):
    """Spark's JSON and ours in one form: doubles to 15 digits, times without trailing zeros."""
    if isinstance(value, dict):
        return {golden_key(k): golden_value(v) for k, v in value.items()} or None
    if isinstance(value, list):
        if value and all(isinstance(v, dict) and list(v) == ["key", "value"] for v in value):
            return {golden_key(v["key"]): golden_value(v["value"]) for v in value}  # a map
        return [golden_value(v) for v in value] or None  # an empty map is {} there and [] here
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float, decimal.Decimal)):
        return f"{float(value):.7g}"
    if isinstance(value, str):
        text = value.replace(" ", "T", 1) if len(value) > 10 and value[4:5] == "-" else value
        if len(text) >= 19 and text[10] == "T":
            text = text.removesuffix("Z").removesuffix("+00:00")
            return text[:23].rstrip("0").rstrip(".") if "." in text else text  # Spark's has ms
        return text
    return value


def golden_rows(rows):
    return collections.Counter(json.dumps(golden_value(row), sort_keys=True) for row in rows)


@pytest.mark.skipif(not golden_names(), reason=f"no golden tables in {GOLDEN} (WEIR_CONFORMANCE)")
@pytest.mark.parametrize("name", golden_names() or ["absent"])
def test_golden_table(tool, name):
    expected = json.loads((GOLDEN / "expected" / "golden" / f"{name}.json").read_text(),
                          parse_float=decimal.Decimal)
    table = name.replace("__", "/")
    root = GOLDEN / "golden"
    if expected["status"] == "error":
        refused = run(tool, "files", root, table, check=False)
        assert refused.returncode == 1, refused.stdout
        assert len(refused.stderr) > 40
        return
    if REFUSED.get(name):
        refused = run(tool, "cat", root, table, check=False)
        assert refused.returncode == 1
        assert REFUSED[name] in refused.stderr
        return
    files = run(tool, "files", root, table, check=False)
    assert files.returncode == 0, files.stderr
    assert int(files.stdout) == expected["detail"]["numFiles"]
    if expected["status"] == "unreadable":
        return
    read = run(tool, "cat", root, table, check=False)
    assert read.returncode == 0, read.stderr
    lines = read.stdout.splitlines()
    assert len(lines) == expected["numRows"]
    if "rows" in expected:
        rows = [json.loads(line, parse_float=decimal.Decimal) for line in lines]
        assert golden_rows(rows) == golden_rows(expected["rows"])
