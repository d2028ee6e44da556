"""Meanings at the edges: fail and the last whole epoch, budgets, state caps, NaN, the generator, words and options of every kind."""

import datetime
import math
import re

import pytest

from conftest import ROOT
from language import RUN, World, assert_refused, at, place

COLUMNS = {"id": "long!", "k": "string", "n": "int", "d": "double", "big": "decimal(38,0)", "at": "timestamp"}


def later_words():
    text = (ROOT / "lua/stdlib/internal/words.lua").read_text()
    table = text[text.index("words.later = {"):]
    return re.findall(r"(\w+) = \"", table[:table.index("\n}")])


@pytest.mark.parametrize("word", sorted(later_words()))
def test_every_word_not_built_is_refused_by_name_wherever_it_stands(project, word):
    rule = f'local kept = {word}\nreturn stream "silver.x" {{ from = "bronze.row" }}'
    assert_refused(World(project, COLUMNS, rule), place(rule, f"{word}\n"), f"`{word}` is not built yet", line=word)


@pytest.mark.parametrize("name", ["decode", "time", "map", "where", "budget", "future"])
def test_reserved_reasons_are_no_names_of_expectations(project, name):
    rule = f'return stream "silver.x" {{ from = "bronze.row", expectations = {{ expect "{name}" {{ not_null "n" }} }} }}'
    assert_refused(World(project, COLUMNS, rule), place(rule, f'expect "{name}"'), "reserved")


# --- fail ---------------------------------------------------------------------------------------

FAIL = 'return stream "silver.x" { from = "bronze.row", expectations = { expect "n" { not_null "n", on_violation = "fail" } } }'


def test_fail_stops_at_the_last_whole_epoch_and_says_so_again(project):
    world = World(project, COLUMNS, FAIL, [{"id": 1, "n": 1}])
    world.run()
    world.feed([{"id": 2, "n": 2}, {"id": 3}, {"id": 4, "n": 4}], "b.jsonl")
    for _ in range(2):  # the same row stops it again
        outcome = project.run("pipelines/p.lua", code=1)
        assert "landing/b.jsonl offset 18" in outcome.err, outcome
        assert world.rows("silver.x", "id") == [1]
    world.run("--past-failed")
    assert sorted(world.rows("silver.x", "id")) == [1, 2, 4] and world.rejected("silver.x", "id") == [(3, ["n"])]


def test_a_corrected_rule_goes_on_where_fail_stopped(project):
    world = World(project, COLUMNS, FAIL, [{"id": 1, "n": 1}, {"id": 2}])
    project.run("pipelines/p.lua", code=1)
    project.write("rules/r0.lua", FAIL.replace('"fail"', '"warn"'))
    world.run()
    assert sorted(world.rows("silver.x", "id")) == [1, 2]


def test_a_decimal_sum_out_of_range_fails_as_fail_does(project):
    rule = 'return model "gold.m" { from = "bronze.row", time = { field = "at" }, window = tumbling "1m", measures = { s = sum "big" } }'
    World(project, COLUMNS, rule, [{"id": index, "big": "9" * 38, "at": at("10:00:00")} for index in range(2)])
    assert "gold.m" in project.run("pipelines/p.lua", code=1).err


# --- budgets and caps ---------------------------------------------------------------------------


def test_a_runaway_function_sends_rows_to_quarantine_with_reason_budget(project):
    rule = 'return stream "silver.x" { from = "bronze.row", where = function(e) while e.n == 3 do end return true end }'
    rules = [rule, 'return stream "silver.y" { from = "bronze.row" }']
    world = World(project, COLUMNS, rules, [{"id": index, "n": index} for index in range(5)]).run()
    rejected = world.counts("silver.x")["rejected"]
    assert set(rejected) == {"budget"} and rejected["budget"] >= 1
    assert (3, ["budget"]) in world.rejected("silver.x", "id")
    assert sorted(world.rows("silver.y", "id")) == list(range(5))  # the others are not held up
    assert world.counts("silver.x")["in"] == 5 == world.counts("silver.x")["out"] + rejected["budget"]
    assert project.weir("replay", "pipelines/p.lua", "--epoch", "1").code == 0


