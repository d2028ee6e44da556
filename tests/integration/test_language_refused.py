"""What is not built is refused by name; what is mistyped is suggested; what is wrong is shown where it stands. Exit codes."""

import json
import os

import pytest

from language import RUN, World, assert_refused, at, place

COLUMNS = {"id": "long!", "n": "int", "big": "long", "s": "string", "p": "decimal(12,2)", "d": "double", "ok": "bool", "at": "timestamp",
           "items": ["null", {"type": "array", "items": "int"}]}
STREAM = 'return stream "silver.x" {\n  from = "bronze.row",\n  @\n}\n'
MODEL = ('return model "gold.m" {\n  from = "bronze.row",\n  time = { field = "at" },\n  window = tumbling "1m",\n'
         '  measures = { n = count() },\n  @\n}\n')


def refused(project, rule, marked, *texts, line=None, **more):
    assert_refused(World(project, COLUMNS, rule, **more), place(rule, marked), *texts, line=marked if line is None else line)


def in_stream(project, body, marked, *texts):
    refused(project, STREAM.replace("@", body), marked, *texts)


def in_model(project, body, marked, *texts):
    refused(project, MODEL.replace("@", body), marked, *texts)


# --- words not built yet ------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["job", "policy"])
def test_kinds_not_built_are_refused_by_name(project, word):
    refused(project, f'return {word} "x.y" {{ on = "bronze.row" }}', word, f"`{word}` is not built yet")


def test_expectations_over_windows_stand_in_quality_files(project):
    in_stream(project, 'expectations = { expect_over "fresh" { max_lag "2m" } },', "expect_over", "expectations takes `expect`")


@pytest.mark.parametrize("option, value", [("params", "{ }")])
def test_stream_options_not_built_are_refused_by_name(project, option, value):
    in_stream(project, f"{option} = {value},", option, f"`{option}`", "is not built yet")


@pytest.mark.parametrize("option, value", [("join", "{ }")])
def test_model_options_not_built_are_refused_by_name(project, option, value):
    in_model(project, f"{option} = {value},", option, f"`{option}`", "is not built yet")


def test_merge_without_a_key_is_refused(project):
    in_stream(project, 'into = delta { mode = "merge" },', '"merge"', '"merge"', "which rows are the same", "key")


def test_a_store_nobody_speaks_is_refused_by_name(project):
    world = World(project, COLUMNS, STREAM.replace("@", ""))
    pipeline = (project.root / "pipelines/p.lua").read_text().replace('"lake"', '"gopher://bucket/lake"')
    project.write("pipelines/p.lua", pipeline)
    assert_refused(world, place(pipeline, '"gopher:', "pipelines/p.lua"), "gopher://", "s3://")


def test_a_lake_in_an_object_store_needs_a_ledger_on_a_disk(project):
    world = World(project, COLUMNS, STREAM.replace("@", ""))
    pipeline = (project.root / "pipelines/p.lua").read_text().replace('"lake"', '"s3://bucket/lake"')
    project.write("pipelines/p.lua", pipeline)
    assert_refused(world, place(pipeline, '"s3:', "pipelines/p.lua"), "ledger", "local disk")


@pytest.mark.parametrize("command", ["plan", "promote", "quarantine", "backfill", "debug", "query", "docs", "meta", "top"])
def test_commands_not_built_are_refused_by_name(project, command):
    outcome = project.weir(command)
    assert outcome.code == 1 and f"'{command}' is not built yet" in outcome.err


def test_what_is_refused_does_not_run(project):
    world = World(project, COLUMNS, [STREAM.replace("@", ""), 'return job "x.y" { on = "bronze.row" }'], [{"id": 1}])
    outcome = project.weir(*RUN)
    assert outcome.code == 1 and "`job` is not built yet" in outcome.err and not world.exists("silver.x")


def test_quality_of_a_source_is_refused_by_name(project):
    refused(project, 'return quality "bronze.row" { expect "q" { not_null "n" } }', "quality", "not built yet", "stream")


# --- mistyped options ---------------------------------------------------------------------------


