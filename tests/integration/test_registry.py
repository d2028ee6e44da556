"""A real schema registry, Apicurio's: what the stub answers, it answers too. Down, slow and wrong registries are the stub's (test_avro.py, test_avro_sink.py)."""

import json
import random
import time
import urllib.error

import pytest
from registry_stub import decoded
from test_avro import READER, check as check_rows, message, rows, run, sale
from test_avro_sink import ROWS, SCHEMA, Out, wanted
from live import wait_until
from test_evolution import NESTED, V1, V2, Shop, check, check_nested, nested_new, nested_old, new, old, stop
from test_schema_command import BAD, schema
from test_schema_command import V1 as SALE1
from test_schema_command import V2 as SALE2


@pytest.fixture
def subject():
    return f"s{time.time_ns()}"


def test_every_type_by_id_and_by_reference(project, new_project, kafka, apicurio, subject):
    topic = kafka.create_topic(f"{subject}-topic")
    draw = random.Random(5)
    data = [sale(draw, number) for number in range(100)]
    number = apicurio.register(f"{topic}-value", READER)
    kafka.produce(topic, [message(number, READER, datum) for datum in data])
    run(project, kafka, topic, f'registry = "{apicurio.url}"')
    check_rows(project, data)
    money = {"type": "record", "name": f"shop.Money{subject}", "fields": [{"name": "cents", "type": "long"}]}
    order = {"type": "record", "name": f"shop.Order{subject}", "fields": [{"name": "id", "type": "int"}, {"name": "total", "type": f"shop.Money{subject}"}]}
    apicurio.register(f"{subject}-money", money)
    number = apicurio.register(f"{subject}-order", order, [{"name": f"shop.Money{subject}", "subject": f"{subject}-money", "version": 1}])
    topic = kafka.create_topic(f"{subject}-refers")
    whole = {**order, "fields": [order["fields"][0], {"name": "total", "type": money}]}
    kafka.produce(topic, [message(number, whole, {"id": 7, "total": {"cents": 1 << 40}})])
    other = new_project("refers")
    other.write("schemas/order.avsc", json.dumps(whole))
    run(other, kafka, topic, f'registry = "{apicurio.url}", schema = "schemas/order.avsc"')
    assert [(row["id"], row["total"]) for row in rows(other)] == [(7, {"cents": 1 << 40})]


def test_a_version_registered_while_it_runs_and_one_that_is_refused(project, kafka, apicurio):
    shop = Shop(project, kafka, apicurio)
    try:
        subject = f"{shop.topic}-value"
        apicurio.demand(subject, "BACKWARD")
        process = shop.start()
        one = apicurio.register(subject, V1)
        shop.produce(one, V1, old(0, 20))
        wait_until(shop.has(20))
        with pytest.raises(urllib.error.HTTPError) as refused:
            shop.register({**V1, "fields": [{"name": "id", "type": "string"}]})
        assert refused.value.code == 409
        two = shop.register(V2)
        assert two != one
        shop.produce(two, V2, new(1000, 20))
        wait_until(shop.has(40))
        shop.produce_until(two, 1020, lambda: any(row.get("note") for row in shop.rows()))
        text = stop(process)
        found = shop.rows()
        check(found, [row["id"] for row in found])
        assert "is live from epoch" in text
    finally:
        for process in shop.processes:
            if process.poll() is None:
                process.kill()
                process.communicate()


def test_members_a_version_adds_inside_structs_lists_and_maps(project, kafka, apicurio):
    shop = Shop(project, kafka, apicurio)
    try:
        subject = f"{shop.topic}-value"
        one = apicurio.register(subject, NESTED[0])
        apicurio.demand(subject, "BACKWARD")
        process = shop.start()
        shop.produce(one, NESTED[0], [nested_old(number) for number in range(8)])
        wait_until(shop.has(8))
        two, sent = apicurio.register(subject, NESTED[1]), [1000]

        def members_are_there():
            shop.produce(two, NESTED[1], [nested_new(sent[0])])
            sent[0] += 1
            wait_until(shop.has(8 + sent[0] - 1000))
            return any(row["id"] >= 1000 and not row["_rescued"] for row in shop.rows())
        wait_until(members_are_there)
        assert "is live from epoch" in stop(process)
        found = shop.rows()
        assert sorted(row["id"] for row in found) == [*range(8), *range(1000, sent[0])] and any([check_nested(row) for row in found])
        told = project.weir("schema", "check", env={"REGISTRY": apicurio.url})
        assert all(f"version {version}: ok" in told.out for version in (2, 3)), told
    finally:
        for process in shop.processes:
            if process.poll() is None:
                process.kill()
                process.communicate()


