"""Runs the project's tests, three jobs at a time and beside them two that mostly wait for servers, and counts individual tests over all runners.

usage: python3 tools/run_tests.py check|test|long|lint [JOB…]

Every job is a command; a test job's output is read as TAP or JUnit. A job that ends badly without
naming a failed test counts as one failure, and so does one that ran no test at all, so nothing is
lost silently. A few failures against real servers, whose timing is theirs, are run once more by themselves;
what passes then is told as UNSTEADY, and is to be looked into. Logs are in build/test/<job>.log. The last line is "N passed, N failed[, N skipped]".
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as xml

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "test"
PARALLEL = 3
WAITING = 2
PYTHON = str(ROOT / "build/venv/bin/python")


class Job:
    def __init__(self, name, command, reads=None, needs=(), env=None, minutes=5, waits=False):
        self.name = name
        self.command = command
        self.reads = reads  # None (a build step), "tap", or the path of a JUnit file
        self.needs = needs
        self.env = env or {}
        self.minutes = minutes
        self.waits = waits  # more than it computes: runs beside the others
        self.passed = 0
        self.failures = []
        self.skips = []
        self.unsteady = []
        self.seconds = 0.0
        self.cpu = 0.0  # seconds of its processes, as far as their parents waited for them
        self.done = False
        self.log = OUT / (re.sub(r"\W+", "-", name) + ".log")

    @property
    def ok(self):
        return self.done and not self.failures


TAP = re.compile(r"^(not ok|ok)\s+\d+\s*(?:-\s*)?(.*)$")


def read_tap(text, job, prefix=""):
    for line in text.split("\n"):
        match = TAP.match(line)
        if not match:
            continue
        name, _, skip = match.group(2).partition("# SKIP")
        if "# SKIP" in match.group(2):
            job.skips.append(f"{prefix}{name.strip()} {skip.strip()}".strip())
        elif match.group(1) == "ok":
            job.passed += 1
        else:
            job.failures.append(prefix + name.strip())


def read_junit(path, job):
    """JUnit of pytest, of busted, or of ctest, whose cases carry the TAP of a whole cmocka program."""
    for case in xml.parse(path).getroot().iter("testcase"):
        name = f"{case.get('classname', '')}: {case.get('name', '')}"
        bad = case.find("failure") is not None or case.find("error") is not None
        tap = case.findtext("system-out") or ""
        if any(TAP.match(line) for line in tap.split("\n")):
            before = len(job.failures)
            read_tap(tap, job, prefix=f"{case.get('name')}: ")
            if bad and len(job.failures) == before:
                job.failures.append(f"{case.get('name')}: ended before its tests did")
        elif bad:
            job.failures.append(name)
        elif case.find("skipped") is not None:
            job.skips.append(f"{name} {case.find('skipped').get('message', '')}")
        else:
            job.passed += 1


def wait(process, until):
    """How it ended, None when it did not in time; and the seconds of CPU it took."""
    while True:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid != 0:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, used.ru_utime + used.ru_stime
        if time.monotonic() > until:
            return None, 0.0
        time.sleep(0.05)


def run(job):
    environment = {**os.environ, **job.env}
    started = time.monotonic()
    junit = ROOT / job.reads if job.reads not in (None, "tap") else None
    if junit:
        junit.unlink(missing_ok=True)
    with open(job.log, "wb") as log:
        process = subprocess.Popen(job.command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        code, job.cpu = wait(process, started + job.minutes * 60)
        if code is None:
            os.killpg(process.pid, signal.SIGKILL)
            _, job.cpu = wait(process, float("inf"))
            code = "no end after %g minutes" % job.minutes
    job.seconds = time.monotonic() - started
    text = job.log.read_text(encoding="utf-8", errors="replace")
    try:
        if job.reads == "tap":
            read_tap(text, job)
        elif junit and junit.exists():
            read_junit(junit, job)
    except xml.ParseError as problem:
        job.failures.append(f"{job.name}: unreadable report: {problem}")
    if job.name.startswith(AGAIN) and junit and 0 < len(job.failures) <= 3:
        run_again(job, environment)
    if code != 0 and not job.failures and not job.unsteady:
        job.failures.append(f"{job.name}: ended with {code}")
    elif job.reads and not (job.passed or job.failures or job.skips):
        job.failures.append(f"{job.name}: ran no test")


AGAIN = ("services", "integration")  # and their parts


def run_again(job, environment):
    """Runs a pytest job's failed tests alone; those that pass are unsteady."""
    for name in list(job.failures):
        place, _, case = name.partition(": ")
        node = place.replace(".", "/") + ".py::" + case
        report = OUT / f"again-{job.log.stem}.xml"
        report.unlink(missing_ok=True)
        with open(job.log, "ab") as log:
            log.write(f"\n=== once more: {node}\n".encode())
            command = [part for part in job.command if not part.startswith(("--junitxml", "--ignore", "tests/"))]
            subprocess.run([*command, f"--junitxml={report}", node], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
                           stdout=log, stderr=subprocess.STDOUT, timeout=job.minutes * 60)
        again = Job("again", [], reads=str(report))
        if report.exists():
            read_junit(report, again)
        if again.passed == 1 and not again.failures:
            job.failures.remove(name)
            job.unsteady.append(name)
            job.passed += 1


