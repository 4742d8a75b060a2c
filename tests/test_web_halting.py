"""POST /api/campaigns/ID/pause, resume and cancel."""

from __future__ import annotations

import pytest
from flask import Flask

from app.campaigns.batches import lease_next, new_token
from app.campaigns.lifecycle import find_campaign
from app.config import Settings
from app.db import Db
from app.mail.servers import add_server
from app.models.tables import Batch
from app.web import halting
from app.web.application import create_app
from tests.sending import NOW, add_list, add_people, draft, expand, start
from tests.web import caller, error_of


@pytest.fixture
def app(db: Db, settings: Settings) -> Flask:
    return create_app(settings, db=db)


@pytest.fixture
def campaign(db: Db, settings: Settings) -> int:
    """A campaign being sent to 150 people."""
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 150))
    campaign_id = draft(db, ["all"])
    start(db, campaign_id)
    expand(db, settings, campaign_id)
    return campaign_id


def test_a_campaign_is_paused_resumed_and_cancelled(db: Db, app: Flask, campaign: int) -> None:
    sender, at = caller(app, "send"), f"/api/campaigns/{campaign}"
    for verb, said in (
        ("pause", {"status": "paused", "changed": True, "in_hand": 0}),
        ("pause", {"status": "paused", "changed": False, "in_hand": 0}),
        ("resume", {"status": "sending", "changed": True}),
        ("resume", {"status": "sending", "changed": False}),
        ("cancel", {"status": "cancelled", "changed": True, "in_hand": 0}),
        ("cancel", {"status": "cancelled", "changed": False, "in_hand": 0}),
    ):
        response = sender.ask("POST", f"{at}/{verb}")
        assert (response.status_code, response.get_json()) == (200, {"id": campaign, **said})
        assert find_campaign(campaign).status == said["status"]
    assert db.rows("SELECT state, COUNT(*) FROM recipients GROUP BY state") == [("skipped", 150)]


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_what_workers_have_in_hand_is_said(
    db: Db, app: Flask, campaign: int, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(halting, "QUIET_SECONDS", 0.05)
    assert lease_next(db, token=new_token(), journal="j", only=None, now=db.now_ms(), monotonic=0.0, lease_seconds=30)
    response = caller(app, "send").ask("POST", f"/api/campaigns/{campaign}/{verb}")
    assert (response.status_code, response.get_json()["in_hand"]) == (202, 100)
    assert Batch.select().where(Batch.state == "leased").count() == 1


def test_what_is_not_possible_is_refused(app: Flask, campaign: int) -> None:
    sender = caller(app, "send")
    sender.ask("POST", f"/api/campaigns/{campaign}/cancel")
    response = sender.ask("POST", f"/api/campaigns/{campaign}/resume")
    assert (response.status_code, error_of(response)["code"]) == (409, "refused")
    assert "cancelled" in error_of(response)["message"]
    assert sender.ask("POST", "/api/campaigns/77/pause").status_code == 404
    assert sender.ask("GET", f"/api/campaigns/{campaign}/pause").status_code == 405


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel"])
def test_looking_is_not_enough(app: Flask, campaign: int, verb: str) -> None:
    assert caller(app, "read").ask("POST", f"/api/campaigns/{campaign}/{verb}").status_code == 403
    assert find_campaign(campaign).status == "sending"
