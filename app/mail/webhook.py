"""POST a JSON document to a webhook: the operator's own, or one that a user has named."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from app.addresses import Networks
from app.errors import Unavailable
from app.mail.outgoing import Budget, connect, resolve_public

#: For each step, and for a user's webhook for all of it together.
SECONDS = 10.0
PORTS = {"http": 80, "https": 443}


def post_json(url: str, document: Mapping[str, object], *, key: str | None = None) -> None:
    """POST to the operator's own webhook, wherever it is; anything but a 2xx raises Unavailable.

    `key` is the same when the document is posted again. Errors name the host alone: many URLs are secrets.
    """
    data, headers = _encoded(document, key)
    request = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310 (the setting allows http and https)
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=SECONDS) as response:
            response.read(1)
    except urllib.error.HTTPError as error:
        error.close()
        raise Unavailable(f"the webhook {_host(url)} answered {error.code} {error.reason}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _unreachable(url, getattr(error, "reason", error)) from error


def post_json_guarded(
    url: str,
    document: Mapping[str, object],
    *,
    allow_private: Networks,
    key: str | None = None,
    seconds: float = SECONDS,
) -> None:
    """POST to a webhook that a stranger has named, in `seconds` at most.

    No proxy and no redirect is followed. Raises AddressRefused for an address inside that is not in `allow_private`.
    """
    data, headers = _encoded(document, key)
    try:
        parts = urlsplit(url)
        if parts.scheme not in PORTS or not parts.hostname:
            raise ValueError("not an http or https URL")
        budget = Budget(seconds)
        found = resolve_public(parts.hostname, parts.port or PORTS[parts.scheme], allow_private, budget=budget)
        with _within(connect(found, budget), budget) as plain:
            connection = http.client.HTTPConnection(parts.netloc.rpartition("@")[2])
            # Connected already, to an address that was looked at: the name is not resolved a second time.
            connection.sock = _tls(plain, parts.hostname) if parts.scheme == "https" else plain
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", path, data, headers)
            response = connection.getresponse()
            response.close()
            connection.close()
    except (OSError, ValueError, Unavailable, http.client.HTTPException) as error:
        raise _unreachable(url, str(error) or f"no answer within {seconds:g} s") from error
    if not 200 <= response.status <= 299:
        raise Unavailable(f"the webhook {_host(url)} answered {response.status} {response.reason}")


def _encoded(document: Mapping[str, object], key: str | None) -> tuple[bytes, dict[str, str]]:
    headers = {"Content-Type": "application/json", "User-Agent": "mailcrew", "Connection": "close"}
    if key:
        headers["Idempotency-Key"] = key
    return json.dumps(document, ensure_ascii=False).encode(), headers


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Following one would turn the POST into a GET without the document."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _tls(plain: socket.socket, host: str) -> socket.socket:
    return ssl.create_default_context().wrap_socket(plain, server_hostname=host)


@contextmanager
def _within(connected: socket.socket, budget: Budget) -> Iterator[socket.socket]:
    """Cut the line when the time is over: each byte of a slow peer begins a new time-out of the socket."""
    connected.settimeout(budget.seconds)
    handle = connected.dup()
    timer = threading.Timer(budget.left(), _cut, [handle])
    timer.daemon = True
    timer.start()
    try:
        yield connected
    finally:
        timer.cancel()
        connected.close()
        handle.close()


def _cut(handle: socket.socket) -> None:
    try:
        handle.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended by itself


def _unreachable(url: str, reason: object) -> Unavailable:
    return Unavailable(f"the webhook {_host(url)} cannot be reached ({reason})")


def _host(url: str) -> str:
    """Without the path, which is the secret of many webhooks."""
    try:
        return urlsplit(url).hostname or "?"
    except ValueError:
        return "?"
