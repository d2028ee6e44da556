"""A third set of rules with what DuckDB makes of the same files: parcels over the day the clocks go forward. DuckDB makes the events too, from a
seed, so that there may be millions: WEIR_PARCELS=5000000 makes it long, WEIR_PARCELS_SEED another.

Nulls in every column and in what is nested, ids again in later files, rows at the exact bound, empty files, a byte order mark, CRLF, .gz and .zst,
a day of 23 hours, floats, lists and structs, the row that is greatest.
"""

import gzip
import json
import os

import duckdb
import lake
import pyarrow
from test_stranger import HALF_EVEN, same

ROWS = int(os.environ.get("WEIR_PARCELS", "20000"))
SEED = int(os.environ.get("WEIR_PARCELS_SEED", "7"))
FILES = 7

FIELDS = {
    "scan_id": "string", "depot": "string", "status": "string", "weight": {"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 3},
    "length": "float", "fragile": "boolean", "parcel": "long", "scanned": {"type": "long", "logicalType": "timestamp-micros"},
    "route": {"type": "record", "name": "route", "fields": [{"name": n, "type": ["null", t], "default": None} for n, t in (("start", "string"), ("goal", "string"), ("km", "int"))]},
    "tags": {"type": "array", "items": ["null", "string"]},
}
SCHEMA = {"type": "record", "name": "scan", "fields": [{"name": name, "type": ["null", kind], "default": None} for name, kind in FIELDS.items()]}

PIPELINE = """return pipeline "parcels" {
  rules = "rules", storage = delta { root = "lake" }, commit = { every = "300ms" }, time_zone = "Europe/Berlin",
  sources = { source "bronze.scan" { files { path = "landing/*" }, json { schema = "schemas/scan.avsc" }, into = none } },
}"""

RULES = """
return {
  stream "silver.scan" {
    from  = "bronze.scan",
    where = function(e) return e.status ~= "test" end,
    time  = { field = "scanned", out_of_order = "30s" },
    dedup = { by = "scan_id", within = "2d" },
    expectations = {
      expect "an id"      { not_null "scan_id" },
      expect "a status"   { one_of("status", { "in", "out", "lost" }) },
      expect "weight"     { between("weight", 0.001, 31.5) },
      expect "a depot"    { matches("depot", [[^[A-Z]{3}[0-9]$]]), on_violation = "drop" },
      expect "it fits"    { function(e) return e.length < 3.5 end },
    },
    columns = { local_day = "date", hr = "int32", lane = "string", load = "decimal(20,3)", stops = "int64", one = "string", area = "double" },
    map = function(e, out)
      out.local_day, out.hr = date(e.scanned), hour(e.scanned)
      if e.route ~= nil then
        out.lane = (e.route.start or "?") .. ">" .. (e.route.goal or "?")
        if e.weight ~= nil and e.route.km ~= nil then out.load = e.weight * e.route.km end
      end
      if e.tags ~= nil then
        out.stops, out.one = #e.tags, e.tags[1]
      end
      out.area = e.length * e.length
    end,
  },
  model "gold.five" {
    from = "silver.scan", by = { "depot" },
    window = tumbling { size = "5m", allowed_lateness = "2m", late = "quarantine.late_scan" },
    measures = {
      rows = count(), heavy = count { where = function(e) return e.weight ~= nil and e.weight > 20 end }, kg = sum "weight", mean = avg "weight", lanes = distinct "lane",
      area = sum "area", low = min "length", high = max "length", heaviest = arg_max("scan_id", "weight"), opened = first "scan_id", closed = last "scan_id",
    },
    derive = { { share = function(m) return m.heavy / m.rows end, type = "double" } },
  },
  model "gold.day" {
    from = "silver.scan", by = { "depot", "fragile" }, window = calendar { "day" },
    measures = { rows = count(), load = sum "load", hours = distinct "hr", parcels = max "parcel", stops = max "stops" },
  },
}
"""

# Columns hang on hashes of the row's number, so that any number of rows takes a moment. 36 hours in steps of ten seconds.
EVENTS = """
CREATE MACRO roll(n, what, sides) AS (hash(n, what, {seed}) % sides)::BIGINT;
CREATE MACRO maybe(v, n, what) AS CASE WHEN roll(n, what || '?', 25) = 0 THEN NULL ELSE v END;
CREATE TABLE bronze AS SELECT n,
    maybe('p' || CASE WHEN n > 100 AND roll(n, 'again', 30) = 0 THEN n - 1 - roll(n, 'back', greatest(n // 2, 1)) ELSE n END, n, 'id') AS scan_id,
    maybe(CASE WHEN roll(n, 'odd depot', 40) = 0 THEN ['', 'BER', 'BER1x', 'bÉR1'][1 + roll(n, 'which', 4)] ELSE ['BER', 'HAM', 'MUC', 'KÖL'][1 + roll(n, 'd', 3)] || roll(n, 'e', 5) END, n, 'depot') AS depot,
    maybe(['in', 'in', 'out', 'out', 'lost', 'test', 'gone'][1 + roll(n, 'status', 7)], n, 'status') AS status,
    maybe(CASE WHEN roll(n, 'edge', 20) = 0 THEN [0, 0.001, 31.5, 31.501, 20, 20.001, -1, 99999.999][1 + roll(n, 'which', 8)] ELSE roll(n, 'w', 30000) / 1000 END, n, 'weight')::DECIMAL(8,3) AS weight,
    maybe((roll(n, 'l', 400) - 20) / 100, n, 'length')::FLOAT AS length,
    maybe(roll(n, 'f', 3) = 0, n, 'fragile') AS fragile,
    maybe(roll(n, 'p', 4) * 2305843009213693951 - 4611686018427387904 + n, n, 'parcel')::BIGINT AS parcel,
    maybe(TIMESTAMP '2024-03-30 14:00:00' + to_seconds((n * 12960) // {rows} * 10) - to_seconds(CASE roll(n, 'late', 40) WHEN 0 THEN 10 * roll(n, 'very', 100) ELSE 5 * roll(n, 'bit', 7) END),
        n, 'scanned') AS scanned,
    maybe(struct_pack("start" := maybe(['BER', 'HAM'][1 + roll(n, 's', 2)], n, 'start'), goal := maybe('G' || roll(n, 'g', 9), n, 'goal'), km := maybe(roll(n, 'k', 2000)::INT - 10, n, 'km')), n, 'route') AS route,
    maybe(['x', 'ünï', '', NULL, 'y"\\'][1:1 + roll(n, 't', 6)][1 + roll(n, 'u', 3):], n, 'tags') AS tags
  FROM range({rows}) t(n);
"""

SQL = HALF_EVEN + """;
CREATE TABLE timed AS SELECT *, max(scanned) OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) - INTERVAL 30 SECOND AS wm FROM bronze;
CREATE TABLE judged AS SELECT *, CASE WHEN scanned IS NULL THEN ['time'] ELSE list_filter([
    CASE WHEN scan_id IS NULL THEN 'an id' END, CASE WHEN status NOT IN ('in', 'out', 'lost') THEN 'a status' END,
    CASE WHEN NOT weight BETWEEN 0.001 AND 31.5 THEN 'weight' END, CASE WHEN NOT regexp_full_match(depot, '[A-Z]{3}[0-9]') THEN 'a depot' END,
    CASE WHEN NOT coalesce(length < 3.5, false) THEN 'it fits' END], lambda x: x IS NOT NULL) END AS names
  FROM timed WHERE status IS DISTINCT FROM 'test' OR scanned IS NULL;
CREATE TABLE passed AS SELECT *, row_number() OVER (PARTITION BY scan_id ORDER BY n) AS copy FROM judged WHERE len(names) = 0;
CREATE TABLE silver AS SELECT * EXCLUDE (names, copy), (scanned AT TIME ZONE 'UTC' AT TIME ZONE 'Europe/Berlin')::DATE AS local_day,
    hour(scanned AT TIME ZONE 'UTC' AT TIME ZONE 'Europe/Berlin')::INT AS hr, CASE WHEN route IS NOT NULL THEN coalesce(route."start", '?') || '>' || coalesce(route.goal, '?') END AS lane,
    (weight::DECIMAL(20,3) * route.km)::DECIMAL(20,3) AS load, len(tags) AS stops, tags[1] AS one, length::DOUBLE * length::DOUBLE AS area
  FROM passed WHERE copy = 1;
CREATE TABLE windowed AS SELECT *, time_bucket(INTERVAL 5 MINUTE, scanned) AS ws, local_day::TIMESTAMP AT TIME ZONE 'Europe/Berlin' AT TIME ZONE 'UTC' AS ds,
    (local_day + 1)::TIMESTAMP AT TIME ZONE 'Europe/Berlin' AT TIME ZONE 'UTC' AS de FROM silver;
CREATE TABLE late AS SELECT * FROM windowed WHERE ws + INTERVAL 7 MINUTE <= wm;
CREATE TABLE five AS SELECT depot, ws, ws + INTERVAL 5 MINUTE AS we, count(*) AS rows, count(*) FILTER (WHERE weight > 20) AS heavy, sum(weight)::DECIMAL(38,3) AS kg,
    half_even((sum(weight) * 1000)::HUGEINT * 1000, nullif(count(weight), 0)) AS mean, count(DISTINCT lane) AS lanes, sum(area ORDER BY n) AS area, min(length) AS low, max(length) AS high,
    first(scan_id ORDER BY weight DESC, scanned, n) FILTER (WHERE weight IS NOT NULL) AS heaviest, first(scan_id ORDER BY scanned, n) AS opened, last(scan_id ORDER BY scanned, n) AS closed,
    half_even(count(*) FILTER (WHERE weight > 20) * 1000000, count(*)) / 1e6 AS share FROM windowed WHERE n NOT IN (SELECT n FROM late) GROUP BY ALL;
CREATE TABLE day AS SELECT depot, fragile, ds, de, count(*) AS rows, sum(load)::DECIMAL(38,3) AS load, count(DISTINCT hr) AS hours, max(parcel) AS parcels, max(stops) AS stops
  FROM windowed WHERE wm IS NULL OR de > wm GROUP BY ALL;
"""


def write(db, folder):
    """Rows in the order of their numbers over files of every kind."""
    folder.mkdir(parents=True)
    names = [name if name != "scanned" else "strftime(scanned, '%Y-%m-%dT%H:%M:%SZ') AS scanned" for name in FIELDS]
    for k in range(FILES):
        path = folder / f"f{k}.jsonl"
        db.execute(f"COPY (SELECT {', '.join(names)} FROM bronze WHERE n >= {k} * {ROWS} // {FILES} AND n < {k + 1} * {ROWS} // {FILES} ORDER BY n) TO '{path}' (FORMAT json)")
        text = path.read_bytes()
        if k % 3 == 1:
            path.write_bytes(text.replace(b"\n", b"\r\n").removesuffix(b"\r\n"))
        elif k % 3 == 2:
            path.unlink()
            (folder / f"f{k}.jsonl.gz").write_bytes(gzip.compress(text[:len(text) // 2], 1) + gzip.compress(text[len(text) // 2:], 1))
        elif k == 3:
            path.unlink()
            (folder / f"f{k}.jsonl.zst").write_bytes(pyarrow.compress(text, "zstd", asbytes=True))
        elif k == 0:
            path.write_bytes(b"\xef\xbb\xbf" + text)
        (folder / f"f{k}-empty.jsonl").write_bytes(b"" if k % 2 else b"\r\n\r\n")


def test_parcels_equal_duckdb(project):
    project.write("schemas/scan.avsc", json.dumps(SCHEMA))
    project.write("pipelines/p.lua", PIPELINE)
    project.write("rules/parcels.lua", RULES)
    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    db.execute("SET threads = 2")
    db.execute(EVENTS.format(seed=SEED, rows=ROWS))
    write(db, project.root / "landing")
    summary = project.run("pipelines/p.lua")
    db.execute(SQL)

    def one(query):
        return db.execute(query).fetchall()[0][0]

    assert summary["events"] == ROWS
    counts = summary["datasets"]["silver.scan"]
    assert (counts["in"], counts["out"], counts["duplicates"]) == (ROWS, one("SELECT count(*) FROM silver"), one("SELECT count(*) FROM passed WHERE copy > 1"))
    assert counts["rejected"] == dict(db.execute("SELECT name, count(*) FROM (SELECT unnest(names) AS name FROM judged) GROUP BY 1").fetchall())
    assert summary["datasets"]["gold.five"]["late"] == one("SELECT count(*) FROM late") > 0
    assert one("SELECT count(*) FROM windowed WHERE ws + INTERVAL 7 MINUTE = wm") > 0, "rows at the exact bound"

    def compare(name, columns, query, floats=(), **computed):
        """Millions of rows are compared inside DuckDB, and told one by one only where they differ."""
        found = lake.by_deltalake(project.root / "lake" / name)
        db.register("found", found)
        exact = [column for k, column in enumerate(columns) if k not in floats]
        utc = {field.name for field in found.schema if pyarrow.types.is_timestamp(field.type)}
        computed |= {column: f"{column} AT TIME ZONE 'UTC'" for column in utc}
        select = ", ".join(f"{computed.get(column, column)} AS {column}" for column in columns)
        lost = db.execute(f"SELECT {', '.join(exact)} FROM ({query}) EXCEPT ALL SELECT {', '.join(exact)} FROM (SELECT {select} FROM found) LIMIT 3").fetchall()
        more = db.execute(f"SELECT {', '.join(exact)} FROM (SELECT {select} FROM found) EXCEPT ALL SELECT {', '.join(exact)} FROM ({query}) LIMIT 3").fetchall()
        assert not lost and not more and found.num_rows == one(f"SELECT count(*) FROM ({query})"), f"{name}: missing {lost}, extra {more}"
        if floats:
            same(db.execute(f"SELECT {select} FROM found").fetchall(), db.execute(f"SELECT {', '.join(columns)} FROM ({query})").fetchall(), name, set(floats))
        db.unregister("found")

    silver = [*FIELDS, "local_day", "hr", "lane", "load", "stops", "one", "area"]
    compare("silver/scan", silver, f"SELECT {', '.join(silver)} FROM silver")  # a product of two floats is exact
    refused = "SELECT scan_id, depot, weight, parcel, list_sort(names) AS names FROM judged WHERE len(list_filter(names, lambda x: x <> 'a depot')) > 0"
    compare("quarantine/silver/scan", ["scan_id", "depot", "weight", "parcel", "names"], refused, names="list_sort(list_transform(_reasons, lambda x: x.expectation))")
    compare("quarantine/late_scan", ["scan_id"], "SELECT scan_id FROM late")
    five = "depot window_start window_end rows heavy kg mean lanes area low high heaviest opened closed share".split()
    mean = "(mean * 0.000001::DECIMAL(7,6))::DECIMAL(38,6)"
    compare("gold/five", five, f"SELECT * REPLACE ({mean} AS mean) RENAME (ws AS window_start, we AS window_end) FROM five", {8})
    day = "depot fragile window_start window_end rows load hours parcels stops".split()
    compare("gold/day", day, "SELECT * RENAME (ds AS window_start, de AS window_end) FROM day")
    lengths = {(end - start).total_seconds() / 3600 for start, end in db.execute("SELECT ds, de FROM day").fetchall()}
    assert lengths == {23, 24}