@pytest.mark.parametrize("typed, meant, value", [
    ("form", "from", '"bronze.row"'), ("expectation", "expectations", "{ }"), ("wher", "where", "function(e) return true end"),
    ("dedupe", "dedup", "{ }"), ("colums", "columns", "{ }"), ("mpa", "map", "nil or 1"), ("dorp", "drop", "{ }"), ("tiem", "time", "{ }"),
    ("ensure", "ensures", "{ }"), ("descripton", "description", '""'), ("onwer", "owner", '""'), ("intoo", "into", "none"),
])
def test_a_mistyped_stream_option_gets_a_suggestion(project, typed, meant, value):
    in_stream(project, f"{typed} = {value},", typed, f"`{typed}`", f"did you mean `{meant}`?")


@pytest.mark.parametrize("typed, meant", [("windw", "window"), ("measure", "measures"), ("derived", "derive"), ("test", "tests"), ("emits", "emit"), ("bye", "by")])
def test_a_mistyped_model_option_gets_a_suggestion(project, typed, meant):
    rule = MODEL.replace("@", f"{typed} = 1,")
    refused(project, rule, f"{typed} = 1", f"`{typed}`", f"did you mean `{meant}`?")


@pytest.mark.parametrize("body, typed, meant", [
    ('time = { feild = "at" },', "feild", "field"),
    ('time = { field = "at", out_of_ordr = "5s" },', "out_of_ordr", "out_of_order"),
    ('dedup = { by = "id", witin = "1h" },', "witin", "within"),
    ('expectations = { expect "x" { not_null "n", on_violaton = "drop" } },', "on_violaton", "on_violation"),
    ('expectations = { expect "x" { not_null "n", becuase = "x" } },', "becuase", "because"),
    ('into = delta { partition_bi = { "id" } },', "partition_bi", "partition_by"),
])
def test_a_mistyped_inner_option_gets_a_suggestion(project, body, typed, meant):
    in_stream(project, body, typed, f"`{typed}`", f"did you mean `{meant}`?")


def test_a_mistyped_window_option_gets_a_suggestion(project):
    rule = MODEL.replace("@", "").replace('tumbling "1m"', 'tumbling { size = "1m", allowed_latenes = "1s" }')
    refused(project, rule, "allowed_latenes", "did you mean `allowed_lateness`?")


def test_a_mistyped_measure_option_gets_a_suggestion(project):
    refused(project, MODEL.replace("@", "").replace("count()", 'sum("n", { wher = 1 })'), "wher", "did you mean `where`?")


@pytest.mark.parametrize("old, new, typed, meant", [
    ("storage", "storag", "storag", "storage"), ("sources", "source_s", "source_s", "sources"), ("root = ", "rot = ", "rot", "root"),
    ("path = ", "pth = ", "pth", "path"), ("schema = ", "shema = ", "shema", "schema"),
])
def test_a_mistyped_pipeline_option_gets_a_suggestion(project, old, new, typed, meant):
    world = World(project, COLUMNS, STREAM.replace("@", ""))
    pipeline = (project.root / "pipelines/p.lua").read_text().replace(old, new, 1)
    project.write("pipelines/p.lua", pipeline)
    assert_refused(world, place(pipeline, typed, "pipelines/p.lua"), f"did you mean `{meant}`?", line=typed)


@pytest.mark.parametrize("option, typed, meant", [('commit = { evry = "1s" },', "evry", "every"), ('ledger = { kep = "1m" },', "kep", "keep"), ('memory = { stat = "1GB" },', "stat", "state")])
def test_a_mistyped_option_of_an_option_table_gets_a_suggestion(project, option, typed, meant):
    world = World(project, COLUMNS, STREAM.replace("@", ""), options="\n  " + option)
    pipeline = (project.root / "pipelines/p.lua").read_text()
    assert_refused(world, place(pipeline, typed, "pipelines/p.lua"), f"did you mean `{meant}`?", line=typed)


@pytest.mark.parametrize("typed, meant", [("steam", "stream"), ("modle", "model"), ("qualty", "quality")])
def test_a_mistyped_constructor_gets_a_suggestion(project, typed, meant):
    refused(project, f'return {typed} "silver.x" {{ from = "bronze.row" }}', typed, f"`{typed}`", f"did you mean `{meant}`?")


def test_a_mistyped_dataset_gets_a_suggestion(project):
    refused(project, 'return stream "silver.x" { from = "bronze.rwo" }', '"bronze.rwo"', "did you mean `bronze.row`?")


@pytest.mark.parametrize("action", ['"dorp"', '"quarantin"'])
def test_a_mistyped_action_gets_a_suggestion(project, action):
    in_stream(project, f'expectations = {{ expect "x" {{ not_null "n", on_violation = {action} }} }},', action, "did you mean `")


