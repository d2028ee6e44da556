"""Each fact has one text: what the tables hold is in docs/reference, as tools/reference.py writes it."""

import pathlib
import re
import subprocess
import sys

NAME = "tables"
ROW = re.compile(r"^X\(\s*(\w+)", re.MULTILINE)
PAGE = {"runtime/core/errcode.def": "docs/reference/errors.md", "runtime/core/fault.def": "docs/reference/fault-points.md"}


def check(tree):
    for path, text in tree.under("runtime/", ".def"):
        page = PAGE.get(path)
        if page is None:
            yield f"{path}:1: no reference page; add one to tools/reference.py and to tests/lint/lint_tables.py"
            continue
        for match in ROW.finditer(text):
            if f"`{match.group(1)}`" not in tree.get(page, ""):
                yield f"{page}: `{match.group(1)}` of {path} is missing; run make reference"
    if tree.root is not None:
        result = subprocess.run([sys.executable, str(pathlib.Path(tree.root, "tools/reference.py")), "--check"],
                                capture_output=True, text=True)
        if result.returncode != 0:
            yield from (result.stdout + result.stderr).strip().split("\n")


def fault_points_used(tree):
    "every fault point is on a path, and every path's point is in the table"
    rows = set(ROW.findall(tree.get("runtime/core/fault.def", "")))
    used = set()
    for path, text in tree.under("runtime/", ".c", ".h", ".cpp"):
        if path != "runtime/core/fault.h":
            used.update(re.findall(r"WEIR_FAULT\(\s*(\w+)\s*\)", text))
            used.update(name for name in re.findall(r"\bWEIR_FAULT_(\w+)", text) if name in rows)
    for name in sorted(rows - used):
        yield f"runtime/core/fault.def: {name} is on no path: no crash test can reach it"


CHECKS = [check, fault_points_used]
BAD = {
    "an undocumented error": {"runtime/core/errcode.def": 'X(WEIR_E_NEW, DATA, "new")\n', "docs/reference/errors.md": "`WEIR_E_OLD`"},
    "a table without a page": {"runtime/core/metric.def": "X(a)\n"},
}
GOOD = {
    "a documented table": {"runtime/core/errcode.def": 'X(WEIR_E_NEW, DATA, "new")\n', "docs/reference/errors.md": "`WEIR_E_NEW`"},
}
