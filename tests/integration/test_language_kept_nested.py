"""Rows that are kept for a while keep their lists, structs and maps: those that wait for their time, wait for others to join, or stand in a ranking."""

import json

import pytest

from language import World, at

ITEM = {"type": "record", "name": "item", "fields": [{"name": "sku", "type": ["null", "string"]}, {"name": "qty", "type": "long"},
                                                     {"name": "tags", "type": {"type": "array", "items": ["null", "string"]}}]}
SCHEMA = json.dumps({"type": "record", "name": "row", "fields": [
    {"name": "side", "type": "string"}, {"name": "k", "type": "string"}, {"name": "n", "type": "long"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "items", "type": ["null", {"type": "array", "items": ["null", ITEM]}]},
    {"name": "home", "type": ["null", {"type": "record", "name": "home", "fields": [{"name": "city", "type": ["null", "string"]}, {"name": "x", "type": "double"}]}]},
    {"name": "attrs", "type": ["null", {"type": "map", "values": ["null", "long"]}]}]})
ITEMS = [{"sku": "tea", "qty": 2, "tags": ["a", None, ""]}, None, {"sku": None, "qty": -1, "tags": []}]
VALUES = [(ITEMS, {"city": None, "x": -0.0}, {"a": 1, "b": None}), (None, None, None), ([], {"city": "Łódź", "x": 0.1}, {}), (ITEMS[:1] * 40, None, {str(i): i for i in range(50)})]
NESTED = 'items = "list<struct<sku: string, qty: int64, tags: list<string>>>", home = "struct<city: string, x: double>", attrs = "map<string, int64>"'
SIDES = ('return { stream "silver.left" { from = "bronze.row", where = function(e) return e.side == "l" end, time = { field = "at", out_of_order = "1m" }, into = none },\n'
         '  stream "silver.right" { from = "bronze.row", where = function(e) return e.side == "r" end, key = "k", time = { field = "at", out_of_order = "1m" }, into = none } }')


def rows(side, minute=0, seconds=0):
    return [{"side": side, "k": f"k{n}", "n": n, "at": at(f"10:{minute:02}:{n * 2 + seconds:02}"), "items": items, "home": home, "attrs": attrs}
            for n, (items, home, attrs) in enumerate(VALUES)]


def plain(value):
    """As pyarrow tells of them: a map is a list of pairs."""
    return value if value is None else sorted(value.items())


def expected(order=range(len(VALUES))):
    return [(VALUES[n][0], VALUES[n][1], plain(VALUES[n][2])) for n in order]


def found(world, name, key="n", columns=("items", "home", "attrs")):
    table = sorted(world.table(name).to_pylist(), key=lambda row: row[key])
    return [tuple(sorted(row[c]) if c.endswith("attrs") and row[c] is not None else row[c] for c in columns) for row in table]


def same(got, wanted):
    assert got == wanted
    assert repr(got[0][1]["x"]) == "-0.0"


def test_rows_that_wait_for_their_time(project):
    """In order of event time, half of them across a restart."""
    rule = ('return { stream "silver.row" { from = "bronze.row", time = { field = "at", out_of_order = "1m" }, into = none },\n'
            ' rule "r" { on = "silver.row", key = "k", emits = { ["gold.out"] = { n = "int64", lines = "int32", sku = "string", city = "string", b = "int64" } },\n'
            '  process = function(e, s, p, emit)\n'
            '    emit("gold.out", { n = e.n, lines = e.items and #e.items, sku = e.items and e.items[1] and e.items[1].sku, city = e.home and e.home.city, b = e.attrs and e.attrs["7"] })\n'
            '  end } }')
    world = World(project, SCHEMA, rule, list(reversed(rows("l"))))
    world.run()
    assert sorted(world.rows("gold.out", "n", "lines", "sku", "city", "b")) == [(0, 3, "tea", None, None), (1, None, None, None, None), (2, 0, None, "Łódź", None),
                                                                             (3, 40, "tea", None, 7)]


def test_whole_rows_in_a_ranking(project):
    rule = 'return model "gold.newest" { from = "bronze.row", time = { field = "at" }, top = { n = 1, by = "-at", per = "k" } }'
    world = World(project, SCHEMA, rule, [*rows("l"), *rows("l", minute=5)]).run()
    same(found(world, "gold.newest"), expected())


JOINS = {
    "interval": 'interval_join "silver.right" { on = "k", between = { "-1m", "1m" }, kind = "left" }',
    "window": 'window_join "silver.right" { on = "k", window = tumbling "1m", kind = "left" }',
    "temporal": 'temporal_join "silver.right" { on = "k", kind = "left" }',
    "regular": 'regular_join "silver.right" { on = "k", ttl = none, kind = "left" }',
}


@pytest.mark.parametrize("kind", sorted(JOINS))
def test_both_rows_of_a_join(project, kind):
    rule = (f'return stream "silver.both" {{ from = "silver.left", join = {{ other = {JOINS[kind]} }}, '
            'columns = { other_items = "list<struct<sku: string, qty: int64, tags: list<string>>>", city = "string", first = "string" },\n'
            '  map = function(e, out, j)\n    if j.other then out.city = j.other.home and j.other.home.city end\n'
            '    out.first = e.items and e.items[1] and e.items[1].sku\n  end, into = delta { mode = "append" } }')
    if kind == "regular":
        rule = rule.replace("into = delta", 'key = "n", into = delta').replace('"append"', '"merge"')
    rule = rule.replace('other_items = "list<struct<sku: string, qty: int64, tags: list<string>>>", ', "")
    right = [dict(row, n=100 + row["n"]) for row in rows("r")]
    world = World(project, SCHEMA, [SIDES, rule], [*right, *rows("l", seconds=1)]).run()
    same(found(world, "silver.both"), expected())
    cities = [row["city"] for row in sorted(world.table("silver.both").to_pylist(), key=lambda row: row["n"])]
    assert cities == [None, None, "Łódź", None]
