"""Flink SQL in one JVM (a mini cluster) from the package index and Maven Central, for benches.

    took = flink.run(statements, slots=2, folder=…)     # SQL; ends when the last INSERT has
    took.cpu_seconds, took.seconds, took.resident_bytes
"""

import collections
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import time

from service import HOME, locked, quiet

VERSION = "2.2.0"
CONNECTOR = "4.0.1-2.0"  # of Kafka, for Flink 2
OPEN = ("java.lang", "java.lang.reflect", "java.io", "java.net", "java.nio", "java.text", "java.time", "java.util", "java.util.concurrent",
        "java.util.concurrent.atomic", "java.util.concurrent.locks")

Took = collections.namedtuple("Took", "cpu_seconds seconds resident_bytes")


def install():
    """Idempotent; returns the folder that holds lib and opt."""
    home = HOME / "flink"
    with locked(home):
        done = home / f"installed-{VERSION}-{CONNECTOR}"
        if not done.exists():
            shutil.rmtree(home / "dist", ignore_errors=True)
            quiet(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target", "dist",
                  f"apache-flink-libraries=={VERSION}", cwd=home)
            for artifact in (f"flink-sql-connector-kafka:{CONNECTOR}", f"flink-sql-gateway:{VERSION}"):  # the client's other half is not in the wheel
                quiet("mvn", "-q", "-B", "dependency:copy", f"-Dartifact=org.apache.flink:{artifact}", f"-DoutputDirectory={home}/dist/pyflink/lib", cwd=home)
            done.touch()
    return home / "dist/pyflink"


def run(statements, slots, folder, heap="2g", settings=None):
    """Runs SQL statements one after the other. RuntimeError with the end of the log when one fails."""
    home, folder = install(), pathlib.Path(folder)
    (folder / "conf").mkdir(parents=True, exist_ok=True)
    (folder / "tmp").mkdir(exist_ok=True)
    values = {"execution.target": "local", "parallelism.default": slots, "taskmanager.numberOfTaskSlots": slots, "rest.address": "localhost",
              "taskmanager.memory.managed.size": "1g", "taskmanager.memory.network.max": "128m", "io.tmp.dirs": folder / "tmp", **(settings or {})}
    (folder / "conf/config.yaml").write_text("".join(f"{key}: {value}\n" for key, value in values.items()), encoding="utf-8")
    (folder / "conf/log4j.properties").write_text("rootLogger.level=WARN\nrootLogger.appenderRef.f.ref=F\nappender.f.type=Console\nappender.f.name=F\n"
                                                  "appender.f.layout.type=PatternLayout\nappender.f.layout.pattern=%d %p %c{1} %m%n\n", encoding="utf-8")
    file = folder / "statements.sql"
    file.write_text("SET 'table.dml-sync' = 'true';\n" + statements, encoding="utf-8")
    jars = [*sorted(map(str, (home / "lib").glob("*.jar"))), *sorted(map(str, (home / "opt").glob("*.jar")))]  # opt: the SQL client and Python, whose options it parses
    command = ["java", f"-Xmx{heap}", "-XX:MaxDirectMemorySize=1g", "-XX:+IgnoreUnrecognizedVMOptions",
               *(f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in OPEN), f"-Djava.io.tmpdir={folder}/tmp",
               f"-Dlog4j.configurationFile={folder}/conf/log4j.properties", "-cp", ":".join(jars), "org.apache.flink.table.client.SqlClient",
               "embedded", "-f", str(file)]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env={**os.environ, "FLINK_CONF_DIR": str(folder / "conf")})
    after, seconds = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - start
    if done.returncode != 0 or "[ERROR]" in done.stdout:
        raise RuntimeError(f"Flink: exit {done.returncode}\n{done.stdout[-4000:]}")
    return Took(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, seconds, after.ru_maxrss * 1024)
