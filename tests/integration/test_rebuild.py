"""A dataset is made anew from bronze beside the pipeline and taken over in one record: live, at a start, killed at each point, and refused where bronze lacks rows."""

import collections
import datetime
import json
import os
import signal
import time

import conftest
import deltalake
import lake
import pytest
from language import World
from live import wait_until

ROW = {"sku": "string!", "qty": "long!", "at": "timestamp!"}
OPTIONS = ' commit = { every = "30ms" }, ledger = { keep = "1h", snapshot_every = "100ms" },'
TIME = 'time = { field = "at", out_of_order = "5s" },'
WINDOW = 'window = tumbling { size = "1m" },'
SOLD = 'return model "gold.sold" { from = "bronze.row", %s by = { "sku" }, %s measures = { qty = sum "qty"%s }%s }\n'
ONE = SOLD % (TIME, WINDOW, "", "")
TWO = SOLD % (TIME, WINDOW, ", lines = count()", "")
POINTS = ("rebuild_before_record", "rebuild_recorded", "rebuild_exchanged", "ledger_torn_write", "delta_entry_linked", "ledger_before_sync", "ledger_after_sync",
          "delta_entry_written", "epoch_collected", "delta_before_commit")
START = datetime.datetime(2026, 1, 5, 10, tzinfo=datetime.timezone.utc)


def moment(n):
    return START + datetime.timedelta(seconds=n)


def rows(first, end):
    return [{"sku": f"k{n % 7}", "qty": n % 5, "at": moment(n).isoformat().replace("+00:00", "Z")} for n in range(first, end)]


def expected(end):
    """Windows that `end` rows and the end of input close."""
    made = collections.defaultdict(lambda: [0, 0])
    for n in range(end):
        window = made[f"k{n % 7}", moment(n).replace(second=0)]
        window[0] += n % 5
        window[1] += 1
    return {key: tuple(value) for key, value in made.items()}


def found(world, name="gold.sold"):
    table = world.table(name).to_pylist()
    made = {(row["sku"], row["window_start"]): (row["qty"], row["lines"]) for row in table}
    assert len(made) == len(table), "a window is there twice"
    return made


def write_rule(project, text, name="r0"):
    os.replace(project.write(f"rules/.{name}.tmp", text), project.root / f"rules/{name}.lua")


def make(project, rules=ONE, end=700, source="", options=OPTIONS):
    """A pipeline that was stopped amid its windows."""
    world = World(project, ROW, rules, rows(0, end), options=options, source=source)
    process = project.start("run", "pipelines/p.lua")
    wait_until(lambda: lake.by_deltalake(project.root / "lake/bronze/row").num_rows >= end)
    stop(process)
    return world


def stop(process):
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=conftest.TIMEOUT_S)
    assert process.returncode == 0, out + err
    return out + err


def test_a_running_pipeline_takes_over_what_was_rebuilt_beside_it(project):
    world = World(project, ROW, ONE, rows(0, 700), options=OPTIONS, source="")
    process = project.start("run", "pipelines/p.lua")
    wait_until(lambda: lake.by_deltalake(project.root / "lake/gold/sold").num_rows > 0)
    write_rule(project, TWO)
    wait_until(lambda: "weir rebuild gold.sold" in (project.weir("status", "--json").json()["note"] or ""))
    world.feed(rows(700, 900), "b.jsonl")
    done = project.weir("rebuild", "gold.sold", "--json")
    assert done.code == 0, done
    assert done.json()["taken_over"] and done.json()["rows"] >= 700
    world.feed(rows(900, 1200), "c.jsonl")
    wait_until(lambda: lake.by_deltalake(project.root / "lake/bronze/row").num_rows >= 1200)
    assert "lines" in lake.by_deltalake(project.root / "lake/gold/sold").column_names
    said = stop(process)
    assert "the rebuilt gold.sold took its place" in said
    world.run()
    assert found(world) == expected(1200)


def test_a_start_takes_over_what_was_rebuilt_while_it_stood_still_and_brings_it_up_to_date(project):
    world = make(project)
    write_rule(project, TWO)
    refused = project.weir("run", "pipelines/p.lua", "--until-end")
    assert refused.code == 1 and "weir rebuild" in refused.err, refused
    assert not project.weir("rebuild", "gold.sold", "--json").json()["taken_over"]
    world.feed(rows(700, 900), "b.jsonl")
    world.run()
    assert found(world) == expected(900)
    assert world.counts("gold.sold")["in"] == 900
    world.feed(rows(900, 1000), "c.jsonl")
    world.run()  # and again, from the ledger as it is now
    history = deltalake.DeltaTable(project.root / "lake/gold/sold").history()
    assert [entry["operation"] for entry in history].count("CREATE OR REPLACE TABLE AS SELECT") == 1


