"""The whole schedule on one screen. Every tick is idempotent and catches up from the database."""

from __future__ import annotations

from typing import Any

import dramatiq
from periodiq import cron

from actors.broker import broker
from actors.database import database, put_off
from app.campaigns.lifecycle import start_due
from app.queues.tickets import enqueue

TICK: dict[str, Any] = {"queue_name": "periodic", "max_retries": 0}


@dramatiq.actor(periodic=cron("* * * * *"), **TICK)
def start_campaigns() -> None:
    """Every minute: start the campaigns whose time has come."""
    with put_off("starting campaigns"):
        for campaign_id in start_due(database(), database().now_ms()):
            enqueue(broker, "expand", "expand", [campaign_id])
