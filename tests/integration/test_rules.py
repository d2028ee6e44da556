"""Rules: keyed state in order of event time, timers, emits; the same whatever the arrival, the batches, the restarts and the kills."""

import collections
import datetime
import decimal
import json
import random
import signal
import subprocess
import time

import pytest

import conftest
import lake
from language import World, at

CARD = {"card_id": "string!", "amount": "decimal(12,2)!", "country": "string", "at": "timestamp!"}
STREAM = 'return stream "silver.card" { from = "bronze.row", time = { field = "at", out_of_order = "2m" }, into = none }'
VELOCITY = """return rule "fraud.velocity" {
  on      = "silver.card",
  key     = "card_id",
  emits   = { ["gold.alert"] = { card_id = "string", reason = "string", at = "timestamp", countries = "int32", spent = "decimal(14,2)",
                                 seen = "int64", last = "string" } },
  params  = { window = "10m", max_spend = decimal "1500.00", max_countries = 2 },
  state   = {
    recent  = ring(16, { amount = "decimal(12,2)", country = "string" }),
    seen    = counter(),
    alerted = value "timestamp",
    last    = value "string",
  },
  process = function(e, s, p, emit)
    s.recent:push(e.amount, e.country)
    s.seen:add()
    if e.amount == 666 then error("the beast") end
    local countries = s.recent:distinct("country", p.window)
    local spent = s.recent:sum("amount", p.window)
    local reason = countries > p.max_countries and "countries" or spent > p.max_spend and "spend"
    if reason and not s.alerted:within(p.window) then
      s.alerted:set(e.at)
      emit("gold.alert", { card_id = e.card_id, reason = reason, at = e.at, countries = countries, spent = spent, seen = s.seen:get(),
                           last = s.last:get() })
      s:timer("quiet", e.at + minutes(5))
    end
    s.last:set(e.country)
  end,
  timers = {
    quiet = function(key, s, p, emit, at)
      emit("gold.alert", { card_id = key, reason = "quiet", at = at, seen = s.seen:get() })
    end,
  },
}
"""
START = datetime.datetime(2026, 1, 5, 10, tzinfo=datetime.timezone.utc)
COLUMNS = ["card_id", "reason", "at", "countries", "spent", "seen", "last"]


def rows_of_cards(seed, count, cards=40):
    """Payments up to two minutes out of order, some with an amount the rule throws on, none late."""
    rng = random.Random(seed)
    moments = sorted(rng.randrange(count * 2_000_000) for _ in range(count))
    arrivals = sorted(range(count), key=lambda i: moments[i] + rng.randrange(119_000_000))
    rows = []
    for i in arrivals:
        rows.append({"card_id": f"c{rng.randrange(cards)}", "amount": "666" if rng.random() < 0.01 else f"{rng.randrange(1, 60000) / 100:.2f}",
                     "country": rng.choice(["GB", "GB", "GB", "FR", "US", None]), "moment": moments[i]})
    return rows


def lines(rows):
    return [{**{name: value for name, value in row.items() if name != "moment"},
             "at": (START + datetime.timedelta(microseconds=row["moment"])).isoformat().replace("+00:00", "Z")} for row in rows]


def model(rows):
    """What the rule says, in plain Python: by time, then arrival; a timer after the rows of its time."""
    ten, five = 600_000_000, 300_000_000
    ring, seen, alerted, last = collections.defaultdict(list), collections.Counter(), {}, {}
    timers, out = {}, []

    def fire(before):
        while timers and min(when for when in timers.values()) < before:
            card = min(timers, key=lambda key: timers[key])
            when = timers.pop(card)
            out.append((card, "quiet", when, None, None, seen[card], None))

    for row in sorted(rows, key=lambda row: row["moment"]):
        fire(row["moment"])
        if row["amount"] == "666":
            continue
        card, now = row["card_id"], row["moment"]
        ring[card] = (ring[card] + [(now, decimal.Decimal(row["amount"]), row["country"])])[-16:]
        seen[card] += 1
        inside = [entry for entry in ring[card] if now - entry[0] < ten]
        countries = len({entry[2] for entry in inside if entry[2] is not None})
        spent = sum((entry[1] for entry in inside), decimal.Decimal(0))
        reason = "countries" if countries > 2 else "spend" if spent > 1500 else None
        if reason and not (card in alerted and now - alerted[card] < ten):
            alerted[card] = now
            out.append((card, reason, now, countries, spent, seen[card], last.get(card)))
            timers[card] = now + five
        last[card] = row["country"]
    fire(1 << 62)
    return out


