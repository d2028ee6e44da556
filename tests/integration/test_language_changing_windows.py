"""Windows over rows that change: a database's table, whose rows move from window to window. DuckDB recounts the table as it is at the end."""

import datetime
import json
import random
import signal
import time

import pytest

import joins
from conftest import some
from language import D, World, assert_refused, at, moment, place
from test_language_ranks import ITEM, Shop, found, write_shop

MEASURES = 'rows = count(), total = sum "price", least = min "price", most = max "price", names = distinct "name"'
OPEN = 'time = { field = "at", out_of_order = "2h" }'


def model(name, window, more="", measures=MEASURES):
    return f'model "{name}" {{ from = "silver.item", {OPEN}, by = {{ "shop" }}, window = {window}, measures = {{ {measures} }}, {more} }}'


RULES = "return { " + ", ".join([
    model("gold.tumbling", 'tumbling "10m"'),
    model("gold.updated", 'tumbling "10m"', 'emit = "on_update"'),
    model("gold.hopping", 'hopping { size = "20m", every = "5m" }'),
    model("gold.running", 'cumulate { size = "30m", step = "10m" }', 'emit = "on_update"'),
    model("gold.day", 'calendar { "day", time_zone = "Asia/Kolkata" }'),
    f'model "gold.top" {{ from = "silver.item", {OPEN}, window = tumbling "10m", top = {{ n = 2, by = "-price", per = "shop", rank = "rank" }} }}',
    f'model "gold.topped" {{ from = "silver.item", {OPEN}, window = tumbling "10m", emit = "on_update", top = {{ n = 2, by = "-price", per = "shop", rank = "rank" }} }}',
]) + " }"
STARTS = {
    "gold.tumbling": "select *, time_bucket(interval 10 minute, ts) w, w + interval 10 minute e from t",
    "gold.hopping": "select t.*, w, w + interval 20 minute e from t, range(time_bucket(interval 5 minute, ts) - interval 15 minute, ts + interval 1 microsecond, interval 5 minute) r(w)",
    "gold.running": "select t.*, time_bucket(interval 30 minute, ts) w, e from t, "
                    "range(time_bucket(interval 10 minute, ts) + interval 10 minute, time_bucket(interval 30 minute, ts) + interval 30 minute + interval 1 microsecond, interval 10 minute) r(e)",
}
STARTS["gold.updated"] = STARTS["gold.tumbling"]


def table(shop):
    base = shop.table()
    base.execute("create table times (id bigint, ts timestamp)")
    for row in shop.rows.values():
        base.execute("insert into times values (?, ?)", [row["id"], row["at"]])
    base.execute("create table u as select t.*, ts from t join times using (id); drop table t; alter table u rename to t")
    return base


def shown(rows):
    return sorted((tuple(value.replace(tzinfo=None) if hasattr(value, "tzinfo") else value for value in row) for row in rows), key=str)


def judge(project, shop):
    base = table(shop)
    for name, sql in STARTS.items():
        wanted = base.execute(f"select shop, w, e, count(*), sum(price), min(price), max(price), count(distinct name) from ({sql}) group by shop, w, e").fetchall()
        assert shown(found(project, name, "shop", "window_start", "window_end", "rows", "total", "least", "most", "names")) == shown(wanted), name
    wanted = base.execute("select shop, count(*), sum(price) from t group by shop").fetchall()
    assert shown(found(project, "gold.day", "shop", "rows", "total")) == shown(wanted)
    wanted = base.execute("select shop, w, id, r from (select *, row_number() over (partition by shop, w order by price desc nulls last, id) r "
                          f"from ({STARTS['gold.tumbling']})) where r <= 2").fetchall()
    for name in ("gold.top", "gold.topped"):
        assert shown(found(project, name, "shop", "window_start", "id", "rank")) == shown(wanted), name


@pytest.mark.parametrize("seed", [1, 2])
def test_windows_hold_what_the_table_holds(project, seed):
    write_shop(project, RULES)
    shop = Shop(seed, ids=150)
    project.write("landing/a.jsonl", "".join(shop.changes(1500)))
    project.run("pipelines/p.lua")
    judge(project, shop)


