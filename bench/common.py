"""What the benchmarks share: private services, people by the hundred thousand, a campaign, a worker."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pymysql

from app.campaigns.expand_task import expand_campaign
from app.campaigns.lifecycle import Draft, create_campaign, schedule_campaign, start_due
from app.config import ROOT, TABLE, Settings, make_home, read_settings
from app.db import Db, connect, migrate
from app.mail.servers import add_server
from app.models import tables
from bench.compose import HTML, SUBJECT, TEXT
from tests.services import private_mariadb, private_redis

SBIN = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin", "/usr/local/sbin"))


# -- the command line ----------------------------------------------------------------------------


def make_parser(name: str, description: str, example: str, rounds: int) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(
        prog=f"python -m bench.{name}",
        description=description,
        epilog=f"example: .venv/bin/python -m bench.{name} {example}",
    )
    parser.add_argument("--database", choices=("sqlite", "mysql", "both"), default="both", help="default: both")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"repetitions, taking turns (default {rounds})")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    return parser


def databases(chosen: str) -> list[str]:
    return ["sqlite", "mysql"] if chosen == "both" else [chosen]


def tell(text: str) -> None:
    """Progress, on stderr: stdout is for the result."""
    print(text, file=sys.stderr, flush=True)


def program(name: str) -> str:
    """The path of a program; ends the benchmark with a clear message when it is missing."""
    found = shutil.which(name, path=SBIN)
    if not found:
        package = {"mariadbd": "mariadb-server", "redis-server": "redis-server"}.get(name, "postfix")
        sys.exit(f"{name} is not installed (Debian: package {package}); this benchmark needs it")
    return found


# -- services ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A home of its own with its database and Redis, gone when the benchmark ends."""

    directory: Path
    database: str
    settings: Settings
    db: Db
    environ: dict[str, str]


@contextmanager
def place(database: str, **variables: str) -> Iterator[Place]:
    """Start what a worker needs; `variables` are settings that differ from their defaults."""
    program("redis-server")
    # Ended from outside, a benchmark still ends what it started.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mailcrew-bench-")))
        said = {"MAILCREW_HOME": str(directory / "home"), "DATABASE_URL": "", **variables}
        said["REDIS_URL"] = stack.enter_context(private_redis(directory))
        if database == "mysql":
            program("mariadbd")
            said["DATABASE_URL"] = _mysql(stack, directory)
        settings = read_settings(said, directory)
        make_home(settings)
        db = connect(settings.database_url)
        migrate(db)
        tables.bind(db)
        ours = {setting.name for setting in TABLE}
        environ = {key: value for key, value in os.environ.items() if key not in ours}
        stack.callback(db.close)
        yield Place(directory, database, settings, db, {**environ, **said, "PYTHONPATH": str(ROOT)})


