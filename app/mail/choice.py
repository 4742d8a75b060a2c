"""Find a server of the campaign that may be used now, with tokens for it in hand, or say why there is none."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum

from app.db import Db
from app.mail.cooldown import Spot, Trouble
from app.mail.gate import Gate
from app.mail.limits import Block, DomainRule, Refusal, connection_limit
from app.mail.ration import Ration, bounded
from app.mail.servers import Usable, release_holds
from app.mail.stride import Stride

#: When another worker is trying a server just now, look again after so long, in ms.
TRIED_MS = 1_000
#: How fast a thread sends over a server it has not used yet, in seconds a mail.
FIRST_GUESS = 0.005


class Holds(Enum):
    """For whom a server is no use now."""

    EVERYBODY = "everybody"
    SENDER = "campaigns from this sender"
    HERE = "this sending thread: it gets no connection"


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why a server is no use now, and from when (ms) it may be. `limit`: it is well, but has had what it may get."""

    server: Usable
    free_at: int
    reason: str
    whose: Holds = Holds.EVERYBODY
    limit: bool = False


@dataclass(frozen=True, slots=True)
class Passage:
    """The right to send over a server. `ration` None: as much as one likes. `trials`: what one mail is to prove."""

    server: Usable
    ration: Ration | None
    trials: tuple[tuple[Spot, Trouble], ...]