def test_a_sink_registers_what_it_writes(project, kafka, apicurio):
    out = Out(project, kafka)
    out.run(f'format = "avro", registry = "{apicurio.url}"', schema=SCHEMA)
    assert apicurio.call(f"/subjects/{out.topic}-value/versions") == [1]
    messages = out.messages()
    assert [{name: decoded(apicurio, each.value())[name] for name in wanted(ROWS[0])} for each in messages] == [wanted(row) for row in ROWS]
    out.project.write("in/2.jsonl", json.dumps(ROWS[0]) + "\n")
    out.project.run("pipelines/p.lua")
    assert apicurio.call(f"/subjects/{out.topic}-value/versions") == [1], "the same schema after a restart"
    assert len(out.messages()) == len(ROWS) + 1


def test_a_schema_it_refuses_stops_the_sink_before_a_row_is_written(project, kafka, apicurio):
    out = Out(project, kafka)
    apicurio.register(f"{out.topic}-value", {"type": "record", "name": "sale", "namespace": "bronze", "fields": [{"name": "id", "type": "string"}]})
    apicurio.demand(f"{out.topic}-value", "BACKWARD")
    refused = out.run(f'format = "avro", registry = "{apicurio.url}"', code=1)
    assert f"{out.topic}-value" in refused.err and '"id"' in refused.err and "another subject" in refused.err, refused
    assert out.messages() == []


def test_the_commands_about_schemas(project, apicurio, subject):
    apicurio.register(subject, SALE1)
    apicurio.register(subject, SALE2)
    apicurio.demand(subject, "BACKWARD")
    text = schema(project, "ls", subject, registry=apicurio).out
    assert "version 1" in text and "version 2" in text and "shop.sale" in text, text
    assert schema(project, "diff", f"{subject}:1", subject, "--json", registry=apicurio).json()["backward"] is True
    project.write("new.avsc", json.dumps({**SALE2, "fields": [*SALE2["fields"], {"name": "till", "type": "int", "default": 0}]}))
    project.write("bad.avsc", json.dumps(BAD))
    assert "version 2: ok" in schema(project, "check", "new.avsc", subject, registry=apicurio).out
    found = schema(project, "check", "bad.avsc", subject, "--json", registry=apicurio, code=1).json()
    assert {problem["field"] for check in found["checks"] for problem in check["problems"]} >= {"id", "till"}
    apicurio.demand(subject, "NONE")
    assert "any schema" in schema(project, "check", "bad.avsc", subject, registry=apicurio).out


def test_subjects_are_listed_with_what_they_ask_and_refer_to(project, apicurio, subject):
    money = {"type": "record", "name": f"shop.Money{subject}", "fields": [{"name": "cents", "type": "long"}]}
    order = {"type": "record", "name": f"shop.Order{subject}", "fields": [{"name": "total", "type": f"shop.Money{subject}"}]}
    apicurio.register(f"{subject}-money", money)
    apicurio.register(f"{subject}-order", order, [{"name": f"shop.Money{subject}", "subject": f"{subject}-money", "version": 1}])
    apicurio.demand(f"{subject}-order", "FULL_TRANSITIVE")
    apicurio.call(f"/subjects/{subject}-note/versions", {"schemaType": "JSON", "schema": json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "title": subject})})
    lines = {line.split()[0]: line for line in schema(project, "ls", registry=apicurio).out.splitlines() if line.startswith(subject)}
    assert "FULL_TRANSITIVE" in lines[f"{subject}-order"] and f"shop.Order{subject}" in lines[f"{subject}-order"]
    assert "JSON, which Weir does not read" in lines[f"{subject}-note"]
    assert f"refers to {subject}-money version 1" in schema(project, "ls", f"{subject}-order", registry=apicurio).out
    found, = json.loads(schema(project, "ls", f"{subject}-order", "--json", registry=apicurio).out)
    assert found["compatibility"] == "FULL_TRANSITIVE" and found["references"][0]["subject"] == f"{subject}-money"
    assert "not Avro" in schema(project, "diff", f"{subject}-note", f"{subject}-money", registry=apicurio, code=1).err


def test_a_registry_killed_while_its_schema_is_needed_is_waited_for(project, kafka):
    import apicurio
    registry = apicurio.start()
    shop = Shop(project, kafka, registry)
    try:
        one = registry.register(f"{shop.topic}-value", V1)
        process = shop.start()
        shop.produce(one, V1, old(0, 20))
        wait_until(shop.has(20))
        two = shop.register(V2)
        registry.kill()
        shop.produce(two, V2, new(1000, 20))
        shop.produce(one, V1, old(500, 20))
        registry.restart()
        assert len(shop.rows()) == 20, "they wait for the registry, in their order"
        wait_until(shop.has(60), 120)
        text = stop(process)
        found = shop.rows()
        assert [row["id"] for row in found] == [*range(20), *range(1000, 1020), *range(500, 520)], "each once, in their order"
        assert all(f"n{row['id']}" in (row.get("note"), json.loads(row["_rescued"] or "{}").get("note")) for row in found[20:40])
        assert f"waits for schema {two}" in text, text
    finally:
        for process in shop.processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
        registry.stop()
