"""One look at database and Redis, and every metric made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from prometheus_client.metrics_core import Metric

from app.db.connection import DatabaseTrouble
from app.mail.server_views import server_views
from app.queues.broker import RedisTrouble
from app.queues.counted import counted_so_far
from app.scaling.demand import look
from app.scaling.scale import overrides
from app.web.metrics import mails, queues, watch, workers
from app.web.metrics.families import single
from app.web.metrics.figures import read_figures
from app.web.resources import resources
from app.web.sights import table

Value = TypeVar("Value")


def collect() -> Sequence[Metric]:
    """Every metric as it is now. Raises Unavailable when the table of queues cannot be read."""
    here = resources()
    read = table()
    seen = look(here.redis, here.db, read)
    # Whoever has not answered once is not waited for again.
    has_redis, has_database = seen.depths is not None, seen.recipients is not None
    counted = _asked(has_redis, lambda: counted_so_far(here.redis), RedisTrouble)
    figures = _asked(
        has_database,
        lambda: read_figures(here.db, here.db.now_ms(), [queue.name for queue in read.queues]),
        DatabaseTrouble,
    )
    servers = _asked(figures is not None, lambda: server_views(here.db, here.redis, here.db.now_ms()), DatabaseTrouble)
    return [
        single("mailcrew_database_up", "Whether the database answers.", float(figures is not None)),
        single("mailcrew_redis_up", "Whether Redis answers.", float(seen.depths is not None and counted is not None)),
        *queues.metrics(seen, counted),
        *workers.metrics(seen, read, figures, overrides(here.settings)),
        *mails.metrics(seen, figures, servers),
        *watch.metrics(figures),
    ]


def _asked(answers: bool, ask: Callable[[], Value], trouble: tuple[type[Exception], ...]) -> Value | None:
    """What there is to know, None when nobody answers."""
    if not answers:
        return None
    try:
        return ask()
    except trouble:
        return None
