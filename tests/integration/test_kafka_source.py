"""The Kafka source against a real broker: every row once, whatever dies; what is refused says why."""

import json
import pathlib
import re
import time

import lake
import language
import pytest

COLUMNS = {"id": "long!", "name": "string"}
PIPELINE = """return pipeline "@NAME@" {
  rules   = "rules",
  storage = delta { root = "lake" },
  commit  = { every = "50ms" },
  sources = { source "bronze.pos" { kafka { @KAFKA@ }, json { schema = "schemas/pos.avsc" }, into = @INTO@ } },
}
"""
RULE = """return stream "silver.pos" {
  from = "bronze.pos",
  expectations = { expect "has a name" { not_null "name" } },
}
"""
SEEN = "topic STRING, part INT, off BIGINT"


running = []


@pytest.fixture(autouse=True)
def nothing_left_running():
    yield
    while running:
        process = running.pop()
        if process.poll() is None:
            process.kill()
            process.communicate()


class Pos:
    """A project that reads a topic, and the topic's producer."""

    def __init__(self, project, kafka, topic, options="", brokers=None, source=None, into="none", rule=RULE, name=None):
        self.project, self.kafka, self.topic = project, kafka, topic
        source = source or f'topic = "{topic}"'
        project.write("schemas/pos.avsc", language.schema(COLUMNS))
        project.write("rules/pos.lua", rule)
        self.name = name or f"p{time.time_ns()}"  # a group of its own
        self.pipeline = PIPELINE.replace("@INTO@", into).replace("@NAME@", self.name)
        self.declare(f'brokers = "{brokers or kafka.plaintext}", {source}{", " if options else ""}{options}')

    def declare(self, text):
        self.project.write("pipelines/p.lua", self.pipeline.replace("@KAFKA@", text))

    def produce(self, ids, **options):
        self.kafka.produce(self.topic, [{"value": json.dumps({"id": i, "name": f"n{i}"})} for i in ids], **options)

    def run(self, *arguments, **options):
        return self.project.run("pipelines/p.lua", *arguments, **options)

    def start(self, *arguments, env=None):
        running.append(self.project.start("run", "pipelines/p.lua", "--json", *arguments, env=env))
        return running[-1]

    def table(self, name="silver.pos"):
        path = self.project.root / "lake" / name.replace(".", "/")
        return lake.by_deltalake(path).to_pylist() if any(path.glob("_delta_log/*.json")) else []

    def ids(self, name="silver.pos"):
        return [row["id"] for row in self.table(name)]

    def wait_for(self, process, check, seconds=60):
        give_up = time.monotonic() + seconds
        while not check():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < give_up, f"not in {seconds} s: {self.ids()[:20]}"
            time.sleep(0.05)

    def wait_until_sealed(self, process):
        """An epoch was recorded: with it, where each partition begins."""
        status = self.project.root / f"lake/_weir/{self.name}/ledger/status.json"
        self.wait_for(process, lambda: status.exists() and json.loads(status.read_text())["epochs"] > 0)


def stop(process):
    process.terminate()
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.fixture
def topic(kafka, request):
    return kafka.create_topic(f"{request.node.originalname}-{time.time_ns()}", partitions=4)


@pytest.fixture
def pos(project, kafka, topic):
    return Pos(project, kafka, topic)


def test_every_row_of_every_partition_once(pos):
    pos.produce(range(1000))
    summary = pos.run()
    assert sorted(pos.ids()) == list(range(1000))
    assert summary["datasets"]["silver.pos"]["out"] == 1000


def test_a_second_run_reads_only_what_is_new(pos):
    pos.produce(range(100))
    pos.run()
    pos.produce(range(100, 150))
    pos.run()
    pos.run()
    assert sorted(pos.ids()) == list(range(150))


def test_kill_and_start_again_loses_and_doubles_nothing(pos):
    total = 60_000
    pos.produce(range(total))
    last = 0
    for _ in range(4):
        process = pos.start()
        pos.wait_for(process, lambda: len(pos.table()) > last or len(pos.table()) == total)
        process.kill()
        process.communicate()
        last = len(pos.table())
    pos.run()
    assert sorted(pos.ids()) == list(range(total))


def test_followed_rows_arrive_while_it_runs_and_a_stop_keeps_them(pos):
    process = pos.start()
    pos.produce(range(10))
    pos.wait_for(process, lambda: len(pos.table()) == 10)
    pos.produce(range(10, 20))
    pos.wait_for(process, lambda: len(pos.table()) == 20)
    code, _, err = stop(process)
    assert code == 0, err
    pos.run()
    assert sorted(pos.ids()) == list(range(20))


