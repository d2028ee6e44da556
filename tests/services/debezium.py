"""Kafka Connect with Debezium's connector for PostgreSQL, from Maven Central.

    connect = debezium.start(kafka)                                   # one process, as many connectors as wanted
    connect.capture("shop", database, "shop", ["public.orders"])      # topics shop.public.orders …
    connect.remove("shop"); connect.kill(); connect.restart(); connect.stop()

The jars of Connect are those of the broker (kafka.py). `capture` returns when the connector and its task run.
"""

import contextlib
import json
import shutil
import time
import urllib.error
import urllib.request

import kafka as broker
from service import HOME, Process, Service, free_ports, locked, quiet

VERSION = "3.7.0.Final"
CONVERTER = "2.6.13.Final"  # of Avro, into Confluent's wire format; of 3.x a dependency is missing
START_S = 120
JSON = "org.apache.kafka.connect.json.JsonConverter"
AVRO = "io.apicurio.registry.utils.converter.AvroConverter"
AVRO_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>test</groupId><artifactId>avro-converter</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>io.apicurio</groupId><artifactId>apicurio-registry-utils-converter</artifactId><version>{CONVERTER}</version></dependency>
  </dependencies>
</project>
"""


def install(avro=False):
    """The connector's plugin and, for topics in Avro, the converter's. Idempotent; returns the folder."""
    broker.install()
    home = HOME / "debezium"
    with locked(home):
        done = home / f"installed-{VERSION}"
        if not done.exists():
            shutil.rmtree(home / "plugins", ignore_errors=True)
            (home / "plugins").mkdir()
            quiet("mvn", "-q", "-B", "dependency:copy", f"-Dartifact=io.debezium:debezium-connector-postgres:{VERSION}:tar.gz:plugin",
                  "-DoutputDirectory=.", cwd=home)
            archive, = home.glob("debezium-connector-postgres-*.tar.gz")
            quiet("tar", "xzf", str(archive), "-C", "plugins", cwd=home)
            archive.unlink()
            done.touch()
        done = home / f"installed-avro-{CONVERTER}"
        if avro and not done.exists():
            (home / "pom.xml").write_text(AVRO_POM)
            shutil.rmtree(home / "avro", ignore_errors=True)
            quiet("mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=avro/converter", cwd=home)
            done.touch()
    return home


class Connect(Service):
    def __init__(self, kafka, avro=False, heap="256m"):
        self.home = install(avro)
        self.kafka = kafka
        self.heap = heap
        super().__init__(self.home)
        self.port, = free_ports(1)
        self.names = []
        plugins = [self.home / "plugins", *([self.home / "avro"] if avro else [])]
        (self.folder / "worker.properties").write_text("".join(f"{key}={value}\n" for key, value in {
            "bootstrap.servers": kafka.plaintext, "key.converter": JSON, "value.converter": JSON,
            "offset.storage.file.filename": self.folder / "offsets", "offset.flush.interval.ms": 200,
            "listeners": f"http://127.0.0.1:{self.port}", "plugin.path": ",".join(map(str, plugins)), "plugin.discovery": "hybrid_warn",
            # a message Debezium takes twice would be read twice
            "producer.enable.idempotence": "true",
        }.items()))
        self.restart()

    def call(self, path, body=None, method=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method or ("POST" if body is not None else "GET"),
                                         data=json.dumps(body).encode() if body is not None else None,
                                         headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
        except urllib.error.HTTPError as refusal:
            raise RuntimeError(f"connect: {path}: {refusal.code} {refusal.read()[:2000]}") from None
        return json.loads(text) if text else None

    def answers(self):
        with contextlib.suppress(OSError, RuntimeError):
            self.call("/connectors")
            return True
        return False

    def restart(self):
        """Starts the worker, after `end`, `kill` or at first; connectors of before are captured again with their offsets."""
        assert self.process is None
        self.process = Process(
            [broker.java(), f"-Xmx{self.heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
             f"-Dlog4j2.configurationFile={broker.HOME}/log4j2.properties", "-cp", f"{broker.HOME}/lib/*",
             "org.apache.kafka.connect.cli.ConnectStandalone", str(self.folder / "worker.properties")],
            self.folder / "connect.log", self.answers, cwd=self.folder, seconds=START_S)
        for name, config in self.names:
            self.begin(name, config)

    def begin(self, name, config):
        self.call("/connectors", {"name": name, "config": config})
        give_up = time.monotonic() + START_S
        while True:
            status = self.call(f"/connectors/{name}/status")
            states = [status["connector"]["state"], *(task["state"] for task in status["tasks"])]
            if states == ["RUNNING", "RUNNING"]:
                return
            if "FAILED" in states or time.monotonic() > give_up:
                raise RuntimeError(f"connector {name}: {status}\n{(self.folder / 'connect.log').read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)

    def capture(self, name, postgres, database, tables, schemas=False, avro=None, **options):
        """Captures tables into topics `<name>.<schema>.<table>`. `avro`: the registry's URL without a path. Underscores of options are dots."""
        config = {
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector", "tasks.max": "1", "plugin.name": "pgoutput",
            "database.hostname": "127.0.0.1", "database.port": str(postgres.port), "database.user": "postgres", "database.password": "x",
            "database.dbname": database, "topic.prefix": name, "slot.name": name, "publication.name": name,
            "publication.autocreate.mode": "filtered", "table.include.list": ",".join(tables), "poll.interval.ms": "10",
            "topic.creation.default.replication.factor": "1", "topic.creation.default.partitions": "1",
            "slot.drop.on.stop": "false", "snapshot.mode": "initial",
        }
        for part in ("key", "value"):
            if avro is None:
                config |= {f"{part}.converter": JSON, f"{part}.converter.schemas.enable": str(schemas).lower()}
            else:
                config |= {
                    f"{part}.converter": AVRO, f"{part}.converter.apicurio.registry.url": f"{avro}/apis/registry/v2",
                    f"{part}.converter.apicurio.registry.auto-register": "true", f"{part}.converter.apicurio.registry.as-confluent": "true",
                    f"{part}.converter.apicurio.registry.use-id": "contentId", f"{part}.converter.apicurio.registry.headers.enabled": "false",
                    "schema.name.adjustment.mode": "avro", "field.name.adjustment.mode": "avro"}
        config |= {key.replace("_", "."): str(value).lower() if isinstance(value, bool) else str(value) for key, value in options.items()}
        self.begin(name, config)
        self.names.append((name, config))

    def remove(self, name):
        """The connector stops; its replication slot stays the database's."""
        self.call(f"/connectors/{name}", method="DELETE")
        self.names = [each for each in self.names if each[0] != name]


def start(kafka, avro=False, **options):
    return Connect(kafka, avro, **options)
