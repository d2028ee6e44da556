"""What the standard pipeline must give, computed without Weir.

Lines are decoded here by Python's own JSON with exact numbers; everything a query can say (watermarks, checks, lateness, windows, aggregates) is
DuckDB's; dedup, whose answer depends on what was kept before, is a loop. It knows the language's text, not the runtime's code.
"""

import dataclasses
import datetime
import decimal
import gzip
import json
import pathlib
import re

import duckdb
import pyarrow as pa

import standard

UTC = datetime.timezone.utc
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=UTC)
RANGE = {"int32": 31, "int64": 63}
ISO = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(?:[Zz]|([+-])(\d\d):(\d\d))")


class Reject(Exception):
    pass


def pairs(items):
    keys = [key for key, _ in items]
    if len(set(keys)) != len(keys):
        raise Reject("a key twice")
    return dict(items)


def no_constant(text):
    raise Reject(f"{text} is not JSON")


def whole(value):
    if isinstance(value, bool) or not isinstance(value, (int, decimal.Decimal)):
        raise Reject("not a number")
    if isinstance(value, decimal.Decimal):
        if value.adjusted() > 40 or value != value.to_integral_value():
            raise Reject("not a whole number")
    return int(value)


def convert(kind, value, name):
    if kind == "string":
        if not isinstance(value, str):
            raise Reject("not text")
        value.encode("utf-8")  # a lone surrogate is not text
        return value
    if kind in RANGE:
        if kind == "int64" and isinstance(value, str) and re.fullmatch(r"-?\d+", value):
            value = int(value)
        number = whole(value)
        if not -(1 << RANGE[kind]) <= number < 1 << RANGE[kind]:
            raise Reject("out of range")
        return number
    if kind == "double":
        if isinstance(value, bool) or not isinstance(value, (int, decimal.Decimal)):
            raise Reject("not a number")
        number = float(str(value))
        if number in (float("inf"), float("-inf")):
            raise Reject("infinite")
        return number
    if kind == "decimal":
        if isinstance(value, str):
            if not re.fullmatch(r"-?\d+(\.\d+)?", value):
                raise Reject("not a decimal")
            value = decimal.Decimal(value)
        if isinstance(value, bool) or not isinstance(value, (int, decimal.Decimal)):
            raise Reject("not a number")
        precision, scale = standard.DECIMALS[name]
        number = decimal.Decimal(value)
        if number.adjusted() > 40:
            raise Reject("too many digits")
        rounded = number.quantize(decimal.Decimal(1).scaleb(-scale), context=decimal.Context(prec=60))
        if rounded != number or abs(rounded) >= decimal.Decimal(10) ** (precision - scale):
            raise Reject("does not fit")
        return rounded
    if isinstance(value, str):
        match = ISO.fullmatch(value)
        if not match:
            raise Reject("not a time with offset")
        day, clock, micros, sign, hours, minutes = match.groups()
        try:
            moment = datetime.datetime.strptime(f"{day}T{clock}", "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
        except ValueError as problem:
            raise Reject(str(problem)) from problem
        us = (moment - EPOCH) // datetime.timedelta(microseconds=1) + int((micros or "0").ljust(6, "0"))
        if sign:
            us -= int(f"{sign}1") * (int(hours) * 60 + int(minutes)) * 60_000_000
    else:
        us = whole(value)
    return EPOCH + datetime.timedelta(microseconds=us)


def decode_line(line):
    """The row of a line, or Reject."""
    try:
        values = json.loads(line.decode("utf-8"), parse_float=decimal.Decimal, object_pairs_hook=pairs, parse_constant=no_constant)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as problem:
        raise Reject(str(problem)) from problem
    if not isinstance(values, dict):
        raise Reject("not an object")
    row = {}
    for name, kind, nullable, default in standard.INPUT:
        if name not in values:
            if default is None and not nullable:
                raise Reject(f"{name} is missing")
            row[name] = default
        elif values[name] is None:
            if not nullable:
                raise Reject(f"{name} is null")
            row[name] = None
        else:
            try:
                row[name] = convert(kind, values[name], name)
            except UnicodeEncodeError as problem:
                raise Reject(str(problem)) from problem
    return row


def read_lines(path):
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    for line in data.split(b"\n"):
        line = line.removesuffix(b"\r")
        if line.strip(b" \t\r"):
            yield line


def decode(folder):
    rows, rejected = [], []
    for path in sorted(pathlib.Path(folder).iterdir()):
        for line in read_lines(path):
            try:
                rows.append(decode_line(line))
            except Reject:
                rejected.append(line)
    return rows, rejected


ARROW = {"string": pa.string(), "int32": pa.int32(), "int64": pa.int64(), "double": pa.float64(), "timestamp": pa.timestamp("us", tz="UTC")}


def arrow_type(name, kind):
    return pa.decimal128(*standard.DECIMALS[name]) if kind == "decimal" else ARROW[kind]


SILVER_TYPES = {**{n: arrow_type(n, k) for n, k, *_ in standard.INPUT if n != "vat"}, "net": pa.decimal128(12, 2)}
GOLD_TYPES = {
    "sku": pa.string(), "window_start": ARROW["timestamp"], "window_end": ARROW["timestamp"], "units": pa.int64(),
    "revenue": pa.decimal128(38, 2), "sales": pa.int64(), "mean_qty": pa.decimal128(38, 6), "lightest": pa.float64(),
    "heaviest": pa.float64(), "weight": pa.float64(), "stores": pa.int64(), "refunds": pa.int64(), "last_receipt": pa.int64(),
    "mean_price": pa.decimal128(14, 4),
}

# A checked row: what failed, in the order declared, and the watermark just before it.
CHECKED = f"""
CREATE TABLE checked AS
SELECT *,
  max(sold_at) OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) - INTERVAL {standard.OUT_OF_ORDER_S} SECOND AS watermark,
  channel <> 'test' AS wanted,
  list_filter([
    CASE WHEN sold_at IS NULL THEN 'time' END,
    CASE WHEN store_id IS NULL THEN 'has a store' END,
    CASE WHEN store_id NOT BETWEEN 1 AND 999 THEN 'store in range' END,
    CASE WHEN currency NOT IN ('GBP', 'EUR', 'USD') THEN 'currency is traded' END,
    CASE WHEN NOT coalesce(gross = qty * unit_price - discount, false) THEN 'lines add up' END,
    CASE WHEN NOT regexp_full_match(sku, 'S[0-9]{{3}}') THEN 'sku shape' END
  ], lambda name: name IS NOT NULL) AS failed
FROM decoded
"""

# n / d, rounded once to six decimals, ties to even; in whole numbers, so that nothing is rounded twice. `n` is scaled already.
MACROS = """
CREATE MACRO half_even(n, d) AS
  (n::HUGEINT // d::HUGEINT) + CASE
    WHEN 2 * abs(n::HUGEINT % d::HUGEINT) > abs(d::HUGEINT)
      OR (2 * abs(n::HUGEINT % d::HUGEINT) = abs(d::HUGEINT) AND (n::HUGEINT // d::HUGEINT) % 2 <> 0)
    THEN sign(n) * sign(d) ELSE 0 END;
"""

LATE = f"watermark IS NOT NULL AND window_end + INTERVAL {standard.LATENESS_S} SECOND <= watermark"

GOLD = f"""
CREATE TABLE windowed AS
SELECT *, time_bucket(INTERVAL {standard.WINDOW_S} SECOND, sold_at) AS window_start,
       time_bucket(INTERVAL {standard.WINDOW_S} SECOND, sold_at) + INTERVAL {standard.WINDOW_S} SECOND AS window_end
FROM silver;
CREATE TABLE late AS SELECT * FROM windowed WHERE {LATE};
CREATE TABLE sums AS
SELECT sku, window_start, window_end,
  sum(qty)::BIGINT AS units, sum(net)::DECIMAL(38,2) AS revenue, count(*)::BIGINT AS sales, count(qty) AS qtys,
  min(weight) AS lightest, max(weight) AS heaviest, sum(weight ORDER BY n) AS weight,
  count(DISTINCT store_id) AS stores, count(*) FILTER (WHERE qty < 0) AS refunds, max(receipt) AS last_receipt
FROM windowed WHERE NOT ({LATE}) GROUP BY ALL;
CREATE TABLE gold AS
SELECT sku, window_start, window_end, units, revenue, sales,
  CASE WHEN qtys > 0 THEN half_even(units::HUGEINT * 1000000, qtys) END AS mean_qty_millionths,
  lightest, heaviest, weight, stores, refunds, last_receipt,
  CASE WHEN units <> 0 THEN half_even(half_even((revenue * 100)::HUGEINT * 10000, units), 100) END AS mean_price_tenthousandths
FROM sums
"""


@dataclasses.dataclass
class Expected:
    bronze: list  # decoded rows
    undecodable: list  # raw lines
    silver: list
    quarantine: list  # (row as it entered, sorted names)
    gold: list
    late: list
    counts: dict


def utc(moment):
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)


