"""`top` of rows that change: of a database's table, of measures without a window, of windows that update. Python and DuckDB recount."""

import json
import random
import signal
import time

import duckdb
import pytest

import joins
import lake
from conftest import some
from language import D, World, assert_refused, at, moment, place

# --- a database's table: rows come, change and go ------------------------------------------------

FIELDS = [{"name": "id", "type": "long"}, {"name": "shop", "type": ["null", "string"], "default": None},
          {"name": "price", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}], "default": None},
          {"name": "name", "type": ["null", "string"], "default": None},
          {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}], "default": None}]
PIPELINE = """return pipeline "p" { rules = "rules", storage = delta { root = "lake" }, commit = { every = "20ms" }, ledger = { keep = "1h" },
  sources = { source "bronze.item" { files { path = "landing/*.jsonl" }, debezium { key = "id", schema = "schemas/item.avsc", decimals = "string" }, into = none } } }"""
ITEM = 'return stream "silver.item" { from = "bronze.item", key = "id", into = delta { mode = "merge" } }'
TOPS = """return {
  model "gold.ranked" { from = "silver.item", top = { n = 3, by = "-price", per = "shop", rank = "rank" } },
  model "gold.first" { from = "silver.item", top = { n = 1, by = "-price", per = "shop" } },
  model "gold.last" { from = "silver.item", top = { n = 2, by = "price", per = "shop", ties = "last", rank = "place" } },
  model "gold.set" { from = "silver.item", top = { n = 5, by = "-price" } },
  model "gold.equal" { from = "silver.item", top = { n = 2, by = "-price", per = "shop", ties = "all", rank = "rank" } },
  stream "silver.log" { from = "gold.ranked", into = delta { mode = "append" } },
  model "gold.sum" { from = "gold.ranked", by = { "rank" }, measures = { shops = count(), total = sum "price" } },
}
"""


class Shop:
    """A table of a database, and the changes that made it."""

    def __init__(self, seed, ids=60, shops="abcd"):
        self.draw, self.rows, self.ids, self.shops = random.Random(seed), {}, ids, shops

    def row(self, number):
        price = None if self.draw.random() < 0.05 else f"{self.draw.randrange(12)}.00"
        return {"id": number, "shop": self.draw.choice([*self.shops, None]), "price": price, "name": self.draw.choice(["tea", "jam", "a name that is not short"]),
                "at": at(f"10:{self.draw.randrange(60):02}:00")}

    def changes(self, count):
        for _ in range(count):
            number = self.draw.randrange(self.ids)
            before, op = self.rows.pop(number, None), "c"
            after = self.row(number)
            if before is not None:
                op = self.draw.choice("uuud")
            if op == "u" and self.draw.random() < 0.3:
                after = {**before, "name": after["name"]}
            if op != "d":
                self.rows[number] = after
            yield json.dumps({"before": None, "after": None if op == "d" else after, "op": op, "ts_ms": 5, "transaction": None,
                              "source": {"lsn": 77, "txId": 9, "ts_ms": 1000, "snapshot": "false"}} | ({"before": before} if op == "d" else {})) + "\n"

    def table(self):
        base = duckdb.connect()
        base.execute("create table t (id bigint, shop varchar, price decimal(12,2), name varchar)")
        for row in self.rows.values():
            base.execute("insert into t values (?, ?, ?, ?)", [row["id"], row["shop"], row["price"], row["name"]])
        return base


def ask(shop, order, n, per="shop", what="row_number"):
    per = f"partition by {per} " if per else ""
    return shop.table().execute(f"""select shop, id, price, name, r from (select *, {what}() over ({per}order by {order}) r from t) where r <= {n}""").fetchall()


def write_shop(project, rules=TOPS):
    project.write("schemas/item.avsc", json.dumps({"type": "record", "name": "item", "fields": FIELDS}))
    project.write("pipelines/p.lua", PIPELINE)
    project.write("rules/item.lua", ITEM)
    project.write("rules/tops.lua", rules)


def found(project, name, *columns):
    return sorted((tuple(row[column] for column in columns) for row in lake.by_deltalake(project.root / "lake" / name.replace(".", "/")).to_pylist()), key=str)


