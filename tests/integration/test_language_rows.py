"""Meanings of streams: the order of clauses, null and truth, expectations, dedup, columns. One test a meaning."""

import pytest

from language import D, World, assert_refused, at, moment, place

ID = {"id": "long!", "n": "int", "s": "string", "at": "timestamp"}


def stream(body, name="silver.x"):
    return f'return stream "{name}" {{ from = "bronze.row", {body} }}'


def rows(*values, **more):
    return [{"id": index, "n": value, "s": None, "at": at("10:00:00"), **more} for index, value in enumerate(values)]


def ids(world, name="silver.x"):
    return sorted(world.rows(name, "id"))


# --- columns and map ----------------------------------------------------------------------------


def test_map_assigns_columns_of_the_input_without_declaring_them(project):
    body = 'map = function(e, out) if e.id == 1 then out.n = e.n * 2 end out.s = "new" end'
    world = World(project, ID, stream(body), rows(1, 2, None)).run()
    assert world.rows("silver.x", "id", "n", "s") == [(0, 1, "new"), (1, 4, "new"), (2, None, "new")]
    assert world.table("silver.x").schema.names == ["id", "n", "s", "at"]


def test_columns_declared_and_not_come_out_where_they_belong(project):
    body = 'columns = { more = "int64" }, map = function(e, out) out.more = e.n; out.n = 7 end'
    world = World(project, ID, stream(body), rows(1)).run()
    assert world.rows("silver.x", "id", "n", "more") == [(0, 7, 1)]
    assert world.table("silver.x").schema.names == ["id", "n", "s", "at", "more"]


@pytest.mark.parametrize("value, type_text", [("e.n", "int32"), ("e.id * 2", "int64"), ('"x"', "string"), ("e.at", "timestamp"), ("e.n > 1", "bool")])
def test_a_new_column_that_is_not_declared_is_refused_with_its_type(project, value, type_text):
    rule = stream(f"map = function(e, out) out.brandnew = {value} end")
    assert_refused(World(project, ID, rule), place(rule, "brandnew"), "declares no column `brandnew`", f'columns = {{ brandnew = "{type_text}" }}')


def test_a_value_that_does_not_fit_names_the_place_in_the_rules_own_file(project):
    body = 'columns = { a = "int8", b = "bool", c = "decimal(4,2)", d = "timestamp", w = "string" }, map = function(e, out)\n if e.id == 0 then out.a = e.n + 127\n' \
        ' elseif e.id == 1 then out.b = ({ e.s })[1]\n elseif e.id == 2 then out.c = e.n * 100\n elseif e.id == 3 then out.d = ({ e.s })[1]\n' \
        ' elseif e.id == 4 then out.w = "\\255" end end'
    world = World(project, ID, stream(body), rows(1, 1, 1, 1, 1, s="x")).run()
    errors = [reason["error"] for reason in world.reasons("silver.x")]
    assert [error.split(": ")[0] for error in errors] == [f"rules/r0.lua:{line}" for line in (2, 3, 4, 5, 6)], errors


# --- where --------------------------------------------------------------------------------------


@pytest.mark.parametrize("body, kept", [
    ("return e.n == 1", [0]),
    ("return nil", []),
    ("return 1", []),
    ("return e.n", []),
    ("", []),
    ("return true", [0, 1]),
])
def test_where_keeps_only_true(project, body, kept):
    world = World(project, ID, stream(f"where = function(e) {body} end"), rows(1, 2)).run()
    assert ids(world) == kept
    assert world.counts("silver.x")["in"] == 2 and world.counts("silver.x")["out"] == len(kept)
    assert world.rejected("silver.x") == []


def test_a_throw_in_where_goes_to_quarantine_with_reason_where(project):
    world = World(project, ID, stream('where = function(e) if e.n == 2 then error("no twos", 0) end return true end'), rows(1, 2, 3)).run()
    assert ids(world) == [0, 2]
    assert world.rejected("silver.x", "id") == [(1, ["where"])]
    assert world.reasons("silver.x")[0]["error"] == "no twos"
    assert world.counts("silver.x")["rejected"] == {"where": 1}


