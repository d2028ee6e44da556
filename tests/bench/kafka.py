"""A topic of 5 M JSON events of 250 bytes (lz4, 4 partitions, nulls, long strings, 2 % rejects) through Weir, and one of the same
events in Avro by a schema registry, as events/s and CPU per event on all of Weir's threads, beside librdkafka's bare consumer of
the same topic in the same run.

usage: python3 tests/bench/kafka.py [EVENTS [WALK…]]      needs build/release/weir, Java and Maven
"""

import http.server
import json
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading

import end_to_end

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/services"))
import kafka  # noqa: E402

REPEATS = int(os.environ.get("WEIR_BENCH_REPEATS", "3"))
START_US = 1767607200_000_000
BLOCK = 5000
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
  sources = { source "bronze.sale" { kafka { brokers = "@BROKERS@", topic = "@TOPIC@" }, @DECODER@, into = @BRONZE@ } },
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
#        name: topic, rules, bronze, what may be said of it: ns over the bare consumer, or ns in all
WALKS = {
    "checks": ("json", {"silver": SILVER}, "none", "JSON, four expectations, a map, a null sink", "over the bare consumer at most 230, 300 is the line", 230, True),
    "avro": ("avro", {"silver": SILVER}, "none", "Avro, four expectations, a map, a null sink", "over the bare consumer at most 110, 150 is the line", 110, True),
    "gold": ("json", {"silver": SILVER, "gold": GOLD}, "none", "one-minute gold by SKU", "at most 750 in all", 750, False),
    "bronze": ("json", {}, 'delta { mode = "append" }', "bronze into Delta", "at most 850 in all", 850, False),
}


def draw_sales():
    """A varied block of events, without their ids and times."""
    rng = random.Random(11)
    for i in range(BLOCK):
        qty, price = rng.randrange(1, 6), rng.randrange(100, 9000)
        gross = qty * price
        note = "lorem ipsum dolor sit amet " * rng.randrange(2, 12) if rng.random() < 0.25 else None
        loyalty = "L%07d" % rng.randrange(10**7) if rng.random() < 0.6 else None
        yield (None if i % 50 == 7 else rng.randrange(1, 999), "S%d" % rng.randrange(100, 300), rng.choice(["GBP", "EUR"]), qty, price, gross,
               gross // 6, loyalty, note)


def json_part(sale):
    store, sku, currency, qty, price, gross, vat, loyalty, note = sale
    money = [f"{cents // 100}.{cents % 100:02d}" for cents in (price, gross, vat)]
    return ('","store_id":%s,"sku":"%s","currency":"%s","qty":%d,"unit_price":%s,"gross":%s,"vat":%s,"loyalty_id":%s,"note":%s,"sold_at":'
            % (json.dumps(store), sku, currency, qty, *money, json.dumps(loyalty), json.dumps(note))).encode()


def json_event(number, part):
    return b'{"event_id":"e-%016d%s%d}' % (number, part, START_US + number * 1000)


def zigzag(value):
    value = value << 1 ^ value >> 63
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def avro_part(sale):
    def text(value):
        return zigzag(len(value)) + value.encode()

    def decimal(cents):
        size = cents.bit_length() // 8 + 1
        return zigzag(size) + cents.to_bytes(size, "big", signed=True)

    def optional(value, put):
        return b"\0" if value is None else b"\2" + put(value)

    store, sku, currency, qty, price, gross, vat, loyalty, note = sale
    return (optional(store, zigzag) + text(sku) + text(currency) + zigzag(qty) + decimal(price) + decimal(gross) + decimal(vat)
            + optional(loyalty, text) + optional(note, text))


def avro_event(number, part):
    return b"\0\0\0\0\1\x24e-%016d%s%s" % (number, part, zigzag(START_US + number * 1000))


FORMS = {"json": (json_part, json_event), "avro": (avro_part, avro_event)}


def write_events(path, count, form):
    """A millisecond apart, JSON of 250 bytes on average; a varied block is repeated with new ids and times. Each has its length
    before it."""
    make_part, make = FORMS[form]
    parts = [make_part(sale) for sale in draw_sales()]
    with open(path, "wb") as out:
        for start in range(0, count, BLOCK):
            events = [make(i, parts[i - start]) for i in range(start, min(start + BLOCK, count))]
            out.write(b"".join(len(event).to_bytes(4, "little") + event for event in events))


class OneSchema(http.server.BaseHTTPRequestHandler):
    """A registry that knows one schema."""

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        text = json.dumps({"schema": SCHEMA}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def walk(folder, broker, registry, name):
    form, rules, bronze, *_ = WALKS[name]
    decoder = f'{form} {{ schema = "schemas/sale.avsc"' + (f', registry = "{registry}"' if form == "avro" else "") + " }"
    folder.write("schemas/sale.avsc", SCHEMA)
    folder.write("pipelines/standard.lua", PIPELINE.replace("@BROKERS@", broker.plaintext).replace("@TOPIC@", form)
                 .replace("@DECODER@", decoder).replace("@BRONZE@", bronze))
    (folder.root / "rules").mkdir(exist_ok=True)
    for rule, text in rules.items():
        folder.write(f"rules/{rule}.lua", text)
    return end_to_end.run(folder.root)


def report(name, floor, figures, count):
    _, _, _, what, bound, limit, over = WALKS[name]
    rate, ns, rss, inside = sorted(figures, key=lambda each: each[1])[len(figures) // 2]
    best = max(each[0] for each in figures)
    judged = ns - floor if over else ns
    print(f"kafka ({what}): {rate:.2f} M events/s (best {best:.2f}), {ns:.0f} ns CPU/event = bare consumer {floor:.0f} + {ns - floor:.0f} "
          f"({bound}: {'kept' if judged <= limit else 'missed'}; lanes {inside['source_cpu_ns'] / count:.0f}, "
          f"loop {inside['loop_cpu_ns'] / count:.0f}, encode {inside['encode_cpu_ns'] / count:.0f}), {rss:.0f} MB at most", flush=True)


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000_000
    wanted = sys.argv[2:] or list(WALKS)
    forms = sorted({WALKS[name][0] for name in wanted})
    floor_tool = end_to_end.BUILD / "bench/bench_kafka_floor"
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="weir-bench-"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), OneSchema)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    broker = kafka.start(heap="512m", tier=4)
    try:
        for form in forms:
            events = scratch / "events"
            write_events(events, count, form)
            broker.create_topic(form, 4)
            subprocess.run([floor_tool, "produce", broker.plaintext, form, events], check=True)
            events.unlink()
        floors, figures = {form: [] for form in forms}, {name: [] for name in wanted}
        for repeat in range(REPEATS):  # side by side, so that a noisy minute hits all alike
            for form in forms:
                text = subprocess.run([floor_tool, "read", broker.plaintext, form], check=True, capture_output=True, text=True).stdout.strip()
                floors[form].append(float(re.search(r"([\d.]+) ns", text).group(1)))
                print(f"{form}, {text}", flush=True)
            for name in wanted:
                folder = end_to_end.Folder(scratch / f"{name}-{repeat}")
                summary, wall, cpu, rss = walk(folder, broker, f"http://127.0.0.1:{server.server_address[1]}", name)
                if summary["events"] != count:
                    sys.exit(f"kafka: {summary['events']} events read of {count}")
                figures[name].append((count / wall / 1e6, cpu * 1e9 / count, rss, summary["figures"]))
                shutil.rmtree(folder.root)
        for name in wanted:
            report(name, statistics.median(floors[WALKS[name][0]]), figures[name], count)
    finally:
        broker.stop()
        server.shutdown()
        server.server_close()
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
