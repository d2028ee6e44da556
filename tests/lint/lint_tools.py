"""The linters others keep: luacheck, clang-format, codespell, shellcheck, Python's compiler."""

import ast
import pathlib
import shutil
import subprocess

from lint import Skip

NAME = "tools"


def run(tree, tool, arguments, files):
    if tree.root is None:
        return
    if shutil.which(tool) is None:
        raise Skip(f"{tool} is not installed (tools/deps test)")
    if not files:
        return
    result = subprocess.run([tool, *arguments, *files], cwd=tree.root, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if result.returncode != 0:
        lines = [line for line in result.stdout.strip().split("\n") if line.strip()]
        yield from lines[:40]
        if len(lines) > 40:
            yield f"and {len(lines) - 40} more lines"
        if not lines:
            yield f"{tool} ended with {result.returncode}"


def check(tree):
    "Python compiles"
    for path, text in tree.under("", ".py"):
        try:
            ast.parse(text, path)
        except SyntaxError as problem:
            yield f"{path}:{problem.lineno}: {problem.msg}"


def luacheck(tree):
    "luacheck"
    yield from run(tree, "luacheck", ["--quiet", "--no-color"], [p for p, _ in tree.under("", ".lua") if not p.startswith(("tests/golden/", "tests/fuzz/corpus/"))])


def clang_format(tree):
    "clang-format"
    files = [p for p, _ in tree.under("", ".c", ".h", ".cpp")
             if p.startswith(("runtime/", "tests/")) and not p.startswith("runtime/abi/")]
    for line in run(tree, "clang-format-14", ["--dry-run", "--Werror"], files):
        if "error:" in line or "more lines" in line:
            yield line + " (make fmt)"


def codespell(tree):
    "codespell"
    yield from run(tree, "codespell", [], [p for p in tree if not p.startswith(("tests/golden/", "tests/fuzz/corpus"))])


def shellcheck(tree):
    "shellcheck"
    scripts = [p for p, t in tree.items() if t.startswith(("#!/usr/bin/env bash", "#!/bin/sh", "#!/bin/bash"))]
    yield from run(tree, "shellcheck", [], scripts)


def executable(tree):
    "scripts with a first line for the shell may be executed"
    for path, text in tree.items():
        if path.startswith("tests/fuzz/corpus/"):
            continue
        if tree.root is not None and text.startswith("#!") and not pathlib.Path(tree.root, path).stat().st_mode & 0o100:
            yield f"{path}:1: begins with #! and is not executable"


CHECKS = [check, luacheck, clang_format, codespell, shellcheck, executable]
BAD = {"Python that does not compile": {"a.py": "def f(:\n"}}
GOOD = {"Python that does": {"a.py": "def f():\n    return 1\n"}}
