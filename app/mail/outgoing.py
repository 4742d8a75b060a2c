"""The way out for checks and webhooks, whose addresses strangers name: never to one that is not public.

A name is resolved once, every address it has is judged, and the connection goes to one of those. Resolved
again for connecting, a name could be public when it is judged and private when it is used.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from app.addresses import Networks, forbidden
from app.errors import AddressRefused, Unavailable

#: Family of the socket, and what it connects to.
Endpoint = tuple[int, Any]
Resolver = Callable[[str, int], Sequence[Endpoint]]

#: A name with more addresses than this is tried at the first ones.
MOST_TRIED = 8
#: How long a wait may last before it looks whether we were told to stop, in seconds.
SLICE = 0.25


class Stopped(Exception):
    """Raised inside a conversation when this process is told to stop: it says nothing about the other end."""


class Budget:
    """The time that a whole conversation may take, however slowly the other end speaks."""

    def __init__(self, seconds: float, stop: threading.Event | None = None) -> None:
        self.seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._stop = stop

    def left(self) -> float:
        """Seconds left; raises TimeoutError when there are none, Stopped when told to stop."""
        if self._stop is not None and self._stop.is_set():
            raise Stopped
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds

    def slice(self) -> float:
        """How long to wait at a time. Raises as `left` does."""
        return min(self.left(), SLICE)


def resolve_public(
    host: str,
    port: int,
    allow_private: Networks,
    *,
    budget: Budget | None = None,
    resolve: Resolver | None = None,
) -> list[Endpoint]:
    """Where a host is, each address judged; one that is not public refuses the host as a whole.

    `allow_private`: the setting ALLOW_PRIVATE_ADDRESSES. `resolve` stands in for the system's resolver.
    Raises AddressRefused, Unavailable when the name cannot be resolved, TimeoutError and Stopped by the budget.
    """
    found = _resolved(host, port, budget, resolve or system_resolver)
    if not found:
        raise Unavailable(f"the name {host} has no address")
    for _, address in found:
        judge(host, str(address[0]), allow_private)
    return list(found)


def judge(host: str, address: str, allow_private: Networks) -> None:
    """Raises AddressRefused unless an address of this host may be connected to."""
    why = forbidden(ipaddress.ip_address(address), allow_private)
    if why is None:
        return
    what = f"{host} is {why}" if host == address else f"{host} is {address}, {why}"
    plain = address.partition("%")[0]
    raise AddressRefused(f"{what}: not connected. Whoever runs Mailcrew can allow it: ALLOW_PRIVATE_ADDRESSES={plain}")


def judge_literal(host: str, allow_private: Networks) -> None:
    """Judge a host that is an address in any spelling (0x7f.1, 2130706433); a name asks no resolver and passes."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return
    for *_, address in found:
        judge(host, str(address[0]), allow_private)


def system_resolver(host: str, port: int) -> list[Endpoint]:
    """As the machine resolves names."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


def connect(endpoints: Sequence[Endpoint], budget: Budget) -> socket.socket:
    """Connected to the first of these that answers; the rest of the budget is shared among those left.

    Raises Unavailable with what each said, TimeoutError and Stopped by the budget.
    """
    said = []
    tried = endpoints[:MOST_TRIED]
    for number, (family, address) in enumerate(tried):
        share = Budget(budget.left() / (len(tried) - number))
        connected = socket.socket(family, socket.SOCK_STREAM)
        try:
            _connect(connected, address, share, budget)
        except OSError as error:
            connected.close()
            said.append(f"{_shown(address)} {_words(error)}")
        except BaseException:
            connected.close()
            raise
        else:
            return connected
    raise Unavailable("; ".join(said))


def _connect(connected: socket.socket, address: Any, share: Budget, budget: Budget) -> None:
    connected.setblocking(False)
    waits = connected.connect_ex(address)
    if waits not in (0, errno.EINPROGRESS):
        raise OSError(waits, os.strerror(waits))
    poll = select.poll()
    poll.register(connected, select.POLLOUT)
    while not poll.poll(min(share.slice(), budget.slice()) * 1000):
        pass
    if failed := connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(failed, os.strerror(failed))


def _resolved(host: str, port: int, budget: Budget | None, resolve: Resolver) -> Sequence[Endpoint]:
    """The resolver's answer within the budget: it knows no time limit itself, so it gets a thread of its own."""
    if budget is None:
        return _ask(host, port, resolve)
    answers: list[Sequence[Endpoint] | Exception] = []
    ended = threading.Event()

    def ask() -> None:
        try:
            answers.append(_ask(host, port, resolve))
        except Exception as error:
            answers.append(error)
        ended.set()

    # A daemon: a resolver that hangs must keep neither this conversation nor the process.
    threading.Thread(target=ask, name="resolve", daemon=True).start()
    while not ended.wait(budget.slice()):
        pass
    (answer,) = answers
    if isinstance(answer, Exception):
        raise answer
    return answer


def _ask(host: str, port: int, resolve: Resolver) -> Sequence[Endpoint]:
    try:
        return resolve(host, port)
    except socket.gaierror as error:
        raise Unavailable(f"the name {host} cannot be resolved: {error.strerror}") from error
    except UnicodeError as error:
        raise Unavailable(f"the name {host} cannot be resolved: {error}") from error


def _shown(address: Any) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _words(error: OSError) -> str:
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return "does not answer"
    if error.errno == errno.ECONNREFUSED:
        return "refuses connections: nothing listens there, or a firewall"
    return f"cannot be reached: {error.strerror or error}"
