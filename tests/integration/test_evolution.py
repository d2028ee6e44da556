"""Columns that appear while the pipeline runs: a writer of the registry, or a schema file, brings them; nothing is restarted, lost or doubled."""

import datetime
import io
import json
import os
import signal
import time
import urllib.request

import crash
import deltalake
import duckdb
import fastavro
import lake
import pytest
import registry_stub
from live import wait_until
from test_kafka_sink import read_all

V1 = {"type": "record", "name": "sale", "fields": [{"name": "id", "type": "long"}, {"name": "store", "type": ["null", "string"], "default": None}]}
V2 = {**V1, "fields": [V1["fields"][0], {"name": "note", "type": ["null", "string"], "default": None}, V1["fields"][1], {"name": "qty", "type": "int", "default": 7},
                       {"name": "price", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}], "default": None}]}
PIPELINE = """return pipeline "p" {{
  rules = "rules", storage = delta {{ root = "lake" }}, commit = {{ every = "20ms" }}, serve = {{ http = {{ port = 0 }} }},
  sources = {{ source "bronze.sale" {{ kafka {{ brokers = "{brokers}", topic = "{topic}" }}, avro {{ registry = "{registry}" }} }} }},
}}
"""
SILVER = 'return stream "silver.sale" { from = "bronze.sale", where = function(e) return e.id >= 0 end }\n'


class Shop:
    """A pipeline that follows a topic; rows are told apart by their id."""

    def __init__(self, project, broker, registry):
        self.project, self.broker, self.registry, self.processes = project, broker, registry, []
        self.topic = broker.create_topic(f"evolve-{time.time_ns()}", partitions=1)
        project.write("pipelines/p.lua", PIPELINE.format(brokers=broker.plaintext, topic=self.topic, registry=registry.url))
        project.write("rules/sale.lua", SILVER)
        self.register(V1)

    def register(self, schema):
        return self.registry.register(f"{self.topic}-value", schema)

    def produce(self, number, schema, data):
        messages = []
        for datum in data:
            out = io.BytesIO()
            fastavro.schemaless_writer(out, fastavro.parse_schema(schema), datum)
            messages.append(b"\0" + number.to_bytes(4, "big") + out.getvalue())
        self.broker.produce(self.topic, messages)

    def produce_until(self, number, first, condition):
        """Rows by the new writer, one after the other, until one lies in its column."""
        sent = [first]

        def look():
            shop_rows = len(self.rows())
            self.produce(number, V2, new(sent[0], 1))
            sent[0] += 1
            wait_until(self.has(shop_rows + 1))
            return condition()
        wait_until(look)

    def start(self, env=None):
        self.processes.append(self.project.start("run", "pipelines/p.lua", env=env))
        return self.processes[-1]

    def rows(self, table="bronze/sale"):
        path = self.project.root / "lake" / table
        if not (path / "_delta_log/00000000000000000000.json").exists():
            return []
        return sorted(deltalake.DeltaTable(str(path)).to_pyarrow_table().to_pylist(), key=lambda row: row["_offset"] if "_offset" in row else row["id"])

    def has(self, count, table="bronze/sale"):
        return lambda: len(self.rows(table)) >= count


def stop(process):
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    return out + err


@pytest.fixture
def shop(project, kafka):
    registry = registry_stub.Registry()
    made = Shop(project, kafka, registry)
    yield made
    for process in made.processes:
        if process.poll() is None:  # a test that failed
            process.kill()
            process.communicate()
    registry.stop()


def old(first, count):
    return [{"id": number, "store": f"S{number % 3}"} for number in range(first, first + count)]


def new(first, count):
    return [{"id": number, "store": None, "note": f"n{number}", "qty": number, "price": None} for number in range(first, first + count)]


def check(rows, ids):
    """Each id once, and each value where it belongs: in its column, or in `_rescued` while there was none."""
    assert sorted(row["id"] for row in rows) == sorted(ids)
    for row in rows:
        rescued = json.loads(row["_rescued"]) if row["_rescued"] else {}
        if row["id"] >= 1000:  # by the new writer
            assert rescued.get("note", row["note"]) == f"n{row['id']}" and rescued.get("qty", row["qty"]) == row["id"]
            assert not (rescued and row["note"]), "in one place"
        else:
            assert row.get("note") is None and row.get("qty") in (7, None) and row["store"] == f"S{row['id'] % 3}"


def log_of(project, table="bronze/sale"):
    folder = project.root / "lake" / table / "_delta_log"
    return [[json.loads(line) for line in open(path)] for path in sorted(folder.glob("*.json"))]


def test_a_new_writer_adds_columns_to_bronze_and_silver_without_a_restart(shop):
    process = shop.start()
    one = 1
    shop.produce(one, V1, old(0, 20))
    wait_until(shop.has(20))
    two = shop.register(V2)
    shop.produce(two, V2, new(1000, 20))
    wait_until(shop.has(40))
    shop.produce_until(two, 1020, lambda: any(row.get("note") for row in shop.rows()))
    sent = len(shop.rows())
    shop.produce(one, V1, old(500, 20))
    wait_until(shop.has(sent + 20))
    wait_until(lambda: any(row["id"] >= 500 and row["id"] < 1000 for row in shop.rows("silver/sale")))
    text = stop(process)
    rows = shop.rows()
    ids = [row["id"] for row in rows]
    assert len(set(ids)) == len(ids) and set(range(20)) | set(range(1000, 1020)) | set(range(500, 520)) <= set(ids)
    check(rows, ids)
    assert all(row["qty"] == 7 for row in rows if 500 <= row["id"] < 1000), "the default of a writer that knows it not"
    assert any(row["note"] for row in shop.rows("silver/sale")), "pass-through silver has it too"
    assert "is live from epoch" in text
    changes = [commit for commit in log_of(shop.project) if any("metaData" in action for action in commit)]
    assert len(changes) == 2 and any("add" in action for action in changes[1]) and any("txn" in action for action in changes[1]), "the columns come with their files"
    fields = [field["name"] for field in json.loads([a for a in changes[1] if "metaData" in a][0]["metaData"]["schemaString"])["fields"]]
    assert fields[:2] == ["id", "store"] and fields[-3:] == ["note", "qty", "price"]