def test_meta_columns_are_the_brokers(project, kafka, topic):
    kafka.produce(topic, [{"value": json.dumps({"id": i, "name": "x"}), "partition": i % 4, "timestamp": 1_700_000_000_000 + i}
                          for i in range(40)])
    rule = 'return stream "silver.pos" { from = "bronze.pos", keep = { "id", "_topic", "_partition", "_offset", "_timestamp" } }'
    pos = Pos(project, kafka, topic, rule=rule)
    pos.run()
    for row in pos.table():
        assert row["_topic"] == topic
        assert row["_partition"] == row["id"] % 4
        assert row["_offset"] == row["id"] // 4
        assert round(row["_timestamp"].timestamp() * 1000) == 1_700_000_000_000 + row["id"]
    assert len(pos.table()) == 40


def test_poisoned_messages_go_to_quarantine_with_their_bytes_and_place(project, kafka, topic):
    values = [json.dumps({"id": i, "name": "x"}).encode() for i in range(5)]
    values[2] = b'{"id": "two\xff'
    values[4] = b""
    kafka.produce(topic, [{"value": value, "partition": 3} for value in values])
    pos = Pos(project, kafka, topic)
    pos.run()
    assert sorted(pos.ids()) == [0, 1, 3]
    bad = sorted(pos.table("quarantine.bronze.pos"), key=lambda row: row["_offset"])
    assert [(row["_raw"], row["_topic"], row["_partition"], row["_offset"]) for row in bad] == [(values[2], topic, 3, 2), (b"", topic, 3, 4)]


def test_tombstones_are_passed_over_and_their_offsets_kept(project, kafka, topic):
    kafka.produce(topic, [{"key": "a", "value": value, "partition": 0} for value in ('{"id": 1, "name": "x"}', None, None)])
    pos = Pos(project, kafka, topic)
    pos.run()
    assert pos.ids() == [1]
    kafka.produce(topic, [{"value": '{"id": 2, "name": "x"}', "partition": 0}])
    pos.run()
    assert sorted(pos.ids()) == [1, 2]


@pytest.mark.parametrize("options, wanted", [
    ('start = "earliest"', range(60)),
    ('start = "latest"', range(40, 60)),
    ('start = "5"', range(20, 60)),
    ('start = "2023-11-14T22:13:40.030Z"', range(30, 60)),
    ('offsets = { ["@T/0"] = 9, ["@T/1"] = 10 }', [*[i for i in range(40) if i % 4 in (2, 3)], 36, *range(40, 60)]),
])
def test_start(project, kafka, topic, options, wanted):
    def produce(ids):
        kafka.produce(topic, [{"value": json.dumps({"id": i, "name": "x"}), "partition": i % 4, "timestamp": 1_700_000_020_000 + i}
                              for i in ids])
    produce(range(40))
    pos = Pos(project, kafka, topic, options.replace("@T", topic))
    process = pos.start()
    pos.wait_until_sealed(process)  # it knows where it begins
    produce(range(40, 60))
    pos.wait_for(process, lambda: len(pos.table()) >= len(list(wanted)))
    stop(process)
    assert sorted(pos.ids()) == sorted(wanted)


def test_topics_by_list_and_by_pattern_and_those_that_appear(project, kafka):
    stem = f"many{time.time_ns()}"
    for name in ("a", "b"):
        kafka.create_topic(f"{stem}.{name}")
        kafka.produce(f"{stem}.{name}", [json.dumps({"id": i, "name": name}) for i in range(10)])
    pos = Pos(project, kafka, f"{stem}.a", 'discover = "200ms"', source=f'pattern = "^{stem}[.]"')
    process = pos.start()
    pos.wait_for(process, lambda: len(pos.table()) == 20)
    kafka.create_topic(f"{stem}.c", partitions=2)
    kafka.produce(f"{stem}.c", [json.dumps({"id": i, "name": "c"}) for i in range(10)])
    pos.wait_for(process, lambda: len(pos.table()) == 30)
    process.kill()
    process.communicate()
    kafka.produce(f"{stem}.c", [json.dumps({"id": i, "name": "c"}) for i in range(10, 15)])
    pos.run()
    assert sorted((row["name"], row["id"]) for row in pos.table()) == sorted(
        [("a", i) for i in range(10)] + [("b", i) for i in range(10)] + [("c", i) for i in range(15)])


