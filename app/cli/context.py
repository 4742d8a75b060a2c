"""What most commands need first: the settings, a home, the database with its present schema."""

from __future__ import annotations

from app.config import Settings, make_home, settings
from app.db import Db, migration_status
from app.errors import Refused
from app.models.tables import open_database


def open_home() -> tuple[Settings, Db]:
    """The settings and the database; raises Refused when migrations are missing."""
    found = settings()
    make_home(found)
    db = open_database(found)
    missing = [name for name, applied in migration_status(db) if not applied]
    if missing:
        raise Refused(f"the database lacks {', '.join(missing)}; run bin/mailcrew db migrate")
    return found, db
