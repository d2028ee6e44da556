"""Kills a run and starts it again: the tables must be those of an undisturbed run, to the last bit of every double sum."""

import gzip
import os
import pathlib
import random
import re
import signal
import subprocess

import conftest
import end_to_end
import events
import lake
import standard

PIPELINE = "pipelines/standard.lua"
TABLES = ("bronze/sale", "silver/sale", "gold/velocity", "gold/by_store", "gold/hops", "gold/visits", "gold/dozens", "gold/levels", "gold/running", "gold/ran", "gold/stays", "gold/both", "gold/dearest", "gold/busiest", "gold/till", "gold/streak", "quarantine/silver/sale", "quarantine/bronze/sale",
          "quarantine/late_sale")
# Small epochs and segments and frequent snapshots, so that a run of under a second passes every point. What a test costs
# is mostly its epochs, a commit to each table, of which a busy machine makes more: so they are fewer where events are.
EVERY = os.environ.get("WEIR_CRASH_EVERY", "40ms")
OPTIONS = ("--set", f"commit.every={EVERY}", "--set", "ledger.segment=64KB", "--set", "ledger.snapshot_every=30ms", "--set", "ledger.keep=0s")
PLAIN_EVENTS = int(os.environ.get("WEIR_CRASH_EVENTS", "8000"))
TILL_EVENTS = PLAIN_EVENTS // 4

