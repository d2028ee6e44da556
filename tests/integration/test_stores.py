"""Tables in Azure Blob (Azurite) and S3 (versitygw): written by Weir, read by delta-rs; through faults, kill -9, an absent
service, and every way to prove who one is."""

import base64
import datetime
import hashlib
import hmac
import http.server
import json
import os
import re
import signal
import ssl
import subprocess
import threading
import time
import urllib.parse
import urllib.request

import deltalake
import pytest

import azurite as azurite_service
import faulty_proxy
import kafka as kafka_service  # its certificates
import s3 as s3_service

PIPELINE = """\
return pipeline "shop" {
  rules   = "rules",
  storage = delta { root = env("LAKE", "lake")%s },
  ledger  = { path = "ledger" },
  commit  = { every = "100ms" },
  sources = { source "bronze.sale" { generator { seed = 5, count = %d, rate = %d }, into = none } },
}
"""
SILVER = """\
return stream "silver.sale" {
  from = "bronze.sale",
  time = { field = "sold_at", out_of_order = "30s" },
  expectations = { expect "sold something" { between("qty", 1, 1000) } },
}
"""
GOLD = """\
return model "gold.units" {
  from = "silver.sale", by = { "sku" },
  window = tumbling "1m",
  measures = { units = sum "qty", sales = count() },
}
"""
TABLES = ("silver/sale", "gold/units")


@pytest.fixture(scope="module")
def azure():
    service = azurite_service.start()
    service.create_container("lake")
    service.url = "az://lake"
    yield service
    service.stop()


@pytest.fixture(scope="module")
def s3():
    service = s3_service.start()
    service.create_bucket("lake")
    service.url = "s3://lake"
    yield service
    service.stop()


@pytest.fixture(params=["azure", "s3"])
def cloud(request):
    return request.getfixturevalue(request.param)


def write(project, options="", count=30_000, rate=0):
    project.write("pipelines/shop.lua", PIPELINE % (options, count, rate))
    project.write("rules/silver/sale.lua", SILVER)
    project.write("rules/gold/units.lua", GOLD)
    return project


def rows(url, options=None):
    """The table as sorted rows; which epoch a row came in is not the same in two runs."""
    table = deltalake.DeltaTable(url, storage_options=options).to_pyarrow_table()
    table = table.select([name for name in table.column_names if not name.startswith("_")])
    return sorted(map(repr, table.to_pylist()))


@pytest.fixture(scope="module")
def undisturbed(binary, tmp_path_factory):
    import conftest
    project = write(conftest.Project(binary, tmp_path_factory.mktemp("undisturbed")))
    outcome = project.run("pipelines/shop.lua")
    assert outcome["datasets"]["silver.sale"]["out"] > 20_000
    return {table: rows(str(project.root / "lake" / table)) for table in TABLES}


def through(service, proxy):
    """The service's environment, by way of the proxy."""
    return {key: value.replace(f":{service.port}", f":{proxy.port}") if "ENDPOINT" in key else value
            for key, value in service.environment().items()}


def assert_same(service, lake, undisturbed):
    for table in TABLES:
        assert rows(f"{lake}/{table}", service.delta()) == undisturbed[table], table


