"""Windows of other kinds than size after size: sessions, so many rows, calendars. One test a meaning; recounts in Python and DuckDB."""

import datetime
import random
import zoneinfo

import duckdb
import pyarrow
import pytest

from language import UTC, D, World, at, moment
from live import wait_until

COLUMNS = {"id": "long!", "k": "string", "n": "int", "p": "decimal(12,2)", "at": "timestamp"}


def model(window, measures="n = count()", more="", time='time = { field = "at", out_of_order = "5s" }'):
    return f'return model "gold.m" {{ from = "bronze.row", {time}, by = {{ "k" }}, window = {window}, measures = {{ {measures} }}, {more} }}'


def data(*rows):
    return [{"id": index, "k": key, "at": time if "T" in time else at(time), **(fields[0] if fields else {})}
            for index, (key, time, *fields) in enumerate(rows)]


def gold(project, rule, rows, *columns):
    world = World(project, COLUMNS, rule, rows).run()
    return sorted(world.rows("gold.m", *columns), key=str), world


# --- sessions -----------------------------------------------------------------------------------


def test_rows_exactly_the_gap_apart_are_one_session_that_ends_a_gap_after_its_last_row(project):
    rows = data(("a", "10:00:00"), ("b", "10:00:05"), ("a", "10:00:10"), ("a", "10:00:20.000001"))
    found, _ = gold(project, model('session { gap = "10s" }'), rows, "k", "window_start", "window_end", "n")
    assert sorted(found) == [("a", moment("10:00:00"), moment("10:00:20"), 2),
                             ("a", moment("10:00:20.000001"), moment("10:00:30.000001"), 1),
                             ("b", moment("10:00:05"), moment("10:00:15"), 1)]


def test_a_row_between_two_sessions_joins_them(project):
    rows = data(("a", "10:00:00"), ("a", "10:00:18"), ("a", "10:00:09"))
    found, _ = gold(project, model('session { gap = "10s", allowed_lateness = "1m" }', 'n = count(), ids = distinct "id"'), rows,
                    "window_start", "window_end", "n", "ids")
    assert found == [(moment("10:00:00"), moment("10:00:28"), 3, 3)]


def test_lateness_is_judged_on_the_session_as_joined(project):
    """The second a is late on its own, and is not where a session that is open reaches it."""
    rows = data(("a", "10:00:00"), ("a", "10:00:08"), ("b", "10:00:22"), ("a", "10:00:01"), ("c", "10:00:01"))
    rule = model('session { gap = "10s", late = "quarantine.late" }')
    found, world = gold(project, rule, rows, "k", "window_start", "n")
    assert found == [("a", moment("10:00:00"), 3), ("b", moment("10:00:22"), 1)]
    assert world.rows("quarantine.late", "k") == ["c"]


def sessions(rows, gap, out_of_order, lateness):
    """By definition, row by row: ({(key, start, end): rows}, late)."""
    live, done, late, watermark = {}, [], 0, None
    for key, time, fields in rows:
        is_closed = lambda end: watermark is not None and end + lateness <= watermark  # noqa: E731
        touched = [each for each in live.get(key, []) if not is_closed(each["last"] + gap)
                   and each["first"] - gap <= time <= each["last"] + gap]
        if not touched and is_closed(time + gap):
            late += 1
        else:
            merged = {"first": min([time, *(each["first"] for each in touched)]), "last": max([time, *(each["last"] for each in touched)]),
                      "rows": [row for each in touched for row in each["rows"]] + [fields]}
            live[key] = [each for each in live.get(key, []) if each not in touched] + [merged]
        watermark = max(watermark if watermark is not None else time - out_of_order, time - out_of_order)
    done = [(key, each["first"], each["last"] + gap, each["rows"]) for key, all_of in live.items() for each in all_of]
    return done, late


@pytest.mark.parametrize("gap, lateness, every", [(10, 0, "1s"), (10, 30, "20ms"), (60, 600, "100ms"), (1, 5, "1s")])
def test_sessions_equal_a_recount(project, gap, lateness, every):
    draw = random.Random(f"{gap}{lateness}")
    rows, clock = [], 36000.0
    for _ in range(1500):
        clock += draw.choice([0, 0.5, 1, 3, 11])
        seconds = clock - draw.choice([0, 0, 0, 2, 4, 15, 80])
        rows.append((draw.choice("abcd"), int(seconds * 1_000_000), {"n": draw.choice([None, *range(9)]), "p": f"{draw.randrange(900) / 100:.2f}"}))
    written = [(key, f"{us // 3_600_000_000:02}:{us // 60_000_000 % 60:02}:{us % 60_000_000 / 1e6:09.6f}", fields) for key, us, fields in rows]
    window = f'session {{ gap = "{gap}s", allowed_lateness = "{lateness}s", late = "quarantine.late" }}'
    world = World(project, COLUMNS, model(window, 'rows = count(), n = sum "n", p = sum "p", top = max "n", kinds = distinct "n"'), data(*written),
                  options=f' commit = {{ every = "{every}" }},').run()
    found = sorted(world.rows("gold.m", "k", "window_start", "window_end", "rows", "n", "p", "top", "kinds"), key=str)
    wanted, late = sessions(rows, gap * 1_000_000, 5_000_000, lateness * 1_000_000)
    midnight = datetime.datetime(2026, 1, 5, tzinfo=UTC)
    expected = []
    for key, first, end, members in wanted:
        numbers = [member["n"] for member in members if member["n"] is not None]
        expected.append((key, midnight + datetime.timedelta(microseconds=first), midnight + datetime.timedelta(microseconds=end), len(members),
                         sum(numbers) if numbers else None, sum(D(member["p"]) for member in members), max(numbers, default=None), len(set(numbers))))
    assert found == sorted(expected, key=str)
    assert world.counts("gold.m")["late"] == late == len(world.rows("quarantine.late", "id"))


