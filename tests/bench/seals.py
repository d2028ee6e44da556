"""The longest the loop is away from its duties where state is large: a million groups, each changed in every epoch, emitted at the end, in tumbling
and in hopping windows. Wall time is what others saw of it; a busy machine takes its share of that, so the loop's own CPU stands beside it.

usage: python3 tests/bench/seals.py [GROUPS]      needs build/release/weir
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("WEIR_BUILD", ROOT / "build/release"))
ROUNDS = 4

SCHEMA = json.dumps({"type": "record", "name": "row", "fields": [
    {"name": "k", "type": "long"}, {"name": "v", "type": "int"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}}]})
PIPELINE = """return pipeline "seals" {
  rules = "rules", storage = delta { root = "lake" }, commit = { every = "2s" }, memory = { state = "4GB" },
  sources = { source "bronze.row" { files { path = "landing/*.jsonl" }, json { schema = "schemas/row.avsc" }, into = none } },
}
"""
MODEL = """return model "gold.group" { from = "bronze.row", time = { field = "at" }, by = { "k" }, window = %s,
  measures = { n = count(), total = sum "v", least = min "v", most = max "v" } }
"""
WINDOWS = (("tumbling", 'tumbling "1h"', 1), ("hopping", 'hopping { size = "1h", every = "30m" }', 2))


def write_rows(path, groups):
    """Every group once a round, in another order than before: rounds are a minute of event time apart."""
    start = 1767607200_000_000
    with open(path, "w", encoding="ascii") as out:
        for round_number in range(ROUNDS):
            step = 7919 + 2 * round_number
            at = start + round_number * 60_000_000
            for first in range(0, groups, 10_000):
                out.write("".join('{"k":%d,"v":%d,"at":%d}\n' % (n * step % groups, n % 1000, at) for n in range(first, min(first + 10_000, groups))))


def main():
    groups = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_003  # a prime: each round meets every group
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="weir-bench-"))
    try:
        write_rows(scratch / "rows.jsonl", groups)
        for name, window, times in WINDOWS:
            folder = scratch / name
            for path, text in (("schemas/row.avsc", SCHEMA), ("pipelines/p.lua", PIPELINE), ("rules/group.lua", MODEL % window)):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(text)
            (folder / "landing").mkdir()
            (folder / "landing/rows.jsonl").symlink_to(scratch / "rows.jsonl")
            result = subprocess.run([BUILD / "weir", "run", "pipelines/p.lua", "--until-end", "--json"], cwd=folder, capture_output=True, text=True)
            if result.returncode != 0:
                sys.exit(f"seals: weir ended with {result.returncode}: {result.stderr[-2000:]}")
            summary = json.loads(result.stdout.strip().split("\n")[-1])
            out = summary["datasets"]["gold.group"]["out"]
            if out != groups * times:
                sys.exit(f"seals: {out} rows of output, not {groups * times}")
            figures = summary["figures"]
            print(f"seals ({name}, {groups} groups): {ROUNDS * groups / summary['epochs'] / 1e6:.1f} M rows an epoch, "
                  f"longest seal {figures['seal_max_us']} us ({figures['seal_max_cpu_us']} of its own), "
                  f"turn of the loop {figures['turn_max_us']} us ({figures['turn_max_cpu_us']} of its own, most in {figures['turn_max_in']}), "
                  f"{figures['resident_peak_bytes'] / 1e6:.0f} MB at most", flush=True)
            shutil.rmtree(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
