"""`pattern`: sequences of a key's rows in order of event time. Python finds the matches of random patterns by trying every way to take rows;
the examples of the language page and of Flink's CEP stand beside it."""

import datetime
import random
import signal
import time

import pytest

from language import World, assert_refused, at, place

COLUMNS = {"id": "int!", "card": "string!", "kind": "string", "n": "int!", "at": "timestamp!"}
START = datetime.datetime(2026, 1, 5, 10, tzinfo=datetime.timezone.utc)


def rows_of(text, card="c", gap=1):
    """One row a letter, a second apart; `.` is a second without."""
    return [{"id": index, "card": card, "kind": letter, "n": index, "at": (START + datetime.timedelta(seconds=index * gap)).isoformat().replace("+00:00", "Z")}
            for index, letter in enumerate(text) if letter != "."]


def where(letters):
    return "where = function(e) return " + " or ".join(f'e.kind == "{letter}"' for letter in letters) + " end"


def pattern(steps, more="", name="p", within='within = "1m",'):
    """Emits which rows each step took: "a 0 1|b 4"."""
    names = [step.split('"')[1] for step in steps if "absent = true" not in step]
    body = "".join(f'    if #m.{step} > 0 then path = path .. (path ~= "" and "|" or "") .. "{step}" end\n'
                   f'    for _, r in ipairs(m.{step}) do path = path .. " " .. r.id end\n' for step in names)
    return (f'return pattern "match.{name}" {{ on = "bronze.row", key = "card", time = {{ field = "at", out_of_order = "20s" }}, {within} {more}\n'
            f'  emits = {{ ["gold.{name}"] = {{ card = "string", path = "string", started = "timestamp", ended = "timestamp" }} }},\n'
            f'  sequence = {{ {", ".join(steps)} }},\n  emit = function(m, p, emit)\n    local path = ""\n{body}'
            f'    emit("gold.{name}", {{ card = m.key, path = path, started = m.started, ended = m.ended }})\n  end }}\n')


def paths(world, name="p"):
    return sorted(world.rows(f"gold.{name}", "path"))


def taken(project, text, *steps, **more):
    return paths(World(project, COLUMNS, pattern(steps, **more), rows_of(text)).run())


A, B, C, D = (f'step("{letter}", {{ {where(letter)} }})' for letter in "abcd")


def step(name, quantity="", more="", letters=None):
    return f'step("{name}", {quantity}{", " if quantity else ""}{{ {where(letters or name)}{", " if more else ""}{more} }})'


# --- the language page, and what Flink's users expect --------------------------------------------


def test_a_sequence_of_the_language_page(project):
    """Three small payments, then a large one, within ten minutes."""
    rule = ('return pattern "fraud.probe" { on = "silver.card_auth", key = "card_id", within = "10m", emits = { ["gold.fraud_alert"] = { card_id = "string" } },\n'
            '  sequence = { step("probe", 3, { where = function(e) return e.amount < 2 end }), step("spend", { where = function(e) return e.amount > 200 end }) } }\n')
    stream = 'return stream "silver.card_auth" { from = "bronze.row", time = { field = "at", out_of_order = "20s" }, into = none }'
    rows = [("c1", "1.00", "10:00:00"), ("c1", "1.10", "10:01:00"), ("c1", "50.00", "10:02:00"), ("c1", "1.20", "10:03:00"), ("c1", "500.00", "10:09:59"),
            ("c2", "1.00", "10:00:00"), ("c2", "1.10", "10:01:00"), ("c2", "1.20", "10:03:00"), ("c2", "500.00", "10:10:00"), ("c3", "500.00", "10:11:00")]
    data = [{"card_id": card, "amount": amount, "at": at(moment)} for card, amount, moment in sorted(rows, key=lambda row: row[2])]
    world = World(project, {"card_id": "string", "amount": "decimal(12,2)", "at": "timestamp"}, [stream, rule], data).run()
    assert world.rows("gold.fraud_alert", "card_id") == ["c1"]


