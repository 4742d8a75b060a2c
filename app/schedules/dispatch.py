"""One round of a dispatcher: put right what is left over, claim whoever is due until nobody is, enqueue each claim.

Any number of dispatchers may do this at once, on any machine: the database decides who has whom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import redis

from app.config import Settings
from app.db import Db
from app.events import emit, warn
from app.queues.broker import RedisTrouble
from app.queues.put_new import put_new
from app.schedules.claims import Claim, claim_due, new_token, release
from app.schedules.sweep import Put, Swept, pass_over, put_back, remove_old_runs, repair_clock, settle_interrupted

QUEUE = "monitor"
ACTOR = "monitor"

DAY_MS = 86_400_000


@dataclass
class Dispatched:
    """What one round did. `errors` are sentences."""

    claimed: int = 0
    swept: Swept = field(default_factory=Swept)
    errors: list[str] = field(default_factory=list)


def put_claims(client: redis.Redis) -> Put:
    """Enqueues claims; a claim whose message Redis still knows is not enqueued a second time."""

    def put(token: str, claims: Sequence[Claim]) -> int:
        return put_new(
            client, QUEUE, ACTOR, {f"{token}-{claim.user_id}": (claim.user_id, token) for claim in claims}
        )  # fmt: skip

    return put


def dispatch(
    db: Db,
    settings: Settings,
    put: Put,
    now: int,
    tell: Callable[[Sequence[Claim]], object] = lambda _: None,
) -> Dispatched:
    """One round at `now`. `put(token, claims)` enqueues; `tell(claims)` hears of each batch that was.

    A queue that takes nothing ends the round: what was claimed for it is given back, and is due as before.
    """
    done = Dispatched(swept=tidy(db, settings, now))
    try:
        done.swept.put_back, done.swept.renewed = put_back(db, now, settings.dispatch_lock_ttl, put)
        for token, claims in _claimed(db, settings, now):
            try:
                put(token, claims)
            except BaseException:
                release(db, token, [claim.user_id for claim in claims])
                raise
            done.claimed += len(claims)
            tell(claims)
    except RedisTrouble as error:
        done.errors.append(f"Redis does not answer: {error}")
        warn("schedules not dispatched: Redis does not answer", reason=str(error), claimed=done.claimed)
    if done.claimed or done.swept.put_back:
        emit("schedules dispatched", users=done.claimed, put_back=done.swept.put_back, overruns=done.swept.overruns)
    return done


def _claimed(db: Db, settings: Settings, now: int) -> Iterator[tuple[str, list[Claim]]]:
    """Batches of users who are due with the token of each, until nobody is."""
    size, since = settings.dispatch_batch_size, 0
    while claims := claim_due(db, token := new_token(), now, settings.dispatch_lock_ttl, size, since=since):
        yield token, claims
        if len(claims) < size:
            break
        size, since = max(size, settings.dispatch_batch_most), claims[-1].period


def tidy(db: Db, settings: Settings, now: int) -> Swept:
    """What needs no queue and comes before the claims: the clock, dead runs, periods that met a run, old history."""
    swept = Swept(repaired=repair_clock(db, now, settings.dispatch_lock_ttl))
    swept.interrupted = settle_interrupted(db, now)
    swept.overruns = pass_over(db, now)
    remove_old_runs(db, now - settings.check_results_days * DAY_MS)
    return swept
