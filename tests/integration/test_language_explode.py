"""explode: one row an element of a list."""

import json
import random

import duckdb
import pytest
from language import D, World, assert_refused, at, moment, place

LINE = {"type": "record", "name": "line", "fields": [
    {"name": "sku", "type": ["null", "string"]}, {"name": "qty", "type": ["null", "int"]},
    {"name": "price", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}]}]}
COLUMNS = {"id": "long!", "n": "int", "at": "timestamp", "lines": ["null", {"type": "array", "items": ["null", LINE]}], "tags": ["null", {"type": "array", "items": "string"}]}


def stream(body, explode='{ line = "lines" }', name="silver.x"):
    return f'return stream "{name}" {{ from = "bronze.row", explode = {explode}, {body} }}'


def line(sku, qty=1, price="1.50"):
    return {"sku": sku, "qty": qty, "price": price}


ROWS = [{"id": 1, "lines": [line("a"), None, line("c", 3)]}, {"id": 2, "lines": []}, {"id": 3}, {"id": 4, "lines": [line("d")]}]


def test_a_row_for_each_element_and_none_for_an_empty_list(project):
    world = World(project, COLUMNS, stream('columns = { sku = "string" }, map = function(e, out) out.sku = e.line and e.line.sku end'), ROWS).run()
    whole = {"sku": "a", "qty": 1, "price": D("1.50")}
    assert world.rows("silver.x", "id", "line", "sku") == [
        (1, whole, "a"), (1, None, None), (1, {**whole, "sku": "c", "qty": 3}, "c"), (4, {**whole, "sku": "d"}, "d")]
    assert world.table("silver.x").schema.names == ["id", "n", "at", "tags", "line", "sku"]
    counts = world.counts("silver.x")
    assert (counts["in"], counts["out"], counts["filtered"]) == (6, 4, 2)


def test_keep_empty_and_index(project):
    world = World(project, COLUMNS, stream('drop = { "line", "lines", "tags" }', '{ line = "lines", keep_empty = true, index = "line_no" }'), ROWS).run()
    assert world.rows("silver.x", "id", "line_no") == [(1, 1), (1, 2), (1, 3), (2, None), (3, None), (4, 1)]
    assert world.counts("silver.x")["in"] == world.counts("silver.x")["out"] == 6


def test_a_function_makes_the_list(project):
    explode = '{ part = function(e) if e.n == 0 then error("no parts", 0) end local l = {} for k = 1, e.n do l[k] = e.id * 10 + k end return l end, type = "int64" }'
    world = World(project, COLUMNS, stream("", explode), [{"id": 1, "n": 2}, {"id": 2, "n": 0}, {"id": 3, "n": 1, "lines": [line("x")]}]).run()
    assert world.rows("silver.x", "id", "part") == [(1, 11), (1, 12), (3, 31)]
    assert world.rows("silver.x", "lines")[2] == [{"sku": "x", "qty": 1, "price": D("1.50")}]  # the function leaves it alone
    assert world.rejected("silver.x", "id") == [(2, ["map"])] and world.reasons("silver.x")[0]["error"] == "no parts"


def test_where_sees_the_list_and_expectations_the_element(project):
    body = 'where = function(e) return e.n == 1 or #e.lines < 3 end, expectations = { expect "few" { function(e) return e.line.qty < 5 end } }, drop = { "line", "tags" }'
    world = World(project, COLUMNS, stream(body, '{ line = "lines", index = "k" }'), [
        {"id": 1, "n": 1, "lines": [line("a"), line("b", 9), line("c")]}, {"id": 2, "lines": [line("a")] * 3}, {"id": 3}, {"id": 4, "lines": [line("z", 7)]}]).run()
    assert world.rows("silver.x", "id", "k") == [(1, 1), (1, 3)]
    rejected = {(row["id"], row["k"]): row for row in world.table("quarantine.silver.x").to_pylist()}
    assert set(rejected) == {(1, 2), (4, 1), (3, None)}
    assert rejected[1, 2]["line"]["qty"] == 9 and rejected[1, 2]["lines"] is None
    assert [reason["expectation"] for reason in rejected[3, None]["_reasons"]] == ["where"]  # #nil throws; the row as it entered
    counts = world.counts("silver.x")
    assert counts["in"] == counts["out"] + counts["filtered"] + counts["quarantined"] == 6
    source = (project.root / "landing/a.jsonl").read_bytes()
    for row in rejected.values():
        assert json.loads(source[row["_offset"]:].split(b"\n")[0])["id"] == row["id"]


def test_dedup_by_element_and_a_corrected_resend(project):
    body = 'time = { field = "at" }, dedup = { by = { "id", "k" }, within = "1h" }, ensures = { expect "qty" { between("qty", 1, 5) } }, ' \
        'columns = { qty = "int32" }, map = function(e, out) out.qty = e.line.qty end, drop = { "line", "tags" }'
    rows = [{"id": 1, "at": at("10:00:00"), "lines": [line("a"), line("b", 9)]}, {"id": 1, "at": at("10:00:01"), "lines": [line("a", 2), line("b", 3)]},
            {"id": 1, "at": at("10:00:02"), "lines": [line("a"), line("b"), line("c")]}]
    world = World(project, COLUMNS, stream(body, '{ line = "lines", index = "k" }'), rows).run()
    assert world.rows("silver.x", "id", "k", "qty") == [(1, 1, 1), (1, 2, 3), (1, 3, 1)]
    assert world.counts("silver.x")["duplicates"] == 3 and world.rejected("silver.x", "k") == [(2, ["qty"])]


