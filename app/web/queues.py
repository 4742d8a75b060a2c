"""GET /api/queues: what waits, what is in hand, what is dead, who works."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypedDict

from flask import Blueprint, Response, jsonify

from app.queues.depth import Depth, depths
from app.queues.recipients import Recipients, waiting_recipients
from app.queues.workers import WorkerStatus, live_workers
from app.scaling.table import BOOSTED
from app.web.openapi import describes
from app.web.resources import resources
from app.web.sights import table

routes = Blueprint("queues", __name__, url_prefix="/api/queues")


class RecipientsDocument(TypedDict):
    """Recipients of the sending campaigns: who may be mailed now, later (a retry, a limit), and who is in hand."""

    waiting: int
    later: int
    in_hand: int
    oldest_seconds: float | None
    rate_per_second: float


class QueueDocument(TypedDict):
    """Messages of one queue, and the workers that serve it. `oldest_seconds`: the age of the first waiting message.

    `recipients`: what the messages of `send` stand for, which are tickets; null for every other queue.
    """

    name: str
    waiting: int
    in_hand: int
    delayed: int
    dead: int
    oldest_seconds: float | None
    workers: int
    busy: int
    recipients: RecipientsDocument | None


@routes.get("")
@describes("What waits, is in hand or dead in every queue", list[QueueDocument])
def every() -> Response:
    here = resources()
    names = list(dict.fromkeys(name for queue in table().queues for name in queue.queues))
    found, workers = depths(here.redis, names), live_workers(here.redis)
    sending = waiting_recipients(here.db, here.db.now_ms()).values() if BOOSTED in names else ()
    return jsonify([_document(name, found[name], workers, sending if name == BOOSTED else None) for name in names])


def _document(
    name: str, depth: Depth, workers: Sequence[WorkerStatus], sending: Collection[Recipients] | None
) -> QueueDocument:
    mine = [worker for worker in workers if name in worker.queues]
    return {
        "name": name, "waiting": depth.waiting, "in_hand": depth.in_hand, "delayed": depth.delayed, "dead": depth.dead,
        "oldest_seconds": depth.oldest_seconds, "workers": len(mine), "busy": sum(w.is_processing for w in mine),
        "recipients": None if sending is None else _recipients(sending),
    }  # fmt: skip


def _recipients(sending: Collection[Recipients]) -> RecipientsDocument:
    return {
        "waiting": sum(one.due for one in sending), "later": sum(one.later for one in sending),
        "in_hand": sum(one.leased for one in sending),
        "oldest_seconds": max((one.oldest_seconds for one in sending if one.oldest_seconds is not None), default=None),
        "rate_per_second": round(sum(one.rate_per_second for one in sending), 1),
    }  # fmt: skip
