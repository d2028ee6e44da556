"""Nothing unfinished, nothing that belongs to one machine, no file that has outgrown its job."""

import re

NAME = "leftovers"
LONGEST_LINES = 800
MARK = re.compile(r"\b(TO" r"DO|FIX" r"ME)\b")
MACHINE = re.compile(r"(?<![\w.$}])/(?:work|home/[a-z]\w*|root|Users/\w+)/\w")
CONFLICT = re.compile(r"^(<{7} |>{7} |={7}$)")


def check(tree):
    for path, text in tree.items():
        if path.startswith(("tests/lint/", "tests/fuzz/corpus/")):
            continue
        for number, line in enumerate(text.split("\n"), 1):
            if MARK.search(line):
                yield f"{path}:{number}: finish it, or write down elsewhere what is left: {line.strip()[:80]}"
            if MACHINE.search(line):
                yield f"{path}:{number}: a path of one machine: {line.strip()[:80]}"
            if CONFLICT.match(line):
                yield f"{path}:{number}: a merge conflict's mark"
        length = text.count("\n")
        if length > LONGEST_LINES and path.endswith((".c", ".h", ".cpp", ".lua", ".py")):
            yield f"warning: {path}: {length} lines: is it still one job?"


BAD = {
    "a mark of unfinished work": {"runtime/core/a.c": "/* TO" "DO: later */\n"},
    "a machine's path": {"README.md": "see /home/ann/weir\n"},
    "a merge mark": {"a.md": "<<<<<<< HEAD\n"},
}
GOOD = {"ordinary text": {"a.md": "docs/home/page, $ROOT/work/x and a=======b\n"}}
