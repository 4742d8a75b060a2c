"""/api/lists, /api/imports and /api/subscribers: people over HTTP."""

from __future__ import annotations

import io
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from flask import Flask
from werkzeug.test import TestResponse

from app.config import Settings
from app.db import Db
from app.lists.import_run import work_off
from app.lists.jobs import find_import
from app.queues.broker import NAMESPACE
from app.web.application import create_app
from tests.sending import add_list, add_people
from tests.web import Caller, caller, error_of


@pytest.fixture
def here(settings: Settings, redis_server: str) -> Settings:
    return replace(settings, redis_url=f"{redis_server}?db=8", upload_mb=1)


@pytest.fixture
def app(db: Db, here: Settings, client: redis.Redis) -> Flask:
    return create_app(here, db=db)


@pytest.fixture
def admin(app: Flask) -> Caller:
    return caller(app)


def send_file(admin: Caller, list_id: int, content: str | bytes, name: str = "people.csv", **more: str) -> TestResponse:
    data = content.encode() if isinstance(content, str) else content
    return admin.ask("POST", f"/api/lists/{list_id}/import", data={"file": (io.BytesIO(data), name), **more})


def test_a_list_is_made_once(admin: Caller) -> None:
    made = admin.post("/api/lists", {"name": " News "})
    assert made.status_code == 201
    document = made.get_json()
    assert (document["name"], document["subscribers"], document["unsubscribed"]) == ("News", 0, 0)
    assert admin.get("/api/lists").get_json() == [document]
    assert admin.get(f"/api/lists/{document['id']}").get_json() == document
    again = admin.post("/api/lists", {"name": "News"})
    assert (again.status_code, error_of(again)["field"]) == (409, "name")
    for bad in ("", "a\nb", 5, None):
        refused = admin.post("/api/lists", {"name": bad})
        assert (refused.status_code, error_of(refused)["field"]) == (400, "name")


def test_a_list_is_counted_by_status(admin: Caller, db: Db) -> None:
    people = add_people(db, 10)
    news = add_list(db, "news", people)
    db.run("UPDATE memberships SET status = 'unsubscribed' WHERE subscriber_id < ?", people[3])
    db.run("UPDATE memberships SET status = 'removed' WHERE subscriber_id = ?", people[9])
    document = admin.get(f"/api/lists/{news}").get_json()
    assert (document["subscribers"], document["unsubscribed"], document["removed"]) == (6, 3, 1)
    assert admin.get("/api/lists").get_json() == [document]
    assert admin.get("/api/lists/99").status_code == 404

    left = admin.get(f"/api/lists/{news}/members?status=unsubscribed&limit=2")
    assert [one["id"] for one in left.get_json()] == people[:2]
    more = admin.get(left.headers["Link"].partition(">")[0].strip("<"))
    assert [one["id"] for one in more.get_json()] == people[2:3]
    assert "Link" not in more.headers


