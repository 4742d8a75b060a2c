"""Who works, on what, how fast, with how much memory; and "finish your task and be replaced"."""

from __future__ import annotations

import socket
from typing import Any

from flask import Response, request

from app.errors import NotFound, UsageError
from app.web import hosts
from app.web.audit import tell
from app.web.console.page import Page
from app.web.processes import Standing, standings
from app.web.resources import resources
from app.web.sights import sight
from app.web.stopping import stop_workers

page = Page("workers", nav=("machine", 30))


@page.live("/workers", query=("queue",))
def look(queue: str) -> dict[str, Any]:
    seen = sight()
    line = next((line for line in seen.lines if line.queue.name == queue), None)
    wanted = set(line.queue.queues) if line else set()
    return {
        "sight": seen,
        "workers": None if seen.workers is None else [
            worker for worker in seen.workers if not wanted or wanted & set(worker.queues)
        ],
        "missed": _missed(line.queue.name if line else ""),
        "names": [line.queue.name for line in seen.lines],
        "host": socket.gethostname(),
        "hosts": hosts.seen(),
    }  # fmt: skip


def _missed(queue: str) -> list[Standing]:
    """Processes that should be there and do not work: of a queue when it is named, else of everything."""
    seen = resources().watcher.fresh()
    found = standings(seen.picture) if seen else []
    return [one for one in found if one.is_missed and queue in ("", one.owner)]


@page.post("/workers/stop")
def stop() -> Response:
    said, queue = request.form.get("pid", ""), request.form.get("queue", "")
    if bool(said) == bool(queue) or (said and not (said.isascii() and said.isdigit() and len(said) < 10)):
        raise UsageError("name a worker by its pid, or a queue")
    stopping = stop_workers(resources().settings.home, pid=int(said) if said else None, queue=queue or None)
    if not stopping:
        raise NotFound("no such worker is supervised by this home on this host; it may have ended by itself")
    tell(f"pids {', '.join(map(str, stopping))}")
    return page.done("/workers", "workers.told", n=len(stopping))


@page.post("/hosts/gone")
def gone() -> Response:
    host = request.form.get("host", "")
    return page.done("/workers", "workers.was_gone", host=host, n=hosts.settled(host))
