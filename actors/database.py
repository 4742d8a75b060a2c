"""The database of this process, and what a task does when it is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dramatiq.middleware import Middleware

from actors.broker import broker
from app.config import settings
from app.db import Db
from app.db.connection import DatabaseTrouble
from app.errors import Unavailable
from app.events import warn
from app.models.tables import open_database
from app.queues.broker import RedisTrouble
from app.workers.schema import wait_for_schema
from app.workers.stopping import stop_requested
from app.workers.trouble import troubles


def database() -> Db:
    """The same Db every time; raises Unavailable when the database does not answer."""
    return open_database(settings())


@contextmanager
def put_off(what: str) -> Iterator[None]:
    """Let a task end quietly when a service is away: the sweep or the next tick asks again.

    A dead letter for each of them would tell nobody anything that the log does not.
    """
    try:
        yield
        troubles.tell(what, "")
    except DatabaseTrouble as error:
        troubles.tell(what, f"the database is in trouble: {error}")
        warn(f"{what} put off: the database is in trouble", reason=str(error))
        database().close()
    except (*RedisTrouble, Unavailable) as error:
        troubles.tell(what, str(error))
        warn(f"{what} put off", reason=str(error))
        # Or the next ticket, which others may serve at once, would fail here the same way.
        stop_requested.wait(1.0)


class Schema(Middleware):
    """Keeps a worker from its first task until the database is as its code expects it."""

    def after_process_boot(self, _broker: Any) -> None:
        wait_for_schema(database, stop_requested)


broker.add_middleware(Schema())