def test_partitions_added_while_it_runs_are_read_from_their_beginning(project, kafka, topic):
    from confluent_kafka.admin import NewPartitions
    pos = Pos(project, kafka, topic, 'discover = "200ms", start = "latest"')
    process = pos.start()
    pos.wait_until_sealed(process)
    admin = kafka.admin()
    admin.create_partitions([NewPartitions(topic, 70)])[topic].result(30)
    kafka.produce(topic, [{"value": json.dumps({"id": i, "name": "x"}), "partition": i} for i in range(4, 70)])
    pos.wait_for(process, lambda: len(pos.table()) == 66)
    stop(process)
    pos.run()
    assert sorted(pos.ids()) == list(range(4, 70))


def test_only_what_was_committed_is_read(project, kafka, topic):
    producer = kafka.producer(transactional_id=f"x{time.time_ns()}")
    producer.init_transactions(30)
    for start, commit in ((0, True), (10, False), (20, True)):
        producer.begin_transaction()
        for i in range(start, start + 10):
            producer.produce(topic, json.dumps({"id": i, "name": "x"}), partition=0)
        producer.flush()
        if commit:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)
    pos = Pos(project, kafka, topic)
    pos.run()  # ends although the last offset is a mark
    assert sorted(pos.ids()) == [*range(10), *range(20, 30)]
    producer.begin_transaction()
    producer.produce(topic, json.dumps({"id": 99, "name": "open"}), partition=0)
    producer.flush()
    pos.run()  # an open transaction is not waited for
    assert 99 not in pos.ids()
    producer.commit_transaction(30)
    pos.run()
    assert 99 in pos.ids()


def test_a_second_member_is_refused_and_the_first_goes_on(pos, new_project, kafka, topic):
    pos.produce(range(10))
    first = pos.start()
    pos.wait_for(first, lambda: len(pos.table()) == 10)
    second = Pos(new_project("second"), kafka, topic, name=pos.name)
    outcome = second.project.weir("run", "pipelines/p.lua", "--until-end")
    assert outcome.code == 3, outcome
    assert f"consumer group weir.{pos.name}.bronze.pos has a member already" in outcome.err and "group =" in outcome.err, outcome
    assert second.table() == []
    pos.produce(range(10, 20))
    pos.wait_for(first, lambda: len(pos.table()) == 20)
    own = Pos(new_project("third"), kafka, topic, 'group = "another"', name=pos.name)
    own.run()
    assert sorted(own.ids()) == list(range(20))
    code, _, err = stop(first)
    assert code == 0, err
    second.run()  # a clean stop leaves the group at once
    assert sorted(second.ids()) == list(range(20))


def test_the_group_hears_of_what_is_durable(pos, kafka, topic):
    from confluent_kafka import Consumer, TopicPartition
    kafka.produce(topic, [{"value": json.dumps({"id": i, "name": "x"}), "partition": 2} for i in range(25)])
    pos.run()
    consumer = Consumer({**kafka.client(), "group.id": f"weir.{pos.name}.bronze.pos"})
    assert consumer.committed([TopicPartition(topic, 2)], timeout=10)[0].offset == 25
    consumer.close()


def test_a_rebalance_moves_nothing(pos, kafka, topic):
    """Somebody joins the group while Weir runs: a warning, and not a row lost or doubled."""
    from confluent_kafka import Consumer
    pos.produce(range(1000))
    process = pos.start()
    pos.wait_for(process, lambda: len(pos.table()) == 1000)
    intruder = Consumer({**kafka.client(), "group.id": f"weir.{pos.name}.bronze.pos", "partition.assignment.strategy": "cooperative-sticky"})
    intruder.subscribe([topic])
    give_up = time.monotonic() + 30
    while not intruder.assignment() and time.monotonic() < give_up:
        intruder.poll(0.1)
    assert intruder.assignment()
    pos.produce(range(1000, 2000))
    pos.wait_for(process, lambda: len(pos.table()) == 2000)
    intruder.close()
    pos.produce(range(2000, 3000))
    pos.wait_for(process, lambda: len(pos.table()) == 3000)
    code, _, err = stop(process)
    assert code == 0 and f"another consumer joined group weir.{pos.name}.bronze.pos" in err, err
    assert sorted(pos.ids()) == list(range(3000))


def test_brokers_restarted_and_killed_lose_nothing(project):
    import kafka as service
    broker = service.start()
    try:
        topic = broker.create_topic("outage", partitions=3)
        pos = Pos(project, broker, topic)
        pos.produce(range(100))
        process = pos.start()
        pos.wait_for(process, lambda: len(pos.table()) == 100)
        broker.end()
        broker.restart()
        pos.produce(range(100, 200))
        pos.wait_for(process, lambda: len(pos.table()) == 200)
        broker.kill()
        broker.restart()
        pos.produce(range(200, 300))
        pos.wait_for(process, lambda: len(pos.table()) == 300)
        code, _, err = stop(process)
        assert code == 0, err
        assert sorted(pos.ids()) == list(range(300))
    finally:
        broker.stop()


