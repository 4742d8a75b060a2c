"""Notices: what somebody is to be told, written down first and delivered until it has arrived.

The life of a notice: `waiting` → `sending` (claimed, with a lease) → `sent`, or back to `waiting` with the next try
1, 5, 15, then every 60 minutes later, or `failed` with the reason a day after it was written. A deliverer that dies
between the delivery and its record leaves a lease that runs out, and that one notice goes out a second time: with the
same Message-ID or Idempotency-Key, by which the receiver can tell.
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from app.config import Settings
from app.db import Db
from app.db.connection import DatabaseTrouble, Row
from app.errors import MailcrewError, Refused
from app.events import emit, warn
from app.mail.allowance import Allowance
from app.mail.limits import Limiter
from app.mail.one_mail import NotYet, OneMail, send_one, ways_for_one
from app.mail.webhook import post_json, post_json_guarded
from app.models.states import NoticeState

#: `mail`: `target` is an address. `webhook`: a URL that a user has named, so none inside. `hook`: the operator's URL.
Kind = Literal["mail", "webhook", "hook"]

#: Longer than any delivery takes, in ms.
LEASE_MS = 300_000
BACKOFF_MINUTES = (1, 5, 15, 60)
#: From this age on it is not tried again, in ms.
GIVE_UP_MS = 86_400_000
#: So long what is over is kept, in ms.
KEEP_MS = 30 * 86_400_000
#: One call begins no further delivery after so many seconds: a task of the queue `mail` has 120.
TURN_SECONDS = 20.0
RECORD_TRIES = 5
#: More often than a day of tries is: each of them has ended its worker.
MOST_TRIES = 50


@dataclass(frozen=True)
class Notice:
    """One that is claimed. Instants in ms; `attempts` counts this one."""

    id: int
    kind: Kind
    target: str
    subject: str
    body: str
    attempts: int
    created_at: int
    token: str

    @property
    def key(self) -> str:
        """The same at every try, and another for every notice."""
        return f"notice.{self.id}.{self.created_at}"


@dataclass(frozen=True)
class Delivered:
    """What became of those that were due: `later` are tried again."""

    sent: int = 0
    failed: int = 0
    later: int = 0


def post(db: Db, *, kind: Kind, target: str, subject: str, body: str, now: int) -> int:
    """Write a notice down, in the caller's transaction if there is one; its id. Someone has to call `deliver_due`."""
    return db.insert(
        "INSERT INTO notices (kind, target, subject, body, state, next_at, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        kind, target, " ".join(subject.split())[:500], body, NoticeState.WAITING, now, now,
    )  # fmt: skip


def something_due(db: Db, now: int) -> bool:
    """Whether a notice is to be delivered now, or its deliverer has died."""
    return _next_due(db, now) is not None


def deliver_due(
    db: Db,
    settings: Settings,
    *,
    limiter: Limiter | None = None,
    stop: threading.Event | None = None,
    seconds: float = TURN_SECONDS,
) -> Delivered:
    """Deliver what is due, for `seconds` at most plus one delivery. Any number may do this at once.

    Needs no Redis; without a limiter a mail goes whatever the limits of its server say.
    """
    until = time.monotonic() + seconds
    counts = {NoticeState.SENT: 0, NoticeState.FAILED: 0, NoticeState.WAITING: 0}
    while time.monotonic() < until and not (stop and stop.is_set()):
        now = db.now_ms()
        notice = claim(db, now)
        if notice is None:
            break
        counts[deliver(db, settings, notice, limiter)] += 1
    return Delivered(counts[NoticeState.SENT], counts[NoticeState.FAILED], counts[NoticeState.WAITING])


def claim(db: Db, now: int) -> Notice | None:
    """Take the next notice that is due; None when there is none."""
    while (row := _next_due(db, now)) is not None:
        id_, state, next_at, kind, target, subject, body, attempts, created_at = row
        token = secrets.token_hex(16)
        mine = db.run(
            "UPDATE notices SET state = ?, token = ?, attempts = attempts + 1, next_at = ?, lease_until = ? "
            "WHERE id = ? AND state = ? AND next_at = ? AND attempts = ?",
            NoticeState.SENDING, token, now + LEASE_MS, now + LEASE_MS, id_, state, next_at, attempts,
        )  # fmt: skip
        if mine != 1:
            continue
        notice = Notice(int(id_), kind, target, subject, body, int(attempts) + 1, int(created_at), token)
        if notice.attempts <= MOST_TRIES:
            return notice
        _record(db, notice, Refused(f"its delivery did not end, {MOST_TRIES} times"))
    return None


