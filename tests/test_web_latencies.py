"""How fast targets answered, as plots draw it: steps that are the same for all, nothing made up."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from app.config import Settings
from app.db import Db
from app.schedules.checks.history import MOST_POINTS
from app.schedules.store import set_schedule
from app.web.application import create_app
from app.web.latencies import MOST_HOURS, MOST_LINES
from tests.checks.targets import MINUTE, add_http, add_user
from tests.web import Caller, caller, error_of


@pytest.fixture
def app(db: Db, settings: Settings) -> Flask:
    return create_app(settings, db=db)


@pytest.fixture
def reader(app: Flask) -> Caller:
    return caller(app, "read")


def note(db: Db, target_id: int, at: int, latency: int = 50, ok: int = 1) -> None:
    db.run(
        "INSERT INTO check_results (target_id, at, ok, latency_ms) VALUES (?, ?, ?, ?)", target_id, at, ok, latency
    )  # fmt: skip


def plot(reader: Caller, path: str) -> dict[str, Any]:
    answer = reader.get(f"/api/schedules/{path}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.get_json()
    assert {len(values) for values in found["series"].values()} <= {len(found["times"])}
    return found


def test_a_check_every_interval_makes_a_line_without_gaps(db: Db, reader: Caller) -> None:
    """However late within its minute a run begins."""
    user = add_user(db)
    target = add_http(db, user, "http://x.test/")
    begin = (db.now_ms() // MINUTE - 200 * 5) * MINUTE
    for number in range(200):
        note(db, target, begin + number * 5 * MINUTE + number * 7919 % 59_000, 40 + number % 2 * 20)
    found = plot(reader, f"{user}/targets/latencies")
    (line,) = found["series"].values()
    assert found["step_seconds"] == 600
    assert 90 <= len(line) <= 102
    assert None not in line[1:-1]
    assert set(line[1:-1]) == {50.0}
    assert {later - now for now, later in zip(found["times"], found["times"][1:], strict=False)} == {600}


def test_a_failure_is_a_gap_and_the_mean_is_of_the_good_ones(db: Db, reader: Caller) -> None:
    user = add_user(db)
    target = add_http(db, user, "http://x.test/")
    step = 10 * MINUTE
    begin = (db.now_ms() // step - 9) * step
    for number, (latency, ok) in enumerate(
        [(10, 1), (9000, 0), (20, 1), (40, 1), (9000, 0), (9000, 0), (60, 1), (80, 1)]
    ):
        note(db, target, begin + number * 5 * MINUTE, latency, ok)
    found = plot(reader, f"{user}/targets/{target}/latencies")
    assert found["series"]["mean"][:4] == [10.0, 30.0, None, 70.0]
    assert found["series"]["slowest"][:4] == [10, 40, None, 80]
    assert found["times"][0] * 1000 == begin, "it begins with the first check"


def test_some_targets_share_a_plot_and_each_has_its_own(db: Db, reader: Caller) -> None:
    user = add_user(db)
    ids = [add_http(db, user, "http://x.test/", name=f"n{9 - number}") for number in range(MOST_LINES + 1)]
    for number, target in enumerate(ids):
        note(db, target, db.now_ms() - number * MINUTE, 10 * number)
    found = plot(reader, f"{user}/targets/latencies")
    assert list(found["series"]) == [str(target) for target in sorted(ids, reverse=True)[:MOST_LINES]], "by name"
    for number, target in enumerate(ids):
        alone = plot(reader, f"{user}/targets/{target}/latencies")["series"]["mean"]
        assert [one for one in alone if one is not None] == [10.0 * number]


@pytest.mark.parametrize(("interval", "hours"), [(1, 24), (5, 24), (60, 200), (1440, 30 * 24)])
def test_rare_runs_are_shown_over_a_longer_time(
    db: Db, settings: Settings, reader: Caller, interval: int, hours: int
) -> None:
    user = add_user(db)
    set_schedule(db, settings, user, enabled=None, interval_minutes=interval, now=db.now_ms())
    target = add_http(db, user, "http://x.test/")
    step = max(2 * interval, -(-hours * 60 // MOST_POINTS)) * MINUTE
    first = db.now_ms() - hours * 60 * MINUTE + 2 * step
    note(db, target, first, 7)
    note(db, target, first - 3 * step, 9)
    found = plot(reader, f"{user}/targets/latencies")["series"][str(target)]
    assert [one for one in found if one is not None] == [7.0]
    assert len(found) <= MOST_POINTS
    assert found[0] == 7.0


def test_without_a_check_there_is_nothing_to_draw(db: Db, reader: Caller) -> None:
    user = add_user(db)
    assert plot(reader, f"{user}/targets/latencies")["times"] == []
    add_http(db, user, "http://x.test/")
    assert plot(reader, f"{user}/targets/latencies")["times"] == []


def test_who_has_the_plot_already_is_not_sent_it_again(db: Db, reader: Caller) -> None:
    user = add_user(db)
    note(db, add_http(db, user, "http://x.test/"), db.now_ms() - MINUTE)
    path = f"/api/schedules/{user}/targets/latencies"
    tag = reader.get(path).headers["ETag"]
    assert reader.ask("GET", path, headers={"If-None-Match": tag}).status_code == 304


@pytest.mark.parametrize("hours", ["0", "-1", "x", str(MOST_HOURS + 1)])
def test_an_odd_span_is_refused(db: Db, reader: Caller, hours: str) -> None:
    user = add_user(db)
    answer = reader.get(f"/api/schedules/{user}/targets/latencies?hours={hours}")
    assert (answer.status_code, error_of(answer)["field"]) == (400, "hours")


def test_the_target_of_somebody_else_is_not_there(db: Db, reader: Caller) -> None:
    mine, other = add_user(db), add_user(db, "else@example.test")
    target = add_http(db, other, "http://x.test/")
    assert reader.get(f"/api/schedules/{mine}/targets/{target}/latencies").status_code == 404
    assert reader.get("/api/schedules/99/targets/latencies").status_code == 404
