"""The sources `delta` and `parquet`: each row once, whatever is killed, changed or broken in between."""

import datetime
import decimal
import random
import signal
import time

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lake

AT = datetime.datetime(2026, 1, 5, tzinfo=datetime.timezone.utc)
FOLLOW_S = 60


def rows(first, end, **more):
    numbers = range(first, end)
    columns = {
        "id": pa.array(numbers, pa.int64()),
        "name": pa.array([f"n{i} é" if i % 7 else None for i in numbers], pa.string()),
        "at": pa.array([AT + datetime.timedelta(seconds=i) for i in numbers], pa.timestamp("us", "UTC")),
        "price": pa.array([decimal.Decimal(i) / 100 for i in numbers], pa.decimal128(12, 2)),
        "day": pa.array([f"d {i % 3}" for i in numbers], pa.string()),
        "tags": pa.array([[f"t{i}", None] if i % 5 else [] for i in numbers], pa.list_(pa.string())),
    }
    return pa.table({**columns, **{name: pa.array([value(i) for i in numbers]) for name, value in more.items()}})


def pipeline(project, source, every="50ms"):
    project.write("pipelines/p.lua", f"""return pipeline "p" {{
  storage = delta {{ root = "lake" }}, commit = {{ every = "{every}" }},
  sources = {{ source "bronze.t" {{ {source} }} }},
}}""")


def result(project, name="bronze/t"):
    return lake.by_deltalake(project.root / "lake" / name)


def ids(project):
    return sorted(result(project).column("id").to_pylist())


def same_rows(project, expected):
    columns = ["id", "name", "at", "price", "day", "tags"]
    got = lake.rows_of(result(project), columns)
    want = lake.rows_of(expected, columns)
    assert sorted(got, key=lambda row: row[0]) == sorted(want, key=lambda row: row[0])


def wait_for(what, process):
    deadline = time.monotonic() + FOLLOW_S
    while time.monotonic() < deadline:
        if what():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("not seen in time")


# ---------------------------------------------------------------- delta

def table(project):
    return str(project.root / "in/t")


def test_a_tables_rows_then_what_is_appended(project):
    deltalake.write_deltalake(table(project), rows(0, 9000), partition_by=["day"])
    deltalake.write_deltalake(table(project), rows(9000, 10000), mode="append")
    pipeline(project, 'delta { path = "in/t" }')
    assert project.run("pipelines/p.lua")["events"] == 10000
    same_rows(project, rows(0, 10000))
    assert project.run("pipelines/p.lua")["events"] == 0
    deltalake.write_deltalake(table(project), rows(10000, 10500), mode="append")
    deltalake.DeltaTable(table(project)).optimize.compact()  # moves rows, changes none
    deltalake.write_deltalake(table(project), rows(10500, 10600), mode="append")
    assert project.run("pipelines/p.lua")["events"] == 600
    same_rows(project, rows(0, 10600))


@pytest.mark.parametrize("option", ['start = "latest"', "from_version = 1"])
def test_it_begins_where_told(project, option):
    deltalake.write_deltalake(table(project), rows(0, 100))
    deltalake.write_deltalake(table(project), rows(100, 150), mode="append")
    pipeline(project, f'delta {{ path = "in/t", {option} }}')
    expected = 0 if "latest" in option else 50
    assert project.run("pipelines/p.lua")["events"] == expected
    deltalake.write_deltalake(table(project), rows(150, 170), mode="append")
    assert project.run("pipelines/p.lua")["events"] == 20
    assert ids(project) == list(range(150 if expected == 0 else 100, 170))


def test_a_version_beyond_the_newest_is_refused(project):
    deltalake.write_deltalake(table(project), rows(0, 10))
    pipeline(project, 'delta { path = "in/t", from_version = 7 }')
    outcome = project.weir("run", "pipelines/p.lua", "--until-end")
    assert outcome.code != 0
    assert "from_version = 7, but its newest version is 0" in outcome.err


def test_a_commit_that_takes_rows_stops_it_or_is_passed_over(project):
    deltalake.write_deltalake(table(project), rows(0, 100))
    pipeline(project, 'delta { path = "in/t" }')
    project.run("pipelines/p.lua")
    deltalake.DeltaTable(table(project)).delete("id < 10")
    deltalake.write_deltalake(table(project), rows(100, 120), mode="append")
    outcome = project.weir("run", "pipelines/p.lua", "--until-end")
    assert outcome.code != 0
    assert "version 1 deletes or rewrites rows" in outcome.err and "skip_change_commits = true" in outcome.err
    pipeline(project, 'delta { path = "in/t", skip_change_commits = true }')
    assert project.run("pipelines/p.lua")["events"] == 20
    assert ids(project) == list(range(120))


