"""Runs every tests/lint/lint_*.py over the tree and prints TAP.

A lint is a module with
  NAME            what it holds
  check(tree)     yields "path:line: message" for every violation; `tree` maps paths to texts
  BAD, GOOD       its self-test: small trees in which it must, and must not, find something
so that a lint which has stopped seeing is itself a failure. A check that returns Skip says why.
usage: python3 tests/lint/lint.py [ROOT] [--only NAME]
"""

import importlib.util
import os
import pathlib
import sys

SKIPPED_FOLDERS = {".git", "build", "data", "__pycache__", ".venv", ".pytest_cache", ".cache"}
TEXT = {".c", ".h", ".cpp", ".def", ".lua", ".py", ".md", ".sh", ".txt", ".json", ".avsc", ".cmake", ""}


class Skip(Exception):
    """The check cannot be made here; the reason is printed."""


class Tree(dict):
    """Paths (with forward slashes, relative to the root) to texts, in order."""

    def __init__(self, files, root=None):
        super().__init__(sorted(files.items()))
        self.root = root

    def under(self, prefix, *endings):
        return [(p, t) for p, t in self.items() if p.startswith(prefix) and (not endings or p.endswith(endings))]


def read_tree(root):
    files = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f not in SKIPPED_FOLDERS]
        for name in names:
            path = pathlib.Path(folder, name)
            if name in SKIPPED_FOLDERS or path.suffix not in TEXT or path.is_symlink():  # .git is a file in a worktree
                continue
            try:
                files[path.relative_to(root).as_posix()] = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
    return Tree(files, root)


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Report:
    def __init__(self):
        self.count = 0
        self.failed = 0

    def say(self, ok, name, lines=(), skip=None):
        self.count += 1
        self.failed += 0 if ok else 1
        print(f"{'ok' if ok else 'not ok'} {self.count} - {name}" + (f" # SKIP {skip}" if skip else ""), flush=True)
        for line in lines:
            print(f"# {line}")


def self_test(module, report):
    for title, files in getattr(module, "BAD", {}).items():
        found = list(module.check(Tree(files)))
        report.say(bool(found), f"{module.NAME}: self-test: sees {title}")
    for title, files in getattr(module, "GOOD", {}).items():
        found = list(module.check(Tree(files)))
        report.say(not found, f"{module.NAME}: self-test: accepts {title}", found)


def main(arguments):
    only = None
    if "--only" in arguments:
        at = arguments.index("--only")
        only = arguments[at + 1]
        del arguments[at : at + 2]
    here = pathlib.Path(__file__).resolve().parent
    root = pathlib.Path(arguments[0] if arguments else here.parent.parent).resolve()
    sys.path.insert(0, str(here))
    tree = read_tree(root)
    report = Report()
    for path in sorted(here.glob("lint_*.py")):
        module = load(path)
        if only and only not in path.stem:
            continue
        self_test(module, report)
        for check in getattr(module, "CHECKS", [module.check]):
            name = module.NAME if check is module.check else f"{module.NAME}: {check.__doc__}"
            try:
                found = list(check(tree))
            except Exception as problem:  # a lint that falls over must not end the others
                if type(problem).__name__ == "Skip":
                    report.say(True, name, skip=str(problem))
                else:
                    report.say(False, name, [f"{type(problem).__name__}: {problem}"])
                continue
            warnings = [line for line in found if line.startswith("warning: ")]
            errors = [line for line in found if not line.startswith("warning: ")]
            report.say(not errors, name, errors + warnings)
    print(f"1..{report.count}")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
