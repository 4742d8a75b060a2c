"""Users' schedules and notices."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from app.web.metrics.families import gauge, single
from app.web.metrics.figures import NOTICES, Figures

#: The counts of an `Overview`.
STANDINGS = {
    "due": "Users whose checks are due and whom no dispatcher has claimed.",
    "late": "Those of the due who have been so for two minutes.",
    "waiting": "Users whose checks wait in the queue.",
    "running": "Users whose checks are being made.",
    "failed": "Users some of whose targets were not as they should be in the last run.",
    "broken": "Users whose last run could not be made, or was cut off.",
    "off": "Users whose checks are switched off.",
}


def metrics(figures: Figures | None) -> Iterator[Metric]:
    """None: the database does not answer."""
    seen = None if figures is None else figures.schedules
    for name, text in STANDINGS.items():
        yield single(f"mailcrew_schedules_{name}", text, None if seen is None else getattr(seen, name))
    yield single(
        "mailcrew_schedules_lag_seconds", "How long the longest has been due whom nobody has claimed.",
        None if seen is None else seen.lag_ms / 1000,
    )  # fmt: skip
    yield gauge(
        "mailcrew_notices", "Notices that wait for their time, are being delivered, or could not be delivered.",
        ("state",), None if figures is None else [((state,), figures.notices[state]) for state in NOTICES],
    )  # fmt: skip