def test_retention_past_the_position_says_what_to_do(project, kafka, topic):
    from confluent_kafka import TopicPartition
    pos = Pos(project, kafka, topic)
    kafka.produce(topic, [{"value": json.dumps({"id": i, "name": "x"}), "partition": 0} for i in range(10)])
    pos.run()
    kafka.produce(topic, [{"value": json.dumps({"id": i, "name": "x"}), "partition": 0} for i in range(10, 30)])
    admin = kafka.admin()
    for done in admin.delete_records([TopicPartition(topic, 0, 20)]).values():
        done.result(30)
    outcome = project.weir("run", "pipelines/p.lua", "--until-end")
    assert outcome.code == 3, outcome
    for text in (f"topic {topic}, partition 0", "offset 10", "the oldest there is 20", 'on_lost = "earliest"', "retention"):
        assert text in outcome.err, outcome
    pos.declare(f'brokers = "{kafka.plaintext}", topic = "{topic}", on_lost = "earliest"')
    pos.run()
    assert sorted(pos.ids()) == [*range(10), *range(20, 30)]


def test_unknown_topics_and_absent_brokers_say_what_to_do(project, kafka):
    pos = Pos(project, kafka, "nosuch")
    outcome = project.weir("run", "pipelines/p.lua", "--until-end")
    assert outcome.code == 1 and "topic nosuch" in outcome.err and "create it" in outcome.err, outcome
    pos.declare('brokers = "127.0.0.1:1", topic = "nosuch", connect_timeout = "2s"')
    outcome = project.weir("run", "pipelines/p.lua", "--until-end")
    assert outcome.code == 3 and "127.0.0.1:1" in outcome.err and "refused" in outcome.err, outcome
    pos.declare(f'brokers = "{kafka.plaintext}", topic = "x", options = {{ ["no.such.option"] = 1 }}')
    outcome = project.weir("run", "pipelines/p.lua", "--until-end")
    assert outcome.code == 1 and "no.such.option" in outcome.err, outcome


KEYED = """return stream "silver.pos" {
  from    = "bronze.pos",
  where   = function(e) return e._headers == nil or e._headers["kind"] ~= "test" end,
  columns = { till = "string", trace = "string" },
  map     = function(e, out)
    out.till = e._key
    if e._headers ~= nil then out.trace = e._headers["trace"] end
  end,
}
"""


def test_keys_and_headers_reach_rules_and_tables(project, kafka, topic):
    def message(i, key, headers):
        return {"value": json.dumps({"id": i, "name": "x"}), "key": key, "headers": headers, "partition": 0}
    kafka.produce(topic, [
        message(0, "till-1", [("trace", b"t0"), ("kind", b"sale")]), message(1, None, []), {"value": b"{", "key": "bad", "partition": 0},
        message(2, b"", [("trace", b"old"), ("trace", b"new")]), message(3, "till-3", [("kind", b"test")]), message(4, "till-4", [("trace", None)]),
    ])
    pos = Pos(project, kafka, topic, "keys = true, headers = true", rule=KEYED, into='delta { mode = "append" }')
    pos.run()
    rows = {row["id"]: row for row in pos.table()}
    assert {i: (row["till"], row["trace"]) for i, row in rows.items()} == {
        0: ("till-1", "t0"), 1: (None, None), 2: ("", "new"), 4: ("till-4", None)}
    bronze = {row["id"]: row for row in pos.table("bronze.pos")}
    assert dict(bronze[0]["_headers"]) == {"trace": b"t0", "kind": b"sale"} and bronze[0]["_key"] == b"till-1"
    assert bronze[1]["_key"] is None and bronze[1]["_headers"] is None and bronze[2]["_key"] == b""


GOLD = """return model "gold.perminute" {
  from = "silver.pos", by = { "name" },
  window = tumbling { size = "1m" },
  measures = { n = count() },
}
"""
TIMED = 'return stream "silver.pos" { from = "bronze.pos", time = { field = "_timestamp", out_of_order = "1s" } }'


def test_partitions_read_one_after_the_other_make_no_late_rows(project, kafka, topic):
    """An hour in each partition: whichever is read first, the others hold its windows open."""
    kafka.produce(topic, [{"value": json.dumps({"id": i, "name": f"p{part}"}), "partition": part, "timestamp": 1_700_000_000_000 + i * 600}
                          for part in range(4) for i in range(6000)])
    pos = Pos(project, kafka, topic, rule=TIMED)
    project.write("rules/gold.lua", GOLD)
    summary = pos.run()
    assert summary["datasets"]["gold.perminute"]["late"] == 0, summary
    counts = {}
    for row in pos.table("gold.perminute"):
        counts[row["name"]] = counts.get(row["name"], 0) + row["n"]
    assert counts == {f"p{part}": 6000 for part in range(4)}


