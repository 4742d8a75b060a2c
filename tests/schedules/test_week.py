"""A simulated week: each user's runs equal the schedule's, none doubled, none missing beyond what is recorded."""

from __future__ import annotations

import pytest

from app.config import Settings
from app.db import Db
from tests.schedules.week import CALM, Week, careless, check, jumps


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_week_of_a_thousand_users(db: Db, settings: Settings) -> None:
    small = db.dialect == "mysql"  # there the same takes ten times as long: python -m bench.schedules --week
    forever = Settings(**{**settings.__dict__, "check_results_days": 3650})
    with careless(db):
        week = Week(db, forever, users=100 if small else 1000, seed=11, longest=120 if small else 1440)

        jumps(week, 24 if small else 7 * 24)
        week.chances = CALM
        week.pass_minutes(40)

    check(week)
    assert min(week.misfortunes.values()) > 0, "everything that can go wrong has"
    assert len(week.starts) > (5_000 if small else 40_000)


@pytest.mark.parametrize("seed", range(3))
def test_a_night_of_users_who_run_every_few_minutes(db: Db, settings: Settings, seed: int) -> None:
    with careless(db):
        week = Week(db, settings, users=15, seed=seed, longest=5)
        jumps(week, 10)
        week.chances = CALM
        week.pass_minutes(40)
    check(week)


def test_nobody_misses_a_period_while_all_goes_well(db: Db, settings: Settings) -> None:
    with careless(db):
        week = Week(db, settings, users=30, seed=4, longest=30)
        week.chances = CALM
        week.pass_minutes(180)
    check(week)
    counted = week.db.row(
        "SELECT SUM(runs), SUM(skipped), SUM(overruns), SUM(interruptions) FROM user_monitor_schedules"
    )
    assert counted == (sum(week.expected(user) for user in week.intervals), 0, 0, 0)
