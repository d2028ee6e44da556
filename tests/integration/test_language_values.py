"""Meanings of values: exact integers and decimals, times and zones, texts, lists, what a function may use. One test a meaning."""

import datetime

import pytest

from language import D, World, assert_refused, at, moment, place

COLUMNS = {"id": "long!", "a": "long", "b": "long", "p": "decimal(12,2)", "q": "decimal(12,2)", "big": "decimal(38,0)", "d": "double", "i": "int",
           "s": "string", "at": "timestamp", "until_at": "timestamp", "day": "date", "ok": "bool",
           "items": ["null", {"type": "array", "items": ["null", "int"]}],
           "attrs": ["null", {"type": "map", "values": "string"}],
           "line": ["null", {"type": "record", "name": "line", "fields": [{"name": "sku", "type": ["null", "string"]}, {"name": "qty", "type": ["null", "int"]}]}],
           "end": "string"}
ROW = {"id": 1, "a": 7, "b": 2, "p": "10.25", "q": "3.00", "big": "12345678901234567890123456789012345678", "d": 0.5, "i": 3, "s": "abc",
       "at": at("10:00:30"), "until_at": at("11:30:30"), "day": "2026-01-05", "ok": True, "items": [1, None, 3], "attrs": {"k": "v"},
       "line": {"sku": "x", "qty": 4}, "end": "odd"}


def evaluate(project, expressions, row=None, options=""):
    """Each (type, expression over e) as a column; the row's values, and what went to quarantine."""
    columns = ", ".join(f'c{index} = "{kind}"' for index, (kind, _) in enumerate(expressions))
    body = " ".join(f"out.c{index} = {text}" for index, (_, text) in enumerate(expressions))
    rule = f'return stream "silver.x" {{ from = "bronze.row", columns = {{ {columns} }}, map = function(e, out) {body} end }}'
    world = World(project, COLUMNS, rule, [{**ROW, **(row or {})}], options).run()
    values = [world.rows("silver.x", f"c{index}") for index in range(len(expressions))]
    return [value[0] if value else None for value in values], world


def values(project, *expressions, row=None, options=""):
    found, world = evaluate(project, expressions, row, options)
    assert world.counts("silver.x")["out"] == 1, world.reasons("silver.x")
    return found


def throws(project, kind, text, row=None):
    """The text of the reason `map`."""
    _, world = evaluate(project, [(kind, text)], row)
    assert world.counts("silver.x")["rejected"] == {"map": 1}, world.summary
    return world.reasons("silver.x")[0]["error"]


def truths(project, *conditions, row=None):
    return values(project, *[("bool", text) for text in conditions], row=row)


# --- int64 --------------------------------------------------------------------------------------


def test_int64_is_exact_at_its_edges(project):
    row = {"a": 9223372036854775806, "b": -9223372036854775808}
    assert values(project, ("int64", "e.a + 1"), ("int64", "e.b + 1"), ("int64", "e.a - 1"), ("string", '"" .. e.b'), row=row) == [
        9223372036854775807, -9223372036854775807, 9223372036854775805, "-9223372036854775808"]


@pytest.mark.parametrize("text", ["e.a + 1", "e.a * 2", "-e.b", "e.b - 1"])
def test_int64_overflow_throws(project, text):
    assert "overflow" in throws(project, "int64", text, {"a": 9223372036854775807, "b": -9223372036854775808})


def test_int64_times_a_fraction_is_a_decimal(project):
    assert values(project, ("decimal(18,2)", "e.a * 0.5"), ("decimal(18,1)", "5 * e.b * 0.1")) == [D("3.50"), D("1.0")]


def test_a_whole_literal_keeps_an_int64_an_int64(project):
    assert values(project, ("string", "type(e.a * 2)"), ("string", "type(e.a * 2.5)"), ("int64", "e.a * 2 - 1")) == ["int64", "decimal", 13]


def test_division_of_int64_gives_a_decimal_of_scale_six_half_even(project):
    assert values(project, ("decimal(18,6)", "e.a / e.b"), ("string", '"" .. e.a / 3'), ("decimal(18,6)", "e.b / 3")) == [
        D("3.500000"), "2.333333", D("0.666667")]


def test_modulo_and_idiv_are_exact(project):
    row = {"a": 9223372036854775807, "b": -7}
    assert values(project, ("int64", "e.a % 10"), ("int64", "idiv(e.a, 10)"), ("int64", "idiv(e.b, 2)"), ("int64", "(e.a - e.a % 10) / 10"), row=row) == [
        7, 922337203685477580, -3, 922337203685477580]


def test_comparison_with_literals_is_exact(project):
    row = {"a": 9007199254740993}
    assert truths(project, 'e.a == decimal "9007199254740993"', "e.a == 9007199254740992", "e.a > 9007199254740992", "e.a ~= 2.5", "e.b < 2.5", "e.b == 2",
                  row=row) == [True, False, True, True, True, True]


