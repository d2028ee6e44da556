"""Functions that have a safer neighbour, or end the process where only main may."""

import re

import c_text

NAME = "banned functions"
ALWAYS = {
    "strcpy": "use memcpy with a known length", "strcat": "use weir_buffer", "sprintf": "use snprintf",
    "vsprintf": "use vsnprintf", "gets": "use fgets", "strtok": "parse with explicit bounds",
    "tmpnam": "use mkstemp", "mktemp": "use mkstemp", "alloca": "use a pool or a fixed array",
}
RUNTIME = {
    "atoi": "use strtoll and check the end", "atol": "use strtoll and check the end",
    "atof": "use strtod and check the end", "system": "use posix_spawn", "popen": "use posix_spawn",
    "rand": "take randomness from the runtime", "srand": "take randomness from the runtime",
    "random": "take randomness from the runtime", "localtime": "use gmtime_r", "gmtime": "use gmtime_r",
    "ctime": "use strftime", "setlocale": "text is bytes here", "exit": "return an error to main",
    "abort": "return an error to main", "sleep": "wait on a condition", "usleep": "wait on a condition",
}
TESTS = {"sleep": "wait on a condition", "usleep": "wait on a condition"}
PANIC = "lint: panic path"  # a line that says so may end the process


def pattern(names):
    return re.compile(r"(?<![\w.>])(" + "|".join(names) + r")\s*\(")


def scan(path, text, names):
    raw = text.split("\n")
    search = pattern(names)
    for number, line in c_text.lines(text):
        for match in search.finditer(line):
            if PANIC not in raw[number - 1]:
                yield f"{path}:{number}: {match.group(1)}(): {names[match.group(1)]}"


def check(tree):
    for path, text in tree.under("runtime/", ".c", ".h", ".cpp"):
        names = {**ALWAYS, **RUNTIME}
        if path == "runtime/main.c":
            names.pop("exit")
            names.pop("abort")
        yield from scan(path, text, names)
    for path, text in tree.under("tests/", ".c", ".h", ".cpp"):
        yield from scan(path, text, {**ALWAYS, **TESTS})


BAD = {
    "strcpy": {"runtime/core/a.c": "void f(char *a) { strcpy(a, b); }\n"},
    "sprintf in a test": {"tests/unit/a.c": "sprintf (a, b);\n"},
    "exit outside main": {"runtime/cli/a.c": "exit(1);\n"},
    "sleep in a test": {"tests/unit/a.c": "sleep(1);\n"},
}
GOOD = {
    "main, comments, strings, longer names and the panic path": {
        "runtime/main.c": "int main(void) { exit(0); }\n",
        "runtime/core/a.c": '/* exit(1) */ f("system(x)"); weir_exit(1); snprintf(a, 1, b); loop->exit(x);\n'
                            "abort(); /* lint: panic path */\n",
    },
}
