"""/api/alarms and the page: what needs somebody, acknowledged for a while, over; made once for all who look."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import redis
from flask import Flask

from app.config import Settings
from app.db import Db
from app.mail.servers import add_server
from app.scaling.alerts import Alert, Kind
from app.watch.alarms import Alarm, open_alarms, place_of, unwritten
from app.watch.look import Looker
from app.watch.noting import note
from app.watch.turn import take_watch
from app.web.alarms import page_of
from app.web.application import create_app
from app.web.audit import entries
from app.web.console.pages.alarms import do, say
from app.web.console.words import LANGUAGES, catalogue
from app.web.resources import EXTENSION, Resources
from app.web.watcher import Watcher
from tests.console import Visitor, logged_in
from tests.sending import NOW, add_list, add_people, draft
from tests.watching import DEAD, FULL
from tests.web import Caller, caller, error_of, plant
from tests.working import eventually


@pytest.fixture
def here(settings: Settings, redis_server: str) -> Settings:
    return replace(settings, redis_url=f"{redis_server}?db=9")


@pytest.fixture
def app(db: Db, here: Settings, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Flask:
    # Each test is about what is seen, and waits for it.
    monkeypatch.setattr("app.web.watcher.FIRST_SECONDS", 60.0)
    return create_app(here, db=db)


@pytest.fixture
def admin(app: Flask) -> Caller:
    return caller(app)


@pytest.fixture
def visitor(app: Flask) -> Visitor:
    return logged_in(app)


@pytest.fixture
def paused(db: Db) -> int:
    """A campaign that has paused itself."""
    add_server(name="relay", host="127.0.0.1", port=1, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 3))
    campaign_id = draft(db, ["all"], name="News <b>")
    db.run("UPDATE campaigns SET status = 'paused', reason = '9 of 9 mails failed: 550 no'")
    return campaign_id


def watcher_of(app: Flask) -> Watcher:
    found: Resources = app.extensions[EXTENSION]
    return found.watcher


def look_again(app: Flask) -> None:
    """A look now, whatever was seen a moment ago."""
    watcher = watcher_of(app)
    watcher.seen = None
    assert watcher.fresh() is not None
    app.extensions[EXTENSION].forget_shared()


def alarm(caller: Caller, kind: str) -> dict[str, object]:
    (found,) = [one for one in caller.get("/api/alarms").get_json()["alarms"] if one["kind"] == kind]
    assert isinstance(found, dict)
    return found


def test_what_check_finds_is_in_the_document_with_where_to_go(admin: Caller, paused: int) -> None:
    document = admin.get("/api/alarms").get_json()
    assert document["open"] == len(document["alarms"])
    assert document["mute"] == []
    assert [one["severity"] for one in document["alarms"]] == sorted(one["severity"] for one in document["alarms"])
    assert alarm(admin, "supervisord")["command"] == "bin/supervisor-manager start"
    found = alarm(admin, "campaign_paused")
    assert found["page"] == f"/campaigns/{paused}"
    assert (found["what"], found["times"], found["host"]) == ("paused by itself: 9 of 9 mails failed: 550 no", 1, None)


def test_what_is_over_goes_into_the_history(app: Flask, admin: Caller, db: Db, paused: int) -> None:
    number = alarm(admin, "campaign_paused")["id"]
    db.run("UPDATE campaigns SET status = 'cancelled'")
    look_again(app)
    assert all(one["kind"] != "campaign_paused" for one in admin.get("/api/alarms").get_json()["alarms"])
    (ended,) = admin.get("/api/alarms/history").get_json()
    assert ended["id"] == number
    assert ended["closed_at"] is not None
    events = admin.get(f"/api/alarms/{number}").get_json()["events"]
    assert [one["kind"] for one in events] == ["opened", "closed"]


def test_the_history_comes_a_page_at_a_time(admin: Caller, db: Db, here: Settings) -> None:
    place = place_of(here)
    for number in range(5):
        note(db, place, [replace(FULL, key=f"disk:{number}")], (), NOW + number)
    note(db, place, [], (), NOW + 9)
    first = admin.get("/api/alarms/history?limit=3")
    link = re.fullmatch(r'<(.*)>; rel="next"', first.headers["Link"])
    assert link
    second = admin.get(link[1])
    assert [one["id"] for one in first.get_json() + second.get_json()] == [5, 4, 3, 2, 1]
    assert "Link" not in second.headers


def test_an_acknowledged_one_does_not_count_and_is_in_the_audit_trail(admin: Caller, db: Db, paused: int) -> None:
    before = admin.get("/api/alarms").get_json()["open"]
    number = alarm(admin, "campaign_paused")["id"]
    known = admin.post(f"/api/alarms/{number}/acknowledge", {"minutes": 60}).get_json()
    assert known["acknowledged"]["by"] == "token admin-tester"
    assert known["acknowledged"]["until"] > known["acknowledged"]["at"]
    assert admin.get("/api/alarms").get_json()["open"] == before - 1
    assert entries(db, 1)[0].action == "alarms.known"
    assert "paused by itself" in entries(db, 1)[0].detail
    assert "for 60 min" in entries(db, 1)[0].detail
    assert admin.post(f"/api/alarms/{number}/remind", {}).get_json()["acknowledged"] is None
    assert admin.get("/api/alarms").get_json()["open"] == before
    forever = admin.post(f"/api/alarms/{number}/acknowledge", {}).get_json()
    assert forever["acknowledged"]["until"] is None


@pytest.mark.parametrize("minutes", [0, -1, 129_601, 1.5, "60", True, [1]])
def test_a_time_that_is_none_is_refused(admin: Caller, paused: int, minutes: object) -> None:
    number = alarm(admin, "campaign_paused")["id"]
    answer = admin.post(f"/api/alarms/{number}/acknowledge", {"minutes": minutes})
    assert (answer.status_code, error_of(answer)["field"]) == (400, "minutes")


def test_what_is_over_or_never_was_is_not_found(app: Flask, admin: Caller, db: Db, paused: int) -> None:
    number = alarm(admin, "campaign_paused")["id"]
    db.run("UPDATE campaigns SET status = 'cancelled'")
    look_again(app)
    assert admin.post(f"/api/alarms/{number}/acknowledge", {}).status_code == 404
    assert admin.get("/api/alarms/99").status_code == 404


def test_only_an_administrator_acknowledges(app: Flask, admin: Caller, paused: int) -> None:
    number = alarm(admin, "campaign_paused")["id"]
    for scope in ("read", "send"):
        other = caller(app, scope)
        assert other.get("/api/alarms").status_code == 200
        assert other.post(f"/api/alarms/{number}/acknowledge", {}).status_code == 403


# -- who looks -----------------------------------------------------------------------------------


def test_many_viewers_are_one_look(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []
    real = Looker.look

    def counted(self: Looker, *rest: int) -> object:
        looks.append(time.monotonic())
        return real(self, *rest)

    monkeypatch.setattr(Looker, "look", counted)
    admin = caller(app)
    threads = [threading.Thread(target=admin.get, args=("/api/alarms",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(looks) == 1


def test_a_look_that_takes_long_keeps_nobody_waiting(
    app: Flask, admin: Caller, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.web.watcher.FIRST_SECONDS", 0.1)
    frozen = threading.Event()
    real = Looker.look
    monkeypatch.setattr(Looker, "look", lambda self: (frozen.wait(30), real(self))[1])
    assert admin.get("/api/alarms").get_json() == {"at": None, "open": 0, "mute": [], "alarms": []}
    assert "The first look at this machine is under way." in visitor.get("/alarms").text
    frozen.set()
    watcher = watcher_of(app)
    monkeypatch.setattr("app.web.watcher.FIRST_SECONDS", 30.0)
    assert watcher.fresh() is not None
    # And an old one is shown while a new one is made.
    frozen.clear()
    assert watcher.seen
    watcher.seen = replace(watcher.seen, at=0)
    begun = time.monotonic()
    assert admin.get("/api/alarms").get_json()["at"] == "1970-01-01T00:00:00+00:00"
    assert time.monotonic() - begun < 20
    frozen.set()
    eventually(lambda: watcher.seen is not None and watcher.seen.at > 0, "the new look")


def test_without_the_database_the_alarms_are_shown_all_the_same(
    here: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    lost = replace(here, database_url=f"sqlite:///{tmp_path / 'nowhere' / 'x.db'}")
    watcher = watcher_of(create_app(lost))
    seen = watcher.fresh()
    assert seen
    away = {one.kind: one for one in seen.alarms}["database"]
    assert (away.id, away.severity) == (None, "critical")
    assert {"database", "sending"} <= seen.mute
    since = away.opened_at
    watcher.seen = None
    again = watcher.fresh()
    assert again
    assert {one.kind: one for one in again.alarms}["database"].opened_at == since


def test_while_a_check_writes_down_the_console_reads_what_is_there(
    app: Flask, db: Db, here: Settings, paused: int
) -> None:
    watch = take_watch(here)
    assert watch
    seen = watcher_of(app).fresh()
    assert seen
    assert {one.kind: one.id for one in seen.alarms}["campaign_paused"] is None
    assert open_alarms(db) == []
    watch.close()
    look_again(app)
    assert {"campaign_paused", "supervisord"} <= {one.kind for one in open_alarms(db)}
    assert take_watch(here) is None, "the web service keeps it"


def test_dead_letters_and_workers_in_trouble_are_alarms(app: Flask, admin: Caller, client: redis.Redis) -> None:
    plant(client, 1, trouble="no room for a journal")
    client.zadd("dramatiq:mail.XQ", {"a": 1, "b": 2})
    look_again(app)
    assert alarm(admin, "worker_trouble")["page"] == "/logs?process=send_1"
    assert alarm(admin, "dead")["page"] == "/dead?queue=mail"
    assert alarm(admin, "dead")["values"] == {"queue": "mail", "n": 2}


# -- the pages -----------------------------------------------------------------------------------

EVERY_VALUE: dict[str, str | int] = {
    "what": "why", "process": "send_00", "state": "FATAL", "detail": "Exited", "n": 2, "reason": "550 no", "pid": "12",
    "host": "mail-1", "queue": "send", "limit": 5, "version": "5.0", "policy": "lru", "migrations": "0011", "needed": 9,
    "path": "/srv", "server": "relay", "id": 3, "sender": "a@b.test", "campaign": "News",
}  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", [kind for kind in get_args(Kind) if kind != "other"])
def test_every_kind_is_told_in_every_language(app: Flask, kind: Kind, language: str) -> None:
    one = unwritten("h /home", Alert("k", "where", "raw what", "raw remedy", kind, values=EVERY_VALUE), 1)
    with app.test_request_context("/", headers={"Accept-Language": language}):
        assert "raw" not in say(one) + do(one)
        assert f"alarms.say_{kind}" in catalogue(language)


def test_a_kind_of_another_version_is_told_as_it_was_written_down(app: Flask) -> None:
    one: Alarm = replace(unwritten("h /home", DEAD, 1), kind="of_tomorrow")
    with app.test_request_context("/"):
        assert (say(one), do(one), page_of(one)) == ("mail: 3 tasks failed", "look", None)
        less = replace(one, kind="dead", values={})
        assert (say(less), page_of(less)) == ("mail: 3 tasks failed", None)


def test_a_page_is_a_path_whatever_its_values_hold() -> None:
    one = unwritten("h /home", replace(DEAD, values={"queue": "a&b=/../x", "n": 1}), 1)
    assert page_of(one) == "/dead?queue=a%26b%3D%2F..%2Fx"


@pytest.mark.parametrize(("language", "words"), [("en", "paused itself"), ("zh", "已自动暂停")])
def test_the_page_says_what_is_wrong_and_what_to_do(visitor: Visitor, paused: int, language: str, words: str) -> None:
    visitor.client.set_cookie("mailcrew_language", language)
    page = visitor.get("/alarms").text
    assert words in page
    assert "News &lt;b&gt;" in page
    assert f'href="/campaigns/{paused}"' in page
    assert f"<code>bin/check-campaign {paused}</code>" in page


def test_acknowledging_by_a_form_changes_the_count_on_every_page(app: Flask, visitor: Visitor, paused: int) -> None:
    def count(page: str) -> int:
        found = re.search(r"data-alarms [^>]*>(\d+)<", page)
        assert found
        return int(found[1])

    page = visitor.get("/alarms").text
    before = count(visitor.get("/queues").text)
    number = re.search(
        r'action="/alarms/(\d+)/acknowledge"(?:(?!</section>).)*?', page.partition("paused itself")[2], re.DOTALL
    )
    assert number
    assert visitor.post(f"/alarms/{number[1]}/acknowledge", minutes="480").status_code == 303
    page = visitor.get("/alarms").text
    assert "administrator knows" in page
    assert count(visitor.get("/queues").text) == before - 1
    assert visitor.get("/queues/live").headers["X-Alarms"] == str(before - 1)
    assert "was acknowledged" in visitor.get(f"/alarms/{number[1]}").text
    assert visitor.post(f"/alarms/{number[1]}/remind").status_code == 303
    assert count(visitor.get("/queues").text) == before
    assert visitor.post(f"/alarms/{number[1]}/acknowledge", minutes="7").status_code == 400


def test_the_overview_shows_the_worst_and_how_many_more(app: Flask, visitor: Visitor, db: Db, paused: int) -> None:
    for _ in range(3):
        draft(db, ["all"])
    db.run("UPDATE campaigns SET status = 'paused', reason = 'too many failed'")
    look_again(app)
    total = len(visitor.client.get("/api/alarms").get_json()["alarms"])
    page = visitor.get("/").text
    assert page.count('<p class="notice bad">') + page.count('<p class="notice warn">') == 3
    assert "supervisord does not run" in page, "the worst is the first"
    assert f"{total - 3} more alarms" in page


def test_when_all_is_well_the_page_says_so(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Looker.look
    monkeypatch.setattr(Looker, "look", lambda self: replace(real(self), alerts=()))
    page = visitor.get("/alarms").text
    assert "Nothing needs you." in page
    assert re.search(r"data-alarms [^>]*hidden>0<", page)
    assert "Nothing has ended yet." in page


def test_what_did_not_answer_is_named(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Looker.look
    every = frozenset({"processes", "heartbeats", "backlogs", "queues", "redis", "database", "sending"})
    monkeypatch.setattr(Looker, "look", lambda self: replace(real(self), alerts=(), mute=every))
    assert "the campaigns and servers" in visitor.get("/alarms").text
