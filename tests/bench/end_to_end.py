"""Files -> JSON -> four expectations, a map -> silver Delta and one-minute gold, as events/s and CPU per event,
beside a bare simdjson parse (on demand, one thread) of the same file in the same run.

usage: python3 tests/bench/end_to_end.py [EVENTS]      needs build/release/weir and build/release/bench
"""

import json
import os
import pathlib
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("WEIR_BUILD", ROOT / "build/release"))
sys.path.insert(0, str(ROOT / "tests/integration"))
import standard  # noqa: E402

START_US = 1767607200_000_000


SILVER = """\
return stream "silver.sale" {
  from  = "bronze.sale",
  time  = { field = "sold_at", out_of_order = "5s" },
  expectations = {
    expect "has a store"        { not_null "store_id" },
    expect "store in range"     { between("store_id", 1, 999) },
    expect "currency is traded" { one_of("currency", { "GBP", "EUR", "USD" }) },
    expect "lines add up"       { function(e) return e.gross == e.qty * e.unit_price - e.discount end },
  },
  columns = { net = "decimal(12,2)" },
  map     = function(e, out) out.net = e.gross - e.vat end,
}
"""
GOLD = """\
return model "gold.velocity" {
  from     = "silver.sale",
  by       = { "sku" },
  window   = tumbling { size = "1m", allowed_lateness = "30s", late = "quarantine.late_sale" },
  measures = { units = sum "qty", revenue = sum "net", sales = count() },
}
"""


class Folder:
    def __init__(self, root):
        self.root = pathlib.Path(root)

    def write(self, path, text):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text, encoding="utf-8")


def write_events(path, count):
    """Till lines of about 250 bytes, one a millisecond; a varied block is repeated with new ids and times."""
    rng = random.Random(7)
    parts = []
    for _ in range(5000):
        qty, price = rng.randrange(1, 6), rng.randrange(100, 9000)
        gross = qty * price
        money = [f"{cents // 100}.{cents % 100:02d}" for cents in (price, gross, gross // 6)]
        parts.append(
            '","store_id":%d,"sku":"S%d","channel":"store","currency":"%s","qty":%d,"unit_price":%s,"discount":0.00,"gross":%s,"vat":%s,'
            '"weight":%.3f,"receipt":%d,"sold_at":' % (rng.randrange(1, 999), rng.randrange(100, 300), rng.choice(["GBP", "EUR"]), qty,
                                                      *money, rng.uniform(0, 30), rng.randrange(1 << 40)))
    with open(path, "w", encoding="ascii") as out:
        for start in range(0, count, 5000):
            block = []
            for i in range(start, min(start + 5000, count)):
                block.append('{"event_id":"e-%012d%s%d}\n' % (i, parts[i - start], START_US + i * 1000))
            out.write("".join(block))


def run(folder, *options):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    result = subprocess.run([BUILD / "weir", "run", "pipelines/standard.lua", "--until-end", "--json", *options],
                            cwd=folder, capture_output=True, text=True)
    wall = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if result.returncode != 0:
        sys.exit(f"end_to_end: weir ended with {result.returncode}: {result.stderr[-2000:]}")
    summary = json.loads(result.stdout.strip().split("\n")[-1])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return summary, wall, cpu, summary["figures"]["resident_peak_bytes"] / 1e6


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000_000
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="weir-bench-"))
    try:
        events = scratch / "sale.jsonl"
        write_events(events, count)
        floor = subprocess.run([BUILD / "bench/bench_parse_floor", events, "3"], check=True, capture_output=True, text=True)
        print(floor.stdout.strip(), flush=True)
        floor_ns = float(floor.stdout.split("alone ")[1].split(" ")[0])
        for name, bronze, plain in (("bronze none", False, True), ("bronze written", True, True),
                                    ("dedup, where, a pattern, ten measures", False, False)):
            folder = Folder(scratch / re.sub(r"\W+", "-", name))
            standard.write(folder, bronze=bronze)
            if plain:
                shutil.rmtree(folder.root / "rules")
                folder.write("rules/silver/sale.lua", SILVER)
                folder.write("rules/gold/velocity.lua", GOLD)
            (folder.root / "landing").mkdir()
            (folder.root / "landing/sale.jsonl").symlink_to(events)
            summary, wall, cpu, rss = run(folder.root, "--set", "commit.every=1s")
            if summary["events"] != count:
                sys.exit(f"end_to_end: {summary['events']} events read of {count}")
            ns = cpu * 1e9 / count
            figures = summary["figures"]
            print(f"end to end ({name}): {count / wall / 1e6:.2f} M events/s, {ns:.0f} ns CPU/event = {ns / floor_ns:.1f} x the parse floor "
                  f"(decode {figures['source_cpu_ns'] / count:.0f}, loop {figures['loop_cpu_ns'] / count:.0f}, "
                  f"encode {figures['encode_cpu_ns'] / count:.0f}), {rss:.0f} MB at most, longest seal {figures['seal_max_us']} us ({figures['seal_max_cpu_us']} of its own), "
                  f"turn of the loop {figures['turn_max_us']} us ({figures['turn_max_cpu_us']} of its own, most in {figures['turn_max_in']})", flush=True)
            shutil.rmtree(folder.root)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
