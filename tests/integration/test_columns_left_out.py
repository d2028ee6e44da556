"""Columns nobody reads are not decoded (docs/adr/0021): nobody sees the difference, whatever is refused, replayed or reloaded."""

import contextlib
import json
import os
import threading
import time

import lake
import pytest

SCHEMA = """{"type": "record", "name": "event", "fields": [
  {"name": "id", "type": "long"}, {"name": "extra", "type": "string"}, {"name": "tags", "type": {"type": "array", "items": "string"}},
  {"name": "bid", "type": ["null", {"type": "record", "name": "bid", "fields": [
    {"name": "price", "type": "long"}, {"name": "note", "type": ["null", "string"]}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}}]}]}]}
"""
PIPELINE = """return pipeline "p@STAMP@" {
  rules   = "rules",
  storage = delta { root = "lake" },
  commit  = { every = "50ms" },
  sources = { source "bronze.event" { kafka { brokers = "@BROKERS@", topic = "@TOPIC@" }, json { schema = "schemas/event.avsc" }, into = none } },
}
"""
PRICES = """return stream "silver.price" {
  from    = "bronze.event",
  where   = function(e) return e.id >= 0 end,
  columns = { number = "int64", price = "int64" },
  map     = function(e, out)
    local bid = e.bid
    out.number, out.price = e.id, bid.price + 1
  end,
  drop    = { "id", "extra", "tags", "bid" },
}
"""


@pytest.fixture
def topic(kafka, request):
    return kafka.create_topic(f"left-out-{time.time_ns()}", partitions=2)


@pytest.fixture
def events(project, kafka, topic):
    project.write("schemas/event.avsc", SCHEMA)
    project.write("pipelines/p.lua", PIPELINE.replace("@STAMP@", str(time.time_ns())).replace("@BROKERS@", kafka.plaintext).replace("@TOPIC@", topic))
    return project


def event(number, **changes):
    return {"id": number, "extra": f"x{number}", "tags": ["a", f"t{number}"], "bid": {"price": number * 10, "note": f"n\n{number}", "at": number}, **changes}


def produce(kafka, topic, values):
    kafka.produce(topic, [{"value": value if isinstance(value, str) else json.dumps(value)} for value in values])


def table(project, name):
    path = project.root / "lake" / name.replace(".", "/")
    return lake.by_deltalake(path).to_pylist() if any(path.glob("_delta_log/*.json")) else []


class Run:
    def __init__(self, project):
        self.project, self.said = project, []
        self.process = project.start("run", "pipelines/p.lua", "--json", "--set", "commit.every=500ms")
        self.listener = threading.Thread(target=lambda: self.said.extend(self.process.stderr))
        self.listener.start()

    def wait_for(self, check, seconds=120):
        give_up = time.monotonic() + seconds
        while not check():
            assert self.process.poll() is None and time.monotonic() < give_up, self.said
            time.sleep(0.05)

    def taken(self):
        status = next(self.project.root.glob("lake/_weir/*/ledger/status.json"), None)
        return json.loads(status.read_text())["events"] if status else 0

    def lives(self):
        """How often rules were reloaded."""
        return sum("is live" in line for line in self.said)


@contextlib.contextmanager
def running(project):
    run = Run(project)
    try:
        yield run
    finally:
        run.process.terminate()
        run.process.wait(timeout=60)
        run.listener.join()
        run.process.stdout.close()
        run.process.stderr.close()
    assert run.process.returncode == 0, run.said


def test_explain_names_what_is_read(events):
    events.write("rules/price.lua", PRICES)
    outcome = events.weir("explain", "bronze.event")
    assert "read of it   id, bid.price\n" in outcome.out, outcome


