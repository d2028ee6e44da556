"""`decision`: tables with hit policies. Python recounts what random tables say of random rows, and tries every row of a small world
for what the check claims of overlaps, gaps and rows never reached."""

import itertools
import random
import re

import pytest

from language import D, World, assert_refused, at, place

COLUMNS = {"id": "long!", "age": "int", "channel": "string", "amount": "decimal(12,2)", "big": "long", "rate": "double", "vip": "bool", "at": "timestamp",
           "day": "date", "long_amount": "decimal(38,4)", "share": "float", "instant": "timestamp_ns"}

RETURNS = ('return decision "silver.verdict" { from = "bronze.row", hit = "first", columns = { verdict = "string" },\n'
           '  { age = "<= 28", verdict = "accept" },\n  { age = "<= 90", channel = "store", verdict = "voucher" },\n  { verdict = "refuse" } }\n')


def table(rows, hit="first", columns='verdict = "int32"', more="", name="silver.verdict"):
    return f'return decision "{name}" {{ from = "bronze.row", hit = "{hit}", columns = {{ {columns} }}, {more}\n  ' + ",\n  ".join(rows) + " }\n"


def verdicts(project, rule, rows, column="verdict"):
    world = World(project, COLUMNS, rule, [{"id": index, **row} for index, row in enumerate(rows)]).run()
    return [value for _, value in sorted(world.rows("silver.verdict", "id", column))]


# --- what cells mean ----------------------------------------------------------------------------


def test_the_first_row_that_takes_it_gives_the_verdict(project):
    rows = [{"age": 28, "channel": "web"}, {"age": 29, "channel": "store"}, {"age": 29, "channel": "web"}, {"age": 91, "channel": "store"}, {"channel": "store"}]
    assert verdicts(project, RETURNS, rows) == ["accept", "voucher", "refuse", "refuse", "refuse"]


def of_each(project, tables, rows, columns=None):
    """The verdicts of many tables over the same rows, in one run."""
    rules = [table(list(each), columns=columns[index] if columns else 'verdict = "int32"', name=f"silver.t{index}") for index, each in enumerate(tables)]
    world = World(project, COLUMNS, rules, [{"id": index, **row} for index, row in enumerate(rows)]).run()
    return [[value for _, value in sorted(world.rows(f"silver.t{index}", "id", "verdict"))] for index in range(len(rules))]


AGES = [-1, 27, 28, 29, 90, None]
NUMBERS = {
    'age = 28': [28], 'age = "28"': [28], 'age = "= 28"': [28], 'age = "~= 28"': [-1, 27, 29, 90], 'age = "!= 28"': [-1, 27, 29, 90],
    'age = "< 28"': [-1, 27], 'age = "<= 28"': [-1, 27, 28], 'age = "> 28"': [29, 90], 'age = ">=28"': [28, 29, 90],
    'age = "27..29"': [27, 28, 29], 'age = "[27..29)"': [27, 28], 'age = "(27..29]"': [28, 29], 'age = "(27..29)"': [28], 'age = "-1..27"': [-1, 27],
    'age = { 27, "> 28" }': [27, 29, 90], 'age = none': [None], 'age = "not null"': [-1, 27, 28, 29, 90], 'age = { none, 90 }': [90, None],
    'age = "-"': AGES, 'age = -1': [-1],
}
TEXTS = ["store", "", "web", "none", "> 3", "-", None]
WORDS = {
    '"store"': ["store"], '{ "store", "" }': ["store", ""], '"~= store"': ["", "web", "none", "> 3", "-"], "none": [None], '{ "> 3", "-" }': ["> 3", "-"],
    '"-"': TEXTS,
}


def test_a_cell_says_which_numbers(project):
    found = of_each(project, [(f"{{ {cell}, verdict = 1 }}", "{ verdict = 0 }") for cell in NUMBERS], [{"age": age} for age in AGES])
    assert {cell: [age for age, verdict in zip(AGES, each) if verdict == 1] for cell, each in zip(NUMBERS, found)} == NUMBERS