def test_where_comes_before_expectations(project):
    body = 'where = function(e) return e.n > 1 end, expectations = { expect "even" { function(e) return e.n % 2 == 0 end } }'
    world = World(project, ID, stream(body), rows(1, 2, 3)).run()
    assert ids(world) == [1] and world.rejected("silver.x", "id") == [(2, ["even"])]


# --- expectations -------------------------------------------------------------------------------


@pytest.mark.parametrize("predicate", ['one_of("s", { "a" })', 'between("n", 1, 2)', 'matches("s", "^a$")'])
def test_a_data_predicate_passes_on_null(project, predicate):
    world = World(project, ID, stream(f'expectations = {{ expect "p" {{ {predicate} }} }}'), rows(None)).run()
    assert ids(world) == [0]


def test_not_null_does_not_pass_on_null(project):
    world = World(project, ID, stream('expectations = { expect "n there" { not_null "n" } }'), rows(None, 0)).run()
    assert ids(world) == [1] and world.rejected("silver.x", "id") == [(0, ["n there"])]


@pytest.mark.parametrize("body, error", [
    ("return nil", None),
    ("return false", None),
    ("return 1", "not a boolean"),
    ("return 'true'", "not a boolean"),
    ("error('because', 0)", "because"),
    ("return e.n.x", None),
])
def test_a_function_passes_only_on_true(project, body, error):
    if "e.n.x" in body:
        body = "local n = e.n local t = n or nil return t[1] == 2"
    world = World(project, ID, stream(f'expectations = {{ expect "f" {{ function(e) if e.id == 0 then return true end {body} end }} }}'), rows(1, 1)).run()
    assert ids(world) == [0]
    assert world.rejected("silver.x", "id") == [(1, ["f"])]
    if error:
        assert error in world.reasons("silver.x")[0]["error"]


def test_several_predicates_in_one_expectation_must_all_hold(project):
    body = 'expectations = { expect "both" { not_null "n", between("n", 1, 5), function(e) return e.n ~= 3 end } }'
    world = World(project, ID, stream(body), rows(1, 3, 6, None)).run()
    assert ids(world) == [0]
    assert sorted(world.rejected("silver.x", "id")) == [(1, ["both"]), (2, ["both"]), (3, ["both"])]


def test_a_row_that_fails_several_carries_all_their_names(project):
    body = """expectations = { expect "a" { between("n", 1, 5) }, expect "b" { function(e) return e.n < 3 end }, expect "c" { not_null "n" } }"""
    world = World(project, ID, stream(body), rows(9, 4, 1)).run()
    assert sorted(world.rejected("silver.x", "id")) == [(0, ["a", "b"]), (1, ["b"])]
    assert world.counts("silver.x")["rejected"] == {"a": 1, "b": 2}


@pytest.mark.parametrize("first, second, kept, quarantined", [
    ("warn", "warn", True, False),
    ("warn", "drop", False, False),
    ("drop", "quarantine", False, True),
    ("warn", "quarantine", False, True),
    ("quarantine", "drop", False, True),
])
def test_the_gravest_action_wins(project, first, second, kept, quarantined):
    body = f"""expectations = {{ expect "a" {{ between("n", 1, 5), on_violation = "{first}" }}, expect "b" {{ between("n", 1, 6), on_violation = "{second}" }} }}"""
    world = World(project, ID, stream(body), rows(9)).run()
    assert ids(world) == ([0] if kept else [])
    assert world.rejected("silver.x", "id") == ([(0, ["a", "b"])] if quarantined else [])


def test_fail_is_graver_than_quarantine(project):
    body = """expectations = { expect "a" { between("n", 1, 5) }, expect "b" { between("n", 1, 6), on_violation = "fail" } }"""
    World(project, ID, stream(body), rows(9))
    outcome = project.run("pipelines/p.lua", code=1)
    assert "'b'" in outcome.err and "landing/a.jsonl offset 0" in outcome.err


def test_the_default_action_is_quarantine(project):
    world = World(project, ID, stream('expectations = { expect "a" { between("n", 1, 5) } }'), rows(9)).run()
    assert world.rejected("silver.x", "id") == [(0, ["a"])]


