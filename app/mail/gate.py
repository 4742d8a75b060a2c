"""What this process knows of servers and their limits: the database asked once a second, a refusal until it is over."""

from __future__ import annotations

import time
from collections.abc import Sequence

import redis

from app.db import Db
from app.errors import LimitsUnavailable
from app.mail.limits import Block, DomainRule, DomainRules, History, Limiter, Limits, Refusal, load_rules
from app.mail.servers import Usable, servers_of
from app.mail.slots import ConnectionSlots
from app.models.states import CampaignStatus

#: How long what the database said is good for, in seconds, and after how long it is asked again beforehand.
KNOWN_SECONDS = 1.0
FRESH_SECONDS = 0.5
#: A refusal is taken for granted for so long at most, in ms: a limit may be raised, or tokens given back.
TRUSTED_MS = 10_000
#: When Redis does not answer, servers with limits are not asked about for so long, in ms.
NO_REDIS_MS = 1_000
#: Campaigns whose servers are remembered.
MOST_KNOWN = 256
#: How often Redis's clock is compared with the database's, in seconds, and which difference is none, in ms.
CLOCK_SECONDS = 60.0
#: A hold that is over so soon, in ms, need not be ended early.
SHORT_MS = 1_000
SAME_MS = 50

Key = tuple[int, str, Limits]


class Gate:
    """For all threads of a process. `client` is only asked for servers or domains that have limits."""

    def __init__(self, db: Db, client: redis.Redis) -> None:
        self._db = db
        self._client = client
        self.limiter = Limiter(client, History(db))
        self.slots = ConnectionSlots(self.limiter.connections)
        self._servers: dict[int, tuple[float, list[Usable]]] = {}
        self._rules: tuple[float, DomainRules] = (-KNOWN_SECONDS, DomainRules([]))
        self._refusals: dict[Key, tuple[int, Refusal]] = {}
        self._clocks = (-CLOCK_SECONDS, 0)

    def prepare(self, campaign_id: int, sender: str) -> None:
        """Ask the database for what sending the campaign needs, so that no connection waits for it later."""
        self.servers(campaign_id, sender, known_for=FRESH_SECONDS)
        self.rules(known_for=FRESH_SECONDS)

    def servers(self, campaign_id: int, sender: str, *, known_for: float = KNOWN_SECONDS) -> list[Usable]:
        """The active servers of a campaign, as they were at most `known_for` seconds ago."""
        asked_at, known = self._servers.get(campaign_id, (-KNOWN_SECONDS, []))
        if time.monotonic() - asked_at >= known_for:
            if len(self._servers) >= MOST_KNOWN:
                self._servers.clear()
            known = servers_of(self._db, campaign_id, sender)
            self._servers[campaign_id] = (time.monotonic(), known)
        return known

    def rules(self, *, known_for: float = KNOWN_SECONDS) -> DomainRules:
        """The limits of recipients' domains."""
        asked_at, known = self._rules
        if time.monotonic() - asked_at >= known_for:
            known = load_rules(self._db)
            self._rules = (time.monotonic(), known)
        return known

    def reserve(self, server: Usable, wanted: int, rule: DomainRule | None = None) -> Block | Refusal:
        """Tokens of a server with limits, or with `rule` those of a domain there; `free_at` by the database's clock."""
        refused = self.refusal(server, rule)
        if refused:
            return refused
        try:
            if rule is None:
                found = self.limiter.reserve(server.id, server.name, server.limits, wanted)
            else:
                found = self.limiter.reserve_domain(server.id, server.name, rule, server.limits.timezone, wanted)
        except LimitsUnavailable as error:
            return self._note(server, rule, Refusal(self._db.now_ms() + NO_REDIS_MS, str(error)))
        return found if isinstance(found, Block) else self._note(server, rule, self._by_our_clock(found))

    def exchange(self, server: Usable, block: Block, wanted: int, late: Sequence[Block] = ()) -> Block | Refusal:
        """Fresh tokens for those of an expired block; mails of `late` blocks of the same count from now on."""
        try:
            found = self.limiter.exchange(block, wanted, late)
        except LimitsUnavailable as error:
            return self._note(server, block.request.rule, Refusal(self._db.now_ms() + NO_REDIS_MS, str(error)))
        return found if isinstance(found, Block) else self._note(server, block.request.rule, self._by_our_clock(found))

    def refusal(self, server: Usable, rule: DomainRule | None = None) -> Refusal | None:
        """What was answered before, as long as asking again would change nothing."""
        until, known = self._refusals.get(_key(server, rule), (0, None))
        return known if known and until > self._db.now_ms() else None

    def given_back(self, server: Usable) -> None:
        """Tokens of a server were given back: whoever was refused meanwhile, perhaps until midnight, may ask again."""
        self._refusals.pop(_key(server, None), None)
        self._db.run(
            "UPDATE campaigns SET held_until = 0, held_by = NULL WHERE status = ? AND held_until > ? "
            "AND id IN (SELECT campaign_id FROM campaign_servers WHERE server_id = ?)",
            CampaignStatus.SENDING, self._db.now_ms() + SHORT_MS, server.id,
        )  # fmt: skip

    def appointment(self, server: Usable, rule: DomainRule, mails: int) -> int:
        """When (ms) so many mails for a domain that has no token at a server may come again."""
        now = self._db.now_ms()
        try:
            at = self.limiter.appointment(server.id, rule, server.limits.timezone, mails)
        except LimitsUnavailable:
            return now + NO_REDIS_MS
        return max(now + 1, at - self._ahead(now))

    def close(self) -> None:
        self.slots.close()
        self._client.close()

    def _note(self, server: Usable, rule: DomainRule | None, refused: Refusal) -> Refusal:
        now = self._db.now_ms()
        if len(self._refusals) >= MOST_KNOWN:
            self._refusals = {key: kept for key, kept in self._refusals.items() if kept[0] > now}
        self._refusals[_key(server, rule)] = (min(refused.free_at, now + TRUSTED_MS), refused)
        return refused

    def _by_our_clock(self, refused: Refusal) -> Refusal:
        now = self._db.now_ms()
        return Refusal(max(now + 1, refused.free_at - self._ahead(now)), refused.reason)

    def _ahead(self, now: int) -> int:
        """How far Redis's clock is ahead of the database's, in ms: refusals come by the one, leases go by the other."""
        asked_at, ahead = self._clocks
        if time.monotonic() - asked_at >= CLOCK_SECONDS:
            try:
                seconds, micros = self._client.time()
            except redis.RedisError:
                return ahead
            ahead = int(seconds) * 1000 + int(micros) // 1000 - now
            ahead = 0 if abs(ahead) < SAME_MS else ahead
            self._clocks = (time.monotonic(), ahead)
        return ahead


def _key(server: Usable, rule: DomainRule | None) -> Key:
    # With the limits: one that was changed has not refused anything yet.
    return (server.id, "", server.limits) if rule is None else (server.id, rule.domain, rule.limits)