def alerts(world):
    def micros(moment):
        return (moment - START) // datetime.timedelta(microseconds=1)
    rows = lake.by_deltalake(world.project.root / "lake/gold/alert").to_pylist()
    return [tuple(micros(row[name]) if name == "at" else row[name] for name in COLUMNS) for row in rows]


def by_time(found):
    return sorted(found, key=lambda row: (row[2], row[0], row[1]))


def test_a_rule_says_what_its_model_says_in_any_order_of_arrival(project):
    rows = rows_of_cards(1, 20_000)
    world = World(project, CARD, [STREAM, VELOCITY], lines(rows)).run()
    expected = model(rows)
    found = alerts(world)
    assert len(found) > 100 and by_time(found) == by_time(expected)
    assert [row[2] for row in found] == sorted(row[2] for row in found), "they leave in order of time"
    thrown = sum(row["amount"] == "666" for row in rows)
    counts = world.counts("fraud.velocity")
    assert counts["in"] == len(rows) and counts["out"] == len(rows) - thrown
    assert counts["rejected"]["process"] == thrown == world.table("quarantine.fraud.velocity").num_rows


def test_rows_that_wait_timers_and_state_outlive_a_restart(project):
    """The input comes in five parts with a run each, so that everything there is goes through snapshots and records."""
    rows = rows_of_cards(2, 6_000)
    world = World(project, CARD, [STREAM, VELOCITY], [])
    whole = lines(rows)
    for part in range(5):
        world.feed(whole[part * 1200:(part + 1) * 1200], f"part{part}.jsonl")
    process = project.start("run", "pipelines/p.lua", "--json", "--set", "commit.every=20ms", "--set", "ledger.snapshot_every=50ms")
    kills = 0
    rng = random.Random(5)
    # Killed a few times while it runs; then to the end.
    while kills < 6:
        try:
            process.communicate(timeout=0.15 + rng.random() * 0.4)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            assert process.returncode == -signal.SIGKILL
        kills += 1
        process = project.start("run", "pipelines/p.lua", "--json", "--set", "commit.every=20ms", "--set", "ledger.snapshot_every=50ms")
    process.kill()
    process.communicate()
    world.run("--set", "commit.every=20ms")
    assert by_time(alerts(world)) == by_time(model(rows))


