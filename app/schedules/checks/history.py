"""What pages show of a target: uptime by day, latencies to plot, the last results, the outages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

from app.db import Db
from app.schedules.checks.recording import DAY_MS

#: Points of a plot.
MOST_POINTS = 300


@dataclass(frozen=True)
class Day:
    """A day (UTC) of checks; `latency_ms` is the mean of the good ones, None without any."""

    day: date
    checks: int
    failures: int
    latency_ms: float | None
    slowest_ms: int | None

    @property
    def uptime(self) -> float | None:
        """The part of the checks that was good, from 0 to 1; None for a day without checks."""
        return (self.checks - self.failures) / self.checks if self.checks else None


@dataclass(frozen=True)
class Point:
    """The checks of a stretch of time that begins at `at` (ms); `latency_ms` is the mean of the good ones."""

    at: int
    checks: int
    failures: int
    latency_ms: float | None
    slowest_ms: int | None


@dataclass(frozen=True)
class Result:
    """One check, as it was recorded."""

    at: int
    ok: bool
    latency_ms: int
    status_code: int | None
    error: str | None


@dataclass(frozen=True)
class Outage:
    """From the first failure to the first success after it, in ms; `ended_at` None: it goes on."""

    began_at: int
    ended_at: int | None
    reason: str


def uptime(db: Db, target_id: int, days: int, *, now: int) -> list[Day]:
    """Each of the last `days` days up to today, the oldest first, those without checks too. Reads a row a day."""
    last = now // DAY_MS
    rows = db.rows(
        "SELECT day, checks, failures, latency_sum, latency_max FROM check_days "
        "WHERE target_id = ? AND day > ? AND day <= ?",
        target_id, last - days, last,
    )  # fmt: skip
    found = {int(row[0]): row for row in rows}
    return [day_of(number, found.get(number)) for number in range(last - days + 1, last + 1)]


def latencies(db: Db, target_id: int, since: int, *, now: int, points: int = MOST_POINTS) -> list[Point]:
    """The results from `since` (ms) to now, put together to at most `points` stretches; empty ones are left out."""
    stretch = max(1, -(-(now + 1 - since) // points))
    rows = db.rows(
        f"SELECT (at - ?) {db.div} ? AS stretch, COUNT(*), SUM(1 - ok), SUM(ok * latency_ms), MAX(ok * latency_ms) "
        "FROM check_results WHERE target_id = ? AND at >= ? AND at <= ? GROUP BY stretch ORDER BY stretch",
        since, stretch, target_id, since, now,
    )  # fmt: skip
    return [Point(since + int(row[0]) * stretch, *_sums(*row[1:])) for row in rows]


def recent(db: Db, target_id: int, count: int = 50, before: int = 2**63 - 1) -> list[Result]:
    """The last `count` results before an instant (ms), the newest first."""
    rows = db.rows(
        "SELECT at, ok, latency_ms, status_code, error FROM check_results WHERE target_id = ? AND at < ? "
        "ORDER BY at DESC LIMIT ?",
        target_id, before, count,
    )  # fmt: skip
    return [Result(at, bool(ok), latency, status, error) for at, ok, latency, status, error in rows]


def outages(db: Db, target_id: int, count: int = 20) -> list[Outage]:
    """The last `count` outages, the newest first."""
    rows = db.rows(
        "SELECT began_at, ended_at, reason FROM target_outages WHERE target_id = ? ORDER BY began_at DESC LIMIT ?",
        target_id, count,
    )  # fmt: skip
    return [Outage(*row) for row in rows]


def day_of(number: int, row: tuple[int, ...] | None) -> Day:
    """A day by its number since 1970, from its row of check_days from `day` on; without a row, a day without checks."""
    day = datetime.fromtimestamp(number * DAY_MS / 1000, UTC).date()
    return Day(day, *_sums(*row[1:])) if row else Day(day, 0, 0, None, None)


def _sums(checks: int, failures: int, latency_sum: int, latency_max: int) -> tuple[int, int, float | None, int | None]:
    """Counts, and the latency of the good ones; MySQL gives sums as decimals."""
    good = int(checks) - int(failures)
    return int(checks), int(failures), int(latency_sum) / good if good else None, int(latency_max) if good else None