# Beside the standard rules: a table with partitions, and a second source that has no files.
BY_STORE = """\
return model "gold.by_store" {
  from     = "silver.sale",
  by       = { "store_id" },
  window   = tumbling { size = "10m", allowed_lateness = "30s" },
  measures = { weight = sum "weight", mean = avg "weight", sales = count() },
  into     = delta { partition_by = { date "window_start" } },
}
"""
SILVER_TILL = """\
return stream "silver.till" {
  from    = "bronze.till",
  time    = { field = "sold_at", out_of_order = "5s" },
  dedup   = { by = "event_id", within = "1m" },
  columns = { share = "double" },
  map     = function(e, out) out.share = (e.qty or 0) / 7 end,
  into    = none,
}
"""
GOLD_TILL = """\
return model "gold.till" {
  from     = "silver.till",
  by       = { "kind" },
  window   = tumbling { size = "1s" },
  measures = { lines = count(), share = sum "share" },
}
"""
HOPS = """\
return model "gold.hops" {
  from     = "silver.sale",
  by       = { "store_id" },
  window   = hopping { size = "10m", every = "1m", allowed_lateness = "30s" },
  measures = {
               own = aggregate { state = { weight = "double", rows = "int64" }, add = function(s, e) s.weight = e.weight or 0; s.rows = 1 end,
                                 merge = function(s, o) s.weight = s.weight + o.weight; s.rows = s.rows + o.rows end,
                                 result = function(s) return s.weight / tonumber(s.rows) end, type = "double" },
               weight = sum "weight", mean = avg "weight", sales = count(), kinds = distinct "currency",
               skus = approx_distinct "sku", heavy = approx_quantile("weight", 0.9), spread = stddev "weight",
               middle = median "weight", often = top_k("sku", 3) },
}
"""
VISITS = """\
return model "gold.visits" {
  from     = "silver.sale",
  by       = { "store_id" },
  window   = session { gap = "2s", allowed_lateness = "30s" },
  measures = {
               own = aggregate { state = { weight = "double", rows = "int64" }, add = function(s, e) s.weight = e.weight or 0; s.rows = 1 end,
                                 merge = function(s, o) s.weight = s.weight + o.weight; s.rows = s.rows + o.rows end,
                                 result = function(s) return s.weight / tonumber(s.rows) end, type = "double" },
               weight = sum "weight", mean = avg "weight", sales = count(), kinds = distinct "currency", sku = max "sku",
               dearest = arg_max("sku", "unit_price"), late = last "sku", heavy = approx_quantile("weight", 0.9), skus = collect("sku", { max = 5 }) },
}
"""
DOZENS = """\
return model "gold.dozens" {
  from     = "silver.sale",
  by       = { "store_id" },
  window   = count(12),
  measures = {
               own = aggregate { state = { weight = "double", rows = "int64" }, add = function(s, e) s.weight = e.weight or 0; s.rows = 1 end,
                                 merge = function(s, o) s.weight = s.weight + o.weight; s.rows = s.rows + o.rows end,
                                 result = function(s) return s.weight / tonumber(s.rows) end, type = "double" },
               weight = sum "weight", sales = count(), kinds = distinct "currency", sku = max "sku", skus = collect("sku", { max = 5 }), heavy = quantile("weight", 0.9) },
}
"""
TOTALS = """\
return {
  model "gold.totals" {
    from     = "silver.sale",
    by       = { "store_id", "sku" },
    measures = { weight = sum "weight", sales = count(), lightest = min "weight", kinds = distinct "currency", unit = max "unit_price" },
    into     = none,
  },
  model "gold.levels" {
    from     = "gold.totals",
    by       = { "store_id" },
    measures = { skus = count(), sales = sum "sales", least = min "sales", most = max "sales", lightest = min "lightest", sku = max "sku",
                 half = quantile("sales", 0.5), busiest = arg_max("sku", "sales") },
  },
}
"""
UPDATES = """\
return {
  model "gold.running" {
    from     = "silver.sale",
    by       = { "store_id" },
    window   = tumbling { size = "10m", allowed_lateness = "30s" },
    measures = { weight = sum "weight", sales = count(), kinds = distinct "currency", sku = max "sku" },
    emit     = "on_update",
  },
  model "gold.stays" {
    from     = "silver.sale",
    by       = { "store_id" },
    window   = session { gap = "2s", allowed_lateness = "30s" },
    measures = { sales = count(), kinds = distinct "currency", sku = max "sku", heavy = quantile("weight", 0.9) },
    emit     = "on_update",
  },
  model "gold.ran" {
    from     = "gold.running",
    by       = { "store_id" },
    measures = { windows = count(), sales = sum "sales", most = max "sales", sku = min "sku" },
  },
  stream "silver.heavy" { from = "silver.sale", where = function(e) return e.weight > 1 end, into = none },
  model "gold.both" {
    from     = { "silver.sale", "silver.heavy" },
    by       = { "_from", "store_id" },
    measures = { rows = count(), qty = sum "qty", first_id = min "event_id" },
  },
}
"""
TOPS = """\
return {
  model "gold.dearest" {
    from = "silver.sale",
    top  = { n = 3, by = { "-unit_price", "sku" }, per = { "store_id" }, rank = "rank" },
  },
  model "gold.busiest" {
    from     = "silver.sale",
    by       = { "store_id" },
    window   = hopping { size = "2m", every = "1m" },
    measures = { sales = count() },
    top      = { n = 2, by = "-sales", per = { "window_start" }, ties = "all", rank = "rank" },
  },
}
"""
STREAK = """\
return rule "till.streak" {
  on      = "silver.till",
  key     = { "kind" },
  emits   = { ["gold.streak"] = { kind = "string", at = "timestamp", why = "string", lines = "int64", share = "double", last = "string" } },
  state   = { lines = counter(), recent = ring(8, { share = "double", id = "string" }), largest = value "double" },
  process = function(e, s, p, emit)
    s.lines:add()
    s.recent:push(e.share, e.event_id)
    local largest = s.largest:get()
    if not largest or e.share > largest then s.largest:set(e.share) end
    if s.lines:get() % 50 == 0 then
      emit("gold.streak", { kind = e.kind, at = e.sold_at, why = "fifty", lines = s.lines:get(), share = s.recent:sum("share", "1s"), last = s.recent:first().id })
      s:timer("after", e.sold_at + milliseconds(30))
    end
    if s.lines:get() % 1001 == 0 then error("a thousand and one") end
  end,
  timers  = { after = function(key, s, p, emit, at) emit("gold.streak", { kind = key, at = at, why = "after", lines = s.lines:get() }) end },
}
"""
TILL_SOURCE = '    source "bronze.till" { generator { seed = 9, count = %d, rate = 0 }, into = none },\n  },\n}\n' % TILL_EVENTS


def fault_points():
    text = (conftest.ROOT / "runtime/core/fault.def").read_text(encoding="utf-8")
    return re.findall(r"^X\((\w+)", text, re.MULTILINE)


# Reached only when a rule file is saved while the pipeline runs.
BY_RELOAD = ("reload_staged", "reload_swapped")
# What this pipeline does not do has tests of its own: test_kafka_sink.py, test_merge_pipeline.py, test_http.py, test_rebuild.py.
ELSEWHERE = ("kafka_", "delta_merge_", "delta_compaction_", "delta_vacuum_", "http_", "rebuild_")
POINTS = [point for point in fault_points() if point not in BY_RELOAD and not point.startswith(ELSEWHERE)]


