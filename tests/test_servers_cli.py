"""`mailcrew servers` as people and scripts use it; a password is neither stored nor shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from app import config
from app.cli.main import main
from app.config import Settings
from app.db import Db
from app.mail.cooldown import Spot, Trouble
from app.mail.limits import History, Limiter, Limits, Refusal
from app.models.tables import Server
from app.queues.broker import redis_client

KEYS = ("id", "name", "state", "can_send", "blocked_by", "free_at", "cooldown_until", "limits", "used")


@pytest.fixture
def home(db: Db, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    client = redis_client(settings.redis_url)
    client.flushdb()
    client.close()
    monkeypatch.setenv("MAILCREW_HOME", str(settings.home))
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    config.settings.cache_clear()
    yield settings
    config.settings.cache_clear()


def servers(*arguments: str) -> int:
    try:
        return main(["servers", *arguments])
    except SystemExit as end:
        return int(end.code or 0)


def listed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    assert servers("list", "--json") == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_a_server_is_added_with_its_limits_and_listed(home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    limits = ("--per-second", "5", "--per-minute", "100", "--per-hour", "1000", "--per-day", "9000")
    arguments = ("add", "one", "--host", "smtp.example.com", "--port", "587", "--tls", "starttls", *limits)
    assert servers(*arguments, "--max-connections", "3", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"id": 1}
    (one,) = listed(capsys)
    assert set(KEYS) <= set(one)
    assert (one["name"], one["state"], one["can_send"], one["blocked_by"], one["free_at"]) == (
        "one", "active", True, None, None,
    )  # fmt: skip
    assert one["limits"] == {"per_second": 5, "per_minute": 100, "per_hour": 1000, "per_day": 9000}
    assert one["used"] == {"per_second": 0, "per_minute": 0, "per_hour": 0, "per_day": 0}
    assert servers("list") == 0
    said = capsys.readouterr().out
    assert "smtp.example.com:587" in said
    assert "0/5 per second, 0/100 per minute, 0/1000 per hour, 0/9000 per day" in said


def test_a_server_in_trouble_says_why_and_until_when(
    home: Settings, db: Db, capsys: pytest.CaptureFixture[str]
) -> None:
    assert servers("add", "one", "--host", "h", "--port", "25") == 0
    capsys.readouterr()
    Spot(1, "one").cool_down(db, Trouble(), "421 too much", db.now_ms())
    (one,) = listed(capsys)
    assert (one["can_send"], one["blocked_by"]) == (False, "421 too much")
    assert datetime.fromisoformat(one["free_at"]).timestamp() * 1000 > db.now_ms()
    assert one["free_at"] == one["cooldown_until"]


def test_a_server_whose_limit_is_used_up_says_so_in_its_own_zone(
    home: Settings, db: Db, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--host", "h", "--port", "25", "--per-day", "3", "--timezone", "Asia/Singapore", "--weight", "2")
    assert servers("add", "one", *arguments) == 0
    client = redis_client(home.redis_url)
    limiter = Limiter(client, History(db))
    limits = Limits(per_day=3, timezone="Asia/Singapore")
    for _ in range(3):
        block = limiter.reserve(1, "one", limits, 1)
        assert not isinstance(block, Refusal)
        block.take()
    capsys.readouterr()
    (one,) = listed(capsys)
    assert (one["can_send"], one["blocked_by"]) == (False, "day limit of server one")
    assert one["used"]["per_day"] == 3
    assert (one["state"], one["cooldown_until"], one["weight"], one["timezone"]) == (
        "active",
        None,
        2,
        "Asia/Singapore",
    )
    assert datetime.fromisoformat(one["free_at"]).hour == 16, "midnight there, in UTC"
    assert servers("list") == 0
    said = capsys.readouterr().out
    assert "blocked by day limit of server one, free at 20" in said
    assert "00:00 +08:00" in said
    assert "3/3 per day" in said
    client.close()


def test_without_redis_servers_are_listed_and_what_is_used_is_not_known(
    home: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert servers("add", "limited", "--host", "h", "--port", "25", "--per-hour", "9") == 0
    assert servers("add", "free", "--host", "h", "--port", "25") == 0
    monkeypatch.setenv("REDIS_URL", "unix:///nowhere/redis.sock")
    config.settings.cache_clear()
    capsys.readouterr()
    free, limited = listed(capsys)
    assert (free["can_send"], limited["can_send"], limited["used"]) == (True, False, None)
    assert "Redis does not answer" in limited["blocked_by"]
    assert servers("list") == 0
    assert "?/9 per hour" in capsys.readouterr().out


def test_a_password_is_neither_stored_nor_shown(
    home: Settings, db: Db, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONE_PASSWORD", "tr0ub4dor")
    arguments = ("--tls", "tls", "--user", "me", "--password-env", "ONE_PASSWORD")
    assert servers("add", "one", "--host", "h", "--port", "465", *arguments) == 0
    assert servers("list") == 0
    assert servers("list", "--json") == 0
    output = capsys.readouterr()
    assert "tr0ub4dor" not in output.out + output.err
    assert "tr0ub4dor" not in str(db.rows("SELECT * FROM servers"))
    assert Server.get().password_env == "ONE_PASSWORD"


def test_there_is_no_option_that_takes_a_password(home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    # Exactly these options: argparse would take --password for --password-env.
    assert servers("add", "one", "--host", "h", "--port", "465", "--tls", "tls", "--user", "u", "--password", "x") == 2
    assert Server.select().count() == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--port", "0"], "--port=0"),
        (["--port", "65536"], "--port=65536"),
        (["--port", "x"], "--port"),
        (["--host", ""], "--host"),
        (["--host", "a b"], "--host"),
        (["--tls", "ssl"], "--tls"),
        (["--per-second", "0"], "--per-second=0"),
        (["--per-day", "-5"], "--per-day"),
        (["--per-day", "99999999999999999999"], "--per-day"),
        (["--per-hour", "3000000000"], "--per-hour"),
        (["--max-connections", "0"], "--max-connections"),
        (["--weight", "0"], "--weight=0"),
        (["--weight", "1001"], "--weight=1001"),
        (["--timezone", "Mars/Olympus"], "--timezone='Mars/Olympus'"),
        (["--timezone", "../../etc/passwd"], "--timezone"),
        (["--user", "u"], "--password-env"),
        (["--password-env", "V"], "--user"),
        (["--user", "u", "--password-env", "V", "--tls", "none"], "in clear"),
        (["--tls-ca", "/nowhere.pem"], "no such file"),
    ],
)
def test_a_value_that_cannot_work_is_refused_and_named(
    home: Settings, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert servers("add", "one", "--host", "h", "--port", "25", *more) == 2
    output = capsys.readouterr()
    assert said in output.err
    assert output.out == ""
    assert Server.select().count() == 0


def test_a_name_is_taken_once(home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert servers("add", "one", "--host", "h", "--port", "25") == 0
    assert servers("add", "one", "--host", "i", "--port", "25") == 1
    assert "already" in capsys.readouterr().err
    assert [server.host for server in Server.select()] == ["h"]


def test_without_servers_the_next_step_is_named(home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys) == []
    assert servers("list") == 0
    assert "servers add" in capsys.readouterr().out
