"""Relative links in Markdown lead somewhere, what is written in backticks as a path of the tree is there, and docs/README.md knows every page of the guide."""

import posixpath
import re

NAME = "links"
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
PATH = re.compile(r"`((?:runtime|lua|tests|tools|docs)/[\w./-]*[\w-])`")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def check(tree):
    folders = {posixpath.dirname(path) for path in tree}
    folders |= {parent for folder in list(folders) for parent in parents(folder)}
    for path, text in tree.under("", ".md"):
        prose = FENCED.sub(lambda match: "\n" * match.group(0).count("\n"), text)
        for number, line in enumerate(prose.split("\n"), 1):
            for target in LINK.findall(line):
                if "://" in target or target.startswith("mailto:"):
                    continue
                goal = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
                if goal not in tree and goal not in folders:
                    yield f"{path}:{number}: the link to {target} leads nowhere"
            for target in PATH.findall(line):
                known = target in tree or target in folders or any(p.startswith(target + ".") for p in tree)
                if not known and "NAME" not in target and not target.startswith("tests/fuzz/corpus"):
                    yield f"{path}:{number}: {target} is not in the tree"
    index = tree.get("docs/README.md", "")
    for path, _ in tree.under("docs/guide/", ".md"):
        if f"]({path.removeprefix('docs/')})" not in index:
            yield f"{path}: docs/README.md has no line for it"


def parents(folder):
    while folder:
        yield folder
        folder = posixpath.dirname(folder)


BAD = {
    "a dead link": {"a.md": "see [b](docs/b.md)\n"},
    "a page nobody finds": {"docs/README.md": "# The guide\n", "docs/guide/a.md": "# A\n"},
    "a path that is gone": {"a.md": "see `runtime/core/gone.c`\n"},
}
GOOD = {"links, folders, addresses and code": {
    "a.md": "[b](docs/b.md) [c](https://x.y/z) `docs/b.md` `docs` `runtime/core/x`\n```\n[no](such)\n```\n",
    "docs/b.md": "[a](../a.md#top)\n", "runtime/core/x.h": "#pragma once\n"}}
