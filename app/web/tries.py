"""Try a server out while a browser waits: few at a time, and never for long, whatever the server does."""

from __future__ import annotations

import logging
import threading
import traceback
from dataclasses import dataclass

from app.config import Settings
from app.db import Db
from app.errors import MailcrewError, Unavailable
from app.events import emit
from app.mail.line import Watch
from app.mail.trying import address_of, send_trial, try_session
from app.models.tables import Server
from app.queues.broker import redis_client

#: Of the service's threads no more than these wait for servers that are tried out.
MOST_AT_ONCE = 2
#: When the rest is given up, and how long after that somebody still waits for the last word, in seconds.
LONGEST_SECONDS = 20.0
LAST_WORD_SECONDS = 1.0

_places = threading.BoundedSemaphore(MOST_AT_ONCE)


@dataclass(frozen=True)
class Tried:
    """What was said, step by step; `error`: why it went no further, null when all went well."""

    ok: bool
    steps: list[str]
    error: str | None


def tried(db: Db, settings: Settings, server: Server, to: str, sender: str, seconds: float = LONGEST_SECONDS) -> Tried:
    """Connect, log in, leave; then, with `to`, send a mail there. Raises Unavailable while others are tried out.

    Nothing of it can take longer than `seconds`: an answer that drips, or a name that nobody resolves, is left to the
    thread that waits for it, which keeps its place until it ends.
    """
    if not _places.acquire(blocking=False):
        raise Unavailable(f"{MOST_AT_ONCE} servers are being tried out just now; try again in a moment")
    attempt = _Attempt(db, settings, server, to, sender)
    thread = threading.Thread(target=attempt.go, name="try-server", daemon=True)
    try:
        thread.start()
    except BaseException:
        _places.release()
        raise
    thread.join(seconds)
    if thread.is_alive():
        attempt.abort()
        thread.join(LAST_WORD_SECONDS)
    return attempt.outcome(f"not done after {seconds:g} seconds, given up")


class _Attempt:
    def __init__(self, db: Db, settings: Settings, server: Server, to: str, sender: str) -> None:
        self._db, self._settings, self._server, self._to, self._sender = db, settings, server, to, sender
        self._lock = threading.Lock()
        self._watches: list[Watch] = []
        self._steps: list[str] = []
        self._error: str | None = None
        self._is_over = self._is_late = False

    def go(self) -> None:
        """All the steps; closes its own connections."""
        error: str | None = None
        try:
            self._all()
        except MailcrewError as found:
            error = str(found)
        except Exception as found:
            emit("trying a server failed", logging.ERROR, traceback="".join(traceback.format_exception(found)))
            error = "something went wrong here; the log says what"
        finally:
            self._db.close()
            with self._lock:
                self._error, self._is_over = error, True
            _places.release()

    def abort(self) -> None:
        """Cut off what is open and what will be opened."""
        with self._lock:
            self._is_late = True
            for watch in self._watches:
                watch.abort()

    def outcome(self, late: str) -> Tried:
        with self._lock:
            well = self._is_over and self._error is None
            error = late if self._is_late and not well else self._error
            return Tried(error is None, list(self._steps), error)

    def _all(self) -> None:
        address = address_of(self._server)
        self._told(f"connecting to {address}, tls {self._server.tls}")
        try_session(address, self._told, self._announce)
        if not self._to:
            return
        client = redis_client(self._settings.redis_url)
        try:
            send_trial(self._db, client, self._server, self._sender, self._to, self._told, self._announce)
        finally:
            client.close()

    def _told(self, step: str) -> None:
        with self._lock:
            self._steps.append(step)

    def _announce(self, watch: Watch) -> None:
        with self._lock:
            self._watches.append(watch)
            if self._is_late:
                watch.abort()
