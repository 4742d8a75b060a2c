"""/api/queues/QUEUE/scale: how many workers a queue has at least, by hand."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, TypedDict

from flask import Blueprint

from app.scaling.by_hand import Brought, Wanted, bring_about, say_how_many, wanted_of
from app.scaling.demand import busy_now
from app.scaling.scale import MOST
from app.web.audit import tell
from app.web.body import json_object
from app.web.errors import Problem
from app.web.fields import NUMBER_OR_NONE, check_kinds, fields_named
from app.web.openapi import describes
from app.web.resources import resources

routes = Blueprint("crew", __name__, url_prefix="/api/queues/<queue>/scale")

#: So long a request waits for whoever changes supervisord's configuration just now, in seconds.
LOCK_SECONDS = 5.0
_NUMBER = Annotated[int | None, {"minimum": 0, "maximum": MOST}]


class CrewDocument(TypedDict):
    """`workers`: at least so many; `max`: at most. `by_hand`: a person said so, else the table of queues does."""

    queue: str
    workers: int
    max: int
    by_hand: bool


class WantedCrew(TypedDict):
    """`workers`: at least so many, at once and from now on; null: as the table says. `max` goes with a number."""

    workers: _NUMBER
    max: NotRequired[Annotated[int | None, {"minimum": 1, "maximum": MOST}]]


class ScaledCrew(CrewDocument):
    """`kept`: supervisord does not run, so it counts from its next start. `leaving`: those that finish their task."""

    started: list[str]
    leaving: list[str]
    kept: bool


@routes.get("")
@describes("How many workers a queue has at least and at most, and who says so", CrewDocument)
def shown(queue: str) -> dict[str, Any]:
    return _document(wanted(queue))


@routes.put("")
@describes("Say how many workers a queue has at least; those that stay are not restarted", ScaledCrew, takes=WantedCrew)
def put(queue: str) -> dict[str, Any]:
    said = json_object("workers", "max")
    check_kinds(said, {"workers": NUMBER_OR_NONE, "max": NUMBER_OR_NONE})
    if "workers" not in said:
        raise Problem(400, "invalid", "workers is missing; null lets the table say how many", "workers")
    done = scaled(queue, said["workers"], said.get("max"))
    moves = done.moves
    return {
        **_document(wanted(queue)), "started": list(moves.started) if moves else [],
        "leaving": list(moves.leaving) if moves else [], "kept": moves is None,
    }  # fmt: skip


def wanted(queue: str) -> Wanted:
    """Raises NotFound."""
    here = resources()
    return wanted_of(here.settings, here.root, queue)


def scaled(queue: str, workers: int | None, most: int | None) -> Brought:
    """Bring a queue to so many workers; raises NotFound, Refused, Unavailable or Problem."""
    here = resources()
    if workers is None and most is not None:
        raise Problem(400, "invalid", "max needs a number of workers as well", "max")
    with fields_named("workers"):
        say_how_many(here.settings, here.root, queue, workers, most)
    how_many = "as the table says" if workers is None else f"{workers} workers at least"
    tell(f"{queue}: {how_many}{f', {most} at most' if most else ''}")
    return bring_about(here.settings, here.root, queue, busy_now(here.redis), LOCK_SECONDS)


def _document(found: Wanted) -> dict[str, Any]:
    return {"queue": found.queue, "workers": found.least, "max": found.most, "by_hand": found.by_hand}