def test_the_store_contract(cloud, binary):
    probe = binary.parent / "unit/test_store_object"
    if not probe.exists():
        pytest.skip(f"{probe} is not built")
    done = subprocess.run([probe], env={**os.environ, **cloud.environment(), "WEIR_STORE_URL": f"{cloud.url}/contract"},
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "SKIPPED" not in done.stdout, done.stdout + done.stderr


def test_the_store_contract_through_faults(cloud, binary):
    probe = binary.parent / "unit/test_store_object"
    if not probe.exists():
        pytest.skip(f"{probe} is not built")
    proxy = faulty_proxy.Proxy(cloud.port, seed=3)
    done = subprocess.run([probe], env={**os.environ, **through(cloud, proxy), "WEIR_STORE_URL": f"{cloud.url}/faulty"},
                          capture_output=True, text=True, timeout=120)
    proxy.stop()
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(proxy.done[fault] for fault in faulty_proxy.FAULTS) > 10, proxy.done


def test_a_lake_in_the_cloud_is_the_one_on_disk(cloud, project, undisturbed):
    lake = f"{cloud.url}/plain"
    environment = {**cloud.environment(), "LAKE": lake}
    write(project).run("pipelines/shop.lua", env=environment)
    assert_same(cloud, lake, undisturbed)
    shown = project.weir("table", "cat", f"{lake}/gold/units", "--json", env=environment)
    assert shown.code == 0 and len(shown.out.splitlines()) == len(undisturbed["gold/units"]), shown
    listed = project.weir("table", "ls", lake, env=environment)
    assert listed.code == 0 and "silver/sale" in listed.out, listed


@pytest.mark.parametrize("seed", range(1, 1 + int(os.environ.get("WEIR_STORE_SEEDS", "2"))))
def test_faults_on_the_way_lose_and_double_nothing(cloud, project, undisturbed, seed):
    proxy = faulty_proxy.Proxy(cloud.port, seed)
    lake = f"{cloud.url}/faults{seed}"
    write(project).run("pipelines/shop.lua", env={**through(cloud, proxy), "LAKE": lake})
    proxy.stop()
    assert sum(proxy.done[fault] for fault in faulty_proxy.FAULTS) > 3, proxy.done
    assert_same(cloud, lake, undisturbed)


def test_killed_in_the_middle(cloud, project, undisturbed):
    lake = f"{cloud.url}/killed"
    environment = {**cloud.environment(), "LAKE": lake}
    write(project, rate=20_000)
    for _ in range(3):
        running = project.start("run", "pipelines/shop.lua", "--until-end", "--json", env=environment)
        time.sleep(0.5)
        running.send_signal(signal.SIGKILL)
        running.communicate()
    project.run("pipelines/shop.lua", env=environment)
    assert_same(cloud, lake, undisturbed)


def test_an_absent_service_is_waited_for(cloud, project, undisturbed):
    proxy = faulty_proxy.Proxy(cloud.port, 1, ratio=0)
    lake = f"{cloud.url}/absent"
    running = write(project, rate=20_000).start("run", "pipelines/shop.lua", "--until-end", "--json",
                                                env={**through(cloud, proxy), "LAKE": lake})
    deadline = time.monotonic() + 60
    while proxy.done[None] < 8 and time.monotonic() < deadline:
        time.sleep(0.02)
    proxy.down = True
    while proxy.done["down"] < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    proxy.down = False
    out, err = running.communicate(timeout=90)
    proxy.stop()
    assert running.returncode == 0 and proxy.done["down"] >= 4, out + err
    assert_same(cloud, lake, undisturbed)


def test_a_service_that_stays_away_ends_the_run_with_its_name(cloud, project):
    write(project, ', retry_for = "1s"')
    proxy = faulty_proxy.Proxy(cloud.port, 1, ratio=0)
    proxy.down = True
    outcome = project.weir("run", "pipelines/shop.lua", "--until-end", env={**through(cloud, proxy), "LAKE": f"{cloud.url}/away"})
    proxy.stop()
    assert outcome.code == 3 and f"{cloud.url}/away" in outcome.err and "attempts" in outcome.err, outcome


def test_wrong_keys_are_told_apart_from_absent_places(cloud, project):
    write(project)
    wrong = {**cloud.environment(), "AZURE_STORAGE_ACCOUNT_KEY": base64.b64encode(b"wrong").decode(), "AWS_SECRET_ACCESS_KEY": "wrong",
             "LAKE": f"{cloud.url}/wrong"}
    outcome = project.weir("run", "pipelines/shop.lua", "--until-end", env=wrong)
    assert outcome.code == 3 and "403" in outcome.err and "credentials" in outcome.err, outcome
    assert "wrong" not in outcome.err.replace(f"{cloud.url}/wrong", ""), "a secret in a message"
    nowhere = cloud.url.replace("lake", "nowhere")
    outcome = project.weir("run", "pipelines/shop.lua", "--until-end", env={**cloud.environment(), "LAKE": nowhere})
    assert outcome.code != 0 and "nowhere" in outcome.err, outcome


def test_secrets_stay_out_of_plan_ledger_and_messages(azure, project):
    write(project, f', account = "{azurite_service.ACCOUNT}", account_key = env "THE_KEY"')
    environment = {"LAKE": "az://lake/secret", "AZURE_STORAGE_ENDPOINT": azure.endpoint, "THE_KEY": azurite_service.KEY}
    explained = project.weir("explain", "silver.sale", "--json", env=environment)
    ran = project.weir("run", "pipelines/shop.lua", "--until-end", "--json", env=environment)
    assert explained.code == ran.code == 0, ran
    key = azurite_service.KEY[:40]
    assert key not in explained.out + explained.err + ran.out + ran.err
    for path in project.root.rglob("*"):
        assert not path.is_file() or key.encode() not in path.read_bytes(), path


def test_a_shared_access_signature(azure, project, undisturbed):
    expiry = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    resource = f"/blob/{azurite_service.ACCOUNT}/lake"
    text = f"racwdl\n\n{expiry}\n{resource}\n\n\n\n2020-12-06\nc\n\n\n\n\n\n\n"
    signature = base64.b64encode(hmac.new(base64.b64decode(azurite_service.KEY), text.encode(), hashlib.sha256).digest()).decode()
    token = urllib.parse.urlencode({"sp": "racwdl", "se": expiry, "sv": "2020-12-06", "sr": "c", "sig": signature})
    write(project, ', sas = { file = "sas.txt" }')
    project.write("sas.txt", token + "\n")
    environment = {**azure.environment(), "LAKE": "az://lake/sas"}
    del environment["AZURE_STORAGE_ACCOUNT_KEY"]
    project.run("pipelines/shop.lua", env=environment)
    assert_same(azure, "az://lake/sas", undisturbed)


def unsigned_token():
    """Azurite looks at what a token says, not at who signed it."""
    now = int(time.time())

    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return ".".join([part({"alg": "RS256", "typ": "JWT"}), part({
        "aud": "https://storage.azure.com", "iss": "https://sts.windows.net/ab1f708d-50f6-404c-a006-d71b2ac7a606/",
        "iat": now - 60, "nbf": now - 60, "exp": now + 3600, "ver": "1.0"}), base64.urlsafe_b64encode(b"x" * 63).decode()])


class Identity(http.server.BaseHTTPRequestHandler):
    """A token endpoint and a managed identity's, and what they were asked."""
    asked = []

    def log_message(self, *arguments):
        pass

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        Identity.asked.append((self.command, self.path, self.headers.get("Metadata"), body))
        out = json.dumps({"access_token": unsigned_token(), "expires_in": "3600", "token_type": "Bearer"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)

    do_GET = do_POST = answer


@pytest.mark.parametrize("way", ["client credentials", "managed identity"])
def test_tokens(project, undisturbed, way):
    certificates = kafka_service.HOME / "certs"
    if not (certificates / "server.crt").exists():
        kafka_service.make_certificates(certificates)
    service = azurite_service.start(["--oauth", "basic", "--cert", str(certificates / "server.crt"), "--key", str(certificates / "server.key")])
    identity = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Identity)
    threading.Thread(target=identity.serve_forever, daemon=True).start()
    try:
        endpoint = service.endpoint.replace("http://", "https://")
        make_container(endpoint, certificates / "ca.crt")
        base = f"http://127.0.0.1:{identity.server_address[1]}"
        Identity.asked.clear()
        how = (f'tenant = "tenant-1", client_id = "client-1", client_secret = env "APP_SECRET", authority = "{base}"'
               if way == "client credentials" else "managed_identity = true")
        write(project, f', account = "{azurite_service.ACCOUNT}", endpoint = "{endpoint}", ca_file = "{certificates}/ca.crt", {how}')
        project.run("pipelines/shop.lua", env={"LAKE": "az://lake/tokens", "APP_SECRET": "s3cr&t", "WEIR_IDENTITY_ENDPOINT": f"{base}/identity"})
        shown = project.weir("table", "ls", "az://lake/tokens", env={"LAKE": "x"})
        assert shown.code != 0  # no credentials there
        assert len(Identity.asked) == 1, "the token is kept"
        method, path, metadata, body = Identity.asked[0]
        if way == "client credentials":
            assert (method, path) == ("POST", "/tenant-1/oauth2/v2.0/token") and "client_secret=s3cr%26t" in body
            assert "scope=https%3A%2F%2Fstorage.azure.com%2F.default" in body
        else:
            assert method == "GET" and metadata == "true" and "resource=https%3A%2F%2Fstorage.azure.com%2F" in path
        count = len(list(blobs(endpoint, certificates / "ca.crt")))
        assert count > 4
    finally:
        identity.shutdown()
        identity.server_close()
        service.stop()


def call(endpoint, ca, method, path):
    request = urllib.request.Request(f"{endpoint}/{path}", method=method, headers={
        "x-ms-version": "2021-12-02", "Authorization": f"Bearer {unsigned_token()}", "Content-Length": "0"})
    with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=str(ca)), timeout=30) as answer:
        return answer.read().decode("utf-8-sig")


def make_container(endpoint, ca):
    call(endpoint, ca, "PUT", "lake?restype=container")


def blobs(endpoint, ca):
    return re.findall(r"<Name>([^<]+)</Name>", call(endpoint, ca, "GET", "lake?restype=container&comp=list"))
