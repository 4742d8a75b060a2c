"""`bin/web`: the HTTP service, what supervisord runs."""

from __future__ import annotations

import argparse
import ipaddress
import socket
import sys
import time
from collections.abc import Sequence

from app.config import given, make_home, settings
from app.errors import MailcrewError
from app.events import emit, start_logging, warn
from app.secrets import make_secrets, secret_file
from app.workers.parent import end_with_parent

RETRY_SECONDS = 2.0
BACKLOG = 256


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="web",
        description="Serve the HTTP API on HTTP_BIND (default 127.0.0.1:8025) until told to stop.",
        epilog="example: HTTP_BIND=127.0.0.1:9000 bin/web",
    )
    parser.parse_args(argv)
    start_logging()
    try:
        found = settings()
        make_home(found)
        make_secrets(found)
    except MailcrewError as error:
        warn("web cannot start", reason=str(error))
        return error.exit_code
    host, port = found.http_bind
    if not _is_loopback(host):
        warn(
            "HTTP_BIND is reachable from other machines; passwords and tokens travel in clear, "
            "so put a server with TLS before it",
            host=host, port=port,
        )  # fmt: skip
    # The arbiter's, which asks its worker to finish. The thread stays with it when it forks.
    end_with_parent(found)
    # SIGTERM keeps its default action while we wait; it ends the wait at once.
    listener = listen(host, port)
    set_by_hand = given(found, "ADMIN_PASSWORD") is not None
    emit(
        "listening", host=host, port=port,
        password="in ADMIN_PASSWORD" if set_by_hand else f"in {secret_file(found, 'ADMIN_PASSWORD')}",
    )  # fmt: skip
    # Not before: while the application loads, a connection waits instead of being refused.
    from app.web.server import serve

    serve(found, listener)
    return 0


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, waited for as long as it takes; each new reason is said once.

    Two homes with the same HTTP_BIND are a mistake, but none that should keep the second one from
    sending mail: its web service waits, and says what to change.
    """
    said = ""
    while True:
        try:
            return _listen(host, port)
        except OSError as error:
            if str(error) != said:
                said = str(error)
                warn(
                    f"HTTP_BIND={host}:{port} cannot be used; give this home another one; trying again",
                    reason=said,
                )  # fmt: skip
        time.sleep(RETRY_SECONDS)


def _listen(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # IPv4 first: localhost may be both, and 127.0.0.1 is what people type.
    family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        # Without it the port could not be used for a minute after a restart.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Each connection has it from its listener, also one that is made while the application still loads:
        # headers and body are two packets, and without it the second waits 40 ms for the first one's receipt.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(address)
        # Here and not later: of two that bind a port, only listening tells who has it.
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    sys.exit(main())
