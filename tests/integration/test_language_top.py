"""`top` of models: the first n rows of each group. One test a meaning; DuckDB and Python recount."""

import random

import pytest

from language import D, World, at, moment

COLUMNS = {"id": "long!", "auction": "int", "price": "decimal(12,2)", "name": "string", "at": "timestamp"}


def data(*rows):
    return [{"id": index, "auction": auction, "price": price, "name": name, "at": at(time)} for index, (auction, price, name, time) in enumerate(rows)]


def drawn(count, seed=3, auctions=7):
    draw = random.Random(seed)
    rows, clock = [], 36000.0
    for _ in range(count):
        clock += draw.choice([0, 0.5, 1, 3])
        seconds = max(0.0, clock - draw.choice([0, 0, 2, 4]))
        text = f"{int(seconds) // 3600:02}:{int(seconds) % 3600 // 60:02}:{seconds % 60:09.6f}"
        price = None if draw.random() < 0.05 else f"{draw.randrange(3000) / 100:.2f}"
        rows.append((draw.randrange(auctions), price, draw.choice([None, "", "a", "b\0c", "long enough not to fit"]), text))
    return rows


def top(more, window="", name="gold.m", fields='n = 3, by = { "-price", "at" }, per = { "auction" }', time="5s"):
    return (f'return model "{name}" {{ from = "bronze.row", time = {{ field = "at", out_of_order = "{time}" }}, {window} '
            f'top = {{ {fields} }}, {more} }}')


def ranked(rows, n, ties="first"):
    """The rows (with their place) first by price descending, then time, then arrival; nulls last."""
    ordered = sorted(enumerate(rows), key=lambda item: (item[1][1] is None, -D(item[1][1] or 0), item[1][3], item[0]))
    kept, places = [], {}
    for index, (position, row) in enumerate(ordered):
        places.setdefault((row[1], row[3]), index + 1)
        if ties == "all" and places[(row[1], row[3])] <= n:
            kept.append((position, places[(row[1], row[3])]))
        elif ties != "all" and index < n:
            kept.append((position, index + 1))
    return kept


def by_auction(rows):
    groups = {}
    for index, row in enumerate(rows):
        groups.setdefault(row[0], []).append((index, row))
    return groups


def expected(rows, n, ties="first"):
    found = []
    for auction, members in by_auction(rows).items():
        for position, rank in ranked([row for _, row in members], n, ties):
            index, row = members[position]
            found.append((auction, index, D(row[1]) if row[1] else None, row[2], rank))
    return found


@pytest.mark.parametrize("every", ["100ms", "1s"])
def test_without_a_window_the_first_rows_are_kept_true(project, every):
    rows = drawn(6000, auctions=200)
    rule = top("", fields='n = 3, by = { "-price", "at" }, per = { "auction" }, rank = "rank"')
    world = World(project, COLUMNS, rule, data(*rows), options=f' commit = {{ every = "{every}" }},').run()
    assert sorted(world.rows("gold.m", "auction", "id", "price", "name", "rank"), key=str) == sorted(expected(rows, 3), key=str)
    assert world.table("gold.m").column_names == ["id", "auction", "price", "name", "at", "rank"]


def test_the_first_of_each_group_needs_no_rank(project):
    rows = drawn(3000)
    world = World(project, COLUMNS, top("", fields='n = 1, by = { "-price", "at" }, per = { "auction" }'), data(*rows)).run()
    found = world.rows("gold.m", "auction", "id", "price", "name")
    assert sorted(found, key=str) == sorted((row[:4] for row in expected(rows, 1)), key=str)


def test_it_goes_on_over_a_restart(project):
    rows = drawn(900)
    rule = top("", fields='n = 3, by = { "-price", "at" }, per = { "auction" }, rank = "rank"')
    world = World(project, COLUMNS, rule, data(*rows)[:450]).run()
    world.feed(data(*rows)[450:], "b.jsonl")
    world.run()
    assert sorted(world.rows("gold.m", "auction", "id", "price", "name", "rank"), key=str) == sorted(expected(rows, 3), key=str)


def test_readers_of_a_top_take_back_what_fell_out(project):
    rows = drawn(2500)
    rules = [top("into = none", fields='n = 5, by = { "-price", "at" }, per = { "auction" }'),
             'return model "gold.n" { from = "gold.m", by = { "auction" }, measures = { rows = count(), total = sum "price", least = min "price" } }']
    world = World(project, COLUMNS, rules, data(*rows), options=' commit = { every = "100ms" },').run()
    wanted = {}
    for auction, _, price, _, _ in expected(rows, 5):
        wanted.setdefault(auction, []).append(price)
    assert sorted(world.rows("gold.n", "auction", "rows", "total", "least")) == sorted(
        (auction, len(prices), sum(price for price in prices if price), min(price for price in prices if price)) for auction, prices in wanted.items())


@pytest.mark.parametrize("ties", ["first", "all"])
def test_a_window_ranks_its_rows_when_it_is_over(project, ties):
    rows = drawn(2000)
    rule = top("", 'window = tumbling { size = "1m", late = "quarantine.late" },',
               fields=f'n = 2, by = {{ "-price", "at" }}, per = {{ "auction" }}, ties = "{ties}", rank = "rank"')
    world = World(project, COLUMNS, rule, data(*rows)).run()
    late = set(world.rows("quarantine.late", "id"))
    windows = {}
    for index, row in enumerate(rows):
        if index not in late:
            windows.setdefault(row[3][:5], []).append((index, row))
    wanted = []
    for minute, members in windows.items():
        indices = [index for index, _ in members]
        wanted += [(moment(f"{minute}:00"), auction, indices[position], rank)
                   for auction, position, _, _, rank in expected([row for _, row in members], 2, ties)]
    found = world.rows("gold.m", "window_start", "auction", "id", "rank")
    assert sorted((str(row[0])[:19], *row[1:]) for row in found) == sorted((str(row[0])[:19], *row[1:]) for row in wanted)


