"""One HTTP request and its answer, within a budget of time and bytes, with whoever a stranger has named.

The line goes to an address that was judged (`app/mail/outgoing.py`), no proxy is asked, no redirect followed, no
cookie kept. `http.client` writes the request and reads the answer; the waiting is ours, because its time-outs begin
anew with each byte.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from app.addresses import Networks
from app.errors import Unavailable
from app.mail.outgoing import Budget, Resolver, connect, resolve_public
from app.mail.url import PORTS, Url

#: Header fields of ours; a caller's come on top. `identity`: a small compressed body may be a huge one.
HEADERS = {"User-Agent": "Mailcrew", "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close"}

#: Bytes of a body that are read at a time.
_PART = 64 * 1024


@dataclass(slots=True)
class Timing:
    """Milliseconds of each step of an exchange; of several exchanges, their sums."""

    resolve: float = 0
    connect: float = 0
    tls: float = 0
    first_byte: float = 0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            setattr(self, name, getattr(self, name) + (time.monotonic() - began) * 1000)


@dataclass(slots=True)
class Answer:
    """What came back. `body` holds as much as was wanted; `whole`: there was no more."""

    status: int
    reason: str
    headers: http.client.HTTPMessage
    body: bytes = b""
    whole: bool = True
    #: When the certificate ends, in seconds since 1970 UTC; None without TLS.
    certificate_until: int | None = None


@dataclass(frozen=True)
class Way:
    """How to get there: what is allowed, whom to ask for addresses, whom to trust."""

    allow_private: Networks = ()
    resolve: Resolver | None = None
    tls: Callable[[], ssl.SSLContext] | None = None


@cache
def trusted() -> ssl.SSLContext:
    """The system's authorities (SSL_CERT_FILE names others), loaded once: it takes 20 ms."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Line:
    """A connected socket on which every wait counts against one budget."""

    def __init__(self, connected: socket.socket, budget: Budget) -> None:
        self._socket = connected
        self._budget = budget

    def start_tls(self, context: ssl.SSLContext, host: str) -> int | None:
        """Shake hands; when the certificate ends. Raises ssl.SSLError, OSError, TimeoutError, Stopped."""
        tls = context.wrap_socket(self._socket, server_hostname=host, do_handshake_on_connect=False)
        self._socket = tls
        self._patiently(tls.do_handshake)
        until = (tls.getpeercert() or {}).get("notAfter")
        return int(ssl.cert_time_to_seconds(until)) if isinstance(until, str) else None

    def send(self, data: Any) -> None:
        """All of it."""
        left = memoryview(data)
        while left:
            sent: int = self._patiently(self._socket.send, left)
            left = left[sent:]

    def receive_into(self, buffer: Any) -> int:
        """How many bytes came, 0 at the end."""
        count: int = self._patiently(self._socket.recv_into, buffer)
        return count

    def hang_up(self) -> None:
        self._socket.close()

    def _patiently(self, act: Callable[..., Any], *args: Any) -> Any:
        while True:
            self._socket.settimeout(self._budget.slice())
            try:
                return act(*args)
            except TimeoutError:
                pass  # only this slice of the budget is over


class _Reader(io.RawIOBase):
    """The line as http.client reads it."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._line.receive_into(buffer)


class _Socket:
    """What http.client needs of a socket. It closes it before it has read the answer, so closing is left to us."""

    def __init__(self, line: Line) -> None:
        self.sendall = line.send
        self._line = line

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._line))

    def close(self) -> None:
        pass


def exchange(
    url: Url,
    way: Way,
    budget: Budget,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    wants: Callable[[Answer], int] = lambda _: 0,
    timing: Timing | None = None,
) -> Answer:
    """Ask once; the answer with as many bytes of its body as `wants` says when it has seen the rest.

    Raises AddressRefused, Unavailable with what a person can check, TimeoutError when the budget is over, Stopped.
    """
    timing = timing or Timing()
    with timing.step("resolve"):
        endpoints = resolve_public(url.host, url.port, way.allow_private, budget=budget, resolve=way.resolve)
    with timing.step("connect"):
        line = Line(connect(endpoints, budget), budget)
    try:
        until = None
        if url.scheme == "https":
            with timing.step("tls"):
                until = line.start_tls((way.tls or trusted)(), url.host)
        answer = _ask(url, line, method, {**HEADERS, **(headers or {}), "Host": url.authority}, body, wants, timing)
    except TimeoutError:
        raise
    except ssl.SSLCertVerificationError as error:
        raise Unavailable(f"the TLS certificate of {url.host} is not valid: {error.verify_message}") from error
    except ssl.SSLError as error:
        what = (error.reason or "it was cut off").replace("_", " ").lower()
        raise Unavailable(f"TLS with {url.authority} failed: {what}") from error
    except http.client.RemoteDisconnected as error:
        raise Unavailable(f"{url.authority} closed the connection without an answer") from error
    except http.client.IncompleteRead as error:
        raise Unavailable(f"{url.authority} closed the connection inside the answer") from error
    except (http.client.HTTPException, ValueError) as error:
        raise Unavailable(f"{url.authority} does not speak HTTP: {_printable(str(error) or repr(error))}") from error
    except OSError as error:
        raise Unavailable(f"{url.authority} dropped the connection: {error.strerror or error}") from error
    finally:
        line.hang_up()
    answer.certificate_until = until
    return answer


def _ask(
    url: Url,
    line: Line,
    method: str,
    headers: Mapping[str, str],
    body: bytes | None,
    wants: Callable[[Answer], int],
    timing: Timing,
) -> Answer:
    connection = http.client.HTTPConnection(url.host, PORTS[url.scheme])
    connection.sock = _Socket(line)
    connection.request(method, url.target, body, dict(headers))
    with timing.step("first_byte"):
        response = connection.getresponse()
    answer = Answer(response.status, _printable(response.reason), response.headers)
    _read(response, answer, wants(answer))
    return answer


def _read(response: http.client.HTTPResponse, answer: Answer, limit: int) -> None:
    parts, count = [], 0
    while count < limit:
        part = response.read(min(_PART, limit - count))
        if not part:
            # http.client says nothing when fewer bytes come than were announced.
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)
            break
        parts.append(part)
        count += len(part)
    answer.body = b"".join(parts)
    answer.whole = count < limit or response.length == 0


def _printable(text: str) -> str:
    """A stranger's words, fit for a log and a mail: one short line."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:200]