def test_elements_keep_the_time_and_the_lateness_of_their_row(project):
    """Lists longer than a batch: no window closes between the elements of one row, and a late row's elements are all late."""
    many = 9000
    rules = [stream('time = { field = "at", out_of_order = "10s" }, columns = { qty = "int32" }, map = function(e, out) out.qty = e.line.qty end, drop = { "line", "tags" }'),
             """return model "gold.m" { from = "silver.x", by = { "n" }, window = tumbling { size = "1m", late = "quarantine.late" },
                measures = { rows = count(), qty = sum "qty" } }"""]
    rows = [{"id": 1, "n": 1, "at": at("10:00:30"), "lines": [line("a")] * many},
            {"id": 2, "n": 1, "at": at("10:01:10"), "lines": [line("a")] * many},  # watermark 10:01:00 after it: the first minute is over
            {"id": 3, "n": 1, "at": at("10:00:59"), "lines": [line("late")] * 3},
            {"id": 4, "n": 1, "at": at("10:01:00"), "lines": [line("b", 2)] * 3}]
    world = World(project, COLUMNS, rules, rows).run()
    got = sorted(world.rows("gold.m", "window_start", "rows", "qty"))
    assert got == [(moment("10:00:00"), many, many), (moment("10:01:00"), many + 3, many + 6)]
    assert world.counts("gold.m")["late"] == 3 and sorted(world.rows("quarantine.late", "id")) == [3] * 3


def test_a_long_random_run_equals_unnest(project):
    rng = random.Random(7)
    rows = [{"id": k, "lines": None if rng.random() < 0.1 else [None if rng.random() < 0.1 else line(rng.choice("abc"), rng.randrange(9), f"{rng.randrange(10**6) / 100:.2f}")
                                                                for _ in range(rng.choice([0, 1, 2, 3, 40]))]} for k in range(6000)]
    body = 'expectations = { expect "qty" { function(e) return e.line == nil or e.line.qty > 0 end } }, columns = { sku = "string", amount = "decimal(12,2)" },' \
        'map = function(e, out) if e.line ~= nil then out.sku = e.line.sku; out.amount = e.line.qty * e.line.price end end, drop = { "line", "tags" }'
    world = World(project, COLUMNS, stream(body, '{ line = "lines", index = "k", keep_empty = true }'), rows).run()
    with duckdb.connect() as db:
        db.execute("create table rows as select * from read_json($1, columns = {id: 'bigint', lines: 'struct(sku varchar, qty int, price decimal(10,2))[]'})",
                   [str(project.root / "landing/a.jsonl")])
        wanted = db.execute("""select id, k::int, line.sku, (line.qty * line.price)::decimal(12,2) from (
            select id, unnest(lines) as line, generate_subscripts(lines, 1) as k from rows where len(lines) > 0
            union all select id, null, null from rows where lines is null or len(lines) = 0) where line is null or line.qty > 0""").fetchall()
    key = repr
    assert sorted(world.rows("silver.x", "id", "k", "sku", "amount"), key=key) == sorted(wanted, key=key)
    assert world.counts("silver.x")["quarantined"] == sum(1 for row in rows for each in row["lines"] or [] if each and each["qty"] == 0)


def test_replay_agrees(project):
    rows = [{"id": k, "lines": [line("a", k % 4)] * (k % 50)} for k in range(1000)]
    body = 'expectations = { expect "qty" { function(e) return e.line.qty > 0 end } }'
    World(project, COLUMNS, stream(body), rows, options=' ledger = { keep = "1h" },').run()
    outcome = project.weir("replay", "pipelines/p.lua", "--epoch", "1")
    assert outcome.code == 0, outcome


REFUSED = [
    ('{ line = "n" }', '"n"', "`n` is int32: only a list has elements"),
    ('{ line = "linse" }', '"linse"', "did you mean `lines`?"),
    ('{ n = "lines" }', 'n = "lines"', "has a column `n` already"),
    ('{ lines = "lines" }', 'lines = "lines"', "has a column `lines` already"),
    ('{ a = "lines", b = "tags" }', 'b = "tags"', "one list"),
    ('{ index = "k" }', '{ index', "names the column that takes the element"),
    ('{ line = "lines", index = "n" }', '"n"', "there is a column `n` already"),
    ('{ line = "lines", keep_empty = 1 }', "1 }", "keep_empty takes true or false"),
    ('{ line = function(e) return {} end }', "function(e)", "say which `line` has"),
    ('{ line = function(e) return {} end, type = "int31" }', '"int31', "no type is called `int31`"),
    ('{ line = function(e) return e.linse end, type = "int32" }', "linse", "did you mean `lines`?"),
    ('"lines"', '"lines"', "explode takes"),
]


@pytest.mark.parametrize("explode, marked, text", REFUSED)
def test_a_wrong_explode_is_refused_with_its_place(project, explode, marked, text):
    rule = stream("", explode)
    assert_refused(World(project, COLUMNS, rule), place(rule, marked), text)


@pytest.mark.parametrize("body, marked", [
    ('map = function(e, out) out.n = #e.lines end', "lines end"), ('keep = { "lines" }', '"lines" }'),
    ('expectations = { expect "x" { not_null "lines" } }', '"lines" } }'),
])
def test_the_list_is_gone_after_it_was_taken_apart(project, body, marked):
    rule = stream(body)
    text = rule[rule.index(body):]
    where = rule.index(body) + text.index(marked)
    assert_refused(World(project, COLUMNS, rule), f"rules/r0.lua:1:{where + 1}", "`lines` was taken apart by explode", "line")
