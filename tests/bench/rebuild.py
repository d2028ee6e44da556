"""How long a model takes to be made anew from bronze beside a running pipeline, how far behind it is then, how long the pipeline is away when it takes it
over, and how often snapshots are made meanwhile. The pipeline goes on with a stream of rows; beside it the floor: the same rows through the old model.

usage: python3 tests/bench/rebuild.py [EVENTS]      needs build/release/weir
"""

import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("WEIR_BUILD", ROOT / "build/release"))
RATE = 2000

PIPELINE = """return pipeline "rebuild" {
  rules = "rules", storage = delta { root = "lake" }, commit = { every = "1s" }, ledger = { snapshot_every = "5s" },
  sources = { source "bronze.sale" { files { path = "landing/*.jsonl" }, json { schema = "schemas/sale.avsc" } } },
}
"""
SCHEMA = {"type": "record", "name": "sale", "fields": [
    {"name": "sku", "type": "string"}, {"name": "qty", "type": "int"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}}]}
MODEL = """return model "gold.sold" { from = "bronze.sale", time = { field = "at", out_of_order = "5s" }, by = { "sku" }, window = tumbling { size = "1m" },
  measures = { qty = sum "qty"%s } }
"""
START_US = 1_767_600_000_000_000


def write(folder, name, first, count):
    path = folder / f"landing/{name}.tmp"
    with open(path, "w", encoding="ascii") as file:
        for n in range(first, first + count):
            file.write(f'{{"sku":"k{n * 2654435761 % 1000}","qty":{n % 7},"at":{START_US + n * 1000}}}\n')
    path.rename(folder / f"landing/{name}.jsonl")


def weir(folder, *arguments):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    result = subprocess.run([BUILD / "weir", *arguments], cwd=folder, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if result.returncode != 0:
        sys.exit(f"rebuild: weir {' '.join(arguments)} ended with {result.returncode}: {result.stderr[-2000:]}")
    return result.stdout, time.monotonic() - start, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main():
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-bench-"))
    try:
        for path, text in (("pipelines/p.lua", PIPELINE), ("rules/r.lua", MODEL % ""), ("schemas/sale.avsc", json.dumps(SCHEMA)), ("landing/keep", "")):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        write(folder, "0", 0, events)
        running = subprocess.Popen([BUILD / "weir", "run", "pipelines/p.lua", "--quiet"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        began, told = time.monotonic(), {}
        while told.get("events", 0) < events and running.poll() is None:
            time.sleep(0.2)
            status = folder / "lake/_weir/rebuild/ledger/status.json"
            told = json.loads(status.read_text()) if status.exists() else {}
        seconds = time.monotonic() - began
        (folder / "rules/r.tmp").write_text(MODEL % ", lines = count()")
        (folder / "rules/r.tmp").rename(folder / "rules/r.lua")
        sent = events
        rebuild = subprocess.Popen([BUILD / "weir", "rebuild", "gold.sold", "--json"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        while rebuild.poll() is None:
            write(folder, str(sent), sent, RATE // 2)
            sent += RATE // 2
            time.sleep(0.5)
        out, errors = rebuild.communicate()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if rebuild.returncode != 0:
            sys.exit(f"rebuild: {errors[-2000:]}")
        done = json.loads(out)
        cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        time.sleep(6)
        running.send_signal(signal.SIGTERM)
        running.wait()
        snapshots = len(list((folder / "lake/_weir/rebuild/ledger/snapshots").glob("*.snap")))
        print(f"rebuild ({events / 1e6:g} M events, {RATE} more a second): {done['rows'] / 1e6:.2f} M rows of bronze in {done['seconds']:.1f} s and {cpu:.1f} s of CPU, {done['passes']} passes, "
              f"{done['lag_seconds']:.2f} s behind at the end; the pipeline had it {done['takeover_seconds']:.2f} s after it was asked; {snapshots} snapshots kept, every 5 s; "
              f"floor: the same rows read and counted by the old model in {seconds:.1f} s", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