def test_rows_a_deletion_vector_hides_are_not_read(project):
    project.write("schemas/s.avsc", '{"type":"record","name":"s","fields":[{"name":"id","type":"long"},{"name":"v","type":"string"}]}')
    project.write("landing/a.jsonl", "".join(f'{{"id":{i},"v":"a"}}\n' for i in range(5000)))
    project.write("pipelines/up.lua", """return pipeline "up" { rules = "uprules", storage = delta { root = "up" },
      sources = { source "bronze.s" { files { path = "landing/*.jsonl" }, json { schema = "schemas/s.avsc" }, into = none } } }""")
    project.write("uprules/silver/s.lua", """return stream "silver.s" { from = "bronze.s", key = "id",
      into = delta { mode = "merge", properties = { ["delta.enableDeletionVectors"] = "true" } } }""")
    project.run("pipelines/up.lua")
    project.write("landing/b.jsonl", "".join(f'{{"id":{i},"v":"b"}}\n' for i in range(0, 5000, 9)))
    project.run("pipelines/up.lua")
    log = "".join(path.read_text() for path in (project.root / "up/silver/s/_delta_log").glob("*.json"))
    assert '"deletionVector"' in log, "the table has no deletion vector to be read"
    pipeline(project, 'delta { path = "up/silver/s" }')
    assert project.run("pipelines/p.lua")["events"] == 5000
    got = sorted(zip(result(project).column("id").to_pylist(), result(project).column("v").to_pylist()))
    assert got == [(i, "b" if i % 9 == 0 else "a") for i in range(5000)]


def test_a_table_weir_wrote_keeps_what_was_rescued(project):
    project.write("schemas/s.avsc", '{"type":"record","name":"s","fields":[{"name":"id","type":"long"}]}')
    project.write("landing/a.jsonl", '{"id":1}\n{"id":2,"x":[1,"é"]}\n')
    project.write("pipelines/up.lua", """return pipeline "up" { storage = delta { root = "up" },
      sources = { source "bronze.s" { files { path = "landing/*.jsonl" }, json { schema = "schemas/s.avsc" } } } }""")
    project.run("pipelines/up.lua")
    pipeline(project, 'delta { path = "up/bronze/s" }')
    project.run("pipelines/p.lua")
    got = sorted(lake.rows_of(result(project), ["id", "_rescued", "_topic", "_offset"]))
    assert got == [(1, None, "up/bronze/s", 0), (2, '{"x":[1,"é"]}', "up/bronze/s", 1)]


