"""The limiter: who may send how many mails now, counted in Redis for all workers and hosts together.

How tokens are counted stands in scripts/counters.lua, how they are counted again in counting.py.
"""

from __future__ import annotations

import math
import random
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import redis

from app.clock import since_boot
from app.db.connection import DatabaseTrouble
from app.errors import LimitsUnavailable
from app.events import warn
from app.mail.limits import keys
from app.mail.limits.connections import Connections
from app.mail.limits.counting import Counting
from app.mail.limits.days import day_starts
from app.mail.limits.history import History
from app.mail.limits.kinds import (
    UNLIMITED,
    WINDOWS,
    Block,
    DomainRule,
    Grant,
    Limits,
    Refusal,
    Request,
    Usage,
)
from app.mail.limits.scripts import script
from app.mail.limits.usage import usage_by_database

#: Come again after so many ms while a server's tokens are counted from the database.
COUNTING_MS = 250
#: Appointments go so far ahead, in µs.
AHEAD = 3_600_000_000
#: What the scripts answer first.
GRANTED, LOOK, NOT_COUNTED, OTHER_DAY = 1, 2, -1, -2


class Limiter:
    """Reserves tokens. Safe to share between threads; never waits for a limit.

    Every method but `give_back` raises LimitsUnavailable (app/errors.py) when Redis does not answer. A server
    without limits needs no Redis. `clock`: µs since 1970 in place of Redis's own time, for replaying.
    """

    def __init__(self, client: redis.Redis, history: History, *, clock: Callable[[], int] | None = None) -> None:
        self.connections = Connections(client)
        self._client = client
        self._history = history
        self._clock = clock
        self._counting = Counting(client, history, clock)
        self._reserve = script(client, "reserve")
        self._appointment = script(client, "appointment")

    def reserve(
        self, server_id: int, name: str, limits: Limits, wanted: int, rule: DomainRule | None = None
    ) -> Block | Refusal:
        """Up to `wanted` tokens of a server (at least one), or why there is none and when there will be.

        With `rule`: tokens that count for the server and for the domain there, as many as both leave.
        """
        return self._get(Request(server_id, name, limits, rule), wanted)

    def reserve_domain(
        self, server_id: int, name: str, rule: DomainRule, timezone: str, wanted: int
    ) -> Block | Refusal:
        """The same for a domain alone: tokens beside those of the server. `timezone` is the server's."""
        return self._get(Request(server_id, name, Limits(timezone=timezone), rule), wanted)

    def give_back(self, block: Block) -> None:
        """Give back what is left of a block, exactly, and count what was late; it is empty then.

        Does not raise: what Redis does not hear of counts as used.
        """
        left = block.left
        back = _given_back([block])
        if not back:
            return
        try:
            self._ask(block.request, 0, back)
        except redis.RedisError as error:
            warn("tokens not given back", server=block.request.name, tokens=left, reason=str(error))

    def exchange(self, block: Block, wanted: int, others: Sequence[Block] = ()) -> Block | Refusal:
        """Give back what is left of a block (and of `others` of the same) and reserve anew, in one step.

        As many as were left and have not long expired are had again for certain, unless a limit was lowered, the
        day ended or Redis lost its counts. Never asks the database.
        """
        if block.grant is None:
            return block
        return self._get(block.request, wanted, _given_back([block, *others]), counts=False)

    def appointment(self, server_id: int, rule: DomainRule, timezone: str, mails: int) -> int:
        """When to come again with so many mails for a domain that has no token now: ms since 1970.

        As many tokens will be free then, should those who have an appointment take theirs and nobody else any. Where
        that is more than an hour after the first are free, one comes half an hour to an hour after those, and asks
        again.
        """
        request = Request(server_id, "", Limits(timezone=timezone), rule)
        plan = _plan(request)
        names = [*plan.keys, keys.waiting(server_id, rule.domain)]

        def ask(now: str | int, days: bytes) -> Any:
            spread = random.random()  # noqa: S311 (no secret)
            return self._appointment(keys=names, args=[now, days, mails, *plan.asked, AHEAD, spread])

        try:
            answer = self._on_its_day(timezone, ask)
        except redis.RedisError as error:
            raise LimitsUnavailable from error
        return _ms(answer[1]) if answer[0] == GRANTED else self._soon()

    def peek(self, servers: Iterable[Request]) -> dict[int, Usage]:
        """How much each server has used, by id, in one round trip; takes nothing.

        Of a server without limits, and of one that Redis does not know, what the database says.
        """
        requests = list(servers)
        try:
            looks = self._look([request for request in requests if request.limits])
        except redis.RedisError as error:
            raise LimitsUnavailable from error
        found = {}
        for request in requests:
            look = looks.get(request.server_id, [NOT_COUNTED])
            if look[0] == LOOK:
                blocked = _refusal(request, [0, look[6], 1, look[7]]) if look[5] else None
                found[request.server_id] = Usage(
                    dict(zip(WINDOWS, look[1:5], strict=True)), blocked is None,
                    blocked.reason if blocked else None, blocked.free_at if blocked else None,
                )  # fmt: skip
            else:
                found[request.server_id] = usage_by_database(self._history, request, self._own_now() // 1000)
        return found

    def forget(self, server_id: int) -> None:
        """Have a server's tokens counted from the database again: for one that gets limits after having had none.

        While it had none, its mails went out uncounted.
        """
        try:
            self._client.delete(keys.of_server(server_id))
        except redis.RedisError as error:
            raise LimitsUnavailable from error

    def _get(self, request: Request, wanted: int, back: str = "", *, counts: bool = True) -> Block | Refusal:
        plan = _plan(request)
        if not plan.asked:
            return Block(request, UNLIMITED)
        asked = since_boot()
        try:
            answer = self._ask(request, wanted, back)
            if answer[0] == NOT_COUNTED and counts and self._count(request):
                asked = since_boot()
                answer = self._ask(request, wanted)
        except redis.RedisError as error:
            raise LimitsUnavailable from error
        if answer[0] == NOT_COUNTED:
            return Refusal(self._soon(), f"limits of server {request.name} are being counted again")
        if answer[0] != GRANTED:
            return _refusal(request, answer)
        _, tokens, at, day_at, day_end, epoch = answer
        use = min(plan.use, day_end - day_at) if plan.by_day else plan.use
        # From before the question: the answer may have been long under way.
        return Block(request, tokens, asked + use / 1e6, Grant(epoch.decode(), at, day_at))

    def _ask(self, request: Request, wanted: int, back: str = "") -> Any:
        plan = _plan(request)

        def ask(now: str | int, days: bytes) -> Any:
            return self._reserve(keys=plan.keys, args=[now, days, wanted, plan.use, back, *plan.asked])

        return self._on_its_day(request.limits.timezone, ask)

    def _on_its_day(self, timezone: str, ask: Callable[[str | int, bytes], Any]) -> Any:
        """Ask with the days around now by our clock; should Redis say that it is another day, with those."""
        now = self._clock() if self._clock else ""
        answer = ask(now, _days(timezone, self._own_now()))
        if answer[0] == OTHER_DAY:
            answer = ask(now, _days(timezone, answer[1]))
        return answer

    def _count(self, request: Request) -> bool:
        try:
            return self._counting.count(request.server_id)
        except DatabaseTrouble as error:
            warn("limits cannot be counted", server=request.name, reason=str(error))
            return False

    def _look(self, requests: Sequence[Request]) -> dict[int, Any]:
        if not requests:
            return {}
        answers = self._look_once(requests)
        if any(isinstance(answer, redis.exceptions.NoScriptError) for answer in answers):
            self._client.script_load(self._reserve.script)
            answers = self._look_once(requests)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return {request.server_id: answer for request, answer in zip(requests, answers, strict=True)}

    def _look_once(self, requests: Sequence[Request]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for request in requests:
            now = self._clock() if self._clock else ""
            plan, days = _plan(request), _days(request.limits.timezone, self._own_now())
            pipeline.evalsha(self._reserve.sha, len(plan.keys), *plan.keys, now, days, -1, plan.use, "", *plan.asked)
        return pipeline.execute(raise_on_error=False)

    def _own_now(self) -> int:
        return self._clock() if self._clock else time.time_ns() // 1000

    def _soon(self) -> int:
        return self._own_now() // 1000 + COUNTING_MS


@dataclass(frozen=True, slots=True)
class _Plan:
    """A request as the scripts read it: keys, the buckets asked (packed), how long tokens are used (µs)."""

    keys: list[str]
    asked: list[bytes]
    use: int
    by_day: bool


@lru_cache(maxsize=1024)
def _plan(request: Request) -> _Plan:
    names = [keys.of_server(request.server_id)]
    asked = [_bucket(1, 0, request.limits)] if request.limits else []
    if request.rule:
        names.append(keys.of_domain(request.server_id, request.rule.domain))
        asked.append(_bucket(2, request.rule.since * 1000, request.rule.limits))
    return _Plan(names, asked, round(request.use_seconds * 1_000_000), request.by_day)


def _bucket(key: int, since: int, limits: Limits) -> bytes:
    return struct.pack("<6d", key, since, *(-1 if limit is None else limit for _, limit in limits))


def _given_back(blocks: Iterable[Block]) -> str:
    """What the blocks owe, as the scripts read it; they owe nothing any more."""
    said = []
    for block in blocks:
        if block.grant and (block.left or block.late):
            grant = block.grant
            said.append(f"{block.left} {block.late} {grant.at} {grant.day_at} {grant.epoch}")
        block.left = block.late = 0
    return " ".join(said)


def _days(timezone: str, now: int) -> bytes:
    return _packed(day_starts(timezone, now // 1000))


@lru_cache(maxsize=256)
def _packed(starts: tuple[int, ...]) -> bytes:
    return struct.pack("<4d", *(start * 1000 for start in starts))


def _refusal(request: Request, answer: Sequence[int]) -> Refusal:
    _, free, bucket, window = answer
    of = f"server {request.name}"
    if request.rule and (bucket == 2 or not request.limits):
        of = f"{request.rule.domain} at {of}"
    return Refusal(_ms(free), f"{WINDOWS[window - 1]} limit of {of}")


def _ms(microseconds: int) -> int:
    return math.ceil(microseconds / 1000)
