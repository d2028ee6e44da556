"""Nasty but reproducible JSONL for the standard pipeline.

One seed gives one set of files: nulls in every nullable column, duplicates inside and across files, rows late
by exactly the bound and by one microsecond less, empty files, CRLF, a BOM, blank lines, the day the clocks change, numbers and times
in every accepted spelling, and lines that must not decode, one kind after another. `bad` lists those.
"""

import datetime
import gzip
import json
import random

import standard

# British clocks go forward at 01:00 UTC on this day.
START = datetime.datetime(2025, 3, 30, 0, 40, tzinfo=datetime.timezone.utc)
SECOND = 1_000_000
START_US = int(START.timestamp()) * SECOND


class Raw(str):
    """JSON text that goes into the line as it is."""


class Events:
    def __init__(self, seed, rows=4000, files=9, bad_every=40):
        self.random = random.Random(seed)
        self.bad = []  # bytes of the lines that must be rejected by decode
        self.rows = rows
        self.files = files
        self.bad_every = bad_every
        self.now = START_US  # greatest event time so far
        self.queue = []  # (rows to wait, event): duplicates on their way
        self.made = 0

    # --- one event -----------------------------------------------------------------------------------------------

    def event(self, at):
        r = self.random
        qty = r.choice([1, 1, 2, 3, 12, -1, -2, 0, 1000])
        price = r.randrange(1, 20000)
        discount = r.choice([0, 0, 0, r.randrange(0, 500)])
        gross = qty * price - discount
        self.made += 1
        event = {
            "event_id": f"e-{self.made}",
            "store_id": r.randrange(1, 40),
            "sku": f"S{r.randrange(100, 108)}",
            "channel": r.choice(["store", "store", "web", "test"]) if r.random() < 0.5 else "web",
            "currency": r.choice(["GBP", "EUR", "USD"]),
            "qty": qty,
            "unit_price": price,
            "discount": discount,
            "gross": gross,
            "vat": gross // 6,
            "weight": r.choice([r.uniform(0, 50), r.uniform(-1e-3, 1e-3), 0.1, 1e15 + r.random(), -0.0, 3]),
            "receipt": r.choice([r.randrange(1 << 20), (1 << 53) + r.randrange(1000), -(1 << 63), (1 << 63) - 1]),
            "sold_at": at,
        }
        twist = r.random()
        if twist < 0.04:
            event[r.choice(["event_id", "sku", "qty", "unit_price", "discount", "gross", "vat", "weight", "receipt", "store_id"])] = None
        elif twist < 0.06:
            event["sold_at"], event["channel"], event["currency"] = None, "web", "GBP"
        elif twist < 0.08:
            event["store_id"] = r.choice([0, 1, 999, 1000, -5])
        elif twist < 0.10:
            event["currency"] = r.choice(["ZZZ", "gbp", "", "GBP "])
        elif twist < 0.12:
            event["gross"] += 1
        elif twist < 0.14:
            event["sku"] = r.choice(["", "S1", "ünïcode ☃ \U0001F6D2", "S100 ", 'quo"te\\', "S999"])
        elif twist < 0.15:  # net has one digit too many
            event.update(qty=100, unit_price=99999999_99, discount=-99, gross=9999999999_99, vat=-1)
        elif twist < 0.16:  # two at once: a dropped one that is quarantined all the same
            event["currency"], event["store_id"] = "ZZZ", 0
        return event

    # --- its spelling --------------------------------------------------------------------------------------------

    def decimal(self, cents):
        r = self.random
        sign = "-" if cents < 0 else ""
        text = f"{sign}{abs(cents) // 100}.{abs(cents) % 100:02d}"
        way = r.random()
        if way < 0.2:
            return json.dumps(text)
        if way < 0.3:
            return text + "0"
        if way < 0.35:
            return f"{cents}e-2"
        if way < 0.4 and cents % 100 == 0:
            return text[:-3]
        return text

    def integer(self, value):
        way = self.random.random()
        if way < 0.05:
            return f"{value}.0"
        if way < 0.08 and value % 1000 == 0 and value:
            return f"{value // 1000}e3"
        return str(value)

    def time(self, us):
        way = self.random.random()
        if way < 0.5:
            return str(us)
        seconds, micros = divmod(us, SECOND)
        shift = self.random.choice([0, 0, 3600, -5 * 3600, 5 * 3600 + 1800])
        moment = datetime.datetime.fromtimestamp(seconds + shift, datetime.timezone.utc)
        text = moment.strftime("%Y-%m-%dT%H:%M:%S")
        if micros:
            text += f".{micros:06d}"
        if shift == 0:
            return json.dumps(text + self.random.choice(["Z", "+00:00"]))
        sign = "+" if shift > 0 else "-"
        return json.dumps(f"{text}{sign}{abs(shift) // 3600:02d}:{abs(shift) % 3600 // 60:02d}")

    def value(self, name, kind, value):
        if isinstance(value, Raw):
            return str(value)
        if value is None:
            return "null"
        if kind == "decimal":
            return self.decimal(value)
        if kind == "int64" and self.random.random() < 0.2:
            return json.dumps(str(value))
        if kind in ("int32", "int64"):
            return self.integer(value)
        if kind == "timestamp":
            return self.time(value)
        if kind == "double":
            return repr(value)
        return json.dumps(value, ensure_ascii=self.random.random() < 0.3)

    def line(self, event, drop=(), extra=()):
        r = self.random
        pairs = []
        for name, kind, nullable, default in standard.INPUT:
            value = event[name]
            if name in drop or (value is None and r.random() < 0.5) or (default is not None and value == default and r.random() < 0.5):
                continue
            pairs.append((json.dumps(name), self.value(name, kind, value)))
        if r.random() < 0.05:
            pairs.append(('"unknown_field"', '{"a":[1,2.50,null],"b":"x"}'))
        pairs.extend(extra)
        if r.random() < 0.2:
            r.shuffle(pairs)
        colon, comma = r.choice([(":", ","), (":", ","), (": ", ", "), (" :\t", " , ")])
        return ("{" + comma.join(name + colon + text for name, text in pairs) + "}").encode("utf-8")

    # --- lines that must not decode --------------------------------------------------------------------------------

    def bad_line(self):
        event = self.event(self.now)
        event.update(channel="web", weight=1.5, currency="GBP")
        kinds = [
            lambda: self.line({**event, "qty": Raw('"three"')}),
            lambda: self.line({**event, "qty": Raw("1.5")}),
            lambda: self.line({**event, "qty": Raw("2147483648")}),
            lambda: self.line({**event, "qty": Raw("true")}),
            lambda: self.line({**event, "qty": Raw('"7"')}),
            lambda: self.line({**event, "sku": Raw("17")}),
            lambda: self.line({**event, "receipt": Raw("9223372036854775808")}),
            lambda: self.line({**event, "receipt": Raw('"12x"')}),
            lambda: self.line({**event, "gross": Raw("1.005")}),
            lambda: self.line({**event, "gross": Raw('"1,00"')}),
            lambda: self.line({**event, "gross": Raw("12345678901.00")}),
            lambda: self.line({**event, "weight": Raw("NaN")}),
            lambda: self.line({**event, "weight": Raw("1e999")}),
            lambda: self.line({**event, "weight": Raw("Infinity")}),
            lambda: self.line({**event, "weight": Raw('"1.5"')}),
            lambda: self.line({**event, "sold_at": Raw('"2025-03-30T01:00:00"')}),
            lambda: self.line({**event, "sold_at": Raw('"2025-02-30T01:00:00Z"')}),
            lambda: self.line({**event, "sold_at": Raw('"yesterday"')}),
            lambda: self.line({**event, "channel": Raw("null")}),
            lambda: self.line(event, drop=("currency",)),
            lambda: self.line(event, extra=[('"qty"', "1"), ('"qty"', "1")]),
            lambda: self.line({**event, "sku": Raw('"S1\\ud800"')}),
            lambda: self.line({**event, "sku": "S100"}).replace(b"S100", b"S\xff\xfe0"),
            lambda: self.line({**event, "sku": "S100"}).replace(b"S100", b"S\xc3"),
            lambda: self.line({**event, "sku": Raw('"S\\x00"')}),
            lambda: self.line({**event, "sku": Raw('"tab\there"')}),
            lambda: self.line(event)[:-1],
            lambda: self.line(event)[: len(self.line(event)) // 3],
            lambda: self.line(event) + b" trailing",
            lambda: self.line(event) + b"}",
            lambda: b"[1, 2, 3]",
            lambda: b"42",
            lambda: b"null",
            lambda: b"not json at all",
            lambda: b'{"currency": "GBP", "sku": }',
            lambda: b"{" * 3000,
        ]
        line = kinds[len(self.bad) % len(kinds)]()
        self.bad.append(line)
        return line

    # --- the stream of them ------------------------------------------------------------------------------------------

    def advance(self, us):
        self.now += us
        return self.now

    def boundary(self):
        """Rows around the exact instant at which a window's lateness is over."""
        slack = (standard.OUT_OF_ORDER_S + standard.LATENESS_S) * SECOND
        minute = standard.WINDOW_S * SECOND
        end = (self.now // minute + 2) * minute  # a window's end, ahead of us
        quiet = {"channel": "web", "currency": "GBP", "store_id": 7, "sku": "S100", "qty": 2, "unit_price": 500,
                 "discount": 0, "gross": 1000, "vat": 100}
        yield {**self.event(end - 1), **quiet, "sold_at": end - 1}
        yield {**self.event(0), **quiet, "sold_at": end + slack - 1}
        yield {**self.event(0), **quiet, "sold_at": end - 1}  # one microsecond before lateness is over: counted
        yield {**self.event(0), **quiet, "sold_at": end - minute}
        yield {**self.event(0), **quiet, "sold_at": end + slack}
        yield {**self.event(0), **quiet, "sold_at": end - 1}  # exactly at the bound: late
        yield {**self.event(0), **quiet, "sold_at": end}  # the next window is open
        yield {**self.event(0), **quiet, "sold_at": end - minute, "event_id": None}
        self.now = end + slack

    def stream(self):
        r = self.random
        while self.made < self.rows:
            for wait in [entry for entry in self.queue if entry[0] <= self.made]:
                self.queue.remove(wait)
                yield wait[1]
            roll = r.random()
            if roll < 0.004:
                yield from self.boundary()
                continue
            at = self.advance(r.choice([0, r.randrange(3 * SECOND), SECOND]))
            if roll < 0.3:
                at -= r.randrange(standard.OUT_OF_ORDER_S * SECOND)
            elif roll < 0.34:
                at -= r.randrange(200 * SECOND)
            elif roll < 0.342:
                yield from self.flush()
                self.advance(r.randrange(20 * 60 * SECOND))
            event = self.event(at)
            yield event
            if r.random() < 0.06 and event["sold_at"] is not None and event["sold_at"] > self.now - 60 * SECOND:
                yield from self.repeat(event)

    def repeat(self, event):
        """Sends an event again, soon or a little later, at the same or another time."""
        r = self.random
        copy = dict(event)
        within = standard.WITHIN_S * SECOND
        shift = r.choice([0, 0, 0, 1, -1, 30 * SECOND, -(within - 1) // 4, 0, 0, 0, 0, within - 1, within])
        copy["sold_at"] = event["sold_at"] + shift
        if copy["vat"] is None:
            copy["vat"] = 0  # the corrected resend of a row that map rejected
        elif r.random() < 0.2:
            copy["store_id"] = 0  # a duplicate that is rejected before dedup sees it
        if shift < within - 1:
            self.queue.append((self.made + r.randrange(25), copy))
            return
        # What is remembered must be so while the watermark is less than `within` past it: nothing may overtake here.
        yield from self.flush()
        yield copy
        self.now = max(self.now, copy["sold_at"])

    def flush(self):
        waiting, self.queue = self.queue, []
        for _, copy in waiting:
            yield copy

    def lines(self):
        for number, event in enumerate(self.stream(), 1):
            yield self.line(event)
            if self.bad_every and number % self.bad_every == 0:
                yield self.bad_line()
            if number % 97 == 0:
                yield self.random.choice([b"", b"   ", b"\t"])

    def write(self, folder):
        """Writes the files into `folder`; returns their names in order."""
        folder.mkdir(parents=True, exist_ok=True)
        lines = list(self.lines())
        cuts = sorted(self.random.sample(range(1, len(lines)), self.files - 1))
        names = []
        for index, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(lines)])):
            name = f"sale-{index:03d}.jsonl"
            crlf = index % 4 == 1
            data = b"".join(line + (b"\r\n" if crlf else b"\n") for line in lines[start:end])
            if index % 4 == 2:
                data = b"\xef\xbb\xbf" + data
            if index % 3 == 0:
                data = data.rstrip(b"\r\n")  # a last line without its end
            if index % 5 == 3:
                name += ".gz"
                data = gzip.compress(data, mtime=0)
            (folder / name).write_bytes(data)
            names.append(name)
        for name, data in {"sale-000a-empty.jsonl": b"", "sale-003a-blank.jsonl": b"\r\n\n", "sale-004a-bom.jsonl": b"\xef\xbb\xbf"}.items():
            (folder / name).write_bytes(data)
            names.append(name)
        return sorted(names)
