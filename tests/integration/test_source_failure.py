"""A source that fails: what it gave before is sealed and visible, the run tells why it ended, and the next start goes on."""

import gzip
import json

import pytest

import lake

PIPELINE = """\
return pipeline "plant" {
  storage = delta { root = "lake" },
  rules   = "rules",
  commit  = { every = "10s" },
  sources = {
    source "bronze.reading" { files { path = "landing/*" }, json { schema = "schemas/reading.avsc" }, into = none },
    source "bronze.other" { files { path = "other/*.jsonl" }, json { schema = "schemas/reading.avsc" } },
  },
}
"""
RULES = """\
return stream "silver.reading" {
  from    = "bronze.reading",
  columns = { sensor = "string", value = "double" },
}
"""
SCHEMA = {"type": "record", "name": "reading", "fields": [{"name": "sensor", "type": "string"}, {"name": "value", "type": "double"}]}
ROWS = 60_000


def lines(first, count):
    return b"".join(b'{"sensor":"s%d","value":%d.5}\n' % (i % 7, i) for i in range(first, first + count))


@pytest.fixture
def plant(project):
    project.write("pipelines/plant.lua", PIPELINE)
    project.write("rules/reading.lua", RULES)
    project.write("schemas/reading.avsc", json.dumps(SCHEMA))
    project.write("landing/a.jsonl", lines(0, 10))
    project.write("other/x.jsonl", lines(0, 1000))
    return project


def values(project):
    return sorted(lake.by_deltalake(project.root / "lake/silver/reading").column("value").to_pylist())


def first_of_all(found):
    """A source gives its rows in order: those that are there are the first ones."""
    assert found == [i + 0.5 for i in range(len(found))]
    return len(found)


def test_rows_before_a_cut_archive_are_kept_and_the_whole_one_goes_on_from_there(plant):
    whole = gzip.compress(lines(10, ROWS), mtime=0)
    plant.write("landing/b.jsonl.gz", whole[:len(whole) * 2 // 3])
    outcome = plant.run("pipelines/plant.lua", code=3)
    assert "b.jsonl.gz" in outcome.err and "replace it with a whole copy" in outcome.err, outcome
    assert first_of_all(values(plant)) > ROWS // 3
    plant.write("landing/b.jsonl.gz", whole)
    plant.run("pipelines/plant.lua")
    assert first_of_all(values(plant)) == ROWS + 10
    assert lake.by_deltalake(plant.root / "lake/bronze/other").num_rows == 1000


def test_rows_before_a_file_that_is_no_archive_are_kept(plant):
    plant.write("landing/b.jsonl.zst", b"no archive at all")
    outcome = plant.run("pipelines/plant.lua", code=3)
    assert "b.jsonl.zst" in outcome.err, outcome
    assert first_of_all(values(plant)) == 10
    (plant.root / "landing/b.jsonl.zst").unlink()
    plant.write("landing/b.jsonl", lines(10, 5))
    plant.run("pipelines/plant.lua")
    assert first_of_all(values(plant)) == 15
