"""async_lookup in order and out of order, of a service that answers in 2 ms and one key in a hundred in 400 ms.
usage: async_lookup.py [ROWS]   (WEIR_BUILD names the build directory, default build/release)"""

import asyncio
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("WEIR_BUILD", ROOT / "build/release"))
PIPELINE = """return pipeline "p" {
  rules = "rules", storage = delta { root = "lake" },
  sources = { source "bronze.sale" { files { path = "landing/*.jsonl" }, json { schema = "sale.avsc" }, into = none } },
}
"""
RULE = """return stream "silver.sale" { from = "bronze.sale", time = { field = "at" },
  join = { who = async_lookup "%s/c/{id}" { columns = { tier = "string" }, in_flight = 64, ordered = %s } },
  columns = { tier = "string" }, map = function(e, out, j) out.tier = j.who.tier end }
"""
FAST_S, SLOW_S, SLOW_EVERY = 0.002, 0.4, 100


async def answer(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            number = int(head.split(b" ", 2)[1].rsplit(b"/", 1)[1])
            await asyncio.sleep(FAST_S if number % SLOW_EVERY else SLOW_S)
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"tier":"gold"}')
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def serve():
    loop, ready = asyncio.new_event_loop(), threading.Event()
    ports = []

    async def start():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        await server.serve_forever()
    threading.Thread(target=loop.run_until_complete, args=(start(),), daemon=True).start()
    ready.wait()
    return f"http://127.0.0.1:{ports[0]}"


def measure(url, rows, ordered):
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name in ("rules", "landing"):
            (root / name).mkdir()
        (root / "p.lua").write_text(PIPELINE)
        (root / "rules/r.lua").write_text(RULE % (url, ordered))
        (root / "sale.avsc").write_text(json.dumps({"type": "record", "name": "sale", "fields": [
            {"name": "id", "type": "long"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}))
        (root / "landing/a.jsonl").write_text("".join(f'{{"id": {n}, "at": {1767600000000 + n}}}\n' for n in range(rows)))
        out = subprocess.run([BUILD / "weir", "run", "p.lua", "--until-end", "--json"], cwd=root, capture_output=True, text=True, check=True).stdout
        summary = json.loads(out.strip().splitlines()[-1])
        assert summary["datasets"]["silver.sale"]["out"] == rows, summary
        return rows / summary["seconds"]


def main():
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 20000
    url = serve()
    ordered, unordered = (measure(url, rows, text) for text in ("true", "false"))
    print(f"in order {ordered:,.0f} rows/s, out of order {unordered:,.0f} rows/s: {unordered / ordered:.2f} times")


if __name__ == "__main__":
    main()
