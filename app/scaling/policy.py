"""How many workers a queue should have: a pure function of what waits, what is allowed and what was decided before.

Up at once, down one by one:

1. Wanted is `ceil(backlog / tasks_per_worker)`. A backlog that would not drain within the target time, at the speed
   measured for one worker, wants more.
2. Behind (wanted is above the present count): go to what is wanted, at least two up, never above the number of tasks.
3. Down by one when the highest recommendation of a whole window is lower, and one fewer would still keep up with what
   arrives. The next step waits for another window while anything waits, and only for the next looks when nothing does.
4. `max` and hard ceilings hold at once, soft ceilings stop the way up. None of them goes below the floor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

#: Fewer than two up at a time is too slow for a burst: each look costs ten seconds.
STEP_UP = 2
#: More workers help only where those that exist have something in hand; one of five may be between two tasks.
ALL_BUSY = 0.8
#: What the measured speed asks for has to be this much above the present count: measurements wobble.
MARGIN = 1.1
#: Tasks a second; below one in eleven days nothing ends.
NOTHING = 1e-6
#: This share of the target time is always left to drain in, or one task that is stuck would hold all workers.
LEAST_LEFT = 0.25
#: After a gap of this many windows (nobody looked, or the clock jumped) what was seen before says nothing.
GAP_WINDOWS = 5


@dataclass(frozen=True)
class Demand:
    """What a queue needs, as measured now.

    `backlog` counts only tasks that may start now: one that waits for its time (a retry, a limit) gives a worker
    nothing to do. `rate` covers all workers of the queue; None: not known yet, 0: nothing ends.
    """

    backlog: int
    in_flight: int
    oldest_seconds: float | None
    rate: float | None
    busy: int = 0


@dataclass(frozen=True)
class Ceiling:
    """The most workers of a queue that make sense under something outside it, named for people.

    Above a hard one something breaks (memory, database connections), so it holds at once, and stays in mind for a
    window after it rises: a ceiling that wavers must not make the workers waver. Above a soft one (an SMTP limit)
    workers only idle: it stops the way up, and the way down is the usual one, so that a server that rests for half a
    minute costs nobody his worker.
    """

    name: str
    workers: int
    hard: bool = True


@dataclass(frozen=True)
class Limits:
    """What the table, the command line and the machine allow. Times are seconds; `floor` wins over all others."""

    floor: int
    max: int
    tasks_per_worker: int
    target_seconds: float = 600.0
    ceilings: tuple[Ceiling, ...] = ()
    window_seconds: float = 60.0
    #: How long after workers were added, or work began, the measured rate still speaks of before.
    settle_seconds: float = 45.0
    #: The least time between two steps down when nothing waits.
    idle_step_seconds: float = 5.0


@dataclass(frozen=True)
class Past:
    """What the policy remembers between two looks.

    Before each look the manager puts the real count into `workers`: running or coming up, without those that are
    stopping. Instants are seconds of one clock that survives a restart of the manager.
    """

    workers: int
    recommended: tuple[tuple[float, int], ...] = ()
    changed_at: float | None = None
    raised_at: float | None = None
    #: (instant, backlog) inside the window
    backlogs: tuple[tuple[float, int], ...] = ()
    #: (instant, workers, name) of the lowest hard ceiling inside the window
    ceilings: tuple[tuple[float, int, str], ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Past:
        """What `as_json` gave, after a way through JSON. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            workers=int(document["workers"]),
            recommended=tuple((float(at), int(count)) for at, count in document["recommended"]),
            changed_at=_instant(document["changed_at"]),
            raised_at=_instant(document["raised_at"]),
            backlogs=tuple((float(at), int(count)) for at, count in document["backlogs"]),
            ceilings=tuple((float(at), int(count), str(name)) for at, count, name in document["ceilings"]),
        )


@dataclass(frozen=True)
class Decision:
    """The count to have, why, what to hand to the next look, and what binds: a ceiling's name, "max" or "floor"."""

    target: int
    reason: str
    past: Past
    bound_by: str | None


