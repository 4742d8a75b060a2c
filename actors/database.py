"""The database of this process, opened at first use."""

from __future__ import annotations

from functools import cache

from app.config import settings
from app.db import Db
from app.models.tables import open_database


@cache
def database() -> Db:
    return open_database(settings())
