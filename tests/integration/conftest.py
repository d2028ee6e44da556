"""Fixtures: the binary under test, a scratch project, and tables read by three independent readers."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TIMEOUT_S = 120
LONG = os.environ.get("WEIR_LONG") == "1"  # make test-long: every case of what `make test` proves with some


def some(cases, count):
    """The first cases in `make test`, all of them in `make test-long`."""
    cases = list(cases)
    return cases if LONG else cases[:count]


sys.path.insert(0, str(ROOT / "tests/bench"))  # the crash tests use the bench's events
sys.path.insert(0, str(ROOT / "tests/services"))  # real servers


class Outcome:
    def __init__(self, code, out, err):
        self.code = code
        self.out = out
        self.err = err

    def json(self):
        """The last line of standard output that is a JSON object."""
        for line in reversed(self.out.strip().split("\n")):
            if line.startswith("{"):
                return json.loads(line)
        raise AssertionError(f"no JSON object in the output:\n{self.out}\n{self.err}")

    def __repr__(self):
        return f"exit {self.code}\n--- stdout\n{self.out[-4000:]}\n--- stderr\n{self.err[-4000:]}"


class Command(subprocess.Popen):
    """In a `with` whose body fails it does not outlive it, or the failure would never be seen."""

    def __exit__(self, kind, *rest):
        if kind is not None:
            self.kill()
        super().__exit__(kind, *rest)


class Project:
    """A folder with a pipeline in it, and the command run inside it."""

    def __init__(self, binary, root):
        self.binary = binary
        self.root = pathlib.Path(root)
        self.root.mkdir(parents=True, exist_ok=True)

    def write(self, path, text):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
        return target

    def start(self, *arguments, env=None):
        return Command([self.binary, *arguments], cwd=self.root, env={**os.environ, **(env or {})}, text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, errors="replace")

    def weir(self, *arguments, env=None, timeout=TIMEOUT_S):
        process = self.start(*arguments, env=env)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"weir {' '.join(arguments)} did not end in {timeout} s: {Outcome(None, out, err)}") from None
        return Outcome(process.returncode, out, err)

    def run(self, pipeline, *arguments, env=None, code=0):
        outcome = self.weir("run", pipeline, "--until-end", "--json", *arguments, env=env)
        assert outcome.code == code, outcome
        return outcome.json() if code == 0 else outcome


@pytest.fixture(scope="session")
def binary():
    path = pathlib.Path(os.environ.get("WEIR_BINARY", ROOT / "build/release/weir"))
    if not path.exists():
        pytest.skip(f"{path} is not built (make build)")
    return path


@pytest.fixture
def project(binary, tmp_path):
    return Project(binary, tmp_path / "project")


@pytest.fixture
def new_project(binary, tmp_path):
    return lambda name: Project(binary, tmp_path / name)


@pytest.fixture(scope="session")
def kafka(binary):
    """A broker all tests of the session share: topics have names of their own."""
    import kafka as service
    if "tsan" in binary.parts:
        pytest.skip("librdkafka starts threads by C11's thrd_create, which GCC's ThreadSanitizer does not know: it crashes itself in them")
    broker = service.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def database():
    """A PostgreSQL all tests of the session share: schemas have names of their own."""
    import postgres
    server = postgres.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def connect(kafka):
    """Kafka Connect with Debezium, writing to the session's broker."""
    import debezium
    worker = debezium.start(kafka)
    yield worker
    worker.stop()


@pytest.fixture(scope="session")
def apicurio():
    """A real schema registry all tests of the session share: subjects have names of their own."""
    import apicurio as service
    registry = service.start()
    yield registry
    registry.stop()


@pytest.fixture(scope="session")
def connect_avro(kafka, apicurio):
    """As `connect`, with the converter that writes Avro."""
    import debezium
    worker = debezium.start(kafka, avro=True)
    yield worker
    worker.stop()


@pytest.fixture(scope="session")
def spark():
    """Spark with delta-spark, one process for all tests of the session. For the long tier: the packages are half a gigabyte. Its users
    take it first, and have "spark" in their name or their file's: by that tools/run_tests.py picks them out."""
    if os.environ.get("WEIR_SPARK") != "1":
        pytest.skip("Spark is asked for with WEIR_SPARK=1 (make test-long)")
    import spark as service
    session = service.start()
    yield session
    session.stop()