def write_landing(folder):
    """Nasty events in plain and zipped files, then enough plain ones that a run takes many epochs."""
    events.Events(seed=11, rows=1500).write(folder)
    plain = folder / "zzz-a.jsonl"
    end_to_end.write_events(plain, PLAIN_EVENTS)
    lines = plain.read_bytes().splitlines(keepends=True)
    plain.write_bytes(b"".join(lines[:PLAIN_EVENTS // 2]))
    (folder / "zzz-b.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[PLAIN_EVENTS // 2:]), 1, mtime=0))


def prepare(project, landing):
    standard.write(project)
    text = (project.root / PIPELINE).read_text(encoding="utf-8")
    assert text.endswith("  },\n}\n")
    project.write(PIPELINE, text.removesuffix("  },\n}\n") + TILL_SOURCE)
    project.write("rules/gold/by_store.lua", BY_STORE)
    project.write("rules/gold/hops.lua", HOPS)
    project.write("rules/gold/visits.lua", VISITS)
    project.write("rules/gold/dozens.lua", DOZENS)
    project.write("rules/gold/totals.lua", TOTALS)
    project.write("rules/gold/tops.lua", TOPS)
    project.write("rules/gold/updates.lua", UPDATES)
    project.write("rules/silver/till.lua", SILVER_TILL)
    project.write("rules/gold/till.lua", GOLD_TILL)
    project.write("rules/gold/streak.lua", STREAK)
    (project.root / "landing").symlink_to(landing)


def columns_of(name, table):
    # What a table says about when and by whom a row was written differs from run to run; what it says about the row does not.
    return ["_raw"] if name == "quarantine/bronze/sale" else [column for column in table.column_names if not column.startswith("_")]


def tables(project):
    found = {}
    for name in TABLES:
        table = lake.by_deltalake(project.root / "lake" / name)
        found[name] = table.select(columns_of(name, table))
    return found


def assert_same_tables(actual, expected, what):
    for name in TABLES:
        lost, doubled = lake.exact_differences(actual[name], expected[name])
        assert not lost and not doubled, (
            f"{what}: {name}: {actual[name].num_rows} rows, undisturbed {expected[name].num_rows}\nonly undisturbed: {lost}\nonly here: {doubled}")


def finish(project, *options):
    return project.run(PIPELINE, *OPTIONS, *options)


def run_with_fault(project, point, hit, action, *options, meanwhile=None):
    """Runs to the end or to the point's hit; (whether it was reached, the outcome)."""
    report = project.root / "faults"
    report.unlink(missing_ok=True)
    process = project.start("run", PIPELINE, "--until-end", "--json", *OPTIONS, *options,
                            env={"WEIR_FAULT": f"{point}:{hit}:{action}", "WEIR_FAULT_REPORT": str(report)})
    if meanwhile:
        meanwhile(process)
    out, err = process.communicate(timeout=conftest.TIMEOUT_S)
    outcome = conftest.Outcome(process.returncode, out, err)
    if action == "kill":
        reached = f"fault point {point} reached, hit {hit}" in err
        assert reached == (outcome.code == -signal.SIGKILL), outcome
        assert reached or outcome.code == 0, outcome
        return reached, outcome
    hits = dict(line.split() for line in report.read_text(encoding="utf-8").splitlines())
    return int(hits[point]) >= hit, outcome


def kill_after(project, seconds):
    """Starts a run and kills it after a time; True when it was still running."""
    process = project.start("run", PIPELINE, "--until-end", "--json", *OPTIONS)
    try:
        _, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True
    assert process.returncode == 0, errors
    return False


def random_kills(project, count, seed, whole_run_s):
    """Kills at up to `count` random instants, some soon after a start, then runs to the end. Returns the number killed."""
    rng = random.Random(seed)
    killed = 0
    for _ in range(count):
        if not kill_after(project, rng.uniform(0, whole_run_s * rng.choice([0.2, 0.6, 1]))):
            break
        killed += 1
    finish(project)
    return killed


def ledger_files(project):
    folder = project.root / "lake/_weir/standard/ledger"
    return sorted(pathlib.Path(folder).glob("*.seg")), sorted(pathlib.Path(folder / "snapshots").glob("*.snap"))