def test_an_epoch_is_replayed_from_the_topic(pos, kafka, topic):
    pos.produce(range(500))
    pos.run()
    kafka.produce(topic, [{"value": "{", "partition": 0}])
    pos.produce(range(500, 700))
    pos.run()
    for epoch in ("1", "2"):
        outcome = pos.project.weir("replay", "pipelines/p.lua", "--epoch", epoch)
        assert outcome.code == 0, outcome


def test_a_static_member_comes_back_under_its_name(pos, kafka, topic):
    from confluent_kafka import Consumer
    pos.declare(f'brokers = "{kafka.plaintext}", topic = "{topic}", member = "till-reader-1"')
    pos.produce(range(10))
    first = pos.start()
    pos.wait_for(first, lambda: len(pos.table()) == 10)
    admin = kafka.admin()
    group = f"weir.{pos.name}.bronze.pos"

    def members():
        return [(m.group_instance_id, len(m.assignment.topic_partitions)) for m in admin.describe_consumer_groups([group])[group].result(10).members]
    pos.wait_for(first, lambda: members() == [("till-reader-1", 4)])
    first.kill()
    first.communicate()
    again = pos.start()
    pos.produce(range(10, 20))
    pos.wait_for(again, lambda: len(pos.table()) == 20)
    # Somebody takes the name elsewhere: this one is fenced, and says so.
    thief = Consumer({**kafka.client(), "group.id": group, "group.instance.id": "till-reader-1",
                      "partition.assignment.strategy": "cooperative-sticky"})
    thief.subscribe([topic])
    give_up = time.monotonic() + 40
    while again.poll() is None and time.monotonic() < give_up:
        thief.poll(0.1)
    thief.close()
    out, err = again.communicate(timeout=10)
    assert again.returncode == 3 and "another process took this one's place" in out + err, (again.returncode, out, err)


def test_status_shows_lag_and_tombstones(pos, kafka, topic):
    kafka.produce(topic, [{"key": "a", "value": value, "partition": 0} for value in ('{"id": 1, "name": "x"}', None)])
    process = pos.start()
    pos.wait_for(process, lambda: len(pos.table()) == 1)

    def figures():
        text = pos.project.weir("status", "pipelines/p.lua", "--json").out
        return json.loads(text) if text.startswith("{") else {}
    pos.wait_for(process, lambda: '"tombstones":1' in json.dumps(figures(), separators=(",", ":")))
    shown = json.dumps(figures(), separators=(",", ":"))
    assert '"partitions":4' in shown and f'"group":"weir.{pos.name}.bronze.pos"' in shown, shown


def test_a_slow_rule_holds_the_brokers_back_and_not_its_memory(project, kafka, topic):
    """A topic of 240 MB is read by rules that take their time: fetching pauses, the process stays small, and every row comes once."""
    rows, size = 24_000, 10_000
    kafka.produce(topic, ({"value": json.dumps({"id": i, "name": "n" * size}), "partition": i % 4} for i in range(rows)), compression_type="none")
    rule = """return stream "silver.pos" {
  from = "bronze.pos",
  columns = { spun = "int64" },
  map  = function(e, out) local n = 0; for i = 1, @SPINS@ do n = n + i % 7 end; out.spun = n end,
  drop = { "name" },
}
"""
    pos = Pos(project, kafka, topic, 'options = { ["queued.max.messages.kbytes"] = 8192 }', rule=rule.replace("@SPINS@", "50000"))
    process = pos.start(env={"MALLOC_ARENA_MAX": "2"})
    pos.wait_for(process, lambda: len(pos.ids()) > 1000)
    peak = int(re.search(r"VmHWM:\s+(\d+)", (pathlib.Path("/proc") / str(process.pid) / "status").read_text()).group(1)) / 1024
    code, _, err = stop(process)
    assert code == 0, err
    read = len(pos.ids())
    assert read < rows, "the rules were too quick for this test"
    assert peak < (160 if "san" not in str(project.binary) else 1000), f"{peak:.0f} MB after {read} of {rows} rows"
    print(f"{peak:.0f} MB at most with {(rows - read) * size / 1e6:.0f} MB unread")
    project.write("rules/pos.lua", rule.replace("@SPINS@", "1"))
    pos.run()
    assert sorted(pos.ids()) == list(range(rows))
