"""Parquet against other implementations: pyarrow and DuckDB read what our writer writes, our reader reads what
others wrote (apache/parquet-testing) as pyarrow does, and refuses damaged files cleanly.

The C side is unit/test_parquet_roundtrip of the build directory; WEIR_BUILD names that directory (default
build/release). The conformance files are looked for in WEIR_CONFORMANCE, then beside the checkout."""

import decimal
import json
import math
import os
import pathlib
import random
import struct
import subprocess
import uuid

import pytest

np = pytest.importorskip("numpy")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
duckdb = pytest.importorskip("duckdb")

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CONFORMANCE = pathlib.Path(os.environ.get("WEIR_CONFORMANCE", ROOT.parent / "shared/conformance")) / "parquet-testing"
SAMPLES = ["mixed", "required", "repeating", "unique", "nulls", "small", "compat", "empty", "neighbours"]
EXACT = decimal.Context(prec=100)


def tool(name="test_parquet_roundtrip"):
    path = pathlib.Path(os.environ.get("WEIR_BUILD", ROOT / "build/release")) / "unit" / name
    if not path.exists():
        pytest.skip(f"{path} is not built (make build, or set WEIR_BUILD)")
    return str(path)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    directory = tmp_path_factory.mktemp("parquet")
    subprocess.run([tool(), "--samples", str(directory)], check=True)
    return directory


def dump(path):
    done = subprocess.run([tool(), "--dump", str(path)], capture_output=True, text=True, timeout=60)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def bits(value):
    return "nan" if math.isnan(value) else struct.pack(">d", value).hex()


def exact(array):
    """Values of an Arrow array in the tool's exact form."""
    if isinstance(array, pa.ChunkedArray):
        return [value for chunk in array.chunks for value in exact(chunk)]
    kind = array.type
    valid = array.is_valid().to_pylist()
    if isinstance(array, pa.ExtensionArray):
        return exact(array.storage)
    if pa.types.is_dictionary(kind):
        return exact(array.dictionary_decode())
    if pa.types.is_struct(kind):
        fields = [exact(array.field(i)) for i in range(kind.num_fields)]
        values = [[field[i] for field in fields] for i in range(len(array))]
    elif pa.types.is_map(kind):
        keys, items, offsets = exact(array.keys), exact(array.items), array.offsets.to_pylist()
        base = offsets[0] if offsets else 0
        shift = base if len(keys) != len(array.keys) else 0
        values = [[[keys[j - shift], items[j - shift]] for j in range(offsets[i], offsets[i + 1])] for i in range(len(array))]
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner, offsets = exact(array.values), array.offsets.to_pylist()
        values = [inner[offsets[i]:offsets[i + 1]] for i in range(len(array))]
    elif pa.types.is_timestamp(kind):
        if kind.unit == "ms":
            values = [None if v is None else v * 1000 for v in array.cast(pa.int64()).to_pylist()]
        else:
            values = array.cast(pa.int64()).to_pylist()
    elif pa.types.is_date32(kind) or pa.types.is_time32(kind):
        values = array.cast(pa.int32()).to_pylist()
    elif pa.types.is_time64(kind):
        values = array.cast(pa.int64()).to_pylist()
    elif pa.types.is_uint64(kind):
        values = [None if v is None else str(v) for v in array.to_pylist()]
    elif pa.types.is_decimal(kind):
        values = [None if v is None else str(int(EXACT.scaleb(v, kind.scale))) for v in array.to_pylist()]
    elif pa.types.is_floating(kind):
        values = [None if v is None else bits(float(v)) for v in array.to_pylist()]
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        values = [None if v is None else v.hex() for v in array.cast(pa.large_binary()).to_pylist()]
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        values = [None if v is None else v.hex() for v in array.to_pylist()]
    else:
        values = array.to_pylist()
    return [value if ok else None for value, ok in zip(values, valid)]


def rows_of(table):
    columns = [exact(table.column(i)) for i in range(table.num_columns)]
    return [[column[i] for column in columns] for i in range(table.num_rows)]


def expected(samples, name):
    return [json.loads(line) for line in (samples / f"{name}.jsonl").read_text().splitlines()]


def first_difference(got, wanted):
    for number, (ours, theirs) in enumerate(zip(got, wanted)):
        for column, (a, b) in enumerate(zip(ours, theirs)):
            if a != b:
                return f"row {number}, column {column}: {a!r} is not {b!r}"
    return None if len(got) == len(wanted) else f"{len(got)} rows, not {len(wanted)}"


