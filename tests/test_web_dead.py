"""/api/dead and the page: messages that failed for good, found, tried again and deleted."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from importlib import import_module

import dramatiq
import pytest
import redis
from flask import Flask

from app.config import Settings
from app.db import Db
from app.queues.broker import make_broker, redis_client
from app.queues.dead_letters import dead_letters
from app.web.application import create_app
from app.web.audit import entries
from tests.console import logged_in
from tests.web import caller, error_of


@pytest.fixture
def here(settings: Settings, redis_server: str) -> Settings:
    return replace(settings, redis_url=f"{redis_server}?db=12")


@pytest.fixture
def app(db: Db, here: Settings, client: redis.Redis) -> Flask:
    return create_app(here, db=db)


def bury(here: Settings, queue: str, count: int, actor: str = "check") -> list[str]:
    """So many messages of a queue, enqueued, fetched and given up; their ids."""
    broker = make_broker(here.redis_url)
    ids = []
    for number in range(count):
        message: dramatiq.Message[None] = dramatiq.Message(
            queue_name=queue, actor_name=actor, args=(number,), kwargs={"to": "<b>me</b>"}, options={}
        )
        broker.enqueue(message)
        fetched = dramatiq.Message.decode(broker.do_fetch(queue, 1)[0])
        broker.do_nack(queue, fetched.options["redis_message_id"])
        ids.append(message.message_id)
    broker.close()
    # Those that died in the same millisecond stand in the order of their entries.
    return [letter.id for letter in dead_letters(redis_client(here.redis_url), queue) if letter.id in ids]


def test_pages_lead_through_one_queue_after_another(app: Flask, here: Settings) -> None:
    told = [*bury(here, "mail", 5), *bury(here, "send", 4), *bury(here, "monitor", 3)]
    reader = caller(app, "read")
    for limit in (1, 2, 5, 12):
        found, path = [], f"/api/dead?limit={limit}"
        while path:
            answer = reader.get(path)
            found += [one["id"] for one in answer.get_json()]
            path = answer.headers.get("Link", "").partition("<")[2].partition(">")[0]
        assert found == told, limit
    assert [one["id"] for one in reader.get("/api/dead?queue=send&skip=3").get_json()] == told[8:9]
    assert reader.get("/api/dead?skip=12").get_json() == []
    assert [one["id"] for one in reader.get("/api/dead?search=check&skip=6&limit=3").get_json()] == told[6:9]


def test_dead_letters_are_read_page_by_page_and_searched(app: Flask, here: Settings) -> None:
    ids = bury(here, "mail", 5)
    bury(here, "monitor", 1, "ping")
    reader = caller(app, "read")
    first = reader.get("/api/dead?queue=mail&limit=2")
    assert [one["id"] for one in first.get_json()] == ids[:2]
    one = first.get_json()[0]
    assert (one["queue"], one["actor"], one["retries"]) == ("mail", "check", 0)
    assert one["arguments"].endswith(', to="<b>me</b>"')
    more = first.headers["Link"].partition("<")[2].partition(">")[0]
    assert [one["id"] for one in reader.get(more).get_json()] == ids[2:4]
    assert len(reader.get("/api/dead").get_json()) == 6, "of all queues"
    assert [one["actor"] for one in reader.get("/api/dead?search=PING").get_json()] == ["ping"]


def test_some_are_replayed_and_the_others_deleted(app: Flask, here: Settings, client: redis.Redis) -> None:
    ids = bury(here, "mail", 4)
    admin = caller(app, "admin")
    answer = admin.post("/api/dead/replay", {"queue": "mail", "ids": [ids[1], "nobody"]})
    assert answer.get_json() == {"done": 1, "left": 1}
    assert client.llen("dramatiq:mail") == 1
    assert [letter.id for letter in dead_letters(client, "mail")] == [ids[0], ids[2], ids[3]]
    assert admin.post("/api/dead/delete", {"queue": "mail", "all": True}).get_json() == {"done": 3, "left": 0}
    assert not list(dead_letters(client, "mail"))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"ids": ["x"]}, "queue"),
        ({"queue": "", "all": True}, "queue"),
        ({"queue": "mail"}, "all"),
        ({"queue": "mail", "ids": ["x"], "all": True}, "all"),
        ({"queue": "mail", "ids": []}, "all"),
        ({"queue": "mail", "ids": "x"}, "ids"),
        ({"queue": "mail", "ids": [1]}, "ids"),
        ({"queue": "mail", "all": "yes"}, "all"),
        ({"queue": "mail", "everything": True}, "everything"),
    ],
)
def test_a_wrong_wish_is_refused_by_name(app: Flask, body: dict[str, object], field: str) -> None:
    admin = caller(app, "admin")
    for act in ("replay", "delete"):
        refused = admin.post(f"/api/dead/{act}", body)
        assert refused.status_code == 400
        assert error_of(refused)["field"] == field


def test_on_the_page_the_ticked_ones_are_tried_again(app: Flask, here: Settings, client: redis.Redis, db: Db) -> None:
    ids = bury(here, "mail", 3)
    visitor = logged_in(app)
    page = visitor.get("/dead?queue=mail").text
    assert "&lt;b&gt;me" in page
    assert "<b>me" not in page
    ticked = [f"mail {letter.redis_id}" for letter in dead_letters(client, "mail")][:2]
    assert all(f'value="{one}"' in page for one in ticked)
    done = visitor.client.post("/dead", data={"csrf": visitor.token, "letter": ticked, "action": "replay"})
    assert done.status_code == 303
    assert "2 tasks are tried again." in visitor.get("/dead").text
    assert [letter.id for letter in dead_letters(client, "mail")] == ids[2:]
    assert entries(db, 1)[0].action == "dead.act"


def test_on_the_page_all_of_a_queue_are_deleted_and_never_of_all_queues(
    app: Flask, here: Settings, client: redis.Redis
) -> None:
    bury(here, "mail", 2)
    bury(here, "monitor", 2)
    visitor = logged_in(app)
    visitor.get("/dead")
    assert visitor.post("/dead", action="delete_all").status_code == 400
    assert visitor.post("/dead", action="burn").status_code == 400
    assert visitor.post("/dead", action="delete").status_code == 400, "nothing is ticked"
    assert visitor.post("/dead", action="delete_all", queue="mail").status_code == 303
    assert not list(dead_letters(client, "mail"))
    assert len(list(dead_letters(client, "monitor"))) == 2


def test_an_empty_page_says_so(app: Flask) -> None:
    visitor = logged_in(app)
    assert "No task has failed for good." in visitor.get("/dead").text
    assert "No dead letter is like that." in visitor.get("/dead?queue=mail").text


def need_dashboard() -> None:
    """Installed by bin/setup in a step of its own, which may fail at home and must not in CI."""
    if os.environ.get("CI"):
        import_module("dramatiq_dashboard")
    pytest.importorskip("dramatiq_dashboard")


def test_without_the_dashboard_its_page_says_what_to_do(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dramatiq_dashboard", None)
    visitor = logged_in(app)
    page = visitor.get("/dramatiq")
    assert page.status_code == 200
    assert "<code>bin/setup</code>" in page.text
    ours = {"Sec-Fetch-Site": "same-origin"}
    form = {"queue": "mail.XQ", "id": "x"}
    assert visitor.client.post("/dramatiq/delete-message", data=form, headers=ours).status_code == 404


def test_the_dramatiq_dashboard_stands_behind_the_login(app: Flask, here: Settings) -> None:
    need_dashboard()
    bury(here, "mail", 1)
    assert app.test_client().get("/dramatiq").status_code == 401
    visitor = logged_in(app)
    index = visitor.get("/dramatiq")
    assert index.status_code == 200
    assert "script-src" not in index.headers["Content-Security-Policy"], "so none runs: default-src 'none'"
    assert "/dramatiq/queues/mail" in index.text
    assert "check" in visitor.get("/dramatiq/queues/mail/failed").text
    assert visitor.get("/dramatiq/queues/mail?cursor=x").status_code == 400


def test_the_dramatiq_dashboard_changes_nothing_for_another_site(
    app: Flask, here: Settings, client: redis.Redis, db: Db
) -> None:
    need_dashboard()
    bury(here, "mail", 2)
    visitor = logged_in(app).client
    one, other = (letter.redis_id for letter in dead_letters(client, "mail"))
    form = {"queue": "mail.XQ", "id": one}
    for headers in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        assert visitor.post("/dramatiq/requeue-message", data=form, headers=headers).status_code == 403
    assert len(list(dead_letters(client, "mail"))) == 2
    ours = {"Sec-Fetch-Site": "same-origin"}
    assert visitor.post("/dramatiq/requeue-message", data=form, headers=ours).status_code == 303
    assert client.llen("dramatiq:mail") == 1
    assert visitor.post("/dramatiq/requeue-message", data=form, headers=ours).status_code == 409, "once only"
    assert visitor.post("/dramatiq/delete-message", data={"queue": "mail.XQ"}, headers=ours).status_code == 400
    # Its own forms have a token of its own, in a cookie that its page sets.
    page = visitor.get("/dramatiq/queues/mail/failed").text
    token = page.partition('name="__dd_csrf" value="')[2].partition('"')[0]
    gone = {"queue": "mail.XQ", "id": other, "__dd_csrf": token}
    assert visitor.post("/dramatiq/delete-message", data=gone, headers=ours).status_code == 302
    assert not list(dead_letters(client, "mail"))
    assert f"mail.XQ {other}" in entries(db, 1)[0].detail
