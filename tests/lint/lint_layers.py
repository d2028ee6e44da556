"""Bytes flow one way: a room includes and links only what lies below it."""

import re

import c_text

NAME = "layers"
RANK = {
    "abi": 0, "core": 1, "batch": 2, "kafka": 2, "decode": 3, "lake": 3, "source": 3, "state": 4, "operator": 5, "script": 5,
    "sink": 5, "commit": 6, "pipeline": 7, "serve": 7, "cli": 8, "main": 9,
}
BESIDE = {("source", "decode"), ("source", "lake")}  # same height, allowed all the same
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')
# Libraries with one owner: their headers, and the CMake names they are linked by.
OWNED = [
    (re.compile(r"^(lua|luajit|lauxlib|lualib)(\.h|-2\.1/)"), "script", "PkgConfig::LUAJIT"),
    (re.compile(r"^simdjson"), "decode", "simdjson::simdjson"),
    (re.compile(r"^uv\.h"), "pipeline", "PkgConfig::LIBUV"),
    (re.compile(r"^pcre2"), "operator", "PkgConfig::PCRE2"),
    (re.compile(r"^libwebsockets"), "serve", "PkgConfig::WEBSOCKETS"),
]


def may_use(room, other):
    return room == other or RANK[other] < RANK[room] or (room, other) in BESIDE


def includes(path, text):
    room = path.split("/")[1] if path.count("/") > 1 else "main"
    if room == "include":
        return
    if room not in RANK:
        yield f"{path}:1: room '{room}' has no place in the order; add it to tests/lint/lint_layers.py"
        return
    for number, line in c_text.lines(text, keep_strings=True):
        match = INCLUDE.match(line)
        if not match:
            continue
        target = match.group(2)
        if ".." in target.split("/"):
            yield f"{path}:{number}: include by room (\"core/error.h\"), not by a path through .."
        other = target.split("/")[0]
        if match.group(1) == '"' and "/" in target and other in RANK and not may_use(room, other):
            yield f"{path}:{number}: {room} may not include {target}: {other} is not below it"
        for header, owner, _ in OWNED:
            if header.match(target) and room != owner:
                yield f"{path}:{number}: only {owner} includes <{target}>"


def links(path, text):
    for match in re.finditer(r"^weir_room\(([^)]*)\)", text, re.MULTILINE):
        number = text[: match.start()].count("\n") + 1
        words = match.group(1).split()
        room, mode = words[0], None
        if room not in RANK:
            yield f"{path}:{number}: room '{room}' has no place in the order"
            continue
        for word in words[1:]:
            if word in ("USES", "LIBS", "EXTRA"):
                mode = word
            elif mode == "USES" and not (word in RANK and may_use(room, word)):
                yield f"{path}:{number}: {room} may not link {word}: it is not below it"
            elif mode == "LIBS":
                for _, owner, library in OWNED:
                    if word == library and room != owner:
                        yield f"{path}:{number}: only {owner} links {library}"


def check(tree):
    for path, text in tree.under("runtime/", ".c", ".h", ".cpp"):
        yield from includes(path, text)
    if "CMakeLists.txt" in tree:
        yield from links("CMakeLists.txt", tree["CMakeLists.txt"])


BAD = {
    "an include upwards": {"runtime/core/a.c": '#include "batch/batch.h"\n'},
    "an include sideways": {"runtime/lake/a.c": '#include "decode/decoder.h"\n'},
    "Lua outside the script room": {"runtime/cli/a.c": "#include <lua.h>\n"},
    "a relative path upwards": {"runtime/lake/delta/a.c": '#include "../../core/error.h"\n'},
    "an unknown room": {"runtime/util/a.c": "int x;\n"},
    "a link upwards": {"CMakeLists.txt": "weir_room(core USES batch)\n"},
    "Lua linked elsewhere": {"CMakeLists.txt": "weir_room(sink USES core LIBS PkgConfig::LUAJIT)\n"},
}
GOOD = {
    "includes downward, and comments": {
        "runtime/commit/a.c": '#include "core/error.h"\n#include "sink/sink.h"\n/* #include "cli/x.h" */\n',
        "runtime/source/b.c": '#include "decode/decoder.h"\n',
        "runtime/main.c": '#include "cli/cli.h"\n',
        "CMakeLists.txt": "weir_room(sink USES lake batch core\n  LIBS PkgConfig::JANSSON)\n",
    },
}
