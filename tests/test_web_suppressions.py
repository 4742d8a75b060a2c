"""/api/suppressions: rules by which addresses and domains are never mailed, over HTTP."""

from __future__ import annotations

import io
import json
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
from app.lists.suppressing import is_any_opening, listed
from app.queues.broker import NAMESPACE
from app.web.application import create_app
from app.web.audit import entries
from tests.sending import add_list, add_people
from tests.web import Caller, caller, error_of
from tests.working import WorkerProcess, eventually


@pytest.fixture
def here(settings: Settings, redis_server: str) -> Settings:
    return replace(settings, redis_url=f"{redis_server}?db=13", upload_mb=1)


@pytest.fixture
def app(db: Db, here: Settings, client: redis.Redis) -> Flask:
    return create_app(here, db=db)


@pytest.fixture
def admin(app: Flask) -> Caller:
    return caller(app)


def send_file(admin: Caller, content: str, **more: str) -> TestResponse:
    data = {"file": (io.BytesIO(content.encode()), "files/rules.csv"), **more}
    return admin.ask("POST", "/api/suppressions/import", data=data)


def statuses(db: Db) -> dict[str, str]:
    return {str(email): str(status) for email, status in db.rows("SELECT email, status FROM subscribers")}


def test_an_address_is_added_once_and_removed(admin: Caller, db: Db) -> None:
    add_list(db, "all", add_people(db, 2))
    made = admin.post("/api/suppressions", {"rule": " P1@example.test", "reason": "she  asked"})
    assert made.status_code == 201
    assert made.get_json() == {
        "rule": "p1@example.test", "kind": "address", "created": True, "blocked": 1, "opening": False,
    }  # fmt: skip
    again = admin.post("/api/suppressions", {"rule": "p1@example.test"})
    assert (again.status_code, again.get_json()["created"], again.get_json()["blocked"]) == (200, False, 0)
    (one,) = admin.get("/api/suppressions?q=p1").get_json()
    assert (one["rule"], one["kind"], one["reason"], one["opening"]) == (
        "p1@example.test",
        "address",
        "she asked",
        False,
    )
    assert statuses(db) == {"p1@example.test": "blocked", "p2@example.test": "active"}
    gone = admin.ask("DELETE", "/api/suppressions?rule=p1@example.test").get_json()
    assert gone == {"rule": "p1@example.test", "kind": "address", "removed": True, "released": 1}
    assert admin.ask("DELETE", "/api/suppressions?rule=p1@example.test").status_code == 404
    assert ("suppressions.new", "201: p1@example.test") in [(e.action, e.detail) for e in entries(db, 9)]


def test_a_domain_holds_at_once_and_its_people_are_left_to_a_worker(admin: Caller, db: Db, client: redis.Redis) -> None:
    add_list(db, "all", add_people(db, 3))
    made = admin.post("/api/suppressions", {"rule": "@example.test", "reason": None}).get_json()
    assert (made["created"], made["blocked"], made["opening"]) == (True, 0, True)
    (one,) = admin.get("/api/suppressions").get_json()
    assert (one["rule"], one["kind"], one["reason"], one["opening"]) == (
        "@example.test",
        "domain",
        "added by hand",
        True,
    )
    assert admin.get("/api/suppressions/count").get_json() == {"addresses": 0, "domains": 1}
    assert client.llen(f"{NAMESPACE}:mail") == 1


@pytest.mark.slow
def test_a_worker_blocks_whom_a_domain_means_and_reads_a_file(admin: Caller, db: Db, here: Settings) -> None:
    add_list(db, "all", add_people(db, 3))
    admin.post("/api/suppressions", {"rule": "@example.test"})
    import_id = send_file(admin, "@other.test\nann@here.test\n").get_json()["id"]
    with WorkerProcess(here, "--queues", "mail", name="mail_00"):
        eventually(lambda: set(statuses(db).values()) == {"blocked"}, "everybody is blocked")
        eventually(lambda: admin.get(f"/api/imports/{import_id}").get_json()["state"] == "done", "it is read")
        eventually(lambda: not is_any_opening(db), "every rule is done")


