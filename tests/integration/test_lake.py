"""The comparison is judged too: what it must tell apart, on tables written by deltalake."""

import datetime
import decimal

import deltalake
import pyarrow as pa
import pytest

import lake

COLUMNS = ["name", "price", "at", "weight"]
AT = datetime.datetime(2026, 1, 5, 10, 0, 0, 1, tzinfo=datetime.timezone.utc)
ROWS = [("a", decimal.Decimal("1.10"), AT, 0.1), ("a", decimal.Decimal("1.10"), AT, 0.1), (None, None, None, None), ("b", decimal.Decimal("2.00"), AT, -0.0)]


@pytest.fixture
def table(tmp_path):
    schema = pa.schema([("name", pa.string()), ("price", pa.decimal128(12, 2)), ("at", pa.timestamp("us", tz="UTC")), ("weight", pa.float64())])
    for part in (ROWS[:1], ROWS[1:]):
        deltalake.write_deltalake(str(tmp_path), pa.Table.from_pylist([dict(zip(COLUMNS, row)) for row in part], schema=schema), mode="append")
    return tmp_path


@pytest.mark.parametrize("reader", lake.READERS)
def test_every_reader_gives_the_same_rows(table, reader):
    lake.assert_same_rows(lake.rows_of(lake.READERS[reader](table), COLUMNS), ROWS, COLUMNS, reader)


@pytest.mark.parametrize("change", [
    ROWS[:3], ROWS + ROWS[:1], [("a", decimal.Decimal("1.11"), AT, 0.1), *ROWS[1:]], [("a", decimal.Decimal("1.10"), AT, 0.1000001), *ROWS[1:]],
    [("a", decimal.Decimal("1.10"), AT + datetime.timedelta(microseconds=1), 0.1), *ROWS[1:]], [("", decimal.Decimal("1.10"), AT, 0.1), *ROWS[1:]],
    [*ROWS[:2], ("b", decimal.Decimal("2.00"), AT, None), ROWS[2]],
])
def test_a_difference_is_seen(change):
    with pytest.raises(AssertionError):
        lake.assert_same_rows(change, ROWS, COLUMNS, "changed")


def test_order_trailing_zeros_and_the_last_bits_of_a_double_make_no_difference():
    changed = [(n, p.normalize() if p else p, t, w * (1 + 1e-12) if w else w) for n, p, t, w in reversed(ROWS)]
    lake.assert_same_rows(changed, ROWS, COLUMNS, "reordered")


def test_exact_differences_tell_every_bit_of_a_double_apart_and_count_copies(table):
    def doubles(*values):
        return pa.table({"name": ["a"] * len(values), "weight": pa.array(values, pa.float64())})
    assert lake.exact_differences(doubles(0.1 + 0.2, 0.3), doubles(0.3, 0.1 + 0.2)) == ([], [])
    assert lake.exact_differences(doubles(0.1 + 0.2), doubles(0.3)) != ([], [])
    assert lake.exact_differences(doubles(0.3, 0.3), doubles(0.3)) == ([], [("a", 0.3)])
    assert lake.exact_differences(doubles(None), doubles(None, 0.3)) == ([("a", 0.3)], [])
    whole = lake.exact_table(table)
    assert lake.exact_differences(whole, whole) == ([], [])
