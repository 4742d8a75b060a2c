"""A strict, counting SMTP server on a real socket, for every test that sends mail.

    with SmtpServer(plan=on("DOT", drop(), count=3)) as server:
        … send to 127.0.0.1:server.port …
    assert server.counts()["bob@example.org"] == 1
    assert server.violations == []

A mail counts as accepted at the moment before its 250 is written, as in a real queue.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections import Counter

from tests.smtp_faults import Certificates, Event, Fault, Mail, Offers, Plan, Verb, behave
from tests.smtp_session import Session

__all__ = ["Mail", "Offers", "SmtpServer"]


class SmtpServer:
    """Serves in threads from `__enter__` to `__exit__`; everything it saw may be read at any time."""

    def __init__(
        self,
        offers: Offers | None = None,
        *,
        plan: Plan = behave,
        certificates: Certificates | None = None,
    ) -> None:
        self.offers = offers or Offers()
        self.plan = plan
        self.host, self.port = "127.0.0.1", 0
        self.tls_context = _tls_context(certificates)
        self.mails: list[Mail] = []
        self.violations: list[str] = []
        #: What had come of each content whose client left in the middle of it.
        self.abandoned: list[bytes] = []
        #: (connection, line) of every command line.
        self.commands: list[tuple[int, str]] = []
        self.connections = 0
        self.open_now = 0
        self.most_open = 0
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._verbs: Counter[tuple[Verb, int]] = Counter()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> SmtpServer:
        self._listener = socket.create_server((self.host, self.port), backlog=128)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            sockets = list(self._sockets)
        for connected in sockets:
            _hang_up(connected)
        for thread in list(self._threads):
            thread.join(10)

    def goodbye(self) -> None:
        """A client has gone, or has said that it goes."""
        with self._changed:
            self.open_now -= 1
            self._changed.notify_all()

    # -- what tests ask --------------------------------------------------------------------------

    def counts(self) -> Counter[str]:
        """How many mails were accepted for each recipient."""
        with self._lock:
            return Counter(recipient for mail in self.mails for recipient in mail.recipients)

    def said(self, connection: int | None = None) -> list[str]:
        """The command lines of one connection, or of all."""
        with self._lock:
            return [line for number, line in self.commands if connection in (None, number)]

    def wait_for(self, mails: int, seconds: float = 60) -> bool:
        """Wait until so many mails are accepted; False when that took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.mails) >= mails, seconds)

    def wait_until_left(self, seconds: float = 60) -> bool:
        """Wait until every client so far has gone."""
        with self._changed:
            return self._changed.wait_for(lambda: self.open_now == 0, seconds)

    # -- what sessions tell ----------------------------------------------------------------------

    def accept(self, mail: Mail) -> None:
        with self._changed:
            self.mails.append(mail)
            self._changed.notify_all()

    def heard(self, connection: int, line: str) -> None:
        with self._lock:
            self.commands.append((connection, line))

    def violation(self, connection: int, what: str) -> None:
        with self._lock:
            self.violations.append(f"connection {connection}: {what}")

    def fault(self, verb: Verb, recipient: str, connection: int) -> Fault:
        with self._lock:
            self._verbs[verb, 0] += 1
            self._verbs[verb, connection] += 1
            event = Event(verb, recipient, connection, self._verbs[verb, 0], self._verbs[verb, connection])
        return self.plan(event) or Fault()

    # -- connections -----------------------------------------------------------------------------

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                connected, _ = self._listener.accept()
            except OSError:
                return
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.connections += 1
                self.open_now += 1
                self.most_open = max(self.most_open, self.open_now)
                number = self.connections
                self._sockets.add(connected)
            self._start(self._serve, connected, number)

    def _serve(self, connected: socket.socket, number: int) -> None:
        # A handle of our own: wrapping a socket for TLS takes the first one away.
        handle = connected.dup()
        with self._lock:
            self._sockets.add(handle)
            self._sockets.discard(connected)
        if self.stopping.is_set():
            _hang_up(handle)
        session = Session(self, connected, number)
        try:
            session.run()
        except OSError:
            pass  # the client has gone, or its TLS handshake failed
        finally:
            session.close()
            with self._lock:
                self._sockets.discard(handle)
                handle.close()
            if not session.said_goodbye:
                self.goodbye()


def _hang_up(connected: socket.socket) -> None:
    try:
        connected.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def _tls_context(certificates: Certificates | None) -> ssl.SSLContext | None:
    if certificates is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    return context