def deliver(db: Db, settings: Settings, notice: Notice, limiter: Limiter | None = None) -> NoticeState:
    """Deliver a claimed notice and write down what came of it; `waiting` when it is tried again."""
    error: MailcrewError | None = None
    try:
        _send(db, settings, notice, limiter)
    except MailcrewError as raised:
        error = raised
    return _record(db, notice, error)


def remove_old(db: Db, now: int) -> int:
    """Remove notices that have been over for a while; how many."""
    return db.run(
        "DELETE FROM notices WHERE state IN (?, ?) AND next_at < ?", NoticeState.SENT, NoticeState.FAILED, now - KEEP_MS
    )


def _next_due(db: Db, now: int) -> Row | None:
    """The one that has been due longest. `next_at` of one in hand is the end of its lease."""
    return db.row(
        "SELECT id, state, next_at, kind, target, subject, body, attempts, created_at FROM notices "
        "WHERE state IN (?, ?) AND next_at <= ? ORDER BY next_at, id LIMIT 1",
        NoticeState.WAITING, NoticeState.SENDING, now,
    )  # fmt: skip


def _send(db: Db, settings: Settings, notice: Notice, limiter: Limiter | None) -> None:
    """One try. Raises Refused when another one is useless, any other MailcrewError when it is not."""
    if notice.kind == "mail":
        message_id = f"<{notice.key}@{settings.notice_from.rpartition('@')[2]}>"
        mail = OneMail(settings.notice_from, notice.target, notice.subject, notice.body, message_id)
        send_one(mail, ways_for_one(settings, db, db.now_ms()), Allowance(db, limiter))
    elif notice.kind == "webhook":
        post_json_guarded(
            notice.target, _document(notice), allow_private=settings.allow_private_addresses, key=notice.key
        )
    else:
        post_json(notice.target, _document(notice), key=notice.key)


def _document(notice: Notice) -> Mapping[str, object]:
    """`text` is what chat services show."""
    return {
        "id": notice.id,
        "subject": notice.subject,
        "body": notice.body,
        "text": f"{notice.subject}\n{notice.body}",
        "created_at": datetime.fromtimestamp(notice.created_at / 1000, UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
    }


def _record(db: Db, notice: Notice, error: MailcrewError | None) -> NoticeState:
    """End the claim; an outcome that cannot be written is tried a few times, for the notice would go out twice."""
    reason = str(error)[:500] if error else None
    for attempt in range(1, RECORD_TRIES + 1):
        try:
            now = db.now_ms()
            state, next_at, tries = _outcome(notice, error, now)
            over = state is not NoticeState.WAITING
            db.run(
                "UPDATE notices SET state = ?, next_at = ?, attempts = ?, token = NULL, lease_until = NULL, error = ?, "
                "finished_at = ? WHERE id = ? AND token = ?",
                state, next_at, tries, reason, now if over else None, notice.id, notice.token,
            )  # fmt: skip
            break
        except DatabaseTrouble:
            db.close()
            if attempt == RECORD_TRIES:
                raise
            time.sleep(attempt)
    fields: dict[str, Any] = {"notice": notice.id, "kind": notice.kind, "attempts": tries}
    if state is NoticeState.SENT:
        emit("notice sent", **fields)
    else:
        warn("notice not delivered", **fields, reason=reason, over=over)
    return state


def _outcome(notice: Notice, error: MailcrewError | None, now: int) -> tuple[NoticeState, int, int]:
    """The state after a try, when it is due again, and how many tries count."""
    tries = notice.attempts
    if error is None:
        return NoticeState.SENT, now, tries
    next_at = now + BACKOFF_MINUTES[min(tries, len(BACKOFF_MINUTES)) - 1] * 60_000
    if isinstance(error, NotYet):
        # Nothing was tried.
        next_at, tries = max(now, error.free_at), tries - 1
    # Refused: it would be the same tomorrow.
    if isinstance(error, Refused) or next_at > notice.created_at + GIVE_UP_MS:
        return NoticeState.FAILED, now, tries
    return NoticeState.WAITING, next_at, tries
