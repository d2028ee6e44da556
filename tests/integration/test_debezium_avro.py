"""Debezium's events in Avro: the meanings of those in JSON, with a schema registry's wire format around them."""

import base64
import datetime
import decimal
import io
import json
import pathlib
import time

import deltalake
import fastavro
import lake
import pytest
from registry_stub import Registry
from test_cdc import Orders, assert_equal, by_id, weir  # noqa: F401 - a fixture
from test_debezium import AFTER, DELETE, GONE, INSERT, SAMPLES

COLUMNS = [
    {"name": "id", "type": "int"}, {"name": "customer", "type": "string"},
    {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 14, "scale": 4}},
    {"name": "free", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 6}], "default": None},
    {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}], "default": None},
    {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}], "default": None},
    {"name": "raw", "type": ["null", "bytes"], "default": None}, {"name": "price", "type": ["null", "double"], "default": None},
    {"name": "big", "type": ["null", "string"], "default": None},
]


def nullable(name, kind):
    return {"name": name, "type": ["null", kind], "default": None}


def envelope(scale=2, more=()):
    """As the connector's converter writes them."""
    value = {"type": "record", "name": "Value", "fields": [
        {"name": "id", "type": {"type": "int", "connect.default": 0}, "default": 0}, {"name": "customer", "type": "string"},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 14, "scale": scale, "connect.name": "org.apache.kafka.connect.data.Decimal"}},
        nullable("free", {"type": "record", "name": "VariableScaleDecimal", "namespace": "io.debezium.data",
                          "fields": [{"name": "scale", "type": "int"}, {"name": "value", "type": "bytes"}]}),
        nullable("at", {"type": "long", "connect.name": "io.debezium.time.MicroTimestamp"}),
        nullable("day", {"type": "int", "connect.name": "io.debezium.time.Date"}), nullable("raw", "bytes"), nullable("price", "double"),
        nullable("big", "string"), *more]}
    source = {"type": "record", "name": "Source", "fields": [
        {"name": "ts_ms", "type": "long"}, nullable("txId", "long"), nullable("lsn", "long"), nullable("ts_us", "long")]}
    block = {"type": "record", "name": "block", "namespace": "event", "fields": [{"name": "id", "type": "string"}, {"name": "total_order", "type": "long"}]}
    return {"type": "record", "name": "Envelope", "namespace": "shop.public.orders", "fields": [
        nullable("before", value), nullable("after", "Value"), {"name": "source", "type": source}, nullable("transaction", block),
        {"name": "op", "type": "string"}, nullable("ts_ms", "long")]}


def row(**values):
    return {"id": 1, "customer": "ann", "amount": decimal.Decimal("12.50"), "free": None, "at": None, "day": None, "raw": None, "price": None, "big": None, **values}


def event(op, before=None, after=None, transaction=None, **source):
    return {"before": before, "after": after, "op": op, "ts_ms": 5, "transaction": transaction, "source": {"lsn": 77, "txId": 9, "ts_ms": 1000, **source}}


def message(registry, schema, datum):
    number = registry.register("orders-value", schema)
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), datum)
    return b"\0" + number.to_bytes(4, "big") + out.getvalue()


@pytest.fixture
def registry():
    made = Registry()
    made.levels["orders-value"] = "NONE"
    yield made
    made.stop()


def table(project, path):
    path = project.root / "lake" / path
    return lake.by_deltalake(path).sort_by("_offset").to_pylist() if path.exists() else []


def read(project, kafka, url, messages, fields=COLUMNS, key='"id"'):
    """The changelog, in the order of the messages, and the reasons of what was quarantined."""
    topic = kafka.create_topic(f"dbz-{time.time_ns()}")
    kafka.produce(topic, messages)
    project.write("schemas/orders.avsc", json.dumps({"type": "record", "name": "orders", "fields": fields}))
    project.write("pipelines/p.lua", f"""return pipeline "p" {{ storage = delta {{ root = "lake" }},
  sources = {{ source "bronze.orders" {{ kafka {{ brokers = "{kafka.plaintext}", topic = "{topic}" }},
    debezium {{ key = {key}, schema = "schemas/orders.avsc", registry = "{url}" }} }} }} }}""")
    project.run("pipelines/p.lua")
    return table(project, "bronze/orders"), [one["_reasons"][0]["error"] for one in table(project, "quarantine/bronze/orders")]


