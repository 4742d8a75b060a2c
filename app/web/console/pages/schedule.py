"""One user: the schedule, the targets, what the last runs came to."""

from __future__ import annotations

from typing import Any

from flask import Response, make_response, request

from app.errors import UsageError
from app.models.schedules import Schedule, ScheduleState
from app.schedules.checks.board import board, last_outages
from app.schedules.search import late_ms
from app.schedules.store import recent_runs, show_schedule
from app.schedules.times import LONGEST, MINUTE, SHORTEST, Due, after_claim, due_now
from app.web.campaigns import LARGEST_ID
from app.web.console.page import Page, render
from app.web.console.pages.schedules import minutes_of
from app.web.errors import Problem
from app.web.latencies import hours_of, plotted
from app.web.resources import resources
from app.web.schedules import asked_for, changed, let_go

page = Page("schedule", under="schedules")

PATH = f"/schedules/<int(max={LARGEST_ID}):user_id>"
#: Days in the strip of each target; runs and outages shown.
DAYS = 30
RUNS = 10
OUTAGES = 8
#: The lines of the plot, in this order: colours of plots.
COLOURS = ("blue", "violet", "warn", "good", "bad", "soft")


@page.live(PATH)
def look(user_id: int) -> dict[str, Any]:
    db = resources().db
    now, shown = db.now_ms(), show_schedule(user_id)
    lines = board(db, shown.user.id, DAYS, now)
    one, targets = shown.schedule, [line.target for line in lines]
    return {
        "now": now,
        "user": shown.user,
        "one": one,
        "late": late_ms(one, now),
        "expired": one.state is ScheduleState.RUNNING and one.locked_until is not None and one.locked_until < now,
        "rhythm": _after_a_run_now(one, now),
        "lines": lines,
        "plotted": [(str(x.id), x.wanted.name, colour) for x, colour in zip(plotted(targets), COLOURS, strict=False)],
        "hours": hours_of(one),
        "outages": last_outages(db, targets, OUTAGES),
        "runs": recent_runs(shown.user.id, RUNS),
        "shortest": SHORTEST,
        "longest": LONGEST,
    }


def _after_a_run_now(one: Schedule, now: int) -> int:
    """When the run after one that is asked for now would be; ms since 1970."""
    interval = one.interval_minutes * MINUTE
    asked = due_now(Due(one.next_run_at, one.rhythm_at), interval, now)
    return after_claim(asked, interval, now).due.next_run_at


@page.post(f"{PATH}/run")
def run(user_id: int) -> Response:
    asked_for(user_id)
    return _back(user_id, "schedule.was_asked")


@page.post(f"{PATH}/unlock")
def unlock(user_id: int) -> Response:
    return _back(user_id, "schedule.was_unlocked" if let_go(user_id) else "schedule.was_free")


@page.post(f"{PATH}/switch")
def switch(user_id: int) -> Response:
    on = switched_to(request.form.get("enabled", ""))
    changed(user_id, on, None)
    return _back(user_id, "schedule.was_on" if on else "schedule.was_off")


@page.post(f"{PATH}/interval")
def every(user_id: int) -> Response:
    said = request.form.get("interval_minutes", "")
    try:
        minutes = minutes_of(said)
    except Problem as problem:
        drawn = render(
            "schedule.html", user_id=user_id, **look(user_id), said_every=said, wrong={problem.field: str(problem)},
            live_url=f"/schedules/{user_id}/live", live_tag="", page_name=page.name,
        )  # fmt: skip
        return make_response(drawn, problem.status)
    changed(user_id, None, minutes)
    return _back(user_id, "schedule.was_set", n=minutes)


def switched_to(said: str) -> bool:
    """On or off, from a form; raises UsageError."""
    if said not in ("0", "1"):
        raise UsageError(f"enabled={said!r} is not possible: 1 for on, 0 for off")
    return said == "1"


def _back(user_id: int, word: str, **values: object) -> Response:
    return page.done(f"/schedules/{user_id}", word, **values)
