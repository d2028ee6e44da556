"""Meanings of models: windows by event time, lateness, measures, derive, tests. One test a meaning."""

import datetime
import json
import random

import pytest

from language import D, World, assert_refused, at, moment, place

COLUMNS = {"id": "long!", "k": "string", "n": "int", "big": "long", "p": "decimal(12,2)", "d": "double", "at": "timestamp", "day": "date"}


def model(measures, window='tumbling "1m"', time='time = { field = "at" }', by='by = { "k" }', more="", name="gold.m"):
    return f'return model "{name}" {{ from = "bronze.row", {time}, {by + "," if by else ""} window = {window}, measures = {{ {measures} }}, {more} }}'


def data(*rows):
    """rows: (key, time, {fields})"""
    return [{"id": index, "k": key, "at": time and at(time), **(fields[0] if fields else {})} for index, (key, time, *fields) in enumerate(rows)]


def gold(project, rule, rows, *columns, name="gold.m"):
    world = World(project, COLUMNS, rule, rows).run()
    return sorted(world.rows(name, *columns), key=str), world


# --- windows ------------------------------------------------------------------------------------


def test_windows_include_their_start_and_exclude_their_end(project):
    rows = data(("a", "10:00:00"), ("a", "10:00:59.999999"), ("a", "10:01:00"))
    found, _ = gold(project, model("n = count()"), rows, "window_start", "window_end", "n")
    assert found == [(moment("10:00:00"), moment("10:01:00"), 2), (moment("10:01:00"), moment("10:02:00"), 1)]


def test_windows_are_aligned_to_utc(project):
    rows = [{"id": 1, "k": "a", "at": "2026-07-05T23:30:00+01:00"}, {"id": 2, "k": "a", "at": "1969-12-31T23:59:59Z"}]
    found, _ = gold(project, model("n = count()", 'tumbling "24h"', 'time = { field = "at", out_of_order = "30000d" }'), rows, "window_start")
    utc = datetime.timezone.utc
    assert found == [datetime.datetime(1969, 12, 31, tzinfo=utc), datetime.datetime(2026, 7, 5, tzinfo=utc)]


def test_until_end_closes_every_window(project):
    found, _ = gold(project, model("n = count()", 'tumbling { size = "1h", allowed_lateness = "10d" }'), data(("a", "10:00:00")), "n")
    assert found == [1]


def test_columns_are_by_then_the_window_then_measures_then_derives_as_written(project):
    rule = model("zeta = count(), alpha = sum \"n\"", by='by = { "n", "k" }',
                 more='derive = { { twice = function(m) return m.zeta * 2 end, type = "int64" }, { four = function(m) return m.twice * 2 end, type = "int64" } }')
    world = World(project, COLUMNS, rule, data(("a", "10:00:00", {"n": 3}))).run()
    assert world.table("gold.m").column_names == ["n", "k", "window_start", "window_end", "zeta", "alpha", "twice", "four"]
    assert world.rows("gold.m", "n", "k", "zeta", "alpha", "twice", "four") == [(3, "a", 1, 3, 2, 4)]


def test_without_by_there_is_one_group_a_window(project):
    found, _ = gold(project, model("n = count()", by=""), data(("a", "10:00:00"), ("b", "10:00:01"), (None, "10:01:01")), "n")
    assert found == [1, 2]


def test_null_is_a_by_key_of_its_own(project):
    found, _ = gold(project, model("n = count()"), data((None, "10:00:00"), ("a", "10:00:01"), (None, "10:00:02"), ("", "10:00:03")), "k", "n")
    assert found == sorted([(None, 2), ("a", 1), ("", 1)], key=str)


# --- hopping and cumulate ------------------------------------------------------------------------


def windows_of(kind, size, hop, time):
    """Starts and ends in microseconds of the windows a time lies in."""
    if kind == "hopping":
        start = time // hop * hop
        while start > time - size:
            yield start, start + size
            start -= hop
    else:
        start = time // size * size
        end = time // hop * hop + hop
        while end <= start + size:
            yield start, end
            end += hop


