"""How many workers a queue has, said over HTTP and on the page of scaling."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from app.config import Settings, make_home
from app.db import Db
from app.scaling.files import mark_stopped
from app.scaling.scale import overrides
from app.web.application import create_app
from app.web.audit import entries
from tests.console import Visitor, logged_in
from tests.web import Caller, caller, error_of


@pytest.fixture
def app(db: Db, settings: Settings) -> Flask:
    make_home(settings)
    return create_app(settings, db=db)


@pytest.fixture
def admin(app: Flask) -> Caller:
    return caller(app)


@pytest.fixture
def visitor(app: Flask) -> Visitor:
    return logged_in(app)


def test_a_wish_is_kept_and_given_back(admin: Caller, settings: Settings, db: Db) -> None:
    """No supervisord runs here: it counts from its next start. With one: tests/scaling/test_scale.py."""
    at = "/api/queues/send/scale"
    before = admin.get(at).get_json()
    assert (before["queue"], before["by_hand"]) == ("send", False)
    said = admin.ask("PUT", at, json={"workers": 6, "max": 40}).get_json()
    assert said == {
        "queue": "send", "workers": 6, "max": 40, "by_hand": True, "started": [], "leaving": [], "kept": True,
    }  # fmt: skip
    assert overrides(settings)["send"].floor == 6
    assert admin.get(at).get_json() == {"queue": "send", "workers": 6, "max": 40, "by_hand": True}
    assert admin.ask("PUT", at, json={"workers": None}).get_json()["by_hand"] is False
    assert admin.get(at).get_json() == before
    assert ("crew.put", "200: send: 6 workers at least, 40 at most") in [(e.action, e.detail) for e in entries(db, 9)]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "workers"), ({"workers": -1}, "workers"), ({"workers": 1001}, "workers"), ({"workers": "6"}, "workers"),
        ({"workers": 6, "max": 5}, "max"), ({"workers": None, "max": 5}, "max"), ({"workers": 1, "size": 5}, "size"),
    ],
)  # fmt: skip
def test_a_wish_that_cannot_be_is_refused_by_its_field(
    admin: Caller, settings: Settings, body: dict[str, Any], field: str
) -> None:
    refused = admin.ask("PUT", "/api/queues/send/scale", json=body)
    assert (refused.status_code, error_of(refused)["field"]) == (400, field)
    assert overrides(settings) == {}


def test_a_queue_that_is_none_or_was_stopped_is_left_alone(admin: Caller, app: Flask, settings: Settings) -> None:
    assert admin.get("/api/queues/nope/scale").status_code == 404
    assert admin.ask("PUT", "/api/queues/nope/scale", json={"workers": 1}).status_code == 404
    settings.state.joinpath("stopped").mkdir(parents=True, exist_ok=True)
    mark_stopped(settings, "send")
    assert admin.ask("PUT", "/api/queues/send/scale", json={"workers": 1}).status_code == 409
    for scope in ("read", "send"):
        assert caller(app, scope).ask("PUT", "/api/queues/send/scale", json={"workers": 1}).status_code == 403
    assert overrides(settings) == {}


def test_it_is_said_and_given_back_on_the_page(visitor: Visitor, settings: Settings) -> None:
    assert "as the table of queues says" in visitor.get("/scaling?queue=send").text
    done = visitor.post("/scaling/set", queue="send", workers="6", max="")
    assert done.headers["Location"] == "/scaling?queue=send"
    page = visitor.get("/scaling?queue=send").text
    assert "it counts for send from its next start" in page
    assert "At least 6 and at most" in page
    for fields, field in (({"workers": "x"}, "workers"), ({"workers": "6", "max": "5"}, "max"), ({}, "workers")):
        again = visitor.post("/scaling/set", queue="send", **fields)
        assert again.status_code == 400
        assert f'id="wrong-{field}" role="alert"' in again.text
    assert visitor.post("/scaling/set", queue="send", workers="9", csrf="x").status_code == 403
    assert overrides(settings)["send"].floor == 6
    visitor.post("/scaling/auto", queue="send")
    assert "as the table of queues says" in visitor.get("/scaling?queue=send").text
    assert overrides(settings) == {}
    assert visitor.post("/scaling/auto", queue="nope").status_code == 404
