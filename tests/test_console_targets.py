"""The pages of targets: added, paused, removed, and how they have been, in figures and in a strip."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import redis
from flask import Flask

from app.addresses import EVERYTHING
from app.config import Settings
from app.db import Db
from app.schedules.checks.recording import DAY_MS
from app.schedules.checks.store import MOST_TARGETS, find_target, targets_of
from app.schedules.times import MINUTE
from app.web.application import create_app
from tests.checks.site import Site
from tests.checks.targets import add_http, add_user, run
from tests.console import Visitor, logged_in
from tests.schedules.pages import NASTY, figures, fresh, put_in


@pytest.fixture
def here(settings: Settings, redis_server: str) -> Settings:
    return replace(settings, redis_url=f"{redis_server}?db=3", allow_private_addresses=EVERYTHING)


@pytest.fixture
def app(db: Db, here: Settings, client: redis.Redis) -> Flask:
    return create_app(here, db=db)


@pytest.fixture
def visitor(app: Flask) -> Visitor:
    return logged_in(app)


def test_a_user_without_targets_is_told_to_add_one_and_adds_one(visitor: Visitor, db: Db) -> None:
    user = add_user(db)
    assert f'href="/schedules/{user}/targets/new"' in visitor.get(f"/schedules/{user}").text
    visitor.get(f"/schedules/{user}/targets/new")
    led = put_in(
        visitor, f"/schedules/{user}/targets/new", kind="http", url=" http://shop.test/health ", name="shop",
        keyword=" ok", expect_status="", redirects="0", timeout_seconds="7", confirmations="3", webhook="",
    )  # fmt: skip
    assert led == f"/schedules/{user}"
    (target,) = targets_of(db, user)
    wanted = target.wanted
    assert (wanted.url, wanted.name, wanted.keyword) == ("http://shop.test/health", "shop", " ok")
    assert (wanted.redirects, wanted.timeout_seconds, wanted.confirmations) == (0, 7, 3)
    put_in(
        visitor, f"/schedules/{user}/targets/new", kind="tcp", host="mx.test", port="25", timeout_seconds="10",
        confirmations="2",
    )  # fmt: skip
    page = visitor.get(f"/schedules/{user}").text
    assert ">shop</a>" in page
    assert ">mx.test:25</a>" in page
    assert "not checked yet" in page


@pytest.mark.parametrize(
    ("kind", "changes", "field"),
    [
        ("http", {"url": ""}, "url"), ("http", {"url": "ftp://x.test/"}, "url"),
        ("http", {"url": "http://u:p@x.test/"}, "url"), ("http", {"expect_status": "0"}, "expect_status"),
        ("http", {"redirects": "11"}, "redirects"), ("http", {"redirects": "x"}, "redirects"),
        ("http", {"timeout_seconds": "0"}, "timeout_seconds"), ("http", {"confirmations": "11"}, "confirmations"),
        ("http", {"name": "x" * 201}, "name"), ("http", {"keyword": "x" * 201}, "keyword"),
        ("http", {"not_keyword": "a\x07"}, "not_keyword"), ("http", {"webhook": "x"}, "webhook"),
        ("http", {"webhook": NASTY}, "webhook"), ("http", {"name": "taken"}, "name"),
        ("tcp", {"host": ""}, "host"), ("tcp", {"host": "a b"}, "host"), ("tcp", {"port": "0"}, "port"),
        ("tcp", {"port": "x"}, "port"), ("tcp", {"port": ""}, "port"), ("tcp", {"port": "9" * 30}, "port"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_target_stands_at_its_field(
    visitor: Visitor, db: Db, kind: str, changes: dict[str, str], field: str
) -> None:
    user = add_user(db)
    add_http(db, user, "http://x.test/", name="taken")
    right = {"http": {"url": "http://x.test/", "name": "n"}, "tcp": {"host": "x.test", "port": "25", "name": "n"}}[kind]
    path = f"/schedules/{user}/targets/new"
    visitor.get(path)
    answer = visitor.post(path, kind=kind, **{**right, **changes})
    assert answer.status_code in (400, 409)
    assert re.findall(r'class="wrong" id="wrong-(\w+)"', answer.text) == [field]
    assert f'aria-describedby="hint-{field} wrong-{field}"' in answer.text
    assert 'value="n"' in answer.text or field == "name", "what was typed stays"
    assert "<script>alert" not in answer.text
    assert len(targets_of(db, user)) == 1


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"kind": "http", "url": "http://127.0.0.1/"}, "url"),
        ({"kind": "tcp", "host": "10.0.0.1", "port": "25"}, "host"),
        ({"kind": "http", "url": "http://x.test/", "webhook": "http://169.254.169.254/"}, "webhook"),
    ],
)
def test_an_address_inside_is_refused_at_its_field(
    db: Db, settings: Settings, fields: dict[str, str], field: str
) -> None:
    user, visitor = add_user(db), logged_in(create_app(settings, db=db))
    path = f"/schedules/{user}/targets/new"
    visitor.get(path)
    answer = visitor.post(path, **fields)
    assert answer.status_code == 409
    assert re.findall(r'class="wrong" id="wrong-(\w+)"', answer.text) == [field]
    assert targets_of(db, user) == []


def test_one_target_too_many_is_told_before_the_form_is_filled_in(visitor: Visitor, db: Db) -> None:
    user = add_user(db)
    for number in range(MOST_TARGETS):
        add_http(db, user, "http://x.test/", name=str(number))
    path = f"/schedules/{user}/targets/new"
    page = visitor.get(path).text
    assert "Remove one first" in page
    assert 'name="url"' not in page
    assert visitor.post(path, kind="http", url="http://x.test/").status_code == 409


def test_a_target_is_paused_and_checked_again_and_removed(visitor: Visitor, db: Db) -> None:
    user = add_user(db)
    target = add_http(db, user, "http://x.test/", name="shop")
    base = f"/schedules/{user}/targets/{target}"
    visitor.get(base)
    assert put_in(visitor, f"{base}/switch", enabled="0") == f"/schedules/{user}"
    assert ">off</span>" in visitor.get(base).text
    assert not find_target(db, target).wanted.enabled
    assert put_in(visitor, f"{base}/switch", enabled="1", stay="1") == base
    assert find_target(db, target).wanted.enabled
    assert put_in(visitor, f"{base}/remove") == f"/schedules/{user}"
    assert "shop is removed" in visitor.get(f"/schedules/{user}").text
    assert visitor.get(base).status_code == 404
    assert visitor.post(f"{base}/remove").status_code == 404


def test_the_target_of_somebody_else_is_out_of_reach(visitor: Visitor, db: Db) -> None:
    mine, other = add_user(db), add_user(db, "else@x.test")
    target = add_http(db, other, "http://x.test/")
    base = f"/schedules/{mine}/targets/{target}"
    visitor.get("/schedules")
    assert visitor.get(base).status_code == 404
    assert visitor.post(f"{base}/switch", enabled="0").status_code == 404
    assert visitor.post(f"{base}/remove").status_code == 404
    assert find_target(db, target).wanted.enabled


def test_real_checks_are_shown_as_the_api_tells_them(visitor: Visitor, db: Db, here: Settings) -> None:
    user = add_user(db)
    now = db.now_ms()
    with Site() as site:
        target = add_http(db, user, site.url(), name="shop", confirmations=1)
        run(db, here, user, now - 3 * MINUTE)
        site.down()
        run(db, here, user, now - 2 * MINUTE)
        page = visitor.get(f"/schedules/{user}/targets/{target}").text
        assert ">down</span>" in page
        assert "goes on" in page
        site.up()
        run(db, here, user, now - MINUTE)
    fresh(visitor)
    page = visitor.get(f"/schedules/{user}/targets/{target}").text
    api = visitor.client.get(f"/api/schedules/{user}/targets/{target}/history").get_json()
    assert ">up</span>" in page
    assert "1 min</td>" in page, "how long it was down"
    assert figures(page)["90 days"].replace("\N{NO-BREAK SPACE}", " ") == "66.7 %"
    assert len(api["results"]) == 3
    assert all(page.count(one["error"]) >= 2 for one in api["results"] if one["error"]), "the outage and the result"
    assert ">shop</a>" in visitor.get(f"/schedules/{user}").text


def test_the_strip_can_be_read_without_colours(visitor: Visitor, db: Db) -> None:
    user = add_user(db)
    target, today = add_http(db, user, "http://x.test/"), db.now_ms() // DAY_MS
    rows = [
        (target, today, 10, 0, 500, 60),
        (target, today - 1, 100, 50, 500, 60),
        (target, today - 3, 1000, 1, 500, 60),
    ]
    db.run_many("INSERT INTO check_days (target_id, day, checks, failures, latency_sum, latency_max)", rows)
    page = visitor.get(f"/schedules/{user}").text
    drawing = re.search(r'<svg class="strip".*?</svg>', page, re.DOTALL)
    assert drawing
    days = re.findall(r"<g><title>(.*?)</title>(.*?)</g>", drawing[0], re.DOTALL)
    assert len(days) == 30

    def day(back: int) -> tuple[str, list[tuple[str, float]]]:
        title, shapes = days[-1 - back]
        found = re.findall(r'class="(\w+)".*?height="([\d.]+)"', shapes)
        return title, [(kind, float(height)) for kind, height in found]

    assert day(0) == (f"{iso(today)}: 100\N{NO-BREAK SPACE}% of 10 checks were good, 0 failed", [("good", 30)])
    assert day(1) == (
        f"{iso(today - 1)}: 50\N{NO-BREAK SPACE}% of 100 checks were good, 50 failed", [("good", 30), ("bad", 15)]
    )  # fmt: skip
    assert day(2) == (f"{iso(today - 2)}: no checks", [("none", 4)])
    assert day(3)[0].startswith(f"{iso(today - 3)}: 99.9")
    assert day(3)[1] == [("good", 30), ("bad", 6)], "one failure of a thousand is still seen"
    assert "failures on 2 days" in page
    label = re.search(r'aria-label="(.*?)"', drawing[0])
    assert label
    assert "days with failures: 2" in label[1]


def iso(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_MS / 1000, UTC).date().isoformat()
