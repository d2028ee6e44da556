"""Every value a decoder reads comes out of Delta bit for bit, through a map that does nothing. docs/reference/fidelity.md is this
matrix; a cell is a decoder and a type, and the values are the ones that break."""

import datetime
import decimal
import io
import json
import math
import struct

import deltalake
import fastavro
import frames
import lake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from frames import Nanos, Single

UTC = datetime.timezone.utc
DECIMAL = {"type": "bytes", "logicalType": "decimal"}
LONG = {"type": "long"}
NAN = math.nan
INF = math.inf

# type → avro, values
TYPES = {
    "bool": ("boolean", [True, False, None]),
    "int8": ({"type": "int", "weir": "int8"}, [-128, 127, 0, None]),
    "int16": ({"type": "int", "weir": "int16"}, [-32768, 32767, None]),
    "int32": ("int", [-2**31, 2**31 - 1, 0, None]),
    "int64": ("long", [-2**63, 2**63 - 1, 2**53 + 1, 0, None]),
    "uint64": ({**DECIMAL, "precision": 20, "scale": 0}, [0, 2**64 - 1, 2**63, None]),
    "float": ("float", [Single(-0.0), Single(1e-45), Single(0.1), Single(3.4028234e38), None]),
    "double": ("double", [-0.0, 5e-324, 0.1, 1.7976931348623157e308, 2.2250738585072014e-308, None]),
    "not finite": ("double", [NAN, INF, -INF]),
    "decimal": ({**DECIMAL, "precision": 38, "scale": 9}, [decimal.Decimal("9" * 29 + "." + "9" * 9), decimal.Decimal("-" + "9" * 29 + "." + "9" * 9),
                                                           decimal.Decimal("0.000000001"), decimal.Decimal("-0.5"), None]),
    "string": ("string", ["", "null", "\U0001F6D2 Ω ก", "a\x00b", 'say "hi",\r\nthere', " ", "NULL", None]),
    "binary": ("bytes", [b"", b"\x00\xff\n\"", bytes(range(256)), None]),
    "date": ({"type": "int", "logicalType": "date"}, [datetime.date(1, 1, 1), datetime.date(9999, 12, 31), datetime.date(1969, 12, 31), None]),
    "timestamp": ({**LONG, "logicalType": "timestamp-micros"}, [
        datetime.datetime(1, 1, 1, tzinfo=UTC), datetime.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime.datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), None]),
    "timestamp_ns": ({**LONG, "logicalType": "timestamp-nanos"}, [Nanos(1), Nanos(-1), Nanos(1_700_000_000_123_456_789), None]),
    "list": ({"type": "array", "items": ["null", "long"]}, [[], [None], [2**63 - 1, None, 0], None]),
    "map": ({"type": "map", "values": "string"}, [{}, {"": ""}, {"k": "\U0001F6D2"}, None]),
    "struct": ({"type": "record", "name": "inner", "fields": [{"name": "a", "type": ["null", "string"]}]}, [{"a": ""}, {"a": None}, None]),
}
NESTED = {"list", "map", "struct"}
DECODERS = {
    "json": ("jsonl", "json {{ schema = \"{0}\" }}"),
    "csv": ("csv", "csv {{ schema = \"{0}\" }}"),
    "msgpack": ("msgpack", "msgpack {{ schema = \"{0}\" }}"),
    "avro": ("avro", "avro {{ schema = \"{0}\" }}"),
    "parquet": ("parquet", None),
}
ARROW = {
    "bool": pa.bool_(), "int8": pa.int8(), "int16": pa.int16(), "int32": pa.int32(), "int64": pa.int64(), "uint64": pa.decimal128(20, 0), "float": pa.float32(),
    "double": pa.float64(), "not finite": pa.float64(), "decimal": pa.decimal128(38, 9), "string": pa.string(), "binary": pa.binary(), "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"), "timestamp_ns": pa.timestamp("ns", "UTC"), "list": pa.list_(pa.int64()), "map": pa.map_(pa.string(), pa.string()),
    "struct": pa.struct([("a", pa.string())]),
}
EXCEPT = {("json", "not finite")} | {("csv", kind) for kind in NESTED}
CELLS = [(decoder, kind) for decoder in DECODERS for kind in TYPES if (decoder, kind) not in EXCEPT]