@pytest.mark.parametrize("kind, size, hop", [("hopping", 3600, 60), ("hopping", 60, 60), ("hopping", 90, 60), ("hopping", 600, 1), ("cumulate", 600, 60)])
def test_windows_that_overlap_equal_a_recount(project, kind, size, hop):
    draw = random.Random(f"{kind}{size}{hop}")
    rows, clock = [], 10 * 3600.0
    for _ in range(400):
        clock += draw.choice([0, 0.25, 1, 7, 40])
        seconds = clock - draw.choice([0, 0, 0, 5, 50, 500])
        text = f"{int(seconds) // 3600:02}:{int(seconds) % 3600 // 60:02}:{seconds % 60:09.6f}"
        rows.append((draw.choice("abc"), text, {"n": draw.choice([None, *range(9)]), "p": f"{draw.randrange(900) / 100:.2f}"}))
    step = "every" if kind == "hopping" else "step"
    window = f'{kind} {{ size = "{size}s", {step} = "{hop}s", allowed_lateness = "20s", late = "quarantine.late" }}'
    measures = 'rows = count(), n = sum "n", p = sum "p", top = max "n", kinds = distinct "n"'
    found, world = gold(project, model(measures, window), data(*rows), "k", "window_start", "window_end", "rows", "n", "p", "top", "kinds")
    groups, late, watermark = {}, 0, None
    for key, text, fields in rows:
        time = int(moment(text).timestamp() * 1_000_000)
        is_late = False
        for start, end in windows_of(kind, size * 1_000_000, hop * 1_000_000, time):
            if watermark is not None and end + 20_000_000 <= watermark:
                is_late = True
            else:
                groups.setdefault((key, start, end), []).append(fields)
        late += is_late
        watermark = time if watermark is None else max(watermark, time)

    def instant(us):
        return datetime.datetime.fromtimestamp(us / 1_000_000, datetime.timezone.utc)

    wanted = []
    for (key, start, end), members in groups.items():
        numbers = [member["n"] for member in members if member["n"] is not None]
        wanted.append((key, instant(start), instant(end), len(members), sum(numbers) if numbers else None,
                       sum(D(member["p"]) for member in members), max(numbers, default=None), len(set(numbers))))
    assert found == sorted(wanted, key=str)
    assert len(world.rows("quarantine.late", "id")) == late > 0


@pytest.mark.parametrize("window, texts", [
    ('hopping { size = "1m" }', ("every",)), ('hopping { size = "1m", every = "2m" }', ("every", "not longer than size")),
    ('hopping { size = "1m", every = "0s" }', ("every",)), ('cumulate { size = "1m", step = "7s" }', ("steps divide the size",)),
    ('hopping { size = "1m", step = "1s" }', ("hopping has no option `step`",))])
def test_windows_that_cannot_be_are_refused(project, window, texts):
    outcome = World(project, COLUMNS, model("n = count()", window)).check()
    assert outcome.code == 1 and all(text in outcome.out + outcome.err for text in texts), outcome


# --- lateness -----------------------------------------------------------------------------------

LATE = 'tumbling { size = "1m", allowed_lateness = "30s", late = "quarantine.late" }'


@pytest.mark.parametrize("ahead, late", [("10:01:29.999999", False), ("10:01:30", True), ("10:01:31", True)])
def test_a_row_is_late_when_window_end_plus_lateness_is_at_or_before_the_watermark(project, ahead, late):
    rows = data(("a", "10:00:00"), ("b", ahead), ("a", "10:00:59"))
    found, world = gold(project, model("n = count()", LATE), rows, "k", "n")
    assert found == [("a", 1 if late else 2), ("b", 1)]
    assert world.counts("gold.m")["late"] == (1 if late else 0)


def test_the_watermark_before_a_row_is_of_the_rows_before_it(project):
    """A row that itself moves the watermark is not late by that."""
    found, world = gold(project, model("n = count()", LATE), data(("a", "10:00:00"), ("a", "10:10:00"), ("a", "10:20:00")), "n")
    assert found == [1, 1, 1] and world.counts("gold.m")["late"] == 0