def test_windows_of_a_table_outlive_kills(project):
    write_shop(project, RULES)
    shop = Shop(7, ids=300)
    for part in range(5):
        project.write(f"landing/{part}.jsonl", "".join(shop.changes(800)))
    draw = random.Random(5)
    for _ in range(4):
        process = project.start("run", "pipelines/p.lua", "--json", "--set", "ledger.snapshot_every=50ms")
        time.sleep(0.1 + draw.random() * 0.4)
        process.send_signal(signal.SIGKILL)
        process.wait()
    project.run("pipelines/p.lua")
    judge(project, shop)


@pytest.mark.parametrize("point", some(joins.POINTS, 2))
def test_a_kill_at_a_fault_point_changes_nothing(project, point):
    write_shop(project, RULES)
    project.write("rules/item.lua", ITEM.replace("key", "where = function(e) local x = 0 for i = 1, 15000 do x = x + i end return x > 0 end, key"))
    shop = Shop(11, ids=200)
    for part in range(20):  # many epochs on any machine
        project.write(f"landing/{part:02}.jsonl", "".join(shop.changes(120)))
    joins.kill(project, point)
    project.run("pipelines/p.lua")
    judge(project, shop)


SESSIONS = "return { " + ", ".join(
    model(f"gold.{name}", 'session "2m"', emit, 'rows = count(), total = sum "price", mean = avg "price"')
    for name, emit in [("closed", ""), ("updated", 'emit = "on_update"'), ("told", 'emit = every "30ms"')]) + ''',
  stream "silver.log" { from = "gold.updated", into = delta { mode = "append" } },
  model "gold.all" { from = "gold.updated", by = { "shop" }, measures = { sessions = count(), rows = sum "rows" } } }'''


def judge_sessions(project, shop):
    wanted, shops = [], {}
    for row in sorted(shop.rows.values(), key=lambda row: (str(row["shop"]), row["at"])):
        when = moment(row["at"][11:19])
        runs = shops.setdefault(row["shop"], [])
        if not runs or when > runs[-1][-1][0] + datetime.timedelta(minutes=2):
            runs.append([])
        runs[-1].append((when, row["price"] and D(row["price"])))
    for key, runs in shops.items():
        for run in runs:
            prices = [price for _, price in run if price is not None]
            wanted.append((key, run[0][0], run[-1][0] + datetime.timedelta(minutes=2), len(run), sum(prices) if prices else None))
    for name in ("gold.closed", "gold.updated", "gold.told"):
        assert found(project, name, "shop", "window_start", "window_end", "rows", "total") == sorted(wanted, key=str), name
    assert found(project, "gold.all", "shop", "sessions", "rows") == sorted(
        ((key, len(runs), sum(map(len, runs))) for key, runs in shops.items()), key=str)
    changes = [row[0] for row in found(project, "silver.log", "_change")]
    assert changes.count(0) - changes.count(3) == len(wanted) and changes.count(1) == changes.count(2)


@pytest.mark.parametrize("seed, ids", [(1, 60), (2, 150), (3, 20), (4, 400)])
def test_sessions_of_a_table_shrink_and_fall_in_two(project, seed, ids):
    write_shop(project, SESSIONS)
    shop = Shop(seed, ids=ids)
    project.write("landing/a.jsonl", "".join(shop.changes(2500)))
    project.run("pipelines/p.lua")
    judge_sessions(project, shop)


def test_sessions_of_a_table_outlive_kills(project):
    write_shop(project, SESSIONS)
    shop = Shop(17, ids=120)
    for part in range(5):
        project.write(f"landing/{part}.jsonl", "".join(shop.changes(900)))
    draw = random.Random(6)
    for _ in range(5):
        process = project.start("run", "pipelines/p.lua", "--json", "--set", "ledger.snapshot_every=50ms")
        time.sleep(0.1 + draw.random() * 0.4)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert project.weir("state", "get", "gold.updated/moment", "--json").code == 0
    project.run("pipelines/p.lua")
    judge_sessions(project, shop)


def test_a_session_that_is_over_stays(project):
    write_shop(project, 'return model "gold.m" { from = "silver.item", time = { field = "at" }, by = { "shop" }, window = session { gap = "1m", late = "quarantine.late" }, '
                        'measures = { n = count(), total = sum "price" } }')
    project.write("landing/a.jsonl", "".join(change(*each) for each in MOVES))
    assert project.run("pipelines/p.lua")["datasets"]["gold.m"]["late"] == 2
    assert shown(found(project, "gold.m", "window_start", "n", "total")) == shown([(moment("10:00:10"), 2, D(3)), (moment("10:02:00"), 2, D(5))])