def test_a_field_that_may_be_null_now(shop):
    relaxed = {**V1, "fields": [V1["fields"][0], V1["fields"][1], {"name": "size", "type": ["null", "int"], "default": None}]}
    strict = {**V1, "fields": [V1["fields"][0], V1["fields"][1], {"name": "size", "type": "int", "default": 0}]}
    one = shop.register(strict)
    process = shop.start()
    shop.produce(one, strict, [{"id": 1, "store": None, "size": 5}])
    wait_until(shop.has(1))
    two = shop.register(relaxed)
    shop.produce(two, relaxed, [{"id": 2, "store": None, "size": 6}])
    sent = [3]

    def nulls_are_taken():
        shop.produce(two, relaxed, [{"id": sent[0], "store": None, "size": None}])
        sent[0] += 1
        wait_until(lambda: len(shop.rows()) + len(shop.rows("quarantine/bronze/sale")) == sent[0] - 1)
        return any(row["id"] > 2 for row in shop.rows())
    wait_until(nulls_are_taken)
    stop(process)
    rows = {row["id"]: row["size"] for row in shop.rows()}
    assert rows[1] == 5 and rows[2] == 6 and rows[sent[0] - 1] is None
    assert len(rows) + len(shop.rows("quarantine/bronze/sale")) == sent[0] - 1
    changes = [action["metaData"] for commit in log_of(shop.project) for action in commit if "metaData" in action]
    nullable = [{field["name"]: field["nullable"] for field in json.loads(change["schemaString"])["fields"]} for change in changes]
    assert [change["size"] for change in nullable] == [False, True] and nullable[1]["id"] is False


def test_a_topic_and_a_table_by_key_get_them_too(shop, kafka):
    clean = kafka.create_topic(f"{shop.topic}-clean")
    shop.project.write("rules/clean.lua", f"""return stream "silver.clean" {{ from = "bronze.sale",
      into = kafka {{ brokers = "{kafka.plaintext}", topic = "{clean}", key = "id", format = "avro", registry = "{shop.registry.url}" }} }}""")
    shop.project.write("rules/newest.lua", 'return stream "silver.newest" { from = "bronze.sale", key = "id", into = delta { mode = "merge" } }')
    process = shop.start()
    shop.produce(1, V1, old(0, 5))
    wait_until(shop.has(5))
    two = shop.register(V2)
    shop.produce(two, V2, new(1000, 1))
    shop.produce_until(two, 1001, lambda: any(row.get("note") for row in shop.rows("silver/newest")))
    ids = sorted(row["id"] for row in shop.rows())
    wait_until(lambda: sorted(row["id"] for row in shop.rows("silver/newest")) == ids)
    stop(process)
    newest = {row["id"]: row for row in shop.rows("silver/newest")}
    assert newest[0]["note"] is None and newest[ids[-1]]["note"] == f"n{ids[-1]}" and newest[ids[-1]]["qty"] == ids[-1]
    messages = [registry_stub.decoded(shop.registry, message.value()) for message in read_all(kafka, clean)]
    assert sorted(message["id"] for message in messages) == ids
    assert "note" not in messages[0] and messages[-1]["note"] == f"n{ids[-1]}"
    assert len(shop.registry.subjects[f"{clean}-value"]) == 2, "the wider schema is registered once"


def test_epochs_before_during_and_after_replay_as_they_were(shop):
    shop.produce(1, V1, old(0, 20))
    process = shop.start()
    wait_until(shop.has(20))
    two = shop.register(V2)
    shop.produce(two, V2, new(1000, 5))
    shop.produce_until(two, 1010, lambda: any(row.get("note") for row in shop.rows()))
    stop(process)
    assert any(row["_rescued"] for row in shop.rows()) and any(row["note"] for row in shop.rows()), "both kinds of epochs"
    last = json.loads((shop.project.root / "lake/_weir/p/ledger/status.json").read_text())["epochs"]
    for epoch in range(1, last + 1):
        outcome = shop.project.weir("replay", "pipelines/p.lua", "--epoch", str(epoch))
        assert outcome.code == 0 and "other rules" not in outcome.out, outcome
    shop.registry.down = True
    assert shop.project.weir("replay", "pipelines/p.lua", "--epoch", "1").code == 3, "which pipeline it is, its rules say"


POINTS = [("reload_staged", 1), ("reload_swapped", 1), ("ledger_after_sync", 3), ("delta_before_commit", 4), ("delta_entry_linked", 4)]
LONG = [("sink_file_written", 3), ("sink_file_synced", 4), ("ledger_before_write", 3), ("delta_entry_written", 4), ("delta_after_commit", 4)]