def test_an_unfinished_rebuild_is_finished_by_the_start(project):
    world = make(project, end=4000)
    write_rule(project, TWO)
    process = project.start("rebuild", "gold.sold")
    wait_until(lambda: (project.root / "lake/_weir/p/ledger/rebuild/gold.sold/ledger/status.json").exists() or process.poll() is not None)
    process.kill()
    process.communicate()
    told = project.weir("status", "--json").json()["rebuilds"]["gold.sold"]
    assert 0 <= told["rows"] <= 4000 and 0 <= told["behind"] <= 4000 - told["rows"]
    world.run()
    assert found(world) == expected(4000)


@pytest.mark.parametrize("hit, point", conftest.some([(hit, point) for hit in (1, 2) for point in POINTS], 5))
def test_killed_at_a_point_of_the_takeover_and_started_again(project, point, hit):
    world = make(project)
    write_rule(project, TWO)
    assert project.weir("rebuild", "gold.sold").code == 0
    world.feed(rows(700, 900), "b.jsonl")
    killed = project.weir("run", "pipelines/p.lua", "--until-end", env={"WEIR_FAULT": f"{point}:{hit}:kill"})
    assert killed.code == -signal.SIGKILL or (hit == 2 and killed.code == 0), killed
    world.run()
    assert found(world) == expected(900)


def test_what_stems_from_it_is_rebuilt_with_it_and_rows_that_change_are_merged(project):
    by_sku = 'return model "gold.total" { from = "gold.sold", by = { "sku" }, measures = { %s }, into = delta { mode = "merge" } }\n'
    other = 'return stream "silver.odd" { from = "bronze.row", where = function(e) return e.qty % 2 == 1 end }\n'
    world = make(project, [ONE, by_sku % 'windows = count()', other])
    before = deltalake.DeltaTable(project.root / "lake/silver/odd").version()
    write_rule(project, TWO)
    write_rule(project, by_sku % 'windows = count(), lines = sum "lines"', "r1")
    assert project.weir("rebuild", "gold.sold").code == 0
    world.feed(rows(700, 900), "b.jsonl")
    world.run()
    assert found(world) == expected(900)
    totals = {row["sku"]: (row["windows"], row["lines"]) for row in world.table("gold.total").to_pylist()}
    wanted = collections.defaultdict(lambda: [0, 0])
    for (sku, _), (_, lines) in expected(900).items():
        wanted[sku][0] += 1
        wanted[sku][1] += lines
    assert totals == {sku: tuple(value) for sku, value in wanted.items()}
    assert world.table("silver.odd").num_rows == sum(n % 5 % 2 for n in range(900))
    operations = [entry["operation"] for entry in deltalake.DeltaTable(project.root / "lake/silver/odd").history()]
    assert before >= 1 and not any("REPLACE" in operation for operation in operations)


def test_a_model_without_a_window_and_a_rule_are_rebuilt(project):
    model = 'return model "gold.sold" { from = "bronze.row", by = { "sku" }, measures = { qty = sum "qty"%s }, into = delta { mode = "merge" } }\n'
    rule = """return rule "gold.seen" { on = "bronze.row", key = "sku", order = "arrival", emits = { ["gold.seen_row"] = { sku = "string", seen = "%s" } },
  state = { seen = value "%s" }, process = function(e, s, p, emit)
    local now = (s.seen:get() or %s) + 1
    s.seen:set(now) emit("gold.seen_row", { sku = e.sku, seen = now }) end }
"""
    world = make(project, [model % "", rule % ("int64", "int64", "0")])
    write_rule(project, model % ', most = max "qty"')
    write_rule(project, rule % ("double", "double", "0.5"), "r1")
    assert project.weir("rebuild", "gold.sold").code == 0
    assert project.weir("rebuild", "gold.seen_row").code == 0
    world.feed(rows(700, 900), "b.jsonl")
    world.run()
    totals = {row["sku"]: (row["qty"], row["most"]) for row in world.table("gold.sold").to_pylist()}
    assert totals == {f"k{k}": (sum(n % 5 for n in range(k, 900, 7)), 4) for k in range(7)}
    seen = collections.Counter((row["sku"], row["seen"]) for row in world.table("gold.seen_row").to_pylist())
    assert seen == {(f"k{k}", i + 1.5): 1 for k in range(7) for i in range(len(range(k, 900, 7)))}