def plan(demand: Demand, limits: Limits, past: Past, now: float) -> Decision:
    """Decide how many workers the queue should have from now on; `now` is by the clock of `past`."""
    past = _remember(demand, limits, past, now)
    pace = _pace(demand, limits, past, now)
    wish = _wish(demand, limits, past, pace)
    caps = _Caps.of(limits, past)
    useful = max(limits.floor, demand.backlog + demand.in_flight)
    behind = wish.workers > past.workers
    asked = min(max(wish.workers, past.workers + STEP_UP) if behind else wish.workers, useful)
    past = replace(past, recommended=(*past.recommended, (now, caps.advice(min(wish.workers, useful)))))

    forced = past.workers > max(limits.floor, caps.breaks.workers)
    if forced:
        target, why, cap = caps.breaks.workers, f"{wish.why}, down from {past.workers}", caps.breaks
    elif past.recommended[-1][1] > past.workers:
        target, why, cap = max(past.workers, min(asked, caps.up.workers)), wish.why, caps.up
    else:
        pause = _pause_before_down(limits, past, pace, caps, now)
        down = pause is None and past.workers > limits.floor
        target, why, cap = past.workers - down, f"{wish.why}{', one down' if down else pause or ''}", caps.up
    target = max(limits.floor, target)

    bound_by = cap.name if forced or asked > cap.workers else None
    binds = f", {cap.name} {cap.workers} binds" if bound_by else ""
    if target == limits.floor and (asked < target or (bound_by and cap.workers < target)):
        bound_by, binds = "floor", f"{binds}, floor {limits.floor} stays"
    return Decision(target, f"backlog {demand.backlog}, {why}{binds}", _changed(past, target, now), bound_by)


@dataclass(frozen=True)
class _Cap:
    name: str
    workers: int


@dataclass(frozen=True)
class _Caps:
    """The lowest cap of each kind: above `breaks` nobody stays, `now` counts today, `up` also a moment ago."""

    floor: int
    breaks: _Cap
    now: _Cap
    up: _Cap

    @classmethod
    def of(cls, limits: Limits, past: Past) -> _Caps:
        top = _Cap("max", limits.max)
        every = [top, *(_Cap(one.name, one.workers) for one in limits.ceilings)]
        hard = [top, *(_Cap(one.name, one.workers) for one in limits.ceilings if one.hard)]
        remembered = [_Cap(name, count) for _, count, name in past.ceilings]
        return cls(limits.floor, _lowest(hard), _lowest(every), _lowest([*every, *remembered]))

    def advice(self, workers: int) -> int:
        """What is recommended once what binds now has been taken off."""
        return max(self.floor, min(workers, self.now.workers))


def _lowest(caps: list[_Cap]) -> _Cap:
    return min(caps, key=lambda cap: cap.workers)


@dataclass(frozen=True)
class _Wish:
    workers: int
    why: str


@dataclass(frozen=True)
class _Pace:
    """What the measured speed says; tasks per second, None: not known.

    `needed` workers keep up with what arrives and drain the backlog within the target time besides; `kept` workers do
    so before the oldest task has waited that long, which is what is asked before one may go.
    """

    per_worker: float | None
    arriving: float | None
    needed: float | None
    kept: float | None
    settled: bool
    all_busy: bool


def _pace(demand: Demand, limits: Limits, past: Past, now: float) -> _Pace:
    busy = demand.busy or (past.workers if demand.in_flight else 0)
    per_worker = demand.rate / busy if demand.rate and demand.rate > NOTHING and busy else None
    settled = now - _working_since(past, now) >= limits.settle_seconds
    since = [(at, count) for at, count in past.backlogs if past.raised_at is None or at >= past.raised_at]
    arriving = needed = kept = None
    if per_worker and demand.rate and since and now - since[0][0] >= limits.settle_seconds:
        arriving = max(0.0, demand.rate + (demand.backlog - since[0][1]) / (now - since[0][0]))
        left = limits.target_seconds - (demand.oldest_seconds or 0)
        needed = (arriving + demand.backlog / limits.target_seconds) / per_worker
        kept = (arriving + demand.backlog / max(left, LEAST_LEFT * limits.target_seconds)) / per_worker
    return _Pace(per_worker, arriving, needed, kept, settled, busy >= ALL_BUSY * past.workers)


def _working_since(past: Past, now: float) -> float:
    """Since when this many workers have had something to do all the time, as far as is remembered."""
    since = now
    for at, backlog in reversed(past.backlogs):
        if not backlog or at < (past.raised_at or at):
            break
        since = at
    return since