@pytest.mark.parametrize("point, hit", POINTS + (LONG if os.environ.get("WEIR_EVOLVE_ALL") else []))
def test_killed_around_the_commit_that_adds_them(shop, point, hit):
    assert point in crash.fault_points()
    sent, two = 20, None
    shop.produce(1, V1, old(0, 20))
    process = shop.start(env={"WEIR_FAULT": f"{point}:{hit}:kill"})
    while process.poll() is None and sent < 200:
        wait_until(lambda: process.poll() is not None or len(shop.rows()) >= sent)
        two = two or shop.register(V2)
        if process.poll() is None:
            shop.produce(two, V2, new(980 + sent, 10))
            sent += 10
            time.sleep(0.1)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL and two is not None
    again = shop.start()
    shop.produce(two, V2, new(5000, 5))
    wait_until(shop.has(sent + 5))
    stop(again)
    rows = shop.rows()
    check(rows, [*range(20), *range(1000, 980 + sent), *range(5000, 5005)])
    assert all(row["note"] for row in rows if row["id"] >= 5000)


def test_a_writer_that_cannot_be_read_is_named_with_field_id_and_first_offset(shop):
    process = shop.start()
    shop.produce(1, V1, old(0, 3))
    wait_until(shop.has(3))
    shop.registry.levels[f"{shop.topic}-value"] = "NONE"
    bad = {**V1, "fields": [{"name": "id", "type": "string"}, V1["fields"][1]]}
    three = shop.register(bad)
    shop.produce(three, bad, [{"id": "x", "store": None}] * 2)
    shop.produce(1, V1, old(3, 3))
    wait_until(shop.has(6))
    wait_until(shop.has(2, "quarantine/bronze/sale"))
    status = json.loads(shop.project.weir("status", "--json").out)
    wait_until(lambda: 'weir_schemas_refused_total{dataset="bronze.sale"} 1' in urllib.request.urlopen(status["serve"] + "/metrics").read().decode())
    def counted():
        sinks = json.loads(shop.project.weir("status", "--json").out)["sinks"]
        metrics = urllib.request.urlopen(status["serve"] + "/metrics").read().decode()
        return (sinks["bronze.sale"]["rows"], sinks["bronze.sale"]["kind"], 'weir_sink_rows_total{dataset="bronze.sale"} 6' in metrics,
                'weir_sink_commits_total{dataset="quarantine.bronze.sale"} 1' in metrics) == (6, "delta", True, True)
    wait_until(counted)
    stop(process)
    for row in shop.rows("quarantine/bronze/sale"):
        reason = row["_reasons"][0]["error"]
        assert f"schema id {three}" in reason and "first at offset 3" in reason and '"id"' in reason and "string" in reason


def test_a_field_that_is_renamed_by_an_alias_takes_what_older_writers_still_send(shop):
    shop.registry.levels[f"{shop.topic}-value"] = "NONE"
    process = shop.start()
    shop.produce(1, V1, old(0, 5))
    wait_until(shop.has(5))
    renamed = {**V1, "fields": [V1["fields"][0], {**V1["fields"][1], "name": "outlet", "aliases": ["store"]}]}
    two = shop.register(renamed)
    sent = [1000]

    def column_is_there():
        shop.produce(two, renamed, [{"id": sent[0], "outlet": f"S{sent[0]}"}])
        sent[0] += 1
        wait_until(shop.has(5 + sent[0] - 1000))
        return any(row.get("outlet") for row in shop.rows())
    wait_until(column_is_there)
    count = len(shop.rows())
    shop.produce(1, V1, old(5, 5))
    wait_until(shop.has(count + 5))
    stop(process)
    rows = {row["id"]: row for row in shop.rows()}
    assert all((rows[number]["store"], rows[number]["outlet"]) == (f"S{number % 3}", None) for number in range(5)), "before it had the new name"
    assert all((rows[number]["store"], rows[number]["outlet"], rows[number]["_rescued"]) == (None, f"S{number % 3}", None) for number in range(5, 10))
    shop.produce(1, V1, old(10, 5))
    assert shop.project.weir("run", "pipelines/p.lua", "--until-end").code == 0
    rows = {row["id"]: row for row in shop.rows()}
    assert all((rows[number]["store"], rows[number]["outlet"]) == (None, f"S{number % 3}") for number in range(10, 15)), "and after a restart alike"


ADDRESS = {"type": "record", "name": "address", "fields": [{"name": "street", "type": ["null", "string"], "default": None}]}
WIDER = {**ADDRESS, "fields": [*ADDRESS["fields"], {"name": "zip", "type": ["null", "string"], "default": None}]}


def with_lines(address, qty="int"):
    return {"type": "record", "name": "sale", "fields": [
        {"name": "id", "type": "long"}, {"name": "qty", "type": qty}, {"name": "at", "type": ["null", address], "default": None},
        {"name": "lines", "type": {"type": "array", "items": {"type": "record", "name": "line", "fields": [{"name": "to", "type": ["null", "address"]}]}}}]}


LINE = {"type": "record", "name": "line", "fields": [{"name": "sku", "type": "string"}, {"name": "qty", "type": "int"}]}
RATE = {"type": "record", "name": "rate", "fields": [{"name": "net", "type": "double"}]}
WIDER_LINE = {**LINE, "fields": [LINE["fields"][0], {"name": "note", "type": ["null", "string"], "default": None}, LINE["fields"][1]]}
WIDER_RATE = {**RATE, "fields": [*RATE["fields"], {"name": "at", "type": ["null", {"type": "record", "name": "place", "fields": [{"name": "x", "type": "int"}]}], "default": None},
                                 {"name": "seen", "type": ["null", {"type": "long", "logicalType": "local-timestamp-micros"}], "default": None}]}


def nested(address, line, rate):
    return {"type": "record", "name": "sale", "fields": [
        {"name": "id", "type": "long"}, {"name": "at", "type": ["null", address], "default": None},
        {"name": "lines", "type": {"type": "array", "items": line}}, {"name": "rates", "type": {"type": "map", "values": rate}}]}


