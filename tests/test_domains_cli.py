"""`mailcrew domains` as people and scripts use it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from app import config
from app.cli.main import main
from app.config import Settings
from app.db import Db
from app.mail.limits import load_rules


@pytest.fixture
def home(db: Db, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv("MAILCREW_HOME", str(settings.home))
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    config.settings.cache_clear()
    yield settings
    config.settings.cache_clear()


def domains(*arguments: str) -> int:
    try:
        return main(["domains", *arguments])
    except SystemExit as end:
        return int(end.code or 0)


def test_a_rule_is_set_listed_and_removed(home: Settings, db: Db, capsys: pytest.CaptureFixture[str]) -> None:
    assert domains("list") == 0
    assert "no rule" in capsys.readouterr().out
    assert domains("set", "Example.COM", "--per-minute", "600", "--per-day", "20000") == 0
    assert capsys.readouterr().out.split() == ["example.com", "600", "per", "minute,", "20000", "per", "day"]
    assert domains("set", "example.com", "--per-minute", "300") == 0
    assert domains("set", "*.example.net", "--per-second", "1") == 0
    capsys.readouterr()
    assert domains("list", "--json") == 0
    none = {"per_second": None, "per_minute": None, "per_hour": None, "per_day": None}
    assert json.loads(capsys.readouterr().out) == [
        {"domain": "*.example.net", "limits": {**none, "per_second": 1}},
        {"domain": "example.com", "limits": {**none, "per_minute": 300}},
    ]
    rule = load_rules(db).for_address("bob@example.com")
    assert rule
    assert rule.limits.per_minute == 300
    assert domains("unset", "example.com") == 0
    assert domains("unset", "example.com") == 1
    assert "domains list" in capsys.readouterr().err


def test_what_cannot_be_a_rule_is_refused(home: Settings, db: Db, capsys: pytest.CaptureFixture[str]) -> None:
    assert domains("set", "example.com") == 2
    assert domains("set", "exa mple.com", "--per-day", "5") == 2
    assert domains("set", "example.com", "--per-day", "0") == 2
    assert capsys.readouterr().err.count("mailcrew: ") == 3
    assert db.rows("SELECT * FROM domain_limits") == []


def test_the_shipped_rules_leave_ours_alone(home: Settings, db: Db, capsys: pytest.CaptureFixture[str]) -> None:
    assert domains("set", "gmail.com", "--per-minute", "7") == 0
    assert domains("use-defaults") == 0
    added = capsys.readouterr().out.splitlines()[1:-1]
    assert any(line.startswith("qq.com ") for line in added)
    assert not any(line.startswith("gmail.com ") for line in added)
    rule = load_rules(db).for_address("a@gmail.com")
    assert rule
    assert rule.limits.per_minute == 7
    assert domains("use-defaults") == 0
    assert "0 rules added" in capsys.readouterr().out
