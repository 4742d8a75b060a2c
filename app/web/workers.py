"""/api/workers: who works, on what, and "finish your task and be replaced"."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, TypedDict

from flask import Blueprint, Response, jsonify, request

from app.events import emit
from app.queues.workers import WorkerStatus, live_workers
from app.web.body import json_object
from app.web.errors import Problem
from app.web.openapi import describes
from app.web.resources import resources
from app.web.stopping import stop_workers

routes = Blueprint("workers", __name__, url_prefix="/api/workers")

LONGEST_QUEUE = 200


class WorkerDocument(TypedDict):
    """One worker by its heartbeat. `uptime` in seconds, `rate_per_second` in tasks (of `send`: tickets, not mails)."""

    pid: int
    host: str
    program: str
    queues: list[str]
    campaign_id: int | None
    is_processing: bool
    processed_count: int
    uptime: float
    rate_per_second: float
    rss_mb: float


class Stop(TypedDict):
    """Whom: one worker, those of a queue, or with neither all of them."""

    pid: NotRequired[Annotated[int, {"minimum": 1}]]
    queue: NotRequired[Annotated[str, {"minLength": 1, "maxLength": LONGEST_QUEUE}]]


class Stopping(TypedDict):
    """The pids of those that were told."""

    stopping: list[int]


@routes.get("")
@describes("Who works, and on what", list[WorkerDocument])
def every() -> Response:
    return jsonify([describe(status) for status in live_workers(resources().redis)])


@routes.get("/<int:pid>/status")
@describes(
    "One worker", WorkerDocument,
    query={"host": {"type": "string", "description": "where it runs, when several hosts have this pid"}},
)  # fmt: skip
def status(pid: int) -> dict[str, Any]:
    host = request.args.get("host")
    found = [s for s in live_workers(resources().redis) if s.pid == pid and host in (None, s.host)]
    if not found:
        where = f" on host {host}" if host else ""
        raise Problem(404, "not_found", f"no worker with pid {pid}{where} has been heard of lately", "pid")
    if len(found) > 1:
        hosts = ", ".join(sorted(s.host for s in found))
        raise Problem(409, "ambiguous", f"several hosts have a worker with pid {pid}: add ?host= ({hosts})", "host")
    return describe(found[0])


@routes.post("/stop")
@describes("Have workers finish their task and be replaced", Stopping, takes=Stop)
def stop() -> dict[str, Any]:
    body = json_object("pid", "queue")
    pid, queue = body.get("pid"), body.get("queue")
    if len(body) > 1:
        raise Problem(400, "invalid", "name a pid or a queue, not both", "queue")
    if "pid" in body and (type(pid) is not int or pid < 1):
        raise Problem(400, "invalid", "pid must be a whole number above 0", "pid")
    if "queue" in body and (not isinstance(queue, str) or not 0 < len(queue) <= LONGEST_QUEUE):
        raise Problem(400, "invalid", "queue must be the name of a queue", "queue")
    stopping = stop_workers(resources().settings.home, pid=pid, queue=queue)
    if not stopping:
        # `null` was refused above, so what is None was not given.
        what = f"worker with pid {pid}" if pid is not None else f"worker of queue {queue!r}" if queue else "worker"
        field = "pid" if pid is not None else "queue" if queue else None
        raise Problem(404, "not_found", f"no {what} is supervised by this home on this host", field)
    emit("workers told to finish and be replaced", pids=stopping)
    return {"stopping": stopping}


def describe(status: WorkerStatus) -> dict[str, Any]:
    """A worker as scripts read it."""
    return {
        "pid": status.pid,
        "host": status.host,
        "program": status.program,
        "queues": status.queues,
        "campaign_id": status.campaign_id,
        "is_processing": status.is_processing,
        "processed_count": status.processed_count,
        "uptime": status.uptime,
        "rate_per_second": status.rate_per_second,
        "rss_mb": status.rss_mb,
    }
