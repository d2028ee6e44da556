"""A small project for one meaning at a time: a schema, rules, rows in; tables, counters and messages out."""

import datetime
import decimal
import json

import lake

UTC = datetime.timezone.utc
D = decimal.Decimal

TYPES = {
    "string": "string", "int": "int", "long": "long", "double": "double", "float": "float", "bool": "boolean", "bytes": "bytes",
    "timestamp": {"type": "long", "logicalType": "timestamp-micros"},
    "timestamp_ns": {"type": "long", "logicalType": "timestamp-nanos"},
    "date": {"type": "int", "logicalType": "date"},
}


def avro(kind):
    """"long" or "long!" (not nullable), "decimal(12,2)", a TYPES name, or Avro itself."""
    if not isinstance(kind, str):
        return kind
    required = kind.endswith("!")
    kind = kind.rstrip("!")
    if kind.startswith("decimal("):
        precision, scale = kind[8:-1].split(",")
        made = {"type": "bytes", "logicalType": "decimal", "precision": int(precision), "scale": int(scale)}
    else:
        made = TYPES[kind]
    return made if required else ["null", made]


def schema(columns):
    return json.dumps({"type": "record", "name": "row", "fields": [{"name": name, "type": avro(kind)} for name, kind in columns.items()]})


def at(text):
    """"10:00:05" of 2026-01-05, as JSON time text."""
    return f"2026-01-05T{text}Z"


def moment(text):
    return datetime.datetime.fromisoformat(f"2026-01-05T{text}+00:00")


PIPELINE = """return pipeline "p" {
  rules   = "rules",
  storage = delta { root = "lake" },@OPTIONS@
  sources = { source "bronze.row" { files { path = "landing/*.jsonl" }, json { schema = "schemas/row.avsc" }@SOURCE@ } },
}
"""
RUN = ("run", "pipelines/p.lua", "--until-end", "--json")


class World:
    def __init__(self, project, columns, rules, rows=(), options="", source=", into = none"):
        self.project = project
        project.write("schemas/row.avsc", columns if isinstance(columns, str) else schema(columns))
        project.write("pipelines/p.lua", PIPELINE.replace("@OPTIONS@", options).replace("@SOURCE@", source))
        for index, rule in enumerate([rules] if isinstance(rules, str) else rules):
            project.write(f"rules/r{index}.lua", rule)
        self.feed(rows)

    def feed(self, rows, name="a.jsonl"):
        """Rows as dicts or as raw lines."""
        lines = [row if isinstance(row, (str, bytes)) else json.dumps(row) for row in rows]
        data = b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines)
        self.project.write(f"landing/{name}", data)

    def run(self, *arguments):
        self.summary = self.project.run("pipelines/p.lua", *arguments)
        return self

    def counts(self, name):
        return self.summary["datasets"][name]

    def table(self, name):
        return lake.by_deltalake(self.project.root / "lake" / name.replace(".", "/"))

    def exists(self, name):
        """Whether a reader would find it: its folder is there before its first commit."""
        return any((self.project.root / "lake" / name.replace(".", "/") / "_delta_log").glob("*.json"))

    def rows(self, name, *columns):
        if not self.exists(name):
            return []
        rows = self.table(name).to_pylist()
        if len(columns) == 1:
            return [row[columns[0]] for row in rows]
        return [tuple(row[column] for column in columns) for row in rows]

    def rejected(self, name, *columns):
        """(columns…, sorted reasons) of the quarantine of a dataset."""
        name = f"quarantine.{name}"
        if not self.exists(name):
            return []
        return [(*(row[column] for column in columns), sorted(reason["expectation"] for reason in row["_reasons"]))
                for row in self.table(name).to_pylist()]

    def reasons(self, name):
        return [reason for row in self.table(f"quarantine.{name}").to_pylist() for reason in row["_reasons"]]

    def check(self):
        return self.project.weir("check")


def assert_refused(world, place, *texts, line=None):
    """`weir check` exits 1, names the place exactly, shows the line with a caret below that column, and says every text."""
    outcome = world.check()
    text = outcome.out + outcome.err
    assert outcome.code == 1, outcome
    assert f"{place}: error: " in text, outcome
    for wanted in texts:
        assert wanted in text, outcome
    lines = text.split("\n")
    index = next(i for i, each in enumerate(lines) if each.startswith(f"{place}: error: "))
    column = int(place.split(":")[2])
    assert lines[index + 2].strip() == "^", outcome
    caret = lines[index + 2].index("^")
    if line is not None:
        assert lines[index + 1][caret:].startswith(line), outcome
    return column


def place(rule, marked, file="rules/r0.lua"):
    """file:line:column of the first `marked` in a rule's text."""
    before = rule[:rule.index(marked)]
    return f"{file}:{before.count(chr(10)) + 1}:{len(before) - (before.rfind(chr(10)) + 1) + 1}"
