"""Secrets: made once, closed to others, whoever comes first."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from app.config import Settings, make_home, read_settings
from app.errors import SettingError
from app.secrets import secret, secret_file


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("ADMIN_PASSWORD", "SECRET_KEY", "CRON_SECRET"):
        monkeypatch.delenv(name, raising=False)
    made = read_settings({"MAILCREW_HOME": str(tmp_path / "home")}, root=tmp_path)
    make_home(made)
    return made


def test_a_secret_nobody_has_set_is_made_once_and_closed_to_others(home: Settings) -> None:
    made = secret(home, "CRON_SECRET")
    assert len(made) >= 40
    assert secret(home, "CRON_SECRET") == made
    path = secret_file(home, "CRON_SECRET")
    assert path.read_text().strip() == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in home.state.iterdir() if one.is_file()] == ["cron_secret"]


def test_each_secret_is_another(home: Settings) -> None:
    assert len({secret(home, name) for name in ("ADMIN_PASSWORD", "SECRET_KEY", "CRON_SECRET")}) == 3


def test_many_that_start_at_once_agree(home: Settings) -> None:
    gate, found = threading.Barrier(8), []

    def start() -> None:
        gate.wait()
        found.append(secret(home, "SECRET_KEY"))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_the_environment_wins_over_the_file_and_so_does_the_homes_env(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = secret(home, "ADMIN_PASSWORD")
    (home.home / ".env").write_text("ADMIN_PASSWORD=from-file\n")
    assert secret(home, "ADMIN_PASSWORD") == "from-file"
    monkeypatch.setenv("ADMIN_PASSWORD", "from-environment")
    assert secret(home, "ADMIN_PASSWORD") == "from-environment"
    monkeypatch.delenv("ADMIN_PASSWORD")
    (home.home / ".env").unlink()
    assert secret(home, "ADMIN_PASSWORD") == kept


def test_only_the_cron_secret_may_be_set_to_nothing(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_SECRET", "")
    assert secret(home, "CRON_SECRET") == ""
    assert not secret_file(home, "CRON_SECRET").exists()
    for name in ("SECRET_KEY", "ADMIN_PASSWORD"):
        monkeypatch.setenv(name, "")
        with pytest.raises(SettingError, match=name):
            secret(home, name)


def test_an_emptied_file_is_refused_not_taken_for_a_secret(home: Settings) -> None:
    secret_file(home, "SECRET_KEY").write_text("\n")
    with pytest.raises(SettingError, match="remove the file"):
        secret(home, "SECRET_KEY")
