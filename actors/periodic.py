"""The whole schedule on one screen. Every tick is idempotent and catches up from the database."""

from __future__ import annotations

from typing import Any

import dramatiq
from periodiq import cron

from actors.broker import broker
from actors.database import database, put_off
from actors.lists import look_after_imports
from actors.notices import look_after_notices
from actors.schedules import dispatch_due, remove_old_results
from app.campaigns.delivery_hours import roll_up
from app.campaigns.lifecycle import start_due
from app.queues.tickets import enqueue

TICK: dict[str, Any] = {"queue_name": "periodic", "max_retries": 0}


@dramatiq.actor(periodic=cron("* * * * *"), **TICK)
def start_campaigns() -> None:
    """Every minute: start the campaigns whose time has come."""
    with put_off("starting campaigns"):
        for campaign_id in start_due(database(), database().now_ms()):
            enqueue(broker, "expand", "expand", [campaign_id])


@dramatiq.actor(periodic=cron("* * * * *"), **TICK)
def send_notices() -> None:
    """Every minute: have delivered what is due, remove what is old."""
    with put_off("looking after notices"):
        look_after_notices()


@dramatiq.actor(periodic=cron("* * * * *"), **TICK)
def go_on_with_imports() -> None:
    """Every minute: have taken up the imports that nobody works at."""
    with put_off("looking after imports"):
        look_after_imports()


@dramatiq.actor(periodic=cron("* * * * *"), **TICK)
def sum_up_deliveries() -> None:
    """Every minute: sum up the hours of deliveries that are over."""
    with put_off("summing up deliveries"):
        roll_up(database(), database().now_ms())


@dramatiq.actor(periodic=cron("* * * * *"), **TICK)
def dispatch_schedules() -> None:
    """Every minute: enqueue the users whose checks are due."""
    with put_off("dispatching schedules"):
        dispatch_due()


@dramatiq.actor(periodic=cron("* * * * *"), **TICK)
def remove_old_check_results() -> None:
    """Every minute, for some seconds: remove results of checks that have been kept long enough."""
    with put_off("removing old results of checks"):
        remove_old_results()
