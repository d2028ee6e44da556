"""Lists, structs and maps: read from rows, made by map, told apart from null, read back by others."""

import json
import random

import duckdb
import pytest
from language import D, World

ITEM = {"type": "record", "name": "item", "fields": [
    {"name": "sku", "type": ["null", "string"]},
    {"name": "qty", "type": ["null", "int"]},
    {"name": "price", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}]},
]}
COLUMNS = {
    "id": "long!", "n": "int", "s": "string",
    "items": ["null", {"type": "array", "items": ["null", ITEM]}],
    "attrs": ["null", {"type": "map", "values": ["null", "long"]}],
}
LINES = "list<struct<sku: string, qty: int32, price: decimal(10,2)>>"
BIG = 9223372036854775807


def world(project, columns, body, rows):
    return World(project, COLUMNS, f"""return stream "silver.x" {{ from = "bronze.row", columns = {{ {columns} }}, drop = {{ "items", "attrs" }},
  map = function(e, out)
    {body}
  end }}""", rows).run()


def test_map_makes_lists_structs_and_maps(project):
    made = world(project, 'l = "list<int64>", st = "struct<a: int64, w: list<string>>", m = "map<string, decimal(10,2)>"', """
    out.l = { e.id, e.n, 3 }
    out.st = { a = e.id, w = { "x", e.s } }
    out.m = { zz = 2.5, aa = e.n }""", [{"id": BIG, "n": 2, "s": "é"}])
    assert made.rows("silver.x", "l", "st", "m") == [([BIG, 2, 3], {"a": BIG, "w": ["x", "é"]}, [("aa", D("2.00")), ("zz", D("2.50"))])]


def test_null_empty_and_nested_nulls_stay_apart(project):
    made = world(project, f'l = "{LINES}", w = "list<list<int32>>", t = "struct<a: struct<b: int32>>"', """
    if e.n == 1 then out.l = {}; out.w = { {}, { n = 2 } }; out.t = {} end
    if e.n == 2 then out.l = { { }, n = 2 }; out.w = {}; out.t = { a = {} } end
    if e.n == 3 then out.l = nil; out.t = nil end
    if e.n == 4 then out.l = { { sku = "first" } }; out.l = { { sku = "last" } } end""",
                 [{"id": n, "n": n} for n in (1, 2, 3, 4)])
    nothing = {"sku": None, "qty": None, "price": None}
    assert made.rows("silver.x", "l", "w", "t") == [
        ([], [[], [None, None]], {"a": None}),
        ([nothing, None], [], {"a": {"b": None}}),
        (None, None, None),
        ([{**nothing, "sku": "last"}], None, None),
    ]


def test_a_struct_is_assigned_whole_and_what_is_in_it_too(project):
    columns = {"id": "long!", "item": ["null", ITEM]}
    rows = [{"id": 1, "item": {"sku": "a", "qty": 2, "price": None}}, {"id": 2, "item": {"sku": None, "qty": 3, "price": 1.5}}]
    made = World(project, columns, """return {
  stream "silver.x" { from = "bronze.row", columns = { whole = "struct<sku: string, qty: int32, price: decimal(10,2)>", n = "int64" },
    map = function(e, out) out.whole = e.item; out.n = e.item.qty + 1 end },
  stream "silver.y" { from = "bronze.row", columns = { whole = "struct<sku: string, qty: int32, price: decimal(10,2)>", q = "int32", n = "int64" },
    map = function(e, out) out.whole = e.item; out.q = e.item.qty; out.n = e.id + 1 end },
}""", rows).run()
    whole = [{"sku": "a", "qty": 2, "price": None}, {"sku": None, "qty": 3, "price": D("1.50")}]
    assert made.rows("silver.x", "whole", "n") == [(whole[0], 3), (whole[1], 4)]
    assert made.rows("silver.y", "whole", "q", "n") == [(whole[0], 2, 2), (whole[1], 3, 3)]


