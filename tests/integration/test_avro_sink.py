"""The Kafka sink in Avro: judged by fastavro, the registry's ids, and what a refused schema says."""

import base64
import collections
import datetime
import decimal
import json
import signal
import time
import uuid

import crash
import pytest
import registry_stub
from test_kafka_sink import read_all

SCHEMA = {"type": "record", "name": "sale", "fields": [
    {"name": "id", "type": "long"}, {"name": "store", "type": ["null", "string"]}, {"name": "qty", "type": ["null", "int"]}, {"name": "small", "type": {"type": "int", "weir": "int8"}},
    {"name": "share", "type": "double"}, {"name": "thin", "type": "float"}, {"name": "ok", "type": ["null", "boolean"]},
    {"name": "price", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 2}]},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}}, {"name": "local", "type": ["null", {"type": "long", "logicalType": "local-timestamp-micros"}]},
    {"name": "nanos", "type": ["null", {"type": "long", "logicalType": "timestamp-nanos"}]},
    {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}]}, {"name": "raw", "type": ["null", "bytes"]},
    {"name": "tags", "type": {"type": "array", "items": ["null", "string"]}}, {"name": "attrs", "type": ["null", {"type": "map", "values": "long"}]},
    {"name": "lines", "type": {"type": "array", "items": {"type": "record", "name": "line", "fields": [{"name": "sku", "type": "string"}, {"name": "n", "type": ["null", "int"]}]}}},
]}
ROWS = [
    {"id": 1, "store": "Zürich 🐟", "qty": -1, "small": -128, "share": 5e-324, "thin": 0.5, "ok": True, "price": "123456789012345678901234567890123456.78", "at": "2026-01-05T10:00:00.123456Z",
     "local": "2026-01-05T10:00:00.000001", "nanos": 1, "day": "1969-12-31", "raw": "AAH/", "tags": ["", None, "x"], "attrs": {"a": -(1 << 63), "b": (1 << 63) - 1}, "lines": [{"sku": "A", "n": None}, {"sku": "B", "n": 3}]},
    {"id": -(1 << 63), "store": None, "qty": None, "small": 127, "share": -0.0, "thin": -1.5, "ok": None, "price": None, "at": "1960-01-01T00:00:00Z", "local": None, "nanos": None, "day": None, "raw": None, "tags": [],
     "attrs": None, "lines": []},
    {"id": (1 << 63) - 1, "store": "", "qty": (1 << 31) - 1, "small": 0, "share": 1e308, "thin": 3.0, "ok": False, "price": "-0.01", "at": "2026-01-05T10:00:00Z", "local": "1900-01-01T00:00:00", "nanos": -1,
     "day": "2026-01-05", "raw": "", "tags": ["y"] * 200, "attrs": {}, "lines": [{"sku": "", "n": -(1 << 31)}]},
]
PIPELINE = """return pipeline "{name}" {{
  commit = {{ every = "20ms" }}, quarantine = none,
  sources = {{ source "bronze.sale" {{ files {{ path = "in/*.jsonl" }}, json {{ schema = "schemas/sale.avsc" }},
    into = kafka {{ brokers = "{brokers}", topic = "{topic}", {options} }} }} }},
}}
"""


@pytest.fixture
def registry():
    made = registry_stub.Registry()
    yield made
    made.stop()


