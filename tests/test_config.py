"""Settings: where they come from, what they may be, and whose the directories are."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest

from app.config import LONGEST_SOCKET_DIR, TABLE, make_home, read_settings, setting_problems
from app.db import connect, migrate
from app.errors import SettingError


def test_everything_has_a_default(tmp_path: Path) -> None:
    found = read_settings({}, root=tmp_path)
    assert found.home == tmp_path / "var"
    assert found.database_url == f"sqlite:///{tmp_path / 'var' / 'mailcrew.db'}"
    assert found.redis_is_embedded
    assert found.redis_url.startswith("unix://")
    assert found.http_bind == ("127.0.0.1", 8025)
    assert (found.expand_batch_size, found.send_batch_size, found.lease_seconds, found.stop_grace_seconds) == (
        5000, 100, 30, 120,
    )  # fmt: skip


def test_the_environment_wins_over_the_home_and_the_home_over_the_root(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / ".env").write_text("MAILCREW_HOME=home\nSEND_BATCH_SIZE=1\nLEASE_SECONDS=11\nEXPAND_BATCH_SIZE=21\n")
    (home / ".env").write_text("SEND_BATCH_SIZE=2\nLEASE_SECONDS=12\n")
    found = read_settings({"SEND_BATCH_SIZE": "3"}, root=tmp_path)
    assert (found.home, found.send_batch_size, found.lease_seconds, found.expand_batch_size) == (home, 3, 12, 21)


def test_an_empty_variable_counts_as_unset(tmp_path: Path) -> None:
    found = read_settings({"SEND_BATCH_SIZE": "", "REDIS_URL": "", "MAILCREW_HOME": ""}, root=tmp_path)
    assert (found.send_batch_size, found.home) == (100, tmp_path / "var")
    assert found.redis_is_embedded


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SEND_BATCH_SIZE", "0"),
        ("SEND_BATCH_SIZE", "1001"),
        ("SEND_BATCH_SIZE", "ten"),
        ("LEASE_SECONDS", "4"),
        ("LEASE_SECONDS", "30.5"),
        ("HOST_GONE_SECONDS", "599"),
        ("HOST_GONE_SECONDS", "604801"),
        ("STOP_GRACE_SECONDS", "-1"),
        ("DISPATCH_BATCH_SIZE", "0"),
        ("DISPATCH_BATCH_SIZE", "5001"),
        ("DISPATCH_LOCK_TTL", "9999"),
        ("DISPATCH_LOCK_TTL", "86400001"),
        ("DEFAULT_INTERVAL_MINUTES", "0"),
        ("DEFAULT_INTERVAL_MINUTES", "1441"),
        ("WORKER_CONCURRENCY", "0"),
        ("WORKER_CONCURRENCY", "65"),
        ("WORKER_CONCURRENCY", "two"),
        ("DATABASE_URL", "postgres://x/y"),
        ("DATABASE_URL", "mysql://u:p@h:99999/x"),
        ("DATABASE_URL", "mysql://[::1/x"),
        ("REDIS_URL", "http://x"),
        ("REDIS_URL", "redis://h:port"),
        ("HTTP_BIND", "8025"),
        ("HTTP_BIND", "localhost:"),
        ("HTTP_BIND", "localhost:0"),
        ("HTTP_BIND", "localhost:65536"),
        ("HTTP_BIND", "localhost:²"),
    ],
)
def test_a_bad_value_is_refused_with_the_name_and_what_is_allowed(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(SettingError) as refused:
        read_settings({name: value}, root=tmp_path)
    assert refused.value.exit_code == 2
    assert name in str(refused.value)
    assert "is not allowed" in str(refused.value)


def test_a_host_counts_as_gone_only_after_several_leases(tmp_path: Path) -> None:
    assert read_settings({}, root=tmp_path).host_gone_seconds == 3600
    assert read_settings({"LEASE_SECONDS": "1800"}, root=tmp_path).host_gone_seconds == 7200
    assert read_settings({"HOST_GONE_SECONDS": "600"}, root=tmp_path).host_gone_seconds == 600
    with pytest.raises(SettingError, match="at least 4 times LEASE_SECONDS"):
        read_settings({"HOST_GONE_SECONDS": "3600", "LEASE_SECONDS": "1800"}, root=tmp_path)


def test_a_dotenv_that_is_no_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"ALERT_MAIL=gr\xfcn@x.test\n")
    with pytest.raises(SettingError, match="UTF-8") as refused:
        read_settings({}, root=tmp_path)
    assert str(tmp_path / ".env") in str(refused.value)
    assert [error.name for error in setting_problems({}, root=tmp_path)] == [".env"]


@pytest.mark.parametrize("closed", ["home", "home/.env"])
def test_a_home_of_somebody_else_is_named(tmp_path: Path, closed: str) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can be somebody else")
    root = Path(tempfile.mkdtemp(dir="/tmp"))  # What pytest gives is closed to others from far above.
    root.chmod(0o755)
    (root / "home").mkdir()
    (root / "home" / ".env").write_text("LEASE_SECONDS=11\n")
    (root / closed).chmod(0o600)
    os.seteuid(65534)
    try:
        with pytest.raises(SettingError, match="Permission denied") as refused:
            read_settings({"MAILCREW_HOME": str(root / "home")}, root=root)
    finally:
        os.seteuid(0)
        shutil.rmtree(root)
    assert str(root / "home" / ".env") in str(refused.value)


@pytest.mark.parametrize("name", ["MAILCREW_HOME", "QUEUES_FILE"])
def test_a_home_of_nobody_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingError, match=f"{name}='~nobodyhere/x' is not allowed: its ~ names nobody"):
        read_settings({name: "~nobodyhere/x"}, root=tmp_path)


def test_a_refused_url_does_not_show_its_password(tmp_path: Path) -> None:
    with pytest.raises(SettingError) as refused:
        read_settings({"DATABASE_URL": "postgres://user:hush@h/x"}, root=tmp_path)
    assert "hush" not in str(refused.value)


def test_two_homes_do_not_meet(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    one, two = (read_settings({"MAILCREW_HOME": str(long / name)}, root=tmp_path) for name in "ab")
    assert one.sockets != two.sockets
    for found in (one, two):
        assert len(os.fsencode(found.sockets)) <= LONGEST_SOCKET_DIR
    assert one.sockets == read_settings({"MAILCREW_HOME": str(long / "a")}, root=tmp_path).sockets


def test_secrets_and_journals_are_for_their_owner_only(tmp_path: Path) -> None:
    found = read_settings({"MAILCREW_HOME": str(tmp_path / "home")}, root=tmp_path)
    make_home(found)
    make_home(found)
    for path in (found.state, found.journals):
        assert path.stat().st_mode & 0o777 == 0o700


def test_a_home_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SettingError, match="MAILCREW_HOME"):
            make_home(read_settings({"MAILCREW_HOME": str(home)}, root=tmp_path))


def test_a_short_socket_directory_of_someone_else_is_refused(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a directory away")
    found = read_settings({"MAILCREW_HOME": str(tmp_path / ("y" * 100))}, root=tmp_path)
    found.sockets.mkdir(mode=0o777)
    os.chown(found.sockets, 65534, 65534)
    try:
        with pytest.raises(SettingError, match="someone else"):
            make_home(found)
    finally:
        found.sockets.rmdir()


def test_a_short_socket_directory_that_others_can_write_is_closed_or_refused(tmp_path: Path) -> None:
    found = read_settings({"MAILCREW_HOME": str(tmp_path / ("z" * 100))}, root=tmp_path)
    found.sockets.mkdir()
    found.sockets.chmod(0o777)
    try:
        make_home(found)
    except SettingError:
        return
    finally:
        mode = found.sockets.stat().st_mode & 0o777
        found.sockets.rmdir()
    assert mode == 0o700


def test_every_setting_says_what_it_is_for() -> None:
    assert len({setting.name for setting in TABLE}) == len(TABLE)
    for setting in TABLE:
        assert re.fullmatch(r"[A-Z_]+", setting.name)
        assert len(setting.meaning) > 10
        setting.parse(setting.default)


def test_a_relative_database_is_the_same_file_from_every_directory(tmp_path: Path) -> None:
    found = read_settings({"DATABASE_URL": "sqlite:///data/mail.db"}, root=tmp_path)
    assert found.database_url == f"sqlite:///{tmp_path}/data/mail.db"


def test_a_home_with_a_percent_sign_keeps_its_database_inside(tmp_path: Path) -> None:
    home = tmp_path / "100%41 home"
    home.mkdir()
    found = read_settings({"MAILCREW_HOME": str(home)}, root=tmp_path)
    db = connect(found.database_url)
    migrate(db)
    db.close()
    assert (home / "mailcrew.db").is_file()
