"""State larger than its memory: keys wait on disk and come back, and nothing tells but the figures."""

import collections
import random

import disk
import lake
import language
import pytest

COLUMNS = {"k": "long!", "v": "long!"}
MODEL = """return model "gold.sum" {
  from = "bronze.row", by = { "k" }, measures = { n = count(), total = sum "v", low = min "v" }, into = delta { mode = "merge" },
}
"""
KEYS = 30000


def write(project, rows, files=8, memory="1MB"):
    random.seed(1)
    project.write("schemas/row.avsc", language.schema(COLUMNS))
    disk.write_pipeline(project, memory)
    project.write("rules/sum.lua", MODEL)
    expected = collections.defaultdict(lambda: [0, 0, 1 << 60])
    for f in range(files):
        lines = []
        for _ in range(rows // files):
            k, v = random.randrange(KEYS), random.randrange(-1000, 1000)
            lines.append('{"k":%d,"v":%d}' % (k, v))
            sums = expected[k]
            sums[0], sums[1], sums[2] = sums[0] + 1, sums[1] + v, min(sums[2], v)
        project.write(f"in/{f:02d}.jsonl", "\n".join(lines) + "\n")
    return {k: tuple(sums) for k, sums in expected.items()}


def result(project):
    rows = lake.by_deltalake(project.root / "lake/gold/sum").to_pylist()
    assert len({row["k"] for row in rows}) == len(rows)
    return {row["k"]: (row["n"], row["total"], row["low"]) for row in rows}


def test_every_key_counts_all_its_rows(project):
    expected = write(project, 90000)
    project.run("pipelines/p.lua")
    assert result(project) == expected
    assert disk.used(project), "so many keys do not fit"
    assert disk.is_empty(project), "nothing of it is left behind"


def test_a_budget_less_than_an_empty_table_keeps_all_on_disk(project):
    expected = write(project, 3000, memory="1KB")
    project.run("pipelines/p.lua")
    assert result(project) == expected


@pytest.mark.parametrize("emit", ["", 'emit = every "100ms", '], ids=["as rows come", "once an interval"])
def test_killed_again_and_again_it_goes_on_from_records_and_snapshots(project, emit):
    expected = write(project, 90000, memory="5MB" if emit else "1MB")
    project.write("rules/sum.lua", MODEL.replace("into =", emit + "into ="))
    disk.kill_again_and_again(project, 4, 0.5)
    project.run("pipelines/p.lua")
    assert result(project) == expected
    assert disk.used(project)


@pytest.mark.parametrize("window", ['window = tumbling { size = "36500d" }, time = { field = "_ingested_at", out_of_order = "1h" },', ""], ids=["windowed", "for ever"])
def test_measures_with_parts_of_their_own_come_back_whole(new_project, window):
    """Texts, collected values and sketches go with their slots."""
    made = []
    for memory in ("1MB", "1GB"):
        project = new_project(memory)
        write(project, 60000, memory=memory)
        project.write("rules/sum.lua", """return model "gold.sum" { from = "bronze.row", by = { "k" }, """ + window + """ into = delta { mode = "%s" },
          measures = { n = count(), half = median "v", all = collect "v", some = approx_distinct "v" } }""" % ("append" if window else "merge"))
        project.run("pipelines/p.lua")
        rows = {row["k"]: row for row in lake.by_deltalake(project.root / "lake/gold/sum").to_pylist()}
        made.append({k: (row["n"], row["half"], row["all"], row["some"]) for k, row in rows.items()})
        assert disk.used(project) == (memory == "1MB")
    assert sum(n for n, *_ in made[0].values()) == 60000
    assert made[0] == made[1]


def test_rows_are_taken_back_from_keys_on_disk(project):
    """A model over a model: what changes upstream is un-counted downstream, wherever it lies."""
    expected = write(project, 60000)
    project.write("rules/sizes.lua", """return model "gold.sizes" {
      from = "gold.sum", by = { "n" }, measures = { keys = count(), total = sum "total" }, into = delta { mode = "merge" } }""")
    project.run("pipelines/p.lua")
    sizes = collections.defaultdict(lambda: [0, 0])
    for n, total, _ in expected.values():
        sizes[n][0] += 1
        sizes[n][1] += total
    rows = lake.by_deltalake(project.root / "lake/gold/sizes").to_pylist()
    assert {row["n"]: (row["keys"], row["total"]) for row in rows} == {n: tuple(s) for n, s in sizes.items()}


def test_a_disk_that_fails_stops_the_run_and_names_the_way_out(project):
    write(project, 90000)
    disk.folder(project).parent.mkdir(parents=True)
    disk.folder(project).write_text("in the way")
    outcome = project.weir("run", "pipelines/p.lua", "--until-end", "--quiet")
    assert outcome.code == 3 and "memory.state" in outcome.err, outcome
    disk.folder(project).unlink()
    project.run("pipelines/p.lua")