def test_a_cell_says_which_texts(project):
    found = of_each(project, [(f"{{ channel = {cell}, verdict = 1 }}", "{ verdict = 0 }") for cell in WORDS], [{"channel": text} for text in TEXTS])
    assert {cell: [text for text, verdict in zip(TEXTS, each) if verdict == 1] for cell, each in zip(WORDS, found)} == WORDS


TYPED = [
    ('amount = "<= 10.05"', {"amount": "10.05"}, {"amount": "10.06"}),
    ('amount = decimal "10.05"', {"amount": "10.05"}, {"amount": "10.04"}),
    ('big = "9007199254740993"', {"big": 9007199254740993}, {"big": 9007199254740992}),
    ('big = ">= -9223372036854775808"', {"big": -9223372036854775808}, {"big": None}),
    ('big = 0', {"big": 0}, {"big": None}),
    ('rate = "> 0.5"', {"rate": 0.75}, {"rate": 0.5}),
    ('share = 0.1', {"share": 0.1}, {"share": 0.2}), ('share = "<= 0.1"', {"share": 0.1}, {"share": 0.11}),
    ('instant = "2026-01-05T10:00:00.123456789Z"', {"instant": at("10:00:00.123456789")}, {"instant": at("10:00:00.123456788")}),
    ('vip = true', {"vip": True}, {"vip": None}), ('vip = false', {"vip": False}, {"vip": None}), ('vip = none', {"vip": None}, {"vip": False}),
    ('at = "< 2026-01-05T10:00:00Z"', {"at": at("09:59:59")}, {"at": at("10:00:00")}),
    ('at = "2026-01-05T10:00:00Z..2026-01-05T11:00:00Z"', {"at": at("11:00:00")}, {"at": at("11:00:01")}),
    ('day = "> 2026-01-05"', {"day": 20459}, {"day": 20458}),
    ('long_amount = "<= 123456789012345678901234.5678"', {"long_amount": "123456789012345678901234.5678"}, {"long_amount": "123456789012345678901234.5679"}),
]


def test_every_type_compares_exactly(project):
    rows = [row for _, yes, no in TYPED for row in (yes, no)]
    found = of_each(project, [(f"{{ {cell}, verdict = 1 }}", "{ verdict = 0 }") for cell, _, _ in TYPED], rows)
    assert {cell: each[2 * index:2 * index + 2] for index, ((cell, _, _), each) in enumerate(zip(TYPED, found))} == {cell: [1, 0] for cell, _, _ in TYPED}


VERDICTS = [
    ("string", '"a\\"b"', 'a"b'), ("int32", "-7", -7), ("int64", '"9007199254740993"', 9007199254740993), ("decimal(12,2)", '"1.50"', D("1.50")),
    ("double", "0.1", 0.1), ("bool", "false", False), ("string", "none", None), ("decimal(12,2)", "function(e) return e.amount * 0.5 end", D("5.00")),
]


def test_a_verdict_is_a_literal_of_its_column_or_a_function(project):
    found = of_each(project, [(f"{{ verdict = {literal} }}",) for _, literal, _ in VERDICTS], [{"amount": "10.00"}],
                    [f'verdict = "{kind}"' for kind, _, _ in VERDICTS])
    assert found == [[wanted] for _, _, wanted in VERDICTS]


def test_a_row_no_row_takes_has_no_verdict(project):
    assert verdicts(project, table(['{ age = "> 3", verdict = 1 }']), [{"age": 4}, {"age": 3}, {"age": None}]) == [1, None, None]


def test_a_decision_has_what_a_stream_has(project):
    rule = table(["{ verdict = 1 }"], more='where = function(e) return e.age > 1 end, expectations = { expect "channel" { not_null "channel" } }, '
                 'drop = { "amount" }, key = "id", into = delta { mode = "merge" },')
    world = World(project, COLUMNS, rule, [{"id": 1, "age": 1}, {"id": 2, "age": 2}, {"id": 3, "age": 3, "channel": "web"}]).run()
    assert world.rows("silver.verdict", "id", "verdict") == [(3, 1)]
    assert world.rejected("silver.verdict", "id") == [(2, ["channel"])]
    assert "amount" not in world.table("silver.verdict").column_names