def dicts(database, query):
    cursor = database.execute(query)
    names = [column[0] for column in cursor.description]
    return [{n: utc(v) if isinstance(v, datetime.datetime) else v for n, v in zip(names, row)} for row in cursor.fetchall()]


def table_of(rows, extra=()):
    names = [(n, arrow_type(n, k)) for n, k, *_ in standard.INPUT]
    schema = pa.schema([pa.field(n, pa.timestamp("us") if n == "sold_at" else t) for n, t in names] + list(extra))
    plain = [{**row, "sold_at": row["sold_at"].replace(tzinfo=None) if row["sold_at"] else None} for row in rows]
    return pa.Table.from_pylist(plain, schema=schema)


def keep_first(rows):
    """Dedup, then map, row by row: (silver, rejected by map, duplicates)."""
    kept, silver, rejected, duplicates = {}, [], [], 0
    within = datetime.timedelta(seconds=standard.WITHIN_S)
    for row in rows:
        times = kept.setdefault(row["event_id"], []) if row["event_id"] is not None else []
        if any(abs(row["sold_at"] - time) < within for time in times):
            duplicates += 1
            continue
        net = None if row["vat"] is None or row["gross"] is None else row["gross"] - row["vat"]
        if net is None or abs(net) >= decimal.Decimal(10) ** 10:
            rejected.append(row)
            continue
        times.append(row["sold_at"])
        silver.append({**row, "net": net})
    return silver, rejected, duplicates


