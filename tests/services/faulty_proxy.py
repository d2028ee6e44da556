"""An HTTP proxy in front of one server that does to requests what networks and services do: refusals to try again later,
connections cut before the request or after it took effect, silence. Seeded, and it counts what it did."""

import collections
import http.client
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ("throttled", "unavailable", "cut", "answer lost", "slow")


class Proxy:
    def __init__(self, port, seed, ratio=0.25, faults=FAULTS):
        """Forwards to 127.0.0.1:port; `ratio` of the requests meet one of `faults`."""
        self.done = collections.Counter()
        self.down = False  # True: nobody is there
        lock = threading.Lock()
        draw = random.Random(seed)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def cut(self):
                self.close_connection = True
                self.connection.close()

            def answer(self, status, headers, body):
                self.send_response_only(status)
                for name, value in headers:
                    if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                        self.send_header(name, value)
                length = next((value for name, value in headers if name.lower() == "content-length"), None)
                self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def handle_request(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with lock:
                    fault = draw.choice(faults) if draw.random() < ratio else None
                    proxy.done["down" if proxy.down else fault] += 1
                if proxy.down or fault == "cut":
                    return self.cut()
                if fault == "throttled":
                    return self.answer(429, [("Retry-After", "0")], b"<Error><Code>SlowDown</Code></Error>")
                if fault == "unavailable":
                    return self.answer(503, [], b"<Error><Code>ServerBusy</Code></Error>")
                if fault == "slow":
                    time.sleep(0.3)
                upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                try:
                    upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():
                        upstream.putheader(name, value)
                    upstream.endheaders(body)
                    response = upstream.getresponse()
                    data = response.read()
                    if fault == "answer lost":
                        return self.cut()
                    return self.answer(response.status, response.getheaders(), data)
                finally:
                    upstream.close()

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_request

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # a client that is gone
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