def test_out_of_order_holds_the_watermark_back(project):
    rows = data(("a", "10:00:00"), ("b", "10:01:34"), ("a", "10:00:59"))
    found, _ = gold(project, model("n = count()", LATE, 'time = { field = "at", out_of_order = "5s" }'), rows, "k", "n")
    assert found == [("a", 2), ("b", 1)]


def test_a_late_dataset_holds_the_models_input_columns(project):
    rows = data(("a", "10:00:00"), ("b", "10:05:00"), ("late", "10:00:59", {"n": 5}))
    _, world = gold(project, model("n = count()", LATE), rows, "n")
    table = world.table("quarantine.late")
    assert [name for name in table.column_names if not name.startswith("_")] == list(COLUMNS)
    assert world.rows("quarantine.late", "id", "k", "n") == [(2, "late", 5)]


def test_late_rows_without_a_dataset_are_counted_and_left_out(project):
    rows = data(("a", "10:00:00"), ("b", "10:05:00"), ("late", "10:00:59"))
    found, world = gold(project, model("n = count()"), rows, "k")
    assert found == ["a", "b"] and world.counts("gold.m")["late"] == 1


def test_every_row_with_a_time_moves_the_watermark_before_where(project):
    rows = data(("a", "10:00:00"), ("skip", "10:05:00"), ("a", "10:00:59"))
    rule = model("n = count()", LATE, more='where = function(e) return e.k ~= "skip" end')
    found, world = gold(project, rule, rows, "k", "n")
    assert found == [("a", 1)] and world.counts("gold.m")["late"] == 1


def test_rows_quarantined_upstream_moved_the_watermark_of_the_stream_that_declares_time(project):
    rules = ['return stream "silver.x" { from = "bronze.row", time = { field = "at" }, expectations = { expect "k" { one_of("k", { "a" }) } } }',
             f'return model "gold.m" {{ from = "silver.x", by = "k", window = {LATE}, measures = {{ n = count() }} }}']
    rows = data(("a", "10:00:00"), ("skip", "10:05:00"), ("a", "10:00:59"))
    found, world = gold(project, rules, rows, "k", "n")
    assert found == [("a", 1)] and world.counts("gold.m")["late"] == 1


def test_a_null_time_in_a_model_goes_to_its_quarantine(project):
    found, world = gold(project, model("n = count()"), data(("a", None), ("a", "10:00:00")), "n")
    assert found == [1] and world.rejected("gold.m", "id") == [(0, ["time"])]


def test_files_are_one_partition_in_name_order(project):
    world = World(project, COLUMNS, model("n = count()", LATE), data(("a", "10:05:00")))
    world.feed([{"id": 9, "k": "b", "at": at("10:00:00")}], "b.jsonl")
    world.run()
    assert world.rows("gold.m", "k") == ["a"] and world.counts("gold.m")["late"] == 1


def test_event_time_lives_on_when_its_column_is_dropped(project):
    rules = ['return stream "silver.x" { from = "bronze.row", time = { field = "at" }, drop = { "at" } }',
             'return model "gold.m" { from = "silver.x", window = tumbling "1m", measures = { n = count() } }']
    found, _ = gold(project, rules, data(("a", "10:00:00"), ("a", "10:01:00")), "window_start", "n")
    assert found == [(moment("10:00:00"), 1), (moment("10:01:00"), 1)]


def test_time_is_read_as_the_row_enters(project):
    rules = ['return stream "silver.x" { from = "bronze.row", time = { field = "at" }, columns = { at = "timestamp" }, '
             'map = function(e, out) out.at = e.at + days(1) end }',
             'return model "gold.m" { from = "silver.x", window = tumbling "1m", measures = { n = count(), at = max "at" } }']
    found, _ = gold(project, rules, data(("a", "10:00:00")), "window_start", "at")
    assert found == [(moment("10:00:00"), moment("10:00:00") + datetime.timedelta(days=1))]


def test_a_windows_row_has_event_time_window_end_less_a_microsecond_for_the_next_model(project):
    rules = [model("n = count()"), 'return model "gold.hour" { from = "gold.m", window = tumbling "1h", measures = { n = sum "n", windows = count() } }']
    rows = data(("a", "10:58:00"), ("a", "10:59:59"), ("a", "11:00:00"))
    found, _ = gold(project, rules, rows, "window_start", "n", "windows", name="gold.hour")
    assert found == [(moment("10:00:00"), 2, 2), (moment("11:00:00"), 1, 1)]


