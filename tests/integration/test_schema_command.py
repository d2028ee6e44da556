"""weir schema check | diff | ls: what it says of files and of a registry, and its exit codes."""

import json

import pytest
import registry_stub

V1 = {"type": "record", "name": "sale", "namespace": "shop", "fields": [
    {"name": "id", "type": "int"}, {"name": "shop", "type": "string"}, {"name": "note", "type": ["null", "string"], "default": None}, {"name": "gone", "type": "long"},
    {"name": "kind", "type": {"type": "enum", "name": "kind", "symbols": ["SALE", "RETURN"]}}, {"name": "qty", "type": "int", "default": 1},
    {"name": "lines", "type": {"type": "array", "items": {"type": "record", "name": "line", "fields": [{"name": "sku", "type": "string"}]}}}]}
V2 = {"type": "record", "name": "sale", "namespace": "shop", "fields": [
    {"name": "id", "type": "long"}, {"name": "store", "type": "string", "aliases": ["shop"]}, {"name": "note", "type": ["null", "string"], "default": None},
    {"name": "kind", "type": {"type": "enum", "name": "kind", "symbols": ["SALE", "RETURN", "GIFT"]}}, {"name": "qty", "type": "int", "default": 7},
    {"name": "lines", "type": {"type": "array", "items": {"type": "record", "name": "line", "fields": [
        {"name": "sku", "type": "string"}, {"name": "price", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}], "default": None}]}}}]}
BAD = {**V1, "fields": [{"name": "id", "type": "string"}, *V1["fields"][1:], {"name": "till", "type": "int"}]}


@pytest.fixture
def registry():
    made = registry_stub.Registry()
    yield made
    made.stop()


def schema(project, *arguments, registry=None, code=0):
    outcome = project.weir("schema", *arguments, env={"REGISTRY": registry.url} if registry else {"REGISTRY": ""})
    assert outcome.code == code, outcome
    return outcome


def test_what_changed_between_two_files(project):
    project.write("a.avsc", json.dumps(V1))
    project.write("b.avsc", json.dumps(V2))
    found = schema(project, "diff", "a.avsc", "b.avsc", "--json").json()
    assert {(change["change"], change["field"], change["before"], change["after"], change["default"]) for change in found["changes"]} == {
        ("widened", "id", "int", "long", None), ("renamed", "store", "shop", "store", None), ("removed", "gone", "long", None, None), ("symbols", "kind", None, "GIFT", None),
        ("default", "qty", "1", "7", None), ("added", "lines.price", None, "decimal(9,2) or null", "null")}
    assert found["backward"] is True and found["forward"] is False
    text = schema(project, "diff", "a.avsc", "b.avsc").out
    for line in ("+ lines.price", "- gone", "int -> long (widened)", "was shop", "symbols +GIFT", "default 1 -> 7", "readers of a.avsc do not read what is written by b.avsc"):
        assert line in text, text
    assert "no change" in schema(project, "diff", "a.avsc", "a.avsc").out


def test_versions_of_a_registry(project, registry):
    registry.register("pos-value", V1)
    registry.register("pos-value", V2)
    registry.register("other", BAD)
    text = schema(project, "ls", registry=registry).out
    assert "pos-value" in text and "version 2" in text and "id 2" in text and "shop.sale" in text and "other" in text
    assert "BACKWARD" in text
    found = json.loads(schema(project, "ls", "pos-value", "--json", registry=registry).out)
    assert [(one["version"], one["id"], one["name"], one["type"], one["compatibility"]) for one in found] == [(n, n, "shop.sale", "AVRO", "BACKWARD") for n in (1, 2)]
    project.write("b.avsc", json.dumps(V2))
    assert schema(project, "diff", "pos-value:1", "pos-value", "--json", registry=registry).json()["backward"] is True
    assert "no change" in schema(project, "diff", "pos-value:2", "b.avsc", registry=registry).out


def test_may_a_file_follow_what_a_subject_holds(project, registry):
    registry.register("pos-value", V1)
    registry.register("pos-value", V2)
    project.write("new.avsc", json.dumps({**V2, "fields": [*V2["fields"], {"name": "till", "type": "int", "default": 0}]}))
    project.write("bad.avsc", json.dumps(BAD))
    assert "version 2: ok" in schema(project, "check", "new.avsc", "pos-value", registry=registry).out
    found = schema(project, "check", "bad.avsc", "pos-value", "--json", registry=registry, code=1).json()
    assert not found["ok"] and [check["version"] for check in found["checks"]] == [2]
    problems = {problem["field"]: problem["why"] for problem in found["checks"][0]["problems"]}
    assert "no default" in problems["till"] and "no string" in problems["id"]
    both = schema(project, "check", "new.avsc", "pos-value", "--mode", "full-transitive", "--json", registry=registry, code=1).json()
    assert [(check["check"], check["version"], check["ok"]) for check in both["checks"]] == [("backward", 1, True), ("forward", 1, False), ("backward", 2, True), ("forward", 2, True)]
    registry.levels["pos-value"] = "NONE"
    assert "any schema" in schema(project, "check", "bad.avsc", "pos-value", registry=registry).out


PIPELINE = """return pipeline "p" {{ storage = delta {{ root = "lake" }},
  sources = {{ source "bronze.pos" {{ kafka {{ brokers = "127.0.0.1:1", topic = "pos" }}, avro {{ registry = "{registry}", schema = "schemas/pos.avsc" }} }} }} }}
"""


def test_will_a_pipeline_read_every_version(project, registry):
    registry.register("pos-value", V1)
    registry.register("pos-value", V2)
    project.write("pipelines/p.lua", PIPELINE.format(registry=registry.url))
    reader = {"type": "record", "name": "mine", "fields": [{"name": "id", "type": "long"}, {"name": "extra", "type": ["null", "string"]}, {"name": "store", "type": "string", "aliases": ["shop"]}]}
    project.write("schemas/pos.avsc", json.dumps(reader))
    text = schema(project, "check").out
    assert text.count(": ok") == 2 and "bronze.pos reads pos-value version 1" in text
    reader["fields"].append({"name": "gone", "type": "long"})
    project.write("schemas/pos.avsc", json.dumps(reader))
    found = schema(project, "check", "pipelines/p.lua", "--json", code=1).json()
    assert [check["ok"] for check in found["checks"]] == [True, False] and found["checks"][1]["problems"][0]["field"] == "gone"


@pytest.mark.parametrize("arguments, code, texts", [
    (("ls",), 2, ("--registry",)), (("diff", "a.avsc"), 2, ("two schemas",)), (("nonsense",), 2, ("check, diff or ls",)), (("ls", "--registry", "http://127.0.0.1:1"), 3, ("127.0.0.1:1",)),
    (("check", "a.avsc", "x", "--mode", "sideways", "--registry", "REGISTRY"), 2, ("backward",)), (("diff", "nosuch", "a.avsc", "--registry", "REGISTRY"), 1, ("nosuch", "not there"))])
def test_what_is_wrong_is_said(project, registry, arguments, code, texts):
    project.write("a.avsc", json.dumps(V1))
    outcome = schema(project, *(registry.url if argument == "REGISTRY" else argument for argument in arguments), code=code)
    assert all(text in outcome.err for text in texts), outcome