def test_values_of_the_input_are_assigned_whole(project):
    items = [{"sku": "a", "qty": 1, "price": 1.5}, None, {"sku": None, "qty": None, "price": None}]
    made = world(project, f'copy = "{LINES}", first = "struct<sku: string, qty: int32, price: decimal(10,2)>", m = "map<string, int64>"',
                 "out.copy = e.items; out.first = e.items and e.items[1]; out.m = e.attrs",
                 [{"id": 1, "items": items, "attrs": {"k": BIG, "a": None}}, {"id": 2, "items": [], "attrs": {}}, {"id": 3}])
    as_read = [{**item, "price": D("1.50") if item["price"] else None} if item else None for item in items]
    assert made.rows("silver.x", "copy", "first", "m") == [
        (as_read, as_read[0], [("k", BIG), ("a", None)]), ([], None, []), (None, None, None)]


def test_a_nested_column_may_be_assigned_in_place(project):
    rules = f"""return stream "silver.x" {{ from = "bronze.row", columns = {{ items = "{LINES}" }}, drop = {{ "attrs" }},
      map = function(e, out) if e.n == 1 then out.items = {{}} end end }}"""
    made = World(project, COLUMNS, rules, [{"id": n, "n": n, "items": [{"sku": "a", "qty": n, "price": "2.00"}]} for n in (1, 2)]).run()
    assert made.rows("silver.x", "items") == [[], [{"sku": "a", "qty": 2, "price": D("2.00")}]]


def test_nested_input_is_read_in_every_clause(project):
    rules = """return stream "silver.x" { from = "bronze.row", drop = { "items", "attrs" },
      where = function(e) return #e.items > 0 and e.items[1].sku ~= "skip" end,
      expectations = { expect "no line without a price" { function(e)
        for _, item in ipairs(e.items) do if item.price == nil then return false end end
        return true end } },
      columns = { total = "decimal(12,2)", third = "int32", k = "int64", none = "int64" },
      map = function(e, out)
        local total = decimal "0"
        for k = 1, #e.items do total = total + e.items[k].qty * e.items[k].price end
        out.total, out.third, out.k, out.none = total, e.items[3] and e.items[3].qty, e.attrs["k"], e.attrs["none"]
      end }"""
    line = {"sku": "a", "qty": 3, "price": "0.10"}
    made = World(project, COLUMNS, rules, [
        {"id": 1, "items": [line, line], "attrs": {"k": BIG}}, {"id": 2, "items": []}, {"id": 3, "items": [{**line, "sku": "skip"}]},
        {"id": 4, "items": [line, {**line, "price": None}]}, {"id": 5, "items": [line] * 3, "attrs": {}}]).run()
    assert made.rows("silver.x", "id", "total", "third", "k", "none") == [(1, D("0.60"), None, BIG, None), (5, D("0.90"), 3, None, None)]
    assert made.rejected("silver.x", "id") == [(4, ["no line without a price"])]


