"""weir state: what a pipeline keeps, seen while it runs and after, typed as declared, judged by DuckDB and by models in plain Python."""

import collections
import datetime
import decimal
import json
import random

import duckdb
import pytest

from language import World
from live import Live, wait_until

ROW = {"id": "long!", "k": "string!", "v": "long", "d": "decimal(12,2)", "at": "timestamp!"}
START = datetime.datetime(2026, 1, 5, 10, tzinfo=datetime.timezone.utc)
OPTIONS = ' commit = { every = "20ms" }, ledger = { keep = "1h", snapshot_every = "50ms" },'
STREAM = 'return stream "silver.row" { from = "bronze.row", time = { field = "at", out_of_order = "0s" }, dedup = { by = { "id", "k" }, within = "30d" }, into = none }'
MODELS = [
    'return model "gold.total" { from = "silver.row", by = { "k" }, measures = { n = count(), total = sum "v", most = max "d", ids = distinct "id" }, into = none }',
    'return model "gold.minute" { from = "silver.row", by = { "k" }, window = tumbling "1d", measures = { n = count(), spent = sum "d" }, into = none }',
    'return model "gold.hop" { from = "silver.row", by = { "k" }, window = hopping { size = "40d", every = "20d" }, measures = { n = count() }, into = none }',
    'return model "gold.session" { from = "silver.row", by = { "k" }, window = session { gap = "5d" }, measures = { n = count() }, into = none }',
    'return model "gold.sevens" { from = "silver.row", by = { "k" }, window = count(7), measures = { n = count(), ids = distinct "id" }, into = none }',
    'return model "gold.best" { from = "silver.row", top = { n = 2, by = { "-v", "id" }, per = { "k" } }, into = none }',
]
RULE = """return rule "fraud.seen" {
  on = "silver.row", key = "k", order = "arrival", into = none, emits = { ["gold.none"] = { k = "string" } },
  state = {
    last = value { v = "int64", d = "decimal(12,2)" }, when = value "timestamp", seen = counter(),
    recent = ring(3, "decimal(12,2)"), few = list(100, { id = "int64", odd = "bool" }), by_v = map("int64", "double"), ids = set "int64", about = sketch "int64",
  },
  process = function(e, s, p, emit)
    s.last:set(e.v, e.d)
    s.when:set(e.at)
    s.seen:add()
    s.recent:push(e.d)
    if s.few:count() < 5 then s.few:push(e.id, e.id % 2 == 1) end
    if e.v ~= nil then s.by_v:set(e.v, 0.5) end
    s.ids:add(e.id)
    s.about:add(e.id)
    s:timer("later", e.at + days(3650))
  end,
  timers = { later = function(key, s, p, emit, at) end },
}
"""
WAITS = """return rule "fraud.waits" {
  on = "silver.row", key = { "k", "v" }, into = none, emits = { ["gold.nothing"] = { k = "string" } }, state = { n = counter() },
  process = function(e, s, p, emit) s.n:add() end,
}
"""
JOIN = """return stream "silver.pair" {
  from = "silver.row", join = { other = interval_join "silver.same" { on = "k", between = { "0s", "1d" } } }, into = none }
"""
SAME = 'return stream "silver.same" { from = "bronze.row", time = { field = "at", out_of_order = "0s" }, into = none }'


def rows_of(count, seed, first=0):
    rng = random.Random(seed)
    return [{"id": first + n, "k": rng.choice(["a", "b", 'odd ", {key', "ü"]), "v": None if n % 11 == 0 else rng.randrange(-3, 4),
             "d": None if n % 13 == 0 else f"{rng.randrange(1, 99999) / 100:.2f}",
             "at": (START + datetime.timedelta(seconds=first + n)).isoformat().replace("+00:00", "Z")} for n in range(count)]


class Asked(Live):
    """Its state asked for by the command."""

    def wait_for_rows(self, rows):
        wait_until(lambda: self.entries("gold.total") and sum(value["n"] for _, value in self.entries("gold.total")) == rows)

    def lines(self, *arguments):
        done = self.project.weir("state", *arguments)
        assert done.code == 0, done
        return [json.loads(line, parse_float=decimal.Decimal) for line in done.out.splitlines()]

    def entries(self, name):
        return [(entry["key"], entry["value"]) for entry in self.lines("export", name)]


