"""gdb helpers: source tools/gdb/weir.py, then  weir column COLUMN [FIRST [COUNT]]  ·  weir batch BATCH [ROWS]  ·  weir error ERR

Everything is read from memory only, so it works on a core dump.
"""

import gdb

WIDTH = {2: ("b", 1), 3: ("h", 2), 4: ("i", 4), 5: ("q", 8), 6: ("f", 4), 7: ("d", 8), 11: ("i", 4), 12: ("q", 8), 13: ("q", 8), 14: ("q", 8),
         15: ("q", 8)}
NAMES = ["none", "bool", "int8", "int16", "int32", "int64", "float", "double", "decimal", "string", "binary", "date", "timestamp",
         "timestamp_ntz", "timestamp_ns", "timestamp_ns_ntz", "list", "struct", "map"]


def memory(address, size):
    return bytes(gdb.selected_inferior().read_memory(int(address), size)) if size else b""


def integer(address, size, signed=True):
    return int.from_bytes(memory(address, size), "little", signed=signed)


def bit(address, index):
    return integer(int(address) + index // 8, 1, False) >> (index % 8) & 1


def value(column, row):
    """One value of a struct weir_column as text."""
    import struct
    if int(column["validity"]) and not bit(column["validity"], row):
        return "null"
    if int(column["codes"]):
        return value(column["dictionary"].dereference(), integer(int(column["codes"]) + 4 * row, 4))
    kind = int(column["type"])
    values = int(column["values"])
    if kind == 1:
        return "true" if bit(values, row) else "false"
    if kind in WIDTH:
        letter, size = WIDTH[kind]
        return str(struct.unpack("<" + letter, memory(values + size * row, size))[0])
    if kind == 8:
        unscaled, scale = integer(values + 16 * row, 16), int(column["scale"])
        digits = str(abs(unscaled)).rjust(scale + 1, "0")
        text = digits[: len(digits) - scale] + ("." + digits[len(digits) - scale:] if scale else "")
        return ("-" if unscaled < 0 else "") + text
    if kind == 17:
        return "{" + ", ".join(value(column["children"][i], row) for i in range(int(column["child_count"]))) + "}"
    start, end = (integer(int(column["offsets"]) + 4 * (row + i), 4) for i in (0, 1))
    if kind in (9, 10):
        return repr(memory(values + start, end - start))[1:]
    items = [", ".join(value(column["children"][c], i) for c in range(int(column["child_count"]))) for i in range(start, end)]
    return "[" + "; ".join(items) + "]"


def target(text, name):
    """The struct an expression names, whether it is one or points at one."""
    found = gdb.parse_and_eval(text)
    while found.type.strip_typedefs().code == gdb.TYPE_CODE_PTR:
        found = found.dereference()
    if str(found.type.unqualified()) != f"struct {name}":
        raise gdb.GdbError(f"{text} is a {found.type}, not a struct {name}")
    return found


class Weir(gdb.Command):
    """weir column|batch|error EXPRESSION …: Weir's structs in readable form."""

    def __init__(self):
        super().__init__("weir", gdb.COMMAND_DATA)

    def invoke(self, text, from_tty):
        words = gdb.string_to_argv(text)
        action = {"column": self.column, "batch": self.batch, "error": self.error}.get(words[0] if words else "")
        if action is None or len(words) < 2:
            raise gdb.GdbError("usage: weir column COLUMN [FIRST [COUNT]] | weir batch BATCH [ROWS] | weir error ERR")
        action(*words[1:])

    def column(self, text, first="0", count="20"):
        column = target(text, "weir_column")
        length = int(column["length"])
        print(f"{NAMES[int(column['type'])]} x {length}, {int(column['null_count'])} null" + (", dictionary" if int(column["codes"]) else ""))
        for row in range(int(first), min(length, int(first) + int(count))):
            print(f"{row:5}  {value(column, row)}")

    def batch(self, text, rows="10"):
        batch = target(text, "weir_batch")
        fields = batch["schema"]["fields"]
        print(f"{int(batch['rows'])} rows, {int(batch['column_count'])} columns, {int(batch['references'])} references")
        for index in range(int(batch["column_count"])):
            column = batch["columns"][index]
            shown = ", ".join(value(column, row) for row in range(min(int(batch["rows"]), int(rows))))
            print(f"  {fields[index]['name'].string()} {NAMES[int(column['type'])]}: {shown}")

    def error(self, text):
        err = target(text, "weir_error")
        print(f"{int(err['code'])} (errno {int(err['system_errno'])}): {err['message'].string()}")


Weir()