@pytest.mark.parametrize("literal", ["9007199254740993", "0.12345678901234567890123"])
def test_a_literal_lua_cannot_hold_exactly_is_refused(project, literal):
    rule = f'return stream "silver.x" {{ from = "bronze.row", where = function(e) return e.a == {literal} end }}'
    assert_refused(World(project, COLUMNS, rule), place(rule, literal), literal, "decimal", line=literal)


def test_division_by_zero_throws(project):
    assert "zero" in throws(project, "decimal(18,6)", "e.a / e.b", {"b": 0})


# --- decimals -----------------------------------------------------------------------------------


def test_decimals_are_exact(project):
    assert values(project, ("decimal(14,2)", "e.p + e.q"), ("decimal(14,2)", "e.p - e.q"), ("decimal(26,4)", "e.p * e.q"), ("decimal(18,2)", "-e.p")) == [
        D("13.25"), D("7.25"), D("30.7500"), D("-10.25")]


def test_a_literal_counts_as_the_decimal_written(project):
    assert values(project, ("decimal(18,4)", "e.p * 0.1"), ("decimal(18,4)", "e.p + 0.1 + 0.2"), ("bool", "e.p == 10.25"), ("bool", "e.p - 0.05 == 10.2")) == [
        D("1.0250"), D("10.5500"), True, True]


def test_division_scale_is_at_least_six_half_even(project):
    assert values(project, ("string", '"" .. e.p / e.q'), ("string", '"" .. e.q / 7')) == ["3.416667", "0.428571"]


def test_round_is_half_even(project):
    row = {"p": "2.50", "q": "3.50"}
    assert values(project, ("decimal(12,0)", "round(e.p, 0)"), ("decimal(12,0)", "round(e.q, 0)"), ("decimal(12,1)", 'round(decimal "0.25", 1)'),
                  ("decimal(12,1)", 'round(decimal "0.35", 1)'), ("decimal(12,0)", "round(-e.p, 0)"), row=row) == [D(2), D(4), D("0.2"), D("0.4"), D(-2)]


def test_a_decimal_assigned_to_a_smaller_scale_is_rounded_once_half_even(project):
    assert values(project, ("decimal(12,1)", "e.p * 1"), ("decimal(12,0)", 'decimal "0.5"'), ("decimal(12,0)", 'decimal "2.4999"'), row={"p": "0.25"}) == [
        D("0.2"), D("0"), D("2")]


@pytest.mark.parametrize("kind, text", [
    ("decimal(4,2)", "e.p * 10"), ("int32", "e.a * 1"), ("int8", "e.i"), ("int64", "e.p * 1"), ("decimal(38,0)", "e.big * 10"), ("int64", "e.big * 1"),
])
def test_a_value_outside_its_columns_type_throws(project, kind, text):
    assert throws(project, kind, text, {"a": 1 << 40, "i": 300, "p": "10.25"})


def test_decimals_of_38_digits_stay_exact(project):
    assert values(project, ("decimal(38,0)", "e.big - 1"), ("string", '"" .. e.big')) == [
        D("12345678901234567890123456789012345677"), "12345678901234567890123456789012345678"]


def test_explain_says_what_wide_decimals_cost(project):
    _, world = evaluate(project, [("decimal(38,0)", "e.big")])
    outcome = world.project.weir("explain", "silver.x")
    assert outcome.code == 0 and "18 digits" in outcome.out, outcome


def test_equality_with_nil_works(project):
    assert truths(project, "e.a == nil", "e.p == nil", "e.at == nil", "e.b ~= nil", "e.q ~= nil", row={"a": None, "p": None, "at": None}) == [True] * 5


def test_key_makes_values_table_keys(project):
    rule = """local names = { [key(decimal "10.25")] = "ten" }
return stream "silver.x" { from = "bronze.row", columns = { c = "string", k = "bool" }, map = function(e, out)
  out.c = names[key(e.p)] out.k = key(e.a) == key(e.a + 0) and key(e.a) ~= key(e.a - 1) end }"""
    world = World(project, COLUMNS, rule, [{**ROW, "a": 9007199254740993}]).run()
    assert world.rows("silver.x", "c", "k") == [("ten", True)]


def test_arithmetic_with_null_throws_and_names_the_reason_map(project):
    assert throws(project, "int64", "e.a + 1", {"a": None})


# --- small numbers, doubles, texts --------------------------------------------------------------


def test_small_numbers_and_doubles_are_luas_own(project):
    assert values(project, ("double", "e.i / 2"), ("double", "e.d * 3"), ("string", "type(e.i)"), ("string", "type(e.d)"), ("int32", "e.i * 2"), ("bool", "not e.ok")) == [
        1.5, 1.5, "number", "number", 6, False]


