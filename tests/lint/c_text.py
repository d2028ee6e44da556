"""C source without its comments and strings, line numbers kept."""

import re

TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


def strip(text, keep_strings=False):
    def blank(match):
        token = match.group(0)
        if token[0] == "/":
            return "\n" * token.count("\n") or " "
        return token if keep_strings else token[0] * 2
    return TOKEN.sub(blank, text)


def lines(text, keep_strings=False):
    return enumerate(strip(text, keep_strings).split("\n"), 1)
