"""The Kafka sink against a real broker: whatever dies, a read_committed reader sees each row once; what is refused says why."""

import base64
import collections
import json
import os
import random
import signal
import time

import confluent_kafka
import conftest
import crash
import kafka as service
import pytest

EVENTS = int(os.environ.get("WEIR_KAFKA_EVENTS", "12000"))
PIPELINE = """return pipeline "{name}" {{
  rules      = "rules",
  commit     = {{ every = "20ms" }},
  ledger     = {{ keep = "0s", segment = "4MB" }},
  quarantine = kafka {{ {client}, topic = "{rejected}" }},
  sources    = {{ source "bronze.sale" {{ generator {{ seed = 5, count = {count}, rate = {rate}, defects = 0.02 }}, into = none }} }},
}}
"""
RULE = """return stream "silver.sale" {{
  from         = "bronze.sale",
  expectations = {{ expect "a sale" {{ one_of("kind", {{ "sale" }}) }}, expect "has an id" {{ not_null "event_id" }} }},
  into         = kafka {{ {client}, topic = "{clean}", {options} }},
}}
"""
POINTS = [point for point in crash.fault_points() if point.startswith("kafka_")]
HITS = [int(hit) for hit in os.environ.get("WEIR_CRASH_HITS", "3").split(",")]
VOLATILE = ("_epoch", "_rejected_at", "_rule_set")


def end_of(consumer, topic, partition):
    """The end offset; a broker that just came back needs a moment to lead again."""
    give_up = time.monotonic() + 30
    while True:
        try:
            return consumer.get_watermark_offsets(confluent_kafka.TopicPartition(topic, partition), 5)[1]
        except confluent_kafka.KafkaException:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.1)


def settled_ends(broker, topic, partitions):
    """The end offset of each partition, once no transaction is open in it: a commit is acknowledged before its markers are in every
    partition (KIP-98), and until then a read_committed reader is told of an end that lies before the rows."""
    consumers = [confluent_kafka.Consumer({**broker.client(), "group.id": "ends", "isolation.level": level})
                 for level in ("read_committed", "read_uncommitted")]
    try:
        give_up = time.monotonic() + 90
        while True:
            stable, high = ({p: end_of(consumer, topic, p) for p in partitions} for consumer in consumers)
            if stable == high:
                return stable
            assert time.monotonic() < give_up, f"a transaction stays open in {topic}: stable ends {stable} of {high}"
            time.sleep(0.05)
    finally:
        for consumer in consumers:
            consumer.close()


def read_all(broker, topic, **options):
    """Every message a read_committed reader can see, in order of its partition."""
    consumer = confluent_kafka.Consumer({**broker.client(), "group.id": f"r{random.random()}", "auto.offset.reset": "earliest",
                                         "enable.auto.commit": False, "isolation.level": "read_committed", "enable.partition.eof": True, **options})
    partitions = consumer.list_topics(topic, 10).topics[topic].partitions
    wanted = settled_ends(broker, topic, partitions)
    consumer.assign([confluent_kafka.TopicPartition(topic, p, 0) for p in partitions])
    left, messages, give_up = {p for p, end in wanted.items() if end > 0}, [], time.monotonic() + 90
    while left:
        assert time.monotonic() < give_up, f"partitions {left} of {topic} have no settled end"
        for message in consumer.consume(2000, 0.2):
            if message.error():
                if message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
                    left.discard(message.partition())
                    continue
                raise confluent_kafka.KafkaException(message.error())
            messages.append(message)
    consumer.close()
    return messages


class Sink:
    """A pipeline from a generator to two topics."""

    def __init__(self, project, broker, count=EVENTS, rate=EVENTS * 2, options="", client=None, client_options=""):
        self.project, self.broker = project, broker
        self.name = f"p{time.time_ns()}"
        self.clean, self.rejected = broker.create_topic(f"{self.name}.clean", partitions=4), broker.create_topic(f"{self.name}.rejected")
        client = client or f'brokers = "{broker.plaintext}"'
        self.client = client + (", " + client_options if client_options else "")
        self.pipeline = f"pipelines/{self.name}.lua"
        project.write(self.pipeline, PIPELINE.format(name=self.name, client=self.client, rejected=self.rejected, count=count, rate=rate))
        self.rule(options or 'key = "event_id", compression = "lz4"')

    def rule(self, options):
        self.project.write("rules/sale.lua", RULE.format(client=self.client, clean=self.clean, options=options))

    def run(self, **options):
        return self.project.run(self.pipeline, **options)

    def start(self, *arguments, **env):
        return self.project.start("run", self.pipeline, "--until-end", "--json", *arguments, env=env)

    def ended(self, process, timeout=90):
        out, err = process.communicate(timeout=timeout)
        return conftest.Outcome(process.returncode, out, err)

    def rows(self):
        """(key, value) of both topics, without what differs from run to run."""
        clean = collections.Counter((m.key(), m.value()) for m in read_all(self.broker, self.clean))
        rejected = collections.Counter()
        for message in read_all(self.broker, self.rejected):
            row = json.loads(message.value())
            rejected[json.dumps({key: value for key, value in row.items() if key not in VOLATILE})] += 1
        return clean, rejected


