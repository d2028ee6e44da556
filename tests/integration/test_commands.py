"""Commands: a request waits for what the rules make of it, is recorded once, and hears the same reply again."""

import json
import threading
import time

import pytest
from test_http import JSON, Web, free_port
import language

COLUMNS = {"account": "string!", "kind": "string!", "amount": "long!", "expected_version": "long"}
PIPELINE = """return pipeline "p" {
  rules   = "rules",
  storage = delta { root = "lake" },
  commit  = { every = "@EVERY@" },
  serve   = { http = { port = env "PORT" } },
  sources = { source "bronze.command" { http { path = "/command", reply = true, @HTTP@ }, json { schema = "schemas/command.avsc" } } },
}
"""
STREAM = """return stream "silver.command" { from = "bronze.command",
  expectations = { expect "amount is positive" { between("amount", 1, 1000000000) } },
}
"""
RULE = """return rule "bank.account" {
  on = "silver.command", key = "account", order = "arrival", expects = "expected_version",
  emits = { ["bank.entry"] = { account = "string", delta = "int64", balance = "int64" } },
  state = { balance = counter() },
  process = function(e, s, p, emit)
    local delta = e.kind == "deposit" and e.amount or -e.amount
    local balance = s.balance:add(delta)
    emit("bank.entry", { account = e.account, delta = delta, balance = balance })
    if balance < 0 then return reject "insufficient funds" end
  end,
}
"""


class Bank(Web):
    def __init__(self, project, http="", every="10s", rule=RULE, stream=STREAM):
        self.project, self.port, self.process, self.env = project, free_port(), None, {}
        project.write("schemas/command.avsc", language.schema(COLUMNS))
        project.write("pipelines/p.lua", PIPELINE.replace("@HTTP@", http).replace("@EVERY@", every))
        project.write("rules/command.lua", stream)
        project.write("rules/account.lua", rule)

    def command(self, kind, amount, account="a", key=None, expected=None):
        body = {"account": account, "kind": kind, "amount": amount, "expected_version": expected}
        return self.send(body, {**JSON, **({"Idempotency-Key": key} if key else {})}, path="/command")

    def entries(self):
        return sorted(self.rows("bank.entry"), key=lambda row: (row["account"], row["balance"]))


@pytest.fixture
def bank(project):
    made = []

    def make(**options):
        made.append(Bank(project, **options))
        return made[-1]

    yield make
    for one in made:
        if one.process and one.process.poll() is None:
            one.kill()


def test_a_command_is_answered_with_what_it_emits_and_recorded_before(bank):
    b = bank().start()
    answer = b.command("deposit", 100)
    assert answer.status == 200, answer
    assert answer.json() == {"event": 1, "version": 1, "emitted": {"bank.entry": [{"account": "a", "delta": 100, "balance": 100}]}}
    assert b.command("withdraw", 30).json()["emitted"]["bank.entry"][0]["balance"] == 70
    b.kill()  # what was answered is recorded
    b.drain()
    assert [row["balance"] for row in b.entries()] == [70, 100]


def test_what_is_called_like_a_change_is_data_where_nothing_is_merged(bank):
    """Rows go into the record together here, and none of them takes others away."""
    b = bank(stream=STREAM.replace("return stream", "return { stream") + """, stream "silver.log" {
  from = "bronze.command", columns = { account = "string", _change = "int64" }, map = function(e, out) out.account, out._change = e.account, e.amount end } }
""").start()
    for amount in (5, 3, 4, 1):  # 4 would empty a table that is merged
        assert b.command("deposit", amount).status == 200
    b.stop()
    b.drain()
    assert sorted(row["_change"] for row in b.rows("silver.log")) == [1, 3, 4, 5]


def test_a_refused_command_says_who_refused_it_and_leaves_no_trace(bank):
    b = bank().start()
    poor = b.command("withdraw", 5)
    assert poor.status == 422
    assert poor.json() == {"event": 1, "rejected": [{"dataset": "bank.account", "expectation": "reject", "error": "insufficient funds"}]}
    none = b.command("deposit", 0)
    assert none.status == 422 and none.json()["rejected"][0]["expectation"] == "amount is positive", none
    assert none.json()["rejected"][0]["dataset"] == "silver.command"
    bad = b.send({"account": "a", "kind": 7}, path="/command")
    assert bad.status == 422 and bad.json()["rejected"][0] == {
        "dataset": "bronze.command", "expectation": "decode", "error": bad.json()["rejected"][0]["error"]}, bad
    assert b.command("deposit", 5).json()["version"] == 1, "what was refused made no version"
    b.stop()
    b.drain()
    assert [row["balance"] for row in b.entries()] == [5]
    refused = b.rows("quarantine.bank.account")
    assert [row["_reasons"][0]["error"] for row in refused] == ["insufficient funds"]


def test_another_version_than_expected_is_a_conflict_that_names_the_actual_one(bank):
    b = bank().start()
    assert b.command("deposit", 1, expected=0).status == 200
    assert b.command("deposit", 1, expected=1).json()["version"] == 2
    late = b.command("deposit", 1, expected=1)
    assert late.status == 409
    assert late.json() == {"event": 3, "version": 2, "rejected": [{"dataset": "bank.account", "expectation": "version", "error": "the version is 2, not 1"}]}
    assert b.command("deposit", 1, account="b", expected=0).status == 200, "each key has its own"
    assert b.command("deposit", 1, expected=2).json()["version"] == 3


