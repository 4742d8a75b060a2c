"""A webhook on a real socket."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Receiver:
    """Its URL, and what was posted to it. `status` is what it answers; `pace`: seconds between the bytes of that."""

    url: str = ""
    status: int = 200
    location: str | None = None
    pace: float = 0
    posted: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)


@contextmanager
def receiver(status: int = 200, *, location: str | None = None, pace: float = 0) -> Iterator[Receiver]:
    """One that listens as long as the block lasts."""
    made = Receiver(status=status, location=location, pace=pace)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.keys.append(self.headers["Idempotency-Key"])
            made.posted.append(document)
            if made.pace:
                self._drip()
                return
            self.send_response(made.status)
            if made.location:
                self.send_header("Location", made.location)
            self.end_headers()

        def _drip(self) -> None:
            try:
                for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000:
                    self.wfile.write(bytes([byte]))
                    time.sleep(made.pace)
            except OSError:
                pass  # the client has given up

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}/hook/secret"
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