NESTED = [nested(ADDRESS, LINE, RATE), nested(WIDER, WIDER_LINE, WIDER_RATE)]
NOON = datetime.datetime(2026, 11, 21, 12)


def nested_old(number):
    return {"id": number, "at": {"street": f"s{number}"} if number % 3 else None, "lines": [{"sku": f"k{i}", "qty": i} for i in range(number % 4)], "rates": {"vat": {"net": number / 4}}}


def nested_new(number):
    return {"id": number, "at": {"street": f"s{number}", "zip": f"z{number}"} if number % 3 else None,
            "lines": [{"sku": f"k{i}", "note": f"n{i}", "qty": i} for i in range(number % 4)],
            "rates": {"vat": {"net": number / 4, "at": {"x": number}, "seen": NOON}, "low": {"net": 1.5, "at": None, "seen": None}}}


def check_nested(row, held=None):
    """Row `row` of a table: what its writer said, members of the other writer null, and what had no column in `_rescued`, which silver has not: `held` says."""
    rescued = json.loads(row["_rescued"]) if row.get("_rescued") else {}
    number, lines, rates = row["id"], row["lines"], dict(row["rates"] if isinstance(row["rates"], list) else row["rates"].items())
    by_new = number >= 1000
    said = nested_new(number) if by_new else nested_old(number)
    held = by_new and not rescued if held is None else held
    assert (row["at"] is None) == (said["at"] is None) and len(lines) == len(said["lines"]) and sorted(rates) == sorted(said["rates"])
    if row["at"] is not None:
        assert row["at"]["street"] == f"s{number}" and row["at"].get("zip") == (f"z{number}" if held else None)
    for i, line in enumerate(lines):
        assert (line["sku"], line["qty"], line.get("note")) == (f"k{i}", i, f"n{i}" if held else None)
    assert rates["vat"]["net"] == number / 4 and rates["vat"].get("at") == ({"x": number} if held else None) and rates["vat"].get("seen") == (NOON if held else None)
    if rescued:
        assert rescued.get("at.zip") == (f"z{number}" if said["at"] else None) and all(rescued[f"lines[{i}].note"] == f"n{i}" for i in range(len(lines)))
    return held


def test_members_are_added_inside_structs_lists_and_maps_without_a_restart(shop, kafka):
    clean = kafka.create_topic(f"{shop.topic}-clean")
    shop.project.write("rules/clean.lua", f"""return stream "silver.clean" {{ from = "bronze.sale",
      into = kafka {{ brokers = "{kafka.plaintext}", topic = "{clean}", key = "id", format = "avro", registry = "{shop.registry.url}" }} }}""")
    shop.project.write("rules/newest.lua", 'return stream "silver.newest" { from = "bronze.sale", key = "id", into = delta { mode = "merge" } }')
    shop.registry.levels[f"{shop.topic}-value"] = "NONE"
    one = shop.register(NESTED[0])
    process = shop.start()
    shop.produce(one, NESTED[0], [nested_old(number) for number in range(12)])
    wait_until(shop.has(12))
    two = shop.register(NESTED[1])
    sent = [1000]

    def members_are_there():
        shop.produce(two, NESTED[1], [nested_new(number) for number in range(sent[0], sent[0] + 4)])
        sent[0] += 4
        wait_until(shop.has(12 + sent[0] - 1000))
        return any(row["rates"][0][1]["at"] for row in shop.rows("silver/newest") if row["id"] >= 1000 and "at" in row["rates"][0][1])
    wait_until(members_are_there)
    shop.produce(one, NESTED[0], [nested_old(number) for number in range(12, 24)])
    wait_until(shop.has(24 + sent[0] - 1000))
    wait_until(shop.has(24 + sent[0] - 1000, "silver/newest"))
    text = stop(process)
    assert "is live from epoch" in text
    ids = [*range(24), *range(1000, sent[0])]
    for table in ("bronze/sale", "silver/newest", "silver/sale"):
        rows = shop.rows(table)
        assert sorted(row["id"] for row in rows) == ids
        if table == "bronze/sale":
            held = {row["id"] for row in rows if check_nested(row)}
            assert held
        assert {row["id"] for row in rows if check_nested(row, row["id"] in held)} == held
    # each file alone, those from before the change among them, and all together by another engine
    _, files = lake.files_of(shop.project.root / "lake/bronze/sale")
    database = duckdb.connect()
    kinds = {database.execute('SELECT DISTINCT typeof("at") FROM read_parquet(?)', [[name]]).fetchall()[0] for name in files}
    assert len(kinds) == 2
    rows = database.sql("SELECT * FROM read_parquet($files, union_by_name = true)", params={"files": files}).to_arrow_table().to_pylist()
    assert sorted(row["id"] for row in rows) == ids and any([check_nested(row) for row in rows])
    # the log: members were added behind what is there and may be null, in the commit of the first files that hold them
    changes = [commit for commit in log_of(shop.project) if any("metaData" in action for action in commit)]
    assert len(changes) == 2 and any("add" in action for action in changes[1]) and any("txn" in action for action in changes[1])
    fields = {field["name"]: field["type"] for field in json.loads([a for a in changes[1] if "metaData" in a][0]["metaData"]["schemaString"])["fields"]}
    assert [(field["name"], field["nullable"]) for field in fields["at"]["fields"]][1:] == [("zip", True)]
    assert [field["name"] for field in fields["lines"]["elementType"]["fields"]] == ["sku", "qty", "note"]
    assert [field["name"] for field in fields["rates"]["valueType"]["fields"]] == ["net", "at", "seen"]
    assert any("timestampNtz" in action["protocol"].get("writerFeatures", []) for action in changes[1] if "protocol" in action)
    messages = [registry_stub.decoded(shop.registry, message.value()) for message in read_all(kafka, clean)]
    assert sorted(message["id"] for message in messages) == ids and messages[-1]["lines"] and "note" in [m for m in messages if m["lines"]][-1]["lines"][0]
    last = json.loads((shop.project.root / "lake/_weir/p/ledger/status.json").read_text())["epochs"]
    for epoch in range(1, last + 1):
        outcome = shop.project.weir("replay", "pipelines/p.lua", "--epoch", str(epoch))
        assert outcome.code == 0 and "other rules" not in outcome.out, outcome


