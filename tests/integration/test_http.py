"""HTTP in: what the door answers, and that what it acknowledged is there once, whatever dies."""

import base64
import gzip
import hashlib
import hmac
import http.client
import io
import json
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time

import fastavro
import lake
import language
import pytest

COLUMNS = {"id": "long!", "name": "string"}
PIPELINE = """return pipeline "p" {
  rules   = "rules",
  storage = delta { root = "lake" },
  commit  = { every = "50ms" },
  serve   = { http = { port = env "PORT", @SERVE@ } },
  sources = { source "bronze.web" { http { path = "/in", @HTTP@ }, @DECODER@, into = none } },
}
"""
RULE = 'return stream "silver.web" { from = "bronze.web" }\n'
JSON = {"Content-Type": "application/json"}
LINES = {"Content-Type": "application/x-ndjson"}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def tool(binary, name):
    path = pathlib.Path(binary).resolve().parent / "tools" / name
    if not path.exists():
        pytest.skip(f"{path} is not built (make build)")
    return path


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self):
        return json.loads(self.body)

    @property
    def message(self):
        return self.json()["error"]["message"]

    def __repr__(self):
        return f"{self.status} {self.body!r}"


class Web:
    """A project that takes requests, running or not."""

    def __init__(self, project, http="", serve="", columns=None, decoder='json { schema = "schemas/web.avsc" }', env=None):
        self.project, self.port, self.process, self.env = project, free_port(), None, env or {}
        project.write("schemas/web.avsc", language.schema(columns or COLUMNS))
        project.write("rules/web.lua", RULE)
        project.write("pipelines/p.lua", PIPELINE.replace("@HTTP@", http).replace("@SERVE@", serve).replace("@DECODER@", decoder))

    def start(self, **env):
        self.process = self.project.start("run", "pipelines/p.lua", "--json", "--quiet", env={**self.env, **env, "PORT": str(self.port)})
        give_up = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                assert self.process.poll() is None, self.process.communicate()
                assert time.monotonic() < give_up
                time.sleep(0.02)

    def kill(self):
        self.process.kill()
        return self.process.communicate(timeout=60)

    def stop(self):
        self.process.terminate()
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, (out, err)
        return out, err

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def send(self, body, headers=JSON, method="POST", path="/in"):
        c = self.connection()
        try:
            c.request(method, path, body if isinstance(body, (bytes, str, type(None))) else json.dumps(body), headers)
            return Answer(c.getresponse())
        finally:
            c.close()

    def raw(self, data, seconds=20):
        with socket.create_connection(("127.0.0.1", self.port), seconds) as s:
            s.sendall(data)
            received = b""
            try:
                while part := s.recv(65536):
                    received += part
            except socket.timeout:
                pass
            return received

    def drain(self):
        """Everything the log holds, read to its end by a bounded run."""
        return self.project.run("pipelines/p.lua", env={**self.env, "PORT": str(self.port)})

    def rows(self, name="silver.web"):
        path = self.project.root / "lake" / name.replace(".", "/")
        return lake.by_deltalake(path).to_pylist() if (path / "_delta_log").exists() else []

    def ids(self):
        return sorted(row["id"] for row in self.rows())

    def status(self):
        path = self.project.root / "lake/_weir/p/ledger/status.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def wait(self, check, seconds=60, pause=0.05):
        give_up = time.monotonic() + seconds
        while not check():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < give_up
            time.sleep(pause)

    def kill_when_kept(self, size, client):
        """In the middle of a storm: once its log has so many bytes."""
        folder = self.project.root / "lake/_weir/p/ledger/http/bronze.web"
        self.wait(lambda: sum(path.stat().st_size for path in folder.glob("*.log")) > size or not client.is_alive(), pause=0.001)
        self.kill()


@pytest.fixture
def web(project):
    made = []

    def make(*arguments, **options):
        made.append(Web(project, *arguments, **options))
        return made[-1]

    yield make
    for one in made:
        if one.process and one.process.poll() is None:
            one.kill()