def compute(folder=None, rows=None):
    """From the files of a folder, or from decoded rows."""
    undecodable = []
    if rows is None:
        rows, undecodable = decode(folder)
    database = duckdb.connect()
    database.execute(MACROS)
    numbered = table_of([dict(row) for row in rows]).append_column("n", pa.array(range(len(rows)), pa.int64()))
    database.register("decoded", numbered)
    database.execute(CHECKED)
    warn, drop = {"sku shape"}, {"currency is traded"}
    checked = dicts(database, "SELECT * FROM checked ORDER BY n")
    rejected, quarantine, passed = {}, [], []
    warned = filtered = dropped = 0
    for row in checked:
        if not row["wanted"]:
            filtered += 1
            continue
        names = set(row["failed"])
        for name in names - warn:
            rejected[name] = rejected.get(name, 0) + 1
        warned += len(names & warn)
        if names - warn - drop:
            quarantine.append((row, sorted(names)))
        elif names & drop:
            dropped += 1
        else:
            passed.append(row)
    silver, unmapped, duplicates = keep_first(passed)
    if unmapped:
        rejected["map"] = len(unmapped)
    quarantine += [(row, sorted({"map", *(set(row["failed"]) & warn)})) for row in unmapped]
    extra = [pa.field("n", pa.int64()), pa.field("watermark", pa.timestamp("us")), pa.field("net", pa.decimal128(12, 2))]
    naive = [{**row, "watermark": row["watermark"].replace(tzinfo=None) if row["watermark"] else None} for row in silver]
    database.register("silver", table_of(naive, extra))
    database.execute(GOLD)
    gold = dicts(database, "SELECT * FROM gold")
    for row in gold:
        for column, scaled, places in (("mean_qty", "mean_qty_millionths", 6), ("mean_price", "mean_price_tenthousandths", 4)):
            value = row.pop(scaled)
            row[column] = None if value is None else decimal.Decimal(int(value)).scaleb(-places)
        if row["mean_price"] is not None and abs(row["mean_price"]) >= decimal.Decimal(10) ** 10:
            row["mean_price"] = None
    late = dicts(database, "SELECT * FROM late ORDER BY n")
    total = len(rows)
    counts = {
        "bronze.sale": {"in": total + len(undecodable), "out": total, "rejected": {"decode": len(undecodable)} if undecodable else {},
                        "late": 0, "duplicates": 0},
        "silver.sale": {"in": total, "out": len(silver), "rejected": rejected, "late": 0, "duplicates": duplicates},
        "gold.velocity": {"in": len(silver), "out": len(gold), "rejected": {}, "late": len(late), "duplicates": 0},
    }
    assert total == len(silver) + filtered + dropped + len(quarantine) + duplicates, "every row goes to exactly one place"
    return Expected(rows, undecodable, silver, quarantine, gold, late, counts)
