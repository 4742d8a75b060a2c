"""What the views work with: settings, database, Redis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import redis
from flask import current_app

from app.config import Settings
from app.db import Db
from app.models.tables import bind
from app.web.domain_board import DomainBoard
from app.web.probes import Probe
from app.web.sessions import Sessions
from app.web.shared import MOST_KEPT, Shared
from app.web.watcher import Watcher

EXTENSION = "mailcrew"
#: A person is waiting and there are few threads, so Redis gets less time than a worker gives it.
REDIS_SECONDS = 2.0
#: Likewise the database: all threads may be waiting for a frozen one when health is asked for.
DATABASE_SECONDS = 3
#: How old what viewers share may be.
SHARED_SECONDS = 1.0


class Resources:
    """One per application. Connections open at their first use."""

    def __init__(self, settings: Settings, root: Path, db: Db) -> None:
        self.settings = settings
        self.root = root
        self.db = db
        bind(db)
        # From a pool by URL: redis-py adds no retries of its own then.
        self.redis = redis.Redis(
            connection_pool=redis.ConnectionPool.from_url(
                settings.redis_url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS
            )
        )
        self.sessions = Sessions(settings, db)
        self._shared: dict[str, Shared[Any]] = {}
        self.domains = DomainBoard(db)
        self.watcher = Watcher(settings, root, db)
        self.probes = {"database": Probe(self._ask_database), "redis": Probe(self.redis.ping)}

    def shared(self, name: str, seconds: float = SHARED_SECONDS, most: int = MOST_KEPT) -> Shared[Any]:
        """What viewers share under this name; `most` things at a time."""
        return self._shared.setdefault(name, Shared(seconds, most))

    def forget_shared(self) -> None:
        """Somebody has changed something, and is to see it at once."""
        for one in list(self._shared.values()):
            one.forget()

    def _ask_database(self) -> None:
        try:
            # A table of ours: without it the database is not migrated; and `SELECT 1` does not open SQLite's file.
            self.db.value("SELECT id FROM tokens WHERE id = 0")
        finally:
            self.db.close()


def resources() -> Resources:
    """Those of the application that serves the present request."""
    found = current_app.extensions[EXTENSION]
    assert isinstance(found, Resources)
    return found