@pytest.mark.parametrize("window, size, step", [('tumbling "1m"', 60, 60), ('hopping { size = "2m", every = "30s" }', 120, 30)])
def test_a_top_over_measures_ranks_the_groups_of_each_window(project, window, size, step):
    rows = drawn(1500)
    rule = (f'return model "gold.m" {{ from = "bronze.row", time = {{ field = "at", out_of_order = "5s" }}, by = {{ "auction" }}, window = {window}, '
            'measures = { n = count() }, derive = { { twice = function(m) return m.n * 2 end, type = "int64" } }, '
            'top = { n = 1, by = "-twice", ties = "all", rank = "place", per = { "window_start" } } }')
    world = World(project, COLUMNS, rule, data(*rows)).run()
    counted = {}
    for auction, _, _, text in rows:
        us = int((moment(text) - moment("00:00:00")).total_seconds() * 1_000_000)
        start = us // (step * 1_000_000) * step * 1_000_000
        while start > us - size * 1_000_000:
            counted.setdefault(start, {}).setdefault(auction, []).append(1)
            start -= step * 1_000_000
    late = world.counts("gold.m")["late"]
    found = world.rows("gold.m", "window_start", "auction", "n", "twice", "place")
    assert late == 0 and all(twice == 2 * n and place == 1 for _, _, n, twice, place in found)
    wanted = [(start, auction, len(ones)) for start, groups in counted.items() for auction, ones in groups.items()
              if len(ones) == max(map(len, groups.values()))]
    midnight = moment("00:00:00")
    assert sorted(((start - midnight).total_seconds() * 1_000_000, auction, n) for start, auction, n, _, _ in found) == sorted(wanted)


def test_tops_of_cumulate_windows_merge_by_where_they_end(project):
    """They share their start: a table that merges by it would keep the last of them alone."""
    rows = drawn(800)
    rule = ('return model "gold.m" { from = "bronze.row", time = { field = "at", out_of_order = "5s" }, by = { "auction" }, '
            'window = cumulate { size = "5m", step = "1m" }, measures = { n = count() }, top = { n = 1, by = { "-n", "auction" }, rank = "place" }, '
            'tests = { unique { "auction", "window_end" } }, into = delta { mode = "merge" } }')
    world = World(project, COLUMNS, rule, data(*rows)).run()
    counted = {}
    for auction, _, _, text in rows:
        minute = int(text[:2]) * 60 + int(text[3:5])
        for end in range(minute + 1, minute // 5 * 5 + 6):
            counts = counted.setdefault(end, {})
            counts[auction] = counts.get(auction, 0) + 1
    wanted = [(end, *min((-n, auction) for auction, n in counts.items())) for end, counts in counted.items()]
    found = [(end.hour * 60 + end.minute, -n, auction) for end, n, auction in world.rows("gold.m", "window_end", "n", "auction")]
    assert sorted(found) == sorted(wanted)


def test_unique_of_cumulate_windows_needs_their_end(project):
    rule = ('return model "gold.m" { from = "bronze.row", time = { field = "at" }, by = { "auction" }, window = cumulate { size = "5m", step = "1m" }, '
            'measures = { n = count() }, tests = { unique { "auction", "window_start" } } }')
    outcome = World(project, COLUMNS, rule).check()
    assert outcome.code == 1 and "unique without `window_end`" in outcome.out + outcome.err, outcome


def test_ties_last_keeps_the_last_to_come(project):
    rows = [(1, "2.00", "a", "10:00:00"), (1, "2.00", "b", "10:00:00"), (1, "2.00", "c", "09:59:59"), (1, "1.00", "d", "10:00:01")]
    found = {}
    for ties in ("first", "last"):
        rule = top("", name=f"gold.{ties}", fields=f'n = 1, by = "-price", per = {{ "auction" }}, ties = "{ties}"')
        found[ties] = World(project, COLUMNS, rule, data(*rows))
    project.write("rules/r1.lua", top("", name="gold.first", fields='n = 1, by = "-price", per = { "auction" }'))
    world = found["last"].run()
    assert world.rows("gold.last", "name") == ["b"] and world.rows("gold.first", "name") == ["c"]


@pytest.mark.parametrize("fields, more, text", [
    ('by = "price"', "", "how many rows"), ("n = 1", "", "ordered"), ('n = 1, by = "-nope"', "", "nope"), ('n = 2000, by = "price"', "", "1 to 1000"),
    ('n = 1, by = "price", ties = "some"', "", "no ties"), ('n = 1, by = "price", rank = "name"', "", "already"),
    ('n = 2, by = "price"', "", "which are the same"), ('n = 1, by = "price"', 'by = { "auction" }', "top = { per"),
])
def test_a_top_that_cannot_be_is_refused(project, fields, more, text):
    outcome = World(project, COLUMNS, top(more, fields=fields)).check()
    assert outcome.code == 1 and text in outcome.out + outcome.err, outcome
