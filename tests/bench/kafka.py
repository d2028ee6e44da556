"""A topic of 5 M JSON events of 250 bytes (lz4, 4 partitions, nulls, long strings, 2 % rejects) through Weir, as events/s and
CPU per event on all of Weir's threads, beside librdkafka's bare consumer of the same topic in the same run.

usage: python3 tests/bench/kafka.py [EVENTS [WALK…]]      needs build/release/weir, Java and Maven
"""

import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

import end_to_end

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/services"))
import kafka  # noqa: E402

REPEATS = int(os.environ.get("WEIR_BENCH_REPEATS", "3"))
START_US = 1767607200_000_000
SCHEMA = """{"type": "record", "name": "sale", "fields": [
  {"name": "event_id", "type": "string"}, {"name": "store_id", "type": ["null", "int"], "default": null},
  {"name": "sku", "type": "string"}, {"name": "currency", "type": "string"}, {"name": "qty", "type": "int"},
  {"name": "unit_price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}},
  {"name": "gross", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
  {"name": "vat", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
  {"name": "loyalty_id", "type": ["null", "string"], "default": null}, {"name": "note", "type": ["null", "string"], "default": null},
  {"name": "sold_at", "type": {"type": "long", "logicalType": "timestamp-micros"}}]}
"""
PIPELINE = """return pipeline "bench" {
  rules = "rules", storage = delta { root = "lake" }, commit = { every = "1s" },
  sources = { source "bronze.sale" { kafka { brokers = "@BROKERS@", topic = "sale" }, json { schema = "schemas/sale.avsc" }, into = @BRONZE@ } },
}
"""
SILVER = """return stream "silver.sale" {
  from  = "bronze.sale",
  time  = { field = "sold_at", out_of_order = "60s" },
  expectations = {
    expect "has a store"        { not_null "store_id" },
    expect "store in range"     { between("store_id", 1, 999) },
    expect "currency is traded" { one_of("currency", { "GBP", "EUR", "USD" }) },
    expect "lines add up"       { function(e) return e.gross == e.qty * e.unit_price end },
  },
  columns = { net = "decimal(12,2)" },
  map     = function(e, out) out.net = e.gross - e.vat end,
  into    = none,
}
"""
GOLD = """return model "gold.velocity" {
  from     = "silver.sale",
  by       = { "sku" },
  window   = tumbling { size = "1m", allowed_lateness = "10m" },
  measures = { units = sum "qty", revenue = sum "net", sales = count() },
}
"""
#        name, rules, bronze, what may be said of it: ns over the bare consumer, or ns in all
WALKS = {
    "checks": ({"silver": SILVER}, "none", "four expectations, a map, a null sink", "over the bare consumer at most 230, 300 is the line", 230, True),
    "gold": ({"silver": SILVER, "gold": GOLD}, "none", "one-minute gold by SKU", "at most 750 in all", 750, False),
    "bronze": ({}, 'delta { mode = "append" }', "bronze into Delta", "at most 850 in all", 850, False),
}


def write_events(path, count):
    """Lines of 250 bytes on average, a millisecond apart; a varied block is repeated with new ids and times."""
    rng = random.Random(11)
    parts = []
    for i in range(5000):
        qty, price = rng.randrange(1, 6), rng.randrange(100, 9000)
        gross = qty * price
        bad = i % 50 == 7
        note = '"' + "lorem ipsum dolor sit amet " * rng.randrange(2, 12) + '"' if rng.random() < 0.25 else "null"
        loyalty = '"L%07d"' % rng.randrange(10**7) if rng.random() < 0.6 else "null"
        parts.append('","store_id":%s,"sku":"S%d","currency":"%s","qty":%d,"unit_price":%d.%02d,"gross":%d.%02d,"vat":%d.%02d,"loyalty_id":%s,'
                     '"note":%s,"sold_at":' % ("null" if bad else rng.randrange(1, 999), rng.randrange(100, 300), rng.choice(["GBP", "EUR"]), qty,
                                               price // 100, price % 100, gross // 100, gross % 100, gross // 600, gross // 6 % 100, loyalty, note))
    with open(path, "w", encoding="ascii") as out:
        for start in range(0, count, 5000):
            out.write("".join('{"event_id":"e-%016d%s%d}\n' % (i, parts[i - start], START_US + i * 1000)
                              for i in range(start, min(start + 5000, count))))


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000_000
    wanted = sys.argv[2:] or list(WALKS)
    floor_tool = end_to_end.BUILD / "bench/bench_kafka_floor"
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="weir-bench-"))
    broker = kafka.start(heap="512m", tier=4)
    try:
        events = scratch / "sale.jsonl"
        write_events(events, count)
        broker.create_topic("sale", 4)
        subprocess.run([floor_tool, "produce", broker.plaintext, "sale", events], check=True)
        events.unlink()
        floors, figures = [], {name: [] for name in wanted}
        for repeat in range(REPEATS):  # side by side, so that a noisy minute hits all alike
            text = subprocess.run([floor_tool, "read", broker.plaintext, "sale"], check=True, capture_output=True, text=True).stdout.strip()
            floors.append(float(re.search(r"([\d.]+) ns", text).group(1)))
            print(text, flush=True)
            for name in wanted:
                rules, bronze, *_ = WALKS[name]
                folder = end_to_end.Folder(scratch / f"{name}-{repeat}")
                folder.write("schemas/sale.avsc", SCHEMA)
                folder.write("pipelines/standard.lua", PIPELINE.replace("@BROKERS@", broker.plaintext).replace("@BRONZE@", bronze))
                (folder.root / "rules").mkdir(exist_ok=True)
                for rule, text in rules.items():
                    folder.write(f"rules/{rule}.lua", text)
                summary, wall, cpu, rss = end_to_end.run(folder.root)
                if summary["events"] != count:
                    sys.exit(f"kafka: {summary['events']} events read of {count}")
                figures[name].append((count / wall / 1e6, cpu * 1e9 / count, rss, summary["figures"]))
                shutil.rmtree(folder.root)
        floor = statistics.median(floors)
        for name in wanted:
            _, _, what, bound, limit, over = WALKS[name]
            rate, ns, rss, inside = sorted(figures[name], key=lambda each: each[1])[len(figures[name]) // 2]
            best = max(each[0] for each in figures[name])
            judged = ns - floor if over else ns
            print(f"kafka ({what}): {rate:.2f} M events/s (best {best:.2f}), {ns:.0f} ns CPU/event = bare consumer {floor:.0f} + {ns - floor:.0f} "
                  f"({bound}: {'kept' if judged <= limit else 'missed'}; lanes {inside['source_cpu_ns'] / count:.0f}, "
                  f"loop {inside['loop_cpu_ns'] / count:.0f}, encode {inside['encode_cpu_ns'] / count:.0f}), {rss:.0f} MB at most", flush=True)
    finally:
        broker.stop()
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
