"""Rules of another trade than the standard pipeline's, with what DuckDB makes of the same files: sensors over the night the clocks go back.

Streams over streams, values of every kind near their ends, expectations of every sort, windows that hop, models of models, nulls in every column,
duplicates across files, rows at the exact bound, empty files, CRLF. WEIR_STRANGER_ROWS=1000000 makes it long.
"""

import datetime
import decimal
import json
import os
import random

import duckdb
import lake
import pytest

UTC = datetime.timezone.utc
SECOND = 1_000_000
START = int(datetime.datetime(2025, 10, 25, 22, 50, tzinfo=UTC).timestamp()) * SECOND
ROWS = int(os.environ.get("WEIR_STRANGER_ROWS", "12000"))
MAX = 2**63 - 1

FIELDS = {
    "device": "string", "seq": "long", "model": "string", "kind": "string", "serial": "string", "lo": "long", "hi": "long", "ratio": "double",
    "temp": ("decimal", 9, 3), "huge": ("decimal", 38, 4), "ok": "boolean", "born": {"type": "int", "logicalType": "date"},
    "seen": {"type": "long", "logicalType": "timestamp-micros"},
}


def avsc():
    fields = []
    for name, kind in FIELDS.items():
        if isinstance(kind, tuple):
            kind = {"type": "bytes", "logicalType": "decimal", "precision": kind[1], "scale": kind[2]}
        fields.append({"name": name, "type": ["null", kind], "default": None})
    return json.dumps({"type": "record", "name": "reading", "fields": fields})


PIPELINE = """return pipeline "sensors" {
  rules = "rules", storage = delta { root = "lake" }, commit = { every = "200ms" }, time_zone = "Europe/London",
  sources = { source "bronze.reading" { files { path = "landing/*.jsonl" }, json { schema = "schemas/reading.avsc" }, into = none } },
}"""

RULES = {
    "silver": """
local function twice(x) return x * 2 end
return stream "silver.reading" {
  from  = "bronze.reading",
  where = function(e) return e.kind ~= "ping" end,
  time  = { field = "seen", out_of_order = "10s" },
  dedup = { by = { "device", "seq" }, within = "2d" },
  expectations = {
    expect "has a device"    { not_null "device" },
    expect "temperature"     { between("temp", -60, 60.5), function(e) return e.temp == nil or e.temp * 10 ~= 123.45 end },
    expect "known model"     { one_of("model", { "A", "B", "Ünï", "" }), on_violation = "drop" },
    expect "serial shape"    { matches("serial", [[^[A-F0-9]{4}-\\d+$]]), on_violation = "warn" },
    expect "low before high" { function(e) return e.hi >= e.lo end },
    expect "sound"           { function(e) return e.ok or e.ratio ~= nil end, because = "a broken one says nothing" },
  },
  columns = {
    kelvin = "decimal(12,3)", span = "int64", parity = "int8", half = "int64", local_day = "date", hr = "int32", slot = "timestamp",
    label = "string", pct = "double", big = "decimal(38,4)", third = "decimal(20,6)", age = "int64", flag = "bool", parts = "list<string>",
  },
  map = function(e, out)
    if e.temp ~= nil then
      out.kelvin = e.temp + 273.15
      out.third = e.temp / 3
    end
    out.span = e.hi - e.lo
    if e.seq ~= nil then
      out.parity = e.seq % 2
      out.half = idiv(e.seq, 2)
    end
    out.local_day, out.hr = date(e.seen), hour(e.seen)
    out.slot = trunc(e.seen, "15m")
    out.label = (e.model or "?") .. "/" .. tostring(e.seq)
    out.pct = e.ratio and e.ratio * 100
    out.big = e.huge and twice(e.huge)
    out.flag = not e.ok
    out.parts = { e.model, e.kind, n = 2 }
  end,
  drop = { "huge", "kind" },
}""",
    "london": """
return stream "silver.warm" {
  from  = "silver.reading",
  where = function(e) return e.kelvin > 280 end,
  keep  = { "device", "model", "temp", "hr", "span", "pct" },
  columns = { temp = "decimal(12,2)", grade = "string" },
  map = function(e, out)
    out.grade = e.temp >= 20 and "hot" or "mild"
  end,
  ensures = { expect "hot is early" { function(e) return e.grade == "mild" or e.hr < 2 or e.hr > 22 end } },
}""",
    "quarter": """
return model "gold.quarter" {
  from = "silver.reading", by = { "model", "hr" },
  window = tumbling { size = "15m", allowed_lateness = "5m", late = "quarantine.late_reading" },
  measures = {
    rows = count(), odd = count { where = function(e) return e.parity == 1 end }, span = sum "half", kelvin = sum "kelvin", mean = avg "temp", mean_seq = avg "seq",
    first_label = min "label", last_label = max "label", devices = distinct "device", pct = sum "pct", low = min "pct", high = max "pct", days = distinct "born",
    biggest = max "big", weighted = sum(function(e) return e.temp and e.parity and e.temp * e.parity end, "decimal(18,3)"), latest = max "seen", oks = count { where = function(e) return e.ok end },
  },
  derive = { { spread = function(m) return m.high - m.low end, type = "double" }, { per_row = function(m) return m.kelvin / m.rows end, type = "decimal(14,4)" },
             { per_odd = function(m) return m.kelvin / m.odd end, type = "decimal(14,4)" } },
}""",
    "hop": """
return model "gold.hop" {
  from = "silver.reading", where = function(e) return e.model ~= "B" end, by = { "device" },
  window = hopping { size = "30m", every = "10m", allowed_lateness = "1m" },
  measures = { rows = count(), half = sum "half", top = max "temp", models = distinct "model" },
}""",
    "warm": """
return model "gold.warm" { from = "silver.warm", by = { "grade" }, window = tumbling "1h", measures = { rows = count(), degrees = sum "temp" } }""",
}