@pytest.mark.parametrize("option", ["--until-ned", "--jsn"])
def test_a_mistyped_command_line_option_is_a_usage_error_with_a_suggestion(project, option):
    outcome = project.weir("run", "pipelines/p.lua", option)
    assert outcome.code == 2 and option in outcome.err and "did you mean" in outcome.err


def test_a_mistyped_command_is_a_usage_error_with_a_suggestion(project):
    outcome = project.weir("chekc")
    assert outcome.code == 2 and "did you mean `check`?" in outcome.err


@pytest.mark.parametrize("setting, meant", [("commit.evry=1s", "every"), ("comit.every=1s", "commit.every")])
def test_a_mistyped_setting_is_refused(project, setting, meant):
    World(project, COLUMNS, STREAM.replace("@", ""))
    outcome = project.weir("check", "--set", setting)
    assert outcome.code == 1 and setting.split("=")[0].split(".")[-1] in outcome.err + outcome.out and meant in outcome.err


# --- static errors, in place --------------------------------------------------------------------


@pytest.mark.parametrize("body, marked, texts", [
    ('where = function(e) return e.nn == 1 end,', "nn ==", ["no column `nn`"]),
    ('where = function(e) return e["nn"] == 1 end,', '"nn"]', ["no column `nn`"]),
    ('expectations = { expect "x" { not_null "idd" } },', '"idd"', ["`idd`", "did you mean `id`?"]),
    ('expectations = { expect "x" { one_of("ss", { "a" }) } },', '"ss"', ["`ss`"]),
    ('dedup = { by = "idd", within = "1h" }, time = { field = "at" },', '"idd"', ["did you mean `id`?"]),
    ('time = { field = "att" },', '"att"', ["did you mean `at`?"]),
    ('drop = { "n", "pp" },', '"pp"', ["`pp`"]),
    ('keep = { "idd" },', '"idd"', ["`idd`"]),
    ('columns = { m = "int32" }, map = function(e, out) out.mm = 1 end,', "mm =", ["no column `mm`", "did you mean `m`?"]),
    ('into = delta { partition_by = { "idd" } },', '"idd"', ["`idd`"]),
])
def test_an_unknown_column_is_shown_where_it_stands(project, body, marked, texts):
    refused(project, STREAM.replace("@", body), marked, *texts, line=marked.split(" ")[0].rstrip("]"))


