"""The standard pipeline end to end: every table equals what the oracle computes, for every reader."""

import json

import pytest

import events
import lake
import oracle
import standard

PIPELINE = "pipelines/standard.lua"


def prepare(project, seed, rows=4000, **options):
    standard.write(project, **options)
    events.Events(seed, rows).write(project.root / "landing")
    return oracle.compute(project.root / "landing")


def check_table(path, types, rows, what):
    columns = list(types)
    expected = [tuple(row[name] for name in columns) for row in rows]
    for reader, read in lake.READERS.items():
        table = read(path)
        seen = {name: table.schema.field(name).type for name in table.column_names if name in types}
        assert list(seen) == columns, f"{what} by {reader}: columns {table.column_names}"
        if reader == "deltalake":
            assert seen == types, f"{what}: types {seen}"
        lake.assert_same_rows(lake.rows_of(table, columns), expected, columns, f"{what} by {reader}")


def check_quarantine(path, expected, columns, what):
    table = lake.by_deltalake(path)
    names = [tuple(sorted(reason["expectation"] for reason in reasons)) for reasons in table.column("_reasons").to_pylist()]
    actual = [row + (name,) for row, name in zip(lake.rows_of(table, columns), names)]
    wanted = [tuple(row[name] for name in columns) + (tuple(failed),) for row, failed in expected]
    lake.assert_same_rows(actual, wanted, [*columns, "_reasons"], what)


def check_everything(project, expected, summary):
    root = project.root / "lake"
    inputs = [name for name, *_ in standard.INPUT]
    check_table(root / "silver/sale", oracle.SILVER_TYPES, expected.silver, "silver")
    check_table(root / "gold/velocity", oracle.GOLD_TYPES, expected.gold, "gold")
    check_quarantine(root / "quarantine/silver/sale", expected.quarantine, inputs, "quarantine")
    late = lake.by_deltalake(root / "quarantine/late_sale")
    lake.assert_same_rows(lake.rows_of(late, standard.SILVER), [tuple(r[n] for n in standard.SILVER) for r in expected.late],
                          standard.SILVER, "late")
    undecodable = lake.by_deltalake(root / "quarantine/bronze/sale").column("_raw").to_pylist()
    assert sorted(raw.rstrip(b"\r") for raw in undecodable) == sorted(expected.undecodable)
    assert summary["events"] == expected.counts["bronze.sale"]["in"]
    for name, counts in expected.counts.items():
        seen = summary["datasets"][name]
        if name == "gold.velocity":  # a window is not a row read
            counts = {key: counts[key] for key in ("in", "out", "late")}
        assert {key: seen[key] for key in counts} == counts, name


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_table_equals_the_oracles(project, seed):
    expected = prepare(project, seed)
    check_everything(project, expected, project.run(PIPELINE))


def test_bronze_keeps_every_decoded_row_and_its_unknown_fields(project):
    expected = prepare(project, seed=4, rows=1500)
    project.run(PIPELINE)
    types = {name: oracle.arrow_type(name, kind) for name, kind, *_ in standard.INPUT}
    check_table(project.root / "lake/bronze/sale", types, expected.bronze, "bronze")
    rescued = [json.loads(text) for text in lake.by_deltalake(project.root / "lake/bronze/sale").column("_rescued").to_pylist() if text]
    assert len(rescued) > 20
    assert all(value == {"unknown_field": {"a": [1, 2.5, None], "b": "x"}} for value in rescued)


def tables(project):
    return {name: lake.exact_table(project.root / "lake" / name) for name in ("silver/sale", "gold/velocity")}


def assert_same_tables(actual, expected):
    for name, table in expected.items():
        assert lake.exact_differences(actual[name], table) == ([], []), name


def test_no_result_depends_on_epoch_length(new_project):
    found = []
    for every in ("20ms", "1s"):
        project = new_project(every)
        prepare(project, seed=5, rows=3000, bronze=False)
        project.run(PIPELINE, "--set", f"commit.every={every}")
        found.append(tables(project))
        assert not (project.root / "lake/bronze").exists()
    assert_same_tables(*found)


def test_running_again_over_the_same_files_adds_nothing(project):
    expected = prepare(project, seed=6, rows=1500)
    project.run(PIPELINE)
    before = tables(project)
    project.run(PIPELINE)
    assert_same_tables(tables(project), before)
    assert before["silver/sale"].num_rows == len(expected.silver)


def test_empty_input_ends_well(project):
    standard.write(project)
    project.write("landing/empty.jsonl", b"")
    summary = project.run(PIPELINE)
    assert summary["events"] == 0
