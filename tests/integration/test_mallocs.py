"""In steady state the threads that carry rows do not call the allocator: what they need comes from pools and recycled blocks, and a new high of
what waits is cut from address space taken at the start. Counted in a whole run by a library loaded before the process's own
(tools/malloc_count.c): once the first two seconds are over there is not one call, whatever else the machine does."""

import os
import pathlib
import subprocess

import pytest

from conftest import LONG, ROOT
from language import World

pa = pytest.importorskip("pyarrow")

BATCH = 4096
BATCHES = int(os.environ.get("WEIR_MALLOC_BATCHES", "10000" if LONG else "2500"))  # at least: the loop may ask for smaller ones
WARM_TENTHS = 20
COLUMNS = {"id": "long!", "a": "decimal(12,2)", "b": "decimal(12,2)", "qty": "int", "sku": "string!", "at": "timestamp!"}
RULES = ["""return stream "silver.x" { from = "bronze.row", time = { field = "at", out_of_order = "5s" },
  expectations = { expect "qty" { not_null "qty", between("qty", 1, 8) }, expect "adds up" { function(e) return e.a + e.b > 0 end } },
  dedup = { by = "id", within = "1m" },
  columns = { net = "decimal(13,2)", label = "string" },
  map = function(e, out) out.net = e.a - e.b out.label = e.sku end,
  drop = { "a" } }""",
         """return model "gold.x" { from = "silver.x", by = { "sku" }, window = tumbling "1m",
  measures = { n = count(), units = sum "qty", net = sum "net", high = max "net" } }"""]


@pytest.fixture
def counter(binary):
    for place in (binary.parent, ROOT / "build/dev", ROOT / "build/release"):
        if (place / "tools/malloc_count.so").exists():
            return place / "tools/malloc_count.so"
    pytest.skip("tools/malloc_count.so is not built (make check)")


def minutes(path, count):
    """Four batches a minute of event time, in zstd frames: a row in nine is rejected, windows fire as time goes on."""
    rows = "".join('{"id":1%d@MINUTE@,"a":"%d.%02d","b":"%d.37","qty":%d,"sku":"s%d","at":"2026-01-@TIME@:%02dZ"}\n'
                   % (n, n % 9000 + 1, n % 100, n % 7000, n % 9 + 1, n % 300, n * 60 // (4 * BATCH)) for n in range(4 * BATCH))
    codec = pa.Codec("zstd", compression_level=-5)  # fast
    with open(path, "wb") as file:
        for minute in range(count):
            text = rows.replace("@MINUTE@", f"{minute:05d}").replace("@TIME@", f"{minute // 1440 + 5:02d}T{minute // 60 % 24:02d}:{minute % 60:02d}")
            file.write(codec.compress(text.encode(), asbytes=True))


def test_the_loop_and_the_decoders_do_not_call_the_allocator(project, counter):
    world = World(project, COLUMNS, RULES, options='\n  commit = { every = "100ms" },')
    (project.root / "landing/a.jsonl").unlink()
    minutes(project.root / "landing/a.jsonl.zst", BATCHES // 4)
    (project.root / "pipelines/p.lua").write_text((project.root / "pipelines/p.lua").read_text().replace("*.jsonl", "*.jsonl.zst"))
    counts = project.root / "counts"
    summary = project.run("pipelines/p.lua", env={"LD_PRELOAD": str(counter), "MALLOC_COUNT": str(counts)})
    assert summary["events"] == BATCHES * BATCH and summary["datasets"]["gold.x"]["out"] == BATCHES // 4 * 300
    lines = [line.split(" ") for line in pathlib.Path(counts).read_text().splitlines()]
    assert any(name.startswith("src:") for _, name, _ in lines), lines
    end = max(int(tenth) for tenth, _, _ in lines)
    warm = min(WARM_TENTHS, end // 4)
    # The end of a run closes files and prints a summary.
    steady = [line for line in lines if warm <= int(line[0]) < end - 3 and (line[1] == "weir" or line[1].startswith("src:"))]
    assert not steady, f"calls as (tenth of a second, thread, count), of {end} tenths: {steady}"