def test_a_file_is_taken_and_imported_by_a_worker(
    admin: Caller, db: Db, here: Settings, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    news = admin.post("/api/lists", {"name": "news"}).get_json()["id"]
    taken = send_file(admin, news, "email,name\na@x.test,Ann\nnobody,N\nb@x.test,Bob\n", "files/people.csv")
    assert taken.status_code == 202
    document = taken.get_json()
    assert (document["state"], document["file"], document["list_id"]) == ("waiting", "people.csv", news)
    assert (document["size"], document["read"], document["by"]) == (46, 0, "admin-tester")
    (stored,) = here.uploads.iterdir()
    assert stored.stat().st_mode & 0o777 == 0o600
    assert client.llen(f"{NAMESPACE}:mail") == 1
    at = f"/api/imports/{document['id']}"
    assert admin.get(f"{at}/rejects").status_code == 404

    work_off(db, here, threading.Event())

    done = admin.get(at).get_json()
    figures = {"state": "done", "read": 3, "created": 2, "updated": 0, "unchanged": 0, "rejected": 1, "bytes_read": 46}
    assert {name: done[name] for name in figures} == figures
    assert list(here.uploads.iterdir()) == []
    rejects = admin.get(f"{at}/rejects")
    assert rejects.mimetype == "text/csv"
    assert "attachment" in rejects.headers["Content-Disposition"]
    assert rejects.text.splitlines()[1].startswith("3,invalid address")
    assert admin.get(f"/api/lists/{news}").get_json()["subscribers"] == 2
    assert [one["id"] for one in admin.get(f"/api/imports?list={news}").get_json()] == [document["id"]]
    assert admin.get("/api/imports?list=99").get_json() == []


@pytest.mark.parametrize(
    ("content", "more", "field", "words"),
    [
        ("name\nAnn\n", {}, "file", "no column holds the address"),
        ("", {}, "file", "the file is empty"),
        (b"PK\x03\x04zip", {}, "file", "an archive or a workbook"),
        ("email\na@x.test\n", {"encoding": "klingon"}, "encoding", "not an encoding we know"),
        ("email\na@x.test\n", {"encoding": "x" * 50}, "encoding", "none we know"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_at_once(
    admin: Caller, here: Settings, db: Db, content: str | bytes, more: dict[str, str], field: str, words: str
) -> None:
    news = add_list(db, "news", [])
    response = send_file(admin, news, content, **more)
    error = error_of(response)
    assert (response.status_code, error["field"]) == (400, field)
    assert words in error["message"]
    assert "--" not in error["message"]
    assert admin.get("/api/imports").get_json() == []
    assert list(here.uploads.iterdir()) == []


def test_without_a_file_it_is_said_how_to_send_one(admin: Caller, db: Db) -> None:
    at = f"/api/lists/{add_list(db, 'news', [])}/import"
    bodies: tuple[dict[str, Any], ...] = ({}, {"json": {}}, {"data": {"file": "text"}})
    for more in bodies:
        response = admin.ask("POST", at, **more)
        assert (response.status_code, error_of(response)["field"]) == (400, "file")
    assert send_file(admin, 99, "email\n").status_code == 404


def test_a_file_may_be_so_large_and_no_larger(admin: Caller, here: Settings, db: Db) -> None:
    news = add_list(db, "news", [])
    line = "someone@example.test\n"
    assert send_file(admin, news, "email\n" + line * 45_000).status_code == 202
    response = send_file(admin, news, "email\n" + line * 60_000)
    assert (response.status_code, error_of(response)["code"]) == (413, "too_large")
    assert len(list(here.uploads.iterdir())) == 1


def test_elsewhere_a_body_stays_small(admin: Caller) -> None:
    response = admin.ask("POST", "/api/lists", data={"file": (io.BytesIO(b"x" * 100_000), "x")})
    assert response.status_code in (413, 415)


def test_an_import_is_taken_while_redis_is_away(db: Db, here: Settings, tmp_path: Path) -> None:
    admin = caller(create_app(replace(here, redis_url=f"unix://{tmp_path}/none.sock"), db=db))
    assert send_file(admin, add_list(db, "news", []), "email\na@x.test\n").status_code == 202
    assert work_off(db, here, threading.Event()) == 1


def test_an_import_is_cancelled_once(admin: Caller, db: Db) -> None:
    import_id = send_file(admin, add_list(db, "news", []), "email\na@x.test\n").get_json()["id"]
    assert admin.post(f"/api/imports/{import_id}/cancel", {}).get_json()["state"] == "cancelled"
    assert admin.post(f"/api/imports/{import_id}/cancel", {}).status_code == 409
    assert find_import(db, import_id).state == "cancelled"


def test_people_are_found_page_by_page(admin: Caller, db: Db) -> None:
    add_people(db, 12)
    first = admin.get("/api/subscribers?q=P1&limit=3")
    assert [one["email"] for one in first.get_json()] == [f"p{n}@example.test" for n in (10, 11, 12)]
    second = admin.get(first.headers["Link"].partition(">")[0].strip("<"))
    assert [one["email"] for one in second.get_json()] == ["p1@example.test"]
    assert [one["name"] for one in admin.get("/api/subscribers?q=person%207").get_json()] == ["Person 7"]
    assert len(admin.get("/api/subscribers").get_json()) == 12
    assert admin.get("/api/subscribers?after=x").status_code == 400


@pytest.fixture
def ann(db: Db) -> int:
    (ann,) = add_people(db, 1, "ann")
    for name in ("news", "offers"):
        add_list(db, name, [ann])
    return ann


def test_one_person_with_everything_that_is_known(admin: Caller, ann: int) -> None:
    document = admin.get(f"/api/subscribers/{ann}").get_json()
    assert (document["email"], document["name"], document["status"]) == ("ann1@example.test", "Person 1", "active")
    assert document["attributes"] == {"city": "Rome"}
    assert [(one["list"], one["status"]) for one in document["memberships"]] == [
        ("news", "active"),
        ("offers", "active"),
    ]
    assert document["suppressed_by"] is None
    assert admin.get(f"/api/subscribers/{ann + 1}").status_code == 404


def test_somebody_leaves_a_list_is_blocked_let_in_and_forgotten(admin: Caller, ann: int) -> None:
    at = f"/api/subscribers/{ann}"

    def statuses(document: dict[str, Any]) -> dict[str, str]:
        return {one["list"]: one["status"] for one in document["memberships"]}

    left = admin.post(f"{at}/unsubscribe", {"list": "news"}).get_json()
    assert statuses(left) == {"news": "unsubscribed", "offers": "active"}
    assert statuses(admin.post(f"{at}/remove", {"list": "offers"}).get_json())["offers"] == "removed"
    nowhere = admin.post(f"{at}/unsubscribe", {"list": "nowhere"})
    assert (nowhere.status_code, error_of(nowhere)["field"]) == (404, "list")

    blocked = admin.post(f"{at}/block", {"reason": "she  asked"}).get_json()
    assert (blocked["status"], blocked["suppressed_by"]["reason"]) == ("blocked", "she asked")
    assert blocked["suppressed_by"]["rule"] == "ann1@example.test"
    free = admin.post(f"{at}/unblock", {}).get_json()
    assert (free["status"], free["suppressed_by"]) == ("active", None)

    gone = admin.ask("DELETE", at).get_json()
    assert (gone["status"], gone["name"], gone["attributes"]) == ("deleted", "", {})
    assert gone["email"] == "ann1@example.test"


def test_a_domains_rule_is_named_when_unblocking_is_not_enough(admin: Caller, db: Db, ann: int) -> None:
    db.run("INSERT INTO suppressions (kind, value, reason, created_at) VALUES ('domain', 'example.test', 'all', 1)")
    response = admin.post(f"/api/subscribers/{ann}/unblock", {})
    assert response.status_code == 409
    assert "@example.test" in error_of(response)["message"]


def test_looking_at_people_changes_nothing_and_a_reader_cannot(app: Flask, db: Db, ann: int) -> None:
    for scope in ("read", "send"):
        reader = caller(app, scope)
        assert reader.get(f"/api/subscribers/{ann}").status_code == 200
        for method, path in (
            ("POST", "/api/lists"), ("POST", "/api/lists/1/import"), ("POST", "/api/imports/1/cancel"),
            ("POST", f"/api/subscribers/{ann}/block"), ("DELETE", f"/api/subscribers/{ann}"),
        ):  # fmt: skip
            assert reader.ask(method, path, json={}).status_code == 403
    assert db.value("SELECT status FROM subscribers WHERE id = ?", ann) == "active"
