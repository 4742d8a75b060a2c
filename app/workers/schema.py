"""A worker of new code on an old schema would fail at every task: it waits for the migration instead.

In a deploy the code changes first and the schema a moment later; a worker that happens to be started in
between has not fetched anything yet, so nothing is lost by its waiting.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from app.db import Db, migration_status, newer_migrations
from app.db.connection import DatabaseTrouble
from app.errors import Unavailable
from app.events import emit, warn

LOOK_SECONDS = 1.0


def wait_for_schema(database: Callable[[], Db], stop: threading.Event) -> None:
    """Return when the database has every migration of this code, or when `stop` is set; each reason is said once.

    A schema newer than this code is used as it is: migrations only add what older code does not look at.
    """
    said = ""
    while not stop.is_set():
        try:
            db = database()
            missing = [name for name, applied in migration_status(db) if not applied]
            newer = newer_migrations(db)
        except (*DatabaseTrouble, Unavailable) as error:
            reason = f"the database does not answer: {error}"
        else:
            if not missing:
                if newer:
                    warn("the database is of a newer version than this worker; it works on", migrations=newer)
                if said:
                    emit("the database is ready")
                return
            reason = f"the database lacks {', '.join(missing)}; run bin/mailcrew db migrate"
        if reason != said:
            said = reason
            warn("worker waits for its database", reason=reason)
        stop.wait(LOOK_SECONDS)
