"""Each room says what it is for, each header is read once, each thread is one ARCHITECTURE.md tells of."""

import re

NAME = "rooms"


def check(tree):
    rooms = {}
    for path, _ in tree.under("runtime/", ".c", ".h", ".cpp"):
        parts = path.split("/")
        if len(parts) > 2 and parts[1] != "include":
            rooms.setdefault(parts[1], path)
    for room in rooms:
        readme = f"runtime/{room}/README.md"
        if readme not in tree:
            yield f"{readme}: missing: purpose, what enters, what leaves, owner, thread, invariants, how to add one"
        elif len(tree[readme].split()) < 40:
            yield f"{readme}: too short to say purpose, what enters and leaves, owner, thread and invariants"
    told = tree["ARCHITECTURE.md"] if "ARCHITECTURE.md" in tree else ""
    for path, text in tree.under("runtime/", ".c", ".cpp"):
        for match in re.finditer(r'weir_thread_name\("([^"]+)"', text):
            if f"`{match.group(1)}`" not in told:
                number = text.count("\n", 0, match.start()) + 1
                yield f"{path}:{number}: ARCHITECTURE.md's threads lack `{match.group(1)}`"
    for path, text in tree.under("", ".h"):
        # The shared headers are read by LuaJIT, which has no preprocessor; abi.h wraps them.
        if path.startswith("runtime/abi/") and path != "runtime/abi/abi.h":
            if re.search(r"^\s*#", text, re.MULTILINE):
                yield f"{path}:1: LuaJIT reads this file: no preprocessor here"
        elif not re.match(r"\s*(/\*.*?\*/\s*|//[^\n]*\n)*#pragma once\b", text, re.DOTALL):
            yield f"{path}:1: begins with #pragma once"


LONG = "purpose " * 50
BAD = {
    "a room without README": {"runtime/core/a.c": ""},
    "a README that says nothing": {"runtime/core/a.c": "", "runtime/core/README.md": "# core\n"},
    "a header without pragma once": {"runtime/core/README.md": LONG, "runtime/core/a.h": "int x;\n"},
    "a thread nobody is told of": {"runtime/core/README.md": LONG, "runtime/core/a.c": 'weir_thread_name("src", 1);\n', "ARCHITECTURE.md": "`encode`\n"},
    "a preprocessor line in a shared header": {"runtime/abi/README.md": LONG, "runtime/abi/x.h": "#pragma once\n"},
}
GOOD = {
    "a room as it should be": {
        "runtime/core/README.md": LONG, "runtime/core/a.h": "/* why */\n#pragma once\n", "runtime/core/a.c": 'weir_thread_name("src", 1);\n', "ARCHITECTURE.md": "| `src` (one) |\n",
        "runtime/abi/README.md": LONG, "runtime/abi/x.h": "/* a */ struct x { int a; };\n",
    },
}
