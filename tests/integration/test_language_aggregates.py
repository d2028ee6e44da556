"""`aggregate`: measures written in Lua, beside the built ones and DuckDB, in every kind of window."""

import json
import random

import duckdb
import pyarrow
import pytest

from language import D, World, at, moment
from live import wait_until

COLUMNS = {"id": "long!", "k": "string", "n": "int", "p": "decimal(12,2)", "x": "double", "at": "timestamp"}
# A mean weighted by n, the span of times, whether all were odd, and a running product modulo a prime, whose steps do not commute with anything else.
WEIGHTED = """aggregate {
    state  = { total = "decimal(38,2)", weight = "int64" },
    init   = function(s) s.total, s.weight = 0, 0 end,
    add    = function(s, e) if e.n ~= nil and e.p ~= nil then s.total = e.p * e.n; s.weight = e.n end end,
    merge  = function(s, o) s.total = s.total + o.total; s.weight = s.weight + o.weight end,
    result = function(s) if s.weight == 0 then return nil end return round(s.total / s.weight, 6) end,
    type   = "decimal(38,6)",
}"""
SPAN = """aggregate {
    state  = { first = "timestamp", last = "timestamp", odd = "bool", product = "int32", far = "double", when = "date" },
    add    = function(s, e) s.first = e.at; s.last = e.at; s.odd = e.id % 2 == 1; s.product = tonumber(e.id % 97) + 1; s.far = e.x; s.when = date(e.at, "UTC") end,
    merge  = function(s, o)
        if o.first < s.first then s.first = o.first end
        if o.last > s.last then s.last = o.last end
        s.odd = s.odd and o.odd
        s.product = (s.product * 31 + o.product) % 10007
        if o.far ~= nil and (s.far == nil or o.far > s.far) then s.far = o.far end
        s.when = o.when
    end,
    result = function(s) return tostring(s.first) .. " " .. tostring(s.last) .. " " .. tostring(s.odd) .. " " .. s.product .. " " .. tostring(s.far) .. " " .. tostring(s.when) end,
    type   = "string",
}"""
MEASURES = f'rows = count(), mean = {WEIGHTED}, span = {SPAN}'


def model(window="", measures=MEASURES, more="", out_of_order="1m"):
    window = f"window = {window}," if window else ""
    return (f'return model "gold.m" {{ from = "bronze.row", time = {{ field = "at", out_of_order = "{out_of_order}" }}, by = {{ "k" }}, {window} '
            f'measures = {{ {measures} }}, {more} }}')


