"""Writes seeds for fuzz_parquet_reader: what pyarrow can write of encodings, codecs, pages and nesting, and by hand what it no longer
writes (bare repeated fields, BIT_PACKED levels, LZO).

usage: build/venv/bin/python tests/fuzz/seeds_parquet.py [FOLDER]      tests/fuzz/corpus/parquet_reader
"""

import datetime
import decimal
import pathlib
import struct
import sys

import pyarrow
import pyarrow.parquet

ROWS = 40
DECIMAL = decimal.Decimal


def spread(make, every=5):
    return [None if i % every == 3 else make(i) for i in range(ROWS)]


def flat():
    day = datetime.datetime(2024, 3, 10, tzinfo=datetime.timezone.utc)
    return {
        "b": pyarrow.array(spread(lambda i: i % 3 == 0)),
        "h": pyarrow.array(spread(lambda i: (0.0, 1.5, float("inf"), float("nan"), -6e-8)[i % 5], 7), pyarrow.float16()),
        "u64": pyarrow.array(spread(lambda i: 2**64 - 1 - i), pyarrow.uint64()),
        "s": pyarrow.array(spread(lambda i: f"key-{i // 4:03}-{i % 7}")),
        "d38": pyarrow.array(spread(lambda i: DECIMAL(i * 10**30 - 7).scaleb(-9)), pyarrow.decimal128(38, 9)),
        "d5": pyarrow.array(spread(lambda i: DECIMAL(i).scaleb(-2)), pyarrow.decimal128(5, 2)),
        "t": pyarrow.array(spread(lambda i: day + datetime.timedelta(minutes=i)), pyarrow.timestamp("ns", "UTC")),
        "f16": pyarrow.array(spread(lambda i: bytes([i]) * 16), pyarrow.binary(16)),
        "i": pyarrow.array([i * i for i in range(ROWS)], pyarrow.int64()),
    }


def nested():
    pair = pyarrow.struct([("a", pyarrow.int32()), ("b", pyarrow.list_(pyarrow.string()))])
    return {
        "l": pyarrow.array(spread(lambda i: [None if j == 2 else j for j in range(i % 5)]), pyarrow.list_(pyarrow.int16())),
        "ls": pyarrow.array(spread(lambda i: [{"a": j, "b": ["x"] * j} for j in range(i % 4)]), pyarrow.list_(pair)),
        "m": pyarrow.array(spread(lambda i: [(f"k{j}", j) for j in range(i % 3)]), pyarrow.map_(pyarrow.string(), pyarrow.int64())),
        "q": pyarrow.array(spread(lambda i: {"a": i, "b": None}), pair),
        "lb": pyarrow.array(spread(lambda i: [i % 2 == 0] * (i % 3)), pyarrow.list_(pyarrow.bool_())),
    }


def by_pyarrow(folder):
    def write(name, columns, **options):
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / f"{name}.parquet", **options)

    small = {"write_batch_size": 8, "data_page_size": 64, "store_schema": False}
    encodings = {"b": "RLE", "s": "DELTA_LENGTH_BYTE_ARRAY", "u64": "DELTA_BINARY_PACKED", "i": "DELTA_BINARY_PACKED", "d38": "BYTE_STREAM_SPLIT",
                 "h": "BYTE_STREAM_SPLIT", "f16": "BYTE_STREAM_SPLIT"}
    columns = flat()
    some = {name: columns[name] for name in ("b", "s", "i")}
    for codec in ("none", "snappy", "gzip", "brotli", "zstd", "lz4"):
        write(f"codec-{codec}", some, compression=codec, data_page_version="2.0", use_dictionary=False, column_encoding={n: encodings[n] for n in some}, **small)
    for version in ("1.0", "2.0"):
        write(f"flat-{version}", columns, compression="none", data_page_version=version, use_dictionary=False, column_encoding=encodings, write_page_index=True, **small)
        write(f"flat-dictionary-{version}", columns, compression="none", data_page_version=version, write_page_index=True, write_page_checksum=True, **small)
        write(f"nested-{version}", nested(), compression="none", data_page_version=version, row_group_size=24, **small)
    deep = {"ls.list.element.b.list.element": "DELTA_LENGTH_BYTE_ARRAY", "m.key_value.key": "DELTA_BYTE_ARRAY", "l.list.element": "DELTA_BINARY_PACKED",
            "m.key_value.value": "BYTE_STREAM_SPLIT", "lb.list.element": "RLE"}
    write("nested-encodings", {name: column for name, column in nested().items() if name != "q"}, compression="none", use_dictionary=False, column_encoding=deep, **small)
    write("prefix", {"s": columns["s"]}, use_dictionary=False, column_encoding={"s": "DELTA_BYTE_ARRAY"}, compression="none", **small)
    write("groups", some, row_group_size=7, compression="none", store_schema=False)
    write("decimal-integers", {"d5": columns["d5"]}, store_decimal_as_integer=True, compression="none")
    write("decimal-wide", {"d": pyarrow.array([DECIMAL(1)], pyarrow.decimal256(60, 0))}, compression="none")
    write("millis", {"t": columns["t"].cast(pyarrow.timestamp("ms", "UTC"), safe=False)}, version="1.0", compression="none")
    required = pyarrow.schema([pyarrow.field("i", pyarrow.int32(), nullable=False), pyarrow.field("x", pyarrow.float64(), nullable=False)])
    table = pyarrow.table({"i": list(range(ROWS)), "x": [i / 3 for i in range(ROWS)]}, schema=required)
    pyarrow.parquet.write_table(table, folder / "required-pages.parquet", compression="none", write_page_index=True, use_dictionary=False, **small)