class Out:
    def __init__(self, project, broker):
        self.project, self.broker = project, broker
        self.topic = broker.create_topic(f"avro-out-{time.time_ns()}")

    def write(self, options, schema=SCHEMA, rows=ROWS):
        self.project.write("schemas/sale.avsc", json.dumps(schema))
        self.project.write("in/1.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        self.project.write("pipelines/p.lua", PIPELINE.format(name=f"p{time.time_ns()}", brokers=self.broker.plaintext, topic=self.topic, options=options))

    def run(self, options, schema=SCHEMA, rows=ROWS, code=0):
        self.write(options, schema, rows)
        return self.project.run("pipelines/p.lua", code=code)

    def messages(self):
        return read_all(self.broker, self.topic)


@pytest.fixture
def out(project, kafka):
    return Out(project, kafka)


def wanted(row):
    utc = datetime.timezone.utc
    return {
        **{name: row[name] for name in ("id", "store", "qty", "small", "share", "thin", "ok", "tags", "attrs", "lines")},
        "price": row["price"] and decimal.Decimal(row["price"]), "at": datetime.datetime.fromisoformat(row["at"].replace("Z", "+00:00")).astimezone(utc),
        "day": row["day"] and datetime.date.fromisoformat(row["day"]), "nanos": row["nanos"],
        "local": row["local"] and datetime.datetime.fromisoformat(row["local"]), "raw": None if row["raw"] is None else base64.b64decode(row["raw"]),
    }


def test_every_type_reads_back_in_fastavro(out, registry):
    with decimal.localcontext() as context:
        context.prec = 60
        out.run(f'format = "avro", registry = "{registry.url}", key = "id"')
        messages = out.messages()
        found = [registry_stub.decoded(registry, message.value()) for message in messages]
    found = [{name: value for name, value in row.items() if not name.startswith("_")} for row in found]
    expected = {row["id"]: wanted(row) for row in ROWS}
    assert len(found) == len(ROWS)
    for row in found:
        assert row == expected[row["id"]]
        assert str(row["share"]) == str(expected[row["id"]]["share"])
    assert [message.key() for message in messages] == [str(row["id"]).encode() for row in ROWS]
    assert list(registry.subjects) == [f"{out.topic}-value"] and registry.schema(1)["namespace"] == "bronze"
    assert registry.asked[f"POST /subjects/{out.topic}-value/versions"] == 1, "asked once, not a row"


@pytest.mark.parametrize("options, subject", [
    ('subject_by = "record"', "bronze.sale"), ('subject_by = "topic_record", record = "shop.Sale"', "{topic}-shop.Sale"), ('subject = "sales"', "sales"), ('subject_by = "topic"', "{topic}-value")])
def test_under_which_subject(out, registry, options, subject):
    out.run(f'format = "avro", registry = "{registry.url}", {options}')
    assert list(registry.subjects) == [subject.format(topic=out.topic)] and len(out.messages()) == len(ROWS)


def test_keys_in_avro_and_json(out, registry):
    out.run(f'format = "avro", registry = "{registry.url}", key = "id", key_format = "avro"')
    assert [registry_stub.decoded(registry, message.key()) for message in out.messages()] == [row["id"] for row in ROWS]
    assert sorted(registry.subjects) == [f"{out.topic}-key", f"{out.topic}-value"]


def test_keys_of_several_columns(out, registry):
    out.run(f'format = "avro", registry = "{registry.url}", key = {{ "id", "store" }}, key_format = "avro"')
    assert [registry_stub.decoded(registry, message.key()) for message in out.messages()] == [{"id": row["id"], "store": row["store"]} for row in ROWS]
    out.topic = out.broker.create_topic(f"avro-out-{time.time_ns()}")
    out.run('key = "id", key_format = "json"')
    assert [json.loads(message.key()) for message in out.messages()] == [{"id": row["id"]} for row in ROWS]


GIVEN = {"type": "record", "name": "Sale", "namespace": "shop", "fields": [
    {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["RETURN", "SALE"]}}, {"name": "id", "type": "long"},
    {"name": "price", "type": {"type": "fixed", "name": "Money", "size": 6, "logicalType": "decimal", "precision": 12, "scale": 2}},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-nanos"}}, {"name": "later", "type": ["string", "null"]},
    {"name": "token", "type": {"type": "fixed", "name": "Token", "size": 3}}, {"name": "ref", "type": {"type": "string", "logicalType": "uuid"}}]}
PLAIN = {"type": "record", "name": "sale", "fields": [
    {"name": "id", "type": "int"}, {"name": "kind", "type": "string"}, {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}}, {"name": "token", "type": "bytes"}, {"name": "ref", "type": "string"}]}
SALE = {"id": 7, "kind": "SALE", "price": "-12.50", "at": "2026-01-05T10:00:00.000001Z", "token": "AAEC", "ref": "6ba7b810-9dad-11d1-80b4-00c04fd430c8"}
RULE = """return stream "silver.sale" {{ from = "bronze.sale", {more}
  into = kafka {{ brokers = "{brokers}", topic = "{topic}", format = "avro", registry = "{registry}", {options} }} }}
"""


