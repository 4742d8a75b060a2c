"""Instants in a server's zone, and which zone a machine is in."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from app.errors import UsageError
from app.mail import when
from app.mail.when import shown_at, system_zone, zone


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("at", "timezone", "shown"),
    [
        ("2026-11-23T00:00:00+08:00", "Asia/Singapore", "2026-11-23 00:00 +08:00"),
        ("2026-11-22T16:00:00+00:00", "Asia/Singapore", "2026-11-23 00:00 +08:00"),
        ("2026-11-23T00:00:00.001+00:00", "UTC", "2026-11-23 00:01 +00:00"),
        ("2026-11-22T12:00:59.400+00:00", "UTC", "2026-11-22 12:01 +00:00"),
        ("2026-11-22T12:00:05+00:00", "America/St_Johns", "2026-11-22 08:30:05 -03:30"),
        ("2026-07-01T00:00:00+02:00", "Europe/Berlin", "2026-07-01 00:00 +02:00"),
        ("2026-11-22T12:00:05+00:00", "Mars/Olympus", "2026-11-22 12:00:05 +00:00"),
    ],
)
def test_an_instant_is_shown_in_the_zone_rounded_up(at: str, timezone: str, shown: str) -> None:
    assert shown_at(ms(at), timezone, ms("2026-11-22T12:00:00+00:00")) == shown


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../etc/passwd", "/etc/localtime", "a\0b", "+08:00"])
def test_what_is_no_zone_is_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match="--timezone="):
        zone(name)


def test_a_machine_says_its_zone_by_variable_link_or_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(when, "LOCALTIME", tmp_path / "localtime")
    monkeypatch.setattr(when, "TIMEZONE_FILE", tmp_path / "timezone")
    monkeypatch.delenv("TZ", raising=False)
    assert system_zone() == "UTC"
    (tmp_path / "timezone").write_text("Asia/Tokyo\n")
    assert system_zone() == "Asia/Tokyo"
    zones = tmp_path / "share" / "zoneinfo" / "Europe"
    zones.mkdir(parents=True)
    (zones / "Berlin").write_text("")
    (tmp_path / "localtime").symlink_to(zones / "Berlin")
    assert system_zone() == "Europe/Berlin"
    monkeypatch.setenv("TZ", "Nowhere/Land")
    assert system_zone() == "Europe/Berlin"
    monkeypatch.setenv("TZ", ":America/Lima")
    assert system_zone() == "America/Lima"
    assert zone("Europe/Berlin") == ZoneInfo("Europe/Berlin")
