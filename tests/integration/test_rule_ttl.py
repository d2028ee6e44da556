"""`ttl` of a rule's state: a key nothing was written to for so long is forgotten, by event time or by the clock; over restarts and kills too."""

import random
import signal
import time

from language import World, at
from test_rules import CARD, START, STREAM, lines

RULE = """return rule "fraud.seen" {
  on = "silver.card", key = "card_id",
  emits = { ["gold.seen"] = { card_id = "string", at = "timestamp", seen = "int64", spent = "decimal(14,2)" } },
  state = { seen = counter(), spent = ring(8, "decimal(12,2)"), ttl = "30s" },
  process = function(e, s, p, emit)
    if e.country == "none" then return end
    local seen = s.seen:add()
    s.spent:push(e.amount)
    if e.country == "bad" then error("no") end
    emit("gold.seen", { card_id = e.card_id, at = e.at, seen = seen, spent = s.spent:sum() })
  end,
}
"""


def drawn(seed, count, cards=25):
    """Rows of cards some of which fall silent for about the time they are remembered; times are whole seconds, so that some are exactly that."""
    draw = random.Random(seed)
    moments = sorted(draw.randrange(count) * 1_000_000 for _ in range(count))
    rows = [{"card_id": f"c{draw.randrange(cards)}", "amount": f"{draw.randrange(1, 9000) / 100:.2f}",
             "country": draw.choice(["GB", "GB", "GB", "bad", "none"]), "moment": moment} for moment in moments]
    return [rows[i] for i in sorted(range(count), key=lambda i: moments[i] + draw.randrange(119_000_000))]


def model(rows):
    """A row that throws or writes nothing keeps nothing alive; a key is there for all of the 30th second."""
    seen, spent, written, out = {}, {}, {}, []
    for row in sorted(rows, key=lambda row: row["moment"]):
        card, now = row["card_id"], row["moment"]
        if card in written and now - written[card] > 30_000_000:
            seen[card], spent[card] = 0, []
        if row["country"] in ("bad", "none"):
            continue
        written[card] = now
        seen[card] = seen.get(card, 0) + 1
        spent[card] = [*spent.get(card, []), int(row["amount"].replace(".", ""))][-8:]
        out.append((card, now, seen[card], sum(spent[card])))
    return sorted(out)


def as_model(world):
    return sorted((card, round((moment - START).total_seconds() * 1e6), seen, int(spent * 100)) for card, moment, seen, spent in
                  world.rows("gold.seen", "card_id", "at", "seen", "spent"))


def test_a_key_is_forgotten_when_nothing_was_written_to_it_for_so_long(project):
    rows = drawn(1, 6000)
    world = World(project, CARD, [STREAM, RULE], lines(rows)).run()
    wanted = model(rows)
    assert as_model(world) == wanted
    assert 500 < sum(1 for row in wanted if row[2] == 1) < len(wanted) / 2, "keys are forgotten, and keys are remembered"


def test_what_is_forgotten_stays_so_over_kills(project):
    rows = drawn(2, 6000)
    world = World(project, CARD, [STREAM, RULE], [])
    whole = lines(rows)
    for part in range(4):
        world.feed(whole[part * 1500:(part + 1) * 1500], f"part{part}.jsonl")
    draw, process = random.Random(3), None
    for _ in range(5):
        process = project.start("run", "pipelines/p.lua", "--json", "--set", "commit.every=20ms", "--set", "ledger.snapshot_every=50ms")
        time.sleep(0.05 + draw.random() * 0.4)
        process.send_signal(signal.SIGKILL)
        process.wait()
    world.run()
    assert as_model(world) == model(rows)


SPEC = """local testing = require "weir.testing"
describe("fraud.seen", function()
  local pay = testing.record { card_id = "c1", amount = "1.00", country = "GB", at = "2026-01-05T10:00:00Z" }
  local function seen(rule)
    local list = {}
    for i, row in ipairs(rule:emitted()) do list[i] = row.seen end
    return list
  end
  it("forgets by the clock", function()
    local rule = testing.load "fraud.seen"
    rule:feed(pay {}):clock "+29s"
    rule:feed(pay {}):clock "+29s"
    rule:feed(pay {}):clock "+31s"
    rule:feed(pay {})
    assert.same({ 1, 2, 3, 1 }, seen(rule))
  end)
end)
"""


def test_ttl_clock_forgets_by_the_clock_whatever_event_time_says(project):
    project.write("spec/seen_spec.lua", SPEC)
    rule = RULE.replace('ttl = "30s"', 'ttl_clock = "30s"').replace('key = "card_id",', 'key = "card_id", order = "arrival",')
    World(project, CARD, [STREAM, rule], [])
    outcome = project.weir("test")
    assert outcome.code == 0, outcome


def test_a_reload_turns_the_time_to_live_of_what_is_remembered_already(project):
    def until(what):
        deadline = time.monotonic() + 60
        while not what():
            assert time.monotonic() < deadline and process.poll() is None, process.communicate()
            time.sleep(0.02)

    def rule_set():
        outcome = project.weir("status", "pipelines/p.lua", "--json")
        return outcome.json()["rule_set"] if outcome.code == 0 else None

    def pay(*moments):
        return [{"card_id": card, "amount": "1.00", "country": "GB", "at": at(moment)} for card, moment in zip(("c1", "x"), moments)]

    def seen():
        written = any((project.root / "lake/gold/seen/_delta_log").glob("*.json"))
        return [seen for _, card, seen in sorted(world.rows("gold.seen", "at", "card_id", "seen")) if card == "c1"] if written else []

    rule = RULE.replace('key = "card_id",', 'key = "card_id", time = { field = "at" },').replace("silver.card", "bronze.row")
    turns = {rule.replace('ttl = "30s"', 'ttl = "10s"'): ("10:00:20", "10:00:21"), rule.replace('ttl = "30s"', 'ttl = "1h"'): ("10:00:50", "10:00:51"),
             rule: ("10:01:30", "10:01:31")}
    world = World(project, CARD, [rule.replace(', ttl = "30s"', "")], pay("10:00:00", "10:00:01"))
    process = project.start("run", "pipelines/p.lua", "--json", "--set", "commit.every=20ms")
    try:
        until(lambda: seen() == [1])
        for number, (turn, moments) in enumerate(turns.items(), 1):
            before = rule_set()
            project.write("rules/r0.lua", turn)
            until(lambda: rule_set() not in (None, before))
            world.feed(pay(*moments), f"n{number}.jsonl")
            until(lambda: len(seen()) == number + 1)
    finally:
        process.kill()
        process.communicate()
    # Forgotten after 20 s, though it was to be for ever; then an hour; then 30 s, of which 40 have gone.
    assert seen() == [1, 1, 2, 1]
