"""Values of every type through JSON, a rule and Delta, and time zones on the days the clocks change."""

import base64
import datetime
import decimal
import json
import random
import struct
import zoneinfo

import lake
import pyarrow as pa

UTC = datetime.timezone.utc
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=UTC)

PIPELINE = """return pipeline "values" {
  rules   = "rules",
  storage = delta { root = "lake" },
  sources = { source "bronze.value" { files { path = "landing/*.jsonl" }, json { schema = "schemas/value.avsc" }@BRONZE@ } },
}
"""


def nullable(kind):
    return ["null", kind]


FIELDS = [  # name, avro, arrow
    ("n", "long", pa.int64()),
    ("flag", nullable("boolean"), pa.bool_()),
    ("small", nullable("int"), pa.int32()),
    ("big", nullable("long"), pa.int64()),
    ("single", nullable("float"), pa.float32()),
    ("double", nullable("double"), pa.float64()),
    ("text", nullable("string"), pa.string()),
    ("bytes", nullable("bytes"), pa.binary()),
    ("day", nullable({"type": "int", "logicalType": "date"}), pa.date32()),
    ("at", nullable({"type": "long", "logicalType": "timestamp-micros"}), pa.timestamp("us", tz="UTC")),
    ("price", nullable({"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 4}), pa.decimal128(18, 4)),
    ("huge", nullable({"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 0}), pa.decimal128(38, 0)),
    ("tags", nullable({"type": "array", "items": "string"}), pa.list_(pa.string())),
    ("lines", nullable({"type": "array", "items": {"type": "record", "name": "line", "fields": [
        {"name": "sku", "type": "string"}, {"name": "qty", "type": nullable("int")}]}}), None),
    ("attrs", nullable({"type": "map", "values": "long"}), None),
]
SCHEMA = json.dumps({"type": "record", "name": "value", "fields": [
    {"name": name, "type": avro, **({"default": None} if isinstance(avro, list) else {})} for name, avro, _ in FIELDS]})


def single(value):
    return struct.unpack("f", struct.pack("f", value))[0]


def make(rng, number):
    def text():
        return "".join(rng.choice(["a", "é", "☃", "\U0001F6D2", '"', "\\", "\n", " "]) for _ in range(rng.randrange(6)))

    row = {
        "n": number,
        "flag": rng.random() < 0.5,
        "small": rng.choice([0, -1, (1 << 31) - 1, -(1 << 31)]),
        "big": rng.choice([0, (1 << 63) - 1, -(1 << 63), (1 << 53) + 1]),
        "single": single(rng.choice([0.1, -1.5, 3e38, 1e-40, 0.0])),
        "double": rng.choice([0.1, -1.5, 1.7976931348623157e308, 5e-324, rng.random()]),
        "text": text(),
        "bytes": bytes(rng.randrange(256) for _ in range(rng.randrange(5))),
        "day": datetime.date(1970, 1, 1) + datetime.timedelta(days=rng.randrange(-30000, 60000)),
        "at": EPOCH + datetime.timedelta(microseconds=rng.randrange(-10**15, 2 * 10**15)),
        "price": decimal.Decimal(rng.randrange(-(10**18) + 1, 10**18)).scaleb(-4),
        "huge": decimal.Decimal(rng.choice([1, -1]) * (10**38 - 1 - rng.randrange(1000))),
        "tags": [text() for _ in range(rng.randrange(4))],
        "lines": [{"sku": text(), "qty": rng.choice([None, 1, -7])} for _ in range(rng.randrange(3))],
        "attrs": {f"k{i}": rng.randrange(-5, 5) for i in range(rng.randrange(3))},
    }
    return {name: None if name != "n" and rng.random() < 0.15 else value for name, value in row.items()}


def plain(value):
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, datetime.datetime):
        return (value - EPOCH) // datetime.timedelta(microseconds=1)
    if isinstance(value, datetime.date):
        return value.isoformat()
    return value


def read_back(project, name, columns):
    rows = []
    for row in lake.by_deltalake(project.root / "lake" / name).select(columns).to_pylist():
        row["attrs"] = None if row.get("attrs") is None else dict(row["attrs"])
        rows.append(row)
    return sorted(rows, key=lambda row: row["n"])


def test_every_type_comes_back_as_it_went_in(project):
    rng = random.Random(3)
    rows = [make(rng, n) for n in range(3000)]
    project.write("schemas/value.avsc", SCHEMA)
    project.write("pipelines/values.lua", PIPELINE.replace("@BRONZE@", ""))
    project.write("rules/silver/value.lua", 'return stream "silver.value" { from = "bronze.value", where = function(e) return e.n >= 0 end }')
    project.write("landing/values.jsonl", "".join(
        json.dumps({name: plain(value) for name, value in row.items()}, ensure_ascii=row["n"] % 2 == 0) + "\n" for row in rows))
    summary = project.run("pipelines/values.lua")
    assert summary["datasets"]["silver.value"]["out"] == len(rows)
    columns = [name for name, *_ in FIELDS]
    for table in ("bronze/value", "silver/value"):
        schema = lake.by_deltalake(project.root / "lake" / table).schema
        for name, _, arrow in FIELDS:
            assert arrow is None or schema.field(name).type == arrow, f"{table}.{name}"
        for seen, wanted in zip(read_back(project, table, columns), rows):
            assert seen == wanted, table


ZONES = ["Europe/London", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]
CHANGES = ["2025-03-30T01:00:00", "2025-10-26T01:00:00", "2025-03-09T07:00:00", "2025-11-02T06:00:00", "2025-04-05T15:00:00", "2038-01-19T03:14:07",
           "1969-12-31T23:59:59"]


def test_date_and_hour_agree_with_the_time_zone_database(project):
    instants = []
    for text in CHANGES:
        moment = datetime.datetime.fromisoformat(text).replace(tzinfo=UTC)
        instants += [moment + datetime.timedelta(minutes=30 * i) for i in range(-30, 31)] + [moment - datetime.timedelta(microseconds=1)]
    project.write("schemas/value.avsc", json.dumps({"type": "record", "name": "v", "fields": [
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}}]}))
    project.write("pipelines/values.lua", PIPELINE.replace("@BRONZE@", ", into = none"))
    columns = "\n".join(f'    day{i} = "date", hour{i} = "int32",' for i in range(len(ZONES)))
    body = "\n".join(f'    out.day{i} = date(e.at, "{zone}") out.hour{i} = hour(e.at, "{zone}")' for i, zone in enumerate(ZONES))
    project.write("rules/silver/local.lua", f'return stream "silver.local" {{\n  from = "bronze.value",\n  columns = {{\n{columns}\n  }},\n'
                                            f"  map = function(e, out)\n{body}\n  end,\n}}\n")
    project.write("landing/a.jsonl", "".join(f'{{"at":{plain(moment)}}}\n' for moment in instants))
    project.run("pipelines/values.lua")
    rows = lake.by_deltalake(project.root / "lake/silver/local").to_pylist()
    assert len(rows) == len(instants)
    for row in rows:
        for index, zone in enumerate(ZONES):
            local = row["at"].astimezone(zoneinfo.ZoneInfo(zone))
            assert (row[f"day{index}"], row[f"hour{index}"]) == (local.date(), local.hour), f"{row['at']} in {zone}"


def test_partition_values_of_every_kind_come_back(project):
    names = ["plain", "with space", "a/b", "50%", "x=y", "ünï☃", "a:b", "#1", "?q", "..", None, "quote\"'"]
    project.write("schemas/value.avsc", json.dumps({"type": "record", "name": "v", "fields": [
        {"name": "n", "type": "long"}, {"name": "shop", "type": ["null", "string"], "default": None}]}))
    project.write("pipelines/values.lua", PIPELINE.replace("@BRONZE@", ", into = none"))
    project.write("rules/silver/shop.lua",
                  'return stream "silver.shop" { from = "bronze.value", into = delta { mode = "append", partition_by = { "shop" } } }')
    wanted = [(n, names[n % len(names)]) for n in range(500)]
    project.write("landing/a.jsonl", "".join(json.dumps({"n": n, "shop": shop}) + "\n" for n, shop in wanted))
    project.run("pipelines/values.lua")
    table = lake.by_deltalake(project.root / "lake/silver/shop")
    assert sorted(zip(table.column("n").to_pylist(), table.column("shop").to_pylist())) == wanted
