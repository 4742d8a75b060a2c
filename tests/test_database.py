"""The database layer keeps one behaviour on both databases."""

from __future__ import annotations

import threading
import time

import pytest
from peewee import IntegrityError

from app.db import Db, connect, migrate, migration_status
from app.errors import SettingError
from app.models import tables

#: Columns that the database computes by itself. SQLite does not list them.
COMPUTED = {"subscribers": {"name_key"}}


def test_the_models_have_exactly_the_columns_of_the_migrated_schema(db: Db) -> None:
    for table in tables.TABLES:
        name = table._meta.table_name
        found = {c.name for c in db.peewee.get_columns(name)} - COMPUTED.get(name, set())
        assert found == set(table._meta.columns), name


def test_an_answer_about_the_clock_that_took_long_is_asked_for_again(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    ask = db.value

    def slow_at_first(sql: str, *params: object) -> object:
        asked.append(sql)
        if len(asked) == 1:
            time.sleep(1)
        return ask(sql, *params)

    db.now_ms()
    monkeypatch.setattr(db, "value", slow_at_first)
    monkeypatch.setattr("app.db.connection.CLOCK_SECONDS", -1.0)
    monkeypatch.setattr("app.db.connection.CLOCK_TRIES", 100)
    now = db.now_ms()
    assert abs(now - time.time() * 1000) < 1000, "not ahead by as long as the first answer took"
    assert len(asked) == 0 if db.dialect == "sqlite" else len(asked) > 1


def test_migrating_again_does_nothing(db: Db) -> None:
    assert migrate(db) == []
    assert all(applied for _, applied in migration_status(db))


def test_two_deploys_may_migrate_at_once(database_url: str) -> None:
    applied: list[str] = []
    threads = [threading.Thread(target=lambda: applied.extend(migrate(connect(database_url)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(applied) == [name for name, _ in migration_status(connect(database_url))]


def test_a_deleted_id_is_never_used_again(db: Db) -> None:
    first = tables.List.create(name="a", created_at=1).id
    tables.List.delete().execute()
    assert tables.List.create(name="b", created_at=1).id > first


def test_a_transaction_that_fails_leaves_nothing_behind(db: Db) -> None:
    tables.List.create(name="kept", created_at=1)
    with pytest.raises(IntegrityError), db.transaction():
        db.run("INSERT INTO lists (name, created_at) VALUES (?, ?)", "gone", 1)
        db.run("INSERT INTO lists (name, created_at) VALUES (?, ?)", "kept", 1)
    assert db.rows("SELECT name FROM lists") == [("kept",)]


def test_an_update_counts_the_rows_it_found_even_when_nothing_changes(db: Db) -> None:
    tables.List.create(name="same", created_at=1)
    assert db.run("UPDATE lists SET created_at=1 WHERE name='same'") == 1
    assert db.run("UPDATE lists SET created_at=1 WHERE name LIKE '%other%'") == 0


@pytest.mark.parametrize("url", ["sqlite://", "mysql://u:secret@host", "postgres://x/y"])
def test_a_malformed_url_is_refused_without_showing_the_password(url: str) -> None:
    with pytest.raises(SettingError) as error:
        connect(url)
    assert "secret" not in str(error.value)