def test_a_verdict_that_throws_goes_to_quarantine(project):
    rule = table(['{ age = 1, verdict = function(e) return e.big * e.big end }', "{ verdict = 0 }"], columns='verdict = "int64"')
    world = World(project, COLUMNS, rule, [{"id": 1, "age": 1, "big": 2**62}, {"id": 2, "age": 2, "big": 3}]).run()
    assert world.rows("silver.verdict", "id", "verdict") == [(2, 0)]
    assert world.rejected("silver.verdict", "id") == [(1, ["map"])]


def test_explain_shows_the_table(project):
    world = World(project, COLUMNS, RETURNS)
    told = world.project.weir("explain", "silver.verdict").out
    assert "decision silver.verdict" in told and "hit          first" in told
    assert "row 2        age <= 90, channel = store -> verdict = voucher" in told and "row 3        any -> verdict = refuse" in told
    assert "if v1 and v1 <= (28) then -- row 1" in world.project.weir("explain", "silver.verdict", "--code").out


# --- policies, recounted ------------------------------------------------------------------------


def drawn_condition(draw):
    """Text of a cell and its meaning."""
    a, b = sorted((draw.randrange(7), draw.randrange(7)))
    return draw.choice([
        (f"age = {a}", lambda row: row["age"] == a),
        (f'age = "<= {a}"', lambda row: row["age"] is not None and row["age"] <= a),
        (f'age = "> {a}"', lambda row: row["age"] is not None and row["age"] > a),
        (f'age = "~= {a}"', lambda row: row["age"] is not None and row["age"] != a),
        (f'age = "{a}..{b}"', lambda row: row["age"] is not None and a <= row["age"] <= b),
        (f'age = {{ none, "[{a}..{b + 1})" }}', lambda row: row["age"] is None or a <= row["age"] <= b),
    ])


def drawn_row(draw):
    cells, meanings = [], []
    if draw.random() < 0.7:
        text, meaning = drawn_condition(draw)
        cells.append(text)
        meanings.append(meaning)
    if draw.random() < 0.5:
        channels = draw.sample(["web", "store", "app"], draw.randint(1, 2))
        cells.append("channel = { " + ", ".join(f'"{each}"' for each in channels) + " }")
        meanings.append(lambda row: row["channel"] in channels)
    if draw.random() < 0.4:
        bound = f"{draw.randrange(300) / 100:.2f}"
        cells.append(f'amount = ">= {bound}"')
        meanings.append(lambda row: row["amount"] is not None and D(row["amount"]) >= D(bound))
    if draw.random() < 0.2:
        vip = draw.random() < 0.5
        cells.append(f"vip = {str(vip).lower()}")
        meanings.append(lambda row: row["vip"] is vip)
    verdict = draw.randrange(5)
    return cells, (lambda row: all(meaning(row) for meaning in meanings)), verdict


def drawn_inputs(draw, count):
    return [{"age": draw.choice([None, *range(8)]), "channel": draw.choice([None, "web", "store", "app", "fax"]),
             "amount": draw.choice([None, f"{draw.randrange(320) / 100:.2f}"]), "vip": draw.choice([None, True, False])} for _ in range(count)]


PRIORITY = [3, 1, 0, 2, 4]
POLICIES = {
    "first": ("int32", lambda taken: taken[0] if taken else None),
    "priority": ("int32", lambda taken: min(taken, key=PRIORITY.index) if taken else None),
    "collect": ("list<int32>", lambda taken: taken),
    "sum": ("int64", lambda taken: sum(taken) if taken else None),
    "min": ("int32", lambda taken: min(taken, default=None)),
    "max": ("int32", lambda taken: max(taken, default=None)),
    "count": ("int32", len),
}


