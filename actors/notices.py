"""The actor that delivers notices. Thin: load, call, done."""

from __future__ import annotations

import dramatiq

from actors.broker import broker
from actors.database import database, put_off
from app.config import settings
from app.events import warn
from app.mail.limits import History, Limiter
from app.mail.notices import deliver_due, remove_old, something_due
from app.queues.broker import RedisTrouble
from app.queues.tickets import enqueue, top_up
from app.workers.stopping import stop_requested

QUEUE = "mail"


@dramatiq.actor(queue_name=QUEUE, max_retries=0)
def deliver_notices() -> None:
    """A ticket: something is due. Goes on in another task when there is more than fits into one."""
    with put_off("delivering notices"):
        limiter = Limiter(broker.client, History(database()))
        deliver_due(database(), settings(), limiter=limiter, stop=stop_requested)
        if something_due(database(), database().now_ms()):
            enqueue(broker, QUEUE, "deliver_notices")


def deliver_soon() -> None:
    """To be called when a notice was posted. Without Redis the minute's tick sees to it."""
    try:
        top_up(broker, QUEUE, "deliver_notices", 1)
    except RedisTrouble as error:
        warn("a notice waits for the next minute", reason=str(error))


def look_after_notices() -> None:
    """Every minute: have delivered what is due, and remove what has been over for long."""
    db = database()
    now = db.now_ms()
    remove_old(db, now)
    if something_due(db, now):
        deliver_soon()
