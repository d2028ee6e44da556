"""Commands: POST, recorded, carried out by a rule with state, replied; beside a bare write and fdatasync of the same disk in the same run.
A reply waits for two syncs, one after the other: of the command in its log, and of the epoch's record.
usage: commands.py   (WEIR_BUILD names the build directory, default build/release)"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("WEIR_BUILD", ROOT / "build/release"))
PIPELINE = """return pipeline "p" {
  rules = "rules", storage = delta { root = "lake" }, serve = { http = { port = 0 } },
  sources = { source "bronze.command" { http { path = "/in", reply = true }, json { schema = "command.avsc" } } },
}
"""
RULE = """return rule "bank.account" { on = "bronze.command", key = "name", order = "arrival",
  emits = { ["bank.entry"] = { id = "int64", name = "string", total = "int64" } },
  state = { total = counter() },
  process = function(e, s, p, emit) emit("bank.entry", { id = e.id, name = e.name, total = s.total:add(1) }) end,
}
"""


class Floor:
    """What the disk takes meanwhile: 1 KB appended and synced, ten times a second."""

    def __init__(self, folder):
        self.folder, self.taken, self.over = folder, [], threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        with open(self.folder / "floor", "wb", buffering=0) as file:
            while not self.over.wait(0.1):
                start = time.monotonic()
                file.write(b"x" * 1000)
                os.fdatasync(file.fileno())
                self.taken.append((time.monotonic() - start) * 1e3)

    def stop(self):
        self.over.set()
        self.thread.join()
        taken = sorted(self.taken) or [0]
        return taken[len(taken) // 2], taken[len(taken) * 99 // 100]


def main():
    with tempfile.TemporaryDirectory(dir=BUILD) as name:
        folder = pathlib.Path(name)
        for path, text in (("pipelines/p.lua", PIPELINE), ("rules/bank.lua", RULE),
                           ("command.avsc", json.dumps({"type": "record", "name": "c", "fields": [{"name": "id", "type": "long"}, {"name": "name", "type": "string"}]}))):
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(text)
        with open(folder / "log", "wb") as log:
            weir = subprocess.Popen([BUILD.resolve() / "weir", "run", "pipelines/p.lua", "--quiet"], cwd=folder, stderr=log)
        try:
            give_up = time.monotonic() + 30
            while b"listening at" not in (folder / "log").read_bytes():
                if weir.poll() is not None or time.monotonic() > give_up:
                    sys.exit((folder / "log").read_text())
                time.sleep(0.05)
            port = (folder / "log").read_text().split("listening at ")[1].split()[0].rsplit(":", 1)[1]
            for commands, connections in ((2000, 1), (4000, 4), (20000, 64)):
                floor = Floor(folder)
                try:
                    done = subprocess.run([BUILD / "tools/http_storm", port, "/in", str(commands), str(connections), "60", "nokeys"],
                                          capture_output=True, text=True, check=True)
                finally:
                    p50, p99 = floor.stop()
                r = json.loads(done.stdout.split("\n")[0])
                print(f"commands/{connections:<3} {commands} commands on {connections} connections ({commands / r['seconds']:.0f}/s): "
                      f"POST to reply p50 {r['p50_ms']:.2f} ms, p99 {r['p99_ms']:.2f} ms; one sync of the disk meanwhile p50 {p50:.2f} ms, p99 {p99:.2f} ms", flush=True)
        finally:
            weir.terminate()
            weir.wait(60)


if __name__ == "__main__":
    main()
