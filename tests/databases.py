"""Databases for tests: migrated ones are used again, for making one takes half a second of a processor."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import peewee
import pymysql

from app.db import Db, connect, migrate

#: The table of what has been applied.
DONE = "schema_migration"
Shape = list[tuple[object, ...]]


class Databases:
    """Of SQLite, copied from a template in `directory`, and of the MariaDB `server`, its URL without a name."""

    def __init__(self, directory: Path) -> None:
        self._template = directory / "migrated.db"
        self.server = ""
        self._free: list[str] = []
        self._shape: Shape = []
        self._changes: Shape = []

    def sqlite(self, path: Path) -> str:
        """The address of a migrated, empty one at `path`."""
        if not self._template.exists():
            db = connect(f"sqlite:///{self._template}")
            migrate(db)
            db.close()
        shutil.copyfile(self._template, path)
        return f"sqlite:///{path}"

    def take(self) -> str:
        """The name of a migrated, empty one."""
        if self._free:
            return self._free.pop()
        name = self.make()
        db = connect(self.url(name))
        migrate(db)
        self._shape = self._shape or _shape(db)
        db.close()
        return name

    def give(self, name: str) -> None:
        """Take one back, emptied; one whose tables a test has changed is dropped, one in use left alone."""
        db = connect(self.url(name))
        try:
            db.run("SET SESSION lock_wait_timeout = 1")
            before, self._changes = self._changes, _changes(db)
            if before == self._changes or _shape(db) == self._shape:
                _empty(db)
                self._free.append(name)
            else:
                db.run(f"DROP DATABASE {name}")
        except (peewee.DatabaseError, pymysql.Error):
            pass  # whatever a test has left open in it, the next one gets another
        finally:
            db.close()

    def make(self) -> str:
        """The name of a new one without tables."""
        name = f"t{uuid.uuid4().hex}"
        db = connect(self.url("mysql"))
        db.run(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        db.close()
        return name

    def drop(self, name: str) -> None:
        db = connect(self.url("mysql"))
        db.run(f"DROP DATABASE {name}")
        db.close()

    def url(self, name: str) -> str:
        return self.server.format(name=name)


def _changes(db: Db) -> Shape:
    """What tells cheaply that no table was changed: how often the server was asked to, and what was applied."""
    verbs = "alter_table", "create_index", "create_table", "create_view", "drop_index", "drop_table", "rename_table"
    counts = db.rows("SHOW GLOBAL STATUS WHERE Variable_name IN (" + ", ".join(f"'Com_{verb}'" for verb in verbs) + ")")
    return [*map(tuple, counts), *map(tuple, db.rows(f"SELECT name FROM {DONE} ORDER BY 1"))]


def _shape(db: Db) -> Shape:
    """Columns and indexes, and what is kept in the table of migrations."""
    here = "WHERE table_schema = DATABASE() ORDER BY 1, 2, 3, 4"
    columns = "table_name, column_name, column_type, is_nullable, column_default, generation_expression"
    indexes = "table_name, index_name, column_name, seq_in_index, non_unique"
    return [
        *map(tuple, db.rows(f"SELECT {columns} FROM information_schema.columns {here}")),
        *map(tuple, db.rows(f"SELECT {indexes} FROM information_schema.statistics {here}")),
        *map(tuple, db.rows(f"SELECT name FROM {DONE} ORDER BY 1")),
    ]


def _empty(db: Db) -> None:
    tables = db.rows(
        "SELECT table_name, auto_increment FROM information_schema.tables WHERE table_schema = DATABASE() "
        f"AND table_name <> '{DONE}'"
    )
    looks = " UNION ALL ".join(f"(SELECT '{table}' FROM {table} LIMIT 1)" for table, _ in tables)
    filled = {str(row[0]) for row in db.rows(looks)}
    for table, following in tables:
        if (following or 1) > 1 or table in filled:
            db.run(f"TRUNCATE TABLE {table}")