def test_members_that_were_added_while_it_stood_still_are_there_at_the_next_start(shop):
    shop.registry.levels[f"{shop.topic}-value"] = "NONE"
    one = shop.register(NESTED[0])
    shop.project.write("rules/newest.lua", 'return stream "silver.newest" { from = "bronze.sale", key = "id", into = delta { mode = "merge" } }')
    shop.produce(one, NESTED[0], [nested_old(number) for number in range(12)])
    assert shop.project.weir("run", "pipelines/p.lua", "--until-end").code == 0
    two = shop.register(NESTED[1])  # in this one `note` stands before `qty`
    shop.produce(two, NESTED[1], [nested_new(number) for number in range(1000, 1008)])
    shop.produce(one, NESTED[0], [nested_old(4)])
    outcome = shop.project.weir("run", "pipelines/p.lua", "--until-end")
    assert outcome.code == 0, outcome
    rows = shop.rows()
    assert len(rows) == 21 and sum(check_nested(row) for row in rows) == 8
    rows = shop.rows("silver/newest")
    assert len(rows) == 20 and all(check_nested(row, True) for row in rows if row["id"] >= 1000)
    # and members that are gone from the newest schema: their column stays, null
    three = shop.register(NESTED[0])
    shop.produce(three, NESTED[0], [nested_old(number) for number in range(30, 33)])
    outcome = shop.project.weir("run", "pipelines/p.lua", "--until-end")
    assert outcome.code == 0, outcome
    rows = shop.rows()
    assert len(rows) == 24 and sum(check_nested(row) for row in rows) == 8


def test_members_of_a_table_that_maps_its_columns_get_names_and_ids_of_their_own(shop):
    shop.registry.levels[f"{shop.topic}-value"] = "NONE"
    gone = {**NESTED[0], "fields": [*NESTED[0]["fields"], {"name": "gone", "type": ["null", "string"], "default": None}]}
    one = shop.register(gone)
    shop.produce(one, gone, [{**nested_old(number), "gone": "x"} for number in range(6)])
    assert shop.project.weir("run", "pipelines/p.lua", "--until-end").code == 0
    assert shop.project.weir("table", "alter", "bronze.sale", "--drop", "gone").code == 0
    two = shop.register(NESTED[1])
    shop.produce(two, NESTED[1], [nested_new(number) for number in range(1000, 1008)])
    outcome = shop.project.weir("run", "pipelines/p.lua", "--until-end")
    assert outcome.code == 0, outcome
    read = [json.loads(line) for line in shop.project.weir("table", "cat", "lake/bronze/sale", "--json").out.splitlines()]
    for row in read:
        row["rates"] = [(each["key"], {**each["value"], "seen": NOON if each["value"]["seen"] else None}) for each in row["rates"]]
    assert len(read) == 14 and sum(check_nested(row) for row in read) == 8
    ids, metadata = [], [action["metaData"] for commit in log_of(shop.project) for action in commit if "metaData" in action][-1]

    def walk(node):
        if isinstance(node, dict):
            if "metadata" in node:
                ids.append((node["metadata"]["delta.columnMapping.id"], node["metadata"]["delta.columnMapping.physicalName"]))
            for each in node.values():
                walk(each)
        elif isinstance(node, list):
            for each in node:
                walk(each)
    walk(json.loads(metadata["schemaString"]))
    assert len({number for number, _ in ids}) == len(ids) == len({name for _, name in ids if name.startswith("col-")}) + len([1 for _, name in ids if not name.startswith("col-")])
    assert max(number for number, _ in ids) == int(metadata["configuration"]["delta.columnMapping.maxColumnId"])
    assert len([1 for _, name in ids if name.startswith("col-")]) == 5  # zip, note, at, x, seen


def test_killed_around_the_commit_that_adds_members(shop):
    shop.registry.levels[f"{shop.topic}-value"] = "NONE"
    one = shop.register(NESTED[0])
    shop.produce(one, NESTED[0], [nested_old(number) for number in range(20)])
    process = shop.start(env={"WEIR_FAULT": "reload_swapped:1:kill"})
    wait_until(shop.has(20))
    two, sent = shop.register(NESTED[1]), 0
    while process.poll() is None and sent < 300:
        shop.produce(two, NESTED[1], [nested_new(number) for number in range(1000 + sent, 1005 + sent)])
        sent += 5
        wait_until(lambda: process.poll() is not None or len(shop.rows()) >= 20 + sent)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    again = shop.start()
    shop.produce(two, NESTED[1], [nested_new(5000)])
    wait_until(shop.has(21 + sent))
    stop(again)
    rows = shop.rows()
    assert sorted(row["id"] for row in rows) == [*range(20), *range(1000, 1000 + sent), 5000]
    assert [check_nested(row) for row in rows][-1]


