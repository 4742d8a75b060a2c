"""Those who write people take turns, one transaction each, and try again while something passing is in the way."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

import peewee

from app.db import Db
from app.db.connection import DatabaseTrouble
from app.errors import Unavailable

# Another import of the same people, or a restarting database, is over within these.
ATTEMPTS = 10
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 3.0

T = TypeVar("T")


def take_turn(db: Db) -> bool:
    """Hold up all others who take turns until this transaction ends; False when there is no list yet to do it with.

    Two that insert the same people in another order would otherwise be each other's deadlock over and over, and
    the slower one would starve. And who decides by the rules of suppression never decides by rules that somebody
    is just changing. The lock is the row of the oldest list; on SQLite the transaction itself.
    """
    oldest = db.value("SELECT MIN(id) FROM lists")
    taken = db.run("UPDATE lists SET created_at = created_at WHERE id = ?", oldest)
    return taken == 1 or db.dialect == "sqlite"


def with_patience(db: Db, work: Callable[[], T], hint: str) -> T:
    """What `work` returns, done in a transaction and tried again while others or a restart are in the way.

    Raises Unavailable, ending in `hint`, when the database stays away.
    """
    pause = FIRST_PAUSE
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with db.transaction():
                return work()
        except (peewee.IntegrityError, *DatabaseTrouble) as error:
            if attempt == ATTEMPTS:
                raise Unavailable(f"the database refused {ATTEMPTS} times ({error.args[-1]}); {hint}") from error
            if not isinstance(error, peewee.IntegrityError):
                # A lost connection is found only by using it; a new one is cheap.
                db.close()
        # At random, or two imports of one file would meet again at every row.
        time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 (not a secret)
        pause = min(pause * 2.5, LONGEST_PAUSE)
    raise AssertionError("unreachable: the last attempt returns or raises")
