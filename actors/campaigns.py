"""Actors of campaigns: expand one, send what is ready. Thin: load, call, done.

A worker of the queue `campaign_18` sends for campaign 18 only, and leaves when that is not to have
workers of its own any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import dramatiq
from dramatiq.middleware import CurrentMessage, Middleware

from actors.broker import broker
from actors.database import database, put_off
from actors.notices import deliver_soon
from actors.serving import tell_what_is_served
from app.campaigns.boosts import campaign_of, forget_ended, is_boosted, queue_of
from app.campaigns.expand_task import expand_campaign
from app.campaigns.housekeeping import Housekeeper, ready_batches
from app.campaigns.service import SendService
from app.config import settings
from app.db import Db
from app.errors import MailcrewError
from app.events import warn
from app.queues.tickets import discard, enqueue, top_up
from app.queues.workers import threads_serving
from app.scaling.own_slot import leave_own_slot
from app.workers.stopping import in_hand, stop_requested
from app.workers.trouble import troubles

#: Neither has a TimeLimit (it raises at any bytecode, also between a 250 and its record) nor
#: retries: the database knows what is left to do, and the sweep asks again.
NO_LIMITS: dict[str, Any] = {"max_retries": 0, "time_limit": float("inf")}
SEND = "send"
QUEUES = frozenset({"expand", SEND})


@dramatiq.actor(queue_name="expand", **NO_LIMITS)
def expand(campaign_id: int) -> None:
    """Expand a campaign from where its cursor stands."""
    with put_off("expansion"):
        expand_campaign(
            database(), settings(), campaign_id, stop_requested, _top_up, partial(troubles.tell, "expansion")
        )


@dramatiq.actor(queue_name=SEND, **NO_LIMITS)
def send() -> None:
    """A ticket: there is work, in its queue `campaign_<id>` of that campaign, in `send` of any."""
    message = CurrentMessage.get_current_message()
    queue = message.queue_name if message else SEND
    with put_off("sending"):
        if sender.service().work(only=campaign_of(queue)) and not stop_requested.is_set():
            enqueue(broker, queue, "send")


class Sender:
    """The sending side of this process: made at the first ticket, for the database may be away at the start."""

    threads = 1

    def __init__(self) -> None:
        #: Told when (ms) there will be work again that a limit stops now.
        self.wake_at: Callable[[int], object] = lambda _: None
        self._lock = threading.Lock()
        self._service: SendService | None = None

    def service(self) -> SendService:
        with self._lock:
            if self._service is None:
                self._service = SendService(
                    database(), settings(), threads=self.threads, stop=stop_requested,
                    noticed=deliver_soon, wake_at=self.wake_at,
                )  # fmt: skip
            return self._service

    def campaign(self) -> int | None:
        return self._service.campaign_in_hand() if self._service else None

    def close_idle(self) -> None:
        if self._service:
            self._service.close_idle()

    def close(self) -> None:
        if self._service:
            self._service.close()


sender = Sender()


class Campaigns(Middleware):
    """Starts and ends what the actors above need, in workers that serve their queues."""

    def __init__(self) -> None:
        self._housekeeper: Housekeeper | None = None

    def after_worker_boot(self, _broker: Any, worker: Any) -> None:
        tell_what_is_served(worker.queues)
        own = own_campaign(worker.queues)
        if own is None and QUEUES.isdisjoint(worker.queues):
            return
        sender.threads = worker.threads
        in_hand.campaign = sender.campaign if own is None else lambda: own
        queue = SEND if own is None else queue_of(own)
        self._housekeeper = Housekeeper(
            database, settings(),
            top_up=partial(_issue, queue, getattr(worker, "wake", lambda: None)),
            capacity=lambda: _capacity(queue),
            restart_expansion=lambda campaign_id: enqueue(broker, "expand", "expand", [campaign_id]),
            close_idle=sender.close_idle,
            tell=partial(troubles.tell, "housekeeping"),
            only=own,
            look_after=(lambda _: None) if own is None else partial(_leave_when_over, own),
        )  # fmt: skip
        sender.wake_at = self._housekeeper.wake_at
        self._housekeeper.start()

    def before_worker_shutdown(self, _broker: Any, _worker: Any) -> None:
        if self._housekeeper:
            self._housekeeper.close()
        sender.close()


def own_campaign(queues: Sequence[str]) -> int | None:
    """The campaign that a worker of these queues serves alone; None when it serves `send`, or none."""
    return None if SEND in queues else next(filter(None, map(campaign_of, queues)), None)


def _leave_when_over(campaign_id: int, db: Db) -> None:
    """Leave for good when the campaign is not to have workers of its own any more.

    One that no supervisord started was wanted by whoever started it, and stays.
    """
    if stop_requested.is_set() or is_boosted(db, campaign_id):
        return
    forget_ended(db)
    try:
        if leave_own_slot(settings()):
            # Nobody serves them any more, and the next boost issues its own.
            discard(broker, queue_of(campaign_id))
    except MailcrewError as error:
        warn("the boost is over, but supervisord does not stop this worker; trying again", reason=str(error))


def _issue(queue: str, wake: Callable[[], object], wanted: int) -> None:
    """Bring the tickets up to what is wanted, and have this worker look at once."""
    if top_up(broker, queue, "send", wanted):
        wake()


def _capacity(queue: str) -> int:
    # As many may wait as can be in hand: at most twice the threads in all.
    return threads_serving(broker.client, queue)


def _top_up() -> None:
    ready = ready_batches(database(), database().now_ms(), _capacity(SEND))
    if ready:
        top_up(broker, SEND, "send", ready)


broker.add_middleware(Campaigns())
