"""`bin/supervisor-manager backup` and `restore` on real homes, with archives of every bad kind."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import sqlite3
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.errors import Refused
from app.scaling import archive
from app.scaling.files import mark_stopped
from app.scaling.scale import set_override
from app.scaling.table import parse_table
from tests.home_stack import HomeStack, home_stack
from tests.services import need
from tests.supervised import REDIS, queue
from tests.working import eventually

TABLE = REDIS + queue("send", 2) + queue("mail", 0)


@pytest.fixture
def stack(short_directory: Path) -> Iterator[HomeStack]:
    need("redis-server")
    with home_stack(short_directory, TABLE) as made:
        yield made


def table(stack: HomeStack) -> Path:
    return stack.home / "queues.toml"


def write(stack: HomeStack) -> Path:
    """A backup by the command; its path."""
    return Path(stack.run("supervisor-manager", "backup").partition(": ")[0])


def everything(home: Path) -> dict[str, bytes]:
    """Every file of the home but the backups themselves and the lock."""
    return {
        str(path.relative_to(home)): path.read_bytes()
        for path in sorted(home.rglob("*"))
        if path.is_file() and "backups" not in path.parts and path.suffix not in (".lock", ".log")
    }


def test_a_backup_holds_the_configuration_and_only_its_owner_may_read_it(stack: HomeStack) -> None:
    stack.run("supervisor-manager", "render")
    (stack.home / ".env").write_text("LEASE_SECONDS=40\n")
    (stack.settings.state / "secret_key").write_text("hush")
    (stack.settings.journals / "a~b~1~2.journal").write_text("never in a backup")
    mark_stopped(stack.settings, "send")
    set_override(stack.settings, parse_table(TABLE), "send", 1, 3)

    path = write(stack)

    assert path.parent == stack.settings.state / "backups"
    assert re.fullmatch(r"mailcrew-\d{8}T\d{6}Z\.tar\.gz", path.name)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    found = archive.read(path)
    assert set(found.files) >= {
        "table.toml", "home/.env", "home/supervisord.conf", "home/redis.conf", "home/conf.d/send.conf",
        "home/state/stopped/send", "home/state/scale/send.json", "home/state/secret_key",
        "root/supervisor/queues.toml", "root/supervisor/program.conf.template",
    }  # fmt: skip
    assert found.files["table.toml"].data.decode() == TABLE
    assert [name for name in found.files if "journal" in name] == []


def test_restore_brings_back_what_the_newest_archive_holds_and_can_be_undone(stack: HomeStack) -> None:
    (stack.home / ".env").write_text("LEASE_SECONDS=40\n")
    (stack.home / ".env").chmod(0o600)
    mark_stopped(stack.settings, "mail")
    stack.run("supervisor-manager", "render")
    write(stack)
    before = everything(stack.home)
    table(stack).write_text(REDIS + queue("send", 5))
    (stack.home / ".env").unlink()
    (stack.settings.state / "stopped" / "mail").unlink()
    mark_stopped(stack.settings, "send")
    stack.run("supervisor-manager", "render")
    after = everything(stack.home)
    assert after.keys() != before.keys()

    said = stack.run("supervisor-manager", "restore")

    assert everything(stack.home) == before
    assert stat.S_IMODE((stack.home / ".env").stat().st_mode) == 0o600
    assert f"written: {table(stack)}" in said
    assert f"removed: {stack.settings.state}/stopped/send" in said
    assert "next: bin/supervisor-manager update" in said
    undo = re.search(r"^what was there before: (.*)$", said, re.MULTILINE)
    assert undo
    assert "nothing to change" in stack.run("supervisor-manager", "restore"), "the undo is not the newest backup"
    stack.run("supervisor-manager", "restore", undo[1])
    assert everything(stack.home) == after


def test_a_restore_touches_nothing_that_runs_and_update_applies_it(stack: HomeStack) -> None:
    table(stack).write_text(REDIS + queue("periodic"))
    stack.run("supervisor-manager", "start")
    kept = write(stack)
    table(stack).write_text(REDIS + queue("periodic") + queue("expand"))
    stack.run("supervisor-manager", "update")
    eventually(lambda: set(stack.pids()) == {"periodic", "expand", "redis"}, "all three run")
    running = stack.pids()

    stack.run("supervisor-manager", "restore", str(kept))

    assert stack.pids() == running
    stack.run("supervisor-manager", "update")
    assert stack.pids() == {name: pid for name, pid in running.items() if name != "expand"}


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("table", "processes = 'many' is not allowed"),
        ("env", "LEASE_SECONDS='soon' is not allowed"),
        ("template", "is not a known placeholder"),
        ("supervisord", "supervisord does not accept it"),
    ],
)
def test_what_does_not_load_is_refused_and_all_is_as_it_was(stack: HomeStack, what: str, reason: str) -> None:
    stack.run("supervisor-manager", "render")
    good = archive.read(write(stack))
    files = dict(good.files)
    name, old, new = {
        "table": ("table.toml", b"processes = 2", b'processes = "many"'),
        "env": ("home/.env", b"", b"LEASE_SECONDS=soon\n"),
        "template": ("root/supervisor/program.conf.template", b"numprocs=$numprocs", b"numprocs=$lots"),
        "supervisord": ("root/supervisor/program.conf.template", b"stopsignal=TERM", b"stopsignal=PLEASE"),
    }[what]
    data = files[name].data if name in files else b""
    files[name] = archive.Member(data.replace(old, new) or new, 0o600)
    bad = stack.home.parent / "bad.tar.gz"
    archive.write(bad, files, {})
    before = everything(stack.home)

    said = stack.run("supervisor-manager", "restore", str(bad), code=1)

    assert reason in said
    assert f"{bad} is refused, and nothing was changed" in said
    assert everything(stack.home) == before


def member(name: str, data: bytes = b"", **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in more.items():
        setattr(info, field, value)
    return info, data


def tar_gz(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path


def manifest(**files: bytes) -> tuple[tarfile.TarInfo, bytes]:
    """A manifest as ours are; file names with two underscores for a slash."""
    listed = {
        name.replace("__", "/"): {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "mode": "0600"}
        for name, data in files.items()
    }
    text = json.dumps({"format": "mailcrew-backup", "version": 1, "files": listed})
    return member("manifest.json", text.encode())


def filled(data: bytes, path: Path) -> Path:
    path.write_bytes(data)
    return path


def cut_short(path: Path) -> Path:
    tar_gz(path, manifest(), member("table.toml", os.urandom(100_000)))
    path.write_bytes(path.read_bytes()[:50_000])
    return path


def flipped(path: Path) -> Path:
    tar_gz(path, manifest(), member("table.toml", b"a" * 100_000))
    data = bytearray(path.read_bytes())
    data[-6] ^= 0xFF
    path.write_bytes(data)
    return path


def bomb(path: Path) -> Path:
    """200 GB of zeros as one member's header says, some 200 MB of them real: 200 KB on disk."""
    info = tarfile.TarInfo("table.toml")
    info.size = 200 * 1024**3
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(info.tobuf())
        for _ in range(200):
            file.write(bytes(1024 * 1024))
    return path


