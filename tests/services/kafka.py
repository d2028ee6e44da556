"""A real Apache Kafka broker (KRaft, one node) from Maven Central, for tests and benches.

    broker = kafka.start()                    # a fresh broker on free ports, ready
    broker.plaintext                          # "127.0.0.1:41234"; also sasl, oauth, mtls, sasl_ssl
    broker.client("mtls")                     # librdkafka options of a client of that listener
    broker.create_topic("pos", partitions=4)
    broker.kill(); broker.restart()           # kill -9, then the same data and ports again
    broker.stop()

Nothing is left behind: the broker ends with its starter, and its data goes with `stop`.
By hand: python3 tests/services/kafka.py [PORT] runs one until interrupted.
"""

import contextlib
import os
import shutil
import signal
import sys

import service
from service import Process, Service, free_ports, locked, quiet

HOME = service.HOME / "kafka"
VERSION = "4.3.1"
CLUSTER = "abcdefghijklmnopqrstuQ"
START_S = 90
LISTENERS = ("plaintext", "sasl", "oauth", "mtls", "sasl_ssl", "controller")
USER, PASSWORD = "alice", "alice-secret"
CONNECTION_STRING = "Endpoint=sb://weir.example/;SharedAccessKeyName=read;SharedAccessKey=c2VjcmV0"

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>test</groupId><artifactId>kafka-dist</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
    <!-- topics, groups, perf tools; brings connect-runtime, so that the same folder runs Kafka Connect -->
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{VERSION}</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>connect-file</artifactId><version>{VERSION}</version></dependency>
    <!-- without an slf4j 1.7 binding the broker logs nothing -->
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.4</version></dependency>
  </dependencies>
