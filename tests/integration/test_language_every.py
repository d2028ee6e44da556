"""`emit = every "1s"`: rows of a model that changes leave once an interval of the recorded clock, with what they came to."""

import random
import signal
import time

import pytest

from language import D, World, assert_refused, at, place

COLUMNS = {"id": "long!", "k": "int!", "v": "decimal(12,2)", "name": "string", "at": "timestamp!"}
MODELS = """return {
  model "gold.sum" { from = "bronze.row", by = { "k" }, emit = every "EVERY",
    measures = { n = count(), total = sum "v", most = max "v", longest = max "name" } },
  model "gold.minute" { from = "bronze.row", time = { field = "at", out_of_order = "1h" }, by = { "k" }, window = tumbling "1m", emit = every "EVERY",
    measures = { n = count(), total = sum "v" } },
  model "gold.all" { from = "gold.sum", by = { "n" }, measures = { keys = count(), total = sum "total" } },
}
"""


def drawn(count, seed=1):
    draw = random.Random(seed)
    return [{"id": index, "k": draw.randrange(40), "v": None if draw.random() < 0.1 else f"{draw.randrange(9000) / 100:.2f}",
             "name": draw.choice([None, "a", "some longer text", "zz"]), "at": at(f"10:{draw.randrange(10):02}:{draw.randrange(60):02}")} for index in range(count)]


def judge(world, rows):
    groups, minutes = {}, {}
    for row in rows:
        groups.setdefault(row["k"], []).append(row)
        minutes.setdefault((row["k"], row["at"][:16]), []).append(row)

    def total(members):
        values = [D(row["v"]) for row in members if row["v"] is not None]
        return sum(values) if values else None

    def names(members):
        return [row["name"] for row in members if row["name"] is not None]
    assert sorted(world.rows("gold.sum", "k", "n", "total", "most", "longest")) == sorted(
        (k, len(members), total(members), max(D(row["v"]) for row in members if row["v"] is not None), max(names(members))) for k, members in groups.items())
    assert sorted(((k, start.strftime("%Y-%m-%dT%H:%M"), n, value) for k, start, n, value in world.rows("gold.minute", "k", "window_start", "n", "total")), key=str) == sorted(
        ((k, minute, len(members), total(members)) for (k, minute), members in minutes.items()), key=str)
    sizes = {}
    for members in groups.values():
        sizes.setdefault(len(members), []).extend(members)
    assert sorted(world.rows("gold.all", "n", "keys", "total")) == sorted((n, len(members) // n, total(members)) for n, members in sizes.items())


@pytest.mark.parametrize("every", ["1ms", "50ms", "1h"])
def test_what_has_left_at_the_end_is_what_the_rows_come_to(project, every):
    rows = drawn(8000)
    world = World(project, COLUMNS, MODELS.replace("EVERY", every), rows).run("--set", "commit.every=20ms")
    judge(world, rows)
    if every == "1h":
        assert world.counts("gold.sum")["out"] == 40, "a group leaves once an interval"


def test_what_waits_outlives_kills(project):
    rows = drawn(12_000, 2)
    world = World(project, COLUMNS, MODELS.replace("EVERY", "70ms"), [])
    for part in range(6):
        world.feed(rows[part * 2000:(part + 1) * 2000], f"part{part}.jsonl")
    draw = random.Random(3)
    for _ in range(6):
        process = project.start("run", "pipelines/p.lua", "--json", "--set", "commit.every=20ms", "--set", "ledger.snapshot_every=50ms")
        time.sleep(0.1 + draw.random() * 0.5)
        process.send_signal(signal.SIGKILL)
        process.wait()
    world.run("--set", "commit.every=20ms")
    judge(world, rows)


SPEC = """local testing = require "weir.testing"
describe("gold.sum", function()
  it("tells once a second what the rows came to", function()
    local model = testing.load "gold.sum"
    local row = testing.record { id = 1, k = 1, v = "1.00", at = "2026-01-05T10:00:00Z" }
    model:feed(row {}, row {}):feed(row {})
    assert.same({}, model:rows())
    model:clock "+1s"
    assert.same(3, model:rows()[1].n)
    model:feed(row {}):clock "+100ms"
    model:feed(row {}):clock "+1s"
    local rows = model:rows()
    assert.same(5, rows[#rows].n)
  end)
end)
"""


def test_it_leaves_when_the_clock_begins_another_interval(project):
    World(project, COLUMNS, MODELS.replace("EVERY", "1s"), [])
    project.write("spec/sum_spec.lua", SPEC)
    outcome = project.weir("test")
    assert outcome.code == 0, outcome


def test_an_epoch_is_replayed_with_what_waited(project):
    world = World(project, COLUMNS, MODELS.replace("EVERY", "30ms"), drawn(100_000), options='\n  ledger = { keep = "1h" },').run("--set", "commit.every=20ms")
    epochs = world.summary["epochs"]
    assert epochs > 1
    for epoch in sorted({1, epochs // 2, epochs}):
        outcome = project.weir("replay", "pipelines/p.lua", "--epoch", str(epoch))
        assert outcome.code == 0 and "differ" not in outcome.out.replace("does not differ", ""), outcome


@pytest.mark.parametrize("model, marked, text", [
    ('emit = every "soon", measures = { n = count() }', '"soon"', "a duration"),
    ('emit = every "10us", measures = { n = count() }', '"10us"', "at least 1ms"),
    ('emit = every "1s", measures = { n = distinct "k" }', "emit", "not built yet"),
    ('emit = every "1s", time = { field = "at" }, measures = { n = sum("v", { over = "1h" }) }', "emit", "not built yet"),
])
def test_what_every_cannot_do_is_said(project, model, marked, text):
    rule = f'return model "gold.m" {{ from = "bronze.row", by = {{ "k" }}, {model} }}\n'
    assert_refused(World(project, COLUMNS, rule), place(rule, marked), text)