def test_each_op_is_a_change(project, kafka, registry):
    schema = envelope()
    late = datetime.datetime(2026, 11, 21, 6, 0, 0, 123456, tzinfo=datetime.timezone.utc)
    since = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    rows, reasons = read(project, kafka, registry.url, [message(registry, schema, one) for one in [
        event("r", after=row(lsn=None), lsn=None),
        event("c", after=row(id=2, at=(late - since) // datetime.timedelta(microseconds=1), day=-719162, raw=b"\0\xff", price=-0.0,
                             free={"scale": 3, "value": (-1500).to_bytes(2, "big", signed=True)}), transaction={"id": "501:9001", "total_order": 1}),
        event("u", after=row(id=2, big=GONE, price=5e-324)),
        event("d", before=row(id=2, customer="", amount=decimal.Decimal(0))),
        event("u", after=row(raw=GONE.encode())),
    ]] + [None])
    assert reasons == []
    assert [one["_change"] for one in rows] == [INSERT, INSERT, AFTER, DELETE, AFTER]
    assert [one["_source_lsn"] for one in rows] == [None, 77, 77, 77, 77]
    assert [one["_source_txid"] for one in rows] == [9, 501, 9, 9, 9]
    assert rows[0]["amount"] == decimal.Decimal("12.5000") and rows[0]["_source_time"] == since + datetime.timedelta(seconds=1)
    assert (rows[1]["at"], rows[1]["day"], rows[1]["raw"], str(rows[1]["price"])) == (late, datetime.date(1, 1, 1), b"\0\xff", "-0.0")
    assert rows[1]["free"] == decimal.Decimal("-1.500000")
    assert [one["_unavailable"] for one in rows] == [None, None, ["big"], None, ["raw"]]
    assert rows[2]["price"] == 5e-324
    assert rows[3]["customer"] is None and rows[3]["amount"] is None, "only keys of a delete are true"


def test_scales_and_columns_go_with_the_writers_schema(project, kafka, registry):
    wider = envelope(4, [nullable("region", "string")])
    finer = envelope(5)
    rows, reasons = read(project, kafka, registry.url, [
        message(registry, envelope(2), event("c", after=row(amount=decimal.Decimal("1.25")))),
        message(registry, wider, event("c", after=row(id=2, amount=decimal.Decimal("1.2345"), region="EU"))),
        message(registry, finer, event("c", after=row(id=3, amount=decimal.Decimal("1.23456")))),
    ])
    assert [one["amount"] for one in rows] == [decimal.Decimal("1.2500"), decimal.Decimal("1.2345")]
    assert json.loads(rows[1]["_rescued"]) == {"region": "EU"}
    assert ["scale 5" in one and "amount" in one for one in reasons] == [True], reasons


def test_what_cannot_be_read_is_refused_by_name(project, kafka, registry):
    schema = envelope()
    good = message(registry, schema, event("c", after=row()))
    rows, reasons = read(project, kafka, registry.url, [
        good, message(registry, schema, event("c", after=row(at=9223372036825200000))), message(registry, schema, event("c", after=row(day=2146033979))),
        good[:-3], good + b"\0", b"{}", b"\0\0\0\xff\xff" + good[5:], good])
    assert len(rows) == 2
    for text, wanted in zip(reasons,
                            ["9223372036825200000 is infinity", "2146033979 is infinity", "ends elsewhere", "ends elsewhere",
                             "not a message of a schema registry", "schema id 65535, first at offset 6"], strict=True):
        assert wanted in text, (text, wanted)
    assert all("(schema id 1, first at offset 0)" in text for text in reasons[:2]), reasons


def test_a_truncate_among_rows_of_several_partitions_is_refused(project, kafka, registry):
    topic = kafka.create_topic(f"truncated-{time.time_ns()}", partitions=2)
    kafka.produce(topic, [{"value": message(registry, envelope(), one), "partition": 1} for one in (event("c", after=row()), event("t"))])
    project.write("schemas/orders.avsc", json.dumps({"type": "record", "name": "orders", "fields": COLUMNS}))
    project.write("rules/r.lua", 'return stream "silver.orders" { from = "bronze.orders", key = "id", into = delta { mode = "merge" } }')
    project.write("pipelines/p.lua", f"""return pipeline "p{time.time_ns()}" {{ rules = "rules", storage = delta {{ root = "lake" }},
  sources = {{ source "bronze.orders" {{ kafka {{ brokers = "{kafka.plaintext}", topic = "{topic}" }},
    debezium {{ key = "id", schema = "schemas/orders.avsc", registry = "{registry.url}" }} }} }} }}""")
    assert project.run("pipelines/p.lua")["datasets"]["silver.orders"]["rejected"] == {"truncate": 1}
    refused, = lake.by_deltalake(project.root / "lake/quarantine/silver/orders").to_pylist()
    assert "one partition" in refused["_reasons"][0]["error"]


