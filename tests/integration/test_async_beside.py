"""async_lookup out of order, and beside explode, joins and what others find."""

import collections
import json
import signal

import customers
import lake
import language
import pytest
from language import place

PIPELINE = """return pipeline "p" {
  rules = "rules", storage = delta { root = "lake" }, commit = { every = "100ms" }, ledger = { keep = "1h" },
  sources = {
    source "bronze.sale" { files { path = "landing/*.jsonl", partitions = "file" }, json { schema = "schemas/sale.avsc" }, into = none },
    source "bronze.basket" { files { path = "basket/*.jsonl" }, json { schema = "schemas/basket.avsc" }, into = none },
    source "bronze.owner" { files { path = "owner/*.jsonl" }, json { schema = "schemas/owner.avsc" }, into = none },
    source "bronze.call" { files { path = "call/*.jsonl" }, json { schema = "schemas/call.avsc" }, into = none },
  },
}
"""
SCHEMAS = {
    "sale": {"id": "long!", "customer_id": "long", "at": "timestamp"},
    "owner": {"customer_id": "long!", "owner_id": "long"},
    "call": {"call_id": "long!", "score": "int", "called_at": "timestamp"},
}
BASKET = {"type": "record", "name": "basket", "fields": [
    {"name": "id", "type": "long"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "lines", "type": {"type": "array", "items": "long"}}]}
COLUMNS = 'columns = { tier = "string", score = "int32" }'
OUT = 'columns = { tier = "string" }, map = function(e, out, j) out.tier = j.customer and j.customer.tier end'


class Service(customers.Customers):
    """Slow with every seventh key."""

    slow_s = 0.0

    def _serve(self, handler, keys, many):
        import time
        time.sleep(self.slow_s if int(keys[0]) % 7 == 0 else 0)
        super()._serve(handler, keys, many)


@pytest.fixture
def service():
    service = Service()
    yield service
    service.stop()


class Project:
    def __init__(self, project, service):
        self.project, self.service = project, service
        self.env = {"CRM": service.url}
        for name, columns in SCHEMAS.items():
            project.write(f"schemas/{name}.avsc", language.schema(columns))
        project.write("schemas/basket.avsc", json.dumps(BASKET))
        project.write("pipelines/p.lua", PIPELINE)
        for folder in ("landing", "basket", "owner", "call"):
            (project.root / folder).mkdir(parents=True, exist_ok=True)

    def feed(self, path, rows):
        self.project.write(path, "".join(json.dumps(row) + "\n" for row in rows))

    def run(self, *arguments, env=None):
        self.summary = self.project.run("pipelines/p.lua", *arguments, env={**self.env, **(env or {})})
        return self

    def rows(self, name, *columns):
        return lake.rows_of(lake.by_deltalake(self.project.root / "lake" / name), columns)

    def replay_all(self):
        self.service.down = True
        asked = self.service.requests
        for epoch in range(1, min(self.summary["epochs"], 6) + 1):
            outcome = self.project.weir("replay", "pipelines/p.lua", "--epoch", str(epoch), env=self.env)
            assert outcome.code == 0 and "the same outputs and state" in outcome.out, outcome
        assert self.service.requests == asked


@pytest.fixture
def p(project, service):
    return Project(project, service)


def at(n):
    return f"2026-01-05T{10 + n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z"


def sales(keys, first=0):
    return [{"id": first + n, "customer_id": key, "at": at(first + n)} for n, key in enumerate(keys)]


def tier(key):
    return None if key is None or key > 1000 else ["gold", "iron"][key % 2]


UNORDERED = f"""return {{
  stream "silver.sale" {{ from = "bronze.sale", time = {{ field = "at", out_of_order = "1s" }},
    join = {{ customer = async_lookup(env "CRM" .. "/c/{{customer_id}}") {{ {COLUMNS}, kind = "left", ordered = false, in_flight = 32 }} }}, {OUT} }},
  model "gold.tier" {{ from = "silver.sale", by = {{ "tier" }}, window = tumbling {{ size = "10s", late = "quarantine.late" }}, measures = {{ n = count(), ids = sum "id" }} }},
  stream "silver.numbered" {{ from = "silver.sale", columns = {{ other = "int64" }}, map = function(e, out) out.other = e.id end }},
}}"""


