"""The command as a user meets it: exit codes, messages with places and ways out, tables, replay."""

import decimal
import json
import math
import os
import shutil
import signal
import subprocess

import pytest

import lake
from language import World
from live import wait_until

SCHEMA = json.dumps({"type": "record", "name": "sale", "fields": [
    {"name": "id", "type": "string"}, {"name": "qty", "type": "int"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}}]})
PIPELINE = """return pipeline "shop" {
  rules   = "rules",
  storage = delta { root = "lake" },
  sources = {
    source "bronze.sale" { files { path = "landing/*.jsonl" }, json { schema = "schemas/sale.avsc" }, into = none },
  },
}
"""
RULE = """return stream "silver.sale" {
  from = "bronze.sale",
  time = { field = "at" },
  expectations = { expect "sold something" { function(e) return e.qty > 0 end@ACTION@ } },
}
"""
RUN = ("run", "pipelines/shop.lua", "--until-end")


def line(number, qty=1):
    return '{"id":"%d","qty":%d,"at":"2026-01-05T10:%02d:%02dZ"}\n' % (number, qty, number // 60 % 60, number % 60)


def sold(project):
    return sorted(int(text) for text in lake.by_deltalake(project.root / "lake/silver/sale").column("id").to_pylist())


@pytest.fixture
def shop(project):
    project.write("schemas/sale.avsc", SCHEMA)
    project.write("pipelines/shop.lua", PIPELINE)
    project.write("rules/silver/sale.lua", RULE.replace("@ACTION@", ""))
    project.write("landing/a.jsonl", "".join(line(n, qty=0 if n % 10 == 3 else 1) for n in range(100)))
    return project


def test_no_command_and_an_unknown_one_are_usage_errors(project):
    assert project.weir().code == 2
    outcome = project.weir("dance", "x")
    assert outcome.code == 2 and "dance" in outcome.err


def test_check_judges_the_pipeline_it_names_though_a_folder_above_has_another(shop):
    inner = shop.root / "other"
    for name, text in {"shop.lua": PIPELINE.replace('"shop"', '"other"'), "rules/sale.lua": RULE.replace("@ACTION@", "").replace("silver.sale", "silver.other"),
                       "schemas/sale.avsc": SCHEMA}.items():
        (inner / name).parent.mkdir(parents=True, exist_ok=True)
        (inner / name).write_text(text)
    (shop.root / "rules/silver/sale.lua").write_text("return nothing")
    outcome = shop.weir("check", "other/shop.lua")
    assert outcome.code == 0 and "1 streams" in outcome.out, outcome.err
    assert shop.weir("check", "rules/silver/sale.lua").code == 1


def test_help_goes_to_standard_output(project):
    outcome = project.weir("--help")
    assert outcome.code == 0 and "run" in outcome.out and not outcome.err


def test_help_of_one_command_tells_of_it_and_its_options(project):
    for arguments in (("replay", "--help"), ("replay", "-h"), ("help", "replay")):
        outcome = project.weir(*arguments)
        assert outcome.code == 0 and outcome.out.startswith("  weir replay PIPELINE") and "--epoch N  " in outcome.out, outcome
        assert "weir table" not in outcome.out and "--until-end" not in outcome.out


def test_a_file_that_does_not_load_is_all_that_is_told(project):
    project.write("rules/a.lua", 'return model "gold.a" { from = "silver.b", by = { "id" }, measures = { rows = count() } }')
    project.write("rules/b.lua", 'return stream "silver.b" { from "bronze.x" ')
    project.write("pipelines/p.lua", 'return pipeline "p" { rules = "rules", storage = delta { root = "lake" }, sources = { source "bronze.x" { generator { seed = 1, count = 1 } } } }')
    outcome = project.weir("check", "pipelines/p.lua")
    assert outcome.code == 1 and "rules/b.lua:1:" in outcome.err and "gold.a" not in outcome.err and "silver.b`" not in outcome.err, outcome


def test_a_pattern_that_no_file_matches_is_told(project):
    project.write("schemas/x.avsc", '{"type":"record","name":"x","fields":[{"name":"id","type":"long"}]}')
    project.write("rules/x.lua", 'return stream "silver.x" { from = "bronze.x" }')
    project.write("pipelines/p.lua", """return pipeline "p" { rules = "rules", storage = delta { root = "lake" },
      sources = { source "bronze.x" { files { path = "landing/*.jsonl" }, json { schema = "schemas/x.avsc" } } } }""")
    outcome = project.weir("run", "pipelines/p.lua", "--until-end")
    assert outcome.code == 0 and "bronze.x: no file matches landing/*.jsonl; check the pattern" in outcome.err, outcome
    project.write("landing/a.jsonl", '{"id":1}\n')
    assert "no file matches" not in project.weir("run", "pipelines/p.lua", "--until-end").err
    assert "no file matches" not in project.weir("run", "pipelines/p.lua", "--until-end").err, "what was read is no reason"


def test_a_missing_pipeline_file_is_named(project):
    outcome = project.weir("run", "pipelines/none.lua", "--until-end")
    assert outcome.code == 2 and "pipelines/none.lua" in outcome.err


def test_a_folder_in_place_of_a_file_is_named(shop):
    for command in ("run", "check", "try"):
        outcome = shop.weir(command, "rules")
        assert outcome.code == 2 and "rules is a folder; name a file in it" in outcome.err, outcome
    assert "check the path" in shop.weir("check", "rules/none.lua").err


def test_what_a_command_does_not_take_is_refused(shop):
    for arguments, word in ((("run", "pipelines/shop.lua", "extra"), "extra"), (("explain", "silver.sale", "x"), "x"), (("table", "show", "a", "b"), "b"),
                            (("version", "1"), "1"), (("check", "rules/silver/sale.lua", "none.lua"), "none.lua")):
        outcome = shop.weir(*arguments)
        assert outcome.code == 2 and word in outcome.err and "usage: weir" in outcome.err, outcome


def test_a_pipeline_without_an_end_passes_check(shop):
    shop.write("pipelines/shop.lua", 'return pipeline "g" { storage = delta { root = "lake" }, sources = { source "bronze.pos_sale" { generator { rate = 10 } } } }')
    shutil.rmtree(shop.root / "rules")
    assert shop.weir("check").code == 0


def test_explain_suggests_a_name(shop):
    outcome = shop.weir("explain", "silver.sael")
    assert outcome.code == 2 and "did you mean `silver.sale`?" in outcome.err


def test_tables_are_found_by_name_where_the_pipeline_puts_them(shop):
    shop.weir(*RUN)
    assert "silver/sale" in shop.weir("table", "ls").out
    assert shop.weir("table", "cat", "silver.sale", "--limit", "1", "--json").json()["qty"] == 1
    outcome = shop.weir("table", "show", "silver.none")
    assert outcome.code == 1 and "lake/silver/none" in outcome.err and "`weir table ls`" in outcome.err
    outcome = shop.weir("table", "cat", "silver.sale", "--columns", "none")
    assert outcome.code != 0 and "none" in outcome.err


def test_dump_of_what_is_no_file_of_ours_fails(shop):
    outcome = shop.weir("dump", "pipelines/shop.lua")
    assert outcome.code == 1 and "error" in outcome.out
    outcome = shop.weir("dump", "none")
    assert outcome.code == 3 and "none" in outcome.err


def test_init_leaves_what_is_there(project):
    project.write("p/pipelines/p.lua", "return nil")
    outcome = project.weir("init", "p")
    assert outcome.code == 2 and "is there already" in outcome.err
    assert project.weir("init", "nowhere/deep").code == 3


def test_init_names_the_project_after_its_folder(new_project):
    outer = new_project("outer")
    outcome = outer.weir("init", "shop/")
    assert outcome.code == 0 and "Next: cd shop, weir test" in outcome.out, outcome
    here = new_project("outer/here")
    outcome = here.weir("init", ".")
    assert outcome.code == 0 and "Next: weir test, then weir run pipelines/here.lua" in outcome.out, outcome
    outcome = here.weir("init", "a b")
    assert outcome.code == 2 and "'a b', is to be the project's" in outcome.err and not os.path.exists(here.root / "a b")


def test_rows_in_quarantine_are_no_failure_of_the_run(shop):
    summary = shop.weir(*RUN, "--json").json()
    assert summary["events"] == 100 and summary["epochs"] >= 1 and summary["seconds"] >= 0
    counts = summary["datasets"]["silver.sale"]
    assert (counts["in"], counts["out"], counts["rejected"]) == (100, 90, {"sold something": 10})


def test_a_mistake_in_a_rule_is_shown_with_place_caret_and_way_out(shop):
    shop.write("rules/silver/sale.lua", RULE.replace("@ACTION@", "").replace("time = {", "tyme = {"))
    for arguments in (("check",), RUN):
        outcome = shop.weir(*arguments)
        text = outcome.out + outcome.err
        assert outcome.code == 1, outcome
        assert "rules/silver/sale.lua:3:3" in text and "tyme" in text and "^" in text and "time" in text


def test_an_unknown_column_is_a_mistake_found_by_check(shop):
    shop.write("rules/silver/sale.lua", RULE.replace("@ACTION@", "").replace("e.qty", "e.qtty"))
    outcome = shop.weir("check")
    text = outcome.out + outcome.err
    assert outcome.code == 1 and "rules/silver/sale.lua:4:" in text and "qtty" in text and "qty" in text


@pytest.mark.parametrize("rule, word", [
    ('return rule "fraud.x" { on = "bronze.sale", key = "id" }', "rule"),
    ('return model "gold.x" { from = "bronze.sale", window = hopping { size = "1h", every = "1m" }, measures = { n = count() } }', "hopping"),
])
def test_a_word_not_built_yet_is_refused_by_name(shop, rule, word):
    shop.write("rules/extra.lua", rule)
    outcome = shop.weir(*RUN)
    assert outcome.code == 1 and word in outcome.out + outcome.err
    assert not (shop.root / "lake/silver").exists()


def test_check_of_a_good_project_says_nothing_bad(shop):
    assert shop.weir("check").code == 0


def test_an_unset_variable_without_default_is_the_environments_fault(shop):
    shop.write("pipelines/shop.lua", PIPELINE.replace('root = "lake"', 'root = env "WEIR_TEST_LAKE"'))
    outcome = shop.weir(*RUN)
    assert outcome.code == 3 and "WEIR_TEST_LAKE" in outcome.err
    assert shop.weir(*RUN, env={"WEIR_TEST_LAKE": "lake"}).code == 0
    assert len(sold(shop)) == 90


def test_fail_stops_at_the_row_and_past_failed_goes_on(shop):
    shop.write("rules/silver/sale.lua", RULE.replace("@ACTION@", ', on_violation = "fail"'))
    outcome = shop.weir(*RUN)
    assert outcome.code == 1 and "sold something" in outcome.err and "offset 141" in outcome.err
    assert shop.weir(*RUN, "--past-failed").code == 0
    assert sold(shop) == [n for n in range(100) if n % 10 != 3]
    assert lake.by_deltalake(shop.root / "lake/quarantine/silver/sale").num_rows == 10


def test_tables_are_listed_shown_and_read_by_the_command(shop):
    assert shop.weir(*RUN).code == 0
    listed = shop.weir("table", "ls", "lake")
    assert listed.code == 0 and "silver" in listed.out and "quarantine" in listed.out
    shown = shop.weir("table", "show", "lake/silver/sale")
    assert shown.code == 0 and "qty" in shown.out
    history = shop.weir("table", "history", "lake/silver/sale")
    assert history.code == 0 and history.out.strip()
    rows = [json.loads(text) for text in shop.weir("table", "cat", "lake/silver/sale", "--json").out.strip().split("\n")]
    assert sorted(int(row["id"]) for row in rows) == sold(shop)


def test_cat_prints_the_chosen_columns_of_a_table_somebody_else_made(shop):
    pa, deltalake = pytest.importorskip("pyarrow"), pytest.importorskip("deltalake")
    table = pa.table({
        "long": pa.array([2**63 - 1, None], pa.int64()), "text": ["ä\n\"", None], "bytes": pa.array([b"\x00\xff", None], pa.binary()),
        "price": pa.array([decimal.Decimal("12345678901234567890123456789.012345678"), None], pa.decimal128(38, 9)),
        "at": pa.array([1704103872123456, None], pa.timestamp("us", "UTC")), "local": pa.array([0, None], pa.timestamp("us")),
        "list": [[1, None], None], "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int32())), "nan": [math.nan, None]})
    deltalake.write_deltalake(shop.root / "theirs", table)
    deltalake.write_deltalake(shop.root / "theirs", table.slice(1), mode="append")
    first = ('{"long":9223372036854775807,"text":"ä\\n\\"","bytes":"AP8=","price":12345678901234567890123456789.012345678,'
             '"at":"2024-01-01T10:11:12.123456Z","local":"1970-01-01T00:00:00.000000","list":[1,null],"map":[{"key":"k","value":1}],"nan":"NaN"}')
    nulls = '{"long":null,"text":null,"bytes":null,"price":null,"at":null,"local":null,"list":null,"map":null,"nan":null}'
    whole = shop.weir("table", "cat", "theirs", "--json")
    assert sorted(whole.out.strip().split("\n")) == sorted([first, nulls, nulls])
    some = shop.weir("table", "cat", "theirs", "--json", "--columns", "price,long", "--version", "0")
    assert some.out.strip().split("\n") == ['{"price":12345678901234567890123456789.012345678,"long":9223372036854775807}', '{"price":null,"long":null}']
    wrong = shop.weir("table", "cat", "theirs", "--columns", "price,nope")
    assert wrong.code == 2 and '"nope"' in wrong.err


def test_a_second_run_on_the_same_ledger_is_refused_and_names_the_first(shop):
    first = shop.start("run", "pipelines/shop.lua")
    try:
        wait_until(lambda: (shop.root / "lake/silver/sale/_delta_log").exists() and len(sold(shop)) == 90)
        outcome = shop.weir(*RUN)
        assert outcome.code == 3 and str(first.pid) in outcome.err
    finally:
        first.send_signal(signal.SIGTERM)
        _, errors = first.communicate(timeout=30)
    assert first.returncode == 0, errors


def test_files_that_grow_and_files_that_appear_are_followed_and_resumed_at_the_byte(shop):
    shop.write("landing/a.jsonl", "".join(line(n) for n in range(50)) + line(50)[:20])
    process = shop.start("run", "pipelines/shop.lua", "--set", "commit.every=50ms")
    try:
        wait_until(lambda: sold(shop) == list(range(50)))
        with open(shop.root / "landing/a.jsonl", "a", encoding="utf-8") as out:
            out.write(line(50)[20:] + line(51))
        shop.write("landing/b.jsonl", "".join(line(n) for n in range(52, 60)))
        wait_until(lambda: sold(shop) == list(range(60)))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with open(shop.root / "landing/b.jsonl", "a", encoding="utf-8") as out:
            out.write("".join(line(n) for n in range(60, 70)))
        assert shop.weir(*RUN).code == 0
        assert sold(shop) == list(range(70))
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_replay_of_every_epoch_comes_out_the_same(shop):
    summary = shop.weir(*RUN, "--json", "--set", "commit.every=20ms").json()
    for epoch in range(1, min(summary["epochs"], 3) + 1):
        outcome = shop.weir("replay", "pipelines/shop.lua", "--epoch", str(epoch))
        assert outcome.code == 0, outcome


def test_init_makes_a_project_that_checks_tests_and_runs(new_project, tmp_path):
    outer = new_project("outer")
    assert outer.weir("init", "fresh").code == 0
    fresh = new_project("outer/fresh")
    assert fresh.weir("check").code == 0
    assert fresh.weir("test").code == 0
    names = sorted(os.listdir(fresh.root / "pipelines"))
    outcome = fresh.weir("run", f"pipelines/{names[0]}", "--until-end", "--json")
    assert outcome.code == 0 and outcome.json()["events"] > 0


def test_specs_run_again_when_a_file_they_come_from_changes(project):
    spec = 'describe("a rule", function() it("holds", function() assert.equals(1, require "lib.one") end) end)\n'
    project.write("spec/one_spec.lua", spec)
    project.write("lib/one.lua", "return 1\n")
    (project.root / "out").touch()
    with open(project.root / "out") as told, open(project.root / "out", "a") as out:
        process = subprocess.Popen([project.binary, "test", "--watch", "--output", "tap"], cwd=project.root, stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        try:
            said = ""

            def says(*texts):
                nonlocal said
                said += told.read()
                return all(text in said for text in texts)

            wait_until(lambda: says("ok 1", "waiting for a change"))
            said = ""
            project.write("lib/one.lua", "return 2\n")
            wait_until(lambda: says("not ok 1", "waiting for a change"))
            said = ""
            (project.root / "new").write_text("return 1\n")
            (project.root / "new").rename(project.root / "lib/one.lua") # as editors save
            wait_until(lambda: says("ok 1", "waiting for a change") and "not ok" not in said)
            assert process.poll() is None
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="needs qemu-user (tools/deps test)")
def test_a_processor_without_what_the_binary_needs_is_told(binary):
    if binary.parent.name in ("asan", "tsan"):
        pytest.skip("a sanitizer's own start does not run in an emulator")
    outcome = subprocess.run(["qemu-x86_64", "-cpu", "Nehalem", str(binary), "--version"], capture_output=True, text=True, timeout=60)
    assert outcome.returncode == 3 and "no AVX2" in outcome.stderr and "-cpu host" in outcome.stderr, outcome


def test_commands_about_an_instance_tell_what_is_wrong_with_the_rules(project):
    project.write("schemas/sale.avsc", SCHEMA)
    project.write("pipelines/shop.lua", PIPELINE)
    project.write("rules/sale.lua", "return stream 'silver.sale' { from = ")
    for command in ("status", "rollback"):
        outcome = project.weir(command, "pipelines/shop.lua")
        assert outcome.code == 1 and "rules/sale.lua:1" in outcome.err, outcome


def test_status_of_a_run_that_is_over_says_what_it_came_to(project):
    World(project, {"id": "long!"}, 'return stream "silver.x" { from = "bronze.row" }', [{"id": i} for i in range(500)]).run()
    status = project.weir("status", "--json").json()
    assert status["datasets"]["silver.x"]["out"] == 500 and status["epochs"] >= 1
    assert "500 events" in project.weir("status").out