def test_a_number_that_becomes_wider_is_taken_as_far_as_it_fits(shop):
    shop.registry.levels[f"{shop.topic}-value"] = "NONE"
    one = shop.register(with_lines(ADDRESS))
    process = shop.start()
    row = {"id": 1, "qty": 1, "at": None, "lines": []}
    shop.produce(one, with_lines(ADDRESS), [row])
    wait_until(shop.has(1))
    two = shop.register(with_lines(ADDRESS, "long"))
    shop.produce(two, with_lines(ADDRESS, "long"), [{**row, "id": 2}, {**row, "id": 3, "qty": 5_000_000_000}, {**row, "id": 4}])
    wait_until(shop.has(3))
    wait_until(shop.has(1, "quarantine/bronze/sale"))
    stop(process)
    assert [row["id"] for row in shop.rows()] == [1, 2, 4]
    refused, = shop.rows("quarantine/bronze/sale")
    assert "qty: 5000000000 is outside the range" in refused["_reasons"][0]["error"] and refused["_offset"] == 2
    assert f"(schema id {two}, first at offset 1)" in refused["_reasons"][0]["error"]


AVSC = {"type": "record", "name": "sale", "fields": [{"name": "id", "type": "long"}, {"name": "store", "type": ["null", "string"]}]}


def test_a_schema_file_that_gains_a_field_adds_the_column(project):
    def save(schema):
        fresh = project.write("schemas/.sale.tmp", json.dumps(schema))
        os.replace(fresh, project.root / "schemas/sale.avsc")

    def feed(name, data):
        fresh = project.write(f"in-{name}", "".join(json.dumps(row) + "\n" for row in data))
        os.replace(fresh, project.root / f"landing/{name}.jsonl")

    def rows(table="bronze/sale"):
        path = project.root / "lake" / table
        return deltalake.DeltaTable(str(path)).to_pyarrow_table().to_pylist() if (path / "_delta_log").exists() else []

    save(AVSC)
    (project.root / "landing").mkdir()
    project.write("rules/sale.lua", SILVER)
    project.write("pipelines/p.lua", """return pipeline "p" { rules = "rules", storage = delta { root = "lake" }, commit = { every = "20ms" },
      sources = { source "bronze.sale" { files { path = "landing/*.jsonl" }, json { schema = "schemas/sale.avsc" } } } }""")
    process = project.start("run", "pipelines/p.lua")
    feed("1", [{"id": 1, "store": "a", "note": "early"}])
    wait_until(lambda: len(rows()) == 1)
    save({**AVSC, "fields": [*AVSC["fields"], {"name": "note", "type": ["null", "string"]}, {"name": "qty", "type": "int", "default": 3}]})
    sent = 1

    def column_is_there():
        nonlocal sent
        sent += 1
        feed(str(sent), [{"id": sent, "store": "b", "note": "late"}])
        wait_until(lambda: len(rows()) == sent)
        return any(row.get("note") for row in rows("silver/sale"))
    wait_until(column_is_there)
    stop(process)
    found = {row["id"]: row for row in rows()}
    assert sorted(found) == list(range(1, sent + 1))
    assert found[1]["note"] is None and json.loads(found[1]["_rescued"]) == {"note": "early"}
    assert found[sent]["note"] == "late" and found[sent]["_rescued"] is None and found[sent]["qty"] == 3


STATEFUL = {
    "silver/sale": 'return stream "silver.sale" { from = "bronze.sale", time = { field = "at", out_of_order = "1h" }, dedup = { by = { "id" }, within = "24h" } }',
    "gold/total": 'return model "gold.total" { from = "silver.sale", by = { "store" }, measures = { sales = count(), last = max "id", kinds = distinct "qty" }, into = delta { mode = "merge" } }',
    "gold/day": 'return model "gold.day" { from = "bronze.sale", time = { field = "at", out_of_order = "1h" }, by = { "store" }, window = tumbling { size = "24h" }, measures = { sales = count(), most = arg_max("id", "qty") } }',
    "gold/seen": """return rule "gold.seen" { on = "silver.sale", key = "store", order = "arrival", emits = { ["gold.nth"] = { id = "int64", nth = "int64" } }, state = { seen = counter() },
      process = function(e, s, p, emit) s.seen:add() emit("gold.nth", { id = e.id, nth = s.seen:get() }) end }""",
    "silver/twin": 'return stream "silver.twin" { from = "bronze.sale", time = { field = "at", out_of_order = "1h" }, dedup = { by = "id", within = "24h" }, keep = { "id", "store", "at" }, into = none }',
    "silver/price": 'return stream "silver.price" { from = "bronze.sale", time = { field = "at", out_of_order = "1h" }, key = "store", keep = { "store", "qty", "at" }, into = none }',
    "gold/pair": """return stream "gold.pair" { from = "silver.twin", keep = { "id" }, columns = { other = "int64" }, map = function(e, out, j) out.other = j.twin.id end,
      join = { twin = interval_join "silver.sale" { on = { store = "store" }, between = { "3s", "3s" } } } }""",
    "gold/priced": """return stream "gold.priced" { from = "silver.twin", keep = { "id" }, columns = { price = "int32" }, map = function(e, out, j) out.price = j.price.qty end,
      join = { price = temporal_join "silver.price" { on = { store = "store" }, wait = "1m" } } }""",
}


