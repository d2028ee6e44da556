"""async_lookup: what an HTTP service says of a key."""

import json
import signal
import time

import customers
import lake
import language
import pytest
from language import D, place

PIPELINE = """return pipeline "p" {
  rules = "rules", storage = delta { root = "lake" }, commit = { every = "20ms" }, ledger = { keep = "1h" },
  sources = { source "bronze.sale" { files { path = "landing/*.jsonl" }, json { schema = "schemas/sale.avsc" }, into = none } },
}
"""
SALE = {"id": "long!", "customer_id": "long", "at": "timestamp"}
COLUMNS = 'columns = { tier = "string", score = "int32", limit = "decimal(10,2)" }'
BODY = 'columns = { tier = "string", limit = "decimal(10,2)" }, map = function(e, out, j) local c = j.customer if c then out.tier, out.limit = c.tier, c.limit end end'


@pytest.fixture
def service():
    service = customers.Customers()
    yield service
    service.stop()


def rule(options="", url='env "CRM" .. "/c/{customer_id}"', body=BODY, where=""):
    return f'return stream "silver.sale" {{ from = "bronze.sale", {where} join = {{ customer = async_lookup({url}) {{ {COLUMNS}, {options} }} }}, {body} }}'


class Sales:
    def __init__(self, project, service, text, keys):
        self.project, self.service = project, service
        self.env = {"CRM": service.url, "CRM_TOKEN": "s3cret"}
        project.write("schemas/sale.avsc", language.schema(SALE))
        project.write("pipelines/p.lua", PIPELINE)
        project.write("rules/r0.lua", text)
        self.feed(keys)

    def feed(self, keys, name="a.jsonl"):
        self.project.write(f"landing/{name}", "".join(json.dumps({"id": n, "customer_id": key}) + "\n" for n, key in enumerate(keys)))

    def run(self, *arguments):
        self.summary = self.project.run("pipelines/p.lua", *arguments, env=self.env)
        self.counts = self.summary["datasets"]["silver.sale"]
        return self

    def rows(self, *columns, name="silver/sale"):
        return lake.rows_of(lake.by_deltalake(self.project.root / "lake" / name), columns)


def test_each_key_is_asked_for_once(project, service):
    service.delay_s = 0.002
    keys = [k % 100 for k in range(3000)] + [None, 5000]
    sales = Sales(project, service, rule('kind = "left", cache = "1h"'), keys).run()
    want = [(n, None if k is None or k > 1000 else ["gold", "iron"][k % 2]) for n, k in enumerate(keys)]
    assert sorted(sales.rows("id", "tier")) == want
    assert (D("12.50"),) in sales.rows("limit")
    assert sorted(service.asked, key=int) == sorted([str(k) for k in range(100)] + ["5000"], key=int)
    assert 1 < service.most_at_once <= 16


def test_a_rule_that_changes_keeps_its_answers(project, service):
    sales = Sales(project, service, rule('kind = "left", cache = "1h"'), [1, 2])
    process = project.start("run", "pipelines/p.lua", env=sales.env)
    try:
        wait_for(lambda: len(sales.rows("id")) == 2)
        wait_for(lambda: status(sales) == {"keys": 2, "requests": 2, "failed": 0, "retries": 0, "cached": 2, "in_flight": 0, "waiting": 0, "open": False})
        project.write("rules/r0.lua", rule('kind = "left", cache = "1h"').replace("c.tier,", 'c.tier .. "!",'))
        for number in range(600):  # rows come until the changed rule has met some
            sales.feed([1, 2], f"b{number:03}.jsonl")
            wait_for(lambda number=number: len(sales.rows("id")) == 2 * number + 4)
            if ("iron!",) in sales.rows("tier"):
                break
        assert ("gold!",) in sales.rows("tier")
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert sorted(service.asked) == ["1", "2"] and process.returncode == 0


def status(sales):
    return json.loads(sales.project.weir("status", "pipelines/p.lua", "--json", env=sales.env).out)["lookups"]["silver.sale/customer"]


