"""Meanings of JSON in: numbers by exact value, absent and null, times, bytes, what goes to quarantine. One test a meaning."""

import datetime
import json
import pathlib

import pytest

from language import D, UTC, World, schema

PASS = 'return stream "silver.x" { from = "bronze.row" }'


def read(project, kind, *texts, columns=None):
    """JSON texts of a field `v`: those that decode, in order, as (index, value); the rest as reasons by index."""
    world = World(project, columns or {"id": "long!", "v": kind}, PASS, [f'{{"id":{index},"v":{text}}}' for index, text in enumerate(texts)]).run()
    rejected = {}
    if world.exists("quarantine.bronze.row"):
        for row in world.table("quarantine.bronze.row").to_pylist():
            rejected[json.loads(row["_raw"].decode("utf-8", "replace").split(",", 1)[0] + "}")["id"]] = row["_reasons"][0]["error"]
    return sorted(world.rows("silver.x", "id", "v")), rejected, world


def good(project, kind, *texts):
    found, rejected, _ = read(project, kind, *texts)
    assert rejected == {}
    return [value for _, value in found]


def bad(project, kind, *texts):
    found, rejected, _ = read(project, kind, *texts)
    assert found == []
    return [rejected[index] for index in range(len(texts))]


def test_numbers_are_judged_by_exact_value(project):
    assert good(project, "int!", "1.0", "1e3", "100e-2", "-0", "2147483647", "0.0") == [1, 1000, 1, 0, 2147483647, 0]


def test_a_number_outside_its_type_is_rejected_never_rounded(project):
    for reason in bad(project, "int!", "1.5", "2147483648", "1e10", "0.1e0", '"1"', "true"):
        assert reason.startswith("v: ")


def test_int64_may_be_digits_in_a_string(project):
    assert good(project, "long!", '"9223372036854775807"', "-9223372036854775808", '"-5"', "9007199254740993") == [
        9223372036854775807, -9223372036854775808, -5, 9007199254740993]


def test_int64_out_of_range_is_rejected(project):
    bad(project, "long!", "9223372036854775808", '"9223372036854775808"', '"x"', '""', "1.5")


def test_decimals_are_numbers_or_strings_and_trailing_zeros_fit(project):
    assert good(project, "decimal(12,2)!", "12.340", '"12.34"', "1e2", "0.10", "-0.01", "1234567890.12") == [
        D("12.34"), D("12.34"), D("100.00"), D("0.10"), D("-0.01"), D("1234567890.12")]


def test_decimals_that_do_not_fit_scale_or_digits_are_rejected(project):
    bad(project, "decimal(12,2)!", "12.345", '"12.345"', "12345678901.00", '"abc"', '"NaN"')


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", '"NaN"'])
def test_infinity_and_nan_are_rejected(project, text):
    bad(project, "double!", text)


def test_times_are_epoch_integers_or_iso_text_with_offset(project):
    noon = datetime.datetime(2026, 1, 5, 12, tzinfo=UTC)
    assert good(project, "timestamp!", str(int(noon.timestamp() * 1e6)), '"2026-01-05T12:00:00Z"', '"2026-01-05T13:00:00+01:00"', '"2026-01-05T12:00:00.000Z"') == [noon] * 4


def test_a_time_without_offset_is_rejected(project):
    bad(project, "timestamp!", '"2026-01-05T12:00:00"', '"yesterday"', '"2026-13-05T12:00:00Z"', "1.5")


def test_timestamp_millis_count_milliseconds(project):
    kind = {"type": "long", "logicalType": "timestamp-millis"}
    assert good(project, kind, "1767614400000") == [datetime.datetime(2026, 1, 5, 12, tzinfo=UTC)]


def test_bytes_are_base64(project):
    assert good(project, "bytes!", '"AAEC"', '""') == [b"\x00\x01\x02", b""]


def test_bytes_that_are_not_base64_are_rejected(project):
    bad(project, "bytes!", '"A"', '"*"')


def fields(*extra):
    return json.dumps({"type": "record", "name": "row", "fields": [{"name": "id", "type": "long"}, *extra]})


def test_an_absent_field_takes_its_default_and_an_explicit_null_is_not_absent(project):
    columns = fields({"name": "v", "type": ["int", "null"], "default": 7}, {"name": "w", "type": ["null", "string"], "default": None})
    world = World(project, columns, PASS, ['{"id":1}', '{"id":2,"v":null}', '{"id":3,"v":1,"w":"x"}']).run()
    assert sorted(world.rows("silver.x", "id", "v", "w")) == [(1, 7, None), (2, None, None), (3, 1, "x")]