# ------------------------------------------------------------------------- what is taken


def test_one_object_an_array_and_lines_become_rows(web):
    w = web().start()
    assert w.send({"id": 1, "name": "é\n"}).json() == {"accepted": 1, "first": 1}
    assert w.send('\ufeff [ {"id": 2},\n {"id": 3, "name": null} ] '.encode()).json() == {"accepted": 2, "first": 2}
    assert w.send('{"id": 4}\n\n{"id": 5}\r\n{"id": 6}', LINES).json() == {"accepted": 3, "first": 4}
    answer = w.send(gzip.compress(b'{"id": 7}'), {**JSON, "Content-Encoding": "gzip"})
    assert answer.status == 202
    w.stop()
    w.drain()
    assert w.ids() == [1, 2, 3, 4, 5, 6, 7]
    first = w.project.run("pipelines/p.lua", env={"PORT": "1"})
    assert first["events"] == 0, "a bounded run reads nothing twice"
    assert {row["name"] for row in w.rows() if row["id"] == 1} == {"é\n"}


def avro(*data):
    schema = fastavro.parse_schema({"type": "record", "name": "web", "fields": [
        {"name": "id", "type": "long"}, {"name": "name", "type": ["null", "string"], "default": None}]})
    out = io.BytesIO()
    for datum in data:
        fastavro.schemaless_writer(out, schema, datum)
    return out.getvalue()


def test_avro_bodies_of_one_event_and_of_several(web):
    kind = {"Content-Type": "avro/binary"}
    running = web(decoder='avro { schema = "schemas/web.avsc" }').start()
    assert running.send(avro({"id": 1, "name": None}), kind).status == 202
    assert running.send(avro(*({"id": n, "name": "é" * n} for n in range(2, 100))), kind).json() == {"accepted": 98, "first": 2}, "each has its number"
    assert running.send(gzip.compress(avro({"id": 100, "name": ""}, {"id": 101, "name": None})), {**kind, "Content-Encoding": "gzip"}).status == 202
    assert running.send(avro({"id": 200, "name": "x"}, {"id": 201, "name": "cut"})[:-1], kind).status == 202, "kept whole, and quarantined whole"
    assert running.send(b"", kind).status == 400
    running.wait(lambda: len(running.rows()) == 101 and len(running.rows("quarantine.bronze.web")) == 1)
    running.stop()
    assert running.ids() == list(range(1, 102))
    assert {row["id"]: row["name"] for row in running.rows()}[7] == "é" * 7


def test_msgpack_bodies_of_several_events(web):
    kind = {"Content-Type": "application/msgpack"}
    running = web(decoder='msgpack { schema = "schemas/web.avsc" }').start()
    one = lambda number: b"\x82\xa2id" + bytes([number]) + b"\xa4name\xa1x"  # noqa: E731
    assert running.send(b"".join(map(one, range(5))), kind).status == 202
    assert running.send(one(7), kind).status == 202
    running.wait(lambda: len(running.rows()) == 6)
    running.stop()
    assert running.ids() == [0, 1, 2, 3, 4, 7]


def test_the_offset_is_the_events_number_and_the_time_that_of_arrival(web, project):
    w = web()
    project.write("rules/web.lua", 'return stream "silver.web" { from = "bronze.web", keep = { "id", "_offset", "_topic", "_timestamp" } }\n')
    w.start()
    before = time.time()
    w.send([{"id": 5}, {"id": 6}])
    w.stop()
    w.drain()
    rows = sorted(w.rows(), key=lambda row: row["_offset"])
    assert [(row["id"], row["_offset"], row["_topic"]) for row in rows] == [(5, 1, "bronze.web"), (6, 2, "bronze.web")]
    assert all(before - 1 <= row["_timestamp"].timestamp() <= time.time() + 1 for row in rows)