def test_what_was_rescued_is_joined(project):
    deltalake.write_deltalake(table(project), pa.table({"id": pa.array([1], pa.int64()), "_rescued": [None]}, schema=pa.schema(
        [("id", pa.int64()), ("_rescued", pa.string())])))
    pipeline(project, 'delta { path = "in/t" }')
    process = project.start("run", "pipelines/p.lua")
    try:
        wait_for(lambda: (project.root / "lake/bronze/t/_delta_log").exists() and len(result(project)) == 1, process)
        more = pa.table({"id": pa.array([2, 3, 4], pa.int64()), "_rescued": ['{"a":1}', "{}", None], "y": pa.array([5, 6, None], pa.int64())})
        deltalake.write_deltalake(table(project), more, mode="append", schema_mode="merge")
        wait_for(lambda: len(result(project)) == 4, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    got = sorted(lake.rows_of(result(project), ["id", "_rescued"]))
    assert got == [(1, None), (2, '{"a":1,"y":5}'), (3, '{"y":6}'), (4, None)]


def test_a_column_the_table_gains_is_rescued(project):
    deltalake.write_deltalake(table(project), rows(0, 10))
    pipeline(project, 'delta { path = "in/t" }')
    project.run("pipelines/p.lua")
    process = project.start("run", "pipelines/p.lua")
    try:
        deltalake.write_deltalake(table(project), rows(10, 20), mode="append")
        wait_for(lambda: len(result(project)) == 20, process)  # it runs; a column it found at its start would be one of its own
        deltalake.write_deltalake(table(project), rows(20, 5000, more=lambda i: i * 3 if i % 2 else None), mode="append", schema_mode="merge")
        wait_for(lambda: len(result(project)) == 5000, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
    rescued = dict(zip(result(project).column("id").to_pylist(), result(project).column("_rescued").to_pylist()))
    assert rescued == {i: f'{{"more":{i * 3}}}' if i >= 20 and i % 2 else None for i in range(5000)}
    deltalake.write_deltalake(table(project), rows(5000, 5010, more=lambda i: i), mode="append")
    project.run("pipelines/p.lua")
    got = dict(zip(result(project).column("id").to_pylist(), result(project).column("more").to_pylist()))
    assert got == {i: i if i >= 5000 else None for i in range(5010)}


def test_another_table_at_its_place_is_refused(project):
    deltalake.write_deltalake(table(project), rows(0, 10))
    pipeline(project, 'delta { path = "in/t" }')
    project.run("pipelines/p.lua")
    (project.root / "in/t").rename(project.root / "in/old")
    deltalake.write_deltalake(table(project), rows(0, 10))
    outcome = project.weir("run", "pipelines/p.lua", "--until-end")
    assert outcome.code != 0 and "is another table than the one that was being read" in outcome.err


def test_a_table_that_is_not_there_is_told_by_check(project):
    pipeline(project, 'delta { path = "in/none" }')
    outcome = project.weir("check", "pipelines/p.lua")
    assert outcome.code == 1 and "pipelines/p.lua:3:" in outcome.err and "in/none" in outcome.err


def test_epochs_of_a_table_replay_as_they_were(project):
    deltalake.write_deltalake(table(project), rows(0, 20000))
    pipeline(project, 'delta { path = "in/t" }')
    epochs = project.run("pipelines/p.lua")["epochs"]
    for epoch in range(1, epochs + 1):
        outcome = project.weir("replay", "--epoch", str(epoch), "pipelines/p.lua")
        assert outcome.code == 0, outcome


def killed_again_and_again(project, grow, total):
    """Runs, kills and starts again while `grow` puts more there; each row is there once at the end."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for step in range(6):
        grow(step)
        process = project.start("run", "pipelines/p.lua")
        try:
            time.sleep(chance.uniform(0.02, 0.4))
        finally:
            process.kill()
            process.communicate()
    project.run("pipelines/p.lua")
    assert ids(project) == list(range(total))


def test_a_table_followed_through_kills(project):
    deltalake.write_deltalake(table(project), rows(0, 30000))
    pipeline(project, 'delta { path = "in/t" }')
    killed_again_and_again(project, lambda step: deltalake.write_deltalake(
        table(project), rows(30000 + step * 1000, 31000 + step * 1000), mode="append"), 36000)


# ---------------------------------------------------------------- parquet

def write(project, name, data, **options):
    (project.root / "in").mkdir(exist_ok=True)
    temporary = project.root / f"in/.{name}.part"
    pq.write_table(data, temporary, **options)
    temporary.rename(project.root / f"in/{name}")


def test_each_parquet_file_once(project):
    write(project, "a.parquet", rows(0, 5000), row_group_size=700, compression="zstd")
    write(project, "b.parquet", rows(5000, 9000), use_dictionary=False, data_page_version="2.0", compression="snappy")
    pipeline(project, 'parquet { path = "in/*.parquet" }')
    assert project.run("pipelines/p.lua")["events"] == 9000
    write(project, "c.parquet", rows(9000, 9001))
    write(project, "d.parquet", rows(0, 0))
    assert project.run("pipelines/p.lua")["events"] == 1
    assert project.run("pipelines/p.lua")["events"] == 0
    same_rows(project, rows(0, 9001))
    assert set(result(project).column("_topic").to_pylist()) == {f"in/{name}.parquet" for name in "abc"}
    assert project.weir("replay", "--epoch", "1", "pipelines/p.lua").code == 0


def test_files_that_differ_in_columns(project):
    write(project, "a.parquet", rows(0, 10))
    write(project, "b.parquet", rows(10, 20, extra=lambda i: f"x{i}").drop_columns(["name"]))
    narrow = rows(20, 30)
    write(project, "c.parquet", narrow.set_column(0, "id", narrow.column("id").cast(pa.int32())))
    pipeline(project, 'parquet { path = "in/*.parquet" }')
    project.run("pipelines/p.lua")
    got = {row[0]: row[1:] for row in lake.rows_of(result(project), ["id", "name", "_rescued"])}
    assert got == {i: ((f"n{i} é" if i % 7 else None) if not 10 <= i < 20 else None, f'{{"extra":"x{i}"}}' if 10 <= i < 20 else None)
                   for i in range(30)}


def test_a_column_of_another_type_stops_it_by_name(project):
    write(project, "a.parquet", rows(0, 10))
    data = rows(10, 20)
    write(project, "b.parquet", data.set_column(0, "id", data.column("id").cast(pa.string())))
    pipeline(project, 'parquet { path = "in/*.parquet" }')
    outcome = project.weir("run", "pipelines/p.lua", "--until-end")
    assert outcome.code != 0 and "in/b.parquet" in outcome.err and "column id is int64" in outcome.err
    write(project, "b.parquet", rows(10, 20))
    project.run("pipelines/p.lua")
    assert ids(project) == list(range(20))


def test_rows_that_do_not_fit_the_schema_are_quarantined(project):
    project.write("schemas/s.avsc", """{"type": "record", "name": "s", "fields": [
      {"name": "id", "type": "long"}, {"name": "name", "type": ["null", "string"]}, {"name": "tags", "type": ["null", {"type": "array", "items": "string"}]}]}""")
    bad = pa.array([b"ok", b"caf\xe9", b"fine", b"also"], pa.binary()).view(pa.string())
    nested = pa.array([[b"x"], [b"y"], [b"y", b"\xff"], None], pa.list_(pa.binary())).cast(pa.list_(pa.binary()))
    nested = pa.ListArray.from_arrays(nested.offsets, nested.values.view(pa.string()), mask=nested.is_null())
    write(project, "a.parquet", pa.table({"id": pa.array([1, 2, 3, None], pa.int64()), "name": bad, "tags": nested}))
    pipeline(project, 'parquet { path = "in/*.parquet", schema = "schemas/s.avsc" }')
    summary = project.run("pipelines/p.lua")
    assert summary["datasets"]["bronze.t"]["out"] == 1
    assert ids(project) == [1]
    quarantine = result(project, "quarantine/bronze/t")
    reasons = dict(zip(quarantine.column("_offset").to_pylist(), quarantine.column("_reasons").to_pylist()))
    assert sorted(reasons) == [1, 2, 3]
    assert "UTF-8" in str(reasons[1]) and "UTF-8" in str(reasons[2]) and "null where" in str(reasons[3])


def test_a_file_replaced_while_it_is_read_is_refused(project):
    write(project, "a.parquet", rows(0, 600000))
    pipeline(project, 'parquet { path = "in/*.parquet" }', every="20ms")
    process = project.start("run", "pipelines/p.lua", env={"WEIR_FAULT": "delta_before_commit:2:kill"})
    process.communicate(timeout=60)
    write(project, "a.parquet", rows(0, 100))
    outcome = project.weir("run", "pipelines/p.lua", "--until-end")
    assert outcome.code != 0 and "is not the file that was being read" in outcome.err


def test_a_half_written_file_is_waited_for(project):
    write(project, "a.parquet", rows(0, 10))
    pipeline(project, 'parquet { path = "in/*.parquet", settle = "60s" }')
    process = project.start("run", "pipelines/p.lua")
    try:
        wait_for(lambda: (project.root / "lake/bronze/t/_delta_log").exists() and len(result(project)) == 10, process)
        whole = project.root / "b.part"
        pq.write_table(rows(10, 5000), whole)
        data = whole.read_bytes()
        with open(project.root / "in/b.parquet", "wb") as out:
            out.write(data[: len(data) // 2])
            out.flush()
            time.sleep(0.6)  # it looks at least twice
            assert process.poll() is None
            out.write(data[len(data) // 2:])
        wait_for(lambda: len(result(project)) == 5000, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
    assert ids(project) == list(range(5000))


def test_a_broken_file_is_told_by_name(project):
    write(project, "a.parquet", rows(0, 10))
    project.write("in/b.parquet", b"PAR1 this is no such file PAR1")
    pipeline(project, 'parquet { path = "in/*.parquet" }')
    outcome = project.weir("run", "pipelines/p.lua", "--until-end")
    assert outcome.code != 0 and "in/b.parquet" in outcome.err
    write(project, "b.parquet", rows(10, 20))
    project.run("pipelines/p.lua")
    assert ids(project) == list(range(20))


def test_no_file_to_take_columns_from(project):
    pipeline(project, 'parquet { path = "in/*.parquet" }')
    outcome = project.weir("check", "pipelines/p.lua")
    assert outcome.code == 1 and "put the first one there, or say schema" in outcome.err


def test_parquet_files_followed_through_kills(project):
    write(project, "a.parquet", rows(0, 30000), row_group_size=3000)
    pipeline(project, 'parquet { path = "in/*.parquet" }')
    killed_again_and_again(project, lambda step: write(project, f"b{step}.parquet", rows(30000 + step * 1000, 31000 + step * 1000)), 36000)