def test_a_rule_is_added_while_redis_is_away(db: Db, here: Settings, tmp_path: Path) -> None:
    admin = caller(create_app(replace(here, redis_url=f"unix://{tmp_path}/none.sock"), db=db))
    assert admin.post("/api/suppressions", {"rule": "@example.test"}).status_code == 201
    assert is_any_opening(db)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "rule"), ({"rule": "nobody"}, "rule"), ({"rule": "@"}, "rule"), ({"rule": ""}, "rule"),
        ({"rule": 5}, "rule"),
        ({"rule": "a@b.example\nc@d.example"}, "rule"), ({"rule": "a@b.example", "reason": "x" * 501}, "reason"),
        ({"rule": "a@b.example", "reason": 5}, "reason"), ({"rule": "a@b.example", "why": "x"}, "why"),
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused_by_its_field(admin: Caller, db: Db, body: dict[str, Any], field: str) -> None:
    refused = admin.post("/api/suppressions", body)
    assert (refused.status_code, error_of(refused)["field"]) == (400, field)
    assert list(listed(db)) == []


def test_rules_are_found_page_by_page(admin: Caller, db: Db) -> None:
    for number in range(7):
        admin.post("/api/suppressions", {"rule": f"p{number}@x.test"})
    first = admin.get("/api/suppressions?q=p&limit=4")
    assert [one["rule"] for one in first.get_json()] == [f"p{n}@x.test" for n in range(4)]
    second = admin.get(first.headers["Link"].partition(">")[0].strip("<"))
    assert [one["rule"] for one in second.get_json()] == [f"p{n}@x.test" for n in range(4, 7)]
    assert "Link" not in second.headers
    assert admin.get("/api/suppressions?after=x").status_code == 400
    refused = admin.ask("DELETE", "/api/suppressions")
    assert (refused.status_code, error_of(refused)["field"]) == (400, "rule")


def test_a_file_is_taken_and_told_like_any_import(admin: Caller, db: Db, here: Settings) -> None:
    add_list(db, "all", add_people(db, 5))
    taken = send_file(admin, "p1@example.test\nnobody\n@other.test\n", reason=" complaints  of 2026 ")
    assert taken.status_code == 202
    document = taken.get_json()
    assert (document["state"], document["list_id"], document["file"], document["by"]) == (
        "waiting", None, "rules.csv", "admin-tester",
    )  # fmt: skip
    work_off(db, here, threading.Event())
    done = admin.get(f"/api/imports/{document['id']}").get_json()
    figures = {"state": "done", "read": 3, "created": 2, "updated": 0, "unchanged": 0, "rejected": 1, "blocked": 1}
    assert {name: done[name] for name in figures} == figures
    assert admin.get("/api/imports?list=0").get_json() == [done]
    assert admin.get("/api/imports").get_json() == [done]
    assert admin.get(f"/api/imports/{document['id']}/rejects").text.splitlines()[1].startswith("2,invalid address")
    assert {one.reason for one in listed(db)} == {"complaints of 2026"}
    assert ("suppressions.import_file", f"202: files/rules.csv into suppression, import {document['id']}") in [
        (entry.action, entry.detail) for entry in entries(db, 9)
    ]
    send_file(admin, "b@example.test\n")
    work_off(db, here, threading.Event())
    assert "imported from rules.csv" in {one.reason for one in listed(db)}


@pytest.mark.parametrize(
    ("content", "more", "field"),
    [
        ("name\nAnn\n", {}, "file"),
        ("", {}, "file"),
        ("a@x.test\n", {"encoding": "klingon"}, "encoding"),
        ("a@x.test\n", {"reason": "x" * 501}, "reason"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_at_once(
    admin: Caller, here: Settings, content: str, more: dict[str, str], field: str
) -> None:
    response = send_file(admin, content, **more)
    assert (response.status_code, error_of(response)["field"]) == (400, field)
    assert admin.get("/api/imports").get_json() == []
    assert not here.uploads.exists() or list(here.uploads.iterdir()) == []


def test_a_file_may_be_so_large_and_no_larger(admin: Caller) -> None:
    assert send_file(admin, "someone@example.test\n" * 45_000).status_code == 202
    assert send_file(admin, "someone@example.test\n" * 60_000).status_code == 413


def test_who_may_only_look_or_send_changes_nothing(app: Flask, db: Db) -> None:
    for scope in ("read", "send"):
        one = caller(app, scope)
        assert one.get("/api/suppressions").status_code == 200
        for method, path in (("POST", ""), ("DELETE", "?rule=a@b.example"), ("POST", "/import")):
            assert one.ask(method, f"/api/suppressions{path}", json={"rule": "a@b.example"}).status_code == 403
    assert json.dumps([str(one) for one in listed(db)]) == "[]"
