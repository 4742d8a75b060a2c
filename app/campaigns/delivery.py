"""Carry one leased batch to its end: over the campaign's servers, then into the database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from app.campaigns.batch_run import BatchRun
from app.campaigns.batches import Mail, mails_of
from app.campaigns.finish import give_up
from app.campaigns.journal import Slot
from app.campaigns.keeper import Held
from app.campaigns.letter import Letter
from app.campaigns.outcomes import Outcome, write_outcomes
from app.campaigns.retry import due_at, split_due
from app.db import Db
from app.db.connection import DatabaseTrouble
from app.errors import TemplateProblem
from app.events import warn
from app.mail.servers import Usable, choose, cool_down
from app.mail.transport import Connection, ProviderTrouble
from app.models.states import RecipientState

DATABASE_RETRY_SECONDS = 1.0


@dataclass
class Station:
    """One thread's place: a slot of the journal and its open connections by server id."""

    slot: Slot
    connections: dict[int, Connection] = field(default_factory=dict)
    used_at: float = 0.0

    def close(self) -> None:
        for connection in self.connections.values():
            connection.close()
        self.connections.clear()


class Delivery:
    """One lease in one station's hands."""

    def __init__(
        self,
        db: Db,
        station: Station,
        held: Held,
        *,
        stop: threading.Event,
        hostname: str,
        max_attempts: int,
        letters: Callable[[int], Letter],
    ) -> None:
        self._db = db
        self._station = station
        self._held = held
        self._lease = held.lease
        self._stop = stop
        self._hostname = hostname
        self._max_attempts = max_attempts
        self._letters = letters
        self._mails: list[Mail] = []

    def carry(self) -> int:
        """Send, record, clear the slot; how many were sent. Whatever happens, the lease is ended."""
        run: BatchRun | None = None
        free_at: int | None = None
        try:
            self._mails = mails_of(self._db, self._lease)
            run = self._start(split_due(self._mails, self._db.now_ms())[0])
            free_at = self._over_servers(run)
        except TemplateProblem as error:
            # It was compiled when it was scheduled; what changed since, a person has to see.
            give_up(self._db, self._lease.campaign_id, str(error), self._db.now_ms())
        finally:
            outcomes = run.concluded() if run else []
            self._write(outcomes, free_at)
            self._station.slot.clear()
        return sum(o.state is RecipientState.SENT for o in outcomes)

    def _start(self, mails: Sequence[Mail]) -> BatchRun:
        lease = self._lease
        letter = self._letters(lease.campaign_id)
        self._station.slot.fill(lease.campaign_id, lease.number, [mail.subscriber_id for mail in mails])
        return BatchRun(
            mails, self._station.slot,
            sender=letter.envelope_sender,
            compose=letter.compose,
            may_go=self._may_go,
            clock=lambda: time.time_ns() // 1_000_000,
            max_attempts=self._max_attempts,
        )  # fmt: skip

    def _may_go(self) -> bool:
        return not (self._lease.halted or self._stop.is_set()) and time.monotonic() < self._lease.deadline

    def _over_servers(self, run: BatchRun) -> int | None:
        """Send over one server after another; the instant in ms at which the rest may go, if not at once."""
        tried: set[int] = set()
        while run.left and self._may_go():
            now = self._db.now_ms()
            connected = self._station.connections
            choice = choose(self._db, self._lease.campaign_id, now, connected=connected, tried=tried)
            if choice.server is None:
                return choice.free_at
            answered = len(run.outcomes)
            trouble = self._over(run, choice.server)
            # A server that took mails and then hung up (a limit per connection) gets another line.
            if trouble and len(run.outcomes) == answered:
                warn(
                    "server in trouble",
                    server=choice.server.name, reason=trouble, campaign_id=self._lease.campaign_id,
                )  # fmt: skip
                cool_down(self._db, choice.server.id, trouble, now)
                tried.add(choice.server.id)
        return None

    def _over(self, run: BatchRun, server: Usable) -> str | None:
        """Send over one server; the reason when its trouble ended it."""
        try:
            connection = self._connection(server)
        except ProviderTrouble as error:
            return error.reason
        try:
            trouble = run.over(connection, server.id)
        except BaseException:
            connection.abort()
            raise
        finally:
            self._held.connection = None
            if not connection.usable:
                self._station.connections.pop(server.id, None)
                connection.close()
        return trouble.reason if trouble else None

    def _connection(self, server: Usable) -> Connection:
        known = self._station.connections.get(server.id)
        if known and known.usable and known.server == server.address:
            self._held.connection = known
            return known
        if known:
            known.close()
            del self._station.connections[server.id]

        def announce(connection: Connection) -> None:
            self._held.connection = connection

        opened = Connection.open(server.address, local_hostname=self._hostname, announce=announce)
        self._station.connections[server.id] = opened
        return opened

    def _write(self, outcomes: list[Outcome], free_at: int | None) -> None:
        """Write the outcomes, again and again until the database has them."""
        lease = self._lease
        while True:
            try:
                now = self._db.now_ms()
                write_outcomes(
                    self._db, lease.campaign_id, lease.number, lease.token, outcomes,
                    now=now, ready_at=self._ready_at(outcomes, free_at, now),
                )  # fmt: skip
                return
            except DatabaseTrouble as error:
                warn("outcomes could not be written; they stay in the journal", batch=lease.number, reason=str(error))
                self._db.close()
                if self._stop.is_set() and time.monotonic() > lease.deadline:
                    raise
                time.sleep(DATABASE_RETRY_SECONDS)

    def _ready_at(self, outcomes: list[Outcome], free_at: int | None, now: int) -> int:
        """When something of this batch may be sent again, in ms."""
        decided = {o.subscriber_id: o for o in outcomes}
        times = []
        for mail in self._mails:
            outcome = decided.get(mail.subscriber_id)
            if outcome is None:
                times.append(max(free_at or now, due_at(mail.attempts, mail.tried_at)))
            elif outcome.state is RecipientState.PENDING:
                times.append(due_at(mail.attempts + 1, outcome.tried_at))
        return min(times, default=now)
