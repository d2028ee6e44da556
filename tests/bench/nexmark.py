"""Nexmark queries of tests/nexmark from the in-process generator into Delta, exactly once with a commit a second.

usage: python3 tests/bench/nexmark.py [EVENTS] [QUERY…]     (2000000, all; EVENTS=20000000 make bench-nexmark for the whole of it)
Events per second of CPU, all threads and the generator included, beside the figure published for Flink per core (nexmark/nexmark, 8 slots,
RocksDB, exactly once). Ends with the geometric mean and the least of the ratios, beside what they should be.
"""

import json
import math
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = os.environ.get("WEIR_BINARY", str(ROOT / "build/release/weir"))
FLINK = {"q0": 155, "q1": 158, "q2": 175, "q3": 152, "q4": 34, "q9": 14, "q14": 161, "q15": 72, "q16": 19, "q17": 117, "q18": 54, "q19": 44,
         "q20": 19, "q21": 98, "q22": 130}  # thousand events a second and core
TARGET_MEAN, TARGET_LEAST = 8, 4
SIDE_ROWS = 10_000  # of q13's side input


def run(query, events):
    folder = tempfile.mkdtemp(prefix="weir-nexmark-")
    side = folder + "/side.csv"
    with open(side, "w") as file:
        file.write("key,value\n" + "".join(f"{key},value {key * 7919 % SIDE_ROWS}\n" for key in range(SIDE_ROWS)))
    pipeline = "pipelines/side.lua" if query == "q13" else "pipelines/nexmark.lua"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        done = subprocess.run([BINARY, "run", pipeline, "--until-end", "--json"], cwd=ROOT / "tests/nexmark", capture_output=True, text=True,
                              env={**os.environ, "QUERY": query, "EVENTS": str(events), "LAKE": folder + "/lake", "SIDE": side})
        if done.returncode != 0:
            sys.exit(f"{query}: exit {done.returncode}\n{done.stderr[-2000:]}")
    finally:
        shutil.rmtree(folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    summary = json.loads([line for line in done.stdout.split("\n") if line.startswith("{")][-1])
    assert summary["events"] >= events
    return cpu, summary


def main():
    events = int(sys.argv[1]) if len(sys.argv) > 1 else int(os.environ.get("EVENTS", 2_000_000))
    queries = sys.argv[2:] or sorted((path.name for path in (ROOT / "tests/nexmark").glob("q*")), key=lambda name: int(name[1:]))
    ratios = []
    for query in queries:
        cpu, summary = run(query, events)
        rate = events / cpu / 1000
        ratio = rate / FLINK[query] if query in FLINK else None
        figures = summary["figures"]
        print(json.dumps({"bench": f"nexmark {query}", "events": events, "thousand_events_per_cpu_second": round(rate),
                          "cpu_ns_per_event": round(cpu * 1e9 / events), "loop_ns": round(figures["loop_cpu_ns"] / events),
                          "generator_ns": round(figures["source_cpu_ns"] / events), "resident_mb": round(figures["resident_peak_bytes"] / 1e6),
                          "published_flink_per_core": FLINK.get(query), "times_flink": round(ratio, 1) if ratio else None}), flush=True)
        if ratio:
            ratios.append(ratio)
    if ratios:
        mean = math.exp(sum(math.log(ratio) for ratio in ratios) / len(ratios))
        print(json.dumps({"bench": "nexmark", "queries": len(ratios), "geometric_mean_times_flink": round(mean, 1), "target_mean": TARGET_MEAN,
                          "least": round(min(ratios), 1), "target_least": TARGET_LEAST}))


if __name__ == "__main__":
    main()
