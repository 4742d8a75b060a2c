"""What people see of schedules and change in them: on and off, the interval, run now, stuck locks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.config import Settings
from app.db import Db
from app.errors import Refused, UsageError
from app.instants import iso
from app.models.schedules import Schedule, ScheduleRun, ScheduleState, User
from app.schedules.claims import UNSTARTED, release
from app.schedules.document import ScheduleDocument, schedule_document
from app.schedules.sweep import PAGE, settle_interrupted, waiting_claims
from app.schedules.times import LONGEST, MINUTE, SHORTEST, Due, due_now, switched_on, with_interval
from app.schedules.users import find_or_add_user, find_user

#: Somebody else may change a schedule between our look and our UPDATE so many times.
TRIES = 20


@dataclass(frozen=True)
class Shown:
    """One user with his schedule."""

    user: User
    schedule: Schedule

    def document(self) -> ScheduleDocument:
        """What scripts read."""
        return schedule_document(self.user, self.schedule)


def show_schedule(said: str | int) -> Shown:
    """The user with this id or address; raises NotFound."""
    return _shown(find_user(said))


def list_schedules(limit: int, after: int = 0) -> list[Shown]:
    """Up to `limit` users behind this id, in the order of their ids."""
    users = list(User.select().where(User.id > after).order_by(User.id).limit(limit))
    schedules = {one.user_id: one for one in Schedule.select().where(Schedule.user_id.in_([u.id for u in users]))}
    return [Shown(user, schedules[user.id]) for user in users if user.id in schedules]


def recent_runs(user_id: int, limit: int) -> list[ScheduleRun]:
    """The runs of a user that ended last, the newest first."""
    chosen = ScheduleRun.select().where(ScheduleRun.user_id == user_id).order_by(ScheduleRun.id.desc()).limit(limit)
    return list(chosen)


def set_schedule(
    db: Db, settings: Settings, said: str | int, *, enabled: bool | None, interval_minutes: int | None, now: int
) -> tuple[Shown, bool]:
    """Change what is not None, and make the user when the address is new; the schedule, and whether he is new.

    Another interval counts from the last run. Switched off, a claim in the queue is given back; a run goes on to
    its end.
    """
    if interval_minutes is not None and not SHORTEST <= interval_minutes <= LONGEST:
        raise UsageError(
            f"interval_minutes={interval_minutes} is not allowed: whole minutes from {SHORTEST} to {LONGEST}"
        )
    user, new = find_or_add_user(db, said, interval_minutes or settings.default_interval_minutes, now)

    def change(one: Schedule) -> dict[str, Any]:
        minutes = interval_minutes or one.interval_minutes
        due = _due(one)
        if minutes != one.interval_minutes:
            due = with_interval(due, minutes * MINUTE, now, one.period)
        elif enabled and not one.enabled:
            due = switched_on(due, minutes * MINUTE, now, one.period)
        on = one.enabled if enabled is None else int(enabled)
        return {"enabled": on, "interval_minutes": minutes, "next_run_at": due.next_run_at, "rhythm_at": due.rhythm_at}

    _change(user.id, change)
    if enabled is False:
        _take_back(db, user.id)
    return _shown(user), new


def run_now(said: str | int, now: int) -> Shown:
    """Make a user due at once, beside his rhythm, which stays; raises Refused when he is off, waits or runs already."""
    user = find_user(said)

    def change(one: Schedule) -> dict[str, Any]:
        refuse_busy(user, one)
        due = due_now(_due(one), one.interval_minutes * MINUTE, now)
        return {"next_run_at": due.next_run_at, "rhythm_at": due.rhythm_at}

    _change(user.id, change)
    return _shown(user)


def refuse_busy(user: User, one: Schedule) -> None:
    """Raises Refused unless a run of this user may be asked for now."""
    if not one.enabled:
        raise Refused(f"the checks of {user.email} are off; bin/mailcrew schedules set {user.email} --on")
    if one.state is ScheduleState.QUEUED:
        raise Refused(f"{user.email} waits in the queue already, for its run of {iso(one.period)}")
    if one.state is ScheduleState.RUNNING:
        raise Refused(f"the checks of {user.email} are running, since {iso(one.last_run_at)}")


def unlock_user(db: Db, said: str | int, now: int) -> bool:
    """Take a user out of whoever's hands: his run counts as interrupted, his claim is given back; False: in none."""
    user = find_user(said)
    return bool(settle_interrupted(db, now, user.id) or _take_back(db, user.id))


def unlock_expired(db: Db, now: int) -> int:
    """Let go of all users whose lock has run out; how many. The next round of a dispatcher does this by itself."""
    done = settle_interrupted(db, now)
    while claims := waiting_claims(db, PAGE, before=now):
        given_back = sum(release(db, token, [claim.user_id for claim in mine]) for token, mine in claims.items())
        done += given_back
        if not given_back:
            break
    return done


def _take_back(db: Db, user_id: int) -> int:
    """Give back a claim that nobody has started; the period stays due."""
    token = db.value(
        f"SELECT locked_by FROM user_monitor_schedules WHERE user_id = ? AND locked_by IS NOT NULL AND {UNSTARTED}",
        user_id,
    )
    return release(db, token, [user_id]) if token else 0


def _change(user_id: int, change: Callable[[Schedule], dict[str, Any]]) -> None:
    """Write what `change` makes of the schedule as it is; once more when somebody wrote it meanwhile."""
    for _ in range(TRIES):
        one = Schedule.get_by_id(user_id)
        seen = (
            (Schedule.user_id == user_id)
            & (Schedule.enabled == one.enabled)
            & (Schedule.interval_minutes == one.interval_minutes)
            & (Schedule.next_run_at == one.next_run_at)
            & (Schedule.rhythm_at.is_null() if one.rhythm_at is None else Schedule.rhythm_at == one.rhythm_at)
        )
        if Schedule.update(**change(one)).where(seen).execute() == 1:
            return
    raise Refused("the schedule changes all the time; try again")


def _due(one: Schedule) -> Due:
    return Due(one.next_run_at, one.rhythm_at)


def _shown(user: User) -> Shown:
    return Shown(user, Schedule.get_by_id(user.id))