def assert_same(sink, undisturbed, what=""):
    for name, found, expected in zip(("clean", "rejected"), sink.rows(), undisturbed):
        lost, doubled = expected - found, found - expected
        assert not lost and not doubled, f"{what} {name}: {len(lost)} lost, {len(doubled)} doubled: {list((lost or doubled).items())[:3]}"


@pytest.fixture(scope="module")
def undisturbed(binary, kafka, tmp_path_factory):
    sink = Sink(conftest.Project(binary, tmp_path_factory.mktemp("undisturbed")), kafka)
    sink.run()
    clean, rejected = sink.rows()
    assert sum(clean.values()) + sum(rejected.values()) == EVENTS and min(len(clean), len(rejected)) > 100
    return clean, rejected


@pytest.fixture
def broker(binary):
    own = service.start()
    yield own
    own.stop()


# ---------------------------------------------------------------- exactly once

@pytest.mark.parametrize(("point", "hit"), [(point, hit) for point in POINTS for hit in HITS if hit == HITS[-1] or point != "kafka_fenced"])
def test_killed_at_a_fault_point_and_started_again(project, kafka, undisturbed, point, hit):
    sink = Sink(project, kafka)
    hit = 1 if point == "kafka_fenced" else hit  # a start fences once
    killed = sink.ended(sink.start(WEIR_FAULT=f"{point}:{hit}:kill"))
    assert killed.code == -signal.SIGKILL and f"fault point {point} reached" in killed.err, killed
    sink.run()
    assert_same(sink, undisturbed, point)


@pytest.mark.parametrize("point", POINTS)
def test_an_error_at_a_fault_point_ends_the_run_and_loses_nothing(project, kafka, undisturbed, point):
    sink = Sink(project, kafka)
    failed = sink.ended(sink.start(WEIR_FAULT=f"{point}:1:error"))
    assert failed.code != 0 and f"injected at {point}" in failed.err, failed
    sink.run()
    assert_same(sink, undisturbed, point)


@pytest.mark.parametrize("point", ["ledger_after_sync", "ledger_torn_write", "epoch_sealed"])
def test_killed_in_the_ledger_and_started_again(project, kafka, undisturbed, point):
    sink = Sink(project, kafka)
    assert sink.ended(sink.start(WEIR_FAULT=f"{point}:2:kill")).code == -signal.SIGKILL
    sink.run()
    assert_same(sink, undisturbed, point)


def test_killed_at_random_instants(project, kafka, undisturbed):
    sink, rng = Sink(project, kafka), random.Random(3)
    for _ in range(6):
        process = sink.start()
        try:
            process.wait(rng.uniform(0.1, 0.8))
        except Exception:
            process.kill()
        process.communicate()
    sink.run()
    assert_same(sink, undisturbed)


def wait_until(check, what, seconds=60):
    give_up = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < give_up, f"not in {seconds} s: {what}"
        time.sleep(0.02)


def messages_in(broker, topic):
    consumer = confluent_kafka.Consumer({**broker.client(), "group.id": "w"})
    try:
        return sum(end_of(consumer, topic, p) for p in range(4))
    finally:
        consumer.close()