def test_a_second_rebuild_right_after_the_first_and_a_new_model_from_the_beginning(project):
    slow = OPTIONS.replace("100ms", "1h")  # no snapshot: recovery goes through both swaps
    world = make(project, options=slow)
    for number, measures in enumerate((', lines = count()', ', lines = count(), most = max "qty"', ', lines = count()')):
        write_rule(project, SOLD % (TIME, WINDOW, measures, ""))
        assert project.weir("rebuild", "gold.sold").code == 0
        world.feed(rows(700 + 100 * number, 800 + 100 * number), f"b{number}.jsonl")
        world.run("--set", "ledger.snapshot_every=1h")
    write_rule(project, SOLD.replace("gold.sold", "gold.fresh") % (TIME, WINDOW, ", lines = count()", ", into = delta { partition_by = { \"sku\" } }"), "r1")
    assert project.weir("rebuild", "gold.fresh").code == 0
    world.run("--set", "ledger.snapshot_every=1h")
    assert found(world) == expected(1000) == found(world, "gold.fresh")




def test_partitions_of_a_topic_have_times_of_their_own(kafka, project):
    """One partition is ten minutes behind the other: told apart, none of its rows is late, in the rebuild as before."""
    topic = kafka.create_topic(f"rebuild-{time.time_ns()}", partitions=2)
    world = World(project, ROW, ONE.replace('"5s"', '"0s"'), options=OPTIONS, source="")
    pipeline = (project.root / "pipelines/p.lua").read_text()
    project.write("pipelines/p.lua", pipeline.replace('files { path = "landing/*.jsonl" }', f'kafka {{ brokers = "{kafka.plaintext}", topic = "{topic}" }}')
                  .replace('pipeline "p"', f'pipeline "{topic}"'))

    def produce(first, end):
        for partition, behind in ((0, 0), (1, 600)):
            kafka.produce(topic, [{"value": json.dumps({"sku": f"p{partition}", "qty": 1, "at": moment(n - behind).isoformat().replace("+00:00", "Z")}),
                                   "partition": partition} for n in range(first, end)])

    def in_bronze(count):
        wait_until(lambda: lake.by_deltalake(project.root / "lake/bronze/row").num_rows >= count)

    process = project.start("run", "pipelines/p.lua")
    for first in (0, 500):
        produce(first, first + 500)
        in_bronze(2 * (first + 500))
    stop(process)
    write_rule(project, TWO.replace('"5s"', '"0s"'))
    assert project.weir("rebuild", "gold.sold").code == 0
    closed = [row["window_end"] for row in lake.by_deltalake(next((project.root / "lake/gold/sold").glob("rebuild-*"))).to_pylist()]
    assert max(closed) == moment(999 - 600).replace(second=0), "time waits for the partition that is behind, and for no other"
    produce(1000, 1500)
    process = project.start("run", "pipelines/p.lua")
    in_bronze(3000)
    stop(process)
    world.run()
    assert world.counts("gold.sold")["late"] == 0
    made = found(world)
    assert {key: lines for key, (qty, lines) in made.items()} == collections.Counter(
        (f"p{partition}", moment(n - behind).replace(second=0)) for partition, behind in ((0, 0), (1, 600)) for n in range(1500))


@pytest.mark.parametrize("source, why", [
    (", into = none", "bronze.row is not kept in a table (into = none)"),
    (', keep = "30d"', "does not keep all rows (keep)"),
])
def test_refused_where_bronze_does_not_hold_what_came(project, source, why):
    World(project, ROW, ONE, rows(0, 10), options=OPTIONS, source=source)
    refused = project.weir("rebuild", "gold.sold")
    assert refused.code == 1 and why in refused.err, refused
    unknown = project.weir("rebuild", "gold.taken")
    assert unknown.code == 1 and "no stream, model or rule that writes gold.taken" in unknown.err, unknown


def test_rows_that_were_deleted_from_bronze_stop_the_takeover(project):
    make(project)
    write_rule(project, TWO)
    deltalake.DeltaTable(project.root / "lake/bronze/row").delete("qty = 3")
    assert project.weir("rebuild", "gold.sold").code == 0
    refused = project.weir("run", "pipelines/p.lua", "--until-end")
    assert refused.code == 1 and "holds 560 of the 700 rows" in refused.err, refused
