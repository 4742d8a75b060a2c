"""Migrations beside senders at work: locks are asked for again, for a while, and whose they are is said."""

from __future__ import annotations

import ast
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import peewee
import pytest

from app.db import Db, connect, migrate, migration_status, newer_migrations
from app.db.migrate import DIRECTORY
from app.errors import Unavailable
from tests.working import eventually

#: What these statements take away, older code may still be using: it runs on until it is replaced.
BREAKS_OLDER_CODE = {
    r"\bDROP\s+(TABLE|COLUMN)\b": "removes what older workers read",
    r"\bRENAME\b|\bCHANGE\s+COLUMN\b": "takes a name away that older workers use",
    r"\bMODIFY\b": "changes a column under older workers",
    r"\bADD\s+(COLUMN\s+)?\w+\s(?!.*\bDEFAULT\b).*\bNOT\s+NULL\b": "older workers insert without it: give it a DEFAULT",
}


def breaks(statement: str) -> list[str]:
    """Why code of the version before could not work on after this statement."""
    if re.match(r"\s*CREATE\s+(UNIQUE\s+)?(TABLE|INDEX)\b", statement, re.IGNORECASE):
        return []
    return [why for form, why in BREAKS_OLDER_CODE.items() if re.search(form, statement, re.IGNORECASE | re.DOTALL)]


def statements(path: Path) -> Iterator[str]:
    """Every text in a migration that is SQL."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(v.value) if isinstance(v, ast.Constant) else "INT" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from node.value.split(";")


@pytest.mark.parametrize("path", sorted(DIRECTORY.glob("[0-9]*.py")), ids=lambda path: path.stem)
def test_workers_of_the_version_before_go_on_beside_a_migration(path: Path) -> None:
    """A migration that must take something away says CONTRACT = "why no older code uses it any more"."""
    if re.search(r"^CONTRACT = \"\S+", path.read_text(), re.MULTILINE):
        return
    assert [(text, why) for text in statements(path) if re.match(r"\s*[A-Z]", text) for why in breaks(text)] == []


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE tokens",
        "ALTER TABLE recipients DROP COLUMN reason",
        "ALTER TABLE lists RENAME COLUMN name TO title",
        "ALTER TABLE lists RENAME TO audiences",
        "ALTER TABLE lists MODIFY name VARCHAR(10)",
        "ALTER TABLE campaigns ADD COLUMN boost INT NOT NULL",
        "alter table campaigns add boost int not null",
    ],
)
def test_a_statement_that_breaks_older_workers_is_found(statement: str) -> None:
    assert breaks(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE campaigns ADD COLUMN boost INT NOT NULL DEFAULT 0",
        "ALTER TABLE recipients ADD COLUMN opened_at BIGINT NULL",
        "CREATE INDEX recipients_opened ON recipients (opened_at)",
        "CREATE TABLE a (id INT NOT NULL)",
    ],
)
def test_a_statement_that_only_adds_is_allowed(statement: str) -> None:
    assert breaks(statement) == []


ADD = 'db.execute_sql("ALTER TABLE recipients ADD COLUMN opened_at BIGINT NULL")'
INDEX = 'db.execute_sql("CREATE INDEX recipients_opened ON recipients (campaign_id, opened_at)")'


def write(directory: Path, *lines: str) -> Path:
    """A directory with one migration of these lines; the directory."""
    directory.mkdir(exist_ok=True)
    body = "".join(f"    {line}\n" for line in lines)
    (directory / "9001_opened.py").write_text(f"def up(migrator, db):\n{body}")
    return directory


class Holder:
    """Somebody who keeps a transaction open: on MySQL one that has read the table, on SQLite one that writes."""

    def __init__(self, url: str) -> None:
        self._holding, self._release = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold, args=(connect(url),))

    def __enter__(self) -> Holder:
        self._thread.start()
        assert self._holding.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()

    def let_go(self) -> None:
        self._release.set()
        self._thread.join()

    def _hold(self, db: Db) -> None:
        with db.transaction():
            db.rows("SELECT state FROM recipients LIMIT 1")
            self._holding.set()
            self._release.wait(100)
        db.close()


def columns(db: Db) -> set[str]:
    return {column.name for column in db.peewee.get_columns("recipients")}


def be_hasty(db: Db) -> None:
    """SQLite itself waits half a minute for a lock; that is too long for a test."""
    if db.dialect == "sqlite":
        db.run("PRAGMA busy_timeout = 200")


def test_a_migration_waits_for_a_lock_and_lets_senders_through_meanwhile(
    db: Db, database_url: str, tmp_path: Path
) -> None:
    be_hasty(db)
    directory, said, applied = write(tmp_path / "more", ADD, INDEX), list[str](), list[str]()

    def run() -> None:
        be_hasty(db)
        applied.extend(migrate(db, said.append, directory))
        db.close()

    thread = threading.Thread(target=run)
    with Holder(database_url) as holder:
        thread.start()
        eventually(lambda: len(said) >= 2, "it waits and asks again")
        if db.dialect == "mysql":
            # It holds no place in the queue for the lock for long, so others get at the table all the time.
            insert = "INSERT INTO recipients (campaign_id, subscriber_id, batch) VALUES (?, ?, ?)"
            asked = len(said)
            for number in range(3):
                assert db.run(insert, 1, number, 1) == 1
            eventually(lambda: len(said) > asked, "still waiting")
        assert applied == []
        holder.let_go()
        thread.join(60)
    assert applied == ["9001_opened"]
    assert "opened_at" in columns(db)
    assert all(line.startswith("waiting: ") for line in said)


def test_a_lock_that_cannot_be_had_ends_in_words_and_can_be_tried_again(
    db: Db, database_url: str, tmp_path: Path
) -> None:
    be_hasty(db)
    directory = write(tmp_path / "more", ADD, INDEX)
    with Holder(database_url), pytest.raises(Unavailable, match=r"end it, then run bin/mailcrew db migrate again"):
        migrate(db, directory=directory, patience=0)
    assert "opened_at" not in columns(db)

    assert migrate(db, directory=directory) == ["9001_opened"]

    assert "opened_at" in columns(db)


def test_a_migration_that_was_cut_short_is_completed_by_the_next(db: Db, tmp_path: Path) -> None:
    directory = write(tmp_path / "more", ADD, 'raise SystemExit("cut short")')
    with pytest.raises(SystemExit):
        migrate(db, directory=directory)
    write(directory, ADD, INDEX)

    assert migrate(db, directory=directory) == ["9001_opened"]

    assert "recipients_opened" in {index.name for index in db.peewee.get_indexes("recipients")}
    assert migrate(db, directory=directory) == []


def test_a_migration_that_was_not_begun_before_may_not_find_its_work_done(db: Db, tmp_path: Path) -> None:
    db.run("ALTER TABLE recipients ADD COLUMN opened_at BIGINT NULL")
    with pytest.raises(peewee.DatabaseError):
        migrate(db, directory=write(tmp_path / "more", ADD))


def test_with_nothing_to_do_no_lock_is_asked_for(db: Db, database_url: str) -> None:
    with Holder(database_url):
        assert migrate(db, lambda line: pytest.fail(line)) == []


def test_what_a_newer_version_applied_is_named(db: Db, tmp_path: Path) -> None:
    assert newer_migrations(db) == []

    migrate(db, directory=write(tmp_path / "more", ADD))

    assert newer_migrations(db) == ["9001_opened"]
    assert all(applied for _, applied in migration_status(db))