# --- measures -----------------------------------------------------------------------------------


def types_of(world, name="gold.m"):
    return {field.name: str(field.type) for field in world.table(name).schema}


def test_measures_over_ints_decimals_and_doubles_have_their_types(project):
    rule = model('c = count(), ci = count "n", si = sum "n", sb = sum "big", sp = sum "p", sd = sum "d", ai = avg "n", ap = avg "p", ad = avg "d", '
                 'mn = min "n", mx = max "p", mt = max "at", md = min "day", mk = min "k", dk = distinct "k"')
    rows = data(("a", "10:00:00", {"n": 1, "big": 5, "p": "1.10", "d": 0.5, "day": "2026-01-05"}),
                ("a", "10:00:01", {"n": 2, "big": 6, "p": "2.15", "d": 0.25, "day": "2026-01-04"}))
    _, world = gold(project, rule, rows, "c")
    kinds = types_of(world)
    assert {name: kinds[name] for name in ("c", "ci", "si", "sb", "dk")} == dict.fromkeys(("c", "ci", "si", "sb", "dk"), "int64")
    assert kinds["sp"] == "decimal128(38, 2)" and kinds["ai"] == "decimal128(38, 6)" and kinds["ap"] == "decimal128(38, 6)"
    assert kinds["sd"] == kinds["ad"] == "double" and kinds["mn"] == "int32" and kinds["mx"] == "decimal128(12, 2)"
    row = world.table("gold.m").to_pylist()[0]
    assert (row["c"], row["ci"], row["si"], row["sb"], row["sp"], row["sd"]) == (2, 2, 3, 11, D("3.25"), 0.75)
    assert (row["ai"], row["ap"], row["ad"]) == (D("1.500000"), D("1.625000"), 0.375)
    assert (row["mn"], row["mx"], row["mt"], row["md"], row["mk"], row["dk"]) == (
        1, D("2.15"), moment("10:00:01"), datetime.date(2026, 1, 4), "a", 1)


def test_aggregates_ignore_nulls_and_of_nothing_are_null_but_count_and_distinct_zero(project):
    rule = model('c = count "n", rows = count(), s = sum "n", a = avg "p", mn = min "d", mx = max "k", dn = distinct "n"', by="")
    rows = data((None, "10:00:00"), (None, "10:01:00", {"n": 4, "p": "1.00", "d": 1.5}), ("x", "10:01:01"))
    found, _ = gold(project, rule, rows, "rows", "c", "s", "a", "mn", "mx", "dn")
    assert found == [(1, 0, None, None, None, None, 0), (2, 1, 4, D("1.000000"), 1.5, "x", 1)]


def test_every_measure_takes_where(project):
    where = "where = function(e) return e.n > 1 end"
    rule = model(f'c = count {{ {where} }}, cn = count("n", {{ {where} }}), s = sum("n", {{ {where} }}), a = avg("n", {{ {where} }}), '
                 f'mn = min("n", {{ {where} }}), mx = max("n", {{ {where} }}), dn = distinct("n", {{ {where} }})')
    rows = data(("a", "10:00:00", {"n": 1}), ("a", "10:00:01", {"n": 2}), ("a", "10:00:02", {"n": 4}), ("a", "10:00:03"))
    found, _ = gold(project, rule, rows, "c", "cn", "s", "a", "mn", "mx", "dn")
    assert found in ([(2, 2, 6, D("3.000000"), 2, 4, 2)],)


def test_a_sum_of_a_function_says_its_type(project):
    rule = model('revenue = sum(function(e) return e.p * e.n end, "decimal(18,4)")')
    rows = data(("a", "10:00:00", {"n": 2, "p": "1.25"}), ("a", "10:00:01", {"n": 3, "p": "0.10"}))
    found, world = gold(project, rule, rows, "revenue")
    assert found == [D("2.8000")] and types_of(world)["revenue"] == "decimal128(38, 4)"