def test_an_absent_nullable_field_without_default_is_null_and_a_required_one_is_rejected(project):
    columns = fields({"name": "v", "type": ["null", "int"]}, {"name": "w", "type": "int"})
    world = World(project, columns, PASS, ['{"id":1,"w":2}', '{"id":2,"v":1}', '{"id":3,"w":null}']).run()
    assert world.rows("silver.x", "id", "v", "w") == [(1, None, 2)]
    assert sorted(reason["error"].split(":")[0] for reason in world.reasons("bronze.row")) == ["w", "w"]


def test_a_default_that_does_not_fit_its_type_is_found_before_the_run(project):
    world = World(project, fields({"name": "v", "type": "int", "default": "seven"}), PASS)
    for outcome in (world.check(), project.weir("run", "pipelines/p.lua", "--until-end")):
        assert outcome.code == 1 and '"v"' in outcome.err and "default" in outcome.err, outcome


def test_a_key_twice_in_an_object_goes_to_quarantine(project):
    world = World(project, {"id": "long!", "v": "int"}, PASS, ['{"id":1,"v":1,"v":1}', '{"id":2,"v":1,"other":1,"other":2}', '{"id":3}']).run()
    assert world.rows("silver.x", "id") == [3] and world.counts("bronze.row")["rejected"] == {"decode": 2}


def test_a_leading_bom_and_blank_lines_are_skipped_uncounted(project):
    world = World(project, {"id": "long!"}, PASS)
    world.project.write("landing/a.jsonl", b"\xef\xbb\xbf" + b'{"id":1}\r\n\r\n   \n\n{"id":2}\n\t\n')
    world.run()
    assert sorted(world.rows("silver.x", "id")) == [1, 2] and world.summary["events"] == 2


def test_crlf_and_a_last_line_without_its_end(project):
    world = World(project, {"id": "long!"}, PASS)
    world.project.write("landing/a.jsonl", b'{"id":1}\r\n{"id":2}')
    world.run()
    assert sorted(world.rows("silver.x", "id")) == [1, 2]


def test_rescued_is_json_text_of_unknown_fields_and_null_when_nothing_was_unknown(project):
    world = World(project, {"id": "long!"}, 'return stream "silver.x" { from = "bronze.row", keep = { "id", "_rescued" } }',
                  ['{"id":1,"x":{"y":[1,2.50,null]},"é":"ü"}', '{"id":2}']).run()
    found = dict(world.rows("silver.x", "id", "_rescued"))
    assert json.loads(found[1]) == {"x": {"y": [1, 2.5, None]}, "é": "ü"} and found[2] is None
    assert "2.50" in found[1]


def test_what_does_not_decode_goes_to_the_sources_quarantine_as_the_whole_line(project):
    lines = [b'{"id":', b"nonsense", b'{"id":1} x', b'{"id":"\xff"}', b'["id"]', b'{"id":9}']
    world = World(project, {"id": "long!", "v": "int"}, PASS, lines).run()
    assert world.rows("silver.x", "id") == [9]
    table = world.table("quarantine.bronze.row")
    assert sorted(table.column("_raw").to_pylist()) == sorted(lines[:5])
    assert table.column_names[:2] == ["id", "v"] and table.column("id").to_pylist() == [None] * 5
    offsets = [sum(len(line) + 1 for line in lines[:index]) for index in range(5)]
    assert sorted(table.column("_offset").to_pylist()) == offsets
    assert {reason["expectation"] for reason in world.reasons("bronze.row")} == {"decode"} and all(reason["error"] for reason in world.reasons("bronze.row"))
    assert set(table.column("_topic").to_pylist()) == {"landing/a.jsonl"} and None not in table.column("_rejected_at").to_pylist()


def test_nested_values_are_judged_too(project):
    columns = json.loads(schema({"id": "long!"}))
    columns["fields"].append({"name": "v", "type": {"type": "array", "items": {"type": "record", "name": "l", "fields": [{"name": "q", "type": "int"}]}}})
    world = World(project, json.dumps(columns), PASS, ['{"id":1,"v":[{"q":1}]}', '{"id":2,"v":[{"q":1},{"q":"x"}]}', '{"id":3,"v":[{}]}']).run()
    assert world.rows("silver.x", "id") == [1]
    assert sorted(reason["error"].split(":")[0] for reason in world.reasons("bronze.row")) == ["v[0].q", "v[1].q"]


