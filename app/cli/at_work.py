"""What the workers of this machine say they are doing, by pid: for commands that wait for them."""

from __future__ import annotations

import socket

from app.config import Settings
from app.queues.broker import RedisTrouble, redis_client
from app.queues.workers import WorkerStatus, live_workers


def workers_here(settings: Settings) -> dict[int, WorkerStatus] | None:
    """The workers of this machine that have been heard of lately; None when Redis does not answer."""
    client = redis_client(settings.redis_url)
    try:
        return {status.pid: status for status in live_workers(client) if status.host == socket.gethostname()}
    except RedisTrouble:
        return None
    finally:
        client.close()


def campaigns_in_hand(settings: Settings) -> dict[int, int | None] | None:
    """The campaign that each worker sends for now, None for one that sends nothing; see `app/scaling/rolling.py`."""
    workers = workers_here(settings)
    if workers is None:
        return None
    return {pid: status.campaign_id if status.is_processing else None for pid, status in workers.items()}


def doing(status: WorkerStatus | None) -> str:
    """In words: the queues, the campaign and how long its longest task has run; empty when nobody has heard of it."""
    if status is None:
        return ""
    words = [f"queue {','.join(status.queues)}"]
    if status.campaign_id is not None:
        words.append(f"campaign {status.campaign_id}")
    if status.task is not None and status.task_seconds is not None:
        words.append(f"{status.task} for {status.task_seconds:.0f} s")
    return ": " + ", ".join(words)