def test_rejected_counts_drops_too_and_warnings_count_in_warned(project):
    body = """expectations = { expect "a" { between("n", 1, 5), on_violation = "drop" }, expect "b" { between("n", 1, 3), on_violation = "warn" } }"""
    world = World(project, ID, stream(body), rows(9, 4, 1)).run()
    counts = world.counts("silver.x")
    assert counts["rejected"] == {"a": 1} and counts["warned"] == {"b": 2}
    assert ids(world) == [1, 2]


def test_in_is_the_sum_of_what_became_of_every_row(project):
    body = """where = function(e) return e.n ~= 0 end, time = { field = "at" }, dedup = { by = "s", within = "1h" },
      expectations = { expect "a" { between("n", 1, 5), on_violation = "drop" }, expect "b" { function(e) return e.n ~= 2 end } }"""
    data = [{"id": 1, "n": 0, "s": "x", "at": at("10:00:00")}, {"id": 2, "n": 9, "s": "x", "at": at("10:00:00")},
            {"id": 3, "n": 2, "s": "x", "at": at("10:00:00")}, {"id": 4, "n": 1, "s": "x", "at": at("10:00:00")},
            {"id": 5, "n": 1, "s": "x", "at": at("10:00:00")}, {"id": 6, "n": 1, "s": "y", "at": None}, "not json"]
    world = World(project, ID, stream(body), data).run()
    counts = world.counts("silver.x")
    assert counts["in"] == 6 and counts["out"] == 1 and counts["duplicates"] == 1
    assert counts["filtered"] == 1 and counts["dropped"] == 1 and counts["quarantined"] == 2
    assert world.counts("bronze.row")["rejected"] == {"decode": 1} and world.summary["events"] == 7


def test_between_is_inclusive(project):
    world = World(project, ID, stream('expectations = { expect "a" { between("n", 1, 3) } }'), rows(0, 1, 2, 3, 4)).run()
    assert ids(world) == [1, 2, 3]


def test_text_compares_by_utf8_bytes(project):
    body = 'expectations = { expect "a" { between("s", "a", "é") }, expect "f" { function(e) return e.s < "ê" end } }'
    data = [{"id": index, "s": text} for index, text in enumerate(["Z", "a", "z", "é", "éa", "ﬀ", "\U0001F600"])]
    world = World(project, {"id": "long!", "s": "string"}, stream(body), data).run()
    assert ids(world) == [1, 2, 3]


def test_a_quarantined_row_stands_as_it_entered_with_its_place(project):
    body = """columns = { n = "int64", twice = "int64" }, map = function(e, out) out.n = 7 out.twice = e.n * 2 end, drop = { "s" },
      ensures = { expect "small" { between("twice", 0, 10) } }"""
    world = World(project, ID, stream(body), [{"id": 5, "n": 1, "s": "q", "at": at("10:00:00")}, {"id": 6, "n": 9, "s": "r", "at": at("10:00:01")}]).run()
    table = world.table("quarantine.silver.x")
    assert table.column_names == ["id", "n", "s", "at", "_reasons", "_raw", "_topic", "_partition", "_offset", "_epoch", "_rule_set", "_rejected_at"]
    row = table.to_pylist()[0]
    assert (row["id"], row["n"], row["s"], row["at"]) == (6, 9, "r", moment("10:00:01"))
    assert row["_reasons"] == [{"expectation": "small", "error": None}] and row["_raw"] is None
    assert row["_topic"] == "landing/a.jsonl" and row["_partition"] == 0 and row["_epoch"] >= 1 and len(row["_rule_set"]) == 32
    line = '{"id": 5, "n": 1, "s": "q", "at": "2026-01-05T10:00:00Z"}\n'
    assert row["_offset"] == len(line)


def test_topic_and_offset_tell_files_apart(project):
    world = World(project, ID, stream('expectations = { expect "a" { between("n", 1, 1) } }'), rows(1, 5))
    world.feed(["nonsense", '{"id":7,"n":9}'], "b.jsonl")
    world.run()
    assert sorted(world.rows("quarantine.silver.x", "_topic", "id")) == [("landing/a.jsonl", 1), ("landing/b.jsonl", 7)]
    assert world.rows("quarantine.bronze.row", "_topic", "_offset", "_raw") == [("landing/b.jsonl", 0, b"nonsense")]


# --- quality and ensures ------------------------------------------------------------------------


