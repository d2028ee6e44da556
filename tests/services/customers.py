"""A service that answers what it is asked about customers, badly where told: GET /c/<id>, POST /many with a list of keys."""

import http.server
import json
import threading
import time


class Customers:
    def __init__(self):
        self.asked = []  # every key asked for, in order
        self.requests = 0
        self.headers = []
        self.fail_first = {}  # id -> how many times it answers 503
        self.delay_s = 0.0
        self.down = False
        self.tiers = ["gold", "iron"]
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                service._serve(self, [self.path.rsplit("/", 1)[1]], False)

            def do_POST(self):
                keys = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service._serve(self, [str(key["customer_id"]) for key in keys], True)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def row(self, key):
        """What is known of a customer: nothing of those over a thousand."""
        return {"tier": self.tiers[int(key) % 2], "score": int(key) * 3, "limit": "12.50"} if key.isdigit() and int(key) <= 1000 else None

    def _serve(self, handler, keys, many):
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            self.requests += 1
            self.asked += keys
            self.headers.append(dict(handler.headers))
            left = self.fail_first.get(keys[0], 0)
            self.fail_first[keys[0]] = left - 1
        time.sleep(self.delay_s)
        rows = [self.row(key) for key in keys]
        status = 503 if self.down or left > 0 else 404 if not many and rows[0] is None else 200
        body = json.dumps(rows if many else rows[0], indent=1).encode()
        with self._lock:
            self._now -= 1
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
