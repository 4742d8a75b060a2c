"""/api/processes: every process that supervisord has for this home, running or not, as it was last looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from flask import Blueprint

from app.instants import iso
from app.scaling.supervisord import Process
from app.watch.picture import Picture
from app.web.openapi import describes
from app.web.resources import resources

routes = Blueprint("processes", __name__)


class ProcessDocument(TypedDict):
    """One process. `owner`: the queue with its bursts, the campaign or the service that it belongs to.

    `state`: supervisord's word. `detail`: why it does not run, in supervisord's words. `silent`: it runs, and has not
    been heard of. `stopped_by_hand`: with `bin/supervisor-manager stop`. `uptime` in seconds.
    """

    name: str
    group: str
    owner: str
    kind: Literal["queue", "campaign", "service"]
    state: str
    detail: str
    pid: int | None
    uptime: int
    memory_mb: float | None
    silent: bool
    stopped_by_hand: bool


class Processes(TypedDict):
    """`at`: when it was looked, null when nobody has looked yet. `supervisord`: its state, null when it is away."""

    at: str | None
    supervisord: str | None
    processes: list[ProcessDocument]


@dataclass(frozen=True)
class Standing:
    """One process with what is known of it beside supervisord."""

    process: Process
    owner: str
    kind: str
    memory_mb: float | None
    silent: bool
    stopped_by_hand: bool
    wanted: bool

    @property
    def is_missed(self) -> bool:
        """It should be at work and is not, or somebody has stopped it; not what only runs when it is asked for."""
        if self.process.state == "STOPPING":
            return False  # it finishes what it has in hand
        if self.process.state == "STOPPED":
            return self.wanted or self.stopped_by_hand
        return self.silent or self.process.state != "RUNNING"

    @property
    def state(self) -> str:
        """In one word: SILENT, or supervisord's own."""
        return "SILENT" if self.silent else self.process.state


@routes.get("/api/processes")
@describes("Every process of this home, running or not", Processes)
def every() -> dict[str, Any]:
    seen = resources().watcher.fresh()
    if seen is None:
        return {"at": None, "supervisord": None, "processes": []}
    return {
        "at": iso(seen.at), "supervisord": seen.picture.state,
        "processes": [document(one) for one in standings(seen.picture)],
    }  # fmt: skip


def standings(picture: Picture) -> list[Standing]:
    """Every process, queues first, then campaigns, then services."""
    return [
        Standing(
            process, owner.name, owner.kind, picture.memory.get(process.pid),
            owner.kind != "service" and picture.is_silent(process), group.stopped_by_hand,
            group.wanted > 0 and not group.is_slot,
        )
        for owner in picture.owners for group in owner.groups for process in group.processes
    ]  # fmt: skip


def document(standing: Standing) -> dict[str, Any]:
    process = standing.process
    return {
        "name": process.name, "group": process.group, "owner": standing.owner, "kind": standing.kind,
        "state": process.state, "detail": process.detail, "pid": process.pid or None, "uptime": process.uptime,
        "memory_mb": standing.memory_mb, "silent": standing.silent, "stopped_by_hand": standing.stopped_by_hand,
    }  # fmt: skip
