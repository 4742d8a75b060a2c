"""Who works on each queue, how many the manager wants, and what it has changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import Metric

from app.models.counters import Counted
from app.queues.workers import WorkerStatus
from app.scaling.demand import Seen
from app.scaling.scale import Override, floor_and_max
from app.scaling.table import Table
from app.web.metrics.families import Samples, counter, gauge
from app.web.metrics.figures import Figures

QUEUE = ("queue",)
WAYS = ("up", "down")


def metrics(seen: Seen, table: Table, figures: Figures | None, said: Mapping[str, Override]) -> Iterator[Metric]:
    """`said`: what people said of a queue's numbers, by its name."""
    yield from _present(_by_group(seen, table))
    yield from _scaling(table, figures, said)


def _by_group(seen: Seen, table: Table) -> dict[str, list[WorkerStatus]] | None:
    """Those of the table by its names, those of one campaign by their own queue's."""
    if seen.workers is None:
        return None
    found = {queue.name: seen.workers_of(queue) or [] for queue in table.queues}
    known = {name for queue in table.queues for name in queue.queues}
    for worker in seen.workers:
        for name in set(worker.queues) - known:
            found.setdefault(name, []).append(worker)
    return found


def _present(groups: dict[str, list[WorkerStatus]] | None) -> Iterator[Metric]:
    def each(what: str) -> Samples | None:
        if groups is None:
            return None
        return [((name,), sum(float(getattr(one, what) or 0) for one in crew)) for name, crew in groups.items()]

    counts = None if groups is None else [((name,), float(len(crew))) for name, crew in groups.items()]
    troubled = None if groups is None else [((n,), float(sum(bool(w.trouble) for w in g))) for n, g in groups.items()]
    yield gauge("mailcrew_workers", "Workers that serve a queue, on all hosts.", QUEUE, counts)
    yield gauge("mailcrew_workers_busy", "Those of them that have a task in hand.", QUEUE, each("is_processing"))
    yield gauge("mailcrew_workers_in_trouble", "Those of them that something keeps from working.", QUEUE, troubled)
    memory = each("rss_mb")
    yield gauge(
        "mailcrew_workers_resident_memory_bytes", "Memory that the workers of a queue hold together.", QUEUE,
        None if memory is None else [(labels, (value or 0) * 1e6) for labels, value in memory],
    )  # fmt: skip


def _scaling(table: Table, figures: Figures | None, said: Mapping[str, Override]) -> Iterator[Metric]:
    bounds = {queue.name: floor_and_max(queue, said.get(queue.name)) for queue in table.queues}
    yield gauge(
        "mailcrew_workers_min", "Workers that a queue has at least.", QUEUE, [((n,), b[0]) for n, b in bounds.items()]
    )
    yield gauge(
        "mailcrew_workers_max", "Workers that a queue may have at most.", QUEUE,
        [((name,), bound[1]) for name, bound in bounds.items()],
    )  # fmt: skip
    decided = None if figures is None else figures.decisions
    yield gauge(
        "mailcrew_workers_wanted", "Workers that the manager wanted when it last decided.", QUEUE,
        None if decided is None else [((one.queue,), one.target) for one in decided],
    )  # fmt: skip
    yield gauge(
        "mailcrew_scaling_decision_timestamp_seconds", "When the manager last decided, in seconds since 1970.", QUEUE,
        None if decided is None else [((one.queue,), one.at / 1000) for one in decided],
    )  # fmt: skip
    changes = None
    if figures is not None:
        made = figures.counters[Counted.SCALING_CHANGES]
        every = {f"{queue.name} {way}" for queue in table.queues for way in WAYS} | set(made)
        changes = [(tuple(name.rsplit(" ", 1)), float(made.get(name, 0))) for name in sorted(every)]
    yield counter(
        "mailcrew_scaling_decisions_total", "Decisions of the manager that more or fewer workers are wanted.",
        ("queue", "direction"), changes,
    )  # fmt: skip