def plain(kind, value):
    """As fastavro and pyarrow take it."""
    if isinstance(value, Single):
        return value.value
    if isinstance(value, Nanos):
        return value.count
    return decimal.Decimal(value) if kind == "uint64" and value is not None else value


def write_avro(kind, values):
    out = io.BytesIO()
    schema = {"type": "record", "name": "v", "fields": [{"name": "n", "type": "long"}, {"name": "v", "type": ["null", TYPES[kind][0]]}]}
    fastavro.writer(out, fastavro.parse_schema(schema), [{"n": number, "v": plain(kind, value)} for number, value in enumerate(values)])
    return out.getvalue()


def write_parquet(kind, values):
    out = io.BytesIO()
    column = [plain(kind, value) for value in values]
    if kind == "map":
        column = [value if value is None else list(value.items()) for value in column]
    array = pa.array(column, pa.int64()).cast(ARROW[kind]) if kind == "timestamp_ns" else pa.array(column, ARROW[kind])
    pq.write_table(pa.table({"n": pa.array(range(len(values)), pa.int64()), "v": array}), out)
    return out.getvalue()


def write(decoder, values, kind=None):
    if decoder in ("avro", "parquet"):
        return (write_avro if decoder == "avro" else write_parquet)(kind, values)
    rows = [{"n": number, "v": value} for number, value in enumerate(values)]
    if decoder == "json":
        return b"".join(frames.as_json(row) for row in rows)
    if decoder == "csv":
        return b"n,v\r\n" + b"".join(frames.as_csv(row.values()) for row in rows)
    return b"".join(frames.pack(row) for row in rows)


def read(project, decoder, avro, body):
    suffix, form = DECODERS[decoder]
    project.write("schemas/v.avsc", json.dumps({"type": "record", "name": "v", "fields": [
        {"name": "n", "type": "long"}, {"name": "v", "type": ["null", avro], "default": None}]}))
    project.write(f"landing/a.{suffix}", body)
    project.write("rules/silver/v.lua", 'return stream "silver.v" { from = "bronze.v", columns = { nothing = "bool" }, map = function(e, out) end }')
    place = f'parquet {{ path = "landing/*.parquet" }}' if form is None else f'files {{ path = "landing/*.{suffix}" }}, {form.format("schemas/v.avsc")}'
    project.write("pipelines/p.lua", f"""return pipeline "p" {{
  rules = "rules", storage = delta {{ root = "lake" }},
  sources = {{ source "bronze.v" {{ {place} }} }},
}}""")
    return project.run("pipelines/p.lua")


def bits(value):
    """What must be equal: a double by its bytes."""
    if isinstance(value, Single):
        return struct.pack("f", value.value)
    if isinstance(value, float):
        return struct.pack("d", value)
    if isinstance(value, Nanos):
        return value.count
    if isinstance(value, dict):
        return sorted((key, bits(item)) for key, item in value.items())
    return [bits(item) for item in value] if isinstance(value, list) else value


def as_read(kind, column):
    values = column.to_pylist()
    if kind == "float":
        return [None if value is None else struct.pack("f", value) for value in values]
    if kind == "map":
        return [None if value is None else sorted((key, item) for key, item in value) for value in values]
    if kind == "uint64":
        return [None if value is None else int(value) for value in values]
    return [bits(value) for value in values]


@pytest.mark.parametrize("decoder,kind", CELLS, ids=[f"{decoder}-{kind}" for decoder, kind in CELLS])
def test_values_come_out_bit_for_bit(project, decoder, kind):
    avro, values = TYPES[kind]
    outcome = read(project, decoder, avro, write(decoder, values, kind))
    counts = outcome["datasets"]["silver.v"]
    assert counts["in"] == counts["out"] == len(values), outcome
    wanted = [bits(value) for value in values]
    for dataset in ("bronze/v", "silver/v"):
        for reader in (lake.by_deltalake, lake.by_duckdb, lake.by_pyarrow):
            if kind == "map" and reader is lake.by_duckdb:
                continue  # hands maps over in a form of its own; the other two read them
            table = reader(project.root / "lake" / dataset).sort_by("n")
            assert as_read(kind, table.column("v")) == wanted, (dataset, reader.__name__)