</project>
"""
LOG4J = """rootLogger.level=INFO
rootLogger.appenderRef.f.ref=F
appender.f.type=Console
appender.f.name=F
appender.f.layout.type=PatternLayout
appender.f.layout.pattern=%d %p %c{1} %m%n
"""
PLAIN = ('org.apache.kafka.common.security.plain.PlainLoginModule required username="admin" password="admin-secret" '
         f'user_admin="admin-secret" user_{USER}="{PASSWORD}" user_$ConnectionString="{CONNECTION_STRING}";')
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
OAUTH = 'org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
SETTINGS = {
    "process.roles": "broker,controller", "node.id": "1", "num.partitions": "1",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,OAUTH:SASL_PLAINTEXT,MTLS:SSL,SASLSSL:SASL_SSL,CONTROLLER:PLAINTEXT",
    "controller.listener.names": "CONTROLLER", "inter.broker.listener.name": "PLAINTEXT",
    "offsets.topic.replication.factor": "1", "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1", "transaction.state.log.min.isr": "1", "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1", "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # After kill -9 the controller holds the dead incarnation's registration for this long.
    "broker.session.timeout.ms": "2000", "broker.heartbeat.interval.ms": "400",
    "auto.create.topics.enable": "false", "log.retention.check.interval.ms": "500",
    "log.retention.ms": "-1",  # tests write times of years ago; those about retention set their topic's own
    "log.segment.delete.delay.ms": "100",
    "num.network.threads": "2", "num.io.threads": "4", "background.threads": "2",
    "log.cleaner.dedupe.buffer.size": "8388608", "log.cleaner.io.buffer.size": "65536", "log.index.size.max.bytes": "262144",
    "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
    "listener.name.sasl.plain.sasl.jaas.config": PLAIN,
    "listener.name.sasl.scram-sha-256.sasl.jaas.config": SCRAM,
    "listener.name.sasl.scram-sha-512.sasl.jaas.config": SCRAM,
    "listener.name.saslssl.sasl.enabled.mechanisms": "PLAIN",
    "listener.name.saslssl.plain.sasl.jaas.config": PLAIN,
    "listener.name.oauth.sasl.enabled.mechanisms": "OAUTHBEARER",
    "listener.name.oauth.oauthbearer.sasl.jaas.config": OAUTH,
    "listener.name.mtls.ssl.client.auth": "required",
    "listener.name.mtls.ssl.keystore.type": "PEM", "listener.name.mtls.ssl.truststore.type": "PEM",
    "listener.name.saslssl.ssl.keystore.type": "PEM",
}


def java():
    return os.environ.get("JAVA", "java")


def make_certificates(folder):
    """A throw-away authority with a server's and a client's certificate, and a client's the broker must refuse."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    quiet("openssl", "req", "-x509", *key, "-days", "3650", "-subj", "/CN=test-ca", "-keyout", "ca.key", "-out", "ca.crt", cwd=folder)
    quiet("openssl", "req", "-x509", *key, "-days", "3650", "-subj", "/CN=rogue", "-keyout", "rogue.key", "-out", "rogue.crt", cwd=folder)
    for name in ("server", "client"):
        quiet("openssl", "req", *key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr", cwd=folder)
        (folder / f"{name}.ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
        quiet("openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "3650",
              "-extfile", f"{name}.ext", "-out", f"{name}.crt", cwd=folder)
        (folder / f"{name}.pem").write_text("".join((folder / part).read_text() for part in (f"{name}.key", f"{name}.crt", "ca.crt")))


def install():
    """Jars, certificates, a formatted data folder to copy, and an archive of loaded classes. Idempotent; returns the folder."""
    done = HOME / f"installed-{VERSION}-2"
    with locked(HOME):
        if done.exists():
            return HOME
        (HOME / "pom.xml").write_text(POM)
        quiet("mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=lib", cwd=HOME)
        shutil.rmtree(HOME / "certs", ignore_errors=True)
        make_certificates(HOME / "certs")
        (HOME / "log4j2.properties").write_text(LOG4J)
        shutil.rmtree(HOME / "formatted", ignore_errors=True)
        properties = HOME / "format.properties"
        write_properties(properties, HOME / "formatted", dict(zip(LISTENERS, range(1, 9))), {})
        scram = [argument for kind in ("256", "512")
                 for argument in ("--add-scram", f"SCRAM-SHA-{kind}=[name={USER},password={PASSWORD}]")]
        quiet(java(), "-Xmx64m", "-XX:TieredStopAtLevel=1", "-cp", f"{HOME}/lib/*", "kafka.tools.StorageTool", "format",
              "-t", CLUSTER, "-c", str(properties), *scram)
        archive = HOME / "kafka.jsa"
        archive.unlink(missing_ok=True)
        with contextlib.suppress(RuntimeError):  # only makes starts quicker
            Broker(jvm=[f"-XX:ArchiveClassesAtExit={archive}"]).stop()
        done.touch()
    return HOME


def write_properties(path, data, ports, settings):
    names = {"plaintext": "PLAINTEXT", "sasl": "SASL", "oauth": "OAUTH", "mtls": "MTLS", "sasl_ssl": "SASLSSL", "controller": "CONTROLLER"}
    listeners = [f"{names[name]}://127.0.0.1:{port}" for name, port in ports.items()]
    values = {
        **SETTINGS, "controller.quorum.voters": f"1@127.0.0.1:{ports['controller']}", "listeners": ",".join(listeners),
        "advertised.listeners": ",".join(each for each in listeners if not each.startswith("CONTROLLER")), "log.dirs": str(data),
        "listener.name.mtls.ssl.keystore.location": f"{HOME}/certs/server.pem",
        "listener.name.mtls.ssl.truststore.location": f"{HOME}/certs/ca.crt",
        "listener.name.saslssl.ssl.keystore.location": f"{HOME}/certs/server.pem", **settings,
    }
    path.write_text("".join(f"{key}={value}\n" for key, value in values.items()))


class Broker(Service):
    def __init__(self, settings=None, heap="256m", tier=1, jvm=(), port=None):
        """`settings`: more of server.properties. tier=4 compiles for speed (benches), 1 for a quick start."""
        HOME.mkdir(parents=True, exist_ok=True)
        super().__init__(HOME)
        self.log = self.folder / "kafka.log"
        self.settings = settings or {}
        self.jvm = [f"-Xms{heap}", f"-Xmx{heap}", "-XX:+UseSerialGC", f"-XX:TieredStopAtLevel={tier}", *jvm]
        shutil.copytree(HOME / "formatted", self.folder / "data")
        self.ports = dict(zip(LISTENERS, free_ports(len(LISTENERS))))
        if port is not None:
            self.ports["plaintext"] = port
        self.restart()

    def __getattr__(self, name):
        if name in LISTENERS:
            return f"127.0.0.1:{self.ports[name]}"
        raise AttributeError(name)

    def restart(self):
        """Starts the broker on its data, after `end`, `kill` or at first."""
        assert self.process is None
        properties = self.folder / "server.properties"
        write_properties(properties, self.folder / "data", self.ports, self.settings)
        archive = HOME / "kafka.jsa"
        share = [f"-XX:SharedArchiveFile={archive}", "-Xshare:auto"] if archive.exists() else []
        started = self.log.stat().st_size if self.log.exists() else 0

        def serves():
            with open(self.log, "rb") as log:
                log.seek(started)
                return b"Kafka Server started" in log.read()

        self.process = Process(
            [java(), *self.jvm, *share, f"-Dlog4j2.configurationFile={HOME}/log4j2.properties", "-cp", f"{HOME}/lib/*",
             "kafka.Kafka", str(properties)], self.log, serves, cwd=self.folder, seconds=START_S)
        return self

    def client(self, listener="plaintext", mechanism="PLAIN"):
        """The options of a librdkafka client that may use that listener."""
        certs = HOME / "certs"
        options = {"bootstrap.servers": getattr(self, listener)}
        if listener == "sasl":
            options |= {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": mechanism, "sasl.username": USER, "sasl.password": PASSWORD}
        elif listener == "oauth":
            options |= {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER",
                        "enable.sasl.oauthbearer.unsecure.jwt": "true", "sasl.oauthbearer.config": f"principal={USER}"}
        elif listener == "mtls":
            options |= {"security.protocol": "SSL", "ssl.ca.location": f"{certs}/ca.crt",
                        "ssl.certificate.location": f"{certs}/client.crt", "ssl.key.location": f"{certs}/client.key"}
        elif listener == "sasl_ssl":
            options |= {"security.protocol": "SASL_SSL", "ssl.ca.location": f"{certs}/ca.crt", "sasl.mechanism": "PLAIN",
                        "sasl.username": USER, "sasl.password": PASSWORD}
        return options

    def admin(self):
        from confluent_kafka.admin import AdminClient
        return AdminClient(self.client())

    def create_topic(self, name, partitions=1, config=None):
        from confluent_kafka.admin import NewTopic
        admin = self.admin()
        made = admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=1, config=config or {})])
        made[name].result(30)
        return name

    def producer(self, **options):
        from confluent_kafka import Producer
        return Producer({**self.client(), "linger.ms": 5, **{key.replace("_", "."): value for key, value in options.items()}})

    def produce(self, topic, values, **options):
        """Values (bytes, text, None for a tombstone, or dicts of `produce`'s arguments), durable when this returns."""
        producer = self.producer(**options)
        for value in values:
            arguments = value if isinstance(value, dict) else {"value": value}
            while True:
                try:
                    producer.produce(topic, **arguments)
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(60) == 0, "the broker did not take the messages"

    def tool(self, name, *arguments):
        """One of Kafka's own command-line classes, e.g. org.apache.kafka.tools.TopicCommand."""
        quiet(java(), "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{HOME}/lib/*", name, *arguments)


def start(**options):
    install()
    return Broker(**options)


if __name__ == "__main__":
    running = start(port=int(sys.argv[1]) if len(sys.argv) > 1 else None)
    for listener in LISTENERS[:-1]:
        print(f"{listener} {getattr(running, listener)}", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        running.stop()