def test_a_state_cap_stops_with_declaration_and_option(project):
    rule = 'return stream "silver.x" { from = "bronze.row", time = { field = "at" }, dedup = { by = "id", within = "24h" } }'
    World(project, COLUMNS, rule, [{"id": index, "at": at("10:00:00")} for index in range(200000)], options='\n  memory = { state = "1MB" },')
    outcome = project.weir(*RUN)
    assert outcome.code in (1, 3) and "silver.x" in outcome.err and "memory.state" in outcome.err, outcome


def test_check_prints_the_estimate_of_state(project):
    rule = 'return stream "silver.x" { from = "bronze.row", time = { field = "at" }, dedup = { by = "id", within = "24h" } }'
    outcome = World(project, COLUMNS, rule).check()
    assert outcome.code == 0 and "silver.x: dedup remembers a key in 32 bytes" in outcome.out


# --- NaN ----------------------------------------------------------------------------------------


def test_nan_sorts_above_all_numbers(project):
    rules = ['return stream "silver.x" { from = "bronze.row", time = { field = "at" }, columns = { v = "double" }, map = function(e, out) out.v = e.d / e.d * e.n end }',
             'return model "gold.m" { from = "silver.x", window = tumbling "1m", measures = { lo = min "v", hi = max "v", kinds = distinct "v" } }']
    rows = [{"id": 1, "d": 0, "n": 1, "at": at("10:00:00")}, {"id": 2, "d": 1, "n": 9, "at": at("10:00:01")}, {"id": 3, "d": 0, "n": -1, "at": at("10:00:02")}]
    world = World(project, COLUMNS, rules, rows).run()
    low, high, kinds = world.rows("gold.m", "lo", "hi", "kinds")[0]
    assert low == 9.0 and math.isnan(high) and kinds == 2  # NaNs are one value


# --- sources ------------------------------------------------------------------------------------


def generator(project, options, name):
    project.write("pipelines/g.lua", f'return pipeline "g" {{ rules = "rules", storage = delta {{ root = "{name}" }}, '
                                     f'sources = {{ source "bronze.sale" {{ generator {{ {options} }} }} }} }}')
    project.write("rules/x.lua", 'return stream "silver.sale" { from = "bronze.sale" }')
    summary = project.run("pipelines/g.lua")
    import lake
    table = lake.by_deltalake(project.root / name / "silver/sale")
    return summary, sorted(map(repr, table.to_pylist()))


def test_the_generator_is_deterministic_by_seed(project):
    (one, first), (_, same), (_, other) = (generator(project, f"seed = {seed}, count = 500", name) for seed, name in ((7, "a"), (7, "b"), (8, "c")))
    assert one["events"] == 500 and first == same and first != other


def test_generator_options_are_judged(project):
    for option, text in (("seed = -1", "whole number"), ("defects = 2", "0 to 1"), ("count = \"many\"", "whole number"), ("start = \"soon\"", "time"), ("sed = 1", "did you mean `seed`?")):
        project.write("pipelines/g.lua", f'return pipeline "g" {{ storage = delta {{ root = "x" }}, sources = {{ source "bronze.sale" {{ generator {{ {option} }} }} }} }}')
        outcome = project.weir("check", "pipelines/g.lua")
        assert outcome.code == 1 and text in outcome.err and "pipelines/g.lua:1:" in outcome.err, outcome


def test_a_missing_file_without_a_pattern_is_told_and_a_pattern_without_files_ends_well(project):
    world = World(project, COLUMNS, 'return stream "silver.x" { from = "bronze.row" }')
    text = (project.root / "pipelines/p.lua").read_text()
    (project.root / "landing/a.jsonl").unlink()
    assert world.run().summary["events"] == 0
    project.write("pipelines/p.lua", text.replace("*.jsonl", "none.jsonl"))
    outcome = project.weir(*RUN)
    assert outcome.code != 0 and "landing/none.jsonl" in outcome.err


