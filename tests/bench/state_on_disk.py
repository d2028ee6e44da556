"""Keyed state four times as large as its memory: CPU of all threads a row, by how keys are drawn, beside the same rows with all keys in memory.
The loop and the thread of the disk mostly take turns, so the rows of a CPU second are near what a quiet machine does in one; what it took here is told beside it.
A join has a row of each key on its right; then rows of keys drawn come on its left, meet one each, and are kept.
usage: state_on_disk.py [KEYS [model|rule|join]]   (WEIR_BUILD names the build directory, default build/release)"""

import json
import os
import pathlib
import random
import resource
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("WEIR_BUILD", ROOT / "build/release")).resolve()
PIPELINE = """return pipeline "p" {{ rules = "rules", storage = delta {{ root = "lake" }}, memory = {{ state = "{memory}KB" }},
  sources = {{ source "bronze.row" {{ files {{ path = "in/*.jsonl" }}, json {{ schema = "row.avsc" }}, into = none }} }} }}
"""
RULE = """return rule "gold.sum" { on = "bronze.row", key = "k", order = "arrival", into = none, emits = { ["gold.none"] = { k = "int64" } },
  state = { n = counter(), last = value "int64" }, process = function(e, s) s.n:add() s.last:set(e.v) end }
"""
MODEL = """return model "gold.sum" { from = "bronze.row", by = { "k" }, measures = { n = count(), total = sum "v" }, into = none }
"""
JOIN = """return {
  stream "silver.l" { from = "bronze.row", where = function(e) return e.v == 0 end, into = none },
  stream "silver.r" { from = "bronze.row", where = function(e) return e.v == 1 end, into = none },
  stream "gold.both" { from = "silver.l", join = { r = regular_join "silver.r" { on = "k", ttl = none } }, columns = { other = "int64" }, map = function(e, out, j) out.other = j.r.v end, into = none },
}
"""


def zipf(keys, count, s=0.99):
    """As YCSB draws them, scattered over the keys."""
    total, weights = 0.0, []
    for i in range(1, keys + 1):
        total += 1 / i ** s
        weights.append(total)
    places = list(range(keys))
    random.shuffle(places)
    return random.choices(places, cum_weights=weights, k=count)


def run(folder, files, memory):
    for path in (folder / "lake", folder / "in"):
        subprocess.run(["rm", "-rf", path], check=True)
    (folder / "in").mkdir()
    for name in files:
        os.link(folder / name, folder / "in" / name)
    (folder / "pipelines/p.lua").write_text(PIPELINE.format(memory=memory))
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([BUILD / "weir", "run", "pipelines/p.lua", "--until-end", "--json"], cwd=folder, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - start
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall, json.loads(done.stdout)


def main():
    keys = int(sys.argv[1]) if len(sys.argv) > 1 else 1000000
    kind = sys.argv[2] if len(sys.argv) > 2 else "model"
    rows = keys
    random.seed(1)
    with tempfile.TemporaryDirectory(dir=BUILD) as name:
        folder = pathlib.Path(name)
        (folder / "pipelines").mkdir()
        (folder / "rules").mkdir()
        (folder / "rules/sum.lua").write_text({"rule": RULE, "join": JOIN}.get(kind, MODEL))
        (folder / "row.avsc").write_text(json.dumps({"type": "record", "name": "r", "fields": [{"name": "k", "type": "long"}, {"name": "v", "type": "long"}]}))
        draws = {"a": range(keys), "uniform": (random.randrange(keys) for _ in range(rows)), "zipf": zipf(keys, rows)}
        for file, drawn in draws.items():
            v = 0 if kind == "join" and file != "a" else 1
            (folder / f"{file}.jsonl").write_text("".join('{"k":%d,"v":%d}\n' % (k, v) for k in drawn))
        loaded, loaded_wall, summary = run(folder, ["a.jsonl"], 4 << 20)
        memory = summary["figures"]["state_bytes"] // 4 // 1024
        spilled, spilled_wall, _ = run(folder, ["a.jsonl"], memory)
        for file in ("uniform", "zipf"):
            whole, whole_wall, _ = run(folder, ["a.jsonl", f"{file}.jsonl"], 4 << 20)
            part, part_wall, _ = run(folder, ["a.jsonl", f"{file}.jsonl"], memory)
            cpu, floor = (part - spilled) / rows, (whole - loaded) / rows
            print(f"state_on_disk/{kind}/{file:8} {keys} keys, memory.state a quarter of them ({memory >> 10} MB): {cpu * 1e9:.0f} ns of CPU a row, {1 / cpu / 1e3:.0f} K rows a CPU second "
                  f"(all in memory {floor * 1e9:.0f} ns); took {(part_wall - spilled_wall):.1f} s (in memory {whole_wall - loaded_wall:.1f} s)", flush=True)


if __name__ == "__main__":
    main()
