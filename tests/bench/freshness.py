"""How old an event is when gold has it: 200,000 generated events a second for half a minute, on one loop.

state      epochs of 1 s; the age at which a row is in the window's state, where it can be read. Every ten seconds a window of 190,000 groups closes.
tables     epochs of 20 ms; the age at which what a row changed is committed to Delta, with the log's clean-up running.
Rows count from when they should have come, so that what waits for a busy loop is counted (coordinated omission).

usage: python3 tests/bench/freshness.py [SECONDS]      needs build/release/weir
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("WEIR_BUILD", ROOT / "build/release"))
RATE = 200_000
PIPELINE = """return pipeline "fresh" {
  rules = "rules", storage = delta { root = "lake" }, commit = { every = "%s" }, memory = { state = "4GB" },
  sources = { source "bronze.sale" { generator { rate = %d, count = %d, per_second = %d }, into = none } },
}
"""
STORM = """return model "gold.till" { from = "bronze.sale", time = { field = "sold_at", out_of_order = "1s" }, by = { "store_id", "till", "sku" },
  window = tumbling "10s", measures = { lines = count(), gross = sum "gross" } }
"""
SKU = """return model "gold.sku" { from = "bronze.sale", time = { field = "sold_at", out_of_order = "1s" }, by = { "sku" },
  window = tumbling "1s", measures = { units = sum "qty", gross = sum "gross" } }
"""
CASES = (("state", "1s", {"till": STORM, "sku": SKU}, "rows_to_state", (8, 30, 120)), ("tables", "20ms", {"sku": SKU}, "rows_to_tables", (45, None, None)))


def sync_floor(folder):
    """Milliseconds of one small synced write there, the middle of fifty."""
    times = []
    with open(folder / "floor", "wb") as out:
        for _ in range(50):
            began = time.perf_counter()
            out.write(b"x" * 4096)
            out.flush()
            os.fdatasync(out.fileno())
            times.append(time.perf_counter() - began)
    return sorted(times)[25] * 1e3


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="weir-bench-"))
    try:
        for name, every, rules, figure, asked in CASES:
            folder = scratch / name
            (folder / "pipelines").mkdir(parents=True)
            (folder / "rules").mkdir()
            (folder / "pipelines/p.lua").write_text(PIPELINE % (every, RATE, RATE * seconds, RATE))
            for rule, text in rules.items():
                (folder / f"rules/{rule}.lua").write_text(text)
            floor = sync_floor(folder)
            result = subprocess.run([BUILD / "weir", "run", "pipelines/p.lua", "--until-end", "--json"], cwd=folder, capture_output=True, text=True)
            if result.returncode != 0:
                sys.exit(f"freshness: weir ended with {result.returncode}: {result.stderr[-2000:]}")
            summary = json.loads(result.stdout.strip().split("\n")[-1])
            of, figures = summary["figures"][figure], summary["figures"]
            told = ", ".join(f"{what} {of[key] / 1e3:.1f} ms{f' (asked {limit})' if limit else ''}" for what, key, limit in zip(
                ("p50", "p99", "p99.9"), ("p50_us", "p99_us", "p999_us"), asked))
            rows = sum(dataset["out"] for of_dataset, dataset in summary["datasets"].items() if of_dataset.startswith("gold."))
            print(f"freshness {name:7s} epochs of {every}: {told}, most {of['max_us'] / 1e3:.1f}; {rows} rows out; longest turn {figures['turn_max_us'] / 1e3:.1f} ms "
                  f"({figures['turn_max_cpu_us'] / 1e3:.1f} CPU); a sync {floor:.2f} ms", flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
