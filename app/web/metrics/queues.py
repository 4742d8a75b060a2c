"""Messages in the queues of Dramatiq: waiting, delayed, in hand, dead, brought back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.metrics_core import Metric

from app.queues.counted import QUARANTINED, RECOVERED
from app.queues.depth import Depth
from app.scaling.demand import Seen
from app.web.metrics.families import Samples, counter, gauge

QUEUE = ("queue",)


def metrics(seen: Seen, counted: dict[str, dict[str, int]] | None) -> Iterator[Metric]:
    """`counted`: what the scripts counted in Redis; None: it does not answer."""
    depths = None if seen.depths is None else sorted(seen.depths.items())
    yield gauge(
        "mailcrew_queue_waiting_messages", "Messages that nobody has fetched; of send they are tickets, no mails.",
        QUEUE, _each(depths, "waiting"),
    )  # fmt: skip
    yield gauge(
        "mailcrew_queue_delayed_messages", "Messages whose time has not come: retries.", QUEUE, _each(depths, "delayed")
    )
    yield gauge("mailcrew_queue_in_flight_messages", "Messages in workers' hands.", QUEUE, _each(depths, "in_hand"))
    yield gauge(
        "mailcrew_queue_oldest_message_age_seconds", "Age of the first waiting message; 0 when none waits.",
        QUEUE, None if depths is None else [((name,), depth.oldest_seconds or 0.0) for name, depth in depths],
    )  # fmt: skip
    yield gauge(
        "mailcrew_queue_dead_letters", "Messages that failed for good and wait for a person.", QUEUE,
        _each(depths, "dead"),
    )  # fmt: skip
    yield counter(
        "mailcrew_messages_recovered_total", "Messages of dead workers that were put back into their queue.", QUEUE,
        _counted(counted, RECOVERED, seen.depths or {}),
    )  # fmt: skip
    yield counter(
        "mailcrew_messages_quarantined_total",
        "Messages that became dead letters because worker after worker died with them in hand.", QUEUE,
        _counted(counted, QUARANTINED, seen.depths or {}),
    )  # fmt: skip


def _each(depths: list[tuple[str, Depth]] | None, what: str) -> Samples | None:
    return None if depths is None else [((name,), getattr(depth, what)) for name, depth in depths]


def _counted(counted: dict[str, dict[str, int]] | None, what: str, known: Iterable[str]) -> Samples | None:
    """What has not happened yet is 0, or the first time would not show as an increase."""
    if counted is None:
        return None
    return [((name,), value) for name, value in sorted({**dict.fromkeys(known, 0), **counted[what]}.items())]
