"""Avro from Kafka: the registry's wire format and bare bodies, writers that differ from the reader, judged by fastavro."""

import base64
import collections
import datetime
import decimal
import http.server
import io
import json
import math
import os
import random
import threading
import time
import urllib.parse

import deltalake
import fastavro
import pytest

READER = {"type": "record", "name": "sale", "namespace": "shop", "fields": [
    {"name": "id", "type": "long"}, {"name": "store", "type": "string", "aliases": ["shop"]}, {"name": "note", "type": ["null", "string"], "default": None},
    {"name": "qty", "type": "int", "default": 7}, {"name": "share", "type": "double"}, {"name": "ok", "type": "boolean"},
    {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}}, {"name": "day", "type": {"type": "int", "logicalType": "date"}},
    {"name": "kind", "type": {"type": "enum", "name": "kind", "symbols": ["SALE", "RETURN", "OTHER"], "default": "OTHER"}},
    {"name": "raw", "type": "bytes"}, {"name": "tags", "type": {"type": "array", "items": "string"}},
    {"name": "attrs", "type": {"type": "map", "values": ["null", "long"]}},
    {"name": "till", "type": {"type": "record", "name": "till", "fields": [{"name": "n", "type": "int"}, {"name": "by", "type": ["string", "null"]}]}},
]}
PIPELINE = """\
return pipeline "p" {
  storage = delta { root = "lake" }, commit = { every = "50ms" },
  sources = { source "bronze.sale" { kafka { brokers = "%s", topic = "%s" }, avro { %s } } },
}
"""


class Registry:
    """The registry's three requests, answering what it was given; it can be down, and it counts."""

    def __init__(self):
        self.schemas, self.subjects, self.asked, self.down, self.token = {}, {}, collections.Counter(), False, None
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *arguments):
                pass

            def do_GET(self):
                registry.asked[self.path] += 1
                parts = self.path.strip("/").split("/")
                status, body = 404, {"error_code": 40403, "message": "Schema not found"}
                if registry.down:
                    status, body = 503, {"message": "later"}
                elif registry.token and self.headers.get("Authorization") != registry.token:
                    status, body = 401, {"message": "Unauthorized"}
                elif parts[:2] == ["schemas", "ids"] and int(parts[2]) in registry.schemas:
                    status, body = 200, registry.schemas[int(parts[2])]
                elif parts[0] == "subjects" and urllib.parse.unquote(parts[1]) in registry.subjects:
                    status, body = 200, registry.schemas[registry.subjects[urllib.parse.unquote(parts[1])]]
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def add(self, number, schema, subject=None, references=()):
        self.schemas[number] = {"schema": json.dumps(schema), "references": list(references)}
        if subject:
            self.subjects[subject] = number
        return number

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def registry():
    made = Registry()
    yield made
    made.stop()


@pytest.fixture
def topic(kafka, request):
    return kafka.create_topic(f"avro-{time.time_ns()}")


def body(schema, datum):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), datum)
    return out.getvalue()


def message(number, schema, datum):
    return b"\0" + number.to_bytes(4, "big") + body(schema, datum)


def sale(draw, number):
    return {
        "id": draw.choice([number, -(1 << 63), (1 << 63) - 1]), "store": draw.choice(["", "S1", "Zürich", "x\0y", "🐟" * 20]),
        "note": draw.choice([None, "", "text"]), "qty": draw.choice([0, -1, (1 << 31) - 1, -(1 << 31)]),
        "share": draw.choice([0.0, -0.0, 1.5, 5e-324, math.inf]), "ok": draw.random() < 0.5,
        "price": decimal.Decimal(draw.randrange(-10**12 + 1, 10**12)).scaleb(-2),
        "at": datetime.datetime(2026, 1, 5, tzinfo=datetime.timezone.utc) + datetime.timedelta(microseconds=draw.randrange(10**12)),
        "day": datetime.date(1969, 12, 31) + datetime.timedelta(days=draw.randrange(30000)), "kind": draw.choice(["SALE", "RETURN", "OTHER"]),
        "raw": bytes(draw.randrange(256) for _ in range(draw.randrange(9))), "tags": [str(n) for n in range(draw.choice([0, 1, 5]))],
        "attrs": {f"k{n}": draw.choice([None, n, 1 << 60]) for n in range(draw.choice([0, 1, 3]))},
        "till": {"n": draw.randrange(9), "by": draw.choice(["eve", None])},
    }