@pytest.mark.parametrize("how", conftest.some([signal.SIGKILL, signal.SIGTERM], 1))
def test_a_broker_that_ends_in_the_middle_and_comes_back(project, broker, undisturbed, how):
    sink = Sink(project, broker, rate=EVENTS // 2)
    process = sink.start()
    wait_until(lambda: messages_in(broker, sink.clean) > EVENTS // 8, "messages")
    for _ in range(2):
        broker.end(how)
        time.sleep(0.3)
        broker.restart()
        time.sleep(0.5)
    outcome = sink.ended(process)
    assert outcome.code == 0, outcome
    assert_same(sink, undisturbed)


def test_killed_beside_its_broker(project, broker, undisturbed):
    sink = Sink(project, broker, rate=EVENTS // 2)
    process = sink.start()
    wait_until(lambda: messages_in(broker, sink.clean) > EVENTS // 8, "messages")
    broker.kill()
    process.kill()
    process.communicate()
    broker.restart()
    sink.run()
    assert_same(sink, undisturbed)


def stopped(process):
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] == "T"


def test_a_transaction_that_lasts_too_long_is_settled_by_a_new_producer(project, binary, undisturbed):
    own = service.start(settings={"transaction.abort.timed.out.transaction.cleanup.interval.ms": "500"})
    try:
        sink = Sink(project, own, client_options='options = { ["transaction.timeout.ms"] = 2000 }')
        process = sink.start(WEIR_FAULT="kafka_marked:2:stop")
        wait_until(lambda: stopped(process), "its stop")
        time.sleep(4)
        os.kill(process.pid, signal.SIGCONT)
        outcome = sink.ended(process)
        assert outcome.code == 0, outcome
        assert_same(sink, undisturbed)
    finally:
        own.stop()


def test_a_zombie_is_fenced(project, kafka, undisturbed):
    sink = Sink(project, kafka)
    process = sink.start(WEIR_FAULT="kafka_marked:2:stop")
    wait_until(lambda: stopped(process), "its stop")
    markers = [m.key().decode() for m in read_all(kafka, f"weir.{sink.name}.markers")]
    lineage, log, _ = markers[0].split("/")
    heir = confluent_kafka.Producer({**kafka.client(), "transactional.id": f"weir.{sink.name}.{lineage}/{log}"})
    heir.init_transactions(30)
    os.kill(process.pid, signal.SIGCONT)
    outcome = sink.ended(process)
    assert outcome.code != 0 and "another process took over" in outcome.err, outcome
    sink.run()
    assert_same(sink, undisturbed)


def test_markers_that_vanished_stop_and_ask(project, kafka):
    sink = Sink(project, kafka, count=5000, rate=20_000)
    sink.run()
    before, markers, admin = messages_in(kafka, sink.clean), f"weir.{sink.name}.markers", kafka.admin()
    admin.delete_topics([markers])[markers].result(30)
    wait_until(lambda: markers not in admin.list_topics(timeout=10).topics, "the topic to go")
    outcome = sink.project.run(sink.pipeline, code=1)
    assert "holds marker 0, but the ledger knows" in outcome.err, outcome
    assert messages_in(kafka, sink.clean) == before


def test_effects_of_a_sink_that_is_gone_are_sent_all_the_same(project, kafka):
    sink = Sink(project, kafka, count=3000, rate=0)
    one_epoch = ("--set", "commit.every=60s")
    killed = sink.ended(sink.start(*one_epoch, WEIR_FAULT="kafka_before_begin:1:kill"))
    assert killed.code == -signal.SIGKILL, killed
    assert not read_all(kafka, sink.clean)
    project.write("rules/sale.lua", 'return stream "silver.other" { from = "bronze.sale", into = none }')
    sink.run()
    assert 2000 < len(read_all(kafka, sink.clean)) <= 3000


def test_at_least_once_sends_everything(project, kafka, undisturbed):
    sink = Sink(project, kafka, client_options='delivery = "at_least_once"')
    killed = sink.ended(sink.start(WEIR_FAULT="kafka_committed:1:kill"))
    assert killed.code == -signal.SIGKILL, killed
    sink.run()
    for found, expected in zip(sink.rows(), undisturbed):
        assert set(found) == set(expected)
    assert f"weir.{sink.name}.markers" not in kafka.admin().list_topics(timeout=10).topics


def test_the_next_run_goes_on_where_the_last_ended(project, kafka, undisturbed):
    sink = Sink(project, kafka)
    sink.run()
    again = sink.run()
    assert again["events"] == 0
    assert_same(sink, undisturbed)


# ---------------------------------------------------------------- messages

VALUES = {"id": "long!", "name": "string", "price": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}, "at": {"type": "long", "logicalType": "timestamp-micros"},
          "flag": "boolean", "ratio": "double", "bytes": "bytes", "tags": {"type": "array", "items": "string"}}
JSON_PIPELINE = """return pipeline "{name}" {{
  rules = "rules", commit = {{ every = "20ms" }}, quarantine = none,
  sources = {{ source "bronze.row" {{ files {{ path = "landing/*.jsonl" }}, json {{ schema = "schemas/row.avsc" }}, into = none }} }},
}}
"""


class Rows:
    """Rows of a file to one topic."""

    def __init__(self, project, broker, options, rows, columns=None, rule="", partitions=3):
        self.project, self.broker, self.name = project, broker, f"q{time.time_ns()}"
        self.topic = broker.create_topic(f"{self.name}.out", partitions=partitions)
        fields = []
        for name, kind in (columns or VALUES).items():
            required = isinstance(kind, str) and kind.endswith("!")
            kind = kind.rstrip("!") if isinstance(kind, str) else kind
            fields.append({"name": name, "type": kind if required else ["null", kind], **({} if required else {"default": None})})
        project.write("schemas/row.avsc", json.dumps({"type": "record", "name": "row", "fields": fields}))
        project.write("landing/a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        project.write(f"pipelines/{self.name}.lua", JSON_PIPELINE.format(name=self.name))
        project.write("rules/row.lua", f'return stream "silver.row" {{ from = "bronze.row", {rule} '
                      f'into = kafka {{ brokers = "{broker.plaintext}", topic = "{self.topic}", {options} }} }}')

    def messages(self, **options):
        self.project.run(f"pipelines/{self.name}.lua", **options)
        return read_all(self.broker, self.topic)

    def refused(self, code):
        return self.project.run(f"pipelines/{self.name}.lua", code=code).err


ROW = {"id": 9223372036854775807, "name": 'a "quoted"\n\u0001 ü😀\\', "price": "12.50", "at": "2026-01-05T10:00:00.123456Z", "flag": True, "ratio": -0.1,
       "bytes": base64.b64encode(b"\x00\xff\x10").decode(), "tags": ["a", "", "c"]}


def test_a_row_is_a_json_object_with_every_value_exact(project, kafka):
    null = {"id": -9223372036854775808}
    messages = Rows(project, kafka, 'key = "id"', [ROW, null]).messages()
    texts = {m.key(): m.value().decode() for m in messages}
    assert json.loads(texts[b"9223372036854775807"]) == {**ROW, "price": 12.5}
    assert '"price":12.50,' in texts[b"9223372036854775807"]
    assert json.loads(texts[b"-9223372036854775808"]) == {**{name: None for name in VALUES}, **null}


def test_small_epochs_without_keys_take_turns_at_the_partitions(project, kafka):
    sink = Sink(project, kafka, count=400, rate=200, options='compression = "lz4"')
    sink.run()
    assert len({m.partition() for m in read_all(kafka, sink.clean)}) > 1


def test_keys_go_to_the_partitions_java_would_choose(project, kafka):
    rows = [{"id": i, "name": f"k{i * 7919 % 10007}"} for i in range(500)] + [{"id": 999, "name": ""}]
    ours = {m.key(): m.partition() for m in Rows(project, kafka, 'key = "name"', rows, partitions=7).messages()}
    other = kafka.create_topic(f"java{time.time_ns()}", partitions=7)
    kafka.produce(other, [{"value": b"x", "key": row["name"]} for row in rows], partitioner="murmur2_random")
    theirs = {m.key(): m.partition() for m in read_all(kafka, other)}
    theirs.pop(None, None)
    assert {key: p for key, p in ours.items() if key} == {key: p for key, p in theirs.items() if key} and len(set(ours.values())) == 7


def test_headers_timestamps_and_keys_of_several_columns(project, kafka):
    [message] = Rows(project, kafka, 'key = { "id", "name" }, headers = { "flag", "ratio", "bytes" }, timestamp = "at"', [{**ROW, "ratio": None}]).messages()
    assert json.loads(message.key()) == {"id": ROW["id"], "name": ROW["name"]}
    assert dict(message.headers()) == {"flag": b"true", "ratio": None, "bytes": b"\x00\xff\x10"}
    assert message.timestamp()[1] == 1767607200123
    assert set(json.loads(message.value())) == set(VALUES) - {"flag", "ratio", "bytes"}


def test_raw_messages_are_the_bytes_of_one_column(project, kafka):
    messages = Rows(project, kafka, 'key = "id", format = "raw"', [{"id": 1, "bytes": ROW["bytes"]}, {"id": 2, "bytes": ""}, {"id": 3}],
                    columns={"id": "long!", "bytes": "bytes"}).messages()
    assert {m.key(): m.value() for m in messages} == {b"1": b"\x00\xff\x10", b"2": b"", b"3": None}


def test_deletes_of_a_changelog_are_tombstones(project, kafka):
    rule = 'columns = { _change = "int8" }, map = function(e, out) out._change = e.kind end, drop = { "kind" },'
    rows = [{"id": 1, "kind": 0, "name": "a"}, {"id": 1, "kind": 1, "name": "a"}, {"id": 1, "kind": 2, "name": "b"}, {"id": 2, "kind": 0}, {"id": 2, "kind": 3}]
    messages = Rows(project, kafka, 'key = "id"', rows, columns={"id": "long!", "kind": "int", "name": "string"}, rule=rule, partitions=1).messages()
    assert [(m.key(), m.value() and json.loads(m.value())["name"]) for m in messages] == [(b"1", "a"), (b"1", "b"), (b"2", None), (b"2", None)]
    assert messages[3].value() is None and b"_change" not in messages[0].value()


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_compression(project, kafka, compression):
    rows = [{"id": i, "name": "x" * 50} for i in range(100)]
    assert len(Rows(project, kafka, f'compression = "{compression}"', rows).messages()) == 100


def test_any_option_of_librdkafka_passes_through(project, kafka):
    rows = [{"id": i, "name": f"n{i}"} for i in range(50)]
    messages = Rows(project, kafka, 'key = "name", options = { ["partitioner"] = "consistent", ["linger.ms"] = 0, ["queue.buffering.max.messages"] = 10 }', rows).messages()
    other = kafka.create_topic(f"crc{time.time_ns()}", partitions=3)
    kafka.produce(other, [{"value": b"x", "key": row["name"]} for row in rows], partitioner="consistent")
    assert {m.key(): m.partition() for m in messages} == {m.key(): m.partition() for m in read_all(kafka, other)}


@pytest.mark.parametrize("listener", ["sasl", "oauth", "mtls", "sasl_ssl"])
def test_every_kind_of_listener(project, kafka, listener, monkeypatch):
    certs = service.HOME / "certs"
    monkeypatch.setenv("KAFKA_PASSWORD", service.PASSWORD)
    login = f'sasl = "plain", username = "{service.USER}", password = env "KAFKA_PASSWORD"'
    client = f'brokers = "{getattr(kafka, listener)}", ' + {
        "sasl": login,
        "oauth": 'sasl = "oauthbearer", options = { ["enable.sasl.oauthbearer.unsecure.jwt"] = true, ["sasl.oauthbearer.config"] = "principal=alice" }',
        "mtls": f'ca = "{certs}/ca.crt", certificate = "{certs}/client.crt", key_file = "{certs}/client.key"',
        "sasl_ssl": f'ca = "{certs}/ca.crt", {login}',
    }[listener]
    sink = Sink(project, kafka, count=2000, client=client)
    sink.run()
    assert sum(sum(rows.values()) for rows in sink.rows()) == 2000
    ledger = b"".join(path.read_bytes() for path in (project.root / "data").rglob("*.seg"))
    assert service.PASSWORD.encode() not in ledger


# ---------------------------------------------------------------- refused, with the way out

def test_an_unknown_topic_is_refused(project, kafka):
    rows = Rows(project, kafka, "", [ROW])
    rows.project.write("rules/row.lua", f'return stream "silver.row" {{ from = "bronze.row", into = kafka {{ brokers = "{kafka.plaintext}", topic = "nowhere" }} }}')
    message = rows.refused(1)
    assert "topic nowhere does not exist on" in message and "kafka-topics.sh --create --topic nowhere" in message and "create = {" in message


def test_a_topic_is_made_when_asked(project, kafka):
    rows = Rows(project, kafka, "", [ROW])
    rows.topic = f"made{time.time_ns()}"
    rows.project.write("rules/row.lua", f'return stream "silver.row" {{ from = "bronze.row", into = kafka {{ brokers = "{kafka.plaintext}", '
                       f'topic = "{rows.topic}", create = {{ partitions = 2, replication = 1 }} }} }}')
    assert len(rows.messages()) == 1
    assert len(kafka.admin().list_topics(rows.topic, 10).topics[rows.topic].partitions) == 2


def test_a_row_too_large_for_a_message_is_refused_before_it_is_recorded(project, kafka):
    rows = Rows(project, kafka, "", [{"id": 1}, {"id": 2, "name": "x" * 1_000_000}])
    message = rows.refused(1)
    assert 'raise options["message.max.bytes"] here and max.message.bytes of topic' in message
    text = (project.root / "rules/row.lua").read_text()
    project.write("rules/row.lua", text.replace("topic =", 'options = { ["message.max.bytes"] = 4000000 }, compression = "lz4", topic ='))
    assert len(rows.messages()) == 2


def test_a_message_the_topic_does_not_take_names_the_setting_and_goes_on_once_raised(project, kafka):
    rows = Rows(project, kafka, "", [{"id": 1, "name": "".join(random.choices("abcdefghij", k=5000))}])
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource
    resource = ConfigResource("topic", rows.topic)

    def limit(value):
        resource.incremental_configs = [ConfigEntry("max.message.bytes", value, incremental_operation=AlterConfigOpType.SET)]
        admin = kafka.admin()
        admin.incremental_alter_configs([resource])[resource].result(30)
    limit("2000")
    message = rows.refused(1)
    assert rows.topic in message and "max.message.bytes of" in message, message
    limit("1000000")
    assert len(rows.messages()) == 1


@pytest.fixture(scope="module")
def in_vain(binary, kafka, tmp_path_factory):
    """Runs that give up when they have tried for a while, all at once: name -> (topic, outcome)."""
    clients = {
        "nobody": ('"127.0.0.1:1"', ""),
        "wrong": (f'"{kafka.sasl}"', f', sasl = "plain", username = "{service.USER}", password = env "KAFKA_PASSWORD"'),
        "scram": (f'"{kafka.sasl}"', f', sasl = "scram-sha-512", username = "{service.USER}", password = env "KAFKA_PASSWORD"'),
    }
    running = {}
    for name, (brokers, login) in clients.items():
        project = conftest.Project(binary, tmp_path_factory.mktemp(name))
        rows = Rows(project, kafka, "", [ROW])
        project.write("rules/row.lua", f'return stream "silver.row" {{ from = "bronze.row", into = kafka {{ brokers = {brokers}, topic = "{rows.topic}"{login} }} }}')
        password = "wrong-secret" if name == "wrong" else service.PASSWORD
        running[name] = rows.topic, project.start("run", f"pipelines/{rows.name}.lua", "--until-end", "--json", env={"KAFKA_PASSWORD": password})
    outcomes = {}
    for name, (topic, process) in running.items():
        out, err = process.communicate(timeout=conftest.TIMEOUT_S)
        outcomes[name] = topic, conftest.Outcome(process.returncode, out, err)
    return outcomes


def test_no_broker_says_where_it_looked(in_vain):
    _, outcome = in_vain["nobody"]
    assert outcome.code == 3 and "127.0.0.1:1" in outcome.err and "Connection refused" in outcome.err and "check `brokers`" in outcome.err, outcome


def test_a_wrong_password_is_told_and_not_shown(in_vain):
    _, outcome = in_vain["wrong"]
    assert outcome.code == 3 and "Authentication failed" in outcome.err and "wrong-secret" not in outcome.err, outcome


def test_scram_works_or_says_which_librdkafka_it_needs(in_vain, kafka):
    topic, outcome = in_vain["scram"]
    if outcome.code == 0:
        assert len(read_all(kafka, topic)) == 1
    else:
        assert "refuse SCRAM of librdkafka before 2.6.1" in outcome.err, outcome


@pytest.mark.parametrize(("options", "said"), [
    ('key = "namee"', "did you mean `name`"),
    ('format = "xml"', 'kafka.format is one of'),
    ('delivery = "exactly_onc"', "did you mean `exactly_once`"),
    ('options = { ["enable.idempotence"] = false }', 'is not yours to set'),
    ('options = { ["no.such.thing"] = 1 }', "No such configuration property"),
    ('timestamp = "name"', "is no time"),
    ('key = "tags"', "is a list, struct or map"),
    ('format = "raw"', "a raw message is one column"),
])
def test_wrong_options_are_refused_with_their_place(project, kafka, options, said):
    assert said in Rows(project, kafka, options, [ROW]).refused(1)


def test_no_storage_and_a_table_is_refused(project, kafka):
    rows = Rows(project, kafka, "", [ROW])
    project.write("rules/row.lua", 'return stream "silver.row" { from = "bronze.row" }')
    assert "there is no storage for a table of `silver.row`" in rows.refused(1)