@pytest.mark.parametrize("name", SAMPLES)
def test_pyarrow_reads_what_we_write(samples, name):
    table = pq.read_table(samples / f"{name}.parquet", page_checksum_verification=name == "small")
    table.validate(full=True)
    assert first_difference(rows_of(table), expected(samples, name)) is None


@pytest.mark.parametrize("name", SAMPLES)
def test_duckdb_reads_what_we_write(samples, name):
    # integers that mean infinity to DuckDB's timestamps and dates are compared by pyarrow above
    path = samples / f"{name}.parquet"
    skipped = {"day", "ts", "ntz", "ns", "ns_ntz"}
    names = [n for n in pq.read_schema(path).names if n not in skipped]
    chosen = ", ".join(f'"{n}"' for n in names)
    result = duckdb.sql(f"select {chosen} from read_parquet('{path}')").fetch_arrow_table()
    places = [i for i, n in enumerate(pq.read_schema(path).names) if n not in skipped]
    wanted = [[row[i] for i in places] for row in expected(samples, name)]
    assert first_difference(rows_of(result), wanted) is None


@pytest.mark.parametrize("name", SAMPLES)
def test_footer_statistics_hold(samples, name):
    """Bounds in the footer really bound the data, chunk by chunk, and null counts are exact."""
    file = pq.ParquetFile(samples / f"{name}.parquet")
    checked = 0
    for group in range(file.metadata.num_row_groups):
        table = file.read_row_group(group)
        for i in range(file.metadata.num_columns):
            chunk = file.metadata.row_group(group).column(i)
            if "." in chunk.path_in_schema:
                continue
            column = table.column(chunk.path_in_schema)
            stats = chunk.statistics
            assert stats.null_count == column.null_count
            kind = column.type
            if not stats.has_min_max or pa.types.is_timestamp(kind) or pa.types.is_date(kind):
                continue
            values = [v for v in column.to_pylist() if v is not None]
            low, high = stats.min, stats.max
            if pa.types.is_string(kind):
                values, low, high = [v.encode() for v in values], low.encode(), high.encode()
            assert all(low <= v <= high for v in values), chunk.path_in_schema
            checked += 1
    assert checked > 0 or name in ("nulls", "empty")


def test_shared_beginnings_are_left_out(samples):
    file = pq.ParquetFile(samples / "neighbours.parquet")
    used = {c.path_in_schema: set(c.encodings) for c in (file.metadata.row_group(0).column(i) for i in range(file.metadata.num_columns))}
    assert any("DELTA_BYTE_ARRAY" in encodings for encodings in used.values()), used


@pytest.mark.parametrize("name", SAMPLES)
def test_every_chunk_says_where_its_pages_are(samples, name):
    file = pq.ParquetFile(samples / f"{name}.parquet")
    for group in range(file.metadata.num_row_groups):
        assert all(file.metadata.row_group(group).column(i).has_offset_index for i in range(file.metadata.num_columns))


def test_a_reader_that_goes_by_our_page_index_finds_every_row(tmp_path):
    """DataFusion, under deltalake, leaves out pages and row groups by their bounds."""
    deltalake = pytest.importorskip("deltalake")
    file = tmp_path / "t" / "part-0.parquet"
    file.parent.mkdir()
    subprocess.run([tool("test_parquet_prune"), "--write", str(file)], check=True)
    table = pq.read_table(file)
    group = pq.ParquetFile(file).metadata.row_group(0)
    assert all(group.column(i).has_column_index for i in range(group.num_columns))
    assert [(c.column_index, c.descending, c.nulls_first) for c in group.sorting_columns] == [(5, False, True), (0, False, True)]
    deltalake.convert_to_deltalake(str(file.parent))
    query = deltalake.QueryBuilder().register("t", deltalake.DeltaTable(file.parent))
    connection = duckdb.connect()
    connection.register("t", table)
    for where in ["id = 1234", "id between 990 and 1010", "name > 'name-004990'", "name = 'name-000100'", "cost < 0.05", "price >= 4999",
                  "day <= date '1970-01-03'", "odd is null", "odd = 700", "odd = 5 and id < 40", "flag", "not flag and id >= 2495"]:
        sql = f"select id from t where {where} order by id"
        got = pa.table(query.execute(sql))["id"].to_pylist()
        assert got == [row[0] for row in connection.execute(sql).fetchall()], where