HALF_EVEN = """CREATE MACRO half_even(n, d) AS
  (n::HUGEINT // d::HUGEINT) + CASE WHEN 2 * abs(n::HUGEINT % d::HUGEINT) > abs(d::HUGEINT)
      OR (2 * abs(n::HUGEINT % d::HUGEINT) = abs(d::HUGEINT) AND (n::HUGEINT // d::HUGEINT) % 2 <> 0) THEN sign(n) * sign(d) ELSE 0 END"""

SQL = """
CREATE TABLE timed AS SELECT *, epoch_us(seen) AS us, max(seen) OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) - INTERVAL 10 SECOND AS wm FROM bronze;
-- a row without a time is refused as it enters, before anything judges it
CREATE TABLE judged AS SELECT *, CASE WHEN seen IS NULL THEN ['time'] ELSE list_filter([
    CASE WHEN device IS NULL THEN 'has a device' END,
    CASE WHEN NOT (temp BETWEEN -60 AND 60.5) OR temp = 12.345 THEN 'temperature' END,
    CASE WHEN model NOT IN ('A', 'B', 'Ünï', '') THEN 'known model' END,
    CASE WHEN NOT regexp_full_match(serial, '[A-F0-9]{4}-[0-9]+') THEN 'serial shape' END,
    CASE WHEN NOT coalesce(hi >= lo, false) THEN 'low before high' END,
    CASE WHEN NOT (coalesce(ok, false) OR ratio IS NOT NULL) THEN 'sound' END], lambda x: x IS NOT NULL) END AS names
  FROM timed WHERE (kind IS DISTINCT FROM 'ping' OR seen IS NULL);
-- the first of those that pass; all repeats lie within two days. A null key is no duplicate, and what map refuses is forgotten.
CREATE TABLE passed AS SELECT *, hi::HUGEINT - lo > 9223372036854775807 OR abs(huge::DOUBLE) >= 5e33 AND abs(huge) > 4999999999999999999999999999999999.9999 AS refused
  FROM judged WHERE seen IS NOT NULL AND NOT list_has_any(names, ['has a device', 'temperature', 'known model', 'low before high', 'sound']);
CREATE TABLE ranked AS SELECT *, refused IS NOT TRUE AND device IS NOT NULL AND seq IS NOT NULL
    AND row_number() OVER (PARTITION BY device, seq, coalesce(refused, false) ORDER BY n) > 1 AS again,
    refused AND device IS NOT NULL AND seq IS NOT NULL
    AND coalesce(min(CASE WHEN refused IS NOT TRUE THEN n END) OVER (PARTITION BY device, seq), 1e18) < n AS again_refused
  FROM passed;
CREATE TABLE silver AS SELECT n, wm, us, device, seq, model, serial, lo, hi, ratio, temp, ok, born, seen,
    (temp + 273.15)::DECIMAL(12,3) AS kelvin, (hi - lo)::BIGINT AS span, ((seq % 2 + 2) % 2)::TINYINT AS parity, (CASE WHEN seq < 0 THEN -((-(seq::HUGEINT)) // 2) ELSE seq // 2 END)::BIGINT AS half,
    (seen AT TIME ZONE 'UTC' AT TIME ZONE 'Europe/London')::DATE AS local_day, hour(seen AT TIME ZONE 'UTC' AT TIME ZONE 'Europe/London')::INT AS hr,
    time_bucket(INTERVAL 15 MINUTE, seen) AS slot, coalesce(model, '?') || '/' || coalesce(seq::VARCHAR, 'nil') AS label, ratio * 100 AS pct,
    huge2 AS big, half_even((temp * 1000)::BIGINT::HUGEINT * 1000, 3) AS third, NULL::BIGINT AS age, NOT coalesce(ok, false) AS flag, [model, kind] AS parts
  FROM (SELECT *, (huge * 2)::DECIMAL(38,4) AS huge2 FROM ranked WHERE NOT again AND refused IS NOT TRUE);
CREATE TABLE quarantine AS SELECT n, list_sort(names) AS names FROM judged WHERE seen IS NULL OR list_has_any(names, ['has a device', 'temperature', 'low before high', 'sound'])
  UNION ALL SELECT n, list_sort(list_append(names, 'map')) FROM ranked WHERE refused AND NOT again_refused;
CREATE TABLE warm AS SELECT *, CASE WHEN temp >= 20 THEN 'hot' ELSE 'mild' END AS grade,
    (half_even((temp * 1000)::BIGINT, 10) * 0.01::DECIMAL(3,2))::DECIMAL(12,2) AS cut FROM silver WHERE kelvin > 280;
"""