def test_texts_join_and_print_digits(project):
    assert values(project, ("string", 'e.s .. "-" .. e.a .. "-" .. e.p .. "-" .. e.i'), ("int32", "#e.s"), ("string", "e.s:upper()"), ("string", "string.sub(e.s, 2)")) == [
        "abc-7-10.25-3", 3, "ABC", "bc"]


# --- times --------------------------------------------------------------------------------------


def test_a_difference_of_times_is_a_duration(project):
    assert truths(project, "e.until_at - e.at == hours(1) + minutes(30)", 'e.until_at - e.at == "90m"', 'e.until_at - e.at > "89m"',
                  "e.until_at - e.at < hours(2)", "e.until_at - e.at == seconds(5400)", 'type(e.until_at - e.at) == "duration"') == [True] * 6


def test_times_move_by_durations(project):
    assert values(project, ("timestamp", "e.at + days(28)"), ("timestamp", "e.at - hours(2)"), ("timestamp", "e.at + minutes(1) + seconds(1)"), ("bool", "e.at < e.until_at")) == [
        moment("10:00:30") + datetime.timedelta(days=28), moment("08:00:30"), moment("10:01:31"), True]


def test_date_hour_minute_and_trunc_take_a_zone(project):
    row = {"at": "2026-07-05T23:30:15Z"}
    assert values(project, ("date", "date(e.at)"), ("date", 'date(e.at, "Europe/London")'), ("int32", 'hour(e.at, "Europe/London")'), ("int32", "hour(e.at)"),
                  ("int32", "minute(e.at)"), ("timestamp", 'trunc(e.at, "10s")'), row=row) == [
        datetime.date(2026, 7, 5), datetime.date(2026, 7, 6), 0, 23, 30, datetime.datetime(2026, 7, 5, 23, 30, 10, tzinfo=datetime.timezone.utc)]


def test_the_pipelines_time_zone_is_the_default_of_date_and_hour(project):
    row = {"at": "2026-07-05T23:30:15Z"}
    assert values(project, ("date", "date(e.at)"), ("int32", "hour(e.at)"), ("int32", 'hour(e.at, "UTC")'), row=row, options='\n  time_zone = "Europe/London",') == [
        datetime.date(2026, 7, 6), 0, 23]


def test_format_takes_a_pattern_and_a_zone(project):
    row = {"at": "2026-07-05T23:30:15Z"}
    assert values(project, ("string", 'format(e.at, "%H:%M")'), ("string", 'format(e.at, "%H:%M", "Europe/London")'), ("string", 'format(e.at, "%Y-%m-%d")'), row=row) == [
        "23:30", "00:30", "2026-07-05"]


def test_tostring_of_a_time_is_iso_8601_utc(project):
    assert values(project, ("string", "tostring(e.at)"), ("string", "tostring(e.day)")) == ["2026-01-05T10:00:30Z", "2026-01-05"]


def test_now_is_recorded(project):
    _, world = evaluate(project, [("timestamp", "now()"), ("timestamp", "now()")])
    assert project.weir("replay", "pipelines/p.lua", "--epoch", "1").code == 0
    first, second = world.rows("silver.x", "c0", "c1")[0]
    assert first == second and abs(first - datetime.datetime.now(datetime.timezone.utc)) < datetime.timedelta(hours=1)


# --- nested and odd -----------------------------------------------------------------------------


def test_lists_have_length_elements_and_ipairs(project):
    rule = """return stream "silver.x" { from = "bronze.row", columns = { n = "int32", first = "int32", sum = "int32" }, map = function(e, out)
  local sum = 0
  for _, item in ipairs(e.items) do sum = sum + (item or 100) end
  out.n = #e.items out.first = e.items[1] out.sum = sum
end }"""
    world = World(project, COLUMNS, rule, [ROW]).run()
    assert world.rows("silver.x", "n", "first", "sum") == [(3, 1, 104)]


def test_maps_structs_and_odd_names(project):
    assert values(project, ("string", 'e.attrs["k"]'), ("bool", 'e.attrs["none"] == nil'), ("string", "e.line.sku"), ("int32", "e.line.qty"), ("string", 'e["end"]')) == [
        "v", True, "x", 4, "odd"]


@pytest.mark.parametrize("text", ["io.open", "os.time", "debug.getinfo", "ffi", "dofile", "loadstring", "setmetatable", "rawset", "xpcall", "collectgarbage", "_G",
                                  "coroutine.wrap", "jit", "package", "print"])
def test_only_what_is_in_scope_can_be_named(project, text):
    rule = f'return stream "silver.x" {{ from = "bronze.row", where = function(e) return {text} ~= nil end }}'
    outcome = World(project, COLUMNS, rule).check()
    assert outcome.code == 1 and f"`{text.split('.')[0]}`" in outcome.err and "rules/r0.lua:1:" in outcome.err


