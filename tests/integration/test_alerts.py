"""Alerts of expect_over, POSTed by a webhook: at least once, tried again, given up, and never in anybody's way."""

import http.server
import json
import signal
import threading

import pytest

import language
from language import place

PIPELINE = """return pipeline "shop" {
  rules = "rules", storage = delta { root = "lake" }, commit = { every = "20ms" },
  alerts = { ["teams:retail"] = webhook { url = env "HOOK", token = env "TOKEN", retry_for = "%s" } },
  sources = { source "bronze.sale" { files { path = "landing/*.jsonl" }, json { schema = "schemas/sale.avsc" }, into = none } },
}
"""
STREAM = 'return stream "silver.sale" { from = "bronze.sale", time = { field = "at" } }'
QUALITY = """return quality "silver.sale" {
  expect_over "few sold" { tumbling "1m", measures = { n = count() }, function(m) return m.n <= 2 end, alert = "teams:retail" },
  expect_over "unsent" { tumbling "1m", measures = { n = count() }, function(m) return m.n <= 2 end },
}"""


class Hook:
    def __init__(self):
        self.bodies, self.headers, self.paths, self.statuses = [], [], [], []
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = hook.statuses.pop(0) if hook.statuses else 200
                hook.headers.append(dict(self.headers))
                hook.paths.append(self.path)
                if status == 200:
                    hook.bodies.append(json.loads(body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook/s3cret"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hook():
    hook = Hook()
    yield hook
    hook.stop()


@pytest.fixture
def shop(project):
    project.write("pipelines/p.lua", PIPELINE % "10s")
    project.write("rules/sale.lua", STREAM)
    project.write("rules/quality.lua", QUALITY)
    project.write("schemas/sale.avsc", language.schema({"id": "long!", "at": "timestamp"}))
    rows = [(minute, n) for minute in range(10) for n in range(3 if minute % 2 else 2)]
    project.write("landing/a.jsonl", "".join(json.dumps({"id": n, "at": f"2026-01-05T10:{minute:02}:{n:02}Z"}) + "\n" for minute, n in rows))
    return project


def starts(hook):
    return sorted(body["row"]["window_start"] for body in hook.bodies)


WANTED = [f"2026-01-05T10:{minute:02}:00Z" for minute in range(1, 10, 2)]


def test_a_row_that_breaks_it_is_posted(shop, hook):
    summary = shop.run("pipelines/p.lua", env={"HOOK": hook.url, "TOKEN": "t0ken"})
    assert starts(hook) == WANTED and summary["figures"]["alerts_sent"] == 5 and summary["figures"]["alerts_failed"] == 0
    body = hook.bodies[0]
    assert body["pipeline"] == "shop" and body["dataset"] == "quality.silver.sale.few_sold.alert" and body["row"]["n"] == 3
    assert body["text"].startswith("shop: quality.silver.sale.few_sold.alert: {") and '"alert":"teams:retail"' in body["text"]
    assert len({headers["Idempotency-Key"] for headers in hook.headers}) == 5
    assert set(hook.paths) == {"/hook/s3cret"} and hook.headers[0]["Authorization"] == "Bearer t0ken"
    written = b"".join(path.read_bytes() for path in shop.root.rglob("*") if path.is_file())
    assert b"s3cret" not in written and b"t0ken" not in written
    shop.run("pipelines/p.lua", env={"HOOK": hook.url, "TOKEN": "t0ken"})  # and once
    assert len(hook.bodies) == 5


def test_one_that_does_not_get_through_is_tried_again(shop, hook):
    hook.statuses = [503, 503, 200, 503]
    summary = shop.run("pipelines/p.lua", env={"HOOK": hook.url, "TOKEN": "t0ken"})
    assert starts(hook) == WANTED and summary["figures"]["alerts_sent"] == 5 and summary["figures"]["alerts_failed"] == 0


def test_one_that_is_refused_is_given_up_and_counted(shop, hook):
    hook.statuses = [400]
    summary = shop.run("pipelines/p.lua", env={"HOOK": hook.url, "TOKEN": "t0ken"})
    assert len(hook.bodies) == 4 and summary["figures"]["alerts_sent"] == 4 and summary["figures"]["alerts_failed"] == 1
    assert summary["datasets"]["quality.silver.sale.few_sold"]["out"] == 5  # the table has all


def test_a_service_that_is_gone_stops_nothing(shop):
    shop.write("pipelines/p.lua", PIPELINE % "100ms")
    outcome = shop.weir("run", "pipelines/p.lua", "--until-end", "--json", env={"HOOK": "http://127.0.0.1:9/s3cret", "TOKEN": "t"})
    assert outcome.code == 0, outcome
    summary = json.loads(outcome.out.strip().splitlines()[-1])
    assert summary["figures"]["alerts_failed"] == 5 and summary["datasets"]["silver.sale"]["out"] == 25
    assert "was not sent and is given up" in outcome.err and "s3cret" not in outcome.err


@pytest.mark.parametrize("point", ["ledger_after_sync", "epoch_sealed", "sink_file_written"])
def test_killed_it_is_sent_at_least_once(shop, hook, point):
    env = {"HOOK": hook.url, "TOKEN": "t0ken"}
    outcome = shop.weir("run", "pipelines/p.lua", "--until-end", env={**env, "WEIR_FAULT": f"{point}:1:kill"})
    assert outcome.code == -signal.SIGKILL, outcome
    shop.run("pipelines/p.lua", env=env)
    assert sorted(set(starts(hook))) == WANTED


def test_an_alert_whose_channel_is_gone_from_the_rules_is_not_in_the_way(shop, hook):
    outcome = shop.weir("run", "pipelines/p.lua", "--until-end", env={"HOOK": hook.url, "TOKEN": "t0ken", "WEIR_FAULT": "ledger_after_sync:1:kill"})
    assert outcome.code == -signal.SIGKILL, outcome
    sent = len(hook.bodies)
    shop.write("rules/quality.lua", 'return quality "silver.sale" { expect "has an id" { not_null "id" } }')
    shop.run("pipelines/p.lua", env={"HOOK": hook.url, "TOKEN": "t0ken"})
    assert len(hook.bodies) == sent


def test_many_rows_of_one_epoch_are_a_few_messages(shop, hook):
    shop.write("rules/all.lua", 'return stream "gold.all" { from = "bronze.sale", into = webhook { url = env "HOOK" } }')
    shop.write("rules/quality.lua", "return {}")
    shop.write("landing/a.jsonl", "".join(json.dumps({"id": n, "at": "2026-01-05T10:00:00Z"}) + "\n" for n in range(500)))
    shop.run("pipelines/p.lua", "--set", "commit.every=60s", env={"HOOK": hook.url, "TOKEN": "t0ken"})
    assert [body["row"]["id"] for body in hook.bodies[:-1]] == list(range(100)) and "and 400 rows more" in hook.bodies[-1]["text"]


@pytest.mark.parametrize("alerts, quality, message, where", [
    (None, QUALITY.replace("teams:retail", "teams:retial"), 'no channel "teams:retial"', ""),
    ('["teams:retail"] = webhook { url = "http://x/s3cret" }', QUALITY, "url", '"http://x'),
    ('["teams:retail"] = "http://x"', QUALITY, "webhook", '"http://x"'),
])
def test_refused(shop, alerts, quality, message, where):
    if alerts:
        shop.write("pipelines/p.lua", PIPELINE.replace('["teams:retail"] = webhook { url = env "HOOK", token = env "TOKEN", retry_for = "%s" }', alerts))
    shop.write("rules/quality.lua", quality)
    outcome = shop.weir("check", "pipelines/p.lua", env={"HOOK": "http://127.0.0.1:9", "TOKEN": "t"})
    assert outcome.code == 1 and message in outcome.err + outcome.out, outcome


def test_a_missing_address_is_the_environments_fault(shop):
    outcome = shop.weir("run", "pipelines/p.lua", "--until-end", env={"TOKEN": "t"})
    assert outcome.code == 3 and "HOOK" in outcome.err, outcome
