"""Actors of campaigns: expand one, send what is ready. Thin: load, call, done."""

from __future__ import annotations

from typing import Any

import dramatiq
from dramatiq.middleware import Middleware

from actors.broker import broker
from actors.database import database
from app.campaigns.expand_task import expand_campaign
from app.campaigns.housekeeping import Housekeeper, ready_batches
from app.campaigns.service import SendService
from app.config import settings
from app.queues.tickets import enqueue, top_up
from app.workers.heartbeat import threads_serving
from app.workers.stopping import stop_requested

#: Neither has a TimeLimit (it raises at any bytecode, also between a 250 and its record) nor
#: retries: the database knows what is left to do, and the sweep asks again.
NO_LIMITS: dict[str, Any] = {"max_retries": 0, "time_limit": float("inf")}
QUEUES = ("expand", "send")


class Process:
    """What the tasks of this process share."""

    service: SendService | None = None
    housekeeper: Housekeeper


@dramatiq.actor(queue_name="expand", **NO_LIMITS)
def expand(campaign_id: int) -> None:
    """Expand a campaign from where its cursor stands."""
    expand_campaign(database(), settings(), campaign_id, stop_requested, _top_up_ready)


@dramatiq.actor(queue_name="send", **NO_LIMITS)
def send() -> None:
    """A ticket: there is work in `send`."""
    assert Process.service is not None
    if Process.service.work() and not stop_requested.is_set():
        enqueue(broker, "send", "send")


class Campaigns(Middleware):
    """Starts and ends what the actors above need, in workers that serve their queues."""

    def after_worker_boot(self, _broker: Any, worker: Any) -> None:
        if not set(QUEUES) & set(worker.queues):
            return
        if "send" in worker.queues:
            Process.service = SendService(database(), settings(), threads=worker.threads, stop=stop_requested)
        Process.housekeeper = Housekeeper(
            database(), settings(),
            top_up=lambda wanted: top_up(broker, "send", "send", wanted),
            capacity=_capacity,
            restart_expansion=lambda campaign_id: enqueue(broker, "expand", "expand", [campaign_id]),
            close_idle=Process.service.close_idle if Process.service else lambda: None,
        )  # fmt: skip
        Process.housekeeper.start()

    def before_worker_shutdown(self, _broker: Any, worker: Any) -> None:
        if set(QUEUES) & set(worker.queues):
            Process.housekeeper.close()
            if Process.service:
                Process.service.close()


def _capacity() -> int:
    return threads_serving(broker.client, "send")


def _top_up_ready() -> None:
    wanted = 2 * _capacity()
    ready = ready_batches(database(), database().now_ms(), wanted) if wanted else 0
    if ready:
        top_up(broker, "send", "send", ready)


broker.add_middleware(Campaigns())
