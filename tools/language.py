"""The language as lua/stdlib/meta tells editors of it (LuaCATS): words, classes of options and their fields."""

import re

FILES = ("lua/stdlib/meta/declarations.lua", "lua/stdlib/meta/connectors.lua", "lua/stdlib/meta/values.lua")


def split_type(text):
    """(type, what is said of it) of "A|B said": a type ends at the first space outside its brackets and behind no colon or comma."""
    depth = 0
    for i, c in enumerate(text):
        depth += c in "({[<"
        depth -= c in ")}]>"
        if c == " " and depth == 0 and text[i - 1] not in ":,|":
            return text[:i], text[i + 1:]
    return text, ""


class Language:
    """`sections`: [(heading, [word])]; `words`: word -> {params, options, named, said}; `classes`: name -> {parents, fields: {name: (optional, type, said)}}."""

    def __init__(self, texts):
        self.sections, self.words, self.classes = [], {}, {}
        for text in texts:
            self.read(text)

    def read(self, text):
        said, params, options, named, current = [], [], [], False, None
        for line in text.split("\n"):
            if line.startswith("-- # "):
                self.sections.append((line[5:], []))
            elif match := re.match(r"---@class ([\w.]+)(?:: (.*))?$", line):
                current = self.classes.setdefault(match.group(1), {"parents": (match.group(2) or "").replace(" ", "").split(",") if match.group(2) else [], "fields": {}})
            elif match := re.match(r"---@field (\[?\w+\]?)(\??) (.*)$", line):
                current["fields"][match.group(1)] = (match.group(2) == "?", *split_type(match.group(3)))
            elif match := re.match(r"---@param (\w+)(\??) (.*)$", line):
                kind, text = split_type(match.group(3))
                params.append((match.group(1), match.group(2) == "?", kind, text))
                options += [part for part in kind.split("|") if part.startswith("weir.") and match.group(1) == "options"]
            elif match := re.match(r"---@return fun\((?:options|expectations): ([^)]*)\)", line):
                named, options = True, [match.group(1)]
            elif line.startswith("---") and not line.startswith("---@"):
                said.append(line[3:])
            elif match := re.match(r"(?:function (\w+)\(|(\w+) = nil)", line):
                word = match.group(1) or match.group(2)
                self.words[word] = {"params": params, "options": options, "named": named, "said": " ".join(said), "call": bool(match.group(1))}
                self.sections[-1][1].append(word)
                said, params, options, named = [], [], [], False
            elif not line.startswith("---"):
                said, params, options, named = [], [], [], False

    def fields(self, name):
        """Those of its parents come last."""
        found = dict(self.classes[name]["fields"])
        for parent in self.classes[name]["parents"]:
            for field, what in self.fields(parent).items():
                found.setdefault(field, what)
        return found


def load(root):
    return Language([(root / path).read_text(encoding="utf-8") for path in FILES])
