"""For trying out and for the tests: stands in for the shop's API, the forecasts and the chat, and counts calls.

It answers every POST and PUT with {}, a forecast or a balance with one, and `GET /calls` with what was called.
It listens where GIFTSHOP_API says.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from examples.giftshop.config import url


class Endpoints(ThreadingHTTPServer):
    """`calls`: "METHOD path" of each call, with its content."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, _Handler)
        self.calls: list[tuple[str, Any]] = []
        self.lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    server: Endpoints
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        where = urlsplit(self.path)
        if where.path == "/calls":
            with self.server.lock:
                return self._answer([list(one) for one in self.server.calls])
        if where.path.endswith("/health"):
            return self._answer({"status": "ok"})
        self._note(None)
        if where.path == "/forecasts":
            return self._answer({"product": parse_qs(where.query).get("product", [""])[0], "sold_next_week": 42})
        return self._answer({"cents": 2500})

    def do_POST(self) -> None:
        self._note(json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"null"))
        self._answer({})

    do_PUT = do_POST  # noqa: N815 (http.server's name)

    def _note(self, content: Any) -> None:
        with self.server.lock:
            self.server.calls.append((f"{self.command} {self.path}", content))

    def _answer(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: ARG002 (http.server's signature)
        sys.stdout.write(f"{self.command} {self.path}\n")
        sys.stdout.flush()


def main() -> int:
    where = urlsplit(url("GIFTSHOP_API"))
    Endpoints((where.hostname or "127.0.0.1", where.port or 80)).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