@pytest.mark.parametrize("body, marked, text", [
    ('where = function(e) return e.p * e.d > 1 end,', "e.p * e.d", "decimal and double do not mix"),
    ('where = function(e) return e.d + e.p > 1 end,', "e.d + e.p", "decimal and double do not mix"),
    ('where = function(e) return e.p > e.d end,', "e.p > e.d", "decimal and double do not mix"),
    ('where = function(e) return e.n == "1" end,', 'e.n == "1"', "never equal"),
    ('where = function(e) return e.s < 1 end,', "e.s < 1", "cannot compare"),
    ('where = function(e) return e.at > 5 end,', "e.at > 5", "cannot compare"),
    ('where = function(e) return e.at > "2026-01-05" end,', "e.at >", 'write "2026-01-05T00:00:00Z"'),
    ('where = function(e) return "soon" == e.at end,', '"soon"', "no time with an offset"),
    ('where = function(e) return date(e.at) <= "2026-1-5" end,', "date(e.at)", "no date"),
    ('where = function(e) return e.at - e.at > "90" end,', "e.at - e.at", 'such as "90s"'),
    ('where = function(e) return e.at > date(e.at) end,', "e.at >", "compare date(…)"),
    ('where = function(e) return e.ok + 1 == 2 end,', "e.ok + 1", "cannot compute"),
    ('where = function(e) return math.random() < 0.5 end,', "random()", "use random()"),
    ('where = function(e) return string.lenn(e.s) > 1 end,', "lenn", "did you mean `len`?"),
    ('where = function(e) return e.s:lenn() > 1 end,', "e.s:lenn", "did you mean `len`?"),
    ('where = function(e) return e.s.size > 1 end,', "size", "has no fields"),
    ('where = function(e) return e.n == 5LL end,', "5LL", "raw C number"),
    ('columns = { m = "int8" }, map = function(e, out) out.m = 300 end,', "300", "outside its range"),
    ('columns = { m = "int32" }, map = function(e, out) out.m = 1.5 end,', "1.5", "fraction"),
    ('columns = { m = "string" }, map = function(e, out) out.m = 1 end,', "1 end", "does not take a number"),
    ('columns = { m = "decimal(3,2)" }, map = function(e, out) out.m = 10 end,', "10", "too many digits"),
    ('columns = { m = "decimal(12,2)" }, map = function(e, out) out.m = e.d end,', "e.d end", "not exact"),
    ('expectations = { expect "x" { between("n", "1", 5) } },', '"1"', "does not compare"),
    ('expectations = { expect "x" { between("p", 0, 1.005) } },', "1.005", "decimal(12,2)"),
    ('expectations = { expect "x" { one_of("n", { 1, 3000000000 }) } },', "3000000000", "outside its range"),
    ('expectations = { expect "x" { matches("n", "a") } },', '"n"', "string column"),
    ('expectations = { expect "x" { } },', 'expect "x"', "says nothing to hold"),
    ('expectations = { expect "map" { not_null "n" } },', 'expect "map"', "reserved"),
    ('expectations = { expect "x" { not_null "n" }, expect "x" { not_null "s" } },', 'expect "x" { not_null "s"', "declared twice"),
    ('time = { field = "n" },', '"n"', "event time is a timestamp"),
    ('dedup = { by = "id", within = "1h" },', "within", "declares it"),
    ('time = { field = "at" }, dedup = { by = "items", within = "1h" },', '"items"', "plain columns"),
    ('time = { field = "at" }, dedup = { by = "id", within = "often" },', '"often"', "duration"),
    ('columns = { m = "int63" }, map = function(e, out) end,', '"int63"', "int64"),
    ('columns = { m = "int32" },', 'm = "int32"', "nothing assigns"),
    ('columns = { s = "int32" },', 's = "int32"', "cannot pass as"),
    ('map = function(e, out) end,', "map", "nothing to assign"),
    ('keep = { "id" }, drop = { "n" },', "keep", "use one"),
    ('where = function(e) x = 1 return true end,', "x = 1", "`x`"),
    ('where = function(e) return expect == nil end,', "expect ==", "`expect`"),
    ('where = "n > 1",', '"n > 1"', "function"),
    ('owner = 5,', "5", "text"),
    ('drop = { "n" }, drop = { "s" },', 'drop = { "s" }', "given twice"),
    ('version = 0,', "0", "whole number from 1"),
    ('"positional",', '"positional"', "named options only"),
    ('into = delta,', "delta", "without its table"),
    ('expectations = { expect "x" },', 'expect "x"', "without its table"),
])
def test_a_static_error_is_shown_where_it_stands(project, body, marked, text):
    refused(project, STREAM.replace("@", body), marked, text, line=marked.split(" ")[0])


@pytest.mark.parametrize("old, new, marked, text", [
    ("n = count()", "window_start = count()", "window_start", "column of the window"),
    ("n = count()", 'n = sum "s"', '"s"', "sum needs a number"),
    ("n = count()", 'n = sum(function(e) return e.n end)', "sum", "says the type"),
    ("n = count()", 'n = sum "nn"', '"nn"', "`nn`"),
    ("n = count()", 'n = "count"', '"count"', "measure `n`"),
    ('time = { field = "at" },', "", "window", "event time"),
    ("@", 'by = { "items" },', '"items"', "plain columns"),
    ("@", 'by = { "id", "id" },', '"id" }', "twice"),
    ("@", 'by = { "n" },', "n = count", "column of `by`"),
    ("@", 'derive = { { m = function(m) return m.nn end, type = "int64" } },', "nn end", "no column `nn`"),
    ("@", "derive = { { m = function(m) return m.n end } },", "{ m =", "type"),
    ("@", 'emit = "sometimes",', '"sometimes"', "on_close"),
    ('tumbling "1m"', 'tumbling "0s"', '"0s"', "longer than nothing"),
    ('tumbling "1m"', 'tumbling "soon"', '"soon"', "duration"),
])
def test_a_static_error_of_a_model_is_shown_where_it_stands(project, old, new, marked, text):
    rule = MODEL.replace(old, new).replace("@", "")
    refused(project, rule, marked, text, line=marked.split(" ")[0])


