"""Fuzzes every parser of outside bytes: long runs, line coverage of the target's sources, and a planted bug that must be found.

usage: python3 tools/fuzz.py [TARGET…]      prints TAP
A target is tests/fuzz/fuzz_NAME.c with a comment line "fuzz: runtime/a.c runtime/b.c" that names the sources it is for; seeds are in
tests/fuzz/corpus/NAME. The planted bug is an out-of-bounds read under #ifdef WEIR_PLANT_BUG in one of those sources.
  WEIR_FUZZ_MINUTES   CPU-minutes a target (30)      WEIR_FUZZ_LINES   per cent of lines to reach (90)
"""

import json
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FUZZ = ROOT / "build/fuzz"
PLANTED = ROOT / "build/fuzz-planted"
MINUTES = float(os.environ.get("WEIR_FUZZ_MINUTES", "30"))
LINES = float(os.environ.get("WEIR_FUZZ_LINES", "90"))
OPTIONS = ["-timeout=10", "-rss_limit_mb=2048", "-max_len=65536", "-print_final_stats=1"]


class Report:
    count = 0
    failed = 0

    def say(self, ok, name, detail=""):
        self.count += 1
        self.failed += 0 if ok else 1
        print(f"{'ok' if ok else 'not ok'} {self.count} - {name}", flush=True)
        for line in detail.strip().split("\n") if detail.strip() else []:
            print(f"# {line}", flush=True)


def targets():
    found = {}
    for path in sorted((ROOT / "tests/fuzz").glob("fuzz_*.c")):
        match = re.search(r"fuzz:((?:[ \n*]+runtime/[\w/.]+)+)", path.read_text(encoding="utf-8"))
        found[path.stem] = re.findall(r"runtime/[\w/.]+", match.group(1)) if match else []
    return found


def build(folder, names, flags=""):
    extra = [f"-DCMAKE_C_FLAGS=-fprofile-instr-generate -fcoverage-mapping -fsanitize=fuzzer-no-link {flags}",
             f"-DCMAKE_CXX_FLAGS=-fprofile-instr-generate -fcoverage-mapping -fsanitize=fuzzer-no-link {flags}"] if flags else []
    log = subprocess.run(["cmake", "--preset", "fuzz", "-B", str(folder), *extra], cwd=ROOT, capture_output=True, text=True)
    if log.returncode == 0:
        log = subprocess.run(["ninja", "--quiet", "-C", str(folder), *names], cwd=ROOT, capture_output=True, text=True)
    return log.returncode == 0, (log.stdout + log.stderr)[-3000:]


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def corpus(name):
    grown = FUZZ / "corpus" / name
    grown.mkdir(parents=True, exist_ok=True)
    seeds = ROOT / "tests/fuzz/corpus" / name.removeprefix("fuzz_")
    return [str(grown)] + ([str(seeds)] if seeds.is_dir() else [])


def run(folder, name, minutes, where, profile=None, runs=None):
    """One run of a target. Minutes are of CPU, so that a busy machine does not make a run shorter: libFuzzer counts by the clock
    on the wall, and is started again on its grown corpus for what is left."""
    artifacts = FUZZ / "artifacts" / where / name
    shutil.rmtree(artifacts, ignore_errors=True)
    artifacts.mkdir(parents=True)
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
                   "LLVM_PROFILE_FILE": str(profile) if profile else os.devnull}
    left = minutes * 60
    while True:
        limit = [f"-runs={runs}"] if runs is not None else [f"-max_total_time={max(1, int(left))}"]
        before = cpu_seconds()
        result = subprocess.run([str(folder / "fuzz" / name), *OPTIONS, *limit, f"-artifact_prefix={artifacts}/", *corpus(name)], cwd=ROOT,
                                env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                errors="replace")
        left -= max(1.0, cpu_seconds() - before)
        if result.returncode != 0 or runs is not None or left < 1:
            return result


def coverage(name, sources):
    raw, merged = FUZZ / f"{name}.profraw", FUZZ / f"{name}.profdata"
    run(FUZZ, name, 0, "coverage", profile=raw, runs=0)
    subprocess.run(["llvm-profdata-14", "merge", "-sparse", str(raw), "-o", str(merged)], check=True)
    text = subprocess.run(["llvm-cov-14", "export", "-summary-only", str(FUZZ / "fuzz" / name), f"-instr-profile={merged}"], check=True,
                          capture_output=True, text=True).stdout
    wanted = {ROOT / source for source in sources}  # the compiler's names may be relative to the build folder
    files = [(pathlib.Path(os.path.normpath(FUZZ / f["filename"])), f["summary"]["lines"]) for f in json.loads(text)["data"][0]["files"]]
    lines = [(path.relative_to(ROOT), line) for path, line in files if path in wanted]
    if len(lines) != len(wanted):
        return 0.0, f"coverage knows {len(lines)} of the {len(wanted)} sources"
    count, covered = sum(line["count"] for _, line in lines), sum(line["covered"] for _, line in lines)
    detail = "\n".join(f"{path}: {line['covered']} of {line['count']} lines, {line['percent']:.1f} %" for path, line in lines)
    return 100.0 * covered / count if count else 0.0, detail


def main():
    report = Report()
    chosen = {name: sources for name, sources in targets().items() if len(sys.argv) < 2 or name.removeprefix("fuzz_") in sys.argv[1:]}
    ok, log = build(FUZZ, chosen)
    report.say(ok, "the fuzz targets build", "" if ok else log)
    if ok:
        planted, log = build(PLANTED, chosen, "-DWEIR_PLANT_BUG")
        report.say(planted, "the fuzz targets with a planted bug build", "" if planted else log)
        for name, sources in chosen.items():
            result = run(FUZZ, name, MINUTES, "clean")
            report.say(result.returncode == 0, f"{name}: {MINUTES:g} CPU-minutes without a finding", "" if result.returncode == 0 else result.stdout[-3000:])
            if not sources:
                report.say(False, f"{name}: names the sources it is for (a comment 'fuzz: runtime/…')")
                continue
            percent, detail = coverage(name, sources)
            report.say(percent >= LINES, f"{name}: {percent:.1f} % of its lines reached, {LINES:g} % wanted", detail)
            if not any("WEIR_PLANT_BUG" in (ROOT / source).read_text(encoding="utf-8") for source in sources):
                report.say(False, f"{name}: has a bug planted under WEIR_PLANT_BUG")
            elif planted:
                result = run(PLANTED, name, max(1.0, MINUTES), "planted")
                report.say(result.returncode != 0, f"{name}: finds the planted bug")
    print(f"1..{report.count}")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
