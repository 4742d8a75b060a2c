"""Keep the leases of this process alive, on a thread and a database connection of its own."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from app.campaigns.batches import Lease, renew
from app.campaigns.journal import Journal
from app.campaigns.turns import SENDER_MAY
from app.clock import since_boot
from app.db import Db
from app.events import warn
from app.mail.servers import Usable
from app.mail.transport import Connection
from app.models.states import BatchState, CampaignStatus

TICK_SECONDS = 1.0
#: Between two looks whether the leases may go on: nearly all that a person who pauses a campaign waits for.
LOOK_SECONDS = 0.2


@dataclass
class Held:
    """A lease in hand, and the server and connection it is being sent over.

    `left` is that server once it is not to be used any more as it was: paused, removed or changed.
    """

    lease: Lease
    connection: Connection | None = None
    server: Usable | None = None
    left: Usable | None = None

    @property
    def leaves(self) -> bool:
        """Whether sending over the present server is to end."""
        return self.left is not None and self.left is self.server

    def alive(self, monotonic: float) -> bool:
        """Whether the sender still moves: a lease is not kept up for one that is stuck."""
        return self.connection is None or monotonic < self.connection.deadline + TICK_SECONDS


class LeaseKeeper:
    """Renews leases when a third of them is gone; halts those whose campaign or sender was paused."""

    def __init__(self, db: Db, journal: Journal, lease_seconds: int) -> None:
        self._db = db
        self._journal = journal
        self._lease_seconds = lease_seconds
        self._held: dict[str, Held] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._beat, name="journal-beat", daemon=True),
            threading.Thread(target=self._run, name="lease-keeper", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._closed.set()
        for thread in self._threads:
            thread.join()

    def campaign(self) -> int | None:
        """The campaign of one of the leases in hand, None when there is none."""
        with self._lock:
            return next((held.lease.campaign_id for held in self._held.values()), None)

    def hold(self, lease: Lease) -> Held:
        held = Held(lease)
        with self._lock:
            self._held[lease.token] = held
        return held

    def let_go(self, held: Held) -> None:
        with self._lock:
            self._held.pop(held.lease.token, None)

    def _beat(self) -> None:
        # Apart from the renewals: those may hang in the database, and this process still runs.
        while not self._closed.wait(TICK_SECONDS):
            self._journal.beat()

    def _run(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            try:
                self.step(since_boot(), time.monotonic())
            except Exception as error:  # without this thread every lease would run out
                warn("leases could not be renewed", reason=f"{type(error).__name__}: {error}")
                self._db.close()
        self._db.close()

    def step(self, now: float, monotonic: float) -> None:
        """Look at every lease once. `now`: by the clock of leases; `monotonic`: by that of connections."""
        with self._lock:
            held = list(self._held.values())
        if not held:
            return
        self._halt_those_not_ours([one.lease for one in held])
        self._leave_changed_servers([(one, one.server) for one in held if one.server])
        for one in held:
            lease = one.lease
            if lease.deadline - now > self._lease_seconds * 2 / 3 or not one.alive(monotonic):
                continue
            if renew(self._db, lease, self._db.now_ms(), self._lease_seconds):
                lease.deadline = now + self._lease_seconds
            else:
                lease.halted = True

    def _halt_those_not_ours(self, leases: list[Lease]) -> None:
        """Halt the leases that someone else has settled, and those of campaigns and senders that are not to send."""
        which = " OR ".join(["(b.campaign_id = ? AND b.number = ?)"] * len(leases))
        keys = [value for lease in leases for value in (lease.campaign_id, lease.number)]
        rows = self._db.rows(
            "SELECT b.token FROM batches b JOIN campaigns c ON c.id = b.campaign_id "
            f"WHERE ({which}) AND b.state = ? AND c.status = ? AND {SENDER_MAY}",
            *keys, BatchState.LEASED, CampaignStatus.SENDING,
        )  # fmt: skip
        ours = {token for (token,) in rows}
        for lease in leases:
            if lease.token not in ours:
                lease.halted = True

    def _leave_changed_servers(self, in_use: list[tuple[Held, Usable]]) -> None:
        """End sending over servers that a person has paused, removed or changed; the leases go on over others."""
        ids = sorted({server.id for _, server in in_use})
        if not ids:
            return
        rows = self._db.rows(
            "SELECT id, host, port, per_second, per_minute, per_hour, per_day, timezone FROM servers "
            f"WHERE state = 'active' AND id IN ({', '.join('?' * len(ids))})",
            *ids,
        )
        now = {int(row[0]): row[1:] for row in rows}
        for held, server in in_use:
            limits = server.limits
            used = (server.address.host, server.address.port, *(limit for _, limit in limits), limits.timezone)
            if now.get(server.id) != used:
                held.left = server
