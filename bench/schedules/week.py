"""A week of a thousand users in virtual time with every misfortune (`tests/schedules/week.py`): what is wrong then."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from bench import common, table
from bench.common import Place
from bench.table import Figure
from tests.schedules.week import CALM, Week, careless, check, jumps

USERS, SEED = 1000, 11


def week(place: Place, days: int, users: int) -> list[Figure]:
    """Ends with an AssertionError when somebody's runs are not those of his schedule."""
    began = time.monotonic()
    logging.disable(logging.WARNING)  # a line for each misfortune
    with careless(place.db):
        found = Week(place.db, replace(place.settings, check_results_days=3650), users=users, seed=SEED)
        for day in range(1, days + 1):
            jumps(found, 24)
            common.tell(f"{place.database}: day {day}, {len(found.starts):,} runs, {time.monotonic() - began:.0f} s")
        found.chances = CALM
        found.pass_minutes(40)
    check(found)
    skipped, overruns, interrupted = place.db.row(
        "SELECT SUM(skipped), SUM(overruns), SUM(interruptions) FROM user_monitor_schedules"
    ) or (0, 0, 0)
    details = (
        f"{len(found.starts):,} runs; {skipped:,} periods skipped, {overruns:,} overruns, {interrupted:,} interrupted; "
        + ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in sorted(found.misfortunes.items()))
    )
    what = f"{place.database}: {days} days of {users:,} users, doubled or missing"
    return [table.figure(what, [float(len(found.doubled))], bar=0, at_most=True, details=details)]