def test_a_registry_that_is_down_is_waited_for_and_asked_ever_more_rarely(project, kafka, registry):
    topic = kafka.create_topic(f"dbz-{time.time_ns()}")
    kafka.produce(topic, [message(registry, envelope(), event("c", after=row(id=number))) for number in range(100)])
    project.write("schemas/orders.avsc", json.dumps({"type": "record", "name": "orders", "fields": COLUMNS}))
    project.write("pipelines/p.lua", f"""return pipeline "p" {{ storage = delta {{ root = "lake" }}, commit = {{ every = "50ms" }},
  sources = {{ source "bronze.orders" {{ kafka {{ brokers = "{kafka.plaintext}", topic = "{topic}" }},
    debezium {{ key = "id", schema = "schemas/orders.avsc", registry = "{registry.url}" }} }} }} }}""")
    registry.asked.clear()
    registry.refuses = 401, {"message": "who are you?"}
    process = project.start("run", "pipelines/p.lua", "--until-end")
    give_up = time.monotonic() + 60
    while sum(registry.asked.values()) < 4:
        assert process.poll() is None and time.monotonic() < give_up, process.communicate()
        time.sleep(0.02)
    started = time.monotonic()
    time.sleep(1.5)
    asked, seconds = sum(registry.asked.values()) - 4, time.monotonic() - started
    assert asked <= 4 + seconds, f"{asked} requests in {seconds} s"
    registry.refuses = None
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "waits for schema" in err, err
    assert sorted(one["id"] for one in table(project, "bronze/orders")) == list(range(100))


@pytest.mark.skipif(not SAMPLES.exists(), reason="the samples of Debezium's messages are not at hand")
@pytest.mark.parametrize("name, key, fields", [
    ("orders", '"id"', [{"name": "id", "type": "int"}, {"name": "customer", "type": "string"},
                        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 14, "scale": 4}},
                        nullable("note", "string"), nullable("big", "string"), nullable("updated_at", {"type": "long", "logicalType": "timestamp-micros"})]),
    ("orders_full", '{ "id", "line" }', [{"name": "id", "type": "int"}, {"name": "line", "type": "int"}, nullable("sku", "string"), nullable("qty", "int"), nullable("big", "string")]),
])
def test_real_messages_say_the_same_in_avro_and_in_json(new_project, kafka, name, key, fields):
    """The samples' connectors saw the same tables: with schemas in JSON, and in Avro."""
    numbers = json.loads((SAMPLES / "dav.schemas.json").read_text())
    stub = Registry()
    for number in range(1, 1 + max(map(int, numbers))):
        one = numbers.get(str(number), {})
        stub.schemas.append(one if isinstance(one, str) else json.dumps(one))
    try:
        found = {}
        for form in ("dav", "djs"):
            lines = [json.loads(line) for line in (SAMPLES / f"{form}.jsonl").read_text().splitlines()]
            lines = [one for one in lines if one["topic"] == f"{form}.public.{name}"]
            project = new_project(form)
            if form == "dav":
                rows, reasons = read(project, kafka, stub.url, [base64.b64decode(one["value_b64"]) if one.get("value_b64") else None for one in lines], fields, key)
            else:
                project.write("landing/a.jsonl", "".join(f'{one["value"] if one["value"] is not None else "null"}\n' for one in lines))
                project.write("schemas/orders.avsc", json.dumps({"type": "record", "name": "orders", "fields": fields}))
                project.write("pipelines/p.lua", f"""return pipeline "p" {{ storage = delta {{ root = "lake" }}, sources = {{ source "bronze.orders" {{
                  files {{ path = "landing/*.jsonl" }}, debezium {{ key = {key}, schema = "schemas/orders.avsc" }} }} }} }}""")
                project.run("pipelines/p.lua")
                rows, reasons = table(project, "bronze/orders"), [one["_reasons"][0]["error"] for one in table(project, "quarantine/bronze/orders")]
            names = ["_change", "_unavailable", *(field["name"] for field in fields)]
            found[form] = [[one[each] for each in names] for one in rows], sorted(one.split(", at byte")[0] for one in reasons)
        assert found["dav"] == found["djs"] and len(found["dav"][0]) > 5
    finally:
        stub.stop()


def test_the_table_equals_the_source_after_a_kill(kafka, database, apicurio, connect_avro, weir):  # noqa: F811
    """PostgreSQL → the connector with its Avro converter → a real registry and broker → Delta; columns and scales change on the way."""
    orders = Orders(database, seed="avro", identity="full")
    name = orders.schema
    orders.live(100)
    orders.run("delete from @.wanted where id in (select id from @.orders where amount < 0);")
    connect_avro.capture(name, database, "postgres", [f"{name}.orders"], avro=apicurio.api)
    run = weir(f"{name}.{name}.orders", "copy", f', registry = "{apicurio.url}"')
    orders.live(100)
    run.start()
    mark = orders.mark()
    orders.live(200)
    run.wait_for_row(mark)
    run.kill()
    run.start()
    orders.alter("add column region text default 'EU'")
    orders.alter("alter column amount type numeric(14,4)")
    orders.live(100)
    run.wait_for_row(orders.mark())
    assert_equal(run.rows(), [{key: value for key, value in one.items() if key != "region"} for one in orders.rows("wanted")])
    assert by_id(run.rows())[mark]["customer"] == "mark"
    run.stop()
    connect_avro.remove(name)
    assert any(one["_rescued"] and "region" in json.loads(one["_rescued"]) for one in run.table("bronze/orders"))
    ids = {version for subject in apicurio.call("/subjects") if subject.startswith(name) for version in apicurio.call(f"/subjects/{subject}/versions")}
    assert len(ids) > 1, "the registry has more than one version"
