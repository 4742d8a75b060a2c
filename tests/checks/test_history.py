"""What pages show of a target, and what is removed when it has been kept long enough."""

from __future__ import annotations

import threading
from datetime import date

import pytest

from app.db import Db
from app.schedules.checks import tidying
from app.schedules.checks.history import MOST_POINTS, Day, latencies, outages, recent, uptime
from app.schedules.checks.recording import DAY_MS
from app.schedules.checks.store import remove_target
from app.schedules.checks.tidying import DAYS_KEPT, tidy
from tests.checks.site import http
from tests.checks.targets import MINUTE, add, add_user, results

#: The last millisecond of 2026-09-21, UTC.
NOW = 1_790_035_200_000 - 1
assert (NOW + 1) % DAY_MS == 0


@pytest.fixture
def target(db: Db) -> int:
    made = add(db, add_user(db), http("https://shop.example/", name="shop"))
    db.run("UPDATE targets SET tidied_at = ?", NOW)
    return made


def fill(db: Db, target: int, count: int, last: int = NOW, step: int = 5 * MINUTE) -> None:
    """So many results up to `last`, every tenth a failure, with their days."""
    rows = [
        (target, last - i * step, int(i % 10 != 0), 100 + i % 7, 200, None if i % 10 else "refused")
        for i in range(count)
    ]
    db.run_many("INSERT INTO check_results (target_id, at, ok, latency_ms, status_code, error)", rows)
    days: dict[int, list[int]] = {}
    for _, at, ok, latency, *_ in rows:
        day = days.setdefault(at // DAY_MS, [0, 0, 0, 0])
        day[0] += 1
        day[1] += 1 - ok
        day[2] += ok * latency
        day[3] = max(day[3], ok * latency)
    db.run_many(
        "INSERT INTO check_days (target_id, day, checks, failures, latency_sum, latency_max)",
        [(target, day, *sums) for day, sums in days.items()],
    )


def test_uptime_has_every_day_also_those_without_checks(db: Db, target: int) -> None:
    fill(db, target, 400)
    days = uptime(db, target, 90, now=NOW)
    assert len(days) == 90
    assert days[0] == Day(date(2026, 6, 24), 0, 0, None, None)
    assert days[0].uptime is None
    assert [day.day for day in days[-2:]] == [date(2026, 9, 20), date(2026, 9, 21)]
    assert [day.checks for day in days[-3:]] == [0, 112, 288]
    assert days[-1].failures == 29
    assert days[-1].uptime == pytest.approx(1 - 29 / 288)
    assert 100 <= (days[-1].latency_ms or 0) <= 106


def test_latencies_are_as_many_points_as_a_plot_can_show(db: Db, target: int) -> None:
    fill(db, target, 8640)
    since = NOW - 30 * DAY_MS + 1
    points = latencies(db, target, since, now=NOW)
    assert len(points) == MOST_POINTS
    assert sum(point.checks for point in points) == 8640
    assert sum(point.failures for point in points) == 864
    assert [point.at for point in points] == sorted({point.at for point in points})
    assert all(point.latency_ms and 100 <= point.latency_ms <= (point.slowest_ms or 0) <= 106 for point in points)


def test_a_short_time_has_a_point_for_each_result(db: Db, target: int) -> None:
    fill(db, target, 12)
    points = latencies(db, target, NOW - 60 * MINUTE, now=NOW)
    assert [(point.checks, point.failures) for point in points] == [(1, int(i % 10 == 0)) for i in range(11, -1, -1)]
    assert points[-1].latency_ms is None, "a failure has no latency to plot"
    assert latencies(db, target, NOW + 1, now=NOW) == []


def test_the_last_results_come_page_by_page(db: Db, target: int) -> None:
    fill(db, target, 30)
    first = recent(db, target, 10)
    assert [result.at for result in first] == [NOW - i * 5 * MINUTE for i in range(10)]
    assert (first[0].ok, first[0].error, first[1].ok, first[1].error) == (False, "refused", True, None)
    second = recent(db, target, 10, before=first[-1].at)
    assert [result.at for result in second] == [NOW - i * 5 * MINUTE for i in range(10, 20)]


def test_results_go_after_their_days_and_the_sums_stay(db: Db, target: int) -> None:
    fill(db, target, 40 * 24, step=60 * MINUTE)
    db.run("UPDATE targets SET tidied_at = 0")
    assert tidy(db, NOW, 30) == 10 * 24 - 1
    assert min(at for at, _ in results(db, target)) == NOW - 30 * DAY_MS
    assert sum(day.checks for day in uptime(db, target, 90, now=NOW)) == 40 * 24
    assert tidy(db, NOW + DAY_MS - 1, 30) == 0, "once a day"
    assert tidy(db, NOW + DAY_MS + 1, 30) == 25


def test_days_and_outages_go_too_but_not_one_that_goes_on(db: Db, target: int) -> None:
    old = NOW - (DAYS_KEPT + 1) * DAY_MS
    fill(db, target, 1, last=old)
    rows = [(target, old, old + 5, "x"), (target, old + 9, None, "y"), (target, NOW - 5, NOW - 1, "z")]
    db.run_many("INSERT INTO target_outages (target_id, began_at, ended_at, reason)", rows)
    db.run("UPDATE targets SET tidied_at = 0")
    tidy(db, NOW, 3650)
    assert db.rows("SELECT day FROM check_days") == []
    assert [outage.reason for outage in outages(db, target)] == ["z", "y"]


def test_a_removed_target_leaves_nothing_and_others_lose_nothing(
    db: Db, target: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidying, "CHUNK", 7)
    user = add_user(db)
    gone = add(db, user, http("https://gone.example/"))
    db.run("UPDATE targets SET tidied_at = ?", NOW)
    for one in (target, gone):
        fill(db, one, 50)
    db.run("INSERT INTO target_outages (target_id, began_at, reason) VALUES (?, 1, 'x')", gone)
    remove_target(db, gone, NOW)
    assert tidy(db, NOW, 30) == 50
    for table in ("check_results", "check_days", "target_outages", "removed_targets"):
        assert db.value(f"SELECT COUNT(*) FROM {table} WHERE target_id = ?", gone) == 0
    assert len(results(db, target)) == 50
    assert tidy(db, NOW, 30) == 0


def test_no_statement_removes_more_than_a_chunk(db: Db, target: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidying, "CHUNK", 7)
    fill(db, target, 50)
    db.run("UPDATE targets SET tidied_at = 0")
    removed: list[int] = []
    run = db.run

    def counting(sql: str, *params: object) -> int:
        count = run(sql, *params)
        if "check_results" in sql:
            removed.append(count)
        return count

    monkeypatch.setattr(db, "run", counting)
    assert tidy(db, NOW + 100 * DAY_MS, 30) == 50
    assert removed == [7] * 7 + [1]


def test_what_the_time_does_not_suffice_for_is_left(db: Db, target: int) -> None:
    fill(db, target, 50)
    db.run("UPDATE targets SET tidied_at = 0")
    stop = threading.Event()
    stop.set()
    assert tidy(db, NOW + 100 * DAY_MS, 30, seconds=0) == 0
    assert tidy(db, NOW + 100 * DAY_MS, 30, stop=stop) == 0
    assert tidy(db, NOW + 100 * DAY_MS, 30) == 50
