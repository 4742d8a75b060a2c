"""Bring a database to the present schema, from the numbered files in app/migrations, while others work on it.

SQLite: one transaction, so other writers wait for its end, and nobody ever sees half of it. MySQL commits
each statement by itself. There a statement asks for its lock on a table for a moment only, for whoever
comes after it in the queue for that lock waits as well: senders would stand still for as long as a
forgotten transaction keeps it waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peewee
from playhouse.migrations import Runner

from app.db.connection import BUSY_TIMEOUT, Db
from app.db.mysql import MySQL
from app.errors import Unavailable

DIRECTORY = Path(__file__).resolve().parent.parent / "migrations"

#: In all, how long a migration waits for locks before it gives up, in seconds.
PATIENCE = 120.0
#: On MySQL, how long one statement waits for its lock, and for how long it lets others through then.
LOCK_SECONDS = 2
PAUSE_SECONDS = 2.0

LOCK_WAIT_TIMEOUT = 1205
#: Table, column or index is already there.
ALREADY_DONE = frozenset({1050, 1060, 1061})

Say = Callable[[str], None]


def migrate(db: Db, say: Say = lambda _: None, directory: Path = DIRECTORY, patience: float = PATIENCE) -> list[str]:
    """Apply what is missing, in order; the names applied. Safe to run from several processes.

    `say` is told what is waited for. Raises Unavailable when a lock cannot be had within `patience` seconds.
    """
    if not _missing(db, directory):
        return []
    if db.dialect == "sqlite":
        return _migrate_sqlite(db, say, directory, patience)
    return _migrate_mysql(db, say, directory, patience)


def migration_status(db: Db) -> list[tuple[str, bool]]:
    """Every migration by name, and whether it has been applied."""
    runner = Runner(db.peewee, str(DIRECTORY))
    applied = runner.applied()
    return [(m.name, m.name in applied) for m in runner.migrations()]


def newer_migrations(db: Db) -> list[str]:
    """What a newer version of the code has applied and this one does not know."""
    return [m.name for m in Runner(db.peewee, str(DIRECTORY)).status() if m.path is None]


def _missing(db: Db, directory: Path) -> list[str]:
    runner = Runner(db.peewee, str(directory))
    applied = runner.applied()
    return [m.name for m in runner.migrations() if m.name not in applied]


def _migrate_sqlite(db: Db, say: Say, directory: Path, patience: float) -> list[str]:
    deadline = time.monotonic() + patience
    while True:
        try:
            with db.transaction():
                return [str(name) for name in Runner(db.peewee, str(directory)).up()]
        except peewee.OperationalError as error:
            if "locked" not in str(error):
                raise
            if time.monotonic() > deadline:
                raise Unavailable(
                    "the database is locked by another program all the time (a transaction left open in sqlite3, a "
                    f"backup that locks the file?); nothing was migrated; end it, then {AGAIN}"
                ) from error
            say("waiting: another program holds the database's write lock")


def _migrate_mysql(db: Db, say: Say, directory: Path, patience: float) -> list[str]:
    assert isinstance(db.peewee, peewee.MySQLDatabase)
    # No limit to a read: an index on a large table takes minutes, and the server would go on without us.
    parameters = {**db.peewee.connect_params, "read_timeout": None}
    patient = _PatientMySQL(db.peewee.database, **parameters)
    patient.say, patient.deadline = say, time.monotonic() + patience
    try:
        with _alone(patient):
            runner, applied = Runner(patient, str(directory)), []
            for name in _missing(Db(patient, "mysql"), directory):
                with _resuming(patient, name):
                    applied += [str(done) for done in runner.up(name)]
            return applied
    finally:
        patient.close()


class _PatientMySQL(MySQL):
    """Asks for a lock a moment at a time, and lets others through in between."""

    say: Say
    deadline: float
    #: An earlier run of this migration was cut short: what it has done is not done again.
    resumed = False

    def _initialize_connection(self, conn: Any) -> None:
        super()._initialize_connection(conn)  # type: ignore[misc]
        with conn.cursor() as cursor:
            cursor.execute(f"SET SESSION lock_wait_timeout = {LOCK_SECONDS}, innodb_lock_wait_timeout = {LOCK_SECONDS}")

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        execute: Any = super().execute_sql
        while True:
            try:
                return execute(sql, params)
            except (peewee.OperationalError, peewee.InternalError, peewee.ProgrammingError) as error:
                code = error.args[0] if error.args else None
                if self.resumed and code in ALREADY_DONE:
                    return None
                if code != LOCK_WAIT_TIMEOUT:
                    raise
                words = " ".join(sql.split())[:80]
                if time.monotonic() > self.deadline:
                    raise Unavailable(
                        f"no lock for “{words}”: a transaction on that table does not end (SHOW FULL PROCESSLIST "
                        f"names it; a backup, an open console?); what was migrated before stays; end it, then {AGAIN}"
                    ) from error
            self.say(f"waiting: a transaction holds the table of “{words}”")
            time.sleep(PAUSE_SECONDS)


AGAIN = "run bin/mailcrew db migrate again"


@contextmanager
def _alone(database: peewee.MySQLDatabase) -> Iterator[None]:
    """Two deploys at once must not create the same table twice."""
    execute: Any = database.execute_sql
    if execute("SELECT GET_LOCK('mailcrew_migrate', %s)", (BUSY_TIMEOUT,)).fetchone()[0] != 1:
        raise Unavailable("another process is migrating this database; try again when it is done")
    try:
        yield
    finally:
        execute("SELECT RELEASE_LOCK('mailcrew_migrate')")


@contextmanager
def _resuming(database: _PatientMySQL, name: str) -> Iterator[None]:
    """Remember that a migration has begun, for MySQL takes back nothing of one that is cut short."""
    execute: Any = database.execute_sql
    execute("CREATE TABLE IF NOT EXISTS schema_migration_begun (name VARCHAR(200) NOT NULL PRIMARY KEY)")
    database.resumed = execute("INSERT IGNORE INTO schema_migration_begun VALUES (%s)", (name,)).rowcount == 0
    yield
    database.resumed = False
    execute("DELETE FROM schema_migration_begun WHERE name = %s", (name,))
