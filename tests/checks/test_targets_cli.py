"""`mailcrew targets` as people and scripts use it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from app import config
from app.cli.main import main
from app.config import Settings
from app.db import Db
from app.schedules.checks.store import targets_of
from app.schedules.users import find_user
from tests.checks.site import Site
from tests.checks.targets import add_http, add_user, run

ANN = "ann@example.test"
URL = "https://shop.example.test/health"


@pytest.fixture
def home(db: Db, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv("MAILCREW_HOME", str(settings.home))
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    config.settings.cache_clear()
    yield settings
    config.settings.cache_clear()


def targets(*arguments: str) -> int:
    try:
        return main(["targets", *arguments])
    except SystemExit as end:
        return int(end.code or 0)


def listed(capsys: pytest.CaptureFixture[str], user: str = ANN) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert targets("list", user, "--json") == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_targets_are_added_listed_and_removed(home: Settings, db: Db, capsys: pytest.CaptureFixture[str]) -> None:
    user = add_user(db, ANN)
    more = ("--expect-status", "200,204", "--keyword", "ok", "--redirects", "0", "--timeout-seconds", "5")
    assert targets("add", ANN, "--kind", "http", "--url", URL, *more, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"id": 1}
    assert targets("add", str(user), "--kind", "tcp", "--host", "mx.example.test", "--port", "25") == 0
    assert capsys.readouterr().out == "target 2 added: TCP mx.example.test:25\n"
    http, tcp = listed(capsys)
    assert (http["id"], http["url"], http["expect_status"], http["keyword"]) == (1, URL, "200,204", "ok")
    assert (http["redirects"], http["timeout_seconds"], http["confirmations"], http["state"]) == (0, 5, 2, "unknown")
    assert (tcp["kind"], tcp["host"], tcp["port"], tcp["last"]) == ("tcp", "mx.example.test", 25, None)
    assert targets("remove", "1") == 0
    assert [one["id"] for one in listed(capsys)] == [2]
    assert targets("remove", "1") == 1
    assert "there is no target 1" in capsys.readouterr().err


def test_a_new_address_makes_the_user(home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert targets("add", "new@example.test", "--kind", "http", "--url", URL) == 0
    assert "user new@example.test is new, checked every 5 minutes" in capsys.readouterr().out
    assert len(listed(capsys, "new@example.test")) == 1


def test_an_unknown_user_has_no_targets(home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    for user in ("4711", "nobody@example.test"):
        assert targets("list", user) == 1
        assert f"there is no user {user}" in capsys.readouterr().err
    assert targets("add", "4711", "--kind", "http", "--url", URL) == 1


@pytest.mark.parametrize("verb", ["remove", "enable", "disable"])
@pytest.mark.parametrize("unknown", ["4711", "-1", "99999999999999999999", "-99999999999999999999"])
def test_an_unknown_target_is_said_to_be_unknown(
    home: Settings, capsys: pytest.CaptureFixture[str], verb: str, unknown: str
) -> None:
    assert targets(verb, unknown) == 1
    assert f"there is no target {unknown}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--kind", "http"), "url is missing"),
        (("--kind", "http", "--url", "ftp://x"), "url='…' is not allowed"),
        (("--kind", "http", "--url", "https://u:hunter2@x/"), "no user name or password"),
        (("--kind", "http", "--url", URL, "--port", "5"), "port=5 is not allowed: leave it out"),
        (("--kind", "http", "--url", URL, "--timeout-seconds", "900"), "timeout_seconds=900 is not allowed"),
        (("--kind", "http", "--url", URL, "--expect-status", "2xx"), "expect_status='2xx' is not allowed"),
        (("--kind", "tcp", "--host", "a b", "--port", "5"), "host='a b' is not allowed"),
        (("--kind", "tcp", "--host", "h"), "port is missing"),
        (("--kind", "icmp"), "invalid choice: 'icmp'"),
    ],
)
def test_what_is_wrong_is_named(
    home: Settings, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert targets("add", ANN, *arguments) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "hunter2" not in err
    assert targets("list", ANN) == 1, "a mistake makes no user"


def test_an_address_inside_is_refused(home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert targets("add", ANN, "--kind", "tcp", "--host", "0x7f.1", "--port", "6379") == 1
    assert "ALLOW_PRIVATE_ADDRESSES=127.0.0.1" in capsys.readouterr().err


def test_a_target_rests_and_goes_on(home: Settings, db: Db, capsys: pytest.CaptureFixture[str]) -> None:
    add_user(db, ANN)
    targets("add", ANN, "--kind", "http", "--url", URL, "--name", "shop")
    assert targets("disable", "1") == 0
    assert targets("disable", "1") == 0
    assert capsys.readouterr().out.splitlines()[-2:] == ["target 1 (shop) is off", "target 1 (shop) is off already"]
    assert listed(capsys)[0]["enabled"] is False
    assert targets("enable", "1") == 0
    assert listed(capsys)[0]["enabled"] is True
    assert targets("enable", "9") == 1


def test_the_list_says_how_each_one_stands(home: Settings, db: Db, capsys: pytest.CaptureFixture[str]) -> None:
    user = add_user(db, ANN)
    assert targets("list", ANN) == 0
    assert "nothing is checked" in capsys.readouterr().out
    with Site() as site:
        add_http(db, user, site.url("/gone"), name="shop", confirmations=1, webhook="https://h.example/secret")
        run(db, home, user)
    (one,) = listed(capsys)
    assert (one["state"], one["failures"], one["webhook"]) == ("down", 1, "https://h.example/…")
    assert (one["last"]["ok"], one["last"]["status_code"]) == (False, 404)
    assert one["last"]["error"] == "status 404 Not Found, expected 200-399"
    assert targets("list", ANN) == 0
    (line,) = capsys.readouterr().out.splitlines()
    for word in ("down", "shop", "/gone", "status 404 Not Found"):
        assert word in line
    assert len(targets_of(db, find_user(ANN).id)) == 1
