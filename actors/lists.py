"""The actors that do uploaded imports, and bring rules of suppression to everybody. Thin: load, call, done."""

from __future__ import annotations

from typing import Any

import dramatiq

from actors.broker import broker
from actors.database import database, put_off
from app.config import settings
from app.lists.import_run import work_off
from app.lists.jobs import something_to_import
from app.lists.suppressing import is_any_opening, reach_all
from app.queues.put_new import put_new
from app.workers.stopping import stop_requested

QUEUE = "mail"
#: No time limit: a file may be as long as it likes, and a worker that is to stop leaves it after a chunk.
NO_LIMITS: dict[str, Any] = {"max_retries": 0, "time_limit": float("inf")}
#: Only workers of the machine that a file was uploaded to can read it: others pass the message on, so often.
MOST_HOPS = 10
HOP_MS = 1000


@dramatiq.actor(queue_name=QUEUE, **NO_LIMITS)
def import_people(hops: int = 0) -> None:
    """A ticket: something is to be imported."""
    with put_off("importing"):
        taken = work_off(database(), settings(), stop_requested)
        if not taken and hops < MOST_HOPS and something_to_import(database(), database().now_ms()):
            import_people.send_with_options(args=(hops + 1,), delay=HOP_MS)


@dramatiq.actor(queue_name=QUEUE, **NO_LIMITS)
def reach_rules() -> None:
    """A ticket: a rule of suppression has not reached all subscribers yet."""
    with put_off("reaching whom rules mean"):
        reach_all(database())


def look_after_imports() -> None:
    """Have taken up what waits or has lost its worker: every minute."""
    now = database().now_ms()
    if something_to_import(database(), now):
        put_new(broker.client, QUEUE, "import_people", {f"imports-{now // 60_000}": []})
    if is_any_opening(database()):
        put_new(broker.client, QUEUE, "reach_rules", {f"rules-{now // 60_000}": []})
