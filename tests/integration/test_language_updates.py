"""Windows whose rows leave as they change: `emit = "on_update"`. One test a meaning; DuckDB counts again."""

import datetime
import random
import signal
import time

import duckdb
import pyarrow
import pytest

from language import World, at, moment

COLUMNS = {"id": "long!", "k": "string", "n": "int", "s": "string", "at": "timestamp"}
EVERY = ("100ms", "1s")
MEASURES = 'rows = count(), n = sum "n", hi = max "n", kinds = distinct "s", first_s = min "s"'
COUNTED = "count(*), sum(n), max(n), count(distinct s), min(s)"


def model(window='tumbling { size = "1m", allowed_lateness = "1h" }', measures=MEASURES, more="", out_of_order="5s"):
    return f'''return model "gold.m" {{ from = "bronze.row", time = {{ field = "at", out_of_order = "{out_of_order}" }}, by = {{ "k" }},
        window = {window}, measures = {{ {measures} }}, emit = "on_update", {more} }}'''


def data(*rows):
    """rows: (key, time, fields)"""
    return [{"id": index, "k": key, "at": at(time), **(fields[0] if fields else {})} for index, (key, time, *fields) in enumerate(rows)]


def drawn(count, seed=11):
    """Twenty minutes of them, up to a minute out of order."""
    draw = random.Random(seed)
    rows = []
    for i in range(count):
        second = max(0, i * 1200 // count - draw.choice((0, 0, 0, 30, 60)))
        rows.append((draw.choice("abcdef"), f"10:{second // 60:02}:{second % 60:02}",
                     {"n": draw.choice([None, *range(-4, 9)]), "s": draw.choice([None, "", "tea", "jam", "a text too long to lie in a slot"])}))
    return rows


def recount(rows, sql):
    base = duckdb.connect()
    t = pyarrow.table({"k": [k for k, _, _ in rows], "time": [moment(time) for _, time, _ in rows],  # noqa: F841: DuckDB finds it by name
                       "n": [f["n"] for _, _, f in rows], "s": [f["s"] for _, _, f in rows]})
    base.execute("set time zone 'UTC'")
    return sorted(base.execute(sql).fetchall(), key=str)


@pytest.mark.parametrize("every", EVERY)
def test_the_table_holds_what_the_windows_come_to(project, every):
    rows = drawn(6000)
    world = World(project, COLUMNS, model(), data(*rows), options=f' commit = {{ every = "{every}" }},').run()
    found = sorted(world.rows("gold.m", "k", "window_start", "rows", "n", "hi", "kinds", "first_s"), key=str)
    assert found == recount(rows, f"select k, time_bucket(interval 1 minute, time) w, {COUNTED} from t group by all")
    assert world.table("gold.m").column_names == ["k", "window_start", "window_end", "rows", "n", "hi", "kinds", "first_s"]


# How often a row is there, and in which windows: by the number h of each.
OVERLAPPING = {
    'hopping { size = "5m", every = "1m", allowed_lateness = "1h" }':
        "select *, time_bucket(interval 1 minute, time) - h * interval 1 minute w, time_bucket(interval 1 minute, time) + (5 - h) * interval 1 minute e from t, range(5) r(h)",
    'hopping { size = "150s", every = "1m", allowed_lateness = "1h" }':
        """select *, time_bucket(interval 1 minute, time) - h * interval 1 minute w, w + interval 150 second e from t, range(3) r(h)
           where time_bucket(interval 1 minute, time) - h * interval 1 minute + interval 150 second > time""",
    'cumulate { size = "5m", step = "1m", allowed_lateness = "1h" }':
        """select *, time_bucket(interval 5 minute, time) w, time_bucket(interval 1 minute, time) + (h + 1) * interval 1 minute e from t, range(5) r(h)
           where time_bucket(interval 1 minute, time) + (h + 1) * interval 1 minute <= time_bucket(interval 5 minute, time) + interval 5 minute""",
}


@pytest.mark.parametrize("window", OVERLAPPING)
def test_windows_that_overlap_change_each(project, window):
    rows = drawn(4000)
    world = World(project, COLUMNS, model(window), data(*rows), options=' commit = { every = "50ms" },').run()
    assert world.counts("gold.m")["late"] == 0
    found = sorted(world.rows("gold.m", "k", "window_start", "window_end", "rows", "n", "hi", "kinds", "first_s"), key=str)
    assert found == recount(rows, f"select k, w, e, {COUNTED} from ({OVERLAPPING[window]}) group by all")


@pytest.mark.parametrize("emit", ["on_close", "on_update"])
@pytest.mark.parametrize("window", ['hopping { size = "5m", every = "1m", allowed_lateness = "1h" }', 'cumulate { size = "5m", step = "1m", allowed_lateness = "1h" }'])
def test_windows_that_overlap_take_back_what_changed(project, window, emit):
    """Of a model whose rows move on in time: each is in the windows of where it is last, and in no others."""
    rows = drawn(1500, seed=7)
    first = 'return model "gold.k" { from = "bronze.row", by = { "k", "s" }, measures = { n = sum "n", moved = max "at" }, into = none }'
    second = f'''return model "gold.w" {{ from = "gold.k", time = {{ field = "moved", out_of_order = "1h" }}, by = {{ "k" }}, window = {window},
        measures = {{ rows = count(), n = sum "n", most = max "n", mid = median "n" }}, emit = "{emit}" }}'''
    world = World(project, COLUMNS, [first, second], data(*rows), options=' commit = { every = "50ms" },').run()
    inner = "select k, s, sum(n) n, max(time) time from t group by k, s"
    found = sorted([(*row[:-1], row[-1] and float(row[-1])) for row in world.rows("gold.w", "k", "window_start", "window_end", "rows", "n", "most", "mid")], key=str)
    sql = OVERLAPPING[window].replace("from t,", f"from ({inner}) t,")
    assert found == recount(rows, f"select k, w, e, count(*), sum(n), max(n), median(n) from ({sql}) group by all")


@pytest.mark.parametrize("window, hits", [('hopping { size = "5m", every = "1m", late = "quarantine.late" }', 1), ('cumulate { size = "5m", step = "1m", late = "quarantine.late" }', 1)])
def test_a_row_late_for_some_counts_in_the_others(project, window, hits):
    rows = data(("a", "10:02:30"), ("b", "10:04:00"), ("a", "10:01:30"))
    world = World(project, COLUMNS, model(window, "n = count()", out_of_order="0s"), rows).run()
    assert len(world.rows("quarantine.late", "id")) == hits and world.counts("gold.m")["late"] == hits
    ends = {row[0]: row[1] for row in world.rows("gold.m", "window_end", "n", "k") if row[2] == "a"}
    assert ends[moment("10:05:00")] == 2 and ends.get(moment("10:03:00"), 1) == 1


def test_too_many_windows_a_row_are_refused(project):
    outcome = World(project, COLUMNS, model('hopping { size = "1h", every = "1s" }')).check()
    assert outcome.code == 1 and "3600 windows" in outcome.out + outcome.err, outcome


def sessions(rows, gap):
    """(key, start, end, count, sum, most, kinds, least text) of sessions, by definition: none is closed before all rows are in."""
    found = []
    for key in {k for k, _, _ in rows}:
        ordered = sorted((moment(time), i, fields) for i, (k, time, fields) in enumerate(rows) if k == key)
        members = []
        for time, _, fields in ordered + [(None, None, None)]:
            if members and (time is None or time > members[-1][0] + gap):
                numbers = [each["n"] for _, each in members if each["n"] is not None]
                texts = [each["s"] for _, each in members if each["s"] is not None]
                found.append((key, members[0][0], members[-1][0] + gap, len(members), sum(numbers) if numbers else None, max(numbers, default=None),
                              len(set(texts)), min(texts, default=None)))
                members = []
            members.append((time, fields))
    return sorted(found, key=str)


@pytest.mark.parametrize("seconds, every", [(3, "20ms"), (20, "20ms"), (20, "1s"), (1, "50ms")])
def test_sessions_change_grow_and_join(project, seconds, every):
    """Rows up to a minute out of order make sessions start earlier and join; what was told of them is taken back."""
    rows = drawn(3000)
    over = 'return model "gold.all" { from = "gold.m", by = { "k" }, measures = { sessions = count(), rows = sum "rows", n = sum "n", most = max "rows" } }'
    log = 'return stream "silver.log" { from = "gold.m", keep = { "k", "rows" }, into = delta { mode = "append" } }'
    window = f'session {{ gap = "{seconds}s", allowed_lateness = "1h" }}'
    world = World(project, COLUMNS, [model(window), over, log], data(*rows), options=f' commit = {{ every = "{every}" }},').run()
    wanted = sessions(rows, datetime.timedelta(seconds=seconds))
    assert sorted(world.rows("gold.m", "k", "window_start", "window_end", "rows", "n", "hi", "kinds", "first_s"), key=str) == wanted
    by_key = {}
    for key, _, _, count, total, *_ in wanted:
        by_key.setdefault(key, []).append((count, total))
    assert sorted(world.rows("gold.all", "k", "sessions", "rows", "n", "most")) == sorted(
        (key, len(each), sum(count for count, _ in each), sum(total or 0 for _, total in each), max(count for count, _ in each)) for key, each in by_key.items())
    assert world.counts("gold.m")["late"] == 0
    changes = world.rows("silver.log", "_change")
    assert changes.count(0) - changes.count(3) == len(wanted) and changes.count(1) == changes.count(2)


@pytest.mark.parametrize("seconds, every", [(3, "1ms"), (20, "30ms"), (20, "1h"), (1, "50ms")])
def test_sessions_leave_once_an_interval(project, seconds, every):
    rows = drawn(6000, seed=4)
    log = 'return stream "silver.log" { from = "gold.m", keep = { "k", "rows" }, into = delta { mode = "append" } }'
    rule = model(f'session {{ gap = "{seconds}s", allowed_lateness = "1h" }}', 'rows = count(), n = sum "n", hi = max "n", first_s = min "s"')
    rule = rule.replace('emit = "on_update"', f'emit = every "{every}"')
    assert every in rule
    world = World(project, COLUMNS, [rule, log], data(*rows), options=' commit = { every = "20ms" },').run()
    wanted = sorted((row[:6] + row[7:] for row in sessions(rows, datetime.timedelta(seconds=seconds))), key=str)
    assert sorted(world.rows("gold.m", "k", "window_start", "window_end", "rows", "n", "hi", "first_s"), key=str) == wanted
    changes = world.rows("silver.log", "_change")
    assert changes.count(0) - changes.count(3) == len(wanted) and changes.count(1) == changes.count(2)
    if every == "1h":
        assert len(changes) == len(wanted), "a session leaves once, as it closes"


def test_sessions_that_wait_to_be_told_outlive_kills(project):
    rows = drawn(6000, seed=6)
    rule = model('session { gap = "15s", allowed_lateness = "1h" }', 'rows = count(), n = sum "n", hi = max "n", first_s = min "s"')
    world = World(project, COLUMNS, rule.replace('emit = "on_update"', 'emit = every "70ms"'), [])
    for part in range(12):
        world.feed(data(*rows)[part * 500:(part + 1) * 500], f"part{part:02}.jsonl")
    draw = random.Random(3)
    for _ in range(6):
        process = project.start("run", "pipelines/p.lua", "--json", "--set", "commit.every=20ms", "--set", "ledger.snapshot_every=50ms")
        time.sleep(0.1 + draw.random() * 0.4)
        process.send_signal(signal.SIGKILL)
        process.wait()
    world.run("--set", "commit.every=20ms")
    wanted = sorted((row[:6] + row[7:] for row in sessions(rows, datetime.timedelta(seconds=15))), key=str)
    assert sorted(world.rows("gold.m", "k", "window_start", "window_end", "rows", "n", "hi", "first_s"), key=str) == wanted


def test_sessions_that_join_take_their_rows_back(project):
    log = 'return stream "silver.log" { from = "gold.m", keep = { "k", "window_start", "n" }, into = delta { mode = "append" } }'
    rule = model('session { gap = "10s", allowed_lateness = "1h" }', 'n = count()', "into = none")
    rows = data(("a", "10:00:20"), ("a", "10:00:00"), ("a", "10:00:10"))
    world = World(project, COLUMNS, [rule, log], rows).run()
    assert sorted(world.rows("silver.log", "window_start", "n", "_change")) == [(moment("10:00:00"), 3, 0)]  # in one batch nothing was told between


def test_sessions_that_change_go_on_over_a_restart(project):
    """Twice stopped; sessions told before are taken back after."""
    rows = drawn(900, seed=8)
    world = World(project, COLUMNS, model('session { gap = "20s", allowed_lateness = "1h" }'), data(*rows)[:300],
                  options=' commit = { every = "20ms" },')
    for index in range(1, 3):
        process = project.start("run", "pipelines/p.lua")
        try:
            until = time.monotonic() + 60
            while sum(world.rows("gold.m", "rows")) < 300 * index and time.monotonic() < until:
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL if index == 1 else signal.SIGTERM)
            process.communicate(timeout=60)
        finally:
            process.kill()
        world.feed(data(*rows)[300 * index:300 * (index + 1)], f"b{index}.jsonl")
    world.run()
    assert sorted(world.rows("gold.m", "k", "window_start", "window_end", "rows", "n", "hi", "kinds", "first_s"), key=str) == sessions(rows, datetime.timedelta(seconds=20))