def test_a_constructor_inside_a_row_function_is_an_error(project):
    in_stream(project, 'where = function(e) return not_null "n" end,', 'not_null "n"', "not_null")


@pytest.mark.parametrize("body, marked, texts", [
    ('columns = { ["net price"] = "int32" }, map = function(e, out) out["net price"] = 1 end,', '"net price"] =', ("`net price`", "no space")),
    ('columns = { S = "int32" }, map = function(e, out) out.S = 1 end,', "S = ", ("`s` and `S`", "without case")),
])
def test_a_name_no_table_can_have_is_shown_where_it_stands(project, body, marked, texts):
    in_stream(project, body, marked, *texts)
    in_stream(project, body + " into = delta { },", marked, *texts)
    assert World(project, COLUMNS, STREAM.replace("@", body + " into = none,")).check().code == 0


def test_a_quarantine_has_the_names_of_the_rows_as_they_enter(project):
    rule = STREAM.replace("@", 'columns = { sku = "string" }, map = function(e, out) out.sku = e["SKU Name"] end, drop = { "SKU Name" },')
    world = World(project, {"SKU Name": "string"}, rule)
    assert_refused(world, place(rule, "stream"), "the quarantine of `silver.x`", "`SKU Name`", '"aliases": ["SKU Name"]')
    project.write("rules/r0.lua", rule.replace("drop =", "quarantine = none, drop ="))
    assert world.check().code == 0


@pytest.mark.parametrize("rule, marked", [
    (STREAM.replace("@", 'expectations = { expect { not_null "n" } },'), "expect {"),
    ('return stream { from = "bronze.row" }', "stream"),
    ('return { stream { from = "bronze.row" } }', "stream"),
    (STREAM.replace("@", 'join = { x = lookup { on = "id" } },'), "lookup"),
    ('return quality { expect "n" { not_null "n" } }', "quality"),
])
def test_a_declaration_without_its_name_is_shown_where_it_stands(project, rule, marked):
    word = marked.split()[0]
    refused(project, rule, marked, f"`{word}` has a name before its table", f'write {word} "…" {{ … }}')


def test_one_dataset_has_one_writer(project):
    rules = ['return stream "silver.x" { from = "bronze.row" }', '\nreturn stream "silver.x" { from = "bronze.row" }']
    assert_refused(World(project, COLUMNS, rules), "rules/r1.lua:2:8", "one writer", "rules/r0.lua:1", line="stream")


def test_a_quarantine_beside_its_dataset_is_a_second_writer(project):
    rules = ['return stream "silver.x" { from = "bronze.row" }', 'return stream "quarantine.silver.x" { from = "bronze.row" }']
    assert_refused(World(project, COLUMNS, rules), "rules/r1.lua:1:8", "silver.x", line="stream")


def test_a_late_dataset_has_one_writer_too(project):
    rule = MODEL.replace("@", "").replace('tumbling "1m"', 'tumbling { size = "1m", late = "silver.x" }')
    assert_refused(World(project, COLUMNS, [rule, 'return stream "silver.x" { from = "bronze.row" }']), place(rule, '"silver.x"'), "writer")


def test_datasets_that_read_each_other_in_a_circle_are_refused(project):
    rules = ['return stream "silver.a" { from = "silver.b" }', 'return stream "silver.b" { from = "silver.a" }']
    assert_refused(World(project, COLUMNS, rules), "rules/r0.lua:1:8", "circle", "silver.a -> silver.b -> silver.a")


def test_quality_of_a_dataset_that_is_not_there_is_refused(project):
    refused(project, 'return quality "silver.y" { expect "q" { not_null "n" } }', "quality", "silver.y")


def test_an_expectation_of_quality_may_not_repeat_a_name(project):
    rules = ['return stream "silver.x" { from = "bronze.row", expectations = { expect "a" { not_null "n" } } }', 'return quality "silver.x" { expect "a" { not_null "s" } }']
    assert_refused(World(project, COLUMNS, rules), place(rules[1], "expect", "rules/r1.lua"), "declared twice")


def test_a_syntax_error_is_shown_where_it_stands(project):
    rule = 'return stream "silver.x" {\n  from = "bronze.row"\n  where = 1,\n}'
    refused(project, rule, "where", "", line="where")


