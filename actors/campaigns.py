"""Actors of campaigns: expand one, send what is ready. Thin: load, call, done."""

from __future__ import annotations

import threading
from typing import Any

import dramatiq
from dramatiq.middleware import Middleware

from actors.broker import broker
from actors.database import database, put_off
from app.campaigns.expand_task import expand_campaign
from app.campaigns.housekeeping import Housekeeper, ready_batches
from app.campaigns.service import SendService
from app.config import settings
from app.queues.tickets import enqueue, top_up
from app.workers.heartbeat import threads_serving
from app.workers.stopping import in_hand, stop_requested

#: Neither has a TimeLimit (it raises at any bytecode, also between a 250 and its record) nor
#: retries: the database knows what is left to do, and the sweep asks again.
NO_LIMITS: dict[str, Any] = {"max_retries": 0, "time_limit": float("inf")}
QUEUES = frozenset({"expand", "send"})


@dramatiq.actor(queue_name="expand", **NO_LIMITS)
def expand(campaign_id: int) -> None:
    """Expand a campaign from where its cursor stands."""
    with put_off("expansion"):
        expand_campaign(database(), settings(), campaign_id, stop_requested, _top_up)


@dramatiq.actor(queue_name="send", **NO_LIMITS)
def send() -> None:
    """A ticket: there is work in `send`."""
    with put_off("sending"):
        if sender.service().work() and not stop_requested.is_set():
            enqueue(broker, "send", "send")


class Sender:
    """The sending side of this process: made at the first ticket, for the database may be away at the start."""

    threads = 1

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._service: SendService | None = None

    def service(self) -> SendService:
        with self._lock:
            if self._service is None:
                self._service = SendService(database(), settings(), threads=self.threads, stop=stop_requested)
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
        if QUEUES.isdisjoint(worker.queues):
            return
        sender.threads = worker.threads
        in_hand.campaign = sender.campaign
        self._housekeeper = Housekeeper(
            database, settings(),
            top_up=lambda wanted: top_up(broker, "send", "send", wanted),
            capacity=_capacity,
            restart_expansion=lambda campaign_id: enqueue(broker, "expand", "expand", [campaign_id]),
            close_idle=sender.close_idle,
        )  # fmt: skip
        self._housekeeper.start()

    def before_worker_shutdown(self, _broker: Any, _worker: Any) -> None:
        if self._housekeeper:
            self._housekeeper.close()
        sender.close()


def _capacity() -> int:
    # As many may wait as can be in hand: at most twice the threads in all.
    return threads_serving(broker.client, "send")


def _top_up() -> None:
    ready = ready_batches(database(), database().now_ms(), _capacity())
    if ready:
        top_up(broker, "send", "send", ready)


broker.add_middleware(Campaigns())
