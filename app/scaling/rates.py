"""How fast a queue is: from counters that only grow, over long enough that a long task is not taken for none."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass

from app.scaling.demand import Seen
from app.scaling.table import BOOSTED, Queue, Table

#: A speed covers at least so many seconds.
SHORTEST = 30.0
#: It reaches back so far at most, for tasks that seldom end.
LONGEST = 240.0
#: So many have to have ended, or it reaches further back: fewer would make it jump.
ENOUGH = 20


@dataclass(frozen=True)
class _Span:
    """What happened between two looks; `worker_seconds`: the time of all workers together."""

    at: float
    seconds: float
    ended: int
    worker_seconds: float
    idle: bool


class Meter:
    """The speed of one queue. `enough`: how many have to have ended for it to be trusted early."""

    def __init__(self, enough: int = ENOUGH) -> None:
        self._enough = enough
        self._spans: deque[_Span] = deque()
        self._counts: dict[Hashable, int] = {}
        self._last: tuple[float, int, int] | None = None

    def note(
        self, at: float, counts: Mapping[Hashable, int], workers: int, busy: int, fresh: Collection[Hashable] = ()
    ) -> None:
        """One look, at `at` seconds of a clock that only goes on.

        `counts`: what each source has ended in its life; `workers`: who shares the work, `busy` of them at work.
        `fresh`: sources that are so young that all of it is new, when they were not there before.
        """
        if self._last is not None and at > self._last[0]:
            then, before, busy_before = self._last
            grown = sum(self._grown(source, count, source in fresh) for source, count in counts.items())
            seconds = at - then
            idle = not (grown or busy or busy_before)
            self._spans.append(_Span(at, seconds, grown, seconds * (workers + before) / 2, idle))
        while self._spans and self._spans[0].at < at - LONGEST:
            self._spans.popleft()
        self._counts = dict(counts)
        self._last = (at, workers, busy)

    def rate(self) -> float | None:
        """What the present workers end a second, by the measured speed of one; None: not known yet.

        It reaches back over idle time only as far as it has to, for that would make the workers look slow.
        """
        seconds = ended = worker_seconds = 0.0
        for span in reversed(self._spans):
            if seconds >= SHORTEST and (ended >= self._enough or span.idle):
                break
            seconds += span.seconds
            ended += span.ended
            worker_seconds += span.worker_seconds
        if self._last is None or seconds < SHORTEST:
            return None
        _, workers, busy = self._last
        if not ended and busy and seconds < LONGEST - SHORTEST:
            return None
        return ended / worker_seconds * workers if worker_seconds else ended / seconds

    def _grown(self, source: Hashable, count: int, fresh: bool) -> int:
        before = self._counts.get(source)
        if before is None or count < before:
            return count if fresh else 0
        return count - before


class Speeds:
    """The speeds of all queues of a home: tasks a second, for the queue of campaigns recipients a second."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._meters: dict[str, Meter] = {}

    def note(self, seen: Seen, table: Table, at: float) -> None:
        """Take one look in; what could not be asked leaves a gap and nothing else."""
        for queue in table.queues:
            workers = seen.workers_of(queue)
            counts, fresh = self._counts(seen, queue)
            if workers is None or counts is None:
                continue
            busy = sum(worker.is_processing for worker in workers)
            self._meter(queue).note(at, counts, len(workers), busy, fresh)

    def of(self, queue: Queue) -> float | None:
        return self._meter(queue).rate()

    def _counts(self, seen: Seen, queue: Queue) -> tuple[dict[Hashable, int] | None, set[Hashable]]:
        if BOOSTED not in queue.queues:
            workers = seen.workers_of(queue) or []
            young = {(w.host, w.pid) for w in workers if w.uptime <= SHORTEST}
            return {(w.host, w.pid): w.processed_count for w in workers}, set(young)
        if seen.recipients is None or seen.boosts is None:
            return None, set()
        # What workers of its own have done for a campaign says nothing about those of all.
        return {id_: one.done for id_, one in seen.recipients.items() if id_ not in seen.boosts}, set()

    def _meter(self, queue: Queue) -> Meter:
        # Recipients are counted when their batch ends, so they come by the batch.
        enough = ENOUGH * self._batch_size if BOOSTED in queue.queues else ENOUGH
        return self._meters.setdefault(queue.name, Meter(enough))
