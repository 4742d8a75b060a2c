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
from app.mail.servers import cool_down
from app.models.tables import Server

KEYS = ("id", "name", "state", "can_send", "blocked_by", "free_at", "cooldown_until", "limits", "used")


@pytest.fixture
def home(db: Db, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
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
    assert servers("list") == 0
    assert "smtp.example.com:587" in capsys.readouterr().out


def test_a_server_in_trouble_says_why_and_until_when(
    home: Settings, db: Db, capsys: pytest.CaptureFixture[str]
) -> None:
    assert servers("add", "one", "--host", "h", "--port", "25") == 0
    capsys.readouterr()
    cool_down(db, 1, "421 too much", db.now_ms())
    (one,) = listed(capsys)
    assert (one["can_send"], one["blocked_by"]) == (False, "421 too much")
    assert datetime.fromisoformat(one["free_at"]).timestamp() * 1000 > db.now_ms()
    assert one["free_at"] == one["cooldown_until"]


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