def _mysql(stack: ExitStack, directory: Path) -> str:
    (directory / "mariadb").mkdir()
    url = stack.enter_context(private_mariadb(directory / "mariadb")).format(name="bench")
    connection = pymysql.connect(unix_socket=str(directory / "mariadb" / "mysql.sock"), user="root")
    connection.cursor().execute("CREATE DATABASE bench")
    connection.close()
    return url


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: Sequence[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with the block: politely, then not."""
    process = subprocess.Popen(list(command), **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def smtp_sink() -> Iterator[int]:
    """Postfix's `smtp-sink`, which takes every mail and forgets it; yields its port."""
    port = free_port()
    user = ["-u", "nobody"] if os.getuid() == 0 else []
    with running([program("smtp-sink"), *user, f"127.0.0.1:{port}", "1000"]):
        wait_for_port(port)
        yield port


def wait_for_port(port: int) -> None:
    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait(answers, 20, f"nothing listens on port {port}")


def wait(done: Callable[[], object], seconds: float, otherwise: str, pause: float = 0.05) -> None:
    """Wait until `done()` is true; raises TimeoutError saying `otherwise`."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(pause)


@contextmanager
def worker(
    place: Place, *, threads: int, name: str = "bench", queue: str = "send"
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process as supervisord would start it."""
    command = [sys.executable, str(ROOT / "bin" / "worker"), "--queues", queue, "--name", name]
    with (place.directory / f"{name}.log").open("ab") as log:
        options = {"env": place.environ, "cwd": ROOT, "stdout": log, "stderr": log}
        with running([*command, "--threads", str(threads)], **options) as process:
            yield process


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- people and campaigns ------------------------------------------------------------------------


def numbers(count: int) -> str:
    """A SELECT of the whole numbers 1 … count as column `n`, made inside the database."""
    digit = "(SELECT 0 AS d" + "".join(f" UNION ALL SELECT {i}" for i in range(1, 10)) + ")"
    places = len(str(count))
    value = " + ".join(f"d{i}.d * {10**i}" for i in range(places))
    tens = " CROSS JOIN ".join(f"{digit} d{i}" for i in range(places))
    return f"SELECT n FROM (SELECT {value} AS n FROM {tens}) AS counted WHERE n BETWEEN 1 AND {count}"


def add_people(db: Db, count: int) -> None:
    """Subscribers 1 … count of an empty database, with the fields that the mail of bench.compose uses."""
    head, tail = '{"city": "Zürich", "team": "hall & stage", "seat": "A', '"}'
    email = _concat(db, "person", "n", "@example.org")
    name = _concat(db, "Ada Lövelace ", "n")
    attributes = _concat(db, head, "n % 97", '", "code": "', "n * 7919", tail)
    with db.transaction():
        db.run(
            "INSERT INTO subscribers (id, email, email_key, name, attributes, status, created_at, updated_at) "
            f"SELECT n, {email}, {email}, {name}, {attributes}, 'active', 1, 1 FROM ({numbers(count)}) AS given"
        )


def _concat(db: Db, *parts: str) -> str:
    """SQL that joins texts and terms in `n`."""
    pieces = [part if part[:2] in ("n", "n ") else f"'{part}'" for part in parts]
    return f"CONCAT({', '.join(pieces)})" if db.dialect == "mysql" else " || ".join(f"({p})" for p in pieces)


def add_list(db: Db, name: str, first: int, count: int, of: int) -> int:
    """A list of `count` subscribers from `first` on, beginning again with 1 behind the last `of` all; its id."""
    list_id = db.insert("INSERT INTO lists (name, created_at) VALUES (?, 1)", name)
    add_members(db, list_id, first, count, of)
    return list_id


def add_members(db: Db, list_id: int, first: int, count: int, of: int, step: int = 1) -> None:
    """Put `count` subscribers on a list, every `step`-th from `first` on, beginning again with 1 behind `of`."""
    with db.transaction():
        db.run(
            "INSERT INTO memberships (list_id, subscriber_id, status, created_at, updated_at) "
            f"SELECT {list_id}, ((n - 1) * {step} + {first - 1}) % {of} + 1, 'active', 1, 1 "
            f"FROM ({numbers(count)}) AS given"
        )


def add_sink_server(db: Db, port: int) -> int:
    return add_server(name="sink", host="127.0.0.1", port=port, tls="none", now=db.now_ms())


def start_campaign(db: Db, lists: Sequence[str], name: str = "bench") -> int:
    """A campaign with the mail of bench.compose, begun and not yet expanded; its id."""
    now = db.now_ms()
    draft = Draft(name=name, subject=SUBJECT, sender="Hall <hall@example.org>", lists=lists, html=HTML, text=TEXT)
    campaign_id = create_campaign(db, draft, now)
    schedule_campaign(db, campaign_id, now, now)
    start_due(db, now)
    return campaign_id


def expand(place: Place, campaign_id: int) -> None:
    expand_campaign(place.db, place.settings, campaign_id, threading.Event(), lambda: None)


def is_sent(db: Db, campaign_id: int) -> bool:
    return bool(db.value("SELECT status FROM campaigns WHERE id = ?", campaign_id) == "sent")


def sending_rate(db: Db, campaign_id: int, mails: int) -> float:
    """Mails a second of an ended campaign, from its first mail's answer to the commit of its last batch."""
    sent = int(db.value("SELECT SUM(sent) FROM batches WHERE campaign_id = ?", campaign_id))
    assert sent == mails, f"{sent} of {mails} mails were sent"
    first = db.value("SELECT MIN(tried_at) FROM recipients WHERE campaign_id = ?", campaign_id)
    last = db.value("SELECT MAX(finished_at) FROM batches WHERE campaign_id = ?", campaign_id)
    # The time begins when the first mail is through, so that one is not counted.
    return float((mails - 1) * 1000 / (last - first))