def make(folder, rows, seed):
    r = random.Random(seed)
    folder.mkdir(parents=True)
    now, made, lines, kept = START, 0, [], []

    def maybe(value, odds=0.06):
        return None if r.random() < odds else value

    def event(seen):
        lo = r.choice([0, 1, -5, r.randrange(-2**40, 2**40), -MAX - 1, MAX])
        return {
            "device": maybe(f"d{r.randrange(12)}", 0.03), "seq": maybe(made * r.choice([1, 1, -1]) + r.choice([0, 2**53]), 0.04), "model": maybe(r.choice(["A", "B", "Ünï", "", "C"] if r.random() < 0.3 else "AAB")),
            "kind": maybe(r.choice(["ping", "read", "read", "read", "ключ"]), 0.2), "serial": maybe(f"{r.randrange(16**4):04X}-{r.randrange(99)}" if r.random() < 0.9 else r.choice(["", "zz", "ABCD-", "ABCD-1\n"])),
            "lo": maybe(lo), "hi": maybe(lo + r.randrange(1000) if lo < MAX - 1000 and r.random() < 0.97 else r.choice([MAX, 0, -MAX - 1])),
            "ratio": maybe(r.choice([0.0, -0.0, 0.1, 1e-300, 5e-324, r.random(), -r.random() * 1e6]), 0.1), "temp": maybe(r.choice([12.345, 60.5, 60.501, -60, -60.001, 6.85, 6.851] + [r.randrange(-20000, 45000) / 1000] * 20)),
            "huge": maybe(r.choice(["0.0001", "-9999999999999999999999999999999999.9999", "4999999999999999999999999999999999.9999", "5000000000000000000000000000000000.0000"] if r.random() < 0.05 else ["1234567890123456789012.5", "-7.0001", "0"]), 0.3),
            "ok": maybe(r.random() < 0.8), "born": maybe(r.randrange(-3, 20000)), "seen": maybe(seen, 0.01),
        }

    while made < rows:
        made += 1
        roll = r.random()
        now += r.randrange(2 * max(1, 18_000 * SECOND // rows))  # five hours, whatever the number of rows
        seen = now - (r.randrange(10 * SECOND) if roll < 0.4 else r.randrange(900 * SECOND) if roll < 0.45 else 0)
        each = event(seen)
        kept.append(each)
        lines.append(each)
        if roll > 0.97 and len(kept) > 100:
            again = dict(r.choice(kept[-2000:]))  # also in another file
            if r.random() < 0.3:
                again["hi"] = again["lo"]
            lines.append(again)
        if roll < 0.003:  # around the exact bound of the window that is open: 10 s out of order, 5 min late
            end = (now // (900 * SECOND) + 1) * 900 * SECOND
            plain = {**event(0), "device": "d1", "model": "A", "kind": "read", "lo": 0, "hi": 1, "temp": 20, "ok": True, "ratio": 1, "huge": None}
            for offset in (-1, 310 * SECOND - 1, -1, -900 * SECOND, 310 * SECOND, -1, 0):
                made += 1
                lines.append({**plain, "seq": 10**15 + made, "seen": end + offset})
            now = end + 310 * SECOND
    cuts = sorted(r.sample(range(len(lines)), 6))
    for k, (start, stop) in enumerate(zip([0, *cuts], [*cuts, len(lines)])):
        texts = []
        for each in lines[start:stop]:
            each = {name: value for name, value in each.items() if value is not None or r.random() < 0.5}
            texts.append(json.dumps(each, ensure_ascii=r.random() < 0.5).encode())
        end = b"\r\n" if k % 2 else b"\n"
        (folder / f"r{k}.jsonl").write_bytes(end.join(texts) + (end if k % 3 else b""))
        (folder / f"r{k}e.jsonl").write_bytes(b"" if k % 2 else b"\r\n")
    return lines


def same(got, wanted, what, floats=()):
    """Rows as multisets: doubles within 1e-9, all else exact."""
    def key(row):
        doubles = [-1e308 if row[k] is None else row[k] for k in sorted(floats)]
        return repr([None if k in floats else value for k, value in enumerate(row)]), doubles
    got, wanted = sorted(map(tuple, got), key=key), sorted(map(tuple, wanted), key=key)
    assert len(got) == len(wanted), f"{what}: {len(got)} rows, not {len(wanted)}"
    for a, b in zip(got, wanted):
        for k, (x, y) in enumerate(zip(a, b)):
            if k in floats and x is not None and y is not None:
                assert x == pytest.approx(y, rel=1e-9, abs=1e-300), f"{what}: {a} is not {b}"
            else:
                assert x == y, f"{what}: column {k}: {a} is not {b}"


WINDOWS = """
CREATE TABLE windowed AS SELECT *, time_bucket(INTERVAL 15 MINUTE, seen) AS ws FROM silver;
CREATE TABLE late AS SELECT * FROM windowed WHERE wm IS NOT NULL AND ws + INTERVAL 20 MINUTE <= wm;
CREATE TABLE quarter AS SELECT model, hr, ws, ws + INTERVAL 15 MINUTE AS we, count(*) AS rows, count(*) FILTER (WHERE parity = 1) AS odd, sum(half::HUGEINT) AS span,
    sum(kelvin)::DECIMAL(38,3) AS kelvin, half_even(sum((temp * 1000)::BIGINT)::HUGEINT * 1000, nullif(count(temp), 0)) AS mean, half_even(sum(seq::HUGEINT) * 1000000, nullif(count(seq), 0)) AS mean_seq,
    arg_min(label, encode(label)) AS first_label, arg_max(label, encode(label)) AS last_label, count(DISTINCT device) AS devices, sum(pct ORDER BY n) AS pct, min(pct) AS low, max(pct) AS high, count(DISTINCT born) AS days,
    max(big) AS biggest, sum((temp * parity)::DECIMAL(18,3))::DECIMAL(38,3) AS weighted, max(seen) AS latest, count(*) FILTER (WHERE ok) AS oks
  FROM windowed WHERE n NOT IN (SELECT n FROM late) GROUP BY ALL;
CREATE TABLE hop AS SELECT device, ws, ws + INTERVAL 30 MINUTE AS we, count(*) AS rows, sum(half::HUGEINT) AS half, max(temp) AS top, count(DISTINCT model) AS models FROM (
    SELECT s.*, time_bucket(INTERVAL 10 MINUTE, seen) - (k * INTERVAL 10 MINUTE) AS ws FROM silver s, range(3) t(k) WHERE model IS DISTINCT FROM 'B')
  WHERE wm IS NULL OR ws + INTERVAL 31 MINUTE > wm GROUP BY ALL;
CREATE TABLE warmed AS SELECT grade, ws, count(*) AS rows, sum(cut)::DECIMAL(38,2) AS degrees FROM (SELECT *, time_bucket(INTERVAL 1 HOUR, seen) AS ws FROM warm
    WHERE grade = 'mild' OR hr < 2 OR hr > 22) WHERE wm IS NULL OR ws + INTERVAL 1 HOUR > wm GROUP BY ALL;
"""


def test_a_strangers_rules_equal_duckdb(project):
    project.write("schemas/reading.avsc", avsc())
    project.write("pipelines/p.lua", PIPELINE)
    for name, text in RULES.items():
        project.write(f"rules/{name}.lua", text)
    lines = make(project.root / "landing", ROWS, seed=11)
    summary = project.run("pipelines/p.lua")
    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    db.execute(HALF_EVEN)
    schema = {"device": "VARCHAR", "seq": "BIGINT", "model": "VARCHAR", "kind": "VARCHAR", "serial": "VARCHAR", "lo": "BIGINT", "hi": "BIGINT", "ratio": "DOUBLE", "temp": "VARCHAR",
              "huge": "VARCHAR", "ok": "BOOLEAN", "born": "INTEGER", "seen": "BIGINT"}
    plain = project.root / "plain.json"
    with plain.open("w") as file:
        for n, line in enumerate(lines):
            file.write(json.dumps({**line, "n": n, "temp": None if line["temp"] is None else str(line["temp"])}) + "\n")
    columns = ", ".join(f"{name}: '{kind}'" for name, kind in {**schema, "n": "BIGINT"}.items())
    db.execute(f"""CREATE TABLE bronze AS SELECT * REPLACE (temp::DECIMAL(9,3) AS temp, huge::DECIMAL(38,4) AS huge, DATE '1970-01-01' + born AS born, make_timestamp(seen) AS seen)
        FROM read_json('{plain}', columns = {{{columns}}}, format = 'newline_delimited')""")
    assert db.execute("SELECT count(*) FROM bronze").fetchall() == [(len(lines),)]
    db.execute(SQL)
    db.execute(WINDOWS)

    def table(name, *names):
        read = lake.by_deltalake(project.root / "lake" / name)
        db.register("read", read)
        rows = db.execute(f"SELECT {', '.join(names)} FROM read").fetchall()
        db.unregister("read")
        return rows

    whole = "device seq model serial lo hi ratio temp ok born seen kelvin span parity half local_day hr slot label pct big third age flag parts".split()
    at_utc = {"seen": "seen AT TIME ZONE 'UTC' AS seen", "slot": "slot AT TIME ZONE 'UTC' AS slot"}
    assert lake.by_deltalake(project.root / "lake/silver/reading").schema.names == whole
    same(table("silver/reading", *[at_utc.get(name, name) for name in whole]),
         db.execute(f"SELECT {', '.join(whole).replace('third', '(third * 0.000001::DECIMAL(7,6))::DECIMAL(20,6)')} FROM silver").fetchall(), "silver", {6, 19})
    counts = summary["datasets"]["silver.reading"]

    def one(query):
        return db.execute(query).fetchall()[0][0]

    assert counts["in"] == len(lines) and counts["out"] == one("SELECT count(*) FROM silver")
    assert counts["duplicates"] == one("SELECT count(*) FROM ranked WHERE again OR again_refused"), counts
    assert counts["rejected"] == dict(db.execute("SELECT name, count(*) FROM (SELECT unnest(names) AS name FROM judged) WHERE name <> 'serial shape' GROUP BY 1 "
                                                 "UNION ALL SELECT 'map', count(*) FROM ranked WHERE refused AND NOT again_refused").fetchall())
    assert counts["warned"] == {"serial shape": one("SELECT count(*) FROM judged WHERE list_contains(names, 'serial shape')")}
    assert counts["dropped"] == one("SELECT count(*) FROM judged WHERE seen IS NOT NULL AND list_contains(names, 'known model') AND NOT list_has_any(names, ['has a device', 'temperature', 'low before high', 'sound'])")
    q = lake.by_deltalake(project.root / "lake/quarantine/silver/reading").to_pylist()
    wanted = db.execute("SELECT b.device, b.seq, b.kind, b.huge, b.seen, q.names FROM quarantine q JOIN bronze b USING (n)").fetchall()
    same([(x["device"], x["seq"], x["kind"], x["huge"], x["seen"] and x["seen"].replace(tzinfo=None), sorted(reason["expectation"] for reason in x["_reasons"])) for x in q], wanted, "quarantine")
    assert summary["datasets"]["gold.quarter"]["late"] == one("SELECT count(*) FROM late") > 0
    same(table("quarantine/late_reading", "label"), db.execute("SELECT label FROM late").fetchall(), "late")
    quarter = ("model hr window_start window_end rows odd span kelvin mean mean_seq first_label last_label devices pct low high days biggest weighted latest oks spread per_row per_odd").split()
    got = [list(row) for row in table("gold/quarter", *[f"{c} AT TIME ZONE 'UTC' AS {c}" if c in ("window_start", "window_end", "latest") else c for c in quarter])]
    expected = []
    for row in db.execute("SELECT *, high - low, half_even(half_even((kelvin * 1000)::HUGEINT * 1000, rows), 100), half_even(half_even((kelvin * 1000)::HUGEINT * 1000, nullif(odd, 0)), 100) FROM quarter").fetchall():
        row = list(row)
        for k, places in ((8, 6), (9, 6), (22, 4), (23, 4)):
            row[k] = None if row[k] is None else decimal.Decimal(int(row[k])).scaleb(-places)
        expected.append(row)
    same(got, expected, "gold.quarter", {13, 14, 15, 21})
    same(table("gold/hop", "device", "window_start AT TIME ZONE 'UTC'", "window_end AT TIME ZONE 'UTC'", "rows", "half", "top", "models"), db.execute("SELECT * FROM hop").fetchall(), "gold.hop")
    same(table("silver/warm", "device", "model", "temp", "hr", "span", "pct", "grade"),
         db.execute("SELECT device, model, cut, hr, span, pct, grade FROM warm WHERE grade = 'mild' OR hr < 2 OR hr > 22").fetchall(), "silver.warm", {5})
    same(table("gold/warm", "grade", "window_start AT TIME ZONE 'UTC'", "rows", "degrees"), db.execute("SELECT * FROM warmed").fetchall(), "gold.warm")
