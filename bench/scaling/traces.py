"""Loads to replay: when tasks arrive, how fast a worker does them, what stands in the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from app.scaling.policy import Ceiling

HOUR = 3600.0
BURST = 166_312


@dataclass(frozen=True)
class Trace:
    """One load of a queue.

    `arrivals` are (second, tasks) in order. A task takes `task_seconds` on average, half to one and a half of it by
    chance. `limit` is the most tasks that may start in a second at a moment, None: no limit; `ceilings` are what the
    policy is told about it. `waves` counts how often the load itself rises from nothing: each of them excuses one way
    up and one way down.
    """

    name: str
    arrivals: tuple[tuple[float, int], ...]
    waves: int
    task_seconds: float = 0.2
    tasks_per_worker: int = 2000
    seconds: float = HOUR
    limit: Callable[[float], float | None] = lambda _: None
    ceilings: Callable[[float], tuple[Ceiling, ...]] = lambda _: ()

    @property
    def tasks(self) -> int:
        return sum(count for _, count in self.arrivals)


def steady(per_second: float = 52.0, seconds: float = HOUR) -> Trace:
    """Tasks by chance at a constant mean; it takes 10.4 workers to keep up with 52 a second."""
    chance = Random(18)
    arrivals = ((float(at), round(chance.gauss(per_second, per_second**0.5))) for at in range(60, int(seconds)))
    return Trace("steady", tuple((at, max(0, count)) for at, count in arrivals), waves=1, seconds=seconds)


def burst() -> Trace:
    return Trace("burst", ((63.0, BURST),), waves=1)


def sawtooth() -> Trace:
    """Every ten minutes a wave that grows for a minute and then stops."""
    waves = [600.0 * wave + 30.0 + second for wave in range(6) for second in range(60)]
    return Trace("sawtooth", tuple((at, 300) for at in waves), waves=6)


def two_campaigns() -> Trace:
    """The second one arrives while the first is half out."""
    return Trace("two campaigns", ((63.0, 60_000), (330.0, 90_000)), waves=2)


def smtp_ceiling() -> Trace:
    """One relay takes 40 mails a second, eight workers' work; at minute 12 a second one joins it."""

    def relays(at: float) -> int:
        return 1 if at < 720 else 2

    return Trace(
        "SMTP ceiling",
        ((63.0, 80_000),),
        waves=2,
        limit=lambda at: 40.0 * relays(at),
        ceilings=lambda at: (Ceiling("SMTP limit of relay-1", 8 * relays(at), hard=False),),
    )


def slow_tasks() -> Trace:
    """Tasks of 10 seconds: by their number 15 workers, by the measured speed 25."""
    return Trace("slow tasks", ((63.0, 1500),), waves=1, task_seconds=10.0, tasks_per_worker=100)


def all_traces() -> list[Trace]:
    return [steady(), burst(), sawtooth(), two_campaigns(), smtp_ceiling(), slow_tasks()]