def test_a_repeated_command_hears_the_same_reply_also_after_a_crash(bank):
    b = bank().start()
    first = b.command("deposit", 100, key="k1")
    refused = b.command("withdraw", 500, key="k2")
    b.command("deposit", 1000)
    assert (b.command("withdraw", 500, key="k2").status, b.command("withdraw", 500, key="k2").body) == (422, refused.body)
    b.kill()
    b.start()
    assert b.command("deposit", 100, key="k1").body == first.body
    assert b.command("withdraw", 500, key="k2").body == refused.body
    assert b.command("deposit", 7, key="k1").status == 422, "the key came with another body"
    got = b.send(None, method="GET", path="/command/1")
    assert got.status == 200 and got.body == first.body
    assert b.send(None, method="GET", path="/command/99").status == 404
    assert b.command("deposit", 1).json()["emitted"]["bank.entry"][0]["balance"] == 1101, "carried out once"


def test_a_request_is_one_command(bank):
    b = bank().start()
    both = b.send([{"account": "a", "kind": "deposit", "amount": 1}] * 2, path="/command")
    assert both.status == 400 and "one command" in both.message


def test_a_command_does_not_wait_for_the_end_of_the_epoch(bank):
    b = bank(every="1h").start()
    for n in range(20):
        assert b.command("deposit", 1).json()["event"] == n + 1
    wanted = ('weir_reply_seconds_count{source="bronze.command"} 20', "weir_commands_total 20", 'weir_replies_kept{dataset="bronze.command"} 20',
              "weir_snapshots_total", "weir_recovery_seconds", 'weir_sink_lag_seconds{dataset="bank.entry"}')

    def told():
        metrics = b.send(None, method="GET", path="/metrics").body.decode()
        return all(line in metrics for line in wanted)

    b.wait(told)


def test_a_reply_that_is_there_at_once_is_timed_as_others_are(bank):
    b = bank().start()
    for _ in range(3):
        assert b.command("deposit", 1, key="k").status == 200
    metrics = b.send(None, method="GET", path="/metrics").body.decode()
    assert 'weir_reply_seconds_count{source="bronze.command"} 3' in metrics, [line for line in metrics.split("\n") if "reply_seconds" in line]


def test_a_reply_that_does_not_come_in_time_says_where_to_look(bank, project):
    slow = RULE.replace("local delta", "local x = 0 for i = 1, 4e8 do x = x + i % 7 end local delta")
    b = bank(http='reply_timeout = "1ms"', rule=slow).start()
    late = b.command("deposit", 5, key="k")
    assert late.status == 504 and "event 1 of bronze.command" in late.message and "/command/1" in late.message, late
    b.wait(lambda: b.send(None, method="GET", path="/command/1").status != 202)


def test_a_stream_replies_with_its_row_and_a_model_with_its_keys(bank, project):
    b = bank(rule="""return model "gold.total" { from = "silver.command", by = { "account" }, measures = { n = count(), total = sum "amount" }, into = none }""")
    b.start()
    b.command("deposit", 5)
    again = b.command("deposit", 6).json()["emitted"]["gold.total"]
    assert [(row["account"], row["n"], row["total"]) for row in again] == [("a", 2, 11)]


def test_a_rule_that_waits_for_the_watermark_cannot_answer_commands(bank):
    b = bank(rule=RULE.replace('order = "arrival", ', ""))
    done = b.project.weir("check", "pipelines/p.lua", env={"PORT": "0"})
    said = done.out + done.err
    assert done.code == 1 and "commands of silver.command" in said and 'order = "arrival"' in said, said


def test_killed_in_the_middle_no_acknowledged_command_is_lost_or_doubled(bank):
    b = bank().start()
    replies, lock, stop = {}, threading.Lock(), threading.Event()

    def client(number):
        for n in range(10000):
            key = f"{number}-{n}"
            while key not in replies:
                if stop.is_set():
                    return
                try:
                    answer = b.command("deposit", 1, account=f"c{number}", key=key)
                except OSError:
                    time.sleep(0.02)
                    continue
                assert answer.status in (200, 503, 504), answer
                if answer.status == 200:
                    with lock:
                        replies[key] = answer.json()

    threads = [threading.Thread(target=client, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for kill in range(3):
        before = len(replies)
        b.wait(lambda: len(replies) > before + 25)
        b.kill()
        b.start()
    before = len(replies)
    b.wait(lambda: len(replies) > before + 5)
    stop.set()
    for thread in threads:
        thread.join()
    b.stop()
    b.drain()
    for number in range(4):
        mine = sorted((reply["emitted"]["bank.entry"][0]["balance"] for key, reply in replies.items() if key.startswith(f"{number}-")))
        assert mine == list(range(1, len(mine) + 1)), "each once, in order"
        kept = sorted(row["balance"] for row in b.entries() if row["account"] == f"c{number}")
        assert kept[: len(mine)] == mine and len(kept) <= len(mine) + 1
