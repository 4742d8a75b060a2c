"""/api/series and /api/scaling: figures over time."""

from __future__ import annotations

import pytest
from flask import Flask

from app.config import Settings
from app.db import Db
from app.mail.servers import add_server
from app.web.application import create_app
from app.web.series import LONGEST_MINUTES, MINUTE_MS, MOST_POINTS
from tests.sending import NOW, add_list, add_people, draft
from tests.web import Caller, caller, error_of

COLUMNS = "(server_id, minute, campaign_id, attempts, sent, failed, deferred, unknown)"


@pytest.fixture
def app(db: Db, settings: Settings) -> Flask:
    return create_app(settings, db=db)


@pytest.fixture
def reader(app: Flask) -> Caller:
    return caller(app, "read")


def deliver(db: Db, minute: int, campaign: int, sent: int, failed: int = 0, server: int = 1) -> None:
    row = (server, minute, campaign, sent + failed, sent, failed)
    db.run(f"INSERT INTO deliveries {COLUMNS} VALUES (?, ?, ?, ?, ?, ?, 0, 0)", *row)


def test_what_was_tried_each_minute_without_the_present_one(reader: Caller, db: Db) -> None:
    now = db.now_ms() // MINUTE_MS
    deliver(db, now - 3, 1, 10, 2)
    deliver(db, now - 3, 2, 5)
    deliver(db, now - 2, 1, 7)
    deliver(db, now + 1, 1, 999)
    deliver(db, now - 100, 1, 999)
    found = reader.get("/api/series/deliveries?minutes=10").get_json()
    assert found["step_seconds"] == 60
    assert len(found["times"]) in (10, 11), "the minute may have ended meanwhile"
    at = dict(zip(found["times"], zip(*found["series"].values(), strict=True), strict=True))
    # attempts, sent, failed, deferred, unknown
    assert at[(now - 3) * 60] == (17, 15, 2, 0, 0)
    assert at[(now - 2) * 60] == (7, 7, 0, 0, 0)
    assert sum(found["series"]["sent"]) == 22


def test_what_one_server_was_asked_alone(reader: Caller, db: Db) -> None:
    now = db.now_ms() // MINUTE_MS
    deliver(db, now - 3, 1, 10)
    deliver(db, now - 3, 1, 4, 1, server=2)
    deliver(db, now - 2, 2, 7, server=2)
    add_server(name="s", host="h", port=1, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 1))
    assert [draft(db, ["all"]) for _ in range(2)] == [1, 2]
    for path, sent in (("server=2", 11), ("server=2&campaign=2", 7), ("server=3", 0)):
        found = reader.get(f"/api/series/deliveries?minutes=10&{path}").get_json()
        assert sum(found["series"]["sent"]) == sent, path


def test_nothing_tried_is_nothing_to_draw(reader: Caller) -> None:
    found = reader.get("/api/series/deliveries").get_json()
    assert found["times"] == []
    assert set(found["series"]) == {"attempts", "sent", "failed", "deferred", "unknown"}


def test_a_long_time_has_longer_steps_and_the_same_sum(reader: Caller, db: Db) -> None:
    now = db.now_ms() // MINUTE_MS
    for minute in range(now - 3000, now - 10, 7):
        deliver(db, minute, 1, 3)
    found = reader.get("/api/series/deliveries?minutes=3001").get_json()
    assert len(found["times"]) <= MOST_POINTS + 1
    assert found["step_seconds"] == 540
    assert sum(found["series"]["sent"]) == 3 * len(range(now - 3000, now - 10, 7))
    steps = {later - earlier for earlier, later in zip(found["times"], found["times"][1:], strict=False)}
    assert steps == {540}


def test_one_campaign_is_drawn_from_its_beginning_to_its_end(reader: Caller, db: Db) -> None:
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 1))
    campaign, now = draft(db, ["all"]), db.now_ms() // MINUTE_MS
    deliver(db, now - 200, campaign, 4)
    deliver(db, now - 200, campaign + 1, 90)
    db.run(
        "UPDATE campaigns SET started_at = ?, finished_at = ? WHERE id = ?",
        (now - 200) * MINUTE_MS, (now - 198) * MINUTE_MS, campaign,
    )  # fmt: skip
    found = reader.get(f"/api/series/deliveries?campaign={campaign}").get_json()
    assert found["times"] == [minute * 60 for minute in range(now - 201, now - 196)]
    assert found["series"]["sent"] == [0, 4, 0, 0, 0]


@pytest.mark.parametrize("query", [f"minutes={LONGEST_MINUTES + 1}", "minutes=0", "minutes=x", "campaign=-1"])
def test_a_wrong_span_is_refused(reader: Caller, query: str) -> None:
    refused = reader.get(f"/api/series/deliveries?{query}")
    assert refused.status_code == 400
    assert error_of(refused)["field"] == query.partition("=")[0]


def test_a_campaign_that_is_not_there_is_not_drawn(reader: Caller) -> None:
    assert reader.get("/api/series/deliveries?campaign=9").status_code == 404


def test_who_has_it_already_does_not_get_it_again(reader: Caller) -> None:
    first = reader.get("/api/series/deliveries")
    again = reader.ask("GET", "/api/series/deliveries", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def decide(db: Db, at: int, queue: str, workers: int, target: int, backlog: int | None) -> None:
    db.run(
        "INSERT INTO scaling_decisions (at, host, queue, workers, target, backlog, reason) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        at, "h", queue, workers, target, backlog, f"backlog {backlog}",
    )  # fmt: skip


def test_decisions_are_listed_and_drawn(reader: Caller, db: Db) -> None:
    now = db.now_ms()
    decide(db, now - 7 * 3_600_000, "send", 1, 1, 5)
    for number in range(5):
        decide(db, now - (5 - number) * 1000, "send", number, number + 1, None if number == 2 else number * 100)
    decide(db, now, "mail", 9, 9, 9)
    listed = reader.get("/api/scaling?queue=send&limit=2")
    assert [(one["workers"], one["target"]) for one in listed.get_json()] == [(4, 5), (3, 4)]
    more = listed.headers["Link"].partition("<")[2].partition(">")[0]
    assert [one["reason"] for one in reader.get(more).get_json()] == ["backlog None", "backlog 100"]
    assert len(reader.get("/api/scaling").get_json()) == 7
    drawn = reader.get("/api/series/scaling?minutes=60").get_json()
    assert drawn["series"]["workers"] == [1, 2, 3, 4, 5]
    assert drawn["series"]["backlog"] == [0, 100, None, 300, 400]
    assert drawn["times"] == sorted(drawn["times"])
    assert len(drawn["notes"]) == 5
