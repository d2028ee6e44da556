"""Rows that certainly throw on a null are told from the validity bitmaps and never reach Lua (runtime/pipeline/graph/nulls.c).
Inside `if true then … end` the same code is beyond what is proven, so every row runs: both must agree in every row, reason and text."""

import random

import pytest

from conftest import Project
from language import World, at

COLUMNS = {"id": "long!", "qty": "int", "price": "decimal(10,2)", "discount": "decimal(10,2)", "gross": "decimal(12,2)",
           "ratio": "double", "k": "long", "big": "decimal(30,4)", "s": "string", "at": "timestamp"}

PREDICATES = [
    "return e.gross == e.qty * e.price - e.discount",
    "return e.k * e.qty > 0",  # may overflow
    "return (e.ratio * 2 + e.qty) / e.ratio < 100",
    "return e.s .. 'x' ~= e.s",
    "return #e.s + e.qty > 1",
    "return e.s:upper() ~= 'A'",
    "return -e.price < e.discount and e.k > e.qty",
    "local x = e.qty * e.price return x - e.discount + x * e.big * e.big * e.big > e.gross",  # may pass 38 digits
    "return e.k + e.k >= e.qty",
    "local q, e = e.qty, { price = 1 } return q * e.price > 1",
    "return round(e.gross - e.discount, 1) > e.price",
    "return e.k < 9 or e.qty > 1",
    "return (e.ratio - e.qty) * e.ratio > e.ratio / e.qty",
    "return e.k == e.gross and e.gross <= e.price",
]
MAPS = [
    "out.net = e.gross - e.discount",
    "out.note = e.s .. '!' out.net = e.price - e.discount out.last = e.qty - e.k",
    "out.narrow = e.price * e.qty out.net = e.gross - e.discount",  # may be outside its range
    "local d = e.discount out.note = 'n' out.note = d + e.qty > 4 and e.s or nil out.net = -d",
    "out.note = e.s out.net = e.gross out.copy = e.qty out.double = e.qty * 2 out.last = e.k - e.discount",
]


def rows(count):
    rng = random.Random(5)
    made = []
    for index in range(count):
        row = {
            "qty": rng.choice([1, 2, 3, -2147483648, 2147483647]), "price": rng.choice([1.25, 99999999.99, 0, 3]),
            "discount": rng.choice([0.25, 99999999.99, -1]), "gross": rng.choice([1.0, 2.25, 9999999999.99]),
            "ratio": rng.choice([0.5, 0, 1e300]), "k": rng.choice([0, 5, 9223372036854775807, -9223372036854775808]),
            "big": rng.choice([1, 99999999999999999]), "s": rng.choice(["a", "b", ""]),
        }
        made.append({"id": index, **{name: None if rng.random() < 0.1 else value for name, value in row.items()}, "at": at("10:00:00")})
    return made


def outcome(project, rule):
    world = World(project, COLUMNS, rule, rows(3000)).run()
    tables = {}
    for name in ("silver.x", "quarantine.silver.x"):
        kept = world.table(name).to_pylist() if world.exists(name) else []
        kept = [{key: value for key, value in row.items() if not key.startswith("_") or key == "_reasons"} for row in kept]
        tables[name] = sorted(kept, key=lambda row: row["id"])  # a slow run has several epochs, and files in no order
    return world.counts("silver.x")["rejected"], tables


def both(project, rule):
    short = outcome(Project(project.binary, project.root / "short"), rule("%s"))
    whole = outcome(Project(project.binary, project.root / "whole"), rule("if true then %s end"))
    assert short[0] == whole[0]
    for name, kept in short[1].items():
        assert kept == whole[1][name], name
    return short


def test_expectations_agree_with_running_every_row(project):
    def rule(form):
        lines = "\n".join(f'expect "x{i}" {{ function(e) {form % text} end }},' for i, text in enumerate(PREDICATES))
        return f'return stream "silver.x" {{ from = "bronze.row", expectations = {{\n{lines}\n}} }}'

    rejected, tables = both(project, rule)
    assert len(rejected) == len(PREDICATES)
    texts = {reason["error"] for row in tables["quarantine.silver.x"] for reason in row["_reasons"]}
    assert any(text and "null" in text for text in texts)


@pytest.mark.parametrize("text", MAPS)
def test_maps_agree_with_running_every_row(project, text):
    def rule(form):
        return (f'return stream "silver.x" {{ from = "bronze.row", map = function(e, out) {form % text} end, columns = {{ net = "decimal(13,2)", '
                'note = "string", narrow = "decimal(10,2)", copy = "int32", double = "double", last = "decimal(38,2)" }')

    rejected, tables = both(project, lambda form: rule(form) + " }")
    assert rejected["map"] > 0 and tables["silver.x"]


def test_where_agrees_with_running_every_row(project):
    def rule(form):
        keep = form % "return e.qty * e.price > e.discount"
        return (f'return stream "silver.x" {{ from = "bronze.row", time = {{ field = "at" }}, where = function(e) {keep} end }}')

    rejected, _ = both(project, rule)
    assert rejected["where"] > 0
