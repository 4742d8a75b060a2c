"""Open a database and run statements on it."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

import peewee

from app.clock import since_boot
from app.db.mysql import MySQL
from app.errors import SettingError, Unavailable

Row = tuple[Any, ...]
Dialect = Literal["sqlite", "mysql"]

# How long a writer waits for another one before it gives up, in seconds.
BUSY_TIMEOUT = 30

# How long an answer about the database's clock is good for, in seconds.
CLOCK_SECONDS = 1.0
# One that took longer than this, in seconds, is asked for again, so often at most.
CLOCK_ERROR_SECONDS, CLOCK_TRIES = 0.05, 3

#: What a statement raises when the database is away, restarting, locked, out of room or chose us as a
#: deadlock's victim: the statement did not happen (or its answer was lost) and may be tried again.
#: InternalError: MySQL's own trouble with its files.
DatabaseTrouble = (peewee.OperationalError, peewee.InterfaceError, peewee.InternalError)


class _Sqlite(peewee.SqliteDatabase):
    """SQLite whose transactions take the write lock at once, so that none fails half-way."""

    def begin(self, lock_type: str | None = None) -> None:
        super().begin(lock_type or "IMMEDIATE")

    def _connect(self) -> Any:
        """Open, and wait while others open: turning a new file to WAL does not honour the busy timeout."""
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                return super()._connect()  # type: ignore[misc]
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def rollback(self) -> None:
        """Roll back, unless SQLite has done so itself, as on a full disk: a second time would hide the reason."""
        connection: Any = self.connection
        if self.is_closed() or connection().in_transaction:
            super().rollback()


class Db:
    """One database. Safe to share between threads: each thread gets its own connection."""

    def __init__(self, database: peewee.Database, dialect: Dialect) -> None:
        self.peewee = database
        self.dialect = dialect
        mysql = dialect == "mysql"
        self._clock = (-CLOCK_SECONDS - 1, 0)
        #: Behind a SELECT of rows about to be updated: passes over rows another transaction holds.
        self.skip_locked = " FOR UPDATE SKIP LOCKED" if mysql else ""
        #: Behind the table of recipients where a batch is meant. Without statistics SQLite takes the
        #: primary key instead and reads the whole campaign; MySQL chooses well by itself.
        self.by_batch = "" if mysql else " INDEXED BY recipients_batch"
        #: A JOIN that reads the table before it first. Without statistics SQLite may begin with the larger one.
        self.in_this_order = "STRAIGHT_JOIN" if mysql else "CROSS JOIN"
        #: Division of whole numbers.
        self.div = "DIV" if mysql else "/"

    def rows(self, sql: str, *params: Any) -> list[Row]:
        """All rows of a SELECT."""
        return list(self._cursor(sql, params).fetchall())

    def row(self, sql: str, *params: Any) -> Row | None:
        """The first row of a SELECT, or None."""
        found: Row | None = self._cursor(sql, params).fetchone()
        return found

    def value(self, sql: str, *params: Any) -> Any:
        """The first column of the first row, or None."""
        found = self.row(sql, *params)
        return found[0] if found else None

    def run(self, sql: str, *params: Any) -> int:
        """Run an INSERT, UPDATE or DELETE; the number of rows it matched."""
        return int(self._cursor(sql, params).rowcount)

    def insert(self, sql: str, *params: Any) -> int:
        """Run an INSERT of one row; the id it was given."""
        return int(self._cursor(sql, params).lastrowid)

    def run_many(self, sql_head: str, rows: Sequence[Sequence[Any]], tail: str = "", chunk: int = 400) -> int:
        """`INSERT … VALUES` of many rows, `chunk` rows a statement; the number of rows inserted.

        `sql_head` ends before VALUES. One statement per row costs a round trip each on MySQL.
        """
        done = 0
        for start in range(0, len(rows), chunk):
            part = rows[start : start + chunk]
            row = "(" + ", ".join("?" * len(part[0])) + ")"
            done += self.run(f"{sql_head} VALUES {', '.join([row] * len(part))}{tail}", *_flat(part))
        return done

    def update_many(
        self,
        table: str,
        assignments: str,
        columns: Mapping[str, str],
        rows: Sequence[Sequence[Any]],
        where: str,
        *params: Any,
    ) -> int:
        """Update many rows of `table`, each with values of its own; the number of rows matched.

        `columns` name the values of `rows`, with their types (MySQL's; names that are no columns of the table);
        `assignments` and `where` may use them. One statement for up to 400 rows, where row by row each would cost
        MySQL a round trip.
        """
        given = self._given_as_json if self.dialect == "mysql" else self._given_as_rows
        done = 0
        for start in range(0, len(rows), 400):
            values, given_params = given(columns, rows[start : start + 400])
            sql = (
                f"UPDATE {values} STRAIGHT_JOIN {table} SET {assignments} WHERE {where}"
                if self.dialect == "mysql"
                else f"UPDATE {table} SET {assignments} FROM {values} WHERE {where}"
            )
            done += self.run(sql, *given_params, *params)
        return done

    @staticmethod
    def _given_as_json(columns: Mapping[str, str], rows: Sequence[Sequence[Any]]) -> tuple[str, list[Any]]:
        """The driver is paid by the value and the server by the word: one text instead of hundreds of both."""
        typed = ", ".join(f"{name} {of} PATH '$[{place}]'" for place, (name, of) in enumerate(columns.items()))
        text = json.dumps(rows, ensure_ascii=False)
        return f"JSON_TABLE(?, '$[*]' COLUMNS ({typed})) AS given", [text]

    @staticmethod
    def _given_as_rows(columns: Mapping[str, str], rows: Sequence[Sequence[Any]]) -> tuple[str, list[Any]]:
        first = "SELECT " + ", ".join(f"? AS {name}" for name in columns)
        rest = " UNION ALL SELECT " + ", ".join("?" * len(columns))
        return f"({first}{rest * (len(rows) - 1)}) AS given", _flat(rows)

    def numbered(self, source: str, column: str, *params: Any) -> tuple[str, tuple[Any, ...]]:
        """A table (id, n) of what `source` (FROM … WHERE …) has in `column`, in order, n counting from 1.

        The table's name or text, and the values to bind in it. Inside a transaction; one at a time.
        """
        if self.dialect == "mysql":
            numbers = f"SELECT {column} AS id, ROW_NUMBER() OVER (ORDER BY {column}) AS n {source}"
            return f"({numbers}) AS page", params
        # A window function costs SQLite a quarter of the whole insert; a table counts for nothing.
        self.run("CREATE TEMP TABLE IF NOT EXISTS page (n INTEGER PRIMARY KEY, id INTEGER NOT NULL)")
        self.run("DELETE FROM temp.page")
        self.run(f"INSERT INTO temp.page (id) SELECT {column} {source} ORDER BY {column}", *params)
        return "temp.page", ()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is committed together, or rolled back on any exception.

        SQLite: BEGIN IMMEDIATE, one writer at a time. MySQL: READ COMMITTED.
        """
        with self.peewee.atomic():
            yield

    def now_ms(self) -> int:
        """Now by the database's clock, in ms since 1970 UTC: the one that all hosts share.

        Asked once a second; in between, the time since then is added.
        """
        if self.dialect == "sqlite":
            return time.time_ns() // 1_000_000
        asked_at, answer = self._clock
        if since_boot() - asked_at > CLOCK_SECONDS:
            self._clock = asked_at, answer = self._ask_clock()
        return answer + int((since_boot() - asked_at) * 1000)

    def _ask_clock(self) -> tuple[float, int]:
        """When the database was asked, and what it said.

        What it said is ahead by no more than the answer took, so one that took long is asked for again (F. Cristian,
        "Probabilistic clock synchronization", 1989).
        """
        asked_at, answer = 0.0, 0
        for _ in range(CLOCK_TRIES):
            asked_at = since_boot()
            answer = int(self.value("SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)"))
            if since_boot() - asked_at < CLOCK_ERROR_SECONDS:
                break
        return asked_at, answer

    def close(self) -> None:
        """Close this thread's connection. It opens again at the next statement."""
        self.peewee.close()

    def _cursor(self, sql: str, params: Sequence[Any]) -> Any:
        if self.dialect == "mysql":
            sql = sql.replace("%", "%%").replace("?", "%s")
        execute: Any = self.peewee.execute_sql
        return execute(sql, params)


def _flat(rows: Iterable[Sequence[Any]]) -> list[Any]:
    return [value for row in rows for value in row]


def connect_url(url: str) -> Db:
    """Open a database by URL, with one quick statement to prove that it answers; raises Unavailable."""
    db = connect(url)
    try:
        db.value("SELECT 1")
    except (peewee.DatabaseError, peewee.InterfaceError) as error:
        raise Unavailable(f"the database does not answer ({error.args[-1]}); see DATABASE_URL") from error
    return db


def connect(url: str, patience: int = BUSY_TIMEOUT + 30) -> Db:
    """Open a database by URL without touching it; raises SettingError for a malformed one.

    `patience`: how long one statement may take at most, in seconds, when the server is frozen or
    others hold what it needs. Longer than any lock is held, unless a person waits for the answer.
    """
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return _sqlite(url, min(BUSY_TIMEOUT, patience))
    if parts.scheme != "mysql" or not parts.path.strip("/"):
        raise SettingError("DATABASE_URL", url.rpartition("@")[2], "sqlite:///path or mysql://user:pass@host:port/name")
    query = parse_qs(parts.query)
    where: dict[str, Any] = {"host": parts.hostname or "127.0.0.1", "port": parts.port or 3306}
    if "unix_socket" in query:
        where = {"unix_socket": query["unix_socket"][0]}
    database = MySQL(
        unquote(parts.path.strip("/")),
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        charset="utf8mb4",
        connect_timeout=min(5, patience),
        read_timeout=patience,
        write_timeout=patience,
        # Found rows, not changed rows: a row count decides who won a race.
        client_flag=2,
        init_command="SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        sql_mode="STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION",
        **where,
    )
    return Db(database, "mysql")


def _sqlite(url: str, busy_timeout: int) -> Db:
    path = Path(unquote(url.removeprefix("sqlite:///")))
    if not url.startswith("sqlite:///") or not path.name:
        raise SettingError("DATABASE_URL", url, "sqlite:///relative/path or sqlite:////absolute/path")
    database = _Sqlite(
        str(path),
        timeout=busy_timeout,
        pragmas={
            "journal_mode": "wal",
            # FULL: an outcome that was committed survives a power cut, or the mail would go twice.
            "synchronous": 2,
            "foreign_keys": 1,
            # A checkpoint syncs the file; every 16 MB instead of every 4 keeps a large expansion from waiting for it.
            "wal_autocheckpoint": 4000,
            "cache_size": -16_000,
            "temp_store": 2,
        },
    )
    return Db(database, "sqlite")