class Chooser:
    """Chooses for one batch; `sender` is the campaign's envelope sender in lower case.

    `paces` holds how fast this thread sends over each server, in seconds a mail. After `next` said None, `blocked`
    tells why, and `domain_bound` the servers that would take other mails, but none of these.
    """

    def __init__(
        self, db: Db, gate: Gate, stride: Stride, paces: dict[int, float], campaign_id: int, sender: str
    ) -> None:
        self._db = db
        self._gate = gate
        self._stride = stride
        self._paces = paces
        self._campaign = campaign_id
        self._sender = sender
        self._failed: dict[int, str] = {}
        self._full: dict[int, Blocked] = {}
        self._refused: dict[int, dict[str, tuple[DomainRule, Refusal]]] = {}
        self.servers: list[Usable] = []
        self.blocked: list[Blocked] = []
        self.domain_bound: list[Usable] = []

    def next(self, connected: Collection[int], left: Callable[[], Sequence[str]]) -> Passage | None:
        """The server to go on with, None when there is none now. `left()`: the addresses that are left."""
        now = self._db.now_ms()
        self.servers = self._gate.servers(self._campaign, self._sender)
        self.blocked, self.domain_bound = [], []
        for server in self._stride.order(self.servers, connected):
            blocked = self._known(server, now)
            if blocked is None and self._wants_none(server, left):
                self.domain_bound.append(server)
                continue
            found = blocked or self._enter(server, now, left)
            if isinstance(found, Passage):
                return found
            self.blocked.append(found)
        return None

    # -- how it went -----------------------------------------------------------------------------

    def leave(self, passage: Passage, mails: int, seconds: float) -> None:
        """To be called when a run has ended: `mails` were answered in so many seconds."""
        server, ration = passage.server, passage.ration
        if ration:
            if ration.close():
                self._gate.given_back(server)
            self._refused.setdefault(server.id, {}).update(ration.refused)
        if mails:
            self._stride.sent(server, mails)
            before = self._paces.get(server.id, seconds / mails)
            self._paces[server.id] = max(1e-6, (before + seconds / mails) / 2)

    def worked(self, passage: Passage) -> None:
        """The trial mail of a server went well: whoever waits for it may go on."""
        for spot, seen in passage.trials:
            if spot.recover(self._db, seen):
                release_holds(self._db, server_id=spot.server_id)
        self.look_again()

    def untried(self, passage: Passage) -> None:
        """No mail was tried, so the trial is another's."""
        for spot, seen in passage.trials:
            spot.forgo_trial(self._db, seen)
        if passage.trials:
            self.look_again()

    def failed(self, server: Usable, trials: Sequence[tuple[Spot, Trouble]], reason: str, *, of_sender: bool) -> None:
        """Leave a server alone that is in trouble, or only this sender's mails there."""
        spot, seen = server.spots[of_sender]
        spot.cool_down(self._db, seen, reason, self._db.now_ms())
        for other, known in trials:
            if other != spot:
                other.forgo_trial(self._db, known)
        self._failed[server.id] = f"{spot}: {reason}"
        self.look_again()

    def no_connection(self, passage: Passage, refusal: Refusal | None = None) -> None:
        """No slot for a connection to that server now; `refusal` when that is not for lack of room."""
        self.untried(passage)
        server, now = passage.server, self._db.now_ms()
        self._full[server.id] = (
            Blocked(server, refusal.free_at, refusal.reason, limit=True)
            if refusal
            else Blocked(server, now, connection_limit(server.name), Holds.HERE)
        )

    def refused_domains(self, server: Usable) -> list[tuple[DomainRule, Refusal]]:
        """The domains that had no token at a server."""
        return list(self._refused.get(server.id, {}).values())

    # -- how it is -------------------------------------------------------------------------------

    def _known(self, server: Usable, now: int) -> Blocked | None:
        """Why a server is no use now, as far as is known without asking."""
        if server.id in self._full:
            return self._full[server.id]
        for whose, (spot, trouble) in zip((Holds.EVERYBODY, Holds.SENDER), server.spots, strict=True):
            if trouble.free_at(now) > now:
                return Blocked(server, trouble.free_at(now), f"{spot}: {trouble.reason}", whose)
        if server.id in self._failed:
            # Another worker was quicker to say so and it is over already; this batch has had enough of it.
            return Blocked(server, now + TRIED_MS, self._failed[server.id], Holds.SENDER)
        return None

    def _wants_none(self, server: Usable, left: Callable[[], Sequence[str]]) -> bool:
        """Whether each mail that is left is for a domain that has no token at this server."""
        refused = self._refused.get(server.id)
        if not refused:
            return False
        now, rules = self._db.now_ms(), self._gate.rules()
        refused = {domain: known for domain, known in refused.items() if known[1].free_at > now}
        self._refused[server.id] = refused
        return all((rule := rules.for_address(email)) is not None and rule.domain in refused for email in left())

    def _enter(self, server: Usable, now: int, left: Callable[[], Sequence[str]]) -> Passage | Blocked:
        if server.unset:
            reason = f"the variable {server.unset} with its password is not set"
            self.failed(server, (), reason, of_sender=False)
            return Blocked(server, now + TRIED_MS, f"server {server.name}: {reason}")
        trials = tuple((spot, trouble) for spot, trouble in server.spots if trouble.step)
        rules = self._gate.rules()
        if not (server.limits or rules or trials):
            return Passage(server, None, ())
        emails = left()
        pace = self._paces.get(server.id, FIRST_GUESS)
        block: Block | None = None
        if server.limits:
            wanted = 1 if trials else bounded(len(emails), server.limits, pace)
            found = self._gate.reserve(server, wanted)
            if isinstance(found, Refusal):
                return Blocked(server, found.free_at, found.reason, limit=True)
            block = found
        ration = Ration(self._gate, server, block, rules, emails, seconds_a_mail=pace, trial=bool(trials))
        for number, (spot, seen) in enumerate(trials):
            if not spot.win_trial(self._db, seen, now):
                ration.close()
                for other, known in trials[:number]:
                    other.forgo_trial(self._db, known)
                whose = Holds.EVERYBODY if spot.sender is None else Holds.SENDER
                return Blocked(server, now + TRIED_MS, f"{spot}: {seen.reason}", whose)
        return Passage(server, ration, trials)

    def look_again(self) -> None:
        """Have the database asked how the servers are now."""
        self._gate.servers(self._campaign, self._sender, known_for=0)