def test_distinct_is_exact(project):
    rows = data(*[("a", "10:00:00", {"n": index % 1000}) for index in range(3000)])
    found, _ = gold(project, model('d = distinct "n"'), rows, "d")
    assert found == [1000]


def test_double_sums_are_added_in_row_order(project):
    numbers = [1e16, 1.0, -1e16, 0.1, 0.2, 0.3]
    rows = data(*[("a", "10:00:00", {"d": number}) for number in numbers])
    total = 0.0
    for number in numbers:
        total += number
    found, _ = gold(project, model('s = sum "d"'), rows, "s")
    assert found == [total]


def test_an_int64_sum_that_ends_out_of_range_fails_as_fail_does(project):
    rows = data(("a", "10:00:00", {"big": 9223372036854775807}), ("a", "10:00:01", {"big": 1}))
    World(project, COLUMNS, model('s = sum "big"'), rows)
    outcome = project.run("pipelines/p.lua", code=1)
    assert "gold.m: the window that begins at 2026-01-05T10:00:00Z: measure 's'" in outcome.err


def test_a_sum_out_of_range_on_the_way_may_come_back(project):
    rows = data(("a", "10:00:00", {"big": 9223372036854775807}), ("a", "10:00:01", {"big": 1}), ("a", "10:00:02", {"big": -1}))
    found, _ = gold(project, model('s = sum "big"'), rows, "s")
    assert found == [9223372036854775807]


def test_min_and_max_of_texts_go_by_bytes(project):
    rows = data(*[("a", "10:00:00", {}), ("a", "10:00:01")])
    rows = [{"id": index, "k": text, "at": at("10:00:00")} for index, text in enumerate(["b", "é", "Z", "a"])]
    found, _ = gold(project, model('mn = min "k", mx = max "k"', by=""), rows, "mn", "mx")
    assert found == [("Z", "é")]


# --- derive and tests ---------------------------------------------------------------------------


def test_a_derive_divides_exactly_and_later_ones_see_earlier_ones(project):
    rule = model('revenue = sum "p", units = sum "n"', more='derive = { { mean = function(m) return m.revenue / m.units end, type = "decimal(14,4)" }, '
                                                            '{ label = function(m) return m.k .. ":" .. m.mean end, type = "string" } }')
    rows = data(("a", "10:00:00", {"n": 3, "p": "10.00"}))
    found, _ = gold(project, rule, rows, "mean", "label")
    assert found[0][0] == D("3.3333") and found[0][1] == "a:3.3333"


def test_a_derive_that_throws_gives_null_and_is_counted(project):
    rule = model('units = sum "n"', more='derive = { { mean = function(m) return decimal "1" / m.units end, type = "decimal(14,4)" } }')
    found, world = gold(project, rule, data(("a", "10:00:00", {"n": 0}), ("b", "10:00:00", {"n": 2})), "k", "mean")
    assert found == [("a", None), ("b", D("0.5000"))]
    assert world.counts("gold.m")["derive_errors"] == 1


def test_a_derive_sees_the_window(project):
    rule = model("n = count()", more='derive = { { minutes = function(m) return (m.window_end - m.window_start) == minutes(1) end, type = "bool" } }')
    found, _ = gold(project, rule, data(("a", "10:00:00")), "minutes")
    assert found == [True]


def test_tests_judge_the_rows_that_leave(project):
    rule = model('s = sum "n"', more="""tests = { expect "has units" { not_null "s" }, expect "few" { between("s", 0, 5), on_violation = "warn" },
      expect "told" { function(m) return m.s ~= nil or error("no sum", 0) end } }""")
    found, world = gold(project, rule, data(("a", "10:00:00"), ("b", "10:00:00", {"n": 9})), "k", "s")
    assert found == [("b", 9)] and world.counts("gold.m")["rejected"] == {"has units": 1, "told": 1} and world.counts("gold.m")["warned"] == {"few": 1}
    row = world.table("quarantine.gold.m").to_pylist()[0]  # no row entered as it stands: the one that would have left is kept as text
    assert json.loads(row["_raw"])["k"] == "a" and row["k"] is None and row["_topic"] is None
    assert row["_reasons"] == [{"expectation": "has units", "error": None}, {"expectation": "told", "error": "no sum"}]


