"""HTTP in: a storm of 10,000 requests on 200 connections and a steady load, POST to 2xx, beside a bare write and fdatasync in the same run.
usage: http_in.py   (WEIR_BUILD names the build directory, default build/release)"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("WEIR_BUILD", ROOT / "build/release"))
PIPELINE = """return pipeline "p" {
  rules = "rules", storage = delta { root = "lake" }, commit = { every = "100ms" }, serve = { http = { port = 0 } },
  sources = { source "bronze.web" { http { path = "/in" }, json { schema = "web.avsc" }, into = none } },
}
"""


def floor(folder, seconds=2):
    """What the disk takes for a group: 20 KB appended and synced."""
    taken = []
    with open(folder / "floor", "wb", buffering=0) as file:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            start = time.monotonic()
            file.write(b"x" * 20000)
            os.fdatasync(file.fileno())
            taken.append(time.monotonic() - start)
    taken.sort()
    return taken[len(taken) // 2] * 1e3, taken[len(taken) * 99 // 100] * 1e3


def cpu_s(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    with tempfile.TemporaryDirectory(dir=BUILD) as name:
        folder = pathlib.Path(name)
        for path, text in (("pipelines/p.lua", PIPELINE), ("rules/web.lua", 'return stream "silver.web" { from = "bronze.web" }\n'),
                           ("web.avsc", json.dumps({"type": "record", "name": "w", "fields": [{"name": "id", "type": "long"}, {"name": "name", "type": "string"}]}))):
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(text)
        p50, p99 = floor(folder)
        print(f"http/fdatasync        floor: 20 KB written and synced p50 {p50:.2f} ms, p99 {p99:.2f} ms")
        with open(folder / "log", "wb") as log:
            weir = subprocess.Popen([BUILD.resolve() / "weir", "run", "pipelines/p.lua", "--quiet"], cwd=folder, stderr=log)
        try:
            give_up = time.monotonic() + 30
            while b"listening at" not in (folder / "log").read_bytes():
                if weir.poll() is not None or time.monotonic() > give_up:
                    sys.exit((folder / "log").read_text())
                time.sleep(0.05)
            port = (folder / "log").read_text().split("listening at ")[1].split()[0].rsplit(":", 1)[1]
            for label, events, connections in (("storm", 10000, 200), ("steady", 4000, 4)):
                before = cpu_s(weir.pid)
                done = subprocess.run([BUILD / "tools/http_storm", port, "/in", str(events), str(connections), "60", "nokeys"], capture_output=True, text=True, check=True)
                r = json.loads(done.stdout.split("\n")[0])
                print(f"http/{label:15}  {events} requests on {connections} connections in {r['seconds']:.2f} s ({events / r['seconds']:.0f}/s), POST to 2xx p50 {r['p50_ms']:.2f} ms, "
                      f"p99 {r['p99_ms']:.2f} ms; Weir's CPU {(cpu_s(weir.pid) - before) / events * 1e6:.0f} us a request")
        finally:
            weir.terminate()
            weir.wait(60)


if __name__ == "__main__":
    main()