# --- so many rows -------------------------------------------------------------------------------


def test_a_window_of_so_many_rows_leaves_with_its_last_and_no_row_is_late(project):
    rows = data(("a", "10:00:05"), ("a", "10:30:00"), ("a", "10:00:00"), ("b", "10:00:00"), ("a", "10:00:00"))
    found, world = gold(project, model("count(3)", 'n = count(), ids = collect "id"'), rows, "k", "window_start", "window_end", "n", "ids")
    assert found == [("a", moment("10:00:00"), moment("10:00:00.000001"), 1, [4]),  # the end of the input closes what is not full
                     ("a", moment("10:00:00"), moment("10:30:00.000001"), 3, [2, 0, 1]),
                     ("b", moment("10:00:00"), moment("10:00:00.000001"), 1, [3])]
    assert world.counts("gold.m")["late"] == 0


def drawn(count, seed):
    draw = random.Random(seed)
    rows, clock = [], 36000.0
    for _ in range(count):
        clock += draw.choice([0, 0.5, 1])
        seconds = clock - draw.choice([0, 0, 0, 30, 600])
        rows.append((draw.choice("abcde") if draw.random() < 0.95 else None, f"{int(seconds) // 3600:02}:{int(seconds) // 60 % 60:02}:{seconds % 60:09.6f}",
                     {"n": draw.choice([None, *range(9)]), "p": f"{draw.randrange(900) / 100:.2f}"}))
    return rows


@pytest.mark.parametrize("size, every", [(1, "1s"), (2, "20ms"), (10, "20ms"), (100, "100ms"), (5000, "1s")])
def test_windows_of_so_many_rows_equal_a_recount(project, size, every):
    rows = drawn(3000, size)
    rule = model(f"count {{ size = {size} }}", 'rows = count(), n = sum "n", p = sum "p", kinds = distinct "n", mid = median "n", first_id = min "id"')
    world = World(project, COLUMNS, rule, data(*rows), options=f' commit = {{ every = "{every}" }},').run()
    found = sorted(world.rows("gold.m", "k", "window_start", "window_end", "rows", "n", "p", "kinds", "mid", "first_id"), key=str)
    base = duckdb.connect()
    base.execute("set time zone 'UTC'")
    t = pyarrow.table({"id": range(len(rows)), "k": [row[0] for row in rows], "time": [moment(row[1]) for row in rows],  # noqa: F841: DuckDB finds it by name
                       "n": [row[2]["n"] for row in rows], "p": [D(row[2]["p"]) for row in rows]})
    wanted = base.execute(f"""select k, min(time), max(time) + interval 1 microsecond, count(*), sum(n), sum(p), count(distinct n), median(n)::decimal(38,6), min(id)
        from (select *, (row_number() over (partition by k order by id) - 1) // {size} w from t) group by k, w""").fetchall()
    assert found == sorted(wanted, key=str)


def test_a_window_of_so_many_rows_goes_on_over_a_restart(project):
    """Stopped with windows half full, and the rest in a second file."""
    rows = drawn(700, 4)
    world = World(project, COLUMNS, model("count(30)", 'n = count(), first_id = min "id", last_id = max "id"'), data(*rows[:400]))
    process = project.start("run", "pipelines/p.lua")
    try:
        wait_until(lambda: world.exists("gold.m") and sum(world.rows("gold.m", "n")) > 200)
        process.terminate()
        process.communicate(timeout=60)
    finally:
        process.kill()
    world.feed(data(*rows)[400:], "b.jsonl")
    world.run()
    keys = {}
    for index, (key, *_) in enumerate(rows):
        keys.setdefault(key, []).append(index)
    wanted = [(key, len(ids[at:at + 30]), ids[at], ids[at:at + 30][-1]) for key, ids in keys.items() for at in range(0, len(ids), 30)]
    assert sorted(world.rows("gold.m", "k", "n", "first_id", "last_id"), key=str) == sorted(wanted, key=str)