def test_days_of_a_calendar_change_too(project):
    rows = drawn(900)
    world = World(project, COLUMNS, model('calendar { "day", time_zone = "Asia/Kolkata", allowed_lateness = "1h" }'), data(*rows)).run()
    found = sorted(world.rows("gold.m", "k", "rows", "n", "hi", "kinds", "first_s"), key=str)
    assert found == recount(rows, f"select k, {COUNTED} from t group by all")


def test_rows_leave_before_their_window_is_over_and_are_taken_back(project):
    """A +I and then pairs; the closing of a window says nothing."""
    log = 'return stream "silver.log" { from = "gold.m", keep = { "k", "n" }, into = delta { mode = "append" } }'
    rule = model(measures='n = sum "n"', more="into = none")
    rows = data(("a", "10:00:01", {"n": 1}), ("a", "10:00:02", {"n": 2}), ("b", "10:09:00", {"n": 7}))
    world = World(project, COLUMNS, [rule, log], rows).run()
    assert sorted(world.rows("silver.log", "k", "n", "_change")) == [("a", 3, 0), ("b", 7, 0)]


def test_a_row_is_late_once_lateness_is_over(project):
    rule = model('tumbling { size = "1m", allowed_lateness = "2m", late = "quarantine.late" }', 'n = count()', out_of_order="0s")
    rows = data(("a", "10:00:30"), ("b", "10:02:59"), ("a", "10:00:40"), ("b", "10:03:00"), ("a", "10:00:50"))
    world = World(project, COLUMNS, rule, rows).run()
    assert sorted(world.rows("gold.m", "k", "window_start", "n")) == [
        ("a", moment("10:00:00"), 2), ("b", moment("10:02:00"), 1), ("b", moment("10:03:00"), 1)]
    assert world.rows("quarantine.late", "id") == [4]
    assert world.counts("gold.m")["late_by"] == {"1s": 0, "10s": 0, "1m": 0, "10m": 1, "1h": 0, "1d": 0, "more": 0}  # 130 s behind


