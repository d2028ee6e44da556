"""What the language has is told to editors and in docs/reference: every word and every option of the loader's tables, and none besides."""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import language  # noqa: E402

NAME = "the language's reference"
INTERNAL = "lua/stdlib/internal/"
TABLES = {  # (file, table) -> class; several of a name in the order they are written
    ("load.lua", "pipeline_options"): ["weir.pipeline"], ("serve.lua", "http_options"): ["weir.listener"],
    ("datasets.lua", "time_options"): ["weir.time"], ("datasets.lua", "dedup_options"): ["weir.dedup"], ("datasets.lua", "source_options"): ["weir.source"],
    ("datasets.lua", "stream_options"): ["weir.stream"], ("models.lua", "model_options"): ["weir.model"], ("measures.lua", "measure_options"): ["weir.measured"], ("aggregates.lua", "options"): ["weir.aggregate"],
    ("rules.lua", "rule_options"): ["weir.rule"], ("patterns.lua", "options"): ["weir.pattern"], ("patterns.lua", "step_options"): ["weir.step"],
    ("predicate.lua", "expect_options"): ["weir.expect"], ("lookups.lua", "options"): ["weir.lookup"], ("lookups.lua", "asked_options"): ["weir.asked"],
    ("tops.lua", "options"): ["weir.top"], ("sinks.lua", "delta_options"): ["weir.delta"], ("decisions.lua", "options"): ["weir.decision"],
    ("join_kinds.lua", "options"): ["weir.interval", "weir.temporal", "weir.window_join", "weir.regular_join"],
}
ELSEWHERE = {"partitions": "an option of files that is refused here by name", "root": "of storage", "type": "of explode"}


def tables(text, name):
    """The names set to true in each table called so."""
    for match in re.finditer(r"(?<![\w.])" + name + r" = \{([^{}]*)\}", text):
        yield match.start(), set(re.findall(r"(\w+) = true", match.group(1)))


def check(tree):
    texts = dict(tree.under("lua/stdlib/", ".lua"))
    metas = [texts[path] for path in language.FILES if path in texts]
    if not metas:
        return
    told = language.Language(metas)
    path = INTERNAL + "words.lua"
    built = re.search(r"words\.built = \{(.*?)\n\}", texts.get(path, ""), re.DOTALL)
    for word in re.findall(r"(\w+) = \"", built.group(1)) if built else []:
        if word not in told.words:
            yield f"{path}:1: lua/stdlib/meta says nothing of the word `{word}`"
    for (file, name), classes in TABLES.items():
        path = INTERNAL + file
        for (at, options), of in zip(tables(texts.get(path, ""), name), classes):
            line = texts[path].count("\n", 0, at) + 1
            fields = set(told.classes[of]["fields"]) if of in told.classes else set()
            for option in sorted(options - fields - set(ELSEWHERE)):
                yield f"{path}:{line}: lua/stdlib/meta says nothing of the option `{option}` ({of})"
            for field in sorted(fields - options - set(ELSEWHERE)):
                yield f"{path}:{line}: lua/stdlib/meta tells of an option `{field}` ({of}) that there is not"


META = "---@class weir.top\n---@field n integer\n---@field by? string\n\n---Says.\n---@param name string\nfunction stream(name) end\n"
WORDS = 'words.built = {\n    stream = "named",\n}\n'
BAD = {
    "a word without a text": {language.FILES[0]: "-- # Words\n" + META, INTERNAL + "words.lua": WORDS.replace("stream", "model")},
    "an option without a text": {language.FILES[0]: "-- # Words\n" + META, INTERNAL + "tops.lua": "local options = { n = true, by = true, per = true }\n"},
    "a text without an option": {language.FILES[0]: "-- # Words\n" + META, INTERNAL + "tops.lua": "local options = { n = true, by = \"later\" }\n"},
}
GOOD = {
    "each has one": {language.FILES[0]: "-- # Words\n" + META, INTERNAL + "words.lua": WORDS, INTERNAL + "tops.lua": "local options = { n = true, by = true, of = \"later\" }\n"},
}