def test_clauses_run_in_their_order(project):
    rules = [stream("""columns = { m = "int32" }, map = function(e, out) out.m = e.n + 1 end,
      expectations = { expect "entered" { between("n", 0, 5) } }, ensures = { expect "left" { between("m", 0, 5) } }"""),
             'return quality "silver.x" { expect "outside" { between("m", 0, 3) } }']
    world = World(project, ID, rules, rows(9, 5, 3, 2)).run()
    assert ids(world) == [3]
    assert sorted(world.rejected("silver.x", "id")) == [(0, ["entered"]), (1, ["left"]), (2, ["outside"])]


def test_ensures_judge_what_leaves(project):
    body = 'columns = { n = "int64" }, map = function(e, out) out.n = e.n * 10 end, ensures = { expect "a" { between("n", 0, 20) } }'
    world = World(project, ID, stream(body), rows(1, 2, 3)).run()
    assert sorted(world.rows("silver.x", "n")) == [10, 20]
    assert world.rejected("silver.x", "n") == [(3, ["a"])]


def test_quality_files_attach_from_outside_in_order_of_path(project):
    rules = [stream(""), 'return quality "silver.x" { expect "q1" { between("n", 0, 5) }, expect "q2" { not_null "s", on_violation = "warn" } }',
             'return quality "silver.x" { expect "q3" { between("n", 0, 4) } }']
    world = World(project, ID, rules, rows(9, 5, 1)).run()
    assert ids(world) == [2]
    reasons = {row["id"]: [reason["expectation"] for reason in row["_reasons"]] for row in world.table("quarantine.silver.x").to_pylist()}
    assert reasons[0] == ["q1", "q2", "q3"]
    assert world.counts("silver.x")["rejected"] == {"q1": 1, "q3": 2} and world.counts("silver.x")["warned"] == {"q2": 3}


# --- dedup --------------------------------------------------------------------------------------


def dedup(within, *entries, by='"s"', more=""):
    """entries: (id, key, time)"""
    return (stream(f'time = {{ field = "at", out_of_order = "2h" }}, dedup = {{ by = {by}, within = "{within}" }}{more}'),
            [{"id": i, "n": i, "s": key, "at": time and at(time)} for i, key, time in entries])


def test_dedup_keeps_the_first_to_arrive(project):
    world = World(project, ID, *dedup("1h", (1, "a", "10:30:00"), (2, "a", "10:00:01"), (3, "b", "10:00:00"))).run()
    assert ids(world) == [1, 3] and world.counts("silver.x")["duplicates"] == 1


def test_a_duplicate_lies_less_than_within_from_the_kept_row_either_way(project):
    world = World(project, ID, *dedup("10m", (1, "a", "10:30:00"), (2, "a", "10:39:59"), (3, "a", "10:20:01"), (4, "b", "10:30:00"), (5, "b", "10:40:00"),
                                      (6, "c", "10:30:00"), (7, "c", "10:20:00"))).run()
    assert ids(world) == [1, 4, 5, 6, 7]


def test_a_duplicate_prolongs_nothing(project):
    world = World(project, ID, *dedup("10m", (1, "a", "10:00:00"), (2, "a", "10:06:00"), (3, "a", "10:12:00"))).run()
    assert ids(world) == [1, 3]


def test_a_null_key_is_not_deduplicated(project):
    world = World(project, ID, *dedup("1h", (1, None, "10:00:00"), (2, None, "10:00:00"))).run()
    assert ids(world) == [1, 2] and world.counts("silver.x")["duplicates"] == 0


def test_several_dedup_keys_are_a_list_and_a_null_in_one_keeps_the_row(project):
    rule, _ = dedup("1h", by='{ "s", "n" }')
    data = [{"id": i, "s": s, "n": n, "at": at("10:00:00")} for i, s, n in [(1, "a", 1), (2, "a", 2), (3, "a", 1), (4, "a", None), (5, "a", None)]]
    world = World(project, ID, rule, data).run()
    assert ids(world) == [1, 2, 4, 5]


def test_a_rejected_row_is_not_remembered_so_its_corrected_resend_passes(project):
    more = ', expectations = { expect "a" { function(e) return e.n ~= 1 end } }'
    world = World(project, ID, *dedup("1h", (1, "a", "10:00:00"), (2, "a", "10:00:01"), (3, "a", "10:00:02"), more=more)).run()
    assert ids(world) == [2] and world.counts("silver.x")["duplicates"] == 1