@pytest.mark.parametrize("every", EVERY)
def test_a_model_of_it_takes_back_what_changed(project, every):
    rows = drawn(3000, seed=5)
    over = '''return model "gold.all" { from = "gold.m", by = { "window_start" }, measures = { keys = count(), rows = sum "rows", n = sum "n", most = max "rows" } }'''
    world = World(project, COLUMNS, [model(), over], data(*rows), options=f' commit = {{ every = "{every}" }},').run()
    found = sorted(world.rows("gold.all", "window_start", "keys", "rows", "n", "most"), key=str)
    inner = "select k, time_bucket(interval 1 minute, time) w, count(*) c, sum(n) n from t group by all"
    assert found == recount(rows, f"select w, count(*), sum(c), sum(n), max(c) from ({inner}) group by all")


def test_it_takes_back_what_it_reads_takes_back(project):
    first = '''return model "gold.k" { from = "bronze.row", time = { field = "at", out_of_order = "5s" }, by = { "k" }, measures = { total = sum "n", day = max "at" }, into = none }'''
    second = '''return model "gold.w" { from = "gold.k", time = { field = "day" }, by = { "total" }, window = tumbling { size = "1h" }, measures = { keys = count() },
        emit = "on_update" }'''
    rows = data(("a", "10:00:00", {"n": 1}), ("b", "10:00:01", {"n": 1}), ("a", "10:00:02", {"n": 4}))
    world = World(project, COLUMNS, [first, second], rows).run()
    assert sorted(world.rows("gold.w", "total", "keys")) == [(1, 1), (5, 1)]