def wait_for(holds, timeout=60):
    deadline = time.monotonic() + timeout
    while True:
        try:
            if holds():
                return
        except Exception:  # the table is not there yet
            pass
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_keys_are_asked_for_together(project, service):
    sales = Sales(project, service, rule('on = "customer_id", batch = 50', 'env "CRM" .. "/many"'), list(range(990, 1020)) * 10).run()
    assert sales.counts["out"] == 110 and sales.counts["rejected"] == {"unmatched": 190}
    # One, or what a busy machine cuts a batch into, or asks again since the answer took its time.
    assert service.requests < 15 and len(set(service.asked)) == 30


def test_answers_of_many_keys_hold_any_text(project, service):
    service.tiers = ['a "}" quoted, one', "a } brace \\"]
    sales = Sales(project, service, rule('on = "customer_id", batch = 50', 'env "CRM" .. "/many"'), range(20)).run()
    assert sorted(sales.rows("id", "tier")) == [(n, service.tiers[n % 2]) for n in range(20)]


def test_only_rows_that_where_keeps_are_asked_for(project, service):
    sales = Sales(project, service, rule(where="where = function(e) return e.customer_id < 3 end,"), range(10)).run()
    assert sales.counts["out"] == 3 and sorted(service.asked) == ["0", "1", "2"]


def test_a_failure_that_passes_is_tried_again(project, service):
    service.fail_first = {"1": 2, "2": 5}
    sales = Sales(project, service, rule('retries = 3, backoff = "1ms"'), [1, 2, 3]).run()
    assert [row[0] for row in sales.rows("id")] == [0, 2]
    rejected = lake.by_deltalake(project.root / "lake/quarantine/silver/sale").to_pylist()
    assert [(row["customer_id"], row["_reasons"]) for row in rejected] == [(2, [{"expectation": "lookup", "error": "customer: HTTP 503"}])]
    assert service.asked.count("1") == 3 and service.asked.count("2") == 4


def test_a_fallback_stands_in_for_a_service_that_is_down(project, service):
    service.down = True
    sales = Sales(project, service, rule('retries = 0, breaker = 3, in_flight = 1, fallback = { tier = "unknown", limit = 1 }'), range(40)).run()
    assert set(sales.rows("tier", "limit")) == {("unknown", D("1.00"))} and sales.counts["out"] == 40
    assert service.requests == 3  # then the circuit is open


def test_an_answer_in_time_or_none(project, service):
    service.delay_s = 3
    sales = Sales(project, service, rule('retries = 0, timeout = "100ms"'), [1]).run()
    reasons = sales.rows("_reasons", name="quarantine/silver/sale")
    assert "imeout" in str(reasons), reasons


def test_an_answer_that_does_not_fit_and_a_default(project, service):
    service.row = lambda key: {"tier": "gold", "score": "many"} if key == "1" else None
    sales = Sales(project, service, rule('kind = "left", default = { tier = "none", limit = 0 }'), [1, 2]).run()
    assert sales.rows("id", "tier", "limit") == [(1, "none", D("0.00"))]
    assert "the answer does not fit: score" in str(sales.rows("_reasons", name="quarantine/silver/sale"))


def test_a_token_is_sent_and_written_nowhere(project, service):
    sales = Sales(project, service, rule('token = env "CRM_TOKEN", headers = { ["X-Team"] = "retail" }'), [1]).run()
    assert service.headers[0]["Authorization"] == "Bearer s3cret" and service.headers[0]["X-Team"] == "retail"
    written = b"".join(path.read_bytes() for path in project.root.rglob("*") if path.is_file())
    assert b"s3cret" not in written and sales.counts["out"] == 1


def test_a_rate_is_kept(project, service):
    sales = Sales(project, service, rule("rate = 50"), range(100))
    start = time.monotonic()
    sales.run()
    assert time.monotonic() - start > 0.8 and service.requests == 100


def test_nobody_is_asked_twice_after_a_crash_nor_in_replay(project, service):
    """Killed when the record is durable: the answers are in it."""
    keys = [k % 300 for k in range(2000)]
    sales = Sales(project, service, rule('cache = "1h"'), keys)
    outcome = project.weir("run", "pipelines/p.lua", "--until-end", "--set", "commit.every=60s",  # one epoch
                           env={**sales.env, "WEIR_FAULT": "ledger_after_sync:1:kill"})
    assert outcome.code == -signal.SIGKILL, outcome
    asked = len(service.asked)
    sales.feed(keys, "b.jsonl")
    sales.run()
    assert len(service.asked) == asked == 300 and len(sales.rows("id")) == 4000
    service.down = True
    for epoch in range(1, sales.summary["epochs"] + 2):
        outcome = project.weir("replay", "pipelines/p.lua", "--epoch", str(epoch), env=sales.env)
        assert outcome.code == 0 and "the same outputs and state" in outcome.out or "the ledger holds" in outcome.err, outcome
    assert len(service.asked) == asked