def test_a_random_table_says_what_python_says(project):
    draw = random.Random("policies")
    inputs, rules, wanted = drawn_inputs(draw, 4000), [], []
    for hit, (kind, meaning) in POLICIES.items():
        rows = [drawn_row(draw) for _ in range(14)]
        texts = ["{ " + ", ".join(cells + ([] if hit == "count" else [f"verdict = {verdict}"])) + " }" for cells, _, verdict in rows]
        more = f"priority = {{ {', '.join(map(str, PRIORITY))} }}," if hit == "priority" else ""
        rules.append(table(texts, hit, f'verdict = "{kind}"', more, f"silver.{hit}"))
        wanted.append([meaning([verdict for _, takes, verdict in rows if takes(row)]) for row in inputs])
    world = World(project, COLUMNS, rules, [{"id": index, **row} for index, row in enumerate(inputs)]).run()
    for hit, verdict in zip(POLICIES, wanted):
        assert [value for _, value in sorted(world.rows(f"silver.{hit}", "id", "verdict"))] == verdict, hit


# --- what the check proves ----------------------------------------------------------------------


EVERY = [{"age": age, "channel": channel, "amount": None, "vip": vip}
         for age, channel, vip in itertools.product([None, *range(-1, 9)], [None, "web", "store", "app", "fax"], [None, True, False])]


def test_overlaps_gaps_and_rows_never_reached_are_those_there_are(project):
    """60 random tables, each judged by trying every row of a world that has a value of each kind."""
    draw = random.Random("proofs")
    drawn = []
    while len(drawn) < 60:
        rows = [row for row in (drawn_row(draw) for _ in range(12)) if not any("amount" in cell for cell in row[0])][:draw.randint(2, 7)]
        drawn.append((draw.choice(["first", "unique", "any"]), rows))
    rules = [table(["{ " + ", ".join([*cells, f"verdict = {verdict}"]) + " }" for cells, _, verdict in rows], hit, name=f"silver.t{index}")
             for index, (hit, rows) in enumerate(drawn)]
    told = World(project, COLUMNS, rules).check()
    text = told.out + told.err
    kinds = {"overlap": 0, "gap": 0, "unreached": 0}
    for index, (hit, rows) in enumerate(drawn):
        takers = [[number for number, (_, takes, _) in enumerate(rows, 1) if takes(row)] for row in EVERY]
        gap = any(not taken for taken in takers)
        kinds["gap"] += gap
        assert (f'no row of decision "silver.t{index}" takes' in text) == gap, (index, text)
        never, clash = set(), set()
        if hit == "first":
            never = set(range(1, len(rows) + 1)) - {taken[0] for taken in takers if taken}
        else:
            pairs = {pair for taken in takers for pair in itertools.combinations(taken, 2)}
            clash = {b for a, b in pairs if hit == "unique" or rows[a - 1][2] != rows[b - 1][2]}
        kinds["unreached"] += len(never)
        kinds["overlap"] += len(clash)
        file = rf"rules/r{index}\.lua:(\d+):\d+"
        assert {int(line) - 1 for line in re.findall(file + ": lint: row [0-9]+ is never reached", text)} == never, (index, text)
        assert {int(line) - 1 for line in re.findall(file + r": error: row [0-9]+ \(line [0-9]+\) and row", text)} == clash, (index, text)
    assert min(kinds.values()) > 5, kinds


def test_an_overlap_names_both_rows_and_an_example(project):
    rule = table(['{ age = "<= 28", verdict = 1 }', '{ age = ">= 28", channel = "web", verdict = 2 }'], "unique")
    assert_refused(World(project, COLUMNS, rule), place(rule, '{ age = ">= 28"'), "row 1 (line 2) and row 2 (line 3) both take: age = 28, channel = \"web\"",
                   'hit = "first"')


