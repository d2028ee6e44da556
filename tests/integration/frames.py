"""Values in the forms of decoders: what the tests write into files and topics."""

import base64
import datetime
import decimal
import json
import math
import struct

UTC = datetime.timezone.utc
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=UTC)


def pack(value):
    """MessagePack, the shortest form of each value; a datetime is the timestamp extension."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, Nanos):
        return b"\xc7\x0c\xff" + struct.pack(">Iq", value.count % 10**9, value.count // 10**9)
    if isinstance(value, int):
        for low, high, mark, form in ((0, 127, None, "b"), (-32, -1, None, "b"), (0, 255, 0xcc, "B"), (0, 65535, 0xcd, ">H"),
                                      (0, 2**32 - 1, 0xce, ">I"), (0, 2**64 - 1, 0xcf, ">Q"), (-128, 0, 0xd0, "b"),
                                      (-32768, 0, 0xd1, ">h"), (-2**31, 0, 0xd2, ">i"), (-2**63, 0, 0xd3, ">q")):
            if low <= value <= high:
                return (b"" if mark is None else bytes([mark])) + struct.pack(form, value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, Single):
        return b"\xca" + struct.pack(">f", value.value)
    if isinstance(value, str):
        return _sized(value.encode(), 31, 0xa0, (0xd9, 0xda, 0xdb))
    if isinstance(value, bytes):
        return _sized(value, -1, 0, (0xc4, 0xc5, 0xc6))
    if isinstance(value, decimal.Decimal):
        return pack(format(value, "f"))
    if isinstance(value, datetime.datetime):
        micros = (value - EPOCH) // datetime.timedelta(microseconds=1)
        return pack(Nanos(micros * 1000))
    if isinstance(value, datetime.date):
        return pack((value - EPOCH.date()).days)
    if isinstance(value, list):
        head = bytes([0x90 | len(value)]) if len(value) < 16 else b"\xdd" + struct.pack(">I", len(value))
        return head + b"".join(pack(item) for item in value)
    head = bytes([0x80 | len(value)]) if len(value) < 16 else b"\xdf" + struct.pack(">I", len(value))
    return head + b"".join(pack(key) + pack(item) for key, item in value.items())


def _sized(body, short, base, marks):
    if len(body) <= short:
        return bytes([base | len(body)]) + body
    for mark, form, limit in zip(marks, ("B", ">H", ">I"), (2**8, 2**16, 2**32)):
        if len(body) < limit:
            return bytes([mark]) + struct.pack(form, len(body)) + body
    raise ValueError("too long")


class Nanos:
    """Nanoseconds since 1970."""

    def __init__(self, count):
        self.count = count

    def text(self):
        at = EPOCH + datetime.timedelta(seconds=self.count // 10**9)
        return at.strftime("%Y-%m-%dT%H:%M:%S") + f".{self.count % 10**9:09d}Z"


class Single:
    """A float of 32 bits."""

    def __init__(self, value):
        self.value = struct.unpack("f", struct.pack("f", value))[0]


def _text(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Nanos):
        return value.text()
    if isinstance(value, Single):
        return repr(value.value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value if isinstance(value, str) else str(value)


def as_json(row):
    """A line. Python's own NaN would not be JSON: nobody asks for it."""
    def plain(value):
        if isinstance(value, Single):
            return value.value
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("JSON has no such number")
        if isinstance(value, (decimal.Decimal, bytes, datetime.date, Nanos)):
            return _text(value)
        if isinstance(value, list):
            return [plain(item) for item in value]
        return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value
    return json.dumps({key: plain(value) for key, value in row.items()}, ensure_ascii=False).encode() + b"\n"


def as_csv(values):
    """A record; texts are quoted, null is nothing at all."""
    def cell(value):
        if value is None:
            return ""
        return '"' + value.replace('"', '""') + '"' if isinstance(value, str) else f'"{_text(value)}"' if isinstance(value, bytes) else _text(value)
    return ",".join(cell(value) for value in values).encode() + b"\r\n"