@pytest.mark.parametrize("point", ["epoch_sealed", "sink_file_written", "ledger_torn_write", "delta_before_commit"])
def test_killed_and_started_again_loses_and_doubles_nothing(project, service, point):
    keys = [k % 200 for k in range(20_000)]
    sales = Sales(project, service, rule('kind = "left", cache = "1h"'), keys)
    outcome = project.weir("run", "pipelines/p.lua", "--until-end", env={**sales.env, "WEIR_FAULT": f"{point}:1:kill"})
    assert outcome.code == -signal.SIGKILL, outcome
    sales.run()
    assert sorted(sales.rows("id", "tier")) == [(n, ["gold", "iron"][k % 2]) for n, k in enumerate(keys)]


def test_too_many_answers_are_forgotten_the_oldest_first(project, service):
    sales = Sales(project, service, rule('cache = "1h", cache_size = 10'), range(100)).run()
    sales.feed([99, 98, 0], "b.jsonl")
    sales.run()
    sales.feed([99, 0], "c.jsonl")
    sales.run()
    assert len(sales.rows("id")) == 105 and service.asked.count("99") == 1 and service.asked.count("0") == 2


@pytest.mark.parametrize("text, message, where", [
    (rule(url='"crm/{customer_id}"'), "takes the address of a service", "async_lookup"),
    (rule(url='"http://crm/{customer}"'), "no column `customer`", "async_lookup"),
    (rule(url='"http://crm/all"'), "asks by no column", "async_lookup"),
    (rule("batch = 10"), "stand in the request's body", "10 }"),
    (rule("batch = 0"), "batch is a whole number from 1 to 1000", "0 }"),
    (rule('on = "at"'), "a service is asked by texts", '"at"'),
    (rule('timeout = "soon"'), "timeout takes a duration", '"soon"'),
    (rule('fallback = { colour = "red" }'), "has no column `colour`", "colour"),
    (rule('token = "abc"'), "token takes env", '"abc"'),
    (rule("ttl = 1"), "async_lookup has no option `ttl`", "ttl"),
    (rule(body=BODY.replace("c.tier", "j.customer.teer")), "has no column `teer`", "teer"),
])
def test_refused(project, service, text, message, where):
    sales = Sales(project, service, text, [])
    outcome = project.weir("check", "pipelines/p.lua", env=sales.env)
    assert outcome.code == 1 and message in outcome.err + outcome.out, outcome
    assert f"{place(text, where)}: error: " in outcome.err + outcome.out, outcome
    assert service.requests == 0


SPEC = """local testing = require "weir.testing"
describe("silver.sale", function()
  it("takes what is answered", function()
    local sales = testing.load "silver.sale"
    sales:answer("customer", { customer_id = 1 }, { tier = "gold", limit = "2.50" }):answer("customer", { customer_id = 2 }):fail("customer", { customer_id = 3 }, "HTTP 500")
    sales:feed({ id = 1, customer_id = 1 }, { id = 2, customer_id = 2 }, { id = 3, customer_id = 3 }, { id = 4, customer_id = 4 }):finish()
    assert.same({ { id = 1, tier = "gold", limit = "2.50" } }, sales:rows { "id", "tier", "limit" })
    assert.same({ "lookup" }, sales:rejected()[1].reasons)
    assert.same('customer: no answer is given for {"customer_id":4}', sales:rejected()[2]._reasons[1].error)
  end)
end)
"""


def test_a_spec_says_what_is_answered(project, service):
    Sales(project, service, rule(), [])
    project.write("spec/sale_spec.lua", SPEC)
    outcome = project.weir("test", env={"CRM": service.url})
    assert outcome.code == 0, outcome
    assert service.requests == 0
