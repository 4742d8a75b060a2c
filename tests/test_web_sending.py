"""POST /api/campaigns/ID/schedule and boost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from flask import Flask

from app.campaigns.lifecycle import find_campaign
from app.config import Settings
from app.db import Db
from app.instants import parse_instant
from app.mail.servers import add_server
from app.web.application import create_app
from tests.home_stack import HomeStack, home_stack
from tests.sending import NOW, add_list, add_people, draft, expand, start
from tests.web import caller, error_of
from tests.working import eventually

TABLE = '[[queue]]\nname = "send"\nprocesses = 0\nthreads = 2\ntimeout = 20\npoll = 0.1\nmemory = 512\n'


@pytest.fixture
def app(db: Db, settings: Settings) -> Flask:
    return create_app(settings, db=db)


@pytest.fixture
def campaign(db: Db) -> int:
    """A draft to 50 people."""
    # Nobody listens there, so nothing is ever sent.
    add_server(name="sink", host="127.0.0.1", port=1, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 50))
    return draft(db, ["all"])


def test_a_draft_is_scheduled_for_a_time_moved_and_then_sent_at_once(app: Flask, db: Db, campaign: int) -> None:
    sender, at = caller(app, "send"), f"/api/campaigns/{campaign}/schedule"
    for said, instant in (
        ("2090-01-02T03:04:05+08:00", "2090-01-01T19:04:05+00:00"),
        ("2091-01-01T00:00:00Z", "2091-01-01T00:00:00+00:00"),
    ):
        answer = sender.post(at, {"at": said}).get_json()
        assert answer == {"id": campaign, "status": "scheduled", "scheduled_at": instant}
        assert find_campaign(campaign).scheduled_at == parse_instant(said, "at")
    assert sender.post(at, {}).get_json()["status"] == "scheduled"
    assert abs((find_campaign(campaign).scheduled_at or 0) - db.now_ms()) < 60_000


@pytest.mark.parametrize(
    "at", ["tomorrow", "2090-01-02T03:04:05", "1969-01-01T00:00:00Z", "9999-12-31T23:59:59Z", 5, [], True]
)
def test_a_time_that_is_none_is_refused(app: Flask, campaign: int, at: object) -> None:
    refused = caller(app, "send").post(f"/api/campaigns/{campaign}/schedule", {"at": at})
    assert refused.status_code == 400
    assert "at" in error_of(refused)["message"]
    assert find_campaign(campaign).status == "draft"


def test_what_cannot_be_scheduled_says_why(app: Flask, campaign: int) -> None:
    sender = caller(app, "send")
    assert sender.post("/api/campaigns/99/schedule", {}).status_code == 404
    start_at_once = sender.post(f"/api/campaigns/{campaign}/schedule", {})
    assert start_at_once.status_code == 200
    sender.ask("POST", f"/api/campaigns/{campaign}/cancel")
    refused = sender.post(f"/api/campaigns/{campaign}/schedule", {})
    assert refused.status_code == 409
    assert "only a draft" in error_of(refused)["message"]


@pytest.mark.parametrize("workers", [-1, 1001, "2", None, True, 1.5])
def test_a_wrong_number_of_workers_is_refused(app: Flask, campaign: int, workers: object) -> None:
    refused = caller(app, "send").post(f"/api/campaigns/{campaign}/boost", {"workers": workers})
    assert refused.status_code == 400
    assert error_of(refused)["field"] == "workers"


def test_who_has_nothing_to_send_gets_no_workers(app: Flask, campaign: int) -> None:
    sender = caller(app, "send")
    refused = sender.post(f"/api/campaigns/{campaign}/boost", {"workers": 2})
    assert refused.status_code == 409
    assert "it is a draft" in error_of(refused)["message"]
    assert sender.post("/api/campaigns/99/boost", {"workers": 0}).status_code == 404


def test_without_supervisord_a_boost_ends_and_none_begins(
    app: Flask, db: Db, settings: Settings, campaign: int
) -> None:
    start(db, campaign)
    expand(db, settings, campaign)
    db.run("UPDATE campaigns SET boost = 3")
    sender = caller(app, "send")
    refused = sender.post(f"/api/campaigns/{campaign}/boost", {"workers": 2})
    assert refused.status_code == 503
    assert "supervisord" in error_of(refused)["message"]
    ended = sender.post(f"/api/campaigns/{campaign}/boost", {"workers": 0})
    assert ended.get_json() == {"id": campaign, "workers": 0, "running": 0, "started": [], "leaving": []}
    assert find_campaign(campaign).boost == 0


@pytest.fixture
def stack(short_directory: Path, database_url: str, redis_server: str, db: Db) -> Iterator[HomeStack]:
    url = f"{redis_server}?db=13"
    redis.Redis.from_url(url).flushdb()
    with home_stack(short_directory, TABLE, DATABASE_URL=database_url, REDIS_URL=url) as stack:
        stack.run("supervisor-manager", "start")
        yield stack


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_workers_of_its_own_come_and_go(stack: HomeStack, db: Db, campaign: int) -> None:
    start(db, campaign)
    expand(db, stack.settings, campaign)
    sender = caller(create_app(stack.settings, db=db), "send")
    said = sender.post(f"/api/campaigns/{campaign}/boost", {"workers": 2}).get_json()
    assert (said["workers"], len(said["started"])) == (2, 2)
    eventually(lambda: len(stack.pgrep(f"--queues campaign_{campaign} ")) == 2, "two workers of its own")
    said = sender.post(f"/api/campaigns/{campaign}/boost", {"workers": 0}).get_json()
    assert len(said["leaving"]) == 2
    eventually(lambda: not stack.pgrep(f"--queues campaign_{campaign} "), "they have gone")
    assert find_campaign(campaign).boost == 0
