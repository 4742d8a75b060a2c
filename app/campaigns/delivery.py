"""Send one loaded batch over the campaign's servers, one after another if need be."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from app.campaigns.batch_run import BatchRun
from app.campaigns.batches import is_held
from app.campaigns.multiplexer import Multiplexer
from app.campaigns.outcomes import Outcome
from app.campaigns.station import Loaded, Station
from app.clock import since_boot
from app.db import Db
from app.events import warn
from app.mail.servers import Usable, choose, cool_down
from app.mail.transport import Connection, ProviderTrouble


class Delivery:
    """One batch in one station's hands. `near_end` is called once, shortly before the last mail."""

    def __init__(
        self,
        db: Db,
        station: Station,
        loaded: Loaded,
        *,
        stop: threading.Event,
        hostname: str,
        max_attempts: int,
        multiplexer: Multiplexer,
        near_end: Callable[[], object],
    ) -> None:
        self._db = db
        self._station = station
        self._loaded = loaded
        self._lease = loaded.lease
        self._stop = stop
        self._hostname = hostname
        self._multiplexer = multiplexer
        self.free_at: int | None = None
        self._run = BatchRun(
            loaded.due, loaded.slot,
            sender=loaded.letter.envelope_sender,
            compose=loaded.letter.compose,
            may_go=self._may_go,
            near_end=near_end,
            clock=lambda: time.time_ns() // 1_000_000,
            max_attempts=max_attempts,
        )  # fmt: skip

    def send(self) -> None:
        """Send until nothing is left, a check says stop, or no server can be used now.

        `free_at` is then the instant in ms at which the rest may go, None: at once.
        """
        tried: set[int] = set()
        while self._run.left and self._may_go():
            now = self._db.now_ms()
            connected = self._station.connections
            choice = choose(self._db, self._lease.campaign_id, now, connected=connected, tried=tried)
            if choice.server is None:
                self.free_at = choice.free_at
                return
            answered = len(self._run.outcomes)
            trouble = self._over(choice.server)
            # A server that took mails and then hung up (a limit per connection) gets another line.
            if trouble and len(self._run.outcomes) == answered:
                warn(
                    "server in trouble",
                    server=choice.server.name, reason=trouble, campaign_id=self._lease.campaign_id,
                )  # fmt: skip
                cool_down(self._db, choice.server.id, trouble, now)
                tried.add(choice.server.id)

    def outcomes(self) -> list[Outcome]:
        """What became of the mails so far; one whose sending an error of ours broke off is in doubt."""
        return self._run.concluded()

    def _may_go(self) -> bool:
        return not (self._lease.halted or self._stop.is_set()) and since_boot() < self._lease.deadline

    def _over(self, server: Usable) -> str | None:
        """Send over one server; the reason when its trouble ended it."""
        try:
            connection = self._connection(server)
        except ProviderTrouble as error:
            return error.reason
        try:
            trouble = self._multiplexer.drive(self._run.steps(connection, server.id), connection)
        except BaseException:
            connection.abort()
            raise
        finally:
            self._loaded.held.connection = None
            if not connection.usable:
                self._station.connections.pop(server.id, None)
                connection.close()
        return trouble.reason if trouble else None

    def _connection(self, server: Usable) -> Connection:
        known = self._station.connections.get(server.id)
        if known and known.usable and known.server == server.address:
            self._loaded.held.connection = known
            return known
        if known:
            known.close()
            del self._station.connections[server.id]

        def announce(connection: Connection) -> None:
            self._loaded.held.connection = connection

        opened = Connection.open(server.address, local_hostname=self._hostname, announce=announce)
        self._station.connections[server.id] = opened
        # A machine that was halted long enough for others to settle its leases finds its old connections
        # dead. So a new one is where such a machine would send, and the database knows better.
        if not is_held(self._db, self._lease):
            self._lease.halted = True
        return opened
