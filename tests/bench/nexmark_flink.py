"""Nexmark queries from a Kafka topic of nested JSON events: Weir beside Flink SQL on the same topic and cores, exactly once with a
commit (Weir) and a checkpoint (Flink) a second. CPU per event on all threads of each process.

usage: python3 tests/bench/nexmark_flink.py [EVENTS] [QUERY…]     (20000000, all five; EVENTS=2000000 make bench-flink-nexmark for a tenth)
  FLINK_BACKEND=rocksdb    its state backend (hashmap)

Flink throws its rows away (`blackhole`), Weir commits them to Delta tables. What Flink takes to start and plan, measured on no events, is
taken off its figure and printed beside it; Weir's is left in. A JVM compiles while it runs: below some ten million events that is most of
what Flink's figure shows.
"""

import json
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/services"))
import flink  # noqa: E402
import kafka  # noqa: E402

NEXMARK = ROOT / "tests/nexmark"
BINARY = os.environ.get("WEIR_BINARY", str(ROOT / "build/release/weir"))
FLOOR = ROOT / "build/release/bench/bench_kafka_floor"
BACKEND = os.environ.get("FLINK_BACKEND", "hashmap")
PARTITIONS = SLOTS = 2
TIME = "TIMESTAMP_LTZ(3)"
TABLES = f"""
CREATE TABLE event (event_type INT,
  new_person ROW<id BIGINT, name STRING, emailAddress STRING, creditCard STRING, city STRING, state STRING, `dateTime` {TIME}, extra STRING>,
  new_auction ROW<id BIGINT, itemName STRING, description STRING, initialBid BIGINT, reserve BIGINT, `dateTime` {TIME}, expires {TIME},
    seller BIGINT, category BIGINT, extra STRING>,
  new_bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, `dateTime` {TIME}, extra STRING>,
  `dateTime` {TIME}, WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND)
WITH ('connector' = 'kafka', 'topic' = 'nexmark', 'properties.bootstrap.servers' = '@BROKERS@', 'scan.startup.mode' = 'earliest-offset',
  @END@, 'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601');
CREATE VIEW person AS SELECT new_person.id AS id, new_person.name AS name, `dateTime` FROM event WHERE event_type = 0;
CREATE VIEW auction AS SELECT new_auction.id AS id, new_auction.itemName AS itemName, new_auction.description AS description,
  new_auction.initialBid AS initialBid, new_auction.reserve AS reserve, `dateTime`, new_auction.expires AS expires,
  new_auction.seller AS seller, new_auction.category AS category, new_auction.extra AS extra FROM event WHERE event_type = 1;
CREATE VIEW bid AS SELECT new_bid.auction AS auction, new_bid.bidder AS bidder, new_bid.price AS price, new_bid.channel AS channel,
  new_bid.url AS url, `dateTime`, new_bid.extra AS extra FROM event WHERE event_type = 2;
"""
ALL = "'scan.bounded.mode' = 'latest-offset'"
NONE = "'scan.bounded.mode' = 'timestamp', 'scan.bounded.timestamp-millis' = '1'"
COUNTS = """SELECT auction, COUNT(*) AS num, window_start, window_end
  FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end"""


def ten_seconds(table, columns):
    return f"""SELECT {columns}, window_start, window_end FROM TABLE(TUMBLE(TABLE {table}, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
  GROUP BY {columns}, window_start, window_end"""


