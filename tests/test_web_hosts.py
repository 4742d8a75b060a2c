"""/api/hosts and where the page of workers shows them: what is in hand on a host that never comes back."""

from __future__ import annotations

import pytest
from flask import Flask

from app.campaigns.batches import lease_next, new_token
from app.campaigns.hosts import hosts_at_work
from app.campaigns.journal import host_name
from app.campaigns.lifecycle import find_campaign
from app.campaigns.progress import progress_of
from app.config import Settings
from app.db import Db
from app.instants import iso
from app.mail.servers import add_server
from app.web.application import create_app
from tests.console import logged_in
from tests.sending import NOW, add_list, add_people, draft, expand, start
from tests.web import caller, error_of


@pytest.fixture
def app(db: Db, settings: Settings) -> Flask:
    return create_app(settings, db=db)


@pytest.fixture
def campaign(db: Db, settings: Settings) -> int:
    """Ten people, five of whom a host called mail-3 has in hand, five this one."""
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 10))
    campaign_id = draft(db, ["all"])
    start(db, campaign_id)
    expand(db, Settings(**{**settings.__dict__, "send_batch_size": 5}), campaign_id)
    for host in ("mail-3", host_name()):
        journal = f"{host}~0badb007~4711~00000000abcd.journal"
        leased = lease_next(
            db, token=new_token(), journal=journal, only=None, now=db.now_ms(), monotonic=0.0, lease_seconds=30
        )
        assert leased is not None
    return campaign_id


def fall_silent(db: Db) -> None:
    db.run("UPDATE batches SET lease_until = ? WHERE state = 'leased'", db.now_ms() - 5000)


def unknown(db: Db, campaign_id: int) -> int:
    return progress_of(db, find_campaign(campaign_id), db.now_ms()).unknown


def test_hosts_are_told_and_a_dead_one_is_settled(app: Flask, db: Db, campaign: int) -> None:
    admin = caller(app)
    assert admin.get("/api/hosts").get_json() == [
        {**vars(one), "lease_until": iso(one.lease_until)} for one in hosts_at_work(db)
    ]
    lives = admin.post("/api/hosts/mail-3/gone", {})
    assert (lives.status_code, error_of(lives)["code"]) == (409, "refused")
    fall_silent(db)
    assert admin.post(f"/api/hosts/{host_name()}/gone", {}).status_code == 409
    assert admin.post("/api/hosts/mail-4/gone", {}).status_code == 404
    for scope in ("read", "send"):
        assert caller(app, scope).post("/api/hosts/mail-3/gone", {}).status_code == 403
    assert unknown(db, campaign) == 0
    assert admin.post("/api/hosts/mail-3/gone", {}).get_json() == {"host": "mail-3", "unknown": 5}
    assert unknown(db, campaign) == 5
    assert [one["host"] for one in admin.get("/api/hosts").get_json()] == [host_name()]


def test_the_page_offers_it_for_a_silent_host_alone(app: Flask, db: Db, campaign: int) -> None:
    visitor = logged_in(app)
    page = visitor.get("/workers").text
    assert "mail-3" in page
    assert 'action="/hosts/gone"' not in page
    fall_silent(db)
    visitor.post("/workers/stop", pid="1")  # forgets what viewers share
    page = visitor.get("/workers").text
    assert page.count('action="/hosts/gone"') == 1
    assert page.count("silent") >= 2
    assert visitor.post("/hosts/gone", host="mail-3", csrf="x").status_code == 403
    assert visitor.post("/hosts/gone", host="mail-3").headers["Location"] == "/workers"
    assert "5 mails that mail-3 had in hand are unknown now" in visitor.get("/workers").text
    assert unknown(db, campaign) == 5
    assert visitor.post("/hosts/gone", host="mail-3").status_code == 404
