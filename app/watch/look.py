"""What needs somebody's attention: everything of one home looked at once, each service within seconds."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TypeVar

from app.config import Settings
from app.errors import Unavailable
from app.scaling.alerts import Alert
from app.scaling.declared import declared
from app.watch.answers import Asked
from app.watch.machine import MIN_FREE_MB, disk_alerts, permission_alerts
from app.watch.picture import Gatherer, Picture
from app.watch.processes import process_alerts
from app.watch.services import ask_database, ask_redis, database_alerts, database_remedy, redis_alerts

SECONDS = 5.0
T = TypeVar("T")


def look(found: Settings, root: Path, min_free_mb: int = MIN_FREE_MB) -> tuple[list[Alert], str]:
    """The problems, and what to say when there is none."""
    redis = Asked("Redis", partial(ask_redis, found, SECONDS))
    database = Asked("the database", partial(ask_database, found.database_url))
    deadline = time.monotonic() + SECONDS
    picture = Gatherer(found, root, SECONDS).picture()
    alerts = process_alerts(picture)
    sums = declared(picture.table, found.redis_is_embedded) if picture.table else None
    remedy = "bin/supervisor-manager logs redis" if found.redis_is_embedded else "see REDIS_URL"
    said, mute = _answer(redis, deadline, "redis", remedy)
    # Without supervisord the embedded one cannot run, and one line says so.
    if mute and not (found.redis_is_embedded and picture.state is None):
        alerts.append(mute)
    if said is not None:
        alerts += redis_alerts(said)
    facts, silent = _answer(database, deadline, "database", database_remedy(found.database_url))
    if silent:
        alerts.append(silent)
    if facts is not None:
        alerts += database_alerts(facts, sums.max_connections if sums else None)
        if "database" in picture.troubles and not facts.missing:
            alerts.append(Alert("database", "database", picture.troubles["database"], "see DATABASE_URL"))
    alerts += disk_alerts(found, min_free_mb)
    alerts += permission_alerts(found)
    return alerts, _fine(picture)


def _answer(asked: Asked[T], deadline: float, where: str, remedy: str) -> tuple[T, None] | tuple[None, Alert]:
    try:
        return asked.answer(deadline), None
    except Unavailable as error:
        return None, Alert(where, where, str(error), remedy)


def _fine(picture: Picture) -> str:
    processes = [process for owner in picture.owners for process in owner.processes if process.state == "RUNNING"]
    queues = [owner for owner in picture.owners if owner.kind == "queue"]
    backlog = sum(owner.load.backlog or 0 for owner in queues)
    return f"{len(processes)} processes run, {backlog:,} wait in {len(queues)} queues"