@pytest.mark.parametrize("text", ["math.random()", "math.randomseed(1)", "string.dump(tostring)"])
def test_library_tables_hold_only_what_is_allowed(project, text):
    library, name = text.split("(")[0].split(".")
    rule = f'return stream "silver.x" {{ from = "bronze.row", where = function(e) return {text} ~= nil end }}'
    assert_refused(World(project, COLUMNS, rule), place(rule, name), f"`{library}` has no `{name}` here")
    assert throws(project, "string", f'tostring({library}["{name[:2]}" .. "{name[2:]}"]())')


def test_string_format_takes_values_as_they_are(project):
    row = {"a": 9223372036854775806, "p": "-0.25", "q": "3.00", "big": "12345678901234567890123456789012345678"}
    assert values(project, ("string", 'string.format("%d|%5d|%05d|%x", e.a, e.b, e.b, e.b)'), ("string", 'string.format("%.1f|%f|%8.2f|%-8.2f|%08.2f|%+.0f", e.p, e.p, e.p, e.q, e.q, e.q)'),
                  ("string", '("%d %s %.3f"):format(e.q, e.q, e.big)'), ("string", 'string.format("100%% %s %g", e.day, e.p)'), row=row) == [
        "9223372036854775806|    2|00002|2", "-0.2|-0.250000|   -0.25|3.00    |00003.00|+3", "3 3.00 12345678901234567890123456789012345678.000", "100% 2026-01-05 -0.25"]


def test_string_format_of_a_fraction_as_a_whole_number_throws(project):
    assert "number expected" in throws(project, "string", 'string.format("%d", e.p)')


def test_floor_and_ceil_of_values_are_exact(project):
    row = {"a": 9223372036854775807, "p": "-0.25", "big": "-12345678901234567890123456789012345678"}
    assert values(project, ("int64", "math.floor(e.p)"), ("int64", "math.ceil(e.p)"), ("int64", "math.floor(e.a)"), ("decimal(38,0)", "math.ceil(e.big)"), ("int64", "math.floor(e.d)"), row=row) == [
        -1, 0, 9223372036854775807, D("-12345678901234567890123456789012345678"), 0]


def test_a_text_is_read_as_what_it_is_compared_with(project):
    """As a date, then as a time with an offset: what the one made of a text is nothing to the other."""
    assert truths(project, 'e.day == "" .. e.s', 'pcall(function() return e.at == "" .. e.s end) == false', row={"s": "2026-01-05"}) == [True, True]


def test_a_power_of_a_value_is_blamed_on_its_line(project):
    assert throws(project, "double", "e.a ^ 2").startswith("rules/r0.lua:1:")


def test_everything_in_scope_is_there(project):
    names = ["ipairs", "pairs", "select", "type", "tonumber", "tostring", "assert", "error", "pcall", "round", "idiv", "key", "days", "hours", "minutes", "seconds",
             "date", "hour", "minute", "format", "trunc", "now", "decimal", "string.format", "table.concat", "math.floor", "math.abs", "math.max"]
    assert truths(project, *[f'type({name}) == "function"' for name in names]) == [True] * len(names)


def test_pcall_catches_and_error_throws(project):
    assert values(project, ("string", 'select(2, pcall(error, "caught"))'), ("bool", "(pcall(error))")) == ["caught", False]


def test_string_matching_is_step_limited(project):
    assert "steps" in throws(project, "string", 'string.match(e.s, string.rep(".-", 20) .. "y")', {"s": "a" * 60})


def test_powers_come_out_the_same(project):
    assert values(project, ("double", "e.i ^ 2"), ("double", "2 ^ 0.5")) == [9.0, 2 ** 0.5]


def test_helpers_are_required_from_lib(project):
    project.write("lib/vat.lua", "local vat = {}\nfunction vat.of(net) return net * 0.2 end\nreturn vat\n")
    rule = """local vat = require "lib.vat"
return stream "silver.x" { from = "bronze.row", columns = { v = "decimal(14,2)" }, map = function(e, out) out.v = vat.of(e.p) end }"""
    world = World(project, COLUMNS, rule, [ROW]).run()
    assert world.rows("silver.x", "v") == [D("2.05")]


def test_a_helper_is_part_of_the_hash(project):
    project.write("lib/one.lua", "return 1")
    rule = 'local one = require "lib.one"\nreturn stream "silver.x" { from = "bronze.row", where = function(e) return e.a > one end }'
    world = World(project, COLUMNS, rule, [ROW])
    before = world.check().out
    project.write("lib/one.lua", "return 2")
    after = world.check().out
    assert before and before != after
