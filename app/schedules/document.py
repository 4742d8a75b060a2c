"""What scripts read of schedules, runs and dispatches. Instants in ISO 8601, UTC."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from app.instants import iso
from app.models.schedules import Schedule, ScheduleRun, User


class UserDocument(TypedDict):
    """A user."""

    id: int
    email: str
    name: str


class ScheduleDocument(TypedDict):
    """A user's schedule. `state`: off, idle, queued or running; the last four count since the user was made."""

    user: UserDocument
    enabled: bool
    interval_minutes: int
    state: str
    next_run_at: str | None
    last_run_at: str | None
    last_status: str | None
    last_error: str | None
    last_duration_ms: int | None
    locked_until: str | None
    runs: int
    skipped: int
    overruns: int
    interruptions: int


class RunDocument(TypedDict):
    """A run that has ended: what it was for, when it began and how late that was, how it ended."""

    due_at: str | None
    started_at: str | None
    lag_ms: int
    duration_ms: int
    status: str
    error: str | None
    checks: int


class ResultDocument(TypedDict):
    """A run that this call has made. `lag_ms`: how late it began."""

    user: str
    status: str
    error: str | None
    duration_ms: int
    checks: int
    lag_ms: int


class QueueDocument(TypedDict):
    """Users who wait in the queue, and users whose runs are going."""

    waiting: int
    active: int


class DispatchDocument(TypedDict):
    """`users`: the addresses this call has claimed. `result` for one user, `results` in sync mode."""

    mode: str
    dispatched: int
    users: list[str]
    errors: list[str]
    duration_ms: int
    queue: QueueDocument
    result: NotRequired[ResultDocument]
    results: NotRequired[list[ResultDocument]]


def schedule_document(user: User, one: Schedule) -> ScheduleDocument:
    """What is known of a user's schedule."""
    return {
        "user": {"id": user.id, "email": user.email, "name": user.name},
        "enabled": bool(one.enabled),
        "interval_minutes": one.interval_minutes,
        "state": one.state.value,
        "next_run_at": iso(one.next_run_at),
        "last_run_at": iso(one.last_run_at),
        "last_status": one.last_status,
        "last_error": one.last_error,
        "last_duration_ms": one.last_duration_ms,
        "locked_until": iso(one.locked_until),
        "runs": one.runs,
        "skipped": one.skipped,
        "overruns": one.overruns,
        "interruptions": one.interruptions,
    }


def run_document(run: ScheduleRun) -> RunDocument:
    """What is known of a run that has ended."""
    return {
        "due_at": iso(run.period),
        "started_at": iso(run.started_at),
        "lag_ms": run.started_at - run.period,
        "duration_ms": run.duration_ms,
        "status": run.status,
        "error": run.error,
        "checks": run.checks,
    }