def run(project, kafka, topic, options, env=None, code=0):
    project.write("pipelines/p.lua", PIPELINE % (kafka.plaintext, topic, options))
    return project.run("pipelines/p.lua", env=env, code=code)


def rows(project, table="lake/bronze/sale"):
    found = deltalake.DeltaTable(str(project.root / table)).to_pyarrow_table().to_pylist()
    for row in found:
        if isinstance(row.get("attrs"), list):
            row["attrs"] = dict(row["attrs"])
    return sorted(found, key=lambda row: row["_offset"])


def check(project, wanted, rescued=None):
    found = rows(project)
    assert len(found) == len(wanted)
    for index, (row, datum) in enumerate(zip(found, wanted)):
        for name, value in datum.items():
            if name == "share":
                assert math.copysign(1, row[name]) == math.copysign(1, value) and row[name] == value
            else:
                assert row[name] == value, (index, name)
        if rescued is not None:
            assert (row["_rescued"] and json.loads(row["_rescued"])) == rescued[index]


def test_every_type_of_a_registered_schema(project, kafka, topic, registry):
    draw = random.Random(1)
    data = [sale(draw, number) for number in range(300)]
    registry.add(7, READER, f"{topic}-value")
    kafka.produce(topic, [message(7, READER, datum) for datum in data])
    outcome = run(project, kafka, topic, f'registry = "{registry.url}"')
    assert outcome["events"] == 300
    check(project, data)
    assert registry.asked["/schemas/ids/7"] == 1, "a schema is asked for once"


def test_bare_bodies_by_a_file(project, kafka, topic):
    draw = random.Random(2)
    data = [sale(draw, number) for number in range(100)]
    project.write("schemas/sale.avsc", json.dumps(READER))
    kafka.produce(topic, [body(READER, datum) for datum in data])
    run(project, kafka, topic, 'schema = "schemas/sale.avsc"')
    check(project, data)