def test_what_sessions_cannot_take_back_is_said(project):
    write_shop(project, 'return model "gold.m" { from = "silver.item", time = { field = "at" }, by = { "shop" }, window = session "1m", measures = { n = max "price" } }')
    outcome = project.weir("check")
    assert outcome.code == 1 and "max of sessions over rows that change is not built yet" in outcome.out + outcome.err, outcome


def change(op, number, price, when):
    row = {"id": number, "shop": "a", "price": price, "name": "tea", "at": at(when)}
    return json.dumps({"before": row if op == "d" else None, "after": None if op == "d" else row, "op": op, "ts_ms": 5, "transaction": None,
                       "source": {"lsn": 77, "txId": 9, "ts_ms": 1000, "snapshot": "false"}}) + "\n"


MOVES = [("c", 1, "1.00", "10:00:10"), ("c", 2, "2.00", "10:00:20"), ("c", 3, "4.00", "10:02:00"), ("u", 1, "1.00", "10:02:10"), ("d", 2, "2.00", "10:00:20")]


@pytest.mark.parametrize("window, more, rows, late", [
    ('tumbling { size = "1m", late = "quarantine.late" }', "", [("10:00:00", 2, "3.00"), ("10:02:00", 2, "5.00")], [1, 2]),
    ('tumbling { size = "1m", allowed_lateness = "1h", late = "quarantine.late" }', "", [("10:02:00", 2, "5.00")], []),
    ('tumbling { size = "1m", allowed_lateness = "1h", late = "quarantine.late" }', 'emit = "on_update"', [("10:02:00", 2, "5.00")], []),
    ('tumbling { size = "1m", allowed_lateness = "1h", late = "quarantine.late" }', 'into = delta { mode = "merge" }', [("10:02:00", 2, "5.00")], []),
    ('tumbling { size = "1m", late = "quarantine.late" }', 'emit = "on_update"', [("10:00:00", 2, "3.00"), ("10:02:00", 2, "5.00")], [1, 2]),
])
def test_what_is_taken_back_late_stays(project, window, more, rows, late):
    """A window that is over is as it left: the old row goes to the late rows, the new one counts where it lies."""
    write_shop(project, f'return model "gold.m" {{ from = "silver.item", time = {{ field = "at" }}, by = {{ "shop" }}, window = {window}, '
                        f'measures = {{ n = count(), total = sum "price" }}, {more} }}')
    project.write("landing/a.jsonl", "".join(change(*each) for each in MOVES))
    summary = project.run("pipelines/p.lua")
    assert shown(found(project, "gold.m", "window_start", "n", "total")) == shown((moment(start), n, D(total)) for start, n, total in rows)
    assert summary["datasets"]["gold.m"]["late"] == len(late)
    if late:
        assert sorted(found(project, "quarantine.late", "id", "_change")) == [(1, 1), (2, 3)]


COLUMNS = {"k": "string", "v": "long", "at": "timestamp"}


def test_an_old_row_needs_a_time_of_its_own(project):
    first = 'return model "gold.k" { from = "bronze.row", time = { field = "at" }, by = { "k" }, measures = { v = sum "v", last = max "at" }, into = none }\n'
    second = 'return model "gold.w" { from = "gold.k", by = { "v" }, window = tumbling "1m", measures = { n = count() } }\n'
    world = World(project, COLUMNS, [first, second])
    assert_refused(world, place(second, "window", "rules/r1.lua"), "not what an old row had")
    project.write("rules/r1.lua", second.replace("by =", 'time = { field = "last" }, by ='))
    assert world.check().code == 0


def test_a_table_without_its_time_is_refused(project):
    write_shop(project, 'return model "gold.w" { from = "silver.item", by = { "shop" }, window = tumbling "1m", measures = { n = count() } }\n')
    project.write("rules/item.lua", ITEM.replace("key", 'time = { field = "at" }, key'))
    outcome = project.weir("check")
    assert outcome.code == 1 and "not what an old row had" in outcome.out + outcome.err, outcome