@pytest.mark.parametrize("text, steps, more, wanted", [
    ("axb", [A, B], {}, ["a 0|b 2"]),
    ("axb", [A, step("b", more='contiguity = "strict"')], {}, []),
    ("ab", [A, step("b", more='contiguity = "strict"')], {}, ["a 0|b 1"]),
    ("abb", [A, step("b", more='contiguity = "any"')], {"more": 'skip = "none",'}, ["a 0|b 1", "a 0|b 2"]),
    ("aab", [step("a", '"+"'), B], {}, ["a 0 1|b 2"]),
    ("aab", [step("a", '"+"'), B], {"more": 'skip = "none",'}, ["a 0 1|b 2", "a 1|b 2"]),
    ("aabab", [A, B], {"more": 'skip = "next",'}, ["a 0|b 2", "a 1|b 2", "a 3|b 4"]),
    ("aabab", [A, B], {}, ["a 0|b 2", "a 3|b 4"]),
    ("acb", [A, step("c", '"?"'), B], {}, ["a 0|c 1|b 2"]),
    ("ab", [A, step("c", '"?"'), B], {}, ["a 0|b 1"]),
    ("axcb", [A, step("c", more="absent = true"), B], {}, []),
    ("axxb", [A, step("c", more="absent = true"), B], {}, ["a 0|b 3"]),
    ("acb", [A, step("c", more='absent = true, contiguity = "strict"'), B], {}, []),
    ("axcb", [A, step("c", more='absent = true, contiguity = "strict"'), B], {}, ["a 0|b 3"]),
    ("aaxa", [step("a", 3, "consecutive = true")], {}, []),
    ("xaaa", [step("a", 3, "consecutive = true")], {}, ["a 1 2 3"]),
    ("aaaaa", [step("a", '"2..3"')], {"more": 'skip = "none",'}, ["a 0 1", "a 0 1 2", "a 1 2", "a 1 2 3", "a 2 3", "a 2 3 4", "a 3 4"]),
    ("aabb", [step("a", '"+"'), step("b", 2)], {"more": 'skip = { to_last = "a" },'}, ["a 0 1|b 2 3", "a 1|b 2 3"]),
    ("ababb", [A, B], {"more": 'skip = { to_first = "b" },'}, ["a 0|b 1", "a 2|b 3"]),
    ("abc", [A, 'step "any"', C], {}, ["a 0|any 1|c 2"]),
])
def test_a_sequence_takes_these_rows(project, text, steps, more, wanted):
    assert taken(project, text, *steps, **more) == wanted


def test_what_does_not_come_in_time_is_a_match_when_its_time_is_over(project):
    steps = [A, step("b", more="absent = true")]
    world = World(project, COLUMNS, pattern(steps, within='within = "10s",'), [*rows_of("a", "c1"), *rows_of("a...b", "c2"), *rows_of("a.........b", "c3"),
                                                                            *rows_of("a..a", "c4")]).run()
    assert sorted(world.rows("gold.p", "card", "path", "ended")) == [(card, path, START + datetime.timedelta(seconds=ended)) for card, path, ended in
                                                                     [("c1", "a 0", 10), ("c3", "a 0", 10), ("c4", "a 0", 10), ("c4", "a 3", 13)]]


def test_a_condition_sees_what_was_taken(project):
    steps = [A, 'step("up", "+", { where = function(e, m, p) return e.n > (#m.up > 0 and m.up.n or m.a.n) + p.by end })', C]
    rows = rows_of("axxxxc")
    for row, n in zip(rows, [5, 6, 7, 4, 9, 0]):
        row["n"] = n
    world = World(project, COLUMNS, pattern(steps, more="params = { by = 1 },"), rows).run()
    assert paths(world) == ["a 0|up 2 4|c 5"]


def test_a_truth_value_that_is_false_is_no_null(project):
    columns = {**COLUMNS, "vip": "bool"}
    rows = [{**row, "vip": False} for row in rows_of("ab")]
    rule = ('return pattern "match.p" { on = "bronze.row", key = "card", time = { field = "at", out_of_order = "20s" }, within = "1m",\n'
            '  emits = { ["gold.p"] = { card = "string", vip = "bool" } },\n'
            f'  sequence = {{ {A}, step("b", {{ where = function(e, m) return e.kind == "b" and m.a.vip == false end }}) }} }}\n')
    assert World(project, columns, rule, rows).run().rows("gold.p", "card", "vip") == [("c", False)]