def test_a_body_that_is_json_but_not_the_schemas_goes_to_quarantine(web):
    w = web().start()
    assert w.send([{"id": "x"}, {"id": 2}]).status == 202
    w.stop()
    w.drain()
    assert w.ids() == [2]
    rejected = w.rows("quarantine.bronze.web")
    assert [row["_raw"] for row in rejected] == [b'{"id": "x"}']


@pytest.mark.parametrize(
    "body, headers, message",
    [
        (b'{"id":1', JSON, "line 1, column 8"),
        (b'{"id":1}x', JSON, "column 9"),
        (b'[{"id":1},3]', JSON, "an event is an object"),
        (b'{"id":NaN}', JSON, "no JSON value"),
        (b'{"id":01}', JSON, "comma or }"),
        (b'{"id":1,}', JSON, "double quotes"),
        (b'{"a":"\xff"}', JSON, "UTF-8"),
        (b'{"a":"\x01"}', JSON, "control character"),
        (b"[" * 200, JSON, "nested too deeply"),
        (b"", JSON, "no event"),
        (b"[]", JSON, "no event"),
        (b'{"id":1}\n{"id":', LINES, "line 2, column 7"),
        (b"not gzip", {**JSON, "Content-Encoding": "gzip"}, "not what Content-Encoding says"),
        (gzip.compress(b'{"id":1}')[:-6], {**JSON, "Content-Encoding": "gzip"}, "ends too early"),
    ],
)
def test_a_body_that_is_not_what_it_says_is_refused_whole_with_its_place(web, body, headers, message):
    w = web().start()
    answer = w.send(body, headers)
    assert answer.status == 400 and message in answer.message, answer
    w.stop()
    assert w.drain()["events"] == 0


def test_cloud_events_structured_batched_and_binary_are_the_same_rows(web):
    columns = {"id": "string!", "type": "string", "source": "string", "data": {"type": "record", "name": "d", "fields": [{"name": "n", "type": "long"}]}}
    w = web(columns=columns).start()
    event = {"specversion": "1.0", "id": "a", "source": "/s", "type": "t", "data": {"n": 1}}
    assert w.send(event, {"Content-Type": "application/cloudevents+json; charset=utf-8"}).status == 202
    assert w.send([{**event, "id": "b"}, {**event, "id": "c"}], {"Content-Type": "application/cloudevents-batch+json"}).json()["accepted"] == 2
    binary = {"ce-specversion": "1.0", "ce-id": 'd"', "ce-source": "/s", "ce-type": "t", **JSON}
    assert w.send({"n": 1}, binary).status == 202
    assert "has no type" in w.send({key: event[key] for key in event if key != "type"}, {"Content-Type": "application/cloudevents+json"}).message
    assert w.send([event], {"Content-Type": "application/cloudevents+json"}).status == 400
    del binary["ce-id"]
    assert "has no id" in w.send({"n": 1}, binary).message
    w.stop()
    w.drain()
    rows = sorted(w.rows(), key=lambda row: row["id"])
    assert [row["id"] for row in rows] == ["a", "b", "c", 'd"']
    assert all(row["data"] == {"n": 1} and row["type"] == "t" and row["source"] == "/s" for row in rows)


def test_of_cloud_events_the_data_alone_can_be_the_event(web):
    w = web('cloudevents = "data"').start()
    event = {"specversion": "1.0", "id": "a", "source": "/s", "type": "t"}
    assert w.send({**event, "data": {"id": 1}}, {"Content-Type": "application/cloudevents+json"}).status == 202
    assert w.send({"id": 2}, {"ce-specversion": "1.0", "ce-id": "x", "ce-source": "s", "ce-type": "t", **JSON}).status == 202
    assert w.send({"id": 3}).status == 202
    assert "no object as data" in w.send({**event, "data": 5}, {"Content-Type": "application/cloudevents+json"}).message
    w.stop()
    w.drain()
    assert w.ids() == [1, 2, 3]


# ------------------------------------------------------------------------- who may send