def test_having_takes_rows_in_and_out(project):
    rows = drawn(2000, seed=3)
    world = World(project, COLUMNS, model(measures='n = sum "n"', more="having = function(m) return m.n > 20 end,"), data(*rows)).run()
    found = sorted(world.rows("gold.m", "k", "window_start", "n"), key=str)
    assert found == recount(rows, "select k, time_bucket(interval 1 minute, time) w, sum(n) from t group by all having sum(n) > 20")


def test_a_window_over_the_time_rows_came_in_closes_by_the_clock_alone(project):
    """No row comes after the three; the epoch in which it closed comes out the same when replayed."""
    rule = 'return model "gold.m" { from = "bronze.row", time = { field = "_ingested_at" }, by = { "k" }, window = tumbling "1s", measures = { n = count() } }'
    world = World(project, COLUMNS, rule, data(("a", "10:00:00"), ("b", "10:00:01"), ("a", "10:00:02")), options=' commit = { every = "100ms" },')
    process = project.start("run", "pipelines/p.lua")
    until = time.monotonic() + 60
    found = []
    try:
        while len(found) < 2 and time.monotonic() < until:
            assert process.poll() is None
            time.sleep(0.05)
            log = project.root / "lake/gold/m/_delta_log/00000000000000000001.json"  # 0 makes the table
            found = world.rows("gold.m", "k", "n") if log.exists() else []
        process.terminate()
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert sorted(found) == [("a", 2), ("b", 1)]
    for epoch in ("1", "2"):
        outcome = project.weir("replay", "pipelines/p.lua", "--epoch", epoch)
        assert outcome.code == 0, outcome