def test_unique_over_group_and_window_holds_by_construction_and_explain_says_so(project):
    World(project, COLUMNS, model("n = count()", more='tests = { unique { "k", "window_start" } }'))
    outcome = project.weir("explain", "gold.m")
    assert outcome.code == 0 and "unique" in outcome.out and "by construction" in outcome.out, outcome


def test_unique_over_less_is_refused_with_the_reason(project):
    rule = model("n = count()", more='tests = { unique { "k" } }')
    assert_refused(World(project, COLUMNS, rule), place(rule, "unique"), "`window_start`", line="unique")


def test_expectations_and_dedup_of_a_model_judge_what_it_reads(project):
    rule = model("n = count()", more='expectations = { expect "n" { not_null "n" } }, dedup = { by = "n", within = "1h" }')
    rows = data(("a", "10:00:00", {"n": 1}), ("a", "10:00:01", {"n": 1}), ("a", "10:00:02"), ("a", "10:00:03", {"n": 2}))
    found, world = gold(project, rule, rows, "n")
    assert found == [2] and world.counts("gold.m")["duplicates"] == 1 and world.rejected("gold.m", "id") == [(2, ["n"])]


def test_quality_attaches_to_a_model(project):
    rules = [model('s = sum "n"'), 'return quality "gold.m" { expect "q" { not_null "s" } }']
    found, world = gold(project, rules, data(("a", "10:00:00"), ("b", "10:00:00", {"n": 9})), "k")
    assert found == ["b"] and world.counts("gold.m")["rejected"] == {"q": 1}


def test_windows_close_as_time_goes_on_and_write_one_row_each(project):
    rows = data(*[("a", f"10:{index // 60:02d}:{index % 60:02d}", {"n": index}) for index in range(300)])
    found, _ = gold(project, model('c = count(), s = sum "n"'), rows, "window_start", "c", "s")
    assert found == [(moment(f"10:0{m}:00"), 60, sum(range(60 * m, 60 * m + 60))) for m in range(5)]


def test_a_window_goes_on_over_a_restart(project):
    world = World(project, COLUMNS, 'return stream "silver.x" { from = "bronze.row", time = { field = "at" }, dedup = { by = "k", within = "1h" } }',
                  data(("a", "10:00:00")))
    world.run()
    world.feed(data(("a", "10:00:30"), ("b", "10:00:31")), "b.jsonl")
    world.run()
    assert sorted(world.rows("silver.x", "k")) == ["a", "b"]


@pytest.mark.parametrize("every", ["20ms", "1s"])
def test_replay_gives_the_same_outputs_and_state(project, every):
    rows = data(*[("ab"[index % 2], f"10:{index // 60:02d}:{index % 60:02d}", {"n": index, "d": index / 7}) for index in range(600)])
    world = World(project, COLUMNS, model('c = count(), s = sum "n", d = sum "d", u = distinct "n"'), rows)
    world.run("--set", f"commit.every={every}")
    for epoch in range(1, world.summary["epochs"] + 1):
        outcome = project.weir("replay", "pipelines/p.lua", "--epoch", str(epoch), "--set", f"commit.every={every}")
        assert outcome.code == 0 and "other rules" not in outcome.out, outcome