def expected_windows(rows):
    windows = collections.Counter()
    for row in rows:
        windows[row["id"] // 10, tier(row["customer_id"])] += 1
    return sorted(windows.values())


def test_out_of_order_nothing_is_late_lost_or_doubled_and_a_replay_agrees(p):
    p.service.slow_s = 0.03
    rows = sales([k % 300 for k in range(3000)] + [None, 5000])
    p.feed("landing/a.jsonl", rows)
    p.project.write("rules/r.lua", UNORDERED)
    p.run()
    got = p.rows("silver/sale", "id", "tier")
    assert sorted(got) == [(row["id"], tier(row["customer_id"])) for row in rows]
    assert got != sorted(got), "the slow ones came last"
    assert sorted(n for (n,) in p.rows("gold/tier", "n")) == expected_windows(rows)
    assert p.summary["datasets"]["gold.tier"]["late"] == 0 and len(set(p.service.asked)) == 301
    p.replay_all()


@pytest.mark.parametrize("point", ["epoch_sealed", "sink_file_written", "ledger_torn_write", "ledger_after_sync", "delta_before_commit"])
def test_out_of_order_killed_and_started_again(p, point):
    p.service.slow_s = 0.02
    rows = sales([k % 200 for k in range(4000)])
    p.feed("landing/a.jsonl", rows)
    p.project.write("rules/r.lua", UNORDERED)
    outcome = p.project.weir("run", "pipelines/p.lua", "--until-end", env={**p.env, "WEIR_FAULT": f"{point}:2:kill"})
    assert outcome.code == -signal.SIGKILL, outcome
    p.run()
    assert sorted(p.rows("silver/sale", "id", "tier")) == [(row["id"], tier(row["customer_id"])) for row in rows]
    assert sorted(n for (n,) in p.rows("gold/tier", "n")) == expected_windows(rows)


EXPLODED = f"""return stream "silver.line" {{ from = "bronze.basket", explode = {{ customer_id = "lines" }},
  expectations = {{ expect "small" {{ function(e) return e.customer_id < 990 end }} }}, time = {{ field = "at" }}, dedup = {{ by = {{ "id", "customer_id" }}, within = "24h" }},
  join = {{ customer = async_lookup(env "CRM" .. "/c/{{customer_id}}") {{ {COLUMNS}, %s }} }}, {OUT} }}"""


@pytest.mark.parametrize("options", ['kind = "left"', 'kind = "left", ordered = false'])
def test_beside_explode(p, options):
    p.service.slow_s = 0.01
    baskets = [{"id": n, "at": at(n), "lines": [n % 40, n % 40, (n * 7) % 1000] if n % 5 else []} for n in range(400)]
    p.feed("basket/a.jsonl", baskets)
    p.project.write("rules/r.lua", EXPLODED % options)
    p.run()
    want = sorted({(b["id"], k) for b in baskets for k in b["lines"] if k < 990})
    assert sorted(p.rows("silver/line", "id", "customer_id", "tier")) == [(n, k, tier(k)) for n, k in want]
    counts = p.summary["datasets"]["silver.line"]
    assert counts["rejected"].get("small", 0) == sum(k >= 990 for b in baskets for k in b["lines"])
    assert counts["duplicates"] == sum(k < 990 for b in baskets for k in b["lines"]) - len(want)
    p.replay_all()


CHAIN = f"""return {{
  stream "silver.owner" {{ from = "bronze.owner", key = "customer_id", into = none }},
  stream "silver.call" {{ from = "bronze.call", time = {{ field = "called_at" }}, into = none }},
  stream "silver.sale" {{ from = "bronze.sale", time = {{ field = "at" }},
    join = {{
      own = lookup "silver.owner" {{ on = "customer_id", kind = "left" }},
      customer = async_lookup(env "CRM" .. "/c/{{owner_id}}") {{ {COLUMNS}, kind = "left" %s }},
      other = async_lookup(env "CRM" .. "/c/{{customer_id}}") {{ {COLUMNS}, kind = "left" %s }},
      call = interval_join "silver.call" {{ on = {{ {{ ["customer.score"] = "score" }} }}, between = {{ "-1h", "1h" }}, kind = "left" }},
      again = async_lookup(env "CRM" .. "/c/{{call_id}}") {{ {COLUMNS}, kind = "left" %s }},
    }},
    columns = {{ owner = "int64", tier = "string", mine = "string", call = "int64", last = "string" }},
    map = function(e, out, j)
      out.owner, out.tier, out.call = j.own and j.own.owner_id, j.customer and j.customer.tier, j.call and j.call.call_id
      out.mine, out.last = j.other and j.other.tier, j.again and j.again.tier
    end }},
}}"""


@pytest.mark.parametrize("first, last", [("", ""), ("", ", ordered = false")])
def test_in_written_order_by_what_was_found_before(p, first, last):
    p.service.slow_s = 0.01
    rows = sales([k % 100 for k in range(600)])
    p.feed("landing/a.jsonl", rows)
    p.feed("owner/a.jsonl", [{"customer_id": k, "owner_id": k + 1} for k in range(90)])
    p.feed("call/a.jsonl", [{"call_id": k, "score": 3 * k, "called_at": at(k)} for k in range(50)])
    text = CHAIN.replace('{ { ["customer.score"] = "score" } }', '{ ["customer.score"] = "score" }') % (first, first, last)
    p.project.write("rules/r.lua", text)
    p.run()

    def want(row):
        key = row["customer_id"]
        owner = key + 1 if key < 90 else None
        call = owner if owner is not None and owner < 50 else None
        return row["id"], owner, tier(owner), tier(key), call, tier(call)
    assert sorted(p.rows("silver/sale", "id", "owner", "tier", "mine", "call", "last")) == [want(row) for row in rows]
    p.replay_all()


def stream(options, more="", url='env "CRM" .. "/c/{customer_id}"'):
    return f'return stream "silver.sale" {{ from = "bronze.sale", {more} join = {{ customer = async_lookup({url}) {{ {COLUMNS}, {options} }} }}, {OUT} }}'


@pytest.mark.parametrize("text, message, where", [
    (stream('ordered = "no"'), "ordered", '"no"'),
    (stream("ordered = false", 'key = "id",'), "of the rows of a key the newest counts", "customer = async"),
    ("return { stream \"silver.owner\" { from = \"bronze.owner\", key = \"customer_id\" }, " + stream("ordered = false", url='env "CRM" .. "/c/{owner_id}"').replace(
        "return ", "").replace("join = {", 'join = { own = lookup "silver.owner" { on = "customer_id" },') + " }",
     "`owner_id` is what `own` finds", "async_lookup"),
])
def test_refused(p, text, message, where):
    p.project.write("rules/r.lua", text)
    outcome = p.project.weir("check", "pipelines/p.lua", env=p.env)
    assert outcome.code == 1 and message in outcome.err + outcome.out, outcome
    assert f"{place(text, where, 'rules/r.lua')}: error: " in outcome.err + outcome.out, outcome


def test_an_element_of_rows_that_another_stream_chose(project):
    """Pieces are rows of their own, whichever rows they came from."""
    p = Project(project, type("None_", (), {"url": "http://127.0.0.1:9"}))
    baskets = [{"id": n, "at": at(n), "lines": [n, n + 1, n + 2]} for n in range(300)]
    p.feed("basket/a.jsonl", baskets)
    project.write("rules/r.lua", """return {
      stream "silver.some" { from = "bronze.basket", where = function(e) return e.id % 3 == 1 end, into = none },
      stream "silver.line" { from = "silver.some", explode = { customer_id = "lines" },
        expectations = { expect "odd" { function(e) return e.customer_id % 2 == 1 end } } },
    }""")
    p.run()
    assert sorted(p.rows("silver/line", "id", "customer_id")) == [(n, n + k) for n in range(300) if n % 3 == 1 for k in range(3) if (n + k) % 2 == 1]
