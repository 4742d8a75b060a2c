"""/api/schedules: when each user's checks run, how the last runs ended, run now, let go of a lock."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, TypedDict

from flask import Blueprint, Response, jsonify

from app.events import emit
from app.instants import iso
from app.schedules.document import RunDocument, ScheduleDocument, run_document
from app.schedules.overview import Overview, overview
from app.schedules.search import LONGEST as LONGEST_SEARCH
from app.schedules.search import PLACE, STANDINGS, find_schedules
from app.schedules.store import Shown, recent_runs, run_now, set_schedule, show_schedule, unlock_user
from app.schedules.times import LONGEST, SHORTEST
from app.web.audit import tell
from app.web.body import json_object
from app.web.errors import Problem
from app.web.openapi import PAGED, describes, whole_number
from app.web.query import linked, one_of, text, whole
from app.web.resources import resources

routes = Blueprint("schedules", __name__, url_prefix="/api/schedules")

PAGE = 100
LARGEST_PAGE = 1000
LONGEST_PLACE = 40
#: The figures of all users together are counted this often at most, in seconds.
COUNT_SECONDS = 2.0


class Change(TypedDict):
    """What is to be otherwise. A new interval counts from the last run."""

    enabled: NotRequired[bool]
    interval_minutes: NotRequired[Annotated[int, {"minimum": SHORTEST, "maximum": LONGEST}]]


class OverviewDocument(TypedDict):
    """Counts of users. `late`: those of `due` who have been so for two minutes; `lag_ms`: how long the longest has been
    due whom nobody has claimed; `failed`: some target is not as it should be; `broken`: the checks of the last run
    could not be made, or were cut off."""

    due: int
    late: int
    oldest_due_at: str | None
    lag_ms: int
    waiting: int
    running: int
    failed: int
    broken: int
    off: int


class Unlocked(TypedDict):
    """False: nobody had him."""

    unlocked: bool


@routes.get("")
@describes(
    "Every user's schedule, by id; with `email` those whose address begins so, by address; with `standing` those who "
    "stand so", list[ScheduleDocument],
    query={
        "limit": whole_number(1, LARGEST_PAGE, "how many", PAGE),
        "email": {"type": "string", "maxLength": LONGEST_SEARCH, "description": "how the address begins"},
        "standing": {
            "enum": list(STANDINGS),
            "description": "late: due for two minutes and not claimed; busy: waits or runs; failed, broken: how the "
            "last run ended; not together with `email`",
        },
        "after": {"type": "string", "maxLength": LONGEST_PLACE, "pattern": f"^({PLACE})?$",
                  "description": "from the Link of the page before"},
    },
    headers=PAGED,
)  # fmt: skip
def every() -> Response:
    db, limit, after = resources().db, whole("limit", PAGE, LARGEST_PAGE), text("after", LONGEST_PLACE)
    email, standing = text("email", LONGEST_SEARCH), one_of("standing", STANDINGS)
    page = find_schedules(db, limit, db.now_ms(), email=email, standing=standing, after=after)
    answer = jsonify([one.document() for one in page.found])
    return linked(answer, limit=limit, email=email or None, standing=standing or None, after=page.after)


@routes.get("/overview")
@describes("How all schedules stand, in a few figures", OverviewDocument)
def all_together() -> OverviewDocument:
    seen = counted()
    return {
        "due": seen.due, "late": seen.late, "oldest_due_at": iso(seen.oldest_due_at), "lag_ms": seen.lag_ms,
        "waiting": seen.waiting, "running": seen.running, "failed": seen.failed, "broken": seen.broken, "off": seen.off,
    }  # fmt: skip


@routes.get("/<user>")
@describes("One user's schedule, by id or address", ScheduleDocument)
def one(user: str) -> Response:
    return jsonify(show_schedule(user).document())


@routes.put("/<user>")
@describes(
    "Switch a user's checks on or off, change the interval; a new address makes the user, who is due at once",
    ScheduleDocument, also={201: ScheduleDocument}, takes=Change,
)  # fmt: skip
def put(user: str) -> tuple[Response, int]:
    body = json_object("enabled", "interval_minutes")
    enabled, minutes = body.get("enabled"), body.get("interval_minutes")
    if "enabled" in body and not isinstance(enabled, bool):
        raise Problem(400, "invalid", "enabled must be true or false", "enabled")
    if "interval_minutes" in body:
        minutes = interval(minutes)
    shown, new = changed(user, enabled, minutes)
    return jsonify(shown.document()), 201 if new else 200


@routes.post("/<user>/run")
@describes("Make a user due at once, beside the rhythm, which stays; the next dispatch takes it", ScheduleDocument)
def run(user: str) -> Response:
    return jsonify(asked_for(user).document())


@routes.post("/<user>/unlock")
@describes(
    "Take a user out of whoever's hands, whatever the lock says: a run that is going counts as interrupted and records "
    "nothing, a claim that waits is given back", Unlocked,
)  # fmt: skip
def unlock(user: str) -> Unlocked:
    return {"unlocked": let_go(user)}


@routes.get("/<user>/runs")
@describes(
    "The runs of a user that ended last, the newest first", list[RunDocument],
    query={"limit": whole_number(1, LARGEST_PAGE, "how many", PAGE)},
)  # fmt: skip
def runs(user: str) -> Response:
    found = recent_runs(show_schedule(user).user.id, whole("limit", PAGE, LARGEST_PAGE))
    return jsonify([run_document(one) for one in found])


def counted() -> Overview:
    """How all schedules stand, counted seldom however many look."""
    db = resources().db
    found: Overview = resources().shared("schedules", COUNT_SECONDS).get(None, lambda: overview(db, db.now_ms()))
    return found


def changed(user: str | int, enabled: bool | None, minutes: int | None) -> tuple[Shown, bool]:
    """Change what is not None; the schedule, and whether the user is new."""
    here = resources()
    shown, new = set_schedule(
        here.db, here.settings, user, enabled=enabled, interval_minutes=minutes, now=here.db.now_ms()
    )
    emit("schedule changed", user=shown.user.id, enabled=enabled, interval_minutes=minutes, new_user=new)
    tell(f"{shown.user.email}: {'on' if shown.schedule.enabled else 'off'}, {shown.schedule.interval_minutes} min")
    return shown, new


def asked_for(user: str | int) -> Shown:
    """Make a user due at once; raises Refused."""
    shown = run_now(user, resources().db.now_ms())
    emit("run asked for", user=shown.user.id)
    return shown


def let_go(user: str | int) -> bool:
    """Take a user out of whoever's hands; False: in none."""
    db = resources().db
    done = unlock_user(db, user, db.now_ms())
    if done:
        emit("user unlocked", user=show_schedule(user).user.id)
    return done


def interval(value: Any) -> int:
    """Minutes between two runs; raises Problem."""
    if type(value) is not int or not SHORTEST <= value <= LONGEST:
        what = f"interval_minutes must be a whole number of minutes from {SHORTEST} to {LONGEST}"
        raise Problem(400, "invalid", what, "interval_minutes")
    return value