def in_memory(needed=4 << 30):
    """A folder for what `make test` writes, where there is memory for it: kill -9 and errors are the same there, and thousands
    of small synced files cost a fraction. None: the usual one. `make test-long` is for real disks."""
    try:
        kind = subprocess.run(["stat", "-f", "-c", "%T", "/dev/shm"], capture_output=True, text=True).stdout.strip()
        available = int(re.search(r"MemAvailable:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text()).group(1)) << 10
        if kind != "tmpfs" or "TMPDIR" in os.environ or min(shutil.disk_usage("/dev/shm").free, available // 2) < needed:
            return None
        folder = tempfile.mkdtemp(prefix="weir-test-", dir="/dev/shm")
    except (OSError, AttributeError):
        return None
    os.chmod(folder, 0o755)  # servers under accounts of their own have theirs in it
    return folder


class Runner:
    def __init__(self, jobs):
        self.jobs = jobs
        self.lock = threading.Condition()
        self.waiting = list(jobs)
        self.started = time.monotonic()

    def report(self, job):
        counts = [f"{job.passed} passed"] if job.reads else ["built" if not job.failures else "not built"]
        if job.failures and job.reads:
            counts.append(f"{len(job.failures)} FAILED")
        if job.skips:
            counts.append(f"{len(job.skips)} skipped")
        print(f"[{time.monotonic() - self.started:4.0f} s] {job.name:<28} {', '.join(counts)} ({job.seconds:.1f} s, {job.cpu:.0f} s of CPU)", flush=True)
        for name in job.failures[:20]:
            print(f"           FAILED {name}")
        for name in job.unsteady:
            print(f"           UNSTEADY {name}: passed at a second try")
        for name in job.skips[:5]:
            print(f"           skipped {name}")
        if job.failures and job.log.exists():
            print(f"           log: {job.log.relative_to(ROOT)}")
            lines = job.log.read_text(encoding="utf-8", errors="replace").rstrip().split("\n")
            tail = [line for line in lines if not line.startswith("ok ")][-25:]
            print("".join(f"           | {line[:240]}\n" for line in tail), end="", flush=True)

    def take(self, waits):
        """The next job of a kind whose needs are met; None when nothing is left. Blocks while jobs may become ready."""
        with self.lock:
            while True:
                mine = [job for job in self.waiting if job.waits == waits]
                for job in mine:
                    needs = [other for other in self.jobs if other.name in job.needs]
                    broken = [other.name for other in needs if other.done and not other.ok]
                    if broken:
                        self.waiting.remove(job)
                        job.failures.append(f"{job.name}: not run, since '{broken[0]}' failed")
                        job.done = True
                        self.report(job)
                        self.lock.notify_all()
                        break
                    if all(other.done for other in needs):
                        self.waiting.remove(job)
                        return job
                else:
                    if not mine:
                        return None
                    self.lock.wait()

    def work(self, waits=False):
        while (job := self.take(waits)) is not None:
            run(job)
            with self.lock:
                job.done = True
                self.report(job)
                self.lock.notify_all()

    def go(self):
        OUT.mkdir(parents=True, exist_ok=True)
        threads = [threading.Thread(target=self.work) for _ in range(PARALLEL)]
        threads += [threading.Thread(target=self.work, args=(True,)) for _ in range(WAITING)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        passed = sum(job.passed for job in self.jobs)
        failed = sum(len(job.failures) for job in self.jobs)
        skipped = sum(len(job.skips) for job in self.jobs)
        print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
        return 1 if failed else 0


SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:detect_stack_use_after_return=0",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": f"halt_on_error=1:second_deadlock_stack=1:suppressions={ROOT}/tests/tsan.supp",
    "WEIR_CRASH_RUNS": "400",  # a simulated disk has no threads, and its runs take their time here
    "WEIR_POWER_SEEDS": "32",
    "WEIR_RELOADS": "12",
}


def build(preset, *targets):
    return Job(f"build {preset}", ["tools/build", preset, *targets], minutes=10)


def unit(preset, workers=2, seeds=None, long=False):
    """`seeds`: of the simulation, which is short by itself."""
    report = f"build/test/unit-{preset}.xml"
    command = ["ctest", "--test-dir", f"build/{preset}", "-j", str(workers), "--output-on-failure", "--no-tests=error",
               "--timeout", "300", "--test-output-size-passed", "10000000", "--test-output-size-failed", "10000000",
               "--output-junit", str(ROOT / report)]
    return Job(f"unit ({preset})", command, reads=report, needs=(f"build {preset}",),
               env={"CMOCKA_MESSAGE_OUTPUT": "TAP", **SANITIZERS, **({"WEIR_SIM_SEEDS": seeds} if seeds else {}), **(LONG if long else {})}, minutes=20)


def abi(preset):
    return Job("abi", ["luajit", "tests/abi/abi_test.lua", ".", f"build/{preset}/weir"], reads="tap", needs=(f"build {preset}",))


def specs(preset):
    return Job("specs", [f"build/{preset}/weir", "test", "--output", "tap"], reads="tap", needs=(f"build {preset}",))


def busted(name, folder):
    """Under plain LuaJIT, without the binary: the stdlib alone."""
    return Job(name, ["busted", "--lua=luajit", "--output=TAP", folder], reads="tap")


def lints(*needs):
    return Job("lints", ["python3", "tests/lint/lint.py"], reads="tap", needs=needs)


def pytest(name, binary, files, *options, needs=(), env=None, minutes=8, waits=False):
    report = f"build/test/{re.sub(r'[^a-z]+', '-', name)}.xml"
    command = [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "tmp_path_retention_policy=failed",
               "-o", "tmp_path_retention_count=1", f"--junitxml={report}", *options, *files]
    return Job(name, command, reads=report, needs=("judges", *needs), env={"WEIR_BINARY": str(ROOT / binary), **(env or {})},
               minutes=minutes, waits=waits)


def judges():
    return Job("judges", ["tools/venv"], minutes=5)


INTEGRATION = ["tests/integration"]
CRASH = "tests/integration/test_crash.py"
# Tests against real servers (tests/services), which a job of their own starts once.
SERVICES = sorted(
    str(path.relative_to(ROOT)) for path in (ROOT / "tests/integration").glob("test_*.py")
    if re.search(r"^(import|from) (kafka|azurite|s3|registry|postgres|debezium)\b|def test_\w+\([^)]*\b(kafka|registry|postgres|apicurio)\b",
                 path.read_text(encoding="utf-8"), re.MULTILINE))
# Tests that ask Spark, by their names or their file's.
SPARK = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests/integration").glob("test_*.py")
               if re.search(r"def test_\w+\(spark\b", path.read_text(encoding="utf-8")))
ALONE = [f"--ignore={path}" for path in [CRASH, *SERVICES]]
LONG = {"WEIR_LONG": "1"}  # every case where `make test` takes some
ENDS = ["tests/integration/test_stops.py", "tests/integration/test_reload.py"]


def shares(files, count):
    """As many lists, of about as much text: jobs that run side by side."""
    lists = [[] for _ in range(count)]
    for path in sorted(files, key=lambda path: -(ROOT / path).stat().st_size):
        min(lists, key=lambda list: sum((ROOT / path).stat().st_size for path in list)).append(path)
    return [sorted(list) for list in lists]


def whole_runs():
    """Against the release build: what "ends (asan)" runs, crashes and real servers are jobs of their own."""
    alone = [CRASH, ENDS[0], *SERVICES]
    here = [str(path.relative_to(ROOT)) for path in (ROOT / "tests/integration").glob("test_*.py")]
    return shares([path for path in here if path not in alone], 2)


def suite(name):
    if name == "lint":
        return [lints()]
    if name == "check":
        return [build("dev"), unit("dev"), abi("dev"), specs("dev"), busted("jit", "tests/jit"), busted("stdlib", "spec/stdlib"), lints("build dev")]
    if name == "test":
        first, second = whole_runs()
        brokers, others = [path for path in SERVICES if "kafka" in path], [path for path in SERVICES if "kafka" not in path]
        return [
            build("release"), judges(),
            pytest("services", "build/release/weir", brokers, needs=("build release",), minutes=25, waits=True),
            pytest("services 2", "build/release/weir", others, needs=("build release",), minutes=25, waits=True),
            abi("release"), specs("release"), busted("jit", "tests/jit"), busted("stdlib", "spec/stdlib"),
            build("asan"), unit("release", seeds="1000"), build("tsan", "weir"), lints("build release"),
            pytest("integration", "build/release/weir", first, needs=("build release",), minutes=20),
            pytest("integration 2", "build/release/weir", second, needs=("build release",), minutes=20),
            unit("asan"),
            pytest("crash", "build/release/weir", [CRASH], needs=("build release",), minutes=20),
            # One whole run a sanitizer: every end a run can have, and rules saved while events flow.
            pytest("ends (asan)", "build/asan/weir", ENDS, needs=("build asan",), env=SANITIZERS),
            pytest("ends (tsan)", "build/tsan/weir", ENDS, "-k", "not failure", needs=("build tsan",),
                   env={**SANITIZERS, "WEIR_STOPS": "2"}),
        ]
    if name == "long":
        return [
            build("release"), judges(), build("tsan"), build("asan"),
            unit("tsan", long=True), unit("asan", long=True),
            Job("power (asan)", ["build/asan/unit/test_power_loss"], needs=("build asan",),
                env={**SANITIZERS, "WEIR_POWER_SEEDS": "500", "CMOCKA_MESSAGE_OUTPUT": "TAP"}, reads="tap", minutes=60),
            pytest("integration (tsan)", "build/tsan/weir", INTEGRATION, *ALONE, needs=("build tsan",), env={**SANITIZERS, **LONG}, minutes=90),
            pytest("integration (asan)", "build/asan/weir", INTEGRATION, *ALONE, needs=("build asan",), env={**SANITIZERS, **LONG}, minutes=90),
            pytest("services (tsan)", "build/tsan/weir", SERVICES, needs=("build tsan",), env={**SANITIZERS, **LONG}, minutes=90),
            pytest("services (asan)", "build/asan/weir", SERVICES, needs=("build asan",), env={**SANITIZERS, **LONG}, minutes=90),
            pytest("services (long)", "build/release/weir", SERVICES, needs=("build release",), env={**LONG, "WEIR_STORE_SEEDS": "50", "WEIR_CDC_CHANGES": "20000", "WEIR_CDC_KILLS": "8", "WEIR_EVOLVE_ALL": "1", "WEIR_KAFKA_EVENTS": "40000", "WEIR_CRASH_HITS": "1,3"},
                   minutes=60),
            pytest("crash (long)", "build/release/weir", [CRASH], needs=("build release",),
                   env={**LONG, "WEIR_CRASH_HITS": "1,2,7", "WEIR_RANDOM_KILLS": "200", "WEIR_CRASH_EVENTS": "240000", "WEIR_CRASH_EVERY": "20ms"}, minutes=90),
            pytest("oracles (long)", "build/release/weir", ["tests/integration/test_parcels.py", "tests/integration/test_stranger.py"], needs=("build release",),
                   env={**LONG, "WEIR_PARCELS": "5000000", "WEIR_STRANGER_ROWS": "1000000"}, minutes=60),
            pytest("ends (long)", "build/release/weir", ENDS, needs=("build release",), env={**LONG, "WEIR_RELOADS": "1000"}, minutes=60),
            pytest("spark (long)", "build/release/weir", SPARK, "-k", "spark", needs=("build release",), env={**LONG, "WEIR_SPARK": "1"}, minutes=30),
            pytest("tables (long)", "build/release/weir", ["tests/integration/test_operations.py", "tests/integration/test_kill_syscalls.py",
                                               "tests/integration/test_maintain.py"],
                   needs=("build release",), env={**LONG, "WEIR_GOLDEN": "all", "WEIR_OPERATION_SEEDS": "200", "WEIR_OPERATIONS": "40", "WEIR_SYSCALLS": "all"}, minutes=90),
            Job("simulation (long)", ["build/release/unit/test_simulation"], reads="tap", needs=("build release",),
                env={"CMOCKA_MESSAGE_OUTPUT": "TAP", "WEIR_SIM_SEEDS": "20000"}, minutes=60),
            Job("fuzz", ["python3", "tools/fuzz.py"], reads="tap", minutes=600),
        ]
    print(__doc__, file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    chosen = suite(sys.argv[1] if len(sys.argv) > 1 else "")
    if len(sys.argv) > 2:
        wanted = set(sys.argv[2:])
        for job in chosen:
            if job.name in wanted:
                wanted.update(job.needs)
        chosen = [job for job in chosen if job.name in wanted]
    scratch = in_memory() if sys.argv[1] == "test" else None
    if scratch:
        os.environ["TMPDIR"] = scratch
    try:
        sys.exit(Runner(chosen).go())
    finally:
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)