def drawn(count, seed=5):
    draw = random.Random(seed)
    rows = []
    for i in range(count):
        second = max(0, i * 1200 // count - draw.choice((0, 0, 0, 30, 59)))
        rows.append({"id": i, "k": draw.choice("abcd"), "at": at(f"10:{second // 60:02}:{second % 60:02}"), "n": draw.choice([None, *range(9)]),
                     "p": draw.choice([None, *(f"{cents / 100:.2f}" for cents in (1, 999, 123456))]), "x": draw.choice([None, 0.5, -1.25, 3.0])})
    return rows


def weighted(rows):
    pairs = [(D(row["p"]) * row["n"], row["n"]) for row in rows if row["n"] is not None and row["p"] is not None]
    weight = sum(n for _, n in pairs)
    return (sum(total for total, _ in pairs) / weight).quantize(D("0.000001")) if weight else None


def spanned(rows):
    product = rows[0]["id"] % 97 + 1
    for row in rows[1:]:
        product = (product * 31 + row["id"] % 97 + 1) % 10007
    times = [row["at"] for row in rows]
    far = max((row["x"] for row in rows if row["x"] is not None), default=None)
    return f'{min(times)} {max(times)} {str(all(row["id"] % 2 for row in rows)).lower()} {product} {"nil" if far is None else f"{far:g}"} 2026-01-05'


def by_windows(rows, windows_of):
    groups = {}
    for row in rows:
        minute, second = int(row["at"][14:16]), int(row["at"][17:19])
        for window in windows_of(minute * 60 + second):
            groups.setdefault((row["k"], window), []).append(row)
    return groups


@pytest.mark.parametrize("every", ["20ms", "1s"])
@pytest.mark.parametrize("window, more, windows_of", [
    ('tumbling { size = "1m" }', "", lambda t: [t // 60 * 60]),
    ('tumbling { size = "1m" }', 'emit = "on_update",', lambda t: [t // 60 * 60]),
    ('calendar { "day" }', "", lambda t: [-36000]),
])
def test_states_are_merged_in_the_order_of_rows(project, window, more, windows_of, every):
    rows = drawn(3000)
    world = World(project, COLUMNS, model(window, more=more), rows, options=f' commit = {{ every = "{every}" }},').run()
    groups = by_windows(rows, windows_of)
    found = {(k, (start - moment("10:00:00")).total_seconds()): rest for k, start, *rest in world.rows("gold.m", "k", "window_start", "rows", "mean", "span")}
    assert found == {key: [len(members), weighted(members), spanned(members)] for key, members in groups.items()}


def test_a_model_without_a_window_and_windows_of_rows(project):
    rows = drawn(2000)
    world = World(project, COLUMNS, [model(), model("count(70)").replace("gold.m", "gold.c")], rows, options=' commit = { every = "50ms" },').run()
    by_key = {}
    for row in rows:
        by_key.setdefault(row["k"], []).append(row)
    assert {k: rest for k, *rest in world.rows("gold.m", "k", "rows", "mean", "span")} == {
        k: [len(members), weighted(members), spanned(members)] for k, members in by_key.items()}
    seventies = [(k, members[at:at + 70]) for k, members in by_key.items() for at in range(0, len(members), 70)]
    assert sorted(world.rows("gold.c", "k", "rows", "mean", "span"), key=str) == sorted(
        ((k, len(members), weighted(members), spanned(members)) for k, members in seventies), key=str)


OVERLAPPING = {
    'hopping { size = "5m", every = "1m" }': "select *, time_bucket(interval 1 minute, time) - h * interval 1 minute w, w + interval 5 minute e from t, range(5) r(h)",
    'cumulate { size = "5m", step = "1m" }':
        """select *, time_bucket(interval 5 minute, time) w, time_bucket(interval 1 minute, time) + (h + 1) * interval 1 minute e from t, range(5) r(h)
           where time_bucket(interval 1 minute, time) + (h + 1) * interval 1 minute <= time_bucket(interval 5 minute, time) + interval 5 minute""",
}


@pytest.mark.parametrize("more", ["", 'emit = "on_update"'])
@pytest.mark.parametrize("window", OVERLAPPING)
def test_panes_are_merged(project, window, more):
    """What order panes come together in is the runtime's; that a later one comes second is told."""
    rows = drawn(3000)
    measures = f"""rows = count(), mean = {WEIGHTED}, low = aggregate {{
        state = {{ id = "int64", x = "double" }}, add = function(s, e) s.id = e.id; s.x = e.x or 0 end,
        merge = function(s, o) if o.id < s.id then s.id = o.id end s.x = s.x + o.x end, result = function(s) return s.x + tonumber(s.id) end, type = "double" }}"""
    world = World(project, COLUMNS, model(window, measures, more), rows, options=' commit = { every = "50ms" },').run()
    t = pyarrow.table({"id": [row["id"] for row in rows], "k": [row["k"] for row in rows], "time": [moment(row["at"][11:19]) for row in rows],  # noqa: F841: DuckDB finds it by name
                       "n": [row["n"] for row in rows], "p": [row["p"] and D(row["p"]) for row in rows], "x": [row["x"] or 0.0 for row in rows]})
    base = duckdb.connect()
    base.execute("set time zone 'UTC'")
    wanted = base.execute(f"""select k, w, e, count(*), case when sum(n) filter (p is not null) > 0 then
        round((sum(p * n)::decimal(38, 10) / sum(n) filter (p is not null)), 6)::double end, sum(x) + min(id) from ({OVERLAPPING[window]}) group by k, w, e""").fetchall()
    found = [(k, w, e, n, mean and float(mean), low) for k, w, e, n, mean, low in world.rows("gold.m", "k", "window_start", "window_end", "rows", "mean", "low")]
    assert [row[:4] + row[5:] for row in sorted(found, key=str)] == [row[:4] + row[5:] for row in sorted(wanted, key=str)]
    for ours, theirs in zip(sorted(found, key=str), sorted(wanted, key=str)):
        assert ours[4] == theirs[4] or abs(ours[4] - theirs[4]) < 2e-6


def test_sessions_that_join_merge_their_states(project):
    rows = [{"id": i, "k": "a", "at": at(f"10:00:{second:02}"), "n": 1, "p": f"{second}.00"} for i, second in enumerate((0, 18, 9, 40))]
    world = World(project, COLUMNS, model('session { gap = "10s", allowed_lateness = "1m" }'), rows).run()
    joined = [rows[0], rows[2], rows[1]]
    assert sorted(world.rows("gold.m", "rows", "mean")) == sorted([(3, weighted(joined)), (1, weighted(rows[3:]))])


def test_a_throw_in_add_quarantines_the_row_and_one_in_result_is_null(project):
    rule = model('tumbling "1m"', """rows = count(), far = aggregate {
        state = { n = "int32" }, add = function(s, e)
            s.n = e.n + 1 end,
        merge = function(s, o) s.n = s.n + o.n end, result = function(s) if s.n == 5 then error("five") end return s.n end, type = "int32" }""")
    rows = [{"id": i, "k": k, "at": at("10:00:00"), "n": n} for i, (k, n) in enumerate((("a", 1), ("a", None), ("b", 4), ("c", None), ("a", 2)))]
    world = World(project, COLUMNS, rule, rows).run()
    assert sorted(world.rows("gold.m", "k", "rows", "far"), key=str) == [("a", 2, None), ("b", 1, None)]
    assert sorted(world.rejected("gold.m", "id")) == [(1, ["map"]), (3, ["map"])]
    assert all("rules/r0.lua:3" in reason["error"] for reason in world.reasons("gold.m"))


def test_a_throw_in_merge_stops_the_run_and_names_measure_and_line(project):
    rule = model('tumbling "1m"', """rows = count(), far = aggregate {
        state = { n = "int32" }, add = function(s, e) s.n = e.n end,
        merge = function(s, o)
            s.n = s.n + o.n end, result = function(s) return s.n end, type = "int32" }""")
    rows = [{"id": i, "k": "a", "at": at("10:00:00"), "n": 2000000000} for i in range(2)]
    World(project, COLUMNS, rule, rows)
    outcome = project.weir("run", "pipelines/p.lua", "--until-end")
    assert outcome.code == 1 and "far" in outcome.err and "gold.m" in outcome.err and "rules/r0.lua:4" in outcome.err, outcome


def test_a_state_kept_past_its_call_reads_as_nothing(project):
    rule = "local kept, seen\n" + model('tumbling "1m"', """rows = count(), far = aggregate {
        state = { n = "int32" }, add = function(s, e) s.n = e.n end,
        merge = function(s, o) kept = o; s.n = s.n + o.n end,
        result = function(s) return kept.n end, type = "int32" }""")
    rows = [{"id": i, "k": "a", "at": at("10:00:00"), "n": 7} for i in range(3)]
    world = World(project, COLUMNS, rule, rows).run()
    assert world.rows("gold.m", "rows", "far") == [(3, None)]


def test_a_restart_goes_on_and_other_functions_take_the_state_over(project):
    """The same state under new functions goes on; `result` changes between the runs."""
    rows = drawn(1000)
    text = model("count(400)", f"rows = count(), mean = {WEIGHTED}")
    world = World(project, COLUMNS, text, rows[:500], options=' commit = { every = "20ms" },')
    process = project.start("run", "pipelines/p.lua")
    try:
        wait_until(lambda: sum(value["rows"] for _, value in exported(project)) == 500)
        process.terminate()
        process.communicate(timeout=60)
    finally:
        process.kill()
    (key, value), = [entry for entry in exported(project) if entry[0]["k"] == "a"]
    assert value["mean"]["weight"] == sum(row["n"] for row in rows[:500] if row["k"] == "a" and row["n"] is not None and row["p"] is not None), (key, value)
    project.write("rules/r0.lua", text.replace("round(s.total / s.weight, 6)", "round(s.total / s.weight, 6) + 1"))
    world.feed(rows[500:], "b.jsonl")
    world.run()
    by_key = {}
    for row in rows:
        by_key.setdefault(row["k"], []).append(row)
    assert sorted(world.rows("gold.m", "k", "rows", "mean")) == sorted((k, len(members), weighted(members) + 1) for k, members in by_key.items())


def test_a_reload_goes_on_with_the_states(project):
    """States that were begun under one rule set are merged and ended under the next."""
    rows = drawn(1000)
    text = model('tumbling { size = "1h" }', f"rows = count(), mean = {WEIGHTED}")
    world = World(project, COLUMNS, text, rows[:500], options=' commit = { every = "20ms" },')

    def told(name):
        return project.weir("status", "pipelines/p.lua", "--json").json()[name]

    process = project.start("run", "pipelines/p.lua")
    try:
        wait_until(lambda: told("datasets")["gold.m"]["in"] == 500)
        before = told("rule_set")
        project.write("rules/r0.lua", text.replace("round(s.total / s.weight, 6)", "round(s.total / s.weight, 6) + 1"))
        wait_until(lambda: told("rule_set") not in (None, before))
        world.feed(rows[500:], "b.jsonl")
        wait_until(lambda: process.poll() is not None or told("datasets")["gold.m"]["in"] == 1000)
        process.terminate()
        process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()
    world.run()
    by_key = {}
    for row in rows:
        by_key.setdefault(row["k"], []).append(row)
    assert sorted(world.rows("gold.m", "k", "rows", "mean")) == sorted((k, len(members), weighted(members) + 1) for k, members in by_key.items())


def exported(project):
    done = project.weir("state", "export", "gold.m")
    return [(entry["key"], entry["value"]) for entry in map(json.loads, done.out.splitlines())] if done.code == 0 else []


@pytest.mark.parametrize("measure, text", [
    ("aggregate {}", "has 1 to 64 fields"), ('aggregate { state = { s = "string" } }', "numbers, truth values and times"),
    ('aggregate { state = { n = "int64" }, type = "int64" }', "has a function `add`"), ("aggregate(1)", "takes a table"),
    ('aggregate { state = { n = "int64" }, add = function(s, e) s.m = 1 end, merge = function(s, o) end, result = function(s) return 1 end, type = "int64" }', "`m`"),
    ('aggregate { state = { n = "int64" }, add = function(s, e) s.n = e.nope end, merge = function(s, o) end, result = function(s) return 1 end, type = "int64" }', "nope"),
    ('aggregate { state = { n = "int64" }, add = function(s, e) s.n = 1 end, merge = function(s, o) s.n = o.m end, result = function(s) return 1 end, type = "int64" }', "`m`"),
    ('aggregate { state = { n = "int64" }, add = function(s, e) s.n = 1 end, merge = function(s, o) end, result = function(s) return s.m end, type = "int64" }', "`m`"),
    ('aggregate { state = { n = "int64" }, add = function(s, e) s.n = 1 end, merge = function(s, o) end, result = function(s) return s.n end }', "says the type"),
])
def test_an_aggregate_that_cannot_be_is_refused(project, measure, text):
    outcome = World(project, COLUMNS, model('tumbling "1m"', f"far = {measure}")).check()
    assert outcome.code == 1 and text in outcome.out + outcome.err and "Traceback" not in outcome.err, outcome


def test_it_takes_nothing_back(project):
    first = 'return model "gold.k" { from = "bronze.row", by = { "k" }, measures = { n = sum "n" }, into = none }'
    second = model("", f"mean = {WEIGHTED}").replace("bronze.row", "gold.k").replace('time = { field = "at", out_of_order = "1m" },', "").replace("e.p", "e.n")
    outcome = World(project, COLUMNS, [first, second]).check()
    assert outcome.code == 1 and "cannot take back" in outcome.out + outcome.err, outcome