def test_what_an_epoch_did_is_what_its_replay_does(project):
    rows = rows_of_cards(3, 30_000)
    world = World(project, CARD, [STREAM, VELOCITY], lines(rows), options='\n  ledger = { keep = "1h" },').run("--set", "commit.every=20ms")
    epochs = world.summary["epochs"]
    for epoch in sorted({1, 2, epochs // 2, epochs - 1, epochs} & set(range(1, epochs + 1))):
        outcome = project.weir("replay", "pipelines/p.lua", "--epoch", str(epoch))
        assert outcome.code == 0 and "differ" not in outcome.out.replace("does not differ", ""), outcome


def test_a_reload_turns_parameters_and_keeps_state_and_refuses_another_shape(project):
    def until(what):
        deadline = time.monotonic() + 60
        while not what():
            assert time.monotonic() < deadline and process.poll() is None, process.communicate()
            time.sleep(0.02)

    def status():
        outcome = project.weir("status", "pipelines/p.lua", "--json")
        return outcome.json() if outcome.code == 0 else {}

    def found():
        return sorted((row["card_id"], row["seen"]) for row in world.table("gold.n").to_pylist()) if any((project.root / "lake/gold/n/_delta_log").glob("*.json")) else []

    rule = """return rule "n" {
      on = "bronze.row", key = "card_id", order = "arrival", params = { least = 1 }, state = { seen = counter() },
      emits = { ["gold.n"] = { card_id = "string", seen = "int64" } },
      process = function(e, s, p, emit)
        s.seen:add()
        if s.seen:get() >= p.least then emit("gold.n", { card_id = e.card_id, seen = s.seen:get() }) end
      end,
    }
    """
    row = {"card_id": "c1", "amount": "1.00", "country": "GB", "at": at("10:00:00")}
    world = World(project, CARD, [rule], [row])
    process = project.start("run", "pipelines/p.lua", "--json", "--set", "commit.every=20ms")
    try:
        until(lambda: found() == [("c1", 1)])
        before = status()["rule_set"]
        project.write("rules/r0.lua", rule.replace("least = 1", "least = 3"))
        until(lambda: status().get("rule_set") not in (None, before))
        turned = status()["rule_set"]
        world.feed([row, row], "b.jsonl")
        until(lambda: found() == [("c1", 1), ("c1", 3)])
        project.write("rules/r0.lua", rule.replace("counter()", 'value "int64"').replace("seen:add()", "seen:set(1)"))
        until(lambda: "`seen` is gone, or declared otherwise" in json.dumps(status()))
        assert status()["rule_set"] == turned
    finally:
        process.kill()
        process.communicate()


KINDS = """return rule "kinds" {
  on = "silver.card", key = "card_id",
  emits = { ["gold.kinds"] = { card_id = "string", n = "int32", text = "string", total = "decimal(38,2)", est = "double", best = "decimal(12,2)" } },
  state = {
    amounts  = list(3, "decimal(12,2)"),
    places   = map("string", "int64"),
    largest  = map(100, "string", { amount = "decimal(12,2)", at = "timestamp" }),
    seen     = set "string",
    distinct = sketch "string",
    best     = value { amount = "decimal(12,2)", country = "string" },
  },
  process = function(e, s, p, emit)
    local c = e.country or "none"
    if s.amounts:count() == 3 then s.amounts:remove(1) end
    s.amounts:push(e.amount)
    s.places:add(c)
    local l = s.largest:get(c)
    if not l or e.amount > l.amount then s.largest:set(c, { amount = e.amount, at = e.at }) end
    s.seen:add(c)
    s.distinct:add(c)
    local b = s.best:get()
    if not b or e.amount > b.amount then s.best:set { amount = e.amount, country = e.country } end
    if c == "clear" then s:clear() return end
    if c == "throw" then s:clear() error("no") end
    if c == "gone" then s.places:remove("GB") s.seen:remove("GB") end
    emit("gold.kinds", { card_id = e.card_id, n = s.places:get(c), total = s.amounts:sum(), est = s.distinct:count(),
      best = s.best:get().amount, text = s.seen:count() .. " " .. tostring(s.seen:has("GB")) .. " " .. s.places:count() .. " "
        .. tostring(s.largest:get(c).amount) .. " " .. tostring(s.best:get().country) .. " " .. tostring(s.amounts:first()) })
  end,
}
"""


def test_every_kind_of_state(project):
    rows = [("a", "1.00", "GB"), ("a", "5.00", "FR"), ("a", "2.00", "GB"), ("a", "3.00", "throw"), ("a", "4.00", "GB"), ("a", "9.00", "gone"),
            ("a", "1.00", "clear"), ("a", "7.00", "US")]
    given = [{"card_id": card, "amount": amount, "country": country, "at": at(f"10:00:{i:02}")} for i, (card, amount, country) in enumerate(rows)]
    world = World(project, CARD, [STREAM, KINDS], given).run()
    found = [(row["n"], row["text"], str(row["total"]), row["est"], str(row["best"])) for row in world.table("gold.kinds").to_pylist()]
    assert found == [
        (1, "1 true 1 1.00 GB 1.00", "1.00", 1, "1.00"),
        (1, "2 true 2 5.00 FR 1.00", "6.00", 2, "5.00"),
        (2, "2 true 2 2.00 FR 1.00", "8.00", 2, "5.00"),
        (3, "2 true 2 4.00 FR 5.00", "11.00", 2, "5.00"),
        (1, "2 false 2 9.00 gone 2.00", "15.00", 3, "9.00"),
        (1, "1 false 1 7.00 US 7.00", "7.00", 1, "7.00"),
    ]
    assert world.counts("kinds")["rejected"]["process"] == 1


SPEC = """local testing = require "weir.testing"
describe("fraud.velocity", function()
  local rule, pay
  before_each(function()
    rule = testing.load("fraud.velocity", { upstream = true })
    pay = testing.record { card_id = "c1", amount = "12.00", country = "GB", at = "2026-01-05T10:00:00Z" }
  end)
  it("alerts when a card is used in three countries, in any order of arrival", function()
    rule:feed(pay { _at = "+2m", country = "US" }, pay {}, pay { _at = "+1m", country = "FR" })
    assert.same({}, rule:emitted())
    rule:watermark "2026-01-05T10:06:00Z"
    assert.same(1, #rule:emitted())
    assert.same("countries", rule:emitted()[1].reason)
    rule:watermark "2026-01-05T10:09:01Z"
    assert.same(2, #rule:emitted())
    assert.same("quiet", rule:emitted("gold.alert")[2].reason)
  end)
  it("forgets spend older than the window", function()
    rule:feed(pay { amount = "1400.00" }, pay { amount = "1400.00", _at = "+11m" }):finish()
    assert.same({}, rule:emitted())
  end)
end)
describe("heartbeat", function()
  it("fires by the clock", function()
    local rule = testing.load("heartbeat", { upstream = true })
    rule:feed { card_id = "c1", amount = "1.00", country = "GB", at = "2026-01-05T10:00:00Z" }
    rule:clock "+4m"
    assert.same({}, rule:emitted())
    rule:clock "+2m"
    assert.same({ { card_id = "c1" } }, rule:emitted())
  end)
end)
"""
HEARTBEAT = """return rule "heartbeat" {
  on = "bronze.row", key = "card_id", order = "arrival", into = none,
  emits = { ["gold.silent"] = { card_id = "string" } },
  process = function(e, s) s:clock_timer("silent", now() + minutes(5)) end,
  timers = { silent = function(key, s, p, emit) emit("gold.silent", { card_id = key }) end },
}
"""


def test_specs_feed_rules_and_move_the_clock(project):
    World(project, CARD, [STREAM, VELOCITY, HEARTBEAT])
    project.write("spec/velocity_spec.lua", SPEC)
    outcome = project.weir("test")
    assert outcome.code == 0, outcome


def test_a_ring_too_small_for_its_window_warns(project):
    """What made room though the window still held it counts; what was older, or pushed by a row that threw, does not."""
    rule = VELOCITY.replace("ring(16,", "ring(3,")
    rows = [(card, minute, amount) for minute in range(5) for card, amount in [("c1", "1.00"), ("c3", "1.00" if minute < 3 else "666")]]
    rows += [("c2", minute * 4, "1.00") for minute in range(5)] # the oldest of four is ten minutes old and more
    data = [{"card_id": card, "amount": amount, "country": "GB", "at": at(f"10:{minute:02}:00")} for card, minute, amount in sorted(rows, key=lambda row: row[1])]
    world = World(project, CARD, [STREAM, rule], data).run()
    assert world.summary["datasets"]["fraud.velocity"]["warned"] == {"ring recent": 2}, world.summary["datasets"]["fraud.velocity"]


@pytest.mark.parametrize("change, words", [
    (("s.seen:add()", "s.sen:add()"), ["no state `sen`", "seen"]),
    (("s.seen:add()", "s.seen:push(1)"), ["a counter has no `push`"]),
    (("p.window", "p.span"), ["no parameter `span`", "window"]),
    (('emit("gold.alert", { card_id', 'emit("gold.alrt", { card_id'), ["does not emit `gold.alrt`"]),
    (("reason = reason,", "resaon = reason,"), ["`gold.alert` has no column `resaon`"]),
    (('s:timer("quiet"', 's:timer("quite"'), ["no timer is called `quite`"]),
    (("counter()", "counted()"), ["counted"]),
    (("seen    = counter()", 'ttl = "0s", seen = counter()'), ["more than nothing"]),
    (("seen    = counter()", 'ttl = "1s", ttl_clock = "1s", seen = counter()'), ["use one"]),
    (("key     = \"card_id\",", ""), ["whose state a row belongs to"]),
    (("e.amount == 666", "e.amont == 666"), ["no column `amont`"]),
])
def test_what_is_wrong_with_a_rule_is_said_at_its_place(project, change, words):
    World(project, CARD, [STREAM, VELOCITY.replace(*change)])
    outcome = project.weir("check", "pipelines/p.lua")
    assert outcome.code == 1 and "rules/r1.lua:" in outcome.out + outcome.err, outcome
    for word in words:
        assert word in outcome.out + outcome.err, outcome


def test_a_key_of_too_many_columns_says_so(project):
    names = [f"c{n}" for n in range(65)]
    rule = 'return rule "n" { on = "bronze.row", order = "arrival", key = { %s }, state = { n = counter() }, emits = { ["gold.n"] = { c0 = "string" } }, ' \
           'process = function(e, s) s.n:add() end }' % ", ".join(f'"{name}"' for name in names)
    World(project, {name: "string" for name in names}, [rule], [])
    done = project.weir("run", "pipelines/p.lua", "--until-end")
    assert done.code == 1 and "its key has 65 columns, and 64 are the most" in done.err, done