def _wish(demand: Demand, limits: Limits, past: Past, pace: _Pace) -> _Wish:
    """How many workers the demand asks for, whatever is allowed."""
    each = limits.tasks_per_worker
    share = math.ceil(demand.backlog / each)
    by_number = _Wish(share, f"{share} wanted at {each} a worker" if share else "none wanted")
    if not demand.backlog or not pace.settled:
        return by_number
    by_speed = _wish_by_speed(demand, limits, past, pace)
    if by_speed is None or by_speed.workers <= share:
        return by_number
    if by_speed.workers > past.workers >= share and not pace.all_busy:
        # The idle ones would have taken the work first. They stay, or it would be up and down for ever.
        return _Wish(past.workers, f"{by_speed.why}, but of {past.workers} some are idle")
    return by_speed


def _wish_by_speed(demand: Demand, limits: Limits, past: Past, pace: _Pace) -> _Wish | None:
    target, more = _span(limits.target_seconds), past.workers + STEP_UP
    if demand.rate is None:
        return None
    if pace.per_worker is None:
        if demand.oldest_seconds is None or demand.oldest_seconds <= limits.target_seconds:
            return None
        return _Wish(more, f"the oldest waits for {_span(demand.oldest_seconds)} and nothing ends, {more} wanted")
    drain = math.ceil(demand.backlog / (limits.target_seconds * pace.per_worker))
    # A backlog of less than a window's work is no reason: it comes and goes.
    waits = demand.backlog >= demand.rate * limits.window_seconds
    if waits and pace.needed and pace.needed > MARGIN * past.workers and more > drain:
        return _Wish(more, f"not drained in {target} while {_rate(pace.arriving)} arrive, {more} wanted")
    return _Wish(drain, f"{drain} wanted to drain it in {target} at {_rate(pace.per_worker)} a worker")


def _pause_before_down(limits: Limits, past: Past, pace: _Pace, caps: _Caps, now: float) -> str | None:
    """None: one worker goes now. Otherwise what is waited for; empty when nobody is too many."""
    workers = past.workers
    if workers <= max(limits.floor, past.recommended[-1][1]):
        return ""
    if wanted := [at for at, count in past.recommended if count >= workers]:
        return f", {workers} or more {_span(now - wanted[-1])} ago"
    if past.recommended[0][0] > now - limits.window_seconds:
        return f", watched for {_span(now - past.recommended[0][0])} so far"
    if pace.kept is not None and caps.advice(math.ceil(pace.kept)) >= workers:
        return f", {workers} needed to drain it in time, {_rate(pace.arriving)} arrive"
    something_waits = any(count for _, count in past.backlogs)
    between = limits.window_seconds if something_waits else limits.idle_step_seconds
    if past.changed_at is not None and now - past.changed_at < between:
        return f", next one down in {_span(between - now + past.changed_at)}"
    return None


def _remember(demand: Demand, limits: Limits, past: Past, now: float) -> Past:
    """Forget what is older than the window, or all of it after a gap or a clock set back; add this look."""
    last = past.recommended[-1][0] if past.recommended else now
    if not 0 <= now - last <= GAP_WINDOWS * limits.window_seconds:
        past = Past(past.workers, changed_at=past.changed_at, raised_at=past.raised_at)
    since = now - limits.window_seconds
    # One look before the window stays, so that looks that are late leave no hole at its beginning.
    start = next((at for at, _ in reversed(past.recommended) if at <= since), since)
    hard = [(now, one.workers, one.name) for one in limits.ceilings if one.hard]
    return replace(
        past,
        recommended=tuple(entry for entry in past.recommended if entry[0] >= start),
        backlogs=(*(entry for entry in past.backlogs if entry[0] >= start), (now, demand.backlog)),
        ceilings=(*(entry for entry in past.ceilings if entry[0] > since), *sorted(hard, key=_count)[:1]),
        changed_at=_not_after(past.changed_at, now),
        raised_at=_not_after(past.raised_at, now),
    )


def _changed(past: Past, target: int, now: float) -> Past:
    return replace(
        past,
        workers=target,
        changed_at=past.changed_at if target == past.workers else now,
        raised_at=now if target > past.workers else past.raised_at,
    )


def _count(ceiling: tuple[float, int, str]) -> int:
    return ceiling[1]


def _not_after(instant: float | None, now: float) -> float | None:
    return None if instant is None else min(instant, now)


def _instant(value: object) -> float | None:
    return None if value is None else float(str(value))


def _rate(per_second: float | None) -> str:
    return "an unknown number" if per_second is None else f"{per_second:.{0 if per_second >= 10 else 2}f}/s"


def _span(seconds: float) -> str:
    """A duration for people: 40 s, 12 min, 3.5 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