def test_without_emit_columns_come_by_name(project):
    rule = ('return pattern "match.p" { on = "bronze.row", key = "card", time = { field = "at", out_of_order = "20s" }, within = "1m",\n'
            '  emits = { ["gold.p"] = { card = "string", id = "int64", n = "int32", started = "timestamp", ended = "timestamp" } },\n'
            f'  sequence = {{ {A}, {B} }} }}\n')
    world = World(project, COLUMNS, rule, rows_of("a..b")).run()
    assert world.rows("gold.p", "card", "id", "n", "started", "ended") == [("c", 3, 3, START, START + datetime.timedelta(seconds=3))]


def test_a_row_whose_condition_throws_leaves_no_trace(project):
    steps = [A, 'step("b", { where = function(e) if e.n == 1 then error("no") end return e.kind == "b" end })']
    world = World(project, COLUMNS, pattern(steps), rows_of("abb")).run()
    assert paths(world) == ["a 0|b 2"]
    assert world.rejected("match.p", "id") == [(1, ["process"])]


def test_too_many_partial_matches_are_refused_by_the_row(project):
    world = World(project, COLUMNS, pattern([A, B], within='within = "1d",'), rows_of("a" * 1010 + "b")).run()
    assert paths(world) == ["a 0|b 1010"] and len(world.reasons("match.p")) == 10, world.reasons("match.p")[-1]
    assert {row["error"] for row in world.reasons("match.p")} == {"more than 1000 partial matches of a key; say within, or a narrower first step"}


# --- random patterns ----------------------------------------------------------------------------

QUANTITIES = {"": (1, 1), "2": (2, 2), '"2..3"': (2, 3), '"+"': (1, 99), '"*"': (0, 99), '"?"': (0, 1), '"2+"': (2, 99)}


def drawn_steps(draw):
    count = draw.randint(2, 4)
    steps = []
    for index in range(count):
        quantity = draw.choice(["", "", "", "2", '"2..3"', '"+"', '"*"', '"?"', '"2+"'])
        low, high = QUANTITIES[quantity]
        steps.append({"name": f"s{index}", "letters": draw.choice(["a", "b", "c", "ab", "bc", "abcd"]), "quantity": quantity, "min": low, "max": high,
                      "contiguity": draw.choice(["relaxed", "relaxed", "strict", "any"]) if index else "relaxed", "absent": False,
                      "consecutive": high > 1 and draw.random() < 0.3, "grows": index > 0 and draw.random() < 0.2})
    for index in range(1, count + 1):
        beside = steps[index - 1:index + 1]
        if draw.random() < 0.3 and all(each["min"] > 0 and not each["absent"] for each in beside):
            steps.insert(index, {"name": f"not{index}", "letters": draw.choice(["c", "d"]), "quantity": "", "min": 1, "max": 1, "absent": True, "grows": False,
                                 "contiguity": draw.choice(["relaxed", "strict"]), "consecutive": False})
            break
    if all(each["min"] == 0 for each in steps):
        return drawn_steps(draw)
    return steps


def text_of(each):
    options = [f'contiguity = "{each["contiguity"]}"'] if each["contiguity"] != "relaxed" else []
    options += ["absent = true"] if each["absent"] else []
    options += ["consecutive = true"] if each["consecutive"] else []
    condition = " or ".join(f'e.kind == "{letter}"' for letter in each["letters"])
    if each["grows"]: # than the row of the first step taken last
        condition = f"({condition}) and (#m.s0 == 0 or e.n >= m.s0.n)"
    options.append(f'where = function(e{", m" if each["grows"] else ""}) return {condition} end')
    return f'step("{each["name"]}", {each["quantity"]}{", " if each["quantity"] else ""}{{ {", ".join(options)} }})'