def header_bomb(path: Path) -> Path:
    """A long-name header of 10 GB, which a careless reader takes into memory before anybody looks at it."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 10 * 1024**3
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(200):
            file.write(b"a" * 1024 * 1024)
    return path


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "cut short": (cut_short, "it is cut short|not a whole tar.gz"),
    "a flipped bit": (flipped, "not a whole tar.gz"),
    "a bomb": (bomb, "at most 8,388,608 are allowed"),
    "a bomb of headers": (header_bomb, "unpacks to more than 64 MB"),
    "no archive": (partial(filled, b"hello"), "not a whole tar.gz"),
    "empty": (partial(filled, b""), "it is cut short|not a whole tar.gz|no manifest.json"),
    "not ours": (lambda path: tar_gz(path, member("table.toml", b"x")), "it has no manifest.json"),
    "no JSON": (lambda path: tar_gz(path, member("manifest.json", b"{")), "manifest.json is not one of ours"),
    "a list": (lambda path: tar_gz(path, member("manifest.json", b"[]")), "manifest.json is not one of ours"),
    "of another program": (
        lambda path: tar_gz(path, member("manifest.json", b'{"format": "x", "version": 1, "files": {}}')),
        "manifest.json is not one of ours",
    ),
    "from the future": (
        lambda path: tar_gz(path, member("manifest.json", b'{"format": "mailcrew-backup", "version": 2, "files": {}}')),
        "it is of version 2",
    ),
    "traversal": (lambda path: tar_gz(path, manifest(), member("../../etc/passwd", b"x")), "no name that a backup has"),
    "traversal inside": (
        lambda path: tar_gz(path, manifest(), member("home/conf.d/../../x.conf", b"x")),
        "no name that a backup has",
    ),
    "absolute": (lambda path: tar_gz(path, manifest(), member("/etc/cron.d/x", b"x")), "no name that a backup has"),
    "a symlink": (
        lambda path: tar_gz(path, manifest(), member("home/.env", type=tarfile.SYMTYPE, linkname="/etc/shadow")),
        "is no plain file",
    ),
    "a hard link": (
        lambda path: tar_gz(path, manifest(), member("home/.env", type=tarfile.LNKTYPE, linkname="/etc/shadow")),
        "is no plain file",
    ),
    "a device": (lambda path: tar_gz(path, manifest(), member("home/.env", type=tarfile.CHRTYPE)), "is no plain file"),
    "a wrong checksum": (
        lambda path: tar_gz(path, manifest(**{"table.toml": b"good"}), member("table.toml", b"evil")),
        "the checksum of 'table.toml' is wrong",
    ),
    "one too few": (lambda path: tar_gz(path, manifest(**{"table.toml": b"x"})), "'table.toml' is listed in its manif"),
    "one too many": (lambda path: tar_gz(path, manifest(), member("table.toml", b"x")), "is not listed in its manif"),
    "one twice": (
        lambda path: tar_gz(
            path, manifest(**{"table.toml": b"x"}), member("table.toml", b"x"), member("table.toml", b"x")
        ),
        "is in it twice",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_archive_is_refused_with_the_reason(kind: str, tmp_path: Path) -> None:
    make, reason = BAD[kind]
    path = make(tmp_path / "bad.tar.gz")
    with pytest.raises(Refused, match=reason) as refused:
        archive.read(path)
    assert str(refused.value).startswith(f"{path} is refused: ")


@pytest.mark.parametrize("kind", ["a bomb", "traversal", "a symlink", "cut short"])
def test_a_bad_archive_changes_nothing(kind: str, stack: HomeStack, tmp_path: Path) -> None:
    stack.run("supervisor-manager", "render")
    before = everything(stack.home)
    bad = BAD[kind][0](tmp_path / "bad.tar.gz")

    assert "is refused" in stack.run("supervisor-manager", "restore", str(bad), code=1)

    assert everything(stack.home) == before


def test_a_restore_that_fails_half_way_puts_back_what_it_had_replaced(stack: HomeStack) -> None:
    mark_stopped(stack.settings, "mail")
    stack.run("supervisor-manager", "render")
    write(stack)
    table(stack).write_text(REDIS + queue("send", 5))
    mark = stack.settings.state / "stopped" / "mail"
    mark.unlink()
    # A directory cannot be replaced by a file, and the table comes before the marks.
    (mark / "inside").mkdir(parents=True)
    before = everything(stack.home)

    said = stack.run("supervisor-manager", "restore", code=1)

    assert f"{mark} could not be written (Is a directory); everything is as it was" in said
    assert everything(stack.home) == before


def test_what_is_no_file_or_not_there_is_said(stack: HomeStack, tmp_path: Path) -> None:
    assert "there is no backup in" in stack.run("supervisor-manager", "restore", code=1)
    assert "No such file" in stack.run("supervisor-manager", "restore", str(tmp_path / "none"), code=1)
    os.mkfifo(tmp_path / "fifo")
    assert "is not a file" in stack.run("supervisor-manager", "restore", str(tmp_path / "fifo"), code=1)
    assert "Is a directory" in stack.run("supervisor-manager", "restore", str(tmp_path), code=1)


def test_two_backups_in_one_second_are_two_archives(stack: HomeStack, tmp_path: Path) -> None:
    for _ in range(3):
        stack.run("supervisor-manager", "backup", "--to", str(tmp_path / "elsewhere"))
    assert len(list((tmp_path / "elsewhere").glob("*.tar.gz"))) == 3


def test_the_database_is_copied_whole_while_somebody_writes(stack: HomeStack, tmp_path: Path) -> None:
    stack.run("mailcrew", "db", "migrate")
    people = tmp_path / "people.csv"
    people.write_text("email\n" + "".join(f"p{n}@example.com\n" for n in range(200)))
    stack.run("mailcrew", "lists", "import", str(people), "--list", "all")
    with closing(sqlite3.connect(stack.home / "mailcrew.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM memberships")
        said = stack.run("supervisor-manager", "backup", "--database", "--to", str(tmp_path / "there"))
        writer.execute("ROLLBACK")

    copy = Path(said.splitlines()[1].partition(": ")[0])
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with closing(sqlite3.connect(copy)) as database:
        assert database.execute("SELECT COUNT(*) FROM memberships").fetchone() == (200,)


def test_mysql_is_left_to_its_own_tool(short_directory: Path, mariadb: str) -> None:
    need("redis-server")
    with home_stack(short_directory, TABLE, DATABASE_URL=mariadb.format(name="mysql")) as stack:
        said = stack.run("supervisor-manager", "backup", "--database", code=1)
    assert "mysqldump --single-transaction" in said
