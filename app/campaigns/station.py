"""One sending thread's place: its connections, two slots of the journal, and a clerk for the database.

The clerk is a second thread. While a batch is being sent it writes the outcomes of the last one and,
shortly before the end, leases the next, so that the connection never waits for the database.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from app.campaigns.batches import Lease, disown, lease_next, new_token
from app.campaigns.journal import Slot
from app.campaigns.keeper import Held, LeaseKeeper
from app.campaigns.letter import Letter
from app.campaigns.mails import Mail, mails_of
from app.campaigns.retry import split_due
from app.clock import since_boot
from app.db import Db
from app.db.connection import DatabaseTrouble
from app.events import warn
from app.mail.slots import ConnectionSlots
from app.mail.stride import Stride
from app.mail.transport import Connection

SLOTS = 2
DATABASE_RETRY_SECONDS = 1.0


@dataclass
class Station:
    """`slots` are used in turn; the clerk works in order, so the one whose turn it is has been cleared.

    Connections by server; `slots_at` are those of servers that allow only so many, `paces` seconds a mail.
    """

    slots: list[Slot]
    connection_slots: ConnectionSlots
    clerk: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="clerk"))
    connections: dict[int, Connection] = field(default_factory=dict)
    slots_at: dict[int, str] = field(default_factory=dict)
    stride: Stride = field(default_factory=Stride)
    paces: dict[int, float] = field(default_factory=dict)
    used_at: float = 0.0
    _left_alone: dict[int, float] = field(default_factory=dict)

    def hang_up(self, server_id: int) -> None:
        """Close the connection to a server, if there is one, and let others have its slot."""
        connection = self.connections.pop(server_id, None)
        if connection:
            connection.close()
        slot = self.slots_at.pop(server_id, None)
        if slot:
            self.connection_slots.release(slot)

    def hang_up_all(self) -> None:
        for server_id in [*self.connections]:
            self.hang_up(server_id)

    def rest(self) -> None:
        """There is nothing to send for now: connections that others may be waiting for are not kept."""
        for server_id in [*self.slots_at]:
            self.hang_up(server_id)

    def leave_alone(self, campaign_id: int, seconds: float) -> None:
        """Lease nothing of a campaign for a while: this thread cannot send it, others can."""
        self._left_alone[campaign_id] = time.monotonic() + seconds

    def left_alone(self) -> frozenset[int]:
        """The campaigns that this thread leaves alone now."""
        if not self._left_alone:
            return frozenset()
        now = time.monotonic()
        self._left_alone = {id_: until for id_, until in self._left_alone.items() if until > now}
        return frozenset(self._left_alone)


@dataclass
class Loaded:
    """A leased batch with all that sending it needs; `due` are those of `mails` that may be tried now."""

    held: Held
    slot: Slot
    letter: Letter
    mails: list[Mail]
    due: list[Mail]

    @property
    def lease(self) -> Lease:
        return self.held.lease


class Loader:
    """Leases batches and loads them into slots."""

    def __init__(
        self,
        db: Db,
        keeper: LeaseKeeper,
        *,
        journal: str,
        letters: Callable[[int], Letter],
        lease_seconds: int,
        waits: Sequence[float],
        prepare: Callable[[int, str], object],
        stop: threading.Event,
        hand_back: Callable[[Lease], object],
    ) -> None:
        self._db = db
        self._keeper = keeper
        self._journal = journal
        self._letters = letters
        self._lease_seconds = lease_seconds
        self._waits = waits
        self._prepare = prepare
        self._stop = stop
        self._hand_back = hand_back
        self._expected: dict[int, int] = {}

    def load(self, slot: Slot, only: int | None, leave: frozenset[int] = frozenset()) -> Loaded | None:
        """Lease the next batch into `slot`, not one of the campaigns in `leave`; None when there is none now or
        this worker stops."""
        if self._stop.is_set():
            return None
        if not slot.is_clear:
            # Its batch could not be recorded, and only our death makes it settled.
            warn("a batch could not be recorded: this worker stops, so that its journal is settled")
            self._stop.set()
            return None
        lease = self._lease(slot, only, leave)
        if lease is None:
            slot.clear()
            return None
        held = self._keeper.hold(lease)
        try:
            mails = mails_of(self._db, lease)
            due = split_due(mails, self._db.now_ms(), self._waits)[0]
            slot.fill(lease.campaign_id, lease.number, [mail.subscriber_id for mail in due])
            letter = self._letters(lease.campaign_id)
            self._prepare(lease.campaign_id, letter.envelope_sender.lower())
            return Loaded(held, slot, letter, mails, due)
        except BaseException:
            # Nothing of it was tried, and a lease that nobody ends would stay as long as this process.
            self._hand_back(lease)
            slot.clear()
            self._keeper.let_go(held)
            raise

    def note(self, lease: Lease, decided: int) -> None:
        """Note how much of a batch was dealt with: where limits allow a few at a time, no more is charged beforehand.

        Else every thread that gets a few tokens would count as a whole batch, and weights would mean little.
        """
        if decided >= lease.size:
            self._expected.pop(lease.campaign_id, None)
        else:
            self._expected[lease.campaign_id] = max(1, decided)

    def _lease(self, slot: Slot, only: int | None, leave: frozenset[int]) -> Lease | None:
        token = new_token()
        slot.open(token)
        # Before the database's clock: should we be halted in between, our side of the lease is the shorter one.
        begun = since_boot()
        try:
            return lease_next(
                self._db, token=token, journal=self._journal, only=only, leave=leave, now=self._db.now_ms(),
                monotonic=begun, lease_seconds=self._lease_seconds, expected=self._expected,
            )  # fmt: skip
        except DatabaseTrouble:
            self._disown(token)
            slot.clear()
            raise

    def _disown(self, token: str) -> None:
        """The answer to a lease was lost: it may have been given, and nobody else would take it back."""
        while not self._stop.is_set():
            try:
                self._db.close()
                disown(self._db, token)
                return
            except DatabaseTrouble:
                self._stop.wait(DATABASE_RETRY_SECONDS)