def test_bearer_tokens(web):
    w = web('bearer = env "TOKENS"', env={"TOKENS": "one-token, other-token"}).start()
    refused = w.send({"id": 1})
    assert refused.status == 401 and refused.headers["WWW-Authenticate"] == "Bearer"
    for wrong in ("Bearer one", "Bearer one-token-x", "Basic one-token", "Bearer ", "Bearer one-token,"):
        assert w.send({"id": 1}, {**JSON, "Authorization": wrong}).status == 401, wrong
    for right in ("Bearer one-token", "bearer other-token"):
        assert w.send({"id": 1}, {**JSON, "Authorization": right}).status == 202, right
    _, err = w.stop()
    assert "one-token" not in err and "one-token" not in json.dumps(w.status())


@pytest.mark.parametrize(
    "options, header, sign",
    [
        ('signature = "github", secret = env "S"', "X-Hub-Signature-256", lambda s, b: "sha256=" + hmac.new(s, b, "sha256").hexdigest()),
        ('signature = "shopify", secret = env "S"', "X-Shopify-Hmac-Sha256", lambda s, b: base64.b64encode(hmac.new(s, b, hashlib.sha256).digest()).decode()),
        ('signature = "custom", signature_header = "X-Sig", signature_algorithm = "sha512", signature_prefix = "v1=", secret = env "S"', "X-Sig",
         lambda s, b: "v1=" + hmac.new(s, b, "sha512").hexdigest()),
        ('signature = "custom", signature_header = "X-Sig", signature_algorithm = "sha1", signature_encoding = "base64", secret = env "NEW", previous_secret = env "S"',
         "X-Sig", lambda s, b: base64.b64encode(hmac.new(s, b, hashlib.sha1).digest()).decode()),
    ],
)
def test_signatures_over_the_body(web, options, header, sign):
    w = web(options, env={"S": "sekrit", "NEW": "other"}).start()
    body = b'{"id": 1}'
    good = sign(b"sekrit", body)
    assert w.send(body).status == 401
    assert w.send(body, {**JSON, header: good}).status == 202
    assert w.send(body + b" ", {**JSON, header: good}).status == 403
    assert w.send(body, {**JSON, header: sign(b"wrong", body)}).status == 403
    assert w.send(body, {**JSON, header: good[:-2]}).status == 403
    assert w.send(body, {**JSON, header: "x"}).status == 403


# ------------------------------------------------------------------------- what is refused


def test_each_refusal_has_its_status(web):
    w = web('max_body = "1KB"').start()
    assert w.send(None, method="GET").status == 405
    assert w.send(None, method="GET").headers["Allow"] == "POST"
    assert w.send({"id": 1}, method="PUT").status == 405
    assert w.send({"id": 1}, path="/other").status == 404
    assert w.send({"id": 1}, path="/in/").status == 404
    assert w.send(b"<a/>", {"Content-Type": "text/xml"}).status == 415
    assert "application/json" in w.send(b"{}", {}).message
    assert w.send({"id": 1}, {**JSON, "Content-Encoding": "br"}).status == 415
    assert w.send(b" " * 2000).status == 413
    assert w.send(b" " * 3_000_000).status == 413
    assert w.send(gzip.compress(b" " * 100_000), {**JSON, "Content-Encoding": "gzip"}).status == 413
    head = b"POST /in HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    assert w.raw(head + b"\r\n").startswith(b"HTTP/1.1 411")
    assert w.raw(head + b"Content-Length: nine\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert w.raw(head + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n").startswith(b"HTTP/1.1 400")
    w.wait(lambda: w.status().get("sources", {}).get("bronze.web", {}).get("requests", {}).get("413"))
    w.stop()
    assert w.drain()["events"] == 0


def test_more_than_the_rate_is_told_to_come_again(web):
    w = web("rate = 5, burst = 3").start()
    answers = [w.send({"id": i}) for i in range(8)]
    assert [a.status for a in answers[:3]] == [202] * 3
    late = [a for a in answers if a.status == 429]
    assert late and all(int(a.headers["Retry-After"]) >= 1 for a in late)
    w.wait(lambda: w.send({"id": 9}).status == 202, 10)


