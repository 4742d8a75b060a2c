"""What a piece of code asks of the database."""

from __future__ import annotations

from typing import Any

import pytest

from app.db import Db


def recorded(db: Db, patch: pytest.MonkeyPatch) -> list[str]:
    """The statements that are executed from now on; the list grows."""
    asked: list[str] = []
    execute: Any = db.peewee.execute_sql

    def record(sql: str, *rest: Any) -> Any:
        asked.append(sql)
        return execute(sql, *rest)

    patch.setattr(db.peewee, "execute_sql", record)
    return asked
