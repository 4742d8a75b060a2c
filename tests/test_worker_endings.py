"""How a worker ends when its server is slow, its parent dead, or everything around it gone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.config import ROOT, Settings, make_home, read_settings
from app.db import Db, connect, migrate
from app.models import tables
from app.workers.main import MODULES
from tests.services import need, private_mariadb
from tests.smtp_faults import Event, Fault
from tests.smtp_server import SmtpServer
from tests.test_worker_process import QUICK, broker, own, scheduled, tick
from tests.working import MortalRedis, WorkerProcess, eventually

__all__ = ["broker", "own"]
#: A grace time of max(STOP_GRACE_SECONDS, --timeout + 10) seconds: as short as it can be.
SHORT = ("--timeout", "1", "--threads", "1")


class SlowServer(SmtpServer):
    """Takes `seconds` for the reply to the content of its third mail, or until told to `go_on`."""

    def __init__(self, seconds: float = 600) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()

        def plan(event: Event) -> Fault | None:
            if event.verb == "DOT" and event.count == 3:
                self.reached.set()
                self.go_on.wait(seconds)
            return None

        super().__init__(plan=plan)

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        super().__exit__()


@pytest.mark.usefixtures("broker")
def test_two_terms_while_a_slow_server_is_waited_for(db: Db, own: Settings) -> None:
    server = SlowServer()
    with server:
        campaign_id = scheduled(db, server, 20)
        with WorkerProcess(own, *SHORT, **QUICK) as worker:
            tick(own)
            assert server.reached.wait(60), worker.text()
            worker.tell(signal.SIGTERM)
            worker.wait_for("Worker received shutdown signal")
            worker.tell(signal.SIGTERM)
            worker.wait_for("signal ignored: already stopping")
            server.go_on.set()
            assert worker.wait() == 0
            (received,) = worker.lines("Worker received shutdown signal")
            (ignored,) = worker.lines("signal ignored: already stopping")
            (ended,) = worker.lines("Worker gracefully shutdown")
            processed = len(worker.lines("Processed"))
        assert len(server.mails) == 3
    said = {key: received[key] for key in ("signal", "signal_number", "campaign_id", "pid", "is_processing")}
    assert said == {
        "signal": "SIGTERM", "signal_number": 15, "campaign_id": campaign_id, "pid": worker.pid, "is_processing": True,
    }  # fmt: skip
    assert received["plan"] == "will exit after current job completes"
    assert (ignored["signal"], ignored["signal_number"]) == ("SIGTERM", 15)
    said = {key: ended[key] for key in ("campaign_id", "pid", "processed_count", "reason")}
    assert said == {
        "campaign_id": campaign_id, "pid": worker.pid, "processed_count": processed, "reason": "SIGTERM",
    }  # fmt: skip


@pytest.mark.usefixtures("broker")
def test_a_stop_that_no_signal_asked_for_is_forced_too_and_names_what_is_in_hand(db: Db, own: Settings) -> None:
    server = SlowServer()
    with server:
        campaign_id = scheduled(db, server, 20)
        # Any worker is over one megabyte, and this one looks when it has its third mail in hand.
        with WorkerProcess(
            own, *SHORT, "--memory", "1", "--modules", f"{MODULES},tests.late_look", **QUICK, STOP_GRACE_SECONDS="1"
        ) as worker:
            tick(own)
            assert server.reached.wait(60), worker.text()
            worker.wait_for("memory limit reached: finishing, then a fresh start")
            assert worker.wait(60) == 1
            (forced,) = worker.lines("Worker forced to exit: what is in hand did not end in time")
    assert (forced["reason"], forced["campaign_id"]) == ("memory limit", campaign_id)
    (task,) = forced["in_hand"]
    assert (task["queue"], task["actor"]) == ("send", "send")
    assert task["id"]
    assert task["seconds"] >= 11


@pytest.fixture(params=["sqlite", "mysql"])
def doomed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Db, Settings, MortalRedis, Path]]:
    """A home whose Redis and database may be killed; the last is the directory of the database."""
    directory = Path(tempfile.mkdtemp(prefix="mc-"))
    with MortalRedis(directory) as redis_server:
        if request.param == "sqlite":
            yield from _home(tmp_path, redis_server, f"sqlite:///{tmp_path / 'own' / 'test.db'}", tmp_path / "own")
        else:
            need("mariadbd")
            (directory / "m").mkdir()
            with private_mariadb(directory / "m") as url:
                root = connect(url.format(name="mysql"))
                root.run("CREATE DATABASE doomed CHARACTER SET utf8mb4")
                root.close()
                yield from _home(tmp_path, redis_server, url.format(name="doomed"), directory / "m")
    shutil.rmtree(directory, ignore_errors=True)


def _home(
    tmp_path: Path, redis_server: MortalRedis, url: str, where: Path
) -> Iterator[tuple[Db, Settings, MortalRedis, Path]]:
    where.mkdir(exist_ok=True)
    made = read_settings(
        {"MAILCREW_HOME": str(tmp_path / "home"), "REDIS_URL": redis_server.url, "DATABASE_URL": url}, root=tmp_path
    )
    make_home(made)
    db = connect(url)
    migrate(db)
    tables.bind(db)
    yield db, made, redis_server, where


def _kill_database(db: Db, where: Path) -> None:
    pid = where / "pid"
    if pid.exists():
        os.kill(int(pid.read_text()), signal.SIGKILL)
    else:
        # SQLite has no process: its files go, and in their place is what cannot be opened.
        gone = where.rename(where.with_name("gone"))
        shutil.rmtree(gone, ignore_errors=True)
    db.close()


def test_a_worker_alone_in_the_world_ends_within_its_grace_time(
    doomed: tuple[Db, Settings, MortalRedis, Path],
) -> None:
    db, settings, redis_server, where = doomed
    err, out = settings.logs / "orphan.err", settings.logs / "orphan.out"
    # As under supervisord: output goes through pipes that end with the parent.
    program = (
        "import subprocess, sys, threading\n"
        "p = subprocess.Popen(sys.argv[3:], stdout=subprocess.PIPE, stderr=subprocess.PIPE)\n"
        "def copy(pipe, path):\n"
        "    with open(path, 'wb', buffering=0) as file:\n"
        "        while data := pipe.read1(): file.write(data)\n"
        "threading.Thread(target=copy, args=(p.stdout, sys.argv[1])).start()\n"
        "threading.Thread(target=copy, args=(p.stderr, sys.argv[2])).start()\n"
        "print(p.pid, flush=True)\n"
    )
    command = [str(ROOT / "bin" / "worker"), "--queues", "expand,send,periodic", "--name", "orphan", *SHORT]
    environment = {
        **os.environ, "MAILCREW_HOME": str(settings.home), "REDIS_URL": settings.redis_url,
        "DATABASE_URL": settings.database_url, "STOP_GRACE_SECONDS": "1", **QUICK,
    }  # fmt: skip
    server = SlowServer()
    with server:
        scheduled(db, server, 20)
        parent = subprocess.Popen(
            ["python3", "-c", program, str(out), str(err), *command], stdout=subprocess.PIPE, env=environment
        )
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.stdout.close()
        try:
            eventually(lambda: out.exists() and "Signal handlers registered" in out.read_text(), "the worker is up")
            tick(replace(settings))
            assert server.reached.wait(60), out.read_text() + err.read_text()
            parent.kill()
            redis_server.kill()
            _kill_database(db, where)
            parent.wait()
            # 2 s until it notices, 11 s of grace; the rest is for a busy machine.
            eventually(lambda: not _runs(pid), "it has ended by itself")
        finally:
            if _runs(pid):
                os.kill(pid, signal.SIGKILL)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False
