"""A trace replayed in virtual time: workers that start, take a task, finish it, stop; looked at every ten seconds."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count, pairwise
from random import Random

from app.scaling.policy import Decision, Demand, Limits, Past, plan
from bench.scaling.traces import Trace

LOOK_SECONDS = 10.0
START_SECONDS = 1.5
RATE_SECONDS = 30.0
#: Whoever has not drained by then never will.
LATEST = 6 * 3600.0


@dataclass(frozen=True)
class Look:
    """What one look saw, and what was decided; `workers` exist, those still starting or stopping included."""

    second: float
    backlog: int
    workers: int
    decision: Decision


@dataclass
class Outcome:
    """What came of a replay, in virtual time.

    `drain_minutes` is the longest stretch in which something waited all the time, `longest_wait` the seconds of the
    task that waited longest; `worker_minutes` run to the end of the trace, or of the last task when that is later.
    """

    trace: str
    fleet: str
    drain_minutes: float = 0.0
    longest_wait: float = 0.0
    worker_minutes: float = 0.0
    done: int = 0
    looks: list[Look] = field(default_factory=list)

    @property
    def moves(self) -> list[int]:
        """The changes of the wanted number, in order: +9, -1, …"""
        return [b - a for a, b in pairwise(look.decision.target for look in self.looks) if a != b]

    @property
    def changes(self) -> int:
        return len(self.moves)

    @property
    def reversals(self) -> int:
        """How often up followed on down or down on up."""
        return sum((a > 0) != (b > 0) for a, b in pairwise(self.moves))

    @property
    def most(self) -> int:
        return max(look.decision.target for look in self.looks)


Fleet = Callable[[Demand, Past, float], Decision]


def ours(trace: Trace, floor: int = 2, most: int = 30) -> Fleet:
    """The policy with the limits of the trace."""
    limits = Limits(floor, most, trace.tasks_per_worker)

    def decide(demand: Demand, past: Past, now: float) -> Decision:
        return plan(demand, replace(limits, ceilings=trace.ceilings(now)), past, now)

    return decide


def fixed(workers: int) -> Fleet:
    def decide(_demand: Demand, past: Past, _now: float) -> Decision:
        return Decision(workers, "fixed", replace(past, workers=workers), None)

    return decide


def replay(trace: Trace, fleet: Fleet, name: str, at_start: int) -> Outcome:
    """Replay it; the fleet begins with `at_start` workers that run already."""
    return _Replay(trace, fleet, name, at_start).run()


@dataclass(eq=False)
class _Worker:
    born: float
    busy: bool = False
    ready: bool = False
    stopping: bool = False


class _Replay:
    """The events of one replay, in a heap by their moment."""

    def __init__(self, trace: Trace, fleet: Fleet, name: str, at_start: int) -> None:
        self._trace, self._fleet = trace, fleet
        self._out = Outcome(trace.name, name)
        self._chance = Random(166_312)
        self._now = 0.0
        self._order = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._waiting: deque[list[float]] = deque()  # [arrived at, how many], oldest first
        self._backlog = 0
        self._waits_since: float | None = None
        self._next_start = 0.0  # under a limit: when the next task may start
        self._wakes = False
        self._ended: deque[float] = deque()
        self._to_come = len(trace.arrivals)
        self._past = Past(workers=at_start)
        self._workers = [_Worker(0.0, ready=True) for _ in range(at_start)]
        self._idle = list(self._workers)

    def run(self) -> Outcome:
        for at, tasks in self._trace.arrivals:
            self._at(at, lambda tasks=tasks: self._arrive(tasks))  # type: ignore[misc]
        self._at(0.0, self._look)
        while self._now < self._trace.seconds or self._to_come or self._backlog or self._busy():
            if self._now > LATEST:
                raise TimeoutError(f"{self._out.fleet} never drains {self._trace.name}")
            self._now, _, happen = heapq.heappop(self._events)
            happen()
        for worker in self._workers:
            self._out.worker_minutes += (self._now - worker.born) / 60
        return self._out

    def _at(self, moment: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._order), happen))

    def _busy(self) -> int:
        return sum(worker.busy for worker in self._workers)

    # -- the load ----------------------------------------------------------------------------------

    def _arrive(self, tasks: int) -> None:
        self._to_come -= 1
        if not tasks:
            return
        if self._waits_since is None:
            self._waits_since = self._now
        self._backlog += tasks
        self._waiting.append([self._now, tasks])
        self._hand_out()

    def _hand_out(self) -> None:
        """Give waiting tasks to idle workers, as far as the limit allows."""
        limit = self._trace.limit(self._now)
        while self._backlog and self._idle:
            if limit and self._next_start > self._now:
                self._wake_at_next_start()
                return
            if limit:
                self._next_start = max(self._now, self._next_start) + 1 / limit
            self._start(self._idle.pop())

    def _wake_at_next_start(self) -> None:
        def wake() -> None:
            self._wakes = False
            self._hand_out()

        if not self._wakes:
            self._wakes = True
            self._at(self._next_start, wake)

    def _start(self, worker: _Worker) -> None:
        oldest = self._waiting[0]
        self._out.longest_wait = max(self._out.longest_wait, self._now - oldest[0])
        oldest[1] -= 1
        if not oldest[1]:
            self._waiting.popleft()
        self._backlog -= 1
        worker.busy = True
        takes = self._trace.task_seconds * self._chance.uniform(0.5, 1.5)
        self._at(self._now + takes, lambda: self._finish(worker))

    def _finish(self, worker: _Worker) -> None:
        worker.busy = False
        self._out.done += 1
        self._ended.append(self._now)
        if self._waits_since is not None and not self._backlog:
            self._out.drain_minutes = max(self._out.drain_minutes, (self._now - self._waits_since) / 60)
            self._waits_since = None
        if worker.stopping:
            self._leave(worker)
        else:
            self._idle.append(worker)
            self._hand_out()

    # -- the workers -------------------------------------------------------------------------------

    def _look(self) -> None:
        self._at(self._now + LOOK_SECONDS, self._look)
        while self._ended and self._ended[0] < self._now - RATE_SECONDS:
            self._ended.popleft()
        staying = [worker for worker in self._workers if not worker.stopping]
        busy = self._busy()
        demand = Demand(
            backlog=self._backlog,
            in_flight=busy,
            oldest_seconds=self._now - self._waiting[0][0] if self._waiting else None,
            rate=len(self._ended) / RATE_SECONDS if self._ended else None,
            busy=busy,
        )
        decision = self._fleet(demand, replace(self._past, workers=len(staying)), self._now)
        self._out.looks.append(Look(self._now, self._backlog, len(self._workers), decision))
        self._past = decision.past
        for _ in range(decision.target - len(staying)):
            self._hire()
        # Idle ones go first, and of those the youngest.
        spare = sorted(staying, key=lambda worker: (worker.busy, -worker.born))
        for worker in spare[: max(0, len(staying) - decision.target)]:
            self._dismiss(worker)

    def _hire(self) -> None:
        worker = _Worker(self._now)
        self._workers.append(worker)
        self._at(self._now + START_SECONDS, lambda: self._ready(worker))

    def _ready(self, worker: _Worker) -> None:
        if not worker.stopping:
            worker.ready = True
            self._idle.append(worker)
            self._hand_out()

    def _dismiss(self, worker: _Worker) -> None:
        worker.stopping = True
        if not worker.busy:
            if worker in self._idle:
                self._idle.remove(worker)
            self._leave(worker)

    def _leave(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        self._out.worker_minutes += (self._now - worker.born) / 60
