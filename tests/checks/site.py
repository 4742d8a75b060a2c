"""Real servers to check: a site whose pages are functions over a socket, and a port that only speaks."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from app.addresses import EVERYTHING
from app.mail.exchange import Way
from app.schedules.checks.target import Wanted, wanted
from tests.ports import free_port
from tests.smtp_faults import Certificates

#: For tests whose servers are on this machine.
HERE = Way(EVERYTHING)

Page = Callable[["Visit"], None]


class Visit(BaseHTTPRequestHandler):
    """One request to a site. Pages answer with `say`, or write what they like to `wfile`."""

    server: Any

    def do_GET(self) -> None:
        self.server.site.visits.append((self.path, dict(self.headers)))
        page = self.server.site.pages.get(self.path.partition("?")[0])
        try:
            if page is None:
                self.say(404, b"nothing here")
            else:
                page(self)
        except OSError:
            pass  # the visitor has gone

    def say(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def until_gone(self, part: bytes, pause: float = 0.0) -> None:
        """Send the same bytes again and again, until the visitor hangs up or the site is closed."""
        while not self.server.site.closed.wait(pause) if pause else not self.server.site.closed.is_set():
            self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    #: With the usual 5, visitors who come together wait a second for their next try.
    request_queue_size = 128


class Site:
    """An HTTP server on 127.0.0.1. `down` lets it refuse connections, `up` opens it again on the same port."""

    def __init__(self, pages: dict[str, Page] | None = None, certificates: Certificates | None = None) -> None:
        self.pages: dict[str, Page] = {"/": lambda visit: visit.say(200, b"all is well"), **(pages or {})}
        self.visits: list[tuple[str, dict[str, str]]] = []
        self.closed = threading.Event()
        self._certificates = certificates
        # So that nobody else has it after `down`.
        self.port = free_port()
        self._open()

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"{'https' if self._certificates else 'http'}://{host}:{self.port}{path}"

    def down(self) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()

    def up(self) -> None:
        self.closed.clear()
        self._open()

    def _open(self) -> None:
        self._server = _Server(("127.0.0.1", self.port), Visit)
        self._server.site = self  # type: ignore[attr-defined]
        if self._certificates:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificates.certificate, self._certificates.key)
            # The handshake belongs to the visit's thread; here it would hold up all others.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
            self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()


class Port:
    """Listens on 127.0.0.1, sends `parts` with pauses (seconds) to whoever connects, then waits or hangs up."""

    def __init__(self, *parts: bytes, pause: float = 0.0, hang_up: bool = True) -> None:
        self._parts, self._pause, self._hang_up = parts, pause, hang_up
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.closed = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Port:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed.set()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connected, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._speak, args=(connected,), daemon=True).start()

    def _speak(self, connected: socket.socket) -> None:
        with connected:
            try:
                for part in self._parts:
                    connected.sendall(part)
                    self.closed.wait(self._pause)
                if not self._hang_up:
                    self.closed.wait()
                # Closed with bytes unread, the line would end with a reset.
                connected.shutdown(socket.SHUT_WR)
                while connected.recv(4096):
                    pass
            except OSError:
                pass


def http(url: str, **fields: Any) -> Wanted:
    return wanted({"kind": "http", "url": url, **fields}, EVERYTHING)


def tcp(port: int, **fields: Any) -> Wanted:
    return wanted({"kind": "tcp", "host": "127.0.0.1", "port": port, **fields}, EVERYTHING)


class Watch:
    """How long a check took, in seconds."""

    def __enter__(self) -> Watch:
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._began
