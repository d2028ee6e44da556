"""Every way to log in to a real broker, each with the wrong login beside it; secrets show nowhere."""

import json
import pathlib
import time

import kafka as service
import oidc
import pytest
from test_kafka_source import Pos, stop

CERTS = service.HOME / "certs"
CA = f'ca = "{CERTS}/ca.crt"'
SECRETS = {"PASSWORD": service.PASSWORD, "WRONG": "not-the-password", "HUBS": service.CONNECTION_STRING, "OIDC": oidc.Provider.SECRET}


@pytest.fixture
def topic(kafka, request):
    name = kafka.create_topic(f"login-{time.time_ns()}")
    kafka.produce(name, [json.dumps({"id": i, "name": "x"}) for i in range(10)])
    return name


def read(pos, environment=None):
    outcome = pos.project.weir("run", "pipelines/p.lua", "--until-end", env={**SECRETS, **(environment or {})})
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


@pytest.fixture(scope="session")
def newer_library(tmp_path_factory):
    """The environment in which weir finds the librdkafka of today's Python client, where Debian's is too old for SCRAM."""
    import confluent_kafka
    number = confluent_kafka.libversion()[1]
    found = [pathlib.Path(line.split()[-1]) for line in pathlib.Path("/proc/self/maps").read_text().splitlines() if "librdkafka" in line]
    assert found and number >= 0x020601ff, (found, hex(number))
    folder = tmp_path_factory.mktemp("librdkafka")
    (folder / "librdkafka.so.1").symlink_to(found[0])
    return {"LD_LIBRARY_PATH": f"{folder}:{found[0].parent}"}


@pytest.mark.parametrize("mechanism", ["scram-sha-256", "scram-sha-512"])
def test_scram(project, kafka, topic, newer_library, mechanism):
    """Debian's library says why it cannot; with a newer one the same binary logs in, and a wrong password is refused."""
    login = f'sasl = "{mechanism}", username = "alice", password = env "PASSWORD"'
    pos = Pos(project, kafka, topic, login, brokers=kafka.sasl)
    outcome = read(pos)
    if outcome.code == 3:
        assert "librdkafka before 2.6.1" in outcome.err, outcome
        assert read(pos, newer_library).code == 0
    assert sorted(pos.ids()) == list(range(10))
    wrong = read(Pos(project, kafka, topic, login.replace("PASSWORD", "WRONG"), brokers=kafka.sasl), newer_library)
    assert wrong.code == 3 and "check sasl, username and password" in wrong.err, wrong


@pytest.fixture(scope="module")
def provider():
    running = oidc.start(seconds=5)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def guarded(provider):
    """A broker whose listener for tokens takes those of the provider alone, checked by its public keys."""
    broker = service.start(**provider.broker())
    yield broker
    broker.stop()


def credentials(provider, secret="OIDC"):
    return f'sasl = "oauthbearer", token_url = "{provider.token_url}", client_id = "{provider.CLIENT}", client_secret = env "{secret}", scope = "read"'


def test_client_credentials_of_a_real_provider(project, guarded, provider):
    """Tokens live five seconds: the run outlives several, and the broker asks for a new one before a session's end."""
    topic = guarded.create_topic(f"login-{time.time_ns()}")
    guarded.produce(topic, [json.dumps({"id": 0, "name": "x"})])
    pos = Pos(project, guarded, topic, credentials(provider), brokers=guarded.oauth)
    before = provider.given()
    process = pos.start(env=SECRETS)
    pos.wait_for(process, lambda: pos.ids() == [0])
    for i in range(1, 100):
        pos.produce([i])
        pos.wait_for(process, lambda: len(pos.ids()) == i + 1)
        if provider.given() - before >= 3:
            break
        time.sleep(0.2)
    assert provider.given() - before >= 3, "no token was renewed"
    code, out, err = stop(process)
    assert code == 0, err
    assert SECRETS["OIDC"] not in out + err
    assert sorted(pos.ids()) == list(range(i + 1))


def test_a_refused_client_ends_the_start_and_says_what_to_check(project, guarded, provider):
    topic = guarded.create_topic(f"login-{time.time_ns()}")
    outcome = read(Pos(project, guarded, topic, credentials(provider, "WRONG"), brokers=guarded.oauth))
    assert outcome.code == 3 and "check client_id, client_secret and scope" in outcome.err, outcome
    unsecured = 'sasl = "oauthbearer", options = { ["enable.sasl.oauthbearer.unsecure.jwt"] = true, ["sasl.oauthbearer.config"] = "principal=alice" }'
    outcome = read(Pos(project, guarded, topic, unsecured, brokers=guarded.oauth))
    assert outcome.code == 3, outcome


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