@pytest.fixture
def live(project):
    world = World(project, ROW, [STREAM, *MODELS, RULE, WAITS, JOIN, SAME], rows_of(500, 1), options=OPTIONS)
    running = Asked(world)
    try:
        running.wait_for_rows(500)
        yield running
    finally:
        if running.process.poll() is None:
            running.stop()


def table(rows):
    connection = duckdb.connect()
    connection.execute("create table r (id bigint, k varchar, v bigint, d decimal(12,2), t timestamptz)")
    connection.executemany("insert into r values (?, ?, ?, ?, ?)", [[row["id"], row["k"], row["v"], row["d"], row["at"]] for row in rows])
    return connection


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def test_groups_windows_sessions_and_tops_are_what_duckdb_counts(live):
    rows = rows_of(500, 1)
    connection = table(rows)
    asked = connection.execute("select k, count(*), sum(v)::bigint, max(d), count(distinct id) from r group by k").fetchall()
    assert sorted((key["k"], value["n"], value["total"], value["most"], value["ids"]) for key, value in live.entries("gold.total")) == sorted(asked)
    asked = connection.execute("select k, count(*), sum(d) from r group by k").fetchall()
    found = live.entries("gold.minute")
    assert sorted((key["k"], value["n"], value["spent"]) for key, value in found) == sorted(asked)
    assert {(key["window_start"], key["window_end"]) for key, _ in found} == {("2026-01-05T00:00:00.000000Z", "2026-01-06T00:00:00.000000Z")}
    assert sorted((key["k"], value["n"]) for key, value in live.entries("gold.hop")) == sorted(row[:2] for row in asked)
    asked = connection.execute("select k, count(*), min(t), max(t) + interval 5 day from r group by k").fetchall()
    found = [(key["k"], value["n"], moment(key["window_start"]), moment(key["window_end"])) for key, value in live.entries("gold.session")]
    assert sorted(found) == sorted(asked)
    asked = connection.execute("""select k, n % 7, arg_min(t, id), max(t) + interval 1 microsecond from (select *, row_number() over (partition by k order by id) - 1 i,
        count(*) over (partition by k) n from r) where i // 7 = n // 7 group by k, n""").fetchall()
    found = [(key["k"], value["n"], moment(key["window_start"]), moment(key["window_end"])) for key, value in live.entries("gold.sevens")]
    assert sorted(found) == sorted(asked) and all(value["n"] == value["ids"] for _, value in live.entries("gold.sevens"))
    asked = connection.execute("select k, id, v from r qualify row_number() over (partition by k order by v desc nulls last, id) <= 2 order by k, v desc, id").fetchall()
    found = live.entries("gold.best")
    assert sorted((key["k"], row["id"], row["v"]) for key, value in found for row in value["rows"]) == sorted(asked)


def test_cells_of_a_rule_are_what_a_model_says_and_typed_as_declared(live):
    by_key = collections.defaultdict(list)
    for row in rows_of(500, 1):
        by_key[row["k"]].append(row)
    found = {key["k"]: value for key, value in live.entries("fraud.seen/state")}
    assert found.keys() == by_key.keys()
    for key, rows in by_key.items():
        value, last = found[key], rows[-1]
        amounts = [decimal.Decimal(row["d"]) if row["d"] else None for row in rows]
        assert value["last"] == {"v": last["v"], "d": amounts[-1]}
        assert moment(value["when"]) == moment(last["at"]) == moment(value["_changed"])
        assert value["seen"] == len(rows)
        assert [(moment(entry["_time"]), entry["value"]) for entry in value["recent"]] == [
            (moment(row["at"]), amount) for row, amount in zip(rows[-3:], amounts[-3:])]
        assert [(entry["id"], entry["odd"]) for entry in value["few"]] == [(row["id"], row["id"] % 2 == 1) for row in rows[:5]]
        assert {entry["key"]: entry["value"] for entry in value["by_v"]} == {row["v"]: decimal.Decimal("0.5") for row in rows if row["v"] is not None}
        assert sorted(value["ids"]) == sorted(row["id"] for row in rows)
        assert abs(value["about"]["approx_distinct"] - len(rows)) <= len(rows) * 0.05
    timers = {key["k"]: (key["_timer"], moment(value["at"]), value["clock"]) for key, value in live.entries("fraud.seen/timers")}
    assert timers == {key: ("later", moment(rows[-1]["at"]) + datetime.timedelta(days=3650), False) for key, rows in by_key.items()}