@pytest.mark.parametrize("columns, body, wanted", [
    (f'x = "{LINES}"', 'out.x = { {}, {}, { price = e.s } }', "x[3].price: expected decimal(10,2), got string"),
    (f'x = "{LINES}"', 'out.x = { { price = e.n * 100000000 } }', "x[1].price is decimal(10,2): 100000000 is outside its range"),
    (f'x = "{LINES}"', 'local t = {} t.skuu = 1 out.x = { t }', "x[1]: struct<sku: string, qty: int32, price: decimal(10,2)> has no field `skuu`"),
    (f'x = "{LINES}"', 'local t = {} t.sku = 1 out.x = t', "got a table with names"),
    (f'x = "{LINES}"', "out.x = e.attrs", f"x: expected {LINES}, got"),
    ('x = "list<int8>"', "out.x = { 1, 127 + e.n }", "x[2] is int8: 128 is outside its range"),
    ('x = "list<int64>"', "out.x = { e.n / 2 }", "x[1] is int64: 0.5 has a fraction"),
    ('x = "map<string, list<bool>>"', "out.x = { a = {}, k = { true, e.s } }", 'x["k"][2]: expected bool, got string'),
    ('x = "map<int32, string>"', "out.x = { [e.n] = e.s, [e.s] = e.s }", 'x["text"]: expected int32, got string'),
    ('x = "struct<a: struct<b: date>>"', "out.x = { a = { b = e.s } }", "x.a.b: expected date, got string"),
    ('x = "struct<a: string>"', 'out.x = { a = e.s .. "\\255" }', "x.a: the text is not valid UTF-8"),
    ('x = "list<string>"', "out.x = { 1, e.n }", None),
])
def test_what_does_not_fit_names_its_part_and_sends_the_row_to_quarantine(project, columns, body, wanted):
    if wanted is None:
        refused = World(project, COLUMNS, f'return stream "silver.x" {{ from = "bronze.row", columns = {{ {columns} }}, map = function(e, out) {body} end }}')
        outcome = refused.check()
        assert outcome.code == 1 and "column `x[1]` is list" not in outcome.err and "`x[1]` is string: it does not take a number" in outcome.out + outcome.err
        return
    made = world(project, columns, f"if e.n == 1 then {body} end",
                 [{"id": 1, "n": 0, "s": "text"}, {"id": 2, "n": 1, "s": "text", "attrs": {}}, {"id": 3, "n": 2, "s": "text"}])
    assert sorted(made.rows("silver.x", "id")) == [1, 3]
    assert made.rejected("silver.x", "id") == [(2, ["map"])]
    error = made.reasons("silver.x")[0]["error"]
    assert wanted in error and error.startswith("rules/r0.lua:3: "), error


def test_a_value_left_in_the_middle_leaves_no_trace(project):
    made = world(project, 'x = "list<struct<a: int64, b: int8>>"', """
    if e.n == 1 then pcall(function() out.x = { { a = 1, b = 1 }, { a = 2, b = 1000 } } end) end
    if e.n ~= 1 then out.x = { { a = e.id, b = 1 } } end""", [{"id": n, "n": n} for n in range(3)])
    assert made.rows("silver.x", "x") == [[{"a": 0, "b": 1}], None, [{"a": 2, "b": 1}]]


def test_many_rows_read_back_equal_by_three_readers(project):
    """Random nested values through a map that takes them apart and builds them anew, over several batches."""
    rng = random.Random(20)

    def maybe(make, odds=0.2):
        return None if rng.random() < odds else make()

    def item():
        return {"sku": maybe(lambda: "s" * rng.randrange(4)), "qty": maybe(lambda: rng.randrange(-9, 9)), "price": maybe(lambda: f"{rng.randrange(10**9) / 100:.2f}")}

    rows = [{"id": k, "items": maybe(lambda: [maybe(item) for _ in range(rng.randrange(5))]),
             "attrs": maybe(lambda: {rng.choice("abcdef"): maybe(lambda: rng.randrange(-2**63, 2**63)) for _ in range(rng.randrange(4))})}
            for k in range(9000)]
    made = world(project, f'copy = "{LINES}", m = "map<string, int64>", w = "list<list<int64>>"', """
    if e.items ~= nil then
      local l = { n = #e.items }
      for k = 1, #e.items do
        local item = e.items[k]
        if item ~= nil then l[k] = { sku = item.sku, qty = item.qty, price = item.price } end
      end
      out.copy = l
    end
    out.m = e.attrs
    if e.attrs ~= nil then out.w = { { e.attrs["a"], n = 1 }, {}, n = 3 } end""", rows)
    wanted = [(row["id"],
               row["items"] and [i and {**i, "price": D(i["price"]) if i["price"] else None} for i in row["items"]] if row["items"] != [] else [],
               row["attrs"], row["attrs"] if row["attrs"] is None else [[row["attrs"].get("a")], [], None]) for row in rows]
    read = [(i, copy, None if m is None else dict(m), w) for i, copy, m, w in made.rows("silver.x", "id", "copy", "m", "w")]
    assert read == wanted
    table = made.table("silver.x")
    with duckdb.connect() as db:
        db.register("t", table)
        files = str(project.root / "lake/silver/x/*.parquet")
        same = db.execute("""select count(*) from t join read_parquet($1) p using (id)
            where t.copy is not distinct from p.copy and t.w is not distinct from p.w and t.m::varchar is not distinct from p.m::varchar""", [files]).fetchone()
    assert same == (len(rows),), json.dumps(same)