class Model:
    """Every way to take rows: what a run may do with a row is asked of the row, the way so far and the steps, by recursion over the rows."""

    def __init__(self, steps, within, skip, rows):
        self.steps, self.within, self.skip, self.rows = steps, within, skip, rows
        self.places = [each for each in steps if not each["absent"]]
        self.guards = {}
        for index, each in enumerate(steps):
            if each["absent"]:
                self.guards.setdefault(sum(not other["absent"] for other in steps[:index]) - 1, []).append(each)
        self.tail = steps[-1]["absent"]
        self.complete = []

    def fits(self, each, row, path):
        if row["kind"] not in each["letters"]:
            return False
        firsts = [self.rows[index]["n"] for index, place_of in path if self.places[place_of]["name"] == "s0"]
        return not each["grows"] or not firsts or row["n"] >= firsts[-1]

    def reachable(self, place_of):
        for index in range(place_of + 1, len(self.places)):
            yield index
            if self.places[index]["min"] > 0:
                return

    def is_complete(self, place_of, count):
        return count >= self.places[place_of]["min"] and all(self.places[index]["min"] == 0 for index in range(place_of + 1, len(self.places)))

    def go(self, index, path, place_of, count, gap):
        """The rows from `index` on, after `path`."""
        begin = self.rows[path[0][0]]["moment"]
        while index < len(self.rows) and self.rows[index]["moment"] - begin < self.within:
            row, here = self.rows[index], self.places[place_of]
            if count >= here["min"]:
                for guard in self.guards.get(place_of, []):
                    if not (guard["contiguity"] == "strict" and gap) and self.fits(guard, row, path):
                        return
            ways, stays = [], False
            if count < here["max"] and not (here["consecutive"] and gap) and self.fits(here, row, path):
                ways.append((place_of, count + 1))
            if count >= here["min"]:
                for other in self.reachable(place_of):
                    each = self.places[other]
                    if not (each["contiguity"] == "strict" and gap) and self.fits(each, row, path):
                        ways.append((other, 1))
                        stays = stays or each["contiguity"] == "any"
            for other, times in ways:
                self.take(index, [*path, (index, other)], other, times)
            if ways and not stays:
                return
            gap = True
            index += 1
        if self.tail and self.is_complete(place_of, count):
            self.complete.append((begin + self.within, path))

    def take(self, index, path, place_of, count):
        if not self.tail and self.is_complete(place_of, count):
            self.complete.append((self.rows[index]["moment"], path))
        self.go(index + 1, path, place_of, count, False)

    def resumes(self, path):
        how, name = self.skip
        if how == "none":
            return -1
        if how in ("past_last", "next"):
            return path[-1 if how == "past_last" else 0][0] + 1
        found = [index for index, place_of in path if self.places[place_of]["name"] == name]
        return -1 if not found else found[0] if how == "to_first" else found[-1]

    def text(self, path):
        parts = []
        for place_of, each in enumerate(self.places):
            ids = [str(self.rows[index]["id"]) for index, of in path if of == place_of]
            if ids:
                parts.append(" ".join([each["name"], *ids]))
        return "|".join(parts)

    def matches(self):
        for index, row in enumerate(self.rows):
            for place_of in self.reachable(-1):
                if self.fits(self.places[place_of], row, []):
                    self.take(index, [(index, place_of)], place_of, 1)
        # In order of when they are known: at a row, or after the rows before that moment.
        known = sorted(self.complete, key=lambda found: (found[0] if self.tail else found[1][-1][0], found[1][0][0], -len(found[1]),
                                                        [i for i, _ in found[1]], [of for _, of in found[1]]))
        resumes, out = -1, []
        for _, path in known:
            if path[0][0] >= resumes:
                resumes = max(resumes, self.resumes(path))
                out.append(self.text(path))
        return out


def drawn_rows(draw, count, cards):
    rows, clock = [], 0
    for index in range(count):
        clock += draw.choice([0, 100, 300])
        rows.append({"id": index, "card": f"c{draw.randrange(cards)}", "kind": draw.choice("aabbcd"), "n": draw.randrange(10), "moment": clock})
    return [rows[i] for i in sorted(range(count), key=lambda i: rows[i]["moment"] + draw.randrange(19_000))]