def test_ingested_at_is_the_recorded_clock(project):
    world = World(project, COLUMNS, 'return stream "silver.x" { from = "bronze.row", keep = { "id", "_ingested_at", "_timestamp", "_partition" } }', [{"id": 1}]).run()
    _, ingested, stamp, partition = world.rows("silver.x", "id", "_ingested_at", "_timestamp", "_partition")[0]
    assert abs(ingested - datetime.datetime.now(datetime.timezone.utc)) < datetime.timedelta(hours=1) and stamp is None and partition == 0
    assert project.weir("replay", "pipelines/p.lua", "--epoch", "1").code == 0


def test_bronze_into_delta_keeps_every_decoded_row(project):
    world = World(project, COLUMNS, 'return stream "silver.x" { from = "bronze.row", where = function(e) return false end }', [{"id": 1}, {"id": 2}, "x"], source="").run()
    assert sorted(world.rows("bronze.row", "id")) == [1, 2] and world.counts("bronze.row")["out"] == 2


# --- the command line ---------------------------------------------------------------------------


@pytest.mark.parametrize("command, option", [("check", "--until-end"), ("run", "--code"), ("try", "--epoch=1"), ("table", "--past-failed"), ("init", "--set=a=b")])
def test_an_option_of_another_command_is_a_usage_error(project, command, option):
    outcome = project.weir(command, option)
    assert outcome.code == 2 and f"{command} takes no {option.split('=')[0]}" in outcome.err


@pytest.mark.parametrize("setting", ["commit.every", "=1", ""])
def test_a_setting_without_key_or_value_is_a_usage_error(project, setting):
    assert project.weir("run", "pipelines/p.lua", "--set", setting).code == 2


def test_commit_every_has_a_least_value(project):
    World(project, COLUMNS, FAIL)
    outcome = project.weir("check", "--set", "commit.every=1ms")
    assert outcome.code == 1 and "at least 20ms" in outcome.err


# --- the same result ----------------------------------------------------------------------------


def test_no_result_depends_on_how_rows_are_cut_into_files(new_project):
    rules = ['return stream "silver.x" { from = "bronze.row", time = { field = "at", out_of_order = "10s" }, dedup = { by = "k", within = "5s" } }',
             'return model "gold.m" { from = "silver.x", by = "n", window = tumbling { size = "20s", allowed_lateness = "5s", late = "quarantine.late" }, '
             'measures = { c = count(), s = sum "d" } }']
    rows = [{"id": i, "k": f"k{i * 7 % 50}", "n": i % 3, "d": i / 7, "at": at(f"10:{(i + i * 13 % 25) // 60:02d}:{(i + i * 13 % 25) % 60:02d}")} for i in range(1500)]
    found = []
    for cut in (1500, 97):
        world = World(new_project(f"cut{cut}"), COLUMNS, rules)
        for start in range(0, len(rows), cut):
            world.feed(rows[start:start + cut], f"f{start:05d}.jsonl")
        (world.project.root / "landing/a.jsonl").unlink()
        world.run("--set", "commit.every=20ms")
        found.append([sorted(map(repr, world.rows(name, *columns))) for name, columns in
                      (("silver.x", ("id",)), ("gold.m", ("n", "window_start", "c", "s")), ("quarantine.late", ("id",)))])
    assert found[0] == found[1] and all(found[0][:2])


def test_two_streams_of_one_source_see_the_same_rows(project):
    rules = [f'return stream "silver.{name}" {{ from = "bronze.row", where = function(e) return e.n % 2 == {rest} end }}' for name, rest in (("even", 0), ("odd", 1))]
    world = World(project, COLUMNS, rules, [{"id": index, "n": index} for index in range(10)]).run()
    assert sorted(world.rows("silver.even", "id") + world.rows("silver.odd", "id")) == list(range(10))