BID = {"type": "record", "name": "bid", "fields": [
    {"name": "price", "type": ["null", "long"]}, {"name": "url", "type": ["null", "string"]},
    {"name": "at", "type": ["null", {"type": "record", "name": "place", "fields": [{"name": "city", "type": ["null", "string"]}]}]}]}


@pytest.mark.parametrize("sure", ["", "if true then {} end"], ids=["handed on", "assigned"])
def test_fields_that_are_only_handed_on_are_as_if_assigned(project, sure):
    """The same, whether the columns go by in C or the function runs: nulls, rows that throw, an input column of the same name."""
    def line(text):
        return sure.format(text) if sure else text

    rows = [
        {"id": 1, "n": 5, "s": "own", "bid": {"price": 10, "url": "u1", "at": {"city": "Rome"}}},
        {"id": 2, "n": 0, "s": None, "bid": {"price": None, "url": None, "at": {"city": None}}},
        {"id": 3, "n": 7, "s": "dropped", "bid": None},
        {"id": 4, "n": None, "s": "throws", "bid": {"price": 4, "url": "u4", "at": {"city": "Oslo"}}},
    ]
    columns = {"id": "long!", "n": "int", "s": "string", "bid": ["null", BID]}

    def rules(where):
        return [f"""return stream "silver.x" {{ from = "bronze.row", where = function(e) return {where} end,
  columns = {{ price = "int64", s = "string", city = "string" }}, drop = {{ "bid" }},
  map = function(e, out)
    local bid = e.bid
    {line("out.price, out.s = bid.price, bid.url")}
    {line("out.city = bid.at.city")}
  end }}""", f"""return stream "silver.y" {{ from = "bronze.row", where = function(e) return {where} end,
  columns = {{ price = "int64", s = "string", m = "int32" }}, drop = {{ "bid" }},
  map = function(e, out)
    local bid = e.bid
    {line("out.price, out.s = bid.price, bid.url")}
    out.m = e.n * 2
  end }}"""]

    made = World(project, columns, rules("e.id ~= 3"), rows).run()
    assert made.rows("silver.x", "id", "price", "s", "city") == [(1, 10, "u1", "Rome"), (2, None, None, None), (4, 4, "u4", "Oslo")]
    assert made.rows("silver.y", "id", "price", "s", "m") == [(1, 10, "u1", 10), (2, None, None, 0)]
    assert len(made.rows("quarantine.silver.y", "_offset")) == 1


@pytest.mark.parametrize("sure", ["", "if true then {} end"], ids=["handed on", "assigned"])
def test_a_field_of_a_null_struct_throws_all_the_same(project, sure):
    body = "out.price = e.bid.price"
    rule = f"""return stream "silver.x" {{ from = "bronze.row", columns = {{ price = "int64" }}, drop = {{ "bid" }},
  map = function(e, out) {sure.format(body) if sure else body} end }}"""
    bids = [{"price": 1, "url": "u", "at": None}, None, {"price": 3, "url": None, "at": None}]
    made = World(project, {"id": "long!", "bid": ["null", BID]}, rule, [{"id": i, "bid": bid} for i, bid in enumerate(bids)]).run()
    assert made.rows("silver.x", "id", "price") == [(0, 1), (2, 3)]
    assert len(made.rows("quarantine.silver.x", "_offset")) == 1
