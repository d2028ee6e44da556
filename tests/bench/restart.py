"""How long a pipeline with millions of keys of state takes to be ready again: a model without a window and a rule, each with a key an event, are run,
stopped, and started anew on what they left. Beside it the floor: the files of snapshot and records read from the same disk.

usage: python3 tests/bench/restart.py [KEYS]      needs build/release/weir
"""

import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("WEIR_BUILD", ROOT / "build/release"))
STARTS = 3

PIPELINE = """return pipeline "restart" {
  rules = "rules", storage = delta { root = "lake" }, commit = { every = "1s" }, memory = { state = "8GB" },
  sources = { source "bronze.sale" { generator { count = %d, defects = 0, seed = 7 }, into = none } },
}
"""
RULES = {
    "model": 'return model "gold.by_event" { from = "bronze.sale", by = { "event_id" }, measures = { n = count(), units = sum "qty" }, into = none }\n',
    "rule": """return rule "gold.by_event" { on = "bronze.sale", key = "event_id", order = "arrival", emits = { ["gold.again"] = { event_id = "string" } },
  into = none, state = { units = counter() },
  process = function(e, s, p, emit)
    if s.units:get() > 0 then emit("gold.again", { event_id = e.event_id }) end
    s.units:add(e.qty)
  end }
""",
}


def run(folder):
    """The run's log, and its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run([BUILD / "weir", "run", "pipelines/p.lua", "--until-end", "--json"], cwd=folder, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if result.returncode != 0:
        sys.exit(f"restart: weir ended with {result.returncode}: {result.stderr[-2000:]}")
    return result.stderr, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def read_all(folder):
    start = time.process_time()
    size = 0
    for path in sorted((folder / "lake/_weir").rglob("*.s*")):
        if path.suffix in (".seg", ".snap"):
            with open(path, "rb") as file:
                while block := file.read(1 << 20):
                    size += len(block)
    return size, time.process_time() - start


def main():
    keys = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="weir-bench-"))
    try:
        for name, rule in RULES.items():
            folder = scratch / name
            for path, text in (("pipelines/p.lua", PIPELINE % keys), ("rules/r.lua", rule)):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(text)
            run(folder)
            waits, cpu = [], []
            for _ in range(STARTS):
                log, seconds = run(folder)
                waits.append(int(re.search(r"recovered at epoch \d+: \d+ records in (\d+) ms", log)[1]) / 1000)
                cpu.append(seconds)
            size, floor = read_all(folder)
            print(f"restart ({name}, {keys / 1e6:g} M keys): ready after {min(waits):.2f} s (of {STARTS} starts, {max(waits):.2f} s the longest), "
                  f"{min(cpu):.2f} s of CPU with the stop; floor: reading the {size / 1e6:.0f} MB there are {floor:.2f} s of CPU", flush=True)
            shutil.rmtree(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