def test_gzip_and_zstd_files_read_like_plain_ones(project):
    import gzip
    import shutil
    import subprocess
    world = World(project, {"id": "long!"}, PASS, ['{"id":1}'])
    world.project.write("landing/b.jsonl.gz", gzip.compress(b'{"id":2}\n'))
    world.project.write("pipelines/p.lua", pathlib.Path(project.root / "pipelines/p.lua").read_text().replace("*.jsonl", "*"))
    wanted = [1, 2]
    if shutil.which("zstd"):
        world.project.write("landing/c.jsonl.zst", subprocess.run(["zstd", "-c"], input=b'{"id":3}\n', stdout=subprocess.PIPE, check=True).stdout)
        wanted.append(3)
    assert sorted(world.run().rows("silver.x", "id")) == wanted


def test_enum_symbols_and_fixed_sizes_are_kept(project):
    found, rejected, _ = read(project, None, '"A"', '"C"', columns=fields({"name": "v", "type": {"type": "enum", "name": "e", "symbols": ["A", "B"]}}))
    assert found == [(0, "A")] and list(rejected) == [1]


def test_files_are_read_in_order_of_their_names(project):
    rule = 'return stream "silver.x" { from = "bronze.row", time = { field = "at", out_of_order = "1h" }, dedup = { by = "id", within = "1h" } }'
    world = World(project, {"id": "long!", "v": "int", "at": "timestamp"}, rule, [])
    world.feed([{"id": 1, "v": 3, "at": "2026-01-05T10:00:00Z"}], "c.jsonl")
    world.feed([{"id": 1, "v": 1, "at": "2026-01-05T10:00:00Z"}], "a.jsonl")
    world.feed([{"id": 1, "v": 2, "at": "2026-01-05T10:00:00Z"}], "b.jsonl")
    assert world.run().rows("silver.x", "v") == [1]


ALIASED = json.dumps({"type": "record", "name": "row", "fields": [
    {"name": "sku_name", "aliases": ["SKU Name", "artikel"], "type": ["null", "string"], "default": None},
    {"name": "qty", "aliases": ["sku_name", "Menge"], "type": "int"},
    {"name": "place", "type": ["null", {"type": "record", "name": "place", "fields": [{"name": "town", "aliases": ["city"], "type": "string"}]}], "default": None}]})


def test_a_field_comes_by_its_name_or_an_alias(project):
    """A name goes before another field's alias; both in one object are the same key twice."""
    world = World(project, ALIASED, PASS, [
        {"sku_name": "a", "qty": 1, "place": {"town": "x"}}, {"SKU Name": "b", "Menge": 2, "place": {"city": "y"}}, {"Menge": 3, "artikel": "c"},
        {"SKU Name": "d", "qty": 4, "Menge": 4}, {"sku_name": "e", "artikel": "e", "qty": 5}, {"qty": 6, "sku name": "f"}]).run()
    assert sorted(world.rows("silver.x", "qty", "sku_name", "place")) == [(1, "a", {"town": "x"}), (2, "b", {"town": "y"}), (3, "c", None), (6, None, None)]
    assert [row["error"].split(",")[0] for row in world.reasons("bronze.row")] == ['the key "qty" comes twice', 'the key "sku_name" comes twice']


def test_a_csv_header_may_say_aliases(project):
    project.write("landing/a.csv", "Menge,SKU Name,else\n2,tea,x\n")
    world = World(project, ALIASED.replace(', {"name": "place"', ', {"name": "other"').replace('{"type": "record", "name": "place", "fields": [{"name": "town", "aliases": ["city"], "type": "string"}]}', '"string"'),
                  PASS)
    text = (project.root / "pipelines/p.lua").read_text()
    project.write("pipelines/p.lua", text.replace("*.jsonl", "*.csv").replace("json {", "csv {"))
    assert world.run().rows("silver.x", "sku_name", "qty") == [("tea", 2)]


def test_aliases_that_are_no_names_are_refused(project):
    world = World(project, ALIASED.replace('["city"]', '"city"'), PASS)
    outcome = world.check()
    assert outcome.code == 1 and '"aliases" is a list of names' in outcome.out + outcome.err
