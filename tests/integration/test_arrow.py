"""The Arrow C data interface against pyarrow: arrays pyarrow exports come back equal after we imported them and
exported them again, whole, sliced, gathered and dictionary-encoded; every array is released once.

The C side is tools/arrow_tool.so of the build directory; WEIR_BUILD names that directory (default build/release). With
the asan preset's: LD_PRELOAD libasan and libubsan."""

import ctypes
import datetime
import decimal
import gc
import os
import pathlib
import random

import pytest

pa = pytest.importorskip("pyarrow")

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Struct(ctypes.Structure):
    """Room for an ArrowArray (10 words) or an ArrowSchema (9)."""
    _fields_ = [("words", ctypes.c_uint64 * 10)]

    @property
    def address(self):
        return ctypes.addressof(self)


class Tool:
    def __init__(self, library):
        self.library = library
        for name in ("slice", "every_other", "encode", "empty"):
            getattr(library, f"arrow_tool_{name}").restype = ctypes.c_void_p
        library.arrow_tool_error.restype = ctypes.c_char_p
        library.arrow_tool_held_bytes.restype = ctypes.c_size_t

    def take(self, batch):
        array, schema, out = Struct(), Struct(), ctypes.c_void_p()
        batch._export_to_c(array.address, schema.address)
        code = self.library.arrow_tool_import(array_pointer(array), array_pointer(schema), ctypes.byref(out))
        if code != 0:
            raise ValueError(self.library.arrow_tool_error().decode())
        return Batch(self, out.value)

    def held(self):
        gc.collect()
        return self.library.arrow_tool_held_bytes()


def array_pointer(struct):
    return ctypes.c_void_p(struct.address)


class Batch:
    def __init__(self, tool, pointer):
        assert pointer
        self.tool = tool
        self.pointer = ctypes.c_void_p(pointer)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.tool.library.arrow_tool_free(self.pointer)

    def make(self, how, *arguments):
        return Batch(self.tool, getattr(self.tool.library, f"arrow_tool_{how}")(self.pointer, *arguments))

    def give(self):
        array, schema = Struct(), Struct()
        assert self.tool.library.arrow_tool_export(self.pointer, array_pointer(array), array_pointer(schema)) == 0
        batch = pa.RecordBatch._import_from_c(array.address, schema.address)
        batch.validate(full=True)
        return batch

    def give_child(self, column):
        array, schema = Struct(), Struct()
        code = self.tool.library.arrow_tool_export_child(self.pointer, column, array_pointer(array), array_pointer(schema))
        assert code == 0
        child = pa.Array._import_from_c(array.address, schema.address)
        child.validate(full=True)
        return child


@pytest.fixture(scope="session")
def tool():
    path = pathlib.Path(os.environ.get("WEIR_BUILD", ROOT / "build/release")) / "tools/arrow_tool.so"
    if not path.exists():
        pytest.skip(f"{path} is not built (make build, or set WEIR_BUILD)")
    return Tool(ctypes.CDLL(str(path)))


TYPES = {
    "bool": pa.bool_(), "int8": pa.int8(), "int16": pa.int16(), "int32": pa.int32(), "int64": pa.int64(),
    "float": pa.float32(), "double": pa.float64(), "decimal": pa.decimal128(12, 2), "wide": pa.decimal128(38, 9),
    "string": pa.string(), "binary": pa.binary(), "date": pa.date32(), "us_utc": pa.timestamp("us", "UTC"),
    "us": pa.timestamp("us"), "ns_utc": pa.timestamp("ns", "UTC"), "ns": pa.timestamp("ns"),
    "list": pa.list_(pa.field("element", pa.int32())), "lists": pa.list_(pa.field("element", pa.list_(pa.field("element", pa.string())))),
    "struct": pa.struct([pa.field("a", pa.int64()), pa.field("b", pa.struct([pa.field("c", pa.bool_()), pa.field("d", pa.string())]))]),
    "map": pa.map_(pa.string(), pa.decimal128(20, 3)),
    "maps": pa.map_(pa.int32(), pa.list_(pa.field("element", pa.map_(pa.string(), pa.bool_())))),
    "structs": pa.list_(pa.field("element", pa.struct([pa.field("k", pa.binary()), pa.field("v", pa.list_(pa.field("element", pa.float64())))]))),
}