@pytest.mark.parametrize("more, reason", [
    (', columns = { m = "int32" }, map = function(e, out) if e.n == 1 then error("x") end out.m = 1 end', "map"),
    (', ensures = { expect "later" { function(e) return e.n ~= 1 end } }', "later"),
])
def test_a_row_rejected_later_is_forgotten_by_dedup(project, more, reason):
    world = World(project, ID, *dedup("1h", (1, "a", "10:00:00"), (2, "a", "10:00:01"), more=more)).run()
    assert ids(world) == [2] and world.rejected("silver.x", "id") == [(1, [reason])]
    assert world.counts("silver.x")["duplicates"] == 0


def test_a_row_rejected_by_quality_is_forgotten_by_dedup(project):
    rule, data = dedup("1h", (1, "a", "10:00:00"), (2, "a", "10:00:01"))
    world = World(project, ID, [rule, 'return quality "silver.x" { expect "q" { function(e) return e.n ~= 1 end } }'], data).run()
    assert ids(world) == [2]


def test_dedup_remembers_across_files_and_runs(project):
    world = World(project, ID, *dedup("1h", (1, "a", "10:00:00"))).run()
    world.feed(['{"id":2,"s":"a","at":"2026-01-05T10:00:30Z"}', '{"id":3,"s":"b","at":"2026-01-05T10:00:30Z"}'], "b.jsonl")
    world.run()
    assert ids(world) == [1, 3] and world.counts("silver.x")["duplicates"] == 1


# --- time ---------------------------------------------------------------------------------------


def test_a_null_time_goes_to_quarantine(project):
    world = World(project, ID, stream('time = { field = "at" }'), [{"id": 1, "at": None}, {"id": 2, "at": at("10:00:00")}]).run()
    assert ids(world) == [2] and world.rejected("silver.x", "id") == [(1, ["time"])]


def test_a_time_far_in_the_future_goes_to_quarantine(project):
    world = World(project, ID, stream('time = { field = "at" }'), [{"id": 1, "at": "2199-01-01T00:00:00Z"}, {"id": 2, "at": at("10:00:00")}]).run()
    assert ids(world) == [2] and world.rejected("silver.x", "id") == [(1, ["future"])]
    assert world.counts("silver.x")["rejected"] == {"future": 1}


# --- columns ------------------------------------------------------------------------------------


def columns_of(world, name="silver.x"):
    return world.table(name).column_names


def test_columns_come_out_as_written_pass_through_first(project):
    body = """columns = { zeta = "int32", alpha = "string", mid = "double", beta = "bool" },
      map = function(e, out) out.beta = true out.alpha = "a" out.mid = 1.5 out.zeta = 1 end"""
    world = World(project, ID, stream(body), rows(1)).run()
    assert columns_of(world) == ["id", "n", "s", "at", "zeta", "alpha", "mid", "beta"]
    assert world.rows("silver.x", "zeta", "alpha", "mid", "beta") == [(1, "a", 1.5, True)]


def test_fields_not_assigned_pass_through(project):
    world = World(project, ID, stream('columns = { m = "int32" }, map = function(e, out) out.m = 1 end'), rows(4)).run()
    assert world.rows("silver.x", "id", "n", "m") == [(0, 4, 1)]


def test_a_declared_column_never_assigned_is_null(project):
    body = 'columns = { m = "int32", k = "string" }, map = function(e, out) if e.n == 1 then out.m = 1 end end'
    world = World(project, ID, stream(body), rows(1, 2)).run()
    assert sorted(world.rows("silver.x", "id", "m", "k")) == [(0, 1, None), (1, None, None)]


def test_columns_naming_an_input_field_retypes_it_in_place(project):
    world = World(project, ID, stream('columns = { n = "int64" }'), rows(5, None)).run()
    assert columns_of(world) == ["id", "n", "s", "at"]
    assert str(world.table("silver.x").schema.field("n").type) == "int64" and sorted(world.rows("silver.x", "n"), key=str) == [5, None]