@pytest.mark.parametrize("where", [("id", "eq", 1234), ("id", "lt", 250), ("id", "ge", 4700), ("text", "eq", "row-003333"), ("real", "le", 17.0)])
@pytest.mark.parametrize("page_version", ["1.0", "2.0"])
def test_others_page_index_lets_us_leave_out_pages(tmp_path, page_version, where):
    n = 5000
    table = pa.table({"id": pa.array(range(n), pa.int64()), "text": [f"row-{i:06d}" for i in range(n)], "real": [i / 2 for i in range(n)],
                      "list": [[i] * (i % 3) for i in range(n)]})
    path = tmp_path / "foreign.parquet"
    pq.write_table(table, path, row_group_size=2000, data_page_size=600, write_batch_size=50, write_page_index=True,
                   data_page_version=page_version, use_dictionary=False)
    column, op, literal = where
    run = subprocess.run([tool("test_parquet_prune"), "--read", str(path), str(table.column_names.index(column)), op, str(literal)],
                         capture_output=True, text=True, check=True)
    got = [int(line) for line in run.stdout.split()]
    keep = {"eq": lambda v: v == literal, "lt": lambda v: v < literal, "le": lambda v: v <= literal, "ge": lambda v: v >= literal}[op]
    wanted = {i for i, v in enumerate(table[column].to_pylist()) if keep(v)}
    assert wanted <= set(got) and len(got) == len(set(got))
    assert len(got) <= len(wanted) + 400, len(got)


def foreign_table():
    n = 3000
    numbers = [None if i % 7 == 0 else i * i % 251 for i in range(n)]
    texts = [None if i % 5 == 0 else f"prefix-{i // 10:06d}-{i}" for i in range(n)]
    return pa.table({
        "u8": pa.array(numbers, pa.uint8()),
        "u16": pa.array([None if v is None else v * 257 for v in numbers], pa.uint16()),
        "u32": pa.array([None if v is None else v * 16843009 for v in numbers], pa.uint32()),
        "u64": pa.array([None if v is None else v * 72340172838076673 for v in numbers], pa.uint64()),
        "i64": pa.array([None if v is None else (-1) ** v * v * 10**15 for v in numbers], pa.int64()),
        "ms": pa.array([None if v is None else v * 10**9 for v in numbers], pa.timestamp("ms")),
        "ns": pa.array(numbers, pa.timestamp("ns", tz="UTC")),
        "f32": pa.array([None if v is None else v / 3 for v in numbers], pa.float32()),
        "f64": pa.array([None if v is None else v / 7 for v in numbers], pa.float64()),
        "text": pa.array(texts, pa.string()),
        "fixed": pa.array([None if v is None else f"{v:08d}".encode() for v in numbers], pa.binary(8)),
        "price": pa.array([None if v is None else decimal.Decimal(v).scaleb(-2) for v in numbers], pa.decimal128(25, 2)),
        "p9": pa.array([None if v is None else decimal.Decimal(v).scaleb(-2) for v in numbers], pa.decimal128(9, 2)),
        "p18": pa.array([None if v is None else decimal.Decimal(-v).scaleb(-4) for v in numbers], pa.decimal128(18, 4)),
        "f16": pa.array([None if v is None else np.float16(v / 8 - 9) for v in numbers], pa.float16()),
        "t32": pa.array(numbers, pa.time32("ms")),
        "t64": pa.array(numbers, pa.time64("us")),
        "t64n": pa.array(numbers, pa.time64("ns")),
        "uuid": pa.array([None if v is None else uuid.UUID(int=v << 70 | v).bytes for v in numbers], pa.uuid()),
        "json": pa.array([None if v is None else json.dumps({"v": v}) for v in numbers], pa.json_()),
        "flag": pa.array([None if v is None else v % 2 == 0 for v in numbers], pa.bool_()),
        "list": pa.array([None if i % 11 == 0 else texts[i:i + i % 4] for i in range(n)], pa.list_(pa.string())),
        "deep": pa.array([[{"a": v, "b": [v, None]}] * (i % 3) for i, v in enumerate(numbers)],
                         pa.list_(pa.struct([("a", pa.int32()), ("b", pa.list_(pa.int64()))]))),
    })


ENCODINGS = {
    "default": {},
    "delta": {"use_dictionary": False, "column_encoding": {
        "i64": "DELTA_BINARY_PACKED", "text": "DELTA_BYTE_ARRAY", "fixed": "DELTA_BYTE_ARRAY", "flag": "RLE",
        "list.list.element": "DELTA_LENGTH_BYTE_ARRAY"}},
    "split": {"use_dictionary": False, "column_encoding": {
        "i64": "BYTE_STREAM_SPLIT", "f32": "BYTE_STREAM_SPLIT", "f64": "BYTE_STREAM_SPLIT", "fixed": "BYTE_STREAM_SPLIT",
        "price": "BYTE_STREAM_SPLIT"}},
    "int96": {"use_deprecated_int96_timestamps": True, "store_decimal_as_integer": True, "write_page_index": True},
}


