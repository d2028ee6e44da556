"""How long the loop is held when the measures of a model change while it runs, by groups, in memory and on disk, and what the first rows after that cost.

usage: python3 tests/bench/migrate.py [GROUPS]      needs build/release/weir
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("WEIR_BUILD", ROOT / "build/release"))

PIPELINE = """return pipeline "p" {
  storage = delta { root = "lake" }, commit = { every = "1s" }, memory = { state = "%s" },
  sources = { source "bronze.row" { files { path = "in/*.jsonl" }, json { schema = "schemas/row.avsc" }, into = none } },
}
"""
MODEL = """return model "gold.sum" { %s from = "bronze.row", by = { "k" }, measures = { n = count(), total = sum "v"%s }, into = none }
"""
SCHEMA = {"type": "record", "name": "row", "fields": [{"name": "k", "type": "long"}, {"name": "v", "type": "long"}]}
MIGRATE = "version = 2, migrate = { [1] = function(old, m) m.most = old.total end },"


def write(folder, name, groups):
    path = folder / f"in/{name}.tmp"
    with open(path, "w", encoding="ascii") as file:
        for n in range(groups):
            file.write(f'{{"k":{n * 2654435761 % (1 << 32)},"v":{n % 1000}}}\n')
    path.rename(folder / f"in/{name}.jsonl")


def status(folder):
    out = subprocess.run([BUILD / "weir", "status", "--json"], cwd=folder, capture_output=True, text=True)
    return json.loads(out.stdout) if out.returncode == 0 else {}


def until(condition):
    end = time.monotonic() + 300
    while not condition():
        if time.monotonic() > end:
            sys.exit("migrate: not met in time")
        time.sleep(0.02)


def read(folder, rows):
    start = time.monotonic()
    until(lambda: status(folder).get("datasets", {}).get("gold.sum", {}).get("in", 0) >= rows)
    return time.monotonic() - start


def measure(groups, memory):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-bench-"))
    process = None
    try:
        for path, text in (("pipelines/p.lua", PIPELINE % memory), ("rules/r.lua", MODEL % ("", "")), ("schemas/row.avsc", json.dumps(SCHEMA)), ("in/keep", "")):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        write(folder, "a", groups)
        with open(folder / "log", "w", encoding="utf-8") as log:
            process = subprocess.Popen([BUILD / "weir", "run", "pipelines/p.lua"], cwd=folder, stdout=log, stderr=log)
        read(folder, groups)
        time.sleep(2)
        (folder / "rules/r.tmp").write_text(MODEL % (MIGRATE, ', most = max "v"'))
        start = time.monotonic()
        (folder / "rules/r.tmp").rename(folder / "rules/r.lua")
        until(lambda: "is live" in (status(folder).get("note") or ""))
        live_s = time.monotonic() - start
        held = re.search(r"swapped in ([0-9.]+) ms", (folder / "log").read_text(encoding="utf-8"))
        write(folder, "b", groups)
        met_s = read(folder, 2 * groups)
        print(f"{groups:>10} groups, memory.state {memory:>6}: live {live_s:5.2f} s after the file was saved, the loop held {float(held.group(1)):8.1f} ms, "
              f"{met_s * 1e9 / groups:6.0f} ns a group met", flush=True)
    finally:
        if process is not None:
            process.send_signal(signal.SIGTERM)
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def main():
    groups = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    for count in (groups // 10, groups):
        measure(count, "1GB")
    measure(groups, "32MB")


if __name__ == "__main__":
    main()
