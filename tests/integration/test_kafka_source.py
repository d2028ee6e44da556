"""The Kafka source against a real broker: every row once, whatever dies; what is refused says why."""

import json
import time

import lake
import language
import pytest

COLUMNS = {"id": "long!", "name": "string"}
PIPELINE = """return pipeline "p" {
  rules   = "rules",
  storage = delta { root = "lake" },
  commit  = { every = "50ms" },
  sources = { source "bronze.pos" { kafka { @KAFKA@ }, json { schema = "schemas/pos.avsc" }, into = @INTO@ } },
}
"""
RULE = """return stream "silver.pos" {
  from = "bronze.pos",
  expectations = { expect "has a name" { not_null "name" } },
}
"""
SEEN = "topic STRING, part INT, off BIGINT"


class Pos:
    """A project that reads a topic, and the topic's producer."""

    def __init__(self, project, kafka, topic, options="", brokers=None, source=None, into="none", rule=RULE):
        self.project, self.kafka, self.topic = project, kafka, topic
        source = source or f'topic = "{topic}"'
        project.write("schemas/pos.avsc", language.schema(COLUMNS))
        project.write("rules/pos.lua", rule)
        self.pipeline = PIPELINE.replace("@INTO@", into)
        self.declare(f'brokers = "{brokers or kafka.plaintext}", {source}{", " if options else ""}{options}')

    def declare(self, text):
        self.project.write("pipelines/p.lua", self.pipeline.replace("@KAFKA@", text))

    def produce(self, ids, **options):
        self.kafka.produce(self.topic, [{"value": json.dumps({"id": i, "name": f"n{i}"})} for i in ids], **options)

    def run(self, *arguments, **options):
        return self.project.run("pipelines/p.lua", *arguments, **options)

    def start(self, *arguments, env=None):
        return self.project.start("run", "pipelines/p.lua", "--json", *arguments, env=env)

    def table(self, name="silver.pos"):
        path = self.project.root / "lake" / name.replace(".", "/")
        return lake.by_deltalake(path).to_pylist() if path.exists() else []

    def ids(self, name="silver.pos"):
        return [row["id"] for row in self.table(name)]

    def wait_for(self, process, check, seconds=60):
        give_up = time.monotonic() + seconds
        while not check():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < give_up, f"not in {seconds} s: {self.ids()[:20]}"
            time.sleep(0.05)


def stop(process):
    process.terminate()
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.fixture
def topic(kafka, request):
    return kafka.create_topic(f"t-{request.node.name.replace('[', '-').replace(']', '')}-{time.time_ns()}", partitions=4)


@pytest.fixture
def pos(project, kafka, topic):
    return Pos(project, kafka, topic)


def test_every_row_of_every_partition_once(pos):
    pos.produce(range(1000))
    summary = pos.run()
    assert sorted(pos.ids()) == list(range(1000))
    assert summary["datasets"]["silver.pos"]["out"] == 1000


def test_a_second_run_reads_only_what_is_new(pos):
    pos.produce(range(100))
    pos.run()
    pos.produce(range(100, 150))
    pos.run()
    pos.run()
    assert sorted(pos.ids()) == list(range(150))