def value(rng, kind, nulls):
    if rng.random() < nulls:
        return None
    if pa.types.is_boolean(kind):
        return rng.random() < 0.5
    if pa.types.is_integer(kind):
        return rng.choice([0, -1, -2 ** (kind.bit_width - 1), 2 ** (kind.bit_width - 1) - 1, rng.randrange(-100, 100)])
    if pa.types.is_floating(kind):
        return rng.choice([0.0, -0.0, 1.5, float("inf"), -1024.25])
    if pa.types.is_decimal(kind):
        most = 10 ** kind.precision - 1
        return decimal.Decimal(rng.choice([most, -most, 0, rng.randrange(-most, most)])).scaleb(-kind.scale, decimal.Context(prec=76))
    if pa.types.is_string(kind):
        return rng.choice(["", "a", "Grüße", "wave \U0001f30a", "x" * rng.randrange(300)])
    if pa.types.is_binary(kind):
        return rng.randbytes(rng.randrange(20))
    if pa.types.is_date(kind):
        return datetime.date(1900, 1, 1) + datetime.timedelta(days=rng.randrange(90000))
    if pa.types.is_timestamp(kind):
        return rng.randrange(-2 ** 60, 2 ** 60)
    if pa.types.is_map(kind):
        return [(key, value(rng, kind.item_type, nulls)) for key in {value(rng, kind.key_type, 0) for _ in range(rng.randrange(4))}]
    if pa.types.is_list(kind):
        return [value(rng, kind.value_type, nulls) for _ in range(rng.randrange(4))]
    return {field.name: value(rng, field.type, nulls) for field in kind}


def random_batch(seed, rows, nulls):
    rng = random.Random(seed)
    arrays = [pa.array([value(rng, kind, nulls) for _ in range(rows)], kind) for kind in TYPES.values()]
    return pa.RecordBatch.from_arrays(arrays, names=list(TYPES))


def same(ours, theirs):
    """Equal value by value, NaN-free, dictionaries decoded; types equal where both are plain."""
    assert ours.num_rows == theirs.num_rows
    assert ours.schema.names == theirs.schema.names
    for name in theirs.schema.names:
        mine, other = ours.column(name), theirs.column(name)
        assert mine.null_count == other.null_count, name
        assert plain(mine) == plain(other), name


def plain(array):
    kind = array.type
    if pa.types.is_timestamp(kind):
        return array.cast(pa.int64()).to_pylist()
    if pa.types.is_floating(kind):
        return [repr(item) for item in array.to_pylist()]
    return array.to_pylist()


@pytest.mark.parametrize("seed", range(6))
def test_every_type_comes_back_equal(tool, seed):
    batch = random_batch(seed, [0, 1, 8, 77, 300, 40][seed], [0, 0.5, 0, 0.3, 0.2, 1][seed])
    before = tool.held()
    with tool.take(batch) as mine:
        back = mine.give()
        assert back.schema.equals(batch.schema), f"{back.schema}\n{batch.schema}"
        assert back.equals(batch)
        same(back, batch)
    del back
    assert tool.held() == before == 0


