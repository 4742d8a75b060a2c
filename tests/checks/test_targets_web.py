"""/api/schedules/USER/targets: what is checked for a user, over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest
from werkzeug.test import TestResponse

from app.config import Settings
from app.db import Db
from app.web.application import create_app
from tests.checks.site import Site
from tests.checks.targets import add_http, add_user, run
from tests.web import Caller, caller, error_of

ANN = "ann@example.test"
PATH = f"/api/schedules/{ANN}/targets"
SHOP = {"kind": "http", "url": "https://shop.example.test/", "name": "shop"}


def said(answer: TestResponse) -> Any:
    """The JSON document of a good answer."""
    assert answer.status_code in (200, 201), answer.text
    return json.loads(answer.text)


@pytest.fixture
def api(db: Db, settings: Settings) -> Caller:
    return caller(create_app(settings, db=db))


def test_targets_are_added_listed_and_removed(api: Caller, db: Db) -> None:
    add_user(db, ANN)
    added = api.post(PATH, {**SHOP, "confirmations": 3, "webhook": "https://hook.example.test/secret"})
    assert added.status_code == 201
    document = said(added)
    assert (document["id"], document["name"], document["confirmations"], document["state"]) == (1, "shop", 3, "unknown")
    assert document["webhook"] == "https://hook.example.test/…"
    assert said(api.get(PATH)) == [document]
    assert said(api.get(f"{PATH}/1")) == document
    assert said(api.get("/api/schedules/1/targets")) == [document], "by id as well as by address"
    assert said(api.ask("DELETE", f"{PATH}/1")) == {"removed": 1}
    assert error_of(api.ask("DELETE", f"{PATH}/1"))["code"] == "not_found"
    assert said(api.get(PATH)) == []


def test_what_is_removed_is_named_in_the_body_or_behind_the_question_mark(api: Caller, db: Db) -> None:
    add_user(db, ANN)
    first, second = (said(api.post(PATH, {**SHOP, "name": name}))["id"] for name in "ab")
    assert said(api.ask("DELETE", f"{PATH}?id={first}")) == {"removed": first}
    assert said(api.ask("DELETE", PATH, json={"id": second})) == {"removed": second}
    assert said(api.get(PATH)) == []
    wrong: list[dict[str, Any]] = [
        {"json": {}}, {"json": {"id": "1"}}, {"json": {"id": True}}, {"query_string": "id=x"},
    ]  # fmt: skip
    for more in wrong:
        error = error_of(api.ask("DELETE", PATH, **more))
        assert (error["code"], error["field"]) == ("invalid", "id")


def test_a_new_address_makes_the_user_and_a_mistake_does_not(api: Caller) -> None:
    path = "/api/schedules/new@example.test/targets"
    assert api.post(path, {"kind": "http"}).status_code == 400
    assert api.get(path).status_code == 404
    assert api.post(path, SHOP).status_code == 201
    assert len(said(api.get(path))) == 1
    assert api.post("/api/schedules/4711/targets", SHOP).status_code == 404
    assert api.post("/api/schedules/nobody/targets", SHOP).status_code == 400


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kind": None}, "kind"),
        ({"url": "https://u:hunter2@x/"}, "url"),
        ({"timeout_seconds": "10"}, "timeout_seconds"),
        ({"port": 5}, "port"),
        ({"enabled": "yes"}, "enabled"),
        ({"colour": 1}, "colour"),
    ],
)
def test_what_is_wrong_is_named(api: Caller, db: Db, changes: dict[str, Any], field: str) -> None:
    add_user(db, ANN)
    answer = api.post(PATH, {**SHOP, **changes})
    error = error_of(answer)
    assert (answer.status_code, error["code"], error["field"]) == (400, "invalid", field)
    assert "hunter2" not in answer.text


def test_an_address_inside_is_refused(api: Caller, db: Db) -> None:
    add_user(db, ANN)
    answer = api.post(PATH, {**SHOP, "url": "http://169.254.169.254/latest/meta-data/"})
    assert answer.status_code == 409
    assert "a cloud's metadata address" in error_of(answer)["message"]


def test_a_name_used_twice_is_refused(api: Caller, db: Db) -> None:
    add_user(db, ANN)
    api.post(PATH, SHOP)
    assert api.post(PATH, SHOP).status_code == 409


def test_a_target_of_another_user_is_not_there(api: Caller, db: Db) -> None:
    add_user(db, ANN)
    add_user(db, "bob@example.test")
    target = said(api.post(PATH, SHOP))["id"]
    theirs = f"/api/schedules/bob@example.test/targets/{target}"
    for answer in (
        api.get(theirs), api.ask("DELETE", theirs), api.ask("PATCH", theirs, json={"enabled": False}),
        api.get(f"{theirs}/history"),
    ):  # fmt: skip
        assert answer.status_code == 404
    assert said(api.get(f"{PATH}/{target}"))["enabled"] is True


def test_a_target_rests_and_goes_on(api: Caller, db: Db) -> None:
    add_user(db, ANN)
    one = f"{PATH}/{said(api.post(PATH, SHOP))['id']}"
    assert said(api.ask("PATCH", one, json={"enabled": False}))["enabled"] is False
    assert said(api.ask("PATCH", one, json={"enabled": True}))["enabled"] is True
    assert error_of(api.ask("PATCH", one, json={"enabled": 1}))["field"] == "enabled"


def test_looking_wants_read_and_changing_wants_admin(db: Db, settings: Settings) -> None:
    add_user(db, ANN)
    app = create_app(settings, db=db)
    reader, sender = caller(app, "read"), caller(app, "send")
    assert reader.get(PATH).status_code == 200
    for one in (reader, sender):
        assert one.post(PATH, SHOP).status_code == 403
        assert one.ask("DELETE", f"{PATH}?id=1").status_code == 403
        assert one.ask("PATCH", f"{PATH}/1", json={"enabled": False}).status_code == 403
    assert Caller(app).get(PATH).status_code == 401


def test_the_history_has_days_latencies_outages_and_results(api: Caller, db: Db, settings: Settings) -> None:
    user = add_user(db, ANN)
    with Site() as site:
        target = add_http(db, user, site.url("/"), confirmations=1)
        run(db, settings, user, db.now_ms() - 3_600_000)
    run(db, settings, user, db.now_ms() - 1_800_000)
    found = said(api.get(f"{PATH}/{target}/history?days=7"))
    assert [len(found[name]) for name in ("days", "latencies", "outages", "results")] == [7, 2, 1, 2]
    assert sum(day["checks"] for day in found["days"]) == 2
    assert found["days"][0]["uptime"] is None
    assert found["outages"][0]["ended_at"] is None
    assert "refuses connections" in found["outages"][0]["reason"]
    assert [one["ok"] for one in found["results"]] == [False, True]
    assert error_of(api.get(f"{PATH}/{target}/history?days=0"))["field"] == "days"
