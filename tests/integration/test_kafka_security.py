"""Every way to log in to a real broker, each with the wrong login beside it; secrets show nowhere."""

import json
import time

import kafka as service
import pytest
from test_kafka_source import Pos

CERTS = service.HOME / "certs"
CA = f'ca = "{CERTS}/ca.crt"'
SECRETS = {"PASSWORD": service.PASSWORD, "WRONG": "not-the-password", "HUBS": service.CONNECTION_STRING}


@pytest.fixture
def topic(kafka, request):
    name = kafka.create_topic(f"login-{time.time_ns()}")
    kafka.produce(name, [json.dumps({"id": i, "name": "x"}) for i in range(10)])
    return name


def read(pos):
    outcome = pos.project.weir("run", "pipelines/p.lua", "--until-end", env=SECRETS)
    for secret in SECRETS.values():
        assert secret not in outcome.out + outcome.err, outcome
    return outcome


@pytest.mark.parametrize("listener, options", [
    ("sasl", 'sasl = "plain", username = "alice", password = env "PASSWORD"'),
    ("oauth", 'sasl = "oauthbearer", options = { ["enable.sasl.oauthbearer.unsecure.jwt"] = true, ["sasl.oauthbearer.config"] = "principal=alice" }'),
    ("mtls", f'{CA}, certificate = "{CERTS}/client.crt", key_file = "{CERTS}/client.key"'),
    ("sasl_ssl", f'{CA}, sasl = "plain", username = "alice", password = env "PASSWORD"'),
])
def test_listeners(project, kafka, topic, listener, options):
    pos = Pos(project, kafka, topic, options, brokers=getattr(kafka, listener))
    assert read(pos).code == 0
    assert sorted(pos.ids()) == list(range(10))


def test_a_secret_from_a_file(project, kafka, topic):
    project.write("secrets/password", service.PASSWORD + "\n")
    pos = Pos(project, kafka, topic, 'sasl = "plain", username = "alice", password = { file = "secrets/password" }', brokers=kafka.sasl)
    assert read(pos).code == 0
    assert sorted(pos.ids()) == list(range(10))


@pytest.mark.parametrize("listener, options, texts", [
    ("sasl", 'sasl = "plain", username = "alice", password = env "WRONG"', ["check sasl, username and password"]),
    ("sasl", 'sasl = "plain", username = "alice", password = env "ABSENT"', ["ABSENT", "not set"]),
    ("mtls", f'{CA}, certificate = "{CERTS}/rogue.crt", key_file = "{CERTS}/rogue.key"', ["check ca, certificate and key_file"]),
    ("mtls", CA, ["closes the connection", "check ca, certificate and key_file"]),
    ("sasl_ssl", 'tls = true, sasl = "plain", username = "alice", password = env "PASSWORD"', ["certificate", "check ca, certificate and key_file"]),
])
def test_wrong_logins_end_at_once_and_say_what_to_check(project, kafka, topic, listener, options, texts):
    pos = Pos(project, kafka, topic, options, brokers=getattr(kafka, listener))
    started = time.monotonic()
    outcome = read(pos)
    assert outcome.code == 3 and time.monotonic() - started < 20, outcome
    for text in texts:
        assert text in outcome.err, outcome


@pytest.mark.parametrize("mechanism", ["scram-sha-256", "scram-sha-512"])
def test_scram(project, kafka, topic, mechanism):
    pos = Pos(project, kafka, topic, f'sasl = "{mechanism}", username = "alice", password = env "PASSWORD"', brokers=kafka.sasl)
    outcome = read(pos)
    if outcome.code == 3 and "librdkafka" in outcome.err and "SCRAM" in outcome.err:
        pytest.skip("this librdkafka repeats the client's nonce, which brokers since 3.7.2 refuse: " + outcome.err.strip()[-300:])
    assert outcome.code == 0, outcome
    assert sorted(pos.ids()) == list(range(10))


def test_event_hubs_is_a_namespace_a_hub_and_a_connection_string(project, kafka, topic):
    """The service itself cannot be had here: its login, against a broker that takes the same."""
    project.write("pipelines/unused", "")
    pos = Pos(project, kafka, topic)
    text = (project.root / "pipelines/p.lua").read_text()
    start, end = text.index("kafka {"), text.index(", json")
    project.write("pipelines/p.lua", text[:start] + f'event_hubs {{ namespace = "{kafka.sasl_ssl}", hub = "{topic}", '
                  f'connection_string = env "HUBS", {CA} }}' + text[end:])
    outcome = read(pos)
    assert outcome.code == 0, outcome
    assert sorted(pos.ids()) == list(range(10))
