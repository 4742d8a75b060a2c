"""`bin/worker` as supervisord runs it: a whole campaign, every way to stop it, and every way to kill it."""

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

import dramatiq
import pytest
from dramatiq.brokers.redis import RedisBroker

from app.campaigns.lifecycle import schedule_campaign
from app.config import ROOT, Settings, make_home, read_settings
from app.db import Db, connect, migrate
from app.models import tables
from app.models.tables import Batch, Campaign
from app.queues.broker import make_broker
from app.queues.tickets import enqueue
from tests.sending import NOW, add_list, add_people, add_test_server, draft
from tests.smtp_faults import Event, Fault, delayed
from tests.smtp_server import SmtpServer
from tests.working import MortalRedis, WorkerProcess, eventually


@pytest.fixture
def own(settings: Settings) -> Settings:
    """Settings with a Redis database of this test's own."""
    return replace(settings, redis_url=f"{settings.redis_url}?db=10")


@pytest.fixture
def broker(own: Settings) -> Iterator[RedisBroker]:
    before = dramatiq.broker.global_broker
    broker = make_broker(own.redis_url)
    broker.client.flushdb()
    yield broker
    broker.client.flushdb()
    broker.client.close()
    dramatiq.broker.global_broker = before


@pytest.fixture
def lite(tmp_path: Path, redis_server: str) -> Iterator[tuple[Db, Settings]]:
    """A home on SQLite, for what has nothing to do with the kind of database."""
    made = read_settings({"MAILCREW_HOME": str(tmp_path / "home"), "REDIS_URL": f"{redis_server}?db=11"}, root=tmp_path)
    make_home(made)
    db = connect(made.database_url)
    migrate(db)
    tables.bind(db)
    broker = make_broker(made.redis_url)
    broker.client.flushdb()
    yield db, made
    broker.client.flushdb()
    broker.client.close()
    db.close()


QUICK = {"LEASE_SECONDS": "5", "SEND_BATCH_SIZE": "20"}


def scheduled(db: Db, server: SmtpServer, people: int) -> int:
    """A campaign whose time has come."""
    add_list(db, "all", add_people(db, people))
    add_test_server(server)
    campaign_id = draft(db, ["all"])
    schedule_campaign(db, campaign_id, NOW, NOW)
    return campaign_id


def tick(settings: Settings) -> None:
    """What the scheduler puts into the queue every minute."""
    broker = make_broker(settings.redis_url)
    enqueue(broker, "periodic", "start_campaigns")
    broker.client.close()


def status(campaign_id: int) -> str:
    return str(Campaign.get_by_id(campaign_id).status)


def states(db: Db) -> dict[str, int]:
    return {str(s): int(n) for s, n in db.rows("SELECT state, COUNT(*) FROM recipients GROUP BY state")}


def test_a_tick_starts_a_campaign_and_the_worker_sends_it_to_everyone_once(
    db: Db, own: Settings, broker: RedisBroker
) -> None:
    with SmtpServer() as server, WorkerProcess(own, "--threads", "3", **QUICK) as worker:
        campaign_id = scheduled(db, server, 250)
        tick(own)
        eventually(lambda: status(campaign_id) == "sent", "the campaign is sent")
        worker.tell(signal.SIGTERM)
        assert worker.wait() == 0
    assert len(server.counts()) == 250
    assert set(server.counts().values()) == {1}
    assert server.violations == []
    assert states(db) == {"sent": 250}
    assert list(own.journals.iterdir()) == [], "a worker that ended well leaves no journal"
    assert broker.client.hgetall("mailcrew:workers") == {}, "nor a heartbeat"


def test_an_idle_worker_stops_by_itself_and_tells_so(lite: tuple[Db, Settings]) -> None:
    with WorkerProcess(lite[1], name="send_07") as worker:
        registered = worker.wait_for("Signal handlers registered (SIGTERM, SIGINT, SIGQUIT)")
        assert registered["program"] == "send_07"
        eventually(lambda: make_broker(lite[1].redis_url).client.hlen("mailcrew:workers"), "it is at work")
        worker.tell(signal.SIGTERM)
        assert worker.wait() == 0
        received = worker.wait_for("Worker received shutdown signal")
        assert received["signal"] == "SIGTERM"
        assert received["signal_number"] == 15
        assert received["is_processing"] is False
        assert received["pid"] == worker.pid
        assert worker.lines("Worker gracefully shutdown")[0]["program"] == "send_07"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_ends_the_mail_in_hand_and_no_other_and_a_second_one_is_ignored(
    lite: tuple[Db, Settings], number: signal.Signals
) -> None:
    db, settings = lite
    reached, go_on = threading.Event(), threading.Event()

    def plan(event: Event) -> None:
        if event.verb == "DOT" and event.count == 3:
            reached.set()
            go_on.wait(100)

    with SmtpServer(plan=plan) as server:
        campaign_id = scheduled(db, server, 50)
        with WorkerProcess(settings, "--threads", "1", **QUICK) as worker:
            tick(settings)
            assert reached.wait(60), worker.text()
            worker.tell(number)
            assert worker.wait_for("Worker received shutdown signal")["is_processing"] is True
            worker.tell(number)
            assert worker.wait_for("signal ignored: already stopping")["signal"] == number.name
            go_on.set()
            assert worker.wait() == 0
            assert worker.lines("Worker gracefully shutdown")
        assert len(server.mails) == 3
        assert states(db) == {"sent": 3, "pending": 47}
        assert {batch.state for batch in Batch.select()} == {"ready"}
        with WorkerProcess(settings, **QUICK) as another:
            eventually(lambda: status(campaign_id) == "sent", "another worker finishes")
            another.tell(signal.SIGTERM)
            assert another.wait() == 0
    assert set(server.counts().values()) == {1}
    assert len(server.counts()) == 50