def test_a_value_that_does_not_fit_its_new_type_goes_to_quarantine(project):
    world = World(project, {"id": "long!", "n": "long"}, stream('columns = { n = "int8" }'), [{"id": 0, "n": 127}, {"id": 1, "n": 128}]).run()
    assert world.rows("silver.x", "n") == [127] and world.rejected("silver.x", "id", "n") == [(1, 128, ["map"])]


def test_a_map_may_assign_a_retyped_column_or_leave_it(project):
    body = 'columns = { n = "int64" }, map = function(e, out) if e.n == 2 then out.n = 200 end end'
    world = World(project, ID, stream(body), rows(1, 2)).run()
    assert sorted(world.rows("silver.x", "n")) == [1, 200]


def test_drop_takes_columns_away(project):
    world = World(project, ID, stream('drop = { "s", "at" }'), rows(1)).run()
    assert columns_of(world) == ["id", "n"]


def test_keep_is_the_other_way_to_drop(project):
    world = World(project, ID, stream('keep = { "n", "id" }'), rows(1)).run()
    assert sorted(columns_of(world)) == ["id", "n"]


def test_what_columns_adds_leaves_whether_keep_names_it_or_not(project):
    body = 'columns = { a = "int64", b = "int64" }, map = function(e, out) out.a, out.b = e.n, e.n end, keep = { "id", "a" }'
    world = World(project, ID, stream(body), rows(1)).run()
    assert sorted(columns_of(world)) == ["a", "b", "id"]


def test_underscore_columns_do_not_pass_through_unless_kept_or_named(project):
    rules = [stream(""), stream('keep = { "id", "_offset", "_topic" }', "silver.kept"), stream('columns = { _offset = "int64" }', "silver.named")]
    world = World(project, ID, rules, rows(1)).run()
    assert columns_of(world) == ["id", "n", "s", "at"]
    assert columns_of(world, "silver.kept") == ["id", "_topic", "_offset"]
    assert columns_of(world, "silver.named") == ["id", "n", "s", "at", "_offset"]
    assert world.rows("silver.kept", "id", "_topic", "_offset") == [(0, "landing/a.jsonl", 0)]


def test_a_throw_in_map_sends_the_row_as_it_entered_to_quarantine(project):
    body = 'columns = { n = "int64" }, map = function(e, out) out.n = 99 if e.n == 2 then error("odd one", 0) end end'
    world = World(project, ID, stream(body), rows(1, 2, 3)).run()
    assert sorted(world.rows("silver.x", "id", "n")) == [(0, 99), (2, 99)]
    assert world.rejected("silver.x", "id", "n") == [(1, 2, ["map"])] and world.reasons("silver.x")[0]["error"] == "odd one"


def test_into_none_is_memory_only(project):
    rules = [stream("into = none", "silver.mid"), 'return stream "silver.end" { from = "silver.mid" }']
    world = World(project, ID, rules, rows(1)).run()
    assert world.rows("silver.end", "id") == [0] and not world.exists("silver.mid")


def test_a_declaration_list_shares_a_file(project):
    rule = 'return { stream "silver.a" { from = "bronze.row" }, stream "silver.b" { from = "silver.a" }, quality "silver.b" { expect "q" { not_null "n" } } }'
    world = World(project, ID, rule, rows(1, None)).run()
    assert ids(world, "silver.a") == [0, 1] and ids(world, "silver.b") == [0]


def test_partitioning_is_by_utc(project):
    rule = stream('into = delta { mode = "append", partition_by = { date "at" } }')
    world = World(project, ID, rule, [{"id": 1, "at": "2026-07-01T00:30:00+01:00"}], options='\n  time_zone = "Europe/London",').run()
    names = [path.name for path in (project.root / "lake/silver/x").iterdir() if path.is_dir() and path.name != "_delta_log"]
    assert len(names) == 1 and "2026-06-30" in names[0]
    assert world.rows("silver.x", "id") == [1]


def test_decimals_of_a_quarantined_row_are_exact(project):
    world = World(project, {"id": "long!", "p": "decimal(12,2)"}, stream('expectations = { expect "a" { between("p", 0, "10.00") } }'),
                  ['{"id":1,"p":10.00}', '{"id":2,"p":10.01}']).run()
    assert world.rows("silver.x", "p") == [D("10.00")] and world.rejected("silver.x", "p") == [(D("10.01"), ["a"])]