def test_rows_that_agree_may_both_take_it_under_any(project):
    rows = ['{ age = "<= 28", verdict = 1 }', '{ age = ">= 28", verdict = 1 }', "{ age = none, verdict = 0 }"]
    assert World(project, COLUMNS, table(rows, "any")).check().code == 0
    assert World(project, COLUMNS, table(rows, "unique")).check().code == 1


def test_whole_numbers_and_decimals_have_neighbours(project):
    whole = table(['{ age = "<= 28", verdict = 1 }', '{ age = ">= 29", verdict = 2 }', "{ age = none, verdict = 0 }"], "unique")
    assert "no row" not in (told := World(project, COLUMNS, whole).check()).out + told.err
    split = table(['{ amount = "<= 1.00", verdict = 1 }', '{ amount = ">= 1.02", verdict = 2 }', "{ amount = none, verdict = 0 }"], "unique")
    told = World(project, COLUMNS, split).check()
    assert "takes: 1.00 < amount < 1.02" in told.out + told.err


def test_a_decimal_is_the_same_however_many_places_it_is_written_with(project):
    rows = ['{ age = "<= 28", price = "1.5" }', '{ age = ">= 28", price = "1.50" }', '{ age = none, price = "1" }']
    columns = 'price = "decimal(12,2)"'
    assert World(project, COLUMNS, table(rows, "any", columns)).check().code == 0
    assert World(project, COLUMNS, table(rows, "priority", columns, 'priority = { "1.50", "1.00" },')).check().code == 0


def test_a_table_never_asked_about_null_says_so(project):
    told = World(project, COLUMNS, table(['{ vip = true, verdict = 1 }', '{ vip = false, verdict = 2 }'])).check()
    assert told.code == 0 and "takes: vip null" in told.out + told.err


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("rule, marked, text", [
    (table(["{ ages = 1, verdict = 1 }"]), "ages", "did you mean `age`?"),
    (table(["{ age = 1, verdikt = 1 }"]), "verdikt", "did you mean `verdict`?"),
    (table(['{ age = "old", verdict = 1 }']), '"old"', "write the number without quotes"),
    (table(['{ channel = "> web", verdict = 1 }']), '"> web"', "only numbers and times have `>`"),
    (table(['{ age = "9..3", verdict = 1 }']), '"9..3"', "nothing lies between 9 and 3"),
    (table(["{ age = 1 }"]), "{ age = 1 }", "row 1 gives no verdict"),
    (table(["{ verdict = 1.5 }"]), "1.5", "write a whole number"),
    (table(["{ verdict = 1 }"], hit="fist"), "\"fist\"", "did you mean `first`?"),
    (table(["{ age = function(e) return true end, verdict = 1 }"]), "function(e)", "is not a function"),
    (table(["{ verdict = 1 }"], columns='age = "int32"'), "age", "`age` is a column of bronze.row"),
    (table(["{ verdict = 1 }"], hit="collect"), "verdict = \"int32\"", "list<int32>"),
    (table(["{ verdict = 1 }"], hit="priority"), "decision", "priority = { … }"),
    (table(["{ verdict = 1 }"], hit="priority", more="priority = { 2, 3 },"), "{ verdict = 1 }", "does not say where row 1's `verdict` stands"),
    (table(["{ verdict = 1 }"], more="map = function(e, out) end,"), "map", "has no option `map`"),
    (table(["{ verdict = function(e) return e.agee end }"]), "agee", "did you mean `age`?"),
    (table(["{ v1 = 1 }"], hit="sum", columns=", ".join(f'v{index} = "int64"' for index in range(101))), "decision", "gives up to 100"),
])
def test_what_is_wrong_with_a_table_is_shown_where_it_stands(project, rule, marked, text):
    assert_refused(World(project, COLUMNS, rule), place(rule, marked), text)


def test_a_decision_without_rows_is_refused(project):
    rule = 'return decision "silver.verdict" { from = "bronze.row", columns = { verdict = "string" } }\n'
    assert_refused(World(project, COLUMNS, rule), place(rule, "decision"), "has no rows")