def by_rule(out, registry, options, rows=(SALE,), more="", code=0):
    project = out.project
    project.write("schemas/sale.avsc", json.dumps(PLAIN))
    project.write("in/1.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    project.write("pipelines/p.lua", f"""return pipeline "p{time.time_ns()}" {{ rules = "rules", commit = {{ every = "20ms" }}, quarantine = none,
      sources = {{ source "bronze.sale" {{ files {{ path = "in/*.jsonl" }}, json {{ schema = "schemas/sale.avsc" }}, into = none }} }} }}""")
    project.write("rules/sale.lua", RULE.format(brokers=out.broker.plaintext, topic=out.topic, registry=registry.url, options=options, more=more))
    return project.run("pipelines/p.lua", code=code)


def test_by_a_schema_that_is_given(out, registry):
    out.project.write("schemas/out.avsc", json.dumps(GIVEN))
    by_rule(out, registry, 'schema = "schemas/out.avsc"')
    assert registry.schema(1) == GIVEN
    [found] = [registry_stub.decoded(registry, message.value()) for message in out.messages()]
    assert found == {"kind": "SALE", "id": 7, "price": decimal.Decimal("-12.50"), "at": found["at"], "later": None, "token": b"\0\1\2", "ref": uuid.UUID(SALE["ref"])}
    assert found["at"] == 1767607200000001000  # fastavro leaves nanoseconds as they are


@pytest.mark.parametrize("change, texts", [
    (("kind", "string", "int"), ("kind", "string", "int")), (("price", None, {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 3}), ("price", "decimal(12,2)")),
    (("at", None, {"type": "long", "logicalType": "timestamp-millis"}), ("at", "timestamp")), (("later", None, "string"), ("later", "no column", "null")), (("ref", None, None), ("ref", "drop the column"))])
def test_a_schema_that_does_not_fit_is_refused(out, registry, change, texts):
    name, _, kind = change
    fields = [{**field, "type": kind} if field["name"] == name else field for field in GIVEN["fields"] if field["name"] != name or kind]
    out.project.write("schemas/out.avsc", json.dumps({**GIVEN, "fields": fields}))
    refused = by_rule(out, registry, 'schema = "schemas/out.avsc"', code=1)
    assert all(text in refused.err for text in texts), refused


def test_a_value_the_schema_does_not_hold_stops_with_its_name(out, registry):
    out.project.write("schemas/out.avsc", json.dumps(GIVEN))
    refused = by_rule(out, registry, 'schema = "schemas/out.avsc"', rows=({**SALE, "kind": "GIFT"},), code=1)
    assert "GIFT" in refused.err and "kind" in refused.err and "one_of" in refused.err, refused
    assert out.messages() == []


def test_a_schema_the_registry_refuses_names_subject_field_and_way_out(out, registry):
    registry.register(f"{out.topic}-value", {"type": "record", "name": "sale", "namespace": "silver", "fields": [{"name": "id", "type": "string"}]})
    refused = by_rule(out, registry, "", code=1)
    assert f"{out.topic}-value" in refused.err and '"id"' in refused.err and "no int" in refused.err and "another subject" in refused.err, refused


def test_columns_that_older_versions_lack_may_be_null_to_their_readers(out, registry):
    registry.register(f"{out.topic}-value", {"type": "record", "name": "sale", "namespace": "silver", "fields": [{"name": "id", "type": "int"}]})
    by_rule(out, registry, "")
    out.project.write("in/2.jsonl", json.dumps({**SALE, "id": 8}) + "\n")
    out.project.run("pipelines/p.lua")
    assert len(registry.schemas) == 2, "the same schema after a restart"
    assert {field["name"]: isinstance(field["type"], list) for field in registry.schema(2)["fields"]}["kind"] and registry.schema(2)["fields"][0]["type"] == "int"
    assert [(row["id"], row["kind"]) for row in (registry_stub.decoded(registry, message.value()) for message in out.messages())] == [(7, "SALE"), (8, "SALE")]


def test_a_schema_that_may_not_be_registered_must_be_there(out, registry):
    refused = by_rule(out, registry, "register = false", code=1)
    assert f"{out.topic}-value" in refused.err and "register" in refused.err and not registry.schemas, refused


def test_a_registry_that_is_down_holds_the_epochs(out, registry):
    registry.down = True
    out.write(f'format = "avro", registry = "{registry.url}"')
    running = out.project.start("run", "pipelines/p.lua", "--until-end", "--json")
    deadline = time.monotonic() + 60
    while registry.asked[f"POST /subjects/{out.topic}-value/versions"] < 8 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running.poll() is None and out.messages() == []
    registry.down = False
    text, err = running.communicate(timeout=60)
    assert running.returncode == 0 and "wait for the schema registry" in err, text + err
    assert len(out.messages()) == len(ROWS)


def test_a_registry_that_stays_down_lets_the_pipeline_stop_and_loses_nothing(out, registry):
    registry.down = True
    out.write(f'format = "avro", registry = "{registry.url}"')
    running = out.project.start("run", "pipelines/p.lua", "--json")
    deadline = time.monotonic() + 60
    while registry.asked[f"POST /subjects/{out.topic}-value/versions"] < 8 and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=60)
    registry.down = False
    out.project.run("pipelines/p.lua")
    assert sorted(registry_stub.decoded(registry, m.value())["id"] for m in out.messages()) == sorted(row["id"] for row in ROWS)


@pytest.mark.parametrize("point", ["kafka_encoded", "ledger_after_sync", "kafka_marked", "kafka_committed"])
def test_killed_and_started_again_each_message_is_there_once(out, registry, point):
    assert point in crash.fault_points()
    rows = [{**SALE, "id": number} for number in range(400)]
    out.write(f'format = "avro", registry = "{registry.url}"', PLAIN, rows)
    process = out.project.start("run", "pipelines/p.lua", "--until-end", "--json", env={"WEIR_FAULT": f"{point}:1:kill"})
    process.communicate(timeout=90)
    assert process.returncode == -signal.SIGKILL
    out.project.run("pipelines/p.lua")
    found = collections.Counter(registry_stub.decoded(registry, message.value())["id"] for message in out.messages())
    assert not {number: times for number, times in found.items() if times != 1} and len(found) == len(rows), len(found)