def test_a_row_refused_is_whole_and_what_did_not_decode_is_refused_as_ever(events, kafka, topic):
    events.write("rules/price.lua", PRICES)
    produce(kafka, topic, [event(n) for n in range(500)] + [
        event(500, bid=None), event(501, extra=5), event(502, tags=["a", 1]), event(503, bid={"price": 1, "note": "n", "at": "never"}),
        json.dumps(event(504)).replace('"x504"', '"x\\q"'), event(505, bid=None, extra="y" * 5000), event(-1)])
    summary = events.run("pipelines/p.lua")
    assert sorted((row["number"], row["price"]) for row in table(events, "silver.price")) == [(n, n * 10 + 1) for n in range(500)]
    refused = {row["id"]: row for row in table(events, "quarantine.silver.price")}
    assert sorted(refused) == [500, 505]
    assert [(row["extra"], row["tags"], row["bid"]) for row in (refused[500], refused[505])] == [
        ("x500", ["a", "t500"], None), ("y" * 5000, ["a", "t505"], None)]
    assert [reason["expectation"] for reason in refused[500]["_reasons"]] == ["map"]
    raw = {json.loads(row["_raw"])["id"] if b"\\q" not in row["_raw"] else 504: row["_reasons"][0]["error"] for row in table(events, "quarantine.bronze.event")}
    assert raw == {501: "extra: 5 is not string, at byte 21", 502: raw[502], 503: raw[503], 504: raw[504]}, raw
    assert raw[502].startswith("tags[1]: 1 is not string") and raw[503].startswith("bid.at: ") and raw[504].startswith("extra: bad escape")
    assert summary["datasets"]["silver.price"]["filtered"] == 1
    outcome = events.weir("replay", "pipelines/p.lua", "--epoch", "1")
    assert outcome.code == 0, outcome


SLOW = """return stream "silver.price" {
  from    = "bronze.event",
  columns = { number = "int64", version = "int32", extra_seen = "string" },
  map     = function(e, out)
    local sum = 0
    for i = 1, 20000 do
      sum = (sum + i) % 7
    end
    out.number, out.version, out.extra_seen = e.id, sum - sum + @VERSION@, @EXTRA@
  end,
  drop    = { "id", "extra", "tags", "bid" },
}
"""


def test_rules_that_read_more_find_it_in_rows_decoded_before(events, kafka, topic):
    """Rings are full of batches of the old rules when the new ones take over."""
    total = 60_000

    def save(version, extra):
        fresh = events.write("fresh", SLOW.replace("@VERSION@", str(version)).replace("@EXTRA@", extra))
        os.replace(fresh, events.root / "rules/price.lua")

    (events.root / "rules").mkdir(exist_ok=True)
    save(1, '"unread"')
    produce(kafka, topic, (event(n) for n in range(total)))
    with running(events) as run:
        run.wait_for(lambda: run.taken() > 0)
        for version, extra in ((2, "e.bid.note .. e.extra .. e.tags[2]"), (3, '"unread"')):
            save(version, extra)
            run.wait_for(lambda: run.lives() == version - 1)
        run.wait_for(lambda: run.taken() >= total)
    rows = table(events, "silver.price")
    assert sorted(row["number"] for row in rows) == list(range(total))
    assert {row["version"] for row in rows} >= {1, 2}, "all rows came before the rules were changed"
    for row in rows:
        number = row["number"]
        assert row["extra_seen"] == (f"n\n{number}x{number}t{number}" if row["version"] == 2 else "unread"), row


def test_a_column_added_while_it_runs_is_read_beside_those_left_out(events, kafka, topic):
    rule = PRICES.replace('number = "int64", ', 'number = "int64", seen = "string", ')
    events.write("rules/price.lua", rule.replace("bid.price + 1", "bid.price + 1\n    out.seen = e.extra"))
    produce(kafka, topic, [event(n) for n in range(500)])
    with running(events) as run:
        run.wait_for(lambda: run.taken() == 500)
        events.write("schemas/event.avsc", SCHEMA.replace('{"name": "tags"', '{"name": "more", "type": "string", "default": "none"}, {"name": "tags"'))
        events.write("rules/price.lua", rule.replace("bid.price + 1", "bid.price + 1\n    out.seen = e.more").replace('"bid" }', '"bid", "more" }'))
        run.wait_for(lambda: run.lives() > 0)
        for start in range(500, 1000, 50):  # the first may be decoded by then, into the columns before
            produce(kafka, topic, [event(n, more=f"m{n}") for n in range(start, start + 50)])
            run.wait_for(lambda wanted=start + 50: run.taken() == wanted)
    rows = {row["number"]: (row["price"], row["seen"]) for row in table(events, "silver.price")}
    assert {n: price for n, (price, _) in rows.items()} == {n: n * 10 + 1 for n in range(1000)}
    assert all(rows[n][1] in (["none", f"m{n}"] if n >= 500 else [f"x{n}"]) for n in rows), rows
    assert rows[999][1] == "m999"