@pytest.mark.parametrize("page_version", ["1.0", "2.0"])
@pytest.mark.parametrize("encodings", ENCODINGS)
@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
def test_we_read_what_pyarrow_writes(tmp_path, page_version, encodings, codec):
    table = foreign_table()
    path = tmp_path / "foreign.parquet"
    pq.write_table(table, path, compression=codec, data_page_version=page_version, data_page_size=4000,
                   row_group_size=1300, write_page_checksum=True, **ENCODINGS[encodings])
    code, rows, message = dump(path)
    assert code == 0, message
    wanted = pq.read_table(path, coerce_int96_timestamp_unit="us") if encodings == "int96" else table
    assert first_difference(rows, rows_of(wanted)) is None


def texts_of_every_length(n):
    """Each begins with some of the one before it: beginnings and ends of 0 to 40 bytes, those about 16 most of all."""
    draw = random.Random(16)
    text = ""
    for _ in range(n):
        ends = draw.choice([draw.randrange(41), draw.randrange(13, 19), 0])
        text = text[:draw.choice([draw.randrange(41), draw.randrange(13, 19)])] + "".join(draw.choices("abcdefghijklmnopq\0", k=ends))
        yield text


@pytest.mark.parametrize("codec", ["none", "zstd"])
@pytest.mark.parametrize("longest", [7, 8, 15, 16, 40])
def test_texts_of_every_length_are_read(tmp_path, longest, codec):
    texts = [text[:longest] for text in texts_of_every_length(20000)]
    few = [texts[i * 7919 % 3000] for i in range(len(texts))]
    table = pa.table({"coded": pa.array(few), "begun": pa.array(texts), "long": pa.array(texts)})
    path = tmp_path / "texts.parquet"
    pq.write_table(table, path, compression=codec, data_page_size=20000, use_dictionary=["coded"],
                   column_encoding={"begun": "DELTA_BYTE_ARRAY", "long": "DELTA_LENGTH_BYTE_ARRAY"})
    code, rows, message = dump(path)
    assert code == 0, message
    assert first_difference(rows, rows_of(table)) is None


def conformance_files(folder):
    if not CONFORMANCE.exists():
        return []
    return sorted(path.name for path in (CONFORMANCE / folder).glob("*.parquet"))


# What differs on purpose, by file.
REFUSED = {
    "large_string_map.brotli.parquet": "limit",  # one value of 2 GiB
    "datapage_v1-corrupt-checksum.parquet": "checksum",
    "rle-dict-uncompressed-corrupt-checksum.parquet": "checksum",
}


@pytest.mark.skipif(not CONFORMANCE.exists(), reason="no parquet-testing beside the checkout")
@pytest.mark.parametrize("name", conformance_files("data"))
def test_reads_parquet_testing_as_pyarrow_does(name):
    path = CONFORMANCE / "data" / name
    code, rows, message = dump(path)
    if name == "int96_from_spark.parquet":  # as its .md says; pyarrow overflows in the last
        assert [row[0] for row in rows] == [1704141296123456, 1704070800000000, 253402225200000000, 1735599600000000,
                                            None, 9089380393200000000]
        return
    if name in REFUSED:
        assert code == 2 and REFUSED[name] in message
        return
    try:
        table = pq.ParquetFile(path, coerce_int96_timestamp_unit="us").read()
    except (OSError, pa.ArrowException) as error:
        if code == 0:
            pytest.skip(f"we read {len(rows)} rows, pyarrow refuses: {error}")
        assert code == 2, message
        return
    assert code == 0, message
    assert first_difference(rows, rows_of(table)) is None


@pytest.mark.skipif(not CONFORMANCE.exists(), reason="no parquet-testing beside the checkout")
@pytest.mark.parametrize("name", conformance_files("bad_data"))
def test_damaged_files_fail_cleanly(name):
    code, rows, message = dump(CONFORMANCE / "bad_data" / name)
    if name == "ARROW-GH-43605.parquet":  # indices of no bits at all: legal, all point at the first value
        assert code == 0 and len(rows) == 21186
        return
    assert code == 2 and message.startswith("WEIR_E_"), message
