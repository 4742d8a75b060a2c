"""Send one loaded batch over the campaign's servers, one after another if need be."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

from app.campaigns.batch_run import BatchRun
from app.campaigns.batches import is_held
from app.campaigns.holds import Holder
from app.campaigns.multiplexer import Multiplexer
from app.campaigns.outcomes import Outcome
from app.campaigns.station import Loaded, Station
from app.clock import since_boot
from app.db import Db
from app.errors import LimitsUnavailable
from app.mail.choice import Blocked, Chooser, Holds, Passage
from app.mail.gate import NO_REDIS_MS, Gate
from app.mail.limits import Refusal
from app.mail.servers import Usable
from app.mail.transport import Connection, ProviderTrouble
from app.mail.transport import Outcome as Answer
from app.models.states import RecipientState

#: A thread that gets no connection leaves the campaign to others for so long, in seconds.
NO_CONNECTION_SECONDS = 1.0
#: With no active server there is nothing to look at for so long, in ms, unless a person changes it.
NO_SERVER_MS = 30_000
NO_SERVER = "no active SMTP server: bin/mailcrew servers list"


class Delivery:
    """One batch in one station's hands. `near_end` is called once, shortly before the last mail."""

    def __init__(
        self,
        db: Db,
        gate: Gate,
        holder: Holder,
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
        self._gate = gate
        self._holder = holder
        self._station = station
        self._loaded = loaded
        self._lease = loaded.lease
        self._stop = stop
        self._hostname = hostname
        self._multiplexer = multiplexer
        #: When (ms) the rest may go, None: at once, as far as this batch is concerned.
        self.free_at: int | None = None
        sender = loaded.letter.envelope_sender
        self._chooser = Chooser(
            db, gate, station.stride, station.paces, self._lease.campaign_id, sender.lower()
        )  # fmt: skip
        self._run = BatchRun(
            loaded.due, loaded.slot,
            sender=sender,
            compose=loaded.letter.compose,
            may_go=lambda: self._may_go() and not loaded.held.leaves,
            near_end=near_end,
            clock=lambda: time.time_ns() // 1_000_000,
            max_attempts=max_attempts,
        )  # fmt: skip

    def send(self) -> None:
        """Send until nothing is left, a check says stop, or no server can be used now.

        Then the campaign is held until one can; or this thread leaves it alone; or `free_at` says when these may go.
        """
        while self._run.left and self._may_go():
            passage = self._chooser.next(self._station.connections, self._run.left_emails)
            if passage is None:
                self._put_off()
                return
            self._over(passage)

    def outcomes(self) -> list[Outcome]:
        """What became of the mails so far; one whose sending an error of ours broke off is in doubt."""
        return self._run.concluded()

    def _may_go(self) -> bool:
        return not (self._lease.halted or self._stop.is_set()) and since_boot() < self._lease.deadline

    # -- over one server -------------------------------------------------------------------------

    def _over(self, passage: Passage) -> None:
        """Send over one server for as long as it may be, and note how it went."""
        before, began = len(self._run.outcomes), time.monotonic()
        self._loaded.held.server = passage.server
        trouble: Answer | ProviderTrouble | None = None
        kept, connection = self._station.connections.get(passage.server.id), None
        try:
            connection = self._connection(passage)
            if connection is None:
                return
            trouble = self._drive(passage, connection)
        except ProviderTrouble as error:
            trouble = error
        finally:
            self._loaded.held.connection = None
            if self._loaded.held.leaves:
                self._chooser.look_again()
            self._loaded.held.server = None
            answers = [o for o in self._run.outcomes[before:] if o.server_id is not None]
            self._chooser.leave(passage, len(answers), time.monotonic() - began)
        worn = trouble and connection and connection is kept and not connection.usable
        if worn and not (passage.trials and answers):
            # It may have had as many mails, or as much time, as the server gives one: a new one tells.
            trouble = None
        self._judge(passage, answers, trouble)

    def _drive(self, passage: Passage, connection: Connection) -> Answer | None:
        server = passage.server
        try:
            return self._multiplexer.drive(self._run.steps(connection, server.id, passage.ration), connection)
        except BaseException:
            connection.abort()
            raise
        finally:
            if not connection.usable:
                self._station.hang_up(server.id)

    def _judge(self, passage: Passage, answers: list[Outcome], trouble: Answer | ProviderTrouble | None) -> None:
        """What a run says of its server. One that answered mails and then hung up gets another line."""
        well = any(o.state is not RecipientState.UNKNOWN for o in answers)
        if trouble and (passage.trials or not well):
            of_sender = isinstance(trouble, Answer) and trouble.of_sender
            self._chooser.failed(passage.server, passage.trials, trouble.reason, of_sender=of_sender)
        elif well and passage.trials:
            self._chooser.worked(passage)
        else:
            self._chooser.untried(passage)

    def _connection(self, passage: Passage) -> Connection | None:
        """An open connection; None when there is no slot for one. Raises ProviderTrouble."""
        server, station = passage.server, self._station
        self._hang_up_others(server)
        known = station.connections.get(server.id)
        if known and known.usable and known.server == server.address and self._has_slot(server):
            self._loaded.held.connection = known
            return known
        station.hang_up(server.id)
        if server.max_connections is not None and not self._take_slot(passage, server.max_connections):
            return None

        def announce(connection: Connection) -> None:
            self._loaded.held.connection = connection

        try:
            opened = Connection.open(server.address, local_hostname=self._hostname, announce=announce)
        except BaseException:
            station.hang_up(server.id)
            raise
        station.connections[server.id] = opened
        # A machine that was halted long enough for others to settle its leases finds its old connections
        # dead. So a new one is where such a machine would send, and the database knows better.
        if not is_held(self._db, self._lease):
            self._lease.halted = True
        return opened

    def _has_slot(self, server: Usable) -> bool:
        slot = self._station.slots_at.get(server.id)
        return server.max_connections is None or (slot is not None and self._gate.slots.kept(slot))

    def _take_slot(self, passage: Passage, most: int) -> bool:
        try:
            slot = self._gate.slots.take(passage.server.id, most)
        except LimitsUnavailable as error:
            self._chooser.no_connection(passage, Refusal(self._db.now_ms() + NO_REDIS_MS, str(error)))
            return False
        if slot is None:
            self._chooser.no_connection(passage)
            return False
        self._station.slots_at[passage.server.id] = slot
        return True

    def _hang_up_others(self, server: Usable) -> None:
        """A connection that others may be waiting for is not kept while mails go over another server."""
        for other in [id_ for id_ in self._station.slots_at if id_ != server.id]:
            self._station.hang_up(other)

    # -- over none -------------------------------------------------------------------------------

    def _put_off(self) -> None:
        """No server can be used for what is left: see to it that it is tried again when one can."""
        chooser, now = self._chooser, self._db.now_ms()
        if chooser.domain_bound:
            self.free_at = self._appointment(chooser.domain_bound)
        elif any(blocked.whose is Holds.HERE for blocked in chooser.blocked):
            self._station.leave_alone(self._lease.campaign_id, NO_CONNECTION_SECONDS)
        elif chooser.servers:
            first = min(chooser.blocked, key=lambda blocked: blocked.free_at)
            self._hold(first.free_at, first.reason, first)
        else:
            self._hold(now + NO_SERVER_MS, NO_SERVER, None)

    def _hold(self, until: int, reason: str, first: Blocked | None) -> None:
        """Hold the campaign until `first` is free."""
        blocked = [one.server.id for one in self._chooser.blocked if one.whose is Holds.EVERYBODY]
        self._holder.hold(
            self._lease.campaign_id, until, reason, server=first.server if first else None,
            limit=first is not None and first.limit, blocked=blocked,
            seen=self._chooser.servers, sender=self._loaded.letter.envelope_sender.lower(),
            has_sent=bool(self._run.outcomes),
        )  # fmt: skip

    def _appointment(self, servers: list[Usable]) -> int:
        """When the rest may come again: each of its mails is for a domain that has no token at these servers."""

        def first_free(server: Usable) -> int:
            return min(refusal.free_at for _, refusal in self._chooser.refused_domains(server))

        server = min(servers, key=first_free)
        rules = self._gate.rules()
        waiting = Counter(rule.domain for email in self._run.left_emails() if (rule := rules.for_address(email)))
        found = [
            self._gate.appointment(server, rule, waiting[rule.domain])
            for rule, _ in self._chooser.refused_domains(server)
            if waiting[rule.domain]
        ]
        return max(self._db.now_ms() + 1, min(found, default=0))
