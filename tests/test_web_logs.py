"""/api/logs and the page of logs: who may, what is found, followed and paged; and that no secret is on them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask

from app.config import Settings
from app.db import Db
from app.mail.servers import add_server
from app.secrets import secret
from app.web.application import create_app
from app.web.resources import EXTENSION
from tests.console import Visitor, logged_in
from tests.test_log_search import Process, at, line
from tests.web import Caller, caller, error_of

WEBHOOK = "https://chat.example.com/services/T0/B1/hooksecret"


@pytest.fixture
def here(settings: Settings) -> Settings:
    return replace(settings, alert_webhook=WEBHOOK)


@pytest.fixture
def app(db: Db, here: Settings) -> Flask:
    return create_app(here, db=db)


@pytest.fixture
def admin(app: Flask) -> Caller:
    return caller(app)


@pytest.fixture
def visitor(app: Flask) -> Visitor:
    return logged_in(app)


@pytest.fixture
def sender(here: Settings) -> Process:
    """A sender that has said three things, one of them about trouble."""
    writer, errors = Process(here.logs), Process(here.logs, kind="err")
    writer.write(line(1, "campaign started", campaign_id=3), line(3, "campaign sent", campaign_id=3))
    errors.write(line(2, "task failed", "error", traceback="Traceback (most recent call last):\n  boom"))
    return writer


def look_again(app: Flask) -> None:
    """What is shared is a second old at most; tests do not wait for it."""
    app.extensions[EXTENSION].forget_shared()


def test_the_lines_of_all_processes_are_one_document(admin: Caller, sender: Process) -> None:
    document = admin.get("/api/logs").get_json()
    assert [one["event"] for one in document["lines"]] == ["campaign sent", "task failed", "campaign started"]
    assert document["lines"][1] == {
        "at": at(2), "process": "send_00", "stream": "stderr", "level": "error", "event": "task failed", "pid": 7,
        "fields": {"logger": "mailcrew"}, "text": sender.path.with_suffix(".err").read_text().rstrip("\n"),
        "traceback": "Traceback (most recent call last):\n  boom",
    }  # fmt: skip
    assert (document["before"], document["looked_to"], document["more"]) == (None, None, False)


def test_a_follower_gets_only_what_is_new(app: Flask, admin: Caller, sender: Process) -> None:
    after = admin.get("/api/logs?name=send").get_json()["after"]
    assert admin.get(f"/api/logs?name=send&after={after}").get_json()["lines"] == []
    sender.write(line(4, "one"), line(5, "two"))
    sender.rotate()
    sender.write(line(6, "three"))
    look_again(app)
    new = admin.get(f"/api/logs?name=send&after={after}&limit=2").get_json()
    assert ([one["event"] for one in new["lines"]], new["more"]) == (["one", "two"], True)
    rest = admin.get(f"/api/logs?name=send&after={new['after']}").get_json()
    assert ([one["event"] for one in rest["lines"]], rest["more"]) == (["three"], False)


def test_nothing_is_read_for_a_follower_when_nothing_was_written(
    admin: Caller, sender: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = admin.get("/api/logs").get_json()["after"]
    monkeypatch.setattr("app.web.logs.news", lambda *_, **__: pytest.fail("the files were read"))
    assert admin.get(f"/api/logs?after={after}").get_json() == {
        "lines": [], "after": after, "more": False, "before": None, "looked_to": None,
    }  # fmt: skip


def test_older_pages_are_reached_by_the_link_with_all_conditions(admin: Caller, sender: Process) -> None:
    first = admin.get("/api/logs?name=send&limit=2")
    path = re.fullmatch(r'<(.*)>; rel="next"', first.headers["Link"])
    assert path
    second = admin.get(path[1])
    assert [one["event"] for one in second.get_json()["lines"]] == ["campaign started"]
    assert "Link" not in second.headers


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("process=send_00&level=error", ["task failed"]),
        ("process=../state/admin_password", []),
        ("name=..%2F..", []),
        ("campaign=3&event=sent", ["campaign sent"]),
        ("text=BOOM", ["task failed"]),
        (f"since={at(2).replace('+', '%2B')}&until={at(2).replace('+', '%2B')}", ["task failed"]),
        ("server=relay", []),
        ("pid=7&name=mail", []),
    ],
)
def test_conditions(admin: Caller, sender: Process, query: str, found: list[str]) -> None:
    assert [one["event"] for one in admin.get(f"/api/logs?{query}").get_json()["lines"]] == found


def test_a_server_is_found_by_its_name_where_only_its_id_was_logged(app: Flask, admin: Caller, sender: Process) -> None:
    number = add_server(name="relay", host="127.0.0.1", port=1, tls="none", now=1)
    sender.write(line(4, "connection slot not given back", server_id=number), line(5, "trouble", server="relay"))
    look_again(app)
    lines = admin.get("/api/logs?server=relay").get_json()["lines"]
    assert [one["event"] for one in lines] == ["trouble", "connection slot not given back"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("before=x", "before"), ("after=x", "after"), ("since=yesterday", "since"), ("until=2026-01-01", "until"),
        ("level=loud", "level"), ("limit=0", "limit"), ("campaign=x", "campaign"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(admin: Caller, query: str, field: str) -> None:
    answer = admin.get(f"/api/logs?{query}")
    assert (answer.status_code, error_of(answer)["field"]) == (400, field)


def test_before_and_after_do_not_go_together(admin: Caller, sender: Process) -> None:
    after = admin.get("/api/logs").get_json()["after"]
    assert error_of(admin.get(f"/api/logs?before={after}&after={after}"))["field"] == "after"


def test_only_an_administrator_reads_logs(app: Flask) -> None:
    for scope in ("read", "send"):
        other = caller(app, scope)
        assert [other.get(path).status_code for path in ("/api/logs", "/logs", "/logs/live")] == [403] * 3
    assert app.test_client().get("/api/logs").status_code == 401


def test_no_secret_is_shown(
    app: Flask, admin: Caller, visitor: Visitor, here: Settings, db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAY_PASSWORD", "p:w secret!")
    add_server(
        name="relay", host="127.0.0.1", port=1, tls="none", username="u", password_env="RELAY_PASSWORD", now=1
    )  # fmt: skip
    secrets = [*(secret(here, name) for name in ("ADMIN_PASSWORD", "SECRET_KEY", "CRON_SECRET")), "hooksecret"]
    secrets += ["p:w secret!", "urlpassword", "bearertoken123"]
    Process(here.logs, "send_00", "err").write(
        line(1, "leaky", "warning", reason=" ".join(secrets[:3])),
        line(2, "leaky", "warning", reason=f"{WEBHOOK} cannot be reached", header="Bearer bearertoken123"),
        line(3, "leaky", "error", reason="p:w secret!", traceback="redis://user:urlpassword@host:1/0"),
        "plain: mysql://root:urlpassword@127.0.0.1/x",
    )  # fmt: skip
    for shown in (admin.get("/api/logs").text, visitor.get("/logs").text):
        assert shown.count("leaky") >= 3
        assert [one for one in secrets if one in shown] == []


def test_where_a_password_is_kept_is_no_secret(admin: Caller, here: Settings) -> None:
    Process(here.logs, "web").write(line(1, "listening", password="in /srv/state/admin_password"))
    assert "in /srv/state/admin_password" in admin.get("/api/logs").text


# -- the page ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("language", "word"), [("en", "Traceback"), ("zh", "错误堆栈")])
def test_the_page_shows_each_line_and_folds_its_traceback(
    visitor: Visitor, sender: Process, language: str, word: str
) -> None:
    visitor.client.set_cookie("mailcrew_language", language)
    page = visitor.get("/logs").text
    assert re.search(rf"<details><summary>{word}</summary><pre[^>]*>Traceback \(most recent call last\):\n  boom", page)
    assert 'href="/campaigns/3"' in page
    assert '<option value="queue-manager">' in page, "a service of the table"


def test_what_is_logged_is_text(visitor: Visitor, here: Settings) -> None:
    Process(here.logs).write(line(1, "<script>alert(1)</script>", reason="{{ 7 * 7 }}<b>"))
    page = visitor.get("/logs").text
    assert "<script>alert" not in page
    assert "{{ 7 * 7 }}&lt;b&gt;" in page


def test_the_page_asks_for_what_is_new_and_gets_nothing_when_there_is_nothing(
    app: Flask, visitor: Visitor, sender: Process
) -> None:
    def ask() -> str:
        found = re.search(r'hx-get="(/logs/live\?[^"]*)"', page)
        assert found
        return found[1].replace("&amp;", "&")

    page = visitor.get("/logs?level=warning").text
    assert visitor.get(ask()).status_code == 204
    sender.write(line(4, "fine"))
    Process(sender.path.parent, "send_00", "err").write(line(5, "bad", "warning"))
    look_again(app)
    page = visitor.get(ask()).text
    assert ("bad" in page, "fine" in page) == (True, False)
    assert visitor.get(ask()).status_code == 204


def test_with_very_many_new_ones_the_page_begins_anew(app: Flask, visitor: Visitor, sender: Process) -> None:
    page = visitor.get("/logs").text
    sender.write(*(line(4, str(number)) for number in range(600)))
    look_again(app)
    found = re.search(r'hx-get="(/logs/live\?[^"]*)"', page)
    assert found
    answer = visitor.get(found[1].replace("&amp;", "&"))
    assert (answer.status_code, answer.headers["HX-Refresh"]) == (204, "true")


def test_an_older_page_and_one_that_stands_still_are_not_followed(visitor: Visitor, here: Settings) -> None:
    Process(here.logs).write(*(line(n, str(n)) for n in range(300)))
    page = visitor.get("/logs?name=send").text
    assert "/logs/live?" in page
    assert "/logs/live?" not in visitor.get("/logs?name=send&follow=off").text
    older = re.search(r'href="(/logs\?[^"]*before=[^"]*)"', page)
    assert older
    second = visitor.get(older[1].replace("&amp;", "&")).text
    assert "/logs/live?" not in second
    assert (">99<" in second, ">100<" in second) == (True, False)


def test_a_mistake_in_the_table_does_not_hide_the_logs(db: Db, here: Settings, tmp_path: Path, sender: Process) -> None:
    (tmp_path / "supervisor").mkdir()
    (tmp_path / "supervisor" / "queues.toml").write_text("[[queue]]\nname = 1\n")
    page = logged_in(create_app(here, root=tmp_path, db=db)).get("/logs").text
    assert "task failed" in page
    assert '<option value="send_00">' in page


def test_an_empty_page_says_what_comes_next(visitor: Visitor, sender: Process) -> None:
    assert 'href="/logs"' in visitor.get("/logs?text=nothing").text
    sender.path.unlink()
    sender.path.with_suffix(".err").unlink()
    visitor.client.application.extensions[EXTENSION].forget_shared()
    assert "bin/supervisor-manager start" in visitor.get("/logs").text


def test_the_document_of_the_api_is_what_is_logged(admin: Caller, here: Settings) -> None:
    said = {"time": at(1), "level": "info", "event": "e", "pid": 1, "list": [1, {"a": None}]}
    Process(here.logs).write(json.dumps(said))
    (found,) = admin.get("/api/logs").get_json()["lines"]
    assert found["fields"] == {"list": [1, {"a": None}]}
    assert json.loads(found["text"]) == said