def as_lines(rows):
    return [{**{name: value for name, value in row.items() if name != "moment"},
             "at": (START + datetime.timedelta(milliseconds=row["moment"])).isoformat().replace("+00:00", "Z")} for row in rows]


def by_card(rows):
    cards = {}
    for row in sorted(rows, key=lambda row: row["moment"]): # stable: equal times in order of arrival
        cards.setdefault(row["card"], []).append(row)
    return cards


def drawn_patterns(draw, count):
    rules, drawn = [], []
    for index in range(count):
        steps = drawn_steps(draw)
        how = draw.choice(["past_last", "next", "none", "to_first", "to_last"])
        name = draw.choice([each["name"] for each in steps if not each["absent"]])
        skip = f'skip = "{how}",' if how in ("past_last", "next", "none") else f'skip = {{ {how} = "{name}" }},'
        seconds = draw.choice([6, 15])
        rules.append(pattern([text_of(each) for each in steps], skip + " quarantine = none,", f"p{index}", f'within = "{seconds}s",'))
        drawn.append((steps, seconds * 1000, (how, name)))
    return rules, drawn


def judge(world, drawn, rows):
    total = 0
    for index, (steps, within, skip) in enumerate(drawn):
        wanted = sorted(text for card in by_card(rows).values() for text in Model(steps, within, skip, card).matches())
        assert paths(world, f"p{index}") == wanted, (steps, within, skip)
        total += len(wanted)
    return total


def test_random_patterns_match_what_python_matches(project):
    draw = random.Random("patterns")
    rules, drawn = drawn_patterns(draw, 24)
    rows = drawn_rows(draw, 2500, 25)
    world = World(project, COLUMNS, rules, as_lines(rows)).run()
    for name, counts in world.summary["datasets"].items():
        assert not name.startswith("match.") or counts["in"] == counts["out"], (name, counts)
    assert judge(world, drawn, rows) > 3000


def test_partial_matches_outlive_kills(project):
    draw = random.Random("kills")
    rules, drawn = drawn_patterns(draw, 6)
    rows = drawn_rows(draw, 3000, 25)
    world = World(project, COLUMNS, rules, [])
    lines = as_lines(rows)
    for part in range(5):
        world.feed(lines[part * 600:(part + 1) * 600], f"part{part}.jsonl")
    for _ in range(5):
        process = project.start("run", "pipelines/p.lua", "--json", "--set", "commit.every=20ms", "--set", "ledger.snapshot_every=50ms")
        time.sleep(0.05 + draw.random() * 0.4)
        process.send_signal(signal.SIGKILL)
        process.wait()
    world.run("--set", "commit.every=20ms")
    assert judge(world, drawn, rows) > 500


# --- reload, specs, explain ---------------------------------------------------------------------


def test_a_reload_goes_on_with_what_has_begun(project):
    """A step more, another condition: partial matches whose step is still there go on; those of a step that is gone are dropped."""
    def until(what):
        deadline = time.monotonic() + 60
        while not what():
            assert time.monotonic() < deadline and process.poll() is None, process.communicate()
            time.sleep(0.02)

    def found():
        return paths(world) if any((project.root / "lake/gold/p/_delta_log").glob("*.json")) else []

    def rule_set():
        outcome = project.weir("status", "pipelines/p.lua", "--json")
        return outcome.json()["rule_set"] if outcome.code == 0 else None

    def rule(*steps):
        return pattern(steps, within='within = "1h",').replace("20s", "0s")

    world = World(project, COLUMNS, rule(A, B), [*rows_of("a.x"), *rows_of("ax", "mark", 30)])
    process = project.start("run", "pipelines/p.lua", "--json", "--set", "commit.every=20ms")
    try:
        until(rule_set)
        before = rule_set()
        until(lambda: (project.weir("status", "pipelines/p.lua", "--json").json()["datasets"].get("match.p") or {}).get("in") == 4)
        project.write("rules/r0.lua", rule(A, step("b", letters="by"), C))
        until(lambda: rule_set() not in (None, before))
        later = rows_of("." * 40 + "yc")
        world.feed([*later, *rows_of("." * 60 + "x", "mark")], "b.jsonl")
        until(found)
    finally:
        process.kill()
        process.communicate()
    assert found() == ["a 0|b 40|c 41"]