def test_rows_that_wait_and_rows_of_joins_are_shown_whole(live):
    last = rows_of(500, 1)[-1]
    [(_, waiting)] = live.entries("fraud.waits/rows")  # its time is the watermark's own
    assert (waiting["id"], waiting["k"], moment(waiting["_time"])) == (last["id"], last["k"], moment(last["at"]))
    left = live.entries("silver.pair/left")
    assert {key["k"] for key, _ in left} <= {row["k"] for row in rows_of(500, 1)} and all(isinstance(value["_met"], bool) for _, value in left)
    day = datetime.timedelta(days=1)
    assert all(moment(value["_until"]) == moment(value["_time"]) + day for _, value in left) and len(left) > 0


def test_a_key_is_found_by_its_columns_also_where_only_its_fingerprint_is_kept(live):
    rows = rows_of(500, 1)
    odd = 'odd ", {key'
    done = live.project.weir("state", "get", "gold.total", odd)
    assert done.code == 0 and f"n                    {sum(row['k'] == odd for row in rows)}\n" in done.out, done
    row = rows[7]
    [seen] = live.lines("get", "silver.row", str(row["id"]), row["k"], "--json")
    assert seen["state"] == "silver.row/dedup" and moment(seen["value"]["time"]) == moment(row["at"])
    assert len(live.entries("silver.row")) == 500
    none = live.project.weir("state", "get", "silver.row", "500", "a")
    assert none.code == 1 and "keeps nothing under that key" in none.err
    [waits] = [entry for entry in live.lines("get", "fraud.waits/state", row["k"], str(row["v"]), "--json")]
    assert waits["key"] == {"k": row["k"], "v": row["v"]}
    assert waits["value"]["n"] == sum((other["k"], other["v"]) == (row["k"], row["v"]) for other in rows[:-1])


def test_epochs_are_told_apart_and_a_stopped_pipeline_is_read_alike(live):
    first = live.lines("ls", "--json")
    epoch = first[0]["epoch"]
    before = dict((key["k"], value) for key, value in live.entries("gold.total"))
    live.world.feed([{**rows_of(1, 9, 500)[0], "k": "a"}, {**rows_of(1, 9, 501)[0], "k": "new"}], "b.jsonl")
    live.wait_for_rows(502)
    now = live.lines("ls", "--json")[0]["epoch"]
    assert now > epoch
    changes = {change["key"]["k"]: change for change in live.lines("diff", str(epoch), str(now), "gold.total", "--json")}
    assert changes.keys() == {"a", "new"}
    assert (changes["a"]["change"], changes["a"]["old"]) == ("changed", before["a"]) and changes["a"]["new"]["n"] == before["a"]["n"] + 1
    assert (changes["new"]["change"], changes["new"]["old"], changes["new"]["new"]["n"]) == ("added", None, 1)
    back = live.lines("diff", str(now), str(epoch), "gold.total", "--json")
    assert {(change["key"]["k"], change["change"]) for change in back} == {("a", "changed"), ("new", "removed")}
    assert dict((key["k"], value) for key, value in ((entry["key"], entry["value"]) for entry in live.lines("export", "gold.total", "--epoch", str(epoch)))) == before
    running = live.entries("fraud.seen")
    live.stop()
    assert live.entries("fraud.seen") == running
    keys = {entry["state"]: entry["keys"] for entry in live.lines("ls", "--json")}
    assert keys["gold.total/window"] == 5 and keys["silver.row/dedup"] == 502 and keys["fraud.seen/timers"] == 5


def test_what_is_not_there_is_told_with_what_is(live):
    gone = live.project.weir("state", "get", "gold.totl", "a")
    assert gone.code == 1 and "gold.totl keeps no state" in gone.err and "gold.total/window" in gone.err
    far = live.project.weir("state", "ls", "--epoch", "99999999")
    assert far.code == 3 and "the ledger holds epochs 1 to" in far.err
    assert live.project.weir("state", "get").code == 2
    assert live.project.weir("state", "diff", "1").code == 2
    assert live.project.weir("state", "grow").code == 2
    limited = live.project.weir("state", "export", "silver.row", "--limit", "3")
    assert limited.code == 0 and len(limited.out.splitlines()) == 3 and "there is more" in limited.err