def test_a_pattern_that_does_not_compile_names_its_file_and_line(project):
    World(project, COLUMNS, STREAM.replace("@", 'expectations = { expect "x" { matches("s", "(") } },'))
    outcome = project.weir("check")
    assert outcome.code == 1 and "rules/r0.lua:3" in outcome.err and "'x'" in outcome.err


def test_a_file_that_declares_nothing_is_refused(project):
    outcome = World(project, COLUMNS, "return 5").check()
    assert outcome.code == 1 and "rules/r0.lua:1:8: error:" in outcome.err


def test_tabs_do_not_shift_the_caret(project):
    World(project, COLUMNS, 'return stream "silver.x" {\n\tfrom = "bronze.row",\n\t\tfrm = 1,\n}')
    outcome = project.weir("check")
    lines = outcome.err.split("\n")
    index = next(i for i, line in enumerate(lines) if "rules/r0.lua:3:3: error:" in line)
    assert outcome.code == 1 and len(lines[index + 1].split("frm")[0].expandtabs()) == len(lines[index + 2].split("^")[0].expandtabs())


# --- lints and codes ----------------------------------------------------------------------------


def test_lints_do_not_stop_a_run(project):
    rule = 'local model = 5\nlocal count_of = 0\nreturn stream "silver.x" { from = "bronze.row", where = function(e) count_of = count_of + 1 return e.n == model end }'
    world = World(project, COLUMNS, rule, [{"id": 1, "n": 5}])
    outcome = world.check()
    assert outcome.code == 0, outcome
    assert "rules/r0.lua:1:7: lint: " in outcome.err and "`model` hides the constructor" in outcome.err
    assert "rules/r0.lua:3:" in outcome.err and "count_of" in outcome.err
    assert world.run().rows("silver.x", "id") == [1]


def test_check_as_json_lists_every_diagnostic_with_its_place(project):
    World(project, COLUMNS, STREAM.replace("@", "frm = 1, wher = 2,"))
    outcome = project.weir("check", "--json")
    found = outcome.json()
    assert outcome.code == 1 and found["ok"] is False
    assert [(d["severity"], d["file"], d["line"], d["column"]) for d in found["diagnostics"]] == [("error", "rules/r0.lua", 3, 3), ("error", "rules/r0.lua", 3, 12)]


def test_all_errors_of_all_files_are_told_at_once(project):
    rules = ['return stream "silver.a" { frm = 1 }', 'return stream "silver.b" { from = "bronze.row", wher = 1 }']
    outcome = World(project, COLUMNS, rules).check()
    assert place(rules[0], "frm") in outcome.err and place(rules[1], "wher", "rules/r1.lua") in outcome.err


def test_exit_codes_say_whose_fault_it_is(project):
    world = World(project, COLUMNS, STREAM.replace("@", 'expectations = { expect "x" { not_null "n" } },'), [{"id": 1}, {"id": 2, "n": 1}, "junk"])
    assert project.weir("check").code == 0
    assert project.weir(*RUN).code == 0  # rows in quarantine are no failure
    assert project.weir("run").code == 2
    assert project.weir("run", "pipelines/none.lua").code == 2
    assert project.weir("check", "rules/none.lua").code == 2
    assert project.weir("explain", "silver.none").code == 2
    assert project.weir("replay", "pipelines/p.lua", "--epoch", "x").code == 2
    project.write("rules/r0.lua", "return 5")
    assert project.weir("check").code == 1 and project.weir(*RUN).code == 1
    world.project.write("rules/r0.lua", STREAM.replace("@", 'into = none,'))
    project.write("pipelines/p.lua", (project.root / "pipelines/p.lua").read_text().replace('"lake"', 'env "WEIR_NO_SUCH"'))
    for command in (("check",), ("explain", "silver.x"), RUN):
        outcome = project.weir(*command)
        assert outcome.code == 3 and "WEIR_NO_SUCH" in outcome.err, outcome


def test_a_missing_schema_is_shown_where_it_is_named(project):
    world = World(project, COLUMNS, STREAM.replace("@", ""))
    os.remove(project.root / "schemas/row.avsc")
    pipeline = (project.root / "pipelines/p.lua").read_text()
    assert_refused(world, place(pipeline, '"schemas/', "pipelines/p.lua"), "schemas/row.avsc")


def test_a_schema_error_names_the_file_and_the_field(project):
    world = World(project, '{"type":"record","name":"r","fields":[{"name":"id","type":"long"},{"name":"v","type":["int","string"]}]}', STREAM.replace("@", ""))
    pipeline = (project.root / "pipelines/p.lua").read_text()
    assert_refused(world, place(pipeline, '"schemas/', "pipelines/p.lua"), "schemas/row.avsc", '"v"')