def test_nanoseconds_are_a_long_whose_unit_is_in_the_schema(project):
    avro, values = TYPES["timestamp_ns"]
    read(project, "json", avro, write("json", values))
    table = deltalake.DeltaTable(str(project.root / "lake/silver/v"))
    field = next(field for field in json.loads(table.schema().to_json())["fields"] if field["name"] == "v")
    assert field["type"] == "long"
    assert any("ns" in str(value) or "nano" in str(value) for value in field["metadata"].values()), field


@pytest.mark.parametrize("text", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_numbers_that_are_not_finite_are_no_json(project, text):
    outcome = read(project, "json", "double", b'{"n":0,"v":' + text + b"}\n")
    assert outcome["datasets"]["silver.v"]["in"] == 0
    quarantined = lake.by_deltalake(project.root / "lake/quarantine/bronze/v")
    assert quarantined.num_rows == 1


@pytest.mark.parametrize("kind", sorted(NESTED))
def test_a_cell_of_csv_holds_no_nested_value(project, kind):
    with pytest.raises(AssertionError, match="which a cell cannot hold"):
        read(project, "csv", TYPES[kind][0], b"n,v\n1,\n")


def test_raw_keeps_each_line_as_it_is(project):
    lines = [b"", b"{\"a\":1}", b"\x00\xff\xfe", b"text\r", b" ", b"last"]
    project.write("landing/a.txt", b"\n".join(lines))
    project.write("pipelines/p.lua", """return pipeline "p" { rules = "rules", storage = delta { root = "lake" },
  sources = { source "bronze.v" { files { path = "landing/*.txt" }, raw {} } } }""")
    project.write("rules/v.lua", 'return stream "silver.v" { from = "bronze.v" }')
    project.run("pipelines/p.lua")
    table = lake.by_deltalake(project.root / "lake/silver/v")
    assert table.column("value").to_pylist() == lines
    assert table.schema.field("value").type == pa.binary()


def test_raw_takes_a_file_whole(project):
    bodies = [b"\x00one\ntwo\n", bytes(range(256)) * 1000]
    for number, body in enumerate(bodies):
        project.write(f"landing/{number}.bin", body)
    project.write("pipelines/p.lua", """return pipeline "p" { rules = "rules", storage = delta { root = "lake" },
  sources = { source "bronze.v" { files { path = "landing/*.bin" }, raw { frame = "file" } } } }""")
    project.write("rules/v.lua", 'return stream "silver.v" { from = "bronze.v" }')
    project.run("pipelines/p.lua")
    assert sorted(lake.by_deltalake(project.root / "lake/silver/v").column("value").to_pylist()) == sorted(bodies)


@pytest.mark.parametrize("decoder, bad", [
    ("msgpack", b"\x82\xa1n\x01\xa1v\x82\x01\x02\x03\x04"),  # keys that are numbers
    ("msgpack", b"\x82\xa1n\x01\xa1v\x81\xa2\xc3(\x04"),  # no UTF-8
    ("msgpack", b"\x82\xa1n\x01\xa1v\x81\xd9\x64" + b"a" * 99 + b"\xc3\x04"),
    ("json", ('{"n":1,"v":{"' + "a" * 99 + 'é":"x"}}\n').encode()),  # cut within a character
    ("json", ('{"n":1,"' + "a" * 39 + 'é":1,"' + "a" * 39 + 'é":2}\n').encode()),
])
def test_what_is_said_of_a_bad_key_is_a_text(project, decoder, bad):
    good = frames.pack({"n": 7, "v": {"k": 1}}) if decoder == "msgpack" else b'{"n":7,"v":{"k":1}}\n'
    read(project, decoder, {"type": "map", "values": "long"}, good + bad)
    assert [row["n"] for row in lake.by_deltalake(project.root / "lake/bronze/v").to_pylist()] == [7]
    refused, = lake.by_deltalake(project.root / "lake/quarantine/bronze/v").to_pylist()
    assert refused["_reasons"][0]["error"].encode().decode() and refused["_raw"] in (bad, bad.rstrip(b"\n"))