def test_a_campaign_survives_kill_9_without_a_double(db: Db, own: Settings, broker: RedisBroker) -> None:
    people = 100

    def plan(event: Event) -> Fault | None:
        return delayed(0.02) if event.verb == "DOT" else None

    with SmtpServer(plan=plan) as server:
        campaign_id = scheduled(db, server, people)
        with WorkerProcess(own, "--threads", "4", **QUICK) as victim:
            tick(own)
            assert server.wait_for(people // 4), victim.text()
            victim.kill()
        connections = server.connections
        server.plan = lambda _: None
        with WorkerProcess(own, "--threads", "4", name="send_01", **QUICK) as successor:
            eventually(lambda: status(campaign_id) == "sent", "the campaign is sent")
            successor.tell(signal.SIGTERM)
            assert successor.wait() == 0
    counted = states(db)
    unknown = counted.get("unknown", 0)
    assert set(server.counts().values()) == {1}, "nobody twice"
    assert counted.get("sent", 0) + unknown == people
    assert unknown <= connections
    assert len(server.counts()) >= people - unknown, "nobody forgotten"
    assert list(own.journals.iterdir()) == []


def test_a_worker_whose_redis_is_not_there_at_start_waits_for_it(lite: tuple[Db, Settings]) -> None:
    db, settings = lite
    directory = Path(tempfile.mkdtemp(prefix="mc-"))
    later = replace(settings, redis_url=f"unix://{directory / 'redis.sock'}")
    with SmtpServer() as server, WorkerProcess(later, **QUICK) as worker:
        campaign_id = scheduled(db, server, 5)
        worker.wait_for("Redis does not answer; trying again")
        assert worker.alive
        with MortalRedis(directory):
            tick(later)
            eventually(lambda: status(campaign_id) == "sent", "it works once Redis is there")
            worker.tell(signal.SIGTERM)
            assert worker.wait() == 0
    shutil.rmtree(directory)


def test_a_worker_without_redis_still_stops_politely(lite: tuple[Db, Settings]) -> None:
    dead = replace(lite[1], redis_url="unix:///nowhere/redis.sock")
    with WorkerProcess(dead) as worker:
        worker.wait_for("Redis does not answer; trying again")
        worker.tell(signal.SIGTERM)
        assert worker.wait() == 0


def test_a_worker_whose_database_is_not_there_at_start_sends_nothing_into_the_void(
    lite: tuple[Db, Settings],
) -> None:
    db, settings = lite
    away = Path(settings.database_url.removeprefix("sqlite:///"))
    with SmtpServer() as server:
        campaign_id = scheduled(db, server, 5)
        db.close()
        hidden = away.with_suffix(".away")
        away.rename(hidden)
        # A directory cannot be opened as a database, and what points to one can be replaced in one step.
        away.symlink_to(away.parent)
        with WorkerProcess(settings, **QUICK) as worker:
            eventually(lambda: not worker.alive or "database" in worker.text(), "it says what is missing")
            hidden.replace(away)
            # supervisord starts one that ended again; one that stayed must have found the database by itself.
            with WorkerProcess(settings, name="again", **QUICK) if not worker.alive else worker as present:
                tick(settings)
                eventually(lambda: status(campaign_id) == "sent", f"it is sent\n{present.text()}")


def test_a_database_without_tables_is_named_as_the_reason(lite: tuple[Db, Settings], tmp_path: Path) -> None:
    empty = replace(lite[1], database_url=f"sqlite:///{tmp_path / 'empty.db'}")
    with WorkerProcess(empty) as worker:
        eventually(
            lambda: not worker.alive or "migrate" in worker.text() or "no such table" in worker.text(),
            "it says what is missing",
        )


@pytest.mark.parametrize("arguments", [["--queues", ""], ["--threads", "0"], ["--threads", "x"], ["--sleep", "-1"]])
def test_wrong_arguments_are_refused_with_exit_code_2(lite: tuple[Db, Settings], arguments: list[str]) -> None:
    done = subprocess.run(
        [str(ROOT / "bin" / "worker"), "--queues", "send", "--name", "x", *arguments],
        capture_output=True, text=True, timeout=30, env={"MAILCREW_HOME": str(lite[1].home), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_worker_whose_parent_dies_stops_by_itself(lite: tuple[Db, Settings]) -> None:
    settings = lite[1]
    program = (
        "import os, subprocess, sys, time\n"
        f"log = open({str(settings.logs / 'orphan.err')!r}, 'w')\n"
        f"command = [{str(ROOT / 'bin' / 'worker')!r}, '--queues', 'periodic', '--name', 'o']\n"
        "p = subprocess.Popen(command, stdout=log, stderr=log)\n"
        "print(p.pid, flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "MAILCREW_HOME": str(settings.home), "REDIS_URL": settings.redis_url}
    parent = subprocess.Popen(["python3", "-c", program], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    log = settings.logs / "orphan.err"
    eventually(lambda: "Signal handlers registered" in log.read_text(), "the worker is up")
    client = make_broker(settings.redis_url).client
    eventually(lambda: client.hlen("mailcrew:workers"), "the worker is at work")
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: not Path(f"/proc/{pid}/cmdline").exists() or not _command(pid), "the orphan has ended")
    assert "parent process gone" in log.read_text(), "the reason it ended with"


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