def test_columns_flow_past_what_keeps_state_without_a_restart(project):
    avsc = {"type": "record", "name": "sale", "fields": [{"name": "id", "type": "long"}, {"name": "store", "type": "string"}, {"name": "qty", "type": "int"},
                                                         {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}}]}

    def save(schema):
        os.replace(project.write("schemas/.sale.tmp", json.dumps(schema)), project.root / "schemas/sale.avsc")

    def feed(name, first, end, **more):
        data = [{"id": n, "store": f"s{n % 3}", "qty": n % 5, "at": f"2026-01-05T10:{n // 60 % 60:02d}:{n % 60:02d}Z", **more} for n in range(first, end)]
        os.replace(project.write(f"in-{name}", "".join(json.dumps(row) + "\n" for row in data)), project.root / f"landing/{name}.jsonl")

    def rows(table):
        return lake.by_deltalake(project.root / "lake" / table).to_pylist()

    save(avsc)
    (project.root / "landing").mkdir()
    for name, text in STATEFUL.items():
        project.write(f"rules/{name}.lua", text)
    project.write("pipelines/p.lua", """return pipeline "p" { rules = "rules", storage = delta { root = "lake" }, commit = { every = "20ms" },
      sources = { source "bronze.sale" { files { path = "landing/*.jsonl" }, json { schema = "schemas/sale.avsc" } } } }""")
    process = project.start("run", "pipelines/p.lua")
    feed("1", 0, 100)
    wait_until(lambda: len(rows("gold/nth")) == 100)
    note = {"name": "note", "type": ["null", "string"], "default": None}
    save({**avsc, "fields": [avsc["fields"][0], note, *avsc["fields"][1:]]})
    wait_until(lambda: "is live" in (project.weir("status", "--json").json()["note"] or ""))
    feed("2", 90, 200, note="late")  # ten of them again
    wait_until(lambda: len(rows("gold/nth")) == 200)
    stop(process)
    project.run("pipelines/p.lua")
    assert {row["id"]: row["note"] for row in rows("silver/sale")} == {n: None if n < 100 else "late" for n in range(200)}
    assert sorted((row["id"], row["nth"]) for row in rows("gold/nth")) == [(n, n // 3 + 1) for n in range(200)]
    assert {row["store"]: (row["sales"], row["last"], row["kinds"]) for row in rows("gold/total")} == {
        f"s{k}": (len(range(k, 200, 3)), max(range(k, 200, 3)), 5) for k in range(3)}
    day = {row["store"]: (row["sales"], row["most"] % 5) for row in rows("gold/day")}
    assert day == {f"s{k}": (sum(n % 3 == k for n in [*range(200), *range(90, 100)]), 4) for k in range(3)}
    assert sorted((row["id"], row["other"]) for row in rows("gold/pair")) == [(n, n + 3) for n in range(197)]
    assert sorted((row["id"], row["price"]) for row in rows("gold/priced")) == [(n, n % 5) for n in range(200)]


PLAIN = """return pipeline "p" { rules = "rules", storage = delta { root = "lake" }, commit = { every = "20ms" },
  sources = { source "bronze.sale" { files { path = "landing/*.jsonl" }, json { schema = "schemas/sale.avsc" } } } }"""
SALE_AVSC = {"type": "record", "name": "sale", "fields": [
    {"name": "id", "type": "long"}, {"name": "store", "type": "string"}, {"name": "note", "type": ["null", "string"]}, {"name": "qty", "type": "int"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}}]}
READS_SALE = {
    "silver/once": 'return stream "silver.once" { from = "silver.sale", time = { field = "at", out_of_order = "1h" }, dedup = { by = { "id" }, within = "24h" }, keep = { "id", "store" } }',
    "gold/total": 'return model "gold.total" { from = "silver.sale", by = { "store" }, measures = { sales = count(), last = max "id" }, into = delta { mode = "merge" } }',
    "gold/seen": """return rule "gold.seen" { on = "silver.sale", key = "store", order = "arrival", emits = { ["gold.nth"] = { id = "int64", nth = "int64" } }, state = { seen = counter() },
      process = function(e, s, p, emit) s.seen:add() emit("gold.nth", { id = e.id, nth = s.seen:get() }) end }""",
}


class Dropping:
    """A stream whose columns are said anew while events flow."""

    def __init__(self, project, rules, into=""):
        self.project, self.into = project, into
        project.write("schemas/sale.avsc", json.dumps(SALE_AVSC))
        project.write("pipelines/p.lua", PLAIN)
        (project.root / "landing").mkdir()
        for name, text in rules.items():
            project.write(f"rules/{name}.lua", text)
        self.keep("id", "store", "note", "qty", "at")
        self.process, self.sent = project.start("run", "pipelines/p.lua"), 0

    def keep(self, *columns, more=""):
        text = f'return stream "silver.sale" {{ from = "bronze.sale", keep = {{ {", ".join(map(json.dumps, columns))} }}{more}{self.into} }}'
        os.replace(self.project.write("rules/.sale.tmp", text), self.project.root / "rules/sale.lua")

    def note(self):
        return self.project.weir("status", "--json").json().get("note") or ""

    def live(self, *columns, more=""):
        before = self.note()
        self.keep(*columns, more=more)
        wait_until(lambda: self.note() != before and "is staged" not in self.note())
        return self.note()

    def send(self, count):
        data = [{"id": n, "store": f"s{n % 3}", "note": f"n{n}", "qty": n % 5, "at": f"2026-01-05T10:{n // 60 % 60:02d}:{n % 60:02d}Z"}
                for n in range(self.sent, self.sent + count)]
        fresh = self.project.write(f"in-{self.sent}", "".join(json.dumps(row) + "\n" for row in data))
        os.replace(fresh, self.project.root / f"landing/{self.sent:06d}.jsonl")
        self.sent += count

    def feed(self, count):
        self.send(count)
        wait_until(lambda: len(self.rows("silver/sale")) == self.sent)

    def rows(self, table):
        return lake.by_deltalake(self.project.root / "lake" / table).to_pylist()


def test_a_column_that_a_rule_drops_is_null_from_then_on(project):
    """Without a restart, though the table did not let one of them be null; what keeps state and reads others goes on. It may come back."""
    shop = Dropping(project, READS_SALE)
    shop.feed(60)
    assert "is live" in shop.live("id", "store", "at")
    shop.feed(60)
    table = deltalake.DeltaTable(str(project.root / "lake/silver/sale"))
    assert {field.name: field.nullable for field in table.schema().fields} == {
        **{field.name: field.nullable for field in deltalake.DeltaTable(str(project.root / "lake/silver/sale"), version=1).schema().fields}, "qty": True}
    assert "is live" in shop.live("note", "id", "store", "at")
    shop.feed(60)
    wait_until(lambda: len(shop.rows("gold/nth")) == 180)
    stop(shop.process)
    project.run("pipelines/p.lua")
    want = {n: (f"n{n}" if n < 60 or n >= 120 else None, n % 5 if n < 60 else None) for n in range(180)}
    assert {row["id"]: (row["note"], row["qty"]) for row in shop.rows("silver/sale")} == want
    assert sorted((row["id"], row["nth"]) for row in shop.rows("gold/nth")) == [(n, n // 3 + 1) for n in range(180)]
    assert {row["store"]: (row["sales"], row["last"]) for row in shop.rows("gold/total")} == {f"s{k}": (60, 177 + k) for k in range(3)}
    assert sorted(row["id"] for row in shop.rows("silver/once")) == list(range(180))


def test_a_dropped_column_that_comes_back_as_another_type_is_refused(project):
    """While the table has it: else the rules would go live, and the next commit fail."""
    made = ', columns = {{ made = "{}" }}, map = function(e, out) out.made = {} end'
    shop = Dropping(project, {})
    shop.feed(5)
    assert "is live" in shop.live("id", "qty", more=made.format("int32", "e.qty"))
    shop.feed(5)
    assert "is live" in shop.live("id", "qty")
    said = shop.live("id", "qty", more=made.format("string", "e.note"))
    assert "refused" in said and "column made of table" in said and "is int32, but the stream's is string" in said
    shop.feed(10)
    assert project.weir("table", "alter", "silver.sale", "--drop", "made").code == 0
    assert "is live" in shop.live("id", "qty", more=made.format("string", "e.store"))
    shop.send(10)

    def found():
        return {row["id"]: row["made"] for row in map(json.loads, project.weir("table", "cat", "lake/silver/sale", "--json").out.splitlines())}
    wait_until(lambda: len(found()) == 30)
    stop(shop.process)
    assert found() == {n: f"s{n % 3}" if n >= 20 else None for n in range(30)}


def test_who_keeps_whole_rows_refuses_that_one_of_their_columns_goes(project):
    shop = Dropping(project, {"gold/first": """return rule "gold.first" { on = "silver.sale", key = "store", time = { field = "at", out_of_order = "1h" }, emits = { ["gold.f"] = { id = "int64" } },
      process = function(e, s, p, emit) emit("gold.f", { id = e.id }) end }"""})
    shop.feed(10)
    said = shop.live("id", "store", "at")
    assert "refused" in said and "gold.first keeps rows" in said
    shop.feed(10)
    stop(shop.process)
    assert all(row["note"] == f"n{row['id']}" for row in shop.rows("silver/sale"))


def test_rows_by_key_lose_what_a_rule_drops_as_they_change(project):
    shop = Dropping(project, {}, into=', key = "id", time = { field = "at" }, into = delta { mode = "merge" }')
    shop.feed(20)
    assert "is live" in shop.live("id", "store", "at")
    shop.sent -= 10  # ten of them again
    fresh = project.write("in-again", "".join(json.dumps({"id": n, "store": "new", "note": "new", "qty": 9, "at": "2026-01-05T12:00:00Z"}) + "\n" for n in range(10, 20)))
    os.replace(fresh, project.root / "landing/zz.jsonl")
    wait_until(lambda: sum(row["store"] == "new" for row in shop.rows("silver/sale")) == 10)
    stop(shop.process)
    assert {row["id"]: (row["note"], row["qty"]) for row in shop.rows("silver/sale")} == {n: (f"n{n}", n % 5) if n < 10 else (None, None) for n in range(20)}


@pytest.mark.parametrize("point", ["reload_swapped", "delta_before_commit", "delta_after_commit", "ledger_before_sync"])
def test_killed_around_a_drop(project, point):
    shop = Dropping(project, READS_SALE)
    shop.feed(30)
    stop(shop.process)
    shop.process = project.start("run", "pipelines/p.lua", env={"WEIR_FAULT": f"{point}:{1 if point == 'reload_swapped' else 12}:kill"})
    shop.feed(1)  # it runs, and watches
    shop.keep("id", "store", "at")
    while shop.process.poll() is None and shop.sent < 1500:
        shop.send(5)
        time.sleep(0.05)
    shop.process.kill()
    shop.process.communicate(timeout=30)
    assert shop.process.returncode == -signal.SIGKILL and shop.sent < 1500
    project.run("pipelines/p.lua")
    found = shop.rows("silver/sale")
    assert sorted(row["id"] for row in found) == list(range(shop.sent))
    assert all(row["note"] in (f"n{row['id']}", None) for row in found) and all(row["note"] for row in found if row["id"] < 30)
    assert sorted((row["id"], row["nth"]) for row in shop.rows("gold/nth")) == [(n, n // 3 + 1) for n in range(shop.sent)]