@pytest.mark.parametrize("window, counted", [
    ('tumbling "10s"', lambda second: 1), ('hopping { size = "10s", every = "2s" }', lambda second: 5),
    ('cumulate { size = "10s", step = "2s" }', lambda second: 5 - second % 10 // 2)])
def test_replay_agrees_where_windows_leave_in_many_slices(project, window, counted):
    rows = data(*[(f"k{index % 1700}", f"10:{second // 60:02d}:{second % 60:02d}", {"n": index})
                  for second in range(0, 62, 4) for index in range(1700)])
    world = World(project, COLUMNS, model('c = count(), s = sum "n", u = distinct "n"', window=window), rows)
    world.run("--set", "commit.every=200ms")
    assert sum(world.rows("gold.m", "c")) == 1700 * sum(counted(second) for second in range(0, 62, 4))
    for epoch in range(1, world.summary["epochs"] + 1):
        outcome = project.weir("replay", "pipelines/p.lua", "--epoch", str(epoch), "--set", "commit.every=200ms")
        assert outcome.code == 0 and "other rules" not in outcome.out, outcome
    assert world.summary["figures"]["turn_max_us"] >= world.summary["figures"]["turn_max_cpu_us"] // 2 > 0


@pytest.mark.parametrize("kind, texts, groups", [
    ("bool", ["true", "false", "true", "null"], 3), ("long", ["9007199254740993", "9007199254740992", "9007199254740993"], 2),
    ("decimal(12,2)", ["1.10", "1.1", "\"1.10\"", "1.11"], 2), ("decimal(38,4)", ["12345678901234567890.1", "12345678901234567890.1000", "null"], 2),
    ("double", ["0.5", "5e-1", "0.25"], 2), ("timestamp", ["\"2026-01-05T10:00:00Z\"", "\"2026-01-05T11:00:00+01:00\""], 1),
    ("date", ["\"2026-01-05\"", "\"2026-01-06\""], 2), ("string", ["\"\"", "null", "\"a\"", "\"\\u0061\""], 3), ("bytes", ["\"AA==\"", "\"AAA=\"", "\"AA==\""], 2),
])
def test_every_plain_type_is_a_key_of_groups_of_distinct_and_of_dedup(project, kind, texts, groups):
    rules = ['return model "gold.m" { from = "bronze.row", time = { field = "at" }, by = "v", window = tumbling "1h", measures = { n = count() } }',
             'return model "gold.d" { from = "bronze.row", time = { field = "at" }, window = tumbling "1h", measures = { d = distinct "v", n = count "v" } }',
             'return stream "silver.x" { from = "bronze.row", time = { field = "at" }, dedup = { by = "v", within = "1h" } }']
    lines = [f'{{"at":"2026-01-05T10:00:00Z","v":{text}}}' for text in texts]
    world = World(project, {"at": "timestamp!", "v": kind}, rules, lines).run()
    nulls = texts.count("null")
    assert len(world.rows("gold.m", "v")) == groups and sum(world.rows("gold.m", "n")) == len(texts)
    assert world.rows("gold.d", "d", "n") == [(groups - (nulls > 0), len(texts) - nulls)]
    assert len(world.rows("silver.x", "v")) == groups


def test_a_stream_reads_a_model_and_a_model_reads_that(project):
    rules = [model("n = count()"), 'return stream "silver.busy" { from = "gold.m", where = function(e) return e.n > 1 end, '
                                   'columns = { label = "string" }, map = function(e, out) out.label = e.k .. "@" .. tostring(e.window_start) end }',
             'return model "gold.hour" { from = "silver.busy", window = tumbling "1h", measures = { windows = count(), n = sum "n" } }']
    rows = data(("a", "10:00:00"), ("a", "10:00:01"), ("a", "10:01:00"), ("a", "10:02:00"), ("a", "10:02:01"), ("a", "10:02:02"))
    found, world = gold(project, rules, rows, "windows", "n", name="gold.hour")
    assert found == [(2, 5)]
    assert sorted(world.rows("silver.busy", "label")) == ["a@2026-01-05T10:00:00Z", "a@2026-01-05T10:02:00Z"]


def test_groups_stay_apart_across_many_keys_and_windows(project):
    rows = [{"id": i, "k": f"k{i % 701}", "n": i, "at": at(f"10:{i // 1000:02d}:{i % 60:02d}")} for i in range(6000)]
    found, _ = gold(project, model('c = count(), s = sum "n"', time='time = { field = "at", out_of_order = "2m" }'), rows, "k", "window_start", "c", "s")
    wanted = {}
    for row in rows:
        key = (row["k"], row["id"] // 1000)
        c, total = wanted.get(key, (0, 0))
        wanted[key] = (c + 1, total + row["n"])
    assert {(k, start.minute): (c, total) for k, start, c, total in found} == wanted