@pytest.mark.parametrize("start", [0, 1, 7, 8, 13, 64])
def test_arrays_sliced_by_pyarrow_are_imported_from_their_offset(tool, start):
    batch = random_batch(90 + start, 120, 0.25)
    for rows in (0, 1, 9, 50):
        part = batch.slice(start, rows)
        assert part.column(0).offset == start
        with tool.take(part) as mine:
            same(mine.give(), part)
            with mine.make("slice", rows // 3, rows - rows // 3) as cut:
                same(cut.give(), part.slice(rows // 3))


def test_offsets_of_children_and_of_structs_add_up(tool):
    batch = random_batch(7, 100, 0.2)
    sliced = pa.RecordBatch.from_arrays(
        [pa.StructArray.from_arrays([column.slice(11) for column in batch.columns[:10]], names=list(TYPES)[:10])[5:], ] +
        [pa.ListArray.from_arrays(pa.array([3, 10, 10, 40], pa.int32()), batch.column("string").slice(20)).take(
            pa.array([0, 1, 2] * 28)).slice(0, 84)], names=["struct", "list"])
    with tool.take(sliced) as mine:
        same(mine.give(), sliced)
    inner = pa.ListArray.from_arrays(pa.array([3, 10, 10, 40], pa.int32()), batch.column("string").slice(20))[1:]
    lists = pa.RecordBatch.from_arrays([inner], names=["list"])
    with tool.take(lists) as mine:
        same(mine.give(), lists)
    array = batch.slice(31, 40).to_struct_array()[3:]  # the outermost offset
    whole = pa.RecordBatch.from_struct_array(array)
    with tool.take(whole) as mine:
        same(mine.give(), whole)


@pytest.mark.parametrize("start", [0, 3, 8, 21])
def test_our_slices_and_gathers_are_read_by_pyarrow(tool, start):
    batch = random_batch(33, 90, 0.3)
    rows = 61
    with tool.take(batch) as mine, mine.make("slice", start, rows) as cut, cut.make("every_other") as dense:
        same(cut.give(), batch.slice(start, rows))
        same(dense.give(), batch.slice(start, rows).take(pa.array(range(0, rows, 2))))


def test_our_dictionaries_are_read_by_pyarrow_at_every_depth(tool):
    batch = random_batch(34, 70, 0.3)
    before = tool.held()
    with tool.take(batch) as mine, mine.make("encode") as encoded, encoded.make("slice", 5, 50) as cut:
        with encoded.make("every_other") as dense:
            ours = encoded.give()
            assert pa.types.is_dictionary(ours.column("string").type)
            assert pa.types.is_dictionary(ours.column("lists").type.value_type.value_type)
            assert pa.types.is_dictionary(ours.column("map").type.key_type)
            same(ours, batch)
            same(cut.give(), batch.slice(5, 50))
            dense_given = dense.give()
        with tool.take(ours.select(["string", "binary"])) as again:
            same(again.give(), batch.select(["string", "binary"]))
    same(dense_given, batch.take(pa.array(range(0, 70, 2))))  # after the batches it came from
    del ours, dense_given
    assert tool.held() == before


@pytest.mark.parametrize("index", [pa.int8(), pa.uint8(), pa.int16(), pa.uint16(), pa.int32(), pa.uint32(), pa.int64(), pa.uint64()])
def test_dictionaries_of_pyarrow_are_decoded(tool, index):
    words = pa.array(["nil", "one", None, "", "four", "f" * 100])
    for kind in (pa.string(), pa.binary()):
        codes = pa.array([1, None, 2, 5, 3, 0, 0, 4, None, 2], index)
        array = pa.DictionaryArray.from_arrays(codes, words.cast(kind))
        sliced = pa.DictionaryArray.from_arrays(pa.array([1, 0, None, 2], index), words.cast(kind)[1:4])
        for dictionary in (array, array[3:], array[:0], sliced, sliced[1:]):
            batch = pa.RecordBatch.from_arrays([dictionary], names=["word"])
            with tool.take(batch) as mine:
                back = mine.give().column(0)
            assert back.type == kind
            assert back.to_pylist() == dictionary.to_pylist()
            assert back.null_count == dictionary.to_pylist().count(None)
    if index.bit_width == 8:
        many = pa.array([f"word {i}" for i in range(128 if pa.types.is_signed_integer(index) else 256)])
        full = pa.DictionaryArray.from_arrays(pa.array(range(len(many)), index), many)
        with tool.take(pa.RecordBatch.from_arrays([full], names=["word"])) as mine:
            assert mine.give().column(0).to_pylist() == many.to_pylist()


def test_timestamps_keep_unit_and_whether_they_have_a_zone(tool):
    instants = [0, -1, 2 ** 62, None]
    arrays = [pa.array(instants, pa.timestamp(unit, zone)) for unit in ("us", "ns") for zone in (None, "UTC", "Europe/Berlin")]
    batch = pa.RecordBatch.from_arrays(arrays, names=[f"t{i}" for i in range(len(arrays))])
    with tool.take(batch) as mine:
        back = mine.give()
    for i, array in enumerate(arrays):
        zone = "UTC" if array.type.tz else None  # an instant has no zone of its own: the name is not kept
        assert back.column(i).type == pa.timestamp(array.type.unit, zone)
        assert back.column(i).cast(pa.int64()).to_pylist() == instants


def test_decimals_keep_every_digit(tool):
    with decimal.localcontext(decimal.Context(prec=76)):
        for precision, scale in ((1, 0), (5, 5), (18, 9), (19, 0), (38, 0), (38, 38)):
            most = 10 ** precision - 1
            array = pa.array([decimal.Decimal(n).scaleb(-scale) if n is not None else None for n in (most, -most, 0, None, 1, -1)],
                             pa.decimal128(precision, scale))
            batch = pa.RecordBatch.from_arrays([array], names=["d"])
            with tool.take(batch) as mine:
                assert mine.give().equals(batch)


def test_nullability_of_fields_is_kept(tool):
    schema = pa.schema([pa.field("a", pa.int64(), nullable=False),
                        pa.field("b", pa.struct([pa.field("c", pa.string(), nullable=False), pa.field("d", pa.bool_())])),
                        pa.field("e", pa.list_(pa.field("element", pa.int8(), nullable=False)), nullable=False)])
    batch = pa.RecordBatch.from_pylist([{"a": 1, "b": {"c": "x", "d": None}, "e": [1, 2]}], schema)
    with tool.take(batch) as mine:
        assert mine.give().schema.equals(schema)


@pytest.mark.parametrize("array", [
    pa.array([1], pa.uint32()), pa.array([1], pa.timestamp("s")), pa.array([1], pa.timestamp("ms", "UTC")),
    pa.array(["x"], pa.large_string()), pa.array([[1]], pa.large_list(pa.int8())), pa.array([[1, 2]], pa.list_(pa.int8(), 2)),
    pa.array([b"ab"], pa.binary(2)), pa.array([1], pa.time64("us")), pa.array([1], pa.duration("us")), pa.nulls(1),
    pa.array([decimal.Decimal(1)], pa.decimal256(40, 0)), pa.array([decimal.Decimal(100)], pa.decimal128(3, -2)),
    pa.array([1], pa.int64()).dictionary_encode(), pa.array(["x"], pa.large_string()).dictionary_encode(),
    pa.array([[1]], pa.list_(pa.uint8())), pa.array([1.0], pa.float16()), pa.array(["x"], pa.string_view()),
], ids=lambda array: str(array.type))
def test_types_we_do_not_have_are_refused_by_name(tool, array):
    before = tool.held()
    allocated = pa.total_allocated_bytes()
    with pytest.raises(ValueError, match="arrow column [a-z]+: type '.*' is not supported; cast it first"):
        tool.take(pa.RecordBatch.from_arrays([array], names=["odd"]))
    assert tool.held() == before
    gc.collect()
    assert pa.total_allocated_bytes() == allocated


def test_a_struct_array_with_null_rows_is_no_batch(tool):
    array, schema, out = Struct(), Struct(), ctypes.c_void_p()
    struct = pa.array([{"a": 1}, None, {"a": 3}], pa.struct([("a", pa.int64())]))
    struct._export_to_c(array.address, schema.address)
    assert tool.library.arrow_tool_import(array_pointer(array), array_pointer(schema), ctypes.byref(out)) != 0
    assert b"null rows" in tool.library.arrow_tool_error()
    struct[2:]._export_to_c(array.address, schema.address)
    assert tool.library.arrow_tool_import(array_pointer(array), array_pointer(schema), ctypes.byref(out)) == 0
    with Batch(tool, out.value) as mine:
        assert mine.give().to_pylist() == [{"a": 3}]


def test_an_array_that_is_no_struct_is_no_batch(tool):
    array, schema, out = Struct(), Struct(), ctypes.c_void_p()
    pa.array([1, 2])._export_to_c(array.address, schema.address)
    assert tool.library.arrow_tool_import(array_pointer(array), array_pointer(schema), ctypes.byref(out)) != 0
    assert b"expected a struct" in tool.library.arrow_tool_error()


def test_batches_without_rows_or_columns(tool):
    for rows in (0, 5):
        with tool.take(random_batch(3, rows, 0.5)) as mine, mine.make("empty") as empty:
            given = empty.give()
            assert given.num_rows == 0 and given.schema.names == list(TYPES)
            with tool.take(given) as again:
                assert again.give().num_rows == 0
    with tool.take(pa.RecordBatch.from_arrays([], names=[])) as mine:
        assert mine.give().num_columns == 0
    with tool.take(random_batch(4, 20, 0).slice(20)) as mine:
        assert mine.give().num_rows == 0


def test_what_pyarrow_holds_outlives_the_batch_and_goes_with_its_last_reader(tool):
    batch = random_batch(55, 64, 0.2)
    before = tool.held()
    with tool.take(batch) as mine:
        given = [mine.give() for _ in range(3)]
        child = mine.give_child(list(TYPES).index("structs"))
        text = mine.give_child(list(TYPES).index("string"))
        held = tool.held()
    assert tool.held() == held > before
    for one in given:
        same(one, batch)
    column = given[0].column("maps")
    del given, one
    assert tool.held() == held
    assert column.to_pylist() == batch.column("maps").to_pylist()
    del column
    assert tool.held() == held
    assert child.to_pylist() == batch.column("structs").to_pylist()  # its root was released long ago
    del child
    assert text.to_pylist() == batch.column("string").to_pylist()
    del text
    assert tool.held() == before


def test_what_we_take_is_released_once(tool):
    gc.collect()
    allocated = pa.total_allocated_bytes()
    batch = random_batch(56, 500, 0.2)
    for _ in range(20):
        with tool.take(batch):
            pass
    del batch
    gc.collect()
    assert pa.total_allocated_bytes() == allocated
    assert tool.held() == 0
