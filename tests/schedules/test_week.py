"""A simulated week: each user's runs equal the schedule's, none doubled, none missing beyond what is recorded."""

from __future__ import annotations

import pytest

from app.config import Settings
from app.db import Db
from app.schedules.times import MINUTE
from tests.schedules.week import CALM, Week

HOUR = 60 * MINUTE


def jumps(week: Week, hours: int) -> None:
    """So many hours, the clock jumping every now and then by minutes or hours."""
    for hour in range(hours):
        week.pass_minutes(60)
        if hour % 9 == 4:
            week.jump(week.chance.choice([-1, 1, 1]) * week.chance.choice([40_000, 3 * MINUTE, 50 * MINUTE, 5 * HOUR]))


def check(week: Week) -> None:
    rows = week.db.rows(
        "SELECT user_id, runs, skipped, overruns, interruptions, locked_by, period, next_run_at "
        "FROM user_monitor_schedules"
    )
    assert len(rows) == len(week.intervals)
    claims = dict.fromkeys(week.intervals, 0)
    for _, user in week.claims:
        claims[user] += 1
    for user, runs, skipped, overruns, _, locked_by, period, next_run_at in rows:
        assert (user, skipped + overruns + claims[user]) == (user, week.expected(user))
        # Every claim has become a run, but one that was lost and is not looked for yet.
        assert locked_by is None
        assert runs == claims[user]
        for instant in (period, next_run_at):
            assert instant is None or (instant - week.firsts[user]) % week.intervals[user] == 0
    assert week.doubled == []
    assert set(week.starts) == set(week.claims)
    interruptions = sum(row[4] for row in rows)
    assert week.finished + interruptions == len(week.starts)
    history = week.db.rows("SELECT status, COUNT(*) FROM schedule_runs GROUP BY status")
    assert dict(history) == {"ok": week.finished, "interrupted": interruptions}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_week_of_a_thousand_users(db: Db, settings: Settings) -> None:
    small = db.dialect == "mysql"  # there the same takes ten times as long
    if not small:
        db.run("PRAGMA synchronous = 0")
    forever = Settings(**{**settings.__dict__, "check_results_days": 3650})
    week = Week(db, forever, users=100 if small else 1000, seed=11, longest=120 if small else 1440)

    jumps(week, 24 if small else 7 * 24)
    week.chances = CALM
    week.pass_minutes(40)

    check(week)
    assert min(week.misfortunes.values()) > 0, "everything that can go wrong has"
    assert len(week.starts) > (5_000 if small else 40_000)


@pytest.mark.parametrize("seed", range(3))
def test_a_night_of_users_who_run_every_few_minutes(db: Db, settings: Settings, seed: int) -> None:
    if db.dialect == "sqlite":
        db.run("PRAGMA synchronous = 0")
    week = Week(db, settings, users=15, seed=seed, longest=5)
    jumps(week, 10)
    week.chances = CALM
    week.pass_minutes(40)
    check(week)