@pytest.mark.parametrize("mine, writers, value", [
    ({"type": "int", "weir": "int16"}, "int", -300), ({"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 4}, {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, decimal.Decimal("-12.25")),
])
def test_a_last_field_that_may_be_null_and_is_read_the_long_way(project, kafka, topic, registry, mine, writers, value):
    def record(kind):
        return {"type": "record", "name": "v", "fields": [{"name": "id", "type": "long"}, {"name": "v", "type": ["null", kind], "default": None}]}
    project.write("schemas/v.avsc", json.dumps(record(mine)))
    number = registry.add(3, record(writers))
    kafka.produce(topic, [message(number, record(writers), {"id": at, "v": value if at % 3 else None}) for at in range(9)])
    run(project, kafka, topic, f'registry = "{registry.url}", schema = "schemas/v.avsc"')
    assert [(row["id"], row["v"]) for row in rows(project)] == [(at, value if at % 3 else None) for at in range(9)]


def test_single_objects_by_a_file(project, kafka, topic):
    draw = random.Random(2)
    data = [sale(draw, number) for number in range(50)]
    project.write("schemas/sale.avsc", json.dumps(READER))
    form = fastavro.schema.to_parsing_canonical_form(READER)
    mark = b"\xc3\x01" + bytes.fromhex(fastavro.schema.fingerprint(form, "CRC-64-AVRO"))
    other = b"\xc3\x01" + bytes(8)
    kafka.produce(topic, [(mark if index % 2 else b"") + body(READER, datum) for index, datum in enumerate(data)] + [other + body(READER, data[0])])
    run(project, kafka, topic, 'schema = "schemas/sale.avsc"')
    check(project, data)
    assert len(rows(project, "lake/quarantine/bronze/sale")) == 1


def writer_of(draw):
    """A writer the reader can read: fields in another order, promoted, renamed by alias, left out, added, in unions."""
    fields, used = [], []
    for field in READER["fields"]:
        name, kind = field["name"], field["type"]
        if name in ("note", "qty") and draw.random() < 0.4:
            continue
        if name == "store" and draw.random() < 0.5:
            name = "shop"
        if field["name"] == "id" and draw.random() < 0.5:
            kind = "int"
        if field["name"] == "share":
            kind = draw.choice(["double", "float", "int", "long"])
        if field["name"] == "at" and draw.random() < 0.5:
            kind = {"type": "long", "logicalType": "timestamp-millis"}
        if field["name"] == "price" and draw.random() < 0.5:
            kind = {"type": "fixed", "name": f"money{draw.randrange(99)}", "size": 8, "logicalType": "decimal", "precision": 12, "scale": draw.choice([0, 1, 2])}
        if field["name"] == "kind":
            kind = {"type": "enum", "name": "kind", "symbols": draw.choice([["RETURN", "SALE"], ["SALE", "GIFT", "RETURN"], ["OTHER"]])}
        if draw.random() < 0.2 and not isinstance(kind, list):
            kind = draw.choice([[kind, "null"], ["null", kind]])
        fields.append({"name": name, "type": kind})
        used.append(field["name"])
    for number in range(draw.randrange(3)):
        fields.append({"name": f"new{number}", "type": draw.choice(["string", "long", {"type": "array", "items": ["null", "int"]}, {"type": "map", "values": "boolean"}])})
    draw.shuffle(fields)
    return {"type": "record", "name": "sale", "namespace": "shop", "fields": fields}


def datum_of(draw, schema, number):
    datum = {}
    whole = sale(draw, number)
    for field in schema["fields"]:
        name, kind = field["name"], field["type"]
        if isinstance(kind, list):
            kind = next(one for one in kind if one != "null") if name not in ("note",) else kind
        if name == "id":
            datum[name] = number if kind == "int" else whole["id"]
        elif name == "shop":
            datum[name] = whole["store"]
        elif name == "share":
            datum[name] = number if kind in ("int", "long") else 0.5 * number if kind == "float" else whole["share"]
        elif name == "at":
            datum[name] = whole["at"].replace(microsecond=whole["at"].microsecond // 1000 * 1000) if kind["logicalType"].endswith("millis") else whole["at"]
        elif name == "price" and kind["type"] == "fixed":
            datum[name] = decimal.Decimal(draw.randrange(-10**6, 10**6)).scaleb(-kind["scale"])
        elif name == "kind":
            datum[name] = draw.choice(kind["symbols"])
        elif name.startswith("new"):
            datum[name] = ("text\"\n" if kind == "string" else number if kind == "long" else [None, number] if kind["type"] == "array" else {"a": True})
        else:
            datum[name] = whole[name]
    return datum


@pytest.mark.parametrize("reader", ["file", "newest"])
@pytest.mark.parametrize("seed", range(int(os.environ.get("WEIR_AVRO_SEEDS", "3"))))
def test_writers_that_differ_are_resolved_as_fastavro_does(project, kafka, topic, registry, seed, reader):
    """The reader's schema is a file, or what the registry has newest: aliases, defaults and an enum's default are its own either way."""
    draw = random.Random(seed)
    project.write("schemas/sale.avsc", json.dumps(READER))
    registry.add(7, READER, f"{topic}-value")
    options = f'registry = "{registry.url}"' + (', schema = "schemas/sale.avsc"' if reader == "file" else "")
    messages, wanted, rescued = [], [], []
    for number in range(12):
        schema = writer_of(draw)
        registry.add(100 + number, schema)
        for index in range(8):
            datum = datum_of(draw, schema, number * 8 + index)
            messages.append(message(100 + number, schema, datum))
            # fastavro resolves no decimal of another scale, and reads a writer's milliseconds as the reader's microseconds.
            as_written = {field["name"]: field["type"] for field in schema["fields"] if field["name"] in ("price", "at")}
            reader = {**READER, "fields": [{**field, "type": as_written.get(field["name"], field["type"])} for field in READER["fields"]]}
            resolved = fastavro.schemaless_reader(io.BytesIO(body(schema, datum)), fastavro.parse_schema(schema), fastavro.parse_schema(reader))
            if datum["kind"] == "GIFT":
                resolved["kind"] = "OTHER"
            wanted.append(resolved)
            rescued.append({name: value for name, value in datum.items() if name.startswith("new")} or None)
    kafka.produce(topic, messages)
    outcome = run(project, kafka, topic, options)
    assert outcome["events"] == len(messages)
    check(project, wanted, rescued)


@pytest.mark.parametrize("reader", ["file", "newest"])
def test_a_name_goes_before_an_alias_and_aliases_and_defaults_reach_into_structs(project, kafka, topic, registry, reader):
    def place(name, **more):
        added = [{"name": "kind", "type": "string", "default": "gate"}, {"name": "size", "type": ["int", "null"], "default": 7}, {"name": "tags", "type": {"type": "array", "items": "string"}, "default": []},
                 {"name": "on", "type": "boolean", "default": True}, {"name": "share", "type": "double", "default": 0.5}]
        return {"type": "record", "name": "place", "fields": [{"name": name, "type": "string", **more}, {"name": "n", "type": "int"}, *(added if more else [])]}
    newest = {"type": "record", "name": "sale", "fields": [
        {"name": "store", "type": "string", "aliases": ["shop", "till"]}, {"name": "at", "type": {"type": "array", "items": place("town", aliases=["city"])}}]}
    writers = [
        {"type": "record", "name": "sale", "fields": [{"name": "shop", "type": "string"}, {"name": "store", "type": "string"}, {"name": "at", "type": {"type": "array", "items": place("city")}}]},
        {"type": "record", "name": "sale", "fields": [{"name": "at", "type": {"type": "array", "items": place("town")}}, {"name": "till", "type": "string"}]}]
    data = [{"shop": "not this", "store": "this", "at": [{"city": "Bern", "n": 1}, {"city": "Chur", "n": 2}]}, {"till": "that", "at": [{"town": "Genf", "n": 3}]}]
    project.write("schemas/sale.avsc", json.dumps(newest))
    registry.add(3, newest, f"{topic}-value")
    wanted = []
    for number, (schema, datum) in enumerate(zip(writers, data)):
        registry.add(number + 1, schema)
        wanted.append(fastavro.schemaless_reader(io.BytesIO(body(schema, datum)), fastavro.parse_schema(schema), fastavro.parse_schema(newest)))
    assert [row["at"][0]["town"] for row in wanted] == ["Bern", "Genf"] and wanted[1]["store"] == "that" and wanted[0]["at"][1]["size"] == 7
    wanted[0]["store"] = "this"  # fastavro takes whichever the writer has last
    kafka.produce(topic, [message(number + 1, schema, datum) for number, (schema, datum) in enumerate(zip(writers, data))])
    run(project, kafka, topic, f'registry = "{registry.url}"' + (', schema = "schemas/sale.avsc"' if reader == "file" else ""))
    check(project, wanted, [{"shop": "not this"}, None])


def test_bytes_that_are_no_message_are_quarantined_with_their_reason(project, kafka, topic, registry):
    draw = random.Random(3)
    whole = message(7, READER, sale(draw, 1))
    registry.add(7, READER, f"{topic}-value")
    registry.add(8, {"type": "record", "name": "sale", "namespace": "shop", "fields": [{"name": "id", "type": "string"}]})
    bad = [whole[:cut] for cut in range(1, len(whole))] + [whole + b"x", b"{}", b"\0\0\0\0\x09" + whole[5:], b"\0\0\0\0\x08\x02a"]
    bad += [bytes(draw.randrange(256) for _ in range(draw.randrange(1, 60))) for _ in range(200)]
    bad += [whole[:5] + bytes(draw.randrange(256) if draw.random() < 0.3 else byte for byte in whole[5:]) for _ in range(300)]
    kafka.produce(topic, [whole, *bad, whole])
    run(project, kafka, topic, f'registry = "{registry.url}"')
    quarantined = rows(project, "lake/quarantine/bronze/sale")
    kept = rows(project)
    assert len(quarantined) + len(kept) == len(bad) + 2 and len(kept) >= 2
    reasons = {row["_offset"]: row["_reasons"][0]["error"] for row in quarantined}
    first = 1 + len(whole) - 1
    assert "too many" in reasons[first] and "zero byte" in reasons[first + 1]
    assert "schema id 9" in reasons[first + 2] and "not there" in reasons[first + 2]
    assert "schema id 8" in reasons[first + 3] and '"id"' in reasons[first + 3] and "string" in reasons[first + 3]
    for row in quarantined:
        assert bytes(row["_raw"]) == bad[row["_offset"] - 1]


def test_schemas_that_refer_to_others(project, kafka, topic, registry):
    till = {"type": "record", "name": "Till", "namespace": "shop", "fields": [{"name": "n", "type": "int"}]}
    whole = {"type": "record", "name": "sale", "namespace": "shop", "fields": [{"name": "id", "type": "long"}, {"name": "till", "type": "shop.Till"}]}
    registry.add(1, till, "till")
    registry.add(2, whole, references=[{"name": "shop.Till", "subject": "till", "version": 1}])
    reader = {"type": "record", "name": "sale", "fields": [{"name": "id", "type": "long"}, {"name": "till", "type": till}]}
    project.write("schemas/sale.avsc", json.dumps(reader))
    kafka.produce(topic, [b"\0\0\0\0\x02" + body(reader, {"id": 3, "till": {"n": 4}})])
    run(project, kafka, topic, f'registry = "{registry.url}", schema = "schemas/sale.avsc"')
    check(project, [{"id": 3, "till": {"n": 4}}])


def test_a_registry_that_is_down_is_waited_for(project, kafka, topic, registry):
    draw = random.Random(4)
    data = [sale(draw, number) for number in range(20)]
    project.write("schemas/sale.avsc", json.dumps(READER))
    registry.add(7, READER)
    registry.down = True
    kafka.produce(topic, [message(7, READER, datum) for datum in data])
    project.write("pipelines/p.lua", PIPELINE % (kafka.plaintext, topic, f'registry = "{registry.url}", schema = "schemas/sale.avsc"'))
    running = project.start("run", "pipelines/p.lua", "--until-end", "--json")
    deadline = time.monotonic() + 60
    while registry.asked["/schemas/ids/7"] < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    registry.down = False
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0, out + err
    check(project, data)


def test_who_may_ask(project, kafka, topic, registry):
    data = [sale(random.Random(5), 1)]
    registry.add(7, READER, f"{topic}-value")
    registry.token = "Basic " + base64.b64encode(b"weir:s3cret").decode()
    kafka.produce(topic, [message(7, READER, datum) for datum in data])
    refused = run(project, kafka, topic, f'registry = "{registry.url}"', code=3)
    assert "401" in refused.err and "password" in refused.err, refused
    run(project, kafka, topic, f'registry = "{registry.url}", username = "weir", password = env "REGISTRY_PASSWORD"', env={"REGISTRY_PASSWORD": "s3cret"})
    check(project, data)


@pytest.mark.parametrize("options, texts", [("", ("registry", "schema")), ('registry = "http://127.0.0.1:1"', ("127.0.0.1:1",))])
def test_where_schemas_are_must_be_said(project, kafka, topic, options, texts):
    project.write("pipelines/p.lua", PIPELINE % (kafka.plaintext, topic, options))
    outcome = project.weir("check", "pipelines/p.lua")
    assert outcome.code in (1, 3) and all(text in outcome.out + outcome.err for text in texts), outcome