# query: the columns of its result, the query; what Weir may take an event, in ns
QUERIES = {
    "q0": (f"auction BIGINT, bidder BIGINT, price BIGINT, `dateTime` {TIME}, extra STRING", "SELECT auction, bidder, price, `dateTime`, extra FROM bid", 650),
    "q5": ("auction BIGINT, num BIGINT", f"""SELECT counted.auction, counted.num FROM ({COUNTS}) counted
  JOIN (SELECT MAX(num) AS most, window_start, window_end FROM ({COUNTS}) GROUP BY window_start, window_end) best
  ON counted.window_start = best.window_start AND counted.window_end = best.window_end AND counted.num >= best.most""", 900),
    "q7": (f"auction BIGINT, price BIGINT, bidder BIGINT, `dateTime` {TIME}, extra STRING", """SELECT b.auction, b.price, b.bidder, b.`dateTime`, b.extra
  FROM bid b JOIN (SELECT MAX(price) AS most, window_end AS ends
    FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND)) GROUP BY window_start, window_end) best
  ON b.price = best.most WHERE b.`dateTime` BETWEEN best.ends - INTERVAL '10' SECOND AND best.ends""", 1200),
    "q8": ("id BIGINT, name STRING, starts TIMESTAMP(3)", f"""SELECT p.id, p.name, p.window_start FROM ({ten_seconds("person", "id, name")}) p
  JOIN ({ten_seconds("auction", "seller")}) a ON p.id = a.seller AND p.window_start = a.window_start AND p.window_end = a.window_end""", 650),
    "q20": (f"""auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, `dateTime` {TIME}, extra STRING, itemName STRING,
  description STRING, initialBid BIGINT, reserve BIGINT, opened {TIME}, expires {TIME}, seller BIGINT, category BIGINT, auction_extra STRING""",
            """SELECT b.auction, b.bidder, b.price, b.channel, b.url, b.`dateTime`, b.extra, a.itemName, a.description, a.initialBid, a.reserve,
  a.`dateTime`, a.expires, a.seller, a.category, a.extra FROM bid b JOIN auction a ON b.auction = a.id WHERE a.category = 10""", 4000),
}


def weir(scratch, broker, pipeline, events, query=""):
    """CPU seconds, and the summary."""
    lake = scratch / "lake"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([BINARY, "run", f"pipelines/{pipeline}.lua", "--until-end", "--json"], cwd=NEXMARK, capture_output=True, text=True,
                          env={**os.environ, "QUERY": query, "EVENTS": str(events), "KAFKA": broker.plaintext, "LAKE": str(lake), "PARTITIONS": str(PARTITIONS)})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    shutil.rmtree(lake, ignore_errors=True)
    if done.returncode != 0:
        sys.exit(f"{pipeline} {query}: exit {done.returncode}\n{done.stderr[-2000:]}")
    summary = json.loads([line for line in done.stdout.split("\n") if line.startswith("{")][-1])
    if summary["events"] != events:
        sys.exit(f"{pipeline} {query}: {summary['events']} events of {events}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, summary


def run_flink(scratch, broker, query, end):
    columns, select, _ = QUERIES[query]
    folder = scratch / "flink"
    tables = TABLES.replace("@BROKERS@", broker.plaintext).replace("@END@", end)
    try:
        return flink.run(f"{tables}CREATE TABLE found ({columns}) WITH ('connector' = 'blackhole');\nINSERT INTO found {select};\n", SLOTS, folder, settings={
            "execution.checkpointing.interval": "1s", "execution.checkpointing.dir": f"file://{folder}/checkpoints", "state.backend.type": BACKEND})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    events = int(sys.argv[1]) if len(sys.argv) > 1 else int(os.environ.get("EVENTS", 20_000_000))
    queries = sys.argv[2:] or list(QUERIES)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="weir-nexmark-"))
    broker = kafka.start(heap="512m", tier=4)
    try:
        weir(scratch, broker, "to_kafka", events)
        text = subprocess.run([FLOOR, "read", broker.plaintext, "nexmark"], check=True, capture_output=True, text=True).stdout
        floor = float(re.search(r"([\d.]+) ns", text).group(1))
        for query in queries:
            cpu, summary = weir(scratch, broker, "from_kafka", events, query)
            started = run_flink(scratch, broker, query, NONE)
            took = run_flink(scratch, broker, query, ALL)
            ours, theirs = cpu * 1e9 / events, (took.cpu_seconds - started.cpu_seconds) * 1e9 / events
            figures = summary["figures"]
            print(json.dumps({"bench": f"nexmark from Kafka {query}", "events": events, "bare_consumer_ns": round(floor), "weir_ns": round(ours),
                              "target_ns": QUERIES[query][2], "lanes_ns": round(figures["source_cpu_ns"] / events),
                              "loop_ns": round(figures["loop_cpu_ns"] / events), "encode_ns": round(figures["encode_cpu_ns"] / events),
                              "weir_mb": round(figures["resident_peak_bytes"] / 1e6), "flink_ns": round(theirs), "flink_backend": BACKEND,
                              "flink_start_s": round(started.cpu_seconds, 1), "times": round(theirs / ours, 1)}), flush=True)
    finally:
        broker.stop()
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
