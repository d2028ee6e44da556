"""Topic to topic exactly once: 5 M JSON events of 250 bytes (lz4, 4 partitions, 2 % rejects), valid rows and quarantine as JSON,
commits every 100 ms, as CPU per event on all of Weir's threads, beside librdkafka's own consume and produce in the same run.

usage: python3 tests/bench/kafka_exactly_once.py [EVENTS]      needs build/release/weir, Java and Maven
"""

import importlib.util
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

import end_to_end
import kafka as source_bench  # the bench beside this file; the service of that name:

spec = importlib.util.spec_from_file_location("kafka_service", source_bench.ROOT / "tests/services/kafka.py")
kafka = importlib.util.module_from_spec(spec)
spec.loader.exec_module(kafka)

LIMIT_NS = 1600
PIPELINE = """return pipeline "bench" {
  rules = "rules", commit = { every = "100ms" }, ledger = { keep = "0s" },
  quarantine = kafka { brokers = "@BROKERS@", topic = "rejected@N@", compression = "lz4" },
  sources = { source "bronze.sale" { kafka { brokers = "@BROKERS@", topic = "sale" }, json { schema = "schemas/sale.avsc" }, into = none } },
}
"""


def counted(probe, broker, topic):
    """Committed messages of a topic."""
    text = subprocess.run([probe, "read", broker.plaintext, topic], check=True, capture_output=True, text=True).stdout
    return int(re.search(r"(\d+) events", text).group(1))


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000_000
    tools = end_to_end.BUILD / "bench"
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="weir-bench-"))
    broker = kafka.start(heap="512m", tier=4)
    floors, figures = [], []
    try:
        events = scratch / "sale.jsonl"
        source_bench.write_events(events, count, "json")
        broker.create_topic("sale", 4)
        subprocess.run([tools / "bench_kafka_floor", "produce", broker.plaintext, "sale", events], check=True)
        events.unlink()
        for repeat in range(source_bench.REPEATS):
            broker.create_topic(f"copy{repeat}", 4)
            broker.create_topic(f"clean{repeat}", 4)
            broker.create_topic(f"rejected{repeat}", 1)
            text = subprocess.run([tools / "bench_kafka_probe", "copy", broker.plaintext, "sale", f"copy{repeat}", "100"], check=True,
                                  capture_output=True, text=True).stdout.strip()
            print(text, flush=True)
            floors.append(float(re.search(r"([\d.]+) ns", text).group(1)))
            folder = end_to_end.Folder(scratch / f"run-{repeat}")
            folder.write("schemas/sale.avsc", source_bench.SCHEMA)
            folder.write("pipelines/standard.lua", PIPELINE.replace("@BROKERS@", broker.plaintext).replace("@N@", str(repeat)))
            (folder.root / "rules").mkdir(exist_ok=True)
            sink = f'into = kafka {{ brokers = "{broker.plaintext}", topic = "clean{repeat}", compression = "lz4" }}'
            folder.write("rules/silver.lua", re.sub(r"into +=  *none", sink, source_bench.SILVER))
            summary, wall, cpu, rss = end_to_end.run(folder.root)
            if summary["events"] != count:
                sys.exit(f"kafka_exactly_once: {summary['events']} events read of {count}")
            figures.append((cpu * 1e9 / count, count / wall / 1e6, rss, summary["figures"]))
            seen = counted(tools / "bench_kafka_floor", broker, f"clean{repeat}") + counted(tools / "bench_kafka_floor", broker, f"rejected{repeat}")
            if seen != count:
                sys.exit(f"kafka_exactly_once: {seen} events came out of {count}")
            shutil.rmtree(folder.root)
        floor = statistics.median(floors)
        ns, rate, rss, inside = sorted(figures, key=lambda each: each[0])[len(figures) // 2]
        print(f"kafka (topic to topic, exactly once, 100 ms): {ns:.0f} ns CPU/event ({rate:.2f} M events/s), librdkafka's own consume and produce "
              f"{floor:.0f} (at most {LIMIT_NS} in all: {'kept' if ns <= LIMIT_NS else 'missed'}; lanes {inside['source_cpu_ns'] / count:.0f}, "
              f"loop {inside['loop_cpu_ns'] / count:.0f}, encode {inside['encode_cpu_ns'] / count:.0f}, send {inside['apply_cpu_ns'] / count:.0f}), "
              f"{rss:.0f} MB at most", flush=True)
    finally:
        broker.stop()
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
