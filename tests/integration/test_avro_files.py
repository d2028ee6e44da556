"""Avro object containers in a folder: every codec, what is damaged, what is still being written, judged by fastavro."""

import io
import json
import random
import struct
import time

import deltalake
import fastavro
import pytest

WRITER = {"type": "record", "name": "reading", "fields": [
    {"name": "id", "type": "int"}, {"name": "text", "type": ["null", "string"]}, {"name": "extra", "type": "double"}]}
READER = {"type": "record", "name": "reading", "fields": [
    {"name": "id", "type": "long"}, {"name": "text", "type": ["null", "string"]}, {"name": "unit", "type": "string", "default": "C"}]}
PIPELINE = """\
return pipeline "p" {
  storage = delta { root = "lake" }, commit = { every = "50ms" },
  sources = { source "bronze.reading" { files { path = "landing/*.avro" }, avro { schema = "schemas/reading.avsc" } } },
}
"""
SYNC = bytes(range(200, 216))


def container(data, codec="null", interval=2000, schema=WRITER):
    out = io.BytesIO()
    fastavro.writer(out, fastavro.parse_schema(schema), data, codec=codec, sync_interval=interval, sync_marker=SYNC)
    return out.getvalue()


def readings(count, begin=0):
    draw = random.Random(count + begin)
    return [{"id": begin + i, "text": draw.choice([None, "", "Zürich", "x" * draw.randrange(300)]), "extra": i / 3} for i in range(count)]


@pytest.fixture
def folder(project):
    project.write("schemas/reading.avsc", json.dumps(READER))
    project.write("pipelines/p.lua", PIPELINE)
    (project.root / "landing").mkdir()
    return project.root / "landing"


def run(project, code=0):
    outcome = project.weir("run", "pipelines/p.lua", "--until-end", "--json")
    assert outcome.code == code, outcome
    return outcome


def rows(project, table="lake/bronze/reading"):
    path = project.root / table
    if not any(path.glob("_delta_log/*.json")):
        return []
    return sorted(deltalake.DeltaTable(str(path)).to_pyarrow_table().to_pylist(), key=lambda row: (row["_topic"], row["_offset"]))


def check(found, wanted):
    assert [(row["id"], row["text"], row["unit"]) for row in found] == [(datum["id"], datum["text"], "C") for datum in wanted]
    assert [json.loads(row["_rescued"])["extra"] for row in found] == [datum["extra"] for datum in wanted]


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy", "zstandard"])
def test_every_codec(project, folder, codec):
    data = readings(6000)
    (folder / "a.avro").write_bytes(container(data[:2500], codec))
    (folder / "b.avro").write_bytes(container(data[2500:], codec, interval=400_000))  # one block of more rows than a batch has
    (folder / "c.avro").write_bytes(container([], codec))
    run(project)
    check(rows(project), data)


def test_a_damaged_block_is_quarantined_and_the_next_are_read(project, folder):
    data = readings(3000)
    whole = container(data, "snappy")
    blocks = [at for at in range(len(whole)) if whole.startswith(SYNC, at)]
    damaged = bytearray(whole)
    damaged[blocks[3] + 40] ^= 0xFF  # inside a block: its checksum is wrong
    damaged[blocks[6]] ^= 0xFF  # a marker: the block before it, and what follows up to the next marker
    damaged[blocks[9] + 16:blocks[9] + 19] = b"\xfe\xff\x7f"  # count and size
    (folder / "a.avro").write_bytes(damaged)
    run(project)
    found = rows(project)
    lost = {datum["id"] for datum in data} - {row["id"] for row in found}
    assert 0 < len(lost) < 1000 and len(found) + len(lost) == len(data)
    quarantined = rows(project, "lake/quarantine/bronze/reading")
    reasons = [row["_reasons"][0]["error"] for row in quarantined]
    assert len(reasons) == 3, reasons
    assert f"byte {blocks[3] + 16}" in reasons[0] and "snappy" in reasons[0] + "checksum snappy"
    assert "marker" in reasons[1] and f"byte {blocks[5] + 16}" in reasons[1]
    assert f"byte {blocks[9] + 16}" in reasons[2]
    assert all(len(bytes(row["_raw"])) > 100 for row in quarantined)


def test_a_size_that_runs_past_the_end_is_damage_too(project, folder):
    data = readings(1000)
    whole = container(data, "null")
    blocks = [at for at in range(len(whole)) if whole.startswith(SYNC, at)]
    damaged = whole[:blocks[2] + 16] + b"\x02\x80\x80\x80\x02" + whole[blocks[2] + 19:]  # four million bytes
    (folder / "a.avro").write_bytes(damaged)
    run(project)
    assert len(rows(project, "lake/quarantine/bronze/reading")) == 1
    found = {row["id"] for row in rows(project)}
    assert 0 in found and 999 in found and 500 < len(found) < 1000