def judge_shop(project, shop):
    fields = ("shop", "id", "price", "name")
    ranked = ask(shop, "price desc nulls last, id", 3)
    assert found(project, "gold.ranked", *fields, "rank") == sorted(ranked, key=str)
    assert found(project, "gold.first", *fields) == sorted((row[:4] for row in ask(shop, "price desc nulls last, id", 1)), key=str)
    assert found(project, "gold.last", *fields, "place") == sorted(ask(shop, "price nulls last, id desc", 2), key=str)
    assert found(project, "gold.set", *fields) == sorted((row[:4] for row in ask(shop, "price desc nulls last, id", 5, None)), key=str)
    assert found(project, "gold.equal", *fields, "rank") == sorted(ask(shop, "price desc nulls last", 2, what="rank"), key=str)
    totals = {}
    for _, _, price, _, rank in ranked:
        totals.setdefault(rank, []).append(price)
    assert found(project, "gold.sum", "rank", "shops", "total") == sorted(
        (rank, len(prices), sum(price for price in prices if price is not None) if any(price is not None for price in prices) else None) for rank, prices in totals.items())


def judge_log(project):
    """A −U or −D takes back what was there, an update follows its −U, and what is left is the table."""
    rows = lake.by_deltalake(project.root / "lake/silver/log").to_pylist()
    held = {}
    for row in rows:
        key = (row["shop"], row["rank"], row["id"], row["price"], row["name"])
        held[key] = held.get(key, 0) + (-1 if row["_change"] in (1, 3) else 1)
    assert set(held.values()) <= {0, 1}
    assert sorted((key for key, count in held.items() if count), key=str) == found(project, "gold.ranked", "shop", "rank", "id", "price", "name")
    assert sum(row["_change"] == 1 for row in rows) == sum(row["_change"] == 2 for row in rows) > 0


@pytest.mark.parametrize("seed", [1, 2])
def test_tops_of_a_databases_table_are_true(project, seed):
    write_shop(project)
    shop = Shop(seed)
    for part in range(3):
        project.write(f"landing/{part}.jsonl", "".join(shop.changes(700)))
        project.run("pipelines/p.lua")
        judge_shop(project, shop)
    judge_log(project)
    project.write("landing/9.jsonl", "".join(json.dumps({"before": row, "after": None, "op": "d", "ts_ms": 5, "transaction": None, "source": {
        "lsn": 77, "txId": 9, "ts_ms": 1000, "snapshot": "false"}}) + "\n" for row in shop.rows.values()))
    project.run("pipelines/p.lua")
    assert [found(project, name, "id") for name in ("gold.ranked", "gold.first", "gold.set", "gold.equal")] == [[], [], [], []]


def test_kills_change_nothing(project):
    write_shop(project)
    shop = Shop(7, ids=300)
    for part in range(5):
        project.write(f"landing/{part}.jsonl", "".join(shop.changes(1500)))
    draw = random.Random(5)
    for _ in range(5):
        process = project.start("run", "pipelines/p.lua", "--json", "--set", "ledger.snapshot_every=50ms")
        time.sleep(0.1 + draw.random() * 0.4)
        process.send_signal(signal.SIGKILL)
        process.wait()
    project.run("pipelines/p.lua")
    judge_shop(project, shop)
    judge_log(project)


@pytest.mark.parametrize("point", some(joins.POINTS, 3))
def test_a_kill_at_a_fault_point_changes_nothing(project, point):
    write_shop(project)
    project.write("rules/item.lua", ITEM.replace("key", "where = function(e) local x = 0 for i = 1, 15000 do x = x + i end return x > 0 end, key"))
    shop = Shop(11, ids=200)
    for part in range(20):  # many epochs on any machine
        project.write(f"landing/{part:02}.jsonl", "".join(shop.changes(200)))
    joins.kill(project, point)
    project.run("pipelines/p.lua")
    judge_shop(project, shop)
    judge_log(project)