def test_a_model_reads_windows_of_so_many_rows(project):
    rows = data(*(("a", f"10:00:{second:02}") for second in range(60)), ("a", "10:05:00"))
    world = World(project, COLUMNS, [model("count(7)", "n = count()", "into = none"),
                                     'return model "gold.w" { from = "gold.m", window = tumbling "30s", measures = { windows = count(), n = sum "n" } }'], rows).run()
    assert sorted(world.rows("gold.w", "window_start", "windows", "n")) == [
        (moment("10:00:00"), 4, 28), (moment("10:00:30"), 4, 28), (moment("10:05:00"), 1, 5)]


@pytest.mark.parametrize("window, more, text", [
    ("count(0)", "", "from 1"), ("count(2.5)", "", "from 1"), ("count {}", "", "how many rows"), ('count "10"', "", "how many rows"),
    ('count { size = 3, allowed_lateness = "1m" }', "", "no option `allowed_lateness`"), ('count { size = 3, late = "quarantine.x" }', "", "no option `late`"),
    ("count(3)", 'emit = "on_update"', "leaves when it has them"), ("count(3)", 'into = delta { mode = "merge" }', "they append"),
    ("count(3)", 'tests = { unique { "k", "window_start" } }', "told apart by no column"),
    ("count(3)", 'top = { n = 1, by = "n", rank = "r" }', "nothing to rank"),
])
def test_windows_of_so_many_rows_that_cannot_be_are_refused(project, window, more, text):
    outcome = World(project, COLUMNS, model(window, more=more)).check()
    assert outcome.code == 1 and text in outcome.out + outcome.err, outcome


# --- calendars ----------------------------------------------------------------------------------


def calendar_window(text, unit, zone, week_start=0):
    """By the date in the zone."""
    zone = zoneinfo.ZoneInfo(zone)
    day = datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(zone).date()
    if unit == "day":
        first, after = day, day + datetime.timedelta(days=1)
    elif unit == "week":
        first = day - datetime.timedelta(days=(day.weekday() - week_start) % 7)
        after = first + datetime.timedelta(days=7)
    elif unit == "month":
        first = day.replace(day=1)
        after = (first + datetime.timedelta(days=32)).replace(day=1)
    else:
        first = day.replace(month=(day.month - 1) // 3 * 3 + 1 if unit == "quarter" else 1, day=1)
        after = (first + datetime.timedelta(days=93 if unit == "quarter" else 367)).replace(day=1)
    return tuple(datetime.datetime.combine(each, datetime.time(), zone).astimezone(UTC) for each in (first, after))


@pytest.mark.parametrize("unit, zone, more", [
    ("day", "Europe/London", ""), ("day", "America/New_York", ""), ("week", "Europe/London", ', week_start = "sunday"'),
    ("month", "Asia/Kathmandu", ""), ("quarter", "Australia/Sydney", ""), ("year", "America/New_York", "")])
def test_calendar_windows_are_the_zones_dates(project, unit, zone, more):
    draw = random.Random(unit + zone)
    base = datetime.datetime(2025, 1, 1, tzinfo=UTC)
    texts = sorted((base + datetime.timedelta(minutes=draw.randrange(365 * 24 * 60))).strftime("%Y-%m-%dT%H:%M:%SZ") for _ in range(3000))
    window = f'calendar {{ "{unit}", time_zone = "{zone}"{more} }}'
    found, _ = gold(project, model(window), data(*(("a", text) for text in texts)), "window_start", "window_end", "n")
    counted = {}
    for text in texts:
        bounds = calendar_window(text, unit, zone, 6 if more else 0)
        counted[bounds] = counted.get(bounds, 0) + 1
    assert found == sorted(((start, end, n) for (start, end), n in counted.items()), key=str)
    if unit == "day" and zone == "Europe/London":
        assert {(end - start).total_seconds() / 3600 for start, end, _ in found} == {23, 24, 25}


def test_a_calendars_zone_is_the_pipelines_where_none_is_said(project):
    rows = data(("a", "2025-07-05T22:59:59Z"), ("a", "2025-07-05T23:00:00Z"))
    world = World(project, COLUMNS, model('calendar "day"'), rows, options=' time_zone = "Europe/London",').run()
    assert sorted(world.rows("gold.m", "window_start")) == [datetime.datetime(2025, 7, day, 23, tzinfo=UTC) for day in (4, 5)]


@pytest.mark.parametrize("window, text", [
    ('session { gap = "0s" }', "a gap is longer than nothing"), ("session {}", "has a gap"), ('session { size = "1m" }', "session has no option `size`"),
    ("calendar {}", "day, week, month, quarter or year"), ('calendar { "fortnight" }', "fortnight"),
    ('calendar { "day", time_zone = "Europe/Nowhere" }', "Europe/Nowhere"), ('calendar { "week", week_start = "someday" }', "someday"),
    ('calendar { "day", week_start = "sunday" }', "week_start")])
def test_sessions_and_calendars_that_cannot_be_are_refused(project, window, text):
    outcome = World(project, COLUMNS, model(window)).check()
    assert outcome.code == 1 and text in outcome.out + outcome.err, outcome
