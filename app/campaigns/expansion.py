"""Turn a campaign's lists into recipients and batches, inside the database.

Keyset pagination: list by list, `batch_size` members a transaction, behind the last subscriber id
(`id > cursor ORDER BY id LIMIT n`). The rows never leave the database, so memory stays flat, and
a crash at any instant leaves either the whole step or nothing of it.

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
from app.models.states import CAMPAIGN_EXPANDS, BatchState, ExpansionState, MembershipStatus, RecipientState

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
    """What one transaction did: `scanned` members looked at, `created` of them new recipients."""

    position: int
    lists: int
    list_name: str
    batch: int
    scanned: int
    created: int
    list_done: bool
    all_done: bool


@dataclass(frozen=True)
class _Cursor:
    position: int
    after: int
    next_batch: int


class Expander:
    """Expands one campaign. `batch_size` members a step, `send_batch_size` recipients a batch."""

    def __init__(self, db: Db, campaign_id: int, *, batch_size: int, send_batch_size: int) -> None:
        self._db = db
        self._campaign = campaign_id
        self._batch_size = batch_size
        self._send_batch_size = send_batch_size
        self._token = secrets.token_hex(16)
        self._steps_in_list = 0
        self._lists: list[tuple[int, int, str]] = []

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
                (int(position), int(list_id), str(name))
                for position, list_id, name in self._db.rows(
                    "SELECT c.position, c.list_id, l.name FROM campaign_lists c JOIN lists l ON l.id = c.list_id "
                    "WHERE c.campaign_id = ? ORDER BY c.position",
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
            position, list_id, name = self._lists[cursor.position]
            last, scanned = self._page(list_id, cursor.after)
            list_done = scanned < self._batch_size
            self._advance(cursor, last, list_done, now)
            created = self._insert_recipients(list_id, cursor, last) if scanned else 0
            self._insert_batches(cursor.next_batch, created)
            self._count(position, scanned, created)
        self._steps_in_list += 1
        step = Step(
            cursor.position + 1,
            len(self._lists),
            name,
            self._steps_in_list,
            scanned,
            created,
            list_done,
            False,
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

    def _insert_recipients(self, list_id: int, cursor: _Cursor, last: int) -> int:
        # Nobody of the first list can be there already: a list has each person once.
        first = cursor.position == 0
        absent = "LEFT JOIN recipients r ON r.campaign_id = ? AND r.subscriber_id = m.subscriber_id"
        page, values = self._db.numbered(
            f"FROM memberships m {'' if first else absent} "
            "WHERE m.list_id = ? AND m.status = ? AND m.subscriber_id > ? AND m.subscriber_id <= ?"
            + ("" if first else " AND r.subscriber_id IS NULL"),
            "m.subscriber_id",
            *(() if first else (self._campaign,)), list_id, MembershipStatus.ACTIVE, cursor.after, last,
        )  # fmt: skip
        # A plain INSERT: IGNORE would also swallow errors that are not about a person being there.
        return self._db.run(
            "INSERT INTO recipients (campaign_id, subscriber_id, batch, state) "
            f"SELECT ?, id, ? + (n - 1) {self._db.div} ?, ? FROM {page}",
            self._campaign, cursor.next_batch, self._send_batch_size, RecipientState.PENDING, *values,
        )  # fmt: skip

    def _insert_batches(self, first: int, created: int) -> None:
        whole, rest = divmod(created, self._send_batch_size)
        sizes = [self._send_batch_size] * whole + ([rest] if rest else [])
        self._db.run_many(
            "INSERT INTO batches (campaign_id, number, state, ready_at, pending)",
            [(self._campaign, first + i, BatchState.READY, AT_ONCE, size) for i, size in enumerate(sizes)],
        )

    def _count(self, position: int, scanned: int, created: int) -> None:
        batches = -(-created // self._send_batch_size)
        self._db.run(
            "UPDATE expansions SET next_batch = next_batch + ?, scanned = scanned + ?, recipients = recipients + ? "
            "WHERE campaign_id = ?",
            batches, scanned, created, self._campaign,
        )  # fmt: skip
        self._db.run(
            "UPDATE campaign_lists SET scanned = scanned + ?, created = created + ? "
            "WHERE campaign_id = ? AND position = ?",
            scanned, created, self._campaign, position,
        )  # fmt: skip

    def _finish(self, cursor: _Cursor, now: int) -> Step:
        self._db.run(
            "UPDATE expansions SET state = ?, failures = 0, error = NULL, updated_at = ? "
            "WHERE campaign_id = ? AND token = ? AND state = ?",
            ExpansionState.DONE, now, self._campaign, self._token, ExpansionState.RUNNING,
        )  # fmt: skip
        return Step(cursor.position, len(self._lists), "", 0, 0, 0, True, True)
