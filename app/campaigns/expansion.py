"""Turn a campaign's lists into recipients and batches, inside the database.

Keyset pagination: list by list, `batch_size` members a transaction, behind the last subscriber id
(`id > cursor ORDER BY id LIMIT n`). The rows never leave the database, so memory stays flat, and
a crash at any instant leaves either the whole step or nothing of it.

Whom nobody may mail (blocked, bounced, deleted) becomes a recipient too, `skipped` with the reason, so that the
campaign can say why. Those of a step share a batch of their own, done from the start: the others' batches stay full.

One writer: every step begins with a conditional UPDATE of the cursor that carries the token of
the claim. An expander that was thought dead and wakes up matches no row and stops.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from app.campaigns.batches import AT_ONCE
from app.campaigns.finish import give_up
from app.db import Db
from app.errors import MailcrewError
from app.models.states import (
    CAMPAIGN_EXPANDS,
    NOT_MAILED,
    BatchState,
    ExpansionState,
    MembershipStatus,
    RecipientState,
)

#: How long a claim lasts without a step, in ms. Only how soon a dead expander is replaced
#: depends on it; the token alone keeps two from writing.
LEASE_MS = 30_000
#: Failures in a row after which the campaign is given up.
MAX_FAILURES = 5
RETRY_MS = 5_000


class Superseded(MailcrewError):
    """Raised when another expander has taken over, or the campaign is cancelled; nothing of the step was written."""


@dataclass(frozen=True)
class Step:
    """What one transaction did: `scanned` members looked at, `created` of them new recipients, `skipped` of these."""

    position: int
    lists: int
    list_name: str
    batch: int
    scanned: int
    created: int
    list_done: bool
    all_done: bool
    skipped: int = 0


@dataclass(frozen=True)
class _Cursor:
    position: int
    after: int
    next_batch: int


@dataclass(frozen=True)
class _List:
    """`unsubscribed_at` as it was before the first member was read."""

    position: int
    id: int
    name: str
    unsubscribed_at: int


class Expander:
    """Expands one campaign. `batch_size` members a step, `send_batch_size` recipients a batch."""

    def __init__(self, db: Db, campaign_id: int, *, batch_size: int, send_batch_size: int) -> None:
        self._db = db
        self._campaign = campaign_id
        self._batch_size = batch_size
        self._send_batch_size = send_batch_size
        self._token = secrets.token_hex(16)
        self._steps_in_list = 0
        self._lists: list[_List] = []

    def claim(self, now: int) -> bool:
        """Become the one expander; False when another one is at work or nothing is left to do."""
        claimed = self._db.run(
            "UPDATE expansions SET token = ?, lease_until = ?, updated_at = ? "
            "WHERE campaign_id = ? AND state = ? AND lease_until <= ? "
            "AND EXISTS (SELECT 1 FROM campaigns WHERE id = ? AND status IN (?, ?))",
            self._token, now + LEASE_MS, now, self._campaign, ExpansionState.RUNNING, now,
            self._campaign, *sorted(CAMPAIGN_EXPANDS),
        )  # fmt: skip
        if claimed:
            self._lists = [
                _List(*row)
                for row in self._db.rows(
                    "SELECT c.position, c.list_id, l.name, COALESCE(l.unsubscribed_at, 0) FROM campaign_lists c "
                    "JOIN lists l ON l.id = c.list_id WHERE c.campaign_id = ? ORDER BY c.position",
                    self._campaign,
                )
            ]
        return claimed == 1

    def step(self, now: int) -> Step:
        """Expand the next members, one transaction; raises Superseded when the claim is lost."""
        with self._db.transaction():
            cursor = self._cursor()
            if cursor.position >= len(self._lists):
                return self._finish(cursor, now)
            of = self._lists[cursor.position]
            last, scanned = self._page(of.id, cursor.after)
            list_done = scanned < self._batch_size
            self._advance(cursor, last, list_done, now)
            skipped = self._insert_skipped(of.id, cursor, last) if scanned else 0
            pending = self._insert_pending(of.id, cursor, last, skipped) if scanned else 0
            batches = self._insert_batches(cursor.next_batch, skipped, pending, now)
            self._count(of, cursor, batches, scanned, skipped + pending)
        self._steps_in_list += 1
        step = Step(
            cursor.position + 1,
            len(self._lists),
            of.name,
            self._steps_in_list,
            scanned,
            skipped + pending,
            list_done,
            False,
            skipped,
        )
        if list_done:
            self._steps_in_list = 0
        return step

    def release(self, now: int) -> None:
        """Let another expander go on at once (this process stops)."""
        self._db.run(
            "UPDATE expansions SET lease_until = 0, updated_at = ? WHERE campaign_id = ? AND token = ?",
            now, self._campaign, self._token,
        )  # fmt: skip

    def wait(self, reason: str, now: int) -> None:
        """Note what keeps the next step from being done; it stays ours, and no failure is counted."""
        self._db.run(
            "UPDATE expansions SET error = ?, lease_until = ?, updated_at = ? "
            "WHERE campaign_id = ? AND token = ? AND state = ?",
            reason[:500], now + LEASE_MS, now, self._campaign, self._token, ExpansionState.RUNNING,
        )  # fmt: skip

    def fail(self, reason: str, now: int) -> None:
        """Note a failed step: again from the cursor after a while, given up after MAX_FAILURES in a row."""
        with self._db.transaction():
            self._db.run(
                "UPDATE expansions SET failures = failures + 1, error = ?, lease_until = ?, updated_at = ? "
                "WHERE campaign_id = ? AND token = ? AND state = ?",
                reason[:500], now + RETRY_MS, now, self._campaign, self._token, ExpansionState.RUNNING,
            )  # fmt: skip
            given_up = self._db.run(
                "UPDATE expansions SET state = ? WHERE campaign_id = ? AND token = ? AND failures >= ?",
                ExpansionState.FAILED, self._campaign, self._token, MAX_FAILURES,
            )  # fmt: skip
            if given_up:
                give_up(self._db, self._campaign, f"expansion failed {MAX_FAILURES} times: {reason}", now)

    def _cursor(self) -> _Cursor:
        row = self._db.row(
            "SELECT position, cursor_id, next_batch FROM expansions WHERE campaign_id = ? AND token = ? AND state = ?",
            self._campaign, self._token, ExpansionState.RUNNING,
        )  # fmt: skip
        if row is None:
            raise Superseded(f"campaign {self._campaign} is cancelled, or another worker expands it")
        return _Cursor(*map(int, row))

    def _page(self, list_id: int, after: int) -> tuple[int, int]:
        """(last id, number of members) of the next page; OFFSET runs inside the index, so it is cheap."""
        members = "FROM memberships WHERE list_id = ? AND status = ? AND subscriber_id > ?"
        these = (list_id, MembershipStatus.ACTIVE, after)
        last = self._db.value(
            f"SELECT subscriber_id {members} ORDER BY subscriber_id LIMIT 1 OFFSET ?", *these, self._batch_size - 1
        )
        if last is not None:
            return int(last), self._batch_size
        row = self._db.row(f"SELECT COALESCE(MAX(subscriber_id), ?), COUNT(*) {members}", after, *these)
        assert row is not None
        return int(row[0]), int(row[1])

    def _advance(self, cursor: _Cursor, last: int, list_done: bool, now: int) -> None:
        moved = self._db.run(
            "UPDATE expansions SET position = ?, cursor_id = ?, lease_until = ?, failures = 0, error = NULL, "
            "updated_at = ? WHERE campaign_id = ? AND position = ? AND cursor_id = ? AND token = ? AND state = ?",
            cursor.position + list_done, 0 if list_done else last, now + LEASE_MS, now,
            self._campaign, cursor.position, cursor.after, self._token, ExpansionState.RUNNING,
        )  # fmt: skip
        if moved != 1:
            raise Superseded(f"campaign {self._campaign} is cancelled, or another worker expands it")

    def _insert_skipped(self, list_id: int, cursor: _Cursor, last: int) -> int:
        """Those of the page whom nobody may mail, with the reason; usually a few, or none."""
        marks = ", ".join("?" * len(NOT_MAILED))
        unmailed = f"s.status IN ({marks}) AND s.id > ? AND s.id <= ?"
        here = (*NOT_MAILED, cursor.after, last)
        # Counted no further than a page: of a list that is a small part of all, their ids may lie far apart.
        among = self._db.value(
            f"SELECT COUNT(*) FROM (SELECT 1 FROM subscribers s WHERE {unmailed} LIMIT ?) AS few",
            *here, self._batch_size + 1,
        )  # fmt: skip
        if not among:
            return 0
        people, members = "subscribers s", "memberships m"
        # The smaller side first. CROSS JOIN is an order to SQLite, which has no statistics; MySQL decides by itself.
        first, second = (people, members) if among <= self._batch_size else (members, people)
        return self._db.run(
            "INSERT INTO recipients (campaign_id, subscriber_id, batch, state, reason) "
            "SELECT ?, s.id, ?, ?, COALESCE(s.status_reason, s.status) "
            f"FROM {first} CROSS JOIN {second} LEFT JOIN recipients r ON r.campaign_id = ? AND r.subscriber_id = s.id "
            "WHERE m.list_id = ? AND m.subscriber_id = s.id AND m.status = ? "
            f"AND m.subscriber_id > ? AND m.subscriber_id <= ? AND {unmailed} AND r.subscriber_id IS NULL",
            self._campaign, cursor.next_batch, RecipientState.SKIPPED, self._campaign,
            list_id, MembershipStatus.ACTIVE, cursor.after, last, *here,
        )  # fmt: skip

    def _insert_pending(self, list_id: int, cursor: _Cursor, last: int, skipped: int) -> int:
        # Nobody of the first list can be there already, but for those just skipped: a list has each person once.
        fresh = cursor.position == 0 and not skipped
        absent = "LEFT JOIN recipients r ON r.campaign_id = ? AND r.subscriber_id = m.subscriber_id"
        page, values = self._db.numbered(
            f"FROM memberships m {'' if fresh else absent} "
            "WHERE m.list_id = ? AND m.status = ? AND m.subscriber_id > ? AND m.subscriber_id <= ?"
            + ("" if fresh else " AND r.subscriber_id IS NULL"),
            "m.subscriber_id",
            *(() if fresh else (self._campaign,)), list_id, MembershipStatus.ACTIVE, cursor.after, last,
        )  # fmt: skip
        # A plain INSERT: IGNORE would also swallow errors that are not about a person being there.
        return self._db.run(
            "INSERT INTO recipients (campaign_id, subscriber_id, batch, state) "
            f"SELECT ?, id, ? + (n - 1) {self._db.div} ?, ? FROM {page}",
            self._campaign, cursor.next_batch + bool(skipped), self._send_batch_size, RecipientState.PENDING, *values,
        )  # fmt: skip

    def _insert_batches(self, first: int, skipped: int, pending: int, now: int) -> int:
        """The batches of this step; how many."""
        whole, rest = divmod(pending, self._send_batch_size)
        sizes = [self._send_batch_size] * whole + ([rest] if rest else [])
        rows: list[tuple[object, ...]] = [(BatchState.DONE, 0, skipped, now)] if skipped else []
        rows += [(BatchState.READY, size, 0, None) for size in sizes]
        self._db.run_many(
            "INSERT INTO batches (campaign_id, number, ready_at, state, pending, skipped, finished_at)",
            [(self._campaign, first + i, AT_ONCE, *row) for i, row in enumerate(rows)],
        )
        return len(rows)

    def _count(self, of: _List, cursor: _Cursor, batches: int, scanned: int, created: int) -> None:
        self._db.run(
            "UPDATE expansions SET next_batch = next_batch + ?, scanned = scanned + ?, recipients = recipients + ? "
            "WHERE campaign_id = ?",
            batches, scanned, created, self._campaign,
        )  # fmt: skip
        seen = ("unsubscribed_seen = ?, ", of.unsubscribed_at) if cursor.after == 0 else ("",)
        self._db.run(
            f"UPDATE campaign_lists SET {seen[0]}scanned = scanned + ?, created = created + ? "
            "WHERE campaign_id = ? AND position = ?",
            *seen[1:], scanned, created, self._campaign, of.position,
        )  # fmt: skip

    def _finish(self, cursor: _Cursor, now: int) -> Step:
        self._db.run(
            "UPDATE expansions SET state = ?, failures = 0, error = NULL, updated_at = ? "
            "WHERE campaign_id = ? AND token = ? AND state = ?",
            ExpansionState.DONE, now, self._campaign, self._token, ExpansionState.RUNNING,
        )  # fmt: skip
        return Step(cursor.position, len(self._lists), "", 0, 0, 0, True, True)