# --- settings and the environment ---------------------------------------------------------------


def test_env_has_a_default_and_joins_with_text(project):
    world = World(project, COLUMNS, STREAM.replace("@", ""), [{"id": 1}])
    text = (project.root / "pipelines/p.lua").read_text().replace('"landing/*.jsonl"', 'env("WEIR_TEST_DIR", "elsewhere") .. "/*.jsonl"')
    project.write("pipelines/p.lua", text)
    project.run("pipelines/p.lua", env={"WEIR_TEST_DIR": "landing"})
    assert world.rows("silver.x", "id") == [1]


def test_set_changes_what_the_pipeline_says(project):
    world = World(project, COLUMNS, STREAM.replace("@", ""), [{"id": 1}])
    world.run("--set", "storage.root=other", "--set", "commit.every=50ms", "--set", "sources.bronze.row.path=landing/a*.jsonl")
    assert (project.root / "other/silver/x/_delta_log").is_dir() and not (project.root / "lake/silver").exists()


def test_resolved_values_belong_to_the_rule_set_hash(project):
    World(project, COLUMNS, STREAM.replace("@", ""))
    hashes = {project.weir("check", *more).out.split()[-1] for more in ((), ("--set", "commit.every=100ms"), ("--set", "commit.every=1s"))}
    assert len(hashes) == 2


def test_relative_paths_start_at_the_project_root(project):
    world = World(project, COLUMNS, STREAM.replace("@", ""), [{"id": 1}])
    (project.root / "deep/er").mkdir(parents=True)
    root = project.root
    project.root = root / "deep/er"
    try:
        assert project.weir("run", "../../pipelines/p.lua", "--until-end").code == 0
    finally:
        project.root = root
    assert world.rows("silver.x", "id") == [1]


# --- explain and try ----------------------------------------------------------------------------


def test_explain_says_plan_guarantees_and_code(project):
    World(project, COLUMNS, STREAM.replace("@", 'time = { field = "at" }, dedup = { by = "id", within = "1h" }, where = function(e) return e.n == 1 end,'))
    outcome = project.weir("explain", "silver.x")
    assert outcome.code == 0 and "exactly once" in outcome.out and "dedup" in outcome.out and "rules/r0.lua:3" in outcome.out, outcome
    coded = project.weir("explain", "silver.x", "--code")
    assert coded.code == 0 and "call" in coded.out and len(coded.out) > len(outcome.out) / 2
    assert json.loads(project.weir("explain", "silver.x", "--json").out)


def test_try_shows_what_passes_what_is_rejected_and_why(project):
    import subprocess
    World(project, COLUMNS, STREAM.replace("@", 'expectations = { expect "one" { between("n", 1, 1) } },'))
    events = '{"id":1,"n":1}\n{"id":2,"n":2}\nnonsense\n'
    done = subprocess.run([project.binary, "try", "rules/r0.lua"], cwd=project.root, input=events, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done
    assert "passes: silver.x" in done.stdout and '"id":1' in done.stdout and "one" in done.stdout and "nonsense" in done.stdout or "not decoded" in done.stdout
    told = subprocess.run([project.binary, "try", "rules/r0.lua", "--json"], cwd=project.root, input=events, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    found = [json.loads(line) for line in told.stdout.strip().split("\n")]
    assert [(each["dataset"], each["row"].get("id")) for each in found] == [("silver.x", 1), ("quarantine.silver.x", 2), ("quarantine.bronze.row", None)]


def test_weir_test_runs_specs_of_events_of_today(project):
    import datetime
    World(project, COLUMNS, STREAM.replace("@", 'time = { field = "at" },'))
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    micros = int(datetime.datetime.now(datetime.timezone.utc).timestamp() * 1e6)
    project.write("spec/x_spec.lua", f"""local testing = require "weir.testing"
describe("silver.x", function()
  it("takes what happens now", function()
    local t = testing.load "silver.x"
    t:feed({{ id = "1", at = "{now}" }}, '{{"id":2,"at":{micros}}}'):finish()
    assert.equal(2, #t:rows())
  end)
end)
""")
    outcome = project.weir("test")
    assert outcome.code == 0, outcome
