"""What the tests of state larger than its memory share: the pipeline, what is on disk, runs that are killed, and the figures of what is forgotten there."""

import json
import signal
import time
import urllib.request

PIPELINE = """return pipeline "p" {
  storage = delta { root = "lake" }, commit = { every = "@EVERY@" }, memory = { state = "@MEMORY@" }, ledger = { snapshot_every = "@SNAPSHOT@" },@MORE@
  sources = { source "bronze.row" { files { path = "in/*.jsonl" }, json { schema = "schemas/row.avsc" }, into = none } },
}
"""


def write_pipeline(project, memory="1MB", every="100ms", snapshot="1s", more=""):
    text = PIPELINE
    for name, value in {"MEMORY": memory, "EVERY": every, "SNAPSHOT": snapshot, "MORE": more}.items():
        text = text.replace(f"@{name}@", value)
    project.write("pipelines/p.lua", text)


def folder(project):
    return project.root / "lake/_weir/p/ledger/cold"


def used(project):
    return folder(project).exists()


def is_empty(project):
    """Nothing of what went there is left behind."""
    return not list(folder(project).iterdir())


def kill_again_and_again(project, times, step_s):
    """Each run lasts a step longer than the one before; the last may come to its end."""
    for n in range(times):
        process = project.start("run", "pipelines/p.lua", "--until-end", "--quiet", "--json")
        until = time.monotonic() + step_s + step_s * n
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)


def metrics(project, declaration):
    status = project.root / "lake/_weir/p/ledger/status.json"
    address = json.loads(status.read_text()).get("serve") if status.exists() else None
    if not address:
        return {}
    with urllib.request.urlopen(address + "/metrics", timeout=30) as response:
        text = response.read().decode()
    return {line.split("{")[0].removeprefix("weir_state_disk_"): float(line.split()[-1]) for line in text.splitlines()
            if line.startswith("weir_state_disk_") and f'"{declaration}"' in line}


def run_until_forgotten(project, declaration, count):
    """Runs until so much of a declaration has expired on disk; the figures of its disk then. The pipeline serves them."""
    process = project.start("run", "pipelines/p.lua", "--json")
    figures = {}
    until = time.monotonic() + 120
    while figures.get("forgotten_total", 0) < count:
        assert time.monotonic() < until and process.poll() is None, figures
        time.sleep(0.1)
        figures = metrics(project, declaration)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0
    return figures
