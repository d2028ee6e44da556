"""A rule over a database's changes: it hears of every row that is new, of every update, as it is then, and of every delete."""

import random
import signal

import pytest

from language import World

COLUMNS = {"id": "long!", "plan": "string", "at": "timestamp", "_change": "int!"}
INSERT, BEFORE, AFTER, DELETE, TRUNCATE = range(5)
RULE = """return rule "crm.moves" { on = "bronze.row", key = "id", order = "arrival",
  where = function(e) return e.plan ~= "hidden" end,
  expectations = { expect "known" { one_of("plan", { "free", "paid", "gone" }) } },
  emits = { ["crm.move"] = { id = "int64", change = "int8", was = "string", now = "string" } },
  state = { plan = value "string" },
  process = function(e, s, p, emit)
    emit("crm.move", { id = e.id, change = e._change, was = s.plan:get(), now = e.plan })
    if e._change == 3 then s.plan:clear() else s.plan:set(e.plan) end
  end,
}"""


def changes(count, seed="moves"):
    draw, rows, held = random.Random(seed), [], {}
    for n in range(count):
        key, plan = draw.randrange(20), draw.choice(["free", "paid", "paid", "gone", "hidden", "odd"])
        moment = f"2026-01-05T10:{n // 60 % 60:02}:{n % 60:02}Z"
        if key in held and draw.random() < 0.2:
            rows.append({"id": key, "plan": None, "at": None, "_change": DELETE})
            del held[key]
            continue
        if key in held:
            rows.append({"id": key, "plan": held[key], "at": moment, "_change": BEFORE})
        rows.append({"id": key, "plan": plan, "at": moment, "_change": AFTER if key in held else INSERT})
        held[key] = plan
    return rows


def told(rows):
    known, out, odd = {}, [], 0
    for row in rows:
        judged = row["_change"] in (INSERT, AFTER)
        odd += judged and row["plan"] == "odd"
        if row["_change"] == BEFORE or judged and row["plan"] in ("hidden", "odd"):
            continue
        out.append((row["id"], row["_change"], known.get(row["id"]), row["plan"]))
        known.pop(row["id"], None)
        if judged:
            known[row["id"]] = row["plan"]
    return out, odd


def test_it_hears_of_what_is_new_of_updates_and_of_deletes(project):
    rows = changes(800)
    world = World(project, COLUMNS, RULE, rows).run()
    wanted, odd = told(rows)
    assert world.rows("crm.move", "id", "change", "was", "now") == wanted and {0, 2, 3} == {row[1] for row in wanted}
    assert world.counts("crm.moves")["rejected"] == {"known": odd}
    replayed = project.weir("replay", "pipelines/p.lua", "--epoch", "1")
    assert replayed.code == 0 and "the same outputs and state" in replayed.out, replayed


@pytest.mark.parametrize("point", ["epoch_sealed", "ledger_torn_write", "delta_before_commit"])
def test_killed_it_hears_of_each_once(project, point):
    rows = changes(3000, point)
    world = World(project, COLUMNS, RULE, rows, options=' commit = { every = "20ms" },')
    outcome = project.weir("run", "pipelines/p.lua", "--until-end", env={"WEIR_FAULT": f"{point}:1:kill"})
    assert outcome.code == -signal.SIGKILL, outcome
    found = world.run().rows("crm.move", "id", "change", "was", "now") # of several files, in no order; `was` tells it

    def by_text(row):
        return tuple(map(str, row))
    assert sorted(found, key=by_text) == sorted(told(rows)[0], key=by_text)


def test_in_order_of_event_time(project):
    rows = [{"id": 1, "plan": plan, "at": f"2026-01-05T10:00:{second:02}Z", "_change": change}
            for plan, second, change in [("free", 5, INSERT), ("gone", 20, DELETE), ("paid", 10, AFTER), ("free", 30, INSERT)]]
    rule = RULE.replace('order = "arrival"', 'time = { field = "at", out_of_order = "1m" }')
    assert World(project, COLUMNS, rule, rows).run().rows("crm.move", "change", "was", "now") == [
        (0, None, "free"), (2, "free", "paid"), (3, "paid", "gone"), (0, None, "free")]


def test_a_truncate_is_not_passed_over_in_silence(project):
    rows = [{"id": 1, "plan": "free", "at": None, "_change": INSERT}, {"id": 0, "plan": None, "at": None, "_change": TRUNCATE}]
    world = World(project, COLUMNS, RULE, rows).run()
    assert world.rows("crm.move", "id") == [1]
    assert "the table was truncated" in str(world.table("quarantine.crm.moves").to_pylist()[0]["_reasons"])


def test_rows_of_a_model_change_as_batches_come(project):
    model = 'return model "gold.plan" { from = "bronze.row", by = { "plan" }, measures = { n = count() } }'
    world = World(project, {"id": "long!", "plan": "string"}, [model, RULE.replace("bronze.row", "gold.plan").replace('key = "id"', 'key = "plan"')])
    outcome = project.weir("check", "pipelines/p.lua")
    assert outcome.code == 1 and "a rule over the rows of gold.plan, which change as batches come, is not built yet" in outcome.err + outcome.out, outcome
    assert world
