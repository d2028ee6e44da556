"""Delta tables as others read them, and comparisons of rows as multisets."""

import datetime
import decimal
import functools
import math

import deltalake
import duckdb
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet

RELATIVE = 1e-9


@functools.cache
def instance():
    return duckdb.connect()


def duck():
    """A connection of its own to the one DuckDB of the session: opening another costs more than most of what is asked of it."""
    return instance().cursor()


def by_deltalake(path):
    return deltalake.DeltaTable(str(path)).to_pyarrow_table()


def files_of(path):
    table = deltalake.DeltaTable(str(path))
    assert table.metadata().partition_columns == [], "a partitioned table's columns are not all in its files"
    return table, table.file_uris()


def by_duckdb(path):
    table, files = files_of(path)
    if not files:
        return by_deltalake(path)
    database = duck()
    database.execute("SET TimeZone = 'UTC'")
    return database.sql("SELECT * FROM read_parquet($files, union_by_name = true)", params={"files": files}).to_arrow_table()


def by_pyarrow(path):
    table, files = files_of(path)
    if not files:
        return by_deltalake(path)
    return pa.concat_tables([pyarrow.parquet.ParquetFile(name).read() for name in files], promote_options="default")


READERS = {"deltalake": by_deltalake, "duckdb": by_duckdb, "pyarrow": by_pyarrow}


def normal(value):
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return value.astimezone(datetime.timezone.utc)
    if isinstance(value, list):
        return tuple(normal(item) for item in value)
    if isinstance(value, dict):
        return tuple(sorted((key, normal(item)) for key, item in value.items()))
    return value


def rows_of(table, columns):
    lists = [table.column(name).to_pylist() for name in columns]
    return [tuple(normal(value) for value in row) for row in zip(*lists)] if lists else []


def sort_key(row):
    exact = tuple("" if value is None else f"{type(value).__name__}:{value!r}" for value in row if not isinstance(value, float))
    return exact, tuple(value for value in row if isinstance(value, float))


def same(a, b):
    if isinstance(a, float) and isinstance(b, float):
        return a == b or math.isclose(a, b, rel_tol=RELATIVE, abs_tol=0.0) or (math.isnan(a) and math.isnan(b))
    return a == b


def with_decimals(rows):
    """Decimals without their trailing zeros: scale is compared by the column's type, not value by value."""
    return [tuple(v.normalize() + 0 if isinstance(v, decimal.Decimal) else v for v in row) for row in rows]


def assert_same_rows(actual, expected, columns, what):
    actual, expected = sorted(with_decimals(actual), key=sort_key), sorted(with_decimals(expected), key=sort_key)
    wrong = []
    if len(actual) != len(expected):
        wrong.append(f"{len(actual)} rows, expected {len(expected)}")
        missing, extra = list(map(sort_key, expected)), []
        left = {}
        for key in missing:
            left[key] = left.get(key, 0) + 1
        for row in actual:
            if left.get(sort_key(row), 0):
                left[sort_key(row)] -= 1
            else:
                extra.append(row)
        missing_rows = []
        for row in expected:
            if left.get(sort_key(row), 0):
                left[sort_key(row)] -= 1
                missing_rows.append(row)
        wrong += [f"missing: {dict(zip(columns, row))}" for row in missing_rows[:4]]
        wrong += [f"extra:   {dict(zip(columns, row))}" for row in extra[:4]]
    else:
        for a, b in zip(actual, expected):
            if not all(same(x, y) for x, y in zip(a, b)):
                differing = {c: (x, y) for c, x, y in zip(columns, a, b) if not same(x, y)}
                wrong.append(f"(is, expected) {differing} in {dict(zip(columns, b))}")
                if len(wrong) == 5:
                    break
    assert not wrong, f"{what}:\n" + "\n".join(wrong)


def exact_differences(actual, expected, show=4):
    """Rows of one table and not of the other, as multisets; equal means every bit of every double."""
    database = duck()
    database.register("actual", actual)
    database.register("expected", expected)
    columns = ", ".join(f'"{name}"' for name in expected.column_names)
    # Sums of hashes first: they cost a tenth, and rows are wanted only where they differ.
    digest = "SELECT count(*), sum(hash({0})::HUGEINT), bit_xor(hash({0}, 1)) FROM {1}"
    if len({database.sql(digest.format(columns, name)).fetchall()[0] for name in ("actual", "expected")}) == 1:
        return [], []
    only = "SELECT {0} FROM {1} EXCEPT ALL SELECT {0} FROM {2} LIMIT {3}"
    lost = database.sql(only.format(columns, "expected", "actual", show)).fetchall()
    new = database.sql(only.format(columns, "actual", "expected", show)).fetchall()
    return lost, new


def exact_table(path):
    table = by_deltalake(path)
    return table.select([name for name in table.column_names if not name.startswith("_")])
