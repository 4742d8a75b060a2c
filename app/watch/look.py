"""What needs somebody's attention: everything of one home looked at once, each service within seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from app.config import Settings
from app.errors import Unavailable
from app.scaling.alerts import Alert, Severity
from app.scaling.declared import declared
from app.watch.answers import Asked, Asker
from app.watch.machine import MIN_FREE_MB, disk_alerts, permission_alerts
from app.watch.picture import Gatherer, Picture, open_existing
from app.watch.processes import BACKLOGS, HEARTBEATS, PROCESSES, process_alerts
from app.watch.sending import QUEUES, SENDING, queue_alerts, sending_alerts
from app.watch.services import (
    DatabaseFacts,
    ask_redis,
    database_alerts,
    database_facts,
    database_remedy,
    redis_alerts,
)

SECONDS = 5.0
#: What each service that does not answer keeps us from knowing.
_MUTE = {
    "supervisord": {PROCESSES, HEARTBEATS, BACKLOGS},
    "redis": {HEARTBEATS, BACKLOGS, QUEUES, "redis"},
    "database": {BACKLOGS, SENDING, "database"},
    "table": {BACKLOGS, QUEUES},
}
Service = Literal["redis", "database"]
T = TypeVar("T")


@dataclass(frozen=True)
class Look:
    """The problems. `fine`: what to say when there is none; `mute`: sources of which nothing is known now."""

    alerts: tuple[Alert, ...]
    fine: str
    mute: frozenset[str]
    picture: Picture


class Looker:
    """Looks at one home, as often as one wants: a service that is frozen holds one question, however often."""

    def __init__(self, settings: Settings, root: Path, seconds: float = SECONDS) -> None:
        self._settings, self._seconds = settings, seconds
        self._gatherer = Gatherer(settings, root, seconds)
        self._redis = Asker("Redis", partial(ask_redis, settings, seconds))
        self._database = Asker("the database", partial(_ask_database, settings.database_url))

    def look(self, min_free_mb: int = MIN_FREE_MB) -> Look:
        """The problems of this moment."""
        found = self._settings
        redis, database = self._redis.begin(), self._database.begin()
        deadline = time.monotonic() + self._seconds
        picture = self._gatherer.picture()
        mute = {source for name in picture.troubles for source in _MUTE[name]}
        alerts = [*process_alerts(picture), *queue_alerts(picture)]
        sums = declared(picture.table, found.redis_is_embedded) if picture.table else None
        remedy = "bin/supervisor-manager logs redis" if found.redis_is_embedded else "see REDIS_URL"
        said, silent = _answer(redis, deadline, "redis", remedy)
        # Without supervisord the embedded one cannot run, and one line says so.
        if silent and not (found.redis_is_embedded and picture.state is None):
            alerts.append(silent)
        alerts += redis_alerts(said) if said is not None else []
        told, silent = _answer(database, deadline, "database", database_remedy(found.database_url))
        if told is not None:
            alerts += database_alerts(told[0], sums.max_connections if sums else None) + told[1]
            if "database" in picture.troubles and not told[0].missing:
                silent = _away("database", picture.troubles["database"], "see DATABASE_URL")
        alerts += [silent] if silent else []
        mute |= (_MUTE["redis"] if said is None else set()) | (_MUTE["database"] if told is None else set())
        alerts += disk_alerts(found, min_free_mb)
        alerts += permission_alerts(found)
        return Look(tuple(alerts), _fine(picture), frozenset(mute), picture)


def _ask_database(url: str) -> tuple[DatabaseFacts, list[Alert]]:
    """What it says of itself, and of sending."""
    db = open_existing(url)
    try:
        facts = database_facts(db)
        return facts, [] if facts.missing else sending_alerts(db, db.now_ms())
    finally:
        db.close()


def _answer(asked: Asked[T], deadline: float, where: Service, remedy: str) -> tuple[T, None] | tuple[None, Alert]:
    try:
        return asked.answer(deadline), None
    except Unavailable as error:
        return None, _away(where, str(error), remedy)


def _away(where: Service, what: str, remedy: str) -> Alert:
    return Alert(where, where, what, remedy, where, Severity.CRITICAL, {"what": what}, source=where)


def _fine(picture: Picture) -> str:
    processes = [process for owner in picture.owners for process in owner.processes if process.state == "RUNNING"]
    queues = [owner for owner in picture.owners if owner.kind == "queue"]
    backlog = sum(owner.load.backlog or 0 for owner in queues)
    return f"{len(processes)} processes run, {backlog:,} wait in {len(queues)} queues"
