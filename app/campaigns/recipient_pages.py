"""The recipients of a campaign a page at a time: by state, or those whose address begins in some way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from app.db import Db
from app.db.parts import lower_bound
from app.errors import UsageError
from app.models.states import BatchState, RecipientState
from app.models.tables import Campaign

#: Batches read at a time, at most.
MOST_BATCHES = 100
#: Rows read at first, and so many times more with each further look, up to a most.
ROWS, GROWTH, MOST_ROWS = 100, 4, 5000
SHOWN_STATES = (
    RecipientState.PENDING, "sending", RecipientState.SENT, RecipientState.FAILED, RecipientState.SKIPPED,
    RecipientState.UNKNOWN,
)  # fmt: skip
#: Comes after every other sign, in both databases' order.
_LAST = "\U0010ffff"

_COLUMNS = "r.subscriber_id, s.email, s.email_key, r.state, r.reason, r.attempts, v.name, r.tried_at, b.state, r.batch"
_TABLES = (
    "JOIN batches b ON b.campaign_id = r.campaign_id AND b.number = r.batch LEFT JOIN servers v ON v.id = r.server_id"
)


@dataclass(frozen=True)
class Found:
    """One recipient; `tried_at`: ms since 1970 of the last try. `place`: where the next page begins behind it."""

    subscriber_id: int
    email: str
    state: str
    reason: str | None
    attempts: int
    server: str | None
    tried_at: int | None
    place: str


def recipients_page(
    db: Db, campaign: Campaign, limit: int, *, state: str = "", begins: str = "", after: str = ""
) -> tuple[list[Found], str]:
    """Up to `limit` recipients in `state` whose address begins with `begins`, and the `after` of the next page.

    That is empty on the last page. Raises UsageError for a state that is none and an `after` that no page gave.
    """
    if state not in ("", *SHOWN_STATES):
        raise UsageError(f"state={state!r} is not allowed: {', '.join(SHOWN_STATES)}")
    rows = (
        _beginning(db, campaign.id, begins, state, after) if begins else _in_order(db, campaign.id, state, after, limit)
    )
    found: list[Found] = []
    for one in rows:
        if len(found) == limit:
            return found, found[-1].place
        found.append(one)
    return found, ""


def _beginning(db: Db, campaign_id: int, begins: str, state: str, after: str) -> Iterator[Found]:
    """By address; more at a time when few of them are in this state."""
    low = begins.strip().lower()
    high, after, rows_wanted = low + _LAST, after or "", ROWS
    while True:
        above, first = lower_bound(low, after)
        rows = db.rows(
            f"SELECT {_COLUMNS} FROM subscribers s {db.in_this_order} recipients r "
            f"ON r.campaign_id = ? AND r.subscriber_id = s.id {_TABLES} "
            f"WHERE s.email_key {above} ? AND s.email_key <= ? "
            "ORDER BY s.email_key LIMIT ?",
            campaign_id, first, high, rows_wanted,
        )  # fmt: skip
        for row in rows:
            one = _found(row, str(row[2]))
            if state in ("", one.state):
                yield one
        if len(rows) < rows_wanted:
            return
        after, rows_wanted = str(rows[-1][2]), min(rows_wanted * GROWTH, MOST_ROWS)


def _in_order(db: Db, campaign_id: int, state: str, after: str, limit: int) -> Iterator[Found]:
    """By batch; the counters of the batches say where, and in how many of them, a page of this state is."""
    batch, subscriber = _place(after)
    while numbers := _batches(db, campaign_id, state, batch, limit):
        rows = db.rows(
            f"SELECT {_COLUMNS} FROM recipients r{db.by_batch} JOIN subscribers s ON s.id = r.subscriber_id {_TABLES} "
            f"WHERE r.campaign_id = ? AND r.batch IN ({', '.join('?' * len(numbers))}) "
            "ORDER BY r.batch, r.subscriber_id",
            campaign_id, *numbers,
        )  # fmt: skip
        for row in rows:
            one = _found(row, f"{row[9]}-{row[0]}")
            if state in ("", one.state) and (int(row[9]), int(row[0])) > (batch, subscriber):
                yield one
        batch, subscriber = numbers[-1] + 1, 0


def _batches(db: Db, campaign_id: int, state: str, first: int, limit: int) -> list[int]:
    """The next batches that hold more than `limit` recipients in this state together, a hundred at most."""
    counter = {"": "pending + sent + failed + skipped + unknown", "sending": "pending"}.get(state, state)
    leased = f"AND state = '{BatchState.LEASED}' " if state == "sending" else ""
    found: list[int] = []
    held = 0
    for number, count in db.rows(
        f"SELECT number, {counter} FROM batches WHERE campaign_id = ? AND number >= ? AND {counter} > 0 {leased}"
        "ORDER BY number LIMIT ?",
        campaign_id, first, MOST_BATCHES,
    ):  # fmt: skip
        found.append(int(number))
        held += int(count)
        # The first may have been shown in part by the page before.
        if held > limit and len(found) > 1:
            break
    return found


def _found(row: tuple[object, ...], place: str) -> Found:
    subscriber_id, email, _, state, reason, attempts, server, tried_at, batch_state, _ = row
    in_hand = state == RecipientState.PENDING and batch_state == BatchState.LEASED
    return Found(subscriber_id, email, "sending" if in_hand else state, reason, attempts, server, tried_at, place)  # type: ignore[arg-type]


def _place(after: str) -> tuple[int, int]:
    """Batch and subscriber behind which a page begins."""
    batch, _, subscriber = after.partition("-")
    if not after:
        return 1, 0
    if not (batch.isascii() and batch.isdigit() and subscriber.isascii() and subscriber.isdigit() and len(after) < 40):
        raise UsageError(f"after={after!r} is not allowed: what the page before gave")
    return int(batch), int(subscriber)