def test_an_epoch_is_replayed(project):
    write_shop(project)
    project.write("landing/a.jsonl", "".join(Shop(3).changes(20_000)))
    epochs = project.run("pipelines/p.lua")["epochs"]
    for epoch in sorted({1, max(1, epochs // 2), epochs}):
        outcome = project.weir("replay", "pipelines/p.lua", "--epoch", str(epoch))
        assert outcome.code == 0 and "differ" not in outcome.out.replace("does not differ", ""), outcome


def test_its_state_is_read_by_people(project):
    write_shop(project)
    shop = Shop(4, ids=20)
    project.write("landing/a.jsonl", "".join(shop.changes(300)))
    project.run("pipelines/p.lua")
    outcome = project.weir("state", "get", "gold.ranked", "a", "--json")
    assert outcome.code == 0, outcome
    rows = [json.loads(line) for line in outcome.out.splitlines()]
    assert sorted(row["value"]["id"] for row in rows) == sorted(row["id"] for row in shop.rows.values() if row["shop"] == "a")
    cells = {json.loads(line)["state"]: json.loads(line)["keys"] for line in project.weir("state", "ls", "--json").out.splitlines()}
    assert cells["gold.ranked/ranked"] == len(shop.rows)


# --- measures without a window -------------------------------------------------------------------

COLUMNS = {"id": "long!", "k": "int", "g": "string", "v": "decimal(12,2)", "at": "timestamp!"}


def drawn(count, seed=1, keys=60):
    draw = random.Random(seed)
    return [{"id": index, "k": draw.randrange(keys), "g": draw.choice("xyz"), "v": None if draw.random() < 0.05 else f"{draw.randrange(-300, 900) / 100:.2f}",
             "at": at(f"10:{min(59, index * 60 // count + draw.randrange(2)):02}:{draw.randrange(60):02}")} for index in range(count)]


def groups_of(rows, *keys):
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def total(rows):
    values = [D(row["v"]) for row in rows if row["v"] is not None]
    return sum(values) if values else None


MEASURED = """return {
  model "gold.best" { from = "bronze.row", by = { "k", "g" }, measures = { n = count(), total = sum "v" }, EMIT
    derive = { { mean = function(m) return m.total / m.n end, type = "decimal(14,4)" } },
    top = { n = 4, by = { "-total", "k" }, per = "g", rank = "rank" } },
  model "gold.some" { from = "bronze.row", by = { "k" }, measures = { n = count(), items = collect "id" }, EMIT
    having = function(m) return m.n % 2 == 0 end, top = { n = 6, by = "-n" } },
  model "gold.of" { from = "gold.best", by = { "g" }, measures = { rows = count(), total = sum "total", most = max "rank" } },
}
"""


def judge_measured(world, rows):
    wanted, by_g = [], {}
    for (k, g), members in groups_of(rows, "k", "g").items():
        by_g.setdefault(g, []).append((k, len(members), total(members)))
    for g, found_groups in by_g.items():
        found_groups.sort(key=lambda group: (group[2] is None, -(group[2] or 0), group[0]))
        wanted += [(k, g, n, value, rank + 1) for rank, (k, n, value) in enumerate(found_groups[:4])]
    assert sorted(world.rows("gold.best", "k", "g", "n", "total", "rank")) == sorted(wanted)
    assert all(mean is None or abs(mean * n - value) < n * D("0.0001") for n, value, mean in world.rows("gold.best", "n", "total", "mean"))
    assert world.table("gold.best").column_names == ["k", "g", "n", "total", "mean", "rank"]
    assert sorted(world.rows("gold.of", "g", "rows", "total", "most")) == sorted(
        (g, 4, sum(row[3] for row in wanted if row[1] == g), 4) for g in by_g)
    even = sorted((-len(members), k, sorted(row["id"] for row in members)) for (k,), members in groups_of(rows, "k").items() if len(members) % 2 == 0)
    if world.exists("gold.some"):
        assert sorted((-n, k, sorted(items)) for k, n, items in world.rows("gold.some", "k", "n", "items")) == even[:6]


@pytest.mark.parametrize("every", ["20ms", "1s"])
def test_a_top_of_measures_without_a_window(project, every):
    rows = drawn(5000)
    world = World(project, COLUMNS, MEASURED.replace("EMIT", ""), rows[:2500], options=f' commit = {{ every = "{every}" }},').run()
    judge_measured(world, rows[:2500])
    world.feed(rows[2500:], "b.jsonl")
    judge_measured(world.run(), rows)


def test_a_top_of_measures_once_an_interval(project):
    rows = drawn(20_000)
    rules = MEASURED[:MEASURED.index('  model "gold.some"')] + MEASURED[MEASURED.index('  model "gold.of"'):]
    world = World(project, COLUMNS, rules.replace("EMIT", 'emit = every "30ms",'), rows).run("--set", "commit.every=20ms")
    judge_measured(world, rows)


# --- windows that update -------------------------------------------------------------------------

WINDOWED = """return {
  model "gold.whole" { from = "bronze.row", time = { field = "at", out_of_order = "2m" }, window = WINDOW, emit = "EMIT",
    top = { n = 3, by = { "-v", "id" }, per = "g", rank = "rank" }, into = delta { mode = "merge" } },
  model "gold.groups" { from = "bronze.row", time = { field = "at", out_of_order = "2m" }, by = { "k" }, window = WINDOW, emit = "EMIT",
    measures = { n = count(), total = sum "v" }, top = { n = 2, by = { "-n", "k" }, rank = "rank" }, into = delta { mode = "merge" } },
}
"""


def windows_of(row, size, step, cumulate):
    us = int((moment(row["at"][11:19]) - moment("00:00:00")).total_seconds())
    if cumulate:
        start = us // size * size
        return [(start, end) for end in range(start + step, start + size + 1, step) if us < end]
    return [(start, start + size) for start in range(us // step * step, us - size, -step)]


@pytest.mark.parametrize("window, size, step, cumulate", [
    ('tumbling "5m"', 300, 300, False), ('hopping { size = "10m", every = "4m" }', 600, 240, False), ('cumulate { size = "20m", step = "5m" }', 1200, 300, True)])
@pytest.mark.parametrize("emit", ["on_update", "on_close"])
def test_tops_of_windows_that_update(project, window, size, step, cumulate, emit):
    rows = drawn(3000, seed=9, keys=12)
    world = World(project, COLUMNS, WINDOWED.replace("WINDOW", window).replace("EMIT", emit), rows[:1500], options=' commit = { every = "20ms" },')
    world.feed(rows[1500:], "b.jsonl")
    world.run()
    assert world.counts("gold.whole")["late"] == world.counts("gold.groups")["late"] == 0
    windows = {}
    for row in rows:
        for bounds in windows_of(row, size, step, cumulate):
            windows.setdefault(bounds, []).append(row)
    whole, groups = [], []
    for bounds, members in windows.items():
        for (g,), own in groups_of(members, "g").items():
            own.sort(key=lambda row: (row["v"] is None, -D(row["v"] or 0), row["id"]))
            whole += [(*bounds, g, row["id"], rank + 1) for rank, row in enumerate(own[:3])]
        counted = sorted((-len(own), k, total(own)) for (k,), own in groups_of(members, "k").items())
        groups += [(*bounds, k, -n, value, rank + 1) for rank, (n, k, value) in enumerate(counted[:2])]
    midnight = moment("00:00:00")

    def bounded(found_rows):
        return sorted((int((row[0] - midnight).total_seconds()), int((row[1] - midnight).total_seconds()), *row[2:]) for row in found_rows)
    assert bounded(world.rows("gold.whole", "window_start", "window_end", "g", "id", "rank")) == sorted(whole)
    assert bounded(world.rows("gold.groups", "window_start", "window_end", "k", "n", "total", "rank")) == sorted(groups)


def test_a_window_that_is_over_changes_no_more(project):
    rule = ('return model "gold.m" { from = "bronze.row", time = { field = "at" }, window = tumbling { size = "1m", allowed_lateness = "1m" }, emit = "on_update", '
            'top = { n = 1, by = "-v" } }')
    rows = [{"id": index, "k": 1, "g": "x", "v": v, "at": at(time_)} for index, (v, time_) in enumerate([
        ("1.00", "10:00:00"), ("2.00", "10:01:30"), ("3.00", "10:00:10"), ("9.00", "10:02:00"), ("8.00", "10:00:20"), ("8.00", "10:01:20")])]
    world = World(project, COLUMNS, rule, rows).run()
    assert sorted(world.rows("gold.m", "id")) == [2, 3, 5] and world.counts("gold.m")["late"] == 1


# --- what cannot be ------------------------------------------------------------------------------

@pytest.mark.parametrize("model, marked, text", [
    ('window = session "1m", top = { n = 1, by = "v" }', "window", "not built yet"),
    ('window = sliding "1m", top = { n = 1, by = "v" }', "window", "not built yet"),
    ('emit = every "1s", top = { n = 1, by = "v", per = "k" }', "emit", "not built yet"),
    ('window = hopping { size = "1d", every = "1s" }, top = { n = 1, by = "v" }', "window", "up to 1000"),
])
def test_what_a_top_cannot_do_is_said(project, model, marked, text):
    rule = f'return model "gold.m" {{ from = "bronze.row", time = {{ field = "at" }}, {model} }}\n'
    assert_refused(World(project, COLUMNS, rule), place(rule, marked), text)
