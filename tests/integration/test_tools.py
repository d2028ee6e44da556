"""The scripts that count tests and install packages: a failure must never be counted as nothing."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def runner(tmp_path, monkeypatch):
    module = load("run_tests")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "OUT", tmp_path / "out")
    module.OUT.mkdir()
    return module


def shell(runner, script, reads, **options):
    job = runner.Job("job", ["bash", "-c", script], reads=reads, **options)
    runner.run(job)
    return job


CONNECTORS = """
local json = require "weir.internal.json"
local native = require "weir.native"
it("tells", function()
  local told = {}
  for role, kinds in pairs(native.connectors()) do
    for kind, options in pairs(kinds) do
      local names = json.array {}
      for i, option in ipairs(options.options) do names[i] = option.name end
      told[role .. " " .. kind] = names
    end
  end
  io.stderr:write(json.encode(told), "\\n")
end)
"""


def test_every_option_of_a_connector_is_in_the_reference(project):
    language = load("language").load(ROOT)
    project.write("spec/connectors_spec.lua", CONNECTORS)
    outcome = project.weir("test", "--output", "tap")
    assert outcome.code == 0, outcome
    known = json.loads(next(line for line in outcome.err.splitlines() if line.startswith("{")))
    for connector, options in known.items():
        role, kind = connector.split(" ")
        classes = language.words[kind]["options"]
        of = {"sinks": classes[-1], "stores": classes[0], "sources": classes[-1 if kind == "delta" else 0], "decoders": classes[0]}[role]
        told = set(language.fields(of))
        assert set(options) <= told, (connector, set(options) - told)
        assert role == "stores" or told <= set(options), (connector, told - set(options))


def test_tap_is_counted_with_failures_and_skips(runner):
    job = shell(runner, "printf 'ok 1 - a\\nnoise\\nnot ok 2 - b\\nok 3 - c # SKIP why\\nok 4 # SKIP d\\n1..4\\n'; exit 1", "tap")
    assert (job.passed, job.failures, len(job.skips)) == (1, ["b"], 2)


def test_a_command_that_ends_badly_after_good_tests_is_a_failure(runner):
    job = shell(runner, "echo 'ok 1 - a'; exit 3", "tap")
    assert job.passed == 1 and job.failures == ["job: ended with 3"]


def test_a_command_that_runs_no_test_or_does_not_end_is_a_failure(runner):
    assert shell(runner, "true", "tap").failures == ["job: ran no test"]
    assert "no end after" in shell(runner, "exec sleep 60", "tap", minutes=0.005).failures[0]


def test_ctest_reports_are_opened_for_the_tap_inside_and_a_crash_is_a_failure(runner, tmp_path):
    (tmp_path / "r.xml").write_text("""<testsuite>
      <testcase name="test_a" classname="test_a" status="run"><system-out>1..3
ok 1 - x
ok 2 - y
ok 3 - # SKIP z
</system-out></testcase>
      <testcase name="test_b" classname="test_b" status="fail"><failure message=""/><system-out>ok 1 - x
not ok 2 - y
</system-out></testcase>
      <testcase name="test_c" classname="test_c" status="fail"><failure message="SEGFAULT"/><system-out>ok 1 - x
</system-out></testcase></testsuite>""")
    job = runner.Job("unit", [], reads="r.xml")
    runner.read_junit(tmp_path / "r.xml", job)
    assert job.passed == 4 and len(job.skips) == 1
    assert job.failures == ["test_b: y", "test_c: ended before its tests did"]


def test_pytest_reports_are_counted(runner, tmp_path):
    (tmp_path / "r.xml").write_text("""<testsuites><testsuite><testcase classname="m" name="a"/><testcase classname="m" name="b"><failure/></testcase>
      <testcase classname="m" name="c"><skipped message="no"/></testcase><testcase classname="m" name="d"><error/></testcase></testsuite></testsuites>""")
    job = runner.Job("it", [], reads="r.xml")
    runner.read_junit(tmp_path / "r.xml", job)
    assert (job.passed, job.failures, job.skips) == (1, ["m: b", "m: d"], ["m: c no"])


def test_what_needs_a_failed_job_is_a_failure_not_a_silence(runner, capsys):
    jobs = [runner.Job("build", ["false"]), runner.Job("tests", ["echo", "ok 1 - a"], reads="tap", needs=("build",)),
            runner.Job("others", ["echo", "ok 1 - a"], reads="tap")]
    assert runner.Runner(jobs).go() == 1
    assert capsys.readouterr().out.strip().split("\n")[-1] == "1 passed, 2 failed"


def test_the_last_line_of_a_good_run_counts_everything(runner, capsys):
    jobs = [runner.Job("a", ["printf", "ok 1 - a\nok 2 - b # SKIP c\n"], reads="tap"), runner.Job("b", ["echo", "ok 1 - a"], reads="tap")]
    assert runner.Runner(jobs).go() == 0
    assert capsys.readouterr().out.strip().split("\n")[-1] == "2 passed, 0 failed, 1 skipped"


def fake_tools(folder, installed):
    folder.mkdir()
    scripts = {
        "dpkg-query": f'for last; do :; done\ncase " {installed} " in *" $last "*) printf installed ;; *) exit 1 ;; esac',
        "apt-get": f'echo "$@" >>"{folder}/apt.log"',
        "id": "echo 0",
    }
    for name, body in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def deps(folder, installed):
    result = subprocess.run([ROOT / "tools/deps", "build"], env=fake_tools(folder, installed), capture_output=True, text=True)
    log = folder / "apt.log"
    return result, log.read_text() if log.exists() else ""


def test_deps_installs_only_what_is_missing_and_says_why(tmp_path):
    names = [line.split(":")[0].strip(' "') for line in (ROOT / "tools/deps").read_text().split("build=(")[1].split(")")[0].split("\n") if ":" in line]
    assert "cmake" in names
    result, log = deps(tmp_path / "all", " ".join(names))
    assert (result.returncode, result.stdout, log) == (0, "", "")
    result, log = deps(tmp_path / "some", " ".join(name for name in names if name not in ("cmake", "libjansson-dev")))
    assert result.returncode == 0 and "cmake - the build" in result.stdout
    assert "update" in log and "install" in log and log.strip().endswith("cmake libjansson-dev")


def test_reference_pages_are_those_of_the_tables():
    result = subprocess.run([sys.executable, ROOT / "tools/reference.py", "--check"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