def test_connections_are_kept(web):
    w = web().start()
    c = w.connection()
    for i in range(50):
        c.request("POST", "/in", json.dumps({"id": i}), JSON)
        assert Answer(c.getresponse()).status == 202
        held = held if i else c.sock
        assert c.sock is held


def test_requests_sent_ahead_of_the_answer_are_not_taken_and_the_connection_says_so(web):
    w = web().start()
    one = b'POST /in HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"id":77}'
    received = w.raw(one * 6, 10)
    assert received.count(b"202 Accepted") == 1 and b"Connection: close" in received
    w.stop()
    w.drain()
    assert w.ids() == [77]


def test_chunked_bodies_and_100_continue(web):
    w = web('max_body = "1KB"').start()
    c = w.connection()
    c.request("POST", "/in", iter([b'{"id"', b":1", b"0}"]), JSON, encode_chunked=True)
    assert Answer(c.getresponse()).json()["accepted"] == 1
    head = b"POST /in HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    byte_by_byte = b'4;x=y\r\n{"id\r\n5\r\n":11}\r\n0\r\nTrailer: 1\r\n\r\n'
    with socket.create_connection(("127.0.0.1", w.port), 20) as s:
        for byte in head + byte_by_byte:
            s.sendall(bytes([byte]))
        assert s.recv(1000).startswith(b"HTTP/1.1 202")
    assert w.raw(head + b"zz\r\n").startswith(b"HTTP/1.1 400")
    assert w.raw(head + b"fff\r\n" + b" " * 4095 + b"\r\n").startswith(b"HTTP/1.1 413")
    with socket.create_connection(("127.0.0.1", w.port), 20) as s:
        s.sendall(b"POST /in HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
        assert s.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(b'{"id":12}')
        assert s.recv(1000).startswith(b"HTTP/1.1 202")
        s.sendall(b"POST /in HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
        assert s.recv(1000).startswith(b"HTTP/1.1 415"), "refused before the body is sent"
    w.stop()
    w.drain()
    assert w.ids() == [10, 11, 12]


def test_the_slow_are_cut_off_and_the_others_go_on(web):
    w = web(serve='timeout = "2s", connections = 20').start()
    slow_head = socket.create_connection(("127.0.0.1", w.port), 20)
    slow_head.sendall(b"POST /in HTTP/1.1\r\nHos")
    slow_body = socket.create_connection(("127.0.0.1", w.port), 20)
    slow_body.sendall(b"POST /in HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n")
    start = time.monotonic()
    received = b""
    try:
        while time.monotonic() - start < 30:  # a byte now and then does not help
            slow_body.sendall(b" ")
            assert w.send({"id": 1}).status == 202
            slow_body.settimeout(0.3)
            try:
                part = slow_body.recv(1000)
                received += part
                if not part:
                    break
            except socket.timeout:
                pass
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert received.startswith(b"HTTP/1.1 408"), received
    assert time.monotonic() - start < 15
    slow_head.settimeout(30)
    try:
        assert slow_head.recv(1000) == b""
    except ConnectionResetError:
        pass


def test_connections_over_the_cap_are_closed_and_counted(web):
    w = web(serve="connections = 5").start()
    held = []
    deadline = time.monotonic() + 30
    while len(held) < 5 and time.monotonic() < deadline:  # the one that looked whether it is up may still be there
        s = socket.create_connection(("127.0.0.1", w.port), 5)
        try:
            s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = s.recv(1000)
        except (ConnectionResetError, BrokenPipeError):
            answer = b""
        if answer.startswith(b"HTTP/1.1 200"):
            held.append(s)
        else:
            s.close()
    assert len(held) == 5
    with socket.create_connection(("127.0.0.1", w.port), 5) as s:
        try:
            s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert s.recv(1000) == b""
        except (ConnectionResetError, BrokenPipeError):
            pass
    for s in held:
        s.close()
    w.wait(lambda: re.search(rb"refused_total [1-9]", _try(w, "/metrics")))


def _try(w, path):
    try:
        return w.send(None, {}, "GET", path).body
    except (OSError, http.client.HTTPException):
        return b""


# ------------------------------------------------------------------------- once


def test_an_idempotency_key_gets_the_same_answer_also_after_kill_9(web):
    w = web().start()
    keyed = {**JSON, "Idempotency-Key": "k1"}
    first = w.send([{"id": 1}, {"id": 2}], keyed)
    assert w.send([{"id": 1}, {"id": 2}], keyed).body == first.body
    assert w.send([{"id": 1}, {"id": 3}], keyed).status == 422
    w.kill()
    w.start()
    assert w.send([{"id": 1}, {"id": 2}], keyed).body == first.body
    assert w.send([{"id": 1}, {"id": 3}], keyed).status == 422
    assert w.send([{"id": 1}, {"id": 2}], {**JSON, "Idempotency-Key": "k2"}).json()["first"] == 3
    w.stop()
    w.drain()
    assert w.ids() == [1, 1, 2, 2]


def test_a_key_is_forgotten_after_its_time_and_its_header_may_be_another(web):
    w = web('remember = "1s", idempotency_header = "X-Request"').start()
    keyed = {**JSON, "X-Request": "k"}
    assert w.send({"id": 1}, keyed).json()["first"] == 1
    assert w.send({"id": 1}, keyed).json()["first"] == 1
    w.wait(lambda: w.send({"id": 1}, keyed).json()["first"] == 2, 20)


@pytest.fixture(name="stormer")
def stormer_fixture(binary):
    """The program that posts; asked for before a thread needs it, where a skip would go unseen."""
    return tool(binary, "http_storm")


def storm(stormer, port, events, connections, *more):
    made = subprocess.run([stormer, str(port), "/in", str(events), str(connections), *more], capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, (made.stdout, made.stderr)
    lines = made.stdout.split("\n")
    return json.loads(lines[0]), [int(line) for line in lines[1:] if line]


def test_a_storm_with_weir_killed_in_the_middle_loses_and_doubles_nothing(web, stormer):
    w = web().start()
    outcome = {}
    client = threading.Thread(target=lambda: outcome.update(storm(stormer, w.port, 10000, 200, "60")[0]))
    client.start()
    for size in (300_000, 900_000, 1_500_000):
        w.kill_when_kept(size, client)
        w.start()
    client.join(90)
    assert outcome["acknowledged"] == 10000 and outcome["resent"] > 0, outcome
    w.stop()
    w.drain()
    assert w.ids() == list(range(10000))


def test_what_was_acknowledged_without_keys_is_there_after_kill_9(web, stormer):
    w = web().start()
    result = {}
    client = threading.Thread(target=lambda: result.update(ids=storm(stormer, w.port, 6000, 100, "60", "nokeys")[1]))
    client.start()
    w.kill_when_kept(300_000, client)
    client.join(90)
    w.drain()
    ids = w.ids()
    assert len(set(ids)) == len(ids)
    assert 500 < len(result["ids"]) < 6000 and set(result["ids"]) <= set(ids)


POINTS = ["http_log_before_write", "http_log_torn_write", "http_log_before_sync", "http_log_after_sync", "http_before_answer"]


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_each_step_nothing_acknowledged_is_lost_nor_doubled(web, stormer, point):
    w = web().start(WEIR_FAULT=f"{point}:7:kill")
    outcome = {}
    client = threading.Thread(target=lambda: outcome.update(storm(stormer, w.port, 300, 10, "60")[0]))
    client.start()
    _, err = w.process.communicate(timeout=60)
    assert f"fault point {point} reached" in err
    w.start()
    client.join(90)
    assert outcome.get("acknowledged") == 300
    w.stop()
    w.drain()
    assert w.ids() == list(range(300))


@pytest.mark.parametrize("fault", ["http_log_rotate:2", "http_log_trim:1"])
def test_killed_where_a_segment_begins_or_goes_nothing_is_lost_nor_doubled(web, fault):
    """A segment has 64 MB; the first begins with the start."""
    w = web('max_body = "8MB"')
    text = (w.project.root / "pipelines/p.lua").read_text()
    w.project.write("pipelines/p.lua", text.replace("  serve ", '  ledger = { keep = "0s" },\n  serve ', 1))
    w.start(WEIR_FAULT=f"{fault}:kill")

    def send(n):
        return w.send({"id": n, "name": "x" * 7_000_000}, {**JSON, "Idempotency-Key": f"k{n}"}).status == 202
    sent = 0
    try:
        while sent < 200 and send(sent):
            sent += 1
    except (OSError, http.client.HTTPException):
        pass
    _, err = w.process.communicate(timeout=60)
    assert f"fault point {fault.split(':')[0]} reached" in err and sent >= 8
    w.start()
    assert all(send(n) for n in range(sent + 2))
    w.stop()
    w.drain()
    assert w.ids() == list(range(sent + 2))


def test_a_disk_that_cannot_sync_is_told_and_nothing_is_promised(web):
    w = web().start(WEIR_FAULT="http_log_before_sync:2:error")
    assert w.send({"id": 1}).status == 202
    assert w.send({"id": 2}).status == 503
    _, err = w.process.communicate(timeout=60)
    assert w.process.returncode != 0 and "sync" in err
    w.start()
    assert w.send({"id": 3}).status == 202
    w.stop()
    w.drain()
    assert set(w.ids()) >= {1, 3}


def test_a_write_that_fails_is_taken_back_and_the_next_goes_through(web):
    w = web().start(WEIR_FAULT="http_log_torn_write:2:error")
    keyed = {**JSON, "Idempotency-Key": "k"}
    assert w.send({"id": 1}).status == 202
    refused = w.send({"id": 2}, keyed)
    assert refused.status == 503 and refused.headers["Retry-After"]
    assert w.send({"id": 2}, keyed).json()["first"] == 2
    w.stop()
    w.drain()
    assert w.ids() == [1, 2]


def test_more_than_may_wait_to_be_read_makes_senders_wait(web, stormer):
    w = web('max_lag = "2KB"').start()
    outcome, _ = storm(stormer, w.port, 2000, 100, "60")
    assert outcome["codes"].get("429"), "the group being synced is all that fits"
    assert outcome["acknowledged"] == 2000
    assert w.send([{"id": i, "name": "x" * 100} for i in range(5000, 5100)]).status == 202, "one body larger than the bound goes through"
    w.stop()
    w.drain()
    assert w.ids() == [*range(2000), *range(5000, 5100)]


def test_a_log_that_is_gone_is_an_error_with_the_way_out(web, project):
    w = web().start()
    w.send({"id": 1})
    w.wait(lambda: w.ids() == [1])
    w.stop()
    shutil.rmtree(project.root / "lake/_weir/p/ledger/http")
    outcome = project.weir("run", "pipelines/p.lua", "--until-end", env={"PORT": "1"})
    assert outcome.code != 0 and 'on_lost = "continue"' in outcome.err


# ------------------------------------------------------------------------- TLS, health, metrics, declarations


@pytest.fixture
def certificate(tmp_path):
    key, cert = tmp_path / "server.key", tmp_path / "server.crt"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    return cert, key


def test_tls(web, certificate):
    cert, key = certificate
    w = web(serve=f'tls = {{ cert = "{cert}", key = "{key}" }}').start()
    context = ssl.create_default_context(cafile=cert)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context.minimum_version = context.maximum_version = version
        c = http.client.HTTPSConnection("127.0.0.1", w.port, context=context, timeout=20)
        for i in range(3):
            c.request("POST", "/in", json.dumps({"id": i}), JSON)
            assert Answer(c.getresponse()).status == 202
        c.close()
    with pytest.raises((OSError, http.client.HTTPException)):
        w.send({"id": 1})
    w.stop()
    w.drain()
    assert w.ids() == [0, 0, 1, 1, 2, 2]


def test_tls_asks_clients_for_their_certificate(web, certificate):
    cert, key = certificate
    w = web(serve=f'tls = {{ cert = "{cert}", key = "{key}", client_ca = "{cert}" }}').start()
    stranger = ssl.create_default_context(cafile=cert)
    c = http.client.HTTPSConnection("127.0.0.1", w.port, context=stranger, timeout=20)
    with pytest.raises((OSError, http.client.HTTPException)):
        c.request("POST", "/in", b'{"id":1}', JSON)
        c.getresponse()
    known = ssl.create_default_context(cafile=cert)
    known.load_cert_chain(cert, key)
    c = http.client.HTTPSConnection("127.0.0.1", w.port, context=known, timeout=20)
    c.request("POST", "/in", b'{"id":1}', JSON)
    assert Answer(c.getresponse()).status == 202


def test_health_metrics_and_status(web):
    w = web().start()
    assert w.send([{"id": 1}, {"id": "x"}]).status == 202
    w.send(b"[")
    assert w.send(None, {}, "GET", "/health").json() == {"status": "ok", "pipeline": "p"}
    w.wait(lambda: b'weir_rows_out_total{dataset="silver.web"} 1' in w.send(None, {}, "GET", "/metrics").body)
    text = w.send(None, {}, "GET", "/metrics")
    assert text.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    for line in ('weir_http_requests_total{source="bronze.web",code="202"} 1', 'weir_http_requests_total{source="bronze.web",code="400"} 1',
                 'weir_rows_rejected_total{dataset="bronze.web",reason="decode"} 1', 'weir_http_events_total{source="bronze.web"} 2'):
        assert line.encode() in text.body, text.body.decode()
    families = [line.split()[2] for line in text.body.decode().split("\n") if line.startswith("# TYPE")]
    assert len(families) == len(set(families))
    w.wait(lambda: w.status()["sources"]["bronze.web"]["requests"] == {"202": 1, "400": 1})
    assert w.status()["serve"] == f"http://127.0.0.1:{w.port}"
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (tools/deps test); the rest was checked")
    checked = subprocess.run([promtool, "check", "metrics"], input=text.body, capture_output=True)
    assert checked.returncode == 0, checked.stderr.decode()


@pytest.mark.parametrize(
    "change, message",
    [
        (("serve   = { http = { port = env \"PORT\",  } },", ""), "the pipeline does not listen"),
        (("port = env \"PORT\", ", ""), "serve.http needs a port"),
        (('path = "/in"', 'path = "in"'), "not a path of its own"),
        (('path = "/in"', 'path = "/metrics"'), "not a path of its own"),
        (('path = "/in"', 'path = "/in", signature = "github"'), "secret"),
        (('path = "/in"', 'path = "/in", signature = "custom", secret = env "S"'), "signature_header"),
        (('path = "/in"', 'path = "/in", bearer = "text"'), "a secret is not written into a file of rules"),
        (('path = "/in"', 'path = "/in", max_body = "1GB"'), "at most 64MB"),
        (("http = { port", "htpp = { port"), "htpp"),
        (("port = env \"PORT\"", "port = 70000"), "0 to 65535"),
    ],
)
def test_declarations_that_cannot_work_are_refused(web, project, change, message):
    web()
    path = project.root / "pipelines/p.lua"
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))
    outcome = project.weir("check", env={"PORT": "0"})
    assert outcome.code != 0 and message in outcome.err + outcome.out, outcome


def test_a_port_in_use_is_said_so(web, project):
    w = web()
    with socket.socket() as s:
        s.bind(("127.0.0.1", w.port))
        s.listen()
        outcome = project.weir("run", "pipelines/p.lua", env={"PORT": str(w.port)})
    assert outcome.code == 3 and f"port {w.port}" in outcome.err and "in use" in outcome.err
