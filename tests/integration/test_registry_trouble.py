"""A registry that is gone, hangs, refuses or answers nonsense while a topic larger than the memory waits: it is asked ever more rarely, memory
stays bounded, and every row comes once it answers."""

import base64
import io
import json
import random
import re
import time

import deltalake
import fastavro
import pytest
import registry_stub
from live import wait_until

SCHEMA = {"type": "record", "name": "big", "fields": [{"name": "id", "type": "long"}, {"name": "text", "type": "string"}]}
ROWS, BYTES = 12_000, 20_000  # 240 MB, which no compression makes less
NOISE = base64.b64encode(random.Random(1).randbytes(1_000_000)).decode()
MEMORY_KB = 200_000
TROUBLES = {"gone": {"down": True}, "refuses": {"refuses": (401, {"message": "who are you?"})}, "nonsense": {"refuses": (200, {"answer": 42})}, "hangs": {}}


def peak_kb(process):
    return int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{process.pid}/status").read()).group(1))


@pytest.fixture(scope="module")
def topic(kafka):
    name = kafka.create_topic(f"trouble-{time.time_ns()}", partitions=2)
    schema = fastavro.parse_schema(SCHEMA)
    values = []
    for number in range(ROWS):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema, {"id": number, "text": NOISE[number * 97:number * 97 + BYTES]})
        values.append({"value": b"\0\0\0\0\1" + out.getvalue(), "partition": number % 2})
    kafka.produce(name, values)
    return name


@pytest.mark.parametrize("trouble", TROUBLES)
def test_memory_is_bounded_while_a_registry_is_waited_for(project, kafka, topic, trouble):
    registry = registry_stub.Registry()
    registry.register(f"{topic}-value", SCHEMA)
    project.write("rules/lengths.lua", """return stream "silver.lengths" { from = "bronze.big", where = function(e) return #e.text == 20000 end, keep = { "id" } }""")
    project.write("schemas/big.avsc", json.dumps(SCHEMA))
    project.write("pipelines/p.lua", f"""return pipeline "p{time.time_ns()}" {{ rules = "rules", storage = delta {{ root = "lake" }},
  sources = {{ source "bronze.big" {{ kafka {{ brokers = "{kafka.plaintext}", topic = "{topic}" }},
    avro {{ registry = "{registry.url}", schema = "schemas/big.avsc" }}, into = none }} }} }}""")
    for name, value in TROUBLES[trouble].items():
        setattr(registry, name, value)
    if trouble == "hangs":
        registry.hangs.clear()
    process = project.start("run", "pipelines/p.lua", "--until-end")
    try:
        wait_until(lambda: registry.asked["GET /schemas/ids/1"] >= 3, 90)
        waited = peak_kb(process)
        print(f"{trouble}: {waited} kB at most while it was waited for")
        assert process.poll() is None and waited < MEMORY_KB
        registry.down, registry.refuses = False, None
        registry.hangs.set()
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, out + err
    finally:
        registry.hangs.set()
        if process.poll() is None:
            process.kill()
            process.communicate()
        registry.stop()
    table = deltalake.DeltaTable(str(project.root / "lake/silver/lengths")).to_pyarrow_table()
    assert sorted(table.column("id").to_pylist()) == list(range(ROWS))