EVERY_CELL = [
    'return stream "silver.row" { from = "bronze.row", time = { field = "at", out_of_order = "1h" }, into = none, dedup = { by = "id", within = "1d" } }',
    'return rule "r.rule" { on = "silver.row", key = "card", state = { n = counter(), last = value "string", ring = ring(3, "int32"), list = list(3, "string"),\n'
    '  map = map("string", "int32"), set = set "string", sketch = sketch "string" }, emits = { ["gold.rule"] = { card = "string" } },\n'
    '  process = function(e, s) s.n:add() s.ring:push(e.n) s.list:push(e.card) s.map:set(e.card, e.n) s.set:add(e.card) s.sketch:add(e.card) s.last:set(e.card)\n'
    '    s:timer("t", e.at + days(1)) end, timers = { t = function() end } }',
    'return pattern "r.pattern" { on = "silver.row", key = "card", within = "1d", emits = { ["gold.pattern"] = { card = "string" } },\n'
    '  sequence = { step("a", "+", { where = function(e) return e.n < 3 end }), step("b", { absent = true, where = function(e, m) return e.n > m.a.n end }) },\n'
    '  emit = function(m, p, emit) emit("gold.pattern", { card = m.key }) end }',
    'return decision "silver.verdict" { from = "silver.row", dedup = { by = "id", within = "2d" }, columns = { verdict = "string" }, into = none,\n'
    '  { n = "<= 2", verdict = "low" }, { verdict = "high" } }',
    'return model "gold.sliding" { from = "silver.row", by = "card", window = sliding "1d", measures = { s = sum "n", top = max "n" }, into = none }',
    'return model "gold.over" { from = "silver.row", by = "card", measures = { week = sum("n", { over = "7d" }), hour = count { over = "30h" } }, into = none }',
    'return model "gold.distinct" { from = "silver.row", by = "card", measures = { d = distinct "id", all = collect "n" }, into = none }',
    'return model "gold.every" { from = "silver.row", by = "card", measures = { n = count() }, emit = every "1h", into = none }',
    'return model "gold.hops" { from = "silver.row", by = "card", window = hopping { size = "2d", every = "1d" }, measures = { d = distinct "id", m = max "n" }, into = none }',
    'return model "gold.sessions" { from = "silver.row", by = "card", window = session { gap = "5h" }, measures = { d = distinct "id" }, into = none }',
    'return model "gold.counted" { from = "silver.row", by = "card", window = count(9), measures = { n = sum "n" }, into = none }',
    'return model "gold.days" { from = "silver.row", by = "card", window = calendar { "day" }, measures = { n = count() },\n'
    '  top = { n = 2, by = { "-n", "card" } }, into = none }',
    'return model "gold.top" { from = "silver.row", top = { n = 2, by = "-n", per = "card" }, into = none }',
    'return quality "silver.row" { expect_over "fresh" { max_lag "2m" } }',
]


def test_every_cell_is_readable_by_people(project):
    """Of each declaration that keeps state: `ls` says what it is, `get` shows rows of it with columns, typed."""
    columns = {"id": "int!", "card": "string!", "n": "int!", "at": "timestamp!"}
    rows = [{"id": n, "card": f"c{n % 2}", "n": n, "at": f"2026-01-05T10:{n:02}:00Z"} for n in range(8)]
    world = World(project, columns, EVERY_CELL, rows)
    running = Asked(world)
    try:
        wait_until(lambda: sum(value["n"] for _, value in running.entries("gold.every/window")) == len(rows))
        cells = running.lines("ls", "--json")
        entries = running.lines("export")
    finally:
        running.stop()
    assert [cell["state"] for cell in cells if cell["what"] is None] == []
    shown = {(entry["state"], json.dumps(entry["key"])): entry["value"] for entry in entries}
    assert {cell["state"] for cell in cells if cell["keys"] > 0} - {state for state, _ in shown} == set()
    assert {json.loads(key)["value"] for state, key in shown if state == "gold.distinct/distinct" and json.loads(key)["_group"] == 1} == {0, 2, 4, 6}
    week = [value for (state, _), value in shown.items() if state == "gold.over/over 604800000000"]
    assert sorted((value["card"], value["n"]) for value in week) == sorted((row["card"], row["n"]) for row in rows)
    assert week[0]["_until"] == "2026-01-12T09:59:59.999999Z"
