"""Bring a database to the present schema, from the numbered files in app/migrations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playhouse.migrations import Runner

from app.db.connection import BUSY_TIMEOUT, Db
from app.errors import Unavailable

DIRECTORY = Path(__file__).resolve().parent.parent / "migrations"


def migrate(db: Db) -> list[str]:
    """Apply what is missing, in order; the names applied. Safe to run from several processes."""
    with _alone(db):
        return [str(name) for name in Runner(db.peewee, str(DIRECTORY)).up()]


def migration_status(db: Db) -> list[tuple[str, bool]]:
    """Every migration by name, and whether it has been applied."""
    runner = Runner(db.peewee, str(DIRECTORY))
    applied = runner.applied()
    return [(m.name, m.name in applied) for m in runner.migrations()]


@contextmanager
def _alone(db: Db) -> Iterator[None]:
    """Two deploys at once must not create the same table twice."""
    if db.dialect == "sqlite":
        with db.transaction():
            yield
        return
    if db.value("SELECT GET_LOCK('mailcrew_migrate', ?)", BUSY_TIMEOUT) != 1:
        raise Unavailable("another process is migrating this database; try again when it is done")
    try:
        yield
    finally:
        db.value("SELECT RELEASE_LOCK('mailcrew_migrate')")
