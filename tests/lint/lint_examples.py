"""Every marked example in README.md and docs/guide runs, in order, in one scratch folder a page.

In the Markdown, right above a fenced block:
  <!-- file: rules/silver/x.lua -->   the block is written to that path
  <!-- run -->                        the block is run by bash -e with `weir` on the PATH (a leading "$ " is dropped)
  <!-- run: exit 1 -->                … and must end with that code
  <!-- output -->                     every line of the block stands in the last run's output, in order; … matches anything
"""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from lint import Skip

NAME = "examples"
BLOCK = re.compile(r"<!-- (file|run|output)(?:: ([^>]*?))? -->\s*\n```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(text):
    for match in BLOCK.finditer(text):
        yield text[: match.start()].count("\n") + 1, match.group(1), match.group(2) or "", match.group(3)


def line_matches(wanted, line):
    expression = ".*".join(re.escape(part) for part in " ".join(wanted.split()).split("…"))
    return re.fullmatch(expression, " ".join(line.split())) is not None


def missing_line(wanted, output):
    lines = iter(output.split("\n"))
    for want in wanted.strip().split("\n"):
        if want.strip() in ("", "…"):
            continue
        if not any(line_matches(want, line) for line in lines):
            return want
    return None


def run_page(path, text, folder, environment):
    output = ""
    for number, kind, argument, body in blocks(text):
        where = f"{path}:{number}"
        if kind == "file":
            target = pathlib.Path(folder, argument)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(body, encoding="utf-8")
        elif kind == "run":
            script = re.sub(r"^\$ ", "", body, flags=re.MULTILINE)
            wanted = int(argument.split()[1]) if argument.startswith("exit") else 0
            result = subprocess.run(["bash", "-e", "-c", script], cwd=folder, env=environment, text=True, timeout=120,
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            output = result.stdout
            if result.returncode != wanted:
                yield f"{where}: exit {result.returncode}, expected {wanted}: " + output.strip()[-600:].replace("\n", " | ")
                return
        else:
            line = missing_line(body, output)
            if line is not None:
                yield f"{where}: not in the output: {line.strip()} | " + output.strip()[-800:].replace("\n", " | ")


def check(tree):
    pages = [(p, t) for p, t in tree.items() if p == "README.md" or p.startswith("docs/guide/")]
    environment = dict(os.environ)
    if tree.root is not None:
        binary = pathlib.Path(tree.root, "build/release/weir")
        if not binary.exists():
            raise Skip("build/release/weir is not built")
        environment["PATH"] = f"{binary.parent}:{environment['PATH']}"
    for path, text in pages:
        folder = tempfile.mkdtemp(prefix="weir-example-")
        try:
            yield from run_page(path, text, folder, environment)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def page(*parts):
    return {"README.md": "\n".join(parts) + "\n"}


BAD = {
    "a failing command": page("<!-- run -->", "```sh", "false", "```"),
    "a wrong output": page("<!-- run -->", "```sh", "echo a", "```", "<!-- output -->", "```", "b", "```"),
    "an exit code that did not come": page("<!-- run: exit 1 -->", "```sh", "true", "```"),
    "lines out of order": page("<!-- run -->", "```sh", "echo a; echo b", "```", "<!-- output -->", "```", "b", "a", "```"),
}
GOOD = {
    "a file, a run and its output": page("<!-- file: d/x -->", "```lua", "hello", "```", "text", "<!-- run -->", "```sh",
                                         "$ cat d/x", "echo took 5 ms", "```", "<!-- output -->", "```", "hello", "took … ms", "```"),
    "an expected exit code": page("<!-- run: exit 1 -->", "```sh", "exit 1", "```"),
}
