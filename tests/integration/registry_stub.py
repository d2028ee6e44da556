"""A schema registry of one process: subjects, versions, compatibility by fastavro's own rules; it can be down, and it counts."""

import collections
import contextlib
import http.server
import io
import json
import threading
import urllib.parse

import fastavro


def can_read(reader, writer):
    """What BACKWARD asks of fields: fastavro has no check of its own, so the rules that matter here."""
    kinds = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
    promotions = {("int", "long"), ("int", "float"), ("int", "double"), ("long", "float"), ("long", "double"), ("float", "double"), ("string", "bytes"), ("bytes", "string")}
    if isinstance(writer, list):
        return all(can_read(reader, one) for one in writer)
    if isinstance(reader, list):
        return any(can_read(one, writer) for one in reader)
    r, w = (one if isinstance(one, str) else one["type"] for one in (reader, writer))
    if r in kinds or w in kinds or r != w:
        return r == w or (w, r) in promotions
    if r == "record":
        old = {field["name"]: field for field in writer["fields"]}
        for field in reader["fields"]:
            found = next((old[name] for name in [field["name"], *field.get("aliases", [])] if name in old), None)
            if not ("default" in field if found is None else can_read(field["type"], found["type"])):
                return False
        return True
    if r == "array":
        return can_read(reader["items"], writer["items"])
    if r == "map":
        return can_read(reader["values"], writer["values"])
    return r != "enum" or set(writer["symbols"]) <= set(reader["symbols"]) or "default" in reader


class Registry:
    def __init__(self):
        self.schemas, self.subjects, self.levels = [], collections.defaultdict(list), {}
        self.asked, self.down, self.lock = collections.Counter(), False, threading.Lock()
        self.refuses = None  # or the status and the answer to everything
        self.hangs = threading.Event()  # cleared: nothing is answered until it is set
        self.hangs.set()
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *arguments):
                pass

            def answer(self):
                size = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(size)) if size else None
                with registry.lock:
                    registry.asked[f"{self.command} {self.path}"] += 1
                    status, answer = registry.refuses or ((503, {"message": "later"}) if registry.down else registry.answer(self.command, self.path, body))
                text = json.dumps(answer).encode()
                registry.hangs.wait()
                with contextlib.suppress(OSError):  # who asked may be gone
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text)

            do_GET = do_POST = answer

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def register(self, subject, schema):
        """The schema's id."""
        with self.lock:
            status, answer = self.answer("POST", f"/subjects/{urllib.parse.quote(subject, '')}/versions", {"schema": json.dumps(schema)})
        assert status == 200, answer
        return answer["id"]

    def schema(self, number):
        return json.loads(self.schemas[number - 1])

    def answer(self, method, path, body):
        parts = [urllib.parse.unquote(part) for part in path.split("?")[0].strip("/").split("/")]
        nothing = 404, {"error_code": 40401, "message": "not found"}
        if parts[:2] == ["schemas", "ids"]:
            number = int(parts[2])
            return (200, {"schema": self.schemas[number - 1]}) if 0 < number <= len(self.schemas) else nothing
        if parts[0] == "config":
            return 200, {"compatibilityLevel": self.levels.get(parts[1] if len(parts) > 1 else None, "BACKWARD")}
        if parts == ["subjects"]:
            return 200, sorted(self.subjects)
        if parts[0] != "subjects":
            return nothing
        subject, numbers = parts[1], self.subjects.get(parts[1], [])
        if method == "POST":
            text = json.dumps(json.loads(body["schema"]))
            fastavro.parse_schema(json.loads(text))
            number = self.schemas.index(text) + 1 if text in self.schemas else 0
            if number in numbers:
                return 200, {"id": number}
            if len(parts) == 2:
                return nothing
            if numbers and self.levels.get(subject) != "NONE" and not can_read(json.loads(text), self.schema(numbers[-1])):
                return 409, {"error_code": 409, "message": "Schema being registered is incompatible with an earlier schema"}
            if not number:
                self.schemas.append(text)
                number = len(self.schemas)
            self.subjects[subject].append(number)
            return 200, {"id": number}
        if not numbers:
            return nothing
        if len(parts) == 3:
            return 200, list(range(1, len(numbers) + 1))
        version = len(numbers) if parts[3] == "latest" else int(parts[3])
        if not 0 < version <= len(numbers):
            return nothing
        return 200, {"subject": subject, "version": version, "id": numbers[version - 1], "schema": self.schemas[numbers[version - 1] - 1]}


def decoded(registry, message):
    """What fastavro reads in a message of the wire format."""
    assert message[:1] == b"\0", message
    schema = fastavro.parse_schema(registry.schema(int.from_bytes(message[1:5], "big")))
    body = io.BytesIO(message[5:])
    datum = fastavro.schemaless_reader(body, schema)
    assert body.read() == b"", "bytes behind the datum"
    return datum