SPEC = """local testing = require "weir.testing"
describe("match.p", function()
  it("matches when the watermark has passed", function()
    local pattern = testing.load "match.p"
    local row = testing.record { id = 1, card = "c", kind = "a", n = 1, at = "2026-01-05T10:00:00Z" }
    pattern:feed(row { id = 2, kind = "b", _at = "+2s" }, row {})
    assert.same({}, pattern:emitted())
    pattern:watermark "2026-01-05T10:01:00Z"
    assert.same("a 1|b 2", pattern:emitted()[1].path)
  end)
end)
"""


def test_specs_feed_patterns(project):
    project.write("spec/p_spec.lua", SPEC)
    outcome = World(project, COLUMNS, pattern([A, B])).project.weir("test")
    assert outcome.code == 0, outcome


def test_explain_shows_the_sequence(project):
    World(project, COLUMNS, pattern([step("a", '"+"', "consecutive = true"), step("c", more="absent = true"), step("b", more='contiguity = "strict"')]))
    told = project.weir("explain", "match.p").out
    assert "pattern match.p" in told and "a 1+ consecutive, not c, b strict" in told and "skip         past_last" in told


@pytest.mark.parametrize("rule, marked, texts", [
    (pattern([A, B]).replace("sequence", "sequences"), "sequences", ["did you mean `sequence`?"]),
    (pattern([A, B]).replace('step("b", {', 'step("b", { wheres = 1, '), "wheres", ["did you mean `where`?"]),
    (pattern([A, step("b", '"many"')]), '"many"', ["how often a step comes is"]),
    (pattern([A, step("a")]), 'step("a", { where = function(e) return e.kind == "a" end })', ["two steps are called `a`"]),
    (pattern([step("c", more="absent = true"), A]), "step", ["nothing comes before the step `c`"]),
    (pattern([A, step("b", more="absent = true")], within=""), 'step("b"', ["until when?", 'within = "10m"']),
    (pattern([A, step("c", '"?"'), step("d", more="absent = true"), B]), 'step("d"', ["beside one that may be left out"]),
    (pattern([step("a", '"*"'), step("b", '"?"')]), "pattern", ["every step may be left out"]),
    (pattern([step("a", more='contiguity = "strict"'), B]), "step", ["nothing comes before the first step"]),
    (pattern([A, B], 'skip = "last",'), '"last"', ["past_last"]),
    (pattern([A, B], 'skip = { to_last = "c" },'), '{ to_last', ["no step that takes rows is called `c`"]),
    (pattern([A, B]).replace("e.kind == \"b\"", "e.kin == \"b\""), "kin ==", ["did you mean `kind`?"]),
    (pattern([A, B]).replace("#m.b", "#m.bb"), "bb", ["no step that takes rows is called `bb`"]),
    (pattern([A, step("b", letters="b").replace("function(e)", "function(e, m)").replace("return ", "return e.n > m.a.m and ")]), "m and", ["has no column `m`"]),
    (pattern([A, B]).replace('card = m.key', 'crad = m.key'), "m.key, path", ["has no column `crad`"]),
    (pattern([A, B]).replace('key = "card",', ""), "pattern", ["whose state a row belongs to"]),
])
def test_what_is_wrong_with_a_pattern_is_shown_where_it_stands(project, rule, marked, texts):
    world = World(project, COLUMNS, rule)
    outcome = world.check()
    text = outcome.out + outcome.err
    assert outcome.code == 1 and all(wanted in text for wanted in texts), outcome
    if rule.count(marked) == 1:
        assert f"{place(rule, marked)}: error: " in text, outcome
