"""A task whose services are away ends quietly; what is wrong with our own code does not."""

from __future__ import annotations

from collections.abc import Iterator

import peewee
import pytest

import actors.database
from actors.database import put_off
from app.db import Db
from app.errors import Unavailable
from app.workers.stopping import stop_requested
from app.workers.trouble import troubles


@pytest.fixture(autouse=True)
def this_database(db: Db, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(actors.database, "database", lambda: db)
    stop_requested.set()  # nobody waits here
    yield
    stop_requested.clear()
    troubles.tell("sending", "")


@pytest.mark.parametrize(
    "error",
    [
        peewee.OperationalError("database or disk is full"),
        peewee.InterfaceError(0, ""),
        peewee.InternalError(3, "Error writing file './ibdata1' (errno: 28 No space left on device)"),
        Unavailable("no room for a journal"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_trouble_that_passes_is_told_and_raises_nothing(error: Exception) -> None:
    with put_off("sending"):
        raise error
    assert str(error.args[-1])[:10] in troubles.text()


@pytest.mark.parametrize("error", [peewee.IntegrityError("twice"), peewee.ProgrammingError("no table"), ValueError()])
def test_a_mistake_is_raised(error: Exception) -> None:
    with pytest.raises(type(error)), put_off("sending"):
        raise error