def test_a_cut_file_is_an_error_until_it_is_whole(project, folder):
    data = readings(1000)
    whole = container(data, "deflate")
    last = whole.rindex(SYNC, 0, len(whole) - 16)
    (folder / "a.avro").write_bytes(whole[:last + 40])
    refused = project.weir("run", "pipelines/p.lua", "--until-end", "--json")
    assert refused.code != 0 and "a.avro" in refused.out + refused.err, refused
    assert len(rows(project)) < 1000
    (folder / "a.avro").write_bytes(whole)
    run(project)
    check(rows(project), data)


def test_a_file_that_grows_is_followed_block_by_block(project, folder):
    data = readings(2000)
    whole = container(data, "zstandard")
    blocks = [at for at in range(len(whole)) if whole.startswith(SYNC, at)]
    half = blocks[len(blocks) // 2]
    (folder / "a.avro").write_bytes(whole[:half - 5])  # within a block
    running = project.start("run", "pipelines/p.lua", "--json")
    deadline = time.monotonic() + 60
    while not rows(project) and time.monotonic() < deadline:
        time.sleep(0.05)
    with open(folder / "a.avro", "ab") as out:
        out.write(whole[half - 5:])
    while len(rows(project)) < len(data) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.terminate()
    running.communicate(timeout=60)
    check(rows(project), data)


def test_killed_within_a_container_each_row_comes_once(project, folder):
    data = readings(5000)
    whole = container(data, "deflate", interval=60_000)
    head = whole.index(SYNC) + len(SYNC)
    (folder / "a.avro").write_bytes(whole[:head] + whole[head:] * 100)
    running = project.start("run", "pipelines/p.lua", "--json")
    deadline = time.monotonic() + 60
    while not list((project.root / "lake/bronze/reading/_delta_log").glob("*1.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    running.kill()
    running.wait()
    run(project)
    found = deltalake.DeltaTable(str(project.root / "lake/bronze/reading")).to_pyarrow_table(columns=["_offset", "id"]).sort_by("_offset")
    assert found["id"].to_pylist() == [datum["id"] for datum in data] * 100


def test_event_hubs_capture(project, folder):
    capture = {"type": "record", "name": "EventData", "namespace": "Microsoft.ServiceBus.Messaging", "fields": [
        {"name": "SequenceNumber", "type": "long"}, {"name": "Offset", "type": "string"}, {"name": "EnqueuedTimeUtc", "type": "string"},
        {"name": "SystemProperties", "type": {"type": "map", "values": ["long", "double", "string", "bytes"]}},
        {"name": "Properties", "type": {"type": "map", "values": ["long", "double", "string", "bytes", "null"]}},
        {"name": "Body", "type": ["null", "bytes"]}]}
    columns = {**capture, "fields": [field for field in capture["fields"] if not field["name"].endswith("Properties")]}
    data = [{"SequenceNumber": i, "Offset": str(i * 100), "EnqueuedTimeUtc": "11/21/2026 10:00:00 AM", "SystemProperties": {"x-opt-key": f"k{i}"},
             "Properties": {"a": i, "b": 0.5, "c": None}, "Body": json.dumps({"i": i}).encode() if i else None} for i in range(100)]
    project.write("schemas/reading.avsc", json.dumps(columns))
    (folder / "a.avro").write_bytes(container(data, "deflate", schema=capture))
    run(project)
    for row, datum in zip(rows(project), data, strict=True):
        assert all(row[name] == datum[name] for name in ("SequenceNumber", "Offset", "EnqueuedTimeUtc", "Body"))
        assert json.loads(row["_rescued"]) == {name: datum[name] for name in ("SystemProperties", "Properties")}


def test_files_of_another_schema_are_quarantined_with_the_field(project, folder):
    other = {"type": "record", "name": "reading", "fields": [{"name": "id", "type": "string"}]}
    (folder / "a.avro").write_bytes(container([{"id": "x"}, {"id": "y"}], schema=other))
    (folder / "b.avro").write_bytes(container(readings(10)))
    run(project)
    check(rows(project), readings(10))
    reasons = [row["_reasons"][0]["error"] for row in rows(project, "lake/quarantine/bronze/reading")]
    assert len(reasons) == 2 and all('"id"' in reason and "string" in reason for reason in reasons), reasons


@pytest.mark.parametrize("text", [b"{}\n" * 10, b"Obj\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"Obj\x02"])
def test_what_is_no_container_is_refused_by_name(project, folder, text):
    (folder / "a.avro").write_bytes(text)
    outcome = project.weir("run", "pipelines/p.lua", "--until-end", "--json")
    assert outcome.code != 0 and "a.avro" in outcome.out + outcome.err, outcome


# --- Event Hubs Capture ----------------------------------------------------------------------

PROPERTY = ["long", "double", "string", "bytes", "null"]
CAPTURED = {"type": "record", "name": "EventData", "namespace": "Microsoft.ServiceBus.Messaging", "fields": [
    {"name": "SequenceNumber", "type": "long"}, {"name": "Offset", "type": "string"}, {"name": "EnqueuedTimeUtc", "type": "string"},
    {"name": "SystemProperties", "type": {"type": "map", "values": PROPERTY[:4]}}, {"name": "Properties", "type": {"type": "map", "values": PROPERTY}},
    {"name": "Body", "type": ["null", "bytes"]}]}


def captured(number, body, properties=None, at="11/21/2026 6:05:09 PM"):
    return {"SequenceNumber": number, "Offset": str(number * 100), "EnqueuedTimeUtc": at, "SystemProperties": {"x-opt-enqueued-time": 5},
            "Properties": properties or {}, "Body": body}


def capture(project, options):
    project.write("schemas/reading.avsc", json.dumps(READER))
    project.write("pipelines/p.lua", PIPELINE.replace('avro { schema = "schemas/reading.avsc" }', f"capture {{ {options} }}"))
    (project.root / "landing").mkdir(exist_ok=True)
    return project.root / "landing"


@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_what_capture_wrapped_is_read_by_a_decoder_of_its_own(project, codec):
    folder = capture(project, 'body = "json", schema = "schemas/reading.avsc"')
    events = [captured(i, json.dumps({"id": i, "text": "é", "more": i}).encode()) for i in range(5000)]
    events[7] = captured(7, b'{"id": 7, "text": 8}')
    events[8] = captured(8, None)
    events[9] = captured(9, b"")
    events[10] = captured(10, b'{"id": 10, "text": null}', {"shop": "Zürich", "n": -3, "d": 0.5, "b": b"\xff\x00", "none": None}, "1/2/2026 12:00:00 AM")
    events[11] = captured(11, b'{"id": 11, "text": null}', at="soon")
    (folder / "a.avro").write_bytes(container(events, codec, schema=CAPTURED))
    run(project)
    found = rows(project)
    assert [row["id"] for row in found] == [i for i in range(5000) if i not in (7, 8, 9)]
    assert [row["_sequence_number"] for row in found] == [row["id"] for row in found]
    assert str(found[0]["_enqueued_at"]) == "2026-11-21 18:05:09+00:00" and json.loads(found[0]["_rescued"]) == {"more": 0}
    by_id = {row["id"]: row for row in found}
    assert str(by_id[10]["_enqueued_at"]) == "2026-01-02 00:00:00+00:00" and by_id[11]["_enqueued_at"] is None
    assert dict(by_id[10]["_properties"]) == {"shop": "Zürich", "n": "-3", "d": "0.5", "b": "/wA=", "none": None}
    bad, = rows(project, "lake/quarantine/bronze/reading")
    assert "text" in str(bad["_reasons"][0]) and bad["_raw"] == b'{"id": 7, "text": 8}'


def test_capture_bodies_in_avro_and_messagepack(new_project):
    schema = fastavro.parse_schema(WRITER)
    for body in ("avro", "msgpack"):
        project = new_project(body)
        folder = capture(project, f'body = "{body}", schema = "schemas/writer.avsc"')
        project.write("schemas/writer.avsc", json.dumps(WRITER))
        events = []
        for i, datum in enumerate(readings(300)):
            out = io.BytesIO()
            if body == "avro":
                fastavro.schemaless_writer(out, schema, datum)
            else:  # {"id": fixint or int32, "text": nil or str16, "extra": float64}
                text = datum["text"]
                value = b"\xc0" if text is None else b"\xda" + len(text.encode()).to_bytes(2, "big") + text.encode()
                out.write(b"\x83\xa2id\xd2" + datum["id"].to_bytes(4, "big") + b"\xa4text" + value + b"\xa5extra\xcb" + struct.pack(">d", datum["extra"]))
            events.append(captured(i, out.getvalue()))
        (folder / "a.avro").write_bytes(container(events, schema=CAPTURED))
        run(project)
        assert [(row["id"], row["text"], row["extra"]) for row in rows(project)] == [(one["id"], one["text"], one["extra"]) for one in readings(300)]


def test_what_capture_did_not_write_is_told(project):
    folder = capture(project, 'schema = "schemas/reading.avsc"')
    (folder / "a.avro").write_bytes(container(readings(3)))
    (folder / "b.avro").write_bytes(container([captured(1, b'{"id": 1}')], schema=CAPTURED))
    run(project)
    assert [row["id"] for row in rows(project)] == [1]
    assert ["no field is called Body" in row["_reasons"][0]["error"] for row in rows(project, "lake/quarantine/bronze/reading")] == [True] * 3
    project.write("pipelines/p.lua", PIPELINE.replace("files {", "parquet {").replace("avro {", "capture {"))
    assert project.weir("check", "pipelines/p.lua").code != 0