# The thrift compact protocol, as far as a footer needs it.
def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def number(value):
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


I32, I64, BYTES, LIST, STRUCT = 5, 6, 8, 9, 12


def record(*fields):
    """A struct of (id, type, encoded value); None is left out."""
    out, last = bytearray(), 0
    for number_, kind, value in fields:
        if value is not None:
            out += bytes([number_ - last << 4 | kind]) + value
            last = number_
    return bytes(out) + b"\0"


def i32(id_, value):
    return (id_, I32, None if value is None else number(value))


def i64(id_, value):
    return (id_, I64, number(value))


def text(id_, value):
    return (id_, BYTES, varint(len(value)) + value)


def many(id_, kind, values):
    return (id_, LIST, bytes([len(values) << 4 | kind]) + b"".join(values))


def node(name, physical=None, repetition=None, children=None, converted=None):
    return record(i32(1, physical), i32(3, repetition), text(4, name), i32(5, children), i32(6, converted))


def one_column(path, nodes, name, physical, page, values, codec=0, levels=3):
    """A file of one V1 page. `levels`: encoding of definition and repetition levels, 3 RLE, 4 BIT_PACKED."""
    data = record(i32(1, values), i32(2, 0), i32(3, levels), i32(4, levels))
    header = record(i32(1, 0), i32(2, len(page)), i32(3, len(page)), (5, STRUCT, data))
    chunk = record(i32(1, physical), many(2, I32, [number(0), number(levels)]), many(3, BYTES, [varint(len(part)) + part for part in name]), i32(4, codec),
                   i64(5, values), i64(6, len(header + page)), i64(7, len(header + page)), i64(9, 4))
    group = record(many(1, STRUCT, [record(i64(2, 4), (3, STRUCT, chunk))]), i64(2, len(page)), i64(3, 3))
    footer = record(i32(1, 1), many(2, STRUCT, nodes), i64(3, 3), many(4, STRUCT, [group]), text(6, b"made by hand"))
    path.write_bytes(b"PAR1" + header + page + footer + struct.pack("<I", len(footer)) + b"PAR1")


def by_hand(folder):
    root = node(b"schema", children=1)
    numbers = struct.pack("<3i", 1, 2, 3)
    present = struct.pack("<I", 2) + bytes([3 << 1, 1])  # a run of three ones
    one_list = [root, node(b"r", 1, 2)]
    one_column(folder / "repeated-bare.parquet", one_list, [b"r"], 1, struct.pack("<I", 2) + bytes([3 << 1, 0]) + present + numbers, 3)
    two_level = [root, node(b"l", repetition=1, children=1, converted=3), node(b"array", 1, 2)]
    one_column(folder / "repeated-two-level.parquet", two_level, [b"l", b"array"], 1,
               struct.pack("<I", 2) + bytes([3 << 1, 0]) + struct.pack("<I", 2) + bytes([3 << 1, 2]) + numbers, 3)
    packed = [root, node(b"o", 1, 1)]
    one_column(folder / "levels-bit-packed.parquet", packed, [b"o"], 1, bytes([0b11100000]) + numbers, 3, levels=4)
    one_column(folder / "codec-lzo.parquet", packed, [b"o"], 1, present + numbers, 3, codec=3)
    one_column(folder / "required-by-hand.parquet", [root, node(b"x", 1, 0)], [b"x"], 1, numbers, 3)


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "corpus/parquet_reader")
    folder.mkdir(parents=True, exist_ok=True)
    by_pyarrow(folder)
    by_hand(folder)


if __name__ == "__main__":
    main()
