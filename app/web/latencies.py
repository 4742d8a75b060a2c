"""GET /api/schedules/USER/targets/…latencies: how fast targets answered, as plots draw it."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from app.db import Db
from app.models.schedules import Schedule
from app.schedules.checks.history import MOST_POINTS, Point, latencies
from app.schedules.checks.store import Target, find_target, targets_of
from app.schedules.store import show_schedule
from app.schedules.times import MINUTE
from app.web.openapi import describes, whole_number
from app.web.query import whole
from app.web.resources import resources
from app.web.series import Series, shared_document
from app.web.targets import ONE

routes = Blueprint("latencies", __name__, url_prefix="/api/schedules/<user>/targets")

HOUR_MS = 3_600_000
#: Targets in one plot: more lines cannot be told from each other.
MOST_LINES = 6
#: Without being told, a plot goes back a day, or so many runs where runs are rare.
HOURS, RUNS = 24, 200
MOST_HOURS = 31 * 24

SPAN = {"hours": whole_number(1, MOST_HOURS, f"how far back ({HOURS}, or {RUNS} runs where that is longer)")}


@routes.get("/latencies")
@describes(
    f"How fast the first {MOST_LINES} targets (by name) of a user answered: a series for each, named by its id; ms on "
    "the average of the good checks of a step, null where there was none", Series, query=SPAN, also={304: None},
)  # fmt: skip
def every(user: str) -> Response:
    db, shown = resources().db, show_schedule(user)
    hours = whole("hours", hours_of(shown.schedule), MOST_HOURS)
    name = f"latencies {shown.user.id} {hours}"
    return shared_document(name, lambda: _together(db, shown.schedule, plotted(targets_of(db, shown.user.id)), hours))


@routes.get(f"{ONE}/latencies")
@describes(
    "How fast a target answered: `mean` and `slowest` of the good checks of each step, in ms, null where there was "
    "none", Series, query=SPAN, also={304: None},
)  # fmt: skip
def one(user: str, target_id: int) -> Response:
    db, shown = resources().db, show_schedule(user)
    target = find_target(db, target_id, shown.user.id)
    hours = whole("hours", hours_of(shown.schedule), MOST_HOURS)
    return shared_document(f"latencies of {target.id} {hours}", lambda: _alone(db, shown.schedule, target, hours))


def hours_of(schedule: Schedule) -> int:
    """How far back a plot goes by itself; never further than single results are kept."""
    wanted = max(HOURS, RUNS * schedule.interval_minutes // 60)
    return min(wanted, resources().settings.check_results_days * 24, MOST_HOURS)


def plotted(targets: list[Target]) -> list[Target]:
    """Those of a user's targets that share a plot."""
    return targets[:MOST_LINES]


def _together(db: Db, schedule: Schedule, targets: list[Target], hours: int) -> dict[str, Any]:
    lines = _Steps(db, schedule, hours)
    found = {str(target.id): lines.of(target.id) for target in targets}
    return lines.document({name: {at: one.latency_ms for at, one in points.items()} for name, points in found.items()})


def _alone(db: Db, schedule: Schedule, target: Target, hours: int) -> dict[str, Any]:
    lines = _Steps(db, schedule, hours)
    points = lines.of(target.id)
    return lines.document(
        {
            "mean": {at: one.latency_ms for at, one in points.items()},
            "slowest": {at: one.slowest_ms for at, one in points.items()},
        }
    )


class _Steps:
    """The same steps for every line. Two runs fall into each: with one, a run that is a little late leaves a gap."""

    def __init__(self, db: Db, schedule: Schedule, hours: int) -> None:
        self._db = db
        step = max(2 * schedule.interval_minutes * MINUTE, -(-hours * HOUR_MS // MOST_POINTS))
        self._step = -(-step // MINUTE) * MINUTE
        # On the step, or every look would cut the results elsewhere and the line would tremble.
        self._end = -(-db.now_ms() // self._step) * self._step
        self._count = max(1, hours * HOUR_MS // self._step)
        self._begin = self._end - self._count * self._step

    def of(self, target_id: int) -> dict[int, Point]:
        """What was found in each step that has any check, by the step's number."""
        points = latencies(self._db, target_id, self._begin, now=self._end - 1, points=self._count)
        return {(point.at - self._begin) // self._step: point for point in points}

    def document(self, lines: dict[str, dict[int, Any]]) -> dict[str, Any]:
        """As `Series`, from the first step that has any check."""
        first = min((at for line in lines.values() for at in line), default=self._count)
        steps = range(first, self._count)
        return {
            "step_seconds": self._step // 1000,
            "times": [(self._begin + at * self._step) // 1000 for at in steps],
            "series": {
                name: [None if line.get(at) is None else round(line[at], 1) for at in steps]
                for name, line in lines.items()
            },
        }
