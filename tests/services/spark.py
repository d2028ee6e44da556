"""Spark with delta-spark, as one local process that runs SQL: PySpark from the package index, delta-spark's jars from Maven
Central, in a virtual environment of their own.

    session = spark.start()                       # some ten seconds, some 600 MB
    session.sql("select count(*) from delta.`/path`")   # rows as dicts; values that JSON lacks as Spark's texts
    session.stop()
"""

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile

from service import HOME, end_with_parent, locked, quiet

SPARK = "4.0.1"
DELTA = "4.0.0"
JARS = (f"io.delta:delta-spark_2.13:{DELTA}", f"io.delta:delta-storage:{DELTA}", "org.antlr:antlr4-runtime:4.13.1")
WORKER = """
import json, sys
from pyspark.sql import SparkSession
jars, scratch = sys.argv[1:3]
spark = (SparkSession.builder.master("local[1]").config("spark.jars", jars).config("spark.ui.enabled", "false")
    .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension").config("spark.sql.session.timeZone", "UTC")
    .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    .config("spark.sql.warehouse.dir", scratch + "/warehouse").config("spark.local.dir", scratch)
    .config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1")
    .config("spark.databricks.delta.snapshotPartitions", "1").config("spark.sql.shuffle.partitions", "1").config("spark.driver.memory", "700m").getOrCreate())
spark.sparkContext.setLogLevel("ERROR")
out = open(3, "w")
print(json.dumps({"ready": True}), file=out, flush=True)
for line in sys.stdin:
    try:
        rows = spark.sql(json.loads(line)).collect()
        answer = {"rows": [row.asDict(recursive=True) for row in rows]}
    except Exception as e:
        answer = {"error": str(e)}
    print(json.dumps(answer, default=str), file=out, flush=True)
"""


def install():
    """Idempotent; returns the folder."""
    home = HOME / "spark"
    with locked(home):
        done = home / f"installed-{SPARK}-{DELTA}"
        if not done.exists():
            python = home / "venv/bin/python"
            if not python.exists():
                quiet(sys.executable, "-m", "venv", str(home / "venv"))
            quiet(str(python), "-m", "pip", "install", "-q", "setuptools", "wheel", f"pyspark=={SPARK}")
            shutil.rmtree(home / "jars", ignore_errors=True)
            for jar in JARS:
                quiet("mvn", "-q", "-B", "dependency:copy", f"-Dartifact={jar}", "-DoutputDirectory=jars", cwd=home)
            done.touch()
    return home


class Session:
    def __init__(self):
        home = install()
        self.scratch = tempfile.mkdtemp(prefix="run-", dir=home)
        jars = ",".join(str(jar) for jar in sorted((home / "jars").glob("*.jar")))
        answers, theirs = os.pipe()
        with open(os.path.join(self.scratch, "log"), "wb") as log:
            def prepare():
                os.dup2(theirs, 3)
                end_with_parent()
            self.process = subprocess.Popen([str(home / "venv/bin/python"), "-c", WORKER, jars, self.scratch], stdin=subprocess.PIPE,
                                            stdout=log, stderr=log, preexec_fn=prepare, close_fds=True, pass_fds=(3, theirs) if theirs != 3 else (3,),
                                            text=True, start_new_session=True)
        os.close(theirs)
        self.answers = open(answers)
        self.answer()

    def answer(self):
        line = self.answers.readline()
        if not line:
            with open(os.path.join(self.scratch, "log"), errors="replace") as log:
                raise RuntimeError(f"Spark ended: {log.read()[-3000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"][:2000])
        return answer.get("rows")

    def sql(self, text):
        self.process.stdin.write(json.dumps(text) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def stop(self):
        if self.process is not None:
            self.process.stdin.close()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None
            self.answers.close()
            shutil.rmtree(self.scratch, ignore_errors=True)


def start():
    session = Session()
    atexit.register(session.stop)
    return session
